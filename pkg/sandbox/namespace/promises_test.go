package namespace

import (
	"os"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	Init()
	code := m.Run()
	sandboxtest.CleanUp()
	os.Exit(code)
}

func TestPromises(t *testing.T) { sandboxtest.Run(t, Backend{}) }

// TestPromisesOlderKernel mounts the overlay as kernels before 6.5 have it.
func TestPromisesOlderKernel(t *testing.T) { sandboxtest.Run(t, Backend{mount2: true}) }

// TestPromisesSupervised keeps limits as machines do that let nobody make a control group.
func TestPromisesSupervised(t *testing.T) { sandboxtest.RunLimits(t, Backend{supervise: true}) }

// TestEscapes tries the known ways out, and each once more without what stands in it.
func TestEscapes(t *testing.T) {
	sandboxtest.RunEscapes(t, Backend{}, func(off []string) sandbox.Backend { return Backend{off: off} })
}

// TestReadme holds that the table of ways out is that of the tests.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sandboxtest.WayNames() {
		if !strings.Contains(string(text), "\n| "+name+" | ") {
			t.Errorf("README.md has no line for %q", name)
		}
	}
}

func BenchmarkOpenClose(b *testing.B) {
	b.Run("layers=1", func(b *testing.B) { sandboxtest.BenchmarkOpenClose(b, Backend{}, 1) })
	b.Run("layers=100", func(b *testing.B) { sandboxtest.BenchmarkOpenClose(b, Backend{}, 100) })
	b.Run("layers=100/mount", func(b *testing.B) { sandboxtest.BenchmarkOpenClose(b, Backend{mount2: true}, 100) })
}

func BenchmarkRun(b *testing.B) { sandboxtest.BenchmarkRun(b, Backend{}) }
