// Package check holds the rules for what a package may install. The names and
// severities are those of melange's linters, so that checks.disabled in a recipe
// means the same. It knows trees of files and nothing of how they came about.
package check

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
)

// Package is what is checked.
type Package struct {
	Name     string
	Recipe   string // the recipe's file, for messages
	Files    fs.FS
	Disabled []string // rules that the recipe turned to notes: checks.disabled
}

// Rule is one check. Exactly one of file and tree is set.
type Rule struct {
	Name     string
	Severity diag.Severity
	Why      string // what is wrong with it, for tarn lint --explain
	Example  string // a path that it finds
	Instead  string // the way out, a hint

	// file says what is wrong with one entry, or "".
	file func(p Package, name string, d fs.DirEntry) string
	// tree gives all that is wrong with the tree as a whole.
	tree func(p Package) ([]string, error)
}

// All are the rules, in the order in which they run.
var All = []Rule{
	{
		Name: "dev", Why: "device files are made by the machine or the container engine, not by packages", Example: "dev/null", Instead: "leave the file out",
		file: onlyFiles(under("dev")),
	},
	{
		Name: "setuidgid", Why: "a program that changes its user is a way to gain privileges", Example: "usr/bin/su with mode 4755", Instead: "remove the bit, or use setcap",
		file: mode(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky, "has a setuid, setgid or sticky bit"),
	},
	{
		Name: "tempdir", Why: "what is in temporary folders is gone when the image runs", Example: "run/nginx", Instead: "make it when the program starts, or by usr/lib/tmpfiles.d",
		tree: temporary,
	},
	{
		Name: "varempty", Why: "var/empty is where daemons that shall see nothing live: it stays empty", Example: "var/empty/x", Instead: "put the file elsewhere",
		file: onlyFiles(under("var/empty")),
	},
	{
		Name: "worldwrite", Why: "a file that everybody may write is nobody's", Example: "etc/x with mode 0666", Instead: "chmod o-w",
		file: mode(0o002, "may be written by everybody"),
	},
	{
		Name: "infodir", Why: "every package with info pages writes usr/share/info/dir, so two of them collide", Example: "usr/share/info/dir", Instead: "remove the file after make install",
		file: onlyFiles(func(name string) bool { return name == "usr/share/info/dir" || under("usr/share/info/dir")(name) }),
	},
	{
		Name: "usrmerge", Why: "bin, sbin, lib, lib64 and usr/sbin are links to usr/bin and usr/lib: a package that brings its own folder hides them", Example: "sbin/x", Instead: "install below usr/bin or usr/lib, e.g. --sbindir=/usr/bin",
		file: func(_ Package, name string, _ fs.DirEntry) string {
			for _, folder := range []string{"sbin", "bin", "usr/sbin", "lib", "lib64"} {
				if name == folder || strings.HasPrefix(name, folder+"/") {
					return "stands in " + folder
				}
			}
			return ""
		},
	},
	{
		Name: "libtool/la-files", Why: "libtool's archives name folders of the build and link too much", Example: "usr/lib/libx.la", Instead: "find ... -name '*.la' -delete, as autoconf/make-install does",
		file: onlyFiles(func(name string) bool { return strings.HasSuffix(name, ".la") }),
	},
	{
		Name: "opt", Severity: diag.Warning, Why: "opt is for software that the system's owner adds", Example: "opt/x", Instead: "install below usr",
		file: compat(under("opt")),
	},
	{
		Name: "srv", Severity: diag.Warning, Why: "srv is for data that the system's owner serves", Example: "srv/x", Instead: "install below usr/share or var",
		file: compat(under("srv")),
	},
	{
		Name: "usrlocal", Severity: diag.Warning, Why: "usr/local is for software that the system's owner builds", Example: "usr/local/bin/x", Instead: "--prefix=/usr",
		file: compat(under("usr/local")),
	},
	{
		Name: "object", Severity: diag.Warning, Why: "object files are left over from compiling", Example: "usr/lib/x.o", Instead: "leave the file out",
		file: onlyFiles(func(name string) bool {
			return strings.HasSuffix(name, ".o") && !slices.Contains(startFiles, path.Base(name))
		}),
	},
	{
		Name: "maninfo", Severity: diag.Warning, Why: "manuals belong to a package of their own, which an image leaves out", Example: "usr/share/man/man1/x.1", Instead: "a subpackage NAME-doc with split/manpages or split/infodir",
		file: func(p Package, name string, d fs.DirEntry) string {
			if strings.HasSuffix(p.Name, "-doc") || d.IsDir() || !under("usr/share/man")(name) && !under("usr/share/info")(name) {
				return ""
			}
			return "is a manual outside a -doc package"
		},
	},
	{
		Name: "staticarchive", Severity: diag.Warning, Why: "static libraries are for those who link against them", Example: "usr/lib/libx.a", Instead: "move it to -static or -dev, as split/static does",
		file: func(p Package, name string, d fs.DirEntry) string {
			if d.IsDir() || !strings.HasSuffix(name, ".a") || strings.HasSuffix(p.Name, "-dev") || strings.HasSuffix(p.Name, "-static") {
				return ""
			}
			return "is a static library outside a -dev or -static package"
		},
	},
	{
		Name: "sbom", Severity: diag.Warning, Why: "var/lib/db/sbom holds SPDX documents alone", Example: "var/lib/db/sbom/x.txt", Instead: "leave the file out: tarn writes the document",
		file: onlyFiles(func(name string) bool {
			return path.Dir(name) == "var/lib/db/sbom" && !strings.HasSuffix(name, ".spdx.json")
		}),
	},
	{
		Name: "python/docs", Severity: diag.Warning, Why: "a folder named docs in site-packages collides with that of other packages", Example: "usr/lib/python3.13/site-packages/docs", Instead: "leave the folder out",
		file: sitePackages("doc", "docs"),
	},
	{
		Name: "python/test", Severity: diag.Warning, Why: "a folder named tests in site-packages collides with that of other packages", Example: "usr/lib/python3.13/site-packages/tests", Instead: "leave the folder out",
		file: sitePackages("test", "tests"),
	},
	{
		Name: "dll", Severity: diag.Warning, Why: "a library for Windows does nothing here", Example: "usr/lib/x.dll", Instead: "leave the file out",
		file: notInDev(onlyFiles(func(name string) bool { return strings.HasSuffix(name, ".dll") })),
	},
	{
		Name: "dylib", Severity: diag.Warning, Why: "a library for macOS does nothing here", Example: "usr/lib/x.dylib", Instead: "leave the file out",
		file: notInDev(onlyFiles(func(name string) bool { return strings.HasSuffix(name, ".dylib") })),
	},
}

