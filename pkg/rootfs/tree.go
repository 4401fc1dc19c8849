package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
)

// Content is where the bytes of a file can be read.
type Content interface {
	Open() (io.ReadCloser, error)
}

// Bytes is content that lies in memory.
type Bytes []byte

// Open gives the bytes from their beginning.
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }

// Inode is what a path leads to. Paths that are hard links of each other share one.
type Inode struct {
	// Mode has the type, the permissions and setuid, setgid and sticky, as package io/fs has them.
	Mode         fs.FileMode
	UID, GID     int
	ModTime      int64 // Unix seconds
	Size         int64 // of a regular file
	Target       string
	Major, Minor int64             // of a device
	Xattrs       map[string]string // raw values by full name, e.g. security.capability
	// Sum names the content of a regular file: files of one sum are the same. All
	// entries of a tree use the same digest, e.g. SHA-256 in hexadecimal.
	Sum     string
	Content Content // of a regular file; nil where nobody will read it
	shared  bool    // several paths lead here
}

// Node is one path of a tree.
type Node struct {
	Path string // below the root, clean, without a leading slash
	// Owner is the package that brought it, "" for what was made by the composer.
	Owner string
	*Inode
	// source is how the owner calls the path; symbolic links in it may have led elsewhere.
	source string
	// original is what the owner installed where that was changed since.
	original *Inode
	// implied says that no package brought this folder: something stands below it.
	implied bool
}

// Changed reports whether the node is not what its package brought.
func (n *Node) Changed() bool { return n.Owner == "" || n.original != nil }

// Tree is a root file system. Its zero value is not ready; New makes one.
type Tree struct {
	// Epoch is the modification time of all that is not from a package, in Unix seconds.
	Epoch int64

	nodes   map[string]*Node
	sorted  []*Node // by path, without those that were added since
	added   []*Node
	places  map[string]string   // folders by the path that was asked for: where symbolic links lead
	origins map[string]*Package // by name
}

// New makes an empty tree.
func New() *Tree {
	return &Tree{nodes: map[string]*Node{}, places: map[string]string{}, origins: map[string]*Package{}}
}

// maxLinks is how many symbolic links one path may lead through, as in Linux.
const maxLinks = 40

var errLoop = errors.New("too many symbolic links")

// All gives every node but the root itself, sorted by path: a folder comes before what is in it.
func (t *Tree) All() iter.Seq[*Node] { return slices.Values(t.all()) }

// all is every node, sorted by path; it stays as it is when nodes are added.
func (t *Tree) all() []*Node {
	if len(t.added) == 0 {
		return t.sorted
	}
	slices.SortFunc(t.added, byPath)
	before, added := t.sorted, t.added
	t.sorted, t.added = make([]*Node, 0, len(t.nodes)), nil
	for len(before) > 0 && len(added) > 0 {
		from := &before
		if byPath(added[0], before[0]) < 0 {
			from = &added
		}
		t.sorted = append(t.sorted, (*from)[0])
		*from = (*from)[1:]
	}
	t.sorted = append(append(t.sorted, before...), added...)
	return t.sorted
}

func byPath(a, b *Node) int { return strings.Compare(a.Path, b.Path) }

// add stands a node where none is.
func (t *Tree) add(n *Node) {
	t.nodes[n.Path] = n
	t.added = append(t.added, n)
}

// Len is the number of nodes.
func (t *Tree) Len() int { return len(t.nodes) }

// cleanPath is p below the root, without a leading slash; "" is the root.
func cleanPath(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

// Lstat gives the node at p; symbolic links in its folders are followed, p itself is not.
func (t *Tree) Lstat(p string) (*Node, bool) {
	place, err := t.place(cleanPath(p))
	if err != nil {
		return nil, false
	}
	n, found := t.nodes[place]
	return n, found
}

// Stat gives the node that p leads to, symbolic links followed.
func (t *Tree) Stat(p string) (*Node, bool) {
	place, err := t.follow(cleanPath(p))
	if err != nil {
		return nil, false
	}
	n, found := t.nodes[place]
	return n, found
}

// place is p with the symbolic links of its folders followed; p's last element is kept.
func (t *Tree) place(p string) (string, error) {
	dir, base := path.Split(p)
	if dir == "" {
		return p, nil
	}
	dir = dir[:len(dir)-1]
	if to, found := t.places[dir]; found {
		return join(to, base), nil
	}
	to, err := t.follow(dir)
	if err != nil {
		return "", err
	}
	if n, found := t.nodes[to]; to == "" || found && n.Mode.IsDir() {
		t.places[dir] = to
	}
	return join(to, base), nil
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}

// follow is p with all symbolic links followed. What does not exist is taken as it
// stands. ".." never leads above the root.
func (t *Tree) follow(p string) (string, error) {
	rest := strings.Split(p, "/")
	at := ""
	for links := 0; len(rest) > 0; {
		element := rest[0]
		rest = rest[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			if i := strings.LastIndexByte(at, '/'); i >= 0 {
				at = at[:i]
			} else {
				at = ""
			}
			continue
		}
		next := join(at, element)
		n, found := t.nodes[next]
		if !found || n.Mode.Type() != fs.ModeSymlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: %w", p, errLoop)
		}
		if strings.HasPrefix(n.Target, "/") {
			at = ""
		}
		rest = append(strings.Split(n.Target, "/"), rest...)
	}
	return at, nil
}

