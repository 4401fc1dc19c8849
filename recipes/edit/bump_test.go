package edit_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/recipes/edit"
)

// addresses answers with digests of the addresses themselves.
type addresses struct{ asked []string }

func (a *addresses) Beside(ctx context.Context, uris []string) (edit.File, error) {
	return a.File(ctx, uris)
}

func (a *addresses) File(_ context.Context, uris []string) (edit.File, error) {
	a.asked = append(a.asked, uris[0])
	if strings.Contains(uris[0], "gone") {
		return edit.File{}, errors.New("gone")
	}
	return edit.File{SHA256: sum256(uris[0]), SHA512: fmt.Sprintf("%x", sha512.Sum512([]byte(uris[0]))), From: uris[0]}, nil
}

func (a *addresses) Commit(_ context.Context, repository, ref string) (string, error) {
	a.asked = append(a.asked, repository+" "+ref)
	return sum1(repository, ref), nil
}

func sum256(s string) string       { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
func sum1(repo, ref string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(repo+" "+ref))) }

// TestBump runs testdata/bump.txtar: NAME.yaml is bumped to the version after "to" in the
// line after its name, and NAME.diff tells what became of it, what was asked, and what
// was said. UPDATE_GOLDEN=1 writes the answers anew.
func TestBump(t *testing.T) {
	file := filepath.Join("testdata", "bump.txtar")
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range archive.Files {
		name, is := strings.CutSuffix(archive.Files[i].Name, ".yaml")
		if !is || i+1 >= len(archive.Files) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			source := archive.Files[i].Data
			first, _, _ := strings.Cut(string(source), "\n")
			o := edit.Options{}
			for word := range strings.FieldsSeq(strings.TrimPrefix(first, "#")) {
				switch key, value, _ := strings.Cut(word, "="); key {
				case "to":
					o.Version = value
				case "epoch":
					o.Epoch = new(uint64)
					fmt.Sscan(value, o.Epoch)
				case "commit":
					o.Commit = strings.Repeat(value, 40)
				}
			}
			ask := &addresses{}
			var got strings.Builder
			b, err := edit.Bump(t.Context(), name+".yaml", source, o, ask)
			if err != nil {
				fmt.Fprintf(&got, "%v\n", err)
			} else {
				fmt.Fprintf(&got, "%s: %s -> %s\n%s", b.Name, b.From, b.To, diff.Diff("old", source, "new", b.Text))
				for _, note := range b.Notes {
					fmt.Fprintln(&got, note.Error())
				}
			}
			for _, asked := range ask.asked {
				fmt.Fprintf(&got, "asked %s\n", asked)
			}
			want := &archive.Files[i+1]
			if os.Getenv("UPDATE_GOLDEN") != "" {
				want.Data = []byte(got.String())
			}
			if diff := cmp.Diff(string(want.Data), got.String()); diff != "" || want.Name != name+".diff" {
				t.Errorf("%s: -want +got:\n%s", want.Name, diff)
			}
		})
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBumpCorpus bumps every recipe of others and holds the result against what recipes.Expand
// makes of it: sources that moved have the digest of their new address, those that stayed
// the one they had, and no line but those of versions, epochs and digests changed.
func TestBumpCorpus(t *testing.T) {
	files := corpus(t)
	below, err := fs.Sub(files, "wolfi-open/pipelines")
	if err != nil {
		t.Fatal(err)
	}
	pipelines := recipes.NewPipelines(recipes.Dir{Path: "pipelines", FS: below})
	names, err := fs.Glob(files, "wolfi-open/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var bumped, moved, stayed, refused int
	for _, name := range names {
		source := files[name].Data
		old, err := recipes.Read(name, source)
		if err != nil {
			t.Fatal(err)
		}
		version := nextVersion(old.Package.Version)
		b, err := edit.Bump(t.Context(), name, source, edit.Options{Version: version}, &addresses{})
		if err != nil {
			// What can't be written is said, and no half of it is done.
			if refused++; !strings.Contains(err.Error(), "made of variables") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		bumped++
		lines := map[int]bool{}
		for _, c := range b.Changes {
			lines[c.Line] = true
		}
		before, after := strings.Split(string(source), "\n"), strings.Split(string(b.Text), "\n")
		if len(before) != len(after) {
			t.Errorf("%s: %d lines became %d", name, len(before), len(after))
			continue
		}
		for i := range before {
			if before[i] == after[i] {
				continue
			}
			if !lines[i+1] {
				t.Errorf("%s:%d changed, and nothing says so: %q -> %q", name, i+1, before[i], after[i])
			}
			if key, _, found := strings.Cut(before[i], ":"); !found || !strings.HasPrefix(after[i], key+":") {
				t.Errorf("%s:%d: more than a value changed: %q -> %q", name, i+1, before[i], after[i])
			}
		}
		for _, arch := range []apk.Arch{apk.ArchX86_64, apk.ArchAArch64} {
			if arch != apk.ArchX86_64 && !strings.Contains(string(source), "build.arch") {
				continue
			}
			was, is := steps(t, old, arch, pipelines), steps(t, read(t, name, b.Text), arch, pipelines)
			if len(was) != len(is) {
				t.Errorf("%s: %d steps became %d", name, len(was), len(is))
				continue
			}
			for i := range is {
				w, n := was[i].Inputs, is[i].Inputs
				want := maps.Clone(n)
				switch {
				case n["uri"] != w["uri"]:
					if moved++; want["expected-sha256"] != "" {
						want["expected-sha256"] = sum256(n["uri"])
					}
				case n["tag"] != w["tag"] && n["expected-commit"] != "":
					moved++
					want["expected-commit"] = sum1(n["repository"], "refs/tags/"+n["tag"])
				case n["branch"] != w["branch"] && n["expected-commit"] != "":
					moved++
					want["expected-commit"] = sum1(n["repository"], "refs/heads/"+n["branch"])
				default:
					stayed++
					for _, input := range []string{"expected-sha256", "expected-sha512", "expected-commit"} {
						if _, given := n[input]; given {
							want[input] = w[input]
						}
					}
				}
				if diff := cmp.Diff(want, n); diff != "" {
					t.Errorf("%s: line %d: -want +got:\n%s", name, is[i].Line, diff)
				}
			}
		}
		if r := read(t, name, b.Text); r.Package.Version != version || r.Package.Epoch != 0 {
			t.Errorf("%s: became %s-r%d, want %s-r0", name, r.Package.Version, r.Package.Epoch, version)
		}

		// Once more, of the same version: the epoch alone.
		again, err := edit.Bump(t.Context(), name, b.Text, edit.Options{}, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if len(again.Changes) != 1 || again.Changes[0].What != "epoch" || again.To != apk.Version(version+"-r1") {
			t.Errorf("%s: of the same version: %+v", name, again.Changes)
		}
	}
	t.Logf("%d recipes bumped, %d refused; %d sources moved, %d stayed", bumped, refused, moved, stayed)
	if bumped < 1690 || moved < 1600 || stayed < 100 {
		t.Errorf("%d recipes bumped, %d sources moved, %d stayed: want nearly all of 1702, and both kinds", bumped, moved, stayed)
	}
}

// nextVersion counts the last number of a version up.
func nextVersion(version string) string {
	end := strings.LastIndexAny(version, "0123456789") + 1
	start := end
	for start > 0 && version[start-1] >= '0' && version[start-1] <= '9' {
		start--
	}
	var n uint64
	fmt.Sscan(version[start:end], &n)
	return fmt.Sprintf("%s%d%s", version[:start], n+1, version[end:])
}

// steps are those that fetch, of builds and tests.
func steps(t *testing.T, r *recipes.Recipe, arch apk.Arch, pipelines *recipes.Pipelines) (list []recipes.Step) {
	t.Helper()
	s, err := recipes.Expand(r, recipes.Target{Arch: arch}, pipelines)
	if errors.Is(err, recipes.ErrOtherArch) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	take := func(some []recipes.Step) {
		for _, step := range some {
			if step.Native == "fetch" || step.Native == "git-checkout" {
				list = append(list, step)
			}
		}
	}
	for _, p := range s.Packages {
		take(p.Steps)
		if p.Test != nil {
			take(p.Test.Steps)
		}
	}
	return list
}

func read(t *testing.T, name string, text []byte) *recipes.Recipe {
	t.Helper()
	r, err := recipes.Read(name, text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// corpus unpacks other people's recipes.
func corpus(t *testing.T) fstest.MapFS {
	dir := os.Getenv("TARN_SHARED")
	if dir == "" {
		dir = filepath.FromSlash("../../../shared")
	}
	f, err := os.Open(filepath.Join(dir, "corpus", "recipes.tar.gz"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the corpus is absent: %v", err)
		}
		t.Skipf("the corpus is absent: %v (set TARN_SHARED)", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[path.Clean(h.Name)] = &fstest.MapFile{Data: data}
	}
}

// FuzzBump: whatever the text, a bump that works gives a recipe of the new version, and
// one that does not gives an error; no crash.
func FuzzBump(f *testing.F) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "bump.txtar"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		if strings.HasSuffix(file.Name, ".yaml") {
			f.Add(file.Data, "1.2.3")
		}
	}
	f.Fuzz(func(t *testing.T, source []byte, version string) {
		b, err := edit.Bump(t.Context(), "a.yaml", source, edit.Options{Version: version}, &addresses{})
		if err != nil {
			return
		}
		r, err := recipes.Read("a.yaml", b.Text)
		if err != nil {
			t.Fatalf("%v\n%s", err, b.Text)
		}
		if version != "" && r.Package.Version != version {
			t.Errorf("version is %q, want %q\n%s", r.Package.Version, version, b.Text)
		}
	})
}
