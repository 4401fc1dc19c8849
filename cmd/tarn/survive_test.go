package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/store"
)

// surviveTimes is how often the tests here disturb a run: so often that they end within
// a minute or so. TARN_SURVIVE is another number; 50 and more before a release.
func surviveTimes(t testing.TB) int {
	t.Helper()
	text := os.Getenv("TARN_SURVIVE")
	if text == "" {
		return 30
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("TARN_SURVIVE is %q, want a number", text)
	}
	return n
}

// undisturbed goes through the whole line without harm. It gives what came out and
// how long that took.
func undisturbed(t testing.TB, base string, values map[string]string) (*workshop, map[string]string, time.Duration) {
	t.Helper()
	w := newWorkshop(t, base, values)
	start := time.Now()
	for _, args := range wholeLine {
		w.must("", args...)
	}
	took := time.Since(start)
	w.finish()
	if left := w.leftovers(); len(left) > 0 {
		t.Fatalf("a run without harm leaves %q", left)
	}
	return w, w.made(), took
}

// moment is when a run is disturbed: so long after its start, or after it said that
// a stage began.
type moment struct {
	stage string
	after time.Duration
}

func (m moment) String() string {
	if m.stage == "" {
		return fmt.Sprintf("%s after the start", m.after)
	}
	return fmt.Sprintf("%s after %q", m.after, m.stage)
}

// anyMoment is a moment within the whole line, or shortly after the begin of a stage.
func anyMoment(r *rand.Rand, whole time.Duration) moment {
	stages := []string{": fetch", ": environment", ": run", ": pack", ": built", "published", "suite: fetch", "suite: run", "suite: pack"}
	if r.IntN(2) == 0 {
		return moment{stages[r.IntN(len(stages))], time.Duration(r.Int64N(int64(20 * time.Millisecond)))}
	}
	return moment{"", time.Duration(r.Int64N(int64(whole)))}
}

// disturb goes through the whole line until the moment, and then sends a signal: to
// the command alone, or, as a terminal does with Ctrl-C, to its process group. It
// gives the exit code and what was said; 0 when the line's end came before the moment.
func (w *workshop) disturb(m moment, signal unix.Signal) (int, string) {
	w.t.Helper()
	var said strings.Builder
	start := time.Now()
	for _, args := range wholeLine {
		c := w.command(args...)
		lines, toLines, err := os.Pipe()
		if err != nil {
			w.t.Fatal(err)
		}
		c.Stderr = toLines
		if err := c.Start(); err != nil {
			w.t.Fatal(err)
		}
		toLines.Close()
		send := func() {
			if signal == unix.SIGINT {
				_ = unix.Kill(-c.Process.Pid, signal)
			} else {
				_ = c.Process.Signal(signal)
			}
		}
		var timer *time.Timer
		if m.stage == "" {
			timer = time.AfterFunc(m.after-time.Since(start), send)
		}
		for scanner := bufio.NewScanner(lines); scanner.Scan(); {
			said.WriteString(scanner.Text() + "\n")
			if timer == nil && strings.Contains(scanner.Text(), m.stage) {
				timer = time.AfterFunc(m.after, send)
			}
		}
		code := exitOf(w.t, c.Wait())
		lines.Close()
		if timer != nil {
			timer.Stop()
		}
		if code != 0 {
			return code, said.String()
		}
	}
	return 0, said.String()
}

