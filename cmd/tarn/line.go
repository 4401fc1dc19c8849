package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/build/graph"
	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/seed"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

// lineFlags are the flags of every verb that walks the line from recipe to package.
type lineFlags struct {
	arches         []string
	repositories   []string
	keyrings       []string
	packages       []string
	testPackages   []string // --test-package-append, of tarn test alone
	pipelineDirs   []string
	libc           string
	namespace      string
	gitCommit      string
	gitRepository  string
	buildDate      string
	varsFile       string
	buildOptions   []string
	sourceDir      string
	allowUntrusted bool
}

func (f *lineFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.arches, "arch", nil, "architectures to build for, e.g. x86_64 (default: this machine's)")
	flags.StringSliceVarP(&f.repositories, "repository-append", "r", nil, "a further repository for environments: a folder or an address")
	flags.StringSliceVarP(&f.keyrings, "keyring-append", "k", nil, "a further public key, or a folder of keys, to trust")
	flags.StringSliceVar(&f.packages, "package-append", nil, "a package that joins every environment")
	flags.StringSliceVar(&f.pipelineDirs, "pipeline-dir", nil, "a folder of pipelines, asked before the built-in ones")
	flags.StringVar(&f.libc, "libc", "", "what ${{host.triplet.gnu}} speaks of: musl or gnu (default: the workspace's)")
	flags.StringVar(&f.libc, "override-host-triplet-libc-substitution-flavor", "", "as --libc")
	_ = flags.MarkHidden("override-host-triplet-libc-substitution-flavor")
	flags.StringVar(&f.namespace, "namespace", "", "the distribution's name, in purls (default: the workspace's name)")
	flags.StringVar(&f.gitCommit, "git-commit", "", "the commit of the recipes' repository, noted in packages")
	flags.StringVar(&f.gitRepository, "git-repo-url", "", "the address of the recipes' repository, noted in packages")
	flags.StringVar(&f.buildDate, "build-date", "", "SOURCE_DATE_EPOCH, as RFC 3339 or Unix seconds (default: $SOURCE_DATE_EPOCH, else the workspace's)")
	flags.StringVar(&f.varsFile, "vars-file", "", "a YAML file of variables that override the recipes' vars")
	flags.StringSliceVar(&f.buildOptions, "build-option", nil, "a build option to turn on")
	flags.StringVar(&f.sourceDir, "source-dir", "", "the folder of local files (default: the recipe's name, beside it)")
	flags.BoolVar(&f.allowUntrusted, "ignore-signatures", false, "read repositories without asking for signatures")
}

// line is the line from recipe to package, wired for one architecture.
type line struct {
	*app
	ws       *workspace
	store    *store.Store
	fetcher  *source.Fetcher
	seeds    []repo.Source
	others   []repo.Source // further repositories, the preferred first
	graph    *graph.Graph
	built    *build.Built
	builder  *build.Builder
	arch     apk.Arch
	progress *progress
	// findingsLater leaves what packages do against the rules out of what a build tells
	// while it runs: it is the result that the verb prints.
	findingsLater bool
}

// openLine reads the recipes and opens what builds them. Nothing is fetched yet.
func (a *app) openLine(ctx context.Context, f *lineFlags, arch apk.Arch, names []string) (*line, []string, error) {
	ws, err := a.workspace()
	if err != nil {
		return nil, nil, err
	}
	st, err := a.store(ws)
	if err != nil {
		return nil, nil, err
	}
	l := &line{app: a, ws: ws, store: st, arch: arch, built: &build.Built{}}
	scripts, wanted, err := l.scripts(f, names)
	if err != nil {
		return nil, nil, err
	}
	if l.graph, err = graph.New(scripts); err != nil {
		return nil, nil, &codeError{exitFile, err}
	}
	if l.fetcher, err = a.fetcher(ws, st); err != nil {
		return nil, nil, err
	}
	if err := l.openSources(f); err != nil {
		return nil, nil, err
	}
	return l, wanted, nil
}

// openSources opens the further repositories and the seeds.
func (l *line) openSources(f *lineFlags) error {
	keys, err := keyring(l.ws, f.keyrings)
	if err != nil {
		return err
	}
	for _, location := range slices.Concat(f.repositories, l.ws.Repositories) {
		if !strings.Contains(location, "://") {
			location = l.ws.path(location)
		}
		r, err := repo.Open(location, repo.Options{Keys: keys, AllowUntrusted: f.allowUntrusted, Offline: l.offline})
		if err != nil {
			return err
		}
		l.others = append(l.others, r)
	}
	s, err := l.openSeed(l.ws, l.store, l.fetcher)
	if err != nil {
		return err
	}
	l.seeds = append(l.seeds, s)
	return nil
}

// openSeed reads the seed's lock. Nothing is fetched.
func (a *app) openSeed(ws *workspace, st *store.Store, f *source.Fetcher) (*seed.Seed, error) {
	o := seed.Options{Store: st, Fetcher: f, Suite: ws.Seed.Suite, Keyring: ws.Seed.Keyring}
	if ws.Seed.Lock != "" {
		o.Lock = relative(ws.path(ws.Seed.Lock))
	}
	return seed.Open(o)
}

