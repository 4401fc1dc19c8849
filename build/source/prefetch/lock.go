package prefetch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/recipes"
)

// Lock is the file NAME.lock.json beside a recipe: what was prefetched for it.
type Lock struct {
	Prefetch []Entry `yaml:"prefetch" json:"prefetch"` // sorted by architecture
}

// Entry is what was prefetched for one architecture.
type Entry struct {
	Place   yamlread.Place `yaml:",here" json:"-"`
	Arch    apk.Arch       `yaml:"arch,required" json:"arch"`
	Version string         `yaml:"version,required" json:"version"` // of the recipe, without its revision
	// Before is when it was chosen, RFC 3339: whoever fetches it again is offered nothing
	// newer, where a registry tells when things were published.
	Before string `yaml:"before" json:"before"`
	SHA256 string `yaml:"sha256,required" json:"sha256"` // of the tree, as an archive
	Size   int64  `yaml:"size" json:"size"`              // of the archive, in bytes
	// Contents are the parts of the tree, e.g. golang.org/x/text@v0.3.0, with digests of
	// their own: to review, and to say what differs. Place holds them against the tree.
	Contents map[string]string `yaml:"contents" json:"contents"`
}

// Digest names the tree in the store.
func (e *Entry) Digest() store.Digest { return store.Digest("sha256:" + e.SHA256) }

// LockFile is the path of the lock of a recipe's file.
func LockFile(recipe string) string { return strings.TrimSuffix(recipe, ".yaml") + ".lock.json" }

// ReadLock reads the lock of a recipe's file; an empty one when there is none. Mistakes
// are diag.Problems.
func ReadLock(recipe string) (*Lock, error) {
	l := &Lock{}
	name := LockFile(recipe)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the recipe's lock: %w", err)
	}
	_, err = yamlread.Decode(name, data, l)
	problems, listed := diag.Of(err)
	if err != nil && !listed {
		return nil, err
	}
	for i := range l.Prefetch {
		problems = append(problems, l.Prefetch[i].check(l.Prefetch[:i])...)
	}
	return l, problems.Err()
}

func (e *Entry) check(earlier []Entry) (problems diag.Problems) {
	if e.Place.IsZero() {
		return nil // told by reading
	}
	wrong := func(key, format string, args ...any) {
		problems = append(problems, e.Place.Value(key).Problem("tarn fetch --update writes this file", format, args...))
	}
	if a, err := apk.ParseArch(string(e.Arch)); e.Arch != "" && (err != nil || a != e.Arch) {
		wrong("arch", "%q is no architecture", e.Arch)
	}
	if _, err := store.ParseDigest("sha256:" + e.SHA256); err != nil && e.SHA256 != "" {
		wrong("sha256", "%q is no SHA-256", e.SHA256)
	}
	if _, err := time.Parse(time.RFC3339, e.Before); err != nil && e.Before != "" {
		wrong("before", "%q is no time such as 2026-01-01T00:00:00Z", e.Before)
	}
	if slices.ContainsFunc(earlier, func(o Entry) bool { return o.Arch == e.Arch }) {
		wrong("arch", "%s stands there twice", e.Arch)
	}
	return problems
}

// Wanted tells whether steps of a script's build want something prefetched.
func Wanted(s *recipes.Script) bool {
	return slices.ContainsFunc(s.Packages, func(o recipes.Output) bool {
		return slices.ContainsFunc(o.Steps, func(s recipes.Step) bool { return s.Prefetch != "" })
	})
}

// Locked gives what the lock beside a script's recipe says for its architecture: nil
// where nothing is wanted or nothing is locked. What was locked for another version of
// the recipe is a mistake in the lock.
func Locked(s *recipes.Script) (*Entry, error) {
	if !Wanted(s) || s.Recipe == "" {
		return nil, nil
	}
	l, err := ReadLock(s.Recipe)
	if err != nil {
		return nil, err
	}
	for i := range l.Prefetch {
		e := &l.Prefetch[i]
		if e.Arch != s.Arch {
			continue
		}
		if version := string(s.Version.Base()); e.Version != version {
			return nil, diag.Problems{e.Place.Value("version").Problem("tarn fetch --update "+s.Name, "what is prefetched is for version %s, and the recipe is %s", e.Version, version)}
		}
		return e, nil
	}
	return nil, nil
}

// Update writes an entry into the lock of a recipe's file. It reports whether that
// changed anything; the time alone does not.
func Update(recipe string, e Entry) (changed bool, err error) {
	l, err := ReadLock(recipe)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(l.Prefetch, func(o Entry) bool { return o.Arch == e.Arch })
	switch {
	case i < 0:
		l.Prefetch = append(l.Prefetch, e)
	case l.Prefetch[i].SHA256 == e.SHA256 && l.Prefetch[i].Version == e.Version && maps.Equal(l.Prefetch[i].Contents, e.Contents):
		return false, nil
	default:
		l.Prefetch[i] = e
	}
	slices.SortFunc(l.Prefetch, func(a, b Entry) int { return strings.Compare(string(a.Arch), string(b.Arch)) })
	var b bytes.Buffer
	w := json.NewEncoder(&b)
	w.SetEscapeHTML(false)
	w.SetIndent("", "  ")
	if err := w.Encode(l); err != nil {
		return false, err
	}
	return true, renameio.WriteFile(LockFile(recipe), b.Bytes(), 0o644)
}

// Differences says in what two trees differ, a line each, at most ten.
func Differences(want, got map[string]string) (lines []string) {
	all := maps.Clone(want)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, got)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case want[name] == got[name]:
		case want[name] == "":
			lines = append(lines, "+ "+name)
		case got[name] == "":
			lines = append(lines, "- "+name)
		default:
			lines = append(lines, "~ "+name+": other bytes")
		}
	}
	const most = 10
	if n := len(lines); n > most {
		lines = append(lines[:most], fmt.Sprintf("and %d more", n-most))
	}
	return lines
}
