package scaffold

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp"
	"github.com/google/licensecheck"
)

// License is a licence that files of a project stand under.
type License struct {
	Expression string   // SPDX
	Paths      []string // the files, where it is not all of them
	From       string   // the file that says so
}

var (
	licenseFile = regexp.MustCompile(`(?i)^((un)?licen[cs]e|copying|copyright)([-._].*)?$|^.*\.licen[cs]e$`)
	reuseFile   = regexp.MustCompile(`^LICENSES/(.+)\.txt$`)
	sourceFile  = regexp.MustCompile(`\.(c|h|cc|cpp|cxx|hpp|hh|py|rs|go|pl|pm|sh|in|ac|am|java|js|ts|texi|y|l|S|s|lua|rb)$`)
	spdxLine    = regexp.MustCompile(`SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+() -]+)`)
	family      = regexp.MustCompile(`^(A|L)?GPL-[0-9.]+$`)
)

// licenses finds what a project stands under: in the files of licences that it brings, at
// the head of its sources, and in what its metadata claims.
func (t *tree) licenses(claimed string) []License {
	heads := t.heads()
	var found []License
	add := func(expression, from string) {
		var paths []string
		if dir := path.Dir(from); dir != "." && !strings.EqualFold(dir, "LICENSES") && !strings.EqualFold(dir, "licenses") && !strings.EqualFold(dir, "doc") && !strings.EqualFold(dir, "docs") {
			paths = []string{dir + "/*"}
		}
		for i, l := range found {
			if l.Expression != expression {
				continue
			}
			if paths == nil || l.Paths == nil {
				found[i].Paths = nil
			} else {
				found[i].Paths = append(l.Paths, paths...)
			}
			return
		}
		found = append(found, License{expression, paths, from})
	}
	for _, name := range t.named(licenseFile, 2) {
		if sourceFile.MatchString(name) {
			continue
		}
		for _, id := range scan(t.read(name)) {
			add(heads.exact(id), name)
		}
	}
	if len(found) == 0 {
		for _, name := range t.files {
			if m := reuseFile.FindStringSubmatch(name); m != nil {
				add(heads.exact(m[1]), name)
			}
		}
	}
	// The whole of a licence that all sources are under includes the parts of others.
	slices.SortStableFunc(found, func(a, b License) int { return strings.Count(a.From, "/") - strings.Count(b.From, "/") })
	claimed = expression(claimed)
	switch {
	case claimed != "" && len(found) == 0:
		return []License{{Expression: claimed, From: "its metadata"}}
	case claimed != "" && covers(claimed, found):
		// It says which of several may be chosen, which files can't.
		return []License{{Expression: claimed, From: "its metadata"}}
	case len(found) > 0:
		return found
	}
	if id := heads.most(); id != "" {
		return []License{{Expression: id, From: "the heads of its sources"}}
	}
	for _, name := range t.named(regexp.MustCompile(`(?i)^(readme|notice)([-._].*)?$`), 0) {
		for _, id := range scan(t.read(name)) {
			add(heads.exact(id), name)
		}
	}
	return found
}

// scan lists the licences whose whole text, or whose notice, stands in a text.
func scan(text string) (ids []string) {
	for _, m := range licensecheck.Scan([]byte(text)).Match {
		if id := m.ID; !m.IsURL && !slices.Contains(ids, id) && !strings.HasPrefix(id, "Google-") {
			ids = append(ids, id)
		}
	}
	for i, id := range ids {
		if valid, _ := spdxexp.ValidateLicenses([]string{id}); !valid {
			ids[i] = "LicenseRef-" + id
		}
	}
	// The text of the GPL ends with how to apply it, which is a notice of its own.
	return slices.DeleteFunc(ids, func(id string) bool {
		base := strings.TrimSuffix(strings.TrimSuffix(id, "-or-later"), "-only")
		return base != id && slices.Contains(ids, base)
	})
}

// covers tells whether an expression names nothing but what was found, and all of it.
func covers(expression string, found []License) bool {
	words := strings.FieldsFunc(expression, func(r rune) bool { return r == ' ' || r == '(' || r == ')' })
	said := 0
	for i, word := range words {
		if word == "AND" || word == "OR" || word == "WITH" || i > 0 && words[i-1] == "WITH" {
			continue
		}
		said++
		if !slices.ContainsFunc(found, func(l License) bool { return sameFamily(l.Expression, word) }) {
			return false
		}
	}
	return said >= len(found)
}

func sameFamily(a, b string) bool {
	cut := func(s string) string {
		return strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(s, "-or-later"), "-only"), "+")
	}
	return strings.EqualFold(cut(a), cut(b))
}

// headCount is how many sources say of themselves that they stand under a licence.
type headCount map[string]int

