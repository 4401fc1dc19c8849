package scriptlet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/pattern"

	"github.com/tarn-build/tarn/pkg/rootfs"
)

// command is what the composer does in the place of a program. It sets the status, and
// gives *cannot for a way of using the program that it does not know.
type command func(r *reader, args []string, out *target) error

// cannot is a use of a command that nobody can do without running it.
type cannot struct{ text string }

func (c *cannot) Error() string { return c.text }

func cannotf(format string, args ...any) error { return &cannot{fmt.Sprintf(format, args...)} }

// commands are those that the composer knows, by name. What is done in every image
// needs nothing here: the composer writes the cache of the loader of libraries, the
// bundle of certificates and the links to busybox whether or not a script asks for it.
// Where services are told to start there are none to start while an image is composed.
var commands map[string]command

func init() { // not by its declaration: commands call commands
	commands = map[string]command{
		":": nothing, "true": nothing, "sync": nothing, "umask": umask, "wait": nothing, "trap": trap, "logger": nothing, "sleep": nothing,
		"false": func(r *reader, _ []string, _ *target) error { r.status = 1; return nil },
		"exit":  end("exit"), "return": end("return"), "break": end("break"), "continue": end("continue"),
		"set": set, "export": export, "local": export, "readonly": export, "unset": unset, "shift": shift, "cd": cd,
		"echo": echo, "printf": printf, "cat": cat,
		"[": test, "test": test,
		"basename": basename, "dirname": dirname, "readlink": readlink, "command": run, "which": lookup, "type": lookup,
		"grep": grep, "getent": getent, "id": id,
		"mkdir": mkdir, "install": install, "touch": touch, "cp": cp, "ln": ln, "chmod": chmod, "chown": chown, "chgrp": chgrp, "rm": remove, "rmdir": remove,
		"adduser": adduser, "addgroup": addgroup, "useradd": useradd, "groupadd": groupadd, "usermod": usermod, "gpasswd": usermod, "passwd": lockPassword,
		"update-alternatives": alternatives, "alternatives": alternatives,
		"ldconfig": nothing, "update-ca-certificates": nothing, "trust": trust, "busybox": busybox,
		"systemctl": systemctl, "service": nothing, "rc-service": nothing, "pkill": nothing, "killall": nothing,
	}
}

func nothing(*reader, []string, *target) error { return nil }

// end ends the script, a function, or a step of a loop.
func end(word string) command {
	return func(r *reader, args []string, _ *target) error {
		r.status = r.last
		if len(args) > 0 {
			n, err := strconv.Atoi(args[0])
			if err != nil || n != 1 && (word == "break" || word == "continue") {
				return cannotf("")
			}
			r.status = n
		}
		switch word {
		case "exit":
			return &exit{r.status}
		case "break", "continue":
			r.status = 0
		}
		return &leave{word}
	}
}

func set(r *reader, args []string, _ *target) error {
	for _, a := range args {
		switch {
		case a == "--":
			return cannotf("it sets its own arguments")
		case strings.HasPrefix(a, "-") && strings.Contains(a, "e"):
			r.errexit = true
		case strings.HasPrefix(a, "+") && strings.Contains(a, "e"):
			r.errexit = false
		case !strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "+") && a != "pipefail":
			return cannotf("it sets its own arguments")
		}
	}
	return nil
}

func export(r *reader, args []string, _ *target) error {
	for _, a := range args {
		name, value, found := strings.Cut(a, "=")
		if len(value) > maxValue {
			return cannotf("a long value")
		}
		if found {
			r.vars[name] = value
		}
	}
	return nil
}

func unset(r *reader, args []string, _ *target) error {
	function := len(args) > 0 && args[0] == "-f"
	for _, a := range args {
		if function {
			delete(r.functions, a)
		} else {
			delete(r.vars, a)
		}
	}
	return nil
}

// umask sets what new files and folders do not have of their modes.
func umask(r *reader, args []string, out *target) error {
	if len(args) == 0 {
		_, err := fmt.Fprintf(out, "%04o\n", r.umask)
		return err
	}
	mask, err := strconv.ParseUint(args[0], 8, 32)
	if err != nil || len(args) > 1 {
		return cannotf("")
	}
	r.umask = fs.FileMode(mask) & fs.ModePerm
	return nil
}

// trap says what is done when a signal comes: none does here. What is done at the end of
// the script is another thing.
func trap(_ *reader, args []string, _ *target) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) < 2 || args[0] == "" || args[0] == "-" {
		return nil
	}
	for _, when := range args[1:] {
		if when = strings.ToUpper(when); when == "EXIT" || when == "0" || when == "ERR" || when == "DEBUG" || when == "RETURN" {
			return cannotf("what is done at %s", when)
		}
	}
	return nil
}

