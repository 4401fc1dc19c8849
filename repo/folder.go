package repo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// Names that the folder uses for itself.
const (
	lockName        = ".lock"     // by which publishers wait for each other
	temporaryPrefix = ".publish-" // begins the names of files that are being written
)

// Folder is a storage in a folder of this machine. A link that leads out of the folder is
// not followed.
//
// Its lock is that of a file (flock). On NFS Linux turns that into a lock which the
// server keeps, so publishers on several machines wait for each other too, unless the
// share is mounted with nolock or local_lock.
type Folder string

var _ WritableStorage = Folder("")

// Open opens a file of the folder.
func (d Folder) Open(_ context.Context, name, known string) (*Object, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	version := fileVersion(info)
	if known != "" && known == version {
		f.Close()
		return &Object{ReadCloser: io.NopCloser(strings.NewReader("")), Version: version, Unchanged: true}, nil
	}
	return &Object{ReadCloser: f, Version: version}, nil
}

// fileVersion tells a file from what was under its name before: every file that is
// written is a new one, and takes the place of the old one by a rename.
func fileVersion(info fs.FileInfo) string {
	inode := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	return fmt.Sprintf("%x-%x-%x", info.Size(), info.ModTime().UnixNano(), inode)
}

// List lists a folder. What the storage keeps for itself is not told.
func (d Folder) List(_ context.Context, dir string) ([]string, error) {
	root, err := os.OpenRoot(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), path.Clean(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		switch name := e.Name(); {
		case name == lockName || strings.HasPrefix(name, temporaryPrefix):
		case e.IsDir():
			names = append(names, name+"/")
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// Put writes a file beside the one it replaces, on the disk, and renames it.
func (d Folder) Put(ctx context.Context, name string, content io.Reader, when Condition) (err error) {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return err
	}
	defer root.Close()
	folder := path.Dir(name)
	made, err := makeFolders(root, folder)
	if err != nil {
		return err
	}
	temporary := path.Join(folder, temporaryPrefix+rand.Text())
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		_ = root.Remove(temporary)
	}()
	if err := f.Chmod(0o644); err != nil { // whatever the umask is
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := holds(root, name, when); err != nil {
		return err
	}
	if when.Absent {
		// A link fails where a rename would replace what another writer put there meanwhile.
		if err := root.Link(temporary, name); errors.Is(err, fs.ErrExist) {
			return ErrChanged
		} else if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) {
			return err
		} else if err == nil {
			return syncFolders(root, folder, made)
		}
	}
	if err := root.Rename(temporary, name); err != nil {
		return err
	}
	return syncFolders(root, folder, made)
}

// holds compares what is there with a condition. The lock keeps other writers away in
// between.
func holds(root *os.Root, name string, when Condition) error {
	if when == (Condition{}) {
		return nil
	}
	info, err := root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if when.Version != "" {
			return ErrChanged
		}
		return nil
	case err != nil:
		return err
	case when.Absent, when.Version != fileVersion(info):
		return ErrChanged
	}
	return nil
}

// makeFolders makes a folder and those above it, and gives the one above the first that
// was missing.
func makeFolders(root *os.Root, dir string) (above string, err error) {
	if dir == "." {
		return "", nil
	}
	if _, err := root.Stat(dir); err == nil {
		return "", nil
	}
	above = path.Dir(dir)
	for above != "." {
		if _, err := root.Stat(above); err == nil {
			break
		}
		above = path.Dir(above)
	}
	return above, root.MkdirAll(dir, 0o755)
}

// syncFolders makes sure that a rename in a folder is on the disk, and the folder too.
func syncFolders(root *os.Root, dir, above string) error {
	for {
		f, err := root.Open(dir)
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil || above == "" || dir == above || dir == "." {
			return err
		}
		dir = path.Dir(dir)
	}
}

// Remove removes a file.
func (d Folder) Remove(_ context.Context, name string) error {
	root, err := os.OpenRoot(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A folder that nothing is left in goes with its last file.
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if root.Remove(dir) != nil {
			break
		}
	}
	return nil
}

// Lock holds the lock of the folder, and removes what writers that were killed left.
func (d Folder) Lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(string(d), lockName))
	if _, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	for _, pattern := range []string{"", "*", "*/*", "*/*/*"} {
		left, _ := filepath.Glob(filepath.Join(string(d), pattern, temporaryPrefix+"*"))
		for _, name := range left {
			_ = os.Remove(name)
		}
	}
	for _, pattern := range []string{snapshotFolder + "/*/*", snapshotFolder + "/*"} {
		left, _ := filepath.Glob(filepath.Join(string(d), pattern))
		for _, name := range left {
			_ = unix.Rmdir(name) // one with something in it stays
		}
	}
	return func() { _ = lock.Unlock() }, nil
}
