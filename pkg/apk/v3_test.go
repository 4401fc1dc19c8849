package apk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/sign"
)

var compressions = []adb.Compression{adb.Deflate, adb.Zstd, adb.Uncompressed}

// unsignedOf is what a package was written from, as far as it tells.
func unsignedOf(t testing.TB, p *apk.Package) apk.Unsigned {
	t.Helper()
	u := apk.Unsigned{Info: p.Info, Scripts: p.Scripts, Control: p.Control}
	err := p.Files(func(f *apk.File, content io.Reader) error {
		data, err := io.ReadAll(content)
		c := apk.Content{File: *f, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
		u.Files = append(u.Files, c)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// inVersion3 is what version 3 keeps of a package.
func inVersion3(i apk.Info) apk.Info {
	i.Packager, i.DataHash, i.ProviderPriority = "", "", max(i.ProviderPriority, 0)
	if license := i.License(); license != "" {
		i.Licenses = []string{license}
	}
	for _, list := range []*[]apk.Dependency{&i.Depends, &i.Provides, &i.Replaces, &i.InstallIf} {
		*list = slices.Clone(*list)
		slices.SortFunc(*list, func(a, b apk.Dependency) int { return strings.Compare(a.Name, b.Name) })
	}
	return i
}

// withoutFolderTimes is what version 3 keeps of files: of folders it tells no time.
func withoutFolderTimes(files map[string]entry) map[string]entry {
	kept := map[string]entry{}
	for path, e := range files {
		if e.Type == apk.TypeDir {
			e.Time = 0
		}
		if e.Type == apk.TypeHardlink {
			e.User, e.Group = "", "" // those of the file
		}
		kept[path] = e
	}
	return kept
}

// One build can be had in both versions, and each becomes the other and itself again.
func TestBothVersions(t *testing.T) {
	u := unsigned()
	second := apktest.Read(t, apktest.WriteAll(t, u))
	want, err := list(second)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range compressions {
		t.Run(c.String(), func(t *testing.T) {
			u := unsigned()
			u.Format, u.Compression = apk.V3, c
			var b bytes.Buffer
			written, err := apk.WritePackage(&b, u)
			if err != nil {
				t.Fatal(err)
			}
			third := apktest.Read(t, b.Bytes())
			if third.Format != apk.V3 || third.SHA256 != written.SHA256 || third.Checksum != written.Checksum || written.FileSize != int64(b.Len()) || !bytes.Equal(third.Checksum[:], third.SHA256[:20]) {
				t.Errorf("read %v %s %s, written %+v", third.Format, third.Checksum, third.SHA256, written)
			}
			if diff := cmp.Diff(inVersion3(second.Info), third.Info); diff != "" {
				t.Errorf("info (-version 2 +version 3):\n%s", diff)
			}
			if diff := cmp.Diff(second.Scripts, third.Scripts); diff != "" || len(third.Control) != 0 {
				t.Errorf("scripts (-version 2 +version 3):\n%s", diff)
			}
			got, err := list(third)
			if err != nil {
				t.Fatal(err)
			}
			// Numbers of owners are no part of version 3.
			owned := got["var/lib/nginx/x"]
			if owned.UID != 65534 || owned.GID != 65534 {
				t.Errorf("owner %d:%d, want nobody", owned.UID, owned.GID)
			}
			owned.UID, owned.GID = 101, 102
			got["var/lib/nginx/x"] = owned
			if diff := cmp.Diff(withoutFolderTimes(want), withoutFolderTimes(got)); diff != "" {
				t.Errorf("files (-version 2 +version 3):\n%s", diff)
			}
			again := unsignedOf(t, third)
			again.Format, again.Compression = apk.V3, c
			if !bytes.Equal(b.Bytes(), apktest.WriteAll(t, again)) {
				t.Error("what was read is written with other bytes")
			}
			again.Format = apk.V2
			back := apktest.Read(t, apktest.WriteAll(t, again))
			if diff := cmp.Diff(third.Info, back.Info, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "DataHash" }, cmp.Ignore())); diff != "" {
				t.Errorf("info (-version 3 +version 2):\n%s", diff)
			}
			slices.Reverse(u.Files)
			if !bytes.Equal(b.Bytes(), apktest.WriteAll(t, u)) {
				t.Error("the same files in another order give other bytes")
			}
		})
	}
}

// Every package that others made becomes one of version 3 with the same files.
func TestOthersPackagesInVersion3(t *testing.T) {
	dir := vectors(t)
	files, err := filepath.Glob(dir + "/*.apk")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(dir + "/*/*.apk")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, more...) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.HasPrefix(data, []byte("../")) {
				t.Skip("a link that became text")
			}
			p := apktest.Read(t, data)
			if p.VerifyData() != nil {
				t.Skip("its data is not what it says")
			}
			third := converted(t, p, apk.V3)
			if third.Format != apk.V3 || third.Info.FullName() != p.Info.FullName() || len(third.Scripts) != len(p.Scripts) {
				t.Errorf("%s with %d scripts", third.Info.FullName(), len(third.Scripts))
			}
			want, got := apktest.Contents(t, p), apktest.Contents(t, third)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("files (-version 2 +version 3):\n%s", diff)
			}
			// And back: the files are those of the package, but for owners that have numbers alone.
			back := converted(t, third, apk.V2)
			if diff := cmp.Diff(want, apktest.Contents(t, back)); diff != "" || back.Format != apk.V2 {
				t.Errorf("files (-version 2 +version 2 again):\n%s", diff)
			}
			if diff := cmp.Diff(inVersion3(p.Info), inVersion3(back.Info), cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Size" }, cmp.Ignore())); diff != "" {
				t.Errorf("info (-version 2 +version 2 again):\n%s", diff)
			}
		})
	}
}

