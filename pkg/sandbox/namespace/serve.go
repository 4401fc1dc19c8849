package namespace

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// serve is the second stage: PID 1 of the sandbox, without any power. It starts
// the commands it is asked for, one at a time, and adopts what they leave.
func serve(control *channel) error {
	// Nobody inside may read this process, trace it or open its program, which is
	// a file of the host. The kernel takes the flag back on exec, so it is set
	// here; no command runs yet.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide the first process: %w", err)
	}
	if err := control.send(&answer{}); err != nil {
		return err
	}
	type job struct {
		request
		fds []int
	}
	jobs := make(chan job)
	go func() {
		for {
			var j job
			var err error
			if j.fds, err = control.receive(&j.request); err != nil {
				// The parent is gone or has closed the sandbox. The kernel ends
				// every process here together with this one.
				os.Exit(0)
			}
			jobs <- j
		}
	}()
	for j := range jobs {
		if err := control.send(j.run(j.fds)); err != nil {
			return err
		}
	}
	return nil
}

// run runs one command to its end, and ends all that it left running.
func (r *request) run(fds []int) *answer {
	if len(fds) != 3 {
		closeAll(fds)
		return failed(fmt.Errorf("internal error: %d descriptors came with a command", len(fds)))
	}
	pid, err := r.start(fds)
	closeAll(fds)
	if err != nil {
		return failed(err)
	}
	status, err := waitFor(pid)
	if err != nil {
		return failed(err)
	}
	// A process that forks while it is being killed leaves no child: the kernel
	// checks for the signal when it links the child in. So once is enough.
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return failed(fmt.Errorf("end what %s left running: %w", r.Argv[0], err))
	}
	if _, err := waitFor(-1); err != nil {
		return failed(err)
	}
	return &answer{Status: status}
}

func (r *request) start(fds []int) (int, error) {
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
