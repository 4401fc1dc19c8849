package scaffold

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Recipe writes the project as a recipe, as a person would lay it out.
func (p *Project) Recipe() []byte {
	w := &writer{}
	source, transforms := p.source()
	w.head(p)
	if p.network != "" {
		w.line(0, "")
		w.line(0, "# tarn builds without a network unless a recipe says why it has to have one.")
		w.line(0, "network: %s", scalar(p.network))
	}
	w.line(0, "")
	w.environment(p)
	if len(transforms) > 0 {
		w.line(0, "")
		w.line(0, "var-transforms:")
		for _, t := range transforms {
			w.line(1, "- from: ${{package.version}}")
			w.line(2, "match: %s", scalar(t.match))
			w.line(2, "replace: %s", scalar(t.replace))
			w.line(2, "to: %s", t.to)
		}
	}
	w.line(0, "")
	w.line(0, "pipeline:")
	for i, s := range append([]step{source}, p.steps...) {
		if i > 0 {
			w.line(0, "")
		}
		w.step(1, s)
	}
	w.subpackages(p)
	w.line(0, "")
	w.update(p, source)
	w.test(p)
	return []byte(w.String())
}

// source is the step that gets the source.
func (p *Project) source() (step, []transform) {
	o := p.Origin
	if o.Repository != "" {
		tag, transforms := template(o.Tag, p.Upstream, p.Version)
		s := step{uses: "git-checkout", with: [][2]string{{"repository", o.Repository}}}
		if o.Tag != "" {
			s.with = append(s.with, [2]string{"tag", tag})
		}
		s.with = append(s.with, [2]string{"expected-commit", o.Commit})
		return s, transforms
	}
	uri, transforms := template(o.URI, p.Upstream, p.Version)
	s := step{uses: "fetch", with: [][2]string{{"uri", uri}, {"expected-sha256", o.SHA256}}}
	switch {
	case o.Local:
		s.comment = "The source was a file of the machine that this was written on: write upstream's address here."
	case o.Vouched == "":
		s.comment = "The digest is of what the address gave when this was written: nothing else vouches for it."
		if o.Signature != "" {
			s.comment += " A signature lies at " + o.Signature + "."
		}
	}
	if o.Strip != 1 {
		s.with = append(s.with, [2]string{"strip-components", fmt.Sprint(o.Strip)})
	}
	return s, transforms
}

type writer struct{ strings.Builder }

func (w *writer) line(depth int, format string, args ...any) {
	text := format
	if len(args) > 0 {
		text = fmt.Sprintf(format, args...)
	}
	if text == "" {
		w.WriteByte('\n')
		return
	}
	w.WriteString(strings.Repeat("  ", depth) + text + "\n")
}

// comment breaks a comment into lines.
func (w *writer) comment(depth int, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word)+2*depth > 88 && line != "#" {
			w.line(depth, "%s", line)
			line = "#"
		}
		line += " " + word
	}
	w.line(depth, "%s", line)
}

func (w *writer) head(p *Project) {
	w.line(0, "package:")
	w.line(1, "name: %s", scalar(p.Name))
	w.line(1, "version: %q", p.Version)
	w.line(1, "epoch: 0")
	w.line(1, "description: %s", scalar(p.Description))
	if p.Homepage != "" {
		w.line(1, "url: %s", scalar(p.Homepage))
	}
	w.line(1, "copyright:")
	if len(p.Licenses) == 0 {
		w.comment(2, "No licence was found in the source: look for it, and write it as SPDX does.")
		w.line(2, "- license: LicenseRef-unknown")
	}
	for _, l := range p.Licenses {
		w.line(2, "- license: %s", scalar(l.Expression))
		if len(l.Paths) > 0 {
			w.line(3, "paths:")
			for _, path := range l.Paths {
				w.line(4, "- %s", scalar(path))
			}
		}
	}
}

