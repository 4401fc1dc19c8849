package sandboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/online"
)

// Run runs the suite over a backend. It skips, by name, where the machine lacks
// what the backend needs, and fails there when the environment has CI=true.
func Run(t *testing.T, b sandbox.Backend) {
	k := newKit(t, b)
	if child(t, k) {
		return
	}
	before := mounts(t)
	for _, p := range []struct {
		promise string
		test    func(*testing.T, *kit)
	}{
		{"network is loopback only", network},
		{"tries to reach a network are counted", reaching},
		{"host files are not there", hostFiles},
		{"surroundings are the same everywhere", surroundings},
		{"user is the one asked for", users},
		{"files may belong to several users where the machine has ids for them", severalUsers},
		{"command gets its arguments, environment and folder", commands},
		{"exit status and signals come back", exits},
		{"input and output", streams},
		{"terminals are handed in", terminals},
		{"root is read-only and work is writable", writing},
		{"root may be writable for a while", writableRoot},
		{"layers", layers},
		{"binds", binds},
		{"links of a layer lead no mount astray", links},
		{"wrong specs are refused", wrongSpecs},
		{"time limit ends everything", timeLimit},
		{"cancelling ends everything", cancelling},
		{"what a command leaves running ends with it", leftovers},
		{"many at once", many},
		{"nothing outlives close", closing},
		{"nothing outlives a killed parent", killedParent},
		{"nothing outlives a parent killed at any moment", killedAnywhere},
		{"descriptors do not leak", descriptorLeaks},
		{"commands have no power", power},
		{"capabilities are those asked for", capabilities},
		{"system calls are refused", refusals},
		{"other interfaces to the kernel kill", otherInterfaces},
		{"setuid files have no effect", setuid},
		{"proc shows the sandbox only", proc},
		{"first process can't be reached", firstProcess},
		{"processors are as many as asked for", processors},
		{"limits are kept and named", limits},
		{"limits have defaults", limitDefaults},
		{"settings of the machine stay as they are", machineSettings},
		{"host's network only when asked for", hostNetwork},
	} {
		t.Run(p.promise, func(t *testing.T) { p.test(t, k) })
	}
	sameMounts(t, before)
}

func network(t *testing.T, k *kit) {
	o := k.open(t, sandbox.Spec{})
	s := o.state(sandbox.Command{})
	if want := []string{"lo"}; !slices.Equal(s.Interfaces, want) {
		t.Errorf("interfaces: got %v, want %v", s.Interfaces, want)
	}
	for _, a := range s.Addresses {
		if ip, _, err := net.ParseCIDR(a); err != nil || !ip.IsLoopback() {
			t.Errorf("address %s is not loopback's", a)
		}
	}
	o.must("loopback")
	for _, address := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
		if _, err := o.probe("dial", "tcp", address); err == nil {
			t.Errorf("%s was reached", address)
		}
	}
	if got := o.tried("low-port"); got != "ok" {
		t.Errorf("listen on port 80: got %s, want ok", got)
	}
	// The machine that this one is a guest of is in no network namespace.
	for _, name := range []string{"vsock", "vsock-high", "alg"} {
		if got, want := o.tried(name), "EAFNOSUPPORT"; got != want {
			t.Errorf("socket %s: got %s, want %s (outside: %s)", name, got, want, k.triedOutside(t, name))
		}
	}
	for _, name := range []string{"inet", "unix"} {
		if got := o.tried(name); got != "ok" {
			t.Errorf("socket %s: got %s, want ok", name, got)
		}
	}
}

// reaching has commands fail without a word, once after they asked for an address beyond
// the sandbox and once after they talked on loopback alone.
func reaching(t *testing.T, k *kit) {
	o := k.open(t, sandbox.Spec{})
	for _, c := range []struct {
		args []string
		is   bool
	}{
		{[]string{"silent", "dial", "tcp", "192.0.2.1:80"}, true},
		{[]string{"silent", "dial", "udp", "192.0.2.1:80"}, true},
		{[]string{"silent", "dial", "tcp", "host.example:443"}, true}, // a name
		{[]string{"silent", "silent", "dial", "tcp", "192.0.2.1:80"}, true},
		{[]string{"silent", "exit", "3"}, false},
		{[]string{"silent", "loopback"}, false},
		{[]string{"silent", "dial", "tcp", "127.0.0.1:1"}, false}, // refused
		{[]string{"silent", "dial", "udp", "127.0.0.1:1"}, false},
		{[]string{"silent", "dial", "tcp", "localhost:1"}, false},
	} {
		out, words, err := o.command(sandbox.Command{}, c.args...)
		var exit *sandbox.ExitError
		if !errors.As(err, &exit) || out+words != "" {
			t.Fatalf("%v: got %v, %q, want a failure without a word", c.args, err, out+words)
		}
		if got := exit.Unrouted > 0; got != c.is {
			t.Errorf("%v: counted %d tries, want some: %v", c.args, exit.Unrouted, c.is)
		}
	}
}

func hostFiles(t *testing.T, k *kit) {
	secret := tree(t, map[string]string{"secret": "of the host"})
	o := k.open(t, sandbox.Spec{Work: folder(t)})
	for _, name := range []string{
		filepath.Join(secret, "secret"), "/proc/1/root" + secret + "/secret", "/proc/self/root/../.." + secret + "/secret",
		"/etc/shadow", "/proc/1/cwd/etc/shadow", "/dev/core/x", "/dev/mem", "/dev/kmsg",
	} {
		if out, err := o.probe("read", name); err == nil {
			t.Errorf("%s could be read: %q", name, out)
		}
	}
	want := "bin dev etc home proc root run sys tmp usr var"
	if got := strings.Join(strings.Fields(o.must("list", "/")), " "); got != want {
		t.Errorf("root: got %s, want %s", got, want)
	}
	want = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
	// Container runtimes make a link to /proc/kcore, which is covered.
	if got := strings.TrimPrefix(strings.Join(strings.Fields(o.must("list", "/dev")), " "), "core "); got != want {
		t.Errorf("/dev: got %s, want %s", got, want)
	}
	table := o.must("read", "/proc/self/mountinfo")
	for _, private := range []string{"/proc/self/exe", k.probe} {
		if strings.Contains(table, private) {
			t.Errorf("the mount table tells the host's path %s:\n%s", private, table)
		}
	}
}

