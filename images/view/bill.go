package view

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/sbom"
)

// Component is a package as a bill of materials of the image lists it.
type Component struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	License  string   `json:"license,omitempty"`
	PURL     string   `json:"purl"`
	Checksum string   `json:"checksum,omitempty"` // what the database knows the package by
	Sources  []string `json:"sources,omitempty"`  // what it was built from, by its own document: a place and a digest
}

// Bill lists the packages of the image with what their own documents say of their sources.
func (c *Contents) Bill() []Component {
	all := make([]Component, len(c.Packages))
	for i := range c.Packages {
		p := &c.Packages[i]
		all[i] = Component{Name: p.Name, Version: p.Version, License: p.License, PURL: p.PURL(c.System), Checksum: p.Checksum, Sources: c.sources(p)}
	}
	return all
}

// spdx is what is read of an SPDX document in a package.
type spdx struct {
	Packages []struct {
		ID        string          `json:"SPDXID"`
		Name      string          `json:"name"`
		Version   string          `json:"versionInfo"`
		Download  string          `json:"downloadLocation"`
		Checksums []sbom.Checksum `json:"checksums"`
		Purpose   string          `json:"primaryPackagePurpose"`
	} `json:"packages"`
}

// Document gives the bill of materials that lies in a package, or nil.
func (c *Contents) Document(p *Package) []byte {
	base, _, _ := strings.Cut(p.Version, "-r")
	for _, file := range []string{sbom.PackagePath(p.Name, p.Version), sbom.PackagePath(p.Name, base), "var/lib/db/sbom/" + p.Name + ".spdx.json"} {
		n, found := c.Tree.Stat(file)
		if !found || n.Owner != p.Name {
			continue
		}
		if data, err := c.Tree.ReadFile(file); err == nil {
			return data
		}
	}
	return nil
}

// sources reads what a package was built from.
func (c *Contents) sources(p *Package) []string {
	var d spdx
	if data := c.Document(p); data == nil || json.Unmarshal(data, &d) != nil {
		return nil
	}
	var all []string
	for _, e := range d.Packages {
		if e.Name == p.Name && e.Version == p.Version || e.Purpose != "" && e.Purpose != "SOURCE" {
			continue
		}
		text := e.Download
		if text == "" || text == "NOASSERTION" {
			text = strings.TrimSpace(e.Name + " " + e.Version)
		}
		for _, sum := range e.Checksums {
			if sum.Algorithm == "SHA256" {
				text += " sha256:" + sum.Value
			}
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
