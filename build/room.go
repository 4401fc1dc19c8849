package build

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// scarce is so little room on a disk, in bytes, that what was written may have ended
// before its end.
const scarce = 1 << 20

// How often room is looked at while a step runs: seldom, and often where it is near its end.
const (
	seldom     = 100 * time.Millisecond
	often      = 5 * time.Millisecond
	nearTheEnd = 256 << 20 // bytes
)

// errRoom fails a step whose disk ran out of room while it ran, whatever its exit
// status says: there are programs that do not look whether their last bytes were
// written (busybox's sha256sum is one), and a short file would be remembered as the
// outcome of the plan.
var errRoom = errors.New("no space was left on the disk while it ran")

// room watches the disk that a step writes to.
type room struct {
	dir  string
	stop chan struct{}
	ran  chan bool // whether it ran out before the end
}

func watchRoom(dir string) room {
	w := room{dir, make(chan struct{}), make(chan bool, 1)}
	go func() {
		for {
			free, known := roomIn(w.dir)
			if known && free < scarce {
				w.ran <- true
				return
			}
			wait := seldom
			if known && free < nearTheEnd {
				wait = often
			}
			select {
			case <-w.stop:
				w.ran <- false
				return
			case <-time.After(wait):
			}
		}
	}()
	return w
}

// end stops watching and tells whether the disk ran out of room, or has none now.
func (w room) end() bool {
	close(w.stop)
	free, known := roomIn(w.dir)
	return <-w.ran || known && free < scarce
}

// roomIn is how many bytes an ordinary user may still write to a folder's disk. Some
// file systems, of the network or of a program, do not tell: they have no blocks.
func roomIn(dir string) (free uint64, known bool) {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil || disk.Blocks == 0 {
		return 0, false
	}
	return disk.Bavail * uint64(disk.Bsize), true
}
