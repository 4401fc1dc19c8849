package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/web"
)

// SoftwareHeritage is the address of the archive of that name.
const SoftwareHeritage = "https://archive.softwareheritage.org"

// HeritageMirror is Software Heritage as a mirror, at its own address when address is empty:
// its interface gives any file that it holds by SHA-256 (GET
// /api/1/content/sha256:HEX/raw/). It holds the files of many archives, and archives themselves
// where those were files of a repository or of a list of sources, such as that of Guix or Nix.
func HeritageMirror(f *Fetcher, address string) Mirror {
	if address == "" {
		address = SoftwareHeritage
	}
	return &heritage{fetcher: f, address: strings.TrimRight(address, "/")}
}

type heritage struct {
	fetcher *Fetcher
	address string

	mu    sync.Mutex
	until time.Time // nobody asks before: the limit for this machine is reached
}

// Name is the address.
func (m *heritage) Name() string { return "software heritage (" + redact.Address(m.address) + ")" }

// Open asks for the content of the digest. Who is told to come back much later does not
// ask for other files either until then.
func (m *heritage) Open(ctx context.Context, sha256, _ string) (io.ReadCloser, error) {
	if err := checkAsked(ctx, sha256); err != nil {
		return nil, err
	}
	m.mu.Lock()
	wait := time.Until(m.until)
	m.mu.Unlock()
	if wait > 0 {
		return nil, fmt.Errorf("its limit of requests is reached; it takes more in %s", wait.Round(time.Second))
	}
	body, err := m.fetcher.client().Get(ctx, m.address+"/api/1/content/sha256:"+sha256+"/raw/", web.Conditions{})
	s, is := errors.AsType[*web.StatusError](err)
	switch {
	case is && s.Code == http.StatusNotFound:
		return nil, notThere{s.Error()}
	case is && s.Code == http.StatusTooManyRequests:
		m.mu.Lock()
		m.until = time.Now().Add(s.RetryAfter)
		m.mu.Unlock()
		return nil, err
	case err != nil:
		return nil, err
	}
	return body, nil
}
