package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
)

func (a *app) imageShowCommand() *cobra.Command {
	var o lookOptions
	cmd := &cobra.Command{
		Use:   "show IMAGE...",
		Short: "show what an image holds",
		Long: `show tells the packages, users, layers and configuration of images, the scripts of
packages that were not run, and files that give rights to whoever runs them.

` + lookLong,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImageShow(cmd.Context(), o, args) },
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&o.files, "files", false, "list every file")
	return cmd
}

// shownImage is one image, as show tells of it.
type shownImage struct {
	Name     string         `json:"name"` // as it was asked for
	Kind     string         `json:"kind"` // image file, OCI layout, OCI archive, docker archive, registry
	Arch     apk.Arch       `json:"arch"`
	Digest   string         `json:"digest,omitempty"` // of the manifest; docker archives have none
	ID       string         `json:"id"`               // digest of the configuration
	Tags     []string       `json:"tags,omitempty"`
	Created  string         `json:"created,omitempty"`
	System   view.System    `json:"system,omitzero"`
	Database string         `json:"database,omitempty"` // where the packages are listed
	World    []string       `json:"world,omitempty"`
	Packages []shownPackage `json:"packages"`
	Files    int            `json:"files"`   // paths that are no folders
	Unowned  int            `json:"unowned"` // of them, those that no package owns
	Size     int64          `json:"size"`    // of all files, in bytes
	Pull     int64          `json:"pull"`    // of all layers as they are stored, in bytes
	Users    []rootfs.User  `json:"users"`
	Groups   []rootfs.Group `json:"groups"`
	Config   v1.Config      `json:"config"`
	Layers   []shownLayer   `json:"layers"`
	Rights   []shownRight   `json:"rights,omitempty"`
	SBOMs    []string       `json:"sboms,omitempty"` // bills of materials in the image
	// Scripts are what became of the scripts of packages, where an image file tells it.
	Scripts  []images.ScriptOutcome `json:"scripts,omitempty"`
	Warnings []images.Warning       `json:"warnings,omitempty"`
	List     []string               `json:"list,omitempty"` // with --files
}

type shownPackage struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Kind    string   `json:"kind"`
	Origin  string   `json:"origin,omitempty"`
	License string   `json:"license,omitempty"`
	Size    int64    `json:"size"` // of its files, in bytes
	Files   int      `json:"files"`
	Scripts []string `json:"scripts,omitempty"` // in the package; composing runs none
	Missing []string `json:"missing,omitempty"`
	Changed []string `json:"changed,omitempty"`
}

type shownLayer struct {
	view.Layer
	Packages []string `json:"packages,omitempty"` // with files in it
}

// shownRight is a file that gives rights to whoever runs it.
type shownRight struct {
	Path    string `json:"path"`
	Mode    string `json:"mode"`
	Capable bool   `json:"capabilities,omitempty"`
	Package string `json:"package,omitempty"`
}

func (a *app) runImageShow(ctx context.Context, o lookOptions, refs []string) error {
	c, err := a.openComposer(o.imageOptions)
	if err != nil {
		return err
	}
	all, err := c.lookAll(ctx, refs, o.insecure)
	if err != nil {
		return err
	}
	var shown []shownImage
	for _, l := range all {
		defer l.close()
		contents, err := l.contents(ctx)
		if err != nil {
			return err
		}
		for i, image := range l.opened.Images {
			s := show(l, i, image, contents[i])
			if o.files {
				var b strings.Builder
				if err := contents[i].Tree.List(&b); err != nil {
					return err
				}
				s.List = strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			}
			shown = append(shown, s)
			if !a.json {
				s.print(a.out)
			}
		}
	}
	if a.json {
		return a.printJSON(shown)
	}
	return nil
}

