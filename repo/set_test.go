package repo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// listing is a source of entries that nobody fetches.
type listing struct {
	name    string
	entries []*apk.Entry
}

func (l listing) Name() string { return l.name }
func (l listing) Packages(context.Context, apk.Arch) ([]*apk.Entry, error) {
	return l.entries, nil
}
func (l listing) Identity(e *apk.Entry) string { return l.name + "/" + e.FullName() }
func (l listing) Fetch(context.Context, *store.Store, *apk.Entry) (store.Digest, error) {
	return "", errors.New("not here")
}

func entry(name string, version apk.Version, depends ...string) *apk.Entry {
	e := &apk.Entry{Info: apk.Info{Name: name, Version: version}}
	for _, d := range depends {
		e.Depends = append(e.Depends, apk.Dependency{Name: d})
	}
	return e
}

// TestResolveOrderAndTags holds the order of sources, and what stands behind a tag.
func TestResolveOrderAndTags(t *testing.T) {
	set := repo.Set{
		listing{"own", []*apk.Entry{entry("a", "1-r0", "lib"), entry("lib", "1-r0")}},
		listing{"main", []*apk.Entry{entry("a", "2-r0"), entry("lib", "2-r0"), entry("b", "2-r0")}},
		repo.Tagged{Source: listing{"testing", []*apk.Entry{entry("b", "3-r0", "new"), entry("new", "3-r0"), entry("lib", "3-r0")}}, Tag: "edge"},
	}
	for _, test := range []struct{ world, want, err string }{
		{world: "a", want: "own/lib-1-r0 own/a-1-r0"},
		{world: "b", want: "main/b-2-r0"},
		{world: "b@edge", want: "testing/new-3-r0 testing/b-3-r0"},
		{world: "a b@edge", want: "own/lib-1-r0 own/a-1-r0 testing/new-3-r0 testing/b-3-r0"},
		{world: "new", err: "which only tagged packages provide: new-3-r0@edge"},
		{world: "b@egde", err: `did you mean "edge"`},
	} {
		var world []solve.Requirement
		for word := range strings.FieldsSeq(test.world) {
			r, err := solve.ParseRequirement(word)
			if err != nil {
				t.Fatal(err)
			}
			world = append(world, r)
		}
		lock, err := set.Resolve(context.Background(), apk.ArchX86_64, world, solve.Options{})
		if test.err != "" {
			var conflict *solve.Conflict
			if !errors.As(err, &conflict) || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: got %v, %v, want %s", test.world, lock.Names(), err, test.err)
			}
			continue
		}
		var got []string
		for i, l := range lock {
			got = append(got, l.Identity)
			if p := lock.Packages()[i]; p.Entry != l.Entry || p.From != l.From {
				t.Errorf("%s: package %v of %v", test.world, p, l)
			}
		}
		if fmt.Sprint(strings.Join(got, " ")) != test.want || err != nil {
			t.Errorf("%s: got %v, %v, want %s", test.world, got, err, test.want)
		}
	}
}
