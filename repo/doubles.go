package repo

import (
	"context"
	"fmt"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
)

// Double is a package of a lock that another repository of the set has with other bytes
// under the same name and version. The order of the set decided.
type Double struct{ Package, From, Other string }

func (d Double) String() string {
	return fmt.Sprintf("%s has other bytes in %s; that of %s is taken", d.Package, d.Other, d.From)
}

// Doubles finds the packages of a lock that repositories of the set do not agree on.
func (s Set) Doubles(ctx context.Context, arch apk.Arch, lock Lock) ([]Double, error) {
	chosen := map[string]*Locked{}
	for i := range lock {
		if _, is := lock[i].Source.(*Repository); is {
			chosen[lock[i].Entry.FullName()] = &lock[i]
		}
	}
	var found []Double
	for _, source := range s {
		r, is := source.(*Repository)
		if !is || len(chosen) == 0 {
			continue
		}
		var u solve.Universe
		for i := range lock {
			p := chosen[lock[i].Entry.FullName()]
			if p == nil || p.Source == source {
				continue
			}
			if u == nil {
				var err error
				if u, err = Universe(ctx, r, arch, solve.Package{}); err != nil { // it is there since the lock was made
					return nil, err
				}
			}
			for _, q := range u.Providers(p.Name) {
				if q.FullName() == p.Entry.FullName() && r.Identity(q.Entry) != p.Identity {
					found = append(found, Double{q.FullName(), p.From, r.Name()})
				}
			}
		}
	}
	return found, nil
}
