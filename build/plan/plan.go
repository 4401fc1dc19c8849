// Package plan puts together what decides the outcome of a build: the script and
// the exact packages of its environment. A plan is complete before a byte is
// fetched, and its ID names the outcome. It knows nothing of how plans are carried out.
package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/tarn-build/tarn/build/source/prefetch"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

// version is raised whenever tarn makes other bytes of the same plan: another
// layout of packages, another generated dependency.
const version = 4

// prefetchedVersion is version for plans with something prefetched alone.
const prefetchedVersion = 2

// Natives has a number for each step that tarn does itself. It is raised when the step
// leaves another tree behind than before, and then the recipes that use it are built again.
var Natives = map[string]int{
	"fetch":          1,
	"git-checkout":   1,
	"patch":          1,
	"split/alldocs":  2,
	"split/bin":      2,
	"split/debug":    2,
	"split/dev":      2,
	"split/infodir":  2,
	"split/lib":      2,
	"split/locales":  1,
	"split/manpages": 2,
	"split/static":   2,
	"strip":          2,
}

// Plan is a script and the environment that it runs in, down to the bytes.
type Plan struct {
	Script      *recipes.Script
	Environment repo.Lock
	// Prefetched is the tree that package managers downloaded, as the recipe's lock names
	// it; nil without one.
	Prefetched *prefetch.Entry
	// Online says why the build may use the network, where the workspace lets it; "" is
	// the rule: it may not.
	Online string
}

// World is what the environment of a script's build is asked to hold. What only
// native steps name is left out, since tarn does them itself.
func World(s *recipes.Script) []solve.Requirement { return world(s.Environment.Packages) }

// TestWorld is what the environment of an output's test is asked to hold: the
// package itself, at exactly the version that was built, and what the test needs.
func TestWorld(s *recipes.Script, o *recipes.Output) []solve.Requirement {
	requirements := []solve.Requirement{{From: "the package under test"}}
	requirements[0].Name = o.Name
	requirements[0].Op, requirements[0].Version = apk.Equal, s.Version
	if o.Test != nil {
		requirements = append(requirements, world(o.Test.Environment.Packages)...)
	}
	return requirements
}

func world(needs []recipes.Need) []solve.Requirement {
	var requirements []solve.Requirement
	for _, need := range needs {
		if !need.Native {
			requirements = append(requirements, solve.Requirement{Dependency: need.Dependency, From: need.From})
		}
	}
	return requirements
}

// ID names the outcome of the plan: equal IDs, equal packages.
func (p *Plan) ID() store.ActionID { return p.hash().Sum() }

// Explain lists what the ID covers, one input a line, so that the question why
// something was built again is answered by comparing two texts.
func (p *Plan) Explain() string { return p.hash().Text() }

func (p *Plan) hash() *store.Hash {
	h := store.NewHash("plan")
	h.Line("version", version)
	for _, o := range p.Script.Packages {
		addNatives(h, o.Steps)
	}
	addScript(h, p.Script)
	addEnvironment(h, p.Environment)
	if p.Prefetched != nil {
		h.Line("prefetched", p.Prefetched.SHA256)
		h.Line("prefetched version", prefetchedVersion)
	}
	if p.Online != "" {
		h.Line("online", p.Online)
	}
	return h
}

// TestID names the result of testing one package: of running its steps in an
// environment. What built the package is in the environment's identity of it.
func TestID(s *recipes.Script, o *recipes.Output, environment repo.Lock) store.ActionID {
	h := store.NewHash("test")
	h.Line("version", version)
	h.Line("package", o.Name)
	h.Line("arch", string(s.Arch))
	h.Line("time", s.Time)
	h.Line("capabilities", Capabilities(s))
	h.Line("variables", canonical(decides(s.Environment)))
	if o.Test != nil {
		addNatives(h, o.Test.Steps)
	}
	h.Line("test", canonical(o.Test))
	if len(s.Files) > 0 {
		h.Line("files", canonical(s.Files))
	}
	addEnvironment(h, environment)
	return h.Sum()
}

// Capabilities are those that a recipe's commands have: what it adds and does not
// drop. There are none to begin with.
func Capabilities(s *recipes.Script) []string {
	var all []string
	for _, name := range s.Capabilities {
		if !slices.Contains(s.DropCapabilities, name) && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// decides is what of a wanted environment the outcome depends on besides the exact
// packages: these stand in the lock, however they were asked for and found.
func decides(e recipes.Environment) recipes.Environment {
	e.Packages, e.Repositories, e.Keyring = nil, nil, nil
	return e
}

// addScript adds the script a part a line, so that a difference is easy to see. How
// long it may take, how its environment was asked for and what no package tells are
// left out.
func addScript(h *store.Hash, s *recipes.Script) {
	head := *s
	head.Packages, head.Timeout = nil, 0
	head.Environment = decides(s.Environment)
	head.Capabilities, head.DropCapabilities = Capabilities(s), nil
	h.Line("script", canonical(head))
	for _, output := range s.Packages {
		steps := output.Steps
		output.Steps, output.Annotations = nil, nil
		h.Line("package "+output.Name, canonical(output))
		for i, step := range steps {
			step.Prefetch = "" // the digest of what it leaves stands for it
			h.Line(fmt.Sprintf("step %s %d", output.Name, i+1), canonical(step))
		}
	}
}

// addNatives adds which doing of native steps the outcome is of.
func addNatives(h *store.Hash, steps []recipes.Step) {
	for _, name := range slices.Sorted(maps.Keys(Natives)) {
		// The first doing of a step needs no word.
		if Natives[name] > 1 && slices.ContainsFunc(steps, func(s recipes.Step) bool { return s.Native == name }) {
			h.Line("native "+name, Natives[name])
		}
	}
}

func addEnvironment(h *store.Hash, environment repo.Lock) {
	for _, p := range environment {
		h.Line("environment "+p.Name, string(p.Version)+" "+p.Identity)
	}
}

// canonical is a value as JSON: maps are sorted, and nothing is escaped for HTML.
func canonical(value any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic(fmt.Sprintf("internal error: a plan that is no JSON: %v", err))
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
