package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/build/check"
	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/source/prefetch"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/recipes"
)

type lintOptions struct {
	lineFlags
	ruleFlags
	explain string
	built   bool
	all     bool
}

func (a *app) lintCommand() *cobra.Command {
	var o lintOptions
	cmd := &cobra.Command{
		Use:   "lint [RECIPE... | PACKAGE.apk...]",
		Short: "check recipes and built packages",
		Long: `lint reads recipes (all of the workspace when none is named) and says all that is
wrong with them; with --built, the packages that the recipes make are checked as
well. Files that end in .apk are checked as packages.

Errors are exit 1; warnings and notes are told. Rules for packages bear the names of
melange's linters; checks.disabled in a recipe makes warnings of its package's errors.
A comment in a recipe waves a rule away for the line that it stands at or above:

  # tarn:ignore RULE: why

--lint-require, --lint-warn and --lint-off (and "lint" in tarn.yaml) say how grave
rules are; what they don't name stays as it is. --explain RULE says what a rule is
for; --explain alone lists the rules.`,
		ValidArgsFunction: a.completeRecipes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runLint(cmd.Context(), o, args) },
	}
	o.lineFlags.add(cmd)
	o.ruleFlags.add(cmd)
	cmd.Flags().StringVar(&o.explain, "explain", "", "say what a rule is for, or list them all, and end")
	cmd.Flags().Lookup("explain").NoOptDefVal = everyRule
	cmd.Flags().BoolVar(&o.built, "built", false, "build the recipes and check their packages too")
	cmd.Flags().BoolVar(&o.all, "all", false, "tell every finding, however many a rule has in one package")
	return cmd
}

// everyRule is the value of --explain without one.
const everyRule = "*"

