package apk

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tarn-build/tarn/pkg/adb"
)

// The files of an index's archive.
const (
	indexName       = "APKINDEX"
	descriptionName = "DESCRIPTION"
)

// Index is the list of a repository's packages for one architecture.
type Index struct {
	Format      Format          // of its file; zero is V2
	Compression adb.Compression // of its file in version 3
	Description string
	// Names is how the files of packages are called, with ${name}, ${version}, ${arch}
	// and ${hash} in it; "" means ${name}-${version}.apk, and version 2 knows no other.
	Names      string
	Entries    []*Entry
	Signatures []Signature
	// Time is when the index was made, in whole seconds, as the signature covers it: the
	// time of its text in the archive. Zero is not said, and version 3 cannot say it.
	Time time.Time

	signed digests // of all that stands behind the signatures
	v3     *index3
}

// ReadIndex reads an APKINDEX.tar.gz or a Packages.adb, signed or not. Nothing is trusted yet: see
// VerifyIndex. Fields that are not known are skipped; what is malformed is an error
// that names the record.
func ReadIndex(r io.Reader, l Limits) (*Index, error) {
	l = l.orDefault()
	data, err := io.ReadAll(io.LimitReader(r, l.Index+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > l.Index {
		return nil, fmt.Errorf("longer than %d bytes", l.Index)
	}
	if isV3(data) {
		return readIndex3(data, l)
	}
	signatures, rest, err := splitIndex(data, l)
	if err != nil {
		return nil, err
	}
	x := &Index{Format: V2, Signatures: signatures}
	if len(signatures) > 0 {
		if x.signed, err = digest(bytes.NewReader(rest), signatures); err != nil {
			return nil, err
		}
	}
	section, err := expand(rest, l.Index)
	if err != nil {
		return nil, err
	}
	found := false
	err = readSmallTar(section, func(name string, content []byte) (err error) {
		switch name {
		case indexName:
			found, x.Time = true, indexTime(section)
			x.Entries, err = parseIndex(string(content))
		case descriptionName:
			x.Description = strings.TrimSuffix(string(content), "\n")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("the archive has no %s", indexName)
	}
	return x, nil
}

// ReadIndexText reads the text of an index, which is the APKINDEX within its archive.
func ReadIndexText(r io.Reader, l Limits) (*Index, error) {
	l = l.orDefault()
	data, err := io.ReadAll(io.LimitReader(r, l.Index+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > l.Index {
		return nil, fmt.Errorf("longer than %d bytes", l.Index)
	}
	entries, err := parseIndex(string(data))
	return &Index{Format: V2, Entries: entries}, err
}

// VerifyIndex checks that a trusted key signed an APKINDEX.tar.gz or a Packages.adb,
// before any of the index is parsed, and gives the name of that key. What does not hold
// is a *TrustError.
func VerifyIndex(data []byte, keys KeySet) (keyName string, err error) {
	if isV3(data) {
		parts, err := splitIndex3(data, Limits{}.orDefault())
		if err != nil {
			return "", &TrustError{"signature of the index", err.Error()}
		}
		return parts.signed.verify("signature of the index", parts.signatures, keys)
	}
	signatures, rest, err := splitIndex(data, Limits{}.orDefault())
	if err != nil {
		return "", &TrustError{"signature of the index", err.Error()}
	}
	// An index is large: only what a signature is over is computed.
	var d digests
	for _, s := range signatures {
		switch s.Algorithm {
		case "RSA256":
			if d.sha256 == [32]byte{} {
				d.sha256 = sha256.Sum256(rest)
			}
		case "RSA512":
			if d.sha512 == [64]byte{} {
				d.sha512 = sha512.Sum512(rest)
			}
		case "RSA":
			if d.sha1 == [20]byte{} {
				d.sha1 = sha1.Sum(rest)
			}
		}
	}
	return verify("signature of the index", signatures, d, keys)
}

// VerifySignature checks that a trusted key signed the bytes that the index was read
// from, and gives the name of that key. What does not hold is a *TrustError.
func (x *Index) VerifySignature(keys KeySet) (keyName string, err error) {
	if x.v3 != nil {
		return x.v3.signed.verify("signature of the index", x.v3.signatures, keys)
	}
	return verify("signature of the index", x.Signatures, x.signed, keys)
}

// splitIndex reads the signatures of an index and gives what they are over.
func splitIndex(data []byte, l Limits) (signatures []Signature, rest []byte, err error) {
	rest = data
	for range maxSignatureSections {
		if begins, err := beginsWithSignature(rest, l); err != nil {
			return nil, nil, err
		} else if !begins {
			return signatures, rest, nil
		}
		section, length, err := readMember(bytes.NewReader(rest), 0, int64(len(rest)), l.Signatures)
		if err != nil {
			return nil, nil, fmt.Errorf("signature section: %v", err)
		}
		found, err := readSignatures(section, l.Signatures)
		if err != nil {
			return nil, nil, err
		}
		signatures = append(signatures, found...)
		rest = rest[length:]
	}
	return nil, nil, fmt.Errorf("more than %d signature sections", maxSignatureSections)
}

func beginsWithSignature(data []byte, l Limits) (bool, error) {
	if len(data) == 0 {
		return false, errors.New("unexpected end")
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return false, fmt.Errorf("no gzip member: %v", readable(err))
	}
	z.Multistream(false)
	return isSignatures(io.LimitReader(z, l.Signatures)), nil
}

// expand expands all gzip members of data.
func expand(data []byte, limit int64) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, readable(err)
	}
	// The last four bytes are the size if there is one member only. It is a hint, and
	// trusted no further than deflate could make it true.
	hint := int64(0)
	if len(data) > 4 {
		hint = min(int64(binary.LittleEndian.Uint32(data[len(data)-4:])), limit, int64(len(data))*1032)
	}
	var b bytes.Buffer
	b.Grow(int(hint) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(z, limit+1)); err != nil {
		return nil, readable(err)
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("it expands to more than %d bytes", limit)
	}
	return b.Bytes(), nil
}

// indexParser reads records. What many entries need is allocated for many at once;
// strings share the text.
type indexParser struct {
	entries      []Entry
	dependencies []Dependency
	licenses     []string
	line         int
}

func parseIndex(text string) ([]*Entry, error) {
	p := indexParser{}
	all := make([]*Entry, 0, strings.Count(text, "\nP:")+1)
	for text != "" {
		var e *Entry
		var err error
		if e, text, err = p.record(text, nil); err != nil {
			return nil, err
		}
		if e != nil {
			all = append(all, e)
		}
	}
	return all, nil
}

const slab = 512

// record reads to the next empty line and gives the rest. Lines that are not an
// index's are given to other, if that is not nil.
func (p *indexParser) record(text string, other func(key byte, value string) error) (*Entry, string, error) {
	if len(p.entries) == 0 {
		p.entries = make([]Entry, slab)
	}
	e := &p.entries[0]
	begin := p.line + 1
	var seen [4]uint64
	for text != "" {
		line := text
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			line, text = text[:end], text[end+1:]
		} else {
			text = ""
		}
		p.line++
		if line == "" {
			break
		}
		if len(line) < 2 || line[1] != ':' {
			return nil, "", wrong(e, p.line, fmt.Errorf("expected a letter and a colon, found %q", shorten(line)))
		}
		key, value := line[0], line[2:]
		known, err := p.field(e, key, value)
		switch {
		case err != nil:
		case known && seen[key>>6]&(1<<(key&63)) != 0 && strings.IndexByte("Dipr", key) < 0:
			err = errors.New("it stands there twice")
		case !known && other != nil:
			err = other(key, value)
		}
		if err != nil {
			return nil, "", wrong(e, p.line, fmt.Errorf("%c: %v", key, err))
		}
		seen[key>>6] |= 1 << (key & 63)
	}
	if seen == [4]uint64{} {
		return nil, text, nil
	}
	if err := checkName(e.Name); err != nil {
		return nil, "", wrong(e, begin, err)
	}
	if err := checkVersionText(e.Version); err != nil {
		return nil, "", wrong(e, begin, err)
	}
	p.entries = p.entries[1:]
	return e, text, nil
}

// wrong says in which record something is.
func wrong(e *Entry, line int, err error) error {
	if e.Name == "" {
		return fmt.Errorf("line %d: %v", line, err)
	}
	return fmt.Errorf("line %d: package %q: %v", line, shorten(e.Name), err)
}

// field takes a line that an index may have.
func (p *indexParser) field(e *Entry, key byte, value string) (known bool, err error) {
	switch key {
	case 'C':
		e.Checksum, err = parseIndexChecksum(value)
	case 'P':
		e.Name = value
	case 'V':
		e.Version = Version(value)
	case 'A':
		e.Arch = Arch(value)
	case 'S':
		e.FileSize, err = parseSize(value)
	case 'I':
		e.Size, err = parseSize(value)
	case 'T':
		e.Description = value
	case 'U':
		e.URL = value
	case 'L':
		if value != "" {
			e.Licenses = p.license(value)
		}
	case 'o':
		e.Origin = value
	case 'm':
		e.Maintainer = value
	case 't':
		e.BuildDate, err = parseNumber(value)
	case 'c':
		e.Commit = value
	case 'D':
		e.Depends = p.more(e, key, e.Depends, value)
	case 'i':
		e.InstallIf = p.more(e, key, e.InstallIf, value)
	case 'p':
		e.Provides = p.more(e, key, e.Provides, value)
	case 'r':
		e.Replaces = p.more(e, key, e.Replaces, value)
	case 'q':
		e.ReplacesPriority, err = parseNumber(value)
	case 'k':
		e.ProviderPriority, err = parseNumber(value)
	default:
		return false, nil
	}
	return true, err
}

func (p *indexParser) license(value string) []string {
	if len(p.licenses) == 0 {
		p.licenses = make([]string, slab)
	}
	p.licenses[0] = value
	one := p.licenses[:1:1]
	p.licenses = p.licenses[1:]
	return one
}

// more adds the dependencies of a line to those of the lines before it. As with apk,
// what is malformed makes the one package uninstallable and not the whole index useless.
func (p *indexParser) more(e *Entry, key byte, before []Dependency, value string) []Dependency {
	list, err := p.list(value)
	if err != nil && e.Malformed == "" {
		e.Malformed = fmt.Sprintf("line %d: %c: %v", p.line, key, err)
	}
	if len(before) > 0 {
		return append(before, list...)
	}
	return list
}

// list reads dependencies into the slab.
func (p *indexParser) list(value string) ([]Dependency, error) {
	if value == "" {
		return nil, nil
	}
	most := 1 + strings.Count(value, " ")
	if cap(p.dependencies)-len(p.dependencies) < most {
		p.dependencies = make([]Dependency, 0, max(most, 8*slab))
	}
	from := len(p.dependencies)
	all, err := appendDependencies(p.dependencies, value)
	p.dependencies = all
	if len(all) == from {
		return nil, err
	}
	return all[from:len(all):len(all)], err
}

// parseIndexChecksum is ParseChecksum without allocation.
func parseIndexChecksum(s string) (c Checksum, err error) {
	const length = 28 // of 20 bytes in base64
	if len(s) == 2+length && s[0] == 'Q' && s[1] == '1' {
		var text [length]byte
		var raw [length / 4 * 3]byte
		copy(text[:], s[2:])
		if n, err := base64.StdEncoding.Decode(raw[:], text[:]); err == nil && n == len(c) {
			copy(c[:], raw[:])
			return c, nil
		}
	}
	return ParseChecksum(s)
}

// WriteIndex writes an APKINDEX.tar.gz, or a Packages.adb if that is the index's format,
// with a signature of each key. Entries are sorted by name and version; equal content
// gives equal bytes. Version 2 lists packages of version 2 only, version 3 both.
func WriteIndex(w io.Writer, x *Index, keys ...Signer) error {
	entries := slices.Clone(x.Entries)
	slices.SortFunc(entries, func(a, b *Entry) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Version.Compare(b.Version), cmp.Compare(a.Version, b.Version))
	})
	if strings.ContainsRune(x.Description, 0) {
		return errors.New("write index: a zero byte in the description")
	}
	for i, e := range entries {
		if i > 0 && e.Name == entries[i-1].Name && e.Version == entries[i-1].Version {
			return fmt.Errorf("write index: %s stands in it twice", e.FullName())
		}
		if err := e.checkText(); err != nil {
			return fmt.Errorf("write index: %s: %v", e.FullName(), err)
		}
	}
	if x.Format.OrV2() == V3 {
		if err := writeIndex3(w, x, entries, keys); err != nil {
			return fmt.Errorf("write index: %w", err)
		}
		return nil
	}
	var text []byte
	for _, e := range entries {
		if e.SHA256 != (SHA256{}) {
			return fmt.Errorf("write index: %w", &FormatError{e.FullName()})
		}
		text = append(appendEntry(text, e), '\n')
	}
	description := x.Description
	if description != "" {
		description += "\n"
	}
	section, err := smallSection([]section{{indexName, 0o644, text}, {descriptionName, 0o644, []byte(description)}}, x.Time, true)
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	if len(keys) > 0 {
		d, err := digest(bytes.NewReader(section), nil)
		if err != nil {
			return err
		}
		signatures, err := signatureSection(keys, d.sha256, time.Time{})
		if err != nil {
			return fmt.Errorf("sign index: %w", err)
		}
		if _, err := w.Write(signatures); err != nil {
			return err
		}
	}
	_, err = w.Write(section)
	return err
}

// FormatError says that an index cannot list a package, as it is of a later version of
// the format.
type FormatError struct{ Package string }

func (e *FormatError) Error() string {
	return e.Package + " is a package of version 3, which an index of version 2 cannot list"
}

// appendEntry appends the lines of a record, without the empty one that ends it.
func appendEntry(dst []byte, e *Entry) []byte {
	line := func(key byte, value string) {
		dst = append(append(append(dst, key, ':'), value...), '\n')
	}
	optional := func(key byte, value string) {
		if value != "" {
			line(key, value)
		}
	}
	number := func(key byte, value int64) {
		if value != 0 {
			line(key, strconv.FormatInt(value, 10))
		}
	}
	line('C', e.Checksum.String())
	line('P', e.Name)
	line('V', string(e.Version))
	optional('A', string(e.Arch))
	number('S', e.FileSize)
	number('I', e.Size)
	line('T', e.Description)
	optional('U', e.URL)
	optional('L', e.License())
	optional('o', e.Origin)
	optional('m', e.Maintainer)
	number('t', e.BuildDate)
	optional('c', e.Commit)
	optional('D', joinDependencies(e.Depends))
	optional('i', joinDependencies(e.InstallIf))
	optional('p', joinDependencies(e.Provides))
	number('k', e.ProviderPriority)
	return dst
}

// checkText is that of Info; an entry without a checksum would name no package.
func (e *Entry) checkText() error {
	if e.Checksum == (Checksum{}) {
		return errors.New("it has no checksum")
	}
	if e.Malformed != "" {
		return errors.New(e.Malformed)
	}
	return e.Info.checkText()
}

// Identity names a package by all that an index says of its bytes.
func (e *Entry) Identity() string {
	if e.SHA256 != (SHA256{}) {
		return "sha256:" + e.SHA256.String()
	}
	return e.Checksum.String()
}

// PackageFile is the path of an entry's package file, from the folder of the index. It
// leads nowhere else.
func (x *Index) PackageFile(e *Entry) (string, error) {
	if x.Names == "" {
		return e.FileName(), nil
	}
	hash := hex.EncodeToString(e.Checksum[:])
	if e.SHA256 != (SHA256{}) {
		hash = e.SHA256.String()
	}
	values := map[string]string{"name": e.Name, "version": string(e.Version), "arch": string(e.Arch), "hash": hash}
	var name strings.Builder
	for rest := x.Names; rest != ""; {
		before, behind, found := strings.Cut(rest, "${")
		name.WriteString(before)
		if !found {
			break
		}
		key, after, closed := strings.Cut(behind, "}")
		key, length, cut := strings.Cut(key, ":")
		value, known := values[key]
		if !closed || !known {
			return "", fmt.Errorf("the index calls its packages %q, which is malformed", shorten(x.Names))
		}
		if cut {
			n, err := strconv.Atoi(length)
			if err != nil || n < 0 {
				return "", fmt.Errorf("the index calls its packages %q, which is malformed", shorten(x.Names))
			}
			value = value[:min(n, len(value))]
		}
		name.WriteString(value)
		rest = after
	}
	if err := checkPath(name.String(), 4085); err != nil {
		return "", fmt.Errorf("the index calls the package %s %q: %v", e.FullName(), shorten(name.String()), err)
	}
	return name.String(), nil
}

// EntryOf is a package as an index lists it; fileSize is that of the package file.
func EntryOf(p *Package, fileSize int64) *Entry {
	return &Entry{Info: p.Info, Checksum: p.Checksum, SHA256: p.SHA256, FileSize: fileSize}
}
