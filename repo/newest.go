package repo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// note is what is remembered of a repository's index between runs.
type note struct {
	Location string       `json:"location"`
	Arch     apk.Arch     `json:"arch"`
	Newest   time.Time    `json:"newest"`  // when the newest that was seen was made
	Path     string       `json:"path"`    // of the index, below the repository
	Version  string       `json:"version"` // of the storage, of the copy
	Copy     store.Digest `json:"copy"`    // in the store, as long as that has it
}

// notes is the folder of the store that notes lie in. They are no cache: what is lost is
// the knowledge that a newer index was seen, so nothing there is removed to make room.
const notes = "indexes"

func (r *Repository) notePath(arch apk.Arch) string {
	sum := sha256.Sum256([]byte(r.id + "\n" + string(arch)))
	return filepath.Join(r.options.Store.Dir(), notes, hex.EncodeToString(sum[:16])+".json")
}

// remembers tells whether there is anything to be remembered in.
func (r *Repository) remembers() bool { return r.options.Store != nil && r.snapshot == "" }

func (r *Repository) isWeb() bool {
	_, is := r.storage.(webStorage)
	return is
}

// readNote gives what is remembered; what cannot be read is not.
func (r *Repository) readNote(arch apk.Arch) note {
	var n note
	data, err := os.ReadFile(r.notePath(arch))
	if err != nil || json.Unmarshal(data, &n) != nil {
		return note{} // a first visit
	}
	return n
}

// recall gives the version and the bytes of the index that the store has a copy of.
func (r *Repository) recall(arch apk.Arch, path string) (version string, data []byte) {
	if !r.remembers() || !r.isWeb() {
		return "", nil
	}
	n := r.readNote(arch)
	if n.Copy == "" || n.Path != path || !r.options.Store.Has(n.Copy) {
		return "", nil
	}
	f, err := r.options.Store.Open(n.Copy)
	if err != nil {
		return "", nil
	}
	defer f.Close()
	if data, err = io.ReadAll(f); err != nil {
		return "", nil
	}
	return n.Version, data
}

// unsaidSlack is how far the newest build date of an index may fall behind: it does when
// the newest packages are withdrawn.
const unsaidSlack = 24 * time.Hour

// made is when an index was made. Where it does not say so itself, as melange's does not,
// it is when the newest of its packages was built, which is never later.
func made(x *apk.Index) (at time.Time, said bool) {
	newest := int64(0)
	for _, e := range x.Entries {
		newest = max(newest, e.BuildDate)
	}
	return madeAt(x.Time, newest)
}

func madeAt(stamp time.Time, newest int64) (at time.Time, said bool) {
	switch {
	case !stamp.IsZero():
		return stamp, true
	case newest == 0:
		return time.Time{}, false
	}
	return time.Unix(newest, 0).UTC(), false
}

// checkNewest refuses an index that is too old, or older than one that was seen before,
// and remembers the newest. The index was verified; at and said are what made gives.
func (r *Repository) checkNewest(arch apk.Arch, file *indexFile, at time.Time, said bool) error {
	name := r.location + "/" + file.path
	if r.snapshot != "" {
		return nil // an old one is what was asked for
	}
	if most := r.options.MaxAge; most > 0 {
		if at.IsZero() {
			return &TrustError{name, "it does not tell how old it is, and --max-age asks"}
		}
		if age := time.Since(at); age > most {
			return &TrustError{name, fmt.Sprintf("it is %s old (of %s), and may be %s", age.Round(time.Second), at.Format(time.RFC3339), most)}
		}
	}
	if !r.remembers() {
		return nil
	}
	path := r.notePath(arch)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(filepath.Dir(path), lockName))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer lock.Unlock()
	before := r.readNote(arch)
	now := note{Location: r.id, Arch: arch, Newest: at, Path: file.path, Version: file.version, Copy: before.Copy}
	slack := time.Duration(0)
	if !said {
		slack = unsaidSlack
	}
	// The dates of packages are those that their builder was told; only an index that
	// comes from elsewhere is judged by them.
	if judged := said || r.isWeb() && !at.IsZero(); judged && at.Add(slack).Before(before.Newest) && !r.options.AllowRollback {
		return &TrustError{name, fmt.Sprintf("it is of %s, and one of %s was seen before\n  hint: --allow-rollback, if the repository was really set back",
			at.Format(time.RFC3339), before.Newest.Format(time.RFC3339))}
	} else if !judged || !r.options.AllowRollback && before.Newest.After(at) {
		now.Newest = before.Newest
	}
	if r.isWeb() && !file.kept {
		digest, _, err := r.options.Store.Put(bytes.NewReader(file.data))
		if err != nil {
			return err
		}
		now.Copy = digest
	}
	if now == before {
		return nil
	}
	data, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, append(data, '\n'), 0o644)
}