// Adopt gives what no package brought to one that the composer makes for it.
func (n *Node) Adopt(owner string) {
	if n.Owner == "" {
		n.Owner, n.source, n.implied = owner, n.Path, false
	}
}

// Edits of the tree after packages were installed. The layer of a package keeps
// what the package brought; what is edited stands above it.

// edit gives the inode of n to be changed. Hard links of n change with it.
func (t *Tree) edit(n *Node) *Inode {
	links := []*Node{n}
	if n.shared {
		links = nil
		for _, other := range t.nodes {
			if other.Inode == n.Inode {
				links = append(links, other)
			}
		}
	}
	before := n.Inode
	if !slices.ContainsFunc(links, (*Node).pristine) {
		return before
	}
	changed := *before
	changed.Xattrs = maps.Clone(before.Xattrs)
	for _, link := range links {
		if link.pristine() {
			link.original = before
		}
		link.Inode = &changed
	}
	return &changed
}

// pristine reports whether the node is as its package brought it.
func (n *Node) pristine() bool { return !n.Changed() }

// put stands an inode at p and makes missing folders. What a package has there
// stays the package's.
func (t *Tree) put(p string, inode *Inode) error {
	place, err := t.prepare(p)
	if err != nil {
		return err
	}
	if n, found := t.nodes[place]; found {
		if n.Mode.IsDir() != inode.Mode.IsDir() {
			return fmt.Errorf("%s: it is a %s already", p, Kind(n.Mode))
		}
		if n.Mode.Type() == fs.ModeSymlink || inode.Mode.Type() == fs.ModeSymlink {
			clear(t.places)
		}
		if n.pristine() {
			n.original = n.Inode
		}
		n.Inode, n.implied = inode, false
		return nil
	}
	t.add(&Node{Path: place, Inode: inode})
	return nil
}

// prepare finds where p stands and makes the folders above it.
func (t *Tree) prepare(p string) (string, error) {
	clean := cleanPath(p)
	if clean == "" {
		return "", fmt.Errorf("%q is the root itself", p)
	}
	place, err := t.place(clean)
	if err != nil {
		return "", err
	}
	return place, t.makeParents(place, "")
}

// makeParents makes the folders above a place that are missing.
func (t *Tree) makeParents(place, owner string) error {
	dir := path.Dir(place)
	if dir == "." {
		return nil
	}
	if n, found := t.nodes[dir]; found {
		if !n.Mode.IsDir() {
			return fmt.Errorf("%s: /%s is a %s, not a folder", place, dir, Kind(n.Mode))
		}
		return nil
	}
	if err := t.makeParents(dir, owner); err != nil {
		return err
	}
	t.add(&Node{Path: dir, Owner: owner, source: dir, implied: true, Inode: &Inode{Mode: fs.ModeDir | 0o755}})
	return nil
}

// WriteFile makes a regular file, or gives one new content. What is not known of
// the file is 0 and root's; an existing file keeps its owner and, if mode is 0, its mode.
func (t *Tree) WriteFile(p string, data []byte, mode fs.FileMode) error {
	if n, found := t.Stat(p); found {
		if !n.Mode.IsRegular() {
			return fmt.Errorf("write /%s: it is a %s", n.Path, Kind(n.Mode))
		}
		inode := t.edit(n)
		if mode != 0 {
			inode.Mode = mode
		}
		t.fill(inode, data)
		return nil
	}
	if mode == 0 {
		mode = 0o644
	}
	inode := &Inode{Mode: mode}
	t.fill(inode, data)
	return t.put(p, inode)
}

func (t *Tree) fill(inode *Inode, data []byte) {
	inode.Size, inode.Sum, inode.Content, inode.ModTime = int64(len(data)), sum(data), Bytes(data), t.Epoch
	// Capabilities were given to other bytes.
	delete(inode.Xattrs, "security.capability")
}

// maxReadFile is the longest file that ReadFile gives. Those that the composer
// reads (accounts, lists, certificates) are far below it.
const maxReadFile = 64 << 20

// ReadFile gives the content of a regular file, symbolic links followed.
func (t *Tree) ReadFile(p string) ([]byte, error) {
	n, found := t.Stat(p)
	if !found {
		return nil, fmt.Errorf("read /%s: %w", cleanPath(p), fs.ErrNotExist)
	}
	if !n.Mode.IsRegular() {
		return nil, fmt.Errorf("read /%s: it is a %s", n.Path, Kind(n.Mode))
	}
	if n.Size > maxReadFile {
		return nil, fmt.Errorf("read /%s: %d bytes are more than the %d that are allowed here", n.Path, n.Size, maxReadFile)
	}
	if n.Content == nil {
		return nil, fmt.Errorf("read /%s: its content is not at hand", n.Path)
	}
	r, err := n.Content.Open()
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", n.Path, err)
	}
	defer r.Close()
	data := make([]byte, n.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read /%s: %w", n.Path, err)
	}
	return data, nil
}

