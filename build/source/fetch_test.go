package source_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/debian/debiantest"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
)

var content = bytes.Repeat([]byte("0123456789abcdef"), 64<<10)

func sha512Hex(data []byte) string {
	sum := sha512.Sum512(data)
	return hex.EncodeToString(sum[:])
}

// serve answers requests; n counts from 1.
func serve(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, n int)) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r, int(n.Add(1))) }))
	t.Cleanup(server.Close)
	return server, &n
}

func newFetcher(t *testing.T) *source.Fetcher {
	return &source.Fetcher{Store: newStore(t), Client: &web.Client{Retry: quick}}
}

// blobs counts what the store holds.
func blobs(t *testing.T, st *store.Store) (n int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(st.Dir(), "blobs"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFetch(t *testing.T) {
	server, asked := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		switch r.URL.Path {
		case "/right":
			w.Write(content)
		case "/wrong":
			w.Write(content[1:])
		case "/moved":
			http.Redirect(w, r, "/right", http.StatusFound)
		case "/page": // of a captive portal
			io.WriteString(w, "<html>pay here</html>")
		default:
			http.NotFound(w, r)
		}
	})
	right, wrong := debiantest.SHA256(content), debiantest.SHA256(content[1:])
	for name, c := range map[string]struct {
		source source.Source
		want   string // a part of the error, or ""
		got    string // of the MismatchError
	}{
		"by sha256":                     {source: source.Source{URIs: []string{"/right"}, SHA256: right}},
		"by sha512":                     {source: source.Source{URIs: []string{"/right"}, SHA512: sha512Hex(content)}},
		"by both":                       {source: source.Source{URIs: []string{"/right"}, SHA256: right, SHA512: sha512Hex(content)}},
		"redirected":                    {source: source.Source{URIs: []string{"/moved"}, SHA256: right}},
		"the second address":            {source: source.Source{URIs: []string{"/none", "/right"}, SHA256: right}},
		"the second, after wrong bytes": {source: source.Source{URIs: []string{"/page", "/right"}, SHA256: right}},
		"wrong sha256":                  {source: source.Source{URIs: []string{"/wrong"}, SHA256: right}, want: "expected sha256 " + right + ", found " + wrong, got: wrong},
		"wrong sha512":                  {source: source.Source{URIs: []string{"/wrong"}, SHA512: sha512Hex(content)}, want: "expected sha512 ", got: sha512Hex(content[1:])},
		"right sha256, wrong sha512":    {source: source.Source{URIs: []string{"/right"}, SHA256: right, SHA512: sha512Hex(nil)}, want: "expected sha512 ", got: sha512Hex(content)},
		"not there":                     {source: source.Source{URIs: []string{"/none", "/none2"}, SHA256: right}, want: "/none2: 404 Not Found"},
		"no digest":                     {source: source.Source{URIs: []string{"/right"}}, want: "no digest"},
		"a digest of another length":    {source: source.Source{URIs: []string{"/right"}, SHA256: right[1:]}, want: "is no SHA-256"},
		"a digest in capitals":          {source: source.Source{URIs: []string{"/right"}, SHA256: strings.ToUpper(right)}, want: "is no SHA-256"},
		"nowhere":                       {source: source.Source{SHA256: right}, want: "no address and no mirror"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFetcher(t)
			s := c.source
			s.Name = "x"
			s.URIs = nil
			for _, p := range c.source.URIs {
				s.URIs = append(s.URIs, server.URL+p)
			}
			d, err := f.Fetch(context.Background(), s)
			if c.want == "" {
				if err != nil || d.Hex() != right {
					t.Fatalf("got %s, %v", d, err)
				}
				before := asked.Load()
				if d, err := f.Fetch(context.Background(), s); err != nil || d.Hex() != right {
					t.Errorf("a second time: got %s, %v", d, err)
				}
				if asked.Load() != before {
					t.Error("what the store has is fetched again")
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q in it", err, c.want)
			}
			if n := blobs(t, f.Store); n != 0 {
				t.Errorf("%d blobs were kept", n)
			}
			if m, is := errors.AsType[*source.MismatchError](err); c.got != "" && (!is || m.Got != c.got) {
				t.Errorf("got %v, want a MismatchError that found %s", err, c.got)
			}
		})
	}
}

