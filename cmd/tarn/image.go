package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

type imageOptions struct {
	arches       []string
	repositories []string
	trustFlags
	packages  []string
	output    string
	tag       string
	buildDate string
	files     bool
}

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "compose images of packages",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.imageBuildCommand(), a.imageShowCommand())
	return cmd
}

func (o *imageOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&o.arches, "arch", nil, "architectures (default: the image file's archs, else this machine's)")
	f.StringSliceVarP(&o.repositories, "repository-append", "r", nil, "a further repository: a folder or an address")
	o.trustFlags.add(f)
	f.StringSliceVarP(&o.packages, "package-append", "p", nil, "a further package")
	f.StringVar(&o.buildDate, "build-date", "", "when the image was created, as RFC 3339 or Unix seconds (default: $SOURCE_DATE_EPOCH, else when its newest package was built)")
	o.addUntrusted(f, "ignore-signatures")
}

func (a *app) imageBuildCommand() *cobra.Command {
	var o imageOptions
	cmd := &cobra.Command{
		Use:   "build [IMAGE...]",
		Short: "compose images as OCI layouts and as archives for docker load",
		Long: `build composes the named image files (by name, or by file; all of the workspace when
none is named) of the packages in the workspace's repository and in those that the
file names. Each lies in OUTPUT/NAME (OCI layout) and OUTPUT/NAME.tar, its SBOM in
OUTPUT/NAME.spdx.json. Nothing of a package is run.`,
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImageBuild(cmd.Context(), o, args) },
	}
	o.add(cmd)
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "the folder to write to (default: images below the workspace's output)")
	cmd.Flags().StringVarP(&o.tag, "tag", "t", "", "the name in the archive (default: NAME:latest)")
	return cmd
}

func (a *app) imageShowCommand() *cobra.Command {
	var o imageOptions
	cmd := &cobra.Command{
		Use:               "show IMAGE...",
		Short:             "show what an image holds",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImageShow(cmd.Context(), o, args) },
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&o.files, "files", false, "list every file")
	return cmd
}

// composer composes the images of one run.
type composer struct {
	*app
	ws    *workspace
	store *store.Store
	keys  *sign.Keyring
	o     imageOptions
}

func (a *app) openComposer(o imageOptions) (*composer, error) {
	ws, err := a.workspace()
	if err != nil {
		return nil, err
	}
	st, err := a.store(ws)
	if err != nil {
		return nil, err
	}
	keys, err := keyring(ws, o.keyrings)
	if err != nil {
		return nil, err
	}
	return &composer{a, ws, st, keys, o}, nil
}

