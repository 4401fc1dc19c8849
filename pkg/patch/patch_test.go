package patch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is said where something does not fit: all of it at once, with the file, the hunk,
// the line of the patch, and what was expected and found.
func TestMessages(t *testing.T) {
	numbers := "1\n2\n3\n4\n5\n6\n7\n8\n9\n"
	for _, test := range []struct {
		name  string
		tree  map[string]string
		patch string
		want  string
	}{
		{"lines that changed", map[string]string{"f": numbers, "g": "x\n"},
			"--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n-two\n+zwei\n 3\n@@ -7,3 +7,3 @@\n 7\n-eight\n+acht\n 9\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-y\n+z\n--- a/h\n+++ b/h\n@@ -1 +1 @@\n-y\n+z\n",
			`line 3: hunk 1 of f does not apply (2 of its 3 lines fit at line 1)
  expected at line 2: "two\n"
  found: "2\n"
line 8: hunk 2 of f does not apply (2 of its 3 lines fit at line 7)
  expected at line 8: "eight\n"
  found: "8\n"
line 15: hunk 1 of g does not apply (0 of its 1 line fit at line 1)
  expected at line 1: "y\n"
  found: "x\n"
line 20: h is not there`},
		{"a line that is elsewhere", map[string]string{"f": numbers}, "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 5\n-six\n+sechs\n 7\n",
			`line 3: hunk 1 of f does not apply (2 of its 3 lines fit at line 5)
  expected at line 6: "six\n"
  found: "6\n"`},
		{"ends of lines", map[string]string{"f": "a\r\n"}, "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n",
			`line 3: hunk 1 of f does not apply (0 of its 1 line fit at line 1)
  expected at line 1: "a\n"
  found: "a\r\n"
  hint: the lines differ in their ends alone`},
		{"a file that ends before", map[string]string{"f": "a\n"}, "--- a/f\n+++ b/f\n@@ -1,3 +1,2 @@\n a\n-b\n c\n",
			"line 3: hunk 1 of f does not apply (1 of its 3 lines fit at line 1)\n  expected at line 2: \"b\\n\"\n  found: the end of the file"},
		{"applied already", map[string]string{"f": numbers}, "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n-two\n+2\n 3\n",
			"line 3: hunk 1 of f was applied already, or is reversed: its outcome is there at line 1"},
		{"names without so many folders", map[string]string{"f": "a\n"}, "--- f\n+++ f\n@@ -1 +1 @@\n-a\n+b\n",
			`line 3: there is no file to patch: no name is left of "f" and "f" without 1 leading folder`},
		{"a file where a folder should be", map[string]string{"d": "a\n"}, "--- /dev/null\n+++ b/d/f\n@@ -0,0 +1 @@\n+a\n",
			"line 3: d/f is to be made, and d is no folder"},
		{"no diff", nil, "hello\n", "line 1: there is no diff in it"},
		{"a script of ed", nil, "Index: f\n2c\nB\n.\n", "line 2: it is a script of ed, which is not read: make the patch with diff -u"},
		{"a hunk without a name", nil, "@@ -1 +1 @@\n-a\n+b\n", "line 1: the hunk is of a file that no line before it names"},
		{"cut off", nil, "--- a/f\n+++ b/f\n@@ -1,9 +1,9 @@\n 1\n", "line 4: the patch ends inside the hunk of line 3"},
		{"a line that is none", nil, "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n 1\nx\n", "line 5: this line does not belong to the hunk of line 3, which is not over"},
		{"a range that is none", nil, "--- a/f\n+++ b/f\n@@ -x +1 @@\n 1\n", "line 3: malformed range of a hunk: @@ -x +1 @@"},
		{"a range beyond all files", nil, "--- a/f\n+++ b/f\n@@ -99999999999999999999 +1 @@\n 1\n", "line 3: 99999999999999999999 is no number of a line"},
		{"binary", nil, "diff --git a/f b/f\nindex 1..2\nGIT binary patch\nliteral 1\n", "line 3: it holds b/f in binary form, which only git apply can read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ours(t, test.tree, []byte(test.patch), 1, 0)
			if err == nil {
				t.Fatal("it applies")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is done is reported, and what is written gets the time that is given.
func TestReportAndTime(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"f": "0\n1\n2\n3\n4\n5\n", "same": "x\n", "g": "a\n"})
	long := time.Unix(1000, 0)
	for _, name := range []string{"f", "same", "g"} {
		if err := os.Chtimes(filepath.Join(dir, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	diffs, err := Parse([]byte("--- a/f\n+++ b/f\n@@ -1,3 +1,4 @@\n 1\n-2\n+two\n+more\n x\n@@ -4,2 +5,2 @@\n 4\n-5\n+five\ndiff --git a/g b/h\nrename from g\nrename to h\n"))
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	o := Options{Strip: 1, Fuzz: 1, ModTime: time.Unix(5000, 0), Report: func(line string) { said = append(said, line) }}
	if err := Apply(context.Background(), root, ".", diffs, o); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"patching f",
		"  hunk 1 applied at line 2, with fuzz 1, 1 line further down than it says",
		"  hunk 2 applied at line 6, 1 line further down than it says",
		"patching h (renamed from g)",
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, want := range map[string]int64{"f": 5000, "f.orig": 1000, "same": 1000, "h": 5000} {
		if info, err := root.Stat(name); err != nil || info.ModTime().Unix() != want {
			t.Errorf("%s: %v, %v, want the time %d", name, info, err, want)
		}
	}
}

// A file with several names changes under one of them, as patches of GNU patch do.
func TestHardLink(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"f": "a\n"})
	if err := os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "g")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	diffs, err := Parse([]byte("--- f\n+++ f\n@@ -1 +1 @@\n-a\n+b\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(context.Background(), root, ".", diffs, Options{}); err != nil {
		t.Fatal(err)
	}
	if data, err := root.ReadFile("g"); err != nil || string(data) != "a\n" {
		t.Errorf("the other name has %q, %v", data, err)
	}
}

// Whatever the bytes are, they are read or refused, and what is read applies to nothing
// outside of the tree.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n\\ No newline at end of file\n",
		"diff --git a/f b/g\nold mode 100644\nnew mode 100755\nsimilarity index 90%\nrename from f\nrename to g\nindex 1..2\n--- a/f\n+++ b/g\n@@ -0,0 +1 @@\n+x\n",
		"*** a/f\tThu Jan  1 00:00:00 1970\n--- b/f\n***************\n*** 1,3 ****\n  a\n! b\n  c\n--- 1,3 ----\n  a\n! B\n  c\n",
		"Index: f\n1a2,3\n> x\n> y\n3d4\n< c\n5c6\n< a\n---\n> b\n",
		"- --- a/f\t1970-01-01\n- +++ b/../../f\n- @@ -1 +1 @@\n- -a\n- +b\n",
		"  --- \"a/f\\303\\n\"\r\n  +++ b/f\r\n  @@ -1 +1 @@\r\n  -a\r\n  +b\r\n",
		"diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+..\n\\ No newline at end of file\n--- /dev/null\n+++ b/l/f\n@@ -0,0 +1 @@\n+x\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		diffs, err := Parse(data)
		if err != nil {
			if _, is := errors.AsType[*SyntaxError](err); !is {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		outer := t.TempDir()
		dir := filepath.Join(outer, "in", "side")
		write(t, dir, map[string]string{"f": "a\nb\nc\n", "d/g": "", "l -> f": ""})
		before := list(t, dir)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		err = Apply(context.Background(), root, ".", diffs, Options{Strip: 1, Fuzz: 2})
		if _, is := errors.AsType[*Error](err); is && list(t, dir) != before {
			t.Fatalf("it does not apply (%v), and the tree is another", err)
		}
		outside, err := os.ReadDir(outer)
		inner, err2 := os.ReadDir(filepath.Join(outer, "in"))
		if err != nil || err2 != nil || len(outside) != 1 || len(inner) != 1 {
			t.Fatalf("outside: %v %v, %v %v", outside, inner, err, err2)
		}
	})
}
