package repo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/repo"
)

func requirements(t *testing.T, words ...string) []solve.Requirement {
	t.Helper()
	var world []solve.Requirement
	for _, word := range words {
		r, err := solve.ParseRequirement(word)
		if err != nil {
			t.Fatal(err)
		}
		world = append(world, r)
	}
	return world
}

// offered reads "name=version: dependency...", a line each.
func offered(t *testing.T, lines ...string) []*apk.Entry {
	t.Helper()
	var all []*apk.Entry
	for _, line := range lines {
		head, needs, _ := strings.Cut(line, ":")
		name, version, _ := strings.Cut(head, "=")
		e := entry(name, apk.Version(version))
		for word := range strings.FieldsSeq(needs) {
			d, err := apk.ParseDependency(word)
			if err != nil {
				t.Fatal(err)
			}
			e.Depends = append(e.Depends, d)
		}
		all = append(all, e)
	}
	return all
}

func entries(lock repo.Lock) []*apk.Entry {
	var all []*apk.Entry
	for _, l := range lock {
		all = append(all, l.Entry)
	}
	return all
}

// TestRenew holds what an update of one package changes.
func TestRenew(t *testing.T) {
	before := offered(t, "web=1-r0: ssl lib", "ssl=1-r0: c", "lib=1-r0", "c=1-r0", "tool=1-r0: ssl")
	for _, test := range []struct {
		name, update, world string
		now                 []string
		want                string // all that is there
		lost                string // what no source has any more
		err                 string
	}{
		{"only the package", "web", "web tool", []string{"web=1-r0: ssl lib", "web=2-r0: ssl lib", "ssl=1-r0: c", "ssl=2-r0: c", "lib=2-r0", "c=2-r0", "tool=2-r0: ssl"},
			"c=1-r0 lib=1-r0 ssl=1-r0 tool=1-r0 web=2-r0", "c lib tool", ""},
		{"what it needs changed", "web", "web tool", []string{"web=2-r0: ssl>=2-r0 lib", "ssl=2-r0: c", "lib=2-r0", "c=2-r0", "tool=2-r0: ssl"},
			"c=1-r0 lib=1-r0 ssl=2-r0 tool=1-r0 web=2-r0", "c lib tool", ""},
		{"what it does not need any more goes", "web", "web tool", []string{"web=2-r0: ssl", "ssl=1-r0: c"},
			"c=1-r0 ssl=1-r0 tool=1-r0 web=2-r0", "c tool", ""},
		{"what is new comes", "web", "web tool", []string{"web=2-r0: ssl lib new", "new=5-r0: lib>=2-r0", "lib=2-r0", "lib=3-r0", "ssl=2-r0: c"},
			"c=1-r0 lib=3-r0 new=5-r0 ssl=1-r0 tool=1-r0 web=2-r0", "c ssl tool", ""},
		{"the best that leaves others alone", "web", "web tool", []string{"web=2-r0: ssl lib", "web=3-r0: ssl !tool<2-r0", "tool=2-r0: ssl", "lib=1-r0"},
			"c=1-r0 lib=1-r0 ssl=1-r0 tool=1-r0 web=2-r0", "c ssl tool", ""},
		{"others would have to change", "ssl", "web tool", []string{"ssl=2-r0: c>=2-r0 !web<2-r0", "c=2-r0", "web=2-r0: ssl lib"},
			"c=1-r0 lib=1-r0 ssl=1-r0 tool=1-r0 web=1-r0", "c lib ssl tool web", ""},
		{"both together", "ssl,web", "web tool", []string{"ssl=2-r0: c>=2-r0 !web<2-r0", "c=2-r0", "web=2-r0: ssl lib"},
			"c=2-r0 lib=1-r0 ssl=2-r0 tool=1-r0 web=2-r0", "lib tool", ""},
		{"the world asks for more", "web", "web tool more", []string{"web=2-r0: ssl lib", "more=1-r0: lib>=2-r0", "more=2-r0: lib>=2-r0", "lib=2-r0"},
			"c=1-r0 lib=2-r0 more=2-r0 ssl=1-r0 tool=1-r0 web=2-r0", "c ssl tool", ""},
		{"it is gone", "web", "web tool", []string{"lib=2-r0", "web=0-r0"}, "c=1-r0 lib=1-r0 ssl=1-r0 tool=1-r0 web=1-r0", "c lib ssl tool web", ""},
		{"the world excludes what is there", "web", "web tool !c", []string{"web=2-r0: lib"}, "", "", "world asks !c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := repo.Set{listing{"r", offered(t, test.now...)}}
			lock, err := set.Renew(t.Context(), apk.ArchX86_64, requirements(t, strings.Fields(test.world)...), before, strings.Split(test.update, ","), solve.Options{})
			if test.err != "" {
				var conflict *solve.Conflict
				if !errors.As(err, &conflict) || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v, %v, want a conflict about %s", lock.Names(), err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(lock.Names(), " "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			var lost []string
			for _, l := range lock {
				if l.Source == nil {
					lost = append(lost, l.Name)
				}
			}
			slices.Sort(lost)
			if got := strings.Join(lost, " "); got != test.lost {
				t.Errorf("no source has %q, want %q", got, test.lost)
			}
		})
	}
}

