package edit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/recipes"
)

// Options say what a recipe is bumped to.
type Options struct {
	// Version is the new version, without a revision; the recipe's own when empty.
	Version string
	// Epoch is the new epoch; when nil it is 0 for a new version, else one more.
	Epoch *uint64
	// Commit is what the git-checkout that moves with the version expects from then on,
	// or the first one where none moves. Nobody is asked for it.
	Commit string
	// Target is what variables are replaced for, but for its architecture.
	Target recipes.Target
}

// An Asker tells what addresses give.
type Asker interface {
	// File gives the digests of what the first of the addresses that answers gives.
	File(ctx context.Context, uris []string) (File, error)
	// Beside is File for a small file that says something of another.
	Beside(ctx context.Context, uris []string) (File, error)
	// Commit gives the commit that a ref is at, e.g. refs/tags/v1.2; of an annotated tag
	// the commit that it names.
	Commit(ctx context.Context, repository, ref string) (string, error)
}

// File is what an address gave.
type File struct {
	SHA256, SHA512 string // hexadecimal
	From           string // the address
	Vouched        string // who else says so; empty when nobody does
}

// Change is one value that was written anew.
type Change struct {
	Line     int    // in the new text
	What     string // e.g. expected-sha256
	Old, New string
	Source   string // what a digest is of
	Vouched  string // who vouches for it, besides the connection; empty when nobody does
}

// Bumped is what became of a recipe.
type Bumped struct {
	Text     []byte
	Name     string
	From, To apk.Version // with their revisions
	Changes  []Change
	// Notes are what a person should look at, as problems of severity note.
	Notes diag.Problems
}

// VersionError says what is wrong with the version that was asked for.
type VersionError struct {
	Version, Hint string
	Err           error
}

func (e *VersionError) Error() string {
	if e.Hint != "" {
		return fmt.Sprintf("%v\n  hint: %s", e.Err, e.Hint)
	}
	return e.Err.Error()
}

// Bump sets a recipe's version and epoch, and the digests and commits of those sources
// whose address changes with it. A source whose address stays keeps its digest. The
// mistakes of the recipe, before and after, are [diag.Problems].
func Bump(ctx context.Context, file string, source []byte, o Options, ask Asker) (*Bumped, error) {
	old, err := recipes.Read(file, source)
	if err != nil {
		return nil, err
	}
	b := &bump{ctx: ctx, file: file, o: o, ask: ask, files: map[string]File{}}
	text, err := b.version(old, source)
	if err != nil {
		return nil, err
	}
	middle, err := recipes.Read(file, text)
	if err != nil {
		return nil, err
	}
	was, err := b.outside(old)
	if err != nil {
		return nil, err
	}
	is, err := b.outside(middle)
	if err != nil {
		return nil, err
	}
	if len(was) != len(is) {
		return nil, diag.Problem{File: file, Text: "the steps that fetch depend on the version", Hint: "change this one by hand"}
	}
	if err := b.sources(middle, was, is); err != nil {
		return nil, err
	}
	if text, err = b.write(text); err != nil {
		return nil, err
	}
	if err := b.holds(text, is); err != nil {
		return nil, err
	}
	return b.result(old, text)
}

type bump struct {
	ctx     context.Context
	file    string
	o       Options
	ask     Asker
	files   map[string]File // by their addresses
	values  []value         // to be written
	changes []Change        // of version and epoch
	notes   diag.Problems
}

// value is what a place of the middle text becomes.
type value struct {
	at     yamlread.Place
	change Change
}

// version writes version and epoch.
func (b *bump) version(r *recipes.Recipe, source []byte) ([]byte, error) {
	pkg := &r.Package
	version := b.o.Version
	if version == "" {
		version = pkg.Version
	}
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	at := pkg.Here.Value("version")
	if strings.Contains(pkg.Version, "${{") && version != pkg.Version {
		return nil, at.Problem("set what it is made of", "the version is made of variables")
	}
	var splices []splice
	if version != pkg.Version {
		s, err := set(at, version)
		if err != nil {
			return nil, err
		}
		splices = append(splices, s)
		b.changes = append(b.changes, Change{Line: at.Line(), What: "version", Old: pkg.Version, New: version})
		if apk.Version(version).Compare(apk.Version(pkg.Version)) < 0 {
			p := at.Problem("what is installed stays, until it is asked for by version", "%s is older than %s: apk does not take it for an update", version, pkg.Version)
			p.Severity = diag.Note
			b.notes = append(b.notes, p)
		}
	}
	epoch := uint64(0)
	switch {
	case b.o.Epoch != nil:
		epoch = *b.o.Epoch
	case version == pkg.Version:
		epoch = pkg.Epoch + 1
	}
	if epoch != pkg.Epoch {
		var s splice
		var err error
		text := strconv.FormatUint(epoch, 10)
		line := pkg.Here.Value("epoch").Line()
		if pkg.Here.Has("epoch") {
			s, err = set(pkg.Here.Value("epoch"), text)
		} else {
			line = at.Line() + 1
			s, err = insertAfter(source, pkg.Here, "version", "epoch", text)
		}
		if err != nil {
			return nil, err
		}
		splices = append(splices, s)
		b.changes = append(b.changes, Change{Line: line, What: "epoch", Old: strconv.FormatUint(pkg.Epoch, 10), New: text})
	}
	return apply(source, splices), nil
}

