package yamlread

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Key is one key that a struct reads.
type Key struct {
	Name     string
	Type     reflect.Type
	Required bool
}

// Keys lists the keys that a struct type reads, in the order of its fields.
func Keys(t reflect.Type) []Key {
	l := layoutOf(t)
	keys := make([]Key, 0, len(l.names))
	for _, name := range l.names {
		keys = append(keys, Key{name, t.FieldByIndex(l.fields[name].index).Type, l.fields[name].required})
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return slices.Compare(l.fields[a.Name].index, l.fields[b.Name].index)
	})
	return keys
}

// Schema is a JSON Schema (draft 2020-12, https://json-schema.org/draft/2020-12), as far
// as files of this kind need it.
type Schema struct {
	Dialect              string             `json:"$schema,omitempty"`
	Title                string             `json:"title,omitempty"`
	Description          string             `json:"description,omitempty"`
	Ref                  string             `json:"$ref,omitempty"`
	Type                 []string           `json:"type,omitempty"`
	Enum                 []any              `json:"enum,omitempty"`
	Default              any                `json:"default,omitempty"`
	Examples             []string           `json:"examples,omitempty"`
	Format               string             `json:"format,omitempty"`
	Pattern              string             `json:"pattern,omitempty"`
	MinLength            int                `json:"minLength,omitempty"`
	MaxLength            *int               `json:"maxLength,omitempty"`
	Minimum              *int64             `json:"minimum,omitempty"`
	Maximum              *uint64            `json:"maximum,omitempty"`
	Items                *Schema            `json:"items,omitempty"`
	MinItems             int                `json:"minItems,omitempty"`
	Properties           map[string]*Schema `json:"properties,omitempty"`
	Required             []string           `json:"required,omitempty"`
	MinProperties        int                `json:"minProperties,omitempty"`
	PropertyNames        *Schema            `json:"propertyNames,omitempty"`
	AdditionalProperties any                `json:"additionalProperties,omitempty"` // false, or a *Schema
	AllOf                []*Schema          `json:"allOf,omitempty"`
	OneOf                []*Schema          `json:"oneOf,omitempty"`
	If                   *Schema            `json:"if,omitempty"`
	Then                 *Schema            `json:"then,omitempty"`
	Defs                 map[string]*Schema `json:"$defs,omitempty"`
}

// SchemaOf is the schema of the files that Decode reads into a struct type: what it
// refuses Decode refuses, and what Decode takes it takes. That makes text of numbers
// and truth values, and nothing of null, wherever no value is required.
//
// Every key has a path, e.g. package.name; that of a key in a list or a mapping by name
// is that of the list. A type that stands at several places has the paths of the first,
// breadth first. describe gives the words for a path. shape, if not nil, may narrow what
// was made of the value at a path, and says false where its key must not be written. It
// gets the whole file, whose path is empty, and each mapping that a type stands for, whose
// path ends in a dot, as well.
func SchemaOf(t reflect.Type, describe func(path string) string, shape func(path string, s *Schema) bool) *Schema {
	w := &schemaWriter{describe: describe, shape: shape, named: map[reflect.Type]string{}, defs: map[string]*Schema{}}
	if w.shape == nil {
		w.shape = func(string, *Schema) bool { return true }
	}
	root := &Schema{}
	w.fill(root, t, "")
	w.shape("", root)
	for len(w.queue) > 0 {
		next := w.queue[0]
		w.queue = w.queue[1:]
		next()
	}
	root.Dialect = "https://json-schema.org/draft/2020-12/schema"
	if len(w.defs) > 0 {
		root.Defs = w.defs
	}
	return root
}

type schemaWriter struct {
	describe func(path string) string
	shape    func(path string, s *Schema) bool
	named    map[reflect.Type]string // types that have a definition, and its name
	defs     map[string]*Schema
	queue    []func() // definitions to be filled, breadth first
}

// fill makes an object of a struct type.
func (w *schemaWriter) fill(s *Schema, t reflect.Type, path string) {
	s.Type, s.AdditionalProperties, s.Properties = append([]string{"object"}, s.Type...), false, map[string]*Schema{}
	for _, key := range Keys(t) {
		at := strings.TrimPrefix(path+"."+key.Name, ".")
		property := w.of(key.Type, at, key.Required)
		property.Description = w.describe(at)
		if !w.shape(at, property) {
			continue
		}
		s.Properties[key.Name] = property
		if key.Required {
			s.Required = append(s.Required, key.Name)
		}
	}
}

var textTypes = []string{"string", "number", "boolean"}

// boolPattern is the words for true and false that YAML 1.1 has and YAML 1.2 calls text.
const boolPattern = `^(yes|Yes|YES|on|On|ON|y|Y|no|No|NO|off|Off|OFF|n|N)$`

// durationPattern is what time.ParseDuration takes, but for a sign.
const durationPattern = `^\+?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`

// of is the schema of a value of type t.
func (w *schemaWriter) of(t reflect.Type, path string, required bool) *Schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := &Schema{}
	var empty []string // what nothing may be written as
	if !required {
		empty = []string{"null"}
	}
	text := func() {
		s.Type = append(slices.Clone(textTypes), empty...)
		if required {
			s.MinLength = 1
		}
	}
	switch {
	case t == placeType:
		return s
	case t == reflect.TypeFor[time.Time]():
		s.Type, s.Format = append([]string{"string"}, empty...), "date-time"
		return s
	case reflect.PointerTo(t).Implements(unmarshalerType):
		text()
		return s
	case t == durationType:
		s.Type, s.Pattern, s.Maximum = append([]string{"string", "integer"}, empty...), durationPattern, new(uint64)
		return s
	}
	switch t.Kind() {
	case reflect.String:
		text()
	case reflect.Bool:
		s.Type, s.Pattern = append([]string{"boolean", "string"}, empty...), boolPattern
	case reflect.Int, reflect.Int32, reflect.Int64:
		s.Type = append([]string{"integer"}, empty...)
		s.Minimum, s.Maximum = new(int64(math.MinInt64)>>(64-t.Bits())), new(uint64(math.MaxInt64)>>(64-t.Bits()))
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		s.Type = append([]string{"integer"}, empty...)
		s.Minimum, s.Maximum = new(int64), new(uint64(math.MaxUint64)>>(64-t.Bits()))
	case reflect.Slice:
		s.Type, s.Items = append([]string{"array"}, empty...), w.of(t.Elem(), path, demands(t.Elem()))
		if required {
			s.MinItems = 1
		}
	case reflect.Map:
		s.Type, s.AdditionalProperties = append([]string{"object"}, empty...), w.of(t.Elem(), path, false)
	case reflect.Struct:
		if t.Name() == "" {
			s.Type = empty
			w.fill(s, t, path)
			break
		}
		s.Ref = "#/$defs/" + w.define(t, path)
		if required {
			s.Type = []string{"object"}
		}
	default:
		panic("internal error: no schema for a " + t.String())
	}
	return s
}

// define gives the name of a type's definition, which is filled later: types are told
// at the first place, breadth first.
func (w *schemaWriter) define(t reflect.Type, path string) string {
	if name, known := w.named[t]; known {
		return name
	}
	name := t.Name()
	s := &Schema{Type: []string{"null"}}
	w.named[t], w.defs[name] = name, s
	w.queue = append(w.queue, func() {
		w.fill(s, t, path)
		w.shape(path+".", s)
	})
	return name
}
