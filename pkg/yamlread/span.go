package yamlread

import (
	"bytes"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Span gives the bytes of the file that the text standing here is written with, its quotes
// included, so that it can be written anew and nothing else. ok is false for what does not
// stand on one line, or not as it is: block text, lists and mappings, aliases.
func (p Place) Span() (start, end int, ok bool) {
	n := p.node
	if n == nil || n.Kind != yaml.ScalarNode || n.Line < 1 {
		return 0, 0, false
	}
	start = p.offset(n.Line, n.Column)
	if start < 0 {
		return 0, 0, false
	}
	rest := p.doc.source[start:]
	// What stands before the text: an anchor or a tag.
	for len(rest) > 0 && (rest[0] == '&' || rest[0] == '!') {
		i := bytes.IndexAny(rest, " \t\n")
		if i < 0 || rest[i] == '\n' {
			return 0, 0, false
		}
		for i < len(rest) && (rest[i] == ' ' || rest[i] == '\t') {
			i++
		}
		start, rest = start+i, rest[i:]
	}
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return 0, 0, false
	case n.Style&yaml.SingleQuotedStyle != 0:
		end = quotedEnd(rest, '\'')
	case n.Style&yaml.DoubleQuotedStyle != 0:
		end = quotedEnd(rest, '"')
	case bytes.HasPrefix(rest, []byte(n.Value)):
		end = len(n.Value)
	default:
		return 0, 0, false // plain text over several lines
	}
	if end < 0 || bytes.IndexByte(rest[:end], '\n') >= 0 {
		return 0, 0, false
	}
	return start, start + end, true
}

// quotedEnd is the length of text between quotes, these included, or -1.
func quotedEnd(text []byte, quote byte) int {
	if len(text) == 0 || text[0] != quote {
		return -1
	}
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote == '"':
			i++
		case text[i] == quote && quote == '\'' && i+1 < len(text) && text[i+1] == quote:
			i++
		case text[i] == quote:
			return i + 1
		}
	}
	return -1
}

// offset is the place in the file of a line and a column, both from 1; columns are
// counted in characters, as yaml.v3 counts them. It is -1 outside of the file.
func (p Place) offset(line, column int) int {
	source, at := p.doc.source, 0
	for ; line > 1; line-- {
		i := bytes.IndexByte(source[at:], '\n')
		if i < 0 {
			return -1
		}
		at += i + 1
	}
	if line == 1 && at == 0 {
		at += len(source) - len(bytes.TrimPrefix(source, []byte("\xef\xbb\xbf")))
	}
	for ; column > 1; column-- {
		if at >= len(source) {
			return -1
		}
		_, size := utf8.DecodeRune(source[at:])
		at += size
	}
	return at
}

// Quoted tells between which quotes the text here stands: ', " or 0 for none.
func (p Place) Quoted() byte {
	switch {
	case p.node == nil:
		return 0
	case p.node.Style&yaml.SingleQuotedStyle != 0:
		return '\''
	case p.node.Style&yaml.DoubleQuotedStyle != 0:
		return '"'
	}
	return 0
}
