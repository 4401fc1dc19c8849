package solve

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Graph says of the packages of a solution which of them asks for which.
type Graph struct {
	packages []*Package
	askers   map[*Package][]Link
	depth    map[*Package]int // links from the world, 1 for what the world asks
}

// Link is one package asked for by another, or by the world.
type Link struct {
	By      *Package    // who asks; nil is the world
	Asks    Requirement // what is asked; of install_if the condition that By fulfils
	Package *Package    // what satisfies it
	// InstallIf says that the package came of itself, since all of its install_if
	// is fulfilled.
	InstallIf bool
}

// String says the link, e.g. "nginx-1.26-r0 needs so:libssl.so.3".
func (l Link) String() string {
	if l.InstallIf {
		words := make([]string, len(l.Package.InstallIf))
		for i, d := range l.Package.InstallIf {
			words[i] = d.String()
		}
		return "install_if " + strings.Join(words, " ")
	}
	if l.By == nil {
		by := "world"
		if l.Asks.From != "" {
			by = l.Asks.From
		}
		return by + " asks " + l.Asks.String()
	}
	return l.By.FullName() + " needs " + l.Asks.String()
}

// NewGraph reads who asks for whom in a solution of a world.
func NewGraph(solution []*Package, world []Requirement, o Options) *Graph {
	g := &Graph{packages: solution, askers: map[*Package][]Link{}, depth: map[*Package]int{}}
	o.Latest = false
	s := newSearch(NewUniverse(solution), world, o)
	users := map[*Package][]*Package{} // whom a package brings
	link := func(by *Package, asks Requirement, loose, installIf bool, to *Package) {
		for _, p := range s.name(asks.Name) {
			if !matches(asks.Dependency, p.version, p.bare, loose) {
				continue
			}
			l := Link{By: by, Asks: asks, Package: s.packages[p.v], InstallIf: installIf}
			if installIf {
				l.By, l.Package = s.packages[p.v], to
			}
			if l.By == l.Package {
				continue
			}
			g.askers[l.Package] = append(g.askers[l.Package], l)
			users[l.By] = append(users[l.By], l.Package)
		}
	}
	for _, r := range s.world {
		if !r.Conflict {
			link(nil, r, o.AnyRevision, false, nil)
		}
	}
	for _, p := range solution {
		for _, d := range p.Depends {
			if !d.Conflict {
				link(p, Requirement{Dependency: d}, false, false, nil)
			}
		}
		if s.fulfils(p) {
			for _, d := range p.InstallIf {
				if !d.Conflict {
					link(nil, Requirement{Dependency: d}, false, true, p)
				}
			}
		}
	}
	for queue := []*Package{nil}; len(queue) > 0; queue = queue[1:] {
		for _, p := range users[queue[0]] {
			if g.depth[p] == 0 {
				g.depth[p] = g.depth[queue[0]] + 1
				queue = append(queue, p)
			}
		}
	}
	for _, links := range g.askers {
		slices.SortStableFunc(links, func(a, b Link) int {
			return cmp.Or(asInt(a.By != nil)-asInt(b.By != nil), asInt(a.InstallIf)-asInt(b.InstallIf), compareNames(byName(a), byName(b)), strings.Compare(a.Asks.String(), b.Asks.String()))
		})
	}
	return g
}

func byName(l Link) string {
	if l.By == nil {
		return l.Asks.From
	}
	return l.By.Name
}

// fulfils says whether all of a package's install_if holds within the universe.
func (s *search) fulfils(p *Package) bool {
	there := make([]bool, len(s.packages))
	for i := range there {
		there[i] = true
	}
	v := s.number(p)
	for _, d := range p.InstallIf {
		for _, q := range s.name(d.Name) {
			for int(q.v) >= len(there) {
				there = append(there, true)
			}
		}
	}
	return len(p.InstallIf) > 0 && s.dueIn(v, there, true)
}

// Find gives the packages of the solution that have or provide a name in a version
// that d allows.
func (g *Graph) Find(d apk.Dependency) []*Package {
	var found []*Package
	for _, p := range g.packages {
		if p.Offers(d, Options{}) {
			found = append(found, p)
		}
	}
	return found
}

// Askers gives all that asks for a package, the world first.
func (g *Graph) Askers(p *Package) []Link { return g.askers[p] }

// Chains gives the shortest ways from the world to a package, at most so many, and
// whether there are more. The first link of each is the world's.
func (g *Graph) Chains(p *Package, most int) (chains [][]Link, more bool) {
	if g.depth[p] == 0 {
		return nil, false
	}
	var walk func(p *Package, after []Link)
	walk = func(p *Package, after []Link) {
		for _, l := range g.askers[p] {
			if more {
				return
			}
			way := append([]Link{l}, after...)
			switch {
			case l.By == nil && g.depth[p] == 1:
				if len(chains) == most {
					more = true
					return
				}
				chains = append(chains, way)
			case l.By != nil && g.depth[l.By] == g.depth[p]-1 && g.depth[l.By] > 0:
				walk(l.By, way)
			}
		}
	}
	walk(p, nil)
	return chains, more
}
