package patch

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// MaxSize is how long a patch may be, in bytes. The kernel's between two versions
// have less than half of it.
const MaxSize = 256 << 20

// SyntaxError says that a patch is malformed.
type SyntaxError struct {
	Line int // of the patch, from 1
	Text string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// Parse reads a patch: its diffs in their order, with whatever stands between them
// left out. An empty patch has none; one with nothing but other text is a *SyntaxError.
func Parse(data []byte) ([]Diff, error) {
	if len(data) > MaxSize {
		return nil, &SyntaxError{1, fmt.Sprintf("the patch is longer than %d bytes", MaxSize)}
	}
	p := &parser{rest: data}
	var diffs []Diff
	for {
		d, err := p.diff()
		if err != nil {
			return nil, err
		}
		if d == nil {
			break
		}
		diffs = append(diffs, *d)
	}
	if len(diffs) == 0 && len(data) > 0 {
		if p.odd == nil {
			p.odd = &SyntaxError{1, "there is no diff in it"}
		}
		return nil, p.odd
	}
	return diffs, nil
}

// parser goes through a patch line by line.
type parser struct {
	rest   []byte
	number int // of the line that was read last
	// What a diff's lines are written with in front of them and at their end.
	indent  int
	nesting int  // "- " in front, by RFC 934
	chop    bool // carriage returns at the ends of lines are not part of them
	// odd is what looked like a diff and was left out.
	odd *SyntaxError
}

func (p *parser) failed(format string, args ...any) error {
	return &SyntaxError{p.number, fmt.Sprintf(format, args...)}
}

// peek gives the next line with its newline, nil at the end. Lines that begin with #
// are comments.
func (p *parser) peek() []byte {
	line, _, _, _ := p.look()
	return line
}

// look gives the next line, how long it and the comments before it are in the patch, how
// many lines that is, and what of the line was its indentation.
func (p *parser) look() (line []byte, size, lines, indent int) {
	rest := p.rest
	for len(rest) > 0 {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		line = rest[:end]
		rest = rest[end:]
		size, lines = size+end, lines+1
		line, indent = p.dedent(line)
		if len(line) > 0 && line[0] == '#' {
			continue
		}
		if len(line) == 0 {
			line = []byte("\n") // the end of the patch lost it, and the indentation was all
		}
		if n := len(line); p.chop && n >= 2 && line[n-2] == '\r' && line[n-1] == '\n' {
			line = append(bytes.Clone(line[:n-2]), '\n')
		}
		return line, size, lines, indent
	}
	return nil, size, lines, 0
}

// dedent takes away what a whole diff is indented by.
func (p *parser) dedent(line []byte) (rest []byte, column int) {
	for column < p.indent && len(line) > 0 {
		switch line[0] {
		case ' ', 'X':
			column++
		case '\t':
			column = (column + 8) &^ 7
		default:
			return line, column
		}
		line = line[1:]
	}
	for range p.nesting {
		if !bytes.HasPrefix(line, []byte("- ")) {
			break
		}
		line = line[2:]
	}
	return line, column
}

// next reads a line.
func (p *parser) next() []byte {
	line, size, lines, _ := p.look()
	p.rest, p.number = p.rest[size:], p.number+lines
	return line
}

// header is what stands before a diff.
type header struct {
	star, dash, plus, index name // of "*** ", "--- ", "+++ " and "Index:"
	named                   bool // one of them is there; hunks without are text
	git                     bool
	extended                bool // git says more than names
	gitOld, gitNew          string
	oldMode, newMode        uint32
	oldMissing, newMissing  Missing
	renameFrom, renameTo    bool
	copyFrom, copyTo        bool
	binary                  bool
}

// name is a file's name in a header.
type name struct {
	text  string
	known bool // there is such a line
	epoch bool // it says that the file is not there: /dev/null, or a time at the beginning of 1970
}

var (
	rangePattern   = regexp.MustCompile(`^@@ -(\d+)(?:,(\d+))? ?\+(\d+)(?:,(\d+))? ?@`)
	commandPattern = regexp.MustCompile(`^(\d+)(?:,(\d+))?([acd])(\d+)(?:,(\d+))?[ \t\r]*\n$`)
	edPattern      = regexp.MustCompile(`^\d+(?:,\d+)?[acds]\r?\n$`)
	gitIndex       = regexp.MustCompile(`^index ([0-9A-Fa-f]+)\.\.([0-9A-Fa-f]+)(?:\s+(\S*))?`)
	starsPattern   = regexp.MustCompile(`^\*\*\* (\d+)(?:,(\d+))?`)
	dashesPattern  = regexp.MustCompile(`^--- (\d+)(?:,(\d+))?`)
)

// diff reads the next diff, nil where none is left.
func (p *parser) diff() (*Diff, error) {
	p.indent, p.nesting, p.chop = 0, 0, false
	var h header
	chop, nesting := false, 0 // of the last line with a name
	stars, starsIndent := false, 0
	var command []byte // the line before, where it is a command of a normal diff
	commandIndent := 0
	for {
		mark := *p
		raw := p.next()
		if raw == nil {
			if !h.extended {
				return nil, nil
			}
			d := h.diff(h.gitNames())
			d.Line = p.number
			return d, nil
		}
		line, indent := unindent(raw)
		returns := bytes.HasSuffix(line, []byte("\r\n"))
		starsBefore, starsBeforeIndent := stars, starsIndent
		stars, starsIndent = bytes.HasPrefix(line, []byte("********")), indent
		commandBefore, commandBeforeIndent := command, commandIndent
		command, commandIndent = nil, indent
		begin := func() {
			p.number, p.rest = mark.number, mark.rest
			p.indent, p.nesting, p.chop = indent, nesting, chop
		}
		text := string(line)
		switch {
		case !starsBefore && strings.HasPrefix(text, "*** "):
			h.star = readName(text[4:])
			h.named, chop = true, returns
		case strings.HasPrefix(text, "+++ "):
			h.plus = readName(text[4:])
			h.named, chop = true, returns
		case strings.HasPrefix(text, "Index:"):
			h.index = readName(text[6:])
			h.named, chop = true, returns
		case strings.HasPrefix(text, "diff --git "):
			if h.extended {
				p.number, p.rest = mark.number, mark.rest
				d := h.diff(h.gitNames())
				d.Line = p.number
				return d, nil
			}
			h.gitOld, h.gitNew = gitNames(strings.TrimRight(text[11:], "\r\n"))
			h.git = true
			h.named, chop = true, returns
		case h.git && h.more(text):
		case h.git && strings.HasPrefix(text, "GIT binary patch"):
			return nil, p.failed("it holds %s in binary form, which only git apply can read", h.who())
		case h.git && strings.HasPrefix(text, "Binary files ") && strings.HasSuffix(strings.TrimSpace(text), " differ"):
			h.binary = true
		case starsBefore && starsBeforeIndent == indent && strings.HasPrefix(text, "*** "):
			if h.named {
				begin()
				return p.context(&h)
			}
			p.leave("the hunk is of a file that no line before it names")
		case strings.HasPrefix(text, "@@ -"):
			if h.named {
				begin()
				return p.unified(&h)
			}
			p.leave("the hunk is of a file that no line before it names")
		case commandBefore != nil && commandBeforeIndent == indent && (strings.HasPrefix(text, "< ") || strings.HasPrefix(text, "> ")):
			if h.named {
				begin()
				return p.normal(&h, commandBefore)
			}
			p.leave("the hunk is of a file that no line before it names")
		case edPattern.MatchString(text):
			p.leave("it is a script of ed, which is not read: make the patch with diff -u")
		case commandPattern.MatchString(text):
			command = line
		default:
			nested := text
			for strings.HasPrefix(nested, "- ") {
				nested = nested[2:]
			}
			if strings.HasPrefix(nested, "--- ") {
				h.dash = readName(nested[4:])
				if h.dash.epoch || strings.Contains(nested, "\t") {
					nesting = (len(text) - len(nested)) / 2
				}
				h.named, chop = true, returns
			}
		}
	}
}

// leave notes what is left out, which explains a patch without a diff.
func (p *parser) leave(text string) {
	if p.odd == nil {
		p.odd = &SyntaxError{p.number, text}
	}
}

// unindent gives a line without what stands before a diff that is indented.
func unindent(line []byte) (rest []byte, column int) {
	for i, c := range line {
		switch c {
		case ' ', 'X':
			column++
		case '\t':
			column = (column + 8) &^ 7
		default:
			return line[i:], column
		}
	}
	return nil, column
}

// more reads a line of git's further headers.
func (h *header) more(text string) bool {
	mode := func(prefix string, to *uint32) bool {
		rest, found := strings.CutPrefix(text, prefix)
		if found {
			*to = readMode(rest)
		}
		return found
	}
	switch {
	case mode("old mode ", &h.oldMode), mode("new mode ", &h.newMode):
	case mode("deleted file mode ", &h.oldMode):
		h.newMissing = Certainly
	case mode("new file mode ", &h.newMode):
		h.oldMissing = Certainly
	case strings.HasPrefix(text, "rename from "):
		h.renameFrom = true
	case strings.HasPrefix(text, "rename to "):
		h.renameTo = true
	case strings.HasPrefix(text, "copy from "):
		h.copyFrom = true
	case strings.HasPrefix(text, "copy to "):
		h.copyTo = true
	default:
		m := gitIndex.FindStringSubmatch(text)
		if m == nil {
			return false
		}
		h.oldMissing, h.newMissing = max(h.oldMissing, blobMissing(m[1])), max(h.newMissing, blobMissing(m[2]))
		if m[3] != "" {
			h.oldMode = readMode(m[3])
			h.newMode = h.oldMode
		}
	}
	h.extended = true
	return true
}

// emptyBlob is git's name of an empty file.
const emptyBlob = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

func blobMissing(id string) Missing {
	switch {
	case strings.Trim(id, "0") == "":
		return Certainly
	case strings.HasPrefix(emptyBlob, strings.ToLower(id)):
		return Empty
	}
	return Present
}

// readMode reads a mode of git; 0 is one that is none.
func readMode(text string) uint32 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 8, 32)
	if err != nil || n&modeType != modeFile && n&modeType != modeLink {
		return 0
	}
	return uint32(n)
}

