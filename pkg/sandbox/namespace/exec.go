package namespace

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stageEnv is the environment of the stages; commands have none of it. One
// processor is enough for a process that waits.
var stageEnv = []string{"GOMAXPROCS=1"}

// execveat executes an open file. It returns only when that is impossible.
func execveat(fd int, empty *byte, argv, env []*byte) syscall.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	return errno
}
