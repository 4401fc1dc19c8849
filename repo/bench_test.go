package repo_test

import (
	"fmt"
	"testing"

	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/repo"
)

// BenchmarkPublishOne adds one package to a repository of 50,000, in a folder.
func BenchmarkPublishOne(b *testing.B) {
	dir, st := b.TempDir(), openStore(b)
	manyPackages(b, repo.Folder(dir), 50_000)
	p := publisher(b, repo.Folder(dir), st)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		i++
		one := unsigned(b, st, "one", fmt.Sprintf("%d-r0", i), "usr/one", "one")
		b.StartTimer()
		mustPublish(b, p, one)
	}
}

// BenchmarkOpen reads the index of 50,000 packages: the first time, and when it was read
// before and did not change.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	manyPackages(b, repo.Folder(dir), 50_000)
	b.ReportAllocs()
	for b.Loop() {
		r, err := repo.Open(dir, repo.Options{Keys: ring(b, keys()[0])})
		if err != nil {
			b.Fatal(err)
		}
		if entries, err := r.Packages(b.Context(), arch); err != nil || len(entries) != 50_000 {
			b.Fatal(len(entries), err)
		}
	}
}

// BenchmarkVerify verifies a repository of 500 packages of 20 files of 4 KiB each.
func BenchmarkVerify(b *testing.B) {
	dir, st := b.TempDir(), openStore(b)
	p := publisher(b, repo.Folder(dir), st)
	var all []repo.Unsigned
	for i := range 500 {
		var pairs []string
		for j := range 20 {
			text := make([]byte, 4<<10)
			for k := range text {
				text[k] = byte(i*31 + j*7 + k*k>>3)
			}
			pairs = append(pairs, fmt.Sprintf("usr/share/p%d/f%d", i, j), string(text))
		}
		data := apktest.Package(b, fmt.Sprintf("p%d", i), "1-r0", pairs...)
		all = append(all, putPackage(b, st, data))
	}
	mustPublish(b, p, all...)
	b.ReportAllocs()
	for b.Loop() {
		report, err := open(b, dir, keys()[0]).Verify(b.Context(), arch, repo.VerifyOptions{})
		if err != nil || len(report.Verified) != 501 {
			b.Fatal(err)
		}
	}
}
