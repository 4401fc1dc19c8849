package main

import (
	"crypto/sha256"
	"fmt"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// knownIndex is an index that the store keeps in a form in which names are looked up
// without reading it: it is read whole once for each content.
type knownIndex struct {
	*apk.Packed
	pieces *store.PieceReader
}

// smallIndex is the size below which reading an index is as fast as asking the store.
const smallIndex = 64 << 10

// knownIndex gives what the store knows of an index, after telling it where it knew
// nothing. It is nil where the index has to be read: it is small, there is no store to
// write to, or it is not what it should be, which reading it will tell.
func (a *app) knownIndex(data []byte) *knownIndex {
	if len(data) < smallIndex || len(data) > 1<<30 {
		return nil
	}
	ws, err := a.workspace()
	if err != nil {
		ws = defaultWorkspace(".")
	}
	st, err := a.store(ws)
	if err != nil {
		return nil
	}
	h := store.NewHash("index, to look up names in, form 1")
	h.Line("sha256", fmt.Sprintf("%x", sha256.Sum256(data)))
	var pieces store.Pieces
	if found, err := st.Recall(h.Sum(), &pieces); err == nil && found {
		if known := openKnown(st, pieces); known != nil {
			return known
		}
	}
	text := string(data)
	if isPackedIndex(data) {
		if text, err = apk.IndexText(data, apk.Limits{}); err != nil {
			return nil
		}
	}
	packed, err := apk.Pack(text)
	if err != nil {
		return nil
	}
	if pieces, err = st.PutPieces(packed); err != nil {
		return nil
	}
	if err := st.Remember(h.Sum(), pieces); err != nil {
		return nil
	}
	return openKnown(st, pieces)
}

func openKnown(st *store.Store, pieces store.Pieces) *knownIndex {
	r, err := st.OpenPieces(pieces)
	if err != nil {
		return nil
	}
	packed, err := apk.OpenPacked(r, pieces.Size)
	if err != nil {
		r.Close()
		return nil
	}
	return &knownIndex{packed, r}
}
