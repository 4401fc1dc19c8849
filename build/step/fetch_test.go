package step

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
)

// tarball is an archive of files below a folder z-1.
func tarball(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range []string{"z-1/README", "z-1/src/z.c"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(name)), Uid: 1234, ModTime: time.Unix(99, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A file is fetched by its digest, and lies in the working directory, unpacked or not, as
// the inputs say.
func TestFetch(t *testing.T) {
	data := tarball(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(data) }))
	defer server.Close()
	var nested bytes.Buffer
	zw := zip.NewWriter(&nested)
	w, err := zw.Create("outer/z-1.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	outer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(nested.Bytes()) }))
	defer outer.Close()
	inZip := fmt.Sprintf("%x", sha256.Sum256(nested.Bytes()))
	short, long := fmt.Sprintf("%x", sha256.Sum256(data)), fmt.Sprintf("%x", sha512.Sum512(data))
	wrong := strings.Repeat("0", 128)
	for _, test := range []struct {
		name  string
		dir   string
		in    map[string]string // beside the defaults
		want  []string
		fails string
	}{
		{name: "by SHA-256", in: map[string]string{"expected-sha256": short}, want: []string{"README", "src/z.c", "z-1.tar.gz"}},
		{name: "by SHA-512", in: map[string]string{"expected-sha512": long}, want: []string{"README", "src/z.c", "z-1.tar.gz"}},
		{name: "by both", in: map[string]string{"expected-sha256": short, "expected-sha512": long}, want: []string{"README", "src/z.c", "z-1.tar.gz"}},
		{name: "by both, and one does not hold", in: map[string]string{"expected-sha256": short, "expected-sha512": wrong}, fails: "expected sha512"},
		{name: "another SHA-256", in: map[string]string{"expected-sha256": wrong[:64]}, fails: "sha256"},
		{name: "another SHA-512", in: map[string]string{"expected-sha512": wrong}, fails: "sha512"},
		{name: "no digest", in: map[string]string{"expected-none": "true"}, fails: "no digest"},
		{name: "not unpacked", in: map[string]string{"expected-sha256": short, "extract": "false"}, want: []string{"z-1.tar.gz"}},
		{name: "not unpacked, and the archive is not deleted for that", in: map[string]string{"expected-sha256": short, "extract": "false", "delete": "true"}, want: []string{"z-1.tar.gz"}},
		{name: "the archive goes", in: map[string]string{"expected-sha256": short, "delete": "true"}, want: []string{"README", "src/z.c"}},
		{name: "all folders", in: map[string]string{"expected-sha256": short, "delete": "true", "strip-components": "0"}, want: []string{"z-1/README", "z-1/src/z.c"}},
		{name: "two folders left out", in: map[string]string{"expected-sha256": short, "delete": "true", "strip-components": "2"}, want: []string{"z.c"}},
		{name: "a folder below", in: map[string]string{"expected-sha256": short, "directory": "a/b"}, want: []string{"a/b/README", "a/b/src/z.c", "z-1.tar.gz"}},
		{name: "a working directory", dir: "/home/build/work", in: map[string]string{"expected-sha256": short, "directory": "a"}, want: []string{"work/a/README", "work/a/src/z.c", "work/z-1.tar.gz"}},
		{name: "a query stays in the name", in: map[string]string{"expected-sha256": short, "extract": "false", "uri": server.URL + "/get.php?file=z.tar.gz&v=1"}, want: []string{"get.php?file=z.tar.gz&v=1"}},
		{name: "an archive in an archive", in: map[string]string{"uri": outer.URL + "/o.zip", "expected-sha256": inZip, "nested": "outer/z-1.tar.gz", "delete": "true"}, want: []string{"README", "src/z.c"}},
		{name: "an archive that is not in the archive", in: map[string]string{"uri": outer.URL + "/o.zip", "expected-sha256": inZip, "nested": "z-2.tar.gz"}, fails: `there is no "z-2.tar.gz" in it`},
		{name: "an archive out of the archive", in: map[string]string{"uri": outer.URL + "/o.zip", "expected-sha256": inZip, "nested": "../z"}, fails: "no path of an archive"},
		{name: "what is no archive in an archive", in: map[string]string{"expected-sha256": short, "nested": "z-1/README"}, fails: "neither a tar"},
		{name: "a folder that leads out", in: map[string]string{"expected-sha256": short, "directory": "../x"}, fails: "leads out of /home/build"},
		{name: "folders left out that are no number", in: map[string]string{"expected-sha256": short, "strip-components": "x"}, fails: `strip-components "x" is no number`},
	} {
		t.Run(test.name, func(t *testing.T) {
			st, err := store.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			root, err := os.OpenRoot(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			in := map[string]string{"uri": server.URL + "/z-1.tar.gz", "strip-components": "1", "directory": ".", "extract": "true", "delete": "false"}
			maps.Copy(in, test.in)
			c := Context{Work: root, Sources: &source.Fetcher{Store: st}, Main: "z", Time: time.Unix(1000, 0)}
			err = Do(context.Background(), c, recipes.Step{Native: "fetch", Dir: test.dir, Inputs: in})
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("got %v, want %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				if info, err := d.Info(); err != nil || !info.ModTime().Equal(c.Time) {
					t.Errorf("%s is of the time %v, %v", name, info.ModTime(), err)
				}
				got = append(got, name)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
