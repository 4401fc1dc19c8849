package apk

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// Limits bound what is read, so that a small file cannot fill memory or disk. A
// field that is 0 has the default that its comment tells.
type Limits struct {
	Signatures int64 // bytes of a signature section, expanded: 1 MiB
	Control    int64 // bytes of a control section, expanded: 10 MiB
	Data       int64 // bytes of a data section, expanded: 16 GiB
	Entries    int   // entries of a data section: 1,000,000
	Path       int   // bytes of a path or of a link's target: 4085, as apk-tools
	Header     int   // bytes of an entry's extended header: 256 KiB
	Index      int64 // bytes of an index, expanded: 1 GiB
	Metadata   int64 // bytes of the ADB block of a package of version 3: 64 MiB
}

func (l Limits) orDefault() Limits {
	or := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	orInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	or(&l.Signatures, 1<<20)
	or(&l.Control, 10<<20)
	or(&l.Data, 16<<30)
	or(&l.Index, 1<<30)
	or(&l.Metadata, 64<<20)
	orInt(&l.Entries, 1_000_000)
	orInt(&l.Path, 4085)
	orInt(&l.Header, 256<<10)
	return l
}

// maxSignatureSections is how many signature sections one file may have.
const maxSignatureSections = 16

// ScriptNames are the scripts that a package may have, as they are called in its
// control section, in their order there.
var ScriptNames = []string{".post-deinstall", ".post-install", ".post-upgrade", ".pre-deinstall", ".pre-install", ".pre-upgrade", ".trigger"}

// Package is a package file. Of version 2 it is up to three gzip members, which are its
// signatures, its control section and its data; of version 3 an ADB block, which tells
// all but the content of files, signatures of that block, and the contents.
type Package struct {
	Format     Format
	Info       Info
	Scripts    map[string][]byte // by name, see ScriptNames
	Control    map[string][]byte // the other files of the control section, e.g. .melange.yaml
	Signatures []Signature
	Checksum   Checksum // the package's identity: see Checksum
	SHA256     SHA256   // the whole identity of a package of version 3

	// Bytes of the compressed sections. A file of version 3 is all data here, as it is
	// compressed as one.
	SignatureSize, ControlSize, DataSize int64

	file     io.ReaderAt
	limits   Limits
	control  digests
	v3       *package3
	verified bool // the data is what the control section says
}

// ReadPackage reads the signatures and the control section of a package file of size
// bytes, or the ADB block of one of version 3. The data is only looked at by VerifyData
// and Files, which read from r. Nothing is trusted yet: see VerifySignature, or Matches
// for what an index says.
func ReadPackage(r io.ReaderAt, size int64, l Limits) (*Package, error) {
	var begin [4]byte
	if n, _ := r.ReadAt(begin[:min(size, 4)], 0); isV3(begin[:n]) {
		return readPackage3(r, size, l.orDefault())
	}
	p := &Package{Format: V2, Scripts: map[string][]byte{}, Control: map[string][]byte{}, file: r, limits: l.orDefault()}
	for sections := 0; ; sections++ {
		at := p.SignatureSize
		if sections > maxSignatureSections {
			return nil, fmt.Errorf("more than %d signature sections", maxSignatureSections)
		}
		content, length, err := readMember(r, at, size, max(p.limits.Control, p.limits.Signatures))
		if err != nil {
			if at == 0 {
				return nil, notPackage(r, size, err)
			}
			return nil, fmt.Errorf("control section: %v", err)
		}
		if isSignatures(bytes.NewReader(content)) {
			found, err := readSignatures(content, p.limits.Signatures)
			if err != nil {
				return nil, err
			}
			p.Signatures = append(p.Signatures, found...)
			p.SignatureSize += length
			continue
		}
		if err := p.readControl(content); err != nil {
			return nil, err
		}
		p.ControlSize, p.DataSize = length, size-at-length
		if p.control, err = digest(io.NewSectionReader(r, at, length), p.Signatures); err != nil {
			return nil, err
		}
		p.Checksum = p.control.sha1
		return p, nil
	}
}

// notPackage says in the words of who gave the file what is wrong with its beginning.
func notPackage(r io.ReaderAt, size int64, err error) error {
	var magic [4]byte
	n, _ := r.ReadAt(magic[:min(size, 4)], 0)
	switch {
	case size == 0:
		return errors.New("the file is empty")
	case !bytes.HasPrefix(magic[:n], []byte{0x1f, 0x8b}):
		return errors.New("the file is no package: it begins neither with a gzip member nor with ADB")
	}
	return fmt.Errorf("first section: %v", err)
}

