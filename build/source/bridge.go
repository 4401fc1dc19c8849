package source

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/tarn-build/tarn/pkg/web"
)

// A bridge stands between git and a server of git's: git asks an address of this machine's
// loopback, and each of its requests is sent on by the fetcher's client, which tries again
// what may pass. git itself gives up a fetch, of three requests at least, when one fails. It
// also knows where the passwords are for, so that git need not.
//
// git's requests of a fetch may be sent twice: they are questions (gitprotocol-http(5)).
type bridge struct {
	client   *web.Client
	ctx      context.Context
	path     string // that nobody else of this machine can guess
	listener net.Listener
	server   *http.Server

	mu    sync.Mutex
	base  string // of the repository, where redirects have led to
	gone  error  // the last answer that could not be had, however often it was asked for
	broke error  // the last that broke off
}

// maxAsked is the most bytes that a request of git's may have: what it wants and has.
const maxAsked = 64 << 20

// openBridge opens a bridge to the repository of an address of http or https.
func openBridge(ctx context.Context, client *web.Client, address string) (*bridge, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &bridge{client: client, ctx: ctx, path: "/" + rand.Text(), listener: listener, base: strings.TrimRight(address, "/")}
	b.server = &http.Server{Handler: b, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { _ = b.server.Serve(listener) }()
	return b, nil
}

// address is what git is told.
func (b *bridge) address() string { return "http://" + b.listener.Addr().String() + b.path }

func (b *bridge) close() { _ = b.server.Close() }

// failures are what git does not know: why there was no answer, and why one broke off.
func (b *bridge) failures() (gone, broke error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone, b.broke
}

// ServeHTTP sends a request on.
func (b *bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rest, found := strings.CutPrefix(r.URL.Path, b.path)
	if !found || rest != "" && !strings.HasPrefix(rest, "/") {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAsked))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	base := b.base
	b.mu.Unlock()
	to := base + rest
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	response, err := b.client.Exchange(b.ctx, func(ctx context.Context) (*http.Request, error) {
		request, err := http.NewRequestWithContext(ctx, r.Method, to, bytes.NewReader(body))
		if err == nil {
			for _, name := range []string{"Accept", "Accept-Encoding", "Accept-Language", "Content-Encoding", "Content-Type", "Git-Protocol", "Pragma"} {
				request.Header[name] = r.Header.Values(name)
			}
			request.Header.Set("User-Agent", "git/2 (tarn)")
		}
		return request, err
	})
	if err != nil {
		b.note(&b.gone, err)
		if s, is := errors.AsType[*web.StatusError](err); is {
			w.WriteHeader(s.Code)
		} else {
			w.WriteHeader(http.StatusBadGateway)
		}
		return
	}
	defer response.Body.Close()
	b.follow(rest, r.URL.RawQuery, response.Request.URL)
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Length", "Cache-Control"} {
		if value := response.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(response.StatusCode)
	if _, err := io.Copy(flushing{w}, response.Body); err != nil {
		b.note(&b.broke, err)
		panic(http.ErrAbortHandler) // git sees that it is not whole
	}
}

func (b *bridge) note(where *error, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*where = err
}

// follow notes where the first request was redirected to: what git posts goes there at once.
func (b *bridge) follow(rest, query string, at *url.URL) {
	if !strings.HasSuffix(rest, "/info/refs") {
		return
	}
	u := *at
	u.RawQuery = ""
	if base, found := strings.CutSuffix(u.String(), rest); found && at.RawQuery == query {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.base = base
	}
}

// flushing passes on what comes as it comes.
type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	if flusher, is := f.ResponseWriter.(http.Flusher); is {
		flusher.Flush()
	}
	return n, err
}
