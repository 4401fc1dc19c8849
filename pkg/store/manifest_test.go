package store

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestManifestReadsWhatItWrote(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{"plain": "1", "odd \" \\ \n name \xff": "2", "empty": ""} {
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("to \"\n\xfe", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	want, err := seal(context.Background(), NewHash("x").Sum(), root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeManifest(want.encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(manifest{}, node{})); diff != "" {
		t.Error(diff)
	}
}

// TestManifestAfterAReboot changes a file's bytes without a trace in its times, as
// a power cut may, and then the machine starts again.
func TestManifestAfterAReboot(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "file")
	if err := os.WriteFile(path, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := seal(context.Background(), NewHash("x").Sum(), root)
	if err != nil {
		t.Fatal(err)
	}
	m.nodes[1].Digest = DigestOf([]byte("beyond")) // what it would have been
	if _, err := m.compare(context.Background(), root, false); err != nil {
		t.Fatalf("an untouched file was hashed: %v", err)
	}
	m.boot = "another"
	if _, err := m.compare(context.Background(), root, false); err == nil || err.Error() != "file has other bytes" {
		t.Errorf("after a reboot: %v", err)
	}
	m.nodes[1].Digest = DigestOf([]byte("before"))
	changed, err := m.compare(context.Background(), root, false)
	if err != nil || !changed || m.boot != bootID() {
		t.Errorf("a right tree after a reboot: %v, %v, boot %q", changed, err, m.boot)
	}
}

// FuzzDecodeManifest gives the decoder lines that hold their checksum: what it
// takes, it writes again so that it reads the same.
func FuzzDecodeManifest(f *testing.F) {
	f.Add("action x\nboot y\ndisk 5\nf 644 0 0 5 1 2 3 - \"a\" \"\"\n")
	f.Add("action x\nboot y\ndisk 5\nl 777 0 0 5 1 2 3 - \"a\\n\" \"b\"\n")
	f.Add("action \nboot \ndisk \n\n")
	f.Fuzz(func(t *testing.T, body string) {
		m, err := decodeManifest([]byte(manifestHead + DigestOf([]byte(body)).Hex() + "\n" + body))
		if err != nil {
			return
		}
		again, err := decodeManifest(m.encode())
		if err != nil {
			t.Fatalf("%q: %v", m.encode(), err)
		}
		if diff := cmp.Diff(m, again, cmp.AllowUnexported(manifest{}, node{})); diff != "" {
			t.Error(diff)
		}
	})
}
