package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/build/graph"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

type buildOptions struct {
	lineFlags
	ruleFlags
	signingFlags
	outDir    string
	jobs      int
	cpus      int
	again     bool
	noPublish bool

	fromStep    string
	interactive bool
	keepWork    bool
	dryRun      bool
}

func (a *app) buildCommand() *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "build [RECIPE...]",
		Short: "build recipes and what they need, and publish the packages",
		Long: `build makes packages of the named recipes (by name, by file, or by the name of one
of their packages; all when none is named) and of the recipes that they need.

What the store knows is not built again. The packages are signed and published to
the workspace's repository; outside a workspace they go to --out-dir.`,
		ValidArgsFunction: a.completeRecipes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runBuild(cmd.Context(), o, args) },
	}
	o.lineFlags.add(cmd)
	o.addLimits(cmd)
	o.ruleFlags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.outDir, "out-dir", "", "the repository to publish to (default: the workspace's, else ./packages)")
	o.signingFlags.add(f, "the private key that signs, or exec:NAME.rsa.pub PROGRAM ARGUMENT...; several all sign (default: the workspace's own)")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "how many recipes to build at once (default: one for each processor)")
	f.IntVar(&o.cpus, "cpus", 0, "how many processors a build sees (default: all)")
	f.BoolVar(&o.again, "again", false, "build the named recipes although the store knows the outcome, and remember nothing")
	f.BoolVar(&o.noPublish, "no-publish", false, "leave the packages in the store")
	f.StringVar(&o.fromStep, "from-step", "", "go on with this step in the sandbox that is kept of the recipe's failed build: a number from 1, or a place such as pipeline/3")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "when a step fails, open a shell in its sandbox, then ask: retry, go on, abort")
	f.BoolVar(&o.keepWork, "keep-work", false, "keep the sandbox of a build that succeeds too, for tarn shell")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be built, and do nothing")
	return cmd
}

// buildRow is one line of the result.
type buildRow struct {
	Recipe   string       `json:"recipe"`
	State    string       `json:"state"` // built, cached, failed, skipped, stopped
	Seconds  float64      `json:"seconds"`
	Packages []packageRow `json:"packages,omitempty"`
	Error    string       `json:"error,omitempty"`
	err      error
	duration time.Duration
}

type packageRow struct {
	Name    string      `json:"name"`
	Version apk.Version `json:"version"`
	Arch    apk.Arch    `json:"arch"`
	Files   int         `json:"files"`
	Size    int64       `json:"size"`
	Digest  string      `json:"digest"` // of the unsigned package
}

func (a *app) runBuild(ctx context.Context, o buildOptions, names []string) error {
	return eachArch(o.arches, func(arch apk.Arch) error { return a.buildArch(ctx, o, arch, names) })
}

func (a *app) buildArch(ctx context.Context, o buildOptions, arch apk.Arch, names []string) error {
	l, wanted, err := a.openLine(ctx, &o.lineFlags, arch, names)
	if err != nil {
		return err
	}
	if l.rules, err = o.policy(l.ws); err != nil {
		return err
	}
	wanted = append(wanted, l.wantedBroken...)
	if o.dryRun {
		return l.dryRun(ctx, wanted)
	}
	if o.fromStep != "" && len(names) != 1 {
		return usagef("--from-step goes on with one recipe: name it")
	}
	l.named = wanted
	var publisher *publisher
	if !o.noPublish {
		if publisher, err = l.newPublisher(o.outDir, &o.signingFlags); err != nil {
			return err
		}
	}
	rows, buildErr := l.build(ctx, o, wanted)
	if publisher != nil {
		// What was built is published although something else failed.
		if err := publisher.publish(context.WithoutCancel(ctx), l); err != nil {
			return errors.Join(buildErr, err)
		}
	}
	if err := l.printBuild(rows); err != nil {
		return err
	}
	return buildErr
}

// build walks the graph of the wanted recipes. The error joins those of all recipes.
func (l *line) build(ctx context.Context, o buildOptions, wanted []string) ([]buildRow, error) {
	part := l.graph.Only(wanted...)
	t := newTrace(l.traceFile)
	p := l.newProgress(len(part.Order()), t)
	if err := l.openBuilder(p, o.cpus); err != nil {
		p.close()
		return nil, err
	}
	l.builder.Again, l.builder.KeepWork, l.fromStep = o.again, o.keepWork, o.fromStep
	if o.interactive {
		var err error
		if l.builder.OnFailure, err = l.askOnFailure(); err != nil {
			p.close()
			return nil, err
		}
		o.jobs = 1 // one shell at a time
	}
	if l.debug {
		l.builder.Output = p
	}
	jobs := o.jobs
	if jobs <= 0 {
		jobs = defaultJobs()
	}
	failed := part.Walk(ctx, jobs, func(ctx context.Context, s *recipes.Script) error { return l.buildOne(ctx, s) })
	p.close()
	if err := t.write(); err != nil {
		return nil, err
	}
	var rows []buildRow
	var errs []error
	for _, name := range part.Order() {
		row := buildRow{Recipe: name, State: "built", err: failed[name]}
		if r := l.built.Result(name); r != nil {
			row.duration, row.Seconds = r.Duration, r.Duration.Seconds()
			if r.Cached {
				row.State = "cached"
			}
			for _, p := range r.Packages {
				row.Packages = append(row.Packages, packageRow{p.Entry.Name, p.Entry.Version, p.Entry.Arch, p.Files, p.Entry.FileSize, string(p.Digest)})
			}
		}
		if row.err != nil {
			row.State, row.Error = "failed", row.err.Error()
			skipped, isSkipped := errors.AsType[*graph.SkippedError](row.err)
			switch {
			case isStopped(ctx, row.err), isSkipped && isStopped(ctx, failed[skipped.Because]):
				row.State, row.Error = "stopped", ""
				errs = append(errs, context.Cause(ctx))
			case isSkipped:
				row.State = "skipped"
			default:
				errs = append(errs, &shownError{row.err})
			}
		}
		rows = append(rows, row)
	}
	return rows, errors.Join(errs...)
}

