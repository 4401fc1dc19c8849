package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/signature"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/recipes"
)

// Verification says how upstream's signature of a source is checked: what the inputs
// verify and verify-... of fetch and git-checkout ask for.
type Verification struct {
	Scheme signature.Scheme
	// Keys are files beside the recipe; those whose names say so when empty.
	Keys []string
	// Signature is a detached signature of the file, or a clear-signed list of checksums.
	// With Checksums it is the detached signature of that. A git object holds its own.
	Signature, Checksums *Beside
	// SHA1 accepts OpenPGP signatures over a SHA-1.
	SHA1 bool
}

// Beside is a small file that says something of a source: one that lies beside the recipe
// (Path), or one from outside, whose digest may be unknown.
type Beside struct {
	Path string
	Source
}

func (b *Beside) name() string {
	if b.Path != "" {
		return b.Path
	}
	return b.Name
}

// SignatureError says that a source has no signature that holds.
type SignatureError struct {
	Source    string // the file's name, or the repository's address
	Signature string // the file of the signature, or the tag or commit
	Err       error  // mostly a *signature.Error
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("verify %s: %s: %v", e.Source, e.Signature, e.Err)
}

func (e *SignatureError) Unwrap() error { return e.Err }

// suffixes are what upstream's addresses of signatures end in, where a recipe does not say.
var suffixes = map[signature.Scheme]string{signature.PGP: ".asc", signature.Minisign: ".minisig", signature.SSH: ".sig"}

// ofVerify reads the inputs verify and verify-... of a step; nil where it asks for none.
func ofVerify(s recipes.Step, uris []string) (*Verification, error) {
	in := s.Inputs
	fail := func(format string, args ...any) (*Verification, error) {
		return nil, fmt.Errorf(s.Native+": "+format, args...)
	}
	if in["verify"] == "" {
		for _, name := range slices.Sorted(maps.Keys(in)) {
			if strings.HasPrefix(name, "verify-") && in[name] != "" {
				return fail("%s without verify\n  hint: verify: pgp, minisign or ssh", name)
			}
		}
		return nil, nil
	}
	v := &Verification{Scheme: signature.Scheme(in["verify"]), Keys: strings.Fields(in["verify-keys"])}
	if !slices.Contains(signature.Schemes(), v.Scheme) || s.Native == "git-checkout" && v.Scheme == signature.Minisign {
		return fail("verify is %q, expected pgp, minisign (files only) or ssh", in["verify"])
	}
	switch in["verify-accept"] {
	case "":
	case "sha1":
		v.SHA1 = true
	default:
		return fail("verify-accept is %q, and only sha1 can be accepted", in["verify-accept"])
	}
	for _, k := range v.Keys {
		if !fs.ValidPath(k) {
			return fail("verify-keys: %q is no path below the recipe's folder", k)
		}
	}
	if s.Native == "git-checkout" {
		return v, nil
	}
	var err error
	if v.Signature, err = besideOf(in, "verify-uri", "verify-sha256"); err != nil {
		return fail("%v", err)
	}
	if v.Checksums, err = besideOf(in, "verify-checksums", "verify-checksums-sha256"); err != nil {
		return fail("%v", err)
	}
	if v.Signature == nil {
		of := uris
		if v.Checksums != nil {
			if of = v.Checksums.URIs; v.Checksums.Path != "" {
				return fail("verify-checksums lies beside the recipe, and verify-uri does not say where its signature is")
			}
		}
		v.Signature = &Beside{Source: Source{SHA256: in["verify-sha256"]}}
		for _, uri := range of {
			v.Signature.URIs = append(v.Signature.URIs, uri+suffixes[v.Scheme])
		}
		v.Signature.Name = nameOf(v.Signature.URIs[0])
	}
	return v, nil
}

func besideOf(in map[string]string, uri, sum string) (*Beside, error) {
	b := &Beside{Source: Source{URIs: strings.Fields(in[uri]), SHA256: in[sum]}}
	if len(b.URIs) == 0 {
		if b.SHA256 != "" && uri != "verify-uri" {
			return nil, fmt.Errorf("%s without %s", sum, uri)
		}
		return nil, nil
	}
	if b.SHA256 != "" && !isHex(b.SHA256, 64) {
		return nil, fmt.Errorf("%s: %q is no SHA-256", sum, b.SHA256)
	}
	if len(b.URIs) == 1 && !strings.Contains(b.URIs[0], ":") {
		if b.Path = b.URIs[0]; !fs.ValidPath(b.Path) {
			return nil, fmt.Errorf("%s: %q is neither an address nor a path below the recipe's folder", uri, redact.Address(b.Path))
		}
		if b.SHA256 != "" {
			return nil, fmt.Errorf("%s: a file beside the recipe needs no digest", sum)
		}
		b.URIs = nil
		return b, nil
	}
	if err := checkAddresses(uri, b.URIs); err != nil {
		return nil, err
	}
	if b.Name = nameOf(b.URIs[0]); b.Name == "" {
		return nil, fmt.Errorf("%s: %q names no file", uri, redact.Address(b.URIs[0]))
	}
	return b, nil
}

