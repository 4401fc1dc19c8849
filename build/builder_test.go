package build_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

func TestMain(m *testing.M) {
	namespace.Init()
	os.Exit(m.Run())
}

// shelf is a source of packages that lie in memory.
type shelf map[string][]byte

func (shelf) Name() string                                             { return "shelf" }
func (shelf) Identity(e *apk.Entry) string                             { return e.Checksum.String() }
func (shelf) Packages(context.Context, apk.Arch) ([]*apk.Entry, error) { return nil, nil }
func (s shelf) Fetch(_ context.Context, st *store.Store, e *apk.Entry) (store.Digest, error) {
	digest, _, err := st.Put(bytes.NewReader(s[e.Name]))
	return digest, err
}

func host(t testing.TB) apk.Arch {
	t.Helper()
	arch, err := apk.ParseArch("host")
	if err != nil {
		t.Fatal(err)
	}
	return arch
}

// line is a builder with a sandbox and an environment that has a shell.
type line struct {
	*build.Builder
	lock repo.Lock
}

func newLine(t *testing.T) *line {
	t.Helper()
	backend := namespace.Backend{}
	if err := backend.Available(); err != nil {
		missing(t, "a sandbox: %v", err)
	}
	program, err := exec.LookPath("busybox")
	if err != nil {
		missing(t, "busybox (Debian: busybox-static): %v", err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data[:min(len(data), 4096)], []byte("/ld-")) {
		missing(t, "a static busybox (Debian: busybox-static)")
	}
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	paths := "/bin/sh\n/bin/cat\n/bin/mkdir\n/bin/chmod\n/bin/ln\n/bin/sleep\n/bin/id\n/bin/env\n/bin/sort\n/bin/mkfifo\n/bin/rm\n/bin/stat\n/bin/rmdir\n"
	files := append(apktest.Files(t, "etc/busybox-paths.d/busybox", paths, "tmp/", "", "home/build/", "", "dev/", "", "proc/", ""),
		apk.BytesContent("bin/busybox", 0o755, data, time.Time{}))
	base := apktest.WriteAll(t, apk.Unsigned{Info: apk.Info{Name: "base", Version: "1-r0", Arch: host(t)}, Files: files})
	entry := apktest.Entry(t, base)
	s := shelf{"base": base}
	return &line{
		&build.Builder{Store: st, Sources: &source.Fetcher{Store: st, Offline: true}, Sandbox: backend, Logs: filepath.Join(t.TempDir(), "logs")},
		repo.Lock{{Name: "base", Version: "1-r0", Identity: s.Identity(entry), From: "shelf", Entry: entry, Source: s}},
	}
}

func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: "+format, args...)
	}
	t.Skipf("missing: "+format, args...)
}

// recipe is a script of one package whose steps are shell.
func recipe(t testing.TB, name string, steps ...string) *recipes.Script {
	t.Helper()
	s := &recipes.Script{
		Name: name, Version: "1-r0", Arch: host(t), Namespace: "test", Time: 1700000000, Recipe: name + ".yaml",
		Licenses: []recipes.License{{License: "MIT"}}, Packages: []recipes.Output{{Name: name, Description: "a test"}},
	}
	for i, text := range steps {
		s.Packages[0].Steps = append(s.Packages[0].Steps, recipes.Step{At: fmt.Sprintf("pipeline/%d", i), Name: "runs", Line: 10 + i, Shell: text, Package: name})
	}
	return s
}

func (l *line) build(t testing.TB, s *recipes.Script) (*build.Result, error) {
	t.Helper()
	return l.Build(t.Context(), &plan.Plan{Script: s, Environment: l.lock})
}

