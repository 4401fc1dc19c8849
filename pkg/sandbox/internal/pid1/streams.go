package pid1

import (
	"errors"
	"io"
	"os"
	"reflect"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

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

	files    bool // files are handed in as they are
	uid, gid int  // whose the pipes are; see BoxOptions

	mu  sync.Mutex
	err error
}

func newStreams(c sandbox.Command, o *BoxOptions) (*streams, error) {
	s := &streams{files: o.Off.Has(Pipes), uid: o.UID, gid: o.GID}
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
	if f, ok := r.(*os.File); ok && f != nil && (s.files || term.IsTerminal(int(f.Fd()))) {
		s.inside[0] = f
		return nil
	}
	var err error
	if r == nil {
		s.inside[0], err = s.openNull(os.O_RDONLY)
		return err
	}
	pr, pw, err := s.pipe()
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

// pipe makes a pipe that belongs to the user of the command, as container runtimes have it.
func (s *streams) pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil || s.uid == 0 && s.gid == 0 {
		return r, w, err
	}
	// Both ends are one inode.
	if err := w.Chown(s.uid, s.gid); err != nil {
		return nil, nil, errors.Join(err, r.Close(), w.Close())
	}
	return r, w, nil
}

func (s *streams) openOutput(w io.Writer) (*os.File, error) {
	if f, ok := w.(*os.File); ok && f != nil && (s.files || term.IsTerminal(int(f.Fd()))) {
		return f, nil
	}
	if w == nil {
		return s.openNull(os.O_WRONLY)
	}
	pr, pw, err := s.pipe()
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
