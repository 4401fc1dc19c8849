package debian

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxParagraph is the size, in bytes, that one paragraph may have. The largest in
// Debian's indexes (binary packages of a large source) have about 200 kB.
const maxParagraph = 8 << 20

// Field is one field of a paragraph. The value is as it stands there, without the
// blanks around it; the further lines of a folded value keep their first blank.
type Field struct{ Name, Value string }

// Paragraph is the fields of one stanza, in order.
type Paragraph []Field

// Get is the value of a field, whose name may be in any case, or "".
func (p Paragraph) Get(name string) string {
	value, _ := p.Lookup(name)
	return value
}

// Lookup is the value of a field and whether it is there.
func (p Paragraph) Lookup(name string) (string, bool) {
	for i := range p {
		if len(p[i].Name) == len(name) && strings.EqualFold(p[i].Name, name) {
			return p[i].Value, true
		}
	}
	return "", false
}

// ControlReader reads paragraphs one by one.
type ControlReader struct {
	r    *bufio.Reader
	line int // of what was read last, from 1
	buf  []byte
}

// NewControlReader reads from r, which it buffers.
func NewControlReader(r io.Reader) *ControlReader {
	return &ControlReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Next is the next paragraph, or io.EOF after the last. Lines that begin with #
// are comments.
func (c *ControlReader) Next() (Paragraph, error) {
	c.buf = c.buf[:0]
	fields, first := 0, 0
	for {
		start := len(c.buf)
		err := c.readLine()
		line := c.buf[start:]
		switch {
		case err != nil && err != io.EOF:
			return nil, err
		case len(bytes.TrimRight(line, " \t\r\n")) == 0: // the end of a paragraph
			c.buf = c.buf[:start]
			if len(c.buf) == 0 && err == nil {
				continue
			}
			if len(c.buf) == 0 {
				return nil, io.EOF
			}
			return c.parse(string(c.buf), first, fields)
		case line[0] == '#':
			c.buf = c.buf[:start]
		case line[0] != ' ' && line[0] != '\t':
			fields++
		}
		if first == 0 && len(c.buf) > 0 {
			first = c.line
		}
		if err == io.EOF {
			if len(c.buf) == 0 {
				return nil, io.EOF
			}
			return c.parse(string(c.buf), first, fields)
		}
	}
}

// readLine adds a line, with its end, to the buffer.
func (c *ControlReader) readLine() error {
	c.line++
	for {
		part, err := c.r.ReadSlice('\n')
		c.buf = append(c.buf, part...)
		if len(c.buf) > maxParagraph {
			return fmt.Errorf("line %d: paragraph of more than %d bytes", c.line, maxParagraph)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// parse makes fields of the text of a paragraph, which begins at a line.
func (c *ControlReader) parse(text string, line, fields int) (Paragraph, error) {
	p := make(Paragraph, 0, fields)
	for len(text) > 0 {
		// A field ends where the next line does not begin with a blank.
		end := 0
		for {
			i := strings.IndexByte(text[end:], '\n')
			if i < 0 {
				end = len(text)
				break
			}
			end += i + 1
			if end == len(text) || text[end] != ' ' && text[end] != '\t' {
				break
			}
		}
		field := text[:end]
		text = text[end:]
		name, value, found := strings.Cut(field, ":")
		if !found || name == "" || strings.ContainsAny(name, " \t\r\n") {
			return nil, fmt.Errorf("line %d: %q is no field", line, firstLine(field))
		}
		p = append(p, Field{Name: name, Value: strings.Trim(value, " \t\r\n")})
		line += strings.Count(field, "\n")
	}
	return p, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s[:min(len(s), 80)]
}

// words splits a list that is separated by blanks and line ends.
func words(s string) []string { return strings.Fields(s) }
