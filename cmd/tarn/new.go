package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/scaffold"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
)

type newOptions struct {
	name, version string
	tag           string
	sha256        string
	output        string
	print         bool
}

func (a *app) newCommand() *cobra.Command {
	var o newOptions
	cmd := &cobra.Command{
		Use:   "new ADDRESS",
		Short: "write a recipe for a source, by looking into it",
		Long: `new fetches a source, looks into it, and writes a recipe for it: the build system and
its steps, name and version, licence, what it is, subpackages, a first test, and where
new versions come from. Look at what it wrote; then build it.

ADDRESS is that of a release's archive (http or https), debian:SOURCE/FILE for a file of
Debian's source archive, a file of this machine, or a git repository with --tag:

  tarn new https://example.org/hello-2.12.tar.gz
  tarn new https://github.com/OWNER/NAME --tag v1.2.3
  tarn new debian:lz4/lz4_1.10.0.orig.tar.gz

The digest that the recipe names is that of what the address gave. It is held against a
file of checksums beside the source (.sha256, .sha512, SHA256SUMS), Debian's signed index,
or --expected-sha256; where there is none of these nothing vouches for it, and new says
so. Nothing of the source is run.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runNew(cmd.Context(), o, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "the package's name (default: as the source says)")
	f.StringVar(&o.version, "version", "", "upstream's version (default: as the source says)")
	f.StringVar(&o.tag, "tag", "", "the tag of a git repository")
	f.StringVar(&o.sha256, "expected-sha256", "", "the SHA-256 of the file, known from elsewhere: what is fetched, from a mirror too, has to have it")
	f.StringVarP(&o.output, "output", "o", "", "the file to write (default: NAME.yaml in the workspace's first folder of recipes)")
	f.BoolVar(&o.print, "print", false, "print the recipe, and write nothing")
	return cmd
}

// scaffolded is what new prints as JSON.
type scaffolded struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	System   string   `json:"system"`
	Licenses []string `json:"licenses"`
	File     string   `json:"file,omitempty"`
	SHA256   string   `json:"sha256,omitempty"`
	Commit   string   `json:"commit,omitempty"`
	Vouched  string   `json:"vouched,omitempty"`
	Notes    []string `json:"notes,omitempty"`
	Recipe   string   `json:"recipe"`
}

func (a *app) runNew(ctx context.Context, o newOptions, address string) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	if o.sha256 != "" && !isDigest(o.sha256) {
		return usagef("--expected-sha256 %q is no SHA-256\n  hint: give all 64 digits", o.sha256)
	}
	if o.output != "" && o.print {
		return usagef("--output and --print exclude each other")
	}
	st, err := a.store(ws)
	if err != nil {
		return err
	}
	f, err := a.fetcher(ws, st)
	if err != nil {
		return err
	}
	n := &newSource{app: a, fetcher: f, store: st, options: o}
	if _, err := recipeFile(ws, "man-db"); err != nil && len(ws.Repositories) == 0 {
		n.noReaders = true
	}
	digest, origin, err := n.fetch(ctx, address)
	if err != nil {
		return err
	}
	project, err := n.look(ctx, digest, origin)
	if err != nil {
		return err
	}
	text := project.Recipe()
	file := o.output
	if file == "" {
		file = relative(filepath.Join(ws.path(slices.Concat(ws.Recipes, []string{"."})[0]), project.Name+".yaml"))
	}
	if err := checkScaffold(file, text); err != nil {
		return err
	}
	if !o.print {
		if err := writeRecipe(file, text); err != nil {
			return err
		}
	}
	a.tellNew(project)
	switch {
	case a.json:
		return a.printJSON(scaffoldedOf(project, text, file, o.print))
	case o.print:
		_, err := a.out.Write(text)
		return err
	}
	name := project.Name
	if o.output != "" {
		name = file
	}
	fmt.Fprintf(a.out, "wrote %s: %s %s, built with %s\n", file, project.Name, project.Version, or(project.System, "nothing that is known"))
	fmt.Fprintf(a.out, "next:\n  tarn lint %s\n  tarn build %s\n  tarn test %s\n", name, name, name)
	return nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// newSource gets a source and looks into it.
type newSource struct {
	*app
	fetcher *source.Fetcher
	store   *store.Store
	options newOptions
	// noReaders says that no recipe and no repository of the workspace has man-db.
	noReaders bool
}

// fetch puts the source into the store.
func (n *newSource) fetch(ctx context.Context, address string) (store.Digest, scaffold.Origin, error) {
	o := n.options
	isAddress := strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://") || strings.HasPrefix(address, "git://")
	if u, err := url.Parse(address); isAddress && err == nil && u.User != nil {
		return "", scaffold.Origin{}, usagef("the address names a user: recipes are read by others, and hold no passwords\n  hint: write %s", withoutUser(u))
	}
	switch {
	case o.tag != "":
		if !isAddress {
			return "", scaffold.Origin{}, usagef("--tag is for a git repository, and %q is no address of one", address)
		}
		return n.fetchGit(ctx, address)
	case isRepository(address):
		return "", scaffold.Origin{}, usagef("%s is a git repository: say which tag\n  hint: tarn new %s --tag TAG", address, address)
	case isAddress || strings.HasPrefix(address, "debian:"):
		s, err := n.fetcher.See(ctx, []string{address}, o.sha256)
		if is[*source.Error](err) && isAddress && o.sha256 == "" && !n.offline {
			return "", scaffold.Origin{}, fmt.Errorf("%w\n  hint: with --expected-sha256 the workspace's mirrors are asked for it too", err)
		}
		if err != nil {
			return "", scaffold.Origin{}, err
		}
		return s.Digest, scaffold.Origin{URI: address, SHA256: s.Digest.Hex(), Vouched: s.Vouched, Signature: s.Signature}, nil
	case strings.Contains(address, "://"):
		return "", scaffold.Origin{}, usagef("%q is none of http, https, git and debian", address)
	}
	file, err := os.Open(address)
	if err != nil {
		return "", scaffold.Origin{}, usagef("%v\n  hint: ADDRESS is a file, https://..., debian:SOURCE/FILE, or a git repository with --tag", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", scaffold.Origin{}, usagef("%s is no file", address)
	}
	s, err := n.fetcher.SeeFile(file, address)
	if err != nil {
		return "", scaffold.Origin{}, err
	}
	if o.sha256 != "" && o.sha256 != s.Digest.Hex() {
		return "", scaffold.Origin{}, &codeError{exitSource, fmt.Errorf("%s: %w", address, &source.MismatchError{Algorithm: "sha256", Want: o.sha256, Got: s.Digest.Hex()})}
	}
	fmt.Fprintf(n.err, "note: %s is a file of this machine: write upstream's address into the recipe\n", address)
	return s.Digest, scaffold.Origin{URI: "https://example.org/" + filepath.Base(address), SHA256: s.Digest.Hex(), Local: true}, nil
}

// withoutUser is an address without the user and password that it names.
func withoutUser(u *url.URL) string {
	plain := *u
	plain.User = nil
	return plain.String()
}

// isRepository tells whether an address is one of a git repository, by its looks.
func isRepository(address string) bool {
	if strings.HasSuffix(address, ".git") || strings.HasPrefix(address, "git://") {
		return true
	}
	u, err := url.Parse(address)
	if err != nil || !slices.Contains([]string{"github.com", "gitlab.com", "codeberg.org", "git.sr.ht"}, u.Hostname()) {
		return false
	}
	return strings.Count(strings.Trim(u.Path, "/"), "/") == 1
}

func (n *newSource) fetchGit(ctx context.Context, repository string) (store.Digest, scaffold.Origin, error) {
	o := scaffold.Origin{Repository: repository, Tag: n.options.tag}
	var err error
	if o.Commit, err = n.fetcher.ResolveRef(ctx, repository, "refs/tags/"+o.Tag); err != nil {
		return "", o, err
	}
	d, _, err := n.fetcher.FetchGit(ctx, source.Git{Repository: repository, Tag: o.Tag, Commit: o.Commit, Depth: 1})
	return d, o, err
}

// look unpacks the source into a folder that is gone afterwards, and looks into it.
func (n *newSource) look(ctx context.Context, digest store.Digest, origin scaffold.Origin) (*scaffold.Project, error) {
	dir, release, err := n.store.TempDir("new")
	if err != nil {
		return nil, err
	}
	defer release()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := n.fetcher.Unpack(ctx, digest, root, ".", 0, time.Time{}); err != nil {
		hint := ""
		if origin.Repository == "" {
			hint = "\n  hint: new looks into archives (tar, zip), and into git repositories with --tag"
		}
		return nil, &codeError{exitSource, fmt.Errorf("%w%s", err, hint)}
	}
	tree := root.FS()
	// Archives have one folder at their top, which fetch leaves out; those that have not say so.
	if entries, err := fs.ReadDir(tree, "."); err == nil && origin.Repository == "" && len(entries) == 1 && entries[0].IsDir() {
		origin.Strip = 1
		if tree, err = fs.Sub(tree, entries[0].Name()); err != nil {
			return nil, err
		}
	}
	p, err := scaffold.Look(tree, origin, scaffold.Hints{Name: n.options.name, Version: n.options.version, NoReaders: n.noReaders})
	if errors.Is(err, scaffold.ErrNoVersion) {
		return nil, usagef("%v\n  hint: say it: --version VERSION", err)
	}
	if err != nil {
		return nil, usagef("%v\n  hint: say it: --name NAME --version VERSION", err)
	}
	return p, nil
}

// checkScaffold holds what was written against the language: a recipe with mistakes is a
// mistake of tarn's.
func checkScaffold(file string, text []byte) error {
	r, err := recipes.Read(file, text)
	if err == nil {
		_, err = recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil)
	}
	if problems, is := diag.Of(err); is {
		return fmt.Errorf("internal error: what was written is no recipe: %s\n%s", problems, text)
	}
	return err
}

// writeRecipe writes a file that must not be there.
func writeRecipe(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return usagef("there is a recipe %s already\n  hint: tarn new --print prints it, --output writes another file", file)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// tellNew says what a person should look at.
func (a *app) tellNew(p *scaffold.Project) {
	switch o := p.Origin; {
	case o.Repository != "":
		fmt.Fprintf(a.err, "commit %s is what the tag %s is at now\n", o.Commit, o.Tag)
	case o.Vouched != "":
		fmt.Fprintf(a.err, "sha256 %s, as %s says\n", o.SHA256, o.Vouched)
	default:
		fmt.Fprintf(a.err, "sha256 %s is of what was read now: nothing else vouches for it\n", o.SHA256)
	}
	if p.Origin.Signature != "" {
		fmt.Fprintf(a.err, "a signature lies at %s: it was not checked\n", p.Origin.Signature)
	}
	for _, note := range p.Notes() {
		fmt.Fprintf(a.err, "note: %s\n", plain(note))
	}
}

func scaffoldedOf(p *scaffold.Project, text []byte, file string, printed bool) scaffolded {
	s := scaffolded{Name: p.Name, Version: p.Version, System: p.System, Licenses: []string{}, File: file, SHA256: p.Origin.SHA256, Commit: p.Origin.Commit,
		Vouched: p.Origin.Vouched, Notes: p.Notes(), Recipe: string(text)}
	for _, l := range p.Licenses {
		s.Licenses = append(s.Licenses, l.Expression)
	}
	if printed {
		s.File = ""
	}
	return s
}
