package build

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// commandMark begins the line in which a script says what it stopped at.
const commandMark = "\x1e"

// tailLines is how many of the last lines of output a failure shows.
const tailLines = 20

// logFile gets all that the commands of a build print. It keeps the last lines.
type logFile struct {
	mu      sync.Mutex
	file    *os.File
	path    string
	echo    io.Writer
	last    []string
	partial []byte
	stopped string
}

// begin starts a step.
func (l *logFile) begin(at, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.stopped = nil, ""
	fmt.Fprintf(l.file, "== %s %s\n", at, name)
}

// Write takes what a command prints, line by line.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found && len(l.partial) < 64<<10 {
			return len(p), nil
		}
		l.partial = bytes.Clone(rest)
		if err := l.line(string(line)); err != nil {
			return 0, err
		}
	}
}

func (l *logFile) line(text string) error {
	if command, found := strings.CutPrefix(text, commandMark); found {
		l.stopped = command
		return nil
	}
	if l.last = append(l.last, text); len(l.last) > tailLines {
		l.last = l.last[1:]
	}
	if _, err := fmt.Fprintln(l.file, text); err != nil {
		return err
	}
	if l.echo != nil {
		fmt.Fprintln(l.echo, text)
	}
	return nil
}

func (l *logFile) flush() {
	if len(l.partial) > 0 {
		_ = l.line(string(l.partial))
		l.partial = nil
	}
}

// tail is the last lines of the step.
func (l *logFile) tail() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return l.last
}

// command is what the script stopped at, "" when its shell does not tell.
func (l *logFile) command() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return l.stopped
}

// Close ends the log.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return l.file.Close()
}
