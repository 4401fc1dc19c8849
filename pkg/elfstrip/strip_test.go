package elfstrip

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseOptions(t *testing.T) {
	for _, test := range []struct {
		text  string
		want  Options
		fails string
	}{
		{"", Options{Level: All}, ""},
		{"-g", Options{Level: Debug}, ""},
		{"-S", Options{Level: Debug}, ""},
		{"-d", Options{Level: Debug}, ""},
		{"--strip-debug", Options{Level: Debug}, ""},
		{"--strip-unneeded", Options{Level: Unneeded}, ""},
		{"-s", Options{Level: All}, ""},
		{"--strip-all -p", Options{Level: All, PreserveDates: true}, ""},
		{"-x", Options{DiscardAll: true}, ""},
		{"-gXpD", Options{Level: Debug, DiscardLocals: true, PreserveDates: true}, ""},
		{"-g -K main -Kexit --keep-symbol=a --keep-symbol b", Options{Level: Debug, KeepSymbols: []string{"main", "exit", "a", "b"}}, ""},
		{"-N x", Options{StripSymbols: []string{"x"}}, ""},
		{"-w -N x*", Options{Wildcards: true, StripSymbols: []string{"x*"}}, ""},
		{"-R .comment", Options{Level: All, RemoveSections: []string{".comment"}}, ""},
		{"-g --remove-section=.note* --keep-section .debug_frame", Options{Level: Debug, RemoveSections: []string{".note*"}, KeepSections: []string{".debug_frame"}}, ""},
		{"-g --keep-file-symbols", Options{Level: Debug, KeepFileSymbols: true}, ""},
		{"--only-keep-debug", Options{}, "option --only-keep-debug is not known"},
		{"-o x", Options{}, "option -o is not known"},
		{"-K", Options{}, "option -K wants a name"},
		{"--strip-all=x", Options{}, "option --strip-all takes no value"},
		{"program", Options{}, `"program" is no option`},
		{"-R [", Options{}, `pattern "[" is malformed`},
	} {
		got, err := ParseOptions(strings.Fields(test.text))
		if test.fails != "" {
			if err == nil || !strings.HasPrefix(err.Error(), test.fails) {
				t.Errorf("%q: got %v, want %q", test.text, err, test.fails)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
		} else if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.text, diff)
		}
	}
}

