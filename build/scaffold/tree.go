package scaffold

import (
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Limits of what is looked at. A tree that has more is looked at so far.
const (
	maxFiles = 100_000
	maxDepth = 12
	maxRead  = 2 << 20 // bytes of one file
)

// tree is the files of a source.
type tree struct {
	fs.FS
	files []string // sorted; links that lead to files are among them
}

func openTree(fsys fs.FS) (*tree, error) {
	t := &tree{FS: fsys}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && name == ".":
			return err
		case err != nil:
			return nil // a folder that nobody may enter says nothing
		case entry.IsDir():
			if entry.Name() == ".git" || strings.Count(name, "/") >= maxDepth {
				return fs.SkipDir
			}
		case entry.Type().IsRegular() || entry.Type()&fs.ModeSymlink != 0:
			t.files = append(t.files, name)
			if len(t.files) >= maxFiles {
				return fs.SkipAll
			}
		}
		return nil
	})
	slices.Sort(t.files)
	return t, err
}

// read is the begin of a file; "" for what is not there or cannot be read.
func (t *tree) read(name string) string { return t.head(name, maxRead) }

func (t *tree) head(name string, size int64) string {
	f, err := t.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(f, size))
	if err != nil {
		return ""
	}
	// Old files are in other encodings, and some of Windows begin with a mark: recipes are
	// UTF-8, and no grammar here knows the mark.
	return strings.ToValidUTF8(strings.TrimPrefix(string(text), "\ufeff"), "")
}

func (t *tree) has(name string) bool {
	_, found := slices.BinarySearch(t.files, name)
	return found
}

// first is the first of the names that is there, or "".
func (t *tree) first(names ...string) string {
	for _, name := range names {
		if t.has(name) {
			return name
		}
	}
	return ""
}

// hasFolder tells whether there are files below a folder.
func (t *tree) hasFolder(name string) bool {
	i, _ := slices.BinarySearch(t.files, name+"/")
	return i < len(t.files) && strings.HasPrefix(t.files[i], name+"/")
}

// others are folders of what is not the project itself, or is not installed.
var others = regexp.MustCompile(`(^|/)(tests?|testing|testsuite|testdata|examples?|samples?|third[-_]party|3rdparty|vendor|node_modules|external|externals|extern|deps|contrib|subprojects|fuzz|fuzzing|benchmarks?|\.github|debian|ports)/`)

// named lists the files of the project itself whose base is like a pattern, down to a
// depth of folders.
func (t *tree) named(base *regexp.Regexp, depth int) (list []string) {
	for _, name := range t.files {
		if strings.Count(name, "/") <= depth && base.MatchString(path.Base(name)) && !others.MatchString(name) {
			list = append(list, name)
		}
	}
	return list
}

// find gives the first submatch of a pattern in a text, or "".
func find(pattern, text string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return strings.TrimSpace(m[1])
	}
	return ""
}
