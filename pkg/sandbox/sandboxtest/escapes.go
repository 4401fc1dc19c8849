package sandboxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// A way is a known way out of sandboxes.
type way struct {
	name string
	// try is nil when the way led out, and else says what stopped it.
	try func(t *testing.T, k *kit) error
	// off are the defences without which it leads out. Where two stand in the way,
	// each alone stops it, and both are named.
	off []string
	// control shows the way where it is open, for what is no defence of the backend's:
	// what its caller does, or asks for.
	control func(t *testing.T, k *kit) error
	// cannot says why the control can't be shown here, "" when it can: another setting
	// of this machine, or who runs the test, stops the attempt as well.
	cannot func(t *testing.T, k *kit) string
}

// RunEscapes tries every known way out. Each is tried once more with a backend that has
// the one defence off which stands in it, and must then lead out: else the test
// would show nothing. A backend whose defences can't be taken off has no such control.
func RunEscapes(t *testing.T, b sandbox.Backend, without func(off []string) sandbox.Backend) {
	k := newKit(t, b)
	if child(t, k) {
		return
	}
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			if w.try(t, k) == nil {
				t.Error("this leads out of the sandbox")
			}
			if w.cannot != nil {
				if why := w.cannot(t, k); why != "" {
					t.Logf("no control: %s", why)
					return
				}
			}
			switch {
			case w.control != nil:
				if err := w.control(t, k); err != nil {
					t.Errorf("control: it does not lead out where it is open: %v", err)
				}
			case without != nil:
				weak := &kit{without(w.off), k.probe}
				if err := w.try(t, weak); err != nil {
					t.Errorf("control: without %s it does not lead out either: %v", strings.Join(w.off, " and "), err)
				}
			}
		})
	}
}

// called is the way that one call of the probe's is.
func called(attempt string, capabilities ...string) func(*testing.T, *kit) error {
	return func(t *testing.T, k *kit) error {
		return did(k.open(t, sandbox.Spec{Work: folder(t), Capabilities: capabilities}).tried(attempt))
	}
}

func did(got string) error {
	if got == "ok" {
		return nil
	}
	return errors.New(got)
}

// ran is the way that one command of the probe's is.
func ran(args ...string) func(*testing.T, *kit) error {
	return func(t *testing.T, k *kit) error {
		_, err := k.open(t, sandbox.Spec{}).probe(args...)
		return err
	}
}

// rootOnly is why an ordinary user has no control.
func rootOnly(*testing.T, *kit) string {
	if os.Geteuid() != 0 {
		return "an ordinary user of the host has not the power to do it"
	}
	return ""
}

// open tells whether this machine lets anybody make the attempt, root of a user namespace
// at the most.
func openHere(attempt string) func(*testing.T, *kit) string {
	return func(t *testing.T, k *kit) string {
		if got := k.triedOutside(t, attempt); got != "ok" {
			return "the machine refuses it outside too: " + got
		}
		return ""
	}
}

// secret is a file of the host that nobody inside may read, with its content.
func secret(t *testing.T) (name, content string) {
	content = "secret of the host " + strconv.Itoa(os.Getpid())
	return filepath.Join(tree(t, map[string]string{"secret": content}), "secret"), content
}

func holds(got, want string, err error) error {
	if err == nil && !strings.Contains(got, want) {
		err = fmt.Errorf("got %q", got)
	}
	return err
}

