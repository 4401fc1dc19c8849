package view

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/rootfs"
)

// Side is one of two images that are compared.
type Side struct {
	Image    *Image
	Contents *Contents
}

// Difference is what is not the same in two images of one platform.
type Difference struct {
	From Total `json:"from"`
	To   Total `json:"to"`
	// Packages, Files, Sonames, Rights and Bill are sorted by name or path. Files are all
	// paths, Rights those of them that have or had setuid, setgid or capabilities.
	Packages []PackageChange `json:"packages,omitempty"`
	Files    []FileChange    `json:"files,omitempty"`
	Sonames  []NameChange    `json:"sonames,omitempty"`
	Rights   []FileChange    `json:"rights,omitempty"`
	Config   []ValueChange   `json:"config,omitempty"`
	Bill     []BillChange    `json:"sbom,omitempty"`
	// Times is how many files differ in their time alone.
	Times int `json:"times,omitempty"`
	// Layers says that the same files lie in other layers, Stored that the layers are the
	// same and compressed in another way. Neither is a difference: what is in the images,
	// and what a container sees, is the same.
	Layers bool `json:"layers,omitempty"`
	Stored bool `json:"stored,omitempty"`
}

// Total is an image in few numbers.
type Total struct {
	Digest   string `json:"digest,omitempty"`
	Packages int    `json:"packages"`
	Files    int    `json:"files"` // paths that are no folders
	Size     int64  `json:"size"`  // of all files, each once, in bytes
	Layers   int    `json:"layers"`
	Pull     int64  `json:"pull"`   // of all layers as they are stored, in bytes
	Shared   int64  `json:"shared"` // of those that the other image has too
}

// What became of something.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// PackageChange is a package that came, went, or has another version, build or size.
type PackageChange struct {
	Name   string   `json:"name"`
	Change string   `json:"change"`
	From   string   `json:"from,omitempty"` // the version
	To     string   `json:"to,omitempty"`
	Sizes  [2]int64 `json:"sizes"` // before and after, in bytes
	// Rebuilt says that it is another build of the same version.
	Rebuilt bool `json:"rebuilt,omitempty"`
}

// FileChange is a path that came, went, or is another one.
type FileChange struct {
	Path   string     `json:"path"`
	Change string     `json:"change"`
	From   *FileState `json:"from,omitempty"`
	To     *FileState `json:"to,omitempty"`
}

// FileState is what a path is.
type FileState struct {
	Type       string   `json:"type"` // "file", "folder", "symbolic link", ...
	Mode       string   `json:"mode"` // e.g. 0755
	UID        int      `json:"uid"`
	GID        int      `json:"gid"`
	Size       int64    `json:"size,omitempty"`
	SHA256     string   `json:"sha256,omitempty"`
	Target     string   `json:"target,omitempty"` // of a link; of a device its numbers
	Links      []string `json:"links,omitempty"`  // the other paths of the same file
	Attributes []string `json:"attributes,omitempty"`
	Package    string   `json:"package,omitempty"`
}

// NameChange is a soname that came or went.
type NameChange struct {
	Name   string   `json:"name"`
	Change string   `json:"change"`
	Paths  []string `json:"paths"`
}

