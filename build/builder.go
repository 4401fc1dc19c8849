package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/source/prefetch"
	"github.com/tarn-build/tarn/build/step"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
)

// Builder carries out plans. What is in it decides nothing about the outcome.
type Builder struct {
	Store   *store.Store
	Sources *source.Fetcher
	Sandbox sandbox.Backend
	// Logs is the folder that gets a log a build, NAME.log and NAME.test.log.
	Logs string
	// Output gets what commands print, each line with the recipe's name before it; may be nil.
	Output io.Writer
	// Report is told what a build is doing, from several goroutines; may be nil.
	Report func(Event)
	// Rules moves rules for packages from the severity that they have by themselves.
	Rules diag.Policy
	// CPUs is how many processors a sandbox sees; 0 is all.
	CPUs int
	// Limits bound each sandbox. What is 0 is as the recipe's resources say, else the
	// sandbox's default.
	Limits sandbox.Limits
	// From is the step to go on with in the sandbox that is kept of a build that failed:
	// a number from 1 on, or a place such as pipeline/3. "" builds from the start.
	From string
	// OnFailure is asked what to do when a step failed; nil fails the build. What somebody
	// touched is not remembered.
	OnFailure func(ctx context.Context, p *Pause) (Choice, error)
	// KeepWork keeps the sandbox of a build that succeeded too.
	KeepWork bool
	// Exceptions are the permissions to use the network, by recipe, that a workspace gives;
	// they count for plans that are Online.
	Exceptions map[string]*sandbox.Access
	// Again builds although the store knows the outcome, and remembers nothing.
	Again bool
}

// Event is a step of the work on one recipe.
type Event struct {
	Recipe string
	Stage  string // "fetch", "environment", "run", "pack", "test"
	Detail string // e.g. the name of the step
}

func (b *Builder) report(recipe, stage, detail string) {
	if b.Report != nil {
		b.Report(Event{recipe, stage, detail})
	}
}

// Build carries out one plan, or recalls what it gave. Read it from top to bottom:
// it is the whole story.
func (b *Builder) Build(ctx context.Context, p *plan.Plan) (*Result, error) {
	s := p.Script
	if s.Network != "" && p.Online == "" {
		return nil, &PolicyError{s.Recipe, fmt.Sprintf("%s asks for the network while it builds: %s", s.Name, s.Network)}
	}
	if result, err := b.recall(p.ID()); err != nil {
		return nil, err
	} else if result != nil && b.From == "" {
		return b.judge(s, result)
	}
	if p.Online != "" && b.Sources.Offline {
		return nil, &NotPrefetchedError{fmt.Errorf("%s: %s builds with the network (%s): %w", s.Recipe, s.Name, p.Online, prefetch.ErrOffline)}
	}
	start := time.Now()
	b.report(s.Name, "fetch", "")
	if err := source.FetchAll(ctx, b.Sources, s); err != nil {
		return nil, err
	}
	b.report(s.Name, "environment", fmt.Sprintf("%d packages", len(p.Environment)))
	env, err := environment.Assemble(ctx, b.Store, p.Environment, environment.Options{Arch: s.Arch, Accounts: s.Environment.Accounts})
	if err != nil {
		return nil, err
	}
	if err := b.prefetched(ctx, p, env); err != nil {
		return nil, err
	}
	work, done, err := b.openWork(s)
	if err != nil {
		return nil, err
	}
	defer work.release()
	log, err := openLog(b.Logs, s.Name+".log", b.Output)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	log.hide = secretsOf(s.Environment.Given)
	spec, err := b.spec(s, s.Resources, env, work)
	if err != nil {
		return nil, err
	}
	if p.Online != "" {
		spec.Network = b.Exceptions[s.Name]
	}
	box, err := b.Sandbox.Open(ctx, spec)
	if err != nil {
		return nil, err
	}
	defer box.Close()
	r := b.runner(s, env, box, work, log)
	r.name, r.spec, r.given, r.touched = s.Name, spec, s.Environment.Given, b.From != ""
	r.owners, r.online = b.ownersOf(work, spec), p.Online
	// Whatever happens, nothing stays that the caller could not remove.
	defer func() { _ = r.owners.take(context.WithoutCancel(ctx)) }()
	if err := r.runAll(ctx, p, done); err != nil {
		return nil, err
	}
	if err := box.Close(); err != nil {
		return nil, err
	}
	owners, err := r.owners.final(ctx)
	if err != nil {
		return nil, err
	}
	if err := work.unlock(); err != nil {
		return nil, err
	}
	b.report(s.Name, "pack", fmt.Sprintf("%d packages", len(s.Packages)))
	result, err := b.pack(ctx, p, env, work, owners)
	if err != nil {
		return nil, err
	}
	result.Duration = time.Since(start)
	if result.Touched = r.touched; !r.touched {
		if err := b.remember(p.ID(), result); err != nil {
			return nil, err
		}
	}
	if err := r.tidy(result); err != nil {
		return nil, err
	}
	return b.judge(s, result)
}

