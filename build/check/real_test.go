package check_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/build/check"
	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/pkg/diag"
)

// What is found in packages that other people made is frozen, every rule on. UPDATE_GOLDEN=1
// writes it anew; read the difference.
func TestRealPackages(t *testing.T) {
	dir := os.Getenv("TARN_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	files, err := filepath.Glob(filepath.Join(dir, "vectors", "*.apk"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(dir, "vectors", "*", "*.apk"))
	if err != nil {
		t.Fatal(err)
	}
	if files = append(files, more...); len(files) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the packages are absent in %s", dir)
		}
		t.Skipf("the packages are absent in %s (set TARN_SHARED)", dir)
	}
	var b strings.Builder
	for _, file := range files {
		name, err := filepath.Rel(dir, file)
		if err != nil {
			t.Fatal(err)
		}
		found, err := lintFile(t, file)
		if err != nil {
			fmt.Fprintf(&b, "%s: refused\n", name)
			continue
		}
		fmt.Fprintf(&b, "%s: %d findings\n", name, len(found))
		for _, p := range found {
			p.File, p.Hint = "", ""
			fmt.Fprintf(&b, "  %s\n", p.Error())
		}
	}
	golden := filepath.Join("testdata", "vectors.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func lintFile(t *testing.T, file string) (diag.Problems, error) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := environment.ExtractWithModes(context.Background(), root, f)
	if err != nil {
		return nil, err
	}
	found, err := check.Run(check.Package{Name: info.Name, Arch: info.Arch, Files: root.FS()})
	if err != nil {
		t.Fatal(err)
	}
	return check.Judge(found, file, diag.Policy{Warn: []string{"documentation", "empty"}}, nil), nil
}
