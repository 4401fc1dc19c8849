package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func result(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// call makes a system call whose arguments are wrong, so that it changes nothing
// even where it is allowed: what comes back tells who refused it.
func call(nr uintptr, args ...uintptr) func() error {
	var a [6]uintptr
	copy(a[:], args)
	return func() error {
		_, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		return result(errno)
	}
}

const none = ^uintptr(0) // -1: no descriptor, no address

// attempts are what commands must not be able to do.
var attempts = map[string]func() error{
	"mount":             func() error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") },
	"umount2":           call(unix.SYS_UMOUNT2, none, 0),
	"pivot_root":        call(unix.SYS_PIVOT_ROOT, none, none),
	"move_mount":        call(unix.SYS_MOVE_MOUNT, none, none, none, none, 0),
	"open_tree":         call(unix.SYS_OPEN_TREE, none, none, 0),
	"open_tree_attr":    call(unix.SYS_OPEN_TREE_ATTR, none, none, 0, 0, 0),
	"fsopen":            call(unix.SYS_FSOPEN, none, 0),
	"fsconfig":          call(unix.SYS_FSCONFIG, none, 0, 0, 0, 0),
	"fsmount":           call(unix.SYS_FSMOUNT, none, 0, 0),
	"fspick":            call(unix.SYS_FSPICK, none, none, 0),
	"mount_setattr":     call(unix.SYS_MOUNT_SETATTR, none, none, 0, none, 32),
	"unshare":           call(unix.SYS_UNSHARE, unix.CLONE_FS),
	"setns":             call(unix.SYS_SETNS, none, 0),
	"keyctl":            call(unix.SYS_KEYCTL, 0xffff),
	"add_key":           call(unix.SYS_ADD_KEY, none, none, 0, 0, 0),
	"request_key":       call(unix.SYS_REQUEST_KEY, none, none, 0, 0),
	"bpf":               call(unix.SYS_BPF, 0xffff, none, 8),
	"perf_event_open":   call(unix.SYS_PERF_EVENT_OPEN, none, 0, 0, none, 0),
	"userfaultfd":       call(unix.SYS_USERFAULTFD, 0xffff),
	"io_uring_setup":    call(unix.SYS_IO_URING_SETUP, 1, none),
	"io_uring_enter":    call(unix.SYS_IO_URING_ENTER, none, 0, 0, 0, 0, 0),
	"io_uring_register": call(unix.SYS_IO_URING_REGISTER, none, 0, 0, 0),
	"init_module":       call(unix.SYS_INIT_MODULE, none, 0, none),
	"finit_module":      call(unix.SYS_FINIT_MODULE, none, none, 0),
	"delete_module":     call(unix.SYS_DELETE_MODULE, none, 0),
	"kexec_load":        call(unix.SYS_KEXEC_LOAD, 0, 0, 0, none),
	"kexec_file_load":   call(unix.SYS_KEXEC_FILE_LOAD, none, none, 0, 0, none),
	"reboot":            call(unix.SYS_REBOOT, 0, 0, 0, 0),
	"swapon":            call(unix.SYS_SWAPON, none, 0),
	"swapoff":           call(unix.SYS_SWAPOFF, none),
	"settimeofday":      call(unix.SYS_SETTIMEOFDAY, none, 0),
	"clock_settime":     call(unix.SYS_CLOCK_SETTIME, none, none),
	"adjtimex":          call(unix.SYS_ADJTIMEX, none),
	"open_by_handle_at": call(unix.SYS_OPEN_BY_HANDLE_AT, none, none, 0),
	"name_to_handle_at": call(unix.SYS_NAME_TO_HANDLE_AT, none, none, none, none, 0),
	"quotactl":          call(unix.SYS_QUOTACTL, 0xffff, none, 0, 0),
	"acct":              call(unix.SYS_ACCT, none),
	"syslog":            call(unix.SYS_SYSLOG, 10, 0, 0),
	"process_vm_readv":  call(unix.SYS_PROCESS_VM_READV, none, 0, 0, 0, 0, 1),
	"process_vm_writev": call(unix.SYS_PROCESS_VM_WRITEV, none, 0, 0, 0, 0, 1),
	"clone3":            call(unix.SYS_CLONE3, none, 0),
	"future":            call(9999),

	// An own session's terminal: without the filter both spellings of the request
	// put a byte into its input.
	"tiocsti":      func() error { return pushInput(unix.TIOCSTI) },
	"tiocsti-high": func() error { return pushInput(unix.TIOCSTI | 1<<32) },
	"tioclinux":    func() error { return pushInput(unix.TIOCLINUX | 1<<32) },

	"clone-user":  func() error { return clone(unix.CLONE_NEWUSER) },
	"clone-net":   func() error { return clone(unix.CLONE_NEWNET) },
	"clone-plain": func() error { return clone(0) },

	"vsock":  socket(unix.AF_VSOCK, unix.SOCK_STREAM),
	"alg":    socket(unix.AF_ALG, unix.SOCK_SEQPACKET),
	"packet": socket(unix.AF_PACKET, unix.SOCK_RAW),
	"inet":   socket(unix.AF_INET, unix.SOCK_STREAM),
	"unix":   socket(unix.AF_UNIX, unix.SOCK_STREAM),
	// The kernel takes an int: the upper half must not hide a family.
	"vsock-high": func() error {
		_, _, errno := unix.RawSyscall(unix.SYS_SOCKET, 1<<32|unix.AF_VSOCK, unix.SOCK_STREAM, 0)
		return result(errno)
	},

	"trace-first": func() error { return trace(1) },
	"trace-own":   traceOwn,
	"chown": func() error {
		const name = "chown-me"
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			return err
		}
		return os.Chown(name, 1234, -1)
	},
	"mknod":    func() error { return unix.Mknod("/tmp/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
	"sethost":  func() error { return unix.Sethostname([]byte("other")) },
	"chroot":   func() error { return unix.Chroot("/") },
	"setuid":   func() error { return syscall.Setuid(1) },
	"rawsock":  socket(unix.AF_INET, unix.SOCK_RAW),
	"low-port": lowPort,
	// Is standard input the terminal of this session?
	"terminal": func() error {
		_, err := unix.IoctlGetInt(0, unix.TIOCGSID)
		return err
	},
}

func socket(family, kind int) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

func lowPort() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}})
}

// pushInput makes a terminal, which becomes the session's own, and asks for one byte.
func pushInput(request uintptr) error {
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open /dev/ptmx: %w", err)
	}
	if err := unix.IoctlSetPointerInt(m, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	n, err := unix.IoctlGetInt(m, unix.TIOCGPTN)
	if err != nil {
		return fmt.Errorf("number: %w", err)
	}
	s, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open terminal: %w", err)
	}
	b := [1]byte{'x'}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), request, uintptr(unsafe.Pointer(&b)))
	return result(errno)
}

// clone starts this program once more with flags of clone.
func clone(flags uintptr) error {
	c := exec.Command("/proc/self/exe", "exit", "0")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	return c.Run()
}

func trace(pid int) error {
	runtime.LockOSThread()
	return unix.PtraceSeize(pid)
}

func traceOwn() error {
	c := exec.Command("/proc/self/exe", "sleep")
	if err := c.Start(); err != nil {
		return err
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	return trace(c.Process.Pid)
}
