// Package yamlread reads YAML files that people write into Go structs, strictly:
// every unknown key, repeated key, wrong type and missing field of a file is
// found in one go and told with its line, its column and a way out. What it
// gives keeps its places, so that what is found wrong later has a line as well.
//
// It knows YAML and nothing of what the files mean. It is built on the nodes of
// gopkg.in/yaml.v3, whose own decoder stops at unknown keys without a column.
package yamlread

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/tarn-build/tarn/pkg/diag"
)

// Limits of what is read. A file that people write stays far below each.
const (
	MaxBytes = 4 << 20 // of a file
	MaxDepth = 64      // of lists and mappings inside each other
	MaxNodes = 1 << 20 // values in all, those behind an alias counted each time it is used
)

// ReadFile reads a file of fsys for [Decode]: no more of a larger one than Decode refuses.
func ReadFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if info, err := f.Stat(); err == nil {
		b.Grow(int(min(info.Size(), MaxBytes)) + bytes.MinRead)
	}
	_, err = b.ReadFrom(io.LimitReader(f, MaxBytes+1))
	return b.Bytes(), err
}

// Decoder reads files. Its zero value is strict.
type Decoder struct {
	// Lenient makes unknown keys notes instead of errors: what was read can be
	// used, and Decode's error is nil when there is nothing but notes.
	Lenient bool
	// Notes, if not nil, gets the problems that are no errors.
	Notes *diag.Problems
}

// Decode reads one strict document into a struct; see [Decoder.Decode].
func Decode(file string, data []byte, into any) (Place, error) {
	return Decoder{}.Decode(file, data, into)
}

// Decode reads the one document of data into the struct that into points to, and
// gives the place of its root. file is the name that problems carry.
//
// Fields are found by their yaml tag; its option "required" makes a missing or empty
// value a mistake, and ",here" fills a field of type [Place] with the place of the
// struct itself. A field without a tag is not read. Text takes any scalar and
// keeps its source (1.10 stays "1.10"), null is the zero value, integers may be
// written 0o755, 0755 or 0x1ed, a time.Duration like 30m. What implements
// [encoding.TextUnmarshaler] is read from a scalar, and a field of type [Place] takes
// anything, unread. Anchors, aliases and merge keys work as in YAML, within [MaxNodes].
//
// The error is of type [diag.Problems] and holds every mistake of the file.
func (d Decoder) Decode(file string, data []byte, into any) (Place, error) {
	doc := &document{file: file, source: data}
	root, problem := parse(doc, data)
	if problem != nil {
		return Place{doc: doc}, diag.Problems{*problem}
	}
	r := &reader{doc: doc, lenient: d.Lenient}
	r.value(root, reflect.ValueOf(into).Elem(), "", 0)
	r.problems.Sort()
	if d.Notes != nil {
		for _, p := range r.problems {
			if p.Severity != diag.Error {
				*d.Notes = append(*d.Notes, p)
			}
		}
	}
	return Place{doc: doc, node: root}, r.problems.Err()
}

func parse(doc *document, data []byte) (root *yaml.Node, problem *diag.Problem) {
	whole := func(text string) *diag.Problem { return &diag.Problem{File: doc.file, Text: text} }
	if len(data) > MaxBytes {
		return nil, whole(fmt.Sprintf("file has more than %d bytes", MaxBytes))
	}
	// yaml.v3 reports some malformed input by panicking.
	defer func() {
		if e := recover(); e != nil {
			root, problem = nil, whole(fmt.Sprintf("malformed YAML: %v", e))
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := dec.Decode(&first); errors.Is(err, io.EOF) {
		return nil, whole("file is empty")
	} else if err != nil {
		return nil, syntaxProblem(doc.file, err)
	}
	if err := dec.Decode(&second); err == nil {
		return nil, &diag.Problem{File: doc.file, Line: second.Line, Column: second.Column, Text: "a second document begins here", Hint: "one file holds one document: move it to a file of its own"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxProblem(doc.file, err)
	}
	if root := first.Content[0]; root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, whole("file is empty")
	}
	return first.Content[0], nil
}

// syntaxProblem takes the line out of yaml.v3's message: "yaml: line 3: mapping
// values are not allowed". There the first line is left out, and what its parser
// (not its scanner) finds is counted from 0.
func syntaxProblem(file string, err error) *diag.Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, found := strings.CutPrefix(text, "line "); found {
		number, message, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, text = n, message
			for _, expected := range []string{"'-' indicator", "key", "',' or ']'", "',' or '}'", "node content", "<document start>"} {
				if text == "did not find expected "+expected {
					line++
				}
			}
		}
	}
	if strings.HasPrefix(text, "unknown anchor ") {
		line = 0 // yaml.v3 does not say
	}
	p := &diag.Problem{File: file, Line: line, Text: "malformed YAML: " + text}
	switch {
	case strings.Contains(text, "found character that cannot start any token"):
		p.Hint = "indent with spaces, not tabs, and quote text that begins with @, ` or %"
	case strings.Contains(text, "mapping values are not allowed"):
		p.Hint = `quote text that holds ": "`
	}
	return p
}

