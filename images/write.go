package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// WriteLayout writes the image as an OCI layout in the folder dir; see the function WriteLayout.
func (i *Image) WriteLayout(ctx context.Context, dir string) error {
	return WriteLayout(ctx, dir, "", i)
}

// WriteLayout writes images, each of another architecture, as one OCI layout in the
// folder dir. Where there is one image, tag is its name in the layout; "" is none.
//
// A layout that is there is replaced in one step when the new one is complete; whoever
// stops the program in between finds the old one. One that holds these images already,
// and that nobody touched since it was written, is left as it is.
func WriteLayout(ctx context.Context, dir, tag string, images ...*Image) error {
	if err := writeLayout(ctx, dir, tag, images); err != nil {
		return fmt.Errorf("write image layout %s: %w", dir, err)
	}
	return nil
}

// layoutVersion is the file oci-layout (image specification, image-layout.md).
const layoutVersion = `{
    "imageLayoutVersion": "1.0.0"
}`

func writeLayout(ctx context.Context, dir, tag string, images []*Image) error {
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	for _, i := range images {
		d, err := i.descriptor()
		if err != nil {
			return err
		}
		if tag != "" && len(images) == 1 {
			d.Annotations = map[string]string{"org.opencontainers.image.ref.name": tag}
		}
		index.Manifests = append(index.Manifests, d)
	}
	return writeLayoutOf(ctx, images[0].st, dir, index, blobPieces(images))
}

// writeLayoutOf writes a layout of blobs, of which index names those that are manifests.
func writeLayoutOf(ctx context.Context, st *store.Store, dir string, index v1.IndexManifest, blobs []piece) error {
	text, err := json.MarshalIndent(index, "", "   ")
	if err != nil {
		return err
	}
	pieces := append(blobs, piece{name: "index.json", data: text}, piece{name: "oci-layout", data: []byte(layoutVersion)})
	o, err := newOutput(st, dir, contentOf("layout", string(text)))
	if err != nil {
		return err
	}
	if there, err := o.isThere(pieces); err != nil || there {
		return err
	}
	if err := replaceDir(dir, func(tmp string) error { return o.fill(ctx, tmp, pieces) }); err != nil {
		return err
	}
	names := make([]string, len(pieces))
	for i, p := range pieces {
		names[i] = p.name
	}
	o.remember(names...)
	return nil
}

// descriptor is the image as an index names it.
func (i *Image) descriptor() (v1.Descriptor, error) {
	digest, err := v1.NewHash(i.About.Digest)
	if err != nil {
		return v1.Descriptor{}, err
	}
	arch := i.About.Arch
	return v1.Descriptor{
		MediaType: types.OCIManifestSchema1, Size: int64(len(i.Manifest)), Digest: digest,
		Platform: &v1.Platform{OS: "linux", Architecture: arch.GoArch(), Variant: arch.Variant()},
	}, nil
}

// blobPath is where a blob lies in a layout.
func blobPath(digest string) string { return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:") }

// blobPieces are the blobs of a layout of images, each once, the layers first.
func blobPieces(images []*Image) []piece {
	var pieces []piece
	seen := map[string]bool{}
	add := func(digest string, p piece) {
		if p.name = blobPath(digest); !seen[p.name] {
			seen[p.name] = true
			pieces = append(pieces, p)
		}
	}
	for _, i := range images {
		for _, l := range i.About.Layers {
			add(l.Digest, piece{blob: store.Digest(l.Digest), size: l.Size, what: "layer of " + l.comment()})
		}
	}
	for _, i := range images {
		add(string(store.DigestOf(i.Config)), piece{data: i.Config})
		add(i.About.Digest, piece{data: i.Manifest})
	}
	return pieces
}

// WriteSBOM writes the SPDX document of the image.
func (i *Image) WriteSBOM(file string) error { return WriteDocument(file, i.SBOM) }

// FileName is how a file of the image is called in a folder of images: NAME.tar,
// and NAME-ARCH.tar where images of several architectures lie beside each other.
func (a *About) FileName(extension string, several bool) string {
	if several {
		return a.Name + "-" + string(a.Arch) + extension
	}
	return a.Name + extension
}

// ParseArchs reads the architectures of an image file; "all", and none, are those
// that tarn builds for.
func (s *Spec) ParseArchs() ([]apk.Arch, error) {
	if len(s.Archs) == 0 {
		return []apk.Arch{apk.ArchX86_64, apk.ArchAArch64}, nil
	}
	var archs []apk.Arch
	for _, text := range s.Archs {
		if text == "all" {
			return []apk.Arch{apk.ArchX86_64, apk.ArchAArch64}, nil
		}
		arch, err := apk.ParseArch(text)
		if err != nil {
			return nil, err
		}
		archs = append(archs, arch)
	}
	return archs, nil
}

// replaceFile writes a file beside its place, makes sure that it is on the disk, and
// renames it there.
func replaceFile(file string, write func(f *os.File) error) error {
	file, err := filepath.Abs(file) // so that an error says which disk it is
	if err != nil {
		return err
	}
	tmp, release, err := scratch(file)
	if err != nil {
		return err
	}
	defer release()
	f, err := os.OpenFile(filepath.Join(tmp, "file"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(0o644); err != nil { // whatever the umask is
		return err
	}
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// replaceDir makes a folder beside dir by fill, and puts it in dir's place in one step.
func replaceDir(dir string, fill func(tmp string) error) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	outer, release, err := scratch(dir)
	if err != nil {
		return err
	}
	defer release()
	tmp := filepath.Join(outer, "dir")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	switch {
	case err == nil:
		return nil // tmp is the old one now, and goes
	case errors.Is(err, unix.ENOENT):
		return os.Rename(tmp, dir)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		// A file system that cannot exchange: for a moment there is none.
		if err := os.Rename(dir, filepath.Join(outer, "old")); err != nil {
			return err
		}
		return os.Rename(tmp, dir)
	}
	return &os.LinkError{Op: "exchange", Old: tmp, New: dir, Err: err}
}

// scratch makes a folder beside target, in which what will take target's place is
// made. This process holds a lock on it until release removes it. Those that nobody
// holds were left by processes that were killed, and are removed first.
func scratch(target string) (dir string, release func(), err error) {
	parent, prefix := filepath.Dir(target), "."+filepath.Base(target)+".tmp-"
	sweep(parent, prefix)
	for {
		dir, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return "", nil, err
		}
		lock, err := lockDir(dir)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
				continue // another process swept it before it was locked
			}
			return "", nil, err
		}
		if !isAt(lock, dir) {
			lock.Close()
			continue
		}
		return dir, func() {
			_ = os.RemoveAll(dir)
			lock.Close()
		}, nil
	}
}

// lockDir holds a folder for as long as this process lives.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// isAt tells whether a path still names an open folder.
func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// sweep removes the folders that killed processes left beside a target.
func sweep(parent, prefix string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		left := filepath.Join(parent, e.Name())
		if lock, err := lockDir(left); err == nil {
			_ = os.RemoveAll(left) // what stays is in no one's way
			lock.Close()
		}
	}
}
