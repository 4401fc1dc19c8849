// Command tarn turns source into packages, packages into a signed repository, and
// a repository into images.
//
// Each verb stands in a file of its own: flags, then a run function that wires the
// stages and decides nothing.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
	"github.com/tarn-build/tarn/pkg/sandbox/service"
)

func main() {
	namespace.Init() // does not return in the process that becomes a sandbox's first one
	service.Init()   // likewise in the process that asks a service inside a sandbox
	// What is built must not depend on the caller's mask: folders of sources and of
	// environments are what recipes copy and look at. Secrets are made for their owner alone
	// wherever they are written, whatever the mask is.
	syscall.Umask(0o022)
	// A command lives for a moment, and most of what it makes is still there at its end: to
	// collect half as often costs some 20 MB and saves a tenth of composing an image again.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for anything
	code := run(ctx, streams{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

// streams are what the command reads and writes: results to out, all else to err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}
