package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// scanned is a package with all that composing needs to know of its files. Their
// content is read from the package again, once, when a layer must be made.
type scanned struct {
	rootfs.Package
	Checksum apk.Checksum
	Scripts  []Script          // sorted by name
	Marks    map[string]string // known programs by the digest of the file, see shellMarks

	named map[int]names  // entries that are somebody's by name
	owned map[int][2]int // the numbers of those in this image, where they are others
	// namesOnly says that those that the image does not know have no number.
	namesOnly bool

	libraries map[int]*library // shared libraries by their entry
	fileSize  int64            // of the .apk file without its signatures, in bytes
	sums      []apk.Checksum   // of each entry, as apk's database has them
	own       bool             // the composer made it
	digest    store.Digest
	spools    *spools
	room      int64 // bytes of memory that its content may take
	unpacking sync.Mutex
	content   *content // nil when it is not at hand
}

// size is the number of bytes of the package's files.
func (p *scanned) size() int64 {
	var n int64
	for i := range p.Entries {
		if e := &p.Entries[i]; e.Hardlink == "" && e.Mode.IsRegular() {
			n += e.Size
		}
	}
	return n
}

// scriptNames are the names of the package's scripts, sorted.
func (p *scanned) scriptNames() []string {
	var names []string
	for _, s := range p.Scripts {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

// scanning reads the packages of one image.
type scanning struct {
	st       *store.Store
	spools   *spools
	layering *Layering
	packages []Package
	all      []*scanned
}

// Content of packages is held in memory by those who make a layer of them as soon as they
// are read: so many bytes by one, and by all of them.
const (
	early    = 16 << 20
	earlyAll = 32 << 20
)

// run recalls what was read of the packages before, and reads the others. Small ones
// are read in the groups that will most likely be layers, and these layers are made at
// once, while the content is in memory: it need not go through a file. Whether they are
// what the image needs shows later, by what they are made of (see makeLayer).
func (s *scanning) run(ctx context.Context) error {
	s.all = make([]*scanned, len(s.packages))
	err := s.each(ctx, len(s.packages), func(i int) (err error) {
		s.all[i], err = s.recall(s.packages[i])
		return s.about(i, err)
	})
	if err != nil {
		return err
	}
	memory := semaphore.NewWeighted(earlyAll)
	var jobs []func() error
	taken := make([]bool, len(s.packages))
	for _, group := range Divide(s.parts(), s.layering) {
		if new, size := s.unknown(group); len(new) > 0 && size <= early {
			for _, i := range new {
				taken[i] = true
			}
			jobs = append(jobs, func() error {
				// What a package says of its size is about right.
				room := size + size/8 + 64<<10
				if err := memory.Acquire(ctx, room); err != nil {
					return context.Cause(ctx)
				}
				defer memory.Release(room)
				return s.readLayer(ctx, group, new, room)
			})
		}
	}
	for i, p := range s.all {
		if p == nil && !taken[i] {
			jobs = append(jobs, func() error { return s.read(i, 0) })
		}
	}
	return s.each(ctx, len(jobs), func(i int) error { return jobs[i]() })
}

// each does n things beside each other.
func (s *scanning) each(ctx context.Context, n int, do func(i int) error) error {
	jobs, ctx := errgroup.WithContext(ctx)
	jobs.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		jobs.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return do(i)
		})
	}
	return jobs.Wait()
}

func (s *scanning) about(i int, err error) error {
	if err != nil {
		return fmt.Errorf("read %s: %w", s.packages[i].Entry.FileName(), err)
	}
	return nil
}

// largestPart is a size that no package has. An index may say any, and sums of these and
// their multiples must stay numbers.
const largestPart = 1 << 40

// parts are the packages as far as they are known: of those that were not read, by what the index says.
func (s *scanning) parts() []Part {
	parts := make([]Part, len(s.packages))
	for i, p := range s.all {
		if p != nil {
			parts[i] = p.part()
			continue
		}
		e := s.packages[i].Entry
		size := min(max(e.Size, 0), largestPart)
		parts[i] = Part{Name: e.Name, Origin: e.Origin, Version: e.Version, Size: size, Installed: size, Replaces: e.Replaces}
	}
	return parts
}

// unknown are the packages of a group that must be read, and the bytes of all files of the group.
func (s *scanning) unknown(group []int) (new []int, size int64) {
	for _, i := range group {
		if p := s.all[i]; p != nil {
			size += p.size()
			continue
		}
		new = append(new, i)
		size += min(max(s.packages[i].Entry.Size, 0), early+1) // it may say anything
	}
	return new, size
}

