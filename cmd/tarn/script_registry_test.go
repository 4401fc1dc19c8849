package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// startRegistry is the command
//
//	registry KIND [FEATURE...]
//
// which starts a registry on a free port until the script ends, and puts HOST:PORT into
// $REGISTRY. KIND is debian, for Debian's docker-registry, which lists no referrers, or
// oci, for go-containerregistry's own, which does. Features: flaky fails half of the
// requests; down answers nothing but that it is overloaded; tamper changes a byte of
// every layer that is read; untagged takes no tags but those of signatures; login lets in nobody but the user "me" with the password
// "s3cret".
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: registry oci|debian [flaky|down|tamper|untagged|login]...")
	}
	var h http.Handler
	switch args[0] {
	case "oci":
		h = registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	case "debian":
		h = debianRegistry(ts)
	default:
		ts.Fatalf("unknown registry %q", args[0])
	}
	for _, feature := range args[1:] {
		switch feature {
		case "flaky":
			h = failHalf(h)
		case "down":
			h = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		case "untagged":
			h = refuseTags(h)
		case "tamper":
			h = tamper(h)
		case "login":
			h = askPassword(h)
		default:
			ts.Fatalf("unknown feature %q", feature)
		}
	}
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	ts.Defer(server.Close)
	ts.Setenv("REGISTRY", strings.TrimPrefix(server.URL, "http://"))
}

// debianRegistry starts docker-registry, and gives the way to it.
func debianRegistry(ts *testscript.TestScript) http.Handler {
	// A socket with a name: a port that was found free may be another's by the time that
	// the registry asks for it. Not in the script's folder, whose path may be too long.
	dir, err := os.MkdirTemp("", "registry-")
	ts.Check(err)
	ts.Defer(func() { os.RemoveAll(dir) })
	address := filepath.Join(dir, "socket")
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {net: unix, addr: %s}\n", dir, address)
	ts.Check(os.WriteFile(config, []byte(text), 0o644))
	cmd := exec.Command("docker-registry", "serve", config)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "OTEL_TRACES_EXPORTER=none"}
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("unix", address)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			ts.Fatalf("docker-registry does not listen: %v", err)
		}
	}
	way := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", address)
	}}
	ts.Defer(way.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Transport: way, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: "registry"})
		r.Out.Host = r.In.Host // what the registry says of itself has to lead back here
	}}
	return proxy
}

// failHalf fails half of the requests: it answers that it is overloaded, drops them, or
// loses the answer when the work is done.
func failHalf(h http.Handler) http.Handler {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(6, 0))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n := dice.IntN(8)
		mu.Unlock()
		switch n {
		case 0, 1:
			w.WriteHeader(http.StatusBadGateway)
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			h.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

func refuseTags(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, tag, found := strings.Cut(r.URL.Path, "/manifests/"); found && r.Method == http.MethodPut && !strings.HasPrefix(tag, "sha256") {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"tags are kept"}]}`)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// tamper changes a byte of what is compressed.
func tamper(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			h.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		data := answer.Body.Bytes()
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			data[len(data)/2] ^= 1
		}
		for key, values := range answer.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(data)
	})
}

// referrers FILE prints the artifact types of the manifests that the registry lists as
// referring to the last manifest in a file, HOST/NAME@DIGEST a line, sorted; ! referrers
// FILE is that the registry lists no referrers.
func referrers(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] referrers FILE")
	}
	lines := strings.Fields(ts.ReadFile(args[0]))
	ref, err := name.NewDigest(lines[len(lines)-1])
	ts.Check(err)
	response, err := http.Get("http://" + ref.RegistryStr() + "/v2/" + ref.RepositoryStr() + "/referrers/" + ref.DigestStr())
	ts.Check(err)
	defer response.Body.Close()
	if listed := response.StatusCode == http.StatusOK; listed == neg {
		ts.Fatalf("the registry answers %s", response.Status)
	}
	if neg {
		return
	}
	var index v1.IndexManifest
	ts.Check(json.NewDecoder(response.Body).Decode(&index))
	var types []string
	for _, d := range index.Manifests {
		types = append(types, d.ArtifactType+"\n")
	}
	slices.Sort(types)
	_, err = io.WriteString(ts.Stdout(), strings.Join(types, ""))
	ts.Check(err)
}

func askPassword(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// toolProgram is a program that .ci/tools built, or the one of the machine.
func toolProgram(name string) string {
	if dir := os.Getenv("TARN_TOOLS"); dir != "" {
		return filepath.Join(dir, name)
	}
	if dir, err := os.UserCacheDir(); err == nil {
		if program := filepath.Join(dir, "tarn-tools", name); isExecutable(program) {
			return program
		}
	}
	program, _ := exec.LookPath(name)
	return program
}

// hasTool tells whether a program is there that .ci/tools builds. In CI it must be.
func hasTool(name string) (bool, error) {
	if isExecutable(toolProgram(name)) {
		return true, nil
	}
	if os.Getenv("CI") == "true" {
		return false, fmt.Errorf("no %s: .ci/tools builds it", name)
	}
	return false, nil
}

// hasProgram tells whether a program that tests use is there. In CI it must be.
func hasProgram(name string) (bool, error) {
	_, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		return false, err
	}
	return err == nil, nil
}
