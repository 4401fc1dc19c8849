// Package edit changes recipes as a careful person does: it replaces the values that
// change and leaves every other byte alone, comments, quotes and layout among them.
//
//	text --Bump (a version, an Asker)--> text
//
// It knows the recipe language and where values stand in a file. It does not know how
// sources are had: an [Asker] tells their digests.
package edit

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/yamlread"
)

// splice is a part of a text that is written anew.
type splice struct {
	start, end int
	text       string
}

// apply makes all splices at once. They must not overlap.
func apply(source []byte, splices []splice) []byte {
	slices.SortFunc(splices, func(a, b splice) int { return a.start - b.start })
	var b bytes.Buffer
	at := 0
	for _, s := range splices {
		if s.start < at {
			panic("internal error: two changes of one place")
		}
		b.Write(source[at:s.start])
		b.WriteString(s.text)
		at = s.end
	}
	b.Write(source[at:])
	return b.Bytes()
}

// set replaces the text that stands at a place; its quotes stay.
func set(at yamlread.Place, value string) (splice, error) {
	start, end, ok := at.Span()
	if !ok {
		return splice{}, at.Problem("write it on one line", "%q can't be written anew here", value)
	}
	return splice{start, end, written(value, at.Quoted())}, nil
}

// bare is what means the same without quotes, whoever reads it.
var bare = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~/-]*$`)

// written is a value between the quotes that it had, or with quotes where it needs them.
func written(value string, quote byte) string {
	switch {
	case quote == '\'' && !strings.Contains(value, "\n"):
		return "'" + strings.ReplaceAll(value, "'", "''") + "'"
	case quote == 0 && bare.MatchString(value):
		return value
	}
	return strconv.Quote(value)
}

// insertAfter adds a key below another key of a mapping that is written in lines.
func insertAfter(source []byte, mapping yamlread.Place, key, name, value string) (splice, error) {
	_, end, ok := mapping.Value(key).Span()
	at := mapping.Key(key)
	lineEnd, indent := end, ""
	if ok {
		lineStart := bytes.LastIndexByte(source[:end], '\n') + 1
		before := source[lineStart:end]
		indent = string(before[:len(before)-len(bytes.TrimLeft(before, " "))])
		ok = bytes.HasPrefix(bytes.TrimLeft(before, " "), []byte(key))
		if i := bytes.IndexByte(source[end:], '\n'); i >= 0 {
			lineEnd = end + i
		} else {
			lineEnd = len(source)
		}
	}
	if !ok {
		return splice{}, at.Problem(fmt.Sprintf("write %s: %s", name, value), "there is no %q, and no line to put it below", name)
	}
	newline := "\n"
	if lineEnd > 0 && source[lineEnd-1] == '\r' {
		lineEnd, newline = lineEnd-1, "\r\n"
	}
	return splice{lineEnd, lineEnd, newline + indent + name + ": " + value}, nil
}
