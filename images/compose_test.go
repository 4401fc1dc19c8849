package images_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// contents describes a package of a test.
type contents struct {
	name, version, origin string
	arch                  string            // x86_64 when empty
	lines                 []string          // further lines of .PKGINFO
	files                 []string          // "mode path content", "mode path/ ", "path -> target", "path = earlier path"
	headers               []tar.Header      // entries as they are, after the files
	scripts               map[string]string // by name, e.g. .post-install
	date                  int64
	junk                  string // stands in place of a signature, as another key's would
}

// build makes the .apk file: three compressed archives, of which the first two do not end.
func (c contents) build(t testing.TB) ([]byte, *apk.Entry) {
	t.Helper()
	date, arch := c.date, c.arch
	if date == 0 {
		date = 1700000000
	}
	if arch == "" {
		arch = "x86_64"
	}
	var data bytes.Buffer
	z := gzip.NewWriter(&data)
	w := tar.NewWriter(z)
	add := func(w *tar.Writer, h *tar.Header, body string) {
		h.Size = int64(len(body))
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(date, 0)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	digest := func(s string) map[string]string {
		sum := sha1.Sum([]byte(s))
		return map[string]string{"APK-TOOLS.checksum.SHA1": hex.EncodeToString(sum[:])}
	}
	made := map[string]bool{}
	var parents func(string)
	parents = func(name string) {
		dir := filepath.Dir(name)
		if dir == "." || made[dir] {
			return
		}
		parents(dir)
		made[dir] = true
		add(w, &tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, "")
	}
	size := 1
	for _, line := range c.files {
		isFile := strings.HasPrefix(line, "0") || strings.HasPrefix(line, "1") || strings.HasPrefix(line, "2") || strings.HasPrefix(line, "4")
		if name, target, ok := strings.Cut(line, " -> "); ok && !isFile {
			parents(name)
			add(w, &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, PAXRecords: digest(target)}, "")
			continue
		}
		if name, target, ok := strings.Cut(line, " = "); ok && !isFile {
			parents(name)
			add(w, &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o755}, "")
			continue
		}
		var mode int64
		var name string
		if _, err := fmt.Sscanf(line, "%o %s", &mode, &name); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		_, body, _ := strings.Cut(line, name+" ")
		if dir, ok := strings.CutSuffix(name, "/"); ok {
			parents(dir)
			made[dir] = true
			add(w, &tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: mode}, "")
			continue
		}
		parents(name)
		size += len(body)
		add(w, &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, PAXRecords: digest(body)}, body)
	}
	for i := range c.headers {
		add(w, &c.headers[i], "")
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(data.Bytes())
	info := fmt.Sprintf("pkgname = %s\npkgver = %s\narch = %s\nsize = %d\norigin = %s\npkgdesc = A package of a test\nurl = https://example.org\nbuilddate = %d\nlicense = MIT\n%sdatahash = %x\n",
		c.name, c.version, arch, size, c.origin, date, strings.Join(append(c.lines, ""), "\n"), hash)
	control := member(t, func(w *tar.Writer) {
		add(w, &tar.Header{Typeflag: tar.TypeReg, Name: ".PKGINFO", Mode: 0o644}, info)
		var names []string
		for name := range c.scripts {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			add(w, &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, PAXRecords: digest(c.scripts[name])}, c.scripts[name])
		}
	})
	var file []byte
	if c.junk != "" {
		file = member(t, func(w *tar.Writer) {
			add(w, &tar.Header{Typeflag: tar.TypeReg, Name: ".SIGN.RSA256." + c.junk + ".rsa.pub", Mode: 0o644}, c.junk)
		})
	}
	file = slices.Concat(file, control, data.Bytes())
	parsed, err := apk.ParseInfo(strings.NewReader(info))
	if err != nil {
		t.Fatal(err)
	}
	return file, &apk.Entry{Info: parsed, Checksum: sha1.Sum(control), FileSize: int64(len(file))}
}

