package pid1

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How often the supervisor looks: seldom, and often where a limit is near.
const (
	seldom = 200 * time.Millisecond
	often  = 20 * time.Millisecond
)

// watch is the supervisor of limits that no control group holds: it sums what all
// processes of the sandbox have, and ends them when that is too much. It sees them all,
// for it is the first process of their namespace; and nobody inside can stop it.
type watch struct {
	memory    int64    // bytes; 0 is not watched
	processes int      // processes and threads; 0 is not watched
	folders   []string // where temporary file systems stand, which are memory too
}

// run looks until stop is closed, and then says which limit was reached, if one was.
func (w watch) run(stop <-chan struct{}) string {
	reached := ""
	for {
		memory, tasks := w.sum()
		switch {
		case w.processes > 0 && tasks > w.processes:
			reached = "processes"
		case w.memory > 0 && memory > w.memory && w.exactly() > w.memory:
			reached = "memory"
		}
		if reached != "" {
			// Once more each time round: what was being forked comes to light later.
			_ = unix.Kill(-1, unix.SIGKILL)
		}
		wait := seldom
		if reached != "" || w.memory > 0 && memory > w.memory/2 || w.processes > 0 && tasks > w.processes/2 {
			wait = often
		}
		select {
		case <-stop:
			return reached
		case <-time.After(wait):
		}
	}
}

// sum adds up resident memory, which counts shared pages once for each process, and
// counts processes and threads.
func (w watch) sum() (memory int64, tasks int) {
	for _, pid := range pids() {
		rss, threads := stat(pid)
		memory += rss
		tasks += threads
	}
	return memory + w.temporary(), tasks
}

// exactly counts a page that several processes share in parts. Finding out takes the
// kernel a walk over all pages, so it is asked when the plain sum is too much.
func (w watch) exactly() int64 {
	memory := w.temporary()
	for _, pid := range pids() {
		memory += proportional(pid)
	}
	return memory
}

// temporary is what lies in temporary file systems.
func (w watch) temporary() int64 {
	var sum int64
	seen := map[uint64]bool{} // a layer may make a link of one to another
	for _, dir := range w.folders {
		var fs unix.Statfs_t
		var st unix.Stat_t
		if unix.Statfs(dir, &fs) == nil && unix.Stat(dir, &st) == nil && !seen[st.Dev] {
			seen[st.Dev] = true
			sum += int64(fs.Blocks-fs.Bfree) * fs.Bsize
		}
	}
	return sum
}

// pids are all processes but this one.
func pids() []int {
	f, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	var all []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != 1 {
			all = append(all, pid)
		}
	}
	return all
}

// stat reads resident memory in bytes and the number of threads: fields 24 and 20 of
// proc_pid_stat(5), counted from after the name, which may hold anything.
func stat(pid int) (rss int64, threads int) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(f) < 22 {
		return 0, 0
	}
	threads, _ = strconv.Atoi(f[17])
	pages, _ := strconv.ParseInt(f[21], 10, 64)
	return pages * int64(os.Getpagesize()), threads
}

// proportional is the memory of a process with its part of what it shares. One that
// hides this (prctl PR_SET_DUMPABLE) is counted whole.
func proportional(pid int) int64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if value, ok := strings.CutPrefix(line, "Pss:"); ok {
				if kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64); err == nil {
					return kb << 10
				}
			}
		}
	}
	rss, _ := stat(pid)
	return rss
}
