package recipes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// namePattern is what packages may be called.
var namePattern = regexp.MustCompile(`^[a-zA-Z\d][a-zA-Z\d+_.-]*$`)

// Load reads the recipe in fsys at path, which is also the name that mistakes
// carry. The folder of the same name beside it holds its local files. All mistakes
// come at once, as [diag.Problems], and beside them what could be read, if it has a name: [Expand]
// may find more in it. A file that can't be read gives the error of fsys.
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
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	r := &Recipe{path: shown, source: data}
	_, err = yamlread.Decode(shown, data, r)
	problems, ok := diag.Of(err)
	if err != nil && !ok {
		return nil, err
	}
	problems = append(problems, r.check()...)
	problems.Sort()
	if err := problems.Err(); err != nil {
		if r.Package.Name == "" {
			return nil, err
		}
		return r, err
	}
	folder := strings.TrimSuffix(name, path.Ext(name))
	switch info, err := fs.Stat(fsys, folder); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return r, diag.Problem{File: shown, Text: fmt.Sprintf("open the folder beside the recipe: %v", err), Hint: "local files stand in the folder itself: a link must not lead out of the recipes"}
	case info.IsDir():
		if r.Files, err = fs.Sub(fsys, folder); err != nil {
			return nil, err
		}
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
			problems = append(problems, r.Package.Here.Value("name").Problem(fmt.Sprintf("call the file %q", want), "package %q stands in a file called %q", r.Package.Name, entry.Name()))
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

// check finds what is wrong with a recipe whatever it is expanded for.
func (r *Recipe) check() diag.Problems {
	c := checker{}
	pkg := &r.Package
	if pkg.Name != "" && !strings.Contains(pkg.Name, "${{") && !namePattern.MatchString(pkg.Name) {
		c.add(badName(pkg.Here.Value("name"), pkg.Name))
	}
	for name, value := range r.Vars {
		if strings.Contains(value, "${{") {
			c.add(r.Here.Value("vars").Value(name).Problem("use var-transforms, or write the value out", "the variable %q is made of other variables", name))
		}
	}
	for i := range r.VarTransforms {
		t := &r.VarTransforms[i]
		c.regexp(t.Here.Value("match"), t.Match)
	}
	transforms := r.Here.Value("update").Value("version-transform")
	for i, t := range r.Update.VersionTransform {
		c.regexp(transforms.Item(i).Value("match"), t.Match)
	}
	if s := r.Update.Schedule; s != nil && s.Period != "" && !slices.Contains([]string{"daily", "weekly", "monthly"}, s.Period) {
		c.add(s.Here.Value("period").Problem("", "unknown period %q, expected daily, weekly or monthly", s.Period))
	}
	tables := map[string]bool{}
	for i := range r.Data {
		if t := &r.Data[i]; tables[t.Name] {
			c.add(t.Here.Value("name").Problem("", "two tables are called %q", t.Name))
		}
		tables[r.Data[i].Name] = true
	}
	c.cpe(&pkg.CPE)
	c.setcap(pkg.Setcap)
	c.sandbox(&r.Environment)
	c.pipeline(r.Pipeline)
	if r.Test != nil {
		c.sandbox(&r.Test.Environment)
		c.pipeline(r.Test.Pipeline)
	}
	for i := range r.Subpackages {
		s := &r.Subpackages[i]
		if s.Name != "" && !strings.Contains(s.Name, "${{") && !namePattern.MatchString(s.Name) {
			c.add(badName(s.Here.Value("name"), s.Name))
		}
		c.setcap(s.Setcap)
		c.pipeline(s.Pipeline)
		if s.Test != nil {
			c.sandbox(&s.Test.Environment)
			c.pipeline(s.Test.Pipeline)
		}
	}
	return c.problems
}

func badName(at yamlread.Place, name string) diag.Problem {
	return at.Problem("letters, digits and + _ . - are allowed, the first a letter or digit", "%q is no name for a package", name)
}

type checker struct{ problems diag.Problems }

func (c *checker) add(p diag.Problem) { c.problems = append(c.problems, p) }

