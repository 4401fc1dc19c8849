package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/online"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/recipes"
)

// workspaceFile is the file that makes a folder a workspace.
const workspaceFile = "tarn.yaml"

// workspace is what tarn.yaml says. Paths are relative to its folder. The values
// before reading are the defaults, which suit tarn's own repository.
type workspace struct {
	Name          string             `yaml:"name"`            // the distribution's name, in purls and as the name of its key
	Recipes       []string           `yaml:"recipes"`         // folders of recipes
	Pipelines     []string           `yaml:"pipelines"`       // folders of pipelines, before the built-in ones
	Images        []string           `yaml:"images"`          // folders of image files
	Packages      string             `yaml:"packages"`        // the workspace's own repository
	Output        string             `yaml:"output"`          // images, logs and keys lie below it
	Keys          []string           `yaml:"keys"`            // folders of public keys of others
	SigningKey    string             `yaml:"signing-key"`     // private key; made on first use when it is not there
	CoSigningKeys []string           `yaml:"co-signing-keys"` // further keys that sign beside it
	Repositories  []string           `yaml:"repositories"`    // further repositories, the preferred first
	Trust         []workspaceTrust   `yaml:"trust"`           // how single repositories are trusted
	Libc          string             `yaml:"libc"`            // what ${{host.triplet.gnu}} speaks of: musl or gnu
	Toolchain     string             `yaml:"toolchain"`       // what build-base is: seeded
	Time          time.Time          `yaml:"time"`            // SOURCE_DATE_EPOCH of every build
	Seed          workspaceSeed      `yaml:"seed"`
	Mirrors       []workspaceMirror  `yaml:"mirrors"` // asked by hash when upstream does not answer, in order
	Environment   workspaceAdditions `yaml:"environment"`
	Test          workspaceAdditions `yaml:"test"`
	Cache         workspaceCache     `yaml:"cache"`
	Publish       workspacePublish   `yaml:"publish"`
	Lint          diag.Policy        `yaml:"lint"` // how grave the rules of tarn lint are here
	// Exceptions are what single recipes may do, by name, that others may not.
	Exceptions map[string]workspaceException `yaml:"exceptions"`

	dir   string         // absolute; the current folder without a workspace
	place yamlread.Place // of the file's root; nowhere without a file
}

// workspaceSeed says where the first compiler comes from.
type workspaceSeed struct {
	Lock    string `yaml:"lock"`    // the seed's lock file; tarn's own when empty
	Node    string `yaml:"node"`    // the lock file of seed-node; tarn's own when empty
	Go      string `yaml:"go"`      // the lock file of seed-go; tarn's own when empty
	Suite   string `yaml:"suite"`   // e.g. bookworm; the lock's when empty
	Keyring string `yaml:"keyring"` // OpenPGP keys of the archive; as the machine's apt says when empty
}

// workspaceException is what one recipe may do.
type workspaceException struct {
	Network bool `yaml:"network"` // its build may download; its packages say so
}

// online says why the build of a recipe may use the network; "" where it may not.
func (w *workspace) online(s *recipes.Script) string {
	if !w.Exceptions[s.Name].Network {
		return ""
	}
	return cmp.Or(s.Network, "an exception of the workspace")
}

// lostExceptions are those for recipes that there are not: whoever renames a recipe, or
// mistypes its name, wants to know.
func (w *workspace) lostExceptions(recipes []string) (problems diag.Problems) {
	for name := range w.Exceptions {
		if !slices.Contains(recipes, name) {
			p := w.place.Value("exceptions").Key(name).Problem(diag.DidYouMean(name, recipes), "there is no recipe %q for this exception", name)
			p.Severity, p.Rule = diag.Warning, "network"
			problems = append(problems, p)
		}
	}
	return problems
}

// accesses are the permissions that the exceptions give, by recipe.
func (w *workspace) accesses() map[string]*sandbox.Access {
	all := map[string]*sandbox.Access{}
	for name, e := range w.Exceptions {
		if e.Network {
			all[name] = online.Grant("the workspace's exception for " + name)
		}
	}
	return all
}

// workspaceMirror is one mirror; exactly one of its fields is set.
type workspaceMirror struct {
	Folder   string   `yaml:"folder"`            // files by their SHA-256, and git repositories
	URL      string   `yaml:"url"`               // with {sha256} and {name}
	Git      string   `yaml:"git"`               // a folder or an address with repositories by host and path
	Debian   []string `yaml:"debian"`            // suites of Debian's source archive
	Heritage string   `yaml:"software-heritage"` // the address of the archive's interface

	Place yamlread.Place `yaml:",here"`
}

// workspaceAdditions are packages that join every environment.
type workspaceAdditions struct {
	Append []apk.Dependency `yaml:"append"`
}

// workspacePublish says where tarn image publish pushes images to.
type workspacePublish struct {
	Registry string `yaml:"registry"` // e.g. registry.example.org/team: images are REGISTRY/NAME
	Sign     string `yaml:"sign"`     // the private key that signs them, or exec:NAME.pub PROGRAM ARGUMENT...
}

// workspaceCache says where the store is.
type workspaceCache struct {
	Dir     string `yaml:"dir"`
	MaxSize string `yaml:"max-size"`
}

