package recipes

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"mvdan.cc/sh/v3/syntax"
)

// The built-in pipelines are melange's, by name.
func TestBuiltinNames(t *testing.T) {
	want := strings.Fields(`
		R/build autoconf/configure autoconf/make autoconf/make-install cargo/build cmake/build cmake/configure cmake/install
		fetch git-am git-checkout go/build go/build/v2 go/bump go/covdata go/install llvm/covreport maven/configure-mirror maven/pombump
		meson/compile meson/configure meson/install npm/install patch pecl/install pecl/phpize perl/cleanup perl/make
		python/build python/build-wheel python/import python/install python/test ruby/build ruby/clean ruby/install
		split/alldocs split/bin split/debug split/dev split/infodir split/lib split/locales split/manpages split/static strip
		xcover/ensure xcover/profile xcover/status xcover/stop xcover/wait`)
	got := BuiltinPipelines()
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// eachBuiltin visits every task of every built-in pipeline.
func eachBuiltin(t *testing.T, visit func(t *testing.T, file *Task, task *Task)) {
	for _, name := range BuiltinPipelines() {
		t.Run(name, func(t *testing.T) {
			file, err := NewPipelines().Pipeline(name)
			if err != nil {
				t.Fatal(err)
			}
			var walk func(*Task)
			walk = func(task *Task) {
				visit(t, file, task)
				for i := range task.Pipeline {
					walk(&task.Pipeline[i])
				}
			}
			walk(file)
		})
	}
}

func TestBuiltinIsDescribed(t *testing.T) {
	eachBuiltin(t, func(t *testing.T, file, task *Task) {
		if file != task {
			return
		}
		if file.Name == "" || strings.TrimSpace(file.Description) == "" {
			t.Error("it has no name or no description")
		}
		for name, input := range file.Inputs {
			if strings.TrimSpace(input.Description) == "" {
				t.Errorf("the input %q has no description", name)
			}
			if input.Required && input.Default != "" {
				t.Errorf("the input %q is required and has a default", name)
			}
		}
	})
}

// In the scripts of built-in pipelines an input stands where its quoting keeps it in its
// place: outside of quotes, and a list of words as a word of its own. Every variable
// is an input of the file or one that always is there.
func TestBuiltinInputsKeepTheirPlace(t *testing.T) {
	always := []string{"targets.contextdir", "targets.destdir", "host.triplet.gnu"}
	eachBuiltin(t, func(t *testing.T, file, task *Task) {
		if task.Runs == "" {
			return
		}
		marks := map[string]string{} // marker -> input
		text := task.Runs
		for from := 0; ; {
			v, malformed, found := next(text, from)
			if !found {
				break
			}
			if malformed != "" {
				t.Fatalf("malformed %q", malformed)
			}
			marker := "/always"
			if input, ok := strings.CutPrefix(v.name, "inputs."); ok {
				if _, known := file.Inputs[input]; !known {
					t.Errorf("unknown input %q", input)
				}
				marker = "TARN" + strings.ReplaceAll(input, "-", "_") + "INPUT"
				marks[marker] = input
			} else if !slices.Contains(always, v.name) {
				t.Errorf("variable %q", v.name)
			}
			text = text[:v.start] + marker + text[v.end:]
			from = v.start + len(marker)
		}
		parsed, err := parseShell(text)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]int{}
		syntax.Walk(parsed, func(node syntax.Node) bool {
			word, ok := node.(*syntax.Word)
			if !ok {
				return true
			}
			for _, part := range word.Parts {
				lit, ok := part.(*syntax.Lit)
				if !ok {
					continue
				}
				for marker, input := range marks {
					n := strings.Count(lit.Value, marker)
					found[marker] += n
					if n > 0 && file.Inputs[input].As == Words && (len(word.Parts) > 1 || lit.Value != marker) {
						t.Errorf("%q is a list of words inside a word", input)
					}
				}
			}
			return true
		})
		for marker, input := range marks {
			if n := strings.Count(text, marker); n != found[marker] {
				t.Errorf("%q stands inside quotes: %d of %d times", input, n-found[marker], n)
			}
		}
	})
}

