// Package pack makes a package file of the tree that a build installed. The same
// tree and the same words about it give the same bytes, whoever built it: what the
// build's user owns belongs to root, every file has one time, and of extended
// attributes only those count that the recipe declares, since a file system adds its
// own. It signs nothing.
package pack

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// Input is what a package is made of.
type Input struct {
	Info    apk.Info
	Tree    fs.FS             // what the build installed: a fs.ReadLinkFS on a disk
	Extra   map[string][]byte // further files by path, e.g. the SBOM
	Scripts map[string][]byte // of the control section, by name, e.g. ".post-install"
	Control map[string][]byte // other files of the control section, e.g. ".melange.yaml"
	Xattrs  map[string]Xattrs // extended attributes of files of the tree, by path
	// Owners are those of files of other users, by inode, where the file system does not
	// tell: it has the files of an ordinary user's sandbox as the caller's.
	Owners map[uint64]Owner
	// Declared are owners that a recipe gives to paths; a later one counts before an
	// earlier one.
	Declared []Declared
	// UID and GID are the user that the build ran as; root when 0.
	UID, GID int
	Time     time.Time // of every file
}

// Xattrs are raw values by full name, e.g. CapabilityAttribute.
type Xattrs map[string]string

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
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		written, err = apk.WritePackage(writer, apk.Unsigned{
			Info: in.Info, Scripts: in.Scripts, Control: in.Control, Files: contents, ModTime: in.Time, TempDir: dir,
		})
		writer.CloseWithError(err)
	}()
	digest, size, err := st.Put(reader)
	reader.CloseWithError(err)
	<-done // it reads the tree and the temporary folder
	if err != nil {
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

// Owner is a user and a group by their numbers.
type Owner struct{ UID, GID int }

// Declared gives a path of the package to a user, a group, or both; -1 leaves one as it is.
type Declared struct {
	Path      string // without a / at its beginning
	UID, GID  int
	Recursive bool
}

// declare applies what a recipe declares of owners.
func declare(contents []apk.Content, declared []Declared) error {
	for _, d := range declared {
		found := false
		for i := range contents {
			c := &contents[i]
			if c.Path != d.Path && !(d.Recursive && (d.Path == "" || strings.HasPrefix(c.Path, d.Path+"/"))) {
				continue
			}
			found = true
			if d.UID >= 0 {
				c.UID = d.UID
			}
			if d.GID >= 0 {
				c.GID = d.GID
			}
		}
		if !found {
			return fmt.Errorf("%s, which is to have an owner, was not installed", d.Path)
		}
	}
	return nil
}

// collect lists the tree and the extra files. Nothing is read yet.
func collect(ctx context.Context, in Input) ([]apk.Content, error) {
	var contents []apk.Content
	there := map[string]bool{}
	firstName := map[uint64]string{} // inode -> the first of its names
	err := fs.WalkDir(in.Tree, ".", func(name string, d fs.DirEntry, err error) error {
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
		c, err := content(ctx, in, name, info)
		if err != nil {
			return err
		}
		c.ModTime = in.Time
		if c.Xattrs = in.Xattrs[name]; c.Xattrs != nil && c.Type != apk.TypeFile {
			return fmt.Errorf("%s is a %s and can't have capabilities", name, c.Type)
		}
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
	for _, name := range slices.Sorted(maps.Keys(in.Xattrs)) {
		if !there[name] {
			return nil, fmt.Errorf("%s, which is to have capabilities, was not installed", name)
		}
	}
	if err := declare(contents, in.Declared); err != nil {
		return nil, err
	}
	if err := shareXattrs(contents, in.Xattrs); err != nil {
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

// shareXattrs gives a file what is declared for any of its names, as the names of one
// file have the same attributes.
func shareXattrs(contents []apk.Content, xattrs map[string]Xattrs) error {
	first := map[string]int{}
	for i := range contents {
		c := &contents[i]
		first[c.Path] = i
		declared := xattrs[c.Path]
		if c.Type != apk.TypeHardlink || declared == nil {
			continue
		}
		file := &contents[first[c.Link]]
		if file.Xattrs != nil && !maps.Equal(file.Xattrs, declared) {
			return fmt.Errorf("%s and %s are one file and are to have different capabilities", file.Path, c.Path)
		}
		file.Xattrs, c.Xattrs = declared, nil
	}
	return nil
}

func content(ctx context.Context, in Input, name string, info fs.FileInfo) (apk.Content, error) {
	uid, gid := in.owner(info.Sys().(*syscall.Stat_t))
	c := apk.Content{File: apk.File{Path: name, Mode: info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky), UID: uid, GID: gid}}
	switch info.Mode().Type() {
	case fs.ModeDir:
		c.Type = apk.TypeDir
	case fs.ModeSymlink:
		target, err := fs.ReadLink(in.Tree, name)
		if err != nil {
			return c, err
		}
		c.Type, c.Link, c.Mode = apk.TypeSymlink, target, 0o777
	case 0:
		c.Type, c.Size = apk.TypeFile, info.Size()
		c.Open = func() (io.ReadCloser, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			return in.Tree.Open(name)
		}
	default:
		return c, fmt.Errorf("%s is a %s: packages hold files, folders and links", name, info.Mode().Type())
	}
	return c, nil
}

// buildUser is the user and group that recipes of this ecosystem build as: what it
// owns belongs to root in the package.
const buildUser = 1000

// owner is who owns a file in the package. As root of the host the ids are the same
// inside and outside of the sandbox; an ordinary user is the only one there, whatever
// it is called inside. What the build's own user owns belongs to root: so both give
// the same package.
func (in Input) owner(st *syscall.Stat_t) (uid, gid int) {
	inside := func(id, builder int) int {
		if id == buildUser || id == builder {
			return 0
		}
		return id
	}
	if o, known := in.Owners[st.Ino]; known {
		return inside(o.UID, in.UID), inside(o.GID, in.GID)
	}
	if os.Geteuid() != 0 {
		return 0, 0
	}
	return inside(int(st.Uid), in.UID), inside(int(st.Gid), in.GID)
}
