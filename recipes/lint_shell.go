package recipes

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/tarn-build/tarn/pkg/diag"
)

// shellRules are about the scripts of a recipe.
var shellRules = []Rule{
	{
		Name: "and-list", Severity: diag.Warning,
		Reason:  "A script goes on when what stands before && fails: set -e looks at the last command of such a list alone. So a failure passes unseen.",
		Example: "pipeline:\n  - runs: |\n      cd src && make\n      touch done",
		Instead: "pipeline:\n  - runs: |\n      cd src\n      make\n      touch done",
		find: func(l *linter) {
			for _, s := range l.shell() {
				eachStatement(s.file, func(stmt *syntax.Stmt) {
					list, ok := stmt.Cmd.(*syntax.BinaryCmd)
					if !ok || list.Op != syntax.AndStmt {
						return
					}
					if first := firstAction(list); first != nil {
						l.inside(s.place(), int(first.Pos().Offset()), "a line each: set -e stops at the first that fails", "%q may fail and the script goes on: && hides it from set -e", commandName(first))
					}
				})
			}
		},
	},
	{
		Name: "background", Severity: diag.Warning, Known: "background-process-without-redirect",
		Reason:  "A process in the background that writes to the step's own output mixes its lines with those of the steps after it, and can keep the step from ending.",
		Example: "test:\n  pipeline:\n    - runs: |\n        xd --serve &\n        x --ping",
		Instead: "test:\n  pipeline:\n    - runs: |\n        xd --serve >xd.log 2>&1 &\n        x --ping",
		find: func(l *linter) {
			for _, s := range l.shell() {
				if writesElsewhere(s.file) {
					continue
				}
				syntax.Walk(s.file, func(n syntax.Node) bool {
					stmt, ok := n.(*syntax.Stmt)
					if !ok {
						return true
					}
					if redirectsOutput(stmt) {
						return false
					}
					if stmt.Background && isTalker(stmt) {
						l.inside(s.place(), int(stmt.Pos().Offset()), "redirect it: >x.log 2>&1 &", "a process in the background writes to the step's output")
						return false
					}
					return true
				})
			}
		},
	},
	{
		Name: "bad-template-var", Severity: diag.Error,
		Reason:  "These are variables of abuild and makepkg. Here they are empty: what was meant is another folder, or none.",
		Example: "pipeline:\n  - runs: make install DESTDIR=$pkgdir",
		Instead: "pipeline:\n  - runs: make install DESTDIR=${{targets.destdir}}",
		find: func(l *linter) {
			for _, s := range l.shell() {
				assigned := assignedNames(s.file)
				syntax.Walk(s.file, func(n syntax.Node) bool {
					p, ok := n.(*syntax.ParamExp)
					if !ok || p.Param == nil {
						return true
					}
					name := p.Param.Value
					if instead, foreign := foreignVariables[name]; foreign && !assigned[name] && !l.inEnvironment(name, s.task) {
						l.inside(s.place(), int(p.Pos().Offset()), "write "+instead, "$%s is a variable of another language, and empty here", name)
					}
					return true
				})
			}
		},
	},
	{
		Name: "download", Severity: diag.Warning,
		Reason:  "A build has no network. What it needs is fetched before it starts, by a digest; a recipe that can't do so says why, at its root: network.",
		Example: "pipeline:\n  - runs: curl -O https://example.org/x.tar.gz",
		Instead: "pipeline:\n  - uses: fetch\n    with:\n      uri: https://example.org/x.tar.gz\n      expected-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		find: func(l *linter) {
			if l.recipe.Network != "" {
				return
			}
			for _, s := range l.shell() {
				if s.test {
					continue // a test may reach what it starts itself
				}
				syntax.Walk(s.file, func(n syntax.Node) bool {
					if call, ok := n.(*syntax.CallExpr); ok && downloads(call) {
						l.inside(s.place(), int(call.Pos().Offset()), downloadHint(call), "%q downloads, and a build has no network", commandLine(call))
					}
					return true
				})
			}
		},
	},
	{
		Name: "network", Severity: diag.Note,
		Reason:  "A recipe that says network: downloads while it builds: what it was made of is not known afterwards, and its packages say so. What package managers download can be had before, by a lock.",
		Example: "network: crates are not in the source\npipeline:\n  - runs: cargo build",
		Instead: "pipeline:\n  - uses: prefetch/cargo\n  - runs: cargo build",
		find: func(l *linter) {
			if l.recipe.Network != "" {
				l.report(l.recipe.Here.Key("network"), "prefetch it: prefetch/go, prefetch/npm, prefetch/cargo, prefetch/pip", "its build downloads: %s", l.recipe.Network)
			}
		},
	},
	{
		Name: "negation", Severity: diag.Warning,
		Reason:  "set -e does not stop at a command that ! inverts, and a step ends with exit 0: whatever the command gives, the step goes on.",
		Example: "test:\n  pipeline:\n    - runs: |\n        ! grep -q debug x.conf\n        x --check",
		Instead: "test:\n  pipeline:\n    - runs: |\n        ! grep -q debug x.conf || exit 1\n        x --check",
		find: func(l *linter) {
			for _, s := range l.shell() {
				eachStatement(s.file, func(stmt *syntax.Stmt) {
					if stmt.Negated {
						l.inside(s.place(), int(stmt.Pos().Offset()), "add || exit 1", "nothing stops when the command after ! succeeds")
					}
				})
			}
		},
	},
	{
		Name: "test-passes", Severity: diag.Warning,
		Reason:  "A test all of whose commands are followed by || true can't fail. It shows nothing.",
		Example: "test:\n  pipeline:\n    - runs: x --help || true",
		Instead: "test:\n  pipeline:\n    - runs: x --help",
		find: func(l *linter) {
			for _, section := range l.recipe.sections() {
				if !section.test || len(section.tasks) == 0 {
					continue
				}
				passes := true
				eachTask(section.tasks, func(t *Task) {
					i := slices.IndexFunc(l.shell(), func(s shellScript) bool { return s.task == t })
					if t.Uses != "" || t.Runs != "" && (i < 0 || slices.ContainsFunc(l.shell()[i].file.Stmts, canFail)) {
						passes = false
					}
				})
				if passes {
					l.report(section.at.Value("pipeline"), "let a command of it fail", "this test can't fail")
				}
			}
		},
	},
}

