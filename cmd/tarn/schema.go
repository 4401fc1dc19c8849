package main

import (
	"maps"
	"reflect"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/recipes"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema recipe|image|workspace",
		Short: "print the JSON Schema of recipes, image files or tarn.yaml, for editors",
		Long: `schema prints a JSON Schema (draft 2020-12) of one of the languages that tarn
reads. An editor that knows it completes keys, shows what each means, and marks
mistakes while they are written. With the YAML language server, which most editors
have a plugin for:

  tarn schema recipe > recipe.schema.json

and as the first line of a recipe:

  # yaml-language-server: $schema=../recipe.schema.json

or, for all recipes at once, in the editor's settings:

  "yaml.schemas": {"recipe.schema.json": "recipes/*.yaml"}

What the schema refuses tarn refuses. tarn lint finds more: variables that are not
defined, pipelines that do not exist, inputs that they do not have.`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return slices.Sorted(maps.Keys(languages)), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			l, known := languages[args[0]]
			if !known {
				return usagef("there is no schema of %q%s", args[0], hintOf(diag.DidYouMean(args[0], slices.Collect(maps.Keys(languages))), "tarn schema recipe, image or workspace"))
			}
			return a.printJSON(l.schema(args[0]))
		},
	}
}

// language is a language of files that people write.
type language struct {
	read  reflect.Type // what a file is read into
	title string
	// shapes narrow values beyond their types, by path. They say what the stage's own
	// checks say, and TestSchemaRefusesMistakes holds them against these.
	shapes map[string]func(*yamlread.Schema)
	// never are keys that the type has and a file must not.
	never []string
}

// languages are the topics of tarn help that files are written in.
var languages = map[string]language{
	"recipe": {
		read: reflect.TypeFor[recipes.Recipe](), title: "a recipe of tarn or melange",
		shapes: recipeShapes(),
		never:  []string{"pipeline.description", "pipeline.prefetch", "pipeline.native", "pipeline.needs.native", "pipeline.inputs.as", "pipeline.inputs.hint", "pipeline.inputs.only-given"},
	},
	"image": {
		read: reflect.TypeFor[images.Spec](), title: "an image file of tarn or apko",
		shapes: map[string]func(*yamlread.Schema){
			"archs":                     oneOfArches,
			"entrypoint.type":           oneOf("", "service-bundle"),
			"format":                    oneOf("", "tar"),
			"layering.compression":      oneOf("", "gzip", "zstd", "none"),
			"layering.strategy":         oneOf("", "single", "origin", "package"),
			"paths.type":                oneOf("directory", "empty-file", "hardlink", "symlink", "permissions"),
			"tests.files.type":          oneOf("", "file", "directory", "symlink"),
			"tests.services.ask.trusts": oneOf("", "test", "image"),

			"size-limit":            func(s *yamlread.Schema) { s.Pattern = `^[0-9]+(\.[0-9]+)? ?([kKmMgG]?[iI]?[bB]?)$` },
			"policy.setuid":         oneOf("", "allow", "deny"),
			"policy.shells":         oneOf("", "allow", "deny"),
			"policy.unsigned":       oneOf("", "allow", "deny"),
			"scripts.waived.script": oneOf("", "pre-install", "post-install", "trigger"),
		},
	},
	"workspace": {
		read: reflect.TypeFor[workspace](), title: "a workspace of tarn",
		shapes: workspaceShapes(),
	},
}

// schema is the JSON Schema of a language; the words are those of its topic of help.
func (l language) schema(topic string) *yamlread.Schema {
	entries := helpEntries(topic)
	s := yamlread.SchemaOf(l.read,
		func(path string) string { return entries[path] },
		func(path string, s *yamlread.Schema) bool {
			if shape := l.shapes[path]; shape != nil {
				shape(s)
			}
			return !slices.Contains(l.never, path)
		})
	s.Title = l.title
	return s
}

// oneOf allows these words alone, and nothing where nothing may be said.
func oneOf(words ...string) func(*yamlread.Schema) {
	return func(s *yamlread.Schema) {
		for _, word := range words {
			s.Enum = append(s.Enum, word)
		}
		if slices.Contains(s.Type, "null") {
			s.Enum = append(s.Enum, nil)
		}
		s.Type = nil
	}
}

// pattern allows text of a form, and variables, whose values a schema can't know.
func pattern(form string) func(*yamlread.Schema) {
	return func(s *yamlread.Schema) { s.Pattern = form + `|\$\{\{` }
}

func defaults(value any) func(*yamlread.Schema) {
	return func(s *yamlread.Schema) { s.Default = value }
}

func examples(words ...string) func(*yamlread.Schema) {
	return func(s *yamlread.Schema) { s.Examples = words }
}

// The names that architectures have: Alpine's, and in image files OCI's as well.
var (
	apkArches = []string{"x86_64", "aarch64", "x86", "armhf", "armv7", "ppc64le", "s390x", "riscv64", "loongarch64"}
	ociArches = []string{"amd64", "arm64", "386", "arm/v6", "arm/v7", "loong64"}
)

