package images

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/tarn-build/tarn/pkg/apk"
)

// scanVersion changes when the same package gives another scan than before.
const scanVersion = 5

// scan is what the store remembers of a package. An image has hundreds of packages with
// thousands of entries, which are all recalled when it is composed again: as JSON that
// took a quarter of the time. So entries have a form of their own (see MarshalBinary).
type scan struct {
	Info     apk.Info
	Checksum apk.Checksum
	FileSize int64 // without signatures
	Scripts  []Script
	Marks    map[string]string
	// NamesOnly says that the package, of version 3, tells owners by name and not by number.
	NamesOnly bool        `json:",omitempty"`
	Entries   []scanEntry `json:"-"`
}

// scanEntry is a rootfs.Entry as it is kept.
type scanEntry struct {
	Path         string
	Type         byte // as rootfs.TypeLetter gives it
	Mode         uint32
	UID, GID     int
	User, Group  string // other than root
	Time, Size   int64
	Target       string
	Hardlink     string
	Major, Minor int64
	Xattrs       map[string][]byte
	Sum          string       // SHA-256 of the content, in hexadecimal
	SHA1         apk.Checksum // of the content or of the target, as apk has it
	Library      *library
}

// keeps reports whether the scan is the same after it was kept. JSON has no bytes that are
// not UTF-8, as of a maintainer's name in Latin-1: with another text in their place the
// image would be another when it is composed again, so such a package is read each time.
func (s *scan) keeps() bool {
	head, err := json.Marshal(s)
	return err == nil && !bytes.Contains(head, []byte(`\ufffd`)) // as encoding/json writes those bytes, but no real U+FFFD
}

// AppendBinary writes the length of all but the entries as JSON, that JSON, the number of
// entries, and these: every number as a varint, every text after its length, the SHA-1
// as it is.
func (s *scan) AppendBinary(b []byte) ([]byte, error) {
	head, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	b = appendText(b, string(head))
	b = binary.AppendUvarint(b, uint64(len(s.Entries)))
	for i := range s.Entries {
		e := &s.Entries[i]
		b = append(b, e.Type)
		for _, text := range []string{e.Path, e.User, e.Group, e.Target, e.Hardlink, e.Sum} {
			b = appendText(b, text)
		}
		for _, n := range []int64{int64(e.Mode), int64(e.UID), int64(e.GID), e.Time, e.Size, e.Major, e.Minor} {
			b = binary.AppendVarint(b, n)
		}
		b = append(b, e.SHA1[:]...)
		b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
		for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
			b = appendText(appendText(b, name), string(e.Xattrs[name]))
		}
		if e.Library == nil {
			b = append(b, 0)
			continue
		}
		b = append(b, 1, byte(e.Library.Class), byte(e.Library.Data))
		b = appendText(binary.AppendUvarint(b, uint64(e.Library.Machine)), e.Library.Soname)
	}
	return b, nil
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// UnmarshalBinary reads what AppendBinary wrote.
func (s *scan) UnmarshalBinary(data []byte) error {
	r := &scanReader{rest: string(data)} // which all texts are parts of
	if err := json.Unmarshal([]byte(r.text()), s); err != nil {
		return err
	}
	n := r.count(leastEntry)
	s.Entries = make([]scanEntry, n)
	for i := range s.Entries {
		e := &s.Entries[i]
		e.Type = r.byte()
		for _, text := range []*string{&e.Path, &e.User, &e.Group, &e.Target, &e.Hardlink, &e.Sum} {
			*text = r.text()
		}
		e.Mode, e.UID, e.GID = uint32(r.number()), int(r.number()), int(r.number())
		e.Time, e.Size, e.Major, e.Minor = r.number(), r.number(), r.number(), r.number()
		copy(e.SHA1[:], r.take(uint64(len(e.SHA1))))
		if n := r.count(2); n > 0 {
			e.Xattrs = make(map[string][]byte, n)
			for range n {
				name := r.text()
				e.Xattrs[name] = []byte(r.text())
			}
		}
		if r.byte() != 0 {
			e.Library = &library{Class: elf.Class(r.byte()), Data: elf.Data(r.byte())}
			e.Library.Machine, e.Library.Soname = elf.Machine(r.unsigned()), r.text()
		}
	}
	if r.short || r.rest != "" {
		return errors.New("it is not what was read of a package")
	}
	return nil
}

// scanReader takes a text apart. What is not there is 0, and short says so in the end.
type scanReader struct {
	rest  string
	short bool
}

func (r *scanReader) take(n uint64) string {
	if n > uint64(len(r.rest)) {
		r.short, r.rest = true, ""
		return ""
	}
	text := r.rest[:n]
	r.rest = r.rest[n:]
	return text
}

func (r *scanReader) text() string { return r.take(r.unsigned()) }

func (r *scanReader) byte() byte {
	if b := r.take(1); b != "" {
		return b[0]
	}
	return 0
}

// leastEntry is how many bytes an entry has at least.
const leastEntry = 1 + 6 + 7 + len(apk.Checksum{}) + 2

// count is a number of things, each of which takes so many bytes at least.
func (r *scanReader) count(least int) int {
	n := r.unsigned()
	if n > uint64(len(r.rest)/least) {
		r.short, r.rest = true, ""
		return 0
	}
	return int(n)
}

// number reads a signed varint (see encoding/binary).
func (r *scanReader) number() int64 {
	u := r.unsigned()
	n := int64(u >> 1)
	if u&1 != 0 {
		n = ^n
	}
	return n
}

func (r *scanReader) unsigned() uint64 {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		b := r.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	r.short = true
	return 0
}
