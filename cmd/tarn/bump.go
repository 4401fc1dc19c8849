package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/recipes/edit"
)

type bumpOptions struct {
	epoch    uint64
	hasEpoch bool
	commit   string
	sha256   string
	dryRun   bool
	varsFile string
}

func (a *app) bumpCommand() *cobra.Command {
	var o bumpOptions
	cmd := &cobra.Command{
		Use:   "bump RECIPE [VERSION]",
		Short: "set a recipe's version, and the digests and commits of its new sources",
		Long: `bump sets the version of a recipe, and its epoch to 0. Sources whose address changes
with the version are fetched, and their new digests written; a tag's commit is asked of
its repository. Sources whose address stays keep what they have. Nothing else of the
file changes: comments, quotes and layout stay as they are. When anything goes wrong
the file stays as it was.

Without VERSION, or with the one that the recipe has, the epoch becomes one more, and
nothing is fetched.

What a new digest is held against: a file of checksums beside the source (.sha256,
.sha512, SHA256SUMS), or Debian's signed index, where there is one. Else the digest says
what the address gave now, and bump says so: look at it, or have a signature checked. Where
the recipe names one (verify), it has to hold for the new source, or bump changes nothing.`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeRecipes(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.hasEpoch = cmd.Flags().Changed("epoch")
			return a.runBump(cmd.Context(), o, args[0], strings.Join(args[1:], ""))
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.epoch, "epoch", 0, "the epoch (default: 0 for a new version, else one more)")
	f.StringVar(&o.commit, "expected-commit", "", "the commit of the new version, instead of asking the repository for its tag's")
	f.StringVar(&o.sha256, "expected-sha256", "", "the SHA-256 of the new source, known from elsewhere: what is fetched, from a mirror too, has to have it")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "print the difference, and change nothing")
	f.StringVar(&o.varsFile, "vars-file", "", "a YAML file of variables that override the recipe's vars")
	return cmd
}

// bumped is what bump prints as JSON.
type bumped struct {
	Recipe  string         `json:"recipe"`
	File    string         `json:"file"`
	From    string         `json:"from"`
	To      string         `json:"to"`
	Changes []bumpedChange `json:"changes"`
	Notes   []diag.Problem `json:"notes,omitempty"`
	Written bool           `json:"written"`
	Diff    string         `json:"diff,omitempty"`
}

type bumpedChange struct {
	Line    int    `json:"line"`
	What    string `json:"what"`
	Old     string `json:"old"`
	New     string `json:"new"`
	Source  string `json:"source,omitempty"`
	Vouched string `json:"vouched,omitempty"`
}

func (a *app) runBump(ctx context.Context, o bumpOptions, name, version string) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	file, err := recipeFile(ws, name)
	if err != nil {
		return err
	}
	if o.commit != "" && !isCommit(o.commit) {
		return usagef("--expected-commit %q is no commit\n  hint: give all 40 digits", o.commit)
	}
	if o.sha256 != "" && !isDigest(o.sha256) {
		return usagef("--expected-sha256 %q is no SHA-256\n  hint: give all 64 digits", o.sha256)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	options := edit.Options{Version: version, Commit: o.commit, Target: recipes.Target{Libc: ws.Libc}}
	if o.hasEpoch {
		options.Epoch = &o.epoch
	}
	if o.varsFile != "" {
		if options.Target.Vars, err = recipes.LoadVars(o.varsFile); err != nil {
			return err
		}
	}
	asker, err := a.asker(ws, o.sha256)
	if err != nil {
		return err
	}
	b, err := edit.Bump(ctx, file, text, options, asker)
	if is[*edit.VersionError](err) {
		return usagef("%v", err)
	}
	if is[*source.Error](err) {
		return fmt.Errorf("%w\n  hint: %s is as it was", err, file)
	}
	if err != nil {
		return err
	}
	if err := a.verifyBumped(ctx, asker.fetcher, file, b, options.Target); err != nil {
		return fmt.Errorf("%w\n  hint: %s is as it was", err, file)
	}
	changed := string(diff.Diff(file, text, file, b.Text))
	if !o.dryRun && string(text) != string(b.Text) {
		// A recipe may be a link to one of another folder: it stays a link.
		written, err := filepath.EvalSymlinks(file)
		if err != nil {
			return err
		}
		if err := renameio.WriteFile(written, b.Text, 0o644, renameio.WithExistingPermissions()); err != nil {
			return err
		}
	}
	a.tellBumped(file, b, o.dryRun)
	switch {
	case a.json:
		return a.printJSON(bumpedOf(file, b, changed, o.dryRun))
	case o.dryRun:
		_, err := fmt.Fprint(a.out, changed)
		return err
	case b.From == b.To && len(b.Changes) == 0:
		fmt.Fprintf(a.out, "%s: %s, as it was\n", b.Name, b.To)
	default:
		fmt.Fprintf(a.out, "%s: %s -> %s\n", b.Name, b.From, b.To)
	}
	return nil
}

