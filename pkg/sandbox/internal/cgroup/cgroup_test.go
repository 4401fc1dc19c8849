package cgroup

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFind reads where a process stands as the kernel writes it, for both versions and
// both at once, and tries what can be made there.
func TestFind(t *testing.T) {
	for _, c := range []struct {
		name      string
		mountinfo string // DIR is a folder of the test's
		cgroup    string
		files     map[string]string // below DIR
		want      map[string]string // controller -> version and folder below DIR
		why       string
	}{
		{
			name:      "version 2, the group above hands controllers down",
			mountinfo: "30 23 0:26 / DIR rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
			cgroup:    "0::/user.slice/session.scope\n",
			files:     map[string]string{"user.slice/cgroup.subtree_control": "cpu memory pids\n", "user.slice/cgroup.procs": "", "user.slice/session.scope/cgroup.subtree_control": "\n"},
			want:      map[string]string{"memory": "2 /user.slice", "pids": "2 /user.slice"},
		},
		{
			name:      "version 2 in a namespace that shows a part",
			mountinfo: "30 23 0:26 /docker/abc DIR rw - cgroup2 cgroup2 rw\n",
			cgroup:    "0::/docker/abc/inner\n",
			files:     map[string]string{"cgroup.subtree_control": "memory\n", "cgroup.procs": "", "inner/cgroup.subtree_control": ""},
			want:      map[string]string{"memory": "2 "},
		},
		{
			name:      "version 1, one hierarchy a controller",
			mountinfo: "30 23 0:26 / DIR/memory rw - cgroup cgroup rw,memory\n31 23 0:27 / DIR/pids rw - cgroup cgroup rw,pids\n32 23 0:28 / DIR/unified rw - cgroup2 cgroup2 rw\n",
			cgroup:    "9:pids:/\n4:memory:/job/1\n0::/\n",
			files:     map[string]string{"memory/job/1/x": "", "pids/x": "", "unified/cgroup.controllers": "hugetlb\n", "unified/cgroup.subtree_control": ""},
			want:      map[string]string{"memory": "1 /memory/job/1", "pids": "1 /pids"},
		},
		{
			name:      "version 2 without controllers",
			mountinfo: "30 23 0:26 / DIR rw - cgroup2 cgroup2 rw\n",
			cgroup:    "0::/\n",
			files:     map[string]string{"cgroup.subtree_control": "cpu\n"},
			why:       "no group of version 2 at or above DIR has the controller pids",
		},
		{name: "no groups", mountinfo: "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n", cgroup: "", why: "no control groups are mounted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, proc := t.TempDir(), t.TempDir()
			for name, text := range c.files {
				file := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range map[string]string{"mountinfo": strings.ReplaceAll(c.mountinfo, "DIR", dir), "cgroup": c.cgroup} {
				if err := os.WriteFile(filepath.Join(proc, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			found, why := find(proc)
			if len(found) != len(c.want) {
				t.Errorf("got %v, want %v", found, c.want)
			}
			for controller, want := range c.want {
				p := found[controller]
				if got := string(rune('0'+p.version)) + " " + strings.TrimPrefix(p.dir, dir); got != want {
					t.Errorf("%s: got %q, want %q", controller, got, want)
				}
			}
			if want := strings.ReplaceAll(c.why, "DIR", dir); want != "" && why != want {
				t.Errorf("why not: got %q, want %q", why, want)
			}
		})
	}
}

// groupsVariable is how the description of this machine's groups has to begin, for who
// knows it: .ci/cgroup2 does.
const groupsVariable = "TARN_CGROUPS"

// TestGroup has the kernel of this machine keep a limit, with what version it has.
func TestGroup(t *testing.T) {
	held, text := Describe()
	t.Logf("%v: %s", held, text)
	if want := os.Getenv(groupsVariable); !strings.HasPrefix(text, want) {
		t.Errorf("got %q, want %q", text, want)
	}
	g, err := New(Limits{Memory: 64 << 20, Processes: 5})
	if err != nil {
		t.Fatal(err)
	}
	if g == nil {
		t.Skipf("no group can be made here: %s", text)
	}
	defer g.Remove()
	c := exec.Command("/bin/sh", "-c", "read go; i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL); _ = c.Wait() }()
	before := g.Counts()
	if err := g.Add(c.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if !g.HoldsProcesses() {
		t.Skip("the kernel keeps no limit of processes here")
	}
	line, _ := bufio.NewReader(said).ReadString('\n') // "Cannot fork"
	if got := g.Counts().Since(before); got != "processes" {
		t.Errorf("got the limit %q, want processes (the shell said %q)", got, line)
	}
}
