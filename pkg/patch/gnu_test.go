package patch

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// gnu says where GNU patch is; a test that needs it skips without, or fails in CI.
func gnu(t testing.TB) string {
	program, err := exec.LookPath("patch")
	if err == nil {
		out, _ := exec.Command(program, "--version").Output()
		if strings.HasPrefix(string(out), "GNU patch") {
			return program
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("GNU patch is absent (Debian's package patch)")
	}
	t.Skip("GNU patch is absent (Debian's package patch)")
	return ""
}

// write makes a tree of names and contents. "NAME -> TARGET" is a link, "NAME!" may be executed.
func write(t testing.TB, dir string, tree map[string]string) {
	t.Helper()
	for name, text := range tree {
		name, target, isLink := strings.Cut(name, " -> ")
		name, executable := strings.CutSuffix(name, "!")
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o644)
		if executable {
			mode = 0o755
		}
		var err error
		if isLink {
			err = os.Symlink(target, full)
		} else if err = os.WriteFile(full, []byte(text), mode); err == nil {
			err = os.Chmod(full, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// list gives a tree as text, a line for everything in it.
func list(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			fmt.Fprintf(&b, "%s/ %o\n", name, info.Mode().Perm())
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s -> %s\n", name, target)
		default:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %o %q\n", name, info.Mode().Perm(), data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// outcome is what a patch does to a tree: the tree afterwards, or why it does not apply.
func ours(t testing.TB, tree map[string]string, text []byte, strip, fuzz int) (after string, err error) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, tree)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	before := list(t, dir)
	diffs, err := Parse(text)
	if err == nil {
		err = Apply(context.Background(), root, ".", diffs, Options{Strip: strip, Fuzz: fuzz})
	}
	after = list(t, dir)
	if err != nil && after != before {
		t.Errorf("the patch does not apply (%v), and the tree is another:\n%s", err, cmp.Diff(before, after))
	}
	return after, err
}

func theirs(t testing.TB, program string, tree map[string]string, text []byte, strip, fuzz int) (after string, err error) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, tree)
	file := filepath.Join(t.TempDir(), "patch")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("setsid", program, fmt.Sprintf("-p%d", strip), fmt.Sprintf("--fuzz=%d", fuzz), "--verbose", "-i", file)
	command.Dir = dir
	command.Env = []string{"LC_ALL=C", "TZ=UTC", "TMPDIR=" + t.TempDir()}
	out, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return list(t, dir), nil
}

// same holds what we do against what GNU patch does.
func same(t testing.TB, program string, tree map[string]string, text []byte, strip, fuzz int) (applied bool) {
	t.Helper()
	want, theirErr := theirs(t, program, tree, text, strip, fuzz)
	got, ourErr := ours(t, tree, text, strip, fuzz)
	switch {
	case (theirErr == nil) != (ourErr == nil):
		t.Errorf("-p%d --fuzz=%d\ntree %q\npatch\n%s\nGNU patch: %v\nours: %v", strip, fuzz, tree, text, theirErr, ourErr)
	case theirErr == nil && got != want:
		t.Errorf("-p%d --fuzz=%d\ntree %q\npatch\n%s\n(-want +got):\n%s", strip, fuzz, tree, text, cmp.Diff(want, got))
	}
	return theirErr == nil
}

// edit changes some lines at random.
func edit(r *rand.Rand, lines []string, changes int) []string {
	lines = append([]string(nil), lines...)
	for range changes {
		at := r.IntN(len(lines) + 1)
		switch r.IntN(3) {
		case 0:
			lines = append(lines[:at:at], append([]string{fmt.Sprintf("new %d\n", r.IntN(9))}, lines[at:]...)...)
		case 1:
			if at < len(lines) {
				lines = append(lines[:at:at], lines[at+1:]...)
			}
		default:
			if at < len(lines) {
				lines[at] = fmt.Sprintf("changed %d\n", r.IntN(9))
			}
		}
	}
	return lines
}

func join(r *rand.Rand, lines []string) string {
	text := strings.Join(lines, "")
	if r.IntN(6) == 0 {
		text = strings.TrimSuffix(text, "\n")
	}
	return text
}

// Random edits, written as diffs of every kind, on files that have changed since: the
// same tree comes out, or neither applies.
func TestAsGNU(t *testing.T) {
	program := gnu(t)
	rounds := 250
	if testing.Short() {
		rounds = 60
	}
	applied := 0
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			var before []string
			kinds := 1 + r.IntN(40) // few kinds of lines fit in many places
			for range r.IntN(60) {
				before = append(before, fmt.Sprintf("line %d\n", r.IntN(kinds)))
			}
			after := edit(r, before, 1+r.IntN(5))
			found := edit(r, before, r.IntN(4))
			if r.IntN(12) == 0 {
				found = after
			}
			flags := [][]string{{"-u"}, {"-U1"}, {"-U0"}, {"-U5"}, {"-c"}, {"-C1"}, {}}[r.IntN(7)]
			dir := t.TempDir()
			write(t, dir, map[string]string{"a/sub/file": join(r, before), "b/sub/file": join(r, after)})
			command := exec.Command("diff", append(flags, "a/sub/file", "b/sub/file")...)
			command.Dir = dir
			text, _ := command.Output() // its status says that there are differences
			if len(flags) == 0 {
				text = append([]byte("Index: a/sub/file\n"), text...)
			}
			if same(t, program, map[string]string{"sub/file": join(r, found)}, text, 1, r.IntN(4)) {
				applied++
			}
		})
	}
	if applied < rounds/4 {
		t.Errorf("only %d of %d patches applied: the test shows little", applied, rounds)
	}
}
