package images_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/github/go-spdx/v2/spdxexp"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/imagetest"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sbom"
)

// The root file system, apk's database in it, the SPDX and the CycloneDX document speak of
// the same files and packages, whoever made the packages.
func TestSetsAreEqual(t *testing.T) {
	st := openStore(t)
	for _, test := range []struct {
		summary, file string
		arch          apk.Arch
		packages      []images.Package
	}{
		{"of the tests", webImage, apk.ArchX86_64, put(t, st, layoutPackage, muslPackage, webPackage,
			contents{name: "old", version: "1-r0", files: []string{"0644 lib/old.so old", "0644 etc/shared theirs"}},
			contents{name: "new", version: "1-r0", lines: []string{"replaces = old"}, files: []string{"0644 etc/shared mine"}},
		)},
		{"with files of its own", "contents: {packages: [web]}\nfiles: [{path: /etc/own, content: text}]\nannotations: {org.opencontainers.image.licenses: MIT}\nvcs-url: https://example.org/images@0123\n", apk.ArchX86_64, put(t, st, layoutPackage, webPackage)},
		{"of Alpine and Wolfi", realImage, apk.ArchAArch64, others(t, st, "alpine-316/alpine-baselayout-3.2.0-r23.apk", "libcap-2.69-r0.apk", "hello-wolfi-2.12.1-r1.apk")},
		{"of nothing", "contents: {packages: []}\n", apk.ArchX86_64, nil},
	} {
		t.Run(test.summary, func(t *testing.T) {
			image, err := images.Compose(t.Context(), load(t, test.file), test.packages, images.Options{Arch: test.arch, Store: st})
			if err != nil {
				t.Fatal(err)
			}
			equalSets(t, image, len(test.packages))
		})
	}
}

func equalSets(t *testing.T, image *images.Image, packages int) {
	t.Helper()
	oci, err := image.OCI()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := view.Composed("image", view.Options{}, []v1.Image{oci}...)
	if err != nil {
		t.Fatal(err)
	}
	contents, err := opened.Images[0].Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := imagetest.EqualSets(contents, image.SBOM, image.CycloneDX)
	if err != nil {
		t.Error(err)
	}
	// Who the image itself says owns each file.
	own := imagetest.Told{Files: map[string]string{}, Packages: map[string]string{}}
	var list bytes.Buffer
	if err := image.List(&list); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(list.String()) {
		if strings.HasPrefix(line, "d") {
			continue
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), " (edited)")
		own.Files[strings.TrimPrefix(strings.Fields(line)[2], "/")] = line[strings.LastIndexByte(line, ' ')+1:]
	}
	for _, p := range image.About.Packages {
		own.Packages[p.Name] = string(p.Version)
	}
	if diff := cmp.Diff(own, all); diff != "" {
		t.Errorf("-composer +root file system:\n%s", diff)
	}
	if len(own.Packages) != packages+1 {
		t.Errorf("%d packages, want %d and the composer's own", len(own.Packages), packages)
	}
}

// The documents of an index name every image, and those of the images by their digest.
func TestIndexDocuments(t *testing.T) {
	st := openStore(t)
	var all []*images.Image
	for _, arch := range []apk.Arch{apk.ArchX86_64, apk.ArchAArch64} {
		packages := put(t, st, layoutPackage)
		packages[0].Entry.Arch = arch
		image, err := images.Compose(t.Context(), load(t, "contents: {packages: [base-layout]}\n"), packages, images.Options{Arch: arch, Store: st})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, image)
	}
	index, cyclone, err := images.IndexSBOM(all...)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(index))
	if err != nil {
		t.Fatal(err)
	}
	variants := 0
	for _, r := range doc.Relationships {
		if r.Relationship == "VARIANT_OF" {
			variants++
		}
	}
	if variants != 2 || len(doc.ExternalDocumentReferences) != 2 {
		t.Errorf("%d variants and %d documents, want 2 and 2", variants, len(doc.ExternalDocumentReferences))
	}
	if err := imagetest.CheckCycloneDX(cyclone); err != nil {
		t.Error(err)
	}
	var bom struct {
		Components []struct{ Version string } `json:"components"`
	}
	if err := json.Unmarshal(cyclone, &bom); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, c := range bom.Components {
		got[c.Version] = true
	}
	if want := []string{all[0].About.Digest, all[1].About.Digest}; !got[want[0]] || !got[want[1]] {
		t.Errorf("got %v, want %v", slices.Collect(maps.Keys(got)), want)
	}
}

