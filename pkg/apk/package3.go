package apk

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/adb"
)

// package3 is what is known of a package of version 3 beside what every package has.
type package3 struct {
	compression adb.Compression
	signed      signed3
	signatures  []adb.Signature
	block       []byte // the content of the ADB block
	files       []file3
}

// file3 is a file as the ADB block tells it, with the numbers that its data is found by.
type file3 struct {
	File
	dir, number uint32
}

// nobody is the owner whose name says no number.
const nobody = 65534

// maxSignatures is how many signatures one file may have.
const maxSignatures = 16

// readPackage3 reads the blocks before the data.
func readPackage3(r io.ReaderAt, size int64, l Limits) (*Package, error) {
	expanded, compression, err := adb.Expand(io.NewSectionReader(r, 0, size), l.Metadata+l.Signatures)
	if err != nil {
		return nil, err
	}
	defer expanded.Close()
	p := &Package{Format: V3, Scripts: map[string][]byte{}, Control: map[string][]byte{}, DataSize: size, file: r, limits: l}
	p.v3 = &package3{compression: compression}
	blocks, err := adb.NewReader(expanded)
	if err != nil {
		return nil, err
	}
	if blocks.Schema != adb.SchemaPackage {
		return nil, fmt.Errorf("the file is no package, but an ADB %s", blocks.Schema)
	}
	if p.v3.block, err = readBlock(blocks, l.Metadata); err != nil {
		return nil, err
	}
	p.v3.signed = signed3{blocks.Schema, p.v3.block}
	p.SHA256 = sha256.Sum256(p.v3.block)
	copy(p.Checksum[:], p.SHA256[:])
	if p.v3.signatures, _, err = readSignatures3(blocks); err != nil {
		return nil, err
	}
	p.Signatures = signatures3(p.v3.signatures)
	if err := p.readMetadata(); err != nil {
		return nil, fmt.Errorf("ADB block: %v", err)
	}
	return p, nil
}

// maxReserved is how much memory is taken for a block before anything of it was read.
const maxReserved = 32 << 20

