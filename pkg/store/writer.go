package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Writer makes a blob of what is written to it. Nothing is kept before Commit. It is for
// one goroutine at a time.
type Writer struct {
	s    *Store
	hash hash.Hash
	buf  *[]byte  // what is not in the file yet
	used int      // bytes of buf
	f    *os.File // nil while all of it is in buf
	tmp  string   // the name of f
	n    int64    // bytes that left buf, all hashed
	err  error    // why nothing can be written any more
}

// writeBuffer is how many bytes are written to a file at once. A blob that is no larger and
// is known already needs no file.
const writeBuffer = 128 << 10

var writeBuffers = sync.Pool{New: func() any { b := make([]byte, writeBuffer); return &b }}

var errWriterDone = errors.New("write to a blob that is finished")

// Create begins a blob. Close must be called in the end, whether Commit was or not:
//
//	w := st.Create()
//	defer w.Close()
//	... write to w ...
//	digest, size, err := w.Commit()
func (s *Store) Create() *Writer {
	return &Writer{s: s, hash: sha256.New(), buf: writeBuffers.Get().(*[]byte)}
}

// Write adds p to the blob.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	done := 0
	for done < len(p) {
		// What fills the buffer need not go through it.
		if rest := p[done:]; w.used == 0 && len(rest) >= writeBuffer {
			if err := w.pass(rest); err != nil {
				return done, err
			}
			return len(p), nil
		}
		n := copy((*w.buf)[w.used:], p[done:])
		w.used += n
		done += n
		// A full buffer waits for the next byte: perhaps there is none.
		if done < len(p) {
			if err := w.flush(); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// ReadFrom adds all that r gives.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	var done int64
	for w.err == nil {
		if w.used == writeBuffer {
			if err := w.flush(); err != nil {
				return done, err
			}
		}
		n, err := r.Read((*w.buf)[w.used:])
		w.used += n
		done += int64(n)
		if err == io.EOF {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
	return done, w.err
}

func (w *Writer) flush() error {
	p := (*w.buf)[:w.used]
	w.used = 0
	return w.pass(p)
}

// pass hashes p and writes it to the file.
func (w *Writer) pass(p []byte) error {
	w.hash.Write(p)
	w.n += int64(len(p))
	return w.toFile(p)
}

// toFile writes p to the file, which it makes if there is none.
func (w *Writer) toFile(p []byte) error {
	if w.f == nil {
		w.tmp = w.s.temp("blob")
		if w.f, w.err = openPlain(w.tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o444); w.err != nil {
			w.f, w.err = nil, w.s.fault("put blob", w.err)
			return w.err
		}
	}
	if _, err := w.f.Write(p); err != nil {
		w.err = w.s.fault("put blob", err)
	}
	return w.err
}

// Commit keeps what was written and says its digest and size in bytes. Bytes that are
// there already are checked and kept; damaged ones are replaced.
func (w *Writer) Commit() (Digest, int64, error) { return w.commit("") }

// commit is Commit of bytes that have the digest want, where that is not empty.
func (w *Writer) commit(want Digest) (Digest, int64, error) {
	if w.err != nil {
		return "", w.n, w.err
	}
	defer w.Close()
	size := w.n + int64(w.used)
	var d Digest
	if w.f == nil {
		d = DigestOf((*w.buf)[:w.used])
	} else if err := w.flush(); err != nil {
		return "", w.n, err
	} else {
		d = digestOfSum(w.hash.Sum(nil))
	}
	if want != "" && d != want {
		return "", size, &MismatchError{Want: want, Got: d}
	}
	if w.s.hasRight(d, size) {
		return d, size, nil
	}
	if w.f == nil {
		if err := w.toFile((*w.buf)[:w.used]); err != nil {
			return "", size, err
		}
	}
	if err := w.f.Sync(); err != nil {
		return "", size, w.s.fault("put blob", err)
	}
	if err := w.s.nameBlob(w.tmp, d); err != nil {
		return "", size, err
	}
	w.tmp = ""
	return d, size, nil
}

// nameBlob gives a file that holds a blob, and is on the disk, its name.
func (s *Store) nameBlob(tmp string, d Digest) error {
	path, err := s.blobPath(d)
	if err != nil {
		return err
	}
	release, err := s.shared()
	if err != nil {
		return err
	}
	defer release()
	if err := s.use("blob " + d.Hex()); err != nil {
		return err
	}
	if err := s.renameInto(tmp, path); err != nil {
		return s.fault("put blob", err)
	}
	s.markDirty(filepath.Dir(path))
	return nil
}

// Close throws away what Commit has not kept. It does nothing the second time.
func (w *Writer) Close() error {
	if w.buf == nil {
		return nil
	}
	writeBuffers.Put(w.buf)
	w.buf, w.used = nil, 0
	if w.err == nil {
		w.err = errWriterDone
	}
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	if w.tmp != "" {
		err = errors.Join(err, os.Remove(w.tmp))
	}
	if err != nil {
		return fmt.Errorf("put blob: %w", err)
	}
	return nil
}
