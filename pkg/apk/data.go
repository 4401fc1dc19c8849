package apk

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// FileType is what a path of a package leads to.
type FileType uint8

const (
	TypeFile FileType = iota
	TypeDir
	TypeSymlink
	TypeHardlink // another name of an earlier file of the package
)

func (t FileType) String() string {
	return [...]string{"file", "folder", "symbolic link", "hard link"}[t]
}

// File is one entry of a package's data.
type File struct {
	Path string // below the root, clean, without a leading slash
	Type FileType
	Mode fs.FileMode // permissions, setuid, setgid and sticky; 0 for a hard link
	// UID and GID are the owner's numbers. Version 3 tells names alone: there they are 0
	// for root and 65534 for everybody else.
	UID, GID int
	User     string // by name, where the package tells it
	Group    string
	Size     int64             // of a file, in bytes
	Link     string            // what a symbolic link says, or the path of the file that a hard link is
	Xattrs   map[string]string // raw values by full name, e.g. security.capability
	ModTime  time.Time         // in whole seconds
	SHA1     Checksum          // of a file's content or a symbolic link's target
	SHA256   SHA256            // of a file's content, where the package tells it as version 3 does
}

const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// The keys of extended headers that carry what apk-tools knows of an entry.
const (
	checksumKey = "APK-TOOLS.checksum.SHA1"
	xattrPrefix = "SCHILY.xattr."
)

// Files gives every entry of the data in the order of the archive, a file with its
// content. Of a package of version 2 it calls VerifyData first unless that was done; in
// version 3 each content is known by its own digest, at its end. An error of visit ends
// it.
//
// What is refused: paths that are absolute or not clean, or stand there twice; what
// is below something else than a folder; hard links to what is no earlier file of the
// package; devices, pipes and sparse files; content that does not have its checksum;
// bytes behind the archive; files much bigger than the size that the package tells of;
// and what exceeds the Limits. As nothing is known of the entries to come, whoever keeps
// what visit was given removes it after an error.
//
// Entries that begin with a dot at the root are skipped, as apk does. The SHA1 of a
// file for which the package names none is known when its content was read to the end.
func (p *Package) Files(visit func(f *File, content io.Reader) error) error {
	if !p.verified && p.v3 == nil {
		if err := p.VerifyData(); err != nil {
			return err
		}
	}
	files := p.files
	if p.v3 != nil {
		files = p.files3
	}
	if err := files(visit); err != nil {
		return fmt.Errorf("data of %s: %w", p.Info.FullName(), err)
	}
	return nil
}

func (p *Package) files(visit func(f *File, content io.Reader) error) error {
	buffered := bufio.NewReaderSize(p.data(), 64<<10)
	z, err := gzip.NewReader(buffered)
	if err != nil {
		return readable(err)
	}
	z.Multistream(false)
	expanded := &limitedReader{r: z, left: p.limits.Data, limit: p.limits.Data}
	t := tar.NewReader(expanded)
	tree := newTree(p.limits, p.Info.Size)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return readable(err)
		}
		f, err := fileOf(h, p.limits)
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		if err := tree.add(f); err != nil {
			return err
		}
		if f.Type != TypeFile {
			if err := visit(f, bytes.NewReader(nil)); err != nil {
				return err
			}
			continue
		}
		if f.Size > expanded.left {
			return expanded.exceeded()
		}
		if err := visitContent(f, t, visit); err != nil {
			return err
		}
	}
	if err := onlyZeros(expanded); err != nil {
		return err
	}
	if _, err := buffered.ReadByte(); err != io.EOF {
		return errors.New("something stands behind the end of the archive")
	}
	return nil
}

// visitContent gives a file with its content and compares that with its checksum.
func visitContent(f *File, r io.Reader, visit func(f *File, content io.Reader) error) error {
	content := &contentReader{r: r, h: sha1.New(), f: f, want: f.SHA1, want256: f.SHA256}
	if f.SHA256 != (SHA256{}) {
		content.h256 = sha256.New()
	}
	if err := visit(f, content); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, content)
	return err
}

// contentReader gives a file's content. Its last bytes come with an error if the
// content is not what the checksum says.
type contentReader struct {
	r       io.Reader
	h, h256 hash.Hash // h256 where the package tells that digest
	f       *File
	want    Checksum
	want256 SHA256
	err     error
}

