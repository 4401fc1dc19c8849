package seed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/debian"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
	"golang.org/x/sync/errgroup"
)

// Name is the name of the package that is made.
const Name = "seed-toolchain"

// Options say where the seed comes from. Store and Fetcher must be there.
type Options struct {
	Store   *store.Store
	Fetcher *source.Fetcher
	// Lock is the path of the lock; tarn's own when empty.
	Lock string
	// Node opens seed-node in place of seed-toolchain.
	Node bool
	// Suite comes before the lock's, and Keyring before the keys of apt's settings.
	Suite, Keyring string
}

// Seed is a seed by its lock. It is a source of packages, which has one.
type Seed struct {
	store   *store.Store
	fetcher *source.Fetcher
	archive *source.DebianArchive
	kind    *kind
	lock    *Lock
	entry   *apk.Entry
}

var _ repo.Source = (*Seed)(nil)

// Open reads the lock. Nothing is fetched.
func Open(o Options) (*Seed, error) {
	k := &toolchain
	if o.Node {
		k = &node18
	}
	lock, err := readLock(k, o.Lock)
	if err != nil {
		return nil, err
	}
	lock.Suite = cmp.Or(o.Suite, lock.Suite)
	s := &Seed{kind: k, store: o.Store, fetcher: o.Fetcher, lock: lock, archive: o.Fetcher.Debian()}
	if o.Keyring != "" {
		s.archive = &source.DebianArchive{Fetcher: o.Fetcher, Keyring: o.Keyring}
	}
	if s.entry, err = entry(k, lock); err != nil {
		return nil, err
	}
	return s, nil
}

// entry is the package as the lock alone tells it.
func entry(k *kind, l *Lock) (*apk.Entry, error) {
	e := &apk.Entry{Info: apk.Info{
		Name: k.name, Arch: arches[l.Arch].alpine, Origin: repo.SeedOrigin, Size: l.Size,
		Description: "binary packages of Debian " + l.Suite + " that " + k.purpose,
		URL:         "https://www.debian.org/", Licenses: []string{k.license},
	}}
	for _, name := range k.replaces {
		e.Replaces = append(e.Replaces, apk.Dependency{Name: name})
	}
	provide := func(name, version string) error {
		d, err := apk.ParseDependency(name + "=" + version + "-r0")
		e.Provides = append(e.Provides, d)
		return err
	}
	for _, p := range l.Packages {
		if p.Name == k.bears {
			e.Version = apk.Version(upstream(p.Version) + "-r0")
		}
		for _, name := range k.provides[p.Name] {
			if err := provide(name, upstream(p.Version)); err != nil {
				return nil, fmt.Errorf("seed: package %s %s: %w", p.Name, p.Version, err)
			}
		}
	}
	version := upstream(string(e.Version))
	for _, name := range l.Programs {
		if err := provide("cmd:"+name, version); err != nil {
			return nil, fmt.Errorf("seed: %w", err)
		}
	}
	slices.SortFunc(e.Provides, func(a, b apk.Dependency) int { return cmp.Compare(a.Name, b.Name) })
	return e, nil
}

// Name is how messages call the seed.
func (s *Seed) Name() string { return s.kind.title + " (Debian " + s.lock.Suite + ")" }

// Len is the number of Debian's packages that the seed is made of.
func (s *Seed) Len() int { return len(s.lock.Packages) }

// Packages lists the one package, on the architecture that it is for.
func (s *Seed) Packages(_ context.Context, arch apk.Arch) ([]*apk.Entry, error) {
	if arch != s.entry.Arch {
		return nil, nil
	}
	return []*apk.Entry{s.entry}, nil
}

// Entry is the package, as it is known without fetching anything.
func (s *Seed) Entry() *apk.Entry { return s.entry }

// ID names the bytes of the package by the lock and the layout. Where the packages
// come from decides nothing, for their digests are in the lock.
func (s *Seed) ID() store.ActionID {
	h := store.NewHash("seed")
	h.Line("layout", s.kind.layout)
	if s.kind.name != Name {
		h.Line("package", s.kind.name)
	}
	h.Line("arch", s.lock.Arch)
	h.Line("suite", s.lock.Suite) // of the description
	for _, p := range s.lock.Packages {
		h.Line("package "+p.Name, p.Version+" "+p.SHA256)
	}
	h.Line("programs", s.lock.Programs)
	h.Line("size", s.lock.Size)
	return h.Sum()
}

// Identity names the bytes that installing the seed gives.
func (s *Seed) Identity(*apk.Entry) string { return "seed:" + string(s.ID()) }

// Fetch puts the package into the store: it recalls it, or fetches Debian's packages
// and makes it.
func (s *Seed) Fetch(ctx context.Context, st *store.Store, _ *apk.Entry) (store.Digest, error) {
	var d store.Digest
	if found, err := st.Recall(s.ID(), &d); err != nil || found {
		return d, err
	}
	if err := s.fetchPackages(ctx); err != nil {
		return "", fmt.Errorf("seed: %w", err)
	}
	d, err := s.build(ctx, st)
	if err != nil {
		return "", fmt.Errorf("seed: %w", err)
	}
	return d, st.Remember(s.ID(), d)
}

