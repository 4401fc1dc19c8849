package check_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/build/check"
	"github.com/tarn-build/tarn/pkg/diag"
)

// tree makes files: "path" or "path mode"; one that ends in a slash is a folder.
func tree(paths ...string) fstest.MapFS {
	modes := map[string]fs.FileMode{"4755": 0o755 | fs.ModeSetuid, "2755": 0o755 | fs.ModeSetgid, "1755": 0o755 | fs.ModeSticky, "0666": 0o666, "0644": 0o644, "link": 0o777 | fs.ModeSymlink}
	files := fstest.MapFS{}
	for _, text := range paths {
		name, mode, _ := strings.Cut(text, " ")
		file := &fstest.MapFile{Data: []byte("x"), Mode: 0o644}
		if m, found := modes[mode]; found {
			file.Mode = m
		}
		if folder, is := strings.CutSuffix(name, "/"); is {
			name, file.Mode, file.Data = folder, fs.ModeDir|0o755, nil
			if mode == "0777" {
				file.Mode = fs.ModeDir | fs.ModeSticky | 0o777
			}
		}
		files[name] = file
	}
	return files
}

func rules(t *testing.T, p check.Package) []string {
	t.Helper()
	problems, err := check.Run(p)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, problem := range problems {
		names = append(names, problem.Rule)
	}
	return names
}

// Each rule finds what it is for, and leaves alone what only looks like it.
func TestRules(t *testing.T) {
	cases := map[string]struct{ finds, leaves []string }{
		"dev":              {[]string{"dev/null", "dev/x link"}, []string{"dev/", "usr/dev/x", "development"}},
		"setuidgid":        {[]string{"usr/bin/su 4755", "usr/bin/x 2755", "usr/bin/y 1755"}, []string{"usr/bin/su", "var/spool/ 0777"}},
		"tempdir":          {[]string{"tmp/x", "var/tmp/x", "run/x", "run/nginx/", "var/run/x", "var/run/d/"}, []string{"tmp/", "run/", "var/tmp/", "usr/run/x"}},
		"varempty":         {[]string{"var/empty/x"}, []string{"var/empty/", "var/emptyx"}},
		"worldwrite":       {[]string{"etc/x 0666"}, []string{"etc/x 0644", "etc/y link", "var/spool/ 0777"}},
		"infodir":          {[]string{"usr/share/info/dir"}, []string{"usr/share/x/dir"}},
		"usrmerge":         {[]string{"sbin/x", "bin/x link", "lib/", "lib64/x", "usr/sbin link", "usr/sbin/x"}, []string{"usr/bin/x", "usr/lib/x", "library", "usr/lib/sbin/x"}},
		"libtool/la-files": {[]string{"usr/lib/libx.la"}, []string{"usr/lib/la", "usr/lib/x.la/"}},
		"opt":              {[]string{"opt/x"}, []string{"opt/", "usr/opt/x"}},
		"srv":              {[]string{"srv/x"}, []string{"srv/"}},
		"usrlocal":         {[]string{"usr/local/bin/x"}, []string{"usr/local/", "usr/local/bin/"}},
		"object":           {[]string{"usr/lib/x.o"}, []string{"usr/lib/crt1.o", "usr/lib/o"}},
		"maninfo":          {[]string{"usr/share/man/man1/x.1", "usr/share/info/x.info"}, []string{"usr/share/man/"}},
		"staticarchive":    {[]string{"usr/lib/libx.a"}, []string{"usr/lib/a", "usr/lib/x.a/"}},
		"sbom":             {[]string{"var/lib/db/sbom/x.txt"}, []string{"var/lib/db/sbom/x.spdx.json", "var/lib/db/sbom/d/x.txt"}},
		"python/docs":      {[]string{"usr/lib/python3.13/site-packages/docs/"}, []string{"usr/lib/python3.13/site-packages/x/docs/", "usr/lib/python3.13/site-packages/docs.py"}},
		"python/test":      {[]string{"usr/lib/python3.13/site-packages/tests/", "usr/lib/python3.13/site-packages/test/"}, []string{"usr/lib/python3.13/test/"}},
		"dll":              {[]string{"usr/lib/x.dll"}, []string{"usr/lib/dll", "usr/lib/x.dll/"}},
		"dylib":            {[]string{"usr/lib/x.dylib"}, []string{"usr/lib/x.dylib/"}},
	}
	for _, name := range check.Names() {
		test, found := cases[name]
		if !found {
			t.Errorf("rule %s has no case here", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			for _, path := range test.finds {
				if got := rules(t, check.Package{Name: "x", Files: tree(path)}); !slices.Contains(got, name) {
					t.Errorf("%s is not found", path)
				}
			}
			for _, path := range test.leaves {
				if got := rules(t, check.Package{Name: "x", Files: tree(path)}); slices.Contains(got, name) {
					t.Errorf("%s is found", path)
				}
			}
		})
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
		if got := rules(t, check.Package{Name: test.name, Files: tree(test.paths...)}); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// The example of a rule is one, and each rule tells its reason and the way out.
func TestRulesExplainThemselves(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range check.All {
		if r.Why == "" || r.Example == "" || r.Instead == "" || seen[r.Name] {
			t.Errorf("rule %q: why %q, example %q, instead %q, or it stands there twice", r.Name, r.Why, r.Example, r.Instead)
		}
		seen[r.Name] = true
		path := strings.Replace(r.Example, " with mode ", " ", 1)
		if strings.HasPrefix(r.Name, "python/") {
			path += "/"
		}
		if got := rules(t, check.Package{Name: "x", Files: tree(path)}); !slices.Contains(got, r.Name) {
			t.Errorf("rule %s does not find its own example %q", r.Name, r.Example)
		}
	}
}

// A rule that the recipe turned off is told and stops nothing; a warning stays one.
func TestDisabled(t *testing.T) {
	problems, err := check.Run(check.Package{Name: "x", Recipe: "x.yaml", Files: tree("sbin/x", "opt/x"), Disabled: []string{"usrmerge", "opt"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]diag.Severity{}
	for _, p := range problems {
		got[p.Rule] = p.Severity
	}
	if diff := cmp.Diff(map[string]diag.Severity{"usrmerge": diag.Note, "opt": diag.Warning}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := problems.Err(); err != nil {
		t.Errorf("it stops the build: %v", err)
	}
	if _, err := check.Run(check.Package{Name: "x", Files: broken{}}); err == nil {
		t.Error("a tree that can't be read has no findings and no error")
	}
}

type broken struct{}

func (broken) Open(string) (fs.File, error) { return nil, fs.ErrPermission }
