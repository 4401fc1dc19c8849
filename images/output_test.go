package images_test

import (
	"archive/tar"
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
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

func inode(t *testing.T, file string) uint64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// What is there as it was left is not written again; what was touched since, or taken
// away, or put beside it, is made right; and the store is checked all the same.
func TestWrittenOnce(t *testing.T) {
	st := openStore(t)
	packages := []contents{layoutPackage, big("a", "1-r0"), big("b", "1-r0"), big("c", "1-r0"), big("d", "1-r0"), big("e", "1-r0"), big("f", "1-r0")}
	image := mustCompose(t, st, bigImage, packages...)
	parent := t.TempDir()
	dir, archive := filepath.Join(parent, "x"), filepath.Join(parent, "x.tar")
	write := func(i *images.Image) error {
		return errors.Join(i.WriteLayout(t.Context(), dir), i.WriteArchive(t.Context(), archive, "x:latest"))
	}
	if err := write(image); err != nil {
		t.Fatal(err)
	}
	blob := func(i *images.Image, n int) string {
		return filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(i.About.Layers[n].Digest, "sha256:"))
	}
	want, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	layoutBefore, archiveBefore := inode(t, dir), inode(t, archive)
	if err := write(mustCompose(t, st, bigImage, packages...)); err != nil {
		t.Fatal(err)
	}
	if inode(t, dir) != layoutBefore || inode(t, archive) != archiveBefore {
		t.Error("what was there was written again")
	}
	for what, harm := range map[string]func() error{
		"a layer of another content": func() error {
			return errors.Join(os.WriteFile(blob(image, 1), []byte("x"), 0o644), os.WriteFile(archive, []byte("x"), 0o644))
		},
		"a layer that is gone": func() error { return errors.Join(os.Remove(blob(image, 0)), os.Remove(archive)) },
		"a file beside":        func() error { return os.WriteFile(filepath.Join(dir, "blobs", "more"), nil, 0o644) },
		"another mode":         func() error { return errors.Join(os.Chmod(blob(image, 2), 0o600), os.Chmod(archive, 0o600)) },
	} {
		if err := errors.Join(harm(), write(image)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got, err := os.ReadFile(archive); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the archive is another (%v)", what, err)
		}
		if info, err := os.Stat(archive); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: the archive has mode %v (%v)", what, info.Mode(), err)
		}
		again := filepath.Join(t.TempDir(), "again")
		if err := image.WriteLayout(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("diff", "-r", dir, again).CombinedOutput(); err != nil {
			t.Errorf("%s: the layout is not right: %s", what, out)
		}
	}
	// One package changes: the files of the other layers stay those that they are.
	kept := inode(t, blob(image, 0))
	packages[3] = big("c", "2-r0")
	other := mustCompose(t, st, bigImage, packages...)
	if err := write(other); err != nil {
		t.Fatal(err)
	}
	if got := inode(t, blob(other, 0)); got != kept {
		t.Error("the layer of a package that did not change was copied again")
	}
	// A layer that was tampered with in the store is found, though nothing is to be written.
	file := filepath.Join(st.Dir(), "blobs", "sha256", other.About.Layers[4].Digest[7:9], other.About.Layers[4].Digest[7:])
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.Chmod(file, 0o644), os.WriteFile(file, data, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := write(other); !isCorrupt(err) {
		t.Errorf("a layer tampered with in the store: got %v", err)
	}
}

// rootPackages have all that a root file system can hold: links, devices, owners, modes
// and extended attributes.
func rootPackages() []contents {
	odd := contents{name: "odd", version: "1-r0", files: []string{
		"4755 usr/bin/raised raised-once", "usr/bin/again = usr/bin/raised", "usr/bin/third = usr/bin/raised", "0000 usr/share/none x",
		"1777 var/spool/", "0644 usr/share/empty ", "usr/share/dangling -> ../../nowhere", "0644 usr/share/üñí text",
	}}
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	odd.headers = []tar.Header{
		{Typeflag: tar.TypeReg, Name: "usr/bin/capable", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}},
		{Typeflag: tar.TypeReg, Name: "usr/share/owned", Mode: 0o640, Uid: 65532, Gid: 82},
	}
	return []contents{layoutPackage, muslPackage, webPackage, odd, big("a", "1-r0"), big("b", "1-r0"), big("c", "1-r0"), big("d", "1-r0"), big("e", "1-r0")}
}

