package sbom

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/package-url/packageurl-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

var zlib = PackageDocument{
	Package: Component{
		Name: "zlib-dev", Version: "1.3.1-r0", Arch: "x86_64", Origin: "zlib",
		Summary:   "compression <library> & headers",
		Homepage:  "https://zlib.net/",
		Licenses:  []string{"Zlib", "MIT or (gpl-2.0-only with Classpath-exception-2.0)", "custom:public domain"},
		Copyright: []string{"1995-2024 Jean-loup Gailly and Mark Adler"},
		CPE:       "cpe:2.3:a:zlib:zlib:1.3.1:*:*:*:*:*:*:*",
		Sources: []Source{
			{
				Name: "zlib", Version: "1.3.1", URL: "https://zlib.net/zlib-1.3.1.tar.gz", Licenses: []string{"Zlib"},
				Checksums: []Checksum{{"sha512", strings.Repeat("AB01", 32)}, {"SHA256", "9a93b2b7dfdac77ceba5a558a580e74667dd6fede4585b91eefb60f03b72df23"}},
			},
			{URL: "https://github.com/madler/zlib.git", Tag: "v1.3.1", Commit: "51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf"},
			{URL: "https://example.org/git/tests", Commit: "0011223344556677889900112233445566778899"},
			{URL: "debian:zlib/zlib_1.3.dfsg.orig.tar.gz", Checksums: []Checksum{{"SHA256", strings.Repeat("00ff", 16)}}},
		},
	},
	Recipe: &Recipe{
		File: "recipes/core/zlib.yaml", Checksums: []Checksum{{"SHA256", strings.Repeat("cc", 32)}},
		Repository: "https://github.com/tarn-build/tarn", Commit: "0123456789012345678901234567890123456789",
	},
	Licenses: []LicenseText{{ID: "LicenseRef-customC58public", Name: "public domain", Text: "No rights reserved."}},
	Created:  1700000000,
}

// read checks with SPDX's own library that a document is valid.
func read(t *testing.T, text []byte) *v2_3.Document {
	t.Helper()
	doc, err := spdxjson.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	ids := map[string]bool{}
	for _, p := range doc.Packages {
		id := string(p.PackageSPDXIdentifier)
		if ids[id] {
			t.Errorf("identifier %s is there twice", id)
		}
		ids[id] = true
		if id != escape(id) {
			t.Errorf("identifier %q has characters that SPDX does not allow", id)
		}
		for _, r := range p.PackageExternalReferences {
			if r.RefType == "purl" {
				if _, err := packageurl.FromString(r.Locator); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
		}
	}
	// Every LicenseRef that is used is explained.
	known := map[string]bool{}
	for _, l := range doc.OtherLicenses {
		known[l.LicenseIdentifier] = true
	}
	for _, p := range doc.Packages {
		for _, word := range tokens(p.PackageLicenseDeclared) {
			if strings.HasPrefix(word, "LicenseRef-") && !known[word] {
				t.Errorf("%s: %s is not explained", p.PackageName, word)
			}
		}
	}
	return doc
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: -want +got:\n%s", name, diff)
	}
}

