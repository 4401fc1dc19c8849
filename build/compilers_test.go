package build

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

func notedPlan(packages ...string) *plan.Plan {
	p := &plan.Plan{Script: &recipes.Script{Name: "zlib", Version: "1.3.1-r0", Arch: "x86_64", Namespace: `w"o'l%f}i`, Packages: []recipes.Output{{Name: "zlib", CPE: "cpe:2.3:a:zlib:zlib:1.3.1:*:*:*:*:*:*:*"}}}}
	for _, name := range packages {
		var locked repo.Locked
		locked.Name = name
		p.Environment = append(p.Environment, locked)
	}
	return p
}

// The compilers find their settings where they look, and no other environment has them.
func TestCompilerFiles(t *testing.T) {
	if got := compilerFiles(notedPlan("gcc", "busybox", "clang-19-dev")); len(got) > 0 {
		t.Errorf("files that nobody asks for: %v", got)
	}
	got := compilerFiles(notedPlan("openssf-compiler-options", "clang-19"))
	want := []string{
		".config/clang-19/aarch64-unknown-linux-gnu-clang++.cfg", ".config/clang-19/aarch64-unknown-linux-gnu-clang.cfg",
		".config/clang-19/x86_64-unknown-linux-gnu-clang++.cfg", ".config/clang-19/x86_64-unknown-linux-gnu-clang.cfg",
		".melange.clang.cfg", ".melange.fdo.h", ".melange.gcc.spec",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	const note = `{"type":"apk","os":"w_o_l_f_i","name":"zlib","version":"1.3.1-r0","architecture":"x86_64","appCpe":"cpe:2.3:a:zlib:zlib:1.3.1:*:*:*:*:*:*:*"}`
	if got[".melange.gcc.spec"] != "*link:\n+ %{!r:--package-metadata="+note+"}\n" {
		t.Errorf("gcc's: %s", got[".melange.gcc.spec"])
	}
	if got[".melange.clang.cfg"] != "-Xlinker --package-metadata='"+note+"'\n" {
		t.Errorf("clang's: %s", got[".melange.clang.cfg"])
	}
	if text := got[".config/clang-19/x86_64-unknown-linux-gnu-clang++.cfg"]; text != "@../../.melange.clang.cfg\n@/etc/clang-19/x86_64-unknown-linux-gnu-clang++.cfg\n" {
		t.Errorf("clang 19's: %s", text)
	}
}

// What includes the header bears the note that readers of notes expect.
func TestNoteHeader(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("there is no gcc")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.h"), []byte(compilerFiles(notedPlan(hardening))[".melange.fdo.h"]), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.c"), []byte("#include \"a.h\"\n#include \"a.h\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	object := filepath.Join(dir, "a.o")
	if out, err := exec.Command(gcc, "-Wall", "-Werror", "-Wno-attributes", "-c", "-o", object, filepath.Join(dir, "a.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(data); !strings.Contains(text, "\x7e\x1a\xfe\xcaFDO\x00{\"type\":\"apk\"") || !strings.Contains(text, ".note.package") {
		t.Error("the object bears no note")
	}
}