func surroundings(t *testing.T, k *kit) {
	// As below nohup.
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	// As in a shell of somebody in Samoa.
	for name, value := range map[string]string{"TZ": "Pacific/Apia", "LC_ALL": "sm_WS.UTF-8", "LANG": "sm_WS.UTF-8", "TMPDIR": os.TempDir()} {
		t.Setenv(name, value)
	}
	mask := unix.Umask(0o077)
	defer unix.Umask(mask)
	got := k.open(t, sandbox.Spec{}).state(sandbox.Command{})
	if got.Hostname != "tarn" || got.Umask != 0o022 || got.Dir != "/home/build" {
		t.Errorf("got host %q, umask %04o, folder %q; want tarn, 0022, /home/build", got.Hostname, got.Umask, got.Dir)
	}
	if got.Zone != "UTC" {
		t.Errorf("time zone: got %s, want UTC", got.Zone)
	}
	if got.PPID != 1 || got.SID != got.PID {
		t.Errorf("process %d: got parent %d, session %d; want 1 and its own", got.PID, got.PPID, got.SID)
	}
	if got.Limits["core"] != [2]uint64{0, 0} || got.Limits["stack"][0] != 8<<20 {
		t.Errorf("limits: got core %v, stack %v", got.Limits["core"], got.Limits["stack"])
	}
	if files := got.Limits["nofile"]; files[0] != files[1] || files[0] > 65536 {
		t.Errorf("open files: got %v, want the same limit twice, at most 65536", files)
	}
	if got.Status["SigIgn"] != "0000000000000000" || got.Status["SigBlk"] != "0000000000000000" {
		t.Errorf("signals: got ignored %s, blocked %s; want none", got.Status["SigIgn"], got.Status["SigBlk"])
	}
	plain := k.open(t, sandbox.Spec{})
	if got := plain.must("environ"); got != "" {
		t.Errorf("environment: got %q, want none: no locale, no zone", got)
	}
	for _, name := range []string{"/etc/localtime", "/etc/timezone", "/etc/default/locale", "/etc/locale.conf", "/usr/share/zoneinfo"} {
		if out, err := plain.probe("list", name); err == nil {
			t.Errorf("%s is there: %s", name, out)
		}
		if _, err := plain.probe("read", name); err == nil {
			t.Errorf("%s can be read", name)
		}
	}
	want := "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin"
	if got := plain.must("read", "/etc/passwd"); got != want {
		t.Errorf("users: got %q, want %q", got, want)
	}
	o := k.open(t, sandbox.Spec{Hostname: "other", WorkPath: "/srv/work/here"})
	if got := o.state(sandbox.Command{}); got.Hostname != "other" || got.Dir != "/srv/work/here" {
		t.Errorf("got host %q, folder %q; want other, /srv/work/here", got.Hostname, got.Dir)
	}
	if hosts := o.must("read", "/etc/hosts"); !strings.Contains(hosts, "localhost other\n") {
		t.Errorf("/etc/hosts has no line for the host's own name:\n%s", hosts)
	}
	if got, want := o.must("read", "/etc/resolv.conf"), "nameserver 192.0.2.53\noptions timeout:1 attempts:1"; got != want {
		t.Errorf("/etc/resolv.conf: got %q, want %q", got, want)
	}
}

func users(t *testing.T, k *kit) {
	for _, id := range []struct{ uid, gid int }{{0, 0}, {1000, 1000}, {65534, 7}} {
		got := k.open(t, sandbox.Spec{UID: id.uid, GID: id.gid}).state(sandbox.Command{})
		if got.UID != id.uid || got.EUID != id.uid || got.GID != id.gid {
			t.Errorf("got user %d (%d), group %d; want %d, %d", got.UID, got.EUID, got.GID, id.uid, id.gid)
		}
		if mask := strings.Trim(got.Status["CapEff"]+got.Status["CapPrm"], "0"); mask != "" {
			t.Errorf("user %d has capabilities %s", id.uid, got.Status["CapEff"])
		}
		for _, g := range got.Groups {
			// An ordinary user can't leave groups; those that do not exist inside show as nobody.
			if g != id.gid && (os.Geteuid() == 0 || g != 65534) {
				t.Errorf("user %d is in group %d", id.uid, g)
			}
		}
	}
	o := k.open(t, sandbox.Spec{})
	for _, name := range []string{"chown", "setuid"} {
		if got := o.tried(name); got == "ok" {
			t.Errorf("%s to another id without capability: ok", name)
		}
	}
}

// severalUsers gives a file away inside, takes it back outside, moves it, and gives it
// away again.
func severalUsers(t *testing.T, k *kit) {
	users, can := k.backend.(sandbox.Users)
	if !can || !users.Several() {
		o := k.open(t, sandbox.Spec{Owners: true, Capabilities: []string{"CAP_CHOWN"}, Work: folder(t)})
		if got := o.tried("chown"); got == "ok" {
			t.Error("without further ids a file could be given away")
		}
		return
	}
	work := folder(t)
	o := k.open(t, sandbox.Spec{Owners: true, Capabilities: []string{"CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE"}, Work: work})
	if got := o.tried("chown"); got != "ok" {
		t.Fatalf("give a file away: got %s, want ok", got)
	}
	owner := func(name string) int {
		t.Helper()
		info, err := os.Lstat(filepath.Join(work, name))
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Sys().(*syscall.Stat_t).Uid)
	}
	if os.Geteuid() == 0 {
		if got := owner("chown-me"); got != 1234 {
			t.Errorf("outside it is user %d's, want 1234's", got)
		}
		return
	}
	if owner("chown-me") == os.Geteuid() {
		t.Error("outside it is the caller's")
	}
	owned, err := users.Take(t.Context(), work, 0, 0)
	if err != nil || len(owned) != 1 || owned[0].UID != 1234 || owned[0].GID != 0 {
		t.Fatalf("take: got %+v, %v; want one file of user 1234", owned, err)
	}
	if got := owner("chown-me"); got != os.Geteuid() {
		t.Errorf("taken back it is user %d's", got)
	}
	if err := os.Rename(filepath.Join(work, "chown-me"), filepath.Join(work, "moved")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(work, "chown-me"), "another")
	if err := users.Give(t.Context(), work, 0, 0, owned); err != nil {
		t.Fatal(err)
	}
	if owner("moved") == os.Geteuid() || owner("chown-me") != os.Geteuid() {
		t.Error("given again: want the file that moved to be the other's, and the new one the caller's")
	}
	if _, err := users.Take(t.Context(), work, 0, 0); err != nil {
		t.Error(err)
	}
}

