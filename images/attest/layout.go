package attest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// Layout is what lies beside the images of an OCI layout: the manifests that its index
// names by cosign's tags, with an image as their subject, or as cosign save writes them.
// It is read only; Gathered is for one that is yet to be written.
func Layout(dir string) Beside { return layoutBeside(dir) }

type layoutBeside string

// How cosign tells in the index of a layout what is what (cosign save, verify --local-image).
const (
	kindKey          = "kind"
	kindImage        = "dev.cosignproject.cosign/image"
	kindIndex        = "dev.cosignproject.cosign/imageIndex"
	kindSignatures   = "dev.cosignproject.cosign/sigs"
	kindAttestations = "dev.cosignproject.cosign/atts"
)

// maxManifest is the most of a manifest in a layout that is read, in bytes.
const maxManifest = 8 << 20

func (l layoutBeside) manifests(take func(v1.Descriptor, *v1.Manifest) bool) ([]v1.Image, error) {
	top, err := layout.ImageIndexFromPath(string(l))
	if err != nil {
		return nil, err
	}
	index, err := top.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(index.Manifests) > maxItems {
		return nil, fmt.Errorf("%s: it names more than %d manifests", string(l), maxItems)
	}
	var found []v1.Image
	for _, d := range index.Manifests {
		if !d.MediaType.IsImage() {
			continue
		}
		// The library reads it whole, whatever the index tells of its size.
		info, err := os.Lstat(filepath.Join(string(l), "blobs", d.Digest.Algorithm, d.Digest.Hex))
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > maxManifest {
			return nil, fmt.Errorf("%s: manifest %s is no file of at most %d bytes", string(l), d.Digest, int64(maxManifest))
		}
		image, err := top.Image(d.Digest)
		if err != nil {
			return nil, err
		}
		m, err := image.Manifest()
		if err != nil {
			return nil, err
		}
		if take(d, m) {
			found = append(found, image)
		}
	}
	return found, nil
}

func (l layoutBeside) Tagged(_ context.Context, tag string) (v1.Image, error) {
	found, err := l.manifests(func(d v1.Descriptor, _ *v1.Manifest) bool {
		return d.Annotations["org.opencontainers.image.ref.name"] == tag
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

func (l layoutBeside) Referrers(_ context.Context, of v1.Hash) ([]v1.Image, error) {
	top, err := layout.ImageIndexFromPath(string(l))
	if err != nil {
		return nil, err
	}
	index, err := top.IndexManifest()
	if err != nil {
		return nil, err
	}
	// cosign saves what lies beside one image, and says of which one by no more than this.
	saved := func(d v1.Descriptor) bool {
		return d.Annotations[kindKey] == kindImage || d.Annotations[kindKey] == kindIndex
	}
	theirs := !slices.ContainsFunc(index.Manifests, func(d v1.Descriptor) bool { return saved(d) && d.Digest != of })
	return l.manifests(func(d v1.Descriptor, m *v1.Manifest) bool {
		if m.Subject != nil {
			return m.Subject.Digest == of
		}
		return theirs && (d.Annotations[kindKey] == kindSignatures || d.Annotations[kindKey] == kindAttestations)
	})
}

func (layoutBeside) Attach(context.Context, string, v1.Image) error {
	return errors.New("nothing is put beside the images of a layout")
}

// Gathered keeps what is put beside images until a layout is written. Its zero value holds
// nothing; several goroutines may use it.
type Gathered struct {
	mu     sync.Mutex
	tagged map[string]v1.Image
}

// Tagged gives what was put under a tag.
func (g *Gathered) Tagged(_ context.Context, tag string) (v1.Image, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tagged[tag], nil
}

// Referrers gives nothing: what was put here has tags.
func (g *Gathered) Referrers(context.Context, v1.Hash) ([]v1.Image, error) { return nil, nil }

// Attach keeps a manifest.
func (g *Gathered) Attach(_ context.Context, tag string, manifest v1.Image) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tagged == nil {
		g.tagged = map[string]v1.Image{}
	}
	g.tagged[tag] = manifest
	return nil
}

// Listed is a manifest, and how the index of a layout tells of it.
type Listed struct {
	v1.Descriptor
	Manifest v1.Image
}

// List gives what was gathered as the index of a layout lists it behind the index top of
// the images, which it marks so that cosign finds top and what lies beside it.
func (g *Gathered) List(top *v1.Descriptor) ([]Listed, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	mark := func(d *v1.Descriptor, key, value string) {
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[key] = value
	}
	mark(top, kindKey, kindIndex)
	kinds := map[string]string{Tag(top.Digest, Signatures): kindSignatures, Tag(top.Digest, Attestations): kindAttestations}
	var all []Listed
	for _, tag := range slices.Sorted(maps.Keys(g.tagged)) {
		m := g.tagged[tag]
		d, err := partial.Descriptor(m)
		if err != nil {
			return nil, err
		}
		d.ArtifactType = artifactType(Kind(tag[len(tag)-3:]))
		mark(d, "org.opencontainers.image.ref.name", tag)
		if kind := kinds[tag]; kind != "" {
			mark(d, kindKey, kind)
		}
		all = append(all, Listed{*d, m})
	}
	return all, nil
}
