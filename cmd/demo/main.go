// Command demo shows that the composed nginx image works: it starts nginx out of the
// image's layers in a sandbox that has nothing but loopback, fetches a page over
// TLS, and prints what the build and the images came to. make demo runs it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
)

func main() {
	namespace.Init()
	var err error
	if len(os.Args) > 1 && os.Args[1] == insideVerb {
		err = inside(os.Args[2:])
	} else {
		err = demo()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo() error {
	image := flag.String("image", ".out/images/nginx", "the image, an OCI layout")
	built := flag.String("built", "", "what tarn build --json printed")
	tested := flag.String("tested", "", "what tarn test --json printed")
	composed := flag.String("composed", "", "what tarn image build --json printed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	start := time.Now()
	served, err := serve(ctx, *image)
	if err != nil {
		return err
	}
	served.took = time.Since(start)
	return summary(os.Stdout, *built, *tested, *composed, served)
}

// fetched is what the client inside the sandbox saw.
type fetched struct {
	Status  string `json:"status"`
	Server  string `json:"server"`
	TLS     string `json:"tls"`
	Issuer  string `json:"issuer"`
	Bundle  int    `json:"bundle"`  // certificates in the image's own CA bundle
	Bytes   int    `json:"bytes"`   // of the page
	Refused string `json:"refused"` // what the client said that trusts another CA
	took    time.Duration
}

// serve starts the image's program in a sandbox of the image's layers, and fetches from it.
func serve(ctx context.Context, imageDir string) (*fetched, error) {
	dir, err := os.MkdirTemp("", "tarn-demo-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// The program in the image runs as another user than the one who made the folder.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	index, err := layout.ImageIndexFromPath(imageDir)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %v", imageDir, err)
	}
	root := filepath.Join(dir, "root")
	config, err := unpack(index, root)
	if err != nil {
		return nil, fmt.Errorf("unpack image %s: %v", imageDir, err)
	}
	work := filepath.Join(dir, "work")
	if err := writeServer(work); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	uid, err := numericUser(config.User)
	if err != nil {
		return nil, err
	}
	box, err := namespace.Backend{}.Open(ctx, sandbox.Spec{
		Layers: []string{root}, Work: work, UID: uid, GID: uid,
		Binds: []sandbox.Bind{{Source: self, Path: "/demo"}},
	})
	if err != nil {
		return nil, err
	}
	defer box.Close()
	var out, complaints strings.Builder
	command := sandbox.Command{
		Argv: append([]string{"/demo", insideVerb}, config.Entrypoint...), Env: config.Env,
		Stdout: &out, Stderr: &complaints, Timeout: time.Minute,
	}
	if err := box.Run(ctx, command); err != nil {
		return nil, fmt.Errorf("%v\n%s", err, strings.TrimSpace(complaints.String()))
	}
	var f fetched
	if err := json.Unmarshal([]byte(out.String()), &f); err != nil {
		return nil, fmt.Errorf("read what the client saw: %v", err)
	}
	return &f, box.Close()
}
