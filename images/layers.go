package images

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// layerVersion changes when equal archives give other layers than before: with the
// level of compression, and with a release of the compressor that writes other bytes.
const layerVersion = "1: gzip of klauspost/compress 1.20.3, level 6"

const (
	layerLevel     = 6
	layerMediaType = types.OCILayer
)

// Limits of the default strategy.
const (
	maxLayers = 120 // of an image; overlay file systems and registries take 127
	// smallImage is the size below which layers are not worth their number.
	smallImage = 4 << 20
	// bigPackage is the size from which a package has a layer of its own.
	bigPackage = 512 << 10
	// ownLayers is how many packages have one.
	ownLayers = 40
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
}

// group gives the packages of each layer, from the bottom up. The order of the
// layers does not decide what the image holds, since no path but folders is in two.
func group(packages []*scanned, layering *Layering) [][]*scanned {
	if len(packages) == 0 {
		return nil
	}
	strategy, budget := "package", ownLayers
	if layering != nil {
		strategy, budget = cmp.Or(layering.Strategy, "single"), layering.Budget
	}
	switch strategy {
	case "single":
		return nil
	case "origin":
		return groupByOrigin(packages, budget)
	}
	if budget == 0 {
		budget = ownLayers
	}
	var total int64
	for _, p := range packages {
		total += p.size()
	}
	if total < smallImage {
		return [][]*scanned{packages}
	}
	sorted := slices.Clone(packages)
	slices.SortFunc(sorted, func(a, b *scanned) int {
		return cmp.Or(cmp.Compare(b.size(), a.size()), cmp.Compare(a.Info.Name, b.Info.Name))
	})
	var groups [][]*scanned
	var rest []*scanned
	for _, p := range sorted {
		if p.size() >= bigPackage && len(groups) < budget-1 {
			groups = append(groups, []*scanned{p})
		} else {
			rest = append(rest, p)
		}
	}
	if len(rest) > 0 {
		groups = append(groups, rest)
	}
	return groups
}

// groupByOrigin is apko's strategy: a layer for each of the budget-1 largest
// origins, one for the rest; origins of which one replaces files of the other are one.
func groupByOrigin(packages []*scanned, budget int) [][]*scanned {
	origin := func(p *scanned) string { return cmp.Or(p.Info.Origin, p.Info.Name) }
	leader := map[string]string{}
	var find func(string) string
	find = func(o string) string {
		if l, found := leader[o]; found && l != o {
			return find(l)
		}
		return o
	}
	for _, a := range packages {
		for _, d := range a.Info.Replaces {
			for _, b := range packages {
				if d.Name == b.Info.Name && d.Matches(b.Info.Version) {
					leader[find(origin(b))] = find(origin(a))
				}
			}
		}
	}
	byLeader := map[string][]*scanned{}
	for _, p := range packages {
		o := find(origin(p))
		byLeader[o] = append(byLeader[o], p)
	}
	type sized struct {
		packages []*scanned
		size     int64
		last     string // the greatest name, which settles ties
	}
	var groups []sized
	for _, list := range byLeader {
		g := sized{packages: list}
		for _, p := range list {
			g.size += p.size()
			g.last = max(g.last, p.Info.Name)
		}
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b sized) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(b.last, a.last))
	})
	budget = max(budget, 1)
	var out [][]*scanned
	for i, g := range groups {
		if i >= budget {
			out[budget-1] = append(out[budget-1], g.packages...)
		} else {
			out = append(out, g.packages)
		}
	}
	return out
}

// makeLayers decides the image's layers and makes those that the store does not have yet.
func makeLayers(ctx context.Context, st *store.Store, t *rootfs.Tree, packages []*scanned, layering *Layering) ([]Layer, error) {
	if err := checkMarks(t); err != nil {
		return nil, err
	}
	groups := group(packages, layering)
	names := t.Names()
	layers := make([]Layer, len(groups)+1)
	archives := make([]*rootfs.Archive, len(layers))
	below := map[string]bool{} // packages in layers of their own
	for i, g := range groups {
		in := map[string]bool{}
		for _, p := range g {
			in[p.Info.Name], below[p.Info.Name] = true, true
			layers[i].Packages = append(layers[i].Packages, p.Info.FullName())
		}
		slices.Sort(layers[i].Packages)
		archives[i] = t.Archive(rootfs.ArchiveOptions{Installed: true, Names: names, Include: func(n *rootfs.Node) bool { return in[n.Owner] }})
	}
	top := len(groups)
	if len(groups) == 0 {
		for _, p := range packages {
			layers[top].Packages = append(layers[top].Packages, p.Info.FullName())
		}
		slices.Sort(layers[top].Packages)
	}
	archives[top] = t.Archive(rootfs.ArchiveOptions{Names: names, Include: func(n *rootfs.Node) bool { return n.Changed() || !below[n.Owner] }})
	jobs, ctx := errgroup.WithContext(ctx)
	jobs.SetLimit(runtime.GOMAXPROCS(0))
	for i, a := range archives {
		jobs.Go(func() error {
			made, err := makeLayer(ctx, st, a)
			if err != nil {
				return err
			}
			l := &layers[i]
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
func makeLayer(ctx context.Context, st *store.Store, a *rootfs.Archive) (madeLayer, error) {
	description := sha256.New()
	if err := a.Describe(description); err != nil {
		return madeLayer{}, err
	}
	h := store.NewHash("image layer")
	h.Line("version", layerVersion)
	h.Line("members", description.Sum(nil))
	var made madeLayer
	if found, err := st.Recall(h.Sum(), &made); err != nil {
		return made, err
	} else if found {
		return made, nil
	}
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	defer stop()
	diff := sha256.New()
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.CloseWithError(compress(w, func(w io.Writer) error { return a.Write(io.MultiWriter(w, diff)) }))
	}()
	blob, size, err := st.Put(r)
	r.CloseWithError(err) // ends a writer that nobody reads any more
	<-written
	if err != nil {
		return made, fmt.Errorf("write layer: %w", err)
	}
	made = madeLayer{Blob: blob, DiffID: "sha256:" + hex.EncodeToString(diff.Sum(nil)), Size: size}
	return made, st.Remember(h.Sum(), made)
}

func compress(w io.Writer, write func(io.Writer) error) error {
	z, err := gzip.NewWriterLevel(w, layerLevel)
	if err != nil {
		return err
	}
	if err := write(z); err != nil {
		return err
	}
	return z.Close()
}

// blobLayer is a layer whose bytes lie in the store. They are checked whenever they are read.
type blobLayer struct {
	st    *store.Store
	layer Layer
}

func (l *blobLayer) Digest() (v1.Hash, error) { return v1.NewHash(l.layer.Digest) }
func (l *blobLayer) DiffID() (v1.Hash, error) { return v1.NewHash(l.layer.DiffID) }
func (l *blobLayer) Size() (int64, error)     { return l.layer.Size, nil }
func (l *blobLayer) MediaType() (types.MediaType, error) {
	return layerMediaType, nil
}

func (l *blobLayer) Compressed() (io.ReadCloser, error) {
	return l.st.Open(store.Digest(l.layer.Digest))
}

func (l *blobLayer) Uncompressed() (io.ReadCloser, error) {
	f, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &unzipped{z, f}, nil
}

// unzipped reads a compressed file and closes both.
type unzipped struct {
	*gzip.Reader
	file io.Closer
}

func (u *unzipped) Close() error {
	err := u.Reader.Close()
	if cerr := u.file.Close(); err == nil {
		err = cerr
	}
	return err
}
