package elfstrip

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Strip makes the file without what the options take; nil where there is nothing to take
// or to add.
func (f *File) Strip(o Options) (*Image, error) {
	if f.loadedEnd() > f.size {
		return nil, errors.New("its segments end beyond its end")
	}
	gone, err := f.removed(o)
	if err != nil {
		return nil, err
	}
	table, err := f.keepSymbols(o, gone)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(gone, true) && (table == nil || table.same) && o.Link == nil {
		return nil, nil
	}
	keep := f.loadedEnd()
	var outputs []output
	where := make([]int, len(f.sections)) // old number -> new number
	for i, s := range f.sections {
		if gone[i] {
			continue
		}
		where[i] = len(outputs)
		outputs = append(outputs, output{section: s, old: i, stays: i == 0 || s.alloc() || s.kind == elf.SHT_NULL})
	}
	if o.Link != nil {
		link := section{name: ".gnu_debuglink", kind: elf.SHT_PROGBITS, align: 4}
		content := append([]byte(o.Link.Name), 0)
		for len(content)%4 != 0 {
			content = append(content, 0)
		}
		content = f.order.(binary.AppendByteOrder).AppendUint32(content, o.Link.CRC)
		link.size = uint64(len(content))
		outputs = append(outputs, output{section: link, old: -1, content: content})
	}
	if err := f.relink(outputs, where, table); err != nil {
		return nil, err
	}
	m, err := f.layout(outputs, keep)
	if err != nil {
		return nil, err
	}
	f.keepLoaded(m, keep, gone)
	return m, nil
}

// relink puts the new numbers of sections and symbols where the old ones stand.
func (f *File) relink(outputs []output, where []int, table *symbolTable) error {
	for i := range outputs {
		s := &outputs[i]
		if s.old <= 0 {
			continue
		}
		old := f.sections[s.old]
		if int(old.link) < len(where) {
			s.link = uint32(where[old.link])
		}
		relocations := old.kind == elf.SHT_REL || old.kind == elf.SHT_RELA
		if (old.flags&elf.SHF_INFO_LINK != 0 || relocations) && int(old.info) < len(where) {
			s.info = uint32(where[old.info])
		}
		if table == nil {
			continue
		}
		var err error
		switch {
		case s.old == table.section:
			s.content, s.info = table.encode(f, where), uint32(table.locals)
		case s.old == table.strings && table.names != nil:
			s.content = table.names
		case relocations && !old.alloc() && int(old.link) == table.section && !table.same:
			s.content, err = table.renumber(f, s.old)
		default:
			continue
		}
		if err != nil {
			return err
		}
		s.size = uint64(len(s.content))
	}
	return nil
}

// loadedEnd is where what has to stay at its place ends.
func (f *File) loadedEnd() uint64 {
	end := uint64(len(f.head))
	for _, s := range f.segments {
		if s.fileSize > 0 {
			end = max(end, s.offset+s.fileSize)
		}
	}
	if n := uint64(len(f.segments)); n > 0 {
		end = max(end, f.field(28, 32)+n*uint64(len(f.segments[0].raw)))
	}
	for i := range f.sections {
		// What has no bytes in the file may say any place, and Go's linker does.
		if s := &f.sections[i]; s.alloc() && s.fileSize() > 0 {
			end = max(end, s.offset+s.fileSize())
		}
	}
	return end
}

// keepLoaded copies what stays. What a section had there that is gone, and that nothing
// loads, becomes zeros.
func (f *File) keepLoaded(m *Image, keep uint64, gone []bool) {
	type span struct{ from, to uint64 }
	var holes []span
	for i, s := range f.sections {
		if gone[i] && s.fileSize() > 0 && s.offset < keep {
			holes = append(holes, span{s.offset, min(keep, s.offset+s.size)})
		}
	}
	covered := func(h span) bool {
		hit := func(from, size uint64) bool { return size > 0 && from < h.to && h.from < from+size }
		for _, s := range f.segments {
			if hit(s.offset, s.fileSize) {
				return true
			}
		}
		for i := range f.sections {
			if s := &f.sections[i]; !gone[i] && hit(s.offset, s.fileSize()) {
				return true
			}
		}
		return hit(0, uint64(len(f.head))) || len(f.segments) > 0 && hit(f.field(28, 32), uint64(len(f.segments)*len(f.segments[0].raw)))
	}
	at := uint64(len(f.head)) // the header is written anew
	slices.SortFunc(holes, func(a, b span) int { return int(int64(a.from) - int64(b.from)) })
	for _, h := range holes {
		if h.from < at || covered(h) {
			continue
		}
		m.copy(at, at, h.from-at)
		at = h.to
	}
	m.copy(at, at, keep-at)
	if m.size < keep {
		m.size = keep
	}
}

