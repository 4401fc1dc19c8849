package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tarn-build/tarn/"

// goPackage is what go list tells of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
	Doc        string
}

func goList(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Doc", "./...")
	cmd.Dir = "../.."
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaints.String())
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// stages says which of the other top folders each may import. Within its own folder
// a package may import what it likes, but for pkg, where each stands alone or on others.
var stages = map[string][]string{
	"pkg":     {},
	"recipes": {"pkg"},
	"repo":    {"pkg"},
	"build":   {"pkg", "recipes", "repo"},
	"images":  {"pkg", "repo"},
	"cmd":     {"pkg", "recipes", "repo", "build", "images"},
}

// only lists the packages that may import what reaches out of the program.
var only = map[string][]string{
	// Tests of images ask services of theirs, on a sandbox's loopback; what ends in "test"
	// serves archives to tests, on loopback.
	"net/http": {"pkg/web", "build/source", "build/seed", "repo", "images/registry", "images/tests", "pkg/sandbox/service", "build/source/mirrortest", "pkg/debian/debiantest"},
	// Who gets bytes from outside: the client is shared, and whoever uses it checks them.
	module + "pkg/web": {"build/source", "build/seed", "repo", "images/registry"},
	// Whoever talks with registries does so through one package.
	"github.com/google/go-containerregistry/pkg/v1/remote": {"images/registry"},
	"os/exec": {"pkg/sandbox", "pkg/host"},
	// Who may open a sandbox that has a network: prefetching, and the exceptions that a
	// workspace names. What runs the steps of builds can't.
	module + "pkg/sandbox/online": {"pkg/sandbox", "build/source/prefetch", "cmd/tarn"},
}

// TestMapOfImports holds the sentences of the design on who may import whom.
func TestMapOfImports(t *testing.T) {
	for _, p := range goList(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		top, _, _ := strings.Cut(name, "/")
		allowed, known := stages[top]
		if !known {
			t.Errorf("%s stands in no stage", name)
			continue
		}
		for _, imported := range p.Imports {
			if other, inside := strings.CutPrefix(imported, module); inside {
				otherTop, _, _ := strings.Cut(other, "/")
				if otherTop != top && !slices.Contains(allowed, otherTop) {
					t.Errorf("%s imports %s: %s may import %s only", name, other, top, strings.Join(allowed, ", "))
				}
			}
			if who, restricted := only[imported]; restricted && !slices.ContainsFunc(who, func(w string) bool { return name == w || strings.HasPrefix(name, w+"/") }) {
				t.Errorf("%s imports %s, which only %s may", name, imported, strings.Join(who, ", "))
			}
		}
	}
}

// TestPackageComments holds that every package says what it knows.
func TestPackageComments(t *testing.T) {
	dusty := []string{"util", "common", "helpers", "types", "manager", "misc"}
	for _, p := range goList(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		if slices.Contains(dusty, path.Base(p.ImportPath)) {
			t.Errorf("%s bears a name that gathers dust", p.ImportPath)
		}
	}
}
