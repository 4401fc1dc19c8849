package inspect_test

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/inspect"
	"github.com/tarn-build/tarn/build/inspect/elftest"
	"github.com/tarn-build/tarn/pkg/apk"
)

// shared finds the data that other people made.
func shared(t *testing.T, parts ...string) string {
	t.Helper()
	dir := os.Getenv("TARN_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	name := filepath.Join(append([]string{dir}, parts...)...)
	if _, err := os.Stat(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("test data: %v", err)
		}
		t.Skipf("test data: %v (set TARN_SHARED)", err)
	}
	return name
}

// found keeps the dependencies of the kinds that the package finds.
func found(all []apk.Dependency) []string {
	var kept []string
	for _, d := range all {
		for _, kind := range []string{"so:", "cmd:", "pc:", "perl~", "ruby-", "python-", "man-db", "texinfo"} {
			if strings.HasPrefix(d.String(), kind) {
				kept = append(kept, d.String())
			}
		}
	}
	slices.Sort(kept)
	return kept
}

// What melange and abuild found in real packages is found here too.
func TestRealPackages(t *testing.T) {
	for _, test := range []struct {
		file string
		// what tarn rightly finds otherwise
		needsNot, needsToo, providesToo []string
	}{
		{file: "hello-wolfi-2.12.1-r1.apk"},
		{file: "hello-wolfi-2.12.1-r0.apk"},
		// Its libraries are not executable, and melange of its day looked no further.
		{
			file:     "libcap-2.69-r0.apk",
			needsNot: []string{"so:libcap.so.2", "so:libpsx.so.2"}, providesToo: []string{"so:libcap.so.2=2", "so:libpsx.so.2=2"},
		},
		{file: "ruby3.2-base64-0.2.0-r2.apk"},
		// melange of its day looked for no Perl, and its recipe named none.
		{file: "perl-json-4.11-r0.apk", needsToo: []string{"perl~5"}},
	} {
		t.Run(test.file, func(t *testing.T) {
			f, err := os.Open(shared(t, "vectors", test.file))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := environment.Extract(context.Background(), root, f); err != nil {
				t.Fatal(err)
			}
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			reports, err := inspect.Packages([]inspect.Package{{Name: p.Info.Name, Version: p.Info.Version, Files: root.FS()}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			needs := slices.DeleteFunc(found(p.Info.Depends), func(name string) bool { return slices.Contains(test.needsNot, name) })
			needs = append(needs, test.needsToo...)
			provides := append(found(p.Info.Provides), test.providesToo...)
			if diff := cmp.Diff(needs, found(reports[0].Depends)); diff != "" {
				t.Errorf("depends (-melange +tarn):\n%s", diff)
			}
			if diff := cmp.Diff(provides, found(reports[0].Provides)); diff != "" {
				t.Errorf("provides (-melange +tarn):\n%s", diff)
			}
		})
	}
}

// files makes a tree: a value that begins with "-> " is a link, one that begins with
// "+x " is executable.
func files(t *testing.T, all map[string]string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	for name, content := range all {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, isLink := strings.CutPrefix(content, "-> "); isLink {
			err = root.Symlink(target, name)
		} else if text, executable := strings.CutPrefix(content, "+x "); executable {
			err = root.WriteFile(name, []byte(text), 0o755)
		} else {
			err = root.WriteFile(name, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func names(all []apk.Dependency) string {
	words := make([]string, len(all))
	for i, d := range all {
		words[i] = d.String()
	}
	return strings.Join(words, " ")
}

func depend(words ...string) []apk.Dependency {
	var all []apk.Dependency
	for _, w := range words {
		d, err := apk.ParseDependency(w)
		if err != nil {
			panic(err)
		}
		all = append(all, d)
	}
	return all
}

func TestFindings(t *testing.T) {
	for _, test := range []struct {
		name              string
		pkg               inspect.Package
		files             map[string]string
		known             string // what the environment provides
		depends, provides string
	}{
		{
			name:     "programs become commands, and what cannot be run does not",
			files:    map[string]string{"usr/bin/a": "+x #!/bin/sh", "usr/bin/b": "no", "usr/libexec/d": "+x", "sbin/e": "+x "},
			provides: "cmd:a=1.2-r3 cmd:e=1.2-r3",
		},
		{
			name: "links to programs of the same package are commands, others are not",
			files: map[string]string{
				"usr/libexec/a": "+x ", "usr/bin/relative": "-> ../libexec/a", "usr/bin/absolute": "-> /usr/libexec/a", "usr/bin/twice": "-> relative",
				"usr/bin/elsewhere": "-> busybox", "usr/bin/out": "-> ../../../etc/passwd", "usr/bin/text": "-> ../share/text", "usr/share/text": "x",
				"usr/bin/round": "-> around", "usr/bin/around": "-> round", "usr/bin/folder": "-> ../share",
			},
			provides: "cmd:absolute=1.2-r3 cmd:relative=1.2-r3 cmd:twice=1.2-r3",
		},
		{
			name: "scripts need what they are run by",
			files: map[string]string{
				"usr/bin/a": "+x #!/bin/bash -e\n", "usr/bin/b": "+x #!/usr/bin/env perl\n", "usr/bin/c": "+x #! /usr/bin/env -S X=1 node --flag\n",
				"usr/bin/d": "+x #!/usr/bin/env -u X ruby\n", "usr/bin/sub/e": "#!/usr/bin/lua", "usr/bin/f": "+x #!/usr/bin/env python3\n", "usr/bin/g": "+x #!/bin/sh\n",
				"usr/bin/h": "+x #!/usr/lib/x/run\n", "usr/libexec/i": "+x #!/usr/bin/tclsh\n", "usr/bin/j": "+x #!", "usr/bin/k": "+x #!/usr/bin/env\n",
				"usr/bin/l": "+x #!/usr/bin/own\n", "usr/bin/own": "+x x", "usr/local/bin/m": "#!/usr/bin/m4\n", "usr/bin/n": "+x #!/usr/bin/x=y\n",
			},
			depends:  "cmd:bash cmd:lua cmd:m4 cmd:node cmd:perl",
			provides: "cmd:a=1.2-r3 cmd:b=1.2-r3 cmd:c=1.2-r3 cmd:d=1.2-r3 cmd:f=1.2-r3 cmd:g=1.2-r3 cmd:h=1.2-r3 cmd:j=1.2-r3 cmd:k=1.2-r3 cmd:l=1.2-r3 cmd:n=1.2-r3 cmd:own=1.2-r3",
		},
		{
			name:    "no-commands asks for none either",
			pkg:     inspect.Package{NoCommands: true},
			files:   map[string]string{"usr/bin/a": "+x #!/bin/bash\n", "usr/lib/libx.so.1": program(elftest.File{Needed: []string{"liby.so.1"}})},
			depends: "so:liby.so.1",
		},
		{
			name: "programs and libraries, whatever their mode",
			files: map[string]string{
				"usr/bin/a":               "+x " + program(elftest.File{Interpreter: "/lib/ld-musl-x86_64.so.1", Needed: []string{"libz.so.1", "libc.musl-x86_64.so.1", "libplugin.so", "libcuda.so.1", "libown.so.2"}}),
				"usr/lib/libown.so.2.1":   program(elftest.File{Soname: "libown.so.2", Needed: []string{"libm.so.6"}}),
				"usr/lib/libnv.so.1":      program(elftest.File{Soname: "libnvidia-ml.so.1"}),
				"usr/lib/libplain.so":     program(elftest.File{Soname: "libplain.so"}),
				"usr/lib/libodd.so.0beta": program(elftest.File{Soname: "libodd.so.0beta"}),
				"usr/lib/nameless.so":     program(elftest.File{}),
				"usr/bin/jlink":           "+x " + program(elftest.File{Interpreter: "/lib/ld-linux.so.2", Soname: "lib.so.1"}),
			},
			depends:  "so:ld-linux.so.2 so:libc.musl-x86_64.so.1 so:libm.so.6 so:libz.so.1",
			provides: "cmd:a=1.2-r3 cmd:jlink=1.2-r3 so-ver:libodd.so.0beta=1.2-r3 so-ver:libown.so.2=1.2-r3 so-ver:libplain.so=1.2-r3 so:libodd.so.0beta=0 so:libown.so.2=2 so:libplain.so=0",
		},
		{
			name: "libraries of its own are nobody else's",
			files: map[string]string{
				"usr/lib/x/libz.so.1": program(elftest.File{Soname: "libz.so.1"}),
				"usr/bin/x":           "+x " + program(elftest.File{Needed: []string{"libz.so.1", "liby.so.1"}}),
				"usr/lib/x/liby.so.1": program(elftest.File{Soname: "liby.so.1"}),
				"usr/lib/liby.so.1":   "-> x/liby.so.1", "usr/lib/liby.so": "-> x/liby.so.1",
			},
			provides: "cmd:x=1.2-r3 so-ver:liby.so.1=1.2-r3 so:liby.so.1=1",
		},
		{
			name: "folders that the loader is told of",
			files: map[string]string{
				"etc/ld.so.conf.d/x.conf": "# x\n/opt/x/lib\n\nrelative\n", "opt/x/lib/libx.so.3": program(elftest.File{Soname: "libx.so.3"}),
			},
			provides: "so-ver:libx.so.3=1.2-r3 so:libx.so.3=3",
		},
		{
			name:    "a library without a version is asked for where somebody provides it",
			files:   map[string]string{"usr/lib/x/a": program(elftest.File{Needed: []string{"libjvm.so", "libnobody.so"}})},
			known:   "so:libjvm.so",
			depends: "so:libjvm.so",
		},
		{
			name: "modules of languages need the language",
			files: map[string]string{
				"usr/lib/perl5/vendor_perl/JSON.pm": "x", "usr/lib/ruby/gems/3.4.10/gems/x/x.rb": "x", "usr/share/x/venv/lib/python3.13/site-packages/x.py": "x",
				"usr/lib/python3.12/site-packages/x.py": "x", "usr/lib/python3/site-packages/x.py": "x", "usr/lib/perl5/JSON.pm": "x",
			},
			depends: "perl~5 python-3.12-base python-3.13-base ruby-3.4",
		},
		{
			name: "who declares the language is asked for nothing",
			pkg:  inspect.Package{Depends: depend("perl", "python-3.13", "ruby-3.4>3")},
			files: map[string]string{
				"usr/lib/perl5/vendor_perl/JSON.pm": "x", "usr/lib/ruby/gems/3.4.0/gems/x/x.rb": "x", "usr/lib/python3.13/site-packages/x.py": "x",
			},
			depends: "perl python-3.13 ruby-3.4>3",
		},
		{
			name: "kernels and modules, in all ways that they are packed",
			files: map[string]string{
				"boot/vmlinuz": bzImage("6.12.1-bz (x@y) #1"), "boot/vmlinux": "x\x00Linux version 6.12.2-plain+ (gcc)", "boot/arm64": gz("Linux version 6.12.3-gz (gcc)"),
				"boot/zImage": "MZ" + strings.Repeat("x", 70000) + gz("...Linux version 6.12.4-z (gcc)") + "tail", "boot/config": "# Linux/x86 6.12 Kernel Configuration",
				"usr/lib/modules/6.13.1/a.ko": elfModule("6.13.1-a SMP"), "usr/lib/modules/6.13.1/b.ko.gz": gz(elfModule("6.13.2-b SMP")), "lib/modules/6.13.1/c.ko.xz": packXZ(elfModule("6.13.3-c SMP")),
				"lib/modules/6.13.1/k/d.ko.zst": packZstd(elfModule("6.13.4-d SMP")), "lib/modules/6.13.1/e.ko.zst": "broken", "lib/modules/6.13.1/modules.dep": "kernel/a.ko:",
				"usr/share/x.ko": elfModule("6.13.9 SMP"), "lib/modules/6.13.1/own.ko": elfModule("6.12.1-bz SMP"),
			},
			depends:  "linux:6.13.1-a linux:6.13.2-b linux:6.13.3-c linux:6.13.4-d",
			provides: "linux:6.12.1-bz linux:6.12.2-plain linux:6.12.3-gz linux:6.12.4-z",
		},
		{
			name: "Go programs whose cryptography is OpenSSL's",
			files: map[string]string{
				"usr/libexec/a": goProgram("CGO_ENABLED=1", "GOEXPERIMENT=greenteagc,systemcrypto"), "usr/libexec/b": goProgram("CGO_ENABLED=0", "GOEXPERIMENT=systemcrypto"),
			},
			depends: "openssl-config-fipshardened so:libcrypto.so.3",
		},
		{
			name:  "other Go programs",
			files: map[string]string{"usr/libexec/a": goProgram("CGO_ENABLED=1"), "usr/libexec/b": goProgram("CGO_ENABLED=1", "GOEXPERIMENT=greenteagc")},
		},
		{
			name:     "pkg-config modules bear the package's version",
			files:    map[string]string{"usr/lib/pkgconfig/x.pc": "Name: x\nVersion: 9\nRequires: a >= 1.0, b\nRequires.private: c>=2 ${own}\nLibs: -lx\n"},
			depends:  "pc:a pc:b pc:c",
			provides: "pc:x=1.2-r3",
		},
		{
			name:     "a module of the package's own is not needed",
			files:    map[string]string{"usr/lib/pkgconfig/x.pc": "Requires: y\n", "usr/share/pkgconfig/y.pc": "Requires: x\n"},
			provides: "pc:x=1.2-r3 pc:y=1.2-r3",
		},
		{
			name:     "pkg-config files elsewhere are nobody's modules, and need not be others'",
			files:    map[string]string{"usr/lib/x/pkgconfig/x.pc": "Requires: y\n", "usr/lib/pkgconfig/z.pc": "Requires: x, w\n", "usr/lib/pkgconfig/link.pc": "-> z.pc"},
			depends:  "pc:w",
			provides: "pc:z=1.2-r3",
		},
		{
			name:     "no-provides leaves what is declared",
			pkg:      inspect.Package{NoProvides: true, Provides: depend("virtual=1")},
			files:    map[string]string{"usr/bin/a": "+x x"},
			provides: "virtual=1",
		},
		{
			name:     "no-commands",
			pkg:      inspect.Package{NoCommands: true},
			files:    map[string]string{"usr/bin/a": "+x x", "usr/lib/pkgconfig/x.pc": ""},
			provides: "pc:x=1.2-r3",
		},
		{
			name:    "no-depends leaves what is declared",
			pkg:     inspect.Package{NoDepends: true, Depends: depend("musl", "!other")},
			files:   map[string]string{"usr/lib/pkgconfig/x.pc": "Requires: y"},
			depends: "!other musl", provides: "pc:x=1.2-r3",
		},
		{
			name:    "what was declared twice stands once",
			pkg:     inspect.Package{Depends: depend("b", "pc:y", "a", "b")},
			files:   map[string]string{"usr/lib/pkgconfig/x.pc": "Requires: y"},
			depends: "a b pc:y", provides: "pc:x=1.2-r3",
		},
		{
			name:     "a command whose name can't stand in a dependency",
			files:    map[string]string{"usr/bin/a=b": "+x y", "usr/bin/c d": "+x y", "usr/bin/[": "+x y", "usr/bin/g++": "+x y"},
			provides: "cmd:[=1.2-r3 cmd:g++=1.2-r3",
		},
		{
			name:  "what looks like a program and is cut short gives nothing",
			files: map[string]string{"usr/lib/libx.so.1": "\x7fELF\x02\x01\x01", "usr/lib/empty.so": ""},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.pkg.Name, test.pkg.Version, test.pkg.Files = "x", "1.2-r3", files(t, test.files).FS()
			reports, err := inspect.Packages([]inspect.Package{test.pkg}, func(name string) bool { return name == test.known })
			if err != nil {
				t.Fatal(err)
			}
			if got := names(reports[0].Depends); got != test.depends {
				t.Errorf("depends: got %q, want %q", got, test.depends)
			}
			if got := names(reports[0].Provides); got != test.provides {
				t.Errorf("provides: got %q, want %q", got, test.provides)
			}
		})
	}
}

// Documentation needs a reader.
func TestDocumentation(t *testing.T) {
	tree := files(t, map[string]string{"usr/share/man/man1/x.1": "x", "usr/share/info/x.info": "x"})
	for name, want := range map[string]string{"x-doc": "man-db texinfo", "x": ""} {
		reports, err := inspect.Packages([]inspect.Package{{Name: name, Version: "1-r0", Files: tree.FS()}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(reports[0].Depends); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// Packages of one build are looked at together: a link of one leads to a library of
// another, by however many steps.
func TestPackagesOfOneBuild(t *testing.T) {
	pkg := func(name string, all map[string]string) inspect.Package {
		return inspect.Package{Name: name, Version: "1-r0", Files: files(t, all).FS()}
	}
	reports, err := inspect.Packages([]inspect.Package{
		pkg("z-dev", map[string]string{"usr/lib/libz.so": "-> libz.so.1", "usr/lib/libother.so": "-> libother.so.1"}),
		pkg("z", map[string]string{"usr/lib/libz.so.1": "-> libz.so.1.3", "usr/lib/libz.so.1.3": program(elftest.File{Soname: "libz.so.1"})}),
		pkg("z-tools", map[string]string{"usr/libexec/z": program(elftest.File{Needed: []string{"libplain.so", "libx.so.1"}})}),
		pkg("z-plain", map[string]string{"usr/lib/libplain.so": program(elftest.File{Soname: "libplain.so"})}),
		pkg("z-conf", map[string]string{"etc/ld.so.conf.d/z.conf": "/usr/lib/z\n"}),
		pkg("z-extra", map[string]string{"usr/lib/z/libx.so.1": program(elftest.File{Soname: "libx.so.1"})}),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"so:libz.so.1 |", "| so-ver:libz.so.1=1-r0 so:libz.so.1=1", "so:libplain.so so:libx.so.1 |", "| so-ver:libplain.so=1-r0 so:libplain.so=0", "|", "| so-ver:libx.so.1=1-r0 so:libx.so.1=1"} {
		if got := strings.TrimSpace(names(reports[i].Depends) + " | " + names(reports[i].Provides)); got != want {
			t.Errorf("%d: got %q, want %q", i, got, want)
		}
	}
}

// What was linked against is asked for in its version where versions are asked for.
func TestLibraryVersions(t *testing.T) {
	installed := func(soname string) apk.Version {
		return map[string]apk.Version{"libz.so.1": "1.3-r2", "ld-linux-x86-64.so.2": "2.40-r0", "libown.so.1": "0.9-r0", "libx.so.1": "0.9-r0"}[soname]
	}
	reports, err := inspect.Packages([]inspect.Package{
		{Name: "x", Version: "1-r0", LibraryVersion: installed, Files: files(t, map[string]string{
			"usr/bin/x":             "+x " + program(elftest.File{Needed: []string{"libz.so.1", "libx.so.1", "libown.so.1", "libelse.so.1", "ld-linux-x86-64.so.2"}}),
			"usr/lib/libx.so.1":     program(elftest.File{Soname: "libx.so.1"}),
			"usr/lib/x/libown.so.1": program(elftest.File{Soname: "libown.so.1"}),
		}).FS()},
		{Name: "x-dev", Version: "1-r0", LibraryVersion: installed, Files: files(t, map[string]string{"usr/lib/libx.so": "-> libx.so.1"}).FS()},
		{Name: "x-no", Version: "1-r0", Files: files(t, map[string]string{"usr/lib/x/m.so": program(elftest.File{Needed: []string{"libz.so.1"}})}).FS()},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"so-ver:libz.so.1>=1.3-r2 so:ld-linux-x86-64.so.2 so:libelse.so.1 so:libz.so.1 | so-ver:libown.so.1=1-r0 so:libown.so.1=1",
		"so-ver:libx.so.1>=1-r0 so:libx.so.1 |",
		"so:libz.so.1 |",
	} {
		if got := strings.TrimSpace(names(reports[i].Depends) + " | " + names(reports[i].Vendored)); got != want {
			t.Errorf("%d: got %q, want %q", i, got, want)
		}
	}
}

// Each finding names its file and says why, also where it does not count.
func TestWhy(t *testing.T) {
	reports, err := inspect.Packages([]inspect.Package{{
		Name: "x", Version: "1-r0", NoCommands: true,
		Files: files(t, map[string]string{
			"usr/bin/x":           "+x " + program(elftest.File{Needed: []string{"libssl.so.3", "libz.so.1"}}),
			"usr/lib/x/libz.so.1": program(elftest.File{Soname: "libz.so.1"}),
		}).FS(),
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range slices.Concat(reports[0].FoundDepends, reports[0].FoundProvides, reports[0].Left) {
		got = append(got, strings.Join([]string{f.File, f.Why, f.Dependency.String(), f.Left}, ", "))
	}
	want := []string{
		"usr/bin/x, is linked against libssl.so.3, so:libssl.so.3, ",
		"usr/lib/x/libz.so.1, is a library of its own, so:libz.so.1, it lies where only the package itself looks",
		"usr/bin/x, is a command, cmd:x=1-r0, the recipe says no-commands",
		"usr/bin/x, is linked against libz.so.1, so:libz.so.1, the package has its own",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func program(f elftest.File) string { return string(f.Bytes()) }

// goProgram is a program with settings of the Go linker in it, as debug/buildinfo reads them.
func goProgram(settings ...string) string {
	text := func(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	module := "path\tx\n"
	for _, s := range settings {
		module += "build\t" + s + "\n"
	}
	mark := strings.Repeat("#", 16)
	info := append([]byte("\xff Go buildinf:"), 8, 2)
	info = append(info, make([]byte, 32-len(info))...)
	info = text(text(info, "go1.26"), mark+module+mark)
	return program(elftest.File{Allocated: map[string]string{".go.buildinfo": string(info)}})
}

// bzImage is the head of a kernel for x86.
func bzImage(version string) string {
	head := make([]byte, 0x400)
	copy(head[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(head[0x20e:], 0x100)
	copy(head[0x300:], version)
	return string(head)
}

// elfModule is what a module of the kernel says of itself.
func elfModule(magic string) string {
	return program(elftest.File{Type: elf.ET_REL, Sections: map[string]string{".modinfo": "license=GPL\x00vermagic=" + magic + " mod_unload\x00name=x\x00"}})
}

func pack(t func(w io.Writer) (io.WriteCloser, error), text string) string {
	var b strings.Builder
	w, err := t(&b)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.String()
}

func gz(text string) string {
	return pack(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }, text)
}

func packXZ(text string) string {
	return pack(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }, text)
}

func packZstd(text string) string {
	return pack(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }, text)
}

// FuzzFiles: whatever a build leaves behind, looking at it neither fails nor panics, and
// every name that is found can stand in a package.
func FuzzFiles(f *testing.F) {
	for _, seed := range []string{
		"#!/usr/bin/env -S a", program(elftest.File{Interpreter: "/lib/ld.so", Needed: []string{"a.so.1"}, Soname: "b.so.2"}), goProgram("CGO_ENABLED=1"), bzImage("6.1 x"),
		gz("Linux version 6.1 (gcc)"), packXZ(elfModule("6.1 SMP")), packZstd(elfModule("6.1 SMP")), "MZ\x00PE\x00\x00", "Requires: a >= 1, b\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		tree := fstest.MapFS{}
		for _, name := range []string{"usr/bin/a", "usr/lib/liba.so.1", "boot/a", "lib/modules/1/a.ko", "lib/modules/1/a.ko.gz", "lib/modules/1/a.ko.xz", "lib/modules/1/a.ko.zst", "usr/lib/pkgconfig/a.pc", "etc/ld.so.conf.d/a.conf"} {
			tree[name] = &fstest.MapFile{Data: content, Mode: 0o755}
		}
		reports, err := inspect.Packages([]inspect.Package{{Name: "a", Version: "1-r0", Files: tree}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range slices.Concat(reports[0].Depends, reports[0].Provides) {
			if again, err := apk.ParseDependency(d.String()); err != nil || again != d {
				t.Errorf("%q is read as %v, %v", d.String(), again, err)
			}
		}
	})
}
