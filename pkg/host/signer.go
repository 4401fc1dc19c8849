package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Sign runs a program that the user named to sign with, and gives what it printed. It
// reads the digest from its standard input. Unlike the other programs it has the
// environment of the caller: where its agent listens, or who it is to a service, stands
// there. What it was given as arguments is in no error, for it may be a secret.
func Sign(ctx context.Context, command []string, digest []byte) ([]byte, error) {
	if len(command) == 0 {
		return nil, errors.New("no program is named to sign with")
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, fmt.Errorf("no program %q to sign with", command[0])
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	cmd.Stdin = bytes.NewReader(digest)
	return output(ctx, cmd, command[0], nil)
}
