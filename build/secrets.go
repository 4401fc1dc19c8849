package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// secret is a value of an --env-file that nobody shall read in a log or a package.
type secret struct {
	name  string
	value []byte // a line of it, where it has several
}

// secrets are those among the variables that were given to a build. Not every variable is
// one: GOFLAGS may stand in any log. A secret is what bears the name of one, or looks as
// if it was made by chance.
type secrets []secret

// secretName is how variables with secrets are called.
var secretName = regexp.MustCompile(`(?i)token|secret|passw|passphrase|credential|auth|private|cookie|canary|(^|[_-])(key|pass|pwd|pat)($|[_-])|(api|access|signing|deploy)[_-]?key`)

// The shortest values that are secrets: of a variable that is called like one, and of any.
const (
	minSecret = 6
	minRandom = 16
)

func secretsOf(given ...map[string]string) (all secrets) {
	for _, variables := range given {
		for _, name := range slices.Sorted(maps.Keys(variables)) {
			for line := range strings.Lines(variables[name]) {
				line = strings.TrimSpace(line)
				named := secretName.MatchString(name) && len(line) >= minSecret && !strings.HasPrefix(line, "-----")
				if named || looksRandom(line) {
					all = append(all, secret{name, []byte(line)})
				}
			}
		}
	}
	// Of two that begin alike the longer one is looked for first.
	slices.SortStableFunc(all, func(a, b secret) int { return len(b.value) - len(a.value) })
	return all
}

// uuid is a random identifier as many services write it.
var uuid = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// looksRandom tells whether a value holds a long word of letters and digits in turn.
func looksRandom(value string) bool {
	words := strings.FieldsFunc(value, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return uuid.MatchString(value) || slices.ContainsFunc(words, func(word string) bool {
		digits := strings.IndexFunc(word, unicode.IsDigit) >= 0
		letters := strings.IndexFunc(word, unicode.IsLetter) >= 0
		return len(word) >= minRandom && digits && letters
	})
}

// redact puts the names of secrets in place of their values.
func (all secrets) redact(text []byte) []byte {
	for _, s := range all {
		if bytes.Contains(text, s.value) {
			text = bytes.ReplaceAll(text, s.value, []byte("["+s.name+"]"))
		}
	}
	return text
}

// in gives the name of a secret that text holds, or "".
func (all secrets) in(text []byte) string {
	for _, s := range all {
		if bytes.Contains(text, s.value) {
			return s.name
		}
	}
	return ""
}

// SecretError says that a package would tell a secret.
type SecretError struct {
	Recipe  string // its file
	Package string
	File    string // in the package, "" where the value is in its name
	Secret  string // the variable's name
}

func (e *SecretError) Error() string {
	return fmt.Sprintf("%s: refused: %s holds the value of $%s, which an --env-file gave, in %s\n  hint: keep it out of what the step installs; everybody who has the package can read it", e.Recipe, e.Package, e.Secret, e.File)
}

// refuse looks through what a package would hold, and refuses one that tells a secret. What
// is compressed is not looked into.
func (all secrets) refuse(recipe, pkg string, tree fs.FS, others ...[]byte) error {
	if len(all) == 0 {
		return nil
	}
	told := func(file, name string) error { return &SecretError{recipe, pkg, file, name} }
	for _, text := range others {
		if name := all.in(text); name != "" {
			return told("what it says of itself", name)
		}
	}
	return fs.WalkDir(tree, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := all.in([]byte(file)); name != "" {
			return told("the name of a file", name)
		}
		var name string
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
			var target string
			if target, err = fs.ReadLink(tree, file); err == nil {
				name = all.in([]byte(target))
			}
		case entry.Type().IsRegular():
			name, err = all.inFile(tree, file)
		}
		if err != nil || name == "" {
			return err
		}
		return told(file, name)
	})
}

// inFile is in for a file, which may be larger than the memory.
func (all secrets) inFile(tree fs.FS, file string) (string, error) {
	f, err := tree.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	overlap := len(all[0].value) - 1 // of the longest
	buffer := make([]byte, 0, max(1<<20, 4*overlap))
	for {
		n, err := io.ReadFull(f, buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if name := all.in(buffer); name != "" {
			return name, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return "", nil
		} else if err != nil {
			return "", err
		}
		buffer = buffer[:copy(buffer, buffer[len(buffer)-overlap:])]
	}
}
