package apk

import (
	"fmt"
	"strings"
)

// ParseDependency reads name[operator version] or, with "!" before it, a conflict.
// Operators are = < <= > >= ~ and their other spellings =~ ~= == =< =>, and <~ >~.
// A version must be valid. A tag (name@tag) is no part of a dependency but of a
// world, and is refused.
func ParseDependency(s string) (Dependency, error) {
	d, err := splitDependency(s)
	if err != nil {
		return d, err
	}
	if d.Op != Any {
		if _, err := ParseVersion(string(d.Version)); err != nil {
			return Dependency{}, fmt.Errorf("dependency %q: %v", s, err)
		}
	}
	return d, nil
}

// splitDependency is ParseDependency without a look at the version: an index may
// hold provides with a version that is none.
func splitDependency(s string) (Dependency, error) {
	d := Dependency{Name: s}
	if strings.HasPrefix(s, "!") {
		d.Conflict, d.Name = true, s[1:]
	}
	for i := 0; i < len(d.Name); i++ {
		if c := d.Name[i]; nameBytes[c] {
			continue
		} else if !isOperator(c) {
			if c == '@' {
				return Dependency{}, fmt.Errorf("dependency %q: a tag is not allowed here", s)
			}
			return Dependency{}, fmt.Errorf("dependency %q: unexpected %q", s, d.Name[i:i+1])
		}
		end := i + 1
		for end < len(d.Name) && isOperator(d.Name[end]) {
			end++
		}
		op, known := operator(d.Name[i:end])
		if !known {
			return Dependency{}, fmt.Errorf("dependency %q: unknown operator %q", s, d.Name[i:end])
		}
		d.Op, d.Version, d.Name = op, Version(d.Name[end:]), d.Name[:i]
		if d.Version == "" {
			return Dependency{}, fmt.Errorf("dependency %q has no version after %s", s, op)
		}
		if !isPlain(string(d.Version)) {
			return Dependency{}, fmt.Errorf("dependency %q: the version has a space or a control character", s)
		}
		break
	}
	if d.Name == "" {
		return Dependency{}, fmt.Errorf("dependency %q has no name", s)
	}
	return d, nil
}

// check refuses a dependency that does not read back as itself.
func (d Dependency) check() error {
	plain := d.Name != ""
	for i := 0; i < len(d.Name) && plain; i++ {
		plain = nameBytes[d.Name[i]]
	}
	// The first letter of a version must be none of an operator.
	if plain && (d.Op == Any || d.Version != "" && !isOperator(d.Version[0]) && isPlain(string(d.Version))) {
		return nil
	}
	read, err := splitDependency(d.String())
	if err != nil {
		return err
	}
	if read != d {
		return fmt.Errorf("dependency %q reads back as another", shorten(d.String()))
	}
	return nil
}

// nameBytes are those of package names and of provided names (so:libz.so.1,
// /bin/sh, py3.13:name[extra]).
var nameBytes = func() (set [256]bool) {
	for c := range set {
		set[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("+-._,:/[]", byte(c)) >= 0
	}
	return set
}()

// checkName refuses names that no package file can have. A name that begins with a
// dot is one that apk invents for a set of packages (apk add --virtual).
func checkName(name string) error {
	if name == "" {
		return fmt.Errorf("the name is empty")
	}
	if name == "." || name == ".." {
		return fmt.Errorf("name %q is that of a folder", name)
	}
	for i := range len(name) {
		if c := name[i]; !nameBytes[c] || strings.IndexByte(",:/[]", c) >= 0 || i == 0 && (c == '-' || c == '+') {
			return fmt.Errorf("name %q: unexpected %q", name, name[i:i+1])
		}
	}
	return nil
}

// checkArchText refuses what is no element of a path, as a repository's folders are
// called after it. Which there are is not asked of others' packages.
func checkArchText(a Arch) error {
	if strings.HasPrefix(string(a), ".") || strings.ContainsRune(string(a), '/') || !isASCII(string(a)) {
		return fmt.Errorf("architecture %q: unexpected character", a)
	}
	return nil
}

// checkVersionText refuses what would not survive as one word of a line and one
// element of a path, and what a terminal might act on. It is all that is asked of the versions of others' packages.
func checkVersionText(v Version) error {
	if v == "" {
		return fmt.Errorf("the version is empty")
	}
	if strings.ContainsRune(string(v), '/') || !isASCII(string(v)) {
		return fmt.Errorf("version %q: unexpected character", v)
	}
	return nil
}

// isPlain says that s has neither spaces nor control characters.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// isASCII says that s is plain, and the same to every terminal.
func isASCII(s string) bool {
	return isPlain(s) && strings.IndexFunc(s, func(r rune) bool { return r > '~' }) < 0
}

func isOperator(c byte) bool { return c == '=' || c == '<' || c == '>' || c == '~' }

func operator(s string) (Op, bool) {
	switch s {
	case "=", "==":
		return Equal, true
	case "<":
		return Less, true
	case "<=", "=<":
		return LessEqual, true
	case ">":
		return Greater, true
	case ">=", "=>":
		return GreaterEqual, true
	case "~", "=~", "~=":
		return Fuzzy, true
	case "<~":
		return LessFuzzy, true
	case ">~":
		return GreaterFuzzy, true
	}
	return Any, false // "><" compares checksums; it stands only in the world of apk itself
}

// Matches says whether v meets the version that is asked, exactly as apk does:
// "=1.2" is not met by 1.2-r0, "~1.2" by 1.2, 1.2.3, 1.2_rc1 and 1.2-r0, not by 1.20.
// Conflict is not looked at.
//
// An empty v is the version of a name that is provided without one: it meets every
// requirement. A version that is asked and is none is met by nothing.
func (d Dependency) Matches(v Version) bool {
	if d.Op == Any || v == "" {
		return true
	}
	if _, err := ParseVersion(string(d.Version)); err != nil {
		return false
	}
	return d.holds(v)
}

// MatchesAnyRevision is Matches as people mean it in recipes and image files:
// there "=1.2" without a revision is met by every revision of 1.2.
func (d Dependency) MatchesAnyRevision(v Version) bool {
	if d.Op == Equal && d.Version.revisionAt() == len(d.Version) {
		v = v.Base()
	}
	return d.Matches(v)
}

func (d Dependency) holds(v Version) bool {
	c := compareVersions(string(v), string(d.Version), d.Op >= Fuzzy)
	switch d.Op {
	case Equal, Fuzzy:
		return c == 0
	case Less:
		return c < 0
	case LessEqual, LessFuzzy:
		return c <= 0
	case Greater:
		return c > 0
	default:
		return c >= 0
	}
}
