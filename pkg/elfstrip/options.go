package elfstrip

import (
	"fmt"
	"path"
	"strings"
)

// Level is how much is taken.
type Level int

const (
	// Nothing but what is named, and local symbols where Options say so.
	Nothing Level = iota
	// Debug takes debugging sections, and symbols of files and sections (-g, -S, -d).
	Debug
	// Unneeded takes all symbols that no relocation needs, too (--strip-unneeded).
	Unneeded
	// All takes all symbols (-s).
	All
)

// Options say what is taken from a file. The zero value takes nothing.
type Options struct {
	Level Level
	// DiscardAll takes all local symbols, and debugging sections (-x); DiscardLocals
	// those that the compiler made up, which begin with .L (-X).
	DiscardAll, DiscardLocals bool
	// KeepSymbols are kept whatever else is said (-K); StripSymbols are taken (-N). With
	// Wildcards they are patterns of the shell, and one that begins with ! excludes (-w).
	KeepSymbols, StripSymbols []string
	Wildcards                 bool
	// RemoveSections are taken (-R), KeepSections not (--keep-section): patterns of the shell.
	RemoveSections, KeepSections []string
	// KeepFileSymbols keeps the symbols that name source files.
	KeepFileSymbols bool
	// PreserveDates asks who writes the file to keep its time (-p); it changes nothing here.
	PreserveDates bool
	// Link names the file with the debugging information, for debuggers.
	Link *Link
}

// Link is what a file says of the one with its debugging information.
type Link struct {
	Name string // without folders
	CRC  uint32 // CRC-32 (IEEE 802.3) of its bytes
}

// ParseOptions reads options as the program strip takes them. Those that change nothing
// of a program (-v, -D, -U) are taken as well.
func ParseOptions(words []string) (Options, error) {
	var o Options
	long := map[string]string{
		"strip-debug": "g", "strip-all": "s", "strip-unneeded": "u", "discard-all": "x", "discard-locals": "X", "wildcard": "w",
		"preserve-dates": "p", "enable-deterministic-archives": "D", "disable-deterministic-archives": "U", "verbose": "v",
		"keep-file-symbols": "f", "keep-symbol": "K", "strip-symbol": "N", "remove-section": "R", "keep-section": "k",
	}
	for i := 0; i < len(words); i++ {
		word := words[i]
		value := func(name, given string, has bool) (string, error) {
			if has {
				return given, nil
			}
			if i++; i >= len(words) {
				return "", fmt.Errorf("option %s wants a name", name)
			}
			return words[i], nil
		}
		if name, found := strings.CutPrefix(word, "--"); found {
			name, given, has := strings.Cut(name, "=")
			letter, known := long[name]
			if !known {
				return o, unknownOption(word)
			}
			if !strings.Contains("KNRk", letter) {
				if has {
					return o, fmt.Errorf("option --%s takes no value", name)
				}
				o.set(letter[0], "")
				continue
			}
			v, err := value("--"+name, given, has)
			if err != nil {
				return o, err
			}
			o.set(letter[0], v)
			continue
		}
		letters, found := strings.CutPrefix(word, "-")
		if !found || letters == "" {
			return o, fmt.Errorf("%q is no option", word)
		}
		for letters != "" {
			letter := letters[0]
			letters = letters[1:]
			switch {
			case strings.IndexByte("gSdsxXwpDUv", letter) >= 0:
				o.set(letter, "")
				continue
			case strings.IndexByte("KNR", letter) < 0:
				return o, unknownOption(word)
			}
			v, err := value("-"+string(letter), letters, letters != "")
			if err != nil {
				return o, err
			}
			o.set(letter, v)
			letters = ""
		}
	}
	if o.Level == Nothing && !o.DiscardAll && !o.DiscardLocals && len(o.StripSymbols) == 0 {
		o.Level = All // as strip without options
	}
	for _, pattern := range append(append([]string{}, o.RemoveSections...), o.KeepSections...) {
		if _, err := path.Match(strings.TrimPrefix(pattern, "!"), ""); err != nil {
			return o, fmt.Errorf("pattern %q is malformed", pattern)
		}
	}
	return o, nil
}

func unknownOption(word string) error {
	return fmt.Errorf("option %s is not known: -g, --strip-unneeded, -s, -x, -X, -K, -N, -R, --keep-section, --keep-file-symbols, -w and -p are", word)
}

func (o *Options) set(letter byte, value string) {
	switch letter {
	case 'g', 'S', 'd':
		o.Level = Debug
	case 'u':
		o.Level = Unneeded
	case 's':
		o.Level = All
	case 'x':
		o.DiscardAll = true
	case 'X':
		o.DiscardLocals = true
	case 'w':
		o.Wildcards = true
	case 'p':
		o.PreserveDates = true
	case 'f':
		o.KeepFileSymbols = true
	case 'K':
		o.KeepSymbols = append(o.KeepSymbols, value)
	case 'N':
		o.StripSymbols = append(o.StripSymbols, value)
	case 'R':
		o.RemoveSections = append(o.RemoveSections, value)
	case 'k':
		o.KeepSections = append(o.KeepSections, value)
	}
}

// named reports whether a symbol is one of those that a list names.
func (o *Options) named(list []string, symbol string) bool {
	found := false
	for _, name := range list {
		if !o.Wildcards {
			if name == symbol {
				return true
			}
			continue
		}
		pattern, not := strings.CutPrefix(name, "!")
		if ok, err := path.Match(pattern, symbol); err == nil && ok {
			if not {
				return false
			}
			found = true
		}
	}
	return found
}

// matches reports whether a section is one of those that patterns name.
func matches(patterns []string, section string) bool {
	found := false
	for _, p := range patterns {
		pattern, not := strings.CutPrefix(p, "!")
		if ok, err := path.Match(pattern, section); err == nil && ok {
			if not {
				return false
			}
			found = true
		}
	}
	return found
}

// debugging reports whether a section that is not loaded holds debugging information, by its name.
func debugging(name string) bool {
	for _, prefix := range []string{".debug", ".zdebug", ".gnu.debuglto_.debug_", ".gnu.linkonce.wi.", ".line", ".stab"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == ".gdb_index"
}
