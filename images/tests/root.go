package tests

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// rootVersion is raised when layers are unpacked in another way.
const rootVersion = 1

// Limits of one layer.
const (
	maxBytes   = 32 << 30
	maxMembers = 2_000_000
)

// Root is an image that is unpacked.
type Root struct {
	Digest string // of the image's manifest
	Config v1.Config
	// Layers are folders of the store, the topmost first.
	Layers []string
	// Tree is what the layers say that there is.
	Tree *rootfs.Tree
	// owned says that files on the disk belong to whom the layers say: only root can
	// give files away. Else all belong to whoever unpacked them.
	owned bool
}

// Open unpacks an image's layers into the store, those that are not there yet.
func Open(ctx context.Context, st *store.Store, image v1.Image) (*Root, error) {
	digest, err := image.Digest()
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	r := &Root{Digest: digest.String(), Config: config.Config, Layers: make([]string, len(layers)), owned: os.Geteuid() == 0}
	lists := make([][]member, len(layers))
	jobs, ctx := errgroup.WithContext(ctx)
	jobs.SetLimit(runtime.GOMAXPROCS(0))
	for i, l := range layers {
		jobs.Go(func() error {
			at := len(layers) - 1 - i
			var err error
			r.Layers[at], lists[i], err = unpack(ctx, st, l, r.owned)
			return err
		})
	}
	if err := jobs.Wait(); err != nil {
		return nil, fmt.Errorf("unpack image: %w", err)
	}
	paths := map[string]*rootfs.Inode{}
	for i, list := range lists {
		dir := r.Layers[len(layers)-1-i]
		for _, m := range list {
			if m.Link != "" && m.Mode.IsRegular() {
				if to := paths[m.Link]; to != nil {
					paths[m.Path] = to
				}
				continue
			}
			paths[m.Path] = &rootfs.Inode{Mode: m.Mode, UID: m.UID, GID: m.GID, Size: m.Size, Target: m.Link, Content: onDisk{dir, m.Path}}
		}
	}
	r.Tree = rootfs.Of(paths)
	return r, nil
}

// onDisk is content that lies in a layer's folder.
type onDisk struct{ dir, name string }

func (c onDisk) Open() (io.ReadCloser, error) {
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Open(c.name)
}

// member is one path as a layer has it.
type member struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	UID  int         `json:"uid"`
	GID  int         `json:"gid"`
	Size int64       `json:"size"`
	Link string      `json:"link"` // where a symbolic link leads, or the earlier path that a file is a hard link of
}

// unpacked is what the store remembers of a layer.
type unpacked struct{ Members store.Digest }

// unpack gives the folder of one layer, and what is in it.
func unpack(ctx context.Context, st *store.Store, l v1.Layer, owned bool) (dir string, members []member, err error) {
	digest, err := l.Digest()
	if err != nil {
		return "", nil, err
	}
	h := store.NewHash("image layer, unpacked")
	h.Line("version", rootVersion)
	h.Line("layer", digest.String())
	h.Line("owned", owned)
	id := h.Sum()
	tree, err := st.Tree(ctx, id, func(root *os.Root) error {
		members, err = read(ctx, l, root, owned)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	if members == nil {
		if members, err = recall(st, id); err != nil {
			return "", nil, err
		}
	}
	if members == nil { // the folder is there and the list is not
		if members, err = read(ctx, l, nil, owned); err != nil {
			return "", nil, err
		}
	}
	data, err := json.Marshal(members)
	if err != nil {
		return "", nil, err
	}
	list, _, err := st.Put(bytes.NewReader(data))
	if err != nil {
		return "", nil, err
	}
	return tree.Dir, members, st.Remember(id, unpacked{list})
}

// recall gives the list of a layer that was unpacked before, or nil.
func recall(st *store.Store, id store.ActionID) ([]member, error) {
	var known unpacked
	if found, err := st.Recall(id, &known); err != nil || !found {
		return nil, err
	}
	f, err := st.Open(known.Members)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	members := []member{}
	return members, json.NewDecoder(f).Decode(&members)
}

// read lists a layer, and unpacks it where root is not nil.
func read(ctx context.Context, l v1.Layer, root *os.Root, owned bool) ([]member, error) {
	content, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	members := []member{}
	folders := map[string]*tar.Header{}
	limited := &io.LimitedReader{R: content, N: maxBytes}
	for r := tar.NewReader(limited); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil && limited.N <= 0:
			return nil, fmt.Errorf("a layer has more than %d bytes", int64(maxBytes))
		case err != nil:
			return nil, err
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case len(members) >= maxMembers:
			return nil, fmt.Errorf("a layer has more than %d paths", maxMembers)
		}
		m, err := memberOf(h)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		if m == nil {
			continue
		}
		members = append(members, *m)
		if root == nil {
			continue
		}
		if m.Mode.IsDir() {
			folders[m.Path] = h
		}
		if err := m.make(root, h, r, owned); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	// Folders get their modes and times last: one may be read-only.
	for _, m := range slices.Backward(members) {
		h := folders[m.Path]
		if h == nil || root == nil {
			continue
		}
		if err := root.Chmod(m.Path, m.Mode&(fs.ModePerm|fs.ModeSticky)); err != nil {
			return nil, err
		}
		if err := root.Chtimes(m.Path, h.ModTime, h.ModTime); err != nil {
			return nil, err
		}
	}
	return members, nil
}

// memberOf reads a header; the root itself is nil.
func memberOf(h *tar.Header) (*member, error) {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	switch base := path.Base(name); {
	case name == "":
		return nil, nil
	case slices.Contains(strings.Split(h.Name, "/"), ".."):
		return nil, errors.New("it leads upwards")
	case strings.HasPrefix(base, ".wh."):
		return nil, errors.New("a layer that takes away what is below it can't be tested")
	}
	m := &member{Path: name, Mode: h.FileInfo().Mode(), UID: h.Uid, GID: h.Gid, Size: h.Size}
	switch h.Typeflag {
	case tar.TypeSymlink:
		m.Link = h.Linkname
	case tar.TypeLink:
		m.Link = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		m.Mode &= fs.ModePerm // a file's
	}
	return m, nil
}

// make puts a path into the folder. What a tree can't hold, e.g. a device, is in the list alone.
func (m *member) make(root *os.Root, h *tar.Header, content io.Reader, owned bool) error {
	if dir := path.Dir(m.Path); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if !m.Mode.IsDir() {
		if err := root.Remove(m.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		err = root.MkdirAll(m.Path, 0o755)
	case tar.TypeSymlink:
		err = root.Symlink(m.Link, m.Path)
	case tar.TypeLink:
		return root.Link(m.Link, m.Path)
	case tar.TypeReg:
		err = writeFile(root, m.Path, m.Mode.Perm(), h.ModTime, content)
	default:
		return nil
	}
	if err != nil || !owned {
		return err
	}
	if err := root.Lchown(m.Path, m.UID, m.GID); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg { // a change of owner takes bits away
		return root.Chmod(m.Path, m.Mode.Perm())
	}
	return nil
}

func writeFile(root *os.Root, name string, mode fs.FileMode, at time.Time, content io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return root.Chtimes(name, at, at)
}