func (t *tree) heads() headCount {
	heads, looked := headCount{}, 0
	for _, name := range t.files {
		if !sourceFile.MatchString(name) || others.MatchString(name) || strings.Count(name, "/") > 4 {
			continue
		}
		if looked++; looked > 400 {
			break
		}
		text := t.head(name, 4<<10)
		if m := spdxLine.FindStringSubmatch(text); m != nil {
			heads[expression(strings.TrimSpace(m[1]))]++
			continue
		}
		for _, id := range scan(text) {
			heads[id]++
		}
	}
	delete(heads, "")
	return heads
}

// exact says of a licence of the GPL's family, whose text does not, whether later versions
// may be chosen: as most sources do.
func (h headCount) exact(id string) string {
	if !family.MatchString(id) {
		return id
	}
	if h[id+"-or-later"] > 0 && h[id+"-or-later"] >= h[id+"-only"] {
		return id + "-or-later"
	}
	return id + "-only"
}

func (h headCount) most() string {
	best := ""
	for id, n := range h {
		if n > h[best] || n == h[best] && id < best {
			best = id
		}
	}
	return h.exact(best)
}

// spellings are other ways to write what SPDX calls otherwise.
var spellings = map[string]string{
	"apache 2.0": "Apache-2.0", "apache2": "Apache-2.0", "apache license 2.0": "Apache-2.0", "apache software license": "Apache-2.0", "apache-2": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
	"mit license": "MIT", "the mit license": "MIT", "expat": "MIT", "isc license": "ISC", "zlib license": "Zlib", "unlicense": "Unlicense",
	"bsd-3": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause", "3-clause bsd": "BSD-3-Clause", "bsd-2": "BSD-2-Clause", "bsd 2-clause": "BSD-2-Clause", "new bsd": "BSD-3-Clause",
	"gpl2": "GPL-2.0-only", "gplv2": "GPL-2.0-only", "gpl-2": "GPL-2.0-only", "gpl-2.0": "GPL-2.0-only", "gplv2+": "GPL-2.0-or-later", "gpl2+": "GPL-2.0-or-later", "gpl-2.0+": "GPL-2.0-or-later",
	"gpl3": "GPL-3.0-only", "gplv3": "GPL-3.0-only", "gpl-3.0": "GPL-3.0-only", "gplv3+": "GPL-3.0-or-later", "gpl3+": "GPL-3.0-or-later", "gpl-3.0+": "GPL-3.0-or-later",
	"lgplv2+": "LGPL-2.0-or-later", "lgplv2.1": "LGPL-2.1-only", "lgplv2.1+": "LGPL-2.1-or-later", "lgpl-2.1": "LGPL-2.1-only", "lgpl2.1+": "LGPL-2.1-or-later", "lgpl-2.1+": "LGPL-2.1-or-later", "lgplv3": "LGPL-3.0-only", "lgplv3+": "LGPL-3.0-or-later", "lgpl-3.0": "LGPL-3.0-only",
	"agpl-3.0": "AGPL-3.0-only", "mpl 2.0": "MPL-2.0", "mpl2": "MPL-2.0", "perl_5": "Artistic-1.0-Perl OR GPL-1.0-or-later", "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later", "artistic_2": "Artistic-2.0", "apache_2_0": "Apache-2.0", "bsd": "", "mit": "MIT",
	"psf": "PSF-2.0", "psf-2.0": "PSF-2.0", "public domain": "LicenseRef-public-domain", "gpl": "", "lgpl": "",
}

var (
	expressionWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*[0-9A-Za-z+]$`)
	operator       = regexp.MustCompile(`(?i)^(and|or|with)$`)
)

// expression is what somebody claims as an expression of SPDX, or "" where it is none.
func expression(claimed string) string {
	claimed = strings.TrimSpace(claimed)
	if known, is := spellings[strings.ToLower(claimed)]; is {
		return known
	}
	if !strings.Contains(claimed, " ") && strings.Contains(claimed, "/") {
		claimed = strings.Join(strings.Split(claimed, "/"), " OR ") // as Cargo.toml had it
	}
	words := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(claimed))
	if len(words) == 0 || len(words) > 12 {
		return ""
	}
	var out strings.Builder
	wantOperator := false
	for _, word := range words {
		switch {
		case word == "(" || word == ")":
			wantOperator = word == ")"
		case operator.MatchString(word) && wantOperator:
			word, wantOperator = strings.ToUpper(word), false
		case expressionWord.MatchString(word) && !wantOperator:
			if known := spellings[strings.ToLower(word)]; known != "" {
				word = known
			}
			wantOperator = true
		default:
			return ""
		}
		if out.Len() > 0 && word != ")" && !strings.HasSuffix(out.String(), "(") {
			out.WriteByte(' ')
		}
		out.WriteString(word)
	}
	if valid, _ := spdxexp.ValidateLicenses([]string{out.String()}); !valid {
		return ""
	}
	return out.String()
}
