package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
)

// File is a path of an image that is no folder.
type File struct {
	Path string // below the root, without a slash in front
	Kind string // "file", "symbolic link", "device", ...
	// SHA1 is that of the content, of a link of its target; that of nothing where there is
	// neither.
	SHA1   [sha1.Size]byte
	SHA256 string // of regular files, in lower-case hexadecimal; else empty
	Target string // of a link
}

// An image has some ten thousand files, and both documents a line or two for each: they
// are written by hand, because a struct, a walk by reflection and a map's entry for each
// took most of the time of composing an image again. TestFiles holds that the bytes are
// those that encoding/json and CycloneDX's library write.

// owned are the files of a package in a document.
type owned struct {
	owner string // the element's identifier
	files []File
}

// verification is the digest of all files of a package (SPDX 2.3, 7.9).
type verification struct {
	Value string `json:"packageVerificationCodeValue"`
}

// own puts the files of a package into the document.
func (d *document) own(e *element, files []File) {
	if len(files) == 0 {
		return
	}
	d.owned = append(d.owned, owned{e.ID, files})
	sums := make([][sha1.Size]byte, len(files))
	for i := range files {
		sums[i] = files[i].SHA1
	}
	slices.SortFunc(sums, func(a, b [sha1.Size]byte) int {
		x, y := binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(b[:]) // mostly different
		if x != y {
			return cmp.Compare(x, y)
		}
		return bytes.Compare(a[:], b[:])
	})
	digits := make([]byte, 0, 2*sha1.Size*len(sums))
	for i := range sums {
		digits = hex.AppendEncode(digits, sums[i][:])
	}
	code := sha1.Sum(digits)
	e.FilesAnalyzed, e.Verification = true, &verification{hex.EncodeToString(code[:])}
}

// appendFileID appends the identifier of the document's n-th file, counted from 1. It is
// a number: a path that SPDX takes for one would be twice as long.
func (d *document) appendFileID(b []byte, n int) []byte {
	from := len(b)
	b = append(b, "SPDXRef-File-"...)
	b = strconv.AppendInt(b, int64(n), 10)
	for d.byID[string(b[from:])] != nil { // of a document that a package brought
		b = append(b, "-own"...)
	}
	return b
}

// filesSize is about how much room appendFiles and appendRelationships need.
func (d *document) filesSize() int {
	const entry, contains = 330, 110 // all of a file's entries but its paths and its owner's identifier
	size := 150 * len(d.Relationships)
	for _, o := range d.owned {
		for i := range o.files {
			size += entry + contains + len(o.owner) + len(o.files[i].Path) + len(o.files[i].Target)
		}
	}
	return size
}

// appendFiles appends what SPDX tells of files, each on a line of its own.
func (d *document) appendFiles(b []byte) []byte {
	n := 0
	for _, o := range d.owned {
		for i := range o.files {
			f := &o.files[i]
			if n++; n > 1 {
				b = append(b, ",\n"...)
			}
			b = append(b, `    {"fileName":"./`...)
			b = appendText(b, f.Path)
			b = append(b, `","SPDXID":"`...)
			b = d.appendFileID(b, n)
			if f.Kind != "file" {
				b = append(b, `","fileTypes":["OTHER"],"checksums":[{"algorithm":"SHA1","checksumValue":"`...)
			} else {
				b = append(b, `","checksums":[{"algorithm":"SHA1","checksumValue":"`...)
			}
			b = hex.AppendEncode(b, f.SHA1[:])
			if f.SHA256 != "" {
				b = append(b, `"},{"algorithm":"SHA256","checksumValue":"`...)
				b = appendText(b, f.SHA256)
			}
			b = append(b, `"}],"licenseConcluded":"NOASSERTION","copyrightText":"NOASSERTION"`...)
			if f.Kind != "file" && (f.Kind != "" || f.Target != "") {
				b = append(b, `,"comment":"`...)
				b = f.appendKind(b)
				b = append(b, '"')
			}
			b = append(b, '}')
		}
	}
	return b
}

// appendRelationships appends all relationships, each on a line of its own, those of the
// files last. There are no two of a file: none has the identifier of another.
func (d *document) appendRelationships(b []byte) []byte {
	for i, r := range d.Relationships {
		if i > 0 {
			b = append(b, ",\n"...)
		}
		b = append(b, `    {"spdxElementId":"`...)
		b = appendText(b, r.From)
		b = append(b, `","relationshipType":"`...)
		b = appendText(b, r.Type)
		b = append(b, `","relatedSpdxElement":"`...)
		b = appendText(b, r.To)
		b = append(b, `"}`...)
	}
	n := 0
	for _, o := range d.owned {
		for range o.files {
			if n++; n > 1 || len(d.Relationships) > 0 {
				b = append(b, ",\n"...)
			}
			b = append(b, `    {"spdxElementId":"`...)
			b = appendText(b, o.owner)
			b = append(b, `","relationshipType":"CONTAINS","relatedSpdxElement":"`...)
			b = d.appendFileID(b, n)
			b = append(b, `"}`...)
		}
	}
	return b
}

// componentsSize is about how much room appendComponents needs.
func componentsSize(files []File) int {
	const entry = 240 // all of a file's component but its paths
	size := 2
	for i := range files {
		size += entry + len(files[i].Path) + len(files[i].Target)
	}
	return size
}

// appendComponents appends files as a list of CycloneDX's components.
func appendComponents(b []byte, files []File) []byte {
	b = append(b, '[')
	for i := range files {
		f := &files[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"type":"file","name":"/`...)
		b = appendText(b, f.Path)
		b = append(b, `","hashes":[{"alg":"SHA-1","content":"`...)
		b = hex.AppendEncode(b, f.SHA1[:])
		if (Checksum{"SHA256", f.SHA256}).valid() {
			b = append(b, `"},{"alg":"SHA-256","content":"`...)
			b = append(b, f.SHA256...)
		}
		b = append(b, `"}]`...)
		if f.Kind != "file" {
			b = append(b, `,"properties":[{"name":"tarn:kind","value":"`...)
			b = f.appendKind(b)
			b = append(b, `"}]`...)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendKind appends what a path is, and of a link where it leads.
func (f *File) appendKind(b []byte) []byte {
	b = appendText(b, f.Kind)
	if f.Target != "" {
		b = append(b, " to "...)
		b = appendText(b, f.Target)
	}
	return b
}

// appendText appends text as it stands in a JSON string, without the quotes around it:
// as encoding/json writes it that leaves HTML alone.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if !plain[text[i]] {
			return append(b, escaped(text)...)
		}
	}
	return append(b, text...)
}

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (plain [256]bool) {
	for c := ' '; c <= '~'; c++ {
		plain[c] = c != '"' && c != '\\'
	}
	return plain
}()

// escaped is text in a JSON string whatever is in it, without the quotes around it.
func escaped(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic("internal error: text that JSON has no string for: " + err.Error())
	}
	return b.Bytes()[1 : b.Len()-2] // without the quotes and the line's end
}
