package archive

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func crcUpdate(crc uint32, p []byte) uint32 { return crc32.Update(crc, crc32.IEEETable, p) }

// extractor writes entries below root. It trusts nothing about names and order.
type extractor struct {
	ctx     context.Context
	root    *os.Root
	archive string
	size    int64 // of the archive, in bytes
	limits  Limits
	o       Options
	only    []string        // clean
	found   map[string]bool // of only

	entries int   // seen
	made    int   // written
	bytes   int64 // written
	dirs    []madeDir
	// The folder of the last entry stays open: entries of one folder follow each other.
	parent     *os.Root
	parentFile *os.File
	parentPath string
	buf        []byte
}

// madeDir is a folder whose mode and time are set last: a folder that cannot be
// written to must still be filled, and filling changes its time.
type madeDir struct {
	path string
	mode fs.FileMode
	time time.Time
}

func newExtractor(ctx context.Context, root *os.Root, archive string, o Options) (*extractor, error) {
	x := &extractor{ctx: ctx, root: root, archive: archive, limits: o.Limits.orDefaults(), o: o, found: map[string]bool{}, buf: make([]byte, 128<<10)}
	for _, p := range o.Only {
		if !fs.ValidPath(path.Clean(p)) {
			return nil, fmt.Errorf("unpack %s: %q cannot be a path of an archive", archive, p)
		}
		x.only = append(x.only, path.Clean(p))
	}
	return x, nil
}

func (x *extractor) refuse(entry, why string) error {
	return &RefusedError{Archive: x.archive, Entry: entry, Why: why}
}

func (x *extractor) fail(entry string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return err
	}
	if entry == "" {
		return fmt.Errorf("unpack %s: %w", x.archive, err)
	}
	return fmt.Errorf("unpack %s: %q: %w", x.archive, entry, err)
}

func (x *extractor) close() {
	if x.parent != nil {
		x.parent.Close()
		x.parentFile.Close()
		x.parent, x.parentFile = nil, nil
	}
}

// finish sets modes and times of folders, the deepest first, and says when
// nothing came of the archive.
func (x *extractor) finish(err error) error {
	if err != nil {
		return err
	}
	x.close()
	slices.SortStableFunc(x.dirs, func(a, b madeDir) int { return strings.Compare(a.path, b.path) })
	for i, d := range slices.Backward(x.dirs) {
		if i+1 < len(x.dirs) && x.dirs[i+1].path == d.path {
			continue // a later entry of the same name has won
		}
		info, err := x.root.Lstat(d.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			continue // a later entry has put something else there
		}
		if err != nil {
			return x.fail(d.path, err)
		}
		if err := x.root.Chtimes(d.path, d.time, d.time); err != nil {
			return x.fail(d.path, err)
		}
		if err := x.root.Chmod(d.path, d.mode); err != nil {
			return x.fail(d.path, err)
		}
	}
	for _, p := range x.only {
		if !x.found[p] {
			return x.refuse("", fmt.Sprintf("there is no %q in it", p))
		}
	}
	if x.made == 0 && x.entries > 0 {
		return x.refuse("", fmt.Sprintf("nothing is left of %d entries after dropping %d leading elements", x.entries, x.o.Strip))
	}
	return nil
}

// count holds an entry against the limits, before anything else.
func (x *extractor) count(name, link string, size int64) error {
	if err := x.ctx.Err(); err != nil {
		return context.Cause(x.ctx)
	}
	x.entries++
	switch {
	case x.entries > x.limits.Entries:
		return x.refuse("", fmt.Sprintf("it has more than %d entries", x.limits.Entries))
	case len(name) > x.limits.Name:
		return x.refuse(name[:min(40, len(name))]+"...", fmt.Sprintf("the name has %d bytes, the limit is %d", len(name), x.limits.Name))
	case len(link) > x.limits.Name:
		return x.refuse(name, fmt.Sprintf("the link's target has %d bytes, the limit is %d", len(link), x.limits.Name))
	case size < 0 || size > x.limits.Bytes-x.bytes:
		return x.refuse(name, fmt.Sprintf("the archive's files are larger than %d bytes", x.limits.Bytes))
	case x.bomb(x.bytes + size):
		return x.refuse(name, fmt.Sprintf("the archive expands to more than %d times its size", x.limits.Ratio))
	}
	return nil
}

