// Package service runs a server in a sandbox as a container would, asks it over the
// sandbox's own loopback, and stops it. It knows nothing of images or recipes.
//
//	parent                        sandbox
//	Run ── Task, JSON ──────────▶ this program, bound read-only
//	                                ├─ starts the server, waits until it listens
//	                                ├─ asks it: HTTP, TCP, programs beside it
//	                                └─ sends the signal, waits for its end
//	    ◀──────── Report, JSON ──
//
// Who asks has to be in the sandbox's network, so it is the program itself, started once
// more by its path inside: it has to be linked without a loader (CGO_ENABLED=0), as the
// roots of sandboxes have none or another one. What an answer should have been is for the
// caller to judge: a Report says what was seen.
package service

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// Path is where this program stands in a sandbox. What stands at it in the root is covered.
const Path = "/.tarn/service"

// Task says what to start, what to ask and how to stop it.
type Task struct {
	Argv []string // Argv[0] is an absolute path inside
	Env  []string // nothing else is in the environment
	Dir  string
	// Listens are addresses that have to take connections before anything is asked,
	// e.g. localhost:8080. Without any the server has to live for a second.
	Listens   []string
	Within    time.Duration // until all of them do
	Questions []Question    // asked in order
	Stop      Stop
}

// Question is asked of a server that runs: one of HTTP, TCP and Program.
type Question struct {
	HTTP    *HTTP
	TCP     *TCP
	Program *Program
	Within  time.Duration
}

// HTTP is a request. Redirections are not followed.
type HTTP struct {
	Method, URL string
	Headers     map[string]string
	Body        string
	// Authorities, in PEM, are trusted over TLS, and no others.
	Authorities []byte
}

// TCP is a connection over which something is sent, and read until it ends, holds Until,
// or Enough matches.
type TCP struct {
	Address     string
	TLS         bool
	Authorities []byte // as of HTTP
	Send        string
	Until       string // nothing is read when both are empty
	Enough      string // a regular expression
}

// Program is a program that runs beside the server.
type Program struct {
	Argv  []string
	Env   []string
	Dir   string
	Input string
}

// Stop says how the server is stopped.
type Stop struct {
	Signal syscall.Signal
	Within time.Duration // after which it is killed
}

// Report says what was seen.
type Report struct {
	// Failed says why the server could not be started; all else is empty then.
	Failed string
	// Silent are addresses that took no connections in time.
	Silent []string
	// Ended is how the server ended before it was told to; nil when it lived until then.
	Ended *Ended
	// Answers are as many as were asked before something was in the way.
	Answers []Answer
	Stopped *Stopped // nil when it had ended before
	Output  []byte   // what the server printed: the last of it
}

// Answer is what came of one question.
type Answer struct {
	Error string // why nothing came
	// Of HTTP.
	Proto   string // e.g. "HTTP/2.0"
	Status  int
	Headers map[string][]string
	// TLS is the version, e.g. "TLS 1.3"; Issuer who signed the certificate.
	TLS, Issuer string
	// Body is the answer's, what came over TCP, or what a program printed on standard output.
	Body []byte
	// Cut says that there was more of it.
	Cut bool
	// Of a program.
	Ended  *Ended
	Stderr []byte
}

// Ended is how a process ended.
type Ended struct {
	Status int    // exit status, or 128 + signal
	Signal string // e.g. "killed", when a signal ended it
}

func (e *Ended) String() string {
	if e.Signal != "" {
		return "signal: " + e.Signal
	}
	return fmt.Sprintf("exit status %d", e.Status)
}

// Stopped is what the signal did.
type Stopped struct {
	// Ignored says that the server left the signal to its default action, or ignores it.
	// The first process of a container gets no default action: it would not end.
	Ignored bool
	Killed  bool // it did not end in time
	Took    time.Duration
	Ended   *Ended
}

// Binds is what a sandbox's Spec needs for Run: this program, at Path.
func Binds() ([]sandbox.Bind, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the running program: %w", err)
	}
	file, err := elf.Open(self)
	if err != nil {
		return nil, fmt.Errorf("read the running program: %w", err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s is linked with a loader, which a sandbox does not have\n  hint: build it with CGO_ENABLED=0", self)
		}
	}
	return []sandbox.Bind{{Source: self, Path: Path}}, nil
}

// Run does a task in a sandbox that was opened with Binds. What the server did is in the
// report; an error says that it could not be found out.
func Run(ctx context.Context, box sandbox.Sandbox, t Task) (*Report, error) {
	task, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	var out, complaints bytes.Buffer
	err = box.Run(ctx, sandbox.Command{
		Argv: []string{Path}, Dir: "/", Stdin: bytes.NewReader(task), Stdout: &out, Stderr: &complaints, Timeout: t.longest(),
	})
	if exit, is := errors.AsType[*sandbox.ExitError](err); is && exit.Limit == "" && complaints.Len() > 0 {
		return nil, errors.New(strings.TrimSpace(complaints.String()))
	}
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("read what was seen of the service: %w", err)
	}
	return &r, nil
}

// longest is more than all that may be waited for.
func (t *Task) longest() time.Duration {
	sum := t.Within + t.Stop.Within + time.Minute
	for _, q := range t.Questions {
		sum += q.Within
	}
	return sum
}
