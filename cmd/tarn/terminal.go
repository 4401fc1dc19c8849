package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

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
	drawn   int // lines of the table that are on the screen
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
					p.draw()
					p.mu.Unlock()
				}
			}
		})
	}
	return p
}

// close takes the table off the screen.
func (p *progress) close() {
	close(p.stop)
	p.stopped.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
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
		fmt.Fprintf(p.out, "%s: %s\n", e.Recipe, e.Stage)
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
		p.erase()
		fmt.Fprintln(p.out, line)
		p.draw()
	}
}

// Write prints lines above the table.
func (p *progress) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	n, err := p.out.Write(text)
	p.draw()
	return n, err
}

func (p *progress) erase() {
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\x1b[J", p.drawn)
		p.drawn = 0
	}
}

func (p *progress) draw() {
	if !p.live {
		return
	}
	p.erase()
	width := 80
	if f, ok := p.out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			width = w
		}
	}
	var names []string
	for name := range p.running {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return p.running[a].since.Compare(p.running[b].since) })
	var b strings.Builder
	for _, name := range names {
		r := p.running[name]
		line := fmt.Sprintf("  %-24s %7s  %s %s", name, shortDuration(time.Since(r.since)), r.stage, r.detail)
		b.WriteString(cut(line, width) + "\n")
	}
	b.WriteString(cut(fmt.Sprintf("%d of %d done, %d running", p.done, p.total, len(names)), width) + "\n")
	fmt.Fprint(p.out, b.String())
	p.drawn = len(names) + 1
}

// cut shortens a line so that the terminal does not wrap it.
func cut(line string, width int) string {
	if runes := []rune(line); len(runes) >= width {
		return string(runes[:width-1])
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
