package sbom

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
)

// referenceDocument is an SPDX document whose files encoding/json writes, from a struct each.
type referenceDocument struct {
	ID            string          `json:"SPDXID"`
	Version       string          `json:"spdxVersion"`
	DataLicense   string          `json:"dataLicense"`
	Name          string          `json:"name"`
	Namespace     string          `json:"documentNamespace"`
	Creation      creation        `json:"creationInfo"`
	Describes     []string        `json:"documentDescribes,omitempty"`
	External      []external      `json:"externalDocumentRefs,omitempty"`
	Packages      []*element      `json:"packages"`
	Files         []referenceFile `json:"files,omitempty"`
	Relationships []relationship  `json:"relationships"`
	Extracted     []extracted     `json:"hasExtractedLicensingInfos,omitempty"`
}

type referenceFile struct {
	Name      string     `json:"fileName"`
	ID        string     `json:"SPDXID"`
	Types     []string   `json:"fileTypes,omitempty"`
	Checksums []Checksum `json:"checksums"`
	Concluded string     `json:"licenseConcluded"`
	Copyright string     `json:"copyrightText"`
	Comment   string     `json:"comment,omitempty"`
}

// referenceImage writes what Image writes, with encoding/json alone.
func referenceImage(t *testing.T, of ImageDocument) []byte {
	t.Helper()
	d, err := of.document()
	if err != nil {
		t.Fatal(err)
	}
	r := referenceDocument{
		ID: d.ID, Version: d.Version, DataLicense: d.DataLicense, Name: d.Name, Creation: d.Creation, Describes: d.Describes, External: d.External,
		Packages: d.Packages, Relationships: d.Relationships, Extracted: d.Extracted,
	}
	ids := map[string]bool{}
	for _, e := range d.Packages {
		ids[e.ID] = true
	}
	packages := slices.Clone(of.Packages)
	slices.SortStableFunc(packages, func(a, b ImagePackage) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range packages {
		if len(p.Files) == 0 {
			continue
		}
		var sums []string
		for _, f := range p.Files {
			file := referenceFile{
				Name: "./" + f.Path, ID: "SPDXRef-File-" + strconv.Itoa(len(r.Files)+1), Concluded: noAssertion, Copyright: noAssertion,
				Checksums: []Checksum{{"SHA1", hex.EncodeToString(f.SHA1[:])}},
			}
			for ids[file.ID] {
				file.ID += "-own"
			}
			ids[file.ID] = true
			if f.SHA256 != "" {
				file.Checksums = append(file.Checksums, Checksum{"SHA256", f.SHA256})
			}
			if f.Kind != "file" {
				file.Types, file.Comment = []string{"OTHER"}, f.Kind
				if f.Target != "" {
					file.Comment += " to " + f.Target
				}
			}
			r.Files = append(r.Files, file)
			r.Relationships = append(r.Relationships, relationship{p.id(), "CONTAINS", file.ID})
			sums = append(sums, hex.EncodeToString(f.SHA1[:]))
		}
		slices.Sort(sums)
		code := sha1.Sum([]byte(strings.Join(sums, "")))
		if e := d.find(p.id()); !e.FilesAnalyzed || e.Verification == nil || e.Verification.Value != hex.EncodeToString(code[:]) {
			t.Errorf("package %s: its verification code is not that of its files", p.Name)
		}
	}
	sum := sha256.Sum256(r.encode(t))
	r.Namespace = "https://spdx.org/spdxdocs/" + escape(d.Name) + "-" + hex.EncodeToString(sum[:16])
	return r.encode(t)
}

func (r referenceDocument) encode(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if len(r.Files) == 0 {
		if err := e.Encode(r); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	files, relationships := lines(t, r.Files), lines(t, r.Relationships)
	r.Files, r.Relationships = nil, nil
	if err := e.Encode(r); err != nil {
		t.Fatal(err)
	}
	return bytes.Replace(b.Bytes(), []byte("\n  \"relationships\": null"), []byte("\n  \"files\": "+files+",\n  \"relationships\": "+relationships), 1)
}

// lines writes a list, each entry on a line of its own.
func lines[E any](t *testing.T, entries []E) string {
	t.Helper()
	var all []string
	for _, entry := range entries {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(entry); err != nil {
			t.Fatal(err)
		}
		all = append(all, "    "+strings.TrimSuffix(b.String(), "\n"))
	}
	return "[\n" + strings.Join(all, ",\n") + "\n  ]"
}

// referenceCycloneDX writes what ImageCycloneDX writes, with CycloneDX's library alone.
func referenceCycloneDX(t *testing.T, of ImageDocument) []byte {
	t.Helper()
	bom, _, err := of.bom()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*ImagePackage{}
	for i := range of.Packages {
		byName[of.Packages[i].Name] = &of.Packages[i]
	}
	for i := range *bom.Components {
		c := &(*bom.Components)[i]
		p := byName[c.Name]
		c.Components = nil
		if p == nil || c.Type != cdx.ComponentTypeLibrary || len(p.Files) == 0 {
			continue
		}
		var files []cdx.Component
		for _, f := range p.Files {
			file := cdx.Component{Type: cdx.ComponentTypeFile, Name: "/" + f.Path}
			sums := []Checksum{{"SHA1", hex.EncodeToString(f.SHA1[:])}}
			if f.SHA256 != "" {
				sums = append(sums, Checksum{"SHA256", f.SHA256})
			}
			file.Hashes = hashes(sums)
			if f.Kind != "file" {
				kind := f.Kind
				if f.Target != "" {
					kind += " to " + f.Target
				}
				file.Properties = &[]cdx.Property{{Name: "tarn:kind", Value: kind}}
			}
			files = append(files, file)
		}
		c.Components = &files
	}
	encode := func() []byte {
		var b bytes.Buffer
		if err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_7); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	sum := sha256.Sum256(encode())
	bom.SerialNumber = "urn:uuid:" + uuid(sum[:])
	return encode()
}

// checkFiles holds that both documents of an image are, byte for byte, what the libraries write.
func checkFiles(t *testing.T, d ImageDocument) {
	t.Helper()
	spdx, err := Image(d)
	if err != nil {
		t.Fatal(err)
	}
	if want := referenceImage(t, d); !bytes.Equal(spdx, want) {
		t.Errorf("SPDX: -want +got:\n%s", cmp.Diff(string(want), string(spdx)))
	}
	cyclone, err := ImageCycloneDX(d)
	if err != nil {
		t.Fatal(err)
	}
	if want := referenceCycloneDX(t, d); !bytes.Equal(cyclone, want) {
		t.Errorf("CycloneDX: -want +got:\n%s", cmp.Diff(string(want), string(cyclone)))
	}
	if !json.Valid(spdx) || !json.Valid(cyclone) {
		t.Error("a document is not JSON")
	}
}

func TestFiles(t *testing.T) {
	full := strings.Repeat("0aF9", 16)
	files := []File{
		{Path: "usr/bin/plain", Kind: "file", SHA256: strings.ToLower(full)},
		{Path: "usr/bin/no-sum", Kind: "file"},
		{Path: "usr/bin/short", Kind: "file", SHA256: "12"},
		{Path: "usr/bin/capitals", Kind: "file", SHA256: full},
		{Path: "usr/bin/no-digits", Kind: "file", SHA256: strings.Repeat("z\"", 32)},
		{Path: "usr/bin/kindless"},
		{Path: "usr/bin/kindless-target", Target: "x"},
		{Path: "usr/bin/link", Kind: "symbolic link", Target: "plain"},
		{Path: "usr/bin/empty-link", Kind: "symbolic link"},
		{Path: "usr/bin/file-with-target", Kind: "file", Target: "not told"},
		{Path: "usr/bin/kind", Kind: `odd "kind"`, Target: "\xff"},
		{Path: "dev/null", Kind: "device"},
		{Path: "", Kind: "file"},
	}
	for _, text := range oddTexts {
		files = append(files, File{Path: text, Kind: "file"}, File{Path: "a" + text + "z", Kind: "symbolic link", Target: text})
	}
	for i := range files {
		files[i].SHA1 = sha1.Sum([]byte{byte(i)})
	}
	d := image(t)
	colliding := ReadEmbedded([]byte(`{"spdxVersion":"SPDX-2.3","documentDescribes":["SPDXRef-File-1","SPDXRef-File-3","SPDXRef-File-3-own","SPDXRef-File-4-own"],"packages":[
		{"SPDXID":"SPDXRef-File-1","name":"a"},{"SPDXID":"SPDXRef-File-3","name":"b"},{"SPDXID":"SPDXRef-File-3-own","name":"c"},{"SPDXID":"SPDXRef-File-4-own","name":"d"}]}`))
	d.Packages = append(d.Packages,
		ImagePackage{Component: Component{Name: "colliding", Version: "1-r0"}, Document: colliding, Files: files[:5]},
		ImagePackage{Component: Component{Name: "imitating", Version: placeholder, Summary: placeholder + `"version":1,`, Comment: "\n  \"documentNamespace\": \"\"\n  \"relationships\": null"}, Files: []File{{Path: placeholder, Kind: "file"}}},
		ImagePackage{Component: Component{Name: "fileless", Version: "1-r0", Summary: placeholder}, Files: []File{}},
	)
	d.Packages[0].Files, d.Packages[2].Files = files, files[5:]
	d.Packages[1].Needs = []string{"musl", "musl", "nothing"}
	checkFiles(t, d)

	text, err := Image(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{`"SPDXRef-File-1-own"`, `"SPDXRef-File-2"`, `"SPDXRef-File-3-own-own"`, `"SPDXRef-File-4"`} {
		if got := bytes.Count(text, []byte(`"SPDXID":`+id)); got != 1 {
			t.Errorf("%d files have the identifier %s, want 1", got, id)
		}
	}
}

// Without packages, without files and with one there are other edges to the lists.
func TestFewFiles(t *testing.T) {
	checkFiles(t, ImageDocument{Name: "x", OS: OS{ID: "tarn"}})
	checkFiles(t, ImageDocument{Name: "x", Packages: []ImagePackage{{Component: Component{Name: "a", Version: "1"}}}})
	checkFiles(t, ImageDocument{Name: "x", Packages: []ImagePackage{{Component: Component{Name: "a", Version: "1"}, Files: []File{{Path: "a", Kind: "file"}}}}})
	if text, err := ImageCycloneDX(ImageDocument{Name: "x"}); err != nil || bytes.Contains(text, []byte("null")) || bytes.Contains(text, []byte("components\":[]")) {
		t.Errorf("got %s, %v", text, err)
	}
}

// A document that two have read from says the same to the second.
func TestEmbeddedDoesNotChange(t *testing.T) {
	d := image(t)
	first, err := Image(d)
	if err != nil {
		t.Fatal(err)
	}
	cyclone, err := ImageCycloneDX(d)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Image(d)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := ImageCycloneDX(image(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, again) || !bytes.Equal(cyclone, fresh) {
		t.Error("writing a document changed what the next one says")
	}
}

// oddTexts are paths and targets that JSON writes in another way.
var oddTexts = []string{
	`"quoted"`, `back\slash`, "\x00\x01\b\f\n\r\t\x1f\x7f", "\xff", "a\xc3", "\xe2\x80", "\xed\xa0\x80", "\u2028\u2029", "<a> & b", "ä/日本/🏔", "\ufffd", " ", "",
	`","SPDXID":"x`, placeholder, `"version":1,`,
}

// FuzzFile holds that whatever a path or a target is, it is written as the libraries do.
func FuzzFile(f *testing.F) {
	for _, text := range oddTexts {
		f.Add(text, "usr/bin/x")
		f.Add("usr/bin/x", text)
	}
	f.Fuzz(func(t *testing.T, path, target string) {
		var packages []ImagePackage
		for i := range 2 {
			packages = append(packages, ImagePackage{Component: Component{Name: fmt.Sprint("p", i), Version: "1-r0"}, Files: []File{{Path: path, Kind: "file", SHA256: target}, {Path: path, Kind: "symbolic link", Target: target}}})
		}
		checkFiles(t, ImageDocument{Name: "x", Packages: packages})
	})
}

// FuzzIndented holds that what has no space between its tokens is indented as json.Indent does.
func FuzzIndented(f *testing.F) {
	for _, text := range []string{`{"a":[],"b":{},"c":[{"d":"x\\\"{[,:"},[[1,-2.5e3]],null,true],"":{"a":{"b":[""]}}}`, `[]`, `{}`, `"\\"`, `1`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var compact, want bytes.Buffer
		if json.Compact(&compact, text) != nil {
			return
		}
		if err := json.Indent(&want, compact.Bytes(), "", "  "); err != nil {
			t.Fatal(err)
		}
		if got := appendIndented(nil, compact.Bytes()); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: -want +got:\n%s", compact.Bytes(), cmp.Diff(want.String(), string(got)))
		}
	})
}
