package check_test

import (
	"debug/elf"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tarn-build/tarn/build/check"
	"github.com/tarn-build/tarn/build/inspect/elftest"
	"github.com/tarn-build/tarn/pkg/diag"
)

// tree makes files: "path" or "path what", where what is a mode, the name of an ELF file
// below, "=" and the content, or "-> " and the target of a link; one whose path ends in a slash is a folder.
func tree(paths ...string) fstest.MapFS {
	modes := map[string]fs.FileMode{"4755": 0o755 | fs.ModeSetuid, "2755": 0o755 | fs.ModeSetgid, "1755": 0o755 | fs.ModeSticky, "0666": 0o666, "0644": 0o644, "link": 0o777 | fs.ModeSymlink}
	files := fstest.MapFS{}
	for _, text := range paths {
		name, what, _ := strings.Cut(text, " ")
		file := &fstest.MapFile{Data: []byte("x"), Mode: 0o644}
		if target, isLink := strings.CutPrefix(what, "-> "); isLink {
			file.Mode, file.Data = modes["link"], []byte(target)
		} else if m, found := modes[what]; found {
			file.Mode = m
		} else if f, found := programs[what]; found {
			file.Data, file.Mode = f.Bytes(), 0o755
		} else if content, found := strings.CutPrefix(what, "="); found {
			file.Data = []byte(content)
		}
		if folder, is := strings.CutSuffix(name, "/"); is {
			name, file.Mode, file.Data = folder, fs.ModeDir|0o755, nil
			if what == "0777" {
				file.Mode = fs.ModeDir | fs.ModeSticky | 0o777
			}
		}
		files[name] = file
	}
	return files
}

// programs are ELF files by what is in them.
var programs = map[string]elftest.File{
	"plain":            {},
	"for i386":         {Machine: elf.EM_386},
	"for aarch64":      {Machine: elf.EM_AARCH64},
	"for bpf":          {Machine: elf.EM_BPF},
	"with .debug_info": {Sections: map[string]string{".debug_info": "x"}},
	"with .zdebug":     {Sections: map[string]string{".zdebug_line": "x"}},
	"with gdb scripts": {Allocated: map[string]string{".debug_gdb_scripts": "x"}},
	"with empty debug": {Sections: map[string]string{".debug_info": ""}},
}

func rules(t *testing.T, p check.Package, c check.Case) []string {
	t.Helper()
	found, err := check.Run(p)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	everything := diag.Policy{Warn: []string{"documentation", "empty"}}
	for _, problem := range check.Judge(found, "x.yaml", everything, map[string]check.Case{p.Name: c}) {
		names = append(names, problem.Rule)
	}
	return names
}

// large is more than what is worth telling.
var large = "=" + strings.Repeat("0123456789abcdef", 100)

const site = "usr/lib/python3.13/site-packages/"

