package recipes

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// ignoreFile names files beside a recipe that stay out of its build, a pattern a line, as .gitignore does.
const ignoreFile = ".melangeignore"

// localFiles lists the regular files of a recipe's folder, by path. Links, devices
// and what .melangeignore names are left out.
func localFiles(fsys fs.FS) ([]LocalFile, error) {
	ignored, err := readIgnore(fsys)
	if err != nil {
		return nil, err
	}
	var files []LocalFile
	err = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != "." && ignored.match(name, entry.IsDir()) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		digest, err := digestOf(fsys, name)
		if err != nil {
			return err
		}
		files = append(files, LocalFile{Path: name, SHA256: digest, Executable: info.Mode()&0o111 != 0})
		return nil
	})
	return files, err
}

func digestOf(fsys fs.FS, name string) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// ignoreRule is one line of an ignore file.
type ignoreRule struct {
	pattern    string // for the whole path
	keep       bool   // "!": what earlier rules ignore stays
	folderOnly bool
}

type ignoreRules []ignoreRule

// readIgnore reads the ignore file in the syntax of gitignore(5).
func readIgnore(fsys fs.FS) (ignoreRules, error) {
	data, err := fs.ReadFile(fsys, ignoreFile)
	if err != nil {
		if _, missing := fs.Stat(fsys, ignoreFile); missing != nil {
			return nil, nil
		}
		return nil, err
	}
	var rules ignoreRules
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var r ignoreRule
		line, r.keep = strings.CutPrefix(line, "!")
		line, r.folderOnly = strings.CutSuffix(line, "/")
		if strings.Contains(strings.TrimSuffix(line, "/"), "/") {
			r.pattern = strings.TrimPrefix(line, "/")
		} else {
			r.pattern = "**/" + line
		}
		if !doublestar.ValidatePattern(r.pattern) {
			return nil, fmt.Errorf("%s: malformed pattern %q", ignoreFile, line)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// match tells whether a path is ignored; the last rule that fits decides.
func (rules ignoreRules) match(name string, folder bool) bool {
	ignored := path.Base(name) == ignoreFile
	for _, r := range rules {
		if r.folderOnly && !folder {
			continue
		}
		if doublestar.MatchUnvalidated(r.pattern, name) {
			ignored = !r.keep
		}
	}
	return ignored
}
