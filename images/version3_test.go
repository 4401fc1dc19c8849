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

// Version 3 tells owners by name, and a layer has numbers: those of the image, and nobody's
// where it has none, which is told.
func TestOwnersOfVersion3(t *testing.T) {
	for _, test := range []struct {
		accounts    string
		owner, wary string
	}{
		{"", " 65534:65534 ", "/srv/mail belongs to the group post, which the image does not have: it is nobody's (65534), as with apk\n/srv/mail belongs to the user mail, which the image does not have: it is nobody's (65534), as with apk"},
		{"accounts: {users: [{username: mail, uid: 77}], groups: [{groupname: post, gid: 78}]}\n", " 77:78 ", ""},
		{"accounts: {groups: [{groupname: post, gid: 78}]}\n", " 65534:78 ", "/srv/mail belongs to the user mail, which the image does not have: it is nobody's (65534), as with apk"},
	} {
		st := openStore(t)
		u := apk.Unsigned{Format: apk.V3, Info: apk.Info{Name: "tool", Version: "1-r0", Arch: apk.ArchX86_64}, Files: apktest.Files(t, "srv/mail", "x", "srv/root", "y", "srv/no", "z")}
		for i := range u.Files {
			f := &u.Files[i]
			switch f.Path {
			case "srv/mail":
				f.UID, f.GID, f.User, f.Group = 8, 12, "mail", "post"
			case "srv/no":
				f.UID, f.GID, f.User, f.Group = 65534, 65534, "nobody", "nobody"
			}
		}
		data := apktest.WriteAll(t, u)
		digest, _, err := st.Put(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		image, err := compose(t, st, "contents: {packages: [tool]}\n"+test.accounts, append(put(t, st, layoutPackage), images.Package{Entry: apktest.Entry(t, data), Digest: digest, From: "test"}))
		if err != nil {
			t.Fatal(err)
		}
		owners := map[string]string{}
		for line := range strings.Lines(list(t, image)) {
			for path, owner := range map[string]string{"/srv/mail ": test.owner, "/srv/root ": " 0:0 ", "/srv/no ": " 65534:65534 "} {
				if strings.Contains(line, path) {
					owners[path] = line
					if !strings.Contains(line, owner) {
						t.Errorf("with %q: got %swant %s", test.accounts, line, owner)
					}
				}
			}
		}
		if len(owners) != 3 {
			t.Errorf("got %v", owners)
		}
		var warnings []string
		for _, w := range image.About.Warnings {
			if w.Package == "tool-1-r0" {
				warnings = append(warnings, w.Text)
			}
		}
		if diff := cmp.Diff(test.wary, strings.Join(warnings, "\n")); diff != "" {
			t.Errorf("with %q: -want +got:\n%s", test.accounts, diff)
		}
		// apk's database has the numbers, too.
		if installed := topFile(t, image, "usr/lib/apk/db/installed"); test.owner == " 77:78 " && !strings.Contains(installed, "R:mail\na:77:78:644\n") {
			t.Errorf("the database says %s", installed)
		}
	}
}
