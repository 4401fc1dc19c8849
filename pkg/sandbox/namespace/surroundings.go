package namespace

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeSurroundings settles what is not a file: names, network, limits, signals.
// The root is the new one already.
func (set *setup) makeSurroundings() error {
	if err := unix.Sethostname([]byte(set.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := unix.Setdomainname([]byte("(none)")); err != nil {
		return fmt.Errorf("set domain name: %w", err)
	}
	if !set.Network && !set.Off.Has(networkNamespace) {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("start loopback: %w", err)
		}
		// There is nobody whose ports were to be protected.
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0); err != nil {
			return fmt.Errorf("open low ports: %w", err)
		}
	}
	if err := set.setLimits(); err != nil {
		return err
	}
	if err := set.settleProc(); err != nil {
		return err
	}
	if len(set.CPUs) > 0 {
		if err := set.chooseProcessors(); err != nil {
			return err
		}
	}
	return resetSignals()
}

func (set *setup) chooseProcessors() error {
	var cpus unix.CPUSet
	for _, n := range set.CPUs {
		cpus.Set(n)
	}
	if err := unix.SchedSetaffinity(0, &cpus); err != nil {
		return fmt.Errorf("choose processors: %w", err)
	}
	return nil
}

// settleProc covers what of /proc is not for commands, and has this namespace make
// no further ones: a second belt to the filter. Those settings come last, for every
// mount that stands nowhere yet is in a namespace too.
func (set *setup) settleProc() error {
	var limits []*os.File
	for _, kind := range namespaceKinds {
		if set.Off.Has(namespaceLimits) || set.Off.Has(userNamespace) {
			break // without a user namespace they would be the machine's
		}
		f, err := os.OpenFile("/proc/sys/user/max_"+kind+"_namespaces", os.O_WRONLY, 0)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("refuse further namespaces: %w", err)
		}
		defer f.Close()
		limits = append(limits, f)
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !set.Off.Has(coveredProc) {
		if err := (root{fd: fd}).coverProc(); err != nil {
			return err
		}
	}
	for _, f := range limits {
		if _, err := f.WriteString("0"); err != nil {
			return fmt.Errorf("refuse further namespaces: %w", err)
		}
	}
	return nil
}

// namespaceKinds are the names in /proc/sys/user/max_*_namespaces.
var namespaceKinds = []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
}

const stackSize = 8 << 20 // RLIMIT_STACK, bytes

// spare is how many processes beyond their limit the kernel itself would stop at, so
// that the supervisor, who says what happened, meets its limit first.
func spare(processes int) int { return processes + processes/8 + 64 }

// leastPIDMax is the least that kernel.pid_max can be: RESERVED_PIDS + 1.
const leastPIDMax = 301

// boundProcesses has the kernel stop what makes processes faster than a supervisor
// counts them: pid_max belongs to the namespace since Linux 6.14. Before that it is the
// machine's, and root could write it from in here: the kernel asks for the host's root
// alone, and for no capability.
func (set *setup) boundProcesses() {
	if set.Off.Has(userNamespace) || !since(kernel(), 6, 14) {
		return
	}
	_ = os.WriteFile("/proc/sys/kernel/pid_max", []byte(strconv.Itoa(max(leastPIDMax, spare(set.Limits.Processes)))), 0)
}

// setLimits gives the same limits whatever the caller's shell had: a build must
// not depend on them.
func (set *setup) setLimits() error {
	set.boundProcesses()
	openFiles, largest := uint64(set.Limits.OpenFiles), uint64(unix.RLIM_INFINITY)
	if set.Limits.Disk > 0 {
		largest = uint64(set.Limits.Disk)
	}
	processes := uint64(spare(set.Limits.Processes))
	for _, l := range []struct {
		what int
		soft uint64
		hard uint64
	}{
		{unix.RLIMIT_CORE, 0, 0},
		{unix.RLIMIT_NOFILE, openFiles, openFiles},
		{unix.RLIMIT_STACK, stackSize, unix.RLIM_INFINITY},
		{unix.RLIMIT_CPU, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
		{unix.RLIMIT_FSIZE, largest, largest},
		// Of this namespace's users, but for root of the host, who is above it.
		{unix.RLIMIT_NPROC, processes, processes},
		{unix.RLIMIT_DATA, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
		{unix.RLIMIT_AS, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(l.what, &now); err != nil {
			return fmt.Errorf("read limit %d: %w", l.what, err)
		}
		want := unix.Rlimit{Cur: min(l.soft, l.hard, now.Max), Max: min(l.hard, now.Max)}
		if err := unix.Prlimit(0, l.what, &want, nil); err != nil {
			return fmt.Errorf("set limit %d: %w", l.what, err)
		}
	}
	return nil
}

// resetSignals gives commands the default action for every signal and blocks
// none. Exec keeps what is ignored, e.g. SIGHUP below nohup.
func resetSignals() error {
	var action [4]uint64 // struct sigaction of the kernel: SIG_DFL, no flags, no mask
	const sigsetSize = 8
	for s := 1; s <= 64; s++ {
		if s == int(unix.SIGKILL) || s == int(unix.SIGSTOP) {
			continue
		}
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, sigsetSize, 0, 0); errno != 0 {
			return fmt.Errorf("reset signal %d: %w", s, errno)
		}
	}
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		return fmt.Errorf("unblock signals: %w", err)
	}
	return nil
}