// verifier checks the signatures of one script's sources.
type verifier struct {
	*Fetcher
	script *recipes.Script
}

// file reads a file that lies beside the recipe, as it was when the script was made.
func (v verifier) file(name string) ([]byte, error) {
	for _, f := range v.script.Files {
		if f.Path == name {
			return v.blob(store.Digest("sha256:" + f.SHA256))
		}
	}
	return nil, fmt.Errorf("there is no %s beside the recipe\n  hint: it is looked for in the folder %s", name, strings.TrimSuffix(v.script.Recipe, path.Ext(v.script.Recipe)))
}

// blob reads a small blob of the store.
func (v verifier) blob(d store.Digest) ([]byte, error) {
	r, err := v.Store.Open(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, signature.MaxSize+1))
	if len(data) > signature.MaxSize {
		return nil, fmt.Errorf("it has more than %d bytes", signature.MaxSize)
	}
	return data, err
}

// keys reads the keys of a verification.
func (v verifier) keys(how *Verification) (*signature.Keys, error) {
	names := how.Keys
	if len(names) == 0 {
		names = v.keyFiles(how)
	}
	var files []signature.File
	for _, name := range names {
		data, err := v.file(name)
		if err != nil {
			return nil, err
		}
		files = append(files, signature.File{Name: name, Data: data})
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no keys lie beside the recipe\n  hint: put upstream's public keys into the folder %s, and name them by verify-keys",
			strings.TrimSuffix(v.script.Recipe, path.Ext(v.script.Recipe)))
	}
	return signature.ReadKeys(how.Scheme, files)
}

// keyFiles are the files beside the recipe whose names say that they hold keys.
func (v verifier) keyFiles(how *Verification) (names []string) {
	for _, f := range v.script.Files {
		switch ext := path.Ext(f.Path); {
		case strings.Contains(f.Path, "/") || how.Signature != nil && how.Signature.Path == f.Path || how.Checksums != nil && how.Checksums.Path == f.Path:
		case how.Scheme == signature.PGP && (ext == ".asc" || ext == ".gpg" || ext == ".pgp"),
			how.Scheme == signature.Minisign && ext == ".pub",
			how.Scheme == signature.SSH && (ext == ".pub" || f.Path == "allowed_signers"):
			names = append(names, f.Path)
		}
	}
	return names
}

// check holds what was fetched against its signature, where the step asks for that. What
// does not hold, and a signature that cannot be had, is a *SignatureError.
func (v verifier) check(ctx context.Context, w Wanted, d store.Digest, objects []signature.Object) (signer signature.Signer, err error) {
	e := &SignatureError{}
	switch {
	case w.File != nil && w.File.Verify != nil:
		e.Source, e.Signature = w.File.Name, w.File.Verify.Signature.name()
		signer, err = v.checkFile(ctx, *w.File, d)
	case w.Git != nil && w.Git.Verify != nil:
		e.Source, e.Signature = redact.Address(w.Git.Repository), "git"
		signer, err = v.checkGit(*w.Git, objects)
	default:
		return signer, nil
	}
	if ctx.Err() != nil {
		return signer, context.Cause(ctx)
	}
	if _, full := errors.AsType[*store.SpaceError](err); full {
		return signer, err
	}
	if err != nil {
		e.Err = err
		return signer, e
	}
	v.Log.Debug("signature holds", "source", e.Source, "signature", e.Signature, "key", signer.Key, "of", signer.Name, "made", signer.At)
	return signer, nil
}

// Signed is a source whose signature holds.
type Signed struct {
	SHA256, SHA512 string // as the recipe names it; empty for a git repository
	Signer         string // the key, and whose it is
}

