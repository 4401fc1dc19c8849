package images

import (
	"fmt"
	"io"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"github.com/tarn-build/tarn/pkg/diag"
)

// compression is a way to compress layers. Its bytes depend on what is compressed
// alone, not on the number of processors.
type compression struct {
	name      string
	mediaType types.MediaType
	suffix    string // of file names
	// version changes when equal archives give other bytes than before: with the level,
	// and with a release of the compressor that writes other bytes.
	version string
	// compress writes what write gives, which is about size bytes, to w.
	compress func(w io.Writer, size int64, write func(io.Writer) error) error
}

const gzipLevel = 6

// compressions are all of them, the default first.
var compressions = []compression{
	{"gzip", types.OCILayer, ".gz", "3: gzip of klauspost/compress 1.20.3 and pgzip 1.2.6, level 6", compressGzip},
	{"zstd", types.OCILayerZStd, ".zst", "1: zstd of klauspost/compress 1.20.3, default level", compressZstd},
	{"none", types.OCIUncompressedLayer, "", "1: none", func(w io.Writer, _ int64, write func(io.Writer) error) error { return write(w) }},
}

// ParseCompression reads the name of a compression: gzip, which "" is too, zstd or none.
func ParseCompression(name string) (string, error) {
	var names []string
	for _, c := range compressions {
		if c.name == name || name == "" {
			return c.name, nil
		}
		names = append(names, c.name)
	}
	hint := ""
	if near := diag.DidYouMean(name, names); near != "" {
		hint = "\n  hint: " + near
	}
	return "", fmt.Errorf("unknown compression %q: it is gzip, zstd or none%s", name, hint)
}

// compression is how the layers are compressed.
func (l *Layering) compression() compression {
	if l != nil {
		for _, c := range compressions {
			if c.name == l.Compression {
				return c
			}
		}
	}
	return compressions[0]
}

// WithCompression is the same layering with layers compressed another way.
func (l *Layering) WithCompression(name string) *Layering {
	var changed Layering
	if l != nil {
		changed = *l
	}
	changed.Strategy, changed.Budget = l.strategy()
	changed.Compression = name
	return &changed
}

// largeLayer is from when on one layer is compressed by all processors. Smaller ones are
// compressed beside each other, which needs less memory.
const largeLayer = 32 << 20

// gzipWriters are those that are not in use: each has tables of more than a megabyte.
var gzipWriters = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(nil, gzipLevel)
	if err != nil {
		panic("internal error: " + err.Error()) // the level is one
	}
	return z
}}

// compressGzip writes one gzip member in any case: there are clients that read no more
// than the first. That of a large layer is made of blocks of a mebibyte, each of
// which knows the end of the one before.
func compressGzip(w io.Writer, size int64, write func(io.Writer) error) error {
	var z io.WriteCloser
	if size < largeLayer {
		small := gzipWriters.Get().(*gzip.Writer)
		small.Reset(w)
		defer gzipWriters.Put(small)
		z = small
	} else {
		large, err := pgzip.NewWriterLevel(w, gzipLevel)
		if err != nil {
			return err
		}
		z = large
	}
	err := write(z)
	// Close ends what runs beside, even when there is an error.
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	return err
}

// compressZstd writes one zstd frame.
func compressZstd(w io.Writer, _ int64, write func(io.Writer) error) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(2))
	if err != nil {
		return err
	}
	err = write(z)
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	return err
}

// expand reads a compressed file, which it closes at the end.
func expand(f io.ReadCloser, media types.MediaType) (io.ReadCloser, error) {
	switch media {
	case types.OCIUncompressedLayer:
		return f, nil
	case types.OCILayerZStd:
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return &expanded{z, z.IOReadCloser(), f}, nil
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return &expanded{z, z, f}, nil
}

// expanded reads a compressed file and closes both.
type expanded struct {
	io.Reader
	expander, file io.Closer
}

func (e *expanded) Close() error {
	err := e.expander.Close()
	if cerr := e.file.Close(); err == nil {
		err = cerr
	}
	return err
}
