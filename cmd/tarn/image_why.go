package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/solve"
)

func (a *app) imageWhyCommand() *cobra.Command {
	var o lookOptions
	cmd := &cobra.Command{
		Use:   "why PATH | PACKAGE [IMAGE...]",
		Short: "say why a path or a package is in an image",
		Long: `why tells the shortest ways from what an image asks for to a PACKAGE: a name, something that
is provided (so:libz.so.1, cmd:sh), or either with a constraint. Of a PATH, which has a
slash in it, it tells first which package brings it, in which layer it lies, and what of the
image file makes or changes it.

What an image asks for says its image file, else apk's world in the image. dpkg keeps no
such list: the ways then begin at packages that nothing depends on. Without an IMAGE, all
image files of the workspace are asked.

Its exit code is 1 where no image has it.

` + lookLong,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runImageWhy(cmd.Context(), o, args[0], args[1:])
		},
	}
	cmd.ValidArgsFunction = a.completeImages
	o.add(cmd)
	return cmd
}

// whyAnswer is what one image says to a question.
type whyAnswer struct {
	Image  string     `json:"image"`
	Arch   apk.Arch   `json:"arch"`
	Path   *whyPath   `json:"path,omitempty"`
	Chains []whyChain `json:"chains"`
	// Needed are the packages that depend on what the image asks for itself.
	Needed []string `json:"needed,omitempty"`
}

// whyPath is a path of an image and where it comes from.
type whyPath struct {
	Path    string         `json:"path"`
	State   view.FileState `json:"state"`
	Package string         `json:"package,omitempty"` // name and version of its owner
	Changed bool           `json:"changed,omitempty"` // it is not what the package brought
	Layer   int            `json:"layer"`             // from 1, the lowest
	Digest  string         `json:"layerDigest"`
	By      string         `json:"createdBy,omitempty"` // what the image says of that layer
	Makers  []images.Maker `json:"makers,omitempty"`

	owner string // the name of Package
}

func (a *app) runImageWhy(ctx context.Context, o lookOptions, question string, refs []string) error {
	c, err := a.openComposer(o.imageOptions)
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		for _, dir := range c.ws.Images {
			found, err := filepath.Glob(filepath.Join(c.ws.path(dir), "*.yaml"))
			if err != nil {
				return err
			}
			refs = append(refs, found...)
		}
		if len(refs) == 0 {
			return usagef("there are no image files in %s\n  hint: name an image: tarn image why %s IMAGE", strings.Join(c.ws.Images, ", "), question)
		}
	}
	answers := []whyAnswer{}
	var names []string
	for _, ref := range refs {
		l, err := c.look(ctx, ref, o.insecure)
		if err != nil {
			return err
		}
		defer l.close()
		contents, err := l.contents(ctx)
		if err != nil {
			return err
		}
		for i, image := range l.opened.Images {
			w := &whyImage{looked: l, image: image, contents: contents[i]}
			answer, known, err := w.answer(question)
			if err != nil {
				return err
			}
			names = append(names, known...)
			if answer == nil {
				continue
			}
			answers = append(answers, *answer)
			if !a.json {
				a.printWhy(answer, len(refs) > 1 || len(l.opened.Images) > 1)
			}
		}
	}
	if a.json {
		if err := a.printJSON(answers); err != nil {
			return err
		}
	}
	if len(answers) > 0 {
		return nil
	}
	return &codeError{exitFailed, fmt.Errorf("%s is not there%s", question, hintOf(diag.DidYouMean(question, names)))}
}

// whyImage is an image that is asked.
type whyImage struct {
	*looked
	image    *view.Image
	contents *view.Contents
}

