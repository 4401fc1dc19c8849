package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/seed"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

type seedOptions struct {
	update  bool
	output  string
	version string
}

// seedNames are the seeds there are, as the verb takes them.
var seedNames = []string{"toolchain", "go", "node"}

func (a *app) seedCommand() *cobra.Command {
	var o seedOptions
	cmd := &cobra.Command{
		Use:   "seed [toolchain|go|node]",
		Short: "fetch the binary packages that the first compilers come from",
		Long: `seed fetches what a seed's lock names, checks it, and makes one package of it. A build
does the same when it needs the seed. No image takes a package of a seed.

toolchain (the default) is Debian's gcc and what a C build needs, from the archive
that this machine's apt is set to, by the archive's signature: seed-toolchain.
node is Debian's Node.js and npm, from the same archive: seed-node.
go is Go from the module proxy that this machine's Go is set to: seed-go.

--update writes a new lock of what the archive has now, or of the Go that --version names.
Go has to be what the checksum database of this machine's Go settings vouches for; where
they name none (GOSUMDB=off, GONOSUMDB, GOPRIVATE), the lock says so.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.FixedCompletions(seedNames, cobra.ShellCompDirectiveNoFileComp),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runSeed(cmd.Context(), o, args) },
	}
	cmd.Flags().BoolVar(&o.update, "update", false, "write a new lock")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "the lock to write (default: the workspace's)")
	cmd.Flags().StringVar(&o.version, "version", "", "the version of Go that --update writes a lock of, e.g. 1.26.8 (default: the lock's)")
	return cmd
}

// namedSeed is a seed with the name that the verb takes, and the workspace's lock.
type namedSeed struct {
	repo.Source
	name   string
	lock   string // in the workspace, "" for tarn's own
	update func(context.Context, seedOptions) ([]byte, error)
}

// openSeeds reads the locks of all seeds. Nothing is fetched.
func (a *app) openSeeds(ws *workspace, st *store.Store, f *source.Fetcher) ([]namedSeed, error) {
	file := func(lock string) string {
		if lock == "" {
			return ""
		}
		return relative(ws.path(lock))
	}
	toolchain, err := seed.Open(seed.Options{Store: st, Fetcher: f, Suite: ws.Seed.Suite, Keyring: ws.Seed.Keyring, Lock: file(ws.Seed.Lock)})
	if err != nil {
		return nil, err
	}
	node, err := seed.Open(seed.Options{Store: st, Fetcher: f, Suite: ws.Seed.Suite, Keyring: ws.Seed.Keyring, Lock: file(ws.Seed.Node), Node: true})
	if err != nil {
		return nil, err
	}
	golang, err := seed.OpenGo(f, file(ws.Seed.Go))
	if err != nil {
		return nil, err
	}
	return []namedSeed{
		{toolchain, "toolchain", ws.Seed.Lock, func(ctx context.Context, _ seedOptions) ([]byte, error) { return toolchain.Update(ctx) }},
		{node, "node", ws.Seed.Node, func(ctx context.Context, _ seedOptions) ([]byte, error) { return node.Update(ctx) }},
		{golang, "go", ws.Seed.Go, func(ctx context.Context, o seedOptions) ([]byte, error) { return golang.Update(ctx, o.version) }},
	}, nil
}

func (a *app) runSeed(ctx context.Context, o seedOptions, names []string) error {
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
	seeds, err := a.openSeeds(ws, st, fetcher)
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(append(names, "toolchain")[0], "seed-")
	for _, s := range seeds {
		if s.name != name {
			continue
		}
		if o.update {
			return a.updateSeed(ctx, ws, s, o)
		}
		return a.fetchSeed(ctx, st, s)
	}
	if hint := diag.DidYouMean(name, seedNames); hint != "" {
		return usagef("there is no seed %q\n  hint: %s", name, hint)
	}
	return usagef("there is no seed %q\n  hint: %s", name, strings.Join(seedNames, ", "))
}

func (a *app) fetchSeed(ctx context.Context, st *store.Store, s namedSeed) error {
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
		of := ""
		result := map[string]any{"package": e.FullName(), "digest": digest}
		if counted, is := s.Source.(interface{ Len() int }); is {
			result["packages"] = counted.Len()
			of = fmt.Sprintf("%d binary packages, ", counted.Len())
		}
		if a.json {
			if err := a.printJSON(result); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(a.out, "%s: %s%s, in %s\n", e.FullName(), of, digest, shortDuration(time.Since(start)))
	}
	return nil
}

// updateSeed writes a new lock of what there is now.
func (a *app) updateSeed(ctx context.Context, ws *workspace, s namedSeed, o seedOptions) error {
	output := o.output
	if output == "" {
		if s.lock == "" {
			key := "seed." + s.name
			if s.name == "toolchain" {
				key = "seed.lock"
			}
			return usagef("seed --update: no file is said\n  hint: --output FILE, or %s in %s", key, workspaceFile)
		}
		output = ws.path(s.lock)
	}
	lock, err := s.update(ctx, o)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(output, lock, 0o644); err != nil {
		return err
	}
	fmt.Fprintln(a.out, relative(output))
	return nil
}
