package seed

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/debian"
	"github.com/tarn-build/tarn/pkg/debian/debiantest"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/repo"
)

func TestDefaultLock(t *testing.T) {
	l, err := readLock(&toolchain, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Packages) != 55 || l.Suite != "bookworm" || l.Component != "main" {
		t.Errorf("got %d packages of %s %s", len(l.Packages), l.Suite, l.Component)
	}
	for _, p := range l.Packages {
		if !strings.HasPrefix(p.Path, "pool/main/") || !strings.Contains(p.Path, "/"+p.Name+"_") {
			t.Errorf("%s: path %s", p.Name, p.Path)
		}
	}
	again, err := l.encode()
	if err != nil || !bytes.Equal(again, defaultLock) {
		t.Errorf("the lock is not as tarn writes it, %v", err)
	}
	e, err := entry(&toolchain, l)
	if err != nil {
		t.Fatal(err)
	}
	if e.FullName() != "seed-toolchain-12.2.0-r0" || e.Origin != repo.SeedOrigin || e.Size == 0 || len(e.Depends) != 0 {
		t.Errorf("got %+v", e.Info)
	}
	var names []string
	for _, d := range e.Provides {
		names = append(names, d.String())
	}
	for _, want := range []string{"gcc=12.2.0-r0", "bash=5.2.15-r0", "xz=5.4.1-r0", "which=5.7-r0", "gnutar=1.34-r0", "perl=5.36.0-r0", "cmd:perl=12.2.0-r0", "cmd:hostcc=12.2.0-r0", "cmd:[=12.2.0-r0"} {
		if !slices.Contains(names, want) {
			t.Errorf("it does not provide %s", want)
		}
	}
	// No compiler for glibc has a name that a configure script would find.
	for _, name := range l.Programs {
		if strings.HasPrefix(name, "x86_64-linux-gnu-") || name == "g++" || name == "gcc-12" {
			t.Errorf("program %s", name)
		}
	}
}

func TestMistakesOfLocks(t *testing.T) {
	const head = "suite: s\ncomponent: main\narch: amd64\nsize: 1\nprograms: []\npackages:\n"
	good := fmt.Sprintf("  - {name: gcc-12, version: 12.2.0-1, path: pool/x.deb, size: 1, sha256: %s}\n", strings.Repeat("a", 64))
	for name, c := range map[string]struct{ text, want string }{
		"unknown field":   {head + good + "extra: 1\n", `unknown field "extra"`},
		"unknown package": {head + "  - {name: x}\n", "without name or version"},
		"no packages":     {head, `"gcc-12"`},
		"twice":           {head + good + good, "twice"},
		"a path upwards":  {head + strings.Replace(good, "pool/x.deb", "../x.deb", 1), "no path below"},
		"a short digest":  {head + strings.Replace(good, "aaaa", "a", 1), "is no SHA-256"},
		"another machine": {strings.Replace(head, "amd64", "mips", 1) + good, `"mips"`},
		"no YAML":         {"a: [", ""},
		"a program":       {strings.Replace(head, "[]", "['../x']", 1) + good, "is no program"},
	} {
		_, err := parseLock(&toolchain, "my.lock", []byte(c.text))
		problems, is := diag.Of(err)
		if !is || problems[0].File != "my.lock" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want a problem of my.lock with %q", name, err, c.want)
		}
	}
	if _, err := parseLock(&toolchain, "my.lock", []byte(head+good)); err != nil {
		t.Error(err)
	}
}

