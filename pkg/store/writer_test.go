package store_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tarn-build/tarn/pkg/store"
)

// TestWriter writes blobs of sizes around that of the buffer, in steps of many sizes: each
// is what Put makes of the same bytes.
func TestWriter(t *testing.T) {
	s := open(t, tempDir(t))
	const buffer = 128 << 10
	for _, size := range []int{0, 1, buffer - 1, buffer, buffer + 1, 2 * buffer, 3*buffer + 17} {
		data := bytes.Repeat([]byte("0123456789abcdef+"), size/17+1)[:size]
		want := store.DigestOf(data)
		for _, step := range []int{1000, buffer - 1, buffer, buffer + 1, 1 << 20} {
			w := s.Create()
			for rest := data; len(rest) > 0; {
				n, err := w.Write(rest[:min(step, len(rest))])
				if err != nil || n != min(step, len(rest)) {
					t.Fatalf("Write = %d, %v", n, err)
				}
				rest = rest[n:]
			}
			d, n, err := w.Commit()
			if d != want || n != int64(size) || err != nil {
				t.Errorf("%d bytes by %d: Commit = %s, %d, %v", size, step, d, n, err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if got, err := read(s, want); err != nil || got != string(data) {
				t.Errorf("%d bytes by %d: Open gives %d bytes, %v", size, step, len(got), err)
			}
			// The next step makes the file again.
			if err := os.Remove(blobPath(s, want)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A part by Write, a part by ReadFrom.
	w := s.Create()
	defer w.Close()
	if _, err := io.WriteString(w, "head "); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 2*buffer))}); n != 2*buffer || err != nil {
		t.Fatalf("Copy = %d, %v", n, err)
	}
	if d, _, err := w.Commit(); d != store.DigestOf([]byte("head "+strings.Repeat("x", 2*buffer))) || err != nil {
		t.Errorf("Commit = %s, %v", d, err)
	}
}

// TestWriterThatIsGivenUp leaves nothing, neither under a name nor in the temporary folder.
func TestWriterThatIsGivenUp(t *testing.T) {
	s := open(t, tempDir(t))
	before := paths(t, s.Dir())
	for _, size := range []int{10, 1 << 20} {
		w := s.Create()
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, _, err := w.Commit(); err == nil {
			t.Error("Commit after Close")
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("Write after Close")
		}
		if diff := cmp.Diff(before, paths(t, s.Dir())); diff != "" {
			t.Errorf("%d bytes: something was kept:\n%s", size, diff)
		}
	}
	w := s.Create()
	if d, _, err := w.Commit(); d != store.DigestOf(nil) || err != nil {
		t.Errorf("Commit = %s, %v", d, err)
	}
	if _, _, err := w.Commit(); err == nil {
		t.Error("Commit a second time")
	}
	if _, err := w.ReadFrom(strings.NewReader("x")); err == nil {
		t.Error("ReadFrom after Commit")
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir(), "tmp", "*", "blob*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestWriterAfterDamage: a known blob is only taken for granted when it is right.
func TestWriterAfterDamage(t *testing.T) {
	s := open(t, tempDir(t))
	for _, size := range []int{100, 1 << 20} {
		text := strings.Repeat("x", size)
		d := put(t, s, text)
		flip(t, blobPath(s, d), 3)
		w := s.Create()
		defer w.Close()
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if got, _, err := w.Commit(); got != d || err != nil {
			t.Fatalf("Commit = %s, %v", got, err)
		}
		if got, err := read(s, d); got != text || err != nil {
			t.Errorf("%d bytes: Open gives %d bytes, %v", size, len(got), err)
		}
	}
}

// TestWriterInAStoreThatIsClosed fails when it writes, and Commit tells the same again.
func TestWriterInAStoreThatIsClosed(t *testing.T) {
	s, err := store.Open(tempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	w := s.Create()
	defer w.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1<<20)); err == nil {
		t.Error("Write to a store that is closed")
	}
	if _, _, err := w.Commit(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Commit after that: %v", err)
	}
}
