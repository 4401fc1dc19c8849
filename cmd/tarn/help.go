package main

import (
	"embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/recipes"
)

// helpFiles are the topics of tarn help, one file each.
//
//go:embed help/*.md
var helpFiles embed.FS

// helpTopics are the languages that tarn reads, each told in whole by help/NAME.md, and
// the built-in pipelines.
func helpTopics() []*cobra.Command {
	topic := func(name, short, text string) *cobra.Command {
		return &cobra.Command{Use: name, Short: short, Long: renderHelp(text, helpWidth)}
	}
	return []*cobra.Command{
		topic("recipe", "the language of recipes, and the built-in pipelines", helpText("recipe")+"\n"+pipelinesHelp()),
		topic("image", "the language of image files", helpText("image")),
		topic("workspace", "what tarn.yaml says", helpText("workspace")),
		{Use: "pipelines", Short: "the built-in pipelines, or one of them: tarn help pipelines NAME", Long: renderHelp(pipelinesList(), helpWidth)},
	}
}

// helpText is the text of a topic as it is written.
func helpText(topic string) string {
	text, err := helpFiles.ReadFile("help/" + topic + ".md")
	if err != nil {
		panic("internal error: a help topic without a text: " + err.Error())
	}
	return string(text)
}

// pipelinesHelp tells every built-in pipeline, out of its own file.
func pipelinesHelp() string {
	var b strings.Builder
	b.WriteString("## Built-in pipelines\n")
	for _, name := range recipes.BuiltinPipelines() {
		b.WriteString("\n" + pipelineHelp(name))
	}
	return b.String()
}

// pipelinesList is the built-in pipelines with a line about each.
func pipelinesList() string {
	var b strings.Builder
	b.WriteString("The pipelines that are part of tarn. tarn help pipelines NAME tells one of them whole, tarn help recipe all.\n\n")
	for _, name := range recipes.BuiltinPipelines() {
		fmt.Fprintf(&b, "- `%s`: %s.\n", name, oneLine(builtinPipeline(name).Name))
	}
	return b.String()
}

func builtinPipeline(name string) *recipes.Task {
	var pipelines *recipes.Pipelines // the built-in ones alone
	task, err := pipelines.Pipeline(name)
	if err != nil {
		panic("internal error: a built-in pipeline can't be read: " + err.Error())
	}
	return task
}

// pipelineHelp tells one built-in pipeline: what it does, its inputs, what it needs.
func pipelineHelp(name string) string {
	var b strings.Builder
	task := builtinPipeline(name)
	fmt.Fprintf(&b, "### %s\n\n%s.\n", name, oneLine(task.Description))
	var needs []string
	var walk func(t *recipes.Task)
	walk = func(t *recipes.Task) {
		needs = slices.Concat(needs, t.Needs.Packages, t.Needs.Native)
		for i := range t.Pipeline {
			walk(&t.Pipeline[i])
		}
	}
	walk(task)
	if len(needs) > 0 {
		fmt.Fprintf(&b, "\nNeeds: %s.\n", strings.Join(needs, ", "))
	}
	if len(task.Inputs) > 0 {
		b.WriteString("\n")
	}
	for _, input := range slices.Sorted(maps.Keys(task.Inputs)) {
		fmt.Fprintf(&b, "- %s\n", inputHelp(input, task.Inputs[input]))
	}
	return b.String()
}

func inputHelp(name string, input recipes.Input) string {
	text := "`" + name + "`"
	switch {
	case input.Required:
		text += " (required)"
	case input.Default != "":
		text += fmt.Sprintf(" (default %s)", strings.Join(strings.Fields(input.Default), " "))
	}
	return text + ": " + oneLine(input.Description) + "."
}

// oneLine is a text of a YAML file without the breaks that its author put in.
func oneLine(text string) string {
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ".")
}

// helpWidth is how wide a page of help is at most, in columns.
const helpWidth = 80

// entryLine is a line of a topic that tells of keys: - `a.b`, `a.c` (default x): text
var entryLine = regexp.MustCompile("^ *- (`[^`]+`(?:, `[^`]+`)*)( \\([^`]*?\\))?: (.+)$")

var backquoted = regexp.MustCompile("`([^`]+)`")

// helpEntries gives the words that a topic has for each key, by its path.
func helpEntries(topic string) map[string]string {
	entries := map[string]string{}
	for line := range strings.Lines(helpText(topic)) {
		if e := entryLine.FindStringSubmatch(strings.TrimRight(line, "\n")); e != nil {
			for _, key := range backquoted.FindAllStringSubmatch(e[1], -1) {
				entries[key[1]] = strings.ReplaceAll(e[3], "`", "")
			}
		}
	}
	return entries
}

// renderHelp makes a page for the terminal of a topic's Markdown: headings, paragraphs,
// lists, the entries of keys, and indented text, which stays as it is.
func renderHelp(text string, width int) string {
	var page, paragraph []string
	flush := func() {
		if len(paragraph) > 0 {
			page = append(page, wrap(strings.ReplaceAll(strings.Join(paragraph, " "), "`", ""), "", "", width)...)
			paragraph = nil
		}
	}
	blank := func() {
		if flush(); len(page) > 0 && page[len(page)-1] != "" {
			page = append(page, "")
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch entry := entryLine.FindStringSubmatch(line); {
		case line == "":
			blank()
		case strings.HasPrefix(line, "## "):
			blank()
			page = append(page, strings.ToUpper(line[3:]))
		case strings.HasPrefix(line, "### "):
			blank()
			page = append(page, line[4:])
		case entry != nil:
			flush()
			page = append(page, wrap(strings.ReplaceAll(entry[1], "`", "")+entry[2], "  ", "  ", width)...)
			page = append(page, wrap(strings.ReplaceAll(entry[3], "`", ""), "      ", "      ", width)...)
		case strings.HasPrefix(line, "- "):
			flush()
			page = append(page, wrap(strings.ReplaceAll(line[2:], "`", ""), "  - ", "    ", width)...)
		case strings.HasPrefix(line, "  "):
			flush()
			page = append(page, line)
		default:
			paragraph = append(paragraph, line)
		}
	}
	flush()
	return strings.TrimRight(strings.Join(page, "\n"), "\n")
}

// wrap breaks a text between words, so that no line is wider than width unless one word
// is. first and rest stand before the first line and before the others.
func wrap(text, first, rest string, width int) []string {
	var lines []string
	line, empty := first, true
	for word := range strings.FieldsSeq(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line, empty = rest, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	return append(lines, line)
}
