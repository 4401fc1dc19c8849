package recipes_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// told is what a script says, a line each: of packages what they declare, of steps where they
// run and what.
func told(s *recipes.Script) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("needs %s", strings.Join(s.Listing().Environment, " "))
	for _, name := range slices.Sorted(maps.Keys(s.Environment.Env)) {
		if name != "SOURCE_DATE_EPOCH" {
			line("env %s=%s", name, s.Environment.Env[name])
		}
	}
	for _, o := range s.Packages {
		line("%s %q url=%s commit=%s licences=%d scriptlets=%d options=%t disabled=%v", o.Name, o.Description, o.URL, o.Commit, len(s.Licenses), len(o.Scriptlets), o.NoCommands, o.ChecksDisabled)
		for _, step := range o.Steps {
			line("  %s %q in %q: %s", step.At, step.Name, step.Dir, strings.TrimSpace(step.Shell))
		}
		if o.Test != nil {
			line("  test needs %s", strings.Join(testNeeds(s, o.Name), " "))
			for _, step := range o.Test.Steps {
				line("  %s in %q: %s", step.At, step.Dir, strings.TrimSpace(step.Shell))
			}
		}
	}
	return b.String()
}

// The traps of the language, each with what existing recipes count on.
func TestTraps(t *testing.T) {
	pipelines := fstest.MapFS{
		"over.yaml": {Data: []byte("name: the file's\ndescription: unknown keys do no harm\nowner: nobody\nworking-directory: file\nenvironment: {A: file}\ninputs:\n  x: {default: deflt}\nneeds: {packages: [make]}\npipeline:\n  - description: here as well\n    runs: echo ${{inputs.x}}\n")},
		"runs.yaml": {Data: []byte("runs: echo first\npipeline:\n  - runs: echo second\n")},
		"none.yaml": {Data: []byte("inputs:\n  unused: {}\npipeline: []\n")},
	}
	tests := []struct {
		name, text string
		target     recipes.Target
		want       string
	}{
		{
			name: "what a pipeline file says counts, what it does not say stays, and the step keeps its name",
			text: "pipeline:\n- {uses: over, name: mine, working-directory: step, environment: {A: step, B: step}, label: x}\n",
			want: "needs make\nzlib \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\n  pipeline/0/0 \"mine\" in \"/home/build/file\": echo deflt\n",
		},
		{
			name: "an empty input is its default",
			text: "pipeline:\n- {uses: over, with: {x: \"\"}}\n- {uses: over, with: {x: ~}}\n- {uses: over, with: {x: 0}}\n",
			want: "needs make\nzlib \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\n  pipeline/0/0 \"over\" in \"/home/build/file\": echo deflt\n  pipeline/1/0 \"over\" in \"/home/build/file\": echo deflt\n  pipeline/2/0 \"over\" in \"/home/build/file\": echo 0\n",
		},
		{
			name: "children run after a script of the step's own, and a compiled step ignores its uses",
			text: "pipeline:\n- uses: runs\n- uses: nosuch\n  pipeline: [{runs: echo compiled}]\n- uses: none\n",
			want: "needs \nzlib \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\n  pipeline/0 \"runs\" in \"\": echo first\n  pipeline/0/0 \"runs\" in \"\": echo second\n  pipeline/1/0 \"\" in \"\": echo compiled\n",
		},
		{
			name: "a subpackage has the main package's licences and commit, and nothing else of it",
			text: "  description: of zlib\n  url: u\n  commit: c\n  copyright: [{license: MIT}]\n  options: {no-commands: true}\n  checks: {disabled: [usrlocal]}\n  scriptlets: {post-install: x}\nsubpackages:\n- name: ${{package.name}}-dev\n",
			want: "needs \nzlib \"of zlib\" url=u commit=c licences=1 scriptlets=1 options=true disabled=[usrlocal]\nzlib-dev \"\" url= commit=c licences=1 scriptlets=0 options=false disabled=[]\n",
		},
		{
			name: "the first pass takes the exact text alone, the later ones white space too",
			text: "  description: ${{package.name}} ${{ package.name }} ${{build.arch}} ${{nothing}}\nenvironment: {contents: {packages: ['${{ package.name }}-dev']}, environment: {A: '${{ package.name }} ${{package.epoch}}'}}\npipeline:\n- runs: echo ${{ package.name }} ${{\tbuild.arch }}\n",
			want: "needs zlib-dev\nenv A=${{ package.name }} 2\nzlib \"zlib ${{ package.name }} ${{build.arch}} ${{nothing}}\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\n  pipeline/0 \"\" in \"\": echo zlib x86_64\n",
		},
		{
			name:   "variables from outside are taken without vars, and transforms see them",
			text:   "var-transforms:\n- {from: '${{vars.a}}', match: x, replace: y, to: b}\n- {from: '${{vars.b}}', match: none, replace: z, to: c}\npipeline:\n- runs: echo ${{vars.a}} ${{vars.b}} ${{vars.c}}\n",
			target: recipes.Target{Vars: map[string]string{"a": "xx"}},
			want:   "needs \nzlib \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\n  pipeline/0 \"\" in \"\": echo xx yy yy\n",
		},
		{
			name: "tables are ranged over in the order of bytes, with keys and values as they are written",
			text: "data:\n- name: t\n  items: {\"10\": 010, \"9\": ~, B: true, a: 1.0}\nsubpackages:\n- {name: 'z-${{range.key}}', range: t, description: '${{range.value}}'}\n",
			want: "needs \nzlib \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\nz-10 \"010\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\nz-9 \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\nz-B \"true\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\nz-a \"1.0\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\n",
		},
		{
			name: "what is switched off needs nothing and runs nothing, also below",
			text: "pipeline:\n- if: ${{build.arch}} == 'riscv64'\n  needs: {packages: [off]}\n  pipeline: [{runs: echo off}, {uses: over}]\n- if: ''\n  runs: echo on\n",
			want: "needs \nzlib \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\n  pipeline/1 \"\" in \"\": echo on\n",
		},
		{
			name: "a subpackage's condition works, with the variables of its range",
			text: "data: [{name: t, items: {a: x, b: y}}]\nsubpackages:\n- {name: 'z-${{range.key}}', range: t, if: \"'${{range.key}}' == 'b' && ${{build.arch}} == 'x86_64' && ${{range.value}} == 'y'\"}\n",
			want: "needs \nzlib \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\nz-b \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\n",
		},
		{
			name: "a test's environment is its own, with the package and what its steps need",
			text: "environment: {contents: {packages: [gcc]}, environment: {A: build}}\ntest:\n  environment: {contents: {packages: [bash, bash]}}\n  pipeline: [{uses: over}, {working-directory: /tmp/x, pipeline: [{runs: pwd}]}]\n",
			want: "needs gcc\nenv A=build\nzlib \"\" url= commit= licences=0 scriptlets=0 options=false disabled=[]\n  test needs bash make zlib\n  test/0/0 in \"/home/build/file\": echo deflt\n  test/1/0 in \"/tmp/x\": pwd\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.target.Arch = apk.ArchX86_64
			r, err := recipes.Load(fstest.MapFS{"zlib.yaml": {Data: []byte(head + test.text)}}, "zlib.yaml")
			if err != nil {
				t.Fatal(err)
			}
			s, err := recipes.Expand(r, test.target, recipes.NewPipelines(recipes.Dir{Path: "pipelines", FS: pipelines}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, told(s)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// testNeeds are the packages of a test's environment.
func testNeeds(s *recipes.Script, name string) []string {
	l := s.Listing()
	if l.Name == name {
		return l.Test
	}
	i := slices.IndexFunc(l.Subpackages, func(sub recipes.ListingSubpackage) bool { return sub.Name == name })
	return l.Subpackages[i].Test
}
