package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/ulikunitz/xz/lzma"
)

var epoch = time.Unix(1_700_000_000, 0)

// entry is a tar entry in a test: name, type, and text or target.
type entry struct {
	name string
	kind byte
	text string
	mode int64
}

func file(name, text string) entry      { return entry{name, tar.TypeReg, text, 0o644} }
func folder(name string) entry          { return entry{name, tar.TypeDir, "", 0o755} }
func symlink(name, target string) entry { return entry{name, tar.TypeSymlink, target, 0o777} }
func hardlink(name, to string) entry    { return entry{name, tar.TypeLink, to, 0o644} }

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, ModTime: epoch, Uid: 1234, Gid: 1234, Uname: "nobody"}
		switch e.kind {
		case tar.TypeReg:
			h.Size = int64(len(e.text))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.text
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			if _, err := io.WriteString(w, e.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// tempDir is a folder that goes with what is in it: unpacked folders may forbid
// their owner to write.
func tempDir(t testing.TB) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				os.Chmod(path, 0o755)
			}
			return nil
		})
	})
	return dir
}

// target is a folder "out" beside things that must not change.
func target(t testing.TB) (*os.Root, func() []string) {
	t.Helper()
	dir := tempDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, func() []string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, "secret"))
		info, _ := os.Stat(filepath.Join(dir, "secret"))
		if err != nil || string(data) != "secret" || info.Mode() != 0o600 {
			t.Errorf("a file outside has changed: %q, %v, %v", data, info.Mode(), err)
		}
		names, err := os.ReadDir(dir)
		if err != nil || len(names) != 2 {
			t.Errorf("outside stands now %v, %v", names, err)
		}
		return list(t, filepath.Join(dir, "out"))
	}
}