// removed says of each section whether it goes.
func (f *File) removed(o Options) ([]bool, error) {
	gone := make([]bool, len(f.sections))
	var wrong []string
	for i := 1; i < len(f.sections); i++ {
		s := &f.sections[i]
		if i == f.strings || matches(o.KeepSections, s.name) {
			continue
		}
		if matches(o.RemoveSections, s.name) {
			if s.alloc() {
				wrong = append(wrong, s.name)
			}
			gone[i] = true
		}
		if (o.Level >= Debug || o.DiscardAll) && !s.alloc() && debugging(s.name) {
			gone[i] = true
		}
		if o.Link != nil && s.name == ".gnu_debuglink" {
			gone[i] = true
		}
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%s is loaded when the program runs, and can't be taken from it", strings.Join(wrong, ", "))
	}
	// Relocations of what goes go with it; without any symbol none can stay.
	for i, s := range f.sections {
		relocations := (s.kind == elf.SHT_REL || s.kind == elf.SHT_RELA) && !s.alloc()
		if relocations && int(s.info) < len(gone) && s.info != 0 && gone[s.info] || relocations && o.Level == All {
			gone[i] = true
		}
	}
	return gone, nil
}

// symbolTable is what becomes of the symbols.
type symbolTable struct {
	section, strings int // of the old file
	symbols          []symbol
	newName          []uint32
	names            []byte // nil where the table of names stays as it is
	number           []int  // old number -> new number, -1 for those that went
	locals           int
	same             bool // no symbol went
}

// keepSymbols chooses symbols. Where none is left the table and its names go, too.
func (f *File) keepSymbols(o Options, gone []bool) (*symbolTable, error) {
	at := -1
	for i := range f.sections {
		if s := &f.sections[i]; i == 0 || s.kind != elf.SHT_SYMTAB || s.alloc() {
			continue
		}
		if at > 0 {
			return nil, errors.New("it has more than one table of symbols")
		}
		at = i
	}
	if at < 0 {
		return nil, nil
	}
	t := &symbolTable{section: at, strings: int(f.sections[at].link)}
	if t.strings >= len(f.sections) || f.sections[t.strings].kind != elf.SHT_STRTAB {
		return nil, errors.New("its table of symbols has no names")
	}
	alone := t.strings != f.strings
	for i, s := range f.sections {
		if i != at && int(s.link) == t.strings && s.kind != elf.SHT_NULL {
			alone = false
		}
	}
	if gone[at] {
		gone[t.strings] = alone
		return nil, nil
	}
	gone[t.strings] = false
	table, err := f.content(at)
	if err != nil {
		return nil, err
	}
	symbols, err := f.symbols(table)
	if err != nil {
		return nil, err
	}
	text, err := f.names(symbols, t.strings)
	if err != nil {
		return nil, err
	}
	needed, err := f.needed(at, len(symbols), gone)
	if err != nil {
		return nil, err
	}
	t.number = make([]int, len(symbols))
	var kept []string
	t.same = true
	for i := range symbols {
		s := &symbols[i]
		if i > 0 && !o.keeps(s, text[i], needed[i], int(s.section) < len(gone) && gone[s.section]) {
			t.number[i], t.same = -1, false
			continue
		}
		t.number[i] = len(t.symbols)
		t.symbols = append(t.symbols, *s)
		kept = append(kept, text[i])
		if i == 0 || s.bind() == elf.STB_LOCAL {
			t.locals = len(t.symbols)
		}
	}
	if len(t.symbols) <= 1 && len(symbols) > 0 {
		gone[at] = true
		gone[t.strings] = alone
		return nil, nil
	}
	if !alone || t.same {
		for i := range t.symbols {
			t.newName = append(t.newName, t.symbols[i].nameAt)
		}
		if t.strings == f.strings {
			return nil, errors.New("its symbols and sections have one table of names")
		}
		return t, nil
	}
	index, names := makeNames(kept)
	t.names = names
	for _, name := range kept {
		t.newName = append(t.newName, index[name])
	}
	return t, nil
}

