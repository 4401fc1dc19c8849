package images

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tarn-build/tarn/pkg/store"
)

// WriteArchive writes the image as a file that docker load and podman load take; see
// the function WriteArchive.
func (i *Image) WriteArchive(ctx context.Context, file, tag string) error {
	return WriteArchive(ctx, file, tag, i)
}

// WriteArchive writes images, each of another architecture, as one file that docker load
// and podman load take, under a tag like nginx:latest. It is what docker save writes
// since version 25: an OCI layout, which newer programs read, with the list of images
// that older ones read. These know no architectures: there, with several images, each has
// the architecture behind its tag, nginx:latest-amd64, as apko has it.
func WriteArchive(ctx context.Context, file, tag string, images ...*Image) error {
	ref, err := parseTag(tag)
	if err != nil {
		return err
	}
	if err := writeArchive(ctx, file, ref, images); err != nil {
		return fmt.Errorf("write image archive %s: %w", file, err)
	}
	return nil
}

// ParseTag checks a tag, and gives what stands behind the name in it: "1.2" of
// registry:5000/nginx:1.2, and "latest" where nothing does.
func ParseTag(tag string) (string, error) {
	ref, err := parseTag(tag)
	if err != nil {
		return "", err
	}
	return ref.TagStr(), nil
}

func parseTag(tag string) (name.Tag, error) {
	ref, err := name.NewTag(tag, name.WithDefaultRegistry(""))
	if err != nil {
		return ref, fmt.Errorf("tag %q: %w", tag, err)
	}
	return ref, nil
}

// saved is an image in the list of docker save, manifest.json.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func writeArchive(ctx context.Context, file string, ref name.Tag, images []*Image) error {
	pieces, err := archivePieces(ref, images)
	if err != nil {
		return err
	}
	last := pieces[len(pieces)-2:]
	o, err := newOutput(images[0].st, file, contentOf("archive", string(last[0].data), string(last[1].data)))
	if err != nil {
		return err
	}
	if there, err := o.isThere(pieces); err != nil || there {
		return err
	}
	err = replaceFile(file, func(f *os.File) error {
		for _, p := range pieces {
			if err := o.add(ctx, f, p); err != nil {
				return err
			}
		}
		_, err := f.Write(make([]byte, 1024)) // the end of an archive
		return err
	})
	if err == nil {
		o.remember("")
	}
	return err
}

// archivePieces are the members of an archive, the two that name all others at the end.
func archivePieces(ref name.Tag, images []*Image) ([]piece, error) {
	pieces := append(blobPieces(images), piece{name: "oci-layout", data: []byte(layoutVersion)})
	list := []saved{}
	var manifests []v1.Descriptor
	for _, i := range images {
		tag := ref.Name()
		if len(images) > 1 {
			tag += "-" + i.About.Arch.GoArch() + i.About.Arch.Variant()
		}
		s := saved{Config: blobPath(string(store.DigestOf(i.Config))), RepoTags: []string{tag}}
		for _, l := range i.About.Layers {
			s.Layers = append(s.Layers, blobPath(l.Digest))
		}
		list = append(list, s)
		d, err := i.descriptor()
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, d)
	}
	top := manifests[0]
	if len(images) > 1 {
		text, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: manifests})
		if err != nil {
			return nil, err
		}
		digest := string(store.DigestOf(text))
		hash, err := v1.NewHash(digest)
		if err != nil {
			return nil, err
		}
		top = v1.Descriptor{MediaType: types.OCIImageIndex, Size: int64(len(text)), Digest: hash}
		pieces = append(pieces, piece{name: blobPath(digest), data: text})
	}
	// By the first containerd and docker call it, by the second skopeo and podman do.
	top.Annotations = map[string]string{"io.containerd.image.name": fullName(ref), "org.opencontainers.image.ref.name": ref.TagStr()}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{top}})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	return append(pieces, piece{name: "index.json", data: index}, piece{name: "manifest.json", data: text}), nil
}

// fullName is a tag with the registry that it means when it names none.
func fullName(ref name.Tag) string {
	if ref.RegistryStr() != "" {
		return ref.Name()
	}
	full, err := name.NewTag(ref.Name(), name.WithDefaultRegistry("docker.io"))
	if err != nil {
		return ref.Name()
	}
	return full.Name()
}

// add writes a member of an archive.
func (o *output) add(ctx context.Context, f *os.File, p piece) error {
	h := tar.Header{Typeflag: tar.TypeReg, Name: p.name, Mode: 0o644, Size: int64(len(p.data)), Format: tar.FormatUSTAR}
	if p.blob != "" {
		if h.Size = p.size; p.size >= 8<<30 {
			h.Format = tar.FormatPAX
		}
	}
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(&h); err != nil {
		return err
	}
	if _, err := f.Write(header.Bytes()); err != nil {
		return err
	}
	// Not through a tar.Writer, which would take it through memory.
	if err := o.copy(ctx, f, p); err != nil {
		return err
	}
	_, err := f.Write(make([]byte, (512-h.Size%512)%512))
	return err
}
