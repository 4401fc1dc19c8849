package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/store"
)

// A stall is how the tests' server is slow: so that a fetch can be hit in its middle.
const (
	stallBytes = 32 << 10
	stallTime  = 5 * time.Millisecond
)

// surviveSources are the archives that the recipes below fetch.
var surviveSources = []string{"lib", "tool", "more", "data"}

// surviveRecipes are small, but of all that recipes have: sources to fetch and to
// unpack, steps, subpackages, and needs of one another.
var surviveRecipes = map[string]string{
	"lib": `
environment:
  contents:
    packages: [busybox]
pipeline:
  - uses: fetch
    with: {uri: @URL@/lib.tar.gz, expected-sha256: @lib@}
  - runs: |
      sha256sum part-* > sums
      sleep 0.03
  - runs: |
      mkdir -p ${{targets.destdir}}/usr/include ${{targets.destdir}}/usr/share/lib
      cp part-* sums ${{targets.destdir}}/usr/share/lib/
      echo '#define LIB 1' > ${{targets.destdir}}/usr/include/lib.h
subpackages:
  - name: lib-dev
    description: headers of lib
    pipeline:
      - uses: split/dev
  - name: lib-sums
    description: sums of lib
    pipeline:
      - runs: |
          mkdir -p ${{targets.contextdir}}/usr/share/lib
          mv ${{targets.destdir}}/usr/share/lib/sums ${{targets.contextdir}}/usr/share/lib/sums
`,
	"tool": `
dependencies:
  runtime: [lib]
environment:
  contents:
    packages: [busybox, lib-dev]
pipeline:
  - uses: fetch
    with: {uri: @URL@/tool.tar.gz, expected-sha256: @tool@}
  - uses: fetch
    with: {uri: @URL@/more.tar.gz, expected-sha256: @more@, directory: more}
  - runs: |
      grep LIB /usr/include/lib.h
      cat part-* more/part-* > all
      gzip -9n all
  - runs: |
      mkdir -p ${{targets.destdir}}/usr/bin ${{targets.destdir}}/usr/share/tool
      cp all.gz ${{targets.destdir}}/usr/share/tool/
      printf '#!/bin/sh\necho tool\n' > ${{targets.destdir}}/usr/bin/tool
      chmod 755 ${{targets.destdir}}/usr/bin/tool
`,
	"data": `
environment:
  contents:
    packages: [busybox]
pipeline:
  - uses: fetch
    with: {uri: @URL@/data.tar.gz, expected-sha256: @data@}
  - runs: |
      mkdir -p ${{targets.destdir}}/usr/share/data
      for f in part-*; do tr a-z b-za < $f > ${{targets.destdir}}/usr/share/data/$f; done
      (sleep 0.05 & sleep 0.05 & wait)
`,
	"suite": `
dependencies:
  runtime: [tool, data]
environment:
  contents:
    packages: [busybox, tool, data, lib-sums]
pipeline:
  - runs: |
      mkdir -p ${{targets.destdir}}/usr/share/suite
      tool > ${{targets.destdir}}/usr/share/suite/said
      sha256sum /usr/share/data/* /usr/share/tool/* /usr/share/lib/* > ${{targets.destdir}}/usr/share/suite/sums
`,
}

const surviveImage = `
contents:
  packages: [suite, lib-sums]
entrypoint:
  command: /usr/bin/tool
archs: [host]
`

// workshop is a folder with a workspace, a store, and folders for temporary files
// and for the user's own, all of which only the commands of one test use.
type workshop struct {
	t   testing.TB
	dir string
}

// sourceServer serves the archives of surviveRecipes, slowly, and gives the values
// that stand for @NAME@ in recipes.
func sourceServer(t testing.TB) map[string]string {
	t.Helper()
	files := map[string][]byte{}
	values := map[string]string{}
	for i, name := range surviveSources {
		data := sourceArchive(t, name, uint64(i))
		sum := sha256.Sum256(data)
		files["/"+name+".tar.gz"], values[name] = data, hex.EncodeToString(sum[:])
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, known := files[r.URL.Path]
		if !known {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, &stalling{*bytes.NewReader(data)})
	}))
	t.Cleanup(server.Close)
	values["URL"] = server.URL
	return values
}