// bomb reports whether expanded bytes are more than an archive of this size may give.
func (x *extractor) bomb(expanded int64) bool {
	return expanded > ratioFree && expanded/x.limits.Ratio > x.size
}

// place turns the name of an entry into a path below root; ok is false for what
// is left out. Every element of the path is plain.
func (x *extractor) place(name string) (p string, ok bool, err error) {
	switch {
	case strings.ContainsRune(name, 0):
		return "", false, x.refuse(name, "the name has a zero byte")
	case strings.HasPrefix(name, "/"):
		return "", false, x.refuse(name, "the name is absolute")
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", false, x.refuse(name, `the name leads out by ".."`)
	}
	name, ok = strip(name, x.o.Strip)
	if !ok || name == "" {
		return "", false, nil
	}
	p = path.Clean(name)
	if !fs.ValidPath(p) && !validButNotUTF8(p) {
		return "", false, x.refuse(name, "the name is not a path")
	}
	elements := strings.Split(p, "/")
	if len(elements) > maxDepth {
		return "", false, x.refuse(name[:40]+"...", fmt.Sprintf("the name has more than %d elements", maxDepth))
	}
	for _, element := range elements {
		if len(element) > 255 {
			return "", false, x.refuse(name, "an element of the name has more than 255 bytes")
		}
	}
	if len(x.only) > 0 {
		ok = false
		for _, o := range x.only {
			if p == o || o == "." || strings.HasPrefix(p, o+"/") {
				ok, x.found[o] = true, true
			}
		}
	}
	return p, ok, nil
}

// validButNotUTF8 reports whether p is clean and relative: fs.ValidPath also
// wants UTF-8, which names in old archives are not.
func validButNotUTF8(p string) bool {
	return p != "" && p[0] != '/' && p != ".." && !strings.HasPrefix(p, "../")
}

// strip drops n leading elements as GNU tar does: "." counts, and a name that has
// nothing behind the last of them is left out. Slashes in a row are one; GNU tar
// leaves an absolute name behind "x//y".
func strip(name string, n int) (string, bool) {
	for range n {
		_, rest, ok := strings.Cut(name, "/")
		if !ok {
			return "", false
		}
		name = strings.TrimLeft(rest, "/")
	}
	return name, true
}

// in opens the folder that p stands in, making what is missing. Every element on
// the way is a folder: a symbolic link is refused, wherever it points.
func (x *extractor) in(p string) (dir *os.Root, base string, err error) {
	parent, base := path.Split(p)
	parent = path.Clean("./" + parent)
	if x.parent != nil && x.parentPath == parent {
		return x.parent, base, nil
	}
	x.close()
	root, err := x.walk(parent)
	if err != nil {
		return nil, "", err
	}
	file, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, "", err
	}
	x.parent, x.parentFile, x.parentPath = root, file, parent
	return root, base, nil
}

