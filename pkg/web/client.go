// Package web gets bytes by HTTP: it tries again what may pass, goes on where a
// connection broke, asks for bytes only where they changed, and tells passwords to the
// hosts they are for. What the bytes are worth is the caller's affair: each checks them
// against a digest or a signature that it has from elsewhere.
package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Retry says how often and how long something that may pass is tried again. The
// zero value is the default.
type Retry struct {
	// Attempts at each address before mirrors are asked; 3 when 0.
	Attempts int
	// Insist is how many further rounds there are, once the mirrors did not have it,
	// over addresses that are there and fail (Flaky); 40 when 0, none when negative:
	// of ten servers that fail nine requests of ten each gives what it has.
	Insist int
	// Pause is the first pause, doubled each time up to MaxPause; 1 s and 15 s when 0.
	Pause, MaxPause time.Duration
}

// WithDefaults is r with the default of whatever is 0.
func (r Retry) WithDefaults() Retry {
	if r.Attempts == 0 {
		r.Attempts = 3
	}
	if r.Insist == 0 {
		r.Insist = 40
	}
	if r.Pause == 0 {
		r.Pause = time.Second
	}
	if r.MaxPause == 0 {
		r.MaxPause = 15 * time.Second
	}
	return r
}

// Sleep waits before the nth retry, from 0: between half and all of the pause, so
// that many who wait do not come back at once. A server that says how long
// (Retry-After) is heard, up to four times the longest pause.
func (r Retry) Sleep(ctx context.Context, n int, err error) error {
	pause := min(r.Pause<<min(n, 16), r.MaxPause)
	pause = pause/2 + rand.N(pause/2+1)
	if s, is := errors.AsType[*StatusError](err); is && s.RetryAfter > pause {
		pause = min(s.RetryAfter, 4*r.MaxPause)
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// ErrOffline says that bytes are not in the store and nothing may be asked.
var ErrOffline = errors.New("offline")

// StatusError is an answer of HTTP other than the one hoped for.
type StatusError struct {
	Code       int
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	text := strings.TrimSpace(strconv.Itoa(e.Code) + " " + http.StatusText(e.Code))
	if e.RetryAfter > time.Minute {
		text += ", and asks to wait " + e.RetryAfter.Round(time.Second).String()
	}
	return text
}

// Client gets bytes by HTTP. The zero value works: it uses the proxies of the
// environment (HTTP_PROXY and so on) and the machine's certificates.
type Client struct {
	// Offline refuses every request with ErrOffline.
	Offline bool
	Retry   Retry
	// Credentials are sent to the hosts they are for; none when nil.
	Credentials *Credentials
	// AnyHost sends what Credentials hold for no host in particular to whichever host is
	// asked, and to none that it redirects to. It is for clients whose addresses all come
	// from one who may know the password.
	AnyHost bool
	// StayTLS refuses redirects from https to http.
	StayTLS bool
	// Connect and Stall are how long a connection may take to come about, and how
	// long an answer may give no byte; 10 s and 30 s when 0.
	Connect, Stall time.Duration
	// Transport carries requests; one with the settings above when nil.
	Transport http.RoundTripper
	// Proxy chooses the proxy of a request; that of the environment when nil.
	Proxy func(*http.Request) (*url.URL, error)

	once   sync.Once
	client *http.Client
	stall  time.Duration

	mu          sync.Mutex
	unreachable map[string]error // hosts that are not asked again, and why
}

// With is a client like c with another patience: what of retry is 0 stays as it is, and
// stall, when it is not 0, is both Connect and Stall.
func (c *Client) With(retry Retry, stall time.Duration) *Client {
	other := &Client{Offline: c.Offline, Retry: c.Retry, Credentials: c.Credentials, AnyHost: c.AnyHost, StayTLS: c.StayTLS,
		Connect: cmp.Or(stall, c.Connect), Stall: cmp.Or(stall, c.Stall), Transport: c.Transport, Proxy: c.Proxy}
	other.Retry.Attempts = cmp.Or(retry.Attempts, c.Retry.Attempts)
	other.Retry.Insist = cmp.Or(retry.Insist, c.Retry.Insist)
	other.Retry.Pause = cmp.Or(retry.Pause, c.Retry.Pause)
	other.Retry.MaxPause = cmp.Or(retry.MaxPause, c.Retry.MaxPause)
	return other
}

func (c *Client) init() {
	c.once.Do(func() {
		c.stall = c.Stall
		if c.stall == 0 {
			c.stall = 30 * time.Second
		}
		connect := c.Connect
		if connect == 0 {
			connect = 10 * time.Second
		}
		c.unreachable = map[string]error{}
		transport := c.Transport
		if transport == nil {
			proxy := c.Proxy
			if proxy == nil {
				proxy = http.ProxyFromEnvironment
			}
			transport = &http.Transport{
				Proxy:                 proxy,
				DialContext:           (&net.Dialer{Timeout: connect, KeepAlive: 30 * time.Second}).DialContext,
				TLSHandshakeTimeout:   connect,
				ResponseHeaderTimeout: c.stall,
				ForceAttemptHTTP2:     true,
				MaxIdleConnsPerHost:   8,
				IdleConnTimeout:       30 * time.Second,
				// Bytes are checked by digest as they lie on the server.
				DisableCompression: true,
			}
		}
		c.client = &http.Client{Transport: withCredentials{transport, c.Credentials, c.AnyHost}, CheckRedirect: c.checkRedirect}
	})
}

// checkRedirect is asked before a redirect is followed.
func (c *Client) checkRedirect(request *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return errors.New("more than 10 redirects")
	case request.URL.Scheme != "http" && request.URL.Scheme != "https":
		return fmt.Errorf("redirect to the scheme %q", request.URL.Scheme)
	case c.StayTLS && via[len(via)-1].URL.Scheme == "https" && request.URL.Scheme != "https":
		return errors.New("redirect from https to http")
	}
	return nil
}

// withCredentials adds to each request, redirected ones too, what its own host is
// to be told and no other. What was asked for over TLS is told over TLS alone.
type withCredentials struct {
	http.RoundTripper
	credentials *Credentials
	anyHost     bool
}

func (t withCredentials) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") != "" {
		return t.RoundTripper.RoundTrip(r)
	}
	first := r
	secure := false
	for first.Response != nil && first.Response.Request != nil { // the answer that redirected here
		first = first.Response.Request
		secure = secure || first.URL.Scheme == "https"
	}
	user, password, found := t.credentials.For(r.URL.Hostname())
	if !found && t.anyHost && r.URL.Host == first.URL.Host {
		user, password, found = t.credentials.Any()
	}
	if found && (r.URL.Scheme == "https" || !secure) {
		r = r.Clone(r.Context())
		r.SetBasicAuth(user, password)
	}
	return t.RoundTripper.RoundTrip(r)
}

