package recipes_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/recipes"
)

// withParts is a small recipe with those of its keys replaced that the parts have.
func withParts(parts string) string {
	keys := map[string]string{
		"package":  "package:\n  name: x\n  version: 1.2.3\n  epoch: 0\n  description: X\n  copyright:\n    - license: MIT\n",
		"pipeline": "pipeline:\n  - runs: make\n",
	}
	key := ""
	for line := range strings.Lines(parts + "\n") {
		if m := regexp.MustCompile(`^([a-z-]+):`).FindStringSubmatch(line); m != nil {
			key = m[1]
			keys[key] = ""
		}
		keys[key] += line
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		text.WriteString(keys[key])
	}
	return text.String()
}

func lintText(t *testing.T, text string) diag.Problems {
	t.Helper()
	s := expand(t, text, recipes.Target{Commit: corpusCommit}, nil)
	return recipes.Lint(s, recipes.LintOptions{})
}

// Each rule finds its own example, leaves alone what it says is right, and tells why.
func TestRulesHoldTheirExamples(t *testing.T) {
	for _, rule := range recipes.Rules {
		t.Run(rule.Name, func(t *testing.T) {
			text := recipes.ExplainRule(rule.Name)
			for _, part := range []string{rule.Reason, rule.Example, rule.Instead} {
				if first, _, _ := strings.Cut(part, "\n"); first == "" || !strings.Contains(text, first) {
					t.Errorf("%q is not in what is told:\n%s", first, text)
				}
			}
			if !rule.CanMove() || rule.Name == "pipeline-key" {
				return // told when a recipe is read, and about another kind of file
			}
			finds := func(parts string) bool {
				return slices.ContainsFunc(lintText(t, withParts(parts)), func(p diag.Problem) bool {
					if p.Rule == rule.Name && p.Severity != rule.Severity {
						t.Errorf("found as %s, want %s", p.Severity, rule.Severity)
					}
					return p.Rule == rule.Name
				})
			}
			if !finds(rule.Example) {
				t.Errorf("it does not find:\n%s", rule.Example)
			}
			if finds(rule.Instead) {
				t.Errorf("it finds:\n%s", rule.Instead)
			}
		})
	}
}

