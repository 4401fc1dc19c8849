package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
)

// The names of indexes in the folder of an architecture, of version 2 and of version 3.
// A repository may have both: that of version 3 lists all packages, the other one those
// of version 2.
const (
	indexName  = "APKINDEX.tar.gz"
	indexName3 = "Packages.adb"
)

// indexNames are both, in the order in which a reader looks for them. That of version 2
// tells when it was made, which the other one cannot.
var indexNames = []string{indexName, indexName3}

// Limits on what a repository may send, in bytes.
const (
	maxIndexBytes   = 64 << 20 // compressed
	maxPackageBytes = 8 << 30
	maxKeyBytes     = 64 << 10
)

// Options say how a repository is read.
type Options struct {
	// Keys are whom the reader trusts.
	Keys apk.KeySet
	// AllowUntrusted reads an index without asking for a signature.
	AllowUntrusted bool
	// Offline asks no server: there is what the store has.
	Offline bool
	// Client is used for http and https; when nil, one with the passwords of the
	// environment (HTTP_AUTH, netrc) and its proxies, which goes from https to https alone.
	Client *web.Client
	// Store keeps copies of indexes, so that one that did not change is not read again,
	// and remembers the newest of each repository. Neither is done when it is nil.
	Store *store.Store
	// AllowRollback takes an index that is older than one that was seen before.
	AllowRollback bool
	// MaxAge is how old an index may be; 0 is any age.
	MaxAge time.Duration
	// DiscoverKeys also trusts, for this repository alone, the keys that its server names
	// (apk-configuration). Whoever has the server has then the repository.
	DiscoverKeys bool
}

// Repository is packages and a signed index, per architecture. It is a Source.
type Repository struct {
	location string // as messages show it
	id       string // by what it is remembered
	snapshot string // the time of the snapshot that is read, as in its path; "" is what there is now
	storage  Storage
	options  Options

	mu      sync.Mutex
	keys    apk.KeySet // of options, and what was discovered
	indexes map[apk.Arch]*apk.Index
	knowns  map[apk.Arch]*Known     // open as long as the repository is used
	names   map[apk.Arch]string     // how the index calls packages' files: see apk.Index.Names
	folders map[*apk.Entry]apk.Arch // in whose index an entry stands: its file lies beside it
}

// TrustError says that bytes are not what a signature or an index says of them.
type TrustError struct {
	What string // e.g. zlib-1.3.1-r0.apk
	Why  string // what was expected and found
}

func (e *TrustError) Error() string { return e.What + ": " + e.Why }

// UnreachableError says that a repository's server did not give what it was asked for.
type UnreachableError struct{ Err error }

func (e *UnreachableError) Error() string { return e.Err.Error() }
func (e *UnreachableError) Unwrap() error { return e.Err }

