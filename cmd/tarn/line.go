package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/build/graph"
	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/source/prefetch"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

// lineFlags are the flags of every verb that walks the line from recipe to package.
type lineFlags struct {
	trustFlags
	arches        []string
	repositories  []string
	packages      []string
	testPackages  []string // --test-package-append, of tarn test and tarn plan
	pipelineDirs  []string
	libc          string
	namespace     string
	gitCommit     string
	gitRepository string
	buildDate     string
	varsFile      string
	envFiles      []string
	buildOptions  []string
	sourceDir     string
	license       string

	// Of what runs in sandboxes alone; see addLimits.
	runner                      string
	timeout                     time.Duration
	cpu, cpuModel, memory, disk string
}

func (f *lineFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.arches, "arch", nil, "architectures to build for, e.g. x86_64 (default: this machine's)")
	flags.StringSliceVarP(&f.repositories, "repository-append", "r", nil, "a further repository for environments: a folder or an address")
	f.trustFlags.add(flags)
	flags.StringSliceVar(&f.packages, "package-append", nil, "a package that joins every environment")
	flags.StringSliceVar(&f.pipelineDirs, "pipeline-dir", nil, "a folder of pipelines, asked before the built-in ones")
	flags.StringVar(&f.libc, "libc", "", "what ${{host.triplet.gnu}} speaks of: musl or gnu (default: the workspace's)")
	flags.StringVar(&f.namespace, "namespace", "", "the distribution's name, in purls (default: the workspace's name)")
	flags.StringVar(&f.gitCommit, "git-commit", "", "the commit of the recipes' repository, noted in packages")
	flags.StringVar(&f.gitRepository, "git-repo-url", "", "the address of the recipes' repository, noted in packages")
	flags.StringVar(&f.buildDate, "build-date", "", "SOURCE_DATE_EPOCH, as RFC 3339 or Unix seconds (default: $SOURCE_DATE_EPOCH, else the workspace's)")
	flags.StringVar(&f.varsFile, "vars-file", "", "a YAML file of variables that override the recipes' vars")
	flags.StringArrayVar(&f.envFiles, "env-file", nil, "a .env file of variables below the recipes' own; an earlier one counts before a later one")
	flags.StringSliceVar(&f.buildOptions, "build-option", nil, "a build option to turn on")
	flags.StringVar(&f.sourceDir, "source-dir", "", "the folder of the named recipes' local files (default: the recipe's name, beside it)")
	flags.StringVar(&f.license, "license", "", "the licence of the recipes themselves, noted in SBOMs")
	f.addUntrusted(flags, "ignore-signatures")
	flags.SetNormalizeFunc(melangeNames)
}

// melangeNames takes what melange calls some flags for ours.
func melangeNames(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "pipeline-dirs":
		name = "pipeline-dir"
	case "override-host-triplet-libc-substitution-flavor":
		name = "libc"
	}
	return pflag.NormalizedName(name)
}

// addLimits adds what bounds a sandbox. A flag counts before what a recipe says.
func (f *lineFlags) addLimits(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.runner, "runner", "", "what makes sandboxes: namespace (the kernel alone), or a container runtime: oci, crun, runc, runsc, kata-runtime (default: namespace)")
	flags.DurationVar(&f.timeout, "timeout", 0, "how long each build or test may take (default: the recipe's timeout)")
	flags.StringVar(&f.cpu, "cpu", "", "how many processors a sandbox sees, e.g. 2 (default: the recipe's resources, else all)")
	flags.StringVar(&f.cpuModel, "cpumodel", "", "the kind of processor that a machine should have; a sandbox has this machine's, and that is said")
	flags.StringVar(&f.memory, "memory", "", "the memory of a sandbox, e.g. 4Gi (default: the recipe's resources)")
	flags.StringVar(&f.disk, "disk", "", "the room in a sandbox's work folder, e.g. 20Gi (default: the recipe's resources)")
}

