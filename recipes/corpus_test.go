package recipes_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// corpusCommit is the commit that melange was told when the corpus was made.
const corpusCommit = "0123456789abcdef0123456789abcdef01234567"

// shared is the folder of the corpus, see its README.
func shared(t testing.TB) string {
	dir := os.Getenv("TARN_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	dir = filepath.Join(dir, "corpus")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the corpus is absent: %v", err)
		}
		t.Skipf("the corpus is absent: %v (set TARN_SHARED)", err)
	}
	return dir
}

// corpusFiles unpacks the recipes into memory, once.
func corpusFiles(t testing.TB) fs.FS {
	dir := shared(t)
	files, err := unpackCorpus(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var unpacked struct {
	once  sync.Once
	files fstest.MapFS
	err   error
}

func unpackCorpus(dir string) (fs.FS, error) {
	u := &unpacked
	u.once.Do(func() {
		f, err := os.Open(filepath.Join(dir, "recipes.tar.gz"))
		if err != nil {
			u.err = err
			return
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			u.err = err
			return
		}
		u.files = fstest.MapFS{}
		for archive := tar.NewReader(z); ; {
			h, err := archive.Next()
			if err == io.EOF {
				return
			} else if err != nil {
				u.err = err
				return
			}
			if h.Typeflag != tar.TypeReg {
				continue
			}
			var b bytes.Buffer
			if _, err := io.Copy(&b, archive); err != nil {
				u.err = err
				return
			}
			u.files[strings.TrimPrefix(h.Name, "./")] = &fstest.MapFile{Data: b.Bytes(), Mode: fs.FileMode(h.Mode)}
		}
	})
	return u.files, u.err
}

// hashed is a listing in the form of expanded.jsonl.gz, where scripts are SHA-256 sums.
func hashed(s *recipes.Script) recipes.Listing {
	l := *s.Listing()
	l.Steps = slices.Clone(l.Steps)
	for i, step := range l.Steps {
		if step.Runs != "" {
			l.Steps[i].Runs = fmt.Sprintf("%x", sha256.Sum256([]byte(step.Runs)))
		}
	}
	return l
}

// corpusPipelines are Wolfi's pipelines before our own.
func corpusPipelines(t testing.TB, files fs.FS) *recipes.Pipelines {
	below, err := fs.Sub(files, "wolfi-open/pipelines")
	if err != nil {
		t.Fatal(err)
	}
	return recipes.NewPipelines(recipes.Dir{Path: "wolfi-open/pipelines", FS: below})
}

// The corpus has what the compiler makes of recipes for other architectures all the same.
var corpusTarget = recipes.Target{Arch: apk.ArchX86_64, Libc: "gnu", Commit: corpusCommit, AnyArch: true}

// Every recipe of the corpus must become what melange's own compiler makes of it.
func TestCorpus(t *testing.T) {
	files := corpusFiles(t)
	pipelines := corpusPipelines(t, files)
	below, err := fs.Sub(files, "wolfi-open")
	if err != nil {
		t.Fatal(err)
	}
	all, err := recipes.LoadAll(below, "wolfi-open")
	if err != nil {
		t.Error(err)
	}
	byName := map[string]*recipes.Recipe{}
	for _, r := range all {
		byName[r.Package.Name] = r
	}
	f, err := os.Open(filepath.Join(shared(t), "expanded.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 16<<20)
	total, equal, shown := 0, 0, 0
	for lines.Scan() {
		var want recipes.Listing
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		total++
		r := byName[want.Name]
		if r == nil {
			t.Errorf("%s was not read", want.Name)
			continue
		}
		s, err := recipes.Expand(r, corpusTarget, pipelines)
		if err != nil {
			t.Errorf("%s: %v", want.Name, err)
			continue
		}
		if diff := cmp.Diff(want, hashed(s)); diff != "" {
			if shown++; shown <= 10 {
				t.Errorf("%s: -want +got:\n%s", want.Name, diff)
			}
			continue
		}
		equal++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if total != len(all) {
		t.Errorf("read %d recipes, the corpus has %d", len(all), total)
	}
	t.Logf("%d of %d recipes are as melange's", equal, total)
	if equal != total {
		t.Errorf("%d of %d recipes are as melange's, want all", equal, total)
	}
}

// What is read of a recipe is written as a recipe that reads as the same, and becomes the same.
func TestCorpusPrinted(t *testing.T) {
	files := corpusFiles(t)
	pipelines := corpusPipelines(t, files)
	below, err := fs.Sub(files, "wolfi-open")
	if err != nil {
		t.Fatal(err)
	}
	all, err := recipes.LoadAll(below, "wolfi-open")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		again := printed(t, r)
		if asJSON(t, r) != asJSON(t, again) {
			t.Errorf("%s: -read +printed and read:\n%s", r.Path(), cmp.Diff(r, again, same))
			continue
		}
		first, err := recipes.Expand(r, corpusTarget, pipelines)
		if err != nil {
			t.Fatal(err)
		}
		second, err := recipes.Expand(again, corpusTarget, pipelines)
		if err != nil {
			t.Fatal(err)
		}
		if asJSON(t, first.Listing()) != asJSON(t, second.Listing()) {
			t.Errorf("%s becomes something else once it is printed", r.Path())
		}
	}
}

// The same recipes expand for the other architecture too, and for musl.
func TestCorpusOtherTarget(t *testing.T) {
	files := corpusFiles(t)
	pipelines := corpusPipelines(t, files)
	below, err := fs.Sub(files, "wolfi-open")
	if err != nil {
		t.Fatal(err)
	}
	all, err := recipes.LoadAll(below, "wolfi-open")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		s, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchAArch64, Libc: "musl"}, pipelines)
		if errors.Is(err, recipes.ErrOtherArch) {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", r.Package.Name, err)
			continue
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(text, []byte("x86_64-pc-linux-gnu")); i >= 0 && !bytes.Contains(mustRead(t, files, r.Path()), []byte("x86_64-pc-linux-gnu")) {
			t.Errorf("%s speaks of another architecture: %s", s.Name, text[max(0, i-80):i+40])
		}
	}
}

func mustRead(t *testing.T, files fs.FS, name string) []byte {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What melange's own examples give is listed: each reads and expands, or is refused with a message.
func TestExamples(t *testing.T) {
	files := corpusFiles(t)
	got := map[string]string{}
	err := fs.WalkDir(files, "melange-examples", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		r, err := recipes.Load(files, path)
		if err == nil {
			_, err = recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil)
		}
		if err != nil {
			got[path] = err.Error()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(got)) {
		fmt.Fprintln(&b, got[path])
	}
	golden(t, "examples.golden", b.String())
}

// golden compares text with a file in testdata, or writes it when UPDATE_GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func BenchmarkLoadAndExpandCorpus(b *testing.B) {
	files := corpusFiles(b)
	below, err := fs.Sub(files, "wolfi-open")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		pipelines := corpusPipelines(b, files)
		all, err := recipes.LoadAll(below, "wolfi-open")
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range all {
			if _, err := recipes.Expand(r, corpusTarget, pipelines); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(all)), "recipes/op")
	}
}
