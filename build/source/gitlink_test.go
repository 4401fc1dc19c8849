package source_test

import (
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/recipes"
)

// treeEntry is an entry of a tree object that git itself would not write.
type treeEntry struct{ mode, name, object string }

// object writes an object of git's as it is, and gives its id.
func (u *upstream) object(kind, data string) string {
	u.t.Helper()
	file := filepath.Join(u.t.TempDir(), "object")
	if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
		u.t.Fatal(err)
	}
	return u.git("hash-object", "-t", kind, "--literally", "-w", "--", file)
}

func (u *upstream) tree(entries ...treeEntry) string {
	u.t.Helper()
	var b strings.Builder
	for _, e := range entries {
		id, err := hex.DecodeString(e.object)
		if err != nil {
			u.t.Fatal(err)
		}
		b.WriteString(e.mode + " " + e.name + "\x00" + string(id))
	}
	return u.object("tree", b.String())
}

// commitTree makes a tree what main names.
func (u *upstream) commitTree(tree string) string {
	u.t.Helper()
	commit := u.git("commit-tree", "-m", "crafted", tree)
	u.git("update-ref", "refs/heads/main", commit)
	return commit
}

// outside is a repository of this machine that nobody named, and how it looks.
func outside(t *testing.T) (dir string, look func() []string) {
	t.Helper()
	u := newUpstream(t)
	u.commit("secret", "canary\n")
	dir = filepath.Join(u.dir, ".git")
	return dir, func() (all []string) {
		if err := filepath.WalkDir(u.dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			all = append(all, name+" "+info.Mode().String()+" "+info.ModTime().String())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
}

// A tree of git's, or one of a submodule's, that calls a link .git, or leads through one to
// where a submodule would lie: git would take what the link names for the repository.
func TestCheckoutFollowsNoLinkForARepository(t *testing.T) {
	dir, look := outside(t)
	before := look()
	file := func(u *upstream, text string) string { return u.object("blob", text) }
	modules := func(name, p, address string) string {
		return "[submodule \"" + name + "\"]\n\tpath = " + p + "\n\turl = " + address + "\n"
	}
	for _, test := range []struct {
		name    string
		refused bool
		make    func(u, sub *upstream, commit string) string // the tree of the outer one; commit is the submodule's
	}{
		{"a link of any other name, as the control", false, func(u, sub *upstream, commit string) string {
			return u.tree(treeEntry{"100644", ".gitmodules", file(u, modules("sub", "sub", sub.url))},
				treeEntry{"120000", "git", file(u, dir)}, treeEntry{"160000", "sub", commit})
		}},
		{"the link is .git", true, func(u, _ *upstream, _ string) string {
			return u.tree(treeEntry{"120000", ".git", file(u, dir)}, treeEntry{"100644", "a", file(u, "a\n")})
		}},
		{"its name is in capitals", true, func(u, _ *upstream, _ string) string {
			return u.tree(treeEntry{"120000", ".GIT", file(u, dir)})
		}},
		{"its name has a letter that some file systems pass over", true, func(u, _ *upstream, _ string) string {
			return u.tree(treeEntry{"120000", ".g\u200cit", file(u, dir)})
		}},
		{"it lies in a folder", true, func(u, _ *upstream, _ string) string {
			return u.tree(treeEntry{"40000", "folder", u.tree(treeEntry{"120000", ".git", file(u, dir)})})
		}},
		{".git is a file that names a repository", true, func(u, _ *upstream, _ string) string {
			return u.tree(treeEntry{"100644", ".git", file(u, "gitdir: "+dir+"\n")})
		}},
		{"the submodule's tree has it", true, func(u, sub *upstream, _ string) string {
			commit := sub.commitTree(sub.tree(treeEntry{"120000", ".git", file(sub, dir)}))
			return u.tree(treeEntry{"100644", ".gitmodules", file(u, modules("sub", "sub", sub.url))}, treeEntry{"160000", "sub", commit})
		}},
		{"the submodule's tree has one in a folder", true, func(u, sub *upstream, _ string) string {
			commit := sub.commitTree(sub.tree(treeEntry{"40000", "folder", sub.tree(treeEntry{"120000", ".git", file(sub, dir)})}))
			return u.tree(treeEntry{"100644", ".gitmodules", file(u, modules("sub", "sub", sub.url))}, treeEntry{"160000", "sub", commit})
		}},
		{"the submodule lies below a link", true, func(u, sub *upstream, commit string) string {
			return u.tree(treeEntry{"100644", ".gitmodules", file(u, modules("sub", "link/sub", sub.url))},
				treeEntry{"120000", "link", file(u, dir)}, treeEntry{"40000", "link", u.tree(treeEntry{"160000", "sub", commit})})
		}},
		{"the submodule is a link too", true, func(u, sub *upstream, commit string) string {
			return u.tree(treeEntry{"100644", ".gitmodules", file(u, modules("sub", "sub", sub.url))},
				treeEntry{"120000", "sub", file(u, dir)}, treeEntry{"160000", "sub", commit})
		}},
		{"the submodule is .git", true, func(u, sub *upstream, commit string) string {
			return u.tree(treeEntry{"160000", ".git", commit}, treeEntry{"100644", ".gitmodules", file(u, modules("sub", ".git", sub.url))})
		}},
		{"the submodule's name leads out", true, func(u, sub *upstream, commit string) string {
			return u.tree(treeEntry{"100644", ".gitmodules", file(u, modules("../../../out", "sub", sub.url))}, treeEntry{"160000", "sub", commit})
		}},
		{".gitmodules is a link", true, func(u, _ *upstream, commit string) string {
			return u.tree(treeEntry{"120000", ".gitmodules", file(u, filepath.Join(dir, "config"))}, treeEntry{"160000", "sub", commit})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, sub := newUpstream(t), newUpstream(t)
			commit := u.commitTree(test.make(u, sub, sub.commit("inner", "inner\n")))
			got, _, err := checkout(t, newFetcher(t), map[string]string{"repository": u.url, "expected-commit": commit, "recurse-submodules": "true"})
			if refused := err != nil; refused != test.refused {
				t.Errorf("checked out: %v, %v", got, err)
			}
		})
	}
	if after := look(); !slices.Equal(before, after) {
		t.Errorf("the repository outside was changed:\n%s\n\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// An earlier step, or an archive's, leaves a link called .git where a later one checks out.
func TestCheckoutIntoAFolderWhoseGitIsALink(t *testing.T) {
	dir, look := outside(t)
	before := look()
	u := newUpstream(t)
	commit := u.commit("a", "one\n")
	g, err := source.OfCheckout(recipes.Step{Native: "git-checkout", Inputs: map[string]string{"repository": u.url, "expected-commit": commit}})
	if err != nil {
		t.Fatal(err)
	}
	f := newFetcher(t)
	at := t.TempDir()
	root, err := os.OpenRoot(at)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	up, err := filepath.Rel(filepath.Join(at, "src"), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{dir, up} {
		if err := root.RemoveAll("src"); err != nil {
			t.Fatal(err)
		}
		if err := root.Mkdir("src", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := root.Symlink(link, "src/.git"); err != nil {
			t.Fatal(err)
		}
		err := f.Checkout(t.Context(), g, root, "src", time.Unix(1_700_000_000, 0))
		// Either it is refused, or the link gave way to the repository.
		if info, lerr := root.Lstat("src/.git"); err == nil && (lerr != nil || !info.IsDir()) {
			t.Errorf("%s: checked out, and .git is %v, %v", link, info, lerr)
		}
	}
	if after := look(); !slices.Equal(before, after) {
		t.Errorf("the repository outside was changed:\n%s\n\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}
