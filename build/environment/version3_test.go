package environment

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
)

// A package unpacks to the same tree whichever version of the format it is in.
func TestExtractVersion3(t *testing.T) {
	second := apktest.Package(t, "a", "1-r0", "usr/bin/tool", "#!/bin/sh\n", "usr/bin/alias", "-> tool", "usr/bin/hard", "=> usr/bin/tool", "usr/share/empty", "", "srv/", "")
	var third bytes.Buffer
	if _, err := apk.Convert(&third, apktest.Read(t, second), apk.V3, adb.Zstd, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	var trees []map[string]string
	for _, data := range [][]byte{second, third.Bytes()} {
		dir, err := extractAll(t, data)
		if err != nil {
			t.Fatal(err)
		}
		tree := map[string]string{}
		err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			target, _ := os.Readlink(name)
			content, _ := os.ReadFile(name)
			rel, _ := filepath.Rel(dir, name)
			tree[rel] = fmt.Sprintf("%v %d %s %q", info.Mode(), info.ModTime().Unix(), target, content)
			if rel == "." || target != "" {
				tree[rel] = target
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
	}
	if diff := cmp.Diff(trees[0], trees[1]); diff != "" || len(trees[0]) < 9 {
		t.Errorf("-version 2 +version 3:\n%s", diff)
	}
}

// Nothing that a package of version 3 says is written anywhere but below its folder.
func TestExtractVersion3StaysInItsFolder(t *testing.T) {
	outside := t.TempDir()
	type file struct{ dir, name, target string } // a target begins with its mode
	const link, hard = "\x00\xa0", "\x00\x80"
	for name, files := range map[string][]file{
		"above":                      {{"..", "x", link + "y"}},
		"above, in a name":           {{"usr", "../x", link + "y"}},
		"absolute":                   {{"/usr", "x", link + "y"}},
		"through a link":             {{"", "usr", link + outside}, {"usr/bin", "x", link + "y"}},
		"over a link":                {{"", "usr", link + outside + "/x"}, {"usr", "x", link + "y"}},
		"a hard link to the outside": {{"usr", "x", hard + "../../etc/passwd"}},
		"an absolute hard link":      {{"usr", "x", hard + "/etc/passwd"}},
		"a hard link to a link":      {{"usr", "a", link + "/etc/passwd"}, {"usr", "b", hard + "usr/a"}},
		"a device":                   {{"dev", "null", "\x00\x20\x03\x01\x00\x00\x00\x00\x00\x00"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &adb.Builder{}
			acl := b.Object([]adb.Value{b.Int(0o755), b.Blob("root"), b.Blob("root")})
			info := b.Object([]adb.Value{b.Blob("evil"), b.Blob("1-r0")})
			var dirs []adb.Value
			for i := 0; i < len(files); {
				dir := files[i].dir
				var inside []adb.Value
				for ; i < len(files) && files[i].dir == dir; i++ {
					inside = append(inside, b.Object([]adb.Value{b.Blob(files[i].name), acl, adb.Null, adb.Null, adb.Null, b.Blob(files[i].target)}))
				}
				dirs = append(dirs, b.Object([]adb.Value{b.Blob(dir), acl, b.Array(inside)}))
			}
			block, err := b.Block(b.Object([]adb.Value{info, b.Array(dirs)}))
			if err != nil {
				t.Fatal(err)
			}
			var data bytes.Buffer
			w, err := adb.NewWriter(&data, adb.SchemaPackage)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Block(adb.BlockADB, block); err != nil {
				t.Fatal(err)
			}
			if _, err := extractAll(t, data.Bytes()); err == nil {
				t.Error("it was unpacked")
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
				t.Errorf("outside: %v, %v", entries, err)
			}
		})
	}
}
