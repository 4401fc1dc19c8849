package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
)

// markBegin and markEnd stand around what a script says that it stopped at: that is
// no output of the recipe's, and in no log.
const (
	markBegin = "\x1etarn stopped at:"
	markEnd   = "\x1e"
)

// Limits on what of the output is kept to be shown.
const (
	tailLines  = 20       // of a step that failed
	tailWidth  = 500      // bytes of a line
	maxCommand = 4 << 10  // bytes of the command that a script stopped at
	maxPartial = 64 << 10 // bytes that wait for the end of their line

	// maxLog is the most that a log's file holds, in bytes. A test suite that talks
	// stays far below; a loop that prints must not fill the disk.
	maxLog = 1 << 30
)

// logFile gets all that the commands of a build print, byte for byte. It keeps the
// last lines, as a terminal can show them.
type logFile struct {
	mu      sync.Mutex
	file    *os.File
	path    string
	echo    io.Writer
	hide    secrets
	room    int64  // bytes that the file may still grow by
	partial []byte // of a line whose end was not printed yet
	shown   []byte // of the line that the file ends in, without an end
	last    []string
	marked  bool // what comes is the command that the script stopped at
	stopped []byte
}

// openLog starts a log anew. Its name is one element of a path, and a link that
// stands there is not followed out of the folder.
func openLog(dir, name string, echo io.Writer) (*logFile, error) {
	if strings.ContainsRune(name, '/') {
		return nil, fmt.Errorf("%q cannot be the name of a log", name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := rotate(root, name); err != nil {
		return nil, fmt.Errorf("keep earlier logs: %w", err)
	}
	f, err := root.Create(name)
	if err != nil {
		return nil, fmt.Errorf("write log: %w", err)
	}
	return &logFile{file: f, path: filepath.Join(dir, name), echo: echo, room: maxLog}, nil
}

// LogHistory is how many logs of earlier builds stay: NAME.log.1 is the newest of them.
const LogHistory = 9

// rotate makes room for a new log.
func rotate(root *os.Root, name string) error {
	older := func(n int) string {
		if n == 0 {
			return name
		}
		return fmt.Sprintf("%s.%d", name, n)
	}
	for n := LogHistory - 1; n >= 0; n-- {
		info, err := root.Lstat(older(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			continue // nothing that we wrote
		}
		if err := root.Rename(older(n), older(n+1)); err != nil {
			return err
		}
	}
	return nil
}

// end says how a step ended.
func (l *logFile) end(at string, err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	outcome := "done in"
	if err != nil {
		outcome, _, _ = strings.Cut(err.Error(), "\n")
		outcome = printable([]byte(outcome)) + " after"
	}
	l.note(fmt.Sprintf("== %s: %s %s", at, outcome, took.Round(10*time.Millisecond)))
}

// note writes a line of our own.
func (l *logFile) note(line string) {
	_, _ = fmt.Fprintln(l.file, line)
	if l.echo != nil {
		fmt.Fprintln(l.echo, line)
	}
}

// begin starts a step.
func (l *logFile) begin(at, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	l.last, l.stopped = nil, nil
	l.note(strings.TrimSpace(fmt.Sprintf("== %s %s", at, printable([]byte(name)))))
}

// Write takes what a command prints.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		ended := end > 0
		if !ended {
			end = len(rest)
		}
		l.partial = append(l.partial, rest[:end]...)
		rest = rest[end:]
		if !ended && len(l.partial) < maxPartial {
			break
		}
		piece := l.partial
		l.partial = nil
		if err := l.take(piece); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// take sorts a line, or a piece of a long one, into output and the mark.
func (l *logFile) take(piece []byte) error {
	if l.marked {
		command, rest, ended := bytes.Cut(piece, []byte(markEnd))
		l.stopped = append(l.stopped, command[:min(len(command), maxCommand-len(l.stopped))]...)
		if l.marked = !ended; string(rest) == "\n" {
			rest = nil
		}
		piece = rest
	}
	output, command, found := bytes.Cut(piece, []byte(markBegin))
	if err := l.output(output); err != nil || !found {
		return err
	}
	l.marked, l.stopped = true, nil
	return l.take(command)
}

func (l *logFile) output(piece []byte) error {
	if len(piece) == 0 {
		return nil
	}
	piece = l.hide.redact(piece)
	if err := l.store(piece); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	line, ended := bytes.CutSuffix(piece, []byte("\n"))
	l.shown = append(l.shown, line...)
	if len(l.shown) > maxPartial {
		l.shown = l.shown[len(l.shown)-maxPartial:]
	}
	if ended {
		l.endLine()
	}
	return nil
}

// store writes to the file, without what a terminal would act on, as long as there is room, and then says once that it ends.
func (l *logFile) store(piece []byte) error {
	if l.room <= 0 {
		return nil
	}
	piece = escapes.ReplaceAll(piece, nil)
	if l.room -= int64(len(piece)); l.room <= 0 {
		piece = append(bytes.Clone(piece), "\n== the log ends here: it is full\n"...)
	}
	_, err := l.file.Write(piece)
	return err
}

// endLine shows the line that was written.
func (l *logFile) endLine() {
	text := printable(l.shown)
	l.shown = l.shown[:0]
	if l.last = append(l.last, text); len(l.last) > tailLines {
		l.last = l.last[1:]
	}
	if l.echo != nil {
		fmt.Fprintln(l.echo, text)
	}
}

// flush ends the line that the command did not end.
func (l *logFile) flush() {
	piece := l.partial
	l.partial = nil
	_ = l.take(piece) // a log that can't be written was told by Write
	l.marked = false
	if len(l.shown) > 0 {
		_, _ = l.file.WriteString("\n")
		l.endLine()
	}
}

// escapes are the sequences by which a program moves a terminal's cursor, colours
// its text, or names its window.
var escapes = regexp.MustCompile("\x1b(\\[[0-?]*[ -/]*[@-~]|[\\]PX^_][^\x07\x1b]*(\x07|\x1b\\\\)|[ -/]*[0-~])")

// printable is a line as it can be shown to people: what a progress bar showed last,
// nothing that a terminal acts on, no more than fits.
func printable(line []byte) string {
	line = bytes.TrimRight(line, "\r")
	line = line[bytes.LastIndexByte(line, '\r')+1:]
	text := strings.ToValidUTF8(string(escapes.ReplaceAll(line, nil)), "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return '\uFFFD'
		}
		return r
	}, text)
	if len(text) > tailWidth {
		text = strings.ToValidUTF8(text[:tailWidth], "") + " ..."
	}
	return text
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
	lines := bytes.Split(bytes.TrimSpace(l.stopped), []byte("\n"))
	text := printable(lines[0])
	if len(lines) > 1 {
		text += " ..."
	}
	return text
}

// Close ends the log.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return l.file.Close()
}
