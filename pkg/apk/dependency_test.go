package apk

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseDependency(t *testing.T) {
	for text, want := range map[string]Dependency{
		"zlib":                 {Name: "zlib"},
		"!busybox":             {Name: "busybox", Conflict: true},
		"!busybox<1.2":         {Name: "busybox", Conflict: true, Op: Less, Version: "1.2"},
		"so:libz.so.1=1.3.1":   {Name: "so:libz.so.1", Op: Equal, Version: "1.3.1"},
		"/bin/sh":              {Name: "/bin/sh"},
		"openssl>=3.5":         {Name: "openssl", Op: GreaterEqual, Version: "3.5"},
		"openssl=>3.5":         {Name: "openssl", Op: GreaterEqual, Version: "3.5"},
		"openssl<=3.5":         {Name: "openssl", Op: LessEqual, Version: "3.5"},
		"openssl>3.5":          {Name: "openssl", Op: Greater, Version: "3.5"},
		"openssl~3.5":          {Name: "openssl", Op: Fuzzy, Version: "3.5"},
		"openssl=~3.5":         {Name: "openssl", Op: Fuzzy, Version: "3.5"},
		"openssl~=3.5":         {Name: "openssl", Op: Fuzzy, Version: "3.5"},
		"openssl==3.5":         {Name: "openssl", Op: Equal, Version: "3.5"},
		"openssl<~3.5":         {Name: "openssl", Op: LessFuzzy, Version: "3.5"},
		"openssl>~3.5":         {Name: "openssl", Op: GreaterFuzzy, Version: "3.5"},
		"py3.13:name[x,y]":     {Name: "py3.13:name[x,y]"},
		"libstdc++":            {Name: "libstdc++"},
		"git=2~0a1b-r1":        {Name: "git", Op: Equal, Version: "2~0a1b-r1"},
		"perl(x)":              {},
		"":                     {},
		"!":                    {},
		"=1":                   {},
		"zlib=":                {},
		"zlib=v1":              {},
		"zlib=1.2 ":            {},
		"zlib@edge":            {},
		"zlib@edge=1":          {},
		"zlib><Q1abc":          {},
		"zlib<>1":              {},
		"zlib===1":             {},
		"zlib 1":               {},
		"zlib\n=1":             {},
		"zlib=1\nP:evil":       {},
		"zl\x00ib":             {},
		"!!zlib":               {},
		"zlib=1=2":             {},
		"zl\u00efb":            {},
		strings.Repeat("~", 9): {},
	} {
		got, err := ParseDependency(text)
		if want == (Dependency{}) {
			if err == nil {
				t.Errorf("ParseDependency(%q): got %#v, want an error", text, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("ParseDependency(%q): %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseDependency(%q) (-want +got):\n%s", text, diff)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		dependency string
		version    Version
		want, any  bool // as apk; and where "=V" means any revision
	}{
		{"x", "1.2-r0", true, true},
		{"x=1.2", "1.2", true, true},
		{"x=1.2", "1.2-r0", false, true},
		{"x=1.2", "1.2-r7", false, true},
		{"x=1.2", "1.2.0-r0", false, false},
		{"x=1.2", "1.2_p1-r0", false, false},
		{"x=1.2-r0", "1.2-r0", true, true},
		{"x=1.2-r0", "1.2-r1", false, false},
		{"x=1.2-r0", "1.2", false, false},
		{"x<1.2", "1.2-r0", false, false},
		{"x<=1.2", "1.2-r0", false, false},
		{"x<=1.2-r0", "1.2-r0", true, true},
		{"x>1.2", "1.2-r0", true, true},
		{"x>=1.2", "1.2-r0", true, true},
		{"x>=1.2", "1.2_rc1", false, false},
		{"x<1.2", "1.2_rc1", true, true},
		{"x~1.2", "1.2", true, true},
		{"x~1.2", "1.2-r3", true, true},
		{"x~1.2", "1.2.9-r3", true, true},
		{"x~1.2", "1.2a", true, true},
		{"x~1.2", "1.2_rc1", true, true},
		{"x~1.2", "1.20", false, false},
		{"x~3.1", "3.10-r0", false, false},
		{"x~1.2", "1", false, false},
		{"x~1.2-r1", "1.2-r1", true, true},
		{"x~1.2-r1", "1.2-r10", false, false},
		{"x<~1.2", "1.1", true, true},
		{"x<~1.2", "1.2.7", true, true},
		{"x<~1.2", "1.3", false, false},
		{"x>~1.2", "1.3", true, true},
		{"x>~1.2", "1.2.7", true, true},
		{"x>~1.2", "1.1", false, false},
		{"x=1.2", "", true, true}, // provided without a version
		{"!x<2", "1", true, true}, // the version part only
	} {
		d, err := ParseDependency(test.dependency)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Matches(test.version); got != test.want {
			t.Errorf("%s matches %q: got %v, want %v", d, test.version, got, test.want)
		}
		if got := d.MatchesAnyRevision(test.version); got != test.any {
			t.Errorf("%s matches any revision of %q: got %v, want %v", d, test.version, got, test.any)
		}
	}
	broken := Dependency{Name: "x", Op: LessEqual, Version: "v2.4"}
	if broken.Matches("1") || broken.Matches("v2.4") {
		t.Errorf("%s is met, though %q is no version", broken, broken.Version)
	}
}

func FuzzParseDependency(f *testing.F) {
	for _, s := range []string{"zlib", "!zlib<1.2", "so:libz.so.1=1.3.1-r0", "a~=1", "a@b", "a><Q1=", "/bin/sh"} {
		f.Add(s, "1.2-r0")
	}
	f.Fuzz(func(t *testing.T, text, version string) {
		d, err := ParseDependency(text)
		if err != nil {
			return
		}
		again, err := ParseDependency(d.String())
		if err != nil || again != d {
			t.Errorf("%q reads as %#v, written and read again as %#v, %v", text, d, again, err)
		}
		if strings.ContainsAny(d.String(), " \n\x00") {
			t.Errorf("%q is written as more than one word", text)
		}
		d.Matches(Version(version))
	})
}