// foreignVariables are variables of abuild and makepkg, with what is written here.
var foreignVariables = map[string]string{
	"pkgdir": "${{targets.destdir}}", "subpkgdir": "${{targets.contextdir}}", "srcdir": "/home/build, or leave it out", "startdir": "/home/build",
	"builddir": "/home/build, or leave it out", "pkgver": "${{package.version}}", "pkgname": "${{package.name}}", "pkgrel": "${{package.epoch}}",
}

// inEnvironment tells whether a variable is set for a task.
func (l *linter) inEnvironment(name string, t *Task) bool {
	_, global := l.recipe.Environment.Environment[name]
	_, own := t.Environment[name]
	if l.recipe.Test != nil && !global {
		_, global = l.recipe.Test.Environment.Environment[name]
	}
	return global || own
}

// assignedNames are the variables that a script sets in any way.
func assignedNames(file *syntax.File) map[string]bool {
	names := map[string]bool{}
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Assign:
			if n.Name != nil {
				names[n.Name.Value] = true
			}
		case *syntax.WordIter:
			names[n.Name.Value] = true
		case *syntax.CallExpr:
			if name := commandName(n); name == "read" || name == "mapfile" || name == "readarray" {
				for _, w := range n.Args[1:] {
					names[w.Lit()] = true
				}
			}
		case *syntax.Stmt:
			// What another file sets is not known.
			if call, ok := n.Cmd.(*syntax.CallExpr); ok && (commandName(call) == "." || commandName(call) == "source") {
				for name := range foreignVariables {
					names[name] = true
				}
			}
		}
		return true
	})
	return names
}