// member is one compressed archive that does not end.
func member(t testing.TB, fill func(*tar.Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	fill(w)
	if err := errors.Join(w.Flush(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func put(t testing.TB, st *store.Store, all ...contents) []images.Package {
	t.Helper()
	var packages []images.Package
	for _, c := range all {
		data, entry := c.build(t)
		digest, _, err := st.Put(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, images.Package{Entry: entry, Digest: digest, From: "test"})
	}
	return packages
}

func load(t testing.TB, text string) *images.Spec {
	t.Helper()
	s, err := images.Load(fstest.MapFS{"web.yaml": {Data: []byte(text)}}, "web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func compose(t testing.TB, st *store.Store, text string, packages []images.Package) (*images.Image, error) {
	t.Helper()
	return images.Compose(t.Context(), load(t, text), packages, images.Options{Arch: apk.ArchX86_64, Store: st})
}

func mustCompose(t testing.TB, st *store.Store, text string, all ...contents) *images.Image {
	t.Helper()
	image, err := compose(t, st, text, put(t, st, all...))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func list(t testing.TB, image *images.Image) string {
	t.Helper()
	var b bytes.Buffer
	if err := image.List(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var (
	layoutPackage = contents{name: "base-layout", version: "1-r0", files: []string{
		"0755 etc/", "0644 etc/passwd root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n", "0644 etc/group root:x:0:\nnobody:x:65534:\n",
		"0640 etc/shadow root:*::0:::::\n", "0644 etc/os-release ID=tarn\n", "0755 usr/", "0755 usr/lib/", "0755 usr/bin/", "lib -> usr/lib", "bin -> usr/bin", "0700 root/", "0644 etc/ssl/certs/ca-certificates.crt bundle\n",
	}}
	muslPackage = contents{name: "musl", version: "1.2.5-r3", files: []string{"0755 usr/lib/ld-musl-x86_64.so.1 musl"}}
	webPackage  = contents{name: "web", version: "2.0-r1", origin: "websrc", lines: []string{"depend = so:libc.musl-x86_64.so.1", "triggers = /usr/share/web"},
		scripts: map[string]string{".post-install": "#!/bin/sh\nadduser web\n", ".trigger": "#!/bin/sh\n"},
		files:   []string{"0755 usr/bin/web program", "usr/bin/webctl = usr/bin/web", "0644 usr/share/web/index.html hello"}}
)

const webImage = `contents:
  packages: [base-layout, "web>=2"]
accounts:
  run-as: www
  groups: [{groupname: www, gid: 82}]
  users: [{username: www, uid: 82, gid: 82}]
entrypoint: {command: /usr/bin/web --root "/srv/my files"}
cmd: -v
work-dir: /srv
stop-signal: SIGQUIT
environment: {TZ: UTC}
volumes: [/data]
annotations: {team: web}
vcs-url: https://example.org/images@0123
paths:
  - {path: /run/web, type: directory, uid: 82, gid: 82}
  - {path: /srv, type: directory, permissions: 0o750}
  - {path: /etc/web.conf, type: empty-file}
  - {path: /etc/link, type: symlink, source: /usr/bin/web}
  - {path: /srv/index.html, type: hardlink, source: /usr/share/web/index.html}
distroless: true
`

// update writes golden files anew.
var update = os.Getenv("UPDATE_GOLDEN") != ""

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (UPDATE_GOLDEN=1 writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", file, diff)
	}
}

func TestComposedFiles(t *testing.T) {
	image := mustCompose(t, openStore(t), webImage, layoutPackage, muslPackage, webPackage)
	golden(t, "web.files", list(t, image))
}

func TestConfiguration(t *testing.T) {
	image := mustCompose(t, openStore(t), webImage, layoutPackage, muslPackage, webPackage)
	var file v1.ConfigFile
	if err := json.Unmarshal(image.Config, &file); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"team": "web", "org.opencontainers.image.source": "https://example.org/images", "org.opencontainers.image.revision": "0123"}
	want := v1.Config{
		User: "82", WorkingDir: "/srv", StopSignal: "SIGQUIT", Volumes: map[string]struct{}{"/data": {}},
		Entrypoint: []string{"/usr/bin/web", "--root", "/srv/my files"}, Cmd: []string{"-v"}, Labels: labels,
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "TZ=UTC"},
	}
	if diff := cmp.Diff(want, file.Config); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if file.Architecture != "amd64" || file.OS != "linux" || file.Created.Unix() != 1700000000 {
		t.Errorf("got %s/%s created %v", file.OS, file.Architecture, file.Created)
	}
	var m v1.Manifest
	if err := json.Unmarshal(image.Manifest, &m); err != nil {
		t.Fatal(err)
	}
	labels["org.opencontainers.image.created"] = "2023-11-14T22:13:20Z"
	if diff := cmp.Diff(labels, m.Annotations); diff != "" {
		t.Errorf("annotations: -want +got:\n%s", diff)
	}
	scripts := []images.ScriptOutcome{
		{Package: "web-2.0-r1", Script: "post-install", Result: images.ScriptReplaced, Did: []string{"add user web (1000:1000)", "make folder /home/web"}},
		{Package: "web-2.0-r1", Script: "trigger", Result: images.ScriptIdle},
	}
	if diff := cmp.Diff(scripts, image.About.Scripts); diff != "" {
		t.Errorf("scripts: -want +got:\n%s", diff)
	}
}

// The same packages give the same image in another store, under another mask for
// new files, on one processor, and signed by another key.
func TestSameBytes(t *testing.T) {
	packages := []contents{layoutPackage, muslPackage, webPackage, big("a", "1-r0"), big("b", "1-r0"), big("c", "1-r0"), big("d", "1-r0"), big("e", "1-r0"), big("f", "1-r0")}
	first := mustCompose(t, openStore(t), webImage, packages...)
	want := layoutBytes(t, first)
	signed := webPackage
	signed.junk = "another-key"
	packages[2] = signed
	defer syscall.Umask(syscall.Umask(0o077))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	st := openStore(t)
	for _, when := range []string{"elsewhere", "again"} {
		image := mustCompose(t, st, webImage, packages...)
		if image.About.Digest != first.About.Digest {
			t.Errorf("%s: got %s, want %s", when, image.About.Digest, first.About.Digest)
		}
		if !bytes.Equal(first.SBOM, image.SBOM) {
			t.Errorf("%s: the SBOMs differ", when)
		}
		if diff := cmp.Diff(want, layoutBytes(t, image)); diff != "" {
			t.Errorf("%s: layouts differ: -want +got:\n%s", when, diff)
		}
		if diff := cmp.Diff(list(t, first), list(t, image)); diff != "" {
			t.Errorf("%s: files differ: -want +got:\n%s", when, diff)
		}
	}
}

// What a package says of itself need not be UTF-8. It gives the same image when it was just
// read and when it was read before.
func TestSameBytesOfAnyText(t *testing.T) {
	st := openStore(t)
	packages := put(t, st, layoutPackage, contents{name: "old", version: "1-r0", lines: []string{"maintainer = J\xf6rg <joerg@example.org>"}, files: []string{"0644 usr/share/old x"}})
	const file = "contents: {packages: [old]}\n"
	first, err := compose(t, st, file, packages)
	if err != nil {
		t.Fatal(err)
	}
	// An image with more outputs is not known yet; what was read of its packages is.
	again, err := images.Compose(t.Context(), load(t, file), packages, images.Options{Arch: apk.ArchX86_64, Store: st, RootFS: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(layoutBytes(t, first), layoutBytes(t, again)); diff != "" {
		t.Errorf("-first +again:\n%s", diff)
	}
}

// An index may say any size of a package before that is read: the layers are those of the
// sizes that there are.
func TestSizesThatCannotBe(t *testing.T) {
	const file = "contents: {packages: [a]}\nlayering: {strategy: package, budget: 1}\n"
	want := mustCompose(t, openStore(t), file, layoutPackage, big("a", "1-r0"))
	st := openStore(t)
	packages := put(t, st, layoutPackage, big("a", "1-r0"))
	packages[1].Entry.Size = 1 << 62
	got, err := compose(t, st, file, packages)
	if err != nil {
		t.Fatal(err)
	}
	if got.About.Digest != want.About.Digest {
		t.Errorf("got %s, want %s", got.About.Digest, want.About.Digest)
	}
}

// layoutBytes gives the digest of every file of the image's layout.
func layoutBytes(t *testing.T, image *images.Image) map[string]string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if err := image.WriteLayout(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = fmt.Sprintf("%v %x", info.Mode(), sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// big is a package with a layer of its own.
func big(name, version string) contents {
	return contents{name: name, version: version, files: []string{"0644 usr/share/" + name + " " + strings.Repeat(name+version, 800<<10/len(name+version))}}
}

const bigImage = "contents: {packages: [a]}\n"

// A package that changes changes its own layer and the top one.
func TestLayersDependOnTheirPackages(t *testing.T) {
	st := openStore(t)
	var all []contents
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		all = append(all, big(name, "1-r0"))
	}
	before := mustCompose(t, st, bigImage, append(all, layoutPackage)...)
	all[2] = big("c", "2-r0")
	after := mustCompose(t, st, bigImage, append(all, layoutPackage)...)
	if got, want := len(before.About.Layers), 9; got != want {
		t.Fatalf("got %d layers, want %d: one a big package, one of the rest, the top", got, want)
	}
	old := map[string]bool{}
	for _, l := range before.About.Layers {
		old[l.Digest] = true
	}
	var changed []string
	for _, l := range after.About.Layers {
		if !old[l.Digest] {
			changed = append(changed, strings.Join(l.Packages, " "))
		}
	}
	if diff := cmp.Diff([]string{"c-2-r0", ""}, changed); diff != "" {
		t.Errorf("changed layers: -want +got:\n%s", diff)
	}
}

// The layers, laid over each other, are the tree, whatever the strategy.
func TestLayersGiveTheTree(t *testing.T) {
	packages := []contents{layoutPackage, muslPackage, webPackage, big("a", "1-r0"), big("b", "1-r0"), big("c", "1-r0"), big("d", "1-r0"), big("e", "1-r0"), big("f", "1-r0"),
		{name: "old", version: "1-r0", files: []string{"0755 lib/", "0644 lib/old.so old", "0700 var/lib/x/", "0644 etc/shared theirs"}},
		{name: "new", version: "1-r0", lines: []string{"replaces = old"}, files: []string{"0644 etc/shared mine", "0755 var/lib/x/", "0644 var/lib/x/f f"}},
	}
	var want string
	for _, layering := range []string{"", "layering: {}\n", "layering: {strategy: origin, budget: 3}\n", "layering: {strategy: package, budget: 2}\n", "layering: {compression: zstd}\n", "layering: {strategy: origin, budget: 3, compression: none}\n"} {
		image := mustCompose(t, openStore(t), webImage+layering, packages...)
		got := flatten(t, image)
		if want == "" {
			want = got
			if !strings.Contains(got, "usr/lib/old.so") || strings.Contains(got, "\nd 0755 0:0 lib/\n") {
				t.Errorf("a file below a link to a folder is not where the link leads:\n%s", got)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got:\n%s", layering, diff)
		}
	}
}

// flatten lists what a container runtime makes of the layers.
func flatten(t *testing.T, image *images.Image) string {
	t.Helper()
	oci, err := image.OCI()
	if err != nil {
		t.Fatal(err)
	}
	var how []validate.Option
	if image.About.Layers[0].MediaType != types.OCILayer {
		how = append(how, validate.Fast) // all it can read is gzip
	}
	if err := validate.Image(oci, how...); err != nil {
		t.Fatal(err)
	}
	layers, err := oci.Layers()
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		diff := sha256.New()
		whole := io.TeeReader(r, diff)
		for tr := tar.NewReader(whole); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeLink {
				lines[h.Name] = "link to " + h.Linkname
				continue
			}
			sum := sha256.Sum256(body)
			lines[h.Name] = fmt.Sprintf("%c %04o %d:%d %d %s %x", h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.Unix(), h.Linkname, sum[:4])
		}
		if _, err := io.Copy(io.Discard, whole); err != nil {
			t.Fatal(err)
		}
		if id, err := l.DiffID(); err != nil || id.Hex != hex.EncodeToString(diff.Sum(nil)) {
			t.Errorf("the archive is not the one of DiffID %s (%v)", id, err)
		}
		r.Close()
	}
	var list []string
	for name, line := range lines {
		list = append(list, name+" "+line)
	}
	sort.Strings(list)
	return strings.Join(list, "\n")
}

func TestRefusals(t *testing.T) {
	elf := "\x7fELF" + strings.Repeat(".", 40000)
	tests := []struct {
		summary string
		image   string
		add     contents
		want    []images.Reason
	}{
		{"a shell by name", "", contents{files: []string{"0755 usr/bin/bash x"}}, []images.Reason{{Rule: "shell", Path: "/usr/bin/bash", Text: "a shell (bash)"}}},
		{"a shell that cannot be run", "", contents{files: []string{"0644 usr/share/bash x", "0755 usr/share/sh/"}}, nil},
		{"a program of a rare shell's name elsewhere", "", contents{files: []string{"0755 usr/lib/x/rc x", "0755 usr/lib/x/stack x"}}, nil},
		{"a rare shell", "", contents{files: []string{"0755 usr/bin/fish x"}}, []images.Reason{{Rule: "shell", Path: "/usr/bin/fish", Text: "a shell (fish)"}}},
		{"a link to busybox", "", contents{files: []string{"0755 usr/bin/busybox x", "usr/bin/ls -> busybox"}}, []images.Reason{
			{Rule: "shell", Path: "/usr/bin/busybox", Text: "a shell (busybox)"}, {Rule: "shell", Path: "/usr/bin/ls", Text: "a link to a shell (/usr/bin/busybox)"},
		}},
		{"a link that dangles", "", contents{files: []string{"usr/bin/sh -> /mnt/sh"}}, []images.Reason{{Rule: "shell", Path: "/usr/bin/sh", Text: "a shell (sh)"}}},
		{"busybox of another name", "", contents{files: []string{"0755 usr/lib/tool " + elf + "BusyBox is a multi-call binary" + elf}}, []images.Reason{{Rule: "shell", Path: "/usr/lib/tool", Text: "a shell (busybox, by its content)"}}},
		{"a POSIX shell of another name", "", contents{files: []string{"0755 usr/lib/tool " + elf + "getopts\x00" + elf + "unalias\x00"}}, []images.Reason{{Rule: "shell", Path: "/usr/lib/tool", Text: "a shell (a POSIX shell, by its content)"}}},
		{"a program that names a shell", "", contents{files: []string{"0755 usr/lib/tool " + elf + "getopts\x00 BusyBox v1"}}, nil},
		{"what /etc/shells lists", "", contents{files: []string{"0755 opt/x x", "0644 etc/shells # shells\n/opt/x\n/opt/y\n"}}, []images.Reason{{Rule: "shell", Path: "/opt/x", Text: "a shell (it stands in /etc/shells)"}}},
		{"a package manager", "", contents{files: []string{"0755 sbin/apk x", "0755 usr/bin/pip3.12 x", "0755 usr/lib/python3.12/site-packages/pip/"}}, []images.Reason{
			{Rule: "package-manager", Path: "/sbin/apk", Text: "a package manager (apk)"}, {Rule: "package-manager", Path: "/usr/bin/pip3.12", Text: "a package manager (pip)"},
			{Rule: "package-manager", Path: "/usr/lib/python3.12/site-packages/pip", Text: "a package manager (pip)"},
		}},
		{"setuid, setgid", "", contents{files: []string{"4755 usr/bin/a x", "2755 usr/bin/b x", "2755 var/mail/"}}, []images.Reason{
			{Rule: "setuid", Path: "/usr/bin/a", Text: "a setuid or setgid file (mode 4755)"}, {Rule: "setuid", Path: "/usr/bin/b", Text: "a setuid or setgid file (mode 2755)"},
		}},
		{"capabilities", "", contents{headers: []tar.Header{{Typeflag: tar.TypeReg, Name: "ping", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "APK-TOOLS.checksum.SHA1": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
		}}}}, []images.Reason{{Rule: "capability", Path: "/ping", Text: "a file with capabilities"}}},
		{"a package of the seed", "", contents{origin: "tarn-seed"}, []images.Reason{{Rule: "seed", Text: "it is a package of the seed"}}},
		{"the image file itself", "paths: [{path: /usr/bin/web, type: permissions, permissions: 0o4755}]\n", contents{}, []images.Reason{
			{Rule: "setuid", Path: "/usr/bin/web", Package: "web-2.0-r1", Text: "a setuid or setgid file (mode 4755)"}, {Rule: "setuid", Path: "/usr/bin/webctl", Package: "web-2.0-r1", Text: "a setuid or setgid file (mode 4755)"},
		}},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			test.add.name, test.add.version = "extra", "1-r0"
			for i := range test.want {
				if test.want[i].Package == "" {
					test.want[i].Package = "extra-1-r0"
				}
			}
			st := openStore(t)
			packages := put(t, st, layoutPackage, webPackage, test.add)
			_, err := compose(t, st, "contents: {packages: [web]}\ndistroless: true\n"+test.image, packages)
			refusal, refused := errors.AsType[*images.Refusal](err)
			if err != nil && !refused {
				t.Fatal(err)
			}
			var got []images.Reason
			if refused {
				got = refusal.Reasons
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if test.add.origin != "" {
				return // a seed is refused everywhere
			}
			if _, err := compose(t, st, "contents: {packages: [web]}\n"+test.image, packages); err != nil {
				t.Errorf("not distroless: %v", err)
			}
		})
	}
}

// A shell that the image file brings is known by its content as one of a package is.
func TestDistrolessLooksIntoFilesOfTheImageFile(t *testing.T) {
	st := openStore(t)
	packages := put(t, st, layoutPackage, webPackage)
	_, err := compose(t, st, `contents: {packages: [web]}
distroless: true
files:
  - {path: /usr/bin/hello, content: "\x7fELF BusyBox is a multi-call binary", permissions: 0o755}
`, packages)
	want := []images.Reason{{Rule: "shell", Path: "/usr/bin/hello", Text: "a shell (busybox, by its content)"}}
	refusal, refused := errors.AsType[*images.Refusal](err)
	if !refused {
		t.Fatalf("got %v, want a refusal", err)
	}
	if diff := cmp.Diff(want, refusal.Reasons); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFileConflict(t *testing.T) {
	st := openStore(t)
	packages := put(t, st, layoutPackage, contents{name: "x", version: "1-r0", files: []string{"0644 etc/os-release ID=other\n"}})
	_, err := compose(t, st, "contents: {packages: [x]}\n", packages)
	if _, ok := errors.AsType[rootfs.ConflictError](err); !ok || !strings.Contains(err.Error(), "/etc/os-release: base-layout-1-r0 and x-1-r0 both bring it") {
		t.Errorf("got %v, want a conflict that names the path and both packages", err)
	}
}

// What cannot be done with these packages is a mistake in the image file, with its place.
func TestImpossible(t *testing.T) {
	tests := []struct{ image, want string }{
		{"accounts: {run-as: www}\n", "web.yaml:2:20: run-as: there is no user \"www\"\n  hint: add it to accounts.users, or write its number"},
		{"accounts: {users: [{username: root, uid: 5}]}\n", "web.yaml:2:20: user \"root\" is there already with other ids: root:x:0:0:root:/root:/sbin/nologin"},
		{"paths:\n  - {path: /etc/passwd, type: directory}\n  - {path: /none, type: permissions, uid: 1}\n", "web.yaml:3:5: make folder /etc/passwd: it is a file\nweb.yaml:4:5: \"/none\" is not there\n2 problems in 1 file"},
		{"paths: [{path: /x, type: hardlink, source: /none}]\n", "web.yaml:2:9: link /x to /none: file does not exist"},
	}
	for _, test := range tests {
		st := openStore(t)
		_, err := compose(t, st, "contents: {packages: [x]}\n"+test.image, put(t, st, layoutPackage))
		if _, ok := diag.Of(err); !ok || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

// Whatever an evil package holds, it is refused or stays within the image.
func TestHostilePackages(t *testing.T) {
	empty := map[string]string{"APK-TOOLS.checksum.SHA1": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}
	tests := []struct {
		summary string
		headers []tar.Header
	}{
		{"above the root", []tar.Header{{Typeflag: tar.TypeReg, Name: "../../evil", Mode: 0o644, PAXRecords: empty}}},
		{"absolute", []tar.Header{{Typeflag: tar.TypeReg, Name: "/evil", Mode: 0o644, PAXRecords: empty}}},
		{"hard link out", []tar.Header{{Typeflag: tar.TypeLink, Name: "evil", Linkname: "/etc/passwd"}}},
		{"hard link to another's file", []tar.Header{{Typeflag: tar.TypeLink, Name: "evil", Linkname: "etc/passwd"}}},
		{"through a link", []tar.Header{{Typeflag: tar.TypeSymlink, Name: "out", Linkname: "/../../..", Mode: 0o777}, {Typeflag: tar.TypeReg, Name: "out/evil", Mode: 0o644, PAXRecords: empty}}},
		{"links in a circle", []tar.Header{{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "a", Mode: 0o777}, {Typeflag: tar.TypeReg, Name: "a/evil", Mode: 0o644, PAXRecords: empty}}},
		{"a path twice", []tar.Header{{Typeflag: tar.TypeReg, Name: "evil", Mode: 0o644, PAXRecords: empty}, {Typeflag: tar.TypeSymlink, Name: "evil", Linkname: "/etc", Mode: 0o777}}},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			st := openStore(t)
			data, entry := contents{name: "evil", version: "1-r0", headers: test.headers}.build(t)
			digest, _, err := st.Put(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			packages := append(put(t, st, layoutPackage), images.Package{Entry: entry, Digest: digest})
			image, err := compose(t, st, "contents: {packages: [evil]}\n", packages)
			if err != nil {
				if !strings.Contains(err.Error(), "evil-1-r0") {
					t.Errorf("%v does not name the package", err)
				}
				return
			}
			for line := range strings.Lines(flatten(t, image)) {
				if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../") {
					t.Errorf("the image has %s", line)
				}
			}
		})
	}
}

// Layers have marks that hide what is below them. A package can't set one.
func TestMarksOfLayersAreRefused(t *testing.T) {
	empty := map[string]string{"APK-TOOLS.checksum.SHA1": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}
	opaque := map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}
	tests := []struct {
		header tar.Header
		want   string
	}{
		{tar.Header{Typeflag: tar.TypeReg, Name: ".wh.usr", Mode: 0o644, PAXRecords: empty}, ""},
		{tar.Header{Typeflag: tar.TypeReg, Name: "etc/.wh..wh..opq", Mode: 0o644, PAXRecords: empty}, "/etc/.wh..wh..opq of evil: a name that begins with .wh. hides files of other layers"},
		{tar.Header{Typeflag: tar.TypeDir, Name: "data", Mode: 0o755, PAXRecords: opaque}, "/data of evil: the attribute trusted.overlay.opaque hides files of other layers"},
	}
	for _, test := range tests {
		st := openStore(t)
		evil := contents{name: "evil", version: "1-r0", files: []string{"0755 etc/"}, headers: []tar.Header{test.header}}
		data, entry := evil.build(t)
		digest, _, err := st.Put(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		image, err := compose(t, st, "contents: {packages: [evil]}\n", append(put(t, st, layoutPackage), images.Package{Entry: entry, Digest: digest}))
		switch {
		case test.want != "":
			if err == nil || err.Error() != test.want {
				t.Errorf("%s: got %v, want %s", test.header.Name, err, test.want)
			}
		case err != nil:
			t.Errorf("%s: %v", test.header.Name, err)
		case strings.Contains(flatten(t, image), ".wh."):
			// What begins with a dot at the root is left out, as apk does.
			t.Errorf("%s is in the image", test.header.Name)
		}
	}
}

// A byte that flipped in the store is found: nothing is composed or written of it.
func TestTamperedStore(t *testing.T) {
	st := openStore(t)
	packages := put(t, st, layoutPackage, webPackage)
	flip := func(d string) {
		file := filepath.Join(st.Dir(), "blobs", "sha256", d[7:9], d[7:])
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := errors.Join(os.Chmod(file, 0o644), os.WriteFile(file, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	const file = "contents: {packages: [web]}\n"
	flip(string(packages[1].Digest))
	if _, err := compose(t, st, file, packages); !isCorrupt(err) {
		t.Fatalf("a package: got %v, want a *store.CorruptError", err)
	}
	packages = put(t, st, layoutPackage, webPackage)
	image, err := compose(t, st, file, packages)
	if err != nil {
		t.Fatal(err)
	}
	flip(image.About.Layers[0].Digest)
	dir := filepath.Join(t.TempDir(), "layout")
	if err := image.WriteLayout(t.Context(), dir); !isCorrupt(err) {
		t.Fatalf("a layer: got %v, want a *store.CorruptError", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a layout was written: %v", err)
	}
	again, err := compose(t, st, file, packages)
	if err != nil {
		t.Fatal(err)
	}
	if again.About.Digest != image.About.Digest {
		t.Errorf("composed again: got %s, want %s", again.About.Digest, image.About.Digest)
	}
	if err := again.WriteLayout(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

// A package whose files cannot be read any more is told, whatever of the image is known:
// the documents are of them, too.
func TestUnreadablePackageIsTold(t *testing.T) {
	st := openStore(t)
	doc := contents{name: "doc", version: "1-r0", files: []string{"0644 var/lib/db/sbom/doc-1-r0.spdx.json {}"}}
	packages := put(t, st, layoutPackage, doc)
	const file = "contents: {packages: [doc]}\n"
	if _, err := compose(t, st, file, packages); err != nil {
		t.Fatal(err)
	}
	d := string(packages[1].Digest)
	blob := filepath.Join(st.Dir(), "blobs", "sha256", d[7:9], d[7:])
	if err := errors.Join(os.Chmod(blob, 0o644), os.WriteFile(blob, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := compose(t, st, file+"cmd: another\n", packages); !isCorrupt(err) {
		t.Errorf("got %v, want a *store.CorruptError", err)
	}
}

// So is a base image.
func TestUnreadableBaseIsTold(t *testing.T) {
	st := openStore(t)
	sum := "sha256:" + strings.Repeat("0", 64)
	base := &images.Base{Digest: sum, Layers: []images.Layer{{Digest: sum, DiffID: sum}}, Tree: rootfs.Of(map[string]*rootfs.Inode{
		"etc": {Mode: fs.ModeDir | 0o755}, "etc/os-release": {Mode: 0o644, Size: 1, Sum: strings.Repeat("0", 64)},
	}), SHA1: map[string]string{"etc/os-release": strings.Repeat("1", 40)}}
	if err := base.Prepare(st, apk.ArchX86_64); err != nil {
		t.Fatal(err)
	}
	_, err := images.Compose(t.Context(), load(t, "contents: {packages: [musl]}\n"), put(t, st, muslPackage), images.Options{Arch: apk.ArchX86_64, Store: st, Base: base})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "layer 1 of the base image") {
		t.Errorf("got %v, want that a layer is not there", err)
	}
}

func isCorrupt(err error) bool {
	_, ok := errors.AsType[*store.CorruptError](err)
	return ok
}

// A layout is replaced in one step: what stops in between leaves the old one, and nothing beside it.
func TestLayoutIsReplaced(t *testing.T) {
	st := openStore(t)
	first := mustCompose(t, st, "contents: {packages: [x]}\n", layoutPackage)
	second := mustCompose(t, st, webImage, layoutPackage, webPackage)
	parent := t.TempDir()
	dir := filepath.Join(parent, "web")
	digest := func() string {
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(index); err != nil {
			t.Fatal(err)
		}
		m, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		return m.Manifests[0].Digest.String()
	}
	if err := first.WriteLayout(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := second.WriteLayout(stopped, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: got %v", err)
	}
	if got := digest(); got != first.About.Digest {
		t.Errorf("stopped: got %s, want the old %s", got, first.About.Digest)
	}
	if err := second.WriteLayout(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if got := digest(); got != second.About.Digest {
		t.Errorf("got %s, want %s", got, second.About.Digest)
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v beside the layout, %v", entries, err)
	}
}

func TestArchiveLoads(t *testing.T) {
	image := mustCompose(t, openStore(t), webImage, layoutPackage, muslPackage, webPackage)
	file := filepath.Join(t.TempDir(), "web.tar")
	if err := image.WriteArchive(t.Context(), file, "web:latest"); err != nil {
		t.Fatal(err)
	}
	oci, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(oci); err != nil {
		t.Error(err)
	}
	again := filepath.Join(t.TempDir(), "again.tar")
	if err := image.WriteArchive(t.Context(), again, "web:latest"); err != nil {
		t.Fatal(err)
	}
	a, err1 := os.ReadFile(file)
	b, err2 := os.ReadFile(again)
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) {
		t.Errorf("two archives of one image differ (%v)", err)
	}
	if err := image.WriteArchive(t.Context(), file, "Not A Tag"); err == nil {
		t.Error("a malformed tag is no error")
	}
}

// program is a program of the machine that a test needs.
func program(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing", name)
		}
		t.Skipf("%s is missing", name)
	}
	return p
}

func runs(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// podmanIn gives the flags by which podman keeps all that it knows below a folder of its
// own: whoever works with podman on this machine notices nothing.
func podmanIn(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	settings := filepath.Join(dir, "containers.conf")
	// Its locks lie in shared memory under one name otherwise.
	if err := os.WriteFile(settings, []byte("[engine]\nlock_type = \"file\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_CONF", settings)
	t.Setenv("HOME", dir)
	return []string{
		"--root", filepath.Join(dir, "storage"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "engine"),
		"--storage-driver", "vfs", "--events-backend", "none",
	}
}

// Other tools read what is written: skopeo copies layout and archive, podman loads the
// archive, umoci and tar unpack them to the tree.
func TestOtherToolsReadIt(t *testing.T) {
	image := mustCompose(t, openStore(t), webImage, layoutPackage, muslPackage, webPackage)
	dir := t.TempDir()
	oci, archive := filepath.Join(dir, "oci"), filepath.Join(dir, "web.tar")
	if err := errors.Join(image.WriteLayout(t.Context(), oci), image.WriteArchive(t.Context(), archive, "web:latest")); err != nil {
		t.Fatal(err)
	}
	t.Run("skopeo", func(t *testing.T) {
		out := runs(t, "skopeo", "inspect", "oci:"+oci)
		if !strings.Contains(out, image.About.Digest) {
			t.Errorf("skopeo does not tell digest %s:\n%s", image.About.Digest, out)
		}
		runs(t, "skopeo", "copy", "--insecure-policy", "oci:"+oci, "docker-archive:"+filepath.Join(dir, "copy.tar"))
		runs(t, "skopeo", "copy", "--insecure-policy", "docker-archive:"+archive, "oci:"+filepath.Join(dir, "loaded:latest"))
	})
	t.Run("podman", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("podman without root needs a machine that is set up for it")
		}
		podman := podmanIn(t)
		if out, err := exec.Command(program(t, "podman"), append(podman, "info")...).CombinedOutput(); err != nil {
			t.Skipf("podman does not work on this machine: %v\n%s", err, out)
		}
		runs(t, "podman", append(podman, "load", "--input", archive)...)
		// Not what it says beside, of how this machine is set up.
		told, err := exec.Command("podman", append(podman, "image", "inspect", "--format", "{{.Digest}} {{.Architecture}} {{.User}} {{json .Config.Entrypoint}} {{len .RootFS.Layers}}", "docker.io/library/web:latest")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		config := image.About.Config
		entrypoint, err := json.Marshal(config.Entrypoint)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%s amd64 %s %s %d\n", image.About.Digest, config.User, entrypoint, len(image.About.Layers)); string(told) != want {
			t.Errorf("got %swant %s", told, want)
		}
	})
	t.Run("umoci", func(t *testing.T) {
		runs(t, "skopeo", "copy", "--insecure-policy", "oci:"+oci, "oci:"+filepath.Join(dir, "tagged")+":latest")
		bundle := filepath.Join(dir, "bundle")
		args := []string{"unpack", "--image", filepath.Join(dir, "tagged") + ":latest"}
		if os.Getuid() != 0 {
			args = append(args, "--rootless")
		}
		runs(t, "umoci", append(args, bundle)...)
		if got, err := os.ReadFile(filepath.Join(bundle, "rootfs/usr/share/web/index.html")); err != nil || string(got) != "hello" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("tar", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root can give files to other users and make devices")
		}
		root := filepath.Join(dir, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, l := range image.About.Layers {
			runs(t, "tar", "-x", "--same-owner", "--numeric-owner", "-p", "-z", "-C", root, "-f", filepath.Join(oci, "blobs", "sha256", strings.TrimPrefix(l.Digest, "sha256:")))
		}
		out := runs(t, "find", root, "-mindepth", "1", "-printf", "%y%04m %U:%G /%P\n")
		got := strings.Split(strings.TrimSpace(out), "\n")
		var want []string
		for line := range strings.Lines(list(t, image)) {
			want = append(want, strings.Join(strings.Fields(line)[:3], " "))
		}
		sort.Strings(got)
		sort.Strings(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-listed +unpacked:\n%s", diff)
		}
	})
}