// The documents of an image are valid whatever the packages in it say of themselves.
func TestDocumentsOfBadPackages(t *testing.T) {
	odd := []string{
		"custom:my licence", "GPL", "MIT AND", "(MIT", "MIT OR (Apache-2.0 AND custom)", "Public Domain", "", "NONE", "MIT/X11", "BSD, MIT", "\x1b[31m", "Lizenz ä", "MIT and BSD-3-Clause",
		"GPL-2.0+", "GPL-2.0-only WITH Classpath-exception-2.0", "LicenseRef-x WITH y", "NOASSERTION AND MIT", "see LICENSE; all \"quoted\" <b>", "DocumentRef-x:LicenseRef-y",
	}
	type object = map[string]any
	var all []sbom.ImagePackage
	for i, licence := range odd {
		name := fmt.Sprintf("p%d", i)
		badSum := []object{{"algorithm": "SHA256", "checksumValue": "zz"}, {"algorithm": "EVIL", "checksumValue": "00"}}
		document, err := json.Marshal(object{
			"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "documentDescribes": []string{"SPDXRef-a"},
			"packages": []object{
				{"SPDXID": "SPDXRef-a", "name": name, "versionInfo": "1-r0", "licenseDeclared": licence, "downloadLocation": "NOASSERTION", "supplier": "evil", "homepage": "not a url"},
				{
					"SPDXID": "SPDXRef-b", "name": "source", "versionInfo": "x", "licenseDeclared": licence, "licenseConcluded": licence, "downloadLocation": "not a url\x00 %zz", "supplier": "evil",
					"checksums": badSum, "primaryPackagePurpose": "EVIL", "filesAnalyzed": true,
					"externalRefs": []object{{"referenceCategory": "EVIL", "referenceType": "purl", "referenceLocator": "pkg:generic/a"}},
				},
				{
					"SPDXID": "SPDXRef-c", "name": "source", "versionInfo": "y", "downloadLocation": "NONE", "primaryPackagePurpose": "SOURCE", "checksums": badSum,
					"externalRefs": []object{{"referenceCategory": "PACKAGE_MANAGER", "referenceType": "purl", "referenceLocator": "pkg: bad%"}},
				},
			},
			"relationships": []object{
				{"spdxElementId": "SPDXRef-a", "relationshipType": "GENERATED_FROM", "relatedSpdxElement": "SPDXRef-b"},
				{"spdxElementId": "SPDXRef-a", "relationshipType": "EVIL", "relatedSpdxElement": "SPDXRef-c"},
			},
			"hasExtractedLicensingInfos": []object{{"licenseId": "LicenseRef-x", "extractedText": licence}, {"licenseId": "bad id", "extractedText": ""}},
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sbom.ImagePackage{
			Component: sbom.Component{Name: name, Version: "1-r0", Licenses: []string{licence}, Homepage: "https://example.org/ x", Checksums: []sbom.Checksum{{Algorithm: "SHA256", Value: "12"}}},
			Document:  sbom.ReadEmbedded(document),
			Files:     []sbom.File{{Path: "usr/\xff\x1b" + licence, Kind: "file", SHA1: [20]byte(bytes.Repeat([]byte{0x0a}, 20))}},
		})
	}
	d := sbom.ImageDocument{Name: "web", Digest: "sha256:" + strings.Repeat("0a", 32), Arch: "amd64", Packages: all, OS: sbom.OS{ID: "a b", Version: "é"}, Repository: "git@github.com:a/b", Commit: "12"}
	c, err := sbom.ImageCycloneDX(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := imagetest.CheckCycloneDX(c); err != nil {
		t.Error(err)
	}
	s, err := sbom.Image(d)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	known := map[string]bool{}
	for _, l := range doc.OtherLicenses {
		known[l.LicenseIdentifier] = true
	}
	for _, p := range doc.Packages {
		for _, text := range []string{p.PackageLicenseDeclared, p.PackageLicenseConcluded} {
			if text == "" || text == "NONE" || text == "NOASSERTION" {
				continue
			}
			ids, err := spdxexp.ExtractLicenses(text)
			if err != nil {
				t.Errorf("%s: %q: %v", p.PackageName, text, err)
			}
			for _, id := range ids {
				if strings.HasPrefix(id, "LicenseRef-") && !known[id] {
					t.Errorf("%s: %q has no text", p.PackageName, id)
				}
			}
		}
		for _, c := range p.PackageChecksums {
			if p.PackageName == "source" {
				t.Errorf("%s: took over %v", p.PackageName, c)
			}
		}
	}
}
