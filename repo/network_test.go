package repo_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/repo"
)

// requests remembers what a server was asked.
type requests struct {
	http.Handler
	mu  sync.Mutex
	all []string // "GET /path", and what of its headers matters
}

func (r *requests) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	line := request.Method + " " + request.URL.Path
	for _, name := range []string{"Range", "Authorization"} {
		if value := request.Header.Get(name); value != "" {
			line += " " + name + ": " + value
		}
	}
	if request.Header.Get("If-None-Match")+request.Header.Get("If-Modified-Since") != "" {
		line += " if changed"
	}
	r.mu.Lock()
	r.all = append(r.all, line)
	r.mu.Unlock()
	r.Handler.ServeHTTP(w, request)
}

func (r *requests) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// quick loses no time with trying again.
var quick = web.Retry{Pause: time.Millisecond, MaxPause: 5 * time.Millisecond}

// An index that did not change is not read again, and without a network there is what was
// read before.
func TestIndexIsAskedForOnce(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "A"))
	for name, h := range map[string]http.Handler{"etag": repo.Handler(dir), "last-modified": http.FileServer(http.Dir(dir))} {
		t.Run(name, func(t *testing.T) {
			seen := &requests{Handler: h}
			server := httptest.NewServer(seen)
			mine := openStore(t)
			read := func(o repo.Options) ([]string, error) {
				o.Store, o.Keys = mine, ring(t, key)
				if o.Client == nil {
					o.Client = &web.Client{Retry: quick, Offline: o.Offline}
				}
				r, err := repo.Open(server.URL, o)
				if err != nil {
					return nil, err
				}
				entries, err := r.Packages(t.Context(), arch)
				if err != nil {
					return nil, err
				}
				var all []string
				for _, e := range entries {
					if _, err := r.Fetch(t.Context(), mine, e); err != nil {
						return nil, err
					}
					all = append(all, e.FullName())
				}
				return all, nil
			}
			const index, pkg = "GET /x86_64/APKINDEX.tar.gz", "GET /x86_64/a-1-r0.apk"
			for i, want := range [][]string{{index, pkg}, {index + " if changed"}} {
				if got, err := read(repo.Options{}); err != nil || len(got) != 1 {
					t.Fatalf("%v, %v", got, err)
				}
				if got := seen.seen(); !slices.Equal(got, want) {
					t.Errorf("time %d: asked %q, want %q", i, got, want)
				}
			}
			if got, err := read(repo.Options{Offline: true}); err != nil || len(got) != 1 || len(seen.seen()) != 0 {
				t.Errorf("offline: %v, %v", got, err)
			}
			server.Close()
			if got, err := read(repo.Options{Offline: true}); err != nil || len(got) != 1 {
				t.Errorf("offline, without a server: %v, %v", got, err)
			}
			if _, err := read(repo.Options{}); err == nil {
				t.Error("a server that is gone is no error")
			}
			r, err := repo.Open(server.URL, repo.Options{Store: openStore(t), Keys: ring(t, key), Offline: true})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Packages(t.Context(), arch)
			if _, is := errors.AsType[*repo.UnreachableError](err); !is || !strings.Contains(err.Error(), "--offline") {
				t.Errorf("offline, never read: got %v", err)
			}
		})
	}
}

