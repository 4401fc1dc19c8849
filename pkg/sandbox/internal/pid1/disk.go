package pid1

import (
	"context"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"
)

// Between two measurements of the work folder lies a while, and many times as long as
// one takes: most of a processor is for the build.
const (
	restLeast = 250 * time.Millisecond
	restTimes = 20
)

// measured is how full the work folder is when a command has ended.
type measured int

const (
	fits measured = iota
	brim          // a file is as large as one may be: whoever failed was refused more
	over
)

// watchDisk ends the context when the work folder holds more than it may. The function
// that it gives stops that and measures once more.
func (b *Box) watchDisk(ctx context.Context) (context.Context, func() measured) {
	limit := b.o.Limits.Disk
	if limit <= 0 || b.o.Work == "" {
		return ctx, func() measured { return fits }
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			start := time.Now()
			if sum, _ := used(ctx, b.o.Work, limit); sum > limit {
				cancel(reached(b.limitOf("disk")))
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(max(restLeast, restTimes*time.Since(start))):
			}
		}
	}()
	return ctx, func() measured {
		cancel(nil)
		<-done
		switch sum, largest := used(context.Background(), b.o.Work, limit); {
		case sum > limit:
			return over
		case largest >= limit:
			return brim
		}
		return fits
	}
}

// used is what the files below a folder take on the disk, in bytes, and the size of the
// largest; it stops counting past enough. What is not to be seen (of another user's) is
// not counted.
func used(ctx context.Context, dir string, enough int64) (sum, largest int64) {
	seen := map[uint64]bool{} // files of several names
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if sum > enough || ctx.Err() != nil {
			return filepath.SkipAll
		}
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Nlink > 1 && !d.IsDir() && seen[st.Ino] {
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			seen[st.Ino] = true
		}
		sum += st.Blocks * 512
		if d.Type().IsRegular() {
			largest = max(largest, st.Size)
		}
		return nil
	})
	return sum, largest
}