const rootImage = `contents: {packages: [web, odd]}
accounts:
  users: [{username: www, uid: 82, gid: 82}]
paths:
  - {path: /srv/data, type: directory, uid: 82, gid: 82, permissions: 0o2750}
  - {path: /srv/hard, type: hardlink, source: /usr/share/web/index.html}
`

// entriesOf lists the members of a tar archive: what a root file system made of it holds.
func entriesOf(t *testing.T, r io.Reader, entries map[string]string) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if h.Typeflag == tar.TypeLink {
			entries[name] = entries[h.Linkname]
			continue
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, tr); err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%o %d:%d", h.Mode, h.Uid, h.Gid)
		switch h.Typeflag {
		case tar.TypeDir:
			line = "d" + line
		case tar.TypeSymlink:
			line = fmt.Sprintf("l%d:%d -> %s", h.Uid, h.Gid, h.Linkname)
		case tar.TypeChar:
			line = fmt.Sprintf("c%s %d:%d", line, h.Devmajor, h.Devminor)
		default:
			line = fmt.Sprintf("f%s %d %x", line, h.ModTime.Unix(), sum.Sum(nil)[:8])
			if value := h.PAXRecords["SCHILY.xattr.security.capability"]; value != "" {
				line += fmt.Sprintf(" capability %x", value)
			}
		}
		entries[name] = line
	}
}

