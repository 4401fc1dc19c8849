package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/repo"
)

type indexOptions struct {
	output     string
	signingKey string
}

func (a *app) indexCommand() *cobra.Command {
	var o indexOptions
	cmd := &cobra.Command{
		Use:   "index [PACKAGE.apk... | FOLDER]",
		Short: "make an index of package files",
		Long: `index reads packages (all of a folder when a folder is named), checks that each is
what it says, and writes an index of them, signed when --signing-key is given.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runIndex(cmd.Context(), o, args) },
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", "APKINDEX.tar.gz", "the index to write")
	cmd.Flags().StringVar(&o.signingKey, "signing-key", "", "the private key that signs")
	return cmd
}

func (a *app) runIndex(ctx context.Context, o indexOptions, args []string) error {
	var files []string
	for _, name := range args {
		info, err := os.Stat(name)
		if err != nil {
			return usagef("%v", err)
		}
		if !info.IsDir() {
			files = append(files, name)
			continue
		}
		found, err := filepath.Glob(filepath.Join(name, "*.apk"))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	var signers []apk.Signer
	if o.signingKey != "" {
		key, err := sign.Load(o.signingKey)
		if err != nil {
			return err
		}
		signers = append(signers, key)
	}
	data, index, err := repo.IndexFiles(ctx, files, signers...)
	if err != nil {
		return &codeError{exitTrust, err}
	}
	if err := renameio.WriteFile(o.output, data, 0o644); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"index": o.output, "packages": len(index.Entries)})
	}
	fmt.Fprintf(a.out, "%s: %d packages\n", o.output, len(index.Entries))
	return nil
}
