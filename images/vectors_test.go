package images_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// others puts package files that other people made into the store.
func others(t *testing.T, st *store.Store, names ...string) []images.Package {
	t.Helper()
	var packages []images.Package
	for _, name := range names {
		data, err := os.ReadFile(shared(t, "vectors/"+name))
		if err != nil {
			t.Fatal(err)
		}
		p, err := apk.ReadPackage(bytes.NewReader(data), int64(len(data)), apk.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		digest, _, err := st.Put(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		entry := &apk.Entry{Info: p.Info, Checksum: p.Checksum, FileSize: int64(len(data))}
		packages = append(packages, images.Package{Entry: entry, Digest: digest, From: name})
	}
	return packages
}

const realImage = "contents: {packages: [alpine-baselayout, libcap, hello-wolfi]}\n"

// Packages of Alpine and Wolfi: the files, modes and owners are those that apk
// installs, as their archives list them, and the database names each file once.
func TestRealPackages(t *testing.T) {
	st := openStore(t)
	names := []string{"alpine-316/alpine-baselayout-3.2.0-r23.apk", "libcap-2.69-r0.apk", "hello-wolfi-2.12.1-r1.apk"}
	packages := others(t, st, names...)
	image, err := images.Compose(t.Context(), load(t, realImage), packages, images.Options{Arch: apk.ArchAArch64, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "real.files", list(t, image))
	golden(t, "real.installed", topFile(t, image, "usr/lib/apk/db/installed"))
	golden(t, "real.spdx.json", string(image.SBOM))
	var scripts []string
	r := tar.NewReader(strings.NewReader(topFile(t, image, "usr/lib/apk/db/scripts.tar")))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, h.Name)
	}
	c := packages[0].Entry.Checksum
	var want []string
	for _, s := range []string{".post-install", ".post-upgrade", ".pre-install", ".pre-upgrade"} {
		want = append(want, fmt.Sprintf("alpine-baselayout-3.2.0-r23.X1%x%s", c[:], s))
	}
	if diff := cmp.Diff(want, scripts); diff != "" {
		t.Errorf("scripts: -want +got:\n%s", diff)
	}
}

// A package whose data is not what its control section says is no part of an image.
func TestDamagedPackage(t *testing.T) {
	st := openStore(t)
	for _, test := range []struct {
		summary  string
		packages []images.Package
	}{
		{"of others, with the data cut down", others(t, st, "aws-c-s3-0.4.9-r0.apk")},
		{"of another checksum", func() []images.Package {
			packages := put(t, st, muslPackage)
			packages[0].Entry.Checksum[0] ^= 1
			return packages
		}()},
		{"for another architecture", func() []images.Package {
			packages := put(t, st, muslPackage)
			packages[0].Entry.Arch = apk.ArchAArch64
			return packages
		}()},
	} {
		arch := test.packages[0].Entry.Arch
		if test.summary == "for another architecture" {
			arch = apk.ArchX86_64
		}
		_, err := images.Compose(t.Context(), load(t, "contents: {packages: [x]}\n"), test.packages, images.Options{Arch: arch, Store: st})
		if err == nil || !strings.Contains(err.Error(), test.packages[0].Entry.FullName()) {
			t.Errorf("%s: got %v, want an error that names the package", test.summary, err)
		}
	}
}

// topFile reads a file out of the top layer.
func topFile(t *testing.T, image *images.Image, name string) string {
	t.Helper()
	oci, err := image.OCI()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := oci.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[len(layers)-1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if h.Name == name {
			data, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
	}
}
