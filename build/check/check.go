// Package check holds the rules for what a package may install. Their names and
// severities are those of melange's linters, so that checks.disabled in a recipe means
// the same; those that never fire there (infodir, strip) do here, and those that go by
// names go by whole words, so that xwindows.h is no file of Windows.
//
// What a package does against the rules depends on its files alone: [Run] finds it. How
// grave that is depends on the recipe and on whoever asks: [Judge] says it, and can say it
// again of a package that was built long ago.
package check

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
)

// Package is what is checked.
type Package struct {
	Name  string
	Arch  apk.Arch // "" where it is not known
	Files fs.FS
	// Source is the folder that the package was built in, and Licenses what its recipe
	// says of its copyright; nil of packages that were made elsewhere.
	Source   fs.FS
	Licenses []string
	Override []string // detection-override: licences that files may be of as well
}

// Rule is one check. Exactly one of file and tree is set.
type Rule struct {
	Name     string
	Severity diag.Severity
	Why      string // what is wrong with it, for tarn lint --explain
	Example  string // a path that it finds
	Instead  string // the way out, a hint

	// file says what is wrong with one entry, or "".
	file func(p Package, e *entry) string
	// tree gives all that is wrong with the tree as a whole.
	tree func(p Package) ([]finding, error)
	// answeredBy tells whether a test of the package does away with what was found.
	answeredBy func(t TestStep) bool
}

// finding is what is wrong with one path; "" is the package as a whole.
type finding struct{ path, text string }

// entry is a file, folder or link of a package.
type entry struct {
	fs.DirEntry
	path    string
	files   fs.FS
	program *elf.File // when isRead
	isRead  bool
	file    fs.File
}

// mode is the entry's mode; none where it can't be told.
func (e *entry) mode() fs.FileMode {
	info, err := e.Info()
	if err != nil {
		return 0
	}
	return info.Mode()
}

// elf reads the entry as a program or library; nil where it is none. Several rules ask.
func (e *entry) elf() *elf.File {
	if e.isRead || !e.Type().IsRegular() {
		return e.program
	}
	e.isRead = true
	f, err := e.files.Open(e.path)
	if err != nil {
		return nil
	}
	e.file = f
	content, ok := f.(io.ReaderAt)
	if !ok {
		return nil
	}
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := content.ReadAt(magic, 0); err != nil || string(magic) != elf.ELFMAG {
		return nil
	}
	if e.program, err = elf.NewFile(content); err != nil {
		e.program = nil
	}
	return e.program
}

func (e *entry) close() {
	if e.file != nil {
		e.file.Close()
	}
}

// Names lists the rules.
func Names() []string {
	names := make([]string, len(All))
	for i, r := range All {
		names[i] = r.Name
	}
	return names
}

