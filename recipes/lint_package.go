package recipes

import (
	"regexp"
	"slices"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp"
	"github.com/github/go-spdx/v2/spdxexp/spdxlicenses"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// packageRules are about what a recipe says of its packages and their environment.
var packageRules = []Rule{
	{
		Name: "arch-all", Severity: diag.Warning,
		Reason:  "A recipe is built for every architecture unless it names some: \"all\" says nothing, and hides what stands beside it.",
		Example: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  target-architecture: [all]",
		Instead: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  target-architecture: [x86_64]",
		find: func(l *linter) {
			at := l.recipe.Package.Here.Value("target-architecture")
			for i, arch := range l.recipe.Package.TargetArchitecture {
				if arch == "all" {
					l.report(at.Item(i), "leave target-architecture out", `"all" is what a recipe is for anyhow`)
				}
			}
		},
	},
	{
		Name: "bad-version", Severity: diag.Error,
		Reason:  "apk must be able to order versions: numbers, a letter, suffixes. Reading a recipe refuses others.",
		Example: "package:\n  name: x\n  version: v1.2-beta\n  epoch: 0",
		Instead: "package:\n  name: x\n  version: 1.2_beta\n  epoch: 0",
	},
	{
		Name: "checks-disabled", Severity: diag.Error,
		Reason:  "A rule that checks.disabled misspells is not disabled: it would stop the build all the same. Reading a recipe refuses it.",
		Example: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  checks:\n    disabled: [setuidgd]",
		Instead: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  checks:\n    disabled: [setuidgid]",
	},
	{
		Name: "condition-order", Severity: diag.Warning,
		Reason:  "In an \"if\", && and || are worked out from left to right; neither binds tighter, as readers would expect.",
		Example: "pipeline:\n  - if: ${{build.arch}} == 'x86_64' || ${{build.arch}} == 'aarch64' && ${{package.name}} == 'x'\n    runs: make",
		Instead: "pipeline:\n  - if: ${{build.arch}} == 'x86_64' || (${{build.arch}} == 'aarch64' && ${{package.name}} == 'x')\n    runs: make",
		find: func(l *linter) {
			check := func(text string, at yamlread.Place) {
				if c, err := ParseCondition(text); err == nil && c.Mixed() {
					l.report(at.Value("if"), "say with parentheses what is meant", "&& and || stand side by side without parentheses")
				}
			}
			for i := range l.recipe.Subpackages {
				check(l.recipe.Subpackages[i].If, l.recipe.Subpackages[i].Here)
			}
			l.recipe.eachTask(func(t *Task) { check(t.If, t.Here) })
		},
	},
	{
		Name: "copyright", Severity: diag.Warning, Known: "valid-copyright-header",
		Reason:  "A package without a licence can't be told from one that nobody may copy.",
		Example: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0",
		Instead: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  copyright:\n    - license: Zlib",
		find: func(l *linter) {
			if len(l.script.Licenses) == 0 {
				l.report(l.recipe.Package.Here, "add copyright, with an SPDX expression as its license", "the package has no licence")
			}
		},
	},
	{
		Name: "deprecated-license", Severity: diag.Warning,
		Reason:  "SPDX took the identifier back, mostly because it does not say whether later versions of the licence will do.",
		Example: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  copyright:\n    - license: GPL-2.0",
		Instead: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  copyright:\n    - license: GPL-2.0-or-later",
		find: func(l *linter) {
			for _, c := range l.recipe.Package.Copyright {
				for word := range licenseWords(c.License) {
					if old, _ := spdxlicenses.IsDeprecatedLicense(word); !old {
						continue
					}
					hint := ""
					if base := strings.TrimSuffix(word, "+"); isLicense(base + "-only") {
						hint = "say " + base + "-only or " + base + "-or-later"
					}
					l.report(c.Here.Value("license"), hint, "%q is an identifier that SPDX took back", word)
				}
			}
		},
	},
	{
		Name: "description", Severity: diag.Note,
		Reason:  "Who looks for a package finds it by its description.",
		Example: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0",
		Instead: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  description: Crosses things out",
		find: func(l *linter) {
			if strings.TrimSpace(l.recipe.Package.Description) == "" {
				l.report(l.recipe.Package.Here.Value("name"), "", "%q has no description", l.script.Name)
			}
		},
	},
	{
		Name: "epoch", Severity: diag.Error, Known: "contains-epoch",
		Reason:  "The epoch is what is raised when the recipe changes and the version does not: tools that raise it look for the key.",
		Example: "package:\n  name: x\n  version: 1.2.3",
		Instead: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0",
		find: func(l *linter) {
			if !l.recipe.Package.Here.Has("epoch") {
				l.report(l.recipe.Package.Here.Value("version"), "add epoch: 0 below it", "the package has no epoch")
			}
		},
	},
	{
		Name: "forbidden-keyring", Severity: diag.Error, Known: "forbidden-keyring-used",
		Reason:  "Which keys a build trusts is the workspace's to say: with a key of its own a recipe that came from elsewhere could bring packages of its own.",
		Example: "environment:\n  contents:\n    keyring: [https://example.org/x.rsa.pub]\n    packages: [busybox]",
		Instead: "environment:\n  contents:\n    packages: [busybox]",
		find: func(l *linter) {
			l.addresses("keyring", "name the key's folder in tarn.yaml (keys), or use --keyring-append", "a recipe can't say which keys are trusted: %s")
		},
	},
	{
		Name: "forbidden-repository", Severity: diag.Error, Known: "forbidden-repository-used",
		Reason:  "Which repositories a build takes packages from is the workspace's to say, and the same for all of its recipes.",
		Example: "environment:\n  contents:\n    repositories: [https://example.org/os]\n    packages: [busybox]",
		Instead: "environment:\n  contents:\n    packages: [busybox]",
		find: func(l *linter) {
			for _, key := range []string{"repositories", "build_repositories", "runtime_repositories"} {
				l.addresses(key, "name it in tarn.yaml (repositories), or use --repository-append", "a recipe can't say where packages come from: %s")
			}
		},
	},
	{
		Name: "ignore", Severity: diag.Warning,
		Reason:  "A comment that waves a rule away must name the rule and say why, and stand where the rule finds something: else it hides what is to come.",
		Example: "pipeline:\n  # tarn:ignore pined: upstream moves\n  - runs: make",
		Instead: "pipeline:\n  # tarn:ignore pinned: upstream has no releases\n  - uses: git-checkout\n    with:\n      repository: https://example.org/x\n      branch: main",
		find:    findWaivers,
	},
	{
		Name: "license", Severity: diag.Error, Known: "valid-spdx-license",
		Reason:  "Licences are compared by programs, which know the identifiers of SPDX alone. What SPDX does not list is called LicenseRef-NAME.",
		Example: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  copyright:\n    - license: Apache License 2.0",
		Instead: "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  copyright:\n    - license: Apache-2.0",
		find: func(l *linter) {
			for i, c := range l.recipe.Package.Copyright {
				text := l.script.Licenses[i].License
				// These two stand for no licence that has a name, as in wolfictl.
				if slices.Contains([]string{"custom", "PROPRIETARY", "NONE", "NOASSERTION"}, text) {
					continue
				}
				if valid, _ := spdxexp.ValidateLicenses([]string{text}); !valid {
					l.report(c.Here.Value("license"), licenseHint(text), "%q is no SPDX expression", text)
				}
			}
		},
	},
	{
		Name: "pipeline-key", Severity: diag.Note,
		Reason:  "A key that the language does not know does nothing in a pipeline file. It may be a mistyped one.",
		Example: "# in a pipeline file:\nneed:\n  packages: [busybox]",
		Instead: "# in a pipeline file:\nneeds:\n  packages: [busybox]",
		find: func(l *linter) {
			for _, note := range l.script.notes {
				l.add(note)
			}
		},
	},
	{
		Name: "provides-version", Severity: diag.Note,
		Reason:  "A name that several packages provide without a version can't be ordered: which of them is installed is left to priorities, and nobody can ask for a version.",
		Example: "subpackages:\n  - name: py3.13-x\n    dependencies:\n      provides: [py3-x]\n    pipeline:\n      - runs: make",
		Instead: "subpackages:\n  - name: py3.13-x\n    dependencies:\n      provides: [\"py3-x=${{package.full-version}}\"]\n    pipeline:\n      - runs: make",
		find: func(l *linter) {
			check := func(d *Dependencies) {
				for i, text := range d.Provides {
					if unversionedPython.MatchString(strings.TrimSpace(text)) && d.ProviderPriority == "" {
						l.report(d.Here.Value("provides").Item(i), text+"=${{package.full-version}}", "%q is provided without a version", text)
					}
				}
			}
			check(&l.recipe.Package.Dependencies)
			for i := range l.recipe.Subpackages {
				check(&l.recipe.Subpackages[i].Dependencies)
			}
		},
	},
	{
		Name: "repeated-deps", Severity: diag.Error, Known: "no-repeated-deps",
		Reason:  "A name that stands in a list twice was copied, and the one beside it that was meant may be missing.",
		Example: "environment:\n  contents:\n    packages: [busybox, git, busybox]",
		Instead: "environment:\n  contents:\n    packages: [busybox, git]",
		find: func(l *linter) {
			check := func(list []string, at yamlread.Place) {
				seen := map[string]int{}
				for i, text := range list {
					text = strings.TrimSpace(text)
					if first, again := seen[text]; again && text != "" {
						l.report(at.Item(i), "", "%q stands in the list twice, first in line %d", text, at.Item(first).Line())
						continue
					}
					seen[text] = i
				}
			}
			dependencies := func(d *Dependencies) {
				check(d.Runtime, d.Here.Value("runtime"))
				check(d.Provides, d.Here.Value("provides"))
				check(d.Replaces, d.Here.Value("replaces"))
			}
			environment := func(c *ImageConfig) { check(c.Contents.Packages, c.Contents.Here.Value("packages")) }
			environment(&l.recipe.Environment)
			dependencies(&l.recipe.Package.Dependencies)
			if l.recipe.Test != nil {
				environment(&l.recipe.Test.Environment)
			}
			for i := range l.recipe.Subpackages {
				s := &l.recipe.Subpackages[i]
				dependencies(&s.Dependencies)
				if s.Test != nil {
					environment(&s.Test.Environment)
				}
			}
		},
	},
	{
		Name: "repositories", Severity: diag.Warning,
		Reason:  "What a recipe says of repositories and keys is kept and not used: tarn.yaml says them for all recipes.",
		Example: "environment:\n  contents:\n    repositories: [./packages]\n    packages: [busybox]",
		Instead: "environment:\n  contents:\n    packages: [busybox]",
		find: func(l *linter) {
			contents := &l.recipe.Environment.Contents
			for key, list := range map[string][]string{"repositories": contents.Repositories, "build_repositories": contents.BuildRepositories, "keyring": contents.Keyring} {
				if contents.Here.Has(key) && !slices.ContainsFunc(list, func(s string) bool { return isAddress(s) || strings.HasPrefix(s, "@") }) {
					l.report(contents.Here.Key(key), "name them in tarn.yaml, or with --repository-append and --keyring-append", "%s of a recipe are not used", key)
				}
			}
		},
	},
	{
		Name: "sccache", Severity: diag.Error,
		Reason:  "A compiler cache gives what was compiled elsewhere, from what nobody knows. tarn builds nothing twice whose plan it knows.",
		Example: "environment:\n  contents:\n    packages: [busybox, sccache]",
		Instead: "environment:\n  contents:\n    packages: [busybox]",
		find: func(l *linter) {
			environment := func(c *ImageConfig) {
				at := c.Contents.Here.Value("packages")
				for i, text := range c.Contents.Packages {
					if name := strings.TrimSpace(text); isCompilerCache(strings.TrimSuffix(name, "-config")) {
						l.report(at.Item(i), "leave it out", "%q caches what compilers give", name)
					}
				}
				for name, value := range c.Environment {
					if slices.Contains([]string{"RUSTC_WRAPPER", "CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER"}, name) && isCompilerCache(value) {
						l.report(c.Here.Value("environment").Value(name), "leave it out", "%s is %s, which caches what compilers give", name, value)
					}
				}
			}
			if name := l.script.Name; !isCompilerCache(name) {
				environment(&l.recipe.Environment)
			}
		},
	},
	{
		Name: "tagged-repository", Severity: diag.Error, Known: "tagged-repository-in-environment-repos",
		Reason:  "A repository with a tag is of the one machine that has it.",
		Example: "environment:\n  contents:\n    repositories: [\"@local ./packages\"]\n    packages: [busybox]",
		Instead: "environment:\n  contents:\n    packages: [busybox]",
		find: func(l *linter) {
			contents := &l.recipe.Environment.Contents
			for key, list := range map[string][]string{"repositories": contents.Repositories, "build_repositories": contents.BuildRepositories, "runtime_repositories": contents.RuntimeRepositories} {
				for i, text := range list {
					if strings.HasPrefix(text, "@") {
						l.report(contents.Here.Value(key).Item(i), "use --repository-append where it is needed", "%q is a repository with a tag", text)
					}
				}
			}
		},
	},
	{
		Name: "test", Severity: diag.Note, Known: "valid-package-or-subpackage-test",
		Reason:  "A package that nothing tests may not even start. A recipe's test runs in a sandbox that holds just the package and what it depends on.",
		Example: "pipeline:\n  - uses: autoconf/make-install",
		Instead: "pipeline:\n  - uses: autoconf/make-install\ntest:\n  pipeline:\n    - runs: x --version",
		find: func(l *linter) {
			if l.script.Packages[0].Test == nil {
				l.report(l.recipe.Package.Here.Value("name"), "", "%q has no test", l.script.Name)
			}
		},
	},
}

// unversionedPython are names that the packages for several Pythons provide.
var unversionedPython = regexp.MustCompile(`^py3(\.\d+)?-[^=<>~]+$`)

func isAddress(text string) bool { return strings.Contains(text, "://") }

func isCompilerCache(name string) bool {
	return slices.Contains([]string{"sccache", "cg-sccache"}, name)
}

// addresses reports the addresses in a list of the environment's contents.
func (l *linter) addresses(key, hint, format string) {
	at := l.recipe.Environment.Contents.Here.Value(key)
	contents := &l.recipe.Environment.Contents
	lists := map[string][]string{
		"repositories": contents.Repositories, "build_repositories": contents.BuildRepositories,
		"runtime_repositories": contents.RuntimeRepositories, "keyring": contents.Keyring,
	}
	for i, text := range lists[key] {
		if isAddress(text) && !strings.HasPrefix(text, "@") {
			l.report(at.Item(i), hint, format, text)
		}
	}
}

// licenseWords are the identifiers of an expression.
func licenseWords(expression string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, word := range strings.Fields(strings.NewReplacer("(", " ", ")", " ").Replace(expression)) {
			switch strings.ToUpper(word) {
			case "AND", "OR", "WITH":
			default:
				if !yield(word) {
					return
				}
			}
		}
	}
}

func isLicense(id string) bool {
	active, _ := spdxlicenses.IsActiveLicense(id)
	return active
}

// licenseHint is what was probably meant by what is no expression.
func licenseHint(text string) string {
	known := spdxlicenses.GetLicenses()
	for word := range licenseWords(text) {
		old, _ := spdxlicenses.IsDeprecatedLicense(word)
		exception, _ := spdxlicenses.IsException(word)
		if isLicense(word) || old || exception || strings.HasPrefix(word, "LicenseRef-") {
			continue
		}
		if hint := diag.DidYouMean(word, known); hint != "" && len(word) > 2 {
			return hint
		}
	}
	return "licences are named as SPDX lists them, joined by AND, OR and WITH; others are LicenseRef-NAME"
}
