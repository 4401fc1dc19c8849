package images_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	slsav1 "github.com/in-toto/attestation/go/predicates/provenance/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
)

// TestIndex holds the index over architectures to what its images say, and the one of a
// layout to the same bytes.
func TestIndex(t *testing.T) {
	st := openStore(t)
	hello := put(t, st, contents{name: "hello", version: "1-r0", files: []string{"0644 usr/share/hello hello"}})
	spec := load(t, "contents: {packages: [hello]}\nannotations: {org.example: yes it is}\nvcs-url: https://example.org/x@1234\n")
	var both []*images.Image
	for n, arch := range []apk.Arch{apk.ArchAArch64, apk.ArchX86_64} {
		packages := hello
		if n == 0 {
			entry := *hello[0].Entry
			entry.Arch = "noarch"
			packages = []images.Package{{Entry: &entry, Digest: hello[0].Digest}}
		}
		image, err := images.Compose(t.Context(), spec, packages, images.Options{Arch: arch, Store: st})
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, image)
	}
	index, err := images.Index(both...)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range m.Manifests {
		platforms = append(platforms, d.Platform.String())
		if d.ArtifactType != "" {
			t.Errorf("%s is told to be an artifact, %s", d.Platform, d.ArtifactType)
		}
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Error(diff)
	}
	want := map[string]string{
		"org.example": "yes it is", "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
		"org.opencontainers.image.source": "https://example.org/x", "org.opencontainers.image.revision": "1234",
	}
	if diff := cmp.Diff(want, m.Annotations); diff != "" {
		t.Error(diff)
	}
	digest := func(x v1.ImageIndex) string {
		t.Helper()
		h, err := x.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return h.String()
	}
	other, err := images.Index(both[1], both[0])
	if err != nil || digest(other) != digest(index) {
		t.Errorf("in another order: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	if err := images.WriteLayout(t.Context(), dir, "", both...); err != nil {
		t.Fatal(err)
	}
	if other, err = images.LayoutIndex(dir); err != nil || digest(other) != digest(index) {
		t.Errorf("of a layout: %v", err)
	}
	if _, err := images.Index(both[0], both[0]); err == nil || !strings.Contains(err.Error(), "there are two images for linux/arm64") {
		t.Errorf("twice: got %v", err)
	}
	if _, err := images.LayoutIndex(t.TempDir()); err == nil {
		t.Error("an empty folder is a layout")
	}
}

// recipe is one of a package; what stands between @ is a digest of the digits given.
var recipe = strings.NewReplacer("@DATA@", digits("d", 64), "@SEED@", digits("5", 64), "@ADB@", digits("b", 64), "@TREE@", digits("f", 64), "@SHA256@", digits("a", 64), "@COMMIT@", digits("c", 40), "@SHA512@", digits("e", 128)).Replace(`package:
  name: hello
environment:
  contents:
    packages: [gcc=12-r0, make=4.4-r1, musl=1.2.5-r0, seed=1-r0, tool=3-r0, any>1]
  annotations:
    com.github.tarn-build.checksum.make: Q1AAECAwQFBgcICQoLDA0ODxAREhM=
    com.github.tarn-build.checksum.musl: data:@DATA@
    com.github.tarn-build.checksum.seed: seed:@SEED@
    com.github.tarn-build.checksum.tool: sha256:@ADB@
    com.github.tarn-build.checksum.gcc: data:odd
    com.github.tarn-build.prefetched: sha256:@TREE@
pipeline:
  - uses: fetch
    with:
      uri: https://example.org/hello-1.tar.gz
      expected-sha256: @SHA256@
  - pipeline:
      - uses: git-checkout
        with:
          repository: https://example.org/more.git
          tag: v2
          expected-commit: @COMMIT@
  - runs: make
subpackages:
  - name: hello-data
    pipeline:
      - uses: fetch
        with:
          uri: https://example.org/data.zip
          expected-sha512: @SHA512@
  - pipeline:
      - uses: fetch
        with:
          uri: https://example.org/later.zip
          expected-sha256: none
`)

func digits(digit string, n int) string { return strings.Repeat(digit, n) }

type dependency struct {
	Name, URI string
	Digest    map[string]string
}

