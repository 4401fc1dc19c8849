package repo_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/repo"
	"github.com/tarn-build/tarn/repo/storagetest"
)

// TestFolder holds that a folder keeps the promises of a storage.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	storagetest.TestWriting(t, func() repo.WritableStorage { return repo.Folder(dir) })
	var left []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if strings.HasPrefix(d.Name(), ".publish-") {
			left = append(left, path)
		}
		return err
	})
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestMemory holds the same of the storage with the manners of S3.
func TestMemory(t *testing.T) {
	m := new(storagetest.Memory)
	storagetest.TestWriting(t, func() repo.WritableStorage { return m })
}

// A link in the folder that leads out of it is not followed, for reading or writing.
func TestFolderLinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "x86_64")); err != nil {
		t.Fatal(err)
	}
	s := repo.Folder(dir)
	if _, err := s.Open(t.Context(), "x86_64/secret", ""); err == nil {
		t.Error("read behind a link")
	}
	if err := s.Put(t.Context(), "x86_64/new", strings.NewReader("x"), repo.Condition{}); err == nil {
		t.Error("wrote behind a link")
	}
	if err := s.Remove(t.Context(), "x86_64/secret"); err == nil {
		t.Error("removed behind a link")
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Errorf("outside: %v", entries)
	}
}

// TestWeb holds what is promised to readers of a server, of another's and of our own.
func TestWeb(t *testing.T) {
	dir := t.TempDir()
	content := map[string]string{"x86_64/APKINDEX.tar.gz": "an index", "x86_64/libstdc++-1-r0.apk": "a package", "keys.json": "{}"}
	for name, text := range content {
		if err := repo.Folder(dir).Put(t.Context(), name, strings.NewReader(text), repo.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, h := range map[string]http.Handler{"net/http": http.FileServer(http.Dir(dir)), "tarn serve": repo.Handler(dir)} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(h)
			defer server.Close()
			storagetest.TestReading(t, repo.Web(server.URL, client(server)), content)
		})
	}
}
