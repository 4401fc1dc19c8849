// Package archive unpacks source archives that nobody vouches for, and packs
// folders so that the same files give the same bytes. It knows tar and zip and the
// compressions around them; it knows nothing of recipes, stores or packages.
//
// What Extract promises, whatever the archive says:
//
//   - Nothing outside the target folder is written, linked or followed: all work
//     goes through an os.Root, and no entry is written through a symbolic link,
//     whoever made it. A link may point anywhere; it is content.
//   - Only files, folders, symbolic links and hard links to files of the target
//     folder come out. Devices, pipes and what tar calls otherwise are refused.
//   - A name that is absolute or has a ".." element is refused, not mended.
//     (GNU tar strips the slash and goes on; a source archive has no reason for one.)
//   - Owners are ignored, setuid, setgid and sticky bits dropped, modes are those of
//     the archive without write permission for group and others.
//   - Of several entries of one name the last one wins, as with tar.
//   - Sizes, counts, names and expansion are limited.
package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Limits bound what an archive may become. A field that is 0 has its default.
type Limits struct {
	Bytes   int64 // of all files together; 32 GiB
	Entries int   // 2,000,000
	Name    int   // bytes of one name or link target; 4095, what Linux takes
	Ratio   int64 // expanded bytes for each byte of the archive, beyond the first 256 MiB; 300
}

// Defaults of Limits, and what is not a matter of choice.
const (
	defaultBytes   = 32 << 30
	defaultEntries = 2_000_000
	defaultName    = 4095
	defaultRatio   = 300
	ratioFree      = 256 << 20
	maxDepth       = 512
	// maxWindow is the memory that a compressed stream may ask for: what
	// `xz -9` needs 4 times, and what `zstd --long=28` needs.
	maxWindow = 256 << 20
)

func (l Limits) orDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = defaultBytes
	}
	if l.Entries == 0 {
		l.Entries = defaultEntries
	}
	if l.Name == 0 {
		l.Name = defaultName
	}
	if l.Ratio == 0 {
		l.Ratio = defaultRatio
	}
	return l
}

// Options say how to unpack. The zero value unpacks everything as it is.
type Options struct {
	// Strip drops so many leading elements of each name, and of the targets of hard
	// links, as tar --strip-components does; entries with no more elements are
	// left out. An element "." counts.
	Strip int
	// ModTime is the time of every file, folder and link; that of the archive when zero.
	ModTime time.Time
	// Only unpacks these paths, and what is below them; everything when empty.
	// They are compared after Strip. One that is not there is an error.
	Only   []string
	Limits Limits
}

// RefusedError says what in an archive is not unpacked, and why.
type RefusedError struct {
	Archive string // as the caller named it
	Entry   string // the name of the entry; empty when it is the archive as a whole
	Why     string
}

func (e *RefusedError) Error() string {
	if e.Entry == "" {
		return fmt.Sprintf("unpack %s: %s", e.Archive, e.Why)
	}
	return fmt.Sprintf("unpack %s: %q: %s", e.Archive, e.Entry, e.Why)
}

// Input is what an archive is read from: *os.File, *bytes.Reader and
// *io.SectionReader are such. Zip files are read from their end.
type Input interface {
	io.Reader
	io.ReaderAt
	io.Seeker
}

// A format is what an archive is, by its first bytes.
type format string

const (
	formatTar   format = "tar"
	formatGzip  format = "gzip"
	formatBzip2 format = "bzip2"
	formatXZ    format = "xz"
	formatZstd  format = "zstd"
	formatLzip  format = "lzip"
	formatZip   format = "zip"
)

// magics are the first bytes of the formats (RFC 1952; bzip2 manual; the .xz file
// format 1.2.1; RFC 8878; lzip manual; APPNOTE.TXT).
var magics = []struct {
	format format
	magic  string
}{
	{formatGzip, "\x1f\x8b"},
	{formatBzip2, "BZh"},
	{formatXZ, "\xfd7zXZ\x00"},
	{formatZstd, "\x28\xb5\x2f\xfd"},
	{formatLzip, "LZIP"},
	{formatZip, "PK\x03\x04"},
	{formatZip, "PK\x05\x06"}, // without entries
}

// others are formats that are known and not read, by their first bytes.
var others = []struct{ name, magic string }{
	{"compress (.Z)", "\x1f\x9d"},
	{"7z", "7z\xbc\xaf\x27\x1c"},
	{"rar", "Rar!\x1a\x07"},
	{"lzop", "\x89LZO"},
	{"lrzip", "LRZI"},
	{"lzma (.lzma)", "\x5d\x00\x00"},
	{"cpio", "070701"},
	{"ar or deb", "!<arch>\n"},
	{"rpm", "\xed\xab\xee\xdb"},
}