// TestProvenance tells of each package by what recipe, of which sources and in what
// environment it was built, and says so where it does not know.
func TestProvenance(t *testing.T) {
	st := openStore(t)
	made := func(name string, control string) contents {
		c := contents{name: name, version: "1-r0", origin: "hello", files: []string{"0644 usr/share/" + name + " x"}}
		if control != "" {
			c.scripts = map[string]string{".melange.yaml": control}
		}
		return c
	}
	image := mustCompose(t, st, "contents: {packages: [hello]}\ncmd: hello\n",
		made("hello", recipe), made("hello-data", recipe), made("plain", ""), made("odd", "pipeline: [{uses: fetch, with: *x}]"))
	read := func(image *images.Image) (p struct {
		BuildDefinition struct {
			ExternalParameters struct {
				Name  string
				Image map[string]any
			}
			InternalParameters struct {
				Packages []struct{ Name, SHA256, Recipe string }
				Recipes  map[string]struct {
					Text        string
					Environment []dependency
					Sources     []struct {
						Name, URI string
						Digest    map[string]string
					}
				}
			}
			ResolvedDependencies []dependency
		}
	}) {
		t.Helper()
		data, err := images.Provenance("1.0", image)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatal(err)
		}
		// In-toto's own reader knows each field, and holds digests against their algorithms.
		var slsa slsav1.Provenance
		if err := protojson.Unmarshal(data, &slsa); err != nil {
			t.Fatal(err)
		}
		if err := slsa.Validate(); err != nil {
			t.Error(err)
		}
		return p
	}
	p := read(image).BuildDefinition
	if p.ExternalParameters.Name != "web" || p.ExternalParameters.Image["cmd"] != "hello" {
		t.Errorf("image file: %+v", p.ExternalParameters)
	}
	var packages []string
	for _, b := range p.InternalParameters.Packages {
		packages = append(packages, b.Name)
		if len(b.SHA256) != 64 {
			t.Errorf("%s: SHA-256 %q", b.Name, b.SHA256)
		}
		if known := p.InternalParameters.Recipes[b.Recipe].Text != ""; known != (b.Name != "plain") {
			t.Errorf("%s: it is known by what recipe it was made: %v", b.Name, known)
		}
	}
	if diff := cmp.Diff([]string{"hello", "hello-data", "plain", "odd"}, packages); diff != "" {
		t.Error(diff)
	}
	r := p.InternalParameters.Recipes[p.InternalParameters.Packages[0].Recipe]
	if diff := cmp.Diff(recipe, r.Text); diff != "" {
		t.Error(diff)
	}
	environment := []dependency{
		{Name: "gcc", URI: "pkg:apk/gcc@12-r0"},
		{"make", "pkg:apk/make@4.4-r1", map[string]string{"apkControlSha1": "000102030405060708090a0b0c0d0e0f10111213"}},
		{"musl", "pkg:apk/musl@1.2.5-r0", map[string]string{"apkDataSha256": digits("d", 64)}},
		{"seed", "pkg:apk/seed@1-r0", map[string]string{"tarnSeedSha256": digits("5", 64)}},
		{"tool", "pkg:apk/tool@3-r0", map[string]string{"apkAdbSha256": digits("b", 64)}},
		{Name: "any>1"},
	}
	if diff := cmp.Diff(environment, r.Environment); diff != "" {
		t.Error(diff)
	}
	var sources []string
	for _, s := range r.Sources {
		for algorithm, digest := range s.Digest {
			sources = append(sources, s.Name+s.URI+" "+algorithm+" "+digest)
		}
	}
	want := []string{"https://example.org/hello-1.tar.gz sha256 " + digits("a", 64), "git+https://example.org/more.git@v2 gitCommit " + digits("c", 40), "https://example.org/data.zip sha512 " + digits("e", 128), "hello.prefetch.tar sha256 " + digits("f", 64)}
	if diff := cmp.Diff(want, sources); diff != "" {
		t.Error(diff)
	}
	if got := len(p.ResolvedDependencies); got != 4+5+6 {
		t.Errorf("got %d dependencies, want 4 packages, 5 sources and the 6 packages of an environment", got)
	}
	// An image that is recalled from the store says the same.
	again := mustCompose(t, st, "contents: {packages: [hello]}\ncmd: hello\n",
		made("hello", recipe), made("hello-data", recipe), made("plain", ""), made("odd", "pipeline: [{uses: fetch, with: *x}]"))
	if diff := cmp.Diff(read(image), read(again)); diff != "" {
		t.Error(diff)
	}
}

// TestProvenanceOfMelange reads the recipe in a package that melange built.
func TestProvenanceOfMelange(t *testing.T) {
	st := openStore(t)
	image, err := images.Compose(t.Context(), load(t, "contents: {packages: [perl-json]}\n"), others(t, st, "perl-json-4.11-r0.apk"), images.Options{Arch: apk.ArchX86_64, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	data, err := images.Provenance("1.0", image)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"name":"gcc","uri":"pkg:apk/gcc@15.2.0-r11"}`, `{"uri":"git+https://github.com/makamaka/JSON@4.11","digest":{"gitCommit":"2e2812bb38a143ef2e0a553104c0a58a693f8ca7"}}`, `"commit":"36535284015e3319b91d6980663f26f46d32b63b"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("it does not tell of %s", want)
		}
	}
}
