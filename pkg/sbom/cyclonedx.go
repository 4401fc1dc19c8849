package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/package-url/packageurl-go"
)

// cycloneVersion is the version of the specification that documents are written in.
const cycloneVersion = cdx.SpecVersion1_7

// ImageCycloneDX writes the bill of materials of an image as CycloneDX JSON
// (https://cyclonedx.org/docs/1.7/json/): every package with its files below it, where
// its sources come from, and which other packages it needs.
func ImageCycloneDX(d ImageDocument) ([]byte, error) {
	bom, files, err := d.bom()
	if err != nil {
		return nil, err
	}
	return encodeBOM(bom, files)
}

// bom is the document with a placeholder in each package that has files, and those files.
func (d *ImageDocument) bom() (bom *cdx.BOM, files [][]File, err error) {
	if d.Name == "" {
		return nil, nil, errors.New("write CycloneDX document: the image has no name")
	}
	bom = newBOM(d.Tool, d.Created)
	image := d.cyclone()
	bom.Metadata.Component = &image
	var components []cdx.Component
	if d.OS.ID != "" {
		components = append(components, cdx.Component{BOMRef: "os:" + d.OS.ID, Type: cdx.ComponentTypeOS, Name: d.OS.ID, Version: d.OS.Version, Description: d.OS.Name})
	}
	packages := slices.Clone(d.Packages)
	slices.SortStableFunc(packages, func(a, b ImagePackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
	})
	refs := map[string]string{}
	for i := range packages {
		c := packages[i].cyclone()
		if refs[packages[i].Name] != "" {
			return nil, nil, fmt.Errorf("write CycloneDX document: package %s is there twice", packages[i].Name)
		}
		refs[packages[i].Name] = c.BOMRef
		components = append(components, c)
		if len(packages[i].Files) > 0 {
			files = append(files, packages[i].Files)
		}
	}
	bom.Components = unlessEmpty(components)
	all := []string{}
	var dependencies []cdx.Dependency
	for i := range packages {
		p := &packages[i]
		all = append(all, refs[p.Name])
		needs := []string{}
		for _, name := range p.Needs {
			if ref := refs[name]; ref != "" && name != p.Name && !slices.Contains(needs, ref) {
				needs = append(needs, ref)
			}
		}
		slices.Sort(needs)
		dependencies = append(dependencies, cdx.Dependency{Ref: refs[p.Name], Dependencies: unlessEmpty(needs)})
	}
	slices.Sort(all)
	dependencies = append([]cdx.Dependency{{Ref: image.BOMRef, Dependencies: unlessEmpty(all)}}, dependencies...)
	bom.Dependencies = &dependencies
	return bom, files, nil
}

// IndexCycloneDX writes the bill of materials of an index as CycloneDX JSON.
func IndexCycloneDX(d IndexDocument) ([]byte, error) {
	if d.Name == "" {
		return nil, errors.New("write CycloneDX document: the index has no name")
	}
	bom := newBOM(d.Tool, d.Created)
	top := (&ImageDocument{Name: d.Name, Digest: d.Digest, Repository: d.Repository, Commit: d.Commit}).cyclone()
	bom.Metadata.Component = &top
	components, refs := []cdx.Component{}, []string{}
	for _, i := range d.Images {
		c := (&ImageDocument{Name: d.Name, Digest: i.Digest, Arch: i.Arch, Repository: d.Repository, Commit: d.Commit}).cyclone()
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	bom.Components, bom.Dependencies = unlessEmpty(components), &[]cdx.Dependency{{Ref: top.BOMRef, Dependencies: unlessEmpty(refs)}}
	return encodeBOM(bom, nil)
}

// unlessEmpty gives a list as the library wants one; an empty one is left out.
func unlessEmpty[E any](list []E) *[]E {
	if len(list) == 0 {
		return nil
	}
	return &list
}

func newBOM(tool string, created int64) *cdx.BOM {
	bom := cdx.NewBOM()
	bom.SpecVersion = cycloneVersion
	bom.Metadata = &cdx.Metadata{
		Timestamp: time.Unix(created, 0).UTC().Format(time.RFC3339),
		Tools:     &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: cmp.Or(tool, "tarn")}}},
	}
	return bom
}

// placeholder stands for the files of a package in what the library is given, which it
// copies and walks several times. No other component is a file, and no text can look like
// one: in a string a quote has a backslash in front.
const placeholder = `[{"type":"file","name":""}]`

