package scaffold

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Project is what a source was found to be.
type Project struct {
	Origin   Origin
	Name     string // of the package
	Upstream string // upstream's version as it is written there
	Version  string // the same in apk's grammar
	// System is the build system: autoconf, configure, cmake, meson, make, go, cargo, python,
	// npm, perl; "" where none was found.
	System      string
	Also        []string // other build systems that the source has
	Description string
	Homepage    string
	Licenses    []License

	claimed  string   // licence that the metadata claims
	packages []wanted // of the environment
	asked    []string // modules that the build asks pkg-config for
	steps    []step
	network  string // why the build has to download
	programs []string
	library  string   // what lib*.so it has, without lib: "z"; "" for no library
	static   bool     // it makes static libraries, too
	modules  []string // of pkg-config, that it gives
	headers  bool
	manuals  bool
	docs     bool // what split/alldocs takes beside manuals
	locales  bool
	orphans  bool     // nothing brings a reader of manuals
	test     []string // the script of the first test
	testWith []string // packages that it needs
	notes    []string
}

// wanted is a package of the environment, and why where it needs a word.
type wanted struct{ name, why string }

// step is a step of the main pipeline.
type step struct {
	comment string
	uses    string
	with    [][2]string
	runs    string
}

// Hints say what the address and the files do not, or say wrong.
type Hints struct {
	Name, Version string
	// NoReaders says that nothing brings the readers of manuals that packages of manuals
	// are found to need (man-db, texinfo).
	NoReaders bool
}

// ErrNoVersion says that neither address nor files tell the version.
var ErrNoVersion = errors.New("neither the address nor the files tell the version")

// system is a build system: how it is recognised, and what it says of a project.
type system struct {
	name string
	sign func(t *tree) bool
	read func(t *tree, p *Project)
}

// systems in the order in which one is chosen of several that a source has: what releases
// are made with, before what is only there too.
func systems() []system {
	return []system{
		{"autoconf", func(t *tree) bool { return t.has("configure") && isAutoconf(t.read("configure")) }, readAutoconf},
		{"meson", func(t *tree) bool { return t.has("meson.build") }, readMeson},
		{"autoconf", func(t *tree) bool { return t.first("configure.ac", "configure.in") != "" }, readAutoconf},
		{"cargo", func(t *tree) bool { return t.has("Cargo.toml") && !t.has("pyproject.toml") }, readCargo},
		{"go", func(t *tree) bool { return t.has("go.mod") }, readGo},
		{"python", func(t *tree) bool { return t.first("pyproject.toml", "setup.py") != "" }, readPython},
		{"perl", func(t *tree) bool { return t.first("Makefile.PL", "Build.PL") != "" }, readPerl},
		{"npm", func(t *tree) bool { return t.has("package.json") && t.makefile() == "" && !t.has("CMakeLists.txt") }, readNPM},
		{"configure", func(t *tree) bool {
			return t.has("configure") && !(t.has("CMakeLists.txt") && strings.Contains(t.read("configure"), "cmake"))
		}, readConfigure},
		{"cmake", func(t *tree) bool { return t.has("CMakeLists.txt") }, readCMake},
		{"make", func(t *tree) bool { return t.makefile() != "" }, readMake},
	}
}

