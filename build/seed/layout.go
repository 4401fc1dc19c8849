package seed

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// kind is a seed that is made of Debian's packages.
type kind struct {
	name     string // of the package that is made
	title    string // in messages
	file     string // of the lock that tarn brings along
	lock     []byte
	layout   int                 // raised whenever the same lock gives another package
	bears    string              // the package whose version the seed bears
	purpose  string              // of the description
	license  string              // SPDX
	replaces []string            // seeds that may own the same paths: the same files of Debian
	provides map[string][]string // the plain names that it serves, by the package that has them
	finish   func(t tree, arch string) error
}

var toolchain = kind{
	name: Name, title: "seed", file: DefaultLock, lock: defaultLock, layout: 1, bears: compiler, purpose: "the first compiler comes from",
	license: "GPL-3.0-or-later", provides: provides, finish: tree.finish,
}

// compiler is the package whose version the seed bears.
const compiler = "gcc-12"

// arches are the architectures that there is a seed for, by Debian's name.
var arches = map[string]struct {
	alpine  apk.Arch
	triplet string // of Debian's folders
	loader  string // where glibc's programs look for their loader, below usr/lib
}{
	"amd64": {apk.ArchX86_64, "x86_64-linux-gnu", "ld-linux-x86-64.so.2"},
}

// layoutFiles are the files that are tarn's own: wrappers of the compiler, and the
// specs that turn it to musl.
//
//go:embed layout
var layoutFiles embed.FS

// node is one path of the seed.
type node struct {
	kind apk.FileType
	mode fs.FileMode // permissions
	link string      // of a symbolic link its text, of a hard link the path of the file
	from string      // the package that has it, for messages
	// Where the bytes of a file are: in memory, or in a spool file.
	data   []byte
	spool  int
	offset int64
	size   int64
}

// tree is the seed by path.
type tree map[string]*node

// place is where a path of a Debian package stands in the seed, or "" when it is
// left out. /bin, /sbin, /lib and /lib64 are merged into /usr, as Debian itself
// does from then on; no name collides. Everything stands below /seed, because
// musl owns /usr/include and /usr/lib.
func place(p string) string {
	first, rest, _ := strings.Cut(p, "/")
	if first == "usr" {
		first, rest, _ = strings.Cut(rest, "/")
	}
	switch first {
	case "bin", "sbin":
		first = "bin"
	case "lib", "lib64":
		first = "lib"
	case "include", "share", "libexec":
		if !strings.HasPrefix(p, "usr/") {
			return ""
		}
	default:
		return ""
	}
	if p = path.Join("usr", first, rest); leftOut(p) {
		return ""
	}
	return "seed/" + p
}

// leftOutPaths are not needed to build software: documents, translations, tools of
// Debian itself, and the libraries of gcc that must not be linked by mistake. That
// saves 100 MB. Patterns are those of path.Match; what is below goes too.
var leftOutPaths = []string{
	"usr/share/aclocal", "usr/share/bug", "usr/share/doc", "usr/share/doc-base", "usr/share/gdb", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/share/menu",
	"usr/lib/mime", "usr/lib/compat-ld", "usr/lib/gold-ld",
	"usr/lib/*-linux-gnu/gconv", "usr/lib/*-linux-gnu/audit", "usr/lib/*-linux-gnu/gprofng",
	"usr/bin/lto-dump-*", "usr/bin/*-linux-gnu-lto-dump-*", "usr/bin/gp-*", "usr/bin/*-linux-gnu-gp-*", "usr/bin/gprofng", "usr/bin/*-linux-gnu-gprofng",
	"usr/bin/add-shell", "usr/bin/remove-shell", "usr/bin/update-shells", "usr/bin/savelog", "usr/bin/bashbug", "usr/bin/run-parts", "usr/bin/tempfile",
	"usr/bin/installkernel", "usr/bin/ischroot", "usr/bin/clear_console", "usr/bin/rmt-tar", "usr/bin/tarcat",
}

// leftOutRuntimes are runtimes of gcc, by the beginning of their names in its folder.
var leftOutRuntimes = []string{"libasan", "libtsan", "liblsan", "libubsan", "libitm", "libgomp", "libquadmath"}

func leftOut(p string) bool {
	elements := strings.Split(p, "/")
	for i := 2; i <= len(elements); i++ {
		head := path.Join(elements[:i]...)
		if slices.ContainsFunc(leftOutPaths, func(pattern string) bool {
			matched, err := path.Match(pattern, head)
			if err != nil {
				panic("internal error: pattern " + pattern)
			}
			return matched
		}) {
			return true
		}
	}
	if matched, _ := path.Match("usr/lib/gcc/*/*/*", p); matched {
		base := path.Base(p)
		ext := path.Ext(base)
		return (ext == ".a" || ext == ".o" || ext == ".spec") && slices.ContainsFunc(leftOutRuntimes, func(s string) bool { return strings.HasPrefix(base, s) })
	}
	return false
}