// field is one key that a struct reads.
type field struct {
	index    []int
	required bool
}

// layout is what a struct reads.
type layout struct {
	fields map[string]field
	names  []string // sorted
	here   []int    // the field that takes the struct's own place, or nil
}

var (
	layouts         sync.Map // reflect.Type -> *layout
	placeType       = reflect.TypeFor[Place]()
	durationType    = reflect.TypeFor[time.Duration]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func layoutOf(t reflect.Type) *layout {
	if l, ok := layouts.Load(t); ok {
		return l.(*layout)
	}
	l := &layout{fields: map[string]field{}}
	for _, f := range reflect.VisibleFields(t) {
		tag, ok := f.Tag.Lookup("yaml")
		if !ok || tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if options == "here" {
			l.here = f.Index
			continue
		}
		l.fields[name] = field{f.Index, options == "required"}
		l.names = append(l.names, name)
	}
	slices.Sort(l.names)
	layouts.Store(t, l)
	return l
}

// reader fills values from the nodes of one document.
type reader struct {
	doc      *document
	lenient  bool
	nodes    int
	problems diag.Problems
	full     bool // the limit of nodes was reached and told
}

func (r *reader) problem(n *yaml.Node, hint, format string, args ...any) {
	r.problems = append(r.problems, diag.Problem{File: r.doc.file, Line: n.Line, Column: n.Column, Text: fmt.Sprintf(format, args...), Hint: hint})
}

// enter follows aliases and counts; ok is false where reading stops.
func (r *reader) enter(n *yaml.Node, depth int) (_ *yaml.Node, ok bool) {
	if r.nodes++; r.nodes > MaxNodes {
		if !r.full {
			r.full = true
			r.problem(n, "", "more than %d values", MaxNodes)
		}
		return n, false
	}
	if depth > MaxDepth {
		r.problem(n, "", "nested deeper than %d", MaxDepth)
		return n, false
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Style&yaml.TaggedStyle != 0 && !slices.Contains([]string{"!!str", "!!int", "!!bool", "!!float", "!!null", "!!map", "!!seq"}, n.ShortTag()) {
		r.problem(n, "", "unknown tag %q", n.Tag)
		return n, false
	}
	// No path, command, variable or name can hold it; what is behind it would be lost.
	if n.Kind == yaml.ScalarNode && strings.ContainsRune(n.Value, 0) {
		r.problem(n, "", "text holds a NUL")
		return n, false
	}
	return n, true
}

// value reads n into v; name is its key, for messages.
func (r *reader) value(n *yaml.Node, v reflect.Value, name string, depth int) {
	place := n
	n, ok := r.enter(n, depth)
	if !ok {
		return
	}
	t := v.Type()
	if t == placeType {
		r.walk(n, depth)
		v.Set(reflect.ValueOf(Place{r.doc, n}))
		return
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return
	}
	if t.Kind() == reflect.Pointer {
		v.Set(reflect.New(t.Elem()))
		r.value(place, v.Elem(), name, depth)
		return
	}
	if reflect.PointerTo(t).Implements(unmarshalerType) {
		if r.scalar(n, name, "text") {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
				r.problem(n, "", "%s", err)
			}
		}
		return
	}
	switch t.Kind() {
	case reflect.String:
		if r.scalar(n, name, "text") {
			v.SetString(n.Value)
		}
	case reflect.Bool:
		r.bool(n, v, name)
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		r.number(n, v, name)
	case reflect.Slice:
		r.list(n, v, name, depth)
	case reflect.Map:
		r.table(n, v, name, depth)
	case reflect.Struct:
		r.mapping(n, v, name, depth)
	default:
		panic("internal error: yamlread has no way to fill a " + t.String())
	}
}

// wrong tells that n is not what is expected.
func (r *reader) wrong(n *yaml.Node, name, expected string) {
	what := map[yaml.Kind]string{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.ScalarNode: "text"}[n.Kind]
	if n.Kind == yaml.ScalarNode {
		what = map[string]string{"!!int": "a number", "!!float": "a number", "!!bool": "a truth value"}[n.ShortTag()]
		if what == "" {
			what = "text"
		}
	}
	subject := "the file"
	if name != "" {
		subject = fmt.Sprintf("%q", name)
	}
	hint := ""
	if quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0; quoted && isPlain(n.Value, expected) {
		hint = "write it without quotes"
	}
	r.problem(n, hint, "%s is %s, expected %s", subject, what, expected)
}

// isPlain tells whether text would be what is expected if it were not quoted.
func isPlain(text, expected string) bool {
	n := yaml.Node{Kind: yaml.ScalarNode, Value: text}
	switch expected {
	case "true or false":
		return slices.Contains(trueWords, text) || slices.Contains(falseWords, text)
	case "a whole number":
		return n.ShortTag() == "!!int"
	}
	return false
}

// What YAML takes for true and for false.
var (
	trueWords  = []string{"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"}
	falseWords = []string{"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"}
)

func (r *reader) scalar(n *yaml.Node, name, expected string) bool {
	if n.Kind != yaml.ScalarNode {
		r.wrong(n, name, expected)
		return false
	}
	return true
}

func (r *reader) bool(n *yaml.Node, v reflect.Value, name string) {
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch word := n.Value; {
	case n.Kind != yaml.ScalarNode || !plain:
		r.wrong(n, name, "true or false")
	case slices.Contains(trueWords, word):
		v.SetBool(true)
	case slices.Contains(falseWords, word):
		v.SetBool(false)
	default:
		r.wrong(n, name, "true or false")
	}
}

func (r *reader) number(n *yaml.Node, v reflect.Value, name string) {
	if v.Type() == durationType {
		if !r.scalar(n, name, "a duration") {
			return
		}
		d, err := time.ParseDuration(n.Value)
		if err != nil || d < 0 {
			r.problem(n, `durations are written like 90s, 30m or 1h30m`, "%q is no duration", n.Value)
			return
		}
		v.SetInt(int64(d))
		return
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		r.wrong(n, name, "a whole number")
		return
	}
	digits := strings.ReplaceAll(n.Value, "_", "")
	if v.CanInt() {
		i, err := strconv.ParseInt(digits, 0, v.Type().Bits())
		if err != nil {
			r.problem(n, "", "%q is %s, expected a whole number of at most %d bits", name, n.Value, v.Type().Bits())
			return
		}
		v.SetInt(i)
		return
	}
	u, err := strconv.ParseUint(strings.TrimPrefix(digits, "+"), 0, v.Type().Bits())
	if err != nil {
		r.problem(n, "", "%q is %s, expected a whole number from 0 to %d", name, n.Value, uint64(math.MaxUint64)>>(64-v.Type().Bits()))
		return
	}
	v.SetUint(u)
}

func (r *reader) list(n *yaml.Node, v reflect.Value, name string, depth int) {
	if n.Kind != yaml.SequenceNode {
		r.wrong(n, name, "a list")
		return
	}
	// The slice has its final size at once, so that pointers to its items stay valid.
	items := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		itemName := fmt.Sprintf("%s[%d]", name, i)
		if item.Kind == yaml.ScalarNode && item.ShortTag() == "!!null" && demands(v.Type().Elem()) {
			r.problem(item, "", "%q is empty", itemName)
			continue
		}
		r.value(item, items.Index(i), itemName, depth+1)
	}
	v.Set(items)
}

