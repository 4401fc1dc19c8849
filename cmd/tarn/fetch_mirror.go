package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/source/prefetch"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

// writeMirror writes what was fetched for recipes into a folder that others use as a mirror.
func (l *line) writeMirror(ctx context.Context, dir string, names []string) error {
	m := &source.MirrorWriter{Fetcher: l.fetcher, Dir: dir}
	var errs []error
	for _, name := range names {
		if l.broken[name] != nil {
			continue
		}
		s := l.graph.Script(name)
		err := m.AddScript(ctx, s)
		if e, lerr := prefetch.Locked(s); lerr == nil && e != nil && l.store.Has(e.Digest()) {
			err = errors.Join(err, m.AddBlob(e.Digest()))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	for _, s := range l.seeds {
		if named, is := s.(namedSeed); is {
			s = named.Source
		}
		if k, is := s.(interface {
			Keep(context.Context, apk.Arch) ([]store.Digest, error)
		}); is && l.seedAsked[s.Name()] {
			digests, err := k.Keep(ctx, l.arch)
			for _, d := range digests {
				err = errors.Join(err, m.AddBlob(d))
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// offer is a package of a repository under one of its names.
type offer struct {
	entry   *apk.Entry
	from    repo.Source
	version apk.Version
}

// fetchRepositories fetches the packages of further repositories that the builds and
// tests of recipes may need: of each name that is asked for and that no recipe of the
// workspace serves, the newest that fits, and what it depends on. What an environment
// will hold is not known yet where recipes are still to be built.
func (l *line) fetchRepositories(ctx context.Context, wanted []string) error {
	if len(l.others) == 0 {
		return nil
	}
	offers := make([]map[string][]offer, len(l.others))
	for i, r := range l.others {
		entries, err := r.Packages(ctx, l.arch)
		if err != nil {
			return err
		}
		offers[i] = map[string][]offer{}
		for _, e := range entries {
			offers[i][e.Name] = append(offers[i][e.Name], offer{e, r, e.Version})
			for _, p := range e.Provides {
				offers[i][p.Name] = append(offers[i][p.Name], offer{e, r, p.Version})
			}
		}
	}
	var queue []apk.Dependency
	for _, name := range l.graph.Only(wanted...).Order() {
		queue = append(queue, askedBy(l.graph.Script(name))...)
	}
	asked := map[string]bool{}
	chosen := map[*apk.Entry]offer{}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		if d.Conflict || asked[d.String()] {
			continue
		}
		asked[d.String()] = true
		if len(l.graph.Serving(d.Name)) > 0 {
			continue
		}
		if o, found := newestOffer(offers, d); found && chosen[o.entry].entry == nil {
			chosen[o.entry] = o
			queue = append(queue, o.entry.Depends...)
		}
	}
	var g errgroup.Group
	g.SetLimit(6)
	for _, o := range chosen {
		g.Go(func() error {
			_, err := o.from.Fetch(ctx, l.store, o.entry)
			return err
		})
	}
	return g.Wait()
}

// newestOffer is what the first repository that has the name offers for it.
func newestOffer(offers []map[string][]offer, d apk.Dependency) (offer, bool) {
	for _, byName := range offers {
		fit := slices.DeleteFunc(slices.Clone(byName[d.Name]), func(o offer) bool { return !d.MatchesAnyRevision(o.version) })
		if len(fit) > 0 {
			return slices.MaxFunc(fit, func(a, b offer) int {
				return cmp.Or(cmp.Compare(a.entry.ProviderPriority, b.entry.ProviderPriority), a.entry.Version.Compare(b.entry.Version))
			}), true
		}
	}
	return offer{}, false
}

// askedBy is what the environments of a recipe's build and tests, and its packages, ask for.
func askedBy(s *recipes.Script) (all []apk.Dependency) {
	add := func(needs []recipes.Need) {
		for _, need := range needs {
			if !need.Native {
				all = append(all, need.Dependency)
			}
		}
	}
	add(s.Environment.Packages)
	for _, p := range s.Packages {
		all = append(all, p.Runtime...)
		if p.Test == nil {
			continue
		}
		add(p.Test.Environment.Packages)
	}
	return all
}
