package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// imageArches are those that the packages of an imageWorkshop are there for.
var imageArches = []apk.Arch{apk.ArchX86_64, apk.ArchAArch64}

// imageWorkshop is a workspace with a repository "r" of a package "small" and one of so
// many bytes that do not compress, "big", and image files for both.
func imageWorkshop(t *testing.T, bytesOfBig int) *workshop {
	t.Helper()
	w := &workshop{t, t.TempDir()}
	t.Cleanup(func() { _ = store.RemoveAll(w.path("cache")) })
	w.write("tarn.yaml", "name: images\nimages: [images]\nkeys: [keys]\nrepositories: [r]\n")
	w.write("images/small.yaml", "contents: {packages: [small]}\narchs: [x86_64, aarch64]\n")
	w.write("images/big.yaml", "contents: {packages: [small, big]}\narchs: [x86_64]\n")
	for _, dir := range []string{"tmp", "home", "cache", "keys"} {
		if err := os.MkdirAll(w.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	key, err := sign.Generate("test.rsa", 2048)
	if err == nil {
		err = key.WriteFiles(w.path("keys"))
	}
	public := &sign.Keyring{}
	if err == nil {
		err = public.Add(key.Public())
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	noise := make([]byte, bytesOfBig)
	r := rand.NewChaCha8([32]byte{3})
	if _, err := r.Read(noise); err != nil {
		t.Fatal(err)
	}
	var packages []repo.Unsigned
	for _, arch := range imageArches {
		for name, text := range map[string]string{"small": "small\n", "big": string(noise)} {
			data := apktest.Write(t, apk.Info{Name: name, Version: "1-r0", Arch: arch, Licenses: []string{"MIT"}, BuildDate: 1700000000}, "usr/share/"+name+"/text", text)
			digest, _, err := st.Put(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			packages = append(packages, repo.Unsigned{Entry: apktest.Entry(t, data), Digest: digest})
		}
	}
	if _, err := repo.Publish(t.Context(), w.path("r"), st, key, public, packages); err != nil {
		t.Fatal(err)
	}
	return w
}

// wholeImage makes sure that what stands under an image's final names is whole, and gives
// the digests in the layout.
func wholeImage(t *testing.T, dir, name string) []string {
	t.Helper()
	index, err := layout.ImageIndexFromPath(filepath.Join(dir, name))
	if err == nil {
		err = validate.Index(index)
	}
	if err != nil {
		t.Fatalf("layout: %v", err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var digests []string
	for _, d := range m.Manifests {
		digests = append(digests, d.Digest.String())
	}
	archives, err := filepath.Glob(filepath.Join(dir, name+"*.tar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range archives {
		archive, err := tarball.ImageFromPath(file, nil)
		if err == nil {
			err = validate.Image(archive)
		}
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(file), err)
		}
	}
	boms, err := filepath.Glob(filepath.Join(dir, name+"*.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range boms {
		data, err := os.ReadFile(file)
		if err != nil || !json.Valid(data) {
			t.Fatalf("%s is no JSON, or %v", filepath.Base(file), err)
		}
	}
	return digests
}

// beside are the names in a folder of images that begin with a dot: what is not finished.
func beside(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// An image that is stopped while it is written, by Ctrl-C or by kill -9, leaves the one
// that was there or the new one under the final names, and Ctrl-C nothing beside them.
func TestImageIsWholeWhenStopped(t *testing.T) {
	w := imageWorkshop(t, 16<<20)
	out := w.path(".out/images")
	variants := []string{"first", "second"}
	whole := map[string]bool{}
	for _, v := range variants {
		w.write("images/big.yaml", "contents: {packages: [small, big]}\narchs: [x86_64]\ncmd: "+v+"\n")
		w.must("", "image", "build", "big")
		whole[wholeImage(t, out, "big")[0]] = true
	}
	r := rand.New(rand.NewPCG(5, 6))
	hits := 0
	for i := range 24 {
		signal := []unix.Signal{unix.SIGINT, unix.SIGKILL}[i%2]
		w.write("images/big.yaml", "contents: {packages: [small, big]}\narchs: [x86_64]\ncmd: "+variants[i/2%2]+"\n")
		c := w.command("image", "build", "big")
		lines, err := c.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for scanner := bufio.NewScanner(lines); scanner.Scan(); {
			if strings.Contains(scanner.Text(), ": write") {
				time.AfterFunc(time.Duration(r.Int64N(int64(150*time.Millisecond))), func() { _ = unix.Kill(-c.Process.Pid, signal) })
			}
		}
		code := exitOf(t, c.Wait())
		switch {
		case code == 128+int(signal):
			hits++
		case code != 0:
			t.Fatalf("%v: exit %d", signal, code)
		}
		if got := wholeImage(t, out, "big"); len(got) != 1 || !whole[got[0]] {
			t.Fatalf("%v: the layout has %v", signal, got)
		}
		if left := beside(t, out); signal == unix.SIGINT && code != 0 && len(left) > 0 {
			t.Errorf("Ctrl-C leaves %q", left)
		}
		// Whoever builds next removes what the killed one left.
		if signal == unix.SIGKILL {
			w.must("", "image", "build", "big")
			if left := beside(t, out); len(left) > 0 {
				t.Errorf("the run after kill -9 leaves %q", left)
			}
		}
	}
	if hits == 0 {
		t.Error("no run was stopped before its end")
	}
}

// A disk that is full leaves what was there, nothing half-written, and says what to do.
func TestImageOnAFullDisk(t *testing.T) {
	if !mounting(t) {
		return
	}
	w := imageWorkshop(t, 8<<20)
	out := w.path("out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", out, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("no file system of a few MB can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(out, unix.MNT_DETACH) })
	w.write("images/big.yaml", "contents: {packages: [small]}\narchs: [x86_64]\n")
	w.must("", "image", "build", "-o", out, "big")
	before := wholeImage(t, out, "big")
	// There is room for the layout and none for the archive; then not even for the first.
	for _, fill := range []int{0, 10 << 20} {
		if err := os.WriteFile(filepath.Join(out, "filler"), make([]byte, fill), 0o644); err != nil {
			t.Fatal(err)
		}
		w.write("images/big.yaml", "contents: {packages: [small, big]}\narchs: [x86_64]\n")
		code, said := w.run("image", "build", "-o", out, "big")
		if code != exitFailed || !strings.Contains(said, "no space left on device") || !strings.Contains(said, "hint: make room there and run again") {
			t.Errorf("exit %d:\n%s", code, said)
		}
		if left := beside(t, out); len(left) > 0 {
			t.Errorf("%q is left", left)
		}
		if got := wholeImage(t, out, "big"); fill > 0 && !slices.Equal(got, before) {
			t.Errorf("the layout has %v, and had %v", got, before)
		}
		w.write("images/big.yaml", "contents: {packages: [small]}\narchs: [x86_64]\n")
		w.must("", "image", "build", "-o", out, "big")
	}
	if err := os.Remove(filepath.Join(out, "filler")); err != nil {
		t.Fatal(err)
	}
	w.must("", "image", "build", "-o", out, "big")
	if got := wholeImage(t, out, "big"); !slices.Equal(got, before) {
		t.Errorf("with room again: %v, want %v", got, before)
	}
}

// bytesBelow are the SHA-256 of all files below a folder, with their modes.
func bytesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		if all[name] = info.Mode().String(); d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[name] += " " + string(store.DigestOf(data))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// timeText is a time as JSON and annotations have it.
var timeText = regexp.MustCompile(`\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z`)

// timesIn are the times that stand anywhere in the images of a folder: in their text, in
// the headers of layers and archives, in those of gzip.
func timesIn(t *testing.T, dir string) (all []time.Time) {
	t.Helper()
	var look func(data []byte)
	look = func(data []byte) {
		switch {
		case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			// Some compressors write the time that is none as the first second of the year 1, cut
			// to 32 bits.
			if z.ModTime.Unix() != int64(uint32(time.Time{}.Unix()&0xffffffff)) {
				all = append(all, z.ModTime)
			}
			text, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			look(text)
		case len(data) > 262 && string(data[257:262]) == "ustar":
			for r := tar.NewReader(bytes.NewReader(data)); ; {
				h, err := r.Next()
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, h.ModTime)
				text, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				look(text)
			}
		default:
			for _, text := range timeText.FindAll(data, -1) {
				at, err := time.Parse(time.RFC3339, string(text))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, at)
			}
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		look(data)
		return err
	})
	if err != nil || len(all) < 10 {
		t.Fatalf("only %d times, %v", len(all), err)
	}
	return all
}

// The same image file and lock give the same bytes, of layouts, archives and SBOMs: on
// another day, by another user, in another folder, under another umask, with another number
// of processors, with an empty store, and out of a repository that another key signed.
func TestImageIsTheSameEverywhere(t *testing.T) {
	w := imageWorkshop(t, 2<<20)
	w.must("", "image", "lock")
	w.must("", "image", "build")
	want := bytesBelow(t, w.path(".out/images"))
	if len(want) < 10 {
		t.Fatalf("only %v was written", want)
	}
	same := func(t *testing.T, got map[string]string) {
		t.Helper()
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%s is %s, and was %s", name, got[name], want[name])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d files, %d before", len(got), len(want))
		}
	}
	// elsewhere is the workspace in another folder, with a store of its own.
	elsewhere := func(t *testing.T) *workshop {
		t.Helper()
		other := &workshop{t, filepath.Join(t.TempDir(), "deep", "in", "there")}
		t.Cleanup(func() { _ = store.RemoveAll(other.path("cache")) })
		if err := os.MkdirAll(other.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"images", "keys", "r"} {
			if err := os.CopyFS(other.path(name), os.DirFS(w.path(name))); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(w.path("tarn.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		other.write("tarn.yaml", string(data))
		for _, dir := range []string{"tmp", "home", "cache"} {
			if err := os.MkdirAll(other.path(dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return other
	}
	build := func(t *testing.T, other *workshop, change func(c *exec.Cmd)) {
		t.Helper()
		c := other.command("image", "build")
		change(c)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		same(t, bytesBelow(t, other.path(".out/images")))
	}
	t.Run("folder and store", func(t *testing.T) { build(t, elsewhere(t), func(*exec.Cmd) {}) })
	t.Run("processors", func(t *testing.T) {
		build(t, elsewhere(t), func(c *exec.Cmd) { c.Env = append(c.Env, "GOMAXPROCS=1") })
		build(t, elsewhere(t), func(c *exec.Cmd) { c.Env = append(c.Env, "GOMAXPROCS=7") })
	})
	t.Run("umask", func(t *testing.T) {
		build(t, elsewhere(t), func(c *exec.Cmd) {
			c.Args = append([]string{"sh", "-c", `umask 077; exec "$@"`, "sh", c.Path}, c.Args[1:]...)
			c.Path = "/bin/sh"
		})
	})
	t.Run("time zone and language", func(t *testing.T) {
		build(t, elsewhere(t), func(c *exec.Cmd) { c.Env = append(c.Env, "TZ=Pacific/Apia", "LANG=tr_TR.UTF-8", "LC_ALL=tr_TR.UTF-8") })
	})
	t.Run("user", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root becomes another user")
		}
		other := elsewhere(t)
		const nobody = 65534
		err := filepath.WalkDir(other.dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, nobody, nobody))
		})
		if err != nil {
			t.Fatal(err)
		}
		build(t, other, func(c *exec.Cmd) {
			c.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
			for _, path := range []string{c.Path, other.dir} {
				for dir := filepath.Dir(path); dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
					if err := os.Chmod(dir, 0o755); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	})
	t.Run("day", func(t *testing.T) {
		other := elsewhere(t)
		// The clock is everybody's, and can't be set for one process. So: no time that stands
		// in what was written is this one's, and those of the files that were read count for nothing.
		past := time.Date(1999, 1, 2, 3, 4, 5, 0, time.UTC)
		err := filepath.WalkDir(other.dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chtimes(path, past, past))
		})
		if err != nil {
			t.Fatal(err)
		}
		build(t, other, func(*exec.Cmd) {})
		for _, at := range timesIn(t, other.path(".out/images")) {
			if at.Unix() != 0 && at.Unix() != 1700000000 {
				t.Errorf("the time %s stands in an image of packages of %s", at.UTC(), time.Unix(1700000000, 0).UTC())
			}
		}
	})
	t.Run("key", func(t *testing.T) {
		other := elsewhere(t)
		if err := os.RemoveAll(other.path("keys")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(other.path("keys"), 0o755); err != nil {
			t.Fatal(err)
		}
		key, err := sign.Generate("test.rsa", 3072)
		if err == nil {
			err = key.WriteFiles(other.path("keys"))
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, arch := range imageArches {
			files, err := filepath.Glob(other.path("r/" + string(arch) + "/*.apk"))
			if err != nil || len(files) == 0 {
				t.Fatalf("%v %v", files, err)
			}
			other.must("", append([]string{"sign", "--signing-key", other.path("keys/test.rsa")}, files...)...)
			other.must("", "index", "--signing-key", other.path("keys/test.rsa"), "-o", other.path("r/"+string(arch)+"/APKINDEX.tar.gz"), other.path("r/"+string(arch)))
		}
		build(t, other, func(*exec.Cmd) {})
	})
}

// Images are composed side by side, and the index of each architecture is asked for once,
// whatever the number of images.
func TestImagesReadEachIndexOnce(t *testing.T) {
	w := imageWorkshop(t, 1<<10)
	var mu sync.Mutex
	asked := map[string]int{}
	files := http.FileServer(http.Dir(w.path("r")))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.URL.Path]++
		mu.Unlock()
		files.ServeHTTP(rw, r)
	}))
	defer server.Close()
	var names []string
	for i := range 6 {
		name := fmt.Sprintf("image%d", i)
		names = append(names, w.path("images/"+name+".yaml"))
		w.write("images/"+name+".yaml", "contents:\n  repositories: ["+server.URL+"]\n  packages: [small, big]\narchs: [x86_64, aarch64]\ncmd: "+name+"\n")
	}
	w.write("tarn.yaml", "name: images\nimages: [images]\nkeys: [keys]\n")
	t.Chdir(w.dir)
	var out, said bytes.Buffer
	code := run(context.Background(), streams{strings.NewReader(""), &out, &said}, append([]string{"image", "build", "--json", "--cache-dir", w.path("cache")}, names...))
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, &said)
	}
	var rows []imageRow
	if err := json.Unmarshal(out.Bytes(), &rows); err != nil || len(rows) != 2*len(names) {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, r := range rows {
		if want := fmt.Sprintf("image%d", i/2); r.Image != want || r.Arch != imageArches[i%2] {
			t.Errorf("row %d is %s for %s", i, r.Image, r.Arch)
		}
	}
	for _, arch := range imageArches {
		if n := asked["/"+string(arch)+"/APKINDEX.tar.gz"]; n != 1 {
			t.Errorf("the index of %s was asked for %d times", arch, n)
		}
	}
}
