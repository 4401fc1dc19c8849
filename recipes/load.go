package recipes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Load reads the recipe in fsys at path, which is also the name that mistakes
// carry. The folder of the same name beside it holds its local files. All mistakes
// come at once, as [diag.Problems], and beside them what could be read: [Expand] finds the rest
// and tells all. A file that can't be read gives the error of fsys.
func Load(fsys fs.FS, path string) (*Recipe, error) { return load(fsys, path, path) }

// LoadFile is Load for a file of this machine. No symbolic link leads out of the folder
// that it stands in.
func LoadFile(file string) (*Recipe, error) {
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	r, err := load(root.FS(), filepath.Base(file), file)
	if r == nil || r.Files == nil {
		_ = root.Close() // nothing was written
	}
	// A recipe with local files reads them later: root is closed when nothing refers to it.
	return r, err
}

// load reads the recipe at name; mistakes call it shown.
func load(fsys fs.FS, name, shown string) (*Recipe, error) {
	data, err := yamlread.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	r, err := Read(shown, data)
	if err != nil {
		return r, err
	}
	folder := strings.TrimSuffix(name, path.Ext(name))
	switch info, err := fs.Stat(fsys, folder); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		r.mistakes = diag.Problems{{File: shown, Text: fmt.Sprintf("open the folder beside the recipe: %v", err), Hint: "local files stand in the folder itself: a link must not lead out of the recipes"}}
		return r, r.mistakes
	case info.IsDir():
		if r.Files, err = fs.Sub(fsys, folder); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Read is Load for the text of a recipe, without what lies beside it.
func Read(shown string, data []byte) (*Recipe, error) {
	r := &Recipe{path: shown, source: data}
	root, err := yamlread.Decode(shown, data, r)
	problems, ok := diag.Of(err)
	if err != nil && !ok {
		return nil, err
	}
	problems = append(problems, r.check()...)
	problems.Sort()
	nameSteps(problems, shown, root)
	r.mistakes = problems
	if err := problems.Err(); err != nil {
		if r.Here.IsZero() {
			return nil, err
		}
		return r, err
	}
	return r, nil
}

// LoadFolder is LoadAll for a folder of this machine. No symbolic link leads out of it:
// a recipe must not read what its author could not.
func LoadFolder(dir, shown string) ([]*Recipe, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	// Recipes read their local files later: root is closed when nothing refers to it.
	return LoadAll(root.FS(), shown)
}

// LoadAll reads every recipe that stands in the folder fsys, which mistakes call dir, in
// the order of their names. A recipe's file is called NAME.yaml after its package;
// names that begin with a dot or end in .yam.yaml are no recipes. With mistakes, what
// could be read of the recipes is given beside the error, for [Expand] to find more.
func LoadAll(fsys fs.FS, dir string) ([]*Recipe, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var (
		all      []*Recipe
		problems diag.Problems
	)
	for _, entry := range entries {
		// A folder is no recipe; a pipe would be waited for.
		if !IsRecipe(entry.Name()) || entry.Type()&^fs.ModeSymlink != 0 {
			continue
		}
		r, err := load(fsys, entry.Name(), path.Join(dir, entry.Name()))
		if found, ok := diag.Of(err); ok {
			problems = append(problems, found...)
			if r != nil {
				all = append(all, r)
			}
			continue
		} else if err != nil {
			problems = append(problems, diag.Problem{File: path.Join(dir, entry.Name()), Text: fmt.Sprintf("read recipe: %v", err)})
			continue
		}
		if want := r.Package.Name + ".yaml"; entry.Name() != want {
			p := r.Package.Here.Value("name").Problem(fmt.Sprintf("call the file %q", want), "package %q stands in a file called %q", r.Package.Name, entry.Name())
			problems, r.mistakes = append(problems, p), append(r.mistakes, p)
		}
		all = append(all, r)
	}
	problems.Sort()
	return all, problems.Err()
}

// LoadVars reads variables for [Target].Vars (--vars-file): a YAML mapping of text to text.
func LoadVars(file string) (map[string]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	vars := map[string]string{}
	_, err = yamlread.Decode(file, data, &vars)
	return vars, err
}

// Source is the text of the recipe that a script was made of.
func Source(s *Script) ([]byte, error) {
	if s.recipe == nil {
		return nil, fmt.Errorf("the script of %s was not made of a recipe", s.Name)
	}
	return slices.Clone(s.recipe.source), nil
}

// IsRecipe tells whether a file of this name is a recipe. tarn.yaml is none: it stands
// beside recipes where these are at the root of a workspace, as melange's users have them.
func IsRecipe(name string) bool {
	return name != "tarn.yaml" && strings.HasSuffix(name, ".yaml") && !strings.HasSuffix(name, ".yam.yaml") && !strings.HasPrefix(name, ".")
}

// ErrOtherArch is what [Expand] gives for a recipe that is not made for the target's architecture.
var ErrOtherArch = errors.New("not for this architecture")

// ArchError says which architectures a recipe is made for. It is an [ErrOtherArch].
type ArchError struct {
	Recipe, Arch string
	For          []string
}

func (e *ArchError) Error() string {
	return fmt.Sprintf("%s: not for %s, only for %s", e.Recipe, e.Arch, strings.Join(e.For, ", "))
}

// Is makes every ArchError an ErrOtherArch.
func (e *ArchError) Is(target error) bool { return target == ErrOtherArch }
