package namespace

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

// request asks the second stage for a command; its three descriptors travel along.
type request struct {
	Argv, Env rawStrings
	Dir       string
	Terminal  bool // standard input is a terminal
}

// rawStrings are strings of any bytes. JSON by itself would replace what is no UTF-8,
// and a recipe's script may be in another encoding.
type rawStrings []string

func (w rawStrings) MarshalJSON() ([]byte, error) {
	raw := make([][]byte, len(w))
	for i, s := range w {
		raw[i] = []byte(s)
	}
	return json.Marshal(raw)
}

func (w *rawStrings) UnmarshalJSON(data []byte) error {
	var raw [][]byte
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*w = make(rawStrings, len(raw))
	for i, b := range raw {
		(*w)[i] = string(b)
	}
	return nil
}

// answer is what a stage says: that it is ready, how a command ended, or what
// went wrong before it could start.
type answer struct {
	Status syscall.WaitStatus
	Err    string
	Errno  syscall.Errno // what Err came from, for errors.Is
	Lack   *sandbox.Lack
	Facts  []Fact
}

// err is the answer's failure as an error.
func (a *answer) err() error {
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

// failed makes an answer of an error.
func failed(err error) *answer {
	a := &answer{Err: err.Error()}
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

// channel carries messages over a stream socket: four bytes of length, then JSON.
// Descriptors travel with the length.
type channel struct {
	file *os.File
	raw  syscall.RawConn
}

func newChannel(f *os.File) (*channel, error) {
	raw, err := f.SyscallConn()
	return &channel{f, raw}, err
}

func (c *channel) send(message any, fds ...int) error {
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
func (c *channel) receive(message any) ([]int, error) {
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

func (c *channel) receiveBody(message any, head []byte, have int) error {
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