// Run gives all that a package does against the rules, those that are off included, each
// with the severity that its rule has by itself. It is sorted by path within each rule.
func Run(p Package) (diag.Problems, error) {
	found := make([][]finding, len(All))
	err := fs.WalkDir(p.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		e := &entry{DirEntry: d, path: name, files: p.Files}
		defer e.close()
		for i, r := range All {
			if r.file == nil || ownDocument(name) && r.Name != "sbom" {
				continue
			}
			if text := r.file(p, e); text != "" {
				found[i] = append(found[i], finding{name, text})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", p.Name, err)
	}
	var problems diag.Problems
	for i, r := range All {
		if r.tree != nil {
			if found[i], err = r.tree(p); err != nil {
				return nil, fmt.Errorf("check %s: %w", p.Name, err)
			}
		}
		for _, f := range found[i] {
			text := p.Name + ": "
			if f.path != "" {
				text += f.path + " "
			}
			problems = append(problems, diag.Problem{
				Severity: r.Severity, Rule: r.Name, Package: p.Name, Path: f.path, Text: text + f.text, Hint: r.Instead,
			})
		}
	}
	return problems, nil
}

// Case is what Judge is told of a package.
type Case struct {
	Disabled []string   // checks.disabled: rules that stop nothing
	Waived   []string   // rules that the recipe waves away in a comment, with its reason
	Tests    []TestStep // of the package's test
	// NoTests says that the package's test is not known, and nothing is asked of it.
	NoTests bool
}

// TestStep is a step of a package's test.
type TestStep struct {
	Uses  string // the pipeline that the recipe names
	Shell string // its script
}

// Judge says how grave what Run found is: by the policy, then by the recipe. File is the
// name that findings bear, and cases are by the name of the package. A rule that is
// required and disabled warns, as in melange, and so does one that the recipe waves away;
// a warning that it waves away is not told. What is off is left out.
func Judge(found diag.Problems, file string, policy diag.Policy, cases map[string]Case) diag.Problems {
	var told diag.Problems
	for _, p := range found {
		i := slices.IndexFunc(All, func(r Rule) bool { return r.Name == p.Rule })
		if i < 0 {
			continue // of a rule that is no more
		}
		c := cases[p.Package]
		if All[i].answeredBy != nil && (c.NoTests || slices.ContainsFunc(c.Tests, All[i].answeredBy)) {
			continue
		}
		p.File, p.Severity = file, policy.Severity(p.Rule, All[i].Severity)
		disabled, waived := slices.Contains(c.Disabled, p.Rule), slices.Contains(c.Waived, p.Rule)
		switch {
		case p.Severity == diag.Error && (disabled || waived):
			p.Severity = diag.Warning // what is required can't be silenced by the one who breaks it
		case waived && p.Severity != diag.Error:
			p.Severity = diag.Off
		}
		if p.Severity != diag.Off {
			told = append(told, p)
		}
	}
	return told
}

func ownDocument(name string) bool { return under("var/lib/db/sbom")(name) }

func under(folder string) func(string) bool {
	return func(name string) bool { return strings.HasPrefix(name, folder+"/") }
}

// onlyFiles finds everything but folders.
func onlyFiles(is func(string) bool) func(Package, *entry) string {
	return func(_ Package, e *entry) string {
		if e.IsDir() || !is(e.path) {
			return ""
		}
		return "must not be in a package"
	}
}

// notIn leaves alone packages whose name has one of the suffixes.
func notIn(find func(Package, *entry) string, suffixes ...string) func(Package, *entry) string {
	return func(p Package, e *entry) string {
		if slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(p.Name, s) }) {
			return ""
		}
		return find(p, e)
	}
}

// compat leaves alone packages that exist to serve old paths.
func compat(is func(string) bool) func(Package, *entry) string {
	return notIn(func(_ Package, e *entry) string {
		if e.IsDir() || !is(e.path) {
			return ""
		}
		return "stands outside the system's own folders"
	}, "-compat")
}

// mode finds regular files with one of the bits.
func mode(bits fs.FileMode, text string) func(Package, *entry) string {
	return func(_ Package, e *entry) string {
		if !e.Type().IsRegular() || e.mode()&bits == 0 {
			return ""
		}
		return text
	}
}

func sitePackages(names ...string) func(Package, *entry) string {
	return func(_ Package, e *entry) string {
		if e.IsDir() && path.Base(path.Dir(e.path)) == "site-packages" && slices.Contains(names, path.Base(e.path)) {
			return "takes a name that is everybody's"
		}
		return ""
	}
}

// temporary finds what a package puts into folders that are empty when an image
// starts. Folders in run are fine for a package that also tells tmpfiles to make them.
func temporary(p Package) ([]finding, error) {
	_, err := fs.Stat(p.Files, "usr/lib/tmpfiles.d")
	tells := err == nil
	var found []finding
	err = fs.WalkDir(p.Files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case under("var/run")(name), !d.IsDir() && (under("tmp")(name) || under("var/tmp")(name) || under("run")(name)),
			d.IsDir() && under("run")(name) && !tells:
			found = append(found, finding{name, "is in a temporary folder"})
		}
		return nil
	})
	return found, err
}

// empty finds a package that installs nothing.
func empty(p Package) ([]finding, error) {
	errFile := errors.New("there is a file")
	err := fs.WalkDir(p.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !ownDocument(name) {
			return errFile
		}
		return err
	})
	if err == nil {
		return []finding{{"", "installs nothing"}}, nil
	}
	if errors.Is(err, errFile) {
		return nil, nil
	}
	return nil, err
}
