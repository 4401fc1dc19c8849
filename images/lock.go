package images

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Lock is NAME.lock.json, which lies beside an image file: the exact packages of the image.
// The format is apko's, version v1 (its pkg/lock). What tarn adds to it is World, SHA256
// and UnsignedSHA256; apko leaves out what it does not know.
type Lock struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	Version  string         `yaml:"version,required" json:"version"` // "v1"
	Config   *LockConfig    `yaml:"config" json:"config,omitempty"`
	Contents LockContents   `yaml:"contents,required" json:"contents"`

	// Path is the file, as messages call it.
	Path string `yaml:"-" json:"-"`
}

// LockConfig says what the lock answers.
type LockConfig struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	Name     string         `yaml:"name" json:"name,omitempty"`         // of the image file, e.g. nginx.yaml
	Checksum string         `yaml:"checksum" json:"checksum,omitempty"` // of the image file and what it includes, see Spec.Checksum
	// World is what the image asked for. A lock of apko's has none.
	World []string `yaml:"world" json:"world,omitempty"`
}

// LockContents are keys, repositories and packages.
type LockContents struct {
	Here                yamlread.Place     `yaml:",here" json:"-"`
	Keyring             []LockedKey        `yaml:"keyring" json:"keyring"` // sorted by name
	BuildRepositories   []LockedRepository `yaml:"build_repositories" json:"build_repositories"`
	RuntimeRepositories []LockedRepository `yaml:"runtime_repositories" json:"runtime_repositories"`
	Repositories        []LockedRepository `yaml:"repositories" json:"repositories"`
	// Packages are those of each architecture in the order in which they are installed.
	Packages []LockedPackage `yaml:"packages" json:"packages"`
}

// LockedKey is a public key of the image file's keyring.
type LockedKey struct {
	Here    yamlread.Place `yaml:",here" json:"-"`
	Name    string         `yaml:"name,required" json:"name"` // the location without http:// and https://
	URL     string         `yaml:"url,required" json:"url"`   // as the image file has it
	Content string         `yaml:"content" json:"content,omitempty"`
}

// LockedRepository is the index of a repository for one architecture.
type LockedRepository struct {
	Here         yamlread.Place `yaml:",here" json:"-"`
	Name         string         `yaml:"name,required" json:"name"`
	URL          string         `yaml:"url,required" json:"url"` // of its APKINDEX.tar.gz
	Architecture string         `yaml:"architecture,required" json:"architecture"`
}

// LockedPackage is one exact package file. The ranges are those of its three sections.
type LockedPackage struct {
	Here         yamlread.Place `yaml:",here" json:"-"`
	Name         string         `yaml:"name,required" json:"name"`
	URL          string         `yaml:"url,required" json:"url"` // an address, or a path from the workspace's folder
	Version      string         `yaml:"version,required" json:"version"`
	Architecture string         `yaml:"architecture,required" json:"architecture"`
	Signature    LockedSection  `yaml:"signature" json:"signature"`
	Control      LockedSection  `yaml:"control" json:"control"`
	Data         LockedSection  `yaml:"data" json:"data"`
	Checksum     string         `yaml:"checksum" json:"checksum"` // Q1: the SHA-1 of the control section
	// SHA256 is the digest of the whole file, in hexadecimal as sha256sum prints it.
	SHA256 string `yaml:"sha256" json:"sha256,omitempty"`
	// UnsignedSHA256 is that of the file without its signatures. By it a package is the one
	// that is meant although another key signed it, as each machine's own does.
	UnsignedSHA256 string `yaml:"unsigned-sha256" json:"unsigned-sha256,omitempty"`
}

// LockedSection is one section of a package file: its bytes, "bytes=0-646", and their
// digest, "sha1-" or "sha256-" and base64. Both are empty for a section that is not there.
type LockedSection struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	Range    string         `yaml:"range" json:"range"`
	Checksum string         `yaml:"checksum" json:"checksum"`
}

