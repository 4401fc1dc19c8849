package apk

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"runtime"
	"strings"
)

// Arch is an architecture by Alpine's name, e.g. x86_64.
type Arch string

// The architectures that have packages.
const (
	ArchX86_64  Arch = "x86_64"
	ArchAArch64 Arch = "aarch64"
)

// noArch is the architecture of packages that suit every one.
const noArch Arch = "noarch"

// arches are all architectures by Alpine's name with the names that Go and OCI use.
var arches = map[Arch]struct{ GoArch, Variant string }{
	"x86_64": {"amd64", ""}, "aarch64": {"arm64", ""}, "x86": {"386", ""}, "armhf": {"arm", "v6"}, "armv7": {"arm", "v7"},
	"ppc64le": {"ppc64le", ""}, "s390x": {"s390x", ""}, "riscv64": {"riscv64", ""}, "loongarch64": {"loong64", ""},
}

// ParseArch reads an architecture by Alpine's name or by the name that Go and
// OCI use (amd64, arm64, arm/v7, ...); "host" is the one this program runs on.
func ParseArch(s string) (Arch, error) {
	if s == "host" {
		s = runtime.GOARCH
	}
	for arch, other := range arches {
		name := other.GoArch
		if other.Variant != "" {
			name += "/" + other.Variant
		}
		if s == string(arch) || s == name {
			return arch, nil
		}
	}
	return "", fmt.Errorf("unknown architecture %q", s)
}

// GoArch is the architecture by Go's name, e.g. amd64.
func (a Arch) GoArch() string { return arches[a].GoArch }

// Variant is OCI's variant of the architecture, e.g. v7, mostly "".
func (a Arch) Variant() string { return arches[a].Variant }

// Op compares a version with the version of a dependency.
type Op uint8

const (
	Any          Op = iota // no version asked
	Equal                  // =
	Less                   // <
	LessEqual              // <=
	Greater                // >
	GreaterEqual           // >=
	Fuzzy                  // ~ : the version begins with these components
	LessFuzzy              // <~ : less, or begins with these components
	GreaterFuzzy           // >~ : greater, or begins with these components
)

func (o Op) String() string { return [...]string{"", "=", "<", "<=", ">", ">=", "~", "<~", ">~"}[o] }

// Dependency is a requirement on a package or a provided name: "zlib",
// "so:libz.so.1", "openssl>=3.5", "!busybox". It is also what stands in
// provides, there with Equal or Any only.
type Dependency struct {
	Name     string
	Version  Version // empty exactly when Op is Any
	Op       Op
	Conflict bool // "!name": nothing that matches may be installed
}

// String writes the dependency as it stands in .PKGINFO.
func (d Dependency) String() string {
	var b strings.Builder
	if d.Conflict {
		b.WriteByte('!')
	}
	b.WriteString(d.Name)
	b.WriteString(d.Op.String())
	b.WriteString(string(d.Version))
	return b.String()
}

// MarshalText writes the dependency as it stands in .PKGINFO.
func (d Dependency) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a dependency as it stands in .PKGINFO.
func (d *Dependency) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDependency(string(text))
	return err
}

// Checksum names a package: of version 2 the SHA-1 of its compressed control section,
// written "Q1" and base64 in indexes; of version 3 the beginning of the SHA-256 of its
// ADB block, as apk's database has it. It is the identity that the format gives a
// package; where tarn may choose, it uses SHA-256.
type Checksum [20]byte

// ParseChecksum reads "Q1" and base64, or 40 hexadecimal digits, which may have "X1"
// before them.
func ParseChecksum(s string) (c Checksum, err error) {
	var raw []byte
	if rest, found := strings.CutPrefix(s, "Q1"); found {
		raw, err = base64.StdEncoding.DecodeString(rest)
	} else {
		raw, err = hex.DecodeString(strings.TrimPrefix(s, "X1"))
	}
	if err != nil || len(raw) != len(c) {
		return c, fmt.Errorf("malformed checksum %q", s)
	}
	return Checksum(raw), nil
}

func (c Checksum) String() string {
	if c == (Checksum{}) {
		return ""
	}
	return "Q1" + base64.StdEncoding.EncodeToString(c[:])
}

// MarshalText writes the checksum as in an index.
func (c Checksum) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a checksum as in an index.
func (c *Checksum) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*c = Checksum{}
		return nil
	}
	*c, err = ParseChecksum(string(text))
	return err
}

// SHA256 is a digest, as packages and indexes of version 3 have them. Its zero value is
// none.
type SHA256 [32]byte

func (s SHA256) String() string {
	if s == (SHA256{}) {
		return ""
	}
	return hex.EncodeToString(s[:])
}

// MarshalText writes the digest in hexadecimal.
func (s SHA256) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a digest in hexadecimal.
func (s *SHA256) UnmarshalText(text []byte) error {
	*s = SHA256{}
	if len(text) == 0 {
		return nil
	}
	if n, err := hex.Decode(s[:], text[:min(len(text), 2*len(s))]); err != nil || n != len(s) || len(text) != 2*n {
		return fmt.Errorf("malformed sha256 %q", shorten(string(text)))
	}
	return nil
}

// Format is the version of the format of packages and indexes.
type Format uint8

const (
	V2 Format = 2 // gzip and tar; the zero Format means it too
	V3 Format = 3 // ADB: see package adb
)

// OrV2 is the format, V2 for the zero one.
func (f Format) OrV2() Format {
	if f == 0 {
		return V2
	}
	return f
}

// Info is what a package says of itself: its .PKGINFO, and, for the fields that
// an index repeats, its record there.
type Info struct {
	Name        string
	Version     Version // with the revision, e.g. 1.3.1-r0
	Arch        Arch
	Description string
	URL         string
	Commit      string
	Maintainer  string
	Packager    string
	Origin      string   // the recipe's main package, e.g. openssl for libssl3
	Licenses    []string // one a line of .PKGINFO
	Size        int64    // bytes of all that is installed; never 0 where there is anything to install
	BuildDate   int64    // Unix seconds; 0 is not written
	Depends     []Dependency
	Provides    []Dependency
	Replaces    []Dependency
	// Vendored is what the package has for its own use. It is told in comments of .PKGINFO,
	// as melange does, and read by nobody.
	Vendored         []Dependency
	InstallIf        []Dependency
	ProviderPriority int64
	ReplacesPriority int64
	Triggers         []string // absolute folders, may have globs
	DataHash         string   // SHA-256 of the compressed data section, in hexadecimal; not in an index

	// What only version 3 can tell; version 2 is written without it.
	Recommends []Dependency `json:",omitempty"`
	Tags       []string     `json:",omitempty"`
	Layer      int64        `json:",omitempty"` // where apk installs it: 0 the root, 1 a volume of uvol
}

// FullName is the name and version as in a file name: zlib-1.3.1-r0.
func (i *Info) FullName() string { return i.Name + "-" + string(i.Version) }

// FileName is the name of the package's file in a repository: zlib-1.3.1-r0.apk.
func (i *Info) FileName() string { return i.FullName() + ".apk" }

// Entry is a package as an index lists it.
type Entry struct {
	Info
	Checksum Checksum
	// SHA256 is the whole identity of a package of version 3, the digest of its ADB
	// block, of which Checksum has the first 20 bytes only. Zero for version 2.
	SHA256   SHA256 `json:",omitzero"`
	FileSize int64  // bytes of the .apk file
	// Malformed says what could not be read of the record's dependencies; empty for
	// almost all. Such a package is there and cannot be installed.
	Malformed string `json:",omitempty"`
}