func (c *contentReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.h.Write(p[:n])
	if c.h256 != nil {
		c.h256.Write(p[:n])
	}
	if err == io.EOF {
		if c.h256 != nil && c.want256 != SHA256(c.h256.Sum(nil)) {
			err = &TrustError{"/" + c.f.Path, fmt.Sprintf("expected sha256 %s, found %x", c.want256, c.h256.Sum(nil))}
			c.err = err
			return n, err
		}
		var got Checksum
		c.h.Sum(got[:0])
		if c.want != (Checksum{}) && c.want != got {
			err = &TrustError{"/" + c.f.Path, fmt.Sprintf("expected sha1 %x, found %x", c.want[:], got[:])}
		}
		c.f.SHA1 = got
	} else if err != nil {
		err = readable(err)
	}
	c.err = err
	return n, err
}

// limitedReader ends with an error, not an end, when more is there than allowed.
type limitedReader struct {
	r           io.Reader
	left, limit int64
}

func (l *limitedReader) exceeded() error {
	return fmt.Errorf("it expands to more than %d bytes", l.limit)
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, l.exceeded()
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n, l.exceeded()
	}
	return n, err
}

// fileOf reads an entry's header. It gives nil for what is skipped.
func fileOf(h *tar.Header, l Limits) (*File, error) {
	if err := checkHeader(h); err != nil {
		return nil, err
	}
	f := &File{Path: h.Name, UID: h.Uid, GID: h.Gid, User: h.Uname, Group: h.Gname, Link: h.Linkname}
	switch h.Typeflag {
	case tar.TypeReg:
		f.Type, f.Size = TypeFile, h.Size
	case tar.TypeDir:
		f.Type, f.Path = TypeDir, strings.TrimSuffix(h.Name, "/")
	case tar.TypeSymlink:
		f.Type = TypeSymlink
	case tar.TypeLink:
		f.Type = TypeHardlink
	default:
		return nil, fmt.Errorf("/%s is a %s: packages hold files, folders and links", shorten(h.Name), typeName(h.Typeflag))
	}
	if f.Path == "." && f.Type == TypeDir || f.Path != ".." && strings.HasPrefix(f.Path, ".") && !strings.HasPrefix(f.Path, "./") && !strings.HasPrefix(f.Path, "../") {
		return nil, nil
	}
	length := 0
	for key, value := range h.PAXRecords {
		length += len(key) + len(value)
		name, found := strings.CutPrefix(key, xattrPrefix)
		if !found || isForeignXattr(name) {
			continue
		}
		if f.Xattrs == nil {
			f.Xattrs = map[string]string{}
		}
		f.Xattrs[name] = value
	}
	if length > l.Header {
		return nil, fmt.Errorf("/%s: its extended header has more than %d bytes", shorten(h.Name), l.Header)
	}
	f.Mode = goMode(h.Mode)
	f.ModTime = h.ModTime.Truncate(time.Second)
	if text, found := h.PAXRecords[checksumKey]; found && f.Type != TypeHardlink {
		sum, err := ParseChecksum(text)
		if err != nil {
			return nil, fmt.Errorf("/%s: %v", shorten(h.Name), err)
		}
		if sum == (Checksum{}) { // here it would say that there is none
			return nil, &TrustError{"/" + shorten(h.Name), "its sha1 is all zeros, which no content has"}
		}
		f.SHA1 = sum
	}
	switch f.Type {
	case TypeSymlink:
		got := Checksum(sha1.Sum([]byte(f.Link)))
		// nfpm tells the checksum of no content, which says nothing of the target.
		if f.SHA1 != (Checksum{}) && f.SHA1 != sha1.Sum(nil) && f.SHA1 != got {
			return nil, &TrustError{"/" + shorten(f.Path), fmt.Sprintf("expected sha1 %x, found %x", f.SHA1[:], got[:])}
		}
		f.SHA1, f.Mode = got, fs.ModePerm // Linux knows no other, whatever the header says
	case TypeHardlink:
		f.Mode = 0
	default:
		f.Link = ""
	}
	return f, nil
}

// isForeignXattr names attributes that the file system of a build machine has put
// there. They say nothing of the file.
func isForeignXattr(name string) bool {
	switch name {
	case "com.apple.provenance", "security.csm", "security.selinux", "com.docker.grpcfuse.ownership":
		return true
	}
	return strings.HasPrefix(name, "trusted.SGI_ACL_")
}

// tree knows what stands at each path so far.
type tree struct {
	limits  Limits
	at      map[string]FileType
	implied map[string]bool   // folders that have no entry of their own yet
	links   map[string]string // hard links and the files that they are
	entries int

	told int64 // the size that the package tells of; 0 for none
	size int64 // of its files so far, in bytes
}