func commands(t *testing.T, k *kit) {
	t.Setenv("TARN_SECRET", "of the host")
	work := tree(t, map[string]string{"sub/": ""})
	o := k.open(t, sandbox.Spec{Work: work})
	out, _, err := o.command(sandbox.Command{Env: []string{"B=2", "A=with\nline", "EMPTY=", "LATIN=\xe9\xff"}}, "environ")
	if want := "B=2\nA=with\nline\nEMPTY=\nLATIN=\xe9\xff\n"; err != nil || out != want {
		t.Errorf("environment: got %q, %v; want %q", out, err, want)
	}
	if out, _, err := o.command(sandbox.Command{}, "environ"); err != nil || out != "" {
		t.Errorf("environment without variables: got %q, %v", out, err)
	}
	// The kernel takes 128 KiB an argument, and 2 MiB in all.
	args := []string{"args", "", "two words", "$HOME `id`", strings.Repeat("x", 120<<10), strings.Repeat("y", 120<<10), strings.Repeat("z", 120<<10)}
	out, words, err := o.command(sandbox.Command{}, args...)
	if err != nil {
		t.Fatalf("long arguments: %v\n%s", err, words)
	}
	var got []string
	if err := json.Unmarshal([]byte(out), &got); err != nil || !slices.Equal(got, args[1:]) {
		t.Errorf("arguments came changed (%d instead of %d bytes): %v", len(out), len(strings.Join(args, "")), err)
	}
	if got := o.state(sandbox.Command{Dir: "/home/build/sub"}).Dir; got != "/home/build/sub" {
		t.Errorf("folder: got %s, want /home/build/sub", got)
	}
	for _, c := range []struct {
		command sandbox.Command
		want    string
	}{
		{sandbox.Command{Argv: []string{"/bin/nothing"}}, "/bin/nothing"},
		{sandbox.Command{Argv: []string{inside}, Dir: "/nowhere"}, "/nowhere"},
	} {
		err := o.Run(context.Background(), c.command)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("run %v in %q: got %v, want an error that names %s and is fs.ErrNotExist", c.command.Argv, c.command.Dir, err, c.want)
		}
	}
	if err := o.Run(context.Background(), sandbox.Command{}); err == nil {
		t.Error("a command of no words ran")
	}
	// What one command leaves in /tmp and the work folder the next one finds, and
	// the next sandbox does not find in /tmp.
	o.must("write", "/tmp/left", "here")
	if got := o.must("read", "/tmp/left"); got != "here" {
		t.Errorf("/tmp/left: got %q, want here", got)
	}
	if _, err := k.open(t, sandbox.Spec{}).probe("read", "/tmp/left"); err == nil {
		t.Error("/tmp of one sandbox is seen in another")
	}
}

func exits(t *testing.T, k *kit) {
	o := k.open(t, sandbox.Spec{})
	for _, c := range []struct {
		args   []string
		code   int
		signal string
	}{
		{[]string{"exit", "0"}, 0, ""},
		{[]string{"exit", "1"}, 1, ""},
		{[]string{"exit", "255"}, 255, ""},
		{[]string{"signal", "9"}, 137, "killed"},
		{[]string{"signal", "15"}, 143, "terminated"},
		{[]string{"exit", "7"}, 7, ""},
	} {
		_, err := o.probe(c.args...)
		var exit *sandbox.ExitError
		if c.code == 0 {
			if err != nil {
				t.Errorf("%v: got %v, want nil", c.args, err)
			}
			continue
		}
		if !errors.As(err, &exit) || exit.Code != c.code || exit.Signal != c.signal || exit.Limit != "" {
			t.Errorf("%v: got %#v, want code %d, signal %q", c.args, err, c.code, c.signal)
		}
	}
}

func streams(t *testing.T, k *kit) {
	o := k.open(t, sandbox.Spec{})
	long := strings.Repeat("line of input\n", 200_000)
	out, words, err := o.command(sandbox.Command{Stdin: strings.NewReader(long)}, "echo")
	if err != nil || out != long || words != fmt.Sprintf("%d bytes\n", len(long)) {
		t.Errorf("echo: got %d bytes, %q, %v; want %d", len(out), words, err, len(long))
	}
	if out, words, err = o.command(sandbox.Command{}, "echo"); err != nil || out != "" || words != "0 bytes\n" {
		t.Errorf("echo of no input: got %q, %q, %v", out, words, err)
	}
	if _, _, err := o.command(sandbox.Command{Stdin: strings.NewReader(long)}, "exit", "0"); err != nil {
		t.Errorf("input that nobody reads: %v", err)
	}
	if err := o.Run(context.Background(), sandbox.Command{Argv: []string{inside, "flood", "1000"}}); err != nil {
		t.Errorf("output that nobody wants: %v", err)
	}
	var both bytes.Buffer
	err = o.Run(context.Background(), sandbox.Command{Argv: []string{inside, "echo"}, Stdin: strings.NewReader("a\n"), Stdout: &both, Stderr: &both})
	if want := "a\n2 bytes\n"; err != nil || both.String() != want {
		t.Errorf("both outputs into one writer: got %q, %v; want %q", both.String(), err, want)
	}
	// Servers open their output by its name.
	other := k.open(t, sandbox.Spec{UID: 1234, GID: 1234})
	for _, name := range []string{"/dev/stdout", "/dev/stderr"} {
		if _, words, err := other.command(sandbox.Command{}, "fill-all", "0", name); err != nil {
			t.Errorf("%s opened by another user: got %v\n%s", name, err, words)
		}
	}
	full := errors.New("the disk is full")
	err = o.Run(context.Background(), sandbox.Command{Argv: []string{inside, "flood", "300"}, Stdout: failing{full}})
	if !errors.Is(err, full) {
		t.Errorf("a writer that fails: got %v, want %v", err, full)
	}
	// A file of the host is never handed in as it is: what is open can be opened
	// once more by way of /proc, for writing too.
	f, err := os.CreateTemp(t.TempDir(), "input")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, _, err = o.command(sandbox.Command{Stdin: f}, "link", "/proc/self/fd/0")
	if err != nil || !strings.HasPrefix(out, "pipe:") {
		t.Errorf("a file as input: got %q, %v; want a pipe", out, err)
	}
}

