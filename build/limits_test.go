package build

import (
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/recipes"
)

func TestParseQuantity(t *testing.T) {
	for text, want := range map[string]float64{
		"1": 1, "512Mi": 512 << 20, "2G": 2e9, "1.5Gi": 1.5 * (1 << 30), "500m": 0.5, "1e9": 1e9, "0": 0, "64Ki": 65536,
	} {
		if got, err := ParseQuantity(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "Gi", "2GB", "2 Gi", "-1", "0x10", "NaN", "Inf", "1_000", "9e99", "2gi"} {
		if got, err := ParseQuantity(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestLimits(t *testing.T) {
	asked := &recipes.Resources{Memory: "2Gi", Disk: "10G", CPU: "1500m"}
	for _, c := range []struct {
		name string
		b    Builder
		r    *recipes.Resources
		want sandbox.Limits
		cpus int
	}{
		{"nobody asks", Builder{}, nil, sandbox.Limits{}, 0},
		{"the recipe asks", Builder{}, asked, sandbox.Limits{Memory: 2 << 30, Disk: 10e9}, 2},
		{"a flag is stronger", Builder{Limits: sandbox.Limits{Memory: 1 << 30, Processes: 9}, CPUs: 1}, asked, sandbox.Limits{Memory: 1 << 30, Disk: 10e9, Processes: 9}, 1},
	} {
		got, cpus, err := c.b.limits("a.yaml", c.r)
		if err != nil || got != c.want || cpus != c.cpus {
			t.Errorf("%s: got %+v, %d, %v; want %+v, %d", c.name, got, cpus, err, c.want, c.cpus)
		}
	}
	_, _, err := (&Builder{}).limits("a.yaml", &recipes.Resources{Memory: "lots"})
	if err == nil || !strings.Contains(err.Error(), `a.yaml: resources.memory: "lots"`) {
		t.Errorf("got %v", err)
	}
}
