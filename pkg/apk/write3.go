package apk

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"

	"github.com/tarn-build/tarn/pkg/adb"
)

// writePackage3 writes a package of version 3. Contents are read twice: their digests
// stand before them.
func writePackage3(w io.Writer, u Unsigned, files []Content) (Written, error) {
	info := u.Info
	info.DataHash = ""
	info.Size = installedSize(files, len(u.Scripts) > 0)
	if err := info.Check(); err != nil {
		return Written{}, err
	}
	if err := checkScripts(u.Scripts); err != nil {
		return Written{}, err
	}
	dirs, err := arrange3(files)
	if err != nil {
		return Written{}, err
	}
	b := &builder{}
	unique := b.OwnBlob(string(make([]byte, uniqueSize)))
	fields := make([]adb.Value, packageFields)
	fields[packageInfo-1] = b.info(&info, unique, 0)
	if fields[packagePaths-1], err = b.paths(dirs); err != nil {
		return Written{}, err
	}
	scripts := make([]adb.Value, len(scriptFields))
	for i, name := range scriptFields {
		scripts[i] = b.Blob(string(u.Scripts[name]))
	}
	fields[packageScripts-1] = b.Object(scripts)
	fields[packageTriggers-1] = b.texts(info.Triggers)
	fields[packageReplacesPriority-1] = b.number(info.ReplacesPriority)
	root := b.Object(fields)
	block, err := b.Block(root)
	if err != nil {
		return Written{}, err
	}
	if most := (Limits{}).orDefault().Metadata; int64(len(block)) > most {
		return Written{}, fmt.Errorf("the ADB block has %d bytes, more than are read back", len(block))
	}
	b.Replace(unique, uniqueOf(block))
	counted := &countingWriter{w: w}
	err = writeBlocks3(counted, u.Compression, adb.SchemaPackage, block, nil, func(blocks *adb.Writer) error {
		return writeContents3(blocks, dirs)
	})
	if err != nil {
		return Written{}, err
	}
	written := Written{Info: info, SHA256: sha256.Sum256(block), FileSize: counted.n}
	copy(written.Checksum[:], written.SHA256[:])
	return written, nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// writeBlocks3 writes a compressed file.
func writeBlocks3(w io.Writer, c adb.Compression, schema adb.Schema, block []byte, signatures [][]byte, data func(*adb.Writer) error) error {
	z, err := adb.Compress(w, c)
	if err != nil {
		return err
	}
	blocks, err := adb.NewWriter(z, schema)
	if err != nil {
		return err
	}
	if err := blocks.Block(adb.BlockADB, block); err != nil {
		return err
	}
	for _, s := range signatures {
		if err := blocks.Block(adb.BlockSignature, s); err != nil {
			return err
		}
	}
	if data != nil {
		if err := data(blocks); err != nil {
			return err
		}
	}
	return z.Close()
}

// dir3 is a folder and what is in it but folders.
type dir3 struct {
	File
	files []Content
}

// arrange3 puts files into their folders, in apk-tools' order: by the bytes of names.
func arrange3(files []Content) ([]*dir3, error) {
	at := map[string]*dir3{"": {File: File{Mode: 0o755}}}
	for _, f := range files {
		if f.Type == TypeDir {
			at[f.Path] = &dir3{File: f.File}
		}
	}
	for _, f := range files {
		if f.Type == TypeDir {
			continue
		}
		dir := path.Dir(f.Path)
		if dir == "." {
			dir = ""
		}
		at[dir].files = append(at[dir].files, f)
	}
	if len(at[""].files) == 0 {
		delete(at, "")
	}
	dirs := slices.Collect(maps.Values(at))
	slices.SortFunc(dirs, func(a, b *dir3) int { return cmp.Compare(a.Path, b.Path) })
	for _, d := range dirs {
		slices.SortFunc(d.files, func(a, b Content) int { return cmp.Compare(a.Path, b.Path) })
	}
	// The order of version 2 may have another first name of a file that has several.
	var all []Content
	for _, d := range dirs {
		all = append(all, d.files...)
	}
	if err := turnHardlinks(all); err != nil {
		return nil, err
	}
	for _, d := range dirs {
		n := copy(d.files, all)
		all = all[n:]
	}
	return dirs, nil
}

// paths adds the folders. The digest of each file is put into it.
func (b *builder) paths(dirs []*dir3) (adb.Value, error) {
	named := map[string]*Content{} // files by path, for their other names
	var items []adb.Value
	for _, d := range dirs {
		acl, err := b.acl(&d.File)
		if err != nil {
			return adb.Null, err
		}
		var files []adb.Value
		for i := range d.files {
			c := &d.files[i]
			if c.Type == TypeFile {
				if err := c.digest(); err != nil {
					return adb.Null, fmt.Errorf("/%s: %w", c.Path, err)
				}
				named[c.Path] = c
			}
			v, err := b.file(c, named[c.Link])
			if err != nil {
				return adb.Null, err
			}
			files = append(files, v)
		}
		items = append(items, b.Object([]adb.Value{b.Blob(d.Path), acl, b.Array(files)}))
	}
	return b.Array(items), nil
}

// file adds a file; target is what a hard link is.
func (b *builder) file(c, target *Content) (adb.Value, error) {
	of := c
	var leads adb.Value
	size := uint64(c.Size)
	switch c.Type {
	case TypeSymlink:
		leads = b.Blob(string([]byte{modeSymlink & 0xff, modeSymlink >> 8}) + c.Link)
		size = uint64(len(c.Link))
	case TypeHardlink:
		leads = b.Blob(string([]byte{modeRegular & 0xff, modeRegular >> 8}) + c.Link)
		of, size = target, uint64(target.Size)
	}
	acl, err := b.acl(&of.File)
	if err != nil {
		return adb.Null, err
	}
	hash := ""
	if of.Type == TypeFile {
		hash = string(of.SHA256[:])
	}
	return b.Object([]adb.Value{b.Blob(path.Base(c.Path)), acl, b.Int(size), b.Int(uint64(unixTime(c.ModTime))), b.Blob(hash), leads}), nil
}

// acl adds owner, mode and attributes.
func (b *builder) acl(f *File) (adb.Value, error) {
	user, err := ownerName(f.UID, f.User)
	if err != nil {
		return adb.Null, fmt.Errorf("/%s: user %d %v", f.Path, f.UID, err)
	}
	group, err := ownerName(f.GID, f.Group)
	if err != nil {
		return adb.Null, fmt.Errorf("/%s: group %d %v", f.Path, f.GID, err)
	}
	mode := unixMode(f.Mode)
	if f.Type == TypeSymlink {
		mode = 0o777
	}
	var xattrs []string
	for name, value := range f.Xattrs {
		if !isForeignXattr(name) {
			xattrs = append(xattrs, name+"\x00"+value)
		}
	}
	slices.Sort(xattrs)
	return b.Object([]adb.Value{b.Int(uint64(mode)), b.Blob(user), b.Blob(group), b.texts(xattrs)}), nil
}

// ownerName is the name of an owner, which is all that version 3 tells of one.
func ownerName(id int, name string) (string, error) {
	if name == "" && id == 0 {
		return "root", nil
	}
	if name == "" {
		return "", errors.New("has no name, and version 3 of the format tells owners by name")
	}
	return name, nil
}

// digest reads the content and puts its digest into the file.
func (c *Content) digest() error {
	r, err := c.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	one, two := sha1.New(), sha256.New()
	n, err := io.Copy(io.MultiWriter(one, two), io.LimitReader(r, c.Size+1))
	if err != nil {
		return err
	}
	if err := sameSize(n, c.Size); err != nil {
		return err
	}
	if got := Checksum(one.Sum(nil)); c.SHA1 != (Checksum{}) && c.SHA1 != got {
		return fmt.Errorf("expected sha1 %x, found %x", c.SHA1[:], got[:])
	}
	got := SHA256(two.Sum(nil))
	if c.SHA256 != (SHA256{}) && c.SHA256 != got {
		return fmt.Errorf("expected sha256 %s, found %s", c.SHA256, got)
	}
	c.SHA256 = got
	return nil
}

// writeContents3 writes the contents of files, each in a block of its own.
func writeContents3(blocks *adb.Writer, dirs []*dir3) error {
	for d, dir := range dirs {
		for n := range dir.files {
			c := &dir.files[n]
			if c.Type != TypeFile || c.Size == 0 {
				continue
			}
			if err := writeContent3(blocks, c, uint32(d+1), uint32(n+1)); err != nil {
				return fmt.Errorf("/%s: %w", c.Path, err)
			}
		}
	}
	return nil
}

func writeContent3(blocks *adb.Writer, c *Content, dir, number uint32) error {
	r, err := c.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	header := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, dir), number)
	if err := blocks.BlockFrom(adb.BlockData, header, io.TeeReader(r, h), c.Size); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), c.SHA256[:]) {
		return errors.New("it changed while it was written")
	}
	return nil
}

