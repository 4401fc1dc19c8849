package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/recipes"
)

type testOptions struct {
	lineFlags
	jobs  int
	again bool
}

func (a *app) testCommand() *cobra.Command {
	var o testOptions
	cmd := &cobra.Command{
		Use:   "test [RECIPE...]",
		Short: "test packages, each in a fresh sandbox with what it depends on",
		Long: `test builds the named recipes (all when none is named) if the store does not know
them, then runs the test of each of their packages in a fresh sandbox that holds
just the package, its dependencies and what the test needs, without network.

A package without a test is reported as untested, never as passed.`,
		ValidArgsFunction: a.completeRecipes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runTest(cmd.Context(), o, args) },
	}
	o.add(cmd)
	o.addLimits(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&o.testPackages, "test-package-append", nil, "a package that joins the environment of every test")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "how many at once (default: one for each processor)")
	f.BoolVar(&o.again, "again", false, "test although the store knows that it passed")
	return cmd
}

// testRow is one line of the result.
type testRow struct {
	Package     string   `json:"package"`
	Recipe      string   `json:"recipe"`
	State       string   `json:"state"` // passed, cached, failed, untested, skipped, stopped
	Seconds     float64  `json:"seconds"`
	Environment []string `json:"environment,omitempty"`
	Error       string   `json:"error,omitempty"`
}

func (a *app) runTest(ctx context.Context, o testOptions, names []string) error {
	return eachArch(o.arches, func(arch apk.Arch) error { return a.testArch(ctx, o, arch, names) })
}

func (a *app) testArch(ctx context.Context, o testOptions, arch apk.Arch, names []string) error {
	l, wanted, err := a.openLine(ctx, &o.lineFlags, arch, names)
	if err != nil {
		return err
	}
	// A test may need packages of recipes that its own recipe does not need.
	needed := slices.Clone(wanted)
	needs := map[string][]string{}
	for _, name := range wanted {
		needs[name] = append(l.testNeeds(l.graph.Script(name)), name)
		needed = append(needed, needs[name]...)
	}
	built, buildErr := l.build(ctx, buildOptions{jobs: o.jobs}, needed)
	if buildErr != nil && (built == nil || ctx.Err() != nil) {
		return buildErr
	}
	// What was not built keeps only those from being tested that need it.
	var rows []testRow
	ready := slices.Clone(wanted)
	for _, row := range built {
		if row.err == nil {
			continue
		}
		ready = slices.DeleteFunc(ready, func(name string) bool {
			if !slices.Contains(needs[name], row.Recipe) {
				return false
			}
			for _, p := range l.graph.Script(name).Packages {
				rows = append(rows, testRow{Package: p.Name, Recipe: name, State: "skipped", Error: row.Recipe + " was not built"})
			}
			return true
		})
	}
	needed = ready
	for _, name := range ready {
		needed = append(needed, needs[name]...)
	}
	tested, err := l.test(ctx, o, ready, needed)
	return errors.Join(l.printTest(append(tested, rows...)), buildErr, err)
}

// testNeeds are the recipes whose packages the tests of a script ask for, and those
// that its packages declare to need when they run.
func (l *line) testNeeds(s *recipes.Script) []string {
	var names []string
	for i := range s.Packages {
		o := &s.Packages[i]
		for _, d := range o.Runtime {
			names = append(names, d.Name)
		}
		if o.Test != nil {
			for _, need := range o.Test.Environment.Packages {
				names = append(names, need.Name)
			}
		}
	}
	return l.graph.Serving(names...)
}

func (l *line) test(ctx context.Context, o testOptions, wanted, needed []string) ([]testRow, error) {
	p := l.newProgress(0, nil)
	if err := l.openBuilder(p, 0); err != nil {
		p.close()
		return nil, err
	}
	l.builder.Again = o.again
	if l.debug {
		l.builder.Output = p
	}
	jobs := o.jobs
	if jobs <= 0 {
		jobs = defaultJobs()
	}
	type task struct {
		script *recipes.Script
		output *recipes.Output
	}
	var tasks []task
	for _, name := range wanted {
		s := l.graph.Script(name)
		for i := range s.Packages {
			tasks = append(tasks, task{s, &s.Packages[i]})
		}
	}
	p.total = len(tasks)
	rows := make([]testRow, len(tasks))
	var mu sync.Mutex
	var errs []error
	var group sync.WaitGroup
	slots := make(chan struct{}, jobs)
	for i, t := range tasks {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			row, err := l.testOne(ctx, t.script, t.output, needed)
			rows[i] = row
			if err != nil {
				mu.Lock()
				errs = append(errs, &shownError{err})
				mu.Unlock()
			}
		})
	}
	group.Wait()
	p.close()
	if err := ctx.Err(); err != nil {
		return rows, err
	}
	return rows, errors.Join(errs...)
}

func (l *line) testOne(ctx context.Context, s *recipes.Script, o *recipes.Output, needed []string) (testRow, error) {
	row := testRow{Package: o.Name, Recipe: s.Name, State: "untested"}
	if o.Test == nil || len(o.Test.Steps) == 0 {
		l.progress.finish(o.Name, "")
		return row, nil
	}
	result, err := l.runOneTest(ctx, s, o, needed)
	if err != nil && ctx.Err() != nil {
		row.State = "stopped"
		l.progress.finish(o.Name, "")
		return row, context.Cause(ctx)
	}
	if err != nil {
		row.State, row.Error = "failed", err.Error()
		l.progress.finish(o.Name, o.Name+": test failed\n"+err.Error())
		return row, err
	}
	row.State, row.Seconds, row.Environment = "passed", result.Duration.Seconds(), result.Environment
	if result.Cached {
		row.State = "cached"
	}
	l.progress.finish(o.Name, "")
	return row, nil
}

func (l *line) runOneTest(ctx context.Context, s *recipes.Script, o *recipes.Output, needed []string) (*build.TestResult, error) {
	set := l.environmentSources(s.Name)
	set[0] = l.built.Of(l.graph.Only(needed...).Order()...)
	lock, err := set.Resolve(ctx, l.arch, plan.TestWorld(s, o), solve.Options{AnyRevision: true})
	if err != nil {
		return nil, fmt.Errorf("%s: test environment of %s: %w%s", s.Recipe, o.Name, err, trustHint(&o.Test.Environment))
	}
	return l.builder.Test(ctx, s, o, lock)
}

func (l *line) printTest(rows []testRow) error {
	if l.json {
		return l.printJSON(rows)
	}
	count := map[string]int{}
	lines := [][]string{{"package", "test", "time"}}
	for _, row := range rows {
		count[row.State]++
		lines = append(lines, []string{row.Package, row.State, shortDuration(time.Duration(row.Seconds * float64(time.Second)))})
	}
	table(l.out, map[int]bool{2: true}, lines)
	summary := fmt.Sprintf("passed %d, cached %d, failed %d, untested %d", count["passed"], count["cached"], count["failed"], count["untested"])
	for _, state := range []string{"skipped", "stopped"} {
		if count[state] > 0 {
			summary += fmt.Sprintf(", %s %d", state, count[state])
		}
	}
	fmt.Fprintln(l.out, summary)
	return nil
}
