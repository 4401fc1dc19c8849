package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/tarn-build/tarn/build/check"
	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/inspect"
	"github.com/tarn-build/tarn/build/installed"
	"github.com/tarn-build/tarn/build/pack"
	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/step"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sbom"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

// pack makes packages of what the build installed: all are inspected together, each
// is checked, and only when every one holds the rules is the first one written.
func (b *Builder) pack(ctx context.Context, p *plan.Plan, env *environment.Environment, w *work, owners map[uint64]pack.Owner) (*Result, error) {
	s := p.Script
	out, err := treeOf(w.root, step.OutPath)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", s.Name, err)
	}
	defer out.Close()
	modes, err := installed.Unlock(out)
	if err != nil {
		return nil, err
	}
	trees := make([]fs.FS, len(s.Packages))
	inspected := make([]inspect.Package, len(s.Packages))
	versions := libraryVersions(p.Environment)
	result := &Result{}
	for i := range s.Packages {
		o := &s.Packages[i]
		root, err := treeOf(out, o.Name)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", o.Name, err)
		}
		defer root.Close()
		tree := modes.FS(root)
		trees[i] = tree
		checked := check.Package{Name: o.Name, Arch: s.Arch, Files: tree}
		if i == 0 {
			checked.Source = w.root.FS()
			for _, l := range s.Licenses {
				checked.Licenses = append(checked.Licenses, l.License)
				if l.DetectionOverride != "" {
					checked.Override = append(checked.Override, l.DetectionOverride)
				}
			}
		}
		found, err := check.Run(checked)
		if err != nil {
			return nil, err
		}
		result.Findings = append(result.Findings, found...)
		inspected[i] = inspect.Package{
			Name: o.Name, Version: s.Version, Files: tree, Depends: o.Runtime, Provides: o.Provides,
			NoDepends: o.NoDepends, NoProvides: o.NoProvides, NoCommands: o.NoCommands,
		}
		if s.VersionedLibraries && !o.NoVersionedShlibDeps {
			inspected[i].LibraryVersion = versions
		}
	}
	if _, err := b.judge(s, result); err != nil {
		return nil, err
	}
	reports, err := inspect.Packages(inspected, provided(p.Environment))
	if err != nil {
		return nil, err
	}
	recipe, err := embeddedRecipe(p)
	if err != nil {
		return nil, err
	}
	texts, err := licenseTexts(w.root, s)
	if err != nil {
		return nil, err
	}
	hidden := secretsOf(s.Environment.Given)
	for i := range s.Packages {
		o := &s.Packages[i]
		document, err := packageDocument(p, o, texts)
		if err != nil {
			return nil, err
		}
		if err := hidden.refuse(s.Recipe, o.Name, trees[i], document, recipe); err != nil {
			return nil, err
		}
		given, err := declared(o, env)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", s.Recipe, o.Name, err)
		}
		xattrs, err := capabilities(o)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", s.Recipe, o.Name, err)
		}
		entry, digest, files, err := pack.Write(ctx, b.Store, pack.Input{
			Info:     info(s, o, reports[i]),
			Tree:     trees[i],
			Extra:    map[string][]byte{sbom.PackagePath(o.Name, string(s.Version)): document},
			Scripts:  scriptlets(o),
			Control:  map[string][]byte{".melange.yaml": recipe},
			Xattrs:   xattrs,
			Owners:   owners,
			Declared: given,
			UID:      env.UID,
			GID:      env.GID,
			Time:     time.Unix(s.Time, 0),
		})
		if err != nil {
			return nil, err
		}
		result.Packages = append(result.Packages, Package{Entry: entry, Digest: digest, Files: files})
	}
	return result, nil
}

// provided tells which names the packages of an environment provide.
func provided(environment repo.Lock) func(name string) bool {
	names := map[string]bool{}
	for _, locked := range environment {
		for _, d := range locked.Entry.Provides {
			names[d.Name] = true
		}
	}
	return func(name string) bool { return names[name] }
}

// libraryVersions tells which version the package of a library of an environment has, as
// it says itself.
func libraryVersions(environment repo.Lock) func(soname string) apk.Version {
	versions := map[string]apk.Version{}
	for _, locked := range environment {
		for _, d := range locked.Entry.Provides {
			if soname, is := strings.CutPrefix(d.Name, "so-ver:"); is && d.Op == apk.Equal {
				versions[soname] = d.Version
			}
		}
	}
	return func(soname string) apk.Version { return versions[soname] }
}

// judge gives the result with its findings as the recipe, and whoever builds, wants them
// told. What the store remembers are all findings: a plan's ID covers neither tests nor
// flags. Findings that stop the build are a *CheckError.
func (b *Builder) judge(s *recipes.Script, result *Result) (*Result, error) {
	cases := map[string]check.Case{}
	for i := range s.Packages {
		o := &s.Packages[i]
		c := check.Case{Disabled: o.ChecksDisabled, Waived: s.Waived()}
		if o.Test != nil {
			for _, t := range o.Test.Steps {
				c.Tests = append(c.Tests, check.TestStep{Uses: t.Uses, Shell: t.Shell})
			}
		}
		cases[o.Name] = c
	}
	judged := *result
	judged.Findings = check.Judge(result.Findings, s.Recipe, b.Rules, cases)
	if judged.Findings.Err() != nil {
		return nil, &CheckError{Problems: judged.Findings}
	}
	return &judged, nil
}

// CheckError says that packages break the rules of package check.
type CheckError struct{ Problems diag.Problems }

func (e *CheckError) Error() string { return e.Problems.Error() }

// info is what a package says of itself. Its size and data hash come with writing it.
func info(s *recipes.Script, o *recipes.Output, r inspect.Report) apk.Info {
	i := apk.Info{
		Name: o.Name, Version: s.Version, Arch: s.Arch, Description: o.Description, URL: o.URL, Commit: o.Commit,
		Maintainer: s.Namespace, Origin: s.Name, BuildDate: s.Time,
		Depends: r.Depends, Provides: r.Provides, Replaces: o.Replaces, Vendored: r.Vendored,
		ProviderPriority: o.ProviderPriority, ReplacesPriority: o.ReplacesPriority, Triggers: o.Triggers,
	}
	for _, l := range s.Licenses {
		i.Licenses = append(i.Licenses, l.License)
	}
	return i
}

// treeOf opens a folder that packages are made of, as the build left it.
func treeOf(parent *os.Root, name string) (*os.Root, error) {
	info, err := parent.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the build removed the folder %s", name)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("the build put something else in the place of the folder %s", name)
	}
	return parent.OpenRoot(name)
}

// capabilities are what a recipe's setcap gives to files of a package.
func capabilities(o *recipes.Output) (map[string]pack.Xattrs, error) {
	xattrs := map[string]pack.Xattrs{}
	for _, c := range o.Setcap {
		name := strings.TrimPrefix(path.Clean("/"+c.Path), "/")
		value, err := pack.FileCapability(c.Add)
		if err != nil {
			return nil, fmt.Errorf("setcap %s: %w", c.Path, err)
		}
		if xattrs[name] != nil {
			return nil, fmt.Errorf("setcap %s: the file stands there twice", c.Path)
		}
		xattrs[name] = pack.Xattrs{pack.CapabilityAttribute: value}
	}
	return xattrs, nil
}

func scriptlets(o *recipes.Output) map[string][]byte {
	scripts := map[string][]byte{}
	for name, text := range o.Scriptlets {
		scripts[name] = []byte(text)
	}
	return scripts
}
