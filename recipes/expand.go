package recipes

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Places inside the sandbox that recipes speak of.
const (
	workDir   = "/home/build"
	outputDir = workDir + "/melange-out"
)

// maxPipelineDepth limits pipelines that use pipelines.
const maxPipelineDepth = 32

// Expand makes the script of a recipe for a target: nothing is left to decide in
// it. All mistakes of the recipe (those that reading found as well), and of the pipeline
// files as it uses them, come at once as [diag.Problems], and beside them what could be made of it, which has at
// least the names of its packages and is not to be built. A recipe that is not made for
// the target's architecture gives an [*ArchError].
//
// The language has three passes. The first replaces the exact text ${{name}} of
// package.*, vars.* and range.* in what the recipe says. The second, in dependencies
// and environments, and the third, in steps, replace every ${{ name }} and refuse
// what is not defined.
func Expand(r *Recipe, t Target, p *Pipelines) (*Script, error) {
	e := &expander{recipe: r, target: t, pipelines: p}
	s := e.bounded()
	if e.arch != nil {
		return nil, e.arch
	}
	e.problems.Sort()
	e.problems = slices.Compact(e.problems)
	nameSteps(e.problems, r.path, r.Here)
	return s, withFurther(r.mistakes, e.problems).Err()
}

// withFurther adds mistakes that expanding found, but for those on lines that reading
// found wrong already: they follow from what was not read.
func withFurther(read, found diag.Problems) diag.Problems {
	all := slices.Clone(read)
	for _, p := range found {
		if !slices.ContainsFunc(read, func(r diag.Problem) bool { return r.File == p.File && r.Line == p.Line }) {
			all = append(all, p)
		}
	}
	all.Sort()
	return all
}

type expander struct {
	recipe    *Recipe
	target    Target
	pipelines *Pipelines
	problems  diag.Problems
	notes     diag.Problems
	arch      error

	vars  map[string]string // of the first pass: package.*, vars.*
	final *scope            // of the second
	steps *scope            // of the third, but for what differs from package to package
	main  mainPackage
	trace []Traced
	spent int // see spend
	tasks int
}

// mainPackage is what the first pass makes of the recipe's package.
type mainPackage struct{ name, version, full, description string }

func (e *expander) add(p diag.Problem) { e.problems = append(e.problems, p) }

// variant is a subpackage for one item of its range, if it has one.
type variant struct {
	*Subpackage
	vars  map[string]string // of the first pass
	scope *scope
	name  string
}

// bounded is script, or as little as its name where the script grows without bounds.
func (e *expander) bounded() (s *Script) {
	defer func() {
		if e.stopped(recover()) {
			s = &Script{Name: e.main.name, Version: apk.Version(e.main.full), Arch: e.target.Arch, Recipe: e.recipe.path, recipe: e.recipe, Packages: []Output{{Name: e.main.name}}}
		}
	}()
	return e.script()
}

func (e *expander) script() *Script {
	r := e.recipe
	e.variables()
	if !e.forTarget() {
		return nil
	}
	variants := e.variants()
	e.stepScope(variants)

	s := &Script{
		Name: e.main.name, Version: apk.Version(e.main.full), Arch: e.target.Arch, Recipe: r.path, MadeFor: e.madeFor(), recipe: r,
		Capabilities: r.Capabilities.Add, DropCapabilities: r.Capabilities.Drop,
		Timeout: r.Package.Timeout, Network: r.Network,
		Namespace: cmp.Or(e.target.Namespace, "unknown"), Repository: e.target.RepositoryURL, RecipeLicense: e.target.License, VersionedLibraries: e.target.VersionedLibraries,
		Resources: r.Package.Resources, TestResources: r.Package.TestResources,
		Licenses: []License{},
	}
	if !e.target.Time.IsZero() {
		s.Time = e.target.Time.Unix()
	}
	for _, c := range r.Package.Copyright {
		s.Licenses = append(s.Licenses, License{plainText(c.License, e.vars), c.Attestation, plainText(c.LicensePath, e.vars), c.DetectionOverride})
	}
	needs := needSet{}
	e.environment(&s.Environment, &r.Environment, e.vars, needs)
	s.Environment.Env["SOURCE_DATE_EPOCH"] = cmp.Or(s.Environment.Env["SOURCE_DATE_EPOCH"], strconv.FormatInt(s.Time, 10))
	needs.options(e)
	for _, d := range e.target.AppendPackages {
		needs.add(d.String(), Need{Dependency: d, From: "--package-append"})
	}

	s.Packages = make([]Output, 0, 1+len(variants))
	s.Packages = append(s.Packages, e.mainOutput(needs))
	e.test(&s.Packages[0], r.Test, nil, s)
	for i := range variants {
		s.Packages = append(s.Packages, e.output(&variants[i], needs))
		e.test(&s.Packages[i+1], variants[i].Test, &variants[i], s)
	}
	s.Environment.Packages = needs.list()
	s.Environment.declared = needs.declared()
	s.trace, s.notes = e.trace, e.notes
	e.files(s)
	return s
}

