package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// walk visits every path below dir, and dir itself as ".", a folder before what
// is in it, names of a folder in order. It never follows a symbolic link: each step goes
// from an open folder. visit gets the folder and the name in it.
func walk(ctx context.Context, dir string, visit func(at int, name, path string, st *unix.Stat_t) error) error {
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_DIRECTORY)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if err := visit(fd, ".", ".", &st); err != nil {
		return err
	}
	return walkIn(ctx, fd, ".", visit)
}

func walkIn(ctx context.Context, at int, dir string, visit func(at int, name, path string, st *unix.Stat_t) error) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	names, err := readNames(at)
	if err != nil {
		return &fs.PathError{Op: "read", Path: dir, Err: err}
	}
	for _, name := range names {
		sub := path.Join(dir, name)
		var st unix.Stat_t
		if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "stat", Path: sub, Err: err}
		}
		if err := visit(at, name, sub, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		fd, err := openat(at, name, unix.O_DIRECTORY)
		if err != nil {
			return &fs.PathError{Op: "open", Path: sub, Err: err}
		}
		err = walkIn(ctx, fd, sub, visit)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// openat opens without following a link in the last element, and without waiting
// for the other end of a pipe.
func openat(at int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// readNames lists the open folder, sorted.
func readNames(fd int) ([]string, error) {
	dup, err := openat(fd, ".", unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), ".")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// RemoveAll removes dir and all below it, also folders that their owner may not
// write to: packages have such.
func RemoveAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := unlock(unix.AT_FDCWD, dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

// unlock lets the owner of all folders from name down read, write and enter them.
func unlock(at int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if st.Mode&0o700 != 0o700 {
		if err := unix.Fchmodat(at, name, 0o700, 0); err != nil {
			return err
		}
	}
	fd, err := openat(at, name, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := readNames(fd)
	if err != nil {
		return err
	}
	for _, sub := range names {
		if err := unlock(fd, sub); err != nil {
			return err
		}
	}
	return nil
}

// diskUse is what dir and all below it take on the disk, in bytes; a file with
// several names counts once. What cannot be read counts as nothing.
func diskUse(dir string) int64 {
	var total int64
	seen := map[uint64]bool{}
	_ = walk(context.Background(), dir, func(_ int, _, _ string, st *unix.Stat_t) error {
		if !seen[st.Ino] {
			seen[st.Ino] = true
			total += st.Blocks * 512
		}
		return nil
	})
	return total
}