func (a *app) runLint(ctx context.Context, o lintOptions, names []string) error {
	switch {
	case o.explain == everyRule && len(names) == 1:
		return a.explainRule(names[0]) // --explain RULE
	case o.explain != "" && len(names) > 0:
		return usagef("--explain tells of one rule at a time\n  hint: tarn lint --explain lists them all")
	case o.explain == everyRule:
		return a.listRules()
	case o.explain != "":
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
	problems := diag.Problems{}
	if len(files) > 0 {
		ws, err := a.workspace()
		if err != nil {
			return err
		}
		policy, err := o.policy(ws)
		if err != nil {
			return err
		}
		for _, name := range files {
			found, err := a.lintPackage(ctx, name, policy)
			if err != nil {
				return err
			}
			problems = append(problems, found...)
		}
	}
	var mistakes diag.Problems
	if len(wanted) > 0 || len(files) == 0 {
		found, wrong, err := a.lintRecipes(ctx, o, wanted)
		if err != nil {
			return err
		}
		problems, mistakes = append(problems, found...), wrong
	}
	problems.Sort()
	if a.json {
		if err := a.printJSON(append(problems, mistakes...)); err != nil {
			return err
		}
	} else {
		a.printFindings(problems, o.all)
	}
	a.tell(mistakes)
	if err := problems.Err(); err != nil && len(mistakes) == 0 {
		return &codeError{exitFailed, &shownError{err}}
	}
	return nil
}

// manyFindings is how many files of a package are told for one rule.
const manyFindings = 8

// printFindings lists problems. Of a rule that a package breaks with hundreds of files
// the first ones are told.
func (a *app) printFindings(problems diag.Problems, all bool) {
	type group struct{ file, pkg, rule string }
	total, told := map[group]int{}, map[group]int{}
	for _, p := range problems {
		total[group{p.File, p.Package, p.Rule}]++
	}
	files, count := map[string]bool{}, map[diag.Severity]int{}
	for _, p := range problems {
		files[p.File] = true
		count[p.Severity]++
		g := group{p.File, p.Package, p.Rule}
		if p.Package != "" && told[g] > 0 {
			p.Hint = "" // it is the rule's, and was told
		}
		if told[g]++; p.Package == "" || all || total[g] <= manyFindings+1 || told[g] <= manyFindings {
			fmt.Fprintln(a.out, plain(p.Error()))
		} else if told[g] == total[g] {
			fmt.Fprintf(a.out, "%s: %s: and %d more files [%s]\n  hint: --all tells them\n", plain(p.File), p.Package, total[g]-manyFindings, p.Rule)
		}
	}
	if len(problems) > 1 {
		var parts []string
		for _, s := range []diag.Severity{diag.Error, diag.Warning, diag.Note} {
			if count[s] > 0 {
				parts = append(parts, plural(count[s], s.String()))
			}
		}
		fmt.Fprintf(a.out, "%s in %s\n", strings.Join(parts, ", "), plural(len(files), "file"))
	}
}

// lintRecipes gives what recipes do against the rules, and the mistakes of those that
// can't be read. Nothing else is looked at unless they are built: no store, no repository.
func (a *app) lintRecipes(ctx context.Context, o lintOptions, names []string) (found, mistakes diag.Problems, err error) {
	ws, err := a.workspace()
	if err != nil {
		return nil, nil, err
	}
	policy, err := o.policy(ws)
	if err != nil {
		return nil, nil, err
	}
	arches, err := parseArches(o.arches)
	if err != nil {
		return nil, nil, err
	}
	options := recipes.LintOptions{Policy: policy}
	known := map[string]bool{}
	for _, arch := range arches {
		x := expansion{sourceDir: o.sourceDir, named: names}
		if x.target, err = o.target(ws, arch); err != nil {
			return nil, nil, err
		}
		x.target.AnyArch = true
		if x.pipelines, err = o.pipelines(ws); err != nil {
			return nil, nil, err
		}
		files, err := x.find(ws, names)
		if err != nil {
			return nil, nil, err
		}
		for r := range x.each(files) {
			some, listed := diag.Of(r.err)
			switch {
			case r.err == nil:
				known[r.script.Name] = true
				found = append(found, recipes.Lint(r.script, options)...)
				locked, err := prefetch.Locked(r.script)
				if some, listed := diag.Of(err); listed {
					mistakes = append(mistakes, some...)
				} else if err != nil {
					return nil, nil, err
				} else if locked == nil && prefetch.Wanted(r.script) {
					found = append(found, diag.Problem{File: r.script.Recipe, Line: 1, Severity: diag.Note, Rule: "prefetch-lock",
						Text: "what package managers download for " + string(r.script.Arch) + " is not locked", Hint: "tarn fetch --update " + r.script.Name + ", unless its source has it all"})
				}
				if ws.Exceptions[r.script.Name].Network && r.script.Network == "" {
					found = append(found, diag.Problem{File: r.script.Recipe, Line: 1, Severity: diag.Note, Rule: "network",
						Text: "its build may use the network, by an exception of the workspace, and it does not say why", Hint: "say at its root, network: WHY, or prefetch what it downloads"})
				}
			case listed:
				mistakes = append(mistakes, some...)
			default:
				return nil, nil, r.err
			}
		}
		if !o.built {
			continue
		}
		l, wanted, err := a.openLine(ctx, &o.lineFlags, arch, names)
		if err != nil {
			return nil, nil, err
		}
		l.rules = policy
		built, err := l.lintBuilt(ctx, wanted)
		if err != nil {
			return nil, nil, err
		}
		found = append(found, built...)
	}
	if len(names) == 0 && len(mistakes) == 0 {
		found = append(found, ws.lostExceptions(slices.Sorted(maps.Keys(known)))...)
	}
	// What every architecture has is told once.
	found.Sort()
	mistakes.Sort()
	return slices.Compact(found), slices.Compact(mistakes), nil
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
func (a *app) lintPackage(ctx context.Context, name string, policy diag.Policy) (diag.Problems, error) {
	var found diag.Problems
	err := a.withPackage(ctx, name, func(p *apk.Package, root *os.Root) error {
		all, err := check.Run(check.Package{Name: p.Info.Name, Arch: p.Info.Arch, Files: root.FS()})
		found = check.Judge(all, name, policy, map[string]check.Case{p.Info.Name: embeddedCase(p)})
		return err
	})
	return found, err
}

// withPackage unpacks a package file into a folder for as long as do works. Every digest
// in it is checked; whose it is is not.
func (a *app) withPackage(ctx context.Context, name string, do func(p *apk.Package, root *os.Root) error) error {
	st, err := a.openStore()
	if err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return usagef("%v", err)
	}
	defer f.Close()
	dir, release, err := st.TempDir("package")
	if err != nil {
		return err
	}
	defer release()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := environment.ExtractWithModes(ctx, root, f); err != nil {
		return &codeError{exitTrust, fmt.Errorf("read package %s: %w", name, err)}
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return &codeError{exitTrust, fmt.Errorf("read package %s: %w", name, err)}
	}
	return do(p, root)
}

// embeddedCase is what the recipe inside a package says to the rules. Packages of tarn
// hold no tests, since these decide nothing about them: then none is asked for.
func embeddedCase(p *apk.Package) check.Case {
	type test struct {
		Pipeline []struct {
			Uses string `yaml:"uses"`
			Runs string `yaml:"runs"`
		} `yaml:"pipeline"`
	}
	type one struct {
		Name   string `yaml:"name"`
		Checks struct {
			Disabled []string `yaml:"disabled"`
		} `yaml:"checks"`
		Test *test `yaml:"test"`
	}
	var r struct {
		Package     one   `yaml:"package"`
		Test        *test `yaml:"test"`
		Subpackages []one `yaml:"subpackages"`
	}
	// Who made the package wrote this file, in a form that need not be ours.
	if yaml.Unmarshal(p.Control[".melange.yaml"], &r) != nil {
		return check.Case{NoTests: true}
	}
	r.Package.Test = r.Test
	c := check.Case{NoTests: true}
	for _, sub := range append([]one{r.Package}, r.Subpackages...) {
		if sub.Test != nil {
			c.NoTests = false
		}
		if sub.Name != p.Info.Name {
			continue
		}
		c.Disabled = sub.Checks.Disabled
		if sub.Test != nil {
			for _, step := range sub.Test.Pipeline {
				c.Tests = append(c.Tests, check.TestStep{Uses: step.Uses, Shell: step.Runs})
			}
		}
	}
	return c
}

// ruleFlags move rules from the severity that they have by themselves.
type ruleFlags struct{ require, warn, off []string }

func (f *ruleFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.require, "lint-require", nil, "rules whose findings are errors")
	flags.StringSliceVar(&f.warn, "lint-warn", nil, "rules whose findings are warnings")
	flags.StringSliceVar(&f.off, "lint-off", nil, "rules that are not looked for")
}

