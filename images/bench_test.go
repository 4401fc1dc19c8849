package images_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
)

// benchPackages makes 300 packages of 2 MB, 40 files each, that compress about as
// programs do: to two fifths.
func benchPackages(b *testing.B) []contents {
	r := rand.NewChaCha8([32]byte{1})
	all := make([]contents, 300)
	for i := range all {
		c := contents{name: fmt.Sprintf("p%03d", i), version: "1.0-r0"}
		for j := range 40 {
			raw := make([]byte, 16<<10)
			if _, err := r.Read(raw); err != nil {
				b.Fatal(err)
			}
			text := base64.StdEncoding.EncodeToString(raw)
			c.files = append(c.files, fmt.Sprintf("0644 usr/share/%s/file%02d %s", c.name, j, text+strings.Repeat(text[:8<<10], 4)))
		}
		all[i] = c
	}
	return all
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Composing an image of 300 packages of 600 MB: with an empty store but for the
// packages, again with nothing changed, with another entrypoint, and with one package changed.
func BenchmarkCompose(b *testing.B) {
	all := benchPackages(b)
	const file = "contents: {packages: [p000]}\n"
	var started time.Duration
	measure := func(b *testing.B) func() {
		started = cpu()
		return func() { b.ReportMetric((cpu()-started).Seconds()/float64(b.N), "cpu-s/op") }
	}
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			st := openStore(b)
			packages := put(b, st, all...)
			b.StartTimer()
			before := cpu()
			image, err := compose(b, st, file, packages)
			if err != nil {
				b.Fatal(err)
			}
			if err := image.WriteLayout(b.Context(), filepath.Join(b.TempDir(), "image")); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric((cpu() - before).Seconds(), "cpu-s/op")
		}
	})
	st := openStore(b)
	packages := put(b, st, all...)
	if _, err := compose(b, st, file, packages); err != nil {
		b.Fatal(err)
	}
	b.Run("unchanged", func(b *testing.B) {
		defer measure(b)()
		for b.Loop() {
			if _, err := compose(b, st, file, packages); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("another-entrypoint", func(b *testing.B) {
		defer measure(b)()
		for i := 0; b.Loop(); i++ {
			if _, err := compose(b, st, fmt.Sprintf("%scmd: run %d %d\n", file, i, b.N), packages); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one-package-changed", func(b *testing.B) {
		changed := all[7]
		defer measure(b)()
		for i := 0; b.Loop(); i++ {
			changed.date = int64(1700000000 + i*1000 + b.N)
			packages[7] = put(b, st, changed)[0]
			if _, err := images.Compose(b.Context(), load(b, file), packages, images.Options{Arch: apk.ArchX86_64, Store: st}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Reading the lock of an image of 300 packages, and finding that it fits.
func BenchmarkReadLock(b *testing.B) {
	st := openStore(b)
	var packages []images.Package
	lock := &images.Lock{Version: "v1", Config: &images.LockConfig{World: []string{"p000"}}}
	for i := range 300 {
		c := contents{name: fmt.Sprintf("p%03d", i), version: "1.0-r0", files: []string{fmt.Sprintf("0644 usr/share/p%03d x", i)}}
		for j := 1; j < 8; j++ {
			c.lines = append(c.lines, fmt.Sprintf("depend = p%03d", (i+j)%300))
		}
		packages = append(packages, put(b, st, c)...)
		locked, err := images.LockPackage(st, packages[i].Digest, apk.ArchX86_64, "r/x86_64/"+packages[i].Entry.FileName())
		if err != nil {
			b.Fatal(err)
		}
		lock.Contents.Packages = append(lock.Contents.Packages, locked)
	}
	data, err := json.Marshal(lock)
	if err != nil {
		b.Fatal(err)
	}
	s := load(b, "contents: {packages: [p000]}\n")
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		l, err := images.ReadLock("web.lock.json", data)
		if err != nil {
			b.Fatal(err)
		}
		if diffs := l.Satisfies(s.World, packages); len(diffs) > 0 {
			b.Fatal(diffs)
		}
		if _, err := l.Fetch(b.Context(), st, apk.ArchX86_64, nil); err != nil {
			b.Fatal(err)
		}
	}
}
