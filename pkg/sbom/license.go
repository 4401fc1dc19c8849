package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp/spdxlicenses"
)

// licences gathers the licences of a document that SPDX's grammar cannot name.
type licences struct {
	extracted []extracted
}

// texts takes in the texts that are known of licences that SPDX does not list.
func (l *licences) texts(texts []LicenseText) {
	for _, t := range texts {
		id := t.ID
		if !strings.HasPrefix(id, "LicenseRef-") {
			id = "LicenseRef-" + escape(id)
		}
		l.add(extracted{ID: id, Name: t.Name, Text: t.Text})
	}
}

func (l *licences) add(e extracted) {
	if !slices.ContainsFunc(l.extracted, func(other extracted) bool { return other.ID == e.ID }) {
		l.extracted = append(l.extracted, e)
	}
}

// sorted gives all that was gathered, by identifier.
func (l *licences) sorted() []extracted {
	slices.SortFunc(l.extracted, func(a, b extracted) int { return strings.Compare(a.ID, b.ID) })
	return l.extracted
}

// expression joins licences that all hold into one SPDX expression. What is no
// expression becomes a LicenseRef with the text as it was found.
func (l *licences) expression(all []string) string {
	var parts []string
	for _, one := range all {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		if part := l.one(one); !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	switch len(parts) {
	case 0:
		return noAssertion
	case 1:
		return parts[0]
	}
	var joined []string
	for _, part := range parts {
		if part == noAssertion || part == "NONE" {
			continue // they stand alone or not at all
		}
		if strings.Contains(part, " OR ") {
			part = "(" + part + ")"
		}
		joined = append(joined, part)
	}
	if len(joined) == 0 {
		return noAssertion
	}
	return strings.Join(joined, " AND ")
}

// one normalises a single expression.
func (l *licences) one(text string) string {
	if text == noAssertion || text == "NONE" {
		return text
	}
	p := expression{tokens: tokens(text), licences: &licences{}}
	if p.alternatives() && len(p.tokens) == 0 {
		for _, e := range p.licences.extracted {
			l.add(e)
		}
		return joined.Replace(strings.Join(p.out, " "))
	}
	return l.reference(text)
}

// reference names a text that SPDX's grammar cannot.
func (l *licences) reference(text string) string {
	id := "LicenseRef-" + escape(strings.Join(strings.Fields(text), "-"))
	if len(id) > 80 {
		sum := sha256.Sum256([]byte(text))
		id = id[:64] + "-" + hex.EncodeToString(sum[:6])
	}
	l.add(extracted{ID: id, Name: firstLine(text), Text: text})
	return id
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// tokens splits an expression into parentheses and words.
func tokens(text string) []string {
	return strings.Fields(apart.Replace(text))
}

// Parentheses stand apart from words, and are joined to them.
var apart, joined = strings.NewReplacer("(", " ( ", ")", " ) "), strings.NewReplacer("( ", "(", " )", ")")

// expression reads the grammar of SPDX 2.3, annex D: alternatives of conjunctions
// of identifiers with exceptions. Operators and identifiers may be of either case. What
// SPDX does not list, "custom" or a licence newer than the list here, can only be a
// LicenseRef: readers refuse a document with an identifier that they do not know.
type expression struct {
	tokens   []string
	out      []string
	licences *licences
}

func (p *expression) alternatives() bool { return p.list("OR", p.conjunction) }
func (p *expression) conjunction() bool  { return p.list("AND", p.licence) }

func (p *expression) list(operator string, operand func() bool) bool {
	if !operand() {
		return false
	}
	for len(p.tokens) > 0 && strings.EqualFold(p.tokens[0], operator) {
		p.tokens = p.tokens[1:]
		p.out = append(p.out, operator)
		if !operand() {
			return false
		}
	}
	return true
}

func (p *expression) licence() bool {
	if len(p.tokens) == 0 {
		return false
	}
	word := p.tokens[0]
	p.tokens = p.tokens[1:]
	switch {
	case word == "(":
		p.out = append(p.out, "(")
		if !p.alternatives() || len(p.tokens) == 0 || p.tokens[0] != ")" {
			return false
		}
		p.tokens = p.tokens[1:]
		p.out = append(p.out, ")")
		return true
	case isOperator(word) || word == ")" || word == noAssertion || word == "NONE":
		return false
	}
	p.out = append(p.out, p.identifier(word))
	if len(p.tokens) > 1 && strings.EqualFold(p.tokens[0], "WITH") {
		known, exception := spdxlicenses.IsException(p.tokens[1])
		if !known {
			return false
		}
		p.out = append(p.out, "WITH", exception)
		p.tokens = p.tokens[2:]
	}
	return true
}

// identifier gives a licence as it can be written.
func (p *expression) identifier(word string) string {
	other, isReference := strings.CutPrefix(word, "LicenseRef-")
	switch {
	case isReference && isIdentifier(other):
		// SPDX wants every reference explained.
		p.licences.add(extracted{ID: word, Name: other, Text: word})
		return word
	case !isReference:
		if id := listed(word); id != "" {
			return id
		}
		if id := listed(strings.TrimSuffix(word, "+")); id != "" {
			return id + "+"
		}
	}
	return p.licences.reference(word)
}

// listed gives the identifier that SPDX lists, in its own writing, or "".
func listed(word string) string {
	if found, id := spdxlicenses.IsActiveLicense(word); found {
		return id
	}
	if found, id := spdxlicenses.IsDeprecatedLicense(word); found {
		return id
	}
	return ""
}

func isIdentifier(word string) bool {
	return word != "" && escape(word) == word
}

func isOperator(word string) bool {
	return slices.ContainsFunc([]string{"AND", "OR", "WITH"}, func(o string) bool { return strings.EqualFold(o, word) })
}
