package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// EntryType is what a path of a tree is.
type EntryType byte

// The types of paths that a tree may have.
const (
	TypeFile    EntryType = 'f'
	TypeDir     EntryType = 'd'
	TypeSymlink EntryType = 'l'
)

// TreeEntry is one path of a tree as it lies on the disk.
type TreeEntry struct {
	Path   string      // relative, slashes, e.g. usr/lib/libz.so.1
	Type   EntryType   // file, folder or symbolic link
	Mode   fs.FileMode // with the type bits; setuid and setgid bits are never there
	Size   int64       // of a file, in bytes; of a link, the length of its target
	Link   string      // the target of a symbolic link
	Digest Digest      // of a file
}

// Tree is an unpacked folder in the store. It must not be written to; it may be a
// lower layer of an overlay. It stays until the process ends, whatever GC does.
type Tree struct {
	Dir     string      // absolute
	Entries []TreeEntry // a folder before what is in it; Dir itself is left out
}

func (s *Store) treePath(id ActionID) (string, error) {
	if !isHex(string(id)) {
		return "", fmt.Errorf("tree %q is not 64 hexadecimal digits", string(id))
	}
	return filepath.Join(s.dir, "trees", string(id)), nil
}

// Tree gives the tree that fill makes. It is made once per machine, however many
// goroutines and processes ask, and appears by one rename when fill is done. fill
// gets an empty folder; it must read only what is checked (blobs of this store),
// and give modes and times itself.
//
// Modes stay as fill sets them, with two exceptions: setuid and setgid bits are
// dropped (sandboxes are mounted nosuid, and a file of a cache must not lend
// anybody rights; packages keep them in their own metadata), and the owner may
// read every file and list every folder. Files, folders and symbolic links are
// all that a tree can hold.
//
// Each time a tree is asked for, every path is compared with what it was when the
// tree was made, and what was touched since is hashed again; so is all of it once
// after a reboot. A tree that differs is thrown away and made anew.
func (s *Store) Tree(ctx context.Context, id ActionID, fill func(root *os.Root) error) (*Tree, error) {
	dir, err := s.treePath(id)
	if err != nil {
		return nil, err
	}
	doing := "unpack tree " + string(id)
	// Most of the time it is there and untouched, and nobody needs to wait.
	if m, err := s.useTree(ctx, id, dir, false); err != nil {
		return nil, s.fault(doing, err)
	} else if m != nil {
		return m.tree(dir), nil
	}
	lockPath := filepath.Join(s.dir, "locks", "tree-"+string(id))
	lock, err := acquire(ctx, lockPath, unix.LOCK_EX)
	if err != nil {
		return nil, s.fault(doing, err)
	}
	defer lock.Close()
	defer os.Remove(lockPath)
	if m, err := s.useTree(ctx, id, dir, true); err != nil {
		return nil, s.fault(doing, err)
	} else if m != nil {
		return m.tree(dir), nil
	}
	m, err := s.makeTree(ctx, id, dir, fill)
	if err != nil {
		return nil, s.fault(doing, err)
	}
	return m.tree(dir), nil
}

// useTree notes the use of the tree and checks it; nil is one that is not there
// or cannot be used. With the tree's lock held it also writes: the manifest when
// it was brought up to date, and a tree that differs is thrown away.
func (s *Store) useTree(ctx context.Context, id ActionID, dir string, locked bool) (*manifest, error) {
	release, err := s.shared()
	if err != nil {
		return nil, err
	}
	err = s.use("tree " + string(id))
	_, there := os.Lstat(dir)
	release()
	if err != nil {
		return nil, err
	}
	if errors.Is(there, fs.ErrNotExist) {
		return nil, nil
	}
	m, err := readManifest(dir)
	changed := false
	if err == nil && m.action != id {
		err = differs(fmt.Sprintf("it is tree %s", m.action))
	}
	if err == nil {
		changed, err = m.compare(ctx, filepath.Join(dir, "root"), false)
	}
	if _, ok := errors.AsType[differs](err); ok || errors.Is(err, fs.ErrNotExist) {
		if !locked {
			return nil, nil
		}
		return nil, s.throwAway(id, dir)
	}
	if err != nil {
		return nil, err
	}
	if changed {
		if !locked {
			return nil, nil
		}
		if err := s.writeFile(filepath.Join(dir, "manifest"), m.encode(), 0o644); err != nil {
			return nil, err
		}
	}
	touchPath(filepath.Join(dir, "manifest"))
	return m, nil
}

func (s *Store) makeTree(ctx context.Context, id ActionID, dir string, fill func(root *os.Root) error) (_ *manifest, err error) {
	tmp := s.temp("tree")
	defer func() {
		if err != nil {
			_ = RemoveAll(tmp)
		}
	}()
	inside := filepath.Join(tmp, "root")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		return nil, err
	}
	// Whatever the umask is, the tree is the same.
	if err := os.Chmod(inside, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		return nil, err
	}
	err = fill(root)
	root.Close()
	if err != nil {
		return nil, err
	}
	m, err := seal(ctx, id, inside)
	if err != nil {
		return nil, err
	}
	if err := s.writeFile(filepath.Join(tmp, "manifest"), m.encode(), 0o644); err != nil {
		return nil, err
	}
	release, err := s.shared()
	if err != nil {
		return nil, err
	}
	defer release()
	return m, os.Rename(tmp, dir)
}

// throwAway takes a tree that differs out of use. Another process may have it
// mounted just now: then it only moves, and GC removes it later.
func (s *Store) throwAway(id ActionID, dir string) error {
	to := filepath.Join(s.dir, "corrupt", fmt.Sprintf("tree-%s-%d", id, time.Now().UnixNano()))
	release, err := s.exclusive()
	if err != nil {
		return err
	}
	defer release()
	used, err := s.used(true)
	if err != nil {
		return err
	}
	if !used["tree "+string(id)] {
		to = s.temp("thrown")
	}
	if err := os.Rename(dir, to); errors.Is(err, fs.ErrNotExist) {
		return nil // another process was faster
	} else if err != nil {
		return err
	}
	if !used["tree "+string(id)] {
		_ = RemoveAll(to) // else the next Open does it
	}
	return nil
}

func (m *manifest) tree(dir string) *Tree {
	t := &Tree{Dir: filepath.Join(dir, "root"), Entries: make([]TreeEntry, 0, len(m.nodes))}
	for i := range m.nodes {
		if m.nodes[i].Path != "." {
			t.Entries = append(t.Entries, m.nodes[i].TreeEntry)
		}
	}
	return t
}
