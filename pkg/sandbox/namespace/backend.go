package namespace

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/internal/pid1"
)

// Backend opens sandboxes made of namespaces. Its zero value is ready.
type Backend struct {
	// mount2 mounts the overlay as on kernels before 6.5.
	mount2 bool
	// supervise makes no control group although there could be one.
	supervise bool
	// off are defences that are not put up, for tests that show what they are for.
	off pid1.Off
}

// Name is "namespace".
func (Backend) Name() string { return "namespace" }

// Available tries what a sandbox needs on this machine, and says by a
// *sandbox.Lack what is missing and which setting is the reason.
func (b Backend) Available() error {
	for _, f := range Check(context.Background()) {
		if f.Needed && !f.OK {
			return &sandbox.Lack{What: f.Name + ": " + f.Detail, Fix: f.Fix}
		}
	}
	return nil
}

// Open makes a sandbox. What the machine lacks is a *sandbox.Lack.
func (b Backend) Open(ctx context.Context, s sandbox.Spec) (sandbox.Sandbox, error) {
	set, err := prepare(s)
	if err != nil {
		return nil, fmt.Errorf("open sandbox: %w", err)
	}
	set.Mount2 = b.mount2
	set.Off = b.off
	box, err := b.start(ctx, set)
	if err != nil {
		return nil, fmt.Errorf("open sandbox: %w", err)
	}
	return box, nil
}

// nowhere is the resolver of a sandbox without a network: an address for documents, which no
// route leads to (RFC 5737). Without any, C libraries ask the loopback, where somebody may
// listen, and where nobody does, musl waits for an answer: with it a name is refused
// sooner, and that one was asked for is counted with all else that leads out.
const nowhere = "nameserver 192.0.2.53\noptions timeout:1 attempts:1\n"

const (
	defaultWorkPath = "/home/build"
	defaultHostname = "tarn"

	// maxLayers is one fewer than what the kernel's overlay takes
	// (OVL_MAX_STACK, fs/overlayfs/params.h): the skeleton is one more.
	maxLayers = 499

	// identity is the number of ids that root maps to themselves.
	identity = 65536
)

// setup is what the first stage is told. It travels as JSON from the same program
// and so has no versions.
type setup struct {
	Layers       pid1.Strings
	Work         string
	WorkPath     string
	Binds        []sandbox.Bind
	Hostname     string
	UID, GID     int
	Capabilities uint64
	Limits       sandbox.Limits
	CPUs         []int // empty is all
	WritableRoot bool
	Network      bool
	Resolv       string // content of /etc/resolv.conf
	Hosts        string // content of /etc/hosts
	AllIDs       bool   // ids are mapped to themselves, otherwise only UID and GID exist
	Mount2       bool   // mount the overlay by mount(2)
	Off          pid1.Off
	Check        bool // report what works instead of opening
	Owners       *ownersTask

	uids, gids subordinate // mapped by newuidmap when there are any
	hostProc   int         // see ownProc
}

// prepare checks a Spec and settles what it leaves open.
func prepare(s sandbox.Spec) (*setup, error) {
	if len(s.Layers) == 0 {
		return nil, errors.New("a root of no layers")
	}
	set := &setup{
		Work: s.Work, WorkPath: s.WorkPath, Binds: s.Binds, Hostname: s.Hostname,
		UID: s.UID, GID: s.GID, WritableRoot: s.WritableRoot, Network: s.Network.Granted(),
		AllIDs: ownsAllIDs(), Limits: s.Limits.Settled(),
	}
	if set.WorkPath == "" {
		set.WorkPath = defaultWorkPath
	}
	if set.Hostname == "" {
		set.Hostname = defaultHostname
	}
	if len(set.Hostname) > 64 || strings.ContainsAny(set.Hostname, " \t\n\x00/") {
		return nil, fmt.Errorf("host name %q", set.Hostname)
	}
	if set.UID < 0 || set.UID >= identity || set.GID < 0 || set.GID >= identity {
		return nil, fmt.Errorf("user %d, group %d: ids inside are 0 to %d", set.UID, set.GID, identity-1)
	}
	if err := set.addLayers(s.Layers); err != nil {
		return nil, err
	}
	if err := set.checkPaths(); err != nil {
		return nil, err
	}
	var err error
	if set.Capabilities, err = capabilities(s.Capabilities); err != nil {
		return nil, err
	}
	if s.Owners && !set.AllIDs {
		set.uids, set.gids, _ = subordinates()
	}
	if s.CPUs > 0 {
		if set.CPUs, err = chooseCPUs(s.CPUs); err != nil {
			return nil, err
		}
	}
	set.Hosts = "127.0.0.1\tlocalhost " + set.Hostname + "\n::1\tlocalhost " + set.Hostname + "\n"
	set.Resolv = nowhere
	if set.Network {
		set.Resolv = ""
		// A sandbox that has the host's network has the host's names too.
		for name, to := range map[string]*string{"/etc/resolv.conf": &set.Resolv, "/etc/hosts": &set.Hosts} {
			if data, err := os.ReadFile(name); err == nil {
				*to = string(data)
			}
		}
	}
	return set, nil
}