// reach are the names of what a package needs among others, itself included.
func reach(all []*apk.Entry, name string) map[string]bool {
	seen, open := map[string]bool{}, []string{name}
	for len(open) > 0 {
		at := open[0]
		open = open[1:]
		if seen[at] {
			continue
		}
		for _, e := range all {
			if e.Name != at {
				continue
			}
			seen[at] = true
			for _, d := range e.Depends {
				if !d.Conflict {
					open = append(open, d.Name)
				}
			}
		}
	}
	return seen
}

// holds tells whether packages are a solution of a world by themselves.
func holds(all []*apk.Entry, world []solve.Requirement) bool {
	byName := map[string]*apk.Entry{}
	for _, e := range all {
		byName[e.Name] = e
	}
	meets := func(by string, d apk.Dependency) bool {
		e := byName[d.Name]
		if d.Conflict {
			return e == nil || e.Name == by || !d.Matches(e.Version)
		}
		return e != nil && d.Matches(e.Version)
	}
	for _, r := range world {
		if !meets("", r.Dependency) {
			return false
		}
	}
	for _, e := range all {
		for _, d := range e.Depends {
			if !meets(e.Name, d) {
				return false
			}
		}
	}
	return true
}

// Of series of random repositories: an update of one package gives a solution; it changes
// that package and what it needs or needed, and nothing else; each package that it needs
// and that changed could not have stayed.
func TestRenewChangesOnlyTheClosure(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	names := strings.Split("a b c d e f g h", " ")
	renewed, changed, stayed := 0, 0, 0
	for round := range 1500 {
		var all []*apk.Entry
		for i, name := range names {
			for v := range 4 {
				e := entry(name, apk.Version(fmt.Sprintf("%d-r0", v+1)))
				for range r.IntN(3) {
					// Mostly what stands later, so that there are solutions.
					d := apk.Dependency{Name: names[min(len(names)-1, i+1+r.IntN(len(names)))]}
					if r.IntN(8) == 0 {
						d.Name = names[r.IntN(len(names))]
					}
					switch r.IntN(6) {
					case 0, 1:
						d.Op, d.Version = apk.GreaterEqual, apk.Version(fmt.Sprintf("%d-r0", v+1))
					case 2:
						d.Op, d.Version = apk.Less, apk.Version(fmt.Sprintf("%d-r0", v+2))
					case 3:
						if r.IntN(3) == 0 && d.Name != name {
							d.Conflict, d.Op, d.Version = true, apk.Less, apk.Version(fmt.Sprintf("%d-r0", v+1))
						}
					}
					if d.Name != name {
						e.Depends = append(e.Depends, d)
					}
				}
				all = append(all, e)
			}
		}
		world := requirements(t, "a", names[1+r.IntN(3)])
		old := slices.DeleteFunc(slices.Clone(all), func(e *apk.Entry) bool { return e.Version > "2-r0" })
		lock, err := repo.Set{listing{"r", old}}.Resolve(t.Context(), apk.ArchX86_64, world, solve.Options{})
		if err != nil {
			continue
		}
		before := entries(lock)
		was := map[string]apk.Version{}
		for _, e := range before {
			was[e.Name] = e.Version
		}
		// The repository lost some of what it had.
		now := slices.DeleteFunc(slices.Clone(all), func(e *apk.Entry) bool { return e.Version <= "2-r0" && r.IntN(4) == 0 })
		name := before[r.IntN(len(before))].Name
		fresh, err := repo.Set{listing{"r", now}}.Renew(t.Context(), apk.ArchX86_64, world, before, []string{name}, solve.Options{})
		if err != nil {
			t.Fatalf("round %d: update %s: %v\nbefore %v", round, name, err, lock.Names()) // before is a solution
		}
		renewed++
		after := entries(fresh)
		if !holds(after, world) {
			t.Fatalf("round %d: %v is no solution of %v", round, fresh.Names(), world)
		}
		may := reach(slices.Concat(before, after), name)
		is := map[string]*apk.Entry{}
		for _, e := range after {
			is[e.Name] = e
			if e.Name == name && e.Version < was[name] {
				t.Fatalf("round %d: update %s took it back from %s to %s", round, name, was[name], e.Version)
			}
			if was[e.Name] != e.Version && !may[e.Name] {
				t.Fatalf("round %d: update %s changed %s from %q to %s\nbefore %v\nafter %v", round, name, e.Name, was[e.Name], e.Version, lock.Names(), fresh.Names())
			}
		}
		for _, e := range before {
			if is[e.Name] == nil && !may[e.Name] {
				t.Fatalf("round %d: update %s removed %s", round, name, e.Name)
			}
			if is[e.Name] == nil || e.Name == name {
				continue
			}
			if is[e.Name].Version == e.Version {
				stayed++
				continue
			}
			changed++
			back := slices.Clone(after)
			back[slices.Index(back, is[e.Name])] = e
			if holds(back, world) {
				t.Fatalf("round %d: update %s changed %s from %s to %s without need\nbefore %v\nafter %v", round, name, e.Name, e.Version, is[e.Name].Version, lock.Names(), fresh.Names())
			}
		}
	}
	if renewed < 500 || changed < 50 || stayed < 500 {
		t.Errorf("renewed %d times, %d changed, %d stayed: the series tells little", renewed, changed, stayed)
	}
}
