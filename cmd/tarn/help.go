package main

import (
	"embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/recipes"
)

// helpFiles are the topics of tarn help, one file each.
//
//go:embed help/*.md
var helpFiles embed.FS

// helpTopics are the languages that tarn reads, each told in whole by help/NAME.md.
func helpTopics() []*cobra.Command {
	topics := []*cobra.Command{
		{Use: "recipe", Short: "the language of recipes, and the built-in pipelines"},
		{Use: "image", Short: "the language of image files"},
		{Use: "workspace", Short: "what tarn.yaml says"},
	}
	for _, topic := range topics {
		text, err := helpFiles.ReadFile("help/" + topic.Name() + ".md")
		if err != nil {
			panic("internal error: a help topic without a text: " + err.Error())
		}
		topic.Long = strings.TrimRight(string(text), "\n")
	}
	recipe := topics[0]
	recipe.Long += "\n\n" + pipelinesHelp()
	return topics
}

// pipelinesHelp lists the built-in pipelines with their inputs, out of their own files.
func pipelinesHelp() string {
	var b strings.Builder
	b.WriteString("## Built-in pipelines\n")
	var pipelines *recipes.Pipelines // the built-in ones alone
	for _, name := range recipes.BuiltinPipelines() {
		task, err := pipelines.Pipeline(name)
		if err != nil {
			panic("internal error: a built-in pipeline can't be read: " + err.Error())
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n", name, oneLine(task.Description))
		if len(task.Inputs) > 0 {
			b.WriteString("\n")
		}
		for _, input := range slices.Sorted(maps.Keys(task.Inputs)) {
			fmt.Fprintf(&b, "  %s\n", inputHelp(input, task.Inputs[input]))
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

func inputHelp(name string, input recipes.Input) string {
	text := name
	switch {
	case input.Required:
		text += " (required)"
	case input.Default != "":
		text += fmt.Sprintf(" (default %q)", oneLine(input.Default))
	}
	if input.Description != "" {
		text += ": " + oneLine(input.Description)
	}
	return text
}

// oneLine is a text of a YAML file without the breaks that its author put in.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
