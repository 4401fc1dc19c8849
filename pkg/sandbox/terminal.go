package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// RunTerminal runs a command on a terminal of its own, and connects the caller's with it
// until the command ends: keys such as Ctrl-C reach the command and nobody else, and
// the size follows. In has to be a terminal; what the command prints goes to out.
func RunTerminal(ctx context.Context, box Sandbox, c Command, in, out *os.File) error {
	master, slave, err := openTerminal()
	if err != nil {
		return fmt.Errorf("open a terminal: %w", err)
	}
	defer master.Close()
	defer slave.Close()
	resize := func() {
		if size, err := unix.IoctlGetWinsize(int(in.Fd()), unix.TIOCGWINSZ); err == nil {
			_ = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, size)
		}
	}
	resize()
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("hand over the terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(in.Fd()), before) }()

	ended := make(chan struct{})
	typed, shown := make(chan struct{}), make(chan struct{})
	go func() { defer close(typed); copyKeys(master, in, ended) }()
	go func() {
		defer close(shown)
		_, _ = io.Copy(out, master) // EIO when nobody has the other side open any more
	}()
	go func() {
		for {
			select {
			case <-changed:
				resize()
			case <-ended:
				return
			}
		}
	}()
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	err = box.Run(ctx, c)
	close(ended)
	<-typed
	slave.Close()
	<-shown
	return err
}

// copyKeys copies what is typed until the command has ended. It never waits in a read,
// which would swallow the first key after that.
func copyKeys(to io.Writer, in *os.File, ended <-chan struct{}) {
	const patience = 50 // milliseconds
	b := make([]byte, 4096)
	for {
		select {
		case <-ended:
			return
		default:
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}}, patience)
		if errors.Is(err, unix.EINTR) || err == nil && ready == 0 {
			continue
		}
		if err != nil {
			return
		}
		n, err := unix.Read(int(in.Fd()), b)
		if err != nil || n <= 0 {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// openTerminal makes a pair: pty(7).
func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var number int
	cerr := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err = errors.Join(cerr, err); err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	return master, slave, err
}