func defaultWorkspace(dir string) *workspace {
	return &workspace{
		Name: "unknown", Recipes: []string{"recipes/core"}, Images: []string{"images/core"},
		Packages: ".out/packages", Output: ".out", Keys: []string{"repo/keys"}, Libc: "gnu", Toolchain: "seeded",
		Time: time.Unix(0, 0).UTC(), dir: dir,
	}
}

// openWorkspace reads the workspace of a folder: the nearest tarn.yaml in it or
// above, the one that flag names, or none.
func openWorkspace(flag string, without bool) (*workspace, error) {
	if flag != "" && without {
		return nil, usagef("--workspace and --no-workspace exclude each other")
	}
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if without {
		return defaultWorkspace(here), nil
	}
	if flag != "" {
		dir, err := filepath.Abs(flag)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Join(dir, workspaceFile)); err != nil {
			return nil, usagef("--workspace %s: there is no %s", flag, workspaceFile)
		}
		return readWorkspace(dir)
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		switch _, err := os.Stat(filepath.Join(dir, workspaceFile)); {
		case err == nil:
			return readWorkspace(dir)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case dir == filepath.Dir(dir):
			return defaultWorkspace(here), nil
		}
	}
}

func readWorkspace(dir string) (*workspace, error) {
	file := filepath.Join(dir, workspaceFile)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	w := defaultWorkspace(dir)
	w.place, err = yamlread.Decode(relative(file), data, w)
	problems, listed := diag.Of(err)
	if err != nil && !listed {
		return nil, err
	}
	return w, append(problems, w.check()...).Err()
}

// check finds what reading the types could not.
func (w *workspace) check() diag.Problems {
	var problems diag.Problems
	oneOf := func(key, value string, choices ...string) {
		for _, c := range choices {
			if value == c {
				return
			}
		}
		problems = append(problems, w.place.Value(key).Problem(diag.DidYouMean(value, choices), "%s is %q, expected %s", key, value, strings.Join(choices, " or ")))
	}
	oneOf("libc", w.Libc, "musl", "gnu")
	oneOf("toolchain", w.Toolchain, "seeded")
	if w.Name == "" || w.Name != filepath.Base(w.Name) || !filepath.IsLocal(w.Name) {
		// It becomes the name of a file.
		problems = append(problems, w.place.Value("name").Problem("", "%q cannot be the name of a distribution", w.Name))
	}
	for _, m := range w.Mirrors {
		if m.Place.IsZero() {
			continue // no mapping, which reading told
		}
		set := 0
		for _, is := range []bool{m.Folder != "", m.URL != "", m.Git != "", len(m.Debian) > 0, m.Heritage != ""} {
			if is {
				set++
			}
		}
		if set != 1 {
			problems = append(problems, m.Place.Problem("", "a mirror is one of folder, url, git, debian and software-heritage"))
		}
		if m.URL != "" && !strings.Contains(m.URL, "{sha256}") && !strings.Contains(m.URL, "{digest}") {
			problems = append(problems, m.Place.Value("url").Problem("e.g. https://mirror.example/{sha256}/{name}", "the address of a mirror has no {sha256}"))
		}
		if m.Heritage != "" && !strings.HasPrefix(m.Heritage, "http://") && !strings.HasPrefix(m.Heritage, "https://") {
			problems = append(problems, m.Place.Value("software-heritage").Problem("its own is "+source.SoftwareHeritage, "%q is no address", m.Heritage))
		}
	}
	var wrong []diag.Problem
	w.Lint, wrong = checkPolicy(w.Lint, func(list string, i int, hint, text string) diag.Problem {
		return w.place.Value("lint").Value(list).Item(i).Problem(hint, "%s", text)
	})
	problems = append(problems, wrong...)
	if w.Cache.MaxSize != "" {
		if _, err := parseSize(w.Cache.MaxSize); err != nil {
			problems = append(problems, w.place.Value("cache").Value("max-size").Problem("", "%v", err))
		}
	}
	return problems
}

// path is a path of the workspace as an absolute one.
func (w *workspace) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(w.dir, p)
}

// isReal tells whether there is a tarn.yaml.
func (w *workspace) isReal() bool { return !w.place.IsZero() }

// relative shortens a path below the working folder, for messages.
func relative(p string) string {
	here, err := os.Getwd()
	if err != nil {
		return p
	}
	if short, err := filepath.Rel(here, p); err == nil && !strings.HasPrefix(short, "..") {
		return short
	}
	return p
}

// parseSize reads a number of bytes, e.g. 20G, 500MiB, 1000000.
func parseSize(text string) (int64, error) {
	var number float64
	var unit string
	if n, err := fmt.Sscanf(text, "%g%s", &number, &unit); n < 1 || err != nil && n != 1 || number < 0 {
		return 0, fmt.Errorf("size %q is not like 20G or 500MiB", text)
	}
	shift, found := map[string]uint{"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(unit), "b"), "i")]
	if !found {
		return 0, fmt.Errorf("size %q is not like 20G or 500MiB", text)
	}
	return int64(number * float64(int64(1)<<shift)), nil
}
