package attest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/tarn-build/tarn/images/attest"
	"github.com/tarn-build/tarn/pkg/sign"
)

var (
	image = hash("11")
	other = hash("22")
)

// hash is a digest of repeated digits.
func hash(digits string) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(digits, 32)}
}

func newKey(t testing.TB) *sign.MessageKey {
	t.Helper()
	key, err := sign.GenerateMessageKey("test.key")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signed(t testing.TB, key sign.MessageSigner, of v1.Hash) attest.Item {
	t.Helper()
	item, err := attest.Sign(t.Context(), key, "example.org/web", of)
	if err != nil {
		t.Fatal(err)
	}
	return item
}

func attested(t testing.TB, key sign.MessageSigner, of v1.Hash, predicate, content string) attest.Item {
	t.Helper()
	item, err := attest.Attest(t.Context(), key, "example.org/web", of, predicate, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return item
}

// TestSignature holds the claim to what cosign writes, byte for byte.
func TestSignature(t *testing.T) {
	key, stranger := newKey(t), newKey(t)
	item := signed(t, key, image)
	want := `{"critical":{"identity":{"docker-reference":"example.org/web"},"image":{"docker-manifest-digest":"` + image.String() + `"},"type":"cosign container image signature"},"optional":null}`
	if diff := cmp.Diff(want, string(item.Data)); diff != "" {
		t.Error(diff)
	}
	claim, err := item.Open(t.Context(), key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&attest.Claim{Repository: "example.org/web", Images: []v1.Hash{image}}, claim); diff != "" {
		t.Error(diff)
	}
	if !claim.About(image) || claim.About(other) {
		t.Error("it is not clear what the claim is about")
	}
	if _, err := item.Open(t.Context(), stranger.Public()); !errors.Is(err, attest.ErrOther) {
		t.Errorf("another key: got %v", err)
	}
	changed := item
	changed.Data = []byte(strings.Replace(want, image.String(), other.String(), 1))
	if _, err := changed.Open(t.Context(), key.Public()); !errors.Is(err, attest.ErrOther) {
		t.Errorf("changed: got %v", err)
	}
	changed = item
	changed.Annotations = nil
	if _, err := changed.Open(t.Context(), key.Public()); err == nil {
		t.Error("without a signature: it holds")
	}
}

func TestAttestation(t *testing.T) {
	key, stranger := newKey(t), newKey(t)
	item := attested(t, key, image, attest.PredicateSPDX, `{"spdxVersion":"SPDX-2.3"}`)
	open := func(data []byte, media types.MediaType) (*attest.Claim, error) {
		return attest.Item{MediaType: media, Data: data}.Open(t.Context(), key.Public())
	}
	claim, err := item.Open(t.Context(), key.Public())
	if err != nil {
		t.Fatal(err)
	}
	want := &attest.Claim{Predicate: attest.PredicateSPDX, Repository: "example.org/web", Images: []v1.Hash{image}, Content: []byte(`{"spdxVersion":"SPDX-2.3"}`)}
	if diff := cmp.Diff(want, claim); diff != "" {
		t.Error(diff)
	}
	if _, err := item.Open(t.Context(), stranger.Public()); !errors.Is(err, attest.ErrOther) {
		t.Errorf("another key: got %v", err)
	}
	var envelope map[string]any
	if err := json.Unmarshal(item.Data, &envelope); err != nil {
		t.Fatal(err)
	}
	change := func(field string, value any) []byte {
		changed := map[string]any{}
		for k, v := range envelope {
			changed[k] = v
		}
		changed[field] = value
		data, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	signature := envelope["signatures"].([]any)[0].(map[string]any)["sig"]
	// The name that the envelope gives the key decides nothing.
	if _, err := open(change("signatures", []any{map[string]any{"keyid": "somebody", "sig": signature}}), item.MediaType); err != nil {
		t.Errorf("with a key's ID: %v", err)
	}
	for name, data := range map[string][]byte{
		"another payload": change("payload", base64.StdEncoding.EncodeToString([]byte(`{}`))),
		"another type":    change("payloadType", "text/plain"),
		"no signature":    change("signatures", []any{}),
	} {
		if claim, err := open(data, item.MediaType); err == nil {
			t.Errorf("%s: got %+v", name, claim)
		}
	}
	// As cosign 3 keeps it.
	bundle := []byte(fmt.Sprintf(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":%s}`, item.Data))
	if claim, err := open(bundle, "application/vnd.dev.sigstore.bundle.v0.3+json"); err != nil || !cmp.Equal(claim, want) {
		t.Errorf("in a bundle: got %+v, %v", claim, err)
	}
	signedBundle := attested(t, key, image, "https://sigstore.dev/cosign/sign/v1", `{}`)
	if claim, err := open(signedBundle.Data, item.MediaType); err != nil || claim.Predicate != "" {
		t.Errorf("cosign 3's signature: got %+v, %v", claim, err)
	}
}

func TestManifest(t *testing.T) {
	key := newKey(t)
	of := v1.Descriptor{MediaType: types.OCIImageIndex, Size: 7, Digest: image, Platform: &v1.Platform{OS: "linux"}}
	items := []attest.Item{signed(t, key, image)}
	m, err := attest.Manifest(attest.Signatures, of, items)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		ArtifactType string
		Subject      v1.Descriptor
		Layers       []v1.Descriptor
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.ArtifactType != "application/vnd.dev.cosign.artifact.sig.v1+json" {
		t.Errorf("artifact type: %s", got.ArtifactType)
	}
	if want := (v1.Descriptor{MediaType: types.OCIImageIndex, Size: 7, Digest: image}); !cmp.Equal(got.Subject, want) {
		t.Error(cmp.Diff(want, got.Subject))
	}
	if len(got.Layers) != 1 || got.Layers[0].Annotations["dev.cosignproject.cosign/signature"] == "" {
		t.Errorf("layers: %+v", got.Layers)
	}
	again, err := attest.Manifest(attest.Signatures, of, items)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := again.RawManifest(); err != nil || string(a) != string(raw) {
		t.Error("other bytes the second time")
	}
	if want := "sha256-" + image.Hex + ".sig"; attest.Tag(image, attest.Signatures) != want {
		t.Errorf("tag: %s", attest.Tag(image, attest.Signatures))
	}
	if err := validate.Image(m, validate.Fast); err != nil {
		t.Error(err)
	}
}

// memory is a repository in memory.
type memory struct {
	tags      map[string]v1.Image
	referrers []v1.Image
}

func (m *memory) Tagged(_ context.Context, tag string) (v1.Image, error) { return m.tags[tag], nil }
func (m *memory) Referrers(context.Context, v1.Hash) ([]v1.Image, error) { return m.referrers, nil }
func (m *memory) Attach(_ context.Context, tag string, manifest v1.Image) error {
	if m.tags == nil {
		m.tags = map[string]v1.Image{}
	}
	m.tags[tag] = manifest
	m.referrers = append(m.referrers, manifest)
	return nil
}

// TestAttach keeps what others signed, and of each key the newest of a kind.
func TestAttach(t *testing.T) {
	ours, theirs := newKey(t), newKey(t)
	of := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: image}
	repo := &memory{}
	attach := func(key sign.MessageSigner, items ...attest.Item) {
		t.Helper()
		if err := attest.Attach(t.Context(), repo, attest.Attestations, of, key, items); err != nil {
			t.Fatal(err)
		}
	}
	trusted := []attest.Key{{Name: "ours", Public: ours.Public()}, {Name: "theirs", Public: theirs.Public()}}
	inManifest := func() (all []string) {
		t.Helper()
		items, err := attest.Collect(t.Context(), &memory{tags: repo.tags}, image)
		if err != nil {
			t.Fatal(err)
		}
		f := attest.Examine(t.Context(), items, image, trusted...)
		for _, s := range f.Signed {
			all = append(all, s.Key+" "+attest.PredicateName(s.Predicate)+" "+string(s.Content))
		}
		return all
	}
	attach(ours, attested(t, ours, image, attest.PredicateSPDX, `1`), attested(t, ours, image, attest.PredicateProvenance, `2`))
	attach(theirs, attested(t, theirs, image, attest.PredicateSPDX, `3`))
	attach(ours, attested(t, ours, image, attest.PredicateSPDX, `4`))
	if diff := cmp.Diff([]string{"ours provenance 2", "theirs spdx 3", "ours spdx 4"}, inManifest()); diff != "" {
		t.Error(diff)
	}
	before := len(repo.referrers)
	attach(ours, attested(t, ours, image, attest.PredicateSPDX, `4`))
	if len(repo.referrers) != before {
		t.Error("what is there was put there once more")
	}
	// By the list of referrers too, and each once.
	items, err := attest.Collect(t.Context(), repo, image)
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != 4 { // the one that was replaced lies there still
		t.Errorf("got %d claims, want 4", len(items))
	}
}

func TestExamine(t *testing.T) {
	ours, theirs := newKey(t), newKey(t)
	items := []attest.Item{
		signed(t, ours, image), signed(t, theirs, image), signed(t, ours, other),
		attested(t, ours, image, attest.PredicateProvenance, `{}`),
		attested(t, theirs, other, attest.PredicateSPDX, `{}`),
	}
	f := attest.Examine(t.Context(), items, image, attest.Key{Name: "ours", Public: ours.Public()})
	if len(f.Signed) != 2 || f.Others != 2 || len(f.Wrong) != 1 {
		t.Fatalf("got %d signed, %d by others, wrong %v", len(f.Signed), f.Others, f.Wrong)
	}
	if want := "signature by ours is about [" + other.String() + "], and not about " + image.String(); f.Wrong[0].Error() != want {
		t.Errorf("got %v, want %s", f.Wrong[0], want)
	}
	for what, want := range map[string]bool{"signature": true, "provenance": true, attest.PredicateProvenance: true, "spdx": false, "": true} {
		if f.Has(what) != want {
			t.Errorf("has %q: got %v", what, !want)
		}
	}
}

// What anybody may put beside an image, and is no signature, does not outweigh one.
func TestJunkBeside(t *testing.T) {
	ours := newKey(t)
	items := []attest.Item{
		{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Data: []byte(`{}`)},
		{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Data: []byte(`{}`), Annotations: map[string]string{"dev.cosignproject.cosign/signature": "?"}},
		{MediaType: "application/vnd.dsse.envelope.v1+json", Data: []byte(`[`)},
		{MediaType: "application/vnd.dsse.envelope.v1+json", Data: []byte(`{}`)},
		{MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", Data: []byte(`{"messageSignature":{}}`)},
		signed(t, ours, image),
	}
	f := attest.Examine(t.Context(), items, image, attest.Key{Name: "ours", Public: ours.Public()})
	if len(f.Signed) != 1 || f.Others != 5 || len(f.Wrong) != 0 {
		t.Errorf("got %d signed, %d by others, wrong %v", len(f.Signed), f.Others, f.Wrong)
	}
	// Alone it is as good as nothing.
	if f = attest.Examine(t.Context(), items[:5], image, attest.Key{Name: "ours", Public: ours.Public()}); f.Has("signature") {
		t.Error("junk is a signature")
	}
}

func TestHugeManifestInALayout(t *testing.T) {
	dir := t.TempDir()
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":2,"digest":%q}]}`, types.OCIManifestSchema1, image)
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	blobs := filepath.Join(dir, "blobs", image.Algorithm)
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	huge := filepath.Join(blobs, image.Hex)
	if err := os.WriteFile(huge, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, err := attest.Collect(t.Context(), attest.Layout(dir), image); err == nil || !strings.Contains(err.Error(), "is no file of at most") {
		t.Errorf("got %v", err)
	}
}

// TestCopy takes everything along that lies beside an image, once.
func TestCopy(t *testing.T) {
	ours, theirs := newKey(t), newKey(t)
	of := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: image}
	from, to := &memory{}, &memory{}
	for _, item := range []struct {
		to   attest.Beside
		kind attest.Kind
		by   sign.MessageSigner
		item attest.Item
	}{
		{from, attest.Signatures, ours, signed(t, ours, image)},
		{from, attest.Attestations, ours, attested(t, ours, image, attest.PredicateSPDX, `{}`)},
		{to, attest.Signatures, theirs, signed(t, theirs, image)},
	} {
		if err := attest.Attach(t.Context(), item.to, item.kind, of, item.by, []attest.Item{item.item}); err != nil {
			t.Fatal(err)
		}
	}
	// As cosign 3 attests: found by its subject alone.
	const bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	data := fmt.Sprintf(`{"mediaType":%q,"dsseEnvelope":%s}`, bundle, attested(t, ours, image, attest.PredicateProvenance, `{}`).Data)
	m, err := attest.Manifest(attest.Attestations, of, []attest.Item{{MediaType: bundle, Data: []byte(data)}})
	if err != nil {
		t.Fatal(err)
	}
	from.referrers = append(from.referrers, m)
	for range 2 {
		if n, err := attest.Copy(t.Context(), from, to, of); err != nil || n != 3 {
			t.Fatalf("copied %d, %v", n, err)
		}
		items, err := attest.Collect(t.Context(), to, image)
		if err != nil {
			t.Fatal(err)
		}
		f := attest.Examine(t.Context(), items, image, attest.Key{Name: "ours", Public: ours.Public()}, attest.Key{Name: "theirs", Public: theirs.Public()})
		var all []string
		for _, s := range f.Signed {
			all = append(all, s.Key+" "+attest.PredicateName(s.Predicate))
		}
		slices.Sort(all)
		if diff := cmp.Diff([]string{"ours provenance", "ours signature", "ours spdx", "theirs signature"}, all); diff != "" {
			t.Error(diff)
		}
	}
}

// What lies in a layout and is not what its digest names is told, and not taken for
// something that others signed.
func TestChangedBeside(t *testing.T) {
	key := newKey(t)
	m, err := attest.Manifest(attest.Signatures, v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: image}, []attest.Item{signed(t, key, image)})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(m); err != nil {
		t.Fatal(err)
	}
	if items, err := attest.Collect(t.Context(), attest.Layout(dir), image); err != nil || len(items) != 1 {
		t.Fatalf("got %d items, %v", len(items), err)
	}
	manifest, err := m.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "blobs", "sha256", manifest.Layers[0].Digest.Hex)
	if err := os.WriteFile(file, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = attest.Collect(t.Context(), attest.Layout(dir), image)
	if wrong, is := errors.AsType[*attest.DigestError](err); !is || wrong.Want != manifest.Layers[0].Digest {
		t.Errorf("got %v", err)
	}
}

func TestTooMuchBeside(t *testing.T) {
	key := newKey(t)
	var items []attest.Item
	for n := range 1001 {
		items = append(items, attested(t, key, image, fmt.Sprint(n), `{}`))
	}
	m, err := attest.Manifest(attest.Attestations, v1.Descriptor{Digest: image}, items)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attest.Collect(t.Context(), &memory{referrers: []v1.Image{m}}, image); err == nil {
		t.Error("a manifest of 1001 signatures was read")
	}
}

func TestMissing(t *testing.T) {
	doc := `{"packages":[{"name":"a","versionInfo":"1-r0","externalRefs":[{"referenceLocator":"pkg:apk/test/a@1-r0?arch=x86_64"},{"referenceLocator":"cpe:2.3:a"}]},{"name":"b","versionInfo":"2"}]}`
	missing, err := attest.Missing([]byte(doc), map[string]string{"a": "1-r0", "b": "2-r0", "c": "3-r0"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b-2-r0", "c-3-r0"}, missing); diff != "" {
		t.Error(diff)
	}
	if _, err := attest.Missing([]byte(`[`), nil); err == nil {
		t.Error("what is malformed tells of all")
	}
}

// FuzzOpen reads what anybody may have put beside an image: nothing of it holds.
func FuzzOpen(f *testing.F) {
	key := newKey(f)
	for _, item := range []attest.Item{signed(f, newKey(f), image), attested(f, newKey(f), image, attest.PredicateSPDX, `{}`)} {
		f.Add(string(item.MediaType), item.Data, item.Annotations["dev.cosignproject.cosign/signature"])
	}
	f.Add("application/vnd.dev.sigstore.bundle.v0.3+json", []byte(`{"dsseEnvelope":{"payload":"e30","payloadType":"x","signatures":[{"sig":"eA=="}]}}`), "")
	f.Fuzz(func(t *testing.T, media string, data []byte, signature string) {
		item := attest.Item{MediaType: types.MediaType(media), Data: data, Annotations: map[string]string{"dev.cosignproject.cosign/signature": signature}}
		if claim, err := item.Open(t.Context(), key.Public()); err == nil {
			t.Errorf("it holds: %+v", claim)
		}
		_, _ = attest.Missing(data, map[string]string{"a": "1"})
	})
}