// isStopped tells whether an error is that the run was stopped, and not its own.
func isStopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Cause(ctx))
}

// buildOne plans and builds one recipe whose needs are built, and tells of it.
func (l *line) buildOne(ctx context.Context, s *recipes.Script) error {
	if err := l.broken[s.Name]; err != nil {
		l.progress.finish(s.Name, s.Name+": not built: its recipe has mistakes")
		return err
	}
	p, err := l.plan(ctx, s)
	var result *build.Result
	if err == nil {
		b := *l.builder
		if slices.Contains(l.named, s.Name) {
			b.From = l.fromStep
		} else {
			b.Again, b.KeepWork = false, false // what the named ones need is good as it is
		}
		result, err = b.Build(ctx, p)
	}
	if err != nil {
		if ctx.Err() != nil {
			l.progress.finish(s.Name, "")
			return context.Cause(ctx)
		}
		text := s.Name + ": failed"
		if !l.findingsLater || !is[*build.CheckError](err) {
			text += "\n" + l.told(err)
		}
		l.progress.finish(s.Name, text)
		return err
	}
	l.built.Add(s.Name, result)
	text := ""
	if !result.Cached {
		text = fmt.Sprintf("%s: built %s in %s", s.Name, s.Version, shortDuration(result.Duration))
	}
	if result.Touched {
		text += "\n  not remembered and not published: it was resumed or looked into\n  hint: tarn build " + s.Name + " builds it as the recipe says"
	}
	if result.Work != "" {
		text += "\n  work folder: " + result.Work + "\n  look inside: tarn shell " + s.Name
	}
	for _, problem := range result.Findings {
		// What a recipe allows itself is a note, which lint tells.
		if !result.Cached && !l.findingsLater && problem.Severity != diag.Note {
			text += "\n" + problem.Error()
		}
	}
	l.progress.finish(s.Name, text)
	return nil
}

// defaultJobs is how many recipes are built at once. Each also runs make side by side,
// which fills the processors while another one is in its configure script.
func defaultJobs() int { return runtime.NumCPU() }

func (l *line) printBuild(rows []buildRow) error {
	if l.json {
		return l.printJSON(rows)
	}
	count := map[string]int{}
	lines := [][]string{{"recipe", "state", "packages", "files", "size", "time"}}
	for _, row := range rows {
		count[row.State]++
		files, size := 0, int64(0)
		for _, p := range row.Packages {
			files, size = files+p.Files, size+p.Size
		}
		cells := []string{row.Recipe, row.State, strconv.Itoa(len(row.Packages)), strconv.Itoa(files), shortSize(size), shortDuration(row.duration)}
		if row.err != nil {
			cells = []string{row.Recipe, row.State}
		}
		lines = append(lines, cells)
	}
	table(l.out, map[int]bool{2: true, 3: true, 4: true, 5: true}, lines)
	summary := fmt.Sprintf("built %d, cached %d", count["built"], count["cached"])
	for _, state := range []string{"failed", "skipped", "stopped"} {
		if count[state] > 0 {
			summary += fmt.Sprintf(", %s %d", state, count[state])
		}
	}
	fmt.Fprintln(l.out, summary)
	return nil
}

// publisher puts packages into a repository. It is opened before anything is built,
// so that a missing key is told first.
type publisher struct {
	dir     string
	keys    []sign.Signer
	trusted *sign.Keyring
}

func (l *line) newPublisher(outDir string, f *signingFlags) (*publisher, error) {
	p := &publisher{dir: outDir}
	switch {
	case outDir != "":
	case l.ws.isReal():
		p.dir = l.ws.path(l.ws.Packages)
	default:
		p.dir = "packages"
	}
	var err error
	if p.keys, err = l.openSigners(l.ws, f); err != nil {
		return nil, err
	}
	p.trusted, err = publicHalves(p.keys)
	return p, err
}

// publish puts the packages of every recipe that was built or recalled into the repository.
func (p *publisher) publish(ctx context.Context, l *line) error {
	var packages []repo.Unsigned
	for _, name := range l.graph.Order() {
		if r := l.built.Result(name); r != nil && !r.Touched {
			for _, one := range r.Packages {
				packages = append(packages, repo.Unsigned{Entry: one.Entry, Digest: one.Digest})
			}
		}
	}
	if len(packages) == 0 {
		return nil
	}
	// It is the workspace's own: what was built anew takes the place of what was there,
	// and a damaged index is made anew.
	to := repo.Publisher{Storage: repo.Folder(p.dir), Name: relative(p.dir), Store: l.store, Keys: signers(p.keys), Trusted: p.trusted, Replace: true, Rebuild: true}
	published, err := to.Publish(ctx, packages)
	if err != nil {
		return err
	}
	for _, w := range published.Withheld {
		fmt.Fprintf(l.err, "not published, it was withdrawn: %s\n", w)
	}
	if n := len(published.Written); n > 0 {
		fmt.Fprintf(l.err, "published %s to %s\n", plural(n, "package"), relative(p.dir))
	}
	return nil
}
