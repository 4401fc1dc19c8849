package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// talkLimit is how long one answer may take before a test gives up; what is tested is
// that it comes, not when.
const talkLimit = 2 * time.Minute

// talk STATUS FILE COMMAND [ARGUMENT...] runs a command on a terminal of its own and talks
// with it as somebody at the keys does: a line "< text" waits until the command has
// written the text, after what was waited for before; a line "> text" types it, "> ^D" the end of input. Then the
// command has to end with the status. The script's stdout is all that stood there.
func talk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: talk STATUS FILE COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	keys, screen, err := openTerminal()
	ts.Check(err)
	defer keys.Close()
	c := command(ts, args[2:])
	c.Stdin, c.Stdout, c.Stderr = screen, screen, screen
	c.Env = append(c.Env, "TERM=dumb")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(c.Start())
	screen.Close()

	written := make(chan []byte)
	go func() {
		defer close(written)
		for {
			buffer := make([]byte, 4096)
			n, err := keys.Read(buffer)
			if n > 0 {
				written <- buffer[:n]
			}
			if err != nil {
				return // EIO: nobody has the other end open any more
			}
		}
	}()
	var all []byte
	seen := 0 // all before was waited for
	stop := func(format string, words ...any) {
		_ = c.Process.Kill()
		for range written {
		}
		_ = c.Wait()
		ts.Fatalf("%s; all that was written:\n%s", fmt.Sprintf(format, words...), all)
	}
	more := func() bool {
		select {
		case b, ok := <-written:
			all = append(all, b...)
			return ok
		case <-time.After(talkLimit):
			stop("nothing came for %v", talkLimit)
			return false
		}
	}
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		line = strings.TrimSuffix(line, "\n")
		if text, ok := strings.CutPrefix(line, "< "); ok {
			for {
				if i := bytes.Index(all[seen:], []byte(text)); i >= 0 {
					seen += i + len(text)
					break
				}
				if !more() {
					stop("%q was not written", text)
				}
			}
		} else if text, ok := strings.CutPrefix(line, "> "); ok {
			if text == "^D" {
				text = "\x04" // the end of input
			} else {
				text += "\n"
			}
			_, err := io.WriteString(keys, text)
			ts.Check(err)
		} else {
			stop("%s: a line is \"< what is waited for\" or \"> what is typed\": %q", args[1], line)
		}
	}
	for more() {
	}
	err = c.Wait()
	_, _ = ts.Stdout().Write(bytes.ReplaceAll(all, []byte("\r\n"), []byte("\n")))
	if err != nil {
		if _, ended := err.(*exec.ExitError); !ended {
			ts.Check(err)
		}
	}
	if got := c.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit status %d, want %d; all that was written:\n%s", got, want, all)
	}
}

// openTerminal makes a pseudo terminal: pty(7).
func openTerminal() (keys, screen *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	keys = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		keys.Close()
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		screen, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		keys.Close()
		return nil, nil, err
	}
	return keys, screen, nil
}