// What a value becomes is tried in a real shell.
func TestQuoting(t *testing.T) {
	tests := []struct {
		as          Quoting
		value, want string // want is what "printf '[%s]'" makes of it; "!" and the message where it is refused
	}{
		{Text, "plain", "[plain]"},
		{Text, "", "[]"},
		{Text, "a b", "[a b]"},
		{Text, "it's $HOME `date` \"x\" \\ ;&|<>\n#", "[it's $HOME `date` \"x\" \\ ;&|<>\n#]"},
		{String, "a $X", "[a 1  2]"},
		{String, "a $(echo b)", "[a b]"},
		{String, "it's", "[it's]"},
		{String, "", "[]"},
		{String, `a"; echo b; "`, "!closes the quotes it stands in"},
		{String, "a\"\nreboot #", "!closes the quotes it stands in"},
		{String, `a" b`, "!reached EOF without closing quote `\"`"},
		{String, `-X "a=b c"`, "!closes the quotes it stands in"},
		{String, `-X "a=b"`, "[-X a=b]"},
		{Words, "a b", "[a][b]"},
		{Words, "", "[]"},
		{Words, "a \\\n  b='c d' # why\ne", "[a][b=c d][e]"},
		{Words, "\"$X\" $X", "[1  2][1][2]"},
		{Words, "a; echo b", "!is more than words"},
		{Words, "a > b", "!is more than words"},
		{Words, "a)\necho b\n(", "!is more than words"},
		{Words, "a) echo b #", "!is more than words"},
		{Words, "[a]=b", "!is more than words"},
		{Words, "a\vb", "!holds a control character"},
		{Words, "a 'b", "!reached EOF without closing quote `'`"},
	}
	for _, test := range tests {
		got, err := test.as.quote(test.value)
		if message, refused := strings.CutPrefix(test.want, "!"); refused {
			if err == nil || !strings.HasPrefix(err.Error(), message) {
				t.Errorf("%q %q: got %q, %v, want %s", test.as, test.value, got, err, message)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q %q: %v", test.as, test.value, err)
			continue
		}
		out, err := exec.CommandContext(context.Background(), "/bin/sh", "-c", "X='1  2'; printf '[%s]' "+got).CombinedOutput()
		if err != nil || string(out) != test.want {
			t.Errorf("%q %q as %s: the shell says %q, %v, want %q", test.as, test.value, got, out, err, test.want)
		}
	}
}

// Whatever a value is, as text it reaches the shell as it is, and in no form does
// it make a second command.
func FuzzQuoting(f *testing.F) {
	for _, seed := range []string{"a", "'", "\"; b", ") b (", "$(", "`", "\\", "#", "a\nb", "<<E\nE", "${x:-'}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\x00\r") || !utf8.ValidString(value) {
			return // text of a YAML file is UTF-8 without NUL; the shell's parser drops carriage returns
		}
		for _, as := range []Quoting{Text, String, Words} {
			quoted, err := as.quote(value)
			if err != nil {
				continue
			}
			file, err := parseShell("run " + quoted + " end\n")
			if err != nil {
				t.Fatalf("%q %q gives %q: %v", as, value, quoted, err)
			}
			call, ok := onlyCall(file)
			if !ok || call.Args[len(call.Args)-1].Lit() != "end" || as != Words && len(call.Args) != 3 {
				t.Fatalf("%q %q gives %q, which is not one command with its last word in place", as, value, quoted)
			}
			if as == Text {
				var got strings.Builder
				for _, part := range call.Args[1].Parts {
					switch part := part.(type) {
					case *syntax.SglQuoted:
						got.WriteString(part.Value)
					case *syntax.Lit:
						got.WriteString(strings.ReplaceAll(part.Value, `\'`, "'"))
					default:
						t.Fatalf("%q gives %q with a %T", value, quoted, part)
					}
				}
				if got.String() != value {
					t.Fatalf("%q gives %q, which stands for %q", value, quoted, got.String())
				}
			}
		}
	})
}

