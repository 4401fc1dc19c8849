package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// completeRecipes offers the names of the workspace's recipes, and files.
func (a *app) completeRecipes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.completeNames(args, func(w *workspace) []string { return w.Recipes }), cobra.ShellCompDirectiveDefault
}

// completeImages offers the names of the workspace's images, and files.
func (a *app) completeImages(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.completeNames(args, func(w *workspace) []string { return w.Images }), cobra.ShellCompDirectiveDefault
}

// completeNames gives the names of the YAML files of folders, but for those already
// said. A shell that completes a line has no place for mistakes: they offer nothing.
func (a *app) completeNames(said []string, folders func(*workspace) []string) []string {
	w, err := a.workspace()
	if err != nil {
		return nil
	}
	var names []string
	for _, dir := range folders(w) {
		files, err := filepath.Glob(filepath.Join(w.path(dir), "*.yaml"))
		if err != nil {
			continue
		}
		for _, file := range files {
			if name := strings.TrimSuffix(filepath.Base(file), ".yaml"); name+".yaml" != workspaceFile && !slices.Contains(said, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
