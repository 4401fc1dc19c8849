package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/pkg/sandbox"
)

// askOnFailure has a build that fails wait for somebody to look inside: a shell in the
// sandbox as it is, then a question.
func (l *line) askOnFailure() (func(context.Context, *build.Pause) (build.Choice, error), error) {
	in, isFile := l.in.(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		return nil, usagef("--interactive needs a terminal\n  hint: tarn shell RECIPE enters the sandbox of a build that failed")
	}
	answers := bufio.NewReader(in)
	return func(ctx context.Context, p *build.Pause) (build.Choice, error) {
		l.progress.pause()
		defer l.progress.resume()
		fmt.Fprintln(l.err, plain(p.Err.Error()))
		text := sandbox.Command{Argv: []string{"/bin/sh", "-c", "while IFS= read -r line; do printf '%s\\n' \"$line\"; done >/tmp/step.sh"}, Stdin: strings.NewReader(build.StepText(p.Step))}
		if err := p.Box.Run(ctx, text); err != nil {
			return build.Abort, shellless(err)
		}
		fmt.Fprintln(l.err, "a shell where it stopped; the step again: sh /tmp/step.sh    leave: exit")
		err := l.enter(ctx, p.Box, p.Env, p.Dir, p.Step.At, nil)
		var left *sandbox.ExitError
		if err != nil && !errors.As(err, &left) {
			return build.Abort, err
		}
		for {
			fmt.Fprint(l.err, "[r]etry the step, go on with the [n]ext, enter the [s]hell again, [a]bort? ")
			answer, err := answers.ReadString('\n')
			if err != nil {
				return build.Abort, nil // the end of input
			}
			switch strings.TrimSpace(strings.ToLower(answer)) {
			case "r", "retry":
				return build.Retry, nil
			case "n", "next", "c", "continue":
				return build.Next, nil
			case "a", "abort", "q":
				return build.Abort, nil
			case "s", "shell":
				if err := l.enter(ctx, p.Box, p.Env, p.Dir, p.Step.At, nil); err != nil && !errors.As(err, &left) {
					return build.Abort, err
				}
			}
		}
	}, nil
}

// dryRun says what would be built, in order, without building or fetching anything.
func (l *line) dryRun(ctx context.Context, wanted []string) error {
	if err := l.openBuilder(nil, 0); err != nil {
		return err
	}
	type row struct {
		Recipe string `json:"recipe"`
		State  string `json:"state"` // cached, build, depends
		Plan   string `json:"plan,omitempty"`
		Why    string `json:"why,omitempty"`
	}
	rows := []row{}
	unknown := map[string]bool{}
	count := map[string]int{}
	for _, name := range l.graph.Only(wanted...).Order() {
		r := row{Recipe: name}
		for _, need := range l.graph.Closure(name) {
			if unknown[need] && r.Why == "" {
				r.State, r.Why = "depends", "on what "+need+" comes out as"
			}
		}
		if err := l.broken[name]; err != nil {
			r.State, r.Why = "depends", "its recipe has mistakes"
		}
		if r.State == "" {
			p, err := l.plan(ctx, l.graph.Script(name))
			if err != nil {
				return err
			}
			result, err := l.builder.Known(p)
			if err != nil {
				return err
			}
			r.Plan, r.State = string(p.ID()), "cached"
			if result == nil {
				r.State, r.Why = "build", "the store does not know this plan"
			} else {
				l.built.Add(name, result)
			}
		}
		unknown[name] = r.State != "cached"
		count[r.State]++
		rows = append(rows, r)
	}
	if l.json {
		return l.printJSON(rows)
	}
	lines := [][]string{{"recipe", "state", ""}}
	for _, r := range rows {
		lines = append(lines, []string{r.Recipe, r.State, r.Why})
	}
	table(l.out, nil, lines)
	fmt.Fprintf(l.out, "would build %d, cached %d, depending on others %d\n", count["build"], count["cached"], count["depends"])
	return nil
}