// Each rule finds what it is for, and leaves alone what only looks like it. A case is one
// path or several with " + " between them.
func TestRules(t *testing.T) {
	cases := map[string]struct{ finds, leaves []string }{
		"dev":              {[]string{"dev/null", "dev/x link"}, []string{"dev/", "usr/dev/x", "development"}},
		"setuidgid":        {[]string{"usr/bin/su 4755", "usr/bin/x 2755", "usr/bin/y 1755"}, []string{"usr/bin/su", "var/spool/ 0777"}},
		"tempdir":          {[]string{"tmp/x", "var/tmp/x", "run/x", "run/nginx/", "var/run/x", "var/run/d/"}, []string{"tmp/", "run/", "var/tmp/", "usr/run/x"}},
		"varempty":         {[]string{"var/empty/x"}, []string{"var/empty/", "var/emptyx"}},
		"worldwrite":       {[]string{"etc/x 0666"}, []string{"etc/x 0644", "etc/y link", "var/spool/ 0777"}},
		"infodir":          {[]string{"usr/share/info/dir"}, []string{"usr/share/x/dir"}},
		"usrmerge":         {[]string{"sbin/x", "bin/x link", "lib/", "lib64/x", "usr/sbin link", "usr/sbin/x"}, []string{"usr/bin/x", "usr/lib/x", "library", "usr/lib/sbin/x", "bin -> usr/bin", "lib64 -> /usr/lib", "usr/sbin -> bin"}},
		"libtool/la-files": {[]string{"usr/lib/libx.la"}, []string{"usr/lib/la", "usr/lib/x.la/"}},
		"opt":              {[]string{"opt/x"}, []string{"opt/", "usr/opt/x"}},
		"srv":              {[]string{"srv/x"}, []string{"srv/"}},
		"usrlocal":         {[]string{"usr/local/bin/x"}, []string{"usr/local/", "usr/local/bin/"}},
		"object":           {[]string{"usr/lib/x.o"}, []string{"usr/lib/crt1.o", "usr/lib/gcc/x86_64-linux/12/crtfastmath.o", "usr/lib/grcrt1.o", "usr/lib/o"}},
		"maninfo":          {[]string{"usr/share/man/man1/x.1", "usr/share/info/x.info"}, []string{"usr/share/man/"}},
		"staticarchive":    {[]string{"usr/lib/libx.a"}, []string{"usr/lib/a", "usr/lib/x.a/"}},
		"sbom":             {[]string{"var/lib/db/sbom/x.txt"}, []string{"var/lib/db/sbom/x.spdx.json", "var/lib/db/sbom/d/x.txt"}},
		"python/docs":      {[]string{site + "docs/"}, []string{site + "x/docs/", site + "docs.py"}},
		"python/test":      {[]string{site + "tests/", site + "test/"}, []string{"usr/lib/python3.13/test/"}},
		"dll":              {[]string{"usr/lib/x.dll"}, []string{"usr/lib/dll", "usr/lib/x.dll/"}},
		"dylib":            {[]string{"usr/lib/x.dylib"}, []string{"usr/lib/x.dylib/"}},
		"strip": {
			[]string{"usr/bin/x with .debug_info", "usr/lib/x.so with .zdebug", "usr/lib/modules/x.ko with .debug_info"},
			[]string{"usr/bin/x plain", "usr/bin/x with gdb scripts", "usr/bin/x with empty debug", "usr/lib/debug/usr/bin/x with .debug_info", "usr/bin/x"},
		},
		"binaryarch": {
			[]string{"usr/bin/x for i386", "usr/lib/x.so.1 for aarch64"},
			[]string{"usr/bin/x plain", "usr/lib/x.so for bpf", "usr/bin/x"},
		},
		"unsupportedarch": {
			[]string{"usr/lib/x/riscv64/plugin", "usr/lib/x/plugin-i386.so", "usr/lib/ppc64le-linux-gnu/x", "usr/share/x_s390x.txt"},
			[]string{"usr/lib/x86_64-linux-gnu/x", "usr/share/x86_64-to-i386.txt", "usr/bin/i386", "usr/share/mipsology/x", "usr/share/sparclines", "usr/lib/x/riscv64/", "usr/lib/x86_64-linux/ldscripts/elf_i386.x", "usr/share/terminfo/b/bsdos-sparc"},
		},
		"nonlinux": {
			[]string{"usr/share/x/windows/x.ini", "usr/share/x/x-darwin.so", "usr/share/MacOS/x", "usr/lib/x/WindowsPaths.cmake", "usr/lib/_osx_support.py", "usr/share/mac-os.txt", "usr/lib/win32api.py"},
			[]string{"usr/share/windowsill/x", "usr/share/x/windows/", "usr/include/xwindow.h", "usr/share/proxosx", "usr/share/twin32", "usr/share/zoneinfo/Australia/Darwin", "usr/share/icons/x/focus-windows.png", "usr/share/i18n/charmaps/WINDOWS-31J"},
		},
		"python/multiple": {
			[]string{
				site + "a/x.py + " + site + "b/x.py", site + "a.py + " + site + "b.cpython-313.so",
				site + "a/x.py + " + site + "b/x.py + " + site + "a.dist-info/RECORD =a/x.py,sha256=1,2",
				site + "a/x.py + " + site + "b/x.py + " + site + "a.dist-info/RECORD =a/x.py + " + site + "b.dist-info/RECORD =b/x.py",
				site + "a/x.py + usr/lib/python3.12/site-packages/a/x.py",
			},
			[]string{
				site + "a/x.py + " + site + "a.py + " + site + "a.libs/x + " + site + "_a.so", site + "a/x.py + " + site + "a.dist-info/RECORD =a/x.py + " + site + "x.pth",
				site + "a/x.py + " + site + "b/x.py + " + site + "a.dist-info/RECORD =a/x.py,,\nb/x.py,,", site + "a/x.py + " + site + "tests/x.py + " + site + "__pycache__/x.pyc",
			},
		},
		"pkgconf":        {[]string{"usr/lib/pkgconfig/x.pc", "usr/share/pkgconfig/x.pc"}, []string{"usr/lib/pkgconfig/", "usr/lib/x/pkgconfig/x.pc"}},
		"lddcheck":       {[]string{"usr/lib/libx.so.1 plain", "usr/lib/x/x.so plain"}, []string{"usr/lib/x.so.conf plain", "usr/bin/x plain", "usr/lib/libx.so link", "usr/lib/libc.so"}},
		"cudaruntimelib": {[]string{"usr/lib/libcuda.so.1", "usr/lib/libnvidia-ml.so"}, []string{"usr/lib/libcudart.so.12", "usr/lib/stubs/libcuda.so"}},
		"duplicate": {
			[]string{"usr/a/x " + large + " + usr/b/x " + large},
			[]string{"usr/a/x " + large + " + usr/b/y " + large, "usr/a/x =small + usr/b/x =small", "usr/a/LICENSE " + large + " + usr/b/LICENSE " + large, "usr/a/x " + large + " + usr/b/x " + large + "-"},
		},
		"documentation": {[]string{"usr/share/x/README", "usr/share/x/x.md", "TODO"}, []string{"usr/share/x/THREAD", "usr/share/x/x.mdx", "usr/share/x.md/"}},
		"empty":         {[]string{"usr/", "var/lib/db/sbom/x.spdx.json"}, []string{"usr/x", "usr/x link"}},
	}
	for _, name := range check.Names() {
		if name == "license-files" {
			continue // it looks at the source: TestLicenseFiles
		}
		test, found := cases[name]
		if !found {
			t.Errorf("rule %s has no case here", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			for _, paths := range test.finds {
				if got := rules(t, check.Package{Name: "x", Arch: "x86_64", Files: tree(strings.Split(paths, " + ")...)}, check.Case{}); !slices.Contains(got, name) {
					t.Errorf("%s is not found", paths)
				}
			}
			for _, paths := range test.leaves {
				if got := rules(t, check.Package{Name: "x", Arch: "x86_64", Files: tree(strings.Split(paths, " + ")...)}, check.Case{}); slices.Contains(got, name) {
					t.Errorf("%s is found", paths)
				}
			}
		})
	}
}

