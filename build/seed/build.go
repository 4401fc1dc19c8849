package seed

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/debian"
	"github.com/tarn-build/tarn/pkg/store"
	"golang.org/x/sync/errgroup"
)

// modTime is the time of every file of the seed.
var modTime = time.Date(2023, 6, 10, 0, 0, 0, 0, time.UTC)

// spools are files that hold the bytes of unpacked files, one a Debian package. No
// name of a package ever becomes a path of this machine.
type spools struct {
	files   []*os.File
	release func()
}

func (s *spools) close() {
	for _, f := range s.files {
		if f != nil {
			f.Close()
		}
	}
	s.release()
}

// assemble unpacks the packages, which lie in the store, and lays them out.
func (s *Seed) assemble(ctx context.Context, st *store.Store) (_ tree, _ *spools, err error) {
	dir, release, err := st.TempDir("seed")
	if err != nil {
		return nil, nil, err
	}
	sp := &spools{files: make([]*os.File, len(s.lock.Packages)), release: release}
	defer func() {
		if err != nil {
			sp.close()
		}
	}()
	parts := make([][]placed, len(s.lock.Packages))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, runtime.GOMAXPROCS(0)))
	// The largest first, so that the last to end is a small one.
	order := make([]int, len(parts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(s.lock.Packages[b].Size - s.lock.Packages[a].Size) })
	for _, i := range order {
		g.Go(func() error {
			p := s.lock.Packages[i]
			f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(i)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			sp.files[i] = f
			if parts[i], err = unpack(gctx, st, p, i, f); err != nil {
				return fmt.Errorf("%s %s: %w", p.Name, p.Version, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	t := tree{}
	for _, part := range parts {
		for _, p := range part {
			if err := t.add(p.path, p.node); err != nil {
				return nil, nil, err
			}
		}
	}
	return t, sp, s.kind.finish(t, s.lock.Arch)
}

// placed is a path of a package at its place in the seed.
type placed struct {
	path string
	node *node
}

// unpack reads a package of the store. Its maintainer scripts are not run: what they
// do is in the layout.
func unpack(ctx context.Context, st *store.Store, p Package, spool int, w io.Writer) ([]placed, error) {
	blob, err := st.Open(store.Digest("sha256:" + p.SHA256))
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	deb, err := debian.OpenDeb(blob, debian.Limits{Data: 2 << 30, Entries: 100_000})
	if err != nil {
		return nil, err
	}
	if name, version := deb.Control.Get("Package"), deb.Control.Get("Version"); name != p.Name || version != p.Version {
		return nil, fmt.Errorf("it is %s %s", name, version)
	}
	var list []placed
	var at int64
	buf := make([]byte, 128<<10)
	err = deb.Each(func(h *tar.Header, r io.Reader) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		from := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		if from == "" || from == "." {
			return nil
		}
		if !fs.ValidPath(from) {
			return fmt.Errorf("%q is no path below the root", h.Name)
		}
		to := place(from)
		if to == "" {
			return nil
		}
		n := &node{from: p.Name, mode: fs.FileMode(h.Mode & 0o777), spool: spool}
		switch h.Typeflag {
		case tar.TypeDir:
			// A merged folder has the mode that all others have.
			n.kind, n.mode = apk.TypeDir, 0o755
		case tar.TypeSymlink:
			n.kind, n.mode, n.link = apk.TypeSymlink, 0o777, relink(from, to, h.Linkname)
			if n.link == "" {
				return nil
			}
		case tar.TypeLink:
			n.kind, n.mode = apk.TypeHardlink, 0
			if n.link = place(path.Clean(strings.TrimPrefix(h.Linkname, "./"))); n.link == "" {
				return fmt.Errorf("%s is a hard link to %q, which is left out", from, h.Linkname)
			}
		case tar.TypeReg:
			n.kind, n.offset, n.size = apk.TypeFile, at, h.Size
			copied, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buf)
			if err != nil {
				return err
			}
			at += copied
		default:
			return fmt.Errorf("%s is neither file, folder nor link", from)
		}
		list = append(list, placed{to, n})
		return nil
	})
	return list, err
}

// build makes the package and puts it into the store.
func (s *Seed) build(ctx context.Context, st *store.Store) (store.Digest, error) {
	t, sp, err := s.assemble(ctx, st)
	if err != nil {
		return "", err
	}
	defer sp.close()
	// The plan counted on what the lock says.
	if programs := t.programs(); !slices.Equal(programs, s.lock.Programs) || t.size() != s.lock.Size {
		return "", errors.New("what the packages hold is not what the lock says of programs and size\n  hint: write a new lock with tarn seed --update")
	}
	return put(ctx, st, s.entry.Info, t.contents(sp))
}

// put writes a package into the store.
func put(ctx context.Context, st *store.Store, info apk.Info, contents []apk.Content) (store.Digest, error) {
	dir, release, err := st.TempDir("seed-package")
	if err != nil {
		return "", err
	}
	defer release()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := apk.WritePackage(w, apk.Unsigned{Info: info, Files: contents, ModTime: modTime, TempDir: dir})
		w.CloseWithError(err)
		done <- err
	}()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	defer stop()
	d, _, err := st.Put(r)
	r.CloseWithError(errors.New("nobody reads"))
	if werr := <-done; err == nil {
		err = werr
	}
	return d, err
}

// contents lists the tree, sorted by path.
func (t tree) contents(sp *spools) []apk.Content {
	paths := make([]string, 0, len(t))
	for p := range t {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	list := make([]apk.Content, 0, len(paths))
	for _, p := range paths {
		n := t[p]
		c := apk.Content{File: apk.File{Path: p, Type: n.kind, Mode: n.mode, Link: n.link, Size: n.size, ModTime: modTime}}
		if n.kind == apk.TypeFile {
			c.Open = func() (io.ReadCloser, error) {
				if n.data != nil {
					return io.NopCloser(bytes.NewReader(n.data)), nil
				}
				return io.NopCloser(io.NewSectionReader(sp.files[n.spool], n.offset, n.size)), nil
			}
		}
		list = append(list, c)
	}
	return list
}

// sortLinks makes the first name of a file, in the order of names, the file, and its
// others the links: a link may not come before what it links to.
func (t tree) sortLinks() error {
	names := map[string][]string{} // a file and its links
	for p, n := range t {
		if n.kind != apk.TypeHardlink {
			continue
		}
		if target := t[n.link]; target == nil || target.kind != apk.TypeFile {
			return fmt.Errorf("%s is a hard link to %s, which is no file", p, n.link)
		}
		names[n.link] = append(names[n.link], p)
	}
	for file, links := range names {
		all := append(links, file)
		slices.Sort(all)
		content := t[file]
		for _, p := range all[1:] {
			t[p] = &node{kind: apk.TypeHardlink, link: all[0], from: content.from}
		}
		t[all[0]] = content
	}
	return nil
}
