package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tarn-build/tarn/pkg/store"
)

var sampleTime = time.Unix(1_700_000_000, 0)

// fillSample makes a small tree with what is awkward: folders that cannot be
// written to, a file that cannot be read, links, several names of a file, odd names.
func fillSample(root *os.Root) error {
	files := []struct {
		path, text string
		mode       fs.FileMode
	}{
		{"usr/lib/libz.so.1", "\x7fELF", 0o755},
		{"etc/shadow", "root:*::0:::::", 0},
		{"usr/bin/su", "#!su", 0o755 | fs.ModeSetuid},
		{"usr/share/odd name \"\n\xff", "odd", 0o644},
		{"empty", "", 0o444},
	}
	for _, f := range files {
		if err := root.MkdirAll(path.Dir(f.path), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(f.path, []byte(f.text), 0o644); err != nil {
			return err
		}
		if err := root.Chmod(f.path, f.mode); err != nil {
			return err
		}
		if err := root.Chtimes(f.path, sampleTime, sampleTime); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{"usr/lib/libz.so": "libz.so.1", "lib": "usr/lib", "out": "/etc/passwd"} {
		if err := root.Symlink(target, link); err != nil {
			return err
		}
	}
	if err := root.Link("usr/lib/libz.so.1", "usr/lib/libz.so.1.3"); err != nil {
		return err
	}
	for dir, mode := range map[string]fs.FileMode{"usr/share": 0o555, "usr/lib": 0o555, "etc": 0o700, "usr/bin": 0o755, "usr": 0o755} {
		if err := root.Chmod(dir, mode); err != nil {
			return err
		}
	}
	return nil
}

func TestTree(t *testing.T) {
	s := open(t, tempDir(t))
	ctx := context.Background()
	id := store.NewHash("tree").Sum()
	filled := 0
	fill := func(root *os.Root) error { filled++; return fillSample(root) }
	tree, err := s.Tree(ctx, id, fill)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range tree.Entries {
		got = append(got, fmt.Sprintf("%c %v %q %d %q %.8s", e.Type, e.Mode, e.Path, e.Size, e.Link, e.Digest.Hex()))
	}
	elf := store.DigestOf([]byte("\x7fELF")).Hex()[:8]
	want := []string{
		`f -r--r--r-- "empty" 0 "" ` + store.DigestOf(nil).Hex()[:8],
		`d drwx------ "etc" 0 "" `,
		`f -r-------- "etc/shadow" 14 "" ` + store.DigestOf([]byte("root:*::0:::::")).Hex()[:8],
		`l Lrwxrwxrwx "lib" 7 "usr/lib" `,
		`l Lrwxrwxrwx "out" 11 "/etc/passwd" `,
		`d drwxr-xr-x "usr" 0 "" `,
		`d drwxr-xr-x "usr/bin" 0 "" `,
		`f -rwxr-xr-x "usr/bin/su" 4 "" ` + store.DigestOf([]byte("#!su")).Hex()[:8],
		`d dr-xr-xr-x "usr/lib" 0 "" `,
		`l Lrwxrwxrwx "usr/lib/libz.so" 9 "libz.so.1" `,
		`f -rwxr-xr-x "usr/lib/libz.so.1" 4 "" ` + elf,
		`f -rwxr-xr-x "usr/lib/libz.so.1.3" 4 "" ` + elf,
		`d dr-xr-xr-x "usr/share" 0 "" `,
		`f -rw-r--r-- "usr/share/odd name \"\n\xff" 3 "" ` + store.DigestOf([]byte("odd")).Hex()[:8],
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	again, err := s.Tree(ctx, id, fill)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree, again); diff != "" || filled != 1 {
		t.Errorf("filled %d times; the second time:\n%s", filled, diff)
	}
	info, err := os.Stat(filepath.Join(tree.Dir, "usr/lib/libz.so.1"))
	if err != nil || !info.ModTime().Equal(sampleTime) {
		t.Errorf("time = %v, %v", info.ModTime(), err)
	}
}

func TestTreeThatDiffersIsMadeAgain(t *testing.T) {
	tests := []struct {
		name   string
		change func(dir string) error
	}{
		{"a byte flipped, with its time kept", func(dir string) error {
			flip(t, filepath.Join(dir, "usr/lib/libz.so.1"), 1)
			return nil
		}},
		{"a file added", func(dir string) error { return os.WriteFile(filepath.Join(dir, "usr/bin/sh"), nil, 0o755) }},
		{"an empty folder added", func(dir string) error { return os.Mkdir(filepath.Join(dir, "usr/zzz"), 0o755) }},
		{"a file added at the end", func(dir string) error { return os.WriteFile(filepath.Join(dir, "zzz"), nil, 0o755) }},
		{"a file missing", func(dir string) error { return os.Remove(filepath.Join(dir, "empty")) }},
		{"the last missing", func(dir string) error {
			os.Chmod(filepath.Join(dir, "usr/share"), 0o755)
			return os.Remove(filepath.Join(dir, "usr/share/odd name \"\n\xff"))
		}},
		{"a folder missing", func(dir string) error { return os.RemoveAll(filepath.Join(dir, "usr/bin")) }},
		{"a link elsewhere, of the same length", func(dir string) error {
			os.Remove(filepath.Join(dir, "lib"))
			return os.Symlink("usr/bin", filepath.Join(dir, "lib"))
		}},
		{"a file became a link", func(dir string) error {
			os.Remove(filepath.Join(dir, "usr/bin/su"))
			return os.Symlink("../../empty", filepath.Join(dir, "usr/bin/su"))
		}},
		{"a folder became a link", func(dir string) error {
			if err := os.Rename(filepath.Join(dir, "usr/bin"), filepath.Join(dir, "usr/bin2")); err != nil {
				return err
			}
			return os.Symlink("bin2", filepath.Join(dir, "usr/bin"))
		}},
		{"a file became a pipe", func(dir string) error {
			os.Remove(filepath.Join(dir, "usr/bin/su"))
			return syscall.Mkfifo(filepath.Join(dir, "usr/bin/su"), 0o755)
		}},
		{"another mode", func(dir string) error { return os.Chmod(filepath.Join(dir, "usr/bin/su"), 0o777) }},
		{"another mode of the top", func(dir string) error { return os.Chmod(dir, 0o700) }},
		{"another time", func(dir string) error { return os.Chtimes(filepath.Join(dir, "empty"), sampleTime, time.Now()) }},
		{"longer", func(dir string) error {
			os.Chmod(filepath.Join(dir, "empty"), 0o644)
			return os.WriteFile(filepath.Join(dir, "empty"), []byte("x"), 0)
		}},
		{"no manifest", func(dir string) error { return os.Remove(filepath.Join(dir, "../manifest")) }},
		{"a damaged manifest", func(dir string) error { flip(t, filepath.Join(dir, "../manifest"), 200); return nil }},
		{"an empty manifest", func(dir string) error { return os.Truncate(filepath.Join(dir, "../manifest"), 0) }},
		{"no files", func(dir string) error {
			os.Chmod(filepath.Join(dir, "usr/share"), 0o755)
			os.Chmod(filepath.Join(dir, "usr/lib"), 0o755)
			return os.RemoveAll(dir)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, tempDir(t))
			ctx := context.Background()
			id := store.NewHash("tree").Sum()
			filled := 0
			fill := func(root *os.Root) error { filled++; return fillSample(root) }
			first, err := s.Tree(ctx, id, fill)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(first.Dir); err != nil {
				t.Fatal(err)
			}
			second, err := s.Tree(ctx, id, fill)
			if err != nil {
				t.Fatal(err)
			}
			if filled != 2 {
				t.Errorf("filled %d times", filled)
			}
			if diff := cmp.Diff(first, second); diff != "" {
				t.Error(diff)
			}
			if err := s.Verify(ctx, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTreeThatWasOnlyMovedIsKept(t *testing.T) {
	s := open(t, tempDir(t))
	ctx := context.Background()
	id := store.NewHash("tree").Sum()
	tree, err := s.Tree(ctx, id, fillSample)
	if err != nil {
		t.Fatal(err)
	}
	// Another inode and change time, as after a restored backup; nothing else.
	path := filepath.Join(tree.Dir, "usr/bin/su")
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"2", []byte("#!su"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(path+"2", 0o755), os.Chtimes(path+"2", sampleTime, sampleTime), os.Rename(path+"2", path), os.Chtimes(filepath.Dir(path), dir.ModTime(), dir.ModTime())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := s.Tree(ctx, id, func(*os.Root) error { return errors.New("made again") }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTreeThatIsUsedElsewhereStaysWhereItWasOpened(t *testing.T) {
	dir := tempDir(t)
	user, s := open(t, dir), open(t, dir)
	ctx := context.Background()
	id := store.NewHash("tree").Sum()
	tree, err := user.Tree(ctx, id, fillSample)
	if err != nil {
		t.Fatal(err)
	}
	mounted, err := os.OpenRoot(tree.Dir) // as an overlay holds it
	if err != nil {
		t.Fatal(err)
	}
	defer mounted.Close()
	if err := os.WriteFile(filepath.Join(tree.Dir, "added"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tree(ctx, id, fillSample); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(ctx, 0, store.GCOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := mounted.ReadFile("usr/lib/libz.so.1"); err != nil || string(got) != "\x7fELF" {
		t.Errorf("it went away under its user: %q, %v", got, err)
	}
}

func TestTreeNotMade(t *testing.T) {
	s := open(t, tempDir(t))
	id := store.NewHash("tree").Sum()
	cancelled, cancel := context.WithCancelCause(context.Background())
	cancel(errBroken)
	tests := []struct {
		name string
		ctx  context.Context
		fill func(root *os.Root) error
		want string
	}{
		{"fill does not succeed", context.Background(), func(root *os.Root) error { fillSample(root); return errBroken }, errBroken.Error()},
		{"a pipe", context.Background(), func(root *os.Root) error {
			return syscall.Mkfifo(filepath.Join(root.Name(), "pipe"), 0o644)
		}, "pipe is neither file, folder nor symbolic link"},
		{"a full disk", context.Background(), func(root *os.Root) error {
			return &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
		}, "no space left on device"},
		{"cancelled", cancelled, fillSample, errBroken.Error()},
	}
	for _, test := range tests {
		_, err := s.Tree(test.ctx, id, test.fill)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
		for _, dir := range []string{"trees", "locks"} {
			if left := paths(t, filepath.Join(s.Dir(), dir)); len(left) != 0 {
				t.Errorf("%s: left in %s: %q", test.name, dir, left)
			}
		}
		if u, err := s.Usage(); err != nil || u.Temp.Bytes > 64<<10 {
			t.Errorf("%s: temporary files stay: %+v, %v", test.name, u, err)
		}
	}
}

func TestWaitingForATreeEndsWithTheContext(t *testing.T) {
	dir := tempDir(t)
	maker, s := open(t, dir), open(t, dir)
	id := store.NewHash("tree").Sum()
	filling, finish := make(chan bool), make(chan bool)
	result := make(chan error, 1)
	go func() {
		_, err := maker.Tree(context.Background(), id, func(root *os.Root) error {
			close(filling)
			<-finish
			return fillSample(root)
		})
		result <- err
	}()
	<-filling
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(10*time.Millisecond, func() { cancel(errBroken) })
	if _, err := s.Tree(ctx, id, fillSample); !errors.Is(err, errBroken) {
		t.Errorf("err = %v", err)
	}
	close(finish)
	if err := <-result; err != nil {
		t.Error(err)
	}
	if _, err := s.Tree(context.Background(), id, func(*os.Root) error { return errors.New("made twice") }); err != nil {
		t.Error(err)
	}
}

// BenchmarkTreeUse checks a tree of 4,000 files that is there and was not touched.
func BenchmarkTreeUse(b *testing.B) {
	s := open(b, tempDir(b))
	ctx := context.Background()
	id := store.NewHash("tree").Sum()
	fill := func(root *os.Root) error {
		for i := range 4000 {
			dir := fmt.Sprintf("usr/include/d%02d", i%100)
			if err := root.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := root.WriteFile(fmt.Sprintf("%s/file%04d.h", dir, i), []byte(fmt.Sprint(i)), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := s.Tree(ctx, id, fill); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Tree(ctx, id, fill); err != nil {
			b.Fatal(err)
		}
	}
}
