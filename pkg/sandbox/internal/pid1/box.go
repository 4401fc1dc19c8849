package pid1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/internal/cgroup"
)

// Box is an open sandbox as its parent sees it.
type Box struct {
	control *Channel
	first   *os.Process   // what ends the sandbox when it is killed
	said    *os.File      // what the first process wrote to its standard error
	ended   chan struct{} // closed when every process of the sandbox is gone
	o       BoxOptions

	closed  atomic.Bool
	mu      sync.Mutex // one command at a time
	release sync.Once
}

// BoxOptions say what a Box is.
type BoxOptions struct {
	WorkPath string         // the working folder of commands that name none
	Work     string         // the folder of the host behind it, whose size is watched; or ""
	Limits   sandbox.Limits // settled
	// UID and GID are whose the pipes of commands are, so that these may open them by
	// their names (/dev/stdout); 0 and 0 are the caller's.
	UID, GID int
	// Group holds the processes; nil where the machine lets nobody make one.
	Group *cgroup.Group
	// Patience is how long what Launch started may take to end by itself, once the
	// channel is closed. 0 kills it at once, which is right for the first process.
	Patience time.Duration
	// Release is called once when every process is gone; may be nil.
	Release func()
	// Network tells that the sandbox has the machine's network, whose counters are not its own.
	Network bool
	Off     Off
}

var errClosed = errors.New("the sandbox is closed")

// Launch starts the first process, or a program that becomes it or its parent. Start
// gets the other end of the channel and what standard error is to be.
func Launch(o BoxOptions, start func(control, words *os.File) (*os.Process, error)) (*Box, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	ours := os.NewFile(uintptr(pair[0]), "control")
	control, err := NewChannel(ours)
	if err != nil {
		ours.Close()
		return nil, err
	}
	b := &Box{control: control, ended: make(chan struct{}), o: o}
	if err := b.start(theirs, start); err != nil {
		b.releaseAll()
		return nil, errors.Join(err, ours.Close())
	}
	return b, nil
}

func (b *Box) start(theirs *os.File, start func(control, words *os.File) (*os.Process, error)) error {
	said, words, err := os.Pipe()
	if err != nil {
		return err
	}
	defer words.Close()
	started := make(chan error)
	go func() {
		// The kernel sends the signal of the parent's death when the thread that
		// started the child ends, so this thread has to last as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		first, err := start(theirs, words)
		if err == nil && b.o.Group != nil {
			// It waits for its first message, and has made no memory its own yet.
			if err = b.o.Group.Add(first.Pid); err != nil {
				_ = first.Kill()
				_, _ = first.Wait()
			}
		}
		b.first = first
		started <- err
		if err != nil {
			return
		}
		// The wait ends when the kernel has ended and reaped all others.
		_, _ = first.Wait()
		close(b.ended)
	}()
	if err := <-started; err != nil {
		said.Close()
		return err
	}
	b.said = said
	return nil
}

// Ask sends messages and waits for one answer. When ctx ends first, the whole
// sandbox does.
func (b *Box) Ask(ctx context.Context, messages ...any) (*Answer, error) { return b.ask(ctx, messages) }

func (b *Box) ask(ctx context.Context, messages []any, fds ...int) (*Answer, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, b.kill)
	defer stop()
	for _, m := range messages {
		if err := b.control.Send(m, fds...); err != nil {
			return nil, b.lost(ctx, err)
		}
	}
	a := new(Answer)
	if _, err := b.control.Receive(a); err != nil {
		return nil, b.lost(ctx, err)
	}
	if !stop() {
		<-b.ended
		return nil, context.Cause(ctx)
	}
	return a, a.err()
}

