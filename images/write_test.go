package images_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/images"
)

// TestLeftoversOfTheKilled removes what a writer that was killed left beside the
// target, however young it is, and nothing that a running one still fills.
func TestLeftoversOfTheKilled(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".web.spdx.json.tmp-1", ".web.spdx.json.tmp-2", ".other.tmp-3"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	running, err := os.Open(filepath.Join(dir, ".web.spdx.json.tmp-2"))
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	if err := unix.Flock(int(running.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	image := &images.Image{SBOM: []byte("{}")}
	if err := image.WriteSBOM(filepath.Join(dir, "web.spdx.json")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if want := []string{".other.tmp-3", ".web.spdx.json.tmp-2", "web.spdx.json"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
