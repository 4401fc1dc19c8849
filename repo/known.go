package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
)

// Known is an index that the store keeps in a form in which names are looked up without
// reading it: it is read whole once for each content. Where that form is damaged the index
// is read again. It is safe for use by several goroutines at once.
type Known struct {
	*apk.Packed
	pieces *store.PieceReader
	about  aboutIndex
}

// aboutIndex is what the store remembers of an index.
type aboutIndex struct {
	Pieces store.Pieces
	Time   time.Time // see apk.Index
}

// smallIndex is the size below which reading an index is as fast as asking the store.
const smallIndex = 64 << 10

// OpenKnown gives what the store knows of an index, an APKINDEX.tar.gz or its bare text,
// after telling it where it knew nothing. It is nil where the index has to be read: it is
// small, of version 3, the store can't be written to, or the index is not what it should
// be, which reading it will tell. Nothing is trusted: who wants a signature checks it first.
func OpenKnown(st *store.Store, data []byte) *Known {
	if len(data) < smallIndex || len(data) > 1<<30 {
		return nil
	}
	h := store.NewHash("index, to look up names in, form 2")
	h.Line("sha256", fmt.Sprintf("%x", sha256.Sum256(data)))
	var about aboutIndex
	if found, err := st.Recall(h.Sum(), &about); err == nil && found {
		if known := openKnown(st, about, data); known != nil {
			return known
		}
	}
	text, at, err := indexText(data)
	if err != nil {
		return nil
	}
	packed, err := apk.Pack(text)
	if err != nil {
		return nil
	}
	about.Time = at
	if about.Pieces, err = st.PutPieces(packed); err != nil {
		return nil
	}
	if err := st.Remember(h.Sum(), about); err != nil {
		return nil
	}
	return openKnown(st, about, data)
}

// indexText gives the text of an index.
func indexText(data []byte) (text string, at time.Time, err error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return apk.IndexText(data, apk.Limits{})
	}
	return string(data), at, nil
}

func openKnown(st *store.Store, about aboutIndex, data []byte) *Known {
	pieces, err := st.OpenPieces(about.Pieces)
	if err != nil {
		return nil
	}
	packed, err := apk.OpenPacked(pieces, about.Pieces.Size, func() (string, error) {
		text, _, err := indexText(data)
		return text, err
	})
	if err != nil {
		pieces.Close()
		return nil
	}
	return &Known{packed, pieces, about}
}

// Close ends the looking up. What was looked up stays.
func (k *Known) Close() error { return k.pieces.Close() }

// made is when the index was made, as the function made says of one that was read.
func (k *Known) made() (at time.Time, said bool) { return madeAt(k.about.Time, k.Newest()) }

// forArch is what an index says of the packages that suit an architecture. It tells the
// repository of what it gives, as that has to find its file.
type forArch struct {
	*Known
	repository *Repository
	arch       apk.Arch
}

func (f forArch) Providers(name string) []*apk.Entry { return f.suiting(f.Known.Providers(name)) }
func (f forArch) InstallIf(name string) []*apk.Entry { return f.suiting(f.Known.InstallIf(name)) }

func (f forArch) suiting(entries []*apk.Entry) []*apk.Entry {
	entries = slices.DeleteFunc(entries, func(e *apk.Entry) bool { return !suits(e.Arch, f.arch) })
	f.repository.mu.Lock()
	defer f.repository.mu.Unlock()
	for _, e := range entries {
		f.repository.folders[e] = f.arch
	}
	return entries
}

// known gives what the store knows of the index of an architecture, after its signature
// and its age were checked as Index does it; nil where it has to be read.
func (r *Repository) known(ctx context.Context, arch apk.Arch) (solve.Entries, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.knowns[arch]; known != nil {
		return forArch{known, r, arch}, nil
	}
	if r.indexes[arch] != nil || r.options.Store == nil {
		return nil, nil
	}
	file, err := r.readIndexFile(ctx, arch)
	if err != nil {
		return nil, err
	}
	if err := verifyIndex(r.location+"/"+file.path, file.data, r.trusted()); err != nil {
		return nil, err
	}
	known := OpenKnown(r.options.Store, file.data)
	if known == nil {
		return nil, r.takeIndex(arch, file)
	}
	at, said := known.made()
	if err := r.checkNewest(arch, file, at, said); err != nil {
		known.Close()
		return nil, err
	}
	r.knowns[arch] = known
	return forArch{known, r, arch}, nil
}

// Universe is the packages of a source to solve over, each like that: with its Rank,
// Order, Tag and From. Of a repository whose index the store knows only what is asked for
// is read.
func Universe(ctx context.Context, s Source, arch apk.Arch, like solve.Package) (solve.Universe, error) {
	if t, tagged := s.(Tagged); tagged {
		s = t.Source
	}
	if r, is := s.(*Repository); is {
		if known, err := r.known(ctx, arch); err != nil || known != nil {
			return solve.NewLazy(known, like), err
		}
	}
	entries, err := s.Packages(ctx, arch)
	if err != nil {
		return nil, err
	}
	list := make([]solve.Package, len(entries))
	packages := make([]*solve.Package, len(entries))
	for i, e := range entries {
		list[i] = like
		list[i].Entry = e
		packages[i] = &list[i]
	}
	return solve.NewUniverse(packages), nil
}
