package yamlread

import (
	"bytes"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/tarn-build/tarn/pkg/diag"
)

// document is the file that places belong to.
type document struct {
	file   string
	source []byte
}

// Place is where a value stands in a file. The zero Place stands nowhere.
type Place struct {
	doc  *document
	node *yaml.Node
}

// IsZero tells whether the place stands nowhere.
func (p Place) IsZero() bool { return p.node == nil }

// File is the file's name, as it was given to Decode.
func (p Place) File() string {
	if p.doc == nil {
		return ""
	}
	return p.doc.file
}

// Line counts from 1; 0 where the place stands nowhere.
func (p Place) Line() int {
	if p.node == nil {
		return 0
	}
	return p.node.Line
}

// Column counts from 1; 0 where the place stands nowhere.
func (p Place) Column() int {
	if p.node == nil {
		return 0
	}
	return p.node.Column
}

// String is file:line:column.
func (p Place) String() string {
	if p.node == nil {
		return p.File()
	}
	return fmt.Sprintf("%s:%d:%d", p.doc.file, p.node.Line, p.node.Column)
}

// find gives the key and value of a mapping, nil when it has no such key.
func (p Place) find(key string) (k, v *yaml.Node) {
	if p.node == nil || p.node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(p.node.Content); i += 2 {
		k, v := p.node.Content[i], p.node.Content[i+1]
		if k.Kind == yaml.ScalarNode && k.Value == key {
			if v.Kind == yaml.AliasNode {
				v = v.Alias
			}
			return k, v
		}
	}
	return nil, nil
}

// Value is the place of a key's value, or p itself where there is no such key.
func (p Place) Value(key string) Place {
	if _, v := p.find(key); v != nil {
		return Place{p.doc, v}
	}
	return p
}

// Key is the place of a key, or p itself where there is no such key.
func (p Place) Key(key string) Place {
	if k, _ := p.find(key); k != nil {
		return Place{p.doc, k}
	}
	return p
}

// Has tells whether a mapping has a key.
func (p Place) Has(key string) bool { k, _ := p.find(key); return k != nil }

// Item is the place of a list's item, from 0, or p itself where there is no such item.
func (p Place) Item(i int) Place {
	if p.node == nil || p.node.Kind != yaml.SequenceNode || i < 0 || i >= len(p.node.Content) {
		return p
	}
	n := p.node.Content[i]
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return Place{p.doc, n}
}

// Keys lists the keys of a mapping in the order of the file, each with the place of its value.
func (p Place) Keys() iter.Seq2[string, Place] {
	return func(yield func(string, Place) bool) {
		if p.node == nil || p.node.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(p.node.Content); i += 2 {
			if k := p.node.Content[i].Value; !yield(k, p.Value(k)) {
				return
			}
		}
	}
}

// Path leads from the value that stands here to the innermost one that the given line and
// column (from 1; column 0 is the whole line) belong to: keys, and indices of lists, from
// "0". What stands behind a key belongs to it up to the next one, white space and comments
// as well. It follows no alias, since what is behind one stands elsewhere.
func (p Place) Path(line, column int) (path []string) {
	before := func(n *yaml.Node) bool { return n.Line < line || n.Line == line && (column == 0 || n.Column <= column) }
	for n := p.node; n != nil; {
		var inner *yaml.Node
		var step string
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content) && before(n.Content[i]); i += 2 {
				inner, step = n.Content[i+1], n.Content[i].Value
			}
		case yaml.SequenceNode:
			for i := 0; i < len(n.Content) && before(n.Content[i]); i++ {
				inner, step = n.Content[i], strconv.Itoa(i)
			}
		}
		if inner != nil {
			path = append(path, step)
		}
		n = inner
	}
	return path
}

// Below is what one step of a [Place.Path] leads to, or p itself where there is no such thing.
func (p Place) Below(step string) Place {
	if i, err := strconv.Atoi(step); err == nil && p.node != nil && p.node.Kind == yaml.SequenceNode {
		return p.Item(i)
	}
	return p.Value(step)
}

// Text is the text that stands here, "" where there is something else.
func (p Place) Text() string {
	if p.node == nil || p.node.Kind != yaml.ScalarNode {
		return ""
	}
	return p.node.Value
}

// Problem is a mistake that stands here.
func (p Place) Problem(hint, format string, args ...any) diag.Problem {
	return diag.Problem{File: p.File(), Line: p.Line(), Column: p.Column(), Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Inside gives the line and column in the file of the byte at offset of the text
// that stands here, as exactly as YAML lets one tell: exact in block text (|) and
// in text of one line without escapes, else the place where the text begins.
func (p Place) Inside(offset int) (line, column int) {
	line, column = p.Line(), p.Column()
	if p.node == nil || p.node.Kind != yaml.ScalarNode || offset < 0 || offset > len(p.node.Value) {
		return line, column
	}
	before := p.node.Value[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	end := len(p.node.Value)
	if i := strings.IndexByte(p.node.Value[start:], '\n'); i >= 0 {
		end = start + i
	}
	text, rows := p.node.Value[start:end], strings.Count(before, "\n")
	switch {
	case p.node.Style&yaml.LiteralStyle != 0:
		line += 1 + rows
		if i := bytes.Index(p.sourceLine(line), []byte(text)); i >= 0 {
			return line, i + 1 + offset - start
		}
		return line, 1
	case strings.Contains(p.node.Value, "\n"):
		return line, column
	default:
		source := p.sourceLine(line)
		if i := bytes.Index(source[min(max(column-1, 0), len(source)):], []byte(text)); i >= 0 {
			return line, column + i + offset
		}
		return line, column
	}
}

// ProblemInside is a mistake at the byte at offset of the text that stands here.
func (p Place) ProblemInside(offset int, hint, format string, args ...any) diag.Problem {
	problem := p.Problem(hint, format, args...)
	problem.Line, problem.Column = p.Inside(offset)
	return problem
}

// sourceLine is a line of the file, counted from 1, without its end.
func (p Place) sourceLine(number int) []byte {
	rest := p.doc.source
	for ; number > 1; number-- {
		_, after, found := bytes.Cut(rest, []byte("\n"))
		if !found {
			return nil
		}
		rest = after
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return line
}
