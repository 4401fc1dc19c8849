package source_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/source/mirrortest"
	"github.com/tarn-build/tarn/pkg/debian/debiantest"
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/recipes"
)

// bareCopy makes a bare copy of a repository, at dir/HOST/PATH.git, as a mirror has it.
func bareCopy(t *testing.T, u *upstream, dir, path string) string {
	t.Helper()
	to := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	u.git("clone", "--quiet", "--bare", "--", "file://"+u.dir, to)
	for _, args := range [][]string{{"repack", "-a", "-d", "-q"}, {"update-server-info"}} {
		u.git(append([]string{"--git-dir", to}, args...)...)
	}
	return to
}

func TestGitMirrors(t *testing.T) {
	u := newUpstream(t)
	u.commit("a", "one\n")
	u.git("tag", "-a", "-m", "first", "v1")
	const address = "https://example.org/team/x.git"
	dir := t.TempDir()
	bare := bareCopy(t, u, filepath.Join(dir, "git"), "example.org/team/x.git")
	t.Run("folder", func(t *testing.T) {
		mirrortest.RunGit(t, bare, address, func(*testing.T) source.GitMirror { return source.FolderMirror(dir) })
	})
	t.Run("folder of repositories", func(t *testing.T) {
		mirrortest.RunGit(t, bare, address, func(*testing.T) source.GitMirror {
			return source.GitFolderMirror(filepath.Join(dir, "git"))
		})
	})
	t.Run("a web server", func(t *testing.T) {
		server := httptest.NewServer(http.FileServer(http.Dir(dir)))
		t.Cleanup(server.Close)
		mirrortest.RunGit(t, bare, address, func(t *testing.T) source.GitMirror {
			return source.GitHTTPMirror(newFetcher(t), server.URL+"/git/").(source.GitMirror)
		})
	})
}

// A commit comes from a mirror when upstream has gone, a tag that the mirror has lost or moved
// included; a mirror that has not the commit does not serve another.
func TestCheckoutFromMirrors(t *testing.T) {
	u := newUpstream(t)
	u.commit("a", "one\n")
	want := u.git("rev-parse", "HEAD")
	u.git("tag", "-a", "-m", "first", "v1")
	address := "http://127.0.0.1:1/team/x.git"
	dir := t.TempDir()
	bare := bareCopy(t, u, filepath.Join(dir, "git"), "127.0.0.1/team/x.git")
	in := map[string]string{"repository": address, "tag": "v1", "expected-commit": want}
	try := func() error {
		f := newFetcher(t)
		f.Mirrors = []source.Mirror{source.FolderMirror(t.TempDir()), source.FolderMirror(dir)}
		files, root, err := checkout(t, f, in)
		if err != nil {
			return err
		}
		if files["a"] != "one\n" {
			t.Errorf("got %v", files)
		}
		config, err := root.ReadFile("src/.git/config")
		if err != nil || strings.Contains(string(config), dir) || !strings.Contains(string(config), address) {
			t.Errorf("the mirror is in .git: %s, %v", config, err)
		}
		// What is here once needs nobody.
		f.Offline = true
		if _, _, err := checkout(t, f, in); err != nil {
			t.Error(err)
		}
		return nil
	}
	if err := try(); err != nil {
		t.Error(err)
	}
	u.git("--git-dir", bare, "tag", "-d", "v1")
	if err := try(); err != nil {
		t.Error("the tag is lost:", err)
	}
	u.commit("a", "two\n")
	u.git("--git-dir", bare, "fetch", "--quiet", "--no-tags", "file://"+u.dir, "+HEAD:refs/tags/v1")
	if err := try(); err != nil {
		t.Error("the tag has moved:", err)
	}
	in["expected-commit"] = strings.Repeat("1234", 10)
	err := try()
	if e, is := errors.AsType[*source.Error](err); !is || len(e.Tried) != 3 || !errors.Is(e.Tried[1].Err, fs.ErrNotExist) {
		t.Errorf("another commit: got %v", err)
	}
}