// Types of files in git's modes.
const (
	modeType = 0o170000
	modeFile = 0o100000
	modeLink = 0o120000
)

func (h *header) who() string {
	if h.gitNew != "" {
		return h.gitNew
	}
	return "a file"
}

// gitNames are the names where no lines with dashes and pluses give better ones.
func (h *header) gitNames() (old, new name) {
	old, new = name{text: h.gitOld, known: h.gitOld != ""}, name{text: h.gitNew, known: h.gitNew != ""}
	if h.dash.known {
		old = h.dash
	}
	if h.plus.known {
		new = h.plus
	}
	return old, new
}

func (h *header) diff(old, new name) *Diff {
	return &Diff{
		Old: old.text, New: new.text, Index: h.index.text, OldMissing: h.oldMissing, NewMissing: h.newMissing,
		Git: h.git, OldMode: h.oldMode, NewMode: h.newMode, Rename: h.renameFrom && h.renameTo, Copy: h.copyFrom && h.copyTo, Binary: h.binary,
	}
}

// missing says what a range without lines tells of the file.
func missing(n name) Missing {
	if n.epoch {
		return Certainly
	}
	return Empty
}

// unified reads the hunks of a unified diff.
func (p *parser) unified(h *header) (*Diff, error) {
	old, new := h.gitNames()
	d := h.diff(old, new)
	d.Line = p.number + 1
	first := rangePattern.FindStringSubmatch(string(p.peek()))
	if first != nil && first[1] == "0" {
		d.OldMissing = missing(old)
	}
	if first != nil && first[3] == "0" {
		d.NewMissing = missing(new)
	}
	for {
		line := p.peek()
		if !bytes.HasPrefix(line, []byte("@@ -")) {
			return d, nil
		}
		p.next()
		m := rangePattern.FindStringSubmatch(string(line))
		if m == nil {
			return nil, p.failed("malformed range of a hunk: %s", bytes.TrimSpace(line))
		}
		hunk := Hunk{Line: p.number}
		var oldLines, newLines int
		if err := p.numbers(m[1:], &hunk.OldStart, &oldLines, &hunk.NewStart, &newLines); err != nil {
			return nil, err
		}
		if oldLines == 0 {
			hunk.OldStart++
		}
		if newLines == 0 {
			hunk.NewStart++
		}
		for oldLines > 0 || newLines > 0 {
			line := p.next()
			op := byte(' ')
			switch {
			case line == nil && oldLines == newLines && oldLines < 3:
				// Blank lines at the end of a patch are easily lost.
				line = []byte("\n")
			case line == nil:
				return nil, p.failed("the patch ends inside the hunk of line %d", hunk.Line)
			case line[0] == '\n' || line[0] == '\t' || line[0] == '\r':
				// The space at its beginning was lost.
			default:
				op, line = line[0], line[1:]
			}
			if op == '=' {
				op = ' '
			}
			if op != '+' {
				oldLines--
			}
			if op != '-' {
				newLines--
			}
			if op != ' ' && op != '-' && op != '+' || oldLines < 0 || newLines < 0 {
				return nil, p.failed("this line does not belong to the hunk of line %d, which is not over", hunk.Line)
			}
			hunk.Lines = append(hunk.Lines, Line{op, p.complete(line)})
		}
		if !hunk.measure() {
			return nil, p.failed("the hunk of line %d changes nothing", hunk.Line)
		}
		d.Hunks = append(d.Hunks, hunk)
	}
}

