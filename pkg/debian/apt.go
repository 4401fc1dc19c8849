package debian

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// AptSource is one place that apt takes packages from: one address, one suite.
type AptSource struct {
	Type       string   // deb, or deb-src
	URI        string   // the archive's root, with no slash at its end
	Suite      string   // e.g. bookworm
	Components []string // e.g. main
	// Options are the options by their name in .sources files, in lower case, e.g.
	// "architectures" or "signed-by".
	Options map[string]string
	File    string // where it stands
	Line    int    // from 1; of a stanza its first line when known, else 0
}

// Keyrings are the paths of the keyrings that the source names (Signed-By), or
// nil when it names none: then those of apt itself count. Fingerprints, which
// Signed-By may hold too, are left out.
func (s AptSource) Keyrings() []string {
	value := s.Options["signed-by"]
	if strings.HasPrefix(strings.TrimSpace(value), "-----BEGIN") {
		return nil
	}
	var paths []string
	for _, word := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r <= ' ' }) {
		if path.IsAbs(word) {
			paths = append(paths, word)
		}
	}
	return paths
}

// Key is the key itself in ASCII armour, where Signed-By holds one, or "".
func (s AptSource) Key() string {
	value := s.Options["signed-by"]
	if !strings.HasPrefix(strings.TrimSpace(value), "-----BEGIN") {
		return ""
	}
	// In deb822 an empty line is written as " ." and each line has a blank before it.
	var b strings.Builder
	for line := range strings.Lines(value) {
		if line = strings.TrimSpace(line); line == "." {
			line = ""
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// ReadAptSources reads apt's lists below its folder of settings (/etc/apt):
// sources.list, and in sources.list.d the files *.list and *.sources. Sources that
// are disabled are left out. Absent files are no mistake.
func ReadAptSources(etc fs.FS) ([]AptSource, error) {
	var all []AptSource
	read := func(name string, parse func(string, io.Reader) ([]AptSource, error)) error {
		f, err := etc.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read apt sources: %w", err)
		}
		defer f.Close()
		list, err := parse(name, f)
		all = append(all, list...)
		return err
	}
	if err := read("sources.list", ParseSourcesList); err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(etc, "sources.list.d")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read apt sources: %w", err)
	}
	for _, e := range entries {
		name := path.Join("sources.list.d", e.Name())
		switch path.Ext(name) {
		case ".list":
			err = read(name, ParseSourcesList)
		case ".sources":
			err = read(name, ParseSourcesStanzas)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// oneLineOptions are the options of one-line sources by the names they have in stanzas.
var oneLineOptions = map[string]string{"arch": "architectures", "lang": "languages", "target": "targets"}

// ParseSourcesList reads sources in the form of one line each.
func ParseSourcesList(file string, r io.Reader) ([]AptSource, error) {
	data, err := readSmall(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var list []AptSource
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		s, err := parseOneLine(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %v", file, n, err)
		}
		s.File, s.Line = file, n
		list = append(list, s)
	}
	return list, nil
}

func parseOneLine(line string) (AptSource, error) {
	kind, rest, _ := strings.Cut(line, " ")
	if i := strings.IndexByte(kind, '\t'); i >= 0 {
		kind, rest = kind[:i], line[i:]
	}
	s := AptSource{Type: kind, Options: map[string]string{}}
	if kind != "deb" && kind != "deb-src" {
		return s, fmt.Errorf("unknown type %q", kind)
	}
	rest = strings.TrimSpace(rest)
	if options, found := strings.CutPrefix(rest, "["); found {
		options, rest, found = strings.Cut(options, "]")
		if !found {
			return s, errors.New("options without ]")
		}
		for _, option := range words(options) {
			name, value, found := strings.Cut(option, "=")
			if !found || name == "" {
				return s, fmt.Errorf("%q is no option", option)
			}
			name = strings.ToLower(strings.TrimRight(name, "+-"))
			s.Options[cmp.Or(oneLineOptions[name], name)] = value
		}
	}
	part := words(rest)
	if len(part) < 2 {
		return s, errors.New("a source needs an address and a suite")
	}
	s.URI, s.Suite, s.Components = strings.TrimRight(part[0], "/"), part[1], part[2:]
	return s, nil
}

// ParseSourcesStanzas reads sources in the form of stanzas (deb822). Those with
// "Enabled: no" are left out.
func ParseSourcesStanzas(file string, r io.Reader) ([]AptSource, error) {
	data, err := readSmall(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var list []AptSource
	c := NewControlReader(strings.NewReader(string(data)))
	for {
		p, err := c.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %v", file, err)
		}
		if slices.Contains([]string{"no", "false", "0", "off", "without", "disable"}, strings.ToLower(p.Get("Enabled"))) {
			continue
		}
		types, uris, suites := words(p.Get("Types")), words(p.Get("URIs")), words(p.Get("Suites"))
		if len(types) == 0 || len(uris) == 0 || len(suites) == 0 {
			return nil, fmt.Errorf("%s: a stanza needs Types, URIs and Suites", file)
		}
		options := map[string]string{}
		for _, f := range p {
			options[strings.ToLower(f.Name)] = f.Value
		}
		for _, name := range []string{"types", "uris", "suites", "components", "enabled"} {
			delete(options, name)
		}
		for _, kind := range types {
			for _, uri := range uris {
				for _, suite := range suites {
					list = append(list, AptSource{Type: kind, URI: strings.TrimRight(uri, "/"), Suite: suite, Components: words(p.Get("Components")), Options: options, File: file})
				}
			}
		}
	}
}

// readSmall reads a file of settings.
func readSmall(r io.Reader) ([]byte, error) {
	const max = 4 << 20
	data, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && len(data) > max {
		err = fmt.Errorf("more than %d bytes", max)
	}
	return data, err
}
