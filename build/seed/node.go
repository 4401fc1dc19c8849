package seed

import (
	_ "embed"
	"fmt"
	"path"

	"github.com/tarn-build/tarn/pkg/apk"
)

// NodeName is the name of the package that has Node.js and npm.
const NodeName = "seed-node"

//go:embed node.lock.yaml
var defaultNodeLock []byte

var node18 = kind{
	name: NodeName, title: "seed of Node.js", file: "build/seed/node.lock.yaml", lock: defaultNodeLock, layout: 1, bears: "nodejs", purpose: "are Node.js and npm",
	license: "MIT", replaces: []string{Name}, provides: map[string][]string{"nodejs": {"nodejs"}, "npm": {"npm"}}, finish: tree.finishNode,
}

// nodePrograms are the programs of seed-node, by the file of Debian that each runs. npm's
// own first line asks for env, which an environment need not have.
var nodePrograms = map[string]string{
	"npm": "seed/usr/share/nodejs/npm/bin/npm-cli.js",
	"npx": "seed/usr/share/nodejs/npm/bin/npx-cli.js",
}

// finishNode lays out Node.js and npm: the programs, and where Debian's Node.js looks for
// the modules of Debian's packages.
func (t tree) finishNode(arch string) error {
	if err := t.merge(arch); err != nil {
		return err
	}
	t.dropDangling()
	if err := t.link("usr/share/nodejs", "../../seed/usr/share/nodejs"); err != nil {
		return err
	}
	for _, name := range []string{"node", "nodejs"} {
		target := path.Join("seed/usr/bin", name)
		if t[target] == nil {
			return fmt.Errorf("usr/bin/%s: no %s in the packages", name, target)
		}
		if err := t.link("usr/bin/"+name, "../../"+target); err != nil {
			return err
		}
	}
	for name, target := range nodePrograms {
		if t[target] == nil {
			return fmt.Errorf("usr/bin/%s: no %s in the packages", name, target)
		}
		text := []byte("#!/bin/sh\nexec /usr/bin/node /" + target + " \"$@\"\n")
		if err := t.add("usr/bin/"+name, &node{kind: apk.TypeFile, mode: 0o755, data: text, size: int64(len(text)), from: "the layout"}); err != nil {
			return err
		}
	}
	if err := t.sortLinks(); err != nil {
		return err
	}
	return t.addFolders()
}
