// Package ldcache writes /etc/ld.so.cache, in which the loader of glibc finds
// libraries without looking through folders, as ldconfig(8) makes it.
//
// It knows the file's format and the names of libraries, and reads no folders: which
// libraries there are the caller says. The format is that of "struct cache_file_new" in
// sysdeps/generic/dl-cache.h of glibc, the only one that glibc reads from 2.32 on; the
// older one, which could stand before it, is not written.
package ldcache

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
)

// Entry is one library that the loader finds by its name.
type Entry struct {
	Name string // what programs need, e.g. libz.so.1
	Path string // absolute, e.g. /usr/lib/libz.so.1
	// Subfolder is that of glibc-hwcaps that the path is in, e.g. x86-64-v3: the loader
	// takes the library where the processor can do that. "" is any processor.
	Subfolder string
}

// Machine says for which machine the libraries of a cache are.
type Machine struct {
	flags int32
	order binary.AppendByteOrder
}

// The flags of an entry (FLAG_... in sysdeps/generic/ldconfig.h): a library of glibc's
// own second interface, and for which machine.
const (
	flagLibc6 = 3

	flagPowerPC64 = 0x0500
	flagS390X     = 0x0400
	flagX8664     = 0x0300
	flagARMHard   = 0x0900
	flagAArch64   = 0x0a00
	flagRISCV64   = 0x1000 // with floating point numbers in registers
	flagLoong64   = 0x1200
)

// MachineOf gives the machine of an ELF file, by its header; false where glibc has none.
func MachineOf(machine elf.Machine, class elf.Class, data elf.Data) (Machine, bool) {
	m := Machine{order: binary.LittleEndian}
	if data == elf.ELFDATA2MSB {
		m.order = binary.BigEndian
	}
	switch {
	case machine == elf.EM_386:
		m.flags = flagLibc6
	case machine == elf.EM_X86_64 && class == elf.ELFCLASS64:
		m.flags = flagLibc6 | flagX8664
	case machine == elf.EM_AARCH64 && class == elf.ELFCLASS64:
		m.flags = flagLibc6 | flagAArch64
	case machine == elf.EM_ARM:
		m.flags = flagLibc6 | flagARMHard
	case machine == elf.EM_PPC64:
		m.flags = flagLibc6 | flagPowerPC64
	case machine == elf.EM_S390 && class == elf.ELFCLASS64:
		m.flags = flagLibc6 | flagS390X
	case machine == elf.EM_RISCV && class == elf.ELFCLASS64:
		m.flags = flagLibc6 | flagRISCV64
	case machine == elf.EM_LOONGARCH && class == elf.ELFCLASS64:
		m.flags = flagLibc6 | flagLoong64
	default:
		return Machine{}, false
	}
	return m, true
}

const (
	magic       = "glibc-ld.so.cache1.1"
	headerSize  = 48
	entrySize   = 24
	littleOrder = 2 // cache_file_new_flags_endian_little
	bigOrder    = 3

	// Behind the strings stands, at a multiple of 4, a list of sections ("struct
	// cache_extension"): here one, of the names of subfolders, which entries refer to.
	extensionMagic    = 0xeaa42174
	sectionSubfolders = 1       // cache_extension_tag_glibc_hwcaps
	inSubfolder       = 1 << 62 // DL_CACHE_HWCAP_EXTENSION, in the field of an entry with the number of the name
)

