package sandboxtest

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// BenchmarkOpenClose opens and closes sandboxes over a number of layers. Besides
// time it reports the processor time of this process and its children.
func BenchmarkOpenClose(b *testing.B, backend sandbox.Backend, layers int) {
	spec := benchmarkSpec(b, newKit(b, backend), layers)
	measure(b, func() error {
		box, err := backend.Open(context.Background(), spec)
		if err != nil {
			return err
		}
		return box.Close()
	}, nil)
}

// BenchmarkRun runs a command that does nothing in one open sandbox.
func BenchmarkRun(b *testing.B, backend sandbox.Backend) {
	box, err := backend.Open(context.Background(), benchmarkSpec(b, newKit(b, backend), 1))
	if err != nil {
		b.Fatal(err)
	}
	// What the command used counts once the sandbox has been waited for.
	measure(b, func() error {
		return box.Run(context.Background(), sandbox.Command{Argv: []string{inside, "exit", "0"}})
	}, box.Close)
}

func benchmarkSpec(b *testing.B, k *kit, layers int) sandbox.Spec {
	spec := sandbox.Spec{Layers: []string{k.base(b)}, Work: folder(b)}
	for i := range layers - 1 {
		dir := folder(b)
		for j := range 10 {
			name := filepath.Join(dir, "usr/share", "package-"+strconv.Itoa(i), strconv.Itoa(j))
			mkdir(b, filepath.Dir(name))
			writeFile(b, name, "content")
		}
		spec.Layers = append(spec.Layers, dir)
	}
	return spec
}

func measure(b *testing.B, once, finish func() error) {
	before := processorTime(b)
	for b.Loop() {
		if err := once(); err != nil {
			b.Fatal(err)
		}
	}
	if finish != nil {
		if err := finish(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime(b)-before)/1e6/float64(b.N), "cpu-ms/op")
}

// processorTime is what this process and the children it waited for used, in
// nanoseconds.
func processorTime(b *testing.B) int64 {
	var sum int64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += u.Utime.Nano() + u.Stime.Nano()
	}
	return sum
}
