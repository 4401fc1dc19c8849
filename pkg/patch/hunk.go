package patch

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// place is a file while its hunks are applied to it.
type place struct {
	lines  [][]byte
	out    bytes.Buffer
	done   int // lines of the file that are behind
	offset int // how far the hunks before were from where they said
	grown  int // lines that the hunks before added
}

// hunks applies the hunks of a diff. inexact says that one was not where it said, or
// not with all of its context.
func (a *applier) hunks(d *Diff, name string, c content) (after []byte, inexact, ok bool) {
	p := &place{lines: splitLines(c.data)}
	wrong := len(a.problems)
	for i := range d.Hunks {
		h := &d.Hunks[i]
		at, fuzz, text := p.find(h, min(a.o.Fuzz, max(h.prefix, h.suffix)), i == 0)
		if text == "" && at == 1 && d.OldMissing == Certainly && len(c.data) > 0 {
			text = "is for a file that is not there, and it is"
		}
		if text == "" && !p.apply(h, at) {
			text = "comes before the hunk that was applied last"
		}
		if text != "" {
			a.problems = append(a.problems, Problem{File: name, Hunk: i + 1, Line: h.Line, Text: text})
			if turned := strings.HasPrefix(text, alreadyApplied); turned {
				return nil, false, false // nor will the others
			}
			continue
		}
		if fuzz > 0 || p.offset != 0 {
			inexact = true
		}
		if a.o.Report != nil {
			a.report("%s", describeHunk(i+1, at+p.grown-(len(h.new())-len(h.old())), fuzz, p.offset))
		}
	}
	if len(a.problems) > wrong {
		return nil, false, false
	}
	p.copy(len(p.lines))
	return p.out.Bytes(), inexact, true
}

func describeHunk(number, at, fuzz, offset int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  hunk %d applied at line %d", number, at)
	if fuzz > 0 {
		fmt.Fprintf(&b, ", with fuzz %d", fuzz)
	}
	switch {
	case offset > 0:
		fmt.Fprintf(&b, ", %s further down than it says", lineCount(offset))
	case offset < 0:
		fmt.Fprintf(&b, ", %s further up than it says", lineCount(-offset))
	}
	return b.String()
}

func lineCount(n int) string { return count(n, "line") }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

const alreadyApplied = "was applied already, or is reversed"

// find looks for the place of a hunk: with as little fuzz as can be, and with each fuzz as
// near as can be to where the hunk says it is. The first hunk of a file is also tried the other way round.
func (p *place) find(h *Hunk, maxFuzz int, first bool) (at, fuzz int, wrong string) {
	old := h.old()
	for fuzz = 0; fuzz <= maxFuzz; fuzz++ {
		if at, offset := p.locate(old, h.OldStart, h.prefix, h.suffix, fuzz); at > 0 {
			p.offset = offset
			return at, fuzz, ""
		}
		if !first {
			continue
		}
		if at, _ := p.locate(h.new(), h.NewStart, h.prefix, h.suffix, fuzz); at > 0 {
			return 0, 0, fmt.Sprintf("%s: its outcome is there at line %d", alreadyApplied, at)
		}
	}
	return 0, 0, p.explain(old, h.OldStart+p.offset)
}

// locate finds the lines of one side of a hunk with a certain fuzz; 0 where they are not.
// A side with less context at its begin than at its end is that of the file's beginning, and so
// at the end, as long as fuzz does not make up for it.
func (p *place) locate(want [][]byte, start, prefix, suffix, fuzz int) (at, offset int) {
	guess := start + p.offset
	if len(want) == 0 {
		return guess, p.offset
	}
	context := max(prefix, suffix)
	prefixFuzz, suffixFuzz := fuzz+prefix-context, fuzz+suffix-context
	last := len(p.lines) - (len(want) - suffixFuzz) + 1
	down, up := last-guess, guess-(p.done+1)
	if guess <= up {
		up = guess - 1
	}
	if prefixFuzz < 0 {
		if suffixFuzz < 0 && (len(want) != len(p.lines) || prefix < p.done) {
			return 0, 0
		}
		by := 1 - guess
		if p.done <= prefix && by <= down && p.matches(want, 1, 0, max(suffixFuzz, 0)) {
			return 1, p.offset + by
		}
		return 0, 0
	}
	if suffixFuzz < 0 {
		by := guess - (len(p.lines) - len(want) + 1)
		if by <= up && p.matches(want, guess-by, prefixFuzz, 0) {
			return guess - by, p.offset - by
		}
		return 0, 0
	}
	from := 0
	if down < 0 {
		from = -down
	} else if up < 0 {
		from = -up
	}
	for by := from; by <= max(down, up); by++ {
		if by <= down && p.matches(want, guess+by, prefixFuzz, suffixFuzz) {
			return guess + by, p.offset + by
		}
		if by <= up && p.matches(want, guess-by, prefixFuzz, suffixFuzz) {
			return guess - by, p.offset - by
		}
	}
	return 0, 0
}