func TestPlace(t *testing.T) {
	for from, want := range map[string]string{
		"bin/bash": "seed/usr/bin/bash", "usr/sbin/x": "seed/usr/bin/x", "sbin": "seed/usr/bin", "lib64/ld.so": "seed/usr/lib/ld.so",
		"lib/x86_64-linux-gnu/libc.so.6": "seed/usr/lib/x86_64-linux-gnu/libc.so.6", "usr/include/stdio.h": "seed/usr/include/stdio.h", "usr": "", "etc/passwd": "", "var/x": "", "include/x": "",
		"usr/share/perl/5/x.pm": "seed/usr/share/perl/5/x.pm", "usr/share/doc": "", "usr/share/doc/bash/copyright": "", "usr/share/documents/x": "seed/usr/share/documents/x",
		"usr/lib/gcc/x86_64-linux-gnu/12/libasan.a": "", "usr/lib/gcc/x86_64-linux-gnu/12/libgcc.a": "seed/usr/lib/gcc/x86_64-linux-gnu/12/libgcc.a", "usr/bin/gp-archive": "", "bin/run-parts": "",
	} {
		if got := place(from); got != want {
			t.Errorf("%s: got %q, want %q", from, got, want)
		}
	}
	for _, c := range [][3]string{
		{"bin/rbash", "bash", "bash"},
		{"lib64/ld-linux.so.2", "/lib/x86_64-linux-gnu/ld-linux.so.2", "x86_64-linux-gnu/ld-linux.so.2"},
		{"usr/lib/x86_64-linux-gnu/libm.so", "/lib/x86_64-linux-gnu/libm.so.6", "libm.so.6"},
		{"usr/bin/x", "../../bin/y", "y"},
		{"usr/bin/cpp", "/etc/alternatives/cpp", ""},
		{"usr/lib/a/b", "../c/d", "../c/d"},
	} {
		if got := relink(c[0], place(c[0]), c[1]); got != c[2] {
			t.Errorf("link %s -> %s: got %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// world is a small archive with a seed in it, and what fetches from there.
type world struct {
	archive *debiantest.Archive
	etc     string
	lock    string // path
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{archive: debiantest.New(t), lock: filepath.Join(t.TempDir(), "seed.lock.yaml")}
	a := w.archive
	type e = debiantest.Entry
	a.AddDeb(t, "bookworm", "gcc-12", "12.2.0-14+deb12u1", e{Name: "./usr/bin/gcc-12", Content: "gcc", Mode: 0o755, UID: 1000}, e{Name: "./usr/bin/gcc-ar-12", Content: "ar", Mode: 0o755},
		e{Name: "./usr/bin/gcc-nm-12", Content: "nm", Mode: 0o755}, e{Name: "./usr/bin/gcc-ranlib-12", Content: "rl", Mode: 0o755}, e{Name: "./usr/bin/x86_64-linux-gnu-gcc-12", Link: "gcc-12"},
		e{Name: "./usr/lib/gcc/x86_64-linux-gnu/12/libasan.so", Link: "../../../x86_64-linux-gnu/libasan.so.8"}, e{Name: "./usr/share/doc/gcc-12/copyright", Content: "text"})
	a.AddDeb(t, "bookworm", "bash", "5.2.15-2+b13", e{Name: "./bin/"}, e{Name: "./bin/bash", Content: "bash", Mode: 0o755}, e{Name: "./bin/rbash", Link: "bash"}, e{Name: "./etc/bash.bashrc", Content: "x"})
	a.AddDeb(t, "bookworm", "mawk", "1.3.4-3", e{Name: "./usr/bin/mawk", Content: "mawk", Mode: 0o4755})
	a.AddDeb(t, "bookworm", "debianutils", "5.7-0.5", e{Name: "./usr/bin/which.debianutils", Content: "which", Mode: 0o755})
	// The link is in the archive after its file; by name it comes before.
	a.AddDeb(t, "bookworm", "perl", "5.36.0-7", e{Name: "./usr/bin/perl5.36", Content: "perl", Mode: 0o755}, e{Name: "./usr/bin/perl", Link: "./usr/bin/perl5.36", Type: tar.TypeLink})
	a.Publish(t)
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	w.etc = a.Etc(t, server.URL+"/debian", "bookworm")
	names := "suite: bookworm\ncomponent: main\narch: amd64\nsize: 1\nprograms: []\npackages:\n"
	for _, name := range []string{"bash", "debianutils", "gcc-12", "mawk", "perl"} {
		names += fmt.Sprintf("  - {name: %s, version: 12-1, path: x, size: 1, sha256: %s}\n", name, strings.Repeat("0", 64))
	}
	w.write(t, names)
	s, _ := w.open(t)
	fresh, err := s.Update(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, string(fresh))
	return w
}

func (w *world) write(t *testing.T, lock string) {
	t.Helper()
	if err := os.WriteFile(w.lock, []byte(lock), 0o644); err != nil {
		t.Fatal(err)
	}
}

// open opens the seed with an empty store.
func (w *world) open(t *testing.T) (*Seed, *store.Store) {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	f := &source.Fetcher{Store: st, AptDir: w.etc, Client: &web.Client{Retry: web.Retry{Pause: time.Millisecond, MaxPause: time.Millisecond}}}
	s, err := Open(Options{Store: st, Fetcher: f, Lock: w.lock})
	if err != nil {
		t.Fatal(err)
	}
	return s, st
}

func fetch(t *testing.T, s *Seed, st *store.Store) (store.Digest, error) {
	t.Helper()
	entries, err := s.Packages(context.Background(), apk.ArchX86_64)
	if err != nil || len(entries) != 1 {
		t.Fatalf("got %d packages, %v", len(entries), err)
	}
	return s.Fetch(context.Background(), st, entries[0])
}

func TestSeed(t *testing.T) {
	w := newWorld(t)
	s, st := w.open(t)
	if others, err := s.Packages(context.Background(), apk.ArchAArch64); err != nil || len(others) != 0 {
		t.Errorf("another architecture: got %v, %v", others, err)
	}
	d, err := fetch(t, s, st)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := st.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	info, err := blob.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := apk.ReadPackage(blob, info.Size(), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := s.Entry().Info
	want.DataHash = p.Info.DataHash
	if diff := cmp.Diff(want, p.Info); diff != "" {
		t.Errorf("what the plan counted on and what was made (-plan +made):\n%s", diff)
	}
	got := map[string]string{}
	err = p.Files(func(f *apk.File, r io.Reader) error {
		text := fmt.Sprintf("%s %o %d:%d", f.Type, f.Mode, f.UID, f.GID)
		if f.Link != "" {
			text = f.Type.String() + " " + f.Link
		}
		if f.Type == apk.TypeFile {
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			if !strings.HasPrefix(string(data), "#!") && !strings.HasPrefix(string(data), "%rename") {
				text += " " + string(data)
			}
		}
		got[f.Path] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	folders := []string{"seed", "seed/usr", "seed/usr/bin", "usr", "usr/bin", "usr/lib", "usr/share"}
	tree := map[string]string{
		"bin": "symbolic link usr/bin", "sbin": "symbolic link usr/bin", "lib": "symbolic link usr/lib", "lib64": "symbolic link usr/lib", "usr/sbin": "symbolic link bin", "usr/lib64": "symbolic link lib",
		"seed/bin": "symbolic link usr/bin", "seed/sbin": "symbolic link usr/bin", "seed/lib": "symbolic link usr/lib", "seed/lib64": "symbolic link usr/lib", "seed/usr/sbin": "symbolic link bin",
		"usr/lib/ld-linux-x86-64.so.2": "symbolic link ../../seed/usr/lib/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu": "symbolic link ../../seed/usr/lib/x86_64-linux-gnu",
		"usr/share/bison": "symbolic link ../../seed/usr/share/bison", "usr/share/perl": "symbolic link ../../seed/usr/share/perl",
		"seed/usr/bin/bash": "file 755 0:0 bash", "seed/usr/bin/rbash": "symbolic link bash", "seed/usr/bin/mawk": "file 755 0:0 mawk", "seed/usr/bin/which.debianutils": "file 755 0:0 which",
		"seed/usr/bin/gcc-12": "file 755 0:0 gcc", "seed/usr/bin/gcc-ar-12": "file 755 0:0 ar", "seed/usr/bin/gcc-nm-12": "file 755 0:0 nm", "seed/usr/bin/gcc-ranlib-12": "file 755 0:0 rl",
		"seed/usr/bin/x86_64-linux-gnu-gcc-12": "symbolic link gcc-12", "seed/usr/bin/perl": "file 755 0:0 perl", "seed/usr/bin/perl5.36": "hard link seed/usr/bin/perl",
		"usr/bin/bash": "symbolic link ../../seed/usr/bin/bash", "usr/bin/rbash": "symbolic link ../../seed/usr/bin/rbash", "usr/bin/sh": "symbolic link ../../seed/usr/bin/bash",
		"usr/bin/mawk": "symbolic link ../../seed/usr/bin/mawk", "usr/bin/awk": "symbolic link ../../seed/usr/bin/mawk", "usr/bin/perl": "symbolic link ../../seed/usr/bin/perl", "usr/bin/perl5.36": "symbolic link ../../seed/usr/bin/perl5.36",
		"usr/bin/which": "symbolic link ../../seed/usr/bin/which.debianutils", "usr/bin/which.debianutils": "symbolic link ../../seed/usr/bin/which.debianutils",
		"usr/bin/gcc-ar": "symbolic link ../../seed/usr/bin/gcc-ar-12", "usr/bin/gcc-nm": "symbolic link ../../seed/usr/bin/gcc-nm-12", "usr/bin/gcc-ranlib": "symbolic link ../../seed/usr/bin/gcc-ranlib-12", "usr/bin/cc": "symbolic link gcc",
		"usr/bin/gcc": "file 755 0:0", "usr/bin/cpp": "file 755 0:0", "usr/bin/c89": "file 755 0:0", "usr/bin/c99": "file 755 0:0", "usr/bin/hostcc": "file 755 0:0", "usr/bin/hostcxx": "file 755 0:0", "seed/musl.specs": "file 644 0:0",
	}
	for _, f := range folders {
		tree[f] = "folder 755 0:0"
	}
	if diff := cmp.Diff(tree, got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}

	// A second time nothing is asked for, and on another machine the bytes are the same.
	before := w.archive.Asked("")
	if again, err := fetch(t, s, st); err != nil || again != d {
		t.Errorf("a second time: got %s, %v", again, err)
	}
	if n := w.archive.Asked("") - before; n != 0 {
		t.Errorf("a second time %d files were asked for", n)
	}
	other, otherStore := w.open(t)
	if e, err := fetch(t, other, otherStore); err != nil || e != d || other.ID() != s.ID() {
		t.Errorf("another machine: got %s, %v, want %s", e, err, d)
	}
}

func TestSeedOffline(t *testing.T) {
	w := newWorld(t)
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	open := func(offline bool) *Seed {
		s, err := Open(Options{Store: st, Fetcher: &source.Fetcher{Store: st, AptDir: w.etc, Offline: offline}, Lock: w.lock})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if _, err := fetch(t, open(true), st); !errors.Is(err, web.ErrOffline) {
		t.Errorf("got %v, want offline", err)
	}
	if _, err := fetch(t, open(false), st); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t, open(true), st); err != nil {
		t.Errorf("what the store has: %v", err)
	}
}

func TestSeedTakesPackagesFromMirrors(t *testing.T) {
	w := newWorld(t)
	l, err := readLock(&toolchain, w.lock)
	if err != nil {
		t.Fatal(err)
	}
	w.archive.Change(t, "gcc-12_12.2.0-14+deb12u1_amd64.deb", func(data []byte) []byte {
		dir := t.TempDir()
		for _, p := range l.Packages {
			if p.Name == "gcc-12" {
				if err := os.WriteFile(filepath.Join(dir, p.SHA256), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Setenv("TEST_MIRROR", dir)
		return nil
	})
	s, st := w.open(t)
	s.fetcher.Mirrors = []source.Mirror{source.FolderMirror(os.Getenv("TEST_MIRROR"))}
	if _, err := fetch(t, s, st); err != nil {
		t.Error(err)
	}
}

func TestSeedBelievesOnlyWhatIsLocked(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, w *world)
		want   string
		is     func(error) bool
	}{
		"a package with a byte flipped":  {func(t *testing.T, w *world) { w.archive.Change(t, "bash_5.2.15-2+b13_amd64.deb", debiantest.Flip) }, "expected sha256", isA[*source.MismatchError]},
		"a signature that does not hold": {func(t *testing.T, w *world) { w.archive.Change(t, "bookworm/InRelease", debiantest.Flip) }, "signature", isA[*debian.SignatureError]},
		"another version in the archive": {func(t *testing.T, w *world) {
			w.archive.AddDeb(t, "bookworm", "bash", "5.2.15-3", debiantest.Entry{Name: "./bin/bash", Content: "new"})
			w.archive.Publish(t)
			w.archive.Change(t, "bash_5.2.15-2+b13_amd64.deb", debiantest.Remove)
		}, "the archive has 5.2.15-3 now", isA[*source.Error]},
		"a lock that promises another program": {func(t *testing.T, w *world) {
			data, err := os.ReadFile(w.lock)
			if err != nil {
				t.Fatal(err)
			}
			w.write(t, strings.Replace(string(data), "rbash", "rcsh", 1))
		}, "tarn seed --update", nil},
		"a suite that is gone": {func(t *testing.T, w *world) { w.archive.Change(t, "bookworm/InRelease", debiantest.Remove) }, "404 Not Found", isA[*source.Error]},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.damage(t, w)
			s, st := w.open(t)
			_, err := fetch(t, s, st)
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !c.is(err) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			var d store.Digest
			if found, err := st.Recall(s.ID(), &d); found || err != nil {
				t.Errorf("it is remembered: %s, %v", d, err)
			}
		})
	}
}

func isA[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

func TestUpdateTakesTheNewest(t *testing.T) {
	w := newWorld(t)
	w.archive.AddDeb(t, "bookworm", "bash", "1:5.3-1", debiantest.Entry{Name: "./bin/bash", Content: "new", Mode: 0o755}, debiantest.Entry{Name: "./bin/extra", Content: "x", Mode: 0o755})
	w.archive.Publish(t)
	s, _ := w.open(t)
	data, err := s.Update(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	l, err := parseLock(&toolchain, "new", data)
	if err != nil {
		t.Fatal(err)
	}
	if l.Packages[0].Version != "1:5.3-1" || !slices.Contains(l.Programs, "extra") || slices.Contains(l.Programs, "rbash") {
		t.Errorf("got %+v, programs %v", l.Packages[0], l.Programs)
	}
	if e, err := entry(&toolchain, l); err != nil || !slices.ContainsFunc(e.Provides, func(d apk.Dependency) bool { return d.String() == "bash=5.3-r0" }) {
		t.Errorf("got %v, %v", e, err)
	}
}

func TestPackagesThatCannotBe(t *testing.T) {
	for name, entries := range map[string][]debiantest.Entry{
		"a path upwards":         {{Name: "./usr/bin/../../../etc/passwd", Content: "x"}},
		"a device":               {{Name: "./usr/bin/null", Type: tar.TypeChar}},
		"a path below a file":    {{Name: "./usr/lib/a", Content: "x"}, {Name: "./usr/lib/a/b", Content: "x"}},
		"a path below a link":    {{Name: "./usr/lib/a", Link: "b"}, {Name: "./usr/lib/b/c", Content: "x"}, {Name: "./usr/lib/a/c", Content: "x"}},
		"a hard link to nothing": {{Name: "./usr/bin/a", Link: "./usr/bin/b", Type: tar.TypeLink}},
		"a file of another":      {{Name: "./bin/bash", Content: "x"}},
		"a file of the layout":   {{Name: "./usr/sbin", Content: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.archive.AddDeb(t, "bookworm", "perl", "6-1", entries...)
			w.archive.Publish(t)
			s, _ := w.open(t)
			if _, err := s.Update(context.Background()); err == nil {
				t.Error("it is accepted")
			} else {
				t.Log(err)
			}
		})
	}
}

// TestRealSeed makes the seed of what this machine's apt reaches.
func TestRealSeed(t *testing.T) {
	if os.Getenv("TARN_NETWORK") != "1" {
		t.Skip("fetches 80 MB: set TARN_NETWORK=1")
	}
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	f := &source.Fetcher{Store: st}
	s, err := Open(Options{Store: st, Fetcher: f})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Debian().Suite(context.Background(), s.lock.Suite); err != nil {
		t.Skipf("Debian's archive is out of reach: %v", err)
	}
	start := time.Now()
	d, err := fetch(t, s, st)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s in %s", d, time.Since(start).Round(time.Second))
}
