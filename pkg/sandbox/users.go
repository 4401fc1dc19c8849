package sandbox

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Users is what a Backend has that can give files to several users. For root of the host
// all is as inside. An ordinary user needs subordinate ids, and can neither read nor
// remove what belongs to them: so it takes files back before it does anything with them
// from outside, and remembers whose they were.
type Users interface {
	// Several tells whether this machine lets the caller do it.
	Several() bool
	// Take makes all files below a folder the caller's, and says which were another's.
	// Uid and gid are the Spec's.
	Take(ctx context.Context, dir string, uid, gid int) ([]Owned, error)
	// Give undoes Take for the files that are still there, wherever they moved.
	Give(ctx context.Context, dir string, uid, gid int, owned []Owned) error
}

// Owned is a file that belongs to another user of the sandbox than its commands'.
type Owned struct {
	Inode, Born uint64 // the file: its number, and when it was made, in nanoseconds
	UID, GID    int    // as seen inside
}

// OwnedAt looks at a file below an open folder; no link is followed at its end.
func OwnedAt(dir int, name string) (Owned, error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return Owned{}, fmt.Errorf("look at %s: %w", name, err)
	}
	o := Owned{Inode: st.Ino, UID: int(st.Uid), GID: int(st.Gid)}
	if st.Mask&unix.STATX_BTIME != 0 {
		o.Born = uint64(st.Btime.Sec)*1e9 + uint64(st.Btime.Nsec)
	}
	return o, nil
}
