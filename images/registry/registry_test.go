package registry_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
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

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	fake "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/tarn-build/tarn/images/registry"
	"github.com/tarn-build/tarn/pkg/web"
)

var quick = web.Retry{Pause: time.Millisecond, MaxPause: 4 * time.Millisecond}

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the registry of the tests tells what it refuses
	os.Exit(m.Run())
}

// serve starts go-containerregistry's own registry behind a handler.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	var h http.Handler = fake.New(fake.Logger(log.New(io.Discard, "", 0)), fake.WithReferrersSupport(true))
	if wrap != nil {
		h = wrap(h)
	}
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// flaky fails half of the requests: it answers nothing of them, drops them, takes their
// bytes and loses the answer, or breaks off in the midst of it.
func flaky(seed uint64) func(http.Handler) http.Handler {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(seed, 0))
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			n := dice.IntN(10)
			mu.Unlock()
			switch n {
			case 0, 1:
				w.WriteHeader(http.StatusServiceUnavailable)
			case 2:
				panic(http.ErrAbortHandler)
			case 3:
				h.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			case 4:
				whole := httptest.NewRecorder()
				h.ServeHTTP(whole, r)
				for key, values := range whole.Header() {
					w.Header()[key] = values
				}
				body := whole.Body.Bytes()
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				w.WriteHeader(whole.Code)
				_, _ = w.Write(body[:len(body)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			default:
				h.ServeHTTP(w, r)
			}
		})
	}
}

func TestPushToARegistryThatFailsHalfOfItsRequests(t *testing.T) {
	index, err := random.Index(20000, 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	want, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(8) {
		host := serve(t, flaky(seed))
		var retries, sent atomic.Int32
		c := &registry.Client{Retry: quick, Report: func(e registry.Event) {
			if e.Retry > 0 {
				retries.Add(1)
			}
			if e.Blob == registry.BlobSent {
				sent.Add(1)
			}
		}}
		tag, err := c.Tag(host + "/test/image:v1")
		if err != nil {
			t.Fatal(err)
		}
		ref, err := c.Push(t.Context(), tag.Context(), index)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := c.Put(t.Context(), tag, index); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if ref.DigestStr() != want.String() {
			t.Errorf("seed %d: got %s, want %s", seed, ref.DigestStr(), want)
		}
		if retries.Load() == 0 {
			t.Errorf("seed %d: nothing failed", seed)
		}
		d, err := c.Get(t.Context(), tag)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := d.ImageIndex()
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(got); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		// All of it is there: no blob is sent again.
		before := sent.Load()
		again := &registry.Client{Retry: quick, Report: c.Report}
		if _, err := again.Push(t.Context(), tag.Context(), index); err != nil {
			t.Fatal(err)
		}
		if sent.Load() != before {
			t.Errorf("seed %d: %d blobs were sent again", seed, sent.Load()-before)
		}
	}
}

func TestOnlyMissingBlobsAreSent(t *testing.T) {
	host := serve(t, nil)
	one, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	var sent, there int
	var mu sync.Mutex
	c := func() *registry.Client {
		sent, there = 0, 0
		return &registry.Client{Report: func(e registry.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e.Blob {
			case registry.BlobSent:
				sent++
			case registry.BlobThere:
				there++
			}
		}}
	}
	to, err := name.NewRepository(host + "/a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c().Push(t.Context(), to, one); err != nil {
		t.Fatal(err)
	}
	if sent != 4 || there != 0 {
		t.Errorf("first: %d sent, %d there, want 4 and 0", sent, there)
	}
	other := imageWith(t, one)
	if _, err := c().Push(t.Context(), to, other); err != nil {
		t.Fatal(err)
	}
	if sent != 2 || there != 3 {
		t.Errorf("with one layer more: %d sent, %d there, want 2 and 3", sent, there)
	}
}

func TestMessages(t *testing.T) {
	deny := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		})
	})
	broken := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	})
	good := serve(t, nil)
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	stranger.StartTLS()
	t.Cleanup(stranger.Close)
	// This one shows its certificate when it was asked without TLS, too.
	slow, asked := httptest.NewUnstartedServer(http.NotFoundHandler()), make(chan struct{})
	slow.Config.ErrorLog = log.New(&onFirst{do: func() { close(asked) }}, "", 0)
	slow.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { <-asked; return nil, nil }}
	slow.StartTLS()
	t.Cleanup(slow.Close)
	for _, test := range []struct{ ref, want string }{
		{deny + "/a:b", "read " + deny + "/a:b: not allowed: the registry says 401 (UNAUTHORIZED: authentication required)\n  hint: docker login " + deny},
		{broken + "/a:b", "read " + broken + "/a:b: the registry says 502 (Bad Gateway)"},
		{good + "/a:b", "read " + good + "/a:b: the registry does not have it (NAME_UNKNOWN: Unknown name)"},
		{"127.0.0.1:1/a:b", "read 127.0.0.1:1/a:b: dial tcp 127.0.0.1:1: connect: connection refused"},
		{strings.TrimPrefix(stranger.URL, "https://") + "/a:b", "certificate signed by unknown authority\n  hint: SSL_CERT_FILE"},
		{strings.TrimPrefix(slow.URL, "https://") + "/a:b", "certificate signed by unknown authority\n  hint: SSL_CERT_FILE"},
		{"10.255.255.1:5000/a:b", "--insecure"},
	} {
		t.Run(test.ref, func(t *testing.T) {
			c := &registry.Client{Retry: quick, Keychain: nobody{}, Transport: onlyLoopback{}}
			ref, err := c.Reference(test.ref)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Get(t.Context(), ref)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if _, is := errors.AsType[*registry.Error](err); !is {
				t.Errorf("got a %T, want a *registry.Error", err)
			}
		})
	}
	if _, err := (&registry.Client{}).Reference("UPPER/case"); err == nil {
		t.Error("a name in capitals was taken")
	}
	off := &registry.Client{Offline: true}
	ref, err := off.Reference(good + "/a:b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := off.Get(t.Context(), ref); !errors.Is(err, web.ErrOffline) {
		t.Errorf("offline: got %v", err)
	}
}

