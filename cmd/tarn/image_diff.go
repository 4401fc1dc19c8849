package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/apk"
)

// diffOptions say what is compared and what is minded.
type diffOptions struct {
	lookOptions
	deny   []string
	policy string
}

// The words of --deny.
const (
	denySetuid  = "setuid"
	denyShell   = "shell"
	denyManager = "package-manager"
	denyPackage = "package"
	denyGrowth  = "growth"
)

func (a *app) imageDiffCommand() *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff FROM TO",
		Short: "show what differs between two images",
		Long: `diff compares two images of each architecture that they have: packages, files with their
modes, owners, links and attributes, sonames, files that give rights, configuration, size,
and what their bills of materials say. Its exit code is 0 when nothing differs, 1 when
something does, and 8 when a policy minds. How the files are divided into layers, and how
these are compressed, is told, and is no difference: a container sees the same.

--deny names what TO must not have where FROM has it not: setuid (setuid, setgid and
capabilities), shell, package-manager, package (any further package), growth (growth=10% or
growth=5MB: the files of TO together are larger than those of FROM by more than that).
--policy holds TO against distroless, policy and size-limit of an image file, whatever FROM
has (who signed packages and where they came from is seen when an image is composed alone);
when TO is an image file, its own hold.

` + lookLong,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImageDiff(cmd.Context(), o, args) },
	}
	o.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.files, "files", false, "list every file, however many")
	f.StringSliceVar(&o.deny, "deny", nil, "what TO must not have where FROM has it not: setuid, shell, package-manager, package, growth[=SIZE]")
	f.StringVar(&o.policy, "policy", "", "an image file whose distroless, policy and size-limit TO is held against")
	return cmd
}

// imageDiff is the difference of one architecture.
type imageDiff struct {
	Arch apk.Arch `json:"arch"`
	// Only says which image has this architecture alone, "from" or "to".
	Only string `json:"only,omitempty"`
	*view.Difference
	Minded []images.Reason `json:"minded,omitempty"`
}

func (a *app) runImageDiff(ctx context.Context, o diffOptions, refs []string) error {
	mind, err := parseDenied(o.deny)
	if err != nil {
		return err
	}
	c, err := a.openComposer(o.imageOptions)
	if err != nil {
		return err
	}
	all, err := c.lookAll(ctx, refs, o.insecure)
	if err != nil {
		return err
	}
	from, to := all[0], all[1]
	defer from.close()
	defer to.close()
	mind.spec = to.spec
	if o.policy != "" {
		file, err := c.imageFile(o.policy)
		if err != nil {
			return err
		}
		if mind.spec, err = c.loadImage(file); err != nil {
			return err
		}
	}
	var diffs []imageDiff
	differs, minded := false, 0
	for _, pair := range pairs(from, to) {
		d := imageDiff{Arch: pair.arch, Only: pair.only}
		if pair.only == "" {
			sides := [2]view.Side{{Image: pair.from}, {Image: pair.to}}
			for i := range sides {
				if sides[i].Contents, err = sides[i].Image.Read(ctx); err != nil {
					return err
				}
			}
			d.Difference = view.Compare(sides[0], sides[1])
			d.Minded = mind.reasons(sides[0], sides[1], d.Difference)
			minded += len(d.Minded)
		}
		differs = differs || pair.only != "" || !d.Empty()
		diffs = append(diffs, d)
	}
	if a.json {
		if err := a.printJSON(diffs); err != nil {
			return err
		}
	} else {
		for i := range diffs {
			a.printDiff(&diffs[i], from, to, o.files)
		}
	}
	if minded > 0 {
		refusal := &images.Refusal{Image: to.name()}
		for _, d := range diffs {
			refusal.Reasons = append(refusal.Reasons, d.Minded...)
		}
		return &codeError{exitPolicy, errors.New(denied(refusal))}
	}
	if differs {
		return &codeError{exitFailed, &shownError{errors.New("they differ")}}
	}
	return nil
}