// specs reads the named image files, or all.
func (c *composer) specs(names []string) ([]*images.Spec, error) {
	if len(names) == 0 {
		for _, dir := range c.ws.Images {
			found, err := filepath.Glob(filepath.Join(c.ws.path(dir), "*.yaml"))
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
		if len(names) == 0 {
			fmt.Fprintf(c.err, "there are no image files in %s\n", strings.Join(c.ws.Images, ", "))
		}
	}
	var specs []*images.Spec
	var problems diag.Problems
	for _, name := range names {
		file, err := c.imageFile(name)
		if err != nil {
			return nil, err
		}
		s, err := c.loadImage(file)
		if found, listed := diag.Of(err); listed {
			problems = append(problems, found...)
			continue
		} else if err != nil {
			return nil, err
		}
		specs = append(specs, s)
	}
	return specs, problems.Err()
}

// loadImage reads an image file and what it includes, which lies in the workspace's
// folder, or in the file's own when that is elsewhere: nothing leads out of there.
func (c *composer) loadImage(file string) (*images.Spec, error) {
	dir := c.ws.dir
	name, err := filepath.Rel(dir, file)
	if err != nil || !filepath.IsLocal(name) {
		dir, name = filepath.Split(file)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	s, err := images.LoadAs(root.FS(), name, func(f string) string { return relative(filepath.Join(dir, f)) })
	if err != nil {
		return nil, err
	}
	s.Path = file
	return s, nil
}

// imageFile finds an image file by its path or by its name.
func (c *composer) imageFile(name string) (string, error) {
	if isFile(name) {
		if _, err := os.Stat(name); err != nil {
			return "", usagef("%v", err)
		}
		return filepath.Abs(name)
	}
	var all []string
	for _, dir := range c.ws.Images {
		file := filepath.Join(c.ws.path(dir), name+".yaml")
		if _, err := os.Stat(file); err == nil && name == filepath.Base(name) {
			return file, nil
		}
		found, _ := filepath.Glob(filepath.Join(c.ws.path(dir), "*.yaml"))
		for _, f := range found {
			all = append(all, strings.TrimSuffix(filepath.Base(f), ".yaml"))
		}
	}
	hint := diag.DidYouMean(name, all)
	if hint != "" {
		hint = "\n  hint: " + hint
	}
	return "", usagef("unknown image %q%s", name, hint)
}

// compose solves and composes an image for the architectures asked for.
func (c *composer) compose(ctx context.Context, s *images.Spec) ([]*images.Image, error) {
	names := c.o.arches
	if len(names) == 0 {
		names = s.Archs
	}
	arches, err := parseArches(names)
	if err != nil {
		return nil, err
	}
	var composed []*images.Image
	for _, arch := range arches {
		image, err := c.composeArch(ctx, s, arch)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", relative(s.Path), err)
		}
		composed = append(composed, image)
	}
	return composed, nil
}

func (c *composer) composeArch(ctx context.Context, s *images.Spec, arch apk.Arch) (*images.Image, error) {
	set, keyFiles, err := c.repositories(ctx, s)
	if err != nil {
		return nil, err
	}
	// The image's world is what was asked for, by its file or by flags.
	asked := *s
	asked.World = slices.Clone(s.World)
	for _, text := range c.o.packages {
		r, err := solve.ParseRequirement(text)
		if err != nil {
			return nil, usagef("--package-append: %v", err)
		}
		r.From = "--package-append"
		asked.World = append(asked.World, r)
	}
	lock, err := set.Resolve(ctx, arch, asked.World, solve.Options{AnyRevision: true})
	if err != nil {
		return nil, err
	}
	if err := c.tellDoubles(ctx, c.err, set, arch, lock); err != nil {
		return nil, err
	}
	packages := make([]images.Package, len(lock))
	for i, locked := range lock {
		digest, err := locked.Fetch(ctx, c.store)
		if err != nil {
			return nil, err
		}
		packages[i] = images.Package{Entry: locked.Entry, Digest: digest, From: locked.From}
	}
	o := images.Options{Arch: arch, Store: c.store, Keys: keyFiles}
	date := c.o.buildDate
	if date == "" {
		date = os.Getenv("SOURCE_DATE_EPOCH")
	}
	if date != "" {
		if o.Epoch, err = parseDate(date); err != nil {
			return nil, err
		}
	}
	return images.Compose(ctx, &asked, packages, o)
}

// repositories are where an image's packages come from: the workspace's own
// repository, those of the image file, those of flags and workspace.
func (c *composer) repositories(ctx context.Context, s *images.Spec) (repo.Set, map[string][]byte, error) {
	keyFiles := map[string][]byte{}
	keys := c.keys
	for _, location := range s.Contents.Keyring {
		name, data, err := c.readKey(ctx, location)
		if err != nil {
			return nil, nil, err
		}
		key, err := sign.ParsePublic(name, data)
		if err == nil {
			err = keys.Add(key)
		}
		if err != nil {
			return nil, nil, err
		}
		keyFiles[name] = data
	}
	var locations []string
	own := c.ws.path(c.ws.Packages)
	if _, err := os.Stat(own); err == nil {
		locations = append(locations, own)
	}
	locations = slices.Concat(locations, s.Contents.Repositories, s.Contents.BuildRepositories, c.o.repositories, c.ws.Repositories)
	var set repo.Set
	for _, text := range locations {
		tag, location := cutTag(text)
		if !strings.Contains(location, "://") {
			location = c.ws.path(location)
		}
		r, err := c.openRepository(c.ws, c.store, &c.o.trustFlags, keys, location)
		if err != nil {
			return nil, nil, err
		}
		if tag != "" {
			set = append(set, repo.Tagged{Source: r, Tag: tag})
			continue
		}
		set = append(set, r)
	}
	if len(set) == 0 {
		return nil, nil, errors.New("there is no repository to take packages from\n  hint: tarn build, or name one with --repository-append")
	}
	return set, keyFiles, nil
}

// readKey reads a public key that an image file names: a file, or an address.
func (c *composer) readKey(ctx context.Context, location string) (string, []byte, error) {
	name := filepath.Base(location)
	if !strings.Contains(location, "://") {
		data, err := os.ReadFile(c.ws.path(location))
		return name, data, err
	}
	if c.offline {
		return "", nil, fmt.Errorf("read key %s: the network is off (--offline)", location)
	}
	data, err := repo.FetchKey(ctx, nil, location)
	return name, data, err
}

// imageRow is one composed image.
type imageRow struct {
	Image    string   `json:"image"`
	Arch     apk.Arch `json:"arch"`
	Digest   string   `json:"digest"`
	Packages int      `json:"packages"`
	Files    int      `json:"files"`
	Size     int64    `json:"size"`
	Layers   int      `json:"layers"`
	Seconds  float64  `json:"seconds"`
	Layout   string   `json:"layout"`
	Archive  string   `json:"archive"`
	SBOM     string   `json:"sbom"`
}

func (a *app) runImageBuild(ctx context.Context, o imageOptions, names []string) error {
	c, err := a.openComposer(o)
	if err != nil {
		return err
	}
	specs, err := c.specs(names)
	if err != nil {
		return err
	}
	if len(specs) > 1 && o.tag != "" {
		return usagef("--tag is for one image, and there are %d", len(specs))
	}
	var rows []imageRow
	var errs []error
	for _, s := range specs {
		some, err := c.write(ctx, s)
		rows = append(rows, some...)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			errs = append(errs, err)
		}
	}
	if a.json {
		if err := a.printJSON(rows); err != nil {
			return err
		}
	} else if len(rows) > 0 {
		lines := [][]string{{"image", "packages", "files", "size", "layers", "time", "layout"}}
		for _, r := range rows {
			lines = append(lines, []string{r.Image, strconv.Itoa(r.Packages), strconv.Itoa(r.Files), shortSize(r.Size), strconv.Itoa(r.Layers), shortDuration(time.Duration(r.Seconds * float64(time.Second))), relative(r.Layout)})
		}
		table(a.out, map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true}, lines)
	}
	return errors.Join(errs...)
}

