package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/tarn-build/tarn/pkg/debian"
	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
	"golang.org/x/sync/singleflight"
)

// maxIndex is the most bytes that an index of the archive may expand to. Sources
// of Debian's unstable main has 70 MB.
const maxIndex = 1 << 30

// maxInRelease is the most bytes that an InRelease may have.
const maxInRelease = 16 << 20

// DebianArchive is Debian's archive, reached where this machine's apt reaches it,
// and believed for the keys that this machine's apt believes. apt itself is not
// run and its folders are only read.
type DebianArchive struct {
	// Fetcher gives the store, and the client that asks. The proxies and passwords
	// that apt's settings name come before those of the environment.
	Fetcher *Fetcher
	// URIs are the archive's roots to ask instead of those of apt's sources, and
	// Keyring the file of keys to believe instead of those of apt.
	URIs    []string
	Keyring string

	once    sync.Once
	err     error
	client  *web.Client
	sources []aptSource

	flight singleflight.Group // a suite is asked for once, however many want it
	mu     sync.Mutex
	suites map[string]*Suite // checked in this process
}

// aptSource is a place of apt's with its keys.
type aptSource struct {
	debian.AptSource
	keys *debian.Keyring
	ring store.Digest // of the keys' files: what was checked with other keys does not count
}

// Suite is a suite of the archive, its signature checked.
type Suite struct {
	Name    string
	Base    string // the archive's root, with no slash at its end
	Release *debian.Release
}

// debianSuites are names that suites of Debian's main archive have. A source of
// apt that names one of them is the archive for the others, too.
var debianSuites = []string{"oldoldstable", "oldstable", "stable", "testing", "unstable", "sid", "experimental", "buster", "bullseye", "bookworm", "trixie", "forky", "duke"}

func (a *DebianArchive) init(ctx context.Context) error {
	a.once.Do(func() {
		a.suites = map[string]*Suite{}
		a.err = a.load(ctx)
	})
	return a.err
}

func (a *DebianArchive) load(ctx context.Context) error {
	etc := a.Fetcher.AptDir
	if etc == "" {
		etc = "/etc/apt"
	}
	a.client = a.Fetcher.client()
	if c := a.client; c.Proxy == nil && c.Transport == nil {
		// Problems of apt's settings of proxies show when the archive is asked.
		proxies, _ := host.AptProxies(ctx)
		logins := aptLogins(etc, c.Credentials)
		if len(proxies) > 0 || logins != c.Credentials {
			a.client = &web.Client{Offline: c.Offline, Retry: c.Retry, Credentials: logins, Connect: c.Connect, Stall: c.Stall, Proxy: aptProxy(proxies)}
		}
	}
	if len(a.URIs) > 0 {
		for _, uri := range a.URIs {
			a.sources = append(a.sources, aptSource{AptSource: debian.AptSource{Type: "deb", URI: strings.TrimRight(uri, "/"), Components: []string{"main"}}})
		}
	} else {
		list, err := debian.ReadAptSources(os.DirFS(etc))
		if err != nil {
			return err
		}
		for _, s := range list {
			// apt may speak more protocols than we do.
			if strings.HasPrefix(s.URI, "http://") || strings.HasPrefix(s.URI, "https://") || strings.HasPrefix(s.URI, "file:/") {
				a.sources = append(a.sources, aptSource{AptSource: s})
			}
		}
	}
	if len(a.sources) == 0 {
		return fmt.Errorf("%s names no archive that is reached by http, https or file\n  hint: name one in tarn.yaml", etc)
	}
	var err error
	for i := range a.sources {
		s := &a.sources[i]
		switch {
		case a.Keyring != "":
			s.keys, s.ring, err = readKeys([]string{a.Keyring})
			if err != nil {
				return err
			}
		case s.Key() != "":
			s.keys, err = debian.ReadKeyring(strings.NewReader(s.Key()))
			s.ring = store.DigestOf([]byte(s.Key()))
		case s.Keyrings() != nil:
			s.keys, s.ring, err = readKeys(s.Keyrings())
		default:
			paths, _ := filepath.Glob(filepath.Join(etc, "trusted.gpg.d", "*"))
			paths = slices.DeleteFunc(paths, func(p string) bool { return filepath.Ext(p) != ".gpg" && filepath.Ext(p) != ".asc" })
			if old := filepath.Join(etc, "trusted.gpg"); isFile(old) {
				paths = append(paths, old)
			}
			s.keys, s.ring, err = readKeys(paths)
		}
		if err != nil {
			// One bad source of many (of somebody else's archive, mostly) is in the way
			// only when it is asked.
			s.keys = nil
		}
	}
	return nil
}

