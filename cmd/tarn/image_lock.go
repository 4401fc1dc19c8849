package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/repo"
)

func (a *app) imageLockCommand() *cobra.Command {
	var o imageOptions
	var update []string
	cmd := &cobra.Command{
		Use:   "lock [IMAGE...]",
		Short: "write which exact packages images are made of",
		Long: `lock solves what the named image files ask for (by name, or by file; all of the
workspace when none is named) and writes NAME.lock.json beside each: every package
by its version and its SHA-256, for each architecture. Image build uses it from then on,
also when the repository has lost a package that the store has.

The format is apko's. With --update the packages of an earlier lock stay, but for the
named ones, which become the newest, and what these need changed.`,
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runImageLock(cmd.Context(), o, update, args)
		},
	}
	o.addSources(cmd)
	f := cmd.Flags()
	f.StringSliceVarP(&update, "update", "u", nil, "update these packages, and of all others only what they need changed")
	f.StringVarP(&o.output, "output", "o", "", "the file to write (default: NAME.lock.json beside the image file)")
	return cmd
}

// lockRow is what became of one image's lock.
type lockRow struct {
	Image    string       `json:"image"`
	Lock     string       `json:"lock"`
	Packages int          `json:"packages"` // of all architectures
	Arches   []apk.Arch   `json:"arches"`
	Changes  []lockChange `json:"changes"`
}

// lockChange is a package that another lock had in another version, or not.
type lockChange struct {
	Package string   `json:"package"`
	Arch    apk.Arch `json:"arch"`
	Before  string   `json:"before,omitempty"` // its version; empty where it is new
	After   string   `json:"after,omitempty"`  // empty where it is gone
}

func (a *app) runImageLock(ctx context.Context, o imageOptions, update, names []string) error {
	c, err := a.openComposer(o)
	if err != nil {
		return err
	}
	specs, mistakes, err := c.specsToDo(names)
	if err != nil {
		return err
	}
	if len(specs) > 1 && o.output != "" {
		return usagef("--output is for one image, and there are %d", len(specs))
	}
	all := make([]lockRow, len(specs))
	failed, err := c.each(ctx, specs, defaultImages(), func(ctx context.Context, i int, s *images.Spec) (string, error) {
		var err error
		if all[i], err = c.lock(ctx, s, update); err != nil && isPlaced(err) {
			return "", err
		} else if err != nil {
			return "", fmt.Errorf("%s: %w", relative(s.Path), err)
		}
		return "", nil
	})
	rows := []lockRow{}
	for i, row := range all {
		if failed[i] == nil {
			rows = append(rows, row)
		}
	}
	errs := append(failed, mistakes, err)
	if a.json {
		if err := a.printJSON(rows); err != nil {
			return err
		}
		return errors.Join(errs...)
	}
	for _, row := range rows {
		changed := "nothing"
		if n := len(row.Changes); n > 0 {
			changed = strconv.Itoa(n)
		}
		fmt.Fprintf(a.out, "%s: %s for %s, %s changed\n", row.Lock, plural(row.Packages, "package"), archList(row.Arches), changed)
		for _, change := range row.Changes {
			fmt.Fprintln(a.out, plain("  "+change.String(len(row.Arches) > 1)))
		}
	}
	return errors.Join(errs...)
}

func archList(arches []apk.Arch) string {
	words := make([]string, len(arches))
	for i, arch := range arches {
		words[i] = string(arch)
	}
	return strings.Join(words, " ")
}

func (ch lockChange) String(several bool) string {
	text := ch.Package
	if several {
		text += " (" + string(ch.Arch) + ")"
	}
	switch {
	case ch.Before == "":
		return text + ": added " + ch.After
	case ch.After == "":
		return text + ": removed " + ch.Before
	case ch.Before == ch.After:
		return text + ": " + ch.After + " with other content"
	}
	return text + ": " + ch.Before + " -> " + ch.After
}

