package build

import (
	"fmt"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
)

// Result is what a plan gave.
type Result struct {
	Packages []Package     `json:"packages"` // in the order of the script
	Findings diag.Problems `json:"findings"` // of package check; all of them in the store, those that are told in a result
	Duration time.Duration `json:"duration"` // of the build, in nanoseconds
	Cached   bool          `json:"-"`        // recalled, not built
	// Touched tells that somebody resumed the build or entered its sandbox: what it gave
	// is not what the plan says, and nobody remembers it.
	Touched bool   `json:"-"`
	Work    string `json:"-"` // the work folder, where it was kept
}

// Package is one built package, unsigned.
type Package struct {
	Entry  *apk.Entry   `json:"entry"`
	Digest store.Digest `json:"digest"` // of the .apk file in the store
	Files  int          `json:"files"`  // entries that are no folders
}

// StepError says all that is known of a step that failed.
type StepError struct {
	Recipe  string
	File    string // the recipe's file
	Line    int    // of the step in it
	Step    string // its name
	At      string // its place, e.g. pipeline/3
	Command string // what the script stopped at, when the shell tells
	Err     error  // e.g. a *sandbox.ExitError
	Tail    []string
	Log     string
	Inside  string // the command that enters the sandbox, where it was kept
	Hint    string // the way out, when one is known
}

func (e *StepError) Unwrap() error { return e.Err }

func (e *StepError) Error() string {
	var b strings.Builder
	if e.File != "" {
		fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	}
	fmt.Fprintf(&b, "%s: %s", e.Recipe, e.At)
	if e.Step != "" {
		fmt.Fprintf(&b, " (%s)", e.Step)
	}
	if e.Command != "" {
		fmt.Fprintf(&b, ": %s", e.Command)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	for _, line := range e.Tail {
		b.WriteString("\n  | " + line)
	}
	if e.Log != "" {
		b.WriteString("\n  log: " + e.Log)
	}
	if e.Inside != "" {
		b.WriteString("\n  look inside: " + e.Inside)
	}
	if e.Hint != "" {
		b.WriteString("\n  hint: " + e.Hint)
	}
	return b.String()
}

// PolicyError says that a recipe asks for what no build here gets.
type PolicyError struct {
	Recipe string // its file
	Why    string
}

func (e *PolicyError) Error() string {
	text := "refused: " + e.Why + "\n  hint: fetch what it needs in steps with a digest (fetch, git-checkout), or prefetch it (prefetch/go, prefetch/npm, prefetch/cargo, prefetch/pip); exceptions of tarn.yaml may allow it: NAME: {network: true}"
	if e.Recipe != "" {
		text = e.Recipe + ": " + text
	}
	return text
}
