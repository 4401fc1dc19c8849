package images

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/tarn-build/tarn/pkg/store"
)

// piece is one file of an output: bytes, or a blob of the store.
type piece struct {
	name string // below the output's folder, in the way of the system; "" is the output itself
	data []byte
	blob store.Digest
	size int64  // of the blob
	what string // that the blob is, for messages
}

// written is what the store remembers of an output: what it was made of, and the state
// in which its files were left. What is still in that state need not be written again,
// which is to say that composing an image again with nothing changed reads no layer.
type written struct {
	Content string                           // all that decides the output's bytes
	Files   map[string]store.FileState       // by name below the output
	Blobs   map[store.Digest]store.FileState // of the store, as they were found right
}

// output is a file or folder that is made of images.
type output struct {
	st      *store.Store
	path    string // absolute
	id      store.ActionID
	content string
	before  written // the zero value when nothing is known
	now     written
}

// newOutput is the output at a path; content stands for all that decides its bytes.
func newOutput(st *store.Store, path, content string) (*output, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	h := store.NewHash("image output")
	h.Line("version", 1)
	h.Line("path", path)
	o := &output{st: st, path: path, id: h.Sum(), content: content}
	o.now = written{Content: content, Files: map[string]store.FileState{}, Blobs: map[store.Digest]store.FileState{}}
	if _, err := st.Recall(o.id, &o.before); err != nil {
		return nil, err
	}
	return o, nil
}

// isThere reports whether the output is there already, as it was left. The blobs that it
// is made of are held against their digests where they are not as they were found right:
// what is in the store is checked when it is used, though it is not read.
func (o *output) isThere(pieces []piece) (bool, error) {
	if o.before.Content != o.content || len(o.before.Files) == 0 {
		return false, nil
	}
	for name := range o.before.Files {
		if !o.isAsLeft(name) {
			return false, nil
		}
	}
	if _, alone := o.before.Files[""]; !alone {
		files := 0
		err := filepath.WalkDir(o.path, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files++
			}
			return err
		})
		if err != nil || files != len(o.before.Files) {
			return false, nil
		}
	}
	for _, p := range pieces {
		if p.blob == "" {
			continue
		}
		if err := o.check(p); err != nil {
			return false, err
		}
	}
	if !maps.Equal(o.now.Blobs, o.before.Blobs) {
		o.now.Files = o.before.Files
		return true, o.st.RememberUnsynced(o.id, o.now)
	}
	return true, nil
}

func (o *output) check(p piece) error {
	state, err := o.st.Check(p.blob, o.before.Blobs[p.blob])
	if err != nil {
		return fmt.Errorf("%s: %w", p.what, err)
	}
	o.now.Blobs[p.blob] = state
	return nil
}

// isAsLeft tells whether a file of the output is in the state in which it was left.
func (o *output) isAsLeft(name string) bool {
	state, known := o.before.Files[name]
	if !known {
		return false
	}
	info, err := os.Lstat(filepath.Join(o.path, name))
	return err == nil && store.StateOf(info) == state
}

// fill makes the pieces in a folder that takes the output's place afterwards. A blob
// that is in the output already, as it was left, is the same file there.
func (o *output) fill(ctx context.Context, dir string, pieces []piece) error {
	for _, p := range pieces {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		file := filepath.Join(dir, p.name)
		if err := makeFolders(dir, filepath.Dir(p.name)); err != nil {
			return err
		}
		if p.blob != "" && o.isAsLeft(p.name) {
			if err := o.check(p); err != nil {
				return err
			}
			if os.Link(filepath.Join(o.path, p.name), file) == nil {
				continue
			}
		}
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		err = f.Chmod(0o644) // whatever the umask is
		if err == nil {
			err = o.copy(ctx, f, p)
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeFolders makes a folder below dir, whatever the umask is.
func makeFolders(dir, name string) error {
	if name == "." {
		return nil
	}
	if err := makeFolders(dir, filepath.Dir(name)); err != nil {
		return err
	}
	err := os.Mkdir(filepath.Join(dir, name), 0o755)
	if os.IsExist(err) {
		return nil
	}
	if err == nil {
		err = os.Chmod(filepath.Join(dir, name), 0o755)
	}
	return err
}

// copyStep is how much is copied before a look at whether to stop.
const copyStep = 8 << 20

// copy writes a piece. The bytes of a blob go from file to file within the kernel, after
// they were hashed.
func (o *output) copy(ctx context.Context, to *os.File, p piece) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if p.blob == "" {
		_, err := to.Write(p.data)
		return err
	}
	f, err := o.st.Open(p.blob)
	if err != nil {
		return fmt.Errorf("%s: %w", p.what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	o.now.Blobs[p.blob] = store.StateOf(info)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch n, err := io.CopyN(to, f, copyStep); {
		case err == io.EOF || err == nil && n < copyStep:
			return nil
		case err != nil:
			return err
		}
	}
}

// remember notes in which state the output was left. It is a hint for the next time, so
// what goes wrong with it is of no consequence now.
func (o *output) remember(names ...string) {
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(o.path, name))
		if err != nil {
			return
		}
		o.now.Files[name] = store.StateOf(info)
	}
	_ = o.st.RememberUnsynced(o.id, o.now)
}

// writeFile writes bytes to a file, unless they are there.
func writeFile(file string, data []byte) error {
	if there, err := os.ReadFile(file); err == nil && bytes.Equal(there, data) {
		if info, err := os.Lstat(file); err == nil && info.Mode() == 0o644 {
			return nil
		}
	}
	return replaceFile(file, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// contentOf stands for values that decide an output's bytes.
func contentOf(values ...any) string {
	text, err := json.Marshal(values)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return string(store.DigestOf(text))
}
