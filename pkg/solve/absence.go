package solve

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
)

// Absence says why a package is not part of the solution of a world.
type Absence struct {
	Wanted Requirement
	// Chosen is what the solution has under the name; nil where that is nothing.
	Chosen []*Package
	// There are all packages that have or provide the name, whatever their version,
	// tag and architecture, in canonical order; Fitting those in a version that is
	// wanted.
	There, Fitting []*Package
	// Present says that the solution has what is wanted, so that there is no absence.
	Present bool
	// Reasons tell it in words, the first being the answer.
	Reasons []string
	// Conflict is why the world and what is wanted have no solution together; nil
	// where they have one, or where nothing fits.
	Conflict error
	// Comes and Goes are what asking for it would bring and take away.
	Comes, Goes []*Package
	Hints       []string
}

// WhyNot says why what is wanted, a name with or without a constraint, is not part of
// the solution of a world. Its error is that of [Solve] for the world alone.
func WhyNot(u Universe, world []Requirement, wanted Requirement, o Options) (*Absence, error) {
	solution, err := Solve(u, world, o)
	if err != nil {
		return nil, err
	}
	a := &Absence{Wanted: wanted, Chosen: NewGraph(solution, world, o).Find(apk.Dependency{Name: wanted.Name})}
	for _, p := range solution {
		if fits, _ := p.offers(wanted.Dependency, o); fits && (wanted.Tag == "" || p.Tag == wanted.Tag) {
			a.Present = true
			a.Reasons = append(a.Reasons, fmt.Sprintf("%s is there", p))
		}
	}
	if a.Present {
		return a, nil
	}
	a.There = slices.Clone(u.Providers(wanted.Name))
	slices.SortFunc(a.There, canonical)
	a.There = slices.Compact(a.There)
	for _, p := range a.There {
		if fits, _ := p.offers(wanted.Dependency, o); fits {
			a.Fitting = append(a.Fitting, p)
		}
	}
	switch {
	case len(a.There) == 0:
		a.Reasons = []string{fmt.Sprintf("nothing is called %s or provides it", wanted.Name)}
		if all, ok := u.(interface{ Names() []string }); ok {
			if near := diag.DidYouMean(wanted.Name, all.Names()); near != "" {
				a.Hints = append(a.Hints, near)
			}
		}
		return a, nil
	case len(a.Fitting) == 0:
		a.Reasons = []string{fmt.Sprintf("no %s fits %s", wanted.Name, wanted)}
		return a, nil
	}
	with, err := Solve(u, append(slices.Clone(world), wanted), o)
	if err != nil {
		if a.hold(u, world, o) {
			a.Conflict = err
		}
		return a, nil
	}
	a.Comes, a.Goes = without(with, solution), without(solution, with)
	if len(world) == 0 {
		a.Reasons = []string{wanted.String() + " can be installed"}
		return a, nil
	}
	a.prefer(with, o)
	return a, nil
}

// Offers says whether a package has or provides the name of d in a version that d
// allows.
func (p *Package) Offers(d apk.Dependency, o Options) bool {
	fits, _ := p.offers(d, o)
	return fits
}

// offers says whether a package satisfies a requirement, and in which version of the
// name; bare where it provides the name without one.
func (p *Package) offers(d apk.Dependency, o Options) (fits bool, as provider) {
	if p.Name == d.Name {
		return matches(d, p.Version, false, o.AnyRevision), provider{version: p.Version}
	}
	for i := range p.Provides {
		if q := &p.Provides[i]; q.Name == d.Name {
			return matches(d, q.Version, q.Op == apk.Any, o.AnyRevision), provider{version: q.Version, bare: q.Op == apk.Any}
		}
	}
	return false, provider{}
}

// hold says what keeps fitting packages out by themselves, and whether there are others,
// which only the rest keeps out.
func (a *Absence) hold(u Universe, world []Requirement, o Options) (others bool) {
	tags := map[string]bool{a.Wanted.Tag: true, "": true}
	for _, r := range world {
		tags[r.Tag] = true
	}
	s := newSearch(u, nil, o)
	usable := 0
	for _, p := range a.Fitting {
		switch {
		case !s.archFits(p):
			a.Reasons = append(a.Reasons, fmt.Sprintf("%s is for %s", p, p.Arch))
		case !tags[p.Tag] && !p.Installed:
			a.Reasons = append(a.Reasons, fmt.Sprintf("%s is tagged %s, and nothing of that tag is asked for", p, p.Tag))
			tagged := a.Wanted
			tagged.Tag = p.Tag
			a.Hints = append(a.Hints, "ask "+tagged.String())
		case s.unfit(s.number(p)) != "":
			a.Reasons = append(a.Reasons, s.unfit(s.number(p)))
		default:
			usable++
		}
	}
	if usable > 0 {
		reason := fmt.Sprintf("%s cannot be installed", a.Wanted)
		if len(world) > 0 {
			reason = fmt.Sprintf("%s cannot be there beside the rest of the world", a.Wanted)
		}
		a.Reasons = append([]string{reason}, a.Reasons...)
	}
	return usable > 0
}

