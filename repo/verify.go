package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Verified is one thing that Verify looked at.
type Verified struct {
	Name string `json:"name"` // a file of the repository
	Key  string `json:"key"`  // whose signature it bears; "" when it does not hold
	Err  error  `json:"-"`
	Why  string `json:"error,omitempty"`
}

// Finding is something that is wrong with a repository whose bytes are what they should be.
type Finding struct {
	Kind    string `json:"kind"` // dangling, unlisted, withdrawn, arch, conflict, index
	Name    string `json:"name"` // a package or a file
	Text    string `json:"text"`
	Warning bool   `json:"warning,omitempty"` // it may be meant so
}

func (f Finding) String() string {
	text := f.Name + ": " + f.Text
	if f.Warning {
		text = "warning: " + text
	}
	return text
}

// Report is what Verify found for one architecture.
type Report struct {
	Arch     apk.Arch   `json:"arch"`
	Made     time.Time  `json:"made"` // when the index was made, as far as it tells
	Verified []Verified `json:"verified"`
	Findings []Finding  `json:"findings"`
}

// VerifyOptions say what Verify takes into account.
type VerifyOptions struct {
	// With are the packages of other repositories, which may provide what this one needs.
	With []*apk.Entry
	// Jobs is how many packages are looked at at once; 0 is one a processor.
	Jobs int
}

// Verify checks a repository as a whole: the index's signature and age; of every package
// its presence, size, checksum, data, signature, and each of its files; that something
// provides what each needs; and that nothing else lies beside them. All that does not
// hold is in the report: a *TrustError of one Verified, or a Finding. The error is that
// something could not be looked at.
func (r *Repository) Verify(ctx context.Context, arch apk.Arch, o VerifyOptions) (*Report, error) {
	r.mu.Lock()
	file, err := r.readIndexFile(ctx, arch)
	keys := r.keys
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	report := &Report{Arch: arch}
	wrong := func(err error) (*Report, error) {
		report.Verified = []Verified{verified(file.path, "", err)}
		return report, nil
	}
	if keys == nil {
		keys = keySets{}
	}
	key, err := apk.VerifyIndex(file.data, keys)
	if err != nil {
		return wrong(&TrustError{r.location + "/" + file.path, err.Error()})
	}
	index, err := parseIndex(r.location+"/"+file.path, file.data, nil)
	if err != nil {
		return wrong(err)
	}
	r.mu.Lock()
	r.names[arch] = index.Names
	r.mu.Unlock()
	at, said := made(index)
	report.Made = at
	report.Verified = append(report.Verified, verified(file.path, key, r.checkNewest(arch, file, at, said)))
	if folder, isFirst := strings.CutSuffix(file.path, indexName); isFirst {
		if err := r.verifySecond(ctx, folder+indexName3, index, keys, report); err != nil {
			return nil, err
		}
	}
	owners := newOwners(index.Entries)
	found, err := r.verifyPackages(ctx, arch, index.Entries, keys, o.Jobs, owners)
	if err != nil {
		return nil, err
	}
	report.Verified = append(report.Verified, found...)
	report.Findings = append(report.Findings, foreign(arch, index.Entries)...)
	report.Findings = append(report.Findings, dangling(index.Entries, o.With)...)
	report.Findings = append(report.Findings, owners.findings()...)
	beside, err := r.beside(ctx, arch, index.Entries)
	if err != nil {
		return nil, err
	}
	report.Findings = append(report.Findings, beside...)
	return report, nil
}

// VerifyIndexFile checks the signature of an index that is a file, of either version, and
// that it can be read. What does not hold is a *TrustError.
func VerifyIndexFile(f *os.File, name string, keys apk.KeySet) (key string, err error) {
	data, err := readAtMost(f, maxIndexBytes)
	if err == nil {
		key, err = apk.VerifyIndex(data, keys)
	}
	return key, readable(data, name, err)
}

// CheckIndexFile is VerifyIndexFile without a look at the signature.
func CheckIndexFile(f *os.File, name string) error {
	data, err := readAtMost(f, maxIndexBytes)
	return readable(data, name, err)
}

func readable(data []byte, name string, err error) error {
	if err == nil {
		_, err = apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
	}
	if err != nil {
		return &TrustError{strings.TrimSpace(name), err.Error()}
	}
	return nil
}

