package solve

import "slices"

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

// chose says whether the walk gave a requirement a package of this name.
func (r *solution) chose(c *choice, name string) bool {
	return slices.ContainsFunc(r.picks, func(p pick) bool { return p.choice == c && r.search.packages[p.v].Name == name })
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

// installOrder gives the packages of a solution, each after what it depends on,
// and what came by install_if after what it came for.
func (s *search) installOrder(r *solution) []*Package {
	packages := make([]*Package, 0, len(r.packages))
	begun := make([]bool, len(s.packages))
	var visit func(v int32)
	serve := func(c *choice) {
		for _, o := range c.options {
			if in(r.there, o.v) {
				visit(o.v)
			}
		}
	}
	visit = func(v int32) {
		if begun[v] {
			return
		}
		begun[v] = true
		for _, c := range s.details[v].needs {
			serve(c)
		}
		packages = append(packages, s.packages[v])
	}
	for _, c := range s.asks {
		serve(c)
	}
	for _, v := range r.packages {
		visit(v)
	}
	return packages
}
