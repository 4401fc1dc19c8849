package recipes_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// Each recipe of testdata/mistakes.txtar is refused with exactly the words beside it.
func TestMistakes(t *testing.T) {
	file := filepath.Join("testdata", "mistakes.txtar")
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, f := range archive.Files {
		files[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	below, err := fs.Sub(files, "pipelines")
	if err != nil {
		t.Fatal(err)
	}
	pipelines := recipes.NewPipelines(recipes.Dir{Path: "pipelines", FS: below})
	for i := range archive.Files {
		f := &archive.Files[i]
		name, ok := strings.CutSuffix(f.Name, ".txt")
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r, err := recipes.Load(files, name+".yaml")
			if r != nil {
				_, err = recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, pipelines)
			}
			if err == nil {
				t.Fatal("no mistake was found")
			}
			got := err.Error() + "\n"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				f.Data = []byte(got)
			}
			if diff := cmp.Diff(string(f.Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