func write(t *testing.T, d PackageDocument) []byte {
	t.Helper()
	text, err := Package(d)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPackage(t *testing.T) {
	text := write(t, zlib)
	golden(t, "zlib-dev.spdx.json", text)
	doc := read(t, text)
	if got := len(doc.Packages); got != 6 {
		t.Errorf("%d elements, want the package, the recipe and 4 sources", got)
	}
	if !bytes.Equal(text, write(t, zlib)) {
		t.Error("the same input gives other bytes")
	}
}

// TestNamespace shows that documents have one namespace only when they say the same.
func TestNamespace(t *testing.T) {
	changes := map[string]func(d *PackageDocument){
		"nothing":      func(*PackageDocument) {},
		"the name":     func(d *PackageDocument) { d.Package.Name = "zlib" },
		"the version":  func(d *PackageDocument) { d.Package.Version = "1.3.1-r1" },
		"the arch":     func(d *PackageDocument) { d.Package.Arch = "aarch64" },
		"a licence":    func(d *PackageDocument) { d.Package.Licenses = []string{"MIT"} },
		"a checksum":   func(d *PackageDocument) { d.Package.Checksums = []Checksum{{"SHA256", "00"}} },
		"the sources":  func(d *PackageDocument) { d.Package.Sources = nil },
		"no recipe":    func(d *PackageDocument) { d.Recipe = nil },
		"the time":     func(d *PackageDocument) { d.Created++ },
		"licence text": func(d *PackageDocument) { d.Licenses = nil },
	}
	seen := map[string]string{}
	for what, change := range changes {
		d := zlib
		change(&d)
		namespace := read(t, write(t, d)).DocumentNamespace
		if other, known := seen[namespace]; known {
			t.Errorf("%s and %s give the namespace %s", what, other, namespace)
		}
		seen[namespace] = what
	}
}

// TestSecrets shows that a password in a URL is not told.
func TestSecrets(t *testing.T) {
	d := zlib
	d.Package.Sources = []Source{
		{URL: "https://user:hunter2@example.org/a.tar.gz", Checksums: []Checksum{{"SHA256", "00"}}},
		{URL: "https://user:hunter2@example.org/a.git", Commit: "00ff"},
	}
	d.Recipe = &Recipe{File: "a.yaml", Repository: "https://user:hunter2@example.org/a.git", Commit: "00ff"}
	if text := write(t, d); bytes.Contains(text, []byte("hunter2")) {
		t.Errorf("the document has the password:\n%s", text)
	}
}

func TestPackageWithoutName(t *testing.T) {
	if _, err := Package(PackageDocument{}); err == nil {
		t.Error("a package without a name was written")
	}
}

func TestExpression(t *testing.T) {
	tests := []struct {
		in        []string
		want      string
		extracted []string
	}{
		{nil, "NOASSERTION", nil},
		{[]string{"", " "}, "NOASSERTION", nil},
		{[]string{"MIT"}, "MIT", nil},
		{[]string{"MIT", "MIT"}, "MIT", nil},
		{[]string{"GPL-2.0-or-later", "MIT"}, "GPL-2.0-or-later AND MIT", nil},
		{[]string{"MIT OR Apache-2.0", "Zlib"}, "(MIT OR Apache-2.0) AND Zlib", nil},
		{[]string{"mit or (Zlib and BSD-2-Clause)"}, "MIT OR (Zlib AND BSD-2-Clause)", nil},
		{[]string{"GPL AND custom"}, "LicenseRef-GPL AND LicenseRef-custom", []string{"GPL", "custom"}},
		{[]string{"Apache-2.0+"}, "Apache-2.0+", nil},
		{[]string{"NOASSERTION AND MIT"}, "LicenseRef-NOASSERTION-AND-MIT", []string{"NOASSERTION AND MIT"}},
		{[]string{"GPL-2.0+ with GCC-exception-3.1"}, "GPL-2.0+ WITH GCC-exception-3.1", nil},
		{[]string{"NOASSERTION", "MIT"}, "MIT", nil},
		{[]string{"NONE"}, "NONE", nil},
		{[]string{"custom:foo"}, "LicenseRef-custom-foo", []string{"custom:foo"}},
		{[]string{"GPL-2 MIT"}, "LicenseRef-GPL-2-MIT", []string{"GPL-2 MIT"}},
		{[]string{"MIT AND"}, "LicenseRef-MIT-AND", []string{"MIT AND"}},
		{[]string{"(MIT"}, "LicenseRef-C40MIT", []string{"(MIT"}},
		{[]string{"MIT WITH a/b"}, "LicenseRef-MIT-WITH-a-b", []string{"MIT WITH a/b"}},
		{[]string{"MIT AND LicenseRef-Own"}, "MIT AND LicenseRef-Own", []string{"LicenseRef-Own"}},
		{[]string{"LicenseRef-a_b"}, "LicenseRef-LicenseRef-aC95b", []string{"LicenseRef-a_b"}},
	}
	for _, test := range tests {
		l := &licences{}
		if got := l.expression(test.in); got != test.want {
			t.Errorf("%q: got %q, want %q", test.in, got, test.want)
		}
		var extracted []string
		for _, e := range l.extracted {
			extracted = append(extracted, e.Text)
		}
		if !slices.Equal(extracted, test.extracted) {
			t.Errorf("%q: got texts %q, want %q", test.in, extracted, test.extracted)
		}
	}
}

// FuzzExpression holds that whatever stands for a licence becomes an expression
// that is taken for one, and that becomes nothing else when it is read again.
func FuzzExpression(f *testing.F) {
	for _, seed := range []string{"MIT", "a or (b AND c+) with d", "((", "LicenseRef-x", "ü", "AND", "NOASSERTION", strings.Repeat("x ", 90)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l := &licences{}
		once := l.expression([]string{text})
		if twice := l.expression([]string{once}); twice != once {
			t.Errorf("%q became %q, then %q", text, once, twice)
		}
	})
}

