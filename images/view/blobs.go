package view

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Blobs gives the bytes of digests. They need not be checked: whoever reads them here does.
type Blobs interface {
	// Blob opens what a descriptor names.
	Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	Close() error
}

// document reads a blob that is read as a whole, and checks it.
func (o *Opened) document(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if d.Digest.Algorithm != "sha256" {
		return nil, &RefusedError{Why: fmt.Sprintf("the digest %s is not one of SHA-256", d.Digest)}
	}
	r, err := o.blobs.Blob(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	}
	defer r.Close()
	data, err := limited(r, o.o.Limits.Document)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(sum[:]); got != d.Digest.Hex {
		return nil, &DigestError{"blob " + d.Digest.String(), d.Digest.String(), "sha256:" + got}
	}
	// What names it by a digest alone, as a reference does, says no size.
	if d.Size != 0 && d.Size != int64(len(data)) {
		return nil, wrongSize("blob "+d.Digest.String(), int64(len(data)), d.Size)
	}
	return data, nil
}

// wrongSize says that a descriptor tells another size than its blob has. Other readers
// stop there, or make room by what is told (descriptor.md of the specification).
func wrongSize(what string, got, told int64) error {
	return &RefusedError{Why: fmt.Sprintf("%s has %d bytes, and %d are told of it", what, got, told)}
}

// limited reads at most limit bytes.
func limited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &RefusedError{Why: fmt.Sprintf("it is longer than %d bytes", limit)}
	}
	return data, nil
}

// Names in an OCI layout (OCI image specification, image-layout.md).
const (
	layoutIndex = "index.json"
	layoutBlobs = "blobs"
)

// files are where a layout lies.
type files interface {
	Blobs
	open(name string) (io.ReadCloser, error)
}

// folder is a layout in a folder. Nothing outside of it is opened.
type folder struct{ root *os.Root }

func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root}, nil
}

// open opens a regular file; a pipe does not hold it up.
func (f *folder) open(name string) (io.ReadCloser, error) {
	file, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (f *folder) Blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	return f.open(blobName(d))
}

func (f *folder) Close() error { return f.root.Close() }

func blobName(d v1.Descriptor) string {
	return path.Join(layoutBlobs, d.Digest.Algorithm, d.Digest.Hex)
}

// layout reads the index of an OCI layout. which is a tag or a digest, or "".
func (o *Opened) layout(ctx context.Context, from files, which string) error {
	r, err := from.open(layoutIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{o.Ref, "it is no OCI layout: it has no " + layoutIndex}
	} else if err != nil {
		return err
	}
	defer r.Close()
	data, err := limited(r, o.o.Limits.Document)
	if err != nil {
		return fmt.Errorf("read %s: %w", layoutIndex, err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("read %s: %w", layoutIndex, err)
	}
	all := index.Manifests
	if which != "" {
		all = nil
		for _, d := range index.Manifests {
			if d.Digest.String() == which || named(tagOf(d), which) {
				all = append(all, d)
			}
		}
		if len(all) == 0 {
			return &NotFoundError{o.Ref, fmt.Sprintf("it has no image %q%s", which, tagList(index.Manifests))}
		}
	}
	return o.topLevel(ctx, all)
}

// topLevel adds what a layout's index names. The index itself has no digest that
// anybody knows: a single entry is what the layout holds; of several, each must be for
// another platform.
func (o *Opened) topLevel(ctx context.Context, all []v1.Descriptor) error {
	var images []v1.Descriptor
	for _, d := range all {
		if !isBeside(d) {
			images = append(images, d)
		}
	}
	if len(images) > maxManifests {
		return &RefusedError{Why: fmt.Sprintf("the index names %d manifests, more than %d", len(images), maxManifests)}
	}
	depth := 0
	if len(images) > 1 {
		depth = 1
	}
	var tops []v1.Descriptor // that lead to images
	for _, d := range images {
		var tags []string
		if tag := tagOf(d); tag != "" {
			tags = []string{tag}
		}
		before := len(o.Images)
		if err := o.descriptor(ctx, d, tags, depth); err != nil {
			return err
		}
		if len(o.Images) > before {
			tops = append(tops, d)
		}
	}
	if len(images) > 1 && len(tops) == 1 {
		// What lies beside it is no other image: signatures, as tools copy them.
		o.Images = nil
		return o.topLevel(ctx, tops)
	}
	seen := map[string]bool{}
	for _, i := range o.Images {
		// One image may stand under several tags.
		if key := i.Platform.String(); seen[key] && len(images) > 1 {
			if o.Images = sameImages(o.Images); len(o.Images) == 1 {
				o.Digest = o.Images[0].Digest
				return nil
			}
			return &NotFoundError{o.Ref, "it holds several images for " + key + tagList(images)}
		} else {
			seen[key] = true
		}
	}
	return nil
}

// sameImages gives the images, each digest once.
func sameImages(all []*Image) []*Image {
	var kept []*Image
	byDigest := map[string]*Image{}
	for _, i := range all {
		if first := byDigest[i.Digest]; first != nil {
			first.Tags = append(first.Tags, i.Tags...)
			continue
		}
		byDigest[i.Digest] = i
		kept = append(kept, i)
	}
	return kept
}

// tagOf is the name of an image in a layout (annotations.md of the specification).
func tagOf(d v1.Descriptor) string { return d.Annotations["org.opencontainers.image.ref.name"] }

func tagList(all []v1.Descriptor) string {
	var tags []string
	for _, d := range all {
		if tag := tagOf(d); tag != "" {
			tags = append(tags, tag)
		}
	}
	return whichHint(tags)
}