// readBlock reads the content of the ADB block, which comes first.
func readBlock(blocks *adb.Reader, limit int64) ([]byte, error) {
	_, length, err := blocks.Next()
	if err != nil {
		return nil, err
	}
	if length > limit {
		return nil, fmt.Errorf("the ADB block has %d bytes, more than %d", length, limit)
	}
	// What is only told to be there is not reserved.
	var b bytes.Buffer
	b.Grow(int(min(length, maxReserved)) + bytes.MinRead)
	if _, err := b.ReadFrom(blocks); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// readSignatures3 reads to the first block of data. more says that there is one.
func readSignatures3(blocks *adb.Reader) (all []adb.Signature, more bool, err error) {
	for {
		kind, length, err := blocks.Next()
		if err == io.EOF || err == nil && kind == adb.BlockData {
			return all, err == nil, nil
		}
		if err != nil {
			return nil, false, err
		}
		if len(all) == maxSignatures {
			return nil, false, fmt.Errorf("more than %d signatures", maxSignatures)
		}
		if length > adb.MaxSignature {
			return nil, false, fmt.Errorf("a signature of more than %d bytes", adb.MaxSignature)
		}
		content, err := io.ReadAll(blocks)
		if err != nil {
			return nil, false, err
		}
		s, err := adb.ParseSignature(content)
		if err != nil {
			return nil, false, err
		}
		all = append(all, s)
	}
}

// readMetadata reads the ADB block.
func (p *Package) readMetadata() error {
	v, err := newValues(p.v3.block)
	if err != nil {
		return err
	}
	root := v.object("package", v.data.Root())
	var e Entry
	v.info(root.At(packageInfo), &e)
	p.Info = e.Info
	scripts := v.object("scripts", root.At(packageScripts))
	for i, name := range scriptFields {
		if text := v.text(name[1:], scripts.At(i+1)); text != "" {
			p.Scripts[name] = []byte(text)
		}
	}
	p.Info.Triggers = v.texts("triggers", root.At(packageTriggers))
	p.Info.ReplacesPriority = v.number("replaces-priority", root.At(packageReplacesPriority))
	if v.err != nil {
		return v.err
	}
	for _, t := range p.Info.Triggers {
		if !isTrigger(t) {
			return fmt.Errorf("trigger %q is no absolute path without spaces", shorten(t))
		}
	}
	reader := fileReader3{values: v, tree: newTree(p.limits, p.Info.Size), acls: map[adb.Value]File{}, xattrs: map[adb.Value]map[string]string{}}
	if err := reader.paths(root.At(packagePaths)); err != nil {
		return err
	}
	p.v3.files = reader.all
	return nil
}

// isTrigger says that a trigger can stand among others on a line. Behind a "+" apk
// runs it only where something changed.
func isTrigger(t string) bool {
	return strings.HasPrefix(strings.TrimPrefix(t, "+"), "/") && isPlain(t)
}

// fileReader3 reads folders and what is in them.
type fileReader3 struct {
	*values
	tree   *tree
	acls   map[adb.Value]File // owner, mode and attributes, which many files share
	xattrs map[adb.Value]map[string]string
	all    []file3
}

func (r *fileReader3) paths(from adb.Value) error {
	dirs := r.array("paths", from)
	for d := 1; d <= dirs.Len() && r.err == nil; d++ {
		o := r.object("folder", r.item("paths", dirs, d))
		dir := r.text("folder", o.At(dirName))
		if dir != "" {
			f := r.owned(o.At(dirACL), dir)
			f.Path, f.Type, f.ModTime = dir, TypeDir, time.Unix(0, 0) // which version 3 does not tell
			if err := r.add(f, d, 0); err != nil {
				return err
			}
		}
		files := r.array("files of /"+shorten(dir), o.At(dirFiles))
		for n := 1; n <= files.Len() && r.err == nil; n++ {
			f, err := r.file(dir, r.item("files of /"+shorten(dir), files, n))
			if err != nil {
				return err
			}
			if err := r.add(f, d, n); err != nil {
				return err
			}
		}
	}
	return r.err
}

// add takes an entry if it is none that would do harm.
func (r *fileReader3) add(f File, dir, number int) error {
	if r.err != nil {
		return r.err
	}
	if err := r.tree.add(&f); err != nil {
		return err
	}
	r.all = append(r.all, file3{f, uint32(dir), uint32(number)})
	return nil
}

func (r *fileReader3) file(dir string, from adb.Value) (File, error) {
	o := r.object("file", from)
	name := r.text("file", o.At(fileName))
	if r.err == nil && (name == "" || strings.Contains(name, "/")) {
		return File{}, fmt.Errorf("file %q of /%s: expected one element of a path", shorten(name), shorten(dir))
	}
	at := name
	if dir != "" {
		at = dir + "/" + name
	}
	f := r.owned(o.At(fileACL), at)
	f.Path = at
	what := "/" + shorten(at)
	f.Size = r.number(what, o.At(fileSize))
	f.ModTime = time.Unix(r.number(what, o.At(fileTime)), 0)
	hash, target := r.text(what, o.At(fileHash)), r.text(what, o.At(fileTarget))
	if r.err != nil {
		return f, r.err
	}
	if target == "" {
		return f, f.digest3(hash)
	}
	if err := f.target3(target, r.tree.limits.Path); err != nil {
		return f, fmt.Errorf("%s: %v", what, err)
	}
	return f, nil
}

// digest3 takes the digest of a file's content.
func (f *File) digest3(hash string) error {
	if len(hash) != len(f.SHA256) {
		return fmt.Errorf("/%s: a digest of %d bytes, expected SHA-256", shorten(f.Path), len(hash))
	}
	copy(f.SHA256[:], hash)
	f.Type = TypeFile
	return nil
}

// The kinds of files in the mode that a target begins with.
const (
	modeFifo    = 0o010000
	modeChar    = 0o020000
	modeBlock   = 0o060000
	modeRegular = 0o100000
	modeSymlink = 0o120000
)

// target3 takes what a file is instead of a content: two bytes of a mode, then where a
// link leads.
func (f *File) target3(target string, limit int) error {
	if len(target) < 2 {
		return errors.New("a target that is too short")
	}
	if len(target)-2 > limit {
		return fmt.Errorf("a target of more than %d bytes", limit)
	}
	mode := int(target[0]) | int(target[1])<<8
	f.Link, f.Size = target[2:], 0
	switch mode {
	case modeSymlink:
		f.Type, f.SHA1 = TypeSymlink, sha1.Sum([]byte(f.Link))
	case modeRegular:
		f.Type, f.Mode = TypeHardlink, 0
	case modeFifo, modeChar, modeBlock:
		kind := map[int]string{modeFifo: "named pipe", modeChar: "character device", modeBlock: "block device"}[mode]
		return fmt.Errorf("is a %s: packages hold files, folders and links", kind)
	default:
		return fmt.Errorf("a target of the unknown mode %o", mode)
	}
	return nil
}

// owned gives a file with its owner, mode and attributes.
func (r *fileReader3) owned(from adb.Value, at string) File {
	if f, found := r.acls[from]; found {
		return f
	}
	what := "/" + shorten(at)
	o := r.object(what, from)
	mode := r.number(what, o.At(aclMode))
	f := File{User: r.text(what, o.At(aclUser)), Group: r.text(what, o.At(aclGroup))}
	f.UID, f.GID = idOf(f.User), idOf(f.Group)
	if mode > 0o7777 {
		r.wrong(fmt.Errorf("%s: mode %o", what, mode))
	}
	f.Mode = goMode(mode)
	f.Xattrs = r.attributes(what, o.At(aclXattrs))
	r.acls[from] = f
	return f
}

// maxXattrs is how many extended attributes a file may have.
const maxXattrs = 256

// attributes gives extended attributes: each is a name, a zero byte, and a value.
func (r *fileReader3) attributes(what string, from adb.Value) map[string]string {
	if all, found := r.xattrs[from]; found {
		return all
	}
	var all map[string]string
	words := r.texts(what, from)
	if len(words) > maxXattrs {
		r.wrong(fmt.Errorf("%s: more than %d extended attributes", what, maxXattrs))
		return nil
	}
	for _, x := range words {
		name, value, found := strings.Cut(x, "\x00")
		if _, twice := all[name]; twice || !found {
			r.wrong(fmt.Errorf("%s: extended attribute %q is malformed or there twice", what, shorten(name)))
		}
		if isForeignXattr(name) {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = value
	}
	r.xattrs[from] = all
	return all
}

// NamedOnly says of a file of a package of version 3 that the number of an owner is not
// known: there are names that mean one number everywhere, and others.
func (f *File) NamedOnly() bool {
	return f.UID == nobody && f.User != "nobody" || f.GID == nobody && f.Group != "nobody"
}

// idOf is the number that a name has everywhere.
func idOf(name string) int {
	if name == "" || name == "root" {
		return 0
	}
	return nobody
}

// files3 gives the files with their contents, each out of a block of its own.
func (p *Package) files3(visit func(f *File, content io.Reader) error) error {
	expanded, _, err := adb.Expand(io.NewSectionReader(p.file, 0, p.DataSize), p.limits.Metadata+p.limits.Signatures+p.limits.Data)
	if err != nil {
		return err
	}
	defer expanded.Close()
	blocks, err := adb.NewReader(expanded)
	if err != nil {
		return err
	}
	// The file may have changed since its beginning was read.
	if block, err := readBlock(blocks, p.limits.Metadata); err != nil {
		return err
	} else if !bytes.Equal(block, p.v3.block) {
		return &TrustError{p.Info.FullName(), "the file changed while it was read"}
	}
	_, more, err := readSignatures3(blocks)
	if err != nil {
		return err
	}
	left := p.limits.Data
	for i := range p.v3.files {
		f := p.v3.files[i]
		if f.Type != TypeFile {
			if err := visit(&f.File, bytes.NewReader(nil)); err != nil {
				return err
			}
			continue
		}
		if f.Size > left {
			return fmt.Errorf("it expands to more than %d bytes", p.limits.Data)
		}
		left -= f.Size
		var content io.Reader = bytes.NewReader(nil)
		if f.Size > 0 {
			if err := f.begin(blocks, more); err != nil {
				return fmt.Errorf("/%s: %w", f.Path, err)
			}
			content = blocks
			more = false // this block is taken
		}
		if err := visitContent(&f.File, content, visit); err != nil {
			return err
		}
	}
	if more {
		return errors.New("a data block that belongs to no file")
	}
	if _, _, err := blocks.Next(); err != io.EOF {
		if err == nil {
			err = errors.New("a data block that belongs to no file")
		}
		return err
	}
	return nil
}

// begin goes to the block of the file's data and checks that it is that file's. here
// says that the reader stands at it already.
func (f *file3) begin(blocks *adb.Reader, here bool) error {
	if !here {
		if _, _, err := blocks.Next(); err == io.EOF {
			return errors.New("no data block")
		} else if err != nil {
			return err
		}
	}
	var header [8]byte
	if _, err := io.ReadFull(blocks, header[:]); err != nil {
		return errors.New("a data block that is too short")
	}
	dir, number := binary.LittleEndian.Uint32(header[:]), binary.LittleEndian.Uint32(header[4:])
	if dir != f.dir || number != f.number || blocks.Left() != f.Size {
		return fmt.Errorf("expected the data of file %d of folder %d with %d bytes, found that of file %d of folder %d with %d", f.number, f.dir, f.Size, number, dir, blocks.Left())
	}
	return nil
}

// readIndex3 reads a Packages.adb that lies in memory.
func readIndex3(data []byte, l Limits) (*Index, error) {
	parts, err := splitIndex3(data, l)
	if err != nil {
		return nil, err
	}
	v, err := newValues(parts.block)
	if err != nil {
		return nil, err
	}
	root := v.object("index", v.data.Root())
	x := &Index{
		Format: V3, Compression: parts.compression, Description: v.text("description", root.At(indexDescription)), Names: v.text("pkgname-spec", root.At(indexNames)),
		Signatures: signatures3(parts.signatures), v3: parts,
	}
	packages := v.array("packages", root.At(indexPackages))
	entries := make([]Entry, packages.Len())
	x.Entries = make([]*Entry, packages.Len())
	seen := make([]bool, len(parts.block)/4+1) // by place
	for i := range entries {
		e := &entries[i]
		from := v.item("packages", packages, i+1)
		hashes := v.info(from, e)
		if v.err == nil && seen[from.Place()/4] {
			v.wrong(errors.New("it stands there twice"))
		}
		if v.err == nil {
			v.wrong(e.identity(hashes))
		}
		if v.err != nil {
			return nil, fmt.Errorf("package %d of the index, %q: %w", i+1, shorten(e.Name), v.err)
		}
		seen[from.Place()/4] = true
		x.Entries[i] = e
	}
	if v.err != nil {
		return nil, v.err
	}
	if err := checkNames(x.Names); err != nil {
		return nil, err
	}
	return x, nil
}

// index3 is the parts of a Packages.adb.
type index3 struct {
	compression adb.Compression
	signed      signed3
	signatures  []adb.Signature
	block       []byte
}

// splitIndex3 reads the blocks of an index, of which none is data.
func splitIndex3(data []byte, l Limits) (*index3, error) {
	expanded, compression, err := adb.Expand(bytes.NewReader(data), l.Index)
	if err != nil {
		return nil, err
	}
	defer expanded.Close()
	blocks, err := adb.NewReader(expanded)
	if err != nil {
		return nil, err
	}
	if blocks.Schema != adb.SchemaIndex {
		return nil, fmt.Errorf("the file is no index, but an ADB %s", blocks.Schema)
	}
	x := &index3{compression: compression}
	if x.block, err = readBlock(blocks, l.Index); err != nil {
		return nil, err
	}
	x.signed = signed3{blocks.Schema, x.block}
	var more bool
	if x.signatures, more, err = readSignatures3(blocks); err != nil {
		return nil, err
	}
	if more {
		return nil, errors.New("a data block in an index")
	}
	return x, nil
}

// checkNames refuses names of package files that are no path beside the index.
func checkNames(spec string) error {
	x := Index{Names: spec}
	_, err := x.PackageFile(&Entry{Info: Info{Name: "name", Version: "1", Arch: "noarch"}})
	return err
}
