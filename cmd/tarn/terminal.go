package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/tarn-build/tarn/build"
)

// isTerminal tells whether a stream is a terminal that moves its cursor.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// progress shows what runs: a live table on a terminal, else a line a change.
type progress struct {
	mu      sync.Mutex
	out     io.Writer
	live    bool
	colour  bool
	total   int
	done    int
	running map[string]*running
	drawn   []int // the widths of the table's lines that are on the screen
	stop    chan struct{}
	stopped sync.WaitGroup
	trace   *trace
}

// running is the work on one recipe.
type running struct {
	since  time.Time
	stage  string
	detail string
}

func (a *app) newProgress(total int, t *trace) *progress {
	p := &progress{out: a.err, live: isTerminal(a.err), colour: a.colour(), total: total, running: map[string]*running{}, stop: make(chan struct{}), trace: t}
	if p.live {
		p.stopped.Go(func() {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-p.stop:
					return
				case <-tick.C:
					p.mu.Lock()
					p.show("", true)
					p.mu.Unlock()
				}
			}
		})
	}
	return p
}

// pause takes the table off the screen until resume, and holds back what others print.
func (p *progress) pause() {
	p.mu.Lock()
	p.show("", false)
}

func (p *progress) resume() { p.mu.Unlock() }

// close takes the table off the screen.
func (p *progress) close() {
	close(p.stop)
	p.stopped.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show("", false)
}

// report takes what a builder tells.
func (p *progress) report(e build.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.running[e.Recipe]
	isNew := r == nil
	if isNew {
		r = &running{since: time.Now()}
		p.running[e.Recipe] = r
	}
	p.trace.begin(e.Recipe, strings.TrimSpace(e.Stage+" "+e.Detail))
	if !p.live && (isNew || r.stage != e.Stage) {
		fmt.Fprintf(p.out, "%s: %s\n", flat(plain(e.Recipe)), e.Stage)
	}
	r.stage, r.detail = e.Stage, e.Detail
}

// finish counts a recipe as done and prints its one line, if it has one.
func (p *progress) finish(recipe, line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	delete(p.running, recipe)
	p.trace.end(recipe)
	if line != "" {
		p.show(plain(line)+"\n", true)
	}
}

// Write prints lines above the table.
func (p *progress) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		return p.out.Write(text)
	}
	lines := plain(string(text))
	if !strings.HasSuffix(lines, "\n") {
		lines += "\n" // or the table would begin behind it
	}
	p.show(lines, true)
	return len(text), nil
}

// show puts lines in place of the table, and the table below them if it is wanted. It
// is one write, so that nobody sees the screen without the table in between.
func (p *progress) show(lines string, withTable bool) {
	if !p.live {
		fmt.Fprint(p.out, lines)
		return
	}
	width, height := 80, 24
	if f, ok := p.out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			width, height = w, h
		}
	}
	var b strings.Builder
	if up := rows(p.drawn, width); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", min(up, height-1))
	}
	p.drawn = nil
	b.WriteString(lines)
	if withTable {
		// The terminal breaks no line of the table, whatever is wide for it.
		b.WriteString("\x1b[?7l")
		for _, line := range p.table(width, height) {
			b.WriteString(line + "\n")
			p.drawn = append(p.drawn, len([]rune(line)))
		}
		b.WriteString("\x1b[?7h")
	}
	fmt.Fprint(p.out, b.String())
}

// rows is how many rows of the screen lines take, whose window may have become narrower
// since they were drawn.
func rows(widths []int, width int) int {
	n := 0
	for _, w := range widths {
		n += max(1, (w+width-1)/width)
	}
	return n
}

// table is what runs, the longest first, on no more lines than the screen has room for.
func (p *progress) table(width, height int) []string {
	names := slices.SortedFunc(maps.Keys(p.running), func(a, b string) int {
		return cmp.Or(p.running[a].since.Compare(p.running[b].since), strings.Compare(a, b))
	})
	var lines []string
	for _, name := range names[:min(len(names), max(0, height-2))] {
		r := p.running[name]
		lines = append(lines, cut(flat(plain(fmt.Sprintf("  %-24s %7s  %s %s", name, shortDuration(time.Since(r.since)), r.stage, r.detail))), width))
	}
	return append(lines, cut(fmt.Sprintf("%d of %d done, %d running", p.done, p.total, len(names)), width))
}

// plain is a text without anything that a terminal acts on but the ends of its lines:
// names and messages may come from a recipe or a package.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// flat is a text on one line, without columns.
func flat(text string) string { return strings.NewReplacer("\n", " ", "\t", " ").Replace(text) }

// cut shortens a line so that the terminal does not wrap it.
func cut(line string, width int) string {
	if runes := []rune(line); len(runes) >= width {
		return string(runes[:max(0, width-1)])
	}
	return line
}

// shortDuration is like 3.2s, 1m05s.
func shortDuration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}

// shortSize is like 812 B, 3.4 kB, 12.0 MB.
func shortSize(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, suffix := float64(n)/unit, 0
	for value >= unit && suffix < 3 {
		value /= unit
		suffix++
	}
	return fmt.Sprintf("%.1f %cB", value, "kMGT"[suffix])
}

// table prints rows in columns, the first row as the head.
func table(w io.Writer, rightAligned map[int]bool, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			cell = flat(plain(cell))
			row[i] = cell
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i > 0 {
				b.WriteString("  ")
			}
			if rightAligned[i] {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// plural is like 1 package, 3 packages.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
