package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/seed"
	"github.com/tarn-build/tarn/pkg/apk"
)

type seedOptions struct {
	update bool
	output string
}

func (a *app) seedCommand() *cobra.Command {
	var o seedOptions
	cmd := &cobra.Command{
		Use:   "seed",
		Short: "fetch the binary packages that the first compiler comes from",
		Long: `seed fetches the packages of the seed's lock from the archive that this machine's
apt is set to, checks the archive's signature and every package's SHA-256, and makes
one package of them, seed-toolchain. A build does the same when it needs the seed.

--update writes a new lock of what the archive has now.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runSeed(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.update, "update", false, "write a new lock")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "the lock to write (default: the workspace's)")
	return cmd
}

func (a *app) runSeed(ctx context.Context, o seedOptions) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	st, err := a.store(ws)
	if err != nil {
		return err
	}
	fetcher, err := a.fetcher(ws, st)
	if err != nil {
		return err
	}
	s, err := a.openSeed(ws, st, fetcher)
	if err != nil {
		return err
	}
	if o.update {
		return a.updateSeed(ctx, ws, s, o.output)
	}
	start := time.Now()
	arch, err := apk.ParseArch("host")
	if err != nil {
		return err
	}
	entries, err := s.Packages(ctx, arch)
	if err != nil {
		return err
	}
	for _, e := range entries {
		digest, err := s.Fetch(ctx, st, e)
		if err != nil {
			return err
		}
		if a.json {
			if err := a.printJSON(map[string]any{"package": e.FullName(), "digest": digest, "packages": s.Len()}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(a.out, "%s: %d binary packages, %s, in %s\n", e.FullName(), s.Len(), digest, shortDuration(time.Since(start)))
	}
	return nil
}

// updateSeed writes a new lock of what the archive has now.
func (a *app) updateSeed(ctx context.Context, ws *workspace, s *seed.Seed, output string) error {
	if output == "" {
		if ws.Seed.Lock == "" {
			return usagef("seed --update: no file is said\n  hint: --output FILE, or seed.lock in %s", workspaceFile)
		}
		output = ws.path(ws.Seed.Lock)
	}
	lock, err := s.Update(ctx)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(output, lock, 0o644); err != nil {
		return err
	}
	fmt.Fprintln(a.out, relative(output))
	return nil
}