// variables makes the variables of the first two passes: package.*, vars.*, and
// what var-transforms make of them.
func (e *expander) variables() {
	r := e.recipe
	e.vars = map[string]string{}
	for name, value := range r.Vars {
		e.vars["vars."+name] = value
	}
	for _, name := range e.target.Options {
		option, ok := r.Options[name]
		if !ok {
			hint := diag.DidYouMean(name, slices.Collect(maps.Keys(r.Options)))
			if len(r.Options) == 0 {
				hint = "the recipe has none"
			}
			e.add(diag.Problem{File: r.path, Text: fmt.Sprintf("no build option %q", name), Hint: hint})
			continue
		}
		for name, value := range option.Vars {
			e.vars["vars."+name] = value
		}
	}
	for name, value := range e.target.Vars {
		e.vars["vars."+name] = value
	}
	pkg := &r.Package
	e.vars["package.epoch"] = strconv.FormatUint(pkg.Epoch, 10)
	e.main.name = plainText(pkg.Name, e.vars)
	e.vars["package.name"] = e.main.name
	e.main.version = plainText(pkg.Version, e.vars)
	e.vars["package.version"] = e.main.version
	e.main.full = fmt.Sprintf("%s-r%d", e.main.version, pkg.Epoch)
	e.vars["package.full-version"] = e.main.full
	e.main.description = plainText(pkg.Description, e.vars)
	e.vars["package.description"] = e.main.description
	if pkg.Name != "" && !namePattern.MatchString(e.main.name) {
		e.add(badName(pkg.Here.Value("name"), e.main.name))
	}
	if _, err := apk.ParseVersion(e.main.full); err != nil && pkg.Version != "" {
		e.add(pkg.Here.Value("version").Problem("like 1.2.3, 1.2.3a, 1.2_rc1, 1.2_git20240131: numbers, a letter, suffixes", "%q is no version that apk knows", e.main.version))
	}
	e.final = &scope{vars: e.vars}

	// Each transform sees what those before it made, and so does everything else.
	for i := range r.VarTransforms {
		t := &r.VarTransforms[i]
		from := phrase{text: t.From, at: t.Here.Value("from")}.strict(e.final, nil, &e.problems)
		match, err := regexp.Compile(t.Match)
		if err != nil {
			continue // told by Load
		}
		e.vars["vars."+t.To] = transform(match, from.text, t.Replace, t.Here.Value("replace"))
		e.spend(len(from.text)+len(e.vars["vars."+t.To]), t.Here)
	}
}

// forTarget tells whether the recipe is made for the target's architecture.
func (e *expander) forTarget() bool {
	list := e.madeFor()
	if e.target.AnyArch || len(list) == 0 || slices.Contains(list, string(e.target.Arch)) {
		return true
	}
	e.arch = &ArchError{e.main.name, string(e.target.Arch), list}
	return false
}

// madeFor lists the architectures that the recipe names, none for all.
func (e *expander) madeFor() []string {
	list := plainList(e.recipe.Package.TargetArchitecture, e.vars)
	if slices.Contains(list, "all") {
		return nil
	}
	return list
}

