package source

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
	"golang.org/x/sync/singleflight"
)

// Source is one file from outside, named by its digest.
type Source struct {
	// Name is the file's name, for messages and for mirrors: the last element of
	// its address.
	Name string
	// URIs are upstream's addresses, in the order in which they are tried: http,
	// https, or debian:SOURCE/FILE for what only Debian's archive has.
	URIs []string
	// SHA256 and SHA512 are digests in hexadecimal; at least one. With both, both
	// must hold.
	SHA256, SHA512 string
	// Patience is what the recipe says of it.
	Patience Patience
	// Verify says whose signature has to be on it; nil asks for none.
	Verify *Verification
}

// Fetcher puts sources into the store.
type Fetcher struct {
	Store *store.Store
	// Offline asks nobody: what is not in the store or in a folder is web.ErrOffline.
	Offline bool
	// Client gets upstream's addresses; when nil one with the credentials of the
	// environment.
	Client *web.Client
	// Mirrors are asked by digest, in their order, when upstream's addresses do not
	// give the bytes.
	Mirrors []Mirror
	// Log is told of what did not work while something else did; nil is silent.
	Log *slog.Logger
	// MaxSize is the most bytes that one file may have; 8 GiB when 0.
	MaxSize int64
	// AptDir is apt's folder of settings, which name Debian's archive; /etc/apt when
	// empty.
	AptDir string
	// GitProtocols are the transports of git-checkout; https, http and git when nil.
	GitProtocols []string

	once   sync.Once
	web    *web.Client
	flight singleflight.Group
	debian *DebianArchive

	mu      sync.Mutex
	clients map[Patience]*web.Client
}

func (f *Fetcher) init() {
	f.once.Do(func() {
		f.web = f.Client
		if f.web == nil {
			// A netrc that cannot be read is told where somebody asks for a password.
			credentials, err := web.LoadCredentials()
			f.web = &web.Client{Credentials: credentials}
			if err != nil && f.Log != nil {
				f.Log.Warn("credentials are left out", "why", err)
			}
		}
		if f.Offline && !f.web.Offline {
			f.web = &web.Client{Offline: true, Retry: f.web.Retry}
		}
		f.debian = &DebianArchive{Fetcher: f}
		if f.Log == nil {
			f.Log = slog.New(slog.DiscardHandler)
		}
		if f.MaxSize == 0 {
			f.MaxSize = 8 << 30
		}
	})
}

// patient is the client with what a recipe says of its source.
func (f *Fetcher) patient(p Patience) *web.Client {
	if p == (Patience{}) {
		return f.web
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, found := f.clients[p]
	if !found {
		c = f.web.With(p.Retry, p.Stall)
		if f.clients == nil {
			f.clients = map[Patience]*web.Client{}
		}
		f.clients[p] = c
	}
	return c
}

func (f *Fetcher) client() *web.Client {
	f.init()
	return f.web
}

// Debian is Debian's archive as this machine's apt reaches it.
func (f *Fetcher) Debian() *DebianArchive {
	f.init()
	return f.debian
}

// MismatchError says that an address gave other bytes than asked for. Nothing of
// them was kept.
type MismatchError struct {
	Algorithm string // "sha256" or "sha512"
	Want, Got string // hexadecimal
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("digest does not match: expected %s %s, found %s", e.Algorithm, e.Want, e.Got)
}

// Attempt is one address or mirror that was tried.
type Attempt struct {
	From string // the address without secrets, or the mirror's name
	Err  error
}

// Error says that a source could not be had, and lists all that was tried.
type Error struct {
	Name   string // the file's, or the git repository's
	Digest string // what was asked for, e.g. "sha256 60dd..."
	Tried  []Attempt
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "fetch %s (%s)", e.Name, e.Digest)
	if len(e.Tried) == 1 {
		fmt.Fprintf(&b, ": %s: %v", e.Tried[0].From, e.Tried[0].Err)
		return b.String()
	}
	fmt.Fprintf(&b, ": none of %d places gave it", len(e.Tried))
	for _, a := range e.Tried {
		fmt.Fprintf(&b, "\n  %s: %s", a.From, strings.ReplaceAll(a.Err.Error(), "\n", "\n    "))
	}
	return b.String()
}

// Unwrap gives the errors of all attempts.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Tried))
	for i := range e.Tried {
		errs[i] = e.Tried[i].Err
	}
	return errs
}