// list tells a tree, one line a path.
func list(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%v %s", info.Mode(), rel)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
			line += fmt.Sprintf(" %q", data)
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + to
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func extract(root *os.Root, data []byte, o archive.Options) error {
	return archive.Extract(context.Background(), root, ".", "test.tar", bytes.NewReader(data), o)
}

func TestExtract(t *testing.T) {
	sample := []entry{folder("zlib-1.3/"), file("zlib-1.3/README", "read me"), {"zlib-1.3/configure", tar.TypeReg, "#!", 0o6777},
		symlink("zlib-1.3/link", "/etc/passwd"), hardlink("zlib-1.3/copy", "zlib-1.3/README"), file("zlib-1.3/deep/er/file", "x")}
	tests := []struct {
		name    string
		entries []entry
		o       archive.Options
		want    []string
	}{
		{"as it is", sample, archive.Options{}, []string{
			"drwxr-xr-x zlib-1.3",
			`-rwxr-xr-x zlib-1.3/configure "#!"`,
			`-rw-r--r-- zlib-1.3/copy "read me"`,
			"drwxr-xr-x zlib-1.3/deep",
			"drwxr-xr-x zlib-1.3/deep/er",
			`-rw-r--r-- zlib-1.3/deep/er/file "x"`,
			"Lrwxrwxrwx zlib-1.3/link -> /etc/passwd",
			`-rw-r--r-- zlib-1.3/README "read me"`,
		}},
		{"strip 1, only two", sample, archive.Options{Strip: 1, Only: []string{"deep/", "copy", "README"}}, []string{
			`-rw-r--r-- copy "read me"`,
			"drwxr-xr-x deep",
			"drwxr-xr-x deep/er",
			`-rw-r--r-- deep/er/file "x"`,
			`-rw-r--r-- README "read me"`,
		}},
		{"strip 3", sample, archive.Options{Strip: 3}, []string{`-rw-r--r-- file "x"`}},
		{"dots and slashes", []entry{folder("./"), folder("./a"), file(".//a///b", "1")}, archive.Options{}, []string{"drwxr-xr-x a", `-rw-r--r-- a/b "1"`}},
		// GNU tar 1.34 writes this one to /a, outside of its folder.
		{"slashes in a row are one when stripped", []entry{file("x//a", "1")}, archive.Options{Strip: 1}, []string{`-rw-r--r-- a "1"`}},
		{"a dot is an element", []entry{file("./a/b", "1")}, archive.Options{Strip: 1}, []string{"drwxr-xr-x a", `-rw-r--r-- a/b "1"`}},
		{"the later wins", []entry{file("a", "1"), file("a", "22"), folder("d"), {"d", tar.TypeDir, "", 0o700}, file("l", "x"), symlink("l", "a"), symlink("l", "d")}, archive.Options{}, []string{
			`-rw-r--r-- a "22"`, "drwx------ d", "Lrwxrwxrwx l -> d"}},
		{"a file in place of a link is no write through it", []entry{symlink("a", "../secret"), file("a", "mine")}, archive.Options{}, []string{`-rw-r--r-- a "mine"`}},
		{"a folder in place of a link", []entry{folder("d"), symlink("a", "d"), folder("a"), file("a/b", "1")}, archive.Options{}, []string{"drwxr-xr-x a", `-rw-r--r-- a/b "1"`, "drwxr-xr-x d"}},
		{"a file in place of an empty folder", []entry{folder("a"), file("a", "1")}, archive.Options{}, []string{`-rw-r--r-- a "1"`}},
		{"a new file does not change its former other name", []entry{file("a", "1"), hardlink("b", "a"), file("b", "2")}, archive.Options{}, []string{`-rw-r--r-- a "1"`, `-rw-r--r-- b "2"`}},
		{"a link to a link", []entry{symlink("a", "../secret"), hardlink("b", "a")}, archive.Options{}, []string{"Lrwxrwxrwx a -> ../secret", "Lrwxrwxrwx b -> ../secret"}},
		{"a link to itself", []entry{file("a", "1"), hardlink("a", "a"), hardlink("b", "a"), hardlink("a", "b")}, archive.Options{}, []string{`-rw-r--r-- a "1"`, `-rw-r--r-- b "1"`}},
		{"a folder that cannot be written to is filled", []entry{{"d", tar.TypeDir, "", 0o555}, file("d/f", "1"), folder("d/e"), file("d/e/f", "1")}, archive.Options{}, []string{
			"dr-xr-xr-x d", "drwxr-xr-x d/e", `-rw-r--r-- d/e/f "1"`, `-rw-r--r-- d/f "1"`}},
		{"names that are not UTF-8", []entry{file("a\xff/b\n", "1")}, archive.Options{}, []string{"drwxr-xr-x a\xff", "-rw-r--r-- a\xff/b\n \"1\""}},
		{"no entry", nil, archive.Options{}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			data := tarOf(t, test.entries...)
			for kind, data := range map[string][]byte{"tar": data, "gzip": zipped(data)} {
				root, check := target(t)
				if err := extract(root, data, test.o); err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				got := check()
				slices.SortFunc(got, func(a, b string) int {
					return strings.Compare(strings.ToLower(a[11:]), strings.ToLower(b[11:]))
				})
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("%s:\n%s", kind, diff)
				}
			}
		})
	}
}

