package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// Unsigned is a package to publish: an entry and where its bytes lie.
type Unsigned struct {
	Entry  *apk.Entry
	Digest store.Digest
}

// Publish signs packages and puts them into the repository in a folder, then
// changes the index of their architecture in one rename: a reader never sees an
// index that names a package that is not there, or half an index. All is signed and on
// the disk before the first file changes its place. What is there already with the same
// content and a signature that verify knows is left as it is. It gives the names of
// the files written.
//
// A package that takes the place of another one of its name and version does so
// before the index does. Who reads the old index in between finds a package that does
// not match it and is told so, as a *TrustError; asked again, it gets the new one.
//
// What verify does not vouch for is not carried on: an index without a signature of
// its keys, be it damaged or that of a key that was thrown away, is made anew of the
// packages in the folder that bear one and are as they were signed. The others stay
// where they are, unlisted.
//
// Publishers of one repository wait for each other.
func Publish(ctx context.Context, dir string, st *store.Store, key apk.Signer, verify apk.KeySet, packages []Unsigned) ([]string, error) {
	var written []string
	byArch := map[apk.Arch][]Unsigned{}
	for _, p := range packages {
		byArch[p.Entry.Arch] = append(byArch[p.Entry.Arch], p)
	}
	for _, arch := range slices.Sorted(maps.Keys(byArch)) {
		folder, err := archFolder(arch)
		if err != nil {
			return written, fmt.Errorf("publish to %s: %w", dir, err)
		}
		p := publisher{dir: filepath.Join(dir, folder), store: st, key: key, verify: verify}
		names, err := p.publish(ctx, byArch[arch])
		written = append(written, names...)
		if err != nil {
			return written, fmt.Errorf("publish to %s: %w", dir, err)
		}
	}
	slices.Sort(written)
	return written, nil
}

// publisher publishes to the folder of one architecture.
type publisher struct {
	dir    string
	store  *store.Store
	key    apk.Signer
	verify apk.KeySet
}

// lockName is the file by which publishers wait for each other.
const lockName = ".lock"

// staged is a signed package that is not at its place yet.
type staged struct{ from, name string }

func (p publisher) publish(ctx context.Context, packages []Unsigned) (written []string, err error) {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(p.dir, lockName))
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, err
	}
	defer lock.Unlock()
	defer p.sweep()
	p.sweep()
	index, changed, err := p.indexToExtend(ctx)
	if err != nil {
		return nil, err
	}
	listed := newListing(index)
	var ready []staged
	for _, one := range packages {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		entry, from, err := p.sign(one)
		if err != nil {
			return nil, err
		}
		if from != "" {
			ready = append(ready, staged{from, entry.FileName()})
		}
		changed = listed.put(entry) || changed
	}
	if !changed && len(ready) == 0 {
		return nil, nil
	}
	// From here on it is renaming, and it is not stopped.
	newIndex, _, err := p.stage(func(f *os.File) error { return apk.WriteIndex(f, index, p.key) })
	if err != nil {
		return nil, err
	}
	for _, s := range ready {
		if err := os.Rename(s.from, filepath.Join(p.dir, s.name)); err != nil {
			return written, err
		}
		written = append(written, s.name)
	}
	if err := syncFolder(p.dir); err != nil {
		return written, err
	}
	if err := os.Rename(newIndex, filepath.Join(p.dir, indexName)); err != nil {
		return written, err
	}
	return written, syncFolder(p.dir)
}

// sweep removes what this publisher did not need, and what publishers that were
// killed left behind. The lock is held.
func (p publisher) sweep() {
	leftovers, _ := filepath.Glob(filepath.Join(p.dir, temporaryPrefix+"*"))
	for _, name := range leftovers {
		_ = os.Remove(name)
	}
}

// indexToExtend reads the index that is there. made says that there is none that can
// be trusted: then it lists what the packages vouch for themselves.
func (p publisher) indexToExtend(ctx context.Context) (index *apk.Index, made bool, err error) {
	name := filepath.Join(p.dir, indexName)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &apk.Index{}, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	index, err = readIndex(name, data, Options{Keys: p.verify})
	if !isTrust(err) {
		return index, false, err
	}
	index, err = p.indexOfPackages(ctx)
	return index, true, err
}

func isTrust(err error) bool {
	_, is := errors.AsType[*TrustError](err)
	return is
}

// indexOfPackages lists the packages in the folder that bear a trusted signature.
func (p publisher) indexOfPackages(ctx context.Context) (*apk.Index, error) {
	names, err := filepath.Glob(filepath.Join(p.dir, "*.apk"))
	if err != nil {
		return nil, err
	}
	index := &apk.Index{}
	listed := newListing(index)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		entry, err := p.signedEntry(name)
		if err != nil {
			return nil, err
		}
		if entry != nil && entry.FileName() == filepath.Base(name) {
			listed.put(entry)
		}
	}
	return index, nil
}

// signedEntry gives the entry of a package file that is what a trusted key signed, else nil.
func (p publisher) signedEntry(name string) (*apk.Entry, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := VerifyFile(f, name, p.verify); isTrust(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	pkg, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return nil, err
	}
	return apk.EntryOf(pkg, info.Size()), nil
}

// sign signs a package and gives where it lies, or "" when the same is at its place.
func (p publisher) sign(one Unsigned) (*apk.Entry, string, error) {
	if err := checkFileName(one.Entry); err != nil {
		return nil, "", err
	}
	if entry := samePackage(filepath.Join(p.dir, one.Entry.FileName()), p.verify, one.Entry); entry != nil {
		return entry, "", nil
	}
	unsigned, err := p.store.Open(one.Digest)
	if err != nil {
		return nil, "", err
	}
	defer unsigned.Close()
	info, err := unsigned.Stat()
	if err != nil {
		return nil, "", err
	}
	from, size, err := p.stage(func(f *os.File) error {
		return apk.SignPackage(f, unsigned, info.Size(), p.key, time.Unix(one.Entry.BuildDate, 0))
	})
	if err != nil {
		return nil, "", err
	}
	entry := *one.Entry
	entry.FileSize = size
	return &entry, from, nil
}

