package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/pkg/diag"
)

type logOptions struct {
	test    bool
	list    bool
	earlier int
}

func (a *app) logCommand() *cobra.Command {
	var o logOptions
	cmd := &cobra.Command{
		Use:   "log RECIPE",
		Short: "print the log of a recipe's last build, or of an earlier one",
		Long: fmt.Sprintf(`log prints what the steps of a recipe's last build printed, failed or not; of a
package's last test with --test. The logs of %d earlier builds are kept. A recipe whose
packages came from the store was not built, and has the log of when it was.`, build.LogHistory),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRecipes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runLog(cmd.Context(), o, args[0]) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.test, "test", false, "the log of a test; the argument is the package's name")
	f.BoolVarP(&o.list, "list", "l", false, "list the logs that are kept, and how each build ended")
	f.IntVarP(&o.earlier, "earlier", "n", 0, "the log of so many builds before the last")
	return cmd
}

// logRow is one kept log.
type logRow struct {
	Earlier int       `json:"earlier"`
	Time    time.Time `json:"time"`
	Size    int64     `json:"size"`
	Last    string    `json:"last"` // its last line about a step
	File    string    `json:"file"`
}

func (a *app) runLog(_ context.Context, o logOptions, name string) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	name = strings.TrimSuffix(filepath.Base(name), ".yaml")
	kind := ".log"
	if o.test {
		kind = ".test.log"
	}
	dir := filepath.Join(ws.path(ws.Output), "logs")
	file := func(earlier int) string {
		if earlier == 0 {
			return filepath.Join(dir, name+kind)
		}
		return filepath.Join(dir, name+kind+"."+strconv.Itoa(earlier))
	}
	if o.earlier < 0 || o.earlier > build.LogHistory {
		return usagef("--earlier %d: logs of the last build and of %d before it are kept", o.earlier, build.LogHistory)
	}
	if o.list {
		return a.listLogs(file)
	}
	f, err := os.Open(file(o.earlier))
	if errors.Is(err, fs.ErrNotExist) {
		if o.earlier > 0 {
			return usagef("%s has no log of so early a build\n  hint: tarn log --list %s", name, name)
		}
		return usagef("there is no log of %q: it was not built here%s", name, nearLog(dir, kind, name))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(a.out, f)
	return err
}

// nearLog says which log was probably meant.
func nearLog(dir, kind, name string) string {
	files, _ := filepath.Glob(filepath.Join(dir, "*"+kind))
	var names []string
	for _, f := range files {
		n := strings.TrimSuffix(filepath.Base(f), kind)
		if kind == ".test.log" || !strings.HasSuffix(n, ".test") {
			names = append(names, n)
		}
	}
	if hint := diag.DidYouMean(name, names); hint != "" {
		return "\n  hint: " + hint
	}
	return ""
}

func (a *app) listLogs(file func(int) string) error {
	rows := []logRow{}
	for n := range build.LogHistory + 1 {
		info, err := os.Lstat(file(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		last, err := lastNote(file(n))
		if err != nil {
			return err
		}
		rows = append(rows, logRow{n, info.ModTime(), info.Size(), last, relative(file(n))})
	}
	if a.json {
		return a.printJSON(rows)
	}
	lines := [][]string{{"earlier", "when", "size", "last step"}}
	for _, r := range rows {
		lines = append(lines, []string{strconv.Itoa(r.Earlier), r.Time.Format("2006-01-02 15:04:05"), shortSize(r.Size), r.Last})
	}
	table(a.out, map[int]bool{0: true, 2: true}, lines)
	return nil
}

// lastNote is the last line of a log that tells of a step.
func lastNote(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	const enough = 64 << 10
	tail := make([]byte, min(info.Size(), enough))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	last := ""
	for line := range strings.Lines(string(tail)) {
		if note, ok := strings.CutPrefix(line, "== "); ok {
			last = strings.TrimSpace(note)
		}
	}
	return last, nil
}
