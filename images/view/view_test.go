package view_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tarn-build/tarn/images/registry"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/apk"
)

// layer makes a layer of lines: "TYPE NAME [TARGET or CONTENT]", the type as tar has it.
func layer(t testing.TB, lines ...string) v1.Layer {
	t.Helper()
	return anyLayer(gzipped(t, bytes.NewReader(layerBytes(t, lines...))))
}

func layerBytes(t testing.TB, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, line := range lines {
		fields := strings.SplitN(line, " ", 3)
		rest := ""
		if len(fields) == 3 {
			rest = fields[2]
		}
		h := &tar.Header{Typeflag: fields[0][0], Name: fields[1], Mode: 0o644}
		switch fields[0] {
		case "0":
			h.Size = int64(len(rest))
		case "1", "2":
			h.Linkname, rest = rest, ""
		case "5":
			h.Mode = 0o755
		case "3", "4":
			h.Devmajor, h.Devminor = 1, 3
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if h.Typeflag == '0' {
			io.WriteString(w, rest)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func image(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	i, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	if i, err = mutate.ConfigFile(i, file); err != nil {
		t.Fatal(err)
	}
	return mutate.ConfigMediaType(i, types.OCIConfigJSON)
}

// inLayout writes images as a layout and gives its folder.
func inLayout(t testing.TB, images ...v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		if err := l.AppendImage(i); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t testing.TB, ref string, o view.Options) (*view.Contents, error) {
	t.Helper()
	opened, err := view.Open(t.Context(), ref, o)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	return opened.Images[0].Read(t.Context())
}

func list(t testing.TB, c *view.Contents) []string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Tree.List(&b); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(b.String()), "\n")
}

// Layers lie over each other as a container sees them. The judge is umoci, which
// unpacks the same image.
func TestLayersOverEachOther(t *testing.T) {
	for _, test := range []struct {
		summary string
		layers  [][]string
		want    []string // paths without folders; nil leaves it to umoci
	}{
		{"one layer", [][]string{{"5 etc/", "0 etc/a one", "2 etc/b a", "1 etc/c etc/a"}}, []string{"etc/a", "etc/b", "etc/c"}},
		{"a file goes", [][]string{{"5 d/", "0 d/a x", "0 d/b x"}, {"5 d/", "0 d/.wh.a "}}, []string{"d/b"}},
		{"a folder goes", [][]string{{"5 d/", "5 d/e/", "0 d/e/a x", "0 d/b x"}, {"5 d/", "0 d/.wh.e "}}, []string{"d/b"}},
		{"a folder is replaced", [][]string{{"5 d/", "0 d/a x", "0 d/b x"}, {"5 d/", "0 d/.wh..wh..opq ", "0 d/c y"}}, []string{"d/c"}},
		{"what goes is of lower layers alone", [][]string{{"5 d/", "0 d/a x"}, {"5 d/", "0 d/a y", "0 d/.wh..wh..opq "}}, []string{"d/a"}},
		{"a file becomes a folder", [][]string{{"0 a x"}, {"5 a/", "0 a/b y"}}, []string{"a/b"}},
		{"a folder becomes a file", [][]string{{"5 a/", "0 a/b y"}, {"0 a x"}}, []string{"a"}},
		{"a folder becomes a link", [][]string{{"5 a/", "0 a/b y", "5 c/"}, {"2 a c", "0 a/d z"}}, []string{"a", "c/d"}},
		{"a link's folder stays below the root", [][]string{{"2 up ../../../..", "2 abs /d", "5 d/"}, {"0 up/x 1", "0 abs/y 2"}}, []string{"abs", "d/y", "up", "x"}},
		{"through a link that leads nowhere", [][]string{{"2 lib usr/lib", "0 lib/a x"}}, []string{"lib", "usr/lib/a"}},
		{"a hard link into a lower layer", [][]string{{"0 a x"}, {"1 b a"}}, []string{"a", "b"}},
		{"names with a slash or a dot before them", [][]string{{"0 ./a x", "0 /b x", "5 ./"}}, []string{"a", "b"}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			var layers []v1.Layer
			for _, lines := range test.layers {
				layers = append(layers, layer(t, lines...))
			}
			dir := inLayout(t, image(t, layers...))
			c, err := read(t, dir, view.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			sums := map[string]string{}
			for n := range c.Tree.All() {
				if !n.Mode.IsDir() {
					got = append(got, n.Path)
					sums[n.Path] = n.Sum
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if _, err := exec.LookPath("umoci"); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skip("umoci is not installed")
			}
			tagged, err := layout.FromPath(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := tagged.ReplaceImage(image(t, layers...), func(v1.Descriptor) bool { return true }, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "t"})); err != nil {
				t.Fatal(err)
			}
			bundle := filepath.Join(t.TempDir(), "bundle")
			if out, err := exec.Command("umoci", "unpack", "--rootless", "--image", dir+":t", bundle).CombinedOutput(); err != nil {
				t.Fatalf("umoci: %v\n%s", err, out)
			}
			var unpacked []string
			root := filepath.Join(bundle, "rootfs")
			if err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					rel, _ := filepath.Rel(root, p)
					unpacked = append(unpacked, rel)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			slices.Sort(unpacked)
			if diff := cmp.Diff(unpacked, got); diff != "" {
				t.Errorf("-umoci +got:\n%s", diff)
			}
		})
	}
}

// What no honest layer has is refused with its layer and its name, and leaves nothing on the host.
func TestHostileLayers(t *testing.T) {
	deep := strings.Repeat("a/", 2000)
	loop := []string{"2 a b", "2 b a"}
	for _, test := range []struct {
		summary string
		layers  []v1.Layer
		limits  view.Limits
		want    string
	}{
		{"upwards", []v1.Layer{layer(t, "0 ../../etc/passwd x")}, view.Limits{}, `layer 1: "../../etc/passwd": it leads upwards`},
		{"upwards within", []v1.Layer{layer(t, "0 a/../../b x")}, view.Limits{}, "it leads upwards"},
		{"a hard link upwards", []v1.Layer{layer(t, "1 a ../../../etc/shadow")}, view.Limits{}, "hard link"},
		{"a hard link to nothing", []v1.Layer{layer(t, "1 a etc/shadow")}, view.Limits{}, "it is a hard link to /etc/shadow, which is no file"},
		{"a hard link to a folder", []v1.Layer{layer(t, "5 d/", "1 a d")}, view.Limits{}, "which is no file"},
		{"a whiteout upwards", []v1.Layer{layer(t, "0 a/.wh... ")}, view.Limits{}, "it removes nothing that can be named"},
		{"a loop of links", []v1.Layer{layer(t, append(loop, "0 a/x y")...)}, view.Limits{}, "more than 40 symbolic links"},
		{"below a file", []v1.Layer{layer(t, "0 a x", "0 a/b y")}, view.Limits{}, "a in its path is a file"},
		{"the root as a file", []v1.Layer{layer(t, "0 . x")}, view.Limits{}, "the root is no folder"},
		{"too many paths", []v1.Layer{layer(t, "0 a x", "0 b x"), layer(t, "0 c x")}, view.Limits{Entries: 2}, "more than 2 paths"},
		{"folders that nobody has an entry for", []v1.Layer{layer(t, "0 "+deep+"x y")}, view.Limits{Entries: 100}, "more than 100 paths"},
		{"much text", []v1.Layer{layer(t, "0 "+deep+"x y")}, view.Limits{Text: 100}, "names and attributes have more than 100 bytes"},
		{"much text of paths", []v1.Layer{layer(t, "0 "+deep+"x y")}, view.Limits{Text: 10_000}, "its paths have more than 10000 bytes"},
		{"a long path by links", []v1.Layer{layer(t, "5 "+deep, "2 l "+deep, "0 l/"+deep+"x y")}, view.Limits{}, "the path is longer than Linux takes"},
		{"much content", []v1.Layer{layer(t, "0 a "+strings.Repeat("x", 4000))}, view.Limits{Bytes: 2000}, "more than"},
		{"many layers", []v1.Layer{layer(t, "0 a x"), layer(t, "0 b x"), layer(t, "0 c x")}, view.Limits{Layers: 2}, "the image has 3 layers, more than 2"},
		{"no archive", []v1.Layer{anyLayer(bytes.Repeat([]byte("x"), 2000))}, view.Limits{}, "invalid tar header"},
		{"a bomb", []v1.Layer{anyLayer(bomb(t))}, view.Limits{}, "it expands to more than 300 times its size"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			c, err := read(t, inLayout(t, image(t, test.layers...)), view.Options{Limits: test.limits})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v %v, want %q", c, err, test.want)
			}
		})
	}
}