// numbers reads starts and counts; a count that is absent is 1.
func (p *parser) numbers(texts []string, into ...*int) error {
	for i, text := range texts {
		*into[i] = 1
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n > MaxSize {
			return p.failed("%s is no number of a line", text)
		}
		*into[i] = n
	}
	return nil
}

// complete takes the newline from a line that the next one says has none.
func (p *parser) complete(line []byte) []byte {
	if next := p.peek(); len(next) > 0 && next[0] == '\\' {
		p.next()
		line = bytes.TrimSuffix(line, []byte("\n"))
	}
	return line
}

// normal reads the commands of a normal diff, whose first one was read.
func (p *parser) normal(h *header, command []byte) (*Diff, error) {
	d := h.diff(h.star, h.dash)
	d.Line = p.number
	for first := true; ; first = false {
		if !first {
			if line := p.peek(); line == nil || !commandPattern.Match(line) {
				return d, nil
			}
			command = p.next()
		}
		hunk := Hunk{Line: p.number}
		m := commandPattern.FindStringSubmatch(string(command))
		var from, to, newFrom, newTo int
		if err := p.numbers([]string{m[1], m[2], m[4], m[5]}, &from, &to, &newFrom, &newTo); err != nil {
			return nil, err
		}
		if m[2] == "" {
			to = from
		}
		if m[5] == "" {
			newTo = newFrom
		}
		oldLines, newLines := to-from+1, newTo-newFrom+1
		hunk.OldStart, hunk.NewStart = from, newFrom
		switch m[3] {
		case "a":
			oldLines = 0
			hunk.OldStart++
		case "d":
			newLines = 0
			hunk.NewStart++
		}
		if oldLines < 0 || newLines < 0 {
			return nil, p.failed("malformed command of a normal diff: %s", bytes.TrimSpace(command))
		}
		read := func(count int, mark string, op byte) error {
			for range count {
				line, found := bytes.CutPrefix(p.next(), []byte(mark))
				if !found {
					return p.failed("a line that begins with %q is missing in the hunk of line %d", mark, hunk.Line)
				}
				hunk.Lines = append(hunk.Lines, Line{op, p.complete(line)})
			}
			return nil
		}
		if err := read(oldLines, "< ", '-'); err != nil {
			return nil, err
		}
		if m[3] == "c" {
			if line := p.next(); !bytes.HasPrefix(line, []byte("---")) {
				return nil, p.failed(`"---" is missing in the hunk of line %d`, hunk.Line)
			}
		}
		if err := read(newLines, "> ", '+'); err != nil {
			return nil, err
		}
		if !hunk.measure() {
			return nil, p.failed("the hunk of line %d changes nothing", hunk.Line)
		}
		d.Hunks = append(d.Hunks, hunk)
	}
}

