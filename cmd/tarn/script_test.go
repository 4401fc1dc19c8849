package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
	"github.com/tarn-build/tarn/pkg/sandbox/service"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

func TestMain(m *testing.M) {
	namespace.Init()
	service.Init()
	testscript.Main(m, map[string]func(){"tarn": main})
}

// TestScripts runs the command as users use it. Every script finds in its folder
//
//	base/                a signed repository of one package, busybox
//	foreign-1-r0.apk     an unsigned package that says that it comes from a seed
//	keys/base.rsa.pub    the key of base
//	keys/test.rsa        a private key to sign with, and its public half
//	keys/other.rsa       one more, which signed nothing
//
// and may use the conditions and commands below. [sandbox] is what builds need: a
// kernel that gives sandboxes, and a static busybox to put into them; [static] is what
// tests of images need besides, a program without a loader. [real] is for what
// builds with the real seed and sources from outside; scripts called VERB_builds then
// have the store that TARN_REAL names (as XDG_CACHE_HOME does), so that it is done once.
// $REPO is this repository, $GOROOT this machine's Go. [shared] is the folder $SHARED of test data; [apk] is the program $APK of apk-tools 3,
// [cosign] the program $COSIGN.
func TestScripts(t *testing.T) {
	start := makeStart(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_GOLDEN") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
			env.Setenv("ARCH", string(hostArch(t)))
			if store := os.Getenv("TARN_REAL"); store != "" && strings.HasSuffix(env.WorkDir, "_builds") {
				env.Setenv("XDG_CACHE_HOME", store)
			}
			env.Setenv("SHARED", sharedDir())
			repository, err := filepath.Abs("../..")
			if err != nil {
				return err
			}
			env.Setenv("REPO", repository)
			root, err := exec.Command("go", "env", "GOROOT").Output()
			if err != nil {
				return err
			}
			env.Setenv("GOROOT", strings.TrimSpace(string(root)))
			env.Setenv("APK", os.Getenv("TARN_APK"))
			env.Setenv("MACHINE_HOME", os.Getenv("HOME")) // where rustup and pyenv look for what they are
			env.Setenv("COSIGN", toolProgram("cosign"))
			env.Setenv("SYFT", toolProgram("syft"))
			return os.CopyFS(env.WorkDir, os.DirFS(start))
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "sandbox":
				return hasSandbox()
			case "static":
				return isStatic()
			case "several-users":
				return namespace.Backend{}.Several(), nil
			case "subordinate":
				_, err := exec.LookPath("newuidmap")
				_, list := os.Stat("/etc/subuid")
				return err == nil && list == nil, nil
			case "root":
				return os.Getuid() == 0, nil
			case "apk":
				return os.Getenv("TARN_APK") != "", nil
			case "openssl":
				_, err := exec.LookPath("openssl")
				return err == nil, nil
			case "rust":
				out, err := exec.Command("rustc", "--version").Output()
				var minor int
				_, scanned := fmt.Sscanf(string(out), "rustc 1.%d", &minor)
				return err == nil && scanned == nil && minor >= 68, nil // that know sparse registries
			case "real":
				return os.Getenv("TARN_REAL") != "", nil
			case "docker-registry", "skopeo", "umoci":
				return hasProgram(name)
			case "cosign", "syft":
				return hasTool(name)
			case "shared":
				_, err := os.Stat(sharedDir())
				if err != nil && os.Getenv("CI") == "true" {
					return false, err
				}
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":     exits,
			"interrupt": interrupt,
			"serve":     serve,
			"serve-git": serveGit,
			"stall":     stall,
			"serve-bad": serveBad,
			"flip":      flip,
			"values":    values,
			"glob":      glob,
			"as-user":   asUser,
			"package":   makePackage,
			"serving":   serving,
			"serve-tls": serveTLS,
			"nowhere":   nowhere,
			"registry":  startRegistry,
			"referrers": referrers,
			"talk":      talk,

			"equal-sets": equalSets,
		},
	})
}

// sharedDir is the folder of test data that is too large for the repository, as an
// absolute path.
func sharedDir() string {
	dir := os.Getenv("TARN_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		panic(err)
	}
	return dir
}

// exits STATUS COMMAND [ARGUMENT...] runs a command that ends with just this status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	checkStatus(ts, ts.Exec(args[1], args[2:]...), want)
}

