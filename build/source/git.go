package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/recipes"
)

// Git is a tree of a git repository: what git-checkout asks for.
type Git struct {
	Repository string
	Branch     string // at most one of Branch and Tag; the remote's HEAD without
	Tag        string
	Commit     string // expected-commit, 40 or 64 hexadecimal digits; may be empty
	// BranchTip wants the commit to be the branch's last.
	BranchTip bool
	// Depth is the number of commits of the history to have; negative is all of it.
	Depth int
	// Submodules are checked out too.
	Submodules bool
	// CherryPicks are put on top, in order.
	CherryPicks []CherryPick
	// SparsePaths are the only folders that are checked out, if there are any.
	SparsePaths []string
}

// CherryPick is a commit, and the branch that has it when it is not the one that
// is checked out.
type CherryPick struct{ Branch, Commit string }

var (
	commitPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	// What git check-ref-format takes, and less: nothing that git could take for an
	// option, a range or a pattern.
	refPattern = regexp.MustCompile(`^[A-Za-z0-9_@+=.,%!#~-]([A-Za-z0-9_@+=.,%!#~/-]*[A-Za-z0-9_@+=,%!#~-])?$`)
)

func checkRef(what, ref string) error {
	if ref == "" {
		return nil
	}
	if !refPattern.MatchString(ref) || strings.HasPrefix(ref, "-") || strings.Contains(ref, "..") || strings.Contains(ref, "//") || strings.Contains(ref, "@{") || strings.Contains(ref, "~") || strings.HasSuffix(ref, ".lock") {
		return fmt.Errorf("git-checkout: %s %q is no name of git", what, ref)
	}
	return nil
}

// OfCheckout reads the inputs of a git-checkout step. Those that say how to try
// again or how many jobs to use decide nothing here.
func OfCheckout(s recipes.Step) (Git, error) {
	in := s.Inputs
	g := Git{Repository: in["repository"], Branch: in["branch"], Tag: in["tag"], Commit: in["expected-commit"],
		BranchTip: in["expected-commit-is-branch-tip"] == "true", Submodules: in["recurse-submodules"] == "true"}
	for line := range strings.Lines(in["sparse-paths"]) {
		if line = strings.TrimSpace(line); line != "" {
			g.SparsePaths = append(g.SparsePaths, line)
		}
	}
	u, err := url.Parse(g.Repository)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Scheme != "file" {
		return g, fmt.Errorf("git-checkout: repository %q is no address", redact(g.Repository))
	}
	if g.Branch != "" && g.Tag != "" {
		return g, errors.New("git-checkout: both branch and tag")
	}
	if err := errors.Join(checkRef("branch", g.Branch), checkRef("tag", g.Tag)); err != nil {
		return g, err
	}
	if g.Commit != "" && !commitPattern.MatchString(g.Commit) {
		return g, fmt.Errorf("git-checkout: expected-commit %q is no commit\n  hint: give all 40 digits", g.Commit)
	}
	for _, p := range g.SparsePaths {
		if !fs.ValidPath(strings.Trim(p, "/")) || strings.HasPrefix(p, "-") {
			return g, fmt.Errorf("git-checkout: sparse path %q is no path of the repository", p)
		}
	}
	for line := range strings.Lines(in["cherry-picks"]) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		ref, _, found := strings.Cut(line, ":")
		if !found {
			return g, fmt.Errorf("git-checkout: cherry-pick %q is not [BRANCH/]COMMIT: COMMENT", line)
		}
		c := CherryPick{Commit: strings.TrimSpace(ref)}
		if i := strings.LastIndexByte(c.Commit, '/'); i >= 0 {
			c.Branch, c.Commit = c.Commit[:i], c.Commit[i+1:]
		}
		if err := checkRef("branch", c.Branch); err != nil {
			return g, err
		}
		if !commitPattern.MatchString(c.Commit) {
			return g, fmt.Errorf("git-checkout: cherry-pick %q is no commit\n  hint: give all 40 digits", c.Commit)
		}
		g.CherryPicks = append(g.CherryPicks, c)
	}
	switch text := in["depth"]; {
	case text != "" && text != "unset":
		if g.Depth, err = strconv.Atoi(text); err != nil || g.Depth == 0 {
			return g, fmt.Errorf("git-checkout: depth %q is no number of commits", text)
		}
	case g.Branch != "" && g.Commit != "" && !g.BranchTip:
		g.Depth = -1 // the commit may lie anywhere on the branch
	default:
		g.Depth = 1
	}
	if len(g.CherryPicks) > 0 {
		g.Depth = -1
	}
	return g, nil
}