// variants multiplies subpackages by their ranges and drops those whose condition does not hold.
func (e *expander) variants() []variant {
	tables := map[string]map[string]string{}
	for i := range e.recipe.Data {
		tables[e.recipe.Data[i].Name] = e.recipe.Data[i].Items
	}
	var all []variant
	for i := range e.recipe.Subpackages {
		sub := &e.recipe.Subpackages[i]
		if sub.Range == "" {
			all = append(all, variant{Subpackage: sub, vars: e.vars})
			continue
		}
		items, ok := tables[sub.Range]
		if !ok {
			e.add(sub.Here.Value("range").Problem(diag.DidYouMean(sub.Range, slices.Collect(maps.Keys(tables))), "no table %q in data", sub.Range))
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(items)) {
			all = append(all, variant{Subpackage: sub, vars: e.rangeVars(sub, len(all), key, items[key])})
		}
	}
	base := &scope{vars: e.targetVars()}
	taken := map[string]yamlread.Place{e.main.name: e.recipe.Package.Here.Value("name")}
	kept := all[:0]
	for _, v := range all {
		at := v.Here.Value("name")
		before := len(e.problems)
		v.name = phrase{text: v.Name, at: at}.plain(v.vars).strict(&scope{e.final, v.vars}, nil, &e.problems).text
		if len(e.problems) > before {
			continue
		}
		v.scope = &scope{outer: base, vars: v.vars}
		if !e.condition(v.If, v.Here.Value("if"), v.vars, v.scope) {
			continue
		}
		if !namePattern.MatchString(v.name) {
			e.add(badName(at, v.name))
			continue
		}
		if first, again := taken[v.name]; again {
			hint := ""
			if v.Range != "" && first == at {
				hint = "each item of the range makes a package: put ${{range.key}} into the name"
			}
			e.add(at.Problem(hint, "two packages are called %q, the first in line %d", v.name, first.Line()))
			continue
		}
		taken[v.name] = at
		kept = append(kept, v)
	}
	return kept
}

// rangeVars are the variables of the first pass in a subpackage for an item of a range,
// before which there are so many others.
func (e *expander) rangeVars(sub *Subpackage, before int, key, value string) map[string]string {
	if before >= maxPackages {
		exceed(sub.Here.Value("range"), "the ranges make more than %d packages", maxPackages)
	}
	e.spend(32*len(e.vars), sub.Here.Value("range"))
	vars := maps.Clone(e.vars)
	vars["range.key"], vars["range.value"] = key, value
	return vars
}

// targetVars are the variables of the third pass that do not depend on the package.
func (e *expander) targetVars() map[string]string {
	vars := maps.Clone(e.vars)
	delete(vars, "package.description")
	arch := e.target.Arch
	vars["package.srcdir"] = workDir
	vars["targets.outdir"] = outputDir
	vars["targets.destdir"] = path.Join(outputDir, e.main.name)
	vars["build.arch"] = string(arch)
	vars["build.goarch"] = arch.GoArch()
	if v := arch.Variant(); v != "" {
		vars["build.goarch"] += "/" + v
	}
	libc := cmp.Or(e.target.Libc, "gnu")
	vars["host.triplet.gnu"] = gnuTriplet(arch, libc)
	vars["host.triplet.rust"] = rustTriplet(arch, libc)
	for flavour, libc := range map[string]string{"glibc": "gnu", "musl": "musl"} {
		vars["cross.triplet.gnu."+flavour] = gnuTriplet(arch, libc)
		vars["cross.triplet.rust."+flavour] = rustTriplet(arch, libc)
	}
	for name := range e.recipe.Options {
		vars["options."+name+".enabled"] = strconv.FormatBool(slices.Contains(e.target.Options, name))
	}
	return vars
}

// stepScope makes the scope that the steps of all packages share.
func (e *expander) stepScope(variants []variant) {
	vars := e.targetVars()
	vars["targets.package."+e.main.name] = path.Join(outputDir, e.main.name)
	for _, v := range variants {
		vars["targets.package."+v.name] = path.Join(outputDir, v.name)
	}
	e.steps = &scope{vars: vars}
}

