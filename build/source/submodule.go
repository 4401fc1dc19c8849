package source

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/redact"
)

// maxSubmodules is how deep submodules may lie in each other, and how many a tree may have.
const (
	maxSubmoduleDepth = 8
	maxSubmodules     = 500
)

// submodule is one that a tree holds: a commit of another repository.
type submodule struct{ name, path, url, commit string }

// submodules checks out those of the tree, each as a repository of its own with the
// commit to expect: what is tried again, mirrors and what is refused are the same. Of
// .gitmodules only names, paths and addresses count.
func (c *checkout) submodules(level int) error {
	list, err := c.listSubmodules()
	if err != nil || len(list) == 0 {
		return err
	}
	switch {
	case level >= maxSubmoduleDepth:
		return fmt.Errorf("submodules lie more than %d deep in each other", maxSubmoduleDepth)
	case len(list) > maxSubmodules:
		return fmt.Errorf("the tree has more than %d submodules", maxSubmodules)
	}
	for _, s := range list {
		dir := filepath.Join(c.dir, filepath.FromSlash(s.path))
		if err := c.plainFolder(s.path); err != nil {
			return fmt.Errorf("submodule %q: %w", s.path, err)
		}
		sub := &checkout{fetcher: c.fetcher, ctx: c.ctx, dir: dir, g: Git{Repository: s.url, Commit: s.commit, Depth: -1, Submodules: true,
			ShallowSubmodules: c.g.ShallowSubmodules, Patience: c.g.Patience, pinned: true}}
		if c.g.ShallowSubmodules {
			sub.g.Depth = 1
		}
		if err := sub.obtain(); err != nil {
			return err
		}
		if err := sub.work(level + 1); err != nil {
			return fmt.Errorf("submodule %q: %w", s.path, err)
		}
	}
	// As git itself has it: one .git, with those of the submodules in it.
	if _, err := c.git("submodule", "--quiet", "init"); err != nil {
		return err
	}
	for _, s := range list {
		if _, err := c.git("config", "submodule."+s.name+".url", s.url); err != nil {
			return err
		}
	}
	_, err = c.git("submodule", "--quiet", "absorbgitdirs")
	return err
}

// listSubmodules reads which submodules HEAD has.
func (c *checkout) listSubmodules() ([]submodule, error) {
	out, err := host.Git(c.ctx, c.options, "ls-files", "--stage", "-z")
	if err != nil {
		return nil, err
	}
	commits := map[string]string{}
	var paths []string
	modules := false
	for entry := range strings.SplitSeq(string(out), "\x00") {
		info, name, _ := strings.Cut(entry, "\t")
		field := strings.Fields(info)
		switch {
		case len(field) != 3:
		case name == ".gitmodules":
			if !strings.HasPrefix(field[0], "100") {
				return nil, errors.New(".gitmodules is no file")
			}
			modules = true
		case field[0] == "160000" && c.wanted(name):
			commits[name] = field[1]
			paths = append(paths, name)
		}
	}
	if len(paths) == 0 || !modules {
		return nil, nil
	}
	out, err = host.Git(c.ctx, c.options, "config", "-z", "--blob", "HEAD:.gitmodules", "--get-regexp", `^submodule\..*\.(path|url)$`)
	if err != nil {
		return nil, err
	}
	byName := map[string]*submodule{}
	for entry := range strings.SplitSeq(string(out), "\x00") {
		key, value, found := strings.Cut(entry, "\n")
		key, is := strings.CutPrefix(key, "submodule.")
		i := strings.LastIndexByte(key, '.')
		if !found || !is || i < 0 {
			continue
		}
		name := key[:i]
		if byName[name] == nil {
			byName[name] = &submodule{name: name}
		}
		if key[i+1:] == "path" {
			byName[name].path = strings.TrimSuffix(value, "/")
		} else {
			byName[name].url = value
		}
	}
	var list []submodule
	for _, s := range byName {
		s.commit = commits[s.path]
		if s.commit == "" {
			continue // listed, and not in the tree
		}
		if s.url, err = submoduleURL(c.g.Repository, s.url, c.protocols()); err != nil {
			return nil, fmt.Errorf("submodule %q: %w", s.path, err)
		}
		list = append(list, *s)
		delete(commits, s.path)
	}
	for _, p := range paths {
		if _, left := commits[p]; left {
			return nil, fmt.Errorf("submodule %q has no address in .gitmodules", p)
		}
	}
	slices.SortFunc(list, func(a, b submodule) int { return strings.Compare(a.path, b.path) })
	return list, nil
}

// wanted reports whether a path is part of a sparse checkout.
func (c *checkout) wanted(name string) bool {
	return len(c.g.SparsePaths) == 0 || slices.ContainsFunc(c.g.SparsePaths, func(p string) bool {
		p = strings.Trim(p, "/")
		return name == p || strings.HasPrefix(name, p+"/")
	})
}

func (c *checkout) protocols() []string { return c.fetcher.gitOptions(c.g).Protocols }

// scpAddress is how git writes an address of ssh, e.g. git@example.org:team/x.git.
var scpAddress = regexp.MustCompile(`^(?:ssh://)?[A-Za-z0-9._-]+@([A-Za-z0-9.-]+)(?::|/)(.+)$`)

// submoduleURL is the address of a submodule: relative to that of its parent's, or one of
// the protocols that a recipe may name itself. Addresses of ssh, which are for those who
// may write, are taken for those of https: the commit says whether it is the same.
func submoduleURL(parent, text string, protocols []string) (string, error) {
	if text == "" {
		return "", errors.New("it has no address")
	}
	if strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../") {
		u, err := url.Parse(parent)
		if err != nil {
			return "", errors.New("its address is relative to one that is none")
		}
		p := strings.TrimSuffix(u.Path, "/")
		for {
			if rest, up := strings.CutPrefix(text, "../"); up {
				p, text = path.Dir(p), rest
				continue
			}
			if rest, here := strings.CutPrefix(text, "./"); here {
				text = rest
				continue
			}
			break
		}
		u.Path = path.Join(p, text)
		text = u.String()
	} else if m := scpAddress.FindStringSubmatch(text); m != nil {
		text = "https://" + m[1] + "/" + strings.TrimPrefix(m[2], "/")
	}
	u, err := url.Parse(text)
	if err != nil || !slices.Contains(protocols, u.Scheme) || u.Host == "" && u.Scheme != "file" || strings.Contains(text, "::") {
		return "", fmt.Errorf("its address %q is none of %s", redact.Address(text), strings.Join(protocols, ", "))
	}
	return text, nil
}

// plainFolder makes sure that a path of the tree is a folder and leads through none but folders.
func (c *checkout) plainFolder(p string) error {
	if !fs.ValidPath(p) || p == "." {
		return errors.New("it is no path")
	}
	at := c.dir
	for element := range strings.SplitSeq(p, "/") {
		if strings.EqualFold(element, ".git") {
			return errors.New("it leads into .git")
		}
		at = filepath.Join(at, element)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.Mkdir(at, 0o755)
		} else if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no folder", element)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
