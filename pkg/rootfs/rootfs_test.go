package rootfs_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
)

// pkg makes a package of lines like
//
//	d 0755 usr/bin
//	f 0644 etc/motd hello
//	l 0777 lib usr/lib
//	h 0000 usr/bin/b usr/bin/a
//
// Options name=value set the origin, what it replaces, and the priority of that.
func pkg(name, listing string, options ...string) *rootfs.Package {
	info := &apk.Info{Name: name, Version: "1.0-r0"}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "origin":
			info.Origin = value
		case "replaces":
			d, err := apk.ParseDependency(value)
			if err != nil {
				panic(err)
			}
			info.Replaces = append(info.Replaces, d)
		case "priority":
			fmt.Sscan(value, &info.ReplacesPriority)
		}
	}
	p := &rootfs.Package{Info: info}
	for line := range strings.Lines(listing) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		var kind string
		var mode uint32
		e := rootfs.Entry{}
		var rest string
		if n, err := fmt.Sscanf(line, "%s %o %s %s", &kind, &mode, &e.Path, &rest); n < 3 {
			panic(fmt.Sprint(line, err))
		}
		e.Mode, e.ModTime = rootfs.FileMode(mode), 1000
		switch kind {
		case "d":
			e.Mode |= fs.ModeDir
		case "f":
			digest := sha256.Sum256([]byte(rest))
			e.Size, e.Sum, e.Content = int64(len(rest)), hex.EncodeToString(digest[:]), rootfs.Bytes(rest)
		case "l":
			e.Mode |= fs.ModeSymlink
			e.Target = rest
		case "h":
			e.Hardlink = rest
		}
		p.Entries = append(p.Entries, e)
	}
	return p
}

