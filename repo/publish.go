package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// Unsigned is a package to publish: an entry and where its bytes lie. Signatures that
// they bear are not looked at.
type Unsigned struct {
	Entry  *apk.Entry
	Digest store.Digest
}

// Publish publishes packages to a folder as Publisher does, in the manner of a workspace's
// own repository: what was built anew under the same version takes the place of what was
// there, and an index that cannot be trusted is made anew. It gives the names of the
// files written.
func Publish(ctx context.Context, dir string, st *store.Store, key apk.Signer, verify apk.KeySet, packages []Unsigned) ([]string, error) {
	p := &Publisher{Storage: Folder(dir), Name: dir, Store: st, Keys: []apk.Signer{key}, Trusted: verify, Replace: true, Rebuild: true}
	published, err := p.Publish(ctx, packages)
	return published.Written, err
}

// Publisher changes a repository: it signs packages and puts them there, and then changes
// the index of their architecture in one moment. Whenever a reader looks, each package
// that the index names is there, and is the one that it names.
//
// A package that takes the place of another one of its name and version is not in the
// index while it does so. Who has read an index before that, and asks for the package
// after it, finds another one and is told so, unless snapshots are kept: then the one it
// asks for is kept as well.
//
// Whoever is killed leaves a repository that is whole; who comes next removes what it
// left, and lists again what it had taken out of the index.
type Publisher struct {
	Storage WritableStorage
	Name    string       // how messages call the repository
	Store   *store.Store // where the packages lie
	// Keys sign, each of them, packages and index.
	Keys []apk.Signer
	// Trusted is whose index is carried on, and whose signature on a package is as good
	// as our own.
	Trusted apk.KeySet
	// Time is when this is published. When it is zero the index does not tell, unless the
	// one before it did.
	Time time.Time
	// Replace lets a package take the place of another one of its name and version.
	Replace bool
	// Readmit lets a package be published that was withdrawn.
	Readmit bool
	// Rebuild makes an index that bears no signature of Trusted anew, of the packages that
	// do and are as they were signed. The others stay where they are, unlisted. Else such
	// an index is a *TrustError.
	Rebuild bool
	// Keep is how many versions of each package stay listed; 0 is all.
	Keep int
	// Snapshots is how many of the indexes before this one are kept, with their packages.
	Snapshots int
	// Arches are those that packages for every architecture are published for; none are
	// all that the repository has.
	Arches []apk.Arch
	// Description of the repository, in the index; "" leaves what is there.
	Description string
	// V3 writes Packages.adb beside the index, which is of version 3 of the format and lists
	// packages of both. Where there is one already it is written in any case.
	V3 bool
}

// Published is what Publisher did.
type Published struct {
	Written  []string     // the names of the files of packages, sorted
	Packages int          // how many those are: one for two architectures counts twice, one for all of them once
	Dropped  []string     // packages that the index names no more, as ARCH/NAME-VERSION
	Withheld []Withdrawal // what was not published, for it was withdrawn

	sent []string // what was written, as ARCH/FILE
}

// PolicyError says that something is not done unless it is asked for by a flag.
type PolicyError struct{ Text string }

func (e *PolicyError) Error() string { return e.Text }

// Publish publishes packages. What is there already with the same content and a
// signature of Trusted is left as it is. All is signed before anything is changed. A
// package that would replace another one, or was withdrawn, is a *PolicyError unless that
// is allowed; then nothing is published.
func (p *Publisher) Publish(ctx context.Context, packages []Unsigned) (Published, error) {
	var done Published
	err := p.publish(ctx, packages, &done)
	slices.Sort(done.Written)
	done.Written = slices.Compact(done.Written)
	slices.Sort(done.sent)
	for _, one := range packages {
		name := one.Entry.FileName()
		_, written := slices.BinarySearch(done.sent, string(one.Entry.Arch)+"/"+name)
		if one.Entry.Arch == noArch {
			_, written = slices.BinarySearch(done.Written, name)
		}
		if written {
			done.Packages++
		}
	}
	if err != nil {
		return done, fmt.Errorf("publish to %s: %w", p.Name, err)
	}
	return done, nil
}

