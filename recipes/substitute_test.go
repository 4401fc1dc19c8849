package recipes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// scriptFile reads text as the value of "runs" in a file.
func scriptFile(t testing.TB, text string) phrase {
	var file struct {
		Runs string         `yaml:"runs"`
		Here yamlread.Place `yaml:",here"`
	}
	var b strings.Builder
	b.WriteString("runs: |\n")
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	if _, err := yamlread.Decode("a.yaml", []byte(b.String()), &file); err != nil {
		t.Fatal(err)
	}
	return phrase{text: file.Runs, at: file.Here.Value("runs")}
}

// Places are told in the file's own text, however much longer or shorter values made it.
func TestPlacesAfterSubstitution(t *testing.T) {
	p := scriptFile(t, "echo ${{short}} ${{long}}\necho ${{two}} ${{nothing}}\nend\n")
	var problems diag.Problems
	p = p.plain(map[string]string{"short": "s", "two": "${{long}}\nx"})
	p = p.strict(&scope{vars: map[string]string{"long": strings.Repeat("long ", 10)}}, nil, &problems)
	if want := "a.yaml:3:17: undefined variable \"nothing\""; problems.Error() != want {
		t.Errorf("got %s, want %s", problems, want)
	}
	tests := []struct{ word, want string }{
		{"echo s", "a.yaml:2:3"},
		{"s long", "a.yaml:2:8"},
		{"long long", "a.yaml:2:19"},
		{"end", "a.yaml:4:3"},
		{"\nx", "a.yaml:3:8"},
		{" \nend", "a.yaml:3:16"},
	}
	for _, test := range tests {
		line, column := p.at.Inside(p.origin(strings.Index(p.text, test.word)))
		if got := fmt.Sprintf("a.yaml:%d:%d", line, column); got != test.want {
			t.Errorf("%q stands at %s, want %s", test.word, got, test.want)
		}
	}
}

// Substitution gives what replacing the text would, never crashes, and every byte of
// the result comes from inside the file's text, in order.
func FuzzSubstitute(f *testing.F) {
	f.Add("echo ${{a}} ${{ b }}", "x", "y${{a}}")
	f.Add("${{${{a}}}}${{", "a", "")
	f.Add("a ${{b}}${{b}} ${{c}}\n}}", "${{b}}", "\n")
	f.Fuzz(func(t *testing.T, text, a, b string) {
		vars := map[string]string{"a": a, "b": b}
		p := phrase{text: text}
		first := p.plain(vars)
		if want := strings.NewReplacer("${{a}}", a, "${{b}}", b).Replace(text); first.text != want {
			t.Fatalf("%q became %q, want %q", text, first.text, want)
		}
		var problems diag.Problems
		second := first.strict(&scope{vars: vars}, nil, &problems)
		if len(problems) == 0 && !strings.Contains(a+b, "${{") && strings.Contains(second.text, "${{") && !strings.Contains(a+b, "$") && !strings.Contains(a+b, "{") {
			t.Errorf("%q became %q without a problem", text, second.text)
		}
		for _, q := range []phrase{first, second} {
			last := 0
			for i := range q.text {
				o := q.origin(i)
				if o < last || o > len(text) {
					t.Fatalf("byte %d of %q comes from %d, after %d of %d", i, q.text, o, last, len(text))
				}
				last = o
			}
		}
	})
}