func TestHostileTars(t *testing.T) {
	long := strings.Repeat("a/", 3000) + "a"
	tests := []struct {
		name    string
		entries []entry
		o       archive.Options
		want    string
	}{
		{"a name out", []entry{file("../secret", "x")}, archive.Options{}, `leads out by ".."`},
		{"a name out and in", []entry{file("a/../../out/x", "x")}, archive.Options{}, `leads out by ".."`},
		{"a name out that strip would mend", []entry{file("../x", "x")}, archive.Options{Strip: 1}, `leads out by ".."`},
		{"a name out of what is not wanted", []entry{file("../x", "x"), file("a", "")}, archive.Options{Only: []string{"a"}}, `leads out by ".."`},
		{"an absolute name", []entry{file("/etc/passwd", "x")}, archive.Options{}, "absolute"},
		{"an absolute name that strip would mend", []entry{file("/etc/passwd", "x")}, archive.Options{Strip: 1}, "absolute"},
		{"a file through a link out", []entry{symlink("a", ".."), file("a/secret", "x")}, archive.Options{}, "through this symbolic link"},
		{"a file through an absolute link", []entry{symlink("a", "/tmp"), file("a/x", "x")}, archive.Options{}, "through this symbolic link"},
		{"a file through a link within", []entry{folder("d"), symlink("a", "d"), file("a/x", "x")}, archive.Options{}, "through this symbolic link"},
		{"a file through two links", []entry{folder("d"), symlink("d/up", ".."), symlink("a", "d/up"), file("a/up/secret", "x")}, archive.Options{}, "through this symbolic link"},
		{"a file deep behind a link", []entry{folder("d/e"), symlink("a", "d"), file("a/e/x", "x")}, archive.Options{}, "through this symbolic link"},
		{"a folder through a link", []entry{symlink("a", ".."), folder("a/new")}, archive.Options{}, "through this symbolic link"},
		{"a link through a link", []entry{symlink("a", ".."), symlink("a/new", "x")}, archive.Options{}, "through this symbolic link"},
		{"a hard link through a link", []entry{symlink("a", ".."), file("f", ""), hardlink("a/new", "f")}, archive.Options{}, "through this symbolic link"},
		{"a hard link out", []entry{hardlink("a", "../secret"), file("a", "x")}, archive.Options{}, `leads out by ".."`},
		{"a hard link to an absolute name", []entry{hardlink("a", "/etc/passwd")}, archive.Options{}, "absolute"},
		{"a hard link behind a link", []entry{symlink("d", ".."), hardlink("a", "d/secret")}, archive.Options{}, "through this symbolic link"},
		{"a hard link to nothing", []entry{hardlink("a", "b")}, archive.Options{}, "not there"},
		{"a hard link to a folder", []entry{folder("d"), hardlink("a", "d")}, archive.Options{}, "no file"},
		{"a hard link to what is stripped", []entry{file("b", ""), hardlink("d/a", "b")}, archive.Options{Strip: 1}, "not unpacked"},
		{"below a file", []entry{file("a", ""), file("a/b", "")}, archive.Options{}, "below this file"},
		{"a device", []entry{{"dev", tar.TypeChar, "", 0o666}}, archive.Options{}, "device"},
		{"a disk", []entry{{"dev", tar.TypeBlock, "", 0o666}}, archive.Options{}, "device"},
		{"a device that is not wanted", []entry{file("a", ""), {"dev", tar.TypeBlock, "", 0o666}}, archive.Options{Only: []string{"a"}}, "device"},
		{"a pipe", []entry{{"fifo", tar.TypeFifo, "", 0o666}}, archive.Options{}, "pipe"},
		{"another type", []entry{{"x", 'V', "", 0o666}}, archive.Options{}, "type 'V'"},
		{"a long name", []entry{file(long, "")}, archive.Options{}, "the limit is 4095"},
		{"a deep name", []entry{file(long[:2001], "")}, archive.Options{}, "more than 512 elements"},
		{"a long element", []entry{file(strings.Repeat("a", 256), "")}, archive.Options{}, "more than 255 bytes"},
		{"a long target", []entry{symlink("a", long)}, archive.Options{}, "the limit is 4095"},
		{"a file without a name", []entry{file(".", "")}, archive.Options{}, "without a name"},
		{"many entries", []entry{file("a", ""), file("b", ""), file("c", "")}, archive.Options{Limits: archive.Limits{Entries: 2}}, "more than 2 entries"},
		{"many bytes", []entry{file("a", "123"), file("b", "456")}, archive.Options{Limits: archive.Limits{Bytes: 5}}, "larger than 5 bytes"},
		{"nothing of Only", []entry{file("a", "")}, archive.Options{Only: []string{"b"}}, `there is no "b"`},
		{"nothing left", []entry{file("a", "")}, archive.Options{Strip: 1}, "nothing is left of 1 entries"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root, check := target(t)
			err := extract(root, tarOf(t, test.entries...), test.o)
			if _, ok := errors.AsType[*archive.RefusedError](err); !ok || !strings.Contains(err.Error(), test.want) {
				t.Errorf("err = %v, want %q", err, test.want)
			}
			check()
		})
	}
}