// ways are the known ways out; README.md of package sandbox lists them.
func ways() []way {
	const (
		filter, hidden = "filter", "hidden first process"
		user, limits   = "user namespace", "limits of namespaces"
	)
	return []way{
		{name: "a link in the work folder that the host follows later", try: linkInWork(throughRoot), control: linkInWork(throughPath)},
		{name: "a hardlink to a file of the store", try: hardlink(false), control: hardlink(true)},
		{name: "a socket of the host by its path", try: pathSocket(false), control: pathSocket(true)},
		{name: "a socket of the host by an abstract name", try: reach("unix"), off: []string{"network namespace"}},
		{name: "a port of the host's loopback", try: reach("tcp"), off: []string{"network namespace"}},
		{name: "the hypervisor by AF_VSOCK", try: called("vsock"), off: []string{filter}, cannot: openHere("vsock")},
		{name: "the kernel's cryptography by AF_ALG", try: called("alg"), off: []string{filter}, cannot: openHere("alg")},
		{name: "shared memory of the host", try: sharedMemory, off: []string{"ipc namespace"}},
		{name: "the program outside by /proc/1/exe", try: ran("read", "/proc/1/exe"), off: []string{hidden}},
		{name: "memory of the first process by /proc/1/mem", try: called("first-memory"), off: []string{hidden}},
		{name: "memory of the first process by process_vm_readv", try: called("read-first"), off: []string{hidden, filter}},
		{name: "tracing the first process", try: called("trace-first"), off: []string{hidden}, cannot: yama},
		{name: "the control channel by pidfd_getfd", try: called("steal-control"), off: []string{hidden}, cannot: yama},
		{name: "a descriptor that the caller left open", try: inherited, off: []string{"closed descriptors"}},
		{name: "a working folder by /proc/self/fd", try: workingFolder, off: []string{"closed descriptors"}},
		{name: "an output file opened once more", try: outputFile, off: []string{"pipes in place of files"}},
		{name: "chroot twice", try: chrootTwice, off: []string{"pivot_root"}},
		{name: "a link of a layer at a mount point", try: linkedMount, off: []string{"no links at mount points"}},
		{name: "a package's tree changed from inside", try: changedLayer, off: []string{"read-only layers"}},
		{name: "a read-only mount made writable", try: remounted, off: []string{filter}},
		{name: "an overlay of one's own", try: called("own-overlay", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"), off: []string{filter}},
		{name: "what covers /proc taken away", try: uncovered, off: []string{filter}, cannot: tells("/proc/interrupts")},
		{name: "the machine's inside by /proc", try: interrupts, off: []string{"covered proc"}, cannot: tells("/proc/interrupts")},
		{name: "a program for core dumps by core_pattern", try: corePattern, off: []string{"covered proc"}, cannot: rootOnly},
		{name: "processes of the host by /proc", try: hostProcesses, off: []string{"own proc"}},
		{name: "a device node", try: called("mknod-here", "CAP_MKNOD"), off: []string{user}, cannot: rootOnly},
		{name: "a file by its number (open_by_handle_at)", try: byHandle, off: []string{user, filter}, cannot: handles},
		{name: "a setuid program", try: setuidProgram, off: []string{"nosuid", "no new privileges", filter}, cannot: setuidWorks},
		{name: "a user namespace", try: called("clone-user"), off: []string{filter, limits}, cannot: openHere("clone-user")},
		{name: "a user namespace by clone3", try: called("clone3-user"), off: []string{filter, limits}, cannot: openHere("clone3-user")},
		{name: "calls of 32 bits (int 0x80)", try: abi("int80"), off: []string{filter}, cannot: abiWorks("int80")},
		{name: "calls of x32", try: abi("x32"), off: []string{filter}, cannot: abiWorks("x32")},
		{name: "input for the caller's terminal (TIOCSTI)", try: pushed("push-stdin"), off: []string{filter}, cannot: pushWorks},
		{name: "the same with high bits set", try: pushed("push-stdin-high"), off: []string{filter}, cannot: pushWorks},
		{name: "keys of the caller", try: called("key"), off: []string{filter}, cannot: openHere("key")},
		{name: "calls past the filter by io_uring", try: called("io_uring"), off: []string{filter}, cannot: openHere("io_uring")},
		{name: "page faults held by userfaultfd", try: called("userfaultfd-mine"), off: []string{filter}, cannot: openHere("userfaultfd-mine")},
		{name: "programs in the kernel by bpf", try: called("bpf-map", "CAP_SYS_ADMIN"), off: []string{filter, user}, cannot: rootOnly},
		{name: "counters of the kernel by perf_event_open", try: called("perf"), off: []string{filter}, cannot: openHere("perf")},
		{name: "a process that stays behind", try: stayBehind, off: []string{"end of what is left"}},
	}
}

// Of the host's two ways to read what a build left, the first follows no link out of the
// folder; everything that reads a work folder does it so.
func throughRoot(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.ReadFile(name)
}

func throughPath(dir, name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, name)) }

