package prefetch

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
)

// rawFiles are a work folder with what package managers left in it.
func rawFiles(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	work, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { work.Close() })
	for name, text := range files {
		name = path.Join(raw, name)
		if err := work.MkdirAll(path.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := work.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return work
}

func normalised(t *testing.T, files map[string]string) (tree map[string]string, contents map[string]string, digest store.Digest) {
	t.Helper()
	work := rawFiles(t, files)
	contents, err := Normalise(work)
	if err != nil {
		t.Fatal(err)
	}
	tree = map[string]string{}
	if err := fs.WalkDir(work.FS(), Folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := work.ReadFile(name)
		tree[strings.TrimPrefix(name, Folder+"/")] = string(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	digest, _, err = Pack(context.Background(), st, work)
	if err != nil {
		t.Fatal(err)
	}
	return tree, contents, digest
}

// What differs from registry to registry, and from day to day, is not in the tree.
func TestGoTreeIsOfNoProxy(t *testing.T) {
	files := func(origin string, more map[string]string) map[string]string {
		all := map[string]string{
			"go/cache/download/example.org/!x/@v/v1.0.0.info":    `{"Version":"v1.0.0","Time":"2024-01-02T03:04:05Z","Origin":{"URL":"` + origin + `"}}`,
			"go/cache/download/example.org/!x/@v/v1.0.0.mod":     "module example.org/X\n",
			"go/cache/download/example.org/!x/@v/v1.0.0.zip":     "zip",
			"go/cache/download/example.org/!x/@v/v1.0.0.ziphash": "h1:x",
			"go/cache/download/example.org/!x/@v/v0.9.0.mod":     "module example.org/X\n",
			"go/cache/download/example.org/!x/@v/list":           origin,
			"go/cache/download/example.org/!x/@v/v1.0.0.lock":    "",
			"go/cache/download/sumdb/example.org/latest":         origin,
			"go/example.org/!x@v1.0.0/x.go":                      "package x\n",
		}
		maps.Copy(all, more)
		return all
	}
	tree, contents, one := normalised(t, files("https://one.example", nil))
	want := map[string]string{
		"go/example.org/!x/@v/v1.0.0.info": `{"Version":"v1.0.0","Time":"2024-01-02T03:04:05Z"}`,
		"go/example.org/!x/@v/v1.0.0.mod":  "module example.org/X\n",
		"go/example.org/!x/@v/v1.0.0.zip":  "zip",
		"go/example.org/!x/@v/v0.9.0.mod":  "module example.org/X\n",
		"go/example.org/!x/@v/list":        "v0.9.0\nv1.0.0\n",
	}
	if diff := cmp.Diff(want, tree); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := slices.Sorted(maps.Keys(contents)); !slices.Equal(got, []string{"example.org/X", "example.org/X@v0.9.0", "example.org/X@v1.0.0"}) {
		t.Errorf("parts: %q", got)
	}
	if _, _, other := normalised(t, files("https://two.example", map[string]string{"go/cache/download/cache.lock": "x"})); other != one {
		t.Error("another proxy's tree differs")
	}
	_, changed, other := normalised(t, files("https://one.example", map[string]string{"go/cache/download/example.org/!x/@v/v1.0.0.zip": "other"}))
	if other == one {
		t.Error("other bytes have the same digest")
	}
	if got := Differences(contents, changed); !slices.Equal(got, []string{"~ example.org/X@v1.0.0: other bytes"}) {
		t.Errorf("got %q", got)
	}
}

func sri(data string) (integrity, content string) {
	sum := sha512.Sum512([]byte(data))
	name := hex.EncodeToString(sum[:])
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:]), path.Join("npm/_cacache/content-v2/sha512", name[:2], name[2:4], name[4:])
}

// npmFiles are a cache of npm as a registry fills it.
func npmFiles(t *testing.T, registry, date string, more string) map[string]string {
	tarball, tarballAt := sri("tarball of 1.0.0")
	document := `{"name":"@scope/x","dist-tags":{"latest":"2.0.0"},"time":{"modified":"` + date + `"},"versions":{` +
		`"1.0.0":{"name":"@scope/x","version":"1.0.0","bin":{"x":"x.js"},"_npmUser":{"name":"` + date + `"},"dist":{"tarball":"` + registry + `/@scope/x/-/x-1.0.0.tgz","integrity":"` + tarball + `","signatures":["` + date + `"]}},` +
		`"2.0.0":{"name":"@scope/x","version":"2.0.0","dist":{"tarball":"` + registry + `/@scope/x/-/x-2.0.0.tgz"}}` + more + `}}`
	told, toldAt := sri(document)
	line := func(address, integrity, accept string) string {
		text, err := json.Marshal(map[string]any{"key": requestCache + address, "integrity": integrity, "time": 1234, "size": 10, "metadata": map[string]any{
			"url": address, "time": 1234, "reqHeaders": map[string]string{"accept": accept}, "resHeaders": map[string]string{"date": date, "etag": date}, "options": map[string]any{"compress": true}}})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("\n%x\t%s", sha1.Sum(text), text)
	}
	return map[string]string{
		tarballAt:                         "tarball of 1.0.0",
		toldAt:                            document,
		"npm/_cacache/index-v5/aa/bb/one": line(registry+"/@scope/x/-/x-1.0.0.tgz", tarball, "*/*"),
		"npm/_cacache/index-v5/aa/cc/two": line(registry+"/@scope%2fx", told, "application/json"),
		"npm/_logs/debug.log":             date,
	}
}

func TestNPMTreeIsOfNoRegistry(t *testing.T) {
	tree, contents, one := normalised(t, npmFiles(t, "https://one.example", "Monday", ""))
	// Another registry, below a path, on another day, with a version more.
	_, _, other := normalised(t, npmFiles(t, "https://two.example/npm/all", "Tuesday", `,"3.0.0":{"name":"@scope/x","version":"3.0.0","dist":{"tarball":"https://two.example/npm/all/@scope/x/-/x-3.0.0.tgz"}}`))
	if one != other {
		t.Error("another registry's tree differs")
	}
	for name, text := range tree {
		for _, word := range []string{"example", "Monday", "2.0.0"} {
			if strings.Contains(text, word) {
				t.Errorf("%s holds %q: %s", name, word, text)
			}
		}
	}
	if got := slices.Sorted(maps.Keys(contents)); !slices.Equal(got, []string{"@scope/x (versions)", "@scope/x@1.0.0", "npm (index)"}) {
		t.Errorf("parts: %q", got)
	}
	addresses := map[string]int{}
	for name, text := range tree {
		if !strings.HasPrefix(name, "npm/_cacache/index-v5/") {
			continue
		}
		for line := range strings.Lines(strings.TrimPrefix(text, "\n")) {
			sum, entry, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			var a npmAnswer
			if err := json.Unmarshal([]byte(entry), &a); err != nil || sum != fmt.Sprintf("%x", sha1.Sum([]byte(entry))) {
				t.Fatalf("%s: %q is no entry: %v", name, line, err)
			}
			addresses[a.Metadata.URL]++
			content, err := npmContentPath(a.Integrity)
			if err != nil {
				t.Fatal(err)
			}
			if text := tree["npm/_cacache/content-v2/"+content]; text == "" {
				t.Errorf("%s has no content", a.Key)
			}
		}
	}
	if diff := cmp.Diff(map[string]int{npmRegistry + "@scope/x/-/x-1.0.0.tgz": 1, npmRegistry + "@scope%2fx": 2}, addresses); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPlaceGivesWhatWasPacked(t *testing.T) {
	work := rawFiles(t, map[string]string{
		"pip/x-1-py3-none-any.whl": "wheel", "cargo/vendor/y-1.0.0/src/lib.rs": "lib", "cargo/config.toml": "directory = \"/home/build/.cache/prefetch.raw/cargo/vendor\"\n", "files/a/b": "b",
	})
	contents, err := Normalise(work)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(contents)); !slices.Equal(got, []string{"cargo/config.toml", "files/a/b", "x-1-py3-none-any.whl", "y-1.0.0"}) {
		t.Errorf("parts: %q", got)
	}
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	d, _, err := Pack(t.Context(), st, work)
	if err != nil {
		t.Fatal(err)
	}
	fresh := rawFiles(t, nil)
	env, err := Place(t.Context(), st, &Entry{SHA256: d.Hex(), Contents: contents}, fresh)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"pip/x-1-py3-none-any.whl": "wheel", "cargo/vendor/y-1.0.0/src/lib.rs": "lib", "cargo/config.toml": "directory = \"/home/build/.cache/prefetch/cargo/vendor\"\n", "files/a/b": "b",
	} {
		if got, err := fresh.ReadFile(path.Join(Folder, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"PIP_NO_INDEX", "CARGO_HOME", "PREFETCH"} {
		if env[name] == "" {
			t.Errorf("%s is not set", name)
		}
	}
	for _, name := range []string{"GOPROXY", "npm_config_offline"} {
		if env[name] != "" {
			t.Errorf("%s is set, and nothing is there", name)
		}
	}
	if held, err := Find(fresh, []string{"wheel"}); err != nil || held != "pip/x-1-py3-none-any.whl" {
		t.Errorf("got %q, %v", held, err)
	}
	if held, err := Find(fresh, []string{"nowhere"}); err != nil || held != "" {
		t.Errorf("got %q, %v", held, err)
	}
}

// A list that somebody edited is told: the tree's digest alone would let it pass.
func TestPlaceRefusesAnEditedList(t *testing.T) {
	files := npmFiles(t, "https://one.example", "Monday", "")
	files["pip/x-1-py3-none-any.whl"] = "wheel"
	files["go/cache/download/example.org/!x/@v/v1.0.0.zip"] = "zip"
	work := rawFiles(t, files)
	contents, err := Normalise(work)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	d, _, err := Pack(t.Context(), st, work)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		edit func(map[string]string)
		want string // nothing: it is as it was
	}{
		{func(map[string]string) {}, ""},
		{func(c map[string]string) { delete(c, "x-1-py3-none-any.whl") }, `"x-1-py3-none-any.whl" is in the tree that sha256 names, and not listed`},
		{func(c map[string]string) { c["example.org/X@v1.0.0"] = c["npm (index)"] }, `"example.org/X@v1.0.0" is listed with another digest than in the tree that sha256 names`},
		{func(c map[string]string) { c["example.org/A@v1.0.0"], c["b"] = c["npm (index)"], "" }, `"b" is listed, and not in the tree that sha256 names`},
		{func(c map[string]string) { clear(c) }, `"@scope/x (versions)" is in the tree that sha256 names, and not listed`},
	} {
		e := Entry{SHA256: d.Hex(), Contents: maps.Clone(contents)}
		test.edit(e.Contents)
		_, err := Place(t.Context(), st, &e, rawFiles(t, nil))
		problems, _ := diag.Of(err)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("the list as it was: %v", err)
		case test.want != "" && (len(problems) != 1 || problems[0].Text != test.want || problems[0].Hint != "tarn fetch --update"):
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

// A tool is given what it reads itself, and no other's.
func TestSettingsOfEachTool(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, name := range []string{"NETRC", "XDG_CONFIG_HOME", "GOENV", "CARGO_HOME", "PIP_CONFIG_FILE", "NPM_CONFIG_USERCONFIG", "npm_config_userconfig", "GOPROXY", "PIP_INDEX_URL"} {
		t.Setenv(name, "")
	}
	t.Setenv("GOPRIVATE", "example.org")
	t.Setenv("CARGO_REGISTRIES_X_TOKEN", "cargo-token")
	t.Setenv("SOME_TOKEN", "npm-token")
	t.Setenv("UNRELATED", "nothing")
	for name, text := range map[string]string{
		".netrc":                  "machine a login b password netrc-word\n",
		".npmrc":                  "registry=https://user:npm%21word@npm.example/\n//npm.example/:_authToken=${SOME_TOKEN}\nprefix=/opt\n",
		".config/go/env":          "GOPROXY=https://go.example\nGOFLAGS=-x\n",
		".config/pip/pip.conf":    "[global]\nindex-url = https://pip-word@pip.example/simple\n  \ncache-dir = /x\n[list]\nformat = json\n",
		".cargo/config.toml":      "[build]\nrustc-wrapper = \"/bin/evil\"\n[registries.x]\nindex = \"sparse+https://cargo.example/\"\ncredential-provider = \"evil\"\n",
		".cargo/credentials.toml": "[registries.x]\ntoken = \"cargo-word\"\n",
	} {
		if err := os.MkdirAll(path.Dir(path.Join(home, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		script           string
		has, hasNot, not []string // in variables and files; secrets that are not known
	}{
		{"go mod download", []string{"GOPRIVATE=example.org", "GOPROXY=https://go.example", "netrc-word"}, []string{"npm", "pip.example", "cargo", "GOFLAGS", "UNRELATED"}, []string{"cargo-word"}},
		{"cd x && npm ci", []string{"_authToken=npm-token", "npm.example"}, []string{"go.example", "pip.example", "cargo.example", "prefix", "cargo-token"}, nil},
		{"python3 -m pip download x", []string{"index-url = https://pip-word@pip.example/simple"}, []string{"npm.example", "cache-dir", "format"}, nil},
		{"cargo vendor", []string{"sparse+https://cargo.example/", "cargo-word", "CARGO_REGISTRIES_X_TOKEN=cargo-token"}, []string{"evil", "npm.example", "rustc-wrapper"}, nil},
	} {
		s, err := MachineSettings(ToolsOf(test.script))
		if err != nil {
			t.Fatal(err)
		}
		var all bytes.Buffer
		for name, value := range s.Env {
			fmt.Fprintf(&all, "%s=%s\n", name, value)
		}
		for _, data := range s.Files {
			all.Write(data)
		}
		text := strings.ReplaceAll(all.String(), "npm_config_cafile", "")
		for _, word := range test.has {
			if !strings.Contains(text, word) {
				t.Errorf("%s: no %q in %s", test.script, word, text)
			}
		}
		for _, word := range test.hasNot {
			if strings.Contains(strings.ReplaceAll(text, "CARGO_HTTP_CAINFO", ""), word) {
				t.Errorf("%s: %q in %s", test.script, word, text)
			}
		}
		for _, secret := range []string{"netrc-word", "npm-token", "npm!word", "pip-word", "cargo-token", "cargo-word"} {
			if strings.Contains(text, secret) && !slices.Contains(s.Secrets, secret) {
				t.Errorf("%s: %q is not known for a secret", test.script, secret)
			}
		}
	}
}
