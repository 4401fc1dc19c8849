package tests

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/service"
	"github.com/tarn-build/tarn/pkg/store"
)

// What is waited for where a test says nothing else.
const (
	commandTime = time.Minute
	listenTime  = 30 * time.Second
	answerTime  = 10 * time.Second
	stopTime    = 10 * time.Second
)

// The kinds of tests.
const (
	KindFile    = "file"
	KindAbsent  = "absent"
	KindCommand = "command"
	KindService = "service"
)

// Result is what one test gave.
type Result struct {
	Kind    string  `json:"kind"`
	Test    string  `json:"test"`
	Passed  bool    `json:"passed"`
	Seconds float64 `json:"seconds"`
	// Failures says everything that was not as it should be.
	Failures []Failure `json:"failures,omitempty"`
	// Answers are what a service said, in the order of the questions.
	Answers []Answer `json:"answers,omitempty"`
}

// Failure is one thing that was not as it should be.
type Failure struct {
	Text string `json:"text"`
	// Of a program: what was run, how it ended, and what it printed.
	Command []string `json:"command,omitempty"`
	Ended   string   `json:"ended,omitempty"` // e.g. "exit status 1"
	Output  string   `json:"output,omitempty"`
	Stderr  string   `json:"stderr,omitempty"`
}

// Answer is one answer of a service.
type Answer struct {
	Question string `json:"question"`
	Proto    string `json:"proto,omitempty"`
	Status   int    `json:"status"`
	Server   string `json:"server,omitempty"` // as HTTP's header field says
	TLS      string `json:"tls,omitempty"`
	Bytes    int    `json:"bytes"`
	Refused  string `json:"refused,omitempty"` // why there was no answer, where there was to be none
}

// Runner runs tests.
type Runner struct {
	Store   *store.Store
	Backend sandbox.Backend
	Limits  sandbox.Limits
	// Begin is called before each test; nil is nobody.
	Begin func(kind, name string)
}

// Run runs the tests of an image, those whose names are chosen; all when chosen is nil. What
// they find is in the results; an error says that it could not be found out.
func (r *Runner) Run(ctx context.Context, root *Root, t *images.Tests, chosen func(name string) bool) ([]Result, error) {
	var results []Result
	one := func(kind, name string, test func(*Result) error) error {
		if chosen != nil && !chosen(name) {
			return nil
		}
		if r.Begin != nil {
			r.Begin(kind, name)
		}
		start := time.Now()
		result := Result{Kind: kind, Test: name}
		err := test(&result)
		if unfit, is := errors.AsType[*unfitError](err); is {
			result.fail("%s", unfit.why)
		} else if err != nil {
			return fmt.Errorf("%s %s: %w", kind, name, err)
		}
		result.Passed, result.Seconds = len(result.Failures) == 0, time.Since(start).Seconds()
		results = append(results, result)
		return nil
	}
	for i := range t.Files {
		f := &t.Files[i]
		if err := one(KindFile, f.Path, func(result *Result) error { return root.checkFile(f, result) }); err != nil {
			return results, err
		}
	}
	for _, name := range t.Absent {
		if err := one(KindAbsent, name, func(result *Result) error { root.checkAbsent(name, result); return nil }); err != nil {
			return results, err
		}
	}
	for i := range t.Commands {
		c := &t.Commands[i]
		if err := one(KindCommand, c.Title(), func(result *Result) error { return r.command(ctx, root, t, c, result) }); err != nil {
			return results, err
		}
	}
	for i := range t.Services {
		s := &t.Services[i]
		if err := one(KindService, s.Title(), func(result *Result) error { return r.service(ctx, root, t, s, result) }); err != nil {
			return results, err
		}
	}
	return results, nil
}

// unfitError says why a test cannot be held against this image: that is a failure of the test.
type unfitError struct{ why string }

func (e *unfitError) Error() string { return e.why }

func (r *Result) fail(format string, args ...any) {
	r.Failures = append(r.Failures, Failure{Text: fmt.Sprintf(format, args...)})
}

