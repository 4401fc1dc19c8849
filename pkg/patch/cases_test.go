package patch

import (
	"strings"
	"testing"
)

// What headers say, and what lies in the tree, decides which file is patched and what
// becomes of it. Each case is tried with GNU patch, too.
func TestHeaders(t *testing.T) {
	program := gnu(t)
	const hunk = "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"
	abc := "a\nb\nc\n"
	for _, test := range []struct {
		name  string
		tree  map[string]string
		patch string
		strip int
		fails bool
	}{
		{"unified", map[string]string{"f": abc}, "--- a/f\n+++ b/f\n" + hunk, 1, false},
		{"text before and after", map[string]string{"f": abc}, "From: me\nSubject: --- x\n---\n f | 2 +-\n\n--- a/f\n+++ b/f\n" + hunk + "-- \n2.39\n", 1, false},
		{"no leading folders are left out", map[string]string{"a/f": abc}, "--- a/f\n+++ b/f\n" + hunk, 0, false},
		{"more are left out than there are", map[string]string{"f": abc}, "--- a/f\n+++ b/f\n" + hunk, 2, true},
		{"two slashes are one", map[string]string{"f": abc}, "--- a//f\n+++ b//f\n" + hunk, 1, false},
		{"an absolute name", map[string]string{"f": abc}, "--- /x/f\n+++ /x/f\n" + hunk, 0, true},
		{"an absolute name without its folders", map[string]string{"f": abc}, "--- /x/f\n+++ /x/f\n" + hunk, 2, false},
		{"a name that leads out", map[string]string{"f": abc}, "--- a/../f\n+++ b/../f\n" + hunk, 1, true},
		{"a name that leads out and back", map[string]string{"d/f": abc}, "--- a/d/../d/f\n+++ b/d/../d/f\n" + hunk, 1, true},
		{"the old name leads out", map[string]string{"f": abc}, "--- a/../f\n+++ b/f\n" + hunk, 1, false},
		{"of two names the one that is there", map[string]string{"new": abc}, "--- a/old\n+++ b/new\n" + hunk, 1, false},
		{"of two that are there the shorter", map[string]string{"f": abc, "f.orig": abc}, "--- a/f.orig\n+++ b/f\n" + hunk, 1, false},
		{"of two that are there the one with fewer folders", map[string]string{"d/f": abc, "g": abc}, "--- a/d/f\n+++ b/g\n" + hunk, 1, false},
		{"Index where there are no other names", map[string]string{"f": abc}, "Index: f\n" + hunk, 0, false},
		{"Index is not used beside other names", map[string]string{"f": abc, "g": abc}, "Index: g\n--- f\n+++ f\n" + hunk, 0, false},
		{"no name at all", map[string]string{"f": abc}, hunk, 0, true},
		{"names with a time", map[string]string{"f": abc}, "--- a/f\t2020-01-01 00:00:00.000000000 +0000\n+++ b/f\t2020-01-01 00:00:00.000000000 +0000\n" + hunk, 1, false},
		{"a name with spaces and a time", map[string]string{"f g": abc}, "--- a/f g\t2020-01-01 00:00:00\n+++ b/f g\t2020-01-01\n" + hunk, 1, false},
		{"a name with spaces and a tab", map[string]string{"f g": abc}, "--- a/f g\t\n+++ b/f g\t\n" + hunk, 1, false},
		{"a name with spaces and nothing after it", map[string]string{"f g": abc}, "--- a/f g\n+++ b/f g\n" + hunk, 1, true},
		{"a name in quotes", map[string]string{"f\tg": abc}, "--- \"a/f\\tg\"\n+++ \"b/f\\tg\"\n" + hunk, 1, false},
		{"octal in quotes", map[string]string{"fä": abc}, "--- \"a/f\\303\\244\"\n+++ \"b/f\\303\\244\"\n" + hunk, 1, false},

		{"a new file", map[string]string{}, "--- /dev/null\n+++ b/d/e/f\n@@ -0,0 +1,2 @@\n+a\n+b\n", 1, false},
		{"a new file at the beginning of time", map[string]string{}, "--- a/f\t1970-01-01 00:00:00.000000000 +0000\n+++ b/f\t2020-01-01 00:00:00.000000000 +0000\n@@ -0,0 +1 @@\n+a\n", 1, false},
		{"a new file at the beginning of time elsewhere", map[string]string{}, "--- a/f\t1970-01-01 01:00:00.000000000 +0100\n+++ b/f\t2020-01-01\n@@ -0,0 +1 @@\n+a\n", 1, false},
		{"a new file of ctime", map[string]string{}, "--- a/f\tThu Jan  1 00:00:00 1970\n+++ b/f\tThu Jan  2 00:00:00 2020\n@@ -0,0 +1 @@\n+a\n", 1, false},
		{"a new file that is there", map[string]string{"f": "x\n"}, "--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+a\n", 1, true},
		{"a new file that is there and empty", map[string]string{"f": ""}, "--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+a\n", 1, false},
		{"maybe a new file, and it is there", map[string]string{"f": "x\n"}, "--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+a\n", 1, false},
		{"maybe a new file, and it is not there", map[string]string{}, "--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+a\n", 1, false},
		{"a new file where fewer folders are made", map[string]string{"d/x": ""}, "--- a/e/f\n+++ b/d/f\n@@ -0,0 +1 @@\n+a\n", 1, false},
		{"a new file below a file", map[string]string{"d": "x\n"}, "--- /dev/null\n+++ b/d/f\n@@ -0,0 +1 @@\n+a\n", 1, true},
		{"a file goes", map[string]string{"f": "a\nb\n", "g": ""}, "--- a/f\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n", 1, false},
		{"a file goes with its folders", map[string]string{"d/e/f": "a\n", "d/g": ""}, "--- a/d/e/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", 1, false},
		{"a file goes that holds more", map[string]string{"f": "a\nb\nc\n"}, "--- a/f\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n", 1, true},
		{"a file goes that is not there", map[string]string{}, "--- a/f\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n", 1, true},
		{"a file that becomes empty stays", map[string]string{"f": "a\n"}, "--- a/f\n+++ b/f\n@@ -1 +0,0 @@\n-a\n", 1, false},
		{"a file at the beginning of time goes", map[string]string{"f": "a\n"}, "--- a/f\t2020-01-01\n+++ b/f\t1970-01-01 00:00:00.000000000 +0000\n@@ -1 +0,0 @@\n-a\n", 1, false},

		{"of git", map[string]string{"f": abc}, "diff --git a/f b/f\nindex 1234567..89abcde 100644\n--- a/f\n+++ b/f\n" + hunk, 1, false},
		{"of git, a mode", map[string]string{"f": abc}, "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n", 1, false},
		{"of git, a mode and lines", map[string]string{"f": abc}, "diff --git a/f b/f\nold mode 100644\nnew mode 100755\nindex 1..2\n--- a/f\n+++ b/f\n" + hunk, 1, false},
		{"a mode that is there already", map[string]string{"f!": abc}, "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n", 1, false},
		{"the mode stays", map[string]string{"f!": abc}, "diff --git a/f b/f\nindex 1234567..89abcde 100644\n--- a/f\n+++ b/f\n" + hunk, 1, false},
		{"of git, a new file", map[string]string{}, "diff --git a/d/f b/d/f\nnew file mode 100755\nindex 0000000..89abcde\n--- /dev/null\n+++ b/d/f\n@@ -0,0 +1 @@\n+a\n", 1, false},
		{"of git, a new empty file", map[string]string{}, "diff --git a/d/f b/d/f\nnew file mode 100644\nindex 0000000..e69de29\n", 1, false},
		{"of git, two new empty files", map[string]string{}, "diff --git a/f b/f\nnew file mode 100644\nindex 0000000..e69de29\ndiff --git a/g b/g\nnew file mode 100755\nindex 0000000..e69de29\n", 1, false},
		{"of git, a new empty file that is there", map[string]string{"f": "a\n"}, "diff --git a/f b/f\nnew file mode 100644\nindex 0000000..e69de29\n", 1, true},
		{"of git, a file goes", map[string]string{"d/f": "a\n", "g": ""}, "diff --git a/d/f b/d/f\ndeleted file mode 100644\nindex 89abcde..0000000\n--- a/d/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", 1, false},
		{"of git, an empty file goes", map[string]string{"f": "", "g": ""}, "diff --git a/f b/f\ndeleted file mode 100644\nindex e69de29..0000000\n", 1, false},
		{"of git, an empty file goes that is not", map[string]string{"f": "a\n"}, "diff --git a/f b/f\ndeleted file mode 100644\nindex e69de29..0000000\n", 1, true},
		{"renamed", map[string]string{"f": abc}, "diff --git a/f b/d/g\nsimilarity index 100%\nrename from f\nrename to d/g\n", 1, false},
		{"renamed and changed", map[string]string{"d/f": abc}, "diff --git a/d/f b/g\nsimilarity index 90%\nrename from d/f\nrename to g\nindex 1..2 100644\n--- a/d/f\n+++ b/g\n" + hunk, 1, false},
		{"renamed with a mode", map[string]string{"f": abc}, "diff --git a/f b/g\nold mode 100644\nnew mode 100755\nsimilarity index 100%\nrename from f\nrename to g\n", 1, false},
		{"renamed to what is there", map[string]string{"f": abc, "g": "x\n"}, "diff --git a/f b/g\nsimilarity index 100%\nrename from f\nrename to g\n", 1, false},
		{"renamed already", map[string]string{"g": abc}, "diff --git a/f b/g\nsimilarity index 100%\nrename from f\nrename to g\n", 1, false},
		{"renamed from nothing", map[string]string{"h": abc}, "diff --git a/f b/g\nsimilarity index 100%\nrename from f\nrename to g\n", 1, true},
		{"copied", map[string]string{"f": abc}, "diff --git a/f b/d/g\nsimilarity index 100%\ncopy from f\ncopy to d/g\n", 1, false},
		{"copied and changed", map[string]string{"f": abc}, "diff --git a/f b/g\nsimilarity index 90%\ncopy from f\ncopy to g\nindex 1..2 100644\n--- a/f\n+++ b/g\n" + hunk, 1, false},
		{"copied from what changes", map[string]string{"f": abc}, "diff --git a/f b/f\nindex 1..2 100644\n--- a/f\n+++ b/f\n" + hunk + "diff --git a/f b/g\nsimilarity index 100%\ncopy from f\ncopy to g\n", 1, false},
		{"two change places", map[string]string{"f": "a\n", "g": "b\n"}, "diff --git a/f b/g\nsimilarity index 100%\nrename from f\nrename to g\ndiff --git a/g b/f\nsimilarity index 100%\nrename from g\nrename to f\n", 1, false},
		{"renamed out of the folder", map[string]string{"f": abc}, "diff --git a/f b/../g\nsimilarity index 100%\nrename from f\nrename to ../g\n", 1, true},
		{"binary of git", map[string]string{"f": abc}, "diff --git a/f b/f\nindex 1234567..89abcde 100644\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\nliteral 0\nHcmV?d00001\n\n", 1, true},
		{"binary of git without contents", map[string]string{"f": abc, "g": abc}, "diff --git a/f b/f\nindex 1234567..89abcde 100644\nBinary files a/f and b/f differ\ndiff --git a/g b/g\nindex 1..2 100644\n--- a/g\n+++ b/g\n" + hunk, 1, false},
		{"a new link", map[string]string{"f": abc}, "diff --git a/l b/l\nnew file mode 120000\nindex 0000000..89abcde\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+f\n\\ No newline at end of file\n", 1, false},
		{"a link goes", map[string]string{"l -> f": "", "f": abc}, "diff --git a/l b/l\ndeleted file mode 120000\nindex 89abcde..0000000\n--- a/l\n+++ /dev/null\n@@ -1 +0,0 @@\n-f\n\\ No newline at end of file\n", 1, false},
		{"a link changes", map[string]string{"l -> f": "", "f": abc}, "diff --git a/l b/l\nindex 89abcde..1234567 120000\n--- a/l\n+++ b/l\n@@ -1 +1 @@\n-f\n\\ No newline at end of file\n+g\n\\ No newline at end of file\n", 1, false},
		{"what is a link is not patched", map[string]string{"l -> f": "", "f": abc}, "--- a/l\n+++ b/l\n" + hunk, 1, true},
		{"a folder is not patched", map[string]string{"f/g": abc}, "--- a/f\n+++ b/f\n" + hunk, 1, true},
		{"through a link", map[string]string{"l -> d": "", "d/f": abc}, "--- a/l/f\n+++ b/l/f\n" + hunk, 1, false},
		{"through a link that leads out", map[string]string{"l -> ..": ""}, "--- /dev/null\n+++ b/l/f\n@@ -0,0 +1 @@\n+a\n", 1, true},

		{"the same file twice", map[string]string{"f": "a\nb\nc\nd\ne\nf\n"}, "--- a/f\n+++ b/f\n" + hunk + "--- a/f\n+++ b/f\n@@ -4,3 +4,3 @@\n d\n-e\n+E\n f\n", 1, false},
		{"the same file twice, the second at another place", map[string]string{"f": "a\nb\nc\nx\nd\ne\nf\n"}, "--- a/f\n+++ b/f\n" + hunk + "--- a/f\n+++ b/f\n@@ -4,3 +4,3 @@\n d\n-e\n+E\n f\n", 1, false},
		{"the same file twice, the first at another place", map[string]string{"f": "x\na\nb\nc\nd\ne\nf\n"}, "--- a/f\n+++ b/f\n" + strings.Replace(hunk, "@@ -1,3 +1,3 @@\n", "@@ -1,4 +1,4 @@\n", 1) + " d\n--- a/f\n+++ b/f\n@@ -5,3 +5,3 @@\n d\n-e\n+E\n f\n", 1, false},
		{"made and then changed", map[string]string{}, "--- /dev/null\n+++ b/f\n@@ -0,0 +1,3 @@\n+a\n+b\n+c\n--- a/f\n+++ b/f\n" + hunk, 1, false},
		{"applied already", map[string]string{"f": "a\nB\nc\n"}, "--- a/f\n+++ b/f\n" + hunk, 1, true},
		{"another content", map[string]string{"f": "x\ny\nz\n"}, "--- a/f\n+++ b/f\n" + hunk, 1, true},
		{"no newline at the end", map[string]string{"f": "a\nb"}, "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n", 1, false},
		{"no newline at the end afterwards", map[string]string{"f": "a\nb\n"}, "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n\\ No newline at end of file\n", 1, false},
		{"no newline in the tree, and one in the patch", map[string]string{"f": "a\nb\nc"}, "--- a/f\n+++ b/f\n" + hunk, 1, false},
		{"carriage returns on both sides", map[string]string{"f": "a\r\nb\r\nc\r\n"}, "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\r\n-b\r\n+B\r\n c\r\n", 1, false},
		{"carriage returns in all of the patch", map[string]string{"f": abc}, strings.ReplaceAll("--- a/f\n+++ b/f\n"+hunk, "\n", "\r\n"), 1, false},
		{"carriage returns in all of the patch and in the file", map[string]string{"f": "a\r\nb\r\nc\r\n"}, strings.ReplaceAll("--- a/f\n+++ b/f\n"+hunk, "\n", "\r\n"), 1, true},
		{"carriage returns in the file only", map[string]string{"f": "a\r\nb\r\nc\r\n"}, "--- a/f\n+++ b/f\n" + hunk, 1, true},
		{"carriage returns in all of a diff of git", map[string]string{"f": abc}, strings.ReplaceAll("diff --git a/f b/f\nindex 1..2 100644\n--- a/f\n+++ b/f\n"+hunk, "\n", "\r\n"), 1, false},
		{"a lost space in an empty line of context", map[string]string{"f": "a\nb\n\nc\n"}, "--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n a\n-b\n+B\n\n c\n", 1, false},
		{"lost blank lines at the end", map[string]string{"f": "a\nb\n\n\n"}, "--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n a\n-b\n+B\n", 1, false},
		{"a comment inside", map[string]string{"f": abc}, "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n# why\n a\n-b\n+B\n c\n", 1, false},
		{"indented", map[string]string{"f": abc}, "  --- a/f\n  +++ b/f\n  @@ -1,3 +1,3 @@\n   a\n  -b\n  +B\n   c\n", 1, false},
		{"indented by a tab", map[string]string{"f": abc}, "\t--- a/f\n\t+++ b/f\n\t@@ -1,3 +1,3 @@\n\t a\n\t-b\n\t+B\n\t c\n", 1, false},
		{"a short hunk", map[string]string{"f": abc}, "--- a/f\n+++ b/f\n@@ -1,9 +1,9 @@\n a\n-b\n+B\n c\n", 1, true},
		{"a hunk that changes nothing", map[string]string{"f": abc}, "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n b\n c\n", 1, true},
		{"hunks in the wrong order", map[string]string{"f": "a\nb\nc\nd\ne\nf\n"}, "--- a/f\n+++ b/f\n@@ -4,3 +4,3 @@\n d\n-e\n+E\n f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n", 1, true},
		{"an empty patch", map[string]string{"f": abc}, "", 1, false},
		{"no diff", map[string]string{"f": abc}, "hello\n", 1, true},
		{"a second diff without a name", map[string]string{"f": abc}, "--- a/f\n+++ b/f\n" + hunk + "\nhello\n" + hunk, 1, false},

		{"context", map[string]string{"f": abc}, "*** a/f\t2020-01-01\n--- b/f\t2020-01-01\n***************\n*** 1,3 ****\n  a\n! b\n  c\n--- 1,3 ----\n  a\n! B\n  c\n", 1, false},
		{"context, one side", map[string]string{"f": abc}, "*** a/f\n--- b/f\n***************\n*** 1,3 ****\n--- 1,4 ----\n  a\n+ x\n  b\n  c\n", 1, false},
		{"context, the other side", map[string]string{"f": abc}, "*** a/f\n--- b/f\n***************\n*** 1,3 ****\n  a\n- b\n  c\n--- 1,2 ----\n", 1, false},
		{"context, a new file", map[string]string{}, "*** /dev/null\n--- b/f\n***************\n*** 0 ****\n--- 1,2 ----\n+ a\n+ b\n", 1, false},
		{"context, a file goes", map[string]string{"f": "a\nb\n"}, "*** a/f\n--- /dev/null\n***************\n*** 1,2 ****\n- a\n- b\n--- 0 ----\n", 1, false},
		{"normal", map[string]string{"f": abc}, "Index: f\n2c2\n< b\n---\n> B\n", 0, false},
		{"normal, without a name", map[string]string{"f": abc}, "2c2\n< b\n---\n> B\n", 0, true},
		{"normal, lines come and go", map[string]string{"f": abc}, "Index: f\n1a2,3\n> x\n> y\n3d4\n< c\n", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !same(t, program, test.tree, []byte(test.patch), test.strip, 2) != test.fails {
				t.Errorf("GNU patch fails: %v, which was not expected", !test.fails)
			}
			_, err := ours(t, test.tree, []byte(test.patch), test.strip, 2)
			if err != nil {
				t.Log(err)
			}
		})
	}
}
