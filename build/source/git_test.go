package source_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/recipes"
)

// upstream is a git repository, and a real git server before it.
type upstream struct {
	t        *testing.T
	dir      string
	url      string
	fail     atomic.Int64 // requests that get a 503 yet
	requests atomic.Int64
	handler  http.Handler // the git server itself
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	if !host.Has("git") {
		if os.Getenv("CI") == "true" {
			t.Fatal("no git")
		}
		t.Skip("no git on this machine")
	}
	u := &upstream{t: t, dir: filepath.Join(t.TempDir(), "repo")}
	u.git("init", "--quiet", u.dir)
	u.git("config", "uploadpack.allowAnySHA1InWant", "true")
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(u.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	u.handler = backend
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.requests.Add(1)
		if u.fail.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	u.url = server.URL + "/repo/.git"
	return u
}

func (u *upstream) git(args ...string) string {
	u.t.Helper()
	o := host.GitOptions{Config: []string{"user.name=Up Stream", "user.email=up@example.org"}, Env: []string{"GIT_AUTHOR_DATE=@1700000000 +0000", "GIT_COMMITTER_DATE=@1700000000 +0000"}, Protocols: []string{"file"}}
	if _, err := os.Stat(u.dir); err == nil {
		o.Dir = u.dir
	}
	out, err := host.Git(context.Background(), o, args...)
	if err != nil {
		u.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files (name, content, ...) and commits them.
func (u *upstream) commit(files ...string) string {
	u.t.Helper()
	for i := 0; i < len(files); i += 2 {
		p := filepath.Join(u.dir, files[i])
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			u.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(files[i+1]), 0o644); err != nil {
			u.t.Fatal(err)
		}
	}
	u.git("add", "-A")
	u.git("commit", "--quiet", "--allow-empty", "-m", "commit "+strings.Join(files, " "))
	return u.git("rev-parse", "HEAD")
}

// checkout does a step and gives the files of the tree, without .git.
func checkout(t *testing.T, f *source.Fetcher, inputs map[string]string) (map[string]string, *os.Root, error) {
	t.Helper()
	g, err := source.OfCheckout(recipes.Step{Native: "git-checkout", Inputs: inputs})
	if err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	if err := f.Checkout(context.Background(), g, root, "src", time.Unix(1_700_000_000, 0)); err != nil {
		return nil, nil, err
	}
	files := map[string]string{}
	err = fs.WalkDir(root.FS(), "src", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == "src/.git" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.ModTime().Equal(time.Unix(1_700_000_000, 0)) && p != "src" {
			t.Errorf("%s: time %s", p, info.ModTime())
		}
		if d.Type().IsRegular() {
			data, err := fs.ReadFile(root.FS(), p)
			files[strings.TrimPrefix(p, "src/")] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, root, nil
}

func TestCheckout(t *testing.T) {
	u := newUpstream(t)
	first := u.commit("a", "one\n", "dir/b", "b\n")
	u.git("tag", "v1")
	u.git("tag", "-a", "-m", "annotated", "v1-annotated")
	annotated := u.git("rev-parse", "v1-annotated")
	second := u.commit("a", "two\n")
	u.git("branch", "stable", first)
	u.git("checkout", "--quiet", "stable")
	fix := u.commit("fix", "fixed\n")
	u.git("checkout", "--quiet", "main")
	third := u.commit("c", "c\n", "s p/x", "x\n")
	u.git("checkout", "--quiet", "-b", "clash", second)
	clash := u.commit("a", "four\n")
	u.git("checkout", "--quiet", "main")

	for name, c := range map[string]struct {
		in   map[string]string
		want map[string]string
		err  string
	}{
		"the head":                          {in: map[string]string{}, want: map[string]string{"a": "two\n", "dir/b": "b\n", "c": "c\n", "s p/x": "x\n"}},
		"a tag":                             {in: map[string]string{"tag": "v1", "expected-commit": first}, want: map[string]string{"a": "one\n", "dir/b": "b\n"}},
		"an annotated tag":                  {in: map[string]string{"tag": "v1-annotated", "expected-commit": first}, want: map[string]string{"a": "one\n", "dir/b": "b\n"}},
		"an annotated tag by its own id":    {in: map[string]string{"tag": "v1-annotated", "expected-commit": annotated}, want: map[string]string{"a": "one\n", "dir/b": "b\n"}},
		"a tag at another commit":           {in: map[string]string{"tag": "v1", "expected-commit": second}, err: "tag v1: expected commit " + second + ", found " + first},
		"a tag that is not there":           {in: map[string]string{"tag": "v9", "expected-commit": second}, err: "refs/tags/v9"},
		"a branch":                          {in: map[string]string{"branch": "stable", "expected-commit": fix}, want: map[string]string{"a": "one\n", "dir/b": "b\n", "fix": "fixed\n"}},
		"an earlier commit of a branch":     {in: map[string]string{"branch": "main", "expected-commit": second}, want: map[string]string{"a": "two\n", "dir/b": "b\n"}},
		"a commit that is not its tip":      {in: map[string]string{"branch": "main", "expected-commit": second, "expected-commit-is-branch-tip": "true"}, err: "branch main: expected commit " + second + ", found " + third},
		"a commit of another branch":        {in: map[string]string{"branch": "main", "expected-commit": fix}, err: "branch main: expected commit " + fix},
		"a commit that is nowhere":          {in: map[string]string{"branch": "main", "expected-commit": strings.Repeat("1", 40)}, err: "branch main: expected commit 1111"},
		"only some folders":                 {in: map[string]string{"tag": "v1", "expected-commit": first, "sparse-paths": "none\nother"}, want: map[string]string{"a": "one\n"}},
		"with a commit put on top":          {in: map[string]string{"tag": "v1", "expected-commit": first, "cherry-picks": "# a fix\nstable/" + fix + ": fixes it\n"}, want: map[string]string{"a": "one\n", "dir/b": "b\n", "fix": "fixed\n"}},
		"commits on top of each other":      {in: map[string]string{"branch": "main", "expected-commit": second, "cherry-picks": "stable/" + fix + ": fixes #1\n" + third + ": the next one\n"}, want: map[string]string{"a": "two\n", "dir/b": "b\n", "fix": "fixed\n", "c": "c\n", "s p/x": "x\n"}},
		"a commit on top that does not fit": {in: map[string]string{"tag": "v1", "expected-commit": first, "cherry-picks": "clash/" + clash + ": changes what is not there\n"}, err: "could not apply"},
		"a commit on top that is nowhere":   {in: map[string]string{"tag": "v1", "expected-commit": first, "cherry-picks": strings.Repeat("1", 40) + ": x\n"}, err: strings.Repeat("1", 40)},
		"a sparse folder with a space":      {in: map[string]string{"branch": "main", "expected-commit": third, "sparse-paths": "s p\n\n"}, want: map[string]string{"a": "two\n", "c": "c\n", "s p/x": "x\n"}},
		"branch and tag":                    {in: map[string]string{"tag": "v1", "branch": "main"}, err: "both branch and tag"},
		"an option as a tag":                {in: map[string]string{"tag": "--upload-pack=touch x"}, err: "is no name of git"},
		"a range as a branch":               {in: map[string]string{"branch": "a..b"}, err: "is no name of git"},
		"a short commit":                    {in: map[string]string{"expected-commit": "abc"}, err: "give all 40 digits"},
		"a program as a repository":         {in: map[string]string{"repository": "ext::touch x"}, err: "is no address"},
		"a program behind slashes":          {in: map[string]string{"repository": "ext://touch x/"}, err: "git-checkout: "},
		"a file as a repository":            {in: map[string]string{"repository": "file://" + u.dir}, err: "not allowed"},
		"an option as a repository":         {in: map[string]string{"repository": "--upload-pack=x"}, err: "is no address"},
		"a cherry-pick without its colon":   {in: map[string]string{"cherry-picks": fix}, err: "COMMIT: COMMENT"},
		"a sparse path out of the tree":     {in: map[string]string{"sparse-paths": "../x"}, err: "sparse path"},
		"a depth that is none":              {in: map[string]string{"depth": "x"}, err: "depth"},
		"a history that lacks the commit":   {in: map[string]string{"branch": "main", "expected-commit": second, "depth": "1"}, err: "expected commit " + second},
		"a history that has all":            {in: map[string]string{"tag": "v1", "expected-commit": first, "depth": "-1"}, want: map[string]string{"a": "one\n", "dir/b": "b\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFetcher(t)
			if c.in["repository"] == "" {
				c.in["repository"] = u.url
			}
			got, root, err := checkout(t, f, c.in)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got error %v, want %q in it", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			// A later step can ask git, and sees a clean tree.
			if status, err := host.Git(context.Background(), host.GitOptions{Dir: filepath.Join(root.Name(), "src")}, "status", "--porcelain"); err != nil || len(status) > 0 {
				t.Errorf("git status: %q, %v", status, err)
			}
		})
	}
}

func TestCheckoutIsFetchedOnce(t *testing.T) {
	u := newUpstream(t)
	commit := u.commit("a", "one\n", "run.sh", "#!/bin/sh\n")
	u.git("tag", "v1")
	f := newFetcher(t)
	in := map[string]string{"repository": u.url, "tag": "v1", "expected-commit": commit}
	if _, _, err := checkout(t, f, in); err != nil {
		t.Fatal(err)
	}
	before := u.requests.Load()
	off := &source.Fetcher{Store: f.Store, Offline: true}
	if _, _, err := checkout(t, off, in); err != nil {
		t.Errorf("offline: %v", err)
	}
	if n := u.requests.Load() - before; n != 0 {
		t.Errorf("%d requests for what the store has", n)
	}
	// Another machine makes the same archive of it.
	g, err := source.OfCheckout(recipes.Step{Inputs: in})
	if err != nil {
		t.Fatal(err)
	}
	one, _, err := f.FetchGit(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	if two, _, err := newFetcher(t).FetchGit(context.Background(), g); err != nil || one != two {
		t.Errorf("got %s and %s, %v", one, two, err)
	}
	// Without a commit nothing says that the store's tree is the right one.
	delete(in, "expected-commit")
	if _, _, err := checkout(t, off, in); !errors.Is(err, web.ErrOffline) || !strings.Contains(err.Error(), "expected-commit") {
		t.Errorf("offline and without a commit: got %v", err)
	}
}

func TestCheckoutOutlastsOverload(t *testing.T) {
	u := newUpstream(t)
	commit := u.commit("a", "one\n")
	u.fail.Store(2)
	if _, _, err := checkout(t, newFetcher(t), map[string]string{"repository": u.url, "expected-commit": commit}); err != nil {
		t.Error(err)
	}
	u.fail.Store(1000)
	_, _, err := checkout(t, newFetcher(t), map[string]string{"repository": u.url, "expected-commit": commit})
	if _, is := errors.AsType[*source.Error](err); !is || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
}

func TestCheckoutWithSubmodules(t *testing.T) {
	inner, outer := newUpstream(t), newUpstream(t)
	inner.commit("inner", "inner\n")
	outer.commit("outer", "outer\n")
	if _, err := host.Git(context.Background(), host.GitOptions{Dir: outer.dir, Protocols: []string{"http"}}, "submodule", "--quiet", "add", inner.url, "sub"); err != nil {
		t.Fatal(err)
	}
	commit := outer.commit()
	in := map[string]string{"repository": outer.url, "expected-commit": commit, "recurse-submodules": "true"}
	got, _, err := checkout(t, newFetcher(t), in)
	if err != nil {
		t.Fatal(err)
	}
	if got["sub/inner"] != "inner\n" || got["outer"] != "outer\n" {
		t.Errorf("got %v", got)
	}
	// A submodule cannot name what the repository itself could not.
	outer.commit(".gitmodules", "[submodule \"sub\"]\n\tpath = sub\n\turl = file://"+inner.dir+"\n")
	in["expected-commit"] = outer.git("rev-parse", "HEAD")
	if _, _, err := checkout(t, newFetcher(t), in); err == nil || !strings.Contains(err.Error(), "is none of https, http, git") {
		t.Errorf("a submodule of this machine: got %v", err)
	}
}

// Addresses of submodules by which git would start a program, or read this machine.
func TestSubmoduleAddressesAreRefused(t *testing.T) {
	inner, outer := newUpstream(t), newUpstream(t)
	inner.commit("inner", "inner\n")
	outer.commit("outer", "outer\n")
	if _, err := host.Git(context.Background(), host.GitOptions{Dir: outer.dir, Protocols: []string{"http"}}, "submodule", "--quiet", "add", inner.url, "sub"); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(t.TempDir(), "ran")
	for _, address := range []string{
		"ext::sh -c 'touch " + marker + "'", "ext::touch% " + marker, "fd::7", "file::" + inner.dir, "file://" + inner.dir, inner.dir,
		"http::" + inner.url, "-u./touch", "--upload-pack=touch " + marker, "ftp://127.0.0.1/x.git", "https:///x", "../../../../ext::touch x",
	} {
		commit := outer.commit(".gitmodules", "[submodule \"sub\"]\n\tpath = sub\n\turl = \""+address+"\"\n")
		_, _, err := checkout(t, newFetcher(t), map[string]string{"repository": outer.url, "expected-commit": commit, "recurse-submodules": "true"})
		if err == nil {
			t.Errorf("%q was fetched", address)
		} else if !strings.Contains(err.Error(), `submodule "sub"`) && !strings.Contains(err.Error(), "disallowed submodule url") { // git knows some itself
			t.Errorf("%q: got %v, want a refusal that names the submodule", address, err)
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a program of a submodule's address ran")
	}
}

// TestPointersAreTold holds that nobody builds with a pointer of Git LFS without a word.
func TestPointersAreTold(t *testing.T) {
	u := newUpstream(t)
	const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
	for _, c := range []struct {
		files []string
		want  string
	}{
		{[]string{".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin", pointer, "b.bin", "no pointer\n", "d/c.bin", pointer, "text", "x\n"}, "files=2 first=a.bin"},
		{[]string{".gitattributes", "", "a.bin", pointer}, ""}, // a text about pointers, perhaps
	} {
		commit := u.commit(c.files...)
		var log bytes.Buffer
		f := newFetcher(t)
		f.Log = slog.New(slog.NewTextHandler(&log, nil))
		if _, _, err := checkout(t, f, map[string]string{"repository": u.url, "expected-commit": commit}); err != nil {
			t.Fatal(err)
		}
		told := strings.Contains(log.String(), "pointers of Git LFS")
		if told != (c.want != "") || !strings.Contains(log.String(), c.want) {
			t.Errorf("got %q, want %q in it", log.String(), c.want)
		}
	}
}

func TestCheckoutRunsNothingOfTheRepository(t *testing.T) {
	u := newUpstream(t)
	marker := filepath.Join(t.TempDir(), "ran")
	u.commit(".gitattributes", "* filter=evil\n", "a", "one\n", ".git-hooks/post-checkout", "#!/bin/sh\ntouch "+marker+"\n", "link", "x")
	if err := os.Remove(filepath.Join(u.dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(u.dir, "link")); err != nil {
		t.Fatal(err)
	}
	commit := u.commit()
	f := newFetcher(t)
	got, root, err := checkout(t, f, map[string]string{"repository": u.url, "expected-commit": commit})
	if err != nil {
		t.Fatal(err)
	}
	if got["a"] != "one\n" {
		t.Errorf("got %v", got)
	}
	if target, err := root.Readlink("src/link"); err != nil || target != "/etc/passwd" {
		t.Errorf("link: %q, %v", target, err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("something of the repository ran")
	}
	if _, err := root.Stat("src/.git/hooks"); err == nil {
		t.Error("there are hooks in .git")
	}
}

func TestCheckoutKeepsNoSecret(t *testing.T) {
	u := newUpstream(t)
	commit := u.commit("a", "one\n")
	netrc := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(netrc, []byte("machine 127.0.0.1 login ann password s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NETRC", netrc)
	f := newFetcher(t)
	var err error
	if f.Client.Credentials, err = web.LoadCredentials(); err != nil {
		t.Fatal(err)
	}
	g := source.Git{Repository: u.url, Commit: commit, Depth: 1}
	d, _, err := f.FetchGit(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := f.Store.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	r, err := archive.Decompress(blob)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "s3cret") {
			t.Errorf("%s holds the password", h.Name)
		}
	}
}