func (c *checker) regexp(at yamlread.Place, expr string) {
	if _, err := regexp.Compile(expr); err != nil {
		c.add(at.Problem("", "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
	}
}

// sandbox finds what no environment can be made of.
func (c *checker) sandbox(config *ImageConfig) {
	c.variables(config.Here, config.Environment)
	accounts := config.Here.Value("accounts")
	for i, u := range config.Accounts.Users {
		c.account(accounts.Value("users").Item(i), "username", u.UserName, u.UID)
		if u.GID != nil {
			c.account(accounts.Value("users").Item(i), "gid", u.UserName, *u.GID)
		}
	}
	for i, g := range config.Accounts.Groups {
		c.account(accounts.Value("groups").Item(i), "groupname", g.GroupName, g.GID)
	}
}

func (c *checker) account(at yamlread.Place, key, name string, id uint32) {
	if err := rootfs.CheckAccount(name, int64(id)); err != nil {
		c.add(at.Value(key).Problem("", "%v", err))
	}
}

// variables finds names that no program can be started with.
func (c *checker) variables(at yamlread.Place, environment map[string]string) {
	for name := range environment {
		if name == "" || strings.ContainsAny(name, "=\n") {
			c.add(at.Value("environment").Key(name).Problem("", "%q cannot be a variable of the environment", name))
		}
	}
}

// pipeline finds what is wrong with tasks in a recipe, not in a pipeline file.
func (c *checker) pipeline(tasks []Task) {
	for i := range tasks {
		t := &tasks[i]
		c.refuse(t.Here, "description")
		c.own(t)
		c.shape(t)
		c.variables(t.Here, t.Environment)
		c.pipeline(t.Pipeline)
	}
}

// shape finds fields of a task that do not go together.
func (c *checker) shape(t *Task) {
	switch {
	case t.Uses != "" && t.Runs != "":
		c.add(t.Here.Key("runs").Problem("make two steps of it", `a step has either "uses" or "runs", not both`))
	case len(t.With) > 0 && t.Uses == "" && t.Runs != "":
		hint := `"with" goes with "uses"; a script reads variables: ${{vars.name}}`
		if !strings.ContainsAny(strings.TrimSpace(t.Runs), " \n\t;|&") && strings.Contains(t.Runs, "/") {
			hint = fmt.Sprintf("did you mean uses: %s?", strings.TrimSpace(t.Runs))
		}
		c.add(t.Here.Key("with").Problem(hint, `a step with "runs" takes no "with"`))
	case len(t.With) > 0 && t.Uses == "":
		c.add(t.Here.Key("with").Problem("", `"with" stands without "uses"`))
	}
	if t.Assertions.RequiredSteps < 0 {
		c.add(t.Here.Value("assertions").Value("required-steps").Problem("", "required-steps is negative"))
	}
}

// own finds the fields that only the built-in pipelines may use.
func (c *checker) own(t *Task) {
	c.refuse(t.Here, "native")
	c.refuse(t.Needs.Here, "native")
	for _, input := range t.Inputs {
		c.refuse(input.Here, "as")
		c.refuse(input.Here, "hint")
	}
}

// refuse tells of a field that is unknown here.
func (c *checker) refuse(at yamlread.Place, key string) {
	if at.Has(key) {
		c.add(at.Key(key).Problem("", "unknown field %q", key))
	}
}

// cpeWord is what a part of a CPE looks like.
var cpeWord = regexp.MustCompile(`^[a-z\d][a-z\d+_.-]*$`)

func (c *checker) cpe(cpe *CPE) {
	if cpe.Here.IsZero() {
		return
	}
	if !slices.Contains([]string{"", "a", "o"}, cpe.Part) {
		c.add(cpe.Here.Value("part").Problem("", "unknown part %q, expected a or o", cpe.Part))
	}
	if (cpe.Vendor == "") != (cpe.Product == "") {
		c.add(cpe.Here.Problem("", "a cpe has both vendor and product, or neither"))
	}
	for _, f := range []struct{ key, value string }{
		{"vendor", cpe.Vendor}, {"product", cpe.Product}, {"edition", cpe.Edition}, {"language", cpe.Language},
		{"sw_edition", cpe.SoftwareEdition}, {"target_sw", cpe.TargetSoftware}, {"target_hw", cpe.TargetHardware}, {"other", cpe.Other},
	} {
		if f.value != "" && !cpeWord.MatchString(f.value) {
			c.add(cpe.Here.Value(f.key).Problem("lower-case letters, digits and + _ . - are allowed", "%q is no word of a cpe", f.value))
		}
	}
}

// fileCapabilities are those a recipe may give to a file, as in melange.
var fileCapabilities = []string{"cap_ipc_lock", "cap_net_admin", "cap_net_bind_service", "cap_net_raw", "cap_sys_admin"}

func (c *checker) setcap(list []FileCapability) {
	for i := range list {
		f := &list[i]
		for names, flags := range f.Add {
			at := f.Here.Value("add").Key(names)
			for name := range strings.SplitSeq(names, ",") {
				if name = strings.TrimSpace(name); !slices.Contains(fileCapabilities, name) {
					c.add(at.Problem(diag.DidYouMean(name, fileCapabilities), "%q is no capability that a recipe may give, expected one of %s", name, strings.Join(fileCapabilities, ", ")))
				}
			}
			if strings.Trim(flags, "+=eip") != "" || !strings.ContainsAny(flags, "eip") {
				c.add(f.Here.Value("add").Value(names).Problem("", "%q are no capability flags, expected some of e, i and p, like +ep", flags))
			}
		}
	}
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
