package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// flock is flock(2) that is not disturbed by signals.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// acquire opens path and locks it. The lock belongs to the descriptor: other
// goroutines of this process wait as other processes do, and a killed process
// holds nothing. The file may be removed by the one who holds the lock: a lock on a
// file that has no name any more does not count and is tried again.
func acquire(ctx context.Context, path string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := wait(ctx, f, how); err != nil {
			f.Close()
			return nil, err
		}
		if sameFile(int(f.Fd()), path) {
			return f, nil
		}
		f.Close()
	}
}

// wait takes the lock; a ctx that can be cancelled is looked at while waiting.
func wait(ctx context.Context, f *os.File, how int) error {
	if ctx.Done() == nil {
		return flock(f, how)
	}
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := flock(f, how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// sameFile reports whether path still names the open file.
func sameFile(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Lstat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// gate is this process's part of the lock that all processes of a store share. It holds
// one descriptor of it: the first goroutine that comes in takes the lock for all that
// come while it is there, and the last one gives it back.
type gate struct {
	path string
	turn sync.RWMutex // between the goroutines of this process

	mu     sync.Mutex
	file   *os.File // nil before the first use
	inside int      // goroutines that share the lock
	closed bool
}

// shared keeps GC, and the moving aside of damaged things, out for a moment: the
// time in which a use is noted and the thing looked at, or a new thing gets its name.
// Who holds it must not ask for it again.
func (s *Store) shared() (release func(), err error) {
	g := &s.gate
	g.turn.RLock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside == 0 {
		if err := g.lock(unix.LOCK_SH); err != nil {
			g.turn.RUnlock()
			return nil, s.fault("lock store", err)
		}
	}
	g.inside++
	return g.leave, nil
}

func (g *gate) leave() {
	g.mu.Lock()
	g.inside--
	if g.inside == 0 {
		g.unlock()
	}
	g.mu.Unlock()
	g.turn.RUnlock()
}

// exclusive is the other side of shared.
func (s *Store) exclusive() (release func(), err error) {
	g := &s.gate
	g.turn.Lock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.lock(unix.LOCK_EX); err != nil {
		g.turn.Unlock()
		return nil, s.fault("lock store", err)
	}
	return func() {
		g.mu.Lock()
		g.unlock()
		g.mu.Unlock()
		g.turn.Unlock()
	}, nil
}

// lock takes the lock. A file that has not its name any more is nobody's lock: who removed
// the store and made it again has another.
func (g *gate) lock(how int) error {
	if g.closed {
		return errClosed
	}
	if g.file != nil {
		if err := flock(g.file, how); err != nil {
			return err
		}
		if sameFile(int(g.file.Fd()), g.path) {
			return nil
		}
		g.file.Close()
		g.file = nil
	}
	f, err := acquire(context.Background(), g.path, how)
	if err != nil {
		return err
	}
	g.file = f
	return nil
}

// unlock gives the lock back. If it could not, closing the file would.
func (g *gate) unlock() {
	if flock(g.file, unix.LOCK_UN) != nil {
		g.file.Close()
		g.file = nil
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.file != nil && g.inside == 0 {
		g.file.Close()
		g.file = nil
	}
}

var errClosed = errors.New("store is closed")

// use notes that this process uses the named things ("blob abcd...", "tree abcd...").
// It is called within shared.
func (s *Store) use(names ...string) error {
	s.uses.Lock()
	defer s.uses.Unlock()
	if s.lock == nil {
		return errClosed
	}
	var lines strings.Builder
	for _, name := range names {
		if !s.uses.known[name] {
			lines.WriteString(name + "\n")
		}
	}
	if lines.Len() == 0 {
		return nil
	}
	if _, err := s.uses.file.WriteString(lines.String()); err != nil {
		return s.fault("note use", err)
	}
	for _, name := range names {
		s.uses.known[name] = true
	}
	return nil
}

// isUsed reports whether the use of all the named things was noted before. Then GC of
// whatever process leaves them alone.
func (s *Store) isUsed(names ...string) bool {
	s.uses.Lock()
	defer s.uses.Unlock()
	for _, name := range names {
		if !s.uses.known[name] {
			return false
		}
	}
	return true
}

// using is shared for a look at the named things. What was noted as used stays whatever
// others do: the lock is taken only for what is used for the first time.
func (s *Store) using(names ...string) (release func(), err error) {
	if s.isUsed(names...) {
		return func() {}, nil
	}
	return s.shared()
}

// used gives what running processes use; the store is held exclusively. With
// others, this process does not count.
func (s *Store) used(others bool) (map[string]bool, error) {
	used := map[string]bool{}
	dirs, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		dir := filepath.Join(s.dir, "tmp", d.Name())
		if others && dir == s.tmp {
			continue
		}
		if dead, release := isDead(dir); dead {
			release()
			continue
		}
		list, err := os.ReadFile(filepath.Join(dir, "uses"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for line := range strings.Lines(string(list)) {
			used[strings.TrimSuffix(line, "\n")] = true
		}
	}
	return used, nil
}

// makeTemp makes the process's temporary folder and takes the lock on it.
func (s *Store) makeTemp() error {
	for {
		dir, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), fmt.Sprintf("%d-", os.Getpid()))
		if err != nil {
			return err
		}
		f, err := os.Open(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // swept by another process before it was locked
		}
		if err != nil {
			return err
		}
		if err := flock(f, unix.LOCK_EX); err != nil {
			f.Close()
			return err
		}
		if !sameFile(int(f.Fd()), dir) {
			f.Close()
			continue
		}
		list, err := os.OpenFile(filepath.Join(dir, "uses"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			f.Close()
			return err
		}
		// MkdirTemp makes 0700; a sandbox of another user id must be able to pass.
		if err := os.Chmod(dir, 0o755); err != nil {
			list.Close()
			f.Close()
			return err
		}
		s.tmp, s.lock, s.uses.file = dir, f, list
		return nil
	}
}

// isDead reports whether nobody holds the temporary folder dir. When it is dead
// it is locked until release, so that only one process sweeps it.
func isDead(dir string) (dead bool, release func()) {
	f, err := os.Open(dir)
	if err != nil {
		return false, func() {}
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return false, func() {}
	}
	return true, func() { f.Close() }
}

// sweepTemp removes the temporary folders of dead processes. What cannot be
// removed (files of subordinate users, a folder that something is still mounted
// on) is left for Leftovers or a later time, and stands in no one's way.
func (s *Store) sweepTemp() error {
	dirs, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		dir := filepath.Join(s.dir, "tmp", d.Name())
		if dead, release := isDead(dir); dead {
			_ = RemoveAll(dir)
			release()
		}
	}
	return nil
}

// Leftovers are the temporary folders of dead processes that Open could not remove, such as
// those with files of subordinate users, for whoever has a way to.
func (s *Store) Leftovers() []string {
	dirs, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return nil
	}
	var left []string
	for _, d := range dirs {
		dir := filepath.Join(s.dir, "tmp", d.Name())
		if dead, release := isDead(dir); dead {
			release()
			left = append(left, dir)
		}
	}
	return left
}
