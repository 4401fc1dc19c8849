package images

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/tarn-build/tarn/pkg/apk"
)

// The strategies of layering.
const (
	StrategySingle  = "single"
	StrategyOrigin  = "origin"
	StrategyPackage = "package"
)

// Limits of the default strategy.
const (
	// maxLayers is how many layers of packages an image has at most, unless it says
	// otherwise: registries and overlay file systems take 127, and who builds upon the
	// image needs some of them.
	maxLayers = 99
	// maxBudget is the most that it may say.
	maxBudget = 120
	// smallImage is the size below which layers are not worth their number.
	smallImage = 4 << 20
	// ownLayer is the size from which a package has a layer of its own.
	ownLayer = 512 << 10
	// sharedLayer is what a layer of several packages may hold: what is smaller is
	// fetched in the time that asking for it takes.
	sharedLayer = 2 << 20
	// sharedRatio is how many times the size of a package with its own layer that is at most.
	sharedRatio = 4
)

// Part is what deciding the layers must know of a package.
type Part struct {
	Name, Origin string
	Version      apk.Version
	Size         int64            // of its files, in bytes
	Installed    int64            // the same as the package says it of itself
	Replaces     []apk.Dependency // whose files it may take over
}

// Divide gives the packages of each layer, as indexes, from the bottom up. What
// belongs to no package is one more layer on top. Of the single strategy there are no
// groups: all is in the top layer.
//
// The groups do not depend on the order of the packages.
func Divide(parts []Part, layering *Layering) [][]int {
	if len(parts) == 0 {
		return nil
	}
	strategy, budget := layering.strategy()
	var groups [][]int
	switch strategy {
	case StrategySingle:
		return nil
	case StrategyOrigin:
		groups = groupByOrigin(parts, budget)
	default:
		groups = groupByPackage(parts, cmp.Or(max(budget, 0), maxLayers))
	}
	for _, g := range groups {
		slices.SortFunc(g, func(a, b int) int { return cmp.Compare(parts[a].Name, parts[b].Name) })
	}
	return groups
}

// strategy is the strategy that is meant, and the most layers of packages; 0 is the
// strategy's own number. apko takes a mapping that names no strategy for a single
// layer; one that only says how to compress leaves the default.
func (l *Layering) strategy() (string, int) {
	switch {
	case l == nil:
		return StrategyPackage, 0
	case l.Strategy != "":
		return l.Strategy, l.Budget
	case l.Compression != "" && l.Budget == 0:
		return StrategyPackage, 0
	}
	return StrategySingle, 0
}

// groupByPackage is the default. A big package has a layer of its own. The others share
// layers by their origin, since what is built of one source is built anew together;
// which origins share one is decided by the hashes of their names (see split). So a
// package that comes, goes or changes touches the layer that it is in and no other.
//
// Where that gives more layers than are allowed, shared layers become larger, and "big"
// bigger, in steps of a third to a half: an image seldom comes to lie on the other side
// of a step, and then only layers of neighbours become one.
func groupByPackage(parts []Part, budget int) [][]int {
	var total int64
	for _, p := range parts {
		total += p.Size
	}
	if total < smallImage {
		return [][]int{all(len(parts))}
	}
	for own := int64(ownLayer); ; own = nextStep(own) {
		var big [][]int
		var rest []int
		for i, p := range parts {
			if p.Size >= own {
				big = append(big, []int{i})
			} else {
				rest = append(rest, i)
			}
		}
		slices.SortFunc(big, func(a, b []int) int { return cmp.Compare(parts[a[0]].Name, parts[b[0]].Name) })
		sources := byHash(parts, rest)
		for most := max(sharedLayer, own); most <= sharedRatio*own; most = nextStep(most) {
			groups := append(slices.Clone(big), split(sources, most, 0)...)
			if len(groups) <= budget || own > total {
				return groups // beyond the total there is one
			}
		}
	}
}

// nextStep is the size after n in 2, 3, 4, 6, 8, 12, ...
func nextStep(n int64) int64 {
	if bits.OnesCount64(uint64(n)) == 1 {
		return n + n/2
	}
	return (n / 3) * 4
}

// source is the packages of one origin.
type source struct {
	hash  uint64 // of the origin's name
	size  int64
	parts []int
}

// byHash puts packages of one origin together, and sorts by the hashes of the origins.
func byHash(parts []Part, chosen []int) []source {
	byOrigin := map[string]int{}
	var sources []source
	for _, i := range chosen {
		origin := parts[i].origin()
		at, known := byOrigin[origin]
		if !known {
			sum := sha256.Sum256([]byte(origin))
			at = len(sources)
			byOrigin[origin] = at
			sources = append(sources, source{hash: binary.BigEndian.Uint64(sum[:])})
		}
		sources[at].size += parts[i].Size
		sources[at].parts = append(sources[at].parts, i)
	}
	slices.SortFunc(sources, func(a, b source) int { return cmp.Compare(a.hash, b.hash) })
	return sources
}

func (p *Part) origin() string { return cmp.Or(p.Origin, p.Name) }

// split divides sources into groups of at most the given size: those that are too large
// by the first bit of the hashes, the halves by the second, and so on (extendible
// hashing, Fagin and others 1979). A group depends on what is in it, not on the others.
func split(sources []source, most int64, bit int) [][]int {
	if len(sources) == 0 {
		return nil
	}
	var size int64
	var group []int
	for _, s := range sources {
		size += s.size
		group = append(group, s.parts...)
	}
	if size <= most || len(sources) == 1 || bit == 64 {
		return [][]int{group}
	}
	half := slices.IndexFunc(sources, func(s source) bool { return s.hash>>(63-bit)&1 == 1 })
	if half < 0 {
		half = len(sources)
	}
	return append(split(sources[:half], most, bit+1), split(sources[half:], most, bit+1)...)
}

// groupByOrigin is apko's strategy: a layer for each of the budget-1 largest origins by
// the size that packages say of themselves, and one for the rest; origins of which one
// replaces files of the other are one.
func groupByOrigin(parts []Part, budget int) [][]int {
	leader := map[string]string{}
	var find func(string) string
	find = func(o string) string {
		if l, found := leader[o]; found && l != o {
			return find(l)
		}
		return o
	}
	for i := range parts {
		for _, d := range parts[i].Replaces {
			for j := range parts {
				if d.Name == parts[j].Name && d.Matches(parts[j].Version) {
					if from, to := find(parts[j].origin()), find(parts[i].origin()); from != to {
						leader[from] = to
					}
				}
			}
		}
	}
	type sized struct {
		parts []int
		size  int64
		last  string // the greatest name, which settles ties
	}
	byLeader := map[string]*sized{}
	var groups []*sized
	for i := range parts {
		p := &parts[i]
		o := find(p.origin())
		g := byLeader[o]
		if g == nil {
			g = &sized{}
			byLeader[o] = g
			groups = append(groups, g)
		}
		g.parts = append(g.parts, i)
		g.size += p.Installed
		g.last = max(g.last, p.Name)
	}
	slices.SortFunc(groups, func(a, b *sized) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.last, b.last))
	})
	budget = max(budget, 1)
	var out [][]int
	for i, g := range groups {
		if i >= budget {
			out[budget-1] = append(out[budget-1], g.parts...)
		} else {
			out = append(out, g.parts)
		}
	}
	return out
}

func all(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