// limits are those that the flags name, and how many processors; 0 is not said.
func (f *lineFlags) limits() (l sandbox.Limits, cpus int, err error) {
	amount := func(flag, text string) int64 {
		if text == "" || err != nil {
			return 0
		}
		var n float64
		if n, err = build.ParseQuantity(text); err != nil {
			err = usagef("--%s: %v", flag, err)
		}
		return int64(math.Ceil(n))
	}
	l.Memory, l.Disk = amount("memory", f.memory), amount("disk", f.disk)
	cpus = int(amount("cpu", f.cpu))
	if f.timeout < 0 && err == nil {
		err = usagef("--timeout %s is negative", f.timeout)
	}
	return l, cpus, err
}

// line is the line from recipe to package, wired for one architecture.
type line struct {
	*app
	ws      *workspace
	store   *store.Store
	fetcher *source.Fetcher
	seeds   []repo.Source
	// seedAsked are the seeds that fetchSeeds found to be needed.
	seedAsked map[string]bool // by Name
	others    []repo.Source   // further repositories, the preferred first
	graph     *graph.Graph
	built     *build.Built
	builder   *build.Builder
	arch      apk.Arch
	runner    string         // of --runner
	fromStep  string         // of --from-step
	named     []string       // the recipes that --from-step, --again and --keep-work are about
	limits    sandbox.Limits // that flags name
	cpus      int
	progress  *progress
	// broken are the recipes with mistakes, by name: they stand in the graph and can't be built.
	broken       map[string]error
	wantedBroken []string    // those of them that were asked for
	rules        diag.Policy // how grave rules are
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
	l := &line{app: a, ws: ws, store: st, arch: arch, built: &build.Built{}, runner: f.runner, rules: ws.Lint}
	if _, err := openRunner(f.runner); err != nil {
		return nil, nil, err
	}
	if l.limits, l.cpus, err = f.limits(); err != nil {
		return nil, nil, err
	}
	if f.cpuModel != "" {
		fmt.Fprintf(a.err, "note: --cpumodel %s: sandboxes have this machine's processor\n", f.cpuModel)
	}
	scripts, wanted, err := l.scripts(ctx, f, names)
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
		r, err := l.openRepository(l.ws, l.store, &f.trustFlags, keys, location)
		if err != nil {
			return err
		}
		l.others = append(l.others, r)
	}
	seeds, err := l.openSeeds(l.ws, l.store, l.fetcher)
	for _, s := range seeds {
		l.seeds = append(l.seeds, s)
	}
	return err
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
		case m.Git != "" && !strings.Contains(m.Git, "://"):
			f.Mirrors = append(f.Mirrors, source.GitFolderMirror(ws.path(m.Git)))
		case m.Git != "":
			f.Mirrors = append(f.Mirrors, source.GitHTTPMirror(f, m.Git))
		case m.Heritage != "":
			f.Mirrors = append(f.Mirrors, source.HeritageMirror(f, m.Heritage))
		default:
			f.Mirrors = append(f.Mirrors, source.DebianMirror(f, m.Debian))
		}
	}
	return f, nil
}