func terminals(t *testing.T, k *kit) {
	terminal := newTerminal(t)
	o := k.open(t, sandbox.Spec{})
	tried := func() string {
		out, words, err := o.command(sandbox.Command{Stdin: terminal}, "try", "terminal")
		if err != nil {
			t.Fatalf("%v\n%s", err, words)
		}
		return out
	}
	if got, want := tried(), "terminal ok\n"; got != want {
		t.Errorf("a terminal of nobody: got %q, want %q", got, want)
	}
	// A terminal that a session outside has stays that session's.
	c := exec.Command(k.probe, "sleep")
	c.Stdin = terminal
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	if got, want := tried(), "terminal ENOTTY\n"; got != want {
		t.Errorf("a terminal of another session: got %q, want %q", got, want)
	}
}

// newTerminal makes a terminal of the host.
func newTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return slave
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func writing(t *testing.T, k *kit) {
	work := tree(t, map[string]string{"old": "content"})
	base := tree(t, map[string]string{"usr/share/data": "of a package", "etc/passwd": "package:x:0:0::/:/bin/sh\n"})
	before := listing(t, base)
	o := k.open(t, sandbox.Spec{Layers: []string{base}, Work: work})
	if got := o.must("touch-all", "/"); got != "0" {
		t.Errorf("changes outside work folder and temporary folders: got %s, want 0", got)
	}
	for _, name := range []string{"/new", "/usr/new", "/etc/new", "/dev/new", "/proc/sys/kernel/hostname", "/home/new", "/sys/new"} {
		if _, err := o.probe("write", name, "x"); err == nil {
			t.Errorf("%s could be written", name)
		}
	}
	for _, name := range []string{"/home/build/new", "/tmp/new", "/var/tmp/new", "/run/new", "/dev/shm/new", "/dev/null"} {
		o.must("write", name, "x")
	}
	if got := o.must("read", "/home/build/old"); got != "content" {
		t.Errorf("work folder: got %q, want content", got)
	}
	if data, err := os.ReadFile(filepath.Join(work, "new")); err != nil || string(data) != "x" {
		t.Errorf("new file in the work folder, outside: got %q, %v", data, err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, listing(t, base)); diff != "" {
		t.Errorf("a layer changed (-before +after):\n%s", diff)
	}
}

// listing tells all of a tree that a sandbox could have changed.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() {
			if content, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		list[strings.TrimPrefix(name, dir)] = fmt.Sprintf("%v %v %s", info.Mode(), info.ModTime(), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func writableRoot(t *testing.T, k *kit) {
	base := tree(t, map[string]string{"usr/share/data": "of a package"})
	before := listing(t, base)
	o := k.open(t, sandbox.Spec{Layers: []string{base}, WritableRoot: true})
	o.must("write", "/usr/share/data", "changed")
	o.must("write", "/new", "file")
	if got := o.must("read", "/usr/share/data"); got != "changed" {
		t.Errorf("changed file: got %q", got)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, listing(t, base)); diff != "" {
		t.Errorf("a layer changed (-before +after):\n%s", diff)
	}
	if got := k.open(t, sandbox.Spec{Layers: []string{base}, WritableRoot: true}).must("read", "/usr/share/data"); got != "of a package" {
		t.Errorf("the next sandbox: got %q, want what the package has", got)
	}
}

func layers(t *testing.T, k *kit) {
	top := tree(t, map[string]string{"etc/who": "top", "etc/passwd": "package:x:0:0::/:/bin/sh"})
	low := tree(t, map[string]string{"etc/who": "low", "etc/low": "only here"})
	o := k.open(t, sandbox.Spec{Layers: []string{top, low, top}})
	for name, want := range map[string]string{
		"/etc/who": "top", "/etc/low": "only here", "/etc/passwd": "package:x:0:0::/:/bin/sh", "/etc/hostname": "tarn",
	} {
		if got := o.must("read", name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	// More than a page of names, were they not made short.
	deep := folder(t)
	for range 12 {
		deep = filepath.Join(deep, strings.Repeat("long", 20))
	}
	var many []string
	for i := range 498 { // with the probe's, as many as there may be
		dir := filepath.Join(deep, "comma,colon:back\\slash", strconv.Itoa(i))
		mkdir(t, dir)
		writeFile(t, filepath.Join(dir, "layer-"+strconv.Itoa(i)), strconv.Itoa(i))
		many = append(many, dir)
	}
	o = k.open(t, sandbox.Spec{Layers: many})
	for _, i := range []string{"0", "250", "497"} {
		if got := o.must("read", "/layer-"+i); got != i {
			t.Errorf("layer %s of 498: got %q", i, got)
		}
	}
	if table := o.must("read", "/proc/self/mountinfo"); strings.Contains(table, "longlong") {
		t.Error("the mount table tells paths of the host")
	}
}

func binds(t *testing.T, k *kit) {
	host := tree(t, map[string]string{"dir/file": "in a folder", "file": "a file", "certs/ca": "certificate"})
	work := folder(t)
	o := k.open(t, sandbox.Spec{Work: work, Binds: []sandbox.Bind{
		{Source: filepath.Join(host, "dir"), Path: "/opt/read"},
		{Source: filepath.Join(host, "dir"), Path: "/opt/write", Writable: true},
		{Source: filepath.Join(host, "file"), Path: "/opt/single"},
		{Source: filepath.Join(host, "certs"), Path: "/tmp/in/temporary"},
		{Source: filepath.Join(host, "certs"), Path: "/home/build/in/work"},
		{Source: filepath.Join(host, "file"), Path: "/usr/share/over"},
	}})
	for name, want := range map[string]string{
		"/opt/read/file": "in a folder", "/opt/single": "a file", "/tmp/in/temporary/ca": "certificate",
		"/home/build/in/work/ca": "certificate", "/usr/share/over": "a file",
	} {
		if got := o.must("read", name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"/opt/read/new", "/opt/read/file", "/opt/single", "/home/build/in/work/new"} {
		if _, err := o.probe("write", name, "x"); err == nil {
			t.Errorf("%s could be written", name)
		}
	}
	o.must("write", "/opt/write/new", "x")
	if _, err := os.Stat(filepath.Join(host, "dir/new")); err != nil {
		t.Error(err)
	}
}

func links(t *testing.T, k *kit) {
	outside := tree(t, map[string]string{"precious": "host"})
	work := tree(t, map[string]string{"written": "by work"})
	for _, c := range []struct {
		name  string
		files map[string]string
		spec  sandbox.Spec
	}{
		{"the work folder", map[string]string{"home/build": "->" + outside}, sandbox.Spec{Work: work}},
		{"a folder above it", map[string]string{"home": "->" + outside}, sandbox.Spec{Work: work, WorkPath: "/home/precious"}},
		{"proc", map[string]string{"proc": "->usr"}, sandbox.Spec{}},
		{"dev", map[string]string{"dev": "->/tmp"}, sandbox.Spec{}},
		{"a bind", map[string]string{"opt": "->/etc"}, sandbox.Spec{Binds: []sandbox.Bind{{Source: outside, Path: "/opt/x"}}}},
		{"a bind in the work folder", nil, sandbox.Spec{
			Work:  tree(t, map[string]string{"in": "->/etc"}),
			Binds: []sandbox.Bind{{Source: outside, Path: "/home/build/in/x"}},
		}},
	} {
		c.spec.Layers = []string{tree(t, c.files), k.base(t)}
		box, err := k.backend.Open(context.Background(), c.spec)
		if err == nil {
			box.Close()
			t.Errorf("%s: a link where it is mounted was followed", c.name)
		} else if !strings.Contains(err.Error(), "symbolic link") && !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: got %v, want an error about a symbolic link", c.name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "written")); err == nil {
		t.Error("a folder of the host was written")
	}
	// Links beside the mount points are the layers' own matter.
	o := k.open(t, sandbox.Spec{Layers: []string{tree(t, map[string]string{"var/run": "->../run", "var/tmp": "->../tmp"})}})
	o.must("write", "/var/tmp/x", "y")
	if got := o.must("read", "/tmp/x"); got != "y" {
		t.Errorf("/tmp/x by way of /var/tmp: got %q, want y", got)
	}
}

func wrongSpecs(t *testing.T, k *kit) {
	base := k.base(t)
	var many []string
	for range 500 {
		many = append(many, folder(t))
	}
	for _, c := range []struct {
		name string
		spec sandbox.Spec
		want string
	}{
		{"no layers", sandbox.Spec{}, "no layers"},
		{"too many layers", sandbox.Spec{Layers: many}, "500 layers"},
		{"layer that is not there", sandbox.Spec{Layers: []string{"/nowhere/at/all"}}, "/nowhere/at/all"},
		{"layer that is a file", sandbox.Spec{Layers: []string{k.probe}}, "not a directory"},
		{"work that is not there", sandbox.Spec{Layers: []string{base}, Work: "/nowhere/at/all"}, "/nowhere/at/all"},
		{"relative work path", sandbox.Spec{Layers: []string{base}, WorkPath: "home"}, `"home"`},
		{"work path above the root", sandbox.Spec{Layers: []string{base}, WorkPath: "/../x"}, `"/../x"`},
		{"work path that is the root", sandbox.Spec{Layers: []string{base}, WorkPath: "/"}, `"/"`},
		{"bind over proc", sandbox.Spec{Layers: []string{base}, Binds: []sandbox.Bind{{Source: base, Path: "/proc/sys"}}}, "/proc"},
		{"bind that is not there", sandbox.Spec{Layers: []string{base}, Binds: []sandbox.Bind{{Source: "/nowhere/at/all", Path: "/x"}}}, "/nowhere/at/all"},
		{"unknown capability", sandbox.Spec{Layers: []string{base}, Capabilities: []string{"CAP_FLY"}}, "CAP_FLY"},
		{"capability that reaches the first process", sandbox.Spec{Layers: []string{base}, Capabilities: []string{"CAP_SYS_PTRACE"}}, "CAP_SYS_PTRACE"},
		{"user that can't be", sandbox.Spec{Layers: []string{base}, UID: -1}, "-1"},
		{"host name with a line in it", sandbox.Spec{Layers: []string{base}, Hostname: "a\nb"}, "host name"},
	} {
		box, err := k.backend.Open(context.Background(), c.spec)
		if err == nil {
			box.Close()
			t.Errorf("%s: opened", c.name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.want)
		}
	}
}

func timeLimit(t *testing.T, k *kit) {
	mark := "mark-" + filepath.Base(t.TempDir()) + "-" + strconv.Itoa(os.Getpid()) + "-time"
	o := k.open(t, sandbox.Spec{})
	_, _, err := o.command(sandbox.Command{Timeout: 300 * time.Millisecond}, "sleepers", mark)
	var exit *sandbox.ExitError
	if !errors.As(err, &exit) || exit.Limit != "time (300ms)" || exit.Code != 137 {
		t.Errorf("got %#v, want an ExitError that names the limit", err)
	}
	if n := running(t, mark); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if _, err := o.probe("exit", "0"); err == nil || errors.As(err, &exit) {
		t.Errorf("a command after the end: got %v, want that the sandbox is closed", err)
	}
}

func cancelling(t *testing.T, k *kit) {
	mark := "mark-" + strconv.Itoa(os.Getpid()) + "-cancel"
	o := k.open(t, sandbox.Spec{})
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the user said stop")
	err := o.Run(ctx, sandbox.Command{
		Argv:   []string{inside, "sleepers", mark},
		Stdout: onWrite(func() { cancel(why) }),
	})
	if !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
	if n := running(t, mark); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if _, err := k.backend.Open(ctx, sandbox.Spec{Layers: []string{k.base(t)}}); !errors.Is(err, why) {
		t.Errorf("open with a context that has ended: got %v, want %v", err, why)
	}
	other := k.open(t, sandbox.Spec{})
	if err := other.Run(ctx, sandbox.Command{Argv: []string{inside, "exit", "0"}}); !errors.Is(err, why) {
		t.Errorf("run with a context that has ended: got %v, want %v", err, why)
	}
}

type onWrite func()

func (f onWrite) Write(p []byte) (int, error) { f(); return len(p), nil }

func leftovers(t *testing.T, k *kit) {
	mark := "mark-" + strconv.Itoa(os.Getpid()) + "-daemon"
	o := k.open(t, sandbox.Spec{})
	// They hold standard output: were they not ended, this would not return.
	o.must("daemon", mark)
	if n := running(t, mark); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if got := strings.Fields(o.must("processes")); len(got) != 2 {
		t.Errorf("processes in the next command: got %v, want the first and itself", got)
	}
}

// many opens sandboxes beside each other; each has its own work and descriptors.
func many(t *testing.T, k *kit) {
	base := k.base(t)
	var group errgroup.Group
	for i := range 12 {
		work := tree(t, map[string]string{"number": strconv.Itoa(i)})
		group.Go(func() error {
			box, err := k.backend.Open(context.Background(), sandbox.Spec{Layers: []string{base}, Work: work, CPUs: 1})
			if err != nil {
				return err
			}
			defer box.Close()
			for range 3 {
				var out bytes.Buffer
				err := box.Run(context.Background(), sandbox.Command{Argv: []string{inside, "read", "/home/build/number"}, Stdout: &out})
				if err != nil {
					return err
				}
				if got, want := out.String(), strconv.Itoa(i); got != want {
					return fmt.Errorf("sandbox %s: got the work of %q", want, got)
				}
				out.Reset()
				if err := box.Run(context.Background(), sandbox.Command{Argv: []string{inside, "state"}, Stdout: &out}); err != nil {
					return err
				}
				for fd, to := range decode(t, out.String()).Open {
					if !strings.HasPrefix(to, "anon_inode:") {
						return fmt.Errorf("sandbox %d: descriptor %d leaked: %s", i, fd, to)
					}
				}
			}
			return box.Close()
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func closing(t *testing.T, k *kit) {
	mark := "mark-" + strconv.Itoa(os.Getpid()) + "-close"
	before := mounts(t)
	o := k.open(t, sandbox.Spec{Work: folder(t)})
	ready, done := make(chan struct{}), make(chan error)
	go func() {
		done <- o.Run(context.Background(), sandbox.Command{
			Argv: []string{inside, "sleepers", mark}, Stdout: onWrite(func() { close(ready) }),
		})
	}()
	<-ready
	if n := running(t, mark); n != 4 {
		t.Errorf("while it runs: got %d processes, want 4", n)
	}
	for range 2 {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := running(t, mark); n != 0 {
		t.Errorf("%d processes outlive close", n)
	}
	var exit *sandbox.ExitError
	if err := <-done; err == nil || errors.As(err, &exit) {
		t.Errorf("the command that ran: got %v, want that the sandbox is closed", err)
	}
	sameMounts(t, before)
	for range 3 {
		fds := openDescriptors(t)
		k.open(t, sandbox.Spec{}).Close()
		if now := openDescriptors(t); now > fds {
			t.Errorf("opening and closing left %d descriptors", now-fds)
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

const (
	childVariable = "TARN_SANDBOXTEST_CHILD"
	childWork     = "TARN_SANDBOXTEST_WORK"
)

// openForever is what a child is told that opens one sandbox after another.
const openForever = "open-forever"

// child is the part of a process that is going to be killed: it opens a sandbox,
// runs what waits, and says so.
func child(t *testing.T, k *kit) bool {
	mark := os.Getenv(childVariable)
	if mark == "" {
		return false
	}
	if mark == openForever {
		spec := sandbox.Spec{Layers: []string{k.base(t)}, Work: os.Getenv(childWork)}
		fmt.Println("ready")
		for {
			box, err := k.backend.Open(context.Background(), spec)
			if err != nil {
				t.Fatal(err)
			}
			if err := box.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := k.open(t, sandbox.Spec{Work: os.Getenv(childWork)})
	err := o.Run(context.Background(), sandbox.Command{Argv: []string{inside, "sleepers", mark}, Stdout: os.Stdout})
	t.Fatalf("the child was not killed: %v", err)
	return true
}

// startChild starts this test again, as child, and waits until it is ready.
func startChild(t *testing.T, k *kit, mark, work string) *exec.Cmd {
	t.Helper()
	suite, _, _ := strings.Cut(t.Name(), "/")
	c := exec.Command("/proc/self/exe", "-test.run=^"+suite+"$")
	c.Env = append(os.Environ(), childVariable+"="+mark, childWork+"="+work, "TMPDIR="+work, ProbeVariable+"="+k.probe)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, len("ready"))
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "ready" {
		rest, _ := io.ReadAll(out)
		t.Fatalf("child: %q, %v\n%s", said, err, rest)
	}
	return c
}

func killedParent(t *testing.T, k *kit) {
	mark := "mark-" + strconv.Itoa(os.Getpid()) + "-killed"
	before, work := mounts(t), folder(t)
	c := startChild(t, k, mark, work)
	if n := running(t, mark); n != 4 {
		t.Errorf("while it runs: got %d processes, want 4", n)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	comesTrue(t, "no process is left", func() bool { return running(t, mark) == 0 })
	sameMounts(t, before)
	if err := os.RemoveAll(work); err != nil {
		t.Errorf("the work folder can't be removed: %v", err)
	}
}

// killedAnywhere adopts what a killed child leaves, and wants all of it to end.
func killedAnywhere(t *testing.T, k *kit) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	for i := range 20 {
		c := startChild(t, k, openForever, folder(t))
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
		comesTrue(t, "no process is left", func() bool {
			for {
				pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil)
				if err == unix.ECHILD {
					return true
				}
				if pid <= 0 {
					return false
				}
			}
		})
	}
}

func descriptorLeaks(t *testing.T, k *kit) {
	secret := tree(t, map[string]string{"secret": "of the host"})
	// Both without O_CLOEXEC, as a library that does not know better opens them.
	for _, name := range []string{secret, filepath.Join(secret, "secret")} {
		fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
	}
	// The control: a plain child does get them.
	out, err := exec.Command(k.probe, "state").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := decode(t, string(out)).Open; len(got) < 2 {
		t.Fatalf("a plain child has %v, so this tests nothing", got)
	}
	o := k.open(t, sandbox.Spec{})
	for range 2 {
		for fd, to := range o.state(sandbox.Command{Stdin: strings.NewReader("x")}).Open {
			// The probe's own runtime may have a descriptor to wait on.
			if !strings.HasPrefix(to, "anon_inode:") {
				t.Errorf("descriptor %d leaked: %s", fd, to)
			}
		}
	}
}

func power(t *testing.T, k *kit) {
	o := k.open(t, sandbox.Spec{})
	got := o.state(sandbox.Command{}).Status
	for name, want := range map[string]string{
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	first := o.must("read", "/proc/1/status")
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(first, want) {
			t.Errorf("first process: want %q in\n%s", want, first)
		}
	}
	for line := range strings.Lines(o.must("read", "/proc/self/mountinfo")) {
		f := strings.Fields(line)
		place, options := f[4], strings.Split(f[5], ",")
		if device := slices.Contains([]string{"/null", "/zero", "/full", "/random", "/urandom", "/tty"}, f[3]); device ||
			strings.HasPrefix(place, "/proc/") && slices.Contains(options, "ro") {
			continue // a device, or what covers a part of /proc: nothing that could be executed
		}
		if !slices.Contains(options, "nosuid") {
			t.Errorf("%s is not mounted nosuid: %s", place, f[5])
		}
		// In /dev lie devices, and the null device covers files of /proc.
		if !strings.HasPrefix(place, "/dev") && f[3] != "/null" && !slices.Contains(options, "nodev") {
			t.Errorf("%s is not mounted nodev: %s", place, f[5])
		}
	}
	for _, name := range []string{"mknod", "sethost", "chroot"} {
		if got, want := o.tried(name), "EPERM"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func capabilities(t *testing.T, k *kit) {
	for _, id := range []int{0, 1000} {
		o := k.open(t, sandbox.Spec{UID: id, GID: id, Capabilities: []string{"CAP_NET_RAW", "CAP_SYS_CHROOT"}})
		got := o.state(sandbox.Command{}).Status
		const want = "0000000000042000" // bits 13 and 18 of linux/capability.h
		for _, set := range []string{"CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			if got[set] != want {
				t.Errorf("user %d: %s: got %s, want %s", id, set, got[set], want)
			}
		}
		for name, want := range map[string]string{"packet": "ok", "chroot": "ok", "sethost": "EPERM", "mount": "EPERM"} {
			if got := o.tried(name); got != want {
				t.Errorf("user %d: %s: got %s, want %s", id, name, got, want)
			}
		}
	}
	// With power over the whole namespace the filter still stands.
	o := k.open(t, sandbox.Spec{Capabilities: []string{"CAP_SYS_ADMIN"}})
	for _, name := range []string{"mount", "umount2", "unshare", "setns", "clone-user", "tiocsti", "pivot_root"} {
		if got, want := o.tried(name), "EPERM"; got != want {
			t.Errorf("%s with CAP_SYS_ADMIN: got %s, want %s", name, got, want)
		}
	}
}

func refusals(t *testing.T, k *kit) {
	o := k.open(t, sandbox.Spec{})
	for _, c := range []struct {
		name, want string
		// control is false where a machine refuses the call outside too.
		control bool
	}{
		{"mount", "EPERM", true},
		{"umount2", "EPERM", true},
		{"pivot_root", "EPERM", true},
		{"move_mount", "EPERM", true},
		{"open_tree", "EPERM", true},
		{"open_tree_attr", "EPERM", true},
		{"fsopen", "EPERM", true},
		{"fsconfig", "EPERM", true},
		{"fsmount", "EPERM", true},
		{"fspick", "EPERM", true},
		{"mount_setattr", "EPERM", true},
		{"unshare", "EPERM", true},
		{"setns", "EPERM", true},
		{"clone-user", "EPERM", true},
		{"clone-net", "EPERM", true},
		{"clone3", "ENOSYS", true},
		{"keyctl", "EPERM", true},
		{"add_key", "EPERM", true},
		{"request_key", "EPERM", true},
		{"bpf", "EPERM", false},
		{"perf_event_open", "EPERM", false},
		{"userfaultfd", "EPERM", false},
		{"io_uring_setup", "EPERM", false},
		{"io_uring_enter", "EPERM", false},
		{"io_uring_register", "EPERM", false},
		{"init_module", "EPERM", false},
		{"finit_module", "EPERM", false},
		{"delete_module", "EPERM", false},
		{"kexec_load", "EPERM", false},
		{"kexec_file_load", "EPERM", false},
		{"reboot", "EPERM", false},
		{"swapon", "EPERM", false},
		{"swapoff", "EPERM", false},
		{"settimeofday", "EPERM", false},
		{"clock_settime", "EPERM", true},
		{"adjtimex", "EPERM", true},
		{"open_by_handle_at", "EPERM", false},
		{"name_to_handle_at", "EPERM", true},
		{"quotactl", "EPERM", false},
		{"acct", "EPERM", false},
		{"syslog", "EPERM", false},
		{"process_vm_readv", "EPERM", true},
		{"process_vm_writev", "EPERM", true},
		{"tiocsti-high", "EPERM", legacyPush()},
		{"tiocsti", "EPERM", legacyPush()},
		{"tioclinux", "EPERM", true},
		{"future", "ENOSYS", false},
	} {
		if got := o.tried(c.name); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		if !c.control {
			continue
		}
		if got := k.triedOutside(t, c.name); got == c.want {
			t.Errorf("%s: %s outside too, so this tests nothing", c.name, got)
		}
	}
	if got := o.tried("clone-plain"); got != "ok" {
		t.Errorf("a plain child: got %s, want ok", got)
	}
}

// legacyPush says whether this machine lets anybody push terminal input at all.
func legacyPush() bool {
	data, err := os.ReadFile("/proc/sys/dev/tty/legacy_tiocsti")
	return err != nil || strings.TrimSpace(string(data)) == "1"
}

func otherInterfaces(t *testing.T, k *kit) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only amd64 has other interfaces that this program could call")
	}
	o := k.open(t, sandbox.Spec{})
	for _, name := range []string{"int80", "x32"} {
		if out, err := exec.Command(k.probe, "abi", name).CombinedOutput(); err != nil {
			// A kernel without the 32-bit interface faults here.
			t.Logf("%s, outside: %v\n%s", name, err, out)
		}
		_, err := o.probe("abi", name)
		var exit *sandbox.ExitError
		if !errors.As(err, &exit) || exit.Signal != syscall.SIGSYS.String() {
			t.Errorf("%s: got %v, want signal: %s", name, err, syscall.SIGSYS)
		}
	}
}

func setuid(t *testing.T, k *kit) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file that is another user's")
	}
	layer := k.base(t)
	if err := os.Rename(filepath.Join(layer, "bin/probe"), filepath.Join(layer, "bin/owned")); err != nil {
		t.Fatal(err)
	}
	owned := filepath.Join(layer, "bin/owned")
	if err := os.Chmod(owned, 0o755|fs.ModeSetuid|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(owned, "state")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := decode(t, string(out)).EUID; got != 0 {
		t.Skipf("the file has no effect outside either (user %d): temporary folders are mounted nosuid here", got)
	}
	o := k.open(t, sandbox.Spec{Layers: []string{layer}, UID: 1000, GID: 1000})
	var got bytes.Buffer
	if err := o.Run(context.Background(), sandbox.Command{Argv: []string{"/bin/owned", "state"}, Stdout: &got}); err != nil {
		t.Fatal(err)
	}
	if s := decode(t, got.String()); s.EUID != 1000 || s.GID != 1000 {
		t.Errorf("got user %d, group %d; want 1000, 1000", s.EUID, s.GID)
	}
}

func proc(t *testing.T, k *kit) {
	o := k.open(t, sandbox.Spec{})
	if got := strings.Fields(o.must("processes")); len(got) != 2 || got[0] != "1" {
		t.Errorf("processes: got %v, want 1 and the probe", got)
	}
	for _, name := range []string{"kcore", "keys", "key-users", "kallsyms", "timer_list", "interrupts", "vmallocinfo", "slabinfo", "config.gz"} {
		if out, err := o.probe("read", "/proc/"+name); err == nil && out != "" {
			t.Errorf("/proc/%s: %d bytes can be read", name, len(out))
		}
	}
	for _, name := range []string{
		"sys/kernel/core_pattern", "sys/vm/drop_caches", "sys/net/ipv4/ip_forward", "sys/user/max_user_namespaces",
		"irq/default_smp_affinity", "mtrr",
	} {
		if _, err := os.Stat("/proc/" + name); err != nil {
			continue
		}
		if _, err := o.probe("write", "/proc/"+name, "0"); err == nil {
			t.Errorf("/proc/%s could be written", name)
		}
	}
	// Writing there is thrown away.
	if _, err := o.probe("write", "/proc/sysrq-trigger", "h"); err != nil && !strings.Contains(err.Error(), "exit status 1") {
		t.Error(err)
	}
	for _, name := range []string{"cpuinfo", "meminfo", "self/status", "sys/kernel/osrelease"} {
		if o.must("read", "/proc/"+name) == "" {
			t.Errorf("/proc/%s is empty", name)
		}
	}
}

func firstProcess(t *testing.T, k *kit) {
	o := k.open(t, sandbox.Spec{})
	for _, name := range []string{"environ", "maps", "mem", "auxv"} {
		if out, err := o.probe("read", "/proc/1/"+name); err == nil && out != "" {
			t.Errorf("/proc/1/%s: %q", name, out)
		}
	}
	for _, name := range []string{"exe", "cwd", "root", "fd/3", "ns/mnt"} {
		if out, err := o.probe("link", "/proc/1/"+name); err == nil {
			t.Errorf("/proc/1/%s leads to %s", name, out)
		}
	}
	// Root may see the numbers, and nothing of what they are.
	numbers, _ := o.probe("list", "/proc/1/fd")
	for _, n := range strings.Fields(numbers) {
		for _, how := range []string{"link", "read", "list"} {
			if out, err := o.probe(how, "/proc/1/fd/"+n); err == nil {
				t.Errorf("%s /proc/1/fd/%s: %q", how, n, out)
			}
		}
	}
	if got, want := o.tried("trace-first"), "EPERM"; got != want {
		t.Errorf("trace the first process: got %s, want %s", got, want)
	}
	if got, want := o.tried("trace-own"), "ok"; got != want {
		t.Errorf("trace an own process: got %s, want %s", got, want)
	}
}

func processors(t *testing.T, k *kit) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	all := set.Count()
	for _, c := range []struct{ asked, want int }{{0, all}, {1, 1}, {all, all}, {all + 5, all}} {
		if got := k.open(t, sandbox.Spec{CPUs: c.asked}).state(sandbox.Command{}).CPUs; got != c.want {
			t.Errorf("asked for %d: got %d, want %d", c.asked, got, c.want)
		}
	}
}

func hostNetwork(t *testing.T, k *kit) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	// An abstract name lives in the network namespace, and in no folder.
	name := "@tarn-sandboxtest-" + strconv.Itoa(os.Getpid())
	abstract, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	without, with := k.open(t, sandbox.Spec{}), k.open(t, sandbox.Spec{Network: online.Grant("a test")})
	for _, to := range [][2]string{{"tcp", listener.Addr().String()}, {"unix", name}} {
		if _, err := without.probe("dial", to[0], to[1]); err == nil {
			t.Errorf("%s of the host was reached", to[1])
		}
		if _, err := with.probe("dial", to[0], to[1]); err != nil {
			t.Errorf("%s of the host with the host's network: %v", to[1], err)
		}
	}
	want, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return
	}
	if got := with.must("read", "/etc/resolv.conf"); strings.TrimSuffix(string(want), "\n") != got {
		t.Errorf("/etc/resolv.conf: got %q, want the host's %q", got, want)
	}
}

// machineSettings holds that what a sandbox sets for itself is its own: some of these
// belong to a namespace since a late version of the kernel only, or to none, and root may
// write them from inside all the same.
func machineSettings(t *testing.T, k *kit) {
	settings := func() string {
		var text strings.Builder
		for _, name := range []string{
			"kernel/core_pattern", "kernel/domainname", "kernel/hostname", "kernel/pid_max", "kernel/threads-max", "kernel/shmmax", "kernel/msgmax",
			"fs/file-max", "fs/nr_open", "fs/mqueue/queues_max", "vm/overcommit_memory", "net/ipv4/ip_unprivileged_port_start", "net/ipv4/ip_forward",
			"user/max_user_namespaces", "user/max_pid_namespaces", "user/max_cgroup_namespaces",
		} {
			if value, err := os.ReadFile("/proc/sys/" + name); err == nil {
				fmt.Fprintf(&text, "%s: %s", name, value)
			}
		}
		return text.String()
	}
	before := settings()
	if !strings.Contains(before, "kernel/pid_max: ") {
		t.Fatalf("the settings can't be read, so this tests nothing: %s", before)
	}
	o := k.open(t, sandbox.Spec{Limits: sandbox.Limits{Processes: 60, OpenFiles: 100, Memory: 256 << 20}, CPUs: 1})
	o.must("state")
	if after := settings(); after != before {
		t.Errorf("settings of the machine changed:\n%s", cmp.Diff(before, after))
	}
}
