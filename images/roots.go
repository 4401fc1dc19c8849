package images

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tarn-build/tarn/pkg/rootfs"
)

// roots are archives of an image's whole root file system, which are made where they
// are asked for.
type roots struct {
	Tar, CPIO *madeLayer
	// Lost are the paths whose extended attributes are not in the cpio archive.
	Lost        []string
	Compression string
}

// hasRoots tells whether the image has the archives that are asked for.
func (i *Image) hasRoots(o Options) bool {
	return (i.roots.Tar != nil || !o.RootFS) && (i.roots.CPIO != nil || !o.CPIO)
}

// roots makes the archives of the root file system. Their order is that of paths and
// their bytes follow from the tree, however it was put into layers.
func (c *composer) roots(ctx context.Context, i *Image) error {
	if !c.o.RootFS && !c.o.CPIO {
		return nil
	}
	if err := c.o.Base.unpack(ctx); err != nil {
		return err
	}
	a := c.tree.Archive(rootfs.ArchiveOptions{})
	how := c.spec.Layering.compression()
	i.roots.Compression = how.name
	if c.o.RootFS {
		made, err := makeLayer(ctx, c.o.Store, a, how)
		if err != nil {
			return err
		}
		i.roots.Tar = &made
	}
	if c.o.CPIO {
		made, err := keep(ctx, c.o.Store, how, a.Size(), a.WriteCPIO)
		if err != nil {
			return fmt.Errorf("write cpio archive: %w", err)
		}
		i.roots.CPIO, i.roots.Lost = &made, a.Attributed()
	}
	return nil
}

// RootSuffix is how the file of an archive of the root file system ends, e.g. ".rootfs.tar.gz".
func (i *Image) RootSuffix(kind string) string {
	suffix := ""
	for _, c := range compressions {
		if c.name == i.roots.Compression {
			suffix = c.suffix
		}
	}
	if kind == "cpio" {
		return ".cpio" + suffix
	}
	return ".rootfs.tar" + suffix
}

// WriteRootFS writes the root file system as a tar archive, compressed as the layers
// are. It must have been asked for when the image was composed.
func (i *Image) WriteRootFS(ctx context.Context, file string) error {
	return i.writeRoot(ctx, file, i.roots.Tar, "root file system")
}

// WriteCPIO writes the root file system as a cpio archive (see rootfs.Archive.WriteCPIO),
// compressed as the layers are, and gives the paths whose extended attributes are not in
// it. It must have been asked for when the image was composed.
func (i *Image) WriteCPIO(ctx context.Context, file string) ([]string, error) {
	return i.roots.Lost, i.writeRoot(ctx, file, i.roots.CPIO, "cpio archive")
}

func (i *Image) writeRoot(ctx context.Context, file string, made *madeLayer, what string) error {
	if made == nil {
		return errors.New("internal error: " + what + " was not asked for")
	}
	err := func() error {
		o, err := newOutput(i.st, file, contentOf("root", made.Blob))
		if err != nil {
			return err
		}
		root := piece{blob: made.Blob, size: made.Size, what: what}
		if there, err := o.isThere([]piece{root}); err != nil || there {
			return err
		}
		err = replaceFile(file, func(f *os.File) error { return o.copy(ctx, f, root) })
		if err == nil {
			o.remember("")
		}
		return err
	}()
	if err != nil {
		return fmt.Errorf("write %s %s: %w", what, file, err)
	}
	return nil
}
