package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/apk"
)

// WriteLayout writes the image as an OCI layout in the folder dir; see the function WriteLayout.
func (i *Image) WriteLayout(ctx context.Context, dir string) error { return WriteLayout(ctx, dir, i) }

// WriteLayout writes images, each of another architecture, as one OCI layout in the
// folder dir. A layout that is there is replaced in one step when the new one is
// complete; whoever stops the program in between finds the old one.
func WriteLayout(ctx context.Context, dir string, images ...*Image) error {
	err := replaceDir(dir, func(tmp string) error {
		l, err := layout.Write(tmp, empty.Index)
		if err != nil {
			return err
		}
		for _, image := range images {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			oci, err := image.stoppable(ctx)
			if err != nil {
				return err
			}
			arch := image.About.Arch
			platform := v1.Platform{OS: "linux", Architecture: arch.GoArch(), Variant: arch.Variant()}
			if err := l.AppendImage(oci, layout.WithPlatform(platform)); err != nil {
				return err
			}
		}
		return plainModes(tmp)
	})
	if err != nil {
		return fmt.Errorf("write image layout %s: %w", dir, err)
	}
	return nil
}

// stoppable is the image with layers of which nothing more is read when ctx ends. What is
// wrong with a layer names the packages in it.
func (i *Image) stoppable(ctx context.Context) (v1.Image, error) {
	oci, err := i.OCI()
	return &stoppableImage{oci, i, ctx}, err
}

type stoppableImage struct {
	v1.Image
	of  *Image
	ctx context.Context // of the one writing that this value is for
}

func (i *stoppableImage) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	for at, l := range layers {
		layers[at] = &stoppableLayer{l, i}
	}
	return layers, err
}

func (i *stoppableImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := i.Image.LayerByDigest(h)
	if err != nil || !slices.ContainsFunc(i.of.About.Layers, func(known Layer) bool { return known.Digest == h.String() }) {
		return l, err
	}
	return &stoppableLayer{l, i}, nil
}

type stoppableLayer struct {
	v1.Layer
	of *stoppableImage
}

func (l *stoppableLayer) Compressed() (io.ReadCloser, error) {
	if l.of.ctx.Err() != nil {
		return nil, context.Cause(l.of.ctx)
	}
	r, err := l.Layer.Compressed()
	if err != nil {
		return nil, l.named(err)
	}
	return &stoppableReader{r, l.of.ctx}, nil
}

// named says which layer an error is about.
func (l *stoppableLayer) named(err error) error {
	digest, digestErr := l.Digest()
	if digestErr != nil {
		return err
	}
	for _, known := range l.of.of.About.Layers {
		if known.Digest == digest.String() {
			return fmt.Errorf("layer of %s: %w", known.comment(), err)
		}
	}
	return err
}

type stoppableReader struct {
	io.ReadCloser
	ctx context.Context
}

func (r *stoppableReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.ReadCloser.Read(p)
}

// plainModes gives the files of a layout, which anybody may read, the same modes whatever the umask is.
func plainModes(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(name, 0o755)
		}
		return os.Chmod(name, 0o644)
	})
}

// WriteArchive writes the image as a file that docker load and podman load take,
// under a tag like nginx:latest.
func (i *Image) WriteArchive(ctx context.Context, file, tag string) error {
	ref, err := name.NewTag(tag, name.WithDefaultRegistry(""))
	if err != nil {
		return fmt.Errorf("tag %q: %w", tag, err)
	}
	oci, err := i.stoppable(ctx)
	if err != nil {
		return err
	}
	if err := replaceFile(file, func(f *os.File) error { return tarball.Write(ref, oci, f) }); err != nil {
		return fmt.Errorf("write image archive %s: %w", file, err)
	}
	return nil
}

// WriteSBOM writes the SPDX document of the image.
func (i *Image) WriteSBOM(file string) error {
	err := replaceFile(file, func(f *os.File) error {
		_, err := f.Write(i.SBOM)
		return err
	})
	if err != nil {
		return fmt.Errorf("write SBOM %s: %w", file, err)
	}
	return nil
}

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