// Open gives the repository at a location: a folder, or an http or https address. One
// that ends in snapshots/TIME is the repository as it was then. Nothing is read yet.
func Open(location string, o Options) (*Repository, error) {
	shown := location
	u, err := url.Parse(location)
	if err == nil {
		shown = redact.Address(location) // it may hold a password, and messages show it
	}
	var s Storage
	base, snapshot := cutSnapshot(location)
	switch {
	case err == nil && (u.Scheme == "http" || u.Scheme == "https"):
		if u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("open repository %s: an address has a host and neither ? nor #", shown)
		}
		if o.Client == nil {
			if o.Client, err = newClient(o.Offline); err != nil {
				return nil, fmt.Errorf("open repository %s: %w", shown, err)
			}
		}
		if o.Offline && o.Store == nil {
			return nil, fmt.Errorf("open repository %s: %w", shown, &UnreachableError{errors.New("the network is off (--offline)")})
		}
		s = webStorage{strings.TrimRight(base, "/"), o.Client}
	case err == nil && u.Scheme != "" && strings.Contains(location, "://"):
		return nil, fmt.Errorf("open repository %s: a location is a folder or an http or https address", shown)
	default:
		s = Folder(base)
	}
	r := OpenStorage(shown, s, o)
	r.snapshot = snapshot
	if _, isFolder := s.(Folder); isFolder {
		if r.id, err = filepath.Abs(base); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// OpenStorage gives the repository that a storage holds; location is how messages call
// it, and by what it is remembered.
func OpenStorage(location string, s Storage, o Options) *Repository {
	return &Repository{location: location, id: location, storage: s, options: o, keys: o.Keys, indexes: map[apk.Arch]*apk.Index{}, knowns: map[apk.Arch]*Known{}, names: map[apk.Arch]string{}, folders: map[*apk.Entry]apk.Arch{}}
}

// Name is the repository's location, without a password.
func (r *Repository) Name() string { return r.location }

// Packages lists the packages of an architecture. The index bears the signature of
// a trusted key, else the error is a *TrustError.
func (r *Repository) Packages(ctx context.Context, arch apk.Arch) ([]*apk.Entry, error) {
	index, err := r.Index(ctx, arch)
	if err != nil {
		return nil, err
	}
	return index.Entries, nil
}

// Index gives the verified index of an architecture, read once, without entries that
// are for another one. One that is not there is fs.ErrNotExist; one that is older than
// what was seen before, or than may be, is a *TrustError.
func (r *Repository) Index(ctx context.Context, arch apk.Arch) (*apk.Index, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index := r.indexes[arch]; index != nil {
		return index, nil
	}
	file, err := r.readIndexFile(ctx, arch)
	if err != nil {
		return nil, err
	}
	if err := r.takeIndex(arch, file); err != nil {
		return nil, err
	}
	return r.indexes[arch], nil
}

// takeIndex reads the index of an architecture after all checks. The lock is held.
func (r *Repository) takeIndex(arch apk.Arch, file *indexFile) error {
	index, err := r.parseIndex(file.path, file.data)
	if err != nil {
		return err
	}
	at, said := made(index)
	if err := r.checkNewest(arch, file, at, said); err != nil {
		return err
	}
	index.Entries = slices.DeleteFunc(index.Entries, func(e *apk.Entry) bool { return !suits(e.Arch, arch) })
	r.indexes[arch], r.names[arch] = index, index.Names
	for _, e := range index.Entries {
		r.folders[e] = arch
	}
	return nil
}

// noArch is the architecture of packages that suit every one.
const noArch apk.Arch = "noarch"

// suits tells whether a package of an architecture can be installed on another.
func suits(of, on apk.Arch) bool { return of == on || of == noArch || of == "" }

// indexFile is an index as it lies in the repository.
type indexFile struct {
	path    string // below the repository
	data    []byte
	version string // of the storage; "" when it is not there yet
	kept    bool   // it was in the store
	index   *apk.Index
}

// readIndexFile reads the index of an architecture as it is. The lock is held.
func (r *Repository) readIndexFile(ctx context.Context, arch apk.Arch) (*indexFile, error) {
	folder, err := archFolder(arch)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*indexFile, error) {
		return nil, fmt.Errorf("read index %s/%s: %w", r.location, folder+"/"+indexName, err)
	}
	if err := r.discoverKeys(ctx); err != nil {
		return fail(err)
	}
	if r.snapshot != "" {
		if folder, err = r.snapshotAt(ctx, arch); err != nil {
			return fail(err)
		}
	}
	var missing error
	for _, name := range indexNames {
		f, err := r.readIndexAt(ctx, arch, folder+"/"+name)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fail(err)
		}
		if missing == nil {
			missing = err
		}
	}
	return fail(missing)
}

// readIndexAt reads one index, unless the store has it as it is.
func (r *Repository) readIndexAt(ctx context.Context, arch apk.Arch, path string) (*indexFile, error) {
	f := &indexFile{path: path}
	known, kept := r.recall(arch, path)
	o, err := r.storage.Open(ctx, f.path, known)
	if _, unreachable := errors.AsType[*UnreachableError](err); unreachable && r.options.Offline {
		if kept == nil && r.remembers() && r.readNote(arch).Copy != "" {
			return nil, fs.ErrNotExist // it is the other one that the store has
		}
		if kept == nil {
			return nil, err
		}
		f.data, f.version, f.kept = kept, known, true
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if o.Unchanged {
		f.data, f.version, f.kept = kept, known, true
		return f, nil
	}
	f.version = o.Version
	f.data, err = readAtMost(o, maxIndexBytes)
	return f, err
}

// archFolder is the folder of an architecture: its name, which becomes part of paths,
// is one of those there are.
func archFolder(arch apk.Arch) (string, error) {
	if known, err := apk.ParseArch(string(arch)); err != nil || known != arch {
		return "", fmt.Errorf("unknown architecture %q", string(arch))
	}
	return string(arch), nil
}

// trusted are the keys that an index has to be signed by; nil where none is asked for.
func (r *Repository) trusted() apk.KeySet {
	switch {
	case r.options.AllowUntrusted:
		return nil
	case r.keys == nil:
		return keySets{}
	}
	return r.keys
}

// parseIndex parses an index after its signature was checked.
func (r *Repository) parseIndex(path string, data []byte) (*apk.Index, error) {
	return parseIndex(r.location+"/"+path, data, r.trusted())
}

// verifyIndex checks an index's signature, unless keys is nil.
func verifyIndex(name string, data []byte, keys apk.KeySet) error {
	if keys == nil {
		return nil
	}
	if _, err := apk.VerifyIndex(data, keys); err != nil {
		return &TrustError{name, err.Error()}
	}
	return nil
}

// parseIndex parses an index after its signature was checked, unless keys is nil.
func parseIndex(name string, data []byte, keys apk.KeySet) (*apk.Index, error) {
	if err := verifyIndex(name, data, keys); err != nil {
		return nil, err
	}
	index, err := apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", name, err)
	}
	return index, nil
}

// readAtMost reads to the end, which comes before limit bytes.
func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("longer than %d bytes", limit)
	}
	return data, err
}