func checkVersion(version string) error {
	v, err := apk.ParseVersion(version)
	if err != nil {
		e := &VersionError{Version: version, Err: err}
		if rest := strings.TrimPrefix(version, "v"); rest != version {
			if _, err := apk.ParseVersion(rest); err == nil {
				e.Hint = fmt.Sprintf("did you mean %s?", rest)
			}
		} else {
			e.Hint = "like 1.2.3, 1.2.3a, 1.2_rc1, 1.2_git20240131"
		}
		return e
	}
	if base := v.Base(); base != v {
		return &VersionError{Version: version, Err: fmt.Errorf("version %q has a revision", version), Hint: fmt.Sprintf("the revision is the epoch: %s --epoch %s", base, strings.TrimPrefix(string(v[len(base):]), "-r"))}
	}
	return nil
}

// task is a task that asks for something from outside, for all architectures.
type task struct {
	recipes.Outside
	differs bool              // its inputs depend on the architecture
	want    map[string]string // what its inputs have to be in the end
}

// outside lists the tasks for every architecture that the recipe is for.
func (b *bump) outside(r *recipes.Recipe) ([]task, error) {
	arches := []string{string(apk.ArchX86_64), string(apk.ArchAArch64)}
	if list := r.Package.TargetArchitecture; len(list) > 0 && !slices.Contains(list, "all") {
		arches = list
	}
	var tasks []task
	for i, name := range arches {
		arch, err := apk.ParseArch(name)
		if err != nil {
			continue // an architecture by a variable; others tell
		}
		target := b.o.Target
		target.Arch = arch
		list, err := recipes.OutsideOf(r, target)
		if err != nil {
			return nil, err
		}
		for j, o := range list {
			if i == 0 {
				tasks = append(tasks, task{Outside: o, want: maps.Clone(o.Inputs)})
			} else if j < len(tasks) && !maps.Equal(tasks[j].Inputs, o.Inputs) {
				tasks[j].differs = true
			}
		}
	}
	return tasks, nil
}

// where are the inputs that say where something comes from.
var where = []string{"uri", "repository", "tag", "branch"}

// besides are inputs that name small files about a source, and those that hold their digests.
var besides = []struct{ uri, sum string }{{"verify-uri", "verify-sha256"}, {"verify-checksums", "verify-checksums-sha256"}}

// sources asks for what has moved.
func (b *bump) sources(r *recipes.Recipe, was, is []task) error {
	moved := make([]bool, len(is))
	any := false
	for i := range is {
		for _, input := range where {
			moved[i] = moved[i] || was[i].Inputs[input] != is[i].Inputs[input]
		}
		any = any || moved[i]
	}
	given := -1
	if b.o.Commit != "" {
		if given = givenCommit(is, moved); given < 0 {
			return diag.Problem{File: b.file, Text: "no git-checkout expects a commit", Hint: "leave --expected-commit out"}
		}
		if err := b.digest(r, &is[given], "expected-commit", Change{New: b.o.Commit, Source: is[given].Inputs["repository"], Vouched: "you"}); err != nil {
			return err
		}
		any = true
	}
	for i := range is {
		if !moved[i] || i == given {
			continue
		}
		if is[i].differs {
			return is[i].Here.Problem("give each architecture a step of its own, with an if", "where it comes from depends on the architecture, and its digest does not")
		}
		if err := b.one(r, &is[i]); err != nil {
			return err
		}
	}
	if !any && b.o.Version != "" && len(b.changes) > 0 && b.changes[0].What == "version" {
		p := r.Package.Here.Value("version").Problem("write ${{package.version}} in the uri or the tag, or give --expected-commit", "no source's address has the version in it: nothing was fetched")
		p.Severity = diag.Note
		b.notes = append(b.notes, p)
	}
	return nil
}

// givenCommit is the git-checkout that --expected-commit is for, or -1.
func givenCommit(is []task, moved []bool) int {
	first := -1
	for i := range is {
		if is[i].With["expected-commit"] == "" {
			continue
		}
		if moved[i] {
			return i
		}
		if first < 0 {
			first = i
		}
	}
	return first
}