func (root *Root) checkFile(f *images.TestFile, result *Result) error {
	n, found := root.Tree.Lstat(f.Path)
	if !found {
		result.fail("it is not there%s", root.nearest(f.Path))
		return nil
	}
	kind := map[string]string{"file": "file", "directory": "folder", "symlink": "symbolic link"}
	if want := kind[f.Type]; want != "" && rootfs.Kind(n.Mode) != want {
		result.fail("it is a %s, want a %s", rootfs.Kind(n.Mode), want)
	}
	if got := rootfs.UnixMode(n.Mode); f.Mode != nil && got != *f.Mode {
		result.fail("its mode is %04o, want %04o", got, *f.Mode)
	}
	if f.Owner != "" {
		uid, gid, err := root.ids(f.Owner)
		switch {
		case err != nil:
			result.fail("owner: %v", err)
		case n.UID != uid, strings.Contains(f.Owner, ":") && n.GID != gid:
			result.fail("it belongs to %d:%d, want %s", n.UID, n.GID, f.Owner)
		}
	}
	if f.Target != "" && n.Target != f.Target {
		result.fail("it leads to %q, want %q", n.Target, f.Target)
	}
	if f.Contains == "" {
		return nil
	}
	to, found := root.Tree.Stat(f.Path)
	if !found || !to.Mode.IsRegular() {
		result.fail("it leads to no file whose content could be read")
		return nil
	}
	data, err := content(to)
	if err != nil {
		return err
	}
	if !bytes.Contains(data, []byte(f.Contains)) {
		result.fail("%q does not stand in it", f.Contains)
	}
	return nil
}

// maxContent is how much of a file is looked at.
const maxContent = 64 << 20

func content(n *rootfs.Node) ([]byte, error) {
	in, err := n.Content.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(io.LimitReader(in, maxContent))
}

// nearest says what else of that name is in the image.
func (root *Root) nearest(name string) string {
	var other []string
	for n := range root.Tree.All() {
		if path.Base(n.Path) == path.Base(name) {
			other = append(other, "/"+n.Path)
		}
	}
	if len(other) == 0 || len(other) > 3 {
		return ""
	}
	return "; there is " + strings.Join(other, ", ")
}

func (root *Root) checkAbsent(name string, result *Result) {
	if path.IsAbs(name) {
		if n, found := root.Tree.Lstat(name); found {
			result.fail("it is there: a %s", rootfs.Kind(n.Mode))
		}
		return
	}
	// In any folder that programs stand in, and not only in those of this image's PATH.
	dirs := slices.Concat(root.path(root.Config.Env), []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"})
	seen := map[string]bool{}
	for _, dir := range dirs {
		n, found := root.Tree.Lstat(path.Join(dir, name))
		if found && !n.Mode.IsDir() && !seen[n.Path] {
			seen[n.Path] = true
			result.fail("it is there: /%s", n.Path)
		}
	}
}

// path is what PATH of an environment names.
func (root *Root) path(env []string) []string {
	var dirs []string
	for _, variable := range env {
		if value, is := strings.CutPrefix(variable, "PATH="); is {
			dirs = strings.FieldsFunc(value, func(c rune) bool { return c == ':' })
		}
	}
	return dirs
}

// surroundings are what a test says of who runs a program and where.
type surroundings struct {
	env      map[string]string
	workDir  string
	user     string
	mounts   map[string]string
	writable []string
}

// setting is a sandbox that is ready to be opened, and what programs get in it.
type setting struct {
	spec     sandbox.Spec
	env      []string
	dir      string
	uid, gid int
	groups   []int
	release  func()
}

// prepare makes the sandbox of one test: the image's layers, what the test adds, and copies
// of what may be written to.
func (r *Runner) prepare(root *Root, s surroundings) (*setting, error) {
	uid, gid, err := root.ids(cmp.Or(s.user, root.Config.User, "0"))
	if err != nil {
		return nil, &unfitError{err.Error()}
	}
	const most = 1<<16 - 1 // what a sandbox maps
	if uid < 0 || uid > most || gid < 0 || gid > most {
		return nil, &unfitError{fmt.Sprintf("user %d, group %d: a sandbox has ids up to %d", uid, gid, most)}
	}
	dir, release, err := r.Store.TempDir("image-test")
	if err != nil {
		return nil, err
	}
	set := &setting{env: root.environment(s.env), dir: cmp.Or(s.workDir, root.Config.WorkingDir, "/"), uid: uid, gid: gid, groups: root.groups(uid), release: release}
	set.spec = sandbox.Spec{Layers: root.Layers, UID: uid, GID: gid, Limits: r.Limits, WorkPath: path.Dir(service.Path)}
	err = set.fill(root, dir, s)
	if err == nil && !set.hasFolder(root, set.dir) {
		err = &unfitError{fmt.Sprintf("it has to start in %s, which is no folder of the image", set.dir)}
	}
	if err != nil {
		release()
		return nil, err
	}
	return set, nil
}

// hasFolder reports whether a folder is there when the sandbox is: in the image, or among
// what every sandbox has or this test adds.
func (set *setting) hasFolder(root *Root, name string) bool {
	if n, found := root.Tree.Stat(name); found {
		return n.Mode.IsDir()
	}
	above := func(dir string) bool { return strings.HasPrefix(dir+"/", strings.TrimSuffix(name, "/")+"/") }
	for _, own := range []string{"/", "/tmp", "/run", "/var/tmp", "/proc", "/dev", "/sys", "/etc", "/root"} {
		if above(own) {
			return true
		}
	}
	return slices.ContainsFunc(set.spec.Binds, func(b sandbox.Bind) bool { return b.Writable && above(b.Path) || above(path.Dir(b.Path)) })
}

// hosts is what a container's runtime writes over /etc/hosts.
const hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost\n"

func (set *setting) fill(root *Root, dir string, s surroundings) error {
	// Inside it is another user who passes through.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for i, name := range root.writable(s.writable) {
		copied := filepath.Join(dir, "folder"+strconv.Itoa(i))
		if err := set.copyFolder(root, name, copied); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
		set.spec.Binds = append(set.spec.Binds, sandbox.Bind{Source: copied, Path: name, Writable: true})
	}
	files := map[string]string{}
	if n, found := root.Tree.Lstat("/etc/hosts"); !found || n.Mode.IsRegular() {
		files["/etc/hosts"] = hosts
	}
	maps.Copy(files, s.mounts)
	for i, name := range slices.Sorted(maps.Keys(files)) {
		place, err := root.place(name)
		if err != nil {
			return &unfitError{"mount " + err.Error()}
		}
		if n, found := root.Tree.Lstat(place); found && n.Mode.IsDir() {
			return &unfitError{fmt.Sprintf("mount %s: it is a folder of the image, and a file is to stand there", name)}
		}
		file := filepath.Join(dir, "file"+strconv.Itoa(i))
		if err := os.WriteFile(file, []byte(files[name]), 0o644); err != nil {
			return err
		}
		if err := os.Chmod(file, 0o644); err != nil { // whatever the umask is
			return err
		}
		set.spec.Binds = append(set.spec.Binds, sandbox.Bind{Source: file, Path: place})
	}
	return nil
}

