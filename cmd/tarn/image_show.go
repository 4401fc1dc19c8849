package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
)

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
