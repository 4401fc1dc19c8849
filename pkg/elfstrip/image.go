package elfstrip

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Image is a file as it will be.
type Image struct {
	file   *File
	pieces []piece
	size   uint64
}

// piece is a run of bytes: new ones, or a part of the file.
type piece struct {
	at    uint64
	bytes []byte
	from  uint64 // of the file, where bytes is nil
	size  uint64
}

// Size is how long the image is, in bytes.
func (m *Image) Size() int64 { return int64(m.size) }

// WriteTo writes the image.
func (m *Image) WriteTo(w io.Writer) (written int64, err error) {
	slices.SortStableFunc(m.pieces, func(a, b piece) int { return cmp.Compare(a.at, b.at) })
	copyAll := func(r io.Reader, size uint64) error {
		n, err := io.CopyN(w, r, int64(size))
		written += n
		return err
	}
	for _, p := range m.pieces {
		if uint64(written) > p.at {
			return written, errors.New("internal error: pieces of an ELF file overlap")
		}
		if err := copyAll(zeros{}, p.at-uint64(written)); err != nil {
			return written, err
		}
		var r io.Reader = bytes.NewReader(p.bytes)
		if p.bytes == nil {
			r = io.NewSectionReader(m.file.r, int64(p.from), int64(p.size))
		}
		if err := copyAll(r, p.size); err != nil {
			return written, err
		}
	}
	return written, nil
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func (m *Image) put(at uint64, b []byte) {
	if len(b) > 0 {
		m.pieces = append(m.pieces, piece{at: at, bytes: b, size: uint64(len(b))})
	}
}

func (m *Image) copy(at, from, size uint64) {
	if size > 0 {
		m.pieces = append(m.pieces, piece{at: at, from: from, size: size})
	}
}

// output is one section of the image.
type output struct {
	section
	old     int    // which of the file's, 0 for a new one
	content []byte // new content; nil is that of the file, where the section has any
	stays   bool   // at its place, below the end of what is loaded
}

// names makes a table of names. A name that ends another one is a part of it.
type names map[string]uint32

func makeNames(list []string) (names, []byte) {
	backwards := func(a, b string) int {
		for i := 1; i <= len(a) && i <= len(b); i++ {
			if c := cmp.Compare(a[len(a)-i], b[len(b)-i]); c != 0 {
				return c
			}
		}
		return cmp.Compare(len(a), len(b))
	}
	list = slices.Clone(list)
	slices.SortFunc(list, backwards)
	list = slices.Compact(list)
	at := names{"": 0}
	table := []byte{0}
	last := ""
	for _, name := range slices.Backward(list) {
		if name == "" {
			continue
		}
		if last != "" && strings.HasSuffix(last, name) {
			at[name] = at[last] + uint32(len(last)-len(name))
			continue
		}
		at[name] = uint32(len(table))
		table = append(append(table, name...), 0)
		last = name
	}
	return at, table
}

// layout puts the image together: what lies below keep stays as it is, then come the sections
// that don't stay, in their order, and the table of sections. Their links and the symbols'
// sections are those of the old file until here.
func (f *File) layout(sections []output, keep uint64) (*Image, error) {
	m := &Image{file: f}
	at := keep
	var list []string
	for i := range sections {
		list = append(list, sections[i].name)
	}
	index, table := makeNames(list)
	for i := range sections {
		s := &sections[i]
		s.nameAt = index[s.name]
		if s.old == f.strings && i > 0 {
			s.content, s.size = table, uint64(len(table))
		}
		if i == 0 || s.stays {
			continue
		}
		if s.kind == elf.SHT_NOBITS {
			s.offset = at
			continue
		}
		align := max(s.align, 1)
		if align&(align-1) != 0 || align > 1<<20 {
			return nil, fmt.Errorf("section %s is aligned to %d bytes, which is no power of two", s.name, align)
		}
		at = (at + align - 1) &^ (align - 1)
		from := s.offset
		s.offset = at
		if s.content != nil {
			m.put(at, s.content)
		} else {
			m.copy(at, from, s.size)
		}
		at += s.size
	}
	align := uint64(4)
	if f.wide {
		align = 8
	}
	at = (at + align - 1) &^ (align - 1)
	var headers []byte
	for i := range sections {
		headers = f.encode(headers, sections[i].section)
	}
	m.put(at, headers)
	m.size = at + uint64(len(headers))
	if !f.wide && m.size > 1<<32-1 {
		return nil, errors.New("it is too long for 32 bits")
	}
	head := bytes.Clone(f.head)
	strings := slices.IndexFunc(sections, func(s output) bool { return s.old == f.strings && s.kind == elf.SHT_STRTAB })
	if f.wide {
		f.order.PutUint64(head[40:], at)
		f.order.PutUint16(head[60:], uint16(len(sections)))
		f.order.PutUint16(head[62:], uint16(strings))
	} else {
		f.order.PutUint32(head[32:], uint32(at))
		f.order.PutUint16(head[48:], uint16(len(sections)))
		f.order.PutUint16(head[50:], uint16(strings))
	}
	m.put(0, head)
	return m, nil
}
