package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
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

// OfFetch reads the inputs of a fetch step. Those that say how long and how often
// to try (timeout, dns-timeout, retry-limit) decide nothing here.
func OfFetch(s recipes.Step) (Source, error) {
	in := s.Inputs
	f := Source{URIs: strings.Fields(in["uri"]), SHA256: in["expected-sha256"], SHA512: in["expected-sha512"]}
	if len(f.URIs) == 0 {
		return f, errors.New("fetch: no uri")
	}
	f.Name = nameOf(f.URIs[0])
	if f.Name == "" {
		return f, fmt.Errorf("fetch: uri %q names no file", f.URIs[0])
	}
	for _, address := range f.URIs {
		scheme, rest, _ := strings.Cut(address, ":")
		switch {
		case scheme == "http" || scheme == "https":
		case scheme == "debian" && strings.Count(rest, "/") == 1 && fs.ValidPath(rest):
		case scheme == "debian":
			return f, fmt.Errorf("fetch: uri %q is not debian:SOURCE/FILE", address)
		default:
			return f, fmt.Errorf("fetch: uri %q is none of http, https and debian\n  hint: files of this machine are served by a folder mirror of the workspace", address)
		}
	}
	if f.SHA256 == "" && f.SHA512 == "" {
		return f, fmt.Errorf("fetch: no digest for %s\n  hint: give expected-sha256", f.Name)
	}
	return f, f.check()
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
	return f.FetchEach(ctx, list)
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
	return f.FetchEach(ctx, list)
}

// FetchEach puts each of the list into the store.
func (f *Fetcher) FetchEach(ctx context.Context, list []Wanted) error {
	errs := make([]error, len(list))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, w := range list {
		g.Go(func() error {
			if w.Git != nil {
				_, _, errs[i] = f.FetchGit(ctx, *w.Git)
			} else {
				_, errs[i] = f.Fetch(ctx, *w.File)
			}
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
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