// run is command: -v asks where a program is, and without it the program is run even where
// a function has its name.
func run(r *reader, args []string, out *target) error {
	if len(args) > 0 && (args[0] == "-v" || args[0] == "-V") {
		return lookup(r, args, out)
	}
	if len(args) > 0 && args[0] == "-p" {
		args = args[1:]
	}
	if len(args) == 0 {
		return nil
	}
	known := r.known(args[0])
	if known == nil {
		return cannotf("")
	}
	return known(r, args[1:], out)
}

// systemctl starts nothing while an image is composed. What is to start with the system
// is links in it, which it makes by the units' own words.
func systemctl(r *reader, args []string, _ *target) error {
	for _, a := range args {
		switch a {
		case "enable", "disable", "reenable", "preset", "preset-all", "mask", "unmask", "link", "set-default", "add-wants", "add-requires", "edit":
			if r.hasProgram("systemctl") {
				return cannotf("it changes which services start")
			}
		}
	}
	return nil
}

func shift(r *reader, args []string, _ *target) error {
	n := 1
	if len(args) > 0 {
		n, _ = strconv.Atoi(args[0])
	}
	if n < 0 || n > len(r.args) {
		r.status = 1
		return nil
	}
	r.args = r.args[n:]
	return nil
}

func cd(r *reader, args []string, _ *target) error {
	if len(args) != 1 {
		return cannotf("")
	}
	dir := r.path(args[0])
	if n, found := r.tree.Stat(dir); dir != "/" && (!found || !n.Mode.IsDir()) {
		r.status = 1
		return nil
	}
	r.dir = dir
	r.vars["PWD"] = dir
	return nil
}

func echo(_ *reader, args []string, out *target) error {
	newline, escapes := "\n", false
	for len(args) > 0 && (args[0] == "-n" || args[0] == "-e" || args[0] == "-ne" || args[0] == "-en") {
		if strings.Contains(args[0], "n") {
			newline = ""
		}
		escapes = escapes || strings.Contains(args[0], "e")
		args = args[1:]
	}
	text := strings.Join(args, " ")
	if escapes {
		var err error
		if text, _, err = expand.Format(nil, strings.ReplaceAll(text, "%", "%%"), nil); err != nil {
			return cannotf("%v", err)
		}
	}
	_, err := io.WriteString(out, text+newline)
	return err
}

