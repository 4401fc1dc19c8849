package scriptlet

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/rootfs"
)

// changed notes what an edit of the tree did, or sets the status where it did not work,
// as the program would.
func (r *reader) changed(err error, format string, args ...any) {
	if err != nil {
		r.status = 1
		return
	}
	r.note(format, args...)
}

func mkdir(r *reader, args []string, _ *target) error {
	set, dirs, err := flags(args, "pv", "m")
	if err != nil {
		return err
	}
	_, parents := set['p']
	mode := 0o777 &^ r.umask
	if text, said := set['m']; said {
		if mode, err = applyMode(fs.ModeDir|0o777, text); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		dir = r.path(dir)
		if n, found := r.stat(dir); found {
			if !parents || !n.Mode.IsDir() {
				r.status = 1
			}
			continue
		}
		if above, found := r.stat(path.Dir(dir)); !parents && (!found || !above.Mode.IsDir()) {
			r.status = 1
			continue
		}
		r.changed(errors.Join(r.above(dir), r.tree.Mkdir(dir, mode&^fs.ModeType, 0, 0)), "make folder %s", dir)
	}
	return nil
}

// above makes the folders that a folder is to stand in. Whoever makes them can always
// go on in them.
func (r *reader) above(dir string) error {
	dir = path.Dir(dir)
	if _, found := r.stat(dir); found {
		return nil
	}
	return errors.Join(r.above(dir), r.tree.Mkdir(dir, 0o777&^r.umask|0o300, 0, 0))
}

// install makes folders (-d), and files as they are elsewhere in the tree.
func install(r *reader, args []string, out *target) error {
	set, rest, err := flags(args, "dDpvcs", "mogt")
	if err != nil {
		return err
	}
	if _, into := set['t']; into {
		return cannotf("")
	}
	if _, dirs := set['d']; dirs {
		for _, dir := range rest {
			if err := mkdir(r, []string{"-p", dir}, out); err != nil {
				return err
			}
		}
	} else {
		if len(rest) != 2 {
			return cannotf("")
		}
		if _, parents := set['D']; parents {
			if err := mkdir(r, []string{"-p", path.Dir(rest[1])}, out); err != nil {
				return err
			}
		}
		if err := cp(r, rest, out); err != nil {
			return err
		}
		if n, found := r.stat(rest[1]); found && n.Mode.IsDir() {
			rest[1] = path.Join(rest[1], path.Base(rest[0]))
		}
		rest = rest[1:]
		if set['m'] == "" {
			set['m'] = "0755"
		}
	}
	owner := set['o']
	if set['g'] != "" {
		owner += ":" + set['g']
	}
	for _, p := range rest {
		if owner != "" {
			if err := chown(r, []string{owner, p}, out); err != nil {
				return err
			}
		}
		if set['m'] != "" {
			if err := chmod(r, []string{set['m'], p}, out); err != nil {
				return err
			}
		}
	}
	return nil
}

func touch(r *reader, args []string, _ *target) error {
	_, files, err := flags(args, "c", "")
	if err != nil {
		return err
	}
	for _, f := range files {
		f = r.path(f)
		if _, found := r.stat(f); found {
			continue
		}
		if above, found := r.stat(path.Dir(f)); !found || !above.Mode.IsDir() {
			r.status = 1
			continue
		}
		r.changed(r.tree.WriteFile(f, nil, r.newMode(f)), "make file %s", f)
	}
	return nil
}

// cp copies one file; more than that is what packages are for.
func cp(r *reader, args []string, _ *target) error {
	set, rest, err := flags(args, "apfnHLP", "")
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return cannotf("")
	}
	from, to := r.path(rest[0]), r.path(rest[1])
	n, found := r.tree.Stat(from)
	if !found {
		r.status = 1
		return nil
	}
	if !n.Mode.IsRegular() {
		return cannotf("")
	}
	if there, found := r.stat(to); found && there.Mode.IsDir() {
		to = path.Join(to, path.Base(from))
	}
	if _, keep := set['n']; keep {
		if _, found := r.stat(to); found {
			return nil
		}
	}
	data, err := r.tree.ReadFile(from)
	if err != nil {
		return cannotf("%v", err)
	}
	if above, found := r.stat(path.Dir(to)); !found || !above.Mode.IsDir() {
		r.status = 1
		return nil
	}
	_, preserve := set['p']
	_, all := set['a']
	uid, gid := n.UID, n.GID
	mode := n.Mode.Perm() &^ r.umask
	if preserve || all {
		mode = n.Mode
	}
	r.changed(r.tree.WriteFile(to, slices.Clone(data), mode), "copy %s to %s", from, to)
	if preserve || all {
		return errorOf(r.tree.Chown(to, uid, gid))
	}
	return nil
}

// errorOf turns an error of the tree into a use that nobody can do.
func errorOf(err error) error {
	if err != nil {
		return cannotf("%v", err)
	}
	return nil
}

