package repo_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/repo"
)

const arch = apk.ArchX86_64

// keys are made once: a key takes long.
var keys = sync.OnceValue(func() (made [2]*sign.Key) {
	for i := range made {
		key, err := sign.Generate("tarn.rsa", 2048) // the same name: as when a key was thrown away
		if err != nil {
			panic(err)
		}
		made[i] = key
	}
	return made
})

func ring(t testing.TB, key *sign.Key) *sign.Keyring {
	t.Helper()
	r := &sign.Keyring{}
	if err := r.Add(key.Public()); err != nil {
		t.Fatal(err)
	}
	return r
}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// unsigned puts a package into the store.
func unsigned(t testing.TB, st *store.Store, name, version string, pairs ...string) repo.Unsigned {
	t.Helper()
	data := apktest.Package(t, name, version, pairs...)
	digest, _, err := st.Put(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return repo.Unsigned{Entry: apktest.Entry(t, data), Digest: digest}
}

func publish(t testing.TB, dir string, st *store.Store, key *sign.Key, packages ...repo.Unsigned) []string {
	t.Helper()
	written, err := repo.Publish(context.Background(), dir, st, key, ring(t, key), packages)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

func open(t testing.TB, location string, key *sign.Key) *repo.Repository {
	t.Helper()
	r, err := repo.Open(location, repo.Options{Keys: ring(t, key)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// names lists what an index names, sorted.
func names(t testing.TB, r *repo.Repository) []string {
	t.Helper()
	entries, err := r.Packages(context.Background(), arch)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.FullName())
	}
	slices.Sort(all)
	return all
}

// fetchAll fetches everything that a repository lists into a new store.
func fetchAll(t testing.TB, r *repo.Repository) (map[string]map[string]string, error) {
	t.Helper()
	st := openStore(t)
	entries, err := r.Packages(context.Background(), arch)
	if err != nil {
		return nil, err
	}
	all := map[string]map[string]string{}
	for _, e := range entries {
		digest, err := r.Fetch(context.Background(), st, e)
		if err != nil {
			return nil, err
		}
		f, err := st.Open(digest)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		all[e.FullName()] = apktest.Contents(t, apktest.Read(t, data))
	}
	return all, nil
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func isTrust(err error) bool {
	_, is := errors.AsType[*repo.TrustError](err)
	return is
}

func TestPublishAndRead(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	a, b := unsigned(t, st, "a", "1-r0", "usr/a", "A"), unsigned(t, st, "b", "2-r0", "usr/b", "B")
	want := []string{"a-1-r0.apk", "b-2-r0.apk"}
	if diff := cmp.Diff(want, publish(t, dir, st, key, b, a)); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	index, err := os.ReadFile(filepath.Join(dir, "x86_64", "APKINDEX.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if written := publish(t, dir, st, key, a, b); len(written) != 0 {
		t.Errorf("published again: %v", written)
	}
	r := open(t, dir, key)
	if diff := cmp.Diff([]string{"a-1-r0", "b-2-r0"}, names(t, r)); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
	got, err := fetchAll(t, r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]map[string]string{"a-1-r0": {"usr/a": "A"}, "b-2-r0": {"usr/b": "B"}}, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	verified, err := r.Verify(context.Background(), arch, repo.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verified.Verified {
		if v.Err != nil || v.Key != "tarn.rsa.pub" {
			t.Errorf("verify %s: %v, key %q", v.Name, v.Err, v.Key)
		}
	}
	if len(verified.Verified) != 3 {
		t.Errorf("verified %d files, want 3", len(verified.Verified))
	}
	// Another order and another folder give the same bytes.
	other := t.TempDir()
	publish(t, other, st, key, a)
	publish(t, other, st, key, b)
	if again, err := os.ReadFile(filepath.Join(other, "x86_64", "APKINDEX.tar.gz")); err != nil || !bytes.Equal(index, again) {
		t.Errorf("the index differs: %v", err)
	}
	if diff := cmp.Diff([]string{"APKINDEX.tar.gz", "a-1-r0.apk", "b-2-r0.apk"}, files(t, filepath.Join(dir, "x86_64"))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// Older versions stay, and a package of the same version is replaced, in file and index.
func TestPublishOverWhatIsThere(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "one"))
	publish(t, dir, st, key, unsigned(t, st, "a", "2-r0", "usr/a", "two"))
	publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "another one"))
	got, err := fetchAll(t, open(t, dir, key))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]map[string]string{"a-1-r0": {"usr/a": "another one"}, "a-2-r0": {"usr/a": "two"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A publisher mends what was damaged: it signs its packages again, and makes an index
// that does not hold anew of the packages that do.
func TestPublishMends(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage string // the file that gets one bit flipped
		remove bool
	}{
		{"a package", "a-1-r0.apk", false},
		{"the index", "APKINDEX.tar.gz", false},
		{"a package that is gone", "a-1-r0.apk", true},
		{"an index that is gone", "APKINDEX.tar.gz", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, st, key := t.TempDir(), openStore(t), keys()[0]
			a := unsigned(t, st, "a", "1-r0", "usr/a", "A")
			publish(t, dir, st, key, a, unsigned(t, st, "old", "1-r0", "usr/old", "B"))
			name := filepath.Join(dir, "x86_64", test.damage)
			if test.remove {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			} else {
				flip(t, name, -30)
			}
			publish(t, dir, st, key, a)
			got, err := fetchAll(t, open(t, dir, key))
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]map[string]string{"a-1-r0": {"usr/a": "A"}, "old-1-r0": {"usr/old": "B"}}
			if test.damage == "APKINDEX.tar.gz" && test.remove {
				delete(want, "old-1-r0") // whoever removes an index means it
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A workspace whose key was thrown away gets a new one of the same name. What it
// publishes is signed anew, and what only the old key vouches for is not listed.
func TestPublishWithAnotherKey(t *testing.T) {
	dir, st := t.TempDir(), openStore(t)
	a := unsigned(t, st, "a", "1-r0", "usr/a", "A")
	publish(t, dir, st, keys()[0], a, unsigned(t, st, "old", "1-r0", "usr/old", "B"))
	if diff := cmp.Diff([]string{"a-1-r0.apk"}, publish(t, dir, st, keys()[1], a)); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a-1-r0"}, names(t, open(t, dir, keys()[1]))); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
	verified, err := open(t, dir, keys()[1]).Verify(context.Background(), arch, repo.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verified.Verified {
		if v.Err != nil {
			t.Errorf("verify %s: %v", v.Name, v.Err)
		}
	}
	if _, err := open(t, dir, keys()[0]).Packages(context.Background(), arch); !isTrust(err) {
		t.Errorf("with the old key: got %v, want a TrustError", err)
	}
}

func flip(t testing.TB, name string, at int64) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += int64(len(data))
	}
	data[at] ^= 0x10
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Wherever one bit of a repository is flipped, nothing of that file is used, and the
// error says that it is a matter of trust. Only the archive around a signature, which
// nobody signs, may differ without a consequence: all else is what it was then.
func TestTampering(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "A", "usr/b", strings.Repeat("text ", 1000)))
	want, err := fetchAll(t, open(t, dir, key))
	if err != nil {
		t.Fatal(err)
	}
	pkg := filepath.Join(dir, "x86_64", "a-1-r0.apk")
	packageData, err := os.ReadFile(pkg)
	if err != nil {
		t.Fatal(err)
	}
	indexData, err := os.ReadFile(filepath.Join(dir, "x86_64", "APKINDEX.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	signed, _, err := repo.IndexFiles(context.Background(), []string{pkg}, repo.IndexOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		file      string
		size      int
		signature int // its length
	}{
		{"a-1-r0.apk", len(packageData), int(apktest.Read(t, packageData).SignatureSize)},
		{"APKINDEX.tar.gz", len(indexData), len(indexData) - len(signed)},
	} {
		for at := 0; at < test.size; at += 7 {
			bad := t.TempDir()
			if err := os.CopyFS(bad, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			flip(t, filepath.Join(bad, "x86_64", test.file), int64(at))
			r := open(t, bad, key)
			verified, err := r.Verify(context.Background(), arch, repo.VerifyOptions{})
			if err != nil {
				t.Fatalf("byte %d of %s: verify: %v", at, test.file, err)
			}
			found := slices.ContainsFunc(verified.Verified, func(v repo.Verified) bool { return isTrust(v.Err) && strings.HasSuffix(v.Name, test.file) })
			got, err := fetchAll(t, r)
			if at < test.signature && err == nil {
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("byte %d of %s: other content (-want +got):\n%s", at, test.file, diff)
				}
				continue
			}
			if !found || !isTrust(err) {
				t.Errorf("byte %d of %s: verify found it: %v; reading: got %v, want a TrustError", at, test.file, found, err)
			}
		}
	}
}

func TestWhatDoesNotHold(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string
	}{
		{"another package under the name", func(t *testing.T, dir string) {
			write(t, dir, "a-1-r0.apk", apktest.Package(t, "a", "1-r0", "usr/a", "a longer text than there was before, so that it is more"))
		}, "size does not match the index"},
		{"a package that was cut short", func(t *testing.T, dir string) { write(t, dir, "a-1-r0.apk", []byte("short")) }, "found 5"},
		{"a package that is gone", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "x86_64", "a-1-r0.apk")); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"an index without a signature", func(t *testing.T, dir string) {
			data, _, err := repo.IndexFiles(context.Background(), []string{filepath.Join(dir, "x86_64", "a-1-r0.apk")}, repo.IndexOptions{})
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "APKINDEX.tar.gz", data)
		}, "signature"},
		{"an index by another key", func(t *testing.T, dir string) {
			data, _, err := repo.IndexFiles(context.Background(), []string{filepath.Join(dir, "x86_64", "a-1-r0.apk")}, repo.IndexOptions{}, keys()[1])
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "APKINDEX.tar.gz", data)
		}, "signature"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, st, key := t.TempDir(), openStore(t), keys()[0]
			publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "A"))
			test.spoil(t, dir)
			_, err := fetchAll(t, open(t, dir, key))
			if test.want == "" {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("got %v, want %v", err, fs.ErrNotExist)
				}
				return
			}
			if !isTrust(err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a TrustError with %q", err, test.want)
			}
		})
	}
}

