package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/attest"
	"github.com/tarn-build/tarn/pkg/sign"
)

// imageSigning says who signs images, and what is attested of them.
type imageSigning struct {
	keys           []string
	passphraseFile string
	bare           bool
}

func (o *imageSigning) add(f *pflag.FlagSet) {
	f.StringArrayVar(&o.keys, "sign", nil, "the private key that signs, or exec:NAME.pub PROGRAM ARGUMENT...; several all sign")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "the file of the private key's passphrase (default: $"+passphraseVariable+" or $COSIGN_PASSWORD, else it is asked for)")
	f.BoolVar(&o.bare, "no-attestations", false, "sign, and attest nothing")
}

// signers opens the keys.
func (o *imageSigning) signers(a *app) ([]sign.MessageSigner, error) {
	var keys []sign.MessageSigner
	for _, key := range o.keys {
		s, err := sign.OpenMessageSigner(key, a.messagePassphrase(o.passphraseFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("--sign: %v\n  hint: tarn keygen NAME.key", err)
		}
		if err != nil {
			return nil, lockedHint(err)
		}
		keys = append(keys, s)
	}
	return keys, nil
}

// messagePassphrase is passphrase, and where the environment has it for cosign.
func (a *app) messagePassphrase(file string) sign.Passphrase {
	return func(path string) ([]byte, error) {
		if file == "" && os.Getenv(passphraseVariable) == "" {
			if text, set := os.LookupEnv("COSIGN_PASSWORD"); set {
				return []byte(text), nil
			}
		}
		return a.passphrase(file)(path)
	}
}

// part is what is signed by itself: the index, or the image of an architecture.
type part struct {
	descriptor v1.Descriptor
	composed   []*images.Image
}

// partsOf are an index, and then its images. What they were composed of is not known of a layout.
func partsOf(index v1.ImageIndex, composed []*images.Image) ([]part, error) {
	d, err := partial.Descriptor(index)
	if err != nil {
		return nil, err
	}
	parts := []part{{*d, composed}}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		one := part{descriptor: d}
		for _, image := range composed {
			if image.About.Digest == d.Digest.String() {
				one.composed = []*images.Image{image}
			}
		}
		if d.Platform == nil {
			one.descriptor.Platform = &v1.Platform{}
		}
		parts = append(parts, one)
	}
	return parts, nil
}

// gatherSigned signs images by all keys and attests what is known of them, for a layout.
func gatherSigned(ctx context.Context, repository string, composed []*images.Image, keys []sign.MessageSigner, bare bool) (*attest.Gathered, error) {
	index, err := images.Index(composed...)
	if err != nil {
		return nil, err
	}
	parts, err := partsOf(index, composed)
	if err != nil {
		return nil, err
	}
	all := &attest.Gathered{}
	for _, key := range keys {
		if err := signParts(ctx, all, repository, parts, key, bare); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// copyBeside takes along what lies beside the parts of a layout: what refers to the index
// last, as when it is signed.
func copyBeside(ctx context.Context, from, to attest.Beside, parts []part) (int, error) {
	copied := 0
	for _, p := range slices.Backward(parts) {
		n, err := attest.Copy(ctx, from, to, p.descriptor)
		if err != nil {
			return copied, err
		}
		copied += n
	}
	return copied, nil
}

// signParts signs each part with a key, and attests what is known of it.
func signParts(ctx context.Context, to attest.Beside, repository string, parts []part, key sign.MessageSigner, bare bool) error {
	// The index last: who finds its signature finds the others.
	jobs, inner := errgroup.WithContext(ctx)
	jobs.SetLimit(4)
	for _, p := range parts[1:] {
		jobs.Go(func() error { return p.sign(inner, to, repository, key, bare) })
	}
	if err := jobs.Wait(); err != nil {
		return err
	}
	return parts[0].sign(ctx, to, repository, key, bare)
}

func (p part) sign(ctx context.Context, to attest.Beside, repository string, key sign.MessageSigner, bare bool) error {
	if !bare && len(p.composed) > 0 {
		items, err := p.attestations(ctx, repository, key)
		if err != nil {
			return err
		}
		if err := attest.Attach(ctx, to, attest.Attestations, p.descriptor, key, items); err != nil {
			return err
		}
	}
	signature, err := attest.Sign(ctx, key, repository, p.descriptor.Digest)
	if err != nil {
		return err
	}
	return attest.Attach(ctx, to, attest.Signatures, p.descriptor, key, []attest.Item{signature})
}

// attestations are the provenance and the bills of materials of a part. The index has its
// own, and those of its images: who verifies a tag by itself finds every package.
func (p part) attestations(ctx context.Context, repository string, key sign.MessageSigner) ([]attest.Item, error) {
	var items []attest.Item
	add := func(predicate string, content []byte, err error) error {
		if err != nil {
			return err
		}
		item, err := attest.Attest(ctx, key, repository, p.descriptor.Digest, predicate, content)
		items = append(items, item)
		return err
	}
	provenance, err := images.Provenance(tarnVersion(), p.composed...)
	err = add(attest.PredicateProvenance, provenance, err)
	if p.descriptor.MediaType.IsIndex() {
		spdx, cyclone, failed := images.IndexSBOM(p.composed...)
		err = errors.Join(err, add(attest.PredicateSPDX, spdx, failed), add(attest.PredicateCycloneDX, cyclone, failed))
	}
	for _, image := range p.composed {
		err = errors.Join(err, add(attest.PredicateSPDX, image.SBOM, nil))
		if !p.descriptor.MediaType.IsIndex() {
			err = errors.Join(err, add(attest.PredicateCycloneDX, image.CycloneDX, nil))
		}
	}
	return items, err
}