// walk goes down to dir, one element after the other, from open folder to open folder.
func (x *extractor) walk(dir string) (*os.Root, error) {
	at, err := x.root.OpenRoot(".")
	if err != nil || dir == "." {
		return at, err
	}
	done := ""
	for element := range strings.SplitSeq(dir, "/") {
		done = path.Join(done, element)
		next, err := x.step(at, element, done)
		at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

func (x *extractor) step(at *os.Root, element, whole string) (*os.Root, error) {
	info, err := at.Lstat(element)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// The archive did not mention the folder (yet): it is as a tool would make it.
		if err := x.mkdir(at, element, whole, 0o755, x.o.ModTime); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, x.refuse(whole, "an entry is written through this symbolic link")
	case !info.IsDir():
		return nil, x.refuse(whole, "an entry is written below this file")
	}
	return at.OpenRoot(element)
}

// mkdir makes the folder base, which is whole seen from the top. Until all is
// unpacked its owner can write to it.
func (x *extractor) mkdir(at *os.Root, base, whole string, mode fs.FileMode, mtime time.Time) error {
	err := at.Mkdir(base, 0o700)
	if errors.Is(err, fs.ErrExist) {
		err = at.Chmod(base, 0o700)
	}
	if err != nil {
		return err
	}
	if mtime.IsZero() {
		mtime = time.Now()
	}
	x.dirs = append(x.dirs, madeDir{whole, mode, mtime})
	return nil
}

// clear removes what stands at base, so that the entry is made anew and nothing is
// written through what was there. A folder goes only when it is empty.
func (x *extractor) clear(dir *os.Root, base string) error {
	_, err := dir.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return dir.Remove(base)
}

func (x *extractor) dir(p string, m fs.FileMode, mtime time.Time) error {
	if p == "." {
		x.made++
		return nil // the target folder is the caller's
	}
	dir, base, err := x.in(p)
	if err != nil {
		return err
	}
	if info, err := dir.Lstat(base); err == nil && !info.IsDir() {
		if err := dir.Remove(base); err != nil {
			return err
		}
	}
	x.made++
	return x.mkdir(dir, base, p, mode(m), x.time(mtime))
}

func (x *extractor) file(p string, m fs.FileMode, mtime time.Time, r io.Reader) error {
	dir, base, err := x.in(p)
	if err != nil {
		return err
	}
	if err := x.clear(dir, base); err != nil {
		return err
	}
	f, err := dir.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(contextReader{x.ctx, r}, x.limits.Bytes-x.bytes+1), x.buf)
	x.bytes += n
	if err == nil && x.bytes > x.limits.Bytes {
		err = x.refuse(p, fmt.Sprintf("the archive's files are larger than %d bytes", x.limits.Bytes))
	}
	if err == nil {
		// The umask of the process has no say.
		err = f.Chmod(mode(m))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	x.made++
	return x.chtimes(base, mtime)
}

func (x *extractor) symlink(p, target string, mtime time.Time) error {
	if target == "" || strings.ContainsRune(target, 0) {
		return x.refuse(p, "the symbolic link has no target")
	}
	dir, base, err := x.in(p)
	if err != nil {
		return err
	}
	if err := x.clear(dir, base); err != nil {
		return err
	}
	if err := dir.Symlink(target, base); err != nil {
		return err
	}
	x.made++
	return x.chtimes(base, mtime)
}

// link makes p another name of the file target, which must be there.
func (x *extractor) link(p, target string) error {
	if p == target {
		return nil
	}
	from, err := x.walk(path.Dir(target))
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Lstat(path.Base(target))
	if errors.Is(err, fs.ErrNotExist) {
		return x.refuse(p, fmt.Sprintf("it is a hard link to %q, which is not there", target))
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		to, err := from.Readlink(path.Base(target))
		if err != nil {
			return err
		}
		return x.symlink(p, to, info.ModTime())
	}
	if !info.Mode().IsRegular() {
		return x.refuse(p, fmt.Sprintf("it is a hard link to %q, which is no file", target))
	}
	dir, base, err := x.in(p)
	if err != nil {
		return err
	}
	// A second name of the same file must not be removed before it is linked.
	if there, err := dir.Lstat(base); err == nil && os.SameFile(info, there) {
		x.made++
		return nil
	}
	if err := x.clear(dir, base); err != nil {
		return err
	}
	if err := x.root.Link(target, p); err != nil {
		return err
	}
	x.made++
	return nil
}

// time is the time that an entry gets.
func (x *extractor) time(mtime time.Time) time.Time {
	if !x.o.ModTime.IsZero() {
		return x.o.ModTime
	}
	// What every file system takes: 1970 to the end of 34 bits of seconds (ext4).
	if mtime.Unix() < 0 || mtime.Unix() >= 1<<34-1<<31 {
		return time.Unix(0, 0)
	}
	return mtime
}

// chtimes sets the time of a name in the open folder, and never follows a link.
func (x *extractor) chtimes(base string, mtime time.Time) error {
	ts, err := unix.TimeToTimespec(x.time(mtime))
	if err != nil {
		return err
	}
	err = unix.UtimesNanoAt(int(x.parentFile.Fd()), base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &fs.PathError{Op: "chtimes", Path: base, Err: err}
	}
	return nil
}

// contextReader ends when ctx does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

func (x *extractor) tar(r *bufio.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return x.fail("", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // e.g. the commit, written by git archive
		}
		if err := x.count(h.Name, h.Linkname, h.Size); err != nil {
			return x.fail("", err)
		}
		p, ok, err := x.place(h.Name)
		if err != nil {
			return err
		}
		if err := x.tarEntry(t, h, p, ok); err != nil {
			return x.fail(h.Name, err)
		}
	}
}

