package seed

import (
	"archive/zip"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/repo"
)

// GoName is the name of the package that has Go.
const GoName = "seed-go"

// goLayoutVersion is raised whenever the same lock gives another package.
const goLayoutVersion = 1

// goModule is the module in which proxies serve Go itself (go.dev/ref/mod, "Toolchains").
const goModule = "golang.org/toolchain"

//go:embed go.lock.yaml
var defaultGoLock []byte

// DefaultGoLock names the lock that tarn brings along, in messages.
const DefaultGoLock = "build/seed/go.lock.yaml"

// goLock says exactly which Go.
type goLock struct {
	Go         string        `yaml:"go"`         // e.g. 1.26.8
	Toolchains []goToolchain `yaml:"toolchains"` // one an architecture
}

// goToolchain is Go for one architecture: a zip of the module proxy.
type goToolchain struct {
	Arch   apk.Arch `yaml:"arch"`
	Size   int64    `yaml:"size"` // of the zip, in bytes
	SHA256 string   `yaml:"sha256"`
	Sum    string   `yaml:"sum"`       // of what is in it, as go.sum writes it: h1:...
	Files  int64    `yaml:"installed"` // bytes of all files, installed
}

func (t *goToolchain) version(l *goLock) string {
	return "v0.0.1-go" + l.Go + ".linux-" + t.Arch.GoArch()
}

// Go is Go as its own project builds it, by its lock: a package that needs nothing.
type Go struct {
	fetcher *source.Fetcher
	lock    *goLock
}

var _ repo.Source = (*Go)(nil)

// OpenGo reads a lock; tarn's own without a path. Nothing is fetched.
func OpenGo(f *source.Fetcher, lock string) (*Go, error) {
	data := defaultGoLock
	if lock == "" {
		lock = DefaultGoLock
	} else {
		var err error
		if data, err = os.ReadFile(lock); err != nil {
			return nil, fmt.Errorf("read the lock of Go: %w", err)
		}
	}
	l, err := parseGoLock(lock, data)
	return &Go{f, l}, err
}

var goVersion = regexp.MustCompile(`^1\.\d+(\.\d+)?$`)

func parseGoLock(file string, data []byte) (*goLock, error) {
	var l goLock
	if _, err := yamlread.Decode(file, data, &l); err != nil {
		return nil, err
	}
	var problems diag.Problems
	wrong := func(format string, args ...any) {
		problems = append(problems, diag.Problem{File: file, Text: fmt.Sprintf(format, args...)})
	}
	if !goVersion.MatchString(l.Go) {
		wrong("go: %q is no version such as 1.26.8", l.Go)
	}
	seen := map[apk.Arch]bool{}
	for _, t := range l.Toolchains {
		switch {
		case t.Arch.GoArch() == "" || seen[t.Arch]:
			wrong("architecture %q is unknown or stands there twice", t.Arch)
		case !hexDigest.MatchString(t.SHA256):
			wrong("%s: %q is no SHA-256", t.Arch, t.SHA256)
		case !strings.HasPrefix(t.Sum, "h1:"):
			wrong("%s: %q is no sum such as go.sum has", t.Arch, t.Sum)
		}
		seen[t.Arch] = true
	}
	return &l, problems.Err()
}

// Name is how messages call the seed.
func (g *Go) Name() string { return "seed (Go " + g.lock.Go + ")" }

func (g *Go) toolchain(arch apk.Arch) *goToolchain {
	for i := range g.lock.Toolchains {
		if g.lock.Toolchains[i].Arch == arch {
			return &g.lock.Toolchains[i]
		}
	}
	return nil
}

// Packages lists the one package, on the architectures that the lock has.
func (g *Go) Packages(_ context.Context, arch apk.Arch) ([]*apk.Entry, error) {
	t := g.toolchain(arch)
	if t == nil {
		return nil, nil
	}
	e := &apk.Entry{Info: apk.Info{
		Name: GoName, Version: apk.Version(g.lock.Go + "-r0"), Arch: arch, Origin: repo.SeedOrigin, Size: t.Files,
		Description: "Go, as its own project builds it", URL: "https://go.dev/", Licenses: []string{"BSD-3-Clause"},
	}}
	for _, name := range []string{"cmd:go", "cmd:gofmt", "go"} {
		d, err := apk.ParseDependency(name + "=" + string(e.Version))
		if err != nil {
			return nil, fmt.Errorf("seed: %w", err)
		}
		e.Provides = append(e.Provides, d)
	}
	return []*apk.Entry{e}, nil
}

func (g *Go) id(t *goToolchain) store.ActionID {
	h := store.NewHash("seed of go")
	h.Line("layout", goLayoutVersion)
	h.Line("go", g.lock.Go)
	h.Line("arch", string(t.Arch))
	h.Line("sha256", t.SHA256)
	h.Line("installed", t.Files)
	return h.Sum()
}

// Identity names the bytes that installing the package gives.
func (g *Go) Identity(e *apk.Entry) string { return "seed:" + string(g.id(g.toolchain(e.Arch))) }

