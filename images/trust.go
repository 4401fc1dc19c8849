package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// bundles are the files that programs read certificate authorities from, where an image has them.
var bundles = []string{bundlePath, "/var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem", "/kaniko/ssl/certs/ca-certificates.crt"}

// javaTrust is Java's own list, in a format of its own.
const javaTrust = "/etc/ssl/certs/java/cacerts"

// certificates adds those that the image file names, and those of packages that
// provide one of the names that it names, to every bundle of the image.
func (c *composer) certificates() error {
	spec := &c.spec.Certificates
	if len(spec.Additional) == 0 && len(spec.Providers) == 0 {
		return nil
	}
	var added [][]byte
	for i := range spec.Additional {
		block, _ := pem.Decode([]byte(spec.Additional[i].Content))
		if block == nil {
			return problems(spec.Additional[i].Here.Problem("", "certificate %q is not in PEM", spec.Additional[i].Name))
		}
		text := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})
		digest := sha256.Sum256(block.Bytes)
		file := fmt.Sprintf("usr/local/share/ca-certificates/%s-%s.crt", spec.Additional[i].Name, hex.EncodeToString(digest[:]))
		if err := c.tree.WriteFile(file, text, 0o644); err != nil {
			return err
		}
		added = append(added, text)
	}
	provided, err := c.provided()
	if err != nil {
		return err
	}
	added = append(added, provided...)
	if len(added) == 0 {
		return nil
	}
	found := false
	for _, bundle := range bundles {
		if _, there := c.tree.Stat(bundle); !there {
			continue
		}
		found = true
		data, err := c.tree.ReadFile(bundle)
		if err != nil {
			return err
		}
		data = slices.Clone(data)
		for _, text := range added {
			if len(data) > 0 && data[len(data)-1] != '\n' {
				data = append(data, '\n')
			}
			data = append(append(data, text...), '\n')
		}
		if err := c.tree.WriteFile(bundle, data, 0); err != nil {
			return err
		}
	}
	if !found {
		return problems(spec.Here.Problem("add a package that brings it, e.g. ca-certificates-bundle", "certificates are to be added, and the image has no bundle of certificates"))
	}
	if _, there := c.tree.Stat(javaTrust); there {
		c.warnings = append(c.warnings, Warning{Text: javaTrust + " does not get the added certificates"})
	}
	return nil
}

// provided gives the certificates (*.crt, *.pem) of packages that provide one of the names.
func (c *composer) provided() ([][]byte, error) {
	providers := map[string]bool{}
	for i, name := range c.spec.Certificates.Providers {
		any := false
		for _, p := range c.packages {
			for _, d := range p.Info.Provides {
				if d.Name == name {
					providers[p.Info.Name], any = true, true
				}
			}
		}
		if !any {
			place := c.spec.Certificates.Here.Value("providers").Item(i)
			return nil, problems(place.Problem("", "no package of the image provides %q", name))
		}
	}
	var found [][]byte
	for n := range c.tree.All() {
		if ext := path.Ext(n.Path); !providers[n.Owner] || !n.Mode.IsRegular() || ext != ".crt" && ext != ".pem" {
			continue
		}
		data, err := c.tree.ReadFile(n.Path)
		if err != nil {
			return nil, err
		}
		for {
			block, rest := pem.Decode(data)
			if block == nil {
				break
			}
			if data = rest; block.Type == "CERTIFICATE" {
				found = append(found, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
			}
		}
	}
	return found, nil
}

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
		if !keyName.MatchString(name) {
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
	for _, dir := range []string{"etc/apk", "etc/apk/keys", "usr/lib", "usr/lib/apk", "usr/lib/apk/db", "usr/lib/apk/exec"} {
		if err := t.Mkdir(dir, 0o755, 0, 0); err != nil {
			return err
		}
	}
	if n, found := t.Lstat("lib"); !found || n.Mode.IsDir() {
		if err := t.Symlink("../usr/lib/apk", "lib/apk"); err != nil {
			return err
		}
	}
	var world []string
	for _, r := range c.spec.World {
		world = append(world, r.String())
	}
	for _, p := range c.packages {
		if p.isOwn() {
			world = append(world, p.Info.Name) // or apk would remove it with the next change
		}
	}
	slices.Sort(world)
	installed, scripts, triggers, err := c.installed()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
		mode fs.FileMode
	}{
		{"etc/apk/world", lines(slices.Compact(world)), 0o644},
		{"etc/apk/repositories", lines(c.repositories()), 0o644},
		{"etc/apk/arch", []byte(string(c.o.Arch) + "\n"), 0o644},
		{"usr/lib/apk/db/lock", nil, 0o600},
		{"usr/lib/apk/db/triggers", triggers, 0o644},
		{"usr/lib/apk/db/installed", installed, 0o644},
		{"usr/lib/apk/db/scripts.tar", scripts, 0o644},
	} {
		if err := t.WriteFile(f.path, f.data, f.mode); err != nil {
			return err
		}
	}
	return nil
}
