package recipes

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// nameSteps says of each mistake in a step of the recipe which step that is: its name,
// else the pipeline that it uses, and its place as in a listing, e.g. "build
// (subpackage:zlib-doc/1/0)". Of a step without either there is the place alone. A
// subpackage with a range is called as it is written.
//
// The step is found by the line and the column of the mistake, whatever found it: the
// innermost step that stands there.
func nameSteps(problems diag.Problems, path string, root yamlread.Place) {
	for i := range problems {
		if p := &problems[i]; p.File == path && p.Step == "" && p.Line > 0 {
			p.Step = stepAt(root, p.Line, p.Column)
		}
	}
}

// stepAt gives the innermost step of a recipe that stands at a line and column, "" for none.
func stepAt(root yamlread.Place, line, column int) string {
	path, here := root.Path(line, column), root
	at := "pipeline"
	if len(path) > 1 && path[0] == "subpackages" {
		here = here.Value("subpackages").Below(path[1])
		at = "subpackage:" + textOf(here, "name")
		path = path[2:]
	}
	if len(path) > 0 && path[0] == "test" {
		here = here.Value("test")
		if _, sub, found := strings.Cut(at, ":"); found {
			at = "subpackage-test:" + sub
		} else {
			at = "test"
		}
		path = path[1:]
	}
	name, found := "", false
	for len(path) > 1 && path[0] == "pipeline" && isIndex(path[1]) {
		here, found = here.Value("pipeline").Below(path[1]), true
		at += "/" + path[1]
		name = cmp.Or(textOf(here, "name"), textOf(here, "uses"))
		path = path[2:]
	}
	switch {
	case !found:
		return ""
	case name == "":
		return at
	}
	return name + " (" + at + ")"
}

// textOf is the text of a key, "" where there is none.
func textOf(p yamlread.Place, key string) string {
	if !p.Has(key) {
		return ""
	}
	return p.Value(key).Text()
}

func isIndex(text string) bool {
	_, err := strconv.Atoi(text)
	return err == nil
}
