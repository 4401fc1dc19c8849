package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/signature"
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
	// Submodules are checked out too, without their history when ShallowSubmodules.
	Submodules, ShallowSubmodules bool
	// CherryPicks are put on top, in order.
	CherryPicks []CherryPick
	// SparsePaths are the only folders that are checked out, if there are any.
	SparsePaths []string

	// Mirrors are further addresses, asked where there is a Commit.
	Mirrors []string
	// Patience is what the recipe says of it.
	Patience Patience
	// Verify says whose signature the tag or the commit has to bear; nil asks for none.
	Verify *Verification

	pinned bool // a submodule: the commit is all that there is
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

// OfCheckout reads the inputs of a git-checkout step. How many jobs to use decides
// nothing here.
func OfCheckout(s recipes.Step) (Git, error) {
	in := s.Inputs
	g := Git{Repository: in["repository"], Branch: in["branch"], Tag: in["tag"], Commit: in["expected-commit"],
		BranchTip: in["expected-commit-is-branch-tip"] == "true", Submodules: in["recurse-submodules"] == "true"}
	g.ShallowSubmodules = g.Submodules && in["shallow-submodules"] == "true"
	for line := range strings.Lines(in["sparse-paths"]) {
		if line = strings.TrimSpace(line); line != "" {
			g.SparsePaths = append(g.SparsePaths, line)
		}
	}
	u, err := url.Parse(g.Repository)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Scheme != "file" {
		return g, fmt.Errorf("git-checkout: repository %q is no address", redact.Address(g.Repository))
	}
	if err := checkOpen("git-checkout: repository", g.Repository); err != nil {
		return g, err
	}
	for _, address := range strings.Fields(in["mirrors"]) {
		if err := checkOpen("git-checkout: mirror", address); err != nil {
			return g, err
		}
		if u, err := url.Parse(address); err != nil || u.Scheme == "" || u.Host == "" {
			return g, fmt.Errorf("git-checkout: mirror %q is no address", redact.Address(address))
		}
		g.Mirrors = append(g.Mirrors, address)
	}
	if g.Branch != "" && g.Tag != "" {
		return g, errors.New("git-checkout: both branch and tag")
	}
	if err := errors.Join(checkRef("branch", g.Branch), checkRef("tag", g.Tag)); err != nil {
		return g, err
	}
	if len(g.Mirrors) > 0 && g.Commit == "" {
		return g, errors.New("git-checkout: mirrors are asked by expected-commit, which is not given")
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
	if g.Patience, err = patienceOf(s); err != nil {
		return g, err
	}
	g.Verify, err = ofVerify(s, nil)
	return g, err
}

// gitLayout is raised when the same commit is laid out in another way.
const gitLayout = 1

// action names the tree. Without a commit, nothing does. How it is tried and whose signature
// it bears is no part of it.
func (g Git) action() store.ActionID {
	h := store.NewHash("git checkout")
	h.Line("layout", gitLayout)
	h.Line("git", struct {
		Repository, Branch, Tag, Commit string
		BranchTip                       bool
		Depth                           int
		Submodules                      bool
		CherryPicks                     []CherryPick
		SparsePaths                     []string
	}{g.Repository, g.Branch, g.Tag, g.Commit, g.BranchTip, g.Depth, g.Submodules, g.CherryPicks, g.SparsePaths})
	if g.ShallowSubmodules {
		h.Line("shallow submodules", true)
	}
	return h.Sum()
}

// tree is what the store remembers of a checkout.
type tree struct {
	Archive store.Digest // a tar, compressed by zstd, of files and .git
	Commit  string
	// Objects are what may bear a signature: the tag, if it is one of its own, and the
	// commit that was asked for.
	Objects []signature.Object
}

// FetchGit puts the tree into the store and gives the archive that it lies in, and the
// commit. One with an expected commit is fetched once; without, the repository
// is asked each time. What could not be had is an *Error.
func (f *Fetcher) FetchGit(ctx context.Context, g Git) (store.Digest, string, error) {
	t, err := f.tree(ctx, g)
	return t.Archive, t.Commit, err
}

// tree is FetchGit with what may be signed.
func (f *Fetcher) tree(ctx context.Context, g Git) (tree, error) {
	f.init()
	if g.Commit != "" {
		var known tree
		found, err := f.Store.Recall(g.action(), &known)
		if err != nil || found && f.Store.Has(known.Archive) && (g.Verify == nil || len(known.Objects) > 0) {
			return known, err
		}
	}
	result, err, _ := f.flight.Do("git "+string(g.action()), func() (any, error) { return f.clone(ctx, g) })
	if err != nil {
		return tree{}, err
	}
	t := result.(tree)
	if g.Commit != "" {
		if err := f.Store.Remember(g.action(), t); err != nil {
			return tree{}, err
		}
	}
	return t, nil
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

// gitBroke reports whether a transfer that had begun broke off.
func gitBroke(err error) bool {
	e, is := errors.AsType[*host.ExitError](err)
	return is && (strings.Contains(e.Stderr, "early EOF") || strings.Contains(e.Stderr, "unexpected disconnect"))
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
	c := &checkout{fetcher: f, ctx: ctx, g: g, dir: filepath.Join(dir, "tree")}
	if err := c.obtain(); err != nil {
		return tree{}, err
	}
	objects, err := c.signable()
	if err == nil {
		err = c.cherryPick()
	}
	if err == nil {
		err = c.work(0)
	}
	var commit string
	if err == nil {
		commit, err = c.revision("HEAD")
	}
	if err != nil {
		return tree{}, c.failed(Attempt{c.from, err})
	}
	d, err := f.packTree(ctx, c.dir)
	return tree{Archive: d, Commit: commit, Objects: objects}, err
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
	fetcher  *Fetcher
	ctx      context.Context
	g        Git
	dir      string
	options  host.GitOptions
	location string // where it is fetched from: the repository's address, or a mirror's
	client   *web.Client
	from     string // the same, for messages
}

func (c *checkout) git(args ...string) (string, error) {
	out, err := host.Git(c.ctx, c.options, args...)
	return strings.TrimSpace(string(out)), err
}

// transfer is git for what fetches. Only a mirror may be a folder of this machine: no
// repository that names another one is followed there.
func (c *checkout) transfer(args ...string) error {
	o := c.options
	if c.location != c.g.Repository && strings.HasPrefix(c.location, "file:") {
		o.Protocols = []string{"file"}
	}
	_, err := askGit(c.ctx, c.client, c.location, o, args...)
	return err
}

// askGit runs git with arguments that name a location, which it reaches over a bridge
// where that is one of http.
func askGit(ctx context.Context, client *web.Client, location string, o host.GitOptions, args ...string) ([]byte, error) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !slices.Contains(o.Protocols, u.Scheme) {
		return host.Git(ctx, o, args...)
	}
	b, err := openBridge(ctx, client, location)
	if err != nil {
		return nil, err
	}
	defer b.close()
	// Nobody but git asks the bridge, and git nobody but the bridge.
	o.Protocols = []string{"http"}
	o.Config = append(slices.Clip(o.Config), "http.proxy=", "http.followRedirects=false")
	args = slices.Clone(args)
	for i := range args {
		if args[i] == location {
			args[i] = b.address()
		}
	}
	out, err := host.Git(ctx, o, args...)
	return out, explainGit(err, b, location)
}

// explainGit says of an error of git's what it is about: the repository, and not the bridge.
func explainGit(err error, b *bridge, location string) error {
	e, is := errors.AsType[*host.ExitError](err)
	if !is {
		return err
	}
	told := *e
	told.Args = slices.Clone(e.Args)
	for i := range told.Args {
		told.Args[i] = strings.ReplaceAll(told.Args[i], b.address(), redact.Address(location))
	}
	told.Stderr = strings.ReplaceAll(e.Stderr, b.address(), redact.Address(location))
	switch gone, broke := b.failures(); {
	case gone != nil:
		// It was asked for often enough: this is no error of git's to try again.
		return fmt.Errorf("git fetch: %w", gone)
	case broke != nil:
		told.Stderr = "early EOF: " + broke.Error()
	}
	return &told
}

func (c *checkout) revision(name string) (string, error) {
	return c.git("rev-parse", "--verify", "--end-of-options", name+"^{commit}")
}

// failed is what could not be had, and where it was looked for.
func (c *checkout) failed(tried ...Attempt) error {
	for _, t := range tried {
		if _, full := errors.AsType[*store.SpaceError](t.Err); full {
			return t.Err
		}
		if e, is := errors.AsType[*Error](t.Err); is {
			return e // of a submodule
		}
	}
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	digest := "commit " + c.g.Commit
	if c.g.Commit == "" {
		digest = "no expected commit"
	}
	return &Error{Name: redact.Address(c.g.Repository), Digest: digest, Tried: tried}
}

// obtain fetches the history into a new repository at dir, and points HEAD to the commit:
// from the repository itself, else, by the commit, from mirrors. What could not be had is
// an *Error.
func (c *checkout) obtain() error {
	var tried []Attempt
	f := c.fetcher
	c.client = f.patient(c.g.Patience)
	others := len(c.g.Mirrors) > 0
	for _, m := range f.Mirrors {
		_, is := m.(GitMirror)
		others = others || is
	}
	patient := c.client
	if others && c.g.Commit != "" {
		// Whoever fails now is asked for longer once nobody else has it.
		c.client = patient.With(web.Retry{Insist: -1}, 0)
	}
	var flaky []string
	if !f.web.Offline {
		for _, address := range append([]string{c.g.Repository}, c.g.Mirrors...) {
			err := c.fetchFrom(address)
			if err == nil {
				return nil
			}
			if web.Flaky(err) || gitBroke(err) {
				flaky = append(flaky, address)
			}
			tried = append(tried, Attempt{c.from, err})
		}
	} else if c.g.Commit == "" {
		tried = append(tried, Attempt{"git", fmt.Errorf("%w, and without expected-commit the store cannot know it", web.ErrOffline)})
	} else {
		tried = append(tried, Attempt{"git", web.ErrOffline})
	}
	if c.g.Commit == "" || c.ctx.Err() != nil {
		return c.failed(tried...)
	}
	for _, m := range f.Mirrors {
		g, is := m.(GitMirror)
		if !is {
			continue
		}
		err := c.mirrored(g)
		if err == nil {
			return nil
		}
		f.Log.Debug("repository not there", "repository", redact.Address(c.g.Repository), "from", m.Name(), "why", err)
		tried = append(tried, Attempt{m.Name(), err})
	}
	if others {
		c.client = patient
		for _, address := range flaky {
			err := c.fetchFrom(address)
			if err == nil {
				return nil
			}
			tried = append(tried, Attempt{c.from, err})
		}
	}
	return c.failed(tried...)
}

// fetchFrom fetches from one address.
func (c *checkout) fetchFrom(address string) error {
	c.options = c.fetcher.gitOptions(Git{Repository: address})
	c.location, c.from = address, "git"
	if address != c.g.Repository {
		c.from = redact.Address(address)
	}
	return c.insist()
}

// mirrored fetches from what a mirror has of the repository.
func (c *checkout) mirrored(m GitMirror) error {
	copies, release, err := m.Repositories(c.ctx, c.g.Repository)
	if err != nil {
		return err
	}
	defer release()
	var errs []error
	for _, location := range copies {
		c.location, c.from = location, m.Name()
		c.options = c.fetcher.gitOptions(Git{Repository: location})
		err := c.insist()
		if err != nil {
			// The copy may lack the tag or the branch, or have it elsewhere by now.
			err = c.byCommit()
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// insist tries again what may pass.
func (c *checkout) insist() error {
	retry := c.client.Retry.WithDefaults()
	for n := 0; ; n++ {
		err := c.fetch()
		if err == nil || n+1 >= retry.Attempts+max(0, retry.Insist) || !gitPassing(err) || n+1 >= retry.Attempts && !gitBroke(err) {
			return err
		}
		c.fetcher.Log.Debug("git is tried again", "repository", redact.Address(c.location), "why", err)
		if err := retry.Sleep(c.ctx, n, nil); err != nil {
			return err
		}
	}
}

// begin makes the repository anew.
func (c *checkout) begin() error {
	c.options.Dir = ""
	if err := os.RemoveAll(filepath.Join(c.dir, ".git")); err != nil {
		return err
	}
	if _, err := c.git("init", "--quiet", "--", c.dir); err != nil {
		return err
	}
	c.options.Dir = c.dir
	// It is called after its upstream wherever it comes from.
	_, err := c.git("remote", "add", "--", "origin", c.g.Repository)
	return err
}

// fetchSpec fetches refs from where the checkout comes from.
func (c *checkout) fetchSpec(specs ...string) error {
	args := []string{"fetch", "--quiet", "--no-tags", "--force"}
	if c.g.Depth > 0 {
		args = append(args, "--depth="+strconv.Itoa(c.g.Depth))
	} else {
		// All of the history has its tags, too: git describe needs them.
		args[2] = "--tags"
	}
	return c.transfer(append(append(args, "--", c.location), specs...)...)
}

// refs are what is asked for: in words, as a ref here, and what is fetched into it.
func (g Git) refs() (ref, local, spec string) {
	switch {
	case g.Tag != "":
		local = "refs/tags/" + g.Tag
		return "tag " + g.Tag, local, "+" + local + ":" + local
	case g.Branch != "":
		local = "refs/remotes/origin/" + g.Branch
		return "branch " + g.Branch, local, "+refs/heads/" + g.Branch + ":" + local
	}
	return "HEAD", "refs/remotes/origin/HEAD", "+HEAD:refs/remotes/origin/HEAD"
}

// fetch gets the history that is asked for and points HEAD to the commit.
func (c *checkout) fetch() error {
	if err := c.begin(); err != nil {
		return err
	}
	if c.g.pinned {
		return c.pinned()
	}
	ref, local, spec := c.g.refs()
	if err := c.fetchSpec(spec); err != nil {
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
	if c.g.Commit != "" && c.g.Tag == "" {
		commit = c.g.Commit
	}
	return c.point(commit)
}

// byCommit fetches the expected commit, whatever refs lead to it.
func (c *checkout) byCommit() error {
	if err := c.begin(); err != nil {
		return err
	}
	_, local, _ := c.g.refs()
	if err := c.fetchSpec("+" + c.g.Commit + ":" + local); err != nil {
		return err
	}
	commit, err := c.revision(local)
	if err != nil {
		return err
	}
	if object, err := c.git("rev-parse", "--verify", "--end-of-options", local); err != nil || object != c.g.Commit {
		return errors.Join(err, &CommitError{Ref: local, Want: c.g.Commit, Got: object})
	}
	return c.point(commit)
}

// pinned fetches the commit of a submodule: by its name, and where the server gives only
// what refs name, with all branches.
func (c *checkout) pinned() error {
	_, local, _ := c.g.refs()
	err := c.fetchSpec("+" + c.g.Commit + ":" + local)
	if err != nil && !gitPassing(err) {
		if err = c.begin(); err == nil {
			c.g.Depth = -1
			err = c.fetchSpec("+refs/heads/*:refs/remotes/origin/*")
		}
	}
	if err != nil {
		return err
	}
	if _, err := c.revision(c.g.Commit); err != nil {
		return &CommitError{Ref: "submodule", Want: c.g.Commit, Got: "nothing of this name"}
	}
	return c.point(c.g.Commit)
}

// point makes HEAD the commit, on the branch if one was asked for.
func (c *checkout) point(commit string) error {
	if c.g.Branch != "" {
		if _, err := c.git("update-ref", "refs/heads/"+c.g.Branch, commit); err != nil {
			return err
		}
		_, err := c.git("symbolic-ref", "HEAD", "refs/heads/"+c.g.Branch)
		return err
	}
	_, err := c.git("update-ref", "--no-deref", "HEAD", commit)
	return err
}

// signable gives the tag, where it is an object of its own, and the commit. git has checked
// that they are what their names stand for.
func (c *checkout) signable() ([]signature.Object, error) {
	var all []signature.Object
	read := func(kind, name string) error {
		data, err := host.Git(c.ctx, c.options, "cat-file", kind, name)
		if err == nil {
			all = append(all, signature.Object{Kind: kind, Data: data})
		}
		return err
	}
	commit, err := c.revision("HEAD")
	if err != nil {
		return nil, err
	}
	if c.g.Tag != "" {
		_, local, _ := c.g.refs()
		if kind, err := c.git("cat-file", "-t", local); err == nil && kind == "tag" {
			if err := read("tag", local); err != nil {
				return nil, err
			}
			if object, kind, _, err := all[0].Target(); err == nil && kind == "commit" && object != commit {
				return nil, &CommitError{Ref: "tag " + c.g.Tag, Want: object, Got: commit}
			}
		}
	}
	return all, read("commit", commit)
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
			if c.fetcher != nil {
				c.fetcher.Log.Warn("expected-commit is the id of an annotated tag, and not of its commit", "repository", redact.Address(g.Repository), "tag", g.Tag, "commit", tip)
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
			if err := c.transfer("fetch", "--quiet", "--no-tags", "--", c.location, "+refs/heads/"+pick.Branch+":refs/remotes/origin/"+pick.Branch); err != nil {
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
func (c *checkout) work(level int) error {
	if err := c.checkoutFiles(); err != nil {
		return err
	}
	if err := c.tellPointers(); err != nil {
		return err
	}
	if c.g.Submodules {
		if err := c.submodules(level); err != nil {
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
