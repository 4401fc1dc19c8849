package main

import (
	"bufio"
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tarn-build/tarn/pkg/apk"
)

// package FILE NAME VERSION [FIELD=VALUE...] [PATH TEXT]... writes an unsigned package.
// Fields are arch (this machine's), origin, license, depends, provides, replaces and
// triggers (several, separated by commas), built (Unix seconds), and pre-install,
// post-install, post-upgrade and trigger (files with the script).
func makePackage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: package FILE NAME VERSION [FIELD=VALUE...] [PATH TEXT]...")
	}
	u := apk.Unsigned{Info: apk.Info{Name: args[1], Version: apk.Version(args[2]), Arch: apk.Arch(ts.Getenv("ARCH")), Licenses: []string{"MIT"}}}
	rest := args[3:]
	for ; len(rest) > 0 && strings.Contains(rest[0], "="); rest = rest[1:] {
		field, value, _ := strings.Cut(rest[0], "=")
		list := func() (all []apk.Dependency) {
			for _, text := range strings.Split(value, ",") {
				d, err := apk.ParseDependency(text)
				ts.Check(err)
				all = append(all, d)
			}
			return all
		}
		switch field {
		case "arch":
			u.Info.Arch = apk.Arch(value)
		case "depends":
			u.Info.Depends = list()
		case "provides":
			u.Info.Provides = list()
		case "replaces":
			u.Info.Replaces = list()
		case "origin":
			u.Info.Origin = value
		case "license":
			u.Info.Licenses = []string{value}
		case "triggers":
			u.Info.Triggers = strings.Split(value, ",")
		case "pre-install", "post-install", "post-upgrade", "trigger": // a file of the script
			if u.Scripts == nil {
				u.Scripts = map[string][]byte{}
			}
			u.Scripts["."+field] = []byte(ts.ReadFile(value))
		case "built":
			at, err := parseDate(value)
			ts.Check(err)
			u.Info.BuildDate = at.Unix()
		default:
			ts.Fatalf("unknown field %q", field)
		}
	}
	if len(rest)%2 != 0 {
		ts.Fatalf("path %q has no text", rest[len(rest)-1])
	}
	for i := 0; i < len(rest); i += 2 {
		u.Files = append(u.Files, apk.BytesContent(rest[i], 0o644, []byte(rest[i+1]), time.Time{}))
	}
	var b bytes.Buffer
	_, err := apk.WritePackage(&b, u)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o644))
}

// serving FOLDER [FLAG...] starts tarn serve on a free port, puts its address into $URL,
// and at the end of the script stops it as Ctrl-C does: it has to end with 0.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: serving FOLDER [FLAG...]")
	}
	cmd := command(ts, append([]string{"tarn", "serve", "--listen", "127.0.0.1:0"}, args...))
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	var said bytes.Buffer
	cmd.Stderr = &said
	ts.Check(cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		_ = cmd.Wait()
		ts.Fatalf("tarn serve says no address: %s", said.String())
	}
	ts.Setenv("URL", lines.Text())
	ts.Defer(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			ts.Logf("stop tarn serve: %v", err)
		}
		_, _ = io.Copy(io.Discard, out)
		checkStatus(ts, cmd.Wait(), 0)
		if !strings.HasSuffix(said.String(), "stopped\n") {
			ts.Fatalf("tarn serve did not say that it stopped: %s", said.String())
		}
	})
}

// serve-tls FOLDER CAFILE serves a folder over TLS until the script ends, puts the address
// into $URL, and into CAFILE the certificate of who vouches for the server.
func serveTLS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: serve-tls FOLDER CAFILE")
	}
	server := httptest.NewUnstartedServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it are part of the tests
	server.StartTLS()
	ts.Defer(server.Close)
	ts.Setenv("URL", server.URL)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o644))
}