func (l *line) mustBuild(t testing.TB, s *recipes.Script) *build.Result {
	t.Helper()
	r, err := l.build(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// read gives a package of a result.
func (l *line) read(t testing.TB, p build.Package) *apk.Package {
	t.Helper()
	f, err := l.Store.Open(p.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return apktest.Read(t, data)
}

// list describes every entry of a package but tarn's own document.
func list(t testing.TB, p *apk.Package) []string {
	t.Helper()
	var all []string
	err := p.Files(func(f *apk.File, content io.Reader) error {
		if strings.HasPrefix(f.Path, "var") {
			return nil
		}
		data, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%v %d:%d %s", f.Mode, f.UID, f.GID, f.Path)
		switch f.Type {
		case apk.TypeDir:
			text += "/"
		case apk.TypeSymlink:
			text += " -> " + f.Link
		case apk.TypeHardlink:
			text += " => " + f.Link
		default:
			text += fmt.Sprintf(" %q", data)
		}
		for name, value := range f.Xattrs {
			text += fmt.Sprintf(" %s=%x", name, value)
		}
		if f.ModTime.Unix() != 1700000000 {
			text += " " + f.ModTime.String()
		}
		all = append(all, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const out = "/home/build/melange-out/"

// What steps install arrives in the package as they installed it, for root and for
// ordinary users: run the tests as both.
func TestPackagesHoldWhatStepsInstalled(t *testing.T) {
	l := newLine(t)
	s := recipe(t, "z", `
cd `+out+`z
mkdir -p usr/bin usr/lib/empty usr/share/secret usr/lib/mixed
echo program > usr/bin/su; chmod 4111 usr/bin/su
echo ping > usr/bin/ping; chmod 755 usr/bin/ping
ln usr/bin/ping usr/bin/also
echo hidden > usr/share/secret/x; chmod 0 usr/share/secret/x; chmod 0 usr/share/secret
ln -s /etc/passwd usr/lib/link
echo shared > usr/lib/mixed/a; chmod 200 usr/lib/mixed/a
mkdir -p `+out+`z-extra/usr/lib
ln usr/lib/mixed/a `+out+`z-extra/usr/lib/a
chmod 0 /home/build
`)
	s.Packages[0].ChecksDisabled = []string{"setuidgid"}
	s.Packages[0].Setcap = []recipes.Setcap{{Path: "/usr/bin/ping", Add: map[string]string{"cap_net_raw,cap_net_admin": "+ep"}}}
	s.Packages = append(s.Packages, recipes.Output{Name: "z-extra"}, recipes.Output{Name: "z-none"})
	r := l.mustBuild(t, s)

	var capability []byte
	for _, word := range []uint32{0x03000001, 1<<13 | 1<<12, 0, 0, 0, 0} {
		capability = binary.LittleEndian.AppendUint32(capability, word)
	}
	want := map[string][]string{
		"z": {
			`-rwxr-xr-x 0:0 usr/`, `-rwxr-xr-x 0:0 usr/bin/`,
			fmt.Sprintf(`-rwxr-xr-x 0:0 usr/bin/also "ping\n" security.capability=%x`, capability),
			fmt.Sprintf(`---------- 0:0 usr/bin/ping => usr/bin/also security.capability=%x`, capability),
			`u--x--x--x 0:0 usr/bin/su "program\n"`,
			`-rwxr-xr-x 0:0 usr/lib/`, `-rwxr-xr-x 0:0 usr/lib/empty/`, `-rwxrwxrwx 0:0 usr/lib/link -> /etc/passwd`,
			`-rwxr-xr-x 0:0 usr/lib/mixed/`, `--w------- 0:0 usr/lib/mixed/a "shared\n"`,
			`-rwxr-xr-x 0:0 usr/share/`, `---------- 0:0 usr/share/secret/`, `---------- 0:0 usr/share/secret/x "hidden\n"`,
		},
		"z-extra": {`-rwxr-xr-x 0:0 usr/`, `-rwxr-xr-x 0:0 usr/lib/`, `--w------- 0:0 usr/lib/a "shared\n"`},
		"z-none":  nil,
	}
	for _, p := range r.Packages {
		got := list(t, l.read(t, p))
		if diff := cmp.Diff(want[p.Entry.Name], got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.Entry.Name, diff)
		}
		if p.Entry.Size == 0 {
			t.Errorf("%s: size 0: apk would install nothing", p.Entry.Name)
		}
	}
	if len(r.Findings) != 1 || r.Findings[0].Rule != "setuidgid" || r.Findings[0].Severity != diag.Warning {
		t.Errorf("findings: got %v, want one warning of setuidgid", r.Findings)
	}
}

// What a step finds is the same on every machine and of every caller.
func TestSurroundingsOfSteps(t *testing.T) {
	t.Setenv("SECRET_OF_THE_HOST", "x")
	l := newLine(t)
	s := recipe(t, "z", `
mkdir -p `+out+`z/usr
{ env | sort; echo "cwd $PWD"; echo "args $#"; echo "umask $(umask)"; id -u; echo x > file; stat -c %a file; } > `+out+`z/usr/found`)
	s.Environment.Env = map[string]string{"PATH": "/nowhere", "CFLAGS": "-O2 \"x\"", "HOME": "", "GOPATH": "/go"}
	s.Environment.Given = map[string]string{"CFLAGS": "under", "GIVEN": "1"}
	s.Packages[0].Steps[0].Dir = "/home/build/sub/dir"
	s.Packages[0].Steps[0].Env = map[string]string{"STEP": "it's", "GIVEN": "2"}
	got := apktest.Contents(t, l.read(t, l.mustBuild(t, s).Packages[0]))["usr/found"]
	want := `CFLAGS=-O2 "x"
COMPOSER_CACHE_DIR=/var/cache/melange/composer
GIVEN=2
GOMODCACHE=/var/cache/melange/gomodcache
GOPATH=/go
HOME=/home/build
OLDPWD=/home/build
PATH=/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin
PIP_CACHE_DIR=/var/cache/melange/pip
PWD=/home/build/sub/dir
SHLVL=1
SOURCE_DATE_EPOCH=1700000000
STEP=it's
TAR_OPTIONS=--no-same-owner
UV_CACHE_DIR=/var/cache/melange/uv
npm_config_cache=/var/cache/melange/npm
cwd /home/build/sub/dir
args 0
umask 0022
0
644
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStepThatFails(t *testing.T) {
	l := newLine(t)
	s := recipe(t, "z", "echo first", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do echo line $i; done\nprintf '\\033[2Jend'\nexit 9", "echo never")
	_, err := l.build(t, s)
	step, ok := errors.AsType[*build.StepError](err)
	if !ok {
		t.Fatalf("got %v, want a StepError", err)
	}
	for _, want := range []string{"z.yaml:11: z: pipeline/1 (runs)", "exit status 9", "\n  | line 7\n", "\n  | end\n", "\n  log: " + filepath.Join(l.Logs, "z.log")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if len(step.Tail) != 20 || strings.Contains(err.Error(), "\x1b") || strings.Contains(err.Error(), "line 6\n") {
		t.Errorf("the tail: %q", step.Tail)
	}
	log, err := os.ReadFile(step.Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first\n", "line 1\n", "line 25\nend\n"} {
		if !bytes.Contains(log, []byte(want)) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if bytes.Contains(log, []byte("never")) {
		t.Error("the step behind the failing one ran")
	}
}

func TestBuildsThatDoNotHappen(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *recipes.Script)
		want   string
		check  func(err error) bool
	}{
		{"the network", func(s *recipes.Script) { s.Network = "go modules" }, "asks for the network while it builds: go modules",
			func(err error) bool { _, is := errors.AsType[*build.PolicyError](err); return is }},
		{"time", func(s *recipes.Script) { s.Timeout, s.Packages[0].Steps[0].Shell = 200*time.Millisecond, "sleep 1000" }, "time (200ms)", nil},
		{"a rule", func(s *recipes.Script) {
			s.Packages[0].Steps[0].Shell = "mkdir -p " + out + "z/sbin; echo x > " + out + "z/sbin/x"
		}, "stands in sbin",
			func(err error) bool { _, is := errors.AsType[*build.CheckError](err); return is }},
		{"a device's like", func(s *recipes.Script) {
			s.Packages[0].Steps[0].Shell = "mkdir -p " + out + "z/usr; mkfifo " + out + "z/usr/p"
		}, "packages hold files, folders and links", nil},
		{"a line break in a name", func(s *recipes.Script) {
			s.Packages[0].Steps[0].Shell = "mkdir -p " + out + "z/usr; echo > \"" + out + "z/usr/a\nb\""
		}, "line break", nil},
		{"a dot at the root", func(s *recipes.Script) { s.Packages[0].Steps[0].Shell = "echo > " + out + "z/.PKGINFO" }, "begins with a dot", nil},
		{"the folder of a package is gone", func(s *recipes.Script) { s.Packages[0].Steps[0].Shell = "rmdir " + out + "z" }, "removed the folder", nil},
		{"the folder of a package is a link", func(s *recipes.Script) {
			s.Packages[0].Steps[0].Shell = "rmdir " + out + "z; ln -s .. " + out + "z"
		}, "something else in the place", nil},
		{"the folder of all packages is a link out", func(s *recipes.Script) {
			s.Packages[0].Steps[0].Shell = "rm -r /home/build/melange-out; ln -s /etc /home/build/melange-out"
		}, "pack z: the build put something else in the place of the folder melange-out", nil},
		{"the folder of all packages is gone", func(s *recipes.Script) {
			s.Packages[0].Steps[0].Shell = "rm -r /home/build/melange-out"
		}, "pack z: the build removed the folder melange-out", nil},
		{"tarn's own document", func(s *recipes.Script) {
			s.Packages[0].Steps[0].Shell = "mkdir -p " + out + "z/var/lib/db/sbom; echo > " + out + "z/var/lib/db/sbom/z-1-r0.spdx.json"
		}, "which tarn writes", nil},
		{"capabilities of a file that is not there", func(s *recipes.Script) {
			s.Packages[0].Setcap = []recipes.Setcap{{Path: "/usr/bin/no", Add: map[string]string{"cap_net_raw": "+ep"}}}
		}, "usr/bin/no, which is to have capabilities, was not installed", nil},
		{"an unknown user", func(s *recipes.Script) { s.Environment.Accounts = &recipes.Accounts{RunAs: "nobody-knows"} }, `unknown user "nobody-knows"`, nil},
		{"a name that is a path", func(s *recipes.Script) { s.Name = "../../x" }, "name", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLine(t)
			s := recipe(t, "z", "true")
			test.change(s)
			r, err := l.build(t, s)
			if err == nil || !strings.Contains(err.Error(), test.want) || test.check != nil && !test.check(err) {
				t.Fatalf("got %v, %v, want %q", r, err, test.want)
			}
			leftovers(t, l)
		})
	}
}

// leftovers finds folders of the store that outlived their build.
func leftovers(t *testing.T, l *line) {
	t.Helper()
	err := filepath.WalkDir(l.Store.Dir(), func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (strings.Contains(d.Name(), "dir-work") || strings.Contains(d.Name(), "dir-pack")) {
			t.Errorf("left behind: %s", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBuildThatIsStopped(t *testing.T) {
	l := newLine(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l.Report = func(e build.Event) {
		if e.Stage == "run" {
			cancel()
		}
	}
	_, err := l.Build(ctx, &plan.Plan{Script: recipe(t, "z", "sleep 1000"), Environment: l.lock})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	leftovers(t, l)
}

func TestUsersOfARecipe(t *testing.T) {
	l := newLine(t)
	s := recipe(t, "z", "mkdir -p "+out+"z/usr", "{ id -u; id -un; cat /etc/passwd /etc/group; echo mine > "+out+"z/usr/mine; } > "+out+"z/usr/found")
	gid := uint32(4000)
	s.Environment.Accounts = &recipes.Accounts{
		RunAs:  "worker",
		Users:  []recipes.User{{UserName: "worker", UID: 3000, GID: &gid}},
		Groups: []recipes.Group{{GroupName: "workers", GID: 4000, Members: []string{"worker"}}},
	}
	p := l.read(t, l.mustBuild(t, s).Packages[0])
	want := "3000\nworker\nworker:x:3000:4000:Account created by tarn:/home/worker:/bin/sh\nworkers:x:4000:worker\n"
	if diff := cmp.Diff(want, apktest.Contents(t, p)["usr/found"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, entry := range list(t, p) {
		if !strings.Contains(entry, " 0:0 ") {
			t.Errorf("%s: what the build's user owns belongs to root", entry)
		}
	}
}

// A plan that was carried out is recalled, unless its packages are gone.
func TestRecall(t *testing.T) {
	l := newLine(t)
	s := recipe(t, "z", "mkdir -p "+out+"z/usr; echo x > "+out+"z/usr/x")
	s.Packages[0].ChecksDisabled = []string{"opt"}
	first := l.mustBuild(t, s)
	again := l.mustBuild(t, s)
	if first.Cached || !again.Cached {
		t.Errorf("cached: first %v, again %v", first.Cached, again.Cached)
	}
	again.Cached = false
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("recalled (-first +again):\n%s", diff)
	}
	l.Again = true
	third := l.mustBuild(t, s)
	if third.Cached || third.Packages[0].Digest != first.Packages[0].Digest {
		t.Errorf("built again: cached %v, %s, want %s", third.Cached, third.Packages[0].Digest, first.Packages[0].Digest)
	}
	l.Again = false
	hex := first.Packages[0].Digest.Hex()
	err := filepath.WalkDir(l.Store.Dir(), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(name, hex[2:]) {
			return os.Remove(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if fourth := l.mustBuild(t, s); fourth.Cached || fourth.Packages[0].Digest != first.Packages[0].Digest {
		t.Errorf("without its package: cached %v", fourth.Cached)
	}
}

// Another store, another folder, another number of processors: the same bytes.
func TestBuildsAreReproducible(t *testing.T) {
	digests := map[store.Digest]bool{}
	for _, processors := range []int{1, 4} {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
		l := newLine(t)
		l.CPUs = 1
		s := recipe(t, "z", "mkdir -p "+out+"z/usr/lib; for i in 9 3 7 1 5; do cat /bin/busybox > "+out+"z/usr/lib/$i; ln "+out+"z/usr/lib/$i "+out+"z/usr/lib/0$i; done; id > "+out+"z/usr/id")
		s.Packages[0].Scriptlets = map[string]string{".post-install": "#!/bin/sh\ntrue\n", ".pre-install": "#!/bin/sh\ntrue\n", ".trigger": "#!/bin/sh\ntrue\n"}
		digests[l.mustBuild(t, s).Packages[0].Digest] = true
	}
	if len(digests) != 1 {
		t.Errorf("%d digests, want 1: %v", len(digests), digests)
	}
}

// What was built can be signed, published, read and used by another build, and a
// package that came out the same makes nobody be built again.
func TestEarlyCutoff(t *testing.T) {
	l := newLine(t)
	tool := recipe(t, "tool", "mkdir -p "+out+"tool/usr/bin; echo '#!/bin/sh' > "+out+"tool/usr/bin/tool; chmod 755 "+out+"tool/usr/bin/tool")
	user := recipe(t, "user", "tool; mkdir -p "+out+"user/usr; echo x > "+out+"user/usr/x")
	lockWith := func(r *build.Result) repo.Lock {
		built := &build.Built{}
		built.Add("tool", r)
		source := built.Of("tool")
		e := r.Packages[0].Entry
		return append(slices.Clone(l.lock), repo.Locked{Name: e.Name, Version: e.Version, Identity: source.Identity(e), From: source.Name(), Entry: e, Source: source})
	}
	first := l.mustBuild(t, tool)
	plans := []*plan.Plan{{Script: user, Environment: lockWith(first)}}
	if r, err := l.Build(t.Context(), plans[0]); err != nil || r.Cached {
		t.Fatalf("cached %v, %v", r, err)
	}
	// The recipe says the same in other words.
	tool.Packages[0].Steps[0].Shell += "\n# a comment"
	second := l.mustBuild(t, tool)
	if second.Cached {
		t.Fatal("another script was not run")
	}
	if r, err := l.Build(t.Context(), &plan.Plan{Script: user, Environment: lockWith(second)}); err != nil || !r.Cached {
		t.Errorf("the user of a package that came out the same: %+v, %v, want it recalled", r, err)
	}
	// It installs something else.
	tool.Packages[0].Steps[0].Shell += "\necho more >> " + out + "tool/usr/bin/tool"
	if r, err := l.Build(t.Context(), &plan.Plan{Script: user, Environment: lockWith(l.mustBuild(t, tool))}); err == nil && r.Cached {
		t.Error("the user of a package that changed was not built again")
	}

	key, err := sign.Generate("test.rsa", 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := &sign.Keyring{}
	if err := keys.Add(key.Public()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := first.Packages[0]
	if _, err := repo.Publish(t.Context(), dir, l.Store, key, keys, []repo.Unsigned{{Entry: p.Entry, Digest: p.Digest}}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(dir, repo.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := r.Packages(t.Context(), host(t))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	if _, err := r.Fetch(t.Context(), l.Store, entries[0]); err != nil {
		t.Error(err)
	}
}

func TestTestsOfPackages(t *testing.T) {
	l := newLine(t)
	s := recipe(t, "z")
	o := &s.Packages[0]
	s.Environment.Env = map[string]string{"A": "recipe", "B": "recipe"}
	o.Test = &recipes.Test{Environment: recipes.Environment{Env: map[string]string{"A": "test"}}, Steps: []recipes.Step{
		{At: "test/0", Name: "runs", Shell: `[ "$A $B ${SOURCE_DATE_EPOCH-none}" = "test recipe none" ]; while read l; do [ "$l" != P:base ] || exit 0; done < /usr/lib/apk/db/installed; exit 1`},
	}}
	first, err := l.Test(t.Context(), s, o, l.lock)
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Test(t.Context(), s, o, l.lock)
	if err != nil || first.Cached || !again.Cached {
		t.Errorf("cached: first %v, again %v, %v", first.Cached, again.Cached, err)
	}
	s.Environment.Env["B"] = "another"
	_, err = l.Test(t.Context(), s, o, l.lock)
	if step, is := errors.AsType[*build.StepError](err); !is || step.Log != filepath.Join(l.Logs, "z.test.log") {
		t.Errorf("got %v, want the step that fails and its log", err)
	}
	if _, err := l.Test(t.Context(), s, o, l.lock); err == nil {
		t.Error("a failure was taken for a success")
	}
	leftovers(t, l)
}
