package apk

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tarn-build/tarn/pkg/adb"
)

// Content is a file to write into a package. A hard link names in Link another file
// that is written; which of the names comes first in the archive does not matter.
type Content struct {
	File
	// Open gives the content of a file from its beginning. It may be called twice, and
	// must then give the same bytes, Size in number.
	Open func() (io.ReadCloser, error)
}

// BytesContent is a file of root's with content that lies in memory.
func BytesContent(path string, mode fs.FileMode, data []byte, modTime time.Time) Content {
	return Content{
		File: File{Path: path, Mode: mode, Size: int64(len(data)), ModTime: modTime},
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

// Unsigned is what a package is written from.
type Unsigned struct {
	// Format is the version to write; zero is V2. Version 3 has no place for control
	// files, nor for Packager and a Commit that is no hexadecimal, and tells owners by name.
	Format      Format
	Compression adb.Compression // of version 3

	Info    Info              // Size and DataHash are computed
	Scripts map[string][]byte // by name, see ScriptNames
	Control map[string][]byte // other files of the control section; their names begin with a dot
	// Files in any order. Folders above them that are missing are added, root's, mode
	// 0755, with the time of ModTime: apk-tools 3 refuses a file whose folder has no entry.
	Files   []Content
	ModTime time.Time // of the control section's files and of added folders; zero means 1970
	TempDir string    // for the compressed data before it is written; "" is the system's
}

// Written says what WritePackage wrote.
type Written struct {
	Info     Info // with Size and DataHash
	Checksum Checksum
	SHA256   SHA256 // the whole identity of a package of version 3
	DataHash string // SHA-256 of the compressed data section, in hexadecimal; none in version 3
	FileSize int64
}

// The settings of compression. With another level, or another version of the library
// that changes its output, equal input gives other bytes than before.
const compressionLevel = gzip.DefaultCompression

// maxFileSize is the most that apk-tools reads of the size in an archive's header.
const maxFileSize = 1<<33 - 1

// maxScript is how long a script may be for apk-tools.
const maxScript = 256 << 10

// maxBuffered is the size up to which a file is read once, into memory; longer ones
// are read a second time, as their checksum stands before them.
const maxBuffered = 1 << 20

// WritePackage writes a package without a signature. Equal input gives equal bytes,
// whatever the machine. It writes nothing to w before all of the data was read; of
// version 3, which is read twice, what was written is to be thrown away on an error.
func WritePackage(w io.Writer, u Unsigned) (Written, error) {
	files, err := arrange(u)
	if err != nil {
		return Written{}, fmt.Errorf("write %s: %w", u.Info.FullName(), err)
	}
	write := writePackage
	if u.Format.OrV2() == V3 {
		write = writePackage3
	}
	written, err := write(w, u, files)
	if err != nil {
		return Written{}, fmt.Errorf("write %s: %w", u.Info.FullName(), err)
	}
	return written, nil
}

func writePackage(w io.Writer, u Unsigned, files []Content) (Written, error) {
	info := u.Info
	info.DataHash = ""
	info.Size = installedSize(files, len(u.Scripts) > 0)
	// What is wrong with the control section is said before the data is compressed.
	if _, err := controlSection(info, u); err != nil {
		return Written{}, err
	}
	spool, err := os.CreateTemp(u.TempDir, "apk-data-")
	if err != nil {
		return Written{}, err
	}
	defer spool.Close()
	if err := os.Remove(spool.Name()); err != nil {
		return Written{}, err
	}
	hash := sha256.New()
	if err := writeData(io.MultiWriter(spool, hash), files); err != nil {
		return Written{}, err
	}
	info.DataHash = hex.EncodeToString(hash.Sum(nil))
	control, err := controlSection(info, u)
	if err != nil {
		return Written{}, err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return Written{}, err
	}
	if _, err := w.Write(control); err != nil {
		return Written{}, err
	}
	n, err := io.Copy(w, spool)
	if err != nil {
		return Written{}, err
	}
	return Written{Info: info, Checksum: sha1.Sum(control), DataHash: info.DataHash, FileSize: int64(len(control)) + n}, nil
}

// installedSize counts files and the text of symbolic links. It is never 0 where
// there is something to install: apk-tools 3 would take the package for a virtual one
// and install none of it.
func installedSize(files []Content, scripts bool) int64 {
	var size int64
	for _, f := range files {
		switch f.Type {
		case TypeFile:
			size += f.Size
		case TypeSymlink:
			size += int64(len(f.Link))
		}
	}
	if size == 0 && (len(files) > 0 || scripts) {
		return 1
	}
	return size
}

// arrange checks the files, adds missing folders and puts all in the order of the
// archive: a folder, then what is in it, sorted by name.
func arrange(u Unsigned) ([]Content, error) {
	files := slices.Clone(u.Files)
	there := make(map[string]bool, len(files))
	for i := range files {
		files[i].Path = strings.TrimSuffix(files[i].Path, "/")
		there[files[i].Path] = true
	}
	for _, f := range u.Files {
		for dir := path.Dir(strings.TrimSuffix(f.Path, "/")); dir != "." && dir != "/" && !there[dir]; dir = path.Dir(dir) {
			there[dir] = true
			files = append(files, Content{File: File{Path: dir, Type: TypeDir, Mode: 0o755, ModTime: u.ModTime}})
		}
	}
	slices.SortStableFunc(files, func(a, b Content) int { return comparePaths(a.Path, b.Path) })
	if err := turnHardlinks(files); err != nil {
		return nil, err
	}
	t := newTree(Limits{}.orDefault(), 0)
	for i := range files {
		f := &files[i].File
		if err := t.add(f); err != nil {
			return nil, err
		}
		if err := checkWritable(&files[i]); err != nil {
			return nil, fmt.Errorf("/%s: %v", f.Path, err)
		}
	}
	return files, nil
}

// comparePaths sorts a folder directly before what is in it.
func comparePaths(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] != b[i] {
			switch {
			case a[i] == '/':
				return -1
			case b[i] == '/':
				return 1
			}
			return cmp.Compare(a[i], b[i])
		}
	}
	return cmp.Compare(len(a), len(b))
}

