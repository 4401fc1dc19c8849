// Package inspect reads what a build installed and finds what the packages need and
// provide without saying so: shared libraries, commands and interpreters, pkg-config
// modules, the language that modules are for, kernels. It reads trees of files and knows
// nothing of how they came about.
//
// The rules are melange's (its package sca), in its order. Where they are wrong, these
// differ:
//
//   - A library counts without the executable bit.
//   - A link in the folders of commands is a command when it leads to a program of the
//     same package: whoever installs it can run that.
//   - A link in the loader's folders to a library elsewhere makes it one that the loader
//     finds, if it is called by the soname.
//   - A library that is needed by a name without a version (libx.so) is asked for where a
//     package of the build, or of its environment, provides that name; else nobody does.
//   - Gems for a Ruby of any patch release count, and modules for each Python there is.
//   - A script for an interpreter that stands in no folder of commands asks for no command;
//     env's -S, and variables it sets, are understood.
//   - What can't stand in a dependency (a blank, an operator) is no name.
//   - A dependency on a library of a certain build or a later one (so-ver:NAME>=VERSION),
//     where these are asked for, keeps its version; of a library of the same build it is
//     that of the build.
package inspect

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"path"
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

	// LibraryVersion gives the version of the package that a library of the environment is
	// of, by its soname, "" where that is not known. Where the function is given, the
	// package depends on what it is linked against in these versions or later ones, too.
	LibraryVersion func(soname string) apk.Version
}

// Finding is one dependency and the file that it comes from.
type Finding struct {
	Dependency apk.Dependency
	File       string // e.g. usr/lib/libz.so.1.3.1
	Why        string // e.g. "is linked against libcrypto.so.3"
	// Left says why a package does not need or provide it all the same; "" where it does.
	Left string
}

// Report is what one package needs and provides, declared and found, in the order
// and form of .PKGINFO.
type Report struct {
	Depends, Provides []apk.Dependency
	// Found explains what was not declared.
	FoundDepends, FoundProvides []Finding
	// Vendored is what the package keeps for its own use. It decides nothing.
	Vendored []apk.Dependency
	// Left is what was found and neither needed nor provided, with the reason.
	Left []Finding
}

// libraryFolders are where the loader looks without being told.
var libraryFolders = []string{"lib", "usr/lib", "lib64", "usr/lib64"}

// Packages inspects all packages of a build together, since a link of one may lead
// to a library of another. Known tells whether a package of the build's environment
// provides a name; nil knows none. The reports are in the order of the packages.
func Packages(packages []Package, known func(name string) bool) ([]Report, error) {
	if known == nil {
		known = func(string) bool { return false }
	}
	b := &build{folders: slices.Clone(libraryFolders), sonames: map[string]string{}, known: known}
	scans := make([]*scan, len(packages))
	each := func(do func(s *scan) error) error {
		for _, s := range scans {
			if err := do(s); err != nil {
				return fmt.Errorf("inspect %s: %w", s.pkg.Name, err)
			}
		}
		return nil
	}
	for i, p := range packages {
		scans[i] = &scan{build: b, pkg: p, vendored: map[string]apk.Version{}, sonameOf: map[string]string{}}
	}
	for _, step := range []func(s *scan) error{
		(*scan).libraryPaths,
		(*scan).walk,
		func(s *scan) error { s.libraryLinks(); return s.commandLinks() },
	} {
		if err := each(step); err != nil {
			return nil, err
		}
	}
	reports := make([]Report, len(packages))
	for i, s := range scans {
		s.linkNeeds()
		s.versionedNeeds()
		reports[i] = s.report()
	}
	return reports, nil
}

// build is what the packages of one build share.
type build struct {
	folders []string          // where the loader looks: libraryFolders and those of etc/ld.so.conf.d
	sonames map[string]string // name of a library file in those folders -> its soname
	known   func(name string) bool
}

// scan is the inspection of one package.
type scan struct {
	*build
	pkg                     Package
	depends, provides, left []Finding
	vendored                map[string]apk.Version // names of what lies where only the package itself looks
	sonameOf                map[string]string      // path of a library -> its soname
	links                   []link                 // all symbolic links
	linked                  []link                 // sonames that files are linked against, or links lead to
	unversioned             []link                 // libraries that are needed by names without a version
}

// isName tells whether a name found in a file can be asked for in a package: what
// holds a blank or the sign of a comparison can't, whoever calls a program so.
func isName(name string) bool {
	d, err := apk.ParseDependency(name)
	return err == nil && d == apk.Dependency{Name: name}
}