// A server that stops in the middle is asked for the rest, one in trouble again, and no
// answer that is not the package is taken for it.
func TestTroubleOnTheWay(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", strings.Repeat("text that is long enough to stop in ", 5000)))
	pkg, err := os.ReadFile(filepath.Join(dir, "x86_64", "a-1-r0.apk"))
	if err != nil {
		t.Fatal(err)
	}
	cutAt := func(n int, w http.ResponseWriter, r *http.Request) {
		from := 0
		if text := r.Header.Get("Range"); text != "" {
			from, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(text, "bytes="), "-"))
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(pkg)-1, len(pkg)))
			w.Header().Set("Content-Length", strconv.Itoa(len(pkg)-from))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", strconv.Itoa(len(pkg)))
		}
		_, _ = w.Write(pkg[from:min(len(pkg), from+n)])
	}
	times := 0
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   string // of the error; "" is none
		asked  int    // at least
	}{
		{"stops again and again", func(w http.ResponseWriter, r *http.Request) { cutAt(300, w, r) }, "", 2},
		{"is overloaded twice", func(w http.ResponseWriter, r *http.Request) {
			if times++; times <= 2 {
				w.Header().Set("Retry-After", "0")
				http.Error(w, "later", http.StatusServiceUnavailable)
				return
			}
			_, _ = w.Write(pkg)
		}, "", 3},
		{"is overloaded always", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "later", http.StatusServiceUnavailable) }, "503 Service Unavailable", 3},
		{"forbids it", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusUnauthorized) }, "hint: a password is read from HTTP_AUTH", 1},
		{"says that it is longer than it is", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(pkg)+100))
			_, _ = w.Write(pkg)
		}, "416", 2},
		{"says that it is shorter than it is", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(pkg)-100))
			_, _ = w.Write(pkg[:len(pkg)-100])
		}, "size does not match the index", 1},
		{"has other bytes", func(w http.ResponseWriter, r *http.Request) {
			other := bytes.Clone(pkg)
			other[len(other)-9] ^= 1
			_, _ = w.Write(other)
		}, "data of a-1-r0", 1},
		{"has other bytes for the rest", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				cutAt(300, w, r)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 300-%d/%d", len(pkg)-1, len(pkg)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, len(pkg)-300))
		}, "a-1-r0", 2},
		{"gives another range than it was asked for", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				cutAt(300, w, r)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(pkg)-1, len(pkg)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(pkg)
		}, "other bytes than asked for", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			server := serve(t, dir, map[string]http.HandlerFunc{"/x86_64/a-1-r0.apk": func(w http.ResponseWriter, r *http.Request) {
				asked++
				test.answer(w, r)
			}})
			r, err := repo.Open(server.URL, repo.Options{Keys: ring(t, key), Client: client(server)})
			if err != nil {
				t.Fatal(err)
			}
			_, err = fetchAll(t, r)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if asked < test.asked {
				t.Errorf("asked %d times, want %d at least", asked, test.asked)
			}
		})
	}
}

// Passwords go to their hosts, and to none that these redirect to.
func TestPasswords(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "A"))
	elsewhere := &requests{Handler: repo.Handler(dir)}
	other := httptest.NewServer(elsewhere)
	defer other.Close()
	// The same machine by another name is another host.
	otherURL := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	here := &requests{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "s3:cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(r.URL.Path, ".apk") {
			http.Redirect(w, r, otherURL+r.URL.Path, http.StatusFound)
			return
		}
		repo.Handler(dir).ServeHTTP(w, r)
	})}
	server := httptest.NewServer(here)
	defer server.Close()
	netrc := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(netrc, []byte("machine 127.0.0.1 login ann password s3:cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]struct {
		auth, netrc, address string
		want                 bool
	}{
		"HTTP_AUTH, the host":       {"basic:127.0.0.1:ann:s3:cret", "", server.URL, true},
		"HTTP_AUTH, any host":       {"basic:*:ann:s3:cret", "", server.URL, true},
		"HTTP_AUTH, another host":   {"basic:elsewhere.example:ann:s3:cret", "", server.URL, false},
		"netrc":                     {"", netrc, server.URL, true},
		"the address":               {"", "", strings.Replace(server.URL, "://", "://ann:s3%3Acret@", 1), true},
		"the address goes before":   {"basic:127.0.0.1:bob:x", "", strings.Replace(server.URL, "://", "://ann:s3%3Acret@", 1), true},
		"none":                      {"", "", server.URL, false},
		"a wrong one in the netrc":  {"basic:127.0.0.1:ann:wrong", netrc, server.URL, false},
		"HTTP_AUTH before the rest": {"basic:127.0.0.1:ann:s3:cret", netrc, server.URL, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HTTP_AUTH", set.auth)
			t.Setenv("NETRC", set.netrc)
			r, err := repo.Open(set.address, repo.Options{Keys: ring(t, key)})
			if err != nil {
				t.Fatal(err)
			}
			_, err = fetchAll(t, r)
			if (err == nil) != set.want {
				t.Errorf("got %v, want that it is read: %v", err, set.want)
			}
			if err != nil && (strings.Contains(err.Error(), "cret") || strings.Contains(err.Error(), "wrong")) {
				t.Errorf("the error tells the password: %v", err)
			}
			for _, line := range elsewhere.seen() {
				if strings.Contains(line, "Authorization") {
					t.Errorf("told elsewhere: %s", line)
				}
			}
			here.seen()
		})
	}
	t.Setenv("HTTP_AUTH", "nonsense")
	if _, err := repo.Open(server.URL, repo.Options{}); err == nil || !strings.Contains(err.Error(), "basic:HOST:USER:PASSWORD") {
		t.Errorf("malformed: got %v", err)
	}
}

