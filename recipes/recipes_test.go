package recipes_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/recipes"
)

const head = "package:\n  name: zlib\n  version: 1.3.1\n  epoch: 2\n"

// expand reads and expands one recipe called zlib.
func expand(t *testing.T, text string, target recipes.Target, more fstest.MapFS) *recipes.Script {
	t.Helper()
	files := fstest.MapFS{"zlib.yaml": {Data: []byte(text)}}
	maps.Copy(files, more)
	r, err := recipes.Load(files, "zlib.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if target.Arch == "" {
		target.Arch = apk.ArchX86_64
	}
	s, err := recipes.Expand(r, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Shell text of a recipe's steps, in order, each on its own.
func shells(s *recipes.Script) (texts []string) {
	for _, o := range s.Packages {
		for _, step := range o.Steps {
			texts = append(texts, strings.TrimSpace(step.Shell))
		}
	}
	return texts
}

func TestSubstitution(t *testing.T) {
	tests := []struct {
		name, text string
		target     recipes.Target
		want       []string
	}{
		{"variables", head + "vars: {a: b}\npipeline:\n- runs: echo ${{vars.a}} ${{ package.full-version }} ${{targets.destdir}} ${{targets.contextdir}} ${{context.name}}", recipes.Target{},
			[]string{"echo b 1.3.1-r2 /home/build/melange-out/zlib /home/build/melange-out/zlib zlib"}},
		{"architecture", head + "pipeline:\n- runs: echo ${{build.arch}} ${{build.goarch}} ${{host.triplet.gnu}} ${{host.triplet.rust}} ${{cross.triplet.gnu.glibc}}", recipes.Target{Arch: apk.ArchAArch64, Libc: "musl"},
			[]string{"echo aarch64 arm64 aarch64-unknown-linux-musl aarch64-unknown-linux-musl aarch64-unknown-linux-gnu"}},
		{"architecture with a variant", head + "pipeline:\n- runs: echo ${{build.goarch}} ${{host.triplet.gnu}}", recipes.Target{Arch: "armv7"},
			[]string{"echo arm/v7 armv7l-unknown-linux-gnueabihf"}},
		{"variables of the command line count over the recipe's", head + "vars: {a: b}\npipeline:\n- runs: echo ${{vars.a}} ${{vars.c}}", recipes.Target{Vars: map[string]string{"a": "x", "c": "y"}},
			[]string{"echo x y"}},
		{"a variable's value is not substituted again by the first pass", head + "vars: {a: $b}\npipeline:\n- runs: echo ${{vars.a}}", recipes.Target{},
			[]string{"echo $b"}},
		{"transforms see earlier ones", head + "var-transforms:\n- {from: '${{package.version}}', match: '\\.', replace: _, to: under}\n- {from: '${{vars.under}}', match: '^(\\d+)_(\\d+).*', replace: '${2}x$1', to: swapped}\npipeline:\n- runs: echo ${{vars.under}} ${{vars.swapped}}", recipes.Target{},
			[]string{"echo 1_3_1 3x1"}},
		{"a group's name takes all letters, digits and _", head + "var-transforms:\n- {from: '${{package.version}}', match: '^(\\d+).(\\d+).*', replace: '$2_$1', to: v}\npipeline:\n- runs: echo .${{vars.v}}", recipes.Target{},
			[]string{"echo .1"}},
		{"a transform that does not match changes nothing", head + "var-transforms:\n- {from: '${{package.name}}', match: x, replace: y, to: v}\npipeline:\n- runs: echo ${{vars.v}}", recipes.Target{},
			[]string{"echo zlib"}},
		{"ranges go by key, bytewise", head + "data:\n- {name: t, items: {b: 2, a: 1, B: 3}}\nsubpackages:\n- range: t\n  name: ${{package.name}}-${{range.key}}\n  pipeline:\n  - runs: echo ${{range.key}}${{range.value}} ${{targets.subpkgdir}} ${{subpkg.name}} ${{targets.destdir}}", recipes.Target{},
			[]string{"echo B3 /home/build/melange-out/zlib-B zlib-B /home/build/melange-out/zlib", "echo a1 /home/build/melange-out/zlib-a zlib-a /home/build/melange-out/zlib", "echo b2 /home/build/melange-out/zlib-b zlib-b /home/build/melange-out/zlib"}},
		{"the folder of another package", head + "pipeline:\n- runs: echo ${{targets.package.zlib-dev}}\nsubpackages:\n- name: zlib-dev", recipes.Target{},
			[]string{"echo /home/build/melange-out/zlib-dev"}},
		{"conditions choose steps", head + "pipeline:\n- {if: \"${{build.arch}} == 'x86_64'\", runs: echo yes}\n- {if: \"${{build.arch}} == 'aarch64'\", runs: echo no}", recipes.Target{},
			[]string{"echo yes"}},
		{"a condition of package.* needs no quotes", head + "pipeline:\n- {if: \"${{package.name}} == 'zlib' && '${{package.version}}' == '1.3.1'\", runs: echo yes}", recipes.Target{},
			[]string{"echo yes"}},
		{"a value can't change a condition's shape", head + "vars: {a: \"' == '' || '\"}\npipeline:\n- {if: \"'${{vars.a}}' == ''\", runs: echo yes}", recipes.Target{},
			nil},
		{"conditions choose subpackages", head + "subpackages:\n- {name: a, if: \"${{build.arch}} == 'x86_64'\", pipeline: [runs: echo a]}\n- {name: b, if: \"${{build.arch}} != 'x86_64'\", pipeline: [runs: echo b]}", recipes.Target{},
			[]string{"echo a"}},
		{"build options", head + "vars: {tls: openssl}\noptions: {rustls: {vars: {tls: rustls}}, static: {}}\npipeline:\n- runs: echo ${{vars.tls}} ${{options.rustls.enabled}} ${{options.static.enabled}}", recipes.Target{Options: []string{"rustls"}},
			[]string{"echo rustls true false"}},
		{"a step's own script goes before its group", head + "pipeline:\n- runs: echo 1\n  pipeline:\n  - runs: echo 2\n- runs: echo 3", recipes.Target{},
			[]string{"echo 1", "echo 2", "echo 3"}},
		{"a variable may stand on lines of its own", head + "pipeline:\n- runs: \"echo ${{\\n  package.name\\n}}\"", recipes.Target{},
			[]string{"echo zlib"}},
		{"here-documents that begin on one line keep their text", head + "pipeline:\n- runs: |\n    cat <<A; cat <<'B'\n    a\n    A\n    b\n    B\n    echo c", recipes.Target{},
			[]string{"cat <<A\na\nA\ncat <<'B'\nb\nB\necho c"}},
		{"a script that is nothing but the name of its shell is none", head + "pipeline:\n- runs: '#!/bin/sh'", recipes.Target{},
			nil},
		{"an input of words is written out word by word", head + "pipeline:\n- uses: autoconf/make\n  with:\n    opts: |\n      CFLAGS=\"$CFLAGS -O2\" \\\n      A='b c' # why\n      D=e", recipes.Target{},
			[]string{"make -C . -j$(nproc) V=1 CFLAGS=\"$CFLAGS -O2\" A='b c' D=e"}},
		{"an input of text is one word", head + "pipeline:\n- uses: autoconf/make\n  with:\n    dir: a b; echo 'c' $(reboot)", recipes.Target{},
			[]string{"make -C 'a b; echo '\\''c'\\'' $(reboot)' -j$(nproc) V=1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, shells(expand(t, test.text, test.target, nil))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A comment, blank lines and indentation of a script change nothing that is built.
func TestCommentChangesNothing(t *testing.T) {
	plain := expand(t, head+"pipeline:\n- runs: |\n    make\n    make install\n", recipes.Target{}, nil)
	other := expand(t, "# zlib\n"+head+"pipeline:\n# build\n- runs: |\n    # first\n    make   # all\n\n      make install\n", recipes.Target{}, nil)
	if diff := cmp.Diff(asJSON(t, plain), asJSON(t, other)); diff != "" {
		t.Errorf("-plain +with comments:\n%s", diff)
	}
	shebang := expand(t, head+"pipeline:\n- runs: |\n    #!/bin/bash\n    # why\n    make\n", recipes.Target{}, nil)
	if got, want := shebang.Packages[0].Steps[0].Shell, "#!/bin/bash\nmake\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func asJSON(t *testing.T, s any) string {
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSteps(t *testing.T) {
	s := expand(t, head+`
environment:
  contents: {packages: [zlib-dev>=1, busybox]}
  environment: {A: "1"}
pipeline:
  - uses: fetch
    with:
      uri: https://zlib.net/zlib-${{package.version}}.tar.gz
      expected-sha256: 9a93b2b7dfdac77ceba5a558a580e74667dd6fede4585b91eefb60f03b72df23
  - name: build
    working-directory: sub
    environment: {B: "2", C: "3"}
    pipeline:
      - runs: make
      - working-directory: /srv
        environment: {C: "4"}
        runs: make install
  - working-directory: only/made
    pipeline:
      - if: ${{build.arch}} == 'aarch64'
        runs: make
  - uses: strip
subpackages:
  - name: zlib-dev
    pipeline:
      - uses: split/dev
test:
  environment:
    contents: {packages: [gcc]}
    environment: {A: "5"}
  pipeline:
    - runs: zlib-flate
`, recipes.Target{Time: time.Unix(1700000000, 0)}, nil)
	digest := "9a93b2b7dfdac77ceba5a558a580e74667dd6fede4585b91eefb60f03b72df23"
	want := []recipes.Step{
		{At: "pipeline/0/0", Name: "fetch", Uses: "fetch", Line: 10, Native: "fetch", Package: "zlib", Inputs: map[string]string{
			"uri": "https://zlib.net/zlib-1.3.1.tar.gz", "expected-sha256": digest, "expected-sha512": "", "expected-none": "",
			"strip-components": "1", "directory": ".", "extract": "true", "delete": "false", "purl-name": "zlib", "purl-version": "1.3.1",
		}, Hints: map[string]string{"timeout": "", "dns-timeout": "", "retry-limit": "", "reason": ""}},
		{At: "pipeline/1/0", Line: 18, Shell: "make\n", Dir: "/home/build/sub", Env: map[string]string{"B": "2", "C": "3"}, Package: "zlib"},
		{At: "pipeline/1/1", Line: 19, Shell: "make install\n", Dir: "/srv", Env: map[string]string{"B": "2", "C": "4"}, Package: "zlib"},
		{At: "pipeline/2", Line: 22, Dir: "/home/build/only/made", Package: "zlib"},
		{At: "pipeline/3/0", Name: "strip", Uses: "strip", Line: 26, Native: "strip", Dir: "/home/build/melange-out/zlib", Inputs: map[string]string{"opts": "-g"}, Package: "zlib"},
	}
	if diff := cmp.Diff(want, s.Packages[0].Steps); diff != "" {
		t.Errorf("steps: -want +got:\n%s", diff)
	}
	var needs []string
	for _, n := range s.Environment.Packages {
		needs = append(needs, fmt.Sprintf("%s native=%t", n, n.Native))
	}
	wantNeeds := []string{"binutils native=true", "busybox native=false", "scanelf native=true", "wget native=true", "zlib-dev>=1 native=false"}
	if diff := cmp.Diff(wantNeeds, needs); diff != "" {
		t.Errorf("environment: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"A": "1", "SOURCE_DATE_EPOCH": "1700000000"}, s.Environment.Env); diff != "" {
		t.Errorf("variables: -want +got:\n%s", diff)
	}
	test := s.Packages[0].Test
	if diff := cmp.Diff([]string{"gcc", "zlib"}, s.Listing().Test); diff != "" {
		t.Errorf("test environment: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"A": "5"}, test.Environment.Env); diff != "" {
		t.Errorf("test variables: -want +got:\n%s", diff)
	}
	if s.Packages[1].Test != nil {
		t.Error("zlib-dev has a test, and the recipe gives it none")
	}
}

// What a package declares reaches its output, in subpackages too.
func TestDeclared(t *testing.T) {
	s := expand(t, `
package:
  name: zlib
  version: 1.3.1
  epoch: 2
  description: for ${{package.name}}
  url: https://zlib.net
  copyright:
    - license: Zlib
      license-path: LICENSE
  dependencies:
    runtime: [so:libc.so.1, "!zlib-ng"]
    provides:
      - libz=${{package.full-version}}
    replaces: [zlib-old]
    provider-priority: ${{package.epoch}}
  options: {no-commands: true}
  scriptlets:
    post-install: |
      #!/bin/sh
      echo ${{package.name}}
    trigger: {script: "#!/bin/sh\n", paths: [/usr/lib]}
  checks: {disabled: [usrlocal]}
  cpe: {vendor: zlib, product: zlib, edition: x}
  setcap:
    - {path: /usr/bin/z, add: {cap_net_raw: +ep}, reason: pings}
  timeout: 1h
subpackages:
  - name: zlib-dev
    dependencies: {provider-priority: -1}
    setcap:
      - {path: /usr/bin/d, add: {cap_net_admin: e}, reason: routes}
`, recipes.Target{Commit: "c0ffee"}, nil)
	want := []recipes.Output{
		{
			Name: "zlib", Description: "for zlib", URL: "https://zlib.net", Commit: "c0ffee",
			Runtime:  []apk.Dependency{{Name: "so:libc.so.1"}, {Name: "zlib-ng", Conflict: true}},
			Provides: []apk.Dependency{{Name: "libz", Op: apk.Equal, Version: "1.3.1-r2"}}, Replaces: []apk.Dependency{{Name: "zlib-old"}},
			ProviderPriority: 2, NoCommands: true,
			Scriptlets: map[string]string{".post-install": "#!/bin/sh\necho zlib\n", ".trigger": "#!/bin/sh\n"}, Triggers: []string{"/usr/lib"},
			ChecksDisabled: []string{"usrlocal"}, CPE: "cpe:2.3:a:zlib:zlib:1.3.1:*:x:*:*:*:*:*",
			Setcap: []recipes.Setcap{{Path: "/usr/bin/z", Add: map[string]string{"cap_net_raw": "+ep"}}},
		},
		{Name: "zlib-dev", Commit: "c0ffee", ProviderPriority: -1, Setcap: []recipes.Setcap{{Path: "/usr/bin/d", Add: map[string]string{"cap_net_admin": "e"}}}},
	}
	if diff := cmp.Diff(want, s.Packages, cmpopts.IgnoreUnexported(recipes.Output{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]recipes.License{{License: "Zlib", LicensePath: "LICENSE"}}, s.Licenses); diff != "" {
		t.Errorf("licences: -want +got:\n%s", diff)
	}
	if s.Timeout != time.Hour {
		t.Errorf("timeout is %v", s.Timeout)
	}
}

// Files beside a recipe are part of its script, by what is in them.
func TestFiles(t *testing.T) {
	s := expand(t, head, recipes.Target{}, fstest.MapFS{
		"zlib/fix.patch":      {Data: []byte("a")},
		"zlib/bin/run":        {Data: []byte("b"), Mode: 0o755},
		"zlib/notes.md":       {Data: []byte("c")},
		"zlib/old/x.patch":    {Data: []byte("d")},
		"zlib/.melangeignore": {Data: []byte("# notes\n*.md\nold/\n")},
		"zlib/link":           {Mode: os.ModeSymlink, Data: []byte("fix.patch")},
		"zlib-ng/other.patch": {Data: []byte("e")},
	})
	want := []recipes.LocalFile{
		{Path: "bin/run", SHA256: "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d", Executable: true},
		{Path: "fix.patch", SHA256: "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},
	}
	if diff := cmp.Diff(want, s.Files); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if data, err := recipes.Source(s); err != nil || string(data) != head {
		t.Errorf("source is %q, %v", data, err)
	}
}

func TestOtherArchitecture(t *testing.T) {
	files := fstest.MapFS{"zlib.yaml": {Data: []byte("package:\n  name: zlib\n  version: 1\n  target-architecture: [aarch64]\n")}}
	r, err := recipes.Load(files, "zlib.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil)
	if !errors.Is(err, recipes.ErrOtherArch) || err.Error() != "zlib: not for x86_64, only for aarch64" {
		t.Errorf("got %v", err)
	}
	if _, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchAArch64}, nil); err != nil {
		t.Error(err)
	}
}

// What an env file gives is told apart in the script, and its text is in no JSON.
func TestGivenEnvironmentStaysOut(t *testing.T) {
	with := func(value string) string {
		return asJSON(t, expand(t, head+"environment: {environment: {A: b}}", recipes.Target{Env: map[string]string{"TOKEN": value}}, nil))
	}
	one, two := with("s3cret-canary"), with("other")
	if one == two {
		t.Error("two environments give one script")
	}
	if strings.Contains(one, "canary") {
		t.Errorf("the script holds the secret:\n%s", one)
	}
}

func TestLoadAll(t *testing.T) {
	files := fstest.MapFS{
		"b.yaml":        {Data: []byte("package: {name: b, version: 1}")},
		"a.yaml":        {Data: []byte("package: {name: a, version: 1}")},
		"c.yaml":        {Data: []byte("package: {name: d, version: 1}")},
		"e.yaml":        {Data: []byte("package: {nme: e, version: 1}")},
		".hidden.yaml":  {Data: []byte("nothing")},
		"a.yam.yaml":    {Data: []byte("nothing")},
		"README.md":     {Data: []byte("nothing")},
		"folder.yaml/x": {Data: []byte("nothing")},
	}
	all, err := recipes.LoadAll(files, "recipes/core")
	var names []string
	for _, r := range all {
		names = append(names, r.Package.Name+" "+r.Path())
	}
	if diff := cmp.Diff([]string{"a recipes/core/a.yaml", "b recipes/core/b.yaml", "d recipes/core/c.yaml", " recipes/core/e.yaml"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	want := `recipes/core/c.yaml:1:17: package "d" stands in a file called "c.yaml"
  hint: call the file "d.yaml"
recipes/core/e.yaml:1:11: unknown field "nme"
  hint: did you mean "name"?
2 problems in 2 files`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The recipes of the collection read and expand for every architecture, without a
// lint warning.
func TestCore(t *testing.T) {
	all, err := recipes.LoadAll(os.DirFS("core"), "recipes/core")
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []apk.Arch{apk.ArchX86_64, apk.ArchAArch64} {
		for _, r := range all {
			s, err := recipes.Expand(r, recipes.Target{Arch: arch, Libc: "musl"}, nil)
			if errors.Is(err, recipes.ErrOtherArch) {
				continue
			} else if err != nil {
				t.Error(err)
				continue
			}
			if problems := recipes.Lint(s, recipes.LintOptions{}); len(problems) > 0 {
				t.Errorf("%s: %v", arch, problems)
			}
		}
	}
}

// No link leads out of a folder of pipelines.
func TestPipelineFolderIsClosed(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside.yaml")
	inside := filepath.Join(dir, "pipelines")
	if err := os.WriteFile(outside, []byte("pipeline: [runs: echo out]"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(inside, "leak.yaml")); err != nil {
		t.Fatal(err)
	}
	opened, err := recipes.OpenDir(inside)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"leak", "../outside", "/outside"} {
		if task, err := recipes.NewPipelines(opened).Pipeline(name); err == nil {
			t.Errorf("%s was read: %v", name, task)
		}
	}
}

// No link leads out of a folder of recipes: not of a recipe, not of the folder of its
// local files. One that stays inside is as good as what it leads to.
func TestRecipeFolderIsClosed(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "recipes")
	for _, folder := range []string{filepath.Join(dir, "secret"), filepath.Join(inside, "shared")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "file"), []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recipe := func(file, name string) {
		if err := os.WriteFile(file, []byte("package: {name: "+name+", version: 1}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recipe(filepath.Join(inside, "good.yaml"), "good")
	recipe(filepath.Join(inside, "leak.yaml"), "leak")
	recipe(filepath.Join(dir, "out.yaml"), "out")
	for name, target := range map[string]string{"good": "shared", "leak": "../secret", "out.yaml": "../out.yaml"} {
		if err := os.Symlink(target, filepath.Join(inside, name)); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody writes to it: reading would wait for ever.
	if err := unix.Mkfifo(filepath.Join(inside, "pipe.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}

	all, err := recipes.LoadFolder(inside, "recipes")
	want := `recipes/leak.yaml: open the folder beside the recipe: statat leak: path escapes from parent
  hint: local files stand in the folder itself: a link must not lead out of the recipes
recipes/out.yaml: read recipe: openat out.yaml: path escapes from parent
2 problems in 2 files`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, r := range all {
		if want := r.Package.Name == "good"; (r.Files != nil) != want {
			t.Errorf("%s: has files beside it: %v, want %v", r.Package.Name, !want, want)
		}
	}
	if _, err := recipes.LoadFile(filepath.Join(inside, "leak.yaml")); err == nil {
		t.Error("leak.yaml named by file was read with its folder")
	}
}

func TestCondition(t *testing.T) {
	vars := map[string]string{"arch": "x86_64", "empty": "", "quote": `a"b`}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	tests := []struct {
		text string
		want bool
	}{
		{`${{arch}} == 'x86_64'`, true},
		{`${{ arch }} != "x86_64"`, false},
		{`'a' == "a"`, true},
		{`"${{arch}}-linux" == 'x86_64-linux'`, true},
		{`'it''s' == ''`, false},
		{`'it\'s' == "it's"`, true},
		{`"\n\t\\\x" == '\n\t\\\x'`, true},
		{`${{empty}} == ''`, true},
		{`${{quote}} == 'a"b'`, true},
		{`'a' == 'b' || 'a' == 'a'`, true},
		// From left to right: (true || true) && false.
		{`'a' == 'a' || 'a' == 'a' && 'a' == 'b'`, false},
		{`'a' == 'a' || ('a' == 'a' && 'a' == 'b')`, true},
		{`('a' == 'b')`, false},
		{"'a' ==\n\t'a'", true},
	}
	for _, test := range tests {
		c, err := recipes.ParseCondition(test.text)
		if test.text == `'it''s' == ''` {
			if err == nil {
				t.Errorf("%s: parsed", test.text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if got, errs := c.Eval(lookup); got != test.want || errs != nil {
			t.Errorf("%s: got %t, %v, want %t", test.text, got, errs, test.want)
		}
	}
}

// Everything that parses prints to something that parses to the same, and no input crashes.
func FuzzCondition(f *testing.F) {
	for _, seed := range []string{`${{a}} == 'b'`, `('a' != "b") && ${{c}} == '${{d}}'`, `'a' == 'a' || 'b' == 'b' && 'c' == 'c'`, `"\n\\" == '\''`, `((`, `${{ a`, `'`} {
		f.Add(seed)
	}
	lookup := func(name string) (string, bool) { return name[:len(name)/2], len(name)%3 != 0 }
	f.Fuzz(func(t *testing.T, text string) {
		c, err := recipes.ParseCondition(text)
		if err != nil {
			ce, ok := errors.AsType[*recipes.ConditionError](err)
			if !ok || ce.Offset < 0 || ce.Offset > len(text) {
				t.Fatalf("%q: %#v", text, err)
			}
			return
		}
		again, err := recipes.ParseCondition(c.String())
		if err != nil {
			t.Fatalf("%q prints as %q: %v", text, c, err)
		}
		if again.String() != c.String() {
			t.Errorf("%q prints as %q, then as %q", text, c, again)
		}
		first, errs := c.Eval(lookup)
		second, more := again.Eval(lookup)
		if first != second || len(errs) != len(more) {
			t.Errorf("%q is %t, %q is %t", text, first, c, second)
		}
	})
}

// printed is a recipe that was written as YAML and read again.
func printed(t *testing.T, r *recipes.Recipe) *recipes.Recipe {
	t.Helper()
	text, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := recipes.Load(fstest.MapFS{"printed.yaml": {Data: text}}, "printed.yaml")
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return again
}

// same compares recipes but for where they stand.
var same = cmp.Options{cmpopts.IgnoreTypes(yamlread.Place{}), cmpopts.IgnoreUnexported(recipes.Recipe{}), cmpopts.IgnoreFields(recipes.Recipe{}, "Files")}

// A transform is what Go's regexp makes of it, whatever stands in it.
func FuzzTransform(f *testing.F) {
	f.Add("php-8.4-zip", `^php-(\d+\.\d+)-.*$`, "$1")
	f.Add("1.2.3", `(\d+)\.(\d+)`, "${2}_$1")
	f.Add("1.2.3", `\.`, "$2_$1")
	f.Add("a${{package.name}}", `(?P<n>a)`, "${n}$$")
	f.Fuzz(func(t *testing.T, from, match, replace string) {
		expr, err := regexp.Compile(match)
		if err != nil || from == "" || match == "" || strings.ContainsRune(from+match+replace, 0) || !utf8.ValidString(from+match+replace) || strings.Contains(from, "${{") {
			return
		}
		r := &recipes.Recipe{
			Package:       recipes.Package{Name: "a", Version: "1"},
			VarTransforms: []recipes.VarTransform{{From: from, Match: match, Replace: replace, To: "made"}},
			Environment:   recipes.ImageConfig{Environment: map[string]string{"MADE": "${{vars.made}}"}},
		}
		s, err := recipes.Expand(printed(t, r), recipes.Target{Arch: apk.ArchX86_64}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.Environment.Env["MADE"], expr.ReplaceAllString(from, replace); got != want {
			t.Errorf("%q, %q, %q made %q, want %q", from, match, replace, got, want)
		}
	})
}

// Whatever a recipe is, reading and expanding it ends, mistakes have a place in the
// file, what is read is written as a file that reads as the same, and what expands gives
// the same bytes each time.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(head))
	f.Add([]byte(head + "pipeline:\n- uses: fetch\n  with: {uri: a, expected-none: b}\n- runs: echo ${{vars.a}}\n"))
	f.Add([]byte(head + "data: [{name: t, items: {a: b}}]\nsubpackages:\n- {range: t, name: 'x-${{range.key}}', if: \"'a' == 'a'\"}\n"))
	f.Add([]byte(head + "var-transforms: [{from: a, match: '(.)', replace: $1, to: b}]\ntest: {pipeline: [{uses: python/import, with: {import: a}}]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := fstest.MapFS{"a.yaml": {Data: data}}
		r, err := recipes.Load(files, "a.yaml")
		var s *recipes.Script
		if err == nil && len(data) < yamlread.MaxBytes/16 {
			if diff := cmp.Diff(r, printed(t, r), same); diff != "" {
				t.Errorf("-read +printed and read:\n%s", diff)
			}
		}
		if err == nil {
			s, err = recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil)
		}
		if errors.Is(err, recipes.ErrOtherArch) {
			return
		}
		if err != nil {
			problems, ok := diag.Of(err)
			if !ok || len(problems) == 0 {
				t.Fatalf("%v carries no problem", err)
			}
			return
		}
		again, err := recipes.Expand(r, recipes.Target{Arch: apk.ArchX86_64}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(asJSON(t, s), asJSON(t, again)); diff != "" {
			t.Errorf("two expansions differ:\n%s", diff)
		}
	})
}
