package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/pkg/sandbox"
)

type shellOptions struct {
	lineFlags
	test  bool
	fresh bool
}

func (a *app) shellCommand() *cobra.Command {
	var o shellOptions
	cmd := &cobra.Command{
		Use:   "shell RECIPE [-- COMMAND...]",
		Short: "go into the sandbox of a build that failed",
		Long: `shell enters the sandbox that is kept of a recipe's last failed build, where the step
that failed works, with its environment and without network. The step's text is the
file /tmp/step.sh there: sh /tmp/step.sh does it again.

What is changed in the work folder stays; tarn build --from-step goes on there. When no
build of the recipe failed, shell enters a fresh sandbox with its environment, which
is gone afterwards.

Without a terminal, the shell reads its commands from standard input.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRecipes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); len(args) > 1 && at != 1 {
				return usagef("shell: one recipe is entered, and a command stands behind --\n  hint: tarn shell %s -- %s", args[0], strings.Join(args[1:], " "))
			}
			return a.runShell(cmd.Context(), o, args[0], args[1:])
		},
	}
	o.lineFlags.add(cmd)
	o.addLimits(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.test, "test", false, "enter the sandbox of a failed test; the argument is the package's name")
	f.BoolVar(&o.fresh, "fresh", false, "enter a fresh sandbox although one is kept")
	return cmd
}

func (a *app) runShell(ctx context.Context, o shellOptions, name string, command []string) error {
	backend, err := openRunner(o.runner)
	if err != nil {
		return err
	}
	if err := available(backend); err != nil {
		return err
	}
	k, release, err := a.findSandbox(ctx, &o, name)
	if err != nil {
		return err
	}
	defer release()
	box, err := k.Open(ctx, backend)
	if err != nil {
		return err
	}
	defer box.Close()
	var said *sandbox.ExitError
	in, isFile := a.in.(*os.File)
	interactive := isFile && term.IsTerminal(int(in.Fd())) && isTerminal(a.out)
	switch {
	case k.At != "":
		fmt.Fprintln(a.err, plain(fmt.Sprintf("%s: as %s left it%s: %s", k.Name, k.At, inBrackets(k.Step), k.Error)))
	case interactive:
		fmt.Fprintf(a.err, "%s: nothing has failed here; exit leaves\n", plain(k.Name))
	}
	if k.At != "" && interactive {
		fmt.Fprintln(a.err, "the step again: sh /tmp/step.sh    leave: exit    then go on: tarn build --from-step "+k.At+" "+plain(k.Name))
	}
	if len(k.Left) > 0 {
		fmt.Fprintf(a.err, "not set, as they may be secret: %s\n", plain(strings.Join(k.Left, ", ")))
	}
	err = a.enter(ctx, box, k.Env, k.Dir, k.Name, command)
	if errors.As(err, &said) && said.Limit == "" && len(command) == 0 && interactive {
		return nil // the status of whatever was typed last
	}
	return err
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// findSandbox gives what is kept of a recipe's build or a package's test, or a fresh one.
func (a *app) findSandbox(ctx context.Context, o *shellOptions, name string) (*build.Kept, func(), error) {
	none := func() {}
	if o.test {
		st, err := a.openStore()
		if err != nil {
			return nil, none, err
		}
		k, err := build.FindKept(st, name, true)
		if err == nil && k == nil {
			err = usagef("no sandbox of a failed test of %q is kept\n  hint: the name is that of a package; tarn test runs tests", name)
		}
		return k, none, err
	}
	arches, err := parseArches(o.arches)
	if err != nil {
		return nil, none, err
	}
	l, wanted, err := a.openLine(ctx, &o.lineFlags, arches[0], []string{name})
	if err != nil {
		return nil, none, err
	}
	if len(wanted) != 1 {
		return nil, none, fmt.Errorf("the recipe %s has mistakes", name)
	}
	if !o.fresh {
		if k, err := build.FindKept(l.store, wanted[0], false); err != nil || k != nil {
			return k, none, err
		}
	}
	if _, err := l.buildNeeds(ctx, wanted); err != nil {
		return nil, none, err
	}
	if err := l.openBuilder(nil, 0); err != nil {
		return nil, none, err
	}
	p, err := l.plan(ctx, l.graph.Script(wanted[0]))
	if err != nil {
		return nil, none, err
	}
	return l.builder.Fresh(ctx, p)
}

// enter runs a shell, or one command, in an open sandbox. On a terminal it gets one of its
// own, so that Ctrl-C ends what runs inside and not the sandbox.
func (a *app) enter(ctx context.Context, box sandbox.Sandbox, env []string, dir, name string, command []string) error {
	c := sandbox.Command{Argv: []string{"/bin/sh"}, Dir: "/", Env: env}
	// The folder may be one that the step was going to make.
	const there = `cd "$0" 2>/dev/null || cd /home/build; `
	if len(command) > 0 {
		c.Argv = append([]string{"/bin/sh", "-c", there + `exec "$@"`, dir}, command...)
	} else {
		c.Argv = []string{"/bin/sh", "-c", there + `exec /bin/sh "$@"`, dir}
	}
	in, isFile := a.in.(*os.File)
	out, isOut := a.out.(*os.File)
	if isFile && isOut && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd())) {
		c.Env = append(c.Env, "TERM="+os.Getenv("TERM"), "HISTFILE=/tmp/.history")
		if len(command) == 0 {
			// A shell that is not interactive drops an inherited prompt.
			c.Argv = []string{"/bin/sh", "-c", there + `PS1=$1 exec /bin/sh -i`, dir, "[" + name + `] \w \$ `}
		}
		return shellless(sandbox.RunTerminal(ctx, box, c, in, out))
	}
	c.Stdin, c.Stdout, c.Stderr = io.Reader(a.in), a.out, a.err
	return shellless(box.Run(ctx, c))
}

// shellless adds the way out where an environment has no shell.
func shellless(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w\n  hint: the environment has no shell: add a package that brings one, such as busybox", err)
	}
	return err
}