func (w *writer) environment(p *Project) {
	w.line(0, "environment:")
	w.line(1, "contents:")
	if len(p.packages) == 0 {
		w.line(2, "packages:")
		w.line(3, "- busybox")
	} else {
		w.line(2, "packages:")
	}
	for _, one := range p.packages {
		w.line(3, "- %s", one.name)
	}
	if len(p.asked) > 0 {
		w.comment(3, "Its build asks pkg-config for these; name those that it shall be built with:")
		for _, module := range p.asked {
			w.line(3, "# - pc:%s", module)
		}
	}
}

func (w *writer) step(depth int, s step) {
	if s.comment != "" {
		w.comment(depth, s.comment)
	}
	if s.uses != "" {
		w.line(depth, "- uses: %s", s.uses)
		if len(s.with) > 0 {
			w.line(depth+1, "with:")
			for _, input := range s.with {
				w.line(depth+2, "%s: %s", input[0], scalar(input[1]))
			}
		}
		return
	}
	w.line(depth, "- runs: |")
	for line := range strings.SplitSeq(s.runs, "\n") {
		w.line(depth+2, "%s", line)
	}
}

// subpackages takes out what not everybody wants who installs the package: static
// libraries first, since headers' step takes them too.
func (w *writer) subpackages(p *Project) {
	type sub struct{ suffix, description, uses string }
	var subs []sub
	library := p.library != "" || p.headers
	if library && p.static {
		subs = append(subs, sub{"static", "Static libraries of " + p.Name, "split/static"})
	}
	switch {
	case p.docs || p.library != "" && p.manuals:
		subs = append(subs, sub{"doc", "Documentation of " + p.Name, "split/alldocs"})
	case p.manuals:
		subs = append(subs, sub{"doc", "Manual pages of " + p.Name, "split/manpages"})
	}
	if p.locales {
		subs = append(subs, sub{"lang", "Translations of " + p.Name, "split/locales"})
	}
	if library {
		subs = append(subs, sub{"dev", "Headers of " + p.Name, "split/dev"})
	}
	if len(subs) == 0 {
		return
	}
	w.line(0, "")
	w.line(0, "subpackages:")
	for i, s := range subs {
		if i > 0 {
			w.line(0, "")
		}
		w.line(1, "- name: %s-%s", p.Name, s.suffix)
		w.line(2, "description: %s", scalar(s.description))
		if s.suffix == "dev" {
			w.line(2, "dependencies:")
			w.line(3, "runtime:")
			w.line(4, "- %s=${{package.full-version}}", p.Name)
		}
		if s.suffix == "doc" && p.orphans {
			w.line(2, "options:")
			w.comment(3, "No recipe here brings a reader of manuals (man-db, texinfo).")
			w.line(3, "no-depends: true")
		}
		w.line(2, "pipeline:")
		w.line(3, "- uses: %s", s.uses)
		switch {
		case s.suffix == "dev" && len(p.modules) > 0:
			w.line(2, "test:")
			w.line(3, "environment:")
			w.line(4, "contents:")
			w.line(5, "packages:")
			w.line(6, "- busybox")
			w.line(6, "- pkgconf")
			w.line(3, "pipeline:")
			w.line(4, "- runs: pkg-config --exists --print-errors %s", p.modules[0])
		case s.suffix == "doc" && p.manuals && !p.docs:
			w.line(2, "test:")
			w.line(3, "environment:")
			w.line(4, "contents:")
			w.line(5, "packages:")
			w.line(6, "- busybox")
			w.line(3, "pipeline:")
			w.line(4, "- runs: find /usr/share/man -type f | grep .")
		}
	}
}

