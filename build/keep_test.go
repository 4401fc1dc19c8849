package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
)

// A step of root's may leave a setuid program in the work folder; nobody else of the
// machine may come by it.
func TestWorkFolderIsPrivate(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	w, err := (&Builder{Store: st}).newWork("x")
	if err != nil {
		t.Fatal(err)
	}
	defer w.release()
	info, err := os.Stat(filepath.Dir(w.dir))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder around it: got %v, %v; want 0700", info.Mode(), err)
	}
}

func TestStepNumber(t *testing.T) {
	s := &recipes.Script{Name: "x", Packages: []recipes.Output{
		{Steps: []recipes.Step{{At: "pipeline/0"}, {At: "pipeline/1"}}},
		{Steps: []recipes.Step{{At: "subpackage:x-dev/0"}}},
	}}
	for name, want := range map[string]int{"1": 0, "3": 2, "pipeline/1": 1, "subpackage:x-dev/0": 2, "0": -1, "4": -1, "-1": -1, "pipeline": -1} {
		got, err := stepNumber(s, name)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, %v; want %d", name, got, err, want)
		}
	}
}