// Look finds out what the files of a source are. What they do not tell is empty.
func Look(fsys fs.FS, o Origin, h Hints) (*Project, error) {
	t, err := openTree(fsys)
	if err != nil {
		return nil, err
	}
	if len(t.files) == 0 {
		return nil, errors.New("the source has no files")
	}
	p := &Project{Origin: o, Name: h.Name, Upstream: h.Version, orphans: h.NoReaders}
	if o.Repository != "" {
		p.Name = or(p.Name, PackageName(OfRepository(o.Repository)))
		if o.Tag != "" {
			p.Upstream = or(p.Upstream, OfTag(o.Tag, OfRepository(o.Repository)))
		}
	} else {
		name, version := OfAddress(o.URI)
		p.Name, p.Upstream = or(p.Name, PackageName(name)), or(p.Upstream, version)
	}
	for _, s := range systems() {
		switch {
		case !s.sign(t) || s.name == p.System:
		case p.System == "":
			p.System = s.name
			s.read(t, p)
		case p.System == "autoconf" && (s.name == "configure" || s.name == "make"):
			// They are its own.
		case !slices.Contains(p.Also, s.name):
			p.Also = append(p.Also, s.name)
		}
	}
	if p.System == "" {
		p.packages = append(p.packages, wanted{name: "build-base"})
		p.steps = []step{{comment: "No build system was found: say here how it is built.", runs: "mkdir -p ${{targets.destdir}}"}}
		p.notes = append(p.notes, "no build system was found")
	}
	if h.Name != "" {
		p.Name = h.Name
	}
	if p.Name == "" {
		return nil, errors.New("neither the address nor the files tell a name")
	}
	if p.Upstream == "" {
		return nil, ErrNoVersion
	}
	version, ok := PackageVersion(p.Upstream)
	if !ok {
		return nil, fmt.Errorf("version %q cannot be written as one of apk's", p.Upstream)
	}
	p.Version = version
	t.contents(p)
	// What follows is put into scripts: nobody vouches for it.
	p.programs, p.modules, p.asked = words(p.programs), words(p.modules), words(p.asked)
	p.library = strings.Join(words([]string{p.library}), "")
	p.Licenses = t.licenses(p.claimed)
	p.describe(t)
	return p, nil
}

// makefile is the Makefile at the root, or "".
func (t *tree) makefile() string { return t.first("GNUmakefile", "Makefile", "makefile") }

var word = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]*$`)

// words keeps what can't be anything but a word in a script.
func words(list []string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return !word.MatchString(s) })
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

var (
	manual = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_:+-]*(\.[A-Za-z][A-Za-z0-9_-]*)*\.[1-8][a-z]{0,3}(\.in)?$`)
	// versioned is what ends in a version, and not in a section of the manual.
	versioned = regexp.MustCompile(`\.so\.|[-_]v?[0-9]+\.[0-9]`)
	module    = regexp.MustCompile(`^(.+)\.pc(\.in|\.cmake|\.cmakein|\.cmake\.in)?$`)
)

// contents finds what will be installed beside programs.
func (t *tree) contents(p *Project) {
	if p.System == "go" || p.System == "cargo" || p.System == "npm" || p.System == "python" {
		return // their pipelines install programs or modules, and nothing else
	}
	p.manuals = p.manuals || slices.ContainsFunc(t.named(manual, 4), func(name string) bool { return !versioned.MatchString(path.Base(name)) })
	p.docs = p.docs || len(t.named(regexp.MustCompile(`\.(texi|texinfo|info)$`), 3)) > 0
	p.locales = len(t.named(regexp.MustCompile(`\.po$`), 3)) > 0
	if p.library == "" {
		return
	}
	p.headers = true
	for _, name := range t.named(module, 3) {
		m := module.FindStringSubmatch(path.Base(name))
		if text := t.read(name); strings.Contains(text, "Libs") && !strings.Contains(m[1], "-uninstalled") && !strings.ContainsAny(m[1], "@$") {
			p.modules = append(p.modules, m[1])
			p.Description = or(p.Description, plainWords(find(`(?m)^Description:[ \t]*(.+)$`, text)))
			p.Homepage = or(p.Homepage, address(find(`(?m)^URL:[ \t]*(\S+)$`, text)))
		}
	}
	slices.Sort(p.modules)
	p.modules = slices.Compact(p.modules)
	// Of several modules, some may be made only with libraries that are not there.
	for _, likely := range []string{p.Name, "lib" + p.Name, p.library, "lib" + p.library} {
		if i := slices.Index(p.modules, likely); i > 0 {
			p.modules[0], p.modules[i] = p.modules[i], p.modules[0]
			break
		}
	}
}

