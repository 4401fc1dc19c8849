package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// unpack writes the layers of the one image of a layout into a folder, as a
// container engine does, without devices and owners.
func unpack(index v1.ImageIndex, dir string) (*v1.Config, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%d images in the layout, expected 1", len(manifest.Manifests))
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return nil, err
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			return nil, err
		}
		err = unpackLayer(root, content)
		if err := errors.Join(err, content.Close()); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	return &config.Config, nil
}

func unpackLayer(root *os.Root, content io.Reader) error {
	for members := tar.NewReader(content); ; {
		h, err := members.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "/"))
		if name == "." {
			continue
		}
		if err := unpackMember(root, name, h, members); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func unpackMember(root *os.Root, name string, h *tar.Header, content io.Reader) error {
	if h.Typeflag != tar.TypeDir {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		// A container's root may be read-only for its own user, never for who unpacks it.
		if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(strings.TrimPrefix(h.Linkname, "/"), name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, h.FileInfo().Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Chmod(h.FileInfo().Mode().Perm()), f.Close())
	case tar.TypeChar, tar.TypeBlock:
		return nil // the sandbox has devices of its own
	}
	return fmt.Errorf("a member of type %q", h.Typeflag)
}

// numericUser reads the image's user, which the composer writes as a number.
func numericUser(user string) (int, error) {
	if user == "" {
		return 0, nil
	}
	uid, _, _ := strings.Cut(user, ":")
	n, err := strconv.Atoi(uid)
	if err != nil {
		return 0, fmt.Errorf("the image's user %q is no number", user)
	}
	return n, nil
}
