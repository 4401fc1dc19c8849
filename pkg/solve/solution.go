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

// prune takes away what nothing needs. A package that was chosen because its
// requirement could wait no longer may have become needless by one that another
// requirement brought later; every other package was chosen because nothing else
// could be.
func (r *solution) prune() {
	before := len(r.packages)
	for i := len(r.picks) - 1; i >= 0; i-- {
		p := r.picks[i]
		if slices.ContainsFunc(p.choice.options, func(o option) bool { return o.v != p.v && in(r.there, o.v) }) {
			r.drop(p.v)
		}
	}
	for len(r.packages) < before {
		// What went may have left others that only it needed.
		before = len(r.packages)
		for _, v := range slices.Backward(slices.Clone(r.packages)) {
			r.drop(v)
		}
	}
}

// drop takes a package away, and what cannot be there without it, if the rest is
// a solution.
func (r *solution) drop(v int32) {
	if !r.there[v] {
		return
	}
	s := r.search
	there := slices.Clone(r.there)
	satisfied := func(c *choice) bool {
		return slices.ContainsFunc(c.options, func(o option) bool { return in(there, o.v) })
	}
	there[v] = false
	for again := true; again; {
		again = false
		for _, w := range r.packages {
			if there[w] && !all(s.details[w].needs, satisfied) {
				there[w], again = false, true
			}
		}
	}
	if !all(s.asks, satisfied) {
		return
	}
	for _, w := range r.extra {
		// What came by install_if stays as long as what it came for is there, also
		// where it brought something that its install_if had excluded.
		if r.there[w] && !there[w] && s.dueIn(w, there, false) {
			return
		}
	}
	for _, w := range r.packages {
		if p := s.packages[w]; there[w] && p.Tag != "" && !p.Installed {
			if pulled, _ := s.pulled(p.Tag, there); !pulled[w] {
				return
			}
		}
	}
	r.there = there
	r.packages = slices.DeleteFunc(r.packages, func(w int32) bool { return !there[w] })
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
