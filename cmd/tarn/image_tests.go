package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/tests"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
)

type imageTestOptions struct {
	imageOptions
	runner string
	only   string
	again  bool
	shell  bool
}

func (a *app) imageTestCommand() *cobra.Command {
	var o imageTestOptions
	cmd := &cobra.Command{
		Use:   "test [IMAGE...] [-- COMMAND...]",
		Short: "test images in a sandbox of their own layers",
		Long: `test composes the named images (all of the workspace when none is named), unpacks their
layers and runs what their files say under "tests": programs that must work or must
not be there, files, and services that are started, asked on loopback and stopped as
a container would be. tarn help image tells the language.

Each test has a fresh sandbox: the image's user, environment and folder, a root that
can't be written to, and no network. Files, modes and owners are judged by the layers
themselves. An image whose tests passed with the same bytes is not tested again.

--shell enters the sandbox of a test instead (of the one that --run names, else of the
image alone), with a shell of busybox where the image has none.`,
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				return a.runImageTest(cmd.Context(), o, args[:at], args[at:])
			}
			return a.runImageTest(cmd.Context(), o, args, nil)
		},
	}
	o.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.runner, "runner", "", "what makes sandboxes: namespace (the kernel alone), or a container runtime: oci, crun, runc, runsc, kata-runtime (default: namespace)")
	f.StringVar(&o.only, "run", "", "only tests whose name matches this regular expression")
	f.BoolVar(&o.again, "again", false, "test although the store knows that the image passed")
	f.BoolVar(&o.shell, "shell", false, "enter the sandbox of a test")
	return cmd
}

// imageTestRow is one tested image.
type imageTestRow struct {
	Image   string         `json:"image"`
	Arch    apk.Arch       `json:"arch"`
	Digest  string         `json:"digest"`
	State   string         `json:"state"` // passed, cached, failed, untested
	Seconds float64        `json:"seconds"`
	Tests   []tests.Result `json:"tests,omitempty"`
	// Left out are commands and services of an architecture that this machine cannot run.
	LeftOut int    `json:"leftOut,omitempty"`
	Error   string `json:"error,omitempty"`
}