func (p *Publisher) publish(ctx context.Context, packages []Unsigned, done *Published) error {
	byArch, err := p.byArch(ctx, packages)
	if err != nil {
		return err
	}
	dir, release, err := p.Store.TempDir("publish")
	if err != nil {
		return err
	}
	defer release()
	ready := map[string]*signed{}
	for _, arch := range slices.Sorted(maps.Keys(byArch)) {
		for _, one := range byArch[arch] {
			if err := p.prepare(ctx, dir, arch, one, ready); err != nil {
				return err
			}
		}
	}
	unlock, err := p.Storage.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// Nothing is changed in any architecture before all of them were looked at.
	var changes []*change
	for _, arch := range slices.Sorted(maps.Keys(byArch)) {
		c, err := p.begin(ctx, arch)
		if err != nil {
			return err
		}
		for _, one := range byArch[arch] {
			name := string(arch) + "/" + one.Entry.FileName()
			if ready[name].path == "" {
				// Nobody held the lock when it was there.
				if err := p.prepare(ctx, dir, arch, one, ready); err != nil {
					return err
				}
			}
			if err := p.add(c, one.Entry, ready[name], done); err != nil {
				return err
			}
		}
		if err := c.refusals.err(); err != nil {
			return err
		}
		c.keepNewest(p.Keep)
		changes = append(changes, c)
	}
	for _, c := range changes {
		// From here on it is putting files, and a stop would only leave more to do later.
		if err := p.commit(context.WithoutCancel(ctx), c, done); err != nil {
			return err
		}
	}
	return nil
}

// byArch sorts packages by the folders they go to.
func (p *Publisher) byArch(ctx context.Context, packages []Unsigned) (map[apk.Arch][]Unsigned, error) {
	all := map[apk.Arch][]Unsigned{}
	var everywhere []Unsigned
	for _, one := range packages {
		if err := checkFileName(one.Entry); err != nil {
			return nil, err
		}
		if one.Entry.Arch == noArch {
			everywhere = append(everywhere, one)
			continue
		}
		if _, err := archFolder(one.Entry.Arch); err != nil {
			return nil, fmt.Errorf("%s: %w", one.Entry.FileName(), err)
		}
		all[one.Entry.Arch] = append(all[one.Entry.Arch], one)
	}
	if len(everywhere) == 0 {
		return all, nil
	}
	arches := p.Arches
	if len(arches) == 0 {
		there, err := Arches(ctx, p.Storage)
		if err != nil {
			return nil, err
		}
		arches = append(there, slices.Collect(maps.Keys(all))...)
	}
	if len(arches) == 0 {
		host, err := apk.ParseArch("host")
		if err != nil {
			return nil, err
		}
		arches = []apk.Arch{host}
	}
	slices.Sort(arches)
	for _, arch := range slices.Compact(arches) {
		for _, one := range everywhere {
			// As abuild does: the file lies in the folder of each architecture, whose index
			// calls it its own. apk-tools 2 would look for it in a folder noarch.
			entry := *one.Entry
			entry.Arch = arch
			all[arch] = append(all[arch], Unsigned{&entry, one.Digest})
		}
	}
	return all, nil
}

// Arches lists the architectures that a storage has indexes of.
func Arches(ctx context.Context, s Lister) ([]apk.Arch, error) {
	names, err := s.List(ctx, ".")
	if err != nil {
		return nil, err
	}
	var arches []apk.Arch
	for _, name := range names {
		arch := apk.Arch(strings.TrimSuffix(name, "/"))
		if _, err := archFolder(arch); err != nil || !strings.HasSuffix(name, "/") {
			continue
		}
		inside, err := s.List(ctx, string(arch))
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(inside, isIndex) {
			arches = append(arches, arch)
		}
	}
	return arches, nil
}

// signed is a package with our signatures, in a file of this machine.
type signed struct {
	path string // "" when what is there is as good
	size int64
}

// prepare signs a package, unless the same is at its place.
func (p *Publisher) prepare(ctx context.Context, dir string, arch apk.Arch, one Unsigned, ready map[string]*signed) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	name := string(arch) + "/" + one.Entry.FileName()
	size, err := p.samePackage(ctx, name, one.Entry)
	if err != nil {
		return err
	}
	if size > 0 {
		ready[name] = &signed{size: size}
		return nil
	}
	unsigned, err := p.Store.Open(one.Digest)
	if err != nil {
		return err
	}
	defer unsigned.Close()
	info, err := unsigned.Stat()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "*.apk")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := apk.ReplaceSignatures(f, unsigned, info.Size(), time.Unix(one.Entry.BuildDate, 0), p.Keys...); err != nil {
		return err
	}
	if info, err = f.Stat(); err != nil {
		return err
	}
	ready[name] = &signed{path: f.Name(), size: info.Size()}
	return f.Close()
}

