package registry

import (
	"context"
	"errors"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Repository is one repository of a registry.
type Repository struct {
	client *Client
	name   name.Repository
}

// Repository gives one repository.
func (c *Client) Repository(name name.Repository) *Repository { return &Repository{c, name} }

// Tagged gives the image manifest that a tag names, or nil where there is none.
func (r *Repository) Tagged(ctx context.Context, tag string) (v1.Image, error) {
	d, err := r.client.Get(ctx, r.name.Tag(tag))
	if e, is := errors.AsType[*Error](err); is && e.Missing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	image, err := d.Image()
	return image, r.client.explain("read", r.name.Tag(tag), err)
}

// maxReferrers is how many manifests may name an image as their subject: anybody who may
// push may add one.
const maxReferrers = 200

// Referrers gives the image manifests that name an image as their subject.
func (r *Repository) Referrers(ctx context.Context, of v1.Hash) ([]v1.Image, error) {
	ref := r.name.Digest(of.String())
	found, err := r.client.Referrers(ctx, ref)
	if err != nil {
		return nil, err
	}
	var images []v1.Image
	for _, d := range found {
		if !d.MediaType.IsImage() {
			continue
		}
		if len(images) == maxReferrers {
			return nil, r.client.explain("list what refers to", ref, errors.New("too many manifests"))
		}
		got, err := r.client.Get(ctx, r.name.Digest(d.Digest.String()))
		if e, is := errors.AsType[*Error](err); is && e.Missing {
			continue // deleted, and still listed under the fallback tag
		}
		if err != nil {
			return nil, err
		}
		image, err := got.Image()
		if err != nil {
			return nil, r.client.explain("read", ref, err)
		}
		images = append(images, image)
	}
	return images, nil
}

// Attach puts a manifest into the repository under a tag, or under none (""). Where it has a subject and the
// registry lists no referrers, the fallback tag of the distribution specification does.
func (r *Repository) Attach(ctx context.Context, tag string, manifest v1.Image) error {
	if _, err := r.client.Push(ctx, r.name, manifest); err != nil || tag == "" {
		return err
	}
	return r.client.Put(ctx, r.name.Tag(tag), manifest)
}