// need notes that a name is needed.
func (s *scan) need(file, why, name string) {
	if isName(name) {
		s.depends = append(s.depends, Finding{Dependency: apk.Dependency{Name: name}, File: file, Why: why})
	}
}

func (s *scan) provide(file, why, name string, version apk.Version) {
	if !isName(name) {
		return
	}
	s.provides = append(s.provides, Finding{Dependency: apk.Dependency{Name: name, Op: apk.Equal, Version: version}, File: file, Why: why})
}

// provideName notes a name without a version.
func (s *scan) provideName(file, why, name string) {
	if isName(name) {
		s.provides = append(s.provides, Finding{Dependency: apk.Dependency{Name: name}, File: file, Why: why})
	}
}

// keep notes what a package has for its own use: it is not provided, and nobody else is
// asked for it.
func (s *scan) keep(file, why, name string, version apk.Version) {
	s.vendored[name] = version
	s.leave(file, why, name, "it lies where only the package itself looks")
}

// leave notes what was found and does not count.
func (s *scan) leave(file, why, dependency, left string) {
	if d, err := apk.ParseDependency(dependency); err == nil {
		s.left = append(s.left, Finding{d, file, why, left})
	}
}

// libraryPaths reads the folders that the package tells the loader of.
func (s *scan) libraryPaths() error {
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
		s.language(name, d)
		s.documents(name)
		switch d.Type() {
		case 0:
			return s.file(name, d)
		case fs.ModeSymlink:
			target, err := fs.ReadLink(s.pkg.Files, name)
			if err != nil {
				return err
			}
			s.links = append(s.links, link{name, target})
		}
		return nil
	})
}

func (s *scan) file(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	folder, base := path.Dir(name), path.Base(name)
	if slices.Contains(commandFolders, folder) && isCommand(info) {
		s.provide(name, "is a command", "cmd:"+base, s.pkg.Version)
	}
	if strings.HasSuffix(base, ".pc") {
		return s.pkgConfig(name)
	}
	for _, look := range []func(string) error{s.shebang, s.kernel, s.elf} {
		if err := look(name); err != nil {
			return err
		}
	}
	return nil
}

// report joins what was declared and found, by melange's rules: options first,
// then nothing needed that the package provides itself or keeps for its own use.
func (s *scan) report() Report {
	r := Report{Left: s.left}
	drop := func(list []Finding, reason func(f Finding) string) []Finding {
		var kept []Finding
		for _, f := range list {
			if f.Left = reason(f); f.Left == "" {
				kept = append(kept, f)
			} else {
				r.Left = append(r.Left, f)
			}
		}
		return kept
	}
	option := func(name string, off bool) func(Finding) string {
		return func(f Finding) string {
			switch {
			case s.pkg.NoCommands && strings.HasPrefix(f.Dependency.Name, "cmd:"):
				return "the recipe says no-commands"
			case off:
				return "the recipe says " + name
			}
			return ""
		}
	}
	r.FoundProvides = drop(s.provides, option("no-provides", s.pkg.NoProvides))
	own := map[string]bool{}
	for _, f := range r.FoundProvides {
		own[f.Dependency.Name] = true
	}
	for _, d := range s.pkg.Provides {
		own[d.Name] = true
	}
	depends := drop(s.depends, option("no-depends", s.pkg.NoDepends))
	r.FoundDepends = drop(depends, func(f Finding) string {
		switch {
		case s.vendored[f.Dependency.Name] != "":
			return "the package has its own"
		case own[f.Dependency.Name]:
			return "the package provides it itself"
		}
		return ""
	})
	r.Depends = joined(slices.DeleteFunc(slices.Clone(s.pkg.Depends), func(d apk.Dependency) bool {
		return d.Op == apk.Any && !d.Conflict && own[d.Name]
	}), r.FoundDepends)
	r.Provides = joined(s.pkg.Provides, r.FoundProvides)
	for name, version := range s.vendored {
		if isName(name) {
			r.Vendored = append(r.Vendored, apk.Dependency{Name: name, Op: apk.Equal, Version: version})
		}
	}
	r.Vendored = joined(r.Vendored, nil)
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
	lines.Buffer(nil, 2<<20) // no line is longer than what is read
	for lines.Scan() {
		visit(strings.TrimSpace(lines.Text()))
	}
	return lines.Err()
}