// check says what is wrong with a source before anything is asked.
func (s Source) check() error {
	switch {
	case s.SHA256 == "" && s.SHA512 == "":
		return fmt.Errorf("fetch %s: no digest: give expected-sha256", s.Name)
	case s.SHA256 != "" && !isHex(s.SHA256, 64):
		return fmt.Errorf("fetch %s: %q is no SHA-256", s.Name, s.SHA256)
	case s.SHA512 != "" && !isHex(s.SHA512, 128):
		return fmt.Errorf("fetch %s: %q is no SHA-512", s.Name, s.SHA512)
	}
	return nil
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

func (s Source) digest() string {
	if s.SHA256 != "" {
		return "sha256 " + s.SHA256
	}
	return "sha512 " + s.SHA512
}

// Fetch puts the source into the store, where it is not there already, and gives
// its digest there. What could not be had is an *Error.
func (f *Fetcher) Fetch(ctx context.Context, s Source) (store.Digest, error) {
	f.init()
	if err := s.check(); err != nil {
		return "", err
	}
	if d, found, err := f.known(s); err != nil || found {
		return d, err
	}
	// Several recipes may name one file: it is fetched once. Who gives up does not
	// end it for the others: they try again by themselves.
	for {
		result := f.flight.DoChan(s.digest(), func() (any, error) { return f.fetch(ctx, s) })
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case r := <-result:
			if r.Err != nil && r.Shared && ctx.Err() == nil && errors.Is(r.Err, context.Canceled) {
				continue
			}
			d, _ := r.Val.(store.Digest)
			return d, r.Err
		}
	}
}

// known looks into the store. A SHA-512 is known by what it was fetched as before.
func (f *Fetcher) known(s Source) (store.Digest, bool, error) {
	if s.SHA512 != "" {
		var d store.Digest
		found, err := f.Store.Recall(sha512Action(s.SHA512), &d)
		if err != nil || !found || s.SHA256 != "" && d.Hex() != s.SHA256 {
			return "", false, err
		}
		return d, f.Store.Has(d), nil
	}
	d, err := store.ParseDigest("sha256:" + s.SHA256)
	return d, err == nil && f.Store.Has(d), err
}

func sha512Action(digest string) store.ActionID {
	h := store.NewHash("source by sha512")
	h.Line("sha512", digest)
	return h.Sum()
}

// place is an address or a mirror.
type place struct {
	name string
	open func(ctx context.Context) (io.ReadCloser, error)
	err  error // of the last attempt
	// insist asks as long as there is hope, once nobody else has it; nil for a mirror.
	insist func(ctx context.Context) (io.ReadCloser, error)
}

func (f *Fetcher) fetch(ctx context.Context, s Source) (store.Digest, error) {
	name := s.Name
	client := f.patient(s.Patience)
	var upstream, mirrors []*place
	for _, address := range s.URIs {
		if rest, found := strings.CutPrefix(address, "debian:"); found {
			name = rest // the mirror can tell which versions of the source there are
			continue
		}
		upstream = append(upstream, &place{name: redact.Address(address), open: func(ctx context.Context) (io.ReadCloser, error) {
			body, err := client.GetOnce(ctx, address, web.Conditions{})
			if err != nil {
				return nil, err
			}
			return body, nil
		}, insist: func(ctx context.Context) (io.ReadCloser, error) {
			body, err := client.GetInsisting(ctx, address)
			if err != nil {
				return nil, err
			}
			return body, nil
		}})
	}
	for _, m := range f.Mirrors {
		p := &place{name: m.Name(), open: func(ctx context.Context) (io.ReadCloser, error) { return m.Open(ctx, s.SHA256, name) }}
		if long, is := m.(byLongDigest); s.SHA256 == "" && is {
			p.open = func(ctx context.Context) (io.ReadCloser, error) { return long.Open512(ctx, s.SHA512, name) }
		} else if s.SHA256 == "" {
			p.open = func(context.Context) (io.ReadCloser, error) {
				return nil, errors.New("it is asked by SHA-256, and only a SHA-512 is given")
			}
		}
		mirrors = append(mirrors, p)
	}
	retry := client.Retry.WithDefaults()
	for n := range retry.Attempts {
		if d, err := f.round(ctx, s, upstream, func(p *place) bool { return n == 0 || web.Passing(p.err) }); d != "" || err != nil {
			return d, err
		}
		// Whoever does not answer now is asked again, but not before all others
		// were asked once.
		if !slices.ContainsFunc(upstream, func(p *place) bool { return web.Passing(p.err) }) || n+1 == retry.Attempts {
			break
		}
		if err := retry.Sleep(ctx, n, upstream[len(upstream)-1].err); err != nil {
			return "", err
		}
	}
	if d, err := f.round(ctx, s, mirrors, func(*place) bool { return true }); d != "" || err != nil {
		return d, err
	}
	for n := range retry.Insist {
		if !slices.ContainsFunc(upstream, func(p *place) bool { return web.Flaky(p.err) }) {
			break
		}
		if n == 0 {
			f.Log.Warn("no mirror has it, and upstream fails: it is asked for longer", "source", s.Name, "why", upstream[0].err)
		}
		if err := retry.Sleep(ctx, n, nil); err != nil {
			return "", err
		}
		for _, p := range upstream {
			p.open = p.insist
		}
		if d, err := f.round(ctx, s, upstream, func(p *place) bool { return web.Flaky(p.err) }); d != "" || err != nil {
			return d, err
		}
	}
	e := &Error{Name: name, Digest: s.digest()}
	for _, p := range append(upstream, mirrors...) {
		e.Tried = append(e.Tried, Attempt{p.name, p.err})
	}
	if len(e.Tried) == 0 {
		e.Tried = []Attempt{{"mirrors", errors.New("there is no address and no mirror to ask")}}
	}
	return "", e
}

