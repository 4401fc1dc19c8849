package prefetch

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
)

// Contents lists the parts of the tree that lies in a work folder, as Entry has them: the
// modules, packages and crates by name and version, each with the SHA-256 of what its files
// are called and hold.
func Contents(work *os.Root) (map[string]string, error) {
	t := &tree{work}
	npm, err := t.npmParts()
	if err != nil {
		return nil, err
	}
	lines := map[string][]string{} // by part
	err = t.each(Folder, func(name string) error {
		digest, err := t.digest(to(name))
		if err != nil {
			return err
		}
		part := cmp.Or(npm[name], partOf(name))
		lines[part] = append(lines[part], name+" "+digest)
		return nil
	})
	if err != nil {
		return nil, err
	}
	contents := map[string]string{}
	for part, all := range lines {
		slices.Sort(all)
		sum := sha256.Sum256([]byte(strings.Join(all, "\n")))
		contents[part] = hex.EncodeToString(sum[:])
	}
	return contents, nil
}

// digest is what a file or link of the work folder holds, as text.
func (t *tree) digest(name string) (string, error) {
	info, err := t.root.Lstat(name)
	if err != nil {
		return "", err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		link, err := t.root.Readlink(name)
		return "-> " + link, err
	}
	f, err := t.root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	if info.Mode()&0o100 != 0 {
		digest += " executable"
	}
	return digest, nil
}

// partOf tells by its path to which part a file of the tree belongs.
func partOf(name string) string {
	manager, rest, _ := strings.Cut(name, "/")
	switch manager {
	case "go":
		if module, file, found := strings.Cut(rest, "/@v/"); found {
			if file == "list" {
				return unescape(module)
			}
			return unescape(module) + "@" + unescape(strings.TrimSuffix(file, path.Ext(file)))
		}
	case "npm":
		return "npm (index)"
	case "pip":
		return path.Base(rest)
	case "cargo":
		// vendor/CRATE/FILE
		if element := strings.SplitN(rest, "/", 3); len(element) == 3 {
			return element[1]
		} else if rest != "config.toml" {
			return rest
		}
	}
	return name
}

// npmParts names the parts that the content of npm's cache is, by its path in the tree:
// tarballs, and what is told of a package.
func (t *tree) npmParts() (map[string]string, error) {
	answers, err := t.npmAnswers(to)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}       // of tarballs, by integrity
	tarballs := map[string]npmAnswer{} // by the path of the address
	for _, a := range answers {
		if u, err := url.Parse(a.Metadata.URL); err == nil && strings.HasSuffix(u.Path, ".tgz") {
			tarballs[u.Path] = a
			names[a.Integrity] = npmTarballName(u.Path)
		}
	}
	told := map[string]string{} // the same of what is told, by integrity
	for _, a := range answers {
		if strings.HasSuffix(a.Metadata.URL, ".tgz") || told[a.Integrity] != "" {
			continue
		}
		data, err := t.npmContent(to, a.Integrity)
		if err != nil {
			return nil, err
		}
		if p := npmVersions(data, tarballs, names); p != nil {
			told[a.Integrity] = p.Name + " (versions)"
		}
	}
	parts := map[string]string{}
	for _, of := range []map[string]string{names, told} {
		for integrity, part := range of {
			content, err := npmContentPath(integrity)
			if err != nil {
				return nil, err
			}
			parts[path.Join(cacacheContent, content)] = part
		}
	}
	return parts, nil
}

// compare holds the list of a lock against the tree that lies in the work folder. An entry
// without a list says nothing that could be wrong.
func (e *Entry) compare(work *os.Root) error {
	if e.Contents == nil {
		return nil
	}
	got, err := Contents(work)
	if err != nil {
		return err
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(e.Contents)), maps.Keys(got))
	slices.Sort(names)
	for _, name := range names {
		want, listed := e.Contents[name]
		have, there := got[name]
		at, text := e.Place.Value("contents"), "%q is listed with another digest than in the tree that sha256 names"
		switch {
		case listed && there && want == have:
			continue
		case !there:
			text = "%q is listed, and not in the tree that sha256 names"
		case !listed:
			text = "%q is in the tree that sha256 names, and not listed"
		}
		if at.Has(name) {
			at = at.Key(name)
		}
		return diag.Problems{at.Problem("tarn fetch --update", text, name)}
	}
	return nil
}
