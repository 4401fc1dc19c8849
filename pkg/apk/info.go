package apk

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// InfoName is the file of the control section that an Info stands in.
const InfoName = ".PKGINFO"

// maxInfo is how long a .PKGINFO may be, in bytes.
const maxInfo = 16 << 20

// ParseInfo reads a .PKGINFO: lines of "key = value", and comments, which begin with
// "#" and fill a line. All of a value counts, "#" and ";" in it too. Keys that are
// not known are skipped. A key that can have one value only and stands twice is
// refused, as other readers would not agree which one counts.
func ParseInfo(r io.Reader) (Info, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInfo+1))
	if err != nil {
		return Info{}, err
	}
	if len(data) > maxInfo {
		return Info{}, fmt.Errorf("longer than %d bytes", maxInfo)
	}
	return parseInfo(string(data))
}

func parseInfo(text string) (Info, error) {
	var i Info
	seen := map[string]bool{}
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		number++
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, found := strings.Cut(line, " =")
		if !found || value != "" && value[0] != ' ' {
			if strings.TrimSpace(line) == "" {
				continue
			}
			return Info{}, fmt.Errorf("line %d: expected \"key = value\", found %q", number, shorten(line))
		}
		if strings.IndexByte(value, 0) >= 0 {
			return Info{}, fmt.Errorf("line %d: a zero byte in %s", number, shorten(key))
		}
		repeats, known, err := i.set(key, strings.TrimSpace(value))
		if err != nil {
			return Info{}, fmt.Errorf("line %d: %s: %v", number, key, err)
		}
		if known && !repeats {
			if seen[key] {
				return Info{}, fmt.Errorf("line %d: %s stands there twice", number, key)
			}
			seen[key] = true
		}
	}
	if err := checkName(i.Name); err != nil {
		return Info{}, fmt.Errorf("pkgname: %v", err)
	}
	if err := checkVersionText(i.Version); err != nil {
		return Info{}, fmt.Errorf("pkgver: %v", err)
	}
	if err := checkArchText(i.Arch); err != nil {
		return Info{}, fmt.Errorf("arch: %v", err)
	}
	return i, nil
}

// set takes a line of .PKGINFO. repeats says that a key may stand on several lines.
func (i *Info) set(key, value string) (repeats, known bool, err error) {
	switch key {
	case "pkgname":
		i.Name = value
	case "pkgver":
		i.Version = Version(value)
	case "arch":
		i.Arch = Arch(value)
	case "size":
		i.Size, err = parseSize(value)
	case "origin":
		i.Origin = value
	case "pkgdesc":
		i.Description = value
	case "url":
		i.URL = value
	case "commit":
		i.Commit = value
	case "maintainer":
		i.Maintainer = value
	case "packager":
		i.Packager = value
	case "builddate":
		i.BuildDate, err = parseNumber(value)
	case "license":
		if value != "" {
			i.Licenses = append(i.Licenses, value)
		}
		repeats = true
	case "depend":
		i.Depends, err = appendDependencies(i.Depends, value)
		repeats = true
	case "provides":
		i.Provides, err = appendDependencies(i.Provides, value)
		repeats = true
	case "replaces":
		i.Replaces, err = appendDependencies(i.Replaces, value)
		repeats = true
	case "install_if":
		i.InstallIf, err = appendDependencies(i.InstallIf, value)
		repeats = true
	case "provider_priority":
		i.ProviderPriority, err = parseNumber(value)
	case "replaces_priority":
		i.ReplacesPriority, err = parseNumber(value)
	case "triggers":
		i.Triggers = append(i.Triggers, strings.Fields(value)...)
		repeats = true
	case "datahash":
		i.DataHash = value
	default:
		return true, false, nil
	}
	return repeats, true, err
}

func parseSize(s string) (int64, error) {
	n, err := parseNumber(s)
	if err == nil && n < 0 {
		err = fmt.Errorf("%q is negative", s)
	}
	return n, err
}

// parseNumber reads a decimal number; nothing at all is 0.
func parseNumber(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		if errors.Is(err, strconv.ErrRange) {
			return 0, fmt.Errorf("%q does not fit in 64 bits", shorten(s))
		}
		return 0, fmt.Errorf("%q is not a number", shorten(s))
	}
	return n, nil
}

// appendDependencies reads dependencies that spaces separate.
func appendDependencies(all []Dependency, s string) ([]Dependency, error) {
	if all == nil && s != "" {
		all = make([]Dependency, 0, 1+strings.Count(s, " "))
	}
	for s != "" {
		word := s
		if end := strings.IndexByte(s, ' '); end >= 0 {
			word, s = s[:end], s[end+1:]
		} else {
			s = ""
		}
		if word == "" {
			continue
		}
		d, err := splitDependency(word)
		if err != nil {
			return all, err
		}
		all = append(all, d)
	}
	return all, nil
}

