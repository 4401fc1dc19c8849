package elfstrip

import (
	"bytes"
	"debug/elf"
	"hash/crc32"
)

// DebugOnly makes the file that holds what a debugger wants of a program and nothing
// that runs: debugging sections, symbols and notes as they are, of all that is loaded the
// headers alone. The program and it know each other by the build ID among the notes, and
// by the program's [Link].
func (f *File) DebugOnly() (*Image, error) {
	g := *f
	g.head = bytes.Clone(f.head)
	at := uint64(len(g.head))
	m := &Image{file: f}
	segments := g.moveSegments(at)
	at += uint64(len(segments))
	outputs := make([]output, len(f.sections))
	for i, s := range f.sections {
		outputs[i] = output{section: s, old: i, stays: i == 0 || s.alloc()}
		switch o := &outputs[i]; {
		case i == 0 || !s.alloc():
		case s.kind == elf.SHT_NOTE:
			align := max(s.align, 1)
			for _, p := range f.segments {
				if (p.kind == elf.PT_NOTE || p.kind == elf.PT_GNU_PROPERTY) && p.virtual == s.addr {
					align = max(align, p.align)
				}
			}
			if align&(align-1) == 0 && align <= 1<<16 {
				at = (at + align - 1) &^ (align - 1)
			}
			m.copy(at, s.offset, s.size)
			o.offset = at
			at += s.size
		default:
			o.kind, o.offset = elf.SHT_NOBITS, at
			o.flags &^= elf.SHF_INFO_LINK // no relocations are left whose section info could be
		}
	}
	g.noteSegments(segments, outputs)
	image, err := g.layout(outputs, at)
	if err != nil {
		return nil, err
	}
	image.put(uint64(len(g.head)), segments)
	image.pieces = append(image.pieces, m.pieces...)
	return image, nil
}

// moveSegments gives the program headers, which will stand at a place, without any bytes of
// the file.
func (f *File) moveSegments(at uint64) []byte {
	stood := f.field(28, 32)
	if f.wide {
		f.order.PutUint64(f.head[32:], at)
	} else {
		f.order.PutUint32(f.head[28:], uint32(at))
	}
	var all []byte
	for _, s := range f.segments {
		all = append(all, s.raw...)
	}
	for i, s := range f.segments {
		offset := s.virtual
		if s.align > 1 {
			offset %= s.align // the two have to agree, up to the alignment
		} else {
			offset = at
		}
		size := uint64(0)
		switch headers := at + uint64(len(all)); {
		case s.kind == elf.PT_PHDR:
			offset, size = at, uint64(len(all))
		case s.kind == elf.PT_LOAD && s.offset == 0 && s.fileSize >= headers && stood == at:
			offset, size = 0, headers // the headers are where they were, and loaded
		}
		f.putSegment(all, i, offset, size)
	}
	return all
}

// putSegment puts a segment's place into the program headers.
func (f *File) putSegment(all []byte, i int, offset, size uint64) {
	b := all[i*len(f.segments[i].raw):]
	if f.wide {
		f.order.PutUint64(b[8:], offset)
		f.order.PutUint64(b[32:], size)
		return
	}
	f.order.PutUint32(b[4:], uint32(offset))
	f.order.PutUint32(b[16:], uint32(size))
}

// noteSegments gives the segments of notes their place, where the notes lie as they did.
func (f *File) noteSegments(all []byte, outputs []output) {
	for i, p := range f.segments {
		if p.kind != elf.PT_NOTE && p.kind != elf.PT_GNU_PROPERTY {
			continue
		}
		var start, end uint64
		for _, s := range outputs {
			if s.kind != elf.SHT_NOTE || !s.alloc() || s.addr < p.virtual || s.addr-p.virtual >= p.fileSize {
				continue
			}
			if s.addr == p.virtual {
				start = s.offset
			}
			if start == 0 || s.offset-start != s.addr-p.virtual {
				end = 0
				break
			}
			end = s.offset + s.size
		}
		if start > 0 && end-start == p.fileSize {
			f.putSegment(all, i, start, p.fileSize)
		}
	}
}

// CRC gives the checksum of an image for a [Link] to it.
func (m *Image) CRC() (uint32, error) {
	h := crc32.NewIEEE()
	_, err := m.WriteTo(h)
	return h.Sum32(), err
}
