package scriptlet

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/rootfs"
)

// Ids that are given where a script names none, as busybox and shadow are built.
const (
	firstSystem, lastSystem = 100, 999
	firstPlain, lastPlain   = 1000, 59999
)

// user finds a user by name or number.
func (r *reader) user(name string) (rootfs.User, bool) {
	for _, u := range r.tree.Users() {
		if u.Name == name {
			return u, true
		}
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return rootfs.User{UID: int(n), GID: int(n)}, true
	}
	return rootfs.User{}, false
}

// group finds the number of a group by name or number.
func (r *reader) group(name string) (int, bool) {
	for _, g := range r.tree.Groups() {
		if g.Name == name {
			return g.GID, true
		}
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return int(n), true
	}
	return 0, false
}

func (r *reader) hasUser(name string) bool {
	return slices.ContainsFunc(r.tree.Users(), func(u rootfs.User) bool { return u.Name == name })
}

func (r *reader) hasGroup(name string) bool {
	return slices.ContainsFunc(r.tree.Groups(), func(g rootfs.Group) bool { return g.Name == name })
}

func (r *reader) usesUID(id int) bool {
	return slices.ContainsFunc(r.tree.Users(), func(u rootfs.User) bool { return u.UID == id })
}

func (r *reader) usesGID(id int) bool {
	return slices.ContainsFunc(r.tree.Groups(), func(g rootfs.Group) bool { return g.GID == id })
}

func getent(r *reader, args []string, out *target) error {
	if len(args) != 2 {
		return cannotf("")
	}
	switch args[0] {
	case "passwd":
		for _, u := range r.tree.Users() {
			if u.Name == args[1] || strconv.Itoa(u.UID) == args[1] {
				_, err := fmt.Fprintf(out, "%s:x:%d:%d:%s:%s:%s\n", u.Name, u.UID, u.GID, u.Comment, u.Home, u.Shell)
				return err
			}
		}
	case "group":
		for _, g := range r.tree.Groups() {
			if g.Name == args[1] || strconv.Itoa(g.GID) == args[1] {
				_, err := fmt.Fprintf(out, "%s:x:%d:%s\n", g.Name, g.GID, strings.Join(g.Members, ","))
				return err
			}
		}
	default:
		return cannotf("")
	}
	r.status = 2
	return nil
}

func id(r *reader, args []string, out *target) error {
	set, names, err := flags(args, "ugn", "")
	if err != nil {
		return err
	}
	if len(names) == 0 {
		// Scripts of packages are root's.
		text := "0"
		if _, name := set['n']; name {
			text = "root"
		}
		_, err := fmt.Fprintln(out, text)
		return err
	}
	if len(names) != 1 {
		return cannotf("")
	}
	u, known := r.user(names[0])
	if !known {
		r.status = 1
		return nil
	}
	if _, name := set['n']; name && out.Writer != io.Discard {
		return cannotf("")
	}
	number := u.UID
	if _, group := set['g']; group {
		number = u.GID
	}
	_, err = fmt.Fprintln(out, number)
	return err
}

