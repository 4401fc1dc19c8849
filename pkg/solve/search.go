package solve

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// search is one solving of one world: the engine, what it was told of the
// universe so far, and the walk that decides.
type search struct {
	engine
	universe Universe
	options  Options
	world    []Requirement // sorted
	asks     []*choice     // for each requirement of the world that is no conflict
	tags     map[string]bool

	packages []*Package // by variable
	known    map[*Package]int32
	details  []*detail // by variable, nil until it was true once
	names    map[string][]provider
	choices  map[choiceKey]*choice
	triggers map[string][]int32 // install_if by the name that it names
	forced   map[*choice]string // what earlier ties came to
	absurd   *clause            // what makes the world contradict itself

	walk
}

// provider is a package that has or provides a name.
type provider struct {
	v       int32
	version apk.Version
	bare    bool // provides the name without a version
}

// detail is what a package means once it is there.
type detail struct {
	needs    []*choice // its dependencies, by name
	excludes []int32
	triggers []int32 // packages whose install_if names it or what it provides
}

// choiceKey names a requirement, whoever asks.
type choiceKey struct {
	apk.Dependency
	tag   string
	loose bool // "=V" without a revision matches every revision
}

// choice is a requirement with all packages that satisfy it, the best first.
type choice struct {
	key     choiceKey
	options []option
	single  bool // all options have one name
	named   bool // the best option is clear, and has the very name that is asked for
	difficulty
}

// difficulty says what tells the best options of a choice apart from the next.
type difficulty uint8

const (
	clear difficulty = iota // a preference
	tied                    // nothing but the name
	open                    // nothing, and none may be taken unasked: a question to the user
)

// option is a package that satisfies a requirement.
type option struct {
	v     int32
	name  string
	class int  // options of one class, and only those, differ by nothing but their name
	open  bool // the name is provided without a version, and the package has no priority
}

func newSearch(u Universe, world []Requirement, o Options) *search {
	s := &search{
		universe: u, options: o,
		known:    map[*Package]int32{},
		names:    map[string][]provider{},
		choices:  map[choiceKey]*choice{},
		triggers: map[string][]int32{},
		forced:   map[*choice]string{},
		tags:     map[string]bool{},
	}
	s.whenTrue = s.expand
	s.binary = func(v, w int32) *clause {
		return &clause{lits: []lit{no(v), no(w)}, fact: fact{kind: factExcludes, v: v, w: w}}
	}
	s.world = slices.Clone(world)
	s.options.Upgrade = o.Upgrade || o.Latest
	slices.SortStableFunc(s.world, func(a, b Requirement) int {
		return cmp.Or(compareNames(a.Name, b.Name), strings.Compare(a.String(), b.String()), strings.Compare(a.From, b.From))
	})
	for _, r := range s.world {
		if r.Tag != "" {
			s.tags[r.Tag] = true
		}
	}
	for i, r := range s.world {
		if !r.Conflict {
			c := s.choice(r.Dependency, r.Tag, o.AnyRevision)
			s.asks = append(s.asks, c)
			f := &clause{fact: fact{kind: factAsks, v: -1, at: i, choice: c}}
			for _, option := range c.options {
				f.lits = append(f.lits, yes(option.v))
			}
			s.tell(f)
			continue
		}
		for _, p := range s.name(r.Name) {
			if matches(r.Dependency, p.version, p.bare, o.AnyRevision) {
				s.tell(&clause{lits: []lit{no(p.v)}, fact: fact{kind: factForbids, v: -1, w: p.v, at: i}})
			}
		}
	}
	return s
}

// tell adds a clause of the world; the first that cannot hold is remembered.
func (s *search) tell(c *clause) {
	if conflict := s.add(c); conflict != nil && s.absurd == nil {
		s.absurd = conflict
	}
}

