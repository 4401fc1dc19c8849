package prefetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/tarn-build/tarn/pkg/store"
)

// tree is what is left of what package managers downloaded: it is written beside the raw
// files, of which it takes those that are the same whoever asked whichever registry.
type tree struct{ root *os.Root }

// from and to are paths below the work folder.
func from(elements ...string) string { return path.Join(raw, path.Join(elements...)) }
func to(elements ...string) string   { return path.Join(Folder, path.Join(elements...)) }

// write puts a file into the tree.
func (t *tree) write(name string, data []byte) error {
	if err := t.root.MkdirAll(path.Dir(to(name)), 0o755); err != nil {
		return err
	}
	if err := t.root.Remove(to(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return t.root.WriteFile(to(name), data, 0o644)
}

// take puts a raw file into the tree as it is: it gets a second name.
func (t *tree) take(source, name string) error {
	info, err := t.root.Lstat(source)
	if err != nil {
		return err
	}
	if err := t.root.MkdirAll(path.Dir(to(name)), 0o755); err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		link, err := t.root.Readlink(source)
		if err != nil {
			return err
		}
		return t.root.Symlink(link, to(name))
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither file, folder nor symbolic link", strings.TrimPrefix(source, raw+"/"))
	}
	return t.root.Link(source, to(name))
}

// each visits the files and links below a folder; none when it is not there.
func (t *tree) each(folder string, visit func(name string) error) error {
	err := fs.WalkDir(t.root.FS(), folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return visit(strings.TrimPrefix(name, folder+"/"))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Normalise makes the tree of what lies raw in a work folder, in place of an earlier one.
func Normalise(work *os.Root) (contents map[string]string, err error) {
	if err := work.RemoveAll(Folder); err != nil {
		return nil, err
	}
	if err := work.MkdirAll(Folder, 0o755); err != nil {
		return nil, err
	}
	t := &tree{work}
	for _, one := range []struct {
		name string
		do   func(*tree) error
	}{{"go", (*tree).goModules}, {"npm", (*tree).npmCache}, {"pip", (*tree).wheels}, {"cargo", (*tree).crates}, {"files", (*tree).files}} {
		if err := one.do(t); err != nil {
			return nil, fmt.Errorf("what %s downloaded: %w", one.name, err)
		}
	}
	return Contents(work)
}

// Pack puts the tree of a work folder into the store.
func Pack(ctx context.Context, st *store.Store, work *os.Root) (store.Digest, int64, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(archive.Pack(ctx, w, work, Folder, archive.PackOptions{})) }()
	d, size, err := st.Put(r)
	r.CloseWithError(errors.New("nobody reads"))
	return d, size, err
}

// Place unpacks the tree that a lock names into a work folder, and gives the variables
// that make package managers use it and ask nobody. A list of the lock's that says other
// than what the tree holds is a diag.Problems: reviewers read the list, and not the tree.
func Place(ctx context.Context, st *store.Store, locked *Entry, work *os.Root) (env map[string]string, err error) {
	blob, err := st.Open(locked.Digest())
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	if err := work.MkdirAll(Folder, 0o755); err != nil {
		return nil, err
	}
	if err := archive.Extract(ctx, work, Folder, "what was prefetched", blob, archive.Options{ModTime: time.Unix(0, 0)}); err != nil {
		return nil, err
	}
	if err := locked.compare(work); err != nil {
		return nil, err
	}
	return Offline(work), nil
}

// Offline gives the variables for the tree that lies in a work folder.
func Offline(work *os.Root) map[string]string {
	env := map[string]string{}
	at := path.Join(workPath, Folder)
	for folder, set := range map[string]map[string]string{
		"go": {"GOPROXY": "file://" + at + "/go", "GOSUMDB": "off", "GONOSUMDB": "*", "GOTOOLCHAIN": "local", "GOMODCACHE": workPath + "/.cache/go/pkg/mod"},
		"npm": {"npm_config_cache": at + "/npm", "npm_config_offline": "true", "npm_config_registry": npmRegistry, "npm_config_replace_registry_host": "always",
			"npm_config_audit": "false", "npm_config_fund": "false", "npm_config_update_notifier": "false"},
		"pip":   {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": at + "/pip", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
		"cargo": {"CARGO_HOME": at + "/cargo", "CARGO_NET_OFFLINE": "true"},
		"files": {"PREFETCH": at + "/files"},
	} {
		if info, err := work.Lstat(path.Join(Folder, folder)); err == nil && info.IsDir() {
			for name, value := range set {
				env[name] = value
			}
		}
	}
	return env
}

// Find gives the name of a secret's file: the first one of the tree that holds a secret.
func Find(work *os.Root, secrets []string) (name string, err error) {
	if len(secrets) == 0 {
		return "", nil
	}
	longest := len(slices.MaxFunc(secrets, func(a, b string) int { return len(a) - len(b) }))
	err = fs.WalkDir(work.FS(), Folder, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name != "" {
			return err
		}
		held, err := holds(work, p, secrets, longest)
		if held || containsAny(p, secrets) {
			name = strings.TrimPrefix(p, Folder+"/")
		}
		return err
	})
	return name, err
}

func containsAny(text string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}

func holds(work *os.Root, name string, secrets []string, longest int) (bool, error) {
	if info, err := work.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	f, err := work.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buffer := make([]byte, 0, 1<<20+4*longest)
	for {
		n, err := io.ReadFull(f, buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if containsAny(string(buffer), secrets) {
			return true, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		buffer = buffer[:copy(buffer, buffer[len(buffer)-longest:])]
	}
}