func TestStopsWithItsContext(t *testing.T) {
	busy := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	c := &registry.Client{Retry: web.Retry{Pause: time.Hour, MaxPause: time.Hour}, Report: func(registry.Event) { cancel(why) }}
	ref, err := c.Reference(busy + "/a:b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, ref); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
}

// TestCredentials logs in with what the files of docker and podman and a credential
// helper say.
func TestCredentials(t *testing.T) {
	host := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "me" || password != "s3cret" {
				w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	image, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	const right, wrong = "bWU6czNjcmV0", "bWU6d3Jvbmc=" // me:s3cret, me:wrong
	for name, test := range map[string]struct {
		files map[string]string
		env   map[string]string
		fails bool
	}{
		"nothing":          {fails: true},
		"docker":           {files: map[string]string{"home/.docker/config.json": `{"auths":{"HOST":{"auth":"` + right + `"}}}`}},
		"DOCKER_CONFIG":    {files: map[string]string{"d/config.json": `{"auths":{"HOST":{"auth":"` + right + `"}}}`, "home/.docker/config.json": `{"auths":{"HOST":{"auth":"` + wrong + `"}}}`}, env: map[string]string{"DOCKER_CONFIG": "d"}},
		"podman":           {files: map[string]string{"home/.config/containers/auth.json": `{"auths":{"HOST/team":{"auth":"` + right + `"},"HOST":{"auth":"` + wrong + `"}}}`}},
		"both":             {files: map[string]string{"home/.docker/config.json": `{"auths":{"elsewhere":{"auth":"` + wrong + `"}}}`, "run/containers/auth.json": `{"auths":{"HOST":{"auth":"` + right + `"}}}`}, env: map[string]string{"XDG_RUNTIME_DIR": "run"}},
		"helper":           {files: map[string]string{"home/.docker/config.json": `{"credHelpers":{"HOST":"test"}}`, "bin/docker-credential-test": "#!/bin/sh\nread host\n[ \"$1 $host\" = 'get HOST' ] && echo '{\"Username\":\"me\",\"Secret\":\"s3cret\"}'\n"}},
		"store":            {files: map[string]string{"home/.docker/config.json": `{"credsStore":"test"}`, "bin/docker-credential-test": "#!/bin/sh\necho '{\"Username\":\"me\",\"Secret\":\"s3cret\"}'\n"}},
		"store without":    {files: map[string]string{"home/.docker/config.json": `{"credsStore":"test","auths":{"HOST":{"auth":"` + right + `"}}}`, "bin/docker-credential-test": "#!/bin/sh\necho 'credentials not found in native keychain'; exit 1\n"}},
		"helper elsewhere": {files: map[string]string{"home/.docker/config.json": `{"credHelpers":{"HOST":"../../evil"}}`}, fails: true},
		"malformed":        {files: map[string]string{"home/.docker/config.json": `{"auths":`}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range test.files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "HOST", host)), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, variable := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
				t.Setenv(variable, "")
				if value := test.env[variable]; value != "" {
					t.Setenv(variable, filepath.Join(dir, value))
				}
			}
			t.Setenv("HOME", filepath.Join(dir, "home"))
			t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
			c := &registry.Client{Retry: quick}
			tag, err := c.Tag(host + "/team/image")
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Push(t.Context(), tag.Context(), image)
			if test.fails != (err != nil) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the password is told: %v", err)
			}
		})
	}
}

