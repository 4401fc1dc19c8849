package solve

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tarn-build/tarn/pkg/apk"
)

func TestParseRequirement(t *testing.T) {
	tests := []struct{ in, want, name, tag, err string }{
		{in: "zlib", want: "zlib", name: "zlib"},
		{in: "openssl>=3", want: "openssl>=3", name: "openssl"},
		{in: "so:libz.so.1", want: "so:libz.so.1", name: "so:libz.so.1"},
		{in: "!busybox", want: "!busybox", name: "busybox"},
		{in: "zlib@edge", want: "zlib@edge", name: "zlib", tag: "edge"},
		{in: "zlib@edge>=1.3", want: "zlib@edge>=1.3", name: "zlib", tag: "edge"},
		{in: "zlib>=1.3@edge", want: "zlib@edge>=1.3", name: "zlib", tag: "edge"},
		{in: "zlib@", err: "empty tag"},
		{in: "@edge", err: `"`},
		{in: "!zlib@edge", err: "conflict"},
		{in: "zlib@a@b", err: `"`},
		{in: "zlib=1@edge=2", err: `"`},
		{in: "", err: `"`},
	}
	for _, test := range tests {
		got, err := ParseRequirement(test.in)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q: got %v and error %v, want one with %q", test.in, got, err, test.err)
			}
			continue
		}
		if err != nil || got.String() != test.want || got.Name != test.name || got.Tag != test.tag {
			t.Errorf("%q: got %+v and error %v, want %s", test.in, got, err, test.want)
		}
	}
}

func FuzzParseRequirement(f *testing.F) {
	for _, seed := range []string{"zlib", "!a", "a@b", "a@b>=1", "a>=1@b", "@", "a@b@c", "a~1.2", "so:x=1-r0@t"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRequirement(text)
		if err != nil {
			return
		}
		again, err := ParseRequirement(r.String())
		if err != nil || again != r {
			t.Errorf("%q became %+v, which reads again as %+v, %v", text, r, again, err)
		}
	})
}

func TestGraph(t *testing.T) {
	s := readScenario(t, txtar.Parse([]byte(`
-- packages --
nginx 1-r0
	depends so:libssl.so.3 pcre2
openssl 3-r0
	provides so:libssl.so.3=3
	depends zlib
pcre2 10-r0
	depends zlib>=1
zlib 1-r0
zlib-doc 1-r0
	install_if zlib docs
docs 1-r0
-- world --
docs
nginx # web.yaml:3:5
`)))
	solution, err := Solve(NewUniverse(s.packages), s.world, Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := NewGraph(solution, s.world, Options{})
	tests := map[string]string{
		"nginx":          "web.yaml:3:5 asks nginx",
		"zlib":           "web.yaml:3:5 asks nginx, nginx-1-r0 needs so:libssl.so.3, openssl-3-r0 needs zlib; web.yaml:3:5 asks nginx, nginx-1-r0 needs pcre2, pcre2-10-r0 needs zlib>=1",
		"zlib-doc":       "world asks docs, install_if zlib docs",
		"so:libssl.so.3": "web.yaml:3:5 asks nginx, nginx-1-r0 needs so:libssl.so.3",
		"absent":         "",
	}
	for name, want := range tests {
		var ways []string
		for _, p := range g.Find(apk.Dependency{Name: name}) {
			chains, more := g.Chains(p, 10)
			if more {
				t.Errorf("%s: more than 10 ways", name)
			}
			for _, chain := range chains {
				var words []string
				for _, link := range chain {
					words = append(words, link.String())
				}
				ways = append(ways, strings.Join(words, ", "))
			}
		}
		if got := strings.Join(ways, "; "); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if _, more := g.Chains(g.Find(apk.Dependency{Name: "zlib"})[0], 1); !more {
		t.Error("one of two ways, and no word of the other")
	}
}

// TestConcurrent solves over one universe from many goroutines at once.
func TestConcurrent(t *testing.T) {
	packages, world := generated(2000)
	u := NewUniverse(packages)
	want, err := Solve(u, world, Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []*Package)
	for range 8 {
		go func() {
			got, _ := Solve(u, world, Options{})
			done <- got
		}()
	}
	for range 8 {
		if got := <-done; !slices.Equal(got, want) {
			t.Error("another solution from another goroutine")
		}
	}
}

// TestOrder holds that a package comes after what it depends on.
func TestOrder(t *testing.T) {
	packages, world := generated(5000)
	solution, err := Solve(NewUniverse(packages), world, Options{})
	if err != nil {
		t.Fatal(err)
	}
	place := map[string]int{}
	for i, p := range solution {
		place[p.Name] = i
	}
	if len(place) != len(solution) {
		t.Error("a name is there twice")
	}
	// What is generated depends on what has a lower number only: there is no circle.
	for i, p := range solution {
		for _, d := range p.Depends {
			for _, q := range solution {
				if _, _, ok := gives(q, d); ok && place[q.Name] >= i && q != p {
					t.Errorf("%s comes before %s, which it needs for %s", p, q, d)
				}
			}
		}
	}
}

// longChain is packages of which each needs the next, and the last needs what is not there.
func longChain(n int) *Memory {
	packages := make([]*Package, n)
	for i := range packages {
		packages[i] = &Package{Entry: &apk.Entry{Info: apk.Info{Name: fmt.Sprintf("p%d", i), Version: "1",
			Depends: []apk.Dependency{{Name: fmt.Sprintf("p%d", i+1)}}}}}
	}
	return NewUniverse(packages)
}

// TestLongConflict explains a chain of many links: all of it is there for who asks, and
// the message shows its ends.
func TestLongConflict(t *testing.T) {
	_, err := Solve(longChain(10_000), []Requirement{{Dependency: apk.Dependency{Name: "p0"}}}, Options{})
	conflict, is := errors.AsType[*Conflict](err)
	if !is || len(conflict.Chain) != 10_001 {
		t.Fatalf("got %.500v, want a conflict of 10001 lines", err)
	}
	text := err.Error()
	for _, want := range []string{"world asks p0\n", "(and so on, 9961 lines)", "p9999-1 needs p10000, which nothing provides", "leave out p0"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%.5000s", want, text)
		}
	}
	if n := strings.Count(text, "\n"); n > 50 {
		t.Errorf("a message of %d lines", n)
	}
}
