package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Count is a number of things and what they take on the disk, in bytes.
type Count struct {
	Number int   `json:"number"`
	Bytes  int64 `json:"bytes"`
}

func (c *Count) add(bytes int64) {
	c.Number++
	c.Bytes += bytes
}

// Usage is what the store holds.
type Usage struct {
	Blobs   Count `json:"blobs"`
	Records Count `json:"records"`
	Trees   Count `json:"trees"`
	Kept    Count `json:"kept"`
	Corrupt Count `json:"corrupt"`
	Temp    Count `json:"temp"` // of running processes, and what could not be removed
}

// Total is all of it.
func (u Usage) Total() Count {
	var t Count
	for _, c := range []Count{u.Blobs, u.Records, u.Trees, u.Kept, u.Corrupt, u.Temp} {
		t.Number += c.Number
		t.Bytes += c.Bytes
	}
	return t
}

// item is one thing that GC may remove.
type item struct {
	use      string // its name in the lists of uses, e.g. "blob abcd..."
	path     string // what is renamed and removed
	lastPath string // whose modification time is that of last use
	last     time.Time
	bytes    int64
	count    func(u *Usage) *Count
}

// Usage counts what the store holds.
func (s *Store) Usage() (Usage, error) {
	var u Usage
	items, err := s.items(context.Background())
	if err != nil {
		return u, s.fault("measure store", err)
	}
	for _, it := range items {
		it.count(&u).add(it.bytes)
	}
	dirs, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return u, s.fault("measure store", err)
	}
	for _, d := range dirs {
		u.Temp.add(diskUse(filepath.Join(s.dir, "tmp", d.Name())))
	}
	return u, nil
}

// items lists all that stands under a final name.
func (s *Store) items(ctx context.Context) ([]item, error) {
	var items []item
	for kind, root := range map[string]string{"blob": "blobs/sha256", "record": "records"} {
		count := func(u *Usage) *Count { return &u.Blobs }
		if kind == "record" {
			count = func(u *Usage) *Count { return &u.Records }
		}
		shards, err := os.ReadDir(filepath.Join(s.dir, root))
		if err != nil {
			return nil, err
		}
		for _, shard := range shards {
			if err := checkContext(ctx); err != nil {
				return nil, err
			}
			files, err := os.ReadDir(filepath.Join(s.dir, root, shard.Name()))
			if err != nil {
				return nil, err
			}
			for _, f := range files {
				if !isHex(f.Name()) {
					continue // nobody's
				}
				path := filepath.Join(s.dir, root, shard.Name(), f.Name())
				var st unix.Stat_t
				if err := unix.Lstat(path, &st); err != nil {
					continue // removed since it was listed
				}
				items = append(items, item{use: kind + " " + f.Name(), path: path, lastPath: path, last: time.Unix(0, st.Mtim.Nano()), bytes: st.Blocks * 512, count: count})
			}
		}
	}
	trees, err := os.ReadDir(filepath.Join(s.dir, "trees"))
	if err != nil {
		return nil, err
	}
	for _, t := range trees {
		if !isHex(t.Name()) {
			continue
		}
		if err := checkContext(ctx); err != nil {
			return nil, err
		}
		dir := filepath.Join(s.dir, "trees", t.Name())
		it := item{use: "tree " + t.Name(), path: dir, lastPath: filepath.Join(dir, "manifest"), count: func(u *Usage) *Count { return &u.Trees }}
		it.last = modTime(it.lastPath)
		if m, err := readManifest(dir); err == nil {
			it.bytes = m.disk
		} else {
			it.bytes = diskUse(dir)
		}
		items = append(items, it)
	}
	kept, err := s.Kept()
	if err != nil {
		return nil, err
	}
	for _, k := range kept {
		items = append(items, item{use: "kept " + k.Kind + "/" + filepath.Base(k.Dir), path: k.Dir, lastPath: k.Dir, last: modTime(k.Dir), bytes: diskUse(k.Dir), count: func(u *Usage) *Count { return &u.Kept }})
	}
	corrupt, err := os.ReadDir(filepath.Join(s.dir, "corrupt"))
	if err != nil {
		return nil, err
	}
	for _, c := range corrupt {
		path := filepath.Join(s.dir, "corrupt", c.Name())
		it := item{path: path, lastPath: path, bytes: diskUse(path), count: func(u *Usage) *Count { return &u.Corrupt }}
		if len(c.Name()) > len("tree-")+64 && c.Name()[:5] == "tree-" {
			it.use = "tree " + c.Name()[5:5+64] // perhaps still mounted somewhere
		}
		if !c.IsDir() {
			if info, err := c.Info(); err == nil {
				it.bytes = info.Size()
			}
		}
		items = append(items, it)
	}
	return items, nil
}

