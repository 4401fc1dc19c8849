package scaffold

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/recipes"
)

// TestRecipe scaffolds every testdata/*.txtar: the first line says where the source comes
// from, then come its files, and recipe.yaml is what is written for it. UPDATE_GOLDEN=1
// writes these anew. What is written is right, and lint has nothing to say of it, unless
// there was nothing to go by.
func TestRecipe(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(names) < 10 {
		t.Fatalf("%d cases, %v", len(names), err)
	}
	for _, file := range names {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o, h := Origin{SHA256: strings.Repeat("0", 64), Strip: 1}, Hints{}
			for word := range strings.FieldsSeq(strings.TrimPrefix(string(archive.Comment), "#")) {
				switch key, value, _ := strings.Cut(word, "="); key {
				case "uri":
					o.URI = value
				case "repository":
					o.Repository, o.SHA256 = value, ""
				case "tag":
					o.Tag = value
				case "commit":
					o.Commit = value
				case "vouched":
					o.Vouched = value
				case "signature":
					o.Signature = value
				case "strip":
					o.Strip = 0
				case "readers":
					h.NoReaders = true
				}
			}
			tree := fstest.MapFS{}
			golden := len(archive.Files) - 1
			for _, f := range archive.Files[:golden] {
				tree[f.Name] = &fstest.MapFile{Data: licenseText(t, f.Data), Mode: 0o644}
			}
			p, err := Look(tree, o, h)
			if err != nil {
				t.Fatal(err)
			}
			got := string(p.Recipe())
			for _, note := range p.Notes() {
				got += "# note: " + note + "\n"
			}
			if os.Getenv("UPDATE_GOLDEN") != "" {
				archive.Files[golden].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(archive.Files[golden].Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			r, err := recipes.Read(p.Name+".yaml", []byte(got))
			if err != nil {
				t.Fatal(err)
			}
			s, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil)
			if err != nil {
				t.Fatal(err)
			}
			problems := slices.DeleteFunc(recipes.Lint(s, recipes.LintOptions{}), func(one diag.Problem) bool {
				return one.Rule == "network" && p.network != "" // what the notes say too
			})
			if len(problems) > 0 && p.System != "" {
				t.Errorf("lint says:\n%v", problems)
			}
		})
	}
}

// licenseText puts a licence's text, of those that Debian has, in the place of its name.
func licenseText(t *testing.T, data []byte) []byte {
	name, is := strings.CutPrefix(strings.TrimSpace(string(data)), "@")
	if !is || strings.Contains(name, "\n") {
		return data
	}
	text, err := os.ReadFile(filepath.Join("/usr/share/common-licenses", name))
	if err != nil {
		t.Skipf("this machine has no text of %s: %v", name, err)
	}
	return text
}

func TestLook(t *testing.T) {
	one := fstest.MapFS{"Makefile": &fstest.MapFile{Data: []byte("all:\n")}}
	for _, test := range []struct {
		name string
		tree fstest.MapFS
		uri  string
		h    Hints
		want string
	}{
		{"no version", one, "https://example.org/a.tar.gz", Hints{}, ErrNoVersion.Error()},
		{"no files", fstest.MapFS{}, "https://example.org/a-1.tar.gz", Hints{}, "the source has no files"},
		{"what is no version", one, "https://example.org/a.tar.gz", Hints{Version: "late"}, `version "late" cannot be written as one of apk's`},
		{"both are said", one, "https://example.org/x.tar.gz", Hints{Name: "b", Version: "2.1-beta3"}, "b 2.1_beta3"},
	} {
		p, err := Look(test.tree, Origin{URI: test.uri}, test.h)
		got := fmt.Sprint(err)
		if err == nil {
			got = p.Name + " " + p.Version
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// FuzzLook: whatever the files say, what is written is a recipe.
func FuzzLook(f *testing.F) {
	for _, name := range []string{"configure.ac", "meson.build", "CMakeLists.txt", "Cargo.toml", "go.mod", "pyproject.toml", "setup.py", "package.json", "Makefile.PL", "META.json", "Makefile", "README", "LICENSE"} {
		f.Add(name, "AC_INIT([x],[1],[a],[b],[https://x])\nproject('x', version: '1')\n[package]\nname = \"x\"\n{\"name\": \"x: #y\"}\nPROG = x\nname='x', description='a: b'")
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		if name == "" || len(name) > 100 {
			return
		}
		tree := fstest.MapFS{"Makefile": {Data: []byte("all:\n")}}
		tree[filepath.Base(name)] = &fstest.MapFile{Data: []byte(text)}
		p, err := Look(tree, Origin{URI: "https://example.org/a-1.0.tar.gz", SHA256: strings.Repeat("0", 64), Strip: 1}, Hints{})
		if err != nil {
			return
		}
		recipe := p.Recipe()
		r, err := recipes.Read("a.yaml", recipe)
		if err != nil {
			t.Fatalf("%v\n%s", err, recipe)
		}
		if _, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil); err != nil {
			t.Fatalf("%v\n%s", err, recipe)
		}
	})
}

func TestOneSentence(t *testing.T) {
	for text, want := range map[string]string{
		"a compressor. It is fast and small.": "A compressor. It is fast and small", // too short by itself
		"a compressor of files. It is fast.":  "A compressor of files",
		"écrit des fichiers":                  "Écrit des fichiers",
		strings.Repeat("é", 61):               "É" + strings.Repeat("é", 59),
		" \x1b.":                              "",
	} {
		if got := oneSentence(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestEncodings: metadata in Latin-1 or with the mark that editors of Windows write.
func TestEncodings(t *testing.T) {
	for name, text := range map[string]string{
		"setup.py":     "setup(name='a', version='1.0', description='d\xe9crit des caf\xe9')",
		"package.json": "\ufeff{\"name\": \"a\", \"description\": \"dcrit des caf\"}",
	} {
		p, err := Look(fstest.MapFS{name: {Data: []byte(text)}}, Origin{URI: "https://example.org/a-1.0.tar.gz", SHA256: strings.Repeat("0", 64)}, Hints{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Description != "Dcrit des caf" {
			t.Errorf("%s: described as %q", name, p.Description)
		}
		if _, err := recipes.Read("a.yaml", p.Recipe()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
