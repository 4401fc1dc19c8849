package main

import (
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/images"
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
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			keys[name] = field.Type
		}
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

var (
	entryLine = regexp.MustCompile("(?m)^ *- (`[^:]*`): .")
	quoted    = regexp.MustCompile("`([^`]*)`")
)

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
			text, err := helpFiles.ReadFile("help/" + test.topic + ".md")
			if err != nil {
				t.Fatal(err)
			}
			told := map[string]bool{}
			for _, entry := range entryLine.FindAllStringSubmatch(string(text), -1) {
				for _, one := range quoted.FindAllStringSubmatch(entry[1], -1) {
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

// TestHelpTellsEveryPipeline asks for the topic as a user does.
func TestHelpTellsEveryPipeline(t *testing.T) {
	var out strings.Builder
	code := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: io.Discard}, []string{"help", "recipe"})
	if code != exitDone {
		t.Fatalf("got exit code %d, want %d", code, exitDone)
	}
	_, list, _ := strings.Cut(out.String(), "## Built-in pipelines\n")
	for _, name := range recipes.BuiltinPipelines() {
		_, section, found := strings.Cut(list, "\n### "+name+"\n")
		if !found {
			t.Errorf("pipeline %s is not listed", name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n### ")
		if strings.TrimSpace(strings.Split(section, "\n  ")[0]) == "" {
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