// policy is what the flags say of rules, and the workspace where they say nothing.
func (f *ruleFlags) policy(ws *workspace) (diag.Policy, error) {
	policy, problems := checkPolicy(diag.Policy{Require: f.require, Warn: f.warn, Off: f.off}, func(list string, _ int, hint, text string) error {
		if hint != "" {
			hint = "\n  hint: " + hint
		}
		return usagef("--lint-%s: %s%s", list, text, hint)
	})
	if len(problems) > 0 {
		return policy, problems[0]
	}
	return policy.Over(ws.Lint), nil
}

// checkPolicy gives a policy with the names that tarn has for rules, and what tell makes
// of names that no rule has, that stand in two lists, or whose rule can't be moved.
func checkPolicy[T any](p diag.Policy, tell func(list string, i int, hint, text string) T) (diag.Policy, []T) {
	var told []T
	seen := map[string]string{}
	check := func(list string, names []string) []string {
		var known []string
		for i, name := range names {
			rule, canMove, found := findRule(name)
			switch {
			case !found:
				hint := diag.DidYouMean(name, ruleNames())
				if hint == "" {
					hint = "tarn lint --explain lists the rules"
				}
				told = append(told, tell(list, i, hint, fmt.Sprintf("unknown rule %q", name)))
			case !canMove:
				told = append(told, tell(list, i, "", fmt.Sprintf("rule %q can't be moved: reading a recipe refuses it", name)))
			case seen[rule] != "" && seen[rule] != list:
				told = append(told, tell(list, i, "", fmt.Sprintf("rule %q stands in %s as well", name, seen[rule])))
			default:
				seen[rule] = list
				known = append(known, rule)
			}
		}
		return known
	}
	return diag.Policy{Require: check("require", p.Require), Warn: check("warn", p.Warn), Off: check("off", p.Off)}, told
}

