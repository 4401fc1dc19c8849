package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/recipes"
)

// app is what every verb has: the streams, the global flags, and what they open.
type app struct {
	streams
	workspaceDir string
	noWorkspace  bool
	json         bool
	debug        bool
	logLevel     string
	offline      bool
	cacheDir     string
	traceFile    string

	stores      []*store.Store // what was opened, to be closed at the end
	toldDoubles sync.Map       // the repo.Doubles that were told
	mistakes    diag.Problems  // of recipes, told as they were read; see tell
}

// run is the whole command: it gives the exit code.
func run(ctx context.Context, s streams, args []string) int {
	a := &app{streams: s}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if len(a.mistakes) > 0 {
		err = errors.Join(err, &shownError{a.mistakes})
	}
	for _, st := range a.stores {
		if closeErr := st.Close(); err == nil {
			err = closeErr
		}
	}
	return a.finish(ctx, err)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tarn",
		Short: "turn source into packages, packages into a signed repository, a repository into images",
		Long: `tarn turns source into packages, packages into a signed repository, and a
repository into images with nothing in them that the application does not need.

It reads melange's recipes and apko's image files and writes Alpine's packages.`,
		SilenceUsage: true, SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		text, _, _ := strings.Cut(err.Error(), ": strconv.")
		return usagef("%s\n  hint: %s --help", text, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&a.workspaceDir, "workspace", "", "the folder that tarn.yaml stands in (default: the working folder or above)")
	f.BoolVar(&a.noWorkspace, "no-workspace", false, "look for no tarn.yaml")
	f.BoolVar(&a.json, "json", false, "print results as JSON")
	f.BoolVar(&a.debug, "debug", false, "show what each step prints, and debug messages")
	f.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&a.offline, "offline", false, "use no network: what is not in the store is missing")
	f.StringVar(&a.cacheDir, "cache-dir", "", "the store's folder (default: $XDG_CACHE_HOME/tarn)")
	f.StringVar(&a.traceFile, "trace", "", "write a timeline of what was done to this file")
	root.AddCommand(
		a.buildCommand(), a.testCommand(), a.shellCommand(), a.logCommand(), a.lintCommand(), a.planCommand(), a.fetchCommand(), a.schemaCommand(), a.initCommand(), a.newCommand(), a.bumpCommand(),
		a.keygenCommand(), a.indexCommand(), a.convertCommand(), a.signCommand(), a.verifyCommand(), a.publishCommand(), a.serveCommand(), a.solveCommand(),
		a.whyCommand(), a.whyNotCommand(),
		a.imageCommand(), a.seedCommand(), a.storeCommand(), a.doctorCommand(), a.versionCommand(),
		exitCodesTopic(),
	)
	root.SetHelpCommand(helpCommand(helpTopics()))
	root.InitDefaultCompletionCmd()
	countArgs(root)
	return root
}

// countArgs makes a wrong number of arguments a wrong use, for every verb.
func countArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if cmd.HasSubCommands() && len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			err := check(cmd, args)
			if err == nil || is[*usageError](err) {
				return err
			}
			return usagef("%s: wrong number of arguments: %d\n  hint: %s", cmd.CommandPath(), len(args), cmd.UseLine())
		}
	}
	if !cmd.Runnable() && cmd.HasSubCommands() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, sub := range cmd.Commands() {
		countArgs(sub)
	}
}

