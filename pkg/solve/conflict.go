package solve

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
)

// fact is what a clause says of the world and the packages.
type fact struct {
	kind   factKind
	v, w   int32
	at     int // of the world's requirements, or of the package's needs
	choice *choice
}

type factKind uint8

const (
	factLearned  factKind = iota
	factAsks              // the world asks for something
	factForbids           // the world has "!name", and w matches
	factNeeds             // v depends on something
	factExcludes          // v and w cannot stand side by side
	factTag               // v is tagged and nothing of its tag asks for it
	factUnfit             // v can be installed nowhere
)

// Conflict is the error of a world that has no solution: a smallest set of its
// requirements that cannot hold together (without any one of them the rest of the
// set can), and why.
type Conflict struct {
	// Requirements are those entries of the world.
	Requirements []Requirement
	// Chain tells why they cannot hold, each line following from what stands
	// before it, e.g. "curl-8.5.0-r0 needs so:libssl.so.3, which libssl3-3.4.0-r0 provides".
	Chain []string
	// Unknown are further entries of the world that nothing has or provides, or whose tag
	// no repository has, each as in a chain: of mistakes in what a person wrote, all are told at once.
	Unknown []string
	// Hints tell what to change.
	Hints []string
}

// shownLines is how much of a chain a message shows: nobody follows a longer one, and
// what matters are its ends.
const shownLines = 40

func (c *Conflict) Error() string {
	var b strings.Builder
	lines := c.Chain
	if len(lines) > shownLines {
		between := fmt.Sprintf("(and so on, %d lines)", len(lines)-shownLines)
		lines = slices.Concat(lines[:shownLines/2], []string{between}, lines[len(lines)-shownLines/2:])
	}
	lines = slices.Concat(lines, c.Unknown)
	b.WriteString("no solution:")
	if len(lines) > 1 {
		b.WriteString("\n ")
	}
	b.WriteString(" " + strings.Join(lines, "\n  "))
	for _, hint := range c.Hints {
		b.WriteString("\n  hint: " + hint)
	}
	return b.String()
}

// CheckTags says of a world that asks for a tag that no source has (tags) that it has no
// solution: as with apk, such a tag is no way to ask for whatever is there. It is for
// those who know all sources; [Solve] sees packages only, and a source may have none.
func CheckTags(world []Requirement, tags []string) error {
	var c *Conflict
	for _, r := range world {
		if r.Tag == "" || slices.Contains(tags, r.Tag) {
			continue
		}
		by := r.From
		if by == "" {
			by = "world"
		}
		hint := diag.DidYouMean(r.Tag, tags)
		if hint == "" {
			bare := r
			bare.Tag = ""
			hint = fmt.Sprintf("name a repository that is tagged so (@%s), or ask %s", r.Tag, bare)
		}
		line := fmt.Sprintf("%s asks %s, and no repository is tagged %s", by, r, r.Tag)
		if c == nil {
			c = &Conflict{Requirements: []Requirement{r}, Chain: []string{line}}
		} else {
			c.Unknown = append(c.Unknown, line)
		}
		if !slices.Contains(c.Hints, hint) {
			c.Hints = append(c.Hints, hint)
		}
	}
	if c == nil {
		return nil
	}
	return c
}

// conflict explains why the search found no solution.
func (s *search) conflict() *Conflict {
	world := s.culprits()
	// Solved alone, the requirements that contradict each other give a proof that
	// speaks of nothing else.
	alone := newSearch(s.universe, world, s.options)
	if alone.run() {
		panic("internal error: the requirements in conflict have a solution")
	}
	facts := alone.minimal(alone.proof(alone.absurd))
	hints := s.hints(alone.world)
	for _, c := range facts {
		if c.fact.kind != factNeeds || len(c.fact.choice.options) > 0 {
			continue
		}
		missing := Requirement{Dependency: c.fact.choice.key.Dependency}
		if len(s.universe.Providers(missing.Name)) == 0 {
			hints[0] += "; or add a repository that has " + missing.Name
		}
		for _, p := range s.tagged(missing) {
			let := Requirement{Dependency: apk.Dependency{Name: p.Name}, Tag: p.Tag}
			if s.solvable(append(slices.Clone(s.world), let)) {
				hints[0] += "; or ask " + let.String() + " too"
			}
		}
	}
	c := &Conflict{Requirements: alone.world, Chain: alone.chain(facts), Hints: hints}
	s.unknown(c)
	return c
}

