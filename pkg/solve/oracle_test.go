package solve

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/apk"
)

// oracle solves small universes by looking at every set of packages there is. It
// shares nothing with the solver but the types; what it does is the package
// comment, word by word.
type oracle struct {
	packages []*Package // at most 16
	world    []Requirement
	how      Options
	sets     []uint32 // every set in which all requirements hold
	forced   map[string]string
}

func newOracle(packages []*Package, world []Requirement, options Options) *oracle {
	o := &oracle{packages: packages, world: slices.Clone(world), how: options, forced: map[string]string{}}
	slices.SortFunc(o.world, func(a, b Requirement) int {
		return strings.Compare(a.Name+" "+a.String(), b.Name+" "+b.String())
	})
	for set := range uint32(1) << len(packages) {
		if o.holds(set) {
			o.sets = append(o.sets, set)
		}
	}
	return o
}

// gives says whether p has the name that d asks for, in a version that d allows.
func gives(p *Package, d apk.Dependency) (version apk.Version, bare, ok bool) {
	d.Conflict = false
	if p.Name == d.Name {
		return p.Version, false, d.Op == apk.Any || d.Matches(p.Version)
	}
	for _, q := range p.Provides {
		if q.Name == d.Name {
			if q.Op == apk.Any {
				// Older than any version.
				return "", true, d.Op == apk.Any || d.Op == apk.Less || d.Op == apk.LessEqual || d.Op == apk.LessFuzzy
			}
			return q.Version, false, d.Op == apk.Any || d.Matches(q.Version)
		}
	}
	return "", false, false
}

func (o *oracle) each(set uint32, f func(i int, p *Package) bool) bool {
	for ; set != 0; set &= set - 1 {
		if i := bits.TrailingZeros32(set); !f(i, o.packages[i]) {
			return false
		}
	}
	return true
}

func (o *oracle) meets(set uint32, d apk.Dependency) bool {
	return !o.each(set, func(_ int, p *Package) bool { _, _, ok := gives(p, d); return !ok })
}

func (o *oracle) holds(set uint32) bool {
	for _, r := range o.world {
		if o.meets(set, r.Dependency) == r.Conflict {
			return false
		}
	}
	return o.each(set, func(i int, p *Package) bool {
		names := []string{p.Name} // with a version
		for _, d := range p.Provides {
			if slices.Contains(names, d.Name) {
				return false
			}
			if d.Op != apk.Any {
				names = append(names, d.Name)
			}
		}
		for _, d := range p.Provides {
			if d.Op == apk.Any && slices.Contains(names, d.Name) {
				return false
			}
		}
		for _, d := range p.Depends {
			others := set
			if d.Conflict {
				others &^= 1 << i
			}
			if o.meets(others, d) == d.Conflict {
				return false
			}
		}
		return o.each(set&^(1<<i), func(_ int, q *Package) bool { return beside(p, q) })
	}) && o.tagged(set)
}

// beside says whether both may be there as far as their names go.
func beside(p, q *Package) bool {
	names := func(p *Package) map[string]bool { // to whether the name is p's alone
		names := map[string]bool{}
		for _, d := range p.Provides {
			if _, known := names[d.Name]; !known {
				names[d.Name] = d.Op != apk.Any
			}
		}
		names[p.Name] = true
		return names
	}
	a, b := names(p), names(q)
	for name, alone := range a {
		if other, both := b[name]; both && (alone || other) {
			return false
		}
	}
	return true
}

func (o *oracle) tagged(set uint32) bool {
	return o.each(set, func(i int, p *Package) bool {
		if p.Tag == "" || p.Installed {
			return true
		}
		var in uint32
		for _, r := range o.world {
			o.each(set, func(j int, q *Package) bool {
				if _, _, ok := gives(q, r.Dependency); ok && !r.Conflict && r.Tag == p.Tag {
					in |= 1 << j
				}
				return true
			})
		}
		for before := uint32(0); before != in; {
			before = in
			o.each(before, func(_ int, q *Package) bool {
				return o.each(set, func(k int, t *Package) bool {
					for _, d := range q.Depends {
						if _, _, ok := gives(t, d); ok && !d.Conflict {
							in |= 1 << k
						}
					}
					for _, d := range t.InstallIf {
						d.Op, d.Version = apk.Any, ""
						if _, _, ok := gives(q, d); ok && !d.Conflict {
							in |= 1 << k
						}
					}
					return true
				})
			})
		}
		return in>>i&1 == 1
	})
}

