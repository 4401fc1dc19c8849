package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/source/prefetch"
	"github.com/tarn-build/tarn/build/step"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/recipes"
)

// Prefetch fetches what package managers download for a plan, whatever its lock says,
// and gives what the lock has to say. The tree is in the store then.
func (b *Builder) Prefetch(ctx context.Context, p *plan.Plan) (*prefetch.Entry, error) {
	if err := source.FetchAll(ctx, b.Sources, p.Script); err != nil {
		return nil, err
	}
	env, err := environment.Assemble(ctx, b.Store, p.Environment, environment.Options{Arch: p.Script.Arch, Accounts: p.Script.Environment.Accounts})
	if err != nil {
		return nil, err
	}
	return b.download(ctx, p, env, time.Now().UTC().Format(time.RFC3339))
}

// Prefetched sees to it that the tree that a plan's lock names is in the store: it is
// there, or a mirror has it by its digest, or it is fetched again and comes out the same.
func (b *Builder) Prefetched(ctx context.Context, p *plan.Plan) error {
	if p.Prefetched == nil || b.Store.Has(p.Prefetched.Digest()) {
		return nil
	}
	if err := source.FetchAll(ctx, b.Sources, p.Script); err != nil {
		return err
	}
	env, err := environment.Assemble(ctx, b.Store, p.Environment, environment.Options{Arch: p.Script.Arch, Accounts: p.Script.Environment.Accounts})
	if err != nil {
		return err
	}
	return b.prefetched(ctx, p, env)
}

func (b *Builder) prefetched(ctx context.Context, p *plan.Plan, env *environment.Environment) error {
	locked := p.Prefetched
	if locked == nil || b.Store.Has(locked.Digest()) {
		return nil
	}
	name := p.Script.Name + ".prefetch.tar"
	if len(b.Sources.Mirrors) > 0 {
		if _, err := b.Sources.Fetch(ctx, source.Source{Name: name, SHA256: locked.SHA256}); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return err
		}
	}
	fail := func(from string, err error) error {
		return &source.Error{Name: name, Digest: "sha256 " + locked.SHA256, Tried: []source.Attempt{{From: from, Err: err}}}
	}
	if b.Sources.Offline {
		return fail("the store", prefetch.ErrOffline)
	}
	got, err := b.download(ctx, p, env, locked.Before)
	if err != nil {
		return err
	}
	if got.SHA256 != locked.SHA256 {
		why := fmt.Sprintf("%v", &source.MismatchError{Algorithm: "sha256", Want: locked.SHA256, Got: got.SHA256})
		for _, line := range prefetch.Differences(locked.Contents, got.Contents) {
			why += "\n" + line
		}
		return fail("the registries of this machine", fmt.Errorf("%s\n  hint: if that is as it should be: tarn fetch --update %s", why, p.Script.Name))
	}
	return nil
}

// download does the steps of a build up to the last one that wants something
// prefetched: those without a network, and before each that wants it its prefetch
// script, in a sandbox of its own. What the scripts leave goes into the store.
func (b *Builder) download(ctx context.Context, p *plan.Plan, env *environment.Environment, before string) (*prefetch.Entry, error) {
	s := p.Script
	if b.Sources.Offline {
		return nil, &prefetch.Error{Step: s.Name, Err: prefetch.ErrOffline}
	}
	ctx, cancel := withTimeout(ctx, s)
	defer cancel()
	work, err := b.newWork(s.Name)
	if err != nil {
		return nil, err
	}
	defer work.release()
	log, err := openLog(b.Logs, s.Name+".prefetch.log", b.Output)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	settings, err := prefetch.MachineSettings(prefetchTools(s))
	if err != nil {
		return nil, &prefetch.Error{Step: s.Name, Err: err}
	}
	log.hide = append(secretsOf(s.Environment.Given), registrySecrets(settings)...)
	slices.SortStableFunc(log.hide, func(a, b secret) int { return len(b.value) - len(a.value) })
	spec, err := b.spec(s, s.Resources, env, work)
	if err != nil {
		return nil, err
	}
	d := &downloading{settings: settings, before: before, contents: map[string]string{}}
	d.runner = b.runner(s, env, nil, work, log)
	d.name, d.spec, d.given, d.owners = s.Name, spec, s.Environment.Given, b.ownersOf(work, spec)
	defer func() {
		d.closeBox()
		_ = d.owners.take(context.WithoutCancel(ctx))
	}()
	if err := placeFiles(work.root, p, b.Sources); err != nil {
		return nil, err
	}
	d.setEpoch()
	if err := d.steps(ctx); err != nil {
		return nil, err
	}
	if held, err := prefetch.Find(work.root, settings.Secrets); err != nil {
		return nil, err
	} else if held != "" {
		return nil, &LeakError{Recipe: s.Recipe, File: held}
	}
	digest, size, err := prefetch.Pack(ctx, b.Store, work.root)
	if err != nil {
		return nil, err
	}
	return &prefetch.Entry{Arch: s.Arch, Version: string(s.Version.Base()), Before: before, SHA256: digest.Hex(), Size: size, Contents: d.contents}, nil
}

