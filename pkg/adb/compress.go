package adb

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// Compression is how a file is compressed. Its zero value is deflate, as apk-tools
// writes it by default, and as every build of apk-tools reads.
type Compression uint8

const (
	Deflate Compression = iota
	Zstd
	Uncompressed
)

func (c Compression) String() string {
	switch c {
	case Deflate:
		return "deflate"
	case Zstd:
		return "zstd"
	case Uncompressed:
		return "none"
	}
	return fmt.Sprintf("compression %d", uint8(c))
}

// ParseCompression reads what String writes.
func ParseCompression(s string) (Compression, error) {
	for _, c := range []Compression{Deflate, Zstd, Uncompressed} {
		if s == c.String() {
			return c, nil
		}
	}
	return 0, fmt.Errorf("unknown compression %q", s)
}

// What a compressed file begins with. Behind "ADBc" stand an algorithm and a level.
const (
	magicDeflate = "ADBd"
	magicOther   = "ADBc"

	algorithmNone    = 0
	algorithmDeflate = 1
	algorithmZstd    = 2
)

// maxWindow is how far back a stream may refer: as far as the library of zstd lets it.
const maxWindow = 128 << 20

// Expand expands a file. More than limit bytes are an error, and so is anything behind
// the end of what was compressed. Close frees what the expansion needed.
func Expand(r io.Reader, limit int64) (io.ReadCloser, Compression, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	begin, err := buffered.Peek(4)
	if err != nil {
		return nil, 0, readable(err)
	}
	c, algorithm := Deflate, algorithmDeflate
	switch string(begin) {
	case magic:
		algorithm = algorithmNone
	case magicDeflate:
		_, _ = buffered.Discard(4)
	case magicOther:
		begin, err := buffered.Peek(6)
		if err != nil {
			return nil, 0, readable(err)
		}
		algorithm = int(begin[4])
		_, _ = buffered.Discard(6)
	default:
		return nil, 0, fmt.Errorf("expected %q at the beginning, found %q", "ADB", begin)
	}
	e := &expander{rest: buffered, left: limit, limit: limit}
	switch algorithm {
	case algorithmNone:
		c, e.r, e.close = Uncompressed, buffered, func() {}
	case algorithmDeflate:
		z := flate.NewReader(buffered)
		e.r, e.close = z, func() { _ = z.Close() }
	case algorithmZstd:
		z, err := zstd.NewReader(&frame{r: buffered}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, 0, err
		}
		c, e.r, e.close = Zstd, z, z.Close
	default:
		return nil, 0, fmt.Errorf("compressed by the unknown algorithm %d", algorithm)
	}
	return e, c, nil
}

// expander holds a stream to its limit and to its end.
type expander struct {
	r           io.Reader
	rest        *bufio.Reader
	close       func()
	left, limit int64
}

func (e *expander) Read(p []byte) (int, error) {
	if e.left < 0 {
		return 0, fmt.Errorf("it expands to more than %d bytes", e.limit)
	}
	if int64(len(p)) > e.left+1 {
		p = p[:e.left+1]
	}
	n, err := e.r.Read(p)
	if e.left -= int64(n); e.left < 0 {
		return n, fmt.Errorf("it expands to more than %d bytes", e.limit)
	}
	if err == io.EOF {
		if _, behind := e.rest.Peek(1); behind == nil {
			return n, errors.New("something stands behind the end")
		}
	} else if err != nil {
		err = readable(err)
	}
	return n, err
}

func (e *expander) Close() error {
	e.close()
	return nil
}

// frame reads one frame of zstd and nothing behind it: the decoder would go on with
// frames of which nobody knows.
type frame struct {
	r     *bufio.Reader
	begun bool
	last  bool // no block follows
	tail  int  // bytes of the checksum
	left  int  // of what can be handed on
}

func (f *frame) Read(p []byte) (int, error) {
	for f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(p) > f.left {
		p = p[:f.left]
	}
	n, err := f.r.Read(p)
	f.left -= n
	if err == io.EOF && f.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next finds how long the next part is: the header, a block, or the checksum.
func (f *frame) next() error {
	switch {
	case !f.begun:
		f.begun = true
		begin, err := f.r.Peek(zstd.HeaderMaxSize)
		if err != nil && err != io.EOF {
			return err
		}
		var h zstd.Header
		if err := h.Decode(begin); err != nil || h.Skippable {
			return errors.New("no frame of zstd")
		}
		f.left = h.HeaderSize
		if h.HasCheckSum {
			f.tail = 4
		}
		return nil
	case f.last && f.tail > 0:
		f.left, f.tail = f.tail, 0
		return nil
	case f.last:
		return io.EOF
	}
	begin, err := f.r.Peek(3)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	header := uint32(begin[0]) | uint32(begin[1])<<8 | uint32(begin[2])<<16
	f.last = header&1 != 0
	f.left = 3 + int(header>>3)
	if header>>1&3 == 1 { // one byte, repeated
		f.left = 3 + 1
	}
	return nil
}

// The settings of compression. With others, or with another version of the library that
// changes its output, equal input gives other bytes than before.
const (
	deflateLevel = flate.DefaultCompression
	zstdLevel    = zstd.SpeedDefault
	zstdTold     = 3 // the level that the file tells, in numbers of zstd's own
)

// Compress writes what is written to it to w, compressed. Close ends it.
func Compress(w io.Writer, c Compression) (io.WriteCloser, error) {
	switch c {
	case Uncompressed:
		return nopCloser{w}, nil
	case Deflate:
		if _, err := io.WriteString(w, magicDeflate); err != nil {
			return nil, err
		}
		return flate.NewWriter(w, deflateLevel)
	case Zstd:
		if _, err := w.Write(append([]byte(magicOther), algorithmZstd, zstdTold)); err != nil {
			return nil, err
		}
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstdLevel), zstd.WithEncoderConcurrency(1))
	}
	return nil, fmt.Errorf("unknown compression %d", uint8(c))
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
