package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images/view"
)

type imageSizeOptions struct {
	lookOptions
	html   string
	series bool
	budget int
	top    int
}

func (a *app) imageSizeCommand() *cobra.Command {
	var o imageSizeOptions
	cmd := &cobra.Command{
		Use:   "size IMAGE...",
		Short: "show what takes the room in images, and what updates re-pull",
		Long: `size shows the packages, files and layers of images by what they take. --html writes
a map of it as one HTML file that needs nothing else.

With --series the images are versions of one that follow each other, the oldest first:
what a client that has the earlier ones pulls for each, as the images are and under each
strategy of layering. A lock, NAME.lock.json, stands there for the image file NAME with
its packages. Sizes by strategy are those of the packages in the layers there are, which
are compressed as a whole: about right, and right to compare.

` + lookLong,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImageSize(cmd.Context(), o, args) },
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.html, "html", "", "write a map to this file")
	cmd.Flags().BoolVar(&o.series, "series", false, "the images follow each other: show what updates re-pull")
	cmd.Flags().IntVar(&o.budget, "budget", 10, "with --series: the layers of the origin strategy")
	cmd.Flags().IntVar(&o.top, "top", 15, "how many packages and files to list; 0 for all")
	return cmd
}

// sizedImage is an image for programs.
type sizedImage struct {
	Image string `json:"image"`
	Arch  string `json:"arch"`
	*view.Sizes
}

func (a *app) runImageSize(ctx context.Context, o imageSizeOptions, refs []string) error {
	if o.series && len(refs) < 2 {
		return usagef("--series compares images that follow each other: name two or more")
	}
	if o.series && o.html != "" {
		return usagef("--series has no map: leave --html or --series out")
	}
	if o.top < 0 || o.budget < 0 {
		return usagef("--top and --budget are not negative")
	}
	c, err := a.openComposer(o.imageOptions)
	if err != nil {
		return err
	}
	var all [][]*view.Contents
	var opened []*looked
	var sized []sizedImage
	var shown []view.Shown
	for _, ref := range refs {
		l, err := c.lookLocked(ctx, ref, o.insecure)
		if err != nil {
			return err
		}
		defer l.close()
		contents, err := l.contents(ctx)
		if err != nil {
			return err
		}
		opened, all = append(opened, l), append(all, contents)
		for i, one := range contents {
			arch := string(l.opened.Images[i].Arch())
			sizes := one.Sizes()
			sized = append(sized, sizedImage{l.name(), arch, sizes})
			shown = append(shown, view.Shown{Name: l.name() + " (" + arch + ")", Sizes: sizes})
		}
	}
	switch {
	case o.series:
		return a.printSeries(o, refs, opened, all)
	case a.json:
		err = a.printJSON(sized)
	default:
		for _, s := range sized {
			a.printSizes(s, o.top)
		}
	}
	if err != nil || o.html == "" {
		return err
	}
	return a.writeTreemap(o.html, shown)
}

// lookLocked opens an image; a lock is its image file, with its packages.
func (c *composer) lookLocked(ctx context.Context, ref string, insecure bool) (*looked, error) {
	name, isLock := strings.CutSuffix(ref, ".lock.json")
	if !isLock {
		return c.look(ctx, ref, insecure)
	}
	if _, err := os.Stat(ref); err != nil {
		return nil, usagef("%v", err)
	}
	file := name + ".yaml"
	if _, err := os.Stat(file); err != nil {
		file = filepath.Base(name) // one of the workspace
	}
	locked := &composer{app: c.app, ws: c.ws, store: c.store, keys: c.keys, o: c.o, said: c.said, opened: c.opened}
	locked.o.lockfile = ref
	l, err := locked.look(ctx, file, insecure)
	if l != nil {
		l.ref = ref
	}
	return l, err
}

