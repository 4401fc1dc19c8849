package prefetch

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// npmRegistry is the address that npm believes to be its registry's in a build. The name
// is one that never resolves (RFC 2606).
const npmRegistry = "http://npm.invalid/"

// npm keeps what it downloads in a cache of answers to requests (cacache, "content-v2" and
// "index-v5"; make-fetch-happen, "request-cache"). An answer is found by its address and by
// what was asked for; a tarball also by its digest alone.
const (
	cacacheContent = "npm/_cacache/content-v2"
	cacacheIndex   = "npm/_cacache/index-v5"
	requestCache   = "make-fetch-happen:request-cache:"
)

// What npm asks a registry for when it wants to know about a package: a short or a full
// answer (pacote, lib/registry.js). Both are told the same here.
var npmAccepts = map[string]string{
	"application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*": "application/vnd.npm.install-v1+json",
	"application/json": "application/json",
}

// npmAnswer is one entry of the index.
type npmAnswer struct {
	Key       string      `json:"key"`
	Integrity string      `json:"integrity"`
	Time      int64       `json:"time"`
	Size      int64       `json:"size"`
	Metadata  npmMetadata `json:"metadata"`
}

type npmMetadata struct {
	Time       int64             `json:"time"`
	URL        string            `json:"url"`
	ReqHeaders map[string]string `json:"reqHeaders"`
	ResHeaders map[string]string `json:"resHeaders"`
	Options    map[string]any    `json:"options"`
}

// npmPackage is what is kept of what a registry tells of a package.
type npmPackage struct {
	Name     string                    `json:"name"`
	Tags     map[string]string         `json:"dist-tags"`
	Versions map[string]map[string]any `json:"versions"`
}

// npmKept are the fields of a version that decide what is installed. Others are of the
// moment: who signed it, what is deprecated.
var npmKept = []string{
	"name", "version", "dependencies", "optionalDependencies", "peerDependencies", "peerDependenciesMeta", "bundleDependencies", "bundledDependencies",
	"bin", "directories", "engines", "os", "cpu", "libc", "hasInstallScript", "_hasShrinkwrap",
}

// npmCache takes what npm downloaded as a cache of its own form, from a registry with no
// name: the tarballs, and of each package what concerns the versions that are there.
func (t *tree) npmCache() error {
	answers, err := t.npmAnswers(from)
	if err != nil {
		return err
	}
	buckets := map[string][]npmAnswer{} // by key
	tarballs := map[string]npmAnswer{}  // by the path of the address
	var documents []*npmPackage
	for _, a := range answers {
		u, err := url.Parse(a.Metadata.URL)
		if err != nil {
			continue
		}
		if strings.HasSuffix(u.Path, ".tgz") {
			tarballs[u.Path] = a
		}
	}
	seen := map[string]bool{}
	for _, a := range answers {
		if strings.HasSuffix(a.Metadata.URL, ".tgz") {
			continue
		}
		data, err := t.npmContent(from, a.Integrity)
		if err != nil {
			return err
		}
		if p := npmVersions(data, tarballs, nil); p != nil && !seen[p.Name] {
			seen[p.Name] = true
			documents = append(documents, p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tarballs)) {
		a := tarballs[name]
		content, err := npmContentPath(a.Integrity)
		if err != nil {
			return err
		}
		if _, err := t.root.Lstat(to(cacacheContent, content)); errors.Is(err, fs.ErrNotExist) {
			if err := t.take(from(cacacheContent, content), path.Join(cacacheContent, content)); err != nil {
				return err
			}
		}
		address := npmTarballAddress(name)
		buckets[address] = append(buckets[address], npmAnswer{
			Integrity: a.Integrity, Size: a.Size,
			Metadata: npmMetadata{ReqHeaders: accepting(a.Metadata.ReqHeaders["accept"]), ResHeaders: map[string]string{"content-type": "application/octet-stream"}},
		})
	}
	for _, p := range documents {
		data, err := json.Marshal(p)
		if err != nil {
			return err
		}
		sum := sha512.Sum512(data)
		integrity := "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
		content, err := npmContentPath(integrity)
		if err != nil {
			return err
		}
		if err := t.write(path.Join(cacacheContent, content), data); err != nil {
			return err
		}
		address := npmRegistry + strings.ReplaceAll(p.Name, "/", "%2f")
		for _, accept := range slices.Sorted(maps.Keys(npmAccepts)) {
			buckets[address] = append(buckets[address], npmAnswer{
				Integrity: integrity, Size: int64(len(data)),
				Metadata: npmMetadata{ReqHeaders: accepting(accept), ResHeaders: map[string]string{"content-type": npmAccepts[accept]}},
			})
		}
	}
	for _, address := range slices.Sorted(maps.Keys(buckets)) {
		if err := t.npmBucket(address, buckets[address]); err != nil {
			return err
		}
	}
	return nil
}

func accepting(what string) map[string]string {
	if what == "" {
		return map[string]string{}
	}
	return map[string]string{"accept": what}
}

// npmBucket writes the index's file of an address.
func (t *tree) npmBucket(address string, answers []npmAnswer) error {
	key := requestCache + address
	var b bytes.Buffer
	for _, a := range answers {
		a.Key, a.Time, a.Metadata.Time, a.Metadata.URL = key, 1, 1, address
		a.Metadata.Options = map[string]any{"compress": true}
		line, err := json.Marshal(a)
		if err != nil {
			return err
		}
		sum := sha1.Sum(line) // the format's
		fmt.Fprintf(&b, "\n%s\t%s", hex.EncodeToString(sum[:]), line)
	}
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return t.write(path.Join(cacacheIndex, name[:2], name[2:4], name[4:]), b.Bytes())
}

// npmAnswers reads the index that lies raw (from) or in the tree (to), the newest entry of
// each address and kind of request.
func (t *tree) npmAnswers(below func(...string) string) ([]npmAnswer, error) {
	found := map[string]npmAnswer{}
	err := t.each(below(cacacheIndex), func(name string) error {
		data, err := t.root.ReadFile(below(cacacheIndex, name))
		if err != nil {
			return err
		}
		for line := range bytes.Lines(data) {
			_, text, both := bytes.Cut(bytes.TrimSpace(line), []byte("\t"))
			var a npmAnswer
			if !both || json.Unmarshal(text, &a) != nil || a.Integrity == "" || !strings.HasPrefix(a.Key, requestCache) {
				continue
			}
			a.Metadata.URL = cmp.Or(a.Metadata.URL, strings.TrimPrefix(a.Key, requestCache))
			found[a.Key+"\n"+a.Metadata.ReqHeaders["accept"]] = a
		}
		return nil
	})
	all := make([]npmAnswer, 0, len(found))
	for _, key := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[key])
	}
	return all, err
}

