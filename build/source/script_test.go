package source_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"net/http"

	"github.com/google/go-cmp/cmp"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/debian/debiantest"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
)

func fetchStep(inputs ...string) recipes.Step {
	s := recipes.Step{Native: "fetch", Inputs: map[string]string{}, Line: 7}
	for i := 0; i < len(inputs); i += 2 {
		s.Inputs[inputs[i]] = inputs[i+1]
	}
	return s
}

func TestOfFetch(t *testing.T) {
	sum := strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		step recipes.Step
		want source.Source
		err  string
	}{
		"an address":        {step: fetchStep("uri", "https://x.example/a/b-1.tar.gz", "expected-sha256", sum), want: source.Source{Name: "b-1.tar.gz", URIs: []string{"https://x.example/a/b-1.tar.gz"}, SHA256: sum}},
		"several addresses": {step: fetchStep("uri", "https://x.example/b https://y.example/c", "expected-sha512", strings.Repeat("b", 128)), want: source.Source{Name: "b", URIs: []string{"https://x.example/b", "https://y.example/c"}, SHA512: strings.Repeat("b", 128)}},
		"a query stays":     {step: fetchStep("uri", "https://x.example/b?x=1", "expected-sha256", sum), want: source.Source{Name: "b?x=1", URIs: []string{"https://x.example/b?x=1"}, SHA256: sum}},
		"Debian":            {step: fetchStep("uri", "debian:zlib/zlib_1.orig.tar.gz", "expected-sha256", sum), want: source.Source{Name: "zlib_1.orig.tar.gz", URIs: []string{"debian:zlib/zlib_1.orig.tar.gz"}, SHA256: sum}},
		"no address":        {step: fetchStep("expected-sha256", sum), err: "no uri"},
		"no digest":         {step: fetchStep("uri", "https://x.example/b"), err: "no digest for b"},
		"expected-none":     {step: fetchStep("uri", "https://x.example/b", "expected-none", "true"), err: "no digest for b"},
		"a file":            {step: fetchStep("uri", "file:///etc/passwd", "expected-sha256", sum), err: "none of http, https and debian"},
		"no file":           {step: fetchStep("uri", "https://x.example/..", "expected-sha256", sum), err: "names no file"},
		"Debian, no file":   {step: fetchStep("uri", "debian:zlib", "expected-sha256", sum), err: "debian:SOURCE/FILE"},
		"Debian, upwards":   {step: fetchStep("uri", "debian:../x", "expected-sha256", sum), err: "debian:SOURCE/FILE"},
		"a malformed one":   {step: fetchStep("uri", "https://x.example/b", "expected-sha256", "zz"), err: "is no SHA-256"},
	} {
		got, err := source.OfFetch(c.step)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got error %v, want %q in it", name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestMistakesOfStepsHaveTheirPlace(t *testing.T) {
	s := &recipes.Script{Recipe: "recipes/core/x.yaml", Packages: []recipes.Output{{Steps: []recipes.Step{
		fetchStep("uri", "https://x.example/b"), {Shell: "true"},
		{Native: "git-checkout", Line: 9, Inputs: map[string]string{"repository": "nowhere"}},
	}}}}
	_, err := source.Of(s)
	problems, is := diag.Of(err)
	if !is || len(problems) != 2 {
		t.Fatalf("got %v, want two problems", err)
	}
	if got, want := problems[0].Error(), "recipes/core/x.yaml:7: fetch: no digest for b\n  hint: give expected-sha256"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if problems[1].Line != 9 {
		t.Errorf("got line %d, want 9", problems[1].Line)
	}
}

func TestFetchAllThenUnpack(t *testing.T) {
	tarball := debiantest.Tar(t, ".gz", debiantest.Entry{Name: "x-1/"}, debiantest.Entry{Name: "x-1/configure", Content: "#!/bin/sh\n", Mode: 0o755}, debiantest.Entry{Name: "x-1/src/main.c", Content: "int main;\n"})
	server, _ := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { w.Write(tarball) })
	patch := []byte("--- a\n+++ b\n")
	s := &recipes.Script{
		Name: "x", Recipe: "recipes/core/x.yaml", Source: fstest.MapFS{"fix.patch": {Data: patch}, "sub/tool": {Data: []byte("tool"), Mode: 0o755}},
		Files:    []recipes.LocalFile{{Path: "fix.patch", SHA256: debiantest.SHA256(patch)}, {Path: "sub/tool", SHA256: debiantest.SHA256([]byte("tool")), Executable: true}},
		Packages: []recipes.Output{{Steps: []recipes.Step{fetchStep("uri", server.URL+"/x-1.tar.gz", "expected-sha256", debiantest.SHA256(tarball))}}},
	}
	f := newFetcher(t)
	ctx := context.Background()
	if err := source.FetchAll(ctx, f, s); err != nil {
		t.Fatal(err)
	}
	server.Close()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := source.PlaceFiles(root, s, f); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	d := store.Digest("sha256:" + debiantest.SHA256(tarball))
	if err := f.Unpack(ctx, d, root, ".", 1, now); err != nil {
		t.Fatal(err)
	}
	if err := f.Place(ctx, d, root, "x-1.tar.gz", now); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		content string
		mode    os.FileMode
	}{"fix.patch": {string(patch), 0o644}, "sub/tool": {"tool", 0o755}, "configure": {"#!/bin/sh\n", 0o755}, "src/main.c": {"int main;\n", 0o644}, "x-1.tar.gz": {string(tarball), 0o644}} {
		got, err := root.ReadFile(name)
		if err != nil || string(got) != want.content {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
			continue
		}
		if info, _ := root.Stat(name); info.Mode().Perm() != want.mode {
			t.Errorf("%s: mode %v, want %v", name, info.Mode().Perm(), want.mode)
		} else if strings.Contains(name, "x-1") && !info.ModTime().Equal(now) {
			t.Errorf("%s: time %v", name, info.ModTime())
		}
	}

	// A file that changed after the recipe was read would not be what the plan names.
	s.Source = fstest.MapFS{"fix.patch": {Data: []byte("other")}, "sub/tool": {Data: []byte("tool")}}
	if err := source.FetchAll(ctx, newFetcher(t), s); err == nil || !strings.Contains(err.Error(), "fix.patch changed") {
		t.Errorf("got %v", err)
	}

	// A blob with a byte flipped is never unpacked.
	path := f.Store.Dir() + "/blobs/sha256/" + d.Hex()[:2] + "/" + d.Hex()
	flipped := bytes.Clone(tarball)
	flipped[len(flipped)/2] ^= 1
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, flipped, 0o644); err != nil {
		t.Fatal(err)
	}
	err = f.Unpack(ctx, d, root, "again", 0, now)
	if _, is := errors.AsType[*store.CorruptError](err); !is {
		t.Errorf("a flipped byte: got %v, want a CorruptError", err)
	}
	if _, err := root.Stat("again"); err == nil {
		t.Error("something of it was unpacked")
	}
}