// Where the architecture is not known, those that packages are built for will do.
func TestAnyArchitecture(t *testing.T) {
	for what, want := range map[string]bool{"for aarch64": false, "plain": false, "for i386": true} {
		got := rules(t, check.Package{Name: "x", Files: tree("usr/bin/x " + what)}, check.Case{})
		if slices.Contains(got, "binaryarch") != want {
			t.Errorf("%s: got %v", what, got)
		}
	}
	if got := rules(t, check.Package{Name: "x", Arch: "riscv64", Files: tree("usr/lib/riscv64-linux/x")}, check.Case{}); len(got) > 0 {
		t.Errorf("a package's own architecture: got %v", got)
	}
	if got := rules(t, check.Package{Name: "gcc-riscv64", Arch: "x86_64", Files: tree("usr/lib/riscv64-linux/x")}, check.Case{}); len(got) > 0 {
		t.Errorf("a cross compiler: got %v", got)
	}
}

// Two names of one file are no duplicate.
func TestHardLinks(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, folder := range []string{"a", "b", "c"} {
		if err := root.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := root.WriteFile("a/x", []byte(large), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := root.Link("a/x", "b/x"); err != nil {
		t.Fatal(err)
	}
	if got := rules(t, check.Package{Name: "x", Files: root.FS()}, check.Case{}); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	if err := root.WriteFile("c/x", []byte(large), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := rules(t, check.Package{Name: "x", Files: root.FS()}, check.Case{}); !slices.Equal(got, []string{"duplicate"}) {
		t.Errorf("got %v", got)
	}
}

// What a test of the package looks at needs no word.
func TestAnsweredByTests(t *testing.T) {
	files := tree("usr/lib/pkgconfig/x.pc", "usr/lib/libx.so.1 plain")
	both := []string{"pkgconf", "lddcheck"}
	for _, test := range []struct {
		name string
		c    check.Case
		want []string
	}{
		{"no test", check.Case{}, both},
		{"a test that is not known", check.Case{NoTests: true}, nil},
		{"pipelines", check.Case{Tests: []check.TestStep{{Uses: "test/pkgconf"}, {Uses: "test/tw/ldd-check"}}}, nil},
		{"scripts", check.Case{Tests: []check.TestStep{{Shell: "pkg-config --exists x\n/usr/bin/ldd /usr/lib/libx.so.1"}}}, nil},
		{"something else", check.Case{Tests: []check.TestStep{{Uses: "test/docs", Shell: "echo oldd pkgconfig"}}}, both},
	} {
		if got := rules(t, check.Package{Name: "x", Files: files}, test.c); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestPackagesThatMay(t *testing.T) {
	for _, test := range []struct {
		name  string
		paths []string
		want  []string
	}{
		{"x-doc", []string{"usr/share/man/man1/x.1"}, nil},
		{"x-dev", []string{"usr/lib/libx.a", "usr/lib/x.dll", "usr/lib/x.dylib"}, nil},
		{"x-static", []string{"usr/lib/libx.a"}, nil},
		{"x-compat", []string{"opt/x", "usr/local/bin/x", "srv/x"}, nil},
		{"tells tmpfiles", []string{"usr/lib/tmpfiles.d/x.conf", "run/x/"}, nil},
		{"tells tmpfiles, and brings a file", []string{"usr/lib/tmpfiles.d/x.conf", "run/x"}, []string{"tempdir"}},
	} {
		if got := rules(t, check.Package{Name: test.name, Files: tree(test.paths...)}, check.Case{}); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// The example of a rule is one, and each rule tells its reason and the way out.
func TestRulesExplainThemselves(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range check.All {
		if r.Why == "" || r.Instead == "" || seen[r.Name] {
			t.Errorf("rule %q: why %q, instead %q, or it stands there twice", r.Name, r.Why, r.Instead)
		}
		seen[r.Name] = true
		if r.Name == "license-files" {
			continue
		}
		var paths []string
		for path := range strings.SplitSeq(r.Example, ", ") {
			path = strings.Replace(path, " with mode ", " ", 1)
			switch {
			case strings.HasPrefix(r.Name, "python/"):
				path += "/"
			case r.Name == "lddcheck":
				path += " plain"
			case r.Name == "duplicate":
				path += " " + large
			}
			if path != "" {
				paths = append(paths, path)
			}
		}
		if got := rules(t, check.Package{Name: "x", Arch: "x86_64", Files: tree(paths...)}, check.Case{}); !slices.Contains(got, r.Name) {
			t.Errorf("rule %s does not find its own example %q", r.Name, r.Example)
		}
	}
}

// Licences that the source brings and copyright does not name are found, and those that
// others wrote in it, or that are said in other words, are left alone.
func TestLicenseFiles(t *testing.T) {
	text := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", "licenses", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	mit, zlib := text("MIT.txt"), text("Zlib.txt")
	for _, test := range []struct {
		name      string
		copyright []string
		override  []string
		files     map[string][]byte
		want      string
	}{
		{"named", []string{"MIT"}, nil, map[string][]byte{"LICENSE": mit}, ""},
		{"one of several", []string{"Apache-2.0 OR (MIT AND Zlib)"}, nil, map[string][]byte{"LICENSE-MIT": mit, "doc/COPYING.zlib": zlib}, ""},
		{"another", []string{"Apache-2.0"}, nil, map[string][]byte{"LICENSE.md": mit}, "LICENSE.md is the text of MIT, and the recipe's copyright is Apache-2.0"},
		{"below", []string{"Zlib", "BSD-2-Clause"}, nil, map[string][]byte{"LICENSE": zlib, "lib/COPYING": mit}, "lib/COPYING is the text of MIT, and the recipe's copyright is Zlib AND BSD-2-Clause"},
		{"overridden", []string{"Apache-2.0"}, []string{"MIT"}, map[string][]byte{"LICENSE": mit}, ""},
		{"of others", []string{"Zlib"}, nil, map[string][]byte{"vendor/LICENSE": mit, "node_modules/LICENSE": mit, "a/b/LICENSE": mit, "melange-out/LICENSE": mit}, ""},
		{"not a licence", []string{"Zlib"}, nil, map[string][]byte{"LICENSE": []byte("see the web"), "license.go": mit, "README": mit}, ""},
		{"nothing to hold it against", []string{"LicenseRef-own"}, nil, map[string][]byte{"LICENSE": mit}, ""},
		{"no copyright", nil, nil, map[string][]byte{"LICENSE": mit}, ""},
	} {
		source := fstest.MapFS{}
		for name, data := range test.files {
			source[name] = &fstest.MapFile{Data: data, Mode: 0o644}
		}
		found, err := check.Run(check.Package{Name: "x", Files: tree("usr/x"), Source: source, Licenses: test.copyright, Override: test.override})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range found {
			got = append(got, strings.TrimPrefix(p.Text, "x: "))
		}
		if got := strings.Join(got, "\n"); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// How grave a finding is: the rule says it, then the policy, then the recipe.
func TestJudge(t *testing.T) {
	found, err := check.Run(check.Package{Name: "x", Files: tree("sbin link", "opt/x", "usr/share/README")})
	if err != nil {
		t.Fatal(err)
	}
	both := func(names ...string) check.Case { return check.Case{Disabled: names, Waived: names} }
	for _, test := range []struct {
		name   string
		policy diag.Policy
		c      check.Case
		want   string
	}{
		{"by themselves", diag.Policy{}, check.Case{}, "opt warning, usrmerge error"},
		{"disabled", diag.Policy{}, check.Case{Disabled: []string{"usrmerge", "opt"}}, "opt warning, usrmerge warning"},
		{"waved away", diag.Policy{}, check.Case{Waived: []string{"usrmerge", "opt"}}, "usrmerge warning"},
		{"both", diag.Policy{}, both("usrmerge", "opt"), "usrmerge warning"},
		{"required", diag.Policy{Require: []string{"opt", "documentation"}}, check.Case{}, "documentation error, opt error, usrmerge error"},
		{"required and disabled", diag.Policy{Require: []string{"opt"}}, check.Case{Disabled: []string{"opt", "usrmerge"}}, "opt warning, usrmerge warning"},
		{"only warned", diag.Policy{Warn: []string{"usrmerge"}, Off: []string{"opt"}}, check.Case{}, "usrmerge warning"},
	} {
		var got []string
		for _, p := range check.Judge(found, "x.yaml", test.policy, map[string]check.Case{"x": test.c}) {
			got = append(got, p.Rule+" "+p.Severity.String())
			if p.File != "x.yaml" || p.Package != "x" || p.Path == "" || !strings.HasPrefix(p.Text, "x: "+p.Path+" ") {
				t.Errorf("%s: %+v", test.name, p)
			}
		}
		slices.Sort(got)
		if got := strings.Join(got, ", "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
	if _, err := check.Run(check.Package{Name: "x", Files: broken{}}); err == nil {
		t.Error("a tree that can't be read has no findings and no error")
	}
}

type broken struct{}

func (broken) Open(string) (fs.File, error) { return nil, fs.ErrPermission }