func (a *app) runImageTest(ctx context.Context, o imageTestOptions, names, command []string) error {
	if len(command) > 0 && !o.shell {
		return usagef("a command behind -- is run with --shell\n  hint: tarn image test IMAGE --shell -- %s", strings.Join(command, " "))
	}
	if o.shell && len(names) != 1 {
		return usagef("--shell enters one image, and %d are named", len(names))
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return usagef("--run: %v", err)
	}
	backend, err := openRunner(o.runner)
	if err != nil {
		return err
	}
	if err := available(backend); err != nil {
		return err
	}
	c, err := a.openComposer(o.imageOptions)
	if err != nil {
		return err
	}
	c.here = true
	specs, mistakes, err := c.specsToDo(names)
	if err != nil {
		return err
	}
	t := &imageTester{composer: c, backend: backend, again: o.again}
	if o.only != "" {
		t.only = only.MatchString
	}
	if o.shell {
		return t.enterImage(ctx, specs[0], command)
	}
	rows := make([][]imageTestRow, len(specs))
	errs, err := c.each(ctx, specs, defaultImages(), func(ctx context.Context, i int, s *images.Spec) (told string, err error) {
		rows[i], told, err = t.test(ctx, s)
		return told, err
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	all := slices.Concat(rows...)
	if slices.ContainsFunc(all, func(r imageTestRow) bool { return r.State == "failed" }) {
		errs = append(errs, &shownError{errors.New("tests of images failed")})
	}
	return errors.Join(a.printImageTests(all), err, mistakes, errors.Join(errs...))
}

// imageTester composes images and tests them.
type imageTester struct {
	*composer
	backend sandbox.Backend
	only    func(name string) bool // nil is all
	again   bool
}

// testVersion changes when what passed before has to be tested again.
const testVersion = 1

// test composes an image and tests it. What failed is told; an error says what could not be
// found out.
func (t *imageTester) test(ctx context.Context, s *images.Spec) (rows []imageTestRow, told string, err error) {
	composed, err := t.compose(ctx, s)
	if err != nil {
		return []imageTestRow{{Image: s.Name(), State: "failed", Error: err.Error()}}, "", err
	}
	for _, image := range composed {
		row, text, err := t.testOne(ctx, s, image)
		rows, told = append(rows, row), told+text
		if err != nil {
			// What failed before is worth to be told.
			_, werr := io.WriteString(t.said, told)
			return rows, "", errors.Join(fmt.Errorf("%s: %w", s.Name(), err), werr)
		}
	}
	return rows, strings.TrimSuffix(told, "\n"), nil
}

func (t *imageTester) testOne(ctx context.Context, s *images.Spec, image *images.Image) (imageTestRow, string, error) {
	arch := image.About.Arch
	row := imageTestRow{Image: s.Name(), Arch: arch, Digest: image.About.Digest, State: "failed"}
	start := time.Now()
	wanted := s.Tests
	if wanted.Empty() {
		row.State = "untested"
		return row, "", nil
	}
	told := ""
	if arch.GoArch() != runtime.GOARCH {
		part := *wanted
		part.Commands, part.Services = nil, nil
		row.LeftOut = len(wanted.Commands) + len(wanted.Services)
		wanted = &part
		told = fmt.Sprintf("%s: %d commands and services are not run: they are for %s\n", s.Name(), row.LeftOut, arch)
	}
	id, err := t.testID(row.Digest, wanted)
	if err != nil {
		return row, "", err
	}
	if !t.again && t.only == nil {
		if found, err := t.store.Recall(id, &row.Tests); err != nil {
			return row, "", err
		} else if found {
			row.State = "cached"
			return row, told, nil
		}
	}
	row.Tests, err = t.run(ctx, s, image, wanted)
	row.Seconds = time.Since(start).Seconds()
	failed := 0
	for i := range row.Tests {
		if r := &row.Tests[i]; !r.Passed {
			failed++
			told += t.failure(s, r)
		}
	}
	switch {
	case err != nil:
		row.Error = err.Error()
		return row, told, err
	case failed > 0:
		row.Error = fmt.Sprintf("%d of %d tests failed", failed, len(row.Tests))
		return row, told, nil
	case len(row.Tests) == 0:
		row.State = "untested"
		return row, told, nil
	}
	row.State = "passed"
	if t.only != nil {
		return row, told, nil
	}
	return row, told, t.store.Remember(id, row.Tests)
}

// testID covers all that decides whether an image passes.
func (t *imageTester) testID(digest string, wanted *images.Tests) (store.ActionID, error) {
	text, err := json.Marshal(wanted)
	if err != nil {
		return "", err
	}
	h := store.NewHash("image test")
	h.Line("version", testVersion)
	h.Line("image", digest)
	h.Line("tests", string(text))
	h.Line("runner", t.backend.Name())
	return h.Sum(), nil
}

func (t *imageTester) run(ctx context.Context, s *images.Spec, image *images.Image, wanted *images.Tests) ([]tests.Result, error) {
	t.begin(s, "unpack")
	root, err := t.unpack(ctx, image)
	if err != nil {
		return nil, err
	}
	tester := t.tester()
	if t.stage != nil {
		tester.Begin = func(kind, name string) { t.stage(s.Name(), "test", kind+" "+name) }
	}
	return tester.Run(ctx, root, wanted, t.only)
}

func (t *imageTester) unpack(ctx context.Context, image *images.Image) (*tests.Root, error) {
	oci, err := image.OCI()
	if err != nil {
		return nil, err
	}
	return tests.Open(ctx, t.store, oci)
}

func (t *imageTester) tester() *tests.Runner {
	return &tests.Runner{Store: t.store, Backend: t.backend}
}

// failureLines is how many lines are shown of what a program printed.
const failureLines = 20

// failure tells a failed test: what was wrong, what was run, how it ended, what it printed,
// and how to look inside.
func (t *imageTester) failure(s *images.Spec, r *tests.Result) string {
	var b strings.Builder
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "%s: %s %s: %s\n", s.Name(), r.Kind, r.Test, f.Text)
		if len(f.Command) > 0 {
			fmt.Fprintf(&b, "  command: %s\n", shellquote.Join(f.Command...))
		}
		if f.Ended != "" && !strings.Contains(f.Text, f.Ended) {
			fmt.Fprintf(&b, "  ended: %s\n", f.Ended)
		}
		printed(&b, "output", f.Output)
		printed(&b, "standard error", f.Stderr)
	}
	if r.Kind == tests.KindCommand || r.Kind == tests.KindService {
		fmt.Fprintf(&b, "  look inside: tarn image test %s --shell --run %s\n", s.Name(), singleQuoted("^"+regexp.QuoteMeta(r.Test)+"$"))
	}
	return b.String()
}

