package apk_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	kgzip "github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
)

func TestReadOthersIndexes(t *testing.T) {
	dir := vectors(t)
	for _, test := range []struct {
		file, description   string
		entries, signatures int
	}{
		{"APKINDEX.tar.gz", "v20210402-2123-gabcdef", 2, 0},
		{"alpine-316/APKINDEX.tar.gz", "v3.16.3-13-g4d933a1fa3", 4929, 1},
		{"alpine-317/APKINDEX.tar.gz", "v3.17.3-216-g54a39ace82a", 5004, 1},
		{"signing/APKINDEX.tar.gz", "", 16, 3},
		{"rsa256-signed/APKINDEX.tar.gz", "", 1, 1},
	} {
		t.Run(test.file, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, test.file))
			if err != nil {
				t.Fatal(err)
			}
			x := readIndex(t, data)
			if len(x.Entries) != test.entries || len(x.Signatures) != test.signatures || x.Description != test.description {
				t.Errorf("got %d entries, %d signatures, description %q", len(x.Entries), len(x.Signatures), x.Description)
			}
			for _, e := range x.Entries {
				if e.Checksum == (apk.Checksum{}) || e.FileSize == 0 || e.Arch == "" || len(e.Licenses) == 0 {
					t.Errorf("%s: a field is missing: %+v", e.FullName(), e)
				}
			}
			var b bytes.Buffer
			if err := apk.WriteIndex(&b, x); err != nil {
				t.Fatal(err)
			}
			again := readIndex(t, b.Bytes())
			slices.SortStableFunc(x.Entries, func(a, b *apk.Entry) int { return strings.Compare(a.Name, b.Name) })
			if diff := cmp.Diff(x, again, cmpopts.IgnoreUnexported(apk.Index{}), cmpopts.IgnoreFields(apk.Index{}, "Signatures")); diff != "" {
				t.Errorf("(-read +written and read):\n%s", diff)
			}
		})
	}
}

