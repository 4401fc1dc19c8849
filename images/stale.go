package images

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
)

// StaleError says that a lock is no answer to what its image file asks for.
type StaleError struct {
	Lock, Image string   // the two files
	Differences []string // each of them, in words
	Hint        string   // the way out
}

func (e *StaleError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s does not fit %s any more:", e.Lock, e.Image)
	for _, d := range e.Differences {
		b.WriteString("\n  " + d)
	}
	if e.Hint != "" {
		b.WriteString("\n  hint: " + e.Hint)
	}
	return b.String()
}

// parseWorldEntry reads what an image asks for, as a lock notes it.
func parseWorldEntry(text string) (solve.Requirement, error) { return solve.ParseRequirement(text) }

// WorldTexts are the requirements of a world, each once, sorted.
func WorldTexts(world []solve.Requirement) []string {
	var all []string
	for _, r := range world {
		all = append(all, r.String())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Question is what an image asks of repositories: what a lock answers.
type Question struct {
	Spec  *Spec
	World []solve.Requirement // the image file's, and what flags add to it
	Arch  []apk.Arch
	// Named are the repositories of the image file, All are those as well of flags and of
	// the workspace; each as a lock calls it.
	Named, All []string
}

// Check says, before anything is fetched, in what the lock is not the answer to a
// question: packages that are asked for now, and not when it was written, or the other way
// round; other repositories and keys; architectures that it does not have. Of a lock of
// apko's, which does not tell what was asked, the image file's checksum has to be the same.
// An image file that changed in nothing of this kind still fits.
func (l *Lock) Check(q Question) []string {
	var diffs []string
	add := func(format string, args ...any) { diffs = append(diffs, fmt.Sprintf(format, args...)) }
	for _, arch := range q.Arch {
		if there := l.Arches(); !slices.Contains(there, arch) && (len(there) > 0 || len(q.World) > 0) {
			add("architecture %s: the lock has %s", arch, listed(there))
		}
	}
	changed := l.Config != nil && l.Config.Checksum != "" && l.Config.Checksum != q.Spec.Checksum
	if l.Config != nil && len(l.Config.World) > 0 {
		diffs = append(diffs, worldDifferences(l.Config.World, q.World)...)
	} else if changed {
		add("the image file changed since")
		for _, r := range q.World {
			if !r.Conflict && !slices.ContainsFunc(l.Contents.Packages, func(p LockedPackage) bool { return p.Name == r.Name }) {
				add("added: %s (%s)", r, r.From)
			}
		}
	}
	if !changed {
		return diffs
	}
	for _, location := range q.Spec.Contents.Keyring {
		if !slices.ContainsFunc(l.Contents.Keyring, func(k LockedKey) bool { return k.URL == location }) {
			add("added: key %s", location)
		}
	}
	var before []string
	for _, r := range slices.Concat(l.Contents.Repositories, l.Contents.BuildRepositories) {
		name, _, _ := strings.Cut(r.URL, "/"+r.Architecture+"/APKINDEX")
		before = append(before, cleanLocation(name))
	}
	for _, name := range q.Named {
		if !slices.Contains(before, name) {
			add("added: repository %s", name)
		}
	}
	gone := map[string]bool{}
	for i := range l.Contents.Packages {
		p := &l.Contents.Packages[i]
		name := p.repository()
		if !slices.Contains(q.All, name) && !gone[name] {
			gone[name] = true
			add("removed: repository %s, which %s is of", name, p.FullName())
		}
	}
	return diffs
}

// cleanLocation is a location as tarn writes it: apko keeps the ./ that was typed.
func cleanLocation(location string) string {
	if strings.Contains(location, "://") {
		return location
	}
	return path.Clean(location)
}

func listed(arches []apk.Arch) string {
	if len(arches) == 0 {
		return "no packages"
	}
	var words []string
	for _, a := range arches {
		words = append(words, string(a))
	}
	return strings.Join(words, " ")
}

// worldDifferences compares what was asked for with what is.
func worldDifferences(before []string, now []solve.Requirement) (diffs []string) {
	there := WorldTexts(now)
	var gone []solve.Requirement
	for _, text := range before {
		if r, err := parseWorldEntry(text); err == nil && !slices.Contains(there, r.String()) {
			gone = append(gone, r)
		}
	}
	told := map[string]bool{}
	for _, r := range now {
		if slices.Contains(before, r.String()) || told[r.String()] {
			continue
		}
		told[r.String()] = true
		i := slices.IndexFunc(gone, func(g solve.Requirement) bool { return g.Name == r.Name })
		if i < 0 {
			diffs = append(diffs, fmt.Sprintf("added: %s (%s)", r, r.From))
			continue
		}
		diffs = append(diffs, fmt.Sprintf("changed: %s, it was %s (%s)", r, gone[i], r.From))
		gone = slices.Delete(gone, i, i+1)
	}
	for _, r := range gone {
		diffs = append(diffs, fmt.Sprintf("removed: %s", r))
	}
	return diffs
}

// Satisfies says, of the packages of one architecture, what of a world and of the needs of
// each other they leave open, and which of them nothing asks for. Of a lock of apko's the
// last is not asked: its solver has other reasons.
func (l *Lock) Satisfies(world []solve.Requirement, packages []Package) []string {
	var diffs []string
	all := make([]*solve.Package, len(packages))
	offering := map[string][]*solve.Package{} // by name
	for i, p := range packages {
		all[i] = &solve.Package{Entry: p.Entry}
		offering[p.Entry.Name] = append(offering[p.Entry.Name], all[i])
		for _, d := range p.Entry.Provides {
			if !slices.Contains(offering[d.Name], all[i]) {
				offering[d.Name] = append(offering[d.Name], all[i])
			}
		}
	}
	open := func(by *solve.Package, who string, d apk.Dependency, o solve.Options) {
		var near []string
		fits := false
		for _, p := range offering[d.Name] {
			if p == by && d.Conflict {
				continue
			}
			if p.Offers(apk.Dependency{Name: d.Name, Version: d.Version, Op: d.Op}, o) {
				fits = true
				if d.Conflict {
					diffs = append(diffs, fmt.Sprintf("%s excludes %s, which is in the lock", who, p.FullName()))
				}
			} else {
				near = append(near, p.FullName())
			}
		}
		switch {
		case fits || d.Conflict:
		case len(near) > 0:
			diffs = append(diffs, fmt.Sprintf("%s asks for %s, and the lock has %s", who, d, strings.Join(near, " ")))
		default:
			diffs = append(diffs, fmt.Sprintf("%s asks for %s, which nothing in the lock is", who, d))
		}
	}
	for _, r := range world {
		open(nil, r.From, r.Dependency, solve.Options{AnyRevision: true})
	}
	for _, p := range all {
		for _, d := range p.Depends {
			open(p, p.FullName(), d, solve.Options{})
		}
	}
	if len(diffs) > 0 || l.Config == nil || len(l.Config.World) == 0 {
		return diffs
	}
	needed := needed(world, all, offering)
	for _, p := range all {
		if !needed[p] {
			diffs = append(diffs, fmt.Sprintf("nothing asks for %s", p.FullName()))
		}
	}
	return diffs
}

// needed are the packages that a world asks for, what these need, and what came of itself
// since all of its install_if is there.
func needed(world []solve.Requirement, all []*solve.Package, offering map[string][]*solve.Package) map[*solve.Package]bool {
	reached := map[*solve.Package]bool{}
	var reach func(d apk.Dependency, o solve.Options)
	reach = func(d apk.Dependency, o solve.Options) {
		if d.Conflict {
			return
		}
		for _, p := range offering[d.Name] {
			if !reached[p] && p.Offers(d, o) {
				reached[p] = true
				for _, need := range p.Depends {
					reach(need, solve.Options{})
				}
			}
		}
	}
	for _, r := range world {
		reach(r.Dependency, solve.Options{AnyRevision: true})
	}
	for more := true; more; {
		more = false
		for _, p := range all {
			fulfilled := func(d apk.Dependency) bool {
				return d.Conflict || slices.ContainsFunc(offering[d.Name], func(q *solve.Package) bool { return reached[q] && q.Offers(d, solve.Options{}) })
			}
			if !reached[p] && len(p.InstallIf) > 0 && !slices.ContainsFunc(p.InstallIf, func(d apk.Dependency) bool { return !fulfilled(d) }) {
				more = true
				reach(apk.Dependency{Name: p.Name, Op: apk.Equal, Version: p.Version}, solve.Options{})
			}
		}
	}
	return reached
}
