// Package registry talks with OCI registries (distribution-spec 1.1): it pushes images and
// indexes with what is missing there alone, fetches them by reference, and keeps what is
// signed beside them. It tries again what may pass, and knows who this is there from the
// files of docker and podman. It knows nothing of image files, packages and signatures.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/tarn-build/tarn/pkg/web"
)

// Client talks with registries. Its zero value works: over TLS, or plain HTTP with a
// registry on this machine, as whoever the files of docker and podman say. It may be used
// by several goroutines.
type Client struct {
	// Insecure speaks plain HTTP with registries that do not speak TLS.
	Insecure bool
	// Offline refuses whatever needs a registry with web.ErrOffline.
	Offline bool
	// Retry is how often what may pass is tried again: Attempts and Insist together;
	// 3 and 20 when 0, with pauses from 0.05 s up to 4 s.
	Retry web.Retry
	// Report hears what happens, from several goroutines; nil does not.
	Report func(Event)
	// Keychain knows who this is at a registry; the files of docker and podman when nil.
	Keychain authn.Keychain
	// Transport carries requests; one that uses the proxies of the environment when nil.
	Transport http.RoundTripper

	once   sync.Once
	puller *remote.Puller
	pusher *remote.Pusher
	err    error
}

// Event is something that happened while a client worked.
type Event struct {
	Host string
	// Retry is which attempt of Of further ones comes now, because of Cause; 0 for none.
	Retry, Of int
	Cause     error
	// Blob says that a blob of Size bytes was sent, or was there; BlobNone for none.
	Blob Blob
	Size int64
	// Sending is how many bytes of a blob went out since the last such event.
	Sending int
}

// Blob is what became of a blob that is pushed.
type Blob int

// What becomes of blobs.
const (
	BlobNone Blob = iota
	BlobSent
	BlobThere
)

// Error says what a registry would not do, or that it cannot be had.
type Error struct {
	Op        string // e.g. "push"
	Reference string
	Err       error
	// Denied says that the registry knows who this is not, or that they may not.
	// Missing, that there is no such image.
	Denied, Missing bool
}