// denied lists what a policy minds, without the hints that are for composing.
func denied(r *images.Refusal) string {
	lines := []string{"the policy minds what is in " + r.Image}
	for _, line := range strings.Split(r.Error(), "\n")[1:] {
		if strings.HasPrefix(line, "  hint: ") {
			break
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// pair are the images of one architecture.
type pair struct {
	arch     apk.Arch
	from, to *view.Image
	only     string
}

// pairs matches images by architecture. Two images of one architecture each are a pair
// whatever it is.
func pairs(from, to *looked) []pair {
	var all []pair
	for _, i := range from.opened.Images {
		p := pair{arch: i.Arch(), from: i, only: "from"}
		if at := slices.IndexFunc(to.opened.Images, func(j *view.Image) bool { return j.Arch() == p.arch }); at >= 0 {
			p.to, p.only = to.opened.Images[at], ""
		}
		all = append(all, p)
	}
	for _, j := range to.opened.Images {
		if !slices.ContainsFunc(all, func(p pair) bool { return p.arch == j.Arch() }) {
			all = append(all, pair{arch: j.Arch(), to: j, only: "to"})
		}
	}
	if len(all) == 2 && len(from.opened.Images) == 1 && len(to.opened.Images) == 1 {
		return []pair{{arch: all[0].arch, from: all[0].from, to: all[1].to}}
	}
	return all
}

// minded says what of an image is minded.
type minded struct {
	rules   map[string]bool
	growth  bool
	bytes   int64   // that it may grow by
	percent float64 // that it may grow by
	spec    *images.Spec
}

func parseDenied(words []string) (*minded, error) {
	m := &minded{rules: map[string]bool{}}
	for _, word := range words {
		name, value, hasValue := strings.Cut(word, "=")
		switch name {
		case denySetuid, denyShell, denyManager, denyPackage:
			if hasValue {
				return nil, usagef("--deny %s takes no value", name)
			}
			m.rules[name] = true
		case denyGrowth:
			m.growth = true
			if number, isPercent := strings.CutSuffix(value, "%"); isPercent {
				percent, err := strconv.ParseFloat(number, 64)
				if err != nil || percent < 0 {
					return nil, usagef("--deny growth=%s: expected a size or a percentage, like 5MB or 10%%", value)
				}
				m.percent = percent
			} else if hasValue {
				size, err := parseSize(value)
				if err != nil {
					return nil, usagef("--deny growth=%s: expected a size or a percentage, like 5MB or 10%%", value)
				}
				m.bytes = size
			}
		default:
			return nil, usagef("--deny %q is none of setuid, shell, package-manager, package, growth", word)
		}
	}
	return m, nil
}

// reasons finds what is minded of the image that was changed to.
func (m *minded) reasons(from, to view.Side, d *view.Difference) []images.Reason {
	var all []images.Reason
	if m.rules[denyPackage] {
		for _, p := range d.Packages {
			if p.Change == view.Added && !images.IsOwnPackage(p.Name) {
				all = append(all, images.Reason{Rule: denyPackage, Package: p.Name + "-" + p.To, Text: "it was not there before"})
			}
		}
	}
	if grown := d.To.Size - d.From.Size; m.growth && grown > m.bytes && float64(grown) > float64(d.From.Size)*m.percent/100 {
		all = append(all, images.Reason{Rule: denyGrowth, Text: fmt.Sprintf("its files grew from %s to %s", shortSize(d.From.Size), shortSize(d.To.Size))})
	}
	before := map[images.Reason]bool{}
	for _, r := range from.Contents.Minded() {
		r.Package, r.Text = "", ""
		before[r] = true
	}
	for _, r := range to.Contents.Minded() {
		known := r
		known.Package, known.Text = "", ""
		word := r.Rule
		if word == "capability" {
			word = denySetuid
		}
		if m.rules[word] && !before[known] {
			all = append(all, r)
		}
	}
	if m.spec == nil {
		return all
	}
	var entries []*apk.Entry
	for i := range to.Contents.Packages {
		p := &to.Contents.Packages[i]
		e := p.Entry
		if e == nil { // of another kind of database
			e = &apk.Entry{Info: apk.Info{Name: p.Name, Version: apk.Version(p.Version), Origin: p.Origin, Licenses: []string{p.License}}}
		}
		entries = append(entries, e)
	}
	for _, r := range m.spec.Minds(to.Contents.Minded(), entries, d.To.Size) {
		if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}

// few is how many lines of one kind are shown without --files.
const few = 40

func (a *app) printDiff(d *imageDiff, from, to *looked, files bool) {
	w := a.out
	head := fmt.Sprintf("%s -> %s (%s)", from.name(), to.name(), d.Arch)
	switch {
	case d.Only != "":
		which := from.name()
		if d.Only == "to" {
			which = to.name()
		}
		fmt.Fprintln(w, plain(fmt.Sprintf("%s: only %s has it", head, which)))
		return
	case d.Empty():
		text := head + ": nothing differs"
		pull := fmt.Sprintf("%s of %s to pull anew", shortSize(d.To.Pull-d.To.Shared), shortSize(d.To.Pull))
		switch {
		case d.Layers:
			text += fmt.Sprintf(" but the layers that it lies in (%d -> %d): %s", d.From.Layers, d.To.Layers, pull)
		case d.Stored:
			text += " but how the layers are compressed: " + pull
		}
		fmt.Fprintln(w, plain(text))
		return
	}
	fmt.Fprintln(w, plain(head))
	rows := [][]string{
		{"", "from", "to", ""},
		{"packages", strconv.Itoa(d.From.Packages), strconv.Itoa(d.To.Packages), signed(int64(d.To.Packages-d.From.Packages), strconv.Itoa(abs(d.To.Packages-d.From.Packages)))},
		{"files", strconv.Itoa(d.From.Files), strconv.Itoa(d.To.Files), signed(int64(d.To.Files-d.From.Files), strconv.Itoa(abs(d.To.Files-d.From.Files)))},
		{"size", shortSize(d.From.Size), shortSize(d.To.Size), signedSize(d.To.Size - d.From.Size)},
		{"layers", strconv.Itoa(d.From.Layers), strconv.Itoa(d.To.Layers), fmt.Sprintf("%s of %s to pull anew", shortSize(d.To.Pull-d.To.Shared), shortSize(d.To.Pull))},
	}
	table(w, map[int]bool{1: true, 2: true, 3: true}, rows)
	printPackages(w, d.Packages)
	if len(d.Rights) > 0 {
		fmt.Fprintln(w, "\nfiles that give rights")
		printFiles(w, d.Rights, len(d.Rights))
	}
	if len(d.Sonames) > 0 {
		fmt.Fprintln(w, "\nsonames")
		for _, s := range d.Sonames {
			fmt.Fprintln(w, plain(fmt.Sprintf("  %s %s  /%s", plusMinus(s.Change), s.Name, strings.Join(s.Paths, " /"))))
		}
	}
	if len(d.Config) > 0 {
		fmt.Fprintln(w, "\nconfiguration")
		for _, v := range d.Config {
			fmt.Fprintln(w, "  "+flat(plain(fmt.Sprintf("%s: %s -> %s", v.Name, cmp.Or(v.From, "none"), cmp.Or(v.To, "none")))))
		}
	}
	if len(d.Files) > 0 {
		fmt.Fprintln(w, "\nfiles")
		if files {
			printFiles(w, d.Files, len(d.Files))
		} else {
			printFiles(w, withPackages(w, d), few)
		}
	}
	printBill(w, d.Bill)
	switch {
	case d.Times > 0:
		fmt.Fprintf(w, "\n%d files differ in their time alone\n", d.Times)
	case d.Layers:
		fmt.Fprintln(w, "\nthe same files lie in other layers")
	}
	fmt.Fprintln(w)
}

func printPackages(w io.Writer, all []view.PackageChange) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, "\npackages")
	var rows [][]string
	for _, p := range all {
		version := cmp.Or(p.To, p.From)
		switch {
		case p.Rebuilt:
			version += " built again"
		case p.Change == view.Changed:
			version = p.From + " -> " + p.To
		}
		rows = append(rows, []string{"  " + plusMinus(p.Change), p.Name, version, signedSize(p.Sizes[1] - p.Sizes[0])})
	}
	table(w, map[int]bool{3: true}, rows)
}

// withPackages tells the files of packages that came or went by one line a package, and
// gives the others.
func withPackages(w io.Writer, d *imageDiff) []view.FileChange {
	of := map[string]string{}
	for _, p := range d.Packages {
		if p.Change != view.Changed {
			of[p.Name] = p.Change
		}
	}
	counts := map[string]int{}
	var others []view.FileChange
	for _, f := range d.Files {
		if owner := cmp.Or(f.To, f.From).Package; owner != "" && of[owner] == f.Change {
			counts[owner]++
		} else {
			others = append(others, f)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintln(w, plain(fmt.Sprintf("  %s %d paths of %s", plusMinus(of[name]), counts[name], name)))
	}
	return others
}

func printFiles(w io.Writer, all []view.FileChange, most int) {
	for i, f := range all {
		if i == most {
			fmt.Fprintf(w, "  and %d more\n  hint: --files lists them\n", len(all)-i)
			return
		}
		text := plusMinus(f.Change) + " /" + f.Path
		state := cmp.Or(f.To, f.From)
		switch f.Change {
		case view.Changed:
			text += "  " + strings.Join(f.What(), ", ")
		default:
			text += fmt.Sprintf("  %s %s %d:%d", state.Type, state.Mode, state.UID, state.GID)
			if state.Target != "" {
				text += " -> " + state.Target
			} else if state.Type == "file" {
				text += " " + shortSize(state.Size)
			}
			if len(state.Attributes) > 0 {
				text += " " + strings.Join(state.Attributes, " ")
			}
		}
		if state.Package != "" {
			text += "  (" + state.Package + ")"
		}
		fmt.Fprintln(w, "  "+flat(plain(text)))
	}
}

// printBill tells what the bills of materials say beyond versions.
func printBill(w io.Writer, all []view.BillChange) {
	var lines []string
	for _, b := range all {
		x, y := b.From, b.To
		switch {
		case x == nil:
			lines = append(lines, fmt.Sprintf("  + %s %s", y.PURL, y.License))
			for _, s := range y.Sources {
				lines = append(lines, "      source "+s)
			}
			continue
		case y == nil:
			lines = append(lines, "  - "+x.PURL)
			continue
		}
		head := len(lines)
		lines = append(lines, "  ~ "+y.PURL)
		if x.License != y.License {
			lines = append(lines, fmt.Sprintf("      licence %s -> %s", cmp.Or(x.License, "none"), cmp.Or(y.License, "none")))
		}
		if x.Checksum != y.Checksum && x.Version == y.Version {
			lines = append(lines, fmt.Sprintf("      checksum %s -> %s", cmp.Or(x.Checksum, "none"), cmp.Or(y.Checksum, "none")))
		}
		for _, s := range x.Sources {
			if !slices.Contains(y.Sources, s) {
				lines = append(lines, "      - source "+s)
			}
		}
		for _, s := range y.Sources {
			if !slices.Contains(x.Sources, s) {
				lines = append(lines, "      + source "+s)
			}
		}
		if len(lines) == head+1 {
			lines = lines[:head] // the list of packages says it
		}
	}
	if len(lines) > 0 {
		fmt.Fprintln(w, "\nbill of materials")
	}
	for _, line := range lines {
		fmt.Fprintln(w, flat(plain(line)))
	}
}

func plusMinus(change string) string {
	switch change {
	case view.Added:
		return "+"
	case view.Removed:
		return "-"
	}
	return "~"
}

func abs(n int) int { return max(n, -n) }

// signed puts the sign of n before a text; nothing where n is 0.
func signed(n int64, text string) string {
	switch {
	case n > 0:
		return "+" + text
	case n < 0:
		return "-" + text
	}
	return ""
}

func signedSize(n int64) string { return signed(n, shortSize(max(n, -n))) }
