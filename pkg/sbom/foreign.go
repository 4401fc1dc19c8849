package sbom

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/package-url/packageurl-go"
)

// Embedded is the bill of materials that lies in a package, read once for all who ask what
// it says. It does not change.
type Embedded struct {
	document document   // its elements as SPDX 2.3 wants them
	sources  []*element // those that a package may have been built from
	err      error      // why it cannot be read
}

// ReadEmbedded reads a document, SPDX JSON; an empty one is nil. That it cannot be read is
// told in the document of the image that the package is in.
func ReadEmbedded(text []byte) *Embedded {
	if len(text) == 0 {
		return nil
	}
	d := &Embedded{}
	if d.err = json.Unmarshal(text, &d.document); d.err != nil {
		return d
	}
	elements := d.document.Packages
	d.document.Packages = nil
	for _, e := range elements {
		if e == nil || e.Name == "" {
			continue
		}
		if e.Purpose == "" || e.Purpose == "SOURCE" {
			d.sources = append(d.sources, e)
		}
		e.clean()
		if e.ID != "" && e.ID != documentID {
			d.document.take(e)
		}
	}
	return d
}

// IsJSON tells whether the document is JSON, whatever else it is.
func (d *Embedded) IsJSON() bool {
	if d == nil {
		return false
	}
	var syntax *json.SyntaxError
	return !errors.As(d.err, &syntax)
}

// clean leaves out of an element of another document what SPDX 2.3 has no place for: the
// mistake of one package must not make the document of an image unreadable.
func (e *element) clean() {
	e.Supplier, e.Originator = actor(e.Supplier), actor(e.Originator)
	if !isDownload(e.Download) {
		e.Download = noAssertion
	}
	e.Homepage = homepage(e.Homepage)
	e.FilesAnalyzed, e.Verification = false, nil // its files stay behind
	e.Checksums = slices.DeleteFunc(e.Checksums, func(c Checksum) bool { return !c.valid() })
	e.References = slices.DeleteFunc(e.References, func(r reference) bool { return !r.valid() })
	if !slices.Contains(purposes, e.Purpose) {
		e.Purpose = ""
	}
}

// purposes are what a package can be for (SPDX 2.3, 7.24).
var purposes = []string{"APPLICATION", "FRAMEWORK", "LIBRARY", "CONTAINER", "OPERATING-SYSTEM", "DEVICE", "FIRMWARE", "SOURCE", "ARCHIVE", "FILE", "INSTALL", "OTHER"}

// actor gives who made something as SPDX writes it, or "" (7.5, 7.6).
func actor(text string) string {
	kind, name, found := strings.Cut(text, ": ")
	if text == noAssertion || found && (kind == "Person" || kind == "Organization") && strings.TrimSpace(name) != "" {
		return text
	}
	return ""
}

// isDownload tells whether a text is a download location (7.7).
func isDownload(text string) bool {
	if text == noAssertion || text == "NONE" {
		return true
	}
	u, err := url.Parse(text)
	return err == nil && u.Scheme != "" && !spaced(text)
}

// spaced tells whether a text has characters that no address has.
func spaced(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar })
}

// digits are the lengths of checksums in hexadecimal; 0 for any. The algorithms are those
// of SPDX 2.3, 7.10.
var digits = map[string]int{
	"MD5": 32, "SHA1": 40, "SHA224": 56, "SHA256": 64, "SHA384": 96, "SHA512": 128,
	"SHA3-256": 64, "SHA3-384": 96, "SHA3-512": 128, "BLAKE2b-256": 64, "BLAKE2b-384": 96, "BLAKE2b-512": 128,
	"MD2": 32, "MD4": 32, "MD6": 0, "BLAKE3": 0, "ADLER32": 8,
}

func (c Checksum) valid() bool {
	length, known := digits[c.Algorithm]
	return known && c.Value != "" && (length == 0 || length == len(c.Value)) && isHex(c.Value)
}

func isHex(text string) bool {
	for i := range len(text) {
		if !hexDigits[text[i]] {
			return false
		}
	}
	return true
}

// hexDigits is a table, because a processor cannot foresee whether a digit is a letter.
var hexDigits = func() (digits [256]bool) {
	for _, c := range "0123456789abcdefABCDEF" {
		digits[c] = true
	}
	return digits
}()

func (r reference) valid() bool {
	if r.Type == "purl" {
		if _, err := packageurl.FromString(r.Locator); err != nil {
			return false
		}
	}
	switch r.Category {
	case "SECURITY", "PACKAGE-MANAGER", "PACKAGE_MANAGER", "PERSISTENT-ID", "PERSISTENT_ID", "OTHER":
		return r.Type != "" && r.Locator != "" && !spaced(r.Type) && !spaced(r.Locator)
	}
	return false
}

// valid tells whether a licence's text can stand under its identifier (10.1, 10.2).
func (e extracted) valid() bool {
	id, found := strings.CutPrefix(e.ID, "LicenseRef-")
	return found && isIdentifier(id) && e.Text != ""
}

// relationships are the types that there are (SPDX 2.3, 11.1).
var relationships = strings.Fields(`AMENDS ANCESTOR_OF BUILD_DEPENDENCY_OF BUILD_TOOL_OF CONTAINED_BY CONTAINS COPY_OF
DATA_FILE_OF DEPENDENCY_MANIFEST_OF DEPENDENCY_OF DEPENDS_ON DESCENDANT_OF DESCRIBED_BY DESCRIBES DEV_DEPENDENCY_OF
DEV_TOOL_OF DISTRIBUTION_ARTIFACT DOCUMENTATION_OF DYNAMIC_LINK EXAMPLE_OF EXPANDED_FROM_ARCHIVE FILE_ADDED FILE_DELETED
FILE_MODIFIED GENERATED_FROM GENERATES HAS_PREREQUISITE METAFILE_OF OPTIONAL_COMPONENT_OF OPTIONAL_DEPENDENCY_OF OTHER
PACKAGE_OF PATCH_APPLIED PATCH_FOR PREREQUISITE_FOR PROVIDED_DEPENDENCY_OF REQUIREMENT_DESCRIPTION_FOR
RUNTIME_DEPENDENCY_OF SPECIFICATION_FOR STATIC_LINK TEST_CASE_OF TEST_DEPENDENCY_OF TEST_OF TEST_TOOL_OF VARIANT_OF`)
