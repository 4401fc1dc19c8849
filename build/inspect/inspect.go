// Package inspect reads what a build installed and finds what the packages need
// and provide without saying so: shared libraries, commands, pkg-config modules.
// It reads trees of files and knows nothing of how they came about.
//
// The rules are melange's (its package sca), with the known false ones right:
// libraries count without the executable bit, and a version in a needed name is
// not asked for.
package inspect

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Package is one package of a build, before it is packed.
type Package struct {
	Name              string
	Version           apk.Version      // with the revision
	Files             fs.FS            // must be a fs.ReadLinkFS
	Depends, Provides []apk.Dependency // as its recipe declares

	// What its recipe turned off.
	NoDepends, NoProvides, NoCommands bool
}

// Finding is one dependency and the file that it comes from.
type Finding struct {
	Dependency apk.Dependency
	File       string // e.g. usr/lib/libz.so.1.3.1
	Why        string // e.g. "is linked against libcrypto.so.3"
}

// Report is what one package needs and provides, declared and found, in the order
// and form of .PKGINFO.
type Report struct {
	Depends, Provides []apk.Dependency
	// Found explains what was not declared.
	FoundDepends, FoundProvides []Finding
}

// libraryFolders are where the loader looks without being told.
var libraryFolders = []string{"lib", "usr/lib", "lib64", "usr/lib64"}

// commandFolders are where a program becomes a command.
var commandFolders = []string{"bin", "sbin", "usr/bin", "usr/sbin"}

var pkgConfigFolders = []string{"usr/lib/pkgconfig", "usr/share/pkgconfig", "usr/lib64/pkgconfig", "usr/local/lib/pkgconfig", "usr/local/share/pkgconfig"}

// Packages inspects all packages of a build together, since a link of one may lead
// to a library of another. The reports are in the order of the packages.
func Packages(packages []Package) ([]Report, error) {
	b := &build{sonames: map[string]string{}}
	scans := make([]*scan, len(packages))
	for i, p := range packages {
		scans[i] = &scan{build: b, pkg: p, vendored: map[string]bool{}}
		if err := scans[i].libraryPaths(); err != nil {
			return nil, fmt.Errorf("inspect %s: %w", p.Name, err)
		}
	}
	for _, s := range scans {
		if err := s.walk(); err != nil {
			return nil, fmt.Errorf("inspect %s: %w", s.pkg.Name, err)
		}
	}
	reports := make([]Report, len(packages))
	for i, s := range scans {
		s.links()
		reports[i] = s.report()
	}
	return reports, nil
}

// build is what the packages of one build share.
type build struct {
	folders []string          // where the loader looks: libraryFolders and those of etc/ld.so.conf.d
	sonames map[string]string // name of a library file in those folders -> its soname
}

type link struct{ file, target string }

// scan is the inspection of one package.
type scan struct {
	*build
	pkg               Package
	depends, provides []Finding
	vendored          map[string]bool // so: names of libraries outside the loader's folders
	libraryLinks      []link
}

// isName tells whether a name found in a file can be asked for in a package: what
// holds a blank or the sign of a comparison can't, whoever calls a program so.
func isName(name string) bool {
	d, err := apk.ParseDependency(name)
	return err == nil && d == apk.Dependency{Name: name}
}

func (s *scan) need(file, why, name string) {
	if !isName(name) {
		return
	}
	s.depends = append(s.depends, Finding{apk.Dependency{Name: name}, file, why})
}

func (s *scan) provide(file, why, name string, version apk.Version) {
	if !isName(name) {
		return
	}
	s.provides = append(s.provides, Finding{apk.Dependency{Name: name, Op: apk.Equal, Version: version}, file, why})
}

// libraryPaths reads the folders that the package tells the loader of.
func (s *scan) libraryPaths() error {
	if len(s.folders) == 0 {
		s.folders = slices.Clone(libraryFolders)
	}
	names, err := fs.Glob(s.pkg.Files, "etc/ld.so.conf.d/*.conf")
	if err != nil {
		return err
	}
	for _, name := range names {
		err := eachLine(s.pkg.Files, name, func(line string) {
			if strings.HasPrefix(line, "/") {
				s.folders = append(s.folders, strings.TrimPrefix(path.Clean(line), "/"))
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) walk() error {
	return fs.WalkDir(s.pkg.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch d.Type() {
		case 0:
			return s.file(name, d)
		case fs.ModeSymlink:
			if strings.Contains(path.Base(name), ".so") {
				target, err := fs.ReadLink(s.pkg.Files, name)
				if err != nil {
					return err
				}
				s.libraryLinks = append(s.libraryLinks, link{name, target})
			}
		}
		return nil
	})
}

func (s *scan) file(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	folder, base := path.Split(name)
	folder = strings.TrimSuffix(folder, "/")
	if slices.Contains(commandFolders, folder) && info.Mode()&0o555 == 0o555 {
		s.provide(name, "is a command", "cmd:"+base, s.pkg.Version)
	}
	if strings.HasSuffix(base, ".pc") && slices.Contains(pkgConfigFolders, folder) {
		return s.pkgConfig(name)
	}
	return s.elf(name)
}

// elf reads what a program or library is linked against, and its own soname.
func (s *scan) elf(name string) error {
	f, err := s.pkg.Files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	content, ok := f.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("internal error: %s can't be read at a place", name)
	}
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := content.ReadAt(magic, 0); err != nil || string(magic) != elf.ELFMAG {
		return nil
	}
	e, err := elf.NewFile(content)
	if err != nil {
		return nil // not for the loader: an object of another kind, or cut short
	}
	defer e.Close()
	if e.Type != elf.ET_DYN && e.Type != elf.ET_EXEC {
		return nil
	}
	interpreter := interpreterOf(e)
	if interpreter != "" {
		loader := path.Base(interpreter)
		if rest, found := strings.CutPrefix(loader, "ld-musl"); found {
			loader = "libc.musl" + rest
		}
		s.need(name, "is run by "+interpreter, "so:"+loader)
	}
	needed, err := e.DynString(elf.DT_NEEDED)
	if err != nil {
		return nil // no dynamic section that can be read
	}
	for _, library := range needed {
		if strings.Contains(library, ".so.") {
			s.need(name, "is linked against "+library, "so:"+library)
		}
	}
	base := path.Base(name)
	if interpreter != "" && !strings.Contains(base, ".so.") && !strings.HasSuffix(base, ".so") {
		return nil
	}
	sonames, err := e.DynString(elf.DT_SONAME)
	if err != nil {
		return nil
	}
	for _, soname := range sonames {
		if !slices.Contains(s.folders, path.Dir(name)) {
			s.vendored["so:"+soname] = true
			continue
		}
		s.sonames[base] = soname
		s.provide(name, "is a library", "so:"+soname, sonameVersion(soname))
	}
	return nil
}

func interpreterOf(e *elf.File) string {
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			text := make([]byte, min(p.Filesz, 4096))
			if n, err := p.ReadAt(text, 0); err == nil || errors.Is(err, io.EOF) {
				return strings.TrimRight(string(text[:n]), "\x00")
			}
		}
	}
	return ""
}