// context reads the hunks of a context diff, the first line of stars of which was read.
func (p *parser) context(h *header) (*Diff, error) {
	old, new := h.star, h.dash
	d := h.diff(old, new)
	d.Line = p.number
	for first := true; ; first = false {
		if !first {
			if !bytes.HasPrefix(p.peek(), []byte("********")) {
				return d, nil
			}
			p.next()
		}
		hunk, oldRange, newRange, err := p.contextHunk()
		if err != nil {
			return nil, err
		}
		if first && oldRange == "0" {
			d.OldMissing = missing(old)
		}
		if first && newRange == "0" {
			d.NewMissing = missing(new)
		}
		d.Hunks = append(d.Hunks, *hunk)
	}
}

func (p *parser) contextHunk() (hunk *Hunk, oldStart, newStart string, err error) {
	hunk = &Hunk{Line: p.number + 1}
	half := func(pattern *regexp.Regexp) (start string, from, count int, err error) {
		line := p.next()
		m := pattern.FindStringSubmatch(string(line))
		if m == nil {
			return "", 0, 0, p.failed("malformed range of a hunk: %s", bytes.TrimSpace(line))
		}
		var to int
		if err := p.numbers(m[1:], &from, &to); err != nil {
			return "", 0, 0, err
		}
		if m[2] == "" {
			to = from
		}
		count = to - from + 1
		if from == 0 || count <= 0 {
			count = 0
			from = to + 1
		}
		return m[1], from, count, nil
	}
	lines := func(count int, ops string) ([]Line, error) {
		var all []Line
		for range count {
			line := p.next()
			op := byte(' ')
			switch {
			case line == nil:
				return nil, p.failed("the patch ends inside the hunk of line %d", hunk.Line)
			case len(line) >= 2 && strings.IndexByte(ops, line[0]) >= 0 && (line[1] == ' ' || line[1] == '\t'):
				op = line[0]
				if line[1] == ' ' {
					line = line[2:]
				} else {
					line = line[1:]
				}
			case line[0] == '\n' || line[0] == '\t':
				// The spaces at its beginning were lost.
			case len(line) == 2 && strings.IndexByte(ops, line[0]) >= 0 && line[1] == '\n':
				op, line = line[0], line[1:]
			default:
				return nil, p.failed("this line does not belong to the hunk of line %d, which is not over", hunk.Line)
			}
			all = append(all, Line{op, p.complete(line)})
		}
		return all, nil
	}
	oldStart, from, oldCount, err := half(starsPattern)
	if err != nil {
		return nil, "", "", err
	}
	hunk.OldStart = from
	// Lines of a side that does not change are left out.
	var old []Line
	if !dashesPattern.Match(p.peek()) {
		if old, err = lines(oldCount, " -!"); err != nil {
			return nil, "", "", err
		}
	}
	newStart, from, newCount, err := half(dashesPattern)
	if err != nil {
		return nil, "", "", err
	}
	hunk.NewStart = from
	var new []Line
	if next := p.peek(); len(next) >= 2 && strings.IndexByte(" +!", next[0]) >= 0 && (next[1] == ' ' || next[1] == '\n' || next[1] == '\t') || old == nil && newCount > 0 {
		if new, err = lines(newCount, " +!"); err != nil {
			return nil, "", "", err
		}
	}
	if old == nil && new == nil || old == nil && oldCount > 0 && new == nil || !hunk.join(old, new, oldCount, newCount) {
		return nil, "", "", p.failed("the two sides of the hunk of line %d do not fit together", hunk.Line)
	}
	if !hunk.measure() {
		return nil, "", "", p.failed("the hunk of line %d changes nothing", hunk.Line)
	}
	return hunk, oldStart, newStart, nil
}