func converted(t *testing.T, p *apk.Package, f apk.Format) *apk.Package {
	t.Helper()
	var b bytes.Buffer
	dir := t.TempDir()
	written, err := apk.Convert(&b, p, f, adb.Zstd, dir)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 || written.FileSize != int64(b.Len()) {
		t.Errorf("left behind: %v; %d bytes, told are %d", left, b.Len(), written.FileSize)
	}
	return apktest.Read(t, b.Bytes())
}

func TestSignVersion3(t *testing.T) {
	one, two := newKeys()[0], newKeys()[1]
	for _, c := range compressions {
		u := unsigned()
		u.Format, u.Compression = apk.V3, c
		plain := apktest.WriteAll(t, u)
		first := signedBy(t, plain, one)
		if !bytes.Equal(first, signedBy(t, plain, one)) {
			t.Error("a second signature has other bytes")
		}
		second := signedBy(t, first, two)
		for _, test := range []struct {
			name string
			data []byte
			keys apk.KeySet
			want string // the key, or the error
			ok   bool
		}{
			{"trusted", first, ring(two, one), "one.rsa.pub", true},
			{"not trusted", first, ring(two), "which is no trusted key", false},
			{"no keys", first, nil, "which is no trusted key", false},
			{"unsigned", plain, ring(one), "it bears no signature", false},
			{"replaced", second, ring(two), "two.rsa.pub", true},
			{"replaced, the old one is gone", second, ring(one), "which is no trusted key", false},
		} {
			p := apktest.Read(t, test.data)
			if p.SHA256 != apktest.Read(t, plain).SHA256 || p.VerifyData() != nil {
				t.Errorf("%s: another package", test.name)
			}
			got, err := p.VerifySignature(test.keys)
			if test.ok && (err != nil || got != test.want) {
				t.Errorf("%s: got %q, %v, want %q", test.name, got, err, test.want)
			}
			if _, is := errors.AsType[*apk.TrustError](err); !test.ok && (!is || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%s: got %v, want a TrustError %q", test.name, err, test.want)
			}
		}
	}
}

// A repository changes its key: for a while all bears both signatures.
func TestAddSignaturesVersion3(t *testing.T) {
	one, two := newKeys()[0], newKeys()[1]
	u := unsigned()
	u.Format = apk.V3
	var both bytes.Buffer
	first := signedBy(t, apktest.WriteAll(t, u), one)
	if err := apk.AddSignatures(&both, bytes.NewReader(first), int64(len(first)), time.Time{}, two, one); err != nil {
		t.Fatal(err)
	}
	p := apktest.Read(t, both.Bytes())
	if len(p.Signatures) != 2 || p.VerifyData() != nil {
		t.Errorf("package: %d signatures, data %v", len(p.Signatures), p.VerifyData())
	}
	var plain, index, again bytes.Buffer
	x := &apk.Index{Format: apk.V3, Entries: []*apk.Entry{apktest.Entry(t, first)}}
	if err := apk.WriteIndex(&plain, x); err != nil {
		t.Fatal(err)
	}
	if err := apk.AddIndexSignatures(&index, plain.Bytes(), one); err != nil {
		t.Fatal(err)
	}
	if err := apk.AddIndexSignatures(&again, index.Bytes(), two); err != nil {
		t.Fatal(err)
	}
	for _, key := range []*sign.Key{one, two} {
		if got, err := p.VerifySignature(ring(key)); err != nil || got != key.KeyName() {
			t.Errorf("package: %q, %v", got, err)
		}
		if got, err := apk.VerifyIndex(again.Bytes(), ring(key)); err != nil || got != key.KeyName() {
			t.Errorf("index: %q, %v", got, err)
		}
	}
	if bare, err := apk.WithoutSignatures(again.Bytes()); err != nil || !bytes.Equal(bare, plain.Bytes()) {
		t.Errorf("without signatures it is another index: %v", err)
	}
}

