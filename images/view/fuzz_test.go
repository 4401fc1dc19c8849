package view

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"io/fs"
	"path"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
)

// oneBlob gives the same bytes for every digest.
type oneBlob []byte

func (b oneBlob) Blob(context.Context, v1.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b)), nil
}
func (oneBlob) Close() error { return nil }

func seed(f *testing.F, headers ...tar.Header) []byte {
	f.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range headers {
		h := &headers[i]
		data := h.Linkname
		if h.Typeflag == tar.TypeReg {
			h.Size, h.Linkname = int64(len(data)), ""
		} else {
			data = ""
		}
		if err := w.WriteHeader(h); err != nil {
			f.Fatal(err)
		}
		io.WriteString(w, data)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	return b.Bytes()
}

// FuzzLayers holds that whatever two layers say, they are refused or come out as a tree
// whose paths are plain, whose folders are there, and whose databases are read.
func FuzzLayers(f *testing.F) {
	const file, link, hard, dir = tar.TypeReg, tar.TypeSymlink, tar.TypeLink, tar.TypeDir
	f.Add(
		seed(f, tar.Header{Typeflag: dir, Name: "etc/"}, tar.Header{Typeflag: file, Name: "etc/a", Linkname: "x"}, tar.Header{Typeflag: hard, Name: "b", Linkname: "etc/a"}, tar.Header{Typeflag: link, Name: "l", Linkname: "../.."}),
		seed(f, tar.Header{Typeflag: file, Name: "etc/.wh.a"}, tar.Header{Typeflag: file, Name: "l/.wh..wh..opq"}, tar.Header{Typeflag: file, Name: "l/x/y", Linkname: "z"}),
	)
	f.Add(
		seed(f, tar.Header{Typeflag: link, Name: "a", Linkname: "b"}, tar.Header{Typeflag: link, Name: "b", Linkname: "a"}, tar.Header{Typeflag: file, Name: "a/x"}),
		seed(f, tar.Header{Typeflag: tar.TypeChar, Name: "dev/null"}, tar.Header{Typeflag: file, Name: "../x"}),
	)
	f.Add(
		seed(f, tar.Header{Typeflag: file, Name: "lib/apk/db/installed", Linkname: "P:a\nV:1-r0\nF:bin\nR:a\nZ:Q1rCeO7bvVHsLVBLw0LyzI2nsFGEo=\n\n"}, tar.Header{Typeflag: file, Name: "var/lib/dpkg/status", Linkname: "Package: a\nVersion: 1\n"}),
		seed(f, tar.Header{Typeflag: file, Name: "bin/a", Linkname: elfMagic, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}, Format: tar.FormatPAX}),
	)
	limits := Limits{Entries: 1000, Bytes: 1 << 20, Text: 1 << 20}.orDefault()
	temp := f.TempDir()
	f.Fuzz(func(t *testing.T, one, two []byte) {
		r := &layerReader{o: Options{Limits: limits, Temp: temp}, keep: told}
		r.total.limit = limits.Bytes
		image := &Image{Config: &v1.ConfigFile{}, from: &Opened{o: r.o}}
		var layers []*readLayer
		for n, data := range [][]byte{one, two} {
			sum := sha256.Sum256(data)
			b := blob{Descriptor: v1.Descriptor{Size: int64(len(data)), Digest: hashOf(sum[:])}}
			var diff v1.Hash
			if plain, err := gzip.NewReader(bytes.NewReader(data)); err != nil {
				diff = b.Digest
			} else {
				h := sha256.New()
				if _, err := io.Copy(h, io.LimitReader(plain, 2<<20)); err != nil {
					return
				}
				diff = hashOf(h.Sum(nil))
			}
			l, err := r.read(t.Context(), oneBlob(data), b, n+1, diff)
			if err != nil {
				return
			}
			layers = append(layers, l)
			image.layers = append(image.layers, b)
		}
		c, err := image.contents(layers)
		if err != nil {
			return
		}
		for n := range c.Tree.All() {
			if !fs.ValidPath(n.Path) || n.Path == "." {
				t.Errorf("path %q", n.Path)
			}
			if dir := path.Dir(n.Path); dir != "." {
				if parent, found := c.Tree.Lstat(dir); !found || !parent.Mode.IsDir() || parent.Path != dir {
					t.Errorf("%q stands in no folder", n.Path)
				}
			}
			if n.Mode.IsRegular() && (n.Sum == "" || c.Files[n.Path] == nil) {
				t.Errorf("%q has no digest", n.Path)
			}
		}
	})
}

func hashOf(sum []byte) v1.Hash {
	const digits = "0123456789abcdef"
	h := v1.Hash{Algorithm: "sha256"}
	for _, b := range sum {
		h.Hex += string([]byte{digits[b>>4], digits[b&15]})
	}
	return h
}
