package images_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
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
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// installations are sets of packages in the order in which apk installs them: those of
// other people, and ours that have what theirs lack.
var installations = []struct {
	name   string
	arch   apk.Arch
	others []string
	made   []contents
}{
	{"aarch64", apk.ArchAArch64,
		[]string{"alpine-316/alpine-baselayout-3.2.0-r23.apk", "hello-wolfi-2.12.1-r1.apk", "libcap-2.69-r0.apk", "replaces/replaces-0.0.1-r0.apk"},
		[]contents{{name: "needed", version: "1-r0", arch: "aarch64", lines: []string{
			"provides = alpine-baselayout-data=3.2.0-r23 /bin/sh so:libc.musl-aarch64.so.1=1 so:ld-linux-aarch64.so.1=1 so:libc.so.6=6 so:libcap.so.2=2 so:libpsx.so.2=2",
		}}},
	},
	{"x86_64", apk.ArchX86_64,
		[]string{"hello-0.1.0-r0.apk", "perl-json-4.11-r0.apk", "ruby3.2-base64-0.2.0-r2.apk"},
		[]contents{
			{name: "needed", version: "1-r0", lines: []string{"provides = busybox=1 ruby-3.2=3.2"}, files: []string{"0700 srv/", "0750 srv/a/"}},
			{name: "accounts", version: "1-r0", files: []string{"0755 srv/", "0755 usr/", "0755 usr/lib/", "0755 usr/bin/", "lib -> usr/lib", "bin -> usr/bin",
				"0644 etc/passwd root:x:0:0:root:/root:/bin/sh\nmail:x:8:12:mail:/var/mail:/sbin/nologin\n", "0644 etc/group root:x:0:\nmail:x:12:\n", "0640 etc/shadow root:*::0:::::\n"}},
			{name: "special", version: "2-r3", origin: "special-src", lines: []string{"depend = accounts", "license = GPL-2.0-or-later", "provider_priority = 7", "replaces_priority = 3", "triggers = /usr/bin /usr/lib/*", "maintainer = A B <a@example.org>", "commit = 0123456789abcdef0123456789abcdef01234567", "provides = cmd:special=2-r3 so:libspecial.so.1=1.2", "install_if = none", "replaces = other<1"},
				scripts: map[string]string{".post-install": "#!/bin/sh\n", ".trigger": "#!/bin/sh\nexit 0\n", ".post-deinstall": "#!/bin/sh\nexit 1\n"},
				files:   []string{"4755 usr/bin/special up", "0755 usr/bin/linked one", "usr/bin/alias = usr/bin/linked", "2755 usr/bin/group up", "0644 lib/moved through a link", "1777 var/lib/special/", "usr/lib/libspecial.so -> libspecial.so.1", "0600 usr/lib/libspecial.so.1 library", "0444 usr/share/special/a b", "0644 usr/share/special/shared same"},
				headers: []tar.Header{
					{Typeflag: tar.TypeDir, Name: "var/mail", Mode: 0o775, Uid: 1008, Gid: 1012, Uname: "mail", Gname: "mail"},
					{Typeflag: tar.TypeDir, Name: "var/spool", Mode: 0o755, Uid: 71, Gid: 72, Uname: "nobody-here", Gname: "mail"},
					{Typeflag: tar.TypeDir, Name: "var/cap", Mode: 0o700, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "of a folder"}},
				}},
			{name: "second", version: "1-r0", origin: "special-src", lines: []string{"depend = special"}, files: []string{"0640 usr/share/special/shared same", "0755 usr/bin/group of one origin"}},
			{name: "third", version: "1-r0", lines: []string{"depend = second", "replaces = special"}, files: []string{"0644 usr/share/special/a taken over"}},
		},
	},
}

// apks are the files of an installation.
func apks(t *testing.T, at int) (names []string, data [][]byte) {
	t.Helper()
	in := installations[at]
	for _, c := range in.made {
		file, entry := c.build(t)
		names, data = append(names, entry.FileName()), append(data, file)
	}
	for _, name := range in.others {
		file, err := os.ReadFile(shared(t, "vectors/"+name))
		if err != nil {
			t.Fatal(err)
		}
		names, data = append(names, filepath.Base(name)), append(data, file)
	}
	return names, data
}

