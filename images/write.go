package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/renameio/v2"
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
			oci, err := image.OCI()
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
func (i *Image) WriteArchive(file, tag string) error {
	ref, err := name.NewTag(tag, name.WithDefaultRegistry(""))
	if err != nil {
		return fmt.Errorf("tag %q: %w", tag, err)
	}
	oci, err := i.OCI()
	if err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(file, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	defer f.Cleanup()
	if err := tarball.Write(ref, oci, f); err != nil {
		return fmt.Errorf("write image archive %s: %w", file, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	return nil
}

// WriteSBOM writes the SPDX document of the image.
func (i *Image) WriteSBOM(file string) error {
	if err := renameio.WriteFile(file, i.SBOM, 0o644); err != nil {
		return fmt.Errorf("write SBOM: %w", err)
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

// replaceDir makes a folder beside dir by fill, and puts it in dir's place in one step.
func replaceDir(dir string, fill func(tmp string) error) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	parent, prefix := filepath.Dir(dir), "."+filepath.Base(dir)+".tmp-"
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	sweep(parent, prefix)
	tmp, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	lock, err := lockDir(tmp)
	if err != nil {
		return err
	}
	defer lock.Close()
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
		old := tmp + "-old"
		if err := os.Rename(dir, old); err != nil {
			return err
		}
		defer os.RemoveAll(old)
		return os.Rename(tmp, dir)
	}
	return &os.LinkError{Op: "exchange", Old: tmp, New: dir, Err: err}
}

// lockDir holds a folder for as long as this process lives: a folder that nobody
// holds was left by a process that was killed.
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

// sweep removes the temporary folders that killed processes left beside dir.
func sweep(parent, prefix string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		// A young one may not be locked yet.
		if info, err := e.Info(); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		left := filepath.Join(parent, e.Name())
		if lock, err := lockDir(left); err == nil {
			_ = os.RemoveAll(left) // what stays is in no one's way
			lock.Close()
		}
	}
}
