package namespace

import (
	"context"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox/internal/cgroup"
	"github.com/tarn-build/tarn/pkg/sandbox/internal/pid1"
)

// start starts the first stage and waits until commands can run.
func (b Backend) start(ctx context.Context, set *setup) (*pid1.Box, error) {
	o := pid1.BoxOptions{WorkPath: set.WorkPath, Work: set.Work, Limits: set.Limits, Network: set.Network, Off: set.Off}
	if set.AllIDs && !set.Off.Has(userNamespace) {
		o.UID, o.GID = set.UID, set.GID
	}
	if !b.supervise {
		var err error
		if o.Group, err = cgroup.New(cgroup.Limits{Memory: set.Limits.Memory, Processes: set.Limits.Processes}); err != nil {
			return nil, err
		}
	}
	serving := pid1.Serving{Off: set.Off, Processes: set.Limits.Processes}
	if !o.Group.HoldsMemory() {
		serving.Memory, serving.Temporary = set.Limits.Memory, set.temporary()
	}
	box, err := launch(set, o)
	if err != nil {
		return nil, err
	}
	if _, err := box.Ask(ctx, set, &serving); err != nil {
		_ = box.Close()
		return nil, err
	}
	return box, nil
}

// stageEnv is the environment of the stages; commands have none of it. One
// processor is enough for a process that waits.
var stageEnv = []string{"GOMAXPROCS=1"}

// launch starts this program again, as the first process of new namespaces.
func launch(set *setup, o pid1.BoxOptions) (*pid1.Box, error) {
	return pid1.Launch(o, func(control, words *os.File) (*os.Process, error) {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer null.Close()
		first, err := os.StartProcess("/proc/self/exe", []string{firstStage}, &os.ProcAttr{
			Dir: "/", Env: stageEnv,
			Files: []*os.File{null, null, words, control},
			Sys:   set.namespaces(),
		})
		if err != nil {
			return nil, noNamespaces(err)
		}
		if set.uids.count > 0 {
			// It waits for its first message; until then it has no ids.
			if err := set.mapIDs(first.Pid); err != nil {
				_ = first.Kill()
				_, _ = first.Wait()
				return nil, err
			}
		}
		return first, nil
	})
}

// namespaces says which ones the first process gets, and who it is there.
func (set *setup) namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC |
			unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
		Pdeathsig: syscall.SIGKILL,
		Setsid:    true,
	}
	if !set.Network && !set.Off.Has(networkNamespace) {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if set.Off.Has(ipcNamespace) {
		attr.Cloneflags &^= unix.CLONE_NEWIPC
	}
	if set.Off.Has(userNamespace) {
		attr.Cloneflags &^= unix.CLONE_NEWUSER
		return attr
	}
	if set.AllIDs {
		attr.UidMappings = []syscall.SysProcIDMap{{Size: identity}}
		attr.GidMappings = []syscall.SysProcIDMap{{Size: identity}}
		attr.GidMappingsEnableSetgroups = true
		return attr
	}
	if set.uids.count == 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: set.UID, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: set.GID, HostID: os.Getegid(), Size: 1}}
	}
	if set.UID != 0 || set.uids.count > 0 {
		// Exec takes the new namespace's powers from any user but 0 of it.
		for c := uintptr(0); ; c++ {
			if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
				break
			}
			attr.AmbientCaps = append(attr.AmbientCaps, c)
		}
	}
	return attr
}
