package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/tarn-build/tarn/pkg/archive"
	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
)

// MirrorWriter writes what was fetched into a folder that FolderMirror reads, and that any
// web server makes a mirror for other machines:
//
//	sha256/HEX            files
//	sha512/HEX            the same, for recipes that name no SHA-256
//	signature/HEX/NAME    signatures whose own digest no recipe names, by their source's SHA-256
//	git/HOST/PATH.git     repositories, bare, whole or as shallow as recipes asked for
//
// What is there already stays. Several may write at the same time, of files; of
// repositories one.
type MirrorWriter struct {
	Fetcher *Fetcher
	Dir     string
}

// Add writes what the steps of a script ask from outside, fetched before.
func (m *MirrorWriter) Add(ctx context.Context, s *recipes.Script, list []Wanted) error {
	v := verifier{m.Fetcher, s}
	for _, w := range list {
		if w.Git != nil {
			t, err := v.tree(ctx, *w.Git)
			if err == nil {
				err = m.addTree(ctx, t)
			}
			if err != nil {
				return err
			}
			continue
		}
		files := []Source{*w.File}
		if how := w.File.Verify; how != nil {
			if _, err := v.fetch(ctx, w); err != nil {
				return err
			}
			for _, b := range []*Beside{how.Signature, how.Checksums} {
				switch {
				case b == nil || b.Path != "":
				case b.SHA256 != "":
					files = append(files, b.Source)
				default:
					if err := m.addSignature(ctx, *w.File, b); err != nil {
						return err
					}
				}
			}
		}
		for _, f := range files {
			d, err := v.Fetch(ctx, f)
			if err == nil {
				err = m.AddBlob(d)
			}
			if err == nil && f.SHA512 != "" {
				err = m.link(d, f.SHA512)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// AddScript is Add for all that the builds and the tests of a script ask for.
func (m *MirrorWriter) AddScript(ctx context.Context, s *recipes.Script) error {
	list, err := Of(s)
	for i := range s.Packages {
		more, terr := OfTest(s, s.Packages[i].Test)
		list, err = append(list, more...), errors.Join(err, terr)
	}
	if err != nil {
		return err
	}
	return m.Add(ctx, s, list)
}

// addSignature writes what was believed for a source under the source's digest.
func (m *MirrorWriter) addSignature(ctx context.Context, s Source, b *Beside) error {
	of, err := m.Fetcher.Fetch(ctx, s)
	if err != nil {
		return err
	}
	d, known := m.Fetcher.knownBeside(b, of)
	if !known {
		return nil // it was not looked at
	}
	if err := checkSignatureAsked(ctx, of.Hex(), b.Name); err != nil {
		return err
	}
	return m.write(d, filepath.Join(m.Dir, "signature", of.Hex(), b.Name))
}

// AddBlob writes a blob of the store.
func (m *MirrorWriter) AddBlob(d store.Digest) error {
	name := filepath.Join(m.Dir, "sha256", d.Hex())
	if there, err := os.Stat(name); err == nil {
		blob, err := m.Fetcher.Store.Open(d)
		if err != nil {
			return err
		}
		info, err := blob.Stat()
		blob.Close()
		if err == nil && info.Size() == there.Size() {
			return nil
		}
	}
	return m.write(d, name)
}

// write writes a blob as a file, in the stead of what was there.
func (m *MirrorWriter) write(d store.Digest, name string) error {
	blob, err := m.Fetcher.Store.Open(d)
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	w, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer w.Cleanup()
	if _, err := io.Copy(w, blob); err != nil {
		return err
	}
	return w.CloseAtomicallyReplace()
}

// link gives a file its name by SHA-512 as well.
func (m *MirrorWriter) link(d store.Digest, sha512 string) error {
	name := filepath.Join(m.Dir, "sha512", sha512)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	err := os.Link(filepath.Join(m.Dir, "sha256", d.Hex()), name)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// addTree writes the repositories of a checkout: its own, and those of its submodules.
func (m *MirrorWriter) addTree(ctx context.Context, t tree) error {
	dir, release, err := m.Fetcher.Store.TempDir("mirror")
	if err != nil {
		return err
	}
	defer release()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	blob, err := m.Fetcher.Store.Open(t.Archive)
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return err
	}
	if err := archive.Extract(ctx, root, ".", string(t.Archive), blob, archive.Options{Only: []string{".git"}}); err != nil {
		return err
	}
	return m.addRepository(ctx, filepath.Join(dir, ".git"))
}

// addRepository copies a repository that tarn made, named by where it came from.
func (m *MirrorWriter) addRepository(ctx context.Context, from string) error {
	options := host.GitOptions{Dir: m.Dir, Protocols: []string{"file"}}
	// The work folder of a submodule's is not here.
	if _, err := host.Git(ctx, options, "config", "--file", filepath.Join(from, "config"), "--replace-all", "core.bare", "true"); err != nil {
		return err
	}
	_, _ = host.Git(ctx, options, "config", "--file", filepath.Join(from, "config"), "--unset", "core.worktree")
	out, err := host.Git(ctx, options, "config", "--file", filepath.Join(from, "config"), "--get", "remote.origin.url")
	if err != nil {
		return err
	}
	p, err := repositoryPath(strings.TrimSpace(string(out)))
	if err != nil {
		return fmt.Errorf("%s: %w", redact.Address(strings.TrimSpace(string(out))), err)
	}
	to, err := filepath.Abs(filepath.Join(m.Dir, "git", filepath.FromSlash(p)))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if _, err := host.Git(ctx, options, "init", "--quiet", "--bare", "--", to); err != nil {
		return err
	}
	head, err := host.Git(ctx, options, "--git-dir="+from, "rev-parse", "--verify", "HEAD^{commit}")
	if err != nil {
		return err
	}
	commit := strings.TrimSpace(string(head))
	options.Dir = to
	_, err = os.Stat(filepath.Join(to, "shallow"))
	shallow := err == nil
	_, err = os.Stat(filepath.Join(from, "shallow"))
	whole := err != nil
	args := []string{"fetch", "--quiet", "--no-tags", "--force", "--update-shallow"}
	if whole && shallow {
		args = append(args, "--unshallow")
	}
	args = append(args, "--", "file://"+from,
		"+HEAD:refs/tarn/"+commit, "+refs/tags/*:refs/tags/*", "+refs/remotes/origin/*:refs/heads/*")
	if _, err := host.Git(ctx, options, args...); err != nil {
		return err
	}
	// For servers that know nothing of git: one pack, and lists of what there is.
	for _, args := range [][]string{{"symbolic-ref", "HEAD", "refs/heads/HEAD"}, {"repack", "-a", "-d", "--quiet"}, {"pack-refs", "--all"}, {"update-server-info"}} {
		if _, err := host.Git(ctx, options, args...); err != nil {
			return err
		}
	}
	var submodules []string
	modules := filepath.Join(from, "modules")
	err = filepath.WalkDir(modules, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == "HEAD" && d.Type().IsRegular() {
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), "objects")); err == nil {
				submodules = append(submodules, filepath.Dir(p))
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, dir := range submodules {
		if err := m.addRepository(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}
