package recipes

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode"

	"mvdan.cc/sh/v3/syntax"
)

// Quoting says how the value of an input gets into the shell text of a built-in
// pipeline. In each form a value keeps to its place: it can't end the word, the
// quotes or the command that it stands in. (Other people's pipelines get values
// pasted, as in melange.)
type Quoting string

const (
	// Text is one word that stands for exactly the value: no expansion, no splitting.
	Text Quoting = ""
	// String is one word as if between double quotes: what the shell expands
	// there ($X, $(date)) is expanded, and the result is not split.
	String Quoting = "string"
	// Words are the words of a command line as the author wrote them, quotes and
	// expansions included; lines, comments and "\" at their ends are allowed.
	Words Quoting = "words"
)

// UnmarshalText reads text, string or words.
func (q *Quoting) UnmarshalText(text []byte) error {
	switch *q = Quoting(text); *q {
	case "text":
		*q = Text
	case String, Words:
	default:
		return fmt.Errorf("unknown quoting %q, expected text, string or words", text)
	}
	return nil
}

// quote gives the shell text that a value becomes.
func (q Quoting) quote(value string) (string, error) {
	// The printer of scripts takes some control characters for marks of its own.
	if strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		return "", errors.New("holds a control character")
	}
	switch q {
	case String:
		return quoteString(value)
	case Words:
		return quoteWords(value)
	default:
		return quoteText(value), nil
	}
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

func quoteText(value string) string {
	if plainWord.MatchString(value) {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// simpleWord is text in which the shell finds nothing to do, between double quotes or without.
var simpleWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`)

// simpleWords are the words of a value if all are simple.
func simpleWords(value string) (words []string, ok bool) {
	words = strings.Fields(value)
	for _, word := range words {
		if !simpleWord.MatchString(word) {
			return nil, false
		}
	}
	return words, true
}

var errShape = errors.New("closes the quotes it stands in")

func quoteString(value string) (string, error) {
	if simpleWord.MatchString(value) {
		return `"` + value + `"`, nil
	}
	file, err := parseShell(`x="` + value + `"`)
	if err != nil {
		return "", err
	}
	call, ok := onlyCall(file)
	if !ok || len(call.Assigns) != 1 || len(call.Args) != 0 || call.Assigns[0].Value == nil || call.Assigns[0].Append {
		return "", errShape
	}
	printed, err := printShell(call.Assigns[0].Value)
	if err != nil {
		return "", err
	}
	return printed, stays(printed, 1, errShape)
}

var errWords = errors.New("is more than words: quote ; | & < > ( ) and what begins with [")

func quoteWords(value string) (string, error) {
	if words, ok := simpleWords(value); ok {
		return strings.Join(words, " "), nil
	}
	file, err := parseShell("x=(\n" + value + "\n)")
	if err != nil {
		if strings.Contains(err.Error(), "quote") {
			return "", err
		}
		return "", errWords
	}
	call, ok := onlyCall(file)
	if !ok || len(call.Assigns) != 1 || len(call.Args) != 0 || call.Assigns[0].Array == nil {
		return "", errWords
	}
	var words []string
	for _, element := range call.Assigns[0].Array.Elems {
		if element.Index != nil || element.Value == nil {
			return "", errWords
		}
		word, err := printShell(element.Value)
		if err != nil {
			return "", err
		}
		words = append(words, word)
	}
	joined := strings.Join(words, " ")
	return joined, stays(joined, len(words), errWords)
}

// stays makes sure that printed words are read again as that many words of one command.
func stays(printed string, words int, wrong error) error {
	file, err := parseShell(": " + printed)
	if err != nil {
		return wrong
	}
	if call, ok := onlyCall(file); !ok || len(call.Args) != 1+words {
		return wrong
	}
	return nil
}

// onlyCall gives the one command of a file, if it is one without redirections and the like.
func onlyCall(file *syntax.File) (*syntax.CallExpr, bool) {
	if len(file.Stmts) != 1 {
		return nil, false
	}
	s := file.Stmts[0]
	call, ok := s.Cmd.(*syntax.CallExpr)
	return call, ok && len(s.Redirs) == 0 && !s.Background && !s.Negated && !s.Coprocess
}

func parseShell(text string) (*syntax.File, error) {
	parser := parsers.Get().(*syntax.Parser)
	defer parsers.Put(parser)
	file, err := parser.Parse(strings.NewReader(text), "")
	if parseError, ok := errors.AsType[syntax.ParseError](err); ok {
		return nil, errors.New(parseError.Text)
	}
	return file, err
}

func printShell(node syntax.Node) (string, error) {
	printer := printers.Get().(*syntax.Printer)
	defer printers.Put(printer)
	var b strings.Builder
	err := printer.Print(&b, node)
	return b.String(), err
}

// Parsers and printers hold buffers that are worth keeping between scripts.
var (
	parsers  = sync.Pool{New: func() any { return syntax.NewParser(syntax.Variant(syntax.LangBash)) }}
	printers = sync.Pool{New: func() any { return syntax.NewPrinter() }}
)

// shellError is a mistake in a script.
type shellError struct {
	offset int // bytes from the script's begin
	text   string
}

func (e *shellError) Error() string { return e.text }

// normalise gives a script without comments and in one layout, so that a change
// of either changes nothing that is built: each statement as it is printed by
// default, on lines of its own; a first line #! stays. A script that is no
// bash is refused with a *shellError.
func normalise(script string) (string, error) {
	parser := parsers.Get().(*syntax.Parser)
	defer parsers.Put(parser)
	file, err := parser.Parse(strings.NewReader(script), "")
	if err != nil {
		e := &shellError{text: err.Error()}
		if parseError, ok := errors.AsType[syntax.ParseError](err); ok {
			e.offset, e.text = int(parseError.Pos.Offset()), parseError.Text
		} else if langError, ok := errors.AsType[syntax.LangError](err); ok {
			e.offset, e.text = int(langError.Pos.Offset()), langError.Feature+" is not bash"
		}
		return "", e
	}
	var b strings.Builder
	if line, _, more := strings.Cut(script, "\n"); more && strings.HasPrefix(line, "#!") {
		b.WriteString(line + "\n")
	}
	printer := printers.Get().(*syntax.Printer)
	defer printers.Put(printer)
	documents := strings.Contains(script, "<<") // looking for them costs
	for rest := file.Stmts; len(rest) > 0; {
		var node syntax.Node = rest[0]
		n := 1
		if documents {
			n = besideDocuments(rest)
		}
		if n > 1 {
			node = &syntax.File{Stmts: rest[:n]}
		}
		if err := printer.Print(&b, node); err != nil {
			return "", &shellError{int(rest[0].Pos().Offset()), err.Error()}
		}
		if n == 1 {
			b.WriteByte('\n') // a file ends with one
		}
		rest = rest[n:]
	}
	return b.String(), nil
}

// besideDocuments counts the statements, at least the first, of which each begins on a
// line where a here-document of the one before it does. Printed alone the next one's own
// document would begin with a "\" for every line of the other: text that was never there.
func besideDocuments(statements []*syntax.Stmt) int {
	for i, next := range statements[1:] {
		beside := false
		syntax.Walk(statements[i], func(n syntax.Node) bool {
			r, ok := n.(*syntax.Redirect)
			beside = beside || ok && r.Hdoc != nil && r.OpPos.Line() == next.Pos().Line()
			return true
		})
		if !beside {
			return 1 + i
		}
	}
	return len(statements)
}
