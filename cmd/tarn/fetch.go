package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/source/prefetch"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

func (a *app) fetchCommand() *cobra.Command {
	var o fetchOptions
	cmd := &cobra.Command{
		Use:   "fetch [RECIPE...]",
		Short: "fetch the sources of recipes and of what they need, so that they build offline",
		Long: `fetch puts the sources of the named recipes (all when none is named), of their tests
and of the recipes that they need into the store, so that they build offline: with
them the seeds, and the packages of further repositories, that their environments ask for.
Upstream's signatures are checked where recipes name them (verify).

--mirror writes all sources into a folder too: files by digest, and git repositories. Another
machine uses it, or a web server that serves it, as a mirror (tarn help workspace), when
upstream has gone.

What package managers download (Go modules, npm, cargo, pip) is fetched in a sandbox
of its own, the only one with a network, before anything is built. Its digest stands
in NAME.lock.json beside the recipe. --update writes that file for the named recipes.`,
		ValidArgsFunction: a.completeRecipes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runFetch(cmd.Context(), o, args) },
	}
	o.add(cmd)
	o.addLimits(cmd)
	cmd.Flags().BoolVar(&o.all, "all", false, "fetch for every recipe of the workspace, as without names")
	cmd.Flags().StringVar(&o.mirror, "mirror", "", "write the sources into this folder as well, for other machines: their tarn.yaml names it in mirrors")
	cmd.Flags().BoolVar(&o.update, "update", false, "prefetch anew what package managers download, and write it into the recipes' locks")
	return cmd
}

type fetchOptions struct {
	lineFlags
	update bool
	all    bool
	mirror string
}

func (a *app) runFetch(ctx context.Context, o fetchOptions, names []string) error {
	if o.all && len(names) > 0 {
		return usagef("--all is every recipe: leave the names out")
	}
	arches, err := parseArches(o.arches)
	if err != nil {
		return err
	}
	for _, arch := range arches {
		l, wanted, err := a.openLine(ctx, &o.lineFlags, arch, names)
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range l.graph.Only(wanted...).Order() {
			s := l.graph.Script(name)
			err := source.FetchAll(ctx, l.fetcher, s)
			for i := range s.Packages {
				err = errors.Join(err, source.FetchTest(ctx, l.fetcher, s, s.Packages[i].Test))
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
		errs = append(errs, l.fetchSeeds(ctx, wanted), l.fetchRepositories(ctx, wanted))
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if o.update {
			err = l.updateLocks(ctx, wanted)
		} else {
			err = l.prefetch(ctx, l.graph.Only(wanted...).Order())
		}
		if err == nil && o.mirror != "" {
			err = l.writeMirror(ctx, o.mirror, l.graph.Only(wanted...).Order())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// updateLocks prefetches for the wanted recipes and writes their locks.
func (l *line) updateLocks(ctx context.Context, wanted []string) error {
	return l.eachPrefetching(ctx, wanted, func(s *recipes.Script) (bool, error) { return prefetch.Wanted(s), nil }, func(p *plan.Plan) error {
		e, err := l.builder.Prefetch(ctx, p)
		if err != nil {
			return err
		}
		changed, err := prefetch.Update(p.Script.Recipe, *e)
		if err != nil {
			return err
		}
		state := "unchanged"
		if changed {
			state = "written"
		}
		if l.json {
			return l.printJSON(map[string]any{"recipe": p.Script.Name, "lock": prefetch.LockFile(p.Script.Recipe), "changed": changed, "sha256": e.SHA256, "size": e.Size, "contents": e.Contents})
		}
		fmt.Fprintf(l.out, "%s: %s: %s, %s\n", prefetch.LockFile(p.Script.Recipe), state, plural(len(e.Contents), "part"), shortSize(e.Size))
		return nil
	})
}

// prefetch puts what locks name into the store.
func (l *line) prefetch(ctx context.Context, names []string) error {
	missing := func(s *recipes.Script) (bool, error) {
		e, err := prefetch.Locked(s)
		if err == nil && e == nil && prefetch.Wanted(s) {
			fmt.Fprintf(l.err, "note: %s: what package managers download for %s is not locked: tarn fetch --update %s, unless its source has it all\n", s.Recipe, s.Arch, s.Name)
		}
		return e != nil && !l.store.Has(e.Digest()), err
	}
	return l.eachPrefetching(ctx, names, missing, func(p *plan.Plan) (err error) {
		if p.Prefetched, err = prefetch.Locked(p.Script); err != nil {
			return err
		}
		return l.builder.Prefetched(ctx, p)
	})
}

// eachPrefetching does something for the recipes that it concerns. What they need is
// built before: package managers run in the environment of the build.
func (l *line) eachPrefetching(ctx context.Context, names []string, concerns func(*recipes.Script) (bool, error), do func(*plan.Plan) error) error {
	var errs []error
	var all []string
	for _, name := range names {
		is, err := concerns(l.graph.Script(name))
		if err != nil {
			errs = append(errs, err)
		} else if is && l.broken[name] == nil {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return errors.Join(errs...)
	}
	failed, err := l.buildNeeds(ctx, all)
	errs = append(errs, err)
	if err := l.openBuilder(nil, 0); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, name := range all {
		if slices.ContainsFunc(l.graph.Closure(name), func(need string) bool { return failed[need] }) {
			continue // told as it failed
		}
		p, err := l.planUnlocked(ctx, l.graph.Script(name))
		if err == nil {
			err = do(p)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// fetchSeeds fetches the packages of seeds that environments of the wanted recipes may
// hold: those of a name that is asked for and that nothing before the seeds serves.
func (l *line) fetchSeeds(ctx context.Context, wanted []string) error {
	served := map[string]bool{}
	for _, r := range l.others {
		entries, err := r.Packages(ctx, l.arch)
		if err != nil {
			return err
		}
		for _, e := range entries {
			for _, name := range namesOf(e) {
				served[name] = true
			}
		}
	}
	asked := map[string]bool{}
	for _, recipe := range l.graph.Only(wanted...).Order() {
		s := l.graph.Script(recipe)
		ask := func(name string) {
			// A recipe never serves itself.
			if by := l.graph.Serving(name); !served[name] && (len(by) == 0 || slices.Equal(by, []string{recipe})) {
				asked[name] = true
			}
		}
		for _, need := range s.Environment.Packages {
			ask(need.Name)
		}
		for _, p := range s.Packages {
			for _, d := range p.Runtime {
				ask(d.Name)
			}
		}
	}
	for _, s := range l.seeds {
		entries, err := s.Packages(ctx, l.arch)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !slices.ContainsFunc(namesOf(e), func(name string) bool { return asked[name] }) {
				continue
			}
			if l.seedAsked == nil {
				l.seedAsked = map[string]bool{}
			}
			l.seedAsked[s.Name()] = true
			if _, err := s.Fetch(ctx, l.store, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// namesOf are the names that ask for a package: its own and those it provides.
func namesOf(e *apk.Entry) []string {
	names := []string{e.Name}
	for _, d := range e.Provides {
		names = append(names, d.Name)
	}
	return names
}