// fetcher is the door for bytes from outside.
func (a *app) fetcher(ws *workspace, st *store.Store) (*source.Fetcher, error) {
	log, err := a.logger()
	if err != nil {
		return nil, err
	}
	f := &source.Fetcher{Store: st, Offline: a.offline, Log: log}
	for _, m := range ws.Mirrors {
		switch {
		case m.Folder != "":
			f.Mirrors = append(f.Mirrors, source.FolderMirror(ws.path(m.Folder)))
		case m.URL != "":
			f.Mirrors = append(f.Mirrors, source.HTTPMirror(f, m.URL))
		default:
			f.Mirrors = append(f.Mirrors, source.DebianMirror(f, m.Debian))
		}
	}
	return f, nil
}

// keyring is the public keys of the workspace and of the flags.
func keyring(ws *workspace, more []string) (*sign.Keyring, error) {
	keys := &sign.Keyring{}
	for _, dir := range ws.Keys {
		if err := keys.Load(ws.path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := keys.Load(ws.signingKey() + ".pub"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, path := range more {
		if err := keys.Load(path); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// target is what recipes are expanded for.
func (f *lineFlags) target(ws *workspace, arch apk.Arch) (recipes.Target, error) {
	t := recipes.Target{Arch: arch, Libc: ws.Libc, Time: ws.Time, Options: f.buildOptions, Namespace: ws.Name, Commit: f.gitCommit, RepositoryURL: f.gitRepository,
		AppendPackages: ws.Environment.Append, AppendTestPackages: ws.Test.Append}
	if f.libc != "" {
		t.Libc = f.libc
	}
	if f.namespace != "" {
		t.Namespace = f.namespace
	}
	for _, text := range f.packages {
		d, err := apk.ParseDependency(text)
		if err != nil {
			return t, usagef("--package-append: %v", err)
		}
		t.AppendPackages = append(t.AppendPackages, d)
	}
	for _, text := range f.testPackages {
		d, err := apk.ParseDependency(text)
		if err != nil {
			return t, usagef("--test-package-append: %v", err)
		}
		t.AppendTestPackages = append(t.AppendTestPackages, d)
	}
	date := f.buildDate
	if date == "" {
		date = os.Getenv("SOURCE_DATE_EPOCH")
	}
	if date != "" {
		var err error
		if t.Time, err = parseDate(date); err != nil {
			return t, err
		}
	}
	if f.varsFile != "" {
		var err error
		if t.Vars, err = recipes.LoadVars(f.varsFile); err != nil {
			return t, err
		}
	}
	return t, nil
}

// parseDate reads RFC 3339 or Unix seconds.
func parseDate(text string) (time.Time, error) {
	var seconds int64
	if _, err := fmt.Sscanf(text, "%d", &seconds); err == nil && fmt.Sprint(seconds) == text {
		return time.Unix(seconds, 0).UTC(), nil
	}
	date, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("build date %q is neither RFC 3339 nor Unix seconds", text)
	}
	return date.UTC(), nil
}

// scripts expands all recipes of the workspace and those named by file, and gives
// the names of the recipes that are wanted: all that were named, else all there are.
// The mistakes of all recipes come in one error.
func (l *line) scripts(f *lineFlags, names []string) (scripts []*recipes.Script, wanted []string, err error) {
	target, err := f.target(l.ws, l.arch)
	if err != nil {
		return nil, nil, err
	}
	var dirs []recipes.Dir
	for _, path := range f.pipelineDirs {
		dir, err := recipes.OpenDir(path)
		if err != nil {
			return nil, nil, usagef("--pipeline-dir: %v", err)
		}
		dirs = append(dirs, dir)
	}
	for _, path := range l.ws.Pipelines {
		dir, err := recipes.OpenDir(l.ws.path(path))
		if err != nil {
			return nil, nil, err
		}
		dirs = append(dirs, dir)
	}
	pipelines := recipes.NewPipelines(dirs...)
	for _, name := range names {
		if _, err := os.Stat(name); isFile(name) && errors.Is(err, fs.ErrNotExist) {
			return nil, nil, usagef("there is no recipe %q", name)
		}
	}
	loaded, problems := l.loadRecipes(names)
	byName := map[string]*recipes.Script{}
	var otherArch []string
	for _, r := range loaded {
		if f.sourceDir != "" {
			r.Files = os.DirFS(f.sourceDir)
		}
		s, err := recipes.Expand(r, target, pipelines)
		if errors.Is(err, recipes.ErrOtherArch) {
			otherArch = append(otherArch, r.Package.Name)
			continue
		}
		if some, listed := diag.Of(err); listed {
			problems = addNew(problems, some)
			continue
		} else if err != nil {
			return nil, nil, err
		}
		scripts = append(scripts, s)
		byName[s.Name] = s
	}
	if err := problems.Err(); err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if isFile(name) {
			name = strings.TrimSuffix(filepath.Base(name), ".yaml")
		}
		switch s := findRecipe(byName, name); {
		case s != nil:
			wanted = append(wanted, s.Name)
		case slices.Contains(otherArch, name):
			return nil, nil, usagef("recipe %q is not for %s", name, l.arch)
		default:
			return nil, nil, usagef("unknown recipe %q%s", name, hintNear(name, byName))
		}
	}
	if len(names) == 0 {
		for _, s := range scripts {
			wanted = append(wanted, s.Name)
		}
		if len(loaded) == 0 {
			fmt.Fprintf(l.err, "there are no recipes in %s\n", strings.Join(l.ws.Recipes, ", "))
		}
	}
	return scripts, wanted, nil
}

// isFile tells whether an argument names a recipe by its file.
func isFile(name string) bool { return strings.HasSuffix(name, ".yaml") }

// loadRecipes loads the workspace's recipes and those named by file.
func (l *line) loadRecipes(names []string) ([]*recipes.Recipe, diag.Problems) {
	var all []*recipes.Recipe
	var problems diag.Problems
	take := func(some []*recipes.Recipe, err error) {
		all = append(all, some...)
		if found, listed := diag.Of(err); listed {
			problems = append(problems, found...)
		} else if err != nil {
			problems = append(problems, diag.Problem{Text: err.Error()})
		}
	}
	seen := map[string]bool{}
	for i, dir := range l.ws.Recipes {
		full := l.ws.path(dir)
		if _, err := os.Stat(full); errors.Is(err, fs.ErrNotExist) {
			// The default folder may be missing.
			if l.ws.place.Has("recipes") {
				problems = append(problems, l.ws.place.Value("recipes").Item(i).Problem("", "there is no folder %q", dir))
			}
			continue
		}
		seen[full] = true
		take(recipes.LoadFolder(full, relative(full)))
	}
	for _, name := range names {
		if !isFile(name) {
			continue
		}
		full, err := filepath.Abs(name)
		if err == nil && seen[filepath.Dir(full)] {
			continue
		}
		r, err := recipes.LoadFile(name)
		if r == nil {
			take(nil, err)
			continue
		}
		take([]*recipes.Recipe{r}, err)
	}
	return all, problems
}

// addNew adds mistakes that expanding found, but for those on lines that reading
// found wrong already: they follow from what was not read.
func addNew(problems, found diag.Problems) diag.Problems {
	type line struct {
		file string
		line int
	}
	seen := map[line]bool{}
	for _, p := range problems {
		seen[line{p.File, p.Line}] = true
	}
	for _, p := range found {
		if !seen[line{p.File, p.Line}] {
			problems = append(problems, p)
		}
	}
	return problems
}

// findRecipe finds a recipe by its own name or by that of one of its packages.
func findRecipe(byName map[string]*recipes.Script, name string) *recipes.Script {
	if s := byName[name]; s != nil {
		return s
	}
	for _, s := range byName {
		for _, p := range s.Packages {
			if p.Name == name {
				return s
			}
		}
	}
	return nil
}

func hintNear(name string, byName map[string]*recipes.Script) string {
	var names []string
	for n := range byName {
		names = append(names, n)
	}
	if hint := diag.DidYouMean(name, names); hint != "" {
		return "\n  hint: " + hint
	}
	return ""
}

// openBuilder opens the sandbox; a machine that has none says what it lacks.
func (l *line) openBuilder(p *progress, cpus int) error {
	backend := namespace.Backend{}
	if err := backend.Available(); err != nil {
		return fmt.Errorf("%w\n  hint: tarn doctor tells more", err)
	}
	l.builder = &build.Builder{Store: l.store, Sources: l.fetcher, Sandbox: sandbox.Backend(backend), Logs: filepath.Join(l.ws.path(l.ws.Output), "logs"), CPUs: cpus}
	l.progress = p
	if p != nil {
		l.builder.Report = p.report
	}
	return nil
}

// environmentSources are where the environment of a recipe may come from, in the
// declared order: the workspace's recipes that it needs, repositories, seeds.
func (l *line) environmentSources(recipe string) repo.Set {
	set := repo.Set{l.built.Of(l.graph.Closure(recipe)...)}
	return append(append(set, l.others...), l.seeds...)
}

// plan resolves the environment of a recipe whose needs are built.
func (l *line) plan(ctx context.Context, s *recipes.Script) (*plan.Plan, error) {
	lock, err := l.environmentSources(s.Name).Resolve(ctx, l.arch, plan.World(s), solve.Options{AnyRevision: true})
	if err != nil {
		return nil, fmt.Errorf("%s: environment: %w", s.Recipe, err)
	}
	if len(lock) == 0 {
		return nil, diag.Problem{File: s.Recipe, Text: "the environment is empty: nothing could run in it", Hint: "name packages to build with in environment: contents: packages, such as build-base"}
	}
	return &plan.Plan{Script: s, Environment: lock}, nil
}
