package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/repo"
)

func (a *app) solveCommand() *cobra.Command {
	var u universe
	cmd := &cobra.Command{
		Use:   "solve PACKAGE...",
		Short: "find the packages that installing some would bring",
		Long: `solve prints name=version of every package that the named ones need, in the order in
which apk would install them. A PACKAGE is an entry of apk's world: a name, a constraint
(a>1, a<2, a~1.2, a=1.2-r0), a conflict (!busybox), a name with a tag (zlib@edge).

It asks the workspace's own repository and those that tarn.yaml lists, or those that
--repository names. With --index it asks the named files alone: no workspace, no network.
A file is an APKINDEX.tar.gz or its bare text, signed or not. What stands behind @TAG=
serves only entries of the tag, and what these pull in.

With --installed, which names lib/apk/db/installed of a root or the text of an index, what
is there already stays as it is unless something asks for another version; what nothing
needs is left out. --upgrade, --available and --latest are apk's.

Without a solution solve tells the smallest set of requirements that cannot hold together,
and what to change; its exit code is 5. It is 5 too where several packages provide a name
without a version, none has a priority, and the choice is yours.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if u.installed != "" {
				return nil // an empty world needs nothing of what is installed
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.runSolve(cmd.Context(), u, args) },
	}
	u.flags(cmd)
	return cmd
}

func (a *app) runSolve(ctx context.Context, u universe, args []string) error {
	world, err := parseWorld(args, "the command line")
	if err != nil {
		return err
	}
	packages, o, err := a.packages(ctx, u)
	if err != nil {
		return err
	}
	defer packages.close()
	if err := solve.CheckTags(world, packages.tags); err != nil {
		return err
	}
	solution, err := solve.Solve(packages, world, o)
	if err != nil {
		return err
	}
	a.warnOfDoubles(solution, packages)
	if !a.json {
		for _, p := range solution {
			fmt.Fprintf(a.out, "%s=%s\n", p.Name, p.Version)
		}
		return nil
	}
	graph := solve.NewGraph(solution, world, o)
	rows := make([]solvedPackage, len(solution))
	for i, p := range solution {
		rows[i] = solvedPackage{
			Name: p.Name, Version: p.Version, Arch: p.Arch, Origin: p.Origin, Repository: p.From, Tag: p.Tag,
			Installed: p.Installed, Checksum: p.Checksum, Size: p.FileSize, Reason: reason(graph, p),
		}
	}
	return a.printJSON(rows)
}

// solvedPackage is a package of a solution as JSON shows it.
type solvedPackage struct {
	Name       string       `json:"name"`
	Version    apk.Version  `json:"version"`
	Arch       apk.Arch     `json:"arch,omitempty"`
	Origin     string       `json:"origin,omitempty"`
	Repository string       `json:"repository"` // or index file
	Tag        string       `json:"tag,omitempty"`
	Installed  bool         `json:"installed,omitempty"`
	Checksum   apk.Checksum `json:"checksum,omitzero"`
	Size       int64        `json:"size,omitempty"` // of the package file
	Reason     string       `json:"reason"`
}

// reason says why a package is there, as the last link of a shortest chain.
func reason(g *solve.Graph, p *solve.Package) string {
	chains, _ := g.Chains(p, 1)
	if len(chains) == 0 {
		return ""
	}
	return chains[0][len(chains[0])-1].String()
}

// parseWorld reads entries of a world.
func parseWorld(entries []string, from string) ([]solve.Requirement, error) {
	world := make([]solve.Requirement, len(entries))
	for i, text := range entries {
		r, err := solve.ParseRequirement(text)
		if err != nil {
			return nil, usagef("%v\n  hint: an entry of the world is a name, name>1, name<2, name~1.2, name=1.2-r0, name@tag or !name", err)
		}
		r.From = from
		world[i] = r
	}
	return world, nil
}

// universe says which packages there are, and how a world is solved over them. solve,
// why and why-not have its flags.
type universe struct {
	trustFlags
	arch         string
	indexes      []string
	repositories []string
	installed    string
	options      solve.Options
}

func (u *universe) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&u.arch, "arch", "host", "the architecture")
	f.StringArrayVar(&u.indexes, "index", nil, "an index to ask, and no repository but those of --repository: [@TAG=]FILE")
	f.StringArrayVarP(&u.repositories, "repository", "r", nil, "a repository to ask, [@TAG=]FOLDER or address")
	u.add(f)
	u.addUntrusted(f, "allow-untrusted")
	f.StringVar(&u.installed, "installed", "", "a database of what is installed, which stays as it is where it can")
	f.BoolVarP(&u.options.Upgrade, "upgrade", "u", false, "prefer a higher version to the installed one")
	f.BoolVarP(&u.options.Available, "available", "a", false, "prefer what a repository has to what is installed and in none any more")
	f.BoolVarP(&u.options.Latest, "latest", "l", false, "take the highest version of each package or none")
}

// asked is the packages that the solver chooses from.
type asked struct {
	solve.Union
	known []*repo.Known
	tags  []string // of the sources
}

// close ends the looking up. What was looked up stays.
func (u *asked) close() {
	for _, known := range u.known {
		known.Close()
	}
}

// all are the packages themselves, in any order.
func (u *asked) all() []*solve.Package {
	var list []*solve.Package
	seen := map[string]bool{}
	for _, name := range u.Names() {
		if seen[name] {
			continue
		}
		seen[name] = true
		for _, p := range u.Providers(name) {
			if p.Name == name {
				list = append(list, p)
			}
		}
	}
	return list
}

// packages opens what the solver chooses from.
func (a *app) packages(ctx context.Context, u universe) (*asked, solve.Options, error) {
	o := u.options
	var err error
	if o.Arch, err = apk.ParseArch(u.arch); err != nil {
		return nil, o, usagef("--arch: %v", err)
	}
	all, order := &asked{}, 0
	for _, text := range u.indexes {
		tag, name := cutTag(text)
		all.tags = append(all.tags, tag)
		like := solve.Package{Order: order, Tag: tag, From: name}
		order++
		data, err := readLimited(name)
		if err != nil {
			return nil, o, usagef("--index: %v", err)
		}
		if known := a.knownIndex(data); known != nil {
			all.known = append(all.known, known)
			all.Union = append(all.Union, solve.NewLazy(known, like))
			continue
		}
		index, err := parseIndexFile("--index", name, data)
		if err != nil {
			return nil, o, err
		}
		all.add(index.Entries, like)
	}
	if len(u.indexes) == 0 || len(u.repositories) > 0 {
		err := a.askRepositories(ctx, u, func(r *repo.Repository, tag, from string) error {
			asked, err := repo.Universe(ctx, r, o.Arch, solve.Package{Order: order, Tag: tag, From: from})
			all.tags = append(all.tags, tag)
			all.Union = append(all.Union, asked)
			order++
			return err
		})
		if err != nil {
			return nil, o, err
		}
	}
	if u.installed != "" {
		data, err := readLimited(u.installed)
		if err != nil {
			return nil, o, usagef("--installed: %v", err)
		}
		index, err := parseIndexFile("--installed", u.installed, data)
		if err != nil {
			return nil, o, err
		}
		all.markInstalled(index.Entries, installedTags(data), u.installed)
	}
	return all, o, nil
}

// add takes entries in, each as a package like that.
func (u *asked) add(entries []*apk.Entry, like solve.Package) {
	list := make([]solve.Package, len(entries))
	packages := make([]*solve.Package, len(entries))
	for i, e := range entries {
		list[i] = like
		list[i].Entry = e
		packages[i] = &list[i]
	}
	u.Union = append(u.Union, solve.NewUniverse(packages))
}

// askRepositories opens the repositories that the flags or the workspace name.
func (a *app) askRepositories(ctx context.Context, u universe, add func(r *repo.Repository, tag, from string) error) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	st, err := a.store(ws)
	if err != nil {
		return err
	}
	keys, err := keyring(ws, u.keyrings)
	if err != nil {
		return err
	}
	locations := u.repositories
	if len(locations) == 0 && (ws.isReal() || u.installed == "") {
		own := ws.path(ws.Packages)
		// Before the first build there is none, which matters only where no other is.
		if _, err := os.Stat(own); err == nil || len(ws.Repositories) == 0 {
			locations = []string{own}
		}
		for _, location := range ws.Repositories {
			if !strings.Contains(location, "://") {
				location = ws.path(location)
			}
			locations = append(locations, location)
		}
	}
	for _, text := range locations {
		tag, location := cutTag(text)
		r, err := a.openRepository(ws, st, &u.trustFlags, keys, location)
		if err != nil {
			return namedWrong(err)
		}
		if err := add(r, tag, location); err != nil {
			return err
		}
	}
	return nil
}

// cutTag reads "@TAG=REST" or, as apk's list of repositories has it, "@TAG REST".
func cutTag(text string) (tag, rest string) {
	if strings.HasPrefix(text, "@") {
		if end := strings.IndexAny(text, "= "); end > 1 {
			return text[1:end], strings.TrimLeft(text[end+1:], " ")
		}
	}
	return "", text
}

// parseIndexFile reads an index, or a database of what is installed, without asking for
// a signature: the user named the file.
func parseIndexFile(flag, name string, data []byte) (index *apk.Index, err error) {
	if isPackedIndex(data) {
		index, err = apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
	} else {
		index, err = apk.ReadIndexText(bytes.NewReader(data), apk.Limits{})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", flag, name, err)
	}
	return index, nil
}

// isPackedIndex tells an APKINDEX.tar.gz or a Packages.adb from the text of an index.
func isPackedIndex(data []byte) bool {
	return bytes.HasPrefix(data, []byte{0x1f, 0x8b}) || bytes.HasPrefix(data, []byte("ADB"))
}

// maxIndexFile bounds a file that is read as an index.
const maxIndexFile = 1 << 30

func readLimited(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIndexFile+1))
	if err == nil && len(data) > maxIndexFile {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxIndexFile)
	}
	return data, err
}

// installedTags reads the tags of a database of what is installed, by name: its lines
// s:TAG, which an index has not.
func installedTags(data []byte) map[string]string {
	tags := map[string]string{}
	if isPackedIndex(data) {
		return tags
	}
	name := ""
	for line := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(line, "P:"); found {
			name = strings.TrimSuffix(rest, "\n")
		} else if rest, found := strings.CutPrefix(line, "s:"); found {
			tags[name] = strings.TrimSuffix(rest, "\n")
		}
	}
	return tags
}

// markInstalled says which packages are installed, and adds the installed packages that
// are none of them.
func (u *asked) markInstalled(installed []*apk.Entry, tags map[string]string, from string) {
	var gone []*solve.Package
	for _, e := range installed {
		found := false
		for _, p := range u.Providers(e.Name) {
			if p.Name != e.Name || p.Version != e.Version {
				continue
			}
			if p.Checksum == e.Checksum || p.Checksum == (apk.Checksum{}) || e.Checksum == (apk.Checksum{}) {
				p.Installed, found = true, true
				// What was installed without a tag keeps none, wherever it came from.
				if tags[e.Name] == "" {
					p.Tag = ""
				}
			}
		}
		if !found {
			gone = append(gone, &solve.Package{Entry: e, Tag: tags[e.Name], From: from, Installed: true, Gone: true})
		}
	}
	u.Union = append(u.Union, solve.NewUniverse(gone))
}

// warnOfDoubles tells where another source has the same name and version with other
// bytes: the order of the sources decided.
func (a *app) warnOfDoubles(solution []*solve.Package, packages *asked) {
	for _, p := range solution {
		for _, q := range packages.Providers(p.Name) {
			if q.Name != p.Name || q == p || q.Version != p.Version || q.From == p.From || q.Arch != p.Arch || q.Checksum == p.Checksum ||
				q.Checksum == (apk.Checksum{}) || p.Checksum == (apk.Checksum{}) {
				continue
			}
			fmt.Fprintln(a.err, plain(fmt.Sprintf("warning: %s has other bytes in %s; that of %s is taken", p.FullName(), q.From, p.From)))
		}
	}
}