// matches compares lines with those of the file from line at on, without some at both ends.
func (p *place) matches(want [][]byte, at, prefixFuzz, suffixFuzz int) bool {
	for i := prefixFuzz; i < len(want)-suffixFuzz; i++ {
		if !bytes.Equal(p.line(at+i), want[i]) {
			return false
		}
	}
	return true
}

// line gives a line of the file, counted from 1; nothing beyond its ends.
func (p *place) line(n int) []byte {
	if n < 1 || n > len(p.lines) {
		return nil
	}
	return p.lines[n-1]
}

// apply writes the file up to a hunk's last change. What of its context is fuzzy is written
// as the file has it.
func (p *place) apply(h *Hunk, at int) bool {
	line := at
	for _, l := range h.Lines[:len(h.Lines)-h.suffix] {
		switch l.Op {
		case ' ':
			line++
		case '-':
			if !p.copy(line - 1) {
				return false
			}
			p.done++
			line++
		case '+':
			if !p.copy(line - 1) {
				return false
			}
			p.emit(l.Text)
		}
	}
	p.grown += len(h.new()) - len(h.old())
	return true
}

// copy writes the file's lines up to one as they are; false where that is behind.
func (p *place) copy(to int) bool {
	if p.done > to {
		return false
	}
	for ; p.done < to; p.done++ {
		p.emit(p.line(p.done + 1))
	}
	return true
}

// emit writes a line; one before it without an end gets one.
func (p *place) emit(line []byte) {
	if len(line) == 0 {
		return
	}
	if written := p.out.Bytes(); len(written) > 0 && written[len(written)-1] != '\n' {
		p.out.WriteByte('\n')
	}
	p.out.Write(line)
}

// explain says where the most of a hunk's lines are, and which of them is not there.
func (p *place) explain(want [][]byte, guess int) string {
	if len(p.lines) == 0 {
		return "does not apply: the file is empty"
	}
	bestAt, bestScore := 0, -1
	limit := 4000 // places that are looked at, so that a hopeless patch ends soon
	for by := 0; by <= len(p.lines) && limit > 0; by++ {
		for _, at := range slices.Compact([]int{guess + by, guess - by}) {
			if at < 1 || at > len(p.lines) {
				continue
			}
			limit--
			score := 0
			for i, w := range want {
				if bytes.Equal(p.line(at+i), w) {
					score++
				}
			}
			if score > bestScore {
				bestAt, bestScore = at, score
			}
		}
	}
	if bestAt == 0 {
		return fmt.Sprintf("does not apply: it is for line %d, and the file has %d", guess, len(p.lines))
	}
	for i, w := range want {
		found := p.line(bestAt + i)
		if bytes.Equal(found, w) {
			continue
		}
		what := quoted(found)
		if found == nil {
			what = "the end of the file"
		}
		text := fmt.Sprintf("does not apply (%d of its %s fit at line %d)\n  expected at line %d: %s\n  found: %s",
			bestScore, lineCount(len(want)), bestAt, bestAt+i, quoted(w), what)
		if bytes.Equal(bytes.TrimRight(found, "\r\n"), bytes.TrimRight(w, "\r\n")) {
			text += "\n  hint: the lines differ in their ends alone"
		}
		return text
	}
	return fmt.Sprintf("does not apply: it fits at line %d only, which a hunk before it has changed or its context rules out", bestAt)
}

// quoted is a line as a message can show it.
func quoted(line []byte) string {
	const most = 160
	text := string(line)
	if len(text) > most {
		for text = text[:most]; !utf8.ValidString(text) && len(text) > most-4; {
			text = text[:len(text)-1]
		}
		text += "…"
	}
	return fmt.Sprintf("%q", text)
}