// gitLayout is raised when the same commit is laid out in another way.
const gitLayout = 1

// action names the tree. Without a commit, nothing does.
func (g Git) action() store.ActionID {
	h := store.NewHash("git checkout")
	h.Line("layout", gitLayout)
	h.Line("git", g)
	return h.Sum()
}

// tree is what the store remembers of a checkout.
type tree struct {
	Archive store.Digest // a tar, compressed by zstd, of files and .git
	Commit  string
}

// FetchGit puts the tree into the store and gives the archive that it lies in, and the
// commit. One with an expected commit is fetched once; without, the repository
// is asked each time. What could not be had is an *Error.
func (f *Fetcher) FetchGit(ctx context.Context, g Git) (store.Digest, string, error) {
	f.init()
	if g.Commit != "" {
		var known tree
		if found, err := f.Store.Recall(g.action(), &known); err != nil || found {
			return known.Archive, known.Commit, err
		}
	}
	fail := func(err error) (store.Digest, string, error) {
		digest := "commit " + g.Commit
		if g.Commit == "" {
			digest = "no expected commit"
		}
		return "", "", &Error{Name: redact(g.Repository), Digest: digest, Tried: []Attempt{{"git", err}}}
	}
	if f.web.Offline {
		if g.Commit == "" {
			return fail(fmt.Errorf("%w, and without expected-commit the store cannot know it", web.ErrOffline))
		}
		return fail(web.ErrOffline)
	}
	result, err, _ := f.flight.Do("git "+string(g.action()), func() (any, error) {
		retry := f.web.Retry.WithDefaults()
		for n := 0; ; n++ {
			t, err := f.clone(ctx, g)
			if err == nil || n+1 >= retry.Attempts || !gitPassing(err) {
				return t, err
			}
			f.Log.Debug("git is tried again", "repository", redact(g.Repository), "why", err)
			if err := retry.Sleep(ctx, n, nil); err != nil {
				return t, err
			}
		}
	})
	if err != nil {
		if _, full := errors.AsType[*store.SpaceError](err); full || ctx.Err() != nil {
			return "", "", err
		}
		return fail(err)
	}
	t := result.(tree)
	if g.Commit != "" {
		if err := f.Store.Remember(g.action(), t); err != nil {
			return "", "", err
		}
	}
	return t.Archive, t.Commit, nil
}

// gitPassing reports whether what git says may pass: a server or a connection that
// failed, not a commit or repository that is not there.
func gitPassing(err error) bool {
	e, is := errors.AsType[*host.ExitError](err)
	if !is {
		return false
	}
	for _, text := range []string{"The requested URL returned error: 5", "The requested URL returned error: 429", "unexpected disconnect", "early EOF", "RPC failed",
		"Connection reset", "Connection refused", "timed out", "Empty reply", "Operation too slow", "hung up unexpectedly", "GnuTLS recv error"} {
		if strings.Contains(e.Stderr, text) {
			return true
		}
	}
	return false
}

// CommitError says that a tag or branch is not at the commit that a recipe expects.
type CommitError struct{ Ref, Want, Got string }

func (e *CommitError) Error() string {
	return fmt.Sprintf("%s: expected commit %s, found %s", e.Ref, e.Want, e.Got)
}

