package source

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/tarn-build/tarn/pkg/store"
)

// Unpack unpacks an archive of the store into the folder dir of root, dropping the
// first elements of its names. Every file, folder and link gets the time: what
// autotools makes depends on which file is newer. Its bytes are checked before.
func (f *Fetcher) Unpack(ctx context.Context, digest store.Digest, root *os.Root, dir string, strip int, modTime time.Time) error {
	blob, err := f.Store.Open(digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	return archive.Extract(ctx, root, dir, string(digest), blob, archive.Options{Strip: strip, ModTime: modTime})
}

// Inner puts an archive that lies in an archive of the store, at a path, into the store.
// What was unpacked once for it is remembered.
func (f *Fetcher) Inner(ctx context.Context, outer store.Digest, name string) (store.Digest, error) {
	h := store.NewHash("archive in an archive")
	h.Line("outer", outer)
	h.Line("path", name)
	action := h.Sum()
	var d store.Digest
	if found, err := f.Store.Recall(action, &d); err == nil && found && f.Store.Has(d) {
		return d, nil
	}
	dir, release, err := f.Store.TempDir("nested")
	if err != nil {
		return "", err
	}
	defer release()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	blob, err := f.Store.Open(outer)
	if err != nil {
		return "", err
	}
	defer blob.Close()
	if err := archive.Extract(ctx, root, ".", string(outer), blob, archive.Options{Only: []string{name}}); err != nil {
		return "", err
	}
	// A symbolic link of the archive's is not followed.
	if info, err := root.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("nested: %q is no file of the archive", name)
	}
	inner, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer inner.Close()
	if d, _, err = f.Store.Put(inner); err != nil {
		return "", err
	}
	return d, f.Store.Remember(action, d)
}

// Place puts a file of the store at a path of root, with mode 0644 and the time.
func (f *Fetcher) Place(_ context.Context, digest store.Digest, root *os.Root, name string, modTime time.Time) error {
	if err := f.place(digest, root, name, 0o644); err != nil {
		return err
	}
	return root.Chtimes(name, modTime, modTime)
}