// relink is the text of a symbolic link when what is at from stands at to. A link
// keeps its text where that still leads to the same file. "" is a link to what the
// seed does not have.
func relink(from, to, text string) string {
	target := path.Join("/", path.Dir(from), text)
	if path.IsAbs(text) {
		target = path.Clean(text)
	}
	placed := place(strings.TrimPrefix(target, "/"))
	if placed == "" {
		return ""
	}
	if !path.IsAbs(text) && path.Join(path.Dir(to), text) == placed {
		return text
	}
	return relative(path.Dir(to), placed)
}

// relative is the way from a folder to a path, both below one root.
func relative(folder, p string) string {
	from, to := strings.Split(folder, "/"), strings.Split(p, "/")
	for len(from) > 0 && len(to) > 1 && from[0] == to[0] {
		from, to = from[1:], to[1:]
	}
	return strings.Repeat("../", len(from)) + strings.Join(to, "/")
}

// add puts a path there, which must be new; folders may come from many packages.
func (t tree) add(p string, n *node) error {
	if old, there := t[p]; there {
		if old.kind == apk.TypeDir && n.kind == apk.TypeDir {
			return nil
		}
		return fmt.Errorf("%s: both %s and %s have it", p, old.from, n.from)
	}
	t[p] = n
	return nil
}

func (t tree) link(p, text string) error {
	return t.add(p, &node{kind: apk.TypeSymlink, mode: 0o777, link: text, from: "the layout"})
}