// names reads the names of symbols.
func (f *File) names(symbols []symbol, table int) ([]string, error) {
	data, err := f.content(table)
	if err != nil {
		return nil, err
	}
	all := make([]string, len(symbols))
	for i := range symbols {
		if all[i], err = text(data, symbols[i].nameAt); err != nil {
			return nil, fmt.Errorf("symbol %d: %w", i, err)
		}
	}
	return all, nil
}

// relocationSymbol gives the number of a relocation's symbol.
func (f *File) relocationSymbol(b []byte) uint32 {
	if f.wide {
		return uint32(f.order.Uint64(b[8:]) >> 32)
	}
	return f.order.Uint32(b[4:]) >> 8
}

// relocationSize is the length of a relocation of a section.
func (f *File) relocationSize(kind elf.SectionType) int {
	size := 8
	if f.wide {
		size = 16
	}
	if kind == elf.SHT_RELA {
		size += size / 2
	}
	return size
}

// needed says which symbols relocations name that are kept in the file (ld --emit-relocs).
func (f *File) needed(table, count int, gone []bool) ([]bool, error) {
	all := make([]bool, count)
	for i, s := range f.sections {
		if gone[i] || s.alloc() || s.kind != elf.SHT_REL && s.kind != elf.SHT_RELA || int(s.link) != table {
			continue
		}
		b, err := f.content(i)
		if err != nil {
			return nil, err
		}
		size := f.relocationSize(s.kind)
		for ; len(b) >= size; b = b[size:] {
			if n := f.relocationSymbol(b); int(n) < count {
				all[n] = true
			}
		}
	}
	return all, nil
}

// renumber gives the relocations of a section with the new numbers of their symbols.
func (t *symbolTable) renumber(f *File, section int) ([]byte, error) {
	all, err := f.content(section)
	if err != nil {
		return nil, err
	}
	size := f.relocationSize(f.sections[section].kind)
	for b := all; len(b) >= size; b = b[size:] {
		old := f.relocationSymbol(b)
		if int(old) >= len(t.number) {
			return nil, fmt.Errorf("a relocation of %s names the symbol %d, which is not there", f.sections[section].name, old)
		}
		number := uint32(max(t.number[old], 0)) // one of a section that went is of none now
		if f.wide {
			f.order.PutUint64(b[8:], uint64(number)<<32|f.order.Uint64(b[8:])&0xffffffff)
		} else {
			f.order.PutUint32(b[4:], number<<8|f.order.Uint32(b[4:])&0xff)
		}
	}
	return all, nil
}

// encode gives the table's bytes.
func (t *symbolTable) encode(f *File, where []int) []byte {
	var b []byte
	for i := range t.symbols {
		s := &t.symbols[i]
		start := len(b)
		b = append(b, s.raw...)
		section := s.section
		if section < elf.SHN_LORESERVE && int(section) < len(where) {
			section = elf.SectionIndex(where[section])
		}
		f.place(b[start:], t.newName[i], section)
	}
	return b
}

// keeps decides on one symbol, in the order in which strip does.
func (o *Options) keeps(s *symbol, name string, needed, sectionGone bool) bool {
	keep := false
	switch {
	case o.Level == All:
	case needed:
		keep = true
	case s.bind() != elf.STB_LOCAL || s.section == elf.SHN_UNDEF || s.section == elf.SHN_COMMON:
		keep = o.Level != Unneeded
	case s.kind() == elf.STT_FILE || s.kind() == elf.STT_SECTION:
		keep = o.Level == Nothing
	default:
		keep = o.Level != Unneeded && !o.DiscardAll && !(o.DiscardLocals && compilerMade(name))
	}
	if keep && !needed && o.named(o.StripSymbols, name) {
		keep = false
	}
	if !keep && (o.KeepFileSymbols && s.kind() == elf.STT_FILE || o.named(o.KeepSymbols, name)) {
		keep = true
	}
	return keep && !sectionGone
}

// compilerMade reports whether the name is of a symbol that no programmer wrote.
func compilerMade(name string) bool {
	return strings.HasPrefix(name, ".L") || strings.HasPrefix(name, "..") || strings.HasPrefix(name, "_.L_")
}