// samePackage gives the size of a package that is there with the same content and
// signatures of all our keys, or one of Trusted; else 0.
func (p *Publisher) samePackage(ctx context.Context, name string, e *apk.Entry) (int64, error) {
	pkg, size, done, err := p.openPackage(ctx, name)
	if err != nil {
		return 0, err
	}
	defer done()
	if pkg == nil || pkg.Checksum != e.Checksum || pkg.VerifyData() != nil {
		return 0, nil
	}
	if _, err := pkg.VerifySignature(p.Trusted); err != nil {
		return 0, nil
	}
	return size, nil
}

// openPackage opens a package of the repository; nil is one that is not there or none.
func (p *Publisher) openPackage(ctx context.Context, name string) (pkg *apk.Package, size int64, done func(), err error) {
	done = func() {}
	o, err := p.Storage.Open(ctx, name, "")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, done, nil
	}
	if err != nil {
		return nil, 0, done, err
	}
	f, isFile := o.ReadCloser.(*os.File)
	if !isFile {
		defer o.Close()
		if f, err = os.CreateTemp("", "tarn-publish-"); err != nil {
			return nil, 0, done, err
		}
		if err := os.Remove(f.Name()); err != nil {
			return nil, 0, done, err
		}
		if _, err := io.Copy(f, io.LimitReader(o, maxPackageBytes)); err != nil {
			f.Close()
			return nil, 0, done, err
		}
	}
	done = func() { f.Close() }
	info, err := f.Stat()
	if err != nil {
		return nil, 0, done, err
	}
	if pkg, err = apk.ReadPackage(f, info.Size(), apk.Limits{}); err != nil {
		return nil, 0, done, nil
	}
	return pkg, info.Size(), done, nil
}

// change is one change of the index of an architecture. The lock is held while it lives.
type change struct {
	arch    apk.Arch
	files   map[string]*indexFile // the indexes that there are, or are to be, by their names
	before  *apk.Index            // what they list; nil when there was none, or none to be trusted
	index   *apk.Index
	listed  map[string]int  // by file name, in index
	named   map[string]bool // file names that any of the indexes there names
	rest    *removal        // of one who was killed, to be done once the indexes agree
	changed bool

	put       map[string]*signed // by file name
	hide      map[string]bool    // file names that the index must not name while they are put
	dropped   []*apk.Entry
	withdrawn []Withdrawal
	redraw    bool // withdrawn is to be written
	recovered bool // replacingName is to be removed
	refusals  refusals
}

// refusals are what is not done unless a flag asks for it, all of it.
type refusals struct {
	lines []string
	hint  string
}

func (r *refusals) add(hint, format string, args ...any) {
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
	r.hint = hint
}

func (r *refusals) err() error {
	if len(r.lines) == 0 {
		return nil
	}
	return &PolicyError{strings.Join(r.lines, "\n") + "\n  hint: " + r.hint}
}

// replacingName is the file that names the packages which are out of the index while they
// are replaced.
const replacingName = "replacing.json"

