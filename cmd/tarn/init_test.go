package main

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/seed"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// TestInitIsComplete holds that what init writes needs nothing that is not in it or in
// the seed: a workspace outside of this repository builds.
func TestInitIsComplete(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "Ours & Co")
	if code := run(t.Context(), streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, []string{"init", dir}); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	s, err := seed.Open(seed.Options{Fetcher: &source.Fetcher{}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := readWorkspace(dir)
	if err != nil {
		t.Fatal(err)
	}
	if w.Name != "ours-co" {
		t.Errorf("the name is %q, want ours-co", w.Name)
	}
	var scripts []*recipes.Script
	given := map[string]bool{s.Entry().Name: true}
	for _, d := range s.Entry().Provides {
		given[d.Name] = true
	}
	for _, folder := range w.Recipes {
		all, err := recipes.LoadFolder(w.path(folder), folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			script, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64, Libc: w.Libc}, nil)
			if err != nil {
				t.Fatal(err)
			}
			scripts = append(scripts, script)
			for _, p := range script.Packages {
				given[p.Name] = true
				for _, d := range p.Provides {
					given[d.Name] = true
				}
			}
		}
	}
	if len(scripts) < 8 {
		t.Errorf("there are %d recipes, want the base and one more", len(scripts))
	}
	for _, script := range scripts {
		for _, need := range plan.World(script) {
			if !given[need.Name] {
				t.Errorf("%s builds with %s, which nothing gives", script.Recipe, need.Name)
			}
		}
		for _, p := range script.Packages {
			for _, d := range p.Runtime {
				if !given[d.Name] && !d.Conflict {
					t.Errorf("%s depends on %s, which nothing gives", p.Name, d.Name)
				}
			}
			if p.Test == nil {
				continue
			}
			for _, need := range p.Test.Environment.Packages {
				if !given[need.Name] {
					t.Errorf("the test of %s needs %s, which nothing gives", p.Name, need.Name)
				}
			}
		}
	}
}
