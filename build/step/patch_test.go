package step

import (
	"bytes"
	"context"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/recipes"
)

// change is a patch of one line of a file.
func change(file, from, to string) string {
	return "--- a/" + file + "\n+++ b/" + file + "\n@@ -1 +1 @@\n-" + from + "\n+" + to + "\n"
}

func TestPatch(t *testing.T) {
	inputs := func(pairs ...string) map[string]string {
		in := map[string]string{"strip-components": "1", "fuzz": "2"}
		for i := 0; i < len(pairs); i += 2 {
			in[pairs[i]] = pairs[i+1]
		}
		return in
	}
	for _, test := range []struct {
		name  string
		dir   string
		in    map[string]string
		files map[string]string
		want  string // f, or sub/f, afterwards
		fails string // how the error begins
		log   string
	}{
		{name: "a list, in its order", in: inputs("patches", "one.patch\n  two.patch "),
			files: map[string]string{"f": "a\n", "one.patch": change("f", "a", "b"), "two.patch": change("f", "b", "c")}, want: "c\n",
			log: "applying one.patch\npatching f\n  hunk 1 applied at line 1\napplying two.patch\npatching f\n  hunk 1 applied at line 1\n"},
		{name: "a series of quilt's", in: inputs("series", "patches/series"),
			files: map[string]string{"f": "a\n", "patches/series": "# why\n\nfirst.patch # not that\nsecond.patch -p0\r\n", "first.patch": change("f", "a", "b"), "second.patch": strings.NewReplacer("a/", "", "b/", "").Replace(change("f", "b", "c"))}, want: "c\n"},
		{name: "in a working directory, from above", dir: "/home/build/sub", in: inputs("patches", "../one.patch"),
			files: map[string]string{"sub/f": "a\n", "one.patch": change("f", "a", "b")}, want: "b\n"},
		{name: "in a working directory, from the root", dir: "/home/build/sub", in: inputs("patches", "/home/build/one.patch"),
			files: map[string]string{"sub/f": "a\n", "one.patch": change("f", "a", "b")}, want: "b\n"},
		{name: "names with all their folders", in: inputs("patches", "one.patch", "strip-components", "0"),
			files: map[string]string{"f": "a\n", "one.patch": "--- f\n+++ f\n@@ -1 +1 @@\n-a\n+b\n"}, want: "b\n"},
		{name: "a pattern is no list", in: inputs("patches", "*.patch"), files: map[string]string{"f": "a\n", "one.patch": ""}, fails: "patch: there is no *.patch in /home/build"},
		{name: "what looks like shell is a name", in: inputs("patches", "$(touch${IFS}x);one.patch"), files: map[string]string{"f": "a\n"}, fails: "patch: there is no $(touch${IFS}x);one.patch in"},
		{name: "an empty patch", in: inputs("patches", "one.patch"), files: map[string]string{"f": "a\n", "one.patch": ""}, want: "a\n"},
		{name: "no patch at all", in: inputs(), fails: "patch: neither patches nor series"},
		{name: "both kinds of lists", in: inputs("patches", "a", "series", "b"), fails: "patch: both patches and series"},
		{name: "no number", in: inputs("patches", "a", "fuzz", "-1"), fails: `patch: fuzz "-1" is no number`},
		{name: "outside", in: inputs("patches", "../one.patch"), fails: `path "../one.patch" leads out of /home/build`},
		{name: "of the root", in: inputs("patches", "/etc/passwd"), fails: `path "/etc/passwd" is outside /home/build`},
		{name: "a patch that lies elsewhere", dir: "/home/build/sub", in: inputs("patches", "one.patch"), files: map[string]string{"sub/f": "", "one.patch": ""},
			fails: "patch: there is no one.patch in /home/build/sub\n  hint: one.patch is in /home/build"},
		{name: "all that does not fit", in: inputs("patches", "one.patch"), files: map[string]string{"f": "x\n", "one.patch": change("f", "a", "b") + change("g", "a", "b")},
			fails: "one.patch:3: hunk 1 of f does not apply (0 of its 1 line fit at line 1)\n  expected at line 1: \"a\\n\"\n  found: \"x\\n\"\none.patch:8: g is not there"},
		{name: "a malformed patch", in: inputs("patches", "one.patch"), files: map[string]string{"f": "a\n", "one.patch": "--- a/f\n+++ b/f\n@@ -1 +1 @@\n"}, fails: "one.patch:3: the hunk of line 3 changes nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root, err := os.OpenRoot(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			for name, text := range test.files {
				if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := root.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			c := Context{Work: root, Log: &log, Main: "z", Time: time.Unix(1000, 0)}
			err = Do(context.Background(), c, recipes.Step{Native: "patch", Dir: test.dir, Inputs: test.in})
			if test.fails != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.fails) {
					t.Fatalf("got %v, want %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			file := path.Join(strings.TrimPrefix(test.dir, WorkPath+"/"), "f")
			got, err := root.ReadFile(file)
			if err != nil || string(got) != test.want {
				t.Errorf("%s is %q, %v, want %q", file, got, err, test.want)
			}
			if test.log != "" && log.String() != test.log {
				t.Errorf("log (-want +got):\n%s", cmp.Diff(test.log, log.String()))
			}
		})
	}
}