type oracleOption struct {
	i     int
	name  string
	class int
	open  bool
}

// options gives the packages for a requirement, the best first.
func (o *oracle) options(r Requirement) []oracleOption {
	type keyed struct {
		i       int
		p       *Package
		version apk.Version
		bare    bool
	}
	var all []keyed
	for i, p := range o.packages {
		if version, bare, ok := gives(p, r.Dependency); ok {
			all = append(all, keyed{i, p, version, bare})
		}
	}
	number := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	worse := func(a, b keyed) int { // by what comes before priority
		place := func(k keyed) int {
			if r.Tag != "" && k.p.Tag == r.Tag {
				return 0
			}
			return 1 + number(k.p.Tag != "")
		}
		if d := number(a.p.Gone) - number(b.p.Gone); d != 0 && o.how.Available {
			return d
		}
		if d := place(a) - place(b); d != 0 {
			return d
		}
		if d := number(b.p.Installed) - number(a.p.Installed); d != 0 && !o.how.Upgrade {
			return d
		}
		if d := a.p.Rank - b.p.Rank; d != 0 {
			return d
		}
		if a.bare || b.bare {
			return number(a.bare) - number(b.bare)
		}
		return b.version.Compare(a.version)
	}
	// A name's priority within its class is that of its highest version there.
	priority := func(k keyed) int64 {
		best := k
		for _, other := range all {
			if other.p.Name == k.p.Name && worse(other, k) == 0 && other.p.Version.Compare(best.p.Version) > 0 {
				best = other
			}
		}
		return best.p.ProviderPriority
	}
	// Where it did not decide before, a name that is installed does among equals.
	installed := func(k keyed) bool {
		return slices.ContainsFunc(all, func(other keyed) bool {
			return other.p.Name == k.p.Name && worse(other, k) == 0 && other.p.Installed
		})
	}
	full := func(a, b keyed) int {
		if d := worse(a, b); d != 0 {
			return d
		}
		if d := int(priority(b) - priority(a)); d != 0 {
			return d
		}
		return number(installed(b)) - number(installed(a))
	}
	slices.SortFunc(all, func(a, b keyed) int {
		if d := full(a, b); d != 0 {
			return d
		}
		if d := strings.Compare(a.p.Name, b.p.Name); d != 0 {
			return d
		}
		return b.p.Version.Compare(a.p.Version)
	})
	var options []oracleOption
	for n, k := range all {
		class := 0
		if n > 0 {
			class = options[n-1].class
			if full(all[n-1], k) != 0 {
				class++
			}
		}
		options = append(options, oracleOption{k.i, k.p.Name, class, k.bare && k.p.ProviderPriority == 0 && !k.p.Installed})
	}
	return options
}

type oracleTie struct {
	key, chosen string
	class       int
	others      []string
	open        bool
}

type oraclePick struct {
	name  string
	class int
}

type oracleAnswer struct {
	set   uint32
	picks map[string]oraclePick
	ties  []oracleTie
}

