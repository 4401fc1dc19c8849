package yamlread_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

type inner struct {
	Here  yamlread.Place `yaml:",here"`
	Name  string         `yaml:"name,required"`
	Other string         `yaml:"other"`
}

type word string

func (w *word) UnmarshalText(text []byte) error {
	if string(text) == "bad" {
		return fmt.Errorf("%q is bad", text)
	}
	*w = word(strings.ToUpper(string(text)))
	return nil
}

type outer struct {
	Inner   inner             `yaml:"inner"`
	Pointer *inner            `yaml:"pointer"`
	Version string            `yaml:"version"`
	Mode    uint32            `yaml:"mode"`
	Count   int64             `yaml:"count"`
	On      bool              `yaml:"on"`
	Wait    time.Duration     `yaml:"wait"`
	List    []inner           `yaml:"list"`
	Texts   []string          `yaml:"texts"`
	Table   map[string]string `yaml:"table"`
	Word    word              `yaml:"word"`
	Raw     yamlread.Place    `yaml:"raw"`
	Unread  string
}

func TestDecode(t *testing.T) {
	tests := []struct {
		name, text string
		want       outer
	}{
		{"text keeps its source", "version: 1.10\n", outer{Version: "1.10"}},
		{"a date is text", "version: 20230201", outer{Version: "20230201"}},
		{"a truth value is text", "version: true", outer{Version: "true"}},
		{"null is empty", "version: ~\nlist:\non: null\ninner: null", outer{}},
		{"octal", "mode: 0o755", outer{Mode: 0o755}},
		{"octal, old", "mode: 0755", outer{Mode: 0o755}},
		{"hexadecimal", "count: -0x10", outer{Count: -16}},
		{"truth", "on: yes", outer{On: true}},
		{"duration", "wait: 1h30m", outer{Wait: 90 * time.Minute}},
		{"pointer", "pointer: {name: a}", outer{Pointer: &inner{Name: "a"}}},
		{"list", "list: [{name: a}, {name: b, other: c}]", outer{List: []inner{{Name: "a"}, {Name: "b", Other: "c"}}}},
		{"table", "table: {a: 1, b: [c][0]}", outer{}},
		{"own reader", "word: yes", outer{Word: "YES"}},
		{"anchor", "version: &v 1.10\ntexts: [*v, *v]", outer{Version: "1.10", Texts: []string{"1.10", "1.10"}}},
		{"merge", "inner: &i {name: a, other: b}\npointer: {<<: *i, other: c}", outer{Inner: inner{Name: "a", Other: "b"}, Pointer: &inner{Name: "a", Other: "c"}}},
		{"merge of two", "inner: &i {name: a}\npointer: {<<: [*i, {name: z, other: o}]}", outer{Inner: inner{Name: "a"}, Pointer: &inner{Name: "a", Other: "o"}}},
	}
	for _, test := range tests {
		if test.name == "table" {
			test.text, test.want = "table: {a: 1, b: c}", outer{Table: map[string]string{"a": "1", "b": "c"}}
		}
		t.Run(test.name, func(t *testing.T) {
			var got outer
			if _, err := yamlread.Decode("f.yaml", []byte(test.text), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreTypes(yamlread.Place{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown field", "verson: 1", "f.yaml:1:1: unknown field \"verson\"\n  hint: did you mean \"version\"?"},
		{"unknown field, deep", "list:\n  - name: a\n    nme: b", "f.yaml:3:5: unknown field \"nme\"\n  hint: did you mean \"name\"?"},
		{"a field of another level", "name: zlib", "f.yaml:1:1: unknown field \"name\"\n  hint: \"name\" stands below \"inner\""},
		{"repeated key", "version: 1\nversion: 2", "f.yaml:2:1: \"version\" is given twice, first in line 1"},
		{"repeated key in a table", "table:\n  a: 1\n  a: 1", "f.yaml:3:3: \"a\" is given twice, first in line 2"},
		{"repeated key where nothing reads", "raw: {a: 1, a: 1}", "f.yaml:1:13: \"a\" is given twice, first in line 1"},
		{"list for text", "version: [1]", "f.yaml:1:10: \"version\" is a list, expected text"},
		{"text for a list", "texts: a", "f.yaml:1:8: \"texts\" is text, expected a list"},
		{"text for a mapping", "inner: a", "f.yaml:1:8: \"inner\" is text, expected a mapping"},
		{"mapping for an item", "texts: [a, {b: c}]", "f.yaml:1:12: \"texts[1]\" is a mapping, expected text"},
		{"text for a number", "count: many", "f.yaml:1:8: \"count\" is text, expected a whole number"},
		{"negative", "mode: -1", "f.yaml:1:7: \"mode\" is -1, expected a whole number from 0 to 4294967295"},
		{"quoted truth", "on: \"true\"", "f.yaml:1:5: \"on\" is text, expected true or false\n  hint: write it without quotes"},
		{"quoted number", "count: '3'", "f.yaml:1:8: \"count\" is text, expected a whole number\n  hint: write it without quotes"},
		{"duration", "wait: 30", "f.yaml:1:7: \"30\" is no duration\n  hint: durations are written like 90s, 30m or 1h30m"},
		{"mistyped and required", "inner: {nam: a}", "f.yaml:1:9: unknown field \"nam\"\n  hint: did you mean \"name\"?"},
		{"missing", "inner: {other: a}", "f.yaml:1:8: missing field \"name\" in \"inner\""},
		{"empty", "inner: {name: ''}", "f.yaml:1:15: \"name\" is empty"},
		{"own reader", "word: bad", "f.yaml:1:7: \"bad\" is bad"},
		{"NUL", "version: \"1\\0\"", "f.yaml:1:10: text holds a NUL"},
		{"NUL in a key", "table: {\"a\\0\": 1}", "f.yaml:1:9: text holds a NUL"},
		{"tag", "version: !!binary aGk=", "f.yaml:1:10: unknown tag \"!!binary\""},
		{"two documents", "version: 1\n---\nversion: 2", "f.yaml:2:1: a second document begins here\n  hint: one file holds one document: move it to a file of its own"},
		{"nothing", "# only a comment\n", "f.yaml: file is empty"},
		{"empty item", "list: [{name: a}, ~]", "f.yaml:1:19: \"list[1]\" is empty"},
		{"null", "~ # nothing\n", "f.yaml: file is empty"},
		{"a list at the top", "- a", "f.yaml:1:1: the file is a list, expected a mapping"},
		{"tab", "inner:\n\tname: a", "f.yaml:2: malformed YAML: found character that cannot start any token\n  hint: indent with spaces, not tabs, and quote text that begins with @, ` or %"},
		{"colon", "version: a: b", "f.yaml:1: malformed YAML: mapping values are not allowed in this context\n  hint: quote text that holds \": \""},
		{"several", "verson: 1\non: 7", "f.yaml:1:1: unknown field \"verson\"\n  hint: did you mean \"version\"?\nf.yaml:2:5: \"on\" is a number, expected true or false\n2 problems in 1 file"},
		{"key that is a list", "table: {[a]: b}", "f.yaml:1:9: a key is a list, expected text"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := yamlread.Decode("f.yaml", []byte(test.text), new(outer))
			if err == nil {
				t.Fatal("no mistake found")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Aliases of aliases grow without limit in a small file; reading stops early and says so.
func TestLimits(t *testing.T) {
	laughs := "raw:\n- &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		laughs += fmt.Sprintf("- &a%d [%s]\n", i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	tests := []struct{ name, text, want string }{
		{"aliases", laughs, "more than 1048576 values"},
		{"depth", "raw: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested deeper than 64"},
		{"size", "version: " + strings.Repeat("x", yamlread.MaxBytes), "more than 4194304 bytes"},
		{"a loop of aliases", "raw: &a [*a]", "nested deeper than 64"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := yamlread.Decode("f.yaml", []byte(test.text), new(outer))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a problem with %q", err, test.want)
			}
		})
	}
}

func TestLenient(t *testing.T) {
	var notes diag.Problems
	var got outer
	if _, err := (yamlread.Decoder{Lenient: true, Notes: &notes}).Decode("f.yaml", []byte("version: 1\nextra: 2"), &got); err != nil {
		t.Fatal(err)
	}
	if want := "f.yaml:2:1: note: unknown field \"extra\""; notes.Error() != want || got.Version != "1" {
		t.Errorf("got notes %q and version %q", notes, got.Version)
	}
}

func TestPlaces(t *testing.T) {
	const text = "inner:\n  name: say hello\n  other: |\n    first\n\n    second line\nlist:\n- name: 'a'\n- name: b\n"
	var got outer
	root, err := yamlread.Decode("f.yaml", []byte(text), &got)
	if err != nil {
		t.Fatal(err)
	}
	inside := func(p yamlread.Place, word, of string) string {
		line, column := p.Inside(strings.Index(of, word))
		return fmt.Sprintf("%d:%d", line, column)
	}
	tests := []struct{ name, got, want string }{
		{"value", root.Value("inner").Value("name").String(), "f.yaml:2:9"},
		{"key", root.Value("inner").Key("other").String(), "f.yaml:3:3"},
		{"item", root.Value("list").Item(1).Value("name").String(), "f.yaml:9:9"},
		{"absent key is the mapping", root.Value("inner").Value("nothing").String(), "f.yaml:2:3"},
		{"here", got.List[1].Here.Value("name").String(), "f.yaml:9:9"},
		{"inside plain text", inside(root.Value("inner").Value("name"), "hello", got.Inner.Name), "2:13"},
		{"inside quoted text", inside(root.Value("list").Item(0).Value("name"), "a", got.List[0].Name), "8:10"},
		{"inside block text", inside(root.Value("inner").Value("other"), "line", got.Inner.Other), "6:12"},
		{"nowhere", yamlread.Place{}.String(), ""},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, test.got, test.want)
		}
	}
	var keys []string
	for k := range root.Keys() {
		keys = append(keys, k)
	}
	if diff := cmp.Diff([]string{"inner", "list"}, keys); diff != "" {
		t.Errorf("keys: -want +got:\n%s", diff)
	}
}

// Every place of a file belongs to one value, comments and white space to what is before them.
func TestPath(t *testing.T) {
	const text = "inner:\n  name: a\n  # about other\n  other: |\n    first\n\n    second\nlist: [{name: a}, {name: b}]\nraw:\n- &x [1, 2]\n- *x\n"
	root, err := yamlread.Decode("f.yaml", []byte(text), new(outer))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		line, column int
		want         string
	}{
		{1, 1, "inner"}, {2, 3, "inner name"}, {2, 9, "inner name"}, {3, 4, "inner name"}, {4, 3, "inner other"}, {7, 5, "inner other"},
		{8, 1, "list"}, {8, 9, "list 0 name"}, {8, 20, "list 1 name"}, {8, 0, "list 1 name"}, {10, 10, "raw 0 1"}, {11, 3, "raw 1"}, {99, 1, "raw 1"}, {0, 0, ""},
	}
	for _, test := range tests {
		path := root.Path(test.line, test.column)
		if got := strings.Join(path, " "); got != test.want {
			t.Errorf("%d:%d belongs to %q, want %q", test.line, test.column, got, test.want)
		}
		p := root
		for _, step := range path {
			p = p.Below(step)
		}
		if test.line == 8 && test.column == 20 && p.Text() != "b" {
			t.Errorf("at the end of the path stands %q", p.Text())
		}
	}
}

// encoded writes a value and reads it again.
func encoded(t *testing.T, value outer) (again outer) {
	text, err := yamlread.Encode(value)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := yamlread.Decode("written.yaml", text, &again); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return again
}

func TestEncode(t *testing.T) {
	value := outer{
		Version: "1.10", Mode: 0o755, On: true, Wait: 90 * time.Minute, Pointer: &inner{Name: "a"},
		List:  []inner{{Name: "true", Other: "two\nlines\n"}, {Name: "b", Other: "two\n lines"}},
		Texts: []string{"", "~", "no", "0x10", " a", "a: b", "# c", "${{package.version}}", "a\u2028b", "\tx\n", "x \n"},
		Table: map[string]string{"": "", "<<": "x", "y": "a\rb"},
	}
	if diff := cmp.Diff(value, encoded(t, value), cmpopts.IgnoreTypes(yamlread.Place{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	text, err := yamlread.Encode(outer{Version: "1.10", Wait: time.Minute, List: []inner{{Name: "make", Other: "make all\nmake install\n"}, {}}, Texts: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `version: "1.10"
wait: 1m0s
list:
  - name: make
    other: |
      make all
      make install
  - {}
texts: []
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Whatever the bytes are, reading ends, problems stand inside the file, and a
// file without mistakes reads the same twice.
// Of a file that is too large to be read no more is held than shows that it is.
func TestReadFileStopsAtTheLimit(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 1<<40); err != nil {
		t.Skip(err)
	}
	data, err := yamlread.ReadFile(os.DirFS(dir), "large.yaml")
	if err != nil || len(data) != yamlread.MaxBytes+1 {
		t.Errorf("read %d bytes: %v", len(data), err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"version: 1", "list: [{name: a}]", "a: &a [*a]", "inner: {<<: *x}", "raw: |\n  text", "\xff", "wait: 1h", "? [a]\n: b", "!!binary a: b"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second outer
		_, err := yamlread.Decode("f.yaml", data, &first)
		if err != nil {
			problems, ok := diag.Of(err)
			if !ok || len(problems) == 0 {
				t.Fatalf("%v carries no problem", err)
			}
			lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + strings.Count(string(data), "\u0085") + strings.Count(string(data), "\u2028") + strings.Count(string(data), "\u2029") + 2
			for _, p := range problems {
				if p.Line < 0 || p.Line > lines {
					t.Errorf("problem in line %d of %d: %v", p.Line, lines, p)
				}
			}
			return
		}
		if _, err := yamlread.Decode("f.yaml", data, &second); err != nil {
			t.Fatalf("the second reading gives %v", err)
		}
		if diff := cmp.Diff(first, second, cmpopts.IgnoreTypes(yamlread.Place{})); diff != "" {
			t.Errorf("two readings differ:\n%s", diff)
		}
		again := encoded(t, first)
		if diff := cmp.Diff(first, again, cmpopts.IgnoreTypes(yamlread.Place{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("what was read, written and read again differs:\n%s", diff)
		}
	})
}
