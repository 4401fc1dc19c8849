package recipes

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/sys/capability"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// namePattern is what packages may be called.
var namePattern = regexp.MustCompile(`^[a-zA-Z\d][a-zA-Z\d+_.-]*$`)

// Linters are the names that checks.disabled may hold: those of melange's linters, which
// the rules for packages here bear as well, and tarn's own, license-files.
var Linters = []string{
	"binaryarch", "cudaruntimelib", "dev", "dll", "documentation", "duplicate", "dylib", "empty", "infodir",
	"lddcheck", "libtool/la-files", "license-files", "maninfo", "nonlinux", "object", "opt", "pkgconf", "python/docs",
	"python/multiple", "python/test", "sbom", "setuidgid", "srv", "staticarchive", "strip", "tempdir",
	"unsupportedarch", "usrlocal", "usrmerge", "varempty", "worldwrite",
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
	c.update(&r.Update, r.Here.Value("update"))
	tables := map[string]bool{}
	for i := range r.Data {
		if t := &r.Data[i]; tables[t.Name] {
			c.add(t.Here.Value("name").Problem("", "two tables are called %q", t.Name))
		}
		tables[r.Data[i].Name] = true
	}
	for i, name := range pkg.TargetArchitecture {
		if _, err := apk.ParseArch(name); err != nil && name != "all" && !strings.Contains(name, "${{") {
			c.add(pkg.Here.Value("target-architecture").Item(i).Problem("e.g. x86_64, aarch64", "%v", err))
		}
	}
	c.cpe(&pkg.CPE)
	c.setcap(pkg.Setcap)
	c.owners(pkg.Owners)
	c.scriptlets(&pkg.Scriptlets)
	c.disabled(&pkg.Checks)
	c.resources(pkg.Resources)
	c.resources(pkg.TestResources)
	for _, key := range []string{"add", "drop"} {
		list := r.Capabilities.Add
		if key == "drop" {
			list = r.Capabilities.Drop
		}
		for i, name := range list {
			c.capability(r.Capabilities.Here.Value(key).Item(i), name)
		}
	}
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
		c.owners(s.Owners)
		c.scriptlets(&s.Scriptlets)
		c.disabled(&s.Checks)
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
	if name == "" {
		return // told by reading
	}
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
		c.refuse(t.Here, "prefetch")
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
		c.refuse(input.Here, "only-given")
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

// owners finds owners that say nothing, and places that are none.
func (c *checker) owners(list []FileOwner) {
	for i := range list {
		o := &list[i]
		if o.User == "" && o.Group == "" {
			c.add(o.Here.Problem("", "an owner is a user, a group, or both"))
		}
		if inside := strings.TrimPrefix(o.Path, "/"); o.Path != "" && inside != path.Clean(inside) && !strings.Contains(o.Path, "${{") || strings.HasPrefix(inside, "..") {
			c.add(o.Here.Value("path").Problem("e.g. var/lib/nginx", "%q is no clean path from the root", o.Path))
		}
	}
}

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

// capability finds names that the kernel does not know.
func (c *checker) capability(at yamlread.Place, name string) {
	plain := strings.TrimPrefix(strings.ToLower(name), "cap_")
	var known []string
	for _, one := range capability.ListKnown() {
		if one.String() == plain {
			return
		}
		known = append(known, "CAP_"+strings.ToUpper(one.String()))
	}
	c.add(at.Problem(diag.DidYouMean(strings.ToUpper(name), known), "unknown capability %q", name))
}

// scriptlets finds triggers that would never run.
func (c *checker) scriptlets(s *Scriptlets) {
	t := &s.Trigger
	switch {
	case t.Script == "" && len(t.Paths) > 0:
		c.add(t.Here.Key("paths").Problem("", "a trigger has paths and no script"))
	case t.Script != "" && len(t.Paths) == 0:
		c.add(t.Here.Key("script").Problem("name in paths the folders whose changes run it", "a trigger has a script and no paths"))
	}
	for i, path := range t.Paths {
		if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "${{") {
			c.add(t.Here.Value("paths").Item(i).Problem(fmt.Sprintf("did you mean %q?", "/"+path), "the trigger's path %q does not begin with /", path))
		}
	}
}

// disabled finds linters that do not exist.
func (c *checker) disabled(checks *Checks) {
	for i, name := range checks.Disabled {
		if !slices.Contains(Linters, name) {
			hint := diag.DidYouMean(name, Linters)
			if hint == "" {
				hint = "tarn lint --explain RULE tells of each"
			}
			c.add(checks.Here.Value("disabled").Item(i).Problem(hint, "unknown linter %q", name))
		}
	}
}

// quantity is how Kubernetes writes amounts: 2, 500m, 4Gi, 1.5G.
var quantity = regexp.MustCompile(`^\d+(\.\d+)?(m|k|[MGTPE]|[KMGTPE]i)?$`)

func (c *checker) resources(r *Resources) {
	if r == nil {
		return
	}
	for _, f := range []struct{ key, value, example string }{{"cpu", r.CPU, "2 or 500m"}, {"memory", r.Memory, "4Gi"}, {"disk", r.Disk, "20Gi"}} {
		if f.value != "" && !quantity.MatchString(f.value) {
			c.add(r.Here.Value(f.key).Problem("write it like "+f.example, "%q is no amount", f.value))
		}
	}
}

// update finds what no bot could follow.
func (c *checker) update(u *Update, at yamlread.Place) {
	for i, t := range u.VersionTransform {
		c.regexp(at.Value("version-transform").Item(i).Value("match"), t.Match)
	}
	for i, expr := range u.IgnoreRegexPatterns {
		c.regexp(at.Value("ignore-regex-patterns").Item(i), expr)
	}
	if s := u.Schedule; s != nil && s.Period != "" && !slices.Contains([]string{"daily", "weekly", "monthly"}, s.Period) {
		c.add(s.Here.Value("period").Problem(diag.DidYouMean(s.Period, []string{"daily", "weekly", "monthly"}), "unknown period %q, expected daily, weekly or monthly", s.Period))
	}
	if g := u.GitHub; g != nil && g.Identifier != "" {
		if owner, name, _ := strings.Cut(g.Identifier, "/"); owner == "" || name == "" || strings.Contains(name, "/") {
			c.add(at.Value("github").Value("identifier").Problem("write OWNER/NAME, as in the project's address", "%q is no project of GitHub", g.Identifier))
		}
	}
}
