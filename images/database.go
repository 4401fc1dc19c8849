package images

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sbom"
)

// installed writes the three files of apk's database that tell of packages: what is
// installed, the scripts, which apk runs when it removes or upgrades a package, and
// the folders that triggers watch.
func (c *composer) installed() error {
	all := make([]*apk.Installed, len(c.packages))
	for i, p := range c.packages {
		all[i] = c.record(p)
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer, []*apk.Installed) error
	}{{"installed", apk.WriteInstalled}, {"scripts.tar", apk.WriteScripts}, {"triggers", apk.WriteTriggers}} {
		var data bytes.Buffer
		if err := f.write(&data, all); err != nil {
			return err
		}
		if err := c.tree.WriteFile("usr/lib/apk/db/"+f.name, data.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// record is what apk knows of one installed package: a file that another package
// took over is not the package's any more.
func (c *composer) record(p *scanned) *apk.Installed {
	// The size of the file without its signatures: who signed it must not matter.
	record := &apk.Installed{Entry: apk.Entry{Info: *p.Info, Checksum: p.Checksum, FileSize: p.fileSize}, Scripts: map[string][]byte{}}
	for _, s := range p.Scripts {
		record.Scripts[s.Name] = s.Content
	}
	lost := map[string]bool{}
	for _, d := range c.tree.Deviations(&p.Package) {
		lost[d.Path] = d.Lost
	}
	at := map[string]int{}
	for i := range p.Entries {
		e := &p.Entries[i]
		at[e.Path] = i
		if lost[e.Path] {
			continue
		}
		from := i
		if e.Hardlink != "" {
			from = at[e.Hardlink] // apk knows a hard link as the file that it is
		}
		inode := &p.Entries[from].Inode
		f := apk.File{Path: e.Path, Mode: inode.Mode &^ fs.ModeType, UID: inode.UID, GID: inode.GID, Xattrs: inode.Xattrs, SHA1: p.sums[from]}
		if owned, found := p.owned[from]; found {
			f.UID, f.GID = owned[0], owned[1]
		}
		switch {
		case inode.Mode.IsDir():
			f.Type = apk.TypeDir
		case inode.Mode.Type() == fs.ModeSymlink:
			f.Type = apk.TypeSymlink
		}
		record.Files = append(record.Files, f)
	}
	return record
}

// sbom writes the image's bill of materials: every package is in it, with what the
// package's own document says of its sources where it has one.
func (c *composer) sbom(digest string, layers []Layer) ([]byte, error) {
	d := sbom.ImageDocument{Name: c.spec.Name(), Digest: digest, Arch: c.o.Arch.GoArch(), OS: c.osRelease(), Created: c.tree.Epoch}
	d.Repository, d.Commit, _ = strings.Cut(c.spec.VCSURL, "@")
	for _, l := range layers {
		d.Layers = append(d.Layers, sbom.Layer{Digest: l.Digest, MediaType: string(l.MediaType)})
	}
	for _, p := range c.packages {
		i := p.Info
		// Not the digest of the file: that is another one when another key signed it.
		component := sbom.Component{
			Name: i.Name, Version: string(i.Version), Arch: string(i.Arch), Distribution: d.OS.ID, Origin: i.Origin, Summary: i.Description, Homepage: i.URL,
			Licenses: i.Licenses, Checksums: []sbom.Checksum{{Algorithm: "SHA1", Value: fmt.Sprintf("%x", p.Checksum[:])}},
		}
		document := c.embedded(p)
		if document != nil && !json.Valid(document) {
			c.warnings = append(c.warnings, Warning{Package: i.FullName(), Text: "the SPDX document in the package is not JSON"})
		}
		d.Packages = append(d.Packages, sbom.ImagePackage{Component: component, Document: document})
	}
	return sbom.Image(d)
}

// embedded is the bill of materials that lies in a package, or nil.
func (c *composer) embedded(p *scanned) []byte {
	version := string(p.Info.Version)
	for _, file := range []string{sbom.PackagePath(p.Info.Name, version), sbom.PackagePath(p.Info.Name, string(p.Info.Version.Base())), "var/lib/db/sbom/" + p.Info.Name + ".spdx.json"} {
		n, found := c.tree.Stat(file)
		if !found || n.Owner != p.Info.Name {
			continue
		}
		if data, err := c.tree.ReadFile(file); err == nil {
			return data
		}
	}
	return nil
}

// osRelease reads what the image's base layout says of itself (os-release(5)).
func (c *composer) osRelease() sbom.OS {
	var system sbom.OS
	for _, file := range []string{"etc/os-release", "usr/lib/os-release"} {
		data, err := c.tree.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			value = strings.Trim(value, `"'`)
			switch key {
			case "ID":
				system.ID = value
			case "NAME":
				system.Name = value
			case "VERSION_ID":
				system.Version = value
			}
		}
		break
	}
	return system
}
