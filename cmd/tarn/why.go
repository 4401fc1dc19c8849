package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/solve"
)

// worldFlags say which world a question is about.
type worldFlags struct {
	universe
	world  []string
	recipe string
	image  string
}

func (o *worldFlags) flags(cmd *cobra.Command) {
	o.universe.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&o.world, "world", "w", nil, "an entry of the world that is solved, or several with spaces between them; may be repeated")
	f.StringVar(&o.recipe, "recipe", "", "ask about the build environment of this recipe")
	f.StringVar(&o.image, "image", "", "ask about this image: its name or file")
}

func (a *app) whyCommand() *cobra.Command {
	var o worldFlags
	var file string
	cmd := &cobra.Command{
		Use:   "why PACKAGE | --file PACKAGE [PATH | DEPENDENCY]",
		Short: "say who needs a package, or which of its files brings what it needs",
		Long: `why tells the shortest ways from what is asked for to a PACKAGE: a name, something that is
provided (so:libz.so.1, cmd:sh), or either with a constraint.

Of a world: --world gives its entries, and the flags of solve say what they are solved
over. Of a build environment: --recipe. Of an image: --image.

Without one of these it tells who needs the package in the workspace: its images, the
environments of its recipes, and the packages of its repositories.

Its exit code is 1 where nothing needs the package.

` + whyFileLong,
		Args: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return cobra.ExactArgs(1)(cmd, args)
			}
			if file != anyFile {
				args = append(args, file)
			}
			return cobra.RangeArgs(1, 2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case file == "":
				return a.runWhy(cmd.Context(), o, args[0])
			case file != anyFile:
				args = append(args, file) // --file=PATH
			}
			return a.runWhyFile(cmd.Context(), o.universe, args)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&file, "file", "", "tell which files of the package bring what it needs and provides")
	cmd.Flags().Lookup("file").NoOptDefVal = anyFile
	return cmd
}

// anyFile is the value of --file without one.
const anyFile = "*"

func (a *app) runWhy(ctx context.Context, o worldFlags, name string) error {
	wanted, err := apk.ParseDependency(name)
	if err != nil || wanted.Conflict {
		return usagef("%q is no package, no provided name and no constraint on one", name)
	}
	if len(o.world) > 0 && o.recipe+o.image != "" || o.recipe != "" && o.image != "" {
		return usagef("--world, --recipe and --image exclude each other")
	}
	if len(o.world) == 0 && o.recipe == "" && o.image == "" {
		if len(o.indexes) > 0 {
			return usagef("with --index, --world says what is solved over it")
		}
		return a.whyInWorkspace(ctx, o, wanted)
	}
	solved, err := a.solveWorld(ctx, o)
	if err != nil {
		return err
	}
	chains := solved.chains(wanted)
	if a.json {
		if chains == nil {
			chains = []whyChain{}
		}
		if err := a.printJSON(chains); err != nil {
			return err
		}
	}
	if len(chains) == 0 {
		return &codeError{exitFailed, fmt.Errorf("%s is not there\n  hint: tarn why-not %s, with the same flags, says why", wanted, wanted)}
	}
	if !a.json {
		for i, c := range chains {
			if i == 0 || chains[i-1].Package != c.Package {
				fmt.Fprintln(a.out, c.Package)
			}
			c.print(a, "  ")
		}
	}
	return nil
}

// solvedWorld is a world with its solution.
type solvedWorld struct {
	world    []solve.Requirement
	solution []*solve.Package
	options  solve.Options
}

// solveWorld solves the world that the flags name.
func (a *app) solveWorld(ctx context.Context, o worldFlags) (*solvedWorld, error) {
	switch {
	case o.image != "":
		c, err := a.openComposer(imageOptions{repositories: o.repositories, trustFlags: o.trustFlags})
		if err != nil {
			return nil, err
		}
		return c.solveImage(ctx, o.image, o.arch)
	case o.recipe != "":
		arch, err := apk.ParseArch(o.arch)
		if err != nil {
			return nil, usagef("--arch: %v", err)
		}
		l, wanted, err := a.openLine(ctx, &lineFlags{repositories: o.repositories, trustFlags: o.trustFlags}, arch, []string{o.recipe})
		if err != nil {
			return nil, err
		}
		if _, err := l.buildNeeds(ctx, wanted); err != nil {
			return nil, err
		}
		s := l.graph.Script(wanted[0])
		p, err := l.plan(ctx, s)
		if err != nil {
			return nil, err
		}
		return &solvedWorld{plan.World(s), p.Environment.Packages(), solve.Options{AnyRevision: true}}, nil
	}
	world, err := o.parse()
	if err != nil {
		return nil, err
	}
	packages, options, err := a.packages(ctx, o.universe)
	if err != nil {
		return nil, err
	}
	defer packages.close()
	if err := solve.CheckTags(world, packages.tags); err != nil {
		return nil, err
	}
	solution, err := solve.Solve(packages, world, options)
	return &solvedWorld{world, solution, options}, err
}

