package view

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
)

const (
	elfMagic = elf.ELFMAG
	// maxProgram is the longest program that is looked into.
	maxProgram = 2 << 30
	// maxKept is the longest file whose content is kept in memory, and maxKeptAll what
	// all of them may have.
	maxKept    = 64 << 20
	maxKeptAll = 512 << 20
)

// Contents is what the layers of an image hold, laid over each other.
type Contents struct {
	// Tree is the file system. A node's owner is the package that has it in the
	// database. Content is at hand for what tells of the image: databases, lists of
	// users, configuration of the system, bills of materials.
	Tree *rootfs.Tree
	// Files tells more of each regular file, by path.
	Files map[string]*File
	// Layers are the image's layers, the lowest first.
	Layers []Layer
	// System is what os-release says.
	System System
	// Packages are those that a database in the image has, sorted by name. Database
	// is the path of that database, "" where there is none.
	Packages []Package
	Database string
	// World is what apk was asked for, in the order of the file; nil where there is none.
	World []string
	// SBOMs are the paths of bills of materials that lie in the image.
	SBOMs []string
	// Notes are what could not be read of the image.
	Notes []string

	layers map[string]int
}

// File is what is known of a regular file beside its inode.
type File struct {
	Layer   int    // that brought it, from 0; of hard links the one of the path
	SHA1    string // of the content
	Soname  string // of a shared library
	Program string // a shell or package manager that is known by its content, e.g. busybox
}

// Layer is a layer of an image.
type Layer struct {
	Digest    string `json:"digest,omitempty"` // of the bytes as they are stored; unknown in docker archives
	MediaType string `json:"mediaType,omitempty"`
	DiffID    string `json:"diffID"`
	Size      int64  `json:"size"`     // as it is stored, in bytes
	Unpacked  int64  `json:"unpacked"` // of the tar archive, in bytes
	Files     int    `json:"files"`    // paths that are no folders, of the image as a whole
	Bytes     int64  `json:"bytes"`    // of those files
	Created   string `json:"createdBy,omitempty"`
}

// System is what os-release(5) of an image says.
type System struct {
	ID      string `json:"id,omitempty"`      // e.g. alpine
	Name    string `json:"name,omitempty"`    // e.g. Alpine Linux
	Version string `json:"version,omitempty"` // VERSION_ID
}

// told are files whose content tells of the image.
func told(name string) bool {
	if dir, base := path.Split(name); base == "installed" || base == "scripts.tar" || base == "triggers" {
		return dir == "usr/lib/apk/db/" || dir == "lib/apk/db/"
	}
	for _, prefix := range []string{"var/lib/dpkg/status", "var/lib/dpkg/info/", "var/lib/db/sbom/"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "etc/passwd", "etc/group", "etc/os-release", "usr/lib/os-release", "etc/apk/world", "etc/apk/repositories", "etc/shells", "etc/apk/arch":
		return true
	}
	return false
}

// Read reads the layers and what they tell. Each is checked against its digest.
func (i *Image) Read(ctx context.Context) (*Contents, error) {
	r := &layerReader{o: i.from.o, keep: told}
	if also := r.o.Keep; also != nil {
		r.keep = func(name string) bool { return told(name) || also(name) }
	}
	r.total.limit = r.o.Limits.Bytes
	layers := make([]*readLayer, len(i.layers))
	jobs, inner := errgroup.WithContext(ctx)
	jobs.SetLimit(runtime.GOMAXPROCS(0))
	for n, b := range i.layers {
		jobs.Go(func() (err error) {
			layers[n], err = r.read(inner, i.from.blobs, b, n+1, i.Config.RootFS.DiffIDs[n])
			return err
		})
	}
	if err := jobs.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s: %w", i.from.Ref, err)
	}
	c, err := i.contents(layers)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.from.Ref, err)
	}
	return c, nil
}

