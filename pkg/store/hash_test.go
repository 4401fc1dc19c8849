package store_test

import (
	"fmt"
	"testing"

	"github.com/tarn-build/tarn/pkg/store"
)

func TestHashIsReadable(t *testing.T) {
	h := store.NewHash("build")
	h.Line("name", "zlib")
	h.Line("epoch", 3)
	h.Line("env", map[string]string{"PATH": "/bin", "HOME": "/home/build"})
	h.Line("files", []struct {
		Path   string
		Digest store.Digest
	}{{"a\nb", "sha256:x"}})
	h.Line("odd = name", []byte{0, 255})
	h.Line("nothing", nil)
	want := `tarn action 1
kind = "build"
name = "zlib"
epoch = 3
env = {"HOME": "/home/build", "PATH": "/bin"}
files = [{Path: "a\nb", Digest: "sha256:x"}]
"odd = name" = x"00ff"
nothing = null
`
	if got := h.Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if h.Sum() != store.ActionID(store.DigestOf([]byte(want)).Hex()) {
		t.Error("Sum is not the SHA-256 of Text")
	}
}

func TestHashKeepsApart(t *testing.T) {
	type line struct {
		name  string
		value any
	}
	groups := [][]line{
		nil,
		{{"a", ""}},
		{{"a", nil}},
		{{"a", "null"}},
		{{"a", 5}},
		{{"a", "5"}},
		{{"a", []string{"b", "c"}}},
		{{"a", []string{"b, c"}}},
		{{"a", []string{`b", "c`}}},
		{{"a", `["b", "c"]`}},
		{{"a", "b\nc = \"d\""}},
		{{"a", "b"}, {"c", "d"}},
		{{"c", "d"}, {"a", "b"}},
		{{"a = \"b\"\nc", "d"}},
		{{"a", "\xff"}},
		{{"a", "\xfe"}},
		{{"a", "\ufffd"}},
		{{"a", []byte("\xff")}},
		{{"a", `x"ff"`}},
		{{"a", []string{}}},
		{{"a", []string{""}}},
		{{"a", map[string]string{}}},
		{{"a", map[string]string{"b": "c"}}},
		{{"a", true}},
		{{"a", 1.0}},
	}
	seen := map[store.ActionID]string{}
	for _, lines := range groups {
		h := store.NewHash("k")
		for _, l := range lines {
			h.Line(l.name, l.value)
		}
		if other, ok := seen[h.Sum()]; ok {
			t.Errorf("%s and %s hash alike", other, fmt.Sprint(lines))
		}
		seen[h.Sum()] = fmt.Sprint(lines)
	}
	if store.NewHash("a").Sum() == store.NewHash("b").Sum() {
		t.Error("kinds hash alike")
	}
}

func TestHashRefusesWhatItCannotSee(t *testing.T) {
	for _, value := range []any{func() {}, struct{ hidden string }{"x"}, make(chan int), []any{func() {}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T was hashed", value)
				}
			}()
			store.NewHash("k").Line("a", value)
		}()
	}
}

// FuzzHash splits the input into two sequences of lines in two ways: equal texts
// must mean equal lines.
func FuzzHash(f *testing.F) {
	f.Add("a", "b", "c", "d")
	f.Add("a = \"b\"\nc", "d", "a", "b\"\nc = \"d")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		one, two := store.NewHash("k"), store.NewHash("k")
		one.Line(n1, v1)
		two.Line(n2, v2)
		if (one.Text() == two.Text()) != (n1 == n2 && v1 == v2) {
			t.Errorf("%q and %q", one.Text(), two.Text())
		}
		both, list := store.NewHash("k"), store.NewHash("k")
		both.Line(n1, v1)
		both.Line(n2, v2)
		list.Line(n1, []string{v1, n2, v2})
		if both.Text() == list.Text() {
			t.Errorf("%q", both.Text())
		}
	})
}