// Body is what an address gives. It goes on by itself where a connection broke.
type Body struct {
	io.ReadCloser
	Size int64 // in bytes; -1 when the server does not say
	// ETag and Modified are what Conditions of a later request may name.
	ETag, Modified string
	// Unchanged says that the server has what the conditions named: there are no bytes.
	Unchanged bool
}

// Conditions ask for bytes only where they changed.
type Conditions struct{ ETag, Modified string }

// Get asks for an address, tries again what may pass, and goes on where a
// connection broke (by Range) as long as bytes come. Bytes are not checked here.
func (c *Client) Get(ctx context.Context, address string, when Conditions) (*Body, error) {
	retry := c.Retry.WithDefaults()
	for n := 0; ; n++ {
		body, err := c.GetOnce(ctx, address, when)
		if err == nil || n+1 >= retry.Attempts || !Passing(err) {
			return body, err
		}
		if err := retry.Sleep(ctx, n, err); err != nil {
			return nil, err
		}
	}
}

// GetOnce is Get without trying again when the first answer does not come.
func (c *Client) GetOnce(ctx context.Context, address string, when Conditions) (*Body, error) {
	retry := c.Retry.WithDefaults()
	retry.Insist = 0
	return c.getOnce(ctx, address, when, retry)
}

// GetInsisting is GetOnce for who has nobody else to ask: of a server that fails most of
// the time it goes on for the rest of what has begun to come as often as Retry.Insist says.
func (c *Client) GetInsisting(ctx context.Context, address string) (*Body, error) {
	return c.getOnce(ctx, address, Conditions{}, c.Retry.WithDefaults())
}

func (c *Client) getOnce(ctx context.Context, address string, when Conditions, retry Retry) (*Body, error) {
	r := &resuming{client: c, ctx: ctx, address: address, retry: retry}
	response, err := c.request(ctx, address, 0, "", when)
	if err != nil {
		return nil, err
	}
	header := response.Header
	body := &Body{ReadCloser: r, Size: response.ContentLength, ETag: header.Get("ETag"), Modified: header.Get("Last-Modified")}
	if response.StatusCode == http.StatusNotModified {
		response.Body.Close()
		body.ReadCloser, body.Unchanged = http.NoBody, true
		return body, nil
	}
	r.body, r.size = response.Body, response.ContentLength
	if tag := body.ETag; !strings.HasPrefix(tag, "W/") {
		r.same = tag
	}
	return body, nil
}