// Fetch puts the package into the store: it recalls it, or fetches the zip and makes it.
func (g *Go) Fetch(ctx context.Context, st *store.Store, e *apk.Entry) (store.Digest, error) {
	t := g.toolchain(e.Arch)
	var d store.Digest
	if found, err := st.Recall(g.id(t), &d); err != nil || found {
		return d, err
	}
	zipped, err := g.fetchZip(ctx, t)
	if err == nil {
		d, err = g.make(ctx, st, zipped, t, e)
	}
	if err != nil {
		return "", fmt.Errorf("seed: %w", err)
	}
	return d, st.Remember(g.id(t), d)
}

// Keep puts the zip for an architecture into the store, made into the seed already or not.
func (g *Go) Keep(ctx context.Context, arch apk.Arch) ([]store.Digest, error) {
	d, err := g.fetchZip(ctx, g.toolchain(arch))
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	return []store.Digest{d}, nil
}

// fetchZip fetches the zip from where this machine's Go gets modules.
func (g *Go) fetchZip(ctx context.Context, t *goToolchain) (store.Digest, error) {
	version := t.version(g.lock)
	s := source.Source{Name: "go" + g.lock.Go + "." + t.Arch.GoArch() + ".zip", SHA256: t.SHA256}
	if g.fetcher.Store.Has(store.Digest("sha256:" + t.SHA256)) {
		return store.Digest("sha256:" + t.SHA256), nil
	}
	var folders, proxies []string
	settings, err := goSettings(ctx)
	if err == nil {
		proxies, err = goProxies(settings["GOPROXY"])
	}
	for _, p := range proxies {
		address := strings.TrimSuffix(p, "/") + "/" + goModule + "/@v/" + version + ".zip"
		if u, err := url.Parse(p); err == nil && u.Scheme == "file" {
			folders = append(folders, strings.TrimPrefix(address, "file://"))
			continue
		}
		s.URIs = append(s.URIs, address)
	}
	for _, name := range folders {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		_, err = g.fetcher.Store.PutExpected(f, store.Digest("sha256:"+t.SHA256))
		f.Close()
		if err == nil {
			return store.Digest("sha256:" + t.SHA256), nil
		}
	}
	if err != nil && len(g.fetcher.Mirrors) == 0 {
		return "", &source.Error{Name: s.Name, Digest: "sha256 " + t.SHA256, Tried: []source.Attempt{{From: "the module proxy of this machine", Err: err}}}
	}
	return g.fetcher.Fetch(ctx, s)
}

// goProxies are the proxies that this machine's Go asks for modules, by its GOPROXY.
func goProxies(setting string) ([]string, error) {
	var proxies []string
	for _, p := range strings.FieldsFunc(setting, func(r rune) bool { return r == ',' || r == '|' }) {
		if p = strings.TrimSpace(p); p != "direct" && p != "off" && p != "" {
			proxies = append(proxies, p)
		}
	}
	if len(proxies) == 0 {
		return nil, errors.New("GOPROXY names no proxy\n  hint: Go itself is served by module proxies: set GOPROXY")
	}
	return proxies, nil
}

// zipFiles are the files of a toolchain's zip that are installed, by their path in GOROOT.
// What tests need is left out.
func zipFiles(z *zip.Reader, prefix string) (map[string]*zip.File, error) {
	files := map[string]*zip.File{}
	for _, f := range z.File {
		name, below := strings.CutPrefix(f.Name, prefix)
		if !below || !fs.ValidPath(name) {
			return nil, fmt.Errorf("it holds %q", f.Name)
		}
		if !f.Mode().IsRegular() || strings.HasSuffix(name, "_test.go") || slices.Contains(strings.Split(name, "/"), "testdata") {
			continue
		}
		// A module holds no go.mod but its own: those of Go have another name in it.
		if dir, base := path.Split(name); base == "_go.mod" {
			name = dir + "go.mod"
		}
		if files[name] != nil {
			return nil, fmt.Errorf("it holds %q twice", name)
		}
		files[name] = f
	}
	for _, name := range []string{"bin/go", "bin/gofmt", "VERSION"} {
		if files[name] == nil {
			return nil, fmt.Errorf("it has no %s", name)
		}
	}
	return files, nil
}

// openZip opens a zip of the store, checked as go checks modules.
func openZip(blob *os.File, t *goToolchain) (*zip.Reader, string, error) {
	info, err := blob.Stat()
	if err != nil {
		return nil, "", err
	}
	z, err := zip.NewReader(blob, info.Size())
	if err != nil {
		return nil, "", err
	}
	byName := map[string]*zip.File{}
	var names []string
	for _, f := range z.File {
		byName[f.Name] = f
		names = append(names, f.Name)
	}
	sum, err := dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return byName[name].Open() })
	if err == nil && t.Sum != "" && sum != t.Sum {
		err = &source.MismatchError{Algorithm: "h1", Want: t.Sum, Got: sum}
	}
	return z, sum, err
}