// An index that is older than one that was seen is refused, and so is one that is too old.
func TestNewest(t *testing.T) {
	key, st := keys()[0], openStore(t)
	one, two := unsigned(t, st, "a", "1-r0", "usr/a", "1"), unsigned(t, st, "a", "2-r0", "usr/a", "2")
	stamped := func(at time.Time, packages ...repo.Unsigned) []byte {
		dir := t.TempDir()
		p := publisher(t, repo.Folder(dir), st)
		p.Time = at
		mustPublish(t, p, packages...)
		data, err := os.ReadFile(filepath.Join(dir, "x86_64", "APKINDEX.tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	// An index as melange writes it says nothing, but the dates of its packages do.
	unstamped := func(built int64) []byte {
		e := *one.Entry
		e.BuildDate = built
		var b bytes.Buffer
		if err := apk.WriteIndex(&b, &apk.Index{Entries: []*apk.Entry{&e}}, key); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	now := time.Now().Truncate(time.Second)
	old := stamped(now.Add(-48*time.Hour), one)
	for _, test := range []struct {
		name          string
		first, second []byte
		o             repo.Options
		want          string
	}{
		{name: "a newer one", first: old, second: stamped(now, two)},
		{name: "the same", first: old, second: old},
		{name: "an older one", first: stamped(now, two), second: old, want: "was seen before\n  hint: --allow-rollback"},
		{name: "an older one, allowed", first: stamped(now, two), second: old, o: repo.Options{AllowRollback: true}},
		{name: "too old", first: old, second: old, o: repo.Options{MaxAge: time.Hour}, want: "and may be 1h0m0s"},
		{name: "not too old", first: old, second: old, o: repo.Options{MaxAge: 72 * time.Hour}},
		{name: "builds that are much older", first: unstamped(1_700_000_000), second: unstamped(1_690_000_000), want: "was seen before"},
		{name: "builds that are a little older", first: unstamped(1_700_000_000), second: unstamped(1_700_000_000 - 3600)},
		{name: "builds that are too old", first: unstamped(1_700_000_000), second: unstamped(1_700_000_000), o: repo.Options{MaxAge: time.Hour}, want: "and may be 1h0m0s"},
		{name: "nothing tells its age", first: unstamped(0), second: unstamped(0), o: repo.Options{MaxAge: time.Hour}, want: "it does not tell how old it is"},
	} {
		t.Run(test.name, func(t *testing.T) {
			content := test.first
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(content) }))
			defer server.Close()
			mine := openStore(t)
			read := func(o repo.Options) error {
				o.Store, o.Keys = mine, ring(t, key)
				r, err := repo.Open(server.URL, o)
				if err == nil {
					_, err = r.Packages(t.Context(), arch)
				}
				return err
			}
			if err := read(repo.Options{}); err != nil {
				t.Fatal(err)
			}
			content = test.second
			err := read(test.o)
			if test.want == "" && err != nil || test.want != "" && (!isTrust(err) || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if test.o.AllowRollback {
				if err := read(repo.Options{}); err != nil {
					t.Errorf("after it was allowed: %v", err)
				}
			} else if strings.Contains(test.want, "seen before") {
				content = test.first
				if err := read(repo.Options{}); err != nil {
					t.Errorf("the newer one again: %v", err)
				}
			}
		})
	}
}

// A server's own keys count where that is asked for, and for its repository alone.
func TestDiscoverKeys(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	publish(t, dir, st, key, unsigned(t, st, "a", "1-r0", "usr/a", "A"))
	encode := base64.RawURLEncoding.EncodeToString
	public := key.Public().Key
	whole := []map[string]string{
		{"kty": "EC", "kid": "other", "crv": "P-256", "x": "AA", "y": "AA"},
		{"kty": "RSA", "kid": "tarn", "n": encode(public.N.Bytes()), "e": encode(big.NewInt(int64(public.E)).Bytes())},
	}
	for _, test := range []struct {
		name     string
		keys     any
		discover bool
		want     string
	}{
		{"asked for", whole, true, ""},
		{"not asked for", whole, false, "signed by"},
		{"no keys", []string{}, true, "signed by"},
		{"a short key", []map[string]string{{"kty": "RSA", "kid": "tarn", "n": "AQAB", "e": "AQAB"}}, true, "bits are out of range"},
		{"no number", []map[string]string{{"kty": "RSA", "kid": "tarn", "n": "!", "e": "AQAB"}}, true, "malformed modulus"},
		{"an even exponent", []map[string]string{{"kty": "RSA", "kid": "tarn", "n": encode(public.N.Bytes()), "e": "Ag"}}, true, "malformed exponent"},
		{"no list", "x", true, "discover keys"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := json.Marshal(map[string]any{"keys": test.keys})
			if err != nil {
				t.Fatal(err)
			}
			server := serve(t, dir, map[string]http.HandlerFunc{
				"/apk-configuration": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"jwks_uri":"/keys"}`) },
				"/keys":              func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(set) },
			})
			r, err := repo.Open(server.URL, repo.Options{Client: client(server), DiscoverKeys: test.discover})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Packages(t.Context(), arch)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	server := serve(t, dir, map[string]http.HandlerFunc{
		"/apk-configuration": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"jwks_uri":"http://keys.example/"}`) },
	})
	r, err := repo.Open(server.URL, repo.Options{Client: client(server), DiscoverKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Packages(t.Context(), arch); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("got %v", err)
	}
}

// What serve answers, and what it does not.
func TestHandler(t *testing.T) {
	dir, st, key := t.TempDir(), openStore(t), keys()[0]
	p := publisher(t, repo.Folder(dir), st)
	p.Snapshots, p.Replace = 5, true
	for i, content := range []string{"one", "other"} {
		p.Time = time.Unix(1_800_000_000+int64(i)*100, 0)
		mustPublish(t, p, unsigned(t, st, "a", "1-r0", "usr/a", content))
	}
	for name, text := range map[string]string{"secret": "s", "x86_64/.hidden.apk": "s", "page.html": "s", "tarn.rsa.pub": "public"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside.apk")
	if err := os.WriteFile(outside, []byte("s"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "x86_64", "link.apk")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "x86_64"), filepath.Join(dir, "aarch64")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "x86_64", "pipe.apk"), 0o644); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(repo.Handler(dir))
	defer server.Close()
	ask := func(method, path string, header ...string) (*http.Response, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(context.Background(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.URL.Opaque = path // as it is, with its dots
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		response, err := (&http.Transport{DisableCompression: true}).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var b bytes.Buffer
		if _, err := b.ReadFrom(response.Body); err != nil {
			t.Fatal(err)
		}
		return response, b.String()
	}
	const index = "/x86_64/APKINDEX.tar.gz"
	response, whole := ask("GET", index, "Accept-Encoding", "gzip")
	if response.StatusCode != 200 || response.Header.Get("Content-Encoding") != "" || response.Header.Get("Content-Type") != "application/gzip" || !strings.HasPrefix(whole, "\x1f\x8b") {
		t.Errorf("%d %v", response.StatusCode, response.Header)
	}
	tag := response.Header.Get("ETag")
	if response, got := ask("GET", index, "If-None-Match", tag); response.StatusCode != 304 || got != "" {
		t.Errorf("if changed: %d, %d bytes", response.StatusCode, len(got))
	}
	if response, got := ask("GET", index, "Range", "bytes=10-19", "If-Range", tag); response.StatusCode != 206 || got != whole[10:20] {
		t.Errorf("range: %d, %q", response.StatusCode, got)
	}
	if response, got := ask("GET", index, "Range", "bytes=10-19", "If-Range", `"another"`); response.StatusCode != 200 || got != whole {
		t.Errorf("range of another: %d, %d bytes", response.StatusCode, len(got))
	}
	if response, got := ask("HEAD", index); response.StatusCode != 200 || got != "" || response.ContentLength != int64(len(whole)) {
		t.Errorf("HEAD: %d, %d bytes, length %d", response.StatusCode, len(got), response.ContentLength)
	}
	if response, _ := ask("PUT", index); response.StatusCode != 405 || response.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("PUT: %d", response.StatusCode)
	}
	for path, want := range map[string]int{
		"/x86_64/a-1-r0.apk": 200, "/tarn.rsa.pub": 200,
		"/": 404, "/x86_64": 404, "/x86_64/": 404, "/secret": 404, "/page.html": 404, "/.lock": 404, "/x86_64/.hidden.apk": 404, "/x86_64/link.apk": 404, "/x86_64/pipe.apk": 404,
		"/aarch64/a-1-r0.apk": 404, "/../outside.apk": 404, "/x86_64/../../outside.apk": 404, "/x86_64/%2e%2e/%2e%2e/outside.apk": 404, "/x86_64//a-1-r0.apk": 404,
		"//etc/passwd.apk": 404, "/x86_64/b.apk": 404, "/snapshots/20270115T080000Z/x86_64/APKINDEX.tar.gz": 200, "/snapshots/20270115T080059Z/x86_64/APKINDEX.tar.gz": 200,
		"/snapshots/20270115T075959Z/x86_64/APKINDEX.tar.gz": 404, "/snapshots/20270115T080000Z/x86_64/b-1-r0.apk": 404, "/snapshots/20270115T080000Z/sparc/a-1-r0.apk": 404,
	} {
		if response, _ := ask("GET", path); response.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, response.StatusCode, want)
		}
	}
	// A snapshot is a repository of its own, of any time, with what was replaced since.
	for at, want := range map[string]string{"20270115T080000Z": "one", "20270115T080130Z": "one", "20270115T080140Z": "other", "20300101T000000Z": "other"} {
		all, err := fetchAll(t, repo.OpenStorage("snapshot", repo.Web(server.URL+"/snapshots/"+at, &web.Client{Retry: quick}), repo.Options{Keys: ring(t, key)}))
		if err != nil || all["a-1-r0"]["usr/a"] != want {
			t.Errorf("%s: %v, %v, want %s", at, all, err, want)
		}
	}
	// So it is through our own reader, from a folder as well.
	for _, location := range []string{dir, server.URL} {
		all, err := fetchAll(t, open(t, location+"/snapshots/20270115T080000Z", key))
		if err != nil || all["a-1-r0"]["usr/a"] != "one" {
			t.Errorf("%s: %v, %v", location, all, err)
		}
	}
	if _, err := fetchAll(t, open(t, dir+"/snapshots/20000101T000000Z", key)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the beginning: %v", err)
	}
}

// Who read the index before a package was replaced still gets the package that it names.
func TestReaderOfTheIndexBefore(t *testing.T) {
	for _, snapshots := range []int{0, 5} {
		dir, st, key := t.TempDir(), openStore(t), keys()[0]
		p := publisher(t, repo.Folder(dir), st)
		p.Replace, p.Snapshots = true, snapshots
		mustPublish(t, p, unsigned(t, st, "a", "1-r0", "usr/a", "one"))
		r := open(t, dir, key)
		if got := names(t, r); len(got) != 1 {
			t.Fatal(got)
		}
		mustPublish(t, p, unsigned(t, st, "a", "1-r0", "usr/a", "other"))
		all, err := fetchAll(t, r)
		if snapshots == 0 && !isTrust(err) || snapshots > 0 && (err != nil || all["a-1-r0"]["usr/a"] != "one") {
			t.Errorf("with %d snapshots: %v, %v", snapshots, all, err)
		}
	}
}
