package namespace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/internal/pid1"
)

// subordinate are the ids of subuid(5) or subgid(5) that the caller may give out.
type subordinate struct{ first, count int }

// subordinates finds the caller's; none when the machine gives them none.
func subordinates() (uids, gids subordinate, ok bool) {
	if ownsAllIDs() || !host.Has("newuidmap") || !host.Has("newgidmap") {
		return uids, gids, false
	}
	u, err := user.Current()
	if err != nil {
		// A machine whose list of users can't be read: the lines may say the number.
		u = &user.User{Uid: strconv.Itoa(os.Getuid())}
	}
	uids, gids = idsOf("/etc/subuid", u), idsOf("/etc/subgid", u)
	return uids, gids, uids.count > 0 && gids.count > 0
}

// idsOf reads the first line for a user: name or number, first id, count.
func idsOf(file string, u *user.User) subordinate {
	for line := range strings.Lines(read(file) + "\n") {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] == "" || f[0] != u.Username && f[0] != u.Uid {
			continue
		}
		first, err1 := strconv.Atoi(f[1])
		count, err2 := strconv.Atoi(f[2])
		if err1 == nil && err2 == nil && count > 0 {
			return subordinate{first, count}
		}
	}
	return subordinate{}
}

// maps gives the ids inside to those outside: own is the caller's, which stays one id, and
// the others follow each other.
func (s subordinate) maps(own, caller int) []host.IDMap {
	all := []host.IDMap{{Inside: own, Outside: caller, Count: 1}}
	if below := min(own, s.count); below > 0 {
		all = append(all, host.IDMap{Inside: 0, Outside: s.first, Count: below})
	}
	if above := min(identity-own-1, s.count-own); above > 0 {
		all = append(all, host.IDMap{Inside: own + 1, Outside: s.first + own, Count: above})
	}
	return all
}

// mapIDs gives a process's user namespace its ids, by the programs that may.
func (set *setup) mapIDs(pid int) error {
	ctx := context.Background()
	if err := host.NewUIDMap(ctx, pid, set.uids.maps(set.UID, os.Geteuid())); err != nil {
		return fmt.Errorf("give a sandbox subordinate user ids: %w", err)
	}
	if err := host.NewGIDMap(ctx, pid, set.gids.maps(set.GID, os.Getegid())); err != nil {
		return fmt.Errorf("give a sandbox subordinate group ids: %w", err)
	}
	return nil
}

// Several tells whether files in a work folder can belong to several users here.
func (Backend) Several() bool {
	if ownsAllIDs() {
		return true
	}
	_, _, ok := subordinates()
	return ok
}

// ownersTask is what the first stage does in place of becoming a sandbox.
type ownersTask struct {
	Dir  string
	Give []sandbox.Owned // give these files to their owners; nil takes all
}

// Take makes all files of a work folder the caller's, so that it can read, change and
// remove them, and says whose they were.
func (b Backend) Take(ctx context.Context, dir string, uid, gid int) ([]sandbox.Owned, error) {
	data, err := b.owners(ctx, uid, gid, &ownersTask{Dir: dir})
	if err != nil {
		return nil, fmt.Errorf("take files of a sandbox's users back: %w", err)
	}
	var owned []sandbox.Owned
	return owned, json.Unmarshal(data, &owned)
}

// Give makes files their owners' again, those that are still the same.
func (b Backend) Give(ctx context.Context, dir string, uid, gid int, owned []sandbox.Owned) error {
	if len(owned) == 0 {
		return nil
	}
	if _, err := b.owners(ctx, uid, gid, &ownersTask{Dir: dir, Give: owned}); err != nil {
		return fmt.Errorf("give files to a sandbox's users: %w", err)
	}
	return nil
}

func (b Backend) owners(ctx context.Context, uid, gid int, task *ownersTask) (json.RawMessage, error) {
	set := &setup{UID: uid, GID: gid, Owners: task}
	var ok bool
	if set.uids, set.gids, ok = subordinates(); !ok {
		return nil, errors.New("internal error: no subordinate ids")
	}
	box, err := launch(set, pid1.BoxOptions{})
	if err != nil {
		return nil, err
	}
	defer box.Close()
	a, err := box.Ask(ctx, set)
	if err != nil {
		return nil, err
	}
	return a.Data, nil
}

// answer does the task, with power over all ids of its namespace and in the folder alone.
func (task *ownersTask) answer(uid, gid int) *pid1.Answer {
	root, err := os.OpenRoot(task.Dir)
	if err != nil {
		return pid1.Failed(err)
	}
	defer root.Close()
	give := map[[2]uint64]sandbox.Owned{}
	for _, o := range task.Give {
		give[[2]uint64{o.Inode, o.Born}] = o
	}
	owned := []sandbox.Owned{}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := root.Lstat(name)
		if err != nil {
			return err
		}
		o, err := ownedOf(root, name)
		if err != nil {
			return err
		}
		to := [2]int{uid, gid}
		if task.Give != nil {
			one, mine := give[[2]uint64{o.Inode, o.Born}]
			if !mine {
				return nil
			}
			to = [2]int{one.UID, one.GID}
		} else if o.UID == uid && o.GID == gid {
			return nil
		} else {
			owned = append(owned, o)
		}
		if err := root.Lchown(name, to[0], to[1]); err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil
		}
		return root.Chmod(name, info.Mode()) // a change of owner takes setuid away
	})
	if err != nil {
		return pid1.Failed(err)
	}
	data, err := json.Marshal(owned)
	if err != nil {
		return pid1.Failed(err)
	}
	return &pid1.Answer{Data: data}
}

// ownedOf looks at a file: a name may have moved by the time it is asked for again, and
// a number may be another file's, so it is known by its number and its birth.
func ownedOf(root *os.Root, name string) (sandbox.Owned, error) {
	dir, err := root.Open(".")
	if err != nil {
		return sandbox.Owned{}, err
	}
	defer dir.Close()
	return sandbox.OwnedAt(int(dir.Fd()), name)
}
