package environment

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/repo"
)

// writeDatabase writes what is installed, for tests that ask apk, and gives the
// paths that it wrote.
func writeDatabase(root *rootfs.Tree, packages []*rootfs.Package, lock repo.Lock, o Options) ([]string, error) {
	installed := make([]*apk.Installed, len(packages))
	for i, p := range packages {
		record, err := installedRecord(root, p, lock[i].Entry)
		if err != nil {
			return nil, err
		}
		installed[i] = record
	}
	var database bytes.Buffer
	if err := apk.WriteInstalled(&database, installed); err != nil {
		return nil, err
	}
	var world []string
	for _, r := range o.World {
		world = append(world, r.String())
	}
	slices.Sort(world)
	files := []struct{ path, text string }{
		{"etc/apk/arch", string(o.Arch) + "\n"},
		{"etc/apk/world", strings.Join(slices.Compact(world), "\n") + "\n"},
		{"etc/apk/repositories", ""},
		{"usr/lib/apk/db/installed", database.String()},
		{"usr/lib/apk/db/lock", ""},
		{"usr/lib/apk/db/triggers", ""},
	}
	var written []string
	for _, f := range files {
		if err := root.WriteFile(f.path, []byte(f.text), 0o644); err != nil {
			return nil, err
		}
		written = append(written, f.path)
	}
	// apk-tools 2 looks below lib, which is usr/lib where the folders are merged.
	if n, found := root.Stat("lib"); !found || n.Path != "usr/lib" {
		if _, there := root.Lstat("lib/apk"); !there {
			if err := root.Symlink("../usr/lib/apk", "lib/apk"); err != nil {
				return nil, err
			}
			written = append(written, "lib/apk")
		}
	}
	return written, nil
}

// installedRecord is what apk knows of an installed package: all but the files that
// another package took over.
func installedRecord(root *rootfs.Tree, p *rootfs.Package, entry *apk.Entry) (*apk.Installed, error) {
	lost := map[string]bool{}
	for _, d := range root.Deviations(p) {
		lost[d.Path] = d.Lost
	}
	record := &apk.Installed{Entry: *entry}
	for i := range p.Entries {
		e := &p.Entries[i]
		if lost[e.Path] {
			continue
		}
		f := apk.File{Path: e.Path, Mode: e.Mode &^ fs.ModeType}
		switch {
		case e.Mode.IsDir():
			f.Type = apk.TypeDir
		case e.Mode.Type() == fs.ModeSymlink:
			f.Type, f.SHA1 = apk.TypeSymlink, sha1.Sum([]byte(e.Target))
		default:
			sum, err := contentSum(e)
			if err != nil {
				return nil, err
			}
			f.SHA1 = sum
		}
		record.Files = append(record.Files, f)
	}
	return record, nil
}

// contentSum is the SHA-1 of a file, which is what apk's database asks for.
func contentSum(e *rootfs.Entry) (sum apk.Checksum, err error) {
	content, err := e.Content.Open()
	if err != nil {
		return sum, err
	}
	defer content.Close()
	var h hash.Hash = sha1.New()
	if _, err := io.Copy(h, content); err != nil {
		return sum, fmt.Errorf("read /%s: %w", e.Path, err)
	}
	return apk.Checksum(h.Sum(nil)), nil
}