// helpCommand is cobra's, but a verb that is not there is a wrong use, and a topic may
// have the name of a verb: tarn image --help tells of the verb, tarn help image of the
// language.
func helpCommand(topics []*cobra.Command) *cobra.Command {
	list := "help tells about a command, or about a topic:\n\n"
	names := []string{"exit-codes"}
	for _, topic := range topics {
		list += fmt.Sprintf("  %-12s%s\n", topic.Name(), topic.Short)
		names = append(names, topic.Name())
	}
	return &cobra.Command{
		Use:   "help [COMMAND | TOPIC]",
		Short: "tell about a command, or a topic: recipe, pipelines, image, workspace, exit-codes",
		Long:  list + fmt.Sprintf("  %-12s%s", "exit-codes", exitCodesTopic().Short),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 && args[0] == "pipelines" {
				return recipes.BuiltinPipelines(), cobra.ShellCompDirectiveNoFileComp
			}
			about, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var all []string
			if len(args) == 0 {
				all = slices.Clone(names)
			}
			for _, c := range about.Commands() {
				if c.IsAvailableCommand() && !slices.Contains(all, c.Name()) {
					all = append(all, c.Name())
				}
			}
			return all, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 && args[0] == "pipelines" {
				if !slices.Contains(recipes.BuiltinPipelines(), args[1]) {
					return usagef("there is no built-in pipeline %q%s", args[1], hintOf(diag.DidYouMean(args[1], recipes.BuiltinPipelines()), "tarn help pipelines"))
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), renderHelp(pipelineHelp(args[1]), helpWidth))
				return err
			}
			for _, topic := range topics {
				if len(args) == 1 && args[0] == topic.Name() {
					_, err := fmt.Fprintln(cmd.OutOrStdout(), topic.Long)
					return err
				}
			}
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(about, append(rest, args...)[0])
			}
			return about.Help()
		},
	}
}

// hintOf is the line of a hint: the first that says something.
func hintOf(hints ...string) string {
	for _, hint := range hints {
		if hint != "" {
			return "\n  hint: " + hint
		}
	}
	return ""
}

// logger writes to standard error at the level that the flags name.
func (a *app) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return nil, usagef("--log-level %q is not debug, info, warn or error", a.logLevel)
	}
	if a.debug {
		level = slog.LevelDebug
	}
	return slog.New(tint.NewTextHandler(a.err, &tint.Options{Level: level, NoColor: !a.colour(), TimeFormat: "15:04:05"})), nil
}

// workspace opens the workspace that the flags name.
func (a *app) workspace() (*workspace, error) { return openWorkspace(a.workspaceDir, a.noWorkspace) }

// store opens the store: the flag's, the workspace's, the user's.
func (a *app) store(w *workspace) (*store.Store, error) {
	dir := a.cacheDir
	if dir == "" && w.Cache.Dir != "" {
		dir = w.path(w.Cache.Dir)
	}
	if dir == "" {
		var err error
		if dir, err = store.DefaultDir(); err != nil {
			return nil, err
		}
	}
	st, err := store.Open(dir)
	if err == nil {
		a.stores = append(a.stores, st)
		reclaim(st)
	}
	return st, err
}

// reclaim removes what a killed build of an ordinary user left that belongs to its
// subordinate ids: only in a namespace that has them can it be taken back. What is still
// there then is the next one's to try, as it is where nothing can be done.
func reclaim(st *store.Store) {
	var users namespace.Backend
	for _, dir := range st.Leftovers() {
		if os.Geteuid() == 0 || !users.Several() {
			return
		}
		if _, err := users.Take(context.Background(), dir, 0, 0); err == nil {
			_ = store.RemoveAll(dir)
		}
	}
}

// printJSON writes a result for programs.
func (a *app) printJSON(value any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// colour tells whether standard error is a terminal that may be coloured.
func (a *app) colour() bool { return isTerminal(a.err) && os.Getenv("NO_COLOR") == "" }

// parseArches reads --arch; none is the machine's own.
func parseArches(names []string) ([]apk.Arch, error) {
	if len(names) == 0 {
		names = []string{"host"}
	}
	arches := make([]apk.Arch, len(names))
	for i, name := range names {
		arch, err := apk.ParseArch(name)
		if err != nil {
			return nil, usagef("--arch: %v", err)
		}
		arches[i] = arch
	}
	return arches, nil
}

// eachArch does something for every architecture that --arch names, in order.
func eachArch(names []string, do func(arch apk.Arch) error) error {
	arches, err := parseArches(names)
	if err != nil {
		return err
	}
	for _, arch := range arches {
		if err := do(arch); err != nil {
			return err
		}
	}
	return nil
}

// unknownCommand says what was probably meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	hint := diag.DidYouMean(name, names)
	if hint == "" {
		hint = cmd.CommandPath() + " --help"
	}
	return usagef("unknown command %q\n  hint: %s", name, hint)
}