func write(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "x86_64", name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Names and architectures become parts of paths: those of a hostile index lead nowhere.
func TestPathsOfAnIndex(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "A"))
	r := open(t, dir, key)
	for _, e := range []apk.Entry{
		{Info: apk.Info{Name: "../secret", Version: "1", Arch: arch}},
		{Info: apk.Info{Name: "a", Version: "1/../../secret", Arch: arch}},
		{Info: apk.Info{Name: ".hidden", Version: "1", Arch: arch}},
		{Info: apk.Info{Name: "a", Version: "1-r0", Arch: "../x86_64"}},
		{Info: apk.Info{Name: "a", Version: "1-r0", Arch: "."}},
		{Info: apk.Info{Name: "a", Version: "1-r0", Arch: ""}},
	} {
		if _, err := r.Fetch(context.Background(), st, &e); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of %q: got %v, want a refusal", e.FileName(), e.Arch, err)
		}
	}
	if _, err := r.Packages(context.Background(), "../x86_64"); err == nil || !strings.Contains(err.Error(), "unknown architecture") {
		t.Errorf("got %v", err)
	}
	bad := unsigned(t, st, "a", "1-r0", "usr/a", "A")
	bad.Entry.Arch = "../../etc"
	if _, err := repo.Publish(context.Background(), dir, st, key, ring(t, key), []repo.Unsigned{bad}); err == nil {
		t.Error("published to the architecture ../../etc")
	}
	bad = unsigned(t, st, "a", "1-r0", "usr/a", "A")
	bad.Entry.Name = "../a"
	if _, err := repo.Publish(context.Background(), dir, st, key, ring(t, key), []repo.Unsigned{bad}); err == nil {
		t.Error("published a package called ../a")
	}
	// A link in a repository that leads out of it is not followed.
	if err := os.Symlink(filepath.Join(dir, "secret"), filepath.Join(dir, "x86_64", "b-1-r0.apk")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Fetch(context.Background(), st, &apk.Entry{Info: apk.Info{Name: "b", Version: "1-r0", Arch: arch}}); err == nil {
		t.Error("followed a link out of the repository")
	}
}