// stalling is a file that is read slowly.
type stalling struct{ bytes.Reader }

func (s *stalling) WriteTo(w io.Writer) (n int64, err error) {
	for {
		part, err := io.CopyN(w, &s.Reader, stallBytes)
		n += part
		if err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		time.Sleep(stallTime)
	}
}

func (s *stalling) Read(p []byte) (int, error) {
	time.Sleep(stallTime)
	return s.Reader.Read(p[:min(len(p), stallBytes)])
}

// sourceArchive is a tar.gz of some hundred kilobytes that hardly compress.
func sourceArchive(t testing.TB, name string, seed uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	random := rand.NewChaCha8([32]byte{byte(seed)})
	for i := range 12 {
		raw := make([]byte, 16<<10)
		_, _ = random.Read(raw)
		text := []byte(hex.EncodeToString(raw))
		h := &tar.Header{Name: fmt.Sprintf("%s-1/part-%02d", name, i), Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// newWorkshop makes a workspace whose recipes fetch what the values say, and whose
// environments take busybox from the repository base/base with the key base/keys.
func newWorkshop(t testing.TB, base string, values map[string]string) *workshop {
	t.Helper()
	w := &workshop{t, t.TempDir()}
	t.Cleanup(func() { _ = store.RemoveAll(w.path("cache")) })
	w.write("tarn.yaml", "name: survive\nrecipes: [recipes]\nimages: [images]\nkeys: [keys]\nrepositories: ["+filepath.Join(base, "base")+"]\n")
	for name, text := range surviveRecipes {
		text = "package:\n  name: " + name + "\n  version: \"1\"\n  epoch: 0\n  description: the recipe " + name + "\n  copyright:\n    - license: MIT\n" + strings.TrimPrefix(text, "\n")
		for key, value := range values {
			text = strings.ReplaceAll(text, "@"+key+"@", value)
		}
		// "package" has to hold the dependencies.
		if before, after, found := strings.Cut(text, "\ndependencies:\n  runtime: "); found {
			text = before + "\n  dependencies:\n    runtime: " + after
		}
		w.write("recipes/"+name+".yaml", text)
	}
	w.write("images/suite.yaml", surviveImage)
	for _, dir := range []string{"tmp", "home", "cache", ".out/keys"} {
		if err := os.MkdirAll(w.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(w.path("keys"), os.DirFS(filepath.Join(base, "keys"))); err != nil {
		t.Fatal(err)
	}
	// The same key for every workshop, so that their repositories can be compared.
	for _, half := range []string{"", ".pub"} {
		data, err := os.ReadFile(w.path("keys/test.rsa" + half))
		if err == nil {
			err = os.WriteFile(w.path(".out/keys/survive.rsa"+half), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// in is the same workshop for a subtest.
func (w *workshop) in(t testing.TB) *workshop { return &workshop{t, w.dir} }

func (w *workshop) path(name string) string { return filepath.Join(w.dir, name) }

func (w *workshop) write(name, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// command is tarn in the workspace, in a process group of its own as a shell makes it.
func (w *workshop) command(args ...string) *exec.Cmd {
	w.t.Helper()
	program, err := exec.LookPath("tarn") // TestMain put it there
	if err != nil {
		w.t.Fatal(err)
	}
	c := exec.Command(program, args...)
	c.Dir = w.dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.path("home"), "XDG_CACHE_HOME=" + w.path("cache"), "TMPDIR=" + w.path("tmp")}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// run runs tarn and gives its exit code and all that it wrote.
func (w *workshop) run(args ...string) (int, string) {
	w.t.Helper()
	var out bytes.Buffer
	c := w.command(args...)
	c.Stdout, c.Stderr = &out, &out
	return exitOf(w.t, c.Run()), out.String()
}

// exitOf is the exit code of a command as a shell tells it.
func exitOf(t testing.TB, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, found := errors.AsType[*exec.ExitError](err)
	if !found {
		t.Fatal(err)
	}
	if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// must runs tarn and wants it to end well and say what is like the pattern.
func (w *workshop) must(pattern string, args ...string) {
	w.t.Helper()
	code, out := w.run(args...)
	if code != 0 || !regexp.MustCompile(pattern).MatchString(out) {
		w.t.Fatalf("tarn %s: exit %d, want 0 and %q\n%s", strings.Join(args, " "), code, pattern, out)
	}
}

// wholeLine goes from sources to an image.
var wholeLine = [][]string{{"build"}, {"image", "build"}}

// finish goes through the whole line, and wants all of it to be right.
func (w *workshop) finish() {
	w.t.Helper()
	w.must(`built \d+, cached \d+\n`, "build")
	w.must(`suite +`, "image", "build")
	w.must(`verified 7, wrong 0\n`, "verify")
	w.must(`damaged 0\n`, "store", "verify")
}

// made are the digests of all files of repository and images, by path.
func (w *workshop) made() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for _, top := range []string{".out/packages", ".out/images"} {
		err := filepath.WalkDir(w.path(top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() == ".lock" {
				return err
			}
			data, err := os.ReadFile(path)
			all[strings.TrimPrefix(path, w.dir+"/")] = string(store.DigestOf(data))
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return all
}

// leftovers are the temporary files there are: in the store, beside what is written,
// and where the system keeps them.
func (w *workshop) leftovers() []string {
	w.t.Helper()
	var found []string
	for _, pattern := range []string{
		"tmp/*", "tmp/.*", "home/*", "cache/tarn/tmp/*", ".out/.*", ".out/keys/.*", ".out/images/.*", ".out/packages/.*",
		".out/packages/*/.publish-*", ".out/packages/*/*.tmp*", "cache/tarn/corrupt/*", "cache/tarn/locks/*",
	} {
		some, err := filepath.Glob(w.path(pattern))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, name := range some {
			if filepath.Base(name) != ".lock" { // by which publishers wait for each other
				found = append(found, name)
			}
		}
	}
	return found
}

// mounts are the mounts below the workshop that this process sees.
func (w *workshop) mounts() []string {
	w.t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		w.t.Fatal(err)
	}
	var found []string
	for text := range strings.Lines(string(data)) {
		if strings.Contains(text, w.dir) {
			found = append(found, text)
		}
	}
	return found
}

// adoptOrphans makes this process the parent of all whose parent among its
// descendants dies, so that descendants finds them.
func adoptOrphans(t testing.TB) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
}

// descendants lists the running processes that descend from this one, and takes
// from the kernel's table those that are dead and were left to it.
func descendants(t testing.TB) []string {
	t.Helper()
	parents, states, names := map[int]int{}, map[int]byte{}, map[int]string{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// pid (name) state parent ...
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		fields := strings.Fields(string(stat[end+1:]))
		names[pid], states[pid] = string(stat[open+1:end]), fields[0][0]
		parents[pid], _ = strconv.Atoi(fields[1])
	}
	self := os.Getpid()
	var found []string
	for pid := range parents {
		ours := false
		for p, known := parents[pid], true; known && p > 1; p, known = parents[p] {
			if p == self {
				ours = true
				break
			}
		}
		switch {
		case !ours:
		case states[pid] == 'Z' && parents[pid] == self:
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		case states[pid] == 'Z' || states[pid] == 'X':
		default:
			found = append(found, fmt.Sprintf("%d %s", pid, names[pid]))
		}
	}
	slices.Sort(found)
	return found
}

// waitForEnd gives the kernel time to end what has lost its parent.
func waitForEnd(t testing.TB) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		left := descendants(t)
		if len(left) == 0 || ctx.Err() != nil {
			return left
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// needSandbox skips a test on a machine that can't build.
func needSandbox(t testing.TB) {
	t.Helper()
	if has, err := hasSandbox(); err != nil {
		t.Fatal(err)
	} else if !has {
		t.Skip("builds need a sandbox and a static busybox (Debian: busybox-static)")
	}
}
