package build

import (
	"context"
	"fmt"
	"sync"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// Built collects what recipes gave during one run. Its methods may be called from
// several goroutines.
type Built struct {
	mu      sync.Mutex
	results map[string]*Result
}

// Add notes what a recipe gave.
func (b *Built) Add(recipe string, r *Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.results == nil {
		b.results = map[string]*Result{}
	}
	b.results[recipe] = r
}

// Result is what a recipe gave, or nil.
func (b *Built) Result(recipe string) *Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.results[recipe]
}

// Of is the packages of the named recipes as a source for environments. Which
// recipes these are is the graph's to say, never what happens to be there: so the
// same checkout gives the same environments.
func (b *Built) Of(recipes ...string) repo.Source {
	var s builtSource
	s.digests = map[*apk.Entry]store.Digest{}
	for _, name := range recipes {
		if r := b.Result(name); r != nil {
			for _, p := range r.Packages {
				s.entries = append(s.entries, p.Entry)
				s.digests[p.Entry] = p.Digest
			}
		}
	}
	return &s
}

type builtSource struct {
	entries []*apk.Entry
	digests map[*apk.Entry]store.Digest
}

func (s *builtSource) Name() string { return "the workspace's recipes" }

func (s *builtSource) Packages(_ context.Context, arch apk.Arch) ([]*apk.Entry, error) {
	return s.entries, nil
}

// Identity is the digest of the data: what a package installs, whatever else its
// recipe says. That is why nothing is rebuilt when a dependency comes out the same.
func (s *builtSource) Identity(e *apk.Entry) string { return "data:" + e.DataHash }

func (s *builtSource) Fetch(_ context.Context, st *store.Store, e *apk.Entry) (store.Digest, error) {
	digest, known := s.digests[e]
	if !known || !st.Has(digest) {
		return "", fmt.Errorf("%s is not in the store any more", e.FileName())
	}
	return digest, nil
}