// lockVersion is the one version of the format there is.
const lockVersion = "v1"

// LockPath is where the lock of an image file lies: nginx.lock.json beside nginx.yaml.
func LockPath(file string) string { return strings.TrimSuffix(file, path.Ext(file)) + ".lock.json" }

// FullName is e.g. nginx-1.26.3-r0.
func (p *LockedPackage) FullName() string { return p.Name + "-" + p.Version }

// ReadLock reads a lock of tarn's or of apko's. Every mistake of it is in the error, a
// diag.Problems, with its place in the file, which messages call name.
func ReadLock(name string, data []byte) (*Lock, error) {
	if len(data) <= yamlread.MaxBytes { // of a larger one only the beginning may be here
		if err := checkJSON(name, data); err != nil {
			return nil, err
		}
	}
	// JSON is YAML but for tabs between values. They are one column wide in either.
	l := &Lock{Path: name}
	if _, err := yamlread.Decode(name, bytes.ReplaceAll(data, []byte("\t"), []byte(" ")), l); err != nil {
		return nil, err
	}
	c := &lockChecker{seen: map[string]yamlread.Place{}}
	c.lock(l)
	if len(c.problems) > 0 {
		c.problems.Sort()
		return nil, c.problems
	}
	return l, nil
}

// checkJSON says where data is no JSON.
func checkJSON(name string, data []byte) error {
	var any json.RawMessage
	err := json.Unmarshal(data, &any)
	syntax, is := errors.AsType[*json.SyntaxError](err)
	if err == nil {
		return nil
	}
	p := diag.Problem{File: name, Text: err.Error(), Hint: "a lock is written by: tarn image lock"}
	if is {
		before := data[:max(0, min(int(syntax.Offset)-1, len(data)))]
		p.Line, p.Column = bytes.Count(before, []byte("\n"))+1, len(before)-bytes.LastIndexByte(before, '\n')
	}
	return diag.Problems{p}
}

// lockChecker finds what is well formed in a lock and yet wrong.
type lockChecker struct {
	problems diag.Problems
	seen     map[string]yamlread.Place // packages by architecture and name
}

func (c *lockChecker) add(p yamlread.Place, hint, format string, args ...any) {
	c.problems = append(c.problems, p.Problem(hint, format, args...))
}

func (c *lockChecker) lock(l *Lock) {
	if l.Version != lockVersion {
		c.add(l.Here.Value("version"), "", "version %q of the format of locks is not known, only %q", l.Version, lockVersion)
	}
	if l.Config != nil {
		if l.Config.Checksum != "" {
			if _, err := parseSum(l.Config.Checksum, "sha256-", sha256.Size); err != nil {
				c.add(l.Config.Here.Value("checksum"), "", "checksum of the image file: %v", err)
			}
		}
		for i, text := range l.Config.World {
			if _, err := parseWorldEntry(text); err != nil {
				c.add(l.Config.Here.Value("world").Item(i), "", "package: %v", err)
			}
		}
	}
	for i := range l.Contents.Keyring {
		k := &l.Contents.Keyring[i]
		if k.Content != "" && !keyFileName.MatchString(KeyFile(k.URL)) {
			c.add(k.Here.Value("url"), "", "%q cannot be the name of a key", KeyFile(k.URL))
		}
	}
	for _, list := range [][]LockedRepository{l.Contents.BuildRepositories, l.Contents.RuntimeRepositories, l.Contents.Repositories} {
		for i := range list {
			c.arch(list[i].Here, list[i].Architecture)
		}
	}
	for i := range l.Contents.Packages {
		c.pkg(&l.Contents.Packages[i])
	}
}

func (c *lockChecker) arch(here yamlread.Place, text string) {
	if arch, err := apk.ParseArch(text); err != nil || string(arch) != text {
		c.add(here.Value("architecture"), "", "unknown architecture %q", text)
	}
}

