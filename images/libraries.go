package images

import (
	"bufio"
	"bytes"
	"debug/elf"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/ldcache"
)

// library is what the loader must know of a shared library.
type library struct {
	Soname  string
	Machine elf.Machine
	Class   elf.Class
	Data    elf.Data
}

// mayBeLibrary tells whether ldconfig would look at a file of this name.
func mayBeLibrary(name string) bool {
	base := path.Base(name)
	return (strings.HasPrefix(base, "lib") || strings.HasPrefix(base, "ld-") || strings.HasPrefix(base, "ld.so") || strings.HasPrefix(base, "ld64.so")) && strings.Contains(base, ".so")
}

// readLibrary looks into a file; nil where it is no shared library.
func readLibrary(r io.ReaderAt) *library {
	f, err := elf.NewFile(r)
	if err != nil || f.Type != elf.ET_DYN {
		return nil
	}
	l := &library{Machine: f.Machine, Class: f.Class, Data: f.Data}
	if names, err := f.DynString(elf.DT_SONAME); err == nil && len(names) > 0 && !strings.ContainsAny(names[0], "/\x00\n") {
		l.Soname = names[0]
	}
	return l
}

// libraries does what ldconfig does: it makes the links that libraries are found by, and
// writes the cache of glibc's loader where the image has its configuration; and where
// musl's loader looks, when packages need more than its default.
func (c *composer) libraries() error {
	if _, err := c.tree.LibraryPath(string(c.o.Arch)); err != nil {
		return err
	}
	const conf = "etc/ld.so.conf"
	if n, there := c.tree.Stat(conf); !there || !n.Mode.IsRegular() {
		return nil
	}
	known := map[string]*library{} // by the digest of the file
	for _, p := range slices.Concat(c.o.Base.scanned(), c.packages) {
		for i, l := range p.libraries {
			known[p.Entries[i].Sum] = l
		}
	}
	var dirs []string
	if err := c.libraryFolders(conf, &dirs, 0); err != nil {
		return err
	}
	dirs = append(dirs, "/lib", "/usr/lib", "/lib64", "/usr/lib64")
	var machine ldcache.Machine
	var entries []ldcache.Entry
	seen := map[string]bool{} // folders, by where they are
	for _, dir := range dirs {
		n, there := c.tree.Stat(dir)
		if !there || !n.Mode.IsDir() || seen[n.Path] {
			continue
		}
		seen[n.Path] = true
		for _, in := range append([]libraryFolder{{dir: dir, place: n.Path}}, c.subfolders(dir)...) {
			found, m, err := c.librariesIn(in, known)
			if err != nil {
				return err
			}
			if len(found) > 0 && machine == (ldcache.Machine{}) {
				machine = m
			}
			entries = append(entries, found...)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	data, err := ldcache.Marshal(machine, entries)
	if err != nil {
		return err
	}
	return c.tree.WriteFile("etc/ld.so.cache", data, 0o644)
}

// libraryFolder is a folder that the loader looks into.
type libraryFolder struct {
	dir, place string // as it is written in the cache, and where it is
	subfolder  string // the one of glibc-hwcaps that it is; else ""
}

// subfolders are those of dir that are for some processors: dir/glibc-hwcaps/NAME.
func (c *composer) subfolders(dir string) []libraryFolder {
	within := path.Join(dir, "glibc-hwcaps")
	n, there := c.tree.Stat(within)
	if !there || !n.Mode.IsDir() {
		return nil
	}
	var folders, links []libraryFolder
	for _, sub := range c.tree.Below(n.Path) {
		if path.Dir(sub.Path) != n.Path {
			continue
		}
		name := path.Base(sub.Path)
		if to, there := c.tree.Stat(sub.Path); there && to.Mode.IsDir() {
			found := libraryFolder{path.Join(within, name), to.Path, name}
			if sub.Mode.IsDir() {
				folders = append(folders, found)
			} else {
				links = append(links, found)
			}
		}
	}
	// A link counts where its folder does not.
	all := folders
	for _, l := range links {
		if !slices.ContainsFunc(all, func(f libraryFolder) bool { return f.place == l.place }) {
			all = append(all, l)
		}
	}
	return all
}

// maxConfigurations is how deep files of ld.so.conf may include each other.
const maxConfigurations = 8

// libraryFolders reads a file like /etc/ld.so.conf: folders, one a line, and
// "include PATTERN" for further files.
func (c *composer) libraryFolders(file string, dirs *[]string, depth int) error {
	data, err := c.tree.ReadFile(file)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t:,", r) })
		if len(words) == 0 || words[0] == "hwcap" {
			continue
		}
		if words[0] != "include" {
			for _, dir := range words {
				if dir, _, _ = strings.Cut(dir, "="); path.IsAbs(dir) && !slices.Contains(*dirs, path.Clean(dir)) {
					*dirs = append(*dirs, path.Clean(dir))
				}
			}
			continue
		}
		for _, pattern := range words[1:] {
			if !path.IsAbs(pattern) {
				pattern = path.Join("/", path.Dir(file), pattern)
			}
			for _, n := range c.tree.Below(path.Dir(pattern)) {
				if matched, _ := path.Match(path.Base(pattern), path.Base(n.Path)); !matched || depth == maxConfigurations {
					continue
				}
				// Only what stands directly in the folder, wherever links lead to it.
				if at, there := c.tree.Stat(path.Join(path.Dir(pattern), path.Base(n.Path))); there && at.Mode.IsRegular() {
					if err := c.libraryFolders(at.Path, dirs, depth+1); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// librariesIn gives the libraries directly in a folder under the names that they are
// found by. Of several with one such name the file counts before a link, and then the
// greater version; where the name itself is no path yet, it becomes a link, but not in a
// subfolder of glibc-hwcaps: there the file is found as it is called.
func (c *composer) librariesIn(in libraryFolder, known map[string]*library) ([]ldcache.Entry, ldcache.Machine, error) {
	type candidate struct {
		name string
		link bool
	}
	best := map[string]candidate{}
	var machine ldcache.Machine
	for _, n := range c.tree.Below(in.place) {
		if path.Dir(n.Path) != in.place || !mayBeLibrary(n.Path) {
			continue
		}
		to, there := c.tree.Stat(n.Path)
		if !there || !to.Mode.IsRegular() {
			continue
		}
		l := known[to.Sum]
		if l == nil {
			continue
		}
		m, ok := ldcache.MachineOf(l.Machine, l.Class, l.Data)
		if !ok || !ofArch(l, c.o.Arch.GoArch()) {
			continue
		}
		machine = m
		name, link := path.Base(n.Path), n.Mode.Type() == fs.ModeSymlink
		soname := l.Soname
		if soname == "" || link && strings.HasSuffix(name, ".so") {
			soname = name // without a name of its own, or a link for who links programs
		}
		old, twice := best[soname]
		if !twice || old.link && !link || old.link == link && ldcache.Compare(old.name, name) < 0 {
			best[soname] = candidate{name, link}
		}
	}
	var entries []ldcache.Entry
	for soname, of := range best {
		if in.subfolder != "" {
			entries = append(entries, ldcache.Entry{Name: soname, Path: path.Join(in.dir, of.name), Subfolder: in.subfolder})
			continue
		}
		if _, there := c.tree.Lstat(in.place + "/" + soname); !there {
			if err := c.tree.Symlink(of.name, in.place+"/"+soname); err != nil {
				return nil, machine, err
			}
		}
		entries = append(entries, ldcache.Entry{Name: soname, Path: path.Join(in.dir, soname)})
	}
	slices.SortFunc(entries, func(a, b ldcache.Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, machine, nil
}

// ofArch tells whether a library is for the image's architecture: the cache is for one.
func ofArch(l *library, arch string) bool {
	switch arch {
	case "amd64":
		return l.Machine == elf.EM_X86_64
	case "arm64":
		return l.Machine == elf.EM_AARCH64
	case "386":
		return l.Machine == elf.EM_386
	case "arm":
		return l.Machine == elf.EM_ARM
	case "ppc64le":
		return l.Machine == elf.EM_PPC64
	case "s390x":
		return l.Machine == elf.EM_S390
	case "riscv64":
		return l.Machine == elf.EM_RISCV
	case "loong64":
		return l.Machine == elf.EM_LOONGARCH
	}
	return false
}