// detect tells the format by the first 512 bytes; empty is none that is known.
func detect(head []byte) format {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.format
		}
	}
	if isTarHeader(head) {
		return formatTar
	}
	return ""
}

// isTarHeader reports whether head begins with a block whose checksum is that of
// a tar header, old or new, or with the block of zeros that ends an empty archive.
func isTarHeader(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	head = head[:512]
	if bytes.Equal(head, make([]byte, 512)) {
		return true
	}
	want, err := strconv.ParseUint(strings.Trim(string(head[148:156]), " \x00"), 8, 32)
	if err != nil {
		return false
	}
	// Old tar programs summed signed bytes.
	var unsigned, signed int64
	for i, c := range head {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return int64(want) == unsigned || int64(want) == signed
}

// IsArchive reports whether r begins an archive that Extract can read: a zip file
// or a tar, compressed or not. A single compressed file is none. It reads from the
// current place of r, and does not go back.
func IsArchive(r io.Reader) bool {
	buffered := bufio.NewReaderSize(r, 64<<10)
	head, _ := buffered.Peek(512)
	switch f := detect(head); f {
	case "":
		return false
	case formatZip, formatTar:
		return true
	default:
		inner, err := expand(f, buffered)
		if err != nil {
			return false
		}
		defer inner.Close()
		head := make([]byte, 512)
		_, err = io.ReadFull(inner, head)
		return err == nil && isTarHeader(head)
	}
}

// IsCompressed reports whether r begins a stream that Decompress expands.
func IsCompressed(r io.Reader) bool {
	head := make([]byte, 512)
	n, _ := io.ReadFull(r, head)
	f := detect(head[:n])
	return f != "" && f != formatTar && f != formatZip
}

// Decompress gives the bytes that r holds, expanded by what its first bytes say
// it is: gzip, bzip2, xz, zstd or lzip. What is none of these passes as it is. The
// caller limits how much it reads.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	head, err := buffered.Peek(512)
	if err != nil && err != io.EOF {
		return nil, err
	}
	f := detect(head)
	if f == "" || f == formatTar || f == formatZip {
		return io.NopCloser(buffered), nil
	}
	return expand(f, buffered)
}

func expand(f format, r *bufio.Reader) (io.ReadCloser, error) {
	switch f {
	case formatGzip:
		return gzip.NewReader(r)
	case formatBzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case formatXZ:
		// Bounded memory and a quarter faster than ulikunitz/xz, which allocates
		// whatever dictionary a block asks for, up to 4 GiB.
		x, err := xz.NewReader(r, maxWindow)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	case formatZstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case formatLzip:
		return io.NopCloser(&lzipReader{r: r}), nil
	}
	return nil, fmt.Errorf("internal error: no reader for %q", f)
}

// Extract unpacks the archive r into the folder dir of root, which is made when it is
// missing. What r is, its content says, not its name; name is for messages. On
// an error what was unpacked so far stays in dir.
func Extract(ctx context.Context, root *os.Root, dir string, name string, r Input, o Options) error {
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	target, err := root.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	defer target.Close()
	x, err := newExtractor(ctx, target, name, o)
	if err != nil {
		return err
	}
	defer x.close()

	start, err := r.Seek(0, io.SeekCurrent)
	if err == nil {
		x.size, err = r.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return x.fail("", err)
	}
	x.size -= start
	section := io.NewSectionReader(r, start, x.size)
	buffered := bufio.NewReaderSize(contextReader{ctx, section}, 64<<10)
	head, err := buffered.Peek(512)
	if err != nil && err != io.EOF {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	switch f := detect(head); f {
	case "":
		return x.refuse("", unknown(head))
	case formatZip:
		return x.finish(x.zip(section))
	case formatTar:
		return x.finish(x.tar(buffered))
	default:
		inner, err := expand(f, buffered)
		if err != nil {
			return fmt.Errorf("unpack %s: %s: %w", name, f, err)
		}
		defer inner.Close()
		limited := &limitedReader{r: inner, x: x, format: f}
		plain := bufio.NewReaderSize(limited, 64<<10)
		head, err := plain.Peek(512)
		if err != nil && err != io.EOF {
			return limited.explain(err)
		}
		if !isTarHeader(head) {
			return x.refuse("", fmt.Sprintf("a single file compressed with %s, not an archive", f))
		}
		if err := x.finish(x.tar(plain)); err != nil {
			return err
		}
		// The checksum of the stream stands behind the last block. Zeros or other
		// padding after the compressed stream are no harm.
		if _, err := io.Copy(io.Discard, plain); err != nil && !errors.Is(err, gzip.ErrHeader) {
			return limited.explain(err)
		}
		return nil
	}
}

// unknown says what an input is that is no archive.
func unknown(head []byte) string {
	if len(head) == 0 {
		return "it is empty"
	}
	for _, o := range others {
		if bytes.HasPrefix(head, []byte(o.magic)) {
			return "archives of the format " + o.name + " are not read"
		}
	}
	return "it is neither a tar, compressed or not, nor a zip file"
}

// limitedReader holds what comes out of a decompressor against the limits. It also
// counts what tar does not write: headers and skipped entries.
type limitedReader struct {
	r      io.Reader
	x      *extractor
	format format
	n      int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.n += int64(n)
	if l.x.bomb(l.n) {
		return n, l.x.refuse("", fmt.Sprintf("it expands to more than %d times its size", l.x.limits.Ratio))
	}
	// Headers and padding of small files are more than their bytes.
	if l.n/4 > l.x.limits.Bytes+ratioFree {
		return n, l.x.refuse("", fmt.Sprintf("it expands to more than %d bytes", l.x.limits.Bytes))
	}
	return n, err
}

func (l *limitedReader) explain(err error) error {
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return err
	}
	return fmt.Errorf("unpack %s: %s: %w", l.x.archive, l.format, err)
}