// aptLogins adds to the credentials what apt's own files of passwords say. Files
// that an ordinary user may not read count for root only.
func aptLogins(etc string, base *web.Credentials) *web.Credentials {
	paths, _ := filepath.Glob(filepath.Join(etc, "auth.conf.d", "*.conf"))
	c := new(web.Credentials)
	for _, p := range append([]string{filepath.Join(etc, "auth.conf")}, paths...) {
		if f, err := os.Open(p); err == nil {
			_ = c.ReadNetrc(f)
			f.Close()
		}
	}
	if c.Len() == 0 {
		return base
	}
	return c.With(base)
}

func isFile(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

func readKeys(paths []string) (*debian.Keyring, store.Digest, error) {
	all := new(debian.Keyring)
	var text bytes.Buffer
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return nil, "", fmt.Errorf("read keyring: %w", err)
		}
		keys, err := debian.ReadKeyring(bytes.NewReader(data))
		if err != nil {
			return nil, "", fmt.Errorf("%s: %v", p, err)
		}
		all.Add(keys)
		fmt.Fprintln(&text, store.DigestOf(data))
	}
	return all, store.DigestOf(text.Bytes()), nil
}

// aptProxy chooses as apt does: what is set for the host before what is set for
// the scheme, and then the environment.
func aptProxy(proxies map[string]string) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		for _, key := range []string{r.URL.Scheme + "::" + r.URL.Hostname(), r.URL.Scheme} {
			if value := proxies[key]; strings.EqualFold(value, "DIRECT") {
				return nil, nil
			} else if value != "" {
				return url.Parse(value)
			}
		}
		return http.ProxyFromEnvironment(r)
	}
}

// roots are the archive's roots to ask for a suite, each once: sources that name
// the suite, else those that name another suite of Debian, else all. One with a
// known address only serves its own suite.
func (a *DebianArchive) roots(suite string) []aptSource {
	choose := func(which func(aptSource) bool) (list []aptSource) {
		for _, s := range a.sources {
			if which(s) && !slices.ContainsFunc(list, func(o aptSource) bool { return o.URI == s.URI && o.ring == s.ring }) {
				list = append(list, s)
			}
		}
		return list
	}
	if len(a.URIs) > 0 {
		return choose(func(aptSource) bool { return true })
	}
	if list := choose(func(s aptSource) bool { return s.Suite == suite }); len(list) > 0 {
		return list
	}
	return choose(func(s aptSource) bool { return slices.Contains(debianSuites, s.Suite) })
}

// release is what the store remembers of a suite's InRelease.
type release struct {
	Digest         store.Digest
	ETag, Modified string
}

func releaseAction(s aptSource, suite string) store.ActionID {
	h := store.NewHash("debian release")
	h.Line("root", s.URI)
	h.Line("suite", suite)
	h.Line("keys", string(s.ring))
	return h.Sum()
}

// Cached is the suite as it was seen last, without asking anybody, or nil.
func (a *DebianArchive) Cached(ctx context.Context, suite string) *Suite {
	if a.init(ctx) != nil {
		return nil
	}
	a.mu.Lock()
	known := a.suites[suite]
	a.mu.Unlock()
	if known != nil {
		return known
	}
	for _, s := range a.roots(suite) {
		var r release
		if found, err := a.Fetcher.Store.Recall(releaseAction(s, suite), &r); err != nil || !found || s.keys == nil {
			continue
		}
		if data, err := readBlob(a.Fetcher.Store, r.Digest); err == nil {
			if rel, err := s.keys.OpenInRelease(data, time.Now()); err == nil && rel.Is(suite) {
				return &Suite{Name: suite, Base: s.URI, Release: rel}
			}
		}
	}
	return nil
}

