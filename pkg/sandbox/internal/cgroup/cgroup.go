// Package cgroup has the kernel limit what a sandbox's processes use together, where
// this process may make a control group: of version 2, or of version 1, or for one
// limit in either. It says what it can't hold, so that somebody else does.
//
// Interfaces: cgroups(7), the kernel's admin-guide/cgroup-v2.rst and cgroup-v1.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The limits that groups can hold, named as their controllers.
const (
	memory    = "memory"
	processes = "pids"
)

// prefix begins the names of groups. One whose maker has ended has no lock any more,
// and goes when the next group is made.
const prefix = "tarn-"

// A place is a folder in which this process can make groups with a controller.
type place struct {
	dir     string
	version int // 1 or 2
}

// places finds, once, where groups can be made: by controller.
var places = sync.OnceValues(func() (map[string]place, string) { return find("/proc/self") })

// Describe says which limits groups hold on this machine and where, or why none.
func Describe() (held []string, text string) {
	found, why := places()
	var texts []string
	for _, c := range []string{memory, processes} {
		if p, ok := found[c]; ok {
			held = append(held, c)
			texts = append(texts, fmt.Sprintf("%s: version %d at %s", c, p.version, p.dir))
		}
	}
	if len(held) == 0 {
		return nil, why
	}
	return held, strings.Join(texts, ", ")
}

// find reads where the process that proc describes stands, and tries what it may do there.
func find(proc string) (map[string]place, string) {
	table, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
	if err != nil {
		return nil, err.Error()
	}
	own, err := os.ReadFile(filepath.Join(proc, "cgroup"))
	if err != nil {
		return nil, err.Error()
	}
	found, why := map[string]place{}, "no control groups are mounted"
	for _, m := range mounts(string(table)) {
		path, ok := m.folder(string(own))
		if !ok {
			continue
		}
		if m.version == 2 {
			for _, c := range []string{memory, processes} {
				if _, has := found[c]; has {
					continue
				}
				p, reason := second(m.dir, path, c)
				if reason == "" {
					found[c] = p
				} else if len(found) == 0 {
					why = reason
				}
			}
			continue
		}
		for _, c := range []string{memory, processes} {
			if !slices.Contains(m.options, c) {
				continue
			}
			if err := try(path); err != nil {
				why = "not writable: " + err.Error()
				continue
			}
			found[c] = place{path, 1}
		}
	}
	return found, why
}

// second walks from a process's own group of version 2 upwards to the first folder that
// hands a controller to its children and lets this process make one: a group that has
// processes itself does not, but the one above it does.
func second(mount, path, controller string) (place, string) {
	why := fmt.Sprintf("no group of version 2 at or above %s has the controller %s", path, controller)
	for {
		if slices.Contains(strings.Fields(read(filepath.Join(path, "cgroup.subtree_control"))), controller) {
			err := try(path)
			if err == nil {
				// Moving a process needs leave to write at the common ancestor too.
				err = unix.Access(filepath.Join(path, "cgroup.procs"), unix.W_OK)
			}
			if err == nil {
				return place{path, 2}, ""
			}
			why = "not writable: " + path + ": " + err.Error()
		}
		if path == mount {
			return place{}, why
		}
		path = filepath.Dir(path)
	}
}

// try makes a group and removes it.
func try(dir string) error {
	probe, err := os.MkdirTemp(dir, prefix+"try-")
	if err != nil {
		return err
	}
	return os.Remove(probe)
}

// A mount is a hierarchy as it is seen here: proc_pid_mountinfo(5).
type mount struct {
	version int
	root    string // the part of the hierarchy that is seen
	dir     string
	options []string // controllers, of version 1
}

func mounts(table string) []mount {
	var all []mount
	for line := range strings.Lines(table) {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		m := mount{root: l[3], dir: l[4], options: strings.Split(r[2], ",")}
		switch r[0] {
		case "cgroup":
			m.version = 1
		case "cgroup2":
			m.version = 2
		default:
			continue
		}
		all = append(all, m)
	}
	return all
}

// folder is where the process of a /proc/PID/cgroup stands in this hierarchy.
func (m mount) folder(own string) (string, bool) {
	for line := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		mine := m.version == 2 && f[0] == "0" && f[1] == ""
		for c := range strings.SplitSeq(f[1], ",") {
			mine = mine || m.version == 1 && c != "" && slices.Contains(m.options, c)
		}
		if !mine {
			continue
		}
		below, err := filepath.Rel(m.root, f[2])
		if err != nil || strings.HasPrefix(below, "..") {
			below = "." // a namespace shows a part of the hierarchy that this is not in
		}
		return filepath.Join(m.dir, below), true
	}
	return "", false
}