// turnHardlinks lets the first of the names of a file be the file, the others links to it.
func turnHardlinks(files []Content) error {
	at := make(map[string]int, len(files))
	for i, f := range files {
		at[f.Path] = i
	}
	names := map[int][]int{} // the file -> its links
	for i, f := range files {
		if f.Type != TypeHardlink {
			continue
		}
		target, steps := i, 0
		for files[target].Type == TypeHardlink {
			next, found := at[files[target].Link]
			if steps++; !found || steps > len(files) {
				return fmt.Errorf("/%s is a hard link to %q, which is no file of the package", f.Path, f.Link)
			}
			target = next
		}
		if files[target].Type != TypeFile {
			return fmt.Errorf("/%s is a hard link to /%s, which is a %s", f.Path, files[target].Path, files[target].Type)
		}
		names[target] = append(names[target], i)
	}
	for target, links := range names {
		file := files[target]
		all := append(links, target)
		slices.Sort(all)
		first := files[all[0]].Path
		for _, i := range all {
			name := files[i].Path
			files[i] = file
			files[i].Path = name
			if name != first {
				files[i].Type, files[i].Link, files[i].Size, files[i].Open, files[i].SHA1 = TypeHardlink, first, 0, nil, Checksum{}
			}
		}
	}
	return nil
}

// checkWritable refuses what apk-tools would not read back.
func checkWritable(c *Content) error {
	switch {
	case c.Path[0] == '.':
		return errors.New("apk skips what begins with a dot at the root")
	case c.Mode&^(modeBits|fs.ModeDir|fs.ModeSymlink) != 0:
		return fmt.Errorf("mode %v", c.Mode)
	case len(c.User) > 31 || len(c.Group) > 31:
		return fmt.Errorf("owner %q, %q is longer than 31 bytes", c.User, c.Group)
	case c.Type == TypeFile && c.Open == nil:
		return errors.New("a file without content")
	case c.Type == TypeFile && (c.Size < 0 || c.Size > maxFileSize):
		return fmt.Errorf("%d bytes are more than the format holds (8 GiB)", c.Size)
	case unixTime(c.ModTime) < 0 || unixTime(c.ModTime) > maxFileSize:
		return fmt.Errorf("time %v is out of range", c.ModTime)
	}
	for name := range c.Xattrs {
		if c.Type == TypeSymlink {
			return fmt.Errorf("extended attribute %q of a symbolic link", name)
		}
	}
	return nil
}

