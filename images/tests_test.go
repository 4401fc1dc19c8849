package images_test

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/images"
)

func TestTestsMistakes(t *testing.T) {
	const text = `contents: {packages: [a]}
stop-signal: SIGQUITT
tests:
  files:
    - {path: etc/a, type: folder, mode: 644000, owner: "a b"}
    - {path: /a, type: directory, contains: x, target: y}
  absent: [sh, usr/bin/perl]
  writable: [data, /proc/x]
  commands:
    - {run: "nginx 'v", status: 300, matches: "(", user: "a:b:c"}
    - {run: " "}
  services:
    - run: a
      cmd: b
      listens: [6379, redis:6379, "localhost:0"]
      stop: {signal: SIGSTOPP, status: -1}
      ask:
        - {get: "http://localhost:8080/", tcp: 1}
        - {get: "https://localhost:8443/"}
        - {get: "ftp://localhost/"}
        - {get: "http://example.org/"}
        - {get: "http://localhost:8080/", receive: x, status: 99}
        - {tcp: 6379, send: PING}
        - {run: a b, body: x}
        - {get: "http://[::1]/", answers: {"a b": c}}
        - {get: "http://[::1]/", refused: true, status: 200, trusts: imge}
    - listens: [80]
      mounts: {../x: y}
      certificate: {file: a, key: /b}
`
	const want = `bad.yaml:2:14: stop-signal "SIGQUITT" is no signal
  hint: a signal is named like SIGTERM, TERM or 15
bad.yaml:5:14: path "etc/a" is not absolute
bad.yaml:5:27: unknown type of file "folder"
bad.yaml:5:41: mode 644000 of "etc/a" is more than 0o7777
  hint: write it in octal, e.g. 0o755
bad.yaml:5:56: "a b" is no owner
  hint: a user, or USER:GROUP, by name or number
bad.yaml:6:35: only a file has contents
bad.yaml:6:48: only a symbolic link has a target
bad.yaml:7:16: "usr/bin/perl" can be neither
  hint: the name of a program, or an absolute path
bad.yaml:8:14: "data" is not a clean absolute path outside /proc, /dev and /sys
bad.yaml:8:20: "/proc/x" is not a clean absolute path outside /proc, /dev and /sys
bad.yaml:10:13: split run into words: Unterminated single-quoted string
bad.yaml:10:33: status 300 is not between 0 and 255
bad.yaml:10:47: missing closing ): ` + "`" + `(` + "`" + `
bad.yaml:10:58: "a:b:c" is no user
  hint: a user, or USER:GROUP, by name or number
bad.yaml:11:13: run names no program
bad.yaml:14:7: a service has "run", or "cmd" behind the image's entrypoint, not both
bad.yaml:15:23: address "redis:6379": a test reaches localhost only
bad.yaml:15:35: address "localhost:0" has no port: want localhost:PORT
bad.yaml:16:22: unknown signal "SIGSTOPP"
  hint: a name like SIGTERM or SIGQUIT
bad.yaml:16:40: status -1 is not between 0 and 255
bad.yaml:18:11: a question has one of "get", "tcp" and "run"
  hint: get: http://localhost:8080/, tcp: 6379, or run: a program
bad.yaml:19:11: what is asked over TLS needs a "certificate" of the service to be checked against
  hint: certificate: {file: /etc/tls/tls.crt, key: /etc/tls/tls.key}
bad.yaml:20:17: address "ftp://localhost/" is neither http:// nor https://
  hint: e.g. http://localhost:8080/
bad.yaml:21:17: address "example.org:80": a test reaches localhost only
  hint: e.g. http://localhost:8080/
bad.yaml:22:43: "receive" does not go with "get"
bad.yaml:22:63: status 99 is not between 100 and 599
bad.yaml:23:23: nothing is expected for what is sent
  hint: say what must come back: receive: or matches:
bad.yaml:24:22: "body" does not go with "run"
bad.yaml:25:44: "a b: c" cannot be a header field
bad.yaml:26:49: what is refused has no "status"
  hint: "matches" holds the reason against a regular expression
bad.yaml:26:62: nothing is trusted where nothing is asked over TLS
bad.yaml:26:70: unknown trust "imge"
  hint: did you mean "image"?
bad.yaml:27:7: the image has no entrypoint that could be started
  hint: name the program by "run"
bad.yaml:28:16: "../x" is not a clean absolute path outside /proc, /dev and /sys
bad.yaml:29:27: "a" is not a clean absolute path
35 problems in 1 file`
	_, err := images.Load(fstest.MapFS{"bad.yaml": {Data: []byte(text)}}, "bad.yaml")
	if err == nil {
		t.Fatal("no mistake found")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The tests of an included file hold for the one that includes it, but for what it says itself.
func TestTestsAreIncluded(t *testing.T) {
	fsys := fstest.MapFS{
		"web.yaml": {Data: []byte(`contents: {packages: [web]}
entrypoint: {command: web}
tests:
  absent: [sh]
  files: [{path: /etc/a, mode: 0o644}, {path: /etc/b}]
  commands: [{run: web -v}, {name: help, run: web -h}]
  services: [{listens: [80]}]
`)},
		"web-dev.yaml": {Data: []byte(`include: web.yaml
contents: {packages: [sh]}
tests:
  absent: [apk]
  files: [{path: /etc//a, mode: 0o600}]
  commands: [{run: sh -c true}, {name: help, run: web --help}]
`)},
		"web-plain.yaml": {Data: []byte("include: web.yaml\n")},
	}
	s, err := images.Load(fsys, "web-dev.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range s.Tests.Files {
		got = append(got, f.Path)
	}
	for _, c := range s.Tests.Commands {
		got = append(got, c.Title()+": "+c.Run)
	}
	for _, one := range s.Tests.Services {
		got = append(got, one.Title())
	}
	want := []string{"/etc//a", "/etc/b", "web -v: web -v", "help: web --help", "sh -c true: sh -c true", "entrypoint"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"apk"}, s.Tests.Absent); diff != "" {
		t.Errorf("absent: -want +got:\n%s", diff)
	}
	if s, err = images.Load(fsys, "web-plain.yaml"); err != nil || len(s.Tests.Commands) != 2 || s.Tests.Absent[0] != "sh" {
		t.Errorf("included as it is: %+v, %v", s, err)
	}
}
