package view

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/tarn-build/tarn/images/registry"
)

// held are images as go-containerregistry has them.
type held struct{ images []v1.Image }

func (h *held) Blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	for _, image := range h.images {
		if digest, err := image.Digest(); err == nil && digest == d.Digest {
			raw, err := image.RawManifest()
			return io.NopCloser(bytes.NewReader(raw)), err
		}
		m, err := image.Manifest()
		if err != nil {
			return nil, err
		}
		if m.Config.Digest == d.Digest {
			raw, err := image.RawConfigFile()
			return io.NopCloser(bytes.NewReader(raw)), err
		}
		for _, l := range m.Layers {
			if l.Digest == d.Digest {
				layer, err := image.LayerByDigest(d.Digest)
				if err != nil {
					return nil, err
				}
				return layer.Compressed()
			}
		}
	}
	return nil, fmt.Errorf("there is no blob %s", d.Digest)
}

func (h *held) Close() error { return nil }

// pulled are the images of a repository of a registry, from when their manifests are read.
type pulled struct {
	client     *registry.Client
	repository name.Repository
	held
}

func (p *pulled) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	switch {
	case len(d.URLs) > 0:
		return nil, &RefusedError{Why: "it lies elsewhere, at an address that the image names"}
	case d.MediaType.IsImage(), d.MediaType.IsIndex():
		got, err := p.client.Get(ctx, p.repository.Digest(d.Digest.String()))
		if err != nil {
			return nil, err
		}
		if d.MediaType.IsImage() {
			image, err := got.Image()
			if err != nil {
				return nil, err
			}
			p.images = append(p.images, image)
		}
		return io.NopCloser(bytes.NewReader(got.Manifest)), nil
	}
	return p.held.Blob(ctx, d)
}
