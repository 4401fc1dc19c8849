package elfstrip

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrNoSections says that a file has no section headers: there is nothing to tell what
// could be taken from it.
var ErrNoSections = errors.New("it has no section headers")

// File is an ELF file that was read, but for the contents of its sections.
type File struct {
	r        io.ReaderAt
	size     uint64
	order    binary.ByteOrder
	wide     bool // ELFCLASS64
	head     []byte
	segments []segment
	sections []section
	strings  int // the section that holds the sections' names
}

// segment is what of a program header matters here.
type segment struct {
	kind                             elf.ProgType
	offset, fileSize, virtual, align uint64
	raw                              []byte
}

// section is a section header.
type section struct {
	name               string
	nameAt             uint32
	kind               elf.SectionType
	flags              elf.SectionFlag
	addr, offset, size uint64
	link, info         uint32
	align, entry       uint64
}

func (s *section) alloc() bool { return s.flags&elf.SHF_ALLOC != 0 }

// fileSize is how many bytes of the file the section has.
func (s *section) fileSize() uint64 {
	if s.kind == elf.SHT_NOBITS || s.kind == elf.SHT_NULL {
		return 0
	}
	return s.size
}

// maxTable is how long a table of headers or names may be, in bytes. That of the largest
// programs there are is a tenth of it.
const maxTable = 1 << 30

// Read reads the headers of a file of size bytes.
func Read(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: uint64(size)}
	ident, err := f.bytes(0, elf.EI_NIDENT)
	if err != nil || string(ident[:4]) != elf.ELFMAG {
		return nil, errors.New("it is no ELF file")
	}
	switch elf.Data(ident[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
		f.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		f.order = binary.BigEndian
	default:
		return nil, errors.New("it has no byte order")
	}
	length := uint64(52)
	switch elf.Class(ident[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
		f.wide, length = true, 64
	case elf.ELFCLASS32:
	default:
		return nil, errors.New("it is neither of 32 nor of 64 bits")
	}
	if f.head, err = f.bytes(0, length); err != nil {
		return nil, err
	}
	if kind := elf.Type(f.order.Uint16(f.head[16:])); kind != elf.ET_EXEC && kind != elf.ET_DYN {
		return nil, fmt.Errorf("it is of the type %v, neither program nor shared library", kind)
	}
	if err := f.readSegments(); err != nil {
		return nil, err
	}
	return f, f.readSections()
}

// bytes reads a part of the file.
func (f *File) bytes(offset, size uint64) ([]byte, error) {
	if offset > f.size || size > f.size-offset {
		return nil, fmt.Errorf("%d bytes at %d lie beyond its end", size, offset)
	}
	if size > maxTable {
		return nil, fmt.Errorf("a table of %d bytes is too long", size)
	}
	b := make([]byte, size)
	if _, err := f.r.ReadAt(b, int64(offset)); err != nil && !(errors.Is(err, io.EOF)) {
		return nil, err
	}
	return b, nil
}

// Fields of the ELF header that stand at another place in each class.
func (f *File) field(at32, at64 int) uint64 {
	if f.wide {
		return f.order.Uint64(f.head[at64:])
	}
	return uint64(f.order.Uint32(f.head[at32:]))
}

func (f *File) half(at32, at64 int) uint16 {
	if f.wide {
		return f.order.Uint16(f.head[at64:])
	}
	return f.order.Uint16(f.head[at32:])
}

func (f *File) readSegments() error {
	at, size, count := f.field(28, 32), uint64(f.half(42, 54)), uint64(f.half(44, 56))
	want := uint64(32)
	if f.wide {
		want = 56
	}
	if count > 0 && size != want {
		return fmt.Errorf("its program headers have %d bytes, not %d", size, want)
	}
	table, err := f.bytes(at, size*count)
	if err != nil {
		return fmt.Errorf("program headers: %w", err)
	}
	for ; len(table) > 0; table = table[size:] {
		b := table[:size:size]
		s := segment{kind: elf.ProgType(f.order.Uint32(b)), raw: b}
		if f.wide {
			s.offset, s.virtual, s.fileSize, s.align = f.order.Uint64(b[8:]), f.order.Uint64(b[16:]), f.order.Uint64(b[32:]), f.order.Uint64(b[48:])
		} else {
			s.offset, s.virtual, s.fileSize, s.align = uint64(f.order.Uint32(b[4:])), uint64(f.order.Uint32(b[8:])), uint64(f.order.Uint32(b[16:])), uint64(f.order.Uint32(b[28:]))
		}
		if s.fileSize > 0 && (s.offset > f.size || s.fileSize > f.size-s.offset) {
			return fmt.Errorf("the segment of %d bytes at %d lies beyond its end", s.fileSize, s.offset)
		}
		f.segments = append(f.segments, s)
	}
	return nil
}

func (f *File) readSections() error {
	at, size, count := f.field(32, 40), uint64(f.half(46, 58)), uint64(f.half(48, 60))
	if at == 0 || count == 0 {
		if at != 0 {
			return errors.New("it has more sections than a header can count")
		}
		return ErrNoSections
	}
	if size != f.headerSize() {
		return fmt.Errorf("its section headers have %d bytes, not %d", size, f.headerSize())
	}
	table, err := f.bytes(at, size*count)
	if err != nil {
		return fmt.Errorf("section headers: %w", err)
	}
	for ; len(table) > 0; table = table[size:] {
		s := f.decode(table)
		if end := s.fileSize(); end > 0 && (s.offset > f.size || end > f.size-s.offset) {
			return fmt.Errorf("the section of %d bytes at %d lies beyond its end", end, s.offset)
		}
		f.sections = append(f.sections, s)
	}
	f.strings = int(f.half(50, 62))
	if f.strings == 0 || f.strings >= len(f.sections) || f.sections[f.strings].kind != elf.SHT_STRTAB || f.sections[f.strings].alloc() {
		return errors.New("it does not say where its sections' names are")
	}
	names, err := f.content(f.strings)
	if err != nil {
		return err
	}
	for i := range f.sections {
		if f.sections[i].name, err = text(names, f.sections[i].nameAt); err != nil {
			return err
		}
		if i > 0 && f.sections[i].kind == elf.SHT_SYMTAB_SHNDX {
			return errors.New("it has more sections than a symbol can name")
		}
	}
	return nil
}

// content reads what a section holds.
func (f *File) content(i int) ([]byte, error) {
	return f.bytes(f.sections[i].offset, f.sections[i].fileSize())
}

// text reads a name of a table of names.
func text(table []byte, at uint32) (string, error) {
	if uint64(at) >= uint64(len(table)) {
		if at == 0 {
			return "", nil
		}
		return "", fmt.Errorf("the name at %d lies beyond the end of its table", at)
	}
	b := table[at:]
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return "", fmt.Errorf("the name at %d has no end", at)
	}
	return string(b[:end]), nil
}