// ValueChange is a value of the configuration or an annotation.
type ValueChange struct {
	Name string `json:"name"` // e.g. "env PATH"
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// BillChange is a component whose licence, package-url, checksum or sources are others,
// besides what the change of its version says.
type BillChange struct {
	Name string     `json:"name"`
	From *Component `json:"from,omitempty"`
	To   *Component `json:"to,omitempty"`
}

// Empty reports whether nothing differs of what is in the images, however it is divided
// into layers.
func (d *Difference) Empty() bool {
	return len(d.Packages)+len(d.Files)+len(d.Sonames)+len(d.Rights)+len(d.Config)+len(d.Bill)+d.Times == 0
}

// Compare tells what differs between two images.
func Compare(a, b Side) *Difference {
	d := &Difference{From: totalOf(a), To: totalOf(b)}
	// A client knows a layer that it has by its digest as it is stored. Archives of docker
	// save tell none.
	stored := !slices.ContainsFunc(slices.Concat(a.Contents.Layers, b.Contents.Layers), func(l Layer) bool { return l.Digest == "" })
	key := func(l Layer) string {
		if stored {
			return l.Digest
		}
		return l.DiffID
	}
	same := func(x, y Layer) bool { return key(x) == key(y) }
	shared := map[string]int64{}
	for _, l := range a.Contents.Layers {
		shared[key(l)] = l.Size
	}
	for _, l := range b.Contents.Layers {
		if size, both := shared[key(l)]; both {
			d.From.Shared += size
			d.To.Shared += l.Size
		}
	}
	d.packages(a.Contents, b.Contents)
	d.files(a.Contents, b.Contents)
	d.sonames(a.Contents, b.Contents)
	d.config(a.Image, b.Image)
	d.bill(a.Contents, b.Contents)
	if len(d.Files) == 0 && d.Times == 0 {
		d.Layers = !slices.EqualFunc(a.Contents.Layers, b.Contents.Layers, func(x, y Layer) bool { return x.DiffID == y.DiffID })
		d.Stored = !d.Layers && !slices.EqualFunc(a.Contents.Layers, b.Contents.Layers, same)
	}
	return d
}

func totalOf(s Side) Total {
	c := s.Contents
	t := Total{Digest: s.Image.Digest, Packages: len(c.Packages), Layers: len(c.Layers)}
	t.Files, t.Size = c.Size()
	for _, l := range c.Layers {
		t.Pull += l.Size
	}
	return t
}

// Size counts the paths that are no folders, and the bytes of all files, each once.
func (c *Contents) Size() (files int, size int64) {
	counted := map[*rootfs.Inode]bool{}
	for n := range c.Tree.All() {
		if n.Mode.IsDir() {
			continue
		}
		files++
		if n.Mode.IsRegular() && !counted[n.Inode] {
			counted[n.Inode] = true
			size += n.Size
		}
	}
	return files, size
}

// keys gives the keys of two maps, sorted.
func keys[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func (d *Difference) packages(a, b *Contents) {
	before, after := map[string]*Package{}, map[string]*Package{}
	for i := range a.Packages {
		before[a.Packages[i].Name] = &a.Packages[i]
	}
	for i := range b.Packages {
		after[b.Packages[i].Name] = &b.Packages[i]
	}
	for _, name := range keys(before, after) {
		p, q := before[name], after[name]
		switch {
		case p == nil:
			d.Packages = append(d.Packages, PackageChange{Name: name, Change: Added, To: q.Version, Sizes: [2]int64{0, q.Size}})
		case q == nil:
			d.Packages = append(d.Packages, PackageChange{Name: name, Change: Removed, From: p.Version, Sizes: [2]int64{p.Size, 0}})
		case p.Version != q.Version || p.Checksum != q.Checksum:
			d.Packages = append(d.Packages, PackageChange{Name: name, Change: Changed, From: p.Version, To: q.Version, Sizes: [2]int64{p.Size, q.Size}, Rebuilt: p.Version == q.Version})
		}
	}
}

// links gives the paths of each inode that has several.
func links(t *rootfs.Tree) map[*rootfs.Inode][]string {
	all := map[*rootfs.Inode][]string{}
	for n := range t.All() {
		if n.Mode.IsRegular() {
			all[n.Inode] = append(all[n.Inode], n.Path)
		}
	}
	maps.DeleteFunc(all, func(_ *rootfs.Inode, paths []string) bool { return len(paths) == 1 })
	return all
}

func state(n *rootfs.Node, links map[*rootfs.Inode][]string) *FileState {
	s := &FileState{Type: rootfs.Kind(n.Mode), Mode: fmt.Sprintf("%04o", rootfs.UnixMode(n.Mode)), UID: n.UID, GID: n.GID, SHA256: n.Sum, Target: n.Target, Package: n.Owner}
	if n.Mode.IsRegular() {
		s.Size = n.Size
		for _, p := range links[n.Inode] {
			if p != n.Path {
				s.Links = append(s.Links, p)
			}
		}
	}
	if n.Mode&fs.ModeDevice != 0 {
		s.Target = fmt.Sprintf("%d:%d", n.Major, n.Minor)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
		s.Attributes = append(s.Attributes, name+"="+strconv.Quote(n.Xattrs[name]))
	}
	return s
}

// StateOf is what a path is.
func StateOf(t *rootfs.Tree, n *rootfs.Node) *FileState { return state(n, links(t)) }

// GivesRights reports whether a path gives rights to whoever runs it.
func GivesRights(n *rootfs.Node) bool {
	_, capable := n.Xattrs["security.capability"]
	return n.Mode.IsRegular() && (capable || n.Mode&(fs.ModeSetuid|fs.ModeSetgid) != 0)
}

func (d *Difference) files(a, b *Contents) {
	before, after := map[string]*rootfs.Node{}, map[string]*rootfs.Node{}
	for n := range a.Tree.All() {
		before[n.Path] = n
	}
	for n := range b.Tree.All() {
		after[n.Path] = n
	}
	linksBefore, linksAfter := links(a.Tree), links(b.Tree)
	for _, p := range keys(before, after) {
		n, m := before[p], after[p]
		c := FileChange{Path: p, Change: Changed}
		if n != nil {
			c.From = state(n, linksBefore)
		} else {
			c.Change = Added
		}
		if m != nil {
			c.To = state(m, linksAfter)
		} else {
			c.Change = Removed
		}
		if c.Change == Changed && same(c.From, c.To) {
			if !n.Mode.IsDir() && n.ModTime != m.ModTime {
				d.Times++
			}
			continue
		}
		d.Files = append(d.Files, c)
		if n != nil && GivesRights(n) || m != nil && GivesRights(m) {
			d.Rights = append(d.Rights, c)
		}
	}
}

func same(a, b *FileState) bool {
	x, y := *a, *b
	x.Links, y.Links, x.Attributes, y.Attributes = nil, nil, nil, nil
	return x.equal(y) && slices.Equal(a.Links, b.Links) && slices.Equal(a.Attributes, b.Attributes)
}

// equal compares all that is no list.
func (s FileState) equal(o FileState) bool {
	return s.Type == o.Type && s.Mode == o.Mode && s.UID == o.UID && s.GID == o.GID && s.Size == o.Size && s.SHA256 == o.SHA256 && s.Target == o.Target && !s.moved(o)
}

// moved reports whether another package has the path. Folders are of several packages,
// and what composers make is of one that bears the image's name.
func (s FileState) moved(o FileState) bool {
	return s.Package != o.Package && s.Type != "folder" && !(images.IsOwnPackage(s.Package) && images.IsOwnPackage(o.Package))
}

// What says in words what of a path changed.
func (c *FileChange) What() []string {
	a, b := c.From, c.To
	if a == nil || b == nil {
		return nil
	}
	var all []string
	add := func(name, from, to string) {
		if from != to {
			all = append(all, fmt.Sprintf("%s %s -> %s", name, cmp.Or(from, "none"), cmp.Or(to, "none")))
		}
	}
	add("type", a.Type, b.Type)
	add("mode", a.Mode, b.Mode)
	add("owner", fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID))
	add("target", a.Target, b.Target)
	if a.Type == b.Type && a.SHA256 != b.SHA256 {
		all = append(all, fmt.Sprintf("content %d -> %d bytes", a.Size, b.Size))
	}
	add("hard links", strings.Join(a.Links, " "), strings.Join(b.Links, " "))
	add("attributes", strings.Join(a.Attributes, " "), strings.Join(b.Attributes, " "))
	if a.moved(*b) {
		add("package", a.Package, b.Package)
	}
	return all
}

// Sonames gives the shared libraries of the image: paths by soname.
func (c *Contents) Sonames() map[string][]string {
	all := map[string][]string{}
	for p, f := range c.Files {
		if f.Soname != "" {
			all[f.Soname] = append(all[f.Soname], p)
		}
	}
	for _, paths := range all {
		slices.Sort(paths)
	}
	return all
}

func (d *Difference) sonames(a, b *Contents) {
	before, after := a.Sonames(), b.Sonames()
	for _, name := range keys(before, after) {
		switch {
		case before[name] == nil:
			d.Sonames = append(d.Sonames, NameChange{name, Added, after[name]})
		case after[name] == nil:
			d.Sonames = append(d.Sonames, NameChange{name, Removed, before[name]})
		}
	}
}

// values are the parts of a configuration that count, by name.
func (i *Image) values() map[string]string {
	all := map[string]string{}
	list := func(name string, values []string) {
		if len(values) > 0 {
			text, err := json.Marshal(values)
			if err != nil {
				panic("internal error: strings as JSON: " + err.Error())
			}
			all[name] = string(text)
		}
	}
	set := func(name, value string) {
		if value != "" {
			all[name] = value
		}
	}
	c := &i.Config.Config
	list("entrypoint", c.Entrypoint)
	list("cmd", c.Cmd)
	list("shell", c.Shell)
	list("onbuild", c.OnBuild)
	list("ports", slices.Sorted(maps.Keys(c.ExposedPorts)))
	list("volumes", slices.Sorted(maps.Keys(c.Volumes)))
	set("user", c.User)
	set("work-dir", c.WorkingDir)
	set("stop-signal", c.StopSignal)
	set("platform", i.Config.Platform().String())
	if !i.Config.Created.IsZero() {
		set("created", i.Config.Created.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if c.Healthcheck != nil {
		list("health check", c.Healthcheck.Test)
	}
	for _, e := range c.Env {
		name, value, _ := strings.Cut(e, "=")
		all["env "+name] = value
	}
	for name, value := range c.Labels {
		all["label "+name] = value
	}
	return all
}

func (d *Difference) config(a, b *Image) {
	compare := func(x, y map[string]string) {
		for _, name := range keys(x, y) {
			_, before := x[name]
			_, after := y[name]
			if x[name] != y[name] || before != after {
				d.Config = append(d.Config, ValueChange{name, x[name], y[name]})
			}
		}
	}
	compare(a.values(), b.values())
	// An archive of docker save has no manifest that could have annotations.
	if a.RawManifest != nil && b.RawManifest != nil && !bytes.Equal(a.RawManifest, b.RawManifest) {
		annotations := func(i *Image) map[string]string {
			all := map[string]string{}
			for name, value := range i.Manifest.Annotations {
				all["annotation "+name] = value
			}
			return all
		}
		compare(annotations(a), annotations(b))
	}
}

func (d *Difference) bill(a, b *Contents) {
	before, after := map[string]*Component{}, map[string]*Component{}
	for _, c := range a.Bill() {
		before[c.Name] = &c
	}
	for _, c := range b.Bill() {
		after[c.Name] = &c
	}
	for _, name := range keys(before, after) {
		x, y := before[name], after[name]
		if x == nil || y == nil || x.License != y.License || x.PURL != y.PURL || x.Checksum != y.Checksum || !slices.Equal(x.Sources, y.Sources) {
			d.Bill = append(d.Bill, BillChange{name, x, y})
		}
	}
}
