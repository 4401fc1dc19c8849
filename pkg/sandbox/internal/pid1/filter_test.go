package pid1

import (
	"encoding/binary"
	"runtime"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// judge runs the filter on one call. The interpreter reads words in network order,
// so each word of struct seccomp_data is laid out that way.
func judge(t testing.TB, arch, number uint32, args ...uint64) uint32 {
	t.Helper()
	program := filter()
	raw := make([]bpf.RawInstruction, len(program))
	for i, f := range program {
		raw[i] = bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the filter has instructions that the interpreter does not know")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[offNumber:], number)
	binary.BigEndian.PutUint32(data[offArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[offArgument+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[offArgument+8*i+4:], uint32(a>>32))
	}
	result, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(result)
}

func TestFilter(t *testing.T) {
	const high = 0xdeadbeef << 32
	eperm, enosys, family := refuse(unix.EPERM), refuse(unix.ENOSYS), refuse(unix.EAFNOSUPPORT)
	for _, c := range []struct {
		name   string
		number uint32
		args   []uint64
		want   uint32
	}{
		{"read", unix.SYS_READ, nil, allow},
		{"execve", unix.SYS_EXECVE, nil, allow},
		{"openat2", unix.SYS_OPENAT2, nil, allow},
		{"ptrace", unix.SYS_PTRACE, nil, allow},
		{"mount", unix.SYS_MOUNT, nil, eperm},
		{"setns", unix.SYS_SETNS, nil, eperm},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, nil, eperm},
		{"clone3", unix.SYS_CLONE3, nil, enosys},
		{"the newest", newest, nil, eperm},
		{"one that is newer", newest + 1, nil, enosys},
		{"one that is much newer", 0x3fffffff, nil, enosys},
		{"one that a tracer skips", noNumber, nil, allow},
		{"clone of a thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND}, allow},
		{"clone with vfork", unix.SYS_CLONE, []uint64{unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD)}, allow},
		{"clone into a user namespace", unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER}, eperm},
		{"clone into a network namespace among others", unix.SYS_CLONE, []uint64{unix.CLONE_NEWNET | unix.CLONE_VM}, eperm},
		{"clone with bits above", unix.SYS_CLONE, []uint64{unix.CLONE_NEWNS | high}, eperm},
		{"clone with nothing but bits above", unix.SYS_CLONE, []uint64{unix.CLONE_NEWNS << 32}, allow},
		{"ioctl", unix.SYS_IOCTL, []uint64{0, unix.TCGETS}, allow},
		{"TIOCSTI", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, eperm},
		{"TIOCSTI with bits above", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI | high}, eperm},
		{"TIOCLINUX with bits above", unix.SYS_IOCTL, []uint64{0, unix.TIOCLINUX | high}, eperm},
		{"TIOCSTI as another argument", unix.SYS_IOCTL, []uint64{unix.TIOCSTI, unix.TCGETS}, allow},
		{"socket AF_UNIX", unix.SYS_SOCKET, []uint64{unix.AF_UNIX}, allow},
		{"socket AF_INET6", unix.SYS_SOCKET, []uint64{unix.AF_INET6}, allow},
		{"socket AF_VSOCK", unix.SYS_SOCKET, []uint64{unix.AF_VSOCK}, family},
		{"socket AF_VSOCK with bits above", unix.SYS_SOCKET, []uint64{unix.AF_VSOCK | high}, family},
		{"socketpair AF_TIPC", unix.SYS_SOCKETPAIR, []uint64{unix.AF_TIPC}, family},
	} {
		if got := judge(t, auditArch, c.number, c.args...); got != c.want {
			t.Errorf("%s: got %#x, want %#x", c.name, got, c.want)
		}
	}
	for _, arch := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, 0, ^uint32(0)} {
		if got := judge(t, arch, unix.SYS_READ); got != kill {
			t.Errorf("architecture %#x: got %#x, want that it kills", arch, got)
		}
	}
	if runtime.GOARCH == "amd64" {
		for _, number := range []uint32{0x40000000, 0x40000000 | unix.SYS_READ, 0xfffffffe} {
			if got := judge(t, auditArch, number); got != kill {
				t.Errorf("x32 call %#x: got %#x, want that it kills", number, got)
			}
		}
	}
}

// FuzzFilter holds what is so for every call: another architecture kills, the
// upper halves of arguments change nothing, and what is unknown is not let through.
func FuzzFilter(f *testing.F) {
	f.Add(uint32(auditArch), uint32(unix.SYS_IOCTL), uint64(0), uint64(unix.TIOCSTI))
	f.Add(uint32(auditArch), uint32(unix.SYS_CLONE), uint64(unix.CLONE_NEWUSER), uint64(0))
	f.Add(uint32(unix.AUDIT_ARCH_I386), uint32(20), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, arch, number uint32, a, b uint64) {
		got := judge(t, arch, number, a, b)
		switch {
		case arch != auditArch:
			if got != kill {
				t.Errorf("architecture %#x: got %#x", arch, got)
			}
			return
		case number > newest && number != noNumber && got == allow:
			t.Errorf("call %d is unknown and allowed", number)
		}
		for _, high := range []uint64{0, 1 << 32, 0xffffffff << 32} {
			if again := judge(t, arch, number, a&0xffffffff|high, b&0xffffffff|high); again != got {
				t.Errorf("call %d (%#x, %#x): got %#x, with upper halves %#x %#x", number, a, b, got, high, again)
			}
		}
	})
}
