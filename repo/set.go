package repo

import (
	"context"
	"fmt"
	"slices"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
)

// SeedOrigin is the origin that every package of a seed bears. The composer
// refuses packages of this origin.
const SeedOrigin = "tarn-seed"

// Source gives packages: a repository, the packages that were just built, a seed.
type Source interface {
	// Name is how messages call the source, e.g. a repository's location.
	Name() string
	// Packages lists what there is for an architecture. The index was verified.
	Packages(ctx context.Context, arch apk.Arch) ([]*apk.Entry, error)
	// Identity names the bytes that installing the entry gives, known without
	// fetching it: two entries of one identity install the same tree.
	Identity(e *apk.Entry) string
	// Fetch puts the package into the store, checked against its entry.
	Fetch(ctx context.Context, st *store.Store, e *apk.Entry) (store.Digest, error)
}

// Tagged is a source behind a tag: its packages serve only requirements of the tag, and
// what these pull in.
type Tagged struct {
	Source
	Tag string // e.g. edge
}

// Set is sources in their declared order: what an earlier one offers under a
// name is preferred to any version that a later one has.
type Set []Source

// Locked is one exact package.
type Locked struct {
	Name     string      `json:"name"`
	Version  apk.Version `json:"version"`
	Identity string      `json:"identity"` // see Source.Identity
	From     string      `json:"from"`     // Source.Name

	Entry  *apk.Entry `json:"-"`
	Source Source     `json:"-"`
}

// Fetch puts the package into the store, checked against its entry.
func (l Locked) Fetch(ctx context.Context, st *store.Store) (store.Digest, error) {
	digest, err := l.Source.Fetch(ctx, st, l.Entry)
	if err != nil {
		return "", fmt.Errorf("fetch %s from %s: %w", l.Entry.FileName(), l.Source.Name(), err)
	}
	return digest, nil
}

// Lock is a solved set of packages, in the order in which they are installed.
type Lock []Locked

// Packages are those of the lock as a solution, for what explains one.
func (l Lock) Packages() []*solve.Package {
	packages := make([]*solve.Package, len(l))
	for i, p := range l {
		packages[i] = &solve.Package{Entry: p.Entry, From: p.From}
	}
	return packages
}

// Names are the packages of the lock as name=version, sorted.
func (l Lock) Names() []string {
	names := make([]string, len(l))
	for i, p := range l {
		names[i] = p.Name + "=" + string(p.Version)
	}
	slices.Sort(names)
	return names
}

// Resolve finds the exact packages that a world needs. An error of package solve
// says why there are none.
func (s Set) Resolve(ctx context.Context, arch apk.Arch, world []solve.Requirement, o solve.Options) (Lock, error) {
	packages := make(solve.Union, len(s))
	tags := make([]string, len(s))
	for rank, source := range s {
		if t, tagged := source.(Tagged); tagged {
			tags[rank] = t.Tag
		}
		var err error
		packages[rank], err = Universe(ctx, source, arch, solve.Package{Rank: rank, Tag: tags[rank], From: source.Name()})
		if err != nil {
			return nil, fmt.Errorf("list packages of %s: %w", source.Name(), err)
		}
	}
	if err := solve.CheckTags(world, tags); err != nil {
		return nil, err
	}
	solution, err := solve.Solve(packages, world, o)
	if err != nil {
		return nil, err
	}
	lock := make(Lock, len(solution))
	for i, p := range solution {
		source := s[p.Rank]
		lock[i] = Locked{Name: p.Name, Version: p.Version, Identity: source.Identity(p.Entry), From: source.Name(), Entry: p.Entry, Source: source}
	}
	return lock, nil
}
