package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/images/view"
)

// What an image calls itself and its platform commands no terminal.
func TestNamesOfImagesAreShownPlain(t *testing.T) {
	const name = "amd64\x1b[31m\x1b]0;title\x07\nnext\u202e"
	var out bytes.Buffer
	a := &app{streams: streams{out: &out}}
	(&shownImage{Name: name, Arch: name}).print(&out)
	a.printSizes(sizedImage{Image: name, Arch: name, Sizes: &view.Sizes{}}, 0)
	a.printWhy(&whyAnswer{Image: name, Arch: name}, true)
	if text := out.String(); strings.ContainsAny(text, "\x1b\x07\u202e") || strings.Contains(text, "(amd64\uFFFD[31m\uFFFD]0;title\uFFFD\n") {
		t.Errorf("got %q", text)
	}
}
