package main

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/repo"
)

// largeIndex is an index of the size of a large distribution: shared libraries and
// commands provided, libraries needed.
func largeIndex(t testing.TB, entries int) []byte {
	t.Helper()
	x := &apk.Index{}
	for i := range entries {
		name := fmt.Sprintf("package%06d", i)
		version := apk.Version(fmt.Sprintf("%d.%d.%d-r%d", i%7, i%13, i%5, i%4))
		e := &apk.Entry{Info: apk.Info{
			Name: name, Version: version, Arch: apk.ArchX86_64, Origin: name, Description: "the package " + name, URL: "https://example.org/" + name,
			Maintainer: "Somebody <somebody@example.org>", Licenses: []string{"MIT"}, Commit: fmt.Sprintf("%040x", i*7919), Size: int64(1000 + i), BuildDate: int64(1700000000 + i),
			Provides: []apk.Dependency{
				{Name: fmt.Sprintf("so:lib%d.so.1", i), Op: apk.Equal, Version: "1"},
				{Name: "cmd:" + name, Op: apk.Equal, Version: version},
				{Name: "pc:" + name, Op: apk.Equal, Version: version},
			},
		}, Checksum: sha1.Sum([]byte(name)), FileSize: int64(500 + i)}
		for j := 1; j < i && j <= 5; j++ {
			e.Depends = append(e.Depends, apk.Dependency{Name: fmt.Sprintf("so:lib%d.so.1", (i*j*31)%(i/300+1))})
		}
		x.Entries = append(x.Entries, e)
	}
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, x); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// testApp is the command with a store of its own.
func testApp(t testing.TB, cache string) *app {
	a := &app{streams: streams{out: io.Discard, err: io.Discard}, noWorkspace: true, cacheDir: cache}
	t.Cleanup(func() {
		for _, st := range a.stores {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return a
}

// TestKnownIndex solves the same over an index that is read, one that is made known, and
// one that is known, and reads it where what is known is damaged.
func TestKnownIndex(t *testing.T) {
	data := largeIndex(t, 3000)
	cache := t.TempDir()
	world := []solve.Requirement{{Dependency: apk.Dependency{Name: "package002999"}}, {Dependency: apk.Dependency{Name: "cmd:package001234"}}}
	solved := func(u solve.Universe) string {
		t.Helper()
		solution, err := solve.Solve(u, world, solve.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(solution)
	}
	index, err := apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var read asked
	read.add(index.Entries, solve.Package{})
	want := solved(read)
	for range 2 {
		known := testApp(t, cache).knownIndex(data)
		if known == nil || known.Len() != 3000 {
			t.Fatalf("known: %v", known)
		}
		if got := solved(solve.NewLazy(known, solve.Package{})); got != want || known.Err() != nil {
			t.Fatalf("got %s, %v, want %s", got, known.Err(), want)
		}
	}
	if known := testApp(t, cache).knownIndex(data[:1000]); known != nil {
		t.Error("a small index went to the store")
	}
	if known := testApp(t, cache).knownIndex(bytes.Repeat([]byte("no index"), 1<<14)); known != nil {
		t.Error("what is no index went to the store")
	}
	// A damaged blob is found, moved aside, and made anew.
	blobs, err := filepath.Glob(filepath.Join(cache, "blobs", "*", "*", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("no blobs: %v", err)
	}
	for _, blob := range blobs {
		if err := os.Chmod(blob, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(blob, bytes.Repeat([]byte{'x'}, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	known := testApp(t, cache).knownIndex(data)
	if known == nil {
		t.Fatal("a damaged store: nothing known, and not made anew")
	}
	if got := solved(solve.NewLazy(known, solve.Package{})); got != want || known.Err() != nil {
		t.Errorf("after damage: %s, %v", got, known.Err())
	}
}

// cpuSeconds are those that this process used so far, of all threads and of the kernel.
func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// BenchmarkIndex opens an index of 100,000 entries: read whole, made known to the store,
// and known; and solves a world of 100 packages over it from there. Then the same of a
// signed repository that the store knows. The same for a
// repository with that index, whose signature is checked each time.
func BenchmarkIndex(b *testing.B) {
	data := largeIndex(b, 100_000)
	var world []solve.Requirement
	for i := 999; i < 100_000; i += 1000 {
		world = append(world, solve.Requirement{Dependency: apk.Dependency{Name: "package" + fmt.Sprintf("%06s", strconv.Itoa(i))}})
	}
	bench := func(name string, do func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			before := cpuSeconds(b)
			for b.Loop() {
				do(b)
			}
			b.ReportMetric((cpuSeconds(b)-before)/float64(b.N), "cpu-s/op")
		})
	}
	bench("read", func(b *testing.B) {
		if _, err := apk.ReadIndex(bytes.NewReader(data), apk.Limits{}); err != nil {
			b.Fatal(err)
		}
	})
	bench("made-known", func(b *testing.B) {
		if testApp(b, b.TempDir()).knownIndex(data) == nil {
			b.Fatal("not known")
		}
	})
	cache := b.TempDir()
	if testApp(b, cache).knownIndex(data) == nil {
		b.Fatal("not known")
	}
	bench("known", func(b *testing.B) {
		if testApp(b, cache).knownIndex(data) == nil {
			b.Fatal("not known")
		}
	})
	bench("known-and-solved", func(b *testing.B) {
		known := testApp(b, cache).knownIndex(data)
		solution, err := solve.Solve(solve.NewLazy(known, solve.Package{}), world, solve.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(solution)), "packages")
	})
	dir, keys := signedRepository(b, data)
	resolve := func(b *testing.B, world []solve.Requirement) {
		a := testApp(b, cache)
		st, err := a.store(defaultWorkspace("."))
		if err != nil {
			b.Fatal(err)
		}
		r, err := repo.Open(dir, repo.Options{Keys: keys, Store: st})
		if err != nil {
			b.Fatal(err)
		}
		lock, err := repo.Set{r}.Resolve(b.Context(), apk.ArchX86_64, world, solve.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(lock)), "packages")
	}
	resolve(b, world)
	bench("repository-known", func(b *testing.B) { resolve(b, nil) })
	bench("repository-known-and-solved", func(b *testing.B) { resolve(b, world) })
}

// signedRepository is a folder with an index, signed, and the key to trust.
func signedRepository(b *testing.B, data []byte) (dir string, keys apk.KeySet) {
	b.Helper()
	index, err := apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	key, err := sign.Generate("bench.rsa", 2048)
	if err != nil {
		b.Fatal(err)
	}
	var signed bytes.Buffer
	if err := apk.WriteIndex(&signed, index, key); err != nil {
		b.Fatal(err)
	}
	dir = b.TempDir()
	if err := repo.Folder(dir).Put(b.Context(), "x86_64/APKINDEX.tar.gz", &signed, repo.Condition{}); err != nil {
		b.Fatal(err)
	}
	ring := &sign.Keyring{}
	if err := ring.Add(key.Public()); err != nil {
		b.Fatal(err)
	}
	return dir, ring
}
