package store_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/store"
)

// scanned is a value of the size and shape of what the composer remembers of a package.
type scanned struct {
	Name    string
	Entries []scannedEntry
}

type scannedEntry struct {
	Path string `json:"p"`
	Type string `json:"t"`
	Mode uint32 `json:"m"`
	Size int64  `json:"s,omitempty"`
	Sum  string `json:"c,omitempty"`
}

// sample is about 15 kB of JSON.
func sample() scanned {
	v := scanned{Name: "sample-1.0-r0"}
	for i := range 100 {
		v.Entries = append(v.Entries, scannedEntry{
			Path: fmt.Sprintf("usr/share/sample/folder/file-%d.txt", i), Type: "f", Mode: 0o644, Size: int64(i) * 1000,
			Sum: store.DigestOf([]byte{byte(i)}).Hex(),
		})
	}
	return v
}

// cpuTime reports what the process spends from here on, which a busy machine and a slow
// disk change little.
func cpuTime(b *testing.B) {
	b.ReportAllocs()
	spent := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := spent()
	b.Cleanup(func() { b.ReportMetric(float64((spent()-before).Nanoseconds())/float64(b.N), "cpu-ns/op") })
}

func BenchmarkRecall(b *testing.B) {
	s := open(b, tempDir(b))
	id := actionOf("bench", 0)
	if err := s.Remember(id, sample()); err != nil {
		b.Fatal(err)
	}
	cpuTime(b)
	for b.Loop() {
		var v scanned
		if found, err := s.Recall(id, &v); !found || err != nil {
			b.Fatal(found, err)
		}
	}
}

// BenchmarkRecallLayer recalls what the composer remembers of a layer: a blob's digest.
func BenchmarkRecallLayer(b *testing.B) {
	s := open(b, tempDir(b))
	id := actionOf("bench", 0)
	d := put(b, s, "layer")
	if err := s.Remember(id, map[string]store.Digest{"Blob": d}); err != nil {
		b.Fatal(err)
	}
	cpuTime(b)
	for b.Loop() {
		v := map[string]store.Digest{}
		if found, err := s.Recall(id, &v); !found || err != nil {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkHas(b *testing.B) {
	s := open(b, tempDir(b))
	d := put(b, s, "blob")
	cpuTime(b)
	for b.Loop() {
		if !s.Has(d) {
			b.Fatal("it is gone")
		}
	}
}

func BenchmarkRemember(b *testing.B) {
	s := open(b, tempDir(b))
	v := sample()
	cpuTime(b)
	for i := 0; b.Loop(); i++ {
		if err := s.Remember(actionOf("bench", i), v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRememberUnsynced(b *testing.B) {
	s := open(b, tempDir(b))
	v := sample()
	cpuTime(b)
	for i := 0; b.Loop(); i++ {
		if err := s.RememberUnsynced(actionOf("bench", i), v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutMegabyte(b *testing.B) {
	s := open(b, tempDir(b))
	data := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{1})
	if _, err := io.ReadFull(r, data); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	cpuTime(b)
	for i := 0; b.Loop(); i++ {
		copy(data, fmt.Sprint(i))
		if _, _, err := s.Put(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenSmall(b *testing.B) {
	s := open(b, tempDir(b))
	d := put(b, s, string(make([]byte, 4096)))
	cpuTime(b)
	for b.Loop() {
		f, err := s.Open(d)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
