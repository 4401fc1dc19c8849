// Package pack makes a package file of the tree that a build installed. The same
// tree and the same words about it give the same bytes. It signs nothing.
package pack

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// Input is what a package is made of.
type Input struct {
	Info    apk.Info
	Tree    *os.Root          // what the build installed
	Extra   map[string][]byte // further files by path, e.g. the SBOM
	Scripts map[string][]byte // of the control section, by name, e.g. ".post-install"
	Control map[string][]byte // other files of the control section, e.g. ".melange.yaml"
	Time    time.Time         // of every file
}

// Write makes the package and puts it into the store. It gives the package's entry
// as an index would list it, and the number of entries that are no folders.
func Write(ctx context.Context, st *store.Store, in Input) (*apk.Entry, store.Digest, int, error) {
	contents, err := collect(ctx, in)
	if err != nil {
		return nil, "", 0, fmt.Errorf("pack %s: %w", in.Info.Name, err)
	}
	dir, release, err := st.TempDir("pack")
	if err != nil {
		return nil, "", 0, err
	}
	defer release()
	reader, writer := io.Pipe()
	var written apk.Written
	go func() {
		var err error
		written, err = apk.WritePackage(writer, apk.Unsigned{
			Info: in.Info, Scripts: in.Scripts, Control: in.Control, Files: contents, ModTime: in.Time, TempDir: dir,
		})
		writer.CloseWithError(err)
	}()
	digest, size, err := st.Put(reader)
	if err != nil {
		reader.CloseWithError(err)
		return nil, "", 0, fmt.Errorf("pack %s: %w", in.Info.Name, err)
	}
	files := 0
	for _, c := range contents {
		if c.Type != apk.TypeDir {
			files++
		}
	}
	return &apk.Entry{Info: written.Info, Checksum: written.Checksum, FileSize: size}, digest, files, nil
}

// collect lists the tree and the extra files. Nothing is read yet.
func collect(ctx context.Context, in Input) ([]apk.Content, error) {
	var contents []apk.Content
	there := map[string]bool{}
	firstName := map[uint64]string{} // inode -> the first of its names
	err := fs.WalkDir(in.Tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		c, err := content(in.Tree, name, info)
		if err != nil {
			return err
		}
		c.ModTime = in.Time
		if st := info.Sys().(*syscall.Stat_t); c.Type == apk.TypeFile && st.Nlink > 1 {
			if first, seen := firstName[st.Ino]; seen {
				c.Type, c.Link, c.Size, c.Open = apk.TypeHardlink, first, 0, nil
			} else {
				firstName[st.Ino] = name
			}
		}
		there[name] = true
		contents = append(contents, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name, data := range in.Extra {
		if there[name] {
			return nil, fmt.Errorf("the build installed %s, which tarn writes", name)
		}
		contents = append(contents, apk.BytesContent(name, 0o644, data, in.Time))
		for folder := path.Dir(name); folder != "." && !there[folder]; folder = path.Dir(folder) {
			there[folder] = true
			contents = append(contents, apk.Content{File: apk.File{Path: folder, Type: apk.TypeDir, Mode: 0o755, ModTime: in.Time}})
		}
	}
	return contents, nil
}

func content(tree *os.Root, name string, info fs.FileInfo) (apk.Content, error) {
	uid, gid := owner(info.Sys().(*syscall.Stat_t))
	c := apk.Content{File: apk.File{Path: name, Mode: info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky), UID: uid, GID: gid}}
	switch info.Mode().Type() {
	case fs.ModeDir:
		c.Type = apk.TypeDir
	case fs.ModeSymlink:
		target, err := tree.Readlink(name)
		if err != nil {
			return c, err
		}
		c.Type, c.Link, c.Mode = apk.TypeSymlink, target, 0o777
	case 0:
		c.Type, c.Size = apk.TypeFile, info.Size()
		c.Open = func() (io.ReadCloser, error) { return tree.Open(name) }
	default:
		return c, fmt.Errorf("%s is a %s: packages hold files, folders and links", name, info.Mode().Type())
	}
	return c, nil
}

// buildUser is the user and group that recipes of this ecosystem build as: what it
// owns belongs to root in the package.
const buildUser = 1000

// owner is who owns a file as seen inside the sandbox: as root the ids are the
// same inside and outside; for an ordinary user the only id inside is 0.
func owner(st *syscall.Stat_t) (uid, gid int) {
	inside := func(id uint32, own int) int {
		if id == buildUser || own != 0 {
			return 0
		}
		return int(id)
	}
	return inside(st.Uid, os.Geteuid()), inside(st.Gid, os.Geteuid())
}