// lzipReader reads lzip (its manual, chapter "File format"): members of a header,
// an LZMA stream with an end marker, and a trailer.
type lzipReader struct {
	r      *bufio.Reader
	member *lzma.Reader
	crc    uint32
	size   uint64
	any    bool
	err    error
}

func (z *lzipReader) Read(p []byte) (int, error) {
	for z.err == nil {
		if z.member == nil {
			if z.err = z.next(); z.err != nil {
				break
			}
		}
		n, err := z.member.Read(p)
		z.crc = crcUpdate(z.crc, p[:n])
		z.size += uint64(n)
		if err == io.EOF {
			z.member = nil
			if z.err = z.trailer(); z.err == nil && n == 0 {
				continue
			}
			return n, z.err
		}
		if err != nil {
			z.err = err
		}
		return n, err
	}
	return 0, z.err
}

// next begins a member; io.EOF when there is none any more. What follows the last
// member and is none is ignored, as lzip does.
func (z *lzipReader) next() error {
	head, err := z.r.Peek(6)
	if z.any && (len(head) < 6 || string(head[:4]) != "LZIP") {
		return io.EOF
	}
	if err != nil {
		return fmt.Errorf("lzip: %w", noEOF(err))
	}
	if string(head[:4]) != "LZIP" || head[4] != 1 {
		return errors.New("lzip: no header of version 1")
	}
	base := uint64(1) << (head[5] & 0x1f)
	dict := base - base/16*uint64(head[5]>>5)
	if dict < 4<<10 || dict > maxWindow {
		return fmt.Errorf("lzip: dictionary of %d bytes", dict)
	}
	z.r.Discard(6)
	// The same stream behind a header of the .lzma format: lc=3 lp=0 pb=2, the
	// size of the dictionary, and no size of the data.
	header := append([]byte{0x5d}, binary.LittleEndian.AppendUint32(nil, uint32(dict))...)
	header = append(header, bytes.Repeat([]byte{0xff}, 8)...)
	z.member, err = lzma.NewReader(&prefixed{head: header, Reader: z.r})
	z.any, z.crc, z.size = true, 0, 0
	return err
}

func (z *lzipReader) trailer() error {
	var t [20]byte
	if _, err := io.ReadFull(z.r, t[:]); err != nil {
		return fmt.Errorf("lzip: %w", noEOF(err))
	}
	if binary.LittleEndian.Uint32(t[:]) != z.crc || binary.LittleEndian.Uint64(t[4:]) != z.size {
		return errors.New("lzip: checksum does not match")
	}
	return nil
}

// prefixed reads head, then Reader, and never more than it is asked for: the
// decoder takes single bytes, so that the trailer is left where it is.
type prefixed struct {
	head []byte
	*bufio.Reader
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Reader.Read(b)
}

func (p *prefixed) ReadByte() (byte, error) {
	if len(p.head) > 0 {
		c := p.head[0]
		p.head = p.head[1:]
		return c, nil
	}
	return p.Reader.ReadByte()
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// mode is what an entry's mode becomes.
func mode(m fs.FileMode) fs.FileMode { return m.Perm() &^ 0o022 }