// place is where a path stands when the image's links are followed: a sandbox mounts on no link.
func (root *Root) place(name string) (string, error) {
	dir, base := path.Split(name)
	if n, found := root.Tree.Stat(name); found {
		return "/" + n.Path, nil
	}
	for rest := path.Clean(dir); rest != "/"; rest = path.Dir(rest) {
		if n, found := root.Tree.Stat(rest); found {
			if !n.Mode.IsDir() {
				return "", fmt.Errorf("%s: /%s is a %s of the image", name, n.Path, rootfs.Kind(n.Mode))
			}
			return path.Join("/"+n.Path, strings.TrimPrefix(path.Clean(dir), rest), base), nil
		}
	}
	return name, nil
}

// writable are the folders that a test may write to, as they stand in the image: those
// that are declared, volumes, and those that are fresh in every container but not empty
// in this image. /tmp and its like are always there.
func (root *Root) writable(declared []string) []string {
	var all []string
	for _, fresh := range []string{"/run", "/tmp", "/var/tmp"} {
		if n, found := root.Tree.Lstat(fresh); found && n.Mode.IsDir() && len(root.Tree.Below(fresh)) > 1 {
			all = append(all, fresh)
		}
	}
	volumes := slices.Sorted(maps.Keys(root.Config.Volumes))
	for _, name := range slices.Concat(volumes, declared) {
		name = path.Clean("/" + name)
		if place, err := root.place(name); err == nil {
			name = place
		}
		all = append(all, name)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	// A folder in another that is copied comes with it.
	return slices.DeleteFunc(all, func(name string) bool {
		return name == "/" || slices.ContainsFunc(all, func(other string) bool { return strings.HasPrefix(name, other+"/") })
	})
}

// copyFolder makes a copy of a folder of the image. For root it belongs to whom the image
// says; for others to the caller, who is the user inside, with no more rights than the
// image gives that user.
func (set *setting) copyFolder(root *Root, name, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	out, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer out.Close()
	top := strings.TrimPrefix(name, "/")
	var folders []*rootfs.Node
	for n := range root.Tree.All() {
		inside := strings.TrimPrefix(strings.TrimPrefix(n.Path, top), "/")
		switch {
		case n.Path == top:
			folders = append(folders, n)
			continue
		case !strings.HasPrefix(n.Path, top+"/"):
			continue
		case n.Mode.IsDir():
			folders = append(folders, n)
			err = out.Mkdir(inside, 0o755)
		case n.Mode.Type() == fs.ModeSymlink:
			err = out.Symlink(n.Target, inside)
		case n.Mode.IsRegular():
			var in io.ReadCloser
			if in, err = n.Content.Open(); err == nil {
				err = errors.Join(writeFile(out, inside, 0o600, time.Unix(0, 0), in), in.Close())
			}
		default:
			continue
		}
		if err == nil && !n.Mode.IsDir() {
			err = set.give(root, out, n, inside)
		}
		if err != nil {
			return err
		}
	}
	if len(folders) == 0 { // a folder that the image does not have, as an engine makes it
		return nil
	}
	for _, n := range slices.Backward(folders) {
		inside := cmp.Or(strings.TrimPrefix(strings.TrimPrefix(n.Path, top), "/"), ".")
		if err := set.give(root, out, n, inside); err != nil {
			return err
		}
	}
	return nil
}

func (set *setting) give(root *Root, out *os.Root, n *rootfs.Node, name string) error {
	mode := n.Mode & (fs.ModePerm | fs.ModeSticky)
	if root.owned {
		if err := out.Lchown(name, n.UID, n.GID); err != nil {
			return err
		}
	} else if rights := set.rights(n.Inode); set.uid != n.UID {
		mode = mode&^0o700 | fs.FileMode(rights)<<6
	}
	if n.Mode.Type() == fs.ModeSymlink {
		return nil
	}
	return out.Chmod(name, mode)
}

// rights are what the test's user may do with a path: 4 read, 2 write, 1 execute or enter.
func (set *setting) rights(i *rootfs.Inode) uint32 {
	bits := rootfs.UnixMode(i.Mode)
	switch {
	case set.uid == 0:
		if i.Mode.IsDir() || bits&0o111 != 0 {
			return 7
		}
		return 6
	case set.uid == i.UID:
		return bits >> 6 & 7
	case set.gid == i.GID || slices.Contains(set.groups, i.GID):
		return bits >> 3 & 7
	}
	return bits & 7
}

// environment is the image's with a test's own.
func (root *Root) environment(own map[string]string) []string {
	env := slices.DeleteFunc(slices.Clone(root.Config.Env), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		_, replaced := own[name]
		return replaced
	})
	for _, name := range slices.Sorted(maps.Keys(own)) {
		env = append(env, name+"="+own[name])
	}
	return env
}

