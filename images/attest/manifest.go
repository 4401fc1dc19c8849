package attest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// manifest is an image manifest with the field that go-containerregistry's lacks.
type manifest struct {
	SchemaVersion int64           `json:"schemaVersion"`
	MediaType     types.MediaType `json:"mediaType"`
	ArtifactType  string          `json:"artifactType"`
	Config        v1.Descriptor   `json:"config"`
	Layers        []v1.Descriptor `json:"layers"`
	Subject       *v1.Descriptor  `json:"subject"`
}

// Manifest makes the manifest of items of a kind beside an image. The same items give the
// same bytes.
func Manifest(kind Kind, of v1.Descriptor, items []Item) (v1.Image, error) {
	// The descriptor of the image as it stands in a list of referrers, and no more.
	m := manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: artifactType(kind),
		Subject: &v1.Descriptor{MediaType: of.MediaType, Size: of.Size, Digest: of.Digest},
	}
	image := &beside{blobs: map[v1.Hash]v1.Layer{}}
	// Older tools look for an image's configuration, and for as many layers in it, and
	// older registries take its type for that of the artifact.
	config := v1.ConfigFile{RootFS: v1.RootFS{Type: "layers"}}
	for _, item := range items {
		layer := static.NewLayer(item.Data, item.MediaType)
		d, err := partial.Descriptor(layer)
		if err != nil {
			return nil, err
		}
		d.Annotations = item.Annotations
		m.Layers = append(m.Layers, *d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
		image.blobs[d.Digest] = layer
	}
	var err error
	if image.config, err = json.Marshal(config); err != nil {
		return nil, err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(image.config))
	if err != nil {
		return nil, err
	}
	m.Config = v1.Descriptor{MediaType: types.MediaType(m.ArtifactType), Size: size, Digest: digest}
	if image.manifest, err = json.Marshal(m); err != nil {
		return nil, err
	}
	return partial.CompressedToImage(image)
}

// beside is the least that go-containerregistry must know of such a manifest.
type beside struct {
	config, manifest []byte
	blobs            map[v1.Hash]v1.Layer
}

func (b *beside) RawConfigFile() ([]byte, error)      { return b.config, nil }
func (b *beside) RawManifest() ([]byte, error)        { return b.manifest, nil }
func (b *beside) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (b *beside) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	return blob{b.blobs[h]}, nil
}

// blob is a small blob as a layer.
type blob struct{ layer v1.Layer }

func (b blob) Digest() (v1.Hash, error)            { return b.layer.Digest() }
func (b blob) Compressed() (io.ReadCloser, error)  { return b.layer.Compressed() }
func (b blob) Size() (int64, error)                { return b.layer.Size() }
func (b blob) MediaType() (types.MediaType, error) { return b.layer.MediaType() }

// Merge is what a manifest beside an image holds when items are added to it: those of
// others stay, and of one kind by one key the newest counts.
//
// mine tells whether an item that was there is by the key that signed the added ones.
func Merge(there, added []Item, mine func(Item) bool) []Item {
	var all []Item
	for _, old := range there {
		replaced := slices.ContainsFunc(added, func(i Item) bool {
			return i.MediaType == old.MediaType && i.Annotations[predicateKey] == old.Annotations[predicateKey] && mine(old) ||
				bytes.Equal(i.Data, old.Data) && maps.Equal(i.Annotations, old.Annotations)
		})
		if !replaced {
			all = append(all, old)
		}
	}
	return append(all, added...)
}