// LeakError says that what was prefetched tells a secret of this machine's settings.
type LeakError struct {
	Recipe string // its file
	File   string // of the tree
}

func (e *LeakError) Error() string {
	return fmt.Sprintf("%s: refused: what is prefetched holds the value of a registry's password or token, in %s\n  hint: everybody who builds with it could read it", e.Recipe, e.File)
}

// downloading is the walk over a script's steps that prefetches.
type downloading struct {
	*runner
	settings *prefetch.Settings
	before   string
	contents map[string]string
}

// prefetchTools are the package managers that the prefetch scripts of a script run.
func prefetchTools(s *recipes.Script) (names []string) {
	for _, o := range s.Packages {
		for _, one := range o.Steps {
			names = append(names, prefetch.ToolsOf(one.Prefetch)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// registrySecrets are the secrets of a machine's settings, for logs.
func registrySecrets(s *prefetch.Settings) (all secrets) {
	for _, value := range s.Secrets {
		all = append(all, secret{"registry", []byte(value)})
	}
	return all
}

// steps does the steps.
func (d *downloading) steps(ctx context.Context) error {
	left := 0
	for _, o := range d.script.Packages {
		for _, s := range o.Steps {
			if s.Prefetch != "" {
				left++
			}
		}
	}
	for _, o := range d.script.Packages {
		if left == 0 {
			return nil
		}
		if err := d.work.unlock(); err != nil {
			return err
		}
		if err := d.work.root.MkdirAll(step.OutPath+"/"+o.Name, 0o755); err != nil {
			return err
		}
		for _, s := range o.Steps {
			if s.Prefetch != "" {
				if err := d.fetch(ctx, s); err != nil {
					return err
				}
				left--
			}
			if left == 0 {
				return nil
			}
			// What a later one prefetches may depend on what this step does.
			if err := d.offline(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// offline does a step as the build will.
func (d *downloading) offline(ctx context.Context, s recipes.Step) error {
	if d.box == nil {
		box, err := d.Sandbox.Open(ctx, d.spec)
		if err != nil {
			return err
		}
		d.box = box
	}
	d.report(d.script.Name, "prefetch", s.Name)
	return d.run(ctx, s)
}

func (d *downloading) closeBox() {
	if d.box != nil {
		d.box.Close()
		d.box = nil
	}
}

// fetch runs the prefetch script of a step, and makes what it left the tree so far.
func (d *downloading) fetch(ctx context.Context, s recipes.Step) error {
	d.closeBox()
	name := cmp.Or(s.Uses, s.Name, s.At)
	d.report(d.script.Name, "prefetch", name)
	if err := d.owners.take(ctx); err != nil {
		return err
	}
	if err := d.work.unlock(); err != nil {
		return err
	}
	if err := d.work.own(d.user.UID, d.user.GID); err != nil {
		return err
	}
	d.log.begin(s.At, "prefetch of "+name)
	start := time.Now()
	o := prefetch.Online{Backend: d.Sandbox, Spec: d.spec, Settings: d.settings, Env: d.environment(s), Before: d.before, Output: d.log}
	err := o.Run(ctx, s)
	d.log.end(s.At, err, time.Since(start))
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return &StepError{
			Recipe: d.script.Name, File: d.script.Recipe, Line: s.Line, Step: name, At: s.At,
			Command: d.log.command(), Err: &prefetch.Error{Step: name, Err: err}, Tail: d.log.tail(), Log: d.log.path,
		}
	}
	if err := d.work.unlock(); err != nil {
		return err
	}
	if d.contents, err = prefetch.Normalise(d.work.root); err != nil {
		return &prefetch.Error{Step: name, Err: err}
	}
	d.settle(prefetch.Offline(d.work.root))
	return nil
}

// settle sets variables that make package managers use what was prefetched. What the
// recipe itself says counts before them.
func (r *runner) settle(env map[string]string) {
	for name, value := range env {
		if r.script.Environment.Env[name] == "" {
			r.env[name] = value
		}
	}
}

// placePrefetched puts what was prefetched for a plan into the work folder.
func (r *runner) placePrefetched(ctx context.Context, p *plan.Plan) error {
	r.prefetched = p.Prefetched
	if p.Prefetched == nil {
		return nil
	}
	if r.work.kept {
		r.settle(prefetch.Offline(r.work.root))
		return nil
	}
	env, err := prefetch.Place(ctx, r.Store, p.Prefetched, r.work.root)
	if _, wrong := diag.Of(err); wrong {
		return err
	} else if err != nil {
		return fmt.Errorf("place what was prefetched: %w", err)
	}
	r.settle(env)
	return nil
}

// NotPrefetchedError says that a step downloads what nothing was prefetched for.
type NotPrefetchedError struct{ Err error }

func (e *NotPrefetchedError) Error() string { return e.Err.Error() + "; it wants to download" }
func (e *NotPrefetchedError) Unwrap() error { return e.Err }

// wantsNetwork are words by which programs say that they could not reach a network.
var wantsNetwork = []struct {
	words string
	uses  string // the pipeline that prefetches it, where there is one
}{
	// The caches that melange's variables name are no place to write to here.
	{"go: could not create module cache", "prefetch/go"}, {"/var/cache/melange/npm", "prefetch/npm"},
	{"dial tcp: lookup", "prefetch/go"}, {"module lookup disabled by GOPROXY=off", "prefetch/go"}, {"reading file:///home/build/.cache/prefetch/go", "prefetch/go"},
	{"ENOTCACHED", "prefetch/npm"}, {"npm ERR! network", "prefetch/npm"}, {"npm error network", "prefetch/npm"}, {"registry.yarnpkg", ""}, {"EAI_AGAIN", "prefetch/npm"}, {"getaddrinfo ENOTFOUND", "prefetch/npm"},
	{"spurious network error", "prefetch/cargo"}, {"failed to download from `", "prefetch/cargo"}, {"--offline was specified", "prefetch/cargo"}, {"failed to query replaced source registry", "prefetch/cargo"},
	{"no matching package named `", "prefetch/cargo"}, {"Updating crates", "prefetch/cargo"},
	{"NewConnectionError", "prefetch/pip"}, {"No matching distribution found for", "prefetch/pip"}, {"Could not fetch URL", "prefetch/pip"},
	{"Could not resolve host", ""}, {"Temporary failure in name resolution", ""}, {"unable to resolve host address", ""}, {"bad address '", ""}, {"Name or service not known", ""},
	{"Network is unreachable", ""}, {"network is unreachable", ""},
}

// downloads tells whether what a step said last is that there is no network, and by which
// pipeline it would have had what it wanted.
func downloads(tail []string) (uses string, is bool) {
	text := strings.Join(tail, "\n")
	for _, w := range wantsNetwork {
		if strings.Contains(text, w.words) {
			return w.uses, true
		}
	}
	return "", false
}

// unfetched explains the failure of a step that wanted to download.
func (r *runner) unfetched(s recipes.Step, err error) (hint string, _ error) {
	if r.test || r.online != "" || s.Native != "" {
		return "", err
	}
	uses, is := downloads(r.log.tail())
	tried := false
	if exit, ok := errors.AsType[*sandbox.ExitError](err); ok && !is {
		tried = exit.Unrouted > 0
	}
	if !is && s.Prefetch != "" && r.prefetched == nil {
		return fmt.Sprintf("nothing is prefetched for it on %s: if that is what it lacks, tarn fetch --update %s downloads and locks it", r.script.Arch, r.script.Name), err
	}
	if !is && !tried {
		return "", err
	}
	wanted := false
	for _, o := range r.script.Packages {
		wanted = wanted || slices.ContainsFunc(o.Steps, func(one recipes.Step) bool { return one.Prefetch != "" })
	}
	if tried {
		// Nothing that it said tells whether this is why it failed.
		hint := "it asked for addresses beyond the sandbox, and a build has no network: if that is what it lacks, "
		switch uses := managerOf(r.log.command() + "\n" + s.Shell); {
		case wanted:
			return hint + "tarn fetch --update " + r.script.Name + " downloads it and locks it beside the recipe", err
		case uses != "":
			return hint + "put - uses: " + uses + " before this step, then tarn fetch --update " + r.script.Name, err
		}
		return hint + otherWays, err
	}
	switch {
	case wanted && r.prefetched == nil:
		return "a build has no network: tarn fetch --update " + r.script.Name + " downloads what it needs and locks it beside the recipe", &NotPrefetchedError{err}
	case wanted:
		return "a build has no network, and what was prefetched is not all that it wants: tarn fetch --update " + r.script.Name, &NotPrefetchedError{err}
	case uses != "":
		return "a build has no network: put - uses: " + uses + " before this step, then tarn fetch --update " + r.script.Name, err
	}
	return "a build has no network: " + otherWays, err
}

// otherWays are how a build comes by what no package manager was recognised to want.
const otherWays = "fetch it in a step with a digest (fetch, git-checkout), or prefetch it (prefetch/go, prefetch/npm, prefetch/cargo, prefetch/pip)"

// managers finds the package managers that have a prefetch pipeline among the commands of
// a script.
var managers = regexp.MustCompile(`(?m)(?:^|[\s;&|({])(?:python3? -m )?(go|npm|cargo|pip)3? `)

// managerOf gives the pipeline that prefetches for a script: for the first package manager
// in it, or "".
func managerOf(script string) string {
	if m := managers.FindStringSubmatch(script); m != nil {
		return "prefetch/" + m[1]
	}
	return ""
}
