package images

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tarn-build/tarn/images/attest"
	"github.com/tarn-build/tarn/pkg/store"
)

// WriteSignedLayout is WriteLayout of images with what was signed about them and their
// index. The layout names the index by the tag: what it holds is what is in a registry
// when the images are published, under the same digests.
func WriteSignedLayout(ctx context.Context, dir, tag string, beside *attest.Gathered, images ...*Image) error {
	if err := writeSignedLayout(ctx, dir, tag, beside, images); err != nil {
		return fmt.Errorf("write image layout %s: %w", dir, err)
	}
	return nil
}

func writeSignedLayout(ctx context.Context, dir, tag string, beside *attest.Gathered, images []*Image) error {
	index, err := Index(images...)
	if err != nil {
		return err
	}
	top, err := partial.Descriptor(index)
	if err != nil {
		return err
	}
	if tag != "" {
		top.Annotations = map[string]string{"org.opencontainers.image.ref.name": tag}
	}
	listed, err := beside.List(top)
	if err != nil {
		return err
	}
	raw, err := index.RawManifest()
	if err != nil {
		return err
	}
	pieces := append(blobPieces(images), dataPiece(raw))
	all := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{*top}}
	for _, l := range listed {
		some, err := besidePieces(l.Manifest)
		if err != nil {
			return err
		}
		pieces = append(pieces, some...)
		all.Manifests = append(all.Manifests, l.Descriptor)
	}
	return writeLayoutOf(ctx, images[0].st, dir, all, onceEach(pieces))
}

// besidePieces are the blobs of a manifest beside an image. They are small.
func besidePieces(manifest v1.Image) ([]piece, error) {
	layers, err := manifest.Layers()
	if err != nil {
		return nil, err
	}
	var pieces []piece
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return nil, err
		}
		pieces = append(pieces, dataPiece(data))
	}
	for _, raw := range []func() ([]byte, error){manifest.RawConfigFile, manifest.RawManifest} {
		data, err := raw()
		if err != nil {
			return nil, err
		}
		pieces = append(pieces, dataPiece(data))
	}
	return pieces, nil
}

func dataPiece(data []byte) piece {
	return piece{name: blobPath(string(store.DigestOf(data))), data: data}
}

// onceEach leaves out pieces of names that were there before.
func onceEach(pieces []piece) []piece {
	seen := map[string]bool{}
	var kept []piece
	for _, p := range pieces {
		if !seen[p.name] {
			seen[p.name] = true
			kept = append(kept, p)
		}
	}
	return kept
}
