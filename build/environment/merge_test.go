package environment

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/store"
)

// More packages than an overlay takes: what is seen is the same, the files are there once
// on a file system that can link, and the second time nothing is made.
func TestMorePackagesThanLayers(t *testing.T) {
	defer func(was int) { maxLayers = was }(maxLayers)
	maxLayers = 20
	const n = 40
	packages := [][]byte{apktest.Package(t, "layout", "1-r0", "usr/bin/", "", "usr/sbin", "-> bin", "tmp/", "")}
	want := map[string]string{"usr": "folder", "usr/bin": "folder", "usr/sbin": "-> bin", "tmp": "folder"}
	for i := range n {
		name := fmt.Sprintf("p%03d", i)
		files := []string{"usr/bin/" + name, name}
		want["usr/bin/"+name] = name
		if i >= n-3 {
			// Below in the list, and through a link of a package above.
			files = append(files, "usr/sbin/s"+name, "S")
			want["usr/bin/s"+name] = "S"
		}
		packages = append(packages, apktest.Package(t, name, "1-r0", files...))
	}
	lock := lockOf(t, "", packages...)
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	env, err := Assemble(t.Context(), st, lock, Options{Arch: apk.ArchX86_64})
	if err != nil {
		t.Fatal(err)
	}
	if len(env.Layers) > maxLayers {
		t.Errorf("%d layers, want at most %d", len(env.Layers), maxLayers)
	}
	if diff := cmp.Diff(want, seen(t, env)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	last := env.Layers[len(env.Layers)-1]
	before, err := os.Stat(last)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(last, "usr/bin", fmt.Sprintf("p%03d", n-1))); err != nil {
		t.Errorf("the lowest layer is not the merged one: %v", err)
	}
	again, err := Assemble(t.Context(), st, lock, Options{Arch: apk.ArchX86_64})
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(last)
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(env.Layers, again.Layers) || !os.SameFile(before, after) {
		t.Error("the second time it was made again")
	}
}