// addLayers keeps each folder once, where it is highest: the overlay refuses a
// folder that it was given before, and the lower one would not be seen anyway.
func (set *setup) addLayers(layers []string) error {
	seen := make(map[string]bool, len(layers))
	for _, l := range layers {
		l, err := filepath.Abs(l)
		if err != nil {
			return err
		}
		if !seen[l] {
			seen[l] = true
			set.Layers = append(set.Layers, l)
		}
	}
	if len(set.Layers) > maxLayers {
		return fmt.Errorf("a root of %d layers; an overlay holds at most %d\n  hint: merge layers into one folder", len(set.Layers), maxLayers)
	}
	return nil
}

// checkPaths makes host paths absolute and refuses places inside that are none.
func (set *setup) checkPaths() error {
	for _, p := range append([]string{set.Work, set.WorkPath}, bindPaths(set.Binds)...) {
		if !utf8.ValidString(p) {
			return fmt.Errorf("path %q: not UTF-8", p)
		}
	}
	if err := checkInside(set.WorkPath); err != nil {
		return err
	}
	var err error
	if set.Work != "" {
		if set.Work, err = filepath.Abs(set.Work); err != nil {
			return err
		}
	}
	set.Binds = slices.Clone(set.Binds)
	for i := range set.Binds {
		b := &set.Binds[i]
		if err := checkInside(b.Path); err != nil {
			return err
		}
		if b.Source, err = filepath.Abs(b.Source); err != nil {
			return err
		}
	}
	return nil
}

func bindPaths(binds []sandbox.Bind) []string {
	var paths []string
	for _, b := range binds {
		paths = append(paths, b.Source, b.Path)
	}
	return paths
}

// checkInside refuses mount points that would not be one, or that would uncover
// or replace what the sandbox itself puts there.
func checkInside(p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || strings.ContainsRune(p, 0) {
		return fmt.Errorf("mount point %q: want a clean absolute path below /", p)
	}
	for _, own := range []string{"/proc", "/dev", "/sys"} {
		if p == own || strings.HasPrefix(p, own+"/") {
			return fmt.Errorf("mount point %q: %s belongs to the sandbox", p, own)
		}
	}
	return nil
}

// refused are capabilities that would open the sandbox's own PID 1, and with it
// the program that runs outside, to the commands inside.
var refused = []capability.Cap{capability.CAP_SYS_PTRACE, capability.CAP_CHECKPOINT_RESTORE}

// capabilities turns names such as CAP_NET_BIND_SERVICE into a set of bits.
func capabilities(names []string) (uint64, error) {
	var set uint64
	for _, name := range names {
		plain := strings.TrimPrefix(strings.ToLower(name), "cap_")
		i := slices.IndexFunc(capability.ListKnown(), func(c capability.Cap) bool { return c.String() == plain })
		if i < 0 {
			return 0, fmt.Errorf("unknown capability %q", name)
		}
		c := capability.ListKnown()[i]
		if slices.Contains(refused, c) {
			return 0, fmt.Errorf("capability %s is never given: it reaches the sandbox's first process", name)
		}
		set |= 1 << uint(c)
	}
	// A command that may change its user may leave processes behind that the
	// first process could not end without this one.
	if set&(1<<unix.CAP_SETUID) != 0 {
		set |= 1 << unix.CAP_KILL
	}
	return set, nil
}

// capabilityNames turns a set of bits into names such as CAP_NET_BIND_SERVICE.
func capabilityNames(set uint64) []string {
	var names []string
	for _, c := range capability.ListKnown() {
		if set&(1<<uint(c)) != 0 {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names
}

// turn is how many processors were handed out so far.
var turn atomic.Uint64

// chooseCPUs takes n of the processors that this process may use, and others than
// those of the sandbox before, so that sandboxes beside each other do not share
// one while another is idle.
func chooseCPUs(n int) ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read processor affinity: %w", err)
	}
	var all []int
	for i := range len(set) * bits.UintSize {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	if n >= len(all) {
		return nil, nil
	}
	first := turn.Add(uint64(n)) - uint64(n)
	chosen := make([]int, n)
	for i := range chosen {
		chosen[i] = all[(first+uint64(i))%uint64(len(all))]
	}
	slices.Sort(chosen)
	return chosen, nil
}

// ownsAllIDs says whether this process may map all ids to themselves: it is root
// with its powers, in a user namespace that has those ids.
func ownsAllIDs() bool {
	if os.Geteuid() != 0 {
		return false
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	const need = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return data[0].Effective&need == need && mapsAll("/proc/self/uid_map") && mapsAll("/proc/self/gid_map")
}

// mapsAll reads user_namespaces(7): lines of first id inside, first outside, count.
func mapsAll(file string) bool {
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "0" {
			continue
		}
		if n, err := strconv.ParseUint(f[2], 10, 64); err == nil && n >= identity {
			return true
		}
	}
	return false
}