// compareNames is the order in which apk shows names and goes through a world:
// that of the letters, whatever their case, then that of the bytes.
func compareNames(a, b string) int {
	for i := range min(len(a), len(b)) {
		if c := cmp.Compare(lower(a[i]), lower(b[i])); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// matches says whether a name with this version, or provided without one,
// satisfies d; a conflict is satisfied by what it forbids. A name without a version
// comes before every version of it, as in apk: it satisfies "<2" and not ">=1".
func matches(d apk.Dependency, version apk.Version, bare, anyRevision bool) bool {
	if d.Op == apk.Any {
		return true
	}
	if bare {
		return d.Op == apk.Less || d.Op == apk.LessEqual || d.Op == apk.LessFuzzy
	}
	if anyRevision {
		return d.MatchesAnyRevision(version)
	}
	return d.Matches(version)
}

// number gives the variable of a package.
func (s *search) number(p *Package) int32 {
	v, known := s.known[p]
	if !known {
		v = s.variable()
		s.known[p] = v
		s.packages = append(s.packages, p)
		s.details = append(s.details, nil)
		s.reached = append(s.reached, false)
	}
	return v
}

// usable says whether the package may be in a solution at all.
func (s *search) usable(p *Package) bool {
	if !s.archFits(p) {
		return false
	}
	if p.Tag == "" && s.options.Latest && !s.isLatest(p) {
		return false
	}
	return p.Tag == "" || p.Installed || s.tags[p.Tag]
}

// isLatest says that no repository without a tag has a higher version of the package.
func (s *search) isLatest(p *Package) bool {
	for _, q := range s.universe.Providers(p.Name) {
		if q.Name == p.Name && q.Tag == "" && q.Version.Compare(p.Version) > 0 && s.archFits(q) {
			return false
		}
	}
	return true
}

func (s *search) archFits(p *Package) bool {
	return s.options.Arch == "" || p.Arch == "" || p.Arch == "noarch" || p.Arch == s.options.Arch
}

// name gives all packages that have or provide a name, in canonical order.
func (s *search) name(name string) []provider {
	list, known := s.names[name]
	if known {
		return list
	}
	packages := s.sorted(s.universe.Providers(name))
	list = make([]provider, 0, len(packages))
	for _, p := range packages {
		one := provider{v: -1}
		if p.Name == name {
			one = provider{v: s.number(p), version: p.Version}
		}
		for i := range p.Provides {
			if d := &p.Provides[i]; d.Name == name && one.v < 0 {
				one = provider{v: s.number(p), version: d.Version, bare: d.Op == apk.Any}
			}
		}
		if one.v >= 0 {
			list = append(list, one)
		}
	}
	s.names[name] = list
	return list
}

// sorted gives the usable ones of packages in canonical order.
func (s *search) sorted(packages []*Package) []*Package {
	usable := make([]*Package, 0, len(packages))
	for _, p := range packages {
		if s.usable(p) {
			usable = append(usable, p)
		}
	}
	if len(usable) > 1 {
		slices.SortFunc(usable, canonical)
		usable = slices.Compact(usable)
	}
	return usable
}

// choice gives a requirement with its options.
func (s *search) choice(d apk.Dependency, tag string, anyRevision bool) *choice {
	key := choiceKey{d, tag, anyRevision}
	if c, known := s.choices[key]; known {
		return c
	}
	c := &choice{key: key}
	s.choices[key] = c
	var found []provider
	for _, p := range s.name(d.Name) {
		if matches(d, p.version, p.bare, key.loose) {
			found = append(found, p)
		}
	}
	s.rank(c, found)
	return c
}

// class compares two providers by every preference that comes before priority.
func (s *search) class(tag string, a, b provider) int {
	p, q := s.packages[a.v], s.packages[b.v]
	stays := func(p *Package) int { return asInt(!p.Installed && !s.options.Upgrade) }
	return cmp.Or(
		asInt(s.options.Available && p.Gone)-asInt(s.options.Available && q.Gone),
		place(tag, p)-place(tag, q),
		stays(p)-stays(q),
		cmp.Compare(p.Rank, q.Rank),
		asInt(a.bare)-asInt(b.bare),
		compareProvided(b, a),
	)
}

func place(tag string, p *Package) int {
	switch {
	case tag != "" && p.Tag == tag:
		return 0
	case p.Tag == "":
		return 1
	}
	return 2
}

func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func compareProvided(a, b provider) int {
	if a.bare {
		return 0
	}
	return a.version.Compare(b.version)
}

// rank sorts the options of a choice by preference. Packages of one name stay
// together within their class: the name stands where its best package does.
func (s *search) rank(c *choice, found []provider) {
	// found is in canonical order, in which the packages of a name stand by version.
	slices.SortStableFunc(found, func(a, b provider) int { return s.class(c.key.tag, a, b) })
	type group struct {
		name      string
		priority  int64
		installed bool
		members   []provider
	}
	compare := func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), asInt(b.installed)-asInt(a.installed))
	}
	c.single = true
	classes := 0
	for len(found) > 0 {
		end := 1
		for end < len(found) && s.class(c.key.tag, found[0], found[end]) == 0 {
			end++
		}
		var groups []*group
		for _, p := range found[:end] {
			q := s.packages[p.v]
			if len(groups) == 0 || groups[len(groups)-1].name != q.Name {
				groups = append(groups, &group{name: q.Name, priority: q.ProviderPriority})
			}
			last := groups[len(groups)-1]
			last.installed = last.installed || q.Installed
			last.members = append(last.members, p)
		}
		slices.SortStableFunc(groups, compare)
		for i, g := range groups {
			if i == 0 || compare(groups[i-1], g) != 0 {
				classes++
			}
			if len(c.options) > 0 && g.name != c.options[0].name {
				c.single = false
			}
			for _, p := range g.members {
				open := p.bare && s.packages[p.v].ProviderPriority == 0 && !s.packages[p.v].Installed
				c.options = append(c.options, option{v: p.v, name: g.name, class: classes, open: open})
			}
		}
		found = found[end:]
	}
	for _, o := range c.options {
		if o.class != c.options[0].class || o.name == c.options[0].name {
			continue
		}
		c.difficulty = max(c.difficulty, tied)
		if o.open {
			c.difficulty = open
		}
	}
	c.named = c.difficulty == clear && len(c.options) > 0 && c.options[0].name == c.key.Name
}