// packageScope adds what differs from package to package.
func (e *expander) packageScope(v *variant) *scope {
	name := e.main.name
	if v != nil {
		name = v.name
	}
	vars := map[string]string{"targets.contextdir": path.Join(outputDir, name), "context.name": name}
	if v == nil {
		return &scope{e.steps, vars}
	}
	maps.Copy(vars, v.vars)
	vars["targets.subpkgdir"], vars["subpkg.name"] = path.Join(outputDir, name), name
	delete(vars, "package.description")
	return &scope{e.steps, vars}
}

// condition evaluates an "if"; one that is not there, or wrong and told of, holds.
func (e *expander) condition(text string, at yamlread.Place, vars map[string]string, s *scope) bool {
	if strings.TrimSpace(text) == "" {
		return true
	}
	c, err := ParseCondition(text)
	if err != nil {
		ce := err.(*ConditionError)
		e.add(at.ProblemInside(ce.Offset, ce.Hint, "%s", ce.Text))
		return true
	}
	holds, errs := c.Eval(func(name string) (string, bool) {
		if v, ok := vars[name]; ok {
			return phrase{text: v}.strict(s, nil, &e.problems).text, true
		}
		return s.lookup(name)
	})
	for _, err := range errs {
		ce := err.(*ConditionError)
		e.add(at.ProblemInside(ce.Offset, s.undefined(ce.Hint), "%s", ce.Text))
	}
	return holds || len(errs) > 0
}

// environment fills what a sandbox is asked to hold from the recipe's own words.
func (e *expander) environment(env *Environment, c *ImageConfig, vars map[string]string, needs needSet) {
	at := c.Contents.Here.Value("packages")
	for i, text := range c.Contents.Packages {
		if p, ok := e.finalise(text, at.Item(i), vars); ok {
			e.need(p, p.at.String(), false, needs)
		}
	}
	env.Env = plainMap(c.Environment, vars)
	if env.Env == nil {
		env.Env = map[string]string{}
	}
	env.Repositories = plainList(slices.Concat(c.Contents.Repositories, c.Contents.BuildRepositories), vars)
	env.Keyring = plainList(c.Contents.Keyring, vars)
	if c.Accounts.RunAs != "" || len(c.Accounts.Users) > 0 || len(c.Accounts.Groups) > 0 {
		accounts := c.Accounts
		env.Accounts = &accounts
	}
	env.setGiven(e.target.Env)
}

// finalise takes text through the first two passes; ok is false where a mistake was found and told.
func (e *expander) finalise(text string, at yamlread.Place, vars map[string]string) (p phrase, ok bool) {
	before := len(e.problems)
	p = phrase{text: text, at: at}.plain(vars).strict(e.final, nil, &e.problems)
	e.spend(len(p.text), at)
	return p, len(e.problems) == before
}

// need adds one package to what is needed.
func (e *expander) need(p phrase, from string, native bool, needs needSet) {
	if p.text = strings.TrimSpace(p.text); p.text == "" {
		return
	}
	d, err := apk.ParseDependency(p.text)
	if err != nil {
		e.add(p.at.Problem("", "%s", err))
		return
	}
	needs.add(p.text, Need{Dependency: d, From: from, Native: native})
}

// needSet is packages that are needed, by how they are written.
type needSet map[string]Need

func (s needSet) add(text string, n Need) {
	if before, ok := s[text]; ok {
		before.Native = before.Native && n.Native
		s[text] = before
		return
	}
	s[text] = n
}

// remove takes out what is written so, or means the same.
func (s needSet) remove(text string) {
	text = strings.TrimSpace(text)
	d, err := apk.ParseDependency(text)
	maps.DeleteFunc(s, func(key string, n Need) bool { return key == text || err == nil && n.String() == d.String() })
}