// answer answers a question, or gives the names that it could have been about.
func (w *whyImage) answer(question string) (*whyAnswer, []string, error) {
	answer := &whyAnswer{Image: w.name(), Arch: w.image.Arch(), Chains: []whyChain{}}
	name := question
	if strings.Contains(question, "/") {
		path, near := w.path(question)
		if path == nil {
			return nil, near, nil
		}
		answer.Path = path
		if path.Package == "" {
			return answer, nil, nil
		}
		name = path.owner
	}
	wanted, err := apk.ParseDependency(name)
	if err != nil || wanted.Conflict {
		return nil, nil, usagef("%q is no path, no package, no provided name and no constraint on one", question)
	}
	if answer.Chains, answer.Needed, err = w.chains(wanted); err != nil {
		return nil, nil, err
	}
	if len(answer.Chains) == 0 && answer.Path == nil {
		var names []string
		for _, p := range w.contents.Packages {
			names = append(names, p.Name)
		}
		return nil, names, nil
	}
	return answer, nil, nil
}

// path finds a path and what is known of it.
func (w *whyImage) path(question string) (*whyPath, []string) {
	t := w.contents.Tree
	n, found := t.Lstat(question)
	if !found {
		base := filepath.Base(question)
		var near []string
		for n := range t.All() {
			if filepath.Base(n.Path) == base || strings.HasPrefix(n.Path, strings.Trim(filepath.Dir(question), "/")+"/") {
				near = append(near, "/"+n.Path)
			}
		}
		return nil, near
	}
	p := &whyPath{Path: "/" + n.Path, State: *view.StateOf(t, n)}
	at := w.contents.LayerOf(n.Path)
	layer := w.contents.Layers[at]
	p.Layer, p.Digest, p.By = at+1, cmp.Or(layer.Digest, layer.DiffID), layer.Created
	if owner := w.contents.Find(n.Owner); owner != nil {
		p.Package, p.owner = owner.FullName(), owner.Name
		p.Changed = slices.Contains(owner.Changed, n.Path)
	}
	if w.spec != nil && (p.Package == "" || p.Changed || images.IsOwnPackage(n.Owner) || w.touched(n)) {
		p.Makers = w.spec.Makers(n.Path)
	}
	return p, nil
}

// touched reports whether the image file may have changed a path that a package brings.
func (w *whyImage) touched(n *rootfs.Node) bool {
	return slices.ContainsFunc(w.spec.Makers(n.Path), func(m images.Maker) bool { return strings.HasPrefix(m.What, "paths, ") })
}

// chains are the ways to what is wanted, and who else needs what the image asks for itself.
func (w *whyImage) chains(wanted apk.Dependency) ([]whyChain, []string, error) {
	var solution []*solve.Package
	for i := range w.contents.Packages {
		if p := &w.contents.Packages[i]; p.Entry != nil {
			solution = append(solution, &solve.Package{Entry: p.Entry})
		}
	}
	if len(solution) == 0 {
		return debianChains(w.contents, wanted.Name), nil, nil
	}
	s := &solvedWorld{solution: solution}
	if w.spec != nil {
		asked, err := w.composer.asked(w.spec)
		if err != nil {
			return nil, nil, err
		}
		s.world, s.options = asked.World, solve.Options{AnyRevision: true}
	} else {
		for _, text := range w.contents.World {
			r, err := solve.ParseRequirement(text)
			if err != nil {
				continue // of a tool that knows more than this one
			}
			r.From = "/etc/apk/world"
			r.Tag = ""
			s.world = append(s.world, r)
		}
	}
	graph := solve.NewGraph(s.solution, s.world, s.options)
	var chains []whyChain
	var needed []string
	for _, p := range graph.Find(wanted) {
		ways, more := graph.Chains(p, maxChains)
		for i, way := range ways {
			c := whyChain{Package: p.FullName(), More: more && i == len(ways)-1}
			for _, link := range way {
				c.Links = append(c.Links, link.String())
			}
			chains = append(chains, c)
		}
		for _, link := range graph.Askers(p) {
			if link.By == nil || len(ways) > 0 && len(ways[0]) > 1 {
				continue
			}
			if name := link.By.FullName(); !slices.Contains(needed, name) {
				needed = append(needed, name)
			}
		}
		if len(ways) == 0 {
			chains = append(chains, whyChain{Package: p.FullName(), Links: []string{w.unasked(p)}})
		}
	}
	return chains, needed, nil
}

