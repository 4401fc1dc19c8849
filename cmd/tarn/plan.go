package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

type planOptions struct {
	lineFlags
	show string
}

func (a *app) planCommand() *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan [RECIPE...]",
		Short: "show what would be built, and what decides the outcome",
		Long: `plan shows the values between the stages: the recipe as it was read, the script
that is left when nothing is to be decided any more, the lock of its environment,
and the ID that covers both. Recipes that the named ones need are built first, if the
store does not know them, since a plan names exact packages.`,
		ValidArgsFunction: a.completeRecipes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runPlan(cmd.Context(), o, args) },
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.show, "show", "id", "recipe, script, lock, id, explain (each line that the ID covers) or order")
	return cmd
}

// planRow is one plan for programs.
type planRow struct {
	Recipe string    `json:"recipe"`
	ID     string    `json:"id"`
	Known  bool      `json:"known"` // the store knows the outcome
	Lock   repo.Lock `json:"lock"`
}

func (a *app) runPlan(ctx context.Context, o planOptions, names []string) error {
	return eachArch(o.arches, func(arch apk.Arch) error { return a.planArch(ctx, o, arch, names) })
}

func (a *app) planArch(ctx context.Context, o planOptions, arch apk.Arch, names []string) error {
	l, wanted, err := a.openLine(ctx, &o.lineFlags, arch, names)
	if err != nil {
		return err
	}
	switch o.show {
	case "order":
		for _, name := range l.graph.Only(wanted...).Order() {
			fmt.Fprintln(a.out, name)
		}
		return nil
	case "recipe", "script":
		for _, name := range wanted {
			if err := l.showScript(name, o.show); err != nil {
				return err
			}
		}
		return nil
	case "lock", "id", "explain":
	default:
		return usagef("--show %q is not recipe, script, lock, id, explain or order", o.show)
	}
	var needs []string
	for _, name := range wanted {
		needs = append(needs, l.graph.Closure(name)...)
	}
	if len(needs) > 0 {
		if _, err := l.build(ctx, buildOptions{}, needs); err != nil {
			return err
		}
	}
	var rows []planRow
	for _, name := range wanted {
		p, err := l.plan(ctx, l.graph.Script(name))
		if err != nil {
			return err
		}
		var outcome json.RawMessage
		known, err := l.store.Recall(p.ID(), &outcome)
		if err != nil {
			return err
		}
		rows = append(rows, planRow{name, string(p.ID()), known, p.Environment})
		if !a.json {
			a.showPlan(o.show, name, p)
		}
	}
	if a.json {
		return a.printJSON(rows)
	}
	return nil
}

func (a *app) showPlan(show, name string, p *plan.Plan) {
	switch show {
	case "id":
		fmt.Fprintf(a.out, "%s  %s\n", p.ID(), name)
	case "explain":
		fmt.Fprint(a.out, p.Explain())
	case "lock":
		for _, one := range p.Environment {
			fmt.Fprintf(a.out, "%s=%s  %s  %s\n", one.Name, one.Version, one.Identity, one.From)
		}
	}
}

func (l *line) showScript(name, show string) error {
	s := l.graph.Script(name)
	if show == "recipe" {
		text, err := recipes.Source(s)
		if err != nil {
			return err
		}
		_, err = l.out.Write(text)
		return err
	}
	return l.printJSON(s)
}