// eachStatement visits the statements whose own status decides whether set -e stops:
// those of the script, of blocks, branches and loops. Left out is the last one of a
// subshell, a function or a substitution, whose status somebody else looks at.
func eachStatement(file *syntax.File, visit func(*syntax.Stmt)) {
	var list func(stmts []*syntax.Stmt, lastCounts bool)
	var into func(cmd syntax.Command)
	list = func(stmts []*syntax.Stmt, lastCounts bool) {
		for i, s := range stmts {
			if i < len(stmts)-1 || lastCounts {
				visit(s)
			}
			into(s.Cmd)
		}
	}
	into = func(cmd syntax.Command) {
		switch c := cmd.(type) {
		case *syntax.Block:
			list(c.Stmts, true)
		case *syntax.Subshell:
			list(c.Stmts, false)
		case *syntax.FuncDecl:
			if b, ok := c.Body.Cmd.(*syntax.Block); ok {
				list(b.Stmts, false)
			}
		case *syntax.IfClause:
			for clause := c; clause != nil; clause = clause.Else {
				list(clause.Then, true)
			}
		case *syntax.WhileClause:
			list(c.Do, true)
		case *syntax.ForClause:
			list(c.Do, true)
		case *syntax.CaseClause:
			for _, item := range c.Items {
				list(item.Stmts, true)
			}
		}
	}
	list(file.Stmts, true)
}

// actions are commands that are run for what they do, not to ask something.
var actions = []string{
	"cd", "pushd", "make", "gmake", "cmake", "meson", "ninja", "configure", "autoreconf", "autogen.sh", "bootstrap", "bootstrap.sh", "cp", "mv", "mkdir", "install",
	"tar", "unzip", "patch", "go", "cargo", "npm", "pnpm", "yarn", "pip", "pip3", "gem", "bundle", "rake", "mvn", "gradle", "gradlew", "mvnw", "chmod", "chown", "ln", "sed",
}

// firstAction is the first command before && that does something; nil where all of them ask.
func firstAction(list *syntax.BinaryCmd) *syntax.CallExpr {
	if left, ok := list.X.Cmd.(*syntax.BinaryCmd); ok {
		if left.Op != syntax.AndStmt {
			return nil
		}
		if found := firstAction(left); found != nil {
			return found
		}
		list = left
		if call, ok := list.Y.Cmd.(*syntax.CallExpr); ok && isAction(call) {
			return call
		}
		return nil
	}
	if call, ok := list.X.Cmd.(*syntax.CallExpr); ok && !list.X.Negated && isAction(call) {
		return call
	}
	return nil
}

func isAction(call *syntax.CallExpr) bool {
	if len(call.Args) == 0 {
		return false
	}
	return slices.Contains(actions, path.Base(commandName(call)))
}

// commandName is the command of a call, "" where it is made of more than letters.
func commandName(call *syntax.CallExpr) string {
	if call == nil || len(call.Args) == 0 {
		return ""
	}
	return call.Args[0].Lit()
}

// commandLine is the first words of a call.
func commandLine(call *syntax.CallExpr) string {
	words := []string{commandName(call)}
	for _, w := range call.Args[1:] {
		if word := w.Lit(); len(words) < 2 && word != "" && !strings.HasPrefix(word, "-") && !strings.Contains(word, "/") {
			words = append(words, word)
		}
	}
	if len(words) > 1 && (words[0] == "curl" || words[0] == "wget") {
		words = words[:1]
	}
	return strings.Join(words, " ")
}

// downloadHint is the way to have what a call downloads before the build.
func downloadHint(call *syntax.CallExpr) string {
	switch name := commandName(call); name {
	case "go", "npm", "cargo":
		return "put - uses: prefetch/" + name + " before it"
	}
	return "use fetch or git-checkout, with a digest"
}

