package inspect

import (
	"bufio"
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// maxKernel is how much of a kernel or a module is looked at, expanded.
const maxKernel = 1 << 30

// maxWindow is how far back a compressed module may refer: what has to be kept in memory.
const maxWindow = 64 << 20

var (
	moduleName = regexp.MustCompile(`\.ko(\.(gz|xz|zst))?$`)
	// As in melange a plus at the end, of a tree that was changed, is left out: packages of
	// both must find each other.
	kernelRelease = regexp.MustCompile(`^[0-9][0-9A-Za-z._-]*`)
)

// kernel finds kernels, which provide linux:RELEASE, and their modules, which need it.
func (s *scan) kernel(name string) error {
	modules := strings.HasPrefix(name, "usr/lib/modules/") || strings.HasPrefix(name, "lib/modules/")
	isModule := modules && moduleName.MatchString(path.Base(name))
	if !modules && !strings.HasPrefix(name, "boot/") {
		return nil
	}
	f, err := s.pkg.Files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	content, ok := f.(interface {
		io.ReaderAt
		io.ReadSeeker
	})
	if !ok {
		return errors.New("internal error: " + name + " can't be read at a place")
	}
	// A file that can't be expanded is no kernel and no module: it is left alone.
	if isModule {
		if magic := moduleMagic(content, name); magic != "" {
			s.need(name, "is a module for Linux "+magic, "linux:"+magic)
		}
		return nil
	}
	if release := kernelVersion(content); release != "" {
		s.provideName(name, "is Linux "+release, "linux:"+release)
	}
	return nil
}

// moduleMagic is the release that a module is for, "" where it does not say.
func moduleMagic(content io.Reader, name string) string {
	var r io.Reader
	var err error
	switch path.Ext(name) {
	case ".gz":
		r, err = gzip.NewReader(content)
	case ".xz":
		r, err = xz.NewReader(bufio.NewReader(content), maxWindow)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(content, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
	default:
		r = content
	}
	if err != nil {
		return ""
	}
	return kernelRelease.FindString(after(r, "vermagic="))
}

// kernelVersion is the release of a kernel, "" where a file is none. It may be compressed
// as a whole (vmlinuz of arm64), part of a unified image (.linux), a bzImage of x86, whose
// header points at it, or a zImage of ARM, with a compressed kernel somewhere inside.
func kernelVersion(content interface {
	io.ReaderAt
	io.ReadSeeker
}) string {
	if z, err := gzip.NewReader(content); err == nil {
		return kernelRelease.FindString(after(z, banner))
	}
	if image, err := pe.NewFile(content); err == nil {
		if linux := image.Section(".linux"); linux != nil {
			return bareKernel(io.NewSectionReader(linux, 0, int64(linux.Size)))
		}
	}
	return bareKernel(io.NewSectionReader(content, 0, maxKernel))
}

const banner = "Linux version "

func bareKernel(content *io.SectionReader) string {
	if release := bootHeader(content); release != "" {
		return release
	}
	if release := kernelRelease.FindString(after(io.NewSectionReader(content, 0, content.Size()), banner)); release != "" {
		return release
	}
	at := find(io.NewSectionReader(content, 0, content.Size()), []byte{0x1f, 0x8b, 0x08})
	if at < 0 {
		return ""
	}
	z, err := gzip.NewReader(io.NewSectionReader(content, at, content.Size()-at))
	if err != nil {
		return ""
	}
	return kernelRelease.FindString(after(z, banner))
}

// bootHeader reads the release that the header of a bzImage points at
// (Documentation/arch/x86/boot.rst: "HdrS" at 0x202, kernel_version at 0x20e).
func bootHeader(content io.ReaderAt) string {
	head := make([]byte, 0x210)
	if _, err := content.ReadAt(head, 0); err != nil || string(head[0x202:0x206]) != "HdrS" {
		return ""
	}
	at := binary.LittleEndian.Uint16(head[0x20e:])
	if at == 0 {
		return ""
	}
	text := make([]byte, 256)
	n, err := content.ReadAt(text, int64(at)+0x200)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return kernelRelease.FindString(string(text[:n]))
}

// after gives up to 256 bytes that follow the first mark, to the end of the line or to a NUL.
func after(r io.Reader, mark string) string {
	b := bufio.NewReaderSize(io.LimitReader(r, maxKernel), 1<<16)
	for {
		window, err := b.Peek(1 << 16)
		if i := bytes.Index(window, []byte(mark)); i >= 0 {
			if _, err := b.Discard(i + len(mark)); err != nil {
				return ""
			}
			text, _ := b.Peek(256)
			if end := bytes.IndexAny(text, "\x00\n"); end >= 0 {
				text = text[:end]
			}
			return string(text)
		}
		if err != nil {
			return ""
		}
		if _, err := b.Discard(len(window) - len(mark) + 1); err != nil {
			return ""
		}
	}
}

// find gives the place of the first mark, or -1.
func find(r io.Reader, mark []byte) int64 {
	b := bufio.NewReaderSize(r, 1<<16)
	for at := int64(0); ; {
		window, err := b.Peek(1 << 16)
		if i := bytes.Index(window, mark); i >= 0 {
			return at + int64(i)
		}
		if err != nil {
			return -1
		}
		n, err := b.Discard(len(window) - len(mark) + 1)
		if err != nil {
			return -1
		}
		at += int64(n)
	}
}
