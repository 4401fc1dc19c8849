package namespace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/internal/cgroup"
	"github.com/tarn-build/tarn/pkg/sandbox/internal/pid1"
)

// runtimeStage makes a root of the layers, in mount and user namespaces that are its own,
// and executes a container runtime there.
const runtimeStage = "tarn-sandbox-runtime"

const (
	// programFD is where a runtime finds the program that is the container's first
	// process, beside the control socket.
	programFD = 4
	// layersFolder is the folder of a bundle where the layers are laid over each other.
	layersFolder = "layers"
)

// Plan is a Spec with everything settled, for a backend that hands it to a runtime.
type Plan struct {
	set *setup
	// AllIDs tells that ids inside are those of the host; else there is one, the caller's.
	AllIDs bool
	// The rest is as in Spec, with defaults and absolute paths.
	Work, WorkPath, Hostname string
	UID, GID                 int
	Binds                    []sandbox.Bind
	Capabilities             []string // as CAP_NET_RAW
	Limits                   sandbox.Limits
	WritableRoot             bool
	Network                  bool
}

// Settle checks a Spec as Open does.
func Settle(s sandbox.Spec) (*Plan, error) {
	set, err := prepare(s)
	if err != nil {
		return nil, err
	}
	return &Plan{
		set: set, AllIDs: set.AllIDs, Work: set.Work, WorkPath: set.WorkPath, Hostname: set.Hostname, UID: set.UID, GID: set.GID,
		Binds: set.Binds, Capabilities: capabilityNames(set.Capabilities), Limits: set.Limits, WritableRoot: set.WritableRoot, Network: set.Network,
	}, nil
}

// RootOf is where the root of a bundle's container stands while it runs; only its
// runtime sees it.
func RootOf(bundle string) string { return filepath.Join(bundle, layersFolder, newRoot) }

// InitArgs start the container's first process.
func InitArgs() []string { return []string{fmt.Sprintf("/proc/self/fd/%d", programFD), secondStage} }

// InitDescriptors is how many descriptors above standard error the container's first
// process has to get.
const InitDescriptors = programFD - 2

// Covered and Fixed are the parts of /proc that are hidden, and those that nobody writes.
func Covered() []string { return inProc(covered) }

// Fixed is told with Covered.
func Fixed() []string { return inProc(fixed) }

func inProc(names []string) []string {
	paths := make([]string, len(names))
	for i, n := range names {
		paths[i] = "/proc/" + n
	}
	return paths
}

// start message of runtimeStage, besides the setup.
type runtimeStart struct {
	Bundle string
	Argv   pid1.Strings
	Env    pid1.Strings
}

// StartRuntime runs a container runtime whose bundle lies in a folder, and waits until
// commands can run in its container. Release is called when all of it has ended.
func (p *Plan) StartRuntime(ctx context.Context, bundle string, argv, env []string, release func()) (sandbox.Sandbox, error) {
	o := pid1.BoxOptions{WorkPath: p.WorkPath, Work: p.Work, Limits: p.Limits, Network: p.Network, Release: release, Patience: 5 * time.Second}
	if p.AllIDs {
		o.UID, o.GID = p.UID, p.GID
	}
	var err error
	if o.Group, err = cgroup.New(cgroup.Limits{Memory: p.Limits.Memory, Processes: 0}); err != nil {
		release()
		return nil, err
	}
	serving := pid1.Serving{Filter: true, Processes: p.Limits.Processes}
	if !o.Group.HoldsMemory() {
		serving.Memory, serving.Temporary = p.Limits.Memory, p.set.temporary()
	}
	box, err := pid1.Launch(o, func(control, words *os.File) (*os.Process, error) {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer null.Close()
		fd, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		program := os.NewFile(uintptr(fd), "/proc/self/exe")
		defer program.Close()
		// The stage gets the program at the number where the runtime is to have it: there
		// it would have to close what Go's own runtime may have opened by then.
		first, err := os.StartProcess("/proc/self/exe", []string{runtimeStage}, &os.ProcAttr{
			Dir: "/", Env: stageEnv, Files: []*os.File{null, words, words, control, program}, Sys: p.outer(),
		})
		if err != nil {
			return nil, noNamespaces(err)
		}
		return first, nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := box.Ask(ctx, p.set, &runtimeStart{Bundle: bundle, Argv: argv, Env: env}, &serving); err != nil {
		_ = box.Close()
		return nil, err
	}
	return box, nil
}

// outer are the namespaces around the runtime: those in which it may mount, whoever the
// caller is, and one of processes, with which the kernel ends a container that is half made
// when its runtime is killed.
func (p *Plan) outer() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL, Setsid: true}
	if p.AllIDs {
		attr.UidMappings = []syscall.SysProcIDMap{{Size: identity}}
		attr.GidMappings = []syscall.SysProcIDMap{{Size: identity}}
		attr.GidMappingsEnableSetgroups = true
		return attr
	}
	attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	return attr
}