// readMember expands the gzip member that begins at an offset, and gives the number of
// compressed bytes that it fills.
func readMember(r io.ReaderAt, at, size, limit int64) (content []byte, length int64, err error) {
	// A member may be longer than what it expands to, but not by much.
	counted := &countingReader{r: io.NewSectionReader(r, at, min(size-at, limit+limit/8+1<<16))}
	buffered := bufio.NewReader(counted)
	z, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, 0, readable(err)
	}
	z.Multistream(false)
	content, err = io.ReadAll(io.LimitReader(z, limit+1))
	if err != nil {
		return nil, 0, readable(err)
	}
	if int64(len(content)) > limit {
		return nil, 0, fmt.Errorf("it expands to more than %d bytes", limit)
	}
	return content, counted.n - int64(buffered.Buffered()), nil
}

// readable gives the end of a file too early a name.
func readable(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("unexpected end")
	}
	return err
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func digest(r io.Reader, signatures []Signature) (d digests, err error) {
	one, two, five := sha1.New(), sha256.New(), sha512.New()
	all := []io.Writer{one, two}
	if asksSHA512(signatures) {
		all = append(all, five)
	}
	if _, err := io.Copy(io.MultiWriter(all...), r); err != nil {
		return d, err
	}
	one.Sum(d.sha1[:0])
	two.Sum(d.sha256[:0])
	if len(all) == 3 {
		five.Sum(d.sha512[:0])
	}
	return d, nil
}

// isSignatures says whether the archive of a section begins with a signature. The name
// may stand in an extended header.
func isSignatures(section io.Reader) bool {
	h, err := tar.NewReader(section).Next()
	return err == nil && strings.HasPrefix(h.Name, signaturePrefix)
}

func readSignatures(section []byte, limit int64) ([]Signature, error) {
	if int64(len(section)) > limit {
		return nil, fmt.Errorf("signature section: it expands to more than %d bytes", limit)
	}
	var all []Signature
	err := readSmallTar(section, func(name string, content []byte) error {
		if !strings.HasPrefix(name, signaturePrefix) {
			return fmt.Errorf("%q is no signature", shorten(name))
		}
		s, err := signatureOf(name, content)
		all = append(all, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("signature section: %v", err)
	}
	return all, nil
}

// readSmallTar gives the files of a section that lies in memory. There may be only
// regular files, each once, and nothing but zeros behind them.
func readSmallTar(section []byte, visit func(name string, content []byte) error) error {
	rest := bytes.NewReader(section)
	t := tar.NewReader(rest)
	seen := map[string]bool{}
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return readable(err)
		}
		if err := checkHeader(h); err != nil {
			return err
		}
		switch {
		case h.Typeflag != tar.TypeReg:
			return fmt.Errorf("%q is a %s, expected a file", shorten(h.Name), typeName(h.Typeflag))
		case seen[h.Name]:
			return fmt.Errorf("%q stands there twice", shorten(h.Name))
		}
		seen[h.Name] = true
		if h.Size > int64(rest.Len()) {
			return fmt.Errorf("%q: unexpected end", shorten(h.Name))
		}
		// The reader of a tar reads headers only: the content begins where it stands.
		at := len(section) - rest.Len()
		content := section[at : at+int(h.Size) : at+int(h.Size)]
		if err := visit(h.Name, content); err != nil {
			return err
		}
	}
	return onlyZeros(rest)
}

// checkHeader refuses what tar readers do not agree on: apk-tools takes the size and
// the path from one header, others from another.
func checkHeader(h *tar.Header) error {
	name := shorten(h.Name)
	if _, found := h.PAXRecords["size"]; found {
		return fmt.Errorf("%q: a size in an extended header", name)
	}
	if path, found := h.PAXRecords["path"]; found && path != h.Name {
		return fmt.Errorf("%q: its other name is %q", name, shorten(path))
	}
	if link, found := h.PAXRecords["linkpath"]; found && link != h.Linkname {
		return fmt.Errorf("%q: its target is %q and %q", name, shorten(h.Linkname), shorten(link))
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%q: a sparse file, which packages cannot hold", name)
		}
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return errors.New("a global extended header, which packages cannot hold")
	}
	return nil
}

func typeName(flag byte) string {
	switch flag {
	case tar.TypeReg:
		return "file"
	case tar.TypeLink:
		return "hard link"
	case tar.TypeSymlink:
		return "symbolic link"
	case tar.TypeChar:
		return "character device"
	case tar.TypeBlock:
		return "block device"
	case tar.TypeDir:
		return "folder"
	case tar.TypeFifo:
		return "named pipe"
	case tar.TypeGNUSparse:
		return "sparse file"
	}
	return fmt.Sprintf("entry of type %q", flag)
}

