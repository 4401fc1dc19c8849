package source_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/source/mirrortest"
	"github.com/tarn-build/tarn/pkg/debian"
	"github.com/tarn-build/tarn/pkg/debian/debiantest"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
)

// quick are the settings of tests: pauses are short, and long enough to be there.
var quick = web.Retry{Pause: time.Millisecond, MaxPause: 5 * time.Millisecond}

func newStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func TestFolderMirror(t *testing.T) {
	mirrortest.Run(t, func(t *testing.T, files map[string][]byte) source.Mirror {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "sha256"), 0o755); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, data := range files {
			name := debiantest.SHA256(data)
			if n++; n%2 == 0 {
				name = filepath.Join("sha256", name)
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return source.FolderMirror(dir)
	})
}

func TestHTTPMirror(t *testing.T) {
	mirrortest.Run(t, func(t *testing.T, files map[string][]byte) source.Mirror {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for name, data := range files {
				if r.URL.Path == "/by/"+debiantest.SHA256(data)+"/"+name {
					w.Write(data)
					return
				}
			}
			http.NotFound(w, r)
		}))
		t.Cleanup(server.Close)
		return source.HTTPMirror(&source.Fetcher{Store: newStore(t), Client: &web.Client{Retry: quick}}, server.URL+"/by/{sha256}/{name}")
	})
}

func TestDebianMirror(t *testing.T) {
	mirrortest.Run(t, func(t *testing.T, files map[string][]byte) source.Mirror {
		a := debiantest.New(t)
		for name, data := range files {
			a.AddSource("trixie", name[:strings.IndexAny(name, "-_")], "1-1", name, data)
		}
		return source.DebianMirror(debianFetcher(t, a, newStore(t)), []string{"trixie"})
	})
}

// debianFetcher is one for which apt's settings name the archive, for suite bookworm.
func debianFetcher(t *testing.T, a *debiantest.Archive, st *store.Store) *source.Fetcher {
	t.Helper()
	a.Publish(t)
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return &source.Fetcher{Store: st, Client: &web.Client{Retry: quick}, AptDir: a.Etc(t, server.URL+"/debian", "bookworm")}
}

func TestDebianMirrorFindsFilesInAnySuite(t *testing.T) {
	a := debiantest.New(t)
	a.AddSource("bookworm", "musl", "1.2.3-1", "musl_1.2.3.orig.tar.gz", []byte("old musl"))
	want := a.AddSource("trixie", "musl", "1:1.2.5-3", "musl_1.2.5+x.orig.tar.gz", []byte("musl"))
	st := newStore(t)
	f := debianFetcher(t, a, st)
	f.Mirrors = []source.Mirror{source.DebianMirror(f, []string{"forky", "bookworm", "trixie"})}
	ctx := context.Background()

	d, err := f.Fetch(ctx, source.Source{Name: "musl-1.2.5.tar.gz", URIs: []string{"debian:musl/musl_1.2.5.orig.tar.gz"}, SHA256: want})
	if err != nil || d.Hex() != want {
		t.Fatalf("a missing suite is no mistake: got %s, %v", d, err)
	}
	_, err = f.Fetch(ctx, source.Source{Name: "musl-1.2.9.tar.gz", URIs: []string{"debian:musl/musl_1.2.9.orig.tar.gz"}, SHA256: strings.Repeat("1", 64)})
	e, is := errors.AsType[*source.Error](err)
	if !is {
		t.Fatalf("got %v, want an Error", err)
	}
	for _, part := range []string{"bookworm, trixie", "1.2.3-1 (bookworm)", "1:1.2.5-3 (trixie)", "suite forky: ", "404 Not Found"} {
		if !strings.Contains(e.Error(), part) {
			t.Errorf("%q is not in the error:\n%v", part, e)
		}
	}

	// Another process: what the store knows is not asked for again.
	g := &source.Fetcher{Store: st, Client: f.Client, AptDir: f.AptDir}
	before := a.Asked("by-hash") + a.Asked("InRelease")
	m := source.DebianMirror(g, []string{"bookworm", "trixie"})
	body, err := m.Open(ctx, want, "musl")
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	if n := a.Asked("by-hash") + a.Asked("InRelease") - before; n != 0 {
		t.Errorf("%d indexes were asked for again", n)
	}
}

func TestDebianMirrorSeesWhatIsNew(t *testing.T) {
	a := debiantest.New(t)
	gone := a.AddSource("trixie", "x", "1", "x_1.tar.gz", []byte("one"))
	st := newStore(t)
	f := debianFetcher(t, a, st)
	open := func(digest string) error {
		g := &source.Fetcher{Store: st, Client: f.Client, AptDir: f.AptDir}
		body, err := source.DebianMirror(g, []string{"trixie"}).Open(context.Background(), digest, "x-2.tar.gz")
		if err == nil {
			body.Close()
		}
		return err
	}
	if err := open(gone); err != nil {
		t.Fatal(err)
	}
	added := a.AddSource("trixie", "x", "2", "x_2.tar.gz", []byte("two"))
	a.Publish(t)
	if err := open(added); err != nil {
		t.Errorf("a file that the suite got later: %v", err)
	}
	a.Change(t, "x_1.tar.gz", debiantest.Remove)
	if err := open(gone); err == nil {
		t.Error("a file that is gone is opened")
	}
}

