package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tarn-build/tarn/pkg/web"
)

// defaultTransport carries requests to registries. A registry may take its time to store
// a large layer before it answers.
var defaultTransport http.RoundTripper = &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
	ForceAttemptHTTP2:     true,
	TLSHandshakeTimeout:   10 * time.Second,
	ResponseHeaderTimeout: 2 * time.Minute,
	ExpectContinueTimeout: time.Second,
	MaxIdleConnsPerHost:   8,
	IdleConnTimeout:       30 * time.Second,
	DisableCompression:    true, // bytes are checked by digest as they lie there
}

// dialAttempts is how often a registry is called that does not take connections.
const dialAttempts = 3

// retrying is a transport that tries again what may pass. go-containerregistry has
// retries of its own, of three attempts, which a registry that fails half of its
// requests outlasts soon: an upload is four requests.
//
// The body of an upload is sent once: how much of it the registry took before it failed
// is not known, and a second copy would be put behind the first. Such an upload begins
// anew, with a request of its own; see again.
type retrying struct {
	inner    http.RoundTripper
	retry    web.Retry
	insecure bool
	report   func(Event)

	mu       sync.Mutex
	distrust map[string]error // why the certificates of hosts are not trusted
}

func (t *retrying) RoundTrip(r *http.Request) (*http.Response, error) {
	// The library follows redirects for ever on one host.
	if n := redirects(r); n > maxRedirects {
		return nil, fmt.Errorf("%s redirects more than %d times", r.URL.Host, maxRedirects)
	}
	if r.URL.Scheme != "https" && !t.insecure && !isLoopback(r.URL.Hostname()) {
		return nil, &insecureError{r.URL.Host}
	}
	if r.URL.Scheme != "https" {
		// It speaks TLS: that its certificate is not trusted is no reason to go without.
		if err := t.distrusted(r.URL.Host); err != nil {
			return nil, err
		}
	}
	if r.Method == http.MethodPatch && r.Body != nil {
		body := r.Body
		r = r.Clone(r.Context())
		r.Body = &sending{body, t.report, r.URL.Host}
	}
	for n := 0; ; n++ {
		response, err := t.inner.RoundTrip(r)
		if err == nil {
			response, err = whole(r, response)
		}
		if wrong, is := errors.AsType[*tls.CertificateVerificationError](err); is {
			t.mu.Lock()
			t.distrust[r.URL.Host] = &certificateError{wrong}
			t.mu.Unlock()
			return nil, t.distrusted(r.URL.Host)
		}
		failed := failure(response, err)
		if failed == nil {
			t.count(r, response)
			return t.resuming(r, withoutReferrers(r, response)), nil
		}
		if r.Context().Err() != nil || n+1 >= t.attempts(failed) || r.Method == http.MethodPatch {
			return response, err
		}
		if r, err = replay(r); err != nil {
			return nil, err
		}
		if response != nil {
			response.Body.Close()
		}
		t.report(Event{Host: r.URL.Host, Retry: n + 1, Of: t.attempts(failed) - 1, Cause: failed})
		if err := t.retry.Sleep(r.Context(), n, failed); err != nil {
			return nil, err
		}
	}
}

// maxRedirects is how often one request is sent on, as often as net/http lets it.
const maxRedirects = 10

// redirects counts the answers that sent a request here.
func redirects(r *http.Request) int {
	n := 0
	for r.Response != nil && r.Response.Request != nil && n <= maxRedirects {
		r = r.Response.Request
		n++
	}
	return n
}

// withoutReferrers lets a registry that does not know of referrers say so in the words of
// the distribution specification: some say that the method is not allowed, or that nobody
// wrote it, or show a page for people.
func withoutReferrers(r *http.Request, response *http.Response) *http.Response {
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/referrers/") {
		switch response.StatusCode {
		case http.StatusMethodNotAllowed, http.StatusNotImplemented:
			response.StatusCode = http.StatusNotFound
		case http.StatusOK:
			kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
			if kind != string(types.OCIImageIndex) {
				response.StatusCode = http.StatusNotFound
				break
			}
			response.Header.Set("Content-Type", kind) // the library takes it without parameters
		}
	}
	return response
}

func (t *retrying) distrusted(host string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.distrust[host]
}

// certificateError says that a registry's certificate is not trusted.
type certificateError struct{ err error }

func (e *certificateError) Error() string {
	return e.err.Error() + "\n  hint: SSL_CERT_FILE names a file of certificates to trust"
}

// sending tells how much of a body went out.
type sending struct {
	io.ReadCloser
	report func(Event)
	host   string
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if n > 0 {
		s.report(Event{Host: s.host, Sending: n})
	}
	return n, err
}

// count tells of blobs that the registry took, or has.
func (t *retrying) count(r *http.Request, response *http.Response) {
	switch {
	case r.Method == http.MethodPatch && response.StatusCode/100 == 2:
		t.report(Event{Host: r.URL.Host, Blob: BlobSent, Size: r.ContentLength})
	case r.Method == http.MethodHead && response.StatusCode == http.StatusOK && strings.Contains(r.URL.Path, "/blobs/"):
		t.report(Event{Host: r.URL.Host, Blob: BlobThere, Size: max(0, response.ContentLength)})
	}
}