// onlyZeros reads to the end, where nothing but padding may stand.
func onlyZeros(r io.Reader) error {
	var buf [4096]byte
	for {
		n, err := r.Read(buf[:])
		for _, b := range buf[:n] {
			if b != 0 {
				return errors.New("something stands behind the end of the archive")
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readable(err)
		}
	}
}

func (p *Package) readControl(section []byte) error {
	if int64(len(section)) > p.limits.Control {
		return fmt.Errorf("control section: it expands to more than %d bytes", p.limits.Control)
	}
	found := false
	err := readSmallTar(section, func(name string, content []byte) (err error) {
		switch {
		case name == InfoName:
			found = true
			if p.Info, err = parseInfo(string(content)); err != nil {
				return fmt.Errorf("%s: %v", InfoName, err)
			}
		case strings.HasPrefix(name, signaturePrefix):
			return fmt.Errorf("%q is a signature within the section", shorten(name))
		case !isControlName(name):
			return fmt.Errorf("%q is no name of a control file", shorten(name))
		case isScript(name):
			p.Scripts[name] = content
		default:
			p.Control[name] = content
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("no %s", InfoName)
	}
	if err != nil {
		return fmt.Errorf("control section: %v", err)
	}
	return nil
}

// isControlName says that name begins with a dot and is one element of a path.
func isControlName(name string) bool {
	return len(name) > 1 && name[0] == '.' && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\n\r\x00")
}

func isScript(name string) bool {
	for _, s := range ScriptNames {
		if s == name {
			return true
		}
	}
	return false
}

// VerifySignature checks that a trusted key signed the control section, which names
// the data by its hash, and gives the name of that key. What does not hold is a
// *TrustError.
func (p *Package) VerifySignature(keys KeySet) (keyName string, err error) {
	if p.v3 != nil {
		return p.v3.signed.verify("signature of "+p.Info.FullName(), p.v3.signatures, keys)
	}
	return verify("signature of "+p.Info.FullName(), p.Signatures, p.control, keys)
}

// data is the compressed data section.
func (p *Package) data() *io.SectionReader {
	return io.NewSectionReader(p.file, p.SignatureSize+p.ControlSize, p.DataSize)
}

// Matches checks that a package is the one that an index lists: its checksum, its name,
// its version and its architecture (a noarch package is listed as one of any). What does
// not hold is a *TrustError.
func (p *Package) Matches(e *Entry) error {
	trust := func(what string, want, got any) error {
		return &TrustError{e.FileName(), fmt.Sprintf("%s does not match the index: expected %s, found %s", what, want, got)}
	}
	switch {
	case e.Checksum == (Checksum{}):
		return &TrustError{e.FileName(), "the index tells no checksum of it"}
	case p.Checksum != e.Checksum:
		return trust("checksum", e.Checksum, p.Checksum)
	case e.SHA256 != (SHA256{}) && p.SHA256 != e.SHA256:
		return trust("checksum", e.SHA256, p.SHA256)
	case p.Info.Name != e.Name || p.Info.Version != e.Version:
		return &TrustError{e.FileName(), fmt.Sprintf("the package calls itself %s", p.Info.FullName())}
	case e.Arch != "" && p.Info.Arch != "" && p.Info.Arch != e.Arch && p.Info.Arch != noArch && e.Arch != noArch:
		return &TrustError{e.FileName(), fmt.Sprintf("the package is for %s, and the index says %s", p.Info.Arch, e.Arch)}
	}
	return nil
}

// VerifyData checks that the data is what the package says: in version 2 that the
// compressed section has the SHA-256 that the control section names, in version 3 that
// every file has the digest that the ADB block names. What does not hold is a *TrustError.
func (p *Package) VerifyData() error {
	what := "data of " + p.Info.FullName()
	if p.v3 != nil {
		err := p.files3(func(_ *File, content io.Reader) error {
			_, err := io.Copy(io.Discard, content)
			return err
		})
		if err != nil {
			if _, is := errors.AsType[*TrustError](err); is {
				return err
			}
			return &TrustError{what, err.Error()}
		}
		p.verified = true
		return nil
	}
	want, err := hex.DecodeString(p.Info.DataHash)
	if err != nil || len(want) != sha256.Size {
		return &TrustError{what, fmt.Sprintf("the package names no SHA-256 of it, but %q", shorten(p.Info.DataHash))}
	}
	h := sha256.New()
	n, err := io.Copy(h, p.data())
	if err != nil {
		return err
	}
	if n != p.DataSize {
		return &TrustError{what, fmt.Sprintf("expected %d bytes, found %d", p.DataSize, n)}
	}
	if got := h.Sum(nil); !bytes.Equal(got, want) {
		return &TrustError{what, fmt.Sprintf("expected sha256 %x, found %x", want, got)}
	}
	p.verified = true
	return nil
}
