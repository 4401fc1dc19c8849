package images

import (
	"io"
	"maps"
	"slices"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// Script is a script of a package. It is never run; the database keeps it for apk.
type Script struct {
	Name    string // as in the control section, e.g. .post-install
	Content []byte
}

// readPackage reads a package out of the store, checks it once more against its own
// hashes, and gives what it holds, and the content of its files, which may take room bytes
// of memory.
func readPackage(spools *spools, digest store.Digest, room int64) (_ scan, _ *content, err error) {
	f, err := spools.st.Open(digest)
	if err != nil {
		return scan{}, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return scan{}, nil, err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return scan{}, nil, err
	}
	s := scan{Info: p.Info, Checksum: p.Checksum, FileSize: p.ControlSize + p.DataSize}
	for _, name := range slices.Sorted(maps.Keys(p.Scripts)) {
		s.Scripts = append(s.Scripts, Script{Name: name, Content: p.Scripts[name]})
	}
	keep := &keeper{content: &content{spools: spools, room: room, expected: p.Info.Size}, marks: map[string]string{}}
	defer func() {
		keep.written()
		if err != nil {
			keep.forget()
		}
	}()
	err = p.Files(func(f *apk.File, content io.Reader) error {
		s.NamesOnly = s.NamesOnly || p.Format == apk.V3 && f.NamedOnly()
		e := scanEntry{Path: f.Path, Mode: rootfs.UnixMode(f.Mode), UID: f.UID, GID: f.GID, User: otherThanRoot(f.User), Group: otherThanRoot(f.Group), Time: f.ModTime.Unix()}
		for key, value := range f.Xattrs {
			if e.Xattrs == nil {
				e.Xattrs = map[string][]byte{}
			}
			e.Xattrs[key] = []byte(value)
		}
		switch f.Type {
		case apk.TypeDir:
			e.Type = 'd'
		case apk.TypeSymlink:
			e.Type, e.Target = 'l', f.Link
		case apk.TypeHardlink:
			e.Type, e.Hardlink = 'f', f.Link
		default:
			e.Type, e.Size = 'f', f.Size
			if e.Sum, err = keep.keep(content, f.Size, f.Mode&0o111 != 0); err != nil {
				return err
			}
			if mayBeLibrary(f.Path) {
				e.Library = readLibrary(io.NewSectionReader(keep, keep.size-f.Size, f.Size))
			}
		}
		e.SHA1 = f.SHA1
		s.Entries = append(s.Entries, e)
		return nil
	})
	s.Marks = keep.marks
	return s, keep.content, err
}