// What is composed is what apk add installs: its database by the line, every path with
// its type, mode, owner, target, content and attributes. The expectations are frozen:
// apk-tools 3.0.6 made them, as root. To make them anew, from another apk:
//
//	TARN_APK=/path/to/apk UPDATE_GOLDEN=1 go test ./images -run TestAsApkInstalls
func TestAsApkInstalls(t *testing.T) {
	for i, in := range installations {
		t.Run(in.name, func(t *testing.T) {
			st := openStore(t)
			_, files := apks(t, i)
			packages, world := stored(t, st, files)
			// What apk does with --no-scripts, since there is no shell in these roots.
			text := "contents: {packages: [" + strings.Join(world, ", ") + "]}\nscripts:\n  waived: [{package: \"*\", reason: apk was told to run none}]\n"
			image, err := images.Compose(t.Context(), load(t, text), packages, images.Options{Arch: in.arch, Store: st})
			if err != nil {
				t.Fatal(err)
			}
			if update && os.Getenv("TARN_APK") != "" {
				freeze(t, i)
			}
			paths, database := frozen(t, "apk-add."+in.name+".files"), frozen(t, "apk-add."+in.name+".installed")
			got, made := composedPaths(t, image)
			want := map[string]string{}
			for line := range strings.Lines(paths) {
				want[strings.Fields(line)[2]] = strings.TrimSpace(line)
			}
			for p, line := range got {
				if want[p] == "" && (made(p) || strings.Contains(composersPaths, " "+p+" ")) {
					delete(got, p)
				}
				if strings.HasPrefix(line, "d") {
					// apk leaves the attributes of folders out.
					line, _, _ = strings.Cut(line, " user.")
					if _, there := got[p]; there {
						got[p] = line
					}
				}
				if strings.Contains(composersFolders, " "+p+" ") {
					delete(got, p)
					delete(want, p)
				}
			}
			if got["/var/log"] == "" {
				delete(want, "/var/log") // where apk keeps its log
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("files: -apk +composed:\n%s", diff)
			}
			composed := records(topFile(t, image, "usr/lib/apk/db/installed"))
			maps.DeleteFunc(composed, func(name, _ string) bool { return images.IsOwnPackage(name) })
			if diff := cmp.Diff(records(database), composed); diff != "" {
				t.Errorf("installed: -apk +composed:\n%s", diff)
			}
			if diff := cmp.Diff(frozen(t, "apk-add."+in.name+".triggers"), topFile(t, image, "usr/lib/apk/db/triggers")); diff != "" {
				t.Errorf("triggers: -apk +composed:\n%s", diff)
			}
			if diff := cmp.Diff(frozen(t, "apk-add."+in.name+".scripts"), listTar(t, []byte(topFile(t, image, "usr/lib/apk/db/scripts.tar")))); diff != "" {
				t.Errorf("scripts: -apk +composed:\n%s", diff)
			}
		})
	}
}

// What the composer makes besides, as apko does, and apk makes in another place or not
// at all: each path, and folders that both make with modes of their own.
const (
	composersPaths   = " /etc /etc/apk/arch /etc/apk/world /etc/apk/repositories /lib/apk /dev /dev/null /dev/zero /dev/console /dev/random /dev/urandom /opt /run /sys /usr /usr/lib /var /var/cache /var/cache/misc /lib "
	composersFolders = " /dev /proc /tmp "
)

