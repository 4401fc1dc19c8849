package view

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/debian"
	"github.com/tarn-build/tarn/pkg/rootfs"
)

// Package is a package that a database of the image has.
type Package struct {
	Kind     string   `json:"kind"` // "apk" or "deb"
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Arch     string   `json:"arch,omitempty"`
	Origin   string   `json:"origin,omitempty"` // of dpkg: the source
	License  string   `json:"license,omitempty"`
	Summary  string   `json:"summary,omitempty"`
	Homepage string   `json:"homepage,omitempty"`
	Checksum string   `json:"checksum,omitempty"` // SHA-1 of apk's control section, in hexadecimal
	Size     int64    `json:"size"`               // of its files as they stand in the image, in bytes
	Files    int      `json:"files"`
	Missing  []string `json:"missing,omitempty"` // files that the database has and the image has not
	Changed  []string `json:"changed,omitempty"` // files of another content than the database says
	Scripts  []string `json:"scripts,omitempty"`
	Depends  []string `json:"depends,omitempty"`
	Provides []string `json:"provides,omitempty"`

	Entry *apk.Entry `json:"-"` // of apk
}

// FullName is the name with the version, as the package's own tools write it.
func (p *Package) FullName() string { return p.Name + "-" + p.Version }

// PURL names the package for everybody (package-url).
func (p *Package) PURL(system System) string {
	vendor := cmp.Or(system.ID, map[string]string{"apk": "alpine", "deb": "debian"}[p.Kind])
	qualifiers := map[string]string{}
	if p.Arch != "" {
		qualifiers["arch"] = p.Arch
	}
	if system.ID != "" {
		qualifiers["distro"] = system.ID
		if system.Version != "" {
			qualifiers["distro"] += "-" + system.Version
		}
	}
	return packageurl.NewPackageURL(p.Kind, vendor, p.Name, p.Version, packageurl.QualifiersFromMap(qualifiers), "").ToString()
}

// own gives a path to a package, and reports whether it is there.
func (c *Contents) own(p *Package, file string) (*rootfs.Node, bool) {
	n, found := c.Tree.Lstat(file)
	if !found {
		return nil, false
	}
	if n.Owner == "" {
		n.Owner = p.Name
	}
	return n, true
}

// apkPackage takes a package of apk's database in.
func (c *Contents) apkPackage(p *apk.Installed, scripts map[string][]string) Package {
	q := Package{
		Kind: "apk", Name: p.Name, Version: string(p.Version), Arch: string(p.Arch), Origin: p.Origin,
		License: strings.Join(p.Licenses, " AND "), Summary: p.Description, Homepage: p.URL, Entry: &p.Entry, Scripts: scripts[p.FullName()],
	}
	if p.Checksum != (apk.Checksum{}) {
		q.Checksum = hex.EncodeToString(p.Checksum[:])
	}
	for _, d := range p.Depends {
		q.Depends = append(q.Depends, d.String())
	}
	for _, d := range p.Provides {
		q.Provides = append(q.Provides, d.String())
	}
	counted := map[*rootfs.Inode]bool{}
	for i := range p.Files {
		f := &p.Files[i]
		if f.Type == apk.TypeDir {
			c.own(&q, f.Path)
			continue
		}
		n, found := c.own(&q, f.Path)
		if !found {
			q.Missing = append(q.Missing, f.Path)
			continue
		}
		q.Files++
		if !n.Mode.IsRegular() {
			continue
		}
		if !counted[n.Inode] {
			counted[n.Inode] = true
			q.Size += n.Size
		}
		if file := c.Files[n.Path]; file != nil && f.SHA1 != (apk.Checksum{}) && hex.EncodeToString(f.SHA1[:]) != file.SHA1 {
			q.Changed = append(q.Changed, f.Path)
		}
	}
	return q
}

// scripts gives the names of the scripts of each package, by name and version.
func (c *Contents) scripts(file string) map[string][]string {
	all := map[string][]string{}
	data, err := c.Tree.ReadFile(file)
	if err != nil {
		return all
	}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			c.note("/%s: %v", file, err)
			return all
		}
		// NAME-VERSION.X1HEX.SCRIPT of apk-tools, NAME-VERSION.Q1BASE64.SCRIPT of apko,
		// which may have a slash in it.
		name := h.Name
		for _, mark := range []string{".X1", ".Q1"} {
			full, rest, found := strings.Cut(name, mark)
			if !found {
				continue
			}
			if at := strings.LastIndexByte(rest, '.'); at >= 0 {
				all[full] = append(all[full], rest[at:])
			}
			break
		}
	}
}

