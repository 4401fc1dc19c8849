package rootfs

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// BusyboxLinks makes the links to /bin/busybox that its packages list in
// /etc/busybox-paths.d/PACKAGE, one absolute path a line. What is there already
// stays. It gives the paths that were made.
func (t *Tree) BusyboxLinks() ([]string, error) {
	program := ""
	for _, p := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if n, found := t.Stat(p); found && n.Mode.IsRegular() {
			program = p
			break
		}
	}
	if program == "" {
		return nil, nil
	}
	var made []string
	for _, list := range t.in("etc/busybox-paths.d") {
		if !list.Mode.IsRegular() {
			continue
		}
		data, err := t.ReadFile(list.Path)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			clean := cleanPath(line)
			if clean == "" || strings.ContainsRune(clean, 0) || strings.HasSuffix(line, "/") {
				return nil, fmt.Errorf("/%s: %q is not the path of a program", list.Path, line)
			}
			if _, found := t.Lstat(clean); found {
				continue
			}
			if err := t.Symlink(program, clean); err != nil {
				return nil, fmt.Errorf("/%s: %w", list.Path, err)
			}
			made = append(made, clean)
		}
	}
	return made, nil
}

// in lists what is directly in a folder, sorted by path.
func (t *Tree) in(dir string) []*Node {
	place, err := t.follow(cleanPath(dir))
	if err != nil {
		return nil
	}
	var nodes []*Node
	for p, n := range t.nodes {
		if slash := strings.LastIndexByte(p, '/'); p[:max(slash, 0)] == place {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, byPath)
	return nodes
}

// Below lists the nodes at and below a path that is taken as it stands, sorted by path.
func (t *Tree) Below(p string) []*Node {
	place, err := t.place(cleanPath(p))
	if err != nil {
		return nil
	}
	var nodes []*Node
	for q, n := range t.nodes {
		if q == place || place == "" || strings.HasPrefix(q, place+"/") {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, byPath)
	return nodes
}

// muslDefault is where musl's loader looks when nothing else is said (ldso/dynlink.c).
var muslDefault = []string{"/lib", "/usr/local/lib", "/usr/lib"}

// LibraryPath writes the file in which musl's loader finds its search path,
// /etc/ld-musl-ARCH.path, when packages list further folders in
// /etc/ld.so.conf.d/*.conf and the tree has the loader. A file that a package
// brings stays. It says whether it wrote one.
func (t *Tree) LibraryPath(arch string) (bool, error) {
	file := "etc/ld-musl-" + arch + ".path"
	if _, found := t.Stat("lib/ld-musl-" + arch + ".so.1"); !found {
		if _, found := t.Stat("usr/lib/ld-musl-" + arch + ".so.1"); !found {
			return false, nil
		}
	}
	if _, found := t.Stat(file); found {
		return false, nil
	}
	dirs := slices.Clone(muslDefault)
	for _, conf := range t.in("etc/ld.so.conf.d") {
		if conf.Mode.IsDir() || !strings.HasSuffix(conf.Path, ".conf") {
			continue
		}
		data, err := t.ReadFile(conf.Path)
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if dir := path.Clean(line); strings.HasPrefix(line, "/") && !slices.Contains(dirs, dir) {
				if n, found := t.Stat(dir); found && n.Mode.IsDir() {
					dirs = append(dirs, dir)
				}
			}
		}
	}
	if len(dirs) == len(muslDefault) {
		return false, nil
	}
	return true, t.WriteFile(file, []byte(strings.Join(dirs, "\n")+"\n"), 0o644)
}