// request asks for the bytes of an address from a place on. The answer is one of
// 200, 206 with exactly these bytes, and 304.
func (c *Client) request(ctx context.Context, address string, from int64, same string, when Conditions) (*http.Response, error) {
	c.init()
	if c.Offline {
		return nil, ErrOffline
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("it is no address")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("scheme %q is not supported", u.Scheme)
	}
	if err := c.reachable(u.Host); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		cancel(nil)
		return nil, errors.New("it is no address")
	}
	request.Header.Set("User-Agent", "tarn")
	request.Header.Set("Accept", "*/*")
	// Some servers say that a .tar.gz is a tar that they compressed: it would arrive expanded.
	request.Header.Set("Accept-Encoding", "identity")
	if from > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		if same != "" {
			request.Header.Set("If-Range", same)
		}
	}
	if when.ETag != "" {
		request.Header.Set("If-None-Match", when.ETag)
	} else if when.Modified != "" {
		request.Header.Set("If-Modified-Since", when.Modified)
	}
	response, err := c.client.Do(request)
	if err != nil {
		cancel(nil)
		return nil, c.explain(u.Host, err)
	}
	fail := func(err error) (*http.Response, error) {
		response.Body.Close()
		cancel(nil)
		return nil, err
	}
	switch response.StatusCode {
	case http.StatusOK, http.StatusNotModified:
	case http.StatusPartialContent:
		var start int64
		if _, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-", &start); err != nil || start != from {
			return fail(errors.New("the server answers with other bytes than asked for"))
		}
	default:
		return fail(&StatusError{Code: response.StatusCode, RetryAfter: retryAfter(response.Header, time.Now())})
	}
	response.Body = newWatched(response.Body, cancel, c.stall)
	return response, nil
}

// retryAfter is how long a server asks to wait: Retry-After, in seconds or as a date (RFC 9110),
// or where a limit of requests is used up the time at which it is renewed, as Software
// Heritage and GitHub tell it (X-RateLimit-Reset, in seconds of Unix). 0 is not said.
func retryAfter(h http.Header, now time.Time) time.Duration {
	const most = 24 * time.Hour
	text := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return min(max(0, time.Duration(seconds)*time.Second), most)
	}
	if date, err := http.ParseTime(text); err == nil {
		return min(max(0, date.Sub(now)), most)
	}
	if reset, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64); err == nil && h.Get("X-RateLimit-Remaining") == "0" {
		return min(max(0, time.Unix(reset, 0).Sub(now)), most)
	}
	return 0
}

// explain drops from an error what the caller says anyway: method and address. A
// host that cannot be reached at all is remembered, so that fifty sources of one
// host do not wait fifty times.
func (c *Client) explain(host string, err error) error {
	if e, is := errors.AsType[*url.Error](err); is {
		err = e.Err
	}
	if dns, is := errors.AsType[*net.DNSError](err); is {
		err = &unreachableError{fmt.Sprintf("host %q is not known: %s", dns.Name, dns.Err)}
		c.mu.Lock()
		c.unreachable[host] = err
		c.mu.Unlock()
	} else if op, is := errors.AsType[*net.OpError](err); is && op.Op == "dial" && op.Timeout() {
		c.mu.Lock()
		c.unreachable[host] = &unreachableError{"it did not answer before: " + err.Error()}
		c.mu.Unlock()
	}
	return err
}

// unreachableError says why a host is not asked (again).
type unreachableError struct{ text string }

func (e *unreachableError) Error() string { return e.text }

// goneError says that bytes stopped coming, however often they were asked for.
type goneError struct {
	err error
	all bool // as often as anything is
}

func (e *goneError) Error() string { return e.err.Error() }
func (e *goneError) Unwrap() error { return e.err }

var errStalled = errors.New("no byte came for too long")

// Passing reports whether an error may pass by itself.
func Passing(err error) bool {
	if s, is := errors.AsType[*StatusError](err); is {
		return Overloaded(err) || s.Code == http.StatusRequestTimeout
	}
	if _, is := errors.AsType[*unreachableError](err); is {
		return false
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrOffline) {
		return false
	}
	if _, is := errors.AsType[*net.OpError](err); is {
		return true // refused, reset, timed out
	}
	if e, is := errors.AsType[net.Error](err); is && e.Timeout() {
		return true
	}
	// Two of net/http's errors have no name outside it.
	text := err.Error()
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, errStalled) || strings.Contains(text, "http2: ") || strings.Contains(text, "http: server closed idle connection")
}

// Overloaded reports whether a server that is there said that it cannot answer now.
func Overloaded(err error) bool {
	s, is := errors.AsType[*StatusError](err)
	return is && (s.Code == http.StatusTooManyRequests || s.Code >= 500 && s.Code != http.StatusNotImplemented && s.Code != http.StatusHTTPVersionNotSupported)
}

