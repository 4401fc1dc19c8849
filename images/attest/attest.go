// Package attest signs what is said about images, and checks it: signatures in the form of
// cosign (simple signing, containers-signature(5)) and attestations (in-toto statements in
// DSSE envelopes), in manifests that lie beside the image. It knows the forms and keys, and
// no registry, image file or package.
//
// A manifest is made so that everybody finds it: its subject is the image, by which
// registries list it as a referrer (image-spec 1.1), it bears cosign's artifact type, and
// its name, a tag, is the one that cosign looks for. Where a registry does not list
// referrers, the distribution specification has a fallback tag of its own.
package attest

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/tarn-build/tarn/pkg/sign"
)

// Media types and annotations of cosign (specs/SIGNATURE_SPEC.md there), of DSSE and
// in-toto, and of sigstore's bundles.
const (
	signatureType   = "application/vnd.dev.cosign.simplesigning.v1+json"
	envelopeType    = "application/vnd.dsse.envelope.v1+json"
	bundleType      = "application/vnd.dev.sigstore.bundle"
	statementType   = "application/vnd.in-toto+json"
	signatureKey    = "dev.cosignproject.cosign/signature"
	predicateKey    = "predicateType"
	claimedType     = "cosign container image signature"
	inTotoStatement = "https://in-toto.io/Statement/v1"
)

// The types of predicates that tarn writes.
const (
	PredicateSPDX       = "https://spdx.dev/Document"
	PredicateCycloneDX  = "https://cyclonedx.org/bom"
	PredicateProvenance = "https://slsa.dev/provenance/v1"
	// predicateSigned is how cosign 3 says "signed" in a statement.
	predicateSigned = "https://sigstore.dev/cosign/sign/v1"
)

// A Kind is what a manifest beside an image holds.
type Kind string

// The kinds, which are also the end of the tag's name.
const (
	Signatures   Kind = "sig"
	Attestations Kind = "att"
)

// Tag is the name of the manifest of a kind beside an image, as cosign looks for it.
func Tag(of v1.Hash, kind Kind) string { return of.Algorithm + "-" + of.Hex + "." + string(kind) }

func artifactType(kind Kind) string {
	return "application/vnd.dev.cosign.artifact." + string(kind) + ".v1+json"
}

// Item is one signature or attestation: a blob, and what its descriptor says beside it.
type Item struct {
	MediaType   types.MediaType
	Data        []byte
	Annotations map[string]string
}

// simpleSigning is the claim that is signed (containers-signature(5)).
type simpleSigning struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// Sign makes a signature of an image that is called repository, e.g. example.org/web.
func Sign(ctx context.Context, by sign.MessageSigner, repository string, image v1.Hash) (Item, error) {
	var claim simpleSigning
	claim.Critical.Identity.Reference = repository
	claim.Critical.Image.Digest = image.String()
	claim.Critical.Type = claimedType
	data, err := json.Marshal(claim)
	if err != nil {
		return Item{}, err
	}
	signature, err := by.SignMessage(ctx, data)
	if err != nil {
		return Item{}, fmt.Errorf("sign %s: %w", image, err)
	}
	return Item{MediaType: signatureType, Data: data, Annotations: map[string]string{signatureKey: base64.StdEncoding.EncodeToString(signature)}}, nil
}

// statement is an in-toto statement (in-toto/attestation, spec/v1/statement.md).
type statement struct {
	Type          string          `json:"_type"`
	Subject       []subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name,omitempty"`
	Digest map[string]string `json:"digest"`
}

// Attest makes an attestation about an image: a statement with a predicate in JSON of a
// type, in a DSSE envelope.
func Attest(ctx context.Context, by sign.MessageSigner, repository string, image v1.Hash, predicateType string, predicate []byte) (Item, error) {
	data, err := json.Marshal(statement{
		Type: inTotoStatement, Subject: []subject{{Name: repository, Digest: map[string]string{image.Algorithm: image.Hex}}},
		PredicateType: predicateType, Predicate: predicate,
	})
	if err != nil {
		return Item{}, fmt.Errorf("attest %s of %s: %w", predicateType, image, err)
	}
	signer, err := dsse.NewEnvelopeSigner(envelopeKey{signer: by})
	if err != nil {
		return Item{}, err
	}
	envelope, err := signer.SignPayload(ctx, statementType, data)
	if err != nil {
		return Item{}, fmt.Errorf("attest %s of %s: %w", predicateType, image, err)
	}
	blob, err := json.Marshal(envelope)
	if err != nil {
		return Item{}, err
	}
	return Item{MediaType: envelopeType, Data: blob, Annotations: map[string]string{signatureKey: "", predicateKey: predicateType}}, nil
}

// envelopeKey is a key as the library of DSSE takes it. Keys have no IDs here, as with
// cosign: who verifies says which key.
type envelopeKey struct {
	signer sign.MessageSigner
	public crypto.PublicKey
}