// notTheOnly is a hint where there is no telling what else is wrong.
const notTheOnly = "this is not the only conflict of the world"

// unknown adds the entries of the world that nothing has or provides, besides those
// that the conflict is about.
func (s *search) unknown(c *Conflict) {
	var names []string
	for _, r := range s.world {
		if r.Conflict || len(s.universe.Providers(r.Name)) > 0 || slices.Contains(c.Requirements, r) {
			continue
		}
		by := r.From
		if by == "" {
			by = "world"
		}
		if all, ok := s.universe.(interface{ Names() []string }); ok && names == nil {
			names = all.Names()
		}
		hint := "leave out " + r.String()
		if near := diag.DidYouMean(r.Name, names); near != "" {
			hint = r.Name + ": " + near
		}
		c.Unknown = append(c.Unknown, fmt.Sprintf("%s asks %s, which nothing provides", by, r))
		c.Hints = append(c.Hints, hint)
	}
	if len(c.Unknown) > 0 {
		if len(c.Requirements) == 1 && len(c.Hints) > 0 && strings.HasPrefix(c.Hints[0], "did you mean") {
			c.Hints[0] = c.Requirements[0].Name + ": " + c.Hints[0]
		}
		c.Hints = slices.DeleteFunc(c.Hints, func(hint string) bool { return hint == notTheOnly })
	}
}

// culprits gives a set of requirements without a solution, of which none can be
// left out.
func (s *search) culprits() []Requirement {
	in := map[int]bool{}
	for _, c := range s.proof(s.absurd) {
		if c.fact.kind == factAsks || c.fact.kind == factForbids {
			in[c.fact.at] = true
		}
	}
	var world []Requirement
	for i, r := range s.world {
		// A tag lets packages in, and so belongs to whatever went wrong.
		if in[i] || r.Tag != "" {
			world = append(world, r)
		}
	}
	for i := 0; i < len(world); {
		rest := slices.Delete(slices.Clone(world), i, i+1)
		if s.solvable(rest) {
			i++
			continue
		}
		if world[i].Tag != "" {
			i = 0 // fewer tags let fewer packages in, and what was needed may not be
		}
		world = rest
	}
	return world
}

func (s *search) solvable(world []Requirement) bool {
	return newSearch(s.universe, world, s.options).run()
}

// minimal leaves out the facts that the contradiction does not need.
func (s *search) minimal(proof []*clause) []*clause {
	var facts []*clause
	known := map[fact]bool{}
	for _, c := range proof {
		if !known[c.fact] {
			known[c.fact] = true
			facts = append(facts, c)
		}
	}
	// The same facts in another order would leave another set.
	slices.SortStableFunc(facts, func(a, b *clause) int { return s.compareFacts(a.fact, b.fact) })
	n := necessity{where: map[int32][]*clause{}, gone: map[*clause]bool{}, needed: map[*clause]bool{}}
	for _, c := range facts {
		for _, l := range c.lits {
			n.where[l.variable()] = append(n.where[l.variable()], c)
		}
	}
	for i := len(facts) - 1; i >= 0; i-- {
		c := facts[i]
		if n.needed[c] {
			continue
		}
		rest := slices.Delete(slices.Clone(facts), i, i+1)
		if n.model = model(rest); n.model == nil {
			facts, n.gone[c] = rest, true
			continue
		}
		n.needed[c] = true
		n.rotate(c)
	}
	return facts
}

// necessity finds facts that a contradiction needs from one that it needs: values that
// break that one alone are changed, one by one, and where they then break one other alone,
// that one is needed as well (Marques-Silva and Lynce, On improving MUS extraction
// algorithms, SAT 2011). A long chain is thus looked through once, not once for each link.
type necessity struct {
	where  map[int32][]*clause // those that speak of a variable
	gone   map[*clause]bool    // those that were left out
	needed map[*clause]bool
	model  map[int32]bool
}

