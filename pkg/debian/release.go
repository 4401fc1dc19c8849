package debian

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"
)

// File is a file as a signed or checked text names it.
type File struct {
	Path   string // relative, clean, with slashes, e.g. main/source/Sources.gz
	Size   int64  // in bytes
	SHA256 string // 64 lower-case hexadecimal digits
}

// Check says whether data are the bytes of the file.
func (f File) Check(data []byte) error {
	if int64(len(data)) != f.Size {
		return fmt.Errorf("%s: size does not match: expected %d bytes, found %d", f.Path, f.Size, len(data))
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(sum[:]); got != f.SHA256 {
		return fmt.Errorf("%s: digest does not match: expected sha256 %s, found %s", f.Path, f.SHA256, got)
	}
	return nil
}

// Release describes a suite: what it is, and the digests of its indexes.
type Release struct {
	Origin        string // e.g. Debian
	Label         string // e.g. Debian, or Debian-Security
	Suite         string // e.g. stable
	Codename      string // e.g. trixie
	Date          time.Time
	ValidUntil    time.Time // zero: for ever
	Architectures []string
	Components    []string
	AcquireByHash bool // indexes are also to be had by their digest
	Files         map[string]File
}

// Is reports whether the release is the suite of that name: its suite or its codename.
func (r *Release) Is(suite string) bool {
	return suite != "" && (r.Suite == suite || r.Codename == suite)
}

// ParseRelease reads the text of a Release file. Only files with a SHA-256 are listed.
func ParseRelease(text []byte) (*Release, error) {
	c := NewControlReader(bytes.NewReader(text))
	p, err := c.Next()
	if err == io.EOF {
		return nil, fmt.Errorf("read Release: it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read Release: %v", err)
	}
	if _, err := c.Next(); err != io.EOF {
		return nil, fmt.Errorf("read Release: more than one paragraph")
	}
	r := &Release{
		Origin: p.Get("Origin"), Label: p.Get("Label"), Suite: p.Get("Suite"), Codename: p.Get("Codename"),
		Architectures: words(p.Get("Architectures")), Components: words(p.Get("Components")),
		AcquireByHash: p.Get("Acquire-By-Hash") == "yes", Files: map[string]File{},
	}
	if r.Date, err = parseDate(p.Get("Date")); err != nil {
		return nil, fmt.Errorf("read Release: Date: %v", err)
	}
	if until := p.Get("Valid-Until"); until != "" {
		if r.ValidUntil, err = parseDate(until); err != nil {
			return nil, fmt.Errorf("read Release: Valid-Until: %v", err)
		}
	}
	list, found := p.Lookup("SHA256")
	if !found {
		return nil, fmt.Errorf("read Release: no SHA256 field")
	}
	files, err := parseFiles(list)
	if err != nil {
		return nil, fmt.Errorf("read Release: SHA256: %v", err)
	}
	for _, f := range files {
		r.Files[f.Path] = f
	}
	return r, nil
}

// parseDate reads a date of RFC 2822 as Release files write it, in UTC.
func parseDate(s string) (time.Time, error) {
	for _, layout := range []string{"Mon, 2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 -0700"} {
		t, err := time.Parse(layout, s)
		// Another zone's abbreviation would be read with an offset of 0.
		if zone, offset := t.Zone(); err == nil && (offset != 0 || zone == "UTC" || zone == "GMT" || zone == "Z" || zone == "") {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date in UTC", s)
}

// parseFiles reads lines of digest, size and path.
func parseFiles(list string) ([]File, error) {
	files := make([]File, 0, strings.Count(list, "\n")+1)
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		part := words(line)
		if len(part) != 3 {
			return nil, fmt.Errorf("%q is not digest, size and path", line)
		}
		size, err := parseSize(part[1])
		if err != nil {
			return nil, err
		}
		f := File{Path: part[2], Size: size, SHA256: part[0]}
		if err := f.valid(); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no size", s)
	}
	return n, nil
}

// valid refuses what could not stand in an address or a store: the path is joined
// to an address, and the digest names a blob.
func (f File) valid() error {
	if !isSHA256(f.SHA256) {
		return fmt.Errorf("%q is no SHA-256", f.SHA256)
	}
	if !ValidPath(f.Path) {
		return fmt.Errorf("%q is no path below the archive", f.Path)
	}
	return nil
}

// ValidPath reports whether p is a relative, clean path that stays below its start
// and has neither blanks nor control characters.
func ValidPath(p string) bool {
	if p == "" || p == "." || path.IsAbs(p) || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") {
		return false
	}
	return strings.IndexFunc(p, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) < 0
}

func isSHA256(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
