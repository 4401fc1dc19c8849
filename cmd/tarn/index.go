package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/repo"
)

type indexOptions struct {
	signingFlags
	output      string
	merge       bool
	source      string
	arch        string
	rewriteArch string
	description string
	format      string
	compression string
}

func (a *app) indexCommand() *cobra.Command {
	var o indexOptions
	cmd := &cobra.Command{
		Use:   "index [PACKAGE.apk... | FOLDER]",
		Short: "make an index of package files",
		Long: `index reads packages (all of a folder when a folder is named), checks that each is
what it says, and writes an index of them, signed when --signing-key is given.

With --merge the packages of the index that is there stay listed, but for those that are
named anew. Its signature is not looked at: publish is the verb for a repository.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runIndex(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "the index to write (default: APKINDEX.tar.gz, or Packages.adb with --format v3)")
	f.StringVar(&o.format, "format", "", "v2 (APKINDEX.tar.gz) or v3 (Packages.adb, which lists packages of both versions) (default: as --output is called)")
	f.StringVar(&o.compression, "compression", "deflate", "of --format v3: deflate, zstd or none")
	o.add(f, "the private key that signs, or exec:NAME.rsa.pub PROGRAM ARGUMENT...; several all sign")
	f.BoolVarP(&o.merge, "merge", "m", false, "keep what the index that is there lists")
	f.StringVarP(&o.source, "source", "s", "", "the index to merge with (default: the one to write)")
	f.StringVarP(&o.arch, "arch", "a", "", "refuse packages for another architecture")
	f.StringVar(&o.rewriteArch, "rewrite-arch", "", "list every package as one for this architecture, as for noarch packages")
	f.StringVarP(&o.description, "description", "d", "", "a text about the repository")
	return cmd
}

func (a *app) runIndex(ctx context.Context, o indexOptions, args []string) error {
	files, err := packageFiles(args, "*.apk")
	if err != nil {
		return err
	}
	how := repo.IndexOptions{Description: o.description}
	if how.Format, how.Compression, err = o.formatOf(); err != nil {
		return err
	}
	if o.arch != "" {
		if how.Arch, err = apk.ParseArch(o.arch); err != nil {
			return usagef("--arch: %v", err)
		}
	}
	if o.rewriteArch != "" {
		if how.RewriteArch, err = apk.ParseArch(o.rewriteArch); err != nil {
			return usagef("--rewrite-arch: %v", err)
		}
	}
	if o.merge {
		if o.source == "" {
			o.source = o.output
		}
		if how.Merge, err = mergeSource(o.source); err != nil {
			return err
		}
	}
	var keys []apk.Signer
	if len(o.keys) > 0 {
		ws, err := a.workspace()
		if err != nil {
			return err
		}
		opened, err := a.openSigners(ws, &o.signingFlags)
		if err != nil {
			return err
		}
		keys = signers(opened)
	}
	data, index, err := repo.IndexFiles(ctx, files, how, keys...)
	if err != nil {
		if is[*repo.TrustError](err) {
			return &codeError{exitTrust, err}
		}
		if is[*apk.FormatError](err) {
			return usagef("%v\n  hint: --format v3 makes an index that lists packages of both versions", err)
		}
		return err
	}
	if err := renameio.WriteFile(o.output, data, 0o644); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"index": o.output, "packages": len(index.Entries)})
	}
	fmt.Fprintf(a.out, "%s: %s\n", o.output, plural(len(index.Entries), "package"))
	return nil
}

// formatOf is the version of the format that flags ask for. It names the output where
// they do not.
func (o *indexOptions) formatOf() (apk.Format, adb.Compression, error) {
	if o.format == "" {
		o.format = "v2"
		if strings.HasSuffix(o.output, ".adb") {
			o.format = "v3"
		}
	}
	c, err := adb.ParseCompression(o.compression)
	if err != nil {
		return 0, 0, usagef("--compression: %v\n  hint: there are deflate, zstd and none", err)
	}
	format, err := parseFormat(o.format)
	if o.output == "" {
		o.output = map[apk.Format]string{apk.V2: "APKINDEX.tar.gz", apk.V3: "Packages.adb"}[format]
	}
	return format, c, err
}

// parseFormat reads a version of the format of packages.
func parseFormat(s string) (apk.Format, error) {
	switch s {
	case "v2":
		return apk.V2, nil
	case "v3":
		return apk.V3, nil
	}
	return 0, usagef("--format: unknown format %q\n  hint: there are v2 and v3", s)
}

// packageFiles are the files that arguments name, and those like patterns in folders that
// they name.
func packageFiles(args []string, patterns ...string) ([]string, error) {
	var files []string
	for _, name := range args {
		info, err := os.Stat(name)
		if err != nil {
			return nil, usagef("%v", err)
		}
		if !info.IsDir() {
			files = append(files, name)
			continue
		}
		for _, pattern := range patterns {
			found, err := filepath.Glob(filepath.Join(escapeGlob(name), pattern))
			if err != nil {
				return nil, err
			}
			files = append(files, found...)
		}
	}
	return files, nil
}

// escapeGlob lets a path stand for itself in a pattern.
func escapeGlob(path string) string {
	var escaped []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, path[i])
	}
	return string(escaped)
}

// mergeSource reads the index to merge with; none is there the first time.
func mergeSource(name string) (*apk.Index, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index, err := apk.ReadIndex(f, apk.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", name, err)
	}
	return index, nil
}
