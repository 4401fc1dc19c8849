package images

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/images/scriptlet"
)

// ScriptOutcome is what became of a script of a package, which nobody ran.
type ScriptOutcome struct {
	Package string   `json:"package"` // name and version
	Script  string   `json:"script"`  // pre-install, post-install or trigger
	Result  string   `json:"result"`  // see the constants
	Did     []string `json:"did,omitempty"`
	Reason  string   `json:"reason,omitempty"` // of a waiver
}

// What may become of a script.
const (
	ScriptReplaced = "replaced" // the composer did what it would do
	ScriptIdle     = "idle"     // it would do nothing in this image
	ScriptWaived   = "waived"   // the image file says that the image does without it
)

// waivable are the scripts that apk runs when it installs a package. Those of upgrades
// and of removal stay in the database for apk.
var waivable = []string{"pre-install", "post-install", "trigger"}

func (l *loader) checkWaivers(s *Spec) {
	for i := range s.Scripts.Waived {
		w := &s.Scripts.Waived[i]
		if w.Script != "" && !slices.Contains(waivable, w.Script) {
			l.add(w.Here.Value("script"), "one of "+strings.Join(waivable, ", ")+"; without the key it is all of the package's", "unknown script %q", w.Script)
		}
		if checkPattern(w.Package) != nil {
			l.add(w.Here.Value("package"), "", "%q is no name of a package", w.Package)
		}
	}
}

// replaceScripts does what the packages' scripts would do, in the order in which apk
// runs them: of each package the one before and the one after its files are installed,
// and in the end the triggers. A script that holds what the composer does not know is
// a reason to refuse the image, unless it is waived.
func (c *composer) replaceScripts() error {
	used := make([]bool, len(c.spec.Scripts.Waived))
	for _, p := range c.packages {
		for _, name := range waivable[:2] {
			c.replaceScript(p, name, []string{string(p.Info.Version)}, used)
			if name == "pre-install" {
				if err := c.owners(p); err != nil {
					return err
				}
			}
		}
	}
	for _, p := range c.packages {
		if folders := c.triggered(p); len(folders) > 0 {
			c.replaceScript(p, "trigger", folders, used)
		}
	}
	for i, w := range c.spec.Scripts.Waived {
		if !used[i] {
			c.warnings = append(c.warnings, Warning{Text: fmt.Sprintf("%s: no package of the image has a script that this waives", w.Here)})
		}
	}
	return nil
}

func (c *composer) replaceScript(p *scanned, name string, args []string, used []bool) {
	i := slices.IndexFunc(p.Scripts, func(s Script) bool { return s.Name == "."+name })
	if i < 0 {
		return
	}
	outcome := ScriptOutcome{Package: p.Info.FullName(), Script: name, Result: ScriptIdle}
	defer func() { c.scripts = append(c.scripts, outcome) }()
	for j, w := range c.spec.Scripts.Waived {
		if glob(w.Package, p.Info.Name) && (w.Script == "" || w.Script == name) {
			outcome.Result, outcome.Reason, used[j] = ScriptWaived, w.Reason, true
		}
	}
	if outcome.Result == ScriptWaived {
		return
	}
	did, err := scriptlet.Do(c.tree, scriptlet.Script{Content: p.Scripts[i].Content, Args: args})
	if err != nil {
		c.unhandled = append(c.unhandled, Reason{
			Rule: ruleScript, Package: p.Info.FullName(), Script: name,
			Text: fmt.Sprintf("its %s script does what the composer does not: %v", name, err),
		})
		return
	}
	if outcome.Did = did; len(did) > 0 {
		outcome.Result = ScriptReplaced
	}
}

// triggered are the folders that packages brought and that a package watches.
func (c *composer) triggered(p *scanned) []string {
	if len(p.Info.Triggers) == 0 {
		return nil
	}
	var folders []string
	for n := range c.tree.All() {
		if !n.Mode.IsDir() || n.Owner == "" {
			continue
		}
		for _, pattern := range p.Info.Triggers {
			if found, err := path.Match(strings.TrimLeft(pattern, "+"), "/"+n.Path); err == nil && found {
				folders = append(folders, "/"+n.Path)
				break
			}
		}
	}
	return folders
}

// owners gives the files of a package to whom it names, by the image's own numbers, as
// apk does: a package is built where its user had another number, or none. Packages of
// version 3 have no numbers: whom the image does not know is nobody (65534), as with apk.
func (c *composer) owners(p *scanned) error {
	if len(p.named) == 0 {
		return nil
	}
	users, groups := map[string]int{}, map[string]int{}
	for _, u := range slices.Backward(c.tree.Users()) {
		users[u.Name] = u.UID
	}
	for _, g := range slices.Backward(c.tree.Groups()) {
		groups[g.Name] = g.GID
	}
	var errs []error
	strangers := map[string]string{} // a path of each
	note := func(kind, name string, numbers map[string]int, path string) {
		_, known := numbers[name]
		if who := kind + " " + name; p.namesOnly && !known && name != "" && name != "nobody" && strangers[who] == "" {
			strangers[who] = path
		}
	}
	for _, i := range slices.Sorted(maps.Keys(p.named)) {
		names, e := p.named[i], &p.Entries[i]
		uid, gid := e.UID, e.GID
		if n, known := users[names.user]; known {
			uid = n
		}
		if n, known := groups[names.group]; known {
			gid = n
		}
		note("user", names.user, users, e.Path)
		note("group", names.group, groups, e.Path)
		if uid == e.UID && gid == e.GID {
			continue
		}
		if p.owned == nil {
			p.owned = map[int][2]int{}
		}
		p.owned[i] = [2]int{uid, gid}
		n, found := c.tree.Lstat(e.Path)
		if found && n.Owner == p.Info.Name && n.Mode.Type() == e.Mode.Type() {
			errs = append(errs, c.tree.Chown(e.Path, uid, gid))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(strangers)) {
		c.warnings = append(c.warnings, Warning{Package: p.Info.FullName(), Text: fmt.Sprintf("/%s belongs to the %s, which the image does not have: it is nobody's (65534), as with apk", strangers[name], name)})
	}
	return errors.Join(errs...)
}

// names are the user and the group that a package gives a path to.
type names struct{ user, group string }

// named lists the entries of a scan that belong to somebody else than root by name.
func named(entries []scanEntry) map[int]names {
	var all map[int]names
	for i := range entries {
		e := &entries[i]
		if e.User == "" && e.Group == "" {
			continue
		}
		if all == nil {
			all = map[int]names{}
		}
		all[i] = names{e.User, e.Group}
	}
	return all
}

// otherThanRoot is a name as a scan keeps it: root is 0 in every image.
func otherThanRoot(name string) string {
	if name == "root" {
		return ""
	}
	return name
}

// waivers is what would have to be written for the scripts of a refusal.
func waivers(reasons []Reason) string {
	var b strings.Builder
	for _, r := range reasons {
		if r.Rule == ruleScript {
			fmt.Fprintf(&b, "\n        - {package: %s, script: %s, reason: \"...\"}", nameOf(r.Package), r.Script)
		}
	}
	return b.String()
}

// nameOf is the name of a package of which the version is known as well (busybox-1.37.0-r0).
func nameOf(full string) string {
	for range 2 {
		if i := strings.LastIndexByte(full, '-'); i > 0 {
			full = full[:i]
		}
	}
	return full
}