// join makes one list of the two sides of a context hunk; the side that is absent has the
// other's context.
func (h *Hunk) join(old, new []Line, oldCount, newCount int) bool {
	unchanged := func(lines []Line) []Line {
		var all []Line
		for _, l := range lines {
			if l.Op == ' ' {
				all = append(all, l)
			}
		}
		return all
	}
	if old == nil {
		old = unchanged(new)
	}
	if new == nil {
		new = unchanged(old)
	}
	if len(old) != oldCount || len(new) != newCount {
		return false
	}
	for len(old) > 0 || len(new) > 0 {
		switch {
		case len(old) > 0 && old[0].Op != ' ':
			h.Lines = append(h.Lines, Line{'-', old[0].Text})
			old = old[1:]
		case len(new) > 0 && new[0].Op != ' ':
			h.Lines = append(h.Lines, Line{'+', new[0].Text})
			new = new[1:]
		case len(old) == 0 || len(new) == 0 || !bytes.Equal(old[0].Text, new[0].Text):
			return false
		default:
			h.Lines = append(h.Lines, old[0])
			old, new = old[1:], new[1:]
		}
	}
	return true
}

// readName reads a file's name and time as they stand in a header.
func readName(text string) name {
	text = strings.TrimRight(strings.TrimLeft(text, " \t"), "\r\n")
	n := name{known: true}
	rest := ""
	if strings.HasPrefix(text, `"`) {
		var ok bool
		if n.text, rest, ok = unquote(text); !ok {
			return name{}
		}
	} else {
		n.text = text
		for i := 0; i < len(text); i++ {
			if text[i] != ' ' && text[i] != '\t' {
				continue
			}
			// A name may hold spaces where a tab comes between it and the time.
			u := i
			for text[u] != '\t' && u+1 < len(text) && (text[u+1] == ' ' || text[u+1] == '\t') {
				u++
			}
			if text[u] != '\t' && strings.IndexByte(text[u+1:], '\t') >= 0 {
				continue
			}
			n.text, rest = text[:i], text[i:]
			break
		}
	}
	if n.text == "/dev/null" {
		return name{known: true, epoch: true}
	}
	n.epoch = isEpoch(strings.TrimSpace(rest))
	return n
}

