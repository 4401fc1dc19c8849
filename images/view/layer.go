package view

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/tarn-build/tarn/pkg/rootfs"
)

const (
	maxName = 4095 // of a path or the target of a link: what Linux takes
	// ratioFree is what a layer may expand to whatever its size is.
	ratioFree = 256 << 20
)

// Whiteouts (OCI image specification, layer.md).
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutOther  = ".wh..wh." // of aufs itself; not part of the image
)

// total counts what all layers together give.
type total struct {
	n     atomic.Int64
	limit int64
}

func (t *total) add(n int64) bool { return t.n.Add(n) <= t.limit }

// expansion holds what comes out of a decompressor against the limits.
type expansion struct {
	r      io.Reader
	packed func() int64 // bytes that went in
	total  *total
	ratio  int64
	ctx    context.Context
	n      int64
}

func (x *expansion) Read(p []byte) (int, error) {
	if err := x.ctx.Err(); err != nil {
		return 0, context.Cause(x.ctx)
	}
	n, err := x.r.Read(p)
	x.n += int64(n)
	if !x.total.add(int64(n)) {
		return n, &RefusedError{Why: fmt.Sprintf("the image expands to more than %d bytes", x.total.limit)}
	}
	if x.n > ratioFree && x.n/x.ratio > x.packed() {
		return n, &RefusedError{Why: fmt.Sprintf("it expands to more than %d times its size", x.ratio)}
	}
	return n, err
}

// counter counts and digests what is read through it.
type counter struct {
	r io.Reader
	h hash.Hash
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	c.h.Write(p[:n])
	return n, err
}

func (c *counter) digest() string { return "sha256:" + hex.EncodeToString(c.h.Sum(nil)) }

// entry is one entry of a layer.
type entry struct {
	path     string // clean, below the root; "" is the root itself
	inode    *rootfs.Inode
	file     *File  // of a regular file
	hardlink string // the path that it is a link of
}

// readLayer is what a layer says.
type readLayer struct {
	entries []entry
	removed []string // whiteouts of paths
	opaque  []string // folders whose lower content is gone
	diffID  string
	bytes   int64 // expanded
}

// layerReader reads layers; the counts are shared by all of an image.
type layerReader struct {
	o       Options
	keep    func(string) bool
	total   total
	entries atomic.Int64
	text    atomic.Int64
	kept    atomic.Int64
}

// read reads a layer, and checks it against its digest, its size and its configuration.
func (r *layerReader) read(ctx context.Context, from Blobs, b blob, number int, diffID v1.Hash) (*readLayer, error) {
	refuse := func(err error) error {
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			refused.Layer = number
			return refused
		}
		return fmt.Errorf("layer %d: %w", number, err)
	}
	packed, err := openBlob(ctx, from, b)
	if err != nil {
		return nil, refuse(err)
	}
	defer packed.Close()
	in := &counter{r: packed, h: sha256.New()}
	plain, err := archive.Decompress(in)
	if err != nil {
		return nil, refuse(err)
	}
	defer plain.Close()
	out := &counter{r: &expansion{r: plain, packed: in.n.Load, total: &r.total, ratio: r.o.Limits.Ratio, ctx: ctx}, h: sha256.New()}
	l, err := r.members(bufio.NewReaderSize(out, 64<<10))
	if err == nil {
		// What stands behind the archive's end belongs to the digests all the same.
		if _, err = io.Copy(io.Discard, out); errors.Is(err, gzip.ErrHeader) {
			err = nil
		}
	}
	if _, refused := errors.AsType[*RefusedError](err); refused || ctx.Err() != nil {
		return nil, refuse(err)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(in, b.Size+1-in.n.Load())); err != nil {
		return nil, refuse(err)
	}
	if b.open == "" {
		if b.Digest.Algorithm != "sha256" {
			return nil, refuse(&RefusedError{Why: fmt.Sprintf("the digest %s is not one of SHA-256", b.Digest)})
		}
		// Said first: what is damaged is hard to read for no other reason.
		if got := in.digest(); got != b.Digest.String() {
			return nil, &DigestError{fmt.Sprintf("layer %d", number), b.Digest.String(), got}
		}
		if got := in.n.Load(); got != b.Size {
			return nil, refuse(wrongSize("it", got, b.Size))
		}
	}
	if err != nil {
		return nil, refuse(err)
	}
	l.diffID, l.bytes = out.digest(), out.n.Load()
	if l.diffID != diffID.String() {
		return nil, &DigestError{fmt.Sprintf("layer %d, expanded,", number), diffID.String(), l.diffID}
	}
	return l, nil
}

