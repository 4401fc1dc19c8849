package images

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// LostError says that packages of a lock are to be had nowhere: the store does not have
// them, and no repository does any more.
type LostError struct {
	Lock     string
	Packages []LostPackage
}

// LostPackage is one of them.
type LostPackage struct {
	Name     string   // e.g. nginx
	Package  string   // e.g. nginx-1.26.3-r0
	Place    string   // in the lock
	AskedBy  []string // who needs it, as far as the packages that are there tell
	Attempts []string // where it was looked for, and what that gave
}

func (e *LostError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: the store does not have what it names, and no repository does:", e.Lock)
	for _, p := range e.Packages {
		fmt.Fprintf(&b, "\n  %s: %s", p.Place, p.Package)
		for _, by := range p.AskedBy {
			b.WriteString("\n    " + by)
		}
		for _, a := range p.Attempts {
			b.WriteString("\n    " + a)
		}
	}
	return b.String()
}

// packageFacts is what a package file says of itself, and where its sections are.
type packageFacts struct {
	Entry                                apk.Entry
	Unsigned                             string // SHA-256 of the file without signatures, in hexadecimal
	SignatureSize, ControlSize, DataSize int64
	SignatureSHA1, ControlSHA1           []byte
}

// factsOf reads a package in the store, once for each file.
func factsOf(st *store.Store, digest store.Digest) (*packageFacts, error) {
	h := store.NewHash("package facts")
	h.Line("version", 1)
	h.Line("package", string(digest))
	var f packageFacts
	if found, err := st.Recall(h.Sum(), &f); err != nil {
		return nil, err
	} else if found {
		return &f, nil
	}
	file, err := st.Open(digest)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	p, err := apk.ReadPackage(file, info.Size(), apk.Limits{})
	if err != nil {
		return nil, err
	}
	if err := p.VerifyData(); err != nil {
		return nil, err
	}
	f = packageFacts{Entry: *apk.EntryOf(p, info.Size()), SignatureSize: p.SignatureSize, ControlSize: p.ControlSize, DataSize: p.DataSize}
	if p.Format == apk.V3 {
		// What is signed is in the middle of the file: there is no file without signatures.
		return &f, st.Remember(h.Sum(), f)
	}
	signature, control, unsigned := sha1.New(), sha1.New(), sha256.New()
	for _, part := range []struct {
		to       io.Writer
		at, size int64
	}{{signature, 0, p.SignatureSize}, {io.MultiWriter(control, unsigned), p.SignatureSize, p.ControlSize}, {unsigned, p.SignatureSize + p.ControlSize, p.DataSize}} {
		if _, err := io.Copy(part.to, io.NewSectionReader(file, part.at, part.size)); err != nil {
			return nil, err
		}
	}
	f.SignatureSHA1, f.ControlSHA1, f.Unsigned = signature.Sum(nil), control.Sum(nil), hex.EncodeToString(unsigned.Sum(nil))
	return &f, st.Remember(h.Sum(), f)
}

// LockPackage describes a package of the store for a lock: for an architecture, where url
// says where the package file lies.
func LockPackage(st *store.Store, digest store.Digest, arch apk.Arch, url string) (LockedPackage, error) {
	f, err := factsOf(st, digest)
	if err != nil {
		return LockedPackage{}, fmt.Errorf("read %s: %w", url, err)
	}
	p := LockedPackage{
		Name: f.Entry.Name, URL: url, Version: string(f.Entry.Version), Architecture: string(arch),
		Checksum: f.Entry.Checksum.String(), SHA256: digest.Hex(), UnsignedSHA256: f.Unsigned,
	}
	if f.Unsigned == "" { // of version 3, which has no sections
		sum, err := hex.DecodeString(digest.Hex())
		if err != nil {
			return p, err
		}
		p.Data = LockedSection{Range: byteRange(0, f.Entry.FileSize), Checksum: sumText("sha256-", sum)}
		return p, nil
	}
	if f.SignatureSize > 0 {
		p.Signature = LockedSection{Range: byteRange(0, f.SignatureSize), Checksum: sumText("sha1-", f.SignatureSHA1)}
	}
	p.Control = LockedSection{Range: byteRange(f.SignatureSize, f.ControlSize), Checksum: sumText("sha1-", f.ControlSHA1)}
	data, err := hex.DecodeString(f.Entry.DataHash)
	p.Data = LockedSection{Range: byteRange(f.SignatureSize+f.ControlSize, f.DataSize), Checksum: sumText("sha256-", data)}
	return p, err
}

