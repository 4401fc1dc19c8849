package check

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// words are the words of one component of a path, in lower case: macOS-x is macos and x,
// and what stands before a hump is a word too, so that WindowsPaths speaks of windows.
func words(name string) []string {
	var list []string
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
	}) {
		lower := strings.ToLower(part)
		list = append(list, lower)
		for i := 1; i < len(part); i++ {
			if isUpper(part[i]) && !isUpper(part[i-1]) {
				// A hump: what stands before it is a word as well.
				list = append(list, lower[:i])
			}
		}
	}
	return list
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

// systems are words that speak of other systems.
var systems = regexp.MustCompile(`^(darwin[0-9]*|macosx?[0-9]*|osx[0-9]*|windows|win(32|64)[a-z]*)$`)

// otherWorlds are folders where such words mean other things: Darwin is a town, windows
// are on the screen, sparc is a terminal.
var otherWorlds = regexp.MustCompile(`(^|/)(zoneinfo|terminfo|share/icons|share/i18n)/`)

// otherSystem finds what speaks of Windows or macOS in its path.
func otherSystem(_ Package, e *entry) string {
	if e.IsDir() || otherWorlds.MatchString(e.path) {
		return ""
	}
	for component := range strings.SplitSeq(e.path, "/") {
		list := words(component)
		for i, w := range list {
			if systems.MatchString(w) || w == "mac" && i+1 < len(list) && list[i+1] == "os" {
				return "is for another system"
			}
		}
	}
	return ""
}

// architectures are the words for processors, by Alpine's name of each.
var architectures = map[string]apk.Arch{
	"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64",
	"i386": "x86", "i486": "x86", "i586": "x86", "i686": "x86", "armhf": "armhf", "armv6": "armhf", "armv7": "armv7", "armv7l": "armv7",
	"ppc64": "ppc64", "ppc64le": "ppc64le", "ppc64el": "ppc64le", "powerpc": "ppc", "powerpc64": "ppc64", "powerpc64le": "ppc64le",
	"s390": "s390x", "s390x": "s390x", "riscv": "riscv64", "riscv32": "riscv32", "riscv64": "riscv64", "loongarch64": "loongarch64",
	"mips": "mips", "mipsel": "mips", "mips64": "mips64", "mips64el": "mips64", "sparc": "sparc", "sparc64": "sparc64", "ia64": "ia64", "m68k": "m68k",
}

// spelled are architectures whose names have a hyphen or an underscore in them.
var spelled = strings.NewReplacer("x86_64", "amd64", "x86-64", "amd64", "X86_64", "amd64", "x86_32", "i386", "x86-32", "i386")

// otherArchitecture finds what speaks of a processor that nothing is built for here: a
// folder with its name, or a file that bears it after another word (plugin-i386.so). A
// path that speaks of an architecture that packages are built for as well is left alone
// (x86_64-linux/ldscripts/elf_i386.x), and so is a package that says it in its own name.
func otherArchitecture(p Package, e *entry) string {
	if e.IsDir() || otherWorlds.MatchString(e.path) {
		return ""
	}
	own := words(spelled.Replace(p.Name))
	components := strings.Split(e.path, "/")
	other := ""
	for i, component := range components {
		for place, w := range words(spelled.Replace(component)) {
			switch arch, isArch := architectures[w]; {
			case !isArch:
			case arch == p.Arch || arch == apk.ArchX86_64 || arch == apk.ArchAArch64:
				return ""
			case (place > 0 || i < len(components)-1) && !slices.Contains(own, w):
				other = w
			}
		}
	}
	if other == "" {
		return ""
	}
	return "is for " + other
}

// testedBy tells whether a test has a step that uses a pipeline of that name, in
// whatever folder, or that runs one of the commands.
func testedBy(pipelines []string, commands ...string) func(TestStep) bool {
	run := make([]*regexp.Regexp, len(commands))
	for i, c := range commands {
		run[i] = regexp.MustCompile(`(^|[\s;|&($` + "`" + `/])` + regexp.QuoteMeta(c) + `($|[\s;|&)])`)
	}
	return func(t TestStep) bool {
		return slices.Contains(pipelines, path.Base(t.Uses)) ||
			slices.ContainsFunc(run, func(r *regexp.Regexp) bool { return r.MatchString(t.Shell) })
	}
}
