package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/pkg/sandbox/namespace"
	"github.com/tarn-build/tarn/pkg/sandbox/oci"
)

// runnerNames are what --runner takes.
func runnerNames() []string { return append([]string{"namespace", "oci"}, oci.Runtimes()...) }

// openRunner gives the sandbox backend of a name; "" is namespace, which needs nothing.
func openRunner(name string) (sandbox.Backend, error) {
	switch {
	case name == "" || name == "namespace":
		return namespace.Backend{}, nil
	case name == "oci":
		return oci.Backend{}, nil
	case slices.Contains(oci.Runtimes(), name):
		return oci.Backend{Runtime: name}, nil
	}
	hint := strings.Join(runnerNames(), ", ")
	if name == "bubblewrap" || name == "docker" || name == "qemu" {
		hint = "melange's runners are not needed here: leave the flag out; or " + hint
	}
	return nil, usagef("--runner %q is not known\n  hint: %s", name, hint)
}

// checkRunners says which container runtimes could make sandboxes in place of the kernel alone.
func checkRunners(ctx context.Context) []finding {
	var all []finding
	for _, name := range oci.Runtimes() {
		b := oci.Backend{Runtime: name}
		f := finding{Name: "runner " + name, State: "ok"}
		err := b.Available()
		lack, missing := errors.AsType[*sandbox.Lack](err)
		switch absent := (*host.MissingError)(nil); {
		case errors.As(err, &absent):
			f.State, f.Detail = "absent", "not installed; nothing needs it but --runner "+name
		case missing:
			f.State, f.Detail, f.Fix = "absent", lack.What, lack.Fix
		case err != nil:
			f.State, f.Detail = "absent", err.Error()
		default:
			if version, err := b.Version(ctx); err == nil {
				f.Detail = version
			}
		}
		all = append(all, f)
	}
	return all
}

// available says in full what a machine lacks for a backend.
func available(b sandbox.Backend) error {
	err := b.Available()
	if err != nil && !strings.Contains(err.Error(), "hint: ") {
		err = fmt.Errorf("%w\n  hint: tarn doctor tells more", err)
	}
	return err
}
