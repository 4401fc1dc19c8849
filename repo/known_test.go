package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// putIndex writes an index of n packages, each of which needs the one before it, one of
// all architectures, and one of another.
func putIndex(t testing.TB, dir string, n int, at time.Time, key *sign.Key) {
	t.Helper()
	x := &apk.Index{Time: at}
	add := func(name string, on apk.Arch, needs ...string) {
		e := entry(name, "1-r0", needs...)
		e.Arch, e.Checksum, e.FileSize = on, apk.Checksum{byte(len(x.Entries)), byte(len(x.Entries) >> 8), 1}, 500
		e.Description = fmt.Sprintf("the package %s of an index that is worth keeping, number %d", name, len(x.Entries))
		x.Entries = append(x.Entries, e)
	}
	add("p0", "noarch")
	for i := range n {
		add(fmt.Sprintf("p%d", i+1), arch, fmt.Sprintf("p%d", i))
		x.Entries[i+1].Checksum = apk.Checksum([]byte(fmt.Sprintf("%020x", i*7919*7919*7919)))
	}
	add("foreign", apk.ArchAArch64, "p0")
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, x, key); err != nil {
		t.Fatal(err)
	}
	if b.Len() < 64<<10 {
		t.Fatalf("an index of %d bytes is not kept", b.Len())
	}
	if err := repo.Folder(dir).Put(t.Context(), "x86_64/APKINDEX.tar.gz", &b, repo.Condition{}); err != nil {
		t.Fatal(err)
	}
}

// TestKnown resolves the same over a repository whose index is read, one that is made
// known to the store, and one that is known; and checks it all the same.
func TestKnown(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	putIndex(t, dir, 3000, day, keys()[0])
	world := []solve.Requirement{{Dependency: apk.Dependency{Name: "p20"}}}
	resolve := func(key *sign.Key, cached bool) (string, error) {
		t.Helper()
		o := repo.Options{Keys: ring(t, key)}
		if cached {
			st, err := store.Open(cache) // each time anew, as another run of the command does
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			o.Store = st
		}
		r, err := repo.Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		lock, err := repo.Set{r}.Resolve(t.Context(), arch, world, solve.Options{})
		return fmt.Sprint(lock.Names()), err
	}
	want, err := resolve(keys()[0], false)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := resolve(keys()[0], true); got != want || err != nil {
			t.Fatalf("got %s, %v, want %s", got, err, want)
		}
	}
	if _, err := resolve(keys()[1], true); !isTrust(err) {
		t.Errorf("what is known was taken without a key that signed it: %v", err)
	}

	// Every kept byte but the head is another one now: what is damaged is read again.
	blobs, err := filepath.Glob(filepath.Join(cache, "blobs", "*", "*", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("no blobs: %v", err)
	}
	damaged := 0
	for _, blob := range blobs {
		data, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) < 64<<10 {
			continue // the digests of its pieces
		}
		for i := 4096; i < len(data); i++ {
			data[i] ^= 1
		}
		if err := errors.Join(os.Chmod(blob, 0o644), os.WriteFile(blob, data, 0o644)); err != nil {
			t.Fatal(err)
		}
		damaged++
	}
	if damaged != 1 {
		t.Fatalf("%d blobs to damage", damaged)
	}
	for range 2 {
		if got, err := resolve(keys()[0], true); got != want || err != nil {
			t.Fatalf("damaged: got %s, %v, want %s", got, err, want)
		}
	}

	// An older index is refused, although it may be known.
	putIndex(t, dir, 2999, day.Add(time.Hour), keys()[0])
	if _, err := resolve(keys()[0], true); err != nil {
		t.Fatal(err)
	}
	putIndex(t, dir, 3000, day, keys()[0])
	for range 2 {
		if _, err := resolve(keys()[0], true); !isTrust(err) {
			t.Errorf("going back: %v", err)
		}
	}
}

// TestKnownArch gives the packages that suit an architecture, and finds where their files
// lie: that of noarch beside the index that names it.
func TestKnownArch(t *testing.T) {
	dir, st := t.TempDir(), openStore(t)
	putIndex(t, dir, 3000, time.Time{}, keys()[0])
	r, err := repo.Open(dir, repo.Options{Keys: ring(t, keys()[0]), Store: st})
	if err != nil {
		t.Fatal(err)
	}
	u, err := repo.Universe(t.Context(), repo.Tagged{Source: r, Tag: "edge"}, arch, solve.Package{Rank: 3, Tag: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	if _, is := u.(*solve.Lazy); !is {
		t.Fatalf("it is read whole: %T", u)
	}
	if p := u.Providers("p2"); len(p) != 1 || p[0].Arch != arch || p[0].Tag != "edge" || p[0].Rank != 3 {
		t.Errorf("p2: %v", p)
	}
	if p := u.Providers("foreign"); len(p) != 0 {
		t.Errorf("foreign: %v", p)
	}
	p := u.Providers("p0")
	if len(p) != 1 {
		t.Fatalf("p0: %v", p)
	}
	_, err = r.Fetch(t.Context(), st, p[0].Entry)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("x86_64/p0-1-r0.apk")) {
		t.Errorf("p0 is asked for elsewhere: %v", err)
	}
}
