package main

import (
	"cmp"
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
)

func (a *app) imageBuildCommand() *cobra.Command {
	var o imageBuildOptions
	cmd := &cobra.Command{
		Use:   "build [IMAGE...]",
		Short: "compose images as OCI layouts, archives for docker load and root file systems",
		Long: `build composes the named image files (by name, or by file; all of the workspace when
none is named) of the packages in the workspace's repository and in those that the
file names. Nothing of a package is run. --format chooses what is written:

  oci      OUTPUT/NAME, an OCI layout
  docker   OUTPUT/NAME.tar, for docker load and podman load, and an OCI archive as well;
           with several architectures all are in it, each with its own behind the tag
           for programs that know none: NAME:latest-arm64
  rootfs   OUTPUT/NAME.rootfs.tar.gz, the root file system
  cpio     OUTPUT/NAME.cpio.gz, the root file system as Linux takes it for an
           initramfs; the kernel starts /init there

The SBOM lies in OUTPUT/NAME.spdx.json, that of the index in NAME-index.spdx.json. With
several architectures those files that hold one are called NAME-ARCH. What is there
already as it was left is not written again.

--sign KEY signs as tarn image publish does: the layout holds the index of the images,
and beside it and them signatures and attestations of their SBOM and provenance. tarn
image verify OUTPUT/NAME checks them, and tarn image publish OUTPUT/NAME takes them along.

Where there is a lock beside an image file (NAME.lock.json, see tarn image lock) the
packages are those that it names. One image that fails does not stop the others.`,
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImageBuild(cmd.Context(), o, args) },
	}
	o.add(cmd)
	cmd.Flags().StringSliceVar(&o.formats, "format", []string{"oci", "docker"}, "what to write: oci, docker, rootfs, cpio")
	o.sbom.add(cmd.Flags())
	o.addJobs(cmd)
	o.signing.add(cmd.Flags())
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "the folder to write to (default: images below the workspace's output)")
	cmd.Flags().StringVarP(&o.tag, "tag", "t", "", "the name in layout, archive and signatures (default: NAME:latest)")
	return cmd
}

type imageBuildOptions struct {
	imageOptions
	signing imageSigning
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
	Layout   string   `json:"layout,omitempty"`
	SignedBy []string `json:"signed_by,omitempty"` // beside the images of the layout
	Archive  string   `json:"archive,omitempty"`   // of all architectures
	RootFS   string   `json:"rootfs,omitempty"`
	CPIO     string   `json:"cpio,omitempty"`
	SBOM     string   `json:"sbom,omitempty"`
	SBOMs    []string `json:"sboms,omitempty"` // in all formats, and those of the index
	Lock     string   `json:"lock,omitempty"`  // the lock that named the packages
}

// failedImage is an image that was not composed, for programs.
type failedImage struct {
	Image string `json:"image"`
	Error string `json:"error"`
}

func (a *app) runImageBuild(ctx context.Context, o imageBuildOptions, names []string) error {
	if err := checkFormats(&o.imageOptions); err != nil {
		return err
	}
	if len(o.signing.keys) > 0 && !slices.Contains(o.formats, "oci") {
		return usagef("--sign: what is signed lies beside the images of a layout, and --format asks for none\n  hint: --format oci")
	}
	if o.tag != "" { // before anything is composed
		if _, err := images.ParseTag(o.tag); err != nil {
			return usagef("--tag: %v", err)
		}
	}
	c, err := a.openComposer(o.imageOptions)
	if err != nil {
		return err
	}
	specs, mistakes, err := c.specsToDo(names)
	if err != nil {
		return err
	}
	if err := differentNames(specs); err != nil {
		return err
	}
	if len(specs) > 1 && o.tag != "" {
		return usagef("--tag is for one image, and there are %d", len(specs))
	}
	if err := o.sbom.check(len(specs)); err != nil {
		return err
	}
	keys, err := o.signing.signers(a)
	if err != nil {
		return err
	}
	rows := make([][]imageRow, len(specs))
	failed, err := c.each(ctx, specs, o.atOnce(), func(ctx context.Context, i int, s *images.Spec) (string, error) {
		var err error
		rows[i], err = c.write(ctx, s, keys, o.signing.bare)
		return "", err
	})
	if err := c.printImages(ctx, specs, rows, failed); err != nil {
		return err
	}
	return errors.Join(append(failed, mistakes, err)...)
}

// imageFormats are what an image can be written as.
var imageFormats = []string{"oci", "docker", "rootfs", "cpio"}

// checkFormats reads what is to be written. apko's flag of this name says what layers
// are, tar or erofs: tar they are.
func checkFormats(o *imageOptions) error {
	if slices.Equal(o.formats, []string{"tar"}) {
		o.formats = []string{"oci", "docker"}
	}
	for _, f := range o.formats {
		if !slices.Contains(imageFormats, f) {
			return usagef("--format: unknown format %q%s", f, hintOf(diag.DidYouMean(f, imageFormats), "it is one or more of "+strings.Join(imageFormats, ", ")))
		}
	}
	return nil
}

