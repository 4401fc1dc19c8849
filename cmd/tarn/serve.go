package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/repo"
)

type serveOptions struct {
	address string
	quiet   bool
}

func (a *app) serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve [FOLDER]",
		Short: "serve a repository over HTTP, for development",
		Long: `serve answers HTTP requests for a repository (the workspace's own when no folder is
named) until Ctrl-C: its indexes and packages, public keys beside them, and its snapshots
as repositories below snapshots/TIME. It prints its address first, on a line of its own.

It is for development: it speaks no TLS and knows no passwords.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runServe(cmd.Context(), o, args) },
	}
	cmd.Flags().StringVar(&o.address, "listen", "127.0.0.1:8080", "the address to listen on; port 0 is a free one")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "tell of no requests")
	return cmd
}

func (a *app) runServe(ctx context.Context, o serveOptions, args []string) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	dir := ws.path(ws.Packages)
	if len(args) == 1 {
		dir = args[0]
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usagef("there is no folder %q to serve", relative(dir))
	}
	listener, err := net.Listen("tcp", o.address)
	if err != nil {
		return usagef("--listen: %v", err)
	}
	address := "http://" + listener.Addr().String()
	if a.json {
		if err := a.printJSON(map[string]string{"url": address, "folder": dir}); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.out, address)
	}
	fmt.Fprintf(a.err, "serving %s; try: apk --keys-dir %s --repository %s update\nstop with Ctrl-C\n", relative(dir), keysFolder(ws), address)
	var log io.Writer
	if !o.quiet {
		log = a.err
	}
	if err := repo.Serve(ctx, listener, repo.Handler(dir), log); err != nil {
		return err
	}
	fmt.Fprintln(a.err, "stopped")
	return nil
}

// keysFolder is where the public keys of the workspace's own repository are.
func keysFolder(ws *workspace) string { return filepath.Dir(ws.signingKey()) }