// Records of pax say again what headers say: what they say is judged.
func TestHostilePax(t *testing.T) {
	for _, test := range []struct {
		name    string
		records map[string]string
		kind    byte
		want    string
	}{
		{"a name out", map[string]string{"path": "../secret"}, tar.TypeReg, `leads out by ".."`},
		{"an absolute name", map[string]string{"path": "/etc/passwd"}, tar.TypeReg, "absolute"},
		{"a hard link out", map[string]string{"linkpath": "../secret"}, tar.TypeLink, `leads out by ".."`},
		{"a huge size", map[string]string{"size": "9223372036854775807"}, tar.TypeReg, ""},
		{"a size below zero", map[string]string{"size": "-1"}, tar.TypeReg, ""},
		{"a sparse file of another name", map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "../secret", "GNU.sparse.realsize": "10"}, tar.TypeReg, ""},
		{"a sparse file that is huge", map[string]string{"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "x", "GNU.sparse.size": "9223372036854775807", "GNU.sparse.numblocks": "0", "GNU.sparse.map": ""}, tar.TypeReg, ""},
	} {
		var records strings.Builder
		for _, key := range slices.Sorted(maps.Keys(test.records)) {
			// Each begins with its own length.
			line := " " + key + "=" + test.records[key] + "\n"
			n := len(line) + 1
			for len(strconv.Itoa(n))+len(line) != n {
				n++
			}
			records.WriteString(strconv.Itoa(n) + line)
		}
		block := func(name string, kind byte, size int) []byte {
			var h [512]byte
			copy(h[:], name)
			copy(h[100:], "0000644\x000000000\x000000000\x00")
			copy(h[124:], fmt.Sprintf("%011o\x0000000000000\x00        ", size))
			h[156] = kind
			copy(h[257:], "ustar\x0000")
			sum := 0
			for _, c := range h {
				sum += int(c)
			}
			copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
			return h[:]
		}
		body := []byte(records.String())
		data := append(block("pax", 'x', len(body)), body...)
		data = append(data, make([]byte, -len(data)&511)...)
		data = append(data, block("harmless", test.kind, 0)...)
		data = append(data, make([]byte, 1024)...)
		root, check := target(t)
		err := extract(root, data, archive.Options{Limits: archive.Limits{Bytes: 1 << 20}})
		if err == nil || test.want != "" && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: err = %v, want %q", test.name, err, test.want)
		}
		check()
	}
}

// TestExistingLinks unpacks into a folder in which links stand already.
func TestExistingLinks(t *testing.T) {
	root, check := target(t)
	if err := root.Symlink("..", "up"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"up", "up/new"} {
		if err := archive.Extract(context.Background(), root, dir, "x", bytes.NewReader(tarOf(t, file("secret", "x"))), archive.Options{}); err == nil {
			t.Errorf("it was unpacked into %s", dir)
		}
	}
	check()
}

func TestBrokenInputs(t *testing.T) {
	good := tarOf(t, file("a", strings.Repeat("text", 1000)))
	badSum := bytes.Clone(zipped(good))
	badSum[len(badSum)-6] ^= 1
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "it is empty"},
		{"text", []byte(strings.Repeat("text\n", 500)), "neither a tar"},
		{"one compressed file", zipped([]byte("just text")), "a single file compressed with gzip"},
		{"one long compressed file", zipped(bytes.Repeat([]byte("just text"), 1000)), "a single file compressed with gzip"},
		{"7z", append([]byte("7z\xbc\xaf\x27\x1c"), make([]byte, 600)...), "format 7z"},
		{"a cut tar", good[:2000], "unexpected EOF"},
		{"a cut gzip", zipped(good)[:60], "unexpected EOF"},
		{"a wrong checksum", badSum, "checksum"},
		{"a cut zip", zipOf(t, "a", "text", 0o644)[:30], "zip"},
	}
	for _, test := range tests {
		root, check := target(t)
		err := extract(root, test.data, archive.Options{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: err = %v, want %q", test.name, err, test.want)
		}
		check()
	}
	root, _ := target(t)
	if err := extract(root, append(zipped(good), make([]byte, 5000)...), archive.Options{}); err != nil {
		t.Errorf("padding behind gzip: %v", err)
	}
	cancelled, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	if err := archive.Extract(cancelled, root, "c", "x", bytes.NewReader(good), archive.Options{}); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("cancelled: %v", err)
	}
}

