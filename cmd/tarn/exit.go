package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/build/seed"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/source/prefetch"
	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/registry"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/debian"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// The exit codes; exitMeanings says what they mean.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitFile
	exitSource
	exitSolution
	exitTrust
	exitReproduce
	exitPolicy

	exitStopped = 128 + 2 // as a shell says it of a program that SIGINT ended
)

// exitMeanings are the lines of tarn help exit-codes, by code.
var exitMeanings = []string{
	"done",
	"a build, test or check failed; findings of lint, verify and doctor; diff found a difference",
	"wrong usage",
	"a file that people write is wrong: recipe, image, workspace",
	"sources could not be had or did not match their digest; a registry refuses, or cannot be reached",
	"no solution: packages that exclude each other, are missing, or own the same file",
	"a signature or checksum of a source, a repository, a package or the store does not hold",
	"not reproducible",
	"refused by a policy: distroless, seed, size limit, licence, setuid, a secret in a package",
}

func exitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("The exit codes of tarn:\n\n")
	for code, meaning := range exitMeanings {
		fmt.Fprintf(&b, "  %3d  %s\n", code, meaning)
	}
	fmt.Fprintf(&b, "  %3d  stopped by Ctrl-C\n", exitStopped)
	return &cobra.Command{Use: "exit-codes", Short: "what the exit codes mean", Long: strings.TrimRight(b.String(), "\n")}
}

// usageError is a wrong use of the command.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// codeError gives an error its exit code where its type does not say it.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// namedWrong makes an error of opening what the user named one of usage, unless
// only the network is missing.
func namedWrong(err error) error {
	if is[*repo.UnreachableError](err) {
		return err
	}
	return usagef("%v", err)
}

// is tells whether err holds an error of type E.
func is[E error](err error) bool {
	_, found := errors.AsType[E](err)
	return found
}

// exitCode is the code of an error. What says most about the way out comes first: of
// several failures at once the one with the highest claim decides.
func exitCode(err error) int {
	if coded, found := errors.AsType[*codeError](err); found {
		return coded.code
	}
	switch {
	case err == nil:
		return exitDone
	case is[*usageError](err), is[*build.FromError](err):
		return exitUsage
	case is[*images.Refusal](err), is[*build.PolicyError](err), is[*build.SecretError](err), is[*build.LeakError](err), is[*repo.PolicyError](err):
		return exitPolicy
	case is[*store.CorruptError](err), is[*apk.TrustError](err), is[*repo.TrustError](err), is[*debian.SignatureError](err), is[*source.SignatureError](err), is[*seed.SumError](err):
		return exitTrust
	case is[*source.Error](err), is[*repo.UnreachableError](err), is[*images.LostError](err), is[*prefetch.Error](err), is[*build.NotPrefetchedError](err), is[*registry.Error](err),
		is[*view.DigestError](err), is[*view.RefusedError](err):
		return exitSource
	case is[*solve.Conflict](err), is[*solve.Ambiguous](err), is[rootfs.ConflictError](err):
		return exitSolution
	case is[*build.CheckError](err):
		return exitFailed
	case is[diag.Problems](err), is[diag.Problem](err), is[*images.StaleError](err):
		return exitFile
	}
	return exitFailed
}

// finish prints what was not shown yet of an error, and gives the exit code.
func (a *app) finish(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil {
		fmt.Fprintln(a.err, "tarn: stopped")
		return exitStopped
	}
	if rest := unshown(err); rest != nil {
		text := a.told(rest)
		if _, listed := diag.Of(rest); !listed {
			text = "tarn: " + text
		}
		fmt.Fprintln(a.err, plain(text))
	}
	return exitCode(err)
}

// told is the text of an error. Of a full disk it says what to do: whatever was being
// written there, that is the same.
func (a *app) told(err error) string {
	text := err.Error()
	if isFull := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT); !isFull || strings.Contains(text, "hint: ") {
		return text
	}
	for _, st := range a.stores {
		if strings.Contains(text, st.Dir()) {
			return text + "\n  hint: free space with: tarn store gc --max-size SIZE"
		}
	}
	return text + "\n  hint: make room there and run again; what is done is kept"
}

// unshown is what was not shown yet of an error, or nil.
func unshown(err error) error {
	if !is[*shownError](err) {
		return err
	}
	joined, several := err.(interface{ Unwrap() []error })
	if !several {
		return nil
	}
	var rest []error
	for _, one := range joined.Unwrap() {
		rest = append(rest, unshown(one))
	}
	return errors.Join(rest...)
}

// shownError is an error that was shown when it happened.
type shownError struct{ err error }

func (e *shownError) Error() string { return e.err.Error() }
func (e *shownError) Unwrap() error { return e.err }