// downloads tells whether a call can't do without a network.
func downloads(call *syntax.CallExpr) bool {
	var words []string
	for _, w := range call.Args {
		text := w.Lit()
		if text == "" {
			var b strings.Builder
			_ = syntax.NewPrinter().Print(&b, w)
			text = b.String()
		}
		words = append(words, text)
	}
	if len(words) == 0 {
		return false
	}
	has := func(some ...string) bool {
		return slices.ContainsFunc(words[1:], func(w string) bool { return slices.Contains(some, w) })
	}
	verb := ""
	for _, w := range words[1:] {
		if !strings.HasPrefix(w, "-") {
			verb = w
			break
		}
	}
	switch words[0] {
	case "curl", "wget":
		return slices.ContainsFunc(words[1:], func(w string) bool {
			return isAddress(w) && !strings.Contains(w, "localhost") && !strings.Contains(w, "127.0.0.1") && !strings.Contains(w, "file://")
		})
	case "git":
		return has("clone") && slices.ContainsFunc(words[1:], isAddress) || has("submodule") && has("update", "--init")
	case "go":
		return verb == "get" || verb == "mod" && has("download", "tidy", "vendor") || verb == "install" && slices.ContainsFunc(words[1:], func(w string) bool { return strings.Contains(w, "@") })
	case "npm", "pnpm":
		return (verb == "ci" || verb == "install" || verb == "i") && !has("--offline")
	case "yarn":
		return (verb == "install" || verb == "") && !has("--offline", "--version")
	case "cargo":
		return (verb == "fetch" || verb == "install") && !has("--offline") && !has("--path")
	case "bundle":
		return verb == "install" && !has("--local")
	case "mvn", "./mvnw", "gradle", "./gradlew":
		return !has("--offline", "-o", "--version")
	}
	return false
}

var outputs = []syntax.RedirOperator{syntax.RdrOut, syntax.AppOut, syntax.RdrClob, syntax.RdrAll, syntax.AppAll, syntax.DplOut}

// redirectsOutput tells whether a statement sends its output elsewhere.
func redirectsOutput(s *syntax.Stmt) bool {
	if slices.ContainsFunc(s.Redirs, func(r *syntax.Redirect) bool { return slices.Contains(outputs, r.Op) }) {
		return true
	}
	if pipe, ok := s.Cmd.(*syntax.BinaryCmd); ok && (pipe.Op == syntax.Pipe || pipe.Op == syntax.PipeAll) {
		return redirectsOutput(pipe.Y)
	}
	return false
}

// writesElsewhere tells whether a script sends all that it writes to a file.
func writesElsewhere(file *syntax.File) bool {
	return slices.ContainsFunc(file.Stmts, func(s *syntax.Stmt) bool {
		call, ok := s.Cmd.(*syntax.CallExpr)
		return ok && commandName(call) == "exec" && len(call.Args) == 1 && redirectsOutput(s)
	})
}

// isTalker tells whether a statement runs anything that may write.
func isTalker(s *syntax.Stmt) bool {
	talks := false
	syntax.Walk(s, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 && !slices.Contains([]string{"sleep", "wait", "kill", "true", ":", "exit"}, commandName(call)) {
			talks = true
		}
		return !talks
	})
	return talks
}

// canFail tells whether a statement of a test can make it fail.
func canFail(s *syntax.Stmt) bool {
	if s.Negated || s.Background {
		return false
	}
	switch c := s.Cmd.(type) {
	case nil:
		return false
	case *syntax.CallExpr:
		return len(c.Args) > 0 && !slices.Contains([]string{"echo", "printf", "true", ":", "set", "export"}, commandName(c))
	case *syntax.BinaryCmd:
		return c.Op != syntax.OrStmt || canFail(c.Y)
	}
	return true
}
