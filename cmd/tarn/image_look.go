package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/registry"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/apk"
)

// lookLong tells what an IMAGE is for the verbs that look at images.
const lookLong = `IMAGE is an image file of the workspace (its name or path), which is composed; or any
image, whoever made it:

  DIR, oci:DIR                          an OCI layout
  FILE, oci-archive:, docker-archive:   an archive of one, or of docker save
  HOST/NAME:TAG, docker://NAME:TAG      an image in a registry

Of a layout or archive that holds several, PATH:TAG or PATH@sha256:DIGEST is one. Nothing
of an image is extracted or run.`

// lookOptions say how images are opened.
type lookOptions struct {
	imageOptions
	insecure bool
}

func (o *lookOptions) add(cmd *cobra.Command) {
	o.imageOptions.add(cmd)
	cmd.Flags().BoolVar(&o.insecure, "insecure-registry", false, "speak plain HTTP with registries that have no TLS")
}

// looked is an image that is looked at.
type looked struct {
	composer *composer
	ref      string
	spec     *images.Spec    // of an image file
	composed []*images.Image // of an image file, one for each of opened.Images
	opened   *view.Opened
}

func (l *looked) close() {
	if l.opened != nil {
		l.opened.Close()
	}
}

// look opens an image: an image file, which is composed, or what view.Open takes.
func (c *composer) look(ctx context.Context, ref string, insecure bool) (*looked, error) {
	arches := c.o.arches
	if file, err := c.imageFileOf(ref); err != nil {
		return nil, err
	} else if file != "" {
		specs, err := c.specs([]string{file})
		if err != nil {
			return nil, err
		}
		l := &looked{composer: c, ref: ref, spec: specs[0]}
		if l.composed, err = c.compose(ctx, l.spec); err != nil {
			return nil, err
		}
		all := make([]v1.Image, len(l.composed))
		for i, image := range l.composed {
			if all[i], err = image.OCI(); err != nil {
				return nil, err
			}
		}
		l.opened, err = view.Composed(ref, view.Options{}, all...)
		return l, err
	}
	var wanted []apk.Arch
	if len(arches) > 0 {
		var err error
		if wanted, err = parseArches(arches); err != nil {
			return nil, err
		}
	}
	opened, err := view.Open(ctx, ref, view.Options{Arches: wanted, Registry: &registry.Client{Insecure: insecure, Offline: c.offline}})
	if is[*view.NotFoundError](err) {
		return nil, usagef("%v", err)
	}
	return &looked{composer: c, ref: ref, opened: opened}, err
}

// imageFileOf gives the path of the image file that is meant, or "" where another image
// is. What is no path and no reference can only be the name of an image file.
func (c *composer) imageFileOf(ref string) (string, error) {
	switch {
	case isFile(ref):
		return c.imageFile(ref)
	case strings.ContainsAny(ref, "/:@"), strings.HasPrefix(ref, "."):
		return "", nil
	}
	file, err := c.imageFile(ref)
	if err == nil {
		return file, nil
	}
	if _, other := os.Stat(ref); other == nil {
		return "", nil
	}
	if strings.Contains(err.Error(), "hint:") {
		return "", err
	}
	return "", fmt.Errorf("%w\n  hint: name an image file, a layout, an archive, or docker://%s for what a registry has", err, ref)
}

// contents reads an image of each architecture.
func (l *looked) contents(ctx context.Context) ([]*view.Contents, error) {
	all := make([]*view.Contents, len(l.opened.Images))
	for i, image := range l.opened.Images {
		var err error
		if all[i], err = image.Read(ctx); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// name is what an image is called in a heading.
func (l *looked) name() string {
	if l.spec != nil {
		return l.spec.Name()
	}
	if filepath.IsAbs(l.ref) {
		return relative(l.ref)
	}
	return l.ref
}

// lookAll opens several images; mistakes of all are told at once.
func (c *composer) lookAll(ctx context.Context, refs []string, insecure bool) ([]*looked, error) {
	var all []*looked
	var errs []error
	for _, ref := range refs {
		l, err := c.look(ctx, ref, insecure)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, l)
	}
	if len(errs) > 0 {
		for _, l := range all {
			l.close()
		}
		return nil, errors.Join(errs...)
	}
	return all, nil
}
