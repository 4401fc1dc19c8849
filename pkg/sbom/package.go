package sbom

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"
)

// Component is an apk package as a bill of materials lists it.
type Component struct {
	Name         string
	Version      string // with the revision, e.g. 1.3.1-r0
	Arch         string // by Alpine's name, e.g. x86_64
	Distribution string // whose package it is, for the purl, e.g. wolfi; "tarn" when empty
	Origin       string // the recipe it was built from, where that has another name
	Summary      string
	Homepage     string
	Supplier     string     // an organisation; empty says nothing of it
	Licenses     []string   // SPDX expressions that all hold
	Copyright    []string   // attributions, as the sources state them
	Checksums    []Checksum // of the .apk file; inside a package there are none
	CPE          string     // CPE 2.3, e.g. cpe:2.3:a:zlib:zlib:1.3.1:*:*:*:*:*:*:*
	Sources      []Source
	Comment      string // what else is to be known of it
}

// Source is what a package was built from: a file or a git tree.
type Source struct {
	Name      string // what it is, e.g. zlib; else taken from the URL
	Version   string // e.g. 1.3.1
	URL       string // of the file, or of the git repository
	Checksums []Checksum
	Commit    string // of a git tree
	Tag       string // of a git tree, where one was asked for
	Licenses  []string
}

// Recipe is the build configuration of a package.
type Recipe struct {
	File       string // within its repository, e.g. recipes/core/zlib.yaml
	Checksums  []Checksum
	Repository string // URL of its git repository; may be empty
	Commit     string // may be empty
	License    string // of the recipe itself, an SPDX expression; may be empty
}

// LicenseText is the text of a licence that SPDX does not list.
type LicenseText struct {
	ID   string // with or without LicenseRef-
	Name string
	Text string
}

// PackageDocument is all that goes into a package's own bill of materials.
type PackageDocument struct {
	Package  Component
	Recipe   *Recipe // nil leaves it out
	Licenses []LicenseText
	Created  int64  // Unix seconds: SOURCE_DATE_EPOCH
	Tool     string // who wrote it; "tarn" when empty
}

// PackagePath is where a package keeps its bill of materials, without a slash in front.
func PackagePath(name, version string) string {
	return "var/lib/db/sbom/" + name + "-" + version + ".spdx.json"
}

// Package writes the bill of materials of a package: the package, the recipe, and
// every source that it was built from.
func Package(d PackageDocument) ([]byte, error) {
	c := d.Package
	if c.Name == "" || c.Version == "" {
		return nil, fmt.Errorf("write SPDX document: package %q has no name or no version", c.Name+"-"+c.Version)
	}
	doc := newDocument("apk-"+c.Name+"-"+c.Version, d.Tool, d.Created)
	l := &licences{}
	l.texts(d.Licenses)
	e := c.element(l)
	doc.describe(e)
	if d.Recipe != nil {
		r := d.Recipe.element(l)
		doc.take(r)
		doc.relate(e.ID, "GENERATED_FROM", r.ID)
	}
	doc.sources(e, c.Sources, l)
	doc.Extracted = l.sorted()
	return doc.encode()
}

// sources adds what e was built from.
func (d *document) sources(e *element, sources []Source, l *licences) {
	for _, s := range sources {
		from := s.element(l)
		d.take(from)
		d.relate(e.ID, "GENERATED_FROM", from.ID)
	}
}

func (c *Component) id() string { return "SPDXRef-Package-apk-" + escape(c.Name+"-"+c.Version) }

func (c *Component) element(l *licences) *element {
	e := &element{
		ID:        c.id(),
		Name:      c.Name,
		Version:   c.Version,
		Supplier:  noAssertion,
		Download:  noAssertion,
		Checksums: sortedChecksums(c.Checksums),
		Homepage:  homepage(c.Homepage),
		Concluded: noAssertion,
		Declared:  l.expression(c.Licenses),
		Copyright: noAssertion,
		Summary:   c.Summary,
		Comment:   c.Comment,
		Purpose:   "INSTALL",
	}
	if c.Supplier != "" {
		e.Supplier = "Organization: " + c.Supplier
		e.Originator = e.Supplier
	}
	if text := strings.TrimSpace(strings.Join(c.Copyright, "\n")); text != "" {
		e.Copyright = text
	}
	distribution := cmp.Or(c.Distribution, "tarn")
	qualifiers := map[string]string{"distro": distribution}
	if c.Arch != "" {
		qualifiers["arch"] = c.Arch
	}
	if c.Origin != "" && c.Origin != c.Name {
		e.SourceInfo = "built from origin " + c.Origin
		qualifiers["origin"] = c.Origin
	}
	e.References = []reference{purl("apk", distribution, c.Name, c.Version, qualifiers)}
	if c.CPE != "" {
		e.References = append(e.References, reference{"SECURITY", "cpe23Type", c.CPE})
	}
	return e
}

