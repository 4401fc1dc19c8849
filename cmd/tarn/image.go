package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

type imageOptions struct {
	sbom         sbomOptions
	arches       []string
	repositories []string
	trustFlags
	packages    []string
	output      string
	tag         string
	buildDate   string
	compression string
	formats     []string
	files       bool
	lockfile    string
	noLock      bool
	jobs        int
}

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "compose images of packages",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.imageBuildCommand(), a.imageLockCommand(), a.imagePublishCommand(), a.imageShowCommand(), a.imageSizeCommand())
	cmd.AddCommand(a.imageTestCommand(), a.imageVerifyCommand())
	cmd.AddCommand(a.imageDiffCommand(), a.imageWhyCommand())
	return cmd
}

func (o *imageOptions) add(cmd *cobra.Command) {
	o.addSources(cmd)
	f := cmd.Flags()
	f.StringVar(&o.lockfile, "lockfile", "", "the lock with the exact packages, of tarn or apko (default: NAME.lock.json beside the image file, where it is there)")
	f.BoolVar(&o.noLock, "no-lock", false, "take the best packages there are, whatever a lock says")
	f.StringVar(&o.compression, "compression", "", "how layers are compressed: gzip, zstd or none (default: the image file's layering, else gzip)")
	f.StringVar(&o.buildDate, "build-date", "", "when the image was created, as RFC 3339 or Unix seconds (default: $SOURCE_DATE_EPOCH, else when its newest package was built)")
}

// addSources adds the flags that say which packages there are.
func (o *imageOptions) addSources(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&o.arches, "arch", nil, "architectures (default: the image file's archs, else this machine's)")
	f.StringSliceVarP(&o.repositories, "repository-append", "r", nil, "a further repository: a folder or an address")
	o.trustFlags.add(f)
	f.StringSliceVarP(&o.packages, "package-append", "p", nil, "a further package")
	o.addUntrusted(f, "ignore-signatures")
}

// composer composes the images of one run. Its methods may be called from several
// goroutines.
type composer struct {
	*app
	ws    *workspace
	store *store.Store
	keys  *sign.Keyring
	o     imageOptions

	here  bool                              // of several architectures only this machine's is wanted
	stage func(image, stage, detail string) // told what is being done, where not nil
	said  io.Writer                         // for what the user should know meanwhile

	locked  sync.Map // the lock that was used, by image file
	opening sync.Mutex
	opened  map[string]*repo.Repository // so that an index is read once for all images and architectures
}

func (a *app) openComposer(o imageOptions) (*composer, error) {
	if o.lockfile != "" && o.noLock {
		return nil, usagef("--lockfile and --no-lock exclude each other")
	}
	if _, err := images.ParseCompression(o.compression); err != nil {
		return nil, usagef("--compression: %v", err)
	}
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
	return &composer{app: a, ws: ws, store: st, keys: keys, o: o, said: a.err, opened: map[string]*repo.Repository{}}, nil
}

// begin tells that a stage of an image's way begins.
func (c *composer) begin(s *images.Spec, stage string) {
	if c.stage != nil {
		c.stage(s.Name(), stage, "")
	}
}

