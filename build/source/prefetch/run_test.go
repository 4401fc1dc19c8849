package prefetch

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What a recipe says of registries, of trust, and of programs to run on the way is not for
// the sandbox that has a network; what decides which modules are chosen is.
func TestEnvironmentIsTheMachines(t *testing.T) {
	recipe := []string{
		"GOFLAGS=-insecure", "GOPRIVATE=*", "GONOSUMDB=*", "GOSUMDB=off", "GOINSECURE=*", "GONOSUMCHECK=1", "GOAUTH=command", "GOVCS=*:all",
		"NPM_CONFIG_REGISTRY=http://evil", "npm_config_ignore-scripts=false", "npm_config_@scope:registry=http://evil", "npm_config_//evil/:_authToken=x", "NPM_CONFIG_USERCONFIG=/home/build/npmrc", "NODE_OPTIONS=--require=/home/build/x.js",
		"PIP_INDEX_URL=http://evil", "PIP_NO_BINARY=:all:", "PYTHONPATH=/home/build", "CARGO_REGISTRIES_EVIL_INDEX=x", "RUSTC=/home/build/rustc", "RUSTC_WRAPPER=/home/build/x",
		"LD_PRELOAD=/home/build/x.so", "GIT_SSH_COMMAND=/home/build/x", "HTTPS_PROXY=http://evil", "ENV=/home/build/x", "SSL_CERT_FILE=/home/build/x", "PATH=/home/build",
	}
	kept := []string{"CGO_ENABLED=0", "GOOS=linux", "GOEXPERIMENT=x", "npm_config_legacy_peer_deps=true", "PIP_CONSTRAINT=constraints.txt", "CFLAGS=-O2", "LDFLAGS=-s", "SOURCE_DATE_EPOCH=1"}
	o := Online{Env: slices.Concat(recipe, kept), Settings: &Settings{Env: map[string]string{"GOPROXY": "http://ours", "https_proxy": "http://ours"}}}
	got := o.environment()
	for _, e := range recipe {
		if slices.Contains(got, e) {
			t.Errorf("the recipe's %s counts", e)
		}
	}
	for _, e := range append(kept, "GOPROXY=http://ours", "https_proxy=http://ours", "npm_config_ignore_scripts=true", "PIP_ONLY_BINARY=:all:", "GOTOOLCHAIN=local") {
		if !slices.Contains(got, e) {
			t.Errorf("%s is missing", e)
		}
	}
	if slices.ContainsFunc(got, func(e string) bool { return strings.HasPrefix(e, "GOSUMDB=") }) {
		t.Error("checksums of modules are not asked for")
	}
}

// The registry that this machine's npm asks counts before that of an .npmrc of the source's,
// and what is said of scopes passes a shell.
func TestRegistryOfNPM(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("npm_config_@ours:registry", "http://scoped")
	if err := os.WriteFile(filepath.Join(home, ".npmrc"), []byte("registry = http://user/\n//user/:_authToken=abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := MachineSettings([]string{"npm"})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Env["npm_config_registry"]; got != "http://user/" {
		t.Errorf("registry %q", got)
	}
	if file := string(s.Files[".npmrc"]); !strings.Contains(file, "@ours:registry=http://scoped\n") || !strings.Contains(file, "//user/:_authToken=abcdef\n") {
		t.Errorf(".npmrc is %q", file)
	}
	t.Setenv("NPM_CONFIG_REGISTRY", "http://variable/")
	if s, err = MachineSettings([]string{"npm"}); err != nil {
		t.Fatal(err)
	}
	if s.Env["NPM_CONFIG_REGISTRY"] != "http://variable/" || s.Env["npm_config_registry"] != "" {
		t.Errorf("variables are %q", s.Env)
	}
}

// What npm writes in Base64 is hidden as it is typed, too.
func TestPasswordsInBase64(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	text := "//a/:_auth=" + encode("me:first-word") + "\n//b/:_password=" + encode("second:word") + "\n//c/:_authToken=third-word\n"
	if err := os.WriteFile(filepath.Join(os.Getenv("HOME"), ".npmrc"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := MachineSettings([]string{"npm"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first-word", encode("me:first-word"), "second:word", encode("second:word"), "third-word"} {
		if !slices.Contains(s.Secrets, want) {
			t.Errorf("%s is not hidden: %q", want, s.Secrets)
		}
	}
	if slices.Contains(s.Secrets, "me") {
		t.Error("a name is hidden")
	}
}