func TestFetchAsksMirrorsByHash(t *testing.T) {
	server, _ := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { w.Write(content[2:]) })
	f := newFetcher(t)
	dir := t.TempDir()
	f.Mirrors = []source.Mirror{source.FolderMirror(filepath.Join(dir, "none")), source.FolderMirror(dir)}
	s := source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)}
	// A mirror is not believed either.
	if err := os.WriteFile(filepath.Join(dir, s.SHA256), content[1:], 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := f.Fetch(context.Background(), s)
	e, is := errors.AsType[*source.Error](err)
	if !is || len(e.Tried) != 3 || blobs(t, f.Store) != 0 {
		t.Fatalf("got %v, want an Error of three attempts, and nothing kept", err)
	}
	if err := os.WriteFile(filepath.Join(dir, s.SHA256), content, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(context.Background(), s); err != nil {
		t.Error(err)
	}
}

func TestFetchOutlastsOverload(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	server, n := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		mu.Lock()
		overloaded := rng.IntN(10) > 0
		code := []int{500, 502, 503, 504, 429}[rng.IntN(5)]
		mu.Unlock()
		if overloaded {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(code)
			return
		}
		w.Write(content)
	})
	passed := 0
	for i := range 20 {
		f := newFetcher(t)
		if _, err := f.Fetch(context.Background(), source.Source{Name: "x", URIs: []string{fmt.Sprintf("%s/%d", server.URL, i)}, SHA256: debiantest.SHA256(content)}); err == nil {
			passed++
		}
	}
	// 22 attempts at a tenth: nine of ten pass, give or take.
	if passed < 14 {
		t.Errorf("%d of 20 fetches passed, by %d requests", passed, n.Load())
	}
}

func TestFetchDoesNotInsistWhereItIsNoUse(t *testing.T) {
	for code, want := range map[int]int64{404: 1, 403: 1, 410: 1, 401: 1, 501: 1, 503: 3} {
		server, n := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { w.WriteHeader(code) })
		f := newFetcher(t)
		f.Client.Retry.Insist = -1
		_, err := f.Fetch(context.Background(), source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)})
		if s, is := errors.AsType[*web.StatusError](err); !is || s.Code != code {
			t.Errorf("got %v, want status %d", err, code)
		}
		if n.Load() != want {
			t.Errorf("status %d: asked %d times, want %d", code, n.Load(), want)
		}
	}
	f := newFetcher(t)
	f.Client.Retry = web.Retry{Pause: time.Hour, MaxPause: time.Hour} // a retry would not end
	if _, err := f.Fetch(context.Background(), source.Source{Name: "x", URIs: []string{"http://nothing.invalid/x"}, SHA256: debiantest.SHA256(content)}); err == nil || !strings.Contains(err.Error(), "nothing.invalid") {
		t.Errorf("got %v", err)
	}
}

func TestFetchGoesOnWhereItBroke(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		var from []string
		var mu sync.Mutex
		server, n := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
			mu.Lock()
			from = append(from, r.Header.Get("Range"))
			mu.Unlock()
			w.Header().Set("ETag", `"one"`)
			rest := content
			if at := 0; ranges && r.Header.Get("Range") != "" {
				fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
				rest = content[at:]
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(content)-1, len(content)))
				w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
				w.WriteHeader(http.StatusPartialContent)
			} else {
				w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
			}
			if n < 5 {
				w.Write(rest[:min(len(rest), 100_000*n)])
				panic(http.ErrAbortHandler) // the connection breaks
			}
			w.Write(rest)
		})
		f := newFetcher(t)
		if _, err := f.Fetch(context.Background(), source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)}); err != nil {
			t.Fatalf("ranges %v: %v", ranges, err)
		}
		if n.Load() != 5 || from[0] != "" || !strings.HasPrefix(from[1], "bytes=") || from[1] == "bytes=0-" {
			t.Errorf("ranges %v: asked for %q", ranges, from)
		}
	}
}

func TestFetchNoticesAFileThatChangedMidway(t *testing.T) {
	other := bytes.Repeat([]byte("x"), len(content))
	server, _ := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		if n == 1 {
			w.Write(content[:1000])
			panic(http.ErrAbortHandler)
		}
		w.Write(other)
	})
	f := newFetcher(t)
	_, err := f.Fetch(context.Background(), source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)})
	if _, is := errors.AsType[*source.MismatchError](err); !is || blobs(t, f.Store) != 0 {
		t.Errorf("got %v, want a MismatchError and nothing kept", err)
	}
}

