package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// User is a line of /etc/passwd.
type User struct {
	Name     string
	UID, GID int
	Comment  string
	Home     string
	Shell    string
}

// Group is a line of /etc/group.
type Group struct {
	Name    string
	GID     int
	Members []string
}

// accountName is what useradd of shadow and adduser of busybox agree on, plus a
// final "$" that directory services use.
var accountName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\$?$`)

// maxID is the greatest id that can be given; the one above means "no id".
const maxID = 1<<32 - 2

// CheckAccount says what is wrong with a name and an id, or nil.
func CheckAccount(name string, id int64) error {
	if !accountName.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of a user or group", name)
	}
	if id < 0 || id > maxID {
		return fmt.Errorf("id %d of %q is not between 0 and %d", id, name, int64(maxID))
	}
	return nil
}

// lines reads a file of lines; one that is not there has none.
func (t *Tree) lines(p string) ([]string, error) {
	data, err := t.ReadFile(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

func (t *Tree) writeLines(p string, lines []string, mode fs.FileMode) error {
	if _, found := t.Stat(p); found {
		mode = 0 // an existing file keeps its own
	}
	return t.WriteFile(p, []byte(strings.Join(lines, "\n")+"\n"), mode)
}

// account finds a line by name and gives its fields.
func account(lines []string, name string) (int, []string) {
	for i, line := range lines {
		if fields := strings.Split(line, ":"); fields[0] == name {
			return i, fields
		}
	}
	return -1, nil
}

// Users lists /etc/passwd. Lines that are none are left out.
func (t *Tree) Users() []User {
	lines, err := t.lines("etc/passwd")
	if err != nil {
		return nil
	}
	var users []User
	for _, line := range lines {
		f := strings.Split(line, ":")
		if len(f) != 7 {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 == nil && err2 == nil {
			users = append(users, User{Name: f[0], UID: uid, GID: gid, Comment: f[4], Home: f[5], Shell: f[6]})
		}
	}
	return users
}

// Groups lists /etc/group. Lines that are none are left out.
func (t *Tree) Groups() []Group {
	lines, err := t.lines("etc/group")
	if err != nil {
		return nil
	}
	var groups []Group
	for _, line := range lines {
		f := strings.Split(line, ":")
		if len(f) != 4 {
			continue
		}
		gid, err := strconv.Atoi(f[2])
		if err != nil {
			continue
		}
		g := Group{Name: f[0], GID: gid}
		if f[3] != "" {
			g.Members = strings.Split(f[3], ",")
		}
		groups = append(groups, g)
	}
	return groups
}

// AddGroup adds a group to /etc/group. One that is there under the same name and
// id gets the further members; another id is an error.
func (t *Tree) AddGroup(g Group) error {
	if err := CheckAccount(g.Name, int64(g.GID)); err != nil {
		return err
	}
	for _, m := range g.Members {
		if err := CheckAccount(m, 0); err != nil {
			return fmt.Errorf("member of group %q: %w", g.Name, err)
		}
	}
	lines, err := t.lines("etc/group")
	if err != nil {
		return err
	}
	members := g.Members
	i, fields := account(lines, g.Name)
	if i >= 0 {
		if len(fields) < 3 || fields[2] != strconv.Itoa(g.GID) {
			return fmt.Errorf("group %q is there already with another id: %s", g.Name, lines[i])
		}
		var there []string
		if len(fields) > 3 && fields[3] != "" {
			there = strings.Split(fields[3], ",")
		}
		for _, m := range members {
			if !slices.Contains(there, m) {
				there = append(there, m)
			}
		}
		members = there
	}
	line := fmt.Sprintf("%s:x:%d:%s", g.Name, g.GID, strings.Join(members, ","))
	switch {
	case i < 0:
		lines = append(lines, line)
	case lines[i] == line || len(g.Members) == 0:
		return nil
	default:
		lines[i] = line
	}
	return t.writeLines("etc/group", lines, 0o644)
}

// AddUser adds a user to /etc/passwd and, locked, to /etc/shadow, and makes the
// home folder (mode 0700) unless it is there or /dev/null. A user that is there
// under the same name with the same ids stays as it is; others ids are an error.
func (t *Tree) AddUser(u User) error {
	if err := t.AddAccount(u); err != nil {
		return err
	}
	return t.MakeHome(u)
}

// AddAccount is AddUser without the home folder.
func (t *Tree) AddAccount(u User) error {
	if err := CheckAccount(u.Name, int64(u.UID)); err != nil {
		return err
	}
	if err := CheckAccount(u.Name, int64(u.GID)); err != nil {
		return err
	}
	for _, field := range []string{u.Comment, u.Home, u.Shell} {
		if strings.ContainsAny(field, ":\n\r\x00") {
			return fmt.Errorf("user %q: %q holds a colon or a line break", u.Name, field)
		}
	}
	lines, err := t.lines("etc/passwd")
	if err != nil {
		return err
	}
	if i, fields := account(lines, u.Name); i >= 0 {
		if len(fields) < 4 || fields[2] != strconv.Itoa(u.UID) || fields[3] != strconv.Itoa(u.GID) {
			return fmt.Errorf("user %q is there already with other ids: %s", u.Name, lines[i])
		}
	} else {
		lines = append(lines, fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", u.Name, u.UID, u.GID, u.Comment, u.Home, u.Shell))
		if err := t.writeLines("etc/passwd", lines, 0o644); err != nil {
			return err
		}
	}
	shadow, err := t.lines("etc/shadow")
	if err != nil {
		return err
	}
	if i, _ := account(shadow, u.Name); i < 0 {
		if err := t.writeLines("etc/shadow", append(shadow, u.Name+":!:::::::"), 0o640); err != nil {
			return err
		}
	}
	return nil
}

// MakeHome makes a user's home folder unless it is there.
func (t *Tree) MakeHome(u User) error {
	if u.Home == "" || cleanPath(u.Home) == "" || cleanPath(u.Home) == "dev/null" {
		return nil
	}
	if _, found := t.Stat(u.Home); found {
		return nil
	}
	return t.Mkdir(u.Home, 0o700, u.UID, u.GID)
}