// TestKilledAtAnyMoment kills tarn, and stops it with Ctrl-C, again and again. No
// process and no mount stays behind, and the run that may finish at last gives what
// a run gives that nobody disturbed.
func TestKilledAtAnyMoment(t *testing.T) {
	needSandbox(t)
	adoptOrphans(t)
	base, values := makeStart(t), sourceServer(t)
	_, want, whole := undisturbed(t, base, values)
	const chain = 5 // so often is one workspace disturbed
	for _, test := range []struct {
		name   string
		signal unix.Signal
		code   int
	}{
		{"kill -9", unix.SIGKILL, 137},
		{"ctrl-c", unix.SIGINT, 130},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(test.signal)))
			hit := map[string]int{}
			for hits, rounds := 0, 0; hits < (surviveTimes(t)+1)/2; rounds++ {
				if rounds > 10+2*surviveTimes(t) {
					t.Fatalf("after %d runs only %d were hit: the moments are wrong", rounds, hits)
				}
				w := newWorkshop(t, base, values)
				// The next run is disturbed, too, until one came to its end.
				for range chain {
					m := anyMoment(r, whole)
					code, said := w.disturb(m, test.signal)
					if code == 0 {
						break
					}
					hits++
					last := lastStage(said)
					hit[last]++
					if code != test.code {
						t.Fatalf("%s: exit %d, want %d\n%s", m, code, test.code, said)
					}
					left := descendants(t)
					if test.signal == unix.SIGKILL {
						left = waitForEnd(t)
					}
					if len(left) > 0 {
						t.Fatalf("%s (%s): processes are left: %q", m, last, left)
					}
					if left := w.mounts(); len(left) > 0 {
						t.Fatalf("%s (%s): mounts are left: %q", m, last, left)
					}
					if left := w.leftovers(); len(left) > 0 && test.signal != unix.SIGKILL {
						t.Fatalf("%s (%s): files are left: %q", m, last, left)
					}
					w.checkBlobs()
				}
				w.finish()
				if diff := cmp.Diff(want, w.made()); diff != "" {
					t.Fatalf("what came out after all (-want +got):\n%s", diff)
				}
				if left := w.leftovers(); len(left) > 0 {
					t.Fatalf("files are left after the next run: %q", left)
				}
				_ = store.RemoveAll(w.path("cache"))
			}
			t.Logf("the last stage that a disturbed run told of: %v", hit)
		})
	}
}

// TestSecondCtrlC stops tarn where the first Ctrl-C lets it go on: it waits for another
// publisher, to publish what was built.
func TestSecondCtrlC(t *testing.T) {
	needSandbox(t)
	w := newWorkshop(t, makeStart(t), sourceServer(t))
	const name = ".out/packages/.lock"
	w.write(name, "")
	other, err := os.Open(w.path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	c := w.command("build", "data")
	lines, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(5*time.Minute, func() { _ = c.Process.Kill() })
	defer stuck.Stop()
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		if strings.HasPrefix(scanner.Text(), "data: built") {
			break
		}
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(100 * time.Millisecond):
				_ = c.Process.Signal(unix.SIGINT)
			}
		}
	}()
	err = c.Wait()
	close(ended)
	if code := exitOf(t, err); code != 130 {
		t.Errorf("exit %d, want 130", code)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	w.must("built 0, cached 1", "build", "data")
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("files are left: %q", left)
	}
}

// lastStage is the last stage that a run told of.
func lastStage(said string) string {
	last := "none"
	for text := range strings.Lines(said) {
		if _, stage, found := strings.Cut(text, ": "); found && !strings.HasPrefix(text, "tarn") && !strings.HasPrefix(text, " ") {
			last, _, _ = strings.Cut(strings.TrimSpace(stage), " ")
		} else if strings.HasPrefix(text, "published") {
			last = "published"
		}
	}
	return last
}

