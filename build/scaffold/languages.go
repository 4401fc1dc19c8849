package scaffold

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// downloads is the sentence for a build that has to download, which tarn asks for.
// prefetched is what a person has to do where a pipeline prefetches.
func prefetched(what string) string {
	return what + " are not in the source: tarn fetch --update downloads them, and locks them beside the recipe"
}

func downloads(what string) string { return what + " are not in the source: the build downloads them" }

func readCargo(t *tree, p *Project) {
	type manifest struct {
		Package struct {
			Name, Description, Homepage, Repository, License string
			Version                                          any
		}
		Bin          []struct{ Name string }
		Dependencies map[string]any
		Workspace    struct {
			Members []string
			Package struct{ Version, License, Homepage, Repository, Description string }
		}
	}
	var root manifest
	if _, err := toml.Decode(t.read("Cargo.toml"), &root); err != nil {
		p.notes = append(p.notes, "Cargo.toml cannot be read: "+err.Error())
	}
	take := func(m manifest, dir string) {
		version, _ := m.Package.Version.(string)
		p.Name, p.Upstream = or(p.Name, PackageName(m.Package.Name)), or(p.Upstream, or(version, root.Workspace.Package.Version))
		p.Description = or(p.Description, or(m.Package.Description, root.Workspace.Package.Description))
		p.Homepage = or(p.Homepage, address(or(or(m.Package.Homepage, m.Package.Repository), or(root.Workspace.Package.Homepage, root.Workspace.Package.Repository))))
		p.claimed = or(p.claimed, or(m.Package.License, root.Workspace.Package.License))
		for _, bin := range m.Bin {
			if bin.Name != "" {
				p.programs = append(p.programs, bin.Name)
			}
		}
		if len(m.Bin) == 0 && m.Package.Name != "" && t.has(path.Join(dir, "src/main.rs")) {
			p.programs = append(p.programs, m.Package.Name)
		}
	}
	take(root, ".")
	if root.Package.Name == "" {
		for _, name := range t.named(regexp.MustCompile(`^Cargo\.toml$`), 2) {
			var m manifest
			if _, err := toml.Decode(t.read(name), &m); err == nil && name != "Cargo.toml" && t.has(path.Join(path.Dir(name), "src/main.rs")) {
				take(m, path.Dir(name))
			}
		}
	}
	p.programTest()
	var with [][2]string
	if len(p.programs) == 1 {
		with = [][2]string{{"output", p.programs[0]}}
	}
	opts := "--release"
	if t.has("Cargo.lock") {
		opts += " --locked"
	} else {
		p.notes = append(p.notes, "there is no Cargo.lock: what is built with is not fixed")
	}
	if t.hasFolder("vendor") {
		opts += " --offline"
	} else if len(root.Dependencies) > 0 || len(root.Workspace.Members) > 0 {
		p.notes = append(p.notes, prefetched("crates"))
	}
	with = append(with, [2]string{"opts", opts})
	p.steps = append(p.steps, step{uses: "cargo/build", with: with}, step{uses: "strip"})
}