// merge adds what every seed of Debian's packages has: the merged layout, and where
// their programs look for their loader and libraries.
func (t tree) merge(arch string) error {
	a := arches[arch]
	// The merged layout, below /seed and at the root.
	for _, l := range [][2]string{
		{"seed/bin", "usr/bin"}, {"seed/sbin", "usr/bin"}, {"seed/usr/sbin", "bin"}, {"seed/lib", "usr/lib"}, {"seed/lib64", "usr/lib"},
		{"bin", "usr/bin"}, {"sbin", "usr/bin"}, {"usr/sbin", "bin"}, {"lib", "usr/lib"}, {"lib64", "usr/lib"}, {"usr/lib64", "lib"},
		// musl's loader and our linker never look there.
		{"usr/lib/" + a.loader, "../../seed/usr/lib/" + a.loader},
		{"usr/lib/" + a.triplet, "../../seed/usr/lib/" + a.triplet},
	} {
		if err := t.link(l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}

// finish adds all that is tarn's own, and the folders.
func (t tree) finish(arch string) error {
	a := arches[arch]
	if err := t.merge(arch); err != nil {
		return err
	}
	// Where perl and bison look for their own files.
	for _, name := range []string{"usr/share/bison", "usr/share/perl"} {
		if err := t.link(name, "../../seed/"+name); err != nil {
			return err
		}
	}
	t.dropDangling()

	const bin = "seed/usr/bin/"
	own := map[string]string{
		"sh":    bin + "bash", // scripts of recipes want pipefail
		"awk":   bin + "mawk",
		"which": bin + "which.debianutils",
		// A wrapper decides which compiler these are for.
		"gcc-ar": bin + "gcc-ar-12", "gcc-nm": bin + "gcc-nm-12", "gcc-ranlib": bin + "gcc-ranlib-12",
	}
	for name, target := range own {
		if t[target] == nil {
			return fmt.Errorf("usr/bin/%s: no %s in the packages", name, target)
		}
		if err := t.link("usr/bin/"+name, "../../"+target); err != nil {
			return err
		}
	}
	if err := t.link("usr/bin/cc", "gcc"); err != nil {
		return err
	}
	if err := t.addFiles(); err != nil {
		return err
	}
	for p, n := range t {
		name, found := strings.CutPrefix(p, bin)
		if !found || strings.Contains(name, "/") || n.kind == apk.TypeDir || hidden(name, a.triplet) || t["usr/bin/"+name] != nil {
			continue
		}
		t["usr/bin/"+name] = &node{kind: apk.TypeSymlink, mode: 0o777, link: "../../" + bin + name, from: "the layout"}
	}
	if err := t.sortLinks(); err != nil {
		return err
	}
	return t.addFolders()
}

// hidden are programs that do not stand in usr/bin: a configure script must not
// find a compiler for glibc by the name of a triplet.
func hidden(name, triplet string) bool {
	if strings.HasPrefix(name, triplet+"-") {
		return true
	}
	for _, pattern := range []string{"gcc-12", "g++-12", "cpp-12", "gcov*-12", "gcc-ar-12", "gcc-nm-12", "gcc-ranlib-12", "dwp"} {
		if matched, _ := path.Match(pattern, name); matched {
			return true
		}
	}
	return false
}

// addFiles adds the files of the folder layout.
func (t tree) addFiles() error {
	return fs.WalkDir(layoutFiles, "layout", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := layoutFiles.ReadFile(p)
		if err != nil {
			return err
		}
		n := &node{kind: apk.TypeFile, mode: 0o644, data: data, size: int64(len(data)), from: "the layout"}
		to := "seed/" + path.Base(p)
		if path.Dir(p) == "layout/bin" {
			n.mode, to = 0o755, "usr/bin/"+path.Base(p)
		}
		return t.add(to, n)
	})
}

// addFolders adds the folders that paths stand in, and fails where one is none.
func (t tree) addFolders() error {
	paths := make([]string, 0, len(t))
	for p := range t {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		for folder := path.Dir(p); folder != "."; folder = path.Dir(folder) {
			switch n := t[folder]; {
			case n == nil:
				t[folder] = &node{kind: apk.TypeDir, mode: 0o755, from: "the layout"}
			case n.kind != apk.TypeDir:
				return fmt.Errorf("%s of %s stands below %s, which is a %s of %s", p, t[p].from, folder, n.kind, n.from)
			}
		}
	}
	return nil
}

// dropDangling leaves out links below /seed that lead nowhere: to what was left out.
func (t tree) dropDangling() {
	folders := map[string]bool{"": true, ".": true}
	for p := range t {
		for folder := path.Dir(p); !folders[folder]; folder = path.Dir(folder) {
			folders[folder] = true
		}
	}
	for {
		var gone []string
		for p, n := range t {
			if n.kind == apk.TypeSymlink && strings.HasPrefix(p, "seed/") && !t.leads(p, folders) {
				gone = append(gone, p)
			}
		}
		if len(gone) == 0 {
			return
		}
		for _, p := range gone {
			delete(t, p)
		}
	}
}

// leads reports whether the link p leads to something of the tree.
func (t tree) leads(p string, folders map[string]bool) bool {
	rest := strings.Split(p, "/")
	at := ""
	for hops := 0; len(rest) > 0; {
		element := rest[0]
		rest = rest[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			at = strings.TrimPrefix(path.Dir("/"+at), "/")
			continue
		}
		next := path.Join(at, element)
		n := t[next]
		if n != nil && n.kind == apk.TypeSymlink {
			if hops++; hops > 40 {
				return false
			}
			if path.IsAbs(n.link) {
				at = ""
			}
			rest = append(strings.Split(n.link, "/"), rest...)
			continue
		}
		if n == nil && !folders[next] || n != nil && n.kind != apk.TypeDir && len(rest) > 0 {
			return false
		}
		at = next
	}
	return true
}

// programs are the names in usr/bin, sorted.
func (t tree) programs() []string {
	var names []string
	for p, n := range t {
		if name, found := strings.CutPrefix(p, "usr/bin/"); found && !strings.Contains(name, "/") && n.kind != apk.TypeDir {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// size is the bytes of all files and of the texts of links, as packages count it.
func (t tree) size() (total int64) {
	for _, n := range t {
		switch n.kind {
		case apk.TypeFile:
			total += n.size
		case apk.TypeSymlink:
			total += int64(len(n.link))
		}
	}
	return total
}

// provides are the plain names that the seed serves, by the Debian package that
// has them and gives them their version.
var provides = map[string][]string{
	"bash": {"bash"}, "binutils": {"binutils"}, "bison": {"bison"}, "bzip2": {"bzip2"}, "coreutils": {"coreutils"}, "dash": {"dash"}, "diffutils": {"diffutils"},
	"findutils": {"findutils"}, "flex": {"flex"}, compiler: {"gcc"}, "grep": {"grep"}, "gzip": {"gzip"}, "m4": {"m4"}, "make": {"make"}, "mawk": {"mawk"},
	"patch": {"patch"}, "perl": {"perl"}, "sed": {"sed"}, "tar": {"tar", "gnutar"}, "xz-utils": {"xz"}, "debianutils": {"which"},
}

// upstream is the version of upstream in a version of Debian: without the epoch, and
// without what packaging added.
func upstream(version string) string {
	if _, rest, found := strings.Cut(version, ":"); found {
		version = rest
	}
	if i := strings.IndexAny(version, "-+~"); i >= 0 {
		version = version[:i]
	}
	return version
}