// singleQuoted is text as a word of the shell.
func singleQuoted(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// printed tells the last lines of what a program printed.
func printed(b *strings.Builder, what, text string) {
	// Protocols end lines in two characters.
	text = strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	if text == "" {
		return
	}
	lines := strings.Split(text, "\n")
	if len(lines) > failureLines {
		fmt.Fprintf(b, "  %s, the last %d of %d lines:\n", what, failureLines, len(lines))
		lines = lines[len(lines)-failureLines:]
	} else {
		fmt.Fprintf(b, "  %s:\n", what)
	}
	for _, line := range lines {
		b.WriteString("    " + line + "\n")
	}
}

func (a *app) printImageTests(rows []imageTestRow) error {
	if a.json {
		return a.printJSON(rows)
	}
	count := map[string]int{}
	lines := [][]string{{"image", "arch", "state", "files", "absent", "commands", "services", "time"}}
	for _, r := range rows {
		count[r.State]++
		line := []string{r.Image, string(r.Arch), r.State}
		for _, kind := range []string{tests.KindFile, tests.KindAbsent, tests.KindCommand, tests.KindService} {
			all := slices.DeleteFunc(slices.Clone(r.Tests), func(t tests.Result) bool { return t.Kind != kind })
			bad := slices.DeleteFunc(slices.Clone(all), func(t tests.Result) bool { return t.Passed })
			cell := strconv.Itoa(len(all))
			if len(bad) > 0 {
				cell = fmt.Sprintf("%d of %d failed", len(bad), len(all))
			}
			line = append(line, cell)
		}
		lines = append(lines, append(line, shortDuration(time.Duration(r.Seconds*float64(time.Second)))))
	}
	table(a.out, map[int]bool{3: true, 4: true, 5: true, 6: true, 7: true}, lines)
	fmt.Fprintf(a.out, "passed %d, cached %d, failed %d, untested %d\n", count["passed"], count["cached"], count["failed"], count["untested"])
	return nil
}

// enterImage opens a shell, or runs a command, in the sandbox of a test.
func (t *imageTester) enterImage(ctx context.Context, s *images.Spec, command []string) error {
	composed, err := t.compose(ctx, s)
	if err != nil {
		return err
	}
	image := composed[0]
	root, err := t.unpack(ctx, image)
	if err != nil {
		return err
	}
	var below []string
	if _, found := root.Tree.Stat("/bin/sh"); !found {
		if below, err = t.lentShell(ctx, s, image.About.Arch); err != nil {
			return err
		}
	}
	box, err := t.tester().Enter(ctx, root, s.Tests, t.only, below)
	if err != nil {
		return err
	}
	defer box.Close()
	return t.enter(ctx, box, box.Env, box.Dir, s.Name(), command)
}

// lentShell gives the folders of busybox and what it needs, for an image without a shell.
func (t *imageTester) lentShell(ctx context.Context, s *images.Spec, arch apk.Arch) ([]string, error) {
	from, err := t.sources(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	lock, err := from.set.Resolve(ctx, arch, []solve.Requirement{{Dependency: apk.Dependency{Name: "busybox"}, From: "--shell"}}, solve.Options{AnyRevision: true})
	if err != nil {
		return nil, fmt.Errorf("%s has no shell, and there is none to lend: %w", s.Name(), err)
	}
	fmt.Fprintf(t.err, "%s has no shell: busybox is lent to it\n", s.Name())
	env, err := environment.Assemble(ctx, t.store, lock, environment.Options{Arch: arch})
	if err != nil {
		return nil, err
	}
	return env.Layers, nil
}
