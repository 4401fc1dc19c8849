package images_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/images"
)

// hostLibrary gives a library of this machine, which is real where its loader is glibc.
func hostLibrary(t *testing.T, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/" + map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH] + "-linux-gnu/" + name)
	if len(found) == 0 {
		t.Skipf("this machine has no %s of glibc", name)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The cache lists what ldconfig lists of the same root, and makes the links that it makes.
func TestLibraryCache(t *testing.T) {
	program := "/sbin/ldconfig"
	if _, err := os.Stat(program); err != nil {
		t.Skip("there is no ldconfig (of glibc)")
	}
	loader, math, resolver := hostLibrary(t, "ld-linux*.so.*"), hostLibrary(t, "libm.so.6"), hostLibrary(t, "libresolv.so.2")
	st := openStore(t)
	image := mustCompose(t, st, "contents: {packages: [glibc, extra]}\n",
		contents{name: "glibc", version: "2.43-r0", files: []string{
			"0755 usr/lib/", "lib -> usr/lib", "lib64 -> usr/lib", "0644 etc/ld.so.conf # further folders\ninclude /etc/ld.so.conf.d/*.conf\n",
			"0755 usr/lib/ld-linux-x86-64.so.2 " + loader, "0755 usr/lib/libm.so.6 " + math, "usr/lib/libm.so -> libm.so.6",
			"0755 usr/lib/libresolv-2.40.so " + resolver, "0755 usr/lib/libresolv-2.9.so " + resolver + "x", "0644 usr/lib/libtext.so.1 no library\n", "usr/lib/libnone.so.1 -> nowhere",
		}},
		contents{name: "extra", version: "1-r0", files: []string{"0644 etc/ld.so.conf.d/extra.conf /opt/extra/lib\n/opt/none\n", "0755 opt/extra/lib/libm.so.6 " + math + "other"}},
	)
	root := t.TempDir()
	extract(t, image, root)
	composed := ldconfig(t, program, "-p", "-C", filepath.Join(root, "etc/ld.so.cache"))
	arch := map[string]string{"amd64": "x86-64", "arm64": "AArch64"}[runtime.GOARCH]
	want := strings.ReplaceAll(`5 libs found in cache
	libresolv.so.2 (W) => /lib/libresolv.so.2
	libm.so.6 (W) => /opt/extra/lib/libm.so.6
	libm.so.6 (W) => /lib/libm.so.6
	libm.so (W) => /lib/libm.so
	ld-linux-x86-64.so.2 (W) => /lib/ld-linux-x86-64.so.2
`, "W", "libc6,"+arch)
	if runtime.GOARCH == "amd64" {
		if diff := cmp.Diff(want, composed); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	if target, err := os.Readlink(filepath.Join(root, "usr/lib/libresolv.so.2")); err != nil || target != "libresolv-2.40.so" {
		t.Errorf("libresolv.so.2: got a link to %q, %v; want one to the newer file", target, err)
	}
	if os.Getuid() != 0 {
		t.Skip("ldconfig -r needs root")
	}
	ldconfig(t, program, "-r", root)
	if diff := cmp.Diff(ldconfig(t, program, "-p", "-C", filepath.Join(root, "etc/ld.so.cache")), composed); diff != "" {
		t.Errorf("-ldconfig +composed:\n%s", diff)
	}
}

// Libraries for some processors lie in folders of their own, and the cache tells which.
// What glibc's loader takes of them on this machine is what it takes by ldconfig's cache.
func TestLibraryCacheOfProcessors(t *testing.T) {
	program := "/sbin/ldconfig"
	if _, err := os.Stat(program); err != nil || os.Getuid() != 0 || runtime.GOARCH != "amd64" {
		t.Skip("ldconfig -r needs glibc, root, and here a machine of the x86-64 family")
	}
	math, resolver, zlib := hostLibrary(t, "libm.so.6"), hostLibrary(t, "libresolv.so.2"), hostLibrary(t, "libutil.so.1")
	image := mustCompose(t, openStore(t), "contents: {packages: [glibc]}\n", contents{name: "glibc", version: "2.43-r0", files: []string{
		"0755 usr/lib/", "lib -> usr/lib", "0644 etc/ld.so.conf /opt/lib\n", "0755 usr/lib/libm.so.6 " + math,
		"0755 usr/lib/glibc-hwcaps/x86-64-v3/libm-3.so " + math, "0755 usr/lib/glibc-hwcaps/x86-64-v2/libm.so.6 " + math, "0755 usr/lib/glibc-hwcaps/odd/libm.so.6 " + math,
		"0755 usr/lib/glibc-hwcaps/x86-64-v3/libresolv.so.2 " + resolver, "0755 usr/lib/libresolv.so.2 " + resolver,
		"0755 usr/lib/glibc-hwcaps/x86-64-v3/libutil.so.1.9 " + zlib, "usr/lib/glibc-hwcaps/x86-64-v3/libutil.so.1 -> libutil.so.1.9", "usr/lib/glibc-hwcaps/a -> x86-64-v3", "usr/lib/glibc-hwcaps/x86-64-v4 -> /opt/v4", "0755 opt/v4/libm.so.6 " + math, "0644 usr/lib/glibc-hwcaps/README x",
		"0755 opt/lib/glibc-hwcaps/x86-64-v2/libm.so.6 " + math,
	}})
	root := t.TempDir()
	extract(t, image, root)
	cache := filepath.Join(root, "etc/ld.so.cache")
	composed := ldconfig(t, program, "-p", "-C", cache)
	if !strings.Contains(composed, `libm.so.6 (libc6,x86-64, hwcap: "x86-64-v3") => /lib/glibc-hwcaps/x86-64-v3/libm-3.so`) {
		t.Errorf("got %s", composed)
	}
	ldconfig(t, program, "-r", root)
	if diff := cmp.Diff(ldconfig(t, program, "-p", "-C", cache), composed); diff != "" {
		t.Errorf("-ldconfig +composed:\n%s", diff)
	}
}

func ldconfig(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ldconfig %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	text := regexp.MustCompile(" in cache .*").ReplaceAllString(string(out), " in cache")
	return regexp.MustCompile(`(?m)^Cache generated by.*\n`).ReplaceAllString(text, "")
}

// Without glibc's configuration there is no cache.
func TestNoLibraryCache(t *testing.T) {
	image := mustCompose(t, openStore(t), "contents: {packages: [musl]}\n", muslPackage)
	if strings.Contains(list(t, image), "ld.so.cache") {
		t.Error("an image without /etc/ld.so.conf has a cache")
	}
}

// extract unpacks the layers of an image, without owners.
func extract(t *testing.T, image *images.Image, dir string) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for h, data := range members(t, image) {
		name := strings.TrimSuffix(h.Name, "/")
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			err = root.WriteFile(name, data, 0o755)
		default:
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// members gives what is in the layers, from the bottom up.
func members(t *testing.T, image *images.Image) func(yield func(*tar.Header, []byte) bool) {
	t.Helper()
	return func(yield func(*tar.Header, []byte) bool) {
		oci, err := image.OCI()
		if err != nil {
			t.Fatal(err)
		}
		layers, err := oci.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			r, err := l.Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			for tr := tar.NewReader(bytes.NewReader(data)); ; {
				h, err := tr.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				content, err := io.ReadAll(tr)
				if err != nil {
					t.Fatal(err)
				}
				if !yield(h, content) {
					return
				}
			}
		}
	}
}