var digitsAndDots = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*$`)

// sonameVersion is what stands behind ".so." if it is a version, else 0.
func sonameVersion(soname string) apk.Version {
	if _, version, found := strings.Cut(soname, ".so."); found && digitsAndDots.MatchString(version) {
		return apk.Version(version)
	}
	return "0"
}

// links makes a link to a library, such as libz.so in zlib-dev, need the library.
func (s *scan) links() {
	for _, l := range s.libraryLinks {
		if soname, found := s.sonames[path.Base(l.target)]; found {
			s.need(l.file, "links to "+l.target, "so:"+soname)
		}
	}
}

// pkgConfig reads the modules that a pkg-config file requires. What it provides
// bears the package's version: the file's own is often no version apk can read.
func (s *scan) pkgConfig(name string) error {
	s.provide(name, "is a pkg-config module", "pc:"+strings.TrimSuffix(path.Base(name), ".pc"), s.pkg.Version)
	return eachLine(s.pkg.Files, name, func(line string) {
		key, value, found := strings.Cut(line, ":")
		if !found || !slices.Contains([]string{"Requires", "Requires.private", "Requires.internal"}, strings.TrimSpace(key)) {
			return
		}
		for _, module := range pkgConfigModules(value) {
			s.need(name, "requires "+module, "pc:"+module)
		}
	})
}

// pkgConfigModules are the modules of a Requires line: "a, b >= 1.2 c".
func pkgConfigModules(text string) []string {
	var modules []string
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
	for i := 0; i < len(words); i++ {
		if strings.ContainsAny(words[i][:1], "<>=!") {
			if strings.Trim(words[i], "<>=!") == "" {
				i++ // the version is the next word
			}
			continue
		}
		name, constraint, constrained := cutAny(words[i], "<>=!")
		if constrained && strings.Trim(constraint, "<>=!") == "" {
			i++ // "c>= 2"
		}
		if strings.ContainsAny(name, "${}") {
			continue
		}
		modules = append(modules, name)
	}
	return modules
}

// cutAny cuts a text before the first of the characters.
func cutAny(text, chars string) (before, after string, found bool) {
	if i := strings.IndexAny(text, chars); i >= 0 {
		return text[:i], text[i:], true
	}
	return text, "", false
}

// report joins what was declared and found, by melange's rules: options first,
// then nothing needed that the package provides itself or keeps for its own use.
func (s *scan) report() Report {
	depends, provides := s.depends, s.provides
	if s.pkg.NoCommands {
		isCommand := func(f Finding) bool { return strings.HasPrefix(f.Dependency.Name, "cmd:") }
		depends, provides = slices.DeleteFunc(depends, isCommand), slices.DeleteFunc(provides, isCommand)
	}
	if s.pkg.NoDepends {
		depends = nil
	}
	if s.pkg.NoProvides {
		provides = nil
	}
	own := map[string]bool{}
	for _, f := range provides {
		own[f.Dependency.Name] = true
	}
	for _, d := range s.pkg.Provides {
		own[d.Name] = true
	}
	depends = slices.DeleteFunc(depends, func(f Finding) bool { return s.vendored[f.Dependency.Name] || own[f.Dependency.Name] })

	r := Report{FoundDepends: depends, FoundProvides: provides}
	r.Depends = joined(slices.DeleteFunc(slices.Clone(s.pkg.Depends), func(d apk.Dependency) bool {
		return d.Op == apk.Any && !d.Conflict && own[d.Name]
	}), depends)
	r.Provides = joined(s.pkg.Provides, provides)
	return r
}

// joined is declared and found together, sorted byte by byte, each once.
func joined(declared []apk.Dependency, found []Finding) []apk.Dependency {
	all := slices.Clone(declared)
	for _, f := range found {
		all = append(all, f.Dependency)
	}
	slices.SortFunc(all, func(a, b apk.Dependency) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(all)
}

// eachLine gives the lines of a text file that is at most 1 MiB long.
func eachLine(files fs.FS, name string, visit func(line string)) error {
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		visit(strings.TrimSpace(lines.Text()))
	}
	return lines.Err()
}
