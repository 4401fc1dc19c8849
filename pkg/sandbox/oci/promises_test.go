package oci

import (
	"os"
	"testing"

	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
	"github.com/tarn-build/tarn/pkg/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	namespace.Init()
	code := m.Run()
	sandboxtest.CleanUp()
	os.Exit(code)
}

func TestPromisesCrun(t *testing.T) { sandboxtest.Run(t, Backend{Runtime: "crun"}) }

func TestPromisesRunc(t *testing.T) { sandboxtest.Run(t, Backend{Runtime: "runc"}) }

// The controls of the ways out are package namespace's: there is no switch in a runtime.
func TestEscapesCrun(t *testing.T) { sandboxtest.RunEscapes(t, Backend{Runtime: "crun"}, nil) }

func TestEscapesRunc(t *testing.T) { sandboxtest.RunEscapes(t, Backend{Runtime: "runc"}, nil) }
