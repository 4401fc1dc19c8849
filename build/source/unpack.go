package source

import (
	"context"
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

// Place puts a file of the store at a path of root, with mode 0644 and the time.
func (f *Fetcher) Place(_ context.Context, digest store.Digest, root *os.Root, name string, modTime time.Time) error {
	if err := f.place(digest, root, name, 0o644); err != nil {
		return err
	}
	return root.Chtimes(name, modTime, modTime)
}
