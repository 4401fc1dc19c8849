package environment

import (
	"fmt"
	"strconv"

	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/recipes"
)

// buildUser is the user that recipes of this ecosystem know without declaring it.
const buildUser = 1000

// addAccounts adds a recipe's users and groups to those that the packages bring, and
// gives the paths that it wrote.
func addAccounts(root *rootfs.Tree, a *recipes.Accounts) ([]string, error) {
	files := []string{"etc/group", "etc/passwd", "etc/shadow"}
	for _, g := range a.Groups {
		if err := root.AddGroup(rootfs.Group{Name: g.GroupName, GID: int(g.GID), Members: g.Members}); err != nil {
			return nil, err
		}
	}
	for _, u := range a.Users {
		user := rootfs.User{Name: u.UserName, UID: int(u.UID), GID: int(u.UID), Comment: "Account created by tarn", Home: u.HomeDir, Shell: u.Shell}
		if u.GID != nil {
			user.GID = int(*u.GID)
		}
		if user.Home == "" {
			user.Home = "/home/" + u.UserName
		}
		if user.Shell == "" {
			user.Shell = "/bin/sh"
		}
		if err := root.AddUser(user); err != nil {
			return nil, err
		}
		files = append(files, user.Home)
	}
	var written []string
	for _, name := range files {
		if n, found := root.Stat(name); found && n.Changed() {
			written = append(written, n.Path)
		}
	}
	return written, nil
}

// runAs finds the user that commands run as: by name, where the packages or the
// recipe have one, or by number.
func runAs(root *rootfs.Tree, name string) (uid, gid int, err error) {
	switch name {
	case "", "root":
		return 0, 0, nil
	}
	for _, u := range root.Users() {
		if u.Name == name || strconv.Itoa(u.UID) == name {
			return u.UID, u.GID, nil
		}
	}
	if name == "build" {
		return buildUser, buildUser, nil
	}
	id, err := strconv.Atoi(name)
	if err != nil {
		return 0, 0, fmt.Errorf("run-as: unknown user %q\n  hint: declare it in environment.accounts.users", name)
	}
	if err := rootfs.CheckAccount("user", int64(id)); err != nil {
		return 0, 0, fmt.Errorf("run-as: %w", err)
	}
	return id, id, nil
}