// Devices, pipes and files that give rights are told and not made.
func TestDevices(t *testing.T) {
	c, err := read(t, inLayout(t, image(t, layer(t, "3 dev/null", "4 dev/sda", "6 run/pipe"))), view.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"d0755 0:0 /dev", "c0644 0:0 /dev/null 1:3", "b0644 0:0 /dev/sda 1:3", "d0755 0:0 /run", "p0644 0:0 /run/pipe"}
	if diff := cmp.Diff(want, list(t, c)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// bomb is a layer that is small and expands to gigabytes.
func bomb(t testing.TB) []byte {
	t.Helper()
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: 3000000000, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	return gzipped(t, io.MultiReader(&head, io.LimitReader(zeros{}, 1<<30)))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Bytes that are not those that their digest names are never looked at as an image.
func TestDigests(t *testing.T) {
	dir := inLayout(t, image(t, layer(t, "0 a one"), layer(t, "0 b two")))
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil || len(blobs) != 4 {
		t.Fatal(blobs, err)
	}
	for _, file := range blobs {
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(before)
		flipped[len(flipped)/2] ^= 1
		for _, data := range [][]byte{flipped, append(bytes.Clone(before), 0), before[:len(before)-1]} {
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := read(t, dir, view.Options{}); !isDigestError(err) {
				t.Errorf("%s, changed: got %v, want a *DigestError", filepath.Base(file)[:8], err)
			}
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(file, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, dir, view.Options{}); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("a pipe: got %v", err)
		}
		os.Remove(file)
		if err := os.Symlink("/etc/passwd", file); err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, dir, view.Options{}); err == nil || !strings.Contains(err.Error(), "escapes") {
			t.Errorf("a link that leads out: got %v", err)
		}
		os.Remove(file)
		if err := os.WriteFile(file, before, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := read(t, dir, view.Options{}); err != nil {
		t.Error(err)
	}
}

// A size that is told and is not that of the blob is refused, whatever it is.
func TestLyingSizes(t *testing.T) {
	for _, add := range []int64{-1 << 40, -1, 1, 1 << 40} {
		for _, which := range []string{"config", "layer", "manifest"} {
			dir := inLayout(t, image(t, layer(t, "0 a one")))
			changeSize(t, dir, which, add)
			if _, err := read(t, dir, view.Options{}); err == nil || !strings.Contains(err.Error(), "are told of it") {
				t.Errorf("%s, %+d: got %v", which, add, err)
			}
		}
	}
}

// changeSize changes the size that a layout tells of the only blob of a kind.
func changeSize(t *testing.T, dir, which string, add int64) {
	t.Helper()
	edit := func(raw []byte, change func(map[string]any)) []byte {
		var doc map[string]any
		if err := json.Unmarshal(raw, &doc); err != nil {
			t.Fatal(err)
		}
		change(doc)
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	path := filepath.Join(dir, "index.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw = edit(raw, func(index map[string]any) {
		d := index["manifests"].([]any)[0].(map[string]any)
		if which == "manifest" {
			d["size"] = d["size"].(float64) + float64(add)
			return
		}
		blobs := filepath.Join(dir, "blobs", "sha256")
		m, err := os.ReadFile(filepath.Join(blobs, strings.TrimPrefix(d["digest"].(string), "sha256:")))
		if err != nil {
			t.Fatal(err)
		}
		m = edit(m, func(manifest map[string]any) {
			of, _ := manifest["config"].(map[string]any)
			if which == "layer" {
				of = manifest["layers"].([]any)[0].(map[string]any)
			}
			of["size"] = of["size"].(float64) + float64(add)
		})
		digest := fmt.Sprintf("%x", sha256.Sum256(m))
		if err := os.WriteFile(filepath.Join(blobs, digest), m, 0o644); err != nil {
			t.Fatal(err)
		}
		d["digest"], d["size"] = "sha256:"+digest, len(m)
	})
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

func isDigestError(err error) bool {
	_, is := errors.AsType[*view.DigestError](err)
	return is
}

// The same image comes out of every form that it can lie in.
func TestForms(t *testing.T) {
	i := image(t, layer(t, "5 etc/", "0 etc/a one", "1 etc/c etc/a"), layer(t, "5 etc/", "0 etc/.wh.a ", "0 usr/lib/x two"))
	dir := inLayout(t, i)
	want, err := read(t, dir, view.Options{})
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved.tar")
	tag, err := name.NewTag("example.org/web:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(saved, tag, i); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(t.TempDir(), "saved.tar.gz")
	data, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packed, gzipped(t, bytes.NewReader(data)), 0o644); err != nil {
		t.Fatal(err)
	}
	refs := map[string]string{dir: "OCI layout", "oci:" + dir: "OCI layout", saved: "docker archive", "docker-archive:" + saved + ":example.org/web:1": "docker archive", saved + ":1": "docker archive", packed: "docker archive"}
	if _, err := exec.LookPath("skopeo"); err == nil {
		for _, form := range []string{"docker-archive", "oci-archive", "oci"} {
			to := filepath.Join(t.TempDir(), form)
			if out, err := exec.Command("skopeo", "copy", "--insecure-policy", "oci:"+dir, form+":"+to+":web:1").CombinedOutput(); err != nil {
				t.Fatalf("skopeo: %v\n%s", err, out)
			}
			refs[to] = map[string]string{"docker-archive": "docker archive", "oci-archive": "OCI archive", "oci": "OCI layout"}[form]
		}
	} else if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	for ref, kind := range refs {
		opened, err := view.Open(t.Context(), ref, view.Options{})
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		got, err := opened.Images[0].Read(t.Context())
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if opened.Kind != kind {
			t.Errorf("%s: it is a %s, want %s", ref, opened.Kind, kind)
		}
		if diff := cmp.Diff(list(t, want), list(t, got)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", ref, diff)
		}
		opened.Close()
	}
}

func TestReferences(t *testing.T) {
	dir := inLayout(t, image(t, layer(t, "0 a one")), image(t, layer(t, "0 a two")))
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, bytes.Repeat([]byte("text\n"), 500), 0o644); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		dir:                           "it holds several images for linux/amd64",
		dir + ":nosuch":               `it has no image "nosuch"`,
		text:                          "it is neither an archive of images nor a layout",
		t.TempDir():                   "it is no OCI layout: it has no index.json",
		"./nosuch":                    "there is no such file or folder",
		"oci:nosuch":                  "there is no such file or folder",
		"Not/A Reference":             "there is no such file or folder",
		"example.org/Not A Reference": "it is no file, no folder and no reference to a registry",
		inLayout(t):                   "there is no image",
	} {
		_, err := view.Open(t.Context(), ref, view.Options{})
		if _, missing := errors.AsType[*view.NotFoundError](err); err == nil || !strings.Contains(err.Error(), want) || !missing {
			t.Errorf("%s: got %T %v, want %q", ref, err, err, want)
		}
	}
	if _, err := view.Open(t.Context(), inLayout(t, image(t, layer(t, "0 a one"))), view.Options{Arches: []apk.Arch{apk.ArchAArch64}}); err == nil || !strings.Contains(err.Error(), "there are x86_64") {
		t.Errorf("another architecture: got %v", err)
	}
}

// Reading ends when it is asked to.
func TestStopped(t *testing.T) {
	dir := inLayout(t, image(t, layer(t, "0 a one")))
	ctx, stop := context.WithCancel(t.Context())
	opened, err := view.Open(ctx, dir, view.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	stop()
	if _, err := opened.Images[0].Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

const apkDatabase = `P:web
V:1.0-r0
A:x86_64
L:MIT
o:web
T:a server
D:musl so:libc.musl-x86_64.so.1
F:usr
F:usr/bin
R:web
a:0:0:755
R:gone

P:musl
V:1.2.5-r0
A:x86_64
L:MIT
i:[]
F:lib
R:ld.so
Z:Q1rCeO7bvVHsLVBLw0LyzI2nsFGEo=

`

const dpkgStatus = `Package: base-files
Status: install ok installed
Architecture: amd64
Version: 12.4
Source: base (1)
Depends: libc6 (>= 2.36), awk | mawk
Description: base
 more of it

Package: left
Status: deinstall ok config-files
Version: 1

`

// Databases of apk, at both of its places, and of dpkg, of one file and of many.
func TestPackages(t *testing.T) {
	for _, test := range []struct {
		summary  string
		lines    []string
		database string
		want     []string
	}{
		{"apk", []string{"0 usr/lib/apk/db/installed " + apkDatabase, "0 usr/bin/web x", "0 lib/ld.so changed", "2 lib/apk ../usr/lib/apk", "0 etc/apk/world web\n"}, "usr/lib/apk/db/installed", []string{"musl-1.2.5-r0 1 [] [lib/ld.so]", "web-1.0-r0 1 [usr/bin/gone] []"}},
		{"apk, as it was", []string{"0 lib/apk/db/installed " + apkDatabase, "0 usr/bin/web x"}, "lib/apk/db/installed", []string{"musl-1.2.5-r0 0 [lib/ld.so] []", "web-1.0-r0 1 [usr/bin/gone] []"}},
		{"dpkg", []string{"0 var/lib/dpkg/status " + dpkgStatus, "0 var/lib/dpkg/info/base-files.list /.\n/etc\n/etc/debian_version\n", "0 etc/debian_version 12"}, "var/lib/dpkg/status", []string{"base-files-12.4 1 [] []"}},
		{"distroless", []string{"0 var/lib/dpkg/status.d/base-files Package: base-files\nVersion: 12.4\n", "0 var/lib/dpkg/status.d/base-files.md5sums 0123  etc/debian_version\n", "0 etc/debian_version 12"}, "var/lib/dpkg/status.d", []string{"base-files-12.4 1 [] []"}},
		{"none", []string{"0 a x"}, "", nil},
	} {
		t.Run(test.summary, func(t *testing.T) {
			c, err := read(t, inLayout(t, image(t, layer(t, test.lines...))), view.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range c.Packages {
				got = append(got, fmt.Sprintf("%s %d %v %v", p.FullName(), p.Files, p.Missing, p.Changed))
			}
			if diff := cmp.Diff(test.want, got); diff != "" || c.Database != test.database {
				t.Errorf("%s: -want +got:\n%s %v", c.Database, diff, c.Notes)
			}
			if test.summary == "apk" {
				if n, _ := c.Tree.Stat("usr/bin/web"); n.Owner != "web" {
					t.Errorf("/usr/bin/web is of %q", n.Owner)
				}
			}
		})
	}
}

// An index, an image of it and an image alone are the same from a registry as from a layout.
func TestRegistry(t *testing.T) {
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://") + "/web"
	one, two := image(t, layer(t, "0 a one"), layer(t, "0 .wh.a ", "0 b two")), forArch(t, image(t, layer(t, "0 c three")), "arm64")
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: one}, mutate.IndexAddendum{Add: two})
	client := &registry.Client{}
	repository, err := client.Reference(host + ":1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Push(t.Context(), repository.Context(), index); err != nil {
		t.Fatal(err)
	}
	if err := client.Put(t.Context(), repository, index); err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{host + ":1", "docker://" + host + ":1", host + "@" + digest.String()} {
		opened, err := view.Open(t.Context(), ref, view.Options{Registry: client})
		if err != nil {
			t.Fatal(err)
		}
		if opened.Digest != digest.String() || len(opened.Images) != 2 || opened.Images[1].Arch() != apk.ArchAArch64 {
			t.Errorf("%s: got %s, %d images", ref, opened.Digest, len(opened.Images))
		}
		var got []string
		for _, i := range opened.Images {
			c, err := i.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, list(t, c)...)
		}
		if diff := cmp.Diff([]string{"f0644 0:0 /b 3fc4ccfe", "f0644 0:0 /c 8b5b9db0"}, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", ref, diff)
		}
		opened.Close()
	}
	_, err = view.Open(t.Context(), host+":2", view.Options{Registry: client})
	if missing, _ := errors.AsType[*registry.Error](err); missing == nil || !missing.Missing {
		t.Errorf("a tag that is not there: got %v", err)
	}
}

func forArch(t testing.TB, i v1.Image, arch string) v1.Image {
	t.Helper()
	file, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Architecture = arch
	if i, err = mutate.ConfigFile(i, file); err != nil {
		t.Fatal(err)
	}
	return i
}

// Images of this program are looked at as all others are.
func TestComposed(t *testing.T) {
	opened, err := view.Composed("web", view.Options{}, image(t, layer(t, "0 a one")), forArch(t, image(t, layer(t, "0 b two")), "arm64"))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	for _, i := range opened.Images {
		if _, err := i.Read(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
