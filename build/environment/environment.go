// Package environment makes the root of a sandbox of an exact set of packages:
// folders that are laid over each other, each unpacked once per machine. It runs
// nothing, and knows nothing of what will run in the root.
package environment

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
	"github.com/tarn-build/tarn/repo"
)

// treeVersion is raised when packages are unpacked in another way, topVersion when
// the top layer holds something else.
const (
	treeVersion = 1
	topVersion  = 2
)

// Options say what an environment holds besides its packages. The zero value is
// that of a build.
type Options struct {
	Arch apk.Arch
	// Database writes what is installed for apk to read, and World what was asked for.
	Database bool
	World    []solve.Requirement
	// Accounts are users and groups besides those of the packages, and who runs
	// commands; root does when nil.
	Accounts *recipes.Accounts
}

// Environment is an assembled root.
type Environment struct {
	// Layers are folders of the store, read-only; the first is on top.
	Layers []string
	// UID and GID are the user that commands run as.
	UID, GID int
	// Users and Groups are those of its passwd and group.
	Users  []rootfs.User
	Groups []rootfs.Group
}

// Assemble unpacks what is not unpacked yet, several packages at once, and finds how the
// layers have to lie. Two packages that own one path are an error, unless one
// replaces the other.
func Assemble(ctx context.Context, st *store.Store, lock repo.Lock, o Options) (*Environment, error) {
	trees := make([]*store.Tree, len(lock))
	packages := make([]*rootfs.Package, len(lock))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i, locked := range lock {
		group.Go(func() error {
			tree, err := Unpack(groupCtx, st, locked)
			if err != nil {
				return err
			}
			trees[i], packages[i] = tree, contents(&locked.Entry.Info, tree)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	root, err := rootfs.Conflicts(packages)
	if err != nil {
		return nil, fmt.Errorf("assemble environment: %w", err)
	}
	if o.Database {
		if lock, err = withChecksums(ctx, st, lock); err != nil {
			return nil, fmt.Errorf("assemble environment: %w", err)
		}
	}
	top, err := topLayer(root, packages, lock, o)
	if err != nil {
		return nil, fmt.Errorf("assemble environment: %w", err)
	}
	env := &Environment{Users: root.Users(), Groups: root.Groups()}
	if o.Accounts != nil {
		if env.UID, env.GID, err = runAs(root, o.Accounts.RunAs); err != nil {
			return nil, err
		}
	}
	if len(top) > 0 {
		tree, err := st.Tree(ctx, topID(lock, o), func(dir *os.Root) error { return write(dir, top) })
		if err != nil {
			return nil, err
		}
		env.Layers = append(env.Layers, tree.Dir)
	}
	ids := make([]store.ActionID, len(lock))
	for i, locked := range lock {
		ids[i] = treeID(locked)
	}
	layers, err := layersOf(ctx, st, ids, trees, maxLayers-len(env.Layers))
	if err != nil {
		return nil, fmt.Errorf("assemble environment: %w", err)
	}
	env.Layers = append(env.Layers, layers...)
	return env, nil
}

// withChecksums gives the lock with entries that apk's database can hold. A package
// that this machine makes, as the seed, has no checksum before it is made: its file
// says it then.
func withChecksums(ctx context.Context, st *store.Store, lock repo.Lock) (repo.Lock, error) {
	whole := slices.Clone(lock)
	for i, locked := range lock {
		if locked.Entry.Checksum != (apk.Checksum{}) {
			continue
		}
		digest, err := locked.Fetch(ctx, st)
		if err != nil {
			return nil, err
		}
		sum, err := checksumOf(st, digest)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", locked.Entry.FileName(), err)
		}
		entry := *locked.Entry
		entry.Checksum = sum
		whole[i].Entry = &entry
	}
	return whole, nil
}

func checksumOf(st *store.Store, digest store.Digest) (apk.Checksum, error) {
	f, err := st.Open(digest)
	if err != nil {
		return apk.Checksum{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return apk.Checksum{}, err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return apk.Checksum{}, err
	}
	return p.Checksum, nil
}

// Unpack gives the tree of one package. A package is fetched only when its tree is
// not there.
func Unpack(ctx context.Context, st *store.Store, locked repo.Locked) (*store.Tree, error) {
	tree, err := st.Tree(ctx, treeID(locked), func(root *os.Root) error {
		digest, err := locked.Fetch(ctx, st)
		if err != nil {
			return err
		}
		f, err := st.Open(digest)
		if err != nil {
			return err
		}
		defer f.Close()
		return Extract(ctx, root, f)
	})
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", locked.Entry.FullName(), err)
	}
	return tree, nil
}

func treeID(locked repo.Locked) store.ActionID {
	h := store.NewHash("package tree")
	h.Line("version", treeVersion)
	h.Line("identity", locked.Identity)
	return h.Sum()
}

// Extract unpacks a package file into a folder. Owners, setuid and setgid bits stay
// in the package's own words: on the disk everything belongs to whoever unpacks.
func Extract(ctx context.Context, root *os.Root, f *os.File) error {
	_, err := extract(ctx, root, f, fs.ModePerm|fs.ModeSticky)
	return err
}

// ExtractWithModes is Extract with setuid and setgid bits, for who looks at files
// and never runs them. It gives what the package says of itself.
func ExtractWithModes(ctx context.Context, root *os.Root, f *os.File) (*apk.Info, error) {
	return extract(ctx, root, f, fs.ModePerm|fs.ModeSticky|fs.ModeSetuid|fs.ModeSetgid)
}

func extract(ctx context.Context, root *os.Root, f *os.File, bits fs.FileMode) (*apk.Info, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return nil, err
	}
	if err := p.VerifyData(); err != nil {
		return nil, err
	}
	folders := map[string]*apk.File{} // their modes and times come last: a folder may be read-only
	err = p.Files(func(h *apk.File, content io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		// A package may leave out the entries of folders: these are plain ones.
		for dir := path.Dir(h.Path); dir != "." && folders[dir] == nil; dir = path.Dir(dir) {
			folders[dir] = &apk.File{Path: dir, Type: apk.TypeDir, Mode: 0o755, ModTime: epoch}
			if err := root.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if h.Type == apk.TypeDir {
			folders[h.Path] = h
		}
		return extractOne(root, h, content, bits)
	})
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(folders))) {
		h := folders[name]
		if err := root.Chmod(h.Path, h.Mode&bits); err != nil {
			return nil, err
		}
		if err := root.Chtimes(h.Path, h.ModTime, h.ModTime); err != nil {
			return nil, err
		}
	}
	return &p.Info, nil
}

