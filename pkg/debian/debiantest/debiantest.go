// Package debiantest makes small archives of Debian for tests: real .deb files, real
// indexes, and a Release that is signed with a key made for the test.
package debiantest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// NewKey makes a key that is as old as at and expires after a lifetime; 0 is never.
func NewKey(t testing.TB, name string, at time.Time, lifetime time.Duration) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return at }, KeyLifetimeSecs: uint32(lifetime / time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Sign makes a clear-signed text.
func Sign(t testing.TB, text string, at time.Time, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, private, &packet.Config{Time: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// Compressions are what members of a .deb are compressed with, by the end of their name.
var Compressions = map[string]func(io.Writer) (io.WriteCloser, error){
	"":     func(w io.Writer) (io.WriteCloser, error) { return plain{w}, nil },
	".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	".xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
	".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
}

// Tar makes a tar of entries, compressed. A regular file has its content; the
// header's size is set.
func Tar(t testing.TB, suffix string, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	c, err := Compressions[suffix](&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(c)
	for _, e := range entries {
		h := tar.Header{Name: e.Name, Mode: e.Mode, Typeflag: tar.TypeReg, Size: int64(len(e.Content)), Linkname: e.Link, Uid: e.UID}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		switch {
		case e.Type != 0:
			h.Typeflag = e.Type
		case strings.HasSuffix(e.Name, "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case e.Link != "":
			h.Typeflag = tar.TypeSymlink
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Entry is one path of a tar: a folder when its name ends in a slash, a symbolic
// link when it has one, else a file, unless Type says otherwise.
type Entry struct {
	Name, Content, Link string
	Type                byte
	Mode                int64
	UID                 int
}

// Deb makes a package of members that are made by Tar.
func Deb(t testing.TB, suffix, version string, control, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte(version)}, {"_ignored", []byte("x")}, {"control.tar" + suffix, control}, {"data.tar" + suffix, data}} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		b.Write(m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// Archive is an archive. It serves itself by HTTP.
type Archive struct {
	Key *openpgp.Entity

	mu     sync.Mutex
	files  map[string][]byte // by path below the root
	suites map[string]*suite
	// Asked counts requests by path.
	asked map[string]int
}

type suite struct{ packages, sources bytes.Buffer }

// New makes an empty archive with a key of its own.
func New(t testing.TB) *Archive {
	return &Archive{Key: NewKey(t, "archive", time.Now().Add(-time.Hour), 0), files: map[string][]byte{}, suites: map[string]*suite{}, asked: map[string]int{}}
}

func (a *Archive) suite(name string) *suite {
	if a.suites[name] == nil {
		a.suites[name] = new(suite)
	}
	return a.suites[name]
}

// SHA256 is the digest of data in hexadecimal.
func SHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// AddDeb adds a binary package to a suite and gives its path, size and digest.
func (a *Archive) AddDeb(t testing.TB, in, name, version string, entries ...Entry) (file string, size int, digest string) {
	t.Helper()
	data := Deb(t, ".xz", "2.0\n", Tar(t, ".xz", Entry{Name: "./control", Content: "Package: " + name + "\nVersion: " + version + "\nArchitecture: amd64\n"}), Tar(t, ".xz", entries...))
	_, plainVersion, found := strings.Cut(version, ":")
	if !found {
		plainVersion = version
	}
	file = path.Join("pool/main", name[:1], name, name+"_"+plainVersion+"_amd64.deb")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files[file] = data
	fmt.Fprintf(&a.suite(in).packages, "Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: %s\nSize: %d\nSHA256: %s\n\n", name, version, file, len(data), SHA256(data))
	return file, len(data), SHA256(data)
}

// AddSource adds a source package of one file to a suite and gives the file's digest.
func (a *Archive) AddSource(in, name, version, file string, data []byte) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	folder := poolFolder(name)
	a.files[path.Join(folder, file)] = data
	fmt.Fprintf(&a.suite(in).sources, "Package: %s\nVersion: %s\nDirectory: %s\nChecksums-Sha256:\n %s %d %s\n %s 1 %s.dsc\n\n", name, version, folder, SHA256(data), len(data), file, strings.Repeat("0", 64), name)
	return SHA256(data)
}

// AddUnlisted puts a file of a source into the pool that no index names, and gives
// its digest.
func (a *Archive) AddUnlisted(name, file string, data []byte) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files[path.Join(poolFolder(name), file)] = data
	return SHA256(data)
}

// poolFolder is the folder of a source in the pool.
func poolFolder(name string) string {
	if strings.HasPrefix(name, "lib") && len(name) > 3 {
		return path.Join("pool/main", name[:4], name)
	}
	return path.Join("pool/main", name[:1], name)
}

// Publish writes the indexes of all suites and signs them.
func (a *Archive) Publish(t testing.TB) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, s := range a.suites {
		var list strings.Builder
		for p, data := range map[string][]byte{"main/binary-amd64/Packages": s.packages.Bytes(), "main/source/Sources": s.sources.Bytes()} {
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			w.Write(data)
			w.Close()
			for p, data := range map[string][]byte{p: data, p + ".gz": z.Bytes()} {
				data = bytes.Clone(data)
				a.files[path.Join("dists", name, p)] = data
				a.files[path.Join("dists", name, path.Dir(p), "by-hash/SHA256", SHA256(data))] = data
				fmt.Fprintf(&list, " %s %d %s\n", SHA256(data), len(data), p)
			}
		}
		now := time.Now().UTC()
		text := fmt.Sprintf("Origin: Debian\nLabel: Debian\nSuite: %s\nCodename: %s\nDate: %s\nAcquire-By-Hash: yes\nArchitectures: amd64\nComponents: main\nSHA256:\n%s", name, name, now.Format("Mon, 02 Jan 2006 15:04:05 MST"), list.String())
		a.files["dists/"+name+"/InRelease"] = Sign(t, text, now, a.Key)
	}
}

// Files lists the paths there are.
func (a *Archive) Files() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.files))
}

// Change replaces the bytes of every file whose path ends so; nil removes it.
func (a *Archive) Change(t testing.TB, end string, change func([]byte) []byte) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	found := false
	for p, data := range a.files {
		if strings.HasSuffix(p, end) {
			found = true
			if data = change(bytes.Clone(data)); data == nil {
				delete(a.files, p)
			} else {
				a.files[p] = data
			}
		}
	}
	if !found {
		t.Fatalf("no file ends in %q", end)
	}
}

// Flip changes one byte.
func Flip(data []byte) []byte {
	data[len(data)/2] ^= 1
	return data
}

// Remove removes a file.
func Remove([]byte) []byte { return nil }

// Asked is how often paths that hold the text were asked for.
func (a *Archive) Asked(part string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, times := range a.asked {
		if strings.Contains(p, part) {
			n += times
		}
	}
	return n
}

// ServeHTTP serves the archive below /debian.
func (a *Archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := strings.TrimPrefix(r.URL.Path, "/debian/")
	a.mu.Lock()
	data, found := a.files[p]
	a.asked[p]++
	a.mu.Unlock()
	if !found {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+SHA256(data)[:16]+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// Etc makes a folder of apt's settings that names the archive, whose root is at an
// address, and its key.
func (a *Archive) Etc(t testing.TB, root string, suites ...string) string {
	t.Helper()
	dir := t.TempDir()
	var key bytes.Buffer
	if err := a.Key.Serialize(&key); err != nil {
		t.Fatal(err)
	}
	ring := filepath.Join(dir, "archive.gpg")
	if err := os.WriteFile(ring, key.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sources.list.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "Types: deb\nURIs: " + root + "/\nSuites: " + strings.Join(suites, " ") + "\nComponents: main\nSigned-By: " + ring + "\n"
	if err := os.WriteFile(filepath.Join(dir, "sources.list.d", "debian.sources"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