// isEpoch tells whether a time of a header is the beginning of 1970 in any zone there
// is: so diff says that a file was not there.
func isEpoch(text string) bool {
	for _, layout := range []string{"2006-01-02 15:04:05.999999999 -0700", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999Z07:00",
		"Mon Jan _2 15:04:05 2006", "Mon Jan _2 15:04:05 MST 2006", "Mon Jan _2 15:04:05 2006 -0700", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			s := t.Unix()
			return s > -25*60*60 && s < 26*60*60
		}
	}
	return false
}

// gitNames splits the two names of a line "diff --git".
func gitNames(text string) (old, new string) {
	word := func(text string) (word, rest string) {
		if strings.HasPrefix(text, `"`) {
			w, rest, ok := unquote(text)
			if !ok {
				return "", ""
			}
			return w, rest
		}
		if i := strings.IndexAny(text, " \t"); i >= 0 {
			return text[:i], text[i:]
		}
		return text, ""
	}
	old, rest := word(strings.TrimLeft(text, " \t"))
	new, rest = word(strings.TrimLeft(rest, " \t"))
	if old != "" && new != "" && strings.TrimSpace(rest) == "" {
		return old, new
	}
	// git does not quote spaces. Where the two names are one, below a/ and b/, the
	// line has a middle.
	if half := len(text) / 2; len(text)%2 == 1 && text[half] == ' ' {
		old, new = text[:half], text[half+1:]
		_, oldName, _ := strings.Cut(old, "/")
		_, newName, _ := strings.Cut(new, "/")
		if oldName != "" && oldName == newName {
			return old, new
		}
	}
	return "", ""
}

// unquote reads a name in double quotes with the escapes of C.
func unquote(text string) (name, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return b.String(), text[i+1:], true
		case '\\':
			i++
			if i >= len(text) {
				return "", "", false
			}
			if at := strings.IndexByte("abfnrtv", text[i]); at >= 0 {
				b.WriteByte("\a\b\f\n\r\t\v"[at])
				continue
			}
			if text[i] == '"' || text[i] == '\\' {
				b.WriteByte(text[i])
				continue
			}
			if i+3 > len(text) {
				return "", "", false
			}
			n, err := strconv.ParseUint(text[i:i+3], 8, 8)
			if err != nil {
				return "", "", false
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}
