package images_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/diag"
)

// shared is the folder of data to test against; without it the test is skipped, in CI it fails.
func shared(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("TARN_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("test data is missing: %v", err)
		}
		t.Skipf("test data is missing (TARN_SHARED names its folder): %v", err)
	}
	return file
}

// apkoExamples are apko's own example files, at the path that they know themselves by.
func apkoExamples(t *testing.T) fstest.MapFS {
	t.Helper()
	f, err := os.Open(shared(t, "corpus/recipes.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(h.Name, "apko-examples/")
		if !ok || !strings.HasSuffix(name, ".yaml") {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files["examples/"+name] = &fstest.MapFile{Data: data}
	}
}

func TestLoadReadsApkosExamples(t *testing.T) {
	files := apkoExamples(t)
	if len(files) < 20 {
		t.Fatalf("got %d examples, want at least 20", len(files))
	}
	for name := range files {
		s, err := images.Load(files, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(s.World) == 0 {
			t.Errorf("%s: asks for no packages", name)
		}
	}
}

// The images of this repository are well formed.
func TestOwnImages(t *testing.T) {
	specs, err := images.LoadAll(os.DirFS("."), "core")
	if err != nil {
		t.Fatal(err)
	}
	distroless := map[string]bool{}
	for _, s := range specs {
		distroless[s.Name()] = s.Distroless
	}
	if !distroless["static"] || !distroless["nginx"] {
		t.Errorf("static and nginx are not distroless: %v", distroless)
	}
}

const everyField = `contents:
  repositories: [https://example.org/os, "@local ./packages"]
  build_repositories: [./build]
  runtime_repositories: [https://example.org/mirror/]
  keyring: [./key.rsa.pub]
  runtime_keyring: []
  packages: [nginx, "openssl>=3.5", zlib@edge, "!busybox"]
entrypoint:
  type: service-bundle
  services: {nginx: /usr/sbin/nginx}
cmd: serve --name "a b"
stop-signal: SIGQUIT
work-dir: /srv
accounts:
  run-as: www
  users: [{username: www, uid: 82, gid: 83, shell: /bin/false, homedir: /srv/www}]
  groups: [{groupname: www, gid: 83, members: [www]}]
environment: {TZ: UTC}
paths:
  - {path: /run/nginx, type: directory, uid: 82, gid: 83, permissions: 0o755, recursive: true}
  - {path: /etc/link, type: symlink, source: /etc/motd}
archs: [amd64, aarch64]
vcs-url: https://example.org/images@0123
annotations: {a: b}
volumes: [/data]
layering: {strategy: origin, budget: 10}
format: tar
certificates:
  additional: []
  providers: [custom-certificates]
distroless: true
files:
  - {path: /etc/motd, content: hello, uid: 82, gid: 83, permissions: 0o600}
  - {path: /etc/other, source: motd}
size-limit: 20 MB
policy:
  packages: {allow: ["*"], deny: ["*-dev", "openssl<3"]}
  licenses: {allow: [MIT], deny: ["GPL-3.0*"]}
  origin: {allow: [./packages], deny: [nginx]}
  setuid: deny
  shells: allow
  unsigned: deny
scripts:
  waived: [{package: openssh, script: post-install, reason: no host keys}]
`

func TestLoadKeepsEveryField(t *testing.T) {
	s, err := images.Load(fstest.MapFS{"web.yaml": {Data: []byte(everyField)}, "motd": {Data: []byte("x")}}, "web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var world []string
	for _, r := range s.World {
		world = append(world, r.String()+" "+r.From)
	}
	want := []string{"nginx web.yaml:7:14", "openssl>=3.5 web.yaml:7:21", "zlib@edge web.yaml:7:37", "!busybox web.yaml:7:48", "s6 web.yaml:8:1"}
	if diff := cmp.Diff(want, world); diff != "" {
		t.Errorf("world: -want +got:\n%s", diff)
	}
	if *s.Paths[0].UID != 82 || *s.Paths[0].Permissions != 0o755 || !s.Paths[0].Recursive || s.Paths[1].Permissions != nil {
		t.Errorf("paths: got %+v", s.Paths)
	}
	if *s.Accounts.Users[0].GID != 83 || s.Accounts.Groups[0].Members[0] != "www" || s.Accounts.RunAs != "www" {
		t.Errorf("accounts: got %+v", s.Accounts)
	}
	if !s.Distroless || s.Layering.Budget != 10 || s.Volumes[0] != "/data" || s.StopSignal != "SIGQUIT" || s.VCSURL == "" || s.Name() != "web" {
		t.Errorf("got %+v", s)
	}
}

func TestInclude(t *testing.T) {
	fsys := fstest.MapFS{
		"images/core/web.yaml": {Data: []byte("include: base.yaml\ncontents: {packages: [nginx]}\nenvironment: {B: own}\ncmd: own\ndistroless: false\n")},
		"images/core/base.yaml": {Data: []byte("include: images/root.yaml\ncontents: {packages: [musl]}\nenvironment: {A: base, B: base}\ncmd: base\n" +
			"work-dir: /base\nvcs-url: https://example.org@1\ndistroless: true\n")},
		"images/root.yaml": {Data: []byte("contents: {packages: [layout]}\narchs: [x86_64]\n")},
	}
	s, err := images.Load(fsys, "images/core/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"layout", "musl", "nginx"}, s.Contents.Packages); diff != "" {
		t.Errorf("packages: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"A": "base", "B": "own"}, s.Environment); diff != "" {
		t.Errorf("environment: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"images/core/web.yaml", "images/core/base.yaml", "images/root.yaml"}, s.Files); diff != "" {
		t.Errorf("files: -want +got:\n%s", diff)
	}
	if s.Cmd != "own" || s.WorkDir != "/base" || s.VCSURL != "" || s.Distroless {
		t.Errorf("got cmd %q, work-dir %q, vcs-url %q, distroless %v", s.Cmd, s.WorkDir, s.VCSURL, s.Distroless)
	}
}

// Who includes a bundle of services and names a command has the command alone.
func TestIncludeEntrypoint(t *testing.T) {
	fsys := fstest.MapFS{
		"base.yaml": {Data: []byte("contents: {packages: [layout]}\nentrypoint: {type: service-bundle, services: {a: /usr/bin/a}}\n")},
		"more.yaml": {Data: []byte("include: base.yaml\nentrypoint: {services: {b: /usr/bin/b}}\n")},
		"one.yaml":  {Data: []byte("include: base.yaml\nentrypoint: {command: /usr/bin/one}\n")},
	}
	for file, want := range map[string]struct {
		services map[string]string
		world    []string
	}{
		"more.yaml": {map[string]string{"a": "/usr/bin/a", "b": "/usr/bin/b"}, []string{"layout", "s6"}},
		"one.yaml":  {nil, []string{"layout"}},
	} {
		s, err := images.Load(fsys, file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if diff := cmp.Diff(want.services, s.Entrypoint.Services); diff != "" {
			t.Errorf("%s: services: -want +got:\n%s", file, diff)
		}
		if diff := cmp.Diff(want.world, images.WorldTexts(s.World)); diff != "" {
			t.Errorf("%s: world: -want +got:\n%s", file, diff)
		}
	}
}

// All mistakes are told at once, each with its place and a way out.
func TestLoadMistakes(t *testing.T) {
	fsys := fstest.MapFS{
		"bad.yaml": {Data: []byte(`contents:
  packages: [nginx, "open ssl", zlib@]
accounts:
  run-as: www
  users:
    - {username: root2, uid: 0}
    - {username: "a:b", uid: 5}
    - {username: c}
    - {username: d, uid: 5, shell: "/bin/sh\nx:x:0:0::/:"}
paths:
  - {path: /a, type: folder}
  - {path: /b, type: symlink}
  - {path: /c, type: directory, permissions: 755000}
archs: [amd46]
cmd: "a 'b"
volumes: [data]
layering: {strategy: orign}
entrypoint: {command: a, shell-fragment: b}
certificates:
  additional: [{name: x, content: none}]
stop-signal: SIGFOO
files:
  - {path: /f, content: x, uid: -1}
`)},
		"unknown.yaml":   {Data: []byte("contents:\n  package: [a]\nsize-limits: 5M\n")},
		"loop.yaml":      {Data: []byte("include: loop2.yaml\n")},
		"loop2.yaml":     {Data: []byte("include: loop.yaml\n")},
		"...yaml":        {Data: []byte("contents: {packages: [a]}\n")},
		"A b.yaml":       {Data: []byte("contents: {packages: [a]}\n")},
		"including.yaml": {Data: []byte("include: included.yaml\narchs: [x86_64]\nvolumes: [other]\n")},
		"included.yaml":  {Data: []byte("# what others include\narchs: [amd64, amd65]\ncmd: \"'\"\nenvironment:\n  A=B: c\nvolumes: [/data, data]\nwork-dir: data\nentrypoint:\n  type: service-bundle\n  services: {a/b: c}\n")},
		"signal.yaml":    {Data: []byte("stop-signal: SIGRTMINI\n")},
		"out.yaml":       {Data: []byte("include: ../../etc/passwd\n")},
	}
	tests := []struct{ file, want string }{
		{"bad.yaml", `bad.yaml:2:21: package: dependency "open ssl": unexpected " "
bad.yaml:2:33: package "zlib@" has an empty tag
bad.yaml:6:30: user "root2" has uid 0
  hint: root comes with a package, e.g. the base layout
bad.yaml:7:7: "a:b" cannot be the name of a user or group
bad.yaml:8:7: user "c" has no uid
bad.yaml:9:36: shell "/bin/sh\nx:x:0:0::/:" of user "d" is not an absolute path without colons
bad.yaml:11:22: unknown type of path "folder"
bad.yaml:12:5: symlink "/b" has no source
bad.yaml:13:46: permissions 755000 of "/c" are more than 0o7777
  hint: write it in octal, e.g. 0o755
bad.yaml:14:9: unknown architecture "amd46"
  hint: architectures are named like x86_64 or amd64, aarch64 or arm64
bad.yaml:15:6: split cmd into words: Unterminated single-quoted string
bad.yaml:16:11: volume "data" is not an absolute path
bad.yaml:17:22: unknown layering strategy "orign"
  hint: did you mean "origin"?
bad.yaml:18:26: an entrypoint has a command or a shell-fragment, not both
bad.yaml:20:35: certificate "x" is not one certificate in PEM
bad.yaml:21:14: stop-signal "SIGFOO" is no signal
  hint: a signal is named like SIGTERM, TERM or 15
bad.yaml:23:33: uid -1 of "/f" cannot be the number of an account
17 problems in 1 file`},
		{"unknown.yaml", `unknown.yaml:2:3: unknown field "package"
  hint: did you mean "packages"?
unknown.yaml:3:1: unknown field "size-limits"
  hint: did you mean "size-limit"?
2 problems in 1 file`},
		{"...yaml", "...yaml: \"..\" cannot be the name of an image, which is its file's\n  hint: lower-case letters, digits and . _ - are allowed, the first a letter or digit"},
		{"A b.yaml", "A b.yaml: \"A b\" cannot be the name of an image, which is its file's\n  hint: lower-case letters, digits and . _ - are allowed, the first a letter or digit"},
		{"loop.yaml", "loop2.yaml:1:10: files include each other: loop.yaml includes loop2.yaml includes loop.yaml"},
		{"including.yaml", `included.yaml:2:16: unknown architecture "amd65"
  hint: architectures are named like x86_64 or amd64, aarch64 or arm64
included.yaml:3:6: split cmd into words: Unterminated single-quoted string
included.yaml:5:3: "A=B" cannot be a variable of the environment
included.yaml:6:18: volume "data" is not an absolute path
included.yaml:7:11: work-dir "data" is not an absolute path
included.yaml:10:14: "a/b" cannot be the name of a service
including.yaml:3:11: volume "other" is not an absolute path
7 problems in 2 files`},
		{"signal.yaml", "signal.yaml:1:14: stop-signal \"SIGRTMINI\" is no signal\n  hint: a signal is named like SIGTERM, TERM or 15"},
		{"out.yaml", "out.yaml:1:10: included file \"../../etc/passwd\" is not there\n  hint: an include is a file beside this one, or a path from the workspace's folder"},
		{"none.yaml", "none.yaml: read image file: file does not exist"},
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) {
			_, err := images.Load(fsys, test.file)
			if err == nil {
				t.Fatal("no mistake found")
			}
			if _, ok := diag.Of(err); !ok {
				t.Errorf("%v carries no problems", err)
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Whatever the bytes are, reading ends with a spec or with problems.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(everyField))
	f.Add([]byte("include: x.yaml"))
	f.Add([]byte("contents: {packages: [a=1@b, '!']}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := images.Load(fstest.MapFS{"x.yaml": {Data: bytes.Clone(data), Mode: fs.ModePerm}}, "x.yaml")
		if (s == nil) == (err == nil) {
			t.Fatalf("got %v and %v", s, err)
		}
		if _, ok := diag.Of(err); err != nil && !ok {
			t.Fatalf("%v carries no problems", err)
		}
	})
}
