package recipes

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Rule is one thing that Lint looks for in recipes that can be read.
type Rule struct {
	Name     string
	Severity diag.Severity
	Reason   string // why it matters
	Example  string // a part of a recipe that the rule finds
	Instead  string // the same, done right: the rule leaves it alone
	// Known is the name that users of wolfictl know the rule by, where it is another.
	Known string
	// find is nil for what reading a recipe refuses anyhow: such a rule can only be explained.
	find func(l *linter)
}

// Rules are all rules of recipes, sorted by name.
var Rules []Rule

// Rules tell of each other, which a variable's own value can't.
func init() {
	Rules = slices.Concat(packageRules, sourceRules, variableRules, updateRules, shellRules)
	slices.SortFunc(Rules, func(a, b Rule) int { return strings.Compare(a.Name, b.Name) })
}

// FindRule gives the rule of a name, which may be the one that wolfictl has for it.
func FindRule(name string) (Rule, bool) {
	for _, r := range Rules {
		if r.Name == name || r.Known == name {
			return r, true
		}
	}
	return Rule{}, false
}

// CanMove tells whether a [diag.Policy] may speak of the rule.
func (r Rule) CanMove() bool { return r.find != nil }

// LintOptions are what Lint is told by whoever asks.
type LintOptions struct {
	Policy diag.Policy
}

// Lint finds what is not good in a script's recipe although it can be read. Every
// problem carries the name of its rule, and is as severe as the rule is by itself, by
// the policy, and by the comments of the recipe (see waiver).
func Lint(s *Script, o LintOptions) diag.Problems {
	if s.recipe == nil {
		return nil
	}
	l := &linter{script: s, recipe: s.recipe, waivers: waivers(s.recipe.source)}
	for i := range Rules {
		l.rule = &Rules[i]
		if l.rule.find != nil && l.rule.Name != waiverRule {
			l.rule.find(l)
		}
	}
	l.rule = &Rules[slices.IndexFunc(Rules, func(r Rule) bool { return r.Name == waiverRule })]
	l.rule.find(l) // when it is known what was found
	var told diag.Problems
	for _, p := range l.problems {
		rule, _ := FindRule(p.Rule)
		p.Severity = o.Policy.Severity(p.Rule, rule.Severity)
		if l.waived(p) {
			// What the workspace insists on is told all the same, and stops nothing.
			if p.Severity = diag.Off; slices.Contains(o.Policy.Require, p.Rule) {
				p.Severity = diag.Warning
			}
		}
		if p.Severity != diag.Off {
			told = append(told, p)
		}
	}
	told.Sort()
	told = slices.Compact(told)
	nameSteps(told, s.recipe.path, s.recipe.Here)
	return told
}

// linter holds one recipe against the rules.
type linter struct {
	script   *Script
	recipe   *Recipe
	rule     *Rule
	problems diag.Problems
	waivers  []*waiver
	scripts  []shellScript // when parsed
	isParsed bool
}

func (l *linter) add(p diag.Problem) {
	p.Rule = l.rule.Name
	l.problems = append(l.problems, p)
}

func (l *linter) report(at yamlread.Place, hint, format string, args ...any) {
	l.add(at.Problem(hint, format, args...))
}

// inside reports what stands at the byte at offset of a text.
func (l *linter) inside(at yamlread.Place, offset int, hint, format string, args ...any) {
	l.add(at.ProblemInside(offset, hint, format, args...))
}

// section is a list of tasks.
type section struct {
	tasks []Task
	test  bool
	at    yamlread.Place // of what the tasks belong to
}

// sections are the pipelines of the recipe and of its subpackages, builds and tests.
func (r *Recipe) sections() []section {
	list := []section{{r.Pipeline, false, r.Here}}
	test := func(t *TestSection) {
		if t != nil {
			list = append(list, section{t.Pipeline, true, t.Here})
		}
	}
	test(r.Test)
	for i := range r.Subpackages {
		s := &r.Subpackages[i]
		list = append(list, section{s.Pipeline, false, s.Here})
		test(s.Test)
	}
	return list
}

func eachTask(tasks []Task, visit func(*Task)) {
	for i := range tasks {
		visit(&tasks[i])
		eachTask(tasks[i].Pipeline, visit)
	}
}

// eachTask visits every task of the recipe.
func (r *Recipe) eachTask(visit func(*Task)) {
	for _, s := range r.sections() {
		eachTask(s.tasks, visit)
	}
}

// shellScript is a script of the recipe as its author wrote it.
type shellScript struct {
	task *Task
	test bool // of a test
	file *syntax.File
}

// at is the place of a node of the script.
func (s shellScript) place() yamlread.Place { return s.task.Here.Value("runs") }

// template is a variable of the recipe's in a text.
var template = regexp.MustCompile(`\$\{\{[^}]*\}\}`)

// stand puts letters into the place of variables, as many as there are bytes, so that a
// text can be read by other rules and every byte of it keeps its place.
func stand(text string) string {
	return template.ReplaceAllStringFunc(text, func(v string) string { return strings.Repeat("x", len(v)) })
}

// shell parses the scripts of the recipe. What is no bash was refused when it was expanded.
func (l *linter) shell() []shellScript {
	if l.isParsed {
		return l.scripts
	}
	l.isParsed = true
	parser := parsers.Get().(*syntax.Parser)
	defer parsers.Put(parser)
	for _, s := range l.recipe.sections() {
		eachTask(s.tasks, func(t *Task) {
			if t.Runs == "" {
				return
			}
			if file, err := parser.Parse(strings.NewReader(stand(t.Runs)), ""); err == nil {
				l.scripts = append(l.scripts, shellScript{t, s.test, file})
			}
		})
	}
	return l.scripts
}

// ExplainRule says why a rule of recipes is there, what it finds and what is right, or
// "" where there is no such rule.
func ExplainRule(name string) string {
	r, found := FindRule(name)
	if !found {
		return ""
	}
	var b strings.Builder
	severity := r.Severity.String()
	if r.find == nil {
		severity = "always an error"
	}
	fmt.Fprintf(&b, "%s (%s", r.Name, severity)
	if r.Known != "" {
		fmt.Fprintf(&b, "; wolfictl: %s", r.Known)
	}
	indent := func(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") }
	fmt.Fprintf(&b, ")\n\n%s\n\nIt finds:\n\n%s\n\nInstead:\n\n%s", r.Reason, indent(r.Example), indent(r.Instead))
	return b.String()
}
