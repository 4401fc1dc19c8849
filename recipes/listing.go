package recipes

import (
	"maps"
	"slices"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Listing is a script as its author may hold it against what another compiler of the
// language makes of the recipe: every task in the order of the file, run or not, and
// names of packages as they are declared. Its JSON has the fields of the corpus that
// TestCorpus compares with.
type Listing struct {
	Name    string   `json:"name"`
	Version string   `json:"version"` // without the revision
	Epoch   uint64   `json:"epoch"`
	Arch    apk.Arch `json:"arch"`
	// Environment and Test are the packages of the build's and the test's
	// environment, sorted, each once.
	Environment []string            `json:"environment"`
	Depends     []string            `json:"depends,omitempty"`
	Provides    []string            `json:"provides,omitempty"`
	Test        []string            `json:"test,omitempty"`
	Subpackages []ListingSubpackage `json:"subpackages,omitempty"`
	Steps       []Traced            `json:"steps"`
}

// ListingSubpackage is what a Listing says of a subpackage.
type ListingSubpackage struct {
	Name     string   `json:"name"`
	Depends  []string `json:"depends,omitempty"`
	Provides []string `json:"provides,omitempty"`
	Test     []string `json:"test,omitempty"`
}

// Listing gives the script of a recipe for comparing.
func (s *Script) Listing() *Listing {
	l := &Listing{
		Name: s.Name, Version: string(s.Version.Base()), Arch: s.Arch, Steps: s.trace,
		Environment: s.Environment.declared, Test: s.Packages[0].declaredTest(),
		Depends: s.Packages[0].depends, Provides: s.Packages[0].provides,
	}
	if l.Environment == nil {
		l.Environment = []string{}
	}
	if l.Steps == nil {
		l.Steps = []Traced{}
	}
	if s.recipe != nil {
		l.Epoch = s.recipe.Package.Epoch
	}
	for i := range s.Packages[1:] {
		o := &s.Packages[i+1]
		l.Subpackages = append(l.Subpackages, ListingSubpackage{o.Name, o.depends, o.provides, o.declaredTest()})
	}
	return l
}

func (o *Output) declaredTest() []string {
	if o.Test == nil {
		return nil
	}
	return o.Test.Environment.declared
}

// declared is the texts of a set of needs, sorted.
func (s needSet) declared() []string { return slices.Sorted(maps.Keys(s)) }
