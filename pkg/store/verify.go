package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// Verify hashes everything that the store holds. What does not hold is moved aside (trees:
// removed) and given to report, which may be nil. The error is a *CorruptError
// when anything was damaged.
func (s *Store) Verify(ctx context.Context, report func(*CorruptError)) error {
	items, err := s.items(ctx)
	if err != nil {
		return s.fault("verify store", err)
	}
	var first *CorruptError
	bad := 0
	for _, it := range items {
		if err := checkContext(ctx); err != nil {
			return err
		}
		kind, name, _ := strings.Cut(it.use, " ")
		if filepath.Dir(it.path) == filepath.Join(s.dir, "corrupt") || kind == "kept" {
			continue
		}
		var err error
		switch kind {
		case "blob":
			var f interface{ Close() error }
			if f, err = s.Open(Digest(digestPrefix + name)); err == nil {
				f.Close()
			}
		case "record":
			_, err = s.readRecord(ActionID(name))
		case "tree":
			err = s.verifyTree(ctx, ActionID(name))
		}
		damage, ok := errors.AsType[*CorruptError](err)
		switch {
		case ok:
			bad++
			if first == nil {
				first = damage
			}
			if report != nil {
				report(damage)
			}
		case errors.Is(err, fs.ErrNotExist): // removed since it was listed
		case err != nil:
			return s.fault("verify "+it.use, err)
		}
	}
	if bad > 1 {
		return &CorruptError{Kind: first.Kind, Name: first.Name, Path: first.Path, Moved: first.Moved, Why: fmt.Sprintf("%s (and %d more are damaged)", first.Why, bad-1)}
	}
	if first != nil {
		return first
	}
	return nil
}

// verifyTree hashes all of a tree.
func (s *Store) verifyTree(ctx context.Context, id ActionID) error {
	dir, err := s.treePath(id)
	if err != nil {
		return err
	}
	m, err := readManifest(dir)
	if err == nil && m.action != id {
		err = differs(fmt.Sprintf("it is tree %s", m.action))
	}
	if err == nil {
		_, err = m.compare(ctx, filepath.Join(dir, "root"), true)
	}
	why, ok := errors.AsType[differs](err)
	if !ok {
		return err
	}
	if err := s.throwAway(id, dir); err != nil {
		return err
	}
	return &CorruptError{Kind: "tree", Name: string(id), Path: dir, Why: string(why)}
}
