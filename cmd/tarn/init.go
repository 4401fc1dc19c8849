package main

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// startFiles are what a workspace begins with. @NAME@ and its like are replaced.
//
//go:embed start
var startFiles embed.FS

type initOptions struct {
	name string
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "make a folder a workspace that builds: tarn.yaml, a first recipe, a first image",
		Long: `init makes a workspace in DIR, the working folder without one: tarn.yaml, a first
recipe and a first image, and the recipes that all others stand on (the C library, a
compiler for it, a shell, autoconf), which are the workspace's own from then on. What
it made builds at once, from nothing but the seed and sources that are fetched by
their digest.

In a folder of melange's recipes it writes a tarn.yaml that fits them, and nothing
else but a .gitignore where there is none.

Nothing that is there is overwritten.`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.runInit(o, append(args, ".")[0]) },
	}
	cmd.Flags().StringVar(&o.name, "name", "", "the distribution's name (default: the folder's)")
	return cmd
}

// started is what init made, for --json.
type started struct {
	Workspace string   `json:"workspace"`
	Name      string   `json:"name"`
	Recipes   int      `json:"recipes,omitempty"` // that were there
	Files     []string `json:"files"`             // that were written, below the workspace
}

func (a *app) runInit(o initOptions, dir string) error {
	dir = filepath.Clean(dir) // "" is the working folder
	full, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	name := o.name
	if name == "" {
		name = distributionName(filepath.Base(full))
	} else if name != distributionName(name) {
		return usagef("--name: %q cannot be the name of a distribution\n  hint: small letters, digits and . _ -", name)
	}
	found, err := findMelange(full)
	if err != nil {
		return err
	}
	files, err := startOf(name, found)
	if err != nil {
		return err
	}
	_, statErr := os.Stat(filepath.Join(full, ".gitignore"))
	hasIgnore := statErr == nil
	if hasIgnore {
		delete(files, ".gitignore")
	}
	written, err := writeNew(full, files)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(started{Workspace: full, Name: name, Recipes: found.recipes, Files: written})
	}
	a.tellStarted(dir, found, hasIgnore)
	return nil
}

// tellStarted says what was made and what to do next.
func (a *app) tellStarted(dir string, found melangeFolder, hasIgnore bool) {
	noun := "recipes that are"
	if found.recipes == 1 {
		noun = "recipe that is"
	}
	say := func(format string, args ...any) { fmt.Fprintf(a.out, format+"\n", args...) }
	enter := func() {
		if dir != "." {
			say("  cd %s", dir)
		}
	}
	if found.recipes > 0 {
		say("wrote %s for the %d %s there", filepath.Join(dir, workspaceFile), found.recipes, noun)
		say("\nnext:")
		enter()
		say("  tarn lint             all mistakes and warnings of all recipes")
		say("  tarn plan RECIPE      what would be built, and where its packages come from")
		say("  $EDITOR tarn.yaml     name the repositories that the recipes build with, and their keys")
		say("  tarn build RECIPE")
	} else {
		say("made a workspace in %s", dir)
		say("  tarn.yaml             what is built here, and with what")
		say("  recipes/hello.yaml    a first recipe")
		say("  recipes/base/         the recipes that all others stand on")
		say("  images/hello.yaml     a first image")
		say("\nnext:")
		enter()
		say("  tarn build hello baselayout   the first time fetches the seed (80 MB), and")
		say("                                builds the C library: minutes")
		say("  tarn image build              an image of both, at .out/images/hello")
		say("  tarn test hello")
		say("  tarn new ADDRESS              write a recipe for a source")
		say("  tarn doctor                   what this machine lacks, should a build not start")
	}
	if hasIgnore {
		fmt.Fprintln(a.err, "note: .gitignore was left as it is; /.out/ should be in it")
	}
}

// distributionName makes a name of a folder's.
func distributionName(folder string) string {
	name := regexp.MustCompile(`[^a-z0-9._-]+`).ReplaceAllString(strings.ToLower(folder), "-")
	return cmp.Or(strings.Trim(name, "-._"), "unknown")
}

// melangeFolder is what was found in a folder of recipes that have no workspace yet.
type melangeFolder struct {
	recipes           int
	pipelines, images bool
	testBase          bool // there is wolfi-base, which Wolfi's tests count on
	repositories      []string
}