// verifySecond checks the index of version 3 beside one of version 2: both list the same
// packages of version 2. It adds what it lists of version 3 to the entries of index.
func (r *Repository) verifySecond(ctx context.Context, path string, index *apk.Index, keys apk.KeySet, report *Report) error {
	data, err := readFile(ctx, r.storage, path, maxIndexBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read index %s/%s: %w", r.location, path, err)
	}
	key, err := apk.VerifyIndex(data, keys)
	if err != nil {
		report.Verified = append(report.Verified, verified(path, "", &TrustError{r.location + "/" + path, err.Error()}))
		return nil
	}
	second, err := parseIndex(r.location+"/"+path, data, nil)
	report.Verified = append(report.Verified, verified(path, key, err))
	if err != nil {
		return nil
	}
	there := make(map[string]*apk.Entry, len(second.Entries))
	for _, e := range second.Entries {
		there[e.FileName()] = e
	}
	for _, e := range index.Entries {
		switch other := there[e.FileName()]; {
		case other == nil:
			report.Findings = append(report.Findings, Finding{Kind: "index", Name: e.FullName(), Text: path + " does not list it"})
		case other.Identity() != e.Identity() || other.FileSize != e.FileSize:
			report.Findings = append(report.Findings, Finding{Kind: "index", Name: e.FullName(), Text: path + " lists another one"})
		}
		delete(there, e.FileName())
	}
	for _, e := range second.Entries {
		if there[e.FileName()] == nil {
			continue
		}
		if e.SHA256 == (apk.SHA256{}) {
			report.Findings = append(report.Findings, Finding{Kind: "index", Name: e.FullName(), Text: path + " alone lists it"})
		}
		index.Entries = append(index.Entries, e)
	}
	return nil
}

func verified(name, key string, err error) Verified {
	v := Verified{Name: name, Key: key, Err: err}
	if err != nil {
		v.Why, v.Key = err.Error(), ""
	}
	return v
}

