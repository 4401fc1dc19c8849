package sbom

import (
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// File is a path of an image that is no folder.
type File struct {
	Path string // below the root, without a slash in front
	Kind string // "file", "symbolic link", "device", ...
	// SHA1 is that of the content, of a link of its target; that of nothing where there is
	// neither. SHA256 is there for regular files.
	SHA1, SHA256 string
	Target       string // of a link
}

// file is what SPDX calls a file.
type file struct {
	Name      string     `json:"fileName"`
	ID        string     `json:"SPDXID"`
	Types     []string   `json:"fileTypes,omitempty"`
	Checksums []Checksum `json:"checksums"`
	Concluded string     `json:"licenseConcluded"`
	Copyright string     `json:"copyrightText"`
	Comment   string     `json:"comment,omitempty"`
}

// verification is the digest of all files of a package (SPDX 2.3, 7.9).
type verification struct {
	Value string `json:"packageVerificationCodeValue"`
}

// own puts the files of a package into the document. Their identifiers are numbers: a
// path that SPDX takes for one would be twice as long.
func (d *document) own(e *element, files []File) {
	if len(files) == 0 {
		return
	}
	sums := make([]string, 0, len(files))
	for _, f := range files {
		of := file{
			Name: "./" + f.Path, ID: "SPDXRef-File-" + strconv.Itoa(len(d.Files)+1), Concluded: noAssertion, Copyright: noAssertion,
			Checksums: []Checksum{{"SHA1", f.SHA1}},
		}
		for d.find(of.ID) != nil { // of a document that a package brought
			of.ID += "-own"
		}
		if f.SHA256 != "" {
			of.Checksums = append(of.Checksums, Checksum{"SHA256", f.SHA256})
		}
		if f.Kind != "file" {
			of.Types, of.Comment = []string{"OTHER"}, f.Kind
			if f.Target != "" {
				of.Comment += " to " + f.Target
			}
		}
		d.Files = append(d.Files, of)
		d.relate(e.ID, "CONTAINS", of.ID)
		sums = append(sums, f.SHA1)
	}
	slices.Sort(sums)
	code := sha1.Sum([]byte(strings.Join(sums, "")))
	e.FilesAnalyzed, e.Verification = true, &verification{hex.EncodeToString(code[:])}
}