// unpacked lists a folder as entriesOf lists an archive.
func unpacked(t *testing.T, root string, attributes bool) map[string]string {
	t.Helper()
	entries := map[string]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == root {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		var s unix.Stat_t
		if err := unix.Lstat(file, &s); err != nil {
			return err
		}
		line := fmt.Sprintf("%o %d:%d", s.Mode&0o7777, s.Uid, s.Gid)
		switch s.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			line = "d" + line
		case unix.S_IFLNK:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			line = fmt.Sprintf("l%d:%d -> %s", s.Uid, s.Gid, target)
		case unix.S_IFCHR:
			line = fmt.Sprintf("c%s %d:%d", line, unix.Major(s.Rdev), unix.Minor(s.Rdev))
		default:
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			line = fmt.Sprintf("f%s %d %x", line, s.Mtim.Sec, sum[:8])
			value := make([]byte, 64)
			if n, err := unix.Lgetxattr(file, "security.capability", value); attributes && err == nil {
				line += fmt.Sprintf(" capability %x", value[:n])
			}
		}
		entries[name] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// What others make of an image, whichever way it goes, is the composed tree: content,
// modes, owners, devices, links and extended attributes.
func TestOthersUnpackTheTree(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files to other users and make devices")
	}
	st := openStore(t)
	for _, layering := range []string{"", "layering: {}\n", "layering: {compression: zstd}\n"} {
		image, err := images.Compose(t.Context(), load(t, rootImage+layering), put(t, st, rootPackages()...), images.Options{Arch: apk.ArchX86_64, Store: st, RootFS: true, CPIO: true})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		oci, archive, tarball, cpio := filepath.Join(dir, "oci"), filepath.Join(dir, "x.tar"), filepath.Join(dir, "root.tar.gz"), filepath.Join(dir, "root.cpio.gz")
		lost, err := image.WriteCPIO(t.Context(), cpio)
		if err := errors.Join(err, images.WriteLayout(t.Context(), oci, "latest", image), image.WriteArchive(t.Context(), archive, "x:latest"), image.WriteRootFS(t.Context(), tarball)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"usr/bin/capable"}, lost); diff != "" {
			t.Errorf("lost in cpio: -want +got:\n%s", diff)
		}
		want := map[string]string{}
		layers, err := mustOCI(t, image).Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			r, err := l.Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			entriesOf(t, r, want)
			r.Close()
		}
		plain := maps.Clone(want) // without extended attributes
		for name, line := range plain {
			plain[name], _, _ = strings.Cut(line, " capability")
		}
		if len(want) < 60 || !strings.Contains(want["usr/bin/capable"], "capability 0100000200") || want["usr/bin/third"] != want["usr/bin/raised"] || want["srv/hard"] != want["usr/share/web/index.html"] {
			t.Fatalf("the layers do not hold what the test is about: %v", want)
		}
		check := func(how string, want, got map[string]string) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q: %s: -composed +unpacked:\n%s", layering, how, diff)
			}
		}
		sameFile := func(how, root string) {
			t.Helper()
			if inode(t, filepath.Join(root, "usr/bin/third")) != inode(t, filepath.Join(root, "usr/bin/raised")) {
				t.Errorf("%q: %s: hard links are not", layering, how)
			}
		}
		bundle := func(name, image string) {
			t.Helper()
			runs(t, "umoci", "unpack", "--image", image, filepath.Join(dir, name))
			root := filepath.Join(dir, name, "rootfs")
			check("umoci, "+name, want, unpacked(t, root, true))
			sameFile("umoci, "+name, root)
		}
		if layering != "layering: {compression: zstd}\n" { // which umoci 0.4 does not know
			bundle("layout", oci+":latest")
		}
		runs(t, "skopeo", "copy", "--insecure-policy", "docker-archive:"+archive, "oci:"+filepath.Join(dir, "loaded")+":latest")
		bundle("docker-archive", filepath.Join(dir, "loaded")+":latest")
		runs(t, "skopeo", "copy", "--insecure-policy", "--preserve-digests", "oci-archive:"+archive, "oci:"+filepath.Join(dir, "copied")+":latest")
		if out := runs(t, "skopeo", "inspect", "oci:"+filepath.Join(dir, "copied")+":latest"); !strings.Contains(out, image.About.Digest) {
			t.Errorf("copied out of the OCI archive it is another image:\n%s", out)
		}
		// Byte for byte: skopeo copies the very blobs.
		for _, l := range image.About.Layers {
			name := filepath.Join("blobs", "sha256", strings.TrimPrefix(l.Digest, "sha256:"))
			a, err1 := os.ReadFile(filepath.Join(oci, name))
			b, err2 := os.ReadFile(filepath.Join(dir, "copied", name))
			if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) {
				t.Errorf("%q: layer %s differs (%v)", layering, l.Digest, err)
			}
		}
		inFolder := func(name string, command string, args ...string) string {
			t.Helper()
			root := filepath.Join(dir, name)
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			c := exec.Command(program(t, command), args...)
			c.Dir = root
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
			return root
		}
		root := inFolder("tar", "tar", "-x", "-p", "--same-owner", "--xattrs", "--xattrs-include=*", "-f", tarball)
		check("tar", want, unpacked(t, root, true))
		sameFile("tar", root)
		if layering == "layering: {compression: zstd}\n" {
			continue
		}
		root = inFolder("cpio", "sh", "-c", "gzip -dc ../root.cpio.gz | cpio -idm --quiet")
		check("cpio", plain, unpacked(t, root, true))
		sameFile("cpio", root)
		root = inFolder("bsdtar", "bsdtar", "-xpf", cpio)
		check("bsdtar of cpio", plain, unpacked(t, root, true))
		sameFile("bsdtar", root)
	}
}

