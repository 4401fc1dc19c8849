package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// compiled is a schema as the command prints it, read by somebody else's validator.
func compiled(t *testing.T, language string) *jsonschema.Schema {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: io.Discard}, []string{"schema", language}); code != exitDone {
		t.Fatalf("tarn schema %s: exit code %d", language, code)
	}
	document, err := jsonschema.UnmarshalJSON(&out)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("tarn:"+language, document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("tarn:" + language)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// document is a YAML file as an editor sees it: JSON's values, by YAML 1.2, which has no dates.
func document(data []byte) (any, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, err
	}
	var plain func(n *yaml.Node)
	plain = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!timestamp" {
			n.Tag, n.Style = "!!str", yaml.DoubleQuotedStyle
		}
		for i, c := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 && c.ShortTag() != "!!merge" {
				c.Tag = "!!str" // keys of JSON are text
			}
			plain(c)
		}
	}
	plain(&root)
	var value any
	if err := root.Decode(&value); err != nil {
		return nil, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(text))
}

func TestSchemaGolden(t *testing.T) {
	for name := range languages {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), streams{in: strings.NewReader(""), out: &out, err: io.Discard}, []string{"schema", name}); code != exitDone {
				t.Fatalf("exit code %d", code)
			}
			// The words are those of the help: they are left out, or each would be told twice.
			got := regexp.MustCompile(`(?m)^ *"description": .*\n`).ReplaceAll(out.Bytes(), nil)
			if len(got) == out.Len() {
				t.Error("the schema tells nothing of its keys")
			}
			golden := filepath.Join("testdata", "schema", name+".json")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got (UPDATE_GOLDEN=1 writes it anew):\n%s", diff)
			}
		})
	}
}

// TestSchemaShapesExist holds that what narrows the types speaks of keys that there are.
func TestSchemaShapesExist(t *testing.T) {
	for name, l := range languages {
		check := func(p string) {
			if p = strings.TrimSuffix(p, "."); !hasPath(l.read, p) {
				t.Errorf("%s: there is no key %s", name, p)
			}
		}
		for p := range l.shapes {
			check(p)
		}
		for _, p := range l.never {
			check(p)
		}
	}
}

