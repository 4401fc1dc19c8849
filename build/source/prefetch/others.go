package prefetch

import (
	"bytes"
	"path"
	"strings"
)

// wheels takes what pip downloaded: files that say all in their names.
func (t *tree) wheels() error {
	return t.each("pip", func(name string) error { return t.take(path.Base(name), from("pip", name), "pip/"+name) })
}

// crates takes what cargo vendored, and the configuration that makes cargo use it.
func (t *tree) crates() error {
	return t.each("cargo", func(name string) error {
		source := from("cargo", name)
		if name == "config.toml" {
			data, err := t.root.ReadFile(source)
			if err != nil {
				return err
			}
			data = bytes.ReplaceAll(data, []byte(path.Join(workPath, raw, "cargo")), []byte(path.Join(workPath, Folder, "cargo")))
			return t.write("cargo/config.toml", "cargo/config.toml", data)
		}
		part := name
		if element := strings.SplitN(name, "/", 3); len(element) == 3 {
			part = element[1]
		}
		return t.take(part, source, "cargo/"+name)
	})
}

// files takes what a pipeline of somebody's own put into $PREFETCH.
func (t *tree) files() error {
	return t.each("files", func(name string) error { return t.take("files/"+name, from("files", name), "files/"+name) })
}