// options adds and removes what the chosen build options say.
func (s needSet) options(e *expander) {
	for _, name := range e.target.Options {
		option, ok := e.recipe.Options[name]
		if !ok {
			continue // told by variables
		}
		packages := option.Environment.Contents.Packages
		for _, text := range plainList(packages.Remove, e.vars) {
			s.remove(text)
		}
		for i, text := range packages.Add {
			if p, ok := e.finalise(text, packages.Here.Value("add").Item(i), e.vars); ok {
				e.need(p, p.at.String(), false, s)
			}
		}
	}
}

// list is the needs, sorted, each once however it is spelt.
func (s needSet) list() []Need {
	byMeaning := make(needSet, len(s))
	for _, text := range s.declared() {
		byMeaning.add(s[text].String(), s[text])
	}
	list := []Need{}
	for _, key := range byMeaning.declared() {
		list = append(list, byMeaning[key])
	}
	return list
}

func (e *expander) mainOutput(needs needSet) Output {
	p := &e.recipe.Package
	o := Output{
		Name: e.main.name, Description: e.main.description, URL: plainText(p.URL, e.vars),
		Annotations: plainMap(p.Annotations, e.vars), CPE: p.CPE.format(e.main.version),
	}
	o.Commit = cmp.Or(plainText(p.Commit, e.vars), e.target.Commit)
	e.dependencies(&o, &p.Dependencies, e.vars)
	o.declared(p.Options, p.Scriptlets, p.Checks, p.Setcap, p.Owners, e.vars)
	f := frame{scope: e.packageScope(nil), vars: e.vars, at: "pipeline", pkg: o.Name, steps: &o.Steps, needs: needs}
	e.pipeline(e.recipe.Pipeline, f)
	return o
}

func (e *expander) output(v *variant, needs needSet) Output {
	o := Output{
		Name: v.name, Description: plainText(v.Description, v.vars), URL: plainText(v.URL, v.vars),
		Annotations: plainMap(v.Annotations, v.vars),
	}
	e.spend(len(v.name)+len(o.Description)+len(o.URL), v.Here)
	for _, text := range o.Annotations {
		e.spend(len(text), v.Here)
	}
	o.Commit = cmp.Or(plainText(v.Commit, v.vars), plainText(e.recipe.Package.Commit, e.vars), e.target.Commit)
	e.dependencies(&o, &v.Dependencies, v.vars)
	o.declared(v.Options, v.Scriptlets, v.Checks, v.Setcap, v.Owners, v.vars)
	for _, text := range o.Scriptlets {
		e.spend(len(text), v.Here)
	}
	f := frame{scope: e.packageScope(v), vars: v.vars, at: "subpackage:" + o.Name, pkg: o.Name, steps: &o.Steps, needs: needs}
	e.pipeline(v.Pipeline, f)
	return o
}

// dependencies reads what a package declares to need, give and replace.
func (e *expander) dependencies(o *Output, d *Dependencies, vars map[string]string) {
	list := func(key string, texts []string) (all []apk.Dependency, declared []string) {
		at := d.Here.Value(key)
		for i, text := range texts {
			p, ok := e.finalise(text, at.Item(i), vars)
			if p.text = strings.TrimSpace(p.text); !ok || p.text == "" {
				continue
			}
			dependency, err := apk.ParseDependency(p.text)
			if err != nil {
				e.add(p.at.Problem("", "%s", err))
				continue
			}
			if key == "provides" && (dependency.Conflict || dependency.Op != apk.Any && dependency.Op != apk.Equal) {
				e.add(p.at.Problem("a package provides a name, or name=version", "%q can't be provided", p.text))
				continue
			}
			all, declared = append(all, dependency), append(declared, p.text)
		}
		return all, declared
	}
	o.Runtime, o.depends = list("runtime", d.Runtime)
	o.Provides, o.provides = list("provides", d.Provides)
	o.Replaces, _ = list("replaces", d.Replaces)
	priority := func(key, text string) int64 {
		p, ok := e.finalise(text, d.Here.Value(key), vars)
		if !ok || p.text == "" {
			return 0
		}
		n, err := strconv.ParseInt(p.text, 10, 64)
		if err != nil {
			e.add(p.at.Problem("", "%q is %q, expected a whole number", key, p.text))
		}
		return n
	}
	o.ProviderPriority = priority("provider-priority", d.ProviderPriority)
	o.ReplacesPriority = priority("replaces-priority", d.ReplacesPriority)
}

