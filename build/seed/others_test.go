package seed

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/repo"
)

// The locks that tarn brings along say what their packages are, without anything fetched.
func TestOtherSeedsByTheirLocks(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	f := &source.Fetcher{Store: st, Offline: true}
	node, err := Open(Options{Store: st, Fetcher: f, Node: true})
	if err != nil {
		t.Fatal(err)
	}
	golang, err := OpenGo(f, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		source   repo.Source
		arch     apk.Arch
		name     string
		provides []string
	}{
		{node, apk.ArchX86_64, NodeName, []string{"nodejs", "npm", "cmd:node", "cmd:npm"}},
		{golang, apk.ArchX86_64, GoName, []string{"go", "cmd:go", "cmd:gofmt"}},
		{golang, apk.ArchAArch64, GoName, []string{"go"}},
	} {
		entries, err := test.source.Packages(t.Context(), test.arch)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%s: got %d packages, %v", test.name, len(entries), err)
		}
		e := entries[0]
		if e.Name != test.name || e.Origin != repo.SeedOrigin || e.Size < 1<<20 || len(e.Depends) != 0 {
			t.Errorf("got %+v", e.Info)
		}
		for _, name := range test.provides {
			if !slices.ContainsFunc(e.Provides, func(d apk.Dependency) bool { return d.Name == name }) {
				t.Errorf("%s does not provide %s", test.name, name)
			}
		}
		if _, err := test.source.Fetch(t.Context(), st, e); err == nil || test.name == NodeName && !errors.Is(err, web.ErrOffline) {
			t.Errorf("%s offline: got %v", test.name, err)
		}
	}
}

// proxy serves a small Go, and says what was asked of it.
type proxy struct {
	*httptest.Server
	asked []string
}

func newProxy(t *testing.T, change func(files map[string]string)) *proxy {
	t.Helper()
	files := map[string]string{
		"bin/go": "go", "bin/gofmt": "gofmt", "VERSION": "go1.99.1\n", "pkg/tool/linux_amd64/compile": "compile", "src/_go.mod": "module std\n", "src/make.bash": "#!/bin/bash\n",
		"src/fmt/print.go": "package fmt\n", "src/fmt/print_test.go": "package fmt\n", "src/fmt/testdata/x": "x",
	}
	if change != nil {
		change(files)
	}
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked = append(p.asked, r.URL.Path)
		version, found := strings.CutPrefix(r.URL.Path, "/golang.org/toolchain/@v/")
		if !found || !strings.HasSuffix(version, "-amd64.zip") {
			http.NotFound(w, r)
			return
		}
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		names := []string{}
		for name := range files {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			f, err := z.Create("golang.org/toolchain@" + strings.TrimSuffix(version, ".zip") + "/" + name)
			if err == nil {
				_, err = io.WriteString(f, files[name])
			}
			if err != nil {
				t.Error(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b.Bytes())
	}))
	t.Cleanup(p.Close)
	t.Setenv("GOPROXY", p.URL+"/nothing|"+p.URL+",direct")
	for name, value := range map[string]string{"GOENV": "off", "GOSUMDB": "off", "GONOSUMDB": "", "GOPRIVATE": ""} {
		t.Setenv(name, value)
	}
	return p
}

func openGo(t *testing.T, lock string) (*Go, *store.Store) {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	file := filepath.Join(t.TempDir(), "go.lock.yaml")
	if err := os.WriteFile(file, []byte(lock), 0o644); err != nil {
		t.Fatal(err)
	}
	g, err := OpenGo(&source.Fetcher{Store: st, Client: &web.Client{Retry: web.Retry{Pause: time.Millisecond, MaxPause: time.Millisecond}}}, file)
	if err != nil {
		t.Fatal(err)
	}
	return g, st
}

const emptyGoLock = "go: 1.99.0\ntoolchains:\n  - {arch: x86_64, size: 1, sha256: " + "0000000000000000000000000000000000000000000000000000000000000000" + ", sum: 'h1:x', installed: 1}\n"

func TestGo(t *testing.T) {
	p := newProxy(t, nil)
	g, _ := openGo(t, emptyGoLock)
	lock, err := g.Update(context.Background(), "1.99.1")
	if err != nil {
		t.Fatal(err)
	}
	g, st := openGo(t, string(lock))
	entries, err := g.Packages(t.Context(), apk.ArchX86_64)
	if err != nil || len(entries) != 1 || entries[0].Version != "1.99.1-r0" {
		t.Fatalf("got %v, %v", entries, err)
	}
	d, err := g.Fetch(t.Context(), st, entries[0])
	if err != nil {
		t.Fatal(err)
	}
	blob, err := st.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	info, err := blob.Stat()
	if err != nil {
		t.Fatal(err)
	}
	made, err := apk.ReadPackage(blob, info.Size(), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Info.Size != entries[0].Size {
		t.Errorf("size: the plan counted on %d, and it is %d", entries[0].Size, made.Info.Size)
	}
	got := map[string]string{}
	if err := made.Files(func(f *apk.File, _ io.Reader) error {
		if f.Type != apk.TypeDir {
			got[f.Path] = f.Mode.String() + " " + f.Link
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"usr/lib/go/bin/go": "-rwxr-xr-x ", "usr/lib/go/pkg/tool/linux_amd64/compile": "-rwxr-xr-x ", "usr/lib/go/src/go.mod": "-rw-r--r-- ", "usr/lib/go/src/make.bash": "-rwxr-xr-x ",
		"usr/lib/go/src/fmt/print.go": "-rw-r--r-- ", "usr/bin/go": "-rwxrwxrwx ../lib/go/bin/go",
		"usr/lib/go/src/fmt/print_test.go": "", "usr/lib/go/src/fmt/testdata/x": "", "usr/lib/go/src/_go.mod": "",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	before := len(p.asked)
	if again, err := g.Fetch(t.Context(), st, entries[0]); err != nil || again != d || len(p.asked) != before {
		t.Errorf("a second time: got %s, %v, after %d questions", again, err, len(p.asked)-before)
	}
}

func TestGoBelievesOnlyWhatIsLocked(t *testing.T) {
	newProxy(t, nil)
	g, _ := openGo(t, emptyGoLock)
	data, err := g.Update(t.Context(), "1.99.1")
	if err != nil {
		t.Fatal(err)
	}
	lock := string(data)
	for name, c := range map[string]struct{ old, new, want string }{
		"another digest":         {"sha256: ", "sha256: 1", "is no SHA-256"},
		"another sum":            {"sum: h1:", "sum: h1:A", "expected h1"},
		"another size installed": {"installed: ", "installed: 1", "tarn seed --update go"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(lock, c.old, c.new, 1)
			file := filepath.Join(t.TempDir(), "go.lock.yaml")
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenGo(nil, file); err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q in it", err, c.want)
				}
				return
			}
			g, st := openGo(t, text)
			entries, err := g.Packages(t.Context(), apk.ArchX86_64)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := g.Fetch(t.Context(), st, entries[0]); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
	newProxy(t, func(files map[string]string) { files["bin/go"] = "other" })
	g, st := openGo(t, lock)
	entries, err := g.Packages(t.Context(), apk.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Fetch(t.Context(), st, entries[0]); !isA[*source.MismatchError](err) {
		t.Errorf("other bytes: got %v", err)
	}
	t.Setenv("GOPROXY", "off")
	if _, err := g.Fetch(t.Context(), st, entries[0]); !isA[*source.Error](err) || !strings.Contains(err.Error(), "set GOPROXY") {
		t.Errorf("no proxy: got %v", err)
	}
}
