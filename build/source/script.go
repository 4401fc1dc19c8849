package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/signature"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/web"
	"github.com/tarn-build/tarn/recipes"
	"golang.org/x/sync/errgroup"
)

// Wanted is what one native step asks from outside: one of File and Git is set.
type Wanted struct {
	Step recipes.Step
	File *Source
	Git  *Git
}

// Of lists what the steps of a script's build ask from outside, in their order. What
// is wrong with a step is a problem of the recipe.
func Of(s *recipes.Script) ([]Wanted, error) {
	var list []Wanted
	var problems diag.Problems
	for _, o := range s.Packages {
		wanted, found := ofSteps(s.Recipe, o.Steps)
		list, problems = append(list, wanted...), append(problems, found...)
	}
	return list, problems.Err()
}

// OfOutput lists what the steps of one package of a script ask from outside.
func OfOutput(s *recipes.Script, o *recipes.Output) ([]Wanted, error) {
	list, problems := ofSteps(s.Recipe, o.Steps)
	return list, problems.Err()
}

// OfTest lists what a test asks from outside.
func OfTest(s *recipes.Script, t *recipes.Test) ([]Wanted, error) {
	if t == nil {
		return nil, nil
	}
	list, problems := ofSteps(s.Recipe, t.Steps)
	return list, problems.Err()
}

func ofSteps(recipe string, steps []recipes.Step) (list []Wanted, problems diag.Problems) {
	for _, s := range steps {
		w := Wanted{Step: s}
		var err error
		switch s.Native {
		case "fetch":
			var f Source
			f, err = OfFetch(s)
			w.File = &f
		case "git-checkout":
			var g Git
			g, err = OfCheckout(s)
			w.Git = &g
		default:
			continue
		}
		if err != nil {
			text, hint, _ := strings.Cut(err.Error(), "\n  hint: ")
			problems = append(problems, diag.Problem{File: recipe, Line: s.Line, Text: text, Hint: hint})
			continue
		}
		list = append(list, w)
	}
	return list, problems
}

// OfFetch reads the inputs of a fetch step.
func OfFetch(s recipes.Step) (Source, error) {
	in := s.Inputs
	f := Source{URIs: strings.Fields(in["uri"]), SHA256: in["expected-sha256"], SHA512: in["expected-sha512"]}
	if len(f.URIs) == 0 {
		return f, errors.New("fetch: no uri")
	}
	f.URIs = append(f.URIs, strings.Fields(in["mirrors"])...)
	f.Name = nameOf(f.URIs[0])
	if f.Name == "" {
		return f, fmt.Errorf("fetch: uri %q names no file", redact.Address(f.URIs[0]))
	}
	if err := checkAddresses("uri", f.URIs); err != nil {
		return f, fmt.Errorf("fetch: %w", err)
	}
	if f.SHA256 == "" && f.SHA512 == "" {
		return f, fmt.Errorf("fetch: no digest for %s\n  hint: give expected-sha256", f.Name)
	}
	if err := f.check(); err != nil {
		return f, err
	}
	var err error
	if f.Patience, err = patienceOf(s); err != nil {
		return f, err
	}
	f.Verify, err = ofVerify(s, f.URIs)
	return f, err
}

// checkAddresses refuses addresses that files do not come from.
func checkAddresses(input string, uris []string) error {
	for _, address := range uris {
		if err := checkOpen(input, address); err != nil {
			return err
		}
		scheme, rest, _ := strings.Cut(address, ":")
		switch {
		case scheme == "http" || scheme == "https":
		case scheme == "debian" && strings.Count(rest, "/") == 1 && fs.ValidPath(rest):
		case scheme == "debian":
			return fmt.Errorf("%s %q is not debian:SOURCE/FILE", input, address)
		default:
			return fmt.Errorf("%s %q is none of http, https and debian\n  hint: files of this machine are served by a folder mirror of the workspace", input, address)
		}
	}
	return nil
}

// checkOpen refuses an address that holds a password, or what may be a token: a package tells in its .melange.yaml
// and its SBOM what it was made from, and whoever has the recipe can read it anyway.
func checkOpen(input, address string) error {
	u, err := url.Parse(address)
	if err != nil || redact.Login(u) == nil {
		return nil
	}
	what := "a user, which may be a token"
	if password, set := u.User.Password(); set && password != "" {
		what = "a password"
	}
	return fmt.Errorf("%s %q holds %s\n  hint: who has the recipe, or a package of it, can read it: passwords and tokens stand in ~/.netrc, or in HTTP_AUTH", input, redact.Address(address), what)
}

// Patience is how long and how often a recipe wants an address to be tried. What is 0 is
// as the fetcher's client has it. It is a hint: it decides nothing about the outcome.
type Patience struct {
	Retry web.Retry     // Attempts, Pause and MaxPause
	Stall time.Duration // to connect, and without a byte
}

