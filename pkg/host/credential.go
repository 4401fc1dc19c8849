package host

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// helperName is what may stand for NAME in docker-credential-NAME: it becomes part of a
// program's name, and leads nowhere else.
var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// credentialTime is how long a keeper of passwords may take: somebody may have to unlock it.
const credentialTime = 2 * time.Minute

// Credential asks docker-credential-NAME, which a docker configuration names, for the
// user and password of a registry, and gives its answer in JSON; nil when it knows none.
// Its protocol is that of docker's credential helpers: the verb "get", the registry on
// standard input. It has the caller's environment, where its keyring or service stands.
// What it prints is in no error.
func Credential(ctx context.Context, name, registry string) ([]byte, error) {
	if !helperName.MatchString(name) {
		return nil, fmt.Errorf("%q is no name of a credential helper", name)
	}
	program := "docker-credential-" + name
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("no program %q, which the docker configuration names for %s", program, registry)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, credentialTime, fmt.Errorf("no answer within %s", credentialTime))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "get")
	cmd.Stdin = strings.NewReader(registry + "\n")
	out, err := output(ctx, cmd, program, []string{"get"})
	if exit, is := errors.AsType[*ExitError](err); is {
		// It says "credentials not found in native keychain" on standard output, exit 1,
		// which is no failure. Whatever else it said may hold a secret.
		if exit.Stderr == "" {
			return nil, nil
		}
		return nil, &ExitError{Program: program, Args: exit.Args, Reason: exit.Reason}
	}
	return out, err
}