// demands tells whether a type is a struct with required fields, which null has not.
func demands(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t == placeType {
		return false
	}
	for _, f := range layoutOf(t).fields {
		if f.required {
			return true
		}
	}
	return false
}

func (r *reader) table(n *yaml.Node, v reflect.Value, name string, depth int) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, name, "a mapping")
		return
	}
	pairs := r.pairs(n, depth)
	table := reflect.MakeMapWithSize(v.Type(), len(pairs))
	for _, p := range pairs {
		item := reflect.New(v.Type().Elem()).Elem()
		r.value(p.value, item, p.key.Value, depth+1)
		table.SetMapIndex(reflect.ValueOf(p.key.Value).Convert(v.Type().Key()), item)
	}
	v.Set(table)
}

func (r *reader) mapping(n *yaml.Node, v reflect.Value, name string, depth int) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, name, "a mapping")
		return
	}
	l := layoutOf(v.Type())
	if l.here != nil {
		v.FieldByIndex(l.here).Set(reflect.ValueOf(Place{r.doc, n}))
	}
	given := make(map[string]bool, len(l.fields))
	for _, p := range r.pairs(n, depth) {
		f, known := l.fields[p.key.Value]
		if !known {
			r.unknown(p.key, v.Type(), l)
			r.walk(p.value, depth+1)
			given[diag.Nearest(p.key.Value, l.names)] = true // it is not missing as well
			continue
		}
		before := len(r.problems)
		target := v.FieldByIndex(f.index)
		r.value(p.value, target, p.key.Value, depth+1)
		given[p.key.Value] = true
		if f.required && before == len(r.problems) && (target.IsZero() || target.Kind() == reflect.Slice && target.Len() == 0) {
			r.problem(p.value, "", "%q is empty", p.key.Value)
		}
	}
	for _, key := range l.names {
		if l.fields[key].required && !given[key] {
			if name == "" {
				r.problem(n, "", "missing field %q", key)
			} else {
				r.problem(n, "", "missing field %q in %q", key, name)
			}
		}
	}
}

