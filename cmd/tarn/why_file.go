package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/inspect"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// whyFileLong is what tarn why --help tells of --file.
const whyFileLong = `With --file it tells why a PACKAGE needs and provides what it does: which of its files
brings each dependency, and how. PACKAGE is a name, looked for in the workspace's
repository and then in the others, or an .apk file. With a PATH of the package it tells
what that file brings; with a DEPENDENCY (so:libz.so.1) which files bring it.

  tarn why --file nginx
  tarn why --file nginx usr/bin/nginx
  tarn why --file nginx so:libssl.so.3`

// broughtRow is one dependency of a package and where it comes from.
type broughtRow struct {
	Package    string      `json:"package"`
	Version    apk.Version `json:"version"`
	File       string      `json:"file,omitempty"` // none where the recipe declares it
	Why        string      `json:"why"`
	Kind       string      `json:"kind"` // depends or provides; neither where it does not count
	Dependency string      `json:"dependency"`
	Left       string      `json:"left,omitempty"` // why it does not count
}

// sentence tells it in words.
func (r broughtRow) sentence() string {
	subject := r.File + " " + r.Why
	if r.File == "" {
		subject = r.Why
	}
	if r.Left != "" {
		return fmt.Sprintf("%s: no %s, %s", subject, r.Dependency, r.Left)
	}
	return fmt.Sprintf("%s: %s %s", subject, r.Kind, r.Dependency)
}

// runWhyFile explains a package. One of the arguments is the package, and the other, in
// whatever order, a path in it or a dependency.
func (a *app) runWhyFile(ctx context.Context, o universe, args []string) error {
	p, question, err := a.openExplained(ctx, o, args)
	if err != nil {
		return err
	}
	defer p.close()
	rows, err := p.explain()
	if err != nil {
		return err
	}
	if question != "" {
		if rows, err = p.answer(rows, question); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(rows)
	}
	for _, r := range rows {
		fmt.Fprintln(a.out, plain(r.sentence()))
	}
	if len(rows) == 0 {
		if question == "" {
			question = p.info.Name
		}
		fmt.Fprintf(a.out, "%s brings nothing that a package needs or provides\n", plain(question))
	}
	return nil
}

// explained is a package with those that were built with it, unpacked.
type explained struct {
	info     *apk.Info
	packages []inspect.Package // itself first
	close    func()
}

// openExplained finds the package among the arguments and unpacks it, and gives the other one.
func (a *app) openExplained(ctx context.Context, o universe, args []string) (*explained, string, error) {
	for i, arg := range args {
		if strings.HasSuffix(arg, ".apk") {
			others := slices.Delete(slices.Clone(args), i, i+1)
			p, err := a.explainedFile(ctx, arg)
			return p, strings.Join(others, ""), err
		}
	}
	arch, err := apk.ParseArch(o.arch)
	if err != nil {
		return nil, "", usagef("--arch: %v", err)
	}
	set, err := a.whyRepositories(o)
	if err != nil {
		return nil, "", err
	}
	var names []string
	for _, source := range set {
		entries, err := source.Packages(ctx, arch)
		if errors.Is(err, fs.ErrNotExist) {
			continue // nothing was published there yet
		} else if err != nil {
			return nil, "", err
		}
		for _, e := range entries {
			names = append(names, e.Name)
		}
		for i, arg := range args {
			newest := newestEntry(entries, arg)
			if newest == nil {
				continue
			}
			others := slices.Delete(slices.Clone(args), i, i+1)
			p, err := a.explainedEntry(ctx, source, entries, newest)
			return p, strings.Join(others, ""), err
		}
	}
	wanted := args[0]
	for _, arg := range args {
		if !strings.ContainsAny(arg, "/:") {
			wanted = arg
		}
	}
	hint := diag.DidYouMean(wanted, names)
	if hint == "" {
		hint = "a package has to be built and published first: tarn build " + wanted
	}
	return nil, "", usagef("no package %q\n  hint: %s", wanted, hint)
}

