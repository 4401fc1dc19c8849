package recipes

import (
	"fmt"
	"strings"
)

// Condition is a parsed "if". Its grammar is melange's:
//
//	condition  = atom { ( "&&" | "||" ) atom }      from left to right, neither binds tighter
//	atom       = "(" condition ")" | value ( "==" | "!=" ) value
//	value      = 'text' | "text" | ${{ name }}
//
// In text, \\ \' \" \n and \t stand for what they do in C, and a variable may stand
// inside. A value is compared as it is: it can't change the condition's shape.
type Condition struct {
	// Either the condition joins First with the others, or it compares.
	first  *Condition
	others []joined

	left, right value
	unequal     bool
}

type joined struct {
	or   bool
	with *Condition
}

// value is pieces of text and variables in turn.
type value []piece

type piece struct {
	text     string
	variable string // a name, then text is empty
	offset   int    // in the source
}

// ConditionError says what is wrong with a condition, and where.
type ConditionError struct {
	Offset int // bytes from its begin
	Text   string
	Hint   string
}

func (e *ConditionError) Error() string { return e.Text }

// ParseCondition reads an "if". An error is a *ConditionError.
func ParseCondition(source string) (*Condition, error) {
	p := conditionParser{source: source}
	c, err := p.condition(0)
	if err != nil {
		return nil, err
	}
	if p.skip(); p.pos < len(source) {
		if source[p.pos] == ')' {
			return nil, p.problem("", "unexpected %q", ")")
		}
		return nil, p.problem("", "expected && or ||, found %q", p.rest())
	}
	return c, nil
}

// Eval tells whether the condition holds. lookup gives the value of a variable and
// reports false for one that is not defined, which is a *ConditionError. Both
// sides of && and || are always evaluated, so every undefined variable is found.
func (c *Condition) Eval(lookup func(name string) (string, bool)) (bool, []error) {
	if c.first == nil {
		left, errs := c.left.eval(lookup)
		right, more := c.right.eval(lookup)
		return (left == right) != c.unequal, append(errs, more...)
	}
	result, errs := c.first.Eval(lookup)
	for _, o := range c.others {
		r, more := o.with.Eval(lookup)
		errs = append(errs, more...)
		if o.or {
			result = result || r
		} else {
			result = result && r
		}
	}
	return result, errs
}

func (v value) eval(lookup func(string) (string, bool)) (string, []error) {
	var (
		b    strings.Builder
		errs []error
	)
	for _, p := range v {
		if p.variable == "" {
			b.WriteString(p.text)
			continue
		}
		s, ok := lookup(p.variable)
		if !ok {
			errs = append(errs, &ConditionError{p.offset, fmt.Sprintf("undefined variable %q", p.variable), p.variable})
			continue
		}
		b.WriteString(s)
	}
	return b.String(), errs
}

// Mixed tells whether && and || stand side by side without parentheses, where
// readers expect && to bind tighter, and it does not.
func (c *Condition) Mixed() bool {
	if c.first == nil {
		return false
	}
	for _, o := range c.others {
		if o.or != c.others[0].or || o.with.Mixed() {
			return true
		}
	}
	return c.first.Mixed()
}

// String writes the condition so that it parses to the same one.
func (c *Condition) String() string {
	if c.first == nil {
		op := " == "
		if c.unequal {
			op = " != "
		}
		return c.left.String() + op + c.right.String()
	}
	var b strings.Builder
	b.WriteString(c.first.enclosed())
	for _, o := range c.others {
		if o.or {
			b.WriteString(" || ")
		} else {
			b.WriteString(" && ")
		}
		b.WriteString(o.with.enclosed())
	}
	return b.String()
}

func (c *Condition) enclosed() string {
	if c.first == nil {
		return c.String()
	}
	return "(" + c.String() + ")"
}

func (v value) String() string {
	if len(v) == 1 && v[0].variable != "" {
		return "${{" + v[0].variable + "}}"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, p := range v {
		if p.variable != "" {
			b.WriteString("${{" + p.variable + "}}")
			continue
		}
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(p.text))
	}
	b.WriteByte('"')
	return b.String()
}

// maxConditionDepth limits parentheses inside each other.
const maxConditionDepth = 32

type conditionParser struct {
	source string
	pos    int
}

func (p *conditionParser) skip() {
	for p.pos < len(p.source) && strings.IndexByte(" \t\r\n", p.source[p.pos]) >= 0 {
		p.pos++
	}
}

