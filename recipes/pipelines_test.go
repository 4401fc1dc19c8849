package recipes

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
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
		prefetch/cargo prefetch/go prefetch/npm prefetch/pip
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

// What stands behind a # in a description is part of it, and no comment of the YAML.
func TestBuiltinDescriptionsAreWhole(t *testing.T) {
	cut := regexp.MustCompile(`(?m)^ *description: [^|"'].* #.*$`)
	for _, name := range BuiltinPipelines() {
		data, err := builtin.ReadFile("pipelines/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if line := cut.Find(data); line != nil {
			t.Errorf("%s: a comment cuts this off: %s", name, bytes.TrimSpace(line))
		}
	}
}

// In the scripts of built-in pipelines an input stands where its quoting keeps it in its
// place: outside of quotes, and a list of words as a word of its own. Every variable
// is an input of the file or one that always is there.
func TestBuiltinInputsKeepTheirPlace(t *testing.T) {
	always := []string{"targets.contextdir", "targets.destdir", "host.triplet.gnu", "context.name"}
	eachBuiltin(t, func(t *testing.T, file, task *Task) {
		for _, text := range []string{task.Runs, task.Prefetch} {
			keepsPlace(t, file, text, always)
		}
	})
}

func keepsPlace(t *testing.T, file *Task, text string, always []string) {
	if text == "" {
		return
	}
	{
		marks := map[string]string{} // marker -> input
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
	}
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
