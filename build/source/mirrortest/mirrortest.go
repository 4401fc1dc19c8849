// Package mirrortest holds what every mirror of sources promises.
package mirrortest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/host"
)

// Run holds a mirror to its promises. New makes one that has the files; each is
// named as upstream names it, and belongs to a source of the name before the version.
func Run(t *testing.T, new func(t *testing.T, files map[string][]byte) source.Mirror) {
	files := map[string][]byte{
		"alpha-1.0.tar.gz":  []byte("alpha"),
		"beta_2.0+dfsg.tar": bytes.Repeat([]byte("beta "), 100_000),
		"empty-1.txt":       {},
	}
	m := new(t, files)
	if m.Name() == "" {
		t.Error("it has no name")
	}
	t.Run("gives files by their digest", func(t *testing.T) {
		var wg sync.WaitGroup
		for name, want := range files {
			wg.Go(func() {
				got, err := read(context.Background(), m, digest(want), name)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if !bytes.Equal(got, want) {
					t.Errorf("%s: got %d other bytes, want %d", name, len(got), len(want))
				}
			})
		}
		wg.Wait()
	})
	t.Run("a file that it does not have is fs.ErrNotExist", func(t *testing.T) {
		for _, name := range []string{"alpha-9.tar.gz", "alpha/alpha-9.tar.gz", "../../etc/passwd", "..", "", "a b?c#d%zz"} {
			if _, err := read(context.Background(), m, strings.Repeat("0123456789abcdef", 4), name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: got %v", name, err)
			}
		}
	})
	t.Run("what is no digest is refused", func(t *testing.T) {
		for _, sum := range []string{"", "abc", "../../../../etc/passwd", strings.ToUpper(digest([]byte("alpha"))), strings.Repeat("/", 64)} {
			if _, err := read(context.Background(), m, sum, "alpha-1.0.tar.gz"); err == nil {
				t.Errorf("%q is accepted", sum)
			}
		}
	})
	t.Run("it heeds the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := read(ctx, m, digest(files["alpha-1.0.tar.gz"]), "alpha-1.0.tar.gz"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

// RunGit holds a mirror of git repositories to its promises. New makes one that has the
// bare repository in a folder of this machine, as that of an address.
func RunGit(t *testing.T, bare, address string, new func(t *testing.T) source.GitMirror) {
	m := new(t)
	ctx := context.Background()
	t.Run("gives copies that git can fetch from", func(t *testing.T) {
		for _, spelling := range []string{address, strings.TrimSuffix(address, ".git"), address + "/", strings.Replace(address, "https://", "http://user@", 1)} {
			copies, release, err := m.Repositories(ctx, spelling)
			if err != nil || len(copies) == 0 {
				t.Fatalf("%s: %v, %v", spelling, copies, err)
			}
			git := host.GitOptions{Protocols: []string{"file", "http"}}
			want, err := host.Git(ctx, git, "--git-dir", bare, "for-each-ref", "--format=%(objectname)\t%(refname)")
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range copies {
				out, err := host.Git(ctx, git, "ls-remote", "--refs", "--", c)
				if err != nil || string(out) != string(want) {
					t.Errorf("%s: %s has\n%s, %v, want\n%s", spelling, c, out, err, want)
				}
			}
			release()
		}
	})
	t.Run("a repository that it does not have is fs.ErrNotExist", func(t *testing.T) {
		for _, other := range []string{"https://example.org/none.git", "https://elsewhere.example/team/x.git", "https://example.org/../../../" + bare, "https://..", "file://" + bare, "", ":", "https://example.org/a%2fb.git"} {
			copies, release, err := m.Repositories(ctx, other)
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: got %v, %v", other, copies, err)
			}
			if err == nil {
				release()
			}
		}
	})
	t.Run("it heeds the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if _, _, err := m.Repositories(ctx, address); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func read(ctx context.Context, m source.Mirror, sha256, name string) ([]byte, error) {
	r, err := m.Open(ctx, sha256, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
