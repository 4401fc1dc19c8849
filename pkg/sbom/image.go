package sbom

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ImageDocument is all that goes into the bill of materials of an image of one
// architecture.
type ImageDocument struct {
	Name       string // e.g. example.org/web or web
	Digest     string // of the manifest, e.g. sha256:1f2e...; may be empty
	Arch       string // by the name that OCI uses, e.g. amd64
	Layers     []Layer
	OS         OS
	Packages   []ImagePackage
	Repository string // URL of the git repository that describes the image; may be empty
	Commit     string
	Created    int64  // Unix seconds: SOURCE_DATE_EPOCH
	Tool       string // who wrote it; "tarn" when empty
}

// Layer is one layer of an image.
type Layer struct {
	Digest    string // of the compressed bytes, e.g. sha256:9a0b...
	MediaType string
}

// OS is what the image's os-release says.
type OS struct {
	ID      string // e.g. alpine
	Name    string // e.g. Alpine Linux
	Version string // VERSION_ID
}

// ImagePackage is a package of an image.
type ImagePackage struct {
	Component
	// Document is the bill of materials that lies in the package, or nil.
	Document *Embedded
	// Files are all paths of the image that are the package's and no folders.
	Files []File
	// Needs are the names of packages of the image that it depends on.
	Needs []string
}

// Image writes the bill of materials of an image: the image, its layers, its
// operating system, and every package, with what the package's own document adds
// about where it comes from.
//
// A package's document that cannot be read does not keep the package out: its
// element says so.
func Image(d ImageDocument) ([]byte, error) {
	doc, err := d.document()
	if err != nil {
		return nil, err
	}
	return doc.encode()
}

func (d *ImageDocument) document() (*document, error) {
	if d.Name == "" {
		return nil, errors.New("write SPDX document: the image has no name")
	}
	name := "image-" + d.Name
	if d.Arch != "" {
		name += "-" + d.Arch
	}
	doc := newDocument(name, d.Tool, d.Created)
	l := &licences{}
	image := d.element()
	doc.describe(image)
	for _, layer := range d.Layers {
		e := &element{
			ID:        "SPDXRef-Package-Layer-" + escape(layer.Digest),
			Name:      layer.Digest,
			Version:   layer.Digest,
			Supplier:  noAssertion,
			Download:  noAssertion,
			Checksums: digest(layer.Digest),
			Concluded: noAssertion,
			Declared:  noAssertion,
			Copyright: noAssertion,
			Comment:   layer.MediaType,
			Purpose:   "CONTAINER",
		}
		doc.take(e)
		doc.relate(image.ID, "CONTAINS", e.ID)
	}
	if d.OS.ID != "" {
		e := &element{
			ID:        "SPDXRef-OperatingSystem-" + escape(d.OS.ID),
			Name:      cmp.Or(d.OS.Name, d.OS.ID),
			Version:   d.OS.Version,
			Supplier:  noAssertion,
			Download:  noAssertion,
			Concluded: noAssertion,
			Declared:  noAssertion,
			Copyright: noAssertion,
			Purpose:   "OPERATING-SYSTEM",
		}
		doc.take(e)
		doc.relate(image.ID, "CONTAINS", e.ID)
	}
	packages := slices.Clone(d.Packages)
	slices.SortStableFunc(packages, func(a, b ImagePackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
	})
	// The packages' own elements come first, so that nothing in an embedded
	// document can take an identifier of theirs.
	elements := make([]*element, len(packages))
	for i := range packages {
		elements[i] = packages[i].element(l)
		if !doc.take(elements[i]) {
			return nil, fmt.Errorf("write SPDX document: package %s is there twice", elements[i].ID)
		}
		doc.relate(image.ID, "CONTAINS", elements[i].ID)
	}
	for i := range packages {
		if packages[i].Document != nil {
			if err := doc.merge(elements[i], packages[i].Document, l); err != nil {
				elements[i].Comment = "the SPDX document in the package cannot be read: " + err.Error()
			}
		}
		doc.sources(elements[i], packages[i].Sources, l)
	}
	for i := range packages {
		doc.own(elements[i], packages[i].Files)
	}
	doc.Extracted = l.sorted()
	return doc, nil
}

func (d *ImageDocument) element() *element {
	e := &element{
		ID:        "SPDXRef-Package-Image-" + escape(cmp.Or(d.Digest, d.Name)),
		Name:      d.Name,
		Version:   d.Digest,
		Supplier:  noAssertion,
		Download:  noAssertion,
		Checksums: digest(d.Digest),
		Concluded: noAssertion,
		Declared:  noAssertion,
		Copyright: noAssertion,
		Purpose:   "CONTAINER",
	}
	qualifiers := map[string]string{}
	if d.Arch != "" {
		qualifiers["arch"] = d.Arch
	}
	short := d.Name[strings.LastIndexByte(d.Name, '/')+1:]
	if short != d.Name {
		qualifiers["repository_url"] = d.Name
	}
	e.References = []reference{purl("oci", "", short, d.Digest, qualifiers)}
	if d.Repository != "" {
		e.SourceInfo = gitLocation(d.Repository, d.Commit, "")
	}
	return e
}

