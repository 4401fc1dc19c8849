package archive

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"
)

// PackOptions say how to pack. The zero value packs everything, with the times of 1970.
type PackOptions struct {
	// ModTime is the time of every entry, in whole seconds.
	ModTime time.Time
	// Skip leaves out the paths for which it is true, and what is below them.
	Skip func(path string, isDir bool) bool
}

// Pack writes the folder dir of root as a tar. The same names, bytes, links and
// executable bits give the same tar: entries are sorted, belong to user and group 0 and
// have one time; a file has mode 0755 if its owner may execute it, else 0644; a
// folder 0755. That is what git knows of a tree. A file with several names is
// written for each of them. Devices, pipes and sockets are refused.
func Pack(ctx context.Context, w io.Writer, root *os.Root, dir string, o PackOptions) error {
	top, err := root.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	defer top.Close()
	mtime := time.Unix(0, 0)
	if !o.ModTime.IsZero() {
		mtime = o.ModTime.Truncate(time.Second)
	}
	t := tar.NewWriter(w)
	buf := make([]byte, 128<<10)
	err = fs.WalkDir(top.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p == "." {
			return nil
		}
		if o.Skip != nil && o.Skip(p, d.IsDir()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := top.Lstat(p)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: p, ModTime: mtime, Mode: 0o644}
		switch info.Mode().Type() {
		case fs.ModeDir:
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, p+"/", 0o755
			return t.WriteHeader(h)
		case fs.ModeSymlink:
			h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
			if h.Linkname, err = top.Readlink(p); err != nil {
				return err
			}
			return t.WriteHeader(h)
		case 0:
			h.Typeflag, h.Size = tar.TypeReg, info.Size()
			if info.Mode()&0o100 != 0 {
				h.Mode = 0o755
			}
		default:
			return fmt.Errorf("%s is neither file, folder nor symbolic link", p)
		}
		f, err := top.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		// One byte more than was promised would be an error of tar: the file grew.
		_, err = io.CopyBuffer(struct{ io.Writer }{t}, struct{ io.Reader }{f}, buf)
		return err
	})
	if err == nil {
		err = t.Close()
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", path.Clean(dir), err)
	}
	return nil
}
