package source

import (
	"bytes"
	"io"
	"os"
	"strings"

	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/redact"
)

// pointer begins a file that Git LFS puts in the place of another (git-lfs,
// docs/spec.md).
var pointer = []byte("version https://git-lfs.github.com/spec/v1\n")

// tellPointers warns of pointers of Git LFS in a tree: their files lie on a server of its
// own, git does not fetch them, and a build that wants one finds three lines of text. It
// is no mistake, for many trees have pictures or test data that way.
func (c *checkout) tellPointers() error {
	out, err := host.Git(c.ctx, c.options, "ls-files", "-z", "--", ":(attr:filter=lfs)")
	if err != nil || len(out) == 0 {
		return err
	}
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	first, n := "", 0
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		info, err := root.Lstat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue // not part of a sparse tree
		}
		f, err := root.Open(name)
		if err != nil {
			continue
		}
		start := make([]byte, len(pointer))
		_, err = io.ReadFull(f, start)
		f.Close()
		if err == nil && bytes.Equal(start, pointer) {
			if n++; first == "" {
				first = name
			}
		}
	}
	if n > 0 && c.fetcher != nil {
		c.fetcher.Log.Warn("the tree has pointers of Git LFS in place of files; what the build needs of them is for a fetch step with a digest", "repository", redact.Address(c.g.Repository), "files", n, "first", first)
	}
	return nil
}
