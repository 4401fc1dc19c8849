package sandboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// ProbeVariable names a probe that was built before, for machines that run the
// test without a Go toolchain:
// CGO_ENABLED=0 go build ./pkg/sandbox/sandboxtest/probe
const ProbeVariable = "TARN_SANDBOX_PROBE"

const inside = "/bin/probe"

// kit makes roots and sandboxes for one run of the suite.
type kit struct {
	backend sandbox.Backend
	probe   string // outside
}

var built struct {
	once sync.Once
	path string
	err  error
	text []byte
}

// newKit builds the probe, once a test process.
func newKit(t testing.TB, b sandbox.Backend) *kit {
	t.Helper()
	if err := b.Available(); err != nil {
		// The race detector has this program linked with a loader, which not every backend takes.
		if os.Getenv("CI") == "true" && os.Getenv("CGO_ENABLED") != "1" {
			t.Fatalf("backend %s: %v", b.Name(), err)
		}
		t.Skipf("backend %s: %v", b.Name(), err)
	}
	built.once.Do(func() {
		if built.path = os.Getenv(ProbeVariable); built.path != "" {
			return
		}
		var dir string
		if dir, built.err = os.MkdirTemp("", "tarn-probe-"); built.err != nil {
			return
		}
		if built.err = os.Chmod(dir, 0o755); built.err != nil {
			return
		}
		built.path = filepath.Join(dir, "probe")
		c := exec.Command("go", "build", "-o", built.path, "github.com/tarn-build/tarn/pkg/sandbox/sandboxtest/probe")
		c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		built.text, built.err = c.CombinedOutput()
	})
	if built.err != nil {
		t.Fatalf("build probe: %v\n%s", built.err, built.text)
	}
	return &kit{b, built.path}
}

// CleanUp removes the probe that the suite built. TestMain calls it at the end.
func CleanUp() {
	if built.path != "" && os.Getenv(ProbeVariable) == "" {
		os.RemoveAll(filepath.Dir(built.path))
	}
}

// folder makes a folder that everybody may enter.
func folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tree writes files into a new folder: a name that ends in / is a folder, content
// that starts with -> is a link.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := folder(t)
	for name, content := range files {
		full := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			mkdir(t, full)
			continue
		}
		mkdir(t, filepath.Dir(full))
		if to, ok := strings.CutPrefix(content, "->"); ok {
			if err := os.Symlink(to, full); err != nil {
				t.Fatal(err)
			}
			continue
		}
		writeFile(t, full, content)
	}
	return dir
}

func mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// base is a layer that holds the probe.
func (k *kit) base(t testing.TB) string {
	t.Helper()
	dir := tree(t, map[string]string{"bin/": "", "usr/share/": "", "etc/": ""})
	data, err := os.ReadFile(k.probe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, inside), data, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// open opens a sandbox over a layer with the probe, below what s names, and
// closes it when the test ends.
func (k *kit) open(t testing.TB, s sandbox.Spec) *opened {
	t.Helper()
	s.Layers = append(s.Layers, k.base(t))
	box, err := k.backend.Open(context.Background(), s)
	if lack, ok := errors.AsType[*sandbox.Lack](err); ok && s.UID != 0 {
		t.Skip(lack) // a runtime that has one user for an ordinary user
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &opened{box, t}
}

// opened is an open sandbox of a test.
type opened struct {
	sandbox.Sandbox
	t testing.TB
}

// probe runs the probe and gives its standard output, and its error with what it
// said on standard error.
func (o *opened) probe(args ...string) (string, error) {
	o.t.Helper()
	out, words, err := o.command(sandbox.Command{}, args...)
	if err != nil && words != "" {
		o.t.Logf("probe %s: %s", strings.Join(args, " "), strings.TrimSpace(words))
	}
	return out, err
}

func (o *opened) command(c sandbox.Command, args ...string) (string, string, error) {
	o.t.Helper()
	var out, words bytes.Buffer
	c.Argv = append([]string{inside}, args...)
	c.Stdout, c.Stderr = &out, &words
	err := o.Run(context.Background(), c)
	return out.String(), words.String(), err
}

// must runs the probe, which has to succeed.
func (o *opened) must(args ...string) string {
	o.t.Helper()
	out, words, err := o.command(sandbox.Command{}, args...)
	if err != nil {
		o.t.Fatalf("probe %s: %v\n%s", strings.Join(args, " "), err, words)
	}
	return strings.TrimSuffix(out, "\n")
}

// tried gives what one attempt came to: an errno's name, or "ok".
func (o *opened) tried(name string) string {
	o.t.Helper()
	return strings.TrimPrefix(o.must("try", name), name+" ")
}

// triedOutside makes the same attempt on the host, as root of a user namespace of
// its own, in which no filter stands.
func (k *kit) triedOutside(t testing.TB, name string) string {
	t.Helper()
	c := exec.Command(k.probe, "try", name)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		Setsid:      true,
	}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("probe try %s, outside: %v\n%s", name, err, out)
	}
	return strings.TrimPrefix(strings.TrimSuffix(string(out), "\n"), name+" ")
}

// state is what a process sees of itself.
type state struct {
	UID, GID, EUID, PID, PPID, SID int
	Groups                         []int
	Umask                          int
	Dir, Hostname                  string
	CPUs                           int
	Zone                           string
	Status                         map[string]string
	Open                           map[int]string
	Addresses                      []string
	Interfaces                     []string
	Limits                         map[string][2]uint64
}

func (o *opened) state(c sandbox.Command) state {
	o.t.Helper()
	out, words, err := o.command(c, "state")
	if err != nil {
		o.t.Fatalf("probe state: %v\n%s", err, words)
	}
	return decode(o.t, out)
}

func decode(t testing.TB, out string) state {
	t.Helper()
	var s state
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("read state: %v\n%s", err, out)
	}
	return s
}

// running counts the machine's processes that have a word in their arguments.
func running(t testing.TB, mark string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		args, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(args, []byte(mark)) && !bytes.Contains(args, []byte("-test.")) {
			n++
		}
	}
	return n
}

// comesTrue waits for something that the kernel does in its own time. How long
// that takes is no part of what is tested.
func comesTrue(t testing.TB, what string, is func() bool) {
	t.Helper()
	if !becomesTrue(is) {
		t.Errorf("not so after half a minute: %s", what)
	}
}

func becomesTrue(is func() bool) bool {
	for range 3000 {
		if is() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// mounts is the host's mount table.
func mounts(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sameMounts holds that the host's mount table is what it was. What a sandbox left in it
// would stay; others than these tests may mount something for a while.
func sameMounts(t testing.TB, before string) {
	t.Helper()
	if !becomesTrue(func() bool { return mounts(t) == before }) {
		t.Errorf("mounts of the host changed:\n%s", cmp.Diff(before, mounts(t)))
	}
}
