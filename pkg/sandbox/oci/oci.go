// Package oci is the sandbox that a container runtime makes: crun, runc, or another one
// that has the command line of runc, such as runsc (gVisor). It writes a bundle
// (https://github.com/opencontainers/runtime-spec) from the same Spec as package
// namespace, and runs the same first process in it, which serves commands and puts the
// same system call filter on itself.
//
//	parent ──clone──▶ stage: user and mount namespace, layers = overlay
//	                    └──exec──▶ runtime run BUNDLE
//	                                  └──▶ first process ──▶ command
//
// The layers are mounted by us and not by the runtime: a config.json has no place for a
// hundred of them that is short enough, and what is mounted in a namespace of its own
// goes with it, also when all is killed.
package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
)

// Runtimes are the runtimes there are names for, the preferred first.
func Runtimes() []string { return host.Runtimes() }

// Backend opens sandboxes with a container runtime.
type Backend struct {
	// Runtime is one of Runtimes; the first that is installed when empty.
	Runtime string
}

// Name is "oci", or the runtime's when it names one.
func (b Backend) Name() string {
	if b.Runtime == "" {
		return "oci"
	}
	return b.Runtime
}

// find gives the runtime and its program.
func (b Backend) find() (name, path string, err error) {
	if b.Runtime != "" {
		path, err = host.Runtime(b.Runtime)
		return b.Runtime, path, err
	}
	for _, name := range Runtimes() {
		if path, err := host.Runtime(name); err == nil {
			return name, path, nil
		}
	}
	return "", "", &sandbox.Lack{What: "no container runtime is installed (" + strings.Join(Runtimes(), ", ") + ")", Fix: "install Debian's package crun"}
}

// tried remembers, by program, what Available found.
var tried sync.Map

// Available opens a sandbox, and says what is in the way.
func (b Backend) Available() error {
	_, path, err := b.find()
	if err != nil {
		return err
	}
	once, _ := tried.LoadOrStore(path, sync.OnceValue(func() error {
		dir, err := os.MkdirTemp("", "tarn-try-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		box, err := b.Open(context.Background(), sandbox.Spec{Layers: []string{dir}})
		if err != nil {
			return err
		}
		return box.Close()
	}))
	return once.(func() error)()
}

// Open makes a bundle and starts the runtime with it.
func (b Backend) Open(ctx context.Context, s sandbox.Spec) (sandbox.Sandbox, error) {
	box, err := b.open(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("open sandbox: %w", err)
	}
	return box, nil
}

// count makes the names of containers different within one process.
var count atomic.Uint64

func (b Backend) open(ctx context.Context, s sandbox.Spec) (sandbox.Sandbox, error) {
	p, err := namespace.Settle(s)
	if err != nil {
		return nil, err
	}
	name, program, err := b.find()
	if err != nil {
		return nil, err
	}
	if !namespace.Static() {
		return nil, &sandbox.Lack{What: name + " can't start a first process that is linked with a loader, which this program is", Fix: "build it with CGO_ENABLED=0"}
	}
	if name != "crun" && !p.AllIDs && (p.UID != 0 || p.GID != 0) {
		return nil, &sandbox.Lack{What: fmt.Sprintf("%s has no user but 0 inside for an ordinary user of the host; user %d, group %d were asked for", name, p.UID, p.GID), Fix: "--runner namespace, or crun"}
	}
	bundle, release, err := makeBundle()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(config(p, bundle), "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o644)
	}
	if err != nil {
		release()
		return nil, err
	}
	argv := []string{program, "--root", filepath.Join(bundle, "state")}
	if name == "crun" {
		argv = append(argv, "--cgroup-manager=disabled")
	}
	id := fmt.Sprintf("tarn-%d-%d", os.Getpid(), count.Add(1))
	argv = append(argv, "run", "--bundle", bundle, "--preserve-fds", strconv.Itoa(namespace.InitDescriptors), "--no-new-keyring", id)
	// Where a runtime keeps what it must not keep in the state folder.
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR=" + filepath.Join(bundle, "run"), "HOME=" + bundle}
	return p.StartRuntime(ctx, bundle, argv, env, release)
}

// Several tells whether files can belong to several users: with a runtime only root's can.
func (b Backend) Several() bool { return os.Geteuid() == 0 }

// Take and Give have nothing to do for root.
func (Backend) Take(context.Context, string, int, int) ([]sandbox.Owned, error) { return nil, nil }

// Give is told with Take.
func (Backend) Give(context.Context, string, int, int, []sandbox.Owned) error { return nil }

const bundlePrefix = "tarn-bundle-"

// makeBundle makes a folder, locked as long as this process has it, and removes those
// of processes that were killed.
func makeBundle() (dir string, release func(), err error) {
	parent := os.TempDir()
	sweep(parent)
	for {
		dir, err := os.MkdirTemp(parent, bundlePrefix)
		if err != nil {
			return "", nil, err
		}
		f, err := os.Open(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			os.RemoveAll(dir)
			return "", nil, err
		}
		if _, err := os.Stat(dir); err != nil {
			f.Close()
			continue // swept before it was locked
		}
		release := func() { os.RemoveAll(dir); f.Close() }
		for _, sub := range []string{"layers", "state", "run"} {
			if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
				release()
				return "", nil, err
			}
		}
		return dir, release, nil
	}
}