// begin reads what is there of an architecture.
func (p *Publisher) begin(ctx context.Context, arch apk.Arch) (*change, error) {
	folder, err := archFolder(arch)
	if err != nil {
		return nil, err
	}
	c := &change{arch: arch, files: map[string]*indexFile{}, put: map[string]*signed{}, hide: map[string]bool{}}
	trusted := p.Trusted
	if trusted == nil {
		trusted = keySets{}
	}
	c.before, c.files, err = readIndexes(ctx, p.Storage, folder, trusted)
	switch {
	case isTrust(err) && p.Rebuild:
		if c.index, err = p.indexOfPackages(ctx, folder); err != nil {
			return nil, err
		}
		c.changed = true
	case isTrust(err):
		return nil, fmt.Errorf("%w\n  hint: trust its key with --keyring-append, or make the index anew of what our keys signed with --rebuild", err)
	case err != nil:
		return nil, err
	case c.before == nil:
		c.index, c.changed = &apk.Index{}, true
	default:
		c.index = &apk.Index{Description: c.before.Description, Entries: slices.Clone(c.before.Entries)}
		// Who publishes with one more key, or one less, wants the index to bear it.
		c.changed = !c.agrees(p.Keys)
	}
	if len(c.files) == 0 {
		c.files[indexName] = &indexFile{}
	}
	if p.V3 && c.files[indexName3] == nil {
		c.files[indexName3], c.changed = &indexFile{}, true
	}
	if p.Description != "" && p.Description != c.index.Description {
		c.index.Description, c.changed = p.Description, true
	}
	c.listed = make(map[string]int, len(c.index.Entries))
	for i, e := range c.index.Entries {
		c.listed[e.FileName()] = i
	}
	c.named = map[string]bool{}
	for _, f := range c.files {
		if f.index != nil {
			for _, e := range f.index.Entries {
				c.named[e.FileName()] = true
			}
		}
	}
	if c.rest, err = readRemoval(ctx, p.Storage, arch); err != nil {
		return nil, err
	}
	if c.rest != nil && len(c.named) == len(c.listed) {
		if err := p.remove(ctx, c, c.rest); err != nil {
			return nil, err
		}
		c.rest = nil
	}
	if c.withdrawn, err = readWithdrawn(ctx, p.Storage, arch); err != nil {
		return nil, err
	}
	for _, w := range c.withdrawn {
		c.drop(w.fileName()) // of one who was killed before the index was written
	}
	return c, p.recover(ctx, c)
}

// readIndexes reads the indexes in a folder, and gives what they list together: packages
// of version 2 as that version's index does, if there is one. Without any index it gives
// nil.
func readIndexes(ctx context.Context, s Storage, folder string, keys apk.KeySet) (*apk.Index, map[string]*indexFile, error) {
	files := map[string]*indexFile{}
	var all *apk.Index
	var untrusted error
	for _, name := range indexNames {
		path := folder + "/" + name
		o, err := s.Open(ctx, path, "")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		f := &indexFile{path: path, version: o.Version}
		f.data, err = readAtMost(o, maxIndexBytes)
		o.Close()
		if err != nil {
			return nil, nil, err
		}
		files[name] = f
		f.index, err = parseIndex(path, f.data, keys)
		switch {
		case isTrust(err):
			untrusted = err
		case err != nil:
			return nil, nil, err
		case all == nil:
			all = &apk.Index{Description: f.index.Description, Time: f.index.Time, Names: f.index.Names, Entries: f.index.Entries}
		default:
			all.Entries = slices.Clone(all.Entries)
			for _, e := range f.index.Entries {
				if e.SHA256 != (apk.SHA256{}) {
					all.Entries = append(all.Entries, e)
				}
			}
		}
	}
	if all != nil && all.Names != "" {
		return nil, nil, fmt.Errorf("%s: its index calls packages %q, and only the names that apk takes for granted are written", folder, all.Names)
	}
	return all, files, untrusted
}

// agrees tells whether the indexes bear signatures of just these keys, and whether that of
// version 3 lists all that there is: who wrote the two may have been killed in between.
func (c *change) agrees(keys []apk.Signer) bool {
	var have, want []string
	for _, k := range keys {
		want = append(want, k.KeyName())
	}
	slices.Sort(want)
	if f := c.files[indexName]; f != nil {
		for _, s := range f.index.Signatures {
			have = append(have, s.KeyName)
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			return false
		}
	}
	f := c.files[indexName3]
	if f == nil {
		return true
	}
	listed := make(map[string]string, len(f.index.Entries))
	for _, e := range f.index.Entries {
		listed[e.FileName()] = e.Identity()
	}
	for _, e := range c.before.Entries {
		if listed[e.FileName()] != e.Identity() {
			return false
		}
	}
	return len(f.index.Entries) == len(c.before.Entries) && len(f.index.Signatures) == len(keys)
}

// recover lists again what a publisher that was killed had taken out of the index: each
// package is there whole, the old or the new one.
func (p *Publisher) recover(ctx context.Context, c *change) error {
	var names []string
	found, err := readJSON(ctx, p.Storage, string(c.arch)+"/"+replacingName, &names)
	if err != nil || !found {
		return err
	}
	c.recovered, c.changed = true, true
	for _, name := range names {
		entry, err := p.signedEntry(ctx, string(c.arch)+"/"+name)
		if err != nil {
			return err
		}
		if entry != nil && entry.FileName() == name && !c.isWithdrawn(entry) {
			entry.Arch = c.arch
			c.list(entry)
		}
	}
	return nil
}