// TestSchemaTakesWhatTarnTakes validates other people's recipes and images.
func TestSchemaTakesWhatTarnTakes(t *testing.T) {
	files := corpusFiles(t)
	recipe, image := compiled(t, "recipe"), compiled(t, "image")
	count := map[string]int{}
	for name, file := range files {
		schema, folder := recipe, path.Dir(name)
		var err error
		var r *recipes.Recipe
		switch {
		case !recipes.IsRecipe(path.Base(name)):
			continue
		case folder == "wolfi-open" || folder == "melange-examples":
			if r, err = recipes.Load(files, name); err == nil && !strings.Contains(r.Package.Version, "${{") {
				_, err = apk.ParseVersion(r.Package.Version) // which recipes.Expand asks for
			}
		case strings.HasPrefix(name, "apko-examples/"):
			schema, folder = image, "apko-examples"
			_, err = images.Load(files, name)
		default:
			continue
		}
		value, malformed := document(file.Data)
		if malformed != nil {
			continue // no schema has a part in this
		}
		if err != nil {
			continue // what tarn refuses, see TestSchemaRefusesMistakes
		}
		count[folder]++
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if count["wolfi-open"] != 1702 || count["apko-examples"] < 10 || count["melange-examples"] < 10 {
		t.Errorf("validated %v, want 1702 of wolfi-open and some of the others", count)
	}
}

// TestSchemaTakesOurOwn validates the files of this repository.
func TestSchemaTakesOurOwn(t *testing.T) {
	for pattern, language := range map[string]string{"../../recipes/core/*.yaml": "recipe", "../../images/core/*.yaml": "image", "../../tarn.yaml": "workspace"} {
		schema := compiled(t, language)
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			value, err := document(data)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// structural are the messages of mistakes that a schema can know: those of the shape of a
// file, and not of what its words mean together.
var structural = regexp.MustCompile(`unknown field|missing field|" is empty$|is (a list|a mapping|text|a number|a truth value|-1), expected|is no duration|is no name for a package|is no version that apk knows|either "uses" or "runs"|takes no "with"|stands without "uses"|no capability that a recipe may give|are no capability flags|is no word of a cpe|unknown part|unknown period|required-steps is negative`)

// TestSchemaRefusesMistakes validates the broken recipes whose messages are golden: those
// that are broken in shape are refused, and the others are not, or the schema would know
// more than tarn.
func TestSchemaRefusesMistakes(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.FromSlash("../../recipes/testdata/mistakes.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	schema := compiled(t, "recipe")
	messages := map[string]string{}
	for _, f := range archive.Files {
		if name, is := strings.CutSuffix(f.Name, ".txt"); is {
			messages[name] = string(f.Data)
		}
	}
	refused := 0
	for _, f := range archive.Files {
		name, is := strings.CutSuffix(f.Name, ".yaml")
		message := messages[name]
		value, malformed := document(f.Data)
		if !is || value == nil || message == "" || malformed != nil || strings.Contains(message, "is given twice") || strings.Contains(message, "a second document") || strings.Contains(message, "${{") || strings.HasPrefix(name, "pipelines/") {
			continue
		}
		// What is wrong in a pipeline's file is not wrong in the recipe.
		own := ""
		for line := range strings.Lines(message) {
			if strings.HasPrefix(line, name+".yaml:") {
				own += line
			}
		}
		wrong := structural.MatchString(strings.TrimSpace(own)) || regexp.MustCompile(`(?m)" is empty$`).MatchString(own)
		if err := schema.Validate(value); (err != nil) != wrong {
			t.Errorf("%s: refused is %t, want %t: tarn says\n%s", name, err != nil, wrong, message)
		} else if wrong {
			refused++
		}
	}
	if refused < 25 {
		t.Errorf("%d recipes are refused, want at least 25", refused)
	}
}

// TestSchemaAgreesWithReading changes a recipe in one place and asks both.
func TestSchemaAgreesWithReading(t *testing.T) {
	schema := compiled(t, "recipe")
	const good = "package:\n  name: a\n  version: 1\n"
	for _, text := range []string{
		"", "  epoch: ~\n", "  epoch: 0x10\n", "  epoch: \"1\"\n", "  epoch: 1.5\n", "  description: 12\n", "  description: yes\n", "  description: [a]\n",
		"  timeout: 1h30m\n", "  timeout: 0\n", "  timeout: 7\n", "  timeout: soon\n", "  options: {no-provides: yes}\n", "  options: {no-provides: maybe}\n",
		"  options: ~\n", "  copyright: [{license: MIT}, ~]\n", "  copyright: [{paths: [a]}]\n", "  copyright: [{license: ~}]\n", "  annotations: {a: 1, b: ~}\n", "  annotations: {a: {}}\n",
		"pipeline: ~\n", "pipeline: [{runs: a}]\n", "pipeline: [{runs: a, uses: strip}]\n", "pipeline: [{runs: a, uses: ''}]\n", "pipeline: [{uses: strip, with: {opts: 1}}]\n",
		"pipeline: [{with: {opts: a}}]\n", "pipeline: [{with: {}}]\n", "pipeline: [{pipeline: [{pipeline: [{run: a}]}]}]\n", "pipeline: [{native: strip}]\n",
		"pipeline: [{assertions: {required-steps: -1}}]\n", "update: {schedule: {period: yearly}}\n", "update: {schedule: {period: ''}}\n", "update: {schedule: {period: ~}}\n",
		"environment: {accounts: {users: [{username: a, uid: -1}]}}\n", "vars: {a: 2024-01-01}\n", "vars: [a]\n", "var-transforms: [{from: a, match: b, to: c}]\n", "var-transforms: [{from: a, match: '', to: c, replace: ''}]\n",
		"  setcap: [{path: /a, add: {cap_net_raw: +ep}, reason: x}]\n", "  setcap: [{path: /a, add: {cap_sys_boot: +ep}, reason: x}]\n", "  setcap: [{path: /a, add: {}, reason: x}]\n",
		"test: {pipeline: [{runs: a}]}\n", "test: {environment: {contents: {packages: ~}}}\n", "subpackages: [{name: a-dev, if: \"'a' == 'a'\"}]\n", "network: because\n",
	} {
		_, err := recipes.Load(fstest.MapFS{"a.yaml": &fstest.MapFile{Data: []byte(good + text)}}, "a.yaml")
		value, malformed := document([]byte(good + text))
		if malformed != nil {
			t.Fatalf("%s: %v", text, malformed)
		}
		if invalid := schema.Validate(value); (invalid == nil) != (err == nil) {
			t.Errorf("%q: tarn says %v, and the schema %v", text, err, invalid)
		}
	}
	if _, err := apk.ParseVersion("1"); err != nil {
		t.Fatal(err)
	}
	// The grammar of versions is told twice: hold one against the other.
	form := regexp.MustCompile(packageVersion)
	for _, v := range []string{"1", "1.2.3", "1.2a", "1.2ab", "v1", "1_rc1", "1_rc", "1_p1_git20240101", "1.0~abcdef", "1.0~xyz", "1-2", "1.", "1..2", "01", "1_foo1", ""} {
		if _, err := apk.ParseVersion(v + "-r0"); (err == nil) != form.MatchString(v) {
			t.Errorf("version %q: apk says %v, the schema %t", v, err, form.MatchString(v))
		}
	}
}

// corpusFiles unpacks other people's recipes and images into memory.
func corpusFiles(t testing.TB) fstest.MapFS {
	dir := os.Getenv("TARN_SHARED")
	if dir == "" {
		dir = filepath.FromSlash("../../../shared")
	}
	f, err := os.Open(filepath.Join(dir, "corpus", "recipes.tar.gz"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the corpus is absent: %v", err)
		}
		t.Skipf("the corpus is absent: %v (set TARN_SHARED)", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "./")] = &fstest.MapFile{Data: data}
	}
}
