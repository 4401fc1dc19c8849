package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/tarn-build/tarn/pkg/web"
)

// webStorage is a repository behind http or https, for reading.
type webStorage struct {
	base   string // without a slash at the end
	client *web.Client
}

// Web is the storage behind an http or https address, for reading.
func Web(address string, client *web.Client) Storage {
	return webStorage{strings.TrimRight(address, "/"), client}
}

// Prefixes of a version: by which of a server's answers it is asked for again.
const (
	byTag  = "tag "
	byTime = "time "
)

func (s webStorage) Open(ctx context.Context, name, known string) (*Object, error) {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		if part == "" || part == "." || part == ".." {
			return nil, fmt.Errorf("%q is no path of a repository: %w", name, fs.ErrInvalid)
		}
		parts[i] = url.PathEscape(part)
	}
	var when web.Conditions
	if tag, found := strings.CutPrefix(known, byTag); found {
		when.ETag = tag
	} else if since, found := strings.CutPrefix(known, byTime); found {
		when.Modified = since
	}
	body, err := s.client.Get(ctx, s.base+"/"+strings.Join(parts, "/"), when)
	if err != nil {
		return nil, webError(ctx, err)
	}
	o := &Object{ReadCloser: explained{body, ctx}, Unchanged: body.Unchanged}
	switch {
	case body.Unchanged:
		o.Version = known
	case body.ETag != "":
		o.Version = byTag + body.ETag
	case body.Modified != "":
		o.Version = byTime + body.Modified
	}
	return o, nil
}

// explained tells what breaks while it is read as a server's trouble.
type explained struct {
	*web.Body
	ctx context.Context // of the request
}

func (e explained) Read(p []byte) (int, error) {
	n, err := e.Body.Read(p)
	if err != nil && err != io.EOF {
		err = webError(e.ctx, err)
	}
	return n, err
}

// webError says what an answer means for a repository.
func webError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if status, is := errors.AsType[*web.StatusError](err); is {
		switch status.Code {
		case http.StatusNotFound, http.StatusGone:
			return fs.ErrNotExist
		case http.StatusUnauthorized, http.StatusForbidden:
			err = fmt.Errorf("%w\n  hint: a password is read from HTTP_AUTH=basic:HOST:USER:PASSWORD and from ~/.netrc", err)
		}
	}
	if errors.Is(err, web.ErrOffline) {
		err = errors.New("the network is off (--offline)")
	}
	return &UnreachableError{err}
}

// newClient is the client that repositories are read with when none is given: all their
// addresses come from the user, who may say a password for whichever is asked.
func newClient(offline bool) (*web.Client, error) {
	credentials, err := web.LoadCredentials()
	if err != nil {
		return nil, err
	}
	return &web.Client{Offline: offline, Credentials: credentials, AnyHost: true, StayTLS: true}, nil
}
