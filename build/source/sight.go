package source

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
)

// Sight is a file that was seen for the first time: nobody could say beforehand which
// bytes are right. It is in the store, and what a recipe says of it from then on is what
// it was then.
type Sight struct {
	Digest store.Digest // SHA-256
	SHA512 string       // hexadecimal
	Size   int64
	From   string // the address that gave it, without secrets
	// Vouched says what else names this digest: a file of checksums that upstream keeps
	// beside it, or Debian's signed index. Empty when nothing does.
	Vouched string
	// Signature is the address of a signature that lies beside it, which was not checked.
	Signature string
}

// maxBeside is the most bytes that a file of checksums may have.
const maxBeside = 1 << 20

// See puts what the first of the addresses that answers gives into the store, and holds
// it against what is published beside it. A published checksum that does not match is a
// *MismatchError. What could not be had is an *Error.
//
// With a SHA-256 that is known from elsewhere (else "") it is Fetch: mirrors are asked for
// it too, and it has to match.
func (f *Fetcher) See(ctx context.Context, uris []string, sha256 string) (Sight, error) {
	f.init()
	if len(uris) == 0 {
		return Sight{}, errors.New("there is no address")
	}
	if sha256 != "" {
		d, err := f.Fetch(ctx, Source{Name: nameOf(uris[0]), URIs: uris, SHA256: sha256})
		if err != nil {
			return Sight{}, err
		}
		s, err := f.known512(d)
		s.From, s.Vouched = redact.Address(uris[0]), "the SHA-256 that was given"
		return s, err
	}
	failed := &Error{Name: nameOf(uris[0]), Digest: "first seen"}
	for _, address := range uris {
		if rest, is := strings.CutPrefix(address, "debian:"); is {
			s, err := f.seeDebian(ctx, rest)
			if err == nil {
				return s, nil
			}
			failed.Tried = append(failed.Tried, Attempt{address, err})
			continue
		}
		s, err := f.see(ctx, address)
		if err == nil {
			s.From = redact.Address(address)
			if s.Vouched, err = f.besides(ctx, address, s); err == nil {
				s.Signature = f.signature(ctx, address)
				return s, nil
			}
		}
		if _, full := errors.AsType[*store.SpaceError](err); full || ctx.Err() != nil {
			return Sight{}, err
		}
		failed.Tried = append(failed.Tried, Attempt{redact.Address(address), err})
	}
	return Sight{}, failed
}

// see fetches an address into the store.
func (f *Fetcher) see(ctx context.Context, address string) (Sight, error) {
	body, err := f.web.Get(ctx, address, web.Conditions{})
	if err != nil {
		return Sight{}, err
	}
	defer body.Close()
	sum := sha512.New()
	r := &checked{r: io.TeeReader(body, sum), left: f.MaxSize, max: f.MaxSize}
	d, size, err := f.Store.Put(r)
	if r.err != nil {
		return Sight{}, r.err
	}
	return Sight{Digest: d, Size: size, SHA512: hex.EncodeToString(sum.Sum(nil))}, err
}

// besides looks for checksums that are published beside an address, and gives the one
// that holds what was seen. One that names another digest for the file is an error.
func (f *Fetcher) besides(ctx context.Context, address string, s Sight) (string, error) {
	if strings.ContainsAny(address, "?#") {
		return "", nil // the address of a program, and not of a file beside others
	}
	dir, file := address[:strings.LastIndexByte(address, '/')+1], path.Base(address)
	for _, beside := range []struct{ address, algorithm, got string }{
		{address + ".sha256", "sha256", s.Digest.Hex()},
		{address + ".sha256sum", "sha256", s.Digest.Hex()},
		{address + ".sha512", "sha512", s.SHA512},
		{dir + "SHA256SUMS", "sha256", s.Digest.Hex()},
		{dir + "sha256sums.asc", "sha256", s.Digest.Hex()},
	} {
		text, err := f.small(ctx, beside.address)
		if err != nil {
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			continue // most files have none beside them
		}
		want := checksumOf(text, file, len(beside.got))
		if want == "" {
			continue
		}
		if want != beside.got {
			return "", fmt.Errorf("%s says otherwise: %w", redact.Address(beside.address), &MismatchError{Algorithm: beside.algorithm, Want: want, Got: beside.got})
		}
		return redact.Address(beside.address), nil
	}
	return "", nil
}

// Read gives what an address has, at most 1 MiB, and keeps nothing of it. It is for what is
// no source: whoever asks has to check it.
func (f *Fetcher) Read(ctx context.Context, address string) ([]byte, error) {
	body, err := f.client().Get(ctx, address, web.Conditions{})
	if err != nil {
		return nil, err
	}
	return readSmall(body)
}

// small reads a small file.
func (f *Fetcher) small(ctx context.Context, address string) ([]byte, error) {
	body, err := f.web.GetOnce(ctx, address, web.Conditions{})
	if err != nil {
		return nil, err
	}
	return readSmall(body)
}

func readSmall(body *web.Body) ([]byte, error) {
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxBeside+1))
	if len(text) > maxBeside {
		return nil, fmt.Errorf("it has more than %d bytes", maxBeside)
	}
	return text, err
}

var (
	sumLine = regexp.MustCompile(`^([0-9a-fA-F]{64}|[0-9a-fA-F]{128})(?:[ \t]+\*?(.+))?$`)
	bsdLine = regexp.MustCompile(`^SHA(?:256|512) ?\((.+)\) ?= ?([0-9a-fA-F]{64}|[0-9a-fA-F]{128})$`)
)

