package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

type verifyOptions struct {
	trustFlags
	arches       []string
	repositories []string
	jobs         int
}

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [REPOSITORY... | FILE...]",
		Short: "check signatures and checksums of a repository or of packages",
		Long: `verify checks a repository (a folder or an address; the workspace's own when none is
named) as a whole: the signature and age of the index, and of each package in it presence,
size, checksum, data, every file, and signature (exit 6). Then that something provides
what each package needs, here or in a --repository-append, that nothing else lies there,
and that no two packages bring the same file (exit 1; warnings change no exit code).

Packages (*.apk) and indexes (*.tar.gz, *.adb) that are named as files are checked by
themselves, of either version of the format; --allow-untrusted leaves out who signed them.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runVerify(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.arches, "arch", nil, "architectures to check (default: all that a folder has, this machine's of an address)")
	f.StringSliceVarP(&o.repositories, "repository-append", "r", nil, "a further repository that may provide what packages need")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "how many packages to check at once (default: one for each processor)")
	o.add(f)
	f.BoolVar(&o.allowUntrusted, "allow-untrusted", false, "of files that are named: check all but the signatures")
	return cmd
}

// verifyResult is what is printed as JSON for one argument.
type verifyResult struct {
	Name     string          `json:"name"`
	Arch     apk.Arch        `json:"arch,omitempty"`
	Made     *time.Time      `json:"made,omitempty"`
	Verified []repo.Verified `json:"verified"`
	Findings []repo.Finding  `json:"findings"`
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
	keys.AllowSHA1 = o.allowSHA1
	st, err := a.store(ws)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{ws.path(ws.Packages)}
	}
	all := []verifyResult{}
	for _, name := range args {
		found, err := a.verifyOne(ctx, ws, st, &o, keys, name)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	good, bad, wrong := 0, 0, 0
	for _, result := range all {
		if result.Made != nil {
			fmt.Fprintf(a.err, "%s: index of %s\n", result.Arch, result.Made.Format(time.RFC3339))
		}
		for _, v := range result.Verified {
			if v.Err == nil {
				good++
				continue
			}
			bad++
			if !a.json {
				fmt.Fprintln(a.out, plain(v.Err.Error()))
			}
		}
		for _, finding := range result.Findings {
			if !finding.Warning {
				wrong++
			}
			if !a.json {
				fmt.Fprintln(a.out, plain(finding.String()))
			}
		}
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "verified %d, wrong %d\n", good, bad)
	}
	switch {
	case bad > 0:
		return &codeError{exitTrust, &shownError{fmt.Errorf("%d files are not what they should be", bad)}}
	case wrong > 0:
		return &codeError{exitFailed, &shownError{fmt.Errorf("%d findings", wrong)}}
	}
	return nil
}

func (a *app) verifyOne(ctx context.Context, ws *workspace, st *store.Store, o *verifyOptions, keys *sign.Keyring, name string) ([]verifyResult, error) {
	if isPackageOrIndex(name) {
		v, err := verifyFile(name, o, keys)
		if err != nil {
			return nil, err
		}
		return []verifyResult{{Name: name, Verified: []repo.Verified{v}, Findings: []repo.Finding{}}}, nil
	}
	if o.allowUntrusted {
		return nil, usagef("--allow-untrusted is for files, and %s is a repository", relative(name))
	}
	arches, err := verifyArches(ctx, name, o.arches)
	if err != nil {
		return nil, err
	}
	var all []verifyResult
	for _, arch := range arches {
		r, err := a.openRepository(ws, st, &o.trustFlags, keys, name)
		if err != nil {
			return nil, namedWrong(err)
		}
		how := repo.VerifyOptions{Jobs: o.jobs}
		for _, location := range o.repositories {
			other, err := a.openRepository(ws, st, &o.trustFlags, keys, location)
			if err != nil {
				return nil, namedWrong(err)
			}
			entries, err := other.Packages(ctx, arch)
			if err != nil {
				return nil, err
			}
			how.With = append(how.With, entries...)
		}
		report, err := r.Verify(ctx, arch, how)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("%s has no index for %s", relative(name), arch)
		}
		if err != nil {
			return nil, err
		}
		result := verifyResult{Name: name, Arch: arch, Verified: report.Verified, Findings: orEmpty(report.Findings)}
		if !report.Made.IsZero() {
			result.Made = &report.Made
		}
		all = append(all, result)
	}
	return all, nil
}

// isPackageOrIndex tells whether a name is that of a file to check by itself.
func isPackageOrIndex(name string) bool {
	return !strings.Contains(name, "://") && (strings.HasSuffix(name, ".apk") || strings.HasSuffix(name, ".adb") || strings.HasSuffix(name, ".tar.gz"))
}

// verifyFile checks a package or an index.
func verifyFile(name string, o *verifyOptions, keys *sign.Keyring) (repo.Verified, error) {
	f, err := os.Open(name)
	if err != nil {
		return repo.Verified{}, usagef("%v", err)
	}
	defer f.Close()
	v := repo.Verified{Name: name}
	switch isPackage := strings.HasSuffix(name, ".apk"); {
	case isPackage && o.allowUntrusted:
		v.Err = repo.CheckFile(f, name)
	case isPackage:
		v.Key, v.Err = repo.VerifyFile(f, name, keys)
	case o.allowUntrusted:
		v.Err = repo.CheckIndexFile(f, name)
	default:
		v.Key, v.Err = repo.VerifyIndexFile(f, name, keys)
	}
	if v.Err != nil {
		v.Why = v.Err.Error()
	}
	return v, nil
}

// verifyArches are the architectures to check: those that are named, those that a folder
// has indexes of, this machine's.
func verifyArches(ctx context.Context, name string, named []string) ([]apk.Arch, error) {
	if len(named) == 0 && !strings.Contains(name, "://") {
		if there, err := repo.Arches(ctx, repo.Folder(name)); err == nil && len(there) > 0 {
			return there, nil
		}
	}
	return parseArches(named)
}
