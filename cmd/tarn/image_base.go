package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// base reads the image that an image file's packages are put on top of; nil for none.
func (c *composer) base(ctx context.Context, s *images.Spec, arch apk.Arch) (*images.Base, error) {
	asked := s.Contents.BaseImage
	if asked == nil {
		return nil, nil
	}
	wrong := func(key string, err error) error {
		if ctx.Err() != nil || is[*store.CorruptError](err) {
			return err
		}
		return s.Contents.Here.Value("baseimage").Value(key).Problem("", "base image: %v", err)
	}
	dir := c.beside(s, asked.Image)
	opened, err := view.Open(ctx, "oci:"+dir, view.Options{Arches: []apk.Arch{arch}, Keep: tellsOfBase})
	if err != nil {
		return nil, wrong("image", err)
	}
	defer opened.Close()
	if len(opened.Images) != 1 {
		return nil, wrong("image", fmt.Errorf("the layout has %d images for %s", len(opened.Images), arch))
	}
	image := opened.Images[0]
	contents, err := image.Read(ctx)
	if err != nil {
		return nil, wrong("image", err)
	}
	b := &images.Base{Digest: image.Digest, Config: *image.Config, Tree: contents.Tree, World: contents.World, Database: path.Dir(contents.Database), Sonames: map[string]string{}, Programs: map[string]string{}, SHA1: map[string]string{}}
	if contents.Database == "" {
		return nil, wrong("image", errors.New("it has no database of apk"))
	}
	for _, p := range contents.Packages {
		if p.Entry != nil {
			b.Packages = append(b.Packages, p.Entry)
		}
	}
	for p, f := range contents.Files {
		b.SHA1[p] = f.SHA1
		if f.Soname != "" {
			b.Sonames[p] = f.Soname
		}
		if f.Program != "" {
			b.Programs[p] = f.Program
		}
	}
	for i, l := range contents.Layers {
		if err := c.keepLayer(dir, l.Digest); err != nil {
			return nil, wrong("image", err)
		}
		b.Layers = append(b.Layers, images.Layer{Files: l.Files, Digest: l.Digest, DiffID: l.DiffID, Size: l.Size, Unpacked: l.Unpacked, MediaType: image.Manifest.Layers[i].MediaType})
	}
	if err := sameIndex(c.beside(s, asked.APKIndex), arch, b.Packages); err != nil {
		return nil, wrong("apkindex", err)
	}
	return b, nil
}

// tellsOfBase names the files of a base that composing on top of it may have to read.
func tellsOfBase(p string) bool {
	for _, dir := range []string{"etc/", "usr/lib/apk/db/", "lib/apk/db/", "usr/local/share/ca-certificates/", "usr/share/ca-certificates/"} {
		if strings.HasPrefix(p, dir) {
			return true
		}
	}
	return false
}

// beside is a path of an image file: beside it, else from the workspace's folder.
func (c *composer) beside(s *images.Spec, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	if near := filepath.Join(filepath.Dir(s.Path), name); exists(near) {
		return near
	}
	return c.ws.path(name)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// keepLayer puts a layer of a layout into the store, held against its digest.
func (c *composer) keepLayer(dir, digest string) error {
	algorithm, hash, _ := strings.Cut(digest, ":")
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.Open(path.Join("blobs", algorithm, hash))
	if err != nil {
		return err
	}
	defer f.Close()
	got, _, err := c.store.Put(f)
	if err == nil && string(got) != digest {
		err = fmt.Errorf("layer %s: its bytes have the digest %s", digest, got)
	}
	return err
}

// sameIndex holds the index of a base against what the base itself says is installed in
// it: where they differ, one is of another image.
func sameIndex(dir string, arch apk.Arch, installed []*apk.Entry) error {
	file := filepath.Join(dir, string(arch), "APKINDEX")
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not there: it lists what is installed in the image, as its /usr/lib/apk/db/installed does", relative(file))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	listed, err := apk.ReadInstalled(f, apk.Limits{})
	if err != nil {
		return fmt.Errorf("%s: %w", relative(file), err)
	}
	var index, image []string
	for _, p := range listed {
		index = append(index, p.FullName())
	}
	for _, e := range installed {
		image = append(image, e.FullName())
	}
	for _, name := range image {
		if !slices.Contains(index, name) {
			return fmt.Errorf("%s does not list %s, which is installed in the image", relative(file), name)
		}
	}
	for _, name := range index {
		if !slices.Contains(image, name) {
			return fmt.Errorf("%s lists %s, which is not installed in the image", relative(file), name)
		}
	}
	return nil
}

// baseSource offers what is in a base already.
type baseSource struct{ base *images.Base }

func (b baseSource) Name() string { return "the base image" }

func (b baseSource) Packages(_ context.Context, _ apk.Arch) ([]*apk.Entry, error) {
	return b.base.Packages, nil
}

func (b baseSource) Identity(e *apk.Entry) string { return e.Identity() }

func (b baseSource) Fetch(context.Context, *store.Store, *apk.Entry) (store.Digest, error) {
	return "", errors.New("internal error: a package of the base image is fetched")
}

// onBase lets a world be solved on top of a base: what is there stays as it is.
func onBase(b *images.Base, set repo.Set, world []solve.Requirement) (repo.Set, []solve.Requirement) {
	if b == nil {
		return set, world
	}
	world = slices.Clone(world)
	for _, e := range b.Packages {
		world = append(world, solve.Requirement{Dependency: apk.Dependency{Name: e.Name, Op: apk.Equal, Version: e.Version}, From: "the base image"})
	}
	return append(repo.Set{baseSource{b}}, set...), world
}

// withoutBase leaves out what is in the base.
func withoutBase(lock repo.Lock) repo.Lock {
	return slices.DeleteFunc(lock, func(l repo.Locked) bool {
		_, there := l.Source.(baseSource)
		return there
	})
}

// basePackages are those of a base, as what satisfies a world.
func basePackages(b *images.Base) []images.Package {
	if b == nil {
		return nil
	}
	var all []images.Package
	for _, e := range b.Packages {
		all = append(all, images.Package{Entry: e, From: "the base image"})
	}
	return all
}
