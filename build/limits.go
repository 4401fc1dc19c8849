package build

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/recipes"
)

// limits are those of a sandbox, and its processors: what the Builder was told, else what
// the recipe asks for in resources, else the sandbox's own defaults.
func (b *Builder) limits(file string, r *recipes.Resources) (sandbox.Limits, int, error) {
	l, cpus := b.Limits, b.CPUs
	if r == nil {
		return l, cpus, nil
	}
	for _, q := range []struct {
		name, text string
		to         *int64
	}{{"memory", r.Memory, &l.Memory}, {"disk", r.Disk, &l.Disk}} {
		if q.text == "" {
			continue
		}
		n, err := ParseQuantity(q.text)
		if err != nil {
			return l, cpus, fmt.Errorf("%s: resources.%s: %w", file, q.name, err)
		}
		if *q.to == 0 {
			*q.to = int64(math.Ceil(n))
		}
	}
	if r.CPU != "" {
		n, err := ParseQuantity(r.CPU)
		if err != nil {
			return l, cpus, fmt.Errorf("%s: resources.cpu: %w", file, err)
		}
		if cpus == 0 {
			cpus = int(math.Ceil(n))
		}
	}
	return l, cpus, nil
}

// quantityUnits are the suffixes of a quantity of Kubernetes.
var quantityUnits = map[string]float64{
	"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
	"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
}

// ParseQuantity reads a quantity as Kubernetes and melange's recipes write it, e.g. 512Mi,
// 2G, 1.5Gi, 500m, 1e9.
func ParseQuantity(text string) (float64, error) {
	number := strings.TrimRight(text, "kKmMGTPi")
	unit := text[len(number):]
	n, err := strconv.ParseFloat(number, 64)
	factor, known := quantityUnits[unit]
	if err != nil || !known || !(n >= 0) || n*factor > math.MaxInt64/2 || strings.ContainsAny(number, "xXpP_+nNiI") {
		return 0, fmt.Errorf("%q is no quantity such as 512Mi, 2Gi or 1.5", text)
	}
	return n * factor, nil
}