// Marshal gives the file. Of entries of one name the earlier one is found, but first
// those in subfolders of glibc-hwcaps that the processor can do. The same entries give
// the same bytes.
func Marshal(m Machine, entries []Entry) ([]byte, error) {
	if m.order == nil {
		return nil, fmt.Errorf("write ld.so.cache: no machine is said")
	}
	sorted := slices.Clone(entries)
	// The loader halves a list that is sorted downwards.
	slices.SortStableFunc(sorted, func(a, b Entry) int {
		if c := Compare(b.Name, a.Name); c != 0 || a.Subfolder == b.Subfolder {
			return c
		}
		// It looks no further than the first one that is in no subfolder.
		if a.Subfolder == "" || b.Subfolder == "" {
			return -cmp.Compare(a.Subfolder, b.Subfolder)
		}
		return cmp.Compare(a.Subfolder, b.Subfolder)
	})
	var subfolders []string
	for _, e := range sorted {
		if e.Subfolder != "" && !slices.Contains(subfolders, e.Subfolder) {
			subfolders = append(subfolders, e.Subfolder)
		}
	}
	slices.Sort(subfolders)
	start := headerSize + entrySize*len(sorted)
	var strings bytes.Buffer
	at := map[string]uint32{}
	place := func(s string) uint32 {
		if p, there := at[s]; there {
			return p
		}
		p := uint32(start + strings.Len())
		at[s] = p
		strings.WriteString(s)
		strings.WriteByte(0)
		return p
	}
	file := make([]byte, 0, start)
	file = append(file, magic...)
	body := make([]byte, 0, entrySize*len(sorted))
	for _, e := range sorted {
		if e.Name == "" || e.Path == "" || bytes.ContainsRune([]byte(e.Name+e.Path+e.Subfolder), 0) {
			return nil, fmt.Errorf("write ld.so.cache: library %q at %q", e.Name, e.Path)
		}
		body = m.order.AppendUint32(body, uint32(m.flags))
		body = m.order.AppendUint32(body, place(e.Name))
		body = m.order.AppendUint32(body, place(e.Path))
		body = m.order.AppendUint32(body, 0) // the oldest kernel, which is not asked any more
		processor := uint64(0)               // any
		if e.Subfolder != "" {
			processor = inSubfolder | uint64(slices.Index(subfolders, e.Subfolder))
		}
		body = m.order.AppendUint64(body, processor)
	}
	var names []byte
	for _, s := range subfolders {
		names = m.order.AppendUint32(names, place(s))
	}
	file = m.order.AppendUint32(file, uint32(len(sorted)))
	file = m.order.AppendUint32(file, uint32(strings.Len()))
	order := byte(littleOrder)
	if m.order == binary.AppendByteOrder(binary.BigEndian) {
		order = bigOrder
	}
	file = append(file, order, 0, 0, 0)
	behind := 0 // where the sections are; none
	end := start + strings.Len()
	if len(subfolders) > 0 {
		behind = (end + 3) &^ 3
	}
	file = m.order.AppendUint32(file, uint32(behind))
	file = append(file, make([]byte, headerSize-len(file))...) // nothing unused
	file = slices.Concat(file, body, strings.Bytes())
	if behind == 0 {
		return file, nil
	}
	file = append(file, make([]byte, behind-end)...)
	const directory, section = 8, 16 // bytes
	for _, field := range []int{extensionMagic, 1, sectionSubfolders, 0, behind + directory + section, len(names)} {
		file = m.order.AppendUint32(file, uint32(field))
	}
	return append(file, names...), nil
}

// Compare orders the names of libraries as the loader does (_dl_cache_libcmp): digits
// by the number that they make.
func Compare(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		switch {
		case x > 0 && y > 0:
			if c := compareNumbers(a[:x], b[:y]); c != 0 {
				return c
			}
			a, b = a[x:], b[y:]
		case x > 0:
			return 1
		case y > 0:
			return -1
		case a[0] != b[0]:
			return cmp.Compare(a[0], b[0])
		default:
			a, b = a[1:], b[1:]
		}
	}
	return cmp.Compare(len(a), len(b))
}

// digits counts the digits that a text begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

func compareNumbers(a, b string) int {
	trim := func(s string) string {
		for len(s) > 1 && s[0] == '0' {
			s = s[1:]
		}
		return s
	}
	a, b = trim(a), trim(b)
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
