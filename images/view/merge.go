package view

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/tarn-build/tarn/pkg/rootfs"
)

const (
	// maxLinks is how many symbolic links one path may lead through, as in Linux.
	maxLinks = 40
	// maxSteps is how many elements of paths all of an image may take to resolve. An
	// image of a million files takes a tenth of it.
	maxSteps = 100_000_000
)

// node is a path of the merged tree.
type node struct {
	inode    *rootfs.Inode
	file     *File
	layer    int // that brought it, from 0
	children map[string]*node
}

// merger lays layers over each other as a container's runtime does: in each layer, first
// what lower layers have and it removes goes, then what it has comes. Folders of a path
// may be symbolic links, and then lead to where those lead, always below the root.
type merger struct {
	root  *node
	limit int // of nodes
	nodes int
	steps int
}

func newMerger(limit int) *merger {
	return &merger{root: newFolder(-1), limit: limit}
}

// newFolder is a folder that no layer has an entry for.
func newFolder(layer int) *node {
	return &node{inode: &rootfs.Inode{Mode: fs.ModeDir | 0o755}, layer: layer, children: map[string]*node{}}
}

func (m *merger) add(l *readLayer, layer int) error {
	refuse := func(name, format string, args ...any) error {
		return &RefusedError{Layer: layer + 1, Entry: name, Why: fmt.Sprintf(format, args...)}
	}
	for _, removed := range l.removed {
		dir, base := path.Split(removed)
		parent, err := m.folder(strings.TrimSuffix(dir, "/"), -1)
		if err != nil {
			return refuse(removed, "%v", err)
		}
		if parent != nil {
			delete(parent.children, base)
		}
	}
	for _, opaque := range l.opaque {
		dir, err := m.folder(opaque, -1)
		if err != nil {
			return refuse(opaque, "%v", err)
		}
		if dir != nil {
			clear(dir.children)
		}
	}
	for i := range l.entries {
		e := &l.entries[i]
		if e.path == "" {
			m.root.inode = e.inode
			continue
		}
		dir, base := path.Split(e.path)
		parent, err := m.folder(strings.TrimSuffix(dir, "/"), layer)
		if err != nil {
			return refuse(e.path, "%v", err)
		}
		n := &node{inode: e.inode, file: e.file, layer: layer}
		if e.hardlink != "" {
			target, err := m.at(e.hardlink)
			if err != nil {
				return refuse(e.path, "%v", err)
			}
			if target == nil || target.inode.Mode.IsDir() {
				return refuse(e.path, "it is a hard link to /%s, which is no file", e.hardlink)
			}
			n.inode, n.file = target.inode, target.file
		}
		if e.inode.Mode.IsDir() && e.hardlink == "" {
			n.children = map[string]*node{}
			if old := parent.children[base]; old != nil && old.children != nil {
				n.children = old.children
			}
		}
		if parent.children[base] == nil {
			if m.nodes++; m.nodes > m.limit {
				return refuse(e.path, "the image has more than %d paths", m.limit)
			}
		}
		parent.children[base] = n
	}
	return nil
}

// folder finds a folder, and makes it where it is missing and a layer is given. Without
// one, nil says that it is missing.
func (m *merger) folder(p string, layer int) (*node, error) {
	at := []*node{m.root}
	rest := elements(p)
	for links := 0; len(rest) > 0; {
		if m.steps++; m.steps > maxSteps {
			return nil, fmt.Errorf("the image's paths and links lead through more than %d folders", maxSteps)
		}
		element := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		switch element {
		case "", ".":
			continue
		case "..":
			if len(at) > 1 {
				at = at[:len(at)-1]
			}
			continue
		}
		parent := at[len(at)-1]
		n := parent.children[element]
		switch {
		case n == nil && layer < 0:
			return nil, nil
		case n == nil:
			if m.nodes++; m.nodes > m.limit {
				return nil, fmt.Errorf("the image has more than %d paths", m.limit)
			}
			n = newFolder(layer)
			parent.children[element] = n
		case n.inode.Mode.Type() == fs.ModeSymlink:
			if links++; links > maxLinks {
				return nil, fmt.Errorf("more than %d symbolic links", maxLinks)
			}
			if strings.HasPrefix(n.inode.Target, "/") {
				at = at[:1]
			}
			rest = append(rest, elements(n.inode.Target)...)
			continue
		case !n.inode.Mode.IsDir():
			if layer < 0 {
				return nil, nil
			}
			return nil, fmt.Errorf("%s in its path is a %s", element, rootfs.Kind(n.inode.Mode))
		}
		at = append(at, n)
	}
	return at[len(at)-1], nil
}

// elements are those of a path, the first one last.
func elements(p string) []string {
	all := strings.Split(p, "/")
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all
}

// at finds a path, whose last element is not followed, or nil.
func (m *merger) at(p string) (*node, error) {
	dir, base := path.Split(p)
	parent, err := m.folder(strings.TrimSuffix(dir, "/"), -1)
	if err != nil || parent == nil {
		return nil, err
	}
	return parent.children[base], nil
}

// flatten gives all paths. Their text is held against a limit: a chain of folders has as
// much of it as the square of its length.
func (m *merger) flatten(limit int64) (map[string]*node, error) {
	all := make(map[string]*node, m.nodes)
	var text int64
	type place struct {
		path string
		node *node
	}
	queue := []place{{"", m.root}}
	for len(queue) > 0 {
		p := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for name, n := range p.node.children {
			full := name
			if p.path != "" {
				full = p.path + "/" + name
			}
			if len(full) > maxName {
				return nil, &RefusedError{Entry: full, Why: "the path is longer than Linux takes"}
			}
			if text += int64(len(full)); text > limit {
				return nil, &RefusedError{Why: fmt.Sprintf("its paths have more than %d bytes", limit)}
			}
			all[full] = n
			if n.children != nil {
				queue = append(queue, place{full, n})
			}
		}
	}
	return all, nil
}
