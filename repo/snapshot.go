package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
)

// A snapshot is an index that was replaced, kept as
//
//	snapshots/TIME/ARCH/APKINDEX.tar.gz
//
// where TIME is when it was made. Its packages are those beside the index of now, and
// what took another's place is kept as
//
//	snapshots/replaced/ARCH/NAME-VERSION.CHECKSUM.apk
//
// so a snapshot costs an index, and no package twice.
const (
	snapshotFolder = "snapshots"
	replacedFolder = "replaced"
	snapshotLayout = "20060102T150405Z"
)

var snapshotLocation = regexp.MustCompile(`^(.*)/snapshots/([0-9]{8}T[0-9]{6}Z)/*$`)

// cutSnapshot splits the location of a snapshot into that of its repository and its time.
func cutSnapshot(location string) (base, at string) {
	if m := snapshotLocation.FindStringSubmatch(location); m != nil {
		return m[1], m[2]
	}
	return location, ""
}

// snapshotPath is the folder that the indexes of a snapshot lie in, below the repository.
func snapshotPath(at string, arch apk.Arch) string {
	return snapshotFolder + "/" + at + "/" + string(arch)
}

// replacedPath is where a package is kept that another one of its name and version took
// the place of.
func replacedPath(arch apk.Arch, e *apk.Entry) string {
	return snapshotFolder + "/" + replacedFolder + "/" + string(arch) + "/" + e.FullName() + "." + hex.EncodeToString(e.Checksum[:]) + ".apk"
}

// Snapshots lists the times of which a storage has snapshots of an architecture, oldest first.
func Snapshots(ctx context.Context, s Lister, arch apk.Arch) ([]time.Time, error) {
	names, err := s.List(ctx, snapshotFolder)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var times []time.Time
	for _, name := range names {
		at, err := time.Parse(snapshotLayout, strings.TrimSuffix(name, "/"))
		if err != nil {
			continue // what was replaced
		}
		// A snapshot whose index is gone was being removed.
		inside, err := s.List(ctx, snapshotFolder+"/"+strings.TrimSuffix(name, "/")+"/"+string(arch))
		if err != nil {
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
		if slices.ContainsFunc(inside, isIndex) {
			times = append(times, at)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times, nil
}

// isIndex tells whether a file is called as an index is.
func isIndex(name string) bool { return slices.Contains(indexNames, name) }

// snapshotAt gives the folder of the index to read: that of the snapshot of the very time,
// else, where the storage can be listed, of the newest that was there then.
func (r *Repository) snapshotAt(ctx context.Context, arch apk.Arch) (string, error) {
	lister, can := r.storage.(Lister)
	if !can {
		return snapshotPath(r.snapshot, arch), nil
	}
	want, err := time.Parse(snapshotLayout, r.snapshot)
	if err != nil {
		return "", err
	}
	for _, name := range indexNames {
		path := string(arch) + "/" + name
		data, err := readFile(ctx, r.storage, path, maxIndexBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		x, err := r.parseIndex(path, data)
		if err != nil {
			return "", err
		}
		if now, _ := made(x); !now.After(want) {
			return string(arch), nil
		}
		break
	}
	times, err := Snapshots(ctx, lister, arch)
	if err != nil {
		return "", err
	}
	at, found := newestUntil(times, want)
	if !found {
		return "", missingError(fmt.Sprintf("no snapshot of %s or before", r.snapshot))
	}
	return snapshotPath(at.Format(snapshotLayout), arch), nil
}

// readFile reads a file of a storage whole.
func readFile(ctx context.Context, s Storage, name string, limit int64) ([]byte, error) {
	o, err := s.Open(ctx, name, "")
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return readAtMost(o, limit)
}

// newestUntil is the newest of times that is not after another, from the oldest on.
func newestUntil(times []time.Time, until time.Time) (time.Time, bool) {
	for _, at := range slices.Backward(times) {
		if !at.After(until) {
			return at, true
		}
	}
	return time.Time{}, false
}

// ParseTime reads the time of a snapshot: as in its path, as RFC 3339, or a day, which
// means its end.
func ParseTime(text string) (time.Time, error) {
	for _, layout := range []string{snapshotLayout, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.Add(24*time.Hour - time.Second), nil
	}
	return time.Time{}, errors.New("expected a time as 20260131T120000Z, 2026-01-31T12:00:00Z or 2026-01-31")
}
