package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/tarn-build/tarn/recipes"
)

// rule says which entries of a package a split step takes, and where to: the path that
// stands for the entry in the other package. An entry that is taken takes all that lies below it.
type rule func(name string, d fs.DirEntry) (target string, takes bool)

// globs takes what one of the patterns matches as a whole path.
func globs(patterns ...string) rule {
	return func(name string, _ fs.DirEntry) (string, bool) {
		return name, slices.ContainsFunc(patterns, func(p string) bool { return doublestar.MatchUnvalidated(p, name) })
	}
}

// either takes what one of the rules takes.
func either(rules ...rule) rule {
	return func(name string, d fs.DirEntry) (string, bool) {
		for _, r := range rules {
			if target, takes := r(name, d); takes {
				return target, true
			}
		}
		return "", false
	}
}

// only takes what a rule takes and a test lets pass.
func only(test func(d fs.DirEntry) bool, r rule) rule {
	return func(name string, d fs.DirEntry) (string, bool) {
		target, takes := r(name, d)
		return target, takes && test(d)
	}
}

func links(r rule) rule {
	return only(func(d fs.DirEntry) bool { return d.Type() == fs.ModeSymlink }, r)
}

func folders(r rule) rule { return only(fs.DirEntry.IsDir, r) }

func files(r rule) rule { return only(func(d fs.DirEntry) bool { return !d.IsDir() }, r) }

// gather takes what lies in one of some folders into another.
func gather(into string, from ...string) rule {
	return func(name string, _ fs.DirEntry) (string, bool) {
		return path.Join(into, path.Base(name)), slices.Contains(from, path.Dir(name))
	}
}

// infoIndex is the index of info pages, which each machine makes of those it has.
const infoIndex = "usr/share/info/dir"

var (
	manpages = gather("usr/share/man", "usr/share/man", "usr/local/share/man", "usr/man")
	infodir  = globs("usr/share/info")
	alldocs  = either(infodir, manpages, gather("usr/share/doc", "usr/share/doc", "usr/local/share/doc"))
	locales  = globs("usr/share/locale")
	static   = files(globs("{lib,usr}/**/*.a"))
	bin      = globs("usr/bin/*")
)

// dev is what only compiling against a package needs, below a prefix such as usr. The shared
// libraries themselves stay; the links without a version that the linker looks for go.
func dev(prefix string) rule {
	below := func(patterns ...string) []string {
		for i, p := range patterns {
			patterns[i] = path.Join(quoteGlob(prefix), p)
		}
		return patterns
	}
	trees, libraries := []string{prefix}, []string{path.Join(prefix, "lib")}
	if first, _, _ := strings.Cut(prefix, "/"); first == "usr" {
		trees = append(trees, "lib")
	}
	if parent, isUsr := strings.CutSuffix("/"+prefix, "/usr"); isUsr {
		libraries = append(libraries, strings.TrimPrefix(parent+"/lib", "/"))
	}
	return either(
		globs(below("include", "lib/pkgconfig", "share/pkgconfig", "share/aclocal", "share/gettext", "bin/*-config", "bin/*_config",
			"share/vala/vapi", "share/gir-[0-9]*", "share/qt*/mkspecs", "lib/qt*/mkspecs", "lib/cmake", "share/cmake",
			"lib/glade/modules", "share/glade/catalogs")...),
		folders(globs("**/include")),
		files(func(name string, _ fs.DirEntry) (string, bool) {
			inside := slices.ContainsFunc(trees, func(tree string) bool { return tree == "." || strings.HasPrefix(name, tree+"/") })
			ok := doublestar.MatchUnvalidated("**/*.{a,c,h,o,prl}", name)
			return name, inside && ok
		}),
		links(func(name string, _ fs.DirEntry) (string, bool) {
			return name, path.Ext(name) == ".so" && slices.Contains(libraries, path.Dir(name))
		}),
	)
}

// quoteGlob makes a pattern of a path that matches the path alone.
func quoteGlob(p string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `{`, `\{`).Replace(p)
}

// split makes a step that moves what a rule takes from a package (the main one, or
// the one that its input names) to the package that the step stands in.
func split(r rule) native {
	return func(ctx context.Context, c Context, s recipes.Step) error { return c.move(ctx, s, r) }
}

// splitDev moves what development needs.
func splitDev(ctx context.Context, c Context, s recipes.Step) error {
	prefix := path.Clean(strings.TrimLeft(s.Inputs["prefix"], "/"))
	if !fs.ValidPath(prefix) {
		return fmt.Errorf("split/dev: prefix %q leads out of the package", s.Inputs["prefix"])
	}
	return c.move(ctx, s, dev(prefix))
}

