// Package sandbox runs commands without the machine around them: without its
// network, files, environment, users, processes and clock drift. It knows nothing
// of recipes, packages or stores; it is given folders and commands.
//
// A Backend is a way to do it; sandboxtest holds what every backend promises.
package sandbox

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox/online"
)

// Backend opens sandboxes in one way.
type Backend interface {
	// Name is the backend's name as users say it, e.g. "namespace".
	Name() string
	// Available says by name what this machine lacks, or nil.
	Available() error
	// Open makes a sandbox; nothing runs in it yet.
	Open(ctx context.Context, s Spec) (Sandbox, error)
}

// Sandbox is an open sandbox. Commands run one at a time; what one leaves in the
// work folder and in /tmp the next one finds.
type Sandbox interface {
	// Run runs one command and waits for it. What it leaves running is ended when
	// it ends. A command that exits with another status than 0 is an *ExitError; one
	// that outlives ctx or its time is killed with all its children, and so is the
	// sandbox: its time is an *ExitError with Limit, ctx gives its own cause.
	//
	// A terminal is handed to the command as it is; what goes from or to any other
	// reader or writer, a file too, goes through a pipe.
	Run(ctx context.Context, c Command) error
	// Close ends every process and leaves nothing mounted. It may be called twice.
	Close() error
}

// Spec is what a sandbox is made of. The zero value of every optional field works.
type Spec struct {
	// Layers are folders of the host that are laid over each other, read-only, as
	// the root: the first is on top. At least one.
	Layers []string
	// Work is the folder of the host that is writable inside, at WorkPath; a
	// temporary one when empty.
	Work string
	// WorkPath is where Work stands inside; "/home/build" when empty.
	WorkPath string
	// Binds are further folders or files of the host, seen inside. Their places are
	// made where they are missing; no link is followed to one.
	Binds []Bind
	// Hostname is "tarn" when empty.
	Hostname string
	// UID and GID are the user that commands run as, as seen inside. For root of the
	// host, ids inside are those of the host, so Work has to be writable for UID; for
	// an ordinary user they are the one that there is, and stand for the caller.
	UID, GID int
	// Owners lets commands of an ordinary user's sandbox give files to other users, where
	// there are subordinate ids; see Users for what that means for the work folder. It
	// takes the capabilities to do it besides.
	Owners bool
	// Capabilities are what commands may have inside the sandbox's own user
	// namespace, e.g. CAP_NET_RAW; none when empty. Ports below 1024 need none.
	Capabilities []string
	// Limits are what all processes together may use.
	Limits Limits
	// CPUs is the number of processors that commands start on, as nproc counts
	// them; 0 is all.
	CPUs int
	// WritableRoot puts a temporary writable layer over the root, gone at Close.
	WritableRoot bool
	// Network leaves the host's network reachable, with its resolver, and with it
	// the host's abstract sockets. Who runs steps of builds cannot make one; see online.
	Network *Access
}

// Access is the permission to reach the machine's network. Only package online makes one
// that permits anything.
type Access = online.Access

// Limits bound what the processes of a sandbox use together. A command that reaches one
// is an *ExitError with Limit, but for open files: that one its program meets itself, as
// EMFILE. Zero is each one's default.
type Limits struct {
	Memory    int64 // bytes, temporary file systems among them; 7/8 of the machine's when 0
	Processes int   // processes and threads; 16384 when 0
	OpenFiles int   // of one process; 65536 when 0, and never more than the host allows
	Disk      int64 // bytes in the work folder; none when 0
}

// The defaults of Limits.
const (
	defaultProcesses = 16384
	defaultOpenFiles = 65536
	defaultMemory    = 4 << 30 // of a machine that does not tell how much it has
)

// Settled gives the limits with the defaults in them.
func (l Limits) Settled() Limits {
	if l.Memory <= 0 {
		l.Memory = defaultMemory
		var info unix.Sysinfo_t
		if err := unix.Sysinfo(&info); err == nil {
			l.Memory = int64(uint64(info.Totalram) * uint64(info.Unit) / 8 * 7)
		}
	}
	if l.Processes <= 0 {
		l.Processes = defaultProcesses
	}
	if l.OpenFiles <= 0 {
		l.OpenFiles = defaultOpenFiles
	}
	return l
}

// Size writes a number of bytes in the largest unit that leaves at least one, with up
// to one decimal, e.g. "2 GiB" or "1.5 KiB".
func Size(bytes int64) string {
	value, unit := float64(bytes), "bytes"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, u
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0") + " " + unit
}

// Bind is a folder or file of the host that stands at Path inside.
type Bind struct {
	Source   string
	Path     string // absolute, clean
	Writable bool
}

// Command is one process to run.
type Command struct {
	Argv    []string      // Argv[0] is an absolute path inside
	Env     []string      // NAME=value; nothing else is in the environment
	Dir     string        // absolute, inside; WorkPath when empty
	Stdin   io.Reader     // nothing to read when nil; a Read that is under way may outlast Run
	Stdout  io.Writer     // dropped when nil
	Stderr  io.Writer     // dropped when nil
	Timeout time.Duration // 0 is none
}

// ExitError says that a command ran and failed.
type ExitError struct {
	Argv   []string
	Code   int    // exit status, or 128 + signal
	Signal string // e.g. "killed", when a signal ended it
	Limit  string // the limit that was reached, e.g. "memory (2 GiB)", when one was
	// Unrouted is how often the command, or what it started, asked for an address beyond a
	// sandbox that has loopback alone. Asking for the address of a name counts as well.
	Unrouted int
}

func (e *ExitError) Error() string {
	switch {
	case e.Limit != "":
		return "limit reached: " + e.Limit
	case e.Signal != "":
		return "signal: " + e.Signal
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Lack is what Available and Open say when the machine misses something.
type Lack struct {
	What string // e.g. "user namespaces are off"
	Fix  string // e.g. "sysctl -w user.max_user_namespaces=10000"
}

func (l *Lack) Error() string {
	if l.Fix == "" {
		return l.What
	}
	return strings.TrimSpace(l.What) + "\n  hint: " + l.Fix
}
