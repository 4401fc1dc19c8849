package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
)

func TestMain(m *testing.M) {
	namespace.Init()
	testscript.Main(m, map[string]func(){
		"tarn": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			code := run(ctx, streams{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:])
			stop()
			os.Exit(code)
		},
	})
}

// TestScripts runs the command as users use it. A script may ask for [seed], what
// the scripts of a machine without the seed's packages can't do.
func TestScripts(t *testing.T) {
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "..", "..")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_GOLDEN") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
			env.Setenv("REPOSITORY", root)
			return nil
		},
	})
}