// splitInfo makes a step that moves info pages, among others. Their index goes for good.
func splitInfo(r rule) native {
	return func(ctx context.Context, c Context, s recipes.Step) error {
		from, _, err := c.fromTo(s)
		if err != nil {
			return err
		}
		if err := c.Work.Remove(path.Join(from, infoIndex)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return c.move(ctx, s, r)
	}
}

// splitBin moves programs, to a package X-bin from the package X where there is one.
func splitBin(ctx context.Context, c Context, s recipes.Step) error {
	if name, found := strings.CutSuffix(s.Package, "-bin"); found && s.Inputs["package"] == "" && name != "" {
		if info, err := c.Work.Lstat(path.Join(OutPath, name)); err == nil && info.IsDir() {
			s.Inputs = maps.Clone(s.Inputs)
			if s.Inputs == nil {
				s.Inputs = map[string]string{}
			}
			s.Inputs["package"] = name
		}
	}
	from, _, err := c.fromTo(s)
	if err != nil {
		return err
	}
	if info, err := c.Work.Stat(path.Join(from, "usr/bin")); err != nil || !info.IsDir() {
		return fmt.Errorf("split/bin: %s has no folder usr/bin", path.Base(from))
	}
	return c.move(ctx, s, bin)
}

// splitLib moves shared libraries: all, or those that the input patterns names,
// from lib, usr/lib and the folders that the input paths names.
func splitLib(ctx context.Context, c Context, s recipes.Step) error {
	var names []string
	for p := range eachLine(s.Inputs["patterns"]) {
		if p == "*" {
			names = append(names, "*.so.*")
		} else {
			names = append(names, "lib"+p+".so.*")
		}
	}
	if len(names) == 0 {
		names = []string{"*.so.*"}
	}
	for _, name := range names {
		if _, err := path.Match(name, ""); err != nil {
			return fmt.Errorf("split/lib: pattern %q is malformed", name)
		}
	}
	folders := []string{"lib", "usr/lib"}
	for p := range eachLine(s.Inputs["paths"]) {
		folders = append(folders, strings.Trim(path.Clean(p), "/"))
	}
	return c.move(ctx, s, files(func(name string, _ fs.DirEntry) (string, bool) {
		return name, slices.Contains(folders, path.Dir(name)) && slices.ContainsFunc(names, func(pattern string) bool {
			matches, err := path.Match(pattern, path.Base(name))
			return err == nil && matches
		})
	}))
}

// eachLine gives the lines of a list without what is around them, but for empty ones.
func eachLine(list string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(list) {
			if line = strings.TrimSpace(line); line != "" && !yield(line) {
				return
			}
		}
	}
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
	type pair struct{ source, target string }
	var taken []pair
	err = c.walk(ctx, from, func(p string, d fs.DirEntry) error {
		inside := strings.TrimPrefix(p, from+"/")
		target, takes := take(inside, d)
		if !takes {
			return nil
		}
		taken = append(taken, pair{inside, target})
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range taken {
		if err := c.moveOne(from, to, p.source, p.target); err != nil {
			return err
		}
	}
	return nil
}

// moveOne moves the entry p of a package with all below it to q in another; folders that are
// there on both sides become one, and folders that it leaves empty go.
func (c Context) moveOne(from, to, p, q string) error {
	source, target := path.Join(from, p), path.Join(to, q)
	if err := c.sameFolders(from, to, path.Dir(q)); err != nil {
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
			if err := c.moveOne(from, to, path.Join(p, e.Name()), path.Join(q, e.Name())); err != nil {
				return err
			}
		}
		if err := c.Work.Remove(source); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case err == nil && (there.IsDir() || here.IsDir()):
		return fmt.Errorf("%s is a folder in one package and none in the other", q)
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
		if err := c.like(path.Join(from, made), path.Join(to, made), mode); err != nil {
			return err
		}
	}
	return nil
}

// like gives a new folder the mode of another one, which may be open for the moment.
func (c Context) like(from, to string, mode fs.FileMode) error {
	made, err := c.Work.Lstat(to)
	if err != nil {
		return err
	}
	delete(c.closed, inode(made)) // the number may be that of a folder that is gone
	if info, err := c.Work.Stat(from); err == nil {
		if closed, is := c.closed[inode(info)]; is {
			mode = closed
		}
	}
	if mode&0o700 != 0o700 && c.closed != nil {
		c.closed[inode(made)] = mode
		mode |= 0o700
	}
	return c.Work.Chmod(to, mode&modeBits)
}

// opened lets its owner into all folders of the packages while do runs: root gets into
// folders of mode 0 or 0555 anyhow, and for an ordinary user the packages have to be the same.
// Folders are known by their numbers, since they move.
func (c Context) opened(do func(c Context) error) error {
	c.closed = map[uint64]fs.FileMode{}
	err := c.eachFolder(func(name string, info fs.FileInfo) error {
		if info.Mode()&0o700 == 0o700 {
			return nil
		}
		c.closed[inode(info)] = info.Mode()
		return c.Work.Chmod(name, info.Mode().Perm()|0o700)
	})
	if err == nil {
		err = do(c)
	}
	if len(c.closed) == 0 {
		return err
	}
	type folder struct {
		name string
		mode fs.FileMode
	}
	var again []folder
	err = errors.Join(err, c.eachFolder(func(name string, info fs.FileInfo) error {
		if mode, is := c.closed[inode(info)]; is {
			again = append(again, folder{name, mode})
		}
		return nil
	}))
	for _, f := range slices.Backward(again) { // what lies inside first
		err = errors.Join(err, c.Work.Chmod(f.name, f.mode&modeBits))
	}
	return err
}

// eachFolder visits all folders of all packages, each before what lies in it.
func (c Context) eachFolder(visit func(name string, info fs.FileInfo) error) error {
	return c.walk(context.Background(), OutPath, func(p string, d fs.DirEntry) error {
		if !d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return visit(p, info)
	})
}

func inode(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