// Flaky reports whether a server is there and fails: overloaded, or its connections break.
func Flaky(err error) bool {
	if gone, is := errors.AsType[*goneError](err); is && gone.all {
		return false // that was found out
	}
	return Overloaded(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, errStalled)
}

// tries is how often something that ended in err is tried.
func (r Retry) tries(err error) int {
	if Flaky(err) {
		return r.Attempts + max(0, r.Insist)
	}
	return r.Attempts
}

// Exchange sends a request that may be sent more than once and gives the answer, whatever its
// status is but those that may pass: these it tries again, as it does what breaks, and in the end
// they are a *StatusError. ask makes the request, anew for each time.
func (c *Client) Exchange(ctx context.Context, ask func(context.Context) (*http.Request, error)) (*http.Response, error) {
	c.init()
	retry := c.Retry.WithDefaults()
	for n := 0; ; n++ {
		response, err := c.exchange(ctx, ask)
		if err == nil || n+1 >= retry.tries(err) || !Passing(err) || ctx.Err() != nil {
			return response, err
		}
		if err := retry.Sleep(ctx, n, err); err != nil {
			return nil, err
		}
	}
}

func (c *Client) exchange(ctx context.Context, ask func(context.Context) (*http.Request, error)) (*http.Response, error) {
	if c.Offline {
		return nil, ErrOffline
	}
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := ask(ctx)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if err := c.reachable(request.URL.Host); err != nil {
		cancel(nil)
		return nil, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		cancel(nil)
		return nil, c.explain(request.URL.Host, err)
	}
	if s := (&StatusError{Code: response.StatusCode, RetryAfter: retryAfter(response.Header, time.Now())}); Passing(s) {
		response.Body.Close()
		cancel(nil)
		return nil, s
	}
	response.Body = newWatched(response.Body, cancel, c.stall)
	return response, nil
}

// reachable is why a host is not asked again, if it is not.
func (c *Client) reachable(host string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unreachable[host]
}

// watched ends a body that gives no byte for too long.
type watched struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
	mu     sync.Mutex
	fired  bool
}

func newWatched(body io.ReadCloser, cancel context.CancelCauseFunc, stall time.Duration) *watched {
	w := &watched{ReadCloser: body, cancel: cancel, stall: stall}
	w.timer = time.AfterFunc(stall, func() {
		w.mu.Lock()
		w.fired = true
		w.mu.Unlock()
		cancel(errStalled)
	})
	// It runs only while somebody reads: a slow disk is no stalled server.
	w.timer.Stop()
	return w
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.ReadCloser.Read(p)
	w.timer.Stop()
	if err != nil && err != io.EOF {
		w.mu.Lock()
		if w.fired {
			err = errStalled
		}
		w.mu.Unlock()
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	err := w.ReadCloser.Close()
	w.cancel(nil)
	return err
}

// resuming reads a body and asks for the rest of it when the connection breaks. As
// long as bytes come, it goes on.
type resuming struct {
	client  *Client
	ctx     context.Context // of the request; a body is read in its time
	address string
	retry   Retry
	body    io.ReadCloser
	size    int64 // of the whole; -1 when not known
	same    string
	read    int64
	failed  int // attempts in a row that gave no byte
	empty   int // those of them that were answered
}

func (r *resuming) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.read += int64(n)
		if n > 0 {
			r.failed, r.empty = 0, 0
		}
		if err == io.EOF && r.size >= 0 && r.read < r.size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil || err == io.EOF || n > 0 {
			if err != io.EOF {
				err = nil // what is wrong shows again when nothing comes
			}
			return n, err
		}
		if r.ctx.Err() != nil {
			return 0, context.Cause(r.ctx)
		}
		for Passing(err) {
			if r.failed++; r.failed >= r.retry.tries(err) || r.empty >= r.retry.Attempts {
				return 0, &goneError{err, r.retry.Insist > 0}
			}
			if err := r.retry.Sleep(r.ctx, r.failed-1, err); err != nil {
				return 0, err
			}
			if err = r.resume(); err == nil {
				r.empty++
				break
			}
		}
		if err != nil {
			return 0, err
		}
	}
}

// resume goes on where reading stopped. A server that begins anew is read up to
// there; should it have other bytes now, the digest tells.
func (r *resuming) resume() error {
	response, err := r.client.request(r.ctx, r.address, r.read, r.same, Conditions{})
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusOK && r.read > 0 {
		if _, err := io.CopyN(io.Discard, response.Body, r.read); err != nil {
			response.Body.Close()
			if err == io.EOF {
				return errors.New("the file became shorter while it was read")
			}
			return err
		}
	}
	r.body.Close()
	r.body = response.Body
	return nil
}

func (r *resuming) Close() error { return r.body.Close() }
