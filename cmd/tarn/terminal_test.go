package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/tarn-build/tarn/build"
)

// screen is what stands on a terminal of a width after bytes were written to it: it
// knows the ends of lines and the two sequences by which the table goes away.
func screen(t *testing.T, written string, width int) []string {
	t.Helper()
	lines, row := []string{""}, 0
	wraps := true
	for len(written) > 0 {
		var up int
		switch {
		case strings.HasPrefix(written, "\x1b[?7l"), strings.HasPrefix(written, "\x1b[?7h"):
			wraps, written = written[4] == 'h', written[5:]
		case strings.HasPrefix(written, "\x1b[J"):
			lines, written = append(lines[:row:row], ""), written[3:]
		case strings.HasPrefix(written, "\x1b["):
			n, rest, found := strings.Cut(written[2:], "A")
			for _, digit := range n {
				up = up*10 + int(digit-'0')
			}
			if !found || up == 0 || up > row {
				t.Fatalf("cursor goes up by %q from row %d", n, row)
			}
			row, written = row-up, rest
		case written[0] == '\n':
			row++
			if row == len(lines) {
				lines = append(lines, "")
			}
			written = written[1:]
		case written[0] < ' ':
			t.Fatalf("control character %q", written[0])
		default:
			if wraps && len(lines[row]) == width {
				row++
				lines = append(lines, "")
			}
			lines[row] += written[:1]
			written = written[1:]
		}
	}
	return lines
}

func TestTableVanishes(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out, live: true, total: 3, running: map[string]*running{}, stop: make(chan struct{})}
	p.report(build.Event{Recipe: "zlib", Stage: "run", Detail: "step \x1b]0;owned\a " + strings.Repeat("x", 200)})
	p.report(build.Event{Recipe: "musl", Stage: "fetch"})
	p.show("", true)
	p.show("", true)
	table := screen(t, out.String(), 80)
	if got := strings.Join(table, "\n"); !strings.Contains(got, "  zlib") || !strings.Contains(got, "0 of 3 done, 2 running") {
		t.Errorf("got screen\n%s\nwant both recipes and the count", got)
	}
	for _, line := range table {
		if len([]rune(line)) > 79 {
			t.Errorf("line is not cut: %q", line)
		}
	}
	p.finish("musl", "musl: built \x1b[31mred\x1b[0m")
	if _, err := p.Write([]byte("zlib: checking for gcc\x1b[2J")); err != nil {
		t.Fatal(err)
	}
	p.close()
	got := strings.Join(screen(t, out.String(), 80), "\n")
	want := "musl: built \uFFFD[31mred\uFFFD[0m\nzlib: checking for gcc\uFFFD[2J\n"
	if got != want {
		t.Errorf("got screen %q, want %q", got, want)
	}
}

func TestTableFits(t *testing.T) {
	p := &progress{running: map[string]*running{}, total: 50}
	for i := range 50 {
		p.running[strings.Repeat("r", i+1)] = &running{since: time.Unix(int64(i), 0), stage: "run", detail: "a\nb"}
	}
	lines := p.table(40, 10)
	if len(lines) != 9 {
		t.Errorf("got %d lines for a screen of 10, want 9", len(lines))
	}
	for _, line := range lines {
		if len(line) > 39 || strings.Contains(line, "\n") {
			t.Errorf("line %q does not fit 40 columns", line)
		}
	}
	if got := rows([]int{79, 30, 0}, 40); got != 4 {
		t.Errorf("got %d rows after the window became half as wide, want 4", got)
	}
}
