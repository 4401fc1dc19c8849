package debian

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// Limits bound what a .deb may expand to. The zero value is the default.
type Limits struct {
	Control int64 // bytes of the control member, expanded; 64 MiB when 0
	Data    int64 // bytes of the data member, expanded; 8 GiB when 0
	Entries int   // paths in the data member; 1,000,000 when 0
	Path    int64 // bytes of one path; 4096 when 0
}

func (l Limits) withDefaults() Limits {
	if l.Control == 0 {
		l.Control = 64 << 20
	}
	if l.Data == 0 {
		l.Data = 8 << 30
	}
	if l.Entries == 0 {
		l.Entries = 1_000_000
	}
	if l.Path == 0 {
		l.Path = 4096
	}
	return l
}

// Deb is a .deb file that is being read.
type Deb struct {
	Control Paragraph // of the package
	data    io.Reader
	limits  Limits
}

// arMagic begins every ar archive.
const arMagic = "!<arch>\n"

// arHeader is the size of the header of an ar member: name 16, time 12, user 6,
// group 6, mode 8, size 10, end 2.
const arHeader = 60

// OpenDeb reads a .deb file up to its data.
func OpenDeb(r io.Reader, limits Limits) (*Deb, error) {
	b := bufio.NewReaderSize(r, 128<<10)
	d := &Deb{limits: limits.withDefaults()}
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(b, magic); err != nil || string(magic) != arMagic {
		return nil, fmt.Errorf("read deb: %w", orUnexpected(err, "it is not an ar archive"))
	}
	name, size, err := arMember(b)
	if err != nil {
		return nil, fmt.Errorf("read deb: %w", err)
	}
	if name != "debian-binary" || size > 64 {
		return nil, fmt.Errorf("read deb: first member is %q, not debian-binary", name)
	}
	version := make([]byte, size+size&1)
	if _, err := io.ReadFull(b, version); err != nil {
		return nil, fmt.Errorf("read deb: %w", noEOF(err))
	}
	if !strings.HasPrefix(string(version), "2.") {
		return nil, fmt.Errorf("read deb: format version %q, not 2", strings.TrimSpace(string(version[:size])))
	}
	for {
		name, size, err := arMember(b)
		if err != nil {
			return nil, fmt.Errorf("read deb: %w", err)
		}
		member := io.LimitReader(b, size)
		switch {
		case d.Control == nil && strings.HasPrefix(name, "control.tar"):
			if d.Control, err = readControl(name, member, d.limits); err != nil {
				return nil, fmt.Errorf("read deb: %s: %w", name, err)
			}
		case d.Control != nil && strings.HasPrefix(name, "data.tar"):
			data, err := expand(name, exactly(member, size))
			if err != nil {
				return nil, fmt.Errorf("read deb: %s: %w", name, err)
			}
			d.data = limit(data, d.limits.Data)
			return d, nil
		case !strings.HasPrefix(name, "_"): // deb(5): such members are to be ignored
			return nil, fmt.Errorf("read deb: unexpected member %q", name)
		}
		if _, err := io.Copy(io.Discard, member); err != nil {
			return nil, fmt.Errorf("read deb: %w", err)
		}
		if size&1 == 1 {
			if _, err := b.Discard(1); err != nil {
				return nil, fmt.Errorf("read deb: %w", noEOF(err))
			}
		}
	}
}

// arMember reads the header of the next member.
func arMember(r io.Reader) (name string, size int64, err error) {
	header := make([]byte, arHeader)
	if _, err := io.ReadFull(r, header); err != nil {
		return "", 0, noEOF(err)
	}
	if string(header[58:]) != "`\n" {
		return "", 0, errors.New("malformed ar header")
	}
	// dpkg writes plain names; a slash at the end is how System V marks it.
	name = strings.TrimSuffix(strings.TrimRight(string(header[:16]), " "), "/")
	size, err = strconv.ParseInt(strings.TrimRight(string(header[48:58]), " "), 10, 64)
	if err != nil || size < 0 || name == "" {
		return "", 0, errors.New("malformed ar header")
	}
	return name, size, nil
}

// expand gives what a member's name says that it is compressed with.
func expand(name string, r io.Reader) (io.Reader, error) {
	_, suffix, _ := strings.Cut(name, ".tar")
	switch suffix {
	case "":
		return r, nil
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		// A dictionary of 64 MiB is what xz -9 makes; more is not believed.
		return xz.NewReader(r, 64<<20)
	case ".zst":
		// With a concurrency of 1 it starts nothing that would have to be ended.
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	return nil, fmt.Errorf("unknown compression %q", suffix)
}

func readControl(name string, r io.Reader, limits Limits) (Paragraph, error) {
	expanded, err := expand(name, r)
	if err != nil {
		return nil, err
	}
	t := tar.NewReader(limit(expanded, limits.Control))
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil, errors.New("no file control")
		}
		if err != nil {
			return nil, err
		}
		if strings.TrimPrefix(h.Name, "./") == "control" && h.Typeflag == tar.TypeReg {
			p, err := NewControlReader(t).Next()
			if err == io.EOF {
				return nil, errors.New("file control is empty")
			}
			return p, err
		}
	}
}

// Each calls do for every path of the package, in order; r gives the bytes of a
// regular file. It is to be called once. Names are as they stand there, mostly
// beginning with "./": who writes them to a disk must check them.
func (d *Deb) Each(do func(h *tar.Header, r io.Reader) error) error {
	t := tar.NewReader(d.data)
	for n := 1; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			// What follows the end of the tar file is read too, so that the
			// checksum of the compression is looked at.
			if _, err := io.Copy(io.Discard, d.data); err != nil {
				return fmt.Errorf("read deb: %w", err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read deb: %w", err)
		}
		if n > d.limits.Entries {
			return fmt.Errorf("read deb: more than %d paths", d.limits.Entries)
		}
		if int64(len(h.Name)) > d.limits.Path || int64(len(h.Linkname)) > d.limits.Path {
			return fmt.Errorf("read deb: a path of more than %d bytes", d.limits.Path)
		}
		if err := do(h, t); err != nil {
			return err
		}
	}
}

// limited fails, and does not merely end, when there is more than allowed.
type limited struct {
	r    io.Reader
	left int64
	max  int64
}

func limit(r io.Reader, max int64) *limited { return &limited{r: r, left: max, max: max} }

func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if l.left < 0 {
		return 0, fmt.Errorf("it expands to more than %d bytes", l.max)
	}
	return n, err
}

// exact turns an end before size bytes into io.ErrUnexpectedEOF.
type exact struct {
	r    io.Reader
	left int64
}

func exactly(r io.Reader, size int64) *exact { return &exact{r, size} }

func (e *exact) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func orUnexpected(err error, text string) error {
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return errors.New(text)
}
