package solve

// lit says of a variable that it is true (2v) or false (2v+1).
type lit int32

func yes(v int32) lit         { return lit(v << 1) }
func no(v int32) lit          { return lit(v<<1 | 1) }
func (l lit) variable() int32 { return int32(l >> 1) }
func (l lit) negated() bool   { return l&1 == 1 }
func (l lit) not() lit        { return l ^ 1 }

// clause says that one of its literals holds.
type clause struct {
	lits []lit
	fact fact      // what it stands for, when it was not learned
	from []*clause // what it follows from, when it was learned
}

// engine is the part of a conflict-driven search that knows nothing of packages:
// clauses over variables, what follows from them, and what is to be learned when
// they contradict each other (Marques-Silva and Sakallah's GRASP; two watched
// literals as in Moskewicz et al., Chaff). Which decision comes next is up to
// the caller, who can therefore rank solutions: literals that are decided in the
// order of a preference, always as preferred, give the best solution first
// (Giunchiglia and Maratea, Solving optimization problems with DLL, ECAI 2006).
type engine struct {
	value   []int8 // 0 unknown, 1 true, -1 false; by variable
	level   []int32
	because []reason
	seen    []bool
	watches [][]*clause // by the literal that, when false, wakes them
	trail   []lit
	marks   []int // where in the trail each level begins, from level 1
	next    int   // the first literal of the trail whose consequences are not drawn

	// whenTrue, if set, is called each time a variable becomes true; it may add
	// clauses, and gives one that is false if there is one.
	whenTrue func(v int32) *clause
	// binary gives the clause that a true v excludes w.
	binary func(v, w int32) *clause
}

// reason says why a literal holds: a clause, or a variable by excluding it.
type reason struct {
	clause *clause
	by     int32
}

func (e *engine) variable() int32 {
	v := int32(len(e.value))
	e.value = append(e.value, 0)
	e.level = append(e.level, 0)
	e.because = append(e.because, reason{})
	e.seen = append(e.seen, false)
	e.watches = append(e.watches, nil, nil)
	return v
}

// of is the value of a literal: 1 true, -1 false, 0 unknown.
func (e *engine) of(l lit) int8 {
	if l.negated() {
		return -e.value[l.variable()]
	}
	return e.value[l.variable()]
}

func (e *engine) depth() int32 { return int32(len(e.marks)) }

// set makes a literal hold on the present level.
func (e *engine) set(l lit, why reason) {
	v := l.variable()
	if l.negated() {
		e.value[v] = -1
	} else {
		e.value[v] = 1
	}
	e.level[v], e.because[v] = e.depth(), why
	e.trail = append(e.trail, l)
}

// decide opens a level with a literal that nothing asks for yet.
func (e *engine) decide(l lit) {
	e.marks = append(e.marks, len(e.trail))
	e.set(l, reason{})
}

// back undoes every level above depth.
func (e *engine) back(depth int32) {
	if e.depth() <= depth {
		return
	}
	mark := e.marks[depth]
	for _, l := range e.trail[mark:] {
		e.value[l.variable()] = 0
	}
	e.trail = e.trail[:mark]
	e.marks = e.marks[:depth]
	e.next = min(e.next, mark)
}

// add takes a clause in, and draws what follows at once. It gives the clause
// back when all its literals are false.
func (e *engine) add(c *clause) *clause {
	if len(c.lits) == 0 {
		return c
	}
	// The two literals to watch are those that become unknown first when levels
	// are undone: the true and unknown ones, then the false ones of the highest level.
	for i := range min(2, len(c.lits)) {
		best := i
		for j := i + 1; j < len(c.lits); j++ {
			if e.better(c.lits[j], c.lits[best]) {
				best = j
			}
		}
		c.lits[i], c.lits[best] = c.lits[best], c.lits[i]
		e.watches[c.lits[i]] = append(e.watches[c.lits[i]], c)
	}
	switch {
	case e.of(c.lits[0]) < 0:
		return c
	case e.of(c.lits[0]) == 0 && (len(c.lits) == 1 || e.of(c.lits[1]) < 0):
		e.set(c.lits[0], reason{clause: c})
	}
	return nil
}

func (e *engine) better(a, b lit) bool {
	x, y := e.of(a), e.of(b)
	if x < 0 && y < 0 {
		return e.level[a.variable()] > e.level[b.variable()]
	}
	return x > y
}

// exclude makes w false because v is true. It gives the false clause when w is true.
func (e *engine) exclude(v, w int32) *clause {
	switch e.value[w] {
	case 1:
		return e.binary(v, w)
	case 0:
		e.set(no(w), reason{by: v + 1})
	}
	return nil
}

