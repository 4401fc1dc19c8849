package view

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tarn-build/tarn/pkg/archive"
)

// maxMembers is how many members an archive of images may have.
const maxMembers = 100_000

// archiveFile is an archive with images: where each member lies in it.
type archiveFile struct {
	file    *os.File
	members map[string]member
	links   map[string]string // docker save names a layer twice
}

type member struct{ offset, size int64 }

// openArchive reads the names of an archive. One that is compressed is expanded first,
// to a file without a name.
func openArchive(ctx context.Context, name string, o Options) (*archiveFile, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	plain, err := expandArchive(ctx, file, o)
	if err != nil {
		file.Close()
		return nil, err
	}
	a := &archiveFile{file: plain, members: map[string]member{}, links: map[string]string{}}
	if err := a.read(ctx); err != nil {
		plain.Close()
		return nil, err
	}
	return a, nil
}

// expandArchive gives file itself if it is not compressed.
func expandArchive(ctx context.Context, file *os.File, o Options) (*os.File, error) {
	head := make([]byte, 512)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return nil, err
	}
	r, err := archive.Decompress(io.MultiReader(bytes.NewReader(head[:n]), file))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	first := make([]byte, 512)
	if _, err := io.ReadFull(r, first); err != nil {
		return nil, &NotFoundError{file.Name(), "it is neither an archive of images nor a layout"}
	}
	if _, err := tar.NewReader(bytes.NewReader(first)).Next(); errors.Is(err, tar.ErrHeader) {
		return nil, &NotFoundError{file.Name(), "it is neither an archive of images nor a layout"}
	}
	if bytes.Equal(first, head) {
		return file, nil
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	spool, err := newSpool(o.Temp)
	if err != nil {
		return nil, err
	}
	x := &expansion{r: io.MultiReader(bytes.NewReader(first), r), packed: func() int64 { return info.Size() }, total: &total{limit: o.Limits.Bytes}, ratio: o.Limits.Ratio, ctx: ctx}
	if _, err := io.Copy(spool, x); err != nil {
		spool.Close()
		return nil, err
	}
	return spool, file.Close()
}

// newSpool makes a file that is gone when it is closed, however this process ends.
func newSpool(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "tarn-view-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// read notes the members. An archive's tar reader seeks over what it does not read.
func (a *archiveFile) read(ctx context.Context) error {
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	r := tar.NewReader(a.file)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := r.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if len(a.members)+len(a.links) > maxMembers {
			return &RefusedError{Why: fmt.Sprintf("the archive has more than %d members", maxMembers)}
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			offset, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			if h.Size > info.Size()-offset {
				return fmt.Errorf("read archive: %s: %w", name, io.ErrUnexpectedEOF)
			}
			a.members[name] = member{offset, h.Size}
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean(h.Linkname)
		}
	}
}

func (a *archiveFile) find(name string) (member, bool) {
	for range 8 {
		if m, found := a.members[name]; found {
			return m, true
		}
		to, found := a.links[name]
		if !found {
			break
		}
		name = to
	}
	return member{}, false
}

func (a *archiveFile) has(name string) bool {
	_, found := a.find(name)
	return found
}

func (a *archiveFile) open(name string) (io.ReadCloser, error) {
	m, found := a.find(path.Clean(name))
	if !found {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), nil
}

func (a *archiveFile) Blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	return a.open(blobName(d))
}

func (a *archiveFile) Close() error { return a.file.Close() }

// dockerImage is an entry of manifest.json in an archive of docker save (Docker image
// specification v1.2, "Combined Image JSON + Filesystem Changeset Format").
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerArchive reads the list of an archive of docker save.
func (o *Opened) dockerArchive(a *archiveFile, which string) error {
	r, err := a.open("manifest.json")
	if err != nil {
		return &NotFoundError{o.Ref, "it is no archive of images: it has neither index.json nor manifest.json"}
	}
	data, err := limited(r, o.o.Limits.Document)
	if err != nil {
		return fmt.Errorf("read manifest.json: %w", err)
	}
	var all []dockerImage
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("read manifest.json: %w", err)
	}
	var tags []string
	for _, d := range all {
		tags = append(tags, d.RepoTags...)
	}
	if which != "" {
		all = slices.DeleteFunc(all, func(d dockerImage) bool {
			return !slices.ContainsFunc(d.RepoTags, func(tag string) bool { return named(tag, which) })
		})
		if len(all) == 0 {
			return &NotFoundError{o.Ref, fmt.Sprintf("it has no image %q%s", which, whichHint(tags))}
		}
	}
	if len(all) > 1 {
		return &NotFoundError{o.Ref, "it holds several images" + whichHint(tags)}
	}
	for _, d := range all {
		if err := o.dockerImage(a, d); err != nil {
			return err
		}
	}
	return nil
}

func (o *Opened) dockerImage(a *archiveFile, d dockerImage) error {
	if len(d.Layers) > o.o.Limits.Layers {
		return &RefusedError{Why: fmt.Sprintf("the image has %d layers, more than %d", len(d.Layers), o.o.Limits.Layers)}
	}
	r, err := a.open(d.Config)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	i := &Image{Tags: d.RepoTags, Manifest: &v1.Manifest{SchemaVersion: 2}, from: o}
	if i.RawConfig, err = limited(r, o.o.Limits.Document); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	digest, size, err := v1.SHA256(bytes.NewReader(i.RawConfig))
	if err != nil {
		return err
	}
	i.Manifest.Config = v1.Descriptor{MediaType: types.DockerConfigJSON, Digest: digest, Size: size}
	for _, name := range d.Layers {
		m, found := a.find(path.Clean(name))
		if !found {
			return &NotFoundError{o.Ref, "it lacks the layer " + name}
		}
		l := v1.Descriptor{MediaType: types.DockerUncompressedLayer, Size: m.size}
		i.layers = append(i.layers, blob{l, path.Clean(name)})
		i.Manifest.Layers = append(i.Manifest.Layers, l)
	}
	return o.add(i, nil)
}

// whichHint says how to name one of several images.
func whichHint(tags []string) string {
	if len(tags) == 0 {
		return ""
	}
	if len(tags) > 8 {
		tags = append(slices.Clone(tags[:8]), "...")
	}
	return "; there are " + strings.Join(tags, ", ") + "\n  hint: write the one that is meant behind the path: PATH:TAG"
}