// expand is called when a package is there: it says what the package needs,
// the first time, and excludes what cannot stand beside it.
func (s *search) expand(v int32) *clause {
	var conflict *clause
	d := s.details[v]
	if d == nil {
		d = s.detail(v)
		s.details[v] = d
		if s.unfit(v) != "" {
			conflict = s.add(&clause{lits: []lit{no(v)}, fact: fact{kind: factUnfit, v: v}})
		}
		for i, c := range d.needs {
			f := &clause{lits: make([]lit, 1, len(c.options)+1), fact: fact{kind: factNeeds, v: v, at: i, choice: c}}
			f.lits[0] = no(v)
			self := false
			for _, o := range c.options {
				self = self || o.v == v
				f.lits = append(f.lits, yes(o.v))
			}
			if self {
				continue
			}
			if bad := s.add(f); bad != nil && conflict == nil {
				conflict = bad
			}
		}
	}
	if conflict != nil {
		return conflict
	}
	for _, w := range d.excludes {
		if bad := s.exclude(v, w); bad != nil {
			return bad
		}
	}
	return nil
}

// unfit says why a package can be installed nowhere: its record can't be read, or it
// has or provides a name twice and stands in its own way, since a name with a version
// belongs to one provider. It is empty for all others.
func (s *search) unfit(v int32) string {
	p := s.packages[v]
	if p.Malformed != "" {
		return fmt.Sprintf("%s cannot be installed: its record in %s is malformed: %s", p, cmp.Or(p.From, "the index"), p.Malformed)
	}
	for i := range p.Provides {
		d := &p.Provides[i]
		if d.Name == p.Name {
			return fmt.Sprintf("%s cannot be installed: it provides its own name", p)
		}
		for j := range p.Provides[:i] {
			if e := &p.Provides[j]; e.Name == d.Name && (e.Op != apk.Any || d.Op != apk.Any) {
				return fmt.Sprintf("%s cannot be installed: it provides %s twice", p, d.Name)
			}
		}
	}
	return ""
}

func (s *search) detail(v int32) *detail {
	p, d := s.packages[v], &detail{}
	depends := slices.Clone(p.Depends)
	slices.SortStableFunc(depends, func(a, b apk.Dependency) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Op, b.Op), strings.Compare(string(a.Version), string(b.Version)))
	})
	for _, dep := range slices.Compact(depends) {
		if !dep.Conflict {
			d.needs = append(d.needs, s.choice(dep, "", false))
			continue
		}
		for _, q := range s.name(dep.Name) {
			if q.v != v && matches(dep, q.version, q.bare, false) {
				d.excludes = append(d.excludes, q.v)
			}
		}
	}
	exclusive := func(name string, bare bool) {
		for _, q := range s.name(name) {
			if q.v != v && !(bare && q.bare) {
				d.excludes = append(d.excludes, q.v)
			}
		}
		for _, w := range s.triggered(name) {
			if w != v {
				d.triggers = append(d.triggers, w)
			}
		}
	}
	exclusive(p.Name, false)
	for i := range p.Provides {
		exclusive(p.Provides[i].Name, p.Provides[i].Op == apk.Any && p.Provides[i].Name != p.Name)
	}
	slices.Sort(d.excludes)
	d.excludes = slices.Compact(d.excludes)
	return d
}

// triggered gives the packages whose install_if names name.
func (s *search) triggered(name string) []int32 {
	list, known := s.triggers[name]
	if known {
		return list
	}
	for _, p := range s.sorted(s.universe.InstallIf(name)) {
		list = append(list, s.number(p))
	}
	s.triggers[name] = list
	return list
}