// patienceOf reads the hints of fetch (timeout, retry-limit) and git-checkout (max-retries,
// initial-backoff, max-backoff).
func patienceOf(s recipes.Step) (p Patience, err error) {
	number := func(name string, most int) int {
		text := s.Hints[name]
		if text == "" || err != nil {
			return 0
		}
		n, wrong := strconv.Atoi(text)
		if wrong != nil || n < 0 {
			err = fmt.Errorf("%s: %s %q is no number", s.Native, name, text)
			return 0
		}
		return min(n, most)
	}
	const hour = 3600
	p.Retry.Attempts = number("retry-limit", 100)
	if s.Hints["retry-limit"] == "0" {
		p.Retry.Attempts = 100 // without an end, in wget
	}
	p.Stall = time.Duration(number("timeout", hour)) * time.Second
	if s.Hints["max-retries"] != "" {
		p.Retry.Attempts = 1 + number("max-retries", 100)
	}
	p.Retry.Pause = time.Duration(number("initial-backoff", hour)) * time.Second
	p.Retry.MaxPause = time.Duration(number("max-backoff", hour)) * time.Second
	return p, err
}

// parallel is how many sources of a script are fetched at a time.
const parallel = 4

// FetchAll puts all that the build of a script needs from outside into the store,
// and the files that lie beside its recipe. All that cannot be had is in the error.
func FetchAll(ctx context.Context, f *Fetcher, s *recipes.Script) error {
	list, err := Of(s)
	if err != nil {
		return err
	}
	if err := f.putFiles(s); err != nil {
		return err
	}
	return f.fetchEach(ctx, s, list)
}

// FetchTest is FetchAll for the test of one package, which finds the files beside the
// recipe as well.
func FetchTest(ctx context.Context, f *Fetcher, s *recipes.Script, t *recipes.Test) error {
	list, err := OfTest(s, t)
	if err != nil {
		return err
	}
	if err := f.putFiles(s); err != nil {
		return err
	}
	return f.fetchEach(ctx, s, list)
}

// fetchEach puts each of the list into the store, and holds it against the signature that
// its step asks for.
func (f *Fetcher) fetchEach(ctx context.Context, s *recipes.Script, list []Wanted) error {
	v := verifier{f, s}
	errs := make([]error, len(list))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, w := range list {
		g.Go(func() error {
			_, errs[i] = v.fetch(ctx, w)
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// fetch puts one thing into the store and checks its signature.
func (v verifier) fetch(ctx context.Context, w Wanted) (signature.Signer, error) {
	if w.Git != nil {
		t, err := v.tree(ctx, *w.Git)
		if err != nil {
			return signature.Signer{}, err
		}
		return v.check(ctx, w, t.Archive, t.Objects)
	}
	d, err := v.Fetch(ctx, *w.File)
	if err != nil {
		return signature.Signer{}, err
	}
	return v.check(ctx, w, d, nil)
}

// putFiles puts the files beside the recipe into the store, as they were when the
// script was made.
func (f *Fetcher) putFiles(s *recipes.Script) error {
	for _, file := range s.Files {
		d, err := store.ParseDigest("sha256:" + file.SHA256)
		if err != nil {
			return err
		}
		if f.Store.Has(d) {
			continue
		}
		if s.Source == nil {
			return fmt.Errorf("%s: %s: the script does not say where the recipe's files are", s.Recipe, file.Path)
		}
		r, err := s.Source.Open(file.Path)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Recipe, err)
		}
		_, err = f.Store.PutExpected(r, d)
		r.Close()
		if _, is := errors.AsType[*store.MismatchError](err); is {
			return fmt.Errorf("%s: %s changed after the recipe was read\n  hint: run again", s.Recipe, file.Path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// PlaceFiles puts the files that lie beside the recipe into the work folder. They
// were put into the store by FetchAll.
func PlaceFiles(work *os.Root, s *recipes.Script, f *Fetcher) error {
	for _, file := range s.Files {
		d, err := store.ParseDigest("sha256:" + file.SHA256)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if file.Executable {
			mode = 0o755
		}
		if err := work.MkdirAll(path.Dir(file.Path), 0o755); err != nil {
			return err
		}
		if err := f.place(d, work, file.Path, mode); err != nil {
			return fmt.Errorf("%s: %w", file.Path, err)
		}
	}
	return nil
}

// place writes a blob as a file, in the stead of what was there.
func (f *Fetcher) place(d store.Digest, root *os.Root, name string, mode fs.FileMode) error {
	blob, err := f.Store.Open(d)
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, blob)
	if err == nil {
		err = w.Chmod(mode) // whatever the umask is
	}
	return errors.Join(err, w.Close())
}