func (k envelopeKey) Sign(ctx context.Context, data []byte) ([]byte, error) {
	return k.signer.SignMessage(ctx, data)
}
func (k envelopeKey) KeyID() (string, error)   { return "", nil }
func (k envelopeKey) Public() crypto.PublicKey { return k.public }
func (k envelopeKey) Verify(_ context.Context, data, signature []byte) error {
	return sign.VerifyMessage(k.public, data, signature)
}

// Claim is something about an image that a key signed.
type Claim struct {
	// Predicate is the type of an attestation's predicate; "" for a signature.
	Predicate string
	// Repository is what the signer called the image; may be "".
	Repository string
	Images     []v1.Hash // that it is about
	Content    []byte    // an attestation's predicate
}

// About tells whether a claim is about an image.
func (c *Claim) About(image v1.Hash) bool {
	for _, h := range c.Images {
		if h == image {
			return true
		}
	}
	return false
}

// ErrOther says that a signature is not one by the key. What cannot be read as a signature
// is none either: anybody who may push can put it there, and it must not outweigh one that
// holds.
var ErrOther = errors.New("not signed by this key")

// IsClaim tells whether a blob of this media type is a claim.
func IsClaim(t types.MediaType) bool {
	return t == signatureType || t == envelopeType || strings.HasPrefix(string(t), bundleType)
}

// Open checks that a key signed an item, and reads it then, not before. Its error is
// ErrOther where the key did not.
func (i Item) Open(ctx context.Context, key crypto.PublicKey) (*Claim, error) {
	switch {
	case i.MediaType == signatureType:
		return i.openSignature(key)
	case i.MediaType == envelopeType:
		return openEnvelope(ctx, i.Data, key)
	case strings.HasPrefix(string(i.MediaType), bundleType):
		var b struct {
			Envelope json.RawMessage `json:"dsseEnvelope"`
		}
		if err := json.Unmarshal(i.Data, &b); err != nil || b.Envelope == nil {
			return nil, fmt.Errorf("%w: the bundle holds no envelope", ErrOther)
		}
		return openEnvelope(ctx, b.Envelope, key)
	}
	return nil, fmt.Errorf("%w: %s is no signature", ErrOther, i.MediaType)
}

func (i Item) openSignature(key crypto.PublicKey) (*Claim, error) {
	signature, err := base64.StdEncoding.DecodeString(i.Annotations[signatureKey])
	if err != nil || len(signature) == 0 {
		return nil, fmt.Errorf("%w: the signature is malformed", ErrOther)
	}
	if sign.VerifyMessage(key, i.Data, signature) != nil {
		return nil, ErrOther
	}
	var claim simpleSigning
	if err := json.Unmarshal(i.Data, &claim); err != nil {
		return nil, fmt.Errorf("what is signed is malformed: %v", err)
	}
	if claim.Critical.Type != claimedType {
		return nil, fmt.Errorf("what is signed is of type %q, expected %q", claim.Critical.Type, claimedType)
	}
	digest, err := v1.NewHash(claim.Critical.Image.Digest)
	if err != nil {
		return nil, fmt.Errorf("what is signed names no image: %v", err)
	}
	return &Claim{Repository: claim.Critical.Identity.Reference, Images: []v1.Hash{digest}}, nil
}

func openEnvelope(ctx context.Context, data []byte, key crypto.PublicKey) (*Claim, error) {
	var envelope dsse.Envelope
	if err := json.Unmarshal(data, &envelope); err != nil {
		return nil, fmt.Errorf("%w: the envelope is malformed: %v", ErrOther, err)
	}
	// Whoever verifies says which key; what the envelope says of it is a hint.
	for n := range envelope.Signatures {
		envelope.Signatures[n].KeyID = ""
	}
	verifier, err := dsse.NewEnvelopeVerifier(envelopeKey{public: key})
	if err != nil {
		return nil, err
	}
	_, payload, err := verifier.VerifyAndDecode(ctx, &envelope)
	if err != nil {
		return nil, ErrOther
	}
	if envelope.PayloadType != statementType {
		return nil, fmt.Errorf("the envelope holds %q, expected %q", envelope.PayloadType, statementType)
	}
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, fmt.Errorf("the statement is malformed: %v", err)
	}
	claim := &Claim{Predicate: s.PredicateType, Content: s.Predicate}
	if claim.Predicate == predicateSigned {
		claim.Predicate = ""
	}
	for _, sub := range s.Subject {
		claim.Repository = sub.Name
		for algorithm, hex := range sub.Digest {
			if h, err := v1.NewHash(algorithm + ":" + hex); err == nil {
				claim.Images = append(claim.Images, h)
			}
		}
	}
	return claim, nil
}

// PredicateName is what a type of predicate is called in messages and flags; a type that
// has no name is itself.
func PredicateName(predicate string) string {
	for name, types := range predicates {
		for _, t := range types {
			if t == predicate {
				return name
			}
		}
	}
	return predicate
}

// predicates are the types of predicates that have names, the first the one written here.
var predicates = map[string][]string{
	"signature":  {""},
	"spdx":       {PredicateSPDX},
	"cyclonedx":  {PredicateCycloneDX},
	"provenance": {PredicateProvenance, "https://slsa.dev/provenance/v0.2"},
}