// Whenever a reader looks, it finds a whole index, and packages that are there.
func TestReadersWhileOthersPublish(t *testing.T) {
	dir, key := t.TempDir(), keys()[0]
	st := openStore(t)
	publish(t, dir, st, key, unsigned(t, st, "p0", "1-r0", "usr/p0", "0"))
	var packages []repo.Unsigned
	for i := 1; i <= 20; i++ {
		packages = append(packages, unsigned(t, st, fmt.Sprintf("p%d", i), "1-r0", fmt.Sprintf("usr/p%d", i), fmt.Sprint(i)))
	}
	var publishers, readers sync.WaitGroup
	for half := range 2 {
		publishers.Go(func() {
			for i := half; i < len(packages); i += 2 {
				if _, err := repo.Publish(context.Background(), dir, st, key, ring(t, key), packages[i:i+1]); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				all, err := fetchAll(t, open(t, dir, key))
				if err != nil || len(all) == 0 {
					t.Errorf("read: %d packages, %v", len(all), err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	publishers.Wait()
	close(done)
	readers.Wait()
	if got := len(names(t, open(t, dir, key))); got != 21 {
		t.Errorf("%d packages at the end, want 21: two publishers lost something", got)
	}
}

// A publisher that can't finish leaves what was there, and no half-written file.
func TestPublishThatFails(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "A"))
	before := files(t, filepath.Join(dir, "x86_64"))
	missing := unsigned(t, st, "c", "1-r0", "usr/c", "C")
	missing.Digest = store.DigestOf([]byte("something that is in no store"))
	if _, err := repo.Publish(context.Background(), dir, st, key, ring(t, key), []repo.Unsigned{unsigned(t, st, "b", "1-r0", "usr/b", "B"), missing}); err == nil {
		t.Fatal("published a package that is not there")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := repo.Publish(ctx, dir, st, key, ring(t, key), []repo.Unsigned{unsigned(t, st, "b", "1-r0", "usr/b", "B")}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: got %v", err)
	}
	if diff := cmp.Diff(before, files(t, filepath.Join(dir, "x86_64"))); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a-1-r0"}, names(t, open(t, dir, key))); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
	write(t, dir, ".publish-123", []byte("of one that was killed"))
	publish(t, dir, st, key, unsigned(t, st, "b", "1-r0", "usr/b", "B"))
	if slices.Contains(files(t, filepath.Join(dir, "x86_64")), ".publish-123") {
		t.Error("what a killed publisher left is still there")
	}
}

// serve is a web server for a folder, which answers some paths otherwise.
func serve(t *testing.T, dir string, other map[string]http.HandlerFunc) *httptest.Server {
	t.Helper()
	folder := http.FileServer(http.Dir(dir))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := other[r.URL.Path]; h != nil {
			h(w, r)
			return
		}
		folder.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that hang up are part of the tests
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// client trusts a test's server, and loses no time with trying again.
func client(server *httptest.Server) *web.Client {
	return &web.Client{Transport: server.Client().Transport, Retry: web.Retry{Pause: time.Millisecond, MaxPause: time.Millisecond}, StayTLS: true}
}

func TestOverTheNetwork(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	publish(t, dir, st, key, unsigned(t, st, "libstdc++", "1-r0", "usr/a", "A"))
	const index, pkg = "/x86_64/APKINDEX.tar.gz", "/x86_64/libstdc++-1-r0.apk"
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
	}
	for _, test := range []struct {
		name  string
		other map[string]http.HandlerFunc
		check func(err error) bool
		want  string
	}{
		{"a whole repository", nil, func(err error) bool { return err == nil }, "no error"},
		{"an index that is not there", map[string]http.HandlerFunc{index: status(404)}, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }, "fs.ErrNotExist"},
		{"a server in trouble", map[string]http.HandlerFunc{index: status(503)}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "503") }, "503"},
		{"no permission", map[string]http.HandlerFunc{pkg: status(403)}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "403") }, "403"},
		{"a redirect", map[string]http.HandlerFunc{pkg: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/moved", http.StatusFound) },
			"/moved": func(w http.ResponseWriter, r *http.Request) {
				http.ServeFile(w, r, filepath.Join(dir, "x86_64", "libstdc++-1-r0.apk"))
			}},
			func(err error) bool { return err == nil }, "no error"},
		{"redirects in a circle", map[string]http.HandlerFunc{pkg: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, pkg, http.StatusFound) }},
			func(err error) bool { return err != nil && strings.Contains(err.Error(), "redirects") }, "redirects"},
		{"a server that calls the file compressed", map[string]http.HandlerFunc{index: func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				w.Header().Set("Content-Encoding", "gzip")
			}
			http.ServeFile(w, r, filepath.Join(dir, "x86_64", "APKINDEX.tar.gz"))
		}}, func(err error) bool { return err == nil }, "no error"},
		{"a package without an end", map[string]http.HandlerFunc{pkg: func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}}, isTrust, "TrustError"},
		{"a connection that breaks", map[string]http.HandlerFunc{pkg: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write([]byte("x"))
		}}, func(err error) bool { return err != nil }, "an error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, dir, test.other)
			r, err := repo.Open(server.URL, repo.Options{Keys: ring(t, key), Client: client(server)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fetchAll(t, r); !test.check(err) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	server := serve(t, dir, nil)
	strange, err := repo.Open(server.URL, repo.Options{Keys: ring(t, key)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strange.Packages(context.Background(), arch); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server whose certificate nobody knows: got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	stopped, err := repo.Open(server.URL, repo.Options{Keys: ring(t, key), Client: client(server)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stopped.Packages(ctx, arch); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: got %v", err)
	}
}

func TestOpen(t *testing.T) {
	for _, test := range []struct {
		location string
		offline  bool
		want     string // of the error
		name     string
	}{
		{location: "folder", name: "folder"},
		{location: "https://u:secret@r.example/x/", name: "https://xxxxx@r.example/x/"},
		{location: "https://canary@r.example/x/", name: "https://xxxxx@r.example/x/"},
		{location: "ftp://r.example", want: "a location is a folder or an http or https address"},
		{location: "https://r.example", offline: true, want: "--offline"},
		{location: "https://u:secret@r.example", offline: true, want: "https://xxxxx@r.example"},
		{location: "https:///x", want: "has a host"},
		{location: "https://r.example/?a=b", want: "neither ? nor #"},
	} {
		r, err := repo.Open(test.location, repo.Options{Offline: test.offline})
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %q", test.location, err, test.want)
			}
			continue
		}
		if err != nil || r.Name() != test.name {
			t.Errorf("%s: got %q, %v", test.location, r.Name(), err)
		}
	}
}

func TestFetchKey(t *testing.T) {
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(block) }))
	defer plain.Close()
	server := serve(t, t.TempDir(), map[string]http.HandlerFunc{
		"/key":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(block) },
		"/large": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
	})
	ctx := context.Background()
	if got, err := repo.FetchKey(ctx, client(server), server.URL+"/key"); err != nil || !bytes.Equal(got, block) {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := repo.FetchKey(ctx, nil, plain.URL); err != nil || !bytes.Equal(got, block) {
		t.Errorf("with the client of its own: got %q, %v", got, err)
	}
	for path, want := range map[string]string{"/large": "longer than", "/none": "does not exist"} {
		if _, err := repo.FetchKey(ctx, client(server), server.URL+path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

// What an earlier source offers is preferred, whatever versions later ones have.
func TestResolve(t *testing.T) {
	st, key := openStore(t), keys()[0]
	first, second := t.TempDir(), t.TempDir()
	publish(t, first, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "A"))
	publish(t, second, st, key, unsigned(t, st, "a", "2-r0", "usr/a", "B"), unsigned(t, st, "b", "1-r0", "usr/b", "B"))
	set := repo.Set{open(t, first, key), open(t, second, key)}
	world := []solve.Requirement{{Dependency: apk.Dependency{Name: "a"}}, {Dependency: apk.Dependency{Name: "b"}}}
	lock, err := set.Resolve(context.Background(), arch, world, solve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a=1-r0", "b=1-r0"}, lock.Names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, p := range lock {
		if _, err := p.Fetch(context.Background(), openStore(t)); err != nil {
			t.Error(err)
		}
	}
	if _, err := set.Resolve(context.Background(), arch, []solve.Requirement{{Dependency: apk.Dependency{Name: "c"}}}, solve.Options{}); err == nil {
		t.Error("resolved a package that nobody has")
	}
}
