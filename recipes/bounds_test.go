package recipes_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// A few lines that stand for more than a machine holds are a mistake with a place.
func TestBounds(t *testing.T) {
	each := func(n int, form string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, form, i, i+1)
		}
		return b.String()
	}
	ten := func(text string) string { return strings.Repeat(text, 10) }
	doubling := fstest.MapFS{"last.yaml": {Data: []byte("runs: echo\n")}}
	for i, next := range strings.Fields("b c d e f last") {
		doubling[string(rune('a'+i))+".yaml"] = &fstest.MapFile{Data: []byte("pipeline:\n" + ten("- uses: "+next+"\n"))}
	}
	tests := []struct{ name, text, want string }{
		{"variables of variables", "vars: {v0: " + ten("x") + "}\nvar-transforms:\n" + each(9, "- {from: '"+ten("${{vars.v%[1]d}}")+"', match: q, replace: q, to: v%[2]d}\n"),
			"r.yaml:13:10: the text grows beyond 4 MiB when its variables are replaced"},
		{"a transform", "vars: {v0: " + ten("x") + "}\nvar-transforms:\n" + each(9, "- {from: '${{vars.v%[1]d}}', match: '.+', replace: '"+ten("$0")+"', to: v%[2]d}\n"),
			"r.yaml:13:48: the transform's result grows beyond 4 MiB"},
		{"a script", "vars: {v: " + strings.Repeat("x", 1<<20) + "}\npipeline:\n- runs: echo ${{vars.v}}${{vars.v}}${{vars.v}}${{vars.v}}${{vars.v}}\n",
			"r.yaml:8:9: the text grows beyond 4 MiB when its variables are replaced\n  step: pipeline/0"},
		{"all scripts", "vars: {v: " + strings.Repeat("x", 3<<20) + "}\npipeline:\n" + strings.Repeat("- runs: echo ${{vars.v}}\n", 100),
			"r.yaml:29:9: the recipe's texts grow beyond 64 MiB here\n  step: pipeline/21"},
		{"ranges", "data:\n- name: t\n  items:\n" + each(1000, "    k%[1]d: v%[2]d\n") + "subpackages:\n" + each(11, "- {range: t, name: 's%[1]d-${{range.key}}'} # %[2]d\n"),
			"r.yaml:1020:11: the ranges make more than 10000 packages"},
		{"pipelines", "pipeline:\n- uses: a\n", "r.yaml:7:3: the recipe has more than 100000 steps, those of the pipelines it uses among them\n  step: a (pipeline/0)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := recipes.Read("r.yaml", []byte("package:\n  name: zlib\n  version: 1.3.1\n  epoch: 2\n  copyright: [{license: MIT}]\n"+test.text))
			if err != nil {
				t.Fatal(err)
			}
			s, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, recipes.NewPipelines(recipes.Dir{Path: "pipelines", FS: doubling}))
			if err == nil || err.Error() != test.want {
				t.Errorf("%v, want:\n%s", err, test.want)
			}
			if s == nil || s.Name != "zlib" || len(s.Packages) == 0 || s.Listing() == nil {
				t.Errorf("the script says nothing: %v", s)
			}
			// The same bounds hold where only what comes from outside is looked for.
			if _, err := recipes.OutsideOf(r, recipes.Target{Arch: apk.ArchX86_64}); err != nil && !strings.Contains(test.want, err.Error()) {
				t.Errorf("of what comes from outside: %v", err)
			}
		})
	}
}