// unasked says of a package that nothing asks for where it comes from.
func (w *whyImage) unasked(p *solve.Package) string {
	if w.spec != nil {
		return "the composer makes it: it owns what no package brings"
	}
	return "nothing in the image asks for it"
}

// debianChains are the shortest ways to a package of dpkg from packages that no other
// depends on.
func debianChains(c *view.Contents, name string) []whyChain {
	providers := map[string][]string{}
	for _, p := range c.Packages {
		providers[p.Name] = append(providers[p.Name], p.Name)
		for _, provided := range p.Provides {
			provided, _, _ = strings.Cut(provided, " ")
			providers[provided] = append(providers[provided], p.Name)
		}
	}
	type link struct{ by, text string }
	askers := map[string][]link{}
	for _, p := range c.Packages {
		for _, d := range p.Depends {
			for choice := range strings.SplitSeq(d, "|") {
				wanted, _, _ := strings.Cut(strings.TrimSpace(choice), " ")
				wanted, _, _ = strings.Cut(wanted, ":")
				for _, q := range providers[wanted] {
					if q != p.Name {
						askers[q] = append(askers[q], link{p.Name, p.FullName() + " needs " + d})
					}
				}
			}
		}
	}
	var chains []whyChain
	for _, target := range providers[name] {
		p := c.Find(target)
		next := map[string]link{target: {}}
		queue := []string{target}
		found := 0
		for len(queue) > 0 && found < maxChains {
			at := queue[0]
			queue = queue[1:]
			if len(askers[at]) == 0 {
				chain := whyChain{Package: p.FullName(), Links: []string{c.Find(at).FullName() + " is installed, and no other package needs it"}}
				for step := at; step != target; {
					l := next[step]
					chain.Links = append(chain.Links, l.text)
					step = l.by
				}
				chains = append(chains, chain)
				found++
			}
			for _, l := range askers[at] {
				if _, seen := next[l.by]; !seen {
					next[l.by] = link{at, l.text}
					queue = append(queue, l.by)
				}
			}
		}
		if found == 0 {
			chains = append(chains, whyChain{Package: p.FullName(), Links: []string{"it is installed; those that need it need each other"}})
		}
	}
	return chains
}

func (a *app) printWhy(w *whyAnswer, named bool) {
	indent := ""
	if named {
		fmt.Fprintf(a.out, "%s (%s)\n", plain(w.Image), flat(plain(string(w.Arch))))
		indent = "  "
	}
	line := func(text string) { fmt.Fprintln(a.out, indent+flat(plain(text))) }
	if p := w.Path; p != nil {
		text := fmt.Sprintf("%s  %s %s %d:%d", p.Path, p.State.Type, p.State.Mode, p.State.UID, p.State.GID)
		if p.State.Target != "" {
			text += " -> " + p.State.Target
		} else if p.State.Type == "file" {
			text += " " + shortSize(p.State.Size)
		}
		line(text)
		by := ""
		if p.By != "" {
			by = " (" + p.By + ")"
		}
		line(fmt.Sprintf("  in layer %d, %s%s", p.Layer, p.Digest, by))
		switch {
		case p.Package == "":
			line("  no package owns it")
		case p.Changed:
			line("  " + p.Package + " brings it; it was changed since")
		default:
			line("  " + p.Package + " owns it")
		}
		for _, m := range p.Makers {
			line("  made or changed by " + strings.TrimSpace(m.Place+" "+m.What))
		}
		if len(w.Chains) > 0 {
			fmt.Fprintln(a.out)
		}
	}
	for i, c := range w.Chains {
		if i == 0 || w.Chains[i-1].Package != c.Package {
			line(c.Package)
		}
		c.print(a, indent+"  ")
	}
	if len(w.Needed) > 0 {
		line("  needed by " + some(w.Needed, "") + " as well")
	}
}
