package images_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
)

// An image of packages of version 3 has the files that it has of the same packages of
// version 2, but for the times of folders, which version 3 does not tell.
func TestPackagesOfVersion3(t *testing.T) {
	st := openStore(t)
	const text = "contents: {packages: [tool]}\n"
	files := func(name string) string {
		var kept []string
		for line := range strings.Lines(name) {
			if !strings.Contains(line, "lib/apk/db") { // which holds checksums of packages
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	var lists []string
	for _, format := range []apk.Format{apk.V2, apk.V3} {
		u := apk.Unsigned{Format: format, Compression: adb.Zstd, Info: apk.Info{Name: "tool", Version: "1-r0", Arch: apk.ArchX86_64},
			Files: apktest.Files(t, "usr/bin/tool", "#!/bin/sh\n", "usr/bin/alias", "-> tool", "usr/bin/hard", "=> usr/bin/tool")}
		data := apktest.WriteAll(t, u)
		digest, _, err := st.Put(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		image, err := compose(t, st, text, append(put(t, st, layoutPackage), images.Package{Entry: apktest.Entry(t, data), Digest: digest, From: "test"}))
		if err != nil {
			t.Fatal(err)
		}
		lists = append(lists, files(list(t, image)))
	}
	if diff := cmp.Diff(lists[0], lists[1]); diff != "" || !strings.Contains(lists[0], "usr/bin/alias") {
		t.Errorf("-version 2 +version 3:\n%s", diff)
	}
}

// Version 3 tells owners by name, and a layer has numbers: better no image than a wrong one.
func TestOwnersOfVersion3(t *testing.T) {
	st := openStore(t)
	u := apk.Unsigned{Format: apk.V3, Info: apk.Info{Name: "tool", Version: "1-r0", Arch: apk.ArchX86_64}, Files: apktest.Files(t, "srv/mail", "x")}
	u.Files[0].UID, u.Files[0].GID, u.Files[0].User, u.Files[0].Group = 8, 12, "mail", "mail"
	data := apktest.WriteAll(t, u)
	digest, _, err := st.Put(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	_, err = compose(t, st, "contents: {packages: [tool]}\n", append(put(t, st, layoutPackage), images.Package{Entry: apktest.Entry(t, data), Digest: digest, From: "test"}))
	if err == nil || !strings.Contains(err.Error(), "/srv/mail belongs to mail:mail, by name alone") {
		t.Errorf("got %v", err)
	}
}