// checkBlobs wants every blob of the store to be what its name says.
func (w *workshop) checkBlobs() {
	w.t.Helper()
	err := filepath.WalkDir(w.path("cache/tarn/blobs"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && store.DigestOf(data).Hex() != d.Name() {
			w.t.Fatalf("blob %s holds %s", d.Name(), store.DigestOf(data))
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// surviveInside tells the test binary that it runs where it may mount.
const surviveInside = "TARN_SURVIVE_INSIDE"

// mounting runs the test once more where it may mount and nobody sees it, and tells
// whether this is there.
func mounting(t *testing.T) bool {
	t.Helper()
	if os.Getenv(surviveInside) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), surviveInside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if os.Getuid() != 0 {
		c.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// TestFullDisk lets each stage run out of room. Tarn says where, and what to do; what
// it leaves is whole, and with more room it goes on.
func TestFullDisk(t *testing.T) {
	needSandbox(t)
	if !mounting(t) {
		return
	}
	base, values := makeStart(t), sourceServer(t)
	_, want, _ := undisturbed(t, base, values)
	for _, test := range []struct {
		dir         string
		first, step int64  // kilobytes
		hint        string // the way out
	}{
		{"cache", 96, 640, "tarn store gc --max-size"},
		{".out", 8, 240, "hint: make room there"},
		{"tmp", 8, 160, "hint: make room there"},
	} {
		t.Run(test.dir, func(t *testing.T) {
			w := newWorkshop(t, base, values)
			keys := w.keep(".out/keys")
			if err := unix.Mount("tmpfs", w.path(test.dir), "tmpfs", 0, fmt.Sprintf("size=%dk,mode=0755", test.first)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(w.path(test.dir), unix.MNT_DETACH) })
			if test.dir == ".out" {
				keys()
			}
			commands := append(slices.Clone(wholeLine), []string{"verify"})
			full := 0
			for size := test.first; len(commands) > 0; {
				code, out := w.run(commands[0]...)
				if code == 0 {
					commands = commands[1:]
					continue
				}
				full++
				t.Logf("%d kB: tarn %s: exit %d\n%s", size, strings.Join(commands[0], " "), code, out)
				switch {
				case code != 1 || strings.Contains(out, "panic") || strings.Contains(out, "goroutine "):
					t.Fatalf("exit %d, want 1", code)
				case !strings.Contains(strings.ToLower(out), "no space"):
					t.Fatal("it does not say that there is no space")
				case !strings.Contains(out, w.path(test.dir)):
					t.Fatalf("it does not name the folder %s", w.path(test.dir))
				case !strings.Contains(out, test.hint):
					t.Errorf("it does not say %q", test.hint)
				}
				w.checkBlobs()
				w.checkRepository()
				if size += test.step; size > 64<<10 {
					t.Fatal("64 MB are not enough")
				}
				if err := unix.Mount("", w.path(test.dir), "", unix.MS_REMOUNT, fmt.Sprintf("size=%dk", size)); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("the disk was full %d times", full)
			// To write an image once more takes the room of two.
			if err := unix.Mount("", w.path(test.dir), "", unix.MS_REMOUNT, "size=64m"); err != nil {
				t.Fatal(err)
			}
			w.finish()
			if diff := cmp.Diff(want, w.made()); diff != "" {
				t.Fatalf("what came out after all (-want +got):\n%s", diff)
			}
			if left := w.leftovers(); len(left) > 0 {
				t.Fatalf("files are left: %q", left)
			}
		})
	}
}

// keep reads the files of a folder, and gives what writes them there again.
func (w *workshop) keep(dir string) (write func()) {
	w.t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(w.path(dir))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(w.path(dir + "/" + e.Name()))
		if err != nil {
			w.t.Fatal(err)
		}
		files[dir+"/"+e.Name()] = string(data)
	}
	return func() {
		for name, text := range files {
			w.write(name, text)
		}
	}
}

// checkRepository wants whatever the repository holds to be whole.
func (w *workshop) checkRepository() {
	w.t.Helper()
	indexes, err := filepath.Glob(w.path(".out/packages/*/APKINDEX.tar.gz"))
	if err != nil {
		w.t.Fatal(err)
	}
	packages, err := filepath.Glob(w.path(".out/packages/*/*.apk"))
	if err != nil {
		w.t.Fatal(err)
	}
	args := append([]string{"verify"}, packages...)
	if len(indexes) > 0 {
		args = append(args, w.path(".out/packages"))
	}
	if len(args) == 1 {
		return
	}
	c := w.command(args...)
	// Where verify unpacks, and what it says, is not what runs out of room here.
	c.Env = append(c.Env, "TMPDIR="+w.t.TempDir(), "XDG_CACHE_HOME="+w.t.TempDir())
	if out, err := c.CombinedOutput(); err != nil {
		w.t.Fatalf("the repository: %v\n%s", err, out)
	}
}

// TestFlippedByte changes one byte of one file at a time. Tarn says so with 6, or makes
// the file again; what comes out in the end is what came out before.
func TestFlippedByte(t *testing.T) {
	needSandbox(t)
	base, values := makeStart(t), sourceServer(t)
	w, want, _ := undisturbed(t, base, values)
	r := rand.New(rand.NewPCG(2, 2))
	few := max(1, surviveTimes(t)/25)
	for _, test := range []struct {
		name, pattern string
		again         bool // build although the store knows the outcome
	}{
		{"source", "cache/tarn/blobs/sha256/*/" + values["lib"], true},
		{"blob", "cache/tarn/blobs/sha256/*/*", false},
		{"record", "cache/tarn/records/*/*", false},
		{"tree", "cache/tarn/trees/*/root/usr/bin/busybox", true},
		{"file of a tree", "cache/tarn/trees/*/root/usr/share/*/*", true},
		{"manifest of a tree", "cache/tarn/trees/*/manifest", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := w.in(t)
			files, err := filepath.Glob(w.path(test.pattern))
			if err != nil || len(files) == 0 {
				t.Fatalf("there is no %s (%v)", test.pattern, err)
			}
			r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
			number := few
			if !test.again {
				number *= 4
			}
			for _, file := range files[:min(number, len(files))] {
				flipByte(t, file)
				for _, dir := range []string{".out/packages", ".out/images"} {
					if err := os.RemoveAll(w.path(dir)); err != nil {
						t.Fatal(err)
					}
				}
				commands := slices.Clone(wholeLine)
				if test.again {
					commands = append([][]string{{"build", "--again"}}, commands...)
				}
				for tries := 0; len(commands) > 0; tries++ {
					code, out := w.run(commands[0]...)
					switch {
					case code == 0:
						commands = commands[1:]
					case code != 6 || tries > 2:
						t.Fatalf("%s: tarn %s: exit %d, want 0 or 6\n%s", file, strings.Join(commands[0], " "), code, out)
					case !strings.Contains(out, "hint: "):
						t.Errorf("%s: tarn %s does not say what to do:\n%s", file, strings.Join(commands[0], " "), out)
					}
				}
				if diff := cmp.Diff(want, w.made()); diff != "" {
					t.Fatalf("%s: what came out after all (-want +got):\n%s", file, diff)
				}
				// What nobody had a use for is found by looking.
				if code, out := w.run("store", "verify"); code != 0 && code != 6 {
					t.Fatalf("store verify: exit %d, want 0 or 6\n%s", code, out)
				}
				w.must(`damaged 0\n`, "store", "verify")
				w.must("", wholeLine[0]...)
				w.must("", wholeLine[1]...)
			}
		})
	}
}

// flipByte changes the byte in the middle of a file, as a bad disk does: its size and its
// time stay.
func flipByte(t testing.TB, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0x10
	if err := os.Chmod(file, info.Mode()|0o200); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(file, info.Mode()), os.Chtimes(file, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
}

// TestFlippedByteInARepository changes a byte of what was published.
func TestFlippedByteInARepository(t *testing.T) {
	needSandbox(t)
	base, values := makeStart(t), sourceServer(t)
	w, want, _ := undisturbed(t, base, values)
	whole := w.keepTree(".out/packages")
	freshStore := func() {
		if err := store.RemoveAll(w.path("cache/tarn")); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ name, file string }{
		{"package", ".out/packages/*/lib-1-r0.apk"},
		{"index", ".out/packages/*/APKINDEX.tar.gz"},
	} {
		t.Run(test.name, func(t *testing.T) {
			whole()
			w := w.in(t)
			found, err := filepath.Glob(w.path(test.file))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			flipByte(t, found[0])
			code, out := w.run("verify")
			if code != 6 || !strings.Contains(out, filepath.Base(found[0])) {
				t.Errorf("verify: exit %d, want 6 and the file's name\n%s", code, out)
			}
			// The next build publishes it again.
			w.must("", "build")
			w.must("", "image", "build")
			if diff := cmp.Diff(want, w.made()); diff != "" {
				t.Errorf("after the next build (-want +got):\n%s", diff)
			}
			flipByte(t, found[0])
			if err := os.RemoveAll(w.path(".out/images")); err != nil {
				t.Fatal(err)
			}
			freshStore() // else the image takes the right bytes from there
			code, out = w.run("image", "build")
			if code != 6 || !strings.Contains(out, filepath.Base(found[0])) {
				t.Errorf("image build: exit %d, want 6 and the file's name\n%s", code, out)
			}
			if made, _ := filepath.Glob(w.path(".out/images/*")); len(made) > 0 {
				t.Errorf("there is an image: %q", made)
			}
		})
	}
	// A package that environments are made of.
	t.Run("busybox", func(t *testing.T) {
		w := newWorkshop(t, base, values)
		found, err := filepath.Glob(filepath.Join(base, "base/*/busybox-1-r0.apk"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		flipByte(t, found[0])
		if code, out := w.run("build", "data"); code != 6 || !strings.Contains(out, "busybox-1-r0.apk") {
			t.Errorf("build: exit %d, want 6 and the file's name\n%s", code, out)
		}
		if made, _ := filepath.Glob(w.path(".out/packages/*/*.apk")); len(made) > 0 {
			t.Errorf("there are packages: %q", made)
		}
		flipByte(t, found[0])
		w.must("built 1, cached 0", "build", "data")
	})
}

// keepTree copies a folder aside, and gives what puts it in its place again.
func (w *workshop) keepTree(dir string) (restore func()) {
	w.t.Helper()
	aside := filepath.Join(w.t.TempDir(), "kept")
	if err := os.CopyFS(aside, os.DirFS(w.path(dir))); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		if err := errors.Join(os.RemoveAll(w.path(dir)), os.CopyFS(w.path(dir), os.DirFS(aside))); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestNoUserNamespaces runs tarn where the machine gives none, as some do.
func TestNoUserNamespaces(t *testing.T) {
	needSandbox(t)
	base, values := makeStart(t), sourceServer(t)
	w := newWorkshop(t, base, values)
	const setting = "user.max_user_namespaces"
	for _, test := range []struct {
		args []string
		code int
	}{
		{[]string{"doctor"}, 1},
		{[]string{"build"}, 1},
	} {
		t.Run(test.args[0], func(t *testing.T) {
			c := w.command(test.args...)
			c.Args = append([]string{"sh", "-c", `echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"`, "sh", c.Path}, test.args...)
			c.Path = "/bin/sh"
			c.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
			}
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			if code := exitOf(t, c.Run()); code != test.code || !strings.Contains(out.String(), setting) {
				t.Errorf("exit %d, want %d and %q\n%s", code, test.code, setting, out.String())
			}
		})
	}
}

// TestTwoAtOnce builds and publishes one workspace twice at the same time, and makes
// its key on the way.
func TestTwoAtOnce(t *testing.T) {
	needSandbox(t)
	base, values := makeStart(t), sourceServer(t)
	for _, test := range []struct {
		name   string
		hasKey bool
	}{{"with a key", true}, {"the first time", false}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorkshop(t, base, values)
			if !test.hasKey {
				if err := os.RemoveAll(w.path(".out/keys")); err != nil {
					t.Fatal(err)
				}
			}
			var group sync.WaitGroup
			for range 2 {
				c := w.command("build")
				group.Go(func() {
					if out, err := c.CombinedOutput(); err != nil {
						t.Errorf("%v\n%s", err, out)
					}
				})
			}
			group.Wait()
			w.finish()
			if left := w.leftovers(); len(left) > 0 {
				t.Errorf("files are left: %q", left)
			}
		})
	}
}

// TestStepThatHidesAFullDisk holds that a step is not believed when its disk was full
// while it ran: not every program looks whether its last bytes were written, and what
// they left would be remembered as the recipe's outcome.
func TestStepThatHidesAFullDisk(t *testing.T) {
	needSandbox(t)
	if !mounting(t) {
		return
	}
	w := newWorkshop(t, makeStart(t), sourceServer(t))
	if err := unix.Mount("tmpfs", w.path("cache"), "tmpfs", 0, "size=24m,mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(w.path("cache"), unix.MNT_DETACH) })
	w.write("recipes/hides.yaml", `
package:
  name: hides
  version: "1"
  epoch: 0
environment:
  contents:
    packages: [busybox]
pipeline:
  - runs: |
      dd if=/dev/zero of=fill bs=64k 2> /dev/null || true
      echo short > ${{targets.destdir}}/x || true
      sleep 5
      rm fill
`)
	code, out := w.run("build", "hides")
	if code != 1 || !strings.Contains(out, "no space was left on the disk while it ran") || !strings.Contains(out, "tarn store gc --max-size") {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	if made, _ := filepath.Glob(w.path(".out/packages/*/hides-*.apk")); len(made) > 0 {
		t.Errorf("a package was made all the same: %q", made)
	}
}
