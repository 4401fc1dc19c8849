package patch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// maxFile is how long a file that is patched may be, in bytes.
const maxFile = 256 << 20

// Options say how a patch is applied. The zero value is patch -p0 --fuzz=0.
type Options struct {
	// Strip is how many leading folders of the names are left out.
	Strip int
	// Fuzz is how many lines of context at the ends of a hunk may differ.
	Fuzz int
	// ModTime is the time that files which change get; that of now where it is zero.
	ModTime time.Time
	// Report is told what is done, a line each, without its end; may be nil.
	Report func(line string)
}

// Error is all that stops a patch: at least one problem, in the order of the patch.
type Error struct{ Problems []Problem }

// Problem is one thing that does not fit.
type Problem struct {
	File string // of the tree; "" where none could be told
	Hunk int    // which of the file's, from 1; 0 is the file as a whole
	Line int    // of the patch, from 1
	Text string // e.g. `does not apply`, with further lines of what was expected and found
}

// What is the problem without its place in the patch, e.g. "hunk 2 of main.c does not apply".
func (p Problem) What() string {
	var b strings.Builder
	if p.Hunk > 0 {
		fmt.Fprintf(&b, "hunk %d of ", p.Hunk)
	}
	if p.File != "" {
		fmt.Fprintf(&b, "%s ", p.File)
	}
	b.WriteString(p.Text)
	return b.String()
}

func (e *Error) Error() string {
	var lines []string
	for _, p := range e.Problems {
		lines = append(lines, fmt.Sprintf("line %d: %s", p.Line, p.What()))
	}
	return strings.Join(lines, "\n")
}

// Apply applies diffs, in order, to the tree below the folder dir of root. Nothing outside
// of it is read or written: a name that leads out is no name, and links are not
// patched. Where something does not fit, nothing is changed, and an *Error tells all of it.
func Apply(ctx context.Context, root *os.Root, dir string, diffs []Diff, o Options) error {
	below, err := root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer below.Close()
	a := &applier{root: below, o: o, files: map[string]*file{}}
	for i := range diffs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.diff(&diffs[i]); err != nil {
			return err
		}
	}
	if len(a.problems) > 0 {
		return &Error{a.problems}
	}
	return a.write()
}

// applier holds what the tree will be.
type applier struct {
	root     *os.Root
	o        Options
	files    map[string]*file
	order    []string // the names in files, as they came
	problems []Problem
}

// file is what will stand under a name.
type file struct {
	was     *content // in the tree; nil where there is nothing
	is      *content
	touched bool // it is to be written
	backup  bool // what was is kept as NAME.orig
	moved   bool // its content was moved elsewhere by a diff of git
}

type content struct {
	data []byte
	mode fs.FileMode
	err  error // why it can't be patched, e.g. a folder
}

func (c *content) link() bool { return c.mode.Type() == fs.ModeSymlink }

func (a *applier) report(format string, args ...any) {
	if a.o.Report != nil {
		a.o.Report(fmt.Sprintf(format, args...))
	}
}

func (a *applier) wrong(d *Diff, name, format string, args ...any) {
	a.problems = append(a.problems, Problem{File: name, Line: d.Line, Text: fmt.Sprintf(format, args...)})
}

// at gives what stands under a name.
func (a *applier) at(name string) (*file, error) {
	key := path.Clean(name)
	if f := a.files[key]; f != nil {
		return f, nil
	}
	f := &file{}
	c, err := a.read(key)
	if err != nil {
		return nil, err
	}
	f.was, f.is = c, c
	a.files[key] = f
	a.order = append(a.order, key)
	return f, nil
}

func (a *applier) read(name string) (*content, error) {
	info, err := a.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return &content{err: fmt.Errorf("can't be looked at: %w", err)}, nil
	}
	c := &content{mode: info.Mode()}
	switch {
	case c.link():
		target, err := a.root.Readlink(name)
		c.data = []byte(target)
		return c, err
	case !info.Mode().IsRegular():
		c.err = errors.New("is no regular file")
		return c, nil
	case info.Size() > maxFile:
		c.err = fmt.Errorf("is longer than %d bytes", maxFile)
		return c, nil
	}
	f, err := a.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c.data, err = io.ReadAll(io.LimitReader(f, maxFile))
	return c, err
}

// strip leaves out leading folders of a name; "" where there are not so many.
func strip(name string, n int) string {
	at := 0
	for i := 0; i < len(name); i++ {
		if name[i] != '/' {
			continue
		}
		for i+1 < len(name) && name[i+1] == '/' {
			i++
		}
		if n--; n >= 0 {
			at = i + 1
		}
	}
	if n > 0 {
		return ""
	}
	return name[at:]
}

// safe reports whether a name leads to a place below the folder.
func safe(name string) bool {
	return name != "" && !path.IsAbs(name) && !slices.Contains(strings.Split(name, "/"), "..") && path.Clean(name) != "."
}

// candidate is a name that a diff may be for.
type candidate struct {
	name string
	file *file
	cost int // of taking it, beyond its name
}