// walk goes breadth first and keeps, at each wish, the solutions that grant it
// where there are any.
func (o *oracle) walk() oracleAnswer {
	left := o.sets
	answer := oracleAnswer{picks: map[string]oraclePick{}}
	var reached uint32
	type asked struct {
		Requirement
		key     string
		ofWorld bool
	}
	var queue, waiting []asked
	var came uint32  // by install_if
	var chosen []int // for requirements that waited
	grant := func(i int) bool {
		var next []uint32
		for _, set := range left {
			if set>>i&1 == 1 {
				next = append(next, set)
			}
		}
		if len(next) == 0 {
			return false
		}
		left = next
		if reached>>i&1 == 0 {
			reached |= 1 << i
			depends := slices.Clone(o.packages[i].Depends)
			slices.SortFunc(depends, func(a, b apk.Dependency) int {
				if d := strings.Compare(a.Name, b.Name); d != 0 {
					return d
				}
				if d := int(a.Op) - int(b.Op); d != 0 {
					return d
				}
				return strings.Compare(string(a.Version), string(b.Version))
			})
			for _, d := range depends {
				if !d.Conflict {
					queue = append(queue, asked{Requirement{Dependency: d}, d.String(), false})
				}
			}
		}
		return true
	}
	for _, r := range o.world {
		if !r.Conflict {
			queue = append(queue, asked{r, r.String(), true})
		}
	}
	settle := func(a asked, wait bool) (ok bool) {
		options := o.options(a.Requirement)
		if forced := o.forced[a.key]; forced != "" && wait {
			slices.SortStableFunc(options, func(x, y oracleOption) int {
				if x.name == forced && y.name != forced {
					return -1
				} else if y.name == forced && x.name != forced {
					return 1
				}
				return 0
			})
		}
		for _, option := range options {
			if !grant(option.i) {
				continue
			}
			if wait {
				t := oracleTie{key: a.key, chosen: option.name, class: option.class, open: option.open}
				for _, other := range o.options(a.Requirement) {
					if other.class == option.class && other.name != option.name && !slices.Contains(t.others, other.name) {
						t.others = append(t.others, other.name)
					}
				}
				answer.picks[a.key] = oraclePick{option.name, option.class}
				chosen = append(chosen, option.i)
				if len(t.others) > 0 {
					answer.ties = append(answer.ties, t)
				}
			}
			return true
		}
		panic("no option of " + a.key)
	}
	come := func(last bool) bool {
		var due []int
		for i := range o.packages {
			excluding := slices.ContainsFunc(o.packages[i].InstallIf, func(d apk.Dependency) bool { return d.Conflict })
			if reached>>i&1 == 0 && (last || !excluding) && o.due(i, reached) {
				due = append(due, i)
			}
		}
		slices.SortFunc(due, func(i, j int) int {
			p, q := o.packages[i], o.packages[j]
			if d := strings.Compare(p.Name, q.Name); d != 0 {
				return d
			}
			if p.Gone != q.Gone && o.how.Available {
				if q.Gone {
					return -1
				}
				return 1
			}
			if (p.Tag != "") != (q.Tag != "") {
				if p.Tag == "" {
					return -1
				}
				return 1
			}
			if p.Installed != q.Installed && !o.how.Upgrade {
				if p.Installed {
					return -1
				}
				return 1
			}
			if p.Rank != q.Rank {
				return p.Rank - q.Rank
			}
			return q.Version.Compare(p.Version)
		})
		for _, i := range due {
			if grant(i) {
				came |= 1 << i
				return true
			}
		}
		return false
	}
next:
	for {
		for len(queue) > 0 {
			a := queue[0]
			queue = queue[1:]
			if o.meets(reached, a.Dependency) {
				continue
			}
			options := o.options(a.Requirement)
			named := options[0].name == a.Name && !slices.ContainsFunc(options, func(x oracleOption) bool {
				return x.class == options[0].class && x.name != options[0].name
			})
			if !(a.ofWorld && named) && slices.ContainsFunc(options, func(x oracleOption) bool { return x.name != options[0].name }) {
				waiting = append(waiting, a)
			} else {
				settle(a, false)
			}
		}
		for step := range 3 {
			if step == 1 && come(false) {
				continue next
			}
			for _, a := range waiting {
				if o.meets(reached, a.Dependency) {
					continue
				}
				options := o.options(a.Requirement)
				difficulty := 0
				if slices.ContainsFunc(options, func(x oracleOption) bool {
					return x.class == options[0].class && x.name != options[0].name
				}) {
					difficulty = 1
					if options[0].open {
						difficulty = 2
					}
				}
				if difficulty == step {
					settle(a, true)
					continue next
				}
			}
		}
		if come(true) {
			continue
		}
		break
	}
	answer.set = o.smaller(reached, came, chosen)
	return answer
}

