package images

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// spools are files for the content of packages that is too much for memory. Packages that
// are read one after the other share one: a file for each would cost more than reading a
// small package does.
type spools struct {
	st   *store.Store
	mu   sync.Mutex
	all  []*os.File
	idle []*os.File // those that nobody writes to
	err  error      // why the content of a package could not be had
}

// fail notes why the content of a package cannot be had. Not everybody who reads a file of
// it tells that from a file that is not there; an image that was made so must not be kept.
func (s *spools) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *spools) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// take gives a file that nobody else writes to until it is given back.
func (s *spools) take() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.idle); n > 0 {
		f := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return f, nil
	}
	f, err := newSpool(s.st)
	if err == nil {
		s.all = append(s.all, f)
	}
	return f, err
}

func (s *spools) giveBack(f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, f)
}

// close removes all content that was spooled.
func (s *spools) close() {
	for _, f := range s.all {
		f.Close()
	}
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

// content is the content of all files of a package, one after the other: in memory as long
// as it is no more than room, else in a spool. It is written once, and then read.
type content struct {
	spools *spools
	room   int64 // bytes of memory
	// expected is how many bytes the package says that there are.
	expected int64
	size     int64
	memory   []byte
	file     *os.File
	at       int64 // where it begins in file
}

// memories are buffers of contents that were released.
var memories = sync.Pool{New: func() any { return new([]byte) }}

func (c *content) Write(p []byte) (int, error) {
	if c.file == nil && c.size+int64(len(p)) <= c.room {
		if c.memory == nil {
			c.memory = slices.Grow((*memories.Get().(*[]byte))[:0], int(max(1, min(c.expected, c.room))))
		}
		c.memory = append(c.memory, p...)
		c.size += int64(len(p))
		return len(p), nil
	}
	if c.file == nil {
		if err := c.spill(); err != nil {
			return 0, err
		}
	}
	n, err := c.file.Write(p)
	c.size += int64(n)
	return n, err
}

// spill moves what is in memory to a file.
func (c *content) spill() (err error) {
	if c.file, err = c.spools.take(); err != nil {
		return err
	}
	if c.at, err = c.file.Seek(0, io.SeekEnd); err == nil {
		_, err = c.file.Write(c.memory)
	}
	c.forget()
	return err
}

func (c *content) forget() {
	if memory := c.memory; memory != nil {
		c.memory = nil
		memories.Put(&memory)
	}
}

// written ends the writing.
func (c *content) written() {
	if c.file != nil {
		c.spools.giveBack(c.file)
	}
}

func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if c.file != nil {
		return c.file.ReadAt(p, c.at+off)
	}
	if off < 0 || off > int64(len(c.memory)) {
		return 0, io.EOF
	}
	n := copy(p, c.memory[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// packed is the content of one file of a package.
type packed struct {
	of       *scanned
	at, size int64
}

// Open gives the content. Where that of the package is not at hand, it is unpacked first.
func (f *packed) Open() (io.ReadCloser, error) {
	c, err := f.of.unpacked()
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(c, f.at, f.size)), nil
}

// unpacked is the content of all files of the package.
func (p *scanned) unpacked() (*content, error) {
	p.unpacking.Lock()
	defer p.unpacking.Unlock()
	if p.content == nil {
		again, c, err := readPackage(p.spools, p.digest, p.room)
		if err == nil && !sameEntries(again.Entries, p.Entries) {
			err = fmt.Errorf("internal error: %s is read in two ways", p.Info.FullName())
		}
		if err != nil {
			p.spools.fail(err)
			return nil, err
		}
		p.content = c
	}
	return p.content, nil
}

// release gives memory back. Who wants the content again unpacks it again.
func (p *scanned) release() {
	p.unpacking.Lock()
	defer p.unpacking.Unlock()
	p.room = 0
	if p.content != nil && p.content.memory != nil {
		p.content.forget()
		p.content = nil
	}
}

func sameEntries(again []scanEntry, before []rootfs.Entry) bool {
	return slices.EqualFunc(again, before, func(a scanEntry, b rootfs.Entry) bool {
		return a.Path == b.Path && a.Size == b.Size && a.Sum == b.Sum
	})
}
