// Package graph orders recipes so that each is built after those it needs, and
// walks them side by side. It knows scripts and nothing of how they are built.
package graph

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tarn-build/tarn/recipes"
)

// Graph is a set of scripts and what each needs of the others.
type Graph struct {
	scripts  map[string]*recipes.Script
	needs    map[string][]string // recipe -> recipes whose packages its environment holds, sorted
	closures map[string][]string // recipe -> all recipes it needs, directly or not, in build order
	order    []string            // every recipe after those it needs; ties by name
	offers   offers
}

// CycleError says that recipes need each other.
type CycleError struct{ Chain []string } // the first recipe stands at the end again

func (e *CycleError) Error() string {
	parts := make([]string, 0, len(e.Chain)-1)
	for i, name := range e.Chain[1:] {
		parts = append(parts, e.Chain[i]+" needs "+name)
	}
	return "a cycle of recipes: " + strings.Join(parts, ", ")
}

// New makes the graph of the scripts. A recipe needs another when a package in
// its environment, or one that such a package declares to need at run time, is
// one of the other's packages. Names that no script provides are left for
// repositories and seeds, and a recipe never serves itself: what it needs of its own
// name comes from there as well. A cycle is a *CycleError.
func New(scripts []*recipes.Script) (*Graph, error) {
	g := &Graph{scripts: map[string]*recipes.Script{}, needs: map[string][]string{}, closures: map[string][]string{}}
	g.offers = offersOf(scripts)
	for _, s := range scripts {
		if g.scripts[s.Name] != nil {
			return nil, fmt.Errorf("two recipes make %q: %s and %s", s.Name, g.scripts[s.Name].Recipe, s.Recipe)
		}
		g.scripts[s.Name] = s
	}
	for _, s := range scripts {
		names := make([]string, 0, len(s.Environment.Packages))
		for _, need := range s.Environment.Packages {
			if !need.Conflict && !need.Native {
				names = append(names, need.Name)
			}
		}
		g.needs[s.Name] = g.offers.recipesFor(s.Name, names)
	}
	return g, g.sort()
}

// output is one package and the recipe that makes it.
type output struct {
	recipe  string
	runtime []string
}

// offers maps each name to what is called so, and apart from that to what declares to provide it.
type offers struct{ named, provided map[string][]output }

func offersOf(scripts []*recipes.Script) offers {
	o := offers{named: map[string][]output{}, provided: map[string][]output{}}
	for _, s := range scripts {
		for _, p := range s.Packages {
			out := output{recipe: s.Name}
			for _, d := range p.Runtime {
				if !d.Conflict {
					out.runtime = append(out.runtime, d.Name)
				}
			}
			o.named[p.Name] = append(o.named[p.Name], out)
			for _, d := range p.Provides {
				o.provided[d.Name] = append(o.provided[d.Name], out)
			}
		}
	}
	return o
}

// of gives what serves a name: the packages called so, else all that provide it.
func (o offers) of(name string) []output {
	if named := o.named[name]; named != nil {
		return named
	}
	return o.provided[name]
}

