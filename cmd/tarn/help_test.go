package main

import (
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/recipes"
)

// keysOf gives the keys of the mapping that a value of a type is read from, with the
// type of each. Lists and mappings by name are what they hold.
func keysOf(t reflect.Type) map[string]reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	keys := map[string]reflect.Type{}
	for _, key := range yamlread.Keys(t) {
		keys[key.Name] = key.Type
	}
	return keys
}

// fieldPaths gives the path of every key below a type, breadth first. What a type holds
// is told at the first place it stands at.
func fieldPaths(root reflect.Type) []string {
	type node struct {
		path string
		t    reflect.Type
	}
	var paths []string
	seen := map[string]bool{}
	for queue := []node{{"", root}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		t := at.t
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if seen[t.String()] {
			continue
		}
		keys := keysOf(t)
		if len(keys) > 0 {
			seen[t.String()] = true
		}
		for name, inner := range keys {
			path := strings.TrimPrefix(at.path+"."+name, ".")
			paths = append(paths, path)
			queue = append(queue, node{path, inner})
		}
		// Maps are walked in any order; which place is first must not depend on it.
		slices.SortStableFunc(queue[1:], func(a, b node) int {
			if d := strings.Count(a.path, ".") - strings.Count(b.path, "."); d != 0 {
				return d
			}
			return strings.Compare(a.path, b.path)
		})
	}
	return paths
}

func hasPath(t reflect.Type, path string) bool {
	for name := range strings.SplitSeq(path, ".") {
		inner, found := keysOf(t)[name]
		if !found {
			return false
		}
		t = inner
	}
	return true
}

// TestHelpTellsEveryField holds the texts against the structs that the files are read
// into: each key is told, and none that does not exist.
func TestHelpTellsEveryField(t *testing.T) {
	tests := []struct {
		topic string
		read  reflect.Type
	}{
		{"recipe", reflect.TypeFor[recipes.Recipe]()},
		{"image", reflect.TypeFor[images.Spec]()},
		{"workspace", reflect.TypeFor[workspace]()},
	}
	for _, test := range tests {
		t.Run(test.topic, func(t *testing.T) {
			told := map[string]bool{}
			for line := range strings.Lines(helpText(test.topic)) {
				entry := entryLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
				if entry == nil || strings.HasPrefix(entry[1], "`${{") {
					continue
				}
				for _, one := range backquoted.FindAllStringSubmatch(entry[1], -1) {
					if told[one[1]] {
						t.Errorf("%s is told twice", one[1])
					}
					told[one[1]] = true
					if !hasPath(test.read, one[1]) {
						t.Errorf("%s is told and does not exist", one[1])
					}
				}
			}
			paths := fieldPaths(test.read)
			if len(paths) < 10 {
				t.Fatalf("got %d keys of %v, want all of them", len(paths), test.read)
			}
			for _, path := range paths {
				if !told[path] {
					t.Errorf("%s is not told", path)
				}
			}
		})
	}
}

// TestHelpTellsEveryVariable holds the list of variables against the language, in a
// subpackage with a range, where all of them are known.
func TestHelpTellsEveryVariable(t *testing.T) {
	told := map[string]bool{}
	for line := range strings.Lines(helpText("recipe")) {
		entry := entryLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if entry == nil || !strings.HasPrefix(entry[1], "`${{") {
			continue
		}
		for _, one := range backquoted.FindAllStringSubmatch(entry[1], -1) {
			told[strings.TrimSuffix(strings.TrimPrefix(one[1], "${{"), "}}")] = true
		}
	}
	variables := []string{
		"package.name", "package.version", "package.epoch", "package.full-version", "package.description", "package.srcdir",
		"targets.outdir", "targets.destdir", "targets.contextdir", "targets.subpkgdir", "targets.package.NAME", "subpkg.name", "context.name",
		"build.arch", "build.goarch", "host.triplet.gnu", "host.triplet.rust",
		"cross.triplet.gnu.glibc", "cross.triplet.gnu.musl", "cross.triplet.rust.glibc", "cross.triplet.rust.musl",
		"vars.NAME", "options.NAME.enabled", "inputs.NAME", "range.key", "range.value",
	}
	var steps strings.Builder
	for _, name := range variables {
		if !told[name] {
			t.Errorf("%s is not told", name)
		}
		delete(told, name)
		if !strings.HasPrefix(name, "inputs.") {
			steps.WriteString("      - runs: echo ${{" + name + "}}\n")
		}
	}
	for name := range told {
		t.Errorf("%s is told and does not exist", name)
	}
	const head = "package: {name: NAME, version: 1, description: x}\nvars: {NAME: a}\noptions: {NAME: {}}\ndata: [{name: t, items: {k: v}}]\nsubpackages:\n  - name: NAME-${{range.key}}\n    range: t\n    pipeline:\n"
	r, err := recipes.Load(fstest.MapFS{"NAME.yaml": &fstest.MapFile{Data: []byte(head + steps.String())}}, "NAME.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil); err != nil {
		t.Error(err)
	}
}