// clone fetches the tree into a temporary folder and packs it.
func (f *Fetcher) clone(ctx context.Context, g Git) (tree, error) {
	dir, release, err := f.Store.TempDir("git")
	if err != nil {
		return tree{}, err
	}
	defer release()
	c := &checkout{ctx: ctx, g: g, dir: filepath.Join(dir, "tree"), options: f.gitOptions(g), log: f.Log}
	if err := c.fetch(); err != nil {
		return tree{}, err
	}
	if err := c.cherryPick(); err != nil {
		return tree{}, err
	}
	if err := c.work(); err != nil {
		return tree{}, err
	}
	commit, err := c.revision("HEAD")
	if err != nil {
		return tree{}, err
	}
	d, err := f.packTree(ctx, c.dir)
	return tree{Archive: d, Commit: commit}, err
}

// gitOptions adds to git's settings what only the fetch phase knows: whose password
// goes to the repository's host.
func (f *Fetcher) gitOptions(g Git) host.GitOptions {
	o := host.GitOptions{Protocols: f.GitProtocols}
	if o.Protocols == nil {
		o.Protocols = []string{"https", "http", "git"}
	}
	if u, err := url.Parse(g.Repository); err == nil && u.User == nil {
		if user, password, found := f.web.Credentials.For(u.Hostname()); found {
			to := *u
			to.Path, to.RawQuery = "/", ""
			with := to
			with.User = url.UserPassword(user, password)
			// git does not show or keep the address that it asks in truth.
			o.Config = append(o.Config, "url."+with.String()+".insteadOf="+to.String())
		}
	}
	o.Config = append(o.Config, "user.name=tarn", "user.email=tarn@localhost")
	return o
}

// checkout is a git tree that is being made.
type checkout struct {
	ctx     context.Context
	g       Git
	dir     string
	options host.GitOptions
	log     *slog.Logger // may be nil
}

func (c *checkout) git(args ...string) (string, error) {
	out, err := host.Git(c.ctx, c.options, args...)
	return strings.TrimSpace(string(out)), err
}

func (c *checkout) revision(name string) (string, error) {
	return c.git("rev-parse", "--verify", "--end-of-options", name+"^{commit}")
}

// fetch gets the history that is asked for and checks the commit out of it.
func (c *checkout) fetch() error {
	g := c.g
	if _, err := c.git("init", "--quiet", "--", c.dir); err != nil {
		return err
	}
	c.options.Dir = c.dir
	if _, err := c.git("remote", "add", "--", "origin", g.Repository); err != nil {
		return err
	}
	ref, spec := "HEAD", "+HEAD:refs/remotes/origin/HEAD"
	local := "refs/remotes/origin/HEAD"
	switch {
	case g.Tag != "":
		ref, local = "tag "+g.Tag, "refs/tags/"+g.Tag
		spec = "+" + local + ":" + local
	case g.Branch != "":
		ref, local = "branch "+g.Branch, "refs/remotes/origin/"+g.Branch
		spec = "+refs/heads/" + g.Branch + ":" + local
	}
	args := []string{"fetch", "--quiet", "--no-tags", "--force"}
	if g.Depth > 0 {
		args = append(args, "--depth="+strconv.Itoa(g.Depth))
	} else {
		// All of the history has its tags, too: git describe needs them.
		args[2] = "--tags"
	}
	if _, err := c.git(append(args, "--", "origin", spec)...); err != nil {
		return err
	}
	tip, err := c.revision(local)
	if err != nil {
		return err
	}
	if err := c.expect(ref, local, tip); err != nil {
		return err
	}
	commit := tip
	if g.Commit != "" && g.Tag == "" {
		commit = g.Commit
	}
	if g.Branch != "" {
		if _, err := c.git("update-ref", "refs/heads/"+g.Branch, commit); err != nil {
			return err
		}
		_, err := c.git("symbolic-ref", "HEAD", "refs/heads/"+g.Branch)
		return err
	}
	_, err = c.git("update-ref", "--no-deref", "HEAD", commit)
	return err
}

