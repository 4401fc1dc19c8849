package environment

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
)

// seen is what an overlay of the layers shows at each path: the first layer that has
// it, and of a folder the first one's.
func seen(t *testing.T, env *Environment) map[string]string {
	t.Helper()
	all := map[string]string{}
	opaque := map[string]bool{} // what is no folder hides what lower layers have below it
	for _, layer := range env.Layers {
		err := filepath.WalkDir(layer, func(name string, d fs.DirEntry, err error) error {
			if err != nil || name == layer {
				return err
			}
			p, err := filepath.Rel(layer, name)
			if err != nil {
				return err
			}
			for dir := filepath.Dir(p); dir != "."; dir = filepath.Dir(dir) {
				if opaque[dir] {
					return nil
				}
			}
			if _, there := all[p]; there {
				return nil
			}
			switch {
			case d.IsDir():
				all[p] = "folder"
			case d.Type() == fs.ModeSymlink:
				target, err := os.Readlink(name)
				if err != nil {
					return err
				}
				all[p] = "-> " + target
				opaque[p] = true
			default:
				data, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				all[p] = string(data)
				opaque[p] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// A package may bring a folder where another one has a link: its files go where the
// link leads, and the link stays.
func TestFoldersOnLinks(t *testing.T) {
	layout := apktest.Package(t, "layout", "1-r0", "usr/bin/", "", "usr/sbin", "-> bin", "sbin", "-> usr/bin", "bin", "-> usr/bin")
	old := apktest.Package(t, "old", "1-r0", "usr/sbin/x", "X", "sbin/y", "Y", "bin/z", "Z")
	for _, packages := range [][][]byte{{layout, old}, {old, layout}} {
		env, err := assemble(t, lockOf(t, "", packages...), Options{})
		if err != nil {
			// A link that comes after the folder can't be put there: that is told.
			if bytes.Equal(packages[0], old) {
				continue
			}
			t.Fatal(err)
		}
		got := seen(t, env)
		want := map[string]string{"usr": "folder", "usr/bin": "folder", "usr/sbin": "-> bin", "sbin": "-> usr/bin", "bin": "-> usr/bin", "usr/bin/x": "X", "usr/bin/y": "Y", "usr/bin/z": "Z"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestBusyboxLinks(t *testing.T) {
	busybox := apktest.Package(t, "busybox", "1-r0", "bin/busybox", "#!", "etc/busybox-paths.d/busybox", "/bin/sh\n/usr/bin/env\n/bin/ls\n")
	coreutils := apktest.Package(t, "coreutils", "1-r0", "bin/ls", "#!real")
	env, err := assemble(t, lockOf(t, "", busybox, coreutils), Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := seen(t, env)
	for name, want := range map[string]string{"bin/sh": "-> /bin/busybox", "usr/bin/env": "-> /bin/busybox", "bin/ls": "#!real", "bin/busybox": "#!"} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
}

// Two packages that own one path are an error of their own, which names both.
func TestConflict(t *testing.T) {
	_, err := assemble(t, lockOf(t, "", apktest.Package(t, "a", "1-r0", "usr/x", "1"), apktest.Package(t, "b", "2-r0", "usr/x", "2")), Options{})
	if conflict, is := errors.AsType[rootfs.ConflictError](err); !is || len(conflict) != 1 || !strings.Contains(err.Error(), "a-1-r0") || !strings.Contains(err.Error(), "b-2-r0") {
		t.Errorf("got %v, want a conflict of a-1-r0 and b-2-r0", err)
	}
}

func TestDatabase(t *testing.T) {
	a := apktest.Package(t, "a", "1-r0", "usr/bin/a", "#!a", "usr/b", "-> bin/a")
	b := apktest.Write(t, apk.Info{Name: "b", Version: "2-r0", Arch: apk.ArchX86_64, Replaces: []apk.Dependency{{Name: "a"}}}, "usr/bin/a", "#!b")
	world := []solve.Requirement{{Dependency: apk.Dependency{Name: "b"}}, {Dependency: apk.Dependency{Name: "a"}}, {Dependency: apk.Dependency{Name: "b"}}}
	env, err := assemble(t, lockOf(t, "", a, b), Options{Database: true, World: world})
	if err != nil {
		t.Fatal(err)
	}
	installed, err := apk.ReadInstalled(strings.NewReader(read(t, env, "usr/lib/apk/db/installed")), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range installed {
		for _, f := range p.Files {
			if f.Type != apk.TypeDir {
				got[f.Path] = p.FullName()
			}
		}
	}
	if diff := cmp.Diff(map[string]string{"usr/b": "a-1-r0", "usr/bin/a": "b-2-r0"}, got); diff != "" {
		t.Errorf("who owns what (-want +got):\n%s", diff)
	}
	if got, want := read(t, env, "etc/apk/world"), "a\nb\n"; got != want {
		t.Errorf("world: got %q, want %q", got, want)
	}
	if got := seen(t, env)["lib/apk"]; got != "-> ../usr/lib/apk" {
		t.Errorf("lib/apk: got %q", got)
	}
}

func TestAccounts(t *testing.T) {
	layout := apktest.Package(t, "layout", "1-r0", "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnginx:x:65532:65533::/:/bin/sh\n", "etc/group", "root:x:0:\n")
	gid := uint32(7)
	declared := recipes.Accounts{
		Users:  []recipes.User{{UserName: "a", UID: 5}, {UserName: "b", UID: 6, GID: &gid, HomeDir: "/srv/b", Shell: "/bin/b"}},
		Groups: []recipes.Group{{GroupName: "g", GID: 7, Members: []string{"a", "b"}}},
	}
	for _, test := range []struct {
		runAs    string
		uid, gid int
		fails    string
	}{
		{runAs: ""}, {runAs: "root"}, {runAs: "0"},
		{runAs: "a", uid: 5, gid: 5}, {runAs: "b", uid: 6, gid: 7}, {runAs: "6", uid: 6, gid: 7},
		{runAs: "nginx", uid: 65532, gid: 65533}, {runAs: "build", uid: 1000, gid: 1000}, {runAs: "1234", uid: 1234, gid: 1234},
		{runAs: "c", fails: `unknown user "c"`}, {runAs: "-1", fails: "-1"}, {runAs: "99999999999", fails: "99999999999"},
	} {
		t.Run("run as "+test.runAs, func(t *testing.T) {
			accounts := declared
			accounts.RunAs = test.runAs
			env, err := assemble(t, lockOf(t, "", layout), Options{Accounts: &accounts})
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("got %v, want %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if env.UID != test.uid || env.GID != test.gid {
				t.Errorf("got %d:%d, want %d:%d", env.UID, env.GID, test.uid, test.gid)
			}
			want := "root:x:0:0:root:/root:/bin/sh\nnginx:x:65532:65533::/:/bin/sh\na:x:5:5:Account created by tarn:/home/a:/bin/sh\nb:x:6:7:Account created by tarn:/srv/b:/bin/b\n"
			if diff := cmp.Diff(want, read(t, env, "etc/passwd")); diff != "" {
				t.Errorf("passwd (-want +got):\n%s", diff)
			}
			if got, want := read(t, env, "etc/group"), "root:x:0:\ng:x:7:a,b\n"; got != want {
				t.Errorf("group: got %q, want %q", got, want)
			}
			if all := seen(t, env); all["home/a"] != "folder" || all["srv/b"] != "folder" {
				t.Errorf("homes: %q, %q", all["home/a"], all["srv/b"])
			}
		})
	}
}

// rawPackage is a package whose data holds just these headers.
func rawPackage(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var data bytes.Buffer
	z := gzip.NewWriter(&data)
	w := tar.NewWriter(z)
	for _, h := range headers {
		h.Format = tar.FormatPAX
		if h.Typeflag == tar.TypeReg {
			h.Size = 1
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return withData(t, data.Bytes())
}

// withData puts a data section behind a control section that names it.
func withData(t *testing.T, data []byte) []byte {
	t.Helper()
	info := apk.Info{Name: "x", Version: "1-r0", Arch: apk.ArchX86_64, Size: 1, DataHash: store.DigestOf(data).Hex()}
	text, err := apk.AppendInfo(nil, &info)
	if err != nil {
		t.Fatal(err)
	}
	var control bytes.Buffer
	z := gzip.NewWriter(&control)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: ".PKGINFO", Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Flush(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return append(control.Bytes(), data...)
}

func extractAll(t *testing.T, pkg []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(t.TempDir(), "x.apk")
	if err := os.WriteFile(name, pkg, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return dir, Extract(t.Context(), root, f)
}

// Nothing that a package says is written anywhere but below the folder it is unpacked to.
func TestExtractStaysInItsFolder(t *testing.T) {
	outside := t.TempDir()
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	link := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
	}
	hard := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
	}
	for _, test := range []struct {
		name    string
		headers []tar.Header
	}{
		{"above", []tar.Header{file("../x")}},
		{"absolute", []tar.Header{file("/x")}},
		{"through a link", []tar.Header{link("usr", outside), file("usr/x")}},
		{"through two links", []tar.Header{link("a", "b"), link("b", outside), file("a/x")}},
		{"a folder through a link", []tar.Header{link("usr", outside), {Typeflag: tar.TypeDir, Name: "usr/x", Mode: 0o755}}},
		{"over a link", []tar.Header{link("usr", outside+"/x"), file("usr")}},
		{"a hard link to the outside", []tar.Header{hard("x", "../../etc/passwd")}},
		{"a hard link through a link", []tar.Header{link("usr", "/etc"), hard("x", "usr/passwd")}},
		{"a hard link to a link", []tar.Header{link("l", "/etc/passwd"), hard("x", "l"), file("x")}},
		{"a device", []tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := extractAll(t, rawPackage(t, test.headers...)); err == nil {
				t.Error("it was unpacked")
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
				t.Errorf("outside: %v, %v", entries, err)
			}
		})
	}
}

// Modes and times are the package's whatever the caller's mask is; rights that a
// file would lend are left to the package.
func TestExtractModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	when := time.Unix(1600000000, 0)
	dir, err := extractAll(t, rawPackage(t,
		tar.Header{Typeflag: tar.TypeReg, Name: "no/entry/of/its/folders", Mode: 0o644, ModTime: when},
		tar.Header{Typeflag: tar.TypeDir, Name: "closed/", Mode: 0o555, ModTime: when},
		tar.Header{Typeflag: tar.TypeReg, Name: "closed/su", Mode: 0o4755, ModTime: when},
		tar.Header{Typeflag: tar.TypeDir, Name: "closed/tmp/", Mode: 0o1777, ModTime: when},
	))
	if err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(dir, "closed"), 0o755)
	for name, want := range map[string]string{
		"no": "drwxr-xr-x 0", "no/entry/of": "drwxr-xr-x 0", "no/entry/of/its/folders": "-rw-r--r-- 1600000000",
		"closed": "dr-xr-xr-x 1600000000", "closed/su": "-rwxr-xr-x 1600000000", "closed/tmp": "dtrwxrwxrwx 1600000000",
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := fmt.Sprintf("%v %d", info.Mode(), info.ModTime().Unix()); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
