// Package host runs the few programs of the host that tarn runs outside a sandbox.
// Each is named by a function of its own, and this list is all there is:
//
//	git          fetches git repositories             Git
//	apt-config   tells the proxies that apt goes by   AptProxies
//	go           tells where it gets modules from     GoEnv
//	newuidmap    maps subordinate user ids            NewUIDMap
//	newgidmap    maps subordinate group ids           NewGIDMap
//	crun, runc,  make containers                      Runtime (package sandbox/oci
//	runsc, kata-runtime                               executes them in its namespaces)
//	a signer     signs with a key that tarn has not   Sign
//	docker-credential-NAME                            Credential
//	             keeps passwords of registries
//
// A program gets an argument vector and never a shell, an environment that is
// listed here and not that of the caller, no standard input, and a limit on what
// it may print. It ends with the context, and its children with it. A signer and a
// keeper of passwords, which the user names, have the caller's environment, and a digest
// or the name of a registry to read.
package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// MissingError says that a program is not installed.
type MissingError struct {
	Program string
	Package string // of Debian, that has it
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("no program %q on this machine\n  hint: install Debian's package %s", e.Program, e.Package)
}

// ExitError says that a program ran and did not succeed.
type ExitError struct {
	Program string
	Args    []string // as given, without options that every call has
	Reason  string   // e.g. "exit status 128"
	Stderr  string   // the end of what it said, trimmed
}

func (e *ExitError) Error() string {
	text := strings.Join(append([]string{e.Program}, e.Args...), " ") + ": " + e.Reason
	if e.Stderr != "" {
		text += ": " + strings.ReplaceAll(e.Stderr, "\n", "\n  ")
	}
	return text
}

// Limits on what a program may print, in bytes.
const (
	maxStdout = 16 << 20
	keepTail  = 4 << 10
)

// packages are the packages of Debian that have the programs.
var packages = map[string]string{"git": "git", "apt-config": "apt", "go": "golang-go", "newuidmap": "uidmap", "newgidmap": "uidmap",
	"crun": "crun", "runc": "runc", "runsc": "runsc", "kata-runtime": "kata-runtime"}

// find gives the absolute path of a program of the list.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil && filepath.IsAbs(path) {
		return path, nil
	}
	// newuidmap and the like may lie where an ordinary user's PATH does not go.
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin"} {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &MissingError{Program: program, Package: packages[program]}
}

// run runs a program of the list. shown are the arguments that an error tells.
func run(ctx context.Context, program, dir string, env, args, shown []string) ([]byte, error) {
	path, err := find(program)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, env...)
	return output(ctx, cmd, program, shown)
}

// output runs a command and gives what it printed. shown are the arguments that an
// error tells.
func output(ctx context.Context, cmd *exec.Cmd, program string, shown []string) ([]byte, error) {
	var stdout head
	var stderr tail
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// The program and all that it starts are one group, which is killed as one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", strings.Join(append([]string{program}, shown...), " "), context.Cause(ctx))
	case errors.Is(err, errTooMuch) || stdout.over:
		return nil, &ExitError{Program: program, Args: shown, Reason: fmt.Sprintf("it printed more than %d bytes", maxStdout)}
	case err != nil:
		return nil, &ExitError{Program: program, Args: shown, Reason: err.Error(), Stderr: strings.TrimSpace(stderr.String())}
	}
	return stdout.Bytes(), nil
}

var errTooMuch = errors.New("too much output")

// head keeps what is written, up to maxStdout.
type head struct {
	bytes.Buffer
	over bool
}

func (h *head) Write(p []byte) (int, error) {
	if h.Len()+len(p) > maxStdout {
		h.over = true
		return 0, errTooMuch
	}
	return h.Buffer.Write(p)
}

// tail keeps the last keepTail bytes that are written.
type tail struct{ data []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if len(t.data) > 2*keepTail {
		t.data = append(t.data[:0], t.data[len(t.data)-keepTail:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.data[max(0, len(t.data)-keepTail):]) }

// passed are the variables of the caller's environment that programs with a
// network get: where the proxies are, and whom to trust in TLS.
var passed = []string{
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "CURL_CA_BUNDLE",
}

// GitOptions say how git runs. The zero value has no network protocol.
type GitOptions struct {
	Dir string // the working folder; the caller's when empty
	// Protocols are the transports that git may use, e.g. https, http, git.
	Protocols []string
	// Env adds variables, e.g. GIT_COMMITTER_DATE=@0.
	Env []string
	// Config sets values for this run, NAME=VALUE. They reach git by its environment,
	// so that secrets among them are not seen in the list of processes.
	Config []string
}

// gitConfig holds for every run. No hook, filter, helper or other program that a
// repository or a user names is run.
var gitConfig = []string{
	"core.hooksPath=/dev/null", "core.fsmonitor=false", "core.askPass=", "credential.helper=", "core.autocrlf=false", "core.eol=lf",
	"core.attributesFile=/dev/null", "core.excludesFile=/dev/null", "core.symlinks=true", "core.protectHFS=true", "core.protectNTFS=true",
	"init.defaultBranch=main", "init.templateDir=", "advice.detachedHead=false", "gc.auto=0", "maintenance.auto=false", "protocol.version=2",
	"transfer.fsckObjects=true", "fetch.fsckObjects=true", "fsck.zeroPaddedFilemode=ignore", "fetch.fsck.zeroPaddedFilemode=ignore",
	"fetch.fsck.missingSpaceBeforeDate=ignore", "fetch.fsck.badTimezone=ignore", "fetch.fsck.missingTaggerEntry=ignore",
	"submodule.recurse=false", "fetch.recurseSubmodules=false", "safe.directory=*", "pack.threads=1", "commit.gpgSign=false", "tag.gpgSign=false",
	"uploadpack.allowAnySHA1InWant=true",
}

// Git runs git with the arguments and gives what it printed. It reads no settings
// of the machine or of the user, asks for no password, and speaks only the
// protocols that o names.
func Git(ctx context.Context, o GitOptions, args ...string) ([]byte, error) {
	env := []string{
		"HOME=/nonexistent", "XDG_CONFIG_HOME=/nonexistent", "TZ=UTC",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_SSH_COMMAND=false", "GIT_OPTIONAL_LOCKS=0", "GIT_PAGER=cat", "GIT_EDITOR=false",
		"GIT_ALLOW_PROTOCOL=" + strings.Join(o.Protocols, ":"), "GIT_PROTOCOL_FROM_USER=0",
		"GIT_LFS_SKIP_SMUDGE=1",
		// A transfer of less than 1000 bytes a second for 60 seconds is given up.
		"GIT_HTTP_LOW_SPEED_LIMIT=1000", "GIT_HTTP_LOW_SPEED_TIME=60",
	}
	if len(o.Protocols) == 0 {
		env = append(env, "GIT_ALLOW_PROTOCOL=none")
	}
	for _, name := range passed {
		if value, found := os.LookupEnv(name); found {
			env = append(env, name+"="+value)
		}
	}
	settings := slices.Concat(gitConfig, o.Config)
	env = append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(settings)))
	for i, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, name), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, value))
	}
	return run(ctx, "git", o.Dir, append(env, o.Env...), args, args)
}