// ids reads USER or USER:GROUP, by name or number, as the image's lists have them. The
// group of a user is the one of the list, else 0 as container runtimes have it.
func (root *Root) ids(text string) (_, gid int, err error) {
	user, group, hasGroup := strings.Cut(text, ":")
	known := false
	uid, notNumber := strconv.Atoi(user)
	named := notNumber != nil
	for _, u := range root.Tree.Users() {
		if named && u.Name == user || !named && u.UID == uid {
			uid, gid, known = u.UID, u.GID, true
			break
		}
	}
	if named && user == "root" {
		known = true // whatever the image's list is
	}
	if named && !known {
		return 0, 0, fmt.Errorf("the image has no user %q", user)
	}
	if !hasGroup {
		return uid, gid, nil
	}
	if gid, err = strconv.Atoi(group); err == nil {
		return uid, gid, nil
	}
	for _, g := range root.Tree.Groups() {
		if g.Name == group {
			return uid, g.GID, nil
		}
	}
	if group == "root" {
		return uid, 0, nil
	}
	return 0, 0, fmt.Errorf("the image has no group %q", group)
}

// groups are those that a user is a member of.
func (root *Root) groups(uid int) []int {
	var name string
	for _, u := range root.Tree.Users() {
		if u.UID == uid {
			name = u.Name
			break
		}
	}
	var all []int
	for _, g := range root.Tree.Groups() {
		if name != "" && slices.Contains(g.Members, name) {
			all = append(all, g.GID)
		}
	}
	return all
}