func readBlob(st *store.Store, d store.Digest) ([]byte, error) {
	f, err := st.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Suite asks for a suite, once a process. A suite that no root of the archive has
// is fs.ErrNotExist; a signature that does not hold is a *debian.SignatureError. That
// a release was valid until some day is not looked at: what is asked for is named
// by its digest, and an old index that has it is as good as a new one.
func (a *DebianArchive) Suite(ctx context.Context, suite string) (*Suite, error) {
	if err := a.init(ctx); err != nil {
		return nil, err
	}
	if !debian.ValidPath(suite) {
		return nil, fmt.Errorf("suite %q is no name", suite)
	}
	a.mu.Lock()
	known := a.suites[suite]
	a.mu.Unlock()
	if known != nil {
		return known, nil
	}
	found, err, _ := a.flight.Do(suite, func() (any, error) { return a.askAll(ctx, suite) })
	if err != nil {
		return nil, err
	}
	return found.(*Suite), nil
}

// askAll asks the roots that may have a suite, until one has it.
func (a *DebianArchive) askAll(ctx context.Context, suite string) (*Suite, error) {
	roots := a.roots(suite)
	if len(roots) == 0 {
		return nil, fmt.Errorf("suite %s: apt's sources name no archive of Debian\n  hint: name one in tarn.yaml", suite)
	}
	var errs []error
	for _, s := range roots {
		found, err := a.ask(ctx, s, suite)
		if err == nil {
			a.mu.Lock()
			a.suites[suite] = found
			a.mu.Unlock()
			return found, nil
		}
		errs = append(errs, fmt.Errorf("%s/dists/%s/InRelease: %w", redact.Address(s.URI), suite, err))
	}
	return nil, errors.Join(errs...)
}

func (a *DebianArchive) ask(ctx context.Context, s aptSource, suite string) (*Suite, error) {
	if s.keys == nil || s.keys.Len() == 0 {
		return nil, &debian.SignatureError{Reason: "this machine has no keys for it"}
	}
	action := releaseAction(s, suite)
	var last release
	var when web.Conditions
	if found, err := a.Fetcher.Store.Recall(action, &last); err == nil && found {
		when = web.Conditions{ETag: last.ETag, Modified: last.Modified}
	}
	body, err := a.get(ctx, s.URI, "dists/"+suite+"/InRelease", when)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var data []byte
	if body.Unchanged {
		data, err = readBlob(a.Fetcher.Store, last.Digest)
	} else {
		data, err = io.ReadAll(io.LimitReader(body, maxInRelease+1))
		if err == nil && len(data) > maxInRelease {
			err = fmt.Errorf("it has more than %d bytes", maxInRelease)
		}
	}
	if err != nil {
		return nil, err
	}
	rel, err := s.keys.OpenInRelease(data, time.Now())
	if err != nil {
		return nil, err
	}
	// A signed release of another suite must not stand in for this one.
	if !rel.Is(suite) {
		return nil, fmt.Errorf("it is suite %s (%s)", rel.Suite, rel.Codename)
	}
	if !body.Unchanged {
		d, _, err := a.Fetcher.Store.Put(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if err := a.Fetcher.Store.Remember(action, release{Digest: d, ETag: body.ETag, Modified: body.Modified}); err != nil {
			return nil, err
		}
	}
	return &Suite{Name: suite, Base: s.URI, Release: rel}, nil
}

// get asks for a path below a root of the archive.
func (a *DebianArchive) get(ctx context.Context, root, p string, when web.Conditions) (*web.Body, error) {
	if folder, found := strings.CutPrefix(root, "file:"); found {
		if a.client.Offline {
			return nil, web.ErrOffline
		}
		f, err := os.OpenInRoot("/"+strings.TrimLeft(folder, "/"), p)
		if err != nil {
			return nil, err
		}
		return &web.Body{ReadCloser: f, Size: -1}, nil
	}
	body, err := a.client.Get(ctx, root+"/"+escapePath(p), when)
	if s, is := errors.AsType[*web.StatusError](err); is && (s.Code == http.StatusNotFound || s.Code == http.StatusGone) {
		return nil, notThere{s.Error()}
	}
	return body, err
}

// escapePath escapes the elements of a path: + is common in versions, and some
// servers take it for a blank.
func escapePath(p string) string {
	elements := strings.Split(p, "/")
	for i := range elements {
		elements[i] = strings.ReplaceAll(url.PathEscape(elements[i]), "+", "%2B")
	}
	return strings.Join(elements, "/")
}

// Index gives an index of a suite by its plain path, e.g. main/source/Sources,
// checked against the release and expanded. It is fetched when the store does not
// have it.
func (a *DebianArchive) Index(ctx context.Context, s *Suite, name string) (io.ReadCloser, error) {
	digest, err := a.index(ctx, s, name)
	if err != nil {
		return nil, err
	}
	f, err := a.Fetcher.Store.Open(digest)
	if err != nil {
		return nil, err
	}
	expanded, err := archive.Decompress(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %v", name, err)
	}
	return both{&checked{r: expanded, left: maxIndex, max: maxIndex}, expanded, f}, nil
}

type both struct {
	io.Reader
	a, b io.Closer
}

func (b both) Close() error { return errors.Join(b.a.Close(), b.b.Close()) }

// indexFile is the file of an index that is best to have: gzip is expanded ten times
// faster than xz, and a third larger.
func indexFile(s *Suite, name string) (debian.File, error) {
	for _, suffix := range []string{".gz", ".xz", ""} {
		if f, found := s.Release.Files[name+suffix]; found {
			return f, nil
		}
	}
	return debian.File{}, fmt.Errorf("suite %s has no index %s: %w", s.Name, name, fs.ErrNotExist)
}

func (a *DebianArchive) index(ctx context.Context, s *Suite, name string) (store.Digest, error) {
	f, err := indexFile(s, name)
	if err != nil {
		return "", err
	}
	d := store.Digest("sha256:" + f.SHA256)
	if a.Fetcher.Store.Has(d) {
		return d, nil
	}
	// By its digest an index stays there for a while after the suite changed.
	paths := []string{path.Join("dists", s.Name, f.Path)}
	if s.Release.AcquireByHash {
		paths = append([]string{path.Join("dists", s.Name, path.Dir(f.Path), "by-hash/SHA256", f.SHA256)}, paths...)
	}
	var errs []error
	for _, p := range paths {
		err := a.keep(ctx, s.Base, p, debian.File{Path: f.Path, Size: f.Size, SHA256: f.SHA256})
		if err == nil {
			return d, nil
		}
		errs = append(errs, fmt.Errorf("%s/%s: %w", redact.Address(s.Base), p, err))
	}
	return "", errors.Join(errs...)
}

// keep puts a file of the archive into the store if it is the right one.
func (a *DebianArchive) keep(ctx context.Context, root, p string, f debian.File) error {
	body, err := a.get(ctx, root, p, web.Conditions{})
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = a.Fetcher.Store.PutExpected(io.LimitReader(body, f.Size+1), store.Digest("sha256:"+f.SHA256))
	if m, is := errors.AsType[*store.MismatchError](err); is {
		return &MismatchError{Algorithm: "sha256", Want: m.Want.Hex(), Got: m.Got.Hex()}
	}
	return err
}

// Keep puts a file of the archive's pool into the store, checked against its digest
// and size, where it is not there already.
func (a *DebianArchive) Keep(ctx context.Context, s *Suite, f debian.File) (store.Digest, error) {
	if !isHex(f.SHA256, 64) || !debian.ValidPath(f.Path) {
		return "", fmt.Errorf("%q is no file of an archive", f.Path)
	}
	d := store.Digest("sha256:" + f.SHA256)
	if a.Fetcher.Store.Has(d) {
		return d, nil
	}
	if err := a.keep(ctx, s.Base, f.Path, f); err != nil {
		return "", &Error{Name: path.Base(f.Path), Digest: "sha256 " + f.SHA256, Tried: []Attempt{{redact.Address(s.Base + "/" + f.Path), err}}}
	}
	return d, nil
}

// DebianMirror is Debian's archive of sources as a mirror: its indexes name the
// SHA-256 of every file, and hundreds of upstream's archives lie there as they are.
// Suites are asked in their order, e.g. trixie, bookworm; one that is missing is no
// mistake while another has the file.
func DebianMirror(f *Fetcher, suites []string) Mirror {
	return &debianMirror{archive: f.Debian(), suites: suites}
}

type debianMirror struct {
	archive *DebianArchive
	suites  []string

	mu     sync.Mutex
	tables map[store.ActionID]table
}

// Name says which suites there are.
func (m *debianMirror) Name() string { return "debian sources (" + strings.Join(m.suites, ", ") + ")" }

// Open finds the file in the indexes that are at hand, and asks for newer ones
// when it is not there.
func (m *debianMirror) Open(ctx context.Context, sha256, name string) (io.ReadCloser, error) {
	if err := checkAsked(ctx, sha256); err != nil {
		return nil, err
	}
	tried := map[string]bool{}
	for _, suite := range m.suites {
		s := m.archive.Cached(ctx, suite)
		if s == nil {
			continue
		}
		t, err := m.table(ctx, s, false)
		if err != nil || t == nil {
			continue
		}
		if row, found := t.find(sha256); found {
			if body, err := m.archive.get(ctx, s.Base, row.path, web.Conditions{}); err == nil {
				return body, nil
			} else if errors.Is(err, web.ErrOffline) || ctx.Err() != nil {
				return nil, err
			}
			tried[s.Base+"/"+row.path] = true
		}
	}
	missing := &notHeld{source: sourceOf(name)}
	for _, suite := range m.suites {
		s, err := m.archive.Suite(ctx, suite)
		var t table
		if err == nil {
			t, err = m.table(ctx, s, true)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			missing.failed = append(missing.failed, fmt.Errorf("suite %s: %w", suite, err))
			continue
		}
		missing.asked = append(missing.asked, suite)
		row, found := t.find(sha256)
		if !found {
			for _, version := range t.versions(missing.source) {
				missing.versions = append(missing.versions, version+" ("+suite+")")
			}
			continue
		}
		if tried[s.Base+"/"+row.path] {
			missing.failed = append(missing.failed, fmt.Errorf("suite %s: %s is listed, and not there", suite, row.path))
			continue
		}
		body, err := m.archive.get(ctx, s.Base, row.path, web.Conditions{})
		if err == nil {
			return body, nil
		}
		missing.failed = append(missing.failed, fmt.Errorf("suite %s: %s: %w", suite, row.path, err))
	}
	if body := m.unlisted(ctx, sha256, name); body != nil {
		return body, nil
	}
	return nil, missing
}

// unlisted asks for a file where the pool keeps files of its name. A file stays there
// for a while after the last index that names it is gone, and is listed before it is
// there; that it is the right one says its digest alone. What is not there is nil.
func (m *debianMirror) unlisted(ctx context.Context, sha256, name string) io.ReadCloser {
	p := poolPath(name)
	if p == "" {
		return nil
	}
	seen := map[string]bool{}
	for _, suite := range m.suites {
		s := m.archive.Cached(ctx, suite)
		if s == nil || seen[s.Base] {
			continue
		}
		seen[s.Base] = true
		if m.archive.keep(ctx, s.Base, p, debian.File{Path: p, Size: m.archive.Fetcher.MaxSize, SHA256: sha256}) != nil {
			continue
		}
		if f, err := m.archive.Fetcher.Store.Open(store.Digest("sha256:" + sha256)); err == nil {
			return f
		}
	}
	return nil
}

var (
	debianSource = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	// upstreamArchive is e.g. openssl-3.5.7.tar.gz.
	upstreamArchive = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9+.-]*?)[-_]v?([0-9][A-Za-z0-9.+~]*)(\.tar\.(?:gz|xz|bz2|lzma))$`)
)

// poolPath is where Debian's pool keeps the file SOURCE/FILE, or the archive of
// upstream NAME-VERSION.tar.EXT; "" for what can be neither.
func poolPath(name string) string {
	source, file, named := strings.Cut(name, "/")
	if !named {
		m := upstreamArchive.FindStringSubmatch(name)
		if m == nil {
			return ""
		}
		source = strings.ToLower(m[1])
		file = source + "_" + m[2] + ".orig" + m[3]
	}
	p := path.Join("pool/main", source[:min(1, len(source))], source, file)
	if strings.HasPrefix(source, "lib") && len(source) > 3 {
		p = path.Join("pool/main", source[:4], source, file)
	}
	if !debianSource.MatchString(source) || file == "" || strings.Contains(file, "/") || !debian.ValidPath(p) {
		return ""
	}
	return p
}

// notHeld says that no suite has a file, and what there is instead.
type notHeld struct {
	source   string
	file     string // where it was asked for by its name, and not by its digest
	asked    []string
	versions []string
	failed   []error
}

func (e *notHeld) Error() string {
	var b strings.Builder
	if len(e.asked) == 0 {
		b.WriteString("no suite could be asked")
	} else {
		what := "no file of this digest"
		if e.file != "" {
			what = "no " + e.file
		}
		b.WriteString(what + " in " + strings.Join(e.asked, ", "))
		if e.source != "" {
			if len(e.versions) == 0 {
				fmt.Fprintf(&b, "; no source %s there", e.source)
			} else {
				fmt.Fprintf(&b, "; versions of %s there: %s", e.source, strings.Join(e.versions, ", "))
			}
		}
	}
	for _, err := range e.failed {
		b.WriteString("\n" + err.Error())
	}
	return b.String()
}

// Is says that the file is not there; where no suite could be asked nobody knows.
func (e *notHeld) Is(target error) bool { return target == fs.ErrNotExist && len(e.asked) > 0 }

func (e *notHeld) Unwrap() []error {
	if len(e.asked) > 0 {
		return nil
	}
	return e.failed
}

// sourceOf guesses the Debian source of a file: SOURCE/FILE says it, else it is
// what stands before the version.
func sourceOf(name string) string {
	if source, _, found := strings.Cut(name, "/"); found {
		return source
	}
	for i := 1; i+1 < len(name); i++ {
		if (name[i] == '-' || name[i] == '_') && (name[i+1] >= '0' && name[i+1] <= '9' || name[i+1] == 'v') {
			return strings.ToLower(name[:i])
		}
	}
	return ""
}

// table is the lines "SHA-256 path source version" of an index of sources, sorted.
type table []byte

type tableRow struct{ path, source, version string }

func (t table) line(at int) (string, int) {
	start := bytes.LastIndexByte(t[:at], '\n') + 1
	end := start + bytes.IndexByte(t[start:], '\n')
	return string(t[start:end]), end + 1
}

// find gives the row of a digest, by halves.
func (t table) find(sha256 string) (tableRow, bool) {
	at := sort.Search(len(t), func(i int) bool {
		line, _ := t.line(i)
		return line[:64] >= sha256
	})
	if at == len(t) {
		return tableRow{}, false
	}
	line, _ := t.line(at)
	part := strings.Fields(line)
	return tableRow{part[1], part[2], part[3]}, part[0] == sha256
}

// versions are those of a source, oldest first.
func (t table) versions(source string) []string {
	if source == "" {
		return nil
	}
	var list []string
	needle := []byte(" " + source + " ")
	for at := 0; ; {
		i := bytes.Index(t[at:], needle)
		if i < 0 {
			break
		}
		line, next := t.line(at + i)
		if part := strings.Fields(line); part[2] == source && !slices.Contains(list, part[3]) {
			list = append(list, part[3])
		}
		at = next
	}
	slices.SortFunc(list, debian.CompareVersions)
	return list
}

// table gives the table of a suite; nil when it is not at hand and ask is false.
func (m *debianMirror) table(ctx context.Context, s *Suite, ask bool) (table, error) {
	const name = "main/source/Sources"
	f, err := indexFile(s, name)
	if err != nil {
		return nil, err
	}
	h := store.NewHash("debian table of sources")
	h.Line("version", 2)
	h.Line("index", f.SHA256)
	action := h.Sum()
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, found := m.tables[action]; found {
		return t, nil
	}
	var d store.Digest
	if found, err := m.archive.Fetcher.Store.Recall(action, &d); err == nil && found {
		data, err := readBlob(m.archive.Fetcher.Store, d)
		if err == nil && table(data).whole() {
			return m.keep(action, data), nil
		}
	}
	if !ask {
		return nil, nil
	}
	index, err := m.archive.Index(ctx, s, name)
	if err != nil {
		return nil, err
	}
	defer index.Close()
	t, err := makeTable(index)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if d, _, err = m.archive.Fetcher.Store.Put(bytes.NewReader(t)); err != nil {
		return nil, err
	}
	if err := m.archive.Fetcher.Store.Remember(action, d); err != nil {
		return nil, err
	}
	return m.keep(action, t), nil
}

func (m *debianMirror) keep(action store.ActionID, t table) table {
	if m.tables == nil {
		m.tables = map[store.ActionID]table{}
	}
	m.tables[action] = t
	return t
}

func (t table) whole() bool { return len(t) == 0 || t[len(t)-1] == '\n' && len(t) > 66 }

// makeTable keeps of an index what can be asked for: not the descriptions.
// Signatures of upstream's are files like others.
func makeTable(r io.Reader) (table, error) {
	var lines []string
	err := debian.ReadSources(r, func(s debian.Source) error {
		if strings.ContainsAny(s.Name+s.Version, " \t\n") {
			return fmt.Errorf("%q %q is no source", s.Name, s.Version)
		}
		for _, f := range s.Files {
			if path.Ext(f.Path) != ".dsc" {
				lines = append(lines, f.SHA256+" "+path.Join(s.Directory, f.Path)+" "+s.Name+" "+s.Version)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(lines)
	var b bytes.Buffer
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	return b.Bytes(), nil
}
