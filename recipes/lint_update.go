package recipes

import (
	"regexp"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
)

// updateRules are about how new versions are found.
var updateRules = []Rule{
	{
		Name: "schedule", Severity: diag.Error, Known: "valid-update-schedule",
		Reason:  "A schedule without a period is none: bots look as often as ever. A period that is none of daily, weekly and monthly is refused when the recipe is read.",
		Example: "update:\n  enabled: true\n  schedule:\n    reason: a release every day\n  release-monitor:\n    identifier: 1",
		Instead: "update:\n  enabled: true\n  schedule:\n    period: weekly\n    reason: a release every day\n  release-monitor:\n    identifier: 1",
		find: func(l *linter) {
			if s := l.recipe.Update.Schedule; s != nil && s.Period == "" {
				l.report(s.Here, "add period: daily, weekly or monthly", "the schedule has no period")
			}
		},
	},
	{
		Name: "update", Severity: diag.Warning,
		Reason:  "Without \"update\" nobody notices that upstream has a new version.",
		Example: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0",
		Instead: "update:\n  enabled: true\n  release-monitor:\n    identifier: 5303",
		find: func(l *linter) {
			if !l.recipe.Here.Has("update") {
				l.report(l.recipe.Package.Here.Value("version"), "", "the recipe does not say where new versions come from")
			}
		},
	},
	{
		Name: "update-disabled-reason", Severity: diag.Warning,
		Reason:  "A package that no bot updates grows old. Whoever looks after it later has to know why.",
		Example: "update:\n  enabled: false",
		Instead: "update:\n  enabled: false\n  exclude-reason: upstream has ended; kept for x",
		find: func(l *linter) {
			u := l.recipe.Update
			if l.recipe.Here.Has("update") && !u.Enabled && strings.TrimSpace(u.ExcludeReason) == "" {
				l.report(l.recipe.Here.Value("update").Key("enabled"), "add exclude-reason", "updates are off, and no reason is given")
			}
		},
	},
	{
		Name: "update-git", Severity: diag.Error, Known: "git-checkout-must-use-github-updates",
		Reason:  "Who raises the version of a git-checkout must find the new expected-commit as well: only update.github and update.git know it.",
		Example: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://github.com/x/x\n      tag: v${{package.version}}\n      expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf\nupdate:\n  enabled: true\n  release-monitor:\n    identifier: 1",
		Instead: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://github.com/x/x\n      tag: v${{package.version}}\n      expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf\nupdate:\n  enabled: true\n  github:\n    identifier: x/x",
		find: func(l *linter) {
			u := l.recipe.Update
			if !u.Enabled || u.GitHub != nil || u.Git != nil {
				return
			}
			eachTask(l.recipe.Pipeline, func(t *Task) {
				if t.Uses == "git-checkout" && githubProject(t.With["repository"]) != "" {
					l.report(l.recipe.Here.Key("update"), "use update.github or update.git", "updates of a git-checkout from GitHub must tell its commit")
				}
			})
		},
	},
	{
		Name: "update-identifier", Severity: diag.Error,
		Reason:  "When bots look for versions in another project than the source comes from, they propose versions that the source does not have.",
		Example: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://github.com/x/x\n      tag: v${{package.version}}\n      expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf\nupdate:\n  enabled: true\n  github:\n    identifier: x/y",
		Instead: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://github.com/x/x\n      tag: v${{package.version}}\n      expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf\nupdate:\n  enabled: true\n  github:\n    identifier: x/x",
		find: func(l *linter) {
			monitor := l.recipe.Update.GitHub
			if monitor == nil || monitor.Identifier == "" || strings.Contains(monitor.Identifier, "${{") {
				return
			}
			var projects []string
			eachTask(l.recipe.Pipeline, func(t *Task) {
				if t.Uses == "git-checkout" {
					projects = append(projects, githubProject(t.With["repository"]))
				}
			})
			if len(projects) == 0 {
				return
			}
			for _, p := range projects {
				if p == "" || strings.EqualFold(p, monitor.Identifier) {
					return // of another host, of a variable, or the same
				}
			}
			l.report(l.recipe.Here.Value("update").Value("github").Value("identifier"), "", "versions are looked for in %s, and the source comes from %s", monitor.Identifier, projects[0])
		},
	},
}

var githubAddress = regexp.MustCompile(`^https://github\.com/([^/${}]+/[^/${}]+?)(\.git)?/?$`)

// githubProject is the project of an address at GitHub, "" for others and for those
// that hold variables.
func githubProject(address string) string {
	if m := githubAddress.FindStringSubmatch(address); m != nil {
		return m[1]
	}
	return ""
}