// attempts is how often a request is made that fails so. A host that is not known, or a
// certificate that is not trusted, stays so.
func (t *retrying) attempts(failed error) int {
	switch op, isOp := errors.AsType[*net.OpError](failed); {
	case isOp && op.Op == "dial":
		return dialAttempts
	case web.Passing(failed):
		return t.retry.Attempts + max(0, t.retry.Insist)
	}
	return 1
}

// failure is what is wrong with an answer that may pass, or with none; nil where there
// is an answer to work with.
func failure(response *http.Response, err error) error {
	if err != nil {
		return err
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	status := &web.StatusError{Code: response.StatusCode, RetryAfter: time.Duration(max(0, seconds)) * time.Second}
	if web.Passing(status) {
		return status
	}
	return nil
}

// whole reads an answer that is no file: one that breaks off counts as none.
func whole(r *http.Request, response *http.Response) (*http.Response, error) {
	if r.Method == http.MethodGet && response.StatusCode/100 == 2 || r.Method == http.MethodHead {
		return response, nil
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(data))
	return response, nil
}

// maxAnswer is how much is read of what a registry says to a request, in bytes.
const maxAnswer = 1 << 20

// replay is a request once more, with its body from the start.
func replay(r *http.Request) (*http.Request, error) {
	again := r.Clone(r.Context())
	if r.Body != nil && r.Body != http.NoBody {
		if r.GetBody == nil {
			return nil, errors.New("internal error: a request to a registry that cannot be made again")
		}
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		again.Body = body
	}
	return again, nil
}

// again tells whether an upload that failed is begun anew. It is where its bytes were
// lost on the way, and where the registry does not know of it any more: then the answer
// to its last request was lost, and the blob is there.
func again(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	answer, is := errors.AsType[*transport.Error](err)
	if !is {
		// Everything else was tried before, as often as it should be.
		request, is := errors.AsType[*url.Error](err)
		return is && strings.EqualFold(request.Op, http.MethodPatch) && web.Passing(err)
	}
	if answer.Request != nil && answer.Request.Method == http.MethodPatch && web.Passing(&web.StatusError{Code: answer.StatusCode}) {
		return true
	}
	for _, d := range answer.Errors {
		switch d.Code {
		case transport.BlobUploadUnknownErrorCode, transport.BlobUploadInvalidErrorCode, transport.DigestInvalidErrorCode, transport.SizeInvalidErrorCode:
			return true
		}
	}
	return answer.StatusCode == http.StatusRequestedRangeNotSatisfiable
}

// resuming lets the body of a blob go on where its connection breaks.
func (t *retrying) resuming(r *http.Request, response *http.Response) *http.Response {
	if r.Method != http.MethodGet || response.StatusCode != http.StatusOK || response.ContentLength <= 0 || r.Header.Get("Range") != "" {
		return response
	}
	response.Body = &body{ReadCloser: response.Body, t: t, request: r, size: response.ContentLength, same: response.Header.Get("ETag")}
	return response
}

// body is an answer of known size that asks for the rest of it when it breaks off. What
// the bytes are worth is found by their digest.
type body struct {
	io.ReadCloser
	t          *retrying
	request    *http.Request
	size, read int64
	same       string
	failed     int // in a row, without a byte
}

func (b *body) Read(p []byte) (int, error) {
	for {
		n, err := b.ReadCloser.Read(p)
		b.read += int64(n)
		if n > 0 {
			b.failed = 0
		}
		if err == io.EOF && b.read < b.size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil || err == io.EOF {
			return n, err
		}
		if n > 0 {
			return n, nil // what is wrong shows again when nothing comes
		}
		if b.request.Context().Err() != nil || !web.Passing(err) || b.failed >= b.t.attempts(err) {
			return 0, err
		}
		b.failed++
		if err := b.t.retry.Sleep(b.request.Context(), b.failed-1, err); err != nil {
			return 0, err
		}
		if err := b.resume(); err != nil {
			return 0, err
		}
	}
}

func (b *body) resume() error {
	r := b.request.Clone(b.request.Context())
	// Some registries read a range only when it has an end.
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.read, b.size-1))
	if b.same != "" && !strings.HasPrefix(b.same, "W/") {
		r.Header.Set("If-Range", b.same)
	}
	response, err := b.t.RoundTrip(r)
	if err != nil {
		return err
	}
	switch response.StatusCode {
	case http.StatusPartialContent:
		var start int64
		if _, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-", &start); err != nil || start != b.read {
			response.Body.Close()
			return errors.New("the registry answers with other bytes than asked for")
		}
	case http.StatusOK: // from the start
		if _, err := io.CopyN(io.Discard, response.Body, b.read); err != nil {
			response.Body.Close()
			return err
		}
	default:
		response.Body.Close()
		return &web.StatusError{Code: response.StatusCode}
	}
	b.ReadCloser.Close()
	b.ReadCloser = response.Body
	return nil
}

// isLoopback tells whether a host is this machine, by its name.
func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// insecureError says that a registry would have been spoken to in the clear.
type insecureError struct{ host string }

func (e *insecureError) Error() string {
	return fmt.Sprintf("%s does not speak TLS, and is not this machine\n  hint: --insecure speaks plain HTTP with it", e.host)
}
