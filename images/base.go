package images

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// Base is an image that packages are put on top of: its layers stay as they are, below
// those of the packages, its database is extended, its configuration kept. Reading it,
// and putting its layers into the store, is the caller's affair. Its methods know nil,
// which is no base at all.
type Base struct {
	Digest string // of its manifest
	Config v1.ConfigFile
	Layers []Layer // their bytes lie in the store
	// Tree is what the layers hold, laid over each other. A node's owner is the package
	// that has it in the database. Content that is not at hand is read out of the layers.
	Tree     *rootfs.Tree
	Packages []*apk.Entry      // of the database
	Database string            // the folder that it lies in, e.g. usr/lib/apk/db
	World    []string          // what apk was asked for
	Sonames  map[string]string // of shared libraries, by path
	Programs map[string]string // known shells and package managers, by path
	SHA1     map[string]string // of files, by path, in hexadecimal

	packages []*scanned
	files    *baseFiles
}

// baseOwner owns what no package of a base has. It can be no package's name.
const baseOwner = "the base image"

// Prepare makes a base ready to be composed on, for an architecture.
func (b *Base) Prepare(st *store.Store, arch apk.Arch) error {
	b.packages = nil
	b.files = &baseFiles{st: st, layers: b.Layers, sizes: map[string]int64{}}
	byName := map[string]*scanned{}
	add := func(name string, info *apk.Info) *scanned {
		p := &scanned{Package: rootfs.Package{Info: info}, libraries: map[int]*library{}, Marks: map[string]string{}}
		byName[name] = p
		b.packages = append(b.packages, p)
		return p
	}
	for _, e := range b.Packages {
		if byName[e.Name] != nil {
			return fmt.Errorf("the base image has two packages %s", e.Name)
		}
		p := add(e.Name, &e.Info)
		p.Checksum, p.fileSize = e.Checksum, e.FileSize
	}
	rest := add(baseOwner, &apk.Info{Name: baseOwner})
	first := map[*rootfs.Inode]struct {
		of   *scanned
		path string
	}{}
	for n := range b.Tree.All() {
		p := byName[n.Owner]
		if p == nil {
			p = rest
		}
		e := rootfs.Entry{Path: n.Path, Inode: *n.Inode}
		if n.Mode.IsRegular() && n.Content == nil {
			e.Content = b.files.content(n.Sum, n.Size)
		}
		if link, twice := first[n.Inode]; twice && n.Mode.IsRegular() {
			// A hard link is of the package that has the file.
			p, e = link.of, rootfs.Entry{Path: n.Path, Inode: rootfs.Inode{Mode: n.Mode}, Hardlink: link.path}
		} else {
			first[n.Inode] = struct {
				of   *scanned
				path string
			}{p, n.Path}
		}
		if soname := b.Sonames[n.Path]; soname != "" && e.Hardlink == "" {
			p.libraries[len(p.Entries)] = libraryOf(arch, soname)
		}
		if program := b.Programs[n.Path]; program != "" {
			p.Marks[n.Sum] = program
		}
		sum, _ := sha1Sum(b.SHA1[n.Path])
		p.Entries, p.sums = append(p.Entries, e), append(p.sums, sum)
	}
	return nil
}

// libraryOf is a library of an architecture, of which nothing but its name was read.
func libraryOf(arch apk.Arch, soname string) *library {
	l := &library{Soname: soname, Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB}
	for _, machine := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64, elf.EM_386, elf.EM_ARM, elf.EM_PPC64, elf.EM_S390, elf.EM_RISCV, elf.EM_LOONGARCH} {
		if l.Machine = machine; ofArch(l, arch.GoArch()) {
			break
		}
	}
	if l.Machine == elf.EM_S390 {
		l.Data = elf.ELFDATA2MSB
	}
	return l
}

// scanned are the packages of the base, and what none of them has.
func (b *Base) scanned() []*scanned {
	if b == nil {
		return nil
	}
	return b.packages
}

// named are the packages of the base.
func (b *Base) named() []*scanned {
	return slices.DeleteFunc(slices.Clone(b.scanned()), func(p *scanned) bool { return p.Info.Name == baseOwner })
}

// unpack makes the content of all files ready to be read, and release gives it back.
func (b *Base) unpack(ctx context.Context) error {
	if b == nil {
		return nil
	}
	return b.files.unpack(ctx)
}

func (b *Base) release() {
	if b != nil {
		b.files.release()
	}
}

// failed is why its content could not be had.
func (b *Base) failed() error {
	if b == nil {
		return nil
	}
	b.files.mu.Lock()
	defer b.files.mu.Unlock()
	return b.files.err
}

// sum is the SHA-1 of a regular file that is as the base has it, where it is known.
func (b *Base) sum(n *rootfs.Node) (apk.Checksum, bool) {
	if b == nil || n.Owner != baseOwner || n.Changed() || !n.Mode.IsRegular() {
		return apk.Checksum{}, false
	}
	return sha1Sum(b.SHA1[n.Path])
}

// sha1Sum reads a SHA-1 in hexadecimal.
func sha1Sum(text string) (sum apk.Checksum, known bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(sum) {
		return sum, false
	}
	copy(sum[:], raw)
	return sum, true
}

func (b *Base) layers() []Layer {
	if b == nil {
		return nil
	}
	return slices.Clone(b.Layers)
}

// database is the folder that apk's database lies in, with a slash at its end.
func (b *Base) database() string {
	if b == nil || b.Database == "" {
		return databaseDir
	}
	return b.Database + "/"
}

func (b *Base) world() []string {
	if b == nil {
		return nil
	}
	return slices.Clone(b.World)
}

// extend puts the records of new packages behind those that the base has in a file of
// its database.
func (b *Base) extend(name string, records []byte) ([]byte, error) {
	if b == nil {
		return records, nil
	}
	before, err := b.Tree.ReadFile(b.database() + name)
	if errors.Is(err, fs.ErrNotExist) {
		return records, nil
	}
	if err != nil {
		return nil, fmt.Errorf("database of the base image: %w", err)
	}
	switch name {
	case "scripts.tar":
		// An archive ends with blocks of zeros; the next one goes in their place.
		const block = 512
		for len(before) >= block && len(bytes.Trim(before[len(before)-block:], "\x00")) == 0 {
			before = before[:len(before)-block]
		}
	case "installed":
		if len(before) > 0 && !bytes.HasSuffix(before, []byte("\n\n")) {
			before = append(bytes.TrimRight(before, "\n"), "\n\n"...)
		}
	}
	return slices.Concat(before, records), nil
}

// configure takes the configuration of the base over: what runs, and how, is the base's.
func (b *Base) configure(file *v1.ConfigFile) {
	labels := file.Config.Labels
	file.Config = *b.Config.Config.DeepCopy()
	for key, value := range labels {
		if file.Config.Labels == nil {
			file.Config.Labels = map[string]string{}
		}
		file.Config.Labels[key] = value
	}
	file.RootFS.DiffIDs = slices.Clone(b.Config.RootFS.DiffIDs)
	file.History = slices.Clone(b.Config.History)
}
