package pid1

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Serving is the first message to Serve.
type Serving struct {
	// Filter has the system call filter put on first. A backend whose own stage did
	// that leaves it out.
	Filter bool
	// Memory, in bytes, and Processes are watched here; 0 is watched by others.
	Memory    int64
	Processes int
	// Temporary are folders whose file systems are memory too.
	Temporary []string
	Off       Off
}

// Off names defences that are not put up. Only tests have any: they show with it that
// it is the defence which stops an attempt. No backend has an exported field that
// leads here.
type Off []string

// Has tells whether a defence is off.
func (o Off) Has(defence string) bool { return slices.Contains(o, defence) }

// The defences that this package puts up.
const (
	Filter      = "filter"               // of system calls
	Hidden      = "hidden first process" // PR_SET_DUMPABLE
	NoLeftovers = "end of what is left"  // after each command
	// ClosedDescriptors is the first stage's too, where there is one.
	ClosedDescriptors = "closed descriptors"
	Pipes             = "pipes in place of files" // for standard input, output and error
)

// Serve is what the first process does. It reads what it is to be, says that it is
// ready, and starts the commands it is asked for, one at a time, until the parent
// closes the channel.
func Serve(control *Channel) error {
	var serving Serving
	if _, err := control.Receive(&serving); err != nil {
		return err
	}
	// What whoever started this process left open is not the commands'.
	if !serving.Off.Has(ClosedDescriptors) {
		if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
			return fmt.Errorf("close descriptors on exec: %w", err)
		}
	}
	// Nobody inside may read this process, trace it or open its program, which is
	// a file of the host. The kernel takes the flag back on exec, so it is set
	// here; no command runs yet.
	if !serving.Off.Has(Hidden) {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return fmt.Errorf("hide the first process: %w", err)
		}
	}
	if serving.Filter {
		if err := loadFilterEverywhere(); err != nil {
			return control.Send(Failed(err))
		}
	}
	makeThreads()
	if err := control.Send(&Answer{}); err != nil {
		return err
	}
	type job struct {
		Request
		fds []int
	}
	jobs := make(chan job)
	go func() {
		for {
			var j job
			var err error
			if j.fds, err = control.Receive(&j.Request); err != nil {
				// The parent is gone or has closed the sandbox. The kernel ends
				// every process here together with this one.
				os.Exit(0)
			}
			jobs <- j
		}
	}()
	for j := range jobs {
		if err := control.Send(serving.run(&j.Request, j.fds)); err != nil {
			return err
		}
	}
	return nil
}

// makeThreads has the runtime make the threads that it will need while there still is
// room for them: once the commands have all processes that there may be, a new one is
// refused to this process too, and Go gives up where it gets none.
func makeThreads() {
	const enough = 5 // wait, receive, watch, collect garbage, and one more
	var started sync.WaitGroup
	free := make(chan struct{})
	for range enough {
		started.Add(1)
		go func() {
			// A goroutine that waits with its thread makes the runtime take another one.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started.Done()
			<-free
		}()
	}
	started.Wait()
	close(free)
}

// run runs one command to its end, and ends all that it left running.
func (s *Serving) run(r *Request, fds []int) *Answer {
	if len(fds) != 3 {
		closeAll(fds)
		return Failed(fmt.Errorf("internal error: %d descriptors came with a command", len(fds)))
	}
	before := unrouted()
	pid, err := r.start(fds)
	closeAll(fds)
	if err != nil {
		return Failed(err)
	}
	w := watch{memory: s.Memory, processes: s.Processes, folders: s.Temporary}
	stop, reached := make(chan struct{}), make(chan string, 1)
	go func() { reached <- w.run(stop) }()
	status, err := waitFor(pid)
	close(stop)
	a := &Answer{Status: status, Limit: <-reached, Unrouted: unrouted() - before}
	if err != nil {
		return Failed(err)
	}
	if s.Off.Has(NoLeftovers) {
		return a
	}
	// A process that forks while it is being killed leaves no child: the kernel
	// checks for the signal when it links the child in. So once is enough.
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return Failed(fmt.Errorf("end what %s left running: %w", r.Argv[0], err))
	}
	if _, err := waitFor(-1); err != nil {
		return Failed(err)
	}
	return a
}

func (r *Request) start(fds []int) (int, error) {
	if len(r.Argv) == 0 {
		return 0, fmt.Errorf("a command of no words")
	}
	var dir unix.Stat_t
	if err := unix.Stat(r.Dir, &dir); err != nil {
		return 0, fmt.Errorf("working folder %s: %w", r.Dir, err)
	}
	if dir.Mode&unix.S_IFMT != unix.S_IFDIR {
		return 0, fmt.Errorf("working folder %s: %w", r.Dir, unix.ENOTDIR)
	}
	attr := syscall.ProcAttr{
		Dir: r.Dir, Env: r.Env, Files: []uintptr{uintptr(fds[0]), uintptr(fds[1]), uintptr(fds[2])},
		// A terminal controls a session at most; when it has one outside, the
		// command does without job control.
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: r.Terminal},
	}
	pid, err := syscall.ForkExec(r.Argv[0], r.Argv, &attr)
	if err == syscall.EPERM && r.Terminal {
		attr.Sys.Setctty = false
		pid, err = syscall.ForkExec(r.Argv[0], r.Argv, &attr)
	}
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", r.Argv[0], err)
	}
	return pid, nil
}

// waitFor reaps children until pid was one of them; with -1, until none is left.
func waitFor(pid int) (syscall.WaitStatus, error) {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case err == syscall.EINTR:
		case err == syscall.ECHILD && pid == -1:
			return 0, nil
		case err != nil:
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		case got == pid:
			return status, nil
		}
	}
}
