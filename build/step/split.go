package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/tarn-build/tarn/recipes"
)

// rule says which entries of a package a split step takes. An entry that is taken
// takes all that lies below it.
type rule func(name string, d fs.DirEntry) bool

// globs takes what one of the patterns matches as a whole path.
func globs(patterns ...string) rule {
	return func(name string, _ fs.DirEntry) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return doublestar.MatchUnvalidated(p, name) })
	}
}

// either takes what one of the rules takes.
func either(rules ...rule) rule {
	return func(name string, d fs.DirEntry) bool {
		return slices.ContainsFunc(rules, func(r rule) bool { return r(name, d) })
	}
}

// but takes what a rule takes and another leaves.
func but(r, except rule) rule {
	return func(name string, d fs.DirEntry) bool { return r(name, d) && !except(name, d) }
}

func links(r rule) rule {
	return func(name string, d fs.DirEntry) bool { return d.Type() == fs.ModeSymlink && r(name, d) }
}

func folders(r rule) rule {
	return func(name string, d fs.DirEntry) bool { return d.IsDir() && r(name, d) }
}

func files(r rule) rule {
	return func(name string, d fs.DirEntry) bool { return !d.IsDir() && r(name, d) }
}

var (
	manpages = globs("usr/share/man", "usr/local/share/man", "usr/man")
	infodir  = globs("usr/share/info")
	alldocs  = either(but(files(globs("usr/share/info/**")), globs("usr/share/info/dir")),
		globs("usr/share/man", "usr/local/share/man", "usr/man", "usr/share/doc", "usr/local/share/doc"))
	locales = globs("usr/share/locale")
	static  = files(globs("**/*.a"))
	bin     = files(globs("usr/bin/*"))
	// dev is what only compiling against a package needs. The shared libraries
	// themselves stay; the links without a version that the linker looks for go.
	dev = either(
		globs("usr/include", "usr/lib/pkgconfig", "usr/share/pkgconfig", "usr/share/aclocal", "usr/share/gettext",
			"usr/bin/*-config", "usr/share/vala/vapi", "usr/share/gir-[0-9]*", "usr/share/qt*/mkspecs", "usr/lib/qt*/mkspecs",
			"usr/lib/cmake", "usr/lib/glade/modules", "usr/share/glade/catalogs"),
		folders(globs("**/include")),
		files(globs("{lib,usr}/**/*.a", "{lib,usr}/**/*.[cho]", "{lib,usr}/**/*.prl")),
		links(globs("{lib,usr/lib}/*.so")),
	)
)

// split makes a step that moves what a rule takes from a package (the main one, or
// the one that its input names) to the package that the step stands in.
func split(r rule) native {
	return func(ctx context.Context, c Context, s recipes.Step) error { return c.move(ctx, s, r) }
}

// splitLib moves shared libraries: all, or those that the input patterns name,
// from lib, usr/lib and the folders that the input paths names.
func splitLib(ctx context.Context, c Context, s recipes.Step) error {
	patterns := strings.Fields(s.Inputs["patterns"])
	names := []string{"*.so.*"}
	if len(patterns) > 0 {
		names = names[:0]
		for _, p := range patterns {
			names = append(names, "lib"+p+".so.*")
		}
	}
	var all []string
	for _, folder := range append([]string{"lib", "usr/lib"}, strings.Fields(s.Inputs["paths"])...) {
		for _, name := range names {
			pattern := path.Join(strings.Trim(folder, "/"), name)
			if !doublestar.ValidatePattern(pattern) {
				return fmt.Errorf("pattern %q is malformed", pattern)
			}
			all = append(all, pattern)
		}
	}
	return c.move(ctx, s, files(globs(all...)))
}

// packageFolder is the folder of a package below the work folder.
func packageFolder(name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("package %q is no name", name)
	}
	return path.Join(OutPath, name), nil
}

// fromTo gives the folders that a split step moves between: from the package that its
// input names, else the main one, to the package that it stands in.
func (c Context) fromTo(s recipes.Step) (from, to string, err error) {
	name := s.Inputs["package"]
	if name == "" {
		name = c.Main
	}
	if from, err = packageFolder(name); err != nil {
		return "", "", err
	}
	if to, err = packageFolder(s.Package); err != nil {
		return "", "", err
	}
	if from == to {
		return "", "", fmt.Errorf("a split step moves files of %s to itself", name)
	}
	return from, to, nil
}

// walk visits all that lies below a folder of the work folder. One that is not there
// holds nothing.
func (c Context) walk(ctx context.Context, folder string, visit func(p string, d fs.DirEntry) error) error {
	return fs.WalkDir(c.Work.FS(), folder, func(p string, d fs.DirEntry, err error) error {
		switch {
		case p == folder && errors.Is(err, fs.ErrNotExist):
			return fs.SkipAll
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case p == folder:
			return nil
		}
		return visit(p, d)
	})
}

func (c Context) move(ctx context.Context, s recipes.Step, take rule) error {
	from, to, err := c.fromTo(s)
	if err != nil {
		return err
	}
	var taken []string
	err = c.walk(ctx, from, func(p string, d fs.DirEntry) error {
		inside := strings.TrimPrefix(p, from+"/")
		if !take(inside, d) {
			return nil
		}
		taken = append(taken, inside)
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range taken {
		if err := c.moveOne(from, to, p); err != nil {
			return err
		}
	}
	return nil
}

// moveOne moves one entry with all below it; folders that are there on both sides
// become one, and folders that it leaves empty go.
func (c Context) moveOne(from, to, p string) error {
	source, target := path.Join(from, p), path.Join(to, p)
	if err := c.sameFolders(from, to, path.Dir(p)); err != nil {
		return err
	}
	there, err := c.Work.Lstat(target)
	here, err2 := c.Work.Lstat(source)
	switch {
	case err2 != nil:
		return err2
	case err == nil && there.IsDir() && here.IsDir():
		entries, err := fs.ReadDir(c.Work.FS(), source)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := c.moveOne(from, to, path.Join(p, e.Name())); err != nil {
				return err
			}
		}
		if err := c.Work.Remove(source); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case err == nil && (there.IsDir() || here.IsDir()):
		return fmt.Errorf("%s is a folder in one package and none in the other", p)
	default:
		if err := c.Work.Rename(source, target); err != nil {
			return err
		}
	}
	for parent := path.Dir(p); parent != "."; parent = path.Dir(parent) {
		if c.Work.Remove(path.Join(from, parent)) != nil {
			break // it holds something else
		}
	}
	return nil
}

// sameFolders makes the folders of p below to, with the modes that they have below from.
func (c Context) sameFolders(from, to, p string) error {
	if err := c.Work.MkdirAll(to, 0o755); err != nil {
		return err
	}
	made := "."
	for part := range strings.SplitSeq(p, "/") {
		if made = path.Join(made, part); made == "." {
			continue
		}
		mode := fs.FileMode(0o755)
		if info, err := c.Work.Stat(path.Join(from, made)); err == nil {
			mode = info.Mode().Perm()
		}
		if err := c.Work.Mkdir(path.Join(to, made), mode); err != nil {
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			return err
		}
		if err := c.Work.Chmod(path.Join(to, made), mode); err != nil {
			return err
		}
	}
	return nil
}
