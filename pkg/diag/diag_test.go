package diag

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestProblemsReadAsTheyAreShown(t *testing.T) {
	problems := Problems{
		{File: "b.yaml", Line: 2, Column: 3, Text: `unknown field "sorces"`, Step: "fetch (pipeline/0)", Hint: `did you mean "sources"?`},
		{File: "a.yaml", Line: 10, Text: "no version", Severity: Warning, Rule: "version"},
		{File: "a.yaml", Line: 9, Text: "no name"},
	}
	want := `a.yaml:9: no name
a.yaml:10: warning: no version [version]
b.yaml:2:3: unknown field "sorces"
  step: fetch (pipeline/0)
  hint: did you mean "sources"?
3 problems in 2 files`
	if got := problems.Error(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestErr(t *testing.T) {
	if err := (Problems{{Text: "x", Severity: Warning}, {Text: "y", Severity: Note}}).Err(); err != nil {
		t.Errorf("warnings stop nothing, got %v", err)
	}
	err := fmt.Errorf("load: %w", Problems{{Text: "x"}}.Err())
	if found, ok := Of(err); !ok || len(found) != 1 {
		t.Errorf("got %v, %v", found, ok)
	}
	if _, ok := Of(errors.New("other")); ok {
		t.Error("an error of another kind is no problem of a file")
	}
}

func TestNearest(t *testing.T) {
	choices := []string{"sources", "version", "environment", "pipeline", "epoch"}
	for _, test := range []struct{ word, want string }{
		{"sorces", "sources"}, {"verison", "version"}, {"pipelines", "pipeline"}, {"enviroment", "environment"},
		{"epohc", "epoch"}, {"x", ""}, {"packages", ""}, {"", ""}, {"env", "environment"}, {"en", ""},
	} {
		if got := Nearest(test.word, choices); got != test.want {
			t.Errorf("Nearest(%q): got %q, want %q", test.word, got, test.want)
		}
	}
}

// The store remembers findings as JSON: what does not come back is built anew each time.
func TestProblemsComeBackFromJSON(t *testing.T) {
	want := Problems{
		{File: "a.yaml", Line: 1, Column: 2, Severity: Error, Text: "a", Step: "s", Hint: "b"},
		{File: "b.yaml", Severity: Warning, Rule: "usrmerge", Text: "c"},
		{Severity: Note, Text: "d"},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Problems
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("reading %s: %v", data, err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := json.Unmarshal([]byte(`[{"severity":"fatal"}]`), &got); err == nil {
		t.Error("an unknown severity was taken")
	}
}
