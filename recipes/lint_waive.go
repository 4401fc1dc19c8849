package recipes

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
)

// waiver is a comment of a recipe that waves rules away:
//
//	# tarn:ignore pinned: upstream has no releases, we follow its branch
//
// At the end of a line it speaks of that line. On a line of its own it speaks of the
// next line that is no comment; above the first key of the file, of all of it. A rule
// for built packages is waved away wherever the comment stands. What the comment says
// after the rules is the reason: without one it counts for nothing.
type waiver struct {
	line   int // of the comment
	column int
	about  int // the line that it speaks of; 0 is every line
	rules  []string
	reason string
}

var waiverComment = regexp.MustCompile(`(?:^|\s)(#[ \t]*tarn:ignore\b)(.*)$`)

// waivers finds the comments in the text of a recipe. It goes by lines, so that a
// comment inside of a script counts like one outside.
func waivers(source []byte) []*waiver {
	if !bytes.Contains(source, []byte("tarn:ignore")) {
		return nil
	}
	lines := strings.Split(string(source), "\n")
	isComment := func(line string) bool {
		trimmed := strings.TrimSpace(line)
		return trimmed == "" || strings.HasPrefix(trimmed, "#") || trimmed == "---"
	}
	first := slices.IndexFunc(lines, func(line string) bool { return !isComment(line) })
	var all []*waiver
	for i, line := range lines {
		m := waiverComment.FindStringSubmatchIndex(line)
		if m == nil {
			continue
		}
		w := &waiver{line: i + 1, column: m[2] + 1, about: i + 1}
		switch {
		case i < first:
			w.about = 0
		case isComment(line):
			for w.about <= len(lines) && isComment(lines[w.about-1]) {
				w.about++
			}
		}
		w.rules, w.reason = parseWaiver(line[m[4]:m[5]])
		all = append(all, w)
	}
	return all
}

// parseWaiver reads "RULE, RULE: why". The colon may be left out.
func parseWaiver(text string) (rules []string, reason string) {
	rest := strings.TrimSpace(text)
	for {
		word, after, _ := strings.Cut(rest, " ")
		rest = strings.TrimSpace(after)
		name := strings.TrimRight(word, ",:")
		for rule := range strings.SplitSeq(name, ",") {
			if rule != "" {
				known, isKnown := FindRule(rule)
				if isKnown {
					rule = known.Name
				}
				rules = append(rules, rule)
			}
		}
		if !strings.HasSuffix(word, ",") {
			return rules, strings.TrimSpace(strings.TrimLeft(rest, ":-–— "))
		}
	}
}

// waived tells whether a comment waves a problem away.
func (l *linter) waived(p diag.Problem) bool {
	found := false
	for _, w := range l.waivers {
		if w.reason != "" && (w.about == 0 || w.about == p.Line) && slices.Contains(w.rules, p.Rule) {
			found = true
		}
	}
	return found
}

// Waived are the rules for built packages, and others, that comments of the recipe wave
// away with a reason.
func (s *Script) Waived() []string {
	if s.recipe == nil {
		return nil
	}
	var rules []string
	for _, w := range waivers(s.recipe.source) {
		if w.reason != "" {
			rules = append(rules, w.rules...)
		}
	}
	return rules
}

const waiverRule = "ignore"

// findWaivers tells of comments that do not do what they seem to.
func findWaivers(l *linter) {
	names := slices.Clone(Linters)
	for _, r := range Rules {
		names = append(names, r.Name)
	}
	for _, w := range l.waivers {
		tell := func(hint, text string) {
			l.add(diag.Problem{File: l.recipe.path, Line: w.line, Column: w.column, Text: text, Hint: hint})
		}
		if len(w.rules) == 0 {
			tell("# tarn:ignore RULE: why", "the comment names no rule")
			continue
		}
		if w.reason == "" {
			tell("# tarn:ignore "+strings.Join(w.rules, ", ")+": why", "the comment gives no reason, and counts for nothing")
		}
		for _, rule := range w.rules {
			r, isRecipes := FindRule(rule)
			switch {
			case slices.Contains(Linters, rule):
			case !isRecipes:
				hint := diag.DidYouMean(rule, names)
				if hint == "" {
					hint = "tarn lint --explain lists the rules"
				}
				tell(hint, `there is no rule "`+rule+`"`)
			case r.find == nil:
				tell("tarn lint --explain "+r.Name, `"`+rule+`" can't be waved away`)
			case rule != waiverRule && !slices.ContainsFunc(l.problems, func(p diag.Problem) bool {
				return p.Rule == rule && (w.about == 0 || w.about == p.Line)
			}):
				tell("take the comment away, or put it on the line that the finding names", `"`+rule+`" finds nothing here`)
			}
		}
	}
}