// fetches is how many packages are fetched at once.
const fetches = 4

// LockSource is a source of packages, and what a lock calls it.
type LockSource struct {
	repo.Source
	Location string // an address, or a path from the workspace's folder
}

// Fetch gives the packages of an architecture, in the order in which they are installed:
// from the store where it has them, by their digests, and else from the sources, which
// need not list them any more. Every byte is checked against the lock. Packages that are
// to be had nowhere are a *LostError, wrong ones a *repo.TrustError.
func (l *Lock) Fetch(ctx context.Context, st *store.Store, arch apk.Arch, sources []LockSource) ([]Package, error) {
	locked := l.Packages(arch)
	packages := make([]Package, len(locked))
	lost := make([]*LostPackage, len(locked))
	jobs, ctx := errgroup.WithContext(ctx)
	jobs.SetLimit(fetches)
	for i, p := range locked {
		jobs.Go(func() (err error) {
			if packages[i], lost[i], err = p.fetch(ctx, st, arch, sources); err != nil {
				return fmt.Errorf("%s: %w", p.Here, err)
			}
			return nil
		})
	}
	if err := jobs.Wait(); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(lost, func(p *LostPackage) bool { return p != nil }) {
		return packages, nil
	}
	e := &LostError{Lock: l.Path}
	for i, p := range lost {
		if p == nil {
			continue
		}
		for _, other := range packages {
			if other.Entry == nil {
				continue
			}
			for _, d := range other.Entry.Depends {
				if d.Name == locked[i].Name && !d.Conflict {
					p.AskedBy = append(p.AskedBy, other.Entry.FullName()+" needs "+d.String())
				}
			}
		}
		e.Packages = append(e.Packages, *p)
	}
	return nil, e
}

// repository is where the lock says that the package is from: policies ask for it, and the
// store does not know.
func (p *LockedPackage) repository() string {
	location := cleanLocation(p.URL)
	if end := strings.LastIndex(location, "/"+p.Architecture+"/"); end >= 0 {
		return location[:end]
	}
	return location
}

// fetch finds one package.
func (p *LockedPackage) fetch(ctx context.Context, st *store.Store, arch apk.Arch, sources []LockSource) (Package, *LostPackage, error) {
	for _, digest := range p.digests() {
		if !st.Has(digest) {
			continue
		}
		found, err := p.take(st, digest, p.repository())
		return found, nil, err
	}
	sum, err := p.sum()
	if err != nil {
		return Package{}, nil, err
	}
	wanted := &apk.Entry{Info: apk.Info{Name: p.Name, Version: apk.Version(p.Version), Arch: arch}, Checksum: sum}
	if p.UnsignedSHA256 == "" {
		wanted.FileSize = p.size() // another signature may be longer
	}
	lost := &LostPackage{Name: p.Name, Package: p.FullName(), Place: p.Here.String()}
	var wrong error
	for _, source := range p.nearest(sources) {
		digest, err := fetchFrom(ctx, st, source, arch, wanted)
		if ctx.Err() != nil {
			return Package{}, nil, context.Cause(ctx)
		}
		var found Package
		if err == nil {
			found, err = p.take(st, digest, source.Location)
		}
		if err == nil {
			return found, nil, nil
		}
		if e, untrusted := errors.AsType[*repo.TrustError](err); untrusted && wrong == nil {
			// Those who compared it took the lock's word for an index's.
			wrong = fmt.Errorf("%s has another file: %w", source.Location, &repo.TrustError{What: e.What, Why: strings.ReplaceAll(e.Why, "the index", "the lock")})
		} else if !is[*repo.TrustError](err) && !is[*repo.UnreachableError](err) && !errors.Is(err, fs.ErrNotExist) {
			return Package{}, nil, fmt.Errorf("fetch %s from %s: %w", p.FullName(), source.Name(), err)
		}
		why := err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			why = "not there"
		}
		lost.Attempts = append(lost.Attempts, source.Location+": "+why)
	}
	if wrong != nil {
		return Package{}, nil, wrong
	}
	if len(sources) == 0 {
		lost.Attempts = append(lost.Attempts, "there is no repository to ask")
	}
	return Package{}, lost, nil
}