// verifyBumped holds the new sources against the signatures that the recipe names.
func (a *app) verifyBumped(ctx context.Context, f *source.Fetcher, file string, b *edit.Bumped, target recipes.Target) error {
	if !strings.Contains(string(b.Text), "verify:") || len(b.Changes) == 0 || b.From.Base() == b.To.Base() {
		return nil
	}
	old, err := recipes.LoadFile(file)
	if err != nil {
		return err
	}
	r, err := recipes.Read(file, b.Text)
	if err != nil {
		return err
	}
	r.Files = old.Files
	if target.Arch, err = apk.ParseArch(runtime.GOARCH); err != nil {
		return err
	}
	s, err := recipes.Expand(r, target, recipes.NewPipelines())
	if errors.Is(err, recipes.ErrOtherArch) {
		return nil
	}
	if err != nil {
		return err
	}
	signed, err := source.FetchSigned(ctx, f, s)
	if err != nil {
		return err
	}
	for i := range b.Changes {
		c := &b.Changes[i]
		for _, one := range signed {
			if c.Vouched == "" && (c.New == one.SHA256 || c.New == one.SHA512 || strings.HasPrefix(c.What, "verify-")) {
				c.Vouched = "the signature of " + one.Signer
			}
		}
	}
	return nil
}

// tellBumped says what a person should look at.
func (a *app) tellBumped(file string, b *edit.Bumped, dryRun bool) {
	for _, c := range b.Changes {
		if c.Source == "" || c.What == "expected-commit" {
			continue
		}
		if c.Vouched != "" {
			fmt.Fprintf(a.err, "%s:%d: %s of %s, as %s says\n", file, c.Line, c.What, c.Source, c.Vouched)
		} else {
			fmt.Fprintf(a.err, "%s:%d: %s is of what %s gave now: nothing else vouches for it\n", file, c.Line, c.What, c.Source)
		}
	}
	for _, note := range b.Notes {
		fmt.Fprintln(a.err, plain(note.Error()))
	}
	if dryRun && len(b.Changes) > 0 && a.json {
		fmt.Fprintln(a.err, "dry run: nothing was written")
	}
}

func bumpedOf(file string, b *edit.Bumped, changed string, dryRun bool) bumped {
	result := bumped{Recipe: b.Name, File: file, From: string(b.From), To: string(b.To), Changes: []bumpedChange{}, Notes: b.Notes, Written: !dryRun, Diff: changed}
	for _, c := range b.Changes {
		result.Changes = append(result.Changes, bumpedChange(c))
	}
	return result
}

// isDigest tells whether a text is a SHA-256.
func isDigest(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}

// isCommit tells whether a text is the whole name of a commit.
func isCommit(text string) bool {
	return (len(text) == 40 || len(text) == 64) && strings.Trim(text, "0123456789abcdef") == ""
}

// recipeFile is the file of a recipe that is named by its file, or by its name in one of
// the workspace's folders.
func recipeFile(ws *workspace, name string) (string, error) {
	if isFile(name) {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return "", usagef("there is no recipe %q", name)
		}
		return name, nil
	}
	var known []string
	for _, dir := range ws.Recipes {
		entries, err := os.ReadDir(ws.path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, entry := range entries {
			if !recipes.IsRecipe(entry.Name()) {
				continue
			}
			if entry.Name() == name+".yaml" {
				return relative(filepath.Join(ws.path(dir), entry.Name())), nil
			}
			known = append(known, strings.TrimSuffix(entry.Name(), ".yaml"))
		}
	}
	return "", usagef("unknown recipe %q%s", name, hintOf(diag.DidYouMean(name, known)))
}

// asker asks upstream through the fetcher, the one door for bytes from outside.
type asker struct {
	*app
	fetcher *source.Fetcher
	sha256  string // what files have to have, where it is known; else empty
}

func (a *app) asker(ws *workspace, sha256 string) (*asker, error) {
	st, err := a.store(ws)
	if err != nil {
		return nil, err
	}
	f, err := a.fetcher(ws, st)
	return &asker{a, f, sha256}, err
}

// File fetches a file for the first time.
func (a *asker) File(ctx context.Context, uris []string) (edit.File, error) {
	s, err := a.fetcher.See(ctx, uris, a.sha256)
	if err != nil {
		return edit.File{}, err
	}
	if s.Signature != "" {
		fmt.Fprintf(a.err, "a signature lies at %s: it was not checked\n", s.Signature)
	}
	return edit.File{SHA256: s.Digest.Hex(), SHA512: s.SHA512, From: s.From, Vouched: s.Vouched}, nil
}

// Beside fetches a signature or a list of checksums: nothing lies beside these.
func (a *asker) Beside(ctx context.Context, uris []string) (edit.File, error) {
	s, err := a.fetcher.See(ctx, uris, "")
	return edit.File{SHA256: s.Digest.Hex(), SHA512: s.SHA512, From: s.From, Vouched: s.Vouched}, err
}

// Commit asks a repository for the commit of a ref.
func (a *asker) Commit(ctx context.Context, repository, ref string) (string, error) {
	return a.fetcher.ResolveRef(ctx, repository, ref)
}
