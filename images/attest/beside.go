package attest

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/tarn-build/tarn/pkg/sign"
)

// Beside is where manifests lie beside images: a repository of a registry.
type Beside interface {
	// Tagged gives the manifest that a tag names, or nil where there is none.
	Tagged(ctx context.Context, tag string) (v1.Image, error)
	// Referrers gives the manifests that name an image as their subject.
	Referrers(ctx context.Context, of v1.Hash) ([]v1.Image, error)
	// Attach puts a manifest there under a tag, or under none ("").
	Attach(ctx context.Context, tag string, manifest v1.Image) error
}

// Limits on what lies beside an image: anybody may have put it there.
const (
	maxItems = 1000
	maxItem  = 128 << 20 // bytes
)

// Attach adds items of a kind to what lies beside an image. What others signed stays; an
// item of the same kind by the same key is replaced.
func Attach(ctx context.Context, to Beside, kind Kind, of v1.Descriptor, by sign.MessageSigner, added []Item) error {
	return add(ctx, to, kind, of, added, func(i Item) bool {
		_, err := i.Open(ctx, by.Public())
		return err == nil
	})
}

// add adds items; mine tells of one that is there whether an added one takes its place.
func add(ctx context.Context, to Beside, kind Kind, of v1.Descriptor, added []Item, mine func(Item) bool) error {
	tag := Tag(of.Digest, kind)
	before, err := to.Tagged(ctx, tag)
	if err != nil {
		return err
	}
	var there []Item
	if before != nil {
		if there, err = read(before); err != nil {
			return fmt.Errorf("what lies beside %s: %w", of.Digest, err)
		}
	}
	m, err := Manifest(kind, of, Merge(there, added, mine))
	if err != nil {
		return err
	}
	if before != nil {
		was, err := before.Digest()
		if err != nil {
			return err
		}
		if is, err := m.Digest(); err != nil || is == was {
			return err // it is there
		}
	}
	return to.Attach(ctx, tag, m)
}

// Copy puts what lies beside an image in one place beside it in another, by whomever it
// is, and tells how many signatures and attestations these are. What is there stays.
func Copy(ctx context.Context, from, to Beside, of v1.Descriptor) (int, error) {
	items, err := Collect(ctx, from, of.Digest)
	if err != nil {
		return 0, err
	}
	for _, kind := range []Kind{Signatures, Attestations} {
		var some []Item
		for _, i := range items {
			if i.MediaType == signatureType && kind == Signatures || i.MediaType == envelopeType && kind == Attestations {
				some = append(some, i)
			}
		}
		if len(some) == 0 {
			continue
		}
		if err := add(ctx, to, kind, of, some, func(Item) bool { return false }); err != nil {
			return 0, err
		}
	}
	// A bundle is found as a referrer alone, and its manifest tells of it.
	referrers, err := from.Referrers(ctx, of.Digest)
	if err != nil {
		return 0, err
	}
	for _, m := range referrers {
		manifest, err := m.Manifest()
		if err != nil {
			return 0, err
		}
		if !slices.ContainsFunc(manifest.Layers, func(d v1.Descriptor) bool { return strings.HasPrefix(string(d.MediaType), bundleType) }) {
			continue
		}
		if err := to.Attach(ctx, "", m); err != nil {
			return 0, err
		}
	}
	return len(items), nil
}

// DigestError says that what lies beside an image is not what its digest names.
type DigestError struct{ Want, Got v1.Hash }

func (e *DigestError) Error() string {
	return fmt.Sprintf("signature %s does not hold what it says: it is %s", e.Want, e.Got)
}

// read reads the claims of a manifest.
func read(m v1.Image) ([]Item, error) {
	manifest, err := m.Manifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Layers) > maxItems {
		return nil, fmt.Errorf("more than %d signatures", maxItems)
	}
	var items []Item
	for _, d := range manifest.Layers {
		if !IsClaim(d.MediaType) {
			continue
		}
		if d.Size > maxItem {
			return nil, fmt.Errorf("a signature of %d bytes: at most %d", d.Size, int64(maxItem))
		}
		layer, err := m.LayerByDigest(d.Digest)
		if err != nil {
			return nil, err
		}
		r, err := layer.Compressed() // the bytes as they are
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(r, maxItem+1))
		r.Close()
		if err != nil {
			return nil, err
		}
		if got, _, err := v1.SHA256(bytes.NewReader(data)); err != nil || got != d.Digest {
			return nil, &DigestError{Want: d.Digest, Got: got}
		}
		items = append(items, Item{MediaType: d.MediaType, Data: data, Annotations: d.Annotations})
	}
	return items, nil
}

// Collect reads all claims that lie beside an image, by whomever: those that cosign's tags
// name, and those that refer to the image. Each is there once.
func Collect(ctx context.Context, from Beside, of v1.Hash) ([]Item, error) {
	var manifests []v1.Image
	for _, kind := range []Kind{Signatures, Attestations} {
		m, err := from.Tagged(ctx, Tag(of, kind))
		if err != nil {
			return nil, err
		}
		if m != nil {
			manifests = append(manifests, m)
		}
	}
	referrers, err := from.Referrers(ctx, of)
	if err != nil {
		return nil, err
	}
	var all []Item
	for _, m := range append(manifests, referrers...) {
		items, err := read(m)
		if err != nil {
			return nil, fmt.Errorf("what lies beside %s: %w", of, err)
		}
		for _, i := range items {
			known := slices.ContainsFunc(all, func(o Item) bool {
				return bytes.Equal(o.Data, i.Data) && o.Annotations[signatureKey] == i.Annotations[signatureKey]
			})
			if !known {
				all = append(all, i)
			}
		}
		if len(all) > maxItems {
			return nil, fmt.Errorf("what lies beside %s: more than %d signatures", of, maxItems)
		}
	}
	return all, nil
}

// Key is a public key that is trusted, and what messages call it.
type Key struct {
	Name   string
	Public crypto.PublicKey
}

// Signed is a claim and who signed it.
type Signed struct {
	Claim
	Key string // its name
}

// Findings are what lies beside an image.
type Findings struct {
	Signed []Signed // by trusted keys, and about the image
	Others int      // not by a trusted key
	// Wrong are claims that a trusted key did sign and that are not about this image, or
	// that say nothing that can be read.
	Wrong []error
}

// Has tells whether there is a claim with a type of predicate, "" for a signature, by its
// name or as it is.
func (f *Findings) Has(predicate string) bool {
	return slices.ContainsFunc(f.Signed, func(s Signed) bool {
		return s.Predicate == predicate || slices.Contains(predicates[predicate], s.Predicate)
	})
}

// Examine opens the claims about an image with the keys that are trusted. A claim counts
// once, with the first key that signed it.
func Examine(ctx context.Context, items []Item, of v1.Hash, keys ...Key) *Findings {
	f := &Findings{}
	for _, item := range items {
		by := slices.IndexFunc(keys, func(k Key) bool {
			_, err := item.Open(ctx, k.Public)
			return !errors.Is(err, ErrOther)
		})
		if by < 0 {
			f.Others++
			continue
		}
		claim, err := item.Open(ctx, keys[by].Public)
		switch {
		case err != nil:
			f.Wrong = append(f.Wrong, err)
		case !claim.About(of):
			f.Wrong = append(f.Wrong, fmt.Errorf("%s by %s is about %v, and not about %s", PredicateName(claim.Predicate), keys[by].Name, claim.Images, of))
		default:
			f.Signed = append(f.Signed, Signed{*claim, keys[by].Name})
		}
	}
	return f
}
