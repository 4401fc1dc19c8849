package prefetch

import (
	"bytes"
	"path"
)

// wheels takes what pip downloaded: files that say all in their names.
func (t *tree) wheels() error {
	return t.each(from("pip"), func(name string) error { return t.take(from("pip", name), "pip/"+name) })
}

// crates takes what cargo vendored, and the configuration that makes cargo use it.
func (t *tree) crates() error {
	return t.each(from("cargo"), func(name string) error {
		source := from("cargo", name)
		if name == "config.toml" {
			data, err := t.root.ReadFile(source)
			if err != nil {
				return err
			}
			data = bytes.ReplaceAll(data, []byte(path.Join(workPath, raw, "cargo")), []byte(path.Join(workPath, Folder, "cargo")))
			return t.write("cargo/config.toml", data)
		}
		return t.take(source, "cargo/"+name)
	})
}

// files takes what a pipeline of somebody's own put into $PREFETCH.
func (t *tree) files() error {
	return t.each(from("files"), func(name string) error { return t.take(from("files", name), "files/"+name) })
}