func ln(r *reader, args []string, _ *target) error {
	set, rest, err := flags(args, "sfnTv", "")
	if err != nil {
		return err
	}
	if len(rest) == 1 {
		rest = append(rest, path.Base(rest[0]))
	}
	_, symbolic := set['s']
	if len(rest) != 2 || !symbolic {
		return cannotf("")
	}
	at := r.path(rest[1])
	_, asFile := set['n']
	_, asTarget := set['T']
	if n, found := r.stat(at); found && n.Mode.IsDir() {
		link, _ := r.tree.Lstat(at)
		if !(asFile || asTarget) || link == nil || link.Mode.Type() != fs.ModeSymlink {
			at = path.Join(at, path.Base(rest[0]))
		}
	}
	if n, found := r.tree.Lstat(at); found {
		_, force := set['f']
		switch {
		case n.Mode.Type() == fs.ModeSymlink && n.Target == rest[0]:
			return nil
		case !force || n.Mode.IsDir():
			r.status = 1
			return nil
		}
	}
	if above, found := r.stat(path.Dir(at)); !found || !above.Mode.IsDir() {
		r.status = 1
		return nil
	}
	r.changed(r.tree.Relink(rest[0], at), "make link %s to %s", at, rest[0])
	return nil
}

// below gives the paths that -R means.
func (r *reader) below(p string, recursive bool) []string {
	p = r.path(p)
	n, found := r.tree.Lstat(p)
	if !found {
		return nil
	}
	if !recursive {
		return []string{p}
	}
	*r.steps += walkSteps
	var all []string
	for _, m := range r.tree.Below(n.Path) {
		all = append(all, "/"+m.Path)
	}
	return all
}

func chmod(r *reader, args []string, _ *target) error {
	// A mode may begin with "-" as options do.
	recursive := false
	for len(args) > 0 && (args[0] == "-R" || args[0] == "-f" || args[0] == "-v") {
		recursive = recursive || args[0] == "-R"
		args = args[1:]
	}
	if len(args) < 2 {
		return cannotf("")
	}
	for _, p := range args[1:] {
		if _, found := r.stat(p); !found {
			r.status = 1
			continue
		}
		for _, f := range r.below(p, recursive) {
			n, found := r.tree.Stat(f)
			if link, _ := r.tree.Lstat(f); !found || recursive && link.Mode.Type() == fs.ModeSymlink {
				continue
			}
			mode, err := applyMode(n.Mode, args[0])
			if err != nil {
				return err
			}
			if n.Mode == n.Mode.Type()|mode {
				continue
			}
			r.changed(r.tree.Chmod(f, mode), "give %s the mode %04o", f, rootfs.UnixMode(mode))
		}
	}
	return nil
}

// applyMode gives permissions as chmod(1) changes them: a number, or "u+s,go-w".
func applyMode(mode fs.FileMode, text string) (fs.FileMode, error) {
	if n, err := strconv.ParseUint(text, 8, 32); err == nil && n <= 0o7777 {
		return rootfs.FileMode(uint32(n)), nil
	}
	bits := rootfs.UnixMode(mode)
	for clause := range strings.SplitSeq(text, ",") {
		i := strings.IndexAny(clause, "+-=")
		if i < 0 {
			return 0, cannotf("mode %q", text)
		}
		who, what := clause[:i], clause[i+1:]
		if who == "" || strings.Contains(who, "a") {
			who = "ugo"
		}
		var change, whole uint32
		for _, w := range who {
			shift, found := map[rune]uint{'u': 6, 'g': 3, 'o': 0}[w]
			if !found {
				return 0, cannotf("mode %q", text)
			}
			whole |= 7 << shift
			for _, c := range what {
				switch c {
				case 'r':
					change |= 4 << shift
				case 'w':
					change |= 2 << shift
				case 'x':
					change |= 1 << shift
				case 'X':
					if mode.IsDir() || bits&0o111 != 0 {
						change |= 1 << shift
					}
				case 's':
					change |= map[rune]uint32{'u': 0o4000, 'g': 0o2000}[w]
				case 't':
					change |= 0o1000
				default:
					return 0, cannotf("mode %q", text)
				}
			}
		}
		switch clause[i] {
		case '+':
			bits |= change
		case '-':
			bits &^= change
		default:
			bits = bits&^whole | change
		}
	}
	return rootfs.FileMode(bits), nil
}

func chgrp(r *reader, args []string, out *target) error {
	set, rest, err := flags(args, "Rhfv", "")
	if err != nil {
		return err
	}
	if len(rest) < 2 {
		return cannotf("")
	}
	args = append([]string{":" + rest[0]}, rest[1:]...)
	if _, recursive := set['R']; recursive {
		args = append([]string{"-R"}, args...)
	}
	return chown(r, args, out)
}

