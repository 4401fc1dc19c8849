package apk

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Version is the version of a package, e.g. 1.3.1-r0, in the grammar of apk-tools:
//
//	digits {"." digits} [letter] {"_" suffix [digits]} ["~" hexadecimal hash] ["-r" digits]
//
// where suffix is one of alpha, beta, pre, rc (which come before the version
// without them) and cvs, svn, git, hg, p (which come after it).
type Version string

// ParseVersion checks that s is a version. Compare and Matches are also defined
// for what is none, as an index may hold such: see Compare.
func ParseVersion(s string) (Version, error) {
	scan := newScanner(s)
	for {
		switch t := scan.next(); {
		case t.rank == rankEnd:
			return Version(s), nil
		case t.rank != rankInvalid:
			continue
		case s == "":
			return "", errors.New("version is empty")
		case t.text == s:
			return "", fmt.Errorf("version %q does not begin with a digit", s)
		default:
			return "", fmt.Errorf("version %q: unexpected %q", s, t.text)
		}
	}
}

// Compare is negative if v comes before w, positive if it comes after, else 0.
//
// It is the order of apk-tools 3. The first component, the numbers of suffixes and
// the revision compare as numbers; a further component that begins with 0, or is
// compared with one that does, compares as text (4.09 comes before 4.5); at the
// first difference in shape the longer one is later, but for the suffixes of
// prereleases. Hashes after ~ compare as text. Numbers may have any length (apk-tools
// computes modulo 2^64). What is no version counts up to where it stops being one; there
// it comes before the version that ends, and after its prereleases.
//
// Versions that differ only in leading zeros of numbers are equal: 1_p1 and 1_p01.
func (v Version) Compare(w Version) int {
	if v == w {
		return 0
	}
	return compareVersions(string(v), string(w), false)
}

// Base is the version without its revision: 1.3.1 of 1.3.1-r0.
func (v Version) Base() Version { return v[:v.revisionAt()] }

// Revision is the number after -r. ok is false if there is none or it exceeds 64 bits.
func (v Version) Revision() (n uint64, ok bool) {
	at := v.revisionAt()
	if at == len(v) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(v[at+len("-r"):]), 10, 64)
	return n, err == nil
}

// revisionAt is where -rN begins, or the length of v.
func (v Version) revisionAt() int {
	at := strings.LastIndex(string(v), "-r")
	if at < 0 || at+2 == len(v) || digitsOf(string(v[at+2:])) != len(v)-at-2 {
		return len(v)
	}
	return at
}

// A version is read as a row of tokens. Two versions compare as their first tokens
// that differ: by rank, then by value. The ranks are in the order of what may follow
// a common beginning, from the earliest version to the latest.
type rank uint8

const (
	rankPrerelease   rank = iota // _alpha _beta _pre _rc
	rankInvalid                  // what is no part of a version
	rankEnd                      // nothing
	rankRevision                 // -r1
	rankHash                     // ~0a1b
	rankSuffixNumber             // the 1 of _p1
	rankPostrelease              // _cvs _svn _git _hg _p
	rankLetter                   // the b of 1.2b
	rankNumber                   // 12 or .12
)

type token struct {
	rank  rank
	text  string
	order uint8 // of a suffix, among those of its rank
}

type scanner struct {
	rest  string
	last  rank
	first bool // nothing was read yet
}

func newScanner(s string) scanner { return scanner{rest: s, last: rankNumber, first: true} }

// next reads one token. After rankEnd and rankInvalid it gives the same again.
func (s *scanner) next() token {
	t := s.read()
	s.last = t.rank
	return t
}

func (s *scanner) read() token {
	rest := s.rest
	switch {
	case s.first:
		s.first = false
		return s.number(rankNumber, 0)
	case s.last == rankInvalid:
		return token{rank: rankInvalid, text: rest}
	case rest == "":
		return token{rank: rankEnd}
	}
	suffixed := s.last == rankPrerelease || s.last == rankPostrelease
	switch c := rest[0]; {
	case c == '.' && s.last == rankNumber:
		return s.number(rankNumber, 1)
	case isDigit(c) && suffixed:
		return s.number(rankSuffixNumber, 0)
	case 'a' <= c && c <= 'z' && s.last == rankNumber:
		s.rest = rest[1:]
		return token{rank: rankLetter, text: rest[:1]}
	case c == '_' && (s.last >= rankSuffixNumber || suffixed):
		end := 1
		for end < len(rest) && 'a' <= rest[end] && rest[end] <= 'z' {
			end++
		}
		t, ok := suffixToken(rest[1:end])
		if !ok {
			break
		}
		s.rest = rest[end:]
		return t
	case c == '~' && s.last > rankHash || c == '~' && suffixed:
		end := 1
		for end < len(rest) && (isDigit(rest[end]) || 'a' <= rest[end] && rest[end] <= 'f') {
			end++
		}
		if end == 1 {
			break
		}
		s.rest = rest[end:]
		return token{rank: rankHash, text: rest[1:end]}
	case strings.HasPrefix(rest, "-r") && s.last != rankRevision:
		return s.number(rankRevision, 2)
	}
	return token{rank: rankInvalid, text: rest}
}

// number reads the digits that stand after skip bytes.
func (s *scanner) number(r rank, skip int) token {
	n := digitsOf(s.rest[skip:])
	if n == 0 {
		return token{rank: rankInvalid, text: s.rest}
	}
	text := s.rest[skip : skip+n]
	s.rest = s.rest[skip+n:]
	return token{rank: r, text: text}
}

func suffixToken(s string) (token, bool) {
	switch s {
	case "alpha":
		return token{rank: rankPrerelease, order: 0}, true
	case "beta":
		return token{rank: rankPrerelease, order: 1}, true
	case "pre":
		return token{rank: rankPrerelease, order: 2}, true
	case "rc":
		return token{rank: rankPrerelease, order: 3}, true
	case "cvs":
		return token{rank: rankPostrelease, order: 0}, true
	case "svn":
		return token{rank: rankPostrelease, order: 1}, true
	case "git":
		return token{rank: rankPostrelease, order: 2}, true
	case "hg":
		return token{rank: rankPostrelease, order: 3}, true
	case "p":
		return token{rank: rankPostrelease, order: 4}, true
	}
	return token{}, false
}

// compareVersions is Compare. With prefix it gives 0 where a begins with all tokens of b.
func compareVersions(a, b string, prefix bool) int {
	sa, sb := newScanner(a), newScanner(b)
	for first := true; ; first = false {
		ta, tb := sa.next(), sb.next()
		if prefix && tb.rank == rankEnd {
			return 0
		}
		if ta.rank != tb.rank {
			return cmp.Compare(ta.rank, tb.rank)
		}
		c := 0
		switch ta.rank {
		case rankEnd:
			return 0
		case rankInvalid:
			return strings.Compare(ta.text, tb.text)
		case rankPrerelease, rankPostrelease:
			c = cmp.Compare(ta.order, tb.order)
		case rankLetter, rankHash:
			c = strings.Compare(ta.text, tb.text)
		case rankNumber:
			if !first && (ta.text[0] == '0' || tb.text[0] == '0') {
				c = strings.Compare(ta.text, tb.text)
				break
			}
			c = compareNumbers(ta.text, tb.text)
		default:
			c = compareNumbers(ta.text, tb.text)
		}
		if c != 0 {
			return c
		}
	}
}

// compareNumbers compares decimal numbers of any length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

func digitsOf(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
