package view

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
)

// Sizes say what takes the room in an image.
type Sizes struct {
	Bytes  int64 `json:"bytes"`  // of all files, each once
	Packed int64 `json:"packed"` // of all layers, as they are stored
	// Packages are sorted by size, the largest first. What no package owns is one of
	// them, without a name.
	Packages []PackageSize `json:"packages"`
	Layers   []LayerSize   `json:"layers"` // the lowest first
	Files    []FileSize    `json:"files"`  // the largest first
}

// PackageSize is what one package takes.
type PackageSize struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Origin  string `json:"origin,omitempty"`
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	// Packed is about what it takes in the layers, which are compressed as a whole: its
	// part of their size is that which it has of their files.
	Packed int64 `json:"packed"`
	Layers []int `json:"layers"` // that its files are in, from 1
}

// LayerSize is what one layer takes.
type LayerSize struct {
	Layer
	Packages []string `json:"packages,omitempty"` // whose files it brings
}

// FileSize is what one file takes.
type FileSize struct {
	Path    string `json:"path"` // from the root
	Package string `json:"package,omitempty"`
	Bytes   int64  `json:"bytes"`
	Layer   int    `json:"layer"` // from 1
}

// Sizes adds up what the image holds.
func (c *Contents) Sizes() *Sizes {
	s := &Sizes{Layers: make([]LayerSize, len(c.Layers))}
	for i, l := range c.Layers {
		s.Layers[i].Layer = l
		s.Packed += l.Size
	}
	at := map[string]int{"": 0}
	s.Packages = append(s.Packages, PackageSize{})
	for _, p := range c.Packages {
		at[p.Name] = len(s.Packages)
		s.Packages = append(s.Packages, PackageSize{Name: p.Name, Version: p.Version, Origin: p.Origin})
	}
	counted := map[*rootfs.Inode]bool{}
	for n := range c.Tree.All() {
		if n.Mode.IsDir() {
			continue
		}
		p := &s.Packages[at[n.Owner]]
		p.Files++
		file := c.Files[n.Path]
		if file == nil || counted[n.Inode] {
			continue
		}
		counted[n.Inode] = true
		s.Bytes += n.Size
		p.Bytes += n.Size
		if l := &c.Layers[file.Layer]; l.Unpacked > 0 {
			p.Packed += int64(float64(n.Size) * float64(l.Size) / float64(l.Unpacked))
		}
		if !slices.Contains(p.Layers, file.Layer+1) {
			p.Layers = append(p.Layers, file.Layer+1)
		}
		if names := &s.Layers[file.Layer].Packages; n.Owner != "" && !slices.Contains(*names, n.Owner) {
			*names = append(*names, n.Owner)
		}
		s.Files = append(s.Files, FileSize{"/" + n.Path, n.Owner, n.Size, file.Layer + 1})
	}
	for i := range s.Packages {
		slices.Sort(s.Packages[i].Layers)
	}
	for i := range s.Layers {
		slices.Sort(s.Layers[i].Packages)
	}
	if s.Packages[0].Files == 0 {
		s.Packages = s.Packages[1:]
	}
	slices.SortStableFunc(s.Packages, func(a, b PackageSize) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
	})
	slices.SortStableFunc(s.Files, func(a, b FileSize) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path))
	})
	return s
}

// Strategies are the ways to put an image into layers that a series compares: first as it is.
var Strategies = []string{"as it is", images.StrategySingle, images.StrategyOrigin, images.StrategyPackage}

// Pull is what a client that has all earlier images of a series pulls for one.
type Pull struct {
	Changed []string         `json:"changed,omitempty"` // packages that are new or others than in the image before
	Gone    []string         `json:"gone,omitempty"`    // packages of the image before that are not in it
	Bytes   map[string]int64 `json:"bytes"`             // by strategy
}

// Series compares strategies over images that follow each other: what each costs a
// client that pulled those before. "as it is" goes by the layers that the images have;
// the others by the packages in them, whose part of the layers' compressed size
// stands for what their own layers would have. budget is of the origin strategy.
func Series(all []*Contents, budget int) []Pull {
	pulls := make([]Pull, len(all))
	known := map[string]map[string]bool{}
	for _, s := range Strategies {
		known[s] = map[string]bool{}
	}
	var before map[string]string
	for i, c := range all {
		pull := &pulls[i]
		pull.Bytes = map[string]int64{}
		take := func(strategy, id string, size int64) {
			if !known[strategy][id] {
				known[strategy][id] = true
				pull.Bytes[strategy] += size
			}
		}
		for _, s := range Strategies {
			pull.Bytes[s] = 0
		}
		for _, l := range c.Layers {
			take(Strategies[0], l.DiffID, l.Size)
		}
		prints := c.fingerprints()
		sizes := map[string]int64{}
		for _, p := range c.Sizes().Packages {
			sizes[p.Name] = p.Packed
		}
		var parts []images.Part
		var own []string
		for j := range c.Packages {
			p := &c.Packages[j]
			if images.IsOwnPackage(p.Name) {
				own = append(own, p.Name) // it stays on top
				continue
			}
			part := images.Part{Name: p.Name, Origin: p.Origin, Version: apk.Version(p.Version), Size: p.Size, Installed: p.Size}
			if p.Entry != nil {
				part.Installed, part.Replaces = p.Entry.Size, p.Entry.Replaces
			}
			parts = append(parts, part)
		}
		for strategy, layering := range map[string]*images.Layering{
			images.StrategySingle: {Strategy: images.StrategySingle}, images.StrategyOrigin: {Strategy: images.StrategyOrigin, Budget: budget}, images.StrategyPackage: nil,
		} {
			// What belongs to no package or the composer's own, and packages without a layer below.
			top := append([]string{""}, own...)
			groups := images.Divide(parts, layering)
			if groups == nil {
				for _, p := range parts {
					top = append(top, p.Name)
				}
			}
			layers := [][]string{top}
			for _, g := range groups {
				var names []string
				for _, j := range g {
					names = append(names, parts[j].Name)
				}
				layers = append(layers, names)
			}
			for _, names := range layers {
				slices.Sort(names)
				id := sha256.New()
				var size int64
				for _, name := range names {
					fmt.Fprintln(id, name, prints[name])
					size += sizes[name]
				}
				take(strategy, string(id.Sum(nil)), size)
			}
		}
		for j := range c.Packages {
			if name := c.Packages[j].Name; i > 0 && before[name] != prints[name] {
				pull.Changed = append(pull.Changed, name)
			}
		}
		for name := range before {
			if name != "" && c.Find(name) == nil {
				pull.Gone = append(pull.Gone, name)
			}
		}
		slices.Sort(pull.Gone)
		before = prints
	}
	return pulls
}

// fingerprints stand for all that decides the bytes of a layer with the files of a
// package, by its name; of what no package owns by "".
func (c *Contents) fingerprints() map[string]string {
	of := map[string]*rootfs.Archive{}
	for n := range c.Tree.All() {
		a := of[n.Owner]
		if a == nil {
			a = &rootfs.Archive{}
			of[n.Owner] = a
		}
		a.Members = append(a.Members, rootfs.Member{Path: n.Path, Inode: n.Inode})
	}
	prints := map[string]string{}
	for name, a := range of {
		h := sha256.New()
		if err := a.Describe(h); err != nil {
			panic("internal error: " + err.Error()) // a hash takes everything
		}
		prints[name] = hex.EncodeToString(h.Sum(nil))
	}
	return prints
}
