package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tarn-build/tarn/images/imagetest"
)

// TestSetsOfImages holds the images of this repository, composed of the packages that make
// demo built, to what every image must be: root file system, database, SPDX and CycloneDX
// speak of the same files and packages.
func TestSetsOfImages(t *testing.T) {
	if os.Getenv("TARN_REAL") == "" {
		t.Skip("what is in .out/packages may be of other recipes: TARN_REAL says that make demo was run before")
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(repository, "images", "core", "*.yaml"))
	if err != nil || len(files) < 9 {
		t.Fatalf("%d image files, %v", len(files), err)
	}
	t.Chdir(repository)
	to := t.TempDir()
	var out, complaints bytes.Buffer
	args := []string{"image", "build", "--no-lock", "--cache-dir", t.TempDir(), "--format", "oci", "--sbom-formats", "spdx,cyclonedx", "--output", to}
	if code := run(t.Context(), streams{strings.NewReader(""), &out, &complaints}, append(args, files...)); code != 0 {
		t.Fatalf("image build: exit status %d\n%s", code, complaints.String())
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			contents, spdx, cyclonedx, err := imagetest.ReadLayout(t.Context(), filepath.Join(to, name))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := imagetest.EqualSets(contents, spdx, cyclonedx); err != nil {
				t.Error(err)
			}
		})
	}
}

// equalSets is the command
//
//	equal-sets DIR
//
// which holds that the root file system of the layout DIR, the database in it, and the
// documents DIR.spdx.json and DIR.cdx.json speak of the same files and packages.
func equalSets(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: equal-sets DIR")
	}
	contents, spdx, cyclonedx, err := imagetest.ReadLayout(context.Background(), ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = imagetest.EqualSets(contents, spdx, cyclonedx)
	ts.Check(err)
}