func openBlob(ctx context.Context, from Blobs, b blob) (io.ReadCloser, error) {
	if b.open == "" {
		return from.Blob(ctx, b.Descriptor)
	}
	a, ok := from.(*archiveFile)
	if !ok {
		return nil, errors.New("internal error: a layer without a digest")
	}
	return a.open(b.open)
}

// members reads the archive that a layer is.
func (r *layerReader) members(in io.Reader) (*readLayer, error) {
	l := &readLayer{}
	t := tar.NewReader(in)
	look := &fileReader{temp: r.o.Temp}
	defer look.close()
	for {
		h, err := t.Next()
		if err == io.EOF {
			return l, nil
		} else if err != nil {
			return nil, err
		}
		if err := r.member(l, h, t, look); err != nil {
			if refused, ok := errors.AsType[*RefusedError](err); ok {
				refused.Entry = h.Name
				return nil, refused
			}
			return nil, fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

func (r *layerReader) member(l *readLayer, h *tar.Header, content io.Reader, look *fileReader) error {
	if r.entries.Add(1) > int64(r.o.Limits.Entries) {
		return &RefusedError{Why: fmt.Sprintf("the image has more than %d paths", r.o.Limits.Entries)}
	}
	text := len(h.Name) + len(h.Linkname)
	for key, value := range h.PAXRecords {
		text += len(key) + len(value)
	}
	if r.text.Add(int64(text)) > r.o.Limits.Text {
		return &RefusedError{Why: fmt.Sprintf("its names and attributes have more than %d bytes", r.o.Limits.Text)}
	}
	name, err := layerPath(h.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if removed, found := strings.CutPrefix(base, whiteoutPrefix); found {
		switch {
		case base == whiteoutOpaque:
			l.opaque = append(l.opaque, dir)
		case strings.HasPrefix(base, whiteoutOther):
		case removed == "" || removed == "." || removed == "..":
			return &RefusedError{Why: "it removes nothing that can be named"}
		default:
			l.removed = append(l.removed, path.Join(dir, removed))
		}
		return nil
	}
	if h.Size < 0 || h.Uid < 0 || h.Gid < 0 {
		return &RefusedError{Why: "it has a size or an owner below 0"}
	}
	inode := &rootfs.Inode{Mode: rootfs.FileMode(uint32(h.Mode & 0o7777)), UID: h.Uid, GID: h.Gid, ModTime: h.ModTime.Unix()}
	e := entry{path: name, inode: inode}
	for key, value := range h.PAXRecords {
		if attribute, found := strings.CutPrefix(key, "SCHILY.xattr."); found {
			if inode.Xattrs == nil {
				inode.Xattrs = map[string]string{}
			}
			inode.Xattrs[attribute] = value
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		inode.Size = h.Size
		// A sparse file is longer than what is read of the layer for it.
		if h.Size > r.total.limit {
			return &RefusedError{Why: fmt.Sprintf("it has %d bytes, more than the %d of an image", h.Size, r.total.limit)}
		}
		if e.file, err = look.read(r, name, inode, content); err != nil {
			return err
		}
	case tar.TypeDir:
		inode.Mode |= fs.ModeDir
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxName {
			return &RefusedError{Why: "it is a symbolic link without a target that Linux takes"}
		}
		inode.Mode, inode.Target = fs.ModeSymlink|0o777, h.Linkname
	case tar.TypeLink:
		if e.hardlink, err = layerPath(h.Linkname); err != nil || e.hardlink == "" {
			return &RefusedError{Why: fmt.Sprintf("it is a hard link to %q, which is no path below the root", h.Linkname)}
		}
	case tar.TypeChar:
		inode.Mode |= fs.ModeDevice | fs.ModeCharDevice
		inode.Major, inode.Minor = h.Devmajor, h.Devminor
	case tar.TypeBlock:
		inode.Mode |= fs.ModeDevice
		inode.Major, inode.Minor = h.Devmajor, h.Devminor
	case tar.TypeFifo:
		inode.Mode |= fs.ModeNamedPipe
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return &RefusedError{Why: fmt.Sprintf("entries of the type %q are not read", h.Typeflag)}
	}
	if name == "" && !inode.Mode.IsDir() {
		return &RefusedError{Why: "the root is no folder"}
	}
	l.entries = append(l.entries, e)
	return nil
}

// layerPath is the path of an entry below the root. What stands before it, "/" or "./",
// does not count; what leads upwards is refused, not mended.
func layerPath(name string) (string, error) {
	if strings.ContainsRune(name, 0) || len(name) > maxName {
		return "", &RefusedError{Why: "it is no path that Linux takes"}
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == ".." {
			return "", &RefusedError{Why: "it leads upwards"}
		}
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

// fileReader reads regular files, one after the other.
type fileReader struct {
	buffer []byte
	temp   string
	spool  *os.File
}

func (f *fileReader) close() {
	if f.spool != nil {
		f.spool.Close()
	}
}

// read digests a file, and looks into it where somebody will want to know.
func (f *fileReader) read(r *layerReader, name string, inode *rootfs.Inode, content io.Reader) (*File, error) {
	if f.buffer == nil {
		f.buffer = make([]byte, 64<<10)
	}
	file := &File{}
	sha2, sha := sha256.New(), sha1.New()
	var marks images.Marks
	writers := []io.Writer{sha2, sha, &marks}
	var kept *keeper
	if r.keep(name) && inode.Size <= maxKept {
		if r.kept.Add(inode.Size) > maxKeptAll {
			return nil, &RefusedError{Why: fmt.Sprintf("the files that tell of the image have more than %d bytes", int64(maxKeptAll))}
		}
		kept = &keeper{}
		writers = append(writers, kept)
	}
	head := make([]byte, 4)
	n, err := io.ReadFull(content, head)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	isELF := string(head[:n]) == elfMagic && inode.Size <= maxProgram
	if isELF {
		if f.spool == nil {
			if f.spool, err = newSpool(f.temp); err != nil {
				return nil, err
			}
		}
		if err := f.spool.Truncate(0); err != nil {
			return nil, err
		}
		if _, err := f.spool.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		writers = append(writers, f.spool)
	}
	w := io.MultiWriter(writers...)
	if _, err := w.Write(head[:n]); err != nil {
		return nil, err
	}
	// Without WriterTo, which would take small pieces of a sparse file one by one.
	length, err := io.CopyBuffer(w, struct{ io.Reader }{content}, f.buffer)
	if err != nil {
		return nil, err
	}
	if length += int64(n); length != inode.Size {
		return nil, fmt.Errorf("it has %d bytes, its header says %d", length, inode.Size)
	}
	inode.Sum, file.SHA1 = hex.EncodeToString(sha2.Sum(nil)), hex.EncodeToString(sha.Sum(nil))
	if kept != nil {
		inode.Content = rootfs.Bytes(kept.data)
	}
	if isELF {
		file.soname(f.spool, inode.Size)
		file.Program = marks.Program()
	}
	return file, nil
}

type keeper struct{ data []byte }

func (k *keeper) Write(p []byte) (int, error) {
	k.data = append(k.data, p...)
	return len(p), nil
}