// rotate begins with c, which n.model breaks, and no other that is not gone.
func (n *necessity) rotate(c *clause) {
	for _, l := range c.lits {
		v := l.variable()
		n.model[v] = !n.model[v]
		var broken []*clause
		for _, d := range n.where[v] {
			if !n.gone[d] && !n.holds(d) {
				broken = append(broken, d)
			}
			if len(broken) > 1 {
				break
			}
		}
		if len(broken) == 1 && !n.needed[broken[0]] {
			n.needed[broken[0]] = true
			n.rotate(broken[0])
		}
		n.model[v] = !n.model[v]
	}
}

func (n *necessity) holds(c *clause) bool {
	return slices.ContainsFunc(c.lits, func(l lit) bool { return n.model[l.variable()] != l.negated() })
}

// compareFacts orders facts by kind, then by what they speak of; of the versions
// of a package the higher ones come first.
func (s *search) compareFacts(a, b fact) int {
	if a.kind != b.kind {
		return int(a.kind) - int(b.kind)
	}
	for _, pair := range [][2]int32{{a.v, b.v}, {a.w, b.w}} {
		if (a.kind == factAsks || a.kind == factForbids) && pair[0] == a.v {
			continue
		}
		if a.kind == factNeeds && pair[0] == a.w && pair[0] != a.v {
			continue
		}
		if pair[0] != pair[1] && pair[0] >= 0 && pair[1] >= 0 {
			if c := canonical(s.packages[pair[0]], s.packages[pair[1]]); c != 0 {
				return c
			}
		}
	}
	return a.at - b.at
}

// chain writes facts as sentences, from the world on along what needs what.
func (s *search) chain(facts []*clause) []string {
	var lines []string
	said := map[string]bool{}
	say := func(line string) {
		if line != "" && !said[line] {
			said[line] = true
			lines = append(lines, line)
		}
	}
	needs := map[int32][]fact{}
	var queue []*choice
	for _, c := range facts {
		switch c.fact.kind {
		case factAsks:
			say(s.asker(s.world[c.fact.at]) + " asks " + s.world[c.fact.at].String() + s.answer(c.fact.choice, s.world[c.fact.at].From == ""))
			queue = append(queue, c.fact.choice)
		case factNeeds:
			needs[c.fact.v] = append(needs[c.fact.v], c.fact)
		}
	}
	visited := map[int32]bool{}
	for len(queue) > 0 {
		// The versions of a package that need the same are told in one line.
		var order []string
		lineOf := map[string]*choice{}
		who := map[string][]int32{}
		for _, o := range queue[0].options {
			if visited[o.v] {
				continue
			}
			visited[o.v] = true
			for _, f := range needs[o.v] {
				key := o.name + " " + f.choice.key.String()
				if who[key] == nil {
					order = append(order, key)
					lineOf[key] = f.choice
				}
				who[key] = append(who[key], o.v)
			}
		}
		queue = queue[1:]
		for _, key := range order {
			verb := " needs "
			if len(who[key]) > 1 {
				verb = " need "
			}
			say(s.versions(who[key]) + verb + lineOf[key].key.String() + s.answer(lineOf[key], false))
			queue = append(queue, lineOf[key])
		}
	}
	for _, c := range facts {
		switch f := c.fact; f.kind {
		case factForbids:
			say(s.asker(s.world[f.at]) + " asks " + s.world[f.at].String() + s.forbidden(f, facts))
		case factExcludes:
			say(s.excluded(f))
		case factUnfit:
			say(s.unfit(f.v))
		case factTag:
			say(fmt.Sprintf("%s is there only for requirements of the tag %s", s.packages[f.v], s.packages[f.v].Tag))
		}
	}
	return lines
}

func (s *search) asker(r Requirement) string {
	if r.From != "" {
		return r.From
	}
	return "world"
}