// becomeRuntime is the stage.
func becomeRuntime(control *pid1.Channel) error {
	var set setup
	var start runtimeStart
	if _, err := control.Receive(&set); err != nil {
		return err
	}
	if _, err := control.Receive(&start); err != nil {
		return err
	}
	return fail(control, set.runRuntime(&start))
}

func (set *setup) runRuntime(start *runtimeStart) error {
	unix.Umask(0)
	if err := set.makeBundleRoot(start.Bundle); err != nil {
		return err
	}
	unix.Umask(0o022)
	if len(set.CPUs) > 0 {
		if err := set.chooseProcessors(); err != nil {
			return err
		}
	}
	if err := resetSignals(); err != nil {
		return err
	}
	if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return err
	}
	for _, fd := range []int{controlFD, programFD} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	return fmt.Errorf("start %s: %w", start.Argv[0], syscall.Exec(start.Argv[0], start.Argv, start.Env))
}

// makeBundleRoot lays the layers over each other where the bundle's root is, and sees
// that no link leads a mount of the runtime's elsewhere.
func (set *setup) makeBundleRoot(bundle string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return lackOf(err, "make mounts private")
	}
	proc, err := newMount("proc", nil, plain|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return lackOf(err, "mount a /proc of its own")
	}
	err = unix.MoveMount(proc, "", unix.AT_FDCWD, "/proc", unix.MOVE_MOUNT_F_EMPTY_PATH)
	unix.Close(proc)
	if err != nil {
		return fmt.Errorf("mount at /proc: %w", err)
	}
	// Limits are kept by the group that this process is in already. What a runtime
	// made of its own would stay when it is killed: so it is shown groups of version 2
	// in which it can make none, which runc without root can live with. Where the machine
	// has that version alone, the kernel mounts it on no mount of its own (EBUSY): what
	// lies between is also what is seen where groups can't be mounted.
	const groups, cover = "/sys/fs/cgroup", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY
	if _, err := os.Stat(groups); err == nil {
		if err := unix.Mount("tmpfs", groups, "tmpfs", cover, ""); err != nil {
			return fmt.Errorf("cover control groups: %w", err)
		}
		_ = unix.Mount("cgroup2", groups, "cgroup2", cover, "")
	}
	layers := filepath.Join(bundle, layersFolder)
	if err := unix.Mount("tmpfs", layers, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=0755,size=%d", set.Limits.Memory)); err != nil {
		return lackOf(err, "mount a temporary file system")
	}
	if err := unix.Chdir(layers); err != nil {
		return err
	}
	if err := set.makeSkeleton(); err != nil {
		return fmt.Errorf("make the lowest layer: %w", err)
	}
	if err := set.mountOverlay(); err != nil {
		return err
	}
	fd, err := unix.Open(newRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return set.checkPlaces(root{fd: fd})
}

// checkPlaces refuses links where something is going to be mounted.
func (set *setup) checkPlaces(r root) error {
	for _, name := range append([]string{"/proc", "/dev", "/run", "/tmp", set.WorkPath}, bindPlaces(set.Binds)...) {
		if err := r.unlinked(name); err != nil {
			return err
		}
	}
	for _, b := range set.Binds {
		below, inside := strings.CutPrefix(b.Path, set.WorkPath+"/")
		if !inside || set.Work == "" {
			continue
		}
		fd, err := unix.Open(set.Work, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = root{fd: fd}.unlinked("/" + below)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

func bindPlaces(binds []sandbox.Bind) []string {
	var places []string
	for _, b := range binds {
		places = append(places, b.Path)
	}
	return places
}

// unlinked fails when a link is at a path or leads to it. What is not there is made later.
func (r root) unlinked(name string) error {
	for ; name != "/"; name = filepath.Dir(name) {
		fd, err := r.at(name)
		switch {
		case errors.Is(err, unix.ELOOP):
			return fmt.Errorf("mount at %s: a layer has a symbolic link there", name)
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		case err != nil:
			return fmt.Errorf("mount at %s: %w", name, err)
		default:
			unix.Close(fd)
		}
	}
	return nil
}