// indexOfPackages lists the packages in a folder that bear a trusted signature.
func (p *Publisher) indexOfPackages(ctx context.Context, folder string) (*apk.Index, error) {
	names, err := p.Storage.List(ctx, folder)
	if err != nil {
		return nil, err
	}
	index := &apk.Index{}
	for _, name := range names {
		if !strings.HasSuffix(name, ".apk") {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		entry, err := p.signedEntry(ctx, folder+"/"+name)
		if err != nil {
			return nil, err
		}
		if entry != nil && entry.FileName() == name && suits(entry.Arch, apk.Arch(folder)) {
			entry.Arch = apk.Arch(folder)
			index.Entries = append(index.Entries, entry)
		}
	}
	return index, nil
}

// signedEntry gives the entry of a package that is what a trusted key signed, else nil.
func (p *Publisher) signedEntry(ctx context.Context, name string) (*apk.Entry, error) {
	pkg, size, done, err := p.openPackage(ctx, name)
	if err != nil {
		return nil, err
	}
	defer done()
	if pkg == nil || pkg.VerifyData() != nil {
		return nil, nil
	}
	if _, err := pkg.VerifySignature(p.Trusted); err != nil {
		return nil, nil
	}
	return apk.EntryOf(pkg, size), nil
}

// add puts a package into a change.
func (p *Publisher) add(c *change, e *apk.Entry, s *signed, done *Published) error {
	name := e.FileName()
	if w := c.withdrawal(e); w != nil {
		if !p.Readmit {
			done.Withheld = append(done.Withheld, *w)
			return nil
		}
		c.withdrawn = slices.DeleteFunc(slices.Clone(c.withdrawn), func(o Withdrawal) bool { return o == *w })
		c.redraw = true
	}
	if e.SHA256 != (apk.SHA256{}) && c.files[indexName3] == nil {
		c.refusals.add("--v3, for an index of that version beside it", "%s is a package of version 3, which %s cannot list", name, indexName)
		return nil
	}
	entry := *e
	entry.FileSize = s.size
	at, found := c.listed[name]
	if found && c.index.Entries[at].Checksum != e.Checksum && !p.Replace {
		c.refusals.add("raise the package's epoch, or --replace", "%s/%s is published with other content: %s there, %s here", c.arch, name, c.index.Entries[at].Checksum, e.Checksum)
		return nil
	}
	if s.path != "" {
		c.put[name] = s
		c.hide[name] = found || c.named[name]
	} else if found && c.index.Entries[at].Checksum != e.Checksum {
		// It lies there, put by one who was killed before the index named it.
		c.hide[name] = true
	}
	c.list(&entry)
	return nil
}

// list lists an entry in the place of one of the same name and version.
func (c *change) list(e *apk.Entry) {
	i, found := c.listed[e.FileName()]
	if !found {
		c.listed[e.FileName()] = len(c.index.Entries)
		c.index.Entries = append(c.index.Entries, e)
		c.changed = true
		return
	}
	old := c.index.Entries[i]
	c.index.Entries[i] = e
	c.changed = c.changed || old.Checksum != e.Checksum || old.FileSize != e.FileSize
}

// drop takes a package out of the index.
func (c *change) drop(name string) {
	at, found := c.listed[name]
	if !found {
		return
	}
	c.dropped = append(c.dropped, c.index.Entries[at])
	c.index.Entries[at] = nil // compact closes the gap
	delete(c.listed, name)
	delete(c.put, name)
	c.changed = true
}

// compact closes the gaps that drop left.
func (c *change) compact() {
	c.index.Entries = slices.DeleteFunc(c.index.Entries, func(e *apk.Entry) bool { return e == nil })
	for i, e := range c.index.Entries {
		c.listed[e.FileName()] = i
	}
}

// keepNewest drops all but the newest versions of each package.
func (c *change) keepNewest(n int) {
	if n <= 0 {
		return
	}
	byName := map[string][]*apk.Entry{}
	for _, e := range c.index.Entries {
		if e != nil {
			byName[e.Name] = append(byName[e.Name], e)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all := byName[name]
		slices.SortStableFunc(all, func(a, b *apk.Entry) int { return b.Version.Compare(a.Version) })
		for _, e := range all[min(n, len(all)):] {
			c.drop(e.FileName())
		}
	}
}

// stamp is when the new index says that it was made: later than the one before it.
func (p *Publisher) stamp(c *change) time.Time {
	at := p.Time.Truncate(time.Second)
	if c.before != nil && !c.before.Time.IsZero() && !at.After(c.before.Time) {
		return c.before.Time.Add(time.Second)
	}
	return at
}

// commit makes a change. Whoever is killed anywhere in it leaves a repository in which
// each package that the index names is there and is the one it names:
//
//	snapshot of the index that was    it and all of its packages are there
//	replacing.json, index without     only if a package is replaced that is listed
//	packages                          none of them is listed with other bytes
//	withdrawn.json                    who comes next drops what stands in it
//	removing.json                     who comes next removes it, but for what is listed
//	index                             in one moment
//	what nobody names any more        snapshots first, then packages
func (p *Publisher) commit(ctx context.Context, c *change, done *Published) error {
	if !c.changed && len(c.put) == 0 && !c.redraw && !c.recovered {
		return nil
	}
	folder := string(c.arch)
	c.compact()
	c.index.Time = p.stamp(c)
	if p.Snapshots > 0 && c.before != nil {
		at, _ := made(c.before)
		to := snapshotPath(at.UTC().Format(snapshotLayout), c.arch)
		for _, name := range slices.Sorted(maps.Keys(c.files)) {
			if c.files[name].data == nil {
				continue
			}
			err := p.Storage.Put(ctx, to+"/"+name, bytes.NewReader(c.files[name].data), Condition{Absent: true})
			if err != nil && !errors.Is(err, ErrChanged) {
				return err
			}
		}
	}
	if err := p.hide(ctx, c); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.put)) {
		if p.Snapshots > 0 {
			if err := p.keepReplaced(ctx, c.arch, name); err != nil {
				return err
			}
		}
		if err := p.putFile(ctx, folder+"/"+name, c.put[name].path); err != nil {
			return err
		}
		done.Written = append(done.Written, name)
		done.sent = append(done.sent, folder+"/"+name)
	}
	if c.redraw {
		if err := p.putJSON(ctx, folder+"/"+withdrawnName, c.withdrawn); err != nil {
			return err
		}
	}
	rest, err := p.unnamed(ctx, c, done)
	if err != nil {
		return err
	}
	if err := p.putIndex(ctx, c, c.index); err != nil {
		return err
	}
	if c.recovered {
		if err := p.Storage.Remove(ctx, folder+"/"+replacingName); err != nil {
			return err
		}
	}
	return p.remove(ctx, c, rest)
}