func is[E error](err error) bool {
	_, found := errors.AsType[E](err)
	return found
}

// nearest puts first the source that the lock names.
func (p *LockedPackage) nearest(sources []LockSource) []LockSource {
	sorted := slices.Clone(sources)
	slices.SortStableFunc(sorted, func(a, b LockSource) int {
		far := func(s LockSource) int {
			if strings.HasPrefix(cleanLocation(p.URL), s.Location+"/") {
				return 0
			}
			return 1
		}
		return far(a) - far(b)
	})
	return sorted
}

// fetchFrom asks a source for a package by its name, whether its index lists it or not,
// and by the index where the file has another name.
func fetchFrom(ctx context.Context, st *store.Store, source LockSource, arch apk.Arch, wanted *apk.Entry) (store.Digest, error) {
	digest, err := source.Fetch(ctx, st, wanted)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return digest, err
	}
	known, indexErr := repo.Universe(ctx, source.Source, arch, solve.Package{})
	if indexErr != nil {
		return "", err
	}
	for _, p := range known.Providers(wanted.Name) {
		if p.Name == wanted.Name && p.Checksum == wanted.Checksum {
			return source.Fetch(ctx, st, p.Entry)
		}
	}
	return "", err
}

// take gives a package of the store that is the one that the lock names.
func (p *LockedPackage) take(st *store.Store, digest store.Digest, from string) (Package, error) {
	f, err := factsOf(st, digest)
	if err != nil {
		return Package{}, fmt.Errorf("read %s: %w", p.FullName(), err)
	}
	sum, err := p.sum()
	if err != nil {
		return Package{}, err
	}
	wrong := func(what string, want, got any) (Package, error) {
		return Package{}, &repo.TrustError{What: p.FullName(), Why: fmt.Sprintf("is not the package that the lock names: expected %s %v, found %v", what, want, got)}
	}
	switch {
	case f.Entry.Name != p.Name || string(f.Entry.Version) != p.Version:
		return wrong("package", p.FullName(), f.Entry.FullName())
	case f.Entry.Checksum != sum:
		return wrong("checksum", sum, f.Entry.Checksum)
	case p.SHA256 == digest.Hex(), p.UnsignedSHA256 != "" && p.UnsignedSHA256 == f.Unsigned:
	case p.UnsignedSHA256 != "":
		return wrong("SHA-256 without signatures", p.UnsignedSHA256, f.Unsigned)
	case p.SHA256 != "":
		return wrong("SHA-256", p.SHA256, digest.Hex())
	case f.Entry.DataHash != p.dataHash():
		return wrong("SHA-256 of its data", p.dataHash(), f.Entry.DataHash)
	case !bytes.Equal(f.ControlSHA1, sum[:]):
		return wrong("checksum", sum, hex.EncodeToString(f.ControlSHA1))
	}
	entry := f.Entry
	return Package{Entry: &entry, Digest: digest, From: from}, nil
}
