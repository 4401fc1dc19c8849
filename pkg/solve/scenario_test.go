package solve

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/tarn-build/tarn/pkg/apk"
)

// scenario is one case of testdata: packages, a world, and what comes of them.
//
//	-- packages --
//	nginx 1.26-r0
//		depends so:libssl.so.3 !apache
//		provides cmd:nginx=1.26-r0
//	-- world --
//	nginx  # images/core/web.yaml:4:5
//	-- solution --
//	nginx-1.26-r0
type scenario struct {
	packages []*Package
	world    []Requirement
	options  Options
}

func readScenario(t *testing.T, archive *txtar.Archive) scenario {
	t.Helper()
	var s scenario
	for _, f := range archive.Files {
		for line := range strings.Lines(string(f.Data)) {
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			switch f.Name {
			case "packages":
				if !strings.HasPrefix(line, "\t") {
					s.packages = append(s.packages, &Package{Entry: &apk.Entry{Info: apk.Info{Name: words[0], Version: apk.Version(words[1])}}})
					continue
				}
				describePackage(t, s.packages[len(s.packages)-1], words[0], words[1:])
			case "world":
				r, err := ParseRequirement(words[0])
				if err != nil {
					t.Fatal(err)
				}
				if len(words) == 3 {
					r.From = words[2]
				}
				s.world = append(s.world, r)
			case "options":
				switch words[0] {
				case "any-revision":
					s.options.AnyRevision = true
				case "arch":
					s.options.Arch = apk.Arch(words[1])
				case "upgrade":
					s.options.Upgrade = true
				case "available":
					s.options.Available = true
				case "latest":
					s.options.Latest = true
				default:
					t.Fatalf("unknown option %q", words[0])
				}
			}
		}
	}
	return s
}

func describePackage(t *testing.T, p *Package, key string, values []string) {
	t.Helper()
	dependencies := func() (list []apk.Dependency) {
		for _, value := range values {
			d, err := apk.ParseDependency(value)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, d)
		}
		return list
	}
	number := func() int {
		n, err := strconv.Atoi(values[0])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	switch key {
	case "depends":
		p.Depends = dependencies()
	case "provides":
		p.Provides = dependencies()
	case "install_if":
		p.InstallIf = dependencies()
	case "replaces":
		p.Replaces = dependencies()
	case "priority":
		p.ProviderPriority = int64(number())
	case "rank":
		p.Rank = number()
	case "tag":
		p.Tag = values[0]
	case "arch":
		p.Arch = apk.Arch(values[0])
	case "installed":
		p.Installed = true
	case "gone":
		p.Installed, p.Gone = true, true
	case "malformed":
		p.Malformed = strings.Join(values, " ")
	case "order":
		p.Order = number()
	case "from":
		p.From = values[0]
	default:
		t.Fatalf("unknown key %q", key)
	}
}

// TestScenarios runs the cases of testdata. UPDATE_GOLDEN=1 writes the errors
// anew; solutions are written by hand.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 120 {
		t.Fatalf("%d cases (%v), want at least 120", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := readScenario(t, archive)
			got := txtar.File{Name: "solution"}
			packages, err := Solve(NewUniverse(s.packages), s.world, s.options)
			for _, p := range packages {
				got.Data = append(got.Data, p.String()+"\n"...)
			}
			if err != nil {
				var conflict *Conflict
				var ambiguous *Ambiguous
				if !errors.As(err, &conflict) && !errors.As(err, &ambiguous) {
					t.Fatalf("an error of another kind: %v", err)
				}
				got = txtar.File{Name: "error", Data: []byte(err.Error() + "\n")}
			}
			want := archive.Files[len(archive.Files)-1]
			if want.Name == "error" && got.Name == "error" && os.Getenv("UPDATE_GOLDEN") != "" {
				archive.Files[len(archive.Files)-1] = got
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got.Name != want.Name {
				t.Fatalf("got %s %s, want %s %s", got.Name, got.Data, want.Name, want.Data)
			}
			if diff := cmp.Diff(string(want.Data), string(got.Data)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			slices.Reverse(s.packages)
			slices.Reverse(s.world)
			again, err2 := Solve(NewUniverse(s.packages), s.world, s.options)
			if !slices.Equal(again, packages) || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
				t.Errorf("with the input reversed: %v %v, before: %v %v", again, err2, packages, err)
			}
		})
	}
}
