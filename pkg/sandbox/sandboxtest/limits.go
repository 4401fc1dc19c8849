package sandboxtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// RunLimits runs the part of the suite that is about limits alone, for a backend's
// other ways to keep them.
func RunLimits(t *testing.T, b sandbox.Backend) {
	k := newKit(t, b)
	if child(t, k) {
		return
	}
	t.Run("limits are kept and named", func(t *testing.T) { limits(t, k) })
	t.Run("limits have defaults", func(t *testing.T) { limitDefaults(t, k) })
}

func limits(t *testing.T, k *kit) {
	const mib = 1 << 20
	for _, c := range []struct {
		name   string
		limits sandbox.Limits
		args   []string
		want   string // the limit that is named; none is reached when ""
	}{
		{"memory", sandbox.Limits{Memory: 128 * mib}, []string{"eat", "1", "400"}, "memory (128 MiB)"},
		{"memory that is enough", sandbox.Limits{Memory: 512 * mib}, []string{"eat", "1", "100"}, ""},
		{"memory of several processes", sandbox.Limits{Memory: 256 * mib}, []string{"eat", "6", "80"}, "memory (256 MiB)"},
		{"memory in a temporary file system", sandbox.Limits{Memory: 128 * mib}, []string{"fill-all", "100", "/tmp/a", "/dev/shm/b", "/run/c"}, "memory (128 MiB)"},
		{"memory of a process whose end nobody minds", sandbox.Limits{Memory: 128 * mib}, []string{"ignore", "eat", "1", "400"}, "memory (128 MiB)"},
		{"processes", sandbox.Limits{Processes: 60}, []string{"fork", "500"}, "processes (60)"},
		{"processes that nobody minds", sandbox.Limits{Processes: 60}, []string{"ignore", "fork", "500"}, "processes (60)"},
		{"processes that are few enough", sandbox.Limits{Processes: 400}, []string{"fork", "10"}, ""},
		{"disk", sandbox.Limits{Disk: 20 * mib}, []string{"fill-all", "15", "a", "b", "c"}, "disk (20 MiB)"},
		{"disk by one file", sandbox.Limits{Disk: 20 * mib}, []string{"fill-all", "50", "a"}, "disk (20 MiB)"},
		{"disk by one file that is a hole", sandbox.Limits{Disk: 20 * mib}, []string{"grow", "20", "a"}, "disk (20 MiB)"},
		{"disk that is enough", sandbox.Limits{Disk: 100 * mib}, []string{"fill-all", "20", "a", "b"}, ""},
		{"open files that are few enough", sandbox.Limits{OpenFiles: 100}, []string{"open", "60"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := k.open(t, sandbox.Spec{Work: folder(t), Limits: c.limits})
			var command sandbox.Command
			if c.want != "" {
				// It stays until the limit is seen, however busy the machine is.
				command = sandbox.Command{Env: []string{"LINGER=1"}, Timeout: 5 * time.Minute}
			}
			_, words, err := o.command(command, c.args...)
			var exit *sandbox.ExitError
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v, want that it fits\n%s", err, words)
			case c.want != "" && (!errors.As(err, &exit) || exit.Limit != c.want):
				t.Errorf("got %v, want an ExitError with the limit %q\n%s", err, c.want, words)
			case c.want != "" && err.Error() != "limit reached: "+c.want:
				t.Errorf("got the text %q", err)
			}
		})
	}
	t.Run("a folder of the host in place of a temporary one is no memory", func(t *testing.T) {
		o := k.open(t, sandbox.Spec{Binds: []sandbox.Bind{{Source: folder(t), Path: "/run", Writable: true}}, Limits: sandbox.Limits{Memory: 64 * mib}})
		if _, words, err := o.command(sandbox.Command{}, "eat", "1", "10"); err != nil {
			t.Errorf("got %v, want that it fits\n%s", err, words)
		}
	})
	o := k.open(t, sandbox.Spec{Limits: sandbox.Limits{OpenFiles: 100}})
	if _, words, err := o.command(sandbox.Command{}, "open", "200"); err == nil || !strings.Contains(words, "too many open files") {
		t.Errorf("more open files than there may be: got %v, %q", err, words)
	}
	// What nobody can have stays without a word of a limit.
	var exit *sandbox.ExitError
	if _, err := o.probe("exit", "3"); !errors.As(err, &exit) || exit.Limit != "" {
		t.Errorf("a command that fails by itself: got %#v", err)
	}
}

// limitDefaults holds that a sandbox has limits although nobody asked, and that what
// one sandbox uses is not another's.
func limitDefaults(t *testing.T, k *kit) {
	l := sandbox.Limits{}.Settled()
	if l.Memory <= 0 || l.Processes <= 0 || l.OpenFiles <= 0 {
		t.Fatalf("defaults: got %+v", l)
	}
	for range 2 {
		o := k.open(t, sandbox.Spec{Limits: sandbox.Limits{Memory: 256 << 20}})
		o.must("eat", "1", "150")
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Of the host nobody sees which group or which part of the disk that is.
	o := k.open(t, sandbox.Spec{})
	for line := range strings.Lines(o.must("read", "/proc/self/cgroup")) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":/"); !ok || path != "" {
			t.Errorf("/proc/self/cgroup tells of the host: %s", line)
		}
	}
	// A group of a killed parent goes with the next start.
	leftGroups(t, k)
}

// leftGroups kills a process with an open sandbox, opens another one, and looks for
// the groups that the first one was in.
func leftGroups(t *testing.T, k *kit) {
	mark := "mark-" + strconv.Itoa(os.Getpid()) + "-groups"
	c := startChild(t, k, mark, folder(t))
	groups := groupsOf(t, mark)
	t.Logf("groups: %d", len(groups))
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	comesTrue(t, "no group is left", func() bool {
		box, err := k.backend.Open(context.Background(), sandbox.Spec{Layers: []string{k.base(t)}})
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		return !anyGroup(groups)
	})
}

// groupsOf gives the names of tarn's groups that the processes with a word in their
// arguments are in. Other tests have groups at the same time, which are not looked at.
func groupsOf(t *testing.T, mark string) map[string]bool {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, dir := range processes {
		args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !strings.Contains(string(args), mark) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			for name := range strings.SplitSeq(strings.TrimSpace(line), "/") {
				if strings.HasPrefix(name, "tarn-") {
					names[name] = true
				}
			}
		}
	}
	return names
}

// anyGroup tells whether one of the groups is still there.
func anyGroup(names map[string]bool) bool {
	for _, pattern := range []string{"/sys/fs/cgroup/*/tarn-*", "/sys/fs/cgroup/*/*/*/tarn-*", "/sys/fs/cgroup/*/*/*/*/tarn-*"} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			if names[filepath.Base(dir)] {
				return true
			}
		}
	}
	return false
}