// packageName is what apk's names of packages are: nothing in it leads out of a folder.
var packageName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9+._@-]*$`)

func (c *lockChecker) pkg(p *LockedPackage) {
	if !packageName.MatchString(p.Name) {
		c.add(p.Here.Value("name"), "", "%q cannot be the name of a package", p.Name)
	}
	if _, err := apk.ParseVersion(p.Version); err != nil || strings.ContainsAny(p.Version, "/\\") {
		c.add(p.Here.Value("version"), "", "%q is not a version", p.Version)
	}
	c.arch(p.Here, p.Architecture)
	if before, twice := c.seen[p.Architecture+"/"+p.Name]; twice {
		c.add(p.Here, "", "package %q is there twice for %s, first in line %d", p.Name, p.Architecture, before.Line())
	}
	c.seen[p.Architecture+"/"+p.Name] = p.Here
	if name := path.Base(p.URL); !strings.HasSuffix(name, ".apk") || strings.ContainsAny(p.URL, "?#\n") {
		c.add(p.Here.Value("url"), "", "%q is not where a package lies", p.URL)
	}
	end := int64(0)
	end = c.section(p, "signature", p.Signature, "sha1-", 20, end, false)
	end = c.section(p, "control", p.Control, "sha1-", 20, end, false)
	c.section(p, "data", p.Data, "sha256-", sha256.Size, end, true)
	sum, err := p.sum()
	switch control, controlErr := parseSum(p.Control.Checksum, "sha1-", 20); {
	case err != nil:
		c.add(p.Here.Value("checksum"), "", "checksum of %s: %v", p.Name, err)
	case p.Control.Checksum != "" && controlErr == nil && !bytes.Equal(control, sum[:]):
		c.add(p.Here.Value("checksum"), "both are the SHA-1 of the control section", "checksum of %s is not the one of its control section", p.Name)
	}
	for _, d := range []struct{ key, value string }{{"sha256", p.SHA256}, {"unsigned-sha256", p.UnsignedSHA256}} {
		if _, err := store.ParseDigest("sha256:" + d.value); d.value != "" && err != nil {
			c.add(p.Here.Value(d.key), "", "%s of %s is not 64 hexadecimal digits", d.key, p.Name)
		}
	}
}

// section checks one section, which begins where the one before ended, and gives its end.
func (c *lockChecker) section(p *LockedPackage, name string, s LockedSection, kind string, size int, at int64, needed bool) int64 {
	here := p.Here.Value(name)
	if s.Range == "" && s.Checksum == "" && !needed {
		return at
	}
	if _, err := parseSum(s.Checksum, kind, size); err != nil {
		c.add(here, "", "%s of %s: checksum: %v", name, p.Name, err)
	}
	first, last, err := parseRange(s.Range)
	switch {
	case err != nil:
		c.add(here, "", "%s of %s: %v", name, p.Name, err)
	case first != at:
		c.add(here, "", "%s of %s: range %q begins at byte %d, expected %d", name, p.Name, s.Range, first, at)
	default:
		return last + 1
	}
	return at
}

// maxLockedBytes bounds the size of a package file that a lock tells of.
const maxLockedBytes = 8 << 30

func parseRange(text string) (first, last int64, err error) {
	rest, found := strings.CutPrefix(text, "bytes=")
	a, b, cut := strings.Cut(rest, "-")
	if found && cut {
		first, err = strconv.ParseInt(a, 10, 64)
		if err == nil {
			last, err = strconv.ParseInt(b, 10, 64)
		}
	}
	if !found || !cut || err != nil || first < 0 || last < first || last >= maxLockedBytes {
		return 0, 0, fmt.Errorf("range %q is not like \"bytes=0-646\"", text)
	}
	return first, last, nil
}

func byteRange(at, size int64) string { return fmt.Sprintf("bytes=%d-%d", at, at+size-1) }

// parseSum reads "sha256-" and base64.
func parseSum(text, kind string, size int) ([]byte, error) {
	encoded, found := strings.CutPrefix(text, kind)
	sum, err := base64.StdEncoding.DecodeString(encoded)
	if !found || err != nil || len(sum) != size {
		return nil, fmt.Errorf("%q is not %s and %d bytes in base64", text, kind, size)
	}
	return sum, nil
}

func sumText(kind string, sum []byte) string { return kind + base64.StdEncoding.EncodeToString(sum) }

// sum is the package's Q1 checksum. apko did not write it before its release 0.13; it is
// that of the control section.
func (p *LockedPackage) sum() (sum apk.Checksum, err error) {
	if p.Checksum != "" {
		return apk.ParseChecksum(p.Checksum)
	}
	control, err := parseSum(p.Control.Checksum, "sha1-", len(sum))
	copy(sum[:], control)
	return sum, err
}

// size is the length of the package file, in bytes.
func (p *LockedPackage) size() int64 {
	_, last, err := parseRange(p.Data.Range)
	if err != nil {
		return 0
	}
	return last + 1
}

// keyFileName is what the file of a key may be called: Alpine's have an @ in it.
var keyFileName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.@+-]*$`)

