package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tarn-build/tarn/pkg/store"
)

// The tests of several processes start the test binary again; what it then does
// is named by the variable.
const childVariable = "TARN_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	work, ok := map[string]func(dir string) error{
		"race":    childRace,
		"work":    childWork,
		"full":    childFull,
		"mount":   childMount,
		"overlay": childOverlay,
	}[os.Getenv(childVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := work(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(t testing.TB, work, dir string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, dir)
	c.Env = append(os.Environ(), childVariable+"="+work)
	c.Env = append(c.Env, env...)
	return c
}

// childRace does what all the others do at the same time.
func childRace(dir string) error {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil { // until all are there
		return err
	}
	for i := range 30 {
		text := strings.Repeat(fmt.Sprint("blob ", i, "\n"), 1000)
		d, _, err := s.Put(strings.NewReader(text))
		if err != nil {
			return err
		}
		if got, err := read(s, d); err != nil || got != text {
			return fmt.Errorf("blob %d: %d bytes, %v", i, len(got), err)
		}
		id := actionOf("record", i)
		if err := s.Remember(id, map[string]store.Digest{"blob": d}); err != nil {
			return err
		}
		var value map[string]store.Digest
		if found, err := s.Recall(id, &value); err != nil || !found || value["blob"] != d {
			return fmt.Errorf("record %d: %v, %v, %v", i, value, found, err)
		}
		if i%3 != 0 {
			continue
		}
		_, err = s.Tree(context.Background(), actionOf("tree", i), func(root *os.Root) error {
			fmt.Println("fill", i)
			return fillSample(root)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func actionOf(kind string, i int) store.ActionID {
	h := store.NewHash(kind)
	h.Line("number", i)
	return h.Sum()
}

func TestSeveralProcesses(t *testing.T) {
	dir := tempDir(t)
	var children []*exec.Cmd
	var outputs []*strings.Builder
	var gates []io.WriteCloser
	for range 4 {
		c := child(t, "race", dir)
		out := new(strings.Builder)
		c.Stdout, c.Stderr = out, out
		gate, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children, outputs, gates = append(children, c), append(outputs, out), append(gates, gate)
	}
	for _, gate := range gates {
		gate.Close()
	}
	// Garbage is collected all the while; what the children use stays.
	s := open(t, dir)
	for range 10 {
		if _, err := s.GC(context.Background(), 0, store.GCOptions{}); err != nil {
			t.Error(err)
		}
	}
	fills := map[string]int{}
	for i, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("process %d: %v\n%s", i, err, outputs[i])
		}
		for line := range strings.Lines(outputs[i].String()) {
			fills[line]++
		}
	}
	if len(fills) != 10 {
		t.Errorf("trees made: %v, want 10", fills)
	}
	if err := s.Verify(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

func TestTreeIsMadeOnceByAllProcesses(t *testing.T) {
	dir := tempDir(t)
	var children []*exec.Cmd
	var outputs []*strings.Builder
	for range 4 {
		c := child(t, "race", dir)
		out := new(strings.Builder)
		c.Stdout, c.Stderr = out, out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children, outputs = append(children, c), append(outputs, out)
	}
	fills := map[string]int{}
	for i, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("process %d: %v\n%s", i, err, outputs[i])
		}
		for line := range strings.Lines(outputs[i].String()) {
			fills[line]++
		}
	}
	for i := 0; i < 30; i += 3 {
		if n := fills[fmt.Sprintln("fill", i)]; n != 1 {
			t.Errorf("tree %d was made %d times", i, n)
		}
	}
}

// childWork puts blobs, trees and records for ever, and tells what it has
// finished. Sizes and order differ from run to run.
func childWork(dir string) error {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	fmt.Println("open")
	for {
		i := rand.IntN(1000)
		data := strings.Repeat(fmt.Sprintf("%08d", i), 1+rand.IntN(40_000))
		d, _, err := s.Put(strings.NewReader(data))
		if err != nil {
			return err
		}
		fmt.Println("blob", d)
		_, err = s.Tree(context.Background(), actionOf("tree", i), func(root *os.Root) error {
			if err := fillSample(root); err != nil {
				return err
			}
			for f := range 50 {
				if err := root.WriteFile(fmt.Sprint("file", f), []byte(data[:f]), 0o644); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Println("tree", i)
		if err := s.Remember(actionOf("record", i), d); err != nil {
			return err
		}
		fmt.Println("record", i)
		if i%50 == 0 {
			if _, err := s.GC(context.Background(), 1<<20, store.GCOptions{}); err != nil {
				return err
			}
			fmt.Println("gc")
		}
	}
}

// TestKill ends processes at random moments of their work. What they had finished
// is there, everything there is whole, and nothing else is left by the next Open.
func TestKill(t *testing.T) {
	rounds := 40
	if n, err := strconv.Atoi(os.Getenv("TARN_STORE_TEST_KILLS")); err == nil {
		rounds = n
	}
	dir := tempDir(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	done := map[string]int{}
	for round := range rounds {
		c := child(t, "work", dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		problems := new(strings.Builder)
		c.Stderr = problems
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// A number of finished steps, and then somewhere within the next.
		steps := random.IntN(6)
		lines := bufio.NewScanner(out)
		var finished []string
		for len(finished) <= steps && lines.Scan() {
			finished = append(finished, lines.Text())
		}
		time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
		if err := c.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			finished = append(finished, lines.Text())
		}
		_ = c.Wait()
		if problems.Len() > 0 {
			t.Fatalf("round %d: %s", round, problems)
		}
		s, err := store.Open(dir)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := s.Verify(context.Background(), func(e *store.CorruptError) { t.Errorf("round %d: %v", round, e) }); err != nil {
			t.Fatal(err)
		}
		collected := false
		for _, line := range finished {
			kind, _, _ := strings.Cut(line, " ")
			done[kind]++
			collected = collected || kind == "gc"
		}
		for _, line := range finished {
			kind, name, _ := strings.Cut(line, " ")
			number, _ := strconv.Atoi(name)
			switch {
			case collected: // by a process that is gone: it may have removed anything
			case kind == "blob" && !s.Has(store.Digest(name)):
				t.Errorf("round %d: %s is not there", round, line)
			case kind == "record":
				var d store.Digest
				if found, err := s.Recall(actionOf("record", number), &d); !found || err != nil {
					t.Errorf("round %d: %s: %v, %v", round, line, found, err)
				}
			case kind == "tree":
				_, err := s.Tree(context.Background(), actionOf("tree", number), func(*os.Root) error { return errors.New("it is not there") })
				if err != nil {
					t.Errorf("round %d: %s: %v", round, line, err)
				}
			}
		}
		// Only this process's own temporary folder is there.
		if dirs, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(dirs) != 1 {
			t.Errorf("round %d: left in tmp: %v, %v", round, dirs, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("finished before the kills: %v", done)
	for _, kind := range []string{"blob", "tree", "record"} {
		if done[kind] == 0 {
			t.Errorf("no %s was finished in any round: the test shows nothing", kind)
		}
	}
}

// TestFullDisk fills a small file system at every step.
func TestFullDisk(t *testing.T) {
	runMounting(t, child(t, "mount", tempDir(t)))
}

// runMounting runs a child that may mount.
func runMounting(t *testing.T, c *exec.Cmd) {
	t.Helper()
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	out, err := c.CombinedOutput()
	text := string(out)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) || strings.Contains(text, "mount: operation not permitted") {
		t.Skipf("a file system cannot be mounted here (no root, no user namespaces): %v %s", err, text)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Log(text)
}

// childMount puts a small tmpfs at dir, which nobody else sees, and goes on there.
func childMount(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0755"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return childFull(dir)
}

// TestTreesUnderAnOverlay uses trees as what they are for.
func TestTreesUnderAnOverlay(t *testing.T) { runMounting(t, child(t, "overlay", tempDir(t))) }

func childOverlay(dir string) error {
	ctx := context.Background()
	s, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	defer s.Close()
	above := func(root *os.Root) error {
		if err := root.MkdirAll("usr/bin", 0o755); err != nil {
			return err
		}
		return root.WriteFile("usr/bin/sh", []byte("#!"), 0o755)
	}
	lower, err := s.Tree(ctx, actionOf("lower", 0), fillSample)
	if err != nil {
		return err
	}
	upper, err := s.Tree(ctx, actionOf("upper", 0), above)
	if err != nil {
		return err
	}
	work, release, err := s.TempDir("overlay")
	if err != nil {
		return err
	}
	defer release()
	for _, sub := range []string{"merged", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(work, sub), 0o755); err != nil {
			return err
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	merged := filepath.Join(work, "merged")
	options := fmt.Sprintf("userxattr,lowerdir=%s:%s,upperdir=%s/upper,workdir=%s/work", upper.Dir, lower.Dir, work, work)
	if err := syscall.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	for path, want := range map[string]string{"usr/bin/sh": "#!", "usr/bin/su": "#!su", "lib/libz.so": "\x7fELF"} {
		if got, err := os.ReadFile(filepath.Join(merged, path)); err != nil || string(got) != want {
			return fmt.Errorf("%s: %q, %v", path, got, err)
		}
	}
	// What is written there goes to the upper folder: the trees stay as they are.
	if err := os.WriteFile(filepath.Join(merged, "usr/bin/su"), []byte("changed"), 0o755); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(merged, "usr/bin/sh")); err != nil {
		return err
	}
	if err := syscall.Unmount(merged, 0); err != nil {
		return err
	}
	again := func(*os.Root) error { return errors.New("the tree was changed") }
	for _, id := range []store.ActionID{actionOf("lower", 0), actionOf("upper", 0)} {
		if _, err := s.Tree(ctx, id, again); err != nil {
			return err
		}
	}
	return s.Verify(ctx, nil)
}

func childFull(dir string) error {
	ctx := context.Background()
	storeDir := filepath.Join(dir, "store")
	s, err := store.Open(storeDir)
	if err != nil {
		return err
	}
	mustBeFull := func(what string, err error) error {
		space, ok := errors.AsType[*store.SpaceError](err)
		if !ok || space.Dir != storeDir || !strings.Contains(err.Error(), "tarn store gc") {
			return fmt.Errorf("%s on a full disk: %v", what, err)
		}
		return nil
	}
	check := func(when string) error {
		if err := s.Verify(ctx, func(e *store.CorruptError) { fmt.Println(e) }); err != nil {
			return fmt.Errorf("%s: %v", when, err)
		}
		return nil
	}

	// A blob that does not fit.
	small, _, err := s.Put(strings.NewReader("small"))
	if err != nil {
		return err
	}
	_, _, err = s.Put(io.LimitReader(zeros{}, 8<<20))
	if err := mustBeFull("Put", err); err != nil {
		return err
	}
	if err := check("after Put"); err != nil {
		return err
	}
	// It left no trace: there is room again.
	big, _, err := s.Put(io.LimitReader(zeros{}, 1<<20))
	if err != nil {
		return fmt.Errorf("what did not fit still takes room: %v", err)
	}

	// A tree that does not fit: its fill writes what it cannot.
	id := actionOf("tree", 1)
	_, err = s.Tree(ctx, id, func(root *os.Root) error {
		f, err := root.Create("file")
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(f, io.LimitReader(zeros{}, 8<<20))
		return err
	})
	if err := mustBeFull("Tree", err); err != nil {
		return err
	}
	if err := check("after Tree"); err != nil {
		return err
	}

	// Now nothing fits at all, and each byte of room that is given back is the one
	// that the next step ends at.
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk does not fill: %v", err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	outcomes := map[bool]int{}
	for pages := range int64(24) {
		if err := f.Truncate(info.Size() - pages*4096); err != nil {
			return err
		}
		// Always the same, so that each round gets a page farther than the last.
		d, _, err := s.Put(strings.NewReader(strings.Repeat("x", 10_000)))
		if err == nil {
			err = s.Remember(actionOf("record", 2), d)
		}
		if err == nil {
			_, err = s.Tree(ctx, actionOf("tree", 2), fillSample)
		}
		outcomes[err == nil]++
		if err != nil {
			if err := mustBeFull(fmt.Sprintf("with %d pages of room", pages), err); err != nil {
				return err
			}
		}
		if err := check(fmt.Sprintf("with %d pages of room", pages)); err != nil {
			return err
		}
	}
	if outcomes[true] == 0 || outcomes[false] == 0 {
		return fmt.Errorf("the steps ended %v: the test shows nothing", outcomes)
	}
	// The process ends; the next one opens the full store and makes room.
	if err := s.Close(); err != nil {
		return err
	}
	if _, err := io.Copy(io.NewOffsetWriter(f, info.Size()-24*4096), zeros{}); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk does not fill again: %v", err)
	}
	if s, err = store.Open(storeDir); err != nil {
		return fmt.Errorf("open on a full disk: %v", err)
	}
	freed, err := s.GC(ctx, 0, store.GCOptions{})
	if err != nil || freed.Blobs.Number == 0 {
		return fmt.Errorf("gc on a full disk: %+v, %v", freed, err)
	}
	if s.Has(small) || s.Has(big) {
		return errors.New("gc left blobs that nobody uses")
	}
	if _, _, err := s.Put(io.LimitReader(zeros{}, 1<<20)); err != nil {
		return fmt.Errorf("after gc: %v", err)
	}
	fmt.Println("steps that ended well:", outcomes[true], "in a full disk:", outcomes[false])
	return s.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Who was killed right after a tree got its name has left its lock: nobody takes it
// again, since the tree is there. The next one that opens the store removes it.
func TestOpenRemovesLocksOfTheDead(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "locks", "tree-"+strings.Repeat("0", 64))
	if err := os.WriteFile(left, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Lstat(left); err == nil {
		t.Error("the lock is still there")
	}
}