// parse reads the entries of --world.
func (o *worldFlags) parse() ([]solve.Requirement, error) {
	return parseWorld(strings.Fields(strings.Join(o.world, " ")), "the world")
}

// solveImage finds what an image is composed of.
func (c *composer) solveImage(ctx context.Context, name, archName string) (*solvedWorld, error) {
	arch, err := apk.ParseArch(archName)
	if err != nil {
		return nil, usagef("--arch: %v", err)
	}
	specs, err := c.specs([]string{name})
	if err != nil {
		return nil, err
	}
	s, options := specs[0], solve.Options{AnyRevision: true}
	locked, err := c.readLock(s)
	if err != nil {
		return nil, err
	}
	from, err := c.sources(ctx, s, locked)
	if err != nil {
		return nil, err
	}
	if locked == nil {
		lock, err := c.resolve(ctx, s, arch, from)
		if err != nil {
			return nil, err
		}
		return &solvedWorld{s.World, lock.Packages(), options}, nil
	}
	fmt.Fprintf(c.said, "%s: the packages are those of %s\n", s.Name(), locked.Path)
	if err := c.checkLock(locked, s, []apk.Arch{arch}); err != nil {
		return nil, err
	}
	packages, err := c.lockedPackages(ctx, s, arch, locked, from)
	if err != nil {
		return nil, err
	}
	solution := make([]*solve.Package, len(packages))
	for i, p := range packages {
		solution[i] = &solve.Package{Entry: p.Entry, From: p.From}
	}
	return &solvedWorld{s.World, solution, options}, nil
}

// whyChain is a way from the world to a package.
type whyChain struct {
	Package string   `json:"package"` // its name and version
	Links   []string `json:"links"`   // each asks for the next, the world first
	More    bool     `json:"more,omitempty"`
}

func (c whyChain) print(a *app, indent string) {
	for i, link := range c.Links {
		fmt.Fprintln(a.out, plain(indent+strings.Repeat("  ", i)+link))
	}
	if c.More {
		fmt.Fprintln(a.out, indent+"and more ways as short")
	}
}

// maxChains is how many ways to one package are told.
const maxChains = 10

// chains are the shortest ways to all packages that are, or provide, what is wanted.
func (s *solvedWorld) chains(wanted apk.Dependency) []whyChain {
	graph := solve.NewGraph(s.solution, s.world, s.options)
	var told []whyChain
	for _, p := range graph.Find(wanted) {
		chains, more := graph.Chains(p, maxChains)
		for i, chain := range chains {
			c := whyChain{Package: p.FullName(), More: more && i == len(chains)-1}
			for _, link := range chain {
				c.Links = append(c.Links, link.String())
			}
			told = append(told, c)
		}
	}
	return told
}

// needers are those that need a package in a workspace.
type needers struct {
	Images   []neederImage   `json:"images"`
	Recipes  []neederRecipe  `json:"recipes"`
	Packages []neederPackage `json:"packages"`
}

type neederImage struct {
	File   string     `json:"file"`
	Chains []whyChain `json:"chains"`
}

type neederRecipe struct {
	Recipe string `json:"recipe"`
	Place  string `json:"place"` // where its environment asks
	Asks   string `json:"asks"`
}

type neederPackage struct {
	Name    string      `json:"name"`
	Version apk.Version `json:"version"`
	Needs   string      `json:"needs"`
}