func linkInWork(read func(dir, name string) ([]byte, error)) func(*testing.T, *kit) error {
	return func(t *testing.T, k *kit) error {
		name, content := secret(t)
		work := folder(t)
		k.open(t, sandbox.Spec{Work: work}).must("symlink", name, "/home/build/out")
		got, err := read(work, "out")
		return holds(string(got), content, err)
	}
}

// hardlink makes a second name for a package's file in the work folder and writes by it.
// Two mounts stand against it; the control has both folders in one.
func hardlink(together bool) func(*testing.T, *kit) error {
	return func(t *testing.T, k *kit) error {
		both := tree(t, map[string]string{"layer/usr/share/data": "of a package", "work/": ""})
		layer, spec := filepath.Join(both, "layer"), sandbox.Spec{Work: filepath.Join(both, "work")}
		from, to := "/usr/share/data", "/home/build/data"
		if together {
			spec.Binds = []sandbox.Bind{{Source: both, Path: "/opt", Writable: true}}
			from, to = "/opt/layer"+from, "/opt/work/data"
		} else {
			spec.Layers = []string{layer}
		}
		o := k.open(t, spec)
		if _, err := o.probe("hardlink", from, to); err != nil {
			return err
		}
		if _, err := o.probe("write", to, "changed"); err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(layer, "usr/share/data"))
		return holds(string(got), "changed", err)
	}
}

func pathSocket(bound bool) func(*testing.T, *kit) error {
	return func(t *testing.T, k *kit) error {
		// A socket's name is short: sun_path has 108 bytes.
		dir, err := os.MkdirTemp("", "s")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		name := filepath.Join(dir, "s")
		listener, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		spec := sandbox.Spec{}
		if bound {
			spec.Binds = []sandbox.Bind{{Source: dir, Path: "/opt", Writable: true}}
			name = "/opt/s"
		}
		_, err = k.open(t, spec).probe("dial", "unix", name)
		return err
	}
}

func reach(network string) func(*testing.T, *kit) error {
	return func(t *testing.T, k *kit) error {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = "@tarn-escape-" + strconv.Itoa(os.Getpid())
		}
		listener, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		_, err = k.open(t, sandbox.Spec{}).probe("dial", network, listener.Addr().String())
		return err
	}
}

func sharedMemory(t *testing.T, k *kit) error {
	key := 0x7a000000 | os.Getpid()&0xffffff
	id, err := unix.SysvShmGet(key, 16, unix.IPC_CREAT|0o600)
	if err != nil {
		t.Skipf("no shared memory here: %v", err)
	}
	defer func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) }()
	memory, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	copy(memory, "of the host")
	if err := unix.SysvShmDetach(memory); err != nil {
		t.Fatal(err)
	}
	got, err := k.open(t, sandbox.Spec{}).probe("shared-memory", strconv.Itoa(key))
	return holds(got, "of the host", err)
}

// yama is a second defence, of some machines, against tracing whatever is no child.
func yama(*testing.T, *kit) string {
	data, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err == nil && strings.TrimSpace(string(data)) != "0" {
		return "kernel.yama.ptrace_scope refuses it too"
	}
	return ""
}

