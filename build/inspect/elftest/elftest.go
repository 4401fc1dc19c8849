// Package elftest makes small ELF files for tests: what a loader or a linker would ask
// of a program or library is in them, and no code.
package elftest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// File is what an ELF file says of itself. The zero value is a library for x86-64
// that needs nothing and has no name.
type File struct {
	Machine     elf.Machine // EM_X86_64 when 0
	Type        elf.Type    // ET_DYN when 0
	Interpreter string      // e.g. /lib/ld-musl-x86_64.so.1
	Needed      []string    // DT_NEEDED
	Soname      string      // DT_SONAME
	// Sections are further ones by name, e.g. .debug_info, with their content.
	Sections map[string]string
	// Allocated are further sections that belong to the program in memory.
	Allocated map[string]string
}

// Bytes is the file.
func (f File) Bytes() []byte {
	machine, kind := f.Machine, f.Type
	if machine == 0 {
		machine = elf.EM_X86_64
	}
	if kind == 0 {
		kind = elf.ET_DYN
	}
	type section struct {
		name string
		elf.Section64
		data []byte
	}
	var dynamic []elf.Dyn64
	strings := []byte{0}
	str := func(s string) uint64 {
		at := len(strings)
		strings = append(append(strings, s...), 0)
		return uint64(at)
	}
	for _, needed := range f.Needed {
		dynamic = append(dynamic, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: str(needed)})
	}
	if f.Soname != "" {
		dynamic = append(dynamic, elf.Dyn64{Tag: int64(elf.DT_SONAME), Val: str(f.Soname)})
	}
	dynamic = append(dynamic, elf.Dyn64{Tag: int64(elf.DT_NULL)})
	var dynamicBytes bytes.Buffer
	write(&dynamicBytes, dynamic)

	sections := []section{
		{},
		{".dynstr", elf.Section64{Type: uint32(elf.SHT_STRTAB), Flags: uint64(elf.SHF_ALLOC)}, strings},
		{".dynamic", elf.Section64{Type: uint32(elf.SHT_DYNAMIC), Flags: uint64(elf.SHF_ALLOC), Link: 1, Entsize: 16}, dynamicBytes.Bytes()},
	}
	if f.Interpreter != "" {
		sections = append(sections, section{".interp", elf.Section64{Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC)}, append([]byte(f.Interpreter), 0)})
	}
	for name, content := range f.Sections {
		sections = append(sections, section{name, elf.Section64{Type: uint32(elf.SHT_PROGBITS)}, []byte(content)})
	}
	for name, content := range f.Allocated {
		sections = append(sections, section{name, elf.Section64{Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC)}, []byte(content)})
	}
	names := []byte{0}
	for i := range sections {
		if sections[i].name != "" {
			sections[i].Name = uint32(len(names))
			names = append(append(names, sections[i].name...), 0)
		}
	}
	nameOfNames := uint32(len(names))
	names = append(append(names, ".shstrtab"...), 0)
	sections = append(sections, section{".shstrtab", elf.Section64{Name: nameOfNames, Type: uint32(elf.SHT_STRTAB)}, names})

	const headerSize, progSize, sectionSize = 64, 56, 64
	programs := 1 // the whole file, loaded where it stands
	if f.Interpreter != "" {
		programs++
	}
	var body bytes.Buffer
	at := uint64(headerSize + programs*progSize)
	var interp elf.Prog64
	for i := range sections {
		s := &sections[i]
		for (at+uint64(body.Len()))%16 != 0 {
			body.WriteByte(0) // as Go's linker aligns what says how a program was built
		}
		s.Off, s.Size = at+uint64(body.Len()), uint64(len(s.data))
		if elf.SectionFlag(s.Flags)&elf.SHF_ALLOC != 0 {
			s.Addr = s.Off
		}
		body.Write(s.data)
		if s.name == ".interp" {
			interp = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: s.Off, Filesz: s.Size, Memsz: s.Size}
		}
	}
	header := elf.Header64{
		Type: uint16(kind), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Shoff: at + uint64(body.Len()), Ehsize: headerSize, Phentsize: progSize, Phnum: uint16(programs),
		Shentsize: sectionSize, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1),
	}
	header.Phoff = headerSize
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var out bytes.Buffer
	write(&out, header)
	if f.Interpreter != "" {
		write(&out, interp)
	}
	write(&out, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Filesz: header.Shoff, Memsz: header.Shoff, Align: 1})
	out.Write(body.Bytes())
	for _, s := range sections {
		write(&out, s.Section64)
	}
	return out.Bytes()
}

func write(b *bytes.Buffer, value any) {
	if err := binary.Write(b, binary.LittleEndian, value); err != nil {
		panic(err) // a type without a fixed size
	}
}
