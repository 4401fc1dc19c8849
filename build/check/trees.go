package check

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// severalProjects finds a package with several Python projects in it, or with modules
// for several Pythons. What the record of its one distribution lists is one project,
// under however many names: setuptools and pkg_resources.
func severalProjects(p Package) ([]finding, error) {
	pythons, err := fs.Glob(p.Files, "usr/lib/python3.*")
	if err != nil {
		return nil, err
	}
	if len(pythons) > 1 {
		return []finding{{pythons[1], "and " + pythons[0] + " are modules of two Pythons"}}, nil
	}
	var found []finding
	for _, python := range pythons {
		folder := python + "/site-packages"
		entries, err := fs.ReadDir(p.Files, folder)
		if err != nil {
			continue // it has none
		}
		names := map[string]bool{}
		var records []string
		for _, e := range entries {
			name := e.Name()
			switch ext := path.Ext(name); {
			case ext == ".dist-info" || ext == ".egg-info":
				records = append(records, folder+"/"+name)
			case strings.HasPrefix(name, "_") || ext == ".pth" || slices.Contains([]string{"test", "tests", "doc", "docs"}, name):
			default:
				// x.py, x.cpython-313.so, x.libs and x are one.
				if name, _, _ = strings.Cut(name, "."); name != "" {
					names[name] = true
				}
			}
		}
		if len(records) == 1 {
			listed, err := recorded(p.Files, records[0])
			if err != nil {
				return nil, err
			}
			if len(listed) > 0 {
				maps.DeleteFunc(names, func(name string, _ bool) bool { return listed[name] })
				names[path.Base(records[0])] = true
			}
		}
		if len(names) > 1 {
			found = append(found, finding{folder, "holds several projects: " + strings.Join(slices.Sorted(maps.Keys(names)), ", ")})
		}
	}
	return found, nil
}

// recorded are the names of modules that a distribution says it installed.
func recorded(files fs.FS, folder string) (map[string]bool, error) {
	listed := map[string]bool{}
	for _, name := range []string{"RECORD", "top_level.txt"} {
		f, err := files.Open(folder + "/" + name)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(io.LimitReader(f, 16<<20))
		for lines.Scan() {
			file, _, _ := strings.Cut(lines.Text(), ",")
			top, _, _ := strings.Cut(strings.Trim(file, `"`), "/")
			top, _, _ = strings.Cut(top, ".")
			listed[top] = true
		}
		err = lines.Err()
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s/%s: %w", folder, name, err)
		}
	}
	delete(listed, "")
	return listed, nil
}

// worthTelling is the size from which the same file twice is worth a word.
const worthTelling = 1024

// licence is what files with the text of a licence are called. Each of several parts
// has to bring its own.
var licence = regexp.MustCompile(`(?i)^((un)?licen[sc]es?|copy(ing|right)|notice|ofl|patents|authors)([-_.].*)?$|[-_](licen[sc]e|copying)([-_.].*)?$`)

// duplicates finds files of the same name and content in several folders. Names of one
// file (hard links) are one. Files are read only where name and size agree.
func duplicates(p Package) ([]finding, error) {
	type twin struct {
		base string
		size int64
	}
	places := map[twin][]string{}
	inodes := map[uint64]bool{}
	err := fs.WalkDir(p.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || licence.MatchString(path.Base(name)) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() < worthTelling {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			if inodes[st.Ino] {
				return nil
			}
			inodes[st.Ino] = true
		}
		key := twin{path.Base(name), info.Size()}
		places[key] = append(places[key], name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var found []finding
	for key, names := range places {
		if len(names) < 2 {
			continue
		}
		same := map[[sha256.Size]byte][]string{}
		for _, name := range names {
			sum, err := digest(p.Files, name)
			if err != nil {
				return nil, err
			}
			same[sum] = append(same[sum], name)
		}
		for _, names := range same {
			if len(names) > 1 {
				slices.Sort(names)
				found = append(found, finding{names[1], fmt.Sprintf("is the same as %s: %d bytes, %d times", names[0], key.size, len(names))})
			}
		}
	}
	slices.SortFunc(found, func(a, b finding) int { return strings.Compare(a.path, b.path) })
	return found, nil
}

func digest(files fs.FS, name string) (sum [sha256.Size]byte, err error) {
	f, err := files.Open(name)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
