package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/sbom"
)

// installed writes the three files of apk's database that tell of packages: what is
// installed (the format is that of apk-tools' src/database.c), the scripts, which
// apk runs when it removes or upgrades a package, and the folders that triggers watch.
func (c *composer) installed() (database, scripts, triggers []byte, err error) {
	var db, trigger bytes.Buffer
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, p := range c.packages {
		c.record(&db, p)
		for _, s := range p.Scripts {
			h := &tar.Header{
				Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s.%s%s", p.Info.FullName(), p.Checksum, s.Name), Mode: 0o755, Size: int64(len(s.Content)),
				Uname: "root", Gname: "root", ModTime: time.Unix(c.tree.Epoch, 0),
			}
			if err := w.WriteHeader(h); err != nil {
				return nil, nil, nil, err
			}
			if _, err := w.Write(s.Content); err != nil {
				return nil, nil, nil, err
			}
		}
		if len(p.Info.Triggers) > 0 {
			fmt.Fprintf(&trigger, "%s %s\n", p.Checksum, strings.Join(p.Info.Triggers, " "))
		}
	}
	if err := w.Close(); err != nil {
		return nil, nil, nil, err
	}
	return db.Bytes(), archive.Bytes(), trigger.Bytes(), nil
}

// record writes what apk knows of one installed package, and the files that are its own.
func (c *composer) record(b *bytes.Buffer, p *scanned) {
	field := func(key byte, value string) {
		if value != "" {
			fmt.Fprintf(b, "%c:%s\n", key, strings.ReplaceAll(value, "\n", " "))
		}
	}
	number := func(key byte, value int64) {
		if value != 0 {
			fmt.Fprintf(b, "%c:%d\n", key, value)
		}
	}
	list := func(key byte, dependencies []apk.Dependency) {
		words := make([]string, len(dependencies))
		for i, d := range dependencies {
			words[i] = d.String()
		}
		field(key, strings.Join(words, " "))
	}
	i := p.Info
	field('C', p.Checksum.String())
	field('P', i.Name)
	field('V', string(i.Version))
	field('A', string(i.Arch))
	number('S', max(p.fileSize, 1))
	number('I', max(i.Size, 1))
	field('T', i.Description)
	field('U', i.URL)
	field('L', strings.Join(i.Licenses, " AND "))
	field('o', i.Origin)
	field('m', i.Maintainer)
	number('t', i.BuildDate)
	field('c', i.Commit)
	number('k', i.ProviderPriority)
	list('D', i.Depends)
	list('p', i.Provides)
	list('i', i.InstallIf)
	list('r', i.Replaces)
	number('q', i.ReplacesPriority)
	c.files(b, p)
	b.WriteByte('\n')
}

// files writes the folders of a package and, in each, the files that the tree has from it.
func (c *composer) files(b *bytes.Buffer, p *scanned) {
	type folder struct {
		entry *rootfs.Entry
		files []int
	}
	folders := map[string]*folder{}
	at := func(dir string) *folder {
		if folders[dir] == nil {
			folders[dir] = &folder{}
		}
		return folders[dir]
	}
	lost := map[string]bool{}
	for _, d := range c.tree.Deviations(&p.Package) {
		lost[d.Path] = d.Lost
	}
	for i := range p.Entries {
		e := &p.Entries[i]
		dir := path.Dir(e.Path)
		if dir == "." {
			dir = ""
		}
		switch {
		case e.Mode.IsDir():
			at(e.Path).entry = e
		case !lost[e.Path]:
			f := at(dir)
			f.files = append(f.files, i)
		}
	}
	var dirs []string
	for dir := range folders {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		f := folders[dir]
		fmt.Fprintf(b, "F:%s\n", dir)
		if e := f.entry; e != nil && (e.UID != 0 || e.GID != 0 || e.Mode != fs.ModeDir|0o755) {
			fmt.Fprintf(b, "M:%d:%d:%o\n", e.UID, e.GID, rootfs.UnixMode(e.Mode))
		}
		slices.SortFunc(f.files, func(x, y int) int { return strings.Compare(p.Entries[x].Path, p.Entries[y].Path) })
		for _, i := range f.files {
			e, sum := &p.Entries[i], p.sums[i]
			if e.Hardlink != "" {
				// apk knows a hard link as the file that it is.
				for j := range p.Entries[:i] {
					if p.Entries[j].Path == e.Hardlink {
						e, sum = &p.Entries[j], p.sums[j]
						break
					}
				}
			}
			fmt.Fprintf(b, "R:%s\n", path.Base(p.Entries[i].Path))
			usual := fs.FileMode(0o644)
			if e.Mode.Type() == fs.ModeSymlink {
				usual = fs.ModeSymlink | 0o777
			}
			if e.UID != 0 || e.GID != 0 || e.Mode != usual {
				fmt.Fprintf(b, "a:%d:%d:%o\n", e.UID, e.GID, rootfs.UnixMode(e.Mode))
			}
			if sum != "" {
				fmt.Fprintf(b, "Z:%s\n", sum)
			}
		}
	}
}

// sbom writes the image's bill of materials: every package is in it, with what the
// package's own document says of its sources where it has one.
func (c *composer) sbom(digest string, layers []Layer) ([]byte, error) {
	d := sbom.ImageDocument{Name: c.spec.Name(), Digest: digest, Arch: c.o.Arch.GoArch(), OS: c.osRelease(), Created: c.tree.Epoch}
	d.Repository, d.Commit, _ = strings.Cut(c.spec.VCSURL, "@")
	for _, l := range layers {
		d.Layers = append(d.Layers, sbom.Layer{Digest: l.Digest, MediaType: string(layerMediaType)})
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
