package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

func need(t *testing.T, text, from string, native bool) recipes.Need {
	t.Helper()
	d, err := apk.ParseDependency(text)
	if err != nil {
		t.Fatal(err)
	}
	return recipes.Need{Dependency: d, From: from, Native: native}
}

// example makes the same plan each time; no part is shared with that of another call.
func example(t *testing.T) *plan.Plan {
	return &plan.Plan{
		Script: &recipes.Script{
			Name: "z", Version: "1-r0", Arch: "x86_64", Namespace: "tarn", Time: 1, Timeout: time.Hour, Recipe: "recipes/z.yaml",
			Environment: recipes.Environment{
				Packages: []recipes.Need{need(t, "make", "z.yaml:3", false), need(t, "git", "fetch", true)}, Env: map[string]string{"CFLAGS": "-O2", "A": "b"},
			},
			Files:    []recipes.LocalFile{{Path: "fix.patch", SHA256: strings.Repeat("a", 64)}},
			Licenses: []recipes.License{{License: "Zlib"}},
			Packages: []recipes.Output{
				{
					Name: "z", Description: "d", Annotations: map[string]string{"team": "x"},
					Steps: []recipes.Step{
						{At: "pipeline/0", Name: "fetch", Line: 9, Native: "fetch", Inputs: map[string]string{"uri": "https://z.example/z.tar", "expected-sha256": "1"}, Hints: map[string]string{"timeout": "5"}},
						{At: "pipeline/1", Name: "make", Line: 10, Shell: "make install", Dir: "/home/build", Env: map[string]string{"V": "1"}, Package: "z"},
					},
					Test: &recipes.Test{Steps: []recipes.Step{{Shell: "z --version"}}},
				},
				{Name: "z-dev", Steps: []recipes.Step{{Native: "split/dev", Package: "z-dev"}}},
			},
		},
		Environment: repo.Lock{{Name: "musl", Version: "1-r0", Identity: "data:1", From: "here"}, {Name: "make", Version: "4-r0", Identity: "data:2", From: "there"}},
	}
}

// The ID of a plan covers what decides the outcome, and nothing else.
func TestID(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(p *plan.Plan)
		another bool // another build
	}{
		{"nothing", func(p *plan.Plan) {}, false},
		{"where the recipe lies", func(p *plan.Plan) { p.Script.Recipe = "elsewhere/z.yaml" }, false},
		{"how long it may take", func(p *plan.Plan) { p.Script.Timeout = time.Minute }, false},
		{"what machine it would like", func(p *plan.Plan) { p.Script.Resources = &recipes.Resources{CPU: "64"} }, false},
		{"the line of a step", func(p *plan.Plan) { p.Script.Packages[0].Steps[1].Line = 99 }, false},
		{"the name of a step", func(p *plan.Plan) { p.Script.Packages[0].Steps[1].Name = "compile" }, false},
		{"what a fetch may take", func(p *plan.Plan) { p.Script.Packages[0].Steps[0].Hints["timeout"] = "9" }, false},
		{"a test", func(p *plan.Plan) { p.Script.Packages[0].Test.Steps[0].Shell = "z --help" }, false},
		{"annotations, which no package tells", func(p *plan.Plan) { p.Script.Packages[0].Annotations["team"] = "y" }, false},
		{"who asks for a package", func(p *plan.Plan) { p.Script.Environment.Packages[0].From = "z.yaml:4" }, false},
		{"how a package is asked for that is the same", func(p *plan.Plan) {
			p.Script.Environment.Packages[0].Op, p.Script.Environment.Packages[0].Version = apk.Greater, "3"
		}, false},
		{"where a package of the environment is from", func(p *plan.Plan) { p.Environment[1].From = "elsewhere" }, false},
		{"a repository that the recipe names", func(p *plan.Plan) { p.Script.Environment.Repositories = []string{"https://r.example"} }, false},
		{"a capability added and dropped", func(p *plan.Plan) {
			p.Script.Capabilities, p.Script.DropCapabilities = []string{"CAP_NET_RAW"}, []string{"CAP_NET_RAW"}
		}, false},
		{"a capability dropped that was not there", func(p *plan.Plan) { p.Script.DropCapabilities = []string{"CAP_NET_RAW"} }, false},

		{"name", func(p *plan.Plan) { p.Script.Name = "y" }, true},
		{"version", func(p *plan.Plan) { p.Script.Version = "1-r1" }, true},
		{"architecture", func(p *plan.Plan) { p.Script.Arch = "aarch64" }, true},
		{"distribution", func(p *plan.Plan) { p.Script.Namespace = "wolfi" }, true},
		{"time", func(p *plan.Plan) { p.Script.Time = 2 }, true},
		{"licence", func(p *plan.Plan) { p.Script.Licenses[0].License = "MIT" }, true},
		{"a capability", func(p *plan.Plan) { p.Script.Capabilities = []string{"CAP_NET_RAW"} }, true},
		{"a patch", func(p *plan.Plan) { p.Script.Files[0].SHA256 = strings.Repeat("b", 64) }, true},
		{"a variable", func(p *plan.Plan) { p.Script.Environment.Env["CFLAGS"] = "-O3" }, true},
		{"variables of --env-file", func(p *plan.Plan) { p.Script.Environment.GivenDigest = "1" }, true},
		{"users", func(p *plan.Plan) { p.Script.Environment.Accounts = &recipes.Accounts{RunAs: "1"} }, true},
		{"a script", func(p *plan.Plan) { p.Script.Packages[0].Steps[1].Shell = "make  install" }, true},
		{"a folder", func(p *plan.Plan) { p.Script.Packages[0].Steps[1].Dir = "/home/build/x" }, true},
		{"a variable of a step", func(p *plan.Plan) { p.Script.Packages[0].Steps[1].Env["V"] = "2" }, true},
		{"a source", func(p *plan.Plan) { p.Script.Packages[0].Steps[0].Inputs["expected-sha256"] = "2" }, true},
		{"the order of steps", func(p *plan.Plan) { s := p.Script.Packages[0].Steps; s[0], s[1] = s[1], s[0] }, true},
		{"a step of a subpackage", func(p *plan.Plan) { p.Script.Packages[1].Steps[0].Native = "split/static" }, true},
		{"the order of packages", func(p *plan.Plan) { o := p.Script.Packages; o[0], o[1] = o[1], o[0] }, true},
		{"a dependency", func(p *plan.Plan) { p.Script.Packages[0].Runtime = []apk.Dependency{{Name: "musl"}} }, true},
		{"a script of the package", func(p *plan.Plan) { p.Script.Packages[0].Scriptlets = map[string]string{".post-install": "#!/bin/sh"} }, true},
		{"capabilities of a file", func(p *plan.Plan) {
			p.Script.Packages[0].Setcap = []recipes.Setcap{{Path: "/usr/bin/z", Add: map[string]string{"cap_net_raw": "+ep"}}}
		}, true},
		{"a rule turned off", func(p *plan.Plan) { p.Script.Packages[0].ChecksDisabled = []string{"usrmerge"} }, true},
		{"bytes of the environment", func(p *plan.Plan) { p.Environment[0].Identity = "data:3" }, true},
		{"a version of the environment", func(p *plan.Plan) { p.Environment[0].Version = "1-r1" }, true},
		{"the order of the environment", func(p *plan.Plan) { p.Environment[0], p.Environment[1] = p.Environment[1], p.Environment[0] }, true},
		{"less in the environment", func(p *plan.Plan) { p.Environment = p.Environment[:1] }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, after := example(t), example(t)
			test.change(after)
			if got := before.ID() != after.ID(); got != test.another {
				t.Errorf("another build: got %v, want %v\n%s", got, test.another, after.Explain())
			}
			if before.ID() != example(t).ID() {
				t.Error("the same plan has another ID")
			}
		})
	}
}

