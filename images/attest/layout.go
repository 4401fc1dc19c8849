package attest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// Layout is what lies beside the images of an OCI layout: the manifests that its index
// names by cosign's tags, with an image as their subject, or as cosign save writes them.
// It is read only.
func Layout(dir string) Beside { return layoutBeside(dir) }

type layoutBeside string

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
	return l.manifests(func(d v1.Descriptor, m *v1.Manifest) bool {
		kind, saved := strings.CutPrefix(d.Annotations["kind"], "dev.cosignproject.cosign/")
		return m.Subject != nil && m.Subject.Digest == of || saved && (kind == "sigs" || kind == "atts")
	})
}

func (layoutBeside) Attach(context.Context, string, v1.Image) error {
	return errors.New("nothing is put beside the images of a layout")
}