// lock solves one image and writes its lock.
func (c *composer) lock(ctx context.Context, s *images.Spec, update []string) (lockRow, error) {
	file := c.o.output
	if file == "" {
		file = images.LockPath(s.Path)
	}
	row := lockRow{Image: s.Name(), Lock: relative(file), Changes: []lockChange{}}
	before, err := readLockFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if len(update) > 0 {
			return row, usagef("--update changes a lock, and there is no %s\n  hint: tarn image lock %s", relative(file), c.called(s))
		}
	} else if err != nil && len(update) > 0 {
		return row, err
	}
	arches, err := c.arches(s)
	if err != nil {
		return row, err
	}
	asked, err := c.asked(s)
	if err != nil {
		return row, err
	}
	from, err := c.sources(ctx, s, nil)
	if err != nil {
		return row, err
	}
	lock := c.newLock(asked, arches, from)
	c.begin(s, "resolve")
	for _, arch := range arches {
		var some []images.LockedPackage
		from := from.of(arch)
		if len(update) > 0 {
			some, err = c.update(ctx, asked, arch, from, before, update)
		} else {
			some, err = c.lockArch(ctx, asked, arch, from)
		}
		if err != nil {
			return row, err
		}
		lock.Contents.Packages = append(lock.Contents.Packages, some...)
	}
	if err := agree(lock); err != nil {
		return row, err
	}
	row.Arches, row.Packages = arches, len(lock.Contents.Packages)
	row.Changes = append(row.Changes, lockChanges(before, lock)...)
	return row, lock.Write(file)
}

// newLock is a lock without packages.
func (c *composer) newLock(s *images.Spec, arches []apk.Arch, from *packageSources) *images.Lock {
	lock := &images.Lock{Version: "v1", Config: &images.LockConfig{Name: filepath.Base(s.Path), Checksum: s.Checksum, World: images.WorldTexts(s.World)}}
	contents := &lock.Contents
	contents.Keyring, contents.Packages = []images.LockedKey{}, []images.LockedPackage{}
	for _, location := range s.Contents.Keyring {
		contents.Keyring = append(contents.Keyring, images.LockedKey{Name: withoutScheme(location), URL: location, Content: string(from.keys[images.KeyFile(location)])})
	}
	slices.SortFunc(contents.Keyring, func(a, b images.LockedKey) int { return strings.Compare(a.Name, b.Name) })
	list := func(names []string) []images.LockedRepository {
		all := []images.LockedRepository{}
		for _, arch := range arches {
			for _, name := range names {
				if !slices.Contains(from.of(arch).names, name) && slices.Contains(from.names, name) {
					continue
				}
				name += "/" + string(arch)
				all = append(all, images.LockedRepository{Name: withoutScheme(name), URL: name + "/APKINDEX.tar.gz", Architecture: string(arch)})
			}
		}
		return all
	}
	build, runtime := c.lockNames(s.Contents.BuildRepositories), c.lockNames(s.Contents.RuntimeRepositories)
	contents.BuildRepositories, contents.RuntimeRepositories = list(build), list(runtime)
	contents.Repositories = list(slices.DeleteFunc(slices.Clone(from.names), func(name string) bool { return slices.Contains(build, name) }))
	return lock
}

func withoutScheme(location string) string {
	return strings.TrimPrefix(strings.TrimPrefix(location, "https://"), "http://")
}

