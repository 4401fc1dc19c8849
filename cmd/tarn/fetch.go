package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/source"
)

func (a *app) fetchCommand() *cobra.Command {
	var o lineFlags
	cmd := &cobra.Command{
		Use:   "fetch [RECIPE...]",
		Short: "fetch the sources of recipes and of what they need, so that they build offline",
		RunE:  func(cmd *cobra.Command, args []string) error { return a.runFetch(cmd.Context(), o, args) },
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
			if err := source.FetchAll(ctx, l.fetcher, l.graph.Script(name)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
		for _, s := range l.seeds {
			entries, err := s.Packages(ctx, arch)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if _, err := s.Fetch(ctx, l.store, e); err != nil {
					errs = append(errs, err)
				}
			}
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}