// due says whether the install_if of package i is fulfilled by set.
func (o *oracle) due(i int, set uint32) bool {
	for _, d := range o.packages[i].InstallIf {
		if o.meets(set&^(1<<i), d) == d.Conflict {
			return false
		}
	}
	return len(o.packages[i].InstallIf) > 0
}

// smaller takes away what was chosen for a requirement that waited (chosen, in
// their order), where something else satisfies it that is there without it.
func (o *oracle) smaller(set, came uint32, chosen []int) uint32 {
	for again := true; again; {
		again = false
		for _, i := range slices.Backward(chosen) {
			if set>>i&1 == 1 && !again {
				if rest := o.without(set, came, i); rest != 0 {
					set, again = rest, true
				}
			}
		}
	}
	return set
}

// without gives what of set is needed if package gone is not there, or 0.
func (o *oracle) without(set, came uint32, gone int) uint32 {
	var reached uint32
	fits := func(d apk.Dependency, set uint32) uint32 {
		var fit uint32
		o.each(set, func(j int, p *Package) bool {
			if _, _, ok := gives(p, d); ok {
				fit |= 1 << j
			}
			return true
		})
		return fit
	}
	var queue []Requirement
	for _, r := range o.world {
		if !r.Conflict {
			queue = append(queue, r)
		}
	}
	take := func(j int) {
		reached |= 1 << j
		depends := slices.Clone(o.packages[j].Depends)
		slices.SortFunc(depends, func(a, b apk.Dependency) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), int(a.Op)-int(b.Op), strings.Compare(string(a.Version), string(b.Version)))
		})
		for _, d := range depends {
			if !d.Conflict {
				queue = append(queue, Requirement{Dependency: d})
			}
		}
	}
next:
	for {
		for i := 0; i < len(queue); i++ {
			fit := fits(queue[i].Dependency, set)
			if bits.OnesCount32(fit) == 1 && fit&reached == 0 && fit != 1<<gone {
				take(bits.TrailingZeros32(fit))
			}
		}
		for _, a := range queue {
			if fit := fits(a.Dependency, set); fit&reached == 0 && fit>>gone&1 == 0 {
				for _, option := range o.options(a) {
					if fit>>option.i&1 == 1 {
						take(option.i)
						continue next
					}
				}
			}
		}
		for i := range o.packages {
			due := slices.ContainsFunc(o.packages[i].InstallIf, func(d apk.Dependency) bool { return !d.Conflict })
			for _, d := range o.packages[i].InstallIf {
				due = due && (d.Conflict || o.meets(reached&^(1<<i), d))
			}
			if due && (came&^reached)>>i&1 == 1 {
				if i == gone {
					return 0
				}
				take(i)
				continue next
			}
		}
		break
	}
	for _, a := range queue {
		if !o.meets(reached, a.Dependency) {
			return 0
		}
	}
	if !o.tagged(reached) {
		return 0
	}
	return reached
}

func (o *oracle) names(set uint32) []string {
	var names []string
	o.each(set, func(_ int, p *Package) bool { names = append(names, p.String()); return true })
	slices.Sort(names)
	return names
}

