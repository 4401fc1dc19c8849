package images

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// keys writes the public keys that apk in the image trusts: those of the image file, and no other.
func (c *composer) keys() error {
	files := maps.Clone(c.o.Keys)
	for _, k := range c.spec.Contents.RuntimeKeyring {
		if files == nil {
			files = map[string][]byte{}
		}
		if _, twice := files[k.Name]; twice {
			return problems(k.Here.Value("name").Problem("", "the keyring has a key %q already", k.Name))
		}
		files[k.Name] = []byte(k.Content)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !keyFileName.MatchString(name) {
			return fmt.Errorf("%q cannot be the name of a key", name)
		}
		if err := c.tree.WriteFile("etc/apk/keys/"+name, files[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// repositories are those of the image file that are addresses: a folder of this
// machine is no one's affair in the image.
func (c *composer) repositories() []string {
	var list []string
	for _, r := range slices.Concat(c.spec.Contents.Repositories, c.spec.Contents.RuntimeRepositories) {
		_, address, tagged := strings.Cut(r, " ")
		if !tagged || !strings.HasPrefix(r, "@") {
			address = r
		}
		if strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://") {
			list = append(list, strings.TrimRight(r, "/"))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// lines is a file of lines; no lines are an empty file.
func lines(list []string) []byte {
	if len(list) == 0 {
		return nil
	}
	return []byte(strings.Join(list, "\n") + "\n")
}

// database makes apk's own files. A real apk reads them; world is what the image
// file asks for, so that apk upgrade in the image does what it says.
func (c *composer) database() error {
	t := c.tree
	db := c.o.Base.database()
	for _, dir := range []string{"etc/apk", "etc/apk/keys", "usr/lib", path.Dir(path.Clean(db)), path.Clean(db), path.Join(db, "../exec")} {
		if err := t.Mkdir(dir, 0o755, 0, 0); err != nil {
			return err
		}
	}
	if n, found := t.Lstat("lib"); db == databaseDir && (!found || n.Mode.IsDir()) {
		if err := t.Symlink("../usr/lib/apk", "lib/apk"); err != nil {
			return err
		}
	}
	world := c.o.Base.world()
	for _, r := range c.spec.World {
		world = append(world, r.String())
	}
	for _, p := range c.packages {
		if p.own {
			world = append(world, p.Info.Name) // or apk would remove it with the next change
		}
	}
	slices.Sort(world)
	for _, f := range []struct {
		path string
		data []byte
		mode fs.FileMode
	}{
		{"etc/apk/world", lines(slices.Compact(world)), 0o644},
		{"etc/apk/repositories", lines(c.repositories()), 0o644},
		{"etc/apk/arch", []byte(string(c.o.Arch) + "\n"), 0o644},
		{db + "lock", nil, 0o600},
	} {
		if err := t.WriteFile(f.path, f.data, f.mode); err != nil {
			return err
		}
	}
	return nil
}
