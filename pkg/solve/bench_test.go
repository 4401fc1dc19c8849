package solve

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
)

// generated makes a universe of the shape of a large distribution: 20,000 names
// in five versions each, shared libraries, commands, ranges and conflicts; newer
// versions lean on newer libraries, and some of them cannot be installed.
func generated(entries int) ([]*Package, []Requirement) {
	r := rand.New(rand.NewPCG(1, 2))
	names := entries / 5
	name := func(i int) string { return fmt.Sprintf("package%d", i) }
	packages := make([]*Package, 0, entries)
	for i := range names {
		for version := 1; version <= 5; version++ {
			p := &Package{Entry: &apk.Entry{Info: apk.Info{
				Name: name(i), Version: apk.Version(fmt.Sprintf("%d.%d-r0", version, i%7)), Origin: name(i), Arch: apk.ArchX86_64,
			}}}
			p.Provides = []apk.Dependency{
				{Name: fmt.Sprintf("so:lib%d.so.%d", i, (version+1)/2), Op: apk.Equal, Version: apk.Version(fmt.Sprint(version))},
				{Name: fmt.Sprintf("cmd:%d", i), Op: apk.Equal, Version: p.Version},
			}
			for range r.IntN(8) {
				if i == 0 {
					break
				}
				// Most dependencies go to few packages, as everywhere.
				to := int(float64(i) * r.Float64() * r.Float64() * r.Float64())
				d := apk.Dependency{Name: fmt.Sprintf("so:lib%d.so.%d", to, (version+1)/2)}
				switch r.IntN(12) {
				case 0:
					d.Name = name(to)
				case 1:
					d = apk.Dependency{Name: name(to), Op: apk.GreaterEqual, Version: apk.Version(fmt.Sprint(version - 1))}
				case 2:
					d = apk.Dependency{Name: name(to), Op: apk.Less, Version: apk.Version(fmt.Sprint(version + 2))}
				case 3:
					d = apk.Dependency{Name: fmt.Sprintf("cmd:%d", to)}
				}
				p.Depends = append(p.Depends, d)
			}
			if r.IntN(400) == 0 {
				p.Depends = append(p.Depends, apk.Dependency{Name: "so:gone.so.1"})
			}
			if r.IntN(50) == 0 {
				p.InstallIf = []apk.Dependency{{Name: name(r.IntN(names))}, {Name: name(r.IntN(names))}}
			}
			packages = append(packages, p)
		}
	}
	world := make([]Requirement, 100)
	for i := range world {
		world[i].Name = name(r.IntN(names))
	}
	return packages, world
}

// reportCPU makes a benchmark tell the processor seconds of an operation, of all threads
// and of the kernel for them: what a busy machine does not change. It is called before
// the loop, and what it gives after it.
func reportCPU(b *testing.B) func() {
	used := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	}
	before := used()
	return func() { b.ReportMetric((used()-before)/float64(b.N), "cpu-s/op") }
}

// BenchmarkSolve solves a world of 100 packages over 100,000.
func BenchmarkSolve(b *testing.B) {
	packages, world := generated(100_000)
	u := NewUniverse(packages)
	var solution []*Package
	done := reportCPU(b)
	for b.Loop() {
		var err error
		if solution, err = Solve(u, world, Options{}); err != nil {
			b.Fatal(err)
		}
	}
	done()
	b.ReportMetric(float64(len(solution)), "packages")
}

func BenchmarkNewUniverse(b *testing.B) {
	packages, _ := generated(100_000)
	done := reportCPU(b)
	for b.Loop() {
		NewUniverse(packages)
	}
	done()
}

// BenchmarkConflict explains why a chain of 10,000 packages has no end.
func BenchmarkConflict(b *testing.B) {
	u := longChain(10_000)
	done := reportCPU(b)
	for b.Loop() {
		if _, err := Solve(u, []Requirement{{Dependency: apk.Dependency{Name: "p0"}}}, Options{}); err == nil {
			b.Fatal("a solution")
		}
	}
	done()
}