// prefer says why the solution has something else, or nothing, under the name.
func (a *Absence) prefer(with []*Package, o Options) {
	var would *Package
	for _, p := range with {
		if fits, _ := p.offers(a.Wanted.Dependency, o); fits {
			would = p
			break
		}
	}
	name := a.Wanted.Name
	could := fmt.Sprintf("%s could be there", would)
	var chosen *Package
	if len(a.Chosen) > 0 {
		chosen = a.Chosen[0]
	} else if chosen, name = a.rival(would); chosen == nil {
		a.Reasons = append(a.Reasons, could+", but nothing asks for it")
		return
	} else {
		could += " and provides " + name
	}
	_, is := chosen.offers(apk.Dependency{Name: name}, o)
	_, other := would.offers(apk.Dependency{Name: name}, o)
	why := "is preferred"
	switch {
	case chosen.Installed && !would.Installed && !o.Upgrade:
		why = "is installed already, and stays while nothing asks for another"
	case chosen.Tag == "" && would.Tag != "":
		why = "needs no tag"
	case chosen.Rank < would.Rank:
		why = fmt.Sprintf("is from %s, which comes before %s", chosen.From, would.From)
	case !is.bare && other.bare:
		why = fmt.Sprintf("has a version of %s, and the other provides it without", name)
	case !is.bare && !other.bare && is.version.Compare(other.version) > 0:
		why = "has the higher version"
	case chosen.ProviderPriority > would.ProviderPriority:
		why = fmt.Sprintf("has the higher provider priority, %d", chosen.ProviderPriority)
	case !is.bare && !other.bare && is.version.Compare(other.version) < 0 && len(a.Goes) > 1:
		why = "lets the rest of the world have what it has"
	}
	a.Reasons = append(a.Reasons, fmt.Sprintf("%s, but %s %s", could, chosen, why))
}

// rival gives the package that would go if another came, and that provides a name
// that this one has, too.
func (a *Absence) rival(would *Package) (*Package, string) {
	for _, p := range a.Goes {
		for _, name := range append([]string{would.Name}, provided(would)...) {
			if p.Name == name || slices.Contains(provided(p), name) {
				return p, name
			}
		}
	}
	return nil, ""
}

// without gives the packages of one solution that another lacks.
func without(one, other []*Package) []*Package {
	var rest []*Package
	for _, p := range one {
		if !slices.Contains(other, p) {
			rest = append(rest, p)
		}
	}
	return rest
}

// Error joins what is known, as a text of several lines.
func (a *Absence) String() string {
	lines := slices.Clone(a.Reasons)
	if a.Conflict != nil {
		text := a.Conflict.Error()
		if rest, found := strings.CutPrefix(text, "no solution:"); found {
			text = strings.TrimLeft(rest, " ")
		}
		for line := range strings.Lines(strings.TrimPrefix(text, "\n")) {
			lines = append(lines, "  "+strings.TrimSpace(line))
		}
	}
	show := func(what string, packages []*Package) {
		if len(packages) == 0 {
			return
		}
		words := make([]string, len(packages))
		for i, p := range packages {
			words[i] = p.String()
		}
		lines = append(lines, "  "+what+" "+strings.Join(words, " "))
	}
	show("asking for it brings", a.Comes)
	show("and takes away", a.Goes)
	if !a.Present && len(a.There) > 0 && len(a.Comes) == 0 {
		lines = append(lines, "there is")
		for i, p := range a.There {
			if i == maxThere && len(a.There) > maxThere+1 {
				lines = append(lines, fmt.Sprintf("  and %d more", len(a.There)-i))
				break
			}
			lines = append(lines, "  "+p.described(a.Wanted.Name))
		}
	}
	for _, hint := range a.Hints {
		lines = append(lines, "hint: "+hint)
	}
	return strings.Join(lines, "\n")
}

// maxThere is how many packages of a name are listed.
const maxThere = 20

// described is a package with what it provides a name as, its architecture, and where
// it is from.
func (p *Package) described(name string) string {
	text := p.String()
	if p.Name != name {
		for i := range p.Provides {
			if d := p.Provides[i]; d.Name == name {
				text += ", which provides " + d.String()
			}
		}
	}
	if p.Arch != "" {
		text += ", " + string(p.Arch)
	}
	if p.From != "" {
		text += ", in " + p.From
	}
	if p.Installed {
		text += ", installed"
	}
	return text
}
