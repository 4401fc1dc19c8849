package yamlread

import (
	"bytes"
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gopkg.in/yaml.v3"
)

// Encode writes a struct as a document that [Decode] reads as the same value: fields by
// their yaml tags in the order of the struct, keys of maps sorted, nothing of what is zero.
// Text of several lines is written as block text where that keeps it as it is. Fields of
// type [Place] are not written.
func Encode(value any) ([]byte, error) {
	n, err := nodeOf(reflect.ValueOf(value))
	if err != nil {
		return nil, err
	}
	if n == nil {
		n = &yaml.Node{Kind: yaml.MappingNode}
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return b.Bytes(), e.Close()
}

var marshalerType = reflect.TypeFor[encoding.TextMarshaler]()

// nodeOf gives the node of a value, nil for what is not written: what Decode would give
// for a key that is not there.
func nodeOf(v reflect.Value) (*yaml.Node, error) {
	t := v.Type()
	switch {
	case t == placeType:
		return nil, nil
	case t.Kind() == reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		n, err := nodeOf(v.Elem())
		if n == nil && err == nil {
			n = zeroNode(v.Elem())
		}
		return n, err
	case t == durationType:
		if v.IsZero() {
			return nil, nil
		}
		return plainNode("!!str", time.Duration(v.Int()).String()), nil
	case t.Implements(marshalerType):
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil || len(text) == 0 {
			return nil, err
		}
		return textNode(string(text)), nil
	}
	switch t.Kind() {
	case reflect.Slice:
		return listNode(v)
	case reflect.Map:
		return tableNode(v)
	case reflect.Struct:
		return mappingNode(v)
	}
	if v.IsZero() {
		return nil, nil
	}
	return scalarNode(v)
}

// zeroNode is a zero value that has to be written: an item of a list or of a table, or what
// a pointer leads to.
func zeroNode(v reflect.Value) *yaml.Node {
	switch v.Kind() {
	case reflect.Struct:
		return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	case reflect.Slice, reflect.Map, reflect.Pointer:
		return plainNode("!!null", "null")
	case reflect.String:
		return textNode("")
	case reflect.Bool:
		return plainNode("!!bool", "false")
	}
	if v.Type() == durationType {
		return plainNode("!!str", "0s")
	}
	return plainNode("!!int", "0")
}

func scalarNode(v reflect.Value) (*yaml.Node, error) {
	switch v.Kind() {
	case reflect.String:
		return textNode(v.String()), nil
	case reflect.Bool:
		return plainNode("!!bool", "true"), nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return plainNode("!!int", strconv.FormatInt(v.Int(), 10)), nil
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return plainNode("!!int", strconv.FormatUint(v.Uint(), 10)), nil
	}
	return nil, fmt.Errorf("write YAML: no way to write a %s", v.Type())
}

// itemNode is the node of an item, which is written even where it is zero.
func itemNode(v reflect.Value) (*yaml.Node, error) {
	n, err := nodeOf(v)
	if n == nil && err == nil {
		n = zeroNode(v)
	}
	return n, err
}

func listNode(v reflect.Value) (*yaml.Node, error) {
	if v.IsNil() {
		return nil, nil
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	if v.Len() == 0 {
		list.Style = yaml.FlowStyle
	}
	for i := range v.Len() {
		n, err := itemNode(v.Index(i))
		if err != nil {
			return nil, err
		}
		list.Content = append(list.Content, n)
	}
	return list, nil
}

func tableNode(v reflect.Value) (*yaml.Node, error) {
	if v.IsNil() {
		return nil, nil
	}
	table := &yaml.Node{Kind: yaml.MappingNode}
	if v.Len() == 0 {
		table.Style = yaml.FlowStyle
	}
	values := map[string]reflect.Value{}
	for key, value := range v.Seq2() {
		values[key.String()] = value
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		n, err := itemNode(values[key])
		if err != nil {
			return nil, err
		}
		table.Content = append(table.Content, textNode(key), n)
	}
	return table, nil
}

func mappingNode(v reflect.Value) (*yaml.Node, error) {
	mapping := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range reflect.VisibleFields(v.Type()) {
		tag, ok := f.Tag.Lookup("yaml")
		name, options, _ := strings.Cut(tag, ",")
		if !ok || tag == "-" || options == "here" {
			continue
		}
		n, err := nodeOf(v.FieldByIndex(f.Index))
		if err != nil {
			return nil, err
		}
		if n != nil {
			mapping.Content = append(mapping.Content, textNode(name), n)
		}
	}
	if len(mapping.Content) == 0 {
		return nil, nil
	}
	return mapping, nil
}

func plainNode(tag, text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}
}

// textNode writes text so that it is read as the same text: as block text, plain where
// YAML takes it for text, else between double quotes.
func textNode(text string) *yaml.Node {
	n := plainNode("!!str", text)
	switch {
	case isBlock(text):
		n.Style = yaml.LiteralStyle
	case !isSimple(text):
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// isBlock tells whether block text keeps text as it is: lines that end in exactly one
// newline, none of them indented further than the first or ending in white space.
func isBlock(text string) bool {
	body, ended := strings.CutSuffix(text, "\n")
	if !ended || body == "" || strings.HasSuffix(body, "\n") || strings.TrimLeft(body[:1], " \t\n") == "" {
		return false
	}
	return strings.IndexFunc(body, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }) < 0
}

// isSimple tells whether text stands for itself without quotes.
func isSimple(text string) bool {
	if text == "" || text == "<<" || text == "=" {
		return false
	}
	for i, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' || r == '/' || r == '.'
		if !letter && (i == 0 || !(r >= '0' && r <= '9' || strings.ContainsRune("-+=@$(){}%~^,;<>!", r))) {
			return false
		}
	}
	n := yaml.Node{Kind: yaml.ScalarNode, Value: text}
	return n.ShortTag() == "!!str" && !slices.Contains(trueWords, text) && !slices.Contains(falseWords, text)
}
