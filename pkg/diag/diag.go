// Package diag describes mistakes in files that people write: where a mistake
// stands, what it is, and the way out. It knows nothing of what the files mean.
package diag

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Severity says what a Problem does to the run that found it.
type Severity uint8

const (
	// Error stops the run. It is the zero value: a problem is an error unless said otherwise.
	Error Severity = iota
	// Warning is reported and does not stop the run.
	Warning
	// Note is for information.
	Note
	// Off is not reported at all: a rule that nobody asked for.
	Off
)

func (s Severity) String() string { return [...]string{"error", "warning", "note", "off"}[s] }

// MarshalText writes the severity as its word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word back: problems are remembered with the build that found them.
func (s *Severity) UnmarshalText(text []byte) error {
	for _, known := range []Severity{Error, Warning, Note, Off} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("%q is no severity", text)
}

// Problem is one mistake in one place.
type Problem struct {
	File     string   `json:"file"`             // as the user gave it, e.g. recipes/core/zlib.yaml
	Line     int      `json:"line,omitempty"`   // from 1; 0 means the file as a whole
	Column   int      `json:"column,omitempty"` // from 1; 0 means the whole line
	Severity Severity `json:"severity"`
	Rule     string   `json:"rule,omitempty"` // the name of the lint rule that found it, e.g. usrmerge
	// Package and Path say which file of which package it is about, where it is about a
	// package and not about the file that people wrote. Text names them as well.
	Package string `json:"package,omitempty"`
	Path    string `json:"path,omitempty"` // e.g. usr/bin/su
	Text    string `json:"text"`           // what is wrong: lower case, no period
	Step    string `json:"step,omitempty"` // of a recipe, where the mistake is in one, e.g. configure (pipeline/2)
	Hint    string `json:"hint,omitempty"` // the way out, e.g. did you mean "sources"?
}

// Error formats the problem as it is shown, its step and its hint on lines of their own:
//
//	recipes/core/zlib.yaml:12:3: unknown field "wiht"
//	  step: autoconf/configure (pipeline/1)
//	  hint: did you mean "with"?
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
			if p.Column > 0 {
				fmt.Fprintf(&b, ":%d", p.Column)
			}
		}
		b.WriteString(": ")
	}
	if p.Severity != Error {
		b.WriteString(p.Severity.String() + ": ")
	}
	b.WriteString(p.Text)
	if p.Rule != "" {
		fmt.Fprintf(&b, " [%s]", p.Rule)
	}
	if p.Step != "" {
		b.WriteString("\n  step: " + p.Step)
	}
	if p.Hint != "" {
		b.WriteString("\n  hint: " + p.Hint)
	}
	return b.String()
}

// Problems is all that is wrong with a set of files, found in one run.
type Problems []Problem

// Error lists the problems, one below the other, sorted by place, and counts
// them where there is more than one.
func (ps Problems) Error() string {
	sorted := slices.Clone(ps)
	sorted.Sort()
	lines := make([]string, 0, len(sorted)+1)
	files := map[string]bool{}
	for _, p := range sorted {
		lines = append(lines, p.Error())
		files[p.File] = true
	}
	if len(ps) > 1 {
		lines = append(lines, fmt.Sprintf("%d problems in %s", len(ps), plural(len(files), "file")))
	}
	return strings.Join(lines, "\n")
}

// Sort orders problems by file, then line, then column, then text.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Text, b.Text))
	})
}

// Err is the problems as an error if one of them is of severity Error, else nil.
func (ps Problems) Err() error {
	if slices.ContainsFunc(ps, func(p Problem) bool { return p.Severity == Error }) {
		return ps
	}
	return nil
}

// Of gives the problems that err carries, if it carries any.
func Of(err error) (Problems, bool) {
	if ps, ok := errors.AsType[Problems](err); ok {
		return ps, true
	}
	if p, ok := errors.AsType[Problem](err); ok {
		return Problems{p}, true
	}
	return nil, false
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Nearest gives the word of choices that word was probably meant to be, or ""
// when none is near: at most a third of its letters (and at least one) differ, or
// word is a choice cut short.
func Nearest(word string, choices []string) string {
	limit := max(1, len(word)/3)
	best, bestDistance := "", limit+1
	for _, choice := range choices {
		if d := Distance(word, choice, limit); d < bestDistance || d == bestDistance && d <= limit && choice < best {
			best, bestDistance = choice, d
		}
	}
	if best != "" || len(word) < 3 {
		return best
	}
	for _, choice := range choices {
		if strings.HasPrefix(choice, word) && (best == "" || len(choice) < len(best) || len(choice) == len(best) && choice < best) {
			best = choice
		}
	}
	return best
}

// DidYouMean is the hint that goes with an unknown word, or "".
func DidYouMean(word string, choices []string) string {
	if n := Nearest(word, choices); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return ""
}

// Distance is the optimal string alignment distance of a and b (insertion,
// deletion, replacement, swap of neighbours), or more than limit.
func Distance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	before, last, this := rows[0], rows[1], rows[2]
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		this[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			this[j] = min(last[j]+1, this[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				this[j] = min(this[j], before[j-2]+1)
			}
		}
		before, last, this = last, this, before
	}
	return last[len(b)]
}