// target is what recipes are expanded for.
func (f *lineFlags) target(ws *workspace, arch apk.Arch) (recipes.Target, error) {
	t := recipes.Target{Arch: arch, Libc: ws.Libc, Time: ws.Time, Options: f.buildOptions, Namespace: ws.Name, Commit: f.gitCommit, RepositoryURL: f.gitRepository, License: f.license,
		AppendPackages: ws.Environment.Append, AppendTestPackages: ws.Test.Append,
		// The one variable of melange's that decides what a package is: it becomes part of the script.
		VersionedLibraries: os.Getenv("MELANGE_VERSIONED_SHLIB_DEPENDS") != ""}
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
	if len(f.envFiles) > 0 {
		var err error
		if t.Env, err = recipes.LoadEnv(f.envFiles...); errors.Is(err, fs.ErrNotExist) {
			return t, usagef("--env-file: %v", err)
		} else if err != nil {
			return t, err
		}
	}
	if f.varsFile != "" {
		var err error
		if t.Vars, err = recipes.LoadVars(f.varsFile); errors.Is(err, fs.ErrNotExist) {
			return t, usagef("--vars-file: %v", err)
		} else if err != nil {
			return t, err
		}
	}
	if f.libc != "" && f.libc != "musl" && f.libc != "gnu" {
		return t, usagef("--libc %q is not musl or gnu", f.libc)
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

// pipelines finds the files that "uses" names: in the folders of the flags, in those of
// the workspace, among the built-in ones.
func (f *lineFlags) pipelines(ws *workspace) (*recipes.Pipelines, error) {
	var dirs []recipes.Dir
	for _, path := range f.pipelineDirs {
		dir, err := recipes.OpenDir(path)
		if err != nil {
			return nil, usagef("--pipeline-dir: %v", err)
		}
		dirs = append(dirs, dir)
	}
	for _, path := range ws.Pipelines {
		dir, err := recipes.OpenDir(ws.path(path))
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return recipes.NewPipelines(dirs...), nil
}

// scripts expands all recipes of the workspace and those named by file, and gives
// the names of the recipes that are wanted: all that were named, else all there are.
// Recipes with mistakes are told of, and are in l.broken: one of them stops only what
// needs it. Where nothing is left to do the mistakes are the error.
func (l *line) scripts(ctx context.Context, f *lineFlags, names []string) (scripts []*recipes.Script, wanted []string, err error) {
	x := expansion{sourceDir: f.sourceDir, named: names, timeout: f.timeout, checkout: checkouts(ctx, l.ws)}
	if x.target, err = f.target(l.ws, l.arch); err != nil {
		return nil, nil, err
	}
	if x.pipelines, err = f.pipelines(l.ws); err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if _, err := os.Stat(name); isFile(name) && errors.Is(err, fs.ErrNotExist) {
			return nil, nil, usagef("there is no recipe %q", name)
		}
	}
	loaded, problems := l.loadRecipes(names)
	unread := map[string]diag.Problems{} // by file
	for _, p := range problems {
		unread[p.File] = append(unread[p.File], p)
	}
	byName := map[string]*recipes.Script{}
	otherArch := map[string]bool{}
	var broken []expanded
	for _, r := range loaded {
		e := x.recipe(r)
		delete(unread, r.Path())
		some, listed := diag.Of(e.err)
		switch {
		case e.err == nil:
			scripts = append(scripts, e.script)
			byName[e.script.Name] = e.script
		case listed:
			problems = append(problems, some...)
			broken = append(broken, e)
		case errors.Is(e.err, recipes.ErrOtherArch):
			otherArch[r.Package.Name] = true
		default:
			return nil, nil, e.err
		}
	}
	problems.Sort()
	problems = slices.Compact(problems)
	scripts = append(scripts, l.standIns(broken, unread, byName)...)

	for _, name := range names {
		if isFile(name) {
			name = recipeOf(name)
		}
		switch s := findRecipe(byName, name); {
		case s != nil:
			wanted = append(wanted, s.Name)
		case otherArch[name]:
			return nil, nil, usagef("recipe %q is not for %s", name, l.arch)
		default:
			return nil, nil, unknownRecipe(name, slices.Collect(maps.Keys(byName)))
		}
	}
	if len(names) == 0 {
		for _, s := range scripts {
			wanted = append(wanted, s.Name)
		}
		if len(scripts) == 0 && len(loaded) == 0 {
			fmt.Fprintf(l.err, "there are no recipes in %s\n", strings.Join(l.ws.Recipes, ", "))
		}
	}
	wanted = slices.DeleteFunc(wanted, func(name string) bool {
		if l.broken[name] == nil {
			return false
		}
		l.wantedBroken = append(l.wantedBroken, name)
		return true
	})
	if len(wanted) == 0 {
		return nil, nil, problems.Err()
	}
	l.tell(problems)
	return scripts, wanted, nil
}

// standIns are scripts that stand in the graph for recipes with mistakes, so that what
// needs one of them is skipped and not made with something else of the same name.
func (l *line) standIns(broken []expanded, unread map[string]diag.Problems, byName map[string]*recipes.Script) (all []*recipes.Script) {
	l.broken = map[string]error{}
	add := func(s *recipes.Script, err error) {
		if byName[s.Name] == nil {
			byName[s.Name], l.broken[s.Name] = s, err
			all = append(all, s)
		}
	}
	for _, e := range broken {
		s := &recipes.Script{Name: cmp.Or(e.script.Name, recipeOf(e.script.Recipe)), Recipe: e.script.Recipe, Arch: l.arch}
		for _, o := range e.script.Packages {
			s.Packages = append(s.Packages, recipes.Output{Name: o.Name, Provides: o.Provides})
		}
		add(s, e.err)
	}
	for _, file := range slices.Sorted(maps.Keys(unread)) {
		if isFile(file) {
			name := recipeOf(file)
			add(&recipes.Script{Name: name, Recipe: file, Arch: l.arch, Packages: []recipes.Output{{Name: name}}}, unread[file])
		}
	}
	return all
}

// tell prints mistakes of recipes, each once, and makes them the result of the run. What
// they are no mistakes of goes on.
func (a *app) tell(problems diag.Problems) {
	var news diag.Problems
	for _, p := range problems {
		if !slices.Contains(a.mistakes, p) {
			news = append(news, p)
		}
	}
	if len(news) > 0 {
		a.mistakes = append(a.mistakes, news...)
		fmt.Fprintln(a.err, plain(news.Error()))
	}
}

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

// openBuilder opens the sandbox; a machine that has none says what it lacks.
func (l *line) openBuilder(p *progress, cpus int) error {
	backend, err := openRunner(l.runner)
	if err != nil {
		return err
	}
	if err := available(backend); err != nil {
		return err
	}
	if cpus == 0 {
		cpus = l.cpus
	}
	l.builder = &build.Builder{Limits: l.limits, Store: l.store, Sources: l.fetcher, Sandbox: backend, Logs: filepath.Join(l.ws.path(l.ws.Output), "logs"), CPUs: cpus, Rules: l.rules, Exceptions: l.ws.accesses()}
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

// plan resolves the environment of a recipe whose needs are built, and reads what its
// lock says.
func (l *line) plan(ctx context.Context, s *recipes.Script) (*plan.Plan, error) {
	p, err := l.planUnlocked(ctx, s)
	if err != nil {
		return nil, err
	}
	p.Prefetched, err = prefetch.Locked(s)
	return p, err
}

// planUnlocked is plan for whoever writes the lock.
func (l *line) planUnlocked(ctx context.Context, s *recipes.Script) (*plan.Plan, error) {
	sources := l.environmentSources(s.Name)
	lock, err := sources.Resolve(ctx, l.arch, plan.World(s), solve.Options{AnyRevision: true})
	if err != nil {
		return nil, fmt.Errorf("%s: environment: %w%s", s.Recipe, err, trustHint(&s.Environment))
	}
	tell := l.err
	if l.progress != nil {
		tell = l.progress // above the table of what runs
	}
	if err := l.tellDoubles(ctx, tell, sources, l.arch, lock); err != nil {
		return nil, err
	}
	if len(lock) == 0 {
		return nil, diag.Problem{File: s.Recipe, Text: "the environment is empty: nothing could run in it", Hint: "name packages to build with in environment: contents: packages, such as build-base"}
	}
	return &plan.Plan{Script: s, Environment: lock, Online: l.ws.online(s)}, nil
}

// trustHint says how to use the repositories that a recipe names. They are never used by
// themselves: whom a build trusts is for the workspace to say, or for who runs it, and not
// for a file that came from elsewhere.
func trustHint(env *recipes.Environment) string {
	var flags, keys []string
	for _, location := range env.Repositories {
		if _, rest, tagged := strings.Cut(location, " "); tagged && strings.HasPrefix(location, "@") {
			location = rest
		}
		flags = append(flags, "-r "+location)
	}
	if len(flags) == 0 {
		return ""
	}
	for _, key := range env.Keyring {
		if strings.Contains(key, "://") {
			keys = append(keys, key)
			key = path.Base(key)
		}
		flags = append(flags, "-k "+key)
	}
	hint := "\n  hint: the recipe names repositories, which are used when you say so: " + strings.Join(flags, " ")
	if len(keys) > 0 {
		hint += " (with the key from " + strings.Join(keys, ", ") + ")"
	}
	return hint
}