// show gathers what there is to tell of an image.
func show(l *looked, at int, i *view.Image, c *view.Contents) shownImage {
	s := shownImage{
		Name: l.name(), Kind: l.opened.Kind, Arch: i.Arch(), Digest: i.Digest, ID: i.Manifest.Config.Digest.String(), Tags: i.Tags,
		System: c.System, Database: c.Database, World: c.World, Packages: []shownPackage{}, Users: c.Tree.Users(), Groups: c.Tree.Groups(), Config: i.Config.Config, SBOMs: c.SBOMs,
	}
	if created := i.Config.Created; !created.IsZero() {
		s.Created = created.UTC().Format("2006-01-02 15:04:05Z")
	}
	s.Files, s.Size = c.Size()
	for _, p := range c.Packages {
		s.Packages = append(s.Packages, shownPackage{
			Name: p.Name, Version: p.Version, Kind: p.Kind, Origin: p.Origin, License: p.License, Size: p.Size, Files: p.Files, Scripts: p.Scripts, Missing: p.Missing, Changed: p.Changed,
		})
	}
	in := make([]map[string]bool, len(c.Layers))
	for n := range c.Tree.All() {
		if n.Mode.IsDir() {
			continue
		}
		if n.Owner == "" {
			s.Unowned++
		} else if f := c.Files[n.Path]; f != nil {
			if in[f.Layer] == nil {
				in[f.Layer] = map[string]bool{}
			}
			name := n.Owner
			if p := c.Find(n.Owner); p != nil {
				name = p.FullName()
			}
			in[f.Layer][name] = true
		}
		if view.GivesRights(n) {
			_, capable := n.Xattrs["security.capability"]
			s.Rights = append(s.Rights, shownRight{"/" + n.Path, fmt.Sprintf("%04o", rootfs.UnixMode(n.Mode)), capable, n.Owner})
		}
	}
	for n, layer := range c.Layers {
		s.Pull += layer.Size
		s.Layers = append(s.Layers, shownLayer{layer, slices.Sorted(maps.Keys(in[n]))})
	}
	for _, note := range c.Notes {
		s.Warnings = append(s.Warnings, images.Warning{Text: note})
	}
	if l.composed != nil {
		about := &l.composed[at].About
		s.Scripts = about.Scripts
		s.Warnings = append(s.Warnings, about.Warnings...)
		return s
	}
	for _, p := range c.Packages {
		if len(p.Scripts) > 0 {
			s.Warnings = append(s.Warnings, images.Warning{Package: p.FullName(), Text: "has scripts: " + strings.Join(p.Scripts, ", ")})
		}
	}
	return s
}

