package sbom

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// IndexDocument is all that goes into the bill of materials of an index over images of
// several architectures.
type IndexDocument struct {
	Name       string
	Digest     string // of the index; may be empty
	Images     []IndexImage
	Repository string // URL of the git repository that describes the image; may be empty
	Commit     string
	Created    int64  // Unix seconds
	Tool       string // "tarn" when empty
}

// IndexImage is an image of an index.
type IndexImage struct {
	Arch     string // by OCI's name
	Digest   string // of the manifest
	Document []byte // its own bill of materials, as SPDX JSON
}

// external is another document that this one speaks of.
type external struct {
	ID        string   `json:"externalDocumentId"`
	Checksum  Checksum `json:"checksum"`
	Namespace string   `json:"spdxDocument"`
}

// Index writes the bill of materials of an index: each image is a variant of it, and has
// a document of its own, which is named by its digest.
func Index(d IndexDocument) ([]byte, error) {
	if d.Name == "" {
		return nil, errors.New("write SPDX document: the index has no name")
	}
	doc := newDocument("index-"+d.Name, d.Tool, d.Created)
	top := (&ImageDocument{Name: d.Name, Digest: d.Digest, Repository: d.Repository, Commit: d.Commit}).element()
	top.ID = "SPDXRef-Package-Index-" + escape(cmp.Or(d.Digest, d.Name))
	doc.describe(top)
	for _, i := range d.Images {
		e := (&ImageDocument{Name: d.Name, Digest: i.Digest, Arch: i.Arch, Repository: d.Repository, Commit: d.Commit}).element()
		if !doc.take(e) {
			return nil, fmt.Errorf("write SPDX document: image %s is there twice", i.Digest)
		}
		doc.relate(e.ID, "VARIANT_OF", top.ID)
		if len(i.Document) == 0 {
			continue
		}
		var of struct {
			Namespace string `json:"documentNamespace"`
		}
		if err := json.Unmarshal(i.Document, &of); err != nil {
			return nil, fmt.Errorf("write SPDX document: the document of %s: %v", i.Digest, err)
		}
		sum := sha1.Sum(i.Document)
		id := "DocumentRef-" + escape(i.Arch)
		doc.External = append(doc.External, external{id, Checksum{"SHA1", hex.EncodeToString(sum[:])}, of.Namespace})
		// An element of the other document is that same image.
		doc.relate(e.ID, "DESCRIBED_BY", id+":"+documentID)
	}
	return doc.encode()
}

// uuid makes the digits of a digest a UUID of version 8, whose meaning is its maker's (RFC 9562).
func uuid(sum []byte) string {
	b := append([]byte(nil), sum[:16]...)
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	text := hex.EncodeToString(b)
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}
