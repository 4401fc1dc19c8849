package apk_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
)

// publicKeys is a folder of the first key's public half.
func publicKeys(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := newKeys()[0].WritePublic(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// realPackage is a package with one of everything that apk can install as this user.
func realPackage() apk.Unsigned {
	u := unsigned()
	u.Format = apk.V3
	u.Info.Commit = strings.Repeat("0a1b", 10)
	u.Info.Depends, u.Info.InstallIf, u.Info.ProviderPriority = nil, nil, 3
	u.Info.Tags = []string{"a:b"}
	u.Scripts = map[string][]byte{".post-install": []byte("#!/usr/bin/marker\n"), ".trigger": []byte("#!/usr/bin/marker\n")}
	u.Files = slices.DeleteFunc(u.Files, func(c apk.Content) bool { return strings.Contains(c.Path, "\xff") })
	for i, f := range u.Files {
		if f.User != "" {
			u.Files[i].User, u.Files[i].Group = "mail", "mail" // which the root's passwd must name
		}
		if len(f.Xattrs) > 0 {
			u.Files[i].Xattrs = map[string]string{"user.tarn": "one\x00two"}
		}
	}
	return u
}

// marker is a program that says what it was called with.
func marker(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/main.go", []byte(`package main
import ("fmt"; "os")
func main() {
	f, err := os.OpenFile("/ran", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil { panic(err) }
	fmt.Fprintln(f, os.Args[2:])
}
`))
	c := exec.Command("go", "build", "-o", dir+"/marker", dir+"/main.go")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(dir + "/marker")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// apk itself takes packages and an index of version 3 that this package wrote, and
// installs them: files, modes, owners, links, attributes, scripts and triggers.
func TestRealApkInstallsVersion3(t *testing.T) {
	program, keys := realApk(t), publicKeys(t)
	for _, c := range []adb.Compression{adb.Deflate, adb.Zstd, adb.Uncompressed} {
		t.Run(c.String(), func(t *testing.T) {
			dir := t.TempDir()
			u := realPackage()
			u.Compression = c
			u.Files = append(u.Files, apk.BytesContent("usr/bin/marker", 0o755, marker(t), time.Unix(1700000000, 0)))
			passwd := apktest.Files(t, "etc/passwd", "root:x:0:0::/:\nmail:x:8:12::/:\n", "etc/group", "root:x:0:\nmail:x:12:\n")
			base := apk.Unsigned{Format: apk.V3, Compression: c, Info: apk.Info{Name: "base", Version: "1-r0", Arch: apk.ArchX86_64}, Files: passwd}
			meta := apk.Unsigned{Format: apk.V3, Compression: c, Info: apk.Info{Name: "meta", Version: "2-r0", Arch: apk.ArchX86_64,
				Depends: []apk.Dependency{{Name: "base"}, {Name: "old", Conflict: true, Op: apk.Less, Version: "2"}, {Name: "full", Op: apk.Fuzzy, Version: "1.2"}}}}
			index := &apk.Index{Format: apk.V3, Compression: c, Description: "the test's"}
			for _, one := range []apk.Unsigned{u, base, meta} {
				data := signed(t, apktest.WriteAll(t, one))
				file := dir + "/x86_64/" + one.Info.FileName()
				write(t, file, data)
				if out := run(t, program, "--keys-dir", keys, "verify", file); !strings.Contains(out, "OK") {
					t.Errorf("apk verify: %s", out)
				}
				if out := run(t, program, "--keys-dir", keys, "adbdump", file); !strings.Contains(out, "name: "+one.Info.Name) || !strings.Contains(out, ": OK") {
					t.Errorf("apk adbdump: %s", out)
				}
				index.Entries = append(index.Entries, apktest.Entry(t, data))
			}
			// One index may list packages of both versions.
			old := signed(t, apktest.Package(t, "two", "1-r0", "usr/share/two", "2"))
			write(t, dir+"/x86_64/two-1-r0.apk", old)
			index.Entries = append(index.Entries, apktest.Entry(t, old))
			var b bytes.Buffer
			if err := apk.WriteIndex(&b, index, newKeys()[0]); err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/x86_64/Packages.adb", b.Bytes())
			// apk finds what it looks for in such an index.
			again := []string{"--keys-dir", keys, "mkndx", "--index", dir + "/x86_64/Packages.adb", "--output", t.TempDir() + "/x.adb"}
			for _, e := range index.Entries {
				again = append(again, dir+"/x86_64/"+e.FileName())
			}
			later := time.Now().Add(time.Hour)
			if err := os.Chtimes(dir+"/x86_64/Packages.adb", later, later); err != nil {
				t.Fatal(err)
			}
			if out := run(t, program, again...); !strings.Contains(out, "4 packages (of which 0 are new)") {
				t.Errorf("apk mkndx: %s", out)
			}
			root := t.TempDir()
			flags := []string{"--keys-dir", keys, "--root", root, "--arch", "x86_64", "--no-cache", "--no-logfile", "--repositories-file", "/dev/null", "--repository", dir + "/x86_64/Packages.adb"}
			if os.Getuid() != 0 {
				flags = append(flags, "--usermode", "--no-scripts")
			}
			run(t, program, append(flags, "add", "--initdb", "base", "two")...)
			out := run(t, program, append(flags, "add", "meta")...)
			if t.Failed() {
				t.Fatal(out)
			}
			installedAs(t, root, u)
			if os.Getuid() == 0 {
				ran, _ := os.ReadFile(root + "/ran")
				if got := string(ran); !strings.Contains(got, "1.2.3-r4]") || !strings.Contains(got, "[/usr/bin") {
					t.Errorf("the scripts that ran: %q\n%s", got, out)
				}
			}
			if out := run(t, program, append(flags, "audit", "--system")...); strings.Contains(out, "usr/") {
				t.Errorf("apk audit: %s", out)
			}
			if out := run(t, program, append(flags, "info", "-a", "full")...); !strings.Contains(out, "a test; with # signs") || !strings.Contains(out, "cmd:ping=1.2.3-r4") || !strings.Contains(out, "/usr/share/*") {
				t.Errorf("apk info: %s", out)
			}
		})
	}
}

// Alpine's own index, turned into one of version 3 by apk and by this package, says the
// same, and apk reads ours.
func TestRealApkConvertsIndexes(t *testing.T) {
	program, keys := realApk(t), publicKeys(t)
	for _, name := range []string{"alpine-316", "alpine-317"} {
		file := filepath.Join(vectors(t), name, "APKINDEX.tar.gz")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		second := readIndex(t, data)
		// apk writes errors in the place of versions that are none: aspell-ru-0.99f7-r0.
		second.Entries = slices.DeleteFunc(second.Entries, func(e *apk.Entry) bool { return e.Check() != nil })
		var plain, ours bytes.Buffer
		if err := apk.WriteIndex(&plain, second); err != nil {
			t.Fatal(err)
		}
		if err := apk.WriteIndex(&ours, &apk.Index{Format: apk.V3, Entries: second.Entries}, newKeys()[0]); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		write(t, dir+"/Packages.adb", ours.Bytes())
		write(t, dir+"/APKINDEX.tar.gz", plain.Bytes())
		c := exec.Command(program, "--quiet", "--allow-untrusted", "convndx", dir+"/APKINDEX.tar.gz")
		theirs, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		byName := func(x *apk.Index) map[string]*apk.Entry {
			all := map[string]*apk.Entry{}
			for _, e := range x.Entries {
				all[e.FullName()] = e
			}
			return all
		}
		want, got := byName(readIndex(t, theirs)), byName(readIndex(t, ours.Bytes()))
		if diff := cmp.Diff(want, got); diff != "" || len(got) != len(second.Entries) {
			t.Errorf("%s: %d entries (-apk's +ours):\n%.3000s", name, len(got), diff)
		}
		flags := []string{"--keys-dir", keys, "--root", t.TempDir(), "--no-cache", "--arch", string(second.Entries[0].Arch), "--repositories-file", "/dev/null", "--repository", dir + "/Packages.adb"}
		if os.Getuid() != 0 {
			flags = append(flags, "--usermode")
		}
		run(t, program, append(flags, "add", "--initdb")...)
		out := run(t, program, append(flags, "list", "--available")...)
		if got := strings.Count(out, "\n"); got != len(second.Entries) {
			t.Errorf("%s: apk lists %d packages of %d\n%.300s", name, got, len(second.Entries), out)
		}
	}
}

// installedAs compares a root with what a package brings.
func installedAs(t *testing.T, root string, u apk.Unsigned) {
	t.Helper()
	for _, c := range u.Files {
		name := filepath.Join(root, c.Path)
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			t.Errorf("/%s: %v", c.Path, err)
			continue
		}
		switch c.Type {
		case apk.TypeSymlink:
			if got, err := os.Readlink(name); got != c.Link {
				t.Errorf("/%s: got %q, %v, want %q", c.Path, got, err, c.Link)
			}
			continue
		case apk.TypeHardlink:
			var other unix.Stat_t
			if err := unix.Lstat(filepath.Join(root, c.Link), &other); err != nil || other.Ino != st.Ino {
				t.Errorf("/%s is another file than /%s: %v", c.Path, c.Link, err)
			}
			continue
		case apk.TypeFile:
			r, _ := c.Open()
			want, _ := io.ReadAll(r)
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("/%s: %d bytes, %v, want %d", c.Path, len(got), err, len(want))
			}
			if st.Mtim.Sec != c.ModTime.Unix() {
				t.Errorf("/%s: time %d, want %d", c.Path, st.Mtim.Sec, c.ModTime.Unix())
			}
		}
		mode := uint32(c.Mode.Perm())
		for bit, m := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
			if c.Mode&m != 0 {
				mode |= bit
			}
		}
		if got := st.Mode &^ unix.S_IFMT; got != mode {
			t.Errorf("/%s: mode %o, want %o", c.Path, got, mode)
		}
		if c.User != "" && os.Getuid() == 0 && (st.Uid != 8 || st.Gid != 12) {
			t.Errorf("/%s: owner %d:%d, want 8:12", c.Path, st.Uid, st.Gid)
		}
		for key, want := range c.Xattrs {
			buf := make([]byte, 100)
			n, err := unix.Lgetxattr(name, key, buf)
			if err == unix.ENOTSUP {
				t.Logf("no attributes on this file system")
			} else if err != nil || string(buf[:n]) != want {
				t.Errorf("/%s: %s is %q, %v", c.Path, key, buf[:max(n, 0)], err)
			}
		}
	}
}

// What apk itself makes reads as it was meant.
func TestReadsVersion3OfRealApk(t *testing.T) {
	program := realApk(t)
	work := t.TempDir()
	for _, key := range newKeys() {
		if err := key.WriteFiles(work); err != nil {
			t.Fatal(err)
		}
	}
	files := work + "/files"
	for name, text := range map[string]string{"usr/bin/tool": "#!/bin/sh\n", "usr/share/empty": "", "etc/tool/conf": "a=b\n"} {
		write(t, files+"/"+name, []byte(text))
	}
	if err := os.Symlink("tool", files+"/usr/bin/alias"); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(files+"/usr/bin/tool", files+"/usr/bin/zwilling"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(files+"/usr/bin/tool", 0o755|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(files+"/etc/tool/conf", "user.x", []byte("y\x00z"), 0); err != nil && err != unix.ENOTSUP {
		t.Fatal(err)
	}
	write(t, work+"/script", []byte("#!/bin/sh\necho hello\n"))
	then := time.Unix(1700000000, 0)
	for _, name := range []string{"usr/bin/tool", "usr/share/empty", "etc/tool/conf"} {
		if err := os.Chtimes(files+"/"+name, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, files+"/usr/bin/alias", []unix.Timespec{{Sec: 1700000000}, {Sec: 1700000000}}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
	for _, compression := range []string{"deflate", "deflate:9", "zstd", "zstd:19", "none"} {
		t.Run(compression, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tool-1.2-r3.apk")
			run(t, program, "--sign-key", work+"/one.rsa", "--compression", compression, "mkpkg", "--files", files, "--output", file,
				"--info", "name:tool", "--info", "version:1.2-r3", "--info", "arch:x86_64", "--info", "description:a tool", "--info", "license:MIT AND 0BSD", "--info", "origin:tools",
				"--info", "url:https://example.org/", "--info", "maintainer:A <a@example.org>", "--info", "repo-commit:"+strings.Repeat("0a1b", 10), "--info", "build-time:1700000000",
				"--info", "depends:b>1 a !c !d<2 e~3 f<=4 g>=5 h=6 i<7 j<~8 k>~9", "--info", "provides:cmd:tool=1.2-r3 so:libtool.so.1", "--info", "replaces:x", "--info", "install-if:y z=1",
				"--info", "recommends:r", "--info", "tags:one two", "--info", "provider-priority:7", "--info", "replaces-priority:9", "--info", "layer:1",
				"--script", "post-install:"+work+"/script", "--trigger", "/usr/share/*")
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			checkToolPackage(t, data, testKeys, "one.rsa.pub")
			index := filepath.Join(t.TempDir(), "Packages.adb")
			run(t, program, "--keys-dir", publicKeys(t), "--sign-key", work+"/one.rsa", "--compression", compression, "mkndx", "--description", "apk's", "--output", index, file)
			checkToolIndex(t, index, data, testKeys, "one.rsa.pub")
			// What apk signs anew is the same package with more signatures.
			run(t, program, "--allow-untrusted", "--sign-key", work+"/two.rsa", "adbsign", file)
			again, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range newKeys() {
				if got, err := apktest.Read(t, again).VerifySignature(ring(key)); err != nil || got != key.KeyName() {
					t.Errorf("signed anew: %q, %v", got, err)
				}
			}
			checkToolPackage(t, again, testKeys, "one.rsa.pub")
		})
	}
}

func checkToolPackage(t *testing.T, data []byte, keys apk.KeySet, key string) {
	t.Helper()
	p := apktest.Read(t, data)
	if got, err := p.VerifySignature(keys); err != nil || got != key {
		t.Errorf("signature: %q, %v", got, err)
	}
	want := toolInfo
	if diff := cmp.Diff(want, p.Info); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	if got := string(p.Scripts[".post-install"]); len(p.Scripts) != 1 || got != "#!/bin/sh\necho hello\n" {
		t.Errorf("scripts: %q", p.Scripts)
	}
	got, err := list(p)
	if err != nil {
		t.Fatal(err)
	}
	conf := got["etc/tool/conf"]
	if conf.Xattrs != nil && conf.Xattrs["user.x"] != "y\x00z" {
		t.Errorf("attributes: %q", conf.Xattrs)
	}
	conf.Xattrs = nil
	got["etc/tool/conf"] = conf
	for path, e := range got {
		e.SHA1 = "" // version 3 does not tell it
		got[path] = e
	}
	dir := entry{Type: apk.TypeDir, Mode: 0o755, User: "root", Group: "root"}
	const then = 1700000000
	wantFiles := map[string]entry{
		"etc": dir, "etc/tool": dir, "usr": dir, "usr/bin": dir, "usr/share": dir,
		"etc/tool/conf":    {Type: apk.TypeFile, Mode: 0o644, User: "root", Group: "root", Content: "a=b\n", Time: then},
		"usr/bin/alias":    {Type: apk.TypeSymlink, Mode: 0o777, User: "root", Group: "root", Link: "tool", Time: then},
		"usr/bin/tool":     {Type: apk.TypeFile, Mode: 0o755 | fs.ModeSetuid, User: "root", Group: "root", Content: "#!/bin/sh\n", Time: then},
		"usr/bin/zwilling": {Type: apk.TypeHardlink, User: "root", Group: "root", Link: "usr/bin/tool", Time: then},
		"usr/share/empty":  {Type: apk.TypeFile, Mode: 0o644, User: "root", Group: "root", Time: then},
	}
	if diff := cmp.Diff(wantFiles, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// toolInfo is what the real apk was told to write of a package.
var toolInfo = apk.Info{
	Name: "tool", Version: "1.2-r3", Arch: apk.ArchX86_64, Description: "a tool", URL: "https://example.org/", Commit: strings.Repeat("0a1b", 10),
	Maintainer: "A <a@example.org>", Origin: "tools", Licenses: []string{"MIT AND 0BSD"}, Size: 14, BuildDate: 1700000000,
	Depends: []apk.Dependency{
		{Name: "a"}, {Name: "b", Op: apk.Greater, Version: "1"}, {Name: "c", Conflict: true}, {Name: "d", Conflict: true, Op: apk.Less, Version: "2"},
		{Name: "e", Op: apk.Fuzzy, Version: "3"}, {Name: "f", Op: apk.LessEqual, Version: "4"}, {Name: "g", Op: apk.GreaterEqual, Version: "5"},
		{Name: "h", Op: apk.Equal, Version: "6"}, {Name: "i", Op: apk.Less, Version: "7"}, {Name: "j", Op: apk.LessFuzzy, Version: "8"}, {Name: "k", Op: apk.GreaterFuzzy, Version: "9"},
	},
	Provides: []apk.Dependency{{Name: "cmd:tool", Op: apk.Equal, Version: "1.2-r3"}, {Name: "so:libtool.so.1"}},
	Replaces: []apk.Dependency{{Name: "x"}}, InstallIf: []apk.Dependency{{Name: "y"}, {Name: "z", Op: apk.Equal, Version: "1"}},
	Recommends: []apk.Dependency{{Name: "r"}}, Tags: []string{"one", "two"}, ProviderPriority: 7, ReplacesPriority: 9, Layer: 1, Triggers: []string{"/usr/share/*"},
}

func checkToolIndex(t *testing.T, name string, data []byte, keys apk.KeySet, key string) {
	t.Helper()
	index, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	x := readIndex(t, index)
	if got, err := apk.VerifyIndex(index, keys); err != nil || got != key {
		t.Errorf("index: %q, %v", got, err)
	}
	if x.Description != "apk's" || len(x.Entries) != 1 {
		t.Fatalf("index: %+v", x)
	}
	if err := apktest.Read(t, data).Matches(x.Entries[0]); err != nil {
		t.Error(err)
	}
	want := toolInfo
	want.Triggers, want.ReplacesPriority = nil, 0 // an index has none
	if diff := cmp.Diff(want, x.Entries[0].Info); diff != "" || x.Entries[0].FileSize != int64(len(data)) {
		t.Errorf("entry of %d bytes (-want +got):\n%s", x.Entries[0].FileSize, diff)
	}
}
