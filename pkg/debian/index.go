package debian

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// Package is a binary package as a Packages index lists it.
type Package struct {
	Name    string
	Version string // with the epoch, e.g. 1:2.40-2
	Arch    string // e.g. amd64, or all
	Source  string // the source package; Name when the index does not say
	Depends string // as it stands there, Pre-Depends first
	File    File   // its path below the archive's root, size and digest
}

// ReadPackages calls each for every package of a Packages index, in order, until
// each gives an error.
func ReadPackages(r io.Reader, each func(Package) error) error {
	return readIndex(r, "Packages", func(p Paragraph) error {
		pkg := Package{Name: p.Get("Package"), Version: p.Get("Version"), Arch: p.Get("Architecture"), Depends: p.Get("Depends")}
		if pre := p.Get("Pre-Depends"); pre != "" {
			pkg.Depends = strings.TrimSuffix(pre+", "+pkg.Depends, ", ")
		}
		if pkg.Name == "" || pkg.Version == "" {
			return fmt.Errorf("a package without name or version")
		}
		source, _, _ := strings.Cut(p.Get("Source"), " ")
		pkg.Source = cmp.Or(source, pkg.Name)
		size, err := parseSize(p.Get("Size"))
		if err != nil {
			return fmt.Errorf("%s: %v", pkg.Name, err)
		}
		pkg.File = File{Path: strings.TrimPrefix(p.Get("Filename"), "./"), Size: size, SHA256: p.Get("SHA256")}
		if err := pkg.File.valid(); err != nil {
			return fmt.Errorf("%s: %v", pkg.Name, err)
		}
		return each(pkg)
	})
}

// Source is a source package as a Sources index lists it.
type Source struct {
	Name      string
	Version   string // with the epoch
	Directory string // below the archive's root, e.g. pool/main/m/musl
	Files     []File // their paths are names in Directory
}

// ReadSources calls each for every package of a Sources index, in order, until
// each gives an error.
func ReadSources(r io.Reader, each func(Source) error) error {
	return readIndex(r, "Sources", func(p Paragraph) error {
		s := Source{Name: p.Get("Package"), Version: p.Get("Version"), Directory: p.Get("Directory")}
		if s.Name == "" || s.Version == "" {
			return fmt.Errorf("a package without name or version")
		}
		if !ValidPath(s.Directory) {
			return fmt.Errorf("%s: %q is no folder below the archive", s.Name, s.Directory)
		}
		var err error
		if s.Files, err = parseFiles(p.Get("Checksums-Sha256")); err != nil {
			return fmt.Errorf("%s: %v", s.Name, err)
		}
		return each(s)
	})
}

func readIndex(r io.Reader, what string, each func(Paragraph) error) error {
	c := NewControlReader(r)
	for {
		p, err := c.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		if err := each(p); err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
	}
}
