package rootfs

import (
	"archive/tar"
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ArchiveOptions choose what of a tree an archive holds.
type ArchiveOptions struct {
	// Among are the nodes that there are to choose from; nil is all.
	Among []*Node
	// Include chooses nodes; nil is all. Folders above a chosen node are always there.
	Include func(*Node) bool
	// Installed takes nodes as their packages brought them, without what was edited since.
	Installed bool
	// Folders are the folders as the archive has them, by path: see Tree.Folders. Others
	// that it needs are root's and 0755. When nil, folders are as they are in the tree.
	Folders map[string]*Inode
}

// Member is one path of an archive.
type Member struct {
	Path string
	*Inode
	// Hardlink is the earlier member that this one is a hard link of.
	Hardlink string
}

// Archive is a tar archive that is decided and not yet written: its bytes follow
// from its members, and those can be compared without reading any content.
//
// Its order is that of paths as bytes. Folders bear the time 0: several packages
// bring them, and which one does must not matter. Hard links stay hard links where
// both paths are in the archive. Extended attributes are PAX records; PAX is used
// only where the older format cannot say it. Users and groups are numbers, for who
// reads an archive by names takes those of another machine; only root is called so.
type Archive struct{ Members []Member }

// Archive decides what a tar archive of the tree holds.
func (t *Tree) Archive(o ArchiveOptions) *Archive {
	var nodes []*Node
	if o.Among == nil && o.Include == nil {
		nodes = t.all()
	} else {
		nodes = t.choose(o)
	}
	a := &Archive{Members: make([]Member, 0, len(nodes))}
	firsts := map[*Inode]string{}
	for _, n := range nodes {
		inode := n.Inode
		if o.Installed && n.original != nil {
			inode = n.original
		}
		if o.Folders != nil && n.Mode.IsDir() {
			if inode = o.Folders[n.Path]; inode == nil {
				inode = &Inode{Mode: fs.ModeDir | 0o755}
			}
		}
		m := Member{Path: n.Path, Inode: inode}
		if inode.shared {
			m.Hardlink = firsts[inode]
			if m.Hardlink == "" {
				firsts[inode] = n.Path
			}
		}
		a.Members = append(a.Members, m)
	}
	return a
}

// choose gives the nodes of an archive, sorted by path.
func (t *Tree) choose(o ArchiveOptions) []*Node {
	var nodes []*Node
	chosen := map[*Node]bool{}
	choose := func(n *Node) {
		for n != nil && !chosen[n] {
			chosen[n] = true
			nodes = append(nodes, n)
			slash := strings.LastIndexByte(n.Path, '/')
			n = t.nodes[n.Path[:max(slash, 0)]]
		}
	}
	among := o.Among
	if among == nil {
		among = t.all()
	}
	for _, n := range among {
		if o.Include == nil || o.Include(n) {
			choose(n)
		}
	}
	for p := range o.Folders {
		choose(t.nodes[p])
	}
	slices.SortFunc(nodes, byPath)
	return nodes
}

// Owned are the nodes of each owner, by its name.
func (t *Tree) Owned() map[string][]*Node {
	owned := map[string][]*Node{}
	for _, n := range t.nodes {
		owned[n.Owner] = append(owned[n.Owner], n)
	}
	return owned
}

// Folders are the folders that packages bring, by where they stand in the tree, as these
// packages by themselves leave them (see Install). So what is made of them depends on no other package,
// as long as no other has a link where they have a folder.
func (t *Tree) Folders(packages []*Package) map[string]*Inode {
	folders := map[string]*Inode{}
	owners := map[string]*Package{}
	for _, p := range packages {
		for i := range p.Entries {
			e := &p.Entries[i]
			if !e.Mode.IsDir() {
				continue
			}
			place, err := t.place(e.Path)
			if err != nil {
				continue
			}
			if n, found := t.nodes[place]; found && n.Mode.Type() == fs.ModeSymlink {
				if place, err = t.follow(place); err != nil {
					continue
				}
			}
			if n, found := t.nodes[place]; found && n.Mode.IsDir() && (folders[place] == nil || takesFolder(owners[place], p.Info)) {
				folders[place], owners[place] = &e.Inode, p
			}
		}
	}
	return folders
}

// name is the name of an id.
func name(id int) string {
	if id == 0 {
		return "root"
	}
	return ""
}

// TypeLetter is the letter of a mode's type as find and ls have it, f for a file.
func TypeLetter(m fs.FileMode) byte {
	switch m.Type() {
	case fs.ModeDir:
		return 'd'
	case fs.ModeSymlink:
		return 'l'
	case fs.ModeNamedPipe:
		return 'p'
	case fs.ModeDevice:
		return 'b'
	case fs.ModeDevice | fs.ModeCharDevice:
		return 'c'
	}
	return 'f'
}

// UnixMode is the permissions with setuid, setgid and sticky as Unix numbers them.
func UnixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		mode |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	return mode
}

