package images

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/repo"
)

// Reason is one thing for which an image is refused.
type Reason struct {
	Rule    string `json:"rule"`              // seed, shell, package-manager, setuid, capability, script, package, license, origin, unsigned, size
	Path    string `json:"path,omitempty"`    // absolute in the image; empty for a package as a whole
	Package string `json:"package,omitempty"` // name and version of who brought it; empty where the image file did
	Script  string `json:"script,omitempty"`  // of a package, where it is about one
	Text    string `json:"text"`              // e.g. "a shell (busybox)"
}

// fewReasons is how many reasons that differ in their path alone are listed one by one.
const fewReasons = 3

// anywhere is the reason without the path that it stands at.
func (r Reason) anywhere() Reason {
	r.Path = ""
	return r
}

func (r Reason) String() string {
	by := "the image file makes it"
	if r.Package != "" {
		by = r.Package + " brings it"
	}
	switch {
	case r.Path == "" && r.Package == "":
		return r.Text
	case r.Path == "":
		return fmt.Sprintf("%s: %s", r.Package, r.Text)
	}
	return fmt.Sprintf("%s: %s: %s", r.Path, r.Text, by)
}

// Refusal says that a policy refuses the image. All reasons are in it.
type Refusal struct {
	Image   string   `json:"image"` // the image's name
	Reasons []Reason `json:"reasons"`
}

func (r *Refusal) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "image %s is refused", r.Image)
	rules := map[string]bool{}
	alike := map[Reason]int{} // how many, by all but the path
	for _, reason := range r.Reasons {
		alike[reason.anywhere()]++
	}
	for _, reason := range r.Reasons {
		// A busybox brings hundreds of links, which one line tells of.
		if number := alike[reason.anywhere()]; number > fewReasons {
			alike[reason.anywhere()] = 0
			reason.Path += fmt.Sprintf(" and %d more", number-1)
			b.WriteString("\n  " + reason.String())
		} else if number > 0 {
			b.WriteString("\n  " + reason.String())
		}
		rules[reason.Rule] = true
	}
	for _, hint := range refusalHints {
		if slices.ContainsFunc(hint.rules, func(rule string) bool { return rules[rule] }) {
			b.WriteString("\n  hint: " + hint.text)
			if rules[ruleScript] && slices.Contains(hint.rules, ruleScript) {
				b.WriteString(waivers(r.Reasons))
			}
		}
	}
	return b.String()
}

// refusalHints say the way out, by rule.
var refusalHints = []struct {
	rules []string
	text  string
}{
	{[]string{ruleSeed}, "packages of a seed build other packages and are never in an image: tarn image build needs packages built from source"},
	{[]string{ruleShell, ruleManager, ruleSetuid, ruleCapability}, "leave the package out, or write distroless: false where the image is meant to have it (policy: where that denies it)"},
	{[]string{ruleScript}, "do by paths, files and accounts what the script would do, and say that the image does without it:\n    scripts:\n      waived:"},
	{[]string{rulePackage, ruleLicense, ruleOrigin, ruleUnsigned}, "leave the package out, or change policy: in the image file; tarn image why NAME tells what asks for it"},
	{[]string{ruleSize}, "leave packages out, or raise size-limit"},
}

const (
	ruleSeed       = "seed"
	ruleShell      = "shell"
	ruleManager    = "package-manager"
	ruleSetuid     = "setuid"
	ruleCapability = "capability"
	ruleScript     = "script"
)

// treeRules are the rules that an image's files are held against.
func (s *Spec) treeRules() map[string]bool {
	rules := map[string]bool{}
	if s.Distroless {
		rules = map[string]bool{ruleShell: true, ruleManager: true, ruleSetuid: true, ruleCapability: true}
	}
	if s.Policy.Shells == "deny" {
		rules[ruleShell] = true
	}
	if s.Policy.Setuid == "deny" {
		rules[ruleSetuid], rules[ruleCapability] = true, true
	}
	return rules
}

// refuse finds everything for which the image is refused, the reasons of its packages first.
func (c *composer) refuse(reasons []Reason) []Reason {
	reasons = append(reasons, c.unhandled...)
	if rules := c.spec.treeRules(); len(rules) > 0 {
		for _, r := range checkDistroless(c.tree, c.marks(), c.fullNames()) {
			if rules[r.Rule] {
				reasons = append(reasons, r)
			}
		}
	}
	return append(reasons, refuseSize(c.spec.SizeLimit, c.tree.Archive(rootfs.ArchiveOptions{}).Size(), c.packages)...)
}

// refuseSeeds refuses packages that the first compiler came from.
func refuseSeeds(packages []Package) []Reason {
	var reasons []Reason
	for _, p := range packages {
		if p.Entry.Origin == repo.SeedOrigin {
			reasons = append(reasons, Reason{Rule: ruleSeed, Package: p.Entry.FullName(), Text: "it is a package of the seed"})
		}
	}
	return reasons
}

// shells are programs that give whoever reaches them a command line, wherever they stand.
var shells = []string{"sh", "ash", "bash", "rbash", "dash", "zsh", "ksh", "ksh93", "mksh", "lksh", "oksh", "pdksh", "csh", "tcsh", "yash", "posh", "pwsh", "busybox", "toybox"}

