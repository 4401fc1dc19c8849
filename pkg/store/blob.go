package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Digest names bytes: "sha256:" and 64 lower-case hexadecimal digits.
type Digest string

const digestPrefix = "sha256:"

// ParseDigest reads "sha256:<64 hex>".
func ParseDigest(text string) (Digest, error) {
	d := Digest(text)
	if !d.valid() {
		return "", fmt.Errorf("digest %q is not sha256: and 64 hexadecimal digits", text)
	}
	return d, nil
}

// DigestOf is the digest of data.
func DigestOf(data []byte) Digest {
	sum := sha256.Sum256(data)
	return digestOfSum(sum[:])
}

func digestOfSum(sum []byte) Digest { return Digest(digestPrefix + hex.EncodeToString(sum)) }

// Hex is the digest without its prefix.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

func (d Digest) String() string { return string(d) }

func (d Digest) valid() bool {
	digits, ok := strings.CutPrefix(string(d), digestPrefix)
	return ok && isHex(digits)
}

// isHex reports whether s is 64 lower-case hexadecimal digits: then it is safe as
// the name of a file, too.
func isHex(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func (s *Store) blobPath(d Digest) (string, error) {
	if !d.valid() {
		return "", fmt.Errorf("digest %q is not sha256: and 64 hexadecimal digits", string(d))
	}
	return filepath.Join(s.dir, "blobs", "sha256", d.Hex()[:2], d.Hex()), nil
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// hashCopy copies r to w and gives the digest of what passed.
func hashCopy(w io.Writer, r io.Reader) (Digest, int64, error) {
	h := sha256.New()
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	// The wrappers keep io.Copy from going round the buffer by ReadFrom or WriteTo.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(w, h)}, struct{ io.Reader }{r}, *buf)
	return digestOfSum(h.Sum(nil)), n, err
}

// Put keeps what r gives and says its digest and size in bytes. Bytes that are
// there already are checked and kept; damaged ones are replaced.
func (s *Store) Put(r io.Reader) (Digest, int64, error) { return s.put(r, "") }

// PutExpected keeps what r gives if its digest is want, and else is a
// *MismatchError and keeps nothing.
func (s *Store) PutExpected(r io.Reader, want Digest) (int64, error) {
	if _, err := s.blobPath(want); err != nil {
		return 0, err
	}
	_, n, err := s.put(r, want)
	return n, err
}

func (s *Store) put(r io.Reader, want Digest) (Digest, int64, error) {
	w := s.Create()
	defer w.Close()
	if n, err := w.ReadFrom(r); err != nil {
		return "", n, s.fault("put blob", err)
	}
	return w.commit(want)
}

// hasRight reports whether a blob of n bytes is there and holds its digest; it is
// then noted as used.
func (s *Store) hasRight(d Digest, n int64) bool {
	// Most of what is put is new, which needs no lock to be seen.
	if path, err := s.blobPath(d); err != nil || unix.Access(path, unix.F_OK) != nil {
		return false
	}
	f, err := s.openUsed(d)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != n {
		return false
	}
	got, _, err := hashCopy(io.Discard, f)
	return err == nil && got == d
}

// renameInto renames a file, making the folder it goes to when that is missing.
func (s *Store) renameInto(from, to string) error {
	// Not os.Rename: that looks at the target first.
	err := unix.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(filepath.Dir(to), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		s.markDirty(filepath.Dir(filepath.Dir(to)))
		err = unix.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// markDirty remembers that names in dir may not be on the disk yet. They are put
// there before a record names them: until then their loss in a power cut is only
// a blob that is absent. The bytes themselves are on the disk before they get a name.
func (s *Store) markDirty(dir string) {
	s.dirty.Lock()
	s.dirty.dirs[dir] = true
	s.dirty.Unlock()
}

// settledAfter is when a name is on the disk though nobody asked for it: the kernel
// writes what is older than half a minute (dirty_expire_centisecs in its
// admin-guide/sysctl/vm).
const settledAfter = 2 * time.Minute

// isFresh reports whether a file has its name for so short a time that this may not be
// on the disk yet.
func isFresh(st *unix.Stat_t) bool {
	return time.Since(time.Unix(st.Ctim.Unix())) < settledAfter
}

// Has reports whether a blob is there. It stays until the process ends, whatever
// GC does; whether it is whole shows when it is opened.
func (s *Store) Has(d Digest) bool {
	there, err := s.present([]Digest{d})
	return err == nil && len(there) == 1
}

// present gives those of the blobs that are there, in their order, and notes their use.
func (s *Store) present(blobs []Digest) ([]Digest, error) {
	uses := make([]string, len(blobs))
	for i, d := range blobs {
		uses[i] = "blob " + d.Hex()
	}
	release, err := s.using(uses...)
	if err != nil {
		return nil, err
	}
	defer release()
	there, used := make([]Digest, 0, len(blobs)), uses[:0]
	for i, d := range blobs {
		path, err := s.blobPath(d)
		if err != nil {
			continue // the name of nothing
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue
		}
		if isFresh(&st) && !s.isUsed(uses[i]) {
			s.markDirty(filepath.Dir(path))
		}
		touch(path, &st)
		there, used = append(there, d), append(used, uses[i])
	}
	return there, s.use(used...)
}

// openUsed opens a blob and notes its use, without a look at its bytes.
func (s *Store) openUsed(d Digest) (*os.File, error) {
	path, err := s.blobPath(d)
	if err != nil {
		return nil, err
	}
	use := "blob " + d.Hex()
	release, err := s.using(use)
	if err != nil {
		return nil, err
	}
	defer release()
	f, st, err := openFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", d, fs.ErrNotExist)
	}
	if err != nil {
		return nil, s.fault("open blob", err)
	}
	if isFresh(&st) && !s.isUsed(use) {
		s.markDirty(filepath.Dir(path))
	}
	if err := s.use(use); err != nil {
		f.Close()
		return nil, err
	}
	touch(path, &st)
	return f, nil
}

// openFile opens a file to read.
func openFile(path string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := openPlain(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, st, err
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, st, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return f, st, nil
}

// openPlain is os.OpenFile for files that nobody waits for, as all in a store are. What
// os.OpenFile asks the kernel for the others' sake is four of six system calls.
func openPlain(path string, flags int, mode uint32) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// Open gives a blob to read, at its beginning. All its bytes were hashed on this
// very descriptor before. When they do not match, the blob is moved aside and the
// error is a *CorruptError; an absent blob is fs.ErrNotExist.
func (s *Store) Open(d Digest) (*os.File, error) {
	f, err := s.openUsed(d)
	if err != nil {
		return nil, err
	}
	got, _, err := hashCopy(io.Discard, f)
	if err == nil && got == d {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, s.fault("open blob "+string(d), err)
	}
	if got != d {
		defer f.Close()
		path, _ := s.blobPath(d)
		return nil, s.moveAside("blob", string(d), path, int(f.Fd()), fmt.Sprintf("its bytes hash to %s", got))
	}
	return f, nil
}

// moveAside takes a damaged file out of use. It is moved only if path still names
// the very file that was looked at: another process may have put a right one there.
func (s *Store) moveAside(kind, name, path string, fd int, why string) error {
	e := &CorruptError{Kind: kind, Name: name, Path: path, Why: why}
	release, err := s.exclusive()
	if err != nil {
		return err
	}
	defer release()
	if !sameFile(fd, path) {
		return e
	}
	to := filepath.Join(s.dir, "corrupt", fmt.Sprintf("%s-%s-%d", kind, filepath.Base(path), time.Now().UnixNano()))
	if err := os.Rename(path, to); err != nil {
		return s.fault("move damaged "+kind+" aside", err)
	}
	e.Moved = to
	return e
}

// touchAfter is how exact the time of last use is: finer would write to the disk
// for every read.
const touchAfter = 10 * time.Minute

// touch notes the time of last use of the file in state st, for GC. Nothing depends on it
// but the order of removal, so it cannot fail.
func touch(path string, st *unix.Stat_t) {
	now := time.Now()
	if now.Sub(time.Unix(st.Mtim.Unix())).Abs() > touchAfter {
		_ = os.Chtimes(path, now, now)
	}
}

// touchPath is touch for a file whose state is not known.
func touchPath(path string) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		touch(path, &st)
	}
}

// checkContext is the cause when ctx is done.
func checkContext(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
