package recipes

import (
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// phrase is text of a file on its way through the passes. It remembers where each
// part came from, so that what is wrong with the result has a place in the file.
type phrase struct {
	text  string
	at    yamlread.Place
	spans []span // in order of to; none where the text is as in the file
}

// span is a part of a phrase: length bytes at to are those at from in the file's
// text, or, where they are replaced, stand for what begins there.
type span struct {
	to, from int
	replaced bool
}

// spanAt is the index of the span that the byte at offset is in, or -1.
func (p phrase) spanAt(offset int) int {
	return sort.Search(len(p.spans), func(i int) bool { return p.spans[i].to > offset }) - 1
}

// origin gives the offset in the file's text of the byte at offset.
func (p phrase) origin(offset int) int {
	i := p.spanAt(offset)
	if i < 0 {
		return offset
	}
	if p.spans[i].replaced {
		return p.spans[i].from
	}
	return p.spans[i].from + offset - p.spans[i].to
}

// problem is a mistake at the byte at offset of the text.
func (p phrase) problem(offset int, hint, format string, args ...any) diag.Problem {
	return p.at.ProblemInside(p.origin(offset), hint, format, args...)
}

// phraseBuilder makes the next phrase out of parts of one.
type phraseBuilder struct {
	of    phrase
	text  strings.Builder
	spans []span
}

// keep adds the bytes of the old phrase from start to end.
func (b *phraseBuilder) keep(start, end int) {
	if start == end {
		return
	}
	to, i := b.text.Len(), b.of.spanAt(start)
	b.spans = append(b.spans, span{to, b.of.origin(start), i >= 0 && b.of.spans[i].replaced})
	for _, s := range b.of.spans[i+1:] {
		if s.to >= end {
			break
		}
		b.spans = append(b.spans, span{to + s.to - start, s.from, s.replaced})
	}
	b.text.WriteString(b.of.text[start:end])
}

// put adds a value in place of what stands at start in the old phrase.
func (b *phraseBuilder) put(start int, value string) {
	if b.text.Len()+len(value) > maxText {
		exceed(b.of.at, "the text grows beyond %d MiB when its variables are replaced", maxText>>20)
	}
	b.spans = append(b.spans, span{b.text.Len(), b.of.origin(start), true})
	b.text.WriteString(value)
}

func (b *phraseBuilder) phrase() phrase {
	return phrase{b.text.String(), b.of.at, b.spans}
}

// plain replaces the exact text ${{name}} of the given names, once, and leaves all
// else alone: the first pass of the language.
func (p phrase) plain(vars map[string]string) phrase {
	if len(vars) == 0 || !strings.Contains(p.text, "${{") {
		return p
	}
	b := phraseBuilder{of: p}
	done := 0
	for from := 0; ; {
		i := strings.Index(p.text[from:], "${{")
		if i < 0 {
			break
		}
		i += from
		from = i + 3
		end := strings.Index(p.text[from:], "}}")
		if end < 0 {
			break
		}
		value, ok := vars[p.text[from:from+end]]
		if !ok {
			continue
		}
		b.keep(done, i)
		b.put(i, value)
		from += end + 2
		done = from
	}
	if done == 0 {
		return p
	}
	b.keep(done, len(p.text))
	return b.phrase()
}

// plainText is plain for text that no mistake can be found in later.
func plainText(s string, vars map[string]string) string {
	return phrase{text: s}.plain(vars).text
}

func plainList(list []string, vars map[string]string) []string {
	out := slices.Clone(list)
	for i := range out {
		out[i] = plainText(out[i], vars)
	}
	return out
}

func plainMap(m map[string]string, vars map[string]string) map[string]string {
	out := maps.Clone(m)
	for k, v := range out {
		out[k] = plainText(v, vars)
	}
	return out
}

// scope is what names mean in a place; inner scopes shadow outer ones.
type scope struct {
	outer *scope
	vars  map[string]string
}

func (s *scope) lookup(name string) (string, bool) {
	for ; s != nil; s = s.outer {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return "", false
}

// names lists all that the scope knows.
func (s *scope) names() []string {
	all := map[string]bool{}
	for ; s != nil; s = s.outer {
		for name := range s.vars {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// undefined is the hint for a name that the scope does not know.
func (s *scope) undefined(name string) string {
	if strings.HasPrefix(name, "targets.subpkgdir") || strings.HasPrefix(name, "subpkg.") {
		return "it is defined in the steps of subpackages only; the main package has ${{targets.destdir}}"
	}
	if _, inRange := s.lookup("range.key"); strings.HasPrefix(name, "range.") && !inRange {
		return `it is defined in subpackages with a "range" only`
	}
	if hint := diag.DidYouMean(name, s.names()); hint != "" {
		return hint
	}
	for _, prefix := range []string{"build.", "host.", "cross.", "targets.", "context.", "options."} {
		if _, inSteps := s.lookup("build.arch"); strings.HasPrefix(name, prefix) && !inSteps {
			return "environments and dependencies know package.* and vars.* only"
		}
	}
	if strings.HasPrefix(name, "inputs.") {
		return "inputs are defined in pipeline files only"
	}
	return ""
}

// variable is one ${{name}} in text.
type variable struct {
	start, end int // of the whole
	name       string
}

// isNameByte tells what names of variables are made of.
func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// next finds the first variable at or after from. It is malformed where the text
// after ${{ is no name and }}; found is false where there is none.
func next(text string, from int) (v variable, malformed string, found bool) {
	i := strings.Index(text[from:], "${{")
	if i < 0 {
		return variable{}, "", false
	}
	start := from + i
	pos := start + 3
	skip := func() {
		for pos < len(text) && strings.IndexByte(" \t\r\n", text[pos]) >= 0 {
			pos++
		}
	}
	skip()
	first := pos
	for pos < len(text) && isNameByte(text[pos]) {
		pos++
	}
	name := text[first:pos]
	skip()
	if name != "" && strings.HasPrefix(text[pos:], "}}") {
		return variable{start, pos + 2, name}, "", true
	}
	line, _, _ := strings.Cut(text[start:], "\n")
	if end := strings.Index(line, "}}"); end >= 0 {
		return variable{start, start + end + 2, ""}, line[:end+2], true
	}
	return variable{start, start + 3, ""}, line, true
}

// strict replaces every ${{ name }} and tells of each that the scope does not know:
// the later passes of the language. form, if not nil, shapes values as they are put in.
func (p phrase) strict(s *scope, form func(v variable, value string) (string, *diag.Problem), problems *diag.Problems) phrase {
	if !strings.Contains(p.text, "${{") {
		return p
	}
	b := phraseBuilder{of: p}
	done := 0
	for from := 0; ; {
		v, malformed, found := next(p.text, from)
		if !found {
			break
		}
		from = v.end
		b.keep(done, v.start)
		done = v.end
		if malformed != "" {
			hint := "a variable is written ${{name}}, the name of letters, digits and . _ -"
			*problems = append(*problems, p.problem(v.start, hint, "malformed variable %q", malformed))
			continue
		}
		value, ok := s.lookup(v.name)
		if !ok {
			*problems = append(*problems, p.problem(v.start, s.undefined(v.name), "undefined variable %q", v.name))
			continue
		}
		if form != nil {
			formed, problem := form(v, value)
			if problem != nil {
				*problems = append(*problems, *problem)
				continue
			}
			value = formed
		}
		b.put(v.start, value)
	}
	b.keep(done, len(p.text))
	return b.phrase()
}
