// Package storagetest holds what every storage of a repository promises, and a storage in
// memory with the manners of S3: objects without renames, put under conditions. It knows
// how a test fails, and nothing of packages.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/repo"
)

// Read reads a file whole.
func Read(t testing.TB, s repo.Storage, name string) (content, version string) {
	t.Helper()
	o, err := s.Open(t.Context(), name, "")
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	defer o.Close()
	data, err := io.ReadAll(o)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return string(data), o.Version
}

// TestReading holds what is promised to readers. files are in the storage, by path, each
// at least a few bytes long and one of them in a folder.
func TestReading(t *testing.T, s repo.Storage, files map[string]string) {
	for name, want := range files {
		got, version := Read(t, s, name)
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if version == "" {
			continue
		}
		o, err := s.Open(t.Context(), name, version)
		if err != nil {
			t.Errorf("%s: asked again: %v", name, err)
			continue
		}
		rest, err := io.ReadAll(o)
		o.Close()
		switch {
		case err != nil:
			t.Errorf("%s: asked again: %v", name, err)
		case o.Unchanged && (len(rest) > 0 || o.Version != version):
			t.Errorf("%s: unchanged, with %d bytes and version %q, want none and %q", name, len(rest), o.Version, version)
		case !o.Unchanged && string(rest) != want:
			t.Errorf("%s: asked again: got %q, want %q", name, rest, want)
		}
		if o, err := s.Open(t.Context(), name, "another "+version); err != nil || o.Unchanged {
			t.Errorf("%s: a version that it does not have: unchanged, or %v", name, err)
		} else {
			o.Close()
		}
	}
	for _, name := range []string{"none", "none/none", "x86_64/none.apk"} {
		if _, err := s.Open(t.Context(), name, ""); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: got %v, want fs.ErrNotExist", name, err)
		}
	}
	for _, name := range []string{"../outside", "x86_64/../../outside", "/etc/passwd", "x86_64/../../../../../../etc/passwd"} {
		o, err := s.Open(t.Context(), name, "")
		if err == nil {
			o.Close()
			t.Errorf("opened %q", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name := range files {
		if o, err := s.Open(ctx, name, ""); err == nil {
			o.Close() // what needs no time may be given to who has none
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped: got %v, want that it was", err)
		}
	}
}

// TestWriting holds what is promised to writers. open gives the same storage anew each
// time, as another process would open it; it is empty at first.
func TestWriting(t *testing.T, open func() repo.WritableStorage) {
	ctx := t.Context()
	s := open()
	put := func(name, content string, when repo.Condition) error {
		return s.Put(ctx, name, strings.NewReader(content), when)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	list := func(dir string, want ...string) {
		t.Helper()
		got, err := open().List(ctx, dir)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("list %q: got %q, %v, want %q", dir, got, err, want)
		}
	}
	list("")
	list("x86_64")
	must(s.Remove(ctx, "x86_64/none"))
	must(put("x86_64/a", "one", repo.Condition{}))
	must(put("x86_64/b", "b", repo.Condition{Absent: true}))
	must(put("deep/er/c", "c", repo.Condition{}))
	list("", "deep/", "x86_64/")
	list("x86_64", "a", "b")
	list("deep", "er/")
	TestReading(t, open(), map[string]string{"x86_64/a": "one", "x86_64/b": "b", "deep/er/c": "c"})

	// Conditions.
	_, first := Read(t, s, "x86_64/a")
	if first == "" {
		t.Fatal("a storage that is written to tells versions apart")
	}
	if err := put("x86_64/b", "other", repo.Condition{Absent: true}); !errors.Is(err, repo.ErrChanged) {
		t.Errorf("put where something is: got %v, want ErrChanged", err)
	}
	must(put("x86_64/a", "two", repo.Condition{Version: first}))
	if err := put("x86_64/a", "three", repo.Condition{Version: first}); !errors.Is(err, repo.ErrChanged) {
		t.Errorf("put over another version: got %v, want ErrChanged", err)
	}
	if err := put("x86_64/d", "four", repo.Condition{Version: first}); !errors.Is(err, repo.ErrChanged) {
		t.Errorf("put over what is not there: got %v, want ErrChanged", err)
	}
	if got, second := Read(t, open(), "x86_64/a"); got != "two" || second == first {
		t.Errorf("got %q, version %q, want two, and not %q", got, second, first)
	}
	list("x86_64", "a", "b")

	// What was opened stays what it was.
	o, err := s.Open(ctx, "x86_64/a", "")
	must(err)
	must(put("x86_64/a", "replaced", repo.Condition{}))
	if data, err := io.ReadAll(o); err != nil || string(data) != "two" {
		t.Errorf("what was opened before: got %q, %v", data, err)
	}
	o.Close()

	// A Put that cannot end changes nothing and leaves nothing.
	broken := io.MultiReader(strings.NewReader("half"), errReader{})
	if err := s.Put(ctx, "x86_64/a", broken, repo.Condition{}); !errors.Is(err, errBroken) {
		t.Errorf("put of what breaks: got %v", err)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Put(stopped, "x86_64/a", strings.NewReader("x"), repo.Condition{}); !errors.Is(err, context.Canceled) {
		t.Errorf("put while stopped: got %v", err)
	}
	if got, _ := Read(t, open(), "x86_64/a"); got != "replaced" {
		t.Errorf("got %q, want what was there before", got)
	}
	list("x86_64", "a", "b")
	for _, name := range []string{"../outside", "x86_64/../../outside"} {
		if err := put(name, "x", repo.Condition{}); err == nil {
			t.Errorf("put %q", name)
		}
	}
	must(s.Remove(ctx, "deep/er/c"))
	if _, err := s.Open(ctx, "deep/er/c", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was removed: got %v", err)
	}
	list("", "x86_64/")

	testReaders(t, open)
	testOneWins(t, open)
	testLock(t, open)
}

var errBroken = errors.New("broken")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errBroken }

// testReaders: while a file is replaced again and again, a reader sees one of the contents.
func testReaders(t *testing.T, open func() repo.WritableStorage) {
	done := make(chan struct{})
	var group sync.WaitGroup
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("%04d ", i), 4000) }
	if err := open().Put(t.Context(), "x86_64/turns", strings.NewReader(content(0)), repo.Condition{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		group.Go(func() {
			for s := open(); ; {
				o, err := s.Open(t.Context(), "x86_64/turns", "")
				if err != nil {
					t.Errorf("while it is replaced: %v", err)
					return
				}
				data, err := io.ReadAll(o)
				o.Close()
				if err != nil || len(data) != len(content(0)) || strings.Count(string(data), string(data[:5])) != 4000 {
					t.Errorf("while it is replaced: %d bytes, %v", len(data), err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 50 {
		if err := open().Put(t.Context(), "x86_64/turns", strings.NewReader(content(i)), repo.Condition{}); err != nil {
			t.Error(err)
		}
	}
	close(done)
	group.Wait()
}

// testOneWins: of several that put what is absent, one does.
func testOneWins(t *testing.T, open func() repo.WritableStorage) {
	for range 20 {
		var group sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 4 {
			s := open()
			group.Go(func() {
				err := s.Put(t.Context(), "x86_64/won", strings.NewReader(fmt.Sprint(i)), repo.Condition{Absent: true})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, repo.ErrChanged) {
					t.Errorf("got %v, want ErrChanged", err)
				}
			})
		}
		group.Wait()
		if won != 1 {
			t.Errorf("%d have put what was absent, want one", won)
		}
		if err := open().Remove(t.Context(), "x86_64/won"); err != nil {
			t.Fatal(err)
		}
	}
}

// testLock: one holds it at a time, and who waits can be stopped.
func testLock(t *testing.T, open func() repo.WritableStorage) {
	var group sync.WaitGroup
	var holders atomic.Int64 // the race detector does not know of locks that the kernel keeps
	for range 4 {
		s := open()
		group.Go(func() {
			for range 5 {
				unlock, err := s.Lock(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				time.Sleep(time.Millisecond)
				holders.Add(-1)
				unlock()
			}
		})
	}
	group.Wait()
	unlock, err := open().Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := open().Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the lock: got %v", err)
	}
}

// Memory is a storage in memory with the manners of S3: an object is put whole, under the
// conditions If-None-Match: * and If-Match, and there is neither a rename nor a lock but
// an object that exactly one can make. Calls counts what was asked.
type Memory struct {
	mu      sync.Mutex
	objects map[string]object
	count   int
	calls   map[string]int
}

type object struct {
	data []byte
	tag  string
}

var _ repo.WritableStorage = (*Memory)(nil)

// Calls gives how often each method was called for a name, as "Open x86_64/a-1-r0.apk",
// since it was asked last.
func (m *Memory) Calls() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := m.calls
	m.calls = nil
	return calls
}

func (m *Memory) called(what string) {
	if m.calls == nil {
		m.calls = map[string]int{}
	}
	m.calls[what]++
}

// Open gives an object.
func (m *Memory) Open(ctx context.Context, name, known string) (*repo.Object, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.called("Open " + name)
	o, found := m.objects[name]
	if !found {
		return nil, fs.ErrNotExist
	}
	if known == o.tag {
		return &repo.Object{ReadCloser: io.NopCloser(bytes.NewReader(nil)), Version: o.tag, Unchanged: true}, nil
	}
	return &repo.Object{ReadCloser: io.NopCloser(bytes.NewReader(o.data)), Version: o.tag}, nil
}

// List gives the objects below a prefix that ends in a slash, cut at the next one.
func (m *Memory) List(_ context.Context, dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.called("List " + dir)
	prefix := ""
	if dir != "" && dir != "." {
		prefix = dir + "/"
	}
	seen := map[string]bool{}
	for name := range m.objects {
		rest, found := strings.CutPrefix(name, prefix)
		if !found || strings.HasPrefix(rest, ".") {
			continue
		}
		if first, _, folder := strings.Cut(rest, "/"); folder {
			rest = first + "/"
		}
		seen[rest] = true
	}
	return sorted(seen), nil
}

// Put puts an object.
func (m *Memory) Put(ctx context.Context, name string, content io.Reader, when repo.Condition) error {
	if !fs.ValidPath(name) {
		return fs.ErrInvalid
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.called("Put " + name)
	o, found := m.objects[name]
	if when.Absent && found || when.Version != "" && when.Version != o.tag {
		return repo.ErrChanged
	}
	if m.objects == nil {
		m.objects = map[string]object{}
	}
	m.count++
	m.objects[name] = object{data, fmt.Sprintf("tag%d", m.count)}
	return nil
}

// Remove removes an object.
func (m *Memory) Remove(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.called("Remove " + name)
	delete(m.objects, name)
	return nil
}

// Lock makes the object that only one can make.
func (m *Memory) Lock(ctx context.Context) (unlock func(), err error) {
	for {
		err := m.Put(ctx, ".lock", strings.NewReader("held"), repo.Condition{Absent: true})
		if err == nil {
			return func() { _ = m.Remove(context.Background(), ".lock") }, nil
		}
		if !errors.Is(err, repo.ErrChanged) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

func sorted(names map[string]bool) []string {
	return slices.Sorted(maps.Keys(names))
}
