package scriptlet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/tarn-build/tarn/pkg/rootfs"
)

// Script is a script of a package, and the arguments that apk would give it.
type Script struct {
	Content []byte
	Args    []string
}

// Unhandled is what stands in a script and cannot be done without running it.
type Unhandled struct {
	Line int    // from 1; 0 for the script as a whole
	Text string // the command, or what is wrong
}

func (u *Unhandled) Error() string {
	if u.Line == 0 {
		return u.Text
	}
	return fmt.Sprintf("line %d: %s", u.Line, u.Text)
}

// Limits of what a script may ask for. Those of packages stay far below.
const (
	maxScript = 128 << 10 // bytes
	maxSteps  = 100_000
	maxDepth  = 50
	maxOutput = 1 << 20 // bytes of all that it writes, to variables and files
	maxValue  = 4 << 10 // bytes of a variable
	// walkSteps is what it costs to look through the tree.
	walkSteps = 500
)

// Do changes the tree as the script says, and gives what it did, one thing a line, in
// the order of the script: nothing where the script leaves the tree as it is. Its
// error is *Unhandled when the script holds what nobody can do without running it;
// part of the script may have been done by then.
func Do(t *rootfs.Tree, s Script) ([]string, error) {
	if err := checkInterpreter(s.Content); err != nil {
		return nil, err
	}
	if len(s.Content) > maxScript {
		return nil, &Unhandled{0, fmt.Sprintf("it has %d bytes", len(s.Content))}
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(bytes.NewReader(s.Content), "")
	if err != nil {
		if perr, ok := errors.AsType[syntax.ParseError](err); ok {
			return nil, &Unhandled{int(perr.Pos.Line()), perr.Text}
		}
		return nil, &Unhandled{0, err.Error()}
	}
	r := &reader{tree: t, args: s.Args, vars: map[string]string{
		"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "IFS": " \t\n", "PWD": "/",
	}, functions: map[string]*syntax.Stmt{}, dir: "/", umask: 0o022, steps: new(int), written: new(int)}
	err = r.statements(file.Stmts, io.Discard)
	if is[*exit](err) || is[*leave](err) {
		err = nil // what a script's status is decides nothing: apk installs all the same
	}
	return r.did, err
}

// is tells whether err is of type E.
func is[E error](err error) bool {
	_, found := errors.AsType[E](err)
	return found
}

// shells are the interpreters whose language is read, by the last word of their path.
var shells = []string{"sh", "ash", "dash", "bash"}

func checkInterpreter(content []byte) error {
	line, _, _ := strings.Cut(string(content), "\n")
	text, found := strings.CutPrefix(line, "#!")
	if !found {
		return nil // apk runs it by the shell, if at all
	}
	words := strings.Fields(text)
	for len(words) > 0 {
		name := path.Base(words[0])
		switch {
		case slices.Contains(shells, name):
			return nil
		case name == "busybox" || name == "env":
			words = words[1:]
			continue
		}
		break
	}
	return &Unhandled{1, fmt.Sprintf("%s: the interpreter is no shell", line)}
}

// reader goes through one script.
type reader struct {
	tree      *rootfs.Tree
	args      []string
	vars      map[string]string
	functions map[string]*syntax.Stmt
	dir       string // where it stands
	status    int    // of the last command
	last      int    // of the command before this one
	errexit   bool   // set -e
	umask     fs.FileMode
	steps     *int // shared with what is in subshells, as are the bytes written
	written   *int
	depth     int
	tested    int // how many conditions it is inside of, where a failure is no end
	did       []string
}

// exit is the end of the script.
type exit struct{ status int }

func (*exit) Error() string { return "exit" }

// leave is the end of a function or a step of a loop.
type leave struct{ word string }

func (l *leave) Error() string { return l.word }

func (r *reader) note(format string, args ...any) {
	r.did = append(r.did, fmt.Sprintf(format, args...))
}

// unhandled says that a statement can't be done. Its text is the script's own, shortened.
func unhandled(node syntax.Node, why string) error {
	var b strings.Builder
	text := why
	if err := syntax.NewPrinter(syntax.SingleLine(true)).Print(&b, node); err == nil {
		text = strings.TrimSpace(b.String())
		if first, rest, several := strings.Cut(text, "\n"); several && rest != "" {
			text = first + " ..."
		}
		if len(text) > 120 {
			text = text[:120] + " ..."
		}
		if why != "" {
			text += " (" + why + ")"
		}
	}
	return &Unhandled{int(node.Pos().Line()), text}
}

func (r *reader) statements(list []*syntax.Stmt, out io.Writer) error {
	for _, s := range list {
		if err := r.statement(s, out); err != nil {
			return err
		}
		if r.errexit && r.status != 0 && r.tested == 0 {
			return &exit{r.status}
		}
	}
	return nil
}

// condition goes through what decides where to go on.
func (r *reader) condition(list []*syntax.Stmt, out io.Writer) error {
	r.tested++
	defer func() { r.tested-- }()
	return r.statements(list, out)
}

func (r *reader) statement(s *syntax.Stmt, out io.Writer) (err error) {
	if *r.steps++; *r.steps > maxSteps {
		return unhandled(s, "the script does not come to an end")
	}
	if r.depth++; r.depth > maxDepth {
		return unhandled(s, "too deep")
	}
	defer func() { r.depth-- }()
	if s.Background || s.Coprocess || s.Disown {
		return unhandled(s, "in the background")
	}
	to, err := r.redirect(s, out)
	if err != nil {
		return err
	}
	if s.Negated {
		r.tested++
		defer func() {
			r.tested--
			if r.status == 0 {
				r.status = 1
			} else {
				r.status = 0
			}
		}()
	}
	if s.Cmd == nil {
		r.status = 0
		return to.close(r, s)
	}
	if err := r.command(s, s.Cmd, to); err != nil {
		return err
	}
	return to.close(r, s)
}

// target is where the output of a statement goes, and what it reads.
type target struct {
	io.Writer
	file   string // written when the statement is done
	text   *bytes.Buffer
	append bool
	input  *string
}

// redirect looks at where output goes: to nowhere, to another stream, or to a file of the tree.
func (r *reader) redirect(s *syntax.Stmt, out io.Writer) (*target, error) {
	to := &target{Writer: out}
	for _, d := range s.Redirs {
		number := ""
		if d.N != nil {
			number = d.N.Value
		}
		switch d.Op {
		case syntax.Hdoc, syntax.DashHdoc:
			text, err := expand.Document(r.config(), d.Hdoc)
			if err != nil {
				return nil, unhandled(s, err.Error())
			}
			to.input = &text
			continue
		}
		word, err := expand.Literal(r.config(), d.Word)
		if err != nil {
			return nil, unhandled(s, err.Error())
		}
		switch d.Op {
		case syntax.RdrOut, syntax.AppOut, syntax.RdrClob:
			file := r.path(word)
			if number == "2" {
				if file != "/dev/null" {
					return nil, unhandled(s, "errors are written to a file")
				}
				continue
			}
			if file == "/dev/null" || file == "/dev/stderr" || file == "/dev/stdout" {
				if file != "/dev/stdout" {
					to.Writer = io.Discard
				}
				continue
			}
			if number != "" && number != "1" || to.file != "" {
				return nil, unhandled(s, "where its output goes")
			}
			to.text = &bytes.Buffer{}
			to.Writer, to.file, to.append = &limited{to.text, r.written}, file, d.Op == syntax.AppOut
		case syntax.DplOut: // >&2
			if number != "2" && word == "2" {
				to.Writer = io.Discard
			}
		case syntax.RdrIn:
			if number != "" && number != "0" {
				return nil, unhandled(s, "where its input comes from")
			}
			text := ""
			if file := r.path(word); file != "/dev/null" {
				data, err := r.tree.ReadFile(file)
				if err != nil {
					return nil, unhandled(s, err.Error())
				}
				text = string(data)
			}
			to.input = &text
		default:
			return nil, unhandled(s, "")
		}
	}
	return to, nil
}

// close writes the file that the statement's output went to.
func (t *target) close(r *reader, s *syntax.Stmt) error {
	if t.file == "" {
		return nil
	}
	data := t.text.Bytes()
	if t.append {
		before, err := r.tree.ReadFile(t.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unhandled(s, err.Error())
		}
		data = slices.Concat(before, data)
	}
	if dir, found := r.tree.Stat(path.Dir(t.file)); path.Dir(t.file) != "/" && (!found || !dir.Mode.IsDir()) {
		r.status = 1
		return nil
	}
	if before, err := r.tree.ReadFile(t.file); err == nil && bytes.Equal(before, data) {
		return nil
	}
	if err := r.tree.WriteFile(t.file, slices.Clone(data), r.newMode(t.file)); err != nil {
		return unhandled(s, err.Error())
	}
	r.note("write %s", t.file)
	return nil
}

// newMode is the mode that a new file gets, 0 for one that is there and keeps its own.
func (r *reader) newMode(file string) fs.FileMode {
	if _, found := r.tree.Stat(file); found {
		return 0
	}
	return 0o666 &^ r.umask
}

func (r *reader) command(s *syntax.Stmt, c syntax.Command, out *target) error {
	switch c := c.(type) {
	case *syntax.CallExpr:
		return r.call(s, c, out)
	case *syntax.Block:
		return r.statements(c.Stmts, out)
	case *syntax.Subshell:
		return r.subshell(func(inner *reader) error { return inner.statements(c.Stmts, out) })
	case *syntax.BinaryCmd:
		return r.binary(s, c, out)
	case *syntax.IfClause:
		return r.ifClause(c, out)
	case *syntax.CaseClause:
		return r.caseClause(s, c, out)
	case *syntax.ForClause:
		return r.forClause(s, c, out)
	case *syntax.FuncDecl:
		r.functions[c.Name.Value], r.status = c.Body, 0
		return nil
	}
	return unhandled(s, "")
}

// subshell goes through a part whose variables and folder are its own.
func (r *reader) subshell(part func(*reader) error) error {
	inner := *r
	inner.vars = map[string]string{}
	for name, value := range r.vars {
		inner.vars[name] = value
	}
	err := part(&inner)
	if ended, ok := errors.AsType[*exit](err); ok {
		inner.status, err = ended.status, nil
	}
	r.status, r.did = inner.status, inner.did
	return err
}

func (r *reader) binary(s *syntax.Stmt, c *syntax.BinaryCmd, out io.Writer) error {
	if c.Op != syntax.AndStmt && c.Op != syntax.OrStmt {
		return unhandled(s, "a pipe")
	}
	if err := r.condition([]*syntax.Stmt{c.X}, out); err != nil {
		return err
	}
	if (r.status == 0) == (c.Op == syntax.AndStmt) {
		return r.statement(c.Y, out)
	}
	if c.Op == syntax.AndStmt {
		// set -e does not end a script for what stands left of &&.
		r.tested++
		defer func() { r.tested-- }()
	}
	return nil
}

func (r *reader) ifClause(c *syntax.IfClause, out io.Writer) error {
	for ; c != nil; c = c.Else {
		if len(c.Cond) > 0 {
			if err := r.condition(c.Cond, out); err != nil {
				return err
			}
			if r.status != 0 {
				r.status = 0
				continue
			}
		}
		return r.statements(c.Then, out)
	}
	return nil
}

func (r *reader) caseClause(s *syntax.Stmt, c *syntax.CaseClause, out io.Writer) error {
	word, err := expand.Literal(r.config(), c.Word)
	if err != nil {
		return unhandled(s, err.Error())
	}
	r.status = 0
	for _, item := range c.Items {
		for _, p := range item.Patterns {
			pattern, err := expand.Pattern(r.config(), p)
			if err != nil {
				return unhandled(s, err.Error())
			}
			found, err := matches(pattern, word)
			if err != nil {
				return unhandled(s, err.Error())
			}
			if !found {
				continue
			}
			if item.Op != syntax.Break {
				return unhandled(s, "")
			}
			return r.statements(item.Stmts, out)
		}
	}
	return nil
}

func (r *reader) forClause(s *syntax.Stmt, c *syntax.ForClause, out io.Writer) error {
	loop, ok := c.Loop.(*syntax.WordIter)
	if !ok || c.Select {
		return unhandled(s, "")
	}
	items := r.args
	if loop.InPos.IsValid() {
		var err error
		if items, err = r.fields(loop.Items); err != nil {
			return unhandled(s, err.Error())
		}
	}
	r.status = 0
	for _, item := range items {
		r.vars[loop.Name.Value] = item
		err := r.statements(c.Do, out)
		if l, ok := errors.AsType[*leave](err); ok && l.word != "return" {
			if l.word == "break" {
				break
			}
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// call goes through a simple command: assignments, a function of the script, or a
// command that the composer knows.
func (r *reader) call(s *syntax.Stmt, c *syntax.CallExpr, out *target) error {
	if len(c.Args) == 0 {
		r.status = 0
		return r.assign(s, c.Assigns)
	}
	words, err := r.fields(c.Args)
	if err != nil {
		return r.cause(s, err)
	}
	if len(words) == 0 {
		r.status = 0
		return nil
	}
	if len(c.Assigns) > 0 {
		before := r.vars
		r.vars = map[string]string{}
		for name, value := range before {
			r.vars[name] = value
		}
		defer func() { r.vars = before }()
		if err := r.assign(s, c.Assigns); err != nil {
			return err
		}
	}
	if body := r.functions[words[0]]; body != nil {
		before := r.args
		defer func() { r.args = before }()
		r.args = words[1:]
		err := r.statement(body, out)
		if l, ok := errors.AsType[*leave](err); ok && l.word == "return" {
			err = nil
		}
		return err
	}
	known := r.known(words[0])
	if known == nil {
		return unhandled(s, "")
	}
	r.last, r.status = r.status, 0
	err = known(r, words[1:], out)
	if why, ok := errors.AsType[*cannot](err); ok {
		return unhandled(s, why.text)
	}
	return err
}

// fields expands words. Braces are none to the shell that apk runs, and to package
// expand they are a way to ask for any number of words.
func (r *reader) fields(words []*syntax.Word) ([]string, error) {
	for _, w := range words {
		w := *w
		if syntax.SplitBraces(&w) {
			return nil, errors.New("braces")
		}
	}
	return expand.Fields(r.config(), words...)
}

// cause gives the error of an expansion: one of a command inside of it as it is.
func (r *reader) cause(s *syntax.Stmt, err error) error {
	if inner, ok := errors.AsType[*Unhandled](err); ok {
		return inner
	}
	return unhandled(s, err.Error())
}

func (r *reader) assign(s *syntax.Stmt, list []*syntax.Assign) error {
	for _, a := range list {
		if a.Append || a.Index != nil || a.Array != nil {
			return unhandled(s, "")
		}
		value := ""
		if a.Value != nil {
			var err error
			if value, err = expand.Literal(r.config(), a.Value); err != nil {
				return r.cause(s, err)
			}
		}
		if len(value) > maxValue {
			return unhandled(s, "a long value")
		}
		r.vars[a.Name.Value] = value
	}
	return nil
}

// path is the absolute path that a script means.
func (r *reader) path(p string) string {
	if !strings.HasPrefix(p, "/") {
		p = r.dir + "/" + p
	}
	return path.Clean(p)
}

// config is how words are expanded: by the script's own variables and the tree.
func (r *reader) config() *expand.Config {
	return &expand.Config{
		Env: variables{r},
		CmdSubst: func(w io.Writer, c *syntax.CmdSubst) error {
			return r.subshell(func(inner *reader) error {
				return inner.statements(c.Stmts, &limited{w, r.written})
			})
		},
		ReadDir2: func(dir string) ([]fs.DirEntry, error) { return r.readDir(r.path(dir)) },
	}
}

// limited bounds what a script writes.
type limited struct {
	w       io.Writer
	written *int
}

func (l *limited) Write(p []byte) (int, error) {
	if *l.written += len(p); *l.written > maxOutput {
		return 0, &Unhandled{0, "it writes too much"}
	}
	return l.w.Write(p)
}

// variables are the script's, as package expand asks for them.
type variables struct{ r *reader }

func (v variables) Get(name string) expand.Variable {
	text := func(s string) expand.Variable {
		return expand.Variable{Set: true, Kind: expand.String, Str: s}
	}
	switch name {
	case "@", "*":
		return expand.Variable{Set: true, Kind: expand.Indexed, List: v.r.args}
	case "#":
		return text(strconv.Itoa(len(v.r.args)))
	case "?":
		return text(strconv.Itoa(v.r.status))
	case "0":
		return text("script")
	}
	if n, err := strconv.Atoi(name); err == nil && n > 0 {
		if n <= len(v.r.args) {
			return text(v.r.args[n-1])
		}
		return expand.Variable{}
	}
	if user, found := strings.CutPrefix(name, "HOME "); found {
		// Asked for "~user": never to be looked up on this machine.
		for _, u := range v.r.tree.Users() {
			if u.Name == user {
				return text(u.Home)
			}
		}
		return text("/nonexistent")
	}
	value, set := v.r.vars[name]
	if !set {
		return expand.Variable{}
	}
	return text(value)
}

func (v variables) Each(yield func(string, expand.Variable) bool) {
	for name := range v.r.vars {
		if !yield(name, v.Get(name)) {
			return
		}
	}
}

// Set lets ${x:=y} assign.
func (v variables) Set(name string, value expand.Variable) error {
	if len(value.String()) > maxValue {
		return errors.New("a long value")
	}
	v.r.vars[name] = value.String()
	return nil
}

// readDir lists a folder of the tree.
func (r *reader) readDir(dir string) ([]fs.DirEntry, error) {
	if *r.steps += walkSteps; *r.steps > maxSteps {
		return nil, fs.ErrInvalid
	}
	n, found := r.tree.Stat(dir)
	if dir != "/" && (!found || !n.Mode.IsDir()) {
		return nil, fs.ErrNotExist
	}
	place := ""
	if found {
		place = n.Path
	}
	var list []fs.DirEntry
	for _, n := range r.tree.Below(place) {
		if n.Path != place && (path.Dir(n.Path) == place || place == "" && !strings.Contains(n.Path, "/")) {
			list = append(list, entry{n})
		}
	}
	return list, nil
}

// entry is a node as a folder lists it.
type entry struct{ n *rootfs.Node }

func (e entry) Name() string               { return path.Base(e.n.Path) }
func (e entry) IsDir() bool                { return e.n.Mode.IsDir() }
func (e entry) Type() fs.FileMode          { return e.n.Mode.Type() }
func (e entry) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }
