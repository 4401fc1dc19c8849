package images

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
)

// maxOwnFiles is how many bytes the files of one image file may have. What is larger
// belongs in a package, which is kept once and checked by its digest.
const maxOwnFiles = 64 << 20

// ownFiles reads the files that an image file brings, as long as there is fsys to read
// them from: what they hold decides the image as much as the image file does.
func (l *loader) ownFiles(s *Spec, file string) {
	for i := range s.OwnFiles {
		f := &s.OwnFiles[i]
		clean := path.Clean("/" + f.Path)
		switch {
		case clean == "/", strings.ContainsAny(f.Path, "\x00\n\r"):
			l.add(f.Here.Value("path"), "", "%q cannot be the path of a file", f.Path)
		case f.Permissions != nil && *f.Permissions > 0o7777:
			l.add(f.Here.Value("permissions"), "write it in octal, e.g. 0o644", "permissions %d of %q are more than 0o7777", *f.Permissions, f.Path)
		case f.Content != nil && f.Source != "":
			l.add(f.Here.Key("source"), "", "file %q has content and source: it can have one of them", f.Path)
		case f.Content == nil && f.Source == "":
			l.add(f.Here, "write content: |, or source: with a file beside this one", "file %q has neither content nor source", f.Path)
		case f.Content != nil:
			f.add(strings.TrimPrefix(clean, "/"), 0o644, []byte(*f.Content))
		default:
			l.readOwn(f, file)
		}
		l.checkOwner(f.Here, f.Path, f.UID, f.GID)
	}
}

// add adds a regular file. Its mode is the one that is asked for, else the given one.
func (f *OwnFile) add(at string, mode fs.FileMode, data []byte) {
	if f.Permissions != nil {
		mode = rootfs.FileMode(*f.Permissions)
	}
	sum := sha256.Sum256(data)
	f.Members = append(f.Members, OwnMember{Path: at, Mode: mode, Sum: hex.EncodeToString(sum[:]), Data: data})
}

// readOwn reads a local file, or all that is in a folder. It is looked for as an
// include is: beside the image file, then from the workspace's folder. A mode that the
// image file does not say is 0755 for what its owner can run, else 0644: what else a
// checkout's files have depends on the umask.
func (l *loader) readOwn(f *OwnFile, file string) {
	place := f.Here.Value("source")
	var source string
	for _, candidate := range []string{path.Join(path.Dir(file), f.Source), path.Clean(f.Source)} {
		if !fs.ValidPath(candidate) || candidate == "." {
			continue
		}
		if _, err := fs.Stat(l.fsys, candidate); err == nil {
			source = candidate
			break
		}
	}
	if source == "" {
		l.add(place, "a source is a file or folder beside this one, or a path from the workspace's folder", "source %q of %q is not there", f.Source, f.Path)
		return
	}
	var total int64
	err := fs.WalkDir(l.fsys, source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := strings.TrimPrefix(path.Join("/", f.Path, strings.TrimPrefix(p, source)), "/")
		info, err := fs.Stat(l.fsys, p) // of a link what it leads to, which is never out of fsys
		if err != nil {
			return err
		}
		switch {
		case d.Type() == fs.ModeSymlink && p != source:
			target, err := fs.ReadLink(l.fsys, p)
			if err != nil {
				return err
			}
			f.Members = append(f.Members, OwnMember{Path: at, Mode: fs.ModeSymlink | 0o777, Target: target})
			return nil
		case info.IsDir():
			if d.Type() == fs.ModeSymlink {
				return errors.New("it is a link to a folder")
			}
			f.Members = append(f.Members, OwnMember{Path: at, Mode: fs.ModeDir | 0o755})
			return nil
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is a %s", p, rootfs.Kind(info.Mode()))
		}
		if total += info.Size(); total > maxOwnFiles {
			return fmt.Errorf("it has more than %s: make a package of it", byteCount(maxOwnFiles))
		}
		data, err := fs.ReadFile(l.fsys, p)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		f.add(at, mode, data)
		return nil
	})
	if err != nil {
		if perr, ok := errors.AsType[*fs.PathError](err); ok {
			err = fmt.Errorf("%s: %v", perr.Path, perr.Err)
		}
		l.add(place, "", "source %q of %q: %v", f.Source, f.Path, err)
	}
}

// mergeOwnFiles puts the files of an image file behind those of the one that it
// includes. One of the same path takes the other's place.
func mergeOwnFiles(base, top []OwnFile) []OwnFile {
	own := map[string]bool{}
	for _, f := range top {
		own[path.Clean("/"+f.Path)] = true
	}
	var all []OwnFile
	for _, f := range base {
		if !own[path.Clean("/"+f.Path)] {
			all = append(all, f)
		}
	}
	return slices.Concat(all, top)
}

// withOwnPackage adds the package that owns the files of the image file and, once the
// image is finished, what the composer made, in apk's database and in the bill of
// materials as any other does. Its name follows from the image's, its version from the
// files: a plain number, since not every reader of the database knows versions with a
// digest in them.
func (s *Spec) withOwnPackage(packages []*scanned, o Options) ([]*scanned, error) {
	own, err := s.ownPackage(o.Arch, o.Epoch.Unix())
	return append(packages, own), err
}

