package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// TempDir makes an empty folder on the store's file system. It lasts until
// release, or until the process ends: then the next Open of the store removes it.
// Name is for people who look; it is one element of a path.
func (s *Store) TempDir(name string) (dir string, release func(), err error) {
	if err := checkName(name); err != nil {
		return "", nil, err
	}
	dir = s.temp("dir-" + name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", nil, s.fault("make temporary folder", err)
	}
	return dir, func() { _ = RemoveAll(dir) }, nil
}

// KeptLimit is how many folders of one kind are kept; a further one removes the
// oldest that no running process made.
const KeptLimit = 20

// Kept is a folder that outlives the process that made it.
type Kept struct {
	Kind string    // e.g. "sandbox" or "log"
	Name string    // e.g. the name of a recipe
	Dir  string    // absolute
	Made time.Time // when KeepDir made it
}

// Keep moves the folder dir, which lies on the store's file system as those of TempDir
// do, to where it outlives the process, and says where that is. All else is as
// with KeepDir.
func (s *Store) Keep(dir, kind, name string) (string, error) {
	kept, err := s.KeepDir(kind, name)
	if err != nil {
		return "", err
	}
	// Not os.Rename: that refuses a target that is an empty folder.
	if err := unix.Rename(dir, kept); err != nil {
		return "", s.fault("keep folder", &os.LinkError{Op: "rename", Old: dir, New: kept, Err: err})
	}
	return kept, nil
}

// KeepDir makes an empty folder that outlives the process: for what is left of a
// failed build, and for logs. It is listed by Kept, and goes when there are more
// than KeptLimit of its kind, or by GC; never while this process runs. Kind and
// name are each one element of a path.
func (s *Store) KeepDir(kind, name string) (string, error) {
	for _, n := range []string{kind, name} {
		if err := checkName(n); err != nil {
			return "", err
		}
	}
	dir, gone, err := s.makeKept(kind, name)
	for _, old := range gone {
		_ = RemoveAll(old) // else the next Open does it
	}
	return dir, s.fault("keep folder", err)
}

// makeKept makes the folder, and takes out of sight what is beyond the limit.
func (s *Store) makeKept(kind, name string) (dir string, gone []string, err error) {
	release, err := s.exclusive()
	if err != nil {
		return "", nil, err
	}
	defer release()
	parent := filepath.Join(s.dir, "kept", kind)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", nil, err
	}
	// The number is the time, so that the order of numbers is that of making; it
	// grows even where the clock does not.
	number := time.Now().UnixNano()
	for {
		base := fmt.Sprintf("%s-%d", name, number)
		if err := s.use("kept " + kind + "/" + base); err != nil {
			return "", nil, err
		}
		dir = filepath.Join(parent, base)
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", nil, err
		}
		number++
	}
	all, err := s.Kept()
	if err != nil {
		return "", nil, err
	}
	all = slices.DeleteFunc(all, func(k Kept) bool { return k.Kind != kind })
	if len(all) <= KeptLimit {
		return dir, nil, nil
	}
	used, err := s.used(false)
	if err != nil {
		return "", nil, err
	}
	for _, k := range all[KeptLimit:] {
		if used["kept "+kind+"/"+filepath.Base(k.Dir)] {
			continue
		}
		old := s.temp("kept")
		if err := os.Rename(k.Dir, old); err != nil {
			return "", gone, err
		}
		gone = append(gone, old)
	}
	return dir, gone, nil
}

// UseKept notes that this process uses a kept folder: it stays as long as it runs.
func (s *Store) UseKept(k Kept) error {
	release, err := s.exclusive()
	if err != nil {
		return err
	}
	defer release()
	if _, err := os.Stat(k.Dir); err != nil {
		return s.fault("use kept folder", err)
	}
	return s.use("kept " + k.Kind + "/" + filepath.Base(k.Dir))
}

// Unkeep removes the kept folders of a kind that have a name, but for those that
// another running process uses.
func (s *Store) Unkeep(kind, name string) error {
	gone, err := s.hideKept(kind, name)
	for _, dir := range gone {
		_ = RemoveAll(dir) // else the next Open does it
	}
	return s.fault("remove kept folder", err)
}

func (s *Store) hideKept(kind, name string) (gone []string, err error) {
	release, err := s.exclusive()
	if err != nil {
		return nil, err
	}
	defer release()
	all, err := s.Kept()
	if err != nil {
		return nil, err
	}
	used, err := s.used(true)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		if k.Kind != kind || k.Name != name || used["kept "+kind+"/"+filepath.Base(k.Dir)] {
			continue
		}
		old := s.temp("kept")
		if err := os.Rename(k.Dir, old); err != nil {
			return gone, err
		}
		gone = append(gone, old)
	}
	return gone, nil
}

// Kept lists the kept folders of all kinds, the newest first.
func (s *Store) Kept() ([]Kept, error) {
	kinds, err := os.ReadDir(filepath.Join(s.dir, "kept"))
	if err != nil {
		return nil, s.fault("list kept folders", err)
	}
	var all []Kept
	for _, kind := range kinds {
		dirs, err := os.ReadDir(filepath.Join(s.dir, "kept", kind.Name()))
		if err != nil {
			return nil, s.fault("list kept folders", err)
		}
		for _, d := range dirs {
			i := strings.LastIndexByte(d.Name(), '-')
			var number int64
			if i < 0 {
				continue
			}
			if _, err := fmt.Sscan(d.Name()[i+1:], &number); err != nil {
				continue
			}
			all = append(all, Kept{Kind: kind.Name(), Name: d.Name()[:i], Dir: filepath.Join(s.dir, "kept", kind.Name(), d.Name()), Made: time.Unix(0, number)})
		}
	}
	slices.SortFunc(all, func(a, b Kept) int { return cmp.Or(b.Made.Compare(a.Made), cmp.Compare(a.Dir, b.Dir)) })
	return all, nil
}

// checkName refuses what is not one plain element of a path.
func checkName(name string) error {
	if name == "" || len(name) > 200 || name[0] == '.' || strings.ContainsAny(name, "/\x00\n") {
		return fmt.Errorf("%q cannot be the name of a folder", name)
	}
	return nil
}