// merge takes over what a package's own document says beyond the package itself:
// all that can be reached from what it describes, without files. own is the
// package's element in d.
func (d *document) merge(own *element, embedded *Embedded, l *licences) error {
	if embedded.err != nil {
		return embedded.err
	}
	from := &embedded.document
	if !strings.HasPrefix(from.Version, "SPDX-2.") {
		return fmt.Errorf("unknown version %q", from.Version)
	}
	near := map[string][]string{}
	described := slices.Clone(from.Describes)
	for _, r := range from.Relationships {
		near[r.From] = append(near[r.From], r.To)
		near[r.To] = append(near[r.To], r.From)
		switch {
		case r.From == documentID && r.Type == "DESCRIBES":
			described = append(described, r.To)
		case r.To == documentID && r.Type == "DESCRIBED_BY":
			described = append(described, r.From)
		}
	}
	slices.Sort(described)
	described = slices.Compact(described)
	roots := slices.DeleteFunc(described, func(id string) bool { return from.find(id) == nil })
	if len(roots) == 0 {
		return errors.New("it describes no package")
	}
	// The described element of this name is the package; what else is described is
	// part of it.
	main := ""
	for _, id := range roots {
		if e := from.find(id); e.Name == own.Name && e.Version == own.Version {
			main = id
			break
		}
	}
	renamed := l.merge(from.Extracted)
	// What can be reached: both ends of a relationship belong together.
	reached, queue := map[string]bool{}, slices.Clone(roots)
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		if reached[id] || from.find(id) == nil {
			continue
		}
		reached[id] = true
		queue = append(queue, near[id]...)
	}
	ids := map[string]string{}
	for _, read := range from.Packages {
		if !reached[read.ID] {
			continue
		}
		copied := *read // others read the document too
		e := &copied
		e.Declared, e.Concluded = l.again(e.Declared, renamed), l.again(e.Concluded, renamed)
		e.Download = cmp.Or(e.Download, noAssertion)
		if e.ID == main {
			ids[e.ID] = own.ID
			own.supplement(e)
			continue
		}
		ids[read.ID] = d.adopt(e, own)
	}
	for _, id := range roots {
		if id != main {
			d.relate(own.ID, "CONTAINS", ids[id])
		}
	}
	for _, r := range from.Relationships {
		if a, b := ids[r.From], ids[r.To]; a != "" && b != "" && a != b && slices.Contains(relationships, r.Type) {
			d.relate(a, r.Type, b)
		}
	}
	return nil
}

// adopt adds an element of another document under an identifier of this one. An
// element that is there already is not added again; another one that has its
// identifier makes it take a longer one.
func (d *document) adopt(e *element, own *element) string {
	wanted := "SPDXRef-" + escape(strings.TrimPrefix(e.ID, "SPDXRef-"))
	for id, n := wanted, 1; ; n++ {
		e.ID = id
		there := d.find(id)
		switch {
		case there == nil:
			d.take(e)
			return id
		case there != own && equal(there, e):
			return id
		}
		id = wanted + "-of-" + strings.TrimPrefix(own.ID, "SPDXRef-Package-")
		if n > 1 {
			id += fmt.Sprintf("-%d", n)
		}
	}
}

func equal(a, b *element) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// supplement takes over what a package's own document knows of it and the index does not.
func (e *element) supplement(own *element) {
	if e.Declared == noAssertion {
		e.Declared = cmp.Or(own.Declared, noAssertion)
	}
	if e.Copyright == noAssertion {
		e.Copyright = cmp.Or(own.Copyright, noAssertion)
	}
	if e.Supplier == noAssertion {
		e.Supplier, e.Originator = cmp.Or(own.Supplier, noAssertion), own.Originator
	}
	e.Homepage = cmp.Or(e.Homepage, homepage(own.Homepage))
	e.Summary = cmp.Or(e.Summary, own.Summary)
	for _, r := range own.References {
		if r.Category == "SECURITY" && !slices.Contains(e.References, r) {
			e.References = append(e.References, r)
		}
	}
}

// merge takes in licence texts of another document. It gives the new identifiers
// of those whose identifier stands for another text here.
func (l *licences) merge(others []extracted) map[string]string {
	renamed := map[string]string{}
	for _, other := range others {
		if !other.valid() {
			continue
		}
		id := other.ID
		for n := 2; ; n++ {
			at := slices.IndexFunc(l.extracted, func(e extracted) bool { return e.ID == other.ID })
			if at < 0 {
				l.extracted = append(l.extracted, other)
				break
			}
			if l.extracted[at].Text == other.Text {
				break
			}
			if l.extracted[at].Text == other.ID && n == 2 {
				l.extracted[at] = other // only the identifier was known
				break
			}
			other.ID = fmt.Sprintf("%s-%d", id, n)
		}
		if other.ID != id {
			renamed[id] = other.ID
		}
	}
	return renamed
}

// again writes an expression of another document anew, with renamed licences.
func (l *licences) again(text string, renamed map[string]string) string {
	if text == "" || text == noAssertion || text == "NONE" {
		return text
	}
	words := tokens(text)
	for i, word := range words {
		if id := renamed[word]; id != "" {
			words[i] = id
		}
	}
	return l.expression([]string{strings.Join(words, " ")})
}

// digest gives a digest as OCI writes it as a checksum.
func digest(text string) []Checksum {
	algorithm, value, ok := strings.Cut(text, ":")
	if !ok {
		return nil
	}
	return []Checksum{{strings.ToUpper(algorithm), value}}
}