// signPackage3 writes a package with a signature of each key, and those of old that are
// by others. The file is compressed anew, the way it was.
func signPackage3(w io.Writer, p *Package, keys []Signer, old []adb.Signature) error {
	signatures, err := p.v3.signed.sign(keys, old)
	if err != nil {
		return err
	}
	return writeBlocks3(w, p.v3.compression, adb.SchemaPackage, p.v3.block, signatures, func(blocks *adb.Writer) error {
		at := 0
		return p.files3(func(f *File, content io.Reader) error {
			one := p.v3.files[at]
			at++
			if f.Type != TypeFile || f.Size == 0 {
				return nil
			}
			header := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, one.dir), one.number)
			return blocks.BlockFrom(adb.BlockData, header, content, f.Size)
		})
	})
}

// write writes an index with a signature of each key, and those of old that are by others.
func (x *index3) write(w io.Writer, keys []Signer, old []adb.Signature) error {
	signatures, err := x.signed.sign(keys, old)
	if err != nil {
		return err
	}
	return writeBlocks3(w, x.compression, adb.SchemaIndex, x.block, signatures, nil)
}

// writeIndex3 writes a Packages.adb of entries that are sorted.
func writeIndex3(w io.Writer, x *Index, entries []*Entry, keys []Signer) error {
	if err := checkNames(x.Names); err != nil {
		return err
	}
	b := &builder{}
	items := make([]adb.Value, len(entries))
	for i, e := range entries {
		hashes := string(e.Checksum[:])
		if e.SHA256 != (SHA256{}) {
			hashes = string(e.SHA256[:])
		}
		items[i] = b.info(&e.Info, b.Blob(hashes), e.FileSize)
	}
	fields := make([]adb.Value, indexFields)
	fields[indexDescription-1] = b.Blob(x.Description)
	fields[indexPackages-1] = b.Array(items)
	fields[indexNames-1] = b.Blob(x.Names)
	root := b.Object(fields)
	block, err := b.Block(root)
	if err != nil {
		return err
	}
	parts := &index3{compression: x.Compression, signed: signed3{adb.SchemaIndex, block}, block: block}
	return parts.write(w, keys, nil)
}
