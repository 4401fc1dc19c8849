package prefetch

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// goModules takes the modules that go downloaded, as a tree that GOPROXY=file:// serves.
// Checksums of the database and locks are of the moment, and a list of versions is one of
// those that are there. What a proxy tells of where it has a module from (Origin) is left
// out of its .info.
func (t *tree) goModules() error {
	versions := map[string][]string{} // by escaped module
	err := t.each(from("go/cache/download"), func(name string) error {
		dir, base := path.Split(name)
		escaped, versioned := strings.CutSuffix(strings.TrimSuffix(dir, "/"), "/@v")
		if !versioned || strings.HasPrefix(escaped, "sumdb/") {
			return nil
		}
		version, source := strings.TrimSuffix(base, path.Ext(base)), from("go/cache/download", name)
		if v := unescape(version); path.Ext(base) == ".mod" && !module.IsPseudoVersion(v) {
			versions[escaped] = append(versions[escaped], v)
		}
		switch path.Ext(base) {
		case ".mod", ".zip":
			return t.take(source, "go/"+name)
		case ".info":
			data, err := t.root.ReadFile(source)
			if err != nil {
				return err
			}
			var info struct {
				Version string
				Time    string `json:",omitempty"`
			}
			if err := json.Unmarshal(data, &info); err != nil || info.Version == "" {
				return fmt.Errorf("%s says no version", name)
			}
			if data, err = json.Marshal(info); err != nil {
				return err
			}
			return t.write("go/"+name, data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// go install NAME@VERSION asks for the list, to learn whether the module is deprecated.
	for _, escaped := range slices.Sorted(maps.Keys(versions)) {
		list := versions[escaped]
		semver.Sort(list)
		if err := t.write("go/"+escaped+"/@v/list", []byte(strings.Join(list, "\n")+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// unescape undoes how proxies write capital letters: !x is X (golang.org/ref/mod#goproxy-protocol).
func unescape(text string) string {
	var b strings.Builder
	capital := false
	for _, r := range text {
		switch {
		case r == '!':
			capital = true
			continue
		case capital:
			r = []rune(strings.ToUpper(string(r)))[0]
		}
		capital = false
		b.WriteRune(r)
	}
	return b.String()
}
