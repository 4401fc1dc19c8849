package store

import (
	"io/fs"
	"os"
	"syscall"
)

// FileState tells one state of a file from another: whoever writes to a file, or puts
// another in its place, changes it.
type FileState struct {
	Inode    uint64 `json:"inode"`
	Size     int64  `json:"size"`     // in bytes
	Modified int64  `json:"modified"` // content, in nanoseconds
	Changed  int64  `json:"changed"`  // content or anything else of it, in nanoseconds
}

// StateOf is the state of a file that info tells of.
func StateOf(info fs.FileInfo) FileState {
	s := FileState{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Inode, s.Changed = sys.Ino, syscall.TimespecToNsec(sys.Ctim)
	}
	return s
}

// Check makes sure that a blob is there and right, and gives the state of its file. It is
// not read again while it is in the state in which it was found right before.
//
// Its errors are those of Open.
func (s *Store) Check(d Digest, before FileState) (FileState, error) {
	path, err := s.blobPath(d)
	if err != nil {
		return FileState{}, err
	}
	if info, err := os.Lstat(path); err == nil && StateOf(info) == before && s.Has(d) {
		info, err := os.Lstat(path) // its use was noted
		if err == nil {
			return StateOf(info), nil
		}
	}
	f, err := s.Open(d)
	if err != nil {
		return FileState{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return FileState{}, s.fault("check blob "+string(d), err)
	}
	return StateOf(info), nil
}