func stored(t *testing.T, st *store.Store, files [][]byte) (packages []images.Package, world []string) {
	t.Helper()
	for _, data := range files {
		p, err := apk.ReadPackage(bytes.NewReader(data), int64(len(data)), apk.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		digest, _, err := st.Put(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, images.Package{Entry: &apk.Entry{Info: p.Info, Checksum: p.Checksum, FileSize: int64(len(data))}, Digest: digest, From: "test"})
		world = append(world, p.Info.Name)
	}
	return packages, world
}

func frozen(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// records are the packages of a database by name. What is not compared:
//   - S:, the size of the file: the composer leaves signatures out of it, since who
//     signed a package must not change the image;
//   - L: of several licences, of which apk keeps the last, and the composer all;
//   - attributes of a package that apk could not set ("f:x": those of macOS), which the
//     composer does not take over;
//   - the order of folders: apk has that of the archive, sorted or not by their number.
func records(database string) map[string]string {
	all := map[string]string{}
	for record := range strings.SplitSeq(strings.TrimSpace(database), "\n\n") {
		name := ""
		parts := []string{""}
		foreign := strings.Contains(record, "\nf:x\n")
		for line := range strings.Lines(record + "\n") {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			switch key {
			case "P":
				name = value
			case "S", "f":
				continue
			case "L":
				if words := strings.Split(value, " AND "); len(words) > 1 {
					line = "L:" + words[len(words)-1] + "\n"
				}
			case "F":
				parts = append(parts, "")
			case "M", "a":
				if i := strings.Index(value, ":Q1"); i > 0 && foreign {
					if value = value[:i]; value == map[string]string{"M": "0:0:755", "a": "0:0:644"}[key] {
						continue
					}
					line = key + ":" + value + "\n"
				}
			}
			parts[len(parts)-1] += line
		}
		slices.Sort(parts[1:])
		all[name] = strings.Join(parts, "")
	}
	return all
}

// composedPaths lists the image as frozen files have it. made tells of what apk keeps in
// places of its own.
func composedPaths(t *testing.T, image *images.Image) (map[string]string, func(string) bool) {
	t.Helper()
	lines := map[string]string{}
	sums := map[string]string{}
	for h, data := range members(t, image) {
		p := "/" + strings.TrimSuffix(h.Name, "/")
		letter, end := "f", ""
		switch h.Typeflag {
		case tar.TypeDir:
			letter = "d"
		case tar.TypeSymlink:
			letter, end = "l", " -> "+h.Linkname
		case tar.TypeChar:
			letter = "c"
		case tar.TypeLink:
			end = sums["/"+h.Linkname]
		default:
			sum := sha256.Sum256(data)
			end = " " + hex.EncodeToString(sum[:])
			sums[p] = end
		}
		var xattrs []string
		for key, value := range h.PAXRecords {
			if name, found := strings.CutPrefix(key, "SCHILY.xattr."); found {
				xattrs = append(xattrs, fmt.Sprintf(" %s=%x", name, value))
			}
		}
		sort.Strings(xattrs)
		lines[p] = fmt.Sprintf("%s%04o %d:%d %s%s%s", letter, h.Mode, h.Uid, h.Gid, p, end, strings.Join(xattrs, ""))
	}
	return lines, func(p string) bool {
		return strings.HasPrefix(p, "/usr/lib/apk") || strings.HasPrefix(p, "/etc/apk") || strings.HasPrefix(p, "/var/cache/apk")
	}
}

// listTar lists an archive of scripts.
func listTar(t *testing.T, data []byte) string {
	t.Helper()
	var lines []string
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(lines)
			return strings.Join(lines, "")
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%04o %d:%d %s %q\n", h.Mode, h.Uid, h.Gid, h.Name, content))
	}
}

// freeze lets apk install the packages and writes down what there is then.
func freeze(t *testing.T, at int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("owners can be frozen by root alone")
	}
	in := installations[at]
	root, from := t.TempDir(), t.TempDir()
	names, files := apks(t, at)
	if err := os.Mkdir(filepath.Join(from, string(in.arch)), 0o700); err != nil {
		t.Fatal(err)
	}
	var world []string
	for i, data := range files {
		p, err := apk.ReadPackage(bytes.NewReader(data), int64(len(data)), apk.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		world = append(world, p.Info.Name)
		names[i] = p.Info.FileName()
		if err := os.WriteFile(filepath.Join(from, string(in.arch), names[i]), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		cmd := exec.CommandContext(t.Context(), os.Getenv("TARN_APK"), append([]string{"--root", root, "--arch", string(in.arch), "--allow-untrusted", "--no-network", "--no-cache"}, args...)...)
		cmd.Dir = from
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("apk %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	// As people do it: from a repository, whose index tells of the packages.
	repository := filepath.Join(from, string(in.arch))
	run(append([]string{"index", "--no-warnings", "--output", filepath.Join(repository, "APKINDEX.tar.gz")}, inFolder(repository, names)...)...)
	run(append([]string{"add", "--no-scripts", "--initdb", "--repository", from}, world...)...)
	var lines []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		short := strings.TrimPrefix(p, root)
		if short == "/lib/apk" || short == "/usr/lib/apk" || short == "/etc/apk" || short == "/var/cache/apk" {
			return fs.SkipDir
		}
		if short == "/var/log/apk.log" {
			return nil
		}
		lines = append(lines, onDisk(t, p, short, d))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	db := filepath.Join(root, "lib/apk/db")
	if _, err := os.Stat(db); err != nil {
		db = filepath.Join(root, "usr/lib/apk/db")
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(db, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	scripts, err := scriptsOf(db)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"files": strings.Join(lines, "\n") + "\n", "installed": string(read("installed")), "triggers": string(read("triggers")), "scripts": listTar(t, scripts)} {
		if err := os.WriteFile(filepath.Join("testdata", "apk-add."+in.name+"."+name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func inFolder(dir string, names []string) (paths []string) {
	for _, name := range names {
		paths = append(paths, filepath.Join(dir, name))
	}
	return paths
}

// scriptsOf gives apk's archive of scripts, which may be compressed.
func scriptsOf(db string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(db, "scripts.tar"))
	if errors.Is(err, fs.ErrNotExist) {
		return exec.Command("gzip", "-dc", filepath.Join(db, "scripts.tar.gz")).Output()
	}
	return data, err
}

func onDisk(t *testing.T, p, short string, d fs.DirEntry) string {
	t.Helper()
	info, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	letter, end := "f", ""
	switch info.Mode().Type() {
	case fs.ModeDir:
		letter = "d"
	case fs.ModeSymlink:
		target, err := os.Readlink(p)
		if err != nil {
			t.Fatal(err)
		}
		letter, end = "l", " -> "+target
	case 0:
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		end = " " + hex.EncodeToString(sum[:])
	default:
		letter = "c"
	}
	if info.Mode().Type() != fs.ModeSymlink {
		buffer := make([]byte, 4096)
		if n, err := unix.Llistxattr(p, buffer); err == nil {
			names := strings.FieldsFunc(string(buffer[:n]), func(r rune) bool { return r == 0 })
			sort.Strings(names)
			for _, name := range names {
				value := make([]byte, 4096)
				n, err := unix.Lgetxattr(p, name, value)
				if err != nil {
					t.Fatal(err)
				}
				end += fmt.Sprintf(" %s=%x", name, value[:n])
			}
		}
	}
	return fmt.Sprintf("%s%04o %d:%d %s%s", letter, st.Mode&0o7777, st.Uid, st.Gid, short, end)
}