// adduser is the one of busybox: adduser [-SDH] [-h DIR] [-g GECOS] [-s SHELL]
// [-G GROUP] [-u UID] USER, or adduser USER GROUP (loginutils/adduser.c of 1.37).
// Nobody can have a password: there is none to ask for.
func adduser(r *reader, args []string, _ *target) error {
	args, err := shortened(args, map[string]string{"home": "h", "gecos": "g", "shell": "s", "ingroup": "G", "system": "S", "disabled-password": "D", "no-create-home": "H", "uid": "u", "empty-password": "D", "skel": "k"})
	if err != nil {
		return err
	}
	set, names, err := flags(args, "SDH", "hgsGuk")
	if err != nil {
		return err
	}
	if len(names) == 2 && len(set) == 0 {
		r.join(names[0], names[1])
		return nil
	}
	if len(names) != 1 {
		return cannotf("")
	}
	u := rootfs.User{Name: names[0], UID: firstPlain, Comment: "Linux User,,,", Home: "/home/" + names[0], Shell: "/bin/sh"}
	last := lastPlain
	group, inGroup := set['G']
	if _, system := set['S']; system {
		u.UID, last, u.Shell = firstSystem, lastSystem, "/bin/false"
		if !inGroup {
			group, inGroup = "nogroup", true
		}
	}
	for _, field := range []struct {
		flag byte
		into *string
	}{{'h', &u.Home}, {'g', &u.Comment}, {'s', &u.Shell}} {
		if value, said := set[field.flag]; said {
			*field.into = value
		}
	}
	number, fixed := set['u']
	if fixed {
		if u.UID, err = strconv.Atoi(number); err != nil {
			return cannotf("uid %q", number)
		}
	}
	if inGroup {
		gid, known := r.group(group)
		if !known {
			r.status = 1
			return nil
		}
		u.GID = gid
	}
	if r.hasUser(u.Name) || !inGroup && r.hasGroup(u.Name) {
		r.status = 1
		return nil
	}
	for r.usesUID(u.UID) || !inGroup && r.usesGID(u.UID) {
		if fixed || u.UID >= last {
			r.status = 1
			return nil
		}
		u.UID++
	}
	if !inGroup {
		u.GID = u.UID
		if err := r.tree.AddGroup(rootfs.Group{Name: u.Name, GID: u.GID}); err != nil {
			return cannotf("%v", err)
		}
	}
	_, noHome := set['H']
	if err := r.add(u, !noHome, fs.ModeSetgid|0o755); err != nil {
		return err
	}
	if inGroup {
		r.join(u.Name, group)
	}
	return nil
}

// add adds a user whose group is there.
func (r *reader) add(u rootfs.User, home bool, mode fs.FileMode) error {
	if err := r.tree.AddAccount(u); err != nil {
		return cannotf("%v", err)
	}
	r.note("add user %s (%d:%d)", u.Name, u.UID, u.GID)
	if _, found := r.stat(u.Home); home && !found && u.Home != "" && u.Home != "/dev/null" {
		r.changed(r.tree.Mkdir(u.Home, mode, u.UID, u.GID), "make folder %s", u.Home)
	}
	return nil
}

// join makes a user a member of a group.
func (r *reader) join(user, group string) {
	if !r.hasUser(user) {
		r.status = 1
		return
	}
	for _, g := range r.tree.Groups() {
		if g.Name != group {
			continue
		}
		if !slices.Contains(g.Members, user) {
			r.changed(r.tree.AddGroup(rootfs.Group{Name: g.Name, GID: g.GID, Members: []string{user}}), "let user %s join group %s", user, group)
		}
		return
	}
	r.status = 1
}

// addgroup is the one of busybox: addgroup [-S] [-g GID] GROUP, or addgroup USER GROUP.
func addgroup(r *reader, args []string, _ *target) error {
	args, err := shortened(args, map[string]string{"system": "S", "gid": "g"})
	if err != nil {
		return err
	}
	set, names, err := flags(args, "S", "g")
	if err != nil {
		return err
	}
	if len(names) == 2 && len(set) == 0 {
		r.join(names[0], names[1])
		return nil
	}
	if len(names) != 1 {
		return cannotf("")
	}
	first, last := firstPlain, lastPlain
	if _, system := set['S']; system {
		first, last = firstSystem, lastSystem
	}
	return r.addGroup(names[0], set['g'], first, last, 1)
}

// addGroup adds a group with the number that is said, or the first free one from first
// to last, counted up or down.
func (r *reader) addGroup(name, number string, first, last, step int) error {
	gid, fixed := first, number != ""
	if fixed {
		var err error
		if gid, err = strconv.Atoi(number); err != nil {
			return cannotf("gid %q", number)
		}
	}
	if r.hasGroup(name) {
		r.status = 1
		return nil
	}
	for r.usesGID(gid) {
		if fixed || gid == last {
			r.status = 1
			return nil
		}
		gid += step
	}
	if err := r.tree.AddGroup(rootfs.Group{Name: name, GID: gid}); err != nil {
		return cannotf("%v", err)
	}
	r.note("add group %s (%d)", name, gid)
	return nil
}