// npmContentPath is where content of an integrity lies: its strongest digest.
func npmContentPath(integrity string) (string, error) {
	for _, algorithm := range []string{"sha512", "sha384", "sha256", "sha1"} {
		for _, one := range strings.Fields(integrity) {
			if text, is := strings.CutPrefix(one, algorithm+"-"); is {
				text, _, _ = strings.Cut(text, "?")
				sum, err := base64.StdEncoding.DecodeString(text)
				if err != nil || len(sum) < 20 {
					return "", fmt.Errorf("%q is no integrity", integrity)
				}
				name := hex.EncodeToString(sum)
				return path.Join(algorithm, name[:2], name[2:4], name[4:]), nil
			}
		}
	}
	return "", fmt.Errorf("%q is no integrity", integrity)
}

// maxNPMDocument is the most that a registry may tell of one package, in bytes.
const maxNPMDocument = 256 << 20

// npmContent reads content of the cache that lies raw (from) or in the tree (to).
func (t *tree) npmContent(below func(...string) string, integrity string) ([]byte, error) {
	name, err := npmContentPath(integrity)
	if err != nil {
		return nil, err
	}
	f, err := t.root.Open(below(cacacheContent, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxNPMDocument))
	if err != nil || !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, err
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, maxNPMDocument))
}

// npmVersions is what a registry told of a package, of the versions whose tarballs are
// there; nil when it is something else, or none is. It adds them to names, if that is not
// nil, by name and version.
func npmVersions(data []byte, tarballs map[string]npmAnswer, names map[string]string) *npmPackage {
	var told npmPackage
	if json.Unmarshal(data, &told) != nil || told.Name == "" {
		return nil
	}
	p := &npmPackage{Name: told.Name, Tags: map[string]string{}, Versions: map[string]map[string]any{}}
	latest := ""
	for _, version := range slices.Sorted(maps.Keys(told.Versions)) {
		all := told.Versions[version]
		dist, _ := all["dist"].(map[string]any)
		address, _ := dist["tarball"].(string)
		u, err := url.Parse(address)
		if err != nil {
			continue
		}
		tarball, there := tarballs[u.Path]
		if !there {
			continue
		}
		if names != nil {
			names[tarball.Integrity] = p.Name + "@" + version
		}
		kept := map[string]any{}
		for _, key := range npmKept {
			if v, is := all[key]; is {
				kept[key] = v
			}
		}
		kept["dist"] = map[string]any{"tarball": npmTarballAddress(u.Path), "integrity": tarball.Integrity}
		p.Versions[version] = kept
		if latest == "" || semver.Compare("v"+version, "v"+latest) > 0 {
			latest = version
		}
	}
	if len(p.Versions) == 0 {
		return nil
	}
	p.Tags["latest"] = latest
	return p
}

// npmNameIn is the name of a package and the file in the path of a tarball:
// /NAME/-/FILE.tgz, below whatever path the registry has.
func npmNameIn(address string) (name, file string) {
	before, file, found := strings.Cut(address, "/-/")
	if !found {
		return "", path.Base(address)
	}
	name = path.Base(before)
	if scope := path.Base(path.Dir(before)); strings.HasPrefix(scope, "@") {
		name = scope + "/" + name
	}
	return name, path.Base(file)
}

func npmTarballAddress(address string) string {
	name, file := npmNameIn(address)
	if name == "" {
		return npmRegistry + strings.TrimPrefix(address, "/")
	}
	return npmRegistry + name + "/-/" + file
}

func npmTarballName(address string) string {
	name, file := npmNameIn(address)
	file = strings.TrimSuffix(file, ".tgz")
	if version, is := strings.CutPrefix(file, path.Base(name)+"-"); is && name != "" {
		return name + "@" + version
	}
	return cmp.Or(name, "npm") + " " + file
}
