package pid1

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// Request asks the second stage for a command; its three descriptors travel along.
type Request struct {
	Argv, Env Strings
	Dir       string
	Terminal  bool // standard input is a terminal
}

// Strings are strings of any bytes. JSON by itself would replace what is no UTF-8,
// and a recipe's script may be in another encoding.
type Strings []string

func (w Strings) MarshalJSON() ([]byte, error) {
	raw := make([][]byte, len(w))
	for i, s := range w {
		raw[i] = []byte(s)
	}
	return json.Marshal(raw)
}

func (w *Strings) UnmarshalJSON(data []byte) error {
	var raw [][]byte
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*w = make(Strings, len(raw))
	for i, b := range raw {
		(*w)[i] = string(b)
	}
	return nil
}

// Answer is what a stage says: that it is ready, how a command ended, or what
// went wrong before it could start.
type Answer struct {
	Status syscall.WaitStatus
	Err    string
	Errno  syscall.Errno // what Err came from, for errors.Is
	Lack   *sandbox.Lack
	Limit  string // "memory" or "processes", when this process ended the command for it
	// Unrouted is how often the command asked for addresses that no route leads to.
	Unrouted int
	Data     json.RawMessage // what a backend's own stage says
}

// err is the Answer's failure as an error.
func (a *Answer) err() error {
	switch {
	case a.Lack != nil:
		return a.Lack
	case a.Err == "":
		return nil
	case a.Errno != 0:
		return &remoteError{a.Err, a.Errno}
	}
	return errors.New(a.Err)
}

// failed makes an Answer of an error.
func Failed(err error) *Answer {
	a := &Answer{Err: err.Error()}
	errors.As(err, &a.Errno)
	errors.As(err, &a.Lack)
	return a
}

// remoteError is an error of a stage, with the system's number still in it.
type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.errno }

// maxMessage bounds a message: the kernel takes 2 MiB of arguments and
// environment by default, 6 MiB at most.
const maxMessage = 64 << 20

// Channel carries messages over a stream socket: four bytes of length, then JSON.
// Descriptors travel with the length.
type Channel struct {
	file *os.File
	raw  syscall.RawConn
}

// NewChannel speaks over an open stream socket.
func NewChannel(f *os.File) (*Channel, error) {
	raw, err := f.SyscallConn()
	return &Channel{f, raw}, err
}

// shutdown lets the other end read the end of the stream.
func (c *Channel) shutdown() error {
	var err error
	cerr := c.raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	return errors.Join(cerr, err)
}

// Send sends one message and descriptors with it.
func (c *Channel) Send(message any, fds ...int) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return fmt.Errorf("a message of %d bytes; at most %d", len(body), maxMessage)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	var n int
	werr := c.raw.Write(func(fd uintptr) bool {
		for {
			n, err = unix.SendmsgN(int(fd), head, rights, nil, unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(werr, err); err != nil {
		return err
	}
	_, err = c.file.Write(append(head[n:], body...))
	return err
}

// receive reads one message and the descriptors that came with it, which are
// closed on exec. The end of the stream is io.EOF.
func (c *Channel) Receive(message any) ([]int, error) {
	var head [4]byte
	rights := make([]byte, unix.CmsgSpace(4*3))
	var n, used int
	var err error
	rerr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, used, _, _, err = unix.Recvmsg(int(fd), head[:], rights, unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(rerr, err); err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	fds, err := descriptors(rights[:used])
	if err == nil {
		err = c.receiveBody(message, head[:], n)
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

func (c *Channel) receiveBody(message any, head []byte, have int) error {
	if _, err := io.ReadFull(c.file, head[have:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return fmt.Errorf("a message of %d bytes; at most %d", size, maxMessage)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.file, body); err != nil {
		return err
	}
	return json.Unmarshal(body, message)
}

func descriptors(rights []byte) ([]int, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
