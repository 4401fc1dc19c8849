package recipes_test

import (
	"encoding/json"
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

// Each recipe of testdata/listings.txtar becomes what stands beside it: NAME.json, and
// NAME+OPTION.json with a build option.
func TestListings(t *testing.T) {
	file := filepath.Join("testdata", "listings.txtar")
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files, below := fstest.MapFS{}, fstest.MapFS{}
	for _, f := range archive.Files {
		if name, ok := strings.CutPrefix(f.Name, "pipelines/"); ok {
			below[name] = &fstest.MapFile{Data: f.Data}
			continue
		}
		files[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	for i := range archive.Files {
		f := &archive.Files[i]
		name, ok := strings.CutSuffix(f.Name, ".json")
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			target := recipes.Target{Arch: apk.ArchX86_64, Libc: "gnu"}
			name, option, optional := strings.Cut(name, "+")
			if optional {
				target.Options = []string{option}
			}
			r, err := recipes.Load(files, name+".yaml")
			if err != nil {
				t.Fatal(err)
			}
			s, err := recipes.Expand(r, target, recipes.NewPipelines(recipes.Dir{Path: "pipelines", FS: below}))
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			e.SetIndent("", " ")
			if err := e.Encode(s.Listing()); err != nil {
				t.Fatal(err)
			}
			if os.Getenv("UPDATE_GOLDEN") != "" {
				f.Data = []byte(b.String())
			}
			if diff := cmp.Diff(string(f.Data), b.String()); diff != "" {
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