// solve gives the best set, or the names of a question.
func (o *oracle) solve() (set uint32, question []string) {
	best := o.walk()
	settled := map[string]bool{}
	for {
		next := slices.IndexFunc(best.ties, func(t oracleTie) bool { return !settled[t.key] })
		if next < 0 {
			return best.set, nil
		}
		t := best.ties[next]
		settled[t.key] = true
		first, winner, choices := best, t.chosen, []string{t.chosen}
		has := func(set uint32, name string) bool {
			return !o.each(set, func(_ int, p *Package) bool { return p.Name != name })
		}
		for _, name := range t.others {
			o.forced[t.key] = name
			other := o.walk()
			switch {
			case other.picks[t.key] != oraclePick{name, t.class}:
			case t.open:
				if has(other.set, name) && other.set != first.set && has(first.set, t.chosen) {
					choices = append(choices, name)
				}
			case bits.OnesCount32(other.set) < bits.OnesCount32(best.set):
				best, winner = other, name
			}
		}
		if len(choices) > 1 {
			slices.Sort(choices)
			return 0, choices
		}
		o.forced[t.key] = winner
	}
}

// randomCase makes a small universe with all that apk knows, dense enough that
// about half of the worlds have no easy answer.
func randomCase(r *rand.Rand, tags bool) ([]*Package, []Requirement) {
	names := []string{"a", "b", "c", "d", "e", "f"}[:3+r.IntN(4)]
	virtuals := []string{"v", "w", "x"}
	versions := []apk.Version{"1-r0", "2-r0", "3-r0"}
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	anyName := func() string {
		if r.IntN(4) == 0 {
			return pick(virtuals)
		}
		return pick(names)
	}
	constraint := func(d *apk.Dependency) {
		if r.IntN(3) == 0 {
			d.Op = []apk.Op{apk.Equal, apk.Less, apk.LessEqual, apk.Greater, apk.GreaterEqual, apk.Fuzzy}[r.IntN(6)]
			d.Version = versions[r.IntN(3)]
		}
	}
	var packages []*Package
	for _, name := range names {
		for _, version := range versions {
			if r.IntN(5) < 2 || len(packages) == 12 {
				continue
			}
			p := &Package{Entry: &apk.Entry{Info: apk.Info{Name: name, Version: version}}}
			for range r.IntN(3) {
				d := apk.Dependency{Name: anyName(), Conflict: r.IntN(6) == 0}
				constraint(&d)
				p.Depends = append(p.Depends, d)
			}
			for range r.IntN(5) / 3 {
				d := apk.Dependency{Name: anyName()}
				if r.IntN(3) > 0 {
					d.Name = pick(virtuals)
				}
				if d.Name == name {
					continue
				}
				if r.IntN(3) == 0 {
					d.Op, d.Version = apk.Equal, versions[r.IntN(3)]
				}
				p.Provides = append(p.Provides, d)
			}
			if r.IntN(6) == 0 {
				for range 1 + r.IntN(2) {
					d := apk.Dependency{Name: anyName(), Conflict: r.IntN(8) == 0}
					constraint(&d)
					p.InstallIf = append(p.InstallIf, d)
				}
				if p.InstallIf[0].Conflict {
					p.InstallIf[0].Conflict = false
				}
			}
			p.ProviderPriority = int64(r.IntN(3) * r.IntN(2) * 10)
			p.Installed = r.IntN(12) == 0
			p.Gone = p.Installed && r.IntN(2) == 0
			p.Rank = r.IntN(4) / 3
			if tags && r.IntN(3) == 0 {
				p.Tag = "edge"
			}
			packages = append(packages, p)
		}
	}
	var world []Requirement
	for range 1 + r.IntN(3) {
		q := Requirement{Dependency: apk.Dependency{Name: anyName(), Conflict: r.IntN(10) == 0}}
		constraint(&q.Dependency)
		if tags && !q.Conflict && r.IntN(2) == 0 {
			q.Tag = "edge"
		}
		world = append(world, q)
	}
	return packages, world
}

func describe(packages []*Package, world []Requirement) string {
	var b strings.Builder
	for _, p := range packages {
		fmt.Fprintf(&b, "%s depends %v provides %v install_if %v priority %d rank %d installed %v gone %v\n", p, p.Depends, p.Provides, p.InstallIf, p.ProviderPriority, p.Rank, p.Installed, p.Gone)
	}
	fmt.Fprintf(&b, "world %v\n", world)
	return b.String()
}

