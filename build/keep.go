package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/step"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
)

// Kinds of kept folders: of builds by the recipe's name, of tests by the package's.
const (
	keptBuilds = "sandbox"
	keptTests  = "test"
)

// What is in a kept folder.
const (
	homeFolder = "home"         // the work folder
	keptFile   = "sandbox.json" // a Kept
	stepFile   = "step.sh"      // the text of its step
)

// Kept is a sandbox that outlived its build, as it was at its last step. The work folder
// is as it was left; temporary folders are empty again.
type Kept struct {
	Name  string   `json:"name"` // of the recipe, or of the package that was tested
	Test  bool     `json:"test,omitempty"`
	At    string   `json:"at,omitempty"`   // the place of the step that failed; none failed when ""
	Step  string   `json:"step,omitempty"` // its name
	Error string   `json:"error,omitempty"`
	Dir   string   `json:"dir"` // where the step works, inside
	Env   []string `json:"env"` // NAME=value, but for those of Left
	// Left are the names of variables that are not kept: their values may be secrets.
	Left []string `json:"left,omitempty"`

	Layers       []string       `json:"layers"`
	UID          int            `json:"uid,omitempty"`
	GID          int            `json:"gid,omitempty"`
	CPUs         int            `json:"cpus,omitempty"`
	Limits       sandbox.Limits `json:"limits"`
	Capabilities []string       `json:"capabilities,omitempty"`

	folder string // where it is kept
}

// keep moves a work folder to where it outlives the process. It is no new error when
// that is impossible: the step's own is told, without a way to look inside.
func (r *runner) keep(s recipes.Step, failure error) (*Kept, error) {
	k := &Kept{
		Name: r.name, Test: r.test, At: s.At, Step: s.Name, Dir: stepDir(s),
		Layers: r.spec.Layers, UID: r.spec.UID, GID: r.spec.GID, CPUs: r.spec.CPUs, Limits: r.spec.Limits, Capabilities: r.spec.Capabilities,
	}
	if failure != nil {
		k.Error = failure.Error()
	}
	k.Env, k.Left = r.keptEnvironment(s)
	kind := keptBuilds
	if k.Test {
		kind = keptTests
	}
	if r.work.kept {
		k.folder = filepath.Dir(r.work.dir) // it stays where it is
	} else {
		dir, err := r.Store.Keep(filepath.Dir(r.work.dir), kind, k.Name)
		if err != nil {
			return nil, err
		}
		k.folder = dir
	}
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return nil, err
	}
	return k, errors.Join(os.WriteFile(filepath.Join(k.folder, keptFile), data, 0o600), os.WriteFile(filepath.Join(k.folder, stepFile), []byte(StepText(s)), 0o644))
}

// StepText is a step as a script that does it again, for whoever looks inside. A step
// that tarn does itself has none.
func StepText(s recipes.Step) string {
	text := s.Shell
	if s.Native != "" {
		text = "echo 'tarn does " + s.Native + " itself, from outside'; exit 1"
	}
	return fmt.Sprintf("# %s %s\ncd %s\nset -eo pipefail\n%s\n", s.At, s.Name, quote(stepDir(s)), text)
}

// quote makes one word of a shell of a text.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// keptEnvironment is a step's environment without what came from files that may hold
// secrets.
func (r *runner) keptEnvironment(s recipes.Step) (env, left []string) {
	for _, e := range r.environment(s) {
		name, value, _ := strings.Cut(e, "=")
		if given, ok := r.given[name]; ok && given == value && value != "" {
			left = append(left, name)
			continue
		}
		env = append(env, e)
	}
	return env, left
}

// FindKept gives the newest kept sandbox of a recipe's build, or of a package's test; nil
// when there is none.
func FindKept(st *store.Store, name string, test bool) (*Kept, error) {
	all, err := st.Kept()
	if err != nil {
		return nil, err
	}
	kind := keptBuilds
	if test {
		kind = keptTests
	}
	for _, one := range all {
		if one.Kind != kind || one.Name != name {
			continue
		}
		data, err := os.ReadFile(filepath.Join(one.Dir, keptFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was being kept when its process was killed
		}
		if err != nil {
			return nil, err
		}
		k := &Kept{folder: one.Dir}
		if err := json.Unmarshal(data, k); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(one.Dir, keptFile), err)
		}
		return k, st.UseKept(one)
	}
	return nil, nil
}