// standIns makes a folder of programs that write their arguments to a file, a line
// an argument, and gives the folder.
func standIns(t *testing.T, record string, names ...string) string {
	dir := t.TempDir()
	for _, name := range names {
		script := "#!/bin/sh\n{ echo \"[" + name + "]\"; for a in \"$@\"; do printf '%s\\n' \"$a\"; done; } >>'" + record + "'\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Scripts of built-in pipelines call their tools as the pipelines' documentation says.
func TestBuiltinArguments(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash is absent: scripts of pipelines want a shell with pipefail")
	}
	tests := []struct {
		uses  string
		with  map[string]string
		tools []string
		files map[string]string
		want  string
	}{
		{uses: "autoconf/configure", with: map[string]string{"inputs.opts": "--static \\\n A='b c'"}, files: map[string]string{"configure": "#!/bin/sh\nprintf '%s\\n' \"$@\" >>\"$RECORD\"\n"},
			want: "--host=h\n--build=h\n--prefix=/usr\n--sysconfdir=/etc\n--libdir=/usr/lib\n--mandir=/usr/share/man\n--infodir=/usr/share/info\n--localstatedir=/var\n--static\nA=b c\n"},
		{uses: "autoconf/make-install", tools: []string{"make"}, want: "[make]\n-C\n.\ninstall\nDESTDIR=/out\nV=1\n"},
		{uses: "cmake/configure", with: map[string]string{"inputs.opts": `-DA="x y"`}, tools: []string{"cmake"},
			want: "[cmake]\n-B\noutput\n-G\nNinja\n-DCMAKE_INSTALL_PREFIX=/usr\n-DCMAKE_INSTALL_LIBDIR=lib\n-DCMAKE_BUILD_TYPE=Release\n-DCMAKE_VERBOSE_MAKEFILE=ON\n-DA=x y\n"},
		{uses: "meson/configure", tools: []string{"meson"}, want: "[meson]\nsetup\n.\noutput\n--prefix=/usr\n--wrap-mode=nodownload\n"},
		{uses: "git-am", with: map[string]string{"inputs.patches": "a.patch b.patch"}, tools: []string{"git"}, want: "[git]\nam\na.patch\nb.patch\n"},
		{uses: "perl/make", tools: []string{"perl"}, want: "[perl]\n-I.\nMakefile.PL\nINSTALLDIRS=vendor\n"},
		{uses: "python/import", with: map[string]string{"inputs.python": "python", "inputs.imports": "import a\n# no\n\nfrom b import c\n"}, tools: []string{"python"},
			want: "[python]\n-c\nimport a\n[python]\n-c\nfrom b import c\n"},
		{uses: "python/import", with: map[string]string{"inputs.python": "python", "inputs.from": "a", "inputs.import": "b"}, tools: []string{"python"}, want: "[python]\n-c\nfrom a import b\n"},
		{uses: "ruby/build", with: map[string]string{"inputs.gem": "rake"}, tools: []string{"gem"}, files: map[string]string{"rake.gemspec": "a\n"}, want: "[gem]\nbuild\nrake.gemspec\n"},
		{uses: "go/build", with: map[string]string{"inputs.packages": "./a ./b", "inputs.output": "a", "inputs.ldflags": "-X main.v=$(echo 1)"}, tools: []string{"go"}, files: map[string]string{"go.mod": "module a\n"},
			want: "[go]\nbuild\n-o\n/out/usr/bin/a\n-tags\nnetgo,osusergo\n-ldflags\n-w -X main.v=1\n-trimpath\n-buildmode\ndefault\n./a\n./b\n"},
		{uses: "xcover/profile", with: map[string]string{"inputs.executable-path": "/bin/a"}, tools: []string{"xcover"}, want: "[xcover]\nrun\n--detach\n--path\n/bin/a\n--scope\nproject\n--log-level\ninfo\n--verbose=false\n"},
		{uses: "go/bump", with: map[string]string{"inputs.deps": "a@v1\nb@v2"}, tools: []string{"gobump"}, want: "[gobump]\n--packages\na@v1 b@v2 \n--tidy=true\n--show-diff=false\n"},
	}
	for _, test := range tests {
		t.Run(test.uses, func(t *testing.T) {
			e := &expander{recipe: &Recipe{}, pipelines: NewPipelines()}
			outer := &scope{vars: map[string]string{"host.triplet.gnu": "h", "targets.contextdir": "/out"}}
			with := map[string]string{}
			for name, value := range test.with {
				with[strings.TrimPrefix(name, "inputs.")] = value
			}
			f := frame{scope: outer}
			inner, ok := e.use(&Task{Uses: test.uses}, with, &f)
			if !ok || len(e.problems) > 0 {
				t.Fatal(e.problems)
			}
			script := e.shell(&inner.Pipeline[0], &f)
			if len(e.problems) > 0 {
				t.Fatal(e.problems)
			}
			work := t.TempDir()
			record := filepath.Join(work, "record")
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			command := exec.CommandContext(context.Background(), "bash", "-eo", "pipefail", "-c", script)
			command.Dir = work
			command.Env = []string{"PATH=" + standIns(t, record, test.tools...) + ":" + os.Getenv("PATH"), "HOME=" + work, "RECORD=" + record}
			if out, err := command.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\nthe script:\n%s", err, out, script)
			}
			got, err := os.ReadFile(record)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}

		})
	}
}
