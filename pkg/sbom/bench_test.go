package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchImage is an image of 300 packages of 40 files, with or without documents of their own.
func benchImage(b *testing.B, documents bool) ImageDocument {
	b.Helper()
	d := ImageDocument{Name: "example.org/team/web", Digest: "sha256:" + hex.EncodeToString(make([]byte, 32)), Arch: "amd64", OS: OS{ID: "tarn", Name: "Tarn Linux", Version: "1"}}
	for i := range 300 {
		name := fmt.Sprintf("p%03d", i)
		p := ImagePackage{Component: Component{Name: name, Version: "1.0-r0", Arch: "x86_64", Summary: "what " + name + " is for", Homepage: "https://example.org/" + name, Licenses: []string{"MIT"}, Checksums: []Checksum{{"SHA1", hex.EncodeToString(make([]byte, 20))}}}}
		if i > 0 {
			p.Needs = []string{"p000"}
		}
		for j := range 40 {
			sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(j)})
			f := File{Path: fmt.Sprintf("usr/share/%s/file%02d", name, j), Kind: "file", SHA1: [20]byte(sum[:20]), SHA256: hex.EncodeToString(sum[:])}
			if j == 39 {
				f.Kind, f.Target, f.SHA256 = "symbolic link", "file00", ""
			}
			p.Files = append(p.Files, f)
		}
		if documents {
			own := p.Component
			own.Sources = []Source{{Name: name, Version: "1.0", URL: "https://example.org/" + name + ".tar.gz", Checksums: []Checksum{{"SHA256", hex.EncodeToString(make([]byte, 32))}}}}
			text, err := Package(PackageDocument{Package: own, Recipe: &Recipe{File: "recipes/core/" + name + ".yaml", Repository: "https://github.com/tarn-build/tarn", Commit: "0123456789012345678901234567890123456789"}})
			if err != nil {
				b.Fatal(err)
			}
			p.Document = ReadEmbedded(text)
		} else {
			p.Sources = []Source{{Name: name, Version: "1.0", Commit: "0123456789012345678901234567890123456789"}}
		}
		d.Packages = append(d.Packages, p)
	}
	return d
}

// BenchmarkImage writes the documents of an image of 12,000 files.
func BenchmarkImage(b *testing.B) {
	for _, c := range []struct {
		name      string
		documents bool
	}{{"bare", false}, {"documents", true}} {
		d := benchImage(b, c.documents)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			from := processorTime(b)
			for b.Loop() {
				for i := range d.Packages {
					d.Packages[i].HasSource()
				}
				spdx, err := Image(d)
				if err != nil {
					b.Fatal(err)
				}
				cyclone, err := ImageCycloneDX(d)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(spdx) + len(cyclone)))
			}
			b.ReportMetric((processorTime(b)-from).Seconds()*1e3/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorTime is what the process has used, its garbage collector's with it.
func processorTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
