package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
	"github.com/tarn-build/tarn/repo/storagetest"
)

// newKey is a key by another name than those of keys.
var newKey = sync.OnceValue(func() *sign.Key {
	key, err := sign.Generate("new.rsa", 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func publisher(t testing.TB, s repo.WritableStorage, st *store.Store, signing ...*sign.Key) *repo.Publisher {
	t.Helper()
	p := &repo.Publisher{Storage: s, Name: "test", Store: st, Trusted: &sign.Keyring{}, Time: time.Unix(1_800_000_000, 0)}
	if len(signing) == 0 {
		signing = []*sign.Key{keys()[0]}
	}
	for _, key := range signing {
		p.Keys = append(p.Keys, key)
		if err := p.Trusted.(*sign.Keyring).Add(key.Public()); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func mustPublish(t testing.TB, p *repo.Publisher, packages ...repo.Unsigned) repo.Published {
	t.Helper()
	done, err := p.Publish(t.Context(), packages)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// listed are the packages that a storage's index names, sorted.
func listed(t testing.TB, s repo.Storage, key *sign.Key) []string {
	t.Helper()
	return names(t, repo.OpenStorage("test", s, repo.Options{Keys: ring(t, key)}))
}

// whole tells what is wrong with a storage at this moment.
func whole(t testing.TB, s repo.Storage) []string {
	t.Helper()
	r := repo.OpenStorage("test", s, repo.Options{Keys: ring(t, keys()[0])})
	report, err := r.Verify(t.Context(), arch, repo.VerifyOptions{})
	if err != nil {
		if strings.Contains(err.Error(), "does not exist") {
			return nil // nothing was published yet
		}
		t.Fatal(err)
	}
	var wrong []string
	for _, v := range report.Verified {
		if v.Err != nil {
			wrong = append(wrong, v.Err.Error())
		}
	}
	return wrong
}

// Adding one package to a repository of many reads that one, of those there.
func TestPublishReadsOnePackage(t *testing.T) {
	m, st := new(storagetest.Memory), openStore(t)
	manyPackages(t, m, 50_000)
	m.Calls()
	mustPublish(t, publisher(t, m, st), unsigned(t, st, "one", "1-r0", "usr/one", "one"))
	want := map[string]int{
		"Open x86_64/one-1-r0.apk": 1, "Put x86_64/one-1-r0.apk": 1, // is it there already?
		"Open x86_64/APKINDEX.tar.gz": 2, "Put x86_64/APKINDEX.tar.gz": 1,
		"Open x86_64/withdrawn.json": 1, "Open x86_64/replacing.json": 1, "Open x86_64/removing.json": 1,
		"Open x86_64/Packages.adb": 1, // it is kept up where it is there
		"Put .lock":                1, "Remove .lock": 1,
	}
	if diff := cmp.Diff(want, m.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if got := len(listed(t, m, keys()[0])); got != 50_001 {
		t.Errorf("%d packages, want 50001", got)
	}
}

// manyPackages makes an index of packages whose files are not there.
func manyPackages(t testing.TB, s repo.WritableStorage, n int) {
	t.Helper()
	x := &apk.Index{}
	for i := range n {
		e := &apk.Entry{Info: apk.Info{Name: fmt.Sprintf("package-%05d", i), Version: apk.Version(fmt.Sprintf("%d.%d-r%d", i%9, i%31, i%3)), Arch: arch, Description: "a package of many", URL: "https://example.org",
			Licenses: []string{"MIT"}, Origin: fmt.Sprintf("package-%05d", i/3), BuildDate: 1_700_000_000 + int64(i), Size: 1000}, FileSize: 500}
		for j := range 5 {
			e.Depends = append(e.Depends, apk.Dependency{Name: fmt.Sprintf("so:lib%d.so.%d", (i*7+j*13)%n, j)})
		}
		e.Checksum[0], e.Checksum[1], e.Checksum[2], e.Checksum[3] = byte(i), byte(i>>8), byte(i>>16), 1
		x.Entries = append(x.Entries, e)
	}
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, x, keys()[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "x86_64/APKINDEX.tar.gz", &b, repo.Condition{}); err != nil {
		t.Fatal(err)
	}
}

// What is published is not replaced unless that is asked for, and then nothing of what was
// to be published is.
func TestReplacing(t *testing.T) {
	m, st := new(storagetest.Memory), openStore(t)
	p := publisher(t, m, st)
	mustPublish(t, p, unsigned(t, st, "a", "1-r0", "usr/a", "old"), unsigned(t, st, "b", "1-r0", "usr/b", "old"))
	next := []repo.Unsigned{unsigned(t, st, "a", "1-r0", "usr/a", "new"), unsigned(t, st, "b", "1-r0", "usr/b", "new"), unsigned(t, st, "c", "1-r0", "usr/c", "new")}
	m.Calls()
	_, err := p.Publish(t.Context(), next)
	if _, is := errors.AsType[*repo.PolicyError](err); !is || strings.Count(err.Error(), "is published with other content") != 2 || !strings.Contains(err.Error(), "hint: raise the package's epoch") {
		t.Errorf("got %v, want both packages refused", err)
	}
	for call := range m.Calls() {
		if strings.HasPrefix(call, "Put x86_64") {
			t.Errorf("%s although it was refused", call)
		}
	}
	p.Replace = true
	if done := mustPublish(t, p, next...); len(done.Written) != 3 {
		t.Errorf("written: %v", done.Written)
	}
	if wrong := whole(t, m); len(wrong) > 0 {
		t.Error(wrong)
	}
	if done := mustPublish(t, p, next...); len(done.Written) != 0 {
		t.Errorf("published again: %v", done.Written)
	}
}

var errCut = errors.New("the power is gone")

// watched looks at a storage after each of its changes, and cuts the power before the one
// that is counted to.
type watched struct {
	*storagetest.Memory
	left  int
	after func()
}

func (w *watched) change(do func() error) error {
	if w.left--; w.left < 0 {
		return errCut
	}
	err := do()
	if w.left == 0 { // what comes before it was looked at when an earlier change was the last
		w.after()
	}
	return err
}

func (w *watched) Put(ctx context.Context, name string, content io.Reader, when repo.Condition) error {
	return w.change(func() error { return w.Memory.Put(ctx, name, content, when) })
}

func (w *watched) Remove(ctx context.Context, name string) error {
	return w.change(func() error { return w.Memory.Remove(ctx, name) })
}

// TestPowerCut ends a publisher before each of its changes in turn. At no moment does an
// index name what is not there, and who comes next mends what is left.
func TestPowerCut(t *testing.T) {
	st := openStore(t)
	pkg := func(name, version, content string) repo.Unsigned {
		return unsigned(t, st, name, version, "usr/"+name, content)
	}
	a1, a1new, a2, a3 := pkg("a", "1-r0", "one"), pkg("a", "1-r0", "other"), pkg("a", "2-r0", "two"), pkg("a", "3-r0", "three")
	b, last := pkg("b", "1-r0", "b"), pkg("last", "1-r0", "last")
	story := func(p *repo.Publisher) error {
		ctx := context.Background()
		steps := []func() error{
			func() error { _, err := p.Publish(ctx, []repo.Unsigned{a1, b}); return err },
			func() error { _, err := p.Publish(ctx, []repo.Unsigned{a1new, a2}); return err },
			func() error {
				_, err := p.Withdraw(ctx, []repo.Withdrawal{{Name: "b", Version: "1-r0", Reason: "broken"}})
				return err
			},
			func() error { _, err := p.Publish(ctx, []repo.Unsigned{a3}); return err },
			func() error {
				times, err := repo.Snapshots(ctx, p.Storage, arch)
				if err == nil {
					_, err = p.Rollback(ctx, times[0])
				}
				return err
			},
			func() error { _, err := p.Publish(ctx, []repo.Unsigned{a3, a1new, b}); return err },
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	}
	// With an index of version 3 beside it, of which the same is asked.
	for _, v3 := range []bool{false, true} {
		cutAtEach(t, st, story, last, v3)
	}
}

// cutAtEach runs a story once for each of its changes, and cuts the power before it.
func cutAtEach(t *testing.T, st *store.Store, story func(p *repo.Publisher) error, last repo.Unsigned, v3 bool) {
	for cut := 0; ; cut++ {
		m := new(storagetest.Memory)
		w := &watched{Memory: m, left: cut, after: func() {
			if wrong := whole(t, m); len(wrong) > 0 {
				t.Fatalf("cut %d: at a moment: %q", cut, wrong)
			}
		}}
		p := publisher(t, w, st)
		p.Replace, p.Readmit, p.Snapshots, p.Keep, p.V3 = true, true, 2, 2, v3
		err := story(p)
		if err != nil && !errors.Is(err, errCut) {
			t.Fatalf("cut %d: %v", cut, err)
		}
		p.Storage = m
		mustPublish(t, p, last)
		if wrong := whole(t, m); len(wrong) > 0 {
			t.Errorf("cut %d: in the end: %q", cut, wrong)
		}
		got := listed(t, m, keys()[0])
		if !slices.Contains(got, "last-1-r0") {
			t.Errorf("cut %d: %v, want last-1-r0 too", cut, got)
		}
		beside, listErr := m.List(t.Context(), "x86_64")
		if listErr != nil {
			t.Fatal(listErr)
		}
		for _, name := range beside {
			if name == "replacing.json" || name == "removing.json" {
				t.Errorf("cut %d: there is %s", cut, name)
			}
		}
		if err == nil {
			if want := []string{"a-1-r0", "a-3-r0", "b-1-r0", "last-1-r0"}; !cmp.Equal(got, want) && !cmp.Equal(got, []string{"a-2-r0", "a-3-r0", "b-1-r0", "last-1-r0"}) {
				t.Errorf("in the end: %v, want %v", got, want)
			}
			t.Logf("%d changes", cut)
			return
		}
	}
}

func TestKeep(t *testing.T) {
	for _, snapshots := range []int{0, 5} {
		m, st := new(storagetest.Memory), openStore(t)
		p := publisher(t, m, st)
		p.Keep, p.Snapshots = 2, snapshots
		for _, version := range []string{"1-r0", "1-r9", "1-r10", "2_rc1-r0", "2-r0"} {
			mustPublish(t, p, unsigned(t, st, "a", version, "usr/a", version))
		}
		mustPublish(t, p, unsigned(t, st, "b", "1-r0", "usr/b", "b"))
		if diff := cmp.Diff([]string{"a-2-r0", "a-2_rc1-r0", "b-1-r0"}, listed(t, m, keys()[0])); diff != "" {
			t.Errorf("listed (-want +got):\n%s", diff)
		}
		there, err := m.List(t.Context(), "x86_64")
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(there, "a-1-r0.apk"); got != (snapshots > 0) {
			t.Errorf("with %d snapshots: a-1-r0.apk is there: %v", snapshots, got)
		}
		// An older one than those that are kept is not listed at all.
		if done := mustPublish(t, p, unsigned(t, st, "a", "0-r0", "usr/a", "0")); len(done.Written) != 0 {
			t.Errorf("written: %v", done.Written)
		}
	}
}

func TestWithdraw(t *testing.T) {
	m, st := new(storagetest.Memory), openStore(t)
	p := publisher(t, m, st)
	a, b := unsigned(t, st, "a", "1-r0", "usr/a", "a"), unsigned(t, st, "b", "1-r0", "usr/b", "b")
	mustPublish(t, p, a, b)
	why := repo.Withdrawal{Name: "a", Version: "1-r0", Reason: "it eats files"}
	if _, err := p.Withdraw(t.Context(), []repo.Withdrawal{why, {Name: "a", Version: "2-r0"}}); err == nil || !strings.Contains(err.Error(), "no package a=2-r0 is listed") {
		t.Errorf("got %v", err)
	}
	if got := listed(t, m, keys()[0]); len(got) != 2 {
		t.Errorf("a part of it was withdrawn: %v", got)
	}
	done, err := p.Withdraw(t.Context(), []repo.Withdrawal{why})
	if err != nil || !cmp.Equal(done.Dropped, []string{"x86_64/a-1-r0"}) {
		t.Errorf("got %v, %v", done.Dropped, err)
	}
	if _, err := m.Open(t.Context(), "x86_64/a-1-r0.apk", ""); err == nil {
		t.Error("the package is still to be had")
	}
	// It does not come back by itself.
	if done := mustPublish(t, p, a, b); !cmp.Equal(done.Withheld, []repo.Withdrawal{why}) || len(done.Written) > 0 {
		t.Errorf("published again: %+v", done)
	}
	if got := listed(t, m, keys()[0]); !cmp.Equal(got, []string{"b-1-r0"}) {
		t.Errorf("listed: %v", got)
	}
	p.Readmit = true
	mustPublish(t, p, a)
	p.Readmit = false
	mustPublish(t, p, unsigned(t, st, "c", "1-r0", "usr/c", "c"))
	if got := listed(t, m, keys()[0]); len(got) != 3 {
		t.Errorf("listed: %v", got)
	}
}

func TestRollback(t *testing.T) {
	m, st := new(storagetest.Memory), openStore(t)
	p := publisher(t, m, st)
	p.Snapshots, p.Replace, p.Keep = 9, true, 1
	at := func(seconds int64) time.Time { return time.Unix(1_800_000_000+seconds, 0).UTC() }
	for i, some := range [][]repo.Unsigned{
		{unsigned(t, st, "a", "1-r0", "usr/a", "one"), unsigned(t, st, "w", "1-r0", "usr/w", "w")},
		{unsigned(t, st, "a", "1-r0", "usr/a", "other")},
		{unsigned(t, st, "a", "2-r0", "usr/a", "two"), unsigned(t, st, "b", "1-r0", "usr/b", "b")},
	} {
		p.Time = at(int64(100 * i))
		mustPublish(t, p, some...)
	}
	if _, err := p.Withdraw(t.Context(), []repo.Withdrawal{{Name: "w", Version: "1-r0"}}); err != nil {
		t.Fatal(err)
	}
	content := func(s repo.Storage, location string) string {
		r := repo.OpenStorage("test", s, repo.Options{Keys: ring(t, keys()[0])})
		all, err := fetchAll(t, r)
		if err != nil {
			t.Fatalf("%s: %v", location, err)
		}
		return fmt.Sprint(all["a-1-r0"], all["a-2-r0"], slices.Sorted(maps.Keys(all)))
	}
	if _, err := p.Rollback(t.Context(), at(-1)); err == nil || !strings.Contains(err.Error(), "no snapshot of") {
		t.Errorf("before the beginning: got %v", err)
	}
	for _, test := range []struct {
		to   int64
		want string
	}{
		{199, "map[usr/a:other] map[] [a-1-r0]"},
		{0, "map[usr/a:one] map[] [a-1-r0]"},
		{201, "map[] map[usr/a:two] [a-2-r0 b-1-r0]"},
	} {
		before := indexTime(t, m)
		done, err := p.Rollback(t.Context(), at(test.to))
		if err != nil {
			t.Fatalf("to %d: %v", test.to, err)
		}
		if got := content(m, "now"); got != test.want {
			t.Errorf("to %d: got %s, want %s", test.to, got, test.want)
		}
		if now := indexTime(t, m); !now.After(before) {
			t.Errorf("to %d: the index is of %s, and the one before it of %s", test.to, now, before)
		}
		if wrong := whole(t, m); len(wrong) > 0 {
			t.Errorf("to %d: %q", test.to, wrong)
		}
		if test.to < 200 && (len(done) != 1 || len(done[0].Withheld) != 1) {
			t.Errorf("to %d: %+v, want w withheld", test.to, done)
		}
	}
}

// What was withdrawn and published anew with other content can't come back: its file went
// when it was withdrawn. The rollback brings all else, and tells of it.
func TestRollbackBeforeWithdrawal(t *testing.T) {
	m, st := new(storagetest.Memory), openStore(t)
	p := publisher(t, m, st)
	p.Snapshots, p.Replace, p.Readmit = 9, true, true
	at := func(seconds int64) time.Time { return time.Unix(1_800_000_000+seconds, 0).UTC() }
	p.Time = at(0)
	mustPublish(t, p, unsigned(t, st, "a", "1-r0", "usr/a", "one"), unsigned(t, st, "b", "1-r0", "usr/b", "b"))
	p.Time = at(100)
	if _, err := p.Withdraw(t.Context(), []repo.Withdrawal{{Name: "a", Version: "1-r0"}}); err != nil {
		t.Fatal(err)
	}
	p.Time = at(200)
	mustPublish(t, p, unsigned(t, st, "a", "1-r0", "usr/a", "other"))
	done, err := p.Rollback(t.Context(), at(0))
	if err != nil {
		t.Fatal(err)
	}
	if len(done) != 1 || done[0].Packages != 1 || len(done[0].Withheld) != 1 || done[0].Withheld[0].Name != "a" {
		t.Errorf("got %+v, want a withheld", done)
	}
	if wrong := whole(t, m); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
}

func indexTime(t testing.TB, s repo.Storage) time.Time {
	t.Helper()
	data, _ := storagetest.Read(t, s, "x86_64/APKINDEX.tar.gz")
	x, err := apk.ReadIndex(strings.NewReader(data), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return x.Time
}

// A key is changed for another one, and at no time does a reader that trusts one of them
// have to do anything at once.
func TestRotation(t *testing.T) {
	m, st := new(storagetest.Memory), openStore(t)
	oldKey, key := keys()[0], newKey()
	a, b := unsigned(t, st, "a", "1-r0", "usr/a", "a"), unsigned(t, st, "b", "1-r0", "usr/b", "b")
	mustPublish(t, publisher(t, m, st, oldKey), a)
	reads := func(key *sign.Key, want int) {
		t.Helper()
		all, err := fetchAll(t, repo.OpenStorage("test", m, repo.Options{Keys: ring(t, key)}))
		if err != nil && !isTrust(err) || len(all) != want {
			t.Errorf("%s reads %d packages, %v; want %d", key, len(all), err, want)
		}
	}
	// The new key alone does not drop what the old one signed.
	if _, err := publisher(t, m, st, key).Publish(t.Context(), []repo.Unsigned{b}); !isTrust(err) || !strings.Contains(err.Error(), "--keyring-append") {
		t.Errorf("got %v, want that the index is not trusted, and what to do", err)
	}
	mustPublish(t, publisher(t, m, st, oldKey, key), b)
	reads(oldKey, 2)
	reads(key, 2)
	p := publisher(t, m, st, key)
	if err := p.Trusted.(*sign.Keyring).Add(oldKey.Public()); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, p, a, b)
	reads(oldKey, 0)
	reads(key, 2)
	mustPublish(t, publisher(t, m, st, key), a, b)
}

// Packages for every architecture go to each, and are found there.
func TestNoArch(t *testing.T) {
	m, st := new(storagetest.Memory), openStore(t)
	p := publisher(t, m, st)
	of := func(arch apk.Arch, name string) repo.Unsigned {
		data := apktest.Write(t, apk.Info{Name: name, Version: "1-r0", Arch: arch}, "usr/"+name, name)
		digest, _, err := st.Put(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return repo.Unsigned{Entry: apktest.Entry(t, data), Digest: digest}
	}
	mustPublish(t, p, of("x86_64", "a"), of("aarch64", "a"))
	mustPublish(t, p, of("noarch", "data"))
	for _, on := range []apk.Arch{"x86_64", "aarch64"} {
		r := repo.OpenStorage("test", m, repo.Options{Keys: ring(t, keys()[0])})
		entries, err := r.Packages(t.Context(), on)
		if err != nil || len(entries) != 2 {
			t.Fatalf("%s: %v, %v", on, entries, err)
		}
		for _, e := range entries {
			if e.Arch != on {
				t.Errorf("%s: %s is for %s", on, e.FullName(), e.Arch)
			}
			if _, err := r.Fetch(t.Context(), openStore(t), e); err != nil {
				t.Errorf("%s: %v", on, err)
			}
		}
	}
	if _, err := p.Publish(t.Context(), []repo.Unsigned{of("sparc", "a")}); err == nil || !strings.Contains(err.Error(), `unknown architecture "sparc"`) {
		t.Errorf("got %v", err)
	}
	// A package of another architecture under a name of this one is not taken for it.
	data := apktest.Write(t, apk.Info{Name: "a", Version: "1-r0", Arch: "aarch64"}, "usr/a", "a")
	x := &apk.Index{Entries: []*apk.Entry{apktest.Entry(t, data)}}
	x.Entries[0].Arch = "x86_64"
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, x, keys()[0]); err != nil {
		t.Fatal(err)
	}
	other := new(storagetest.Memory)
	for name, content := range map[string]io.Reader{"x86_64/APKINDEX.tar.gz": &b, "x86_64/a-1-r0.apk": bytes.NewReader(data)} {
		if err := other.Put(t.Context(), name, content, repo.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fetchAll(t, repo.OpenStorage("test", other, repo.Options{Keys: ring(t, keys()[0])})); !isTrust(err) || !strings.Contains(err.Error(), "for aarch64") {
		t.Errorf("got %v", err)
	}
}

// An index that changed under a publisher whose lock was lost is not overwritten.
func TestLostLock(t *testing.T) {
	m, st := new(storagetest.Memory), openStore(t)
	mustPublish(t, publisher(t, m, st), unsigned(t, st, "a", "1-r0", "usr/a", "a"))
	once := sync.OnceFunc(func() { mustPublish(t, publisher(t, m, st), unsigned(t, st, "b", "1-r0", "usr/b", "b")) })
	p := publisher(t, &lockless{m, once}, st)
	if _, err := p.Publish(t.Context(), []repo.Unsigned{unsigned(t, st, "c", "1-r0", "usr/c", "c")}); !errors.Is(err, repo.ErrChanged) {
		t.Errorf("got %v, want ErrChanged", err)
	}
	if diff := cmp.Diff([]string{"a-1-r0", "b-1-r0"}, listed(t, m, keys()[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// lockless is a storage whose lock holds nobody off; another publisher comes before a
// package is put.
type lockless struct {
	*storagetest.Memory
	other func()
}

func (l *lockless) Lock(context.Context) (func(), error) { return func() {}, nil }

func (l *lockless) Put(ctx context.Context, name string, content io.Reader, when repo.Condition) error {
	l.other()
	return l.Memory.Put(ctx, name, content, when)
}

func putPackage(t testing.TB, st *store.Store, data []byte) repo.Unsigned {
	t.Helper()
	digest, _, err := st.Put(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return repo.Unsigned{Entry: apktest.Entry(t, data), Digest: digest}
}

// The same name and version with other bytes in two repositories is told; the order of
// the set decides.
func TestDoubles(t *testing.T) {
	st, key := openStore(t), keys()[0]
	first, second := t.TempDir(), t.TempDir()
	publish(t, first, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "A"), unsigned(t, st, "b", "1-r0", "usr/b", "B"))
	publish(t, second, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "other"), unsigned(t, st, "b", "1-r0", "usr/b", "B"))
	set := repo.Set{open(t, first, key), open(t, second, key)}
	world := []solve.Requirement{{Dependency: apk.Dependency{Name: "a"}}, {Dependency: apk.Dependency{Name: "b"}}}
	lock, err := set.Resolve(t.Context(), arch, world, solve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := set.Doubles(t.Context(), arch, lock)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]repo.Double{{Package: "a-1-r0", From: first, Other: second}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// One repository serves both formats: what of it is of version 2 stands in both indexes.
func TestBothFormats(t *testing.T) {
	m, st := new(storagetest.Memory), openStore(t)
	p := publisher(t, m, st)
	mustPublish(t, p, unsigned(t, st, "old", "1-r0", "usr/old", "old"))
	three := apktest.WriteAll(t, apk.Unsigned{Format: apk.V3, Info: apk.Info{Name: "new", Version: "1-r0", Arch: arch}, Files: apktest.Files(t, "usr/new", "new")})
	_, err := p.Publish(t.Context(), []repo.Unsigned{putPackage(t, st, three)})
	if _, is := errors.AsType[*repo.PolicyError](err); !is || !strings.Contains(err.Error(), "hint: --v3") {
		t.Errorf("got %v, want that the index cannot list it", err)
	}
	p.V3 = true
	mustPublish(t, p, putPackage(t, st, three))
	p.V3 = false // a repository that has both keeps both
	p.Snapshots, p.Replace = 5, true
	mustPublish(t, p, unsigned(t, st, "old", "1-r0", "usr/old", "other"), unsigned(t, st, "old", "2-r0", "usr/old", "two"))
	index := func(name string) []string {
		data, _ := storagetest.Read(t, m, "x86_64/"+name)
		if _, err := apk.VerifyIndex([]byte(data), ring(t, keys()[0])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		x, err := apk.ReadIndex(strings.NewReader(data), apk.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range x.Entries {
			all = append(all, e.FullName())
		}
		return all
	}
	if diff := cmp.Diff([]string{"old-1-r0", "old-2-r0"}, index("APKINDEX.tar.gz")); diff != "" {
		t.Errorf("version 2 (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"new-1-r0", "old-1-r0", "old-2-r0"}, index("Packages.adb")); diff != "" {
		t.Errorf("version 3 (-want +got):\n%s", diff)
	}
	r := repo.OpenStorage("test", m, repo.Options{Keys: ring(t, keys()[0])})
	report, err := r.Verify(t.Context(), arch, repo.VerifyOptions{})
	if err != nil || len(report.Verified) != 5 || len(report.Findings) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	for _, v := range report.Verified {
		if v.Err != nil {
			t.Error(v.Err)
		}
	}
	// Who has the index of version 3 alone reads that.
	if err := m.Remove(t.Context(), "x86_64/APKINDEX.tar.gz"); err != nil {
		t.Fatal(err)
	}
	all, err := fetchAll(t, repo.OpenStorage("test", m, repo.Options{Keys: ring(t, keys()[0])}))
	if err != nil || len(all) != 3 || all["new-1-r0"]["usr/new"] != "new" || all["old-1-r0"]["usr/old"] != "other" {
		t.Errorf("version 3 alone: %v, %v", all, err)
	}
}

// An index that says of a package's needs what the package does not say is found.
func TestVerifyNeeds(t *testing.T) {
	needs := func(names ...string) (all []apk.Dependency) {
		for _, name := range names {
			all = append(all, apk.Dependency{Name: name})
		}
		return all
	}
	data := apktest.Write(t, apk.Info{Name: "a", Version: "1-r0", Arch: arch, Depends: needs("a", "cmd:x"), Provides: needs("cmd:x")}, "usr/a", "a")
	var signed bytes.Buffer
	if err := apk.AddSignatures(&signed, bytes.NewReader(data), int64(len(data)), time.Time{}, keys()[0]); err != nil {
		t.Fatal(err)
	}
	data = signed.Bytes()
	for name, test := range map[string]struct {
		change func(e *apk.Entry)
		want   string
	}{
		"the same":           {func(e *apk.Entry) {}, ""},
		"in another order":   {func(e *apk.Entry) { e.Depends = needs("cmd:x", "a", "a") }, ""},
		"one is missing":     {func(e *apk.Entry) { e.Depends = needs("a") }, `depends does not match the index: expected "a", found "a cmd:x"`},
		"another provision":  {func(e *apk.Entry) { e.Provides = needs("cmd:x", "libc") }, `provides does not match the index: expected "cmd:x libc", found "cmd:x"`},
		"none is left of it": {func(e *apk.Entry) { e.Provides = nil }, "provides does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			m := new(storagetest.Memory)
			x := &apk.Index{Entries: []*apk.Entry{apktest.Entry(t, data)}}
			test.change(x.Entries[0])
			var b bytes.Buffer
			if err := apk.WriteIndex(&b, x, keys()[0]); err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string]io.Reader{"x86_64/APKINDEX.tar.gz": &b, "x86_64/a-1-r0.apk": bytes.NewReader(data)} {
				if err := m.Put(t.Context(), name, content, repo.Condition{}); err != nil {
					t.Fatal(err)
				}
			}
			report, err := repo.OpenStorage("test", m, repo.Options{Keys: ring(t, keys()[0])}).Verify(t.Context(), arch, repo.VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := report.Verified[1]; isTrust(got.Err) != (test.want != "") || !strings.Contains(got.Why, test.want) {
				t.Errorf("got %v, want %q", got.Err, test.want)
			}
		})
	}
}
