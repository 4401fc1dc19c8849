// Package store keeps bytes by their digest, what each action gave, and unpacked
// trees that are made once per machine. It knows nothing of recipes, packages,
// plans or images: it is given readers, values and functions that fill folders.
//
// # Promises
//
// Several processes may use one store at once. Whatever stands under its final
// name is complete: files and trees appear there by one rename, out of the temporary
// folder of the process that made them. Each process holds a lock (flock) on its
// temporary folder for as long as it lives, so what a killed process left behind
// is known and is removed by the next Open.
//
// What an older tarn has put there does no harm. Its records, which were JSON as a
// whole, are not known: what they tell of is done again and remembered in their place,
// and those that nobody asks for any more are what GC removes first.
//
// Nothing is handed out unchecked. A blob is hashed before its descriptor is
// given away, a record carries a checksum, and a tree is compared with the
// manifest that was written when it was made. What does not hold is moved aside
// and reported as a *CorruptError (blobs and records) or made again (trees).
//
// # Folders
//
//	blobs/sha256/ab/abcd...   bytes, mode 0444
//	records/ab/abcd...        what an action gave: see record
//	trees/abcd.../root        an unpacked tree, beside it its manifest
//	kept/KIND/NAME-N          folders that outlive their process: failed sandboxes, logs
//	corrupt/                  what did not hold its checksum
//	tmp/PID-N/                temporary files of one running process
//	locks/                    one file for each tree that is being made
//	indexes/                  what package repo remembers of indexes; GC leaves it alone
//	lock                      held for moments; see shared
//	reserve                   room that Open gives up on a full disk
//
// # Use and removal
//
// What a process has put, opened, recalled or unpacked is written to the list
// "uses" in its temporary folder before it is looked at. GC reads the lists of all
// running processes and never removes what stands in one of them.
//
// # Power cuts
//
// The bytes of a blob are on the disk before it has its name, and a record that Remember
// kept is there when it returns, with the blobs that it names. What RememberUnsynced kept,
// and a blob that no record names yet, may be absent afterwards, and is made again.
package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Store is an open store. Its methods may be called from several goroutines.
type Store struct {
	dir  string
	tmp  string   // this process's temporary folder
	lock *os.File // holds the flock on tmp
	next atomic.Uint64
	gate gate

	uses struct {
		sync.Mutex
		file  *os.File // the list that GC of any process reads
		known map[string]bool
	}
	dirty struct {
		sync.Mutex
		dirs    map[string]bool // folders whose new names are not yet on the disk
		syncing sync.Mutex      // held while they are put there
	}
}

// MismatchError says that bytes from outside are not the ones asked for.
type MismatchError struct{ Want, Got Digest }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("digest does not match: expected %s, found %s", e.Want, e.Got)
}

// CorruptError says that something in the store is not what was put there. It is
// not used any more: it was moved to Moved, or removed when Moved is empty.
type CorruptError struct {
	Kind  string // "blob", "record" or "tree"
	Name  string // digest or action
	Path  string // where it stood
	Moved string // where it lies now
	Why   string // what was expected and found
}

func (e *CorruptError) Error() string {
	text := fmt.Sprintf("store: %s %s is damaged: %s", e.Kind, e.Name, e.Why)
	if e.Moved != "" {
		text += "\n  hint: it was moved to " + e.Moved + "; run again to fetch or build it anew"
	}
	return text
}

// SpaceError says that the store's disk or quota is full.
type SpaceError struct {
	Dir string // the store's folder
	Err error  // syscall.ENOSPC or syscall.EDQUOT
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("store %s: %v\n  hint: free space with: tarn store gc --max-size SIZE", e.Dir, e.Err)
}

func (e *SpaceError) Unwrap() error { return e.Err }

// fault gives err its context; a full disk becomes a *SpaceError whatever was
// being done, for the way out is the same.
func (s *Store) fault(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*SpaceError](err); ok {
		return err
	}
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) {
			return &SpaceError{Dir: s.dir, Err: full}
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// DefaultDir is where the store lies when nothing else is said:
// $XDG_CACHE_HOME/tarn, or ~/.cache/tarn. A relative XDG_CACHE_HOME does not
// count, as the XDG Base Directory Specification demands.
func DefaultDir() (string, error) {
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tarn"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("no folder for the store: neither XDG_CACHE_HOME nor HOME is set\n  hint: name one with --cache-dir")
	}
	return filepath.Join(home, ".cache", "tarn"), nil
}

