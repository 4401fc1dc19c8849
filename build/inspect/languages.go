package inspect

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

var (
	perlModules   = regexp.MustCompile(`^(usr/)?lib/perl([0-9][^/]*)/[^/]*_perl$`)
	rubyGems      = regexp.MustCompile(`^(usr/)?lib/ruby/gems/([0-9]+\.[0-9]+)\.[0-9][^/]*/gems$`)
	pythonModules = regexp.MustCompile(`(^|/)python([0-9]+\.[0-9]+)/site-packages$`)
)

// language finds the folders that modules of a language lie in. A package that declares
// what it needs of the language itself is asked nothing.
func (s *scan) language(name string, d fs.DirEntry) {
	declares := func(is func(name string) bool) bool {
		return slices.ContainsFunc(s.pkg.Depends, func(d apk.Dependency) bool { return !d.Conflict && is(d.Name) })
	}
	tell := func(why, dependency string, declared bool) {
		d, err := apk.ParseDependency(dependency)
		switch {
		case err != nil: // a folder that is called like no version
		case declared:
			s.leave(name, why, dependency, "the recipe declares it")
		default:
			s.depends = append(s.depends, Finding{Dependency: d, File: name, Why: why})
		}
	}
	if m := perlModules.FindStringSubmatch(name); m != nil {
		tell("holds modules for Perl "+m[2], "perl~"+m[2], declares(func(n string) bool { return n == "perl" }))
	}
	if !d.IsDir() {
		return
	}
	if m := rubyGems.FindStringSubmatch(name); m != nil {
		tell("holds gems for Ruby "+m[2], "ruby-"+m[2], declares(func(n string) bool { return n == "ruby" || strings.HasPrefix(n, "ruby-") }))
	}
	if m := pythonModules.FindStringSubmatch(name); m != nil {
		tell("holds modules for Python "+m[2], "python-"+m[2]+"-base", declares(func(n string) bool { return strings.HasPrefix(n, "python") }))
	}
}

// documents finds the manuals of a package for documentation, which need a reader.
func (s *scan) documents(name string) {
	if !strings.HasSuffix(s.pkg.Name, "-doc") {
		return
	}
	switch path.Dir(name) {
	case "usr/share/man":
		s.need(name, "holds manuals", "man-db")
	case "usr/share/info":
		s.need(name, "holds manuals for info", "texinfo")
	}
}