// hide takes what is to be replaced out of the index.
func (p *Publisher) hide(ctx context.Context, c *change) error {
	var names []string
	for name, is := range c.hide {
		if is && c.before != nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	c.recovered = true
	if err := p.putJSON(ctx, string(c.arch)+"/"+replacingName, names); err != nil {
		return err
	}
	without := &apk.Index{Description: c.index.Description, Time: c.index.Time}
	for _, e := range c.before.Entries {
		if !c.hide[e.FileName()] {
			without.Entries = append(without.Entries, e)
		}
	}
	return p.putIndex(ctx, c, without)
}

// putIndex writes an index in the place of those that were read. Of two, each names only
// what is there, whichever a reader finds.
func (p *Publisher) putIndex(ctx context.Context, c *change, x *apk.Index) error {
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		one := *x
		if name == indexName3 {
			one.Format = apk.V3
		} else {
			one.Entries = slices.DeleteFunc(slices.Clone(x.Entries), func(e *apk.Entry) bool { return e.SHA256 != (apk.SHA256{}) })
		}
		var b bytes.Buffer
		if err := apk.WriteIndex(&b, &one, p.Keys...); err != nil {
			return err
		}
		f, path := c.files[name], string(c.arch)+"/"+name
		if err := p.Storage.Put(ctx, path, &b, Condition{Absent: f.version == "", Version: f.version}); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		o, err := p.Storage.Open(ctx, path, "")
		if err != nil {
			return err
		}
		f.version = o.Version
		if err := o.Close(); err != nil {
			return err
		}
	}
	return nil
}