// unknown tells of a key that the struct does not read.
func (r *reader) unknown(key *yaml.Node, t reflect.Type, l *layout) {
	hint := diag.DidYouMean(key.Value, l.names)
	if hint == "" {
		for _, name := range l.names {
			inner := t.FieldByIndex(l.fields[name].index).Type
			for inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() != reflect.Struct || inner == placeType {
				continue
			}
			if _, ok := layoutOf(inner).fields[key.Value]; ok {
				hint = fmt.Sprintf("%q stands below %q", key.Value, name)
				break
			}
		}
	}
	r.problem(key, hint, "unknown field %q", key.Value)
	if r.lenient {
		r.problems[len(r.problems)-1].Severity = diag.Note
	}
}

// pair is one key of a mapping with its value.
type pair struct{ key, value *yaml.Node }

// pairs lists the keys of a mapping in order, those that are merged in (<<) last, and tells repeated ones.
func (r *reader) pairs(n *yaml.Node, depth int) []pair {
	pairs := make([]pair, 0, len(n.Content)/2)
	at := make(map[string]int, len(n.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		place := key
		key, ok := r.enter(key, depth)
		if !ok {
			continue
		}
		if key.Kind != yaml.ScalarNode {
			r.problem(place, "", "a key is %s, expected text", map[yaml.Kind]string{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}[key.Kind])
			continue
		}
		if first, repeated := at[key.Value]; repeated {
			r.problem(place, "", "%q is given twice, first in line %d", key.Value, pairs[first].key.Line)
			continue
		}
		at[key.Value] = len(pairs)
		pairs = append(pairs, pair{key, value})
	}
	for _, m := range merged {
		m, ok := r.enter(m, depth)
		if !ok {
			continue
		}
		sources := []*yaml.Node{m}
		if m.Kind == yaml.SequenceNode {
			sources = m.Content
		}
		for _, source := range sources {
			source, ok := r.enter(source, depth+1)
			if !ok {
				continue
			}
			if source.Kind != yaml.MappingNode {
				r.wrong(source, "<<", "a mapping")
				continue
			}
			for _, p := range r.pairs(source, depth+1) {
				if _, given := at[p.key.Value]; !given {
					at[p.key.Value] = len(pairs)
					pairs = append(pairs, p)
				}
			}
		}
	}
	return pairs
}

// walk checks what stands below a value that nothing reads: limits and repeated keys.
func (r *reader) walk(n *yaml.Node, depth int) {
	n, ok := r.enter(n, depth)
	if !ok {
		return
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			r.walk(item, depth+1)
		}
	case yaml.MappingNode:
		for _, p := range r.pairs(n, depth) {
			r.walk(p.value, depth+1)
		}
	}
}