// AptProxies are the proxies that the machine's apt goes by, where its settings
// name any: the addresses by scheme, "http" and "https", and by scheme and host,
// e.g. "http::deb.example.org", whose value may be DIRECT. A machine without apt
// has none.
func AptProxies(ctx context.Context) (map[string]string, error) {
	out, err := run(ctx, "apt-config", "", nil, []string{"dump", "--format", "%f=%v%n", "Acquire"}, []string{"dump"})
	if _, missing := errors.AsType[*MissingError](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseProxies(string(out)), nil
}

// parseProxies reads lines as Acquire::http::Proxy=ADDRESS, whose names are in any case.
func parseProxies(dump string) map[string]string {
	proxies := map[string]string{}
	for line := range strings.Lines(dump) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		part := strings.Split(strings.ToLower(name), "::")
		if len(part) < 3 || part[0] != "acquire" || part[2] != "proxy" || value == "" {
			continue
		}
		switch scheme := part[1]; {
		case scheme != "http" && scheme != "https":
		case len(part) == 3:
			proxies[scheme] = value
		case len(part) == 4 && part[3] != "":
			proxies[scheme+"::"+part[3]] = value
		}
	}
	return proxies
}

// GoEnv gives settings of the machine's go, such as GOPROXY, as go env prints them. It
// reads the user's settings, and downloads nothing.
func GoEnv(ctx context.Context, names ...string) (map[string]string, error) {
	env := []string{"GOTOOLCHAIN=local", "GOTELEMETRY=off", "GOFLAGS="}
	for _, name := range append([]string{"HOME", "XDG_CONFIG_HOME", "GOENV", "GOROOT"}, names...) {
		if value, found := os.LookupEnv(name); found {
			env = append(env, name+"="+value)
		}
	}
	args := append([]string{"env", "-json"}, names...)
	out, err := run(ctx, "go", "/", env, args, args)
	if err != nil {
		return nil, err
	}
	var values map[string]string
	if err := json.Unmarshal(out, &values); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	return values, nil
}

// IDMap maps Count ids from Inside, as a user namespace sees them, to ids from Outside.
type IDMap struct{ Inside, Outside, Count int }

// NewUIDMap gives the user namespace of the process pid its user ids, those of
// /etc/subuid among them.
func NewUIDMap(ctx context.Context, pid int, maps []IDMap) error {
	return mapIDs(ctx, "newuidmap", pid, maps)
}

// NewGIDMap gives the user namespace of the process pid its group ids.
func NewGIDMap(ctx context.Context, pid int, maps []IDMap) error {
	return mapIDs(ctx, "newgidmap", pid, maps)
}

func mapIDs(ctx context.Context, program string, pid int, maps []IDMap) error {
	args := []string{strconv.Itoa(pid)}
	for _, m := range maps {
		args = append(args, strconv.Itoa(m.Inside), strconv.Itoa(m.Outside), strconv.Itoa(m.Count))
	}
	_, err := run(ctx, program, "", nil, args, args)
	return err
}

// Runtimes are the container runtimes of the list, the preferred first.
func Runtimes() []string { return []string{"crun", "runc", "runsc", "kata-runtime"} }

// Runtime gives the path of a container runtime. It is the one program that is not run
// here: its parent has to be in namespaces that are made for it.
func Runtime(name string) (string, error) {
	if !slices.Contains(Runtimes(), name) {
		return "", fmt.Errorf("no container runtime %q is known\n  hint: %s", name, strings.Join(Runtimes(), ", "))
	}
	return find(name)
}

// RuntimeVersion gives what a container runtime says of itself.
func RuntimeVersion(ctx context.Context, name string) ([]byte, error) {
	return run(ctx, name, "", nil, []string{"--version"}, []string{"--version"})
}

// Has reports whether a program of the list is installed.
func Has(program string) bool {
	if _, listed := packages[program]; !listed {
		panic(fmt.Sprintf("internal error: %q is not on the list of host programs", program))
	}
	_, err := find(program)
	return err == nil
}
