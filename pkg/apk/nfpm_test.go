package apk_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/sign"
)

// nfpm is nfpm as a program: a module of its own below testdata, built into the cache of
// builds. What it needs must be there or to be had.
func nfpm(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "nfpm")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("testdata", "nfpm")
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("build nfpm: %v\n%s", err, out)
		}
		t.Skipf("no nfpm: %v\n%s", err, out)
	}
	return program
}

const nfpmConfig = `
name: hello
arch: amd64
version: 1.2.3
release: 4
maintainer: A <a@example.org>
description: "a test; with # signs"
homepage: https://example.org/#f
license: MIT
depends: ["busybox>=1.2", "!old"]
provides: ["cmd:hello=1.2.3-r4"]
replaces: [ancient]
mtime: 2023-11-14T22:13:20Z
contents:
  - {src: DIR/hello, dst: /usr/bin/hello, file_info: {mode: 0755}}
  - {src: DIR/conf, dst: /etc/hello/conf, type: config, file_info: {mode: 0640, owner: mail, group: mail}}
  - {src: /usr/bin/hello, dst: /usr/bin/hi, type: symlink}
  - {dst: /var/lib/hello, type: dir, file_info: {mode: 0700}}
scripts: {postinstall: DIR/script, preremove: DIR/script}
apk:
  arch: x86_64
  scripts: {preupgrade: DIR/script}
  signature: {key_file: DIR/one.rsa, key_name: one.rsa.pub}
`

func TestReadsPackagesOfNfpm(t *testing.T) {
	program, dir := nfpm(t), t.TempDir()
	for name, text := range map[string]string{"hello": "#!/bin/sh\necho hello\n", "conf": "a=b\n", "script": "#!/bin/sh\n:\n"} {
		write(t, filepath.Join(dir, name), []byte(text))
	}
	if err := newKeys()[0].WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	make := exec.Command(program)
	make.Stdin = strings.NewReader(strings.ReplaceAll(nfpmConfig, "DIR", dir))
	var data, messages bytes.Buffer
	make.Stdout, make.Stderr = &data, &messages
	if err := make.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &messages)
	}
	p := apktest.Read(t, data.Bytes())
	if _, err := p.VerifySignature(testKeys); err == nil || !strings.Contains(err.Error(), "over SHA-1, which is not accepted") {
		t.Errorf("got %v, want that SHA-1 is not accepted", err)
	}
	keys := &sign.Keyring{AllowSHA1: true}
	if err := keys.Add(newKeys()[0].Public()); err != nil {
		t.Fatal(err)
	}
	if got, err := p.VerifySignature(keys); err != nil || got != "one.rsa.pub" {
		t.Errorf("signature: %q, %v", got, err)
	}
	want := apk.Info{
		Name: "hello", Version: "1.2.3-r4", Arch: apk.ArchX86_64, Description: "a test; with # signs", URL: "https://example.org/#f", Maintainer: "A <a@example.org>",
		Licenses: []string{"MIT"}, Size: p.Info.Size, DataHash: p.Info.DataHash,
		Depends: []apk.Dependency{{Name: "busybox", Op: apk.GreaterEqual, Version: "1.2"}, {Name: "old", Conflict: true}}, Provides: []apk.Dependency{{Name: "cmd:hello", Op: apk.Equal, Version: "1.2.3-r4"}},
		Replaces: []apk.Dependency{{Name: "ancient"}},
	}
	if diff := cmp.Diff(want, p.Info); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	if len(p.Scripts) != 3 || len(p.Scripts[".post-install"]) == 0 || len(p.Scripts[".pre-deinstall"]) == 0 || len(p.Scripts[".pre-upgrade"]) == 0 {
		t.Errorf("scripts: %q", p.Scripts)
	}
	files, err := list(p)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]entry{
		"usr/bin/hello":  {Type: apk.TypeFile, Mode: 0o755, User: "root", Group: "root", Content: "#!/bin/sh\necho hello\n"},
		"etc/hello/conf": {Type: apk.TypeFile, Mode: 0o640, User: "mail", Group: "mail", Content: "a=b\n"},
		"usr/bin/hi":     {Type: apk.TypeSymlink, Mode: fs.ModePerm, Link: "/usr/bin/hello"},
		"var/lib/hello":  {Type: apk.TypeDir, Mode: 0o700, User: "root", Group: "root"},
		"etc/hello":      {Type: apk.TypeDir, Mode: 0o755, User: "mail", Group: "mail"}, // nfpm: as what is in it
	} {
		got := files[path]
		got.SHA1, got.Time = "", 0
		if got.Type == apk.TypeSymlink {
			got.User, got.Group = "", ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	rewrite(t, p, files)
}
