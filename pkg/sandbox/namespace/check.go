package namespace

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/internal/cgroup"
	"github.com/tarn-build/tarn/pkg/sandbox/internal/pid1"
)

// Fact is something about this machine that sandboxes depend on.
type Fact struct {
	Name   string `json:"name"`             // e.g. "overlay"
	Needed bool   `json:"needed"`           // no sandbox without it
	OK     bool   `json:"ok"`               // tried, and it works
	Detail string `json:"detail,omitempty"` // e.g. "6.1.0-28-amd64", or what went wrong and the setting that is the reason
	Fix    string `json:"fix,omitempty"`    // what to do, where it is known
}

// Check tries what sandboxes need and what they are better with, in the order in
// which they need it. It makes namespaces and mounts in them; nothing stays.
func Check(ctx context.Context) []Fact {
	facts := []Fact{{Name: "kernel", Needed: true, OK: true, Detail: kernel()}}
	inside, err := tryNamespaces(ctx)
	made := Fact{Name: "namespaces", Needed: true}.of(err)
	if made.OK {
		made.Detail = "user, mount, pid, net, ipc, uts, cgroup"
	}
	facts = append(facts, made)
	facts = append(facts, inside...)
	return append(facts, staticProgram(), subordinateIDs(), limits())
}

// staticProgram says whether this program can be executed inside, where there is
// no loader for it.
func staticProgram() Fact {
	f := Fact{Name: "static program", OK: Static()}
	if !f.OK {
		f.Detail = "linked with a loader: the sandbox's first process keeps threads that have power in it, out of reach of commands"
		f.Fix = "build with CGO_ENABLED=0"
	}
	return f
}

// Static tells whether this program needs no loader, so that it can be executed inside. Of
// a program that can't be read it is assumed.
func Static() bool {
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		return true
	}
	defer program.Close()
	return !slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// tryNamespaces starts a first process that tries the rest from inside.
func tryNamespaces(ctx context.Context) ([]Fact, error) {
	set := &setup{AllIDs: ownsAllIDs(), Check: true}
	b, err := launch(set, pid1.BoxOptions{})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	a, err := b.Ask(ctx, set)
	if err != nil {
		return nil, err
	}
	var facts []Fact
	return facts, json.Unmarshal(a.Data, &facts)
}

// of completes a fact by what trying gave.
func (f Fact) of(err error) Fact {
	f.OK = err == nil
	if err == nil {
		return f
	}
	f.Detail = err.Error()
	if lack := (*sandbox.Lack)(nil); errors.As(err, &lack) {
		f.Detail, f.Fix = lack.What, lack.Fix
	}
	return f
}

// facts is the first stage's answer when it was asked to check.
func facts() *pid1.Answer {
	data, err := json.Marshal(tryAll())
	if err != nil {
		return pid1.Failed(err)
	}
	return &pid1.Answer{Data: data}
}

// tryAll runs in the first stage, in namespaces and with all their powers.
func tryAll() []Fact {
	facts := []Fact{Fact{Name: "mounts", Needed: true}.of(tryMount())}
	if !facts[0].OK {
		return facts
	}
	byFD, byMount := tryOverlay(overlayByFD), tryOverlay(overlayByMount)
	over := byFD
	if byFD != nil {
		over = byMount
	}
	many := Fact{Name: "overlay lowerdir+"}.of(byFD)
	if !many.OK && over == nil {
		many.Fix = "Linux 6.5 has it; without it layers are named in one page, which does as well"
	}
	return append(facts,
		Fact{Name: "overlay", Needed: true}.of(lackOf(over, "mount an overlay")),
		many,
		Fact{Name: "process table", Needed: true}.of(lackOf(tryProc(), "mount /proc")),
		Fact{Name: "system call filter", Needed: true}.of(tryFilter()),
	)
}

func tryMount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return lackOf(err, "make mounts private")
	}
	if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return lackOf(err, "mount a temporary file system")
	}
	if err := unix.Chdir(scratch); err != nil {
		return err
	}
	for _, name := range []string{"0", skeleton, newRoot, "proc"} {
		if err := unix.Mkdir(name, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func tryOverlay(mount func([]string, [][2]string, int) error) error {
	if err := mount([]string{"0", skeleton}, nil, plain|unix.MOUNT_ATTR_RDONLY); err != nil {
		return err
	}
	return unix.Unmount(newRoot, unix.MNT_DETACH)
}

func tryProc() error {
	fd, err := newMount("proc", nil, plain)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func tryFilter() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return lackOf(err, "refuse new privileges")
	}
	if err := pid1.LoadFilter(); err != nil {
		return &sandbox.Lack{What: err.Error(), Fix: "a kernel with CONFIG_SECCOMP_FILTER"}
	}
	return nil
}

// subordinateIDs says whether an ordinary user could have several users inside.
func subordinateIDs() Fact {
	f := Fact{Name: "subordinate ids"}
	if ownsAllIDs() {
		f.OK, f.Detail = true, "root has all of them"
		return f
	}
	u, err := user.Current()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		if !lists(file, u.Username, u.Uid) {
			f.Detail = fmt.Sprintf("%s has no line for %s", file, u.Username)
			f.Fix = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + u.Username
			return f
		}
	}
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			f.Detail, f.Fix = program+" is not installed", "apt-get install uidmap"
			return f
		}
	}
	f.OK, f.Detail = true, "newuidmap and a line in /etc/subuid"
	return f
}

// lists says whether a file of subuid(5) has a line for a user.
func lists(file, name, id string) bool {
	for line := range strings.Lines(read(file)) {
		if who, _, _ := strings.Cut(line, ":"); who == name || who == id {
			return true
		}
	}
	return false
}

// limits says who keeps the limits on memory and processes.
func limits() Fact {
	held, text := cgroup.Describe()
	if len(held) == 2 {
		return Fact{Name: "limits", OK: true, Detail: "kept by the kernel in control groups: " + text}
	}
	f := Fact{Name: "limits", Detail: "memory and processes are summed by a supervisor: " + text}
	if len(held) == 1 {
		f.Detail = fmt.Sprintf("the kernel keeps one (%s), a supervisor sums the other", text)
	}
	f.Fix = "nothing has to be done; to have the kernel keep them: systemd-run --user --scope -p Delegate=yes tarn ..."
	return f
}
