package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Withdrawal is a version of a package that is no longer to be had, and why.
type Withdrawal struct {
	Name    string      `json:"name"`
	Version apk.Version `json:"version"`
	Reason  string      `json:"reason,omitempty"`
	Time    time.Time   `json:"time"`
}

func (w Withdrawal) String() string {
	text := w.Name + "=" + string(w.Version)
	if w.Reason != "" {
		text += ": " + w.Reason
	}
	return text
}

func (w Withdrawal) fileName() string {
	info := apk.Info{Name: w.Name, Version: w.Version}
	return info.FileName()
}

// withdrawnName is the file beside an index that lists what was withdrawn.
const withdrawnName = "withdrawn.json"

// Withdrawn lists what was withdrawn of an architecture.
func (r *Repository) Withdrawn(ctx context.Context, arch apk.Arch) ([]Withdrawal, error) {
	return readWithdrawn(ctx, r.storage, arch)
}

func readWithdrawn(ctx context.Context, s Storage, arch apk.Arch) ([]Withdrawal, error) {
	var all []Withdrawal
	_, err := readJSON(ctx, s, string(arch)+"/"+withdrawnName, &all)
	return all, err
}

func (c *change) withdrawal(e *apk.Entry) *Withdrawal {
	for i, w := range c.withdrawn {
		if w.Name == e.Name && w.Version == e.Version {
			return &c.withdrawn[i]
		}
	}
	return nil
}

func (c *change) isWithdrawn(e *apk.Entry) bool { return c.withdrawal(e) != nil }

// Withdraw takes packages out of the index of every architecture that lists them, and
// removes them. They are listed as withdrawn, and not published again unless Readmit asks
// for it. A package that no index lists is an error, and then nothing is withdrawn.
func (p *Publisher) Withdraw(ctx context.Context, packages []Withdrawal) (Published, error) {
	var done Published
	err := p.withdraw(ctx, packages, &done)
	if err != nil {
		return done, fmt.Errorf("withdraw from %s: %w", p.Name, err)
	}
	return done, nil
}

func (p *Publisher) withdraw(ctx context.Context, packages []Withdrawal, done *Published) error {
	unlock, err := p.Storage.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	changes, err := p.beginAll(ctx)
	if err != nil {
		return err
	}
	var unknown []error
	for _, w := range packages {
		found := false
		for _, c := range changes {
			if _, listed := c.listed[w.fileName()]; listed {
				found = true
				c.withdrawn, c.redraw = append(c.withdrawn, w), true
				c.drop(w.fileName())
			}
		}
		if !found {
			unknown = append(unknown, missingError(fmt.Sprintf("no package %s=%s is listed", w.Name, w.Version)))
		}
	}
	if err := errors.Join(unknown...); err != nil {
		return err
	}
	for _, c := range changes {
		if c.redraw {
			if err := p.commit(context.WithoutCancel(ctx), c, done); err != nil {
				return err
			}
		}
	}
	return nil
}

// beginAll begins a change of every architecture that is there, or of those in Arches.
func (p *Publisher) beginAll(ctx context.Context) ([]*change, error) {
	arches, err := Arches(ctx, p.Storage)
	if err != nil {
		return nil, err
	}
	var changes []*change
	for _, arch := range arches {
		if len(p.Arches) > 0 && !slices.Contains(p.Arches, arch) {
			continue
		}
		c, err := p.begin(ctx, arch)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	if len(changes) == 0 {
		return nil, missingError("there is no index")
	}
	return changes, nil
}