// A point release drops the sources before it from the index, and from the pool some
// time later.
func TestDebianMirrorFindsFilesThatNoIndexNames(t *testing.T) {
	a := debiantest.New(t)
	a.AddSource("trixie", "openssl", "3.5.9-1", "openssl_3.5.9.orig.tar.gz", []byte("new"))
	gone := a.AddUnlisted("openssl", "openssl_3.5.7.orig.tar.gz", []byte("old"))
	lib := a.AddUnlisted("libtool", "libtool_2.5.4+x.orig.tar.xz", []byte("a library's folder has four letters"))
	f := debianFetcher(t, a, newStore(t))
	f.Mirrors = []source.Mirror{source.DebianMirror(f, []string{"trixie"})}
	for _, s := range []source.Source{
		{Name: "openssl_3.5.7.orig.tar.gz", URIs: []string{"debian:openssl/openssl_3.5.7.orig.tar.gz"}, SHA256: gone},
		{Name: "libtool_2.5.4+x.orig.tar.xz", URIs: []string{"debian:libtool/libtool_2.5.4+x.orig.tar.xz"}, SHA256: lib},
	} {
		if d, err := f.Fetch(context.Background(), s); err != nil || d.Hex() != s.SHA256 {
			t.Errorf("%s: got %s, %v", s.Name, d, err)
		}
	}
	g := debianFetcher(t, a, newStore(t))
	body, err := source.DebianMirror(g, []string{"trixie"}).Open(context.Background(), gone, "openssl-3.5.7.tar.gz")
	if err != nil {
		t.Fatalf("by the name of upstream's archive: %v", err)
	}
	body.Close()

	// Other bytes of that name are not what was asked for: the message is that of a
	// file that nobody has.
	_, err = f.Fetch(context.Background(), source.Source{Name: "openssl-3.5.7.tar.gz", URIs: []string{"debian:openssl/openssl_3.5.7.orig.tar.gz"}, SHA256: strings.Repeat("1", 64)})
	if err == nil || !strings.Contains(err.Error(), "versions of openssl there: 3.5.9-1 (trixie)") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"openssl/../x", "../x_1.orig.tar.gz", "openssl/", "/x", "x/y/z", "a b/c"} {
		if body, err := source.DebianMirror(g, []string{"trixie"}).Open(context.Background(), strings.Repeat("1", 64), name); err == nil {
			body.Close()
			t.Errorf("%q is opened", name)
		}
	}
}

func TestDebianMirrorBelievesOnlyWhatIsSigned(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, a *debiantest.Archive)
		signed bool // the signature is at fault
	}{
		"a byte of InRelease flipped": {func(t *testing.T, a *debiantest.Archive) { a.Change(t, "trixie/InRelease", debiantest.Flip) }, true},
		"signed by another key": {func(t *testing.T, a *debiantest.Archive) {
			other := debiantest.New(t)
			a.Key = other.Key
			a.Publish(t)
		}, true},
		"a signed release of another suite": {func(t *testing.T, a *debiantest.Archive) {
			var other []byte
			a.Change(t, "sid/InRelease", func(data []byte) []byte { other = data; return data })
			a.Change(t, "trixie/InRelease", func([]byte) []byte { return other })
		}, false},
		"a byte of the index flipped": {func(t *testing.T, a *debiantest.Archive) {
			for _, p := range a.Files() {
				if strings.Contains(p, "dists/trixie/main/source/") {
					a.Change(t, p, debiantest.Flip)
				}
			}
		}, false},
		"an index put in the place of another": {func(t *testing.T, a *debiantest.Archive) {
			for _, p := range a.Files() {
				if strings.Contains(p, "dists/trixie/main/source/by-hash") || path.Base(p) == "Sources.gz" {
					a.Change(t, p, func([]byte) []byte { return []byte("Package: evil\n") })
				}
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := debiantest.New(t)
			want := a.AddSource("trixie", "x", "1", "x_1.tar.gz", []byte("one"))
			a.AddSource("sid", "x", "1", "x_1.tar.gz", []byte("one"))
			f := debianFetcher(t, a, newStore(t))
			c.damage(t, a)
			_, err := source.DebianMirror(f, []string{"trixie"}).Open(context.Background(), want, "x-1.tar.gz")
			if err == nil {
				t.Fatal("it is believed")
			}
			if _, is := errors.AsType[*debian.SignatureError](err); is != c.signed {
				t.Errorf("got %v, want a SignatureError: %v", err, c.signed)
			}
		})
	}
}

func TestDebianMirrorWithoutAnArchive(t *testing.T) {
	f := &source.Fetcher{Store: newStore(t), AptDir: t.TempDir()}
	_, err := source.DebianMirror(f, []string{"trixie"}).Open(context.Background(), strings.Repeat("1", 64), "x-1.tar.gz")
	if err == nil || !strings.Contains(err.Error(), "tarn.yaml") {
		t.Errorf("got %v, want a hint to tarn.yaml", err)
	}
}

// TestRealArchive asks the archive that this machine's apt is set to.
func TestRealArchive(t *testing.T) {
	if os.Getenv("TARN_NETWORK") != "1" {
		t.Skip("asks the network: set TARN_NETWORK=1")
	}
	f := &source.Fetcher{Store: newStore(t)}
	f.Mirrors = []source.Mirror{source.DebianMirror(f, []string{"trixie"})}
	if _, err := f.Debian().Suite(context.Background(), "trixie"); err != nil {
		t.Skipf("Debian's archive is out of reach: %v", err)
	}
	const musl = "a9a118bbe84d8764da0ea0d28b3ab3fae8477fc7e4085d90102b8596fc7c75e4"
	d, err := f.Fetch(context.Background(), source.Source{Name: "musl-1.2.5.tar.gz", URIs: []string{"debian:musl/musl_1.2.5.orig.tar.gz"}, SHA256: musl})
	if err != nil || d.Hex() != musl {
		t.Errorf("got %s, %v", d, err)
	}
}
