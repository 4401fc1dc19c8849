// Package patch reads patches and applies them to a tree of files, with the outcome
// of GNU patch 2.7.6: the same names chosen, the same offsets and fuzz tried in the
// same order, the same files made, removed and kept (FILE.orig where a hunk did not
// match exactly). Where GNU patch would ask on a terminal, or leave rejects behind, an
// error says what does not fit, and nothing of the tree is changed.
//
// Unified diffs, those of git with their further headers, context diffs and normal
// diffs are read. Contents that git writes in binary, and scripts of ed, are refused.
//
// The formats are those of POSIX (patch, diff), of "Comparing and Merging Files"
// (the manual of GNU diffutils) and of git-diff(1).
package patch

// Diff is what a patch does to one file.
type Diff struct {
	// Old, New and Index are the names in its header as they are written there; "" where
	// there is none, or where it is /dev/null.
	Old, New, Index string
	// OldMissing and NewMissing say how sure it is that the file is not there before,
	// or after: from the header alone, so that what lies in the tree decides in doubt.
	OldMissing, NewMissing Missing
	// Git says that the header is git's. OldMode and NewMode are of its header, 0 where
	// it names none.
	Git              bool
	OldMode, NewMode uint32
	// Rename and Copy say that New is made of Old.
	Rename, Copy bool
	// Binary says that the contents differ and the patch does not hold them.
	Binary bool
	Hunks  []Hunk
	// Line is where its header ends, from 1.
	Line int
}

// Missing says how sure it is that a file is not there.
type Missing int

const (
	Present   Missing = iota
	Empty             // it has no lines: it is empty, or not there
	Certainly         // it is not there
)

// Hunk is one change of a file: lines that are there, and what they become.
type Hunk struct {
	// OldStart and NewStart are the lines that it begins at, from 1. Where there are no
	// lines on that side it is the line before which the others go.
	OldStart, NewStart int
	Lines              []Line
	// Line is where it stands in the patch, from 1.
	Line int

	prefix, suffix int // lines of context before the first change and after the last
}

// Line is one line of a hunk.
type Line struct {
	Op   byte   // ' ' is on both sides, '-' on the old one, '+' on the new one
	Text []byte // with its newline, where it has one
}

// side gives the lines of one side.
func (h *Hunk) side(without byte) [][]byte {
	lines := make([][]byte, 0, len(h.Lines))
	for _, l := range h.Lines {
		if l.Op != without {
			lines = append(lines, l.Text)
		}
	}
	return lines
}

func (h *Hunk) old() [][]byte { return h.side('+') }
func (h *Hunk) new() [][]byte { return h.side('-') }

// measure counts the context, and reports whether the hunk changes anything.
func (h *Hunk) measure() bool {
	first, last := -1, -1
	for i, l := range h.Lines {
		if l.Op != ' ' {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return false
	}
	h.prefix, h.suffix = first, len(h.Lines)-1-last
	return true
}
