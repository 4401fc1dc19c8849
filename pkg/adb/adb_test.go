package adb

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

var compressions = []Compression{Deflate, Zstd, Uncompressed}

// What was built reads back, and stands there once.
func TestValues(t *testing.T) {
	b := &Builder{}
	numbers := []uint64{0, 1, 1<<28 - 1, 1 << 28, 1<<32 - 1, 1 << 32, math.MaxUint64}
	texts := []string{"", "a", strings.Repeat("b", 255), strings.Repeat("c", 256), strings.Repeat("d", 1<<16), "\x00\xff"}
	var ns, ts []Value
	for _, n := range numbers {
		ns = append(ns, b.Int(n))
	}
	for _, s := range texts {
		ts = append(ts, b.Blob(s))
	}
	before := len(b.block)
	if b.Blob(texts[3]) != ts[3] || b.Int(numbers[5]) != ns[5] || len(b.block) != before {
		t.Error("equal values stand there twice")
	}
	if own := b.OwnBlob("a"); own == ts[1] {
		t.Error("an own blob is shared")
	}
	inner := b.Array(ns)
	root := b.Object([]Value{Null, inner, b.Object(ts), Null, Null})
	block, err := b.Block(root)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewData(block)
	if err != nil {
		t.Fatal(err)
	}
	o, err := d.Object(d.Root())
	if err != nil || o.Len() != 3 || o.At(1) != Null || o.At(4) != Null || o.At(0) != Null {
		t.Fatalf("root: %d fields, %v", o.Len(), err)
	}
	array, err := d.Array(o.At(2))
	if err != nil || array.Len() != len(numbers) {
		t.Fatalf("array: %d values, %v", array.Len(), err)
	}
	for i, want := range numbers {
		if got, err := d.Int(array.At(i + 1)); err != nil || got != want {
			t.Errorf("number %d: got %d, %v", want, got, err)
		}
	}
	object, err := d.Object(o.At(3))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range texts {
		if got, err := d.Blob(object.At(i + 1)); err != nil || got != want {
			t.Errorf("%d bytes: got %d, %v", len(want), len(got), err)
		}
	}
	if b.Array(nil) != Null || b.Object([]Value{Null}) != Null {
		t.Error("nothing is something")
	}
}

// words makes a block of words behind its header, the first of them at 8.
func words(root Value, all ...uint32) []byte {
	block := binary.LittleEndian.AppendUint32(make([]byte, 4), uint32(root))
	for _, w := range all {
		block = binary.LittleEndian.AppendUint32(block, w)
	}
	return block
}

