package view_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tarn-build/tarn/pkg/archive"
)

func gzipped(t testing.TB, r io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.Copy(w, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bytesLayer is a layer of any bytes, whose digests are those that it has.
type bytesLayer struct{ data []byte }

// anyLayer is a layer of any bytes.
func anyLayer(data []byte) v1.Layer { return bytesLayer{data} }

func (l bytesLayer) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(l.data))
	return h, err
}

func (l bytesLayer) DiffID() (v1.Hash, error) {
	r, err := l.Uncompressed()
	if err != nil {
		return l.Digest()
	}
	defer r.Close()
	h, _, err := v1.SHA256(io.LimitReader(r, 16<<20))
	if err != nil {
		return l.Digest()
	}
	return h, nil
}

func (l bytesLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.data)), nil
}

func (l bytesLayer) Uncompressed() (io.ReadCloser, error) {
	return archive.Decompress(bytes.NewReader(l.data))
}

func (l bytesLayer) Size() (int64, error)                { return int64(len(l.data)), nil }
func (l bytesLayer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
