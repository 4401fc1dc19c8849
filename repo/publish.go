package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
// index that names a package that is not there. What is there already with the same
// content and signature is left as it is. It gives the names of the files written.
//
// Publishers of one repository wait for each other.
func Publish(ctx context.Context, dir string, st *store.Store, key apk.Signer, verify apk.KeySet, packages []Unsigned) ([]string, error) {
	var written []string
	byArch := map[apk.Arch][]Unsigned{}
	for _, p := range packages {
		byArch[p.Entry.Arch] = append(byArch[p.Entry.Arch], p)
	}
	for arch, some := range byArch {
		names, err := publishArch(ctx, filepath.Join(dir, string(arch)), st, key, verify, some)
		written = append(written, names...)
		if err != nil {
			return written, fmt.Errorf("publish to %s: %w", dir, err)
		}
	}
	slices.Sort(written)
	return written, nil
}

func publishArch(ctx context.Context, dir string, st *store.Store, key apk.Signer, verify apk.KeySet, packages []Unsigned) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, ".lock"))
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, err
	}
	defer lock.Unlock()
	sweep(dir)
	index, err := indexToExtend(dir, verify)
	if err != nil {
		return nil, err
	}
	var written []string
	changed := index.Entries == nil
	for _, p := range packages {
		if err := ctx.Err(); err != nil {
			return written, err
		}
		if err := checkFileName(p.Entry); err != nil {
			return written, err
		}
		entry, isNew, err := placePackage(dir, st, key, verify, p)
		if err != nil {
			return written, err
		}
		if isNew {
			written = append(written, p.Entry.FileName())
		}
		changed = replaceEntry(index, entry) || changed
	}
	if !changed {
		return written, nil
	}
	return written, writeIndex(dir, index, key)
}

// sweep removes what publishers that were killed left behind. The lock is held.
func sweep(dir string) {
	leftovers, _ := filepath.Glob(filepath.Join(dir, temporaryPrefix+"*"))
	for _, name := range leftovers {
		_ = os.Remove(name)
	}
}

// indexToExtend reads the index in a folder; one that is not there is empty, and one
// that bears no trusted signature is begun anew from the packages there are.
func indexToExtend(dir string, verify apk.KeySet) (*apk.Index, error) {
	data, err := os.ReadFile(filepath.Join(dir, indexName))
	if errors.Is(err, fs.ErrNotExist) {
		return &apk.Index{}, nil
	}
	if err != nil {
		return nil, err
	}
	return readIndex(filepath.Join(dir, indexName), data, Options{Keys: verify})
}

// placePackage signs a package into the folder, unless the same is there already.
func placePackage(dir string, st *store.Store, key apk.Signer, verify apk.KeySet, p Unsigned) (*apk.Entry, bool, error) {
	target := filepath.Join(dir, p.Entry.FileName())
	if entry := samePackage(target, verify, p.Entry); entry != nil {
		return entry, false, nil
	}
	unsigned, err := st.Open(p.Digest)
	if err != nil {
		return nil, false, err
	}
	defer unsigned.Close()
	info, err := unsigned.Stat()
	if err != nil {
		return nil, false, err
	}
	size, err := replaceFile(target, func(f *os.File) error {
		return apk.SignPackage(f, unsigned, info.Size(), key, time.Unix(p.Entry.BuildDate, 0))
	})
	if err != nil {
		return nil, false, err
	}
	entry := *p.Entry
	entry.FileSize = size
	return &entry, true, nil
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

// replaceEntry puts an entry in the place of one of the same name and version. It
// tells whether the index is another one now.
func replaceEntry(index *apk.Index, e *apk.Entry) bool {
	for i, old := range index.Entries {
		if old.Name == e.Name && old.Version == e.Version {
			same := old.Checksum == e.Checksum && old.FileSize == e.FileSize
			index.Entries[i] = e
			return !same
		}
	}
	index.Entries = append(index.Entries, e)
	return true
}

func writeIndex(dir string, index *apk.Index, key apk.Signer) error {
	_, err := replaceFile(filepath.Join(dir, indexName), func(f *os.File) error { return apk.WriteIndex(f, index, key) })
	return err
}

// temporaryPrefix begins the names of files that are being written.
const temporaryPrefix = ".publish-"

// replaceFile writes a file beside its place, makes sure that it is on the disk,
// and renames it: a reader sees the old one or the new one. It gives its size.
func replaceFile(target string, write func(f *os.File) error) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(target), temporaryPrefix+"*")
	if err != nil {
		return 0, err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(0o644); err != nil {
		return 0, err
	}
	if err := write(f); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(f.Name(), target)
}

// IndexFiles makes an index of package files, signed by the keys.
func IndexFiles(ctx context.Context, files []string, keys ...apk.Signer) ([]byte, *apk.Index, error) {
	index := &apk.Index{}
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		entry, err := readEntry(name)
		if err != nil {
			return nil, nil, err
		}
		replaceEntry(index, entry)
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
// package its presence, size, checksum, data and signature.
func (r *Repository) Verify(ctx context.Context, arch apk.Arch) ([]Verified, error) {
	name := string(arch) + "/" + indexName
	data, err := r.readAll(ctx, name, maxIndexBytes)
	if err != nil {
		return nil, fmt.Errorf("read index %s/%s: %w", r.location, name, err)
	}
	key, err := apk.VerifyIndex(data, r.options.Keys)
	if err != nil {
		return []Verified{verified(name, "", &TrustError{r.location + "/" + name, err.Error()})}, nil
	}
	all := []Verified{verified(name, key, nil)}
	index, err := readIndex(r.location+"/"+name, data, r.options)
	if err != nil {
		return nil, err
	}
	for _, e := range index.Entries {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		key, err := r.verifyPackage(ctx, e)
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

func (r *Repository) verifyPackage(ctx context.Context, e *apk.Entry) (string, error) {
	f, err := os.CreateTemp("", "tarn-verify-")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return "", err
	}
	if err := r.download(ctx, f, e); err != nil {
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
