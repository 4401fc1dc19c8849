package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tarn-build/tarn/pkg/store"
)

func open(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// tempDir is a folder that goes with what is in it, also as an ordinary user.
func tempDir(t testing.TB) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := store.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func put(t testing.TB, s *store.Store, text string) store.Digest {
	t.Helper()
	d, n, err := s.Put(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(len(text)) || d != store.DigestOf([]byte(text)) {
		t.Fatalf("Put(%q) = %s, %d", text, d, n)
	}
	return d
}

func read(s *store.Store, d store.Digest) (string, error) {
	f, err := s.Open(d)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return string(data), err
}

// paths lists the files below dir, relative, that are not this process's own.
func paths(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func blobPath(s *store.Store, d store.Digest) string {
	return filepath.Join(s.Dir(), "blobs", "sha256", d.Hex()[:2], d.Hex())
}

// flip changes one byte of a file that may be read-only, with its time kept.
func flip(t testing.TB, path string, at int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

func TestPutAndOpen(t *testing.T) {
	s := open(t, tempDir(t))
	for _, text := range []string{"", "hello\n", strings.Repeat("x", 1<<20)} {
		d := put(t, s, text)
		put(t, s, text) // again
		if !s.Has(d) {
			t.Errorf("Has(%s) = false", d)
		}
		got, err := read(s, d)
		if err != nil || got != text {
			t.Errorf("Open(%s) gives %d bytes, %v; want %d bytes", d, len(got), err, len(text))
		}
	}
	absent := store.DigestOf([]byte("absent"))
	if s.Has(absent) {
		t.Error("Has of an absent blob")
	}
	if _, err := s.Open(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of an absent blob: %v", err)
	}
}

func TestPutExpectedKeepsNothingElse(t *testing.T) {
	s := open(t, tempDir(t))
	before := paths(t, s.Dir())
	want := store.DigestOf([]byte("right"))
	_, err := s.PutExpected(strings.NewReader("wrong"), want)
	mismatch, ok := errors.AsType[*store.MismatchError](err)
	if !ok || mismatch.Want != want || mismatch.Got != store.DigestOf([]byte("wrong")) {
		t.Fatalf("err = %v", err)
	}
	_, err = s.PutExpected(io.MultiReader(strings.NewReader("rig"), failing{}), want)
	if !errors.Is(err, errBroken) {
		t.Fatalf("err = %v", err)
	}
	if diff := cmp.Diff(before, paths(t, s.Dir())); diff != "" {
		t.Errorf("something was kept:\n%s", diff)
	}
	if n, err := s.PutExpected(strings.NewReader("right"), want); err != nil || n != 5 {
		t.Errorf("PutExpected = %d, %v", n, err)
	}
}

var errBroken = errors.New("connection reset")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

func TestDigestsThatAreNone(t *testing.T) {
	s := open(t, tempDir(t))
	for _, text := range []string{"", "sha256:", "sha256:../../../../etc/passwd", "sha512:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("a", 63), "sha256:" + strings.Repeat("/", 64)} {
		if _, err := store.ParseDigest(text); err == nil {
			t.Errorf("ParseDigest(%q) is right", text)
		}
		if s.Has(store.Digest(text)) {
			t.Errorf("Has(%q)", text)
		}
		if _, err := s.Open(store.Digest(text)); err == nil {
			t.Errorf("Open(%q) is right", text)
		}
		if err := s.Remember(store.ActionID(text), 1); err == nil {
			t.Errorf("Remember(%q) is right", text)
		}
		if _, err := s.Tree(context.Background(), store.ActionID(text), func(*os.Root) error { return nil }); err == nil {
			t.Errorf("Tree(%q) is right", text)
		}
	}
	d := store.DigestOf(nil)
	if got, err := store.ParseDigest(string(d)); err != nil || got != d {
		t.Errorf("ParseDigest(%q) = %q, %v", d, got, err)
	}
}

func TestDamagedBlob(t *testing.T) {
	s := open(t, tempDir(t))
	text := "bytes that matter"
	for _, size := range []string{"flipped", "cut", "emptied"} {
		d := put(t, s, text)
		path := blobPath(s, d)
		if size == "flipped" {
			flip(t, path, 3)
		} else {
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, map[string]int64{"cut": 5, "emptied": 0}[size]); err != nil {
				t.Fatal(err)
			}
		}
		_, err := read(s, d)
		damage, ok := errors.AsType[*store.CorruptError](err)
		if !ok || damage.Kind != "blob" || damage.Name != string(d) {
			t.Fatalf("%s: err = %v", size, err)
		}
		if _, err := os.Stat(damage.Moved); err != nil {
			t.Errorf("%s: it was not moved aside: %v", size, err)
		}
		if s.Has(d) {
			t.Errorf("%s: it is still there", size)
		}
	}
	// Put heals what was not noticed yet.
	d := put(t, s, text)
	flip(t, blobPath(s, d), 3)
	put(t, s, text)
	if got, err := read(s, d); err != nil || got != text {
		t.Errorf("after Put: %q, %v", got, err)
	}
}

type outcome struct {
	Packages map[string]store.Digest
	Count    int
}

func TestRememberAndRecall(t *testing.T) {
	dir := tempDir(t)
	s := open(t, dir)
	id := store.NewHash("test").Sum()
	var got outcome
	if found, err := s.Recall(id, &got); found || err != nil {
		t.Fatalf("Recall of nothing = %v, %v", found, err)
	}
	d := put(t, s, "a package")
	foreign := store.DigestOf([]byte("never put"))
	want := outcome{map[string]store.Digest{"zlib": d, "foreign": foreign}, 7}
	if err := s.Remember(id, want); err != nil {
		t.Fatal(err)
	}
	other := open(t, dir)
	if found, err := other.Recall(id, &got); !found || err != nil {
		t.Fatalf("Recall = %v, %v", found, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	want.Count = 8
	if err := s.Remember(id, want); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Recall(id, &got); !found || err != nil || got.Count != 8 {
		t.Fatalf("Recall after a second Remember = %v, %v, %+v", found, err, got)
	}
	var shape []string
	if found, err := s.Recall(id, &shape); found || err != nil {
		t.Errorf("Recall of another shape = %v, %v", found, err)
	}
	// A record whose blob is gone tells nothing.
	if err := os.Remove(blobPath(s, d)); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Recall(id, &got); found || err != nil {
		t.Errorf("Recall without its blob = %v, %v", found, err)
	}
}

func TestDamagedRecord(t *testing.T) {
	s := open(t, tempDir(t))
	id := store.NewHash("test").Sum()
	path := filepath.Join(s.Dir(), "records", string(id)[:2], string(id))
	if err := s.Remember(id, outcome{Count: 7}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Every byte of it, and every length but none: that is what a power cut leaves of a
	// record that nobody waited for, and it is not known.
	for i := range data {
		for _, broken := range [][]byte{flipped(data, i), data[:i]} {
			os.Remove(path)
			if err := os.WriteFile(path, broken, 0o444); err != nil {
				t.Fatal(err)
			}
			var got outcome
			found, err := s.Recall(id, &got)
			if _, ok := errors.AsType[*store.CorruptError](err); ok != (len(broken) > 0) || found {
				t.Fatalf("byte %d: Recall = %v, %v for %s", i, found, err, broken)
			}
			if found, err := s.Recall(id, &got); found || err != nil {
				t.Fatalf("byte %d: Recall again = %v, %v", i, found, err)
			}
		}
	}
	// A right record in the wrong place.
	elsewhere := store.NewHash("other").Sum()
	if err := os.MkdirAll(filepath.Join(s.Dir(), "records", string(elsewhere)[:2]), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "records", string(elsewhere)[:2], string(elsewhere)), data, 0o444); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Recall(elsewhere, &outcome{}); found || err == nil {
		t.Errorf("Recall of another's record = %v, %v", found, err)
	}
}

func flipped(data []byte, i int) []byte {
	c := bytes.Clone(data)
	c[i] ^= 1
	return c
}

func TestTempDirEndsWithItsProcess(t *testing.T) {
	dir := tempDir(t)
	s := open(t, dir)
	one, release, err := s.TempDir("work")
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := s.TempDir("work")
	if err != nil || one == two {
		t.Fatalf("second folder %q, %v", two, err)
	}
	locked := filepath.Join(one, "a", "b")
	if err := os.MkdirAll(locked, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(one, "a"), 0o555); err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := os.Lstat(one); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after release: %v", err)
	}
	open(t, dir) // another process comes: what lives stays
	if _, err := os.Lstat(two); err != nil {
		t.Errorf("after another Open: %v", err)
	}
	for _, name := range []string{"", "..", ".hidden", "a/b", "a\x00", strings.Repeat("n", 300)} {
		if _, _, err := s.TempDir(name); err == nil {
			t.Errorf("TempDir(%q) is right", name)
		}
		if _, err := s.KeepDir("log", name); err == nil {
			t.Errorf("KeepDir(log, %q) is right", name)
		}
	}
}

func TestKeptFoldersAreListedAndLimited(t *testing.T) {
	dir := tempDir(t)
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	work, _, err := s.TempDir("failed")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "log"), []byte("why"), 0o644); err != nil {
		t.Fatal(err)
	}
	first, err := s.Keep(work, "sandbox", "zlib-dev")
	if err != nil {
		t.Fatal(err)
	}
	for range store.KeptLimit {
		if _, err := s.KeepDir("sandbox", "nginx"); err != nil {
			t.Fatal(err)
		}
	}
	// This process made them all: none may go.
	kept, err := s.Kept()
	if err != nil || len(kept) != store.KeptLimit+1 {
		t.Fatalf("%d kept, %v", len(kept), err)
	}
	if oldest := kept[len(kept)-1]; oldest.Dir != first || oldest.Name != "zlib-dev" || oldest.Kind != "sandbox" {
		t.Errorf("oldest = %+v, want %s", oldest, first)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(first, "log")); err != nil || string(data) != "why" {
		t.Errorf("after the process: %q, %v", data, err)
	}
	later := open(t, dir)
	if _, err := later.KeepDir("sandbox", "lua"); err != nil {
		t.Fatal(err)
	}
	if _, err := later.KeepDir("log", "lua"); err != nil {
		t.Fatal(err)
	}
	kept, err = later.Kept()
	if err != nil || len(kept) != store.KeptLimit+1 || kept[0].Kind != "log" || kept[1].Name != "lua" {
		t.Errorf("%d kept, %v, first %+v", len(kept), err, kept[:2])
	}
	if _, err := os.Lstat(first); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the oldest is still there: %v", err)
	}
}

// age makes everything below the folders of the store look unused for so long.
func age(t testing.TB, path string, by time.Duration) {
	t.Helper()
	old := time.Now().Add(-by)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func TestGCRemovesTheOldestAndNothingInUse(t *testing.T) {
	dir := tempDir(t)
	maker, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var blobs []store.Digest
	for i := range 10 {
		d := put(t, maker, strings.Repeat(fmt.Sprint(i), 64<<10))
		blobs = append(blobs, d)
		age(t, blobPath(maker, d), time.Duration(100-i)*time.Hour)
	}
	id := store.NewHash("tree").Sum()
	tree, err := maker.Tree(context.Background(), id, fillSample)
	if err != nil {
		t.Fatal(err)
	}
	age(t, filepath.Join(filepath.Dir(tree.Dir), "manifest"), 1000*time.Hour)
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}

	user := open(t, dir)
	if !user.Has(blobs[1]) { // touched and in use
		t.Fatal("blob 1 is gone")
	}
	age(t, blobPath(user, blobs[1]), 99*time.Hour) // only in use
	s := open(t, dir)
	dry, err := s.GC(context.Background(), 5*64<<10, store.GCOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	freed, err := s.GC(context.Background(), 5*64<<10, store.GCOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dry, freed); diff != "" {
		t.Errorf("a dry run says another thing:\n%s", diff)
	}
	if freed.Trees.Number != 1 || freed.Blobs.Number != 5 || freed.InUse.Number != 1 || freed.Left > 5*64<<10 {
		t.Errorf("freed = %+v", freed)
	}
	for i, d := range blobs {
		if want := i == 1 || i >= 6; s.Has(d) != want {
			t.Errorf("Has(blob %d) = %v", i, !want)
		}
	}
	u, err := s.Usage()
	if err != nil || u.Blobs.Number != 5 || u.Trees.Number != 0 {
		t.Errorf("Usage = %+v, %v", u, err)
	}
	// By age, whatever the size; but s itself has just looked at them all.
	freed, err = s.GC(context.Background(), 1<<40, store.GCOptions{MaxAge: time.Hour})
	if err != nil || freed.Blobs.Number != 0 {
		t.Errorf("freed what it uses: %+v, %v", freed, err)
	}
}

func TestGCRemovesTreesThatCannotBeWrittenTo(t *testing.T) {
	dir := tempDir(t)
	maker, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := maker.Tree(context.Background(), store.NewHash("tree").Sum(), fillSample); err != nil {
		t.Fatal(err)
	}
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	freed, err := s.GC(context.Background(), 0, store.GCOptions{})
	if err != nil || freed.Trees.Number != 1 || freed.Left != 0 {
		t.Fatalf("freed = %+v, %v", freed, err)
	}
	if left := paths(t, filepath.Join(dir, "trees")); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func TestVerifyNamesAllThatIsDamaged(t *testing.T) {
	s := open(t, tempDir(t))
	ctx := context.Background()
	good, bad := put(t, s, "good"), put(t, s, "bad")
	id := store.NewHash("record").Sum()
	if err := s.Remember(id, "value"); err != nil {
		t.Fatal(err)
	}
	tree, err := s.Tree(ctx, store.NewHash("tree").Sum(), fillSample)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx, nil); err != nil {
		t.Fatal(err)
	}
	flip(t, blobPath(s, bad), 0)
	flip(t, filepath.Join(s.Dir(), "records", string(id)[:2], string(id)), 30)
	flip(t, filepath.Join(tree.Dir, "usr/lib/libz.so.1"), 0)
	got := map[string]bool{}
	err = s.Verify(ctx, func(e *store.CorruptError) { got[e.Kind] = true })
	if _, ok := errors.AsType[*store.CorruptError](err); !ok {
		t.Errorf("err = %v", err)
	}
	if diff := cmp.Diff(map[string]bool{"blob": true, "record": true, "tree": true}, got); diff != "" {
		t.Error(diff)
	}
	if err := s.Verify(ctx, nil); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if !s.Has(good) || s.Has(bad) {
		t.Errorf("Has(good) = %v, Has(bad) = %v", s.Has(good), s.Has(bad))
	}
}

func TestManyGoroutines(t *testing.T) {
	s := open(t, tempDir(t))
	ctx := context.Background()
	id := store.NewHash("tree").Sum()
	var filled sync.Map
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 20 {
				text := fmt.Sprint("blob ", i)
				d, _, err := s.Put(strings.NewReader(text))
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := read(s, d); err != nil || got != text {
					t.Errorf("read %q, %v", got, err)
				}
			}
			_, err := s.Tree(ctx, id, func(root *os.Root) error {
				if other, twice := filled.LoadOrStore("tree", g); twice {
					t.Errorf("filled by %v and %d", other, g)
				}
				return fillSample(root)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestDefaultDir(t *testing.T) {
	for _, test := range []struct{ xdg, home, want string }{
		{"/cache", "/home/u", "/cache/tarn"},
		{"", "/home/u", "/home/u/.cache/tarn"},
		{"relative", "/home/u", "/home/u/.cache/tarn"},
		{"", "", ""},
	} {
		t.Setenv("XDG_CACHE_HOME", test.xdg)
		t.Setenv("HOME", test.home)
		got, err := store.DefaultDir()
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
}

func TestClosedStore(t *testing.T) {
	s, err := store.Open(tempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	d := put(t, s, "x")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Open(d); err == nil {
		t.Error("a closed store opens blobs")
	}
	if dirs, err := os.ReadDir(filepath.Join(s.Dir(), "tmp")); err != nil || len(dirs) != 0 {
		t.Errorf("left in tmp: %v, %v", dirs, err)
	}
}

func TestFullDiskIsOneClearError(t *testing.T) {
	s := open(t, tempDir(t))
	_, _, err := s.Put(fullReader{})
	space, ok := errors.AsType[*store.SpaceError](err)
	if !ok || space.Dir != s.Dir() || !strings.Contains(err.Error(), "store "+s.Dir()+": no space left on device\n  hint:") {
		t.Errorf("err = %v", err)
	}
}

type fullReader struct{}

func (fullReader) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
}

func BenchmarkPutSmall(b *testing.B) {
	s := open(b, tempDir(b))
	data := make([]byte, 4096)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		copy(data, fmt.Sprint(i))
		if _, _, err := s.Put(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutKnown(b *testing.B) {
	s := open(b, tempDir(b))
	data := make([]byte, 4096)
	for b.Loop() {
		if _, _, err := s.Put(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenLarge(b *testing.B) {
	s := open(b, tempDir(b))
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<20)
	d, _, err := s.Put(bytes.NewReader(data))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		f, err := s.Open(d)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
