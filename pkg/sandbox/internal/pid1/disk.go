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

// watchDisk ends the context when the work folder holds more than it may. The function
// that it gives stops that, measures once more, and says whether it is too much.
func (b *Box) watchDisk(ctx context.Context) (context.Context, func() bool) {
	limit := b.o.Limits.Disk
	if limit <= 0 || b.o.Work == "" {
		return ctx, func() bool { return false }
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			start := time.Now()
			if used(ctx, b.o.Work, limit) > limit {
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
	return ctx, func() bool {
		cancel(nil)
		<-done
		return used(context.Background(), b.o.Work, limit) > limit
	}
}

// used is what the files below a folder take on the disk, in bytes; it stops counting
// past enough. What is not to be seen (of another user's) is not counted.
func used(ctx context.Context, dir string, enough int64) int64 {
	var sum int64
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
		return nil
	})
	return sum
}