func sweep(parent string) {
	dirs, err := filepath.Glob(filepath.Join(parent, bundlePrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(dir)
		}
		f.Close()
	}
}

// config is the bundle's config.json.
func config(p *namespace.Plan, bundle string) *specs.Spec {
	umask := uint32(0o022)
	c := &specs.Spec{
		Version:  "1.0.2",
		Hostname: p.Hostname,
		Root:     &specs.Root{Path: namespace.RootOf(bundle), Readonly: !p.WritableRoot},
		Process: &specs.Process{
			Args: namespace.InitArgs(), Env: []string{"GOMAXPROCS=1"}, Cwd: "/",
			User:            specs.User{UID: uint32(p.UID), GID: uint32(p.GID), Umask: &umask},
			NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: p.Capabilities, Effective: p.Capabilities, Inheritable: p.Capabilities, Permitted: p.Capabilities, Ambient: p.Capabilities,
			},
			Rlimits: rlimits(p.Limits),
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.UserNamespace}, {Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths:       namespace.Covered(),
			ReadonlyPaths:     namespace.Fixed(),
			RootfsPropagation: "private",
		},
	}
	ids := []specs.LinuxIDMapping{{Size: 65536}}
	c.Linux.UIDMappings, c.Linux.GIDMappings = ids, ids
	if !p.AllIDs {
		c.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: uint32(p.UID), Size: 1}}
		c.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: uint32(p.GID), Size: 1}}
	}
	if !p.Network {
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
		c.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
	}
	c.Mounts = mounts(p)
	return c
}

// mounts are what stands in the root besides the layers, in order.
func mounts(p *namespace.Plan) []specs.Mount {
	size := "size=" + strconv.FormatInt(p.Limits.Memory, 10)
	temporary := func(path, mode string, more ...string) specs.Mount {
		return specs.Mount{Destination: path, Type: "tmpfs", Source: "tmpfs", Options: append([]string{"nosuid", "nodev", "mode=" + mode, size}, more...)}
	}
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=0755", "size=65536k", "ro"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		temporary("/dev/shm", "1777"),
		temporary("/tmp", "1777"), temporary("/run", "0755"), temporary("/var/tmp", "1777"),
	}
	if p.Work == "" {
		all = append(all, temporary(p.WorkPath, "0755"))
	} else {
		all = append(all, specs.Mount{Destination: p.WorkPath, Type: "bind", Source: p.Work, Options: []string{"rbind", "nosuid", "nodev", "rw"}})
	}
	for _, b := range p.Binds {
		access := "ro"
		if b.Writable {
			access = "rw"
		}
		all = append(all, specs.Mount{Destination: b.Path, Type: "bind", Source: b.Source, Options: []string{"rbind", "nosuid", "nodev", access}})
	}
	return all
}

// rlimits are those of package namespace. None may be above what this process has.
func rlimits(l sandbox.Limits) []specs.POSIXRlimit {
	unlimited := uint64(unix.RLIM_INFINITY)
	largest := unlimited
	if l.Disk > 0 {
		largest = uint64(l.Disk)
	}
	processes := uint64(l.Processes + l.Processes/8 + 64)
	var all []specs.POSIXRlimit
	for _, one := range []struct {
		name       string
		number     int
		soft, hard uint64
	}{
		{"RLIMIT_CORE", unix.RLIMIT_CORE, 0, 0},
		{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE, uint64(l.OpenFiles), uint64(l.OpenFiles)},
		{"RLIMIT_STACK", unix.RLIMIT_STACK, 8 << 20, unlimited},
		{"RLIMIT_CPU", unix.RLIMIT_CPU, unlimited, unlimited},
		{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE, largest, largest},
		{"RLIMIT_DATA", unix.RLIMIT_DATA, unlimited, unlimited},
		{"RLIMIT_AS", unix.RLIMIT_AS, unlimited, unlimited},
		{"RLIMIT_NPROC", unix.RLIMIT_NPROC, processes, processes},
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(one.number, &now); err != nil {
			continue
		}
		hard := min(one.hard, now.Max)
		all = append(all, specs.POSIXRlimit{Type: one.name, Soft: min(one.soft, hard), Hard: hard})
	}
	return all
}

// Version is the first line of what the runtime says of itself.
func (b Backend) Version(ctx context.Context) (string, error) {
	name, _, err := b.find()
	if err != nil {
		return "", err
	}
	out, err := host.RuntimeVersion(ctx, name)
	if err != nil {
		return "", err
	}
	first, _, _ := bytes.Cut(out, []byte("\n"))
	return string(first), nil
}
