package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/repo"
)

type solveOptions struct {
	arch           string
	indexes        []string
	repositories   []string
	keyrings       []string
	allowUntrusted bool
}

func (a *app) solveCommand() *cobra.Command {
	var o solveOptions
	cmd := &cobra.Command{
		Use:   "solve PACKAGE...",
		Short: "find the packages that installing some would bring",
		Long: `solve prints name=version of every package that the named ones need, in the order in
which they are installed. A PACKAGE is an entry of the world: a name, a constraint
(openssl>=3), a conflict (!busybox), a name with a tag (zlib@edge).

It asks the workspace's own repository and those that --repository names. With --index
only those files are asked, signed or not: an APKINDEX.tar.gz or its bare text.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runSolve(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.arch, "arch", "host", "the architecture")
	f.StringArrayVar(&o.indexes, "index", nil, "an index to read, [@TAG=]FILE")
	f.StringArrayVarP(&o.repositories, "repository", "r", nil, "a repository to ask, [@TAG=]FOLDER or address")
	f.StringSliceVarP(&o.keyrings, "keyring-append", "k", nil, "a further public key, or a folder of keys, to trust")
	f.BoolVar(&o.allowUntrusted, "allow-untrusted", false, "read repositories without asking for signatures")
	return cmd
}

func (a *app) runSolve(ctx context.Context, o solveOptions, args []string) error {
	arch, err := apk.ParseArch(o.arch)
	if err != nil {
		return usagef("--arch: %v", err)
	}
	var world []solve.Requirement
	for _, text := range args {
		r, err := solve.ParseRequirement(text)
		if err != nil {
			return usagef("%v", err)
		}
		r.From = "the command line"
		world = append(world, r)
	}
	candidates, err := a.candidates(ctx, o, arch)
	if err != nil {
		return err
	}
	solution, err := solve.Solve(solve.NewUniverse(candidates), world, solve.Options{})
	if err != nil {
		return err
	}
	if a.json {
		rows := make([]map[string]any, len(solution))
		for i, p := range solution {
			rows[i] = map[string]any{"name": p.Name, "version": p.Version, "checksum": p.Checksum, "from": p.From}
		}
		return a.printJSON(rows)
	}
	for _, p := range solution {
		fmt.Fprintf(a.out, "%s=%s\n", p.Name, p.Version)
	}
	return nil
}

// candidates are the packages that the solver chooses from.
func (a *app) candidates(ctx context.Context, o solveOptions, arch apk.Arch) ([]*solve.Package, error) {
	var candidates []*solve.Package
	add := func(entries []*apk.Entry, tag, from string) {
		for _, e := range entries {
			candidates = append(candidates, &solve.Package{Entry: e, Tag: tag, From: from})
		}
	}
	for _, text := range o.indexes {
		tag, name := cutTag(text)
		index, err := readIndexFile(name)
		if err != nil {
			return nil, err
		}
		add(index.Entries, tag, name)
	}
	if len(o.indexes) > 0 && len(o.repositories) == 0 {
		return candidates, nil
	}
	ws, err := a.workspace()
	if err != nil {
		return nil, err
	}
	keys, err := keyring(ws, o.keyrings)
	if err != nil {
		return nil, err
	}
	locations := o.repositories
	if len(locations) == 0 {
		locations = append([]string{ws.path(ws.Packages)}, ws.Repositories...)
	}
	for _, text := range locations {
		tag, location := cutTag(text)
		r, err := repo.Open(location, repo.Options{Keys: keys, AllowUntrusted: o.allowUntrusted, Offline: a.offline})
		if err != nil {
			return nil, namedWrong(err)
		}
		entries, err := r.Packages(ctx, arch)
		if err != nil {
			return nil, err
		}
		add(entries, tag, location)
	}
	return candidates, nil
}

// cutTag reads "@TAG=REST".
func cutTag(text string) (tag, rest string) {
	if strings.HasPrefix(text, "@") {
		if tag, rest, found := strings.Cut(text[1:], "="); found {
			return tag, rest
		}
	}
	return "", text
}

// readIndexFile reads an index without asking for a signature: the user named the file.
func readIndexFile(name string) (*apk.Index, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("--index: %v", err)
	}
	defer f.Close()
	index, err := apk.ReadIndex(f, apk.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", name, err)
	}
	return index, nil
}