// unixTime takes the zero time for 1970.
func unixTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// writeData writes the compressed data section.
func writeData(w io.Writer, files []Content) error {
	z, err := gzip.NewWriterLevel(w, compressionLevel)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for i := range files {
		if err := writeFile(t, &files[i]); err != nil {
			return fmt.Errorf("/%s: %w", files[i].Path, err)
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

func writeFile(t *tar.Writer, c *Content) error {
	h := header(&c.File)
	switch c.Type {
	case TypeSymlink:
		sum := sha1.Sum([]byte(c.Link))
		h.PAXRecords[checksumKey] = hex.EncodeToString(sum[:])
	case TypeFile:
		return writeRegular(t, h, c)
	}
	return t.WriteHeader(h)
}

func header(f *File) *tar.Header {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: f.Path, Linkname: f.Link, Mode: unixMode(f.Mode),
		Uid: f.UID, Gid: f.GID, Uname: f.User, Gname: f.Group,
		ModTime: time.Unix(unixTime(f.ModTime), 0), PAXRecords: map[string]string{},
	}
	if f.UID == 0 && f.User == "" {
		h.Uname = "root"
	}
	if f.GID == 0 && f.Group == "" {
		h.Gname = "root"
	}
	switch f.Type {
	case TypeFile:
		h.Typeflag, h.Size, h.Linkname = tar.TypeReg, f.Size, ""
	case TypeDir:
		h.Typeflag, h.Linkname = tar.TypeDir, ""
	case TypeSymlink:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777 // Linux knows no other
	case TypeHardlink:
		h.Typeflag = tar.TypeLink
	}
	for name, value := range f.Xattrs {
		if !isForeignXattr(name) {
			h.PAXRecords[xattrPrefix+name] = value
		}
	}
	return h
}

// writeRegular writes a file behind a header that has its checksum.
func writeRegular(t *tar.Writer, h *tar.Header, c *Content) error {
	var sum Checksum
	var content io.ReadCloser
	if c.Size <= maxBuffered {
		r, err := c.Open()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(io.LimitReader(r, c.Size+1))
		r.Close()
		if err != nil {
			return err
		}
		if err := sameSize(int64(len(data)), c.Size); err != nil {
			return err
		}
		sum, content = sha1.Sum(data), io.NopCloser(bytes.NewReader(data))
	} else {
		r, err := c.Open()
		if err != nil {
			return err
		}
		hash := sha1.New()
		n, err := io.Copy(hash, io.LimitReader(r, c.Size+1))
		r.Close()
		if err != nil {
			return err
		}
		if err := sameSize(n, c.Size); err != nil {
			return err
		}
		hash.Sum(sum[:0])
		if content, err = c.Open(); err != nil {
			return err
		}
	}
	defer content.Close()
	if c.SHA1 != (Checksum{}) && c.SHA1 != sum {
		return fmt.Errorf("expected sha1 %x, found %x", c.SHA1[:], sum[:])
	}
	h.PAXRecords[checksumKey] = hex.EncodeToString(sum[:])
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	hash := sha1.New()
	n, err := io.Copy(io.MultiWriter(t, hash), io.LimitReader(content, c.Size))
	if err != nil {
		return err
	}
	if n != c.Size || !bytes.Equal(hash.Sum(nil), sum[:]) {
		return errors.New("it changed while it was written")
	}
	return nil
}

func sameSize(got, want int64) error {
	switch {
	case got > want:
		return fmt.Errorf("expected %d bytes, found more", want)
	case got < want:
		return fmt.Errorf("expected %d bytes, found %d", want, got)
	}
	return nil
}

// controlSection makes the compressed control section.
func controlSection(info Info, u Unsigned) ([]byte, error) {
	text, err := AppendInfo(nil, &info)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{InfoName: text}
	for name, data := range u.Control {
		if !isControlName(name) || name == InfoName || name == ".INSTALL" || isScript(name) || strings.HasPrefix(name, signaturePrefix) {
			return nil, fmt.Errorf("%q is no name of a control file", name)
		}
		files[name] = data
	}
	if err := checkScripts(u.Scripts); err != nil {
		return nil, err
	}
	maps.Copy(files, u.Scripts)
	size := 0
	for _, data := range files {
		size += len(data)
	}
	if most := (Limits{}).orDefault().Control; int64(size) > most-64<<10 {
		return nil, fmt.Errorf("the control section has %d bytes, more than are read back", size)
	}
	var all []section
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := int64(0o644)
		if isScript(name) {
			mode = 0o755
		}
		all = append(all, section{name, mode, files[name]})
	}
	return smallSection(all, u.ModTime, false)
}

// checkScripts refuses scripts that apk would not run.
func checkScripts(scripts map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		if !isScript(name) {
			return fmt.Errorf("%q is no script that a package can have\n  hint: there are %s", name, strings.Join(ScriptNames, ", "))
		}
		if n := len(scripts[name]); n > maxScript {
			return fmt.Errorf("%s has %d bytes, more than the %d that apk runs", name, n, maxScript)
		}
	}
	return nil
}

// section is one file of a small archive.
type section struct {
	name string
	mode int64
	data []byte
}

// smallSection makes a compressed archive of root's files. Signatures and control
// sections do not end their archive, as it goes on in the next section.
func smallSection(files []section, modTime time.Time, end bool) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, compressionLevel)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)),
			Uname: "root", Gname: "root", ModTime: time.Unix(unixTime(modTime), 0),
		}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.data); err != nil {
			return nil, err
		}
	}
	if end {
		err = t.Close()
	} else {
		err = t.Flush()
	}
	if err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// SignPackage writes the package that r has with a signature of key in place of those
// it bears; all else stays byte for byte, in version 3 below the compression. It signs only what holds: the data must be
// the one that the control section names. modTime is that of the signature's file.
func SignPackage(w io.Writer, r io.ReaderAt, size int64, key Signer, modTime time.Time) error {
	return ReplaceSignatures(w, r, size, modTime, key)
}

func signatureSection(keys []Signer, digest [32]byte, modTime time.Time) ([]byte, error) {
	return mergeSignatures(nil, keys, digest, modTime)
}
