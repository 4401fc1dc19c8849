package pid1

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system call filter is a list of what is refused. A build runs compilers,
// test suites and interpreters of all kinds, and an exact list of what these may
// call would be wrong somewhere every month; the list of what reaches past a
// namespace is short and grows rarely. What is newer than the list is answered
// with ENOSYS, as an older kernel would: programs know how to live with that, and
// a call that does what a refused one does (clone3, open_tree_attr) is no way in.
//
// Offsets and constants are those of seccomp(2) and linux/seccomp.h.

// Offsets in struct seccomp_data. An argument is 64 bits, the lower half first on
// both machines that we know.
const (
	offNumber   = 0
	offArch     = 4
	offArgument = 16
)

// newest is the last system call that the list was made with (Linux 6.18); from
// 424 on, numbers are the same on all machines.
const newest = unix.SYS_LISTNS

// noNumber is what a tracer writes to have a call skipped.
const noNumber = 0xffffffff

const (
	allow = unix.SECCOMP_RET_ALLOW
	kill  = unix.SECCOMP_RET_KILL_PROCESS
)

func refuse(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// newNamespaces are the flags of clone that make a namespace. CLONE_NEWTIME is
// not among them: in this call its bit belongs to the signal number.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// refusedCalls are answered with EPERM.
var refusedCalls = append([]uint32{
	// Mounts and namespaces.
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
	unix.SYS_OPEN_TREE_ATTR, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_MOUNT_SETATTR, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_LISTNS,
	// Keys of the caller's session belong to no namespace.
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	// Programs and queues inside the kernel: large, and past this filter.
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	// The machine itself.
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	unix.SYS_SYSLOG, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME,
	unix.SYS_NFSSERVCTL, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_VHANGUP,
	// Files by number, past the folders that lead to them.
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	// Another process's memory without tracing it. Tracing itself (gdb, strace,
	// sanitizers in test suites) stays: the first process can't be traced, and
	// all others belong to the build.
	unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP,
}, refusedHere...)

// refusedRequests are those of ioctl that write into a terminal's input, or give
// it to a driver of their choice.
var refusedRequests = []uint32{unix.TIOCSTI, unix.TIOCLINUX, unix.TIOCSETD}

// families are the kinds of sockets there are. Others are not held by a network
// namespace (AF_VSOCK reaches the machine that this one is a guest of) or are a
// way into rarely used parts of the kernel (AF_ALG, AF_TIPC, AF_RDS, ...).
var families = []uint32{unix.AF_UNSPEC, unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// jump goes on yes or no instructions further.
func jump(test uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func give(result uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: result}
}

// filter is the program, in the order in which it is read.
func filter() []unix.SockFilter {
	f := []unix.SockFilter{
		// Another machine's calls (32 bits by int 0x80) have other numbers.
		load(offArch), jump(unix.BPF_JEQ, auditArch, 1, 0), give(kill),
		load(offNumber), jump(unix.BPF_JEQ, noNumber, 0, 1), give(allow),
	}
	if x32Bit != 0 {
		f = append(f, jump(unix.BPF_JGE, x32Bit, 0, 1), give(kill))
	}
	f = append(f,
		jump(unix.BPF_JGT, newest, 0, 1), give(refuse(unix.ENOSYS)),
		// The flags of clone3 lie in memory, where a filter does not look.
		// The C libraries go back to clone.
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), give(refuse(unix.ENOSYS)),
	)
	for _, nr := range refusedCalls {
		f = append(f, jump(unix.BPF_JEQ, nr, 0, 1), give(refuse(unix.EPERM)))
	}
	// From here on the kernel looks at the lower half of an argument only, and so
	// does the filter: it compares what will be used.
	f = append(f, jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 4),
		load(offArgument), jump(unix.BPF_JSET, newNamespaces, 0, 1), give(refuse(unix.EPERM)), give(allow))
	f = append(f, onArgument(unix.SYS_IOCTL, 1, refusedRequests, refuse(unix.EPERM), allow)...)
	f = append(f, onArgument(unix.SYS_SOCKET, 0, families, allow, refuse(unix.EAFNOSUPPORT))...)
	f = append(f, onArgument(unix.SYS_SOCKETPAIR, 0, families, allow, refuse(unix.EAFNOSUPPORT))...)
	return append(f, give(allow))
}

// onArgument judges one call by one argument: is it one of values?
func onArgument(call, argument uint32, values []uint32, yes, no uint32) []unix.SockFilter {
	f := []unix.SockFilter{
		jump(unix.BPF_JEQ, call, 0, uint8(2*len(values)+2)),
		load(offArgument + 8*argument),
	}
	for _, v := range values {
		f = append(f, jump(unix.BPF_JEQ, v, 0, 1), give(yes))
	}
	return append(f, give(no))
}

// LoadFilter puts the filter on this thread and all that comes of it, for good.
func LoadFilter() error { return loadFilter(0) }

// loadFilterEverywhere puts it on all threads of this process.
func loadFilterEverywhere() error { return loadFilter(unix.SECCOMP_FILTER_FLAG_TSYNC) }

func loadFilter(flags uintptr) error {
	program := filter()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("load the system call filter: %w", errno)
	}
	return nil
}
