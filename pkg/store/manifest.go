package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// node is one path of a tree as it was when the tree was made.
type node struct {
	TreeEntry
	uid, gid     uint32
	ino          uint64
	mtime, ctime int64 // nanoseconds since 1970
}

// manifest is a tree as it was made. Its file is text, one path a line:
//
//	tarn tree 1 SHA-256-OF-THE-REST
//	action ID
//	boot ID-OF-THE-BOOT
//	disk BYTES
//	TYPE MODE UID GID SIZE INODE MTIME CTIME SHA-256 "PATH" "TARGET"
type manifest struct {
	action ActionID
	boot   string // in which the tree was made or last hashed
	disk   int64  // bytes that it takes
	nodes  []node
}

const manifestHead = "tarn tree 1 "

func (m *manifest) encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "action %s\nboot %s\ndisk %d\n", m.action, m.boot, m.disk)
	for i := range m.nodes {
		n := &m.nodes[i]
		digest := "-"
		if n.Digest != "" {
			digest = n.Digest.Hex()
		}
		fmt.Fprintf(&b, "%c %o %d %d %d %d %d %d %s %q %q\n", n.Type, uint32(unixMode(n.Mode)), n.uid, n.gid, n.Size, n.ino, n.mtime, n.ctime, digest, n.Path, n.Link)
	}
	return []byte(manifestHead + DigestOf([]byte(b.String())).Hex() + "\n" + b.String())
}

// decodeManifest reads a manifest; its checksum is looked at first.
func decodeManifest(data []byte) (*manifest, error) {
	head, body, _ := strings.Cut(string(data), "\n")
	sum, ok := strings.CutPrefix(head, manifestHead)
	if !ok {
		return nil, errors.New("its manifest is none")
	}
	if DigestOf([]byte(body)).Hex() != sum {
		return nil, errors.New("its manifest does not hold its checksum")
	}
	m := new(manifest)
	for i, key := range []string{"action ", "boot ", "disk "} {
		line, rest, _ := strings.Cut(body, "\n")
		value, ok := strings.CutPrefix(line, key)
		if !ok {
			return nil, fmt.Errorf("its manifest has no %s", strings.TrimSpace(key))
		}
		body = rest
		switch i {
		case 0:
			m.action = ActionID(value)
		case 1:
			m.boot = value
		case 2:
			m.disk, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	m.nodes = make([]node, 0, strings.Count(body, "\n"))
	for line := range strings.Lines(body) {
		n, err := decodeNode(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("its manifest has a line that is none: %q", line)
		}
		m.nodes = append(m.nodes, n)
	}
	return m, nil
}

func decodeNode(line string) (n node, err error) {
	field := func() string {
		word, rest, _ := strings.Cut(line, " ")
		line = rest
		return word
	}
	number := func(base, bits int) uint64 {
		v, perr := strconv.ParseUint(field(), base, bits)
		err = errors.Join(err, perr)
		return v
	}
	signed := func() int64 {
		v, perr := strconv.ParseInt(field(), 10, 64)
		err = errors.Join(err, perr)
		return v
	}
	kind := field()
	if len(kind) != 1 {
		return n, errors.New("no type")
	}
	n.Type = EntryType(kind[0])
	n.Mode = fileMode(n.Type, uint32(number(8, 32)))
	n.uid, n.gid = uint32(number(10, 32)), uint32(number(10, 32))
	n.Size = signed()
	n.ino = number(10, 64)
	n.mtime, n.ctime = signed(), signed()
	if digest := field(); digest != "-" {
		n.Digest = Digest(digestPrefix + digest)
	}
	quoted, qerr := strconv.QuotedPrefix(line)
	err = errors.Join(err, qerr)
	if err != nil {
		return n, err
	}
	if n.Path, err = strconv.Unquote(quoted); err != nil {
		return n, err
	}
	n.Link, err = strconv.Unquote(strings.TrimPrefix(line[len(quoted):], " "))
	return n, err
}

// fileMode is a Unix mode of a type as Go writes it.
func fileMode(t EntryType, mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	switch t {
	case TypeDir:
		m |= fs.ModeDir
	case TypeSymlink:
		m |= fs.ModeSymlink
	}
	return m
}

// unixMode is the reverse of fileMode: permissions and the sticky bit.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	if m&fs.ModeSticky != 0 {
		mode |= unix.S_ISVTX
	}
	return mode
}

// look describes what st says of a path; digest and link are not read.
func look(path string, st *unix.Stat_t) (node, error) {
	n := node{uid: st.Uid, gid: st.Gid, ino: st.Ino, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
	n.Path = path
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.Type, n.Size = TypeFile, st.Size
	case unix.S_IFDIR:
		n.Type = TypeDir // its size is the file system's affair
	case unix.S_IFLNK:
		n.Type, n.Size = TypeSymlink, st.Size
	default:
		return n, fmt.Errorf("%s is neither file, folder nor symbolic link", path)
	}
	n.Mode = fileMode(n.Type, uint32(st.Mode))
	return n, nil
}

