package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/repo"
)

type signOptions struct {
	signingFlags
	reset bool
}

func (a *app) signCommand() *cobra.Command {
	var o signOptions
	cmd := &cobra.Command{
		Use:   "sign FILE...",
		Short: "sign packages and indexes",
		Long: `sign puts a signature of each --signing-key (the workspace's own key when none is
named) on packages (*.apk) and indexes (APKINDEX.tar.gz, *.adb), in their place.
Signatures by other keys stay, one by the same key is replaced, and all else is the same
byte for byte. What is damaged is not signed.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runSign(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.keys, "signing-key", "k", nil, "the private key that signs, or exec:NAME.rsa.pub PROGRAM ARGUMENT...; several all sign")
	o.addPassphrase(f)
	f.BoolVar(&o.reset, "reset-signatures", false, "drop the signatures by other keys")
	return cmd
}

func (a *app) runSign(ctx context.Context, o signOptions, args []string) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	for _, name := range args {
		if info, err := os.Stat(name); err != nil {
			return usagef("%v", err)
		} else if !info.Mode().IsRegular() {
			return usagef("%s is no file", name)
		}
	}
	keys, err := a.openSigners(ws, &o.signingFlags)
	if err != nil {
		return err
	}
	var wrong []error
	var rows []map[string]any
	for _, name := range args {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := signFile(name, o.reset, keys); err != nil {
			wrong = append(wrong, err)
			continue
		}
		row := map[string]any{"file": name, "keys": keyNames(keys)}
		rows = append(rows, row)
		if !a.json {
			fmt.Fprintf(a.out, "%s: signed by %s\n", name, strings.Join(keyNames(keys), ", "))
		}
	}
	if a.json {
		if err := a.printJSON(rows); err != nil {
			return err
		}
	}
	return errors.Join(wrong...)
}

func keyNames(keys []sign.Signer) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.KeyName()
	}
	return names
}

// signFile signs a package or an index in its place.
func signFile(name string, reset bool, keys []sign.Signer) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	to, err := renameio.NewPendingFile(name, renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer to.Cleanup()
	if strings.HasSuffix(name, ".apk") {
		err = signPackage(to, f, info.Size(), reset, keys)
	} else {
		err = signIndex(to, f, reset, keys)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return to.CloseAtomicallyReplace()
}

func signPackage(to io.Writer, f *os.File, size int64, reset bool, keys []sign.Signer) error {
	p, err := apk.ReadPackage(f, size, apk.Limits{})
	if err != nil {
		return &codeError{exitTrust, err}
	}
	if err := repo.CheckFile(f, p.Info.FullName()); err != nil {
		return err
	}
	// A signature's file bears the time of what is signed: the same bytes each time.
	at := time.Unix(p.Info.BuildDate, 0)
	if reset {
		return apk.ReplaceSignatures(to, f, size, at, signers(keys)...)
	}
	return apk.AddSignatures(to, f, size, at, signers(keys)...)
}

func signIndex(to io.Writer, f *os.File, reset bool, keys []sign.Signer) error {
	var data bytes.Buffer
	if _, err := io.Copy(&data, io.LimitReader(f, 1<<30)); err != nil {
		return err
	}
	if _, err := apk.ReadIndex(bytes.NewReader(data.Bytes()), apk.Limits{}); err != nil {
		return &codeError{exitTrust, err}
	}
	if reset {
		return apk.ReplaceIndexSignatures(to, data.Bytes(), signers(keys)...)
	}
	return apk.AddIndexSignatures(to, data.Bytes(), signers(keys)...)
}