func TestHostileValues(t *testing.T) {
	value := func(kind uint32, place int) Value { return Value(kind<<placeBits | uint32(place)) }
	type read = func(d *Data) error
	number := func(v Value) read { return func(d *Data) error { _, err := d.Int(v); return err } }
	text := func(v Value) read { return func(d *Data) error { _, err := d.Blob(v); return err } }
	array := func(v Value) read { return func(d *Data) error { _, err := d.Array(v); return err } }
	object := func(v Value) read { return func(d *Data) error { _, err := d.Object(v); return err } }
	for name, test := range map[string]struct {
		block []byte
		read  read
		want  string
	}{
		"number beyond the end":      {words(0, 1), number(value(typeInt32, 12)), "beyond the end"},
		"number at the end":          {words(0, 1), number(value(typeInt32, 9)), "beyond the end"},
		"long number at the end":     {words(0, 1), number(value(typeInt64, 8)), "beyond the end"},
		"true for a number":          {words(0), number(1), "expected a number"},
		"bytes for a number":         {words(0, 1), number(value(typeBlob8, 8)), "expected a number, found bytes"},
		"unknown type":               {words(0), number(value(0xf, 0)), "of the unknown type 0xf"},
		"bytes beyond the end":       {words(0, 5), text(value(typeBlob8, 8)), "beyond the end"},
		"length beyond the end":      {words(0), text(value(typeBlob8, 8)), "beyond the end"},
		"length16 beyond the end":    {words(0, 1), text(value(typeBlob16, 11)), "beyond the end"},
		"length32 beyond the end":    {words(0, 1), text(value(typeBlob32, 9)), "beyond the end"},
		"bytes16 beyond the end":     {words(0, 9), text(value(typeBlob16, 8)), "beyond the end"},
		"bytes32 beyond the end":     {words(0, math.MaxUint32), text(value(typeBlob32, 8)), "beyond the end"},
		"far beyond the end":         {words(0), text(value(typeBlob32, maxPlace)), "beyond the end"},
		"number for bytes":           {words(0), text(value(typeInt, 5)), "expected bytes, found a number"},
		"array for an object":        {words(0, 2, 1), object(value(typeArray, 8)), "expected an object, found an array"},
		"number for an array":        {words(0), array(value(typeInt, 8)), "expected an array, found a number"},
		"array without a length":     {words(0, 0), array(value(typeArray, 8)), "it has no length"},
		"array longer than it is":    {words(0, 3, 1), array(value(typeArray, 8)), "beyond the end"},
		"huge array":                 {words(0, math.MaxUint32, 1), array(value(typeArray, 8)), "beyond the end"},
		"array beyond the end":       {words(0), array(value(typeArray, 8)), "beyond the end"},
		"array between two words":    {words(0, 2, 1), array(value(typeArray, 9)), "which is no multiple of 4"},
		"object of itself, as bytes": {words(value(typeObject, 8), 2, 0xe0000008), func(d *Data) error { o, _ := d.Object(d.Root()); return text(o.At(1))(d) }, "expected bytes, found an object"},
	} {
		d, err := NewData(test.block)
		if err != nil {
			t.Fatal(err)
		}
		if err := test.read(d); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	for name, block := range map[string][]byte{"too short": make([]byte, 7), "of another version": {1, 0, 0, 0, 0, 0, 0, 0}} {
		if _, err := NewData(block); err == nil {
			t.Errorf("a block that is %s was taken", name)
		}
	}
}

// file makes a file of blocks.
func file(t testing.TB, c Compression, fill func(w *Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := Compress(&b, c)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(z, SchemaPackage)
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(w); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// all reads a file to its end.
func all(data []byte, limit int64) (blocks []string, c Compression, err error) {
	z, c, err := Expand(bytes.NewReader(data), limit)
	if err != nil {
		return nil, c, err
	}
	defer z.Close()
	r, err := NewReader(z)
	if err != nil {
		return nil, c, err
	}
	for {
		kind, _, err := r.Next()
		if err == io.EOF {
			return blocks, c, nil
		}
		if err != nil {
			return blocks, c, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return blocks, c, err
		}
		blocks = append(blocks, kind.String()+" "+string(content))
	}
}

func some(w *Writer) error {
	return errors.Join(w.Block(BlockADB, make([]byte, 8), []byte("12345")), w.Block(BlockSignature, []byte("sign")), w.Block(BlockData),
		w.BlockFrom(BlockData, []byte("first"), strings.NewReader("second and more"), 6))
}

func TestBlocks(t *testing.T) {
	want := []string{"ADB block " + string(make([]byte, 8)) + "12345", "signature block sign", "data block ", "data block firstsecond"}
	for _, c := range compressions {
		data := file(t, c, some)
		got, compression, err := all(data, 1<<20)
		if err != nil || compression != c || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %s, %v", c, got, compression, err)
		}
		if !bytes.Equal(data, file(t, c, some)) {
			t.Errorf("%s: other bytes the second time", c)
		}
		if p, err := ParseCompression(c.String()); err != nil || p != c {
			t.Errorf("ParseCompression(%s): %s, %v", c, p, err)
		}
	}
	w, _ := NewWriter(io.Discard, SchemaPackage)
	if err := w.BlockFrom(BlockData, nil, strings.NewReader("short"), 6); err == nil || err.Error() != "expected 6 bytes, found 5" {
		t.Errorf("got %v, want that it is short", err)
	}
}

// zeros is an endless content.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Above a gigabyte a block has a longer header.
func TestLongBlock(t *testing.T) {
	if testing.Short() {
		t.Skip("a gigabyte")
	}
	const size = 1<<30 + 3
	r, w := io.Pipe()
	go func() {
		blocks, err := NewWriter(w, SchemaPackage)
		if err == nil {
			err = errors.Join(blocks.Block(BlockADB, make([]byte, 8)), blocks.BlockFrom(BlockData, nil, zeros{}, size), blocks.Block(BlockData, []byte("behind")))
		}
		w.CloseWithError(err)
	}()
	blocks, err := NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{8, size, 6} {
		if _, length, err := blocks.Next(); err != nil || length != want {
			t.Fatalf("got %d bytes, %v, want %d", length, err, want)
		}
	}
	if _, _, err := blocks.Next(); err != io.EOF {
		t.Errorf("got %v, want the end", err)
	}
}

func TestHostileBlocks(t *testing.T) {
	head := []byte("ADB.pckg")
	block := func(kind Kind, length int, content string) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(kind)<<30|uint32(length))
		return append(b, content...)
	}
	long := func(kind Kind, length uint64, content string) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(blockExtended)<<30|uint32(kind))
		return append(binary.LittleEndian.AppendUint64(append(b, 0, 0, 0, 0), length), content...)
	}
	plain := block(BlockADB, 16, "0123456789ab")
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":                    {nil, "unexpected end"},
		"three letters":              {[]byte("ADB"), "unexpected end"},
		"another beginning":          {[]byte("hello, world"), `expected "ADB"`},
		"no schema":                  {head[:6], "unexpected end"},
		"no block":                   {head, "unexpected end"},
		"no ADB block":               {slices.Concat(head, block(BlockData, 8, "1234")), "expected an ADB block first, found data block"},
		"two ADB blocks":             {slices.Concat(head, plain, plain), "ADB block behind ADB block"},
		"signature behind data":      {slices.Concat(head, plain, block(BlockData, 8, "1234"), block(BlockSignature, 8, "1234")), "signature block behind data block"},
		"shorter than its header":    {slices.Concat(head, block(BlockADB, 3, "")), "with a length of 3 bytes"},
		"longer than the file":       {slices.Concat(head, block(BlockADB, 99, "1234")), "unexpected end"},
		"cut off in the header":      {slices.Concat(head, plain, []byte{1, 2}), "unexpected end"},
		"cut off in the padding":     {slices.Concat(head, block(BlockADB, 13, "123456789")), "unexpected end"},
		"something in the padding":   {slices.Concat(head, block(BlockADB, 13, "123456789abc")), "something stands between two blocks"},
		"long header of nothing":     {slices.Concat(head, long(BlockADB, 8, "")), "with a length of 8 bytes"},
		"long header cut off":        {slices.Concat(head, long(BlockADB, 8, "")[:9]), "unexpected end"},
		"long header beyond numbers": {slices.Concat(head, long(BlockADB, math.MaxUint64, "")), "with a length of"},
		"long header of a far kind":  {slices.Concat(head, long(77, 32, "0123456789abcdef")), "block of the unknown kind 77"},
		"long header, long again":    {slices.Concat(head, long(blockExtended, 32, "0123456789abcdef")), "block of the unknown kind 3"},
		"more than the limit":        {slices.Concat(head, block(BlockADB, 5<<20, strings.Repeat("x", 5<<20))), "more than 1048576 bytes"},
	} {
		if blocks, _, err := all(test.data, 1<<20); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %q, %v, want %q", name, blocks, err, test.want)
		}
	}
}