func readIndex(t testing.TB, data []byte) *apk.Index {
	t.Helper()
	x, err := apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestWriteIndex(t *testing.T) {
	var b bytes.Buffer
	if _, err := apk.WritePackage(&b, unsigned()); err != nil {
		t.Fatal(err)
	}
	full := apktest.Entry(t, b.Bytes())
	x := &apk.Index{Description: "a set", Entries: []*apk.Entry{
		apktest.Entry(t, apktest.Package(t, "zlib", "1.10-r0")), full,
		apktest.Entry(t, apktest.Package(t, "zlib", "1.9-r0")), apktest.Entry(t, apktest.Package(t, "a", "1-r0")),
	}}
	write := func(x *apk.Index) []byte {
		var b bytes.Buffer
		if err := apk.WriteIndex(&b, x, newKeys()[0], newKeys()[1]); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	data := write(x)
	if x.Entries[0].Name != "zlib" {
		t.Error("the index that was given changed")
	}
	read := readIndex(t, data)
	var names []string
	for _, e := range read.Entries {
		names = append(names, e.FullName())
	}
	if want := []string{"a-1-r0", "full-1.2.3-r4", "zlib-1.9-r0", "zlib-1.10-r0"}; !slices.Equal(names, want) {
		t.Errorf("order: got %q, want %q", names, want)
	}
	slices.Reverse(x.Entries)
	if !bytes.Equal(data, write(x)) {
		t.Error("the same entries in another order give other bytes")
	}
	for _, key := range newKeys() {
		if got, err := apk.VerifyIndex(data, ring(key)); err != nil || got != key.KeyName() {
			t.Errorf("verify: got %q, %v, want %s", got, err, key.KeyName())
		}
	}
	got := read.Entries[1]
	want := *full
	want.DataHash, want.Packager, want.Replaces, want.ReplacesPriority, want.Triggers = "", "", nil, 0, nil // an index has none
	want.Licenses = []string{"(MIT OR ISC) AND 0BSD"}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	text := section(t, data, "APKINDEX")
	wantText := fmt.Sprintf(`C:%s
P:full
V:1.2.3-r4
A:x86_64
S:%d
I:2097182
T:a test; with # signs
U:https://example.org/#f
L:(MIT OR ISC) AND 0BSD
o:origin
m:A <a@example.org>
t:1700000000
c:0a1b
D:so:libc.musl-x86_64.so.1 !busybox zlib>=1.3
i:docs full=1.2.3-r4
p:cmd:ping=1.2.3-r4
k:-1

`, full.Checksum, full.FileSize)
	if !strings.Contains(text, "\n\n"+wantText) {
		t.Errorf("record:\n%s\nwant:\n%s", text, wantText)
	}
	bare, err := apk.ReadIndexText(strings.NewReader(text), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(read.Entries, bare.Entries); diff != "" {
		t.Errorf("bare text (-archive +text):\n%s", diff)
	}
	if err := apk.WriteIndex(io.Discard, &apk.Index{Entries: []*apk.Entry{full, full}}); err == nil || !strings.Contains(err.Error(), "full-1.2.3-r4 stands in it twice") {
		t.Errorf("got %v, want that it stands there twice", err)
	}
	bare.Entries[0].Checksum = apk.Checksum{}
	if err := apk.WriteIndex(io.Discard, bare); err == nil || !strings.Contains(err.Error(), "a-1-r0: it has no checksum") {
		t.Errorf("got %v, want that there is no checksum", err)
	}
	evil := *full
	evil.Description = "x\n\nP:evil"
	if err := apk.WriteIndex(io.Discard, &apk.Index{Entries: []*apk.Entry{&evil}}); err == nil || !strings.Contains(err.Error(), "line break") {
		t.Errorf("got %v, want that there is a line break", err)
	}
}

// section is a file of an index's archive.
func section(t *testing.T, data []byte, name string) string {
	t.Helper()
	z, err := kgzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == name {
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
	}
}

const (
	someSum = "C:Q1EfatjsUqKYSrqv18O1FlA3hcIHI=\n"
	someIs  = someSum + "P:a\nV:1-r0\n"
)

func TestReadIndexText(t *testing.T) {
	x, err := apk.ReadIndexText(strings.NewReader("\n\n"+someIs+"Y:new\nx:field\nD:\nF:usr\n\n\n\n"+someSum+"P:b\nV:0.99f7-r0\np:pc:x=v2  y\nT: a \nL:"), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := apk.ParseChecksum("Q1EfatjsUqKYSrqv18O1FlA3hcIHI=")
	if hex, err := apk.ParseChecksum(fmt.Sprintf("X1%x", sum[:])); err != nil || hex != sum {
		t.Errorf("as hexadecimal digits: %v, %v", hex, err)
	}
	want := []*apk.Entry{
		{Info: apk.Info{Name: "a", Version: "1-r0"}, Checksum: sum},
		{Info: apk.Info{Name: "b", Version: "0.99f7-r0", Description: " a ", Provides: []apk.Dependency{{Name: "pc:x", Op: apk.Equal, Version: "v2"}, {Name: "y"}}}, Checksum: sum},
	}
	if diff := cmp.Diff(want, x.Entries); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Lists of one entry do not grow into those of another.
	x.Entries[0].Depends = append(x.Entries[0].Depends, apk.Dependency{Name: "evil"})
	if got := x.Entries[1].Provides[0].Name; got != "pc:x" {
		t.Errorf("the list of another entry changed: %q", got)
	}
}

func TestMalformedIndex(t *testing.T) {
	for text, want := range map[string]string{
		someIs + "\nhello\n":                `line 5: expected a letter and a colon, found "hello"`,
		someIs + "hello\n":                  `line 4: package "a": expected a letter and a colon, found "hello"`,
		someIs + "P:b\n":                    `line 4: package "b": P: it stands there twice`,
		someIs + "S:x\n":                    `line 4: package "a": S: "x" is not a number`,
		someIs + "S:-1\n":                   `line 4: package "a": S: "-1" is negative`,
		someIs + "I:99999999999999999999\n": `line 4: package "a": I: "99999999999999999999" does not fit in 64 bits`,
		"C:Q1xx\nP:a\nV:1\n":                `line 1: C: malformed checksum "Q1xx"`,
		"C:Q2xx\nP:a\nV:1\n":                `line 1: C: malformed checksum "Q2xx"`,
		"P:a\n":                             `line 1: package "a": the version is empty`,
		"V:1\n":                             `line 1: the name is empty`,
		someIs + "\nP:../x\nV:1\n":          `line 5: package "../x": name "../x": unexpected "/"`,
		"P:a\nV:1/../../x\n":                `line 1: package "a": version "1/../../x": unexpected character`,
		"P:a b\nV:1\n":                      `line 1: package "a b": name "a b": unexpected " "`,
		"P:a\nV:1 2\n":                      `line 1: package "a": version "1 2": unexpected character`,
	} {
		x, err := apk.ReadIndexText(strings.NewReader(text), apk.Limits{})
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v, %v\nwant %s", text, x, err, want)
		}
	}
	for name, test := range map[string]struct {
		data   []byte
		limits apk.Limits
		want   string
	}{
		"empty":           {nil, apk.Limits{}, "unexpected end"},
		"text":            {[]byte(someIs), apk.Limits{}, "no gzip member"},
		"no index within": {archive(t, true, func(w *tar.Writer) { put(w, tar.Header{Name: "x"}, "") }), apk.Limits{}, "the archive has no APKINDEX"},
		"two indexes": {archive(t, true, func(w *tar.Writer) {
			put(w, tar.Header{Name: "APKINDEX"}, "")
			put(w, tar.Header{Name: "APKINDEX"}, someIs)
		}), apk.Limits{}, "twice"},
		"a symlink":            {archive(t, true, entries(tar.Header{Name: "APKINDEX", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})), apk.Limits{}, "is a symbolic link"},
		"a bomb":               {archive(t, true, func(w *tar.Writer) { put(w, tar.Header{Name: "APKINDEX"}, strings.Repeat("\n", 4<<20)) }), apk.Limits{Index: 1 << 20}, "more than 1048576 bytes"},
		"a bomb of signatures": {archive(t, true, func(w *tar.Writer) { put(w, tar.Header{Name: ".SIGN.RSA256.x.rsa.pub"}, strings.Repeat("\n", 4<<20)) }), apk.Limits{}, "more than 1048576 bytes"},
		"too long":             {make([]byte, 100), apk.Limits{Index: 99}, "longer than 99 bytes"},
		"cut off":              {archive(t, true, func(w *tar.Writer) { put(w, tar.Header{Name: "APKINDEX"}, someIs) })[:60], apk.Limits{}, "unexpected end"},
		"larger than it is":    {compress(slices.Concat(rawHeader("APKINDEX", '0', 1<<32, nil), make([]byte, 512))), apk.Limits{}, "unexpected end"},
	} {
		_, err := apk.ReadIndex(bytes.NewReader(test.data), test.limits)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// TestMalformedDependencies holds that a package whose dependencies can't be read
// does not take the others with it, and is not written to another index.
func TestMalformedDependencies(t *testing.T) {
	text := someIs + "D:a b><c\n\n" + someSum + "P:b\nV:1\nD:x@edge\nD:y\n\n" + someSum + "P:c\nV:1\nD:x y\nD:z\np:q\n"
	x, err := apk.ReadIndexText(strings.NewReader(text), apk.Limits{})
	if err != nil || len(x.Entries) != 3 {
		t.Fatalf("got %v, %v", x, err)
	}
	for i, want := range []string{
		`line 4: D: dependency "b><c": unknown operator "><"`,
		`line 9: D: dependency "x@edge": a tag is not allowed here`,
		"",
	} {
		if got := x.Entries[i].Malformed; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if want := []apk.Dependency{{Name: "x"}, {Name: "y"}, {Name: "z"}}; !slices.Equal(x.Entries[2].Depends, want) {
		t.Errorf("several lines: got %v, want %v", x.Entries[2].Depends, want)
	}
	if err := apk.WriteIndex(io.Discard, x); err == nil || !strings.Contains(err.Error(), "unknown operator") {
		t.Errorf("written again: %v", err)
	}
}

func FuzzReadIndex(f *testing.F) {
	f.Add(someIs + "A:x86_64\nD:a b=1 !c<2\np:so:x=1\nL:MIT\nk:-1\nS:5\nI:6\nt:7\n\n" + someIs)
	f.Add("P:a\nP:b\n:\n\n\nx:")
	f.Fuzz(func(t *testing.T, text string) {
		// As a whole file too: what is no archive is refused, not more.
		_, _ = apk.ReadIndex(strings.NewReader(text), apk.Limits{Index: 1 << 20})
		x, err := apk.ReadIndexText(strings.NewReader(text), apk.Limits{})
		if err != nil {
			return
		}
		var b bytes.Buffer
		if apk.WriteIndex(&b, x) != nil {
			return
		}
		again := readIndex(t, b.Bytes())
		if len(again.Entries) != len(x.Entries) {
			t.Fatalf("%d entries, written and read again %d", len(x.Entries), len(again.Entries))
		}
		var c bytes.Buffer
		if err := apk.WriteIndex(&c, again); err != nil || !bytes.Equal(b.Bytes(), c.Bytes()) {
			t.Errorf("written a second time it is another: %v", err)
		}
	})
}

// An index of any bytes, and of any archive: nothing is taken for signed that is not, and
// what is read is written again.
func FuzzReadIndexFile(f *testing.F) {
	var plain, signed bytes.Buffer
	x := &apk.Index{Description: "d", Entries: []*apk.Entry{apktest.Entry(f, apktest.Package(f, "a", "1-r0"))}}
	if err := errors.Join(apk.WriteIndex(&plain, x), apk.WriteIndex(&signed, x, newKeys()[0])); err != nil {
		f.Fatal(err)
	}
	f.Add(plain.Bytes())
	f.Add(signed.Bytes())
	f.Add(slices.Concat(rawHeader("APKINDEX", '0', int64(len(someIs)), nil), padded(someIs), make([]byte, 1024)))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range [][]byte{data, compress(data)} {
			x, err := apk.ReadIndex(bytes.NewReader(file), apk.Limits{Index: 1 << 20})
			key, trust := apk.VerifyIndex(file, testKeys)
			if trust == nil && (key != "one.rsa.pub" || !bytes.HasSuffix(file, plain.Bytes())) {
				t.Errorf("it is taken for signed by %q", key)
			}
			if err == nil {
				_ = apk.WriteIndex(io.Discard, x)
			}
		}
	})
}

// bigIndex has n packages, as the large distributions have them.
func bigIndex(b *testing.B, n int, format apk.Format, c adb.Compression) []byte {
	x := &apk.Index{Format: format, Compression: c}
	for i := range n {
		name := fmt.Sprintf("package-%06d", i)
		version := apk.Version(fmt.Sprintf("%d.%d.%d-r%d", i%7, i%31, i%101, i%5))
		e := &apk.Entry{
			Info: apk.Info{
				Name: name, Version: version, Arch: apk.ArchX86_64, Size: int64(i) * 1000, Description: "the package with the number " + name,
				URL: "https://example.org/" + name, Licenses: []string{"Apache-2.0"}, Origin: name, BuildDate: 1700000000 + int64(i), Commit: strings.Repeat("0a1b2", 8),
				Maintainer: "Somebody <somebody@example.org>",
				Provides:   []apk.Dependency{{Name: "cmd:" + name, Op: apk.Equal, Version: version}, {Name: "so:lib" + name + ".so.1", Op: apk.Equal, Version: "1"}},
			},
			FileSize: int64(i) * 300,
		}
		e.Checksum[0], e.Checksum[1], e.Checksum[2], e.Checksum[3] = byte(i), byte(i>>8), byte(i>>16), 1
		for j := range 5 {
			e.Depends = append(e.Depends, apk.Dependency{Name: fmt.Sprintf("so:libpackage-%06d.so.1", (i*31+j*977)%n)})
		}
		x.Entries = append(x.Entries, e)
	}
	var out bytes.Buffer
	if err := apk.WriteIndex(&out, x, newKeys()[0]); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// BenchmarkReadIndex reads 100,000 entries. cpu-ns/op counts what all processors did.
func BenchmarkReadIndex(b *testing.B) {
	archive := bigIndex(b, 100_000, apk.V2, 0)
	var text []byte
	z, err := kgzip.NewReader(bytes.NewReader(bigIndex(b, 100_000, apk.V2, 0)))
	if err != nil {
		b.Fatal(err)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err != nil {
			b.Fatal(err)
		}
		if h.Name == "APKINDEX" {
			if text, err = io.ReadAll(t); err != nil {
				b.Fatal(err)
			}
			break
		}
	}
	whole := func(r io.Reader) (*apk.Index, error) { return apk.ReadIndex(r, apk.Limits{}) }
	for _, bench := range []struct {
		name string
		data []byte
		read func(io.Reader) (*apk.Index, error)
	}{
		{"tar.gz", archive, whole},
		{"text", text, func(r io.Reader) (*apk.Index, error) { return apk.ReadIndexText(r, apk.Limits{}) }},
		{"adb-zstd", bigIndex(b, 100_000, apk.V3, adb.Zstd), whole},
		{"adb-deflate", bigIndex(b, 100_000, apk.V3, adb.Deflate), whole},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.data)))
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				x, err := bench.read(bytes.NewReader(bench.data))
				if err != nil || len(x.Entries) != 100_000 {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what this process has used so far, in nanoseconds.
func cpuTime(b *testing.B) int64 {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}

func BenchmarkVersionCompare(b *testing.B) {
	v, w := apk.Version("1.36.1_git20230101-r12"), apk.Version("1.36.1_git20230101-r13")
	b.ReportAllocs()
	for b.Loop() {
		if v.Compare(w) >= 0 {
			b.Fatal("wrong order")
		}
	}
}
