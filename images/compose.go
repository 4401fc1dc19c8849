package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// Package is one exact package of an image: its bytes lie in the store and were
// checked against the entry.
type Package struct {
	Entry  *apk.Entry
	Digest store.Digest
	From   string // the repository that it is from, a folder or an address, for messages and policies
}

// Options of a composition. Store and Arch must be given.
type Options struct {
	Arch  apk.Arch
	Store *store.Store
	// Epoch is when the image was created; when zero, it is when its newest package was built.
	Epoch time.Time
	// RootFS and CPIO ask for the image's root file system as one archive, besides its
	// layers: a tar archive, and one that Linux takes for its first root file system.
	RootFS, CPIO bool
	// Keys are the public keys that the image file's keyring names, by file name:
	// they go to /etc/apk/keys. Reading them is the caller's affair.
	Keys map[string][]byte
	// Base is the image that the packages are put on top of; nil for none.
	Base *Base
	// Trusted are the keys that count when a policy refuses unsigned packages.
	Trusted apk.KeySet
}

// Warning is something of an image that its makers should know.
type Warning struct {
	Package string `json:"package,omitempty"` // name and version
	Text    string `json:"text"`
}

// Compose makes an image of the packages, which are in the order in which they are
// installed. The same image file, packages and options give the same bytes, whoever
// signed the packages and wherever they came from. Nothing of a package is run.
//
// Its error is a *Refusal when a policy refuses the image, a rootfs.ConflictError
// when files of packages collide, a diag.Problems when the image file asks for what
// cannot be done with these packages, and a *store.CorruptError when bytes in the
// store are not what they were.
func Compose(ctx context.Context, s *Spec, packages []Package, o Options) (*Image, error) {
	if s.Contents.BaseImage != nil && o.Base == nil {
		return nil, problems(s.Contents.Here.Key("baseimage").Problem("", "the base image is not at hand"))
	}
	defer o.Base.release()
	for _, p := range packages {
		if arch := p.Entry.Arch; arch != o.Arch && arch != "noarch" && arch != "" {
			return nil, fmt.Errorf("%s is for %s, the image is for %s", p.Entry.FullName(), arch, o.Arch)
		}
	}
	reasons, err := refusePackages(s, packages, o)
	if err != nil {
		return nil, err
	}
	id := imageID(s, packages, o)
	if len(reasons) == 0 {
		if image, err := recall(o.Store, id); err != nil || image != nil && image.hasRoots(o) {
			return image.of(s, packages), err
		}
	}
	scanning := &scanning{st: o.Store, spools: &spools{st: o.Store}, layering: s.Layering, packages: packages}
	defer scanning.spools.close()
	if err := scanning.run(ctx); err != nil {
		return nil, err
	}
	all := scanning.all
	if o.Epoch.IsZero() {
		o.Epoch = newest(packages, o.Base)
	}
	if all, err = s.withOwnPackage(all, o); err != nil {
		return nil, err
	}
	tree, err := install(slices.Concat(o.Base.scanned(), all))
	if err != nil {
		return nil, err
	}
	tree.Epoch = o.Epoch.Unix()
	c := &composer{spec: s, o: o, tree: tree, packages: all}
	if err := c.finish(); err != nil {
		return nil, err
	}
	reasons = c.refuse(reasons)
	if err := cmp.Or(scanning.spools.failed(), o.Base.failed()); err != nil {
		return nil, err
	}
	if len(reasons) > 0 {
		return nil, &Refusal{Image: s.Name(), Reasons: reasons}
	}
	layers, err := makeLayers(ctx, o.Store, tree, o.Base, all, s.Layering)
	if err != nil {
		return nil, err
	}
	c.takeOver()
	image, err := c.describe(append(o.Base.layers(), layers...))
	if err != nil {
		return nil, err
	}
	if err := c.roots(ctx, image); err != nil {
		return nil, err
	}
	if err := cmp.Or(scanning.spools.failed(), o.Base.failed()); err != nil {
		return nil, err
	}
	return image.of(s, packages), image.remember(id)
}

// newest is when the newest package was built, or the base was created.
func newest(packages []Package, base *Base) time.Time {
	var date int64
	if base != nil {
		date = max(date, base.Config.Created.Unix())
	}
	for _, p := range packages {
		date = max(date, p.Entry.BuildDate)
	}
	return time.Unix(date, 0)
}

