package step

import (
	"bytes"
	"context"
	"debug/elf"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// program is a small program of this machine with all its debugging information: hello, written in C
// where there is a compiler, else the test itself.
func program(t *testing.T) []byte {
	t.Helper()
	name := "/proc/self/exe"
	if gcc, err := exec.LookPath("gcc"); err == nil {
		dir := t.TempDir()
		source := filepath.Join(dir, "a.c")
		name = filepath.Join(dir, "a")
		if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(gcc, "-g", "-o", name, source).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func hostContext(t *testing.T, root *os.Root, log io.Writer) Context {
	t.Helper()
	host, err := apk.ParseArch("host")
	if err != nil {
		t.Fatal(err)
	}
	return Context{Work: root, Log: log, Main: "z", Arch: host}
}

// debugged says which files of a folder hold debugging sections.
func debugged(t *testing.T, root *os.Root) (names []string) {
	t.Helper()
	err := fs.WalkDir(root.FS(), OutPath, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(root.Name(), name))
		if err != nil {
			return err
		}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return nil
		}
		if slices.ContainsFunc(f.Sections, func(s *elf.Section) bool { return strings.HasPrefix(s.Name, ".debug_") && s.Type != elf.SHT_NOBITS }) {
			names = append(names, strings.TrimPrefix(name, OutPath+"/"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Programs and libraries of the machine are stripped, each file once and under all its names,
// also those that nobody may write or read; all else stays as it is.
func TestStrip(t *testing.T) {
	data := program(t)
	root := tree(t, "z/usr/share/text", "z/usr/lib/")
	lib := OutPath + "/z/usr/lib/"
	object, foreign, sectionless := slices.Clone(data), slices.Clone(data), slices.Clone(data)
	object[16] = 1  // ET_REL
	foreign[18] = 8 // MIPS
	clear(sectionless[40:48])
	clear(sectionless[58:64]) // no section headers
	for name, b := range map[string][]byte{"program": data, "secret": data, "object.o": object, "foreign": foreign, "section-less": sectionless, "short": data[:10]} {
		if err := root.WriteFile(lib+name, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := root.Link(lib+"program", lib+"same"); err != nil {
		t.Fatal(err)
	}
	modes := map[string]fs.FileMode{"program": 0o555, "secret": 0o111 | fs.ModeSetuid}
	for name, mode := range modes {
		if err := root.Chmod(lib+name, mode); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	if err := Do(context.Background(), hostContext(t, root, &log), recipes.Step{Native: "strip", Package: "z", Inputs: map[string]string{"opts": "-g"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := debugged(t, root), []string{"z/usr/lib/foreign", "z/usr/lib/object.o"}; !slices.Equal(got, want) {
		t.Errorf("debugging information is in %v, want %v", got, want)
	}
	if got, want := log.String(), "melange-out/z/usr/lib/section-less stays as it is: it has no section headers\n"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
	for name, mode := range modes {
		if info, err := root.Stat(lib + name); err != nil || info.Mode() != mode {
			t.Errorf("%s: the mode is %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}
	a, err := root.Stat(lib + "program")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := root.Stat(lib + "same"); err != nil || !os.SameFile(a, b) || a.Size() >= int64(len(data)) {
		t.Errorf("the two names are of files of %d and %d bytes, %v", a.Size(), b.Size(), err)
	}
	if entries, err := fs.ReadDir(root.FS(), "."); err != nil || len(entries) != 1 {
		t.Errorf("beside %s: %v, %v", OutPath, entries, err)
	}
}

func TestStripRefuses(t *testing.T) {
	root := tree(t, "z/x")
	if err := root.WriteFile(OutPath+"/z/broken", program(t)[:1000], 0o755); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]string{
		"--only-keep-debug": "strip: option --only-keep-debug is not known",
		"-g; reboot":        "strip: option -g; is not known",
		"-g":                "strip broken: the segment of ",
	} {
		err := Do(context.Background(), hostContext(t, root, nil), recipes.Step{Native: "strip", Package: "z", Inputs: map[string]string{"opts": options}})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", options, err, want)
		}
	}
	c := hostContext(t, root, nil)
	c.Arch = "riscv64"
	if err := Do(context.Background(), c, recipes.Step{Native: "strip", Package: "z", Inputs: map[string]string{"opts": "-g"}}); err == nil || err.Error() != "strip does not know the architecture riscv64" {
		t.Errorf("of another architecture: %v", err)
	}
}

// What is taken from a program lies in a file of another package, which the program names.
func TestSplitDebug(t *testing.T) {
	data := program(t)
	root := tree(t, "z/usr/lib/", "z-dbg/")
	for name, mode := range map[string]fs.FileMode{"usr/lib/libz.so.1": 0o555, "usr/bin/z": 0o755} {
		if err := root.MkdirAll(filepath.Dir(OutPath+"/z/"+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := root.WriteFile(OutPath+"/z/"+name, data, mode); err != nil {
			t.Fatal(err)
		}
	}
	fixed := slices.Clone(data)
	fixed[16] = 2 // ET_EXEC, which melange leaves
	if err := root.WriteFile(OutPath+"/z/usr/bin/fixed", fixed, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := root.Symlink("libz.so.1", OutPath+"/z/usr/lib/libz.so"); err != nil {
		t.Fatal(err)
	}
	if err := Do(context.Background(), hostContext(t, root, nil), recipes.Step{Native: "split/debug", Package: "z-dbg"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"z/usr/bin/fixed", "z-dbg/usr/lib/debug/usr/bin/z.debug", "z-dbg/usr/lib/debug/usr/lib/libz.so.1.debug"}
	if got := debugged(t, root); !slices.Equal(got, want) {
		t.Errorf("debugging information is in %v, want %v", got, want)
	}
	if info, err := root.Stat(OutPath + "/" + want[1]); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	stripped, err := root.ReadFile(OutPath + "/z/usr/lib/libz.so.1")
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(stripped))
	if err != nil {
		t.Fatal(err)
	}
	link := f.Section(".gnu_debuglink")
	if link == nil {
		t.Fatal("the library has no link to its debugging information")
	}
	if text, err := link.Data(); err != nil || !bytes.HasPrefix(text, []byte("libz.so.1.debug\x00")) {
		t.Errorf("the link is %q, %v", text, err)
	}
	if f.Section(".comment") != nil || f.Section(".symtab") != nil {
		t.Error("sections that nothing needs are left")
	}
}