// find gives the absolute path of a program as a container's runtime does, or says why it
// can't be run.
func (set *setting) find(root *Root, name string) (string, error) {
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join(set.dir, name)
		}
		if set.adds(name) {
			return name, nil
		}
		n, found := root.Tree.Stat(name)
		if !found {
			return "", fmt.Errorf("%s is not in the image%s", name, root.nearest(name))
		}
		return name, set.mayRun(n, name)
	}
	dirs := root.path(set.env)
	var denied error
	for _, dir := range dirs {
		file := path.Join("/", dir, name)
		n, found := root.Tree.Stat(file)
		if !found || n.Mode.IsDir() {
			continue
		}
		if err := set.mayRun(n, file); err != nil {
			denied = err
			continue
		}
		return file, nil
	}
	if denied != nil {
		return "", denied
	}
	return "", fmt.Errorf("%s is not in the image's PATH (%s)%s", name, strings.Join(dirs, ":"), root.nearest(name))
}

// adds reports whether a path is none of the image's but one of the test's.
func (set *setting) adds(name string) bool {
	return slices.ContainsFunc(set.spec.Binds, func(b sandbox.Bind) bool { return b.Path == name })
}

func (set *setting) mayRun(n *rootfs.Node, name string) error {
	switch {
	case n.Mode.IsDir():
		return fmt.Errorf("%s is a folder", name)
	case set.rights(n.Inode)&1 == 0:
		return fmt.Errorf("user %d may not run %s (mode %04o, of %d:%d)", set.uid, name, rootfs.UnixMode(n.Mode), n.UID, n.GID)
	}
	return nil
}

func (r *Runner) command(ctx context.Context, root *Root, t *images.Tests, c *images.TestCommand, result *Result) error {
	argv, err := shellquote.Split(c.Run)
	if err != nil {
		return err
	}
	set, err := r.prepare(root, surroundings{c.Environment, c.WorkDir, c.User, c.Mounts, t.Writable})
	if err != nil {
		return err
	}
	defer set.release()
	failure := Failure{Command: argv}
	program, err := set.find(root, argv[0])
	if err != nil {
		failure.Text = err.Error()
		result.Failures = append(result.Failures, failure)
		return nil
	}
	box, err := r.Backend.Open(ctx, set.spec)
	if err != nil {
		return err
	}
	defer box.Close()
	var out, complaints, both output
	within := cmp.Or(c.Within, commandTime)
	err = box.Run(ctx, sandbox.Command{
		Argv: append([]string{program}, argv[1:]...), Env: set.env, Dir: set.dir, Stdin: strings.NewReader(c.Input),
		Stdout: io.MultiWriter(&out, &both), Stderr: io.MultiWriter(&complaints, &both), Timeout: within,
	})
	exit, ran := errors.AsType[*sandbox.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		exit = &sandbox.ExitError{}
	case !ran:
		// It could not be started: no loader, another machine's, a folder that is not there.
		failure.Text = startFailure(root, program, err)
		result.Failures = append(result.Failures, failure)
		return nil
	}
	failure.Ended, failure.Output, failure.Stderr = exit.Error(), out.String(), complaints.String()
	wrong := func(format string, args ...any) {
		failure.Text = fmt.Sprintf(format, args...)
		result.Failures = append(result.Failures, failure)
		failure = Failure{} // what it printed is told once
	}
	if exit.Limit != "" || exit.Code != c.Status {
		wrong("%s, want exit status %d", exit.Error(), c.Status)
	}
	if !strings.Contains(out.String(), c.Stdout) {
		wrong("%q is not in its output", c.Stdout)
	}
	if !strings.Contains(complaints.String(), c.Stderr) {
		wrong("%q is not in its complaints", c.Stderr)
	}
	if !regexp.MustCompile(c.Matches).MatchString(both.String()) {
		wrong("what it printed does not match %s", c.Matches)
	}
	return nil
}

// startFailure says why a program that is there can't be started.
func startFailure(root *Root, program string, err error) string {
	if errors.Is(err, unix.ENOENT) {
		return cmp.Or(missingLoader(root, program), err.Error())
	}
	return err.Error()
}

// maxOutput is how much is kept of what a program prints.
const maxOutput = 1 << 20

// output keeps the first and drops what is beyond measure.
type output struct{ bytes.Buffer }

func (o *output) Write(p []byte) (int, error) {
	if room := maxOutput - o.Len(); room > 0 {
		o.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