// Identity is the checksum that the index gives the package. In version 2 it covers the
// control section, which holds the SHA-256 of the data; in version 3 all of it.
func (r *Repository) Identity(e *apk.Entry) string { return e.Identity() }

// Fetch puts a package into the store. It is checked before that: its size, its
// control section against the index's checksum, its data against the control
// section. What does not hold is a *TrustError.
func (r *Repository) Fetch(ctx context.Context, st *store.Store, e *apk.Entry) (store.Digest, error) {
	fetched := store.NewHash("fetched package")
	fetched.Line("name", e.FileName())
	fetched.Line("checksum", e.Identity())
	fetched.Line("size", e.FileSize)
	var known struct{ Digest store.Digest }
	if found, err := st.Recall(fetched.Sum(), &known); err != nil {
		return "", err
	} else if found && st.Has(known.Digest) {
		return known.Digest, nil
	}
	dir, release, err := st.TempDir("fetch")
	if err != nil {
		return "", err
	}
	defer release()
	f, err := os.Create(filepath.Join(dir, "package"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	r.mu.Lock()
	arch, listed := r.folders[e]
	r.mu.Unlock()
	if !listed {
		arch = e.Arch
	}
	if err := r.fetch(ctx, f, arch, e); err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	digest, _, err := st.Put(f)
	if err != nil {
		return "", err
	}
	return digest, st.Remember(fetched.Sum(), struct{ Digest store.Digest }{digest})
}

// fetch copies the file of a package that the index of arch lists, and checks it.
func (r *Repository) fetch(ctx context.Context, f *os.File, arch apk.Arch, e *apk.Entry) error {
	if err := checkFileName(e); err != nil {
		return err
	}
	folder, err := archFolder(arch)
	if err != nil {
		return err
	}
	file, err := r.packageFile(arch, e)
	if err != nil {
		return err
	}
	err = r.fetchFrom(ctx, f, folder+"/"+file, e)
	if err == nil || !isTrust(err) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A publisher that keeps snapshots keeps what it replaced, too: who read the index
	// before that still finds what it named.
	if again := r.fetchFrom(ctx, f, replacedPath(arch, e), e); again == nil {
		return nil
	}
	return err
}

// packageFile is the path of a package's file below the folder of an architecture.
func (r *Repository) packageFile(arch apk.Arch, e *apk.Entry) (string, error) {
	r.mu.Lock()
	index := apk.Index{Names: r.names[arch]}
	r.mu.Unlock()
	name, err := index.PackageFile(e)
	if err != nil {
		return "", &TrustError{r.location + "/" + string(arch), err.Error()}
	}
	return name, nil
}

// fetchFrom copies a file of the repository, and checks that it is the package e.
func (r *Repository) fetchFrom(ctx context.Context, f *os.File, name string, e *apk.Entry) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := r.download(ctx, f, name, e); err != nil {
		return err
	}
	return checkPackage(f, e)
}

func (r *Repository) download(ctx context.Context, to io.Writer, name string, e *apk.Entry) error {
	body, err := r.storage.Open(ctx, name, "")
	if err != nil {
		return err
	}
	defer body.Close()
	limit := int64(maxPackageBytes)
	if e.FileSize > 0 {
		limit = min(limit, e.FileSize)
	}
	n, err := io.Copy(to, io.LimitReader(body, limit+1))
	if err != nil {
		return err
	}
	if e.FileSize > 0 && n != e.FileSize {
		return &TrustError{e.FileName(), fmt.Sprintf("size does not match the index: expected %d bytes, found %s", e.FileSize, atLeast(n, limit))}
	}
	return nil
}

func atLeast(n, limit int64) string {
	if n > limit {
		return "more"
	}
	return fmt.Sprint(n)
}

// checkFileName makes sure that what an index calls a package is no path.
func checkFileName(e *apk.Entry) error {
	if name := e.FileName(); strings.ContainsAny(name, "/\\\x00") || strings.HasPrefix(name, ".") {
		return &TrustError{fmt.Sprintf("%q", name), "the index names a package that is no file name"}
	}
	return nil
}

// checkPackage compares a package with what the index says of it.
func checkPackage(f *os.File, e *apk.Entry) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return &TrustError{e.FileName(), err.Error()}
	}
	if err := p.Matches(e); err != nil {
		wrong, _ := errors.AsType[*apk.TrustError](err)
		return &TrustError{wrong.What, wrong.Why}
	}
	if err := p.VerifyData(); err != nil {
		return &TrustError{e.FileName(), err.Error()}
	}
	return nil
}

// FetchKey reads a public key from an http or https address, with a client of its own when
// client is nil. What the key vouches for is the affair of whoever named the address.
func FetchKey(ctx context.Context, client *web.Client, address string) ([]byte, error) {
	if client == nil {
		var err error
		if client, err = newClient(false); err != nil {
			return nil, err
		}
	}
	body, err := client.Get(ctx, address, web.Conditions{})
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", redact.Address(address), webError(ctx, err))
	}
	defer body.Close()
	data, err := readAtMost(body, maxKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", redact.Address(address), err)
	}
	return data, nil
}
