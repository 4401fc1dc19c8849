package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/web"
)

// Mirror gives files by their SHA-256. What it gives is checked by who asks.
// Package mirrortest holds what every mirror promises.
type Mirror interface {
	// Name is how messages call the mirror.
	Name() string
	// Open gives the file of the digest, in hexadecimal. Name is the file's name at
	// its upstream, or SOURCE/FILE for a file of a Debian source; it may help a
	// mirror to find the file, and chooses nothing. A file that the mirror does not
	// have is fs.ErrNotExist.
	Open(ctx context.Context, sha256, name string) (io.ReadCloser, error)
}

// GitMirror is a mirror that has git repositories as well. What it gives is checked by who
// asks, by the commit.
type GitMirror interface {
	Mirror
	// Repositories gives where git may find copies of the repository of an address:
	// other addresses, or file: for folders of this machine, to be tried in their order. They
	// are there until release is called. A repository that the mirror does not
	// have is fs.ErrNotExist.
	Repositories(ctx context.Context, address string) (copies []string, release func(), err error)
}

// repositoryPath is where a mirror keeps the repository of an address, below git/: its host
// and path, e.g. example.org/team/x.git.
func repositoryPath(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return "", notThere{"a repository without a host is on no mirror"}
	}
	p := strings.Trim(strings.TrimSuffix(strings.Trim(path.Clean("/"+u.Path), "/"), ".git"), "/")
	p = path.Join(strings.ToLower(u.Hostname()), p+".git")
	if !fs.ValidPath(p) || strings.ContainsAny(p, "\\\x00") {
		return "", notThere{"its address is on no mirror"}
	}
	return p, nil
}

// FolderMirror is a folder of files by digest, sha256/HEX or HEX, and of git repositories
// by host and path, git/HOST/PATH.git: what MirrorWriter writes.
type FolderMirror string

// Repositories is the folder of the repository.
func (m FolderMirror) Repositories(ctx context.Context, address string) ([]string, func(), error) {
	return repositoryIn(ctx, filepath.Join(string(m), "git"), address)
}

// Name is the folder.
func (m FolderMirror) Name() string { return "folder " + string(m) }

// Open opens the file of the digest.
func (m FolderMirror) Open(ctx context.Context, sha256, _ string) (io.ReadCloser, error) {
	if err := checkAsked(ctx, sha256); err != nil {
		return nil, err
	}
	return m.first(filepath.Join("sha256", sha256), sha256)
}

// Open512 opens the file of a SHA-512.
func (m FolderMirror) Open512(ctx context.Context, sha512, _ string) (io.ReadCloser, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !isHex(sha512, 128) {
		return nil, fmt.Errorf("%q is no SHA-512", sha512)
	}
	return m.first(filepath.Join("sha512", sha512), sha512)
}

// OpenSignature opens the file of a source's signature.
func (m FolderMirror) OpenSignature(ctx context.Context, of, name string) (io.ReadCloser, error) {
	if err := checkSignatureAsked(ctx, of, name); err != nil {
		return nil, err
	}
	return m.first(filepath.Join("signature", of, name))
}

// first opens the first file that is there.
func (m FolderMirror) first(names ...string) (io.ReadCloser, error) {
	for _, name := range names {
		f, err := os.Open(filepath.Join(string(m), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			f.Close()
			return nil, fmt.Errorf("%s is no file", name)
		}
		return f, nil
	}
	return nil, notThere{"it is not there"}
}

// byLongDigest is a mirror that can be asked by SHA-512 as well.
type byLongDigest interface {
	Open512(ctx context.Context, sha512, name string) (io.ReadCloser, error)
}

// signatureMirror is a mirror that has signatures, and signed lists, whose own digests no recipe
// says: by the SHA-256 of the source that they are of, and their names. Keys say whether they
// are right.
type signatureMirror interface {
	OpenSignature(ctx context.Context, of, name string) (io.ReadCloser, error)
}

// checkSignatureAsked is checkAsked for a signature.
func checkSignatureAsked(ctx context.Context, of, name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "/\\\x00") {
		return fmt.Errorf("%q is no name of a file", name)
	}
	return checkAsked(ctx, of)
}

// HTTPMirror is a mirror by a template of addresses, in which {sha256} and {name}
// stand for the digest and the file's name, e.g.
// https://mirror.example.org/{sha256}/{name}; or {algorithm} and {digest}, with which it is
// asked by SHA-512 too where a recipe names no other. It asks with the fetcher's client.
func HTTPMirror(f *Fetcher, template string) Mirror { return &httpMirror{f, template} }

type httpMirror struct {
	fetcher  *Fetcher
	template string
}

// Name is the template.
func (m *httpMirror) Name() string { return redact.Address(m.template) }

// Open asks for the address of the digest.
func (m *httpMirror) Open(ctx context.Context, sha256, name string) (io.ReadCloser, error) {
	if err := checkAsked(ctx, sha256); err != nil {
		return nil, err
	}
	if !strings.Contains(m.template, "{sha256}") && !strings.Contains(m.template, "{name}") && !strings.Contains(m.template, "{digest}") {
		return nil, errors.New("the template has neither {sha256} nor {digest} nor {name}")
	}
	return m.get(ctx, "sha256", sha256, name)
}

// Open512 asks for the address of a SHA-512, where the template has a place for it.
func (m *httpMirror) Open512(ctx context.Context, sha512, name string) (io.ReadCloser, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !isHex(sha512, 128) {
		return nil, fmt.Errorf("%q is no SHA-512", sha512)
	}
	if strings.Contains(m.template, "{sha256}") || !strings.Contains(m.template, "{digest}") {
		return nil, errors.New("it is asked by SHA-256, and only a SHA-512 is given")
	}
	return m.get(ctx, "sha512", sha512, name)
}

// OpenSignature asks for signature/SHA256/NAME, where the template has places for it.
func (m *httpMirror) OpenSignature(ctx context.Context, of, name string) (io.ReadCloser, error) {
	if err := checkSignatureAsked(ctx, of, name); err != nil {
		return nil, err
	}
	if !strings.Contains(m.template, "{algorithm}") || !strings.Contains(m.template, "{digest}") {
		return nil, notThere{"it is asked by SHA-256, and no verify-sha256 is given"}
	}
	return m.get(ctx, "signature", of+"/"+url.PathEscape(name), name)
}

func (m *httpMirror) get(ctx context.Context, algorithm, digest, name string) (io.ReadCloser, error) {
	name = url.PathEscape(name[strings.LastIndexByte(name, '/')+1:])
	if name == ".." || name == "." {
		name = ""
	}
	address := strings.NewReplacer("{sha256}", digest, "{algorithm}", algorithm, "{digest}", digest, "{name}", name).Replace(m.template)
	body, err := m.fetcher.client().Get(ctx, address, web.Conditions{})
	if s, is := errors.AsType[*web.StatusError](err); is && (s.Code == http.StatusNotFound || s.Code == http.StatusGone) {
		return nil, notThere{s.Error()}
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// notThere is an fs.ErrNotExist that says more.
type notThere struct{ text string }

func (e notThere) Error() string        { return e.text }
func (e notThere) Is(target error) bool { return target == fs.ErrNotExist }

// checkAsked refuses what must not become part of a path or an address.
func checkAsked(ctx context.Context, sha256 string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !isHex(sha256, 64) {
		return fmt.Errorf("%q is no SHA-256", sha256)
	}
	return nil
}
