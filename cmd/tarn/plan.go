package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/redact"
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
	cmd.Flags().StringSliceVar(&o.testPackages, "test-package-append", nil, "a package that joins the environment of every test (--show script)")
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
	switch o.show {
	case "recipe", "script":
		return a.showScripts(ctx, o, arch, names)
	case "order", "lock", "id", "explain":
	default:
		return usagef("--show %q is not recipe, script, lock, id, explain or order", o.show)
	}
	l, wanted, err := a.openLine(ctx, &o.lineFlags, arch, names)
	if err != nil {
		return err
	}
	if o.show == "order" {
		for _, name := range l.graph.Only(wanted...).Order() {
			fmt.Fprintln(a.out, name)
		}
		return nil
	}
	failed, err := l.buildNeeds(ctx, wanted)
	errs := []error{err}
	var rows []planRow
	for _, name := range wanted {
		if slices.ContainsFunc(l.graph.Closure(name), func(need string) bool { return failed[need] }) {
			continue // told as it failed
		}
		row, p, err := l.planOne(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		rows = append(rows, row)
		if !a.json {
			a.showPlan(o.show, name, p)
		}
	}
	if a.json {
		errs = append(errs, a.printJSON(rows))
	}
	return errors.Join(errs...)
}

// buildNeeds builds what the wanted recipes need, and says which of it failed.
func (l *line) buildNeeds(ctx context.Context, wanted []string) (failed map[string]bool, err error) {
	var needs []string
	for _, name := range wanted {
		needs = append(needs, l.graph.Closure(name)...)
	}
	if len(needs) == 0 {
		return nil, nil
	}
	failed = map[string]bool{}
	rows, err := l.build(ctx, buildOptions{}, needs)
	for _, row := range rows {
		failed[row.Recipe] = row.err != nil
	}
	if rows == nil && err != nil {
		for _, name := range needs {
			failed[name] = true
		}
	}
	return failed, err
}

func (l *line) planOne(ctx context.Context, name string) (planRow, *plan.Plan, error) {
	p, err := l.plan(ctx, l.graph.Script(name))
	if err != nil {
		return planRow{}, nil, err
	}
	var outcome json.RawMessage
	known, err := l.store.Recall(p.ID(), &outcome)
	return planRow{name, string(p.ID()), known, p.Environment}, p, err
}

func (a *app) showPlan(show, name string, p *plan.Plan) {
	switch show {
	case "id":
		fmt.Fprintf(a.out, "%s  %s\n", p.ID(), name)
	case "explain":
		fmt.Fprint(a.out, redact.Text(p.Explain()))
	case "lock":
		for _, one := range p.Environment {
			fmt.Fprintf(a.out, "%s=%s  %s  %s\n", one.Name, one.Version, one.Identity, one.From)
		}
	}
}

// showScripts prints recipes, or what they become, and nothing else is looked at: no
// package, no other recipe, no store. So a recipe is shown whatever the others are like,
// and with mistakes in one the others are shown all the same.
func (a *app) showScripts(ctx context.Context, o planOptions, arch apk.Arch, names []string) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	x := expansion{sourceDir: o.sourceDir, named: names}
	if x.target, err = o.target(ws, arch); err != nil {
		return err
	}
	x.target.AnyArch = true
	if a.json {
		// A listing is of what the recipe says and the flags add: what joins every
		// environment of the workspace is added when the plan is made.
		x.target.AppendPackages = x.target.AppendPackages[len(ws.Environment.Append):]
		x.target.AppendTestPackages = x.target.AppendTestPackages[len(ws.Test.Append):]
	} else {
		x.checkout = checkouts(ctx, ws)
	}
	if x.pipelines, err = o.pipelines(ws); err != nil {
		return err
	}
	files, err := x.find(ws, names)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(a.out)
	lines.SetEscapeHTML(false)
	var problems diag.Problems
	for r := range x.each(files) {
		if r.err != nil {
			some, listed := diag.Of(r.err)
			if !listed {
				return r.err
			}
			problems = append(problems, some...)
			continue
		}
		if others := r.script.MadeFor; len(others) > 0 && !slices.Contains(others, string(arch)) {
			fmt.Fprintf(a.err, "%s: note: made for %s only, shown for %s\n", r.recipe.Path(), strings.Join(others, ", "), arch)
		}
		switch {
		case o.show == "recipe":
			_, err = a.out.Write(r.recipe.Text())
		case a.json:
			err = lines.Encode(r.script.Listing())
		default:
			var text bytes.Buffer
			if err = (&app{streams: streams{out: &text}}).printJSON(r.script); err == nil {
				_, err = io.WriteString(a.out, redact.Text(text.String()))
			}
		}
		if err != nil {
			return err
		}
	}
	return problems.Err()
}