// TestOracle lets the solver and brute force solve thousands of small universes,
// each in several orders. TARN_UNIVERSES says how many.
func TestOracle(t *testing.T) {
	rounds := 6000
	if testing.Short() {
		rounds = 600
	}
	if n, err := strconv.Atoi(os.Getenv("TARN_UNIVERSES")); err == nil {
		rounds = n
	}
	var solved, unsolvable, asked int
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 1))
		tags := seed%4 == 3
		packages, world := randomCase(r, tags)
		how := Options{Upgrade: r.IntN(4) == 0, Available: r.IntN(4) == 0}
		o := newOracle(packages, world, how)
		var want []string
		vague := false
		var question []string
		if len(o.sets) > 0 {
			var set uint32
			set, question = o.solve()
			want = o.names(set)
			// The oracle reaches what is needed, and no package that is there only to let
			// a tagged one in. Where that is missing, validity alone is compared.
			vague = tags && question == nil && !o.holds(set)
		}
		var first []string
		for order := range 3 {
			got, err := Solve(NewUniverse(packages), world, how)
			var conflict *Conflict
			var ambiguous *Ambiguous
			var names []string
			switch {
			case errors.As(err, &conflict):
				if len(o.sets) > 0 {
					t.Fatalf("seed %d: %v\nbut %v is a solution of\n%s", seed, err, o.names(o.sets[0]), describe(packages, world))
				}
				checkConflict(t, packages, conflict, how)
				unsolvable++
				names = conflict.Chain
			case errors.As(err, &ambiguous):
				if !slices.Equal(ambiguous.Choices, question) {
					t.Fatalf("seed %d: question %v, want %v %v, of\n%s", seed, ambiguous.Choices, question, want, describe(packages, world))
				}
				asked++
				names = ambiguous.Choices
			case err != nil:
				t.Fatal(err)
			default:
				solved++
				var set uint32
				for _, p := range got {
					names = append(names, p.String())
					set |= 1 << slices.Index(packages, p)
				}
				if !o.holds(set) {
					t.Fatalf("seed %d: %v is no solution of\n%s", seed, names, describe(packages, world))
				}
				sorted := slices.Sorted(slices.Values(names))
				if !vague && (question != nil || !slices.Equal(sorted, want)) {
					t.Fatalf("seed %d: got %v, want %v, question %v, of\n%s", seed, sorted, want, question, describe(packages, world))
				}
			}
			if order == 0 {
				first = names
			} else if !slices.Equal(names, first) {
				t.Fatalf("seed %d: %v, but in another order of the input %v, of\n%s", seed, first, names, describe(packages, world))
			}
			r.Shuffle(len(packages), func(i, j int) { packages[i], packages[j] = packages[j], packages[i] })
			r.Shuffle(len(world), func(i, j int) { world[i], world[j] = world[j], world[i] })
			o = newOracle(packages, world, how)
		}
	}
	t.Logf("%d solved, %d without a solution, %d questions", solved, unsolvable, asked)
	if solved == 0 || unsolvable == 0 || asked == 0 {
		t.Error("a kind of answer never came up")
	}
}

// checkConflict holds a conflict to its word: the requirements that it names have
// no solution, and have one without any of them.
func checkConflict(t *testing.T, packages []*Package, c *Conflict, how Options) {
	t.Helper()
	if len(newOracle(packages, c.Requirements, how).sets) > 0 {
		t.Fatalf("%v have a solution in\n%s", c.Requirements, describe(packages, nil))
	}
	for i := range c.Requirements {
		rest := slices.Delete(slices.Clone(c.Requirements), i, i+1)
		if len(newOracle(packages, rest, how).sets) == 0 {
			t.Fatalf("%v is no smallest set: %v has no solution in\n%s", c.Requirements, rest, describe(packages, nil))
		}
	}
	if len(c.Chain) == 0 {
		t.Fatalf("no explanation for %v in\n%s", c.Requirements, describe(packages, nil))
	}
}
