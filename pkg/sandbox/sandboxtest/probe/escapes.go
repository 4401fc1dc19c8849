package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// escapes are ways out that take more than one call.
var escapes = map[string]func(a []string) error{
	"symlink":  func(a []string) error { return os.Symlink(a[0], a[1]) },
	"hardlink": func(a []string) error { return os.Link(a[0], a[1]) },
	"copy": func(a []string) error {
		data, err := os.ReadFile(a[0])
		if err != nil {
			return err
		}
		return os.WriteFile(a[1], data, 0o644)
	},
	// below-descriptor reads a file below a folder that was left open.
	"below-descriptor": func(a []string) error {
		for fd := 3; fd < 4096; fd++ {
			f, err := unix.Openat(fd, a[0], unix.O_RDONLY, 0)
			if err != nil {
				continue
			}
			return show(f)
		}
		return unix.EBADF
	},
	// chroot-twice climbs out of a root that is nothing but a root: chroot(2), notes.
	"chroot-twice": func(a []string) error {
		outer, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		if err := os.Mkdir("/tmp/root", 0o755); err != nil {
			return err
		}
		if err := unix.Chroot("/tmp/root"); err != nil {
			return err
		}
		if err := unix.Fchdir(outer); err != nil {
			return err
		}
		for range 100 {
			if err := unix.Chdir(".."); err != nil {
				return err
			}
		}
		if err := unix.Chroot("."); err != nil {
			return err
		}
		f, err := unix.Open(a[0], unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return show(f)
	},
	// shared-memory reads a System V segment that the host has under a key.
	"shared-memory": func(a []string) error {
		key, err := strconv.Atoi(a[0])
		if err != nil {
			return err
		}
		id, err := unix.SysvShmGet(key, 16, 0)
		if err != nil {
			return err
		}
		memory, err := unix.SysvShmAttach(id, 0, 0)
		if err != nil {
			return err
		}
		fmt.Println(strings.TrimRight(string(memory), "\x00"))
		return unix.SysvShmDetach(memory)
	},
	// by-handle opens the top folder of the file system that the work folder lies on,
	// by its number: 2 on ext4.
	"by-handle": func(a []string) error {
		dir, err := unix.Open(a[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		const inodeAndGeneration = 1 // FILEID_INO32_GEN, linux/exportfs.h
		number := binary.NativeEndian.AppendUint32(nil, 2)
		_, err = unix.OpenByHandleAt(dir, unix.NewFileHandle(inodeAndGeneration, append(number, 0, 0, 0, 0)), unix.O_RDONLY)
		return err
	},
	// uncover takes away what lies over a file of /proc, and reads the file.
	"uncover": func(a []string) error {
		if err := unix.Unmount(a[0], unix.MNT_DETACH); err != nil {
			return err
		}
		data, err := os.ReadFile(a[0])
		if err == nil && len(data) == 0 {
			err = errors.New("nothing to read")
		}
		return err
	},
	// remount makes a read-only mount writable, and writes.
	"remount": func(a []string) error {
		if err := unix.Mount("", a[0], "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
			return err
		}
		return os.WriteFile(a[0]+"/written", nil, 0o644)
	},
}

func init() {
	for name, do := range escapes {
		commands[name] = do
	}
	for name, try := range map[string]func() error{
		"first-memory":     firstMemory,
		"steal-control":    stealControl,
		"read-first":       readFirst,
		"clone3-user":      clone3User,
		"own-overlay":      ownOverlay,
		"push-stdin":       func() error { return push(unix.TIOCSTI) },
		"push-stdin-high":  func() error { return push(unix.TIOCSTI | 1<<32) },
		"key":              addKey,
		"io_uring":         ioUring,
		"userfaultfd-mine": func() error { _, _, e := unix.RawSyscall(unix.SYS_USERFAULTFD, 1, 0, 0); return result(e) }, // UFFD_USER_MODE_ONLY
		"perf":             perf,
		"bpf-map":          bpfMap,
		"mknod-here":       func() error { return unix.Mknod("device", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
	} {
		attempts[name] = try
	}
}

func show(fd int) error {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil {
		return err
	}
	_, err := os.Stdout.Write(b.Bytes())
	return err
}

// firstMemory opens the memory of the first process for writing.
func firstMemory() error {
	f, err := os.OpenFile("/proc/1/mem", os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return err
}

// stealControl takes the first process's end of the channel to the program outside.
func stealControl() error {
	first, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(first, 3, 0)
	return err
}

// readFirst reads the first process's memory at the first address that it has.
func readFirst() error {
	maps, err := os.ReadFile("/proc/1/maps")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(maps), "-")
	address, err := strconv.ParseUint(first, 16, 64)
	if err != nil {
		return err
	}
	b := make([]byte, 4)
	local := []unix.Iovec{{Base: &b[0], Len: 4}}
	_, err = unix.ProcessVMReadv(1, local, []unix.RemoteIovec{{Base: uintptr(address), Len: 4}}, 0)
	return err
}

// clone3User makes a child in a user namespace by the call whose flags no filter sees.
func clone3User() error {
	arguments := [11]uint64{0: unix.CLONE_NEWUSER, 4: uint64(unix.SIGCHLD)} // struct clone_args
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&arguments)), unsafe.Sizeof(arguments), 0)
	if errno == 0 && pid == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return result(errno)
}

// ownOverlay mounts an overlay of its own choice, as several ways into the kernel begin.
func ownOverlay() error {
	for _, dir := range []string{"/tmp/u", "/tmp/w", "/tmp/m"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return unix.Mount("overlay", "/tmp/m", "overlay", 0, "lowerdir=/usr,upperdir=/tmp/u,workdir=/tmp/w,userxattr")
}

// push puts a byte into the input of the terminal on standard input.
func push(request uintptr) error {
	b := [1]byte{'x'}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, 0, request, uintptr(unsafe.Pointer(&b)))
	return result(errno)
}

// addKey puts a key on a ring of the caller's, which is in no namespace.
func addKey() error {
	_, err := unix.AddKey("user", "tarn-escape", []byte("x"), unix.KEY_SPEC_SESSION_KEYRING)
	return err
}

func ioUring() error {
	var parameters [120]byte // struct io_uring_params
	fd, _, errno := unix.RawSyscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&parameters)), 0)
	if errno == 0 {
		unix.Close(int(fd))
	}
	return result(errno)
}

func perf() error {
	attribute := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: unix.PERF_ATTR_SIZE_VER0, Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}
	fd, err := unix.PerfEventOpen(&attribute, 0, -1, -1, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func bpfMap() error {
	attribute := [4]uint32{2, 4, 4, 1} // BPF_MAP_TYPE_ARRAY: key, value, entries
	const create = 0
	fd, _, errno := unix.RawSyscall(unix.SYS_BPF, create, uintptr(unsafe.Pointer(&attribute)), unsafe.Sizeof(attribute))
	if errno == 0 {
		unix.Close(int(fd))
	}
	return result(errno)
}
