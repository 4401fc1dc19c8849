// Package apktest makes packages for tests: real ones, in one line. It knows how a
// test fails, and nothing that is not in package apk.
package apktest

import (
	"bytes"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Package gives the bytes of an unsigned package for x86_64. pairs are paths and
// contents by turns:
//
//	apktest.Package(t, "zlib", "1.3.1-r0", "usr/lib/libz.so.1", "...", "usr/lib/libz.so", "-> libz.so.1")
//
// A path that ends in a slash is a folder, and its content is empty; a content that
// begins with "-> " is a symbolic link, one that begins with "=> " a hard link; a
// content that begins with "#!" makes the file executable. Folders above are added.
func Package(t testing.TB, name, version string, pairs ...string) []byte {
	t.Helper()
	return Write(t, apk.Info{Name: name, Version: apk.Version(version), Arch: apk.ArchX86_64}, pairs...)
}

// Write is Package for a package that tells more of itself.
func Write(t testing.TB, info apk.Info, pairs ...string) []byte {
	t.Helper()
	return WriteAll(t, apk.Unsigned{Info: info, Files: Files(t, pairs...)})
}

// WriteAll gives the bytes of a package.
func WriteAll(t testing.TB, u apk.Unsigned) []byte {
	t.Helper()
	var b bytes.Buffer
	u.TempDir = t.TempDir()
	if _, err := apk.WritePackage(&b, u); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Files are the files that Package makes of pairs.
func Files(t testing.TB, pairs ...string) []apk.Content {
	t.Helper()
	if len(pairs)%2 != 0 {
		t.Fatalf("apktest: path %q has no content", pairs[len(pairs)-1])
	}
	var files []apk.Content
	for i := 0; i < len(pairs); i += 2 {
		files = append(files, file(pairs[i], pairs[i+1]))
	}
	return files
}

func file(path, content string) apk.Content {
	if dir, found := strings.CutSuffix(path, "/"); found {
		return apk.Content{File: apk.File{Path: dir, Type: apk.TypeDir, Mode: 0o755}}
	}
	if target, found := strings.CutPrefix(content, "-> "); found {
		return apk.Content{File: apk.File{Path: path, Type: apk.TypeSymlink, Mode: 0o777, Link: target}}
	}
	if target, found := strings.CutPrefix(content, "=> "); found {
		return apk.Content{File: apk.File{Path: path, Type: apk.TypeHardlink, Link: target}}
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(content, "#!") {
		mode = 0o755
	}
	return apk.BytesContent(path, mode, []byte(content), time.Time{})
}

// Read reads a package that lies in memory.
func Read(t testing.TB, data []byte) *apk.Package {
	t.Helper()
	p, err := apk.ReadPackage(bytes.NewReader(data), int64(len(data)), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Entry is a package that lies in memory as an index lists it.
func Entry(t testing.TB, data []byte) *apk.Entry {
	t.Helper()
	return apk.EntryOf(Read(t, data), int64(len(data)))
}

// Contents are the files of a package by path, without folders: of a link "-> " or
// "=> " and its target, of a file its content.
func Contents(t testing.TB, p *apk.Package) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := p.Files(func(f *apk.File, content io.Reader) error {
		switch f.Type {
		case apk.TypeSymlink:
			all[f.Path] = "-> " + f.Link
		case apk.TypeHardlink:
			all[f.Path] = "=> " + f.Link
		case apk.TypeFile:
			data, err := io.ReadAll(content)
			all[f.Path] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
