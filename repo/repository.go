package repo

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
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// indexName is the name of the index in the folder of an architecture.
const indexName = "APKINDEX.tar.gz"

// Limits on what a repository may send.
const (
	maxIndexBytes   = 64 << 20 // compressed
	maxPackageBytes = 8 << 30
)

// storage is where the files of a repository lie, for reading.
type storage interface {
	// open opens a file by its path below the repository; one that is not there is fs.ErrNotExist.
	open(ctx context.Context, name string) (io.ReadCloser, error)
}

// Options say how a repository is read.
type Options struct {
	// Keys are whom the reader trusts.
	Keys apk.KeySet
	// AllowUntrusted reads an index without asking for a signature.
	AllowUntrusted bool
	// Offline refuses repositories that need the network.
	Offline bool
	// Client is used for http and https; a client with sane time limits when nil.
	Client *http.Client
}

// Repository is packages and a signed index, per architecture. It is a Source.
type Repository struct {
	location string
	storage  storage
	options  Options

	mu      sync.Mutex
	indexes map[apk.Arch]*apk.Index
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

// unreachable takes the address out of an error of the client: who asked has said it.
func unreachable(err error) error {
	if failed, is := errors.AsType[*url.Error](err); is {
		err = failed.Err
	}
	return &UnreachableError{err}
}

// Open gives the repository at a location: a folder, or an http or https address.
// Nothing is read yet.
func Open(location string, o Options) (*Repository, error) {
	r := &Repository{location: location, options: o, indexes: map[apk.Arch]*apk.Index{}, folders: map[*apk.Entry]apk.Arch{}}
	u, err := url.Parse(location)
	if err == nil && u.User != nil {
		r.location = u.Redacted() // it may hold a password, and messages show it
	}
	switch {
	case err == nil && (u.Scheme == "http" || u.Scheme == "https"):
		if o.Offline {
			return nil, fmt.Errorf("open repository %s: %w", r.location, &UnreachableError{errors.New("the network is off (--offline)")})
		}
		if u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("open repository %s: an address has a host and neither ? nor #", r.location)
		}
		r.storage = webStorage{strings.TrimRight(location, "/"), clientOr(o.Client)}
	case err == nil && u.Scheme != "" && strings.Contains(location, "://"):
		return nil, fmt.Errorf("open repository %s: a location is a folder or an http or https address", r.location)
	default:
		r.storage = folderStorage(location)
	}
	return r, nil
}

// clientOr is a client, else one with a time limit that goes from https to https alone.
func clientOr(client *http.Client) *http.Client {
	if client != nil {
		return client
	}
	return &http.Client{Timeout: 30 * time.Minute, CheckRedirect: checkRedirect}
}

func checkRedirect(request *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return errors.New("more than 10 redirects")
	case request.URL.Scheme != "http" && request.URL.Scheme != "https":
		return fmt.Errorf("redirect to the scheme %q", request.URL.Scheme)
	case via[len(via)-1].URL.Scheme == "https" && request.URL.Scheme != "https":
		return errors.New("redirect from https to http")
	}
	return nil
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

// Index gives the verified index of an architecture, read once. One that is not
// there is fs.ErrNotExist.
func (r *Repository) Index(ctx context.Context, arch apk.Arch) (*apk.Index, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index := r.indexes[arch]; index != nil {
		return index, nil
	}
	name, data, err := r.readIndexFile(ctx, arch)
	if err != nil {
		return nil, err
	}
	index, err := readIndex(r.location+"/"+name, data, r.options)
	if err != nil {
		return nil, err
	}
	r.indexes[arch] = index
	for _, e := range index.Entries {
		r.folders[e] = arch
	}
	return index, nil
}

// readIndexFile reads the index of an architecture as it is, and gives its path below
// the repository.
func (r *Repository) readIndexFile(ctx context.Context, arch apk.Arch) (name string, data []byte, err error) {
	folder, err := archFolder(arch)
	if err != nil {
		return "", nil, err
	}
	name = folder + "/" + indexName
	data, err = r.readAll(ctx, name, maxIndexBytes)
	if err != nil {
		return "", nil, fmt.Errorf("read index %s/%s: %w", r.location, name, err)
	}
	return name, data, nil
}

