package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
)

type convertOptions struct {
	signingFlags
	outDir      string
	format      string
	compression string
}

func (a *app) convertCommand() *cobra.Command {
	var o convertOptions
	cmd := &cobra.Command{
		Use:   "convert PACKAGE.apk... | FOLDER",
		Short: "write packages in the other version of the format",
		Long: `convert reads packages of version 2 of the format (gzip and tar) or 3 (ADB, of apk-tools
3), checks their data, and writes the same files, scripts and dependencies in the version
that --format names, under the same names in --out-dir; signed when --signing-key is given.

Version 3 has no place for control files (.melange.yaml), nor for the packager, nor for the
times of folders, and tells owners by name.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runConvert(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.outDir, "out-dir", "o", "", "the folder to write to")
	f.StringVar(&o.format, "format", "v3", "v3 or v2")
	f.StringVar(&o.compression, "compression", "deflate", "of --format v3: deflate, zstd or none")
	o.add(f, "the private key that signs, or exec:NAME.rsa.pub PROGRAM ARGUMENT...; several all sign")
	return cmd
}

func (a *app) runConvert(ctx context.Context, o convertOptions, args []string) error {
	if o.outDir == "" {
		return usagef("--out-dir says where to\n  hint: tarn convert --help")
	}
	format, err := parseFormat(o.format)
	if err != nil {
		return err
	}
	compression, err := adb.ParseCompression(o.compression)
	if err != nil {
		return usagef("--compression: %v\n  hint: there are deflate, zstd and none", err)
	}
	files, err := packageFiles(args, "*.apk")
	if err != nil {
		return err
	}
	if err := checkOverwrite(files, o.outDir); err != nil {
		return err
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
	if err := os.MkdirAll(o.outDir, 0o755); err != nil {
		return err
	}
	rows := []map[string]any{}
	var wrong []error
	for _, name := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		to := filepath.Join(o.outDir, filepath.Base(name))
		if err := convertFile(name, to, format, compression, keys); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
			continue
		}
		rows = append(rows, map[string]any{"package": name, "converted": to})
		if !a.json {
			fmt.Fprintf(a.out, "%s\n", to)
		}
	}
	if a.json {
		if err := a.printJSON(rows); err != nil {
			return err
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return &codeError{exitTrust, err}
	}
	return nil
}

// checkOverwrite refuses to write a package over itself, or over another one.
func checkOverwrite(files []string, outDir string) error {
	from := map[string]string{}
	for _, name := range files {
		base := filepath.Base(name)
		if other := from[base]; other != "" {
			return usagef("%s and %s would both become %s", other, name, filepath.Join(outDir, base))
		}
		from[base] = name
		here, err := os.Stat(name)
		if err != nil {
			return usagef("%v", err)
		}
		if there, err := os.Stat(filepath.Join(outDir, base)); err == nil && os.SameFile(here, there) {
			return usagef("%s would be overwritten\n  hint: name another --out-dir", name)
		}
	}
	return nil
}

// convertFile writes a package to another file, whole or not at all.
func convertFile(name, to string, format apk.Format, c adb.Compression, keys []apk.Signer) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return err
	}
	plain, err := os.CreateTemp(filepath.Dir(to), ".convert-")
	if err != nil {
		return err
	}
	defer plain.Close()
	if err := os.Remove(plain.Name()); err != nil {
		return err
	}
	written, err := apk.Convert(plain, p, format, c, filepath.Dir(to))
	if err != nil {
		return err
	}
	out, err := renameio.NewPendingFile(to, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer out.Cleanup()
	if len(keys) == 0 {
		if _, err := io.Copy(out, io.NewSectionReader(plain, 0, written.FileSize)); err != nil {
			return err
		}
		return out.CloseAtomicallyReplace()
	}
	if err := apk.ReplaceSignatures(out, plain, written.FileSize, time.Unix(p.Info.BuildDate, 0), keys...); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}