func chown(r *reader, args []string, _ *target) error {
	set, rest, err := flags(args, "Rhfv", "")
	if err != nil {
		return err
	}
	if len(rest) < 2 {
		return cannotf("")
	}
	user, group, both := strings.Cut(rest[0], ":")
	if !both {
		user, group, both = strings.Cut(rest[0], ".")
	}
	uid, gid := -1, -1
	if user != "" {
		u, known := r.user(user)
		if !known {
			r.status = 1
			return nil
		}
		uid = u.UID
		if both && group == "" {
			gid = u.GID
		}
	}
	if group != "" {
		var known bool
		if gid, known = r.group(group); !known {
			r.status = 1
			return nil
		}
	}
	_, recursive := set['R']
	_, itself := set['h']
	for _, p := range rest[1:] {
		if _, found := r.tree.Lstat(r.path(p)); !found {
			r.status = 1
			continue
		}
		for _, f := range r.below(p, recursive) {
			n, found := r.tree.Lstat(f)
			if !recursive && !itself {
				if n, found = r.tree.Stat(f); !found {
					r.status = 1
					continue
				}
				f = "/" + n.Path
			}
			if !found {
				continue
			}
			to, in := uid, gid
			if to < 0 {
				to = n.UID
			}
			if in < 0 {
				in = n.GID
			}
			if n.UID == to && n.GID == in {
				continue
			}
			r.changed(r.tree.Chown(f, to, in), "give %s to %d:%d", f, to, in)
		}
	}
	return nil
}

// remove knows only what is not there: what a package brings is the package's.
func remove(r *reader, args []string, _ *target) error {
	set, rest, err := flags(args, "rRfvp", "")
	if err != nil {
		return err
	}
	for _, p := range rest {
		if _, found := r.tree.Lstat(r.path(p)); found {
			return cannotf("it removes what is there")
		}
		if _, force := set['f']; !force {
			r.status = 1
		}
	}
	return nil
}

// alternatives is update-alternatives --install LINK NAME PATH PRIORITY, with --slave
// LINK NAME PATH behind it: the link leads over /etc/alternatives/NAME to the path of
// the highest priority, of equal ones to the first. Priorities stand in the same files
// that the program keeps them in, so that a program in the image goes on from there.
func alternatives(r *reader, args []string, _ *target) error {
	if len(args) > 0 && slices.Contains([]string{"--remove", "--remove-all", "--auto", "--quiet"}, args[0]) {
		return nil // of another time than installation
	}
	for i := 0; i < len(args); {
		switch args[i] {
		case "--quiet", "--force":
			i++
		case "--install":
			if len(args) < i+5 {
				return cannotf("")
			}
			link, name, to := args[i+1], args[i+2], args[i+3]
			priority, err := strconv.Atoi(args[i+4])
			if err != nil || !isName(name) || !path.IsAbs(link) || !path.IsAbs(to) {
				return cannotf("")
			}
			wins, err := r.alternative(name, link, to, priority)
			if err != nil {
				return err
			}
			for i += 5; i < len(args) && args[i] == "--slave"; i += 4 {
				if len(args) < i+4 || !isName(args[i+2]) {
					return cannotf("")
				}
				if wins {
					if err := r.lead(args[i+2], args[i+1], args[i+3]); err != nil {
						return err
					}
				}
			}
		default:
			return cannotf("")
		}
	}
	return nil
}

func isName(s string) bool {
	return s != "" && !strings.ContainsAny(s, "/\n\x00") && s != ".." && s != "."
}

// alternative says whether a path has the highest priority so far, and leads there if so.
func (r *reader) alternative(name, link, to string, priority int) (bool, error) {
	file := "/var/lib/alternatives/" + name
	best := false
	before, err := r.tree.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		before, best = []byte("auto\n"+link+"\n\n"), true
	case err != nil:
		return false, cannotf("%v", err)
	}
	highest := 0
	fields := strings.Split(strings.TrimSuffix(string(before), "\n"), "\n")
	for i := 3; i+1 < len(fields); i += 2 {
		n, _ := strconv.Atoi(fields[i+1])
		if i == 3 || n > highest {
			highest = n
		}
		if fields[i] == to {
			return false, nil
		}
	}
	best = best || priority > highest
	text := string(before) + to + "\n" + strconv.Itoa(priority) + "\n"
	if err := r.tree.WriteFile(file, []byte(text), 0o644); err != nil {
		return false, cannotf("%v", err)
	}
	if !best {
		return false, nil
	}
	return true, r.lead(name, link, to)
}

func (r *reader) lead(name, link, to string) error {
	through := "/etc/alternatives/" + name
	if n, found := r.tree.Lstat(link); found && n.Mode.Type() != fs.ModeSymlink {
		return cannotf("%s is a %s", link, rootfs.Kind(n.Mode))
	}
	if err := errors.Join(r.tree.Relink(to, through), r.tree.Relink(through, link)); err != nil {
		return cannotf("%v", err)
	}
	r.note("let %s lead to %s", link, to)
	return nil
}
