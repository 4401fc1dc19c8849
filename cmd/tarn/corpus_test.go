package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// corpusDir is the folder of the recipes that other people wrote.
func corpusDir(t testing.TB) string {
	dir := os.Getenv("TARN_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
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

// unpackCorpus writes a folder of the corpus to the disk, as whoever brings recipes has them.
func unpackCorpus(t testing.TB, folder string) string {
	archive := tar.NewReader(gunzip(t, filepath.Join(corpusDir(t), "recipes.tar.gz")))
	dir := t.TempDir()
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return filepath.Join(dir, folder)
		} else if err != nil {
			t.Fatal(err)
		}
		name := filepath.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || !strings.HasPrefix(name, folder+"/") || !filepath.IsLocal(name) {
			continue
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func gunzip(t testing.TB, file string) io.Reader {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// listed reads JSON objects, one a line, by their name. Scripts become their SHA-256,
// as the corpus has them, when digest is set.
func listed(t testing.TB, r io.Reader, digest bool) map[string]map[string]any {
	all := map[string]map[string]any{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var object map[string]any
		if err := json.Unmarshal(lines.Bytes(), &object); err != nil {
			t.Fatal(err)
		}
		for _, step := range object["steps"].([]any) {
			step := step.(map[string]any)
			if runs, ok := step["runs"].(string); ok && digest {
				step["runs"] = fmt.Sprintf("%x", sha256.Sum256([]byte(runs)))
			}
		}
		all[object["name"].(string)] = object
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// corpusArgs show every recipe of the corpus as it is compared.
func corpusArgs(t testing.TB) []string {
	dir := unpackCorpus(t, "wolfi-open")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recipes: %v", err)
	}
	args := []string{"plan", "--no-workspace", "--show", "script", "--json", "--arch", "x86_64", "--libc", "gnu",
		"--git-commit", "0123456789abcdef0123456789abcdef01234567", "--pipeline-dir", filepath.Join(dir, "pipelines")}
	return append(args, files...)
}

// The command makes of every recipe of the corpus what melange's own compiler makes of
// it: the same names, the same fields, the same lists in the same order, no exceptions.
func TestCorpus(t *testing.T) {
	want := listed(t, gunzip(t, filepath.Join(corpusDir(t), "expanded.jsonl.gz")), false)
	var out, errs bytes.Buffer
	if code := run(context.Background(), streams{in: strings.NewReader(""), out: &out, err: &errs}, corpusArgs(t)); code != exitDone {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	got := listed(t, &out, true)
	equal := 0
	for name := range want {
		if diff := cmp.Diff(want[name], got[name]); diff == "" {
			equal++
		} else if len(want)-equal < 10 {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	t.Logf("%d of %d recipes are as melange's", equal, len(want))
	if equal != len(want) || len(got) != len(want) {
		t.Errorf("%d of %d recipes are as melange's, and %d were shown", equal, len(want), len(got))
	}
}

// BenchmarkCorpus is the command over the whole corpus: reading, expanding, writing.
func BenchmarkCorpus(b *testing.B) {
	args := corpusArgs(b)
	for b.Loop() {
		if code := run(context.Background(), streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, args); code != exitDone {
			b.Fatalf("exit code %d", code)
		}
	}
}
