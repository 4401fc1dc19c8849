package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

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
	digest    store.Digest
	st        *store.Store
	unpack    sync.Once
	fault     error
	spool     *os.File // the content of all files, one after the other
}

// scanVersion changes when the same package gives another scan than before.
const scanVersion = 3

// scan is what the store remembers of a package.
type scan struct {
	Info     apk.Info
	Checksum apk.Checksum
	FileSize int64 // without signatures
	Scripts  []Script
	Marks    map[string]string
	Entries  []scanEntry
	// NamesOnly says that the package, of version 3, tells owners by name and not by number.
	NamesOnly bool `json:",omitempty"`
}

// scanEntry is a rootfs.Entry in few words.
type scanEntry struct {
	Path     string            `json:"p"`
	Type     string            `json:"t"`
	Mode     uint32            `json:"m"`
	UID      int               `json:"u,omitempty"`
	GID      int               `json:"g,omitempty"`
	User     string            `json:"n,omitempty"` // other than root
	Group    string            `json:"o,omitempty"`
	Time     int64             `json:"d,omitempty"`
	Size     int64             `json:"s,omitempty"`
	Target   string            `json:"l,omitempty"`
	Hardlink string            `json:"h,omitempty"`
	Major    int64             `json:"a,omitempty"`
	Minor    int64             `json:"b,omitempty"`
	Xattrs   map[string][]byte `json:"x,omitempty"`
	Sum      string            `json:"c,omitempty"` // SHA-256 of the content
	Library  *library          `json:"e,omitempty"`
	SHA1     apk.Checksum      `json:"q,omitzero"` // of the content or of the target, as apk has it
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

// scanAll reads the packages, or recalls what was read of them before.
func scanAll(ctx context.Context, st *store.Store, packages []Package) ([]*scanned, error) {
	all := make([]*scanned, len(packages))
	jobs, ctx := errgroup.WithContext(ctx)
	jobs.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range packages {
		jobs.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			all[i], err = scanPackage(st, p)
			if err != nil {
				return fmt.Errorf("read %s: %w", p.Entry.FileName(), err)
			}
			return nil
		})
	}
	if err := jobs.Wait(); err != nil {
		closeAll(all)
		return nil, err
	}
	return all, nil
}

func closeAll(all []*scanned) {
	for _, p := range all {
		if p != nil && p.spool != nil {
			p.spool.Close()
		}
	}
}

func scanPackage(st *store.Store, p Package) (*scanned, error) {
	h := store.NewHash("package scan")
	h.Line("version", scanVersion)
	h.Line("package", string(p.Digest))
	s := &scanned{Checksum: p.Entry.Checksum, digest: p.Digest, st: st}
	var kept scan
	if found, err := st.Recall(h.Sum(), &kept); err != nil {
		return nil, err
	} else if !found {
		kept, s.spool, err = readPackage(st, p.Digest)
		if err != nil {
			return nil, err
		}
		s.unpack.Do(func() {})
		if err := st.Remember(h.Sum(), kept); err != nil {
			s.spool.Close()
			return nil, err
		}
	}
	s.Scripts, s.Marks, s.fileSize = kept.Scripts, kept.Marks, kept.FileSize
	// An index leaves out some of what a package says of itself.
	s.Info = &kept.Info
	if kept.Checksum != p.Entry.Checksum {
		closeAll([]*scanned{s})
		return nil, fmt.Errorf("the package in the store is not the one that was chosen: expected checksum %s, found %s", p.Entry.Checksum, kept.Checksum)
	}
	s.named, s.namesOnly = named(kept.Entries), kept.NamesOnly
	s.Entries = make([]rootfs.Entry, len(kept.Entries))
	s.sums = make([]apk.Checksum, len(kept.Entries))
	var at int64
	for i := range kept.Entries {
		s.sums[i] = kept.Entries[i].SHA1
		k, e := &kept.Entries[i], &s.Entries[i]
		if k.Library != nil {
			if s.libraries == nil {
				s.libraries = map[int]*library{}
			}
			s.libraries[i] = k.Library
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
			e.Content = &spooled{of: s, at: at, size: k.Size}
			at += k.Size
		}
	}
	return s, nil
}

// spooled is the content of one file of a package.
type spooled struct {
	of       *scanned
	at, size int64
}

// Open gives the content; the first file that is opened unpacks the package.
func (f *spooled) Open() (io.ReadCloser, error) {
	p := f.of
	p.unpack.Do(func() {
		var again scan
		again, p.spool, p.fault = readPackage(p.st, p.digest)
		if p.fault == nil && !sameEntries(again.Entries, p.Entries) {
			p.fault = fmt.Errorf("internal error: %s is read in two ways", p.Info.FullName())
		}
	})
	if p.fault != nil {
		return nil, p.fault
	}
	return io.NopCloser(io.NewSectionReader(p.spool, f.at, f.size)), nil
}

func sameEntries(again []scanEntry, before []rootfs.Entry) bool {
	return slices.EqualFunc(again, before, func(a scanEntry, b rootfs.Entry) bool {
		return a.Path == b.Path && a.Size == b.Size && a.Sum == b.Sum
	})
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// contentSpool keeps the content of files as they are read and finds their marks.
type contentSpool struct {
	file  *os.File
	size  int64 // of what is in it
	marks map[string]string
}

// keep writes one file's content and gives its digest.
func (c *contentSpool) keep(r io.Reader, size int64, executable bool) (string, error) {
	hash, look := sha256.New(), &marker{}
	w := io.MultiWriter(c.file, hash)
	if executable {
		w = io.MultiWriter(c.file, hash, look)
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
	c.size += n
	sum := hex.EncodeToString(hash.Sum(nil))
	if name := look.name(); name != "" {
		c.marks[sum] = name
	}
	return sum, nil
}

// newSpool makes a file on the store's disk that is gone when it is closed, however this process ends.
func newSpool(st *store.Store) (*os.File, error) {
	dir, release, err := st.TempDir("spool")
	if err != nil {
		return nil, err
	}
	defer release()
	return os.CreateTemp(dir, "content-*")
}

// typeOf is the type of a letter that rootfs.TypeLetter gives.
func typeOf(letter string) fs.FileMode {
	switch letter {
	case "d":
		return fs.ModeDir
	case "l":
		return fs.ModeSymlink
	case "p":
		return fs.ModeNamedPipe
	case "b":
		return fs.ModeDevice
	case "c":
		return fs.ModeDevice | fs.ModeCharDevice
	}
	return 0
}