// FetchSigned fetches those sources of a script's build whose signatures its recipe names, and
// says who signed them.
func FetchSigned(ctx context.Context, f *Fetcher, s *recipes.Script) ([]Signed, error) {
	list, err := Of(s)
	if err != nil {
		return nil, err
	}
	f.init()
	if err := f.putFiles(s); err != nil {
		return nil, err
	}
	v := verifier{f, s}
	var all []Signed
	for _, w := range list {
		one := Signed{}
		switch {
		case w.File != nil && w.File.Verify != nil:
			one.SHA256, one.SHA512 = w.File.SHA256, w.File.SHA512
		case w.Git != nil && w.Git.Verify != nil:
		default:
			continue
		}
		signer, err := v.fetch(ctx, w)
		if err != nil {
			return nil, err
		}
		one.Signer = signer.String()
		all = append(all, one)
	}
	return all, nil
}

func (v verifier) checkFile(ctx context.Context, s Source, d store.Digest) (signer signature.Signer, err error) {
	how := s.Verify
	keys, err := v.keys(how)
	if err != nil {
		return signer, err
	}
	options := signature.Options{Now: time.Now(), SHA1: how.SHA1}
	open := func() (io.ReadCloser, error) { return v.Store.Open(d) }
	return v.holding(ctx, how.Signature, d, func(made []byte) (signature.Signer, error) {
		switch {
		case how.Checksums != nil:
			var by signature.Signer
			_, err := v.holding(ctx, how.Checksums, d, func(list []byte) (signature.Signer, error) {
				var err error
				if by, err = keys.Verify(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(list)), nil }, made, options); err != nil {
					return by, err
				}
				return by, v.listed(list, s, d)
			})
			return by, err
		case signature.IsClearSigned(made):
			list, by, err := keys.OpenClearSigned(made, options)
			if err != nil {
				return by, err
			}
			return by, v.listed(list, s, d)
		}
		by, err := keys.Verify(open, made, options)
		if err == nil {
			return by, nil
		}
		// Some sign the tar before it is compressed, and sign once for all compressions.
		if plain := v.expanded(d); plain != nil {
			if by, other := keys.Verify(plain, made, options); other == nil {
				return by, nil
			}
		}
		return by, err
	})
}