// print tells it to people.
func (s *shownImage) print(w io.Writer) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-13s%s\n", name+":", flat(plain(value)))
		}
	}
	fmt.Fprintf(w, "%s (%s)  %s\n", plain(s.Name), flat(plain(string(s.Arch))), cmp.Or(s.Digest, s.ID))
	line("kind", s.Kind)
	line("tags", strings.Join(s.Tags, " "))
	line("created", s.Created)
	line("system", strings.TrimSpace(cmp.Or(s.System.Name, s.System.ID)+" "+s.System.Version))
	c := &s.Config
	line("entrypoint", words(c.Entrypoint))
	line("cmd", words(c.Cmd))
	line("user", cmp.Or(c.User, "0"))
	line("work-dir", c.WorkingDir)
	line("stop-signal", c.StopSignal)
	line("ports", strings.Join(slices.Sorted(maps.Keys(c.ExposedPorts)), " "))
	line("volumes", strings.Join(slices.Sorted(maps.Keys(c.Volumes)), " "))
	for i, e := range c.Env {
		name := ""
		if i == 0 {
			name = "environment:"
		}
		fmt.Fprintf(w, "%-13s%s\n", name, flat(plain(e)))
	}
	var users []string
	for _, u := range s.Users {
		users = append(users, fmt.Sprintf("%s=%d", u.Name, u.UID))
	}
	const most = 12
	if len(users) > most {
		users = append(users[:most], fmt.Sprintf("and %d more", len(users)-most))
	}
	line("users", strings.Join(users, " "))
	line("files", fmt.Sprintf("%d, %s, %s to pull%s", s.Files, shortSize(s.Size), shortSize(s.Pull), unowned(s.Unowned)))
	fmt.Fprintln(w)
	if len(s.Packages) > 0 {
		rows := [][]string{{"package", "version", "origin", "files", "size", "licence"}}
		for _, p := range s.Packages {
			rows = append(rows, []string{p.Name, p.Version, p.Origin, strconv.Itoa(p.Files), shortSize(p.Size), p.License})
		}
		table(w, map[int]bool{3: true, 4: true}, rows)
	} else {
		fmt.Fprintln(w, "no database of packages that is known: neither apk's nor dpkg's")
	}
	fmt.Fprintln(w)
	rows := [][]string{{"layer", "size", "files", "unpacked", "packages"}}
	for _, l := range s.Layers {
		rows = append(rows, []string{shortDigest(cmp.Or(l.Digest, l.DiffID)), shortSize(l.Size), strconv.Itoa(l.Files), shortSize(l.Bytes), some(l.Packages, cmp.Or(l.Created, "-"))})
	}
	table(w, map[int]bool{1: true, 2: true, 3: true}, rows)
	if len(s.Rights) > 0 {
		fmt.Fprintln(w)
		rows := [][]string{{"gives rights", "mode", "package"}}
		for _, r := range s.Rights {
			mode := r.Mode
			if r.Capable {
				mode += " and capabilities"
			}
			rows = append(rows, []string{r.Path, mode, cmp.Or(r.Package, "-")})
		}
		table(w, nil, rows)
	}
	if len(s.Scripts) > 0 {
		fmt.Fprintln(w)
		rows := [][]string{{"script, not run", "of", "instead"}}
		for _, o := range s.Scripts {
			rows = append(rows, []string{o.Script, o.Package, o.Result + told(o)})
		}
		table(w, nil, rows)
	}
	for _, p := range s.Packages {
		for _, list := range []struct {
			what  string
			paths []string
		}{{"is not what the package brought", p.Changed}, {"is in the database and not in the image", p.Missing}} {
			if len(list.paths) > 0 {
				fmt.Fprintf(w, "note: %s\n", plain(fmt.Sprintf("%s: /%s%s %s", p.Name, list.paths[0], more(len(list.paths)-1), list.what)))
			}
		}
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", plain(strings.TrimSpace(warning.Package+" "+warning.Text)))
	}
	for _, file := range s.List {
		fmt.Fprintln(w, plain(file))
	}
	fmt.Fprintln(w)
}

// told is what the composer did in place of a script, or why the image does without.
func told(o images.ScriptOutcome) string {
	text := cmp.Or(strings.Join(o.Did, ", "), o.Reason)
	if text == "" {
		return ""
	}
	return ": " + text
}

// words are the words of a command, quoted where they are not plain.
func words(all []string) string {
	quoted := make([]string, len(all))
	for i, w := range all {
		quoted[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$") {
			quoted[i] = strconv.Quote(w)
		}
	}
	return strings.Join(quoted, " ")
}

// shortDigest is enough of a digest to tell it from others: 12 digits.
func shortDigest(digest string) string {
	algorithm, digits, found := strings.Cut(digest, ":")
	if !found {
		return digest
	}
	return algorithm + ":" + digits[:min(12, len(digits))]
}

func unowned(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d that no package owns", n)
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// some lists a few names, and how many more there are; none where there are none.
func some(names []string, none string) string {
	const most = 6
	switch {
	case len(names) == 0:
		runes := []rune(flat(none))
		if len(runes) > 60 {
			return string(runes[:57]) + "..."
		}
		return string(runes)
	case len(names) > most:
		return strings.Join(names[:most], " ") + more(len(names)-most)
	}
	return strings.Join(names, " ")
}