// whyInWorkspace says who needs a package in the workspace. What cannot be looked at is
// told, and does not hide the rest.
func (a *app) whyInWorkspace(ctx context.Context, o worldFlags, wanted apk.Dependency) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	if !ws.isReal() {
		return usagef("there is no %s here or above\n  hint: --world says what is solved, and --index or --repository over which packages", workspaceFile)
	}
	n := needers{Images: []neederImage{}, Recipes: []neederRecipe{}, Packages: []neederPackage{}}
	var candidates []*solve.Package
	packages, options, err := a.packages(ctx, o.universe)
	if err != nil {
		fmt.Fprintln(a.err, plain("note: packages were not looked at: "+firstLine(err)))
	} else {
		defer packages.close()
		candidates = packages.all()
	}
	offers := func(d apk.Dependency, anyRevision bool) bool {
		if !d.Conflict && d.Name == wanted.Name {
			return true
		}
		return !d.Conflict && slices.ContainsFunc(candidates, func(p *solve.Package) bool {
			return p.Offers(wanted, options) && p.Offers(d, solve.Options{AnyRevision: anyRevision})
		})
	}
	if err := a.imagesThatNeed(ctx, o, ws, wanted, &n); err != nil {
		return err
	}
	arch, err := apk.ParseArch(o.arch)
	if err != nil {
		return usagef("--arch: %v", err)
	}
	l, all, err := a.openLine(ctx, &lineFlags{repositories: o.repositories, trustFlags: o.trustFlags}, arch, nil)
	if err != nil {
		fmt.Fprintln(a.err, plain("note: recipes were not looked at: "+firstLine(err)))
	}
	for _, name := range all {
		for _, r := range plan.World(l.graph.Script(name)) {
			if offers(r.Dependency, true) {
				n.Recipes = append(n.Recipes, neederRecipe{name, r.From, r.Dependency.String()})
			}
		}
	}
	newest := map[string]*solve.Package{}
	for _, p := range candidates {
		if q := newest[p.Name]; q == nil || p.Version.Compare(q.Version) > 0 {
			newest[p.Name] = p
		}
	}
	for _, p := range candidates {
		if newest[p.Name] != p {
			continue
		}
		for _, d := range p.Depends {
			if offers(d, false) && !p.Offers(wanted, options) {
				n.Packages = append(n.Packages, neederPackage{p.Name, p.Version, d.String()})
			}
		}
	}
	slices.SortStableFunc(n.Packages, func(a, b neederPackage) int { return strings.Compare(a.Name, b.Name) })
	if a.json {
		if err := a.printJSON(n); err != nil {
			return err
		}
	} else {
		a.printNeeders(n)
	}
	if len(n.Images)+len(n.Recipes)+len(n.Packages) > 0 {
		return nil
	}
	hint := ""
	known := slices.ContainsFunc(candidates, func(p *solve.Package) bool { return p.Offers(wanted, options) }) || slices.Contains(all, wanted.Name)
	if near := diag.DidYouMean(wanted.Name, solve.NewUniverse(candidates).Names()); near != "" && !known {
		hint = "\n  hint: " + near
	}
	return &codeError{exitFailed, fmt.Errorf("nothing in the workspace needs %s%s", wanted, hint)}
}

// imagesThatNeed tells the ways from images to a package.
func (a *app) imagesThatNeed(ctx context.Context, o worldFlags, ws *workspace, wanted apk.Dependency, n *needers) error {
	c, err := a.openComposer(imageOptions{repositories: o.repositories, trustFlags: o.trustFlags})
	if err != nil {
		return err
	}
	for _, dir := range ws.Images {
		files, err := filepath.Glob(filepath.Join(ws.path(dir), "*.yaml"))
		if err != nil {
			return err
		}
		for _, file := range files {
			solved, err := c.solveImage(ctx, file, o.arch)
			if err != nil {
				if ctx.Err() != nil {
					return err
				}
				fmt.Fprintln(a.err, plain(fmt.Sprintf("note: %s was not looked at: %s", relative(file), firstLine(err))))
				continue
			}
			if chains := solved.chains(wanted); len(chains) > 0 {
				n.Images = append(n.Images, neederImage{relative(file), chains})
			}
		}
	}
	return nil
}

func (a *app) printNeeders(n needers) {
	if len(n.Images) > 0 {
		fmt.Fprintln(a.out, "images")
	}
	for _, image := range n.Images {
		for _, c := range image.Chains {
			c.print(a, "  ")
		}
	}
	if len(n.Recipes) > 0 {
		fmt.Fprintln(a.out, "recipes, to be built")
	}
	for _, r := range n.Recipes {
		fmt.Fprintln(a.out, plain(fmt.Sprintf("  %s asks %s", r.Place, r.Asks)))
	}
	if len(n.Packages) > 0 {
		fmt.Fprintln(a.out, "packages")
	}
	for _, p := range n.Packages {
		fmt.Fprintln(a.out, plain(fmt.Sprintf("  %s-%s needs %s", p.Name, p.Version, p.Needs)))
	}
}

// firstLine is an error as a part of a line.
func firstLine(err error) string {
	text := err.Error()
	var conflict *solve.Conflict
	if errors.As(err, &conflict) && len(conflict.Chain) > 0 {
		text = "no solution: " + conflict.Chain[len(conflict.Chain)-1]
	}
	text, _, _ = strings.Cut(text, "\n")
	return text
}