// headerSize is the length of a section header.
func (f *File) headerSize() uint64 {
	if f.wide {
		return 64
	}
	return 40
}

func (f *File) decode(b []byte) section {
	u32 := func(at int) uint32 { return f.order.Uint32(b[at:]) }
	if f.wide {
		u64 := func(at int) uint64 { return f.order.Uint64(b[at:]) }
		return section{nameAt: u32(0), kind: elf.SectionType(u32(4)), flags: elf.SectionFlag(u64(8)), addr: u64(16), offset: u64(24), size: u64(32), link: u32(40), info: u32(44), align: u64(48), entry: u64(56)}
	}
	return section{nameAt: u32(0), kind: elf.SectionType(u32(4)), flags: elf.SectionFlag(u32(8)), addr: uint64(u32(12)), offset: uint64(u32(16)), size: uint64(u32(20)), link: u32(24), info: u32(28), align: uint64(u32(32)), entry: uint64(u32(36))}
}

func (f *File) encode(b []byte, s section) []byte {
	o := f.order.(binary.AppendByteOrder)
	b = o.AppendUint32(b, s.nameAt)
	b = o.AppendUint32(b, uint32(s.kind))
	word := func(b []byte, v uint64) []byte {
		if f.wide {
			return o.AppendUint64(b, v)
		}
		return o.AppendUint32(b, uint32(v))
	}
	for _, v := range []uint64{uint64(s.flags), s.addr, s.offset, s.size} {
		b = word(b, v)
	}
	b = o.AppendUint32(b, s.link)
	b = o.AppendUint32(b, s.info)
	return word(word(b, s.align), s.entry)
}

// symbol is an entry of a table of symbols.
type symbol struct {
	nameAt  uint32
	info    byte
	section elf.SectionIndex
	raw     []byte
}

func (s *symbol) bind() elf.SymBind { return elf.ST_BIND(s.info) }
func (s *symbol) kind() elf.SymType { return elf.ST_TYPE(s.info) }

// symbolSize is the length of a symbol.
func (f *File) symbolSize() uint64 {
	if f.wide {
		return 24
	}
	return 16
}

func (f *File) symbols(table []byte) ([]symbol, error) {
	size := int(f.symbolSize())
	if len(table)%size != 0 {
		return nil, fmt.Errorf("its table of symbols has %d bytes, which are no whole symbols", len(table))
	}
	all := make([]symbol, 0, len(table)/size)
	for ; len(table) > 0; table = table[size:] {
		b := table[:size:size]
		s := symbol{nameAt: f.order.Uint32(b), raw: b}
		if f.wide {
			s.info, s.section = b[4], elf.SectionIndex(f.order.Uint16(b[6:]))
		} else {
			s.info, s.section = b[12], elf.SectionIndex(f.order.Uint16(b[14:]))
		}
		all = append(all, s)
	}
	return all, nil
}

// place puts another name and section into a symbol's bytes.
func (f *File) place(b []byte, nameAt uint32, section elf.SectionIndex) {
	f.order.PutUint32(b, nameAt)
	at := 14
	if f.wide {
		at = 6
	}
	f.order.PutUint16(b[at:], uint16(section))
}
