package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Pieces names a blob that is read in part: its bytes, and the digests of its pieces,
// by which each is checked when it is read. A value that Remember keeps may hold one.
type Pieces struct {
	Data    Digest `json:"data"`
	Digests Digest `json:"digests"` // the blob of the SHA-256 of each piece, one after the other
	Size    int64  `json:"size"`    // of the data, in bytes
}

// pieceSize is small enough that a look at a few places reads little, and large enough
// that the digests are less than a hundredth of the data.
const pieceSize = 4096

// PutPieces keeps data so that it can be read in part.
func (s *Store) PutPieces(data []byte) (Pieces, error) {
	digests := make([]byte, 0, (len(data)/pieceSize+1)*sha256.Size)
	for rest := data; len(rest) > 0; {
		n := min(pieceSize, len(rest))
		sum := sha256.Sum256(rest[:n])
		digests = append(digests, sum[:]...)
		rest = rest[n:]
	}
	p := Pieces{Size: int64(len(data))}
	var err error
	if p.Data, _, err = s.Put(bytes.NewReader(data)); err != nil {
		return p, err
	}
	p.Digests, _, err = s.Put(bytes.NewReader(digests))
	return p, err
}

// PieceReader reads a blob in part. It is safe for use by several goroutines at once.
type PieceReader struct {
	store   *Store
	name    Pieces
	f       *os.File
	digests []byte

	mu     sync.Mutex
	pieces map[int64][]byte // those that were read, and are right
}

// OpenPieces opens a blob that PutPieces kept. Its bytes are checked as they are read:
// a piece that does not match is a *CorruptError of ReadAt, and the blob is moved aside.
func (s *Store) OpenPieces(p Pieces) (*PieceReader, error) {
	list, err := s.Open(p.Digests)
	if err != nil {
		return nil, err
	}
	digests, err := io.ReadAll(list)
	list.Close()
	if err != nil {
		return nil, s.fault("open blob "+string(p.Digests), err)
	}
	if want := (p.Size + pieceSize - 1) / pieceSize * sha256.Size; p.Size < 0 || int64(len(digests)) != want {
		return nil, fmt.Errorf("blob %s: %d bytes of digests, want %d", p.Data, len(digests), want)
	}
	f, err := s.openUsed(p.Data)
	if err != nil {
		return nil, err
	}
	return &PieceReader{store: s, name: p, f: f, digests: digests, pieces: map[int64][]byte{}}, nil
}

// Close ends the reading.
func (r *PieceReader) Close() error { return r.f.Close() }

// ReadAt reads as io.ReaderAt says.
func (r *PieceReader) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 {
		return 0, errors.New("read before the beginning")
	}
	n := 0
	for n < len(b) {
		if at >= r.name.Size {
			return n, io.EOF
		}
		piece, err := r.piece(at / pieceSize)
		if err != nil {
			return n, err
		}
		copied := copy(b[n:], piece[at%pieceSize:])
		n += copied
		at += int64(copied)
	}
	return n, nil
}

// piece reads and checks one piece, once.
func (r *PieceReader) piece(i int64) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if piece := r.pieces[i]; piece != nil {
		return piece, nil
	}
	piece := make([]byte, min(pieceSize, r.name.Size-i*pieceSize))
	_, err := r.f.ReadAt(piece, i*pieceSize)
	sum := sha256.Sum256(piece)
	if errors.Is(err, io.EOF) || err == nil && !bytes.Equal(sum[:], r.digests[i*sha256.Size:][:sha256.Size]) {
		path, _ := r.store.blobPath(r.name.Data)
		return nil, r.store.moveAside("blob", string(r.name.Data), path, int(r.f.Fd()), fmt.Sprintf("its bytes from %d on are others", i*pieceSize))
	}
	if err != nil {
		return nil, r.store.fault("read blob "+string(r.name.Data), err)
	}
	r.pieces[i] = piece
	return piece, nil
}
