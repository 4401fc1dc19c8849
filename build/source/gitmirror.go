package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/web"
)

// GitHTTPMirror is a mirror of git repositories, by their hosts and paths below an address:
// ADDRESS/HOST/PATH.git. A git server may stand there, or any web server with what
// MirrorWriter wrote; it asks with the fetcher's client.
func GitHTTPMirror(f *Fetcher, address string) Mirror {
	return &gitMirror{f, strings.TrimRight(address, "/")}
}

type gitMirror struct {
	fetcher *Fetcher
	address string
}

// Name is the address.
func (m *gitMirror) Name() string { return redact.Address(m.address) }

// Open has no files.
func (m *gitMirror) Open(ctx context.Context, sha256, _ string) (io.ReadCloser, error) {
	if err := checkAsked(ctx, sha256); err != nil {
		return nil, err
	}
	return nil, notThere{"it has git repositories only"}
}

// Repositories is the address, for a git server, and a copy made without one.
func (m *gitMirror) Repositories(ctx context.Context, address string) ([]string, func(), error) {
	p, err := repositoryPath(address)
	if err != nil {
		return nil, nil, err
	}
	if m.fetcher.client().Offline {
		return nil, nil, web.ErrOffline
	}
	at := m.address
	for element := range strings.SplitSeq(p, "/") {
		at += "/" + url.PathEscape(element)
	}
	refs, err := m.fetcher.smallAgain(ctx, at+"/info/refs")
	if s, is := errors.AsType[*web.StatusError](err); is && s.Code == 404 {
		return nil, nil, notThere{s.Error()}
	}
	if err != nil {
		return nil, nil, err
	}
	dir, release, err := m.fetcher.Store.TempDir("git")
	if err != nil {
		return nil, nil, err
	}
	list := []string{at}
	if err := m.copy(ctx, at, refs, dir); err == nil {
		list = []string{(&url.URL{Scheme: "file", Path: dir}).String(), at}
	} else if ctx.Err() != nil {
		release()
		return nil, nil, context.Cause(ctx)
	} else {
		m.fetcher.Log.Debug("no packs to copy: a server of git, it seems", "mirror", m.Name(), "why", err)
	}
	return list, release, nil
}

var (
	packLine = regexp.MustCompile(`^P (pack-[0-9a-f]{40,64}\.pack)$`)
	refLine  = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})\t(refs/[A-Za-z0-9_@+=.,%!#~/-]+)$`)
)

// copy makes a bare repository of what lies at an address: packs, refs and where the
// history is cut. Nothing else is taken: no settings, no hooks, no other repository's objects.
// git checks the objects as they are fetched from there.
func (m *gitMirror) copy(ctx context.Context, at string, refs []byte, dir string) error {
	packs, err := m.fetcher.smallAgain(ctx, at+"/objects/info/packs")
	if err != nil {
		return err
	}
	options := host.GitOptions{Dir: dir}
	if _, err := host.Git(ctx, options, "init", "--quiet", "--bare", "--", dir); err != nil {
		return err
	}
	some := false
	for line := range strings.Lines(string(packs)) {
		match := packLine.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			continue
		}
		some = true
		name := filepath.Join(dir, "objects", "pack", match[1])
		if err := m.save(ctx, at+"/objects/pack/"+match[1], name); err != nil {
			return err
		}
		if _, err := host.Git(ctx, options, "index-pack", name); err != nil {
			return err
		}
	}
	if !some {
		return errors.New("it lists no packs")
	}
	var kept bytes.Buffer
	for line := range strings.Lines(string(refs)) {
		match := refLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if match != nil && !strings.Contains(match[2], "..") && checkRef("ref", match[2]) == nil {
			fmt.Fprintf(&kept, "%s %s\n", match[1], match[2])
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "packed-refs"), kept.Bytes(), 0o644); err != nil {
		return err
	}
	shallow, err := m.fetcher.smallAgain(ctx, at+"/shallow")
	if _, is := errors.AsType[*web.StatusError](err); is {
		return nil // a whole history
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(shallow)) {
		if !commitPattern.MatchString(strings.TrimSpace(line)) {
			return errors.New("its file shallow lists what is no commit")
		}
	}
	return os.WriteFile(filepath.Join(dir, "shallow"), shallow, 0o644)
}

// save writes what an address gives into a new file.
func (m *gitMirror) save(ctx context.Context, address, name string) error {
	body, err := m.fetcher.client().Get(ctx, address, web.Conditions{})
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = io.Copy(w, &checked{r: body, left: m.fetcher.MaxSize, max: m.fetcher.MaxSize})
	return errors.Join(err, w.Flush(), f.Close())
}

// GitFolderMirror is a folder of git repositories by host and path, HOST/PATH.git.
type GitFolderMirror string

// Name is the folder.
func (m GitFolderMirror) Name() string { return "folder " + string(m) }

// Open has no files.
func (m GitFolderMirror) Open(ctx context.Context, sha256, _ string) (io.ReadCloser, error) {
	if err := checkAsked(ctx, sha256); err != nil {
		return nil, err
	}
	return nil, notThere{"it has git repositories only"}
}

// Repositories is the folder of the repository.
func (m GitFolderMirror) Repositories(ctx context.Context, address string) ([]string, func(), error) {
	return repositoryIn(ctx, string(m), address)
}

// repositoryIn finds the repository of an address in a folder.
func repositoryIn(ctx context.Context, dir, address string) ([]string, func(), error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	p, err := repositoryPath(address)
	if err != nil {
		return nil, nil, err
	}
	at, err := filepath.Abs(filepath.Join(dir, filepath.FromSlash(p)))
	if err != nil {
		return nil, nil, err
	}
	if info, err := os.Stat(at); err != nil || !info.IsDir() {
		return nil, nil, notThere{"it is not there"}
	}
	return []string{(&url.URL{Scheme: "file", Path: at}).String()}, func() {}, nil
}