func TestIndexVersion3(t *testing.T) {
	u := unsigned()
	u.Format = apk.V3
	third := apktest.Entry(t, apktest.WriteAll(t, u))
	x := &apk.Index{Format: apk.V3, Description: "a test", Names: "${arch}/${name:1}/${name}-${version}.apk", Entries: []*apk.Entry{
		apktest.Entry(t, apktest.Package(t, "zlib", "1.10-r0")), third, apktest.Entry(t, apktest.Package(t, "zlib", "1.9-r0")),
	}}
	for _, c := range compressions {
		x.Compression = c
		var b bytes.Buffer
		if err := apk.WriteIndex(&b, x, newKeys()[0], newKeys()[1]); err != nil {
			t.Fatal(err)
		}
		for _, key := range newKeys() {
			if got, err := apk.VerifyIndex(b.Bytes(), ring(key)); err != nil || got != key.KeyName() {
				t.Errorf("verify: got %q, %v", got, err)
			}
		}
		read := readIndex(t, b.Bytes())
		if got, err := read.VerifySignature(testKeys); err != nil || got != "one.rsa.pub" {
			t.Errorf("verify what was read: got %q, %v", got, err)
		}
		if read.Format != apk.V3 || read.Compression != c || read.Description != "a test" || len(read.Entries) != 3 || len(read.Signatures) != 2 {
			t.Fatalf("read %+v", read)
		}
		want := *third
		want.Info = inVersion3(want.Info)
		want.Triggers, want.ReplacesPriority = nil, 0
		if diff := cmp.Diff(&want, read.Entries[0]); diff != "" {
			t.Errorf("entry (-want +got):\n%s", diff)
		}
		if got := read.Entries[1].FullName() + " " + read.Entries[2].FullName(); got != "zlib-1.9-r0 zlib-1.10-r0" {
			t.Errorf("order: %s", got)
		}
		if got, err := read.PackageFile(read.Entries[0]); err != nil || got != "x86_64/f/full-1.2.3-r4.apk" {
			t.Errorf("file: %q, %v", got, err)
		}
		var again bytes.Buffer
		if err := apk.WriteIndex(&again, read, newKeys()[0], newKeys()[1]); err != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
			t.Errorf("what was read is written with other bytes: %v", err)
		}
		// Of what version 2 can list, the same.
		read.Format, read.Entries = apk.V2, read.Entries[1:]
		again.Reset()
		if err := apk.WriteIndex(&again, read); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(read.Entries, readIndex(t, again.Bytes()).Entries); diff != "" {
			t.Errorf("entries (-version 3 +version 2):\n%s", diff)
		}
	}
	x.Format = apk.V2
	if err := apk.WriteIndex(io.Discard, x); err == nil || !strings.Contains(err.Error(), "full-1.2.3-r4 is a package of version 3") {
		t.Errorf("got %v, want that an index of version 2 can't list it", err)
	}
	for _, names := range []string{"../${name}.apk", "/${name}", "${name", "${nothing}", "${name:x}", "https://example.org/${name}"} {
		if err := apk.WriteIndex(io.Discard, &apk.Index{Format: apk.V3, Names: names}); err == nil {
			t.Errorf("names %q were written", names)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, format := range []apk.Format{apk.V2, apk.V3} {
		u := unsigned()
		u.Format = format
		p := apktest.Read(t, apktest.WriteAll(t, u))
		for name, test := range map[string]struct {
			change func(e *apk.Entry)
			want   string
		}{
			"the same":             {func(*apk.Entry) {}, ""},
			"other checksum":       {func(e *apk.Entry) { e.Checksum[19] ^= 1 }, "checksum does not match the index"},
			"no checksum":          {func(e *apk.Entry) { e.Checksum = apk.Checksum{} }, "tells no checksum"},
			"other digest":         {func(e *apk.Entry) { e.SHA256[31] ^= 1 }, "checksum does not match the index"},
			"other name":           {func(e *apk.Entry) { e.Name = "evil" }, "the package calls itself full-1.2.3-r4"},
			"other version":        {func(e *apk.Entry) { e.Version = "9-r0" }, "the package calls itself full-1.2.3-r4"},
			"other architecture":   {func(e *apk.Entry) { e.Arch = "aarch64" }, "the package is for x86_64, and the index says aarch64"},
			"of any architecture":  {func(e *apk.Entry) { e.Arch = "noarch" }, ""},
			"no architecture told": {func(e *apk.Entry) { e.Arch = "" }, ""},
		} {
			e := apk.EntryOf(p, 1)
			test.change(e)
			err := p.Matches(e)
			if _, is := errors.AsType[*apk.TrustError](err); test.want == "" && err != nil || test.want != "" && (!is || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("version %d, %s: got %v, want %q", format, name, err, test.want)
			}
		}
	}
}

func ExampleUnsigned() {
	u := apk.Unsigned{
		Format: apk.V3, Compression: adb.Zstd,
		Info:  apk.Info{Name: "hello", Version: "1.0-r0", Arch: apk.ArchX86_64},
		Files: []apk.Content{apk.BytesContent("usr/share/hello", 0o644, []byte("hello\n"), time.Unix(0, 0))},
	}
	var b bytes.Buffer
	written, err := apk.WritePackage(&b, u)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := apk.ReadPackage(bytes.NewReader(b.Bytes()), int64(b.Len()), apk.Limits{})
	fmt.Println(p.Info.FullName(), p.SHA256 == written.SHA256, err)
	// Output: hello-1.0-r0 true <nil>
}