// samePackage gives the entry of a package that is there with the same content and
// a signature that verifies, else nil.
func samePackage(target string, verify apk.KeySet, e *apk.Entry) *apk.Entry {
	f, err := os.Open(target)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil || p.Checksum != e.Checksum || p.VerifyData() != nil {
		return nil
	}
	if _, err := p.VerifySignature(verify); err != nil {
		return nil
	}
	same := *e
	same.FileSize = info.Size()
	return &same
}

// listing puts entries into an index, each name and version once.
type listing struct {
	index *apk.Index
	at    map[string]int // by file name
}

func newListing(index *apk.Index) *listing {
	l := &listing{index, make(map[string]int, len(index.Entries))}
	for i, e := range index.Entries {
		l.at[e.FileName()] = i
	}
	return l
}

// put lists an entry in the place of one of the same name and version. It tells
// whether the index is another one now.
func (l *listing) put(e *apk.Entry) bool {
	i, found := l.at[e.FileName()]
	if !found {
		l.at[e.FileName()] = len(l.index.Entries)
		l.index.Entries = append(l.index.Entries, e)
		return true
	}
	old := l.index.Entries[i]
	l.index.Entries[i] = e
	return old.Checksum != e.Checksum || old.FileSize != e.FileSize
}

// temporaryPrefix begins the names of files that are being written.
const temporaryPrefix = ".publish-"

// stage writes a file that is not at its place yet, and makes sure that it is on the
// disk. It gives its name and size.
func (p publisher) stage(write func(f *os.File) error) (name string, size int64, err error) {
	f, err := os.CreateTemp(p.dir, temporaryPrefix+"*")
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	if err := f.Chmod(0o644); err != nil {
		return "", 0, err
	}
	if err := write(f); err != nil {
		return "", 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	if err := f.Sync(); err != nil {
		return "", 0, err
	}
	return f.Name(), info.Size(), f.Close()
}

// syncFolder makes sure that renames in a folder are on the disk.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// IndexFiles makes an index of package files, signed by the keys.
func IndexFiles(ctx context.Context, files []string, keys ...apk.Signer) ([]byte, *apk.Index, error) {
	index := &apk.Index{}
	listed := newListing(index)
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		entry, err := readEntry(name)
		if err != nil {
			return nil, nil, err
		}
		listed.put(entry)
	}
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, index, keys...); err != nil {
		return nil, nil, err
	}
	return b.Bytes(), index, nil
}

func readEntry(name string) (*apk.Entry, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err == nil {
		err = p.VerifyData()
	}
	if err != nil {
		return nil, fmt.Errorf("read package %s: %w", name, err)
	}
	return apk.EntryOf(p, info.Size()), nil
}

// Verified is one thing that Verify looked at.
type Verified struct {
	Name string `json:"name"` // a file of the repository
	Key  string `json:"key"`  // whose signature it bears; "" when it does not hold
	Err  error  `json:"-"`
	Why  string `json:"error,omitempty"`
}

// Verify checks a repository as a whole: the index's signature, and of every
// package its presence, size, checksum, data and signature. What does not hold is a
// *TrustError of one Verified; the error is that something could not be looked at.
func (r *Repository) Verify(ctx context.Context, arch apk.Arch) ([]Verified, error) {
	name, data, err := r.readIndexFile(ctx, arch)
	if err != nil {
		return nil, err
	}
	key, err := apk.VerifyIndex(data, r.options.Keys)
	if err != nil {
		return []Verified{verified(name, "", &TrustError{r.location + "/" + name, err.Error()})}, nil
	}
	all := []Verified{verified(name, key, nil)}
	index, err := readIndex(r.location+"/"+name, data, r.options)
	if err != nil {
		return append(all[:0], verified(name, "", err)), nil
	}
	for _, e := range index.Entries {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		key, err := r.verifyPackage(ctx, arch, e)
		if err != nil && !isTrust(err) {
			// It could not be looked at, which says nothing about it.
			return all, fmt.Errorf("verify %s: %w", e.FileName(), err)
		}
		all = append(all, verified(string(arch)+"/"+e.FileName(), key, err))
	}
	return all, nil
}

func verified(name, key string, err error) Verified {
	v := Verified{Name: name, Key: key, Err: err}
	if err != nil {
		v.Why = err.Error()
	}
	return v
}

func (r *Repository) verifyPackage(ctx context.Context, arch apk.Arch, e *apk.Entry) (string, error) {
	f, err := os.CreateTemp("", "tarn-verify-")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return "", err
	}
	if err := r.download(ctx, f, arch, e); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = &TrustError{e.FileName(), "the index names it and it is not there"}
		}
		return "", err
	}
	if err := checkPackage(f, e); err != nil {
		return "", err
	}
	return VerifyFile(f, e.FileName(), r.options.Keys)
}

// VerifyFile checks a package's data and signature. What does not hold is a *TrustError.
func VerifyFile(f *os.File, name string, keys apk.KeySet) (key string, err error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err == nil {
		err = p.VerifyData()
	}
	if err == nil {
		key, err = p.VerifySignature(keys)
	}
	if err != nil {
		return "", &TrustError{strings.TrimSpace(name), err.Error()}
	}
	return key, nil
}