// rareShells have names that other things have too: they count in folders of programs.
var rareShells = []string{"hush", "lash", "msh", "fish", "rc", "es", "elvish", "nu", "xonsh", "sash", "osh", "ysh", "oil"}

// managers are programs that install further software. They count in folders of programs.
var managers = []string{
	"apk", "apk.static", "apt", "apt-get", "aptitude", "dpkg", "dpkg-deb", "rpm", "rpm2cpio", "yum", "dnf", "dnf5", "microdnf", "tdnf", "zypper", "pacman", "xbps-install", "opkg", "emerge", "nix", "nix-env", "guix", "brew", "snap", "flatpak",
	"pip", "pip3", "pipx", "uv", "poetry", "conda", "mamba", "npm", "npx", "yarn", "pnpm", "corepack", "gem", "bundle", "bundler", "cargo", "composer", "cpan", "cpanm", "luarocks", "cabal", "stack", "opam",
}

// pythonModules are package managers that are run as modules, without a program of their own.
var pythonModules = []string{"pip", "uv", "conda"}

// checkDistroless finds what a distroless image must not have: a shell or a package
// manager, by name, by where a link leads, or by the marks that a program of
// another name bears inside; and files that give rights to whoever runs them.
func checkDistroless(t *rootfs.Tree, marks map[string]string, fullNames map[string]string) []Reason {
	var reasons []Reason
	add := func(n *rootfs.Node, rule, text string) {
		owner := n.Owner
		if IsOwnPackage(owner) {
			owner = "" // the image file makes it
		}
		if to, found := t.Stat(n.Path); owner == "" && found && path.Base(to.Path) == "busybox" {
			owner = to.Owner // whose links the composer makes, as busybox's own script would
		}
		reasons = append(reasons, Reason{Rule: rule, Path: "/" + n.Path, Package: fullNames[owner], Text: text})
	}
	listed := listedShells(t)
	for n := range t.All() {
		base := path.Base(n.Path)
		if n.Mode.IsDir() {
			// site-packages/pip, dist-packages/pip
			if slices.Contains(pythonModules, base) && strings.HasSuffix(path.Dir(n.Path), "-packages") {
				add(n, ruleManager, fmt.Sprintf("a package manager (%s)", base))
			}
			continue
		}
		if n.Mode.IsRegular() {
			if n.Mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
				add(n, ruleSetuid, fmt.Sprintf("a setuid or setgid file (mode %04o)", rootfs.UnixMode(n.Mode)))
			}
			if _, found := n.Xattrs["security.capability"]; found {
				add(n, ruleCapability, "a file with capabilities")
			}
		}
		if !runnable(t, n) {
			continue
		}
		// python3.12 and pip3.12 are python and pip
		name := strings.TrimRight(base, "0123456789.")
		programs := inPrograms(n.Path)
		switch {
		case slices.Contains(shells, base), programs && slices.Contains(rareShells, base):
			add(n, ruleShell, fmt.Sprintf("a shell (%s)", base))
		case programs && (slices.Contains(managers, base) || slices.Contains(managers, name)):
			add(n, ruleManager, fmt.Sprintf("a package manager (%s)", cmp.Or(name, base)))
		case listed[n.Path]:
			add(n, ruleShell, "a shell (it stands in /etc/shells)")
		case n.Mode.IsRegular() && marks[n.Sum] != "":
			what, kind := ruleShell, "a shell"
			if slices.Contains(managers, marks[n.Sum]) {
				what, kind = ruleManager, "a package manager"
			}
			add(n, what, fmt.Sprintf("%s (%s, by its content)", kind, marks[n.Sum]))
		case n.Mode.Type() == fs.ModeSymlink:
			if to, found := t.Stat(n.Path); found && (slices.Contains(shells, path.Base(to.Path)) || marks[to.Sum] != "" && to.Mode.IsRegular()) {
				add(n, ruleShell, fmt.Sprintf("a link to a shell (/%s)", to.Path))
			}
		}
	}
	return reasons
}

// runnable reports whether a path can be run: an executable file, a link to one,
// or a link that leads nowhere in a folder of programs, for what it leads to may
// be mounted.
func runnable(t *rootfs.Tree, n *rootfs.Node) bool {
	if n.Mode.IsRegular() {
		return n.Mode&0o111 != 0
	}
	if n.Mode.Type() != fs.ModeSymlink {
		return false
	}
	to, found := t.Stat(n.Path)
	if !found {
		return inPrograms(n.Path)
	}
	return to.Mode.IsRegular() && to.Mode&0o111 != 0
}

// inPrograms reports whether a path stands in a folder of programs.
func inPrograms(p string) bool {
	dir := path.Base(path.Dir(p))
	return dir == "bin" || dir == "sbin"
}

// listedShells are the paths of the tree that /etc/shells names.
func listedShells(t *rootfs.Tree) map[string]bool {
	listed := map[string]bool{}
	data, err := t.ReadFile("etc/shells")
	if err != nil {
		return listed
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if n, found := t.Lstat(line); found {
			listed[n.Path] = true
		}
	}
	return listed
}
