// Package installed shows what a build installed with the modes that it installed,
// also where they keep the one who looks out: a program of mode 4111, a folder of
// mode 0. Root of the host reads such files anyhow; for an ordinary user the modes on
// the disk are widened, and what they were is told. So both see the same.
package installed

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// Modes are the modes of what was widened, by inode: names of one file share one.
type Modes map[uint64]fs.FileMode

// Unlock lets its owner read every file and list every folder of a tree of one file
// system, and gives the modes that there were.
func Unlock(root *os.Root) (Modes, error) {
	m := Modes{}
	if err := m.unlock(root, "."); err != nil {
		return nil, fmt.Errorf("read what was installed: %w", err)
	}
	return m, nil
}

func (m Modes) unlock(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	needed := fs.FileMode(0o400)
	switch {
	case info.IsDir():
		needed = 0o700
	case !info.Mode().IsRegular():
		return nil
	}
	if info.Mode()&needed != needed {
		m[inode(info)] = info.Mode()
		if err := root.Chmod(name, info.Mode().Perm()|needed); err != nil {
			return err
		}
	}
	if !info.IsDir() {
		return nil
	}
	entries, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := m.unlock(root, path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func inode(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

// FS shows a tree below the unlocked one with the modes that there were.
func (m Modes) FS(root *os.Root) FS { return FS{root.FS().(readable), m} }

// readable is what a root's file system can do.
type readable interface {
	fs.ReadDirFS
	fs.ReadLinkFS
	fs.StatFS
}

// FS is a tree with the modes that a build gave to its files. Opened files are as
// they lie on the disk.
type FS struct {
	readable
	modes Modes
}

// ReadDir lists a folder.
func (f FS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := f.readable.ReadDir(name)
	for i, e := range entries {
		entries[i] = entry{e, f.modes}
	}
	return entries, err
}

// Stat follows links.
func (f FS) Stat(name string) (fs.FileInfo, error) { return f.modes.of(f.readable.Stat(name)) }

// Lstat follows none at the end of the path.
func (f FS) Lstat(name string) (fs.FileInfo, error) { return f.modes.of(f.readable.Lstat(name)) }

func (m Modes) of(i fs.FileInfo, err error) (fs.FileInfo, error) {
	if err != nil {
		return nil, err
	}
	if mode, widened := m[inode(i)]; widened {
		return info{i, mode}, nil
	}
	return i, nil
}

type entry struct {
	fs.DirEntry
	modes Modes
}

func (e entry) Info() (fs.FileInfo, error) { return e.modes.of(e.DirEntry.Info()) }

type info struct {
	fs.FileInfo
	mode fs.FileMode
}

func (i info) Mode() fs.FileMode { return i.mode }