func (r *Recipe) element(l *licences) *element {
	e := &element{
		ID:        "SPDXRef-Package-Recipe-" + escape(r.File),
		Name:      r.File,
		Version:   r.Commit,
		Supplier:  noAssertion,
		Download:  noAssertion,
		Checksums: sortedChecksums(r.Checksums),
		Concluded: noAssertion,
		Declared:  noAssertion,
		Copyright: noAssertion,
		Purpose:   "SOURCE",
	}
	if r.License != noAssertion {
		e.Declared = l.expression([]string{r.License})
	}
	if public(r.Repository) {
		e.Download = gitLocation(r.Repository, r.Commit, r.File)
		e.References = []reference{gitPurl(r.Repository, r.Commit, path.Base(r.File), r.File)}
	}
	return e
}

func (s *Source) element(l *licences) *element {
	name := cmp.Or(s.Name, strings.TrimSuffix(path.Base(s.URL), ".git"))
	version := cmp.Or(s.Version, s.Tag, s.Commit)
	e := &element{
		Name:      name,
		Version:   version,
		Supplier:  noAssertion,
		Download:  cmp.Or(location(s.URL), noAssertion),
		Checksums: sortedChecksums(s.Checksums),
		Concluded: noAssertion,
		Declared:  l.expression(s.Licenses),
		Copyright: noAssertion,
		Purpose:   "SOURCE",
	}
	// What tells one source from another is its content.
	mark := s.Commit
	if mark == "" && len(e.Checksums) > 0 {
		mark = e.Checksums[0].Value
	}
	if mark == "" {
		mark = s.URL
	}
	e.ID = "SPDXRef-Package-Source-" + escape(name)
	for _, part := range []string{version, mark[:min(len(mark), 16)]} {
		if part != "" && part != s.Commit {
			e.ID += "-" + escape(part)
		}
	}
	if (s.Commit != "" || s.Tag != "") && public(s.URL) {
		e.Download = gitLocation(s.URL, cmp.Or(s.Commit, s.Tag), "")
		e.References = []reference{gitPurl(s.URL, cmp.Or(s.Commit, s.Tag), name, "")}
		return e
	}
	qualifiers := map[string]string{}
	if public(s.URL) {
		qualifiers["download_url"] = s.URL
	}
	var sums []string
	for _, c := range e.Checksums {
		sums = append(sums, strings.ToLower(c.Algorithm)+":"+c.Value)
	}
	if len(sums) > 0 {
		qualifiers["checksum"] = strings.Join(sums, ",")
	}
	e.References = []reference{purl("generic", "", name, s.Version, qualifiers)}
	return e
}

// homepage gives a URL that SPDX takes for one.
func homepage(text string) string {
	if u, err := url.Parse(text); err != nil || u.Scheme == "" || u.Host == "" || spaced(text) {
		return ""
	}
	return text
}

// public says whether a URL can be told to everybody: there is one, and it holds
// no user name or password.
func public(text string) bool {
	u, err := url.Parse(text)
	return err == nil && text != "" && u.User == nil
}

// location gives a download location as SPDX knows it: a URL, or nothing.
// A source of Debian's archive, "debian:SOURCE/FILE", has none.
func location(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || spaced(text) {
		return ""
	}
	return text
}

// gitLocation writes a git tree as SPDX does: git+URL@COMMIT#PATH.
func gitLocation(repository, commit, file string) string {
	if location(repository) == "" {
		return noAssertion
	}
	text := "git+" + repository
	if commit != "" {
		text += "@" + commit
	}
	if file != "" {
		text += "#" + file
	}
	return text
}

// gitPurl names a git tree: by GitHub's own type where it lies there.
func gitPurl(repository, commit, name, file string) reference {
	if u, err := url.Parse(repository); err == nil && u.Hostname() == "github.com" {
		if owner, project, ok := strings.Cut(strings.Trim(strings.TrimSuffix(u.Path, ".git"), "/"), "/"); ok && !strings.Contains(project, "/") {
			p := packageurl.NewPackageURL("github", owner, project, commit, nil, file)
			return reference{"PACKAGE-MANAGER", "purl", p.ToString()}
		}
	}
	at := "git+" + repository
	if commit != "" {
		at += "@" + commit
	}
	return purl("generic", "", name, commit, map[string]string{"vcs_url": at})
}

func purl(kind, namespace, name, version string, qualifiers map[string]string) reference {
	p := packageurl.NewPackageURL(kind, namespace, name, version, packageurl.QualifiersFromMap(qualifiers), "")
	return reference{"PACKAGE-MANAGER", "purl", p.ToString()}
}

// sortedChecksums gives checksums in a fixed order, with the names that SPDX has for them.
func sortedChecksums(sums []Checksum) []Checksum {
	sorted := make([]Checksum, 0, len(sums))
	for _, c := range sums {
		if c.Value != "" {
			sorted = append(sorted, Checksum{strings.ReplaceAll(strings.ToUpper(c.Algorithm), "SHA-", "SHA"), strings.ToLower(c.Value)})
		}
	}
	slices.SortFunc(sorted, func(a, b Checksum) int {
		return cmp.Or(strings.Compare(a.Algorithm, b.Algorithm), strings.Compare(a.Value, b.Value))
	})
	return slices.Compact(sorted)
}
