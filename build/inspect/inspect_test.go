package inspect_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/inspect"
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
		for _, kind := range []string{"so:", "cmd:", "pc:"} {
			if strings.HasPrefix(d.Name, kind) {
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
		needsNot, providesToo []string
	}{
		{file: "hello-wolfi-2.12.1-r1.apk"},
		{file: "hello-wolfi-2.12.1-r0.apk"},
		// Its libraries are not executable, and melange of its day looked no further.
		{
			file:     "libcap-2.69-r0.apk",
			needsNot: []string{"so:libcap.so.2", "so:libpsx.so.2"}, providesToo: []string{"so:libcap.so.2=2", "so:libpsx.so.2=2"},
		},
		{file: "ruby3.2-base64-0.2.0-r2.apk"},
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
			reports, err := inspect.Packages([]inspect.Package{{Name: p.Info.Name, Version: p.Info.Version, Files: root.FS()}})
			if err != nil {
				t.Fatal(err)
			}
			needs := slices.DeleteFunc(found(p.Info.Depends), func(name string) bool { return slices.Contains(test.needsNot, name) })
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
		depends, provides string
	}{
		{
			name:     "programs become commands, links and others do not",
			files:    map[string]string{"usr/bin/a": "+x #!/bin/sh", "usr/bin/b": "no", "usr/bin/c": "-> a", "usr/libexec/d": "+x", "sbin/e": "+x "},
			provides: "cmd:a=1.2-r3 cmd:e=1.2-r3",
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
			name:  "pkg-config files elsewhere are nobody's modules",
			files: map[string]string{"usr/lib/x/pkgconfig/x.pc": "Requires: y\n"},
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
			reports, err := inspect.Packages([]inspect.Package{test.pkg})
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
