package graph

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// script makes a script of one line: "name[: needs...] [> runtime...] [= provides...]",
// and of further packages after ";".
func script(line string) *recipes.Script {
	s := &recipes.Script{}
	for i, part := range strings.Split(line, ";") {
		var out recipes.Output
		into := func(apk.Dependency) {}
		for j, word := range strings.Fields(part) {
			d := apk.Dependency{Name: strings.TrimSuffix(word, ":")}
			switch {
			case j == 0:
				out.Name = d.Name
				into = func(d apk.Dependency) {
					s.Environment.Packages = append(s.Environment.Packages, recipes.Need{Dependency: d})
				}
			case word == ">":
				into = func(d apk.Dependency) { out.Runtime = append(out.Runtime, d) }
			case word == "=":
				into = func(d apk.Dependency) { out.Provides = append(out.Provides, d) }
			default:
				into(d)
			}
		}
		if i == 0 {
			s.Name = out.Name
		}
		s.Packages = append(s.Packages, out)
	}
	return s
}

func scripts(lines ...string) []*recipes.Script {
	var all []*recipes.Script
	for _, line := range lines {
		all = append(all, script(line))
	}
	return all
}

func TestOrder(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"needs come first", []string{"a: b", "b: c", "c"}, "c b a"},
		{"ties by name", []string{"b", "a", "c"}, "a b c"},
		{"a subpackage counts", []string{"a: z-dev", "z; z-dev"}, "z a"},
		{"what is provided counts", []string{"a: cc", "z = cc"}, "z a"},
		{"a name wins over what is provided", []string{"a: m", "m", "z: a = m"}, "m a z"},
		{"run-time needs of the environment", []string{"a: base", "base > libc", "libc"}, "base libc a"},
		{"run-time needs of others do not order", []string{"a > b", "b: a"}, "a b"},
		{"what nobody makes is left for repositories", []string{"a: seed"}, "a"},
		{"a recipe does not serve itself", []string{"make: make"}, "make"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, err := New(scripts(test.lines...))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(g.Order(), " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestCycle(t *testing.T) {
	_, err := New(scripts("x", "a: b", "b: c-dev", "c: a; c-dev"))
	want := "a cycle of recipes: a needs b, b needs c, c needs a"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestClosureAndOnly(t *testing.T) {
	g, err := New(scripts("a: b", "b: c", "c", "d: c"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c", "b"}, g.Closure("a")); diff != "" {
		t.Errorf("closure (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"c", "d"}, g.Only("d").Order()); diff != "" {
		t.Errorf("only (-want +got):\n%s", diff)
	}
}

func TestWalkSkipsOnlyDependants(t *testing.T) {
	g, err := New(scripts("a", "b: a", "c: b", "d"))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	var mu sync.Mutex
	var visited []string
	failed := g.Walk(context.Background(), 1, func(_ context.Context, s *recipes.Script) error {
		mu.Lock()
		defer mu.Unlock()
		visited = append(visited, s.Name)
		if s.Name == "a" {
			return broken
		}
		return nil
	})
	if diff := cmp.Diff([]string{"a", "d"}, visited); diff != "" {
		t.Errorf("visited (-want +got):\n%s", diff)
	}
	if !errors.Is(failed["a"], broken) || !errors.Is(failed["b"], ErrSkipped) || len(failed) != 3 {
		t.Errorf("failed: %v", failed)
	}
	if got, want := failed["c"].Error(), "skipped: a failed"; got != want {
		t.Errorf("c: got %q, want %q", got, want)
	}
}

func TestWalkStopsWithTheContext(t *testing.T) {
	g, err := New(scripts("a", "b: a", "c: b"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	failed := g.Walk(ctx, 2, func(_ context.Context, s *recipes.Script) error {
		if s.Name == "a" {
			cancel()
		}
		return nil
	})
	if !errors.Is(failed["b"], context.Canceled) || failed["a"] != nil || failed["c"] == nil {
		t.Errorf("failed: %v", failed)
	}
}

// Whatever the graph and the number of jobs, each recipe is visited once, after
// all it needs, and never more than jobs at a time.
func TestWalkKeepsTheOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 1 + random.IntN(30)
		var lines []string
		name := func(i int) string { return "r" + string(rune('A'+i)) }
		for i := range n {
			line := name(i) + ":"
			for j := range i {
				if random.IntN(4) == 0 {
					line += " " + name(j)
				}
			}
			lines = append(lines, line)
		}
		random.Shuffle(n, func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		g, err := New(scripts(lines...))
		if err != nil {
			t.Fatal(err)
		}
		jobs := 1 + random.IntN(4)
		var mu sync.Mutex
		running, done := 0, []string{}
		failed := g.Walk(context.Background(), jobs, func(_ context.Context, s *recipes.Script) error {
			mu.Lock()
			running++
			if running > jobs {
				t.Errorf("%d at a time, want at most %d", running, jobs)
			}
			for _, need := range g.Closure(s.Name) {
				if !slices.Contains(done, need) {
					t.Errorf("%s is visited before %s", s.Name, need)
				}
			}
			mu.Unlock()
			mu.Lock()
			running--
			done = append(done, s.Name)
			mu.Unlock()
			return nil
		})
		if len(failed) != 0 || len(done) != n {
			t.Fatalf("visited %d of %d, failed %v", len(done), n, failed)
		}
	}
}
