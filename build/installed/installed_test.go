package installed_test

import (
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/build/installed"
)

// Whoever looks sees every file with its content and the mode that it was given. Run
// the tests as an ordinary user too: root reads anything.
func TestUnlock(t *testing.T) {
	work, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { work.Close() })
	for _, dir := range []string{"a", "a/closed", "b"} {
		if err := work.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	modes := map[string]fs.FileMode{"a/su": 0o111 | fs.ModeSetuid, "a/closed/none": 0, "a/plain": 0o644, "a/write": 0o200}
	for name, mode := range modes {
		if err := work.WriteFile(name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := work.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := work.Link("a/write", "b/also"); err != nil {
		t.Fatal(err)
	}
	if err := work.Symlink("/etc/shadow", "a/link"); err != nil {
		t.Fatal(err)
	}
	if err := work.Chmod("a/closed", 0); err != nil {
		t.Fatal(err)
	}
	unlocked, err := installed.Unlock(work)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"a": {"drwxr-xr-x .", "d--------- closed", `---------- closed/none "a/closed/none"`, "L link", `-rw-r--r-- plain "a/plain"`, `u--x--x--x su "a/su"`, `--w------- write "a/write"`},
		"b": {"drwxr-xr-x .", `--w------- also "a/write"`},
	}
	for name, list := range want {
		root, err := work.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		tree := unlocked.FS(root)
		var got []string
		err = fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			again, err := tree.Lstat(p)
			if err != nil || again.Mode() != info.Mode() {
				t.Errorf("%s: %v by its folder, %v by itself, %v", p, info.Mode(), again.Mode(), err)
			}
			switch {
			case info.Mode().Type() == fs.ModeSymlink:
				got = append(got, "L "+p)
			case info.IsDir():
				got = append(got, fmt.Sprintf("%v %s", info.Mode(), p))
			default:
				data, err := fs.ReadFile(tree, p)
				if err != nil {
					return err
				}
				got = append(got, fmt.Sprintf("%v %s %q", info.Mode(), p, data))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(list, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