func TestBombs(t *testing.T) {
	// Just more zeros than are free of the ratio, in some kilobytes, as data of one
	// file and behind the end. A zstd stream may be of many frames: all are one.
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := z.EncodeAll(make([]byte, 1<<20), nil)
	bomb := func(head []byte) []byte { return append(z.EncodeAll(head, nil), bytes.Repeat(frame, 260)...) }
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(&tar.Header{Name: "zeros", Size: 260 << 20, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	var sparse bytes.Buffer
	// A header of GNU's old sparse format: 1 TiB that is one hole.
	h := make([]byte, 512)
	copy(h, "hole")
	copy(h[100:], "0000644\x000000000\x000000000\x0000000000000\x0014500000000\x00        S")
	copy(h[257:], "ustar  \x00")
	copy(h[386:], "000000000000000000000000") // one segment, at 0, of 0 bytes
	copy(h[483:], "\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	sparse.Write(h)
	sparse.Write(make([]byte, 1024))

	zipBomb := zipOf(t, "zeros", string(make([]byte, 1<<16)), 0o644)
	binary.LittleEndian.PutUint32(zipBomb[bytes.LastIndex(zipBomb, []byte("PK\x01\x02"))+24:], 260<<20)

	for _, test := range []struct {
		name string
		data []byte
		o    archive.Options
		want string
	}{
		{"data", bomb(header.Bytes()), archive.Options{}, "more than 300 times its size"},
		{"padding", bomb(tarOf(t)), archive.Options{}, "more than 300 times its size"},
		{"a hole", sparse.Bytes(), archive.Options{}, "larger than"},
		{"zip", zipBomb, archive.Options{}, "more than 300 times its size"},
		{"a limit of one's own", bomb(header.Bytes()), archive.Options{Limits: archive.Limits{Bytes: 1 << 20}}, "larger than 1048576 bytes"},
	} {
		root, check := target(t)
		err := extract(root, test.data, test.o)
		if _, ok := errors.AsType[*archive.RefusedError](err); !ok || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s (%d bytes): err = %v, want %q", test.name, len(test.data), err, test.want)
		}
		if test.name == "zip" || test.name == "a hole" {
			if got := check(); len(got) != 0 {
				t.Errorf("%s: unpacked %.200q", test.name, got)
			}
		}
	}
}

func zipOf(t testing.TB, name, text string, mode fs.FileMode) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: name, Modified: epoch, Method: zip.Deflate}
	h.SetMode(mode)
	f, err := w.CreateHeader(h)
	if err == nil {
		_, err = io.WriteString(f, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestHostileZips(t *testing.T) {
	lying := zipOf(t, "a", strings.Repeat("text", 100), 0o644)
	// The directory at the end says that the file has 1 byte.
	at := bytes.LastIndex(lying, []byte("PK\x01\x02"))
	copy(lying[at+24:], []byte{1, 0, 0, 0})
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"a name out", zipOf(t, "../secret", "x", 0o644), `leads out by ".."`},
		{"an absolute name", zipOf(t, "/etc/passwd", "x", 0o644), "absolute"},
		{"a backslash", zipOf(t, `..\secret`, "x", 0o644), "separator"},
		{"a device", zipOf(t, "dev", "", 0o644|fs.ModeDevice), "neither file"},
		{"a pipe", zipOf(t, "fifo", "", 0o644|fs.ModeNamedPipe), "neither file"},
		{"a long target", zipOf(t, "l", strings.Repeat("a", 5000), 0o777|fs.ModeSymlink), "target"},
		{"a wrong size", lying, "zip: "},
	} {
		root, check := target(t)
		if err := extract(root, test.data, archive.Options{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: err = %v, want %q", test.name, err, test.want)
		}
		check()
	}
	root, check := target(t)
	if err := extract(root, zipOf(t, "d/l", "../../secret", 0o777|fs.ModeSymlink), archive.Options{Strip: 1}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Lrwxrwxrwx l -> ../../secret"}, check()); diff != "" {
		t.Error(diff)
	}
}

func TestTimes(t *testing.T) {
	for _, want := range []time.Time{epoch, time.Unix(1_500_000_000, 0)} {
		o := archive.Options{}
		if want != epoch {
			o.ModTime = want
		}
		root, _ := target(t)
		if err := extract(root, tarOf(t, folder("d"), file("d/f", "1"), symlink("d/l", "nowhere"), entry{"d/r", tar.TypeDir, "", 0o555}, file("d/r/f", "")), o); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"d", "d/f", "d/l", "d/r", "d/r/f"} {
			info, err := root.Lstat(name)
			if err != nil || !info.ModTime().Equal(want) {
				t.Errorf("%s: %v, %v; want %v", name, info.ModTime(), err, want)
			}
		}
	}
}

// sampleTree makes a tree of what tools pack.
func sampleTree(t testing.TB) string {
	dir := filepath.Join(tempDir(t), "pkg-1.0")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "src/deep"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "configure"), []byte("#!/bin/sh\n"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "src/main.c"), bytes.Repeat([]byte("int main;\n"), 5000), 0o644))
	must(os.WriteFile(filepath.Join(dir, "src/deep", strings.Repeat("long-name-", 20)), []byte("x"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	must(os.Symlink("src/main.c", filepath.Join(dir, "link")))
	must(os.Link(filepath.Join(dir, "configure"), filepath.Join(dir, "src/configure")))
	for _, name := range []string{"configure", "src/main.c", "empty", "src/deep", "src", "."} {
		must(os.Chtimes(filepath.Join(dir, name), epoch, epoch))
	}
	for name, mode := range map[string]fs.FileMode{"configure": 0o755, "src/main.c": 0o644, "empty": 0o600, "src": 0o755, "src/deep": 0o755, ".": 0o755} {
		must(os.Chmod(filepath.Join(dir, name), mode))
	}
	return dir
}

// TestToolsOfThisMachine packs with the machine's own tools, and compares what
// comes out with what went in and with what the tool unpacks.
func TestToolsOfThisMachine(t *testing.T) {
	dir := sampleTree(t)
	parent, base := filepath.Dir(dir), filepath.Base(dir)
	want := list(t, dir)
	for _, test := range []struct{ name, tool, script string }{
		{"tar", "tar", `tar -cf "$OUT" "$BASE"`},
		{"gnu", "tar", `tar --format=gnu -cf "$OUT" "$BASE"`},
		{"pax", "tar", `tar --format=pax -cf "$OUT" "$BASE"`},
		{"v7", "tar", `tar --format=v7 --exclude='long-name-*' -cf "$OUT" "$BASE"`},
		{"gzip", "gzip", `tar -cf - "$BASE" | gzip -9 > "$OUT"`},
		{"two gzip members", "gzip", `tar -cf "$OUT.t" "$BASE"; { head -c 3000 "$OUT.t" | gzip; tail -c +3001 "$OUT.t" | gzip; } > "$OUT"; rm "$OUT.t"`},
		{"bzip2", "bzip2", `tar -cf - "$BASE" | bzip2 > "$OUT"`},
		{"xz", "xz", `tar -cf - "$BASE" | xz -9 > "$OUT"`},
		{"xz in blocks, by threads", "xz", `tar -cf - "$BASE" | xz -T2 --block-size=4096 --check=sha256 > "$OUT"`},
		{"xz with a filter for x86", "xz", `tar -cf - "$BASE" | xz --x86 --lzma2 > "$OUT"`},
		{"two xz streams", "xz", `tar -cf "$OUT.t" "$BASE"; { head -c 3000 "$OUT.t" | xz; tail -c +3001 "$OUT.t" | xz; } > "$OUT"; rm "$OUT.t"`},
		{"zstd", "zstd", `tar -cf - "$BASE" | zstd -19 > "$OUT"`},
		{"lzip", "lzip", `tar -cf - "$BASE" | lzip > "$OUT"`},
		{"lzip in members", "lzip", `tar -cf - "$BASE" | lzip -b 100000 > "$OUT"`},
		{"zip", "zip", `zip -qry "$OUT" "$BASE"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := exec.LookPath(test.tool); err != nil {
				t.Skipf("%s is not installed", test.tool)
			}
			out := filepath.Join(tempDir(t), "archive.bin")
			if test.tool == "zip" {
				out += ".zip"
			}
			c := exec.Command("sh", "-euc", test.script)
			c.Dir = parent
			c.Env = append(os.Environ(), "OUT="+out, "BASE="+base)
			if text, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			f, err := os.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if !archive.IsArchive(f) {
				t.Error("IsArchive says no")
			}
			f.Seek(0, io.SeekStart)
			root, check := target(t)
			if err := archive.Extract(context.Background(), root, ".", out, f, archive.Options{Strip: 1}); err != nil {
				t.Fatal(err)
			}
			want := want
			if test.name == "v7" {
				want = slices.DeleteFunc(slices.Clone(want), func(l string) bool { return strings.Contains(l, "long-name") })
			}
			if diff := cmp.Diff(want, check()); diff != "" {
				t.Error(diff)
			}
			info, err := root.Stat("src/main.c")
			if err != nil || !info.ModTime().Equal(epoch) {
				t.Errorf("time = %v, %v", info.ModTime(), err)
			}
		})
	}
}

// TestStripAsTarDoes compares names with those that the machine's tar makes.
func TestStripAsTarDoes(t *testing.T) {
	if out, err := exec.Command("tar", "--version").Output(); err != nil || !bytes.Contains(out, []byte("GNU tar")) {
		t.Skip("GNU tar is not installed")
	}
	data := tarOf(t, folder("./"), folder("./a/"), file("./a/b", "1"), folder("x/"), file("x/y/z", "2"), file("top", "3"), hardlink("x/h", "x/y/z"), symlink("x/s", "y/z"), folder("x/y/dir/"), entry{"m/n/o/p", tar.TypeReg, "", 0o777})
	for strip := range 4 {
		dir := tempDir(t)
		c := exec.Command("tar", "-x", "--no-same-owner", "--strip-components="+fmt.Sprint(strip), "-C", dir)
		c.Stdin = bytes.NewReader(data)
		if text, err := c.CombinedOutput(); err != nil {
			t.Fatalf("strip %d: %v\n%s", strip, err, text)
		}
		root, check := target(t)
		if err := extract(root, data, archive.Options{Strip: strip}); err != nil {
			t.Fatalf("strip %d: %v", strip, err)
		}
		// The umask is tar's affair.
		modeless := func(lines []string) []string {
			for i, l := range lines {
				_, lines[i], _ = strings.Cut(l, " ")
			}
			return lines
		}
		if diff := cmp.Diff(modeless(list(t, dir)), modeless(check())); diff != "" {
			t.Errorf("strip %d, tar and we:\n%s", strip, diff)
		}
	}
}

func TestSparse(t *testing.T) {
	dir := tempDir(t)
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("end"), 10<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, form := range []string{"gnu", "pax"} {
		out, err := exec.Command("tar", "--sparse", "--format="+form, "-C", dir, "-c", "holes").Output()
		if err != nil {
			t.Skipf("tar does not pack sparse files: %v", err)
		}
		if len(out) > 1<<20 {
			t.Fatalf("%s: tar wrote %d bytes: not sparse", form, len(out))
		}
		root, _ := target(t)
		if err := extract(root, out, archive.Options{}); err != nil {
			t.Fatal(err)
		}
		got, err := root.ReadFile("holes")
		if err != nil || len(got) != 10<<20+3 || string(got[10<<20:]) != "end" {
			t.Errorf("%s: %d bytes, %v", form, len(got), err)
		}
	}
}

// lzipped writes one member of lzip around an LZMA stream.
func lzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := lzma.WriterConfig{Properties: &lzma.Properties{LC: 3, LP: 0, PB: 2}, DictCap: 1 << 16, EOSMarker: true}.NewWriter(&b)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	out := append([]byte("LZIP\x01\x10"), b.Bytes()[13:]...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(data))
	out = binary.LittleEndian.AppendUint64(out, uint64(len(data)))
	return binary.LittleEndian.AppendUint64(out, uint64(len(out)+8))
}

func TestLzip(t *testing.T) {
	data := tarOf(t, file("a", strings.Repeat("text", 10_000)))
	one := lzipped(t, data)
	two := append(lzipped(t, data[:5000]), lzipped(t, data[5000:])...)
	badSum, badDict := bytes.Clone(one), bytes.Clone(one)
	badSum[len(badSum)-20] ^= 1
	badDict[5] = 30
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"one member", one, ""},
		{"two members", two, ""},
		{"something behind it", append(bytes.Clone(two), "signature"...), ""},
		{"a wrong checksum", badSum, "lzip: checksum does not match"},
		{"a large dictionary", badDict, "lzip: dictionary of 1073741824 bytes"},
		{"cut", one[:len(one)-1], "unexpected EOF"},
		{"cut in its data", one[:len(one)-30], "unexpected EOF"},
	} {
		root, _ := target(t)
		err := extract(root, test.data, archive.Options{})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: err = %v, want %q", test.name, err, test.want)
		}
		if got, rerr := root.ReadFile("a"); err == nil && (rerr != nil || len(got) != 40_000) {
			t.Errorf("%s: %d bytes, %v", test.name, len(got), rerr)
		}
	}
}

func TestIsArchive(t *testing.T) {
	for _, test := range []struct {
		name string
		data []byte
		want bool
	}{
		{"tar", tarOf(t, file("a", "1")), true},
		{"tar.gz", zipped(tarOf(t, file("a", "1"))), true},
		{"zip", zipOf(t, "a", "1", 0o644), true},
		{"text.gz", zipped([]byte("text")), false},
		{"text", []byte("text"), false},
		{"nothing", nil, false},
		{"a cut gzip", []byte("\x1f\x8b"), false},
	} {
		if got := archive.IsArchive(bytes.NewReader(test.data)); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestPackIsCanonical(t *testing.T) {
	pack := func(dir string, o archive.PackOptions) []byte {
		t.Helper()
		root, err := os.OpenRoot(filepath.Dir(dir))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		var b bytes.Buffer
		if err := archive.Pack(context.Background(), &b, root, filepath.Base(dir), o); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	one := sampleTree(t)
	first := pack(one, archive.PackOptions{})
	// Unpacked elsewhere, with other times, other modes and without the second name.
	root, _ := target(t)
	if err := extract(root, first, archive.Options{ModTime: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	if err := root.Chmod("empty", 0o640); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, pack(root.Name(), archive.PackOptions{})) {
		t.Error("the same tree gives other bytes")
	}
	if err := root.Chmod("empty", 0o700); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, pack(root.Name(), archive.PackOptions{})) {
		t.Error("an executable bit does not count")
	}
	var names []string
	r := tar.NewReader(bytes.NewReader(pack(one, archive.PackOptions{ModTime: epoch.Add(time.Millisecond), Skip: func(p string, isDir bool) bool { return isDir && p == "src" }})))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%+v", h)
		}
		names = append(names, fmt.Sprintf("%o %s", h.Mode, h.Name))
	}
	if diff := cmp.Diff([]string{"755 configure", "644 empty", "777 link"}, names); diff != "" {
		t.Error(diff)
	}
}

// FuzzExtract unpacks whatever comes, and then nothing outside has changed and
// nothing inside is a device, a pipe or setuid.
func FuzzExtract(f *testing.F) {
	f.Add(tarOf(f, folder("d/"), file("d/f", "text"), symlink("l", "d"), hardlink("h", "d/f")), 0)
	f.Add(tarOf(f, symlink("a", ".."), file("a/secret", "x")), 0)
	f.Add(tarOf(f, file("../secret", "x")), 1)
	f.Add(zipped(tarOf(f, hardlink("a", "../secret"), file("a", "x"))), 0)
	f.Add(zipOf(f, "../secret", "x", 0o644), 0)
	f.Add(zipOf(f, "l", "../secret", 0o777|fs.ModeSymlink), 0)
	f.Fuzz(func(t *testing.T, data []byte, strip int) {
		root, check := target(t)
		err := extract(root, data, archive.Options{Strip: strip & 3, Limits: archive.Limits{Bytes: 1 << 20, Entries: 100}})
		for _, line := range check() {
			if strings.ContainsAny(line[:1], "Dcpsug") {
				t.Errorf("unpacked %s (%v)", line, err)
			}
		}
	})
}

// BenchmarkExtract unpacks 4,000 small files, as a source has them.
func BenchmarkExtract(b *testing.B) {
	var entries []entry
	for i := range 4000 {
		entries = append(entries, file(fmt.Sprintf("pkg-1.0/d%02d/file%d.c", i/100, i), strings.Repeat("int x;\n", 500)))
	}
	data := zipped(tarOf(b, entries...))
	b.SetBytes(4000 * 3500)
	for b.Loop() {
		root, _ := target(b)
		if err := extract(root, data, archive.Options{Strip: 1, ModTime: epoch}); err != nil {
			b.Fatal(err)
		}
	}
}