// wants tells whether a format is to be written.
func (c *composer) wants(format string) bool { return slices.Contains(c.o.formats, format) }

// printImages prints what became of each image.
func (c *composer) printImages(ctx context.Context, specs []*images.Spec, rows [][]imageRow, failed []error) error {
	all := []any{}
	lines := [][]string{{"image", "packages", "files", "size", "layers", "time", "layout"}}
	count := map[string]int{}
	for i, s := range specs {
		switch err := failed[i]; {
		case err == nil:
			count["composed"]++
		case isStopped(ctx, err):
			count["stopped"]++
		default:
			count["failed"]++
			all = append(all, failedImage{s.Name(), err.Error()})
		}
		for _, r := range rows[i] {
			all = append(all, r)
			lines = append(lines, []string{r.Image, strconv.Itoa(r.Packages), strconv.Itoa(r.Files), shortSize(r.Size), strconv.Itoa(r.Layers), shortDuration(time.Duration(r.Seconds * float64(time.Second))), relative(cmp.Or(r.Layout, r.Archive, r.RootFS, r.CPIO))})
		}
	}
	if c.json {
		return c.printJSON(all)
	}
	if len(lines) > 1 {
		table(c.out, map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true}, lines)
	}
	if len(specs) > 1 {
		summary := fmt.Sprintf("composed %d", count["composed"])
		for _, state := range []string{"failed", "stopped"} {
			if count[state] > 0 {
				summary += fmt.Sprintf(", %s %d", state, count[state])
			}
		}
		fmt.Fprintln(c.out, summary)
	}
	return nil
}

// write composes one image and writes its files.
func (c *composer) write(ctx context.Context, s *images.Spec, keys []sign.MessageSigner, bare bool) ([]imageRow, error) {
	start := time.Now()
	composed, err := c.compose(ctx, s)
	if err != nil {
		return nil, err
	}
	dir := c.o.output
	if dir == "" {
		dir = filepath.Join(c.ws.path(c.ws.Output), "images")
	}
	c.begin(s, "write")
	tag := c.o.tag
	if tag == "" {
		tag = s.Name() + ":latest"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var layout, archive string
	if c.wants("oci") {
		layout = filepath.Join(dir, s.Name())
		if err := writeLayout(ctx, layout, tag, composed, keys, bare); err != nil {
			return nil, err
		}
	}
	if c.wants("docker") {
		archive = filepath.Join(dir, s.Name()+".tar")
		if err := images.WriteArchive(ctx, relative(archive), tag, composed...); err != nil {
			return nil, err
		}
	}
	sboms, err := c.o.sbom.write(dir, composed)
	if err != nil {
		return nil, err
	}
	var rows []imageRow
	for i, image := range composed {
		file := func(suffix string) string {
			return filepath.Join(dir, image.About.FileName(suffix, len(composed) > 1))
		}
		row := imageRow{
			Image: s.Name(), Arch: image.About.Arch, Digest: image.About.Digest, Packages: len(image.About.Packages), Files: image.About.Files,
			Size: image.About.Size, Layers: len(image.About.Layers), Layout: layout, Archive: archive, SBOM: first(sboms[i]), SBOMs: append(sboms[i], sboms[len(composed)]...), Lock: c.lockUsed(s),
		}
		for _, key := range keys {
			row.SignedBy = append(row.SignedBy, key.Name())
		}
		if err := c.writeRoots(ctx, s, image, file, &row); err != nil {
			return nil, err
		}
		for _, w := range image.About.Warnings {
			fmt.Fprintf(c.said, "%s: warning: %s\n", relative(s.Path), plain(strings.TrimSpace(w.Package+" "+w.Text)))
		}
		row.Seconds = time.Since(start).Seconds()
		rows = append(rows, row)
	}
	return rows, nil
}

// writeLayout writes images as a layout, with what the keys sign about them. In the
// signatures the images are called as tag says.
func writeLayout(ctx context.Context, dir, tag string, composed []*images.Image, keys []sign.MessageSigner, bare bool) error {
	version, err := images.ParseTag(tag)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return images.WriteLayout(ctx, relative(dir), version, composed...)
	}
	beside, err := gatherSigned(ctx, strings.TrimSuffix(tag, ":"+version), composed, keys, bare)
	if err != nil {
		return err
	}
	return images.WriteSignedLayout(ctx, relative(dir), version, beside, composed...)
}

// writeRoots writes the image's root file system where that is wanted.
func (c *composer) writeRoots(ctx context.Context, s *images.Spec, image *images.Image, file func(string) string, row *imageRow) error {
	if c.wants("rootfs") {
		row.RootFS = file(image.RootSuffix("rootfs"))
		if err := image.WriteRootFS(ctx, relative(row.RootFS)); err != nil {
			return err
		}
	}
	if c.wants("cpio") {
		row.CPIO = file(image.RootSuffix("cpio"))
		lost, err := image.WriteCPIO(ctx, relative(row.CPIO))
		if err != nil {
			return err
		}
		for _, p := range lost {
			fmt.Fprintf(c.said, "%s: warning: /%s has extended attributes, which cpio has not\n", relative(s.Path), plain(p))
		}
	}
	return nil
}
