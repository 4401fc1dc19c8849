package namespace

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox/internal/pid1"
)

// The names that the two stages are started by.
const (
	firstStage  = "tarn-sandbox-setup"
	secondStage = "tarn-sandbox-init"

	// controlFD is the stages' end of the socket to the parent.
	controlFD = 3
)

// Init returns at once, unless this process was started to become a sandbox's
// first one: then it is that, and never returns. It has to be called before a
// program does anything else.
func Init() {
	if len(os.Args) == 0 {
		return
	}
	var stage func(*pid1.Channel) error
	switch first := os.Getpid() == 1; {
	case first && os.Args[0] == firstStage:
		stage = setUp
	case first && os.Args[0] == secondStage:
		stage = pid1.Serve
	case os.Args[0] == runtimeStage:
		stage = becomeRuntime
	case first && len(os.Args) == 2 && os.Args[1] == secondStage:
		// In a container: its runtime is the parent, on a thread that may end, and the
		// end of the channel is what ends this process.
		if err := connect(pid1.Serve); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	default:
		return
	}
	inherited = openDescriptors()
	// Everything below that belongs to a thread (death signal, capabilities,
	// filter) belongs to this one, which is also the one that executes.
	runtime.LockOSThread()
	if err := run(stage); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// inherited are the descriptors, besides standard ones and the control socket, that this
// process got from its parent.
var inherited []int

// openDescriptors lists what is open above the control socket and came from the parent.
func openDescriptors() []int {
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // what is left open has the flag of setUp, and goes with exec
	}
	defer unix.Close(dir)
	var open []int
	buf := make([]byte, 4096)
	for {
		n, err := unix.Getdents(dir, buf)
		if n <= 0 || err != nil {
			return open
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			fd, err := strconv.Atoi(name)
			if err != nil || fd <= controlFD {
				continue
			}
			// What came through exec has not the flag; all that this process opened
			// itself has, also what an initialiser did before now, such as the poller.
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
				open = append(open, fd)
			}
		}
	}
}

// run connects a stage with its parent and sees that it does not outlive it: by
// signal, and, should the parent be gone before the signal was asked for, by the
// end of the socket, which every stage reads next.
func run(stage func(*pid1.Channel) error) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask for the signal of the parent's death: %w", err)
	}
	return connect(stage)
}

func connect(stage func(*pid1.Channel) error) error {
	control, err := pid1.NewChannel(os.NewFile(controlFD, "control"))
	if err != nil {
		return err
	}
	return stage(control)
}

// setUp is the first stage. It ends by executing the second.
func setUp(control *pid1.Channel) error {
	var set setup
	if _, err := control.Receive(&set); err != nil {
		return err
	}
	// Whatever the parent had open without the flag is closed here; what this process
	// opens itself goes with exec.
	if !set.Off.Has(closedDescriptors) {
		for _, fd := range inherited {
			_ = unix.Close(fd)
		}
		if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
			return fmt.Errorf("close the parent's descriptors on exec: %w", err)
		}
	}
	if set.Owners != nil {
		return control.Send(set.Owners.answer(set.UID, set.GID))
	}
	if set.Check {
		return control.Send(facts())
	}
	program, err := set.enter()
	if err != nil {
		return fail(control, err)
	}
	err = execute(program)
	if errors.Is(err, unix.ENOENT) {
		// The program needs a loader, and there is none inside: it was linked with
		// cgo, as tests may be. It goes on as it is. Commands are the children of
		// this thread, which has given up all power; that other threads still have
		// some reaches no one, for nobody can trace this process.
		return pid1.Serve(control)
	}
	return fail(control, err)
}

// fail tells the parent what went wrong, and ends when the parent has let go: a socket
// that is closed with a message unread, which is the next one, takes the answer with it.
func fail(control *pid1.Channel, err error) error {
	if err := control.Send(pid1.Failed(err)); err != nil {
		return err
	}
	for {
		var unread pid1.Serving
		if _, err := control.Receive(&unread); err != nil {
			return nil
		}
	}
}

// enter makes the sandbox around this process, gives up all power on this thread,
// and returns the running program, opened.
func (set *setup) enter() (int, error) {
	unix.Umask(0)
	program, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the running program: %w", err)
	}
	// The parent has moved this process to a group of its own by now, whose name is
	// not to be seen inside: that group becomes the top.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return -1, fmt.Errorf("leave the caller's control groups: %w", err)
	}
	if err := set.makeRoot(); err != nil {
		return -1, err
	}
	if err := set.makeSurroundings(); err != nil {
		return -1, err
	}
	unix.Umask(0o022)
	if err := set.giveUpPower(); err != nil {
		return -1, err
	}
	if set.Off.Has(pid1.Filter) {
		return program, nil
	}
	return program, pid1.LoadFilter()
}

// execute replaces this process by the second stage. The control socket is the
// one descriptor besides standard input, output and error that survives.
//
// The program is named by the link of its descriptor, not given to execveat: syscall.Exec
// alone holds off the runtime, which may be making a thread at any time (sysmon does, where
// a call takes longer than it likes). The kernel refuses a process that is executing a new
// thread (EAGAIN, fs/fork.c, copy_fs), and the runtime, which tries for a fifth of a
// second, then ends the process with a trace: https://go.dev/issue/19546.
func execute(program int) error {
	path := "/proc/self/fd/" + strconv.Itoa(program)
	// What is absent below has to be the loader.
	if err := unix.Access(path, unix.F_OK); err != nil {
		return fmt.Errorf("find the running program: %v", err)
	}
	if _, err := unix.FcntlInt(controlFD, unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("keep the control socket: %w", err)
	}
	err := syscall.Exec(path, []string{secondStage}, stageEnv)
	if _, err := unix.FcntlInt(controlFD, unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return fmt.Errorf("keep the control socket to this process: %w", err)
	}
	return fmt.Errorf("execute the sandbox's first process: %w", err)
}
