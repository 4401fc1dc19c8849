package prefetch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/online"
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/recipes"
)

// Where things stand in the work folder, and inside.
const (
	workPath = "/home/build"
	// Folder is where a tree is placed for a build, below the work folder. Go, git and
	// shells pass over what begins with a dot.
	Folder = ".cache/prefetch"
	// raw is where package managers put what they download, before it is normalised.
	raw = ".cache/prefetch.raw"
	// home is the folder of settings, in the fetch sandbox's own /tmp: it is never
	// written to a disk of this machine.
	home = "/tmp/.prefetch-home"
)

// Online is how a script is run with a network.
type Online struct {
	Backend  sandbox.Backend
	Spec     sandbox.Spec // of the build, but for what this adds
	Settings *Settings
	// Env is the environment of the step: NAME=value.
	Env    []string
	Before string // RFC 3339; see Entry
	Output io.Writer
}

// Run runs the prefetch script of a step in a sandbox of its own, the only one that has
// a network.
func (o *Online) Run(ctx context.Context, s recipes.Step) error {
	spec := o.Spec
	spec.Network = online.Grant("prefetch")
	spec.Binds = append(slices.Clone(spec.Binds), o.Settings.Binds...)
	// What downloads gives no files to others.
	spec.Capabilities, spec.Owners = nil, false
	box, err := o.Backend.Open(ctx, spec)
	if err != nil {
		return err
	}
	defer box.Close()
	for _, name := range slices.Sorted(maps.Keys(o.Settings.Files)) {
		err := box.Run(ctx, sandbox.Command{
			Argv:  []string{"/bin/sh", "-c", `umask 077; mkdir -p "${1%/*}" && cat >"$1"`, "sh", path.Join(home, name)},
			Env:   []string{"PATH=" + commandPath},
			Stdin: bytes.NewReader(o.Settings.Files[name]), Stderr: o.Output,
		})
		if err != nil {
			return fmt.Errorf("hand in settings: %w", err)
		}
	}
	dir := s.Dir
	if dir == "" {
		dir = workPath
	}
	if err := box.Run(ctx, sandbox.Command{
		Argv: []string{"/bin/sh", "-c", prologue + s.Prefetch, "sh", dir, path.Join(workPath, raw)},
		Env:  o.environment(), Stdout: o.Output, Stderr: o.Output,
	}); err != nil {
		return err
	}
	return box.Close()
}

// commandPath is what commands are found by.
const commandPath = "/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin"

// prologue makes the folders and goes to the step's.
const prologue = `set -eo pipefail
umask 022
mkdir -p "$1" "$2/go" "$2/npm" "$2/pip" "$2/cargo" "$2/files" "$HOME"
cd "$1"
shift 2
`

// machines are the variables that are for the machine to say, and not for a recipe: whom to ask
// and whom to believe; and those by which programs run others, here where there is a network
// and what registries ask for.
var machines = regexp.MustCompile(`^(GO(PROXY|NOPROXY|SUMDB|NOSUMDB|NOSUMCHECK|PRIVATE|INSECURE|VCS|AUTH|ENV|FLAGS|TOOLCHAIN)` +
	`|(?i:npm_config_(registry|replace[-_]registry[-_]host|.*:registry|//.*|_.*|offline|prefer[-_]offline|cache|cafile|ca|cert|key|strict[-_]ssl|https?[-_]?proxy|proxy|no[-_]?proxy|userconfig|globalconfig|ignore[-_]scripts|script[-_]shell|shell|node[-_]options|git))` +
	`|NODE_(OPTIONS|PATH|EXTRA_CA_CERTS|TLS_REJECT_UNAUTHORIZED)` +
	`|PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|PROXY|CERT|CLIENT_CERT|CONFIG_FILE|NO_INDEX|FIND_LINKS|NO_BINARY|ONLY_BINARY)|PYTHON(PATH|HOME|STARTUP|USERBASE)` +
	`|CARGO_(HOME|NET_.*|HTTP_.*|REGISTR.*|SOURCE_.*|ALIAS_.*)|RUSTC(_.*)?` +
	`|(?i:(https?|ftp|all|no)_proxy)|SSL_.*|CURL_.*|REQUESTS_CA_BUNDLE|NETRC|GIT_.*|LD_.*|BASH_ENV|ENV)$`)

// environment is the step's, with the machine's settings, and with the folders that
// package managers put what they download into.
func (o *Online) environment() []string {
	env := map[string]string{}
	for _, e := range o.Env {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	maps.DeleteFunc(env, func(name, _ string) bool { return machines.MatchString(name) })
	at := path.Join(workPath, raw)
	maps.Copy(env, map[string]string{
		"HOME": home, "PATH": commandPath,
		"PREFETCH": path.Join(at, "files"), "PREFETCH_BEFORE": o.Before,
		"GOMODCACHE": path.Join(at, "go"), "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local", "GOPATH": "/tmp/go", "GOCACHE": "/tmp/go-build",
		"npm_config_cache": path.Join(at, "npm"), "npm_config_ignore_scripts": "true", "npm_config_audit": "false", "npm_config_fund": "false", "npm_config_update_notifier": "false",
		"PREFETCH_PIP": path.Join(at, "pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CACHE_DIR": "/tmp/pip", "PIP_ONLY_BINARY": ":all:",
		"PREFETCH_CARGO": path.Join(at, "cargo"), "CARGO_HOME": path.Join(home, ".cargo"),
	})
	maps.Copy(env, o.Settings.Env)
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// ErrOffline says that nobody may be asked.
var ErrOffline = web.ErrOffline

// Error says that what a step needs could not be downloaded.
type Error struct {
	Step string // e.g. go/build
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("prefetch of %s: %v", e.Step, e.Err) }
func (e *Error) Unwrap() error { return e.Err }