// one asks for one source and writes what is expected of it.
func (b *bump) one(r *recipes.Recipe, t *task) error {
	if repository := t.Inputs["repository"]; repository != "" {
		if t.With["expected-commit"] == "" {
			return nil
		}
		ref := "HEAD"
		switch {
		case t.Inputs["tag"] != "":
			ref = "refs/tags/" + t.Inputs["tag"]
		case t.Inputs["branch"] != "":
			ref = "refs/heads/" + t.Inputs["branch"]
		}
		commit, err := b.ask.Commit(b.ctx, repository, ref)
		if err != nil {
			return err
		}
		if t.With["cherry-picks"] != "" {
			p := t.Here.Value("with").Key("cherry-picks").Problem("", "the new version may have these commits already")
			p.Severity = diag.Note
			b.notes = append(b.notes, p)
		}
		return b.digest(r, t, "expected-commit", Change{New: commit, Source: repository + " " + ref})
	}
	uris := strings.Fields(t.Inputs["uri"])
	if t.With["expected-sha256"] == "" && t.With["expected-sha512"] == "" {
		return nil
	}
	key := strings.Join(uris, " ")
	f, known := b.files[key]
	if !known {
		var err error
		if f, err = b.ask.File(b.ctx, uris); err != nil {
			return err
		}
		b.files[key] = f
	}
	for _, d := range []struct{ input, sum string }{{"expected-sha256", f.SHA256}, {"expected-sha512", f.SHA512}} {
		if t.With[d.input] == "" {
			continue
		}
		if err := b.digest(r, t, d.input, Change{New: d.sum, Source: f.From, Vouched: f.Vouched}); err != nil {
			return err
		}
	}
	return b.besides(r, t, uris)
}

// besides asks for the signature and the checksums that lie beside a source that moved.
func (b *bump) besides(r *recipes.Recipe, t *task, uris []string) error {
	for _, side := range besides {
		if t.With[side.sum] == "" {
			continue
		}
		at := strings.Fields(t.Inputs[side.uri])
		if len(at) == 0 {
			// What fetch takes where a recipe does not say.
			of := uris
			if list := strings.Fields(t.Inputs["verify-checksums"]); len(list) > 0 {
				of = list
			}
			suffix := map[string]string{"pgp": ".asc", "minisign": ".minisig", "ssh": ".sig"}[t.Inputs["verify"]]
			for _, uri := range of {
				at = append(at, uri+suffix)
			}
		}
		f, err := b.ask.Beside(b.ctx, at)
		if err != nil {
			return err
		}
		if err := b.digest(r, t, side.sum, Change{New: f.SHA256, Source: f.From, Vouched: f.Vouched}); err != nil {
			return err
		}
	}
	return nil
}

var wholeVariable = regexp.MustCompile(`^\s*\$\{\{\s*(vars\.([A-Za-z0-9._-]+)|range\.value)\s*\}\}\s*$`)

// digest says what an input becomes: where it stands itself, or where the variable that
// it is gets its value.
func (b *bump) digest(r *recipes.Recipe, t *task, input string, c Change) error {
	at := t.Here.Value("with").Value(input)
	c.What, c.Old = input, t.Inputs[input]
	t.want[input] = c.New
	if text := t.With[input]; strings.Contains(text, "${{") {
		m := wholeVariable.FindStringSubmatch(text)
		switch {
		case m != nil && m[1] == "range.value" && t.Table != nil:
			at = t.Table.Here.Value("items").Value(t.Key)
		case m != nil && m[2] != "" && r.Here.Value("vars").Has(m[2]):
			at = r.Here.Value("vars").Value(m[2])
		default:
			return at.Problem("write it out", "%s is made of variables", input)
		}
	}
	for _, v := range b.values {
		if v.at == at {
			if v.change.New != c.New {
				return at.Problem("give each a value of its own", "two sources share it, and have %s and %s now", v.change.New, c.New)
			}
			return nil
		}
	}
	c.Line = at.Line()
	if c.Old != c.New {
		b.values = append(b.values, value{at, c})
	}
	return nil
}

// write puts the values into the text.
func (b *bump) write(text []byte) ([]byte, error) {
	var splices []splice
	for _, v := range b.values {
		s, err := set(v.at, v.change.New)
		if err != nil {
			return nil, err
		}
		splices = append(splices, s)
	}
	return apply(text, splices), nil
}

// holds reads the new text: it says what was asked for, and else what it said before.
func (b *bump) holds(text []byte, is []task) error {
	r, err := recipes.Read(b.file, text)
	if err != nil {
		return err
	}
	got, err := b.outside(r)
	if err != nil {
		return err
	}
	if len(got) != len(is) {
		return errors.New("internal error: a bump changed the steps of a recipe")
	}
	for i := range got {
		for _, input := range slices.Sorted(maps.Keys(got[i].Inputs)) {
			if value, want := got[i].Inputs[input], is[i].want[input]; value != want {
				return got[i].Here.Value("with").Value(input).Problem("give it a value of its own", "%s would become %q, and %q is right: another source shares its variable", input, value, want)
			}
		}
	}
	return nil
}

func (b *bump) result(old *recipes.Recipe, text []byte) (*Bumped, error) {
	r, err := recipes.Read(b.file, text)
	if err != nil {
		return nil, err
	}
	full := func(r *recipes.Recipe) apk.Version {
		return apk.Version(fmt.Sprintf("%s-r%d", r.Package.Version, r.Package.Epoch))
	}
	result := &Bumped{Text: text, Name: old.Package.Name, From: full(old), To: full(r), Changes: b.changes, Notes: b.notes}
	for _, v := range b.values {
		result.Changes = append(result.Changes, v.change)
	}
	slices.SortStableFunc(result.Changes, func(a, c Change) int { return a.Line - c.Line })
	return result, nil
}
