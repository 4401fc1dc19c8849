package repo

import (
	"context"
	"fmt"
	"slices"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
)

// PackagePath is where the file of a package that the repository lists lies, below the
// repository: x86_64/zlib-1.3.1-r0.apk.
func (r *Repository) PackagePath(e *apk.Entry) (string, error) {
	r.mu.Lock()
	arch, listed := r.folders[e]
	r.mu.Unlock()
	if !listed {
		arch = e.Arch
	}
	if err := checkFileName(e); err != nil {
		return "", err
	}
	folder, err := archFolder(arch)
	if err != nil {
		return "", err
	}
	file, err := r.packageFile(arch, e)
	if err != nil {
		return "", err
	}
	return folder + "/" + file, nil
}

// Renew solves a world again where the packages of an earlier lock, before, stay as they
// are, but for those of the given names, which become the best there are. What these need
// changes where they need it changed, and nothing else does: where a better one would
// change what it does not need, it is not taken. A name of the world that no package of
// before satisfies is like a given one.
//
// A package of the result that no source has any more has no Source.
func (s Set) Renew(ctx context.Context, arch apk.Arch, world []solve.Requirement, before []*apk.Entry, names []string, o solve.Options) (Lock, error) {
	r := &renewal{world: world, options: o, before: map[string]*apk.Entry{}}
	for _, e := range before {
		r.before[e.Name] = e
	}
	tags := make([]string, len(s))
	for rank, source := range s {
		if t, tagged := source.(Tagged); tagged {
			tags[rank] = t.Tag
		}
		u, err := Universe(ctx, source, arch, solve.Package{Rank: rank, Tag: tags[rank], From: source.Name()})
		if err != nil {
			return nil, fmt.Errorf("list packages of %s: %w", source.Name(), err)
		}
		r.sources = append(r.sources, u)
	}
	if err := solve.CheckTags(world, tags); err != nil {
		return nil, err
	}
	solution, err := r.solve(names)
	if err != nil {
		return nil, err
	}
	lock := make(Lock, len(solution))
	for i, p := range solution {
		l := Locked{Name: p.Name, Version: p.Version, Identity: p.Identity(), From: p.From, Entry: p.Entry}
		_, kept := r.all[p]
		if same := r.all[p]; same != nil {
			p, kept = same, false
		}
		if !kept {
			source := s[p.Rank]
			l.Identity, l.From, l.Entry, l.Source = source.Identity(p.Entry), source.Name(), p.Entry, source
		}
		lock[i] = l
	}
	return lock, nil
}

// renewal is one run of Renew.
type renewal struct {
	sources solve.Union
	world   []solve.Requirement
	options solve.Options
	before  map[string]*apk.Entry
	// all are the packages of before, each as a source still has it, or nil.
	all map[*solve.Package]*solve.Package
}

// solve looks for the solution, with more and more packages that may not change: those
// of which it turned out that the names do not need them.
func (r *renewal) solve(names []string) ([]*solve.Package, error) {
	roots := slices.Clone(names)
	for _, q := range r.world {
		if !q.Conflict && !r.satisfied(q) {
			for _, p := range r.sources.Providers(q.Name) {
				roots = append(roots, p.Name)
			}
		}
	}
	free := r.reachable(roots)
	for {
		r.all = map[*solve.Package]*solve.Package{}
		solution, err := solve.Solve(solve.Union{r.kept(roots), narrowed{r.sources, func(p *solve.Package) bool { return r.allows(p, roots, free) }}}, r.world, r.options)
		if err != nil {
			return nil, err
		}
		more := false
		for _, name := range r.strayed(solution, roots) {
			if free[name] {
				delete(free, name)
				more = true
			}
		}
		if !more {
			return solution, nil
		}
	}
}

// satisfied tells whether a package of before is what the world asks for.
func (r *renewal) satisfied(q solve.Requirement) bool {
	for _, e := range r.before {
		if (&solve.Package{Entry: e}).Offers(q.Dependency, r.options) {
			return true
		}
	}
	return false
}