func checkStatus(ts *testscript.TestScript, err error, want int) {
	got := 0
	if exit, found := errors.AsType[*exec.ExitError](err); found {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// command is a command with the script's folder and environment, whose output the
// script's stdout and stderr see.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	program, err := findProgram(ts, args[0])
	ts.Check(err)
	cmd := exec.Command(program, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "XDG_CACHE_HOME", "TMPDIR", "WORK"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	return cmd
}

func findProgram(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, name); isExecutable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on PATH", name)
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// interrupt PATTERN COMMAND [ARGUMENT...] runs a command, and sends what Ctrl-C sends
// (SIGINT to the whole process group) when it writes a line like PATTERN on standard
// error. The command has to end by itself, with 130.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: interrupt PATTERN COMMAND [ARGUMENT...]")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	cmd := command(ts, args[1:])
	out := cmd.Stderr
	cmd.Stderr = nil
	lines, err := cmd.StderrPipe()
	ts.Check(err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ts.Check(cmd.Start())
	sent := false
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		fmt.Fprintln(out, scanner.Text())
		if !sent && pattern.Match(scanner.Bytes()) {
			sent = true
			ts.Check(syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
		}
	}
	err = cmd.Wait()
	if !sent {
		ts.Fatalf("no line like %q", args[0])
	}
	checkStatus(ts, err, 130)
}

// serve FOLDER [FILE...] serves a folder over HTTP until the script ends, and puts the
// server's address into files where they say @URL@.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: serve FOLDER [FILE...]")
	}
	startServer(ts, http.FileServer(http.Dir(ts.MkAbs(args[0]))), args[1:])
}

// serve-git FOLDER [FILE...] serves the git repositories in a folder over HTTP, as serve
// does files. Git itself answers, as it does on real servers.
func serveGit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: serve-git FOLDER [FILE...]")
	}
	path, err := exec.Command("git", "--exec-path").Output()
	ts.Check(err)
	startServer(ts, &cgi.Handler{
		Path:   filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Stderr: io.Discard, // what is not there, the script sees for itself
		Env: []string{"GIT_PROJECT_ROOT=" + ts.MkAbs(args[0]), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}, args[1:])
}

// stall [FILE...] is serve with a server that begins each answer and never ends it.
func stall(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: stall [FILE...]")
	}
	startServer(ts, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "the beginning")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}), args)
}

// serve-bad FOLDER [FILE...] is serve with a server that fails in the way that the first folder
// of an address says: busy (503 twice of three times), cut (it breaks off after the first
// half), short (it lies about the length), other (other bytes), circle (redirects).
func serveBad(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: serve-bad FOLDER [FILE...]")
	}
	dir := ts.MkAbs(args[0])
	var busy atomic.Int64
	startServer(ts, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, how, _ := strings.Cut(r.URL.Path, "/")
		how, name, _ := strings.Cut(how, "/")
		data, err := os.ReadFile(filepath.Join(dir, filepath.Base(name)))
		conn, out, herr := w.(http.Hijacker).Hijack()
		if err != nil || herr != nil {
			return
		}
		defer conn.Close()
		at := 0
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
		answer := func(status string, length int, data []byte) {
			fmt.Fprintf(out, "HTTP/1.1 %s\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/*\r\nConnection: close\r\n\r\n%s", status, length, at, at+length-1, data)
			_ = out.Flush()
		}
		switch {
		case how == "busy" && busy.Add(1)%3 != 0:
			answer("503 Service Unavailable", 0, nil)
		case how == "cut" && at == 0:
			answer("200 OK", len(data), data[:len(data)/2])
		case how == "cut":
			answer("206 Partial Content", len(data)-at, data[at:])
		case how == "short":
			answer("200 OK", len(data)-1, data)
		case how == "other":
			answer("200 OK", len(data), bytes.Repeat([]byte("x"), len(data)))
		case how == "circle":
			fmt.Fprintf(out, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", r.URL.Path)
			_ = out.Flush()
		default:
			answer("200 OK", len(data), data)
		}
	}), args[1:])
}

func startServer(ts *testscript.TestScript, h http.Handler, files []string) {
	server := httptest.NewServer(h)
	ts.Defer(server.Close)
	ts.Setenv("URL", server.URL)
	for _, name := range files {
		text := strings.ReplaceAll(ts.ReadFile(name), "@URL@", server.URL)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o644))
	}
}

// glob PATTERN fails when no file is like the pattern; ! glob PATTERN when one is.
// "**/" stands for any folders.
func glob(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] glob PATTERN")
	}
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	switch {
	case neg && len(found) > 0:
		ts.Fatalf("there is %s", strings.Join(found, " "))
	case !neg && len(found) == 0:
		ts.Fatalf("there is no %s", args[0])
	}
}

// flip PATTERN turns one bit in the middle of each file that is like the pattern.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip PATTERN")
	}
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("there is no %s", args[0])
	}
	for _, name := range found {
		data, err := os.ReadFile(name)
		ts.Check(err)
		data[len(data)/2] ^= 1
		ts.Check(os.Chmod(name, 0o644))
		ts.Check(os.WriteFile(name, data, 0o644))
	}
}