func newTree(l Limits, told int64) *tree {
	return &tree{limits: l, told: told, at: map[string]FileType{}, implied: map[string]bool{}, links: map[string]string{}}
}

// How much bigger the files of a package may be than the size that it tells of. Tools
// count in their own ways, some in KiB; what is beyond that is there to fill a disk.
const (
	toldFactor = 1024
	toldSlack  = 64 << 20
)

// maxID is the highest user or group id that fits an archive's header as apk-tools reads it.
const maxID = 0o7777777

// add checks an entry by itself and against those before it.
func (t *tree) add(f *File) error {
	if t.entries++; t.entries > t.limits.Entries {
		return fmt.Errorf("it has more than %d entries", t.limits.Entries)
	}
	if err := checkPath(f.Path, t.limits.Path); err != nil {
		return fmt.Errorf("path %q: %v", shorten(f.Path), err)
	}
	if f.Type == TypeFile {
		t.size += min(f.Size, t.limits.Data)
	}
	if t.told > 0 && t.size > toldSlack && t.size/toldFactor > t.told {
		return fmt.Errorf("its files have %d bytes or more, and it tells of %d", t.size, t.told)
	}
	before, found := t.at[f.Path]
	switch {
	case found && t.implied[f.Path] && f.Type != TypeDir:
		return fmt.Errorf("/%s is a %s, and something stands below it", f.Path, f.Type)
	case found && !t.implied[f.Path]:
		return fmt.Errorf("/%s stands there twice, as a %s and as a %s", f.Path, before, f.Type)
	}
	for i := len(f.Path) - 1; i > 0; i-- {
		if f.Path[i] != '/' {
			continue
		}
		above := f.Path[:i]
		kind, found := t.at[above]
		if found && kind != TypeDir {
			return fmt.Errorf("/%s stands below /%s, which is a %s", f.Path, above, kind)
		}
		if found {
			break
		}
		t.at[above] = TypeDir
		t.implied[above] = true
	}
	t.at[f.Path] = f.Type
	delete(t.implied, f.Path)
	if f.UID < 0 || f.GID < 0 || f.UID > maxID || f.GID > maxID {
		return fmt.Errorf("/%s: owner %d:%d is out of range", f.Path, f.UID, f.GID)
	}
	if strings.ContainsAny(f.User+f.Group, ":\n\r\x00") {
		return fmt.Errorf("/%s: owner %q, %q has a character that no name has", f.Path, shorten(f.User), shorten(f.Group))
	}
	for name, value := range f.Xattrs {
		if name == "" || len(name) > 255 || strings.ContainsAny(name, "=\n\x00") || len(value) > 64<<10 {
			return fmt.Errorf("/%s: extended attribute %q is not possible", f.Path, shorten(name))
		}
	}
	switch f.Type {
	case TypeSymlink:
		if f.Link == "" || len(f.Link) > t.limits.Path || strings.ContainsAny(f.Link, "\n\r\x00") {
			return fmt.Errorf("/%s: target %q of a symbolic link", f.Path, shorten(f.Link))
		}
	case TypeHardlink:
		if first, found := t.links[f.Link]; found {
			f.Link = first
		}
		if kind, found := t.at[f.Link]; !found || t.implied[f.Link] || f.Link == f.Path {
			return fmt.Errorf("/%s is a hard link to %q, which is no earlier file of the package", f.Path, shorten(f.Link))
		} else if kind != TypeFile {
			return fmt.Errorf("/%s is a hard link to /%s, which is a %s", f.Path, f.Link, kind)
		}
		t.links[f.Path] = f.Link
	}
	return nil
}

// checkPath refuses what is no clean path below the root. A line break would begin
// another line in the database of what is installed.
func checkPath(p string, limit int) error {
	switch {
	case p == "":
		return errors.New("it is empty")
	case len(p) > limit:
		return fmt.Errorf("it is longer than %d bytes", limit)
	case p[0] == '/':
		return errors.New("it is absolute")
	case strings.ContainsAny(p, "\x00\n\r"):
		return errors.New("it has a zero byte or a line break")
	}
	for element := range strings.SplitSeq(p, "/") {
		switch {
		case element == "" || element == "." || element == "..":
			return fmt.Errorf("it is not clean: %q", element)
		case len(element) > 255:
			return errors.New("an element is longer than 255 bytes")
		}
	}
	return nil
}