// Each recipe of testdata/lint.txtar gets exactly the words beside it.
func TestLint(t *testing.T) {
	file := filepath.Join("testdata", "lint.txtar")
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, f := range archive.Files {
		files[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	below, err := fs.Sub(files, "pipelines")
	if err != nil {
		t.Fatal(err)
	}
	pipelines := recipes.NewPipelines(recipes.Dir{Path: "pipelines", FS: below})
	for i := range archive.Files {
		f := &archive.Files[i]
		name, ok := strings.CutSuffix(f.Name, ".txt")
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r, err := recipes.Load(files, name+".yaml")
			if err != nil {
				t.Fatal(err)
			}
			s, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, pipelines)
			if err != nil {
				t.Fatal(err)
			}
			got := recipes.Lint(s, recipes.LintOptions{}).Error() + "\n"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				f.Data = []byte(got)
			}
			if diff := cmp.Diff(string(f.Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A policy moves rules; what it requires a recipe can't silence.
func TestLintPolicy(t *testing.T) {
	text := withParts("pipeline:\n  # tarn:ignore http: they have no other\n  - uses: fetch\n    with:\n      uri: http://example.org/x.tar.gz # tarn:ignore http: they have no other\n" +
		"      expected-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\ntest:\n  pipeline:\n    - runs: x\nupdate:\n  enabled: true\n  release-monitor:\n    identifier: 1\n")
	s := expand(t, text, recipes.Target{}, nil)
	for _, test := range []struct {
		policy diag.Policy
		want   string
	}{
		{diag.Policy{}, "ignore warning"}, // the first comment is about the line of "uses"
		{diag.Policy{Require: []string{"http", "ignore"}}, "ignore error, http warning"},
		{diag.Policy{Warn: []string{"http"}, Off: []string{"ignore"}}, ""},
	} {
		var got []string
		for _, p := range recipes.Lint(s, recipes.LintOptions{Policy: test.policy}) {
			got = append(got, p.Rule+" "+p.Severity.String())
		}
		if got := strings.Join(got, ", "); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.policy, got, test.want)
		}
	}
}

func TestWaived(t *testing.T) {
	s := expand(t, "# tarn:ignore usrlocal, opt: an old tree\n"+withParts("pipeline:\n  - runs: make # tarn:ignore strip debuggers want it\n  # tarn:ignore empty\n"), recipes.Target{}, nil)
	if diff := cmp.Diff([]string{"usrlocal", "opt", "strip"}, s.Waived()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// FuzzWaivers: comments never stop anything, and every one is told of or understood.
func FuzzWaivers(f *testing.F) {
	for _, seed := range []string{"# tarn:ignore pinned: x", "#tarn:ignore", "# tarn:ignore a,b , c why", "x # tarn:ignore ,,:: –"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, comment string) {
		if strings.ContainsAny(comment, "\n\r\x00\u0085\u2028\u2029") {
			return
		}
		files := fstest.MapFS{"x.yaml": {Data: []byte(withParts("pipeline:\n  - runs: |\n      make\n      # " + comment))}}
		r, err := recipes.Load(files, "x.yaml")
		if err != nil {
			return
		}
		s, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil)
		if err != nil {
			return
		}
		recipes.Lint(s, recipes.LintOptions{})
	})
}

// A mistake in shell text has its line and column in the recipe, in every way that YAML
// has of writing text. Where lines are folded or escaped, it is where the text begins.
func TestShellMistakesHaveTheirPlace(t *testing.T) {
	for _, test := range []struct{ name, step, want string }{
		{"block", "  - runs: |\n      make\n      if true; then\n        make x\n", "7:7: shell: `if <cond>` must be followed by `then`"},
		{"block that is indented further", "  - runs: |2\n        make\n        echo )\n", "7:14: shell: "},
		{"after a heredoc", "  - runs: |\n      cat <<'EOF'\n      ) ) )\n      EOF\n      echo \"x\n", "9:12: shell: reached EOF without closing quote"},
		{"a heredoc without an end", "  - runs: |\n      make\n      cat <<EOF\n      x\n", "7:11: shell: unclosed here-document"},
		{"folded", "  - runs: >\n      make\n      echo )\n", "5:11: shell: "},
		{"plain", "  - runs: echo )\n", "5:16: shell: "},
		{"single quotes", "  - runs: 'echo )'\n", "5:17: shell: "},
		{"double quotes", "  - runs: \"echo )\"\n", "5:17: shell: "},
		{"double quotes with escapes", "  - runs: \"make\\necho )\"\n", "5:11: shell: "},
		{"flow", "  - {name: x, runs: echo )}\n", "5:26: shell: "},
		{"after a variable", "  - runs: |\n      echo ${{package.name}} )\n", "6:30: shell: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := "package:\n  name: x\n  version: 1.2.3\npipeline:\n" + test.step
			r, err := recipes.Load(fstest.MapFS{"x.yaml": {Data: []byte(text)}}, "x.yaml")
			if err != nil {
				t.Fatal(err)
			}
			_, err = recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil)
			if err == nil || !strings.HasPrefix(err.Error(), "x.yaml:"+test.want[:strings.Index(test.want, "shell")]) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// corpusScripts expands the recipes that other people wrote.
func corpusScripts(t testing.TB) []*recipes.Script {
	files := corpusFiles(t)
	folder, err := fs.Sub(files, "wolfi-open")
	if err != nil {
		t.Fatal(err)
	}
	below, err := fs.Sub(files, "wolfi-open/pipelines")
	if err != nil {
		t.Fatal(err)
	}
	all, err := recipes.LoadAll(folder, "wolfi")
	if err != nil {
		t.Fatal(err)
	}
	pipelines := recipes.NewPipelines(recipes.Dir{Path: "pipelines", FS: below})
	var scripts []*recipes.Script
	for _, r := range all {
		if s, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, pipelines); err == nil {
			scripts = append(scripts, s)
		}
	}
	return scripts
}

// What is found in recipes that are well kept is frozen, so that a rule that grows noisy is
// seen. It is to be read: each line should be one that its maintainer is glad to be told.
func TestLintCorpus(t *testing.T) {
	var b strings.Builder
	count := map[string]int{}
	for _, s := range corpusScripts(t) {
		for _, p := range recipes.Lint(s, recipes.LintOptions{}) {
			p.Hint = ""
			count[p.Rule]++
			b.WriteString(p.Error() + "\n")
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, "%4d %s\n", count[rule], rule)
	}
	golden(t, "lint_corpus.golden", b.String())
}

// BenchmarkLint holds every recipe of the corpus against all rules.
func BenchmarkLint(b *testing.B) {
	scripts := corpusScripts(b)
	for b.Loop() {
		for _, s := range scripts {
			recipes.Lint(s, recipes.LintOptions{})
		}
	}
}
