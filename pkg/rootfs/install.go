package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Entry is one path as a package brings it.
type Entry struct {
	Path string // below the root, clean, without a leading slash
	Inode
	// Hardlink is the path of an earlier regular file of the same package that this one is.
	Hardlink string
}

// Package is what a package brings.
type Package struct {
	Info    *apk.Info
	Entries []Entry // a folder before what is in it
}

// Conflict is one path that two packages have, and neither may replace the other's.
type Conflict struct {
	Path          string
	First, Second string // name and version; the second was to be installed over the first
	FirstKind     string // "file", "folder", ...
	SecondKind    string
}

func (c Conflict) Error() string {
	if c.FirstKind != c.SecondKind {
		return fmt.Sprintf("/%s: %s brings a %s, %s brings a %s", c.Path, c.First, c.FirstKind, c.Second, c.SecondKind)
	}
	return fmt.Sprintf("/%s: %s and %s both bring it, with different content", c.Path, c.First, c.Second)
}

// ConflictError is all paths that packages collide at.
type ConflictError []Conflict

// shownConflicts is how many paths one message lists.
const shownConflicts = 20

func (e ConflictError) Error() string {
	var lines []string
	for _, c := range e {
		if line := c.Error(); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	var b strings.Builder
	if len(lines) > 1 {
		fmt.Fprintf(&b, "packages collide at %d paths:\n  ", len(lines))
	}
	if rest := len(lines) - shownConflicts; rest > 0 {
		lines = append(lines[:shownConflicts], fmt.Sprintf("and %d more paths", rest))
	}
	b.WriteString(strings.Join(lines, "\n  ") + "\n")
	b.WriteString("  hint: leave one of the packages out, or let one declare that it replaces the other")
	return b.String()
}

// Conflicts installs the packages, in order, in a tree of their own and gives the
// *ConflictError, or what else is wrong with their paths. It needs no content: entries
// without Content do.
func Conflicts(packages []*Package) (*Tree, error) {
	t := New()
	var all ConflictError
	for _, p := range packages {
		err := t.Install(p)
		if conflicts, ok := errors.AsType[ConflictError](err); ok {
			all = append(all, conflicts...)
		} else if err != nil {
			return nil, err
		}
	}
	if len(all) > 0 {
		return nil, all
	}
	return t, nil
}

// Install puts a package's files into the tree, by apk's rules: a package of the same
// origin, or one that declares to replace the other, takes over the file; of a path that
// others bring with the same content too, the first keeps it; mode and owner of a folder
// are those of one of the packages, whatever their order; and a folder may come to stand on a symbolic link that leads to a folder: what is in it
// then goes there. All else is a ConflictError, which names every path.
func (t *Tree) Install(p *Package) error {
	if _, twice := t.origins[p.Info.Name]; twice {
		return fmt.Errorf("%s: a package of this name is installed already", p.Info.FullName())
	}
	t.origins[p.Info.Name] = p
	var conflicts ConflictError
	brought := make(map[string]*Inode, len(p.Entries))
	for i := range p.Entries {
		e := &p.Entries[i]
		if err := checkEntry(e); err != nil {
			return fmt.Errorf("%s: %v", p.Info.FullName(), err)
		}
		if brought[e.Path] != nil && !(e.Mode.IsDir() && brought[e.Path].Mode.IsDir()) {
			return fmt.Errorf("%s: /%s stands in it twice", p.Info.FullName(), e.Path)
		}
		inode := &e.Inode
		if e.Hardlink != "" {
			if inode = brought[e.Hardlink]; inode == nil || !inode.Mode.IsRegular() {
				return fmt.Errorf("%s: /%s is a hard link to %q, which is no earlier file of the package", p.Info.FullName(), e.Path, e.Hardlink)
			}
			inode.shared = true
		}
		brought[e.Path] = inode
		conflict, err := t.installAt(p.Info, e, inode)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Info.FullName(), err)
		}
		if conflict != nil {
			conflicts = append(conflicts, *conflict)
		}
	}
	if len(conflicts) > 0 {
		return conflicts
	}
	return nil
}

// checkEntry refuses what no honest package has. The tree would stay within itself
// anyhow; who reads its archive later may be less careful.
func checkEntry(e *Entry) error {
	if e.Path == "" || e.Path == "." || !fs.ValidPath(e.Path) || strings.ContainsAny(e.Path, "\x00\n\r") {
		return fmt.Errorf("path %q is not a plain path below the root", e.Path)
	}
	switch e.Mode.Type() {
	case 0, fs.ModeDir, fs.ModeNamedPipe, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
	case fs.ModeSymlink:
		if e.Target == "" || strings.ContainsRune(e.Target, 0) {
			return fmt.Errorf("/%s: target %q of a symbolic link", e.Path, e.Target)
		}
	default:
		return fmt.Errorf("/%s: a %s cannot be installed", e.Path, Kind(e.Mode))
	}
	if e.UID < 0 || e.GID < 0 {
		return fmt.Errorf("/%s: owner %d:%d", e.Path, e.UID, e.GID)
	}
	return nil
}

