package adb

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Value is a word of an ADB block: its upper four bits are a type, the others a small
// number or the place of what it stands for. It means something only together with the
// Data that it is from.
type Value uint32

// Null is the value of what is not there.
const Null Value = 0

// The types of values.
const (
	typeSpecial = 0x0
	typeInt     = 0x1
	typeInt32   = 0x2
	typeInt64   = 0x3
	typeBlob8   = 0x8
	typeBlob16  = 0x9
	typeBlob32  = 0xa
	typeArray   = 0xd
	typeObject  = 0xe

	placeBits = 28
	maxPlace  = 1<<placeBits - 1
)

// MaxSize is how long an ADB block can be: places have 28 bits.
const MaxSize = 1 << placeBits

func (v Value) kind() uint32  { return uint32(v) >> placeBits }
func (v Value) place() uint32 { return uint32(v) & maxPlace }

// Place is where in the block an array or an object stands, in bytes.
func (v Value) Place() int { return int(v.place()) }

func (v Value) String() string {
	switch v.kind() {
	case typeSpecial:
		return "null or a truth value"
	case typeInt, typeInt32, typeInt64:
		return "a number"
	case typeBlob8, typeBlob16, typeBlob32:
		return "bytes"
	case typeArray:
		return "an array"
	case typeObject:
		return "an object"
	}
	return fmt.Sprintf("of the unknown type %#x", v.kind())
}

// headerSize is the length of what an ADB block begins with: the version that a reader
// must know, the version of its writer, two bytes of nothing, and the root.
const headerSize = 8

// Data is the content of an ADB block. Nothing of it is checked before it is asked for,
// and whoever asks says the type: there is no way to run in circles.
type Data struct {
	text string
}

// NewData takes the content of an ADB block.
func NewData(block []byte) (*Data, error) {
	switch {
	case len(block) < headerSize:
		return nil, errors.New("the ADB block is too short")
	case len(block) > MaxSize:
		return nil, fmt.Errorf("the ADB block is longer than %d bytes", MaxSize)
	case block[0] != 0:
		return nil, fmt.Errorf("the ADB block has version %d, and only version 0 is known", block[0])
	}
	return &Data{string(block)}, nil
}

// Root is the value that all others hang from.
func (d *Data) Root() Value { return Value(word(d.text, 4)) }

func word(s string, at int) uint32 {
	_ = s[at+3]
	return uint32(s[at]) | uint32(s[at+1])<<8 | uint32(s[at+2])<<16 | uint32(s[at+3])<<24
}

// outside says that a value stands for what is not within the block.
func (d *Data) outside(v Value) error {
	return fmt.Errorf("%s at %d: beyond the end of the block, which has %d bytes", v, v.place(), len(d.text))
}

func unexpected(v Value, want string) error { return fmt.Errorf("expected %s, found %s", want, v) }

// Int is a number; null is 0.
func (d *Data) Int(v Value) (uint64, error) {
	at := int(v.place())
	switch v.kind() {
	case typeSpecial:
		if v != Null {
			return 0, unexpected(v, "a number")
		}
		return 0, nil
	case typeInt:
		return uint64(v.place()), nil
	case typeInt32:
		if at+4 > len(d.text) {
			return 0, d.outside(v)
		}
		return uint64(word(d.text, at)), nil
	case typeInt64:
		if at+8 > len(d.text) {
			return 0, d.outside(v)
		}
		return uint64(word(d.text, at)) | uint64(word(d.text, at+4))<<32, nil
	}
	return 0, unexpected(v, "a number")
}

// Blob is bytes; null is none. They share the memory of the block.
func (d *Data) Blob(v Value) (string, error) {
	at, length := int(v.place()), 0
	switch v.kind() {
	case typeSpecial:
		if v != Null {
			return "", unexpected(v, "bytes")
		}
		return "", nil
	case typeBlob8:
		if at+1 > len(d.text) {
			return "", d.outside(v)
		}
		length = int(d.text[at])
		at++
	case typeBlob16:
		if at+2 > len(d.text) {
			return "", d.outside(v)
		}
		length = int(d.text[at]) | int(d.text[at+1])<<8
		at += 2
	case typeBlob32:
		if at+4 > len(d.text) {
			return "", d.outside(v)
		}
		length = int(word(d.text, at))
		at += 4
	default:
		return "", unexpected(v, "bytes")
	}
	if at+length > len(d.text) {
		return "", d.outside(v)
	}
	return d.text[at : at+length], nil
}

// Slots are the values of an array or the fields of an object, by numbers from 1.
type Slots struct {
	text string // with the number of slots, itself among them, before them
}

// Len is the number of values, or of the highest field that is there.
func (s Slots) Len() int { return max(len(s.text)/4-1, 0) }

// At is the value of a number from 1; what is not there is null.
func (s Slots) At(i int) Value {
	if i < 1 || i > s.Len() {
		return Null
	}
	return Value(word(s.text, 4*i))
}

// Object is the fields of an object; null is one without any.
func (d *Data) Object(v Value) (Slots, error) { return d.slots(v, typeObject, "an object") }

