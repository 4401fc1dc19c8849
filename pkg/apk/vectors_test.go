package apk_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"archive/tar"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/sign"
)

// All files that other people made are read: what each is, or why it is refused. What
// is within them is looked at in TestReadOthersPackages and TestReadOthersIndexes.
func TestEveryVector(t *testing.T) {
	dir := vectors(t)
	rows := map[string]string{
		"APKINDEX.tar.gz": "index of 2", "alpine-316/APKINDEX.tar.gz": "index of 4929", "alpine-317/APKINDEX.tar.gz": "index of 5004",
		"rsa256-signed/APKINDEX.tar.gz": "index of 1", "signing/APKINDEX.tar.gz": "index of 16",
		"alpine-316/alpine-baselayout-3.2.0-r23.apk": "alpine-baselayout-3.2.0-r23, data true", "alpine-317/alpine-baselayout-3.2.0-r23.apk": "alpine-baselayout-3.2.0-r23, data true",
		"alpine-317/alpine-baselayout-3.4.0-r0.apk": "alpine-baselayout-3.2.0-r23, data true" /* whatever it is called */, "hello-0.1.0-r0.apk": "hello-0.1.0-r0, data true",
		"hello-wolfi-2.12.1-r0.apk": "hello-wolfi-2.12.1-r0, data true", "hello-wolfi-2.12.1-r1.apk": "hello-wolfi-2.12.1-r1, data true",
		"libcap-2.69-r0.apk": "libcap-2.69-r0, data true", "perl-json-4.11-r0.apk": "perl-json-4.11-r0, data true", "ruby3.2-base64-0.2.0-r2.apk": "ruby3.2-base64-0.2.0-r2, data true",
		"replaces/replaces-0.0.1-r0.apk": "replaces-0.0.1-r0, data true",
		"aws-c-s3-0.4.9-r0.apk":          "aws-c-s3-0.4.9-r0, data false", // it was handed on with other data
		// A link that became text.
		"rsa256-signed/alpine-baselayout-3.2.0-r23.apk": "the file is no package: it begins neither with a gzip member nor with ADB",
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case strings.HasSuffix(name, ".rsa.pub"):
			if _, err := sign.ParsePublic(filepath.Base(name), data); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return nil
		case strings.HasSuffix(name, ".md"), strings.HasSuffix(name, ".yaml"):
			return nil
		}
		if got := whatItIs(data); got != rows[name] {
			t.Errorf("%s: got %q, want %q", name, got, rows[name])
		}
		delete(rows, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range rows {
		t.Errorf("%s is not there", name)
	}
}

func whatItIs(data []byte) string {
	x, err := apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
	if err == nil {
		return "index of " + strconv.Itoa(len(x.Entries))
	}
	p, err := apk.ReadPackage(bytes.NewReader(data), int64(len(data)), apk.Limits{})
	if err != nil {
		return err.Error()
	}
	return p.Info.FullName() + ", data " + strconv.FormatBool(p.VerifyData() == nil)
}

// Files that apk-tools made: see testdata/v3/README.md.
func TestVersion3Vectors(t *testing.T) {
	dir := filepath.Join("testdata", "v3")
	keys := &sign.Keyring{}
	if err := keys.Load(dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	deflate := read("deflate.apk")
	for name, key := range map[string]string{"deflate.apk": "vectors.rsa.pub", "zstd.apk": "vectors.rsa.pub", "ecdsa.apk": "vectors.pub"} {
		data := read(name)
		checkToolPackage(t, data, keys, key)
		if apktest.Read(t, data).SHA256 != apktest.Read(t, deflate).SHA256 {
			t.Errorf("%s is another package", name)
		}
		// What is read and written again is the same, but for the size, in which links count.
		p := apktest.Read(t, data)
		u := unsignedOf(t, p)
		u.Format = apk.V3
		again := apktest.Read(t, apktest.WriteAll(t, u))
		if diff := cmp.Diff(p.Info, again.Info, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Size" }, cmp.Ignore())); diff != "" {
			t.Errorf("%s: info (-read +written and read):\n%s", name, diff)
		}
		if diff := cmp.Diff(unsignedOf(t, p), unsignedOf(t, again), cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Files.Open" || p.String() == "Info" }, cmp.Ignore())); diff != "" {
			t.Errorf("%s: files (-read +written and read):\n%s", name, diff)
		}
	}
	checkToolIndex(t, filepath.Join(dir, "deflate.adb"), deflate, keys, "vectors.rsa.pub")
	checkToolIndex(t, filepath.Join(dir, "zstd.adb"), deflate, keys, "vectors.rsa.pub")
	// With a digest that is cut short, and other names of files.
	names := readIndex(t, read("names.adb"))
	if err := apktest.Read(t, deflate).Matches(names.Entries[0]); err != nil || names.Entries[0].SHA256 != (apk.SHA256{}) {
		t.Errorf("names.adb: %v, %s", err, names.Entries[0].SHA256)
	}
	if file, err := names.PackageFile(names.Entries[0]); err != nil || file != "x86_64/tool-1.2-r3.apk" {
		t.Errorf("names.adb: %q, %v", file, err)
	}
	// A package of version 2 beside one of version 3.
	both := readIndex(t, read("both.adb"))
	if len(both.Entries) != 2 || fmt.Sprintf("%x", both.Entries[0].Checksum[:]) != "7c713802c8de5d50feda41e0ec01ef18337e14f8" || both.Entries[0].SHA256 != (apk.SHA256{}) {
		t.Errorf("both.adb: %+v", both.Entries)
	}
	if err := apktest.Read(t, read("zstd.apk")).Matches(both.Entries[1]); err != nil {
		t.Error(err)
	}
}

// apk-tools knows signatures over SHA-512 in version 2 as well.
func TestRSA512(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := &sign.Keyring{}
	if err := keys.Add(sign.Public{Name: "new.rsa.pub", Key: &private.PublicKey}); err != nil {
		t.Fatal(err)
	}
	pkg := apktest.Package(t, "a", "1-r0", "b", "c")
	control := pkg[:apktest.Read(t, pkg).ControlSize]
	var index bytes.Buffer
	if err := apk.WriteIndex(&index, &apk.Index{}); err != nil {
		t.Fatal(err)
	}
	section := func(data []byte) []byte {
		sum := sha512.Sum512(data)
		value, err := rsa.SignPKCS1v15(nil, private, crypto.SHA512, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return archive(t, false, func(w *tar.Writer) { put(w, tar.Header{Name: ".SIGN.RSA512.new.rsa.pub"}, string(value)) })
	}
	if got, err := apktest.Read(t, slices.Concat(section(control), pkg)).VerifySignature(keys); err != nil || got != "new.rsa.pub" {
		t.Errorf("package: %q, %v", got, err)
	}
	if got, err := apk.VerifyIndex(slices.Concat(section(index.Bytes()), index.Bytes()), keys); err != nil || got != "new.rsa.pub" {
		t.Errorf("index: %q, %v", got, err)
	}
	if _, err := apk.VerifyIndex(slices.Concat(section(control), index.Bytes()), keys); err == nil {
		t.Error("the signature of something else holds")
	}
}