// best chooses among names as POSIX and GNU patch do: of those with the least cost the one
// with the fewest folders, then the shortest last element, then the shortest.
func best(candidates []candidate) *candidate {
	measure := func(c candidate) [3]int {
		if !safe(c.name) {
			return [3]int{math.MaxInt}
		}
		return [3]int{len(elements(c.name)), len(path.Base(c.name)), len(c.name)}
	}
	var least *candidate
	for i := range candidates {
		c := &candidates[i]
		if safe(c.name) && c.cost == 0 && (least == nil || slices.Compare(sliceOf(measure(*c)), sliceOf(measure(*least))) < 0) {
			least = c
		}
	}
	return least
}

func sliceOf(a [3]int) []int { return a[:] }

func elements(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

// names are those of a diff, stripped, in the order in which they are tried.
func (a *applier) names(d *Diff) (old, new string, all []candidate, err error) {
	old, new = strip(d.Old, a.o.Strip), strip(d.New, a.o.Strip)
	index := strip(d.Index, a.o.Strip)
	if old != "" || new != "" {
		index = ""
	}
	for _, name := range []string{old, new, index} {
		if name == "" {
			continue
		}
		c := candidate{name: name, file: &file{}}
		if safe(name) {
			if c.file, err = a.at(name); err != nil {
				return "", "", nil, err
			}
		}
		all = append(all, c)
	}
	return old, new, all, nil
}

// source chooses the file that a diff is for; nil where there is none, and then a problem
// tells why.
func (a *applier) source(d *Diff, old string, all []candidate) *candidate {
	for i := range all {
		if all[i].file.is == nil {
			all[i].cost = 1
		}
	}
	chosen := best(all)
	if (d.Rename || d.Copy) && len(all) > 0 && all[0].name == old && all[0].file.is != nil && safe(old) {
		chosen = &all[0]
	}
	if chosen != nil {
		return chosen
	}
	for _, c := range all {
		if !safe(c.name) {
			a.wrong(d, "", "the name %q leads out of the folder", c.name)
			return nil
		}
	}
	if d.OldMissing == Present || len(all) == 0 {
		name, hint := "", ""
		if len(all) > 0 {
			name = all[0].name
		} else {
			hint = fmt.Sprintf(": no name is left of %q and %q without %s", d.Old, d.New, count(a.o.Strip, "leading folder"))
		}
		if name == "" {
			a.wrong(d, "", "there is no file to patch%s", hint)
		} else {
			a.wrong(d, name, "is not there")
		}
		return nil
	}
	// A file that is made goes where the fewest folders have to be made for it.
	least := math.MaxInt
	for i := range all {
		all[i].cost = a.newFolders(all[i].name)
		least = min(least, all[i].cost)
	}
	for i := range all {
		all[i].cost -= least
	}
	return best(all)
}

// newFolders counts the folders of a name that are not there.
func (a *applier) newFolders(name string) int {
	parts := elements(path.Dir(path.Clean(name)))
	for i := range parts {
		if parts[0] == "." {
			return 0
		}
		if _, err := a.root.Lstat(path.Join(parts[:i+1]...)); err != nil {
			return len(parts) - i
		}
	}
	return 0
}

// diff applies one diff to what the tree will be.
func (a *applier) diff(d *Diff) error {
	old, new, all, err := a.names(d)
	if err != nil {
		return err
	}
	from := a.source(d, old, all)
	if from == nil {
		return nil
	}
	to := from
	here := from.file.is
	if d.Rename || d.Copy {
		if !safe(old) || !safe(new) {
			a.wrong(d, "", "%q and %q are to be moved or copied, and one of them leads out of the folder", old, new)
			return nil
		}
		if from.name == old {
			if to, here, err = a.move(d, old, new); to == nil || err != nil {
				return err
			}
		}
	}
	switch wanted := d.OldMode | d.NewMode; {
	case here != nil && here.err != nil:
		a.wrong(d, from.name, "%s", here.err)
		return nil
	case here != nil && here.link() != (wanted&modeType == modeLink):
		what := "a symbolic link, which is not patched"
		if !here.link() {
			what = "no symbolic link"
		}
		a.wrong(d, from.name, "is %s", what)
		return nil
	}
	empty := here == nil || len(here.data) == 0
	if a.turned(d, from.name, here, empty) {
		return nil
	}
	a.describe(d, from.name, to.name)
	var before content
	if here != nil {
		before = *here
	}
	after, inexact, ok := a.hunks(d, to.name, before)
	if !ok {
		return nil
	}
	a.put(d, from, to, here, after, inexact)
	return nil
}

func (a *applier) describe(d *Diff, from, to string) {
	switch {
	case d.Binary:
		a.report("%s: the patch does not hold what is binary", to)
	case from != to && d.Rename:
		a.report("patching %s (renamed from %s)", to, from)
	case from != to && d.Copy:
		a.report("patching %s (copied from %s)", to, from)
	default:
		a.report("patching %s", to)
	}
}

// move finds what a diff of git renames or copies, and what it becomes.
func (a *applier) move(d *Diff, old, new string) (*candidate, *content, error) {
	source, err := a.at(old)
	if err != nil {
		return nil, nil, err
	}
	target, err := a.at(new)
	if err != nil {
		return nil, nil, err
	}
	// Diffs of git tell of the tree as it was before all of them.
	if source.was != nil && (source.touched || source.moved) {
		return &candidate{name: new, file: target}, source.was, nil
	}
	return &candidate{name: new, file: target}, source.is, nil
}

// turned finds patches that were applied already, or are the wrong way round, by whether
// their files are there.
func (a *applier) turned(d *Diff, name string, here *content, empty bool) bool {
	sure := func(m Missing, than Missing) bool { return m > than }
	switch {
	case !empty && sure(d.OldMissing, Empty):
		a.wrong(d, name, "is to be made, and is there already: the patch was applied before, or is reversed")
	case empty && here == nil && d.NewMissing == Empty && d.OldMissing == Certainly,
		empty && here != nil && d.OldMissing == Empty && d.NewMissing == Certainly:
		return false
	case empty && sure(d.NewMissing, Present):
		what := "is empty already"
		if here == nil {
			what = "is not there"
		}
		a.wrong(d, name, "is to be removed, and %s: the patch was applied before, or is reversed", what)
	default:
		return false
	}
	return true
}

// put notes what a file becomes.
func (a *applier) put(d *Diff, from, to *candidate, here *content, after []byte, inexact bool) {
	mode := fs.FileMode(0o644)
	if here != nil {
		mode = here.mode
	}
	newMode := d.NewMode != 0 && d.NewMode != d.OldMode
	if newMode {
		mode = fs.FileMode(d.NewMode & 0o777)
		if d.NewMode&modeType == modeLink {
			mode = fs.ModeSymlink
		}
	}
	gone := len(after) == 0 && len(d.Hunks)+boolean(d.OldMode != 0) > 0 && (d.NewMissing == Certainly || mode.Type() == fs.ModeSymlink)
	if d.NewMissing == Certainly && len(after) > 0 {
		a.wrong(d, to.name, "is to be removed, and holds more than the patch says")
		return
	}
	moves := from.name != to.name
	if !gone && len(d.Hunks) == 0 && !newMode && !moves && here != nil {
		return // the header alone says nothing new
	}
	if folder := a.blocked(to.name); here == nil && !gone && folder != "" {
		a.wrong(d, to.name, "is to be made, and %s is no folder", folder)
		return
	}
	if !to.file.touched {
		to.file.backup = inexact && to.file.was != nil
	}
	to.file.touched = true
	to.file.is = nil
	if !gone {
		to.file.is = &content{data: after, mode: mode}
	}
	if moves && d.Rename && !sourceTaken(from.file) {
		from.file.touched, from.file.moved = true, true
		from.file.backup = inexact && from.file.was != nil
		from.file.is = nil
	}
}

// blocked gives what stands, and will stand, where a folder of a name should.
func (a *applier) blocked(name string) string {
	parts := elements(path.Dir(path.Clean(name)))
	for i := range parts {
		folder := path.Join(parts[:i+1]...)
		if f := a.files[folder]; f != nil && f.touched {
			if f.is != nil {
				return folder
			}
			continue
		}
		if info, err := a.root.Stat(folder); err == nil && !info.IsDir() || errors.Is(err, syscall.ENOTDIR) {
			return folder
		}
	}
	return ""
}

// sourceTaken reports whether another diff put something else where a file was moved from.
func sourceTaken(f *file) bool { return f.touched && !f.moved && f.is != f.was }

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// write makes the tree what it will be.
func (a *applier) write() error {
	var gone []string
	for _, name := range a.order {
		f := a.files[name]
		if !f.touched || f.was == nil {
			continue
		}
		if f.backup {
			if err := a.root.Rename(name, name+".orig"); err != nil {
				return err
			}
		} else if err := a.root.Remove(name); err != nil {
			return err
		}
		if f.is == nil {
			gone = append(gone, name)
		}
	}
	for _, name := range a.order {
		if f := a.files[name]; f.touched && f.is != nil {
			if err := a.writeFile(name, f.is); err != nil {
				return err
			}
		}
	}
	for _, name := range gone {
		for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
			if a.root.Remove(parent) != nil {
				break // it holds something else
			}
		}
	}
	return nil
}

func (a *applier) writeFile(name string, c *content) error {
	if err := a.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if c.link() {
		return a.root.Symlink(string(c.data), name)
	}
	f, err := a.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(c.data)
	if err == nil {
		err = f.Chmod(c.mode.Perm())
	}
	if err = errors.Join(err, f.Close()); err != nil || a.o.ModTime.IsZero() {
		return err
	}
	return a.root.Chtimes(name, a.o.ModTime, a.o.ModTime)
}

// splitLines gives the lines of a file, each with its newline.
func splitLines(data []byte) [][]byte {
	lines := make([][]byte, 0, bytes.Count(data, []byte("\n"))+1)
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n') + 1
		if end == 0 {
			end = len(data)
		}
		lines = append(lines, data[:end])
		data = data[end:]
	}
	return lines
}
