package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/repo"
)

type verifyOptions struct {
	arches   []string
	keyrings []string
}

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [REPOSITORY | PACKAGE.apk...]",
		Short: "check signatures and checksums of a repository or of packages",
		Long: `verify checks a repository (a folder or an address; the workspace's own when none is
named) as a whole: the signature of the index, and of each package in it presence,
size, checksum, data and signature. Files that end in .apk are checked by themselves.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runVerify(cmd.Context(), o, args) },
	}
	cmd.Flags().StringSliceVar(&o.arches, "arch", nil, "architectures to check (default: this machine's)")
	cmd.Flags().StringSliceVarP(&o.keyrings, "keyring-append", "k", nil, "a further public key, or a folder of keys, to trust")
	return cmd
}

func (a *app) runVerify(ctx context.Context, o verifyOptions, args []string) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	keys, err := keyring(ws, o.keyrings)
	if err != nil {
		return err
	}
	arches, err := parseArches(o.arches)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{ws.path(ws.Packages)}
	}
	var all []repo.Verified
	for _, name := range args {
		found, err := a.verifyOne(ctx, name, keys, arches)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	bad := 0
	for _, v := range all {
		if v.Err != nil {
			bad++
			if !a.json {
				fmt.Fprintln(a.out, v.Err)
			}
		}
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "verified %d, wrong %d\n", len(all)-bad, bad)
	}
	if bad > 0 {
		return &codeError{exitTrust, &shownError{fmt.Errorf("%d files are not what they should be", bad)}}
	}
	return nil
}

func (a *app) verifyOne(ctx context.Context, name string, keys *sign.Keyring, arches []apk.Arch) ([]repo.Verified, error) {
	if strings.HasSuffix(name, ".apk") {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("%v", err)
		}
		defer f.Close()
		key, err := repo.VerifyFile(f, name, keys)
		v := repo.Verified{Name: name, Key: key, Err: err}
		if err != nil {
			v.Why = err.Error()
		}
		return []repo.Verified{v}, nil
	}
	r, err := repo.Open(name, repo.Options{Keys: keys, Offline: a.offline})
	if err != nil {
		return nil, namedWrong(err)
	}
	var all []repo.Verified
	for _, arch := range arches {
		found, err := r.Verify(ctx, arch)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("%s has no index for %s", relative(name), arch)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
