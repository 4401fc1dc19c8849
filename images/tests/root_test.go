package tests_test

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/tests"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// image makes an image of layers, each a list of tar headers. A file's content stands
// in Uname, which nothing else uses.
func image(t *testing.T, layers ...[]tar.Header) v1.Image {
	t.Helper()
	i := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, headers := range layers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			content := h.Uname
			h.Uname = ""
			if h.Typeflag == tar.TypeReg {
				h.Size = int64(len(content))
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				if _, err := w.Write([]byte(content)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if i, err = mutate.AppendLayers(i, static.NewLayer(b.Bytes(), types.OCIUncompressedLayer)); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

func open(t *testing.T, st *store.Store, i v1.Image) (*tests.Root, error) {
	t.Helper()
	return tests.Open(t.Context(), st, i)
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// Modes and owners are told as the layers have them, also those that no tree on a disk keeps.
func TestOpenTellsWhatLayersSay(t *testing.T) {
	st := newStore(t)
	i := image(t,
		[]tar.Header{
			{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755},
			{Typeflag: tar.TypeReg, Name: "usr/su", Mode: 0o4755, Uname: "program"},
			{Typeflag: tar.TypeLink, Name: "usr/sudo", Linkname: "usr/su", Mode: 0o4755},
			{Typeflag: tar.TypeSymlink, Name: "bin", Linkname: "usr", Mode: 0o777},
			{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		},
		[]tar.Header{
			{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o700, Uid: 7, Gid: 8},
			{Typeflag: tar.TypeReg, Name: "usr/su", Mode: 0o600, Uid: 65532, Gid: 9, Uname: "another"},
			{Typeflag: tar.TypeDir, Name: "locked", Mode: 0o500},
			{Typeflag: tar.TypeReg, Name: "locked/file", Mode: 0o400, Uname: "in it"},
		})
	for range 2 { // the second time all comes out of the store
		root, err := open(t, st, i)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]struct {
			mode     uint32
			kind     string
			uid, gid int
		}{
			"/usr":         {0o700, "folder", 7, 8},
			"/usr/su":      {0o600, "file", 65532, 9},
			"/usr/sudo":    {0o4755, "file", 0, 0},
			"/bin":         {0o777, "symbolic link", 0, 0},
			"/dev/null":    {0o666, "device", 0, 0},
			"/locked/file": {0o400, "file", 0, 0},
		} {
			n, found := root.Tree.Lstat(name)
			if !found {
				t.Errorf("%s is not there", name)
				continue
			}
			if rootfs.UnixMode(n.Mode) != want.mode || rootfs.Kind(n.Mode) != want.kind || n.UID != want.uid || n.GID != want.gid {
				t.Errorf("%s: got %s %04o %d:%d, want %+v", name, rootfs.Kind(n.Mode), rootfs.UnixMode(n.Mode), n.UID, n.GID, want)
			}
		}
		if data, err := os.ReadFile(filepath.Join(root.Layers[0], "usr", "su")); err != nil || string(data) != "another" {
			t.Errorf("the topmost layer comes first: got %q, %v", data, err)
		}
		if info, err := os.Stat(filepath.Join(root.Layers[1], "usr", "su")); err != nil || info.Mode()&fs.ModeSetuid != 0 {
			t.Errorf("a file on the disk lends rights: %v, %v", info, err)
		}
	}
}

// What leads out of the folder, or takes away what another layer has, is refused with its name.
func TestOpenRefuses(t *testing.T) {
	outside := t.TempDir()
	for name, headers := range map[string][]tar.Header{
		"it leads upwards":      {{Typeflag: tar.TypeReg, Name: "../x", Mode: 0o644, Uname: "x"}},
		"escapes":               {{Typeflag: tar.TypeSymlink, Name: "out", Linkname: outside}, {Typeflag: tar.TypeReg, Name: "out/x", Mode: 0o644, Uname: "x"}},
		"takes away":            {{Typeflag: tar.TypeReg, Name: "etc/.wh.passwd", Mode: 0o644}},
		"no such file":          {{Typeflag: tar.TypeLink, Name: "a", Linkname: "/etc/passwd"}},
		"unexpected EOF|header": nil,
	} {
		var i v1.Image
		if headers == nil {
			broken, err := mutate.AppendLayers(empty.Image, static.NewLayer(bytes.Repeat([]byte("x"), 700), types.OCIUncompressedLayer))
			if err != nil {
				t.Fatal(err)
			}
			i = broken
		} else {
			i = image(t, headers)
		}
		_, err := open(t, newStore(t), i)
		if err == nil || !containsAny(err.Error(), strings.Split(name, "|")) {
			t.Errorf("%v: got %v, want %q in it", headers, err, name)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside there is %v, %v", left, err)
	}
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// Every kind of file is judged without a sandbox.
func TestFiles(t *testing.T) {
	root, err := open(t, newStore(t), image(t, []tar.Header{
		{Typeflag: tar.TypeDir, Name: "etc", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644, Uname: "web:x:65532:65533:web:/:/sbin/nologin\n"},
		{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644, Uname: "www:x:65533:\n"},
		{Typeflag: tar.TypeReg, Name: "site", Mode: 0o4750, Uid: 65532, Gid: 65533, Uname: "clear"},
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "site", Mode: 0o777},
		{Typeflag: tar.TypeSymlink, Name: "nowhere", Linkname: "none", Mode: 0o777},
	}))
	if err != nil {
		t.Fatal(err)
	}
	mode := func(m uint32) *uint32 { return &m }
	for _, c := range []struct {
		file images.TestFile
		want string // in the failures, joined; "" is none
	}{
		{images.TestFile{Path: "/site", Type: "file", Mode: mode(0o4750), Owner: "web:www", Contains: "clear"}, ""},
		{images.TestFile{Path: "/site", Mode: mode(0o750)}, "its mode is 4750, want 0750"},
		{images.TestFile{Path: "/site", Owner: "65532:65533"}, ""},
		{images.TestFile{Path: "/site", Owner: "root"}, "it belongs to 65532:65533, want root"},
		{images.TestFile{Path: "/site", Owner: "web:root"}, "want web:root"},
		{images.TestFile{Path: "/link", Type: "symlink", Target: "site", Contains: "clear"}, ""},
		{images.TestFile{Path: "/link", Type: "file"}, "it is a symbolic link, want a file"},
		{images.TestFile{Path: "/nowhere", Contains: "x"}, "it leads to no file"},
		{images.TestFile{Path: "/etc/site"}, "it is not there; there is /site"},
		{images.TestFile{Path: "/etc", Type: "directory"}, ""},
	} {
		results, err := (&tests.Runner{}).Run(t.Context(), root, &images.Tests{Files: []images.TestFile{c.file}}, nil)
		if err != nil || len(results) != 1 {
			t.Fatalf("%+v: %v, %v", c.file, results, err)
		}
		var said []string
		for _, f := range results[0].Failures {
			said = append(said, f.Text)
		}
		got := strings.Join(said, "; ")
		if results[0].Passed != (c.want == "") || !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%+v: got %q, want %q", c.file, got, c.want)
		}
	}
}