// readLayer reads the packages that are new, and makes the layer of the group, with no
// more content in memory than there is room.
func (s *scanning) readLayer(ctx context.Context, group, new []int, room int64) error {
	for _, i := range new {
		if err := s.read(i, room); err != nil {
			return err
		}
		room = max(0, room-s.all[i].content.size)
	}
	for _, i := range group {
		defer s.all[i].release()
	}
	t := rootfs.New()
	var members []*rootfs.Package
	slices.Sort(group) // the order of installation
	for _, i := range group {
		if !slices.Contains(new, i) {
			s.all[i].room = room
			room = max(0, room-s.all[i].size())
		}
		if t.Install(&s.all[i].Package) != nil {
			return nil // when all are installed it is told
		}
		members = append(members, &s.all[i].Package)
	}
	if checkMarks(t) != nil {
		return nil
	}
	_, err := makeLayer(ctx, s.st, archiveOf(t, t.Owned(), members), s.layering.compression())
	return err
}

// action is the reading of a package, of which the outcome is remembered.
func (p *Package) action() store.ActionID {
	h := store.NewHash("package scan")
	h.Line("version", scanVersion)
	h.Line("package", string(p.Digest))
	return h.Sum()
}

// recall gives what was read of a package before, or nil.
func (s *scanning) recall(p Package) (*scanned, error) {
	var kept scan
	if found, err := s.st.Recall(p.action(), &kept); err != nil || !found {
		return nil, err
	}
	return s.take(p, &kept)
}

// read reads a package; its content may take room bytes of memory.
func (s *scanning) read(i int, room int64) error {
	p := s.packages[i]
	kept, c, err := readPackage(s.spools, p.Digest, room)
	if err != nil {
		return s.about(i, err)
	}
	if kept.keeps() {
		if err := s.st.RememberUnsynced(p.action(), &kept); err != nil {
			return s.about(i, err)
		}
	}
	taken, err := s.take(p, &kept)
	if err != nil {
		return s.about(i, err)
	}
	taken.content = c
	s.all[i] = taken
	return nil
}

// take makes a package out of what was read of it.
func (s *scanning) take(of Package, kept *scan) (*scanned, error) {
	if kept.Checksum != of.Entry.Checksum {
		return nil, fmt.Errorf("the package in the store is not the one that was chosen: expected checksum %s, found %s", of.Entry.Checksum, kept.Checksum)
	}
	p := &scanned{
		Checksum: kept.Checksum, Scripts: kept.Scripts, Marks: kept.Marks, fileSize: kept.FileSize,
		named: named(kept.Entries), namesOnly: kept.NamesOnly, digest: of.Digest, spools: s.spools,
	}
	// An index leaves out some of what a package says of itself.
	p.Info = &kept.Info
	p.Entries = make([]rootfs.Entry, len(kept.Entries))
	p.sums = make([]apk.Checksum, len(kept.Entries))
	contents := make([]packed, len(kept.Entries))
	var at int64
	for i := range kept.Entries {
		k, e := &kept.Entries[i], &p.Entries[i]
		p.sums[i] = k.SHA1
		if k.Library != nil {
			if p.libraries == nil {
				p.libraries = map[int]*library{}
			}
			p.libraries[i] = k.Library
		}
		e.Path, e.Hardlink = k.Path, k.Hardlink
		e.Inode = rootfs.Inode{
			Mode: typeOf(k.Type) | rootfs.FileMode(k.Mode), UID: k.UID, GID: k.GID, ModTime: k.Time, Size: k.Size,
			Target: k.Target, Major: k.Major, Minor: k.Minor, Sum: k.Sum,
		}
		for key, value := range k.Xattrs {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[key] = string(value)
		}
		if e.Mode.IsRegular() && e.Hardlink == "" {
			contents[i] = packed{of: p, at: at, size: k.Size}
			e.Content = &contents[i]
			at += k.Size
		}
	}
	return p, nil
}

// part is what deciding the layers must know of the package.
func (p *scanned) part() Part {
	return Part{Name: p.Info.Name, Origin: p.Info.Origin, Version: p.Info.Version, Size: p.size(), Installed: p.Info.Size, Replaces: p.Info.Replaces}
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// keeper keeps the content of files as they are read and finds their marks.
type keeper struct {
	*content
	marks map[string]string
}

// keep writes one file's content and gives its digest.
func (c *keeper) keep(r io.Reader, size int64, executable bool) (string, error) {
	hash, look := sha256.New(), &marker{}
	w := io.MultiWriter(c.content, hash)
	if executable {
		w = io.MultiWriter(c.content, hash, look)
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *buf)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", err
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	if name := look.name(); name != "" {
		c.marks[sum] = name
	}
	return sum, nil
}

// typeOf is the type of a letter that rootfs.TypeLetter gives.
func typeOf(letter byte) fs.FileMode {
	switch letter {
	case 'd':
		return fs.ModeDir
	case 'l':
		return fs.ModeSymlink
	case 'p':
		return fs.ModeNamedPipe
	case 'b':
		return fs.ModeDevice
	case 'c':
		return fs.ModeDevice | fs.ModeCharDevice
	}
	return 0
}
