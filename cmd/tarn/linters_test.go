package main

import (
	"slices"
	"testing"

	"github.com/tarn-build/tarn/build/check"
	"github.com/tarn-build/tarn/recipes"
)

// A recipe may name every rule for packages in checks.disabled, and reading it knows no build.
func TestLintersAreKnownToRecipes(t *testing.T) {
	for _, name := range check.Names() {
		if !slices.Contains(recipes.Linters, name) {
			t.Errorf("%q is a rule for packages and not in recipes.Linters: checks.disabled refuses it", name)
		}
	}
}