// expanded is the content of a compressed file; nil for a file that is not.
func (v verifier) expanded(d store.Digest) signature.Content {
	compressed := false
	if r, err := v.Store.Open(d); err == nil {
		compressed = archive.IsCompressed(r)
		r.Close()
	}
	if !compressed {
		return nil
	}
	return func() (io.ReadCloser, error) {
		blob, err := v.Store.Open(d)
		if err != nil {
			return nil, err
		}
		r, err := archive.Decompress(blob)
		if err != nil {
			blob.Close()
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{&checked{r: r, left: maxExpanded, max: maxExpanded}, closers{r, blob}}, nil
	}
}

// maxExpanded is the most bytes that a file is expanded to for its signature.
const maxExpanded = 32 << 30

type closers []io.Closer

func (all closers) Close() error {
	var errs []error
	for _, c := range all {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// listed finds the source's own digest in a list of checksums that is signed.
func (v verifier) listed(list []byte, s Source, d store.Digest) error {
	blob, err := v.Store.Open(d)
	if err != nil {
		return err
	}
	defer blob.Close()
	short, long := sha256.New(), sha512.New()
	if _, err := io.Copy(io.MultiWriter(short, long), blob); err != nil {
		return err
	}
	for _, uri := range s.URIs {
		for _, sum := range [][]byte{long.Sum(nil), short.Sum(nil)} {
			got := hex.EncodeToString(sum)
			switch want := checksumNamed(list, nameOf(uri), len(got)); want {
			case "":
			case got:
				return nil
			default:
				return &signature.Error{Reason: fmt.Sprintf("the signed list names %s as %s, and it is %s", nameOf(uri), want, got)}
			}
		}
	}
	return &signature.Error{Reason: fmt.Sprintf("the signed list has no SHA-256 and no SHA-512 of %s", s.Name)}
}

// checksumNamed is checksumOf for a list of several files: a checksum alone is of none.
func checksumNamed(list []byte, file string, digits int) string {
	for line := range bytes.Lines(list) {
		if fields := bytes.Fields(line); len(fields) > 1 {
			if sum := checksumOf(line, file, digits); sum != "" {
				return sum
			}
		}
	}
	return ""
}

// holding gives check the bytes of a small file. One from outside whose digest the recipe
// does not say is remembered for the source that it is of once it was found to hold.
func (v verifier) holding(ctx context.Context, b *Beside, of store.Digest, check func([]byte) (signature.Signer, error)) (signature.Signer, error) {
	if b.Path != "" {
		data, err := v.file(b.Path)
		if err != nil {
			return signature.Signer{}, err
		}
		return check(data)
	}
	missing := func(err error) (signature.Signer, error) {
		return signature.Signer{}, fmt.Errorf("it cannot be had: %w", err)
	}
	if b.SHA256 != "" {
		d, err := v.Fetch(ctx, b.Source)
		if err != nil {
			return missing(err)
		}
		data, err := v.blob(d)
		if err != nil {
			return missing(err)
		}
		return check(data)
	}
	if known, found := v.knownBeside(b, of); found {
		if data, err := v.blob(known); err == nil {
			if signer, err := check(data); err == nil {
				return signer, nil
			}
		}
	}
	failed := &Error{Name: b.Name, Digest: "no digest given"}
	for _, uri := range b.URIs {
		if strings.HasPrefix(uri, "debian:") {
			failed.Tried = append(failed.Tried, Attempt{redact.Address(uri), errors.New("its digest has to be given: verify-sha256")})
			continue
		}
		data, err := v.smallAgain(ctx, uri)
		if err != nil {
			failed.Tried = append(failed.Tried, Attempt{redact.Address(uri), err})
			continue
		}
		signer, err := check(data)
		if err != nil {
			return signer, err
		}
		return signer, v.rememberBeside(b, of, data)
	}
	for _, m := range v.Mirrors {
		s, is := m.(signatureMirror)
		if !is {
			continue
		}
		data, err := readBeside(s.OpenSignature(ctx, of.Hex(), b.Name))
		if err == nil {
			var signer signature.Signer
			if signer, err = check(data); err == nil {
				return signer, v.rememberBeside(b, of, data)
			}
		}
		failed.Tried = append(failed.Tried, Attempt{m.Name(), err})
	}
	return missing(failed)
}

// besideAction names what was believed for a source, of a file whose digest nobody says.
func besideAction(b *Beside, of store.Digest) store.ActionID {
	h := store.NewHash("signature by address")
	h.Line("of", of)
	h.Line("at", b.URIs)
	return h.Sum()
}

func (f *Fetcher) knownBeside(b *Beside, of store.Digest) (d store.Digest, known bool) {
	found, err := f.Store.Recall(besideAction(b, of), &d)
	return d, err == nil && found && f.Store.Has(d)
}

func (f *Fetcher) rememberBeside(b *Beside, of store.Digest, data []byte) error {
	d, _, err := f.Store.Put(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return f.Store.Remember(besideAction(b, of), d)
}

func readBeside(r io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, signature.MaxSize+1))
	if len(data) > signature.MaxSize {
		return nil, fmt.Errorf("it has more than %d bytes", signature.MaxSize)
	}
	return data, err
}

// smallAgain is small, tried again as often as a source is.
func (f *Fetcher) smallAgain(ctx context.Context, uri string) ([]byte, error) {
	retry := f.web.Retry.WithDefaults()
	for n := 0; ; n++ {
		data, err := f.small(ctx, uri)
		if err == nil || !web.Passing(err) || n+1 >= retry.Attempts {
			return data, err
		}
		if err := retry.Sleep(ctx, n, err); err != nil {
			return nil, err
		}
	}
}

// checkGit looks at the tag, where there is one that is signed, and else at the commit.
func (v verifier) checkGit(g Git, objects []signature.Object) (signer signature.Signer, err error) {
	keys, err := v.keys(g.Verify)
	if err != nil {
		return signer, err
	}
	options := signature.Options{Now: time.Now(), SHA1: g.Verify.SHA1}
	var first error
	for _, o := range objects {
		if err := aboutTag(o, g); err != nil {
			first = err // but the commit may be signed
			continue
		}
		signer, err := keys.VerifyGit(o, options)
		if err == nil {
			return signer, nil
		}
		if first == nil {
			first = err
		}
		if o.Signed() {
			return signer, err // it is signed, and that does not hold
		}
	}
	if first == nil {
		first = &signature.Error{Reason: "there is neither tag nor commit"}
	}
	return signer, first
}

// aboutTag says why a tag is none of the recipe's: one that was signed for another name, or
// about something else than a commit, says nothing here, whoever signed it.
func aboutTag(o signature.Object, g Git) error {
	if o.Kind != "tag" {
		return nil
	}
	switch _, kind, name, err := o.Target(); {
	case err != nil:
		return &signature.Error{Reason: err.Error()}
	case name != g.Tag:
		return &signature.Error{Reason: fmt.Sprintf("the tag %s is one that was made as %q, and the commit is not signed", g.Tag, name)}
	case kind != "commit":
		return &signature.Error{Reason: fmt.Sprintf("the tag %s is of a %s, and the commit is not signed", g.Tag, kind)}
	}
	return nil
}
