package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/build/check"
	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/recipes"
)

type lintOptions struct {
	lineFlags
	explain string
	built   bool
}

func (a *app) lintCommand() *cobra.Command {
	var o lintOptions
	cmd := &cobra.Command{
		Use:   "lint [RECIPE... | PACKAGE.apk...]",
		Short: "check recipes and built packages",
		Long: `lint reads recipes (all of the workspace when none is named) and says all that is
wrong with them; with --built, the packages that the recipes make are checked as
well. Files that end in .apk are checked as packages.

Rules for packages bear the names of melange's linters; a recipe turns one into a
warning with checks.disabled. --explain RULE says what a rule is for.`,
		ValidArgsFunction: a.completeRecipes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runLint(cmd.Context(), o, args) },
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.explain, "explain", "", "say what a rule is for, and end")
	cmd.Flags().BoolVar(&o.built, "built", false, "build the recipes and check their packages too")
	return cmd
}

func (a *app) runLint(ctx context.Context, o lintOptions, names []string) error {
	if o.explain != "" {
		return a.explainRule(o.explain)
	}
	var files, wanted []string
	for _, name := range names {
		if strings.HasSuffix(name, ".apk") {
			files = append(files, name)
		} else {
			wanted = append(wanted, name)
		}
	}
	var problems diag.Problems
	for _, name := range files {
		found, err := a.lintPackage(ctx, name)
		if err != nil {
			return err
		}
		problems = append(problems, found...)
	}
	if len(wanted) > 0 || len(files) == 0 {
		found, err := a.lintRecipes(ctx, o, wanted)
		if err != nil {
			return err
		}
		problems = append(problems, found...)
	}
	problems.Sort()
	if a.json {
		if err := a.printJSON(problems); err != nil {
			return err
		}
	} else if len(problems) > 0 {
		fmt.Fprintln(a.out, plain(problems.Error()))
	}
	if err := problems.Err(); err != nil {
		return &codeError{exitFailed, &shownError{err}}
	}
	return nil
}

// lintRecipes gives what recipes do against the rules. A recipe that can't be read is an error.
func (a *app) lintRecipes(ctx context.Context, o lintOptions, names []string) (diag.Problems, error) {
	arches, err := parseArches(o.arches)
	if err != nil {
		return nil, err
	}
	var problems diag.Problems
	for _, arch := range arches {
		l, wanted, err := a.openLine(ctx, &o.lineFlags, arch, names)
		if err != nil {
			return nil, err
		}
		for _, name := range wanted {
			problems = append(problems, recipes.Lint(l.graph.Script(name))...)
		}
		if !o.built {
			continue
		}
		found, err := l.lintBuilt(ctx, wanted)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

// lintBuilt builds recipes and gives what their packages do against the rules.
func (l *line) lintBuilt(ctx context.Context, wanted []string) (diag.Problems, error) {
	l.findingsLater = true
	rows, err := l.build(ctx, buildOptions{}, wanted)
	if rows == nil {
		return nil, err
	}
	var problems diag.Problems
	var others []error
	for _, row := range rows {
		broken, isCheck := errors.AsType[*build.CheckError](row.err)
		switch {
		case isCheck:
			problems = append(problems, broken.Problems...)
		case row.err != nil && row.State != "skipped":
			others = append(others, &shownError{row.err})
		case slices.Contains(wanted, row.Recipe) && l.built.Result(row.Recipe) != nil:
			problems = append(problems, l.built.Result(row.Recipe).Findings...)
		}
	}
	return problems, errors.Join(others...)
}

// lintPackage checks a package file: it is unpacked into a folder of the store.
func (a *app) lintPackage(ctx context.Context, name string) (diag.Problems, error) {
	st, err := a.openStore()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("%v", err)
	}
	defer f.Close()
	dir, release, err := st.TempDir("lint")
	if err != nil {
		return nil, err
	}
	defer release()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := environment.ExtractWithModes(ctx, root, f)
	if err != nil {
		return nil, &codeError{exitTrust, fmt.Errorf("read package %s: %w", name, err)}
	}
	return check.Run(check.Package{Name: info.Name, Recipe: name, Files: root.FS()})
}

func (a *app) explainRule(name string) error {
	i := slices.IndexFunc(check.All, func(r check.Rule) bool { return r.Name == name })
	if i < 0 {
		if text := recipes.ExplainRule(name); text != "" {
			fmt.Fprintln(a.out, text)
			return nil
		}
		hint := diag.DidYouMean(name, check.Names())
		if hint != "" {
			hint = "\n  hint: " + hint
		}
		return usagef("unknown rule %q%s", name, hint)
	}
	r := check.All[i]
	fmt.Fprintf(a.out, "%s (%s)\n  why:     %s\n  finds:   %s\n  instead: %s\n", r.Name, r.Severity, r.Why, r.Example, r.Instead)
	return nil
}
