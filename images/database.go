package images

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
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
		text, err := c.o.Base.extend(f.name, data.Bytes())
		if err != nil {
			return err
		}
		if err := c.tree.WriteFile(c.o.Base.database()+f.name, text, 0o644); err != nil {
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
	var lost map[string]bool
	for _, d := range c.tree.Deviations(&p.Package) {
		if d.Lost && !p.own { // nothing takes its files
			if lost == nil {
				lost = map[string]bool{}
			}
			lost[d.Path] = true
		}
	}
	at := map[string]int{} // what hard links may lead to
	if slices.ContainsFunc(p.Entries, func(e rootfs.Entry) bool { return e.Hardlink != "" }) {
		for i := range p.Entries {
			at[p.Entries[i].Path] = i
		}
	}
	record.Files = make([]apk.File, 0, len(p.Entries))
	for i := range p.Entries {
		e := &p.Entries[i]
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

// sbom writes the image's bill of materials, as SPDX and as CycloneDX: every package is
// in it, with its files as they stand in the image, and with what the package's own
// document says of its sources where it has one.
func (c *composer) sbom(digest string, layers []Layer) (spdx, cyclone []byte, err error) {
	d := sbom.ImageDocument{Name: c.spec.Name(), Digest: digest, Arch: c.o.Arch.GoArch(), OS: c.osRelease(), Created: c.tree.Epoch}
	d.Repository, d.Commit, _ = strings.Cut(c.spec.VCSURL, "@")
	for _, l := range layers {
		d.Layers = append(d.Layers, sbom.Layer{Digest: l.Digest, MediaType: string(l.MediaType)})
	}
	files, err := c.files()
	if err != nil {
		return nil, nil, err
	}
	needs := c.needs()
	for _, p := range slices.Concat(c.o.Base.named(), c.packages) {
		i := p.Info
		// Not the digest of the file: that is another one when another key signed it.
		component := sbom.Component{
			Name: i.Name, Version: string(i.Version), Arch: string(i.Arch), Distribution: d.OS.ID, Origin: i.Origin, Summary: i.Description, Homepage: i.URL,
			Licenses: i.Licenses, Checksums: []sbom.Checksum{{Algorithm: "SHA1", Value: fmt.Sprintf("%x", p.Checksum[:])}},
		}
		text := c.embedded(p)
		document := sbom.ReadEmbedded(text)
		switch {
		case text != nil && !document.IsJSON():
			c.warnings = append(c.warnings, Warning{Package: i.FullName(), Text: "the SPDX document in the package is not JSON"})
		case p.own:
			component.Sources = []sbom.Source{{Name: path.Base(c.spec.Path), URL: d.Repository, Commit: d.Commit}}
		}
		q := sbom.ImagePackage{Component: component, Document: document, Files: files[i.Name], Needs: needs[i.Name]}
		if !q.HasSource() {
			// What the index knows: the recipe's name, and where its tree stood.
			q.Sources = []sbom.Source{{Name: cmp.Or(i.Origin, i.Name), Version: string(i.Version.Base()), Commit: i.Commit}}
		}
		d.Packages = append(d.Packages, q)
	}
	if spdx, err = sbom.Image(d); err != nil {
		return nil, nil, err
	}
	cyclone, err = sbom.ImageCycloneDX(d)
	return spdx, cyclone, err
}

// files are the paths of each package as they stand in the image, by its name.
func (c *composer) files() (map[string][]sbom.File, error) {
	packages := slices.Concat(c.o.Base.scanned(), c.packages)
	sums := make(map[*rootfs.Inode]apk.Checksum, c.tree.Len())
	for _, p := range packages {
		for i := range p.Entries {
			if e := &p.Entries[i]; e.Sum != "" {
				sums[&e.Inode] = p.sums[i]
			}
		}
	}
	// Of a file that was given another mode or owner the content is still the same.
	bySHA256 := sync.OnceValue(func() map[string]apk.Checksum {
		sums := map[string]apk.Checksum{}
		for _, p := range packages {
			for i := range p.Entries {
				if e := &p.Entries[i]; e.Sum != "" {
					sums[e.Sum] = p.sums[i]
				}
			}
		}
		return sums
	})
	files := map[string][]sbom.File{}
	for n := range c.tree.All() {
		if n.Mode.IsDir() {
			continue
		}
		sum, known := sums[n.Inode]
		if _, made := n.Content.(rootfs.Bytes); !known && !made && n.Sum != "" {
			sum, known = bySHA256()[n.Sum]
		}
		switch {
		case n.Mode.Type() == fs.ModeSymlink:
			sum = sha1.Sum([]byte(n.Target))
		case !n.Mode.IsRegular():
			sum = sha1.Sum(nil)
		case !known || sum == (apk.Checksum{}): // the composer made or changed it
			var err error
			if sum, err = contentSum(n.Inode); err != nil {
				return nil, fmt.Errorf("read /%s: %w", n.Path, err)
			}
		}
		files[n.Owner] = append(files[n.Owner], sbom.File{Path: n.Path, Kind: rootfs.Kind(n.Mode), SHA1: sum, SHA256: n.Sum, Target: n.Target})
	}
	return files, nil
}

// needs are the packages that each package depends on, by its name.
func (c *composer) needs() map[string][]string {
	providers := map[string][]string{}
	for _, p := range slices.Concat(c.o.Base.named(), c.packages) {
		providers[p.Info.Name] = append(providers[p.Info.Name], p.Info.Name)
		for _, d := range p.Info.Provides {
			providers[d.Name] = append(providers[d.Name], p.Info.Name)
		}
	}
	needs := map[string][]string{}
	for _, p := range slices.Concat(c.o.Base.named(), c.packages) {
		for _, d := range p.Info.Depends {
			if !d.Conflict {
				needs[p.Info.Name] = append(needs[p.Info.Name], providers[d.Name]...)
			}
		}
	}
	return needs
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
