package apk

import (
	"archive/tar"
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Installed is a package in the database of what is installed, which is below
// usr/lib/apk/db (lib/apk/db in older roots): its record in the file "installed", its
// scripts in "scripts.tar", its triggers in "triggers".
type Installed struct {
	Entry
	// Files in any order. Of a file the path, type, mode, owner by number, extended
	// attributes and SHA1 count; a hard link takes them from the file that it names.
	Files   []File
	Scripts map[string][]byte // by name, see ScriptNames
}

// The modes that the database does not tell.
const (
	plainDirMode  = 0o755
	plainFileMode = 0o644
)

// WriteInstalled writes the file "installed", sorted by package name, so that
// apk-tools 2 and 3 read it.
func WriteInstalled(w io.Writer, packages []*Installed) error {
	sorted, err := sortedInstalled(packages)
	if err != nil {
		return err
	}
	var text []byte
	for _, p := range sorted {
		if text, err = appendInstalled(text[:0], p); err != nil {
			return fmt.Errorf("write record of %s: %w", p.FullName(), err)
		}
		text = append(text, '\n')
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func sortedInstalled(packages []*Installed) ([]*Installed, error) {
	sorted := slices.Clone(packages)
	slices.SortFunc(sorted, func(a, b *Installed) int { return cmp.Compare(a.Name, b.Name) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Name == sorted[i-1].Name {
			return nil, fmt.Errorf("package %q is installed twice", sorted[i].Name)
		}
	}
	return sorted, nil
}

func appendInstalled(dst []byte, p *Installed) ([]byte, error) {
	if err := p.checkText(); err != nil {
		return nil, err
	}
	dst = appendInstalledEntry(dst, &p.Entry)
	if len(p.Replaces) > 0 {
		dst = append(append(append(dst, "r:"...), joinDependencies(p.Replaces)...), '\n')
	}
	if p.ReplacesPriority != 0 {
		dst = append(strconv.AppendInt(append(dst, "q:"...), p.ReplacesPriority, 10), '\n')
	}
	at := make(map[string]*File, len(p.Files))
	below := map[string][]*File{} // what is no folder, by folder
	for i := range p.Files {
		f := &p.Files[i]
		if err := checkPath(f.Path, Limits{}.orDefault().Path); err != nil {
			return nil, fmt.Errorf("path %q: %v", shorten(f.Path), err)
		}
		if at[f.Path] != nil {
			return nil, fmt.Errorf("/%s stands there twice", f.Path)
		}
		at[f.Path] = f
		if f.Type != TypeDir {
			dir := f.Path[:max(strings.LastIndexByte(f.Path, '/'), 0)]
			below[dir] = append(below[dir], f)
		} else if below[f.Path] == nil {
			below[f.Path] = []*File{}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(below)) {
		dst = append(append(append(dst, "F:"...), dir...), '\n')
		if f := at[dir]; f != nil {
			if f.Type != TypeDir {
				return nil, fmt.Errorf("/%s is a %s, and something stands below it", dir, f.Type)
			}
			dst = appendOwner(dst, 'M', f, plainDirMode)
		}
		files := below[dir]
		slices.SortFunc(files, func(a, b *File) int { return cmp.Compare(a.Path, b.Path) })
		for _, f := range files {
			dst = append(append(append(dst, "R:"...), path.Base(f.Path)...), '\n')
			if f.Type == TypeHardlink {
				target := at[f.Link]
				if target == nil || target.Type != TypeFile {
					return nil, fmt.Errorf("/%s is a hard link to %q, which is no file of the package", f.Path, f.Link)
				}
				f = target
			}
			dst = appendOwner(dst, 'a', f, plainFileMode)
			if f.SHA1 != (Checksum{}) {
				dst = append(append(append(dst, "Z:"...), f.SHA1.String()...), '\n')
			}
		}
	}
	return dst, nil
}

// appendInstalledEntry is appendEntry in apk's own order, with all the lines that apk
// always writes (apk_pkg_write_index_header of apk-tools 3.0).
func appendInstalledEntry(dst []byte, e *Entry) []byte {
	line := func(key byte, value string, always bool) {
		if always || value != "" {
			dst = append(append(append(dst, key, ':'), value...), '\n')
		}
	}
	number := func(key byte, value int64, always bool) {
		if always || value != 0 {
			line(key, strconv.FormatInt(value, 10), true)
		}
	}
	line('C', e.Checksum.String(), true)
	line('P', e.Name, true)
	line('V', string(e.Version), true)
	line('A', string(e.Arch), false)
	number('S', e.FileSize, true)
	number('I', e.Size, true)
	line('T', e.Description, true)
	line('U', e.URL, true)
	line('L', e.License(), true)
	line('o', e.Origin, false)
	line('m', e.Maintainer, false)
	number('t', e.BuildDate, false)
	line('c', e.Commit, false)
	number('k', e.ProviderPriority, false)
	line('D', joinDependencies(e.Depends), false)
	line('p', joinDependencies(e.Provides), false)
	line('i', joinDependencies(e.InstallIf), false)
	return dst
}

// appendOwner appends who owns a path and how, unless that is root and the plain mode.
func appendOwner(dst []byte, key byte, f *File, plain int64) []byte {
	mode := unixMode(f.Mode)
	if f.Type == TypeSymlink {
		mode = 0o777
	}
	xattrs := xattrSum(f.Xattrs)
	if f.UID == 0 && f.GID == 0 && mode == plain && xattrs == (Checksum{}) {
		return dst
	}
	dst = fmt.Appendf(dst, "%c:%d:%d:%o", key, f.UID, f.GID, mode)
	if xattrs != (Checksum{}) {
		dst = append(append(dst, ':'), xattrs.String()...)
	}
	return append(dst, '\n')
}

// xattrSum is apk's digest of extended attributes: sorted by name, each name and
// value with its length in four bytes before it.
func xattrSum(xattrs map[string]string) (sum Checksum) {
	if len(xattrs) == 0 {
		return sum
	}
	h := sha1.New()
	put := func(s string) {
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(s)))
		h.Write(length[:])
		io.WriteString(h, s)
	}
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		put(name)
		put(xattrs[name])
	}
	h.Sum(sum[:0])
	return sum
}

// unixMode is a mode in the bits of Unix.
func unixMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for _, b := range specialModes {
		if m&b.mode != 0 {
			mode |= b.bit
		}
	}
	return mode
}

// goMode is a mode of Unix in the bits of package io/fs.
func goMode(mode int64) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, b := range specialModes {
		if mode&b.bit != 0 {
			m |= b.mode
		}
	}
	return m
}

