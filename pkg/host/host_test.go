package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func needGit(t *testing.T) {
	t.Helper()
	if !Has("git") {
		if os.Getenv("CI") == "true" {
			t.Fatal("no git")
		}
		t.Skip("no git on this machine")
	}
}

func TestGitReadsNoSettings(t *testing.T) {
	needGit(t)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte("[user]\n\tname = Somebody\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
	t.Setenv("GIT_DIR", home)
	ctx := context.Background()
	if out, err := Git(ctx, GitOptions{Dir: t.TempDir()}, "config", "--get", "user.name"); err == nil {
		t.Errorf("git knows the user: %q", out)
	}
	out, err := Git(ctx, GitOptions{Dir: t.TempDir(), Config: []string{"user.name=a=b"}}, "config", "--get", "user.name")
	if err != nil || string(out) != "a=b\n" {
		t.Errorf("given setting: got %q, %v", out, err)
	}
}

func TestGitRunsNoHooksAndKeepsToItsProtocols(t *testing.T) {
	needGit(t)
	ctx := context.Background()
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	o := GitOptions{Dir: dir, Config: []string{"user.name=t", "user.email=t@example.org"}}
	if _, err := Git(ctx, o, "init", "--quiet", from); err != nil {
		t.Fatal(err)
	}
	hooks := filepath.Join(from, ".git", "hooks")
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, hook := range []string{"post-commit", "pre-commit", "post-checkout"} {
		if err := os.WriteFile(filepath.Join(hooks, hook), []byte("#!/bin/sh\ntouch "+dir+"/ran\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o.Dir = from
	if _, err := Git(ctx, o, "commit", "--quiet", "--allow-empty", "-m", "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("a hook ran")
	}
	o.Dir = dir
	_, err := Git(ctx, o, "clone", "--quiet", "file://"+from, "to")
	if e, is := errors.AsType[*ExitError](err); !is || !strings.Contains(e.Stderr, "not allowed") {
		t.Errorf("clone over a protocol that is not allowed: got %v", err)
	}
	o.Protocols = []string{"file"}
	if _, err := Git(ctx, o, "clone", "--quiet", "file://"+from, "to"); err != nil {
		t.Errorf("clone over a protocol that is allowed: %v", err)
	}
	// ext:: would run a program.
	if _, err := Git(ctx, o, "clone", "--quiet", "ext::touch "+dir+"/ran", "ext"); err == nil {
		t.Error("clone over ext::")
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("a program ran")
	}
}

func TestExitErrorTellsTheEndOfStderr(t *testing.T) {
	needGit(t)
	_, err := Git(context.Background(), GitOptions{Dir: t.TempDir()}, "rev-parse", "HEAD")
	e, is := errors.AsType[*ExitError](err)
	if !is {
		t.Fatalf("got %v, want an ExitError", err)
	}
	want := "git rev-parse HEAD: exit status 128: fatal: "
	if !strings.HasPrefix(e.Error(), want) {
		t.Errorf("got %q, want it to begin with %q", e, want)
	}
}

func TestContextEndsTheProgram(t *testing.T) {
	needGit(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	// The alias keeps git, its shell and the sleep busy until they are killed.
	_, err := Git(ctx, GitOptions{Dir: t.TempDir(), Config: []string{"alias.wait=!sleep 600"}}, "wait")
	if !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestMissingProgramNamesItsPackage(t *testing.T) {
	packages["newnothing"] = "nothing"
	defer delete(packages, "newnothing")
	_, err := run(context.Background(), "newnothing", "", nil, nil, nil)
	if e, is := errors.AsType[*MissingError](err); !is || e.Package != "nothing" {
		t.Errorf("got %v", err)
	}
}

func TestParseProxies(t *testing.T) {
	got := parseProxies("Acquire=\nAcquire::http::Proxy=http://proxy.example:3128\nacquire::HTTP::proxy::direct.example=DIRECT\nAcquire::https::Proxy=\nAcquire::http::Timeout=3\nAcquire::ftp::Proxy=ftp://x\n")
	want := map[string]string{"http": "http://proxy.example:3128", "http::direct.example": "DIRECT"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("proxies (-want +got):\n%s", diff)
	}
	if _, err := AptProxies(context.Background()); err != nil {
		t.Errorf("proxies of this machine: %v", err)
	}
}
