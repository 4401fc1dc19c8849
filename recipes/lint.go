package recipes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Rule is one thing that Lint looks for in recipes that are not wrong.
type Rule struct {
	Name    string
	Reason  string // why it matters
	Example string // how it is done right
	find    func(s *Script, report func(at yamlread.Place, hint, format string, args ...any))
}

// Rules are all rules of recipes, by name.
var Rules = []Rule{
	{
		Name:    "condition-order",
		Reason:  "In an \"if\", && and || are worked out from left to right; neither binds tighter, as readers would expect.",
		Example: "if: ${{build.arch}} == 'x86_64' || (${{build.arch}} == 'aarch64' && ${{vars.jit}} == 'on')",
		find: func(s *Script, report func(yamlread.Place, string, string, ...any)) {
			check := func(text string, at yamlread.Place) {
				if c, err := ParseCondition(text); err == nil && c.Mixed() {
					report(at.Value("if"), "say with parentheses what is meant", "&& and || stand side by side without parentheses")
				}
			}
			for i := range s.recipe.Subpackages {
				check(s.recipe.Subpackages[i].If, s.recipe.Subpackages[i].Here)
			}
			s.recipe.eachTask(func(t *Task) { check(t.If, t.Here) })
		},
	},
	{
		Name:    "copyright",
		Reason:  "A package without a licence can't be told from one that nobody may copy.",
		Example: "copyright:\n  - license: Zlib",
		find: func(s *Script, report func(yamlread.Place, string, string, ...any)) {
			if len(s.Licenses) == 0 {
				report(s.recipe.Package.Here, "add copyright, with an SPDX expression as its license", "the package has no licence")
			}
		},
	},
	{
		Name:    "pinned",
		Reason:  "A branch or a tag can be moved; only a commit says what is built.",
		Example: "- uses: git-checkout\n  with:\n    repository: https://example.org/zlib\n    tag: v1.3.1\n    expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf",
		find: func(s *Script, report func(yamlread.Place, string, string, ...any)) {
			s.recipe.eachTask(func(t *Task) {
				if t.Uses == "git-checkout" && t.With["expected-commit"] == "" {
					report(t.Here.Value("uses"), "add expected-commit", "the tree is named by no commit")
				}
			})
		},
	},
	{
		Name:    "pipeline-key",
		Reason:  "A key that the language does not know does nothing in a pipeline file. It may be a mistyped one.",
		Example: "needs:\n  packages:\n    - busybox",
		find: func(s *Script, report func(yamlread.Place, string, string, ...any)) {
			// Found as the files were read; see Lint.
		},
	},
	{
		Name:    "repositories",
		Reason:  "Which repositories and keys a build trusts is the workspace's to say: a recipe that came from elsewhere must not widen it. What a recipe names is kept and not used.",
		Example: "in tarn.yaml:\n  repositories: [https://packages.example.org/os]\n  keys: [repo/keys]",
		find: func(s *Script, report func(yamlread.Place, string, string, ...any)) {
			for _, key := range []string{"repositories", "build_repositories", "keyring"} {
				if at := s.recipe.Environment.Contents.Here; at.Has(key) {
					report(at.Key(key), "name them in tarn.yaml, or with --repository-append and --keyring-append", "%s of a recipe are not used", key)
				}
			}
		},
	},
	{
		Name:    "test",
		Reason:  "A package that nothing tests may not even start. A recipe's test runs in a sandbox that holds just the package and what it depends on.",
		Example: "test:\n  pipeline:\n    - runs: zlib-flate -compress </etc/passwd | zlib-flate -uncompress",
		find: func(s *Script, report func(yamlread.Place, string, string, ...any)) {
			if s.Packages[0].Test == nil {
				report(s.recipe.Package.Here.Value("name"), "", "%q has no test", s.Name)
			}
		},
	},
	{
		Name:    "update",
		Reason:  "Without \"update\" nobody notices that upstream has a new version.",
		Example: "update:\n  enabled: true\n  release-monitor:\n    identifier: 5303",
		find: func(s *Script, report func(yamlread.Place, string, string, ...any)) {
			if !s.recipe.Here.Has("update") {
				report(s.recipe.Package.Here.Value("version"), "", "the recipe does not say where new versions come from")
			}
		},
	},
}

// Lint finds what is not wrong in a script's recipe and still better done another
// way. All of it is of severity Warning or below, and carries the name of its rule.
func Lint(s *Script) diag.Problems {
	if s.recipe == nil {
		return nil
	}
	var problems diag.Problems
	for _, rule := range Rules {
		rule.find(s, func(at yamlread.Place, hint, format string, args ...any) {
			p := at.Problem(hint, format, args...)
			p.Severity, p.Rule = diag.Warning, rule.Name
			problems = append(problems, p)
		})
	}
	for _, note := range s.notes {
		note.Rule = "pipeline-key"
		problems = append(problems, note)
	}
	problems.Sort()
	return slices.Compact(problems)
}

// ExplainRule says why a rule of recipes is there, with an example, or "" where there is no such rule.
func ExplainRule(name string) string {
	i := slices.IndexFunc(Rules, func(r Rule) bool { return r.Name == name })
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("%s\n\n%s\n\n    %s", Rules[i].Name, Rules[i].Reason, strings.ReplaceAll(Rules[i].Example, "\n", "\n    "))
}

// eachTask visits every task of the recipe.
func (r *Recipe) eachTask(visit func(*Task)) {
	var walk func(tasks []Task)
	walk = func(tasks []Task) {
		for i := range tasks {
			visit(&tasks[i])
			walk(tasks[i].Pipeline)
		}
	}
	section := func(t *TestSection) {
		if t != nil {
			walk(t.Pipeline)
		}
	}
	walk(r.Pipeline)
	section(r.Test)
	for i := range r.Subpackages {
		walk(r.Subpackages[i].Pipeline)
		section(r.Subpackages[i].Test)
	}
}