// Keep puts Debian's packages into the store, made into the seed already or not, and gives
// their digests: what a mirror needs so that another machine can make it.
func (s *Seed) Keep(ctx context.Context, _ apk.Arch) ([]store.Digest, error) {
	if err := s.fetchPackages(ctx); err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	var all []store.Digest
	for _, p := range s.lock.Packages {
		all = append(all, store.Digest("sha256:"+p.SHA256))
	}
	return all, nil
}

// atOnce is how many packages are fetched at a time.
const atOnce = 6

// fetchPackages puts every package of the lock into the store, checked against its
// digest there. Who has all of them asks nobody.
func (s *Seed) fetchPackages(ctx context.Context) error {
	var missing []Package
	for _, p := range s.lock.Packages {
		if !s.store.Has(store.Digest("sha256:" + p.SHA256)) {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	listed, suite, err := s.index(ctx)
	if _, bad := errors.AsType[*debian.SignatureError](err); bad || ctx.Err() != nil {
		return err
	}
	if err == nil {
		for _, p := range missing {
			if l, found := listed[p.Name]; found && l.Version == p.Version && l.File.SHA256 != p.SHA256 {
				return &source.Error{Name: p.Name + " " + p.Version, Digest: "sha256 " + p.SHA256, Tried: []source.Attempt{{
					From: "the index of suite " + s.lock.Suite, Err: &source.MismatchError{Algorithm: "sha256", Want: p.SHA256, Got: l.File.SHA256},
				}}}
			}
		}
	}
	unreachable := err
	errs := make([]error, len(missing))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, p := range missing {
		g.Go(func() error {
			err := unreachable
			if err == nil {
				_, err = s.archive.Keep(ctx, suite, p.file())
			}
			if err != nil && ctx.Err() == nil && len(s.fetcher.Mirrors) > 0 {
				// The lock's digest is as good as the archive's: a mirror may serve.
				if _, merr := s.fetcher.Fetch(ctx, source.Source{Name: p.Name + "_" + p.Version, SHA256: p.SHA256}); merr == nil {
					return nil
				}
			}
			if err != nil && errors.Is(err, fs.ErrNotExist) {
				if l, found := listed[p.Name]; found && l.Version != p.Version {
					err = fmt.Errorf("%s %s: the archive has %s now: %w\n  hint: write a new lock with tarn seed --update", p.Name, p.Version, l.Version, err)
				}
			}
			errs[i] = err
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if unreachable != nil && slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		// One cause is told once.
		return &source.Error{Name: "Debian " + s.lock.Suite, Digest: fmt.Sprintf("%d packages of the lock", len(missing)), Tried: []source.Attempt{{From: "the archive of apt's settings", Err: unreachable}}}
	}
	return errors.Join(errs...)
}

// index is the packages of the suite, the newest of each name, checked by the
// archive's signature.
func (s *Seed) index(ctx context.Context) (map[string]debian.Package, *source.Suite, error) {
	suite, err := s.archive.Suite(ctx, s.lock.Suite)
	if err != nil {
		return nil, nil, err
	}
	if suite.Release.Origin != "Debian" {
		return nil, nil, fmt.Errorf("suite %s is of %q, not of Debian", s.lock.Suite, suite.Release.Origin)
	}
	r, err := s.archive.Index(ctx, suite, s.lock.Component+"/binary-"+s.lock.Arch+"/Packages")
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	wanted := map[string]bool{}
	for _, p := range s.lock.Packages {
		wanted[p.Name] = true
	}
	listed := map[string]debian.Package{}
	err = debian.ReadPackages(r, func(p debian.Package) error {
		if old, found := listed[p.Name]; wanted[p.Name] && (!found || debian.CompareVersions(p.Version, old.Version) > 0) {
			listed[p.Name] = p
		}
		return nil
	})
	return listed, suite, err
}

// Update gives a new lock, of the same packages as the archive has them now.
func (s *Seed) Update(ctx context.Context) ([]byte, error) {
	listed, suite, err := s.index(ctx)
	if err != nil {
		return nil, fmt.Errorf("update the seed's lock: %w", err)
	}
	// A signed index that is out of date could be put in the place of a newer one.
	if until := suite.Release.ValidUntil; !until.IsZero() && time.Now().After(until) {
		return nil, fmt.Errorf("update the seed's lock: suite %s was valid until %s", s.lock.Suite, until.Format(time.DateOnly))
	}
	fresh := &Lock{Suite: s.lock.Suite, Component: s.lock.Component, Arch: s.lock.Arch}
	var missing []error
	for _, p := range s.lock.Packages {
		l, found := listed[p.Name]
		if !found {
			missing = append(missing, fmt.Errorf("no package %s in suite %s", p.Name, s.lock.Suite))
			continue
		}
		fresh.Packages = append(fresh.Packages, Package{Name: l.Name, Version: l.Version, Path: l.File.Path, Size: l.File.Size, SHA256: l.File.SHA256})
	}
	if err := errors.Join(missing...); err != nil {
		return nil, fmt.Errorf("update the seed's lock: %w", err)
	}
	next := &Seed{kind: s.kind, store: s.store, fetcher: s.fetcher, archive: s.archive, lock: fresh}
	if err := next.fetchPackages(ctx); err != nil {
		return nil, fmt.Errorf("update the seed's lock: %w", err)
	}
	t, spools, err := next.assemble(ctx, next.store)
	if err != nil {
		return nil, fmt.Errorf("update the seed's lock: %w", err)
	}
	spools.close()
	fresh.Programs, fresh.Size = t.programs(), t.size()
	return fresh.encode()
}