// whyRepositories are where packages are looked for: those that are named, else the
// workspace's own and the others of the workspace.
func (a *app) whyRepositories(o universe) ([]*repo.Repository, error) {
	ws, err := a.workspace()
	if err != nil {
		return nil, err
	}
	st, err := a.store(ws)
	if err != nil {
		return nil, err
	}
	keys, err := keyring(ws, o.keyrings)
	if err != nil {
		return nil, err
	}
	locations := o.repositories
	if len(locations) == 0 {
		locations = append([]string{ws.path(ws.Packages)}, ws.Repositories...)
	}
	var all []*repo.Repository
	for _, location := range locations {
		if !strings.Contains(location, "://") {
			location = ws.path(location)
		}
		r, err := a.openRepository(ws, st, &o.trustFlags, keys, location)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// newestEntry is the entry of the highest version of a package, or nil.
func newestEntry(entries []*apk.Entry, name string) *apk.Entry {
	var newest *apk.Entry
	for _, e := range entries {
		if e.Name == name && (newest == nil || e.Version.Compare(newest.Version) > 0) {
			newest = e
		}
	}
	return newest
}

// explainedEntry unpacks a package of a repository, and those of the same build.
func (a *app) explainedEntry(ctx context.Context, source *repo.Repository, entries []*apk.Entry, entry *apk.Entry) (*explained, error) {
	st, err := a.openStore()
	if err != nil {
		return nil, err
	}
	x := newExplained()
	add := func(e *apk.Entry) error {
		digest, err := source.Fetch(ctx, st, e)
		if err != nil {
			return err
		}
		f, err := st.Open(digest)
		if err != nil {
			return err
		}
		defer f.Close()
		return x.add(ctx, st, f)
	}
	if err := add(entry); err != nil {
		x.close()
		return nil, err
	}
	for _, e := range entries {
		if e.Name == entry.Name || entry.Origin == "" || e.Origin != entry.Origin || e.Version != entry.Version {
			continue
		}
		if err := add(e); err != nil {
			x.close()
			return nil, err
		}
	}
	return x, nil
}

// explainedFile unpacks a package file, and those of the same build that lie beside it.
func (a *app) explainedFile(ctx context.Context, name string) (*explained, error) {
	st, err := a.openStore()
	if err != nil {
		return nil, err
	}
	x := newExplained()
	add := func(name string) error {
		f, err := os.Open(name)
		if err != nil {
			return usagef("%v", err)
		}
		defer f.Close()
		if err := x.add(ctx, st, f); err != nil {
			return &codeError{exitTrust, fmt.Errorf("read package %s: %w", name, err)}
		}
		return nil
	}
	if err := add(name); err != nil {
		x.close()
		return nil, err
	}
	beside, err := filepath.Glob(filepath.Join(filepath.Dir(name), "*-"+string(x.info.Version)+".apk"))
	if err != nil {
		beside = nil // the folder's name is a pattern that is none
	}
	for _, other := range beside {
		if origin, err := originOf(other); err == nil && origin == x.info.Origin && origin != "" && filepath.Base(other) != filepath.Base(name) {
			if err := add(other); err != nil {
				fmt.Fprintln(a.err, plain("note: "+firstLine(err)))
			}
		}
	}
	return x, nil
}

// originOf is the recipe that a package file says it is of.
func originOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return "", err
	}
	return p.Info.Origin, nil
}

func newExplained() *explained {
	x := &explained{}
	x.close = func() {}
	return x
}

// add unpacks a package, every digest checked.
func (x *explained) add(ctx context.Context, st *store.Store, f *os.File) error {
	dir, release, err := st.TempDir("why")
	if err != nil {
		return err
	}
	before := x.close
	x.close = func() { release(); before() }
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	x.close = func() { root.Close(); release(); before() }
	info, err := environment.ExtractWithModes(ctx, root, f)
	if err != nil {
		return err
	}
	if x.info == nil {
		x.info = info
	}
	x.packages = append(x.packages, inspect.Package{Name: info.Name, Version: info.Version, Files: root.FS()})
	return nil
}

