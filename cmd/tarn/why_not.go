package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/solve"
)

func (a *app) whyNotCommand() *cobra.Command {
	var o worldFlags
	cmd := &cobra.Command{
		Use:   "why-not PACKAGE",
		Short: "say why a package, or a version of it, is not chosen or can't be",
		Long: `why-not tells why a PACKAGE, a name with or without a constraint (openssl>=3.4), is not
among what a world brings: that nothing is called so or fits, that it cannot be there
beside the rest and what stands against it, that nothing asks for it, or what is preferred
to it and why; and which versions there are.

--world gives the entries of the world, and the flags of solve say what they are solved
over. Without --world the question is whether the package can be installed at all.

Its exit code is 1 where the package is chosen, or can be installed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runWhyNot(cmd.Context(), o, args[0]) },
	}
	o.universe.flags(cmd)
	cmd.Flags().StringArrayVarP(&o.world, "world", "w", nil, "an entry of the world that is solved, or several with spaces between them; may be repeated")
	return cmd
}

func (a *app) runWhyNot(ctx context.Context, o worldFlags, name string) error {
	wanted, err := parseWorld([]string{name}, "the question")
	if err != nil {
		return err
	}
	if wanted[0].Conflict {
		return usagef("%q is a conflict; name what is missed", name)
	}
	world, err := o.parse()
	if err != nil {
		return err
	}
	packages, options, err := a.packages(ctx, o.universe)
	if err != nil {
		return err
	}
	defer packages.close()
	if err := solve.CheckTags(world, packages.tags); err != nil {
		return err
	}
	absence, err := solve.WhyNot(packages, world, wanted[0], options)
	if err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(absenceRow(absence)); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.out, plain(absence.String()))
	}
	if absence.Present || len(world) == 0 && absence.Comes != nil {
		return &codeError{exitFailed, &shownError{fmt.Errorf("%s is no absence", name)}}
	}
	return nil
}

// absenceJSON is why something is not there, as JSON shows it.
type absenceJSON struct {
	Wanted    string   `json:"wanted"`
	Present   bool     `json:"present"`
	Reasons   []string `json:"reasons"`
	Conflict  string   `json:"conflict,omitempty"`
	Chosen    []string `json:"chosen"`
	Available []string `json:"available"`
	Brings    []string `json:"brings,omitempty"`
	Removes   []string `json:"removes,omitempty"`
	Hints     []string `json:"hints,omitempty"`
}

func absenceRow(a *solve.Absence) absenceJSON {
	names := func(packages []*solve.Package) []string {
		list := make([]string, len(packages))
		for i, p := range packages {
			list[i] = p.String()
		}
		return list
	}
	row := absenceJSON{
		Wanted: a.Wanted.String(), Present: a.Present, Reasons: a.Reasons, Hints: a.Hints,
		Chosen: names(a.Chosen), Available: names(a.There), Brings: names(a.Comes), Removes: names(a.Goes),
	}
	if a.Conflict != nil {
		row.Conflict = a.Conflict.Error()
	}
	return row
}