// Work is the kept work folder, on the host.
func (k *Kept) Work() string { return filepath.Join(k.folder, homeFolder) }

// Open opens the sandbox again. The step's text is /tmp/step.sh in it.
func (k *Kept) Open(ctx context.Context, backend sandbox.Backend) (sandbox.Sandbox, error) {
	for _, layer := range k.Layers {
		if _, err := os.Stat(layer); err != nil {
			return nil, fmt.Errorf("the environment of %s is no longer in the store\n  hint: build it again", k.Name)
		}
	}
	spec := sandbox.Spec{Layers: k.Layers, Work: k.Work(), UID: k.UID, GID: k.GID, CPUs: k.CPUs, Limits: k.Limits, Capabilities: k.Capabilities}
	if name := filepath.Join(k.folder, stepFile); exists(name) {
		spec.Binds = []sandbox.Bind{{Source: name, Path: "/tmp/step.sh"}}
	}
	return backend.Open(ctx, spec)
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

// Fresh makes a sandbox in which nothing ran yet: a recipe's environment, and the files
// beside it in the work folder. Release removes it.
func (b *Builder) Fresh(ctx context.Context, p *plan.Plan) (k *Kept, release func(), err error) {
	if err := source.FetchAll(ctx, b.Sources, p.Script); err != nil {
		return nil, nil, err
	}
	env, err := environment.Assemble(ctx, b.Store, p.Environment, environment.Options{Arch: p.Script.Arch, Accounts: p.Script.Environment.Accounts})
	if err != nil {
		return nil, nil, err
	}
	w, err := b.newWork(p.Script.Name)
	if err != nil {
		return nil, nil, err
	}
	err = placeFiles(w.root, p, b.Sources)
	for _, o := range p.Script.Packages {
		if err == nil {
			err = w.root.MkdirAll(step.OutPath+"/"+o.Name, 0o755)
		}
	}
	if err != nil {
		w.release()
		return nil, nil, err
	}
	spec, err := b.spec(p.Script, p.Script.Resources, env, w)
	if err != nil {
		w.release()
		return nil, nil, err
	}
	if err := w.own(env.UID, env.GID); err != nil {
		w.release()
		return nil, nil, err
	}
	r := b.runner(p.Script, env, nil, w, nil)
	r.setEpoch()
	return &Kept{
		Name: p.Script.Name, Dir: step.WorkPath, Env: r.environment(recipes.Step{}), folder: filepath.Dir(w.dir),
		Layers: spec.Layers, UID: spec.UID, GID: spec.GID, CPUs: spec.CPUs, Limits: spec.Limits, Capabilities: spec.Capabilities,
	}, w.release, nil
}

// Choice is what somebody who looked at a failed step wants next.
type Choice int

const (
	Abort Choice = iota // the build fails
	Retry               // the step once more
	Next                // go on as if it had not failed
)

// Pause is a build that waits at a failed step.
type Pause struct {
	Err  error
	Step recipes.Step
	Env  []string
	Dir  string
	Box  sandbox.Sandbox
}

// stepNumber finds the step that a user names by its number, from 1 on through all
// packages, or by its place; it gives how many stand before it.
func stepNumber(s *recipes.Script, name string) (int, error) {
	var places []string
	for _, o := range s.Packages {
		for _, one := range o.Steps {
			places = append(places, one.At)
		}
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > len(places) {
			return 0, fmt.Errorf("%s has steps 1 to %d, and no step %d", s.Name, len(places), n)
		}
		return n - 1, nil
	}
	if i := slices.Index(places, name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%s has no step %q\n  hint: a number from 1 to %d, or one of %s", s.Name, name, len(places), strings.Join(places, ", "))
}

// FromError says that a build can't go on at the step that a user named.
type FromError struct{ err error }

func (e *FromError) Error() string { return e.err.Error() }