// round tries places in their order. It fails only where trying others is no use.
func (f *Fetcher) round(ctx context.Context, s Source, places []*place, which func(*place) bool) (store.Digest, error) {
	for _, p := range places {
		if !which(p) {
			continue
		}
		d, err := f.try(ctx, s, p)
		if err != nil {
			return "", err
		}
		if p.err == nil {
			return d, nil
		}
		f.Log.Debug("source not there", "source", s.Name, "from", p.name, "why", p.err)
	}
	return "", nil
}

// try puts what a place gives into the store if it is the right bytes. What is
// wrong with the place is in its err; an error that is returned concerns the store
// or the context.
func (f *Fetcher) try(ctx context.Context, s Source, p *place) (store.Digest, error) {
	body, err := p.open(ctx)
	if ctx.Err() != nil {
		if body != nil {
			body.Close()
		}
		return "", context.Cause(ctx)
	}
	if err != nil {
		p.err = err
		return "", nil
	}
	defer body.Close()
	r := &checked{r: body, left: f.MaxSize, max: f.MaxSize}
	if s.SHA512 != "" {
		r.want = s.SHA512
		r.sum = sha512.New()
	}
	var d store.Digest
	if s.SHA256 != "" {
		d = store.Digest("sha256:" + s.SHA256)
		_, err = f.Store.PutExpected(r, d)
	} else {
		d, _, err = f.Store.Put(r)
	}
	mismatch, wrong := errors.AsType[*store.MismatchError](err)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case wrong:
		p.err = &MismatchError{Algorithm: "sha256", Want: mismatch.Want.Hex(), Got: mismatch.Got.Hex()}
		return "", nil
	case r.err != nil:
		p.err = r.err
		return "", nil
	case err != nil:
		return "", err
	}
	p.err = nil
	if s.SHA512 != "" {
		if err := f.Store.Remember(sha512Action(s.SHA512), d); err != nil {
			return "", err
		}
	}
	return d, nil
}

// checked reads at most max bytes and remembers what went wrong. With a SHA-512 it
// ends in an error when that does not match, so that nothing is kept.
type checked struct {
	r    io.Reader
	left int64
	max  int64
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
	want string
	err  error
}

func (c *checked) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if c.left < 0 {
		err = fmt.Errorf("it has more than %d bytes", c.max)
	}
	if c.sum != nil {
		c.sum.Write(p[:n])
		if err == io.EOF {
			if got := hex.EncodeToString(c.sum.Sum(nil)); got != c.want {
				err = &MismatchError{Algorithm: "sha512", Want: c.want, Got: got}
			}
		}
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// nameOf is the name that a file of an address has: the last element, with the
// query if there is one, as melange names it.
func nameOf(address string) string {
	name := path.Base(strings.TrimSuffix(address, "/"))
	if name == "." || name == ".." || name == "/" {
		return ""
	}
	return name
}