// expect holds the tip of what was fetched against the expected commit.
func (c *checkout) expect(ref, local, tip string) error {
	g := c.g
	wrong := &CommitError{Ref: ref, Want: g.Commit, Got: tip}
	switch {
	case g.Commit == "" || tip == g.Commit:
		return nil
	case g.Tag != "":
		// The id of an annotated tag names its commit for certain, too.
		if object, err := c.git("rev-parse", "--verify", "--end-of-options", local); err == nil && object == g.Commit {
			if c.log != nil {
				c.log.Warn("expected-commit is the id of an annotated tag, and not of its commit", "repository", redact(g.Repository), "tag", g.Tag, "commit", tip)
			}
			return nil
		}
		return wrong
	case g.BranchTip || g.Depth > 0:
		return wrong
	}
	if _, err := c.git("merge-base", "--is-ancestor", g.Commit, tip); err != nil {
		if e, is := errors.AsType[*host.ExitError](err); is && (e.Reason == "exit status 1" || e.Reason == "exit status 128") {
			return wrong
		}
		return err
	}
	return nil
}

// cherryPick puts further commits on top. The time of the new commits is that of
// the commits they come from, so that the result has one name everywhere.
func (c *checkout) cherryPick() error {
	if len(c.g.CherryPicks) == 0 {
		return nil
	}
	if err := c.checkoutFiles(); err != nil {
		return err
	}
	for _, pick := range c.g.CherryPicks {
		if pick.Branch != "" {
			if _, err := c.git("fetch", "--quiet", "--no-tags", "--", "origin", "+refs/heads/"+pick.Branch+":refs/remotes/origin/"+pick.Branch); err != nil {
				return err
			}
		}
		date, err := c.git("show", "--no-patch", "--format=%ct", "--end-of-options", pick.Commit)
		if err != nil {
			return err
		}
		env := c.options.Env
		c.options.Env = append(env[:len(env):len(env)], "GIT_COMMITTER_DATE=@"+date+" +0000")
		_, err = c.git("cherry-pick", "--allow-empty", "-x", pick.Commit)
		c.options.Env = env
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *checkout) checkoutFiles() error {
	if len(c.g.SparsePaths) > 0 {
		if _, err := c.git(append([]string{"sparse-checkout", "set", "--cone", "--"}, c.g.SparsePaths...)...); err != nil {
			return err
		}
	}
	_, err := c.git("reset", "--quiet", "--hard", "HEAD", "--")
	return err
}

// work makes the files, and tidies .git: what differs from one clone to the next
// without being part of the repository goes.
func (c *checkout) work() error {
	if err := c.checkoutFiles(); err != nil {
		return err
	}
	if c.g.Submodules {
		if _, err := c.git("submodule", "--quiet", "update", "--init", "--recursive", "--force"); err != nil {
			return err
		}
	}
	// The index notes times and inodes of this very folder; read anew it does not. What
	// is not checked out of a sparse tree stands there only.
	if len(c.g.SparsePaths) == 0 {
		if _, err := c.git("read-tree", "HEAD"); err != nil {
			return err
		}
	}
	for _, name := range []string{"FETCH_HEAD", "ORIG_HEAD", "COMMIT_EDITMSG", "AUTO_MERGE", "logs", "hooks", "description", "branches", "info/exclude"} {
		if err := os.RemoveAll(filepath.Join(c.dir, ".git", filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	return nil
}

// packTree packs a folder into a blob of the store.
func (f *Fetcher) packTree(ctx context.Context, dir string) (store.Digest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err == nil {
			err = archive.Pack(ctx, z, root, ".", archive.PackOptions{})
			if cerr := z.Close(); err == nil {
				err = cerr
			}
		}
		w.CloseWithError(err)
		done <- err
	}()
	d, _, err := f.Store.Put(r)
	r.CloseWithError(errors.New("nobody reads"))
	if perr := <-done; err == nil {
		err = perr
	}
	return d, err
}

// Checkout fetches the tree where the store does not have it, and puts it into the
// folder dir of root: its files and .git, with which later steps can ask git.
func (f *Fetcher) Checkout(ctx context.Context, g Git, root *os.Root, dir string, modTime time.Time) error {
	d, _, err := f.FetchGit(ctx, g)
	if err != nil {
		return err
	}
	return f.Unpack(ctx, d, root, dir, 0, modTime)
}