// leftOpen is a folder of the host that is open without the flag that closes it on exec.
func leftOpen(t *testing.T) (fd int, content string) {
	name, content := secret(t)
	fd, err := syscall.Open(filepath.Dir(name), syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd, content
}

func inherited(t *testing.T, k *kit) error {
	fd, content := leftOpen(t)
	defer syscall.Close(fd)
	got, err := k.open(t, sandbox.Spec{}).probe("below-descriptor", "secret")
	return holds(got, content, err)
}

func workingFolder(t *testing.T, k *kit) error {
	fd, content := leftOpen(t)
	defer syscall.Close(fd)
	got, _, err := k.open(t, sandbox.Spec{}).command(sandbox.Command{Dir: "/proc/self/fd/" + strconv.Itoa(fd)}, "read", "secret")
	return holds(got, content, err)
}

func outputFile(t *testing.T, k *kit) error {
	name, content := secret(t)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	work := folder(t)
	o := k.open(t, sandbox.Spec{Work: work})
	// Of a pipe that one opens once more one waits for a writer, oneself.
	if to, err := o.link(f, "/proc/self/fd/1"); err != nil || strings.HasPrefix(to, "pipe:") {
		return fmt.Errorf("standard output is %s, %v", to, err)
	}
	if err := o.Run(context.Background(), sandbox.Command{Argv: []string{inside, "copy", "/proc/self/fd/1", "/home/build/got"}, Stdout: f}); err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(work, "got"))
	return holds(string(got), content, err)
}

// link runs the probe with a file as its output and asks, on standard error's side, what
// one of its descriptors is.
func (o *opened) link(out *os.File, name string) (string, error) {
	var words bytes.Buffer
	err := o.Run(context.Background(), sandbox.Command{Argv: []string{inside, "link-error", name}, Stdout: out, Stderr: &words})
	return strings.TrimSpace(words.String()), err
}

func chrootTwice(t *testing.T, k *kit) error {
	name, content := secret(t)
	got, err := k.open(t, sandbox.Spec{Capabilities: []string{"CAP_SYS_CHROOT"}}).probe("chroot-twice", name)
	return holds(got, content, err)
}

func linkedMount(t *testing.T, k *kit) error {
	spec := sandbox.Spec{Work: folder(t), Layers: []string{tree(t, map[string]string{"home/build": "->" + folder(t)}), k.base(t)}}
	box, err := k.backend.Open(context.Background(), spec)
	if err == nil {
		err = box.Close()
	}
	return err
}

func changedLayer(t *testing.T, k *kit) error {
	layer := tree(t, map[string]string{"usr/share/data": "of a package"})
	if _, err := k.open(t, sandbox.Spec{Layers: []string{layer}}).probe("write", "/usr/share/data", "changed"); err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(layer, "usr/share/data"))
	return holds(string(got), "changed", err)
}

func remounted(t *testing.T, k *kit) error {
	dir := folder(t)
	o := k.open(t, sandbox.Spec{Capabilities: []string{"CAP_SYS_ADMIN"}, Binds: []sandbox.Bind{{Source: dir, Path: "/opt"}}})
	if _, err := o.probe("remount", "/opt"); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(dir, "written"))
	return err
}

func uncovered(t *testing.T, k *kit) error {
	_, err := k.open(t, sandbox.Spec{Capabilities: []string{"CAP_SYS_ADMIN"}}).probe("uncover", "/proc/interrupts")
	return err
}

func interrupts(t *testing.T, k *kit) error {
	got, err := k.open(t, sandbox.Spec{}).probe("read", "/proc/interrupts")
	return holds(got, "CPU0", err)
}

func tells(name string) func(*testing.T, *kit) string {
	return func(*testing.T, *kit) string {
		if data, err := os.ReadFile(name); err != nil || len(data) == 0 {
			return "this machine has no " + name
		}
		return ""
	}
}

// corePattern writes what is there already, so that the control changes nothing.
func corePattern(t *testing.T, k *kit) error {
	const name = "/proc/sys/kernel/core_pattern"
	now, err := os.ReadFile(name)
	if err != nil {
		t.Skip(err)
	}
	_, err = k.open(t, sandbox.Spec{}).probe("write", name, string(now))
	return err
}