// shortened gives long options their letters.
func shortened(args []string, letters map[string]string) ([]string, error) {
	var short []string
	for i, a := range args {
		name, isLong := strings.CutPrefix(a, "--")
		if !isLong || name == "" {
			short = append(short, a)
			if a == "--" {
				return append(short, args[i+1:]...), nil
			}
			continue
		}
		name, value, has := strings.Cut(name, "=")
		letter := letters[name]
		if letter == "" {
			return nil, cannotf("option --%s", name)
		}
		short = append(short, "-"+letter)
		if has {
			short = append(short, value)
		}
	}
	return short, nil
}

// useradd is the one of shadow, for what scripts of packages say.
func useradd(r *reader, args []string, _ *target) error {
	args, err := shortened(args, map[string]string{"system": "r", "home-dir": "d", "home": "d", "gid": "g", "groups": "G", "shell": "s", "comment": "c", "uid": "u", "no-create-home": "M", "create-home": "m", "user-group": "U", "no-user-group": "N"})
	if err != nil {
		return err
	}
	set, names, err := flags(args, "rMmUN", "dgGscu")
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return cannotf("")
	}
	u := rootfs.User{Name: names[0], Comment: set['c'], Home: "/home/" + names[0], Shell: "/bin/sh"}
	if home := set['d']; home != "" {
		u.Home = home
	}
	if shell, said := set['s']; said {
		u.Shell = shell
	}
	if r.hasUser(u.Name) {
		r.status = 9
		return nil
	}
	_, system := set['r']
	first, last, step := firstPlain, lastPlain, 1
	if system {
		first, last, step = lastSystem, firstSystem, -1
	}
	u.UID = first
	if number, fixed := set['u']; fixed {
		if u.UID, err = strconv.Atoi(number); err != nil {
			return cannotf("uid %q", number)
		}
		if r.usesUID(u.UID) {
			r.status = 4
			return nil
		}
	} else {
		for r.usesUID(u.UID) || set['g'] == "" && r.usesGID(u.UID) {
			if u.UID == last {
				r.status = 4
				return nil
			}
			u.UID += step
		}
	}
	_, ownGroup := set['U']
	_, noGroup := set['N']
	switch group, said := set['g']; {
	case said:
		gid, known := r.group(group)
		if !known {
			r.status = 6
			return nil
		}
		u.GID = gid
	case noGroup && !ownGroup:
		return cannotf("the group depends on settings of the machine")
	default:
		if r.hasGroup(u.Name) {
			r.status = 9
			return nil
		}
		if err := r.addGroup(u.Name, strconv.Itoa(u.UID), 0, 0, 1); err != nil {
			return err
		}
		u.GID = u.UID
	}
	_, home := set['m']
	if err := r.add(u, home, 0o700); err != nil {
		return err
	}
	for _, group := range strings.FieldsFunc(set['G'], func(c rune) bool { return c == ',' }) {
		r.join(u.Name, group)
	}
	return nil
}

func groupadd(r *reader, args []string, _ *target) error {
	args, err := shortened(args, map[string]string{"system": "r", "gid": "g", "force": "f"})
	if err != nil {
		return err
	}
	set, names, err := flags(args, "rf", "g")
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return cannotf("")
	}
	_, force := set['f']
	if force && r.hasGroup(names[0]) {
		return nil
	}
	if _, system := set['r']; system {
		return r.addGroup(names[0], set['g'], lastSystem, firstSystem, -1)
	}
	return r.addGroup(names[0], set['g'], firstPlain, lastPlain, 1)
}

// usermod is usermod -aG GROUPS USER, and gpasswd -a USER GROUP.
func usermod(r *reader, args []string, _ *target) error {
	switch {
	case len(args) == 3 && args[0] == "-aG":
		for group := range strings.SplitSeq(args[1], ",") {
			r.join(args[2], group)
		}
	case len(args) == 4 && args[0] == "-a" && args[1] == "-G":
		return usermod(r, []string{"-aG", args[2], args[3]}, nil)
	case len(args) == 3 && args[0] == "-a":
		r.join(args[1], args[2])
	default:
		return cannotf("")
	}
	return nil
}

// lockPassword is passwd -l USER and its reverse -u: users that the composer adds have
// no password, and stay locked.
func lockPassword(r *reader, args []string, _ *target) error {
	if len(args) == 2 && (args[0] == "-l" || args[0] == "-u") {
		return nil
	}
	return cannotf("")
}