// startFiles are object files that a C library brings for the linker.
var startFiles = []string{"crt1.o", "crti.o", "crtn.o", "rcrt1.o", "Scrt1.o", "gcrt1.o", "Mcrt1.o", "crtbegin.o", "crtbeginS.o", "crtbeginT.o", "crtend.o", "crtendS.o"}

// Names lists the rules.
func Names() []string {
	names := make([]string, len(All))
	for i, r := range All {
		names[i] = r.Name
	}
	return names
}

// Run checks a package and gives all that was found, sorted by path within each rule.
func Run(p Package) (diag.Problems, error) {
	var problems diag.Problems
	add := func(r Rule, text string) {
		severity := r.Severity
		if severity == diag.Error && slices.Contains(p.Disabled, r.Name) {
			severity = diag.Note // the recipe's author decided it
		}
		problems = append(problems, diag.Problem{File: p.Recipe, Severity: severity, Rule: r.Name, Text: p.Name + ": " + text, Hint: r.Instead})
	}
	err := fs.WalkDir(p.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		for _, r := range All {
			if r.file == nil || ownDocument(name) && r.Name != "sbom" {
				continue
			}
			if text := r.file(p, name, d); text != "" {
				add(r, name+" "+text)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", p.Name, err)
	}
	for _, r := range All {
		if r.tree == nil {
			continue
		}
		texts, err := r.tree(p)
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", p.Name, err)
		}
		for _, text := range texts {
			add(r, text)
		}
	}
	return problems, nil
}

func ownDocument(name string) bool { return under("var/lib/db/sbom")(name) }

func under(folder string) func(string) bool {
	return func(name string) bool { return strings.HasPrefix(name, folder+"/") }
}

// onlyFiles finds everything but folders.
func onlyFiles(is func(string) bool) func(Package, string, fs.DirEntry) string {
	return func(_ Package, name string, d fs.DirEntry) string {
		if d.IsDir() || !is(name) {
			return ""
		}
		return "must not be in a package"
	}
}

// notInDev leaves alone packages for developers.
func notInDev(find func(Package, string, fs.DirEntry) string) func(Package, string, fs.DirEntry) string {
	return func(p Package, name string, d fs.DirEntry) string {
		if strings.HasSuffix(p.Name, "-dev") {
			return ""
		}
		return find(p, name, d)
	}
}

// compat leaves alone packages that exist to serve old paths.
func compat(is func(string) bool) func(Package, string, fs.DirEntry) string {
	return func(p Package, name string, d fs.DirEntry) string {
		if d.IsDir() || strings.HasSuffix(p.Name, "-compat") || !is(name) {
			return ""
		}
		return "stands outside the system's own folders"
	}
}

// mode finds regular files with one of the bits.
func mode(bits fs.FileMode, text string) func(Package, string, fs.DirEntry) string {
	return func(_ Package, _ string, d fs.DirEntry) string {
		if !d.Type().IsRegular() {
			return ""
		}
		info, err := d.Info()
		if err != nil || info.Mode()&bits == 0 {
			return ""
		}
		return text
	}
}

func sitePackages(names ...string) func(Package, string, fs.DirEntry) string {
	return func(_ Package, name string, d fs.DirEntry) string {
		if d.IsDir() && path.Base(path.Dir(name)) == "site-packages" && slices.Contains(names, path.Base(name)) {
			return "takes a name that is everybody's"
		}
		return ""
	}
}

// temporary finds what a package puts into folders that are empty when an image
// starts. Folders in run are fine for a package that also tells tmpfiles to make them.
func temporary(p Package) ([]string, error) {
	_, err := fs.Stat(p.Files, "usr/lib/tmpfiles.d")
	tells := err == nil
	var found []string
	err = fs.WalkDir(p.Files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case under("var/run")(name), !d.IsDir() && (under("tmp")(name) || under("var/tmp")(name) || under("run")(name)),
			d.IsDir() && under("run")(name) && !tells:
			found = append(found, name+" is in a temporary folder")
		}
		return nil
	})
	return found, err
}