// cacheTag makes backup programs leave the folder out (bford.info/cachedir).
const cacheTag = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache made by tarn; it may be removed when no tarn runs.\n"

// Open opens the store in dir, makes its folders, and removes what dead processes
// left in its temporary folder.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %v", err)
	}
	s := &Store{dir: dir, gate: gate{path: filepath.Join(dir, "lock")}}
	for _, name := range []string{"blobs/sha256", "records", "trees", "kept", "corrupt", "tmp", "locks"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return nil, s.fault("open store", err)
		}
	}
	s.uses.known = map[string]bool{}
	s.dirty.dirs = map[string]bool{}
	// The dead are removed first: on a full disk that is what makes room.
	if err := s.sweepTemp(); err != nil {
		return nil, s.fault("open store", err)
	}
	// One who was killed after a tree got its name has left the lock on it.
	s.sweepLocks()
	err = s.makeTemp()
	if isFull(err) {
		// So that gc can work on a full disk.
		_ = os.Remove(filepath.Join(dir, reserveName))
		err = s.makeTemp()
	}
	if err != nil {
		return nil, s.fault("open store", err)
	}
	tag := filepath.Join(dir, "CACHEDIR.TAG")
	if _, err := os.Lstat(tag); err != nil {
		if err := s.writeFile(tag, []byte(cacheTag), 0o644); err != nil {
			s.Close()
			return nil, s.fault("open store", err)
		}
	}
	s.makeReserve()
	return s, nil
}

// The reserve is a file that takes room and holds nothing. Open gives it up when
// the disk is so full that not even a temporary folder can be made: GC needs one.
const (
	reserveName = "reserve"
	reserveSize = 256 << 10
)

// makeReserve makes the reserve, if there is room; nothing depends on it but help.
func (s *Store) makeReserve() {
	path := filepath.Join(s.dir, reserveName)
	if _, err := os.Lstat(path); err == nil {
		return
	}
	tmp := s.temp("reserve")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	f.Close()
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
}

// isFull reports whether err says that the disk or the quota is full.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Dir is the store's folder, absolute.
func (s *Store) Dir() string { return s.dir }

// Close removes the process's temporary files and gives up what it uses. The
// store must not be used afterwards. A process that ends without it leaves its
// temporary files to the next Open.
func (s *Store) Close() error {
	s.uses.Lock()
	defer s.uses.Unlock()
	if s.lock == nil {
		return nil
	}
	err := RemoveAll(s.tmp)
	if s.uses.file != nil {
		s.uses.file.Close()
	}
	s.lock.Close()
	s.lock, s.uses.file = nil, nil
	s.gate.close()
	if err != nil {
		return fmt.Errorf("close store: %v", err)
	}
	return nil
}

// temp is a new path in the process's temporary folder.
func (s *Store) temp(name string) string {
	return filepath.Join(s.tmp, fmt.Sprintf("%s-%d", name, s.next.Add(1)))
}

// writeTemp makes a temporary file of data; with sync it is on the disk.
func (s *Store) writeTemp(data []byte, mode os.FileMode, sync bool) (string, error) {
	tmp := s.temp("file")
	f, err := openPlain(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, uint32(mode.Perm()))
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(tmp)
		return "", err
	}
	return tmp, nil
}

// writeFile puts data under its final name by one rename, on the disk before it
// has that name.
func (s *Store) writeFile(path string, data []byte, mode os.FileMode) error {
	tmp, err := s.writeTemp(data, mode, true)
	if err == nil {
		if err = os.Rename(tmp, path); err != nil {
			os.Remove(tmp)
		}
	}
	return err
}

// syncDirty puts what markDirty was told of on the disk. Meanwhile
// others may go on; but who asks for the same waits until it is done.
func (s *Store) syncDirty() error {
	s.dirty.syncing.Lock()
	defer s.dirty.syncing.Unlock()
	s.dirty.Lock()
	dirs := s.dirty.dirs
	s.dirty.dirs = map[string]bool{}
	s.dirty.Unlock()
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			s.dirty.Lock()
			maps.Copy(s.dirty.dirs, dirs)
			s.dirty.Unlock()
			return err
		}
	}
	return nil
}

// syncDir puts the names in dir on the disk.
func syncDir(dir string) error {
	f, err := openPlain(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
