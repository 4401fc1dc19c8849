package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
)

func (a *app) imageBuildCommand() *cobra.Command {
	var o imageOptions
	cmd := &cobra.Command{
		Use:   "build [IMAGE...]",
		Short: "compose images as OCI layouts and as archives for docker load",
		Long: `build composes the named image files (by name, or by file; all of the workspace when
none is named) of the packages in the workspace's repository and in those that the
file names. Each lies in OUTPUT/NAME (OCI layout) and OUTPUT/NAME.tar, its SBOM in
OUTPUT/NAME.spdx.json. Nothing of a package is run.

Where there is a lock beside an image file (NAME.lock.json, see tarn image lock) the
packages are those that it names. One image that fails does not stop the others.`,
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImageBuild(cmd.Context(), o, args) },
	}
	o.add(cmd)
	cmd.Flags().IntVarP(&o.jobs, "jobs", "j", 0, "how many images to compose at once (default: one for each processor, at most 4)")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "the folder to write to (default: images below the workspace's output)")
	cmd.Flags().StringVarP(&o.tag, "tag", "t", "", "the name in the archive (default: NAME:latest)")
	return cmd
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
	Lock     string   `json:"lock,omitempty"` // the lock that named the packages
}

// failedImage is an image that was not composed, for programs.
type failedImage struct {
	Image string `json:"image"`
	Error string `json:"error"`
}

func (a *app) runImageBuild(ctx context.Context, o imageOptions, names []string) error {
	c, err := a.openComposer(o)
	if err != nil {
		return err
	}
	specs, mistakes, err := c.specsToDo(names)
	if err != nil {
		return err
	}
	if len(specs) > 1 && o.tag != "" {
		return usagef("--tag is for one image, and there are %d", len(specs))
	}
	jobs := o.jobs
	if jobs <= 0 {
		jobs = defaultImages()
	}
	rows := make([][]imageRow, len(specs))
	failed, err := c.each(ctx, specs, jobs, func(ctx context.Context, i int, s *images.Spec) (string, error) {
		var err error
		rows[i], err = c.write(ctx, s)
		return "", err
	})
	if err := c.printImages(ctx, specs, rows, failed); err != nil {
		return err
	}
	return errors.Join(append(failed, mistakes, err)...)
}

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
			lines = append(lines, []string{r.Image, strconv.Itoa(r.Packages), strconv.Itoa(r.Files), shortSize(r.Size), strconv.Itoa(r.Layers), shortDuration(time.Duration(r.Seconds * float64(time.Second))), relative(r.Layout)})
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
	c.begin(s, "write")
	if err := images.WriteLayout(ctx, relative(layout), composed...); err != nil {
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
		if err := image.WriteArchive(ctx, relative(archive), tag); err != nil {
			return nil, err
		}
		if err := image.WriteSBOM(relative(sbom)); err != nil {
			return nil, err
		}
		for _, w := range image.About.Warnings {
			fmt.Fprintf(c.said, "%s: warning: %s\n", relative(s.Path), plain(strings.TrimSpace(w.Package+" "+w.Text)))
		}
		rows = append(rows, imageRow{
			Image: s.Name(), Arch: image.About.Arch, Digest: image.About.Digest, Packages: len(image.About.Packages), Files: image.About.Files,
			Size: image.About.Size, Layers: len(image.About.Layers), Seconds: time.Since(start).Seconds(), Layout: layout, Archive: archive, SBOM: sbom, Lock: c.lockUsed(s),
		})
	}
	return rows, nil
}
