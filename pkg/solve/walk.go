package solve

import (
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// walk decides what the engine leaves open, in the order of preference. All of
// it only grows, so that going back is cutting off.
type walk struct {
	queue   []asked // requirements, breadth first
	head    int     // the first of queue that is not settled
	waiting []asked // those that packages of several names could satisfy
	order   []int32 // the packages reached, in order
	reached []bool  // by variable
	ifs     []int32 // packages whose install_if names something reached
	picks   []pick  // the waiting requirements that were decided
	ties    []tie   // where the decision was by name alone
	extra   []int32 // packages that came by install_if
	saved   []saved // by level
}

type saved struct{ queue, head, waiting, order, ifs, picks, ties, extra int }

// asked is a requirement with who asks: a package, or -1 for the world.
type asked struct {
	*choice
	by int32
}

// pick is a requirement and the package it got.
type pick struct {
	choice *choice
	v      int32
	class  int
}

// tie is a decision between names that nothing but the name tells apart.
type tie struct {
	choice *choice
	by     int32
	chosen string
	class  int
	others []string
	open   bool // no name has a version or a priority
}

func (s *search) restart() {
	s.back(0)
	for _, v := range s.order {
		s.reached[v] = false
	}
	s.walk = walk{reached: s.reached, queue: s.queue[:0], waiting: s.waiting[:0], order: s.order[:0]}
	for _, c := range s.asks {
		s.queue = append(s.queue, asked{c, -1})
	}
}

// choose decides for or against a package, on a level of its own.
func (s *search) choose(l lit) {
	s.saved = append(s.saved, saved{len(s.queue), s.head, len(s.waiting), len(s.order), len(s.ifs), len(s.picks), len(s.ties), len(s.extra)})
	s.decide(l)
}

// rewind takes the walk back to where the engine went back to.
func (s *search) rewind() {
	depth := int(s.depth())
	if len(s.saved) <= depth {
		return
	}
	was := s.saved[depth]
	s.saved = s.saved[:depth]
	for _, v := range s.order[was.order:] {
		s.reached[v] = false
	}
	s.queue, s.head = s.queue[:was.queue], was.head
	s.waiting, s.order, s.ifs = s.waiting[:was.waiting], s.order[:was.order], s.ifs[:was.ifs]
	s.picks, s.ties, s.extra = s.picks[:was.picks], s.ties[:was.ties], s.extra[:was.extra]
}

// reach takes a package into the solution, and what it needs into the walk.
func (s *search) reach(v int32) {
	if s.reached[v] {
		return
	}
	s.reached[v] = true
	s.order = append(s.order, v)
	d := s.details[v]
	for _, c := range d.needs {
		s.queue = append(s.queue, asked{c, v})
	}
	s.ifs = append(s.ifs, d.triggers...)
}

// satisfied says whether a package that was reached satisfies the requirement.
func (s *search) satisfied(c *choice) bool {
	return slices.ContainsFunc(c.options, func(o option) bool { return s.reached[o.v] })
}

// run walks until every requirement is settled. It says whether there is a solution.
func (s *search) run() bool {
	s.restart()
	if s.absurd != nil {
		return false
	}
	for {
		conflict := s.propagate()
		if conflict == nil {
			done := false
			if done, conflict = s.advance(); done {
				return true
			}
		}
		if conflict != nil {
			if s.absurd = s.resolve(conflict); s.absurd != nil {
				return false
			}
		}
		s.rewind()
	}
}

// advance goes on until something was decided or all is settled. It gives a
// clause where what was reached breaks the promise of tags.
func (s *search) advance() (done bool, conflict *clause) {
	for s.head < len(s.queue) {
		a := s.queue[s.head]
		switch {
		case s.satisfied(a.choice):
		case !a.single && !(a.by < 0 && a.named):
			s.waiting = append(s.waiting, a)
		default:
			v := s.first(a.choice, "")
			if s.value[v] == 0 {
				s.choose(yes(v))
				return false, nil
			}
			s.reach(v)
		}
		s.head++
	}
	for _, step := range []func() bool{
		func() bool { return s.settleAny(clear) },
		func() bool { return s.come(false) },
		func() bool { return s.settleAny(tied) },
		func() bool { return s.settleAny(open) },
		func() bool { return s.come(true) },
	} {
		if step() {
			return false, nil
		}
	}
	for _, l := range s.trail {
		// Only what a stray package led to is there without having been reached.
		if v := l.variable(); !l.negated() && !s.reached[v] {
			s.reach(v)
			return false, nil
		}
	}
	conflict = s.stray()
	if conflict == nil {
		return true, nil
	}
	for _, l := range conflict.lits {
		if s.of(l) == 0 {
			s.choose(l.not())
			return false, nil
		}
	}
	return false, conflict
}

// first is the best option that can still be, preferably of a name.
func (s *search) first(c *choice, name string) int32 {
	best := int32(-1)
	for _, o := range c.options {
		if s.value[o.v] < 0 {
			continue
		}
		if o.name == name {
			return o.v
		}
		if best < 0 {
			best = o.v
			if name == "" {
				break
			}
		}
	}
	if best < 0 {
		panic("internal error: a requirement without options was not found false")
	}
	return best
}

// settleAny settles the first requirement that waits and is as hard to decide as that.
func (s *search) settleAny(d difficulty) bool {
	for _, a := range s.waiting {
		if a.difficulty == d && !s.satisfied(a.choice) {
			s.settle(a)
			return true
		}
	}
	return false
}

// settle decides a requirement that waited, or takes note of its decision.
func (s *search) settle(a asked) {
	v := s.first(a.choice, s.forced[a.choice])
	if s.value[v] == 0 {
		s.choose(yes(v))
		return
	}
	at := slices.IndexFunc(a.options, func(o option) bool { return o.v == v })
	chosen := a.options[at]
	t := tie{choice: a.choice, by: a.by, chosen: chosen.name, class: chosen.class, open: chosen.open}
	for _, o := range a.options {
		if o.class == chosen.class && o.name != chosen.name && !slices.Contains(t.others, o.name) {
			t.others = append(t.others, o.name)
		}
	}
	if len(t.others) > 0 {
		s.ties = append(s.ties, t)
	}
	s.picks = append(s.picks, pick{a.choice, v, chosen.class})
	s.reach(v)
}

// come decides for, or reaches, the next package whose install_if is fulfilled. One
// whose install_if has a conflict comes when all else is decided (last).
func (s *search) come(last bool) bool {
	v := s.fulfilled(last)
	if v < 0 {
		return false
	}
	if s.value[v] == 0 {
		s.choose(yes(v))
	} else {
		s.extra = append(s.extra, v)
		s.reach(v)
	}
	return true
}

// fulfilled gives the next package whose install_if is fulfilled and that is not
// ruled out, or -1.
func (s *search) fulfilled(last bool) int32 {
	best := int32(-1)
	for _, v := range s.ifs {
		if s.value[v] < 0 || s.reached[v] || !last && s.hasExcluding(v) || !s.due(v) {
			continue
		}
		if best < 0 || s.before(v, best) {
			best = v
		}
	}
	return best
}

// hasExcluding says whether a package's install_if has a conflict.
func (s *search) hasExcluding(v int32) bool {
	return slices.ContainsFunc(s.packages[v].InstallIf, func(d apk.Dependency) bool { return d.Conflict })
}

// before orders packages that come by install_if: by name, then by preference.
func (s *search) before(v, w int32) bool {
	p, q := s.packages[v], s.packages[w]
	if c := strings.Compare(p.Name, q.Name); c != 0 {
		return c < 0
	}
	if c := s.class("", provider{v: v, version: p.Version}, provider{v: w, version: q.Version}); c != 0 {
		return c < 0
	}
	return canonical(p, q) < 0
}

// due says whether all of a package's install_if holds for what was reached.
func (s *search) due(v int32) bool { return s.dueIn(v, s.reached, true) }

// dueIn says whether all of a package's install_if, with or without its conflicts,
// holds for what is there.
func (s *search) dueIn(v int32, there []bool, conflicts bool) bool {
	for _, d := range s.packages[v].InstallIf {
		if d.Conflict && !conflicts {
			continue
		}
		found := false
		for _, p := range s.name(d.Name) {
			if in(there, p.v) && p.v != v && matches(d, p.version, p.bare, false) {
				found = true
				break
			}
		}
		if found == d.Conflict {
			return false
		}
	}
	return true
}

// in says whether v is there; packages that became known since are not.
func in(there []bool, v int32) bool { return int(v) < len(there) && there[v] }

// stray looks for a tagged package that no requirement of its tag pulled in. It
// gives the clause that such a package breaks: it can be there only when one more
// package is that a requirement of its tag, or what it pulled in, could ask for.
func (s *search) stray() *clause {
	for _, v := range s.order {
		tag := s.packages[v].Tag
		if tag == "" || s.packages[v].Installed {
			continue
		}
		pulled, near := s.pulled(tag, s.reached)
		if pulled[v] {
			continue
		}
		c := &clause{lits: []lit{no(v)}, fact: fact{kind: factTag, v: v}}
		for _, w := range near {
			if w != v {
				c.lits = append(c.lits, yes(w))
			}
		}
		return c
	}
	return nil
}

// pulled gives the packages among those that are there which the requirements of
// a tag pull in, and, in
// canonical order, those that they would pull in if they were there.
func (s *search) pulled(tag string, there []bool) (map[int32]bool, []int32) {
	pulled, near := map[int32]bool{}, map[int32]bool{}
	var todo []int32
	visit := func(v int32) {
		switch {
		case !in(there, v):
			near[v] = true
		case !pulled[v]:
			pulled[v] = true
			todo = append(todo, v)
		}
	}
	for _, c := range s.asks {
		if c.key.tag == tag {
			for _, o := range c.options {
				visit(o.v)
			}
		}
	}
	for len(todo) > 0 {
		d := s.details[todo[0]]
		todo = todo[1:]
		for _, c := range d.needs {
			for _, o := range c.options {
				visit(o.v)
			}
		}
		for _, v := range d.triggers {
			visit(v)
		}
	}
	rest := make([]int32, 0, len(near))
	for v := range near {
		rest = append(rest, v)
	}
	slices.SortFunc(rest, func(v, w int32) int { return canonical(s.packages[v], s.packages[w]) })
	return pulled, rest
}
