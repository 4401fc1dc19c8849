package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