// answer says which packages satisfy a requirement, where that is not plain.
func (s *search) answer(c *choice, world bool) string {
	if len(c.options) > 0 {
		if c.single && c.options[0].name == c.key.Name && len(c.options) > 1 && c.key.Op == apk.Any {
			return ""
		}
		vs := make([]int32, len(c.options))
		provided := false
		for i, o := range c.options {
			vs[i] = o.v
			provided = provided || o.name != c.key.Name
		}
		switch {
		case provided && len(vs) == 1:
			return ", which " + s.versions(vs) + " provides"
		case provided:
			return ", which " + s.versions(vs) + " provide"
		case c.key.Op == apk.Any:
			return ""
		}
		return ", that is " + s.versions(vs)
	}
	others := s.name(c.key.Name)
	if len(others) == 0 {
		var tagged, foreign, older []string
		for _, p := range s.universe.Providers(c.key.Name) {
			switch {
			case !s.archFits(p):
				foreign = append(foreign, fmt.Sprintf("%s for %s", p, p.Arch))
			case p.Tag != "":
				tagged = append(tagged, p.String())
			default:
				older = append(older, p.String())
			}
		}
		for _, why := range []struct {
			text  string
			names []string
		}{
			{", which only tagged packages provide: ", tagged},
			{", which is there for other architectures only: ", foreign},
			{", which only packages that are not the latest provide: ", older},
		} {
			if len(why.names) > 0 {
				slices.Sort(why.names)
				return why.text + list(slices.Compact(why.names), "and")
			}
		}
		return ", which nothing provides"
	}
	vs := make([]int32, len(others))
	for i, p := range others {
		vs[i] = p.v
		if q := s.packages[p.v]; q.Name != c.key.Name {
			// The version that matters is that of the name.
			if p.bare {
				return fmt.Sprintf(", but %s provides %s without a version", q, c.key.Name)
			}
			return fmt.Sprintf(", but %s provides %s=%s", q, c.key.Name, p.version)
		}
	}
	return ", there is only " + s.versions(vs)
}

// versions lists packages, those of one name together.
func (s *search) versions(vs []int32) string {
	const shown = 3
	var words []string
	for i, v := range vs {
		if i == shown && len(vs) > shown+1 {
			return strings.Join(words, ", ") + fmt.Sprintf(" and %d more", len(vs)-shown)
		}
		words = append(words, s.packages[v].String())
	}
	return list(words, "and")
}

// forbidden says what a "!name" of the world hits, where it has another name.
func (s *search) forbidden(f fact, facts []*clause) string {
	var vs []int32
	for _, c := range facts {
		if c.fact.kind == factForbids && c.fact.at == f.at && s.packages[c.fact.w].Name != s.world[f.at].Name {
			vs = append(vs, c.fact.w)
		}
	}
	switch len(vs) {
	case 0:
		return ""
	case 1:
		return ", which " + s.versions(vs) + " provides"
	}
	return ", which " + s.versions(vs) + " provide"
}

// excluded says why two packages cannot stand side by side.
func (s *search) excluded(f fact) string {
	p, q := s.packages[f.v], s.packages[f.w]
	if p.Name == q.Name {
		return "only one version of " + p.Name + " can be there"
	}
	if canonical(q, p) < 0 {
		p, q = q, p
	}
	for _, pair := range [][2]*Package{{p, q}, {q, p}} {
		for _, d := range pair[0].Depends {
			if !d.Conflict {
				continue
			}
			for _, one := range s.name(d.Name) {
				if s.packages[one.v] == pair[1] && matches(d, one.version, one.bare, false) {
					line := fmt.Sprintf("%s asks %s", pair[0], d)
					if d.Name != pair[1].Name {
						line += fmt.Sprintf(", which %s provides", pair[1])
					}
					return line
				}
			}
		}
	}
	for _, name := range append([]string{p.Name}, provided(p)...) {
		if name == q.Name {
			return fmt.Sprintf("%s provides %s, so %s cannot be there beside it", p, name, q)
		}
		if slices.Contains(provided(q), name) {
			if name == p.Name {
				return fmt.Sprintf("%s provides %s, so %s cannot be there beside it", q, name, p)
			}
			return fmt.Sprintf("%s and %s both provide %s, and one of them with a version, so only one can be there", p, q, name)
		}
	}
	return fmt.Sprintf("%s and %s cannot stand side by side", p, q)
}