// specs reads the named image files, or all. Beside mistakes in some of them it gives the
// others.
func (c *composer) specs(names []string) ([]*images.Spec, error) {
	if len(names) == 0 {
		for _, dir := range c.ws.Images {
			found, err := filepath.Glob(filepath.Join(c.ws.path(dir), "*.yaml"))
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
		if len(names) == 0 {
			fmt.Fprintf(c.err, "there are no image files in %s\n", strings.Join(c.ws.Images, ", "))
		}
	}
	var specs []*images.Spec
	var problems diag.Problems
	seen := map[string]bool{}
	for _, name := range names {
		file, err := c.imageFile(name)
		if err != nil {
			return nil, err
		}
		if seen[file] {
			continue
		}
		seen[file] = true
		s, err := c.loadImage(file)
		if found, listed := diag.Of(err); listed {
			problems = append(problems, found...)
			continue
		} else if err != nil {
			return nil, err
		}
		specs = append(specs, s)
	}
	if len(specs) > 1 && c.o.lockfile != "" {
		return nil, usagef("--lockfile is for one image, and there are %d", len(specs))
	}
	return specs, problems.Err()
}

// differentNames refuses images that would be written to one place.
func differentNames(specs []*images.Spec) error {
	byName := map[string]*images.Spec{}
	for _, s := range specs {
		if other := byName[s.Name()]; other != nil {
			return usagef("two images are called %s: %s and %s\n  hint: one would be written over the other: do one at a time, with another --output or tag, or rename a file", s.Name(), relative(other.Path), relative(s.Path))
		}
		byName[s.Name()] = s
	}
	return nil
}

// loadImage reads an image file and what it includes, which lies in the workspace's
// folder, or in the file's own when that is elsewhere: nothing leads out of there.
func (c *composer) loadImage(file string) (*images.Spec, error) {
	dir := c.ws.dir
	name, err := filepath.Rel(dir, file)
	if err != nil || !filepath.IsLocal(name) {
		dir, name = filepath.Split(file)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	s, err := images.LoadAs(root.FS(), name, func(f string) string { return relative(filepath.Join(dir, f)) })
	if err != nil {
		return nil, err
	}
	s.Path = file
	return s, nil
}

// imageFile finds an image file by its path or by its name.
func (c *composer) imageFile(name string) (string, error) {
	if isFile(name) {
		if _, err := os.Stat(name); err != nil {
			return "", usagef("%v", err)
		}
		return filepath.Abs(name)
	}
	var all []string
	for _, dir := range c.ws.Images {
		file := filepath.Join(c.ws.path(dir), name+".yaml")
		if _, err := os.Stat(file); err == nil && name == filepath.Base(name) {
			return file, nil
		}
		found, _ := filepath.Glob(filepath.Join(c.ws.path(dir), "*.yaml"))
		for _, f := range found {
			all = append(all, strings.TrimSuffix(filepath.Base(f), ".yaml"))
		}
	}
	hint := diag.DidYouMean(name, all)
	if hint != "" {
		hint = "\n  hint: " + hint
	}
	return "", usagef("unknown image %q%s", name, hint)
}

// arches are the architectures that an image is composed for.
func (c *composer) arches(s *images.Spec) ([]apk.Arch, error) {
	if len(c.o.arches) == 0 && len(s.Archs) > 0 {
		all, err := s.ParseArchs()
		own := slices.IndexFunc(all, func(arch apk.Arch) bool { return arch.GoArch() == runtime.GOARCH })
		if c.here && own >= 0 {
			all = all[own : own+1]
		}
		return all, err
	}
	return parseArches(c.o.arches)
}

// asked is an image file whose world is what was asked for, by it or by flags.
func (c *composer) asked(s *images.Spec) (*images.Spec, error) {
	asked := *s
	asked.World = slices.Clone(s.World)
	for _, text := range c.o.packages {
		r, err := solve.ParseRequirement(text)
		if err != nil {
			return nil, usagef("--package-append: %v", err)
		}
		r.From = "--package-append"
		asked.World = append(asked.World, r)
	}
	if c.o.compression != "" {
		asked.Layering = s.Layering.WithCompression(c.o.compression)
	}
	return &asked, nil
}

// compose composes an image for the architectures asked for, of the packages that its
// lock names, or, without one, of the best there are.
func (c *composer) compose(ctx context.Context, s *images.Spec) ([]*images.Image, error) {
	composed, err := c.composeArches(ctx, s)
	switch {
	case err == nil, is[*images.StaleError](err), is[*usageError](err):
		return composed, err
	case is[*images.LostError](err):
		return nil, fmt.Errorf("%w\n  hint: take what there is now: tarn image lock %s", err, c.called(s))
	}
	if isPlaced(err) {
		return nil, err
	}
	err = fmt.Errorf("%s: %w", relative(s.Path), err)
	if _, locked := c.locked.Load(s.Path); locked && is[*repo.TrustError](err) {
		err = fmt.Errorf("%w\n  hint: where that is meant: tarn image lock %s", err, c.called(s))
	}
	return nil, err
}

// isPlaced tells whether an error says itself in which files it is.
func isPlaced(err error) bool {
	placed, _ := diag.Of(err)
	return len(placed) > 0 && !slices.ContainsFunc(placed, func(p diag.Problem) bool { return p.File == "" })
}

func (c *composer) composeArches(ctx context.Context, s *images.Spec) ([]*images.Image, error) {
	arches, err := c.arches(s)
	if err != nil {
		return nil, err
	}
	asked, err := c.asked(s)
	if err != nil {
		return nil, err
	}
	lock, err := c.readLock(s)
	if err != nil {
		return nil, err
	}
	if lock != nil {
		fmt.Fprintf(c.said, "%s: the packages are those of %s\n", s.Name(), lock.Path)
		c.locked.Store(s.Path, lock.Path)
		if err := c.checkLock(lock, asked, arches); err != nil {
			return nil, err
		}
	}
	if s.Contents.BaseImage != nil && lock == nil {
		return nil, s.Contents.Here.Key("baseimage").Problem("tarn image lock "+c.called(s), "what is put on top of a base image has to be locked, and there is no lock")
	}
	from, err := c.sources(ctx, s, lock)
	if err != nil {
		return nil, err
	}
	var composed []*images.Image
	for _, arch := range arches {
		image, err := c.composeArch(ctx, asked, arch, lock, from)
		if err != nil {
			return nil, err
		}
		composed = append(composed, image)
	}
	return composed, nil
}

func (c *composer) composeArch(ctx context.Context, s *images.Spec, arch apk.Arch, lock *images.Lock, from *packageSources) (*images.Image, error) {
	from = from.of(arch)
	var packages []images.Package
	var err error
	if lock != nil {
		packages, err = c.lockedPackages(ctx, s, arch, lock, from)
	} else {
		packages, err = c.bestPackages(ctx, s, arch, from)
	}
	if err != nil {
		return nil, err
	}
	o := images.Options{Arch: arch, Store: c.store, Keys: from.keys, Trusted: from.trusted, RootFS: c.wants("rootfs"), CPIO: c.wants("cpio")}
	date := c.o.buildDate
	if date == "" {
		date = os.Getenv("SOURCE_DATE_EPOCH")
	}
	if date != "" {
		if o.Epoch, err = parseDate(date); err != nil {
			return nil, err
		}
	}
	if o.Base, err = c.base(ctx, s, arch); err != nil {
		return nil, err
	}
	if o.Base != nil {
		if err := o.Base.Prepare(c.store, arch); err != nil {
			return nil, err
		}
	}
	c.begin(s, "compose")
	return images.Compose(ctx, s, packages, o)
}

// bestPackages solves what an image asks for, and fetches the packages.
func (c *composer) bestPackages(ctx context.Context, s *images.Spec, arch apk.Arch, from *packageSources) ([]images.Package, error) {
	c.begin(s, "resolve")
	lock, err := c.resolve(ctx, s, arch, from)
	if err != nil {
		return nil, err
	}
	c.begin(s, "fetch")
	return c.fetchAll(ctx, lock)
}

func (c *composer) resolve(ctx context.Context, s *images.Spec, arch apk.Arch, from *packageSources) (repo.Lock, error) {
	if len(from.set) == 0 {
		return nil, errors.New("there is no repository to take packages from\n  hint: tarn build, or name one with --repository-append")
	}
	base, err := c.base(ctx, s, arch)
	if err != nil {
		return nil, err
	}
	set, world := onBase(base, from.set, s.World)
	lock, err := set.Resolve(ctx, arch, world, solve.Options{AnyRevision: true})
	if err != nil {
		return nil, err
	}
	lock = withoutBase(lock)
	return lock, c.tellDoubles(ctx, c.said, from.set, arch, lock)
}

// fetchAll puts solved packages into the store.
func (c *composer) fetchAll(ctx context.Context, lock repo.Lock) ([]images.Package, error) {
	packages := make([]images.Package, len(lock))
	for i, locked := range lock {
		digest, err := locked.Fetch(ctx, c.store)
		if err != nil {
			return nil, err
		}
		packages[i] = images.Package{Entry: locked.Entry, Digest: digest, From: locked.From}
	}
	return packages, nil
}

// packageSources are where an image's packages come from: the workspace's own repository,
// those of the image file, those of flags and workspace.
type packageSources struct {
	set   repo.Set
	names []string          // of the set, as a lock calls them
	keys  map[string][]byte // of the image file's keyring, by file name
	// trusted are those and the workspace's: who may have signed packages of this image.
	trusted *sign.Keyring
	own     string // the folder of the workspace's own, which is the first; or ""
}

// of are the sources for an architecture. Who has built nothing for it in the workspace can
// still have the packages of others.
func (from *packageSources) of(arch apk.Arch) *packageSources {
	if from.own == "" || len(from.set) < 2 || exists(filepath.Join(from.own, string(arch))) {
		return from
	}
	others := *from
	others.own, others.set, others.names = "", from.set[1:], from.names[1:]
	return &others
}

// sources opens them. The keys are the lock's, where it has them: then no server is asked,
// and what is written into the image is what was locked.
func (c *composer) sources(ctx context.Context, s *images.Spec, lock *images.Lock) (*packageSources, error) {
	from := &packageSources{keys: map[string][]byte{}}
	known := false
	if lock != nil {
		from.keys, known = lock.Keys(s.Contents.Keyring)
	}
	if !known {
		from.keys = map[string][]byte{}
		for _, location := range s.Contents.Keyring {
			name, data, err := c.readKey(ctx, location)
			if err != nil {
				return nil, err
			}
			from.keys[name] = data
		}
	}
	keys, id := c.keys, ""
	if len(from.keys) > 0 {
		// They vouch for what this image asks, and for no other image's repositories.
		var err error
		if keys, err = keyring(c.ws, c.o.keyrings); err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(from.keys)) {
			key, err := sign.ParsePublic(name, from.keys[name])
			if err == nil {
				err = keys.Add(key)
			}
			if err != nil {
				return nil, err
			}
			id += "\n" + name + "\n" + string(store.DigestOf(from.keys[name]))
		}
	}
	from.trusted = keys
	var locations []string
	if _, err := os.Stat(c.ws.path(c.ws.Packages)); err == nil {
		locations, from.own = append(locations, c.ws.Packages), c.ws.path(c.ws.Packages)
	}
	locations = slices.Concat(locations, s.Contents.Repositories, s.Contents.BuildRepositories, c.o.repositories, c.ws.Repositories)
	for _, text := range locations {
		tag, location := cutTag(text)
		name := c.lockName(location)
		if !strings.Contains(location, "://") {
			location = c.ws.path(location)
		}
		r, err := c.openOnce(location, keys, id)
		if err != nil {
			return nil, err
		}
		var source repo.Source = r
		if tag != "" {
			source = repo.Tagged{Source: r, Tag: tag}
		}
		from.set, from.names = append(from.set, source), append(from.names, name)
	}
	return from, nil
}

// openOnce opens a repository, once for all images that trust the same keys.
func (c *composer) openOnce(location string, keys *sign.Keyring, keysID string) (*repo.Repository, error) {
	c.opening.Lock()
	defer c.opening.Unlock()
	if r := c.opened[location+keysID]; r != nil {
		return r, nil
	}
	r, err := c.openRepository(c.ws, c.store, &c.o.trustFlags, keys, location)
	if err == nil {
		c.opened[location+keysID] = r
	}
	return r, err
}

// readKey reads a public key that an image file names: a file, or an address.
func (c *composer) readKey(ctx context.Context, location string) (string, []byte, error) {
	name := images.KeyFile(location)
	if !strings.Contains(location, "://") {
		data, err := os.ReadFile(c.ws.path(location))
		return name, data, err
	}
	if c.offline {
		return "", nil, fmt.Errorf("read key %s: the network is off (--offline)", location)
	}
	data, err := repo.FetchKey(ctx, nil, location)
	return name, data, err
}