// tarEntry writes one entry; one that is left out (ok is false) is judged all the same.
func (x *extractor) tarEntry(t *tar.Reader, h *tar.Header, p string, ok bool) error {
	m := fs.FileMode(h.Mode & 0o777)
	switch h.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		if !ok {
			return nil
		}
		if p == "." {
			return x.refuse(h.Name, "it is a file without a name")
		}
		return x.file(p, m, h.ModTime, t)
	case tar.TypeDir:
		if !ok {
			return nil
		}
		return x.dir(p, m, h.ModTime)
	case tar.TypeSymlink:
		if !ok {
			return nil
		}
		if p == "." {
			return x.refuse(h.Name, "it is a link without a name")
		}
		return x.symlink(p, h.Linkname, h.ModTime)
	case tar.TypeLink:
		target, okTarget, err := x.placeLink(h.Linkname)
		if err != nil || !ok {
			return err
		}
		if !okTarget || p == "." {
			return x.refuse(h.Name, fmt.Sprintf("it is a hard link to %q, which is not unpacked", h.Linkname))
		}
		return x.link(p, target)
	case tar.TypeChar, tar.TypeBlock:
		return x.refuse(h.Name, "it is a device")
	case tar.TypeFifo:
		return x.refuse(h.Name, "it is a pipe")
	}
	return x.refuse(h.Name, fmt.Sprintf("entries of type %q are not unpacked", h.Typeflag))
}

// placeLink places the target of a hard link, which is a name of the archive.
func (x *extractor) placeLink(target string) (string, bool, error) {
	only := x.only
	x.only = nil // what Only names decides about entries, and a link may need its file
	defer func() { x.only = only }()
	return x.place(target)
}

func (x *extractor) zip(r io.ReaderAt) error {
	// Zip's reader takes memory for every entry of the directory at the end, whose
	// entries have at least 46 bytes: the file's size bounds it.
	z, err := zip.NewReader(r, x.size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return x.fail("", err)
	}
	for _, f := range z.File {
		if f.UncompressedSize64 > 1<<62 {
			return x.refuse(f.Name, "its size is out of range")
		}
		if err := x.count(f.Name, "", int64(f.UncompressedSize64)); err != nil {
			return x.fail("", err)
		}
		if strings.ContainsRune(f.Name, '\\') {
			return x.refuse(f.Name, `the name has a "\", which is a separator on some systems`)
		}
		p, ok, err := x.place(f.Name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := x.zipEntry(f, p); err != nil {
			return x.fail(f.Name, err)
		}
	}
	return nil
}

func (x *extractor) zipEntry(f *zip.File, p string) error {
	m := f.Mode()
	if m.Perm() == 0 {
		m |= 0o644 // written on a system without modes
		if m.IsDir() {
			m |= 0o111
		}
	}
	switch {
	case m.IsDir():
		return x.dir(p, m, f.Modified)
	case p == ".":
		return x.refuse(f.Name, "it is a file without a name")
	case m.IsRegular():
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		return x.file(p, m, f.Modified, r)
	case m.Type() == fs.ModeSymlink:
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		target, err := io.ReadAll(io.LimitReader(r, int64(x.limits.Name)+1))
		if err != nil {
			return err
		}
		if len(target) > x.limits.Name {
			return x.refuse(f.Name, fmt.Sprintf("the link's target has more than %d bytes", x.limits.Name))
		}
		return x.symlink(p, string(target), f.Modified)
	}
	return x.refuse(f.Name, "it is neither file, folder nor symbolic link")
}
