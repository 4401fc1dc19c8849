package yamlread_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/yamlread"
)

func TestSchemaOf(t *testing.T) {
	type leaf struct {
		Here  yamlread.Place `yaml:",here"`
		Name  string         `yaml:"name,required"`
		Tree  []leaf         `yaml:"tree"`
		Never string         `yaml:"never"`
		Not   string         `yaml:"-"`
	}
	type root struct {
		Leaf *leaf             `yaml:"leaf,required"`
		Vars map[string]string `yaml:"vars"`
		Also leaf              `yaml:"also"`
	}
	var asked []string
	s := yamlread.SchemaOf(reflect.TypeFor[root](),
		func(path string) string { asked = append(asked, path); return "about " + path },
		func(path string, s *yamlread.Schema) bool {
			if path == "leaf.name" {
				s.Pattern = "^a"
			}
			return path != "leaf.never"
		})
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":["object"],
"properties":{"also":{"description":"about also","$ref":"#/$defs/leaf"},"leaf":{"description":"about leaf","$ref":"#/$defs/leaf","type":["object"]},
"vars":{"description":"about vars","type":["object","null"],"additionalProperties":{"type":["string","number","boolean","null"]}}},
"required":["leaf"],"additionalProperties":false,
"$defs":{"leaf":{"type":["object","null"],
"properties":{"name":{"description":"about leaf.name","type":["string","number","boolean"],"pattern":"^a","minLength":1},
"tree":{"description":"about leaf.tree","type":["array","null"],"items":{"$ref":"#/$defs/leaf","type":["object"]}}},
"required":["name"],"additionalProperties":false}}}`
	if diff := cmp.Diff(strings.ReplaceAll(want, "\n", ""), string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// Each key once, at the first place of its type.
	if diff := cmp.Diff([]string{"leaf", "vars", "also", "leaf.name", "leaf.tree", "leaf.never"}, asked); diff != "" {
		t.Errorf("asked: -want +got:\n%s", diff)
	}
}

func TestSpan(t *testing.T) {
	tests := []struct{ text, want string }{
		{"raw: 1.10 # why", "1.10"},
		{"raw: \"1.10\"", `"1.10"`},
		{"raw: 'it''s' # x", `'it''s'`},
		{`raw: "a \" b"`, `"a \" b"`},
		{"other: é\nraw: after é", "after é"},
		{"{é: 1, raw: [a]}", ""},
		{"{é: 1, raw: b}", "b"},
		{"raw: &a b", "b"},
		{"raw: !!str 12", "12"},
		{"raw: |\n  block", ""},
		{"raw: >-\n  folded", ""},
		{"raw: two\n  lines", ""},
		{"raw: \"two\n  lines\"", ""},
		{"raw: {a: b}", ""},
		{"\xef\xbb\xbfraw: b", "b"},
		{"a: 1\r\nraw: b\r\n", "b"},
	}
	for _, test := range tests {
		var into struct {
			Raw yamlread.Place `yaml:"raw"`
		}
		// What else stands there is no mistake here.
		_, err := yamlread.Decoder{Lenient: true}.Decode("f.yaml", []byte(test.text), &into)
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		start, end, ok := into.Raw.Span()
		if got := test.text[start:end]; ok != (test.want != "") || ok && got != test.want {
			t.Errorf("%q: got %q %t, want %q", test.text, got, ok, test.want)
		}
	}
}
