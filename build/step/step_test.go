package step

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/recipes"
)

// The steps there are, those that plans know the number of, and those that the built-in
// pipelines use are the same.
func TestNatives(t *testing.T) {
	if diff := cmp.Diff(Names(), slices.Sorted(maps.Keys(plan.Natives))); diff != "" {
		t.Errorf("build/plan (-here +there):\n%s", diff)
	}
	var used []string
	for _, name := range recipes.BuiltinPipelines() {
		task, err := recipes.NewPipelines().Pipeline(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range task.Pipeline {
			if s.Native != "" {
				used = append(used, s.Native)
			}
		}
	}
	slices.Sort(used)
	if diff := cmp.Diff(Names(), slices.Compact(used)); diff != "" {
		t.Errorf("pipelines (-here +there):\n%s", diff)
	}
}