// read fills in what is inside: the digest of a file, the target of a link.
func (n *node) read(at int, name string) error {
	switch n.Type {
	case TypeFile:
		fd, err := openat(at, name, 0)
		if err != nil {
			return &fs.PathError{Op: "open", Path: n.Path, Err: err}
		}
		f := os.NewFile(uintptr(fd), n.Path)
		defer f.Close()
		n.Digest, _, err = hashCopy(io.Discard, f)
		return err
	case TypeSymlink:
		buf := make([]byte, n.Size+1)
		size, err := unix.Readlinkat(at, name, buf)
		if err != nil {
			return &fs.PathError{Op: "readlink", Path: n.Path, Err: err}
		}
		n.Link = string(buf[:size])
	}
	return nil
}

// seal brings the modes of a filled tree into the form in which it stays and
// describes it: no setuid and setgid bits, and its owner can read all of it.
func seal(ctx context.Context, id ActionID, root string) (*manifest, error) {
	m := &manifest{action: id, boot: bootID()}
	hashed := map[uint64]Digest{} // a file with several names is read once
	err := walk(ctx, root, func(at int, name, path string, st *unix.Stat_t) error {
		n, err := look(path, st)
		if err != nil {
			return err
		}
		want := uint32(st.Mode) & (0o777 | unix.S_ISVTX)
		switch n.Type {
		case TypeFile:
			want |= 0o400
		case TypeDir:
			want |= 0o500
		}
		if n.Type != TypeSymlink && want != uint32(st.Mode)&0o7777 {
			if err := chmodat(at, name, want); err != nil {
				return &fs.PathError{Op: "chmod", Path: path, Err: err}
			}
			if err := unix.Fstatat(at, name, st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return &fs.PathError{Op: "stat", Path: path, Err: err}
			}
			if n, err = look(path, st); err != nil {
				return err
			}
		}
		if d, ok := hashed[n.ino]; ok && n.Type == TypeFile {
			n.Digest = d
		} else {
			if err := n.read(at, name); err != nil {
				return err
			}
			hashed[n.ino] = n.Digest
			m.disk += st.Blocks * 512
		}
		m.nodes = append(m.nodes, n)
		return nil
	})
	return m, err
}

// chmodat changes the mode of a file or folder that is known not to be a link.
func chmodat(at int, name string, mode uint32) error {
	return unix.Fchmodat(at, name, mode, 0)
}

// differs says in what a tree is not what its manifest says.
type differs string

func (d differs) Error() string { return string(d) }

// compare looks at every path of the tree. What has the inode and the change time
// of its making was not touched since; the rest is hashed again, as is all of it
// when full is set, or after a reboot: a power cut may have eaten what was never
// written out. Changed says that m was brought up to date. A difference is differs.
func (m *manifest) compare(ctx context.Context, root string, full bool) (changed bool, err error) {
	boot := bootID()
	full = full || boot != m.boot
	i := 0
	hashed := map[uint64]Digest{}
	err = walk(ctx, root, func(at int, name, path string, st *unix.Stat_t) error {
		if i == len(m.nodes) || m.nodes[i].Path != path {
			return m.misplaced(i, path)
		}
		was := &m.nodes[i]
		i++
		n, err := look(path, st)
		if err != nil {
			return differs(err.Error())
		}
		switch {
		case n.Type != was.Type:
			return differs(fmt.Sprintf("%s has another type", path))
		case n.Mode != was.Mode:
			return differs(fmt.Sprintf("%s has mode %v, it was %v", path, n.Mode, was.Mode))
		case n.Size != was.Size:
			return differs(fmt.Sprintf("%s has %d bytes, it had %d", path, n.Size, was.Size))
		case n.uid != was.uid || n.gid != was.gid:
			return differs(fmt.Sprintf("%s belongs to another user or group", path))
		case n.mtime != was.mtime:
			return differs(fmt.Sprintf("%s was modified", path))
		}
		if !full && n.ino == was.ino && n.ctime == was.ctime {
			return nil
		}
		if d, ok := hashed[n.ino]; ok && n.Type == TypeFile {
			n.Digest = d
		} else {
			if err := n.read(at, name); err != nil {
				return err
			}
			hashed[n.ino] = n.Digest
		}
		if n.Digest != was.Digest || n.Link != was.Link {
			return differs(fmt.Sprintf("%s has other bytes", path))
		}
		*was = n
		changed = true
		return nil
	})
	if err == nil && i < len(m.nodes) {
		err = differs(fmt.Sprintf("%s is missing", m.nodes[i].Path))
	}
	if err == nil && changed {
		m.boot = boot
	}
	return changed, err
}

// misplaced says why path does not stand at place i of the manifest.
func (m *manifest) misplaced(i int, path string) error {
	for _, n := range m.nodes[i:] {
		if n.Path == path {
			return differs(fmt.Sprintf("%s is missing", m.nodes[i].Path))
		}
	}
	return differs(fmt.Sprintf("%s was added", path))
}

// bootID names the time since the machine started; empty where /proc is absent.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func readManifest(dir string) (*manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, "manifest"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, differs("it has no manifest")
	}
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(data)
	if err != nil {
		return nil, differs(err.Error())
	}
	return m, nil
}
