package tests

import (
	"context"
	"slices"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/sandbox"
)

// Entered is an open sandbox of an image, as a test has it, for people who look inside.
type Entered struct {
	sandbox.Sandbox
	Env     []string
	Dir     string
	release func()
}

// Close ends the sandbox and removes what was made for it.
func (e *Entered) Close() error {
	err := e.Sandbox.Close()
	e.release()
	return err
}

// Enter opens the sandbox of the first command or service that is chosen; where none is, one
// of the image alone. Below are layers that lie below the image's: a shell for an image that
// has none.
func (r *Runner) Enter(ctx context.Context, root *Root, t *images.Tests, chosen func(name string) bool, below []string) (*Entered, error) {
	var s surroundings
	if t != nil {
		s.writable = t.Writable
	}
	var certificate *images.TestCertificate
	found := false
	for i := range commands(t) {
		if c := &t.Commands[i]; !found && chosen != nil && chosen(c.Title()) {
			found, s = true, surroundings{c.Environment, c.WorkDir, c.User, c.Mounts, t.Writable}
		}
	}
	for i := range services(t) {
		if c := &t.Services[i]; !found && chosen != nil && chosen(c.Title()) {
			found, s, certificate = true, surroundings{c.Environment, c.WorkDir, c.User, c.Mounts, t.Writable}, c.Certificate
		}
	}
	var err error
	if s.mounts, _, err = withCertificate(s.mounts, certificate); err != nil {
		return nil, err
	}
	set, err := r.prepare(root, s)
	if err != nil {
		return nil, err
	}
	set.spec.Layers = slices.Concat(set.spec.Layers, below)
	box, err := r.Backend.Open(ctx, set.spec)
	if err != nil {
		set.release()
		return nil, err
	}
	return &Entered{box, set.env, set.dir, set.release}, nil
}

func commands(t *images.Tests) []images.TestCommand {
	if t == nil {
		return nil
	}
	return t.Commands
}

func services(t *images.Tests) []images.TestService {
	if t == nil {
		return nil
	}
	return t.Services
}