// verifyPackages looks at all packages, several at once, and tells of them in their order.
func (r *Repository) verifyPackages(ctx context.Context, arch apk.Arch, entries []*apk.Entry, keys apk.KeySet, jobs int, o *owners) ([]Verified, error) {
	if jobs <= 0 {
		jobs = runtime.NumCPU()
	}
	all := make([]Verified, len(entries))
	group, going := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for i, e := range entries {
		if going.Err() != nil {
			break
		}
		group.Go(func() error {
			key, err := r.verifyPackage(going, arch, e, keys, func(info *apk.Info, paths []string) { o.add(i, info, paths) })
			if err != nil && !isTrust(err) {
				// It could not be looked at, which says nothing about it.
				return fmt.Errorf("verify %s: %w", e.FileName(), err)
			}
			all[i] = verified(string(arch)+"/"+e.FileName(), key, err)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return all, context.Cause(ctx)
}

func (r *Repository) verifyPackage(ctx context.Context, arch apk.Arch, e *apk.Entry, keys apk.KeySet, owns func(info *apk.Info, paths []string)) (string, error) {
	f, err := os.CreateTemp("", "tarn-verify-")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return "", err
	}
	err = r.fetch(ctx, f, arch, e)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &TrustError{e.FileName(), "the index names it and it is not there"}
	}
	if err != nil {
		return "", err
	}
	var told apk.Info
	key, err := verifyFile(f, e.FileName(), keys, func(info *apk.Info, paths []string) {
		told = *info
		owns(info, paths)
	})
	if err != nil {
		return "", err
	}
	return key, agrees(e, &told)
}

// agrees checks that an index says of a package's needs what the package says, as what is
// chosen by the one is installed by the other. What else they tell is for people, and tools
// have written some of it differently.
func agrees(e *apk.Entry, told *apk.Info) error {
	if e.Malformed != "" {
		return nil // what could be read of it is not all
	}
	for _, list := range []struct {
		what         string
		index, there []apk.Dependency
	}{{"depends", e.Depends, told.Depends}, {"provides", e.Provides, told.Provides}} {
		index, there := words(list.index), words(list.there)
		if !slices.Equal(index, there) {
			return &TrustError{e.FileName(), fmt.Sprintf("%s does not match the index: expected %q, found %q", list.what, strings.Join(index, " "), strings.Join(there, " "))}
		}
	}
	return nil
}

// words are dependencies as text, each once, in the order of the alphabet.
func words(list []apk.Dependency) []string {
	all := make([]string, len(list))
	for i, d := range list {
		all[i] = d.String()
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// VerifyFile checks a package's data, each of its files, and its signature. What does not
// hold is a *TrustError.
func VerifyFile(f *os.File, name string, keys apk.KeySet) (key string, err error) {
	return verifyFile(f, name, keys, func(*apk.Info, []string) {})
}

// CheckFile is VerifyFile without a look at the signature.
func CheckFile(f *os.File, name string) error {
	_, err := checkFile(f, name, func(*apk.Info, []string) {})
	return err
}

func verifyFile(f *os.File, name string, keys apk.KeySet, owns func(info *apk.Info, paths []string)) (key string, err error) {
	p, err := checkFile(f, name, owns)
	if err != nil {
		return "", err
	}
	if key, err = p.VerifySignature(keys); err != nil {
		return "", &TrustError{strings.TrimSpace(name), err.Error()}
	}
	return key, nil
}

func checkFile(f *os.File, name string, owns func(info *apk.Info, paths []string)) (*apk.Package, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err == nil {
		var paths []string
		err = p.Files(func(file *apk.File, content io.Reader) error {
			if file.Type != apk.TypeDir {
				paths = append(paths, file.Path)
			}
			_, err := io.Copy(io.Discard, content)
			return err
		})
		owns(&p.Info, paths)
	}
	if err != nil {
		return nil, &TrustError{strings.TrimSpace(name), err.Error()}
	}
	return p, nil
}

// foreign finds packages that an index lists and that are for another architecture.
func foreign(arch apk.Arch, entries []*apk.Entry) []Finding {
	var found []Finding
	for _, e := range entries {
		if !suits(e.Arch, arch) {
			found = append(found, Finding{Kind: "arch", Name: e.FullName(), Text: fmt.Sprintf("it is for %s and listed for %s", e.Arch, arch)})
		}
	}
	return found
}

// newest tells of each entry whether none of its name is newer.
func newest(entries []*apk.Entry) []bool {
	best := map[string]int{}
	for i, e := range entries {
		if j, found := best[e.Name]; !found || e.Version.Compare(entries[j].Version) > 0 {
			best[e.Name] = i
		}
	}
	is := make([]bool, len(entries))
	for _, i := range best {
		is[i] = true
	}
	return is
}

// dangling finds what packages need and nobody provides. Of an older version it is a
// warning: what it needs may have become old before it.
func dangling(entries, with []*apk.Entry) []Finding {
	provided := map[string][]apk.Version{}
	for _, some := range [][]*apk.Entry{entries, with} {
		for _, e := range some {
			provided[e.Name] = append(provided[e.Name], e.Version)
			for _, p := range e.Provides {
				provided[p.Name] = append(provided[p.Name], p.Version)
			}
		}
	}
	isNewest := newest(entries)
	var found []Finding
	for i, e := range entries {
		for _, d := range e.Depends {
			if d.Conflict || slices.ContainsFunc(provided[d.Name], d.Matches) {
				continue
			}
			text := fmt.Sprintf("nothing provides %s, which it needs", d)
			if there := provided[d.Name]; len(there) > 0 {
				text += fmt.Sprintf(" (there is %s)", versions(there))
			}
			found = append(found, Finding{Kind: "dangling", Name: e.FullName(), Text: text, Warning: !isNewest[i]})
		}
	}
	return found
}

// versions lists some versions, each once.
func versions(all []apk.Version) string {
	all = slices.Clone(all)
	slices.SortFunc(all, apk.Version.Compare)
	all = slices.Compact(all)
	var text []string
	for _, v := range all[max(0, len(all)-3):] {
		if v != "" {
			text = append(text, string(v))
		}
	}
	if len(text) == 0 {
		return "one without a version"
	}
	return strings.Join(text, ", ")
}

// owners collects which packages bring which files. Only the newest version of each is
// looked at. A path is kept by its hash: a distribution has millions of them.
type owners struct {
	entries []*apk.Entry
	look    []bool
	seed    maphash.Seed

	mu     sync.Mutex
	first  map[uint64]int32
	shared map[string][]int32 // the packages that bring a path, where there are several
}

func newOwners(entries []*apk.Entry) *owners {
	return &owners{entries: slices.Clone(entries), look: newest(entries), seed: maphash.MakeSeed(), first: map[uint64]int32{}, shared: map[string][]int32{}}
}

// add takes the files of the package of an entry.
func (o *owners) add(i int, info *apk.Info, paths []string) {
	if !o.look[i] {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	// An index does not tell what a package replaces.
	o.entries[i] = &apk.Entry{Info: *info}
	for _, path := range paths {
		h := maphash.String(o.seed, path)
		first, found := o.first[h]
		switch {
		case !found:
			o.first[h] = int32(i)
		case o.shared[path] == nil:
			o.shared[path] = []int32{first, int32(i)}
		default:
			o.shared[path] = append(o.shared[path], int32(i))
		}
	}
}

// findings tells of packages that cannot be installed beside each other and do not say so.
func (o *owners) findings() []Finding {
	pairs := map[[2]int32][]string{}
	for path, all := range o.shared {
		slices.Sort(all)
		for i, a := range all {
			for _, b := range all[i+1:] {
				pairs[[2]int32{a, b}] = append(pairs[[2]int32{a, b}], path)
			}
		}
	}
	var found []Finding
	for pair, paths := range pairs {
		a, b := o.entries[pair[0]], o.entries[pair[1]]
		if exclude(a, b) || exclude(b, a) {
			continue
		}
		slices.Sort(paths)
		text := fmt.Sprintf("/%s is also in %s", paths[0], b.FullName())
		if more := len(paths) - 1; more > 0 {
			text += fmt.Sprintf(", and %d more", more)
		}
		found = append(found, Finding{Kind: "conflict", Name: a.FullName(), Text: text, Warning: true})
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Name+a.Text, b.Name+b.Text) })
	return found
}

// exclude tells whether a says that its files replace those of b, or that it is not
// installed beside b.
func exclude(a, b *apk.Entry) bool {
	for _, r := range a.Replaces {
		if r.Name == b.Name && r.Matches(b.Version) {
			return true
		}
	}
	for _, d := range a.Depends {
		if d.Conflict && d.Name == b.Name && d.Matches(b.Version) {
			return true
		}
	}
	for _, p := range a.Provides {
		// apk installs one provider of a name with a version, whatever the version.
		if p.Op == apk.Any {
			continue
		}
		if p.Name == b.Name || slices.ContainsFunc(b.Provides, func(q apk.Dependency) bool { return q.Name == p.Name && q.Op != apk.Any }) {
			return true
		}
	}
	return false
}

// beside finds packages that lie in the folder of an architecture and are not listed, nor
// in a snapshot, and those that are listed and were withdrawn.
func (r *Repository) beside(ctx context.Context, arch apk.Arch, entries []*apk.Entry) ([]Finding, error) {
	var found []Finding
	withdrawn, err := r.Withdrawn(ctx, arch)
	if err != nil {
		return nil, err
	}
	listed := make(map[string]bool, len(entries))
	for _, e := range entries {
		listed[e.FileName()] = true
	}
	for _, w := range withdrawn {
		if listed[w.fileName()] {
			found = append(found, Finding{Kind: "withdrawn", Name: w.Name + "-" + string(w.Version), Text: "it was withdrawn, and the index names it"})
		}
	}
	lister, can := r.storage.(Lister)
	if !can || r.snapshot != "" {
		return found, nil
	}
	names, err := lister.List(ctx, string(arch))
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".apk") || listed[n] })
	if len(names) == 0 {
		return found, nil
	}
	times, err := Snapshots(ctx, lister, arch)
	if err != nil {
		return nil, err
	}
	for _, at := range times {
		old, _, err := readIndexes(ctx, r.storage, snapshotPath(at.Format(snapshotLayout), arch), nil)
		if err != nil {
			return nil, err
		}
		if old == nil {
			continue
		}
		for _, e := range old.Entries {
			listed[e.FileName()] = true
		}
	}
	for _, name := range names {
		if !listed[name] {
			found = append(found, Finding{Kind: "unlisted", Name: string(arch) + "/" + name, Text: "it lies there, and the index does not name it", Warning: true})
		}
	}
	return found, nil
}