// archFolder is the folder of an architecture: its name, which becomes part of paths,
// is one of those there are.
func archFolder(arch apk.Arch) (string, error) {
	if known, err := apk.ParseArch(string(arch)); err != nil || known != arch {
		return "", fmt.Errorf("unknown architecture %q", string(arch))
	}
	return string(arch), nil
}

// readIndex parses an index after its signature was checked.
func readIndex(name string, data []byte, o Options) (*apk.Index, error) {
	if !o.AllowUntrusted {
		if _, err := apk.VerifyIndex(data, o.Keys); err != nil {
			return nil, &TrustError{name, err.Error()}
		}
	}
	index, err := apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", name, err)
	}
	return index, nil
}

func (r *Repository) readAll(ctx context.Context, name string, limit int64) ([]byte, error) {
	f, err := r.storage.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("longer than %d bytes", limit)
	}
	return data, err
}

// Identity is the checksum that the index gives the package. It covers the control
// section, which holds the SHA-256 of the data.
func (r *Repository) Identity(e *apk.Entry) string { return e.Checksum.String() }

// Fetch puts a package into the store. It is checked before that: its size, its
// control section against the index's checksum, its data against the control
// section. What does not hold is a *TrustError.
func (r *Repository) Fetch(ctx context.Context, st *store.Store, e *apk.Entry) (store.Digest, error) {
	fetched := store.NewHash("fetched package")
	fetched.Line("name", e.FileName())
	fetched.Line("checksum", e.Checksum.String())
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
	if err := r.download(ctx, f, arch, e); err != nil {
		return "", err
	}
	if err := checkPackage(f, e); err != nil {
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

// download copies the file of a package that the index of arch lists.
func (r *Repository) download(ctx context.Context, to io.Writer, arch apk.Arch, e *apk.Entry) error {
	if err := checkFileName(e); err != nil {
		return err
	}
	folder, err := archFolder(arch)
	if err != nil {
		return err
	}
	body, err := r.storage.open(ctx, folder+"/"+e.FileName())
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
	switch {
	case p.Checksum != e.Checksum:
		return &TrustError{e.FileName(), fmt.Sprintf("checksum does not match the index: expected %s, found %s", e.Checksum, p.Checksum)}
	case p.Info.Name != e.Name || p.Info.Version != e.Version:
		return &TrustError{e.FileName(), fmt.Sprintf("the package calls itself %s", p.Info.FullName())}
	}
	if err := p.VerifyData(); err != nil {
		return &TrustError{e.FileName(), err.Error()}
	}
	return nil
}

// folderStorage is a repository in a folder.
type folderStorage string

func (s folderStorage) open(_ context.Context, name string) (io.ReadCloser, error) {
	root, err := os.OpenRoot(string(s))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Open(name)
}

// webStorage is a repository behind http or https.
type webStorage struct {
	base   string
	client *http.Client
}

func (s webStorage) open(ctx context.Context, name string) (io.ReadCloser, error) {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/"+strings.Join(parts, "/"), nil)
	if err != nil {
		return nil, err
	}
	// Some servers say that a .tar.gz is a tar that they compressed: it would arrive expanded.
	request.Header.Set("Accept-Encoding", "identity")
	response, err := s.client.Do(request)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, unreachable(err)
	}
	switch response.StatusCode {
	case http.StatusOK:
		return response.Body, nil
	case http.StatusNotFound, http.StatusGone:
		response.Body.Close()
		return nil, fs.ErrNotExist
	}
	response.Body.Close()
	return nil, &UnreachableError{errors.New(response.Status)}
}

// maxKeyBytes is how long a public key may be.
const maxKeyBytes = 64 << 10

// FetchKey reads a public key from an http or https address; a client with a time
// limit is used when client is nil. What the key vouches for is the affair of whoever
// named the address.
func FetchKey(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %v", address, err)
	}
	response, err := clientOr(client).Do(request)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", address, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read key %s: %s", address, response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxKeyBytes+1))
	if err == nil && len(data) > maxKeyBytes {
		err = fmt.Errorf("longer than %d bytes", maxKeyBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", address, err)
	}
	return data, nil
}
