package main

import (
	"context"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/tarn-build/tarn/pkg/host"
)

// checkout is the git checkout that recipes stand in.
type checkout struct {
	commit     string // 40 digits, "" where there is none
	repository string // its address, "" where there is none that others could use
}

// checkouts finds the checkouts of folders, each once. It is nil in a workspace: there each
// commit would make each plan another, and build all again. A workspace notes the commit
// that --git-commit names.
func checkouts(ctx context.Context, ws *workspace) func(dir string) checkout {
	if ws.isReal() {
		return nil
	}
	var mu sync.Mutex
	known := map[string]checkout{}
	return func(dir string) checkout {
		mu.Lock()
		defer mu.Unlock()
		c, found := known[dir]
		if !found {
			c = findCheckout(ctx, dir)
			known[dir] = c
		}
		return c
	}
}

// findCheckout asks git about a folder. What can't be told is left empty: a folder that is
// no checkout, a repository without a commit, a machine without git.
func findCheckout(ctx context.Context, dir string) (c checkout) {
	if out, err := host.Git(ctx, host.GitOptions{Dir: dir}, "rev-parse", "--verify", "--quiet", "HEAD"); err == nil {
		c.commit = strings.TrimSpace(string(out))
	}
	if out, err := host.Git(ctx, host.GitOptions{Dir: dir}, "config", "--get", "remote.origin.url"); err == nil {
		c.repository = publicAddress(strings.TrimSpace(string(out)))
	}
	return c
}

// scpAddress is git@host:path.
var scpAddress = regexp.MustCompile(`^(?:[^@/:\s]+@)?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+):([A-Za-z0-9._~/+-]+)$`)

// publicAddress is the address of a repository as it may be told to anybody: without
// names and passwords, git@host:path as https, and nothing where it is a path of this machine.
func publicAddress(remote string) string {
	if m := scpAddress.FindStringSubmatch(remote); m != nil {
		remote = "https://" + m[1] + "/" + strings.TrimPrefix(m[2], "/")
	}
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" {
		return ""
	}
	switch u.Scheme {
	case "ssh", "git+ssh":
		u.Scheme, u.Host = "https", u.Hostname()
	case "http", "https", "git":
	default:
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return strings.TrimSuffix(u.String(), ".git")
}
