package recipes_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/recipes"
)

// Of several files the earlier ones count.
func TestLoadEnv(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	first := write("build-x86_64.env", "# of this architecture\n\nexport A=1\r\nB = two words # and a comment\nEMPTY=\nQ='# $A'\nD=\"x\\ny\"\nM=\"first\nsecond\"\nGOFLAGS=\"\"\n")
	second := write("build-common.env", "A=2\nC=3\n")
	got, err := recipes.LoadEnv(first, second)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"A": "1", "B": "two words", "EMPTY": "", "Q": "# $A", "D": "x\ny", "M": "first\nsecond", "GOFLAGS": "", "C": "3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	// What is wrong has a line, and no message shows a value.
	for text, line := range map[string]string{
		"A=1\nTOKEN hunter2\nB=2\n":          "bad.env:2: ",
		"A=1\nB=\"x\ny\"\n\nTOKEN=\"hunter2": "bad.env:5: ",
		"=hunter2\n":                         "bad.env: ",
	} {
		bad := write("bad.env", text)
		_, err := recipes.LoadEnv(first, bad)
		if err == nil {
			t.Errorf("%q was taken", text)
			continue
		}
		if got := strings.TrimPrefix(err.Error(), dir+"/"); !strings.HasPrefix(got, line) || strings.Contains(got, "hunter2") {
			t.Errorf("%q: got %q, want %s and no value", text, got, line)
		}
	}
	if _, err := recipes.LoadEnv(filepath.Join(dir, "none.env")); err == nil {
		t.Error("a file that is not there was taken")
	}
}
