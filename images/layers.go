package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// Layer is one layer of an image.
type Layer struct {
	// Packages are the packages whose files are in it, by name and version. The top
	// layer, with what the composer makes, has none.
	Packages []string `json:"packages,omitempty"`
	Files    int      `json:"files"`  // paths that are no folders
	Digest   string   `json:"digest"` // sha256:..., of the compressed bytes
	DiffID   string   `json:"diffID"` // sha256:..., of the tar archive
	Size     int64    `json:"size"`   // compressed, in bytes
	Unpacked int64    `json:"unpacked"`
	// MediaType says how it is compressed, as the image specification names it.
	MediaType types.MediaType `json:"mediaType"`
}

// makeLayers decides the image's layers and makes those that the store does not have yet.
// What a base image has is in its own layers, below these.
func makeLayers(ctx context.Context, st *store.Store, t *rootfs.Tree, base *Base, packages []*scanned, layering *Layering) ([]Layer, error) {
	if err := checkMarks(t); err != nil {
		return nil, err
	}
	var parts []Part
	for _, p := range packages {
		if p.own {
			break // the last one: what the image file brings changes with it, and stays on top
		}
		parts = append(parts, p.part())
	}
	groups := Divide(parts, layering)
	compression := layering.compression()
	layers := make([]Layer, len(groups)+1)
	archives := make([]*rootfs.Archive, len(layers))
	below := map[string]bool{}            // packages in layers below the top
	folders := map[string]*rootfs.Inode{} // as these layers, laid over each other, leave them
	owned := t.Owned()
	if base != nil {
		for _, p := range base.packages {
			below[p.Info.Name] = true
			maps.Copy(folders, t.Folders([]*rootfs.Package{&p.Package}))
		}
	}
	for i, g := range groups {
		var members []*rootfs.Package
		for _, j := range g {
			p := packages[j]
			below[p.Info.Name] = true
			members = append(members, &p.Package)
			layers[i].Packages = append(layers[i].Packages, p.Info.FullName())
		}
		archives[i] = archiveOf(t, owned, members)
		for j := range archives[i].Members {
			if m := &archives[i].Members[j]; m.Mode.IsDir() {
				folders[m.Path] = m.Inode
			}
		}
	}
	top := len(groups)
	if len(groups) == 0 {
		for _, p := range packages {
			layers[top].Packages = append(layers[top].Packages, p.Info.FullName())
		}
	}
	for i := range layers {
		slices.Sort(layers[i].Packages)
	}
	archives[top] = t.Archive(rootfs.ArchiveOptions{Include: func(n *rootfs.Node) bool {
		return n.Changed() || !below[n.Owner] || n.Mode.IsDir() && !sameFolder(folders[n.Path], n.Inode)
	}})
	jobs, ctx := errgroup.WithContext(ctx)
	jobs.SetLimit(runtime.GOMAXPROCS(0))
	for i, a := range archives {
		jobs.Go(func() error {
			made, err := makeLayer(ctx, st, a, compression)
			if err != nil {
				return err
			}
			l := &layers[i]
			l.MediaType = compression.mediaType
			l.Digest, l.DiffID, l.Size, l.Unpacked = string(made.Blob), made.DiffID, made.Size, a.Size()
			for j := range a.Members {
				if !a.Members[j].Mode.IsDir() {
					l.Files++
				}
			}
			return nil
		})
	}
	return layers, jobs.Wait()
}

// archiveOf is the layer of some packages of a tree. What is made of them must not depend
// on others: so the layer has folders as they bring them, whatever the image makes of these
// in the end. owned are the tree's nodes by their owners.
func archiveOf(t *rootfs.Tree, owned map[string][]*rootfs.Node, members []*rootfs.Package) *rootfs.Archive {
	among := []*rootfs.Node{}
	for _, p := range members {
		among = append(among, owned[p.Info.Name]...)
	}
	return t.Archive(rootfs.ArchiveOptions{Installed: true, Folders: t.Folders(members), Among: among})
}

// sameFolder tells whether a folder, as the layers below leave it, needs nothing more.
func sameFolder(below, want *rootfs.Inode) bool {
	return below != nil && below.Mode == want.Mode && below.UID == want.UID && below.GID == want.GID && maps.Equal(below.Xattrs, want.Xattrs)
}