// A mirror that is hostile gives objects, and nothing else of it counts.
func TestHostileGitMirror(t *testing.T) {
	u := newUpstream(t)
	commit := u.commit("a", "one\n")
	secret := newUpstream(t)
	stolen := secret.commit("secret", "of this machine\n")
	dir := t.TempDir()
	bare := bareCopy(t, u, dir, "127.0.0.1/x.git")
	for name, text := range map[string]string{
		"config":                  "[core]\n\tfsmonitor = touch " + dir + "/ran\n\tsshCommand = touch " + dir + "/ran\n\tbare = true\n",
		"objects/info/alternates": filepath.Join(secret.dir, ".git", "objects") + "\n",
		"hooks/post-checkout":     "#!/bin/sh\ntouch " + dir + "/ran\n",
		"info/refs":               commit + "\trefs/heads/main\n" + stolen + "\trefs/heads/stolen\n" + commit + "\trefs/../../../x\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(bare, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bare, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	for _, test := range []struct {
		commit string
		fails  bool
	}{{commit, false}, {stolen, true}} {
		f := newFetcher(t)
		f.Mirrors = []source.Mirror{source.GitHTTPMirror(f, server.URL)}
		_, _, err := checkout(t, f, map[string]string{"repository": "http://127.0.0.1:1/x", "branch": "main", "expected-commit": test.commit})
		if (err != nil) != test.fails {
			t.Errorf("%s: got %v", test.commit, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("something of the mirror ran")
	}
}

func TestMirrorsOfRecipe(t *testing.T) {
	u := newUpstream(t)
	commit := u.commit("a", "one\n")
	got, _, err := checkout(t, newFetcher(t), map[string]string{"repository": "http://127.0.0.1:1/x", "mirrors": "http://127.0.0.1:1/y " + u.url, "expected-commit": commit})
	if err != nil || got["a"] != "one\n" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := source.OfCheckout(recipes.Step{Native: "git-checkout", Inputs: map[string]string{"repository": u.url, "mirrors": u.url}}); err == nil {
		t.Error("mirrors without a commit are asked")
	}
}

// softwareHeritage speaks the interface of that archive, with its limit of requests.
func softwareHeritage(t *testing.T, files map[string][]byte, left *atomic.Int64, reset time.Duration) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/1/content/{hash}/raw/", func(w http.ResponseWriter, r *http.Request) {
		n := left.Add(-1)
		w.Header().Set("X-RateLimit-Limit", "120")
		w.Header().Set("X-RateLimit-Remaining", strconv.FormatInt(max(0, n), 10))
		w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(reset).Unix(), 10))
		if n < 0 {
			left.Store(100) // renewed for the next
			http.Error(w, `{"exception":"Throttled"}`, http.StatusTooManyRequests)
			return
		}
		for _, data := range files {
			if r.PathValue("hash") == "sha256:"+debiantest.SHA256(data) {
				w.Header().Set("Content-Disposition", `attachment; filename=content_sha1_git_x_raw`)
				_, _ = w.Write(data)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"exception":"NotFoundExc","reason":"Content not found"}`))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func TestHeritageMirror(t *testing.T) {
	mirrortest.Run(t, func(t *testing.T, files map[string][]byte) source.Mirror {
		var left atomic.Int64
		left.Store(2) // it asks us to wait once
		return source.HeritageMirror(newFetcher(t), softwareHeritage(t, files, &left, 0).URL)
	})
}

// Where the limit is renewed much later, nobody waits for it, and other files are not asked for.
func TestHeritageMirrorKeepsTheLimit(t *testing.T) {
	files := map[string][]byte{"a": []byte("a")}
	var left atomic.Int64
	f := &source.Fetcher{Store: newStore(t), Client: &web.Client{Retry: web.Retry{Attempts: 1, Pause: time.Millisecond, MaxPause: time.Millisecond}}}
	m := source.HeritageMirror(f, softwareHeritage(t, files, &left, time.Hour).URL)
	for i, want := range []string{"429 Too Many Requests, and asks to wait", "its limit of requests is reached; it takes more in"} {
		if _, err := m.Open(context.Background(), debiantest.SHA256(files["a"]), "a"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("request %d: got %v, want %q", i, err, want)
		}
	}
}
