package environment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/store"
)

// maxLayers is how many folders a root is made of; an overlay takes 500 (OVL_MAX_STACK,
// fs/overlayfs/params.h), the backend has a layer of its own, and some room is left. A test
// takes fewer.
var maxLayers = 480

// mergeVersion is raised when trees are merged in another way.
const mergeVersion = 1

// layersOf gives the folders of trees, the first on top. What is more than an overlay takes
// is merged, from below, into as few trees of their own as it needs: these are remembered
// too, so that environments with one end share them.
func layersOf(ctx context.Context, st *store.Store, ids []store.ActionID, trees []*store.Tree, limit int) ([]string, error) {
	var dirs []string
	alone := len(trees)
	if alone > limit {
		alone = limit - 1
	}
	for _, tree := range trees[:alone] {
		dirs = append(dirs, tree.Dir)
	}
	if alone == len(trees) {
		return dirs, nil
	}
	h := store.NewHash("merged trees")
	h.Line("version", mergeVersion)
	for _, id := range ids[alone:] {
		h.Line("tree", string(id))
	}
	merged, err := st.Tree(ctx, h.Sum(), func(dir *os.Root) error { return merge(ctx, dir, trees[alone:]) })
	if err != nil {
		return nil, fmt.Errorf("merge the trees of %d packages: %w", len(trees)-alone, err)
	}
	return append(dirs, merged.Dir), nil
}

// merge puts into an empty folder what an overlay of the trees shows, the first on top. Files
// are clones of those in the trees where the file system can make them, else links to them,
// else copies.
func merge(ctx context.Context, into *os.Root, trees []*store.Tree) error {
	there := map[string]store.EntryType{}
	hidden := func(name string) bool { // by something that is no folder above it
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if there[dir] != store.TypeDir {
				return true
			}
		}
		return false
	}
	type folder struct {
		path string
		mode fs.FileMode
	}
	var folders []folder
	for _, tree := range trees {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		from, err := os.OpenRoot(tree.Dir)
		if err != nil {
			return err
		}
		defer from.Close()
		for _, e := range tree.Entries {
			if there[e.Path] != 0 || hidden(e.Path) {
				continue
			}
			there[e.Path] = e.Type
			switch e.Type {
			case store.TypeDir:
				folders = append(folders, folder{e.Path, e.Mode})
				err = into.Mkdir(e.Path, 0o755)
			case store.TypeSymlink:
				err = into.Symlink(e.Link, e.Path)
			default:
				err = share(into, from, e)
			}
			if err != nil {
				return err
			}
		}
	}
	for i := len(folders) - 1; i >= 0; i-- {
		f := folders[i]
		if err := into.Chmod(f.path, f.mode&(fs.ModePerm|fs.ModeSticky)); err != nil {
			return err
		}
		if err := into.Chtimes(f.path, epoch, epoch); err != nil {
			return err
		}
	}
	return nil
}

// share gives a file of one tree to another.
func share(into, from *os.Root, e store.TreeEntry) error {
	source, err := from.Open(e.Path)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	finish := func(name string) error { return into.Chtimes(name, info.ModTime(), info.ModTime()) }
	err = cloneFile(into, e.Path, e.Mode.Perm(), source, finish)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if linkFile(into, e.Path, source) == nil {
		return nil
	}
	return writeFile(into, e.Path, e.Mode.Perm(), source, finish)
}

// cloneFile makes a file that shares the blocks of another one (ioctl_ficlone(2)).
func cloneFile(into *os.Root, name string, mode fs.FileMode, source *os.File, finish func(string) error) error {
	f, err := into.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlFileClone(int(f.Fd()), int(source.Fd())); err != nil {
		return errors.Join(fmt.Errorf("clone: %w", errors.ErrUnsupported), into.Remove(name))
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return finish(name)
}

// linkFile makes another name for an open file.
func linkFile(into *os.Root, name string, source *os.File) error {
	dir, err := into.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(source.Fd())), int(dir.Fd()), path.Base(name), unix.AT_SYMLINK_FOLLOW)
}
