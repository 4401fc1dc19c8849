package build

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
)

// Settings are no secrets: a log that hides them tells nothing any more.
func TestSecretsOf(t *testing.T) {
	for _, test := range []struct {
		name, value string
		want        bool
	}{
		{"GITHUB_TOKEN", "hunter2-and-more", true},
		{"DB_PASSWORD", "swordfish", true},
		{"SSH_KEY", "-----BEGIN KEY-----\nAAAAB3NzaC1yc2E\n-----END KEY-----\n", true},
		{"ANYTHING", "ghp9f8e7d6c5b4a3210ffff", true},
		{"ANYTHING", "550e8400-e29b-41d4-a716-446655440000", true},
		{"PROXY", "https://somebody:0123456789abcdef0@proxy.example.org", true},
		{"TOKEN", "true", false},
		{"GOFLAGS", "", false},
		{"GOFLAGS", "-mod=mod -trimpath", false},
		{"GOTOOLCHAIN", "local", false},
		{"CC", "x86_64-pc-linux-gnu-gcc", false},
		{"CFLAGS", "-O2 -march=x86-64-v2 -D_FORTIFY_SOURCE=3", false},
		{"KEYBOARD", "en_US.UTF-8", false},
		{"npm_config_registry", "https://registry.example.org/npm/", false},
		{"JEMALLOC_SYS_WITH_LG_PAGE", "16", false},
		{"SOURCE_DATE_EPOCH", "1700000000000000000000", false},
	} {
		if got := len(secretsOf(map[string]string{test.name: test.value})) > 0; got != test.want {
			t.Errorf("%s=%s: is a secret: %t, want %t", test.name, test.value, got, test.want)
		}
	}
}

func TestSecretsAreRedactedAndRefused(t *testing.T) {
	all := secretsOf(map[string]string{"TOKEN": "swordfish", "LONG_TOKEN": "swordfish-and-more", "PLAIN": "plain"})
	if got := string(all.redact([]byte("a swordfish, swordfish-and-more, plain\n"))); got != "a [TOKEN], [LONG_TOKEN], plain\n" {
		t.Errorf("redacted: %q", got)
	}
	large := append(bytes.Repeat([]byte{'x'}, 1<<20-4), "swordfish"...)
	for _, test := range []struct {
		name  string
		files fstest.MapFS
		other string
		want  string
	}{
		{"nothing", fstest.MapFS{"a": {Data: []byte("sword fish")}}, "", ""},
		{"content", fstest.MapFS{"etc/a": {Data: []byte("key: swordfish")}}, "", "in etc/a"},
		{"across the borders of what is read at once", fstest.MapFS{"a": {Data: large}}, "", "in a"},
		{"name", fstest.MapFS{"etc/swordfish": {}}, "", "in the name of a file"},
		{"link", fstest.MapFS{"a": {Data: []byte("/x/swordfish"), Mode: 0o777 | 1<<27}}, "", "in a"},
		{"what a package says", fstest.MapFS{}, "runs: curl -u swordfish", "in what it says of itself"},
	} {
		err := all.refuse("r.yaml", "pkg", test.files, []byte(test.other))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
		if _, is := errors.AsType[*SecretError](err); err != nil && (!is || strings.Contains(err.Error(), "swordfish,")) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