// modTime is when path was modified; the beginning of time when it is not there.
func modTime(path string) time.Time {
	info, err := os.Lstat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// GCOptions says more of what GC does. The zero value removes by size alone.
type GCOptions struct {
	// MaxAge removes whatever was not used for longer, also when there is room; 0 is no limit.
	MaxAge time.Duration
	// DryRun only counts what would be removed.
	DryRun bool
}

// Freed is what GC removed, or would remove.
type Freed struct {
	Usage
	// Left is what the store holds afterwards, in bytes, without temporary files.
	Left int64 `json:"left"`
	// InUse is how much of it running processes use, of what else would have gone.
	InUse Count `json:"inUse"`
}

// gcBatch is how many things GC removes while it keeps others waiting. They are only
// renamed in that time.
const gcBatch = 256

// GC removes what was not used for the longest time until the store takes at most
// maxSize bytes, and damaged things in any case. What a running process uses stays.
// The time of last use is exact to some minutes.
func (s *Store) GC(ctx context.Context, maxSize int64, o GCOptions) (Freed, error) {
	var freed Freed
	// One at a time: two would each count what the other removes.
	lock, err := acquire(ctx, filepath.Join(s.dir, "locks", "gc"), unix.LOCK_EX)
	if err != nil {
		return freed, s.fault("collect garbage", err)
	}
	defer lock.Close()
	if !o.DryRun {
		if err := s.sweepTemp(); err != nil {
			return freed, s.fault("collect garbage", err)
		}
		s.sweepLocks()
	}
	items, err := s.items(ctx)
	if err != nil {
		return freed, s.fault("collect garbage", err)
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(a.last.Compare(b.last), cmp.Compare(a.path, b.path)) })
	for _, it := range items {
		freed.Left += it.bytes
	}
	now := time.Now()
	var stuck []error // what cannot be removed keeps nothing else from going
	for len(items) > 0 {
		if err := checkContext(ctx); err != nil {
			return freed, err
		}
		batch := items[:min(gcBatch, len(items))]
		items = items[len(batch):]
		gone, err := s.take(batch, maxSize, now, o, &freed)
		for _, path := range gone {
			if err := RemoveAll(path); err != nil {
				stuck = append(stuck, err)
			}
		}
		if err != nil {
			return freed, s.fault("collect garbage", err)
		}
	}
	return freed, s.fault("collect garbage", errors.Join(stuck...))
}

// take renames what has to go of batch into this process's temporary folder, and
// gives the new paths.
func (s *Store) take(batch []item, maxSize int64, now time.Time, o GCOptions, freed *Freed) (gone []string, err error) {
	release, err := s.exclusive()
	if err != nil {
		return nil, err
	}
	defer release()
	used, err := s.used(false)
	if err != nil {
		return nil, err
	}
	for _, it := range batch {
		corrupt := it.last.IsZero()
		old := o.MaxAge > 0 && now.Sub(it.last) > o.MaxAge
		if !corrupt && !old && freed.Left <= maxSize {
			continue
		}
		if used[it.use] {
			freed.InUse.add(it.bytes)
			continue
		}
		// Used since it was listed, by a process that has ended again.
		if !corrupt && modTime(it.lastPath).After(it.last) {
			continue
		}
		if !o.DryRun {
			to := s.temp("gone")
			err := os.Rename(it.path, to)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return gone, err
			}
			gone = append(gone, to)
		}
		it.count(&freed.Usage).add(it.bytes)
		freed.Left -= it.bytes
	}
	return gone, nil
}

// sweepLocks removes the lock files that killed processes left behind.
func (s *Store) sweepLocks() {
	dir := filepath.Join(s.dir, "locks")
	files, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		lock, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if flock(lock, unix.LOCK_EX|unix.LOCK_NB) == nil && sameFile(int(lock.Fd()), path) {
			_ = os.Remove(path)
		}
		lock.Close()
	}
}