// KeyFile is the name of the file of a key of the image file's keyring, a path or an address.
// In /etc/apk/keys a key is found by it.
func KeyFile(location string) string {
	if u, err := url.Parse(location); err == nil && strings.Contains(location, "://") {
		return path.Base(u.Path) // where %40 is @
	}
	return path.Base(location)
}

// Write writes the lock in one step: whoever stops the program finds the old one.
func (l *Lock) Write(file string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(l); err != nil {
		return fmt.Errorf("write lock %s: %w", file, err)
	}
	err := replaceFile(file, func(f *os.File) error {
		_, err := f.Write(b.Bytes())
		return err
	})
	if err != nil {
		return fmt.Errorf("write lock %s: %w", file, err)
	}
	return nil
}

// Arches are the architectures that the lock has packages for, in its order.
func (l *Lock) Arches() []apk.Arch {
	var all []apk.Arch
	for i := range l.Contents.Packages {
		if arch := apk.Arch(l.Contents.Packages[i].Architecture); !slices.Contains(all, arch) {
			all = append(all, arch)
		}
	}
	return all
}

// Packages are those of an architecture, in the order in which they are installed.
func (l *Lock) Packages(arch apk.Arch) []*LockedPackage {
	var all []*LockedPackage
	for i := range l.Contents.Packages {
		if p := &l.Contents.Packages[i]; p.Architecture == string(arch) {
			all = append(all, p)
		}
	}
	return all
}

// Keys are the keys of the image file's keyring by file name, and whether the lock has
// all of them: what apko wrote before its release 1.0 has none.
func (l *Lock) Keys(locations []string) (map[string][]byte, bool) {
	keys := map[string][]byte{}
	for _, location := range locations {
		i := slices.IndexFunc(l.Contents.Keyring, func(k LockedKey) bool { return k.URL == location && k.Content != "" })
		if i < 0 {
			return nil, false
		}
		keys[KeyFile(location)] = []byte(l.Contents.Keyring[i].Content)
	}
	return keys, true
}

// digests are those by which the store may have the package: the whole file's, and the
// file's without signatures.
func (p *LockedPackage) digests() []store.Digest {
	var all []store.Digest
	for _, text := range []string{p.SHA256, p.UnsignedSHA256} {
		if text != "" {
			all = append(all, store.Digest("sha256:"+text))
		}
	}
	return all
}

// dataHash is the SHA-256 of the data section in hexadecimal, as .PKGINFO has it.
func (p *LockedPackage) dataHash() string {
	sum, _ := parseSum(p.Data.Checksum, "sha256-", sha256.Size)
	return hex.EncodeToString(sum)
}
