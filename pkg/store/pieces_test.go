package store

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

func TestPieces(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{0, 1, pieceSize - 1, pieceSize, pieceSize + 1, 10*pieceSize + 17} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		p, err := s.PutPieces(data)
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.OpenPieces(p)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(io.NewSectionReader(f, 0, int64(size)))
		if err != nil || !bytes.Equal(all, data) {
			t.Fatalf("%d bytes: read %d, %v", size, len(all), err)
		}
		for range 100 {
			from := r.IntN(size + 1)
			want := data[from:min(size, from+r.IntN(3*pieceSize))]
			got := make([]byte, len(want))
			if n, err := f.ReadAt(got, int64(from)); n != len(want) || err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes from %d of %d: %d, %v", len(want), from, size, n, err)
			}
		}
		if _, err := f.ReadAt(make([]byte, 1), int64(size)); err != io.EOF {
			t.Errorf("beyond the end of %d: %v", size, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamagedPiece holds that a damaged piece is refused, and only when it is read.
func TestDamagedPiece(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := s.PutPieces(bytes.Repeat([]byte("x"), 3*pieceSize))
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.blobPath(p.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[2*pieceSize] = 'y'
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := s.OpenPieces(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 2*pieceSize), 0); err != nil {
		t.Errorf("what is right: %v", err)
	}
	_, err = f.ReadAt(make([]byte, 1), 3*pieceSize-1)
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.Moved == "" {
		t.Errorf("what is damaged: %v", err)
	}
	if s.Has(p.Data) {
		t.Error("the damaged blob is still there")
	}
}