// plainWords is a description unless it is made of variables.
func plainWords(text string) string {
	if strings.ContainsAny(text, "@$") {
		return ""
	}
	return text
}

// address is what is one, or "".
func address(text string) string {
	if strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://") {
		return strings.TrimRight(text, ".,>)")
	}
	return ""
}

// describe finds words about the project where no metadata has any.
func (p *Project) describe(t *tree) {
	if p.Homepage == "" {
		if project := github(or(p.Origin.Repository, p.Origin.URI)); project != "" {
			p.Homepage = "https://github.com/" + project
		}
	}
	if p.Description == "" {
		p.Description = t.readme(p.Name)
	}
	if p.Description == "" {
		kind := "program"
		if p.library != "" && len(p.programs) == 0 {
			kind = "library"
		}
		p.Description = "The " + kind + " " + p.Name
		p.notes = append(p.notes, "the description is a guess")
	}
	p.Description = oneSentence(p.Description)
}

// oneSentence is the first sentence, without its full stop, of one line.
func oneSentence(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	text = strings.NewReplacer("${{", "{{").Replace(text)
	if first, _, found := strings.Cut(text, ". "); found && len(first) > 15 {
		text = first
	}
	if len(text) > 120 {
		end := strings.LastIndexByte(text[:120], ' ') + 1
		if end == 0 {
			end = 120 // one long word
		}
		text = strings.ToValidUTF8(text[:end], "")
	}
	text = strings.TrimRight(text, " .,;:")
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(first)) + text[size:]
}

var (
	underline  = regexp.MustCompile(`^[=~*#-]{3,}$`)
	markup     = regexp.MustCompile("[*_`]{1,3}([^*_`]+)[*_`]{1,3}|!?\\[([^]]*)\\]\\([^)]*\\)")
	notInReads = regexp.MustCompile(`(?i)^([<|!\[{.#=*+-]|badge|copyright|http|version|this (is the readme|is the file|file|directory|document)|the following|see |please|to (build|install|compile)|if you|welcome|note|table of contents|build status)`)
)

var lead = regexp.MustCompile(`^(?:This is (?:the )?|[A-Za-z0-9_.+-]+ (?:-|--|–|—|:) )(.+)$`)

// readme is the first sentence of a README that says what the project is.
func (t *tree) readme(name string) string {
	file := t.first("README.md", "README", "README.rst", "README.txt", "README.adoc", "Readme.md", "readme.md")
	if file == "" {
		return ""
	}
	for i, paragraph := range strings.Split(strings.ReplaceAll(t.head(file, 8<<10), "\r\n", "\n"), "\n\n") {
		if i > 12 {
			break
		}
		var lines []string
		for line := range strings.Lines(strings.TrimSpace(paragraph)) {
			if line = strings.TrimSpace(line); !underline.MatchString(line) {
				lines = append(lines, line)
			}
		}
		text := strings.Join(lines, " ")
		text = markup.ReplaceAllString(text, "$1$2")
		if notInReads.MatchString(text) || strings.Contains(text, "opyright") || len(strings.Fields(text)) < 4 {
			continue
		}
		lower := strings.ToLower(text)
		if strings.Contains(lower, strings.ToLower(name)) || strings.Contains(lower, " is a") {
			// "This is NAME, a thing" and "NAME - a thing" say no more than "A thing".
			if m := lead.FindStringSubmatch(text); m != nil && len(m[1]) > 10 {
				text = m[1]
			}
			if _, rest, found := strings.Cut(text, " is a"); found && len(rest) > 10 && strings.Count(text[:len(text)-len(rest)], " ") < 5 {
				text = "A" + rest
			}
			return text
		}
	}
	return ""
}

//go:embed monitor.txt
var monitorTable string

// monitored is a project's number in the database of release-monitoring.org, where known.
func monitored(name string) string {
	for line := range strings.Lines(monitorTable) {
		if project, number, _ := strings.Cut(strings.TrimSpace(line), " "); project == name {
			return number
		}
	}
	return ""
}
