// Package solve finds the packages that satisfy a world: a set of requirements
// over packages with versions, provides, conflicts and priorities, with the
// semantics of apk. It is pure: it reads no files, asks no network, and gives the
// same answer for the same universe whatever order it is handed in.
//
// # What holds in every solution
//
// Every requirement of the world and every dependency of a package is satisfied
// by a package of the solution: one of that name, or one that provides it. A name
// that is provided without a version comes before every version of it: it satisfies
// "<2", and not ">=1". Nothing that a "!name" matches is there, except the package
// that says so. A name belongs to one package: its bearer, or one that provides it
// with a version; only packages that provide it without a version stand side by
// side, and a package that has or provides one name twice stands nowhere.
// A tagged package is there only when a requirement of its tag, or what such a
// requirement pulls in, asks for it. Every package is there because something
// needs it, or by its install_if.
//
// # Which of the solutions
//
// The search walks the requirements breadth first, the world sorted, then the
// dependencies of what was chosen. A requirement that packages of several names
// could satisfy waits until nothing else is left to decide, since what is there by
// then may satisfy it; but where the world asks for a package by its own name, and it
// is the best, that decides. First come those that wait and have a best package, then
// the packages whose install_if what was chosen fulfils, each if it can be there beside
// the rest, then the requirements where nothing but the name decides; packages whose
// install_if has a "!name" come last. Each requirement gets the best package with which
// a solution of the whole still exists. Best is, in this order:
//
//   - of the tag asked for, else of no tag
//   - installed already (not with Options.Upgrade)
//   - of the lower rank
//   - of the highest version of the name asked for
//   - of the highest provider priority
//   - with the fewest packages in the end
//   - first by name
//   - of one name, the highest version of its own
//   - of the source that comes first
//
// Of several names with no version and no priority none is better than another:
// where each of them gives a solution, that is a question ([Ambiguous]).
//
// # Where it differs from apk
//
// The semantics are those of apk-tools 3 (doc/apk-package.5, doc/apk-world.5 and
// src/solver.c, by what they do). apk's solver does not go back, so it refuses worlds
// that have a solution; this one finds it. What differs on purpose: a name without
// version and priority that only one package can satisfy is no question here; what
// is installed answers such a question, and stays where a package of higher priority
// could replace it; and apk leaves the choice between equals to the order in which
// it read them, where here the fewest packages and then the name decide.
//
// # How
//
// A conflict-driven search (see engine) over packages as variables: it learns what
// cannot be from every dead end, so it is complete, and its proof of a contradiction
// is where [Conflict] begins. Packages become known as they are reached: a world's
// cost is that of what it could pull in, not that of the universe.
package solve

import (
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Package is one candidate.
type Package struct {
	*apk.Entry
	// Rank is the place of the package's source in the declared order: a lower
	// rank is preferred to a higher version.
	Rank int
	// Order is the place of the package's source among those of its rank. It
	// decides where the same version of a name comes from.
	Order int
	// Tag is the repository's tag, e.g. "edge"; a tagged package serves only
	// requirements that ask for the tag, and what those pull in.
	Tag string
	// Origin of the bytes, for messages, e.g. the repository's location.
	From string
	// Installed says that the package is there already and stays if it can. It may
	// stay whatever its tag is; without a tag of the world's it is no better there
	// than a tagged package.
	Installed bool
	// Gone says that the package is installed and no repository has it any more.
	Gone bool
}

// Universe is all packages there are.
type Universe interface {
	// Providers gives every package that is called name or provides it, in any order.
	Providers(name string) []*Package
	// InstallIf gives every package whose install_if names name, in any order.
	InstallIf(name string) []*Package
}

// Requirement is an entry of the world: "nginx", "openssl>=3", "!busybox", "zlib@edge".
type Requirement struct {
	apk.Dependency
	Tag string
	// From says who asks, for messages, e.g. "images/core/nginx.yaml:7:5".
	From string
}

// Options say how the world is read. The zero value is apk's way.
type Options struct {
	// AnyRevision lets a requirement of the world "=V" without a revision match
	// every revision of V, as recipes and image files mean it.
	AnyRevision bool
	// Arch leaves out packages of other architectures; packages of noarch, and
	// those that name none, stay. Empty takes all.
	Arch apk.Arch
	// Upgrade prefers a higher version to what is installed, and a higher provider
	// priority; what is installed only decides between equals.
	Upgrade bool
	// Available prefers what a repository has to what is installed and gone from
	// all of them.
	Available bool
	// Latest allows the highest version of each package alone: where that cannot
	// be, there is no solution. It implies Upgrade. Tagged packages are let off.
	Latest bool
}

// maxTies is how many alternatives of equal preference are tried to find the
// smallest solution. Beyond it the first by name is taken; no real index comes near.
const maxTies = 256

// Solve gives the packages that satisfy world, in the order in which they are
// installed: a package comes after what it depends on, except within a circle of
// dependencies. It gives the best solution there is, by the order of preferences
// that the package comment tells.
//
// Its error is a [*Conflict] when there is no solution, and an [*Ambiguous] when
// the choice between providers of a name is the user's.
func Solve(u Universe, world []Requirement, o Options) ([]*Package, error) {
	s := newSearch(u, world, o)
	if !s.run() {
		return nil, s.conflict()
	}
	best := s.solution()
	// Each tie is settled in the order of the walk: the alternatives are forced
	// one by one, and the walk after them begins anew.
	settled, tries := map[*choice]bool{}, 0
	for {
		next := slices.IndexFunc(best.ties, func(t tie) bool { return !settled[t.choice] })
		if next < 0 {
			return s.installOrder(best), nil
		}
		t := best.ties[next]
		settled[t.choice] = true
		first, winner := best, t.chosen
		choices := []string{t.chosen}
		for _, name := range t.others {
			if tries++; tries > maxTies {
				break
			}
			s.forced[t.choice] = name
			if !s.run() {
				continue
			}
			other := s.solution()
			if !other.chose(t, name) {
				continue // no solution has it
			}
			if t.open {
				if other.has(name) && !other.same(first) && first.has(t.chosen) {
					choices = append(choices, name)
				}
			} else if len(other.packages) < len(best.packages) {
				best, winner = other, name
			}
		}
		if len(choices) > 1 {
			return nil, s.ambiguous(t.choice, choices)
		}
		s.forced[t.choice] = winner
	}
}

// Ambiguous says that several packages provide a name without a version, and none
// has a priority: the user chooses, by naming one in the world.
type Ambiguous struct {
	Name    string   // what is asked for, e.g. "awk"
	By      string   // who asks, e.g. "autoconf-2.72-r0" or "images/core/x.yaml:7:5"
	Choices []string // the names of the packages that provide it, sorted
}

func (a *Ambiguous) Error() string {
	by := "world"
	if a.By != "" {
		by = a.By
	}
	return by + " needs " + a.Name + ", which " + list(a.Choices, "and") + " provide\n  hint: name one of them: " + list(a.Choices, "or")
}

// list joins words as a sentence does: "a, b and c".
func list(words []string, and string) string {
	switch n := len(words); n {
	case 0:
		return "nothing"
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " " + and + " " + words[n-1]
	}
}
