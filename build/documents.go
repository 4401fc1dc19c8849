package build

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/recipes"
)

// builtRecipe is what .melange.yaml in a package's control section says: the
// recipe as it was built, with nothing left to decide, and its environment's lock.
type builtRecipe struct {
	Package     builtPackage      `yaml:"package"`
	Environment builtEnvironment  `yaml:"environment"`
	Pipeline    []builtStep       `yaml:"pipeline,omitempty"`
	Subpackages []builtSubpackage `yaml:"subpackages,omitempty"`
}

type builtPackage struct {
	Name      string         `yaml:"name"`
	Version   string         `yaml:"version"`
	Epoch     uint64         `yaml:"epoch"`
	Copyright []builtLicense `yaml:"copyright,omitempty"`
}

type builtLicense struct {
	License string `yaml:"license"`
}

type builtEnvironment struct {
	Contents struct {
		Packages []string `yaml:"packages"`
	} `yaml:"contents"`
	Environment map[string]string `yaml:"environment,omitempty"`
}

type builtSubpackage struct {
	Name     string      `yaml:"name"`
	Pipeline []builtStep `yaml:"pipeline,omitempty"`
}

type builtStep struct {
	Name        string            `yaml:"name,omitempty"`
	Uses        string            `yaml:"uses,omitempty"`
	With        map[string]string `yaml:"with,omitempty"`
	Runs        string            `yaml:"runs,omitempty"`
	Directory   string            `yaml:"working-directory,omitempty"`
	Environment map[string]string `yaml:"environment,omitempty"`
}

// embeddedRecipe writes what a plan did in melange's language, so that a package
// tells how it was made.
func embeddedRecipe(p *plan.Plan) ([]byte, error) {
	s := p.Script
	revision, _ := s.Version.Revision()
	r := builtRecipe{Package: builtPackage{Name: s.Name, Version: string(s.Version.Base()), Epoch: revision}}
	for _, l := range s.Licenses {
		r.Package.Copyright = append(r.Package.Copyright, builtLicense{l.License})
	}
	r.Environment.Contents.Packages = p.Environment.Names()
	r.Environment.Environment = s.Environment.Env
	for i, o := range s.Packages {
		var steps []builtStep
		for _, one := range o.Steps {
			steps = append(steps, builtStep{Uses: one.Native, With: one.Inputs, Runs: one.Shell, Directory: one.Dir, Environment: one.Env})
		}
		if i == 0 {
			r.Pipeline = steps
			continue
		}
		r.Subpackages = append(r.Subpackages, builtSubpackage{o.Name, steps})
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("write .melange.yaml of %s: %w", s.Name, err)
	}
	return b.Bytes(), nil
}

// sourceSteps are the steps that bring sources for a package: its own, and for
// every package those of the main one.
func sourceSteps(s *recipes.Script, o *recipes.Output) []recipes.Step {
	var steps []recipes.Step
	take := func(from *recipes.Output) {
		for _, one := range from.Steps {
			if one.Native == "fetch" || one.Native == "git-checkout" {
				steps = append(steps, one)
			}
		}
	}
	take(&s.Packages[0])
	if o != &s.Packages[0] {
		take(o)
	}
	return steps
}