var specialModes = []struct {
	bit  int64
	mode fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}

// ReadInstalled reads a file "installed". The database does not tell everything of a
// file: symbolic links are those of mode 0777 (what they say is not told), hard links
// stand as files, and of extended attributes only their digest is there, which is
// skipped. Fields that are not known are skipped.
func ReadInstalled(r io.Reader, l Limits) ([]*Installed, error) {
	l = l.orDefault()
	data, err := io.ReadAll(io.LimitReader(r, l.Index+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > l.Index {
		return nil, fmt.Errorf("longer than %d bytes", l.Index)
	}
	var all []*Installed
	p := indexParser{}
	for text := string(data); text != ""; {
		files := fileReader{limit: l.Path}
		var e *Entry
		if e, text, err = p.record(text, files.line); err != nil {
			return nil, err
		}
		if e != nil {
			all = append(all, &Installed{Entry: *e, Files: files.all})
		}
	}
	return all, nil
}

// fileReader reads the lines of a record that tell its files.
type fileReader struct {
	limit int
	dir   *string
	last  *File // what M: and a: are about
	all   []File
}

func (r *fileReader) line(key byte, value string) error {
	switch key {
	case 'F':
		r.dir, r.last = &value, nil
		if value == "" {
			return nil
		}
		if err := checkPath(value, r.limit); err != nil {
			return err
		}
		r.all = append(r.all, File{Path: value, Type: TypeDir, Mode: plainDirMode})
		r.last = &r.all[len(r.all)-1]
	case 'R':
		if r.dir == nil {
			return errors.New("a file without a folder")
		}
		if strings.ContainsRune(value, '/') {
			return fmt.Errorf("%q is a path, expected a name", shorten(value))
		}
		name := path.Join(*r.dir, value)
		if err := checkPath(name, r.limit); err != nil {
			return err
		}
		r.all = append(r.all, File{Path: name, Type: TypeFile, Mode: plainFileMode})
		r.last = &r.all[len(r.all)-1]
	case 'M', 'a':
		if r.last == nil {
			if key == 'M' && r.dir != nil {
				return nil // of the root itself
			}
			return errors.New("it is about no path")
		}
		if (key == 'M') != (r.last.Type == TypeDir) {
			return fmt.Errorf("it is about a %s", r.last.Type)
		}
		return r.owner(value)
	case 'Z':
		if r.last == nil || r.last.Type == TypeDir {
			return errors.New("it is about no file")
		}
		sum, err := ParseChecksum(value)
		r.last.SHA1 = sum
		return err
	}
	return nil
}

func (r *fileReader) owner(value string) error {
	parts := strings.SplitN(value, ":", 4)
	if len(parts) < 3 {
		return fmt.Errorf("%q: expected uid:gid:mode", shorten(value))
	}
	var numbers [3]int64
	for i, base := range []int{10, 10, 8} {
		n, err := strconv.ParseUint(parts[i], base, 31)
		if err != nil {
			return fmt.Errorf("%q: expected uid:gid:mode", shorten(value))
		}
		numbers[i] = int64(n)
	}
	r.last.UID, r.last.GID, r.last.Mode = int(numbers[0]), int(numbers[1]), goMode(numbers[2])
	if r.last.Type == TypeFile && numbers[2] == 0o777 {
		r.last.Type = TypeSymlink
	}
	return nil
}

// WriteScripts writes the file "scripts.tar".
func WriteScripts(w io.Writer, packages []*Installed) error {
	sorted, err := sortedInstalled(packages)
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	for _, p := range sorted {
		for _, name := range slices.Sorted(maps.Keys(p.Scripts)) {
			if !isScript(name) {
				return fmt.Errorf("write scripts of %s: %q is no script that a package can have", p.FullName(), name)
			}
			h := &tar.Header{
				Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(p.Scripts[name])), Uname: "root", Gname: "root",
				// Checksums are written as apk-tools does: base64 may have a slash.
				Name:    p.FullName() + ".X1" + hex.EncodeToString(p.Checksum[:]) + name,
				ModTime: time.Unix(p.BuildDate, 0),
			}
			if err := t.WriteHeader(h); err != nil {
				return fmt.Errorf("write scripts of %s: %w", p.FullName(), err)
			}
			if _, err := t.Write(p.Scripts[name]); err != nil {
				return fmt.Errorf("write scripts of %s: %w", p.FullName(), err)
			}
		}
	}
	return t.Close()
}

// WriteTriggers writes the file "triggers".
func WriteTriggers(w io.Writer, packages []*Installed) error {
	sorted, err := sortedInstalled(packages)
	if err != nil {
		return err
	}
	for _, p := range sorted {
		if len(p.Triggers) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s %s\n", p.Checksum, strings.Join(p.Triggers, " ")); err != nil {
			return err
		}
	}
	return nil
}