func hostProcesses(t *testing.T, k *kit) error {
	own, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.open(t, sandbox.Spec{}).probe("read", "/proc/"+strconv.Itoa(os.Getpid())+"/cmdline")
	return holds(got, string(own), err)
}

func byHandle(t *testing.T, k *kit) error {
	_, err := k.open(t, sandbox.Spec{Work: folder(t), Capabilities: []string{"CAP_DAC_READ_SEARCH"}}).probe("by-handle", "/home/build")
	return err
}

func handles(t *testing.T, k *kit) string {
	if why := rootOnly(t, k); why != "" {
		return why
	}
	if out, err := exec.Command(k.probe, "by-handle", folder(t)).CombinedOutput(); err != nil {
		return "the file system of temporary folders has no folder of that number: " + strings.TrimSpace(string(out))
	}
	return ""
}

// setuidLayer is a layer with a program that is root's, with effect for everybody.
func setuidLayer(t *testing.T, k *kit) string {
	layer := k.base(t)
	owned := filepath.Join(layer, "bin/owned")
	if err := os.Rename(filepath.Join(layer, inside), owned); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(owned, 0o755|fs.ModeSetuid|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	return layer
}

func setuidProgram(t *testing.T, k *kit) error {
	o := k.open(t, sandbox.Spec{Layers: []string{setuidLayer(t, k)}, UID: 1000, GID: 1000})
	var got bytes.Buffer
	if err := o.Run(context.Background(), sandbox.Command{Argv: []string{"/bin/owned", "state"}, Stdout: &got}); err != nil {
		return err
	}
	if s := decode(t, got.String()); s.EUID != 0 {
		return fmt.Errorf("user %d", s.EUID)
	}
	return nil
}

func setuidWorks(t *testing.T, k *kit) string {
	if why := rootOnly(t, k); why != "" {
		return why
	}
	c := exec.Command(filepath.Join(setuidLayer(t, k), "bin/owned"), "state")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if decode(t, string(out)).EUID != 0 {
		return "temporary folders are mounted nosuid here"
	}
	return ""
}

func abi(name string) func(*testing.T, *kit) error {
	return func(t *testing.T, k *kit) error {
		if runtime.GOARCH != "amd64" {
			return errors.New("this machine has one interface only")
		}
		got, err := k.open(t, sandbox.Spec{}).probe("abi", name)
		return holds(got, "ok", err)
	}
}

func abiWorks(name string) func(*testing.T, *kit) string {
	return func(_ *testing.T, k *kit) string {
		if out, err := exec.Command(k.probe, "abi", name).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "ok" {
			return fmt.Sprintf("the kernel does not have that interface: %s%v", out, err)
		}
		return ""
	}
}

func pushed(attempt string) func(*testing.T, *kit) error {
	return func(t *testing.T, k *kit) error {
		got, words, err := k.open(t, sandbox.Spec{}).command(sandbox.Command{Stdin: newTerminal(t)}, "try", attempt)
		if err != nil {
			t.Fatalf("%v\n%s", err, words)
		}
		return did(strings.TrimSpace(strings.TrimPrefix(got, attempt)))
	}
}

func pushWorks(*testing.T, *kit) string {
	if !legacyPush() {
		return "the kernel refuses it by dev.tty.legacy_tiocsti"
	}
	return ""
}

func stayBehind(t *testing.T, k *kit) error {
	mark := "mark-" + strconv.Itoa(os.Getpid()) + "-behind"
	o := k.open(t, sandbox.Spec{})
	if err := o.Run(context.Background(), sandbox.Command{Argv: []string{inside, "daemon", mark}}); err != nil {
		return err
	}
	if running(t, mark) == 0 {
		return errors.New("none is left")
	}
	return nil
}

// WayNames are the names of the ways out, in the order in which they are tried.
func WayNames() []string {
	var names []string
	for _, w := range ways() {
		names = append(names, w.name)
	}
	return names
}