// declared fills in what a recipe says of a package outright.
func (o *Output) declared(options PackageOptions, s Scriptlets, checks Checks, setcap []FileCapability, owners []FileOwner, vars map[string]string) {
	o.NoProvides, o.NoDepends, o.NoCommands = options.NoProvides, options.NoDepends, options.NoCommands
	o.NoVersionedShlibDeps = options.NoVersionedShlibDeps
	for name, text := range map[string]string{
		".pre-install": s.PreInstall, ".post-install": s.PostInstall, ".pre-deinstall": s.PreDeinstall, ".post-deinstall": s.PostDeinstall,
		".pre-upgrade": s.PreUpgrade, ".post-upgrade": s.PostUpgrade, ".trigger": s.Trigger.Script,
	} {
		if text == "" {
			continue
		}
		if o.Scriptlets == nil {
			o.Scriptlets = map[string]string{}
		}
		o.Scriptlets[name] = plainText(text, vars)
	}
	o.Triggers = plainList(s.Trigger.Paths, vars)
	o.ChecksDisabled = checks.Disabled
	for _, c := range setcap {
		o.Setcap = append(o.Setcap, Setcap{c.Path, c.Add})
	}
	for _, one := range owners {
		o.Owners = append(o.Owners, Owner{plainText(one.Path, vars), plainText(one.User, vars), plainText(one.Group, vars), one.Recursive})
	}
}

// format writes the CPE as version 2.3 of its naming does, or "" where a recipe has none.
func (c *CPE) format(version string) string {
	if c.Vendor == "" || c.Product == "" {
		return ""
	}
	parts := []string{"cpe", "2.3", cmp.Or(c.Part, "a"), c.Vendor, c.Product, version, "*"}
	for _, part := range []string{c.Edition, c.Language, c.SoftwareEdition, c.TargetSoftware, c.TargetHardware, c.Other} {
		parts = append(parts, cmp.Or(part, "*"))
	}
	return strings.Join(parts, ":")
}

// test compiles a test into its package's output.
func (e *expander) test(o *Output, section *TestSection, v *variant, s *Script) {
	if section == nil || len(section.Pipeline) == 0 {
		return
	}
	needs, t := needSet{}, &Test{}
	vars, at := e.vars, "test"
	if v != nil {
		vars, at = v.vars, "subpackage-test:"+v.name
	}
	e.environment(&t.Environment, &section.Environment, vars, needs)
	env := maps.Clone(s.Environment.Env)
	delete(env, "SOURCE_DATE_EPOCH")
	if own, ok := e.recipe.Environment.Environment["SOURCE_DATE_EPOCH"]; ok {
		env["SOURCE_DATE_EPOCH"] = own
	}
	maps.Copy(env, t.Environment.Env)
	t.Environment.Env = env
	needs.add(o.Name, Need{Dependency: apk.Dependency{Name: o.Name}, From: "the package under test"})
	for _, d := range e.target.AppendTestPackages {
		needs.add(d.String(), Need{Dependency: d, From: "--test-package-append"})
	}
	e.pipeline(section.Pipeline, frame{scope: e.packageScope(v), vars: vars, at: at, pkg: o.Name, steps: &t.Steps, needs: needs, test: true})
	t.Environment.Packages, t.Environment.declared = needs.list(), needs.declared()
	o.Test = t
}

// files lists what lies beside the recipe.
func (e *expander) files(s *Script) {
	if e.recipe.Files == nil {
		return
	}
	files, err := localFiles(e.recipe.Files)
	if err != nil {
		e.add(diag.Problem{File: e.recipe.path, Text: "read the files beside it: " + err.Error()})
	}
	s.Files, s.Source = files, e.recipe.Files
}