// explain tells of everything that the package needs and provides where it comes from,
// and of what was found and does not count.
func (x *explained) explain() ([]broughtRow, error) {
	has := func(list []apk.Dependency) func(string) bool {
		return func(name string) bool {
			return slices.ContainsFunc(list, func(d apk.Dependency) bool { return d.Name == name })
		}
	}
	// A name without a version is in the package exactly where its build knew who provides it.
	// The same holds for the versions of libraries.
	versions := map[string]apk.Version{}
	for _, d := range x.info.Depends {
		if soname, is := strings.CutPrefix(d.Name, "so-ver:"); is && d.Op == apk.GreaterEqual {
			versions[soname] = d.Version
		}
	}
	x.packages[0].LibraryVersion = func(soname string) apk.Version { return versions[soname] }
	reports, err := inspect.Packages(x.packages, has(x.info.Depends))
	if err != nil {
		return nil, err
	}
	report := reports[0]
	var rows []broughtRow
	left := report.Left
	list := func(kind string, said []apk.Dependency, found []inspect.Finding) {
		for _, d := range said {
			other := func(f inspect.Finding) bool { return f.Dependency != d }
			by := slices.DeleteFunc(slices.Clone(found), other)
			if len(by) == 0 && kind == "depends" {
				// What does not count here did where the package was made.
				by = slices.DeleteFunc(slices.Clone(left), other)
				left = slices.DeleteFunc(left, func(f inspect.Finding) bool { return f.Dependency == d })
			}
			if len(by) == 0 {
				rows = append(rows, x.row("", "the recipe declares it", kind, d, ""))
			}
			for _, f := range by {
				rows = append(rows, x.row(f.File, f.Why, kind, d, ""))
			}
		}
		for _, f := range found {
			if !slices.Contains(said, f.Dependency) {
				rows = append(rows, x.row(f.File, f.Why, kind, f.Dependency, "the package does not say it: the recipe turned it off, or another tool made the package"))
			}
		}
	}
	list("depends", x.info.Depends, report.FoundDepends)
	list("provides", x.info.Provides, report.FoundProvides)
	for _, f := range left {
		rows = append(rows, x.row(f.File, f.Why, "neither", f.Dependency, f.Left))
	}
	return rows, nil
}

func (x *explained) row(file, why, kind string, d apk.Dependency, left string) broughtRow {
	if left != "" {
		kind = "neither"
	}
	return broughtRow{x.info.Name, x.info.Version, file, why, kind, d.String(), left}
}

// answer keeps what a question is about: a file or folder of the package, or a name.
func (x *explained) answer(rows []broughtRow, question string) ([]broughtRow, error) {
	name := strings.Trim(filepath.ToSlash(question), "/")
	if _, err := fs.Lstat(x.packages[0].Files, orDot(name)); err == nil {
		return slices.DeleteFunc(rows, func(r broughtRow) bool { return r.File != name && !strings.HasPrefix(r.File, name+"/") }), nil
	}
	asked, err := apk.ParseDependency(question)
	if strings.Contains(question, "/") || err != nil {
		return nil, usagef("%s has no file %s%s", x.info.Name, question, x.nearFile(name))
	}
	about := slices.DeleteFunc(rows, func(r broughtRow) bool {
		d, err := apk.ParseDependency(r.Dependency)
		return err != nil || d.Name != asked.Name
	})
	if len(about) == 0 {
		return nil, &codeError{exitFailed, fmt.Errorf("%s neither needs nor provides %s", x.info.Name, question)}
	}
	return about, nil
}

// orDot is a path that is one.
func orDot(name string) string {
	if !fs.ValidPath(name) {
		return "."
	}
	return name
}

// nearFile is a hint with the path that was probably meant.
func (x *explained) nearFile(name string) string {
	var paths []string
	err := fs.WalkDir(x.packages[0].Files, ".", func(p string, _ fs.DirEntry, err error) error {
		paths = append(paths, p)
		return err
	})
	if err != nil {
		return ""
	}
	for _, p := range paths {
		if filepath.Base(p) == filepath.Base(name) {
			return fmt.Sprintf("\n  hint: did you mean %q?", p)
		}
	}
	if hint := diag.DidYouMean(name, paths); hint != "" {
		return "\n  hint: " + hint
	}
	return ""
}