// Array is the values of an array; null is one without any. That none of the values is
// null, as no writer makes it, is for the caller to check: a block may name one long array
// many times. The writer of apk-tools calls some arrays objects: both are taken.
func (d *Data) Array(v Value) (Slots, error) {
	if v.kind() == typeObject {
		v = v&maxPlace | typeArray<<placeBits
	}
	return d.slots(v, typeArray, "an array")
}

func (d *Data) slots(v Value, kind uint32, want string) (Slots, error) {
	if v == Null {
		return Slots{}, nil
	}
	if v.kind() != kind {
		return Slots{}, unexpected(v, want)
	}
	at := int(v.place())
	if at%4 != 0 {
		return Slots{}, fmt.Errorf("%s at %d, which is no multiple of 4", v, at)
	}
	if at+4 > len(d.text) {
		return Slots{}, d.outside(v)
	}
	n := int(word(d.text, at))
	if n == 0 {
		return Slots{}, fmt.Errorf("%s at %d: it has no length", v, at)
	}
	if n > (len(d.text)-at)/4 {
		return Slots{}, d.outside(v)
	}
	return Slots{d.text[at : at+4*n]}, nil
}

// Builder makes the content of an ADB block. Equal values stand there once, and equal
// calls give equal bytes. The zero Builder is ready.
type Builder struct {
	block []byte
	known map[string]uint32 // what stands where
}

// Int adds a number; 0 is a number and not null.
func (b *Builder) Int(n uint64) Value {
	switch {
	case n <= maxPlace:
		return typeInt<<placeBits | Value(n)
	case n < 1<<32:
		return b.add(typeInt32, 4, binary.LittleEndian.AppendUint32(nil, uint32(n)))
	}
	return b.add(typeInt64, 4, binary.LittleEndian.AppendUint64(nil, n))
}

// Blob adds bytes; none at all are null.
func (b *Builder) Blob(s string) Value {
	kind, align, data := blob(s)
	if data == nil {
		return Null
	}
	return b.add(kind, align, data)
}

// OwnBlob adds bytes that nothing else shares, so that Replace can change them.
func (b *Builder) OwnBlob(s string) Value {
	kind, align, data := blob(s)
	if data == nil {
		return Null
	}
	return b.place(kind, align, data)
}

func blob(s string) (kind uint32, align int, data []byte) {
	switch {
	case s == "":
		return 0, 0, nil
	case len(s) <= 0xff:
		return typeBlob8, 1, append([]byte{byte(len(s))}, s...)
	case len(s) <= 0xffff:
		return typeBlob16, 2, append(binary.LittleEndian.AppendUint16(nil, uint16(len(s))), s...)
	}
	return typeBlob32, 4, append(binary.LittleEndian.AppendUint32(nil, uint32(len(s))), s...)
}

// Array adds an array; one of no values is null.
func (b *Builder) Array(values []Value) Value { return b.slots(typeArray, values) }

// Object adds an object, of its first field on; null fields at the end are left out,
// and an object of none is null.
func (b *Builder) Object(fields []Value) Value {
	for len(fields) > 0 && fields[len(fields)-1] == Null {
		fields = fields[:len(fields)-1]
	}
	return b.slots(typeObject, fields)
}

func (b *Builder) slots(kind uint32, values []Value) Value {
	if len(values) == 0 {
		return Null
	}
	data := binary.LittleEndian.AppendUint32(make([]byte, 0, 4*(len(values)+1)), uint32(len(values)+1))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, uint32(v))
	}
	return b.add(kind, 4, data)
}

// add places what is not there yet.
func (b *Builder) add(kind uint32, align int, data []byte) Value {
	if at, found := b.known[string(data)]; found && int(at)%align == 0 {
		return Value(kind<<placeBits | at)
	}
	v := b.place(kind, align, data)
	if b.known == nil {
		b.known = map[string]uint32{}
	}
	b.known[string(data)] = v.place()
	return v
}

func (b *Builder) place(kind uint32, align int, data []byte) Value {
	if b.block == nil {
		b.block = make([]byte, headerSize)
	}
	for len(b.block)%align != 0 {
		b.block = append(b.block, 0)
	}
	at := len(b.block)
	b.block = append(b.block, data...)
	return Value(kind<<placeBits | uint32(at)&maxPlace)
}

// Block gives the block with a root. It is refused if it is longer than a reader could
// find its way in.
func (b *Builder) Block(root Value) ([]byte, error) {
	if b.block == nil {
		b.block = make([]byte, headerSize)
	}
	if len(b.block) > MaxSize {
		return nil, fmt.Errorf("an ADB block of %d bytes, and at most %d are possible", len(b.block), MaxSize)
	}
	binary.LittleEndian.PutUint32(b.block[4:], uint32(root))
	return b.block, nil
}

// Replace puts other bytes of the same length in the place of those of OwnBlob.
func (b *Builder) Replace(v Value, s string) {
	_, _, data := blob(s)
	copy(b.block[v.place():], data)
}