// checkMarks refuses what a layer cannot hold as it is: names that the image
// specification reads as "remove this file of the layers below", and attributes that
// an overlay file system reads so.
func checkMarks(t *rootfs.Tree) error {
	for n := range t.All() {
		if strings.HasPrefix(path.Base(n.Path), ".wh.") {
			return fmt.Errorf("/%s%s: a name that begins with .wh. hides files of other layers", n.Path, broughtBy(n))
		}
		for name := range n.Xattrs {
			if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
				return fmt.Errorf("/%s%s: the attribute %s hides files of other layers", n.Path, broughtBy(n), name)
			}
		}
	}
	return nil
}

// broughtBy names the package of a file, if it is of one.
func broughtBy(n *rootfs.Node) string {
	if n.Owner == "" {
		return ""
	}
	return " of " + n.Owner
}

// madeLayer is what the store remembers of a layer.
type madeLayer struct {
	Blob   store.Digest
	DiffID string
	Size   int64
}

// makeLayer compresses an archive, unless that was done before: what it is made of
// is all in its description.
func makeLayer(ctx context.Context, st *store.Store, a *rootfs.Archive, c compression) (madeLayer, error) {
	description := sha256.New()
	if err := a.Describe(description); err != nil {
		return madeLayer{}, err
	}
	h := store.NewHash("image layer")
	h.Line("version", c.version)
	h.Line("members", description.Sum(nil))
	release, err := turn(ctx, st.Dir()+" "+string(h.Sum()))
	if err != nil {
		return madeLayer{}, err
	}
	defer release()
	var made madeLayer
	if found, err := st.Recall(h.Sum(), &made); err != nil {
		return made, err
	} else if found {
		return made, nil
	}
	made, err = keep(ctx, st, c, a.Size(), a.Write)
	if err != nil {
		return made, fmt.Errorf("write layer: %w", err)
	}
	// The image waits for the disk, when all of its layers are there.
	return made, st.RememberUnsynced(h.Sum(), made)
}

// making are the layers that are being made, by store and action. Images that are composed
// side by side have packages in common: the second one waits, and finds the layer made.
var making sync.Map // string -> chan struct{} of one place

// turn waits until nobody else does the same.
func turn(ctx context.Context, what string) (release func(), err error) {
	place, _ := making.LoadOrStore(what, make(chan struct{}, 1))
	taken := place.(chan struct{})
	select {
	case taken <- struct{}{}:
		return func() { <-taken }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// keep compresses what write gives, about size bytes, into the store.
func keep(ctx context.Context, st *store.Store, c compression, size int64, write func(io.Writer) error) (madeLayer, error) {
	blob := st.Create()
	defer blob.Close()
	diff := sha256.New()
	err := c.compress(&stoppable{ctx, blob}, size, func(w io.Writer) error { return write(io.MultiWriter(w, diff)) })
	if err != nil {
		return madeLayer{}, err
	}
	digest, n, err := blob.Commit()
	if err != nil {
		return madeLayer{}, err
	}
	return madeLayer{Blob: digest, DiffID: "sha256:" + hex.EncodeToString(diff.Sum(nil)), Size: n}, nil
}

// stoppable is a writer that takes nothing more when ctx is done.
type stoppable struct {
	ctx context.Context
	w   io.Writer
}

func (s *stoppable) Write(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.w.Write(p)
}

// blobLayer is a layer whose bytes lie in the store. They are checked whenever they are read.
type blobLayer struct {
	st    *store.Store
	layer Layer
}

func (l *blobLayer) Digest() (v1.Hash, error)            { return v1.NewHash(l.layer.Digest) }
func (l *blobLayer) DiffID() (v1.Hash, error)            { return v1.NewHash(l.layer.DiffID) }
func (l *blobLayer) Size() (int64, error)                { return l.layer.Size, nil }
func (l *blobLayer) MediaType() (types.MediaType, error) { return l.layer.MediaType, nil }

func (l *blobLayer) Compressed() (io.ReadCloser, error) {
	return l.st.Open(store.Digest(l.layer.Digest))
}

func (l *blobLayer) Uncompressed() (io.ReadCloser, error) {
	f, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	r, err := expand(f, l.layer.MediaType)
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}