// propagate draws every consequence, and gives a clause that is false if there is one.
func (e *engine) propagate() *clause {
	for e.next < len(e.trail) {
		l := e.trail[e.next]
		e.next++
		if !l.negated() && e.whenTrue != nil {
			if c := e.whenTrue(l.variable()); c != nil {
				return c
			}
		}
		falsified := l.not()
		watching := e.watches[falsified]
		kept := watching[:0]
		for i, c := range watching {
			if len(c.lits) == 1 {
				// It was false when it was added, and another clause was learned from.
				e.watches[falsified] = append(kept, watching[i:]...)
				return c
			}
			if c.lits[0] == falsified {
				c.lits[0], c.lits[1] = c.lits[1], c.lits[0]
			}
			if e.of(c.lits[0]) > 0 || e.rewatch(c) {
				if c.lits[1] == falsified {
					kept = append(kept, c)
				}
				continue
			}
			kept = append(kept, c)
			if e.of(c.lits[0]) < 0 {
				kept = append(kept, watching[i+1:]...)
				e.watches[falsified] = kept
				return c
			}
			e.set(c.lits[0], reason{clause: c})
		}
		e.watches[falsified] = kept
	}
	return nil
}

// rewatch finds another literal for the second watch of c, which became false.
func (e *engine) rewatch(c *clause) bool {
	for j := 2; j < len(c.lits); j++ {
		if e.of(c.lits[j]) >= 0 {
			c.lits[1], c.lits[j] = c.lits[j], c.lits[1]
			e.watches[c.lits[1]] = append(e.watches[c.lits[1]], c)
			return true
		}
	}
	return false
}

// why is the clause that made v what it is, nil for a decision.
func (e *engine) why(v int32) *clause {
	if r := e.because[v]; r.by > 0 {
		return e.binary(r.by-1, v)
	} else {
		return r.clause
	}
}

// learn explains a false clause: it gives the clause that follows from what led
// there and holds a single literal of the highest level (the first unique
// implication point), and the level to go back to. On level 0 there is nothing
// to go back to, and it gives nil.
//
// Literals of level 0 stay in the clause: they cost little, and the proof of a
// contradiction needs them.
func (e *engine) learn(conflict *clause) (*clause, int32) {
	// A clause that was added late may be false on a lower level than the present one.
	top := int32(0)
	for _, l := range conflict.lits {
		top = max(top, e.level[l.variable()])
	}
	if top == 0 {
		return nil, 0
	}
	e.back(top)
	learned := &clause{lits: []lit{0}}
	var marked []int32
	open, at := 0, len(e.trail)-1
	for c := conflict; ; {
		learned.from = append(learned.from, c)
		for _, l := range c.lits {
			v := l.variable()
			if e.seen[v] || e.of(l) > 0 {
				continue
			}
			e.seen[v] = true
			marked = append(marked, v)
			if e.level[v] == top {
				open++
			} else {
				learned.lits = append(learned.lits, l)
			}
		}
		for !e.seen[e.trail[at].variable()] || e.level[e.trail[at].variable()] != top {
			at--
		}
		l := e.trail[at]
		at--
		if open--; open == 0 {
			learned.lits[0] = l.not()
			break
		}
		c = e.why(l.variable())
	}
	for _, v := range marked {
		e.seen[v] = false
	}
	depth := int32(0)
	for _, l := range learned.lits[1:] {
		depth = max(depth, e.level[l.variable()])
	}
	return learned, depth
}

// resolve settles a false clause: it learns from it and goes back as far as what
// it learned has a consequence. When there is no solution, it gives the clause
// that is false on level 0.
func (e *engine) resolve(conflict *clause) *clause {
	for conflict != nil {
		learned, depth := e.learn(conflict)
		if learned == nil {
			return conflict
		}
		e.back(depth)
		conflict = e.add(learned)
	}
	return nil
}

// proof gives the clauses that were not learned and that together contradict each
// other, when conflict is false on level 0.
func (e *engine) proof(conflict *clause) []*clause {
	var facts []*clause
	visited := map[*clause]bool{}
	known := map[int32]bool{}
	todo := []*clause{conflict}
	for len(todo) > 0 {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if c == nil || visited[c] {
			continue
		}
		visited[c] = true
		if c.from == nil {
			facts = append(facts, c)
		}
		todo = append(todo, c.from...)
		for _, l := range c.lits {
			if v := l.variable(); !known[v] && e.value[v] != 0 && e.level[v] == 0 {
				known[v] = true
				todo = append(todo, e.why(v))
			}
		}
	}
	return facts
}

// model gives values of the variables with which clauses hold, nil where they contradict
// each other. The clauses are copied.
func model(clauses []*clause) map[int32]bool {
	var e engine
	e.binary = func(v, w int32) *clause { return nil }
	vars := map[int32]int32{}
	for _, c := range clauses {
		own := &clause{lits: make([]lit, len(c.lits))}
		for i, l := range c.lits {
			v, known := vars[l.variable()]
			if !known {
				v = e.variable()
				vars[l.variable()] = v
			}
			own.lits[i] = yes(v) | l&1
		}
		if e.add(own) != nil {
			return nil
		}
	}
	for free := int32(0); ; {
		if conflict := e.propagate(); conflict != nil {
			if e.resolve(conflict) != nil {
				return nil
			}
			free = 0
			continue
		}
		for int(free) < len(e.value) && e.value[free] != 0 {
			free++
		}
		if int(free) < len(e.value) {
			e.decide(no(free))
			continue
		}
		values := make(map[int32]bool, len(vars))
		for v, own := range vars {
			values[v] = e.value[own] > 0
		}
		return values
	}
}
