// Command probe is the one program in the roots of package sandboxtest. It tries
// what commands could try, and prints what happened.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("no command: probe COMMAND [ARGUMENT]"))
	}
	do, ok := commands[os.Args[1]]
	if !ok {
		fail(fmt.Errorf("unknown command %q", os.Args[1]))
	}
	if err := do(os.Args[2:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "probe:", err)
	os.Exit(1)
}

var commands = map[string]func([]string) error{
	"state": state,
	"try":   try,
	"abi":   abi,
	"exit": func(a []string) error {
		n, err := strconv.Atoi(a[0])
		if err != nil {
			return err
		}
		os.Exit(n)
		return nil
	},
	"signal": func(a []string) error {
		n, err := strconv.Atoi(a[0])
		if err != nil {
			return err
		}
		signal.Reset()
		if err := unix.Kill(os.Getpid(), unix.Signal(n)); err != nil {
			return err
		}
		select {}
	},
	"args": func(a []string) error { return json.NewEncoder(os.Stdout).Encode(a) },
	"environ": func([]string) error {
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
		return nil
	},
	// echo copies standard input to standard output and counts on standard error.
	"echo": func([]string) error {
		n, err := io.Copy(os.Stdout, os.Stdin)
		fmt.Fprintf(os.Stderr, "%d bytes\n", n)
		return err
	},
	"flood": func(a []string) error {
		n, err := strconv.Atoi(a[0])
		if err != nil {
			return err
		}
		w := bufio.NewWriter(os.Stdout)
		for range n {
			if err := w.WriteByte('x'); err != nil {
				return err
			}
		}
		return w.Flush()
	},
	"read": func(a []string) error {
		data, err := os.ReadFile(a[0])
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(data)
		return err
	},
	"write": func(a []string) error { return os.WriteFile(a[0], []byte(a[1]), 0o644) },
	"list": func(a []string) error {
		entries, err := os.ReadDir(a[0])
		for _, e := range entries {
			fmt.Println(e.Name())
		}
		return err
	},
	"link": func(a []string) error {
		to, err := os.Readlink(a[0])
		fmt.Println(to)
		return err
	},
	"link-error": func(a []string) error {
		to, err := os.Readlink(a[0])
		fmt.Fprintln(os.Stderr, to)
		return err
	},
	"touch-all": touchAll,
	"sleep":     func([]string) error { return sleep() },
	// sleepers starts processes that wait, says so, and waits itself.
	"sleepers": func(a []string) error {
		if err := background(3, a[0]); err != nil {
			return err
		}
		fmt.Println("ready")
		return sleep()
	},
	// daemon leaves processes behind that hold its standard output.
	"daemon":    func(a []string) error { return background(3, a[0]) },
	"processes": processes,
	"eat":       eat,
	"fork":      forkMany,
	"ignore":    ignore,
	"grow":      grow,
	"open":      openMany,
	"fill-all":  fillAll,
	"loopback":  loopback,
	"silent":    silent,
	"dial": func(a []string) error {
		c, err := net.DialTimeout(a[0], a[1], 10*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	},
}

func sleep() error {
	for {
		time.Sleep(time.Hour)
	}
}

// background starts processes in sessions of their own that ignore what they can.
func background(n int, mark string) error {
	for range n {
		c := exec.Command("/proc/self/exe", "sleep", mark)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
		if err := c.Start(); err != nil {
			return err
		}
	}
	return nil
}

func processes([]string) error {
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			fmt.Println(e.Name())
		}
	}
	return err
}

// loopback listens and connects on both families.
// silent runs the probe with the arguments, says nothing of it, and fails.
func silent(a []string) error {
	_ = exec.Command("/proc/self/exe", a...).Run()
	os.Exit(1)
	return nil
}

func loopback([]string) error {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		c.Close()
		l.Close()
	}
	return nil
}

// touchAll tries to change every file and folder below, and counts successes.
func touchAll(a []string) error {
	changed := 0
	err := filepath.WalkDir(a[0], func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (name == "/proc" || name == "/dev" || name == "/tmp" || name == "/run" || name == "/var/tmp" || name == "/home/build") {
			return filepath.SkipDir
		}
		for _, change := range []func() error{
			func() error { return os.Chmod(name, 0o700) },
			func() error { return os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)) },
			func() error { return os.WriteFile(name, []byte("changed"), 0o644) },
			func() error { return os.WriteFile(filepath.Join(name, "new"), nil, 0o644) },
			func() error { return os.Rename(name, name+".moved") },
			func() error { return unix.Setxattr(name, "user.tarn", []byte("x"), 0) },
		} {
			if change() == nil {
				changed++
			}
		}
		return nil
	})
	fmt.Println(changed)
	return err
}

// try prints a line for each attempt: its name and the errno's, or "ok".
func try(names []string) error {
	if len(names) == 0 {
		for name := range attempts {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	for _, name := range names {
		attempt, ok := attempts[name]
		if !ok {
			return fmt.Errorf("unknown attempt %q", name)
		}
		fmt.Println(name, say(attempt()))
	}
	return nil
}

func say(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// abi calls by an interface that is not this program's own.
func abi(a []string) error {
	f, ok := interfaces[a[0]]
	if !ok {
		return fmt.Errorf("unknown interface %q", a[0])
	}
	fmt.Println(say(f()))
	return nil
}

// State is what a process sees of itself; package sandboxtest reads it.
type State struct {
	UID, GID, EUID, PID, PPID, SID int
	Groups                         []int
	Umask                          int
	Dir, Hostname                  string
	CPUs                           int
	Zone                           string
	Status                         map[string]string // of /proc/self/status
	Open                           map[int]string    // descriptors above 2 when the program started
	Addresses                      []string
	Interfaces                     []string
	Limits                         map[string][2]uint64
}

func state([]string) error {
	s := State{Open: openFiles(), Status: map[string]string{}, Limits: map[string][2]uint64{}}
	s.UID, s.GID, s.EUID, s.PID, s.PPID = os.Getuid(), os.Getgid(), os.Geteuid(), os.Getpid(), os.Getppid()
	s.Umask = unix.Umask(0)
	var err error
	if s.SID, err = unix.Getsid(0); err != nil {
		return err
	}
	if s.Groups, err = os.Getgroups(); err != nil {
		return err
	}
	if s.Dir, err = os.Getwd(); err != nil {
		return err
	}
	if s.Hostname, err = os.Hostname(); err != nil {
		return err
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return err
	}
	s.CPUs = set.Count()
	s.Zone, _ = time.Now().Zone()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		s.Status[name] = strings.TrimSpace(value)
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		s.Interfaces = append(s.Interfaces, i.Name)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, a.String())
	}
	for name, what := range map[string]int{"core": unix.RLIMIT_CORE, "stack": unix.RLIMIT_STACK, "nofile": unix.RLIMIT_NOFILE} {
		var l unix.Rlimit
		if err := unix.Getrlimit(what, &l); err != nil {
			return err
		}
		s.Limits[name] = [2]uint64{l.Cur, l.Max}
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// openFiles looks before anything else is opened by this program.
func openFiles() map[int]string {
	open := map[int]string{}
	for fd := 3; fd < 4096; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			to, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			open[fd] = to
		}
	}
	return open
}