// checksumOf finds the checksum of a file, of so many hexadecimal digits, in what
// sha256sum and its like write, or a checksum alone; "" when there is none.
func checksumOf(text []byte, file string, digits int) string {
	for line := range bytes.Lines(text) {
		line := strings.TrimSpace(string(line))
		if m := sumLine.FindStringSubmatch(line); m != nil && len(m[1]) == digits && (m[2] == "" || path.Base(m[2]) == file) {
			return strings.ToLower(m[1])
		}
		if m := bsdLine.FindStringSubmatch(line); m != nil && len(m[2]) == digits && path.Base(m[1]) == file {
			return strings.ToLower(m[2])
		}
	}
	return ""
}

// signature finds a detached signature beside an address; "" when there is none.
func (f *Fetcher) signature(ctx context.Context, address string) string {
	if strings.ContainsAny(address, "?#") {
		return ""
	}
	for _, suffix := range []string{".asc", ".sig", ".sign", ".minisig"} {
		text, err := f.small(ctx, address+suffix)
		if err == nil && (bytes.HasPrefix(text, []byte("-----BEGIN PGP SIGNATURE")) || suffix != ".asc" && len(text) > 0 && len(text) < 64<<10 && !bytes.Contains(bytes.ToLower(text), []byte("<html"))) {
			return redact.Address(address + suffix)
		}
	}
	return ""
}

// seeDebian finds SOURCE/FILE in the signed indexes of the archive's suites, which name
// its digest, and fetches it by that.
func (f *Fetcher) seeDebian(ctx context.Context, name string) (Sight, error) {
	source, file, found := strings.Cut(name, "/")
	if !found || source == "" || file == "" || strings.Contains(file, "/") {
		return Sight{}, errors.New("it is not debian:SOURCE/FILE")
	}
	var mirrors []*debianMirror
	for _, m := range f.Mirrors {
		if d, is := m.(*debianMirror); is {
			mirrors = append(mirrors, d)
		}
	}
	if len(mirrors) == 0 {
		return Sight{}, errors.New("no mirror is Debian's archive\n  hint: in tarn.yaml: mirrors: [debian: [bookworm, trixie]]")
	}
	missing := &notHeld{source: source, file: file}
	for _, m := range mirrors {
		for _, suite := range m.suites {
			s, err := m.archive.Suite(ctx, suite)
			var t table
			if err == nil {
				t, err = m.table(ctx, s, true)
			}
			if err != nil {
				missing.failed = append(missing.failed, fmt.Errorf("suite %s: %w", suite, err))
				continue
			}
			missing.asked = append(missing.asked, suite)
			sha256 := t.named(source, file)
			if sha256 == "" {
				for _, version := range t.versions(source) {
					missing.versions = append(missing.versions, version+" ("+suite+")")
				}
				continue
			}
			d, err := f.Fetch(ctx, Source{Name: file, URIs: []string{"debian:" + name}, SHA256: sha256})
			if err != nil {
				return Sight{}, err
			}
			sight, err := f.known512(d)
			sight.From, sight.Vouched = "debian:"+name, "Debian's signed index of "+suite
			return sight, err
		}
	}
	return Sight{}, missing
}

// known512 is what the store has under a digest, with its SHA-512.
func (f *Fetcher) known512(d store.Digest) (Sight, error) {
	blob, err := f.Store.Open(d)
	if err != nil {
		return Sight{}, err
	}
	defer blob.Close()
	sum := sha512.New()
	size, err := io.Copy(sum, blob)
	return Sight{Digest: d, Size: size, SHA512: hex.EncodeToString(sum.Sum(nil))}, err
}

// SeeFile puts a file of this machine into the store.
func (f *Fetcher) SeeFile(r io.Reader, name string) (Sight, error) {
	f.init()
	sum := sha512.New()
	d, size, err := f.Store.Put(io.TeeReader(r, sum))
	return Sight{Digest: d, Size: size, SHA512: hex.EncodeToString(sum.Sum(nil)), From: name}, err
}

// named is the SHA-256 of a file of a source, or "".
func (t table) named(source, file string) string {
	needle := []byte("/" + file + " " + source + " ")
	i := bytes.Index(t, needle)
	if i < 0 {
		return ""
	}
	line, _ := t.line(i)
	return line[:64]
}

// ResolveRef asks a repository for the commit that a ref is at: refs/tags/NAME, refs/heads/NAME
// or HEAD. Of an annotated tag it is the commit that the tag names. A ref that is not
// there, and what could not be asked, is an *Error.
func (f *Fetcher) ResolveRef(ctx context.Context, repository, ref string) (string, error) {
	f.init()
	fail := func(err error) (string, error) {
		return "", &Error{Name: redact.Address(repository), Digest: ref, Tried: []Attempt{{"git", err}}}
	}
	if f.web.Offline {
		return fail(web.ErrOffline)
	}
	if err := checkRef("ref", ref); err != nil {
		return fail(err)
	}
	if u, err := url.Parse(repository); err != nil || u.Scheme == "" || u.Host == "" && u.Scheme != "file" {
		return fail(errors.New("it is no address"))
	}
	options := f.gitOptions(Git{Repository: repository})
	retry := f.web.Retry.WithDefaults()
	for n := 0; ; n++ {
		out, err := askGit(ctx, f.web, repository, options, "ls-remote", "--", repository, ref, ref+"^{}")
		if err == nil {
			commit := ""
			for line := range strings.Lines(string(out)) {
				at, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
				if name == ref+"^{}" || name == ref && commit == "" {
					commit = at
				}
			}
			if !commitPattern.MatchString(commit) {
				return fail(fmt.Errorf("there is no %s", ref))
			}
			return commit, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if n+1 >= retry.Attempts || !gitPassing(err) {
			return fail(err)
		}
		if err := retry.Sleep(ctx, n, nil); err != nil {
			return "", err
		}
	}
}
