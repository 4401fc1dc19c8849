package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

type publishOptions struct {
	signingFlags
	to          string
	keyrings    []string
	arches      []string
	description string
	replace     bool
	rebuild     bool
	readmit     bool
	keep        int
	snapshots   int
	v3          bool
	withdraw    []string
	reason      string
	rollback    string
	history     bool
}

func (a *app) publishCommand() *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use:   "publish [PACKAGE.apk... | FOLDER]",
		Short: "sign packages into a repository, withdraw them, or set it back",
		Long: `publish signs packages (all of a folder and of the folders in it, when one is named)
and puts them into a repository, --to FOLDER or the workspace's own. Packages come first,
and then the index, in one moment: whenever a reader looks, every package that the index
names is there. Whoever is killed on the way leaves a whole repository, and runs it again.

A package that is published is not replaced by another one of its name and version unless
--replace says so; raise the epoch instead. Of each package --keep N versions stay listed.
A package for every architecture (noarch) goes into the folder of each. --v3 writes
Packages.adb of apk-tools 3 beside APKINDEX.tar.gz, from then on each time.

The indexes that were are kept as snapshots, with their packages: FOLDER/snapshots/TIME
is a repository that verbs can read, --history lists them, and --rollback TIME makes the
index of that time the newest again. --withdraw NAME=VERSION takes a package out of the
repository for good; withdrawn.json beside the index says why.

Several --signing-key all sign. To change a key without a day on which all readers have
to: publish with the old and the new one, let readers trust the new one, and publish with
the new one alone, trusting the old one once more with --keyring-append OLD.rsa.pub.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runPublish(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.add(f, "the private key that signs, or exec:NAME.rsa.pub PROGRAM ARGUMENT...; several all sign (default: the workspace's own)")
	f.StringVar(&o.to, "to", "", "the repository's folder (default: the workspace's own)")
	f.StringVar(&o.to, "out-dir", "", "as --to")
	_ = f.MarkHidden("out-dir")
	f.StringSliceVarP(&o.keyrings, "keyring-append", "k", nil, "a public key whose index is carried on although it does not sign any more")
	f.StringSliceVar(&o.arches, "arch", nil, "architectures that noarch packages are for, or to withdraw from or set back (default: all that the repository has)")
	f.StringVarP(&o.description, "description", "d", "", "a text about the repository, in its index")
	f.BoolVar(&o.replace, "replace", false, "replace packages of the same name and version")
	f.BoolVar(&o.rebuild, "rebuild", false, "make an index that no trusted key signed anew, of the packages that one did")
	f.BoolVar(&o.readmit, "readmit", false, "publish packages although they were withdrawn")
	f.IntVar(&o.keep, "keep", 0, "how many versions of each package stay listed (default: all)")
	f.IntVar(&o.snapshots, "snapshots", 10, "how many of the indexes before this one are kept, with their packages")
	f.BoolVar(&o.v3, "v3", false, "also write Packages.adb, the index of version 3 of the format; where there is one it is kept up")
	f.StringSliceVar(&o.withdraw, "withdraw", nil, "NAME=VERSION of a package to take out of the repository")
	f.StringVar(&o.reason, "reason", "", "why, for those who look for what was withdrawn")
	f.StringVar(&o.rollback, "rollback", "", "set the repository back to what it was at this time, e.g. 2026-01-31T12:00:00Z")
	f.BoolVar(&o.history, "history", false, "list the times that the repository can be read of and set back to")
	return cmd
}

func (a *app) runPublish(ctx context.Context, o publishOptions, args []string) error {
	actions := 0
	for _, is := range []bool{len(args) > 0, len(o.withdraw) > 0, o.rollback != "", o.history} {
		if is {
			actions++
		}
	}
	switch {
	case actions != 1:
		return usagef("name packages to publish, or one of --withdraw, --rollback and --history\n  hint: tarn publish --help")
	case o.keep < 0 || o.snapshots < 0:
		return usagef("--keep and --snapshots are numbers from 0")
	case o.rollback != "" && o.snapshots == 0:
		return usagef("--rollback needs snapshots")
	}
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	p, err := a.openPublisher(ws, &o)
	if err != nil {
		return err
	}
	switch {
	case o.history:
		return a.printHistory(ctx, p)
	case o.rollback != "":
		return a.runRollback(ctx, p, o.rollback)
	case len(o.withdraw) > 0:
		return a.runWithdraw(ctx, p, &o)
	}
	files, err := packageFiles(args, "*.apk", "*/*.apk")
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return usagef("there are no packages in %s", strings.Join(args, ", "))
	}
	packages, err := stagePackages(ctx, p.Store, files)
	if err != nil {
		return err
	}
	done, err := p.Publish(ctx, packages)
	if err != nil {
		return err
	}
	return a.printPublished(p, done)
}

func (a *app) openPublisher(ws *workspace, o *publishOptions) (*repo.Publisher, error) {
	dir := o.to
	if dir == "" {
		if !ws.isReal() {
			return nil, usagef("no repository is said, and there is no workspace that has one\n  hint: --to FOLDER")
		}
		dir = ws.path(ws.Packages)
	}
	if strings.Contains(dir, "://") {
		return nil, usagef("--to %s: packages are published to a folder", dir)
	}
	st, err := a.store(ws)
	if err != nil {
		return nil, err
	}
	p := &repo.Publisher{
		Storage: repo.Folder(dir), Name: relative(dir), Store: st, Time: time.Now(), Description: o.description,
		Replace: o.replace, Readmit: o.readmit, Rebuild: o.rebuild, Keep: o.keep, Snapshots: o.snapshots, V3: o.v3,
	}
	if date := os.Getenv("SOURCE_DATE_EPOCH"); date != "" {
		if p.Time, err = parseDate(date); err != nil {
			return nil, err
		}
	}
	if len(o.arches) > 0 {
		if p.Arches, err = parseArches(o.arches); err != nil {
			return nil, err
		}
	}
	if o.history {
		return p, nil
	}
	keys, err := a.openSigners(ws, &o.signingFlags)
	if err != nil {
		return nil, err
	}
	p.Keys = signers(keys)
	trusted, err := publicHalves(keys)
	if err != nil {
		return nil, err
	}
	for _, path := range o.keyrings {
		if err := trusted.Load(path); err != nil {
			return nil, usagef("--keyring-append: %v", err)
		}
	}
	p.Trusted = trusted
	return p, nil
}

// stagePackages reads packages whole and puts them into the store. What is wrong with
// them is told of all at once.
func stagePackages(ctx context.Context, st *store.Store, files []string) ([]repo.Unsigned, error) {
	var all []repo.Unsigned
	var wrong []error
	for _, name := range files {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		one, err := stagePackage(st, name)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
			continue
		}
		all = append(all, one)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, &codeError{exitTrust, err}
	}
	return all, nil
}

func stagePackage(st *store.Store, name string) (repo.Unsigned, error) {
	f, err := os.Open(name)
	if err != nil {
		return repo.Unsigned{}, err
	}
	defer f.Close()
	digest, size, err := st.Put(f)
	if err != nil {
		return repo.Unsigned{}, err
	}
	// The copy is looked at: what happens to the file from here on does not count.
	in, err := st.Open(digest)
	if err != nil {
		return repo.Unsigned{}, err
	}
	defer in.Close()
	p, err := apk.ReadPackage(in, size, apk.Limits{})
	if err == nil {
		err = p.Files(func(_ *apk.File, content io.Reader) error {
			_, err := io.Copy(io.Discard, content)
			return err
		})
	}
	if err != nil {
		return repo.Unsigned{}, err
	}
	return repo.Unsigned{Entry: apk.EntryOf(p, size), Digest: digest}, nil
}

func (a *app) printPublished(p *repo.Publisher, done repo.Published) error {
	for _, w := range done.Withheld {
		fmt.Fprintf(a.err, "not published, it was withdrawn: %s\n  hint: --readmit\n", w)
	}
	if a.json {
		return a.printJSON(map[string]any{"repository": p.Name, "written": orEmpty(done.Written), "dropped": orEmpty(done.Dropped), "withheld": orEmpty(done.Withheld)})
	}
	for _, name := range done.Written {
		fmt.Fprintln(a.out, name)
	}
	for _, name := range done.Dropped {
		fmt.Fprintf(a.err, "no longer listed: %s\n", name)
	}
	fmt.Fprintf(a.err, "published %s to %s\n", plural(done.Packages, "package"), p.Name)
	return nil
}

// orEmpty lets a list without items be [] in JSON.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (a *app) runWithdraw(ctx context.Context, p *repo.Publisher, o *publishOptions) error {
	var all []repo.Withdrawal
	for _, text := range o.withdraw {
		name, version, found := strings.Cut(text, "=")
		if _, err := apk.ParseVersion(version); !found || name == "" || err != nil {
			return usagef("--withdraw %q is not NAME=VERSION", text)
		}
		all = append(all, repo.Withdrawal{Name: name, Version: apk.Version(version), Reason: o.reason, Time: p.Time.UTC().Truncate(time.Second)})
	}
	done, err := p.Withdraw(ctx, all)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"repository": p.Name, "withdrawn": all, "dropped": orEmpty(done.Dropped)})
	}
	for _, name := range done.Dropped {
		fmt.Fprintf(a.out, "withdrawn: %s\n", name)
	}
	return nil
}

func (a *app) runRollback(ctx context.Context, p *repo.Publisher, to string) error {
	at, err := repo.ParseTime(to)
	if err != nil {
		return usagef("--rollback %q: %v", to, err)
	}
	all, err := p.Rollback(ctx, at)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	for _, done := range all {
		for _, w := range done.Withheld {
			fmt.Fprintf(a.err, "%s: left out, it was withdrawn: %s\n", done.Arch, w)
		}
		fmt.Fprintf(a.out, "%s: set back to %s: %s\n", done.Arch, done.Time.Format(time.RFC3339), plural(done.Packages, "package"))
	}
	return nil
}

func (a *app) printHistory(ctx context.Context, p *repo.Publisher) error {
	arches, err := repo.Arches(ctx, p.Storage)
	if err != nil {
		return err
	}
	type row struct {
		Arch apk.Arch  `json:"arch"`
		Time time.Time `json:"time"`
	}
	rows := []row{}
	for _, arch := range arches {
		if len(p.Arches) > 0 && !slices.Contains(p.Arches, arch) {
			continue
		}
		times, err := repo.Snapshots(ctx, p.Storage, arch)
		if err != nil {
			return err
		}
		for _, at := range times {
			rows = append(rows, row{arch, at})
		}
	}
	if a.json {
		return a.printJSON(rows)
	}
	for _, r := range rows {
		fmt.Fprintf(a.out, "%s %s\n", r.Arch, r.Time.Format(time.RFC3339))
	}
	return nil
}
