package build

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/step"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

// TestResult is what testing one package gave.
type TestResult struct {
	Package     string        `json:"package"`
	Environment []string      `json:"environment"` // what was installed, name=version
	Duration    time.Duration `json:"duration"`
	Cached      bool          `json:"-"` // passed before, with the same bytes
}

// Test runs the test of one package in a fresh sandbox that holds the environment:
// the package, what it depends on, and what the test needs. A test that passed
// with the same bytes is not run again.
func (b *Builder) Test(ctx context.Context, s *recipes.Script, o *recipes.Output, lock repo.Lock) (*TestResult, error) {
	var result TestResult
	id := plan.TestID(s, o, lock)
	if !b.Again {
		if found, err := b.Store.Recall(id, &result); err != nil {
			return nil, err
		} else if found {
			result.Cached = true
			return &result, nil
		}
	}
	start := time.Now()
	if err := source.FetchTest(ctx, b.Sources, s, o.Test); err != nil {
		return nil, err
	}
	b.report(o.Name, "environment", fmt.Sprintf("%d packages", len(lock)))
	env, err := environment.Assemble(ctx, b.Store, lock, environment.Options{Arch: s.Arch, Database: true, World: plan.TestWorld(s, o), Accounts: accounts(s, o)})
	if err != nil {
		return nil, err
	}
	w, err := b.newWork(o.Name)
	if err != nil {
		return nil, err
	}
	defer w.release()
	log, err := openLog(b.Logs, o.Name+".test.log", b.Output)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	log.hide = secretsOf(s.Environment.Given, o.Test.Environment.Given)
	spec, err := b.spec(s, s.TestResources, env, w)
	if err != nil {
		return nil, err
	}
	box, err := b.Sandbox.Open(ctx, spec)
	if err != nil {
		return nil, err
	}
	defer box.Close()
	if err := source.PlaceFiles(w.root, s, b.Sources); err != nil {
		return nil, err
	}
	// Tests learn the package's name from the base name of this folder.
	if err := w.root.MkdirAll(step.OutPath+"/"+o.Name, 0o755); err != nil {
		return nil, err
	}
	r := b.runner(s, env, box, w, log)
	r.name, r.test, r.spec = o.Name, true, spec
	r.given = maps.Clone(s.Environment.Given)
	if r.given == nil {
		r.given = map[string]string{}
	}
	maps.Copy(r.given, o.Test.Environment.Given)
	overlay(r.env, o.Test.Environment.Given)
	overlay(r.env, o.Test.Environment.Env)
	ctx, cancel := withTimeout(ctx, s)
	defer cancel()
	for _, one := range o.Test.Steps {
		b.report(o.Name, "test", one.Name)
		if err := r.attempt(ctx, one); err != nil {
			return nil, err
		}
	}
	if err := box.Close(); err != nil {
		return nil, err
	}
	if err := r.tidy(nil); err != nil {
		return nil, err
	}
	result = TestResult{Package: o.Name, Environment: lock.Names(), Duration: time.Since(start)}
	if b.Again || r.touched {
		return &result, nil
	}
	return &result, b.Store.Remember(id, &result)
}

// accounts are the users of a test: its own, else those of its recipe.
func accounts(s *recipes.Script, o *recipes.Output) *recipes.Accounts {
	if o.Test.Environment.Accounts != nil {
		return o.Test.Environment.Accounts
	}
	return s.Environment.Accounts
}