// recipesFor gives the recipes whose packages serve the names, and what those need at run time.
func (o offers) recipesFor(self string, names []string) []string {
	found, seen := map[string]bool{}, map[string]bool{}
	for len(names) > 0 {
		name := names[len(names)-1]
		names = names[:len(names)-1]
		if seen[name] {
			continue
		}
		seen[name] = true
		for _, out := range o.of(name) {
			if out.recipe != self {
				found[out.recipe] = true
				names = append(names, out.runtime...)
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// sort fills order and closures, or names a cycle.
func (g *Graph) sort() error {
	const visiting, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case done:
			return nil
		case visiting:
			return &CycleError{append(slices.Clone(path[slices.Index(path, name):]), name)}
		}
		state[name] = visiting
		path = append(path, name)
		all := map[string]bool{}
		for _, need := range g.needs[name] {
			if err := visit(need); err != nil {
				return err
			}
			all[need] = true
			for _, further := range g.closures[need] {
				all[further] = true
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		for _, earlier := range g.order {
			if all[earlier] {
				g.closures[name] = append(g.closures[name], earlier)
			}
		}
		g.order = append(g.order, name)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(g.scripts)) {
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}

// Order lists all recipes, each after those it needs.
func (g *Graph) Order() []string { return slices.Clone(g.order) }

// Script is the script of a recipe, or nil.
func (g *Graph) Script(name string) *recipes.Script { return g.scripts[name] }

// Closure lists all recipes that a recipe needs, directly or not, in build order.
func (g *Graph) Closure(name string) []string { return slices.Clone(g.closures[name]) }

// Only is the part of the graph that the named recipes and what they need make up.
func (g *Graph) Only(names ...string) *Graph {
	keep := map[string]bool{}
	for _, name := range names {
		keep[name] = true
		for _, need := range g.closures[name] {
			keep[need] = true
		}
	}
	part := &Graph{scripts: map[string]*recipes.Script{}, needs: g.needs, closures: g.closures, offers: g.offers}
	for _, name := range g.order {
		if keep[name] {
			part.scripts[name] = g.scripts[name]
			part.order = append(part.order, name)
		}
	}
	return part
}

// Serving lists the recipes whose packages serve the names, and what those need
// when they run, sorted.
func (g *Graph) Serving(names ...string) []string {
	return g.offers.recipesFor("", slices.Clone(names))
}

// ErrSkipped is what Walk gives for a recipe that was not visited because one it needs failed.
var ErrSkipped = errors.New("skipped")

// SkippedError names the recipe whose failure kept another from being visited.
type SkippedError struct{ Because string }

func (e *SkippedError) Error() string { return "skipped: " + e.Because + " failed" }

// Is makes every SkippedError an ErrSkipped.
func (e *SkippedError) Is(target error) bool { return target == ErrSkipped }

// Walk visits every recipe after those it needs, at most jobs at a time. A visit
// that fails keeps only those from being visited that need it; the result holds the
// error of each recipe that failed or was skipped. When ctx ends, no further visit starts.
func (g *Graph) Walk(ctx context.Context, jobs int, visit func(ctx context.Context, s *recipes.Script) error) map[string]error {
	var (
		mu      sync.Mutex
		failed  = map[string]error{}
		waiting = map[string]int{}      // recipe -> how many it still waits for
		users   = map[string][]string{} // recipe -> those that wait for it
		ready   []string
		running int
		wake    = sync.NewCond(&mu)
	)
	for _, name := range g.order {
		waiting[name] = len(g.needs[name])
		for _, need := range g.needs[name] {
			users[need] = append(users[need], name)
		}
		if waiting[name] == 0 {
			ready = append(ready, name)
		}
	}
	rank := map[string]int{}
	for i, name := range g.order {
		rank[name] = i
	}
	finish := func(name string, err error) {
		if err != nil {
			failed[name] = err
		}
		for _, user := range users[name] {
			if _, in := g.scripts[user]; !in {
				continue
			}
			if err != nil && failed[user] == nil {
				because := name
				if skipped, ok := errors.AsType[*SkippedError](err); ok {
					because = skipped.Because
				}
				failed[user] = &SkippedError{because}
			}
			if waiting[user]--; waiting[user] == 0 {
				ready = append(ready, user)
			}
		}
		slices.SortFunc(ready, func(a, b string) int { return rank[a] - rank[b] })
	}
	stop := context.AfterFunc(ctx, func() { mu.Lock(); wake.Broadcast(); mu.Unlock() })
	defer stop()

	mu.Lock()
	defer mu.Unlock()
	for {
		for len(ready) > 0 && (running < max(1, jobs) || failed[ready[0]] != nil || ctx.Err() != nil) {
			name := ready[0]
			ready = ready[1:]
			if err := failed[name]; err != nil {
				finish(name, err)
				continue
			}
			if err := ctx.Err(); err != nil {
				finish(name, context.Cause(ctx))
				continue
			}
			running++
			go func() {
				err := visit(ctx, g.scripts[name])
				mu.Lock()
				running--
				finish(name, err)
				wake.Broadcast()
				mu.Unlock()
			}()
		}
		if running == 0 && len(ready) == 0 {
			return failed
		}
		wake.Wait()
	}
}
