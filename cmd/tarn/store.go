package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/store"
)

func (a *app) storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "look after the store: what was fetched and built",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.runStoreUsage(cmd.Context()) },
	}
	var maxSize string
	gc := &cobra.Command{
		Use:   "gc",
		Short: "remove what was not used for longest, down to a size",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.runStoreGC(cmd.Context(), maxSize) },
	}
	gc.Flags().StringVar(&maxSize, "max-size", "", "what may stay, e.g. 20G (default: the workspace's cache.max-size)")
	verify := &cobra.Command{
		Use:   "verify",
		Short: "hash everything in the store, and move aside what is damaged",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.runStoreVerify(cmd.Context()) },
	}
	path := &cobra.Command{
		Use:   "path",
		Short: "print the store's folder",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			st, err := a.openStore()
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, st.Dir())
			return nil
		},
	}
	cmd.AddCommand(gc, verify, path)
	return cmd
}

func (a *app) openStore() (*store.Store, error) {
	ws, err := a.workspace()
	if err != nil {
		return nil, err
	}
	return a.store(ws)
}

func (a *app) runStoreUsage(context.Context) error {
	st, err := a.openStore()
	if err != nil {
		return err
	}
	usage, err := st.Usage()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"dir": st.Dir(), "usage": usage})
	}
	rows := [][]string{{"", "number", "size"}}
	for _, row := range []struct {
		name string
		store.Count
	}{{"blobs", usage.Blobs}, {"records", usage.Records}, {"trees", usage.Trees}, {"kept", usage.Kept}, {"damaged", usage.Corrupt}, {"temporary", usage.Temp}, {"all", usage.Total()}} {
		rows = append(rows, []string{row.name, strconv.Itoa(row.Number), shortSize(row.Bytes)})
	}
	fmt.Fprintln(a.out, st.Dir())
	table(a.out, map[int]bool{1: true, 2: true}, rows)
	return nil
}

func (a *app) runStoreGC(ctx context.Context, maxSize string) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	if maxSize == "" {
		maxSize = ws.Cache.MaxSize
	}
	if maxSize == "" {
		return usagef("store gc: no size is said\n  hint: --max-size 20G, or cache.max-size in %s", workspaceFile)
	}
	size, err := parseSize(maxSize)
	if err != nil {
		return usagef("--max-size: %v", err)
	}
	st, err := a.store(ws)
	if err != nil {
		return err
	}
	freed, err := st.GC(ctx, size, store.GCOptions{})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(freed)
	}
	fmt.Fprintf(a.out, "removed %d things, %s; %s left\n", freed.Total().Number, shortSize(freed.Total().Bytes), shortSize(freed.Left))
	return nil
}

func (a *app) runStoreVerify(ctx context.Context) error {
	st, err := a.openStore()
	if err != nil {
		return err
	}
	var damaged []*store.CorruptError
	if err := st.Verify(ctx, func(c *store.CorruptError) {
		damaged = append(damaged, c)
		if !a.json {
			fmt.Fprintln(a.out, c)
		}
	}); err != nil && len(damaged) == 0 {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(damaged); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "damaged %d\n", len(damaged))
	}
	if len(damaged) > 0 {
		return &codeError{exitTrust, &shownError{errors.New("the store is damaged")}}
	}
	return nil
}