func extractOne(root *os.Root, h *apk.File, content io.Reader, bits fs.FileMode) error {
	switch h.Type {
	case apk.TypeDir:
		return root.MkdirAll(h.Path, 0o755)
	case apk.TypeSymlink:
		return root.Symlink(h.Link, h.Path)
	case apk.TypeHardlink:
		return root.Link(h.Link, h.Path)
	}
	return writeFile(root, h.Path, h.Mode&bits, content, func(name string) error { return root.Chtimes(name, h.ModTime, h.ModTime) })
}

func writeFile(root *os.Root, name string, mode fs.FileMode, content io.Reader, finish func(name string) error) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return finish(name)
}

// onDisk is content that lies in a tree of the store.
type onDisk struct{ dir, name string }

func (c onDisk) Open() (io.ReadCloser, error) {
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Open(c.name)
}

// contents is a tree as package rootfs knows packages.
func contents(info *apk.Info, tree *store.Tree) *rootfs.Package {
	p := &rootfs.Package{Info: info, Entries: make([]rootfs.Entry, len(tree.Entries))}
	for i, e := range tree.Entries {
		p.Entries[i] = rootfs.Entry{Path: e.Path, Inode: rootfs.Inode{
			Mode: e.Mode, Size: e.Size, Target: e.Link, Sum: string(e.Digest), Content: onDisk{tree.Dir, e.Path},
		}}
	}
	return p
}

// topLayer gives what has to lie over the trees of the packages for the sum to be
// the right one: whose file wins where one package replaces another's, links that
// stand where a package brings a folder, the links to busybox, the database.
func topLayer(root *rootfs.Tree, packages []*rootfs.Package, lock repo.Lock, o Options) ([]*rootfs.Node, error) {
	wanted := map[string]bool{}
	for _, p := range packages {
		for _, d := range root.Deviations(p) {
			if d.To == "" {
				wanted[d.Path] = true
				continue
			}
			wanted[d.To] = true
			for dir := path.Dir(d.Path); dir != "."; dir = path.Dir(dir) {
				if n, found := root.Lstat(dir); found && n.Path == dir && n.Mode.Type() == fs.ModeSymlink {
					wanted[dir] = true
				}
			}
		}
	}
	made, err := root.BusyboxLinks()
	if err != nil {
		return nil, err
	}
	if o.Accounts != nil {
		written, err := addAccounts(root, o.Accounts)
		if err != nil {
			return nil, err
		}
		made = append(made, written...)
	}
	if o.Database {
		written, err := writeDatabase(root, packages, lock, o)
		if err != nil {
			return nil, err
		}
		made = append(made, written...)
	}
	for _, name := range made {
		n, found := root.Lstat(name)
		if !found {
			return nil, fmt.Errorf("internal error: %s is not in the tree that it was written to", name)
		}
		wanted[n.Path] = true
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	for name := range wanted {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			wanted[dir] = true
		}
	}
	var top []*rootfs.Node
	for n := range root.All() {
		if wanted[n.Path] {
			top = append(top, n)
		}
	}
	return top, nil
}

func topID(lock repo.Lock, o Options) store.ActionID {
	h := store.NewHash("environment top layer")
	h.Line("version", topVersion)
	h.Line("arch", string(o.Arch))
	h.Line("database", o.Database)
	for _, r := range o.World {
		h.Line("world", r.String())
	}
	if o.Accounts != nil {
		h.Line("accounts", *o.Accounts)
	}
	for _, p := range lock {
		h.Line("package "+p.Name, string(p.Version)+" "+p.Identity)
	}
	return h.Sum()
}

// epoch is the time of what is made here, so that nobody sees when that was.
var epoch = time.Unix(0, 0)

// write puts nodes into an empty folder.
func write(dir *os.Root, nodes []*rootfs.Node) error {
	for _, n := range nodes {
		var err error
		switch {
		case n.Mode.IsDir():
			err = dir.Mkdir(n.Path, 0o755)
		case n.Mode.Type() == fs.ModeSymlink:
			err = dir.Symlink(n.Target, n.Path)
		case n.Mode.IsRegular():
			err = copyContent(dir, n)
		}
		if err != nil {
			return err
		}
	}
	for _, n := range slices.Backward(nodes) {
		if n.Mode.IsDir() {
			if err := dir.Chmod(n.Path, n.Mode&(fs.ModePerm|fs.ModeSticky)); err != nil {
				return err
			}
			if err := dir.Chtimes(n.Path, epoch, epoch); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyContent(dir *os.Root, n *rootfs.Node) error {
	content, err := n.Content.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	return writeFile(dir, n.Path, n.Mode.Perm(), content, func(name string) error { return dir.Chtimes(name, epoch, epoch) })
}