func TestFetchGivesUpWhatStalls(t *testing.T) {
	stop := make(chan struct{})
	server, n := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:10])
		w.(http.Flusher).Flush()
		<-stop
	})
	defer close(stop)
	f := newFetcher(t)
	f.Client.Stall = 200 * time.Millisecond
	_, err := f.Fetch(context.Background(), source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)})
	if err == nil || !strings.Contains(err.Error(), "no byte came") {
		t.Errorf("got %v after %d requests", err, n.Load())
	}
	for n.Load() < 2 { // a busy machine may be late to count what was asked
		time.Sleep(time.Millisecond)
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	stop := make(chan struct{})
	server, _ := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { <-stop })
	defer close(stop)
	f := newFetcher(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	if _, err := f.Fetch(ctx, source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)}); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestFetchLimitsSize(t *testing.T) {
	server, _ := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { w.Write(content) })
	f := newFetcher(t)
	f.MaxSize = int64(len(content)) - 1
	s := source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)}
	if _, err := f.Fetch(context.Background(), s); err == nil || !strings.Contains(err.Error(), "more than") || blobs(t, f.Store) != 0 {
		t.Errorf("got %v", err)
	}
	f = newFetcher(t)
	f.MaxSize = int64(len(content))
	if _, err := f.Fetch(context.Background(), s); err != nil {
		t.Errorf("exactly the limit: %v", err)
	}
}

func TestFetchOffline(t *testing.T) {
	server, n := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { w.Write(content) })
	f := newFetcher(t)
	f.Offline = true
	s := source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)}
	if _, err := f.Fetch(context.Background(), s); !errors.Is(err, web.ErrOffline) || n.Load() != 0 {
		t.Errorf("got %v and %d requests", err, n.Load())
	}
	if _, _, err := f.Store.Put(bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(context.Background(), s); err != nil {
		t.Errorf("what the store has: %v", err)
	}
}

func TestFetchOnceForMany(t *testing.T) {
	server, n := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		time.Sleep(20 * time.Millisecond)
		w.Write(content)
	})
	f := newFetcher(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := f.Fetch(context.Background(), source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n.Load() != 1 {
		t.Errorf("asked %d times, want 1", n.Load())
	}
}

func TestFetchChecksCertificates(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(content) }))
	defer server.Close()
	s := source.Source{Name: "x", URIs: []string{server.URL}, SHA256: debiantest.SHA256(content)}
	f := newFetcher(t)
	_, err := f.Fetch(context.Background(), s)
	if _, is := errors.AsType[x509.UnknownAuthorityError](err); !is {
		t.Errorf("got %v, want an unknown authority", err)
	}
	f = newFetcher(t)
	f.Client.Transport = server.Client().Transport
	if _, err := f.Fetch(context.Background(), s); err != nil {
		t.Error(err)
	}
}

func TestCredentialsGoToTheirHostOnly(t *testing.T) {
	netrc := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(netrc, []byte("# mine\nmachine 127.0.0.1 login ann\n password s3cret\ndefault login evil password evil\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NETRC", netrc)
	t.Setenv("HTTP_AUTH", "basic:elsewhere.example:bob:pa:ss")
	c, err := web.LoadCredentials()
	if err != nil {
		t.Fatal(err)
	}
	if user, password, _ := c.For("elsewhere.example"); user != "bob" || password != "pa:ss" {
		t.Errorf("HTTP_AUTH: got %s %s", user, password)
	}
	if text := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(text, "s3cret") || strings.Contains(text, "pa:ss") {
		t.Errorf("secrets are printed: %s", text)
	}
	var seen []string
	answer := func(w http.ResponseWriter, r *http.Request, _ int) {
		user, password, _ := r.BasicAuth()
		seen = append(seen, user+":"+password)
		if r.URL.Path == "/moved" {
			// The same server by another name.
			http.Redirect(w, r, strings.Replace("http://"+r.Host, "127.0.0.1", "localhost", 1)+"/x", http.StatusFound)
			return
		}
		w.Write(content)
	}
	server, _ := serve(t, answer)
	f := newFetcher(t)
	f.Client.Credentials = c
	if _, err := f.Fetch(context.Background(), source.Source{Name: "x", URIs: []string{server.URL + "/moved"}, SHA256: debiantest.SHA256(content)}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || seen[0] != "ann:s3cret" || seen[1] != ":" {
		t.Errorf("got %q, want the password for 127.0.0.1 only", seen)
	}
	t.Setenv("HTTP_AUTH", "nonsense")
	if _, err := web.LoadCredentials(); err == nil || strings.Contains(err.Error(), "nonsense") {
		t.Errorf("malformed HTTP_AUTH: got %v", err)
	}
}

func TestErrorsHideSecretsOfAddresses(t *testing.T) {
	server, _ := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { w.WriteHeader(404) })
	f := newFetcher(t)
	address := strings.Replace(server.URL, "http://", "http://ann:s3cret@", 1) + "/x"
	_, err := f.Fetch(context.Background(), source.Source{Name: "x", URIs: []string{address}, SHA256: debiantest.SHA256(content)})
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}