// Mkdir makes a folder, or leaves one that is there as it is.
func (t *Tree) Mkdir(p string, mode fs.FileMode, uid, gid int) error {
	if n, found := t.Stat(p); found {
		if !n.Mode.IsDir() {
			return fmt.Errorf("make folder /%s: it is a %s", n.Path, Kind(n.Mode))
		}
		if n.implied {
			n.implied = false
			inode := t.edit(n)
			inode.Mode, inode.UID, inode.GID = fs.ModeDir|mode, uid, gid
		}
		return nil
	}
	if err := t.put(p, &Inode{Mode: fs.ModeDir | mode, UID: uid, GID: gid}); err != nil {
		return fmt.Errorf("make folder %w", err)
	}
	return nil
}

// Symlink makes a symbolic link; what is there already, unless it is the same link, is an error.
func (t *Tree) Symlink(target, p string) error {
	if n, found := t.Lstat(p); found {
		if n.Mode.Type() == fs.ModeSymlink && n.Target == target {
			return nil
		}
		return fmt.Errorf("make symbolic link /%s: it is a %s already", n.Path, Kind(n.Mode))
	}
	if err := t.put(p, &Inode{Mode: fs.ModeSymlink | 0o777, Target: target, ModTime: t.Epoch}); err != nil {
		return fmt.Errorf("make symbolic link %w", err)
	}
	return nil
}

// Relink is Symlink in the place of a file or link that may be there already.
func (t *Tree) Relink(target, p string) error {
	if n, found := t.Lstat(p); found && n.Mode.Type() == fs.ModeSymlink && n.Target == target {
		return nil
	}
	if err := t.put(p, &Inode{Mode: fs.ModeSymlink | 0o777, Target: target, ModTime: t.Epoch}); err != nil {
		return fmt.Errorf("make symbolic link %w", err)
	}
	return nil
}

// Link makes p a hard link of the regular file at old, in the place of a file that may be there.
func (t *Tree) Link(old, p string) error {
	n, found := t.Stat(old)
	if !found {
		return fmt.Errorf("link /%s to /%s: %w", cleanPath(p), cleanPath(old), fs.ErrNotExist)
	}
	if !n.Mode.IsRegular() {
		return fmt.Errorf("link /%s to /%s: that is a %s", cleanPath(p), n.Path, Kind(n.Mode))
	}
	if there, found := t.Lstat(p); found && there.Inode == n.Inode {
		return nil
	}
	// Both stand where edits stand: a hard link does not reach from one layer into another.
	inode := t.edit(n)
	inode.shared = true
	if err := t.put(p, inode); err != nil {
		return fmt.Errorf("link %w", err)
	}
	return nil
}

// Device makes a character device. It is metadata only: nothing is made on the host.
func (t *Tree) Device(p string, mode fs.FileMode, major, minor int64) error {
	if _, found := t.Lstat(p); found {
		return nil
	}
	inode := &Inode{Mode: fs.ModeDevice | fs.ModeCharDevice | mode, Major: major, Minor: minor, ModTime: t.Epoch}
	if err := t.put(p, inode); err != nil {
		return fmt.Errorf("make device %w", err)
	}
	return nil
}

// Chmod gives what stands at p, symbolic links followed, other permissions.
func (t *Tree) Chmod(p string, mode fs.FileMode) error {
	n, found := t.Stat(p)
	if !found {
		return fmt.Errorf("change mode of /%s: %w", cleanPath(p), fs.ErrNotExist)
	}
	if n.Mode == n.Mode.Type()|mode {
		return nil
	}
	t.edit(n).Mode = n.Mode.Type() | mode
	return nil
}

// Chown gives what stands at p to another user and group; a symbolic link itself is given, not its target.
func (t *Tree) Chown(p string, uid, gid int) error {
	n, found := t.Lstat(p)
	if !found {
		return fmt.Errorf("change owner of /%s: %w", cleanPath(p), fs.ErrNotExist)
	}
	if n.UID == uid && n.GID == gid {
		return nil
	}
	inode := t.edit(n)
	inode.UID, inode.GID = uid, gid
	return nil
}

// Kind says what a mode is in words: "file", "folder", "symbolic link", ...
func Kind(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "folder"
	case fs.ModeSymlink:
		return "symbolic link"
	case fs.ModeNamedPipe:
		return "named pipe"
	case fs.ModeSocket:
		return "socket"
	}
	return "device"
}

// Of makes a tree of paths that stand already, as they are in an image that was read:
// nothing is followed or added. Paths of one inode are hard links of each other.
func Of(paths map[string]*Inode) *Tree {
	t := New()
	seen := make(map[*Inode]bool, len(paths))
	for p, inode := range paths {
		if seen[inode] {
			inode.shared = true
		}
		seen[inode] = true
		t.add(&Node{Path: p, source: p, Inode: inode})
	}
	return t
}