// goContents lists what is installed, sorted by path.
func goContents(files map[string]*zip.File) (list []apk.Content, size int64) {
	const root = "usr/lib/go"
	folders := map[string]bool{}
	add := func(c apk.Content) {
		for dir := path.Dir(c.Path); dir != "." && !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
			list = append(list, apk.Content{File: apk.File{Path: dir, Type: apk.TypeDir, Mode: 0o755, ModTime: modTime}})
		}
		c.ModTime = modTime
		size += c.Size
		list = append(list, c)
	}
	for name, f := range files {
		mode := fs.FileMode(0o644)
		if dir := path.Dir(name); dir == "bin" || strings.HasPrefix(dir, "pkg/tool/") || strings.HasSuffix(name, ".bash") {
			mode = 0o755
		}
		add(apk.Content{File: apk.File{Path: path.Join(root, name), Type: apk.TypeFile, Mode: mode, Size: int64(f.UncompressedSize64)}, Open: f.Open})
	}
	for _, name := range []string{"go", "gofmt"} {
		link := "../lib/go/bin/" + name
		add(apk.Content{File: apk.File{Path: "usr/bin/" + name, Type: apk.TypeSymlink, Mode: 0o777, Link: link}})
		size += int64(len(link))
	}
	slices.SortFunc(list, func(a, b apk.Content) int { return cmp.Compare(a.Path, b.Path) })
	return list, size
}

// make makes the package and puts it into the store.
func (g *Go) make(ctx context.Context, st *store.Store, zipped store.Digest, t *goToolchain, e *apk.Entry) (store.Digest, error) {
	blob, err := st.Open(zipped)
	if err != nil {
		return "", err
	}
	defer blob.Close()
	z, _, err := openZip(blob, t)
	if err != nil {
		return "", fmt.Errorf("go %s: %w", g.lock.Go, err)
	}
	files, err := zipFiles(z, goModule+"@"+t.version(g.lock)+"/")
	if err != nil {
		return "", fmt.Errorf("go %s: %w", g.lock.Go, err)
	}
	contents, size := goContents(files)
	if size != t.Files {
		return "", fmt.Errorf("go %s: what the zip holds has %d bytes, and the lock says %d\n  hint: write a new lock with tarn seed --update go", g.lock.Go, size, t.Files)
	}
	return put(ctx, st, e.Info, contents)
}

// Update gives a new lock for a version of Go, "" for the same one, for the same
// architectures. What proxies serve has to be what the checksum database of this machine's
// settings vouches for: else it is a *SumError. Where they name none, the lock says so.
func (g *Go) Update(ctx context.Context, version string) ([]byte, error) {
	fresh := &goLock{Go: cmp.Or(version, g.lock.Go)}
	if !goVersion.MatchString(fresh.Go) {
		return nil, fmt.Errorf("update the lock of Go: %q is no version such as 1.26.8", fresh.Go)
	}
	settings, err := goSettings(ctx)
	if err != nil {
		return nil, fmt.Errorf("update the lock of Go: %w", err)
	}
	proxies, err := goProxies(settings["GOPROXY"])
	if err != nil {
		return nil, fmt.Errorf("update the lock of Go: %w", err)
	}
	sums, unchecked, err := openDatabase(ctx, g.fetcher, settings, goModule)
	if err != nil {
		return nil, fmt.Errorf("update the lock of Go: %w", err)
	}
	for _, old := range g.lock.Toolchains {
		t := goToolchain{Arch: old.Arch}
		var addresses []string
		for _, p := range proxies {
			addresses = append(addresses, strings.TrimSuffix(p, "/")+"/"+goModule+"/@v/"+t.version(fresh)+".zip")
		}
		sight, err := g.fetcher.See(ctx, addresses, "")
		if err != nil {
			return nil, fmt.Errorf("update the lock of Go: %w", err)
		}
		if err := g.measure(fresh, &t, sight); err != nil {
			return nil, fmt.Errorf("update the lock of Go: %s: %w", t.Arch, err)
		}
		if sums != nil {
			if err := sums.check(goModule, t.version(fresh), t.Sum); err != nil {
				return nil, fmt.Errorf("update the lock of Go: %w", err)
			}
		}
		fresh.Toolchains = append(fresh.Toolchains, t)
	}
	head := goLockHead
	if unchecked != "" {
		head += "# No checksum database was asked: " + unchecked + ".\n"
	}
	return encodeYAML(head, fresh)
}

func (g *Go) measure(l *goLock, t *goToolchain, sight source.Sight) error {
	blob, err := g.fetcher.Store.Open(sight.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	z, sum, err := openZip(blob, t)
	if err != nil {
		return err
	}
	files, err := zipFiles(z, goModule+"@"+t.version(l)+"/")
	if err != nil {
		return err
	}
	t.Size, t.SHA256, t.Sum = sight.Size, sight.Digest.Hex(), sum
	_, t.Files = goContents(files)
	return nil
}

const goLockHead = `# Which Go the seed is: zips of the module golang.org/toolchain, as module proxies serve it.
#
# Written by: tarn seed --update go
`