// encodeBOM writes a document, with the files of each package that has a placeholder for
// them, in the order of the packages. Its serial number is made of all the rest of it. The
// document of an image is long: it is written once, in one piece, and the serial number,
// whose length is known, is put in afterwards.
func encodeBOM(bom *cdx.BOM, files [][]File) ([]byte, error) {
	var b bytes.Buffer
	// Not EncodeVersion, which copies everything by encoding/gob first, to leave out what
	// older versions lack: nothing here is.
	if err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(false).SetEscapeHTML(false).Encode(bom); err != nil {
		return nil, fmt.Errorf("write CycloneDX document: %v", err)
	}
	const next = `"version":1,`
	before, after, found := bytes.Cut(b.Bytes(), []byte(next))
	if !found {
		panic("internal error: no place for the serial number of a CycloneDX document")
	}
	number := func(sum [sha256.Size]byte) string { return `"serialNumber":"urn:uuid:` + uuid(sum[:]) + `",` }
	var sum [sha256.Size]byte
	size := b.Len() + len(number(sum))
	for _, of := range files {
		size += componentsSize(of)
	}
	out := make([]byte, 0, size)
	out = append(out, before...)
	start := len(out)
	out = append(out, number(sum)...)
	end := len(out)
	out = append(out, next...)
	for _, of := range files {
		if before, after, found = bytes.Cut(after, []byte(placeholder)); !found {
			panic("internal error: no place for the files of a package in a CycloneDX document")
		}
		out = append(out, before...)
		out = appendComponents(out, of)
	}
	out = append(out, after...)
	h := sha256.New()
	h.Write(out[:start])
	h.Write(out[end:])
	h.Sum(sum[:0])
	copy(out[start:end], number(sum))
	return out, nil
}

func (d *ImageDocument) cyclone() cdx.Component {
	e := d.element()
	c := cdx.Component{Type: cdx.ComponentTypeContainer, Name: d.Name, Version: d.Digest, PackageURL: e.References[0].Locator, Hashes: hashes(e.Checksums)}
	c.BOMRef = c.PackageURL
	if d.Repository != "" && public(d.Repository) {
		c.ExternalReferences = &[]cdx.ExternalReference{{Type: cdx.ERTypeVCS, URL: d.Repository, Comment: d.Commit}}
	}
	if len(d.Layers) > 0 {
		var properties []cdx.Property
		for _, l := range d.Layers {
			properties = append(properties, cdx.Property{Name: "tarn:layer", Value: l.Digest})
		}
		c.Properties = &properties
	}
	return c
}

func (p *ImagePackage) cyclone() cdx.Component {
	l := &licences{}
	e := p.element(l)
	c := cdx.Component{
		Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, Description: p.Summary, PackageURL: e.References[0].Locator,
		Hashes: hashes(e.Checksums), CPE: p.CPE, Copyright: strings.TrimSpace(strings.Join(p.Copyright, "\n")),
	}
	c.BOMRef = c.PackageURL
	if e.Declared != noAssertion && e.Declared != "NONE" && e.Declared != "" {
		c.Licenses = &cdx.Licenses{{Expression: e.Declared}}
	}
	if p.Supplier != "" {
		c.Supplier = &cdx.OrganizationalEntity{Name: p.Supplier}
	}
	var references []cdx.ExternalReference
	if e.Homepage != "" {
		references = append(references, cdx.ExternalReference{Type: cdx.ERTypeWebsite, URL: e.Homepage})
	}
	for _, s := range p.sourceElements() {
		references = append(references, s.cyclone())
	}
	c.ExternalReferences = unlessEmpty(references)
	if p.Origin != "" {
		c.Properties = &[]cdx.Property{{Name: "tarn:origin", Value: p.Origin}}
	}
	if len(p.Files) > 0 {
		c.Components = &[]cdx.Component{{Type: cdx.ComponentTypeFile}} // the placeholder
	}
	return c
}

// HasSource reports whether it is known what the package was built from.
func (p *ImagePackage) HasSource() bool {
	return len(p.Sources) > 0 || len(p.sourceElements()) > 0
}

// sourceElements are what a package was built from: what its document says, and what is
// known besides.
func (p *ImagePackage) sourceElements() []*element {
	var all []*element
	if p.Document != nil {
		for _, e := range p.Document.sources {
			if e.Name != p.Name || e.Version != p.Version {
				all = append(all, e)
			}
		}
	}
	for i := range p.Sources {
		all = append(all, p.Sources[i].element(&licences{}))
	}
	return all
}

// cyclone is a source as a place where it can be had. CycloneDX wants an address; what
// has none is named by its package-url.
func (e *element) cyclone() cdx.ExternalReference {
	r := cdx.ExternalReference{Type: cdx.ERTypeSourceDistribution, Comment: strings.TrimSpace(e.Name + " " + e.Version), URL: e.Download, Hashes: hashes(sortedChecksums(e.Checksums))}
	if strings.HasPrefix(e.Download, "git+") {
		r.Type = cdx.ERTypeVCS
	}
	if r.URL != "" && r.URL != noAssertion && r.URL != "NONE" {
		return r
	}
	for _, reference := range e.References {
		if reference.Type == "purl" {
			r.URL = reference.Locator
			return r
		}
	}
	r.URL = packageurl.NewPackageURL("generic", "", e.Name, e.Version, nil, "").ToString()
	return r
}

// algorithms are CycloneDX's names of SPDX's.
var algorithms = map[string]cdx.HashAlgorithm{"MD5": cdx.HashAlgoMD5, "SHA1": cdx.HashAlgoSHA1, "SHA256": cdx.HashAlgoSHA256, "SHA384": cdx.HashAlgoSHA384, "SHA512": cdx.HashAlgoSHA512}

// hashes gives checksums by CycloneDX's names of the algorithms.
func hashes(sums []Checksum) *[]cdx.Hash {
	var all []cdx.Hash
	for _, s := range sums {
		if name, known := algorithms[s.Algorithm]; known && s.valid() {
			all = append(all, cdx.Hash{Algorithm: name, Value: s.Value})
		}
	}
	return unlessEmpty(all)
}