// tiny makes a program of five sections: code, debugging information, two symbols.
func tiny(wide bool) []byte {
	f := &File{order: binary.LittleEndian, wide: wide}
	o := binary.LittleEndian
	ident := []byte{0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	word := func(b []byte, v uint64) []byte { return o.AppendUint32(b, uint32(v)) }
	head, programHeader := 52, 32
	if wide {
		ident[4] = 2
		word = o.AppendUint64
		head, programHeader = 64, 56
	}
	_, names := makeNames([]string{".text", ".debug_info", ".symtab", ".strtab"})
	index, _ := makeNames([]string{".text", ".debug_info", ".symtab", ".strtab"})
	_, symbolNames := makeNames([]string{"local", "global"})
	symbolIndex, _ := makeNames([]string{"local", "global"})
	symbols := make([]byte, 3*f.symbolSize())
	for i, name := range []string{"", "local", "global"} {
		b := symbols[i*int(f.symbolSize()):]
		f.place(b, symbolIndex[name], elf.SectionIndex(min(i, 1)))
		if name == "global" {
			at := 12
			if wide {
				at = 4
			}
			b[at] = 0x12
		}
	}
	start := uint64(head + programHeader)
	contents := [][]byte{nil, {0xeb, 0xfe, 0x90, 0x90}, []byte("debug!!!"), symbols, symbolNames, names}
	sections := []section{{},
		{name: ".text", kind: elf.SHT_PROGBITS, flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, addr: 0x1000 + start, align: 4},
		{name: ".debug_info", kind: elf.SHT_PROGBITS, align: 1},
		{name: ".symtab", kind: elf.SHT_SYMTAB, link: 4, info: 2, align: 8, entry: f.symbolSize()},
		{name: ".strtab", kind: elf.SHT_STRTAB, align: 1},
		{kind: elf.SHT_STRTAB, align: 1}}
	var body, headers []byte
	for i := range sections {
		sections[i].nameAt, sections[i].offset, sections[i].size = index[sections[i].name], start+uint64(len(body)), uint64(len(contents[i]))
		body = append(body, contents[i]...)
		headers = f.encode(headers, sections[i])
	}
	b := o.AppendUint16(ident, uint16(elf.ET_EXEC))
	b = o.AppendUint16(b, uint16(elf.EM_X86_64))
	b = o.AppendUint32(b, 1)
	for _, v := range []uint64{0x1000 + start, uint64(head), start + uint64(len(body))} {
		b = word(b, v)
	}
	b = o.AppendUint32(b, 0)
	for _, v := range []uint16{uint16(head), uint16(programHeader), 1, uint16(f.headerSize()), uint16(len(sections)), 5} {
		b = o.AppendUint16(b, v)
	}
	b = o.AppendUint32(b, uint32(elf.PT_LOAD))
	if wide {
		b = o.AppendUint32(b, uint32(elf.PF_R|elf.PF_X))
	}
	for _, v := range []uint64{0, 0x1000, 0x1000, start + 4, start + 4} {
		b = word(b, v)
	}
	if !wide {
		b = o.AppendUint32(b, uint32(elf.PF_R|elf.PF_X))
	}
	b = word(b, 0x1000)
	return append(append(b, body...), headers...)
}

// Of a small program each level leaves what it should.
func TestLevels(t *testing.T) {
	for _, wide := range []bool{true, false} {
		for level, want := range map[Level]string{Nothing: ".debug_info local global", Debug: "local global", Unneeded: "", All: ""} {
			data := tiny(wide)
			f, err := Read(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			image, err := f.Strip(Options{Level: level})
			if err != nil {
				t.Fatal(err)
			}
			if image != nil {
				var b bytes.Buffer
				if _, err := image.WriteTo(&b); err != nil {
					t.Fatal(err)
				}
				data = b.Bytes()
			}
			e, err := elf.NewFile(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if e.Section(".debug_info") != nil {
				got = append(got, ".debug_info")
			}
			symbols, err := e.Symbols()
			if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
				t.Fatal(err)
			}
			for _, s := range symbols {
				if s.Section != 1 {
					t.Errorf("%s is of section %d", s.Name, s.Section)
				}
				got = append(got, s.Name)
			}
			if text := strings.Join(got, " "); text != want {
				t.Errorf("64 bits %v, level %d: left are %q, want %q", wide, level, text, want)
			}
		}
	}
}

// What can't be done is said, and what is no program is no program.
func TestRefused(t *testing.T) {
	data := tiny(true)
	f, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Strip(Options{RemoveSections: []string{".te*", ".comment"}}); err == nil || err.Error() != ".text is loaded when the program runs, and can't be taken from it" {
		t.Errorf("taking .text: %v", err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"it is no ELF file":                             func(b []byte) []byte { return []byte("#!/bin/sh\n") },
		"it has no section headers":                     func(b []byte) []byte { clear(b[40:48]); clear(b[60:64]); return b },
		"it is of the type ET_REL":                      func(b []byte) []byte { b[16] = 1; return b },
		"section headers: ":                             func(b []byte) []byte { return b[:len(b)-10] },
		"it does not say where its sections' names are": func(b []byte) []byte { b[62] = 255; return b },
		"it has more sections than a header can count":  func(b []byte) []byte { clear(b[60:62]); return b },
		"it is neither of 32 nor of 64 bits":            func(b []byte) []byte { b[4] = 9; return b },
	} {
		changed := change(bytes.Clone(data))
		if _, err := Read(bytes.NewReader(changed), int64(len(changed))); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

// Whatever the bytes are, nothing crashes, and what comes out of a file is a file that
// can be read and has no more to take.
func FuzzStrip(f *testing.F) {
	for _, wide := range []bool{true, false} {
		f.Add(tiny(wide), byte(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, how byte) {
		file, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		o := Options{Level: Level(how % 4), DiscardAll: how&4 != 0}
		if how&8 != 0 {
			o.RemoveSections = []string{".c*"}
		}
		strip := func(f *File) (*Image, error) { return f.Strip(o) }
		for i, make := range []func(*File) (*Image, error){strip, (*File).DebugOnly} {
			image, err := make(file)
			if err != nil || image == nil || image.Size() > int64(len(data))+1<<22 {
				continue
			}
			var b bytes.Buffer
			if _, err := image.WriteTo(&b); err != nil {
				continue // sections that overlap
			}
			again, err := Read(bytes.NewReader(b.Bytes()), int64(b.Len()))
			if err != nil {
				t.Fatalf("what was written is not read: %v", err)
			}
			if _, err := again.Strip(o); err != nil && i == 0 {
				t.Fatalf("what was written is not stripped: %v", err)
			}
		}
	})
}
