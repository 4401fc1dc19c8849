package pack_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/build/pack"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/store"
)

// tree makes files in an order of its own: a value that begins with "-> " is a link,
// one that begins with "=> " another name; a path that ends in a slash is a folder.
func tree(t testing.TB, pairs ...string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	for i := 0; i < len(pairs); i += 2 {
		name, content := pairs[i], pairs[i+1]
		if err := root.MkdirAll(filepath.Dir(strings.TrimSuffix(name, "/")), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = root.MkdirAll(strings.TrimSuffix(name, "/"), 0o755)
		case strings.HasPrefix(content, "-> "):
			err = root.Symlink(content[3:], name)
		case strings.HasPrefix(content, "=> "):
			err = root.Link(content[3:], name)
		default:
			err = root.WriteFile(name, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
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

func input(root *os.Root) pack.Input {
	return pack.Input{
		Info:    apk.Info{Name: "x", Version: "1-r0", Arch: apk.ArchX86_64},
		Tree:    root.FS(),
		Extra:   map[string][]byte{"var/lib/doc": []byte("doc"), "usr/more": []byte("more"), "etc/a": []byte("a")},
		Scripts: map[string][]byte{".post-install": []byte("#!/bin/sh\n"), ".pre-install": []byte("#!/bin/sh\n")},
		Control: map[string][]byte{".melange.yaml": []byte("package:\n")},
		Time:    time.Unix(1700000000, 0),
	}
}

// The same content gives the same bytes, in whatever order and wherever it was made.
func TestSameBytes(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 200_000)
	trees := [][]string{
		{"usr/b", "b", "usr/a", "a", "usr/lib/large", large, "usr/z", "=> usr/b", "usr/0", "=> usr/b", "usr/link", "-> b", "usr/empty/", ""},
		{"usr/empty/", "", "usr/link", "-> b", "usr/lib/large", large, "usr/0", "b", "usr/z", "=> usr/0", "usr/b", "=> usr/z", "usr/a", "a"},
	}
	digests := map[store.Digest]bool{}
	for i := range 6 {
		previous := runtime.GOMAXPROCS(1 + i%4)
		st := openStore(t)
		entry, digest, files, err := pack.Write(t.Context(), st, input(tree(t, trees[i%2]...)))
		runtime.GOMAXPROCS(previous)
		if err != nil {
			t.Fatal(err)
		}
		digests[digest] = true
		f, err := st.Open(digest)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		p := apktest.Read(t, data)
		if err := p.VerifyData(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(apk.EntryOf(p, int64(len(data))), entry); diff != "" {
			t.Errorf("entry (-read +told):\n%s", diff)
		}
		if files != 9 {
			t.Errorf("%d files, want 9", files)
		}
	}
	if len(digests) != 1 {
		t.Errorf("%d digests, want 1", len(digests))
	}
}

// The archive itself: what stands in it, in which order, with which modes and owners.
func TestListing(t *testing.T) {
	root := tree(t, "usr/b", "b", "usr/a", "=> usr/b", "usr/link", "-> /etc", "usr/empty/", "", "usr.d/x", "x")
	if err := root.Chmod("usr/b", 0o751); err != nil {
		t.Fatal(err)
	}
	if err := root.Chmod("usr/empty", 0o700|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	in := input(root)
	want := `
-rwxr-xr-x 0:0 etc folder
-rw-r--r-- 0:0 etc/a file
-rwxr-xr-x 0:0 usr folder
-rwxr-x--x 0:0 usr/a file
---------- 0:0 usr/b hard link usr/a
trwx------ 0:0 usr/empty folder
-rwxrwxrwx 0:0 usr/link symbolic link /etc
-rw-r--r-- 0:0 usr/more file
-rwxr-xr-x 0:0 usr.d folder
-rw-r--r-- 0:0 usr.d/x file
-rwxr-xr-x 0:0 var folder
-rwxr-xr-x 0:0 var/lib folder
-rw-r--r-- 0:0 var/lib/doc file
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), listing(t, in)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func listing(t *testing.T, in pack.Input) string {
	t.Helper()
	st := openStore(t)
	_, digest, _, err := pack.Write(t.Context(), st, in)
	if err != nil {
		t.Fatal(err)
	}
	f, err := st.Open(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	err = apktest.Read(t, data).Files(func(f *apk.File, _ io.Reader) error {
		fmt.Fprintf(&b, "%v %d:%d %s %s", f.Mode, f.UID, f.GID, f.Path, f.Type)
		if f.Link != "" {
			b.WriteString(" " + f.Link)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Owners are those of the sandbox, and the build's own user is root.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to others")
	}
	root := tree(t, "usr/root", "", "usr/build", "", "usr/other", "", "usr/worker", "")
	for name, id := range map[string]int{"usr/build": 1000, "usr/other": 33, "usr/worker": 3000} {
		if err := root.Chown(name, id, id+1); err != nil {
			t.Fatal(err)
		}
	}
	in := input(root)
	in.Extra, in.UID, in.GID = nil, 3000, 3001
	want := "-rwxr-xr-x 0:0 usr folder\n-rw-r--r-- 0:1001 usr/build file\n-rw-r--r-- 33:34 usr/other file\n-rw-r--r-- 0:0 usr/root file\n-rw-r--r-- 0:0 usr/worker file\n"
	if diff := cmp.Diff(want, listing(t, in)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefused(t *testing.T) {
	capability := map[string]pack.Xattrs{}
	for _, test := range []struct {
		name   string
		pairs  []string
		change func(in *pack.Input)
		want   string
	}{
		{"a name with a line break", []string{"usr/a\nb", ""}, nil, "line break"},
		{"a dot at the root", []string{".x", ""}, nil, "begins with a dot"},
		{"a file that tarn writes", []string{"usr/more", ""}, nil, "usr/more, which tarn writes"},
		{"a link where tarn writes below", []string{"var", "-> usr"}, nil, "stands below"},
		{"capabilities of nothing", nil, func(in *pack.Input) { in.Xattrs = map[string]pack.Xattrs{"usr/x": {}} }, "usr/x, which is to have capabilities"},
		{"capabilities of a folder", []string{"usr/x/", ""}, func(in *pack.Input) { in.Xattrs = map[string]pack.Xattrs{"usr/x": {"a": "b"}} }, "usr/x is a folder"},
		{"capabilities of a link", []string{"usr/x", "-> y"}, func(in *pack.Input) { in.Xattrs = map[string]pack.Xattrs{"usr/x": {"a": "b"}} }, "usr/x is a symbolic link"},
		{"two for one file", []string{"usr/x", "", "usr/y", "=> usr/x"}, func(in *pack.Input) { in.Xattrs = map[string]pack.Xattrs{"usr/x": {"a": "b"}, "usr/y": {"a": "c"}} }, "are one file"},
		{"a script that is none", nil, func(in *pack.Input) { in.Scripts[".x"] = nil }, ".x"},
		{"a version that is none", nil, func(in *pack.Input) { in.Info.Version = "../1" }, "../1"},
		{"a name that is a path", nil, func(in *pack.Input) { in.Info.Name = "../x" }, "../x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := input(tree(t, test.pairs...))
			in.Xattrs = capability
			if test.change != nil {
				test.change(&in)
			}
			_, _, _, err := pack.Write(t.Context(), openStore(t), in)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := pack.Write(ctx, openStore(t), input(tree(t, "usr/x", ""))); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: got %v", err)
	}
}

func TestFileCapability(t *testing.T) {
	for _, test := range []struct {
		add  map[string]string
		want []uint32 // magic, permitted, inheritable; nil is an error
	}{
		{map[string]string{"cap_net_bind_service": "+ep"}, []uint32{0x03000001, 1 << 10, 0}},
		{map[string]string{"cap_net_bind_service": "=p"}, []uint32{0x03000000, 1 << 10, 0}},
		{map[string]string{"cap_net_raw, cap_net_admin": "+eip"}, []uint32{0x03000001, 1<<13 | 1<<12, 1<<13 | 1<<12}},
		{map[string]string{"cap_ipc_lock": "+p", "cap_sys_admin": "+ei"}, []uint32{0x03000001, 1 << 14, 1 << 21}},
		{map[string]string{"cap_chown": "+ep"}, nil},
		{map[string]string{"cap_net_raw": "+x"}, nil},
		{map[string]string{"cap_net_raw": ""}, nil},
	} {
		var want string
		if test.want != nil {
			var b []byte
			for _, word := range append(test.want, 0, 0, 0) {
				b = binary.LittleEndian.AppendUint32(b, word)
			}
			want = string(b)
		}
		got, err := pack.FileCapability(test.add)
		if (err == nil) != (test.want != nil) || got != want {
			t.Errorf("%v: got %x, %v, want %x", test.add, got, err, want)
		}
	}
}
