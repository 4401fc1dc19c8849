// Package sbom writes bills of materials: one for a package, which lies inside it, as
// SPDX 2.3 JSON, and those of an image, which merges those of its packages, and of an
// index of images, as SPDX and as CycloneDX 1.7 JSON.
// It knows the format and purls; it knows nothing of recipes, repositories or
// image files, and reads nothing but what it is given: the same input gives the
// same bytes.
//
// The format is the SPDX specification 2.3, https://spdx.github.io/spdx-spec/v2.3/;
// purls are https://github.com/package-url/purl-spec.
package sbom

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// document is an SPDX document, its fields in the order in which they are written.
type document struct {
	ID            string         `json:"SPDXID"`
	Version       string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Describes     []string       `json:"documentDescribes,omitempty"`
	External      []external     `json:"externalDocumentRefs,omitempty"`
	Packages      []*element     `json:"packages"`
	Relationships []relationship `json:"relationships"`
	Extracted     []extracted    `json:"hasExtractedLicensingInfos,omitempty"`

	byID    map[string]*element
	related map[relationship]bool
	owned   []owned // stands between packages and relationships
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

// element is what SPDX calls a package: anything that has a name and comes from somewhere.
type element struct {
	ID            string        `json:"SPDXID"`
	Name          string        `json:"name"`
	Version       string        `json:"versionInfo,omitempty"`
	FileName      string        `json:"packageFileName,omitempty"`
	Supplier      string        `json:"supplier,omitempty"`
	Originator    string        `json:"originator,omitempty"`
	Download      string        `json:"downloadLocation"`
	FilesAnalyzed bool          `json:"filesAnalyzed"`
	Verification  *verification `json:"packageVerificationCode,omitempty"`
	Checksums     []Checksum    `json:"checksums,omitempty"`
	Homepage      string        `json:"homepage,omitempty"`
	SourceInfo    string        `json:"sourceInfo,omitempty"`
	Concluded     string        `json:"licenseConcluded,omitempty"`
	Declared      string        `json:"licenseDeclared,omitempty"`
	Copyright     string        `json:"copyrightText,omitempty"`
	Summary       string        `json:"summary,omitempty"`
	Description   string        `json:"description,omitempty"`
	Comment       string        `json:"comment,omitempty"`
	Purpose       string        `json:"primaryPackagePurpose,omitempty"`
	References    []reference   `json:"externalRefs,omitempty"`
}

// Checksum is a digest by SPDX's name of its algorithm.
type Checksum struct {
	Algorithm string `json:"algorithm"`     // SHA1, SHA256, SHA512, ...
	Value     string `json:"checksumValue"` // lower-case hexadecimal
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

// extracted is the text of a licence that SPDX does not list.
type extracted struct {
	ID   string `json:"licenseId"`
	Name string `json:"name,omitempty"`
	Text string `json:"extractedText"`
}

const (
	documentID  = "SPDXRef-DOCUMENT"
	noAssertion = "NOASSERTION"
)

func newDocument(name, tool string, created int64) *document {
	if tool == "" {
		tool = "tarn"
	}
	return &document{
		ID:          documentID,
		Version:     "SPDX-2.3",
		DataLicense: "CC0-1.0",
		Name:        name,
		Creation: creation{
			Created:  time.Unix(created, 0).UTC().Format(time.RFC3339),
			Creators: []string{"Tool: " + tool},
		},
	}
}

// describe adds an element that the document is about.
func (d *document) describe(e *element) {
	d.Describes = append(d.Describes, e.ID)
	d.take(e)
	d.relate(documentID, "DESCRIBES", e.ID)
}

// relate adds a relationship unless it is there already.
func (d *document) relate(from, how, to string) {
	r := relationship{from, how, to}
	if d.related == nil {
		d.related = map[relationship]bool{}
	}
	if !d.related[r] {
		d.related[r] = true
		d.Relationships = append(d.Relationships, r)
	}
}

// take adds an element unless its identifier is taken.
func (d *document) take(e *element) bool {
	if d.find(e.ID) != nil {
		return false
	}
	if d.byID == nil {
		d.byID = map[string]*element{}
	}
	d.byID[e.ID] = e
	d.Packages = append(d.Packages, e)
	return true
}

func (d *document) find(id string) *element { return d.byID[id] }

// encode writes the document. Its namespace is made of all the rest of it, so
// that two documents have one only when they say the same.
//
// It has indents for people to look at, but of an image with files, whose lists are long,
// each entry on a line of its own. Such a document is long: it is written once, in one
// piece, and the namespace, whose length is known, is put in afterwards.
func (d *document) encode() ([]byte, error) {
	d.Namespace = ""
	bare, err := d.encodeBare()
	if err != nil {
		return nil, fmt.Errorf("write SPDX document %s: %v", d.Name, err)
	}
	const key = "\n  \"documentNamespace\": \""
	before, after, found := bytes.Cut(bare, []byte(key))
	if !found {
		panic("internal error: no place for the namespace of an SPDX document")
	}
	var sum [sha256.Size]byte
	prefix := "https://spdx.org/spdxdocs/" + escape(d.Name) + "-" // nothing that JSON escapes
	digits := 2 * len(sum[:16])
	size := len(bare) + len(prefix) + digits
	if len(d.owned) > 0 {
		size += d.filesSize()
	}
	out := make([]byte, 0, size)
	out = append(out, before...)
	out = append(out, key...)
	start := len(out)
	out = append(out, prefix...)
	place := len(out)
	out = append(out, make([]byte, digits)...)
	end := len(out)
	if len(d.owned) > 0 {
		const empty = "\n  \"relationships\": null"
		if before, after, found = bytes.Cut(after, []byte(empty)); !found {
			panic("internal error: no place for relationships in an SPDX document")
		}
		out = append(out, before...)
		out = append(out, "\n  \"files\": [\n"...)
		out = d.appendFiles(out)
		out = append(out, "\n  ],\n  \"relationships\": [\n"...)
		out = d.appendRelationships(out)
		out = append(out, "\n  ]"...)
	}
	out = append(out, after...)
	h := sha256.New()
	h.Write(out[:start])
	h.Write(out[end:])
	h.Sum(sum[:0])
	hex.Encode(out[place:end], sum[:16])
	return out, nil
}

// encodeBare writes the document without its files; where it has some without its
// relationships too.
func (d *document) encodeBare() ([]byte, error) {
	if relationships := d.Relationships; len(d.owned) > 0 {
		d.Relationships = nil
		defer func() { d.Relationships = relationships }()
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(d); err != nil {
		return nil, err
	}
	return appendIndented(make([]byte, 0, 2*b.Len()), b.Bytes()), nil
}

// appendIndented appends JSON that has no space between its tokens as json.Indent does
// with two spaces; but that checks each byte, even of what encoding/json wrote itself.
func appendIndented(b, compact []byte) []byte {
	depth, opened := 0, false // opened: the list or object has nothing in it yet
	line := func() {
		b = append(b, '\n')
		for range depth {
			b = append(b, "  "...)
		}
	}
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		if c == '}' || c == ']' {
			depth--
			if !opened {
				line()
			}
			opened = false
			b = append(b, c)
			continue
		}
		if opened {
			line()
			opened = false
		}
		switch c {
		case '{', '[':
			depth++
			opened = true
			b = append(b, c)
		case ',':
			b = append(b, c)
			line()
		case ':':
			b = append(b, ": "...)
		case '"':
			start := i
			for i++; compact[i] != '"'; i++ {
				if compact[i] == '\\' {
					i++
				}
			}
			b = append(b, compact[start:i+1]...)
		default:
			b = append(b, c)
		}
	}
	return b
}

// escape makes text fit an SPDX identifier: letters, digits, "." and "-".
// Different texts stay different, except that ":" and "/" become "-".
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == ':' || r == '/':
			b.WriteByte('-')
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '-':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "C%d", r)
		}
	}
	return b.String()
}
