package images_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/github/go-spdx/v2/spdxexp"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/package-url/packageurl-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sbom"
)

// told is what one of the ways of telling says of an image: paths by their package, and
// the packages.
type told struct{ files, packages map[string]string }

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
	// The root file system, and who the image itself says owns each file.
	root := told{map[string]string{}, map[string]string{}}
	listed := map[string]string{}
	var list bytes.Buffer
	if err := image.List(&list); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(list.String()) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), " (edited)")
		listed[strings.TrimPrefix(strings.Fields(line)[2], "/")] = line[strings.LastIndexByte(line, ' ')+1:]
	}
	for n := range contents.Tree.All() {
		if !n.Mode.IsDir() {
			root.files[n.Path] = listed[n.Path]
		}
	}
	for _, p := range image.About.Packages {
		root.packages[p.Name] = string(p.Version)
	}
	if len(root.packages) != packages+1 {
		t.Errorf("%d packages, want %d and the composer's own", len(root.packages), packages)
	}
	// The database, as a real apk reads it.
	database := told{map[string]string{}, map[string]string{}}
	for _, p := range contents.Packages {
		database.packages[p.Name] = p.Version
		if len(p.Missing) > 0 {
			t.Errorf("%s: the database has files that are not there: %v", p.Name, p.Missing)
		}
	}
	for n := range contents.Tree.All() {
		if !n.Mode.IsDir() && n.Owner != "" {
			database.files[n.Path] = n.Owner
		}
	}
	for name, told := range map[string]told{"database": database, "SPDX": tellSPDX(t, image, contents), "CycloneDX": tellCycloneDX(t, image, contents)} {
		if diff := cmp.Diff(root.files, told.files); diff != "" {
			t.Errorf("files: -root file system +%s:\n%s", name, diff)
		}
		if diff := cmp.Diff(root.packages, told.packages); diff != "" {
			t.Errorf("packages: -image +%s:\n%s", name, diff)
		}
	}
}

// tellSPDX reads the SPDX document with SPDX's own library, and holds that every package
// has a licence, a package-url, a checksum and a source, and every file its digests.
func tellSPDX(t *testing.T, image *images.Image, contents *view.Contents) told {
	t.Helper()
	doc, err := spdxjson.Read(bytes.NewReader(image.SBOM))
	if err != nil {
		t.Fatal(err)
	}
	d := told{map[string]string{}, map[string]string{}}
	names := map[common.ElementID]string{}
	sourced := map[common.ElementID]bool{}
	for _, p := range doc.Packages {
		for _, r := range p.PackageExternalReferences {
			if url, err := packageurl.FromString(r.Locator); err == nil && url.Type == "apk" && p.PrimaryPackagePurpose == "INSTALL" {
				names[p.PackageSPDXIdentifier] = p.PackageName
				d.packages[p.PackageName] = p.PackageVersion
			}
		}
	}
	files := map[common.ElementID]*spdx.File{}
	for _, f := range doc.Files {
		files[f.FileSPDXIdentifier] = f
	}
	for _, r := range doc.Relationships {
		from, to := r.RefA.ElementRefID, r.RefB.ElementRefID
		switch {
		case r.Relationship == "GENERATED_FROM":
			sourced[from] = true
		case r.Relationship == "CONTAINS" && files[to] != nil:
			name := strings.TrimPrefix(files[to].FileName, "./")
			if d.files[name] != "" {
				t.Errorf("SPDX: /%s belongs to %s and %s", name, d.files[name], names[from])
			}
			d.files[name] = names[from]
			sums := map[string]string{}
			for _, c := range files[to].Checksums {
				sums[string(c.Algorithm)] = c.Value
			}
			n, _ := contents.Tree.Lstat(name)
			if n != nil && n.Mode.IsRegular() && (sums["SHA256"] != n.Sum || sums["SHA1"] != contents.Files[name].SHA1) {
				t.Errorf("SPDX: /%s has %v, want %s and %s", name, sums, n.Sum, contents.Files[name].SHA1)
			}
		}
	}
	for _, p := range doc.Packages {
		name := names[p.PackageSPDXIdentifier]
		if name == "" {
			continue
		}
		if !sourced[p.PackageSPDXIdentifier] {
			t.Errorf("SPDX: %s has no source", name)
		}
		if len(p.PackageChecksums) == 0 {
			t.Errorf("SPDX: %s has no checksum", name)
		}
		if p.PackageLicenseDeclared == "" || p.PackageLicenseDeclared == "NOASSERTION" && !images.IsOwnPackage(name) {
			t.Errorf("SPDX: %s has the licence %q", name, p.PackageLicenseDeclared)
		}
		if p.FilesAnalyzed && p.PackageVerificationCode == nil {
			t.Errorf("SPDX: %s has files and no code that verifies them", name)
		}
	}
	if len(files) != len(d.files) {
		t.Errorf("SPDX: %d files, %d of them of packages", len(files), len(d.files))
	}
	return d
}

// tellCycloneDX reads the CycloneDX document with its own library, after its official
// schema has found nothing wrong.
func tellCycloneDX(t *testing.T, image *images.Image, _ *view.Contents) told {
	t.Helper()
	checkCycloneDX(t, image.CycloneDX)
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(image.CycloneDX), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	d := told{map[string]string{}, map[string]string{}}
	for _, c := range *bom.Components {
		if c.Type != cdx.ComponentTypeLibrary {
			continue
		}
		d.packages[c.Name] = c.Version
		if !strings.HasPrefix(c.PackageURL, "pkg:apk/") || c.Hashes == nil || c.ExternalReferences == nil || c.Licenses == nil && !images.IsOwnPackage(c.Name) {
			t.Errorf("CycloneDX: %s lacks a package-url, hash, licence or source: %+v", c.Name, c)
		}
		if c.Components == nil {
			continue
		}
		for _, f := range *c.Components {
			d.files[strings.TrimPrefix(f.Name, "/")] = c.Name
		}
	}
	return d
}

// checkCycloneDX holds a document against the official schema of its version. What is
// defined elsewhere for cryptography is left open: these documents say nothing of it.
func checkCycloneDX(t *testing.T, data []byte) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	dir := filepath.Join("..", "pkg", "sbom", "testdata", "cyclonedx")
	for _, name := range []string{"bom-1.7.schema.json", "spdx.schema.json", "jsf-0.82.schema.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("http://cyclonedx.org/schema/"+name, schema); err != nil {
			t.Fatal(err)
		}
	}
	open, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"definitions": {"algorithmFamiliesEnum": {}, "ellipticCurvesEnum": {}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("http://cyclonedx.org/schema/cryptography-defs.schema.json", open); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("http://cyclonedx.org/schema/bom-1.7.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(document); err != nil {
		t.Errorf("CycloneDX: %v", err)
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
	checkCycloneDX(t, cyclone)
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
			Document:  document,
			Files:     []sbom.File{{Path: "usr/\xff\x1b" + licence, Kind: "file", SHA1: strings.Repeat("0a", 20)}},
		})
	}
	d := sbom.ImageDocument{Name: "web", Digest: "sha256:" + strings.Repeat("0a", 32), Arch: "amd64", Packages: all, OS: sbom.OS{ID: "a b", Version: "é"}, Repository: "git@github.com:a/b", Commit: "12"}
	c, err := sbom.ImageCycloneDX(d)
	if err != nil {
		t.Fatal(err)
	}
	checkCycloneDX(t, c)
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