func oneOfArches(s *yamlread.Schema) { s.Items.Examples = slices.Concat(apkArches, ociArches) }

// The forms that recipes.Load and the grammar of apk ask for.
const (
	packageName    = `^[a-zA-Z0-9][a-zA-Z0-9+_.-]*$`
	packageVersion = `^[0-9]+(\.[0-9]+)*[a-z]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]*)*(~[0-9a-f]+)?$`
	cpeWord        = `^([a-z0-9][a-z0-9+_.-]*)?$`
	capability     = `cap_(ipc_lock|net_admin|net_bind_service|net_raw|sys_admin)`
	capabilityList = `^\s*` + capability + `\s*(,\s*` + capability + `\s*)*$`
	capabilityFlag = `^[+=]*[eip][+=eip]*$`
)

func recipeShapes() map[string]func(*yamlread.Schema) {
	shapes := map[string]func(*yamlread.Schema){
		"package.name":                           pattern(packageName),
		"package.version":                        pattern(packageVersion),
		"package.epoch":                          defaults(0),
		"package.target-architecture":            func(s *yamlread.Schema) { s.Items.Examples = append([]string{"all"}, apkArches...) },
		"package.copyright.license":              examples("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-2.0-or-later", "LGPL-2.1-or-later"),
		"package.cpe.part":                       func(s *yamlread.Schema) { s.Pattern, s.Default = "^[ao]?$", "a" },
		"package.setcap.add":                     setcap,
		"subpackages.name":                       pattern(packageName),
		"pipeline.uses":                          examples(recipes.BuiltinPipelines()...),
		"pipeline.":                              stepShape,
		"pipeline.assertions.required-steps":     func(s *yamlread.Schema) { s.Minimum = new(int64) },
		"update.schedule.period":                 oneOf("", "daily", "weekly", "monthly"),
		"environment.entrypoint.type":            examples("service-bundle"),
		"environment.paths.type":                 examples("directory", "empty-file", "hardlink", "symlink", "permissions"),
		"environment.archs":                      oneOfArches,
		"package.scriptlets.post-install":        examples("#!/bin/sh\n"),
		"update.github.identifier":               examples("OWNER/NAME"),
		"package.dependencies.provider-priority": examples("10"),
	}
	for _, part := range []string{"vendor", "product", "edition", "language", "sw_edition", "target_sw", "target_hw", "other"} {
		shapes["package.cpe."+part] = func(s *yamlread.Schema) { s.Pattern = cpeWord }
	}
	return shapes
}

func setcap(s *yamlread.Schema) {
	s.PropertyNames = &yamlread.Schema{Pattern: capabilityList}
	s.AdditionalProperties = &yamlread.Schema{Type: []string{"string"}, Pattern: capabilityFlag}
}

// stepShape says what of a step excludes what.
func stepShape(s *yamlread.Schema) {
	said := func(key string) *yamlread.Schema {
		return &yamlread.Schema{Type: []string{"object"}, Required: []string{key}, Properties: map[string]*yamlread.Schema{key: {MinLength: 1, MinProperties: 1, Type: []string{"string", "number", "boolean", "object"}}}}
	}
	s.AllOf = []*yamlread.Schema{
		{If: said("runs"), Then: &yamlread.Schema{
			Description: "a step has either uses, with its inputs in with, or runs",
			Properties:  map[string]*yamlread.Schema{"uses": {MaxLength: new(int)}, "with": {Type: []string{"object", "null"}, PropertyNames: &yamlread.Schema{MaxLength: new(int)}}},
		}},
		{If: said("with"), Then: &yamlread.Schema{Required: []string{"uses"}}},
	}
}

func workspaceShapes() map[string]func(*yamlread.Schema) {
	d := defaultWorkspace("")
	return map[string]func(*yamlread.Schema){
		"name":      func(s *yamlread.Schema) { s.Default, s.Pattern = d.Name, `^[^/]+$` },
		"recipes":   defaults(d.Recipes),
		"images":    defaults(d.Images),
		"packages":  defaults(d.Packages),
		"output":    defaults(d.Output),
		"keys":      defaults(d.Keys),
		"libc":      func(s *yamlread.Schema) { oneOf("musl", "gnu")(s); s.Default = d.Libc },
		"toolchain": func(s *yamlread.Schema) { oneOf("seeded")(s); s.Default = d.Toolchain },
		"time":      defaults(d.Time),
		"mirrors.": func(s *yamlread.Schema) {
			for _, key := range []string{"folder", "url", "debian"} {
				s.OneOf = append(s.OneOf, &yamlread.Schema{Required: []string{key}})
			}
		},
		"mirrors.url":    func(s *yamlread.Schema) { s.Pattern = `\{sha256\}` },
		"cache.max-size": func(s *yamlread.Schema) { s.Pattern = `^[0-9.]+ ?([kKmMgGtT]?[iI]?[bB]?)$` },
	}
}
