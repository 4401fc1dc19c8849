package namespace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// box is an open sandbox as its parent sees it.
type box struct {
	control *channel
	first   *os.Process   // PID 1 of the sandbox
	said    *os.File      // what the first process wrote to its standard error
	ended   chan struct{} // closed when every process of the sandbox is gone

	closed atomic.Bool

	mu       sync.Mutex // one command at a time
	workPath string
}

var errClosed = errors.New("the sandbox is closed")

// start starts the first stage and waits until commands can run.
func start(ctx context.Context, set *setup) (*box, error) {
	b, err := launch(set)
	if err != nil {
		return nil, err
	}
	if _, err := b.ask(ctx, set); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

// launch starts this program again, as the first process of new namespaces.
func launch(set *setup) (*box, error) {
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
	control, err := newChannel(ours)
	if err != nil {
		ours.Close()
		return nil, err
	}
	b := &box{control: control, ended: make(chan struct{}), workPath: set.WorkPath}
	if err := b.fork(set, theirs); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	return b, nil
}

func (b *box) fork(set *setup, theirs *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	said, words, err := os.Pipe()
	if err != nil {
		return err
	}
	defer words.Close()
	attr := &os.ProcAttr{
		Dir: "/", Env: stageEnv,
		Files: []*os.File{null, null, words, theirs},
		Sys:   set.namespaces(),
	}
	started := make(chan error)
	go func() {
		// The kernel sends the signal of the parent's death when the thread that
		// started the child ends, so this thread has to last as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		first, err := os.StartProcess("/proc/self/exe", []string{firstStage}, attr)
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
		return noNamespaces(err)
	}
	b.said = said
	return nil
}

// namespaces says which ones the first process gets, and who it is there.
func (set *setup) namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC |
			unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
		Pdeathsig: syscall.SIGKILL,
		Setsid:    true,
	}
	if !set.Network {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if set.AllIDs {
		attr.UidMappings = []syscall.SysProcIDMap{{Size: identity}}
		attr.GidMappings = []syscall.SysProcIDMap{{Size: identity}}
		attr.GidMappingsEnableSetgroups = true
		return attr
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: set.UID, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: set.GID, HostID: os.Getegid(), Size: 1}}
	if set.UID != 0 {
		// Exec takes the new namespace's powers from any user but 0 of it.
		for c := uintptr(0); ; c++ {
			if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
				break
			}
			attr.AmbientCaps = append(attr.AmbientCaps, c)
		}
	}
	return attr
}

// ask sends one message and waits for its answer. When ctx ends first, the whole
// sandbox does.
func (b *box) ask(ctx context.Context, message any, fds ...int) (*answer, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, b.kill)
	defer stop()
	if err := b.control.send(message, fds...); err != nil {
		return nil, b.lost(ctx, err)
	}
	a := new(answer)
	if _, err := b.control.receive(a); err != nil {
		return nil, b.lost(ctx, err)
	}
	if !stop() {
		<-b.ended
		return nil, context.Cause(ctx)
	}
	return a, a.err()
}

// lost says why the first process no longer answers.
func (b *box) lost(ctx context.Context, err error) error {
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

func (b *box) kill() { _ = b.first.Kill() }

// Close ends the first process, and with it the kernel ends all others before
// Close returns; the mounts were theirs alone.
func (b *box) Close() error {
	b.closed.Store(true)
	b.kill()
	<-b.ended
	_ = b.control.file.Close()
	_ = b.said.Close()
	return nil
}

// Run runs one command. Processes that it leaves in the background are ended when
// it ends, so that no step depends on another's, and no pipe is held open.
//
// What is a terminal is handed to the command as it is. All else goes through a
// pipe, files too: a command could open a file that it holds once more, for
// more than it was given.
func (b *box) Run(ctx context.Context, c sandbox.Command) error {
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
	limit := ""
	if c.Timeout > 0 {
		limit = "time (" + short(c.Timeout) + ")"
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, errTimeout)
		defer cancel()
	}
	s, err := newStreams(c)
	if err != nil {
		return err
	}
	r := request{Argv: c.Argv, Env: c.Env, Dir: c.Dir, Terminal: term.IsTerminal(int(s.inside[0].Fd()))}
	if r.Dir == "" {
		r.Dir = b.workPath
	}
	a, err := b.ask(ctx, &r, int(s.inside[0].Fd()), int(s.inside[1].Fd()), int(s.inside[2].Fd()))
	copied := s.finish()
	switch {
	case err == errTimeout:
		return &sandbox.ExitError{Argv: c.Argv, Code: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL.String(), Limit: limit}
	case err != nil:
		return err
	case a.Status.Signaled():
		return &sandbox.ExitError{Argv: c.Argv, Code: 128 + int(a.Status.Signal()), Signal: a.Status.Signal().String()}
	case a.Status.ExitStatus() != 0:
		return &sandbox.ExitError{Argv: c.Argv, Code: a.Status.ExitStatus()}
	}
	return copied
}