// reachable are the names of all packages that those of the given names could need, in
// any version.
func (r *renewal) reachable(names []string) map[string]bool {
	seen, open := map[string]bool{}, slices.Clone(names)
	for len(open) > 0 {
		name := open[0]
		open = open[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		needs := func(e *apk.Entry) {
			for _, d := range e.Depends {
				if d.Conflict {
					continue
				}
				for _, q := range r.sources.Providers(d.Name) {
					open = append(open, q.Name)
				}
			}
		}
		for _, p := range r.sources.Providers(name) {
			if p.Name == name {
				needs(p.Entry)
			}
		}
		if e := r.before[name]; e != nil {
			needs(e)
		}
	}
	return seen
}

// kept are the packages of before that stay where they can.
func (r *renewal) kept(roots []string) *solve.Memory {
	var all []*solve.Package
	for _, e := range r.before {
		p := &solve.Package{Entry: e, Installed: true, Gone: true, From: "the lock"}
		r.all[p] = nil
		if slices.Contains(roots, e.Name) {
			// It stays where none is better, also when no source has it any more.
			p.Installed, p.Gone = false, false
		}
		for _, q := range r.sources.Providers(e.Name) {
			if isSame(q.Entry, e) {
				p.Gone, p.Rank, p.Order, p.Tag, p.From = false, q.Rank, q.Order, q.Tag, q.From
				r.all[p] = q
				break
			}
		}
		if r.all[p] == nil {
			for _, q := range r.world { // it stood behind the tag that the world names
				if q.Name == e.Name && q.Tag != "" {
					p.Tag = q.Tag
				}
			}
		}
		all = append(all, p)
	}
	return solve.NewUniverse(all)
}

func isSame(a, b *apk.Entry) bool {
	return a.Name == b.Name && a.Version == b.Version && a.Checksum == b.Checksum
}

// allows tells whether a package of a source may be chosen: where before has one of its
// name that may not change, none may, and the one that before has stands for itself.
func (r *renewal) allows(p *solve.Package, roots []string, free map[string]bool) bool {
	e := r.before[p.Name]
	return e == nil || (free[p.Name] || slices.Contains(roots, p.Name)) && !isSame(p.Entry, e)
}

// strayed are the names of packages that came, went or changed, and that the roots do not
// need, neither as they are now nor as they were.
func (r *renewal) strayed(solution []*solve.Package, roots []string) []string {
	var before []*solve.Package
	for _, e := range r.before {
		before = append(before, &solve.Package{Entry: e})
	}
	// Together, as what a package newly needs may have been there, and needed more before.
	needed := need(slices.Concat(before, solution), roots)
	now := map[string]*solve.Package{}
	var names []string
	for _, p := range solution {
		now[p.Name] = p
		if e := r.before[p.Name]; e != nil && !isSame(p.Entry, e) && !needed[p.Name] {
			names = append(names, p.Name)
		}
	}
	for name := range r.before {
		if now[name] == nil && !needed[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// need is the names of what the packages of the given names need, to any depth.
func need(packages []*solve.Package, names []string) map[string]bool {
	offering := map[string][]*solve.Package{}
	for _, p := range packages {
		offering[p.Name] = append(offering[p.Name], p)
		for _, d := range p.Provides {
			offering[d.Name] = append(offering[d.Name], p)
		}
	}
	needed, visited, open := map[string]bool{}, map[string]bool{}, slices.Clone(names)
	for len(open) > 0 {
		name := open[0]
		open = open[1:]
		if visited[name] {
			continue
		}
		visited[name] = true
		for _, p := range offering[name] {
			if p.Name != name {
				continue
			}
			needed[name] = true
			for _, d := range p.Depends {
				if d.Conflict {
					continue
				}
				for _, q := range offering[d.Name] {
					if q.Offers(d, solve.Options{}) {
						open = append(open, q.Name)
					}
				}
			}
		}
	}
	return needed
}

// narrowed is those packages of a universe that may be chosen.
type narrowed struct {
	solve.Universe
	allows func(*solve.Package) bool
}

func (n narrowed) Providers(name string) []*solve.Package {
	return slices.DeleteFunc(slices.Clone(n.Universe.Providers(name)), func(p *solve.Package) bool { return !n.allows(p) })
}

func (n narrowed) InstallIf(name string) []*solve.Package {
	return slices.DeleteFunc(slices.Clone(n.Universe.InstallIf(name)), func(p *solve.Package) bool { return !n.allows(p) })
}
