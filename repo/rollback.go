package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
)

// RolledBack is what a rollback did to one architecture.
type RolledBack struct {
	Arch     apk.Arch     `json:"arch"`
	Time     time.Time    `json:"time"` // of the snapshot
	Packages int          `json:"packages"`
	Withheld []Withdrawal `json:"withheld,omitempty"` // what the snapshot had and was withdrawn since, and what is gone with that
}

// Rollback makes the index that was there at a time the newest one, in one moment for each
// architecture. It is a new index to those who remember the newest that they saw. What
// was withdrawn since stays withdrawn. Snapshots must be kept.
func (p *Publisher) Rollback(ctx context.Context, to time.Time) ([]RolledBack, error) {
	if p.Snapshots <= 0 {
		return nil, &PolicyError{"roll back " + p.Name + ": no snapshots are kept"}
	}
	all, err := p.rollback(ctx, to)
	if err != nil {
		return all, fmt.Errorf("roll back %s: %w", p.Name, err)
	}
	return all, nil
}

func (p *Publisher) rollback(ctx context.Context, to time.Time) ([]RolledBack, error) {
	dir, release, err := p.Store.TempDir("publish")
	if err != nil {
		return nil, err
	}
	defer release()
	unlock, err := p.Storage.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	changes, err := p.beginAll(ctx)
	if err != nil {
		return nil, err
	}
	var all []RolledBack
	for _, c := range changes {
		done, err := p.toSnapshot(ctx, c, to, dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.arch, err)
		}
		all = append(all, *done)
	}
	for _, c := range changes {
		if err := p.commit(context.WithoutCancel(ctx), c, &Published{}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// toSnapshot turns a change into one to an earlier index.
func (p *Publisher) toSnapshot(ctx context.Context, c *change, to time.Time, dir string) (*RolledBack, error) {
	times, err := Snapshots(ctx, p.Storage, c.arch)
	if err != nil {
		return nil, err
	}
	if c.before != nil {
		if at, _ := made(c.before); !at.After(to) {
			return &RolledBack{Arch: c.arch, Time: at, Packages: len(c.index.Entries)}, nil // it is the newest
		}
	}
	at, found := newestUntil(times, to)
	if !found {
		return nil, missingError(fmt.Sprintf("no snapshot of %s or before", to.Format(time.RFC3339)))
	}
	old, err := p.readSnapshot(ctx, c.arch, at)
	if err != nil {
		return nil, err
	}
	names, err := p.Storage.List(ctx, string(c.arch))
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
	}
	c.compact()
	done := &RolledBack{Arch: c.arch, Time: at}
	entries := make([]*apk.Entry, 0, len(old.Entries))
	for _, e := range old.Entries {
		if w := c.withdrawal(e); w != nil {
			done.Withheld = append(done.Withheld, *w)
			continue
		}
		i, listed := c.listed[e.FileName()]
		same := listed && there[e.FileName()] && c.index.Entries[i].Checksum == e.Checksum && c.index.Entries[i].FileSize == e.FileSize
		if !same {
			err := p.restore(ctx, c, e, dir, listed)
			if errors.Is(err, errGone) {
				done.Withheld = append(done.Withheld, Withdrawal{Name: e.Name, Version: e.Version, Reason: errGone.Error(), Time: c.index.Time})
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		entries = append(entries, e)
	}
	done.Packages = len(entries)
	c.index.Entries, c.index.Description, c.changed = entries, old.Description, true
	c.listed = make(map[string]int, len(entries))
	for i, e := range entries {
		c.listed[e.FileName()] = i
	}
	// What the index names now stays as long as the snapshot that is made of it.
	c.dropped = nil
	return done, nil
}

// errGone says of a package that a snapshot names that nothing can bring it back. What is
// withdrawn goes at once, whatever snapshot names it, and is not remembered any more when
// the version is published anew with other content.
var errGone = errors.New("its file is gone since it was withdrawn")

// restore makes sure that a package of a snapshot is at its place when the index names it.
func (p *Publisher) restore(ctx context.Context, c *change, e *apk.Entry, dir string, listed bool) error {
	is := func(name string) (bool, error) {
		pkg, size, done, err := p.openPackage(ctx, name)
		if err != nil {
			return false, err
		}
		defer done()
		return pkg != nil && pkg.Checksum == e.Checksum && size == e.FileSize && pkg.VerifyData() == nil, nil
	}
	if there, err := is(string(c.arch) + "/" + e.FileName()); err != nil || there {
		return err
	}
	kept := replacedPath(c.arch, e)
	if there, err := is(kept); err != nil {
		return err
	} else if !there {
		return errGone
	}
	o, err := p.Storage.Open(ctx, kept, "")
	if err != nil {
		return err
	}
	defer o.Close()
	f, err := os.CreateTemp(dir, "*.apk")
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := io.Copy(f, o)
	if err != nil {
		return err
	}
	c.put[e.FileName()] = &signed{path: f.Name(), size: size}
	c.hide[e.FileName()] = listed || c.named[e.FileName()]
	return nil
}
