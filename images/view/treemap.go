package view

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"path"
	"slices"
	"strings"
)

// Shown is an image in a treemap.
type Shown struct {
	Name  string // e.g. "nginx (x86_64)"
	Sizes *Sizes
}

// block is a rectangle of the treemap, with what lies in it.
type block struct {
	Name     string   `json:"n"`
	Note     string   `json:"t,omitempty"` // e.g. the version
	Bytes    int64    `json:"b"`
	Children []*block `json:"c,omitempty"`
}

//go:embed treemap.html
var treemapHTML string

var treemapPage = template.Must(template.New("treemap").Parse(treemapHTML))

// smallest is the part of an image below which files are not drawn one by one.
const smallest = 1.0 / 4000

// Treemap writes one HTML file that draws what takes the room in images. It needs
// nothing from elsewhere: style, script and data are in it.
func Treemap(w io.Writer, shown []Shown) error {
	type tree struct {
		Name   string            `json:"name"`
		Bytes  int64             `json:"bytes"`
		Packed int64             `json:"packed"`
		Views  map[string]*block `json:"views"`
	}
	var trees []tree
	var names []string
	for _, s := range shown {
		trees = append(trees, tree{s.Name, s.Sizes.Bytes, s.Sizes.Packed, map[string]*block{
			"package": byPackage(s.Sizes), "layer": byLayer(s.Sizes), "folder": byFolder(s.Sizes),
		}})
		names = append(names, s.Name)
	}
	title := fmt.Sprintf("%d images", len(names))
	if len(names) < 3 {
		title = strings.Join(names, ", ")
	}
	return treemapPage.Execute(w, map[string]any{"Title": title, "Trees": trees})
}

func byPackage(s *Sizes) *block {
	files := map[string][]FileSize{}
	for _, f := range s.Files {
		files[f.Package] = append(files[f.Package], f)
	}
	root := &block{Name: "packages", Bytes: s.Bytes}
	for _, p := range s.Packages {
		b := &block{Name: cmp.Or(p.Name, "of no package"), Note: p.Version, Bytes: p.Bytes}
		b.Children = leaves(files[p.Name], s.Bytes, func(f FileSize) string { return f.Path })
		root.Children = append(root.Children, b)
	}
	return root
}

func byLayer(s *Sizes) *block {
	root := &block{Name: "layers", Bytes: s.Bytes}
	for i, l := range s.Layers {
		b := &block{Name: fmt.Sprintf("layer %d", i+1), Note: l.Created, Bytes: l.Bytes}
		var of []FileSize
		for _, f := range s.Files {
			if f.Layer == i+1 {
				of = append(of, f)
			}
		}
		b.Children = leaves(of, s.Bytes, func(f FileSize) string { return f.Path })
		root.Children = append(root.Children, b)
	}
	return root
}

func byFolder(s *Sizes) *block {
	root := &block{Name: "/", Bytes: s.Bytes}
	at := map[string]*block{"/": root}
	var folder func(string) *block
	folder = func(dir string) *block {
		if b := at[dir]; b != nil {
			return b
		}
		b := &block{Name: path.Base(dir) + "/"}
		at[dir] = b
		above := folder(path.Dir(dir))
		above.Children = append(above.Children, b)
		return b
	}
	of := map[string][]FileSize{}
	for _, f := range s.Files {
		of[path.Dir(f.Path)] = append(of[path.Dir(f.Path)], f)
		for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
			folder(dir).Bytes += f.Bytes
		}
	}
	for dir, files := range of {
		b := folder(dir)
		b.Children = append(b.Children, leaves(files, s.Bytes, func(f FileSize) string { return path.Base(f.Path) })...)
	}
	for _, b := range at {
		slices.SortFunc(b.Children, func(a, b *block) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name)) })
	}
	return root
}

// leaves are files, sorted by size, the small ones as one.
func leaves(files []FileSize, total int64, name func(FileSize) string) []*block {
	var list []*block
	rest, count := int64(0), 0
	for _, f := range files {
		if float64(f.Bytes) < smallest*float64(total) {
			rest += f.Bytes
			count++
			continue
		}
		note := f.Package
		list = append(list, &block{Name: name(f), Note: note, Bytes: f.Bytes})
	}
	if rest > 0 {
		list = append(list, &block{Name: fmt.Sprintf("%d smaller files", count), Bytes: rest})
	}
	return list
}