// The root file system is the same bytes however it is put into layers, and the cpio
// archive is sorted, ends as it must, and has each file's content once.
func TestRootsAreDeterministic(t *testing.T) {
	var digests []string
	for _, layering := range []string{"", "layering: {}\n", "layering: {strategy: origin, budget: 3}\n"} {
		st := openStore(t)
		o := images.Options{Arch: apk.ArchX86_64, Store: st, RootFS: true, CPIO: true}
		packages := put(t, st, rootPackages()...)
		// Composed before without them, they are made.
		if _, err := compose(t, st, rootImage+layering, packages); err != nil {
			t.Fatal(err)
		}
		image, err := images.Compose(t.Context(), load(t, rootImage+layering), packages, o)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		tarball, cpio := filepath.Join(dir, "x"+image.RootSuffix("rootfs")), filepath.Join(dir, "x"+image.RootSuffix("cpio"))
		_, err = image.WriteCPIO(t.Context(), cpio)
		if err := errors.Join(err, image.WriteRootFS(t.Context(), tarball)); err != nil {
			t.Fatal(err)
		}
		a, err1 := os.ReadFile(tarball)
		b, err2 := os.ReadFile(cpio)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, fmt.Sprint(store.DigestOf(a), store.DigestOf(b)))
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(z)
		if err != nil || len(data)%512 != 0 || bytes.Count(data, []byte("raised-once")) != 1 || !bytes.Contains(data[len(data)-512-124:], []byte("TRAILER!!!\x00")) {
			t.Errorf("%q: the cpio archive of %d bytes is not right (%v)", layering, len(data), err)
		}
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		t.Errorf("root file systems differ: %s", digests)
	}
	tree := rootfs.New()
	if err := tree.Install(&rootfs.Package{Info: &apk.Info{Name: "x"}, Entries: []rootfs.Entry{{Path: "f", Inode: rootfs.Inode{Size: 5 << 30}}}}); err != nil {
		t.Fatal(err)
	}
	if err := tree.Archive(rootfs.ArchiveOptions{}).WriteCPIO(io.Discard); err == nil || !strings.Contains(err.Error(), "/f: 5368709120 does not fit") {
		t.Errorf("a file of 5 GiB: %v", err)
	}
}

// Images of several architectures lie in one archive; older programs tell them by their tags.
func TestArchiveOfArchitectures(t *testing.T) {
	st := openStore(t)
	x86 := mustCompose(t, st, webImage, layoutPackage, muslPackage, webPackage)
	both := []contents{layoutPackage, webPackage}
	packages := put(t, st, both...)
	for i := range packages {
		packages[i].Entry.Arch = "aarch64"
	}
	arm, err := images.Compose(t.Context(), load(t, webImage), packages, images.Options{Arch: apk.ArchAArch64, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "web.tar")
	if err := images.WriteArchive(t.Context(), archive, "example.org/team/web:2", x86, arm); err != nil {
		t.Fatal(err)
	}
	list := runs(t, "tar", "-xOf", archive, "manifest.json")
	var saved []struct{ RepoTags []string }
	if err := json.Unmarshal([]byte(list), &saved); err != nil || len(saved) != 2 || saved[0].RepoTags[0] != "example.org/team/web:2-amd64" || saved[1].RepoTags[0] != "example.org/team/web:2-arm64" {
		t.Errorf("%s: %v", list, err)
	}
	for _, image := range []*images.Image{x86, arm} {
		arch := image.About.Arch.GoArch()
		loaded := filepath.Join(dir, arch)
		runs(t, "skopeo", "copy", "--insecure-policy", "docker-archive:"+archive+":example.org/team/web:2-"+arch, "oci:"+loaded+":latest")
		if out := runs(t, "skopeo", "inspect", "--config", "oci:"+loaded+":latest"); !strings.Contains(out, `"architecture": "`+arch+`"`) && !strings.Contains(out, `"architecture":"`+arch+`"`) {
			t.Errorf("loaded %s: %s", arch, out)
		}
		if out := runs(t, "skopeo", "--override-arch", arch, "inspect", "oci-archive:"+archive+":2"); !strings.Contains(out, `"Architecture": "`+arch+`"`) {
			t.Errorf("%s of the OCI archive: %s", arch, out)
		}
	}
	// Layers that both have are in it once.
	names := strings.Fields(runs(t, "tar", "-tf", archive))
	sort.Strings(names)
	if unique := slices.Compact(slices.Clone(names)); len(unique) != len(names) {
		t.Errorf("members are in it twice: %v", names)
	}
}

func mustOCI(t *testing.T, image *images.Image) v1.Image {
	t.Helper()
	oci, err := image.OCI()
	if err != nil {
		t.Fatal(err)
	}
	return oci
}