func (s *Spec) ownPackage(arch apk.Arch, epoch int64) (*scanned, error) {
	p := &scanned{own: true, Package: rootfs.Package{Info: &apk.Info{
		Name: ownPrefix + s.Name(), Version: "1", Arch: arch, Description: "What no package brings to the image " + s.Name(), Origin: ownPrefix + s.Name(), Size: 1,
	}}, Marks: map[string]string{}}
	if license := s.Annotations["org.opencontainers.image.licenses"]; license != "" {
		p.Info.Licenses = []string{license}
	}
	at := map[string]int{}
	add := func(m OwnMember, uid, gid int) error {
		if i, there := at[m.Path]; there {
			if m.Mode.IsDir() && p.Entries[i].Mode.IsDir() {
				return nil
			}
			return fmt.Errorf("/%s is made twice", m.Path)
		}
		e := rootfs.Entry{Path: m.Path, Inode: rootfs.Inode{Mode: m.Mode, UID: uid, GID: gid, ModTime: epoch, Target: m.Target, Sum: m.Sum}}
		var sum apk.Checksum
		switch {
		case m.Mode.IsRegular():
			e.Size, e.Content, sum = int64(len(m.Data)), rootfs.Bytes(m.Data), sha1.Sum(m.Data)
			var look marker
			look.Write(m.Data)
			if program := look.name(); program != "" {
				p.Marks[m.Sum] = program
			}
		case m.Mode.Type() == fs.ModeSymlink:
			sum = sha1.Sum([]byte(m.Target))
		}
		at[m.Path] = len(p.Entries)
		p.Entries, p.sums = append(p.Entries, e), append(p.sums, sum)
		return nil
	}
	var ps []error
	for i := range s.OwnFiles {
		f := &s.OwnFiles[i]
		uid, gid := 0, 0
		if f.UID != nil {
			uid = int(*f.UID)
		}
		if f.GID != nil {
			gid = int(*f.GID)
		}
		for _, m := range f.Members {
			if err := add(m, uid, gid); err != nil {
				ps = append(ps, f.Here.Problem("", "%v", err))
			}
		}
	}
	if err := problems(ps...); err != nil {
		return nil, err
	}
	return p, nil
}

// databaseDir is where apk's database lies. What is in there tells of the own package,
// whose version therefore does not follow from it.
const databaseDir = "usr/lib/apk/db/"

// isDatabase tells whether a path is of apk's database, where it lies today or where it
// lay, as in a base image.
func isDatabase(p string) bool {
	return strings.HasPrefix(p, databaseDir) || strings.HasPrefix(p, "lib/apk/db/")
}

// own gives what no package brought to the own package, and writes apk's database, which
// then has every path of the image. What lies in a base image and is of none of its packages
// is the own package's, too, and stays in the base's layers: see takeOver.
func (c *composer) own() error {
	p := c.packages[len(c.packages)-1]
	if !p.own {
		return errors.New("internal error: the image has no package of its own")
	}
	for _, f := range []string{"installed", "scripts.tar", "triggers"} {
		if err := c.tree.WriteFile(c.o.Base.database()+f, nil, 0o644); err != nil {
			return err
		}
	}
	var database []*rootfs.Node
	for n := range c.tree.All() {
		if n.Owner != "" && n.Owner != baseOwner {
			continue
		}
		sum, known := c.o.Base.sum(n)
		switch in := isDatabase(n.Path); {
		case in:
			database = append(database, n)
		case known:
		case n.Mode.IsRegular():
			var err error
			if sum, err = contentSum(n.Inode); err != nil {
				return fmt.Errorf("read /%s: %w", n.Path, err)
			}
		case n.Mode.Type() == fs.ModeSymlink:
			sum = sha1.Sum([]byte(n.Target))
		}
		p.Entries, p.sums = append(p.Entries, rootfs.Entry{Path: n.Path, Inode: *n.Inode}), append(p.sums, sum)
		if !isDatabase(n.Path) {
			n.Adopt(p.Info.Name)
		}
	}
	p.seal()
	if err := c.installed(); err != nil {
		return err
	}
	for _, n := range database {
		n.Adopt(p.Info.Name)
	}
	return nil
}

// takeOver gives what no package of a base image has to the own package, when the layers
// are made: they are made by who brought what.
func (c *composer) takeOver() {
	if c.o.Base == nil {
		return
	}
	own := c.packages[len(c.packages)-1].Info.Name
	for n := range c.tree.All() {
		if n.Owner == baseOwner {
			n.Owner = own
		}
	}
}

// contentSum is the SHA-1 of a file, as apk's database has it.
func contentSum(i *rootfs.Inode) (sum apk.Checksum, err error) {
	r, err := i.Content.Open()
	if err != nil {
		return sum, err
	}
	defer r.Close()
	h := sha1.New()
	if _, err := io.Copy(h, io.LimitReader(r, i.Size)); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

// seal gives the package the version, size and checksum that follow from its files.
func (p *scanned) seal() {
	digest := sha256.New()
	for i := range p.Entries {
		e := &p.Entries[i]
		if isDatabase(e.Path) {
			continue
		}
		fmt.Fprintf(digest, "%q %d %d %d %q %q\n", e.Path, e.Mode, e.UID, e.GID, e.Target, e.Sum)
		p.Info.Size += e.Size
	}
	p.Info.Version = apk.Version(fmt.Sprintf("1.%d-r0", binary.BigEndian.Uint32(digest.Sum(nil))))
	identity := sha1.New()
	io.WriteString(identity, p.Info.FullName())
	identity.Write(digest.Sum(nil))
	identity.Sum(p.Checksum[:0])
}

// IsOwnPackage reports whether a package of an image is the one that the composer made.
func IsOwnPackage(name string) bool { return strings.HasPrefix(name, ownPrefix) }

// ownPrefix begins the name of a package that the composer makes.
const ownPrefix = "image-files-"

// sortedBySize lists the packages with the most bytes of files first.
func sortedBySize(packages []*scanned) []*scanned {
	sorted := slices.Clone(packages)
	slices.SortFunc(sorted, func(a, b *scanned) int {
		return cmp.Or(cmp.Compare(b.size(), a.size()), cmp.Compare(a.Info.Name, b.Info.Name))
	})
	return sorted
}