func (e *Error) Error() string {
	text := e.Op + " " + e.Reference + ": " + e.Err.Error()
	if e.Denied {
		host := e.Reference
		if ref, err := name.ParseReference(e.Reference); err == nil {
			host = ref.Context().RegistryStr()
		}
		text += "\n  hint: docker login " + host + " (podman's and skopeo's login do as well)"
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

func (c *Client) init() error {
	c.once.Do(func() {
		if c.Offline {
			c.err = web.ErrOffline
			return
		}
		retry := c.Retry
		if retry.Pause == 0 {
			retry.Pause, retry.MaxPause = 50*time.Millisecond, 4*time.Second
		}
		if retry.Insist == 0 {
			retry.Insist = 20
		}
		report, inner, keys := c.Report, c.Transport, c.Keychain
		if report == nil {
			report = func(Event) {}
		}
		if inner == nil {
			inner = defaultTransport
		}
		if keys == nil {
			keys = keychain{}
		}
		retry = retry.WithDefaults()
		options := []remote.Option{
			remote.WithTransport(&retrying{inner: inner, retry: retry, insecure: c.Insecure, report: report, distrust: map[string]error{}}),
			remote.WithAuthFromKeychain(keys), remote.WithUserAgent("tarn"), remote.WithJobs(4),
			remote.WithRetryStatusCodes(), remote.WithRetryPredicate(again),
			// These pauses do not end with the context: they stay short.
			remote.WithRetryBackoff(remote.Backoff{Duration: retry.Pause, Factor: 1.2, Jitter: 0.1, Steps: max(1, retry.Attempts+max(0, retry.Insist))}),
		}
		if c.puller, c.err = remote.NewPuller(options...); c.err == nil {
			c.pusher, c.err = remote.NewPusher(options...)
		}
	})
	return c.err
}

// Reference reads a reference as HOST/NAME:TAG or HOST/NAME@sha256:DIGEST. One without a
// host is Docker Hub's, one without a tag is that of "latest".
func (c *Client) Reference(text string) (name.Reference, error) {
	ref, err := name.ParseReference(text, c.nameOptions()...)
	if err != nil {
		return nil, fmt.Errorf("image reference %q: %s", text, reason(err))
	}
	return ref, nil
}

// Tag reads a reference that names a tag.
func (c *Client) Tag(text string) (name.Tag, error) {
	tag, err := name.NewTag(text, c.nameOptions()...)
	if err != nil {
		return name.Tag{}, fmt.Errorf("image tag %q: %s", text, reason(err))
	}
	return tag, nil
}

func (c *Client) nameOptions() []name.Option {
	if c.Insecure {
		return []name.Option{name.Insecure}
	}
	return nil
}

// reason is what a reference is refused for, without what was typed.
func reason(err error) string {
	return "expected HOST/NAME:TAG or HOST/NAME@sha256:DIGEST, in small letters (" + err.Error() + ")"
}

// Get fetches the manifest or index that a reference names, whole and checked against
// its digest where the reference has one. Its layers are read when they are asked for,
// and checked then.
func (c *Client) Get(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	if err := c.init(); err != nil {
		return nil, c.explain("read", ref, err)
	}
	return interruptible(ctx, func() (*remote.Descriptor, error) {
		d, err := c.puller.Get(ctx, ref)
		return d, c.explain("read", ref, err)
	})
}

// Push puts an image or an index into a repository under its digest: its blobs, those
// that are missing there alone, then its manifests. No tag is changed.
func (c *Client) Push(ctx context.Context, to name.Repository, what remote.Taggable) (name.Digest, error) {
	raw, err := what.RawManifest()
	if err != nil {
		return name.Digest{}, err
	}
	digest, err := digestOf(raw)
	if err != nil {
		return name.Digest{}, err
	}
	ref := to.Digest(digest.String())
	if err := c.init(); err != nil {
		return ref, c.explain("push", ref, err)
	}
	_, err = interruptible(ctx, func() (struct{}, error) { return struct{}{}, c.pusher.Push(ctx, ref, what) })
	return ref, c.explain("push", ref, err)
}

// Put names a manifest whose parts are there already by a tag, or by its digest. A tag
// that is there changes in one step.
func (c *Client) Put(ctx context.Context, ref name.Reference, what remote.Taggable) error {
	if err := c.init(); err != nil {
		return c.explain("tag", ref, err)
	}
	_, err := interruptible(ctx, func() (struct{}, error) { return struct{}{}, c.pusher.Put(ctx, ref, what) })
	return c.explain("tag", ref, err)
}

// Referrers lists the manifests that name this one as their subject: by the referrers API
// where the registry has one, else by the fallback tag of the distribution specification.
func (c *Client) Referrers(ctx context.Context, of name.Digest) ([]v1.Descriptor, error) {
	if err := c.init(); err != nil {
		return nil, c.explain("list what refers to", of, err)
	}
	return interruptible(ctx, func() ([]v1.Descriptor, error) {
		index, err := remote.Referrers(of, remote.WithContext(ctx), remote.Reuse(c.puller))
		if err != nil {
			return nil, c.explain("list what refers to", of, err)
		}
		m, err := index.IndexManifest()
		if err != nil {
			return nil, c.explain("list what refers to", of, err)
		}
		return m.Manifests, nil
	})
}

// explain says in our words what came of talking with a registry.
func (c *Client) explain(op string, ref name.Reference, err error) error {
	if err == nil {
		return nil
	}
	if _, is := errors.AsType[*Error](err); is || errors.Is(err, context.Canceled) {
		return err
	}
	e := &Error{Op: op, Reference: ref.String(), Err: err}
	// Beside it may stand what the registry answered to the attempt without TLS, which the
	// library makes when the other one takes longer than 0.3 s.
	if plain, is := errors.AsType[*certificateError](err); is {
		e.Err = plain
		return e
	}
	answer, is := errors.AsType[*transport.Error](err)
	if !is {
		// Of two attempts, over TLS and without, the reason is the same.
		if plain, is := errors.AsType[*insecureError](err); is {
			e.Err = plain
		} else if plain, is := errors.AsType[*net.OpError](err); is {
			e.Err = plain
		}
		return e
	}
	text := http.StatusText(answer.StatusCode)
	for i, d := range answer.Errors {
		if i == 0 {
			text = ""
		} else {
			text += "; "
		}
		text += string(d.Code)
		if d.Message != "" {
			text += ": " + d.Message
		}
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Denied = true
		e.Err = fmt.Errorf("not allowed: the registry says %d (%s)", answer.StatusCode, text)
	case http.StatusNotFound:
		e.Missing = true
		e.Err = fmt.Errorf("the registry does not have it (%s)", text)
	default:
		e.Err = fmt.Errorf("the registry says %d (%s)", answer.StatusCode, text)
	}
	return e
}

// interruptible gives back at once when the context ends: a library below may be in a
// pause that does not hear of it.
func interruptible[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		if r.err != nil && ctx.Err() != nil {
			return r.value, context.Cause(ctx)
		}
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func digestOf(raw []byte) (v1.Hash, error) {
	h, err := v1.Hasher("sha256")
	if err != nil {
		return v1.Hash{}, err
	}
	h.Write(raw)
	return v1.NewHash(fmt.Sprintf("sha256:%x", h.Sum(nil)))
}