// TestHelpFitsTheTerminal looks for lines that a terminal would break.
func TestHelpFitsTheTerminal(t *testing.T) {
	for _, topic := range helpTopics() {
		for line := range strings.Lines(topic.Long) {
			if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > helpWidth && strings.Contains(strings.TrimSpace(line), " ") {
				t.Errorf("%s: %q is wider than %d columns", topic.Name(), line, helpWidth)
			}
			if strings.Contains(line, "`") {
				t.Errorf("%s: %q has marks of Markdown", topic.Name(), line)
			}
		}
	}
}

// TestHelpTellsEveryPipeline asks for the topic as a user does.
func TestHelpTellsEveryPipeline(t *testing.T) {
	var out strings.Builder
	code := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: io.Discard}, []string{"help", "recipe"})
	if code != exitDone {
		t.Fatalf("got exit code %d, want %d", code, exitDone)
	}
	_, list, _ := strings.Cut(out.String(), "BUILT-IN PIPELINES\n")
	for _, name := range recipes.BuiltinPipelines() {
		_, section, found := strings.Cut(list, "\n"+name+"\n")
		if !found {
			t.Errorf("pipeline %s is not listed", name)
			continue
		}
		section = strings.TrimPrefix(section, "\n")
		if next := regexp.MustCompile(`(?m)^[a-zR]+(-[a-z]+)*(/[a-z0-9-]+)*$`).FindStringIndex(section); next != nil {
			section = section[:next[0]]
		}
		if strings.TrimSpace(strings.Split(section, "\n")[0]) == "" {
			t.Errorf("pipeline %s has no description", name)
		}
		task, err := (*recipes.Pipelines)(nil).Pipeline(name)
		if err != nil {
			t.Fatal(err)
		}
		for input := range task.Inputs {
			if !regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(input) + `( \(|:|$)`).MatchString(section) {
				t.Errorf("input %s of pipeline %s is not listed", input, name)
			}
		}
	}
}

// TestComplete asks for names as a shell does.
func TestComplete(t *testing.T) {
	tests := []struct {
		line []string
		want string
		not  string
	}{
		{[]string{"build", ""}, "zlib", "static"},
		{[]string{"test", "zlib", ""}, "musl", "zlib"},
		{[]string{"plan", ""}, "zlib", "static"},
		{[]string{"lint", ""}, "zlib", "static"},
		{[]string{"fetch", ""}, "zlib", "static"},
		{[]string{"bump", ""}, "zlib", "static"},
		{[]string{"help", "pipelines", ""}, "autoconf/make", "build"},
		{[]string{"help", ""}, "pipelines", "zlib"},
		{[]string{"schema", ""}, "workspace", "zlib"},
		{[]string{"image", "build", ""}, "static", "zlib"},
		{[]string{"image", "show", "static", ""}, "nginx", "static"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.line, " "), func(t *testing.T) {
			t.Chdir("../..")
			var out strings.Builder
			args := append([]string{"__complete"}, test.line...)
			if code := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: io.Discard}, args); code != exitDone {
				t.Fatalf("got exit code %d, want %d", code, exitDone)
			}
			names := strings.Fields(out.String())
			if !slices.Contains(names, test.want) || slices.Contains(names, test.not) {
				t.Errorf("got %q, want %q among them, and not %q", names, test.want, test.not)
			}
		})
	}
}