// lockName is what a lock calls a repository: an address without names and passwords, or
// a path from the workspace's folder, whatever folder this one lies in.
func (c *composer) lockName(location string) string {
	if u, err := url.Parse(location); err == nil && strings.Contains(location, "://") {
		u.User = nil
		return strings.TrimRight(u.String(), "/")
	}
	if rel, err := filepath.Rel(c.ws.dir, c.ws.path(location)); err == nil && (filepath.IsLocal(rel) || !filepath.IsAbs(location)) {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(filepath.Clean(location))
}

func (c *composer) lockNames(texts []string) []string {
	var names []string
	for _, text := range texts {
		_, location := cutTag(text)
		names = append(names, c.lockName(location))
	}
	return names
}

// lockArch solves an image anew for one architecture.
func (c *composer) lockArch(ctx context.Context, s *images.Spec, arch apk.Arch, from *packageSources) ([]images.LockedPackage, error) {
	solved, err := c.resolve(ctx, s, arch, from)
	if err != nil {
		return nil, err
	}
	var all []images.LockedPackage
	for _, p := range solved {
		locked, err := c.lockPackage(ctx, p, arch, from)
		if err != nil {
			return nil, err
		}
		all = append(all, locked)
	}
	return all, nil
}

// lockPackage fetches a package and describes it.
func (c *composer) lockPackage(ctx context.Context, p repo.Locked, arch apk.Arch, from *packageSources) (images.LockedPackage, error) {
	digest, err := p.Fetch(ctx, c.store)
	if err != nil {
		return images.LockedPackage{}, err
	}
	location := ""
	for i, source := range from.set {
		if source == p.Source {
			location = from.names[i]
		}
	}
	source := p.Source
	if t, tagged := source.(repo.Tagged); tagged {
		source = t.Source
	}
	file := string(arch) + "/" + p.Entry.FileName()
	if r, is := source.(*repo.Repository); is {
		if file, err = r.PackagePath(p.Entry); err != nil {
			return images.LockedPackage{}, err
		}
	}
	return images.LockPackage(c.store, digest, arch, location+"/"+file)
}

// update is the packages of a lock for one architecture, where the named ones are the
// newest and the others change only where these need it.
func (c *composer) update(ctx context.Context, s *images.Spec, arch apk.Arch, from *packageSources, before *images.Lock, names []string) ([]images.LockedPackage, error) {
	there := before.Packages(arch)
	if len(there) == 0 {
		return c.lockArch(ctx, s, arch, from) // an architecture that is new
	}
	kept := map[string]*images.LockedPackage{}
	var known []string
	for _, p := range there {
		kept[p.Name] = p
		known = append(known, p.Name)
	}
	for _, r := range s.World {
		known = append(known, r.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, usagef("--update %s: the lock has no such package%s", name, hintOf(diag.DidYouMean(name, known)))
		}
	}
	packages, err := before.Fetch(ctx, c.store, arch, from.located())
	if err != nil {
		return nil, err
	}
	entries := make([]*apk.Entry, len(packages))
	for i, p := range packages {
		entries[i] = p.Entry
	}
	if len(from.set) == 0 {
		return nil, errors.New("there is no repository to take packages from\n  hint: name one with --repository-append")
	}
	base, err := c.base(ctx, s, arch)
	if err != nil {
		return nil, err
	}
	set, world := onBase(base, from.set, s.World)
	solved, err := set.Renew(ctx, arch, world, entries, names, solve.Options{AnyRevision: true})
	if err != nil {
		return nil, err
	}
	solved = withoutBase(solved)
	if err := c.tellStaying(ctx, s, arch, from, solved, names); err != nil {
		return nil, err
	}
	var all []images.LockedPackage
	for _, p := range solved {
		if old := kept[p.Name]; old != nil && old.Version == string(p.Version) && (old.Checksum == "" || old.Checksum == p.Entry.Checksum.String()) {
			all = append(all, *old)
			continue
		}
		locked, err := c.lockPackage(ctx, p, arch, from)
		if err != nil {
			return nil, err
		}
		all = append(all, locked)
	}
	return all, nil
}

// tellStaying tells of packages that were to be updated and for which there is a newer
// version that would change what they do not need.
func (c *composer) tellStaying(ctx context.Context, s *images.Spec, arch apk.Arch, from *packageSources, solved repo.Lock, names []string) error {
	for _, p := range solved {
		if !slices.Contains(names, p.Name) {
			continue
		}
		newest := p.Version
		for _, source := range from.set {
			if _, tagged := source.(repo.Tagged); tagged {
				continue
			}
			there, err := repo.Universe(ctx, source, arch, solve.Package{})
			if err != nil {
				return err
			}
			found := false
			for _, q := range there.Providers(p.Name) {
				if q.Name != p.Name {
					continue
				}
				if found = true; q.Version.Compare(newest) > 0 {
					newest = q.Version
				}
			}
			if found {
				break // what a later source has is not preferred
			}
		}
		if newest != p.Version {
			fmt.Fprintln(c.said, plain(fmt.Sprintf("%s: %s is %s for %s: %s does not fit what the image asks for and what else is locked\n  hint: name what has to change with it, too, or solve all anew: tarn image lock %s",
				s.Name(), p.Name, p.Version, arch, newest, c.called(s))))
		}
	}
	return nil
}

// agree holds apko's rule for an image of several architectures: what is in several of
// them is the same version in each. Packages that only some of them have are fine.
func agree(lock *images.Lock) error {
	versions := map[string]*images.LockedPackage{}
	var differ []string
	for i := range lock.Contents.Packages {
		p := &lock.Contents.Packages[i]
		if other := versions[p.Name]; other == nil {
			versions[p.Name] = p
		} else if other.Version != p.Version {
			differ = append(differ, fmt.Sprintf("%s is %s for %s and %s for %s", p.Name, other.Version, other.Architecture, p.Version, p.Architecture))
		}
	}
	if len(differ) == 0 {
		return nil
	}
	return &codeError{exitSolution, fmt.Errorf("the architectures do not agree on versions:\n  %s\n  hint: ask for a version that each has, e.g. %s=%s, or lock fewer architectures with --arch",
		strings.Join(differ, "\n  "), strings.Fields(differ[0])[0], strings.Fields(differ[0])[2])}
}

// lockChanges compares two locks. Before may be nil.
func lockChanges(before, after *images.Lock) (changes []lockChange) {
	type key struct{ arch, name string }
	old := map[key]*images.LockedPackage{}
	if before != nil {
		for i := range before.Contents.Packages {
			p := &before.Contents.Packages[i]
			old[key{p.Architecture, p.Name}] = p
		}
	}
	for i := range after.Contents.Packages {
		p := &after.Contents.Packages[i]
		k := key{p.Architecture, p.Name}
		was := old[k]
		delete(old, k)
		switch {
		case was == nil:
			changes = append(changes, lockChange{Package: p.Name, Arch: apk.Arch(p.Architecture), After: p.Version})
		case was.Version != p.Version, was.Control.Checksum != p.Control.Checksum, was.Data.Checksum != p.Data.Checksum:
			changes = append(changes, lockChange{Package: p.Name, Arch: apk.Arch(p.Architecture), Before: was.Version, After: p.Version})
		}
	}
	for _, p := range old {
		changes = append(changes, lockChange{Package: p.Name, Arch: apk.Arch(p.Architecture), Before: p.Version})
	}
	slices.SortFunc(changes, func(a, b lockChange) int {
		return cmp.Or(strings.Compare(a.Package, b.Package), strings.Compare(string(a.Arch), string(b.Arch)))
	})
	return changes
}

// readLockFile reads a lock.
func readLockFile(file string) (*images.Lock, error) {
	dir, name := filepath.Split(file)
	data, err := yamlread.ReadFile(os.DirFS(filepath.Clean(dir)), name)
	if err != nil {
		return nil, err
	}
	return images.ReadLock(relative(file), data)
}

// readLock finds and reads the lock of an image; nil where there is none or it is not asked for.
func (c *composer) readLock(s *images.Spec) (*images.Lock, error) {
	if c.o.noLock {
		return nil, nil
	}
	if c.o.lockfile == "" {
		lock, err := readLockFile(images.LockPath(s.Path))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return lock, err
	}
	lock, err := readLockFile(c.o.lockfile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("--lockfile %s: there is no such file", c.o.lockfile)
	}
	return lock, err
}

// lockUsed is the lock that named an image's packages, or nothing.
func (c *composer) lockUsed(s *images.Spec) string {
	file, _ := c.locked.Load(s.Path)
	text, _ := file.(string)
	return text
}

// called is what the user calls an image: its name, or its file where that is elsewhere.
func (c *composer) called(s *images.Spec) string {
	for _, dir := range c.ws.Images {
		if filepath.Dir(s.Path) == filepath.Clean(c.ws.path(dir)) {
			return s.Name()
		}
	}
	return relative(s.Path)
}

// checkLock says in what a lock is not what an image asks for any more.
func (c *composer) checkLock(lock *images.Lock, s *images.Spec, arches []apk.Arch) error {
	named := c.lockNames(slices.Concat(s.Contents.Repositories, s.Contents.BuildRepositories))
	all := append(c.lockNames(slices.Concat(c.o.repositories, c.ws.Repositories)), c.lockName(c.ws.Packages))
	return c.stale(lock, s, lock.Check(images.Question{Spec: s, World: s.World, Arch: arches, Named: named, All: append(all, named...)}))
}

func (c *composer) stale(lock *images.Lock, s *images.Spec, differences []string) error {
	if len(differences) == 0 {
		return nil
	}
	return &images.StaleError{Lock: lock.Path, Image: relative(s.Path), Differences: differences, Hint: "tarn image lock " + c.called(s)}
}

// lockedPackages are the packages of a lock for one architecture, in the store.
func (c *composer) lockedPackages(ctx context.Context, s *images.Spec, arch apk.Arch, lock *images.Lock, from *packageSources) ([]images.Package, error) {
	c.begin(s, "fetch")
	packages, err := lock.Fetch(ctx, c.store, arch, from.located())
	if lost, is := errors.AsType[*images.LostError](err); is {
		for i, p := range lost.Packages {
			for _, r := range s.World {
				if r.Name == p.Name && !r.Conflict {
					lost.Packages[i].AskedBy = append([]string{r.From + " asks " + r.String()}, p.AskedBy...)
				}
			}
		}
	}
	if err != nil {
		return nil, err
	}
	for i := range packages {
		if !strings.Contains(packages[i].From, "://") {
			packages[i].From = c.ws.path(packages[i].From)
		}
	}
	base, err := c.base(ctx, s, arch)
	if err != nil {
		return nil, err
	}
	_, world := onBase(base, nil, s.World)
	return packages, c.stale(lock, s, lock.Satisfies(world, slices.Concat(packages, basePackages(base))))
}

// located are the sources as a lock calls them.
func (from *packageSources) located() []images.LockSource {
	all := make([]images.LockSource, len(from.set))
	for i, source := range from.set {
		all[i] = images.LockSource{Source: source, Location: from.names[i]}
	}
	return all
}