func provided(p *Package) []string {
	names := make([]string, len(p.Provides))
	for i := range p.Provides {
		names[i] = p.Provides[i].Name
	}
	return names
}

// hints tries what the user could change about the requirements in conflict, and
// tells what helps: the world as a whole if that can be, else this conflict.
func (s *search) hints(culprits []Requirement) []string {
	if hints := s.remedies(culprits, s.world); len(hints) > 0 {
		return hints
	}
	return append(s.remedies(culprits, culprits), notTheOnly)
}

// remedies gives, for each requirement in conflict, what to do about it so that the
// rest of world has a solution.
func (s *search) remedies(culprits, world []Requirement) []string {
	var hints []string
	for _, r := range culprits {
		rest := slices.DeleteFunc(slices.Clone(world), func(other Requirement) bool { return other == r })
		if !s.solvable(rest) {
			continue
		}
		if hint := s.remedy(r, rest); hint != "" {
			hints = append(hints, hint)
		}
	}
	if len(hints) > 1 && len(culprits) == len(hints) {
		// Where each of them would help, one line says so.
		return []string{strings.Join(hints, "; or ")}
	}
	return hints
}

// remedy says what to ask instead of a requirement, or to leave it out.
func (s *search) remedy(r Requirement, rest []Requirement) string {
	if u, ok := s.universe.(interface{ Names() []string }); ok && !r.Conflict && len(s.universe.Providers(r.Name)) == 0 {
		if near := diag.DidYouMean(r.Name, u.Names()); near != "" {
			return near
		}
	}
	try := func(d Requirement) string {
		t := newSearch(s.universe, append(slices.Clone(rest), d), s.options)
		if !t.run() {
			return ""
		}
		for _, o := range t.choice(d.Dependency, d.Tag, s.options.AnyRevision).options {
			if t.reached[o.v] {
				return fmt.Sprintf("ask %s instead of %s: there is a solution with %s", d, r, t.packages[o.v])
			}
		}
		return ""
	}
	if r.Conflict {
		return "leave out " + r.String()
	}
	if r.Tag == "" && len(newSearch(s.universe, nil, s.options).choice(r.Dependency, "", s.options.AnyRevision).options) == 0 {
		// A tag that would let such a package in.
		for _, p := range s.tagged(r) {
			tagged := r
			tagged.Tag = p.Tag
			if hint := try(tagged); hint != "" {
				return hint
			}
		}
	}
	if r.Op == apk.Equal && !s.options.AnyRevision {
		// Most who ask for 1.2 mean every revision of it.
		fuzzy := r
		fuzzy.Op = apk.Fuzzy
		if hint := try(fuzzy); hint != "" {
			return hint
		}
	}
	if r.Op != apk.Any {
		bare := r
		bare.Op, bare.Version = apk.Any, ""
		if hint := try(bare); hint != "" {
			return hint
		}
	}
	return "leave out " + r.String()
}

// tagged gives the tagged packages that would satisfy a requirement with their tag,
// in canonical order.
func (s *search) tagged(r Requirement) []*Package {
	var found []*Package
	for _, p := range s.universe.Providers(r.Name) {
		if p.Tag != "" && s.archFits(p) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, canonical)
	return slices.CompactFunc(found, func(a, b *Package) bool { return a.Tag == b.Tag })
}

// ambiguous makes the question to the user of a tie.
func (s *search) ambiguous(c *choice, choices []string) *Ambiguous {
	slices.Sort(choices)
	a := &Ambiguous{Name: c.key.String(), Choices: choices}
	for i, ask := range s.asks {
		if ask == c {
			n := 0
			for _, r := range s.world {
				if !r.Conflict {
					if n == i {
						a.By = r.From
					}
					n++
				}
			}
			return a
		}
	}
	for _, v := range s.order {
		if slices.Contains(s.details[v].needs, c) {
			a.By = s.packages[v].FullName()
			return a
		}
	}
	return a
}
