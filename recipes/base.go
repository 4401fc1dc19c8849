package recipes

import (
	"embed"
	"io/fs"
)

// The recipes that all others stand on: a compiler and the C library that it makes
// programs for, the shell and tools that scripts and tests call, what autoconf needs, and
// what every image has.
//
//go:embed core/baselayout.yaml core/baselayout core/build-base.yaml core/busybox.yaml
//go:embed core/linux-headers.yaml core/merged-usr.yaml core/musl.yaml core/musl
//go:embed core/autoconf.yaml core/automake.yaml core/libtool.yaml core/pkgconf.yaml
var base embed.FS

// Base holds these recipes as NAME.yaml with their files in NAME/, for a workspace that
// begins with them.
func Base() fs.FS {
	files, err := fs.Sub(base, "core")
	if err != nil {
		panic("internal error: no base recipes: " + err.Error())
	}
	return files
}