func listing(t *testing.T, tree *rootfs.Tree) string {
	t.Helper()
	var b strings.Builder
	if err := tree.List(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func install(t *testing.T, packages ...*rootfs.Package) *rootfs.Tree {
	t.Helper()
	tree, err := rootfs.Conflicts(packages)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestInstall(t *testing.T) {
	tests := []struct {
		summary  string
		packages []*rootfs.Package
		want     string
	}{
		{
			"files of two packages stand side by side",
			[]*rootfs.Package{pkg("a", "d 0755 etc\nf 0644 etc/a x"), pkg("b", "d 0755 etc\nf 0600 etc/b y")},
			"d0755 0:0 /etc a\nf0644 0:0 /etc/a 2d711642 a\nf0600 0:0 /etc/b a1fce436 b\n",
		},
		{
			"the same content stays the first one's",
			[]*rootfs.Package{pkg("a", "f 0644 f x"), pkg("b", "f 0600 f x")},
			"f0644 0:0 /f 2d711642 a\n",
		},
		{
			"a package of the same origin takes over",
			[]*rootfs.Package{pkg("a", "f 0644 f x", "origin=o"), pkg("b", "f 0644 f y", "origin=o")},
			"f0644 0:0 /f a1fce436 b\n",
		},
		{
			"a package that replaces the first takes over",
			[]*rootfs.Package{pkg("a", "f 0644 f x"), pkg("b", "f 0644 f y", "replaces=a")},
			"f0644 0:0 /f a1fce436 b\n",
		},
		{
			"a package that is replaced by the first does not",
			[]*rootfs.Package{pkg("a", "f 0644 f x", "replaces=b"), pkg("b", "f 0644 f y")},
			"f0644 0:0 /f 2d711642 a\n",
		},
		{
			"of two that replace each other the higher priority counts",
			[]*rootfs.Package{pkg("a", "f 0644 f x", "replaces=b", "priority=2"), pkg("b", "f 0644 f y", "replaces=a", "priority=1")},
			"f0644 0:0 /f 2d711642 a\n",
		},
		{
			"a folder onto a link to a folder is that folder",
			[]*rootfs.Package{pkg("base", "d 0755 usr\nd 0755 usr/lib\nl 0777 lib usr/lib"), pkg("b", "d 0755 lib\nf 0644 lib/x x")},
			"l0777 0:0 /lib -> usr/lib base\nd0755 0:0 /usr base\nd0755 0:0 /usr/lib base\nf0644 0:0 /usr/lib/x 2d711642 b\n",
		},
		{
			"a link that leads above the root stays within it",
			[]*rootfs.Package{pkg("base", "d 0755 d\nl 0777 d/up ../../../../d"), pkg("b", "f 0644 d/up/x x")},
			"d0755 0:0 /d base\nl0777 0:0 /d/up -> ../../../../d base\nf0644 0:0 /d/x 2d711642 b\n",
		},
		{
			"folders that nobody brings are root's",
			[]*rootfs.Package{pkg("a", "f 0644 a/b/c x"), pkg("b", "d 0700 a/b")},
			"d0755 0:0 /a a\nd0700 0:0 /a/b b\nf0644 0:0 /a/b/c 2d711642 a\n",
		},
		{
			"hard links stay hard links",
			[]*rootfs.Package{pkg("a", "f 0755 git x\nh 0000 git-add git")},
			"f0755 0:0 /git 2d711642 a\nf0755 0:0 /git-add = /git a\n",
		},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			got := listing(t, install(t, test.packages...))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestConflicts(t *testing.T) {
	tests := []struct {
		summary  string
		packages []*rootfs.Package
		want     []string
	}{
		{
			"every path is told",
			[]*rootfs.Package{pkg("a", "f 0644 f x\nf 0644 g x"), pkg("b", "f 0644 f y"), pkg("c", "f 0644 g y")},
			[]string{"/f: a-1.0-r0 and b-1.0-r0 both bring it, with different content", "/g: a-1.0-r0 and c-1.0-r0 both bring it, with different content"},
		},
		{
			"an empty origin is no common origin",
			[]*rootfs.Package{pkg("a", "f 0644 f x", "origin="), pkg("b", "f 0644 f y", "origin=")},
			[]string{"/f: a-1.0-r0 and b-1.0-r0 both bring it, with different content"},
		},
		{
			"another version is not replaced",
			[]*rootfs.Package{pkg("a", "f 0644 f x"), pkg("b", "f 0644 f y", "replaces=a=2.0-r0")},
			[]string{"/f: a-1.0-r0 and b-1.0-r0 both bring it, with different content"},
		},
		{
			"a file below a file",
			[]*rootfs.Package{pkg("a", "f 0644 f x"), pkg("b", "f 0644 f/g y", "replaces=a")},
			[]string{"/f: a-1.0-r0 brings a file, b-1.0-r0 brings a folder"},
		},
		{
			"a link onto a folder",
			[]*rootfs.Package{pkg("a", "d 0755 lib"), pkg("b", "l 0777 lib usr/lib")},
			[]string{"/lib: a-1.0-r0 brings a folder, b-1.0-r0 brings a symbolic link"},
		},
		{
			"a folder onto a link to a file",
			[]*rootfs.Package{pkg("a", "f 0644 f x\nl 0777 l f"), pkg("b", "d 0755 l")},
			[]string{"/l: a-1.0-r0 brings a symbolic link, b-1.0-r0 brings a folder"},
		},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			_, err := rootfs.Conflicts(test.packages)
			conflicts, ok := errors.AsType[rootfs.ConflictError](err)
			if !ok {
				t.Fatalf("got %v, want a conflict", err)
			}
			var got []string
			for _, c := range conflicts {
				got = append(got, c.Error())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What no honest package has is refused with its name.
func TestHostilePackages(t *testing.T) {
	tests := []struct{ summary, listing, want string }{
		{"above the root", "f 0644 ../etc/passwd x", `evil-1.0-r0: path "../etc/passwd" is not a plain path below the root`},
		{"absolute", "f 0644 /etc/passwd x", `evil-1.0-r0: path "/etc/passwd" is not a plain path below the root`},
		{"not clean", "f 0644 etc//passwd x", `evil-1.0-r0: path "etc//passwd" is not a plain path below the root`},
		{"the root itself", "d 0777 .", `evil-1.0-r0: path "." is not a plain path below the root`},
		{"a path twice", "f 0644 f x\nf 0644 f y", "evil-1.0-r0: /f stands in it twice"},
		{"a hard link out of the package", "h 0644 f ../../etc/shadow", `evil-1.0-r0: /f is a hard link to "../../etc/shadow", which is no earlier file of the package`},
		{"a hard link to another package's file", "h 0644 g theirs", `evil-1.0-r0: /g is a hard link to "theirs", which is no earlier file of the package`},
		{"links in a circle", "l 0777 a b\nl 0777 b a\nf 0644 a/f x", "evil-1.0-r0: a: too many symbolic links"},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			_, err := rootfs.Conflicts([]*rootfs.Package{pkg("base", "f 0644 theirs x"), pkg("evil", test.listing)})
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// Mode and owner of a folder that several packages bring are those of the one whose
// name comes first, whichever comes first into the tree, unless they are of one origin or
// of different priority.
func TestWhoseFolderItIs(t *testing.T) {
	a, b := pkg("a", "d 0711 srv"), pkg("b", "d 0722 srv")
	main, part := pkg("zz", "d 0733 srv", "origin=zz"), pkg("part", "d 0744 srv", "origin=zz")
	tests := []struct {
		packages []*rootfs.Package
		want     fs.FileMode
	}{
		{[]*rootfs.Package{a, b}, 0o711},
		{[]*rootfs.Package{b, a}, 0o711},
		{[]*rootfs.Package{part, main}, 0o733},
		{[]*rootfs.Package{main, part}, 0o733},
		{[]*rootfs.Package{a, pkg("c", "d 0755 srv", "priority=1")}, 0o755},
		{[]*rootfs.Package{pkg("c", "d 0755 srv", "priority=1"), a}, 0o755},
	}
	for _, test := range tests {
		tree := install(t, test.packages...)
		if n, _ := tree.Lstat("srv"); n.Mode.Perm() != test.want {
			t.Errorf("%s, %s: got %v of %s, want %v", test.packages[0].Info.Name, test.packages[1].Info.Name, n.Mode, n.Owner, test.want)
		}
		if folders := tree.Folders(test.packages); folders["srv"].Mode.Perm() != test.want {
			t.Errorf("%s, %s: Folders gives %v, want %v", test.packages[0].Info.Name, test.packages[1].Info.Name, folders["srv"].Mode, test.want)
		}
	}
}

func TestDeviations(t *testing.T) {
	base := pkg("base", "d 0755 usr\nd 0755 usr/lib\nl 0777 lib usr/lib\nf 0644 etc/f x")
	moved := pkg("moved", "d 0755 lib\nf 0644 lib/x x\nf 0644 etc/f y", "replaces=base")
	plain := pkg("plain", "d 0755 usr\nf 0644 usr/y y")
	tree := install(t, base, moved, plain)
	tests := []struct {
		of   *rootfs.Package
		want []rootfs.Deviation
	}{
		{base, []rootfs.Deviation{{Path: "etc/f", Lost: true}}},
		{moved, []rootfs.Deviation{{Path: "lib", To: "usr/lib"}, {Path: "lib/x", To: "usr/lib/x"}}},
		{plain, nil},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, tree.Deviations(test.of)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.of.Info.Name, diff)
		}
	}
}

// What is edited stands above what the package brought, and the package's own
// archive stays as it was.
func TestEdits(t *testing.T) {
	tree := install(t, pkg("base", "d 0755 etc\nf 0644 etc/passwd root:x:0:0:root:/root:/bin/sh\nf 0755 tool x\nh 0000 alias tool"))
	tree.Epoch = 7
	before := archive(t, tree, rootfs.ArchiveOptions{Installed: true})
	for _, err := range []error{
		tree.AddGroup(rootfs.Group{Name: "www", GID: 82}),
		tree.AddGroup(rootfs.Group{Name: "www", GID: 82, Members: []string{"a"}}),
		tree.AddGroup(rootfs.Group{Name: "www", GID: 82, Members: []string{"a", "b"}}),
		tree.AddUser(rootfs.User{Name: "www", UID: 82, GID: 82, Comment: "web", Home: "/srv/www", Shell: "/bin/false"}),
		tree.AddUser(rootfs.User{Name: "www", UID: 82, GID: 82}),
		tree.Chown("alias", 82, 82),
		tree.Chmod("tool", fs.ModeSetuid|0o755),
		tree.Chmod("etc", 0o700),
		tree.Symlink("/tool", "etc/link"),
		tree.Device("dev/null", 0o666, 1, 3),
		tree.Mkdir("etc", 0o777, 5, 5),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := `f4755 82:82 /alias 2d711642 base (edited)
d0755 0:0 /dev
c0666 0:0 /dev/null 1:3
d0700 0:0 /etc base (edited)
f0644 0:0 /etc/group 79a7efb0
l0777 0:0 /etc/link -> /tool
f0644 0:0 /etc/passwd 5c0d5ba3 base (edited)
f0640 0:0 /etc/shadow 12ed3383
d0755 0:0 /srv
d0700 82:82 /srv/www
f4755 82:82 /tool = /alias base (edited)
`
	if diff := cmp.Diff(want, listing(t, tree)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for file, want := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww:x:82:82:web:/srv/www:/bin/false\n",
		"etc/group":  "www:x:82:a,b\n",
		"etc/shadow": "www:!:::::::\n",
	} {
		if got, err := tree.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", file, got, err, want)
		}
	}
	after := archive(t, tree, rootfs.ArchiveOptions{Installed: true, Include: func(n *rootfs.Node) bool { return n.Owner == "base" }})
	if !bytes.Equal(before, after) {
		t.Error("the archive of what the package brought changed with the edits")
	}
}

func TestRefusedEdits(t *testing.T) {
	tree := install(t, pkg("base", "d 0755 etc\nf 0644 etc/passwd root:x:0:0:root:/root:/bin/sh\nf 0644 etc/group root:x:0:\nl 0777 loop loop"))
	tests := []struct {
		summary string
		err     error
		want    string
	}{
		{"another id", tree.AddUser(rootfs.User{Name: "root", UID: 5, GID: 5}), `user "root" is there already with other ids: root:x:0:0:root:/root:/bin/sh`},
		{"another group id", tree.AddGroup(rootfs.Group{Name: "root", GID: 5}), `group "root" is there already with another id: root:x:0:`},
		{"a line in a name", tree.AddUser(rootfs.User{Name: "a:x:0:0\nb", UID: 5, GID: 5}), `"a:x:0:0\nb" cannot be the name of a user or group`},
		{"a line in a shell", tree.AddUser(rootfs.User{Name: "a", UID: 5, GID: 5, Shell: "/bin/sh\nb:x:0:0::/:/bin/sh"}), `user "a": "/bin/sh\nb:x:0:0::/:/bin/sh" holds a colon or a line break`},
		{"a folder in a file's place", tree.Mkdir("etc/passwd", 0o755, 0, 0), "make folder /etc/passwd: it is a file"},
		{"below a file", tree.WriteFile("etc/passwd/x", nil, 0), "etc/passwd/x: /etc/passwd is a file, not a folder"},
		{"a link over a file", tree.Symlink("x", "etc/passwd"), "make symbolic link /etc/passwd: it is a file already"},
		{"through a circle", tree.WriteFile("loop/x", nil, 0), "loop: too many symbolic links"},
		{"what is not there", tree.Chmod("nothing", 0), "change mode of /nothing: file does not exist"},
	}
	for _, test := range tests {
		if test.err == nil || test.err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", test.summary, test.err, test.want)
		}
	}
}

func archive(t *testing.T, tree *rootfs.Tree, o rootfs.ArchiveOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tree.Archive(o).Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchive(t *testing.T) {
	tree := install(t, pkg("base", "d 0755 etc\nf 0644 etc/passwd www:x:82:83:::\nf 0644 etc/group web:x:83:\nf 4755 su x\nh 0000 alias su\nl 0777 l su"))
	tree.Epoch = 99
	if err := errors.Join(tree.Chown("l", 82, 83), tree.Device("dev/tty", 0o620, 5, 0), tree.WriteFile("new", []byte("n"), 0)); err != nil {
		t.Fatal(err)
	}
	tree.Archive(rootfs.ArchiveOptions{})
	n, _ := tree.Lstat("su")
	n.Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00"}
	var got []string
	for h, err := range headers(archive(t, tree, rootfs.ArchiveOptions{})) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%c %04o %s:%s %d %s %s%q", h.Typeflag, h.Mode, h.Uname, h.Gname, h.ModTime.Unix(), h.Name, h.Linkname, h.PAXRecords["SCHILY.xattr.security.capability"]))
	}
	want := []string{
		`0 4755 root:root 1000 alias "\x01\x00\x00\x02\x00"`,
		`5 0755 root:root 0 dev/ ""`,
		`3 0620 root:root 99 dev/tty ""`,
		`5 0755 root:root 0 etc/ ""`,
		`0 0644 root:root 1000 etc/group ""`,
		`0 0644 root:root 1000 etc/passwd ""`,
		`2 0777 : 1000 l su""`,
		`0 0644 root:root 99 new ""`,
		`1 4755 root:root 1000 su alias""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func headers(data []byte) func(func(*tar.Header, error) bool) {
	return func(yield func(*tar.Header, error) bool) {
		r := tar.NewReader(bytes.NewReader(data))
		for {
			h, err := r.Next()
			if err == io.EOF || !yield(h, err) || err != nil {
				return
			}
		}
	}
}

// Whatever the packages are and in whichever order maps give them: the archive has
// the same bytes each time, its order is that of paths, every folder comes before
// what is in it, and archives of equal description are equal.
func TestArchiveIsCanonical(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		make := func() *rootfs.Tree {
			r := rand.New(rand.NewPCG(seed, 2))
			var packages []*rootfs.Package
			for i := range 4 {
				var b strings.Builder
				for j := range 30 {
					dir := []string{"usr/bin", "usr/lib/x", "etc", "a-b", "a"}[r.IntN(5)]
					fmt.Fprintf(&b, "f 0%o %s/p%d-%d content%d\n", []int{0o644, 0o755, 0o4755}[r.IntN(3)], dir, i, j, r.IntN(9))
				}
				packages = append(packages, pkg(fmt.Sprint("p", i), b.String()))
			}
			return install(t, packages...)
		}
		include := map[string]bool{}
		for i := range 4 {
			include[fmt.Sprint("p", i)] = r.IntN(2) == 0
		}
		o := rootfs.ArchiveOptions{Include: func(n *rootfs.Node) bool { return include[n.Owner] }}
		a, b := make(), make()
		one, two := archive(t, a, o), archive(t, b, o)
		if !bytes.Equal(one, two) {
			t.Fatalf("seed %d: two archives of one tree differ", seed)
		}
		var d1, d2 bytes.Buffer
		if err := errors.Join(a.Archive(o).Describe(&d1), b.Archive(o).Describe(&d2)); err != nil || !bytes.Equal(d1.Bytes(), d2.Bytes()) {
			t.Fatalf("seed %d: two descriptions of one archive differ (%v)", seed, err)
		}
		seen := map[string]bool{".": true}
		var names []string
		for h, err := range headers(one) {
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(h.Name, "/")
			if !seen[path.Dir(name)] {
				t.Errorf("seed %d: %s comes before its folder", seed, name)
			}
			seen[name] = true
			names = append(names, name)
		}
		if !slices.IsSorted(names) {
			t.Errorf("seed %d: paths are not sorted", seed)
		}
	}
}

// Every byte of an archive that can change changes its description.
func TestDescribe(t *testing.T) {
	describe := func(edit func(*rootfs.Tree, *rootfs.Node)) string {
		tree := install(t, pkg("a", "d 0755 etc\nf 0644 etc/f x"))
		n, _ := tree.Lstat("etc/f")
		if edit != nil {
			edit(tree, n)
		}
		var b strings.Builder
		if err := tree.Archive(rootfs.ArchiveOptions{}).Describe(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	seen := map[string]string{describe(nil): "nothing"}
	for name, edit := range map[string]func(*rootfs.Tree, *rootfs.Node){
		"mode":    func(_ *rootfs.Tree, n *rootfs.Node) { n.Mode = 0o600 },
		"setuid":  func(_ *rootfs.Tree, n *rootfs.Node) { n.Mode |= fs.ModeSetuid },
		"user":    func(_ *rootfs.Tree, n *rootfs.Node) { n.UID = 5 },
		"group":   func(_ *rootfs.Tree, n *rootfs.Node) { n.GID = 5 },
		"time":    func(_ *rootfs.Tree, n *rootfs.Node) { n.ModTime++ },
		"content": func(_ *rootfs.Tree, n *rootfs.Node) { n.Sum = "other" },
		"size":    func(_ *rootfs.Tree, n *rootfs.Node) { n.Size++ },
		"xattr":   func(_ *rootfs.Tree, n *rootfs.Node) { n.Xattrs = map[string]string{"user.a": "b"} },
		"file":    func(t *rootfs.Tree, _ *rootfs.Node) { _ = t.WriteFile("g", nil, 0) },
		"link":    func(t *rootfs.Tree, _ *rootfs.Node) { _ = t.Symlink("a", "g") },
		"target":  func(t *rootfs.Tree, _ *rootfs.Node) { _ = t.Symlink("b", "g") },
		"device":  func(t *rootfs.Tree, _ *rootfs.Node) { _ = t.Device("g", 0o666, 1, 2) },
		"numbers": func(t *rootfs.Tree, _ *rootfs.Node) { _ = t.Device("g", 0o666, 1, 3) },
		"folder":  func(t *rootfs.Tree, _ *rootfs.Node) { _ = t.Chmod("etc", 0o700) },
	} {
		d := describe(edit)
		if other, twice := seen[d]; twice {
			t.Errorf("%s and %s have the same description", name, other)
		}
		seen[d] = name
	}
}

func TestBusyboxLinks(t *testing.T) {
	base := pkg("base", "d 0755 usr/bin\nl 0777 bin usr/bin\nd 0755 etc\nf 0755 usr/bin/busybox x\nf 0755 usr/bin/real y\nd 0755 etc/busybox-paths.d")
	list := []byte("/bin/sh\nusr/bin/real\n# none\n\n/sbin/init\n")
	tree := install(t, base)
	if err := tree.WriteFile("etc/busybox-paths.d/busybox", list, 0); err != nil {
		t.Fatal(err)
	}
	made, err := tree.BusyboxLinks()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"bin/sh", "sbin/init"}, made); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n, found := tree.Lstat("bin/sh"); !found || n.Path != "usr/bin/sh" || n.Target != "/bin/busybox" {
		t.Errorf("got %+v, want a link to /bin/busybox at usr/bin/sh", n)
	}
	if n, found := tree.Stat("bin/real"); !found || n.Owner != "base" {
		t.Errorf("got %+v, want the package's own file", n)
	}
	for _, bad := range []string{"/", "..", "/bin/"} {
		if err := tree.WriteFile("etc/busybox-paths.d/bad", []byte(bad+"\n"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := tree.BusyboxLinks(); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	none := install(t, pkg("a", "f 0644 etc/busybox-paths.d/x /bin/sh"))
	if made, err := none.BusyboxLinks(); err != nil || made != nil {
		t.Errorf("got %v, %v without busybox, want nothing", made, err)
	}
}

func TestLibraryPath(t *testing.T) {
	const conf = "f 0644 etc/ld.so.conf.d/x.conf /opt/x/lib\n"
	tests := []struct{ summary, listing, want string }{
		{"nothing is needed", "f 0755 lib/ld-musl-x86_64.so.1 x", ""},
		{"a folder is needed", "f 0755 lib/ld-musl-x86_64.so.1 x\nd 0755 opt/x/lib\n" + conf, "/lib\n/usr/local/lib\n/usr/lib\n/opt/x/lib\n"},
		{"the folder is not there", "f 0755 lib/ld-musl-x86_64.so.1 x\n" + conf, ""},
		{"another loader", "f 0755 lib/ld-musl-aarch64.so.1 x\nd 0755 opt/x/lib\n" + conf, ""},
		{"a package brings the file", "f 0755 lib/ld-musl-x86_64.so.1 x\nd 0755 opt/x/lib\nf 0644 etc/ld-musl-x86_64.path /own\n" + conf, "/own"},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			tree := install(t, pkg("a", test.listing))
			if _, err := tree.LibraryPath("x86_64"); err != nil {
				t.Fatal(err)
			}
			got, err := tree.ReadFile("etc/ld-musl-x86_64.path")
			if err != nil && !errors.Is(err, fs.ErrNotExist) || string(got) != test.want {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// Whatever links and paths two packages have, installing ends, nothing leads out
// of the tree, and every path of the tree has its folders.
func FuzzInstall(f *testing.F) {
	f.Add("l 0777 a b\nl 0777 b ../../..", "f 0644 a/x y")
	f.Add("d 0755 usr/lib\nl 0777 lib usr/lib", "d 0755 lib\nf 0644 lib/x y\nh 0 lib/y lib/x")
	f.Add("l 0777 a /a/a", "f 0644 a/a/a x")
	f.Fuzz(func(t *testing.T, first, second string) {
		safe := func(name, text string) *rootfs.Package {
			var kept strings.Builder
			for line := range strings.Lines(text) {
				fields := strings.Fields(line)
				if len(fields) < 3 || !strings.Contains("dflh", fields[0]) || strings.Trim(fields[1], "01234567") != "" || len(fields[1]) > 5 || len(fields[0]) != 1 {
					continue
				}
				kept.WriteString(strings.Join(fields[:min(len(fields), 4)], " ") + "\n")
			}
			return pkg(name, kept.String())
		}
		tree := rootfs.New()
		for _, p := range []*rootfs.Package{safe("a", first), safe("b", second)} {
			if err := tree.Install(p); err != nil {
				return
			}
		}
		for n := range tree.All() {
			if !fs.ValidPath(n.Path) || n.Path == "." {
				t.Fatalf("path %q", n.Path)
			}
			if dir := path.Dir(n.Path); dir != "." {
				if d, found := tree.Lstat(dir); !found || !d.Mode.IsDir() {
					t.Fatalf("/%s stands in no folder", n.Path)
				}
			}
		}
	})
}

// 100 packages of 4,000 files, as the environment of a large build.
func BenchmarkConflicts(b *testing.B) {
	var packages []*rootfs.Package
	for i := range 100 {
		p := &rootfs.Package{Info: &apk.Info{Name: fmt.Sprint("p", i), Version: "1-r0"}}
		for _, dir := range []string{"usr", "usr/share", fmt.Sprint("usr/share/p", i)} {
			p.Entries = append(p.Entries, rootfs.Entry{Path: dir, Inode: rootfs.Inode{Mode: fs.ModeDir | 0o755}})
		}
		for j := range 4000 {
			p.Entries = append(p.Entries, rootfs.Entry{Path: fmt.Sprintf("usr/share/p%d/file%d", i, j), Inode: rootfs.Inode{Mode: 0o644, Size: 1, Sum: "x"}})
		}
		packages = append(packages, p)
	}
	b.ResetTimer()
	for b.Loop() {
		if _, err := rootfs.Conflicts(packages); err != nil {
			b.Fatal(err)
		}
	}
}