// lost says why the first process no longer answers.
func (b *Box) lost(ctx context.Context, err error) error {
	b.kill()
	<-b.ended
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if b.closed.Load() {
		return errClosed
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	words, _ := io.ReadAll(io.LimitReader(b.said, 4096))
	if text := strings.TrimSpace(string(words)); text != "" {
		return fmt.Errorf("the sandbox ended: %s", text)
	}
	return errors.New("the sandbox ended: its first process was killed")
}

// kill ends everything. A container runtime is first given the time to tidy up: its
// container ends by itself when the channel does.
func (b *Box) kill() {
	if b.o.Patience > 0 {
		_ = b.control.shutdown()
		time.AfterFunc(b.o.Patience, func() { _ = b.first.Kill() })
		return
	}
	_ = b.first.Kill()
}

// Close ends the first process, and with it the kernel ends all others before
// Close returns; the mounts were theirs alone.
func (b *Box) Close() error {
	b.closed.Store(true)
	b.kill()
	<-b.ended
	_ = b.control.file.Close()
	_ = b.said.Close()
	b.releaseAll()
	return nil
}

func (b *Box) releaseAll() {
	b.release.Do(func() {
		if b.o.Group != nil {
			b.o.Group.Remove()
		}
		if b.o.Release != nil {
			b.o.Release()
		}
	})
}

// Run runs one command. Processes that it leaves in the background are ended when
// it ends, so that no step depends on another's, and no pipe is held open.
//
// What is a terminal is handed to the command as it is. All else goes through a
// pipe, files too: a command could open a file that it holds once more, for
// more than it was given.
func (b *Box) Run(ctx context.Context, c sandbox.Command) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(c.Argv) == 0 {
		return errors.New("run: a command of no words")
	}
	select {
	case <-b.ended:
		return errClosed
	default:
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, reached("time ("+short(c.Timeout)+")"))
		defer cancel()
	}
	ctx, measure := b.watchDisk(ctx)
	s, err := newStreams(c, &b.o)
	if err != nil {
		return err
	}
	r := Request{Argv: c.Argv, Env: c.Env, Dir: c.Dir, Terminal: term.IsTerminal(int(s.inside[0].Fd()))}
	if r.Dir == "" {
		r.Dir = b.o.WorkPath
	}
	before := b.o.Group.Counts()
	a, err := b.ask(ctx, []any{&r}, int(s.inside[0].Fd()), int(s.inside[1].Fd()), int(s.inside[2].Fd()))
	copied := s.finish()
	disk := measure()
	exit := &sandbox.ExitError{Argv: c.Argv, Code: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL.String()}
	if err != nil {
		if limit, ok := err.(reached); ok {
			exit.Limit = string(limit)
			return exit
		}
		// The kernel may have chosen the first process to make room.
		if exit.Limit = b.limitOf(b.o.Group.Counts().Since(before)); exit.Limit != "" && ctx.Err() == nil && !b.closed.Load() {
			return exit
		}
		return err
	}
	// A command may take no notice of what the kernel did to one of its processes: what
	// it made is another thing then than on a machine with a supervisor, or with more memory.
	met := b.o.Group.Counts().Since(before)
	if !b.o.Network {
		exit.Unrouted = a.Unrouted
	}
	switch {
	case a.Status.Signaled():
		exit.Code, exit.Signal = 128+int(a.Status.Signal()), a.Status.Signal().String()
		if a.Status.Signal() == syscall.SIGXFSZ && b.o.Limits.Disk > 0 {
			disk = over // one file alone was too large
		}
	case a.Status.ExitStatus() != 0 || a.Limit != "" || disk == over || met != "":
		exit.Code, exit.Signal = a.Status.ExitStatus(), ""
	default:
		return copied
	}
	switch {
	case a.Limit != "":
		exit.Limit = b.limitOf(a.Limit)
	case disk != fits:
		exit.Limit = b.limitOf("disk")
	default:
		exit.Limit = b.limitOf(met)
	}
	return exit
}

// reached is the cause of a context that a limit has ended.
type reached string

func (r reached) Error() string { return "limit reached: " + string(r) }

// limitOf says a limit as users read it, e.g. "memory (2 GiB)".
func (b *Box) limitOf(what string) string {
	switch what {
	case "memory":
		return "memory (" + sandbox.Size(b.o.Limits.Memory) + ")"
	case "processes":
		return fmt.Sprintf("processes (%d)", b.o.Limits.Processes)
	case "disk":
		return "disk (" + sandbox.Size(b.o.Limits.Disk) + ")"
	}
	return ""
}

// short writes 30m0s as 30m.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