// A native step that does another thing than before is done again.
func TestIDOfNatives(t *testing.T) {
	before := example(t).ID()
	raise := func(name string) bool {
		plan.Natives[name]++
		defer func() { plan.Natives[name]-- }()
		return example(t).ID() != before
	}
	if !raise("fetch") || !raise("split/dev") {
		t.Error("the ID is the same although a native step is another")
	}
	if raise("strip") {
		t.Error("the ID is another although no step of it is")
	}
}

// A test passed before is not run again while nothing that it could see is another.
func TestTestID(t *testing.T) {
	id := func(change func(p *plan.Plan)) string {
		p := example(t)
		change(p)
		return string(plan.TestID(p.Script, &p.Script.Packages[0], p.Environment))
	}
	same := id(func(*plan.Plan) {})
	for name, change := range map[string]func(p *plan.Plan){
		"a step of the build": func(p *plan.Plan) { p.Script.Packages[0].Steps[1].Shell = "x" },
		"the timeout":         func(p *plan.Plan) { p.Script.Timeout = 1 },
	} {
		if id(change) != same {
			t.Errorf("%s: the test is run again", name)
		}
	}
	for name, change := range map[string]func(p *plan.Plan){
		"a step of the test":        func(p *plan.Plan) { p.Script.Packages[0].Test.Steps[0].Shell = "x" },
		"the bytes under test":      func(p *plan.Plan) { p.Environment[0].Identity = "data:3" },
		"a variable of the recipe":  func(p *plan.Plan) { p.Script.Environment.Env["A"] = "c" },
		"a variable of the test":    func(p *plan.Plan) { p.Script.Packages[0].Test.Environment.Env = map[string]string{"A": "c"} },
		"a capability":              func(p *plan.Plan) { p.Script.Capabilities = []string{"CAP_NET_RAW"} },
		"the name of the package":   func(p *plan.Plan) { p.Script.Packages[0].Name = "y" },
		"the variables of env-file": func(p *plan.Plan) { p.Script.Environment.GivenDigest = "1" },
		"a file beside the recipe":  func(p *plan.Plan) { p.Script.Files = append(p.Script.Files, recipes.LocalFile{Path: "x", SHA256: "1"}) },
	} {
		if id(change) == same {
			t.Errorf("%s: the old result is taken", name)
		}
	}
}

func TestWorld(t *testing.T) {
	p := example(t)
	p.Script.Packages[0].Test.Environment.Packages = []recipes.Need{need(t, "busybox", "z.yaml:20", false), need(t, "wget", "fetch", true)}
	text := func(world []string) string { return strings.Join(world, " ") }
	var world, testWorld []string
	for _, r := range plan.World(p.Script) {
		world = append(world, r.String())
	}
	for _, r := range plan.TestWorld(p.Script, &p.Script.Packages[0]) {
		testWorld = append(testWorld, r.String())
	}
	if got, want := text(world), "make"; got != want {
		t.Errorf("a build's world: got %q, want %q: what only native steps need is left out", got, want)
	}
	if got, want := text(testWorld), "z=1-r0 busybox"; got != want {
		t.Errorf("a test's world: got %q, want %q", got, want)
	}
}
