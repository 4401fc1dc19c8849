package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tarn-build/tarn/pkg/store"
)

// baseFiles are the contents of the files of a base image. They lie compressed in its
// layers; where one is read, all of them are put one behind the other into a file without
// a name, each found by its digest, whatever layer and path it has.
type baseFiles struct {
	st     *store.Store
	layers []Layer
	sizes  map[string]int64 // by SHA-256 in hexadecimal; of what the image has in the end

	mu   sync.Mutex
	file *os.File // nil until something is read
	err  error    // why nothing could be read
	at   map[string]int64
}

// baseFile is the content of one of them.
type baseFile struct {
	of  *baseFiles
	sum string
}

// content is where a file of the base is read.
func (b *baseFiles) content(sum string, size int64) baseFile {
	b.sizes[sum] = size
	return baseFile{b, sum}
}

// Open gives a file's content.
func (f baseFile) Open() (io.ReadCloser, error) {
	err := f.of.unpack(context.Background())
	f.of.mu.Lock()
	defer f.of.mu.Unlock()
	if err != nil {
		f.of.err = err // not everybody who reads tells it, see spools.fail
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(f.of.file, f.of.at[f.sum], f.of.sizes[f.sum])), nil
}

// unpack makes the contents ready to be read.
func (b *baseFiles) unpack(ctx context.Context) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		return nil
	}
	dir, release, err := b.st.TempDir("base")
	if err != nil {
		return err
	}
	defer release() // what is open stays readable
	file, err := os.OpenFile(filepath.Join(dir, "files"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	at, end := map[string]int64{}, int64(0)
	for n, l := range b.layers {
		if end, err = b.unpackLayer(ctx, l, file, at, end); err != nil {
			file.Close()
			return fmt.Errorf("layer %d of the base image: %w", n+1, err)
		}
	}
	for sum := range b.sizes {
		if _, found := at[sum]; !found {
			file.Close()
			return fmt.Errorf("no layer of the base image has the content sha256:%s", sum)
		}
	}
	b.file, b.at = file, at
	return nil
}

// unpackLayer puts what a layer has and is not there yet behind end, and gives the new end.
func (b *baseFiles) unpackLayer(ctx context.Context, l Layer, file *os.File, at map[string]int64, end int64) (int64, error) {
	f, err := b.st.Open(store.Digest(l.Digest))
	if err != nil {
		return end, err
	}
	r, err := expandAny(f)
	if err != nil {
		f.Close()
		return end, err
	}
	defer r.Close()
	sizes := map[int64]bool{}
	for _, size := range b.sizes {
		sizes[size] = true
	}
	// The archive was read when the base was, within limits: it is no longer than it was.
	archive := tar.NewReader(io.LimitReader(r, l.Unpacked))
	for {
		if ctx.Err() != nil {
			return end, context.Cause(ctx)
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, err
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		default:
			continue
		}
		if !sizes[h.Size] {
			continue
		}
		digest := sha256.New()
		to := io.NewOffsetWriter(file, end)
		if _, err := io.Copy(io.MultiWriter(to, digest), archive); err != nil {
			return end, err
		}
		sum := hex.EncodeToString(digest.Sum(nil))
		if _, there := at[sum]; !there && b.sizes[sum] == h.Size {
			at[sum] = end
			end += h.Size
		}
	}
}

// release gives back what was unpacked.
func (b *baseFiles) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = nil
	if b.file != nil {
		b.file.Close()
		b.file, b.at = nil, nil
	}
}

// expandAny expands a layer by its first bytes: what others write bears many types.
func expandAny(f io.ReadCloser) (io.ReadCloser, error) {
	peeked := bufio.NewReaderSize(f, 64<<10)
	magic, err := peeked.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	media := types.OCIUncompressedLayer
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		media = types.OCILayer
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		media = types.OCILayerZStd
	}
	return expand(struct {
		io.Reader
		io.Closer
	}{peeked, f}, media)
}