// rest is what comes next, for messages.
func (p *conditionParser) rest() string {
	word, _, _ := strings.Cut(p.source[p.pos:], " ")
	word, _, _ = strings.Cut(word, "\n")
	if len(word) > 20 {
		word = word[:20]
	}
	return word
}

func (p *conditionParser) problem(hint, format string, args ...any) error {
	return &ConditionError{p.pos, fmt.Sprintf(format, args...), hint}
}

func (p *conditionParser) take(token string) bool {
	p.skip()
	if strings.HasPrefix(p.source[p.pos:], token) {
		p.pos += len(token)
		return true
	}
	return false
}

func (p *conditionParser) condition(depth int) (*Condition, error) {
	if depth > maxConditionDepth {
		return nil, p.problem("", "more than %d parentheses inside each other", maxConditionDepth)
	}
	first, err := p.atom(depth)
	if err != nil {
		return nil, err
	}
	var others []joined
	for {
		or := p.take("||")
		if !or && !p.take("&&") {
			break
		}
		with, err := p.atom(depth)
		if err != nil {
			return nil, err
		}
		others = append(others, joined{or, with})
	}
	if others == nil {
		return first, nil
	}
	return &Condition{first: first, others: others}, nil
}

func (p *conditionParser) atom(depth int) (*Condition, error) {
	if p.take("(") {
		c, err := p.condition(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.take(")") {
			if p.pos == len(p.source) {
				return nil, p.problem("", `expected ")" at the end`)
			}
			return nil, p.problem("", `expected && or || or ")", found %q`, p.rest())
		}
		return c, nil
	}
	left, err := p.value()
	if err != nil {
		return nil, err
	}
	var unequal bool
	switch {
	case p.take("=="):
	case p.take("!="):
		unequal = true
	default:
		if p.pos == len(p.source) {
			return nil, p.problem("a condition compares: ${{build.arch}} == 'x86_64'", "expected == or != at the end")
		}
		return nil, p.problem("a condition compares: ${{build.arch}} == 'x86_64'", "expected == or !=, found %q", p.rest())
	}
	right, err := p.value()
	if err != nil {
		return nil, err
	}
	return &Condition{left: left, right: right, unequal: unequal}, nil
}

func (p *conditionParser) value() (value, error) {
	p.skip()
	if p.pos == len(p.source) {
		return nil, p.problem("", "expected a value at the end")
	}
	switch c := p.source[p.pos]; {
	case c == '\'' || c == '"':
		return p.text(c)
	case strings.HasPrefix(p.source[p.pos:], "${{"):
		v, malformed, _ := next(p.source, p.pos)
		if malformed != "" {
			return nil, p.problem("a variable is written ${{name}}, the name of letters, digits and . _ -", "malformed variable %q", malformed)
		}
		p.pos = v.end
		return value{{variable: v.name, offset: v.start}}, nil
	default:
		return nil, p.problem("text stands in quotes, a variable in ${{ }}", "expected a value, found %q", p.rest())
	}
}

func (p *conditionParser) text(quote byte) (value, error) {
	start := p.pos
	var (
		v value
		b strings.Builder
	)
	flush := func() {
		if b.Len() > 0 {
			v = append(v, piece{text: b.String(), offset: start})
			b.Reset()
		}
	}
	for p.pos++; p.pos < len(p.source); {
		switch c := p.source[p.pos]; {
		case c == quote:
			p.pos++
			flush()
			return v, nil
		case c == '\\' && p.pos+1 < len(p.source):
			switch e := p.source[p.pos+1]; e {
			case '\\', '\'', '"':
				b.WriteByte(e)
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			default:
				b.WriteByte('\\')
				b.WriteByte(e)
			}
			p.pos += 2
		case strings.HasPrefix(p.source[p.pos:], "${{"):
			found, malformed, _ := next(p.source, p.pos)
			if malformed != "" {
				return nil, p.problem("a variable is written ${{name}}, the name of letters, digits and . _ -", "malformed variable %q", malformed)
			}
			flush()
			v = append(v, piece{variable: found.name, offset: found.start})
			p.pos = found.end
		default:
			b.WriteByte(c)
			p.pos++
		}
	}
	p.pos = start
	return nil, p.problem("", "text without an end: %s", p.source[start:])
}
