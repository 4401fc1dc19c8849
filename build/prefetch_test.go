package build

import (
	"strings"
	"testing"
)

// What programs say when there is no network, as they said it in a sandbox.
func TestDownloadsAreKnown(t *testing.T) {
	for text, want := range map[string]string{
		"go: example.org/x@v1.0.0: Get \"https://proxy.example/example.org/x/@v/v1.0.0.mod\": dial tcp: lookup proxy.example on 10.0.0.1:53: dial udp 10.0.0.1:53: connect: network is unreachable": "prefetch/go",
		"go: could not create module cache: mkdir /var/cache: read-only file system":                                                                                                                "prefetch/go",
		"npm ERR! code EAI_AGAIN\nnpm ERR! request to https://registry.example/x failed, reason: getaddrinfo EAI_AGAIN registry.example":                                                            "prefetch/npm",
		"npm error code ENOTCACHED": "prefetch/npm",
		"npm error code ENOTFOUND\nnpm error request failed, reason: getaddrinfo ENOTFOUND npm.invalid": "prefetch/npm",
		"warning: spurious network error (3 tries remaining): [6] Could not resolve hostname":           "prefetch/cargo",
		"WARNING: Retrying after connection broken by 'NewConnectionError(...)'":                        "prefetch/pip",
		"ERROR: No matching distribution found for slither":                                             "prefetch/pip",
		"curl: (6) Could not resolve host: example.org":                                                 "",
		"wget: bad address 'example.org'":                                                               "",
		"wget: unable to resolve host address ‘example.org’":                                            "",
		"fatal: unable to access 'https://example.org/x.git/': Could not resolve host: example.org":     "",
		"urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>":        "",
		"connect to 10.0.0.1 port 80: Network is unreachable":                                           "",
	} {
		if uses, is := downloads(strings.Split(text, "\n")); !is || uses != want {
			t.Errorf("%q: got %q, %t, want %q", text, uses, is, want)
		}
	}
	for _, text := range []string{"make: *** [Makefile:3: all] Error 1", "undefined: x", "error[E0425]: cannot find value", "1 test failed"} {
		if _, is := downloads([]string{text}); is {
			t.Errorf("%q is no download", text)
		}
	}
}

// The first package manager of a script names the pipeline that prefetches for it.
func TestManagerOf(t *testing.T) {
	for script, want := range map[string]string{
		"go build ./...":                            "prefetch/go",
		"cd src && CGO_ENABLED=0 go install .":      "prefetch/go",
		"set -e\nnpm ci >/dev/null 2>&1":            "prefetch/npm",
		"(cargo build --release)":                   "prefetch/cargo",
		"python3 -m pip install .; go build":        "prefetch/pip",
		"pip3 install x":                            "prefetch/pip",
		"make CARGO=/usr/bin/cargo":                 "",
		"./configure && make":                       "",
		"echo let it go":                            "",
		"wget -q -O file http://host.example/file ": "",
	} {
		if got := managerOf(script); got != want {
			t.Errorf("%q: got %q, want %q", script, got, want)
		}
	}
}