// install puts the packages together to one tree. Conflicts of all of them are told at once.
func install(packages []*scanned) (*rootfs.Tree, error) {
	t := rootfs.New()
	var conflicts rootfs.ConflictError
	for _, p := range packages {
		err := t.Install(&p.Package)
		if found, ok := errors.AsType[rootfs.ConflictError](err); ok {
			conflicts = append(conflicts, found...)
		} else if err != nil {
			return nil, err
		}
	}
	if len(conflicts) > 0 {
		return nil, conflicts
	}
	return t, nil
}

// composer makes what an image holds besides the files of its packages.
type composer struct {
	spec     *Spec
	o        Options
	tree     *rootfs.Tree
	packages []*scanned
	warnings []Warning
	// scripts is what became of each script; unhandled are those that nobody can do without running them.
	scripts   []ScriptOutcome
	unhandled []Reason
	user      string // numeric
}

// finish does it, in apko's order (FORMATS 5.2).
func (c *composer) finish() error {
	for _, step := range []func() error{
		c.folders,
		c.busybox,
		c.database,
		c.accounts,
		c.replaceScripts,
		c.runAs,
		c.paths,
		c.certificates,
		c.keys,
		c.services,
		c.libraries,
		c.devices,
		c.own,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return c.complete()
}

// folders are those that every image has. What packages bring stays as it is.
func (c *composer) folders() error {
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{
		{"tmp", fs.ModeSticky | 0o777}, {"dev", 0o755}, {"etc", 0o755}, {"opt", 0o755}, {"proc", 0o555}, {"run", 0o755},
		{"sys", 0o555}, {"usr", 0o755}, {"var", 0o755}, {"var/cache", 0o755}, {"var/cache/apk", 0o755}, {"var/cache/misc", 0o755},
	} {
		if err := c.tree.Mkdir(d.path, d.mode, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// busybox makes the links to busybox that its install script would make.
func (c *composer) busybox() error {
	_, err := c.tree.BusyboxLinks()
	return err
}

// accounts adds the groups and users that the image file asks for.
func (c *composer) accounts() error {
	var ps []error
	for i := range c.spec.Accounts.Groups {
		g := &c.spec.Accounts.Groups[i]
		if err := c.tree.AddGroup(rootfs.Group{Name: g.GroupName, GID: int(*g.GID), Members: g.Members}); err != nil {
			ps = append(ps, g.Here.Problem("", "%v", err))
		}
	}
	for i := range c.spec.Accounts.Users {
		u := &c.spec.Accounts.Users[i]
		user := rootfs.User{Name: u.UserName, UID: int(*u.UID), GID: int(*u.UID), Comment: "Account created by tarn", Home: u.HomeDir, Shell: u.Shell}
		if u.GID != nil {
			user.GID = int(*u.GID)
		}
		if user.Home == "" {
			user.Home = "/home/" + u.UserName
		}
		if user.Shell == "" {
			user.Shell = "/bin/sh"
		}
		if err := c.tree.AddUser(user); err != nil {
			ps = append(ps, u.Here.Problem("", "%v", err))
		}
	}
	return problems(ps...)
}

// runAs resolves the user that a container runs as to a number: the runtime may
// look at another list of users, or at none.
func (c *composer) runAs() error {
	name := c.spec.Accounts.RunAs
	if name == "" {
		return nil
	}
	user, group, _ := strings.Cut(name, ":")
	users, groups := c.tree.Users(), c.tree.Groups()
	if _, err := strconv.ParseUint(user, 10, 32); err != nil {
		i := slices.IndexFunc(users, func(u rootfs.User) bool { return u.Name == user })
		if i < 0 {
			return c.spec.Accounts.Here.Value("run-as").Problem("add it to accounts.users, or write its number", "run-as: there is no user %q", user)
		}
		user = strconv.Itoa(users[i].UID)
	}
	if group != "" {
		if _, err := strconv.ParseUint(group, 10, 32); err != nil {
			i := slices.IndexFunc(groups, func(g rootfs.Group) bool { return g.Name == group })
			if i < 0 {
				return c.spec.Accounts.Here.Value("run-as").Problem("add it to accounts.groups, or write its number", "run-as: there is no group %q", group)
			}
			group = strconv.Itoa(groups[i].GID)
		}
		user += ":" + group
	}
	c.user = user
	return nil
}

// paths makes and changes what the image file asks for, in its order. apko leaves
// what has no permissions at mode 0000, and lets those of a symbolic link hit its
// target; here a folder is 0755, a file 0644, and a link has none.
func (c *composer) paths() error {
	var ps []error
	for i := range c.spec.Paths {
		p := &c.spec.Paths[i]
		if err := c.path(p); err != nil {
			ps = append(ps, p.Here.Problem("", "%v", err))
		}
	}
	return problems(ps...)
}

func (c *composer) path(p *Path) error {
	t := c.tree
	mode := func(unset fs.FileMode) fs.FileMode {
		if p.Permissions == nil {
			return unset
		}
		return rootfs.FileMode(*p.Permissions)
	}
	there := false
	switch p.Type {
	case "directory":
		_, there = t.Stat(p.Path)
		if err := t.Mkdir(p.Path, mode(0o755), 0, 0); err != nil {
			return err
		}
	case "empty-file":
		var n *rootfs.Node
		if n, there = t.Stat(p.Path); there && n.Mode.IsRegular() && n.Size > 0 {
			return fmt.Errorf("/%s is there already and not empty", n.Path)
		}
		if err := t.WriteFile(p.Path, nil, mode(0)); err != nil {
			return err
		}
	case "symlink":
		if err := t.Symlink(p.Source, p.Path); err != nil {
			return err
		}
	case "hardlink":
		if err := t.Link(p.Source, p.Path); err != nil {
			return err
		}
		there = true // it is the source's file: only what is asked for changes
	case "permissions":
		if _, there = t.Lstat(p.Path); !there && path.Clean("/"+p.Path) != "/" {
			return fmt.Errorf("%q is not there", p.Path)
		}
		there = true
	}
	targets := []string{p.Path}
	if p.Recursive {
		for _, n := range t.Below(p.Path) {
			targets = append(targets, n.Path)
		}
	}
	for _, target := range targets {
		n, found := t.Lstat(target)
		if !found {
			continue // the root itself
		}
		isLink := n.Mode.Type() == fs.ModeSymlink
		if p.Permissions != nil && there && (!isLink || p.Type == "permissions" && target == p.Path) {
			if err := t.Chmod(target, mode(0)); err != nil {
				return err
			}
		}
		if p.UID == nil && p.GID == nil {
			continue
		}
		uid, gid := n.UID, n.GID
		if p.UID != nil {
			uid = int(*p.UID)
		}
		if p.GID != nil {
			gid = int(*p.GID)
		}
		if err := t.Chown(target, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// services makes the tree that s6 supervises.
func (c *composer) services() error {
	if c.spec.Entrypoint.Type != "service-bundle" {
		return nil
	}
	for name, command := range c.spec.Entrypoint.Services {
		run := "#!/bin/execlineb\n" + command + "\n"
		if err := c.tree.WriteFile("sv/"+name+"/run", []byte(run), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// devices are those that apko writes: they help who unpacks the image without a container runtime.
func (c *composer) devices() error {
	for _, d := range []struct {
		path         string
		mode         fs.FileMode
		major, minor int64
	}{
		{"dev/zero", 0o666, 1, 5}, {"dev/urandom", 0o666, 1, 9}, {"dev/null", 0o666, 1, 3}, {"dev/random", 0o666, 1, 8}, {"dev/console", 0o620, 5, 1},
	} {
		if err := c.tree.Device(d.path, d.mode, d.major, d.minor); err != nil {
			return err
		}
	}
	return nil
}

// complete notes what an image usually has and this one has not.
func (c *composer) complete() error {
	for _, p := range []string{"etc/passwd", "etc/group", "etc/os-release"} {
		if _, found := c.tree.Stat(p); !found {
			c.warnings = append(c.warnings, Warning{Text: fmt.Sprintf("/%s is missing: a package with the base layout brings it", p)})
		}
	}
	return nil
}

// marks are the programs that are known by their content, by the digest of the file.
func (c *composer) marks() map[string]string {
	marks := map[string]string{}
	for _, p := range slices.Concat(c.o.Base.scanned(), c.packages) {
		for sum, name := range p.Marks {
			marks[sum] = name
		}
	}
	return marks
}

func (c *composer) fullNames() map[string]string {
	names := map[string]string{}
	for _, p := range slices.Concat(c.o.Base.scanned(), c.packages) {
		names[p.Info.Name] = p.Info.FullName()
	}
	return names
}