// write composes one image and writes its files.
func (c *composer) write(ctx context.Context, s *images.Spec) ([]imageRow, error) {
	start := time.Now()
	composed, err := c.compose(ctx, s)
	if err != nil {
		return nil, err
	}
	dir := c.o.output
	if dir == "" {
		dir = filepath.Join(c.ws.path(c.ws.Output), "images")
	}
	layout := filepath.Join(dir, s.Name())
	if err := images.WriteLayout(ctx, layout, composed...); err != nil {
		return nil, err
	}
	tag := c.o.tag
	if tag == "" {
		tag = s.Name() + ":latest"
	}
	var rows []imageRow
	for _, image := range composed {
		several := len(composed) > 1
		archive, sbom := filepath.Join(dir, image.About.FileName(".tar", several)), filepath.Join(dir, image.About.FileName(".spdx.json", several))
		if err := image.WriteArchive(archive, tag); err != nil {
			return nil, err
		}
		if err := image.WriteSBOM(sbom); err != nil {
			return nil, err
		}
		for _, w := range image.About.Warnings {
			fmt.Fprintf(c.err, "%s: warning: %s\n", relative(s.Path), plain(strings.TrimSpace(w.Package+" "+w.Text)))
		}
		rows = append(rows, imageRow{
			Image: s.Name(), Arch: image.About.Arch, Digest: image.About.Digest, Packages: len(image.About.Packages), Files: image.About.Files,
			Size: image.About.Size, Layers: len(image.About.Layers), Seconds: time.Since(start).Seconds(), Layout: layout, Archive: archive, SBOM: sbom,
		})
	}
	return rows, nil
}

func (a *app) runImageShow(ctx context.Context, o imageOptions, names []string) error {
	c, err := a.openComposer(o)
	if err != nil {
		return err
	}
	specs, err := c.specs(names)
	if err != nil {
		return err
	}
	var all []images.About
	for _, s := range specs {
		composed, err := c.compose(ctx, s)
		if err != nil {
			return err
		}
		for _, image := range composed {
			all = append(all, image.About)
			if a.json {
				continue
			}
			a.showImage(&image.About)
			if o.files {
				if err := image.List(a.out); err != nil {
					return err
				}
			}
		}
	}
	if a.json {
		return a.printJSON(all)
	}
	return nil
}

func (a *app) showImage(about *images.About) {
	fmt.Fprintf(a.out, "%s (%s)  %s\n", about.Name, about.Arch, about.Digest)
	fmt.Fprintf(a.out, "entrypoint: %s\n", strings.Join(about.Config.Entrypoint, " "))
	if len(about.Config.Cmd) > 0 {
		fmt.Fprintf(a.out, "cmd:        %s\n", strings.Join(about.Config.Cmd, " "))
	}
	user := about.Config.User
	if user == "" {
		user = "0"
	}
	fmt.Fprintf(a.out, "user:       %s\n", user)
	fmt.Fprintf(a.out, "files:      %d, %s\n\n", about.Files, shortSize(about.Size))
	rows := [][]string{{"package", "version", "origin", "files", "size"}}
	for _, p := range about.Packages {
		rows = append(rows, []string{p.Name, string(p.Version), p.Origin, strconv.Itoa(p.Files), shortSize(p.Size)})
	}
	table(a.out, map[int]bool{3: true, 4: true}, rows)
	fmt.Fprintln(a.out)
	rows = [][]string{{"layer", "size", "packages"}}
	for _, l := range about.Layers {
		rows = append(rows, []string{l.Digest, shortSize(l.Size), strings.Join(l.Packages, " ")})
	}
	table(a.out, map[int]bool{1: true}, rows)
	for _, w := range about.Warnings {
		fmt.Fprintf(a.out, "warning: %s\n", strings.TrimSpace(w.Package+" "+w.Text))
	}
	fmt.Fprintln(a.out)
}
