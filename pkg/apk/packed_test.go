package apk_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
)

func openPacked(t testing.TB, text string) *apk.Packed {
	t.Helper()
	data, err := apk.Pack(text)
	if err != nil {
		t.Fatal(err)
	}
	p, err := apk.OpenPacked(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPacked finds in a packed index what reading it whole finds.
func TestPacked(t *testing.T) {
	text := someIs + "p:so:x=1 cmd:a=1 so:x=2\ni:b docs !c\n\n\n" + strings.ReplaceAll(someIs, "P:a", "P:b") + "p:so:x\n\nP:c\nV:2\nD:a@b"
	check(t, text)
	if p := openPacked(t, ""); p.Len() != 0 || p.Providers("a") != nil || p.Err() != nil {
		t.Errorf("nothing packed: %d, %v, %v", p.Len(), p.Providers("a"), p.Err())
	}
	if _, err := apk.Pack("P:a\nnonsense\n"); err == nil {
		t.Error("nonsense was packed")
	}
	data, err := os.ReadFile(filepath.Join(vectors(t), "alpine-317", "APKINDEX.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	real, _, err := apk.IndexText(data, apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	check(t, real)
}

func check(t *testing.T, text string) {
	t.Helper()
	x, err := apk.ReadIndexText(strings.NewReader(text), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	p := openPacked(t, text)
	provide, installIf := map[string][]*apk.Entry{}, map[string][]*apk.Entry{}
	add := func(to map[string][]*apk.Entry, name string, e *apk.Entry) {
		if !slices.Contains(to[name], e) {
			to[name] = append(to[name], e)
		}
	}
	for _, e := range x.Entries {
		add(provide, e.Name, e)
		for _, d := range e.Provides {
			add(provide, d.Name, e)
		}
		for _, d := range e.InstallIf {
			if !d.Conflict {
				add(installIf, d.Name, e)
			}
		}
	}
	newest := int64(0)
	for _, e := range x.Entries {
		newest = max(newest, e.BuildDate)
	}
	if p.Newest() != newest {
		t.Errorf("newest: %d, want %d", p.Newest(), newest)
	}
	names := p.Names()
	for _, name := range append(names, "no such name", "") {
		if diff := cmp.Diff(provide[name], p.Providers(name), malformedLine); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(installIf[name], p.InstallIf(name), malformedLine); diff != "" {
			t.Fatalf("install_if %q (-want +got):\n%s", name, diff)
		}
	}
	for name := range provide {
		if !slices.Contains(names, name) {
			t.Fatalf("no name %q", name)
		}
	}
	if p.Len() != len(x.Entries) || p.Err() != nil {
		t.Errorf("%d entries, %v, want %d", p.Len(), p.Err(), len(x.Entries))
	}
}

// TestPackedDamaged reads the text where a place of the packed index is damaged, which
// shows after entries were given: they are the same ones afterwards, and nothing is missing.
func TestPackedDamaged(t *testing.T) {
	text := "P:a\nV:1\np:so:x=1\n\nP:b\nV:2\np:so:x=2\ni:a\n\nP:c\nV:3\np:so:x=3\n"
	data, err := apk.Pack(text)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(data, []byte("P:c\nV:3"), []byte("P:/\nV:3"), 1)
	asked := 0
	p, err := apk.OpenPacked(bytes.NewReader(damaged), int64(len(data)), func() (string, error) { asked++; return text, nil })
	if err != nil {
		t.Fatal(err)
	}
	a := p.Providers("a")
	if len(a) != 1 || asked != 0 {
		t.Fatalf("%d of a, %d times the text", len(a), asked)
	}
	if x := p.Providers("so:x"); len(x) != 3 || x[0] != a[0] || x[2].Name != "c" || asked != 1 || p.Err() != nil {
		t.Errorf("%d of so:x, %d times the text, %v", len(x), asked, p.Err())
	}
	if c, b := p.Providers("c"), p.InstallIf("a"); len(c) != 1 || len(b) != 1 || p.Len() != 3 || len(p.Names()) != 4 || asked != 1 {
		t.Errorf("%d of c, %d of install_if, %d entries, %q", len(c), len(b), p.Len(), p.Names())
	}
	p, err = apk.OpenPacked(bytes.NewReader(damaged), int64(len(data)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Providers("c"); p.Err() == nil {
		t.Error("no word of what is damaged, and no text to read")
	}
}

// malformedLine lets the lines in Malformed differ: of one record they are its own.
var malformedLine = cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Malformed" }, cmp.Comparer(func(a, b string) bool { return (a == "") == (b == "") }))

// FuzzOpenPacked lets a damaged file of this form do no more than give an error.
func FuzzOpenPacked(f *testing.F) {
	data, err := apk.Pack(someIs + "p:so:x=1\ni:b c\n")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, "a")
	f.Add(data[:60], "so:x")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		p, err := apk.OpenPacked(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			return
		}
		p.Providers(name)
		p.InstallIf(name)
		p.Names()
		_ = p.Err()
	})
}

func BenchmarkPack(b *testing.B) {
	text, _, err := apk.IndexText(bigIndex(b, 100_000, apk.V2, 0), apk.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := apk.Pack(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPacked opens a packed index and reads a hundred names of it.
func BenchmarkPacked(b *testing.B) {
	text, _, err := apk.IndexText(bigIndex(b, 100_000, apk.V2, 0), apk.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	data, err := apk.Pack(text)
	if err != nil {
		b.Fatal(err)
	}
	names := openPacked(b, text).Names()
	for b.Loop() {
		p, err := apk.OpenPacked(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			b.Fatal(err)
		}
		for i := range 100 {
			if p.Providers(names[i*len(names)/100]) == nil && p.InstallIf(names[i*len(names)/100]) == nil {
				b.Fatal(fmt.Errorf("nothing of %q", names[i*len(names)/100]))
			}
		}
	}
}