func readGo(t *tree, p *Project) {
	text := t.read("go.mod")
	module := find(`(?m)^module[ \t]+"?(\S+?)"?\s*$`, text)
	base := regexp.MustCompile(`/v[0-9]+$`).ReplaceAllString(module, "")
	p.Name = or(p.Name, PackageName(path.Base(base)))
	if strings.HasPrefix(base, "github.com/") {
		p.Homepage = or(p.Homepage, "https://"+base)
	}
	// Programs are packages called main: at the root, or one a folder below cmd/.
	main := regexp.MustCompile(`(?m)^package main\b`)
	seen := map[string]bool{}
	for _, name := range t.named(regexp.MustCompile(`\.go$`), 2) {
		dir := path.Dir(name)
		if strings.HasSuffix(name, "_test.go") || seen[dir] || dir != "." && !strings.HasPrefix(dir, "cmd/") && dir != "cmd" || strings.Contains(dir, "internal") {
			continue
		}
		if text := t.head(name, 16<<10); main.MatchString(text) && !strings.Contains(text, "//go:build ignore") {
			seen[dir] = true
		}
	}
	var dirs []string
	for dir := range seen {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	if i := slices.Index(dirs, "."); i >= 0 && len(dirs) > 1 {
		dirs = []string{"."}
	}
	vendored := t.has("vendor/modules.txt")
	if !vendored && regexp.MustCompile(`(?m)^(require\b|\s+\S+ v[0-9])`).MatchString(text) {
		p.notes = append(p.notes, prefetched("modules"))
	}
	for _, dir := range dirs {
		program := path.Base(dir)
		if dir == "." || dir == "cmd" {
			program = path.Base(base)
		}
		p.programs = append(p.programs, program)
		packages := "."
		if dir != "." {
			packages = "./" + dir
		}
		p.steps = append(p.steps, step{uses: "go/build", with: [][2]string{{"packages", packages}, {"output", program}}})
	}
	if len(dirs) == 0 {
		p.steps = append(p.steps, step{comment: "No program was found at the root or below cmd/: say which packages to build.", uses: "go/build", with: [][2]string{{"packages", "./..."}, {"output", p.Name}}})
		p.programs = []string{p.Name}
		p.notes = append(p.notes, "no program was found in the module")
	}
	p.steps = append(p.steps, step{uses: "strip"})
	p.programTest()
}

func readPython(t *tree, p *Project) {
	var project struct {
		BuildSystem struct {
			Requires     []string
			BuildBackend string `toml:"build-backend"`
		} `toml:"build-system"`
		Project struct {
			Name, Version, Description string
			License                    any
			Scripts                    map[string]string
			URLs                       map[string]string
		}
		Tool struct {
			Poetry struct {
				Name, Version, Description, License, Homepage, Repository string
				Scripts                                                   map[string]any
			}
		}
	}
	if _, err := toml.Decode(t.read("pyproject.toml"), &project); err != nil {
		p.notes = append(p.notes, "pyproject.toml cannot be read: "+err.Error())
	}
	info := t.read("PKG-INFO")
	field := func(name string) string {
		head, _, _ := strings.Cut(info, "\n\n")
		if value := find(`(?mi)^`+name+`:[ \t]*(.+)$`, head); value != "UNKNOWN" {
			return value
		}
		return ""
	}
	setup := t.read("setup.cfg") + "\n" + t.read("setup.py")
	said := func(key string) string { // name = x of setup.cfg, name="x" of setup.py
		return or(find(`(?m)^`+key+`[ \t]*=[ \t]*([^\s%$][^\n]*)$`, t.read("setup.cfg")), find(`\b`+key+`\s*=\s*['"]([^'"]+)['"]`, t.read("setup.py")))
	}
	poetry := project.Tool.Poetry
	name := or(or(or(project.Project.Name, poetry.Name), field("Name")), said("name"))
	p.Upstream = or(p.Upstream, or(or(or(project.Project.Version, poetry.Version), field("Version")), said("version")))
	p.Description = or(p.Description, or(or(or(project.Project.Description, poetry.Description), field("Summary")), said("description")))
	p.Homepage = or(p.Homepage, address(or(or(field("Home-page"), poetry.Homepage), or(poetry.Repository, said("url")))))
	for _, key := range []string{"Homepage", "homepage", "Home", "Repository", "repository", "Source", "source"} {
		p.Homepage = or(p.Homepage, address(project.Project.URLs[key]))
	}
	license, _ := project.Project.License.(string)
	if of, is := project.Project.License.(map[string]any); is {
		license, _ = of["text"].(string)
	}
	p.claimed = or(p.claimed, or(or(or(license, poetry.License), or(field("License-Expression"), field("License"))), said("license")))

	for script := range project.Project.Scripts {
		p.programs = append(p.programs, script)
	}
	for script := range poetry.Scripts {
		p.programs = append(p.programs, script)
	}
	if m := find(`(?s)console_scripts['"]?\s*[:=]\s*\[?(.*?)(?:\]|\n\n|\n\[)`, setup); m != "" {
		for _, one := range regexp.MustCompile(`(?m)['"]?([A-Za-z0-9_.-]+)\s*=\s*[A-Za-z0-9_.]+:`).FindAllStringSubmatch(m, -1) {
			p.programs = append(p.programs, one[1])
		}
	}
	p.programTest()
	if name == "" {
		name = p.Name
	}
	dist := strings.ReplaceAll(PackageName(name), "_", "-")
	p.Name = dist
	if len(p.programs) == 0 && !strings.HasPrefix(dist, "py3-") {
		p.Name = "py3-" + strings.TrimPrefix(dist, "python-")
	}

	// What pip would fetch into an environment of its own has to be there.
	requires := project.BuildSystem.Requires
	if project.BuildSystem.BuildBackend == "" && len(requires) == 0 {
		requires = []string{"setuptools", "wheel"}
	}
	for _, one := range requires {
		if tool := find(`^\s*([A-Za-z0-9_.-]+)`, one); tool != "" {
			p.packages = append(p.packages, wanted{name: "py3-" + strings.ReplaceAll(PackageName(tool), "_", "-")})
		}
	}
	if len(t.named(regexp.MustCompile(`\.(c|cpp|pyx|rs)$`), 5)) > 0 {
		p.packages = slices.Insert(p.packages, 0, wanted{name: "build-base"})
	}
	p.steps = append(p.steps, step{uses: "python/build-wheel"})
	// The module is called like the project, unless the tree says otherwise.
	module := strings.ReplaceAll(dist, "-", "_")
	for _, root := range []string{"src/", ""} {
		if t.has(root + module + "/__init__.py") {
			break
		}
		if found := t.named(regexp.MustCompile(`^__init__\.py$`), 2); len(found) > 0 {
			for _, one := range found {
				if dir := strings.TrimPrefix(path.Dir(one), "src/"); dir != "." && !strings.Contains(dir, "/") && !t.has(root+module+".py") {
					module = dir
					break
				}
			}
		}
	}
	if word.MatchString(module) {
		p.test = []string{"python3 -c 'import " + module + "'"}
	}
	p.testWith = []string{"busybox", "python3"}
}

func readPerl(t *tree, p *Project) {
	var meta struct {
		Name, Abstract string
		Version        any
		License        []string
		Resources      struct {
			Homepage   string
			Repository struct{ Web, URL string }
		}
	}
	if err := json.Unmarshal([]byte(t.read("META.json")), &meta); err != nil && t.has("META.json") {
		p.notes = append(p.notes, "META.json cannot be read: "+err.Error())
	}
	dist := or(meta.Name, find(`(?m)^name:\s*['"]?([A-Za-z0-9_-]+)`, t.read("META.yml")))
	dist = or(dist, strings.ReplaceAll(find(`\bNAME['"]?\s*=>\s*['"]([A-Za-z0-9_:]+)['"]`, t.read("Makefile.PL")), "::", "-"))
	if version, is := meta.Version.(string); is {
		p.Upstream = or(p.Upstream, strings.TrimPrefix(version, "v"))
	}
	p.Description = or(p.Description, meta.Abstract)
	p.Homepage = or(p.Homepage, address(or(meta.Resources.Homepage, meta.Resources.Repository.Web)))
	if len(meta.License) == 1 && meta.License[0] != "unknown" {
		p.claimed = or(p.claimed, meta.License[0])
	}
	if dist == "" {
		dist = p.Name
	}
	p.Name = "perl-" + strings.TrimPrefix(PackageName(dist), "perl-")
	p.packages = append(p.packages, wanted{name: "perl"})
	if len(t.named(regexp.MustCompile(`\.(xs|c)$`), 4)) > 0 {
		p.packages = append(p.packages, wanted{name: "build-base"}, wanted{name: "perl-dev"})
	}
	if t.has("Makefile.PL") {
		p.steps = append(p.steps, step{uses: "perl/make"}, step{uses: "autoconf/make"}, step{uses: "autoconf/make-install"})
	} else {
		p.steps = append(p.steps, step{runs: "perl Build.PL --installdirs vendor\n./Build\n./Build install --destdir ${{targets.destdir}}"})
	}
	p.steps = append(p.steps, step{uses: "perl/cleanup"})
	p.manuals = true // out of the modules' own documentation
	if word.MatchString(dist) {
		p.test = []string{"perl -M" + strings.ReplaceAll(dist, "-", "::") + " -e 1"}
	}
	p.testWith = []string{"busybox", "perl"}
}

func readNPM(t *tree, p *Project) {
	var meta struct {
		Name, Version, Description, Homepage string
		License, Repository, Bin             any
		Dependencies                         map[string]string
		Scripts                              map[string]string
	}
	if err := json.Unmarshal([]byte(t.read("package.json")), &meta); err != nil {
		p.notes = append(p.notes, "package.json cannot be read: "+err.Error())
	}
	p.Name, p.Upstream = or(p.Name, PackageName(meta.Name)), or(p.Upstream, meta.Version)
	p.Description, p.Homepage = or(p.Description, meta.Description), or(p.Homepage, address(meta.Homepage))
	if of, is := meta.Repository.(map[string]any); is && p.Homepage == "" {
		repository, _ := of["url"].(string)
		p.Homepage = address(strings.TrimSuffix(strings.TrimPrefix(repository, "git+"), ".git"))
	}
	license, _ := meta.License.(string)
	p.claimed = or(p.claimed, license)
	switch bin := meta.Bin.(type) {
	case string:
		p.programs = append(p.programs, path.Base(meta.Name))
	case map[string]any:
		for name := range bin {
			p.programs = append(p.programs, name)
		}
	}
	p.programTest()
	p.packages = append(p.packages, wanted{name: "busybox"}, wanted{name: "nodejs"}, wanted{name: "npm"})
	runs := ""
	lock := t.first("package-lock.json", "npm-shrinkwrap.json")
	if meta.Scripts["build"] != "" {
		if lock != "" {
			runs = "npm ci\nnpm run build\n"
		} else {
			runs = "npm install\nnpm run build\n"
		}
	}
	if lock == "" && len(meta.Dependencies) > 0 {
		p.notes = append(p.notes, "there is no package-lock.json: what is installed with it is not fixed")
	}
	runs += "npm install --global --omit=dev --prefix ${{targets.destdir}}/usr \"$(npm pack --silent)\""
	p.steps = append(p.steps, step{runs: runs})
	if len(meta.Dependencies) > 0 || meta.Scripts["build"] != "" {
		p.network = downloads("packages of npm")
	}
	p.testWith = []string{"busybox", "nodejs"}
	if len(p.programs) == 0 && regexp.MustCompile(`^(@[a-z0-9._-]+/)?[a-z0-9._-]+$`).MatchString(meta.Name) {
		p.test = []string{"NODE_PATH=/usr/lib/node_modules node -e 'require(\"" + meta.Name + "\")'"}
	}
}