var errTimeout = errors.New("the command's time is over")

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

const (
	// grace is how long bytes may take from the pipes to the caller's writers once
	// the command has ended.
	grace = 10 * time.Second
	// patience is how long a caller's reader may take to return once nobody wants
	// what it reads.
	patience = time.Second
)

// streams are a command's standard input, output and error.
type streams struct {
	inside  [3]*os.File // the command's ends
	close   []*os.File  // what of inside is ours to close
	outside []*os.File  // our ends of pipes
	input   *os.File    // our end of the pipe to standard input, or nil
	inputs  sync.WaitGroup
	outputs sync.WaitGroup

	mu  sync.Mutex
	err error
}

func newStreams(c sandbox.Command) (*streams, error) {
	s := new(streams)
	err := s.openInput(c.Stdin)
	if err == nil {
		s.inside[1], err = s.openOutput(c.Stdout)
	}
	if err == nil {
		// One pipe where both are one writer: it is then written by one goroutine,
		// and the order is the command's.
		if c.Stdout != nil && c.Stderr != nil && same(c.Stdout, c.Stderr) {
			s.inside[2] = s.inside[1]
		} else {
			s.inside[2], err = s.openOutput(c.Stderr)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.finish())
	}
	return s, nil
}

// same compares writers of any type.
func same(a, b io.Writer) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}

func (s *streams) openInput(r io.Reader) error {
	if f, ok := r.(*os.File); ok && f != nil && term.IsTerminal(int(f.Fd())) {
		s.inside[0] = f
		return nil
	}
	var err error
	if r == nil {
		s.inside[0], err = s.openNull(os.O_RDONLY)
		return err
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	s.inside[0], s.input = pr, pw
	s.close = append(s.close, pr)
	s.inputs.Go(func() {
		_, err := io.Copy(pw, r)
		if cerr := pw.Close(); err == nil {
			err = cerr
		}
		// A command need not read all of its input.
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
			s.fail(err)
		}
	})
	return nil
}

func (s *streams) openOutput(w io.Writer) (*os.File, error) {
	if f, ok := w.(*os.File); ok && f != nil && term.IsTerminal(int(f.Fd())) {
		return f, nil
	}
	if w == nil {
		return s.openNull(os.O_WRONLY)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, pw)
	s.outside = append(s.outside, pr)
	s.outputs.Go(func() {
		_, err := io.Copy(w, pr)
		// A command that goes on writing gets SIGPIPE.
		if cerr := pr.Close(); err == nil {
			err = cerr
		}
		s.fail(err)
	})
	return pw, nil
}

func (s *streams) openNull(mode int) (*os.File, error) {
	f, err := os.OpenFile(os.DevNull, mode, 0)
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, f)
	return f, nil
}

func (s *streams) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

// finish closes the command's ends and waits until all that it wrote has been
// copied. Every process that held an end is gone by now; that the copies still
// have a deadline is for descriptors that left by a socket of a host's network.
func (s *streams) finish() error {
	for _, f := range s.close {
		f.Close()
	}
	for _, f := range s.outside {
		_ = f.SetReadDeadline(time.Now().Add(grace))
	}
	s.outputs.Wait()
	if s.input != nil {
		_ = s.input.SetWriteDeadline(time.Now())
	}
	done := make(chan struct{})
	go func() { s.inputs.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
