package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "say what this machine lacks",
		Long: `doctor tries what builds need of this machine, and says by name what is missing and
how to get it. It changes nothing, and exits with 1 when something is missing that builds
need.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDoctor(cmd.Context()) },
	}
}

// finding is one thing that doctor looked at.
type finding struct {
	Name   string `json:"name"`
	State  string `json:"state"` // ok, missing (a build needs it), absent (something else may)
	Detail string `json:"detail,omitempty"`
	Fix    string `json:"fix,omitempty"`
}

// roomWanted is the free space that the packages of this repository take with room to spare.
const roomWanted = 5 << 30

func (a *app) runDoctor(ctx context.Context) error {
	var findings []finding
	for _, c := range namespace.Check(ctx) {
		f := finding{Name: c.Name, State: "ok", Detail: c.Detail, Fix: c.Fix}
		if !c.OK {
			f.State = "absent"
			if c.Needed {
				f.State = "missing"
			}
		}
		findings = append(findings, f)
	}
	findings = append(findings, checkRunners(ctx)...)
	for _, p := range host.Programs() {
		if slices.Contains(host.Runtimes(), p.Name) {
			continue // told as a runner
		}
		f := finding{Name: "program " + p.Name, State: "ok", Detail: p.Path}
		if p.Path == "" {
			f.State, f.Detail, f.Fix = "absent", p.Use, "install Debian's package "+p.Package
		}
		findings = append(findings, f)
	}
	findings = append(findings, a.checkStore(), finding{Name: "processors", State: "ok", Detail: fmt.Sprint(runtime.NumCPU())})
	missing := 0
	for _, f := range findings {
		if f.State == "missing" {
			missing++
		}
	}
	if a.json {
		if err := a.printJSON(findings); err != nil {
			return err
		}
	} else {
		rows := [][]string{{"check", "state", ""}}
		for _, f := range findings {
			rows = append(rows, []string{f.Name, f.State, f.Detail})
		}
		table(a.out, nil, rows)
		for _, f := range findings {
			if f.State != "ok" && f.Fix != "" {
				fmt.Fprintf(a.out, "%s: %s\n", f.Name, f.Fix)
			}
		}
	}
	if missing > 0 {
		return &shownError{fmt.Errorf("%d things are missing", missing)}
	}
	return nil
}

// checkStore tries the store's folder and looks for room.
func (a *app) checkStore() finding {
	f := finding{Name: "store", State: "ok"}
	st, err := a.openStore()
	if err != nil {
		f.State, f.Detail, f.Fix = "missing", err.Error(), "name a folder that can be written with --cache-dir or XDG_CACHE_HOME"
		return f
	}
	f.Detail = st.Dir()
	var fs unix.Statfs_t
	if err := unix.Statfs(st.Dir(), &fs); err == nil {
		free := int64(fs.Bavail) * fs.Bsize
		f.Detail += ", " + shortSize(free) + " free"
		if free < roomWanted {
			f.State, f.Fix = "missing", "make room, or name a folder on another disk with --cache-dir"
		}
	}
	if _, err := os.Stat(st.Dir()); err != nil {
		f.State, f.Detail = "missing", err.Error()
	}
	return f
}