func image(t *testing.T) ImageDocument {
	t.Helper()
	libz := zlib
	libz.Package.Name, libz.Package.CPE = "zlib", ""
	foreign, err := os.ReadFile("testdata/foreign.spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	component := func(d PackageDocument) Component {
		c := d.Package
		c.Sources, c.Copyright, c.CPE = nil, nil, ""
		c.Checksums = []Checksum{{"SHA256", strings.Repeat("ab", 32)}}
		return c
	}
	return ImageDocument{
		Name: "example.org/team/web", Digest: "sha256:" + strings.Repeat("12", 32), Arch: "amd64",
		Layers: []Layer{
			{Digest: "sha256:" + strings.Repeat("34", 32), MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"},
			{Digest: "sha256:" + strings.Repeat("56", 32)},
		},
		OS: OS{ID: "tarn", Name: "Tarn Linux", Version: "1"},
		Packages: []ImagePackage{
			{Component: component(zlib), Document: ReadEmbedded(write(t, zlib))},
			{Component: component(libz), Document: ReadEmbedded(write(t, libz))},
			{Component: Component{Name: "musl", Version: "1.2.5-r0", Arch: "x86_64", Licenses: []string{"MIT"}}},
			{Component: Component{Name: "broken", Version: "1-r0", Licenses: []string{"MIT"}}, Document: ReadEmbedded([]byte("{"))},
			{Component: Component{Name: "foreign", Version: "2-r0", Licenses: []string{"LicenseRef-Own"}}, Document: ReadEmbedded(foreign)},
		},
		Repository: "https://github.com/tarn-build/tarn", Commit: "0123",
		Created: 1700000000,
	}
}

func TestImage(t *testing.T) {
	d := image(t)
	text, err := Image(d)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "image.spdx.json", text)
	doc := read(t, text)
	byName := map[string]*v2_3.Package{}
	for _, p := range doc.Packages {
		byName[p.PackageName] = p
	}
	contained := map[string]bool{}
	for _, r := range doc.Relationships {
		if r.Relationship == "CONTAINS" {
			contained[string(r.RefB.ElementRefID)] = true
		}
	}
	for _, p := range d.Packages {
		at := slices.IndexFunc(doc.Packages, func(e *v2_3.Package) bool { return string(e.PackageSPDXIdentifier) == p.id()[len("SPDXRef-"):] })
		if at < 0 {
			t.Errorf("package %s is not in the document", p.Name)
			continue
		}
		got := doc.Packages[at]
		if !contained[string(got.PackageSPDXIdentifier)] {
			t.Errorf("the image does not contain package %s", p.Name)
		}
		if got.PackageLicenseDeclared == "" || got.PackageLicenseDeclared == noAssertion {
			t.Errorf("package %s has no licence", p.Name)
		}
	}
	if got := byName["zlib-dev"].PackageCopyrightText; !strings.Contains(got, "Jean-loup") {
		t.Errorf("copyright %q, want the one in the package's own document", got)
	}
	if byName["inner"] == nil || byName["secret.c"] != nil {
		t.Error("of an embedded document packages are wanted, and files are not")
	}
	if got := byName["broken"].PackageComment; !strings.Contains(got, "cannot be read") {
		t.Errorf("comment %q does not say that the document cannot be read", got)
	}
	// Two packages of one recipe have one source.
	count := 0
	for _, p := range doc.Packages {
		if p.PackageName == "zlib" && p.PrimaryPackagePurpose == "SOURCE" && p.PackageVersion == "1.3.1" {
			count++
		}
	}
	if count != 1 {
		t.Errorf("the source of two packages is there %d times", count)
	}
	slices.Reverse(d.Packages)
	again, err := Image(d)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, again) {
		t.Error("another order of the packages gives other bytes")
	}
}

func TestImageTwice(t *testing.T) {
	d := image(t)
	d.Packages = append(d.Packages, d.Packages[0])
	if _, err := Image(d); err == nil {
		t.Error("a package was taken twice")
	}
}

// FuzzMerge gives an image a package with any document in it: what comes out is
// valid, and has the package.
func FuzzMerge(f *testing.F) {
	for _, name := range []string{"zlib-dev.spdx.json", "foreign.spdx.json", "image.spdx.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"SPDXRef-DOCUMENT","name":"x"},null],"documentDescribes":["SPDXRef-DOCUMENT"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := Image(ImageDocument{Name: "x", Packages: []ImagePackage{{Component: Component{Name: "foreign", Version: "2-r0"}, Document: ReadEmbedded(text)}}})
		if err != nil {
			t.Fatal(err)
		}
		var doc document
		if err := json.Unmarshal(out, &doc); err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for _, e := range doc.Packages {
			if ids[e.ID] || e.ID != escape(e.ID) {
				t.Errorf("identifier %q is there twice or has characters that SPDX does not allow", e.ID)
			}
			ids[e.ID] = true
		}
		for _, r := range doc.Relationships {
			if !ids[r.To] || !ids[r.From] && r.From != documentID {
				t.Errorf("%v leads nowhere", r)
			}
		}
		if !ids["SPDXRef-Package-apk-foreign-2-r0"] {
			t.Error("the package is not there")
		}
	})
}