// installAt stands one entry in the tree.
func (t *Tree) installAt(info *apk.Info, e *Entry, inode *Inode) (*Conflict, error) {
	place, err := t.place(e.Path)
	if err != nil {
		return nil, err
	}
	dir := path.Dir(place)
	for dir != "." {
		if n, found := t.nodes[dir]; found {
			if !n.Mode.IsDir() {
				return t.conflict(n, info, "folder"), nil
			}
			break
		}
		dir = path.Dir(dir)
	}
	if err := t.makeParents(place, info.Name); err != nil {
		return nil, err
	}
	old, found := t.nodes[place]
	if found && inode.Mode.IsDir() && old.Mode.Type() == fs.ModeSymlink {
		// A folder onto a link that leads to a folder: it is that folder.
		if to, err := t.follow(place); err != nil {
			return nil, err
		} else if target, there := t.nodes[to]; there && target.Mode.IsDir() || to == "" {
			return nil, nil
		}
		return t.conflict(old, info, "folder"), nil
	}
	if !found {
		t.add(&Node{Path: place, Owner: info.Name, Inode: inode, source: e.Path})
		return nil, nil
	}
	if old.Mode.IsDir() && inode.Mode.IsDir() {
		if old.implied || takesFolder(t.origins[old.Owner], info) {
			old.Inode, old.Owner, old.source, old.implied = inode, info.Name, e.Path, false
		}
		return nil, nil
	}
	if old.Mode.IsDir() || inode.Mode.IsDir() {
		return t.conflict(old, info, Kind(inode.Mode)), nil
	}
	switch t.wins(old, info) {
	case keepFirst:
		return nil, nil
	case nobody:
		if same(old.Inode, inode) {
			return nil, nil // apk would refuse it; apko does not, and nothing is lost
		}
		return t.conflict(old, info, Kind(inode.Mode)), nil
	}
	if old.Mode.Type() == fs.ModeSymlink || inode.Mode.Type() == fs.ModeSymlink {
		clear(t.places)
	}
	old.Inode, old.Owner, old.source = inode, info.Name, e.Path
	return nil, nil
}

func (t *Tree) conflict(old *Node, second *apk.Info, kind string) *Conflict {
	first := old.Owner
	if p := t.origins[old.Owner]; p != nil {
		first = p.Info.FullName()
	}
	return &Conflict{Path: old.Path, First: first, Second: second.FullName(), FirstKind: Kind(old.Mode), SecondKind: kind}
}

// same reports whether two paths that are not folders have the same content.
func same(a, b *Inode) bool {
	if a.Mode.Type() != b.Mode.Type() {
		return false
	}
	switch a.Mode.Type() {
	case 0:
		return a.Size == b.Size && a.Sum == b.Sum && a.Sum != ""
	case fs.ModeSymlink:
		return a.Target == b.Target
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		return a.Major == b.Major && a.Minor == b.Minor
	}
	return true
}

type winner uint8

const (
	nobody winner = iota
	keepFirst
	takeSecond
)

// wins says whose a path is that two packages bring (apk_pkg_replaces_file of
// apk-tools 3.0): whoever replaces the other, and if both do, the one of higher
// priority, of equal ones the second; else of one origin the second.
func (t *Tree) wins(old *Node, second *apk.Info) winner {
	p := t.origins[old.Owner]
	if p == nil {
		return nobody
	}
	first := p.Info
	keeps, takes := replaces(first, second), replaces(second, first)
	switch {
	case keeps && (!takes || first.ReplacesPriority > second.ReplacesPriority):
		return keepFirst
	case takes, first.Origin != "" && first.Origin == second.Origin:
		return takeSecond
	}
	return nobody
}

// takesFolder says whether mode and owner of a folder that two packages bring are the
// second one's (apk_pkg_replaces_dir of apk-tools 3.0): of the one that replaces with
// more priority, else of the main package of their common origin, else of the one whose
// name comes first. So they do not depend on the order of installation.
func takesFolder(first *Package, second *apk.Info) bool {
	if first == nil {
		return false
	}
	a, b := first.Info, second
	if a.ReplacesPriority != b.ReplacesPriority {
		return b.ReplacesPriority > a.ReplacesPriority
	}
	if a.Origin != "" && a.Origin == b.Origin && (a.Name == a.Origin || b.Name == b.Origin) {
		return a.Name != a.Origin
	}
	return b.Name < a.Name
}

// replaces reports whether a may take over files of b.
func replaces(a, b *apk.Info) bool {
	for _, d := range a.Replaces {
		if d.Name == b.Name && d.Matches(b.Version) {
			return true
		}
	}
	return false
}

// Deviation is a path that does not stand in the tree as its package brings it.
type Deviation struct {
	Path string // as the package calls it
	// To is where it stands instead, because a folder of it is a symbolic link.
	To string
	// Lost says that another package's file stands there.
	Lost bool
}

// Deviations lists what of a package is not at its place, or not its own, in the
// order of its entries. Packages without any can be laid over each other, in any order,
// and give the tree.
func (t *Tree) Deviations(p *Package) []Deviation {
	var list []Deviation
	for i := range p.Entries {
		e := &p.Entries[i]
		place, err := t.place(e.Path)
		if err != nil {
			continue
		}
		if e.Mode.IsDir() && e.Hardlink == "" {
			if to, err := t.follow(place); err == nil {
				place = to
			}
		}
		d := Deviation{Path: e.Path}
		if place != e.Path {
			d.To = place
		}
		n := t.nodes[place]
		d.Lost = n == nil && place != "" || n != nil && !n.Mode.IsDir() && (n.Owner != p.Info.Name || n.source != e.Path)
		if d.To != "" || d.Lost {
			list = append(list, d)
		}
	}
	return list
}

func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}
