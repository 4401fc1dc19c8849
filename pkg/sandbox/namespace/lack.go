package namespace

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// lackOf adds to an error what was done, and where the machine refused it, turns
// it into a *sandbox.Lack. A nil error stays nil.
func lackOf(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	doing = fmt.Sprintf(doing, args...)
	what := doing + ": " + err.Error()
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return errors.New(what)
	}
	switch errno {
	case unix.EPERM, unix.EACCES, unix.ENOSYS, unix.ENODEV:
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
	lack := &sandbox.Lack{What: what}
	switch {
	case read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		lack.What += " (kernel.apparmor_restrict_unprivileged_userns = 1)"
		lack.Fix = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
	case strings.Contains(what, "overlay") && errno == unix.ENODEV:
		lack.Fix = "modprobe overlay"
	case strings.Contains(what, "overlay"):
		lack.Fix = "Linux 5.12 or newer is needed; this is " + kernel()
	case strings.Contains(what, "/proc"):
		lack.Fix = "in a container, start it with --security-opt systempaths=unconfined"
	default:
		lack.Fix = inContainer
	}
	return lack
}

const inContainer = "in a container, allow namespaces in it: --security-opt seccomp=unconfined --security-opt apparmor=unconfined"

// noNamespaces says why the kernel refused to start a process in namespaces of
// its own, by the setting where there is one.
func noNamespaces(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	if l := setting(errno); l != nil {
		return l
	}
	switch errno {
	case unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOSYS:
		return &sandbox.Lack{What: "new namespaces are refused here: " + errno.Error(), Fix: inContainer}
	case unix.ENOSPC:
		return &sandbox.Lack{What: "no namespace is left: a limit of user.max_*_namespaces, here or in a namespace around this one, is reached", Fix: "sysctl user"}
	}
	return fmt.Errorf("start the sandbox's first process: %w", err)
}

// setting finds the kernel setting that keeps namespaces off.
func setting(errno unix.Errno) *sandbox.Lack {
	if os.Geteuid() != 0 && read("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
		return &sandbox.Lack{
			What: "ordinary users may not make user namespaces (kernel.unprivileged_userns_clone = 0)",
			Fix:  "sysctl -w kernel.unprivileged_userns_clone=1",
		}
	}
	if errno != unix.ENOSPC && errno != unix.EUSERS {
		return nil
	}
	for _, kind := range namespaceKinds {
		name := "max_" + kind + "_namespaces"
		if read("/proc/sys/user/"+name) == "0" {
			return &sandbox.Lack{
				What: fmt.Sprintf("%s namespaces are off (user.%s = 0)", kind, name),
				Fix:  "sysctl -w user." + name + "=10000",
			}
		}
	}
	return nil
}

// read gives a setting, or "" where there is none.
func read(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// kernel is the running kernel's release, e.g. "6.1.0-28-amd64".
func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// since tells whether a kernel's release, e.g. "6.1.0-28-amd64", is a version or a later
// one. What can't be read is none.
func since(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a > major || a == major && b >= minor
}