func (w *writer) update(p *Project, source step) {
	address := or(p.Origin.Repository, p.Origin.URI)
	prefix := ""
	tag := p.Origin.Tag
	if tag == "" {
		tag = find(`/(?:archive(?:/refs/tags)?|releases/download)/([^/]+?)(?:/[^/]+|\.tar\.gz|\.zip)$`, address)
	}
	inTag, separated := template(tag, p.Upstream, p.Version)
	if i := strings.Index(inTag, "${{"); i > 0 {
		prefix = inTag[:i]
	}
	number := monitored(p.Name)
	w.line(0, "update:")
	project := github(address)
	if project == "" && p.Origin.Repository == "" && number == "" {
		if project = github(p.Homepage); project != "" {
			prefix = "v" // which most have, and is left where it is not
		}
	}
	switch {
	case project != "":
		w.line(1, "enabled: true")
		for _, t := range separated {
			if t.match == `\.` && t.replace != "" {
				w.line(1, "version-separator: %s", scalar(t.replace))
			}
		}
		w.line(1, "github:")
		w.line(2, "identifier: %s", scalar(project))
		if prefix != "" {
			w.line(2, "strip-prefix: %s", scalar(prefix))
		}
		if !strings.Contains(address, "/releases/download/") {
			w.line(2, "use-tag: true")
		}
	case source.uses == "git-checkout":
		w.line(1, "enabled: true")
		if prefix == "" {
			w.line(1, "git: {}")
		} else {
			w.line(1, "git:")
			w.line(2, "strip-prefix: %s", scalar(prefix))
		}
	case number != "":
		w.line(1, "enabled: true")
		w.line(1, "release-monitor:")
		w.line(2, "identifier: %s", number)
	default:
		w.comment(1, "Most projects have a number at release-monitoring.org: with it, release-monitor finds new versions.")
		w.line(1, "enabled: false")
		w.line(1, "exclude-reason: where new versions are announced is not known yet")
	}
}

func (w *writer) test(p *Project) {
	script, with := slices.Clone(p.test), p.testWith
	if len(with) == 0 {
		with = []string{"busybox"}
	}
	for i, program := range p.programs {
		if i < 3 && (i == 0 || p.programs[0] != p.Name) {
			script = append(script, program+" --version")
		}
	}
	if p.library != "" {
		script = append(script, "for library in /usr/lib/lib"+p.library+"*.so.*; do", "  ldd \"$library\"", "done")
	}
	if len(script) == 0 {
		w.line(0, "")
		w.comment(0, "Say here what shows that the package works: test, with an environment and a pipeline.")
		return
	}
	w.line(0, "")
	w.line(0, "test:")
	w.line(1, "environment:")
	w.line(2, "contents:")
	w.line(3, "packages:")
	for _, name := range with {
		w.line(4, "- %s", name)
	}
	w.line(1, "pipeline:")
	if len(script) == 1 && scalar(script[0]) == script[0] {
		w.line(2, "- runs: %s", script[0])
		return
	}
	w.step(2, step{runs: strings.Join(script, "\n")})
}

// ambiguous are words that some readers of YAML take for something else than text.
var ambiguous = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null|~|[+-]?[0-9._]*[0-9][0-9._eE+-]*|0x[0-9a-f]+|[0-9]{4}-[0-9]{2}-[0-9]{2}.*)$`)

// scalar is a text as YAML takes it: without quotes where that is the same to everybody.
func scalar(text string) string {
	var list []map[string]any
	if err := yaml.Unmarshal([]byte("- k: "+text+"\n"), &list); err == nil && len(list) == 1 && list[0]["k"] == any(text) && !ambiguous.MatchString(text) {
		return text
	}
	if !strings.ContainsAny(text, "'\n\t") {
		return "'" + text + "'"
	}
	return fmt.Sprintf("%q", text)
}

// Notes are what a person should look at before the recipe is used.
func (p *Project) Notes() []string {
	notes := slices.Clone(p.notes)
	if len(p.test) == 0 && len(p.programs) == 0 && p.library == "" {
		notes = append(notes, "no test could be guessed")
	}
	if len(p.Licenses) == 0 {
		notes = append(notes, "no licence was found")
	}
	if p.network != "" {
		notes = append(notes, p.network)
	}
	if len(p.Also) > 0 {
		notes = append(notes, "it can be built with "+strings.Join(p.Also, " and ")+" too")
	}
	return notes
}
