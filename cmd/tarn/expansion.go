package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/recipes"
)

// expansion makes scripts of recipes.
type expansion struct {
	target    recipes.Target
	pipelines *recipes.Pipelines
	sourceDir string // the local files of the named recipes, "" for the folder beside each
	named     []string
	timeout   time.Duration // of each, in place of what it says; 0 for that
	// checkout gives the git checkout of a folder with recipes, where it is to be noted in
	// packages; may be nil.
	checkout func(dir string) checkout
}

// expanded is what became of one recipe's file.
type expanded struct {
	recipe *recipes.Recipe
	script *recipes.Script // with an error what could be made of it, or nil
	err    error
}

// file reads a recipe's file and expands it. The error has all mistakes of both.
func (x *expansion) file(path string) expanded {
	r, err := recipes.LoadFile(path)
	if r == nil {
		if _, listed := diag.Of(err); !listed {
			err = diag.Problem{File: path, Text: fmt.Sprintf("read recipe: %v", err)}
		}
		return expanded{err: err}
	}
	return x.recipe(r)
}

// recipe expands a recipe as far as it could be read.
func (x *expansion) recipe(r *recipes.Recipe) expanded {
	if x.sourceDir != "" && x.isNamed(r) {
		root, err := os.OpenRoot(x.sourceDir)
		if err != nil {
			return expanded{r, nil, usagef("--source-dir: %v", err)}
		}
		// The recipe reads it later: root is closed when nothing refers to it.
		r.Files = root.FS()
	}
	target := x.target
	if x.checkout != nil && (target.Commit == "" || target.RepositoryURL == "") {
		c := x.checkout(filepath.Dir(r.Path()))
		target.Commit = cmp.Or(target.Commit, c.commit)
		target.RepositoryURL = cmp.Or(target.RepositoryURL, c.repository)
	}
	s, err := recipes.Expand(r, target, x.pipelines)
	if s != nil && x.timeout > 0 {
		s.Timeout = x.timeout
	}
	return expanded{r, s, err}
}

// isNamed tells whether a recipe is one of those that were asked for.
func (x *expansion) isNamed(r *recipes.Recipe) bool {
	return len(x.named) == 0 || slices.ContainsFunc(x.named, func(name string) bool {
		return name == r.Path() || name == r.Package.Name || isFile(name) && recipeOf(name) == recipeOf(r.Path())
	})
}

// each reads and expands files side by side, and gives them in their order.
func (x *expansion) each(files []string) iter.Seq[expanded] {
	return func(yield func(expanded) bool) {
		// Next to nothing of what is made on the way stays: collecting it seldom is cheaper.
		defer debug.SetGCPercent(debug.SetGCPercent(400))
		results := make([]chan expanded, len(files))
		for i := range results {
			results[i] = make(chan expanded, 1)
		}
		var next atomic.Int64
		for range min(runtime.GOMAXPROCS(0), len(files)) {
			go func() {
				for i := int(next.Add(1)) - 1; i < len(files); i = int(next.Add(1)) - 1 {
					results[i] <- x.file(files[i])
				}
			}()
		}
		for _, result := range results {
			if !yield(<-result) {
				next.Store(int64(len(files)))
				return
			}
		}
	}
}

// find gives the files of recipes that are named by file, by their own name, or by that of
// one of their packages: all of the workspace when none is named.
func (x *expansion) find(ws *workspace, names []string) (files []string, err error) {
	inWorkspace := func() (all []string, err error) {
		for _, dir := range ws.Recipes {
			entries, err := os.ReadDir(ws.path(dir))
			if errors.Is(err, fs.ErrNotExist) && !ws.place.Has("recipes") {
				continue
			} else if err != nil {
				return nil, err
			}
			for _, entry := range entries {
				if recipes.IsRecipe(entry.Name()) && entry.Type()&^fs.ModeSymlink == 0 {
					all = append(all, relative(filepath.Join(ws.path(dir), entry.Name())))
				}
			}
		}
		return all, nil
	}
	if len(names) == 0 {
		return inWorkspace()
	}
	var all []string
	byPackage := map[string]string{}
	for _, name := range names {
		if isFile(name) {
			if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
				return nil, usagef("there is no recipe %q", name)
			}
			files = append(files, name)
			continue
		}
		if all == nil {
			if all, err = inWorkspace(); err != nil {
				return nil, err
			}
		}
		if i := slices.IndexFunc(all, func(file string) bool { return recipeOf(file) == name }); i >= 0 {
			files = append(files, all[i])
			continue
		}
		if len(byPackage) == 0 {
			for r := range x.each(all) {
				if r.script != nil {
					for _, p := range r.script.Packages {
						byPackage[p.Name] = r.recipe.Path()
					}
				}
			}
		}
		file, found := byPackage[name]
		if !found {
			var known []string
			for _, file := range all {
				known = append(known, recipeOf(file))
			}
			return nil, unknownRecipe(name, known)
		}
		files = append(files, file)
	}
	return files, nil
}

// recipeOf is the name of the recipe that a file is called after.
func recipeOf(file string) string { return strings.TrimSuffix(filepath.Base(file), ".yaml") }

// isFile tells whether an argument names a recipe by its file.
func isFile(name string) bool { return strings.HasSuffix(name, ".yaml") }

// unknownRecipe says that no recipe has a name, and which was probably meant.
func unknownRecipe(name string, known []string) error {
	if hint := diag.DidYouMean(name, known); hint != "" {
		return usagef("unknown recipe %q\n  hint: %s", name, hint)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return usagef("%q is a folder\n  hint: name its recipes: %s", name, filepath.Join(name, "*.yaml"))
	}
	return usagef("unknown recipe %q", name)
}
