package step

import (
	"context"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/recipes"
)

// tree makes a work folder of lines: "path/" is a folder, "path -> target" a link, all
// else a file that holds its own path. Paths are below melange-out.
func tree(t *testing.T, lines ...string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	for _, line := range lines {
		name, target, isLink := strings.Cut(path.Join(OutPath, line), " -> ")
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		switch {
		case isLink:
			err = root.Symlink(target, name)
		case strings.HasSuffix(line, "/"):
			err = root.MkdirAll(name, 0o755)
		default:
			err = root.WriteFile(name, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// list gives everything that is no folder, and folders that are empty.
func list(t *testing.T, root *os.Root) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(root.FS(), OutPath, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		short := strings.TrimPrefix(name, OutPath+"/")
		switch {
		case d.IsDir():
			if entries, err := fs.ReadDir(root.FS(), name); err != nil || len(entries) == 0 {
				all = append(all, short+"/")
				return err
			}
		case d.Type() == fs.ModeSymlink:
			target, err := root.Readlink(name)
			if err != nil {
				return err
			}
			all = append(all, short+" -> "+target)
		default:
			all = append(all, short)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		name  string
		step  recipes.Step
		tree  []string
		want  []string
		fails string
	}{
		{
			name: "dev takes headers, pkg-config, static libraries and the linker's links",
			step: recipes.Step{Native: "split/dev", Package: "z-dev", Inputs: map[string]string{"prefix": "/usr"}},
			tree: []string{"z/usr/include/z.h", "z/usr/lib/pkgconfig/z.pc", "z/usr/lib/libz.a", "z/usr/lib/libz.so.1.3", "z/usr/lib/libz.so.1 -> libz.so.1.3", "z/usr/lib/libz.so -> libz.so.1.3", "z/usr/bin/z", "z/usr/bin/z-config"},
			want: []string{"z-dev/usr/bin/z-config", "z-dev/usr/include/z.h", "z-dev/usr/lib/libz.a", "z-dev/usr/lib/libz.so -> libz.so.1.3", "z-dev/usr/lib/pkgconfig/z.pc", "z/usr/bin/z", "z/usr/lib/libz.so.1 -> libz.so.1.3", "z/usr/lib/libz.so.1.3"},
		},
		{
			name: "a plugin without a version is no link for the linker",
			step: recipes.Step{Native: "split/dev", Package: "z-dev", Inputs: map[string]string{"prefix": "/usr"}},
			tree: []string{"z/usr/lib/z/plugin.so", "z/usr/lib/libz.so"},
			want: []string{"z/usr/lib/libz.so", "z/usr/lib/z/plugin.so"},
		},
		{
			name: "folders that both sides have become one",
			step: recipes.Step{Native: "split/dev", Package: "z-dev", Inputs: map[string]string{"prefix": "/usr"}},
			tree: []string{"z/usr/include/a.h", "z-dev/usr/include/b.h"},
			want: []string{"z-dev/usr/include/a.h", "z-dev/usr/include/b.h", "z/"},
		},
		{
			name: "manpages from another package",
			step: recipes.Step{Native: "split/manpages", Package: "z-doc", Inputs: map[string]string{"package": "z-tools"}},
			tree: []string{"z/usr/share/man/man3/z.3", "z-tools/usr/share/man/man1/z.1"},
			want: []string{"z-doc/usr/share/man/man1/z.1", "z-tools/", "z/usr/share/man/man3/z.3"},
		},
		{
			name: "static libraries of lib and usr",
			step: recipes.Step{Native: "split/static", Package: "z-static"},
			tree: []string{"z/usr/lib/libz.a", "z/usr/lib/sub/liby.a", "z/lib/libx.a", "z/usr/lib/libz.so.1", "z/opt/libw.a"},
			want: []string{"z-static/lib/libx.a", "z-static/usr/lib/libz.a", "z-static/usr/lib/sub/liby.a", "z/opt/libw.a", "z/usr/lib/libz.so.1"},
		},
		{
			name: "libraries by pattern",
			step: recipes.Step{Native: "split/lib", Package: "libz", Inputs: map[string]string{"patterns": "z"}},
			tree: []string{"z/usr/lib/libz.so.1", "z/usr/lib/liby.so.1"},
			want: []string{"libz/usr/lib/libz.so.1", "z/usr/lib/liby.so.1"},
		},
		{
			name: "libraries of further folders",
			step: recipes.Step{Native: "split/lib", Package: "libz", Inputs: map[string]string{"paths": "/usr/lib/z"}},
			tree: []string{"z/usr/lib/z/libz.so.1", "z/usr/lib/other/libz.so.1"},
			want: []string{"libz/usr/lib/z/libz.so.1", "z/usr/lib/other/libz.so.1"},
		},
		{
			name: "all documents; the index of info pages goes",
			step: recipes.Step{Native: "split/alldocs", Package: "z-doc"},
			tree: []string{"z/usr/share/info/z.info", "z/usr/share/info/dir", "z/usr/share/doc/z/README", "z/usr/share/man/man1/z.1"},
			want: []string{"z-doc/usr/share/doc/z/README", "z-doc/usr/share/info/z.info", "z-doc/usr/share/man/man1/z.1", "z/"},
		},
		{
			name: "documents of usr/local are as those of usr",
			step: recipes.Step{Native: "split/alldocs", Package: "z-doc"},
			tree: []string{"z/usr/local/share/doc/z/README", "z/usr/share/doc/z/NEWS", "z/usr/local/share/man/man1/z.1", "z/usr/man/man1/y.1", "z/usr/local/bin/z"},
			want: []string{"z-doc/usr/share/doc/z/NEWS", "z-doc/usr/share/doc/z/README", "z-doc/usr/share/man/man1/y.1", "z-doc/usr/share/man/man1/z.1", "z/usr/local/bin/z"},
		},
		{
			name: "manual pages of other folders come together",
			step: recipes.Step{Native: "split/manpages", Package: "z-doc"},
			tree: []string{"z/usr/share/man/man1/z.1", "z/usr/local/share/man/man1/x.1", "z/usr/man/man8/y.8", "z/usr/share/doc/z/README"},
			want: []string{"z-doc/usr/share/man/man1/x.1", "z-doc/usr/share/man/man1/z.1", "z-doc/usr/share/man/man8/y.8", "z/usr/share/doc/z/README"},
		},
		{
			name: "info pages, and their index goes",
			step: recipes.Step{Native: "split/infodir", Package: "z-doc"},
			tree: []string{"z/usr/share/info/dir", "z/usr/share/info/z.info"},
			want: []string{"z-doc/usr/share/info/z.info", "z/"},
		},
		{
			name: "translations",
			step: recipes.Step{Native: "split/locales", Package: "z-lang"},
			tree: []string{"z/usr/share/locale/de/LC_MESSAGES/z.mo", "z/usr/share/z/text"},
			want: []string{"z-lang/usr/share/locale/de/LC_MESSAGES/z.mo", "z/usr/share/z/text"},
		},
		{
			name: "programs of the main package",
			step: recipes.Step{Native: "split/bin", Package: "tools"},
			tree: []string{"z/usr/bin/z", "z/usr/bin/y -> z", "z/usr/bin/sub/x", "z/usr/lib/libz.so.1"},
			want: []string{"tools/usr/bin/sub/x", "tools/usr/bin/y -> z", "tools/usr/bin/z", "z/usr/lib/libz.so.1"},
		},
		{
			name: "programs of the package X for X-bin",
			step: recipes.Step{Native: "split/bin", Package: "libz-bin"},
			tree: []string{"z/usr/bin/z", "libz/usr/bin/zz"},
			want: []string{"libz-bin/usr/bin/zz", "libz/", "z/usr/bin/z"},
		},
		{
			name:  "no programs",
			step:  recipes.Step{Native: "split/bin", Package: "z-bin"},
			tree:  []string{"z/usr/lib/z"},
			fails: "split/bin: z has no folder usr/bin",
		},
		{
			name: "development files of all kinds",
			step: recipes.Step{Native: "split/dev", Package: "z-dev", Inputs: map[string]string{"prefix": "/usr"}},
			tree: []string{"z/usr/bin/z_config", "z/usr/share/cmake/z.cmake", "z/usr/lib/cmake/z.cmake", "z/usr/share/vala/vapi/z.vapi", "z/usr/share/gir-1.0/z.gir", "z/usr/lib/qt6/mkspecs/z.pri", "z/usr/share/aclocal/z.m4",
				"z/usr/lib/z/include/z.h", "z/opt/z/include/z.h", "z/opt/z/z.h", "z/lib/libz.so -> libz.so.1", "z/lib/libz.a", "z/usr/lib/z/crt.o", "z/usr/lib/libz.prl", "z/usr/share/z/example.c", "z/usr/share/gir/z"},
			want: []string{"z-dev/lib/libz.a", "z-dev/lib/libz.so -> libz.so.1", "z-dev/opt/z/include/z.h", "z-dev/usr/bin/z_config", "z-dev/usr/lib/cmake/z.cmake", "z-dev/usr/lib/libz.prl", "z-dev/usr/lib/qt6/mkspecs/z.pri",
				"z-dev/usr/lib/z/crt.o", "z-dev/usr/lib/z/include/z.h", "z-dev/usr/share/aclocal/z.m4", "z-dev/usr/share/cmake/z.cmake", "z-dev/usr/share/gir-1.0/z.gir", "z-dev/usr/share/vala/vapi/z.vapi", "z-dev/usr/share/z/example.c",
				"z/opt/z/z.h", "z/usr/share/gir/z"},
		},
		{
			name: "development files below another prefix",
			step: recipes.Step{Native: "split/dev", Package: "z-dev", Inputs: map[string]string{"prefix": "//opt/[z]/usr/"}},
			tree: []string{"z/opt/[z]/usr/lib/pkgconfig/z.pc", "z/opt/[z]/usr/lib/libz.so -> libz.so.1", "z/opt/[z]/lib/libz.so -> libz.so.1", "z/opt/z/usr/lib/pkgconfig/z.pc", "z/usr/lib/libz.so -> libz.so.1", "z/usr/lib/libz.a"},
			want: []string{"z-dev/opt/[z]/lib/libz.so -> libz.so.1", "z-dev/opt/[z]/usr/lib/libz.so -> libz.so.1", "z-dev/opt/[z]/usr/lib/pkgconfig/z.pc", "z/opt/z/usr/lib/pkgconfig/z.pc", "z/usr/lib/libz.a", "z/usr/lib/libz.so -> libz.so.1"},
		},
		{
			name:  "a prefix that leads out",
			step:  recipes.Step{Native: "split/dev", Package: "z-dev", Inputs: map[string]string{"prefix": "../other"}},
			tree:  []string{"z/x"},
			fails: `split/dev: prefix "../other" leads out of the package`,
		},
		{
			name: "libraries by patterns, a line each",
			step: recipes.Step{Native: "split/lib", Package: "libz", Inputs: map[string]string{"patterns": "z*\n  y?\n\n", "paths": "opt/lib\n./usr/lib64/\n"}},
			tree: []string{"z/lib/libzz.so.1", "z/usr/lib/liby1.so.1", "z/usr/lib/liby.so.1", "z/usr/lib/sub/libz.so.1", "z/opt/lib/libz.so.1 -> x", "z/usr/lib64/libz.so.2", "z/usr/lib/libz.so.d/x"},
			want: []string{"libz/lib/libzz.so.1", "libz/opt/lib/libz.so.1 -> x", "libz/usr/lib/liby1.so.1", "libz/usr/lib64/libz.so.2", "z/usr/lib/liby.so.1", "z/usr/lib/libz.so.d/x", "z/usr/lib/sub/libz.so.1"},
		},
		{
			name: "all libraries by a star",
			step: recipes.Step{Native: "split/lib", Package: "libz", Inputs: map[string]string{"patterns": "*"}},
			tree: []string{"z/usr/lib/module.so.1", "z/usr/lib/module.so"},
			want: []string{"libz/usr/lib/module.so.1", "z/usr/lib/module.so"},
		},
		{
			name:  "a malformed pattern",
			step:  recipes.Step{Native: "split/lib", Package: "libz", Inputs: map[string]string{"patterns": "["}},
			tree:  []string{"z/x"},
			fails: `split/lib: pattern "lib[.so.*" is malformed`,
		},
		{
			name: "a package that installed nothing gives nothing",
			step: recipes.Step{Native: "split/dev", Package: "z-dev", Inputs: map[string]string{"prefix": "/usr"}},
			tree: []string{"other/x"},
			want: []string{"other/x"},
		},
		{
			name:  "a package can't be split into itself",
			step:  recipes.Step{Native: "split/dev", Package: "z"},
			tree:  []string{"z/usr/include/z.h"},
			fails: "to itself",
		},
		{
			name:  "a package's name is no path",
			step:  recipes.Step{Native: "split/dev", Package: "z-dev", Inputs: map[string]string{"package": "../../etc"}},
			tree:  []string{"z/x"},
			fails: `package "../../etc" is no name`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := tree(t, test.tree...)
			err := Do(context.Background(), Context{Work: root, Main: "z"}, test.step)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("got %v, want %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, list(t, root)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A link of the work folder that leads out of it must not move anything there.
func TestSplitStaysInTheWorkFolder(t *testing.T) {
	outside := t.TempDir()
	root := tree(t, "z/usr/include/z.h", "z-dev -> "+outside)
	if err := Do(context.Background(), Context{Work: root, Main: "z"}, recipes.Step{Native: "split/dev", Package: "z-dev"}); err == nil {
		t.Error("a package folder that leads out of the work folder was used")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

func TestPathsStayBelow(t *testing.T) {
	for _, test := range []struct{ folder, path, want string }{
		{".", "a/b", "a/b"}, {"x", "a", "x/a"}, {"x", "../a", "a"}, {".", "", "."}, {"x", "/home/build/a", "a"}, {"x", "/home/build", "."},
		{".", "../a", ""}, {"x", "../../a", ""}, {".", "/etc", ""}, {".", "/home/building", ""}, {"x", "/home/build/../x", ""},
	} {
		got, err := below(test.folder, test.path)
		if (err == nil) != (test.want != "") || got != test.want {
			t.Errorf("below(%q, %q): got %q, %v, want %q", test.folder, test.path, got, err, test.want)
		}
	}
}

// Folders that keep their owner out move for whoever builds, and keep their modes. Run
// the tests as an ordinary user too: root gets in anywhere.
func TestSplitClosedFolders(t *testing.T) {
	root := tree(t, "a/usr/share/doc/x/locked/f", "a/usr/share/doc/x/g", "a/usr/lib/keep", "a-doc/")
	modes := map[string]fs.FileMode{"usr/share/doc/x/locked": 0, "usr/share/doc/x": 0o555, "usr/share/doc": 0o555, "usr/share": 0o555, "usr/lib": 0o500}
	for _, name := range []string{"usr/share/doc/x/locked", "usr/share/doc/x", "usr/share/doc", "usr/share", "usr/lib"} {
		if err := root.Chmod("melange-out/a/"+name, modes[name]); err != nil {
			t.Fatal(err)
		}
	}
	step := recipes.Step{Native: "split/alldocs", Package: "a-doc"}
	if err := Do(t.Context(), Context{Work: root, Main: "a"}, step); err != nil {
		t.Fatal(err)
	}
	for name, mode := range modes {
		at := "melange-out/a-doc/" + name
		if name == "usr/lib" {
			at = "melange-out/a/" + name
		}
		info, err := root.Stat(at)
		if err != nil && name != "usr/share/doc/x/locked" { // behind what is closed again
			t.Error(err)
		} else if err == nil && info.Mode().Perm() != mode {
			t.Errorf("%s has the mode %v, want %v", at, info.Mode(), mode)
		}
	}
	for _, name := range []string{"melange-out/a/usr/lib", "melange-out/a-doc/usr/share", "melange-out/a-doc/usr/share/doc", "melange-out/a-doc/usr/share/doc/x", "melange-out/a-doc/usr/share/doc/x/locked"} {
		if err := root.Chmod(name, 0o755); err != nil { // for who clears up
			t.Error(err)
		}
	}
}