// Limits are what a group may hold; 0 is no limit.
type Limits struct {
	Memory    int64 // bytes
	Processes int
}

// A Group holds the processes of one sandbox.
type Group struct {
	dirs  map[string]string // by controller; of version 2 both may be one
	v     map[string]int
	locks []*os.File
}

// New makes a group, and removes those of processes that have ended without doing so.
// It is nil where no limit can be held here.
func New(l Limits) (*Group, error) {
	found, _ := places()
	g := &Group{dirs: map[string]string{}, v: map[string]int{}}
	made := map[string]string{} // by place
	for _, c := range []string{memory, processes} {
		p, ok := found[c]
		if !ok || c == memory && l.Memory == 0 || c == processes && l.Processes == 0 {
			continue
		}
		dir, ok := made[p.dir]
		if !ok {
			sweep(p.dir)
			var err error
			if dir, err = g.makeDir(p.dir); err != nil {
				g.Remove()
				return nil, fmt.Errorf("make a control group: %w", err)
			}
			made[p.dir] = dir
		}
		g.dirs[c], g.v[c] = dir, p.version
	}
	if err := g.set(l); err != nil {
		g.Remove()
		return nil, fmt.Errorf("limit a control group: %w", err)
	}
	if len(g.dirs) == 0 {
		return nil, nil
	}
	return g, nil
}

// makeDir makes a group's folder and holds its lock.
func (g *Group) makeDir(parent string) (string, error) {
	for {
		dir, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return "", err
		}
		f, err := os.Open(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // another process swept it before it was locked
		}
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			_ = os.Remove(dir)
			return "", err
		}
		if _, err := os.Stat(dir); err == nil {
			g.locks = append(g.locks, f)
			return dir, nil
		}
		f.Close()
	}
}

// sweep removes the groups of processes that were killed. One that still has a process
// in it can't be removed, and waits for the next time.
func sweep(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.Remove(dir)
		}
		f.Close()
	}
}

func (g *Group) set(l Limits) error {
	if dir, ok := g.dirs[memory]; ok {
		value := strconv.FormatInt(l.Memory, 10)
		if g.v[memory] == 2 {
			if err := write(dir, "memory.max", value); err != nil {
				return err
			}
			// Absent where the machine has no swap.
			if err := write(dir, "memory.swap.max", "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		} else {
			if err := write(dir, "memory.limit_in_bytes", value); err != nil {
				return err
			}
			if err := write(dir, "memory.memsw.limit_in_bytes", value); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	if dir, ok := g.dirs[processes]; ok {
		return write(dir, "pids.max", strconv.Itoa(l.Processes))
	}
	return nil
}

// HoldsMemory tells whether the kernel keeps the limit of memory.
func (g *Group) HoldsMemory() bool { return g != nil && g.dirs[memory] != "" }

// HoldsProcesses tells whether the kernel keeps the limit of processes.
func (g *Group) HoldsProcesses() bool { return g != nil && g.dirs[processes] != "" }

// Add moves a process into the group; its children will be in it too.
func (g *Group) Add(pid int) error {
	done := map[string]bool{}
	for _, dir := range g.dirs {
		if done[dir] {
			continue
		}
		done[dir] = true
		if err := write(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("move a process to a control group: %w", err)
		}
	}
	return nil
}

// Counts say how often limits were met.
type Counts struct{ memory, processes int }

// Counts are what the kernel has counted so far.
func (g *Group) Counts() Counts {
	var c Counts
	if g.HoldsMemory() {
		file := "memory.events"
		if g.v[memory] == 1 {
			file = "memory.oom_control"
		}
		c.memory = count(filepath.Join(g.dirs[memory], file), "oom_kill")
	}
	if g.HoldsProcesses() {
		c.processes = count(filepath.Join(g.dirs[processes], "pids.events"), "max")
	}
	return c
}

// Since says which limit was met since before: "memory", "processes" or "".
func (c Counts) Since(before Counts) string {
	switch {
	case c.memory > before.memory:
		return "memory"
	case c.processes > before.processes:
		return "processes"
	}
	return ""
}

// count reads a line "name number".
func count(file, name string) int {
	for line := range strings.Lines(read(file)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

// Remove removes the group, whose processes have all ended. What can't be removed yet
// the next sandbox removes.
func (g *Group) Remove() {
	if g == nil {
		return
	}
	for _, f := range g.locks {
		_ = os.Remove(f.Name())
		f.Close()
	}
	g.locks = nil
}

func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func read(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return string(data)
}