// keepReplaced keeps the package that is about to be replaced, for those who read an
// index that names it.
func (p *Publisher) keepReplaced(ctx context.Context, arch apk.Arch, name string) error {
	pkg, size, done, err := p.openPackage(ctx, string(arch)+"/"+name)
	if err != nil {
		return err
	}
	defer done()
	if pkg == nil || pkg.VerifyData() != nil {
		return nil
	}
	o, err := p.Storage.Open(ctx, string(arch)+"/"+name, "")
	if err != nil {
		return err
	}
	defer o.Close()
	err = p.Storage.Put(ctx, replacedPath(arch, apk.EntryOf(pkg, size)), o, Condition{Absent: true})
	if errors.Is(err, ErrChanged) {
		return nil
	}
	return err
}

func (p *Publisher) putFile(ctx context.Context, name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.Storage.Put(ctx, name, f, Condition{}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (p *Publisher) putJSON(ctx context.Context, name string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return p.Storage.Put(ctx, name, bytes.NewReader(append(data, '\n')), Condition{})
}

// maxJSONBytes is how long a file of the publishers' own may be.
const maxJSONBytes = 64 << 20

// readJSON reads a file of the publishers' own, if it is there.
func readJSON(ctx context.Context, s Storage, name string, into any) (found bool, err error) {
	o, err := s.Open(ctx, name, "")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer o.Close()
	data, err := readAtMost(o, maxJSONBytes)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return false, fmt.Errorf("%s: %v", name, err)
	}
	return true, nil
}

// readSnapshot reads the indexes of a snapshot; their signatures were checked when it was
// made and are not asked for, as their key may be gone since.
func (p *Publisher) readSnapshot(ctx context.Context, arch apk.Arch, at time.Time) (*apk.Index, error) {
	x, _, err := readIndexes(ctx, p.Storage, snapshotPath(at.Format(snapshotLayout), arch), nil)
	if err == nil && x == nil {
		err = fmt.Errorf("snapshot %s: %w", at.Format(snapshotLayout), fs.ErrNotExist)
	}
	return x, err
}

func isTrust(err error) bool {
	_, is := errors.AsType[*TrustError](err)
	return is
}

// IndexOptions say how IndexFiles makes an index.
type IndexOptions struct {
	// Arch is the one that packages have to suit; "" takes all.
	Arch apk.Arch
	// Merge is an index whose packages are carried on.
	Merge *apk.Index
	// RewriteArch is what the index says of every package; "" is what it says itself.
	RewriteArch apk.Arch
	Description string
	// Format is the version of the index, and Compression that of one of version 3.
	Format      apk.Format
	Compression adb.Compression
}

// IndexFiles makes an index of package files, signed by the keys. What is wrong with a
// package is in the error, for all of them.
func IndexFiles(ctx context.Context, files []string, o IndexOptions, keys ...apk.Signer) ([]byte, *apk.Index, error) {
	c := &change{index: &apk.Index{Format: o.Format, Compression: o.Compression, Description: o.Description}, listed: map[string]int{}}
	if o.Merge != nil {
		if c.index.Description == "" {
			c.index.Description = o.Merge.Description
		}
		for _, e := range o.Merge.Entries {
			c.list(e)
		}
	}
	var wrong []error
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return nil, nil, context.Cause(ctx)
		}
		entry, err := readEntry(name)
		if err == nil {
			err = checkFileName(entry)
		}
		if err == nil && o.Arch != "" && !suits(entry.Arch, o.Arch) {
			err = &TrustError{name, fmt.Sprintf("the package is for %s, not %s", entry.Arch, o.Arch)}
		}
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		if o.RewriteArch != "" {
			entry.Arch = o.RewriteArch
		}
		c.list(entry)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, nil, err
	}
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, c.index, keys...); err != nil {
		return nil, nil, err
	}
	return b.Bytes(), c.index, nil
}

// readEntry reads a package file, all of it. What is wrong with it is a *TrustError.
func readEntry(name string) (*apk.Entry, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, err := checkFile(f, filepath.Clean(name), func(*apk.Info, []string) {})
	if err != nil {
		return nil, err
	}
	return apk.EntryOf(p, info.Size()), nil
}
