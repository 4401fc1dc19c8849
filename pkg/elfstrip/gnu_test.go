package elfstrip

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tool says where a program of binutils or gcc is; a test that needs it skips without,
// or fails in CI.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is absent (Debian's package %s)", name, pkg)
		}
		t.Skipf("%s is absent (Debian's package %s)", name, pkg)
	}
	return program
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const source = `
#include <stdio.h>
#include <stdlib.h>
__thread int counter = 3;
static int hidden(int n) { return n ? hidden(n - 1) + counter : 0; }
__attribute__((weak)) int weak(void) { return 7; }
int global(int n) { return hidden(n); }
__attribute__((constructor)) static void before(void) { counter = 4; }
int main(int argc, char **argv) { printf("%d %d\n", global(5), weak()); return argc - 1; }
`

const sourceCXX = `
#include <cstdio>
#include <stdexcept>
#include <string>
thread_local int counter = 3;
struct thing { std::string name; ~thing() { std::printf("gone %s\n", name.c_str()); } };
static int deep(int n) { thing t{"t"}; if (n == 0) throw std::runtime_error("deep"); return deep(n - 1) + counter; }
int main() { try { return deep(2); } catch (std::exception &e) { std::printf("caught %s\n", e.what()); return 0; } }
`

// programs builds programs and libraries of every kind that the compiler here makes:
// name -> path.
func programs(t testing.TB) map[string]string {
	t.Helper()
	gcc := tool(t, "gcc", "gcc")
	dir := t.TempDir()
	c, cxx, asm := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.cpp"), filepath.Join(dir, "plain.c")
	for name, text := range map[string]string{c: source, cxx: sourceCXX, asm: "void _start(void) { for (;;) ; }\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{}
	build := func(name string, args ...string) {
		out := filepath.Join(dir, name)
		if text, err := exec.Command(gcc, append([]string{"-g", "-o", out}, args...)...).CombinedOutput(); err != nil {
			t.Logf("%s is not built here: %v\n%s", name, err, text)
			return
		}
		all[name] = out
	}
	build("pie", c)
	build("relro", "-O2", "-Wl,-z,relro,-z,now,--hash-style=gnu,--build-id", c)
	build("fixed", "-no-pie", c)
	build("static", "-static", c)
	build("static-pie", "-static-pie", c)
	build("shared", "-shared", "-fPIC", "-Wl,-soname,libx.so.1", c)
	build("both-hashes", "-Wl,--hash-style=both", c)
	build("relocations", "-Wl,--emit-relocs", c)
	build("compressed", "-gz=zlib", c)
	build("plain", "-nostdlib", "-static", "-no-pie", asm)
	build("plain-32", "-m32", "-nostdlib", "-static", "-no-pie", asm)
	build("shared-32", "-m32", "-nostdlib", "-shared", "-fPIC", asm)
	build("no-symbols", "-s", c)
	if _, err := exec.LookPath("g++"); err == nil {
		build("c++", "-x", "c++", cxx, "-lstdc++")
	} else if os.Getenv("CI") == "true" {
		t.Fatal("g++ is absent (Debian's package g++)")
	}
	if len(all) < 10 {
		t.Fatalf("only %d programs could be built", len(all))
	}
	return all
}

// strip strips a file with us, into another.
func strip(t testing.TB, from, to string, o Options) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Read(in, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	image, err := f.Strip(o)
	if err != nil {
		t.Fatal(err)
	}
	if image == nil {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	save(t, image, to)
}

func save(t testing.TB, image *Image, to string) {
	t.Helper()
	var b bytes.Buffer
	n, err := image.WriteTo(&b)
	if err != nil {
		t.Fatal(err)
	}
	if n != image.Size() || int64(b.Len()) != n {
		t.Fatalf("wrote %d bytes, which are %d, of %d", n, b.Len(), image.Size())
	}
	if err := os.WriteFile(to, b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
}

// describe tells of a file what matters: each section but for tables of names, each symbol, and
// each segment with its bytes.
func describe(t testing.TB, name string) (sections, symbols, segments []string) {
	t.Helper()
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := func(i uint32) string {
		if int(i) < len(f.Sections) {
			return f.Sections[i].Name
		}
		return elf.SectionIndex(i).String()
	}
	for _, s := range f.Sections {
		line := fmt.Sprintf("%s %v %v addr %x link %s align %d entry %d", s.Name, s.Type, s.Flags, s.Addr, at(s.Link), s.Addralign, s.Entsize)
		switch {
		case s.Flags&elf.SHF_ALLOC != 0:
			line += fmt.Sprintf(" offset %x size %x info %d", s.Offset, s.FileSize, s.Info)
		case s.Type == elf.SHT_SYMTAB:
			line += fmt.Sprintf(" size %x info %d", s.FileSize, s.Info)
		case s.Type == elf.SHT_REL || s.Type == elf.SHT_RELA:
			line += fmt.Sprintf(" size %x info %s", s.FileSize, at(s.Info))
		case s.Type != elf.SHT_STRTAB && s.Type != elf.SHT_NULL:
			line += fmt.Sprintf(" size %x info %d", s.FileSize, s.Info)
		}
		sections = append(sections, line)
	}
	slices.Sort(sections) // where new ones stand among the others does not matter
	list, err := f.Symbols()
	if err != nil && err != elf.ErrNoSymbols {
		t.Fatal(err)
	}
	for _, s := range list {
		if int(s.Section) < len(f.Sections) && f.Sections[s.Section].Flags&elf.SHF_TLS != 0 && elf.ST_TYPE(s.Info) == elf.STT_NOTYPE {
			s.Info |= uint8(elf.STT_TLS) // binutils make every symbol of such a section one of its type
		}
		symbols = append(symbols, fmt.Sprintf("%s %x %x %s %x %x", s.Name, s.Info, s.Other, at(uint32(s.Section)), s.Value, s.Size))
	}
	for _, p := range f.Progs {
		var data bytes.Buffer
		if _, err := data.ReadFrom(p.Open()); err != nil {
			t.Fatal(err)
		}
		b := data.Bytes()
		if p.Off == 0 && len(b) >= 64 {
			clear(b[:64]) // the header says where the table of sections is
		}
		segments = append(segments, fmt.Sprintf("%+v %x", p.ProgHeader, b))
	}
	return sections, symbols, segments
}

// What is left of a program is what binutils' strip leaves, and it runs.
func TestAsBinutils(t *testing.T) {
	theirStrip, readelf := tool(t, "strip", "binutils"), tool(t, "readelf", "binutils")
	dir := t.TempDir()
	for name, program := range programs(t) {
		for _, options := range []string{"-g", "--strip-unneeded", "-s", "-x", "-X", "-g -x", "-g -R .comment", "-s -K global -K nothing", "-g -N hidden", "-w -g -N h* -N !hi*",
			"-g --keep-section=.debug_line", "-s --keep-file-symbols", "-N weak"} {
			t.Run(name+" "+options, func(t *testing.T) {
				o, err := ParseOptions(strings.Fields(options))
				if err != nil {
					t.Fatal(err)
				}
				ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
				strip(t, program, ours, o)
				if name == "relocations" && strings.Contains(options, "-s -K") {
					t.Skip("strip keeps relocations of the symbols that are kept; here -s takes all of them")
				}
				if out, err := exec.Command(theirStrip, append(strings.Fields(options), "-o", theirs, program)...).CombinedOutput(); err != nil {
					if name != "relocations" {
						t.Fatalf("%v\n%s", err, out)
					}
					t.Skipf("strip refuses what would leave relocations of nothing: %s", out)
				}
				gotSections, gotSymbols, gotSegments := describe(t, ours)
				wantSections, wantSymbols, wantSegments := describe(t, theirs)
				if diff := cmp.Diff(wantSections, gotSections); diff != "" {
					t.Errorf("sections (-theirs +ours):\n%s", diff)
				}
				if diff := cmp.Diff(wantSymbols, gotSymbols); diff != "" {
					t.Errorf("symbols (-theirs +ours):\n%s", diff)
				}
				if diff := cmp.Diff(wantSegments, gotSegments); diff != "" {
					t.Errorf("segments (-theirs +ours):\n%s", diff)
				}
				if said := run(t, readelf, "-aW", ours); strings.Contains(strings.ToLower(said), "warning") || strings.Contains(said, "Error") {
					t.Errorf("readelf: %s", said)
				}
				before, err := os.Stat(theirs)
				if err != nil {
					t.Fatal(err)
				}
				if after, err := os.Stat(ours); err != nil || after.Size() > before.Size()+64 {
					t.Errorf("%v, %v, and binutils' has %d bytes", after, err, before.Size())
				}
				again := filepath.Join(dir, "again")
				strip(t, ours, again, o)
				if a, b := read(t, ours), read(t, again); !bytes.Equal(a, b) {
					t.Error("stripping it again gives other bytes")
				}
				runs(t, name, program, ours)
			})
		}
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// runs holds that a program says the same as before.
func runs(t *testing.T, name, before, after string) {
	t.Helper()
	if strings.HasPrefix(name, "shared") || strings.HasPrefix(name, "plain") {
		return
	}
	if want, got := run(t, before), run(t, after); want != got {
		t.Errorf("it says %q, and before %q", got, want)
	}
}

// A debugger finds what was taken from a program in the file beside it, by the link.
func TestDebugFile(t *testing.T) {
	objcopy, readelf, addr2line := tool(t, "objcopy", "binutils"), tool(t, "readelf", "binutils"), tool(t, "addr2line", "binutils")
	for name, program := range programs(t) {
		if name == "no-symbols" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in, err := os.Open(program)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			info, err := in.Stat()
			if err != nil {
				t.Fatal(err)
			}
			f, err := Read(in, info.Size())
			if err != nil {
				t.Fatal(err)
			}
			image, err := f.DebugOnly()
			if err != nil {
				t.Fatal(err)
			}
			crc, err := image.CRC()
			if err != nil {
				t.Fatal(err)
			}
			debug, theirs := filepath.Join(dir, "program.debug"), filepath.Join(dir, "theirs")
			save(t, image, debug)
			run(t, objcopy, "--only-keep-debug", program, theirs)
			got, gotSymbols, _ := describe(t, debug)
			want, wantSymbols, _ := describe(t, theirs)
			// Where that is which is not there does not matter.
			place := regexp.MustCompile(` offset [0-9a-f]+ size [0-9a-f]+`)
			for _, list := range [][]string{got, want} {
				for i := range list {
					list[i] = place.ReplaceAllString(list[i], "")
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("sections (-theirs +ours):\n%s", diff)
			}
			if diff := cmp.Diff(wantSymbols, gotSymbols); diff != "" {
				t.Errorf("symbols (-theirs +ours):\n%s", diff)
			}
			if said := run(t, readelf, "-aW", debug); strings.Contains(strings.ToLower(said), "warning") {
				t.Errorf("readelf: %s", said)
			}
			notes := func(name string) string {
				out, err := exec.Command(readelf, "-nW", name).Output() // it complains of the interpreter that is not there
				if err != nil {
					t.Fatal(err)
				}
				return string(out)
			}
			if a, b := notes(debug), notes(program); a != b {
				t.Errorf("the notes are %s, and before %s", a, b)
			}
			stripped := filepath.Join(dir, "program")
			strip(t, program, stripped, Options{Level: Unneeded, RemoveSections: []string{".comment"}, Link: &Link{"program.debug", crc}})
			runs(t, name, program, stripped)
			if sections, _, _ := describe(t, stripped); slices.ContainsFunc(sections, func(s string) bool { return strings.HasPrefix(s, ".debug") || strings.HasPrefix(s, ".comment") }) {
				t.Errorf("left: %v", sections)
			}
			if strings.HasPrefix(name, "plain") || name == "shared-32" {
				return
			}
			symbols, err := elf.Open(debug)
			if err != nil {
				t.Fatal(err)
			}
			defer symbols.Close()
			list, err := symbols.Symbols()
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(list, func(s elf.Symbol) bool { return s.Name == "main" })
			address := fmt.Sprintf("%#x", list[at].Value)
			if a, b := run(t, addr2line, "-f", "-e", stripped, address), run(t, addr2line, "-f", "-e", program, address); a != b || !strings.Contains(a, ".c") {
				t.Errorf("addr2line by the link: %q, and before %q", a, b)
			}
			if gdb, err := exec.LookPath("gdb"); err == nil {
				out := run(t, gdb, "-batch", "-nx", "-ex", "info line main", stripped)
				if !strings.Contains(out, `of "`+dirOf(program)) && !strings.Contains(out, "starts at address") {
					t.Errorf("gdb: %s", out)
				}
			}
		})
	}
}

func dirOf(program string) string { return filepath.Dir(program) }

// Go's linker lays programs out in its own way, with and without debugging information.
func TestGoProgram(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module a\n", "main.go": "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, flags := range []string{"", "-w", "-s -w"} {
		program := filepath.Join(dir, "program")
		build := exec.Command(tool(t, "go", "golang-go"), "build", "-ldflags="+flags, "-o", program, ".")
		build.Dir = dir
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for level := Debug; level <= All; level++ {
			stripped := filepath.Join(dir, "stripped")
			strip(t, program, stripped, Options{Level: level})
			runs(t, "go", program, stripped)
			sections, symbols, _ := describe(t, stripped)
			if slices.ContainsFunc(sections, func(s string) bool { return strings.HasPrefix(s, ".debug") }) || level > Debug && len(symbols) > 0 {
				t.Errorf("%q, level %d: left are %v and %d symbols", flags, level, sections, len(symbols))
			}
		}
	}
}