func (a *app) writeTreemap(file string, shown []view.Shown) error {
	f, err := renameio.NewPendingFile(file, renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return fmt.Errorf("write map: %w", err)
	}
	defer f.Cleanup()
	if err := view.Treemap(f, shown); err != nil {
		return fmt.Errorf("write map %s: %w", file, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write map: %w", err)
	}
	return nil
}

func (a *app) printSizes(s sizedImage, top int) {
	fmt.Fprintf(a.out, "%s (%s)  %s of files, %s in %s\n\n", plain(s.Image), flat(plain(s.Arch)), shortSize(s.Bytes), shortSize(s.Packed), count(len(s.Layers), "layer"))
	share := func(n int64) string {
		if s.Bytes == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(s.Bytes))
	}
	most := func(n int) int {
		if top == 0 {
			return n
		}
		return min(top, n)
	}
	rows := [][]string{{"package", "version", "files", "size", "share", "packed", "layer"}}
	for _, p := range s.Packages[:most(len(s.Packages))] {
		name := p.Name
		if name == "" {
			name = "(of no package)"
		}
		var layers []string
		for _, l := range p.Layers {
			layers = append(layers, strconv.Itoa(l))
		}
		rows = append(rows, []string{plain(name), plain(p.Version), strconv.Itoa(p.Files), shortSize(p.Bytes), share(p.Bytes), shortSize(p.Packed), strings.Join(layers, " ")})
	}
	table(a.out, map[int]bool{2: true, 3: true, 4: true, 5: true}, rows)
	a.more(len(s.Packages)-most(len(s.Packages)), "packages")
	rows = [][]string{{"layer", "packed", "size", "files", "packages"}}
	for i, l := range s.Layers {
		holds := strings.Join(l.Packages, " ")
		if len(l.Packages) > 6 {
			holds = fmt.Sprintf("%s and %d more", strings.Join(l.Packages[:5], " "), len(l.Packages)-5)
		} else if holds == "" {
			holds = "(" + l.Created + ")"
		}
		rows = append(rows, []string{strconv.Itoa(i + 1), shortSize(l.Size), shortSize(l.Bytes), strconv.Itoa(l.Files), plain(holds)})
	}
	fmt.Fprintln(a.out)
	table(a.out, map[int]bool{1: true, 2: true, 3: true}, rows)
	rows = [][]string{{"file", "size", "share", "package"}}
	for _, f := range s.Files[:most(len(s.Files))] {
		rows = append(rows, []string{plain(f.Path), shortSize(f.Bytes), share(f.Bytes), plain(f.Package)})
	}
	fmt.Fprintln(a.out)
	table(a.out, map[int]bool{1: true, 2: true}, rows)
	a.more(len(s.Files)-most(len(s.Files)), "files")
	fmt.Fprintln(a.out)
}

func (a *app) more(count int, what string) {
	if count > 0 {
		fmt.Fprintf(a.out, "and %d more %s (--top 0 lists all)\n", count, what)
	}
}

// series is what updates re-pull, for programs.
type series struct {
	Arch  string      `json:"arch"`
	Pulls []namedPull `json:"pulls"`
}

type namedPull struct {
	Image string `json:"image"`
	view.Pull
}

// printSeries compares the strategies for each architecture that the first image has.
func (a *app) printSeries(o imageSizeOptions, refs []string, looked []*looked, all [][]*view.Contents) error {
	var out []series
	for i, image := range looked[0].opened.Images {
		arch := image.Arch()
		versions := []*view.Contents{all[0][i]}
		for v := 1; v < len(all); v++ {
			for j, other := range looked[v].opened.Images {
				if other.Arch() == arch {
					versions = append(versions, all[v][j])
					break
				}
			}
			if len(versions) != v+1 {
				return usagef("%s has no image for %s, which %s has", refs[v], arch, refs[0])
			}
		}
		s := series{Arch: string(arch)}
		for v, pull := range view.Series(versions, o.budget) {
			s.Pulls = append(s.Pulls, namedPull{refs[v], pull})
		}
		out = append(out, s)
	}
	if a.json {
		return a.printJSON(out)
	}
	for _, s := range out {
		rows := [][]string{append([]string{"to pull (" + s.Arch + ")", "changed"}, view.Strategies...)}
		sum := map[string]int64{}
		for v, p := range s.Pulls {
			row := []string{plain(p.Image), ""}
			if v > 0 {
				row[1] = strconv.Itoa(len(p.Changed) + len(p.Gone))
			}
			for _, strategy := range view.Strategies {
				row = append(row, shortSize(p.Bytes[strategy]))
				if v > 0 {
					sum[strategy] += p.Bytes[strategy]
				}
			}
			rows = append(rows, row)
		}
		last := []string{"updates together", ""}
		for _, strategy := range view.Strategies {
			last = append(last, shortSize(sum[strategy]))
		}
		table(a.out, map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true}, append(rows, last))
		fmt.Fprintln(a.out)
	}
	return nil
}