func TestHostileCompression(t *testing.T) {
	deflated := func(data []byte) []byte {
		var b bytes.Buffer
		z, _ := flate.NewWriter(&b, 1)
		z.Write(data)
		z.Close()
		return b.Bytes()
	}
	zstandard := func(data []byte, o ...zstd.EOption) []byte {
		z, _ := zstd.NewWriter(nil, o...)
		defer z.Close()
		return z.EncodeAll(data, nil)
	}
	plain := file(t, Uncompressed, some)
	bomb := file(t, Uncompressed, func(w *Writer) error { return w.Block(BlockADB, make([]byte, 64<<20)) })
	skippable := []byte("\x50\x2a\x4d\x18\x04\x00\x00\x00evil")
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"an unknown algorithm":         {[]byte("ADBc\x07\x01...."), "the unknown algorithm 7"},
		"an unknown letter":            {[]byte("ADBx...."), `found "ADBx"`},
		"no algorithm":                 {[]byte("ADBc\x02"), "unexpected end"},
		"no deflate":                   {[]byte("ADBd\xff\xff\xff\xff"), "corrupt"},
		"deflate that is cut off":      {append([]byte("ADBd"), deflated(plain)[:30]...), "unexpected end"},
		"bytes behind deflate":         {append(append([]byte("ADBd"), deflated(plain)...), 'x'), "something stands behind the end"},
		"deflate twice":                {append(append([]byte("ADBd"), deflated(plain)...), deflated(plain)...), "something stands behind the end"},
		"a bomb of deflate":            {append([]byte("ADBd"), deflated(bomb)...), "more than 1048576 bytes"},
		"no zstd":                      {[]byte("ADBc\x02\x03hello, world, hello"), "no frame of zstd"},
		"zstd that is cut off":         {append([]byte("ADBc\x02\x03"), zstandard(plain)[:30]...), "unexpected end"},
		"zstd without its checksum":    {append([]byte("ADBc\x02\x03"), zstandard(plain)[:len(zstandard(plain))-2]...), "unexpected end"},
		"bytes behind zstd":            {append(append([]byte("ADBc\x02\x03"), zstandard(plain)...), 'x'), "something stands behind the end"},
		"zstd twice":                   {append(append([]byte("ADBc\x02\x03"), zstandard(plain)...), zstandard(plain)...), "something stands behind the end"},
		"something hidden behind zstd": {append(append([]byte("ADBc\x02\x03"), zstandard(plain)...), skippable...), "something stands behind the end"},
		"something hidden before zstd": {append(append([]byte("ADBc\x02\x03"), skippable...), zstandard(plain)...), "no frame of zstd"},
		"a bomb of zstd":               {append([]byte("ADBc\x02\x03"), zstandard(bomb)...), "more than 1048576 bytes"},
		"a window of a gigabyte":       {[]byte("ADBc\x02\x03\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00"), "window"},
		"compressed twice":             {append([]byte("ADBd"), deflated(append([]byte("ADBd"), deflated(plain)...))...), `expected "ADB." at the beginning, found "ADBd"`},
	} {
		if blocks, _, err := all(test.data, 1<<20); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %q, %v, want %q", name, blocks, err, test.want)
		}
	}
	// With a level told, deflate has the other beginning.
	if _, c, err := all(append([]byte("ADBc\x01\x09"), deflated(plain)...), 1<<20); err != nil || c != Deflate {
		t.Errorf("deflate with a level: %s, %v", c, err)
	}
}

