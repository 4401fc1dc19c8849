package recipes

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
)

// variableRules are about variables, and about what must move with the version.
var variableRules = []Rule{
	{
		Name: "unused-var", Severity: diag.Warning,
		Reason:  "A variable that nothing uses is left over, or misspelled where it was meant to be used.",
		Example: "vars:\n  major: \"1\"\npipeline:\n  - runs: make",
		Instead: "vars:\n  major: \"1\"\npipeline:\n  - runs: make MAJOR=${{vars.major}}",
		find: func(l *linter) {
			for _, name := range slices.Sorted(maps.Keys(l.recipe.Vars)) {
				if !l.uses("vars." + name) {
					l.report(l.recipe.Here.Value("vars").Key(name), "", "nothing uses ${{vars.%s}}", name)
				}
			}
		},
	},
	{
		Name: "unused-var-transform", Severity: diag.Warning,
		Reason:  "A variable that nothing uses is left over, or misspelled where it was meant to be used.",
		Example: "var-transforms:\n  - from: ${{package.version}}\n    match: \\.\n    replace: _\n    to: mangled\npipeline:\n  - runs: make",
		Instead: "var-transforms:\n  - from: ${{package.version}}\n    match: \\.\n    replace: _\n    to: mangled\npipeline:\n  - runs: make VERSION=${{vars.mangled}}",
		find: func(l *linter) {
			for i := range l.recipe.VarTransforms {
				t := &l.recipe.VarTransforms[i]
				if !l.uses("vars." + t.To) {
					l.report(t.Here.Value("to"), "", "nothing uses ${{vars.%s}}", t.To)
				}
			}
		},
	},
	{
		Name: "version-comment", Severity: diag.Error, Known: "check-when-version-changes",
		Reason:  "The comment says that what stands beside it holds for one version. The version is another one now.",
		Example: "pipeline:\n  - runs: |\n      # CHECK-WHEN-VERSION-CHANGES: 1.2.2\n      make -j1",
		Instead: "pipeline:\n  - runs: |\n      # CHECK-WHEN-VERSION-CHANGES: 1.2.3\n      make -j1",
		find: func(l *linter) {
			for _, s := range l.recipe.sections() {
				eachTask(s.tasks, func(t *Task) {
					for _, m := range versionComment.FindAllStringSubmatchIndex(t.Runs, -1) {
						if version := t.Runs[m[2]:m[3]]; version != l.recipe.Package.Version {
							l.inside(t.Here.Value("runs"), m[2], "look whether it still holds, then say "+l.recipe.Package.Version, "the comment is about version %s", version)
						}
					}
				})
			}
		},
	},
}

var versionComment = regexp.MustCompile(`# CHECK-WHEN-VERSION-CHANGES: (\S+)`)

// uses tells whether the recipe names a variable in any of its text.
func (l *linter) uses(name string) bool {
	text := string(l.recipe.source)
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		from += i + len(name)
		// vars.a is not vars.a-b.
		if from == len(text) || !strings.ContainsRune(nameLetters, rune(text[from])) {
			return true
		}
	}
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