// findMelange looks for a folder as melange's users have it: recipes beside each other,
// and their pipelines in pipelines/.
func findMelange(dir string) (melangeFolder, error) {
	var found melangeFolder
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	} else if err != nil {
		return found, err
	}
	for _, entry := range entries {
		switch name := entry.Name(); {
		case entry.IsDir() && name == "pipelines":
			found.pipelines = true
		case entry.IsDir() && name == "images":
			found.images = true
		case entry.Type().IsRegular() && recipes.IsRecipe(name):
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return found, err
			}
			var r struct {
				Package     map[string]any
				Environment struct {
					Contents struct{ Repositories []string }
				}
			}
			// What is no recipe, or a wrong one, is tarn lint's to tell.
			if yaml.Unmarshal(data, &r) != nil || r.Package["name"] == nil {
				continue
			}
			found.recipes++
			found.testBase = found.testBase || r.Package["name"] == "wolfi-base"
			for _, address := range r.Environment.Contents.Repositories {
				if !slices.Contains(found.repositories, address) && !strings.HasPrefix(address, "@") {
					found.repositories = append(found.repositories, address)
				}
			}
		}
	}
	slices.Sort(found.repositories)
	return found, nil
}

// startOf gives the files that a workspace begins with, by their paths.
func startOf(name string, found melangeFolder) (map[string][]byte, error) {
	arch, err := apk.ParseArch("host")
	if err != nil {
		return nil, err
	}
	read := func(file string, also ...string) ([]byte, error) {
		data, err := startFiles.ReadFile(path.Join("start", file))
		values := append([]string{"@NAME@", name, "@ARCH@", string(arch), "@TIME@", time.Now().UTC().Format("2006-01-02") + "T00:00:00Z"}, also...)
		return []byte(strings.NewReplacer(values...).Replace(string(data))), err
	}
	files := map[string][]byte{}
	if files[".gitignore"], err = read("gitignore"); err != nil {
		return nil, err
	}
	if found.recipes > 0 {
		files[workspaceFile], err = read("melange.yaml", found.values()...)
		return files, err
	}
	for _, file := range []string{workspaceFile, "recipes/hello.yaml", "recipes/hello/hello.c", "images/hello.yaml"} {
		if files[file], err = read(file); err != nil {
			return nil, err
		}
	}
	base := recipes.Base()
	return files, fs.WalkDir(base, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files[path.Join("recipes/base", name)], err = fs.ReadFile(base, name)
		return err
	})
}

// values are what stands in the tarn.yaml of a folder of melange's recipes.
func (m *melangeFolder) values() []string {
	line := func(is bool, text string) string {
		if is {
			return text
		}
		return ""
	}
	repositories := "# repositories: [https://packages.example.org/os]\n# keys: [keys]"
	if len(m.repositories) > 0 {
		repositories = "# These are the ones that recipes name. Say here that you trust them:\n# repositories:\n"
		for _, address := range m.repositories {
			repositories += "#   - " + address + "\n"
		}
		repositories += "# keys: [keys]"
	}
	return []string{
		"@PIPELINES@", line(m.pipelines, "pipelines: [pipelines]\n"), "@IMAGES@", line(m.images, "images: [images]\n"),
		"@TEST@", line(m.testBase, "test:\n  append: [wolfi-base]\n"), "@REPOSITORIES@", repositories,
	}
}

// writeNew writes files below a folder, none of which may be there, and gives their
// names in order.
func writeNew(dir string, files map[string][]byte) ([]string, error) {
	names := make([]string, 0, len(files))
	var there []string
	for name := range files {
		names = append(names, name)
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
			there = append(there, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	slices.Sort(names)
	switch slices.Sort(there); {
	case slices.Contains(there, workspaceFile):
		return nil, usagef("%s is a workspace already: it has a %s", relative(dir), workspaceFile)
	case len(there) > 0:
		return nil, usagef("%s would be overwritten: %s\n  hint: init a folder of its own: tarn init DIR", relative(dir), strings.Join(there, ", "))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for i, name := range names {
		if err := writeBelow(root, name, files[name]); err != nil {
			for _, made := range names[:i] {
				err = errors.Join(err, root.Remove(made)) // half a workspace would be in the way of the next try
			}
			return nil, fmt.Errorf("write %s: %w", relative(filepath.Join(dir, filepath.FromSlash(name))), err)
		}
	}
	return names, nil
}

// writeBelow writes a file that is not there, and the folders above it.
func writeBelow(root *os.Root, name string, data []byte) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
