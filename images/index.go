package images

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/tarn-build/tarn/images/attest"
)

// Index is the OCI index of images of one image file, each of another architecture, in
// the order of the architectures' names. Its annotations are those that all of them
// have; it was created when the newest of them was.
func Index(images ...*Image) (v1.ImageIndex, error) {
	var parts []indexPart
	for _, image := range images {
		oci, err := image.OCI()
		if err != nil {
			return nil, err
		}
		arch := image.About.Arch
		parts = append(parts, indexPart{oci, v1.Platform{OS: "linux", Architecture: arch.GoArch(), Variant: arch.Variant()}})
	}
	return joinIndex(parts)
}

// LayoutIndex reads the index of an OCI layout: the one that its index.json names, if it
// names one and no images, else the index of the images that it names. What lies beside
// these is not in it. Of a layout that WriteLayout or WriteSignedLayout wrote that is what
// Index gives.
func LayoutIndex(dir string) (v1.ImageIndex, error) {
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("image layout %s: %w", dir, err)
	}
	m, err := top.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("image layout %s: %w", dir, err)
	}
	var parts []indexPart
	var named []v1.Descriptor
	for _, d := range m.Manifests {
		beside, err := isBeside(top, d)
		if err != nil {
			return nil, fmt.Errorf("image layout %s: %w", dir, err)
		}
		if !beside {
			named = append(named, d)
		}
	}
	for _, d := range named {
		switch {
		case d.MediaType.IsIndex() && len(named) == 1:
			return top.ImageIndex(d.Digest)
		case d.MediaType.IsImage():
			image, err := top.Image(d.Digest)
			if err != nil {
				return nil, fmt.Errorf("image layout %s: %w", dir, err)
			}
			platform := d.Platform
			if platform == nil {
				config, err := image.ConfigFile()
				if err != nil {
					return nil, fmt.Errorf("image layout %s: %w", dir, err)
				}
				platform = config.Platform()
			}
			parts = append(parts, indexPart{image, *platform})
		default:
			return nil, fmt.Errorf("image layout %s: it holds %s beside others, and it is not clear what is meant", dir, d.MediaType)
		}
	}
	index, err := joinIndex(parts)
	if err != nil {
		return nil, fmt.Errorf("image layout %s: %w", dir, err)
	}
	return index, nil
}

// isBeside tells whether what a layout names is a manifest of signatures or the like: it
// says what it is an artifact of, or its blobs are no layers.
func isBeside(layout v1.ImageIndex, d v1.Descriptor) (bool, error) {
	if !d.MediaType.IsImage() {
		return false, nil
	}
	image, err := layout.Image(d.Digest)
	if err != nil {
		return false, err
	}
	raw, err := image.RawManifest()
	if err != nil {
		return false, err
	}
	var m struct {
		ArtifactType string          `json:"artifactType"`
		Config       v1.Descriptor   `json:"config"`
		Layers       []v1.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return false, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	signed := slices.ContainsFunc(m.Layers, func(l v1.Descriptor) bool { return attest.IsClaim(l.MediaType) })
	return m.ArtifactType != "" || m.Config.MediaType != "" && !m.Config.MediaType.IsConfig() || signed, nil
}

func joinIndex(parts []indexPart) (v1.ImageIndex, error) {
	if len(parts) == 0 {
		return nil, errors.New("there is no image")
	}
	slices.SortFunc(parts, func(a, b indexPart) int { return strings.Compare(a.platform.String(), b.platform.String()) })
	m := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	index := &imageIndex{images: map[v1.Hash]v1.Image{}}
	created := ""
	for n, p := range parts {
		if n > 0 && p.platform.Equals(parts[n-1].platform) {
			return nil, fmt.Errorf("there are two images for %s", p.platform.String())
		}
		raw, err := p.image.RawManifest()
		if err != nil {
			return nil, err
		}
		one, err := v1.ParseManifest(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		digest, size, err := v1.SHA256(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		index.images[digest] = p.image
		m.Manifests = append(m.Manifests, v1.Descriptor{MediaType: one.MediaType, Size: size, Digest: digest, Platform: &p.platform})
		if n == 0 {
			m.Annotations = maps.Clone(one.Annotations)
		}
		// They are in one form, to the second, which sorts as the times do.
		created = max(created, one.Annotations[createdKey])
		maps.DeleteFunc(m.Annotations, func(key, value string) bool { return one.Annotations[key] != value })
	}
	if created != "" {
		if m.Annotations == nil {
			m.Annotations = map[string]string{}
		}
		m.Annotations[createdKey] = created
	}
	var err error
	index.manifest, err = json.Marshal(m)
	return index, err
}

const createdKey = "org.opencontainers.image.created"

// indexPart is the image of one platform.
type indexPart struct {
	image    v1.Image
	platform v1.Platform
}

// imageIndex is an index of images as go-containerregistry takes it. Its own makes
// artifacts of images: it tells the type of their configuration as that of an artifact.
type imageIndex struct {
	manifest []byte
	images   map[v1.Hash]v1.Image
}

var _ v1.ImageIndex = (*imageIndex)(nil)

func (x *imageIndex) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }
func (x *imageIndex) Digest() (v1.Hash, error)            { return partial.Digest(x) }
func (x *imageIndex) Size() (int64, error)                { return partial.Size(x) }
func (x *imageIndex) RawManifest() ([]byte, error)        { return x.manifest, nil }
func (x *imageIndex) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(bytes.NewReader(x.manifest))
}

func (x *imageIndex) Image(h v1.Hash) (v1.Image, error) {
	if image, found := x.images[h]; found {
		return image, nil
	}
	return nil, fmt.Errorf("index has no image %s", h)
}

func (x *imageIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("index has no index %s", h)
}
