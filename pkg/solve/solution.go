package solve

import (
	"cmp"
	"slices"
)

// solution is what one walk came to.
type solution struct {
	search   *search
	packages []int32 // in the order in which they were reached
	there    []bool
	picks    []pick
	ties     []tie
	extra    []int32
}

// solution takes what the walk came to, without what turned out not to be needed.
func (s *search) solution() *solution {
	r := &solution{
		search:   s,
		packages: slices.Clone(s.order),
		there:    slices.Clone(s.reached),
		picks:    slices.Clone(s.picks),
		ties:     slices.Clone(s.ties),
		extra:    slices.Clone(s.extra),
	}
	r.prune()
	return r
}

// has says whether a package of this name is part of the solution.
func (r *solution) has(name string) bool {
	return slices.ContainsFunc(r.packages, func(v int32) bool { return r.search.packages[v].Name == name })
}

// chose says whether the walk gave the requirement of a tie a package of this name,
// and one that is no worse than those of the tie.
func (r *solution) chose(t tie, name string) bool {
	return slices.ContainsFunc(r.picks, func(p pick) bool {
		return p.choice == t.choice && p.class == t.class && r.search.packages[p.v].Name == name
	})
}

// same says whether both solutions have the same packages.
func (r *solution) same(other *solution) bool {
	return len(r.packages) == len(other.packages) && !slices.ContainsFunc(r.packages, func(v int32) bool {
		return !in(other.there, v)
	})
}

// prune takes away what was chosen for a requirement that waited, where the rest
// of the solution brings another package that satisfies it for a reason of its
// own. What only the package itself brought is no such reason.
func (r *solution) prune() {
	for again := true; again; {
		again = false
		for i := len(r.picks) - 1; i >= 0 && !again; i-- {
			p := r.picks[i]
			if in(r.there, p.v) && slices.ContainsFunc(p.choice.options, func(o option) bool { return o.v != p.v && in(r.there, o.v) }) {
				again = r.drop(p.v)
			}
		}
	}
}

// drop walks through the solution once more, without v: no requirement that v
// satisfies may bring anything. If all requirements are satisfied in the end, what
// was reached is the solution.
func (r *solution) drop(v int32) bool {
	s := r.search
	there := make([]bool, len(r.there))
	var packages []int32
	var waiting []*choice
	queue := slices.Clone(s.asks)
	satisfied := func(c *choice) bool {
		return slices.ContainsFunc(c.options, func(o option) bool { return in(there, o.v) })
	}
	reach := func(w int32) {
		there[w] = true
		packages = append(packages, w)
		queue = append(queue, s.details[w].needs...)
	}
	for {
		for ; len(queue) > 0; queue = queue[1:] {
			var fit []int32
			for _, o := range queue[0].options {
				if in(r.there, o.v) {
					fit = append(fit, o.v)
				}
			}
			if len(fit) == 1 && fit[0] != v && !there[fit[0]] {
				reach(fit[0])
			} else if len(fit) != 1 || fit[0] == v {
				waiting = append(waiting, queue[0])
			}
		}
		next := int32(-1)
		for _, c := range waiting {
			if satisfied(c) || slices.ContainsFunc(c.options, func(o option) bool { return o.v == v }) {
				continue
			}
			at := slices.IndexFunc(c.options, func(o option) bool { return in(r.there, o.v) })
			next = c.options[at].v
			break
		}
		if next < 0 {
			// What came by install_if stays as long as what it came for is there, also
			// where it brought something that its install_if had excluded.
			at := slices.IndexFunc(r.extra, func(w int32) bool { return in(r.there, w) && !there[w] && s.dueIn(w, there, false) })
			if at < 0 {
				break
			}
			next = r.extra[at]
		}
		if next == v {
			return false
		}
		reach(next)
	}
	if !all(waiting, satisfied) {
		return false
	}
	for _, w := range packages {
		if p := s.packages[w]; p.Tag != "" && !p.Installed {
			if pulled, _ := s.pulled(p.Tag, there); !pulled[w] {
				return false
			}
		}
	}
	r.there = there
	r.packages = slices.DeleteFunc(r.packages, func(w int32) bool { return !there[w] })
	return true
}

func all[T any](list []T, holds func(T) bool) bool {
	return !slices.ContainsFunc(list, func(t T) bool { return !holds(t) })
}

// installOrder gives the packages of a solution in the order in which apk installs
// them: it goes through the world by name, of each package first through what it
// depends on, in the order of the package's own list; and after a package come those
// whose install_if it completes.
func (s *search) installOrder(r *solution) []*Package {
	o := order{search: s, solution: r, begun: make([]bool, len(s.packages)), processed: map[string]bool{}}
	for _, q := range s.world {
		o.name(q.Name)
	}
	rest := slices.Clone(r.packages)
	slices.SortFunc(rest, func(v, w int32) int { return compareNames(s.packages[v].Name, s.packages[w].Name) })
	for _, v := range rest {
		o.name(s.packages[v].Name)
	}
	for _, v := range rest {
		o.visit(v) // what shares all of its names
	}
	return o.packages
}

type order struct {
	*search
	*solution
	packages  []*Package
	begun     []bool
	processed map[string]bool // names
}

func (o *order) name(name string) {
	if o.processed[name] {
		return
	}
	o.processed[name] = true
	if p := o.serves(name); p.v >= 0 {
		o.visit(p.v)
	}
}

// serves gives the package of the solution that has the name or, of those that only
// provide it, the best; or -1.
func (o *order) serves(name string) provider {
	best := provider{v: -1}
	for _, p := range o.search.name(name) {
		if !in(o.there, p.v) {
			continue
		}
		if best.v < 0 || cmp.Or(asInt(p.bare)-asInt(best.bare), cmp.Compare(o.search.packages[best.v].ProviderPriority, o.search.packages[p.v].ProviderPriority)) < 0 {
			best = p
		}
	}
	return best
}

func (o *order) visit(v int32) {
	if o.begun[v] {
		return
	}
	o.begun[v] = true
	p := o.search.packages[v]
	names := append([]string{p.Name}, provided(p)...)
	for _, name := range names {
		o.processed[name] = true
	}
	for _, d := range p.Depends {
		o.name(d.Name)
	}
	o.packages = append(o.packages, p)
	for _, name := range names {
		for _, w := range o.triggered(name) {
			// apk looks at the names that such a package has, whoever serves them in
			// the end: a provider without any install_if comes at this place, too.
			q := o.search.packages[w]
			for _, name := range append([]string{q.Name}, provided(q)...) {
				if p := o.serves(name); p.v >= 0 && !o.processed[name] && o.ready(p.v) {
					o.name(name)
				}
			}
		}
	}
}

// ready says that a package's install_if holds for what was come to so far.
func (o *order) ready(v int32) bool {
	for _, d := range o.search.packages[v].InstallIf {
		p := o.serves(d.Name)
		met := p.v >= 0 && p.v != v && matches(d, p.version, p.bare, false)
		if met == d.Conflict || !d.Conflict && !o.processed[d.Name] {
			return false
		}
	}
	return true
}