// dpkg reads dpkg's database: one file, or, as distroless images have it, one for each package.
func (c *Contents) dpkg() {
	var files []string
	if n, found := c.Tree.Stat("var/lib/dpkg/status"); found && n.Mode.IsRegular() {
		files = append(files, "var/lib/dpkg/status")
	}
	if dir, found := c.Tree.Stat("var/lib/dpkg/status.d"); found && dir.Mode.IsDir() {
		for n := range c.Tree.All() {
			if path.Dir(n.Path) == dir.Path && n.Mode.IsRegular() && path.Ext(n.Path) != ".md5sums" {
				files = append(files, n.Path)
			}
		}
	}
	for _, file := range files {
		data, err := c.Tree.ReadFile(file)
		if err != nil {
			c.note("%v", err)
			continue
		}
		if len(data) > 0 && c.Database == "" {
			c.Database = file
			if strings.Contains(file, "status.d/") {
				c.Database = path.Dir(file)
			}
		}
		for r := debian.NewControlReader(bytes.NewReader(data)); ; {
			p, err := r.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				c.note("/%s: %v", file, err)
				break
			}
			// What was removed and left its configuration is not installed.
			if status := p.Get("Status"); p.Get("Package") == "" || status != "" && !strings.HasSuffix(status, " installed") {
				continue
			}
			c.Packages = append(c.Packages, c.debian(p, file))
		}
	}
}

func (c *Contents) debian(p debian.Paragraph, status string) Package {
	source, _, _ := strings.Cut(p.Get("Source"), " ")
	summary, _, _ := strings.Cut(p.Get("Description"), "\n")
	q := Package{
		Kind: "deb", Name: p.Get("Package"), Version: p.Get("Version"), Arch: p.Get("Architecture"),
		Origin: cmp.Or(source, p.Get("Package")), Summary: summary, Homepage: p.Get("Homepage"),
	}
	for _, field := range []string{"Pre-Depends", "Depends"} {
		for d := range strings.SplitSeq(p.Get(field), ",") {
			if d = strings.Join(strings.Fields(d), " "); d != "" {
				q.Depends = append(q.Depends, d)
			}
		}
	}
	for d := range strings.SplitSeq(p.Get("Provides"), ",") {
		if d = strings.Join(strings.Fields(d), " "); d != "" {
			q.Provides = append(q.Provides, d)
		}
	}
	counted := map[*rootfs.Inode]bool{}
	for _, file := range c.debianFiles(&q, status) {
		n, found := c.own(&q, file)
		if !found {
			q.Missing = append(q.Missing, file)
			continue
		}
		if n.Mode.IsDir() {
			continue
		}
		q.Files++
		if n.Mode.IsRegular() && !counted[n.Inode] {
			counted[n.Inode] = true
			q.Size += n.Size
		}
	}
	for _, script := range []string{"preinst", "postinst", "prerm", "postrm"} {
		for _, name := range []string{q.Name, q.Name + ":" + q.Arch} {
			if _, found := c.Tree.Stat("var/lib/dpkg/info/" + name + "." + script); found {
				q.Scripts = append(q.Scripts, script)
			}
		}
	}
	return q
}

// debianFiles are the paths of a package: its list, else what its checksums name.
func (c *Contents) debianFiles(p *Package, status string) []string {
	for _, name := range []string{p.Name, p.Name + ":" + p.Arch} {
		data, err := c.Tree.ReadFile("var/lib/dpkg/info/" + name + ".list")
		if err != nil {
			continue
		}
		var files []string
		for line := range strings.Lines(string(data)) {
			if line = strings.Trim(line, "/\n"); line != "" && line != "." {
				files = append(files, line)
			}
		}
		return files
	}
	for _, file := range []string{status + ".md5sums", "var/lib/dpkg/info/" + p.Name + ".md5sums"} {
		data, err := c.Tree.ReadFile(file)
		if err != nil {
			continue
		}
		var files []string
		for line := range strings.Lines(string(data)) {
			if _, name, found := strings.Cut(strings.TrimSpace(line), "  "); found {
				files = append(files, strings.Trim(name, "/"))
			}
		}
		return files
	}
	return nil
}

// Find gives the package of a name.
func (c *Contents) Find(name string) *Package {
	at, found := slices.BinarySearchFunc(c.Packages, name, func(p Package, name string) int { return strings.Compare(p.Name, name) })
	if !found {
		return nil
	}
	return &c.Packages[at]
}
