package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
)

func (a *app) fetchCommand() *cobra.Command {
	var o lineFlags
	cmd := &cobra.Command{
		Use:   "fetch [RECIPE...]",
		Short: "fetch the sources of recipes and of what they need, so that they build offline",

		ValidArgsFunction: a.completeRecipes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runFetch(cmd.Context(), o, args) },
	}
	o.add(cmd)
	return cmd
}

func (a *app) runFetch(ctx context.Context, o lineFlags, names []string) error {
	arches, err := parseArches(o.arches)
	if err != nil {
		return err
	}
	for _, arch := range arches {
		l, wanted, err := a.openLine(ctx, &o, arch, names)
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
		if err := l.fetchSeeds(ctx, wanted); err != nil {
			errs = append(errs, err)
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
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
