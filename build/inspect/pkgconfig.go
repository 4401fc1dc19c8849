package inspect

import (
	"path"
	"slices"
	"strings"
)

var pkgConfigFolders = []string{"usr/lib/pkgconfig", "usr/share/pkgconfig", "usr/lib64/pkgconfig", "usr/local/lib/pkgconfig", "usr/local/share/pkgconfig"}

// pkgConfig reads the modules that a pkg-config file requires. What it provides
// bears the package's version: the file's own is often no version apk can read.
func (s *scan) pkgConfig(name string) error {
	module := "pc:" + strings.TrimSuffix(path.Base(name), ".pc")
	if !slices.Contains(pkgConfigFolders, path.Dir(name)) {
		s.keep(name, "is a pkg-config module of its own", module, s.pkg.Version)
		return nil
	}
	s.provide(name, "is a pkg-config module", module, s.pkg.Version)
	return eachLine(s.pkg.Files, name, func(line string) {
		key, value, found := strings.Cut(line, ":")
		if !found || !slices.Contains([]string{"Requires", "Requires.private", "Requires.internal"}, strings.TrimSpace(key)) {
			return
		}
		for _, module := range pkgConfigModules(value) {
			s.need(name, "requires "+module, "pc:"+module)
		}
	})
}

// pkgConfigModules are the modules of a Requires line: "a, b >= 1.2 c".
func pkgConfigModules(text string) []string {
	var modules []string
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
	for i := 0; i < len(words); i++ {
		if strings.ContainsAny(words[i][:1], "<>=!") {
			if strings.Trim(words[i], "<>=!") == "" {
				i++ // the version is the next word
			}
			continue
		}
		name, constraint, constrained := cutAny(words[i], "<>=!")
		if constrained && strings.Trim(constraint, "<>=!") == "" {
			i++ // "c>= 2"
		}
		if strings.ContainsAny(name, "${}") {
			continue
		}
		modules = append(modules, name)
	}
	return modules
}

// cutAny cuts a text before the first of the characters.
func cutAny(text, chars string) (before, after string, found bool) {
	if i := strings.IndexAny(text, chars); i >= 0 {
		return text[:i], text[i:], true
	}
	return text, "", false
}