// runAll does the steps of every package in turn, in one sandbox and one work folder.
// The first ones are done already when the work folder is that of an earlier build.
func (r *runner) runAll(ctx context.Context, p *plan.Plan, done int) error {
	ctx, cancel := withTimeout(ctx, r.script)
	defer cancel()
	if !r.work.kept {
		if err := placeFiles(r.work.root, p, r.Sources); err != nil {
			return err
		}
	}
	if err := r.placePrefetched(ctx, p); err != nil {
		return err
	}
	r.setEpoch()
	number := 0
	for i := range r.script.Packages {
		o := &r.script.Packages[i]
		if err := r.owners.take(ctx); err != nil {
			return err
		}
		if err := r.work.unlock(); err != nil {
			return err
		}
		if err := r.work.root.MkdirAll(step.OutPath+"/"+o.Name, 0o755); err != nil {
			return err
		}
		for _, s := range o.Steps {
			if number++; number <= done {
				continue
			}
			r.report(r.script.Name, "run", s.Name)
			if err := r.attempt(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeFiles puts into the work folder what starts in it.
func placeFiles(root *os.Root, p *plan.Plan, f *source.Fetcher) error {
	if err := source.PlaceFiles(root, p.Script, f); err != nil {
		return err
	}
	return placeCompilerFiles(root, p)
}

// setEpoch tells steps the time that all files get, unless the recipe says another one.
func (r *runner) setEpoch() {
	if _, given := r.env["SOURCE_DATE_EPOCH"]; !given {
		r.env["SOURCE_DATE_EPOCH"] = fmt.Sprint(r.script.Time)
	}
}

// attempt does a step; when it fails, somebody may look and choose. A sandbox whose
// build fails is kept, unless the whole run was stopped.
func (r *runner) attempt(ctx context.Context, s recipes.Step) error {
	for {
		err := r.run(ctx, s)
		failure, failed := errors.AsType[*StepError](err)
		if !failed || errors.Is(context.Cause(ctx), context.Canceled) {
			return err
		}
		if r.OnFailure != nil {
			r.touched = true
			choice, err := r.OnFailure(ctx, &Pause{Err: failure, Step: s, Env: r.environment(s), Dir: stepDir(s), Box: r.box})
			switch {
			case err != nil:
				return errors.Join(failure, err)
			case choice == Retry:
				continue
			case choice == Next:
				return nil
			}
		}
		if err := r.owners.take(context.WithoutCancel(ctx)); err != nil {
			return errors.Join(failure, err)
		}
		if _, err := r.keep(s, failure.Err); err == nil {
			failure.Inside = "tarn shell " + r.name
			if r.test {
				failure.Inside = "tarn shell --test " + r.name
			}
		}
		return failure
	}
}

// tidy removes what is kept of earlier builds that failed, once one has succeeded that
// nobody touched, and keeps this one when that is asked for.
func (r *runner) tidy(result *Result) error {
	kind := keptBuilds
	if r.test {
		kind = keptTests
	}
	if !r.touched {
		if err := r.Store.Unkeep(kind, r.name); err != nil {
			return err
		}
	}
	if !r.KeepWork || result == nil {
		return nil
	}
	k, err := r.keep(recipes.Step{}, nil)
	if err != nil {
		return err
	}
	result.Work = k.Work()
	return nil
}

// withTimeout ends what takes longer than a recipe allows its build, and each of its tests.
func withTimeout(ctx context.Context, s *recipes.Script) (context.Context, context.CancelFunc) {
	if s.Timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, s.Timeout, fmt.Errorf("%s: limit reached: time (%s)", s.Name, s.Timeout))
}

// work is the folder of the host that is /home/build inside.
type work struct {
	dir     string
	root    *os.Root
	release func()
	kept    bool // it is that of an earlier build, and stays
}

// newWork makes a work folder within one that nobody else of this machine may enter: a
// step of root's could leave a setuid program in it.
func (b *Builder) newWork(recipe string) (*work, error) {
	outer, release, err := b.Store.TempDir("work-" + recipe)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(outer, homeFolder)
	err = os.Chmod(outer, 0o700)
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	var root *os.Root
	if err == nil {
		root, err = os.OpenRoot(dir)
	}
	if err != nil {
		release()
		return nil, err
	}
	return &work{dir, root, func() { root.Close(); release() }, false}, nil
}

// openWork gives the work folder of a build, and how many steps are done in it.
func (b *Builder) openWork(s *recipes.Script) (*work, int, error) {
	if b.From == "" {
		w, err := b.newWork(s.Name)
		return w, 0, err
	}
	done, err := stepNumber(s, b.From)
	if err != nil {
		return nil, 0, &FromError{err}
	}
	k, err := FindKept(b.Store, s.Name, false)
	if err != nil {
		return nil, 0, err
	}
	if k == nil {
		return nil, 0, &FromError{fmt.Errorf("no sandbox of %s is kept\n  hint: one is when a build fails, or with --keep-work", s.Name)}
	}
	root, err := os.OpenRoot(k.Work())
	if err != nil {
		return nil, 0, err
	}
	return &work{k.Work(), root, func() { root.Close() }, true}, done, nil
}

// unlock makes the work folder one that its owner can go into: a step may have left
// it as something else, which would stop an ordinary user and not root.
func (w *work) unlock() error { return os.Chmod(w.dir, 0o755) }

// spec is the sandbox of a recipe's build or test.
func (b *Builder) spec(s *recipes.Script, r *recipes.Resources, env *environment.Environment, w *work) (sandbox.Spec, error) {
	limits, cpus, err := b.limits(s.Recipe, r)
	spec := sandbox.Spec{Layers: env.Layers, Work: w.dir, UID: env.UID, GID: env.GID, CPUs: cpus, Limits: limits, Capabilities: plan.Capabilities(s)}
	b.letGive(s, &spec)
	return spec, err
}

// own gives what lies in the work folder to the user that commands run as. Only root
// of the host has several to choose from; else that user is the caller.
func (w *work) own(uid, gid int) error {
	if uid == 0 || os.Geteuid() != 0 {
		return nil
	}
	return fs.WalkDir(w.root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return w.root.Lchown(name, uid, gid)
	})
}

// runner runs steps in an open sandbox.
type runner struct {
	*Builder
	script *recipes.Script
	env    map[string]string
	user   *environment.Environment
	work   *work
	box    sandbox.Sandbox
	log    *logFile
	native step.Context

	// What a sandbox is kept with.
	name    string // of the recipe, or of the package that is tested
	test    bool
	spec    sandbox.Spec
	given   map[string]string // of files that may hold secrets
	owners  *owners           // nil in a test
	touched bool              // somebody did more than the recipe says

	prefetched *prefetch.Entry // what the work folder has of it
	online     string          // why there is a network
}

func (b *Builder) runner(s *recipes.Script, env *environment.Environment, box sandbox.Sandbox, w *work, log *logFile) *runner {
	r := &runner{Builder: b, script: s, env: baseEnvironment(s), user: env, work: w, box: box, log: log}
	r.native = step.Context{Work: w.root, Sources: b.Sources, Log: log, Main: s.Name, Arch: s.Arch, Time: time.Unix(s.Time, 0)}
	return r
}

// run does one step and says of a failure all that helps.
func (r *runner) run(ctx context.Context, s recipes.Step) error {
	r.log.begin(s.At, s.Name)
	start := time.Now()
	room := watchRoom(r.Store.Dir())
	err := r.do(ctx, s)
	if full := room.end(); full && err == nil {
		err = errRoom
	}
	defer func() { r.log.end(s.At, err, time.Since(start)) }()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	hint := r.hint(s, err)
	if hint == "" {
		hint, err = r.unfetched(s, err)
	}
	command := r.log.command()
	if one := strings.TrimSpace(s.Shell); command == "" && !strings.Contains(one, "\n") {
		command = printable([]byte(one))
	}
	return &StepError{
		Recipe: r.script.Name, File: r.script.Recipe, Line: s.Line, Step: s.Name, At: s.At,
		Command: command, Err: err, Tail: r.log.tail(), Log: r.log.path, Hint: hint,
	}
}

// do does one step.
func (r *runner) do(ctx context.Context, s recipes.Step) error {
	switch {
	case s.Native == "" && s.Shell == "" && s.Prefetch != "":
		return nil // it prefetches for later ones
	case s.Native == "" && s.Shell == "" && strings.HasPrefix(s.Dir, step.WorkPath+"/"):
		return r.native.Work.MkdirAll(strings.TrimPrefix(s.Dir, step.WorkPath+"/"), 0o755)
	case s.Native != "":
		if err := r.owners.take(ctx); err != nil {
			return err
		}
		if err := r.work.unlock(); err != nil {
			return err
		}
		return step.Do(ctx, r.native, s)
	}
	if err := r.owners.give(ctx); err != nil {
		return err
	}
	if err := r.work.own(r.user.UID, r.user.GID); err != nil {
		return err
	}
	return r.box.Run(ctx, r.shell(s))
}

// hint is the way out of a step's failure, when one is known.
func (r *runner) hint(s recipes.Step, err error) string {
	if s.Native == "" && errors.Is(err, fs.ErrNotExist) {
		return "the environment has no shell: add a package that brings one, such as busybox"
	}
	if way := r.cannotGive(); way != "" && s.Native == "" {
		return way
	}
	// Programs inside say that a disk is full in words of their own, and with an exit status.
	if free, known := roomIn(r.Store.Dir()); errors.Is(err, errRoom) || known && free < scarce {
		return fmt.Sprintf("no space is left in %s: tarn store gc --max-size SIZE", r.Store.Dir())
	}
	return ""
}

// prologue makes the working directory, which is the first argument and never
// pasted into the text, and says which command a failing script stopped at (only
// bash knows). What follows it is the recipe's own: it finds no arguments, and may set
// a trap of its own in place of this one.
const prologue = `set -eo pipefail
[ -d "$1" ] || mkdir -p "$1"
cd "$1"
shift
trap '[ $? -eq 0 ] || [ -z "${BASH_COMMAND-}" ] || printf "` + markBegin + `%s` + markEnd + `\n" "$BASH_COMMAND" >&2' EXIT
`

// script is the text of a recipe's step as the shell gets it.
func script(text string) string { return prologue + text + "\nexit 0\n" }

// stepDir is where a step works, inside.
func stepDir(s recipes.Step) string {
	if s.Dir == "" {
		return step.WorkPath
	}
	return s.Dir
}

// shell is the command that runs a step's script.
func (r *runner) shell(s recipes.Step) sandbox.Command {
	return sandbox.Command{
		Argv: []string{"/bin/sh", "-c", script(s.Shell), "sh", stepDir(s)},
		Env:  r.environment(s), Stdout: r.log, Stderr: r.log,
	}
}

// recall gives what the store remembers of a plan, if all of it is still there.
func (b *Builder) recall(id store.ActionID) (*Result, error) {
	var result Result
	if b.Again {
		return nil, nil
	}
	if found, err := b.Store.Recall(id, &result); err != nil || !found {
		return nil, err
	}
	for _, p := range result.Packages {
		if !b.Store.Has(p.Digest) {
			return nil, nil
		}
	}
	result.Cached = true
	return &result, nil
}

// Known gives what a plan gave, if the store knows it, and does nothing else.
func (b *Builder) Known(p *plan.Plan) (*Result, error) { return b.recall(p.ID()) }

func (b *Builder) remember(id store.ActionID, result *Result) error {
	if b.Again {
		return nil
	}
	return b.Store.Remember(id, result)
}
