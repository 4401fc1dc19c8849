package store

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// hashSalt begins every hashed text. Its number changes when the meaning of
// lines or the encoding of values does: nothing that is remembered counts then.
const hashSalt = "tarn action 1"

// Hash makes an ActionID of named lines. What is hashed is a text that people can
// read: why something was done anew is the difference of two texts.
//
// The encoding is unambiguous: two different sequences of lines never give the
// same text. A line is `name = value`; a value never holds a line break.
type Hash struct{ text strings.Builder }

// NewHash begins a hash for actions of one kind, e.g. "build" or "unpack".
func NewHash(kind string) *Hash {
	h := new(Hash)
	h.text.WriteString(hashSalt + "\n")
	h.Line("kind", kind)
	return h
}

// Line adds a named value: text, numbers, truth values, bytes, lists, maps, and
// structs of such with exported fields, or anything that marshals itself to text.
// The order of calls counts, the order of a map does not. A value of another kind,
// e.g. a function, is a mistake of the program, and Line panics.
func (h *Hash) Line(name string, value any) {
	if plainName(name) {
		h.text.WriteString(name)
	} else {
		h.text.WriteString(strconv.Quote(name))
	}
	h.text.WriteString(" = ")
	encode(&h.text, reflect.ValueOf(value))
	h.text.WriteByte('\n')
}

// Sum is the SHA-256 of Text.
func (h *Hash) Sum() ActionID {
	sum := sha256.Sum256([]byte(h.text.String()))
	return ActionID(hex.EncodeToString(sum[:]))
}

// Text is what is hashed, one line a value.
func (h *Hash) Text() string { return h.text.String() }

// plainName reports whether a name can stand without quotes: no blank, no quote,
// no "=", nothing that is not printable ASCII.
func plainName(name string) bool {
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || c == '=' || c == '"' || c == '\\' {
			return false
		}
	}
	return name != ""
}

var textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()

// encode writes v so that values that differ give texts that differ. Text is
// quoted as in Go, which (unlike JSON) keeps bytes that are not UTF-8 apart.
func encode(b *strings.Builder, v reflect.Value) {
	if !v.IsValid() {
		b.WriteString("null")
		return
	}
	if v.Type().Implements(textMarshaler) && v.CanInterface() && (v.Kind() != reflect.Pointer || !v.IsNil()) {
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil {
			panic(fmt.Sprintf("internal error: hash a %s: %v", v.Type(), err))
		}
		b.WriteString(strconv.Quote(string(text)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		b.WriteString(strconv.Quote(v.String()))
	case reflect.Bool:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		b.WriteString(strconv.FormatUint(v.Uint(), 10))
	case reflect.Float32, reflect.Float64:
		b.WriteString(strconv.FormatFloat(v.Float(), 'x', -1, 64))
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			b.WriteString("null")
			return
		}
		encode(b, v.Elem())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			data := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(data), v)
			b.WriteString("x" + strconv.Quote(hex.EncodeToString(data)))
			return
		}
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteString(", ")
			}
			encode(b, v.Index(i))
		}
		b.WriteByte(']')
	case reflect.Map:
		encodeMap(b, v)
	case reflect.Struct:
		b.WriteByte('{')
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				panic(fmt.Sprintf("internal error: hash a %s: field %s cannot be seen", v.Type(), field.Name))
			}
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(field.Name + ": ")
			encode(b, v.Field(i))
		}
		b.WriteByte('}')
	default:
		panic(fmt.Sprintf("internal error: hash a %s", v.Type()))
	}
}

func encodeMap(b *strings.Builder, v reflect.Value) {
	var pairs []string
	for iter := v.MapRange(); iter.Next(); {
		var pair strings.Builder
		encode(&pair, iter.Key())
		pair.WriteString(": ")
		encode(&pair, iter.Value())
		pairs = append(pairs, pair.String())
	}
	slices.Sort(pairs)
	b.WriteString("{" + strings.Join(pairs, ", ") + "}")
}
