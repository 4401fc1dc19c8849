package build

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newLog(t *testing.T) (*logFile, *bytes.Buffer) {
	t.Helper()
	var echo bytes.Buffer
	l, err := openLog(t.TempDir(), "x.log", &echo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, &echo
}

func TestLog(t *testing.T) {
	long := strings.Repeat("0123456789", 20_000)
	for _, test := range []struct {
		name    string
		writes  []string
		file    string // what the log holds behind the line that begins the step
		tail    []string
		command string
	}{
		{"lines", []string{"a\nb", "c\n"}, "a\nbc\n", []string{"a", "bc"}, ""},
		{"a last line without an end", []string{"a\nb"}, "a\nb\n", []string{"a", "b"}, ""},
		{"bytes that are no text", []string{"\xff\x00\n"}, "\xff\x00\n", []string{"\uFFFD\uFFFD"}, ""},
		{"colours and a window's name", []string{"\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\x1b]0;t\x1b\\y\n"}, "red xy\n", []string{"red xy"}, ""},
		{"a sequence that does not end, and text that runs backwards", []string{"\x1b[\u202etext\n"}, "\u202etext\n", []string{"\uFFFDtext"}, ""},
		{"a progress bar", []string{"10%\r50%\r100%\r\n"}, "10%\r50%\r100%\r\n", []string{"100%"}, ""},
		{"a very long line", []string{long, long, "\n"}, long + long + "\n", []string{(long + long)[len(long)*2-maxPartial:][:tailWidth] + " ..."}, ""},
		{"what a script stopped at", []string{"out\n", markBegin + "make install" + markEnd + "\n"}, "out\n", []string{"out"}, "make install"},
		{"the same behind a line without an end", []string{"out" + markBegin + "make" + markEnd + "\n"}, "out\n", []string{"out"}, "make"},
		{"the same in pieces", []string{"\x1eta", "rn stopped at:ma", "ke\x1e", "\n"}, "", nil, "make"},
		{"a command of several lines", []string{markBegin + "cat <<E\nx\nE" + markEnd + "\nafter\n"}, "after\n", []string{"after"}, "cat <<E ..."},
		{"a command that does not end", []string{markBegin + "cat\n", "x\n"}, "", nil, "cat ..."},
		{"a very long command", []string{markBegin + long + markEnd + "\n"}, "", nil, long[:tailWidth] + " ..."},
		{"a record separator of the recipe's own", []string{"\x1e a\n"}, "\x1e a\n", []string{"\uFFFD a"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, echo := newLog(t)
			l.begin("pipeline/0", "make\x1b[2J")
			for _, text := range test.writes {
				if n, err := l.Write([]byte(text)); n != len(text) || err != nil {
					t.Fatalf("write: %d, %v", n, err)
				}
			}
			if got := l.command(); got != test.command {
				t.Errorf("command: got %q, want %q", got, test.command)
			}
			if diff := cmp.Diff(test.tail, l.tail()); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
			if got, want := echo.String(), "== pipeline/0 make\n"+strings.Join(append(test.tail, ""), "\n"); got != want {
				t.Errorf("shown: got %q, want %q", got, want)
			}
			data, err := os.ReadFile(l.path)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(data), "== pipeline/0 make\n"+test.file; got != want {
				t.Errorf("the log: got %.200q, want %.200q", got, want)
			}
		})
	}
}

func TestLogKeepsTheLastLines(t *testing.T) {
	l, _ := newLog(t)
	for range 100 {
		if _, err := l.Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(l.tail()); got != tailLines {
		t.Errorf("got %d lines, want %d", got, tailLines)
	}
	l.begin("pipeline/1", "next")
	if got := l.tail(); len(got) != 0 {
		t.Errorf("the next step begins with the output of the last: %q", got)
	}
}

// A step that prints for ever fills no disk, and its last lines are still shown.
func TestLogHasAnEnd(t *testing.T) {
	l, _ := newLog(t)
	l.room = 20
	for i := range 1000 {
		if _, err := fmt.Fprintf(l, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(data), "line 2\n\n== the log ends here: it is full\n") {
		t.Errorf("the log holds %q", data)
	}
	if tail := l.tail(); tail[len(tail)-1] != "line 999" {
		t.Errorf("the tail is %q", tail)
	}
}

// Logs of earlier builds stay for a while, the newest first.
func TestLogHistory(t *testing.T) {
	dir := t.TempDir()
	for n := range LogHistory + 3 {
		l, err := openLog(dir, "x.log", nil)
		if err != nil {
			t.Fatal(err)
		}
		l.begin("pipeline/0", strconv.Itoa(n))
		l.end("pipeline/0", errors.New("exit status 2\n  more"), 1234*time.Millisecond)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != LogHistory+1 {
		t.Fatalf("got %d logs, %v; want %d", len(files), err, LogHistory+1)
	}
	for name, want := range map[string]string{"x.log": "11", "x.log.1": "10", "x.log.9": "2"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if want := "== pipeline/0 " + want + "\n== pipeline/0: exit status 2 after 1.23s\n"; err != nil || string(data) != want {
			t.Errorf("%s: got %q, %v; want %q", name, data, err, want)
		}
	}
}

// A recipe's name is no way to another file.
func TestLogStaysInItsFolder(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	for _, name := range []string{"../x.log", "a/b.log", "..", ""} {
		if l, err := openLog(dir, name, nil); err == nil {
			l.Close()
			t.Errorf("opened %q", name)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link.log")); err != nil {
		t.Fatal(err)
	}
	if l, err := openLog(dir, "link.log", nil); err == nil {
		l.Close()
		t.Error("followed a link")
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("wrote outside")
	}
}

// What stands before a recipe's script changes nothing about it, in both shells that
// environments have.
func TestPrologue(t *testing.T) {
	shells := map[string][]string{}
	if name, err := exec.LookPath("bash"); err == nil {
		shells["bash"] = []string{name, "--posix"}
	}
	if name, err := exec.LookPath("busybox"); err == nil {
		shells["busybox"] = []string{name, "sh"}
	}
	if len(shells) == 0 {
		t.Skip("neither bash nor busybox is here")
	}
	for _, test := range []struct {
		name, script string
		out          string
		code         int
		command      string // bash's
	}{
		{"success", "echo a", "a\n", 0, ""},
		{"no arguments", `echo "$#:$1:$*"`, "0::\n", 0, ""},
		{"unset variables are errors", "set -u\necho ok", "ok\n", 0, ""},
		{"unset variables are errors, and there is one", "set -u\n: $nothing\necho no", "", 1, ""},
		{"the first command that fails ends it", "echo a\nfalse\necho b", "a\n", 1, "false"},
		{"also in a pipe", "false | cat\necho b", "", 1, ""},
		{"the status stays", "sh -c 'exit 7'", "", 7, "sh -c 'exit 7'"},
		{"exit", "echo a; exit 3", "a\n", 3, "exit 3"},
		{"exit 0 in the middle", "exit 0\nfalse", "", 0, ""},
		{"a trap of its own", "trap 'echo bye' EXIT\nfalse", "bye\n", 1, ""},
		{"a trap taken away", "trap - EXIT\nfalse", "", 1, ""},
		{"errors allowed", "set +e\nfalse\necho b", "b\n", 0, ""},
		{"a subshell", "(false) || echo c\n(exit 4)", "c\n", 4, ""},
		{"a function", "f() { return 5; }\nf", "", 5, ""},
		{"a here document at the end", "cat <<EOF\nx\nEOF", "x\n", 0, ""},
		{"quotes in the folder's name change nothing", "pwd | sed 's/.*\\///'", "a $(b) 'c'\n", 0, ""},
		{"a comment at the end", "echo a # b", "a\n", 0, ""},
		{"a first line with an interpreter", "#!/bin/bash\necho a", "a\n", 0, ""},
		{"a mistake in the syntax", "if", "", 2, ""},
		{"exec", "exec echo a", "a\n", 0, ""},
	} {
		for shell, argv := range shells {
			t.Run(shell+"/"+test.name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "a $(b) 'c'")
				l, _ := newLog(t)
				var out bytes.Buffer
				c := exec.Command(argv[0], append(argv[1:], "-c", script(test.script), "sh", dir)...)
				c.Stdout, c.Stderr = &out, l
				err := c.Run()
				code := c.ProcessState.ExitCode()
				if test.code == 2 { // shells have several for this
					if err == nil {
						t.Error("it ran")
					}
					return
				}
				if test.name == "unset variables are errors, and there is one" && code > 0 {
					code = 1 // as above
				}
				if out.String() != test.out || code != test.code {
					t.Errorf("got %q, %d, want %q, %d\n%s", out.String(), code, test.out, test.code, l.tail())
				}
				if got := l.command(); test.command != "" && shell == "bash" && got != test.command {
					t.Errorf("stopped at: got %q, want %q", got, test.command)
				} else if shell == "busybox" && got != "" {
					t.Errorf("stopped at: got %q of a shell that does not know", got)
				}
			})
		}
	}
}