// AppendInfo appends the .PKGINFO of a package to dst. Lines have one order, so
// equal values give equal bytes. It is refused if a reader would not read back what
// was given: see Check.
func AppendInfo(dst []byte, i *Info) ([]byte, error) {
	if err := i.Check(); err != nil {
		return nil, err
	}
	line := func(key, value string) {
		dst = append(append(append(append(dst, key...), " = "...), value...), '\n')
	}
	number := func(key string, value int64) {
		if value != 0 {
			line(key, strconv.FormatInt(value, 10))
		}
	}
	optional := func(key, value string) {
		if value != "" {
			line(key, value)
		}
	}
	each := func(key string, all []Dependency) {
		for _, d := range all {
			line(key, d.String())
		}
	}
	line("pkgname", i.Name)
	line("pkgver", string(i.Version))
	line("arch", string(i.Arch))
	line("size", strconv.FormatInt(i.Size, 10))
	optional("origin", i.Origin)
	line("pkgdesc", i.Description)
	line("url", i.URL)
	line("commit", i.Commit)
	optional("maintainer", i.Maintainer)
	optional("packager", i.Packager)
	number("builddate", i.BuildDate)
	for _, l := range i.Licenses {
		line("license", l)
	}
	each("depend", i.Depends)
	each("provides", i.Provides)
	each("replaces", i.Replaces)
	each("# vendored", i.Vendored)
	optional("install_if", joinDependencies(i.InstallIf))
	number("provider_priority", i.ProviderPriority)
	number("replaces_priority", i.ReplacesPriority)
	optional("triggers", strings.Join(i.Triggers, " "))
	optional("datahash", i.DataHash)
	return dst, nil
}

// WriteTo writes the .PKGINFO as AppendInfo makes it.
func (i *Info) WriteTo(w io.Writer) (int64, error) {
	data, err := AppendInfo(nil, i)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(data)
	return int64(n), err
}

// Check says what makes a package that tells this of itself one that is not to be
// written: a name or a version that is none, a value that would not read back.
func (i *Info) Check() error {
	if err := i.checkText(); err != nil {
		return err
	}
	if i.Name[0] == '.' {
		return fmt.Errorf("name %q begins with a dot", i.Name)
	}
	if _, err := ParseVersion(string(i.Version)); err != nil {
		return err
	}
	if i.Arch == "" {
		return errors.New("no architecture")
	}
	if i.BuildDate < 0 {
		return errors.New("a negative build date")
	}
	for _, s := range i.texts() {
		if s != strings.TrimSpace(s) {
			return fmt.Errorf("%q begins or ends with a space", shorten(s))
		}
	}
	for _, all := range [][]Dependency{i.Depends, i.Provides, i.Replaces, i.InstallIf} {
		for _, d := range all {
			if _, err := ParseDependency(d.String()); err != nil {
				return err
			}
		}
	}
	for _, d := range i.Provides {
		if d.Conflict || d.Op != Any && d.Op != Equal {
			return fmt.Errorf("provides %q: only \"name\" and \"name=version\" can be provided", d)
		}
	}
	return nil
}

// checkText refuses what would not read back from a line of .PKGINFO, of an index or
// of the database of what is installed. It is all that is asked of others' packages.
func (i *Info) checkText() error {
	if err := checkName(i.Name); err != nil {
		return err
	}
	if err := checkVersionText(i.Version); err != nil {
		return err
	}
	if i.Size < 0 {
		return errors.New("a negative size")
	}
	for _, s := range i.texts() {
		if strings.ContainsAny(s, "\n\r\x00") {
			return fmt.Errorf("%q has a line break or a zero byte", shorten(s))
		}
	}
	for _, all := range [][]Dependency{i.Depends, i.Provides, i.Replaces, i.InstallIf} {
		for _, d := range all {
			if read, err := splitDependency(d.String()); err != nil {
				return err
			} else if read != d {
				return fmt.Errorf("dependency %q reads back as another", d)
			}
		}
	}
	for _, t := range i.Triggers {
		if !isTrigger(t) {
			return fmt.Errorf("trigger %q is no absolute path without spaces", t)
		}
	}
	return nil
}

// texts are the values that may be any text.
func (i *Info) texts() []string {
	return append([]string{string(i.Arch), i.Origin, i.Description, i.URL, i.Commit, i.Maintainer, i.Packager, i.DataHash}, i.Licenses...)
}

// License is all licences as one SPDX expression.
func (i *Info) License() string {
	if len(i.Licenses) < 2 {
		return strings.Join(i.Licenses, "")
	}
	all := make([]string, len(i.Licenses))
	for n, l := range i.Licenses {
		if strings.Contains(strings.ToUpper(l), " OR ") {
			l = "(" + l + ")"
		}
		all[n] = l
	}
	return strings.Join(all, " AND ")
}

func joinDependencies(all []Dependency) string {
	var b strings.Builder
	for n, d := range all {
		if n > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(d.String())
	}
	return b.String()
}

// shorten cuts what is quoted in a message.
func shorten(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