// TestReferrers keeps a manifest beside an image, with the referrers API and without.
func TestReferrers(t *testing.T) {
	answering := func(code int) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/referrers/") {
					w.WriteHeader(code)
					return
				}
				h.ServeHTTP(w, r)
			})
		}
	}
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"API":                nil,
		"fallback tag":       answering(http.StatusNotFound),
		"bad request":        answering(http.StatusBadRequest),
		"method not allowed": answering(http.StatusMethodNotAllowed),
		"not implemented":    answering(http.StatusNotImplemented),
		"another page":       answering(http.StatusOK),
	} {
		t.Run(name, func(t *testing.T) {
			c := &registry.Client{Retry: quick}
			tag, err := c.Tag(serve(t, wrap) + "/a")
			if err != nil {
				t.Fatal(err)
			}
			image, err := random.Image(10, 1)
			if err != nil {
				t.Fatal(err)
			}
			ref, err := c.Push(t.Context(), tag.Context(), image)
			if err != nil {
				t.Fatal(err)
			}
			beside := withSubject(t, image)
			want, err := c.Push(t.Context(), tag.Context(), beside)
			if err != nil {
				t.Fatal(err)
			}
			found, err := c.Referrers(t.Context(), ref)
			if err != nil || len(found) != 1 || found[0].Digest.String() != want.DigestStr() {
				t.Errorf("got %v, %v, want %s", found, err, want.DigestStr())
			}
		})
	}
}

// A registry that sends a request on and on is left after a while.
func TestRedirectsWithoutEnd(t *testing.T) {
	var asked atomic.Int32
	c := &registry.Client{Retry: quick}
	ref, err := c.Reference(serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				asked.Add(1)
				http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			h.ServeHTTP(w, r)
		})
	}) + "/a")
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := c.Push(t.Context(), ref.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(t.Context(), pushed)
	if err != nil {
		t.Fatal(err)
	}
	there, err := got.Image()
	if err != nil {
		t.Fatal(err)
	}
	_, err = there.RawConfigFile()
	if err == nil || !strings.Contains(err.Error(), "redirects more than 10 times") {
		t.Errorf("got %v", err)
	}
	if n := asked.Load(); n > 11 {
		t.Errorf("it was asked %d times", n)
	}
}

// nobody is a keychain that knows nobody.
type nobody struct{}

// onFirst does something once, when it is written to.
type onFirst struct {
	once sync.Once
	do   func()
}

func (f *onFirst) Write(p []byte) (int, error) {
	f.once.Do(f.do)
	return len(p), nil
}

// onlyLoopback asks no machine but this one, not even by mistake.
type onlyLoopback struct{}

func (onlyLoopback) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Hostname() != "127.0.0.1" {
		return nil, errors.New("http: server gave HTTP response to HTTPS client")
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (nobody) Resolve(authn.Resource) (authn.Authenticator, error) { return authn.Anonymous, nil }

// imageWith is an image with one layer more.
func imageWith(t *testing.T, base v1.Image) v1.Image {
	t.Helper()
	layer, err := random.Layer(1000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// withSubject is a manifest that says that it belongs to another one.
func withSubject(t *testing.T, subject v1.Image) v1.Image {
	t.Helper()
	of, err := partial.Descriptor(subject)
	if err != nil {
		t.Fatal(err)
	}
	return mutate.Subject(mutate.MediaType(imageWith(t, empty.Image), types.OCIManifestSchema1), *of).(v1.Image)
}