func printf(_ *reader, args []string, out *target) error {
	if len(args) == 0 {
		return cannotf("")
	}
	format, rest := args[0], args[1:]
	for {
		text, used, err := expand.Format(nil, format, rest)
		if err != nil {
			return cannotf("%v", err)
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
		if rest = rest[min(used, len(rest)):]; len(rest) == 0 || used == 0 {
			return nil
		}
	}
}

func cat(r *reader, args []string, out *target) error {
	if len(args) == 0 && out.input != nil {
		_, err := io.WriteString(out, *out.input)
		return err
	}
	if len(args) == 0 {
		return cannotf("")
	}
	for _, a := range args {
		data, err := r.tree.ReadFile(r.path(a))
		if errors.Is(err, fs.ErrNotExist) {
			r.status = 1
			continue
		}
		if err != nil || strings.HasPrefix(a, "-") {
			return cannotf("")
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	return nil
}

// stat gives what a path of the script leads to. The root is a folder.
func (r *reader) stat(p string) (*rootfs.Node, bool) {
	p = r.path(p)
	if p == "/" {
		return &rootfs.Node{Inode: &rootfs.Inode{Mode: fs.ModeDir | 0o755}}, true
	}
	return r.tree.Stat(p)
}

// test is the command [ with what conditions of scripts use.
func test(r *reader, args []string, _ *target) error {
	if len(args) > 0 && args[len(args)-1] == "]" {
		args = args[:len(args)-1]
	}
	holds, err := r.test(args)
	if err != nil {
		return err
	}
	if !holds {
		r.status = 1
	}
	return nil
}

func (r *reader) test(args []string) (bool, error) {
	// A binary operator counts before "and" and "or", as POSIX has it for three words.
	if len(args) != 3 {
		for _, operator := range []string{"-o", "-a"} {
			if i := slices.Index(args, operator); i > 0 && i < len(args)-1 {
				left, err := r.test(args[:i])
				if err != nil {
					return false, err
				}
				right, err := r.test(args[i+1:])
				if operator == "-o" {
					return left || right, err
				}
				return left && right, err
			}
		}
	}
	switch len(args) {
	case 0:
		return false, nil
	case 1:
		return args[0] != "", nil
	case 2:
		return r.unary(args[0], args[1])
	case 3:
		if args[0] != "!" {
			return compare(args[0], args[1], args[2])
		}
	}
	if args[0] == "!" {
		holds, err := r.test(args[1:])
		return !holds, err
	}
	return false, cannotf("")
}

func (r *reader) unary(operator, operand string) (bool, error) {
	switch operator {
	case "!":
		return operand == "", nil
	case "-n":
		return operand != "", nil
	case "-z":
		return operand == "", nil
	case "-t":
		return false, nil
	case "-L", "-h":
		n, found := r.tree.Lstat(r.path(operand))
		return found && n.Mode.Type() == fs.ModeSymlink, nil
	}
	n, found := r.stat(operand)
	switch operator {
	case "-e":
		return found, nil
	case "-f":
		return found && n.Mode.IsRegular(), nil
	case "-d":
		return found && n.Mode.IsDir(), nil
	case "-r", "-w": // root may
		return found, nil
	case "-x":
		return found && (n.Mode.IsDir() || n.Mode&0o111 != 0), nil
	case "-s":
		return found && (n.Size > 0 || n.Mode.IsDir()), nil
	case "-c":
		return found && n.Mode&fs.ModeCharDevice != 0, nil
	case "-b":
		return found && n.Mode.Type() == fs.ModeDevice, nil
	case "-p", "-S":
		return false, nil
	}
	return false, cannotf("")
}

func compare(a, operator, b string) (bool, error) {
	switch operator {
	case "=", "==":
		return a == b, nil
	case "!=":
		return a != b, nil
	case "-a":
		return a != "" && b != "", nil
	case "-o":
		return a != "" || b != "", nil
	}
	x, err1 := strconv.ParseInt(strings.TrimSpace(a), 10, 64)
	y, err2 := strconv.ParseInt(strings.TrimSpace(b), 10, 64)
	if err1 != nil || err2 != nil {
		return false, cannotf("")
	}
	switch operator {
	case "-eq":
		return x == y, nil
	case "-ne":
		return x != y, nil
	case "-lt":
		return x < y, nil
	case "-le":
		return x <= y, nil
	case "-gt":
		return x > y, nil
	case "-ge":
		return x >= y, nil
	}
	return false, cannotf("")
}

// matches matches a pattern of the shell against a whole word.
func matches(text, word string) (bool, error) {
	expression, err := pattern.Regexp(text, pattern.EntireString)
	if err != nil {
		return false, err
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		return false, err
	}
	return re.MatchString(word), nil
}

func basename(_ *reader, args []string, out *target) error {
	if len(args) == 0 || len(args) > 2 {
		return cannotf("")
	}
	name := path.Base(args[0])
	if len(args) == 2 && name != args[1] {
		name = strings.TrimSuffix(name, args[1])
	}
	_, err := fmt.Fprintln(out, name)
	return err
}

func dirname(_ *reader, args []string, out *target) error {
	if len(args) != 1 {
		return cannotf("")
	}
	_, err := fmt.Fprintln(out, path.Dir(strings.TrimRight(args[0], "/")))
	return err
}

func readlink(r *reader, args []string, out *target) error {
	follow := len(args) == 2 && (args[0] == "-f" || args[0] == "-e")
	if follow {
		args = args[1:]
	}
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return cannotf("")
	}
	if follow {
		n, found := r.stat(args[0])
		if !found {
			r.status = 1
			return nil
		}
		_, err := fmt.Fprintln(out, "/"+n.Path)
		return err
	}
	n, found := r.tree.Lstat(r.path(args[0]))
	if !found || n.Mode.Type() != fs.ModeSymlink {
		r.status = 1
		return nil
	}
	_, err := fmt.Fprintln(out, n.Target)
	return err
}

// lookup is command -v, which and type: the program of the tree.
func lookup(r *reader, args []string, out *target) error {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-v" || a == "-V" || a == "-s" })
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return cannotf("")
	}
	candidates := []string{args[0]}
	if !strings.Contains(args[0], "/") {
		candidates = r.programs(args[0])
	}
	for _, c := range candidates {
		if r.isProgram(c) {
			_, err := fmt.Fprintln(out, c)
			return err
		}
	}
	r.status = 1
	return nil
}

// programs are the paths at which the shell looks for a program.
func (r *reader) programs(name string) (all []string) {
	for dir := range strings.SplitSeq(r.vars["PATH"], ":") {
		all = append(all, path.Join(dir, name))
	}
	return all
}

func (r *reader) isProgram(p string) bool {
	n, found := r.stat(p)
	return found && n.Mode.IsRegular() && n.Mode&0o111 != 0
}

func (r *reader) hasProgram(name string) bool {
	return slices.ContainsFunc(r.programs(name), r.isProgram)
}

// systemPrograms are the folders in which a program is the one that its name says.
var systemPrograms = []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"}

// known is the command that the composer does in the place of a program, or nil: a
// program in a folder of a package's own may be any, whatever it is called.
func (r *reader) known(name string) command {
	if strings.Contains(name, "/") {
		if !slices.Contains(systemPrograms, path.Dir(name)) {
			return nil
		}
		return commands[path.Base(name)]
	}
	for _, p := range r.programs(name) {
		if !slices.Contains(systemPrograms, path.Dir(p)) && r.isProgram(p) {
			return nil
		}
	}
	return commands[name]
}

// grep asks whether a line of a file of the tree matches. Nothing but -q is known, since
// what it would print goes into a pipe.
func grep(r *reader, args []string, out *target) error {
	quiet, fixed, whole, fold := false, false, false, false
	extended := false
	var rest []string
	for i, a := range args {
		if a == "--" {
			rest = append(rest, args[i+1:]...)
			break
		}
		if len(a) > 1 && a[0] == '-' {
			for _, flag := range a[1:] {
				switch flag {
				case 'q':
					quiet = true
				case 'F':
					fixed = true
				case 'E':
					extended = true
				case 'x':
					whole = true
				case 'i':
					fold = true
				case 's', 'e':
				default:
					return cannotf("")
				}
			}
			continue
		}
		rest = append(rest, a)
	}
	if len(rest) < 1 || !quiet && out.Writer != io.Discard || len(rest) == 1 && out.input == nil {
		return cannotf("")
	}
	expression := rest[0]
	switch {
	case fixed:
		expression = regexp.QuoteMeta(expression)
	case !extended:
		// In a basic expression these stand for themselves, and escaped for what they do.
		if strings.ContainsAny(expression, `\`) {
			return cannotf("its expression")
		}
		for _, c := range "+?(){}|" {
			expression = strings.ReplaceAll(expression, string(c), `\`+string(c))
		}
	}
	if whole {
		expression = "^(?:" + expression + ")$"
	}
	if fold {
		expression = "(?i)" + expression
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		return cannotf("its expression")
	}
	// Line by line: [^:] is any character but a line's end, too.
	matches := func(text string) bool {
		for line := range strings.Lines(text) {
			if re.MatchString(strings.TrimSuffix(line, "\n")) {
				return true
			}
		}
		return false
	}
	r.status = 1
	for _, file := range rest[1:] {
		data, err := r.tree.ReadFile(r.path(file))
		if errors.Is(err, fs.ErrNotExist) {
			r.status = max(r.status, 1)
			continue
		}
		if err != nil {
			return cannotf("%v", err)
		}
		if matches(string(data)) {
			r.status = 0
			return nil
		}
	}
	if len(rest) == 1 && matches(*out.input) {
		r.status = 0
	}
	return nil
}

func busybox(r *reader, args []string, out *target) error {
	if len(args) > 0 && args[0] == "--install" {
		return nil
	}
	if len(args) > 0 && commands[args[0]] != nil {
		return commands[args[0]](r, args[1:], out)
	}
	return cannotf("")
}

// trust extracts the certificates of p11-kit; the composer makes Java's from the bundle.
func trust(_ *reader, args []string, _ *target) error {
	if len(args) > 0 && args[0] == "extract" && slices.Contains(args, "--format=java-cacerts") {
		return nil
	}
	return cannotf("")
}

// flags splits off the options of a command: those of valued take a value. What stands
// behind is in rest.
func flags(args []string, plain, valued string) (set map[byte]string, rest []string, err error) {
	set = map[byte]string{}
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		if a == "--" {
			return set, append(rest, args...), nil
		}
		if len(a) < 2 || a[0] != '-' {
			rest = append(rest, a)
			continue
		}
		for i := 1; i < len(a); i++ {
			switch {
			case strings.IndexByte(plain, a[i]) >= 0:
				set[a[i]] = ""
				continue
			case strings.IndexByte(valued, a[i]) < 0:
				return nil, nil, cannotf("option %s", a)
			case i+1 < len(a):
				set[a[i]] = a[i+1:]
			case len(args) > 0:
				set[a[i]] = args[0]
				args = args[1:]
			default:
				return nil, nil, cannotf("option %s", a)
			}
			break
		}
	}
	return set, rest, nil
}