// contents lays the layers over each other.
func (i *Image) contents(layers []*readLayer) (*Contents, error) {
	m := newMerger(i.from.o.Limits.Entries)
	c := &Contents{Files: map[string]*File{}, layers: map[string]int{}}
	for n, l := range layers {
		if err := m.add(l, n); err != nil {
			return nil, err
		}
		b := i.layers[n]
		layer := Layer{DiffID: l.diffID, Size: b.Size, Unpacked: l.bytes, MediaType: string(b.MediaType)}
		if b.open == "" {
			layer.Digest = b.Digest.String()
		}
		c.Layers = append(c.Layers, layer)
	}
	at := 0
	for _, h := range i.Config.History {
		if !h.EmptyLayer && at < len(c.Layers) {
			c.Layers[at].Created = strings.TrimSpace(h.CreatedBy)
			if h.Comment != "" && (h.CreatedBy == "" || h.CreatedBy == "tarn" || h.CreatedBy == "apko") {
				c.Layers[at].Created = h.Comment
			}
			at++
		}
	}
	nodes, err := m.flatten(i.from.o.Limits.Text)
	if err != nil {
		return nil, err
	}
	inodes := make(map[string]*rootfs.Inode, len(nodes))
	for p, n := range nodes {
		inodes[p], c.layers[p] = n.inode, max(n.layer, 0)
		if n.inode.Mode.IsRegular() && n.file != nil {
			file := *n.file
			file.Layer = n.layer
			c.Files[p] = &file
		}
	}
	c.Tree = rootfs.Of(inodes)
	counted := map[*rootfs.Inode]bool{}
	for _, p := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[p]
		if n.inode.Mode.IsDir() {
			continue
		}
		l := &c.Layers[n.layer]
		l.Files++
		if n.inode.Mode.IsRegular() && !counted[n.inode] {
			counted[n.inode] = true
			l.Bytes += n.inode.Size
		}
	}
	c.system()
	c.apk()
	c.dpkg()
	c.world()
	c.boms()
	slices.SortFunc(c.Packages, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	return c, nil
}

// soname reads the name that a shared library has for the loader.
func (f *File) soname(r io.ReaderAt, size int64) {
	e, err := elf.NewFile(io.NewSectionReader(r, 0, size))
	if err != nil {
		return
	}
	defer e.Close()
	if e.Type != elf.ET_DYN {
		return
	}
	if names, err := e.DynString(elf.DT_SONAME); err == nil && len(names) > 0 {
		f.Soname = names[0]
	}
}

// system reads os-release(5).
func (c *Contents) system() {
	for _, file := range []string{"etc/os-release", "usr/lib/os-release"} {
		data, err := c.Tree.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			value = strings.Trim(value, `"'`)
			switch key {
			case "ID":
				c.System.ID = value
			case "NAME":
				c.System.Name = value
			case "VERSION_ID":
				c.System.Version = value
			}
		}
		return
	}
}

// world reads what apk was asked for.
func (c *Contents) world() {
	data, err := c.Tree.ReadFile("etc/apk/world")
	if err != nil {
		return
	}
	c.World = strings.Fields(string(data))
}

// boms finds the bills of materials in the image.
func (c *Contents) boms() {
	for n := range c.Tree.All() {
		if !n.Mode.IsRegular() {
			continue
		}
		base := path.Base(n.Path)
		for _, suffix := range []string{".spdx.json", ".cdx.json", ".cyclonedx.json", ".spdx"} {
			if strings.HasSuffix(base, suffix) {
				c.SBOMs = append(c.SBOMs, n.Path)
				break
			}
		}
	}
}

func (c *Contents) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

// apk reads apk's database, where it lies today and where it lay.
func (c *Contents) apk() {
	for _, dir := range []string{"usr/lib/apk/db", "lib/apk/db"} {
		data, err := c.Tree.ReadFile(dir + "/installed")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			c.note("%v", err)
			continue
		}
		all, err := apk.ReadInstalled(bytes.NewReader(data), apk.Limits{})
		if err != nil {
			c.note("/%s/installed: %v", dir, err)
			continue
		}
		if n, found := c.Tree.Stat(dir + "/installed"); found {
			c.Database = n.Path
		}
		scripts := c.scripts(dir + "/scripts.tar")
		for _, p := range all {
			c.Packages = append(c.Packages, c.apkPackage(p, scripts))
		}
		return
	}
}

// LayerOf is the layer that brought a path of the tree, from 0.
func (c *Contents) LayerOf(path string) int { return c.layers[path] }

// Minded lists what policies may mind in the image; see images.Examine.
func (c *Contents) Minded() []images.Reason {
	marks, names := map[string]string{}, map[string]string{}
	for p, f := range c.Files {
		if f.Program != "" {
			if n, found := c.Tree.Lstat(p); found {
				marks[n.Sum] = f.Program
			}
		}
	}
	for i := range c.Packages {
		names[c.Packages[i].Name] = c.Packages[i].FullName()
	}
	return images.Examine(c.Tree, marks, names)
}