func TestECDSASignature(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("text")
	s, err := Sign(SchemaIndex, text, &key.PublicKey, func(digest []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, key, digest) })
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseSignature(s.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := read.Verify(SchemaIndex, text, &key.PublicKey); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another schema": read.Verify(SchemaPackage, text, &key.PublicKey),
		"another text":   read.Verify(SchemaIndex, []byte("texts"), &key.PublicKey),
	} {
		if err == nil {
			t.Errorf("it holds for %s", name)
		}
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := IDOf(public); err == nil || !strings.Contains(err.Error(), "makes no signature that apk knows") {
		t.Errorf("ed25519: %v", err)
	}
	if _, err := Sign(SchemaIndex, text, &key.PublicKey, func([]byte) ([]byte, error) { return []byte("x"), nil }); err == nil {
		t.Error("a signature that does not hold was given")
	}
	for name, block := range map[string][]byte{"short": make([]byte, 17), "long": make([]byte, 2049)} {
		if _, err := ParseSignature(block); err == nil {
			t.Errorf("a signature that is %s was taken", name)
		}
	}
	for name, begin := range map[string][]byte{"of another version": {1, 4}, "over SHA-1": {0, 2}} {
		s, err := ParseSignature(append(begin, s.Bytes()[2:]...))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(SchemaIndex, text, &key.PublicKey); err == nil || !bytes.Equal(s.Bytes()[:2], begin) {
			t.Errorf("a signature %s: %v", name, err)
		}
	}
}

// Whatever stands in a file, reading it ends, stays within its limit, and what was read
// is written and read again as the same.
func FuzzRead(f *testing.F) {
	for _, c := range compressions {
		f.Add(file(f, c, some))
	}
	f.Add([]byte("ADBc\x01\x09"))
	f.Add([]byte("ADB.pckg\x10\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 20
		blocks, _, err := all(data, limit)
		size := 0
		for _, b := range blocks {
			size += len(b)
		}
		if size > limit+100*len(blocks) {
			t.Errorf("%d bytes were read", size)
		}
		if err != nil {
			return
		}
		again := file(t, Uncompressed, func(w *Writer) error {
			for _, b := range blocks {
				kind, content, _ := strings.Cut(b, "block ")
				k := map[string]Kind{"ADB ": BlockADB, "signature ": BlockSignature, "data ": BlockData}[kind]
				if err := w.Block(k, []byte(content)); err != nil {
					return err
				}
			}
			return nil
		})
		if got, _, err := all(again, limit+100*int64(len(blocks))); err != nil || !slices.Equal(got, blocks) {
			t.Errorf("written and read again: %v", err)
		}
	})
}

// Every value of a block, asked for as every type, is within it or an error.
func FuzzValues(f *testing.F) {
	b := &Builder{}
	block, _ := b.Block(b.Object([]Value{b.Int(1 << 40), b.Blob("text"), b.Array([]Value{b.Int(1), b.Blob(strings.Repeat("x", 300))})}))
	f.Add(block, uint32(0xe0000008))
	f.Add(words(0xe0000008, 2, 0xe0000008), uint32(0xd0000008))
	f.Fuzz(func(t *testing.T, block []byte, v uint32) {
		d, err := NewData(block)
		if err != nil {
			return
		}
		for _, v := range []Value{Value(v), d.Root()} {
			for range 100 { // a circle is walked as far as somebody wants
				_, _ = d.Int(v)
				if s, err := d.Blob(v); err == nil && len(s) > len(block) {
					t.Errorf("%d bytes of a block of %d", len(s), len(block))
				}
				array, err := d.Array(v)
				if err == nil && 4*array.Len() > len(block) {
					t.Errorf("%d values of a block of %d bytes", array.Len(), len(block))
				}
				object, _ := d.Object(v)
				if v = object.At(1); v == Null {
					v = array.At(array.Len())
				}
			}
		}
	})
}
