package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// pageRow is a row of the table of images in images/README.md: name, words, figures.
var pageRow = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([^|]*) \\|( [^|]*\\|){4}$")

// TestImagesPage holds the page of this repository's images against the images themselves,
// composed of the packages that make demo built. UPDATE_GOLDEN=1 writes its figures anew.
func TestImagesPage(t *testing.T) {
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(repository, "images", "core", "*.yaml"))
	if err != nil || len(files) < 9 {
		t.Fatalf("%d image files, %v", len(files), err)
	}
	page := filepath.Join(repository, "images", "README.md")
	before, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, row := range pageRow.FindAllSubmatch(before, -1) {
		told[string(row[1])] = true
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".yaml"); !told[name] {
			t.Errorf("images/README.md has no row for %s", name)
		}
	}
	if len(told) != len(files) {
		t.Errorf("images/README.md has %d rows, and there are %d images", len(told), len(files))
	}
	if os.Getenv("TARN_REAL") == "" && os.Getenv("UPDATE_GOLDEN") == "" {
		t.Skip("what is in .out/packages may be of other recipes: TARN_REAL says that make demo was run before")
	}
	t.Chdir(repository)
	to := t.TempDir()
	var out, complaints bytes.Buffer
	if code := run(t.Context(), streams{strings.NewReader(""), &out, &complaints}, append([]string{"image", "build", "--json", "--no-lock", "--cache-dir", t.TempDir(), "--output", to}, files...)); code != 0 {
		t.Fatalf("image build: exit status %d\n%s", code, complaints.String())
	}
	var all []imageRow
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	figures := map[string]string{}
	for _, row := range all {
		figures[row.Image] = fmt.Sprintf(" %d | %d | %s | %s |", row.Packages, row.Files, megabytes(row.Size), megabytes(compressed(t, row.Layout)))
	}
	after := pageRow.ReplaceAllStringFunc(string(before), func(row string) string {
		part := pageRow.FindStringSubmatch(row)
		return "| `" + part[1] + "` | " + part[2] + " |" + figures[part[1]]
	})
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(page, []byte(after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(before), after); diff != "" && os.Getenv("UPDATE_GOLDEN") == "" {
		t.Errorf("UPDATE_GOLDEN=1 mends it; -page +images:\n%s", diff)
	}
}

// compressed is what the layers of a layout's one image have together.
func compressed(t *testing.T, dir string) int64 {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil || len(list.Manifests) != 1 {
		t.Fatalf("%s: %v, %v", dir, list, err)
	}
	image, err := index.Image(list.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, l := range manifest.Layers {
		sum += l.Size
	}
	return sum
}

// megabytes are written with one digit, as registries do.
func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + " MB" }
