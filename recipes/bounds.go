package recipes

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Bounds of what a recipe may grow to, for a few lines of variables can stand for more than
// a machine holds. What people write stays far below each.
const (
	maxText     = yamlread.MaxBytes // bytes of one text when it is substituted
	maxTexts    = 64 << 20          // bytes of all of them
	maxPackages = 10_000            // of one recipe
	maxTasks    = 100_000           // of one recipe, those of the pipelines it uses among them
)

// excess is what a bound of the expansion is passed with: expanding stops there. It is a
// panic from where it is found to where [expander.stopped] makes a mistake of it.
type excess struct {
	at   yamlread.Place
	text string
}

// exceed stops expanding.
func exceed(at yamlread.Place, format string, args ...any) {
	panic(excess{at, fmt.Sprintf(format, args...)})
}

// stopped takes what recover gave, and reports whether expanding stopped at a bound, which
// it tells as a mistake.
func (e *expander) stopped(recovered any) bool {
	switch x := recovered.(type) {
	case nil:
		return false
	case excess:
		p := diag.Problem{File: e.recipe.path, Text: x.text}
		if !x.at.IsZero() {
			p = x.at.Problem("", "%s", x.text)
		}
		e.add(p)
		return true
	default:
		panic(x)
	}
}

// spend counts bytes of text, and what stands for them.
func (e *expander) spend(n int, at yamlread.Place) {
	if e.spent += n; e.spent > maxTexts {
		exceed(at, "the recipe's texts grow beyond %d MiB here", maxTexts>>20)
	}
}

// transform is the regular expression's ReplaceAllString, within maxText.
func transform(match *regexp.Regexp, text, replace string, at yamlread.Place) string {
	var (
		out    []byte
		done   int
		groups = strings.Count(replace, "$")
	)
	for _, m := range match.FindAllStringSubmatchIndex(text, -1) {
		out = append(out, text[done:m[0]]...)
		// No group is longer than the match that it is in.
		if len(out)+len(replace)+groups*(m[1]-m[0]) > maxText {
			exceed(at, "the transform's result grows beyond %d MiB", maxText>>20)
		}
		out = match.ExpandString(out, replace, text, m)
		done = m[1]
	}
	return string(append(out, text[done:]...))
}