// FileMode is the reverse of UnixMode, without a type.
func FileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// Describe writes one line a member with all that decides the archive's bytes:
// archives of equal descriptions are equal.
func (a *Archive) Describe(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	line := make([]byte, 0, 512)
	for i := range a.Members {
		m := &a.Members[i]
		line = append(line[:0], TypeLetter(m.Mode), ' ')
		line = strconv.AppendUint(line, uint64(UnixMode(m.Mode)), 8)
		for _, n := range []int64{int64(m.UID), int64(m.GID), m.time(), m.Size, m.Major, m.Minor} {
			line = append(line, ' ')
			line = strconv.AppendInt(line, n, 10)
		}
		for _, s := range []string{m.Sum, m.Path, m.Target, m.Hardlink} {
			line = appendQuoted(append(line, ' '), s)
		}
		if len(m.Xattrs) > 0 {
			for _, key := range slices.Sorted(maps.Keys(m.Xattrs)) {
				line = appendQuoted(append(line, ' '), key)
				line = appendQuoted(append(line, '='), m.Xattrs[key])
			}
		}
		line = append(line, '\n')
		if _, err := b.Write(line); err != nil {
			return err
		}
	}
	return b.Flush()
}

// appendQuoted is strconv.AppendQuote, which looks at every letter as a rune, with a
// short way for text that stays as it is.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.AppendQuote(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func (m *Member) time() int64 {
	if m.Mode.IsDir() {
		return 0
	}
	return m.ModTime
}

// Size is the number of bytes of all files, each once.
func (a *Archive) Size() int64 {
	var n int64
	for i := range a.Members {
		if m := &a.Members[i]; m.Mode.IsRegular() && m.Hardlink == "" {
			n += m.Inode.Size
		}
	}
	return n
}

// Write writes the archive, uncompressed.
func (a *Archive) Write(w io.Writer) error {
	tw := tar.NewWriter(w)
	for i := range a.Members {
		m := &a.Members[i]
		if err := tw.WriteHeader(m.header()); err != nil {
			return fmt.Errorf("/%s: %w", m.Path, err)
		}
		if !m.Mode.IsRegular() || m.Hardlink != "" || m.Inode.Size == 0 {
			continue
		}
		if err := m.copy(tw); err != nil {
			return fmt.Errorf("/%s: %w", m.Path, err)
		}
	}
	return tw.Close()
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

func (m *Member) copy(w io.Writer) error {
	if m.Content == nil {
		return errors.New("its content is not at hand")
	}
	r, err := m.Content.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(r, m.Inode.Size)}, *buf)
	if err == nil && n < m.Inode.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (m *Member) header() *tar.Header {
	h := &tar.Header{
		Name: m.Path, Mode: int64(UnixMode(m.Mode)), Uid: m.UID, Gid: m.GID, Uname: name(m.UID), Gname: name(m.GID),
		ModTime: time.Unix(m.time(), 0), Devmajor: m.Major, Devminor: m.Minor,
	}
	switch {
	case m.Hardlink != "":
		h.Typeflag, h.Linkname = tar.TypeLink, m.Hardlink
		return h
	case m.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, m.Path+"/"
	case m.Mode.Type() == fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, m.Target
	case m.Mode.Type() == fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case m.Mode.Type() == fs.ModeDevice:
		h.Typeflag = tar.TypeBlock
	case m.Mode.Type() == fs.ModeDevice|fs.ModeCharDevice:
		h.Typeflag = tar.TypeChar
	default:
		h.Typeflag, h.Size = tar.TypeReg, m.Inode.Size
	}
	for key, value := range m.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+key] = value
	}
	return h
}

// List writes the tree as people compare it, one path a line: type and mode, owner,
// then the target of a link, the numbers of a device, or the first digits of a file's digest.
func (t *Tree) List(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	first := map[*Inode]string{}
	line := make([]byte, 0, 512)
	for n := range t.All() {
		mode := UnixMode(n.Mode)
		line = append(line[:0], TypeLetter(n.Mode), byte('0'+mode>>9&7), byte('0'+mode>>6&7), byte('0'+mode>>3&7), byte('0'+mode&7), ' ')
		line = append(strconv.AppendInt(line, int64(n.UID), 10), ':')
		line = append(strconv.AppendInt(line, int64(n.GID), 10), " /"...)
		line = append(line, n.Path...)
		switch {
		case n.Mode.Type() == fs.ModeSymlink:
			line = append(append(line, " -> "...), n.Target...)
		case n.Mode&fs.ModeDevice != 0:
			line = append(strconv.AppendInt(append(line, ' '), n.Major, 10), ':')
			line = strconv.AppendInt(line, n.Minor, 10)
		case n.Mode.IsRegular() && n.shared && first[n.Inode] != "":
			line = append(append(line, " = /"...), first[n.Inode]...)
		case n.Mode.IsRegular():
			if n.shared {
				first[n.Inode] = n.Path
			}
			sum := cmp.Or(n.Sum, "-")
			line = append(append(line, ' '), sum[:min(len(sum), 8)]...)
		}
		if len(n.Xattrs) > 0 {
			for _, key := range slices.Sorted(maps.Keys(n.Xattrs)) {
				line = append(append(line, ' '), key...)
			}
		}
		if n.Owner != "" {
			line = append(append(line, ' '), n.Owner...)
			if n.original != nil {
				line = append(line, " (edited)"...)
			}
		}
		if _, err := b.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return b.Flush()
}