// findRule finds a rule for packages or for recipes by its name.
func findRule(name string) (rule string, canMove, found bool) {
	if slices.Contains(check.Names(), name) {
		return name, true, true
	}
	r, found := recipes.FindRule(name)
	return r.Name, r.CanMove(), found
}

func ruleNames() []string {
	names := check.Names()
	for _, r := range recipes.Rules {
		names = append(names, r.Name)
	}
	return names
}

// ruleRow is a rule in the list of all.
type ruleRow struct {
	Name     string        `json:"name"`
	Severity diag.Severity `json:"severity"`
	About    string        `json:"about"` // recipe or package
	Reason   string        `json:"reason"`
	Example  string        `json:"example,omitempty"`
	Instead  string        `json:"instead"`
}

func allRules() []ruleRow {
	byName := map[string]ruleRow{}
	for _, r := range recipes.Rules {
		byName["recipe "+r.Name] = ruleRow{r.Name, r.Severity, "recipe", r.Reason, r.Example, r.Instead}
	}
	for _, r := range check.All {
		byName["package "+r.Name] = ruleRow{r.Name, r.Severity, "package", r.Why, r.Example, r.Instead}
	}
	var rows []ruleRow
	for _, key := range slices.Sorted(maps.Keys(byName)) {
		rows = append(rows, byName[key])
	}
	return rows
}

// listRules lists all rules with their severities.
func (a *app) listRules() error {
	rows := allRules()
	if a.json {
		return a.printJSON(rows)
	}
	for _, about := range []string{"recipe", "package"} {
		lines := [][]string{{"rules for " + about + "s", "", ""}}
		for _, r := range rows {
			if r.About == about {
				reason, _, _ := strings.Cut(strings.TrimSuffix(r.Reason, "."), ". ")
				lines = append(lines, []string{r.Name, r.Severity.String(), shorten(reason, 90)})
			}
		}
		table(a.out, nil, lines)
		fmt.Fprintln(a.out)
	}
	fmt.Fprintln(a.out, "tarn lint --explain RULE tells more of one.")
	return nil
}

// shorten cuts a text at a word, to at most so many letters.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = text[:most]
	return text[:max(strings.LastIndexByte(text, ' '), 1)] + " ..."
}

func (a *app) explainRule(name string) error {
	rule, _, found := findRule(name)
	if !found {
		hint := diag.DidYouMean(name, ruleNames())
		if hint == "" {
			hint = "tarn lint --explain lists the rules"
		}
		return usagef("unknown rule %q\n  hint: %s", name, hint)
	}
	if a.json {
		rows := allRules()
		return a.printJSON(rows[slices.IndexFunc(rows, func(r ruleRow) bool { return r.Name == rule })])
	}
	i := slices.IndexFunc(check.All, func(r check.Rule) bool { return r.Name == rule })
	if i < 0 {
		fmt.Fprintln(a.out, recipes.ExplainRule(rule))
		return nil
	}
	r := check.All[i]
	fmt.Fprintf(a.out, "%s (%s)\n  why:     %s\n", r.Name, r.Severity, r.Why)
	if r.Example != "" {
		fmt.Fprintf(a.out, "  finds:   %s\n", r.Example)
	}
	fmt.Fprintf(a.out, "  instead: %s\n", r.Instead)
	return nil
}
