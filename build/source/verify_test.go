package source_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/recipes"
)

// withFiles is a script of one step, with files beside its recipe.
func withFiles(files map[string]string, step recipes.Step) *recipes.Script {
	s := &recipes.Script{Name: "x", Recipe: "x.yaml", Packages: []recipes.Output{{Name: "x", Steps: []recipes.Step{step}}}}
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
		s.Files = append(s.Files, recipes.LocalFile{Path: name, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(text)))})
	}
	s.Source = fsys
	return s
}

// A tag has to be signed by a key beside the recipe, or where it is none of its own the commit; a
// tag that somebody else signed, that is about another commit or that has another name does not
// count.
func TestVerifyGit(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	u := newUpstream(t)
	dir := t.TempDir()
	public := map[string]string{}
	for _, who := range []string{"good", "other"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", filepath.Join(dir, who)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(filepath.Join(dir, who+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		public[who] = string(data)
	}
	signed := func(who string, args ...string) {
		t.Helper()
		u.git(append([]string{"-c", "gpg.format=ssh", "-c", "user.signingKey=" + filepath.Join(dir, who)}, args...)...)
	}
	u.commit("a", "one\n")
	plain := u.git("rev-parse", "HEAD")
	u.git("tag", "light")
	u.git("tag", "-a", "-m", "not signed", "annotated")
	signed("good", "tag", "-s", "-m", "signed", "v1")
	signed("other", "tag", "-s", "-m", "signed", "v-other")
	u.git("update-ref", "refs/tags/v9", "refs/tags/v1") // an old release under the name of a new one
	signed("good", "tag", "-s", "-m", "of a tag", "v10", "v1")
	signed("good", "commit", "--quiet", "-S", "--allow-empty", "-m", "a signed commit")
	commit := u.git("rev-parse", "HEAD")
	u.git("tag", "v2")
	signed("other", "tag", "-s", "-m", "signed", "v3")
	for _, test := range []struct {
		tag, commit string
		scheme      string
		keys        map[string]string
		fails       string
	}{
		{tag: "v1", commit: plain},
		{tag: "v2", commit: commit}, // no object of its own: the commit is signed
		{tag: "light", commit: plain, fails: "the commit is not signed"},
		{tag: "annotated", commit: plain, fails: "the tag is not signed"},
		{tag: "v-other", commit: plain, fails: "no believed key made it"},
		{tag: "v3", commit: commit, fails: "no believed key made it"},
		{tag: "v9", commit: plain, fails: `made as "v1", and the commit is not signed`},
		{tag: "v10", commit: plain, fails: "is of a tag, and the commit is not signed"},
		{tag: "v1", commit: plain, keys: map[string]string{}, fails: "no keys lie beside the recipe"},
		{tag: "v1", commit: plain, keys: map[string]string{"allowed_signers": "up@example.org namespaces=\"file\" " + public["good"]}, fails: `may not sign for the namespace "git"`},
		{tag: "v1", commit: plain, keys: map[string]string{"allowed_signers": "up@example.org namespaces=\"git\" " + public["good"]}},
	} {
		t.Run(test.tag, func(t *testing.T) {
			keys := test.keys
			if keys == nil {
				keys = map[string]string{"good.pub": public["good"]}
			}
			f := newFetcher(t)
			s := withFiles(keys, recipes.Step{Native: "git-checkout", Inputs: map[string]string{"repository": u.url, "tag": test.tag, "expected-commit": test.commit, "verify": "ssh"}})
			for range 2 { // the second time from the store
				err := source.FetchAll(context.Background(), f, s)
				_, is := errors.AsType[*source.SignatureError](err)
				if test.fails == "" && err != nil || test.fails != "" && (!is || !strings.Contains(err.Error(), test.fails)) {
					t.Fatalf("got %v, want %q", err, test.fails)
				}
				f = &source.Fetcher{Store: f.Store, Offline: true}
			}
		})
	}
}

func TestMistakesOfVerify(t *testing.T) {
	sum := strings.Repeat("0", 64)
	for _, test := range []struct {
		native string
		in     map[string]string
		want   string
	}{
		{"fetch", map[string]string{"verify": "gpg"}, "verify is"},
		{"fetch", map[string]string{"verify-keys": "a"}, "verify-keys without verify"},
		{"fetch", map[string]string{"verify": "pgp", "verify-keys": "../a"}, "no path below the recipe's folder"},
		{"fetch", map[string]string{"verify": "pgp", "verify-uri": "file:///etc/passwd"}, "none of http, https and debian"},
		{"fetch", map[string]string{"verify": "pgp", "verify-uri": "../x.asc"}, "neither an address nor a path"},
		{"fetch", map[string]string{"verify": "pgp", "verify-uri": "x.asc", "verify-sha256": sum}, "needs no digest"},
		{"fetch", map[string]string{"verify": "pgp", "verify-uri": "https://example.org/x.asc", "verify-sha256": "abc"}, "is no SHA-256"},
		{"fetch", map[string]string{"verify": "pgp", "verify-accept": "md5"}, "only sha1 can be accepted"},
		{"fetch", map[string]string{"verify": "pgp", "verify-checksums": "SHA256SUMS"}, "verify-uri does not say"},
		{"git-checkout", map[string]string{"verify": "minisign"}, "verify is"},
	} {
		in := map[string]string{"uri": "https://example.org/x.tar.gz", "expected-sha256": sum, "repository": "https://example.org/x"}
		for name, value := range test.in {
			in[name] = value
		}
		var err error
		if test.native == "fetch" {
			_, err = source.OfFetch(recipes.Step{Native: test.native, Inputs: in})
		} else {
			_, err = source.OfCheckout(recipes.Step{Native: test.native, Inputs: in})
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: got %v, want %q", test.in, err, test.want)
		}
	}
}