// values FILE KEY... prints the values that keys have anywhere in a JSON document, a
// line each, in its order. FILE may be stdout.
func values(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: values FILE KEY...")
	}
	var document any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &document); err != nil {
		ts.Fatalf("%s is no JSON: %v", args[0], err)
	}
	var out bytes.Buffer
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, one := range v {
				walk(one)
			}
		case map[string]any:
			for _, key := range args[1:] {
				switch value := v[key].(type) {
				case nil, []any, map[string]any:
				default:
					fmt.Fprintln(&out, value)
				}
			}
			for _, key := range slices.Sorted(mapKeys(v)) {
				walk(v[key])
			}
		}
	}
	walk(document)
	_, err := ts.Stdout().Write(out.Bytes())
	ts.Check(err)
}

func mapKeys(m map[string]any) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// as-user COMMAND [ARGUMENT...] runs a command as an ordinary user: as nobody, with the
// script's folder as nobody's, when root runs the tests, else as the one who does.
func asUser(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: as-user COMMAND [ARGUMENT...]")
	}
	cmd := command(ts, args)
	if os.Getuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		work := ts.Getenv("WORK")
		ts.Check(filepath.WalkDir(work, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, nobody, nobody))
		}))
		// Both lie in folders that only their owner may enter.
		for _, path := range []string{work, filepath.Dir(cmd.Path)} {
			for dir := path; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
				ts.Check(os.Chmod(dir, 0o755))
			}
		}
	}
	checkStatus(ts, cmd.Run(), 0)
}

// hasSandbox tells whether builds can run. In CI they must.
func hasSandbox() (bool, error) {
	lack := (namespace.Backend{}).Available()
	if _, absent := staticBusybox(); lack == nil && absent != "" {
		lack = errors.New(absent)
	}
	if lack != nil && os.Getenv("CI") == "true" {
		return false, lack
	}
	return lack == nil, nil
}

func hostArch(t *testing.T) apk.Arch {
	arch, err := apk.ParseArch("host")
	if err != nil {
		t.Fatal(err)
	}
	return arch
}

// makeStart makes what every script finds in its folder.
func makeStart(t *testing.T) string {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o755); err != nil {
		t.Fatal(err)
	}
	key := func(name string) *sign.Key {
		k, err := sign.Generate(name, 2048)
		if err == nil {
			err = k.WriteFiles(keys)
		}
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	key("test.rsa")
	key("other.rsa")
	if program, absent := staticBusybox(); absent == "" {
		publishBusybox(t, program, filepath.Join(dir, "base"), key("base.rsa"))
		if err := os.Remove(filepath.Join(keys, "base.rsa")); err != nil {
			t.Fatal(err)
		}
	}
	foreign := apktest.Write(t, apk.Info{Name: "foreign", Version: "1-r0", Arch: hostArch(t), Origin: repo.SeedOrigin, Licenses: []string{"MIT"}},
		"usr/share/foreign", "made elsewhere\n")
	if err := os.WriteFile(filepath.Join(dir, "foreign-1-r0.apk"), foreign, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// isStatic tells whether this program runs where there is no loader. In CI it must, but for
// the race detector.
func isStatic() (bool, error) {
	_, err := service.Binds()
	if err != nil && os.Getenv("CI") == "true" && os.Getenv("CGO_ENABLED") == "0" {
		return false, err
	}
	return err == nil, nil
}

// staticBusybox finds a busybox that needs no libraries, or says what is absent.
func staticBusybox() (program, absent string) {
	program, err := exec.LookPath("busybox")
	if err != nil {
		return "", "there is no busybox (Debian's package busybox-static)"
	}
	file, err := elf.Open(program)
	if err != nil {
		return "", err.Error()
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return "", program + " is not static (that of Debian's package busybox-static is)"
		}
	}
	return program, ""
}

// publishBusybox makes a repository of one package, which is the root that steps see:
// the machine's busybox, the list of what it can do, and the folders of a merged /usr.
func publishBusybox(t *testing.T, program, dir string, key *sign.Key) {
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command(program, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	var applets strings.Builder
	for name := range strings.FieldsSeq(string(list)) {
		applets.WriteString("/usr/bin/" + name + "\n")
	}
	files := apktest.Files(t,
		"etc/busybox-paths.d/busybox", applets.String(),
		"bin", "-> usr/bin", "sbin", "-> usr/bin", "usr/sbin", "-> bin", "lib", "-> usr/lib", "lib64", "-> usr/lib", "usr/lib/", "")
	p := apktest.WriteAll(t, apk.Unsigned{
		Info:  apk.Info{Name: "busybox", Version: "1-r0", Arch: hostArch(t), Origin: "busybox", Licenses: []string{"GPL-2.0-only"}},
		Files: append(files, apk.BytesContent("usr/bin/busybox", 0o755, data, time.Time{})),
	})
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	digest, _, err := st.Put(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	public := &sign.Keyring{}
	if err := public.Add(key.Public()); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Publish(t.Context(), dir, st, key, public, []repo.Unsigned{{Entry: apktest.Entry(t, p), Digest: digest}}); err != nil {
		t.Fatal(err)
	}
}
