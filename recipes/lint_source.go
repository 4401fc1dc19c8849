package recipes

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// sourceRules are about where the source comes from.
var sourceRules = []Rule{
	{
		Name: "fetch-digest", Severity: diag.Error, Known: "valid-pipeline-fetch-digest",
		Reason:  "Only a digest says which bytes are built: what lies at an address can change. A digest that is malformed is refused when the recipe is read.",
		Example: "pipeline:\n  - uses: fetch\n    with:\n      uri: https://example.org/x-${{package.version}}.tar.gz\n      expected-none: \"true\"",
		Instead: "pipeline:\n  - uses: fetch\n    with:\n      uri: https://example.org/x-${{package.version}}.tar.gz\n      expected-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		find: func(l *linter) {
			l.recipe.eachTask(func(t *Task) {
				if t.Uses == "fetch" && t.With["expected-sha256"] == "" && t.With["expected-sha512"] == "" {
					l.report(t.Here.Value("uses"), "add expected-sha256", "the file is named by no digest")
				}
			})
		},
	},
	{
		Name: "fetch-templating", Severity: diag.Warning,
		Reason:  "A version that is spelled out stays behind when the package's version is raised: the old source is built under the new number.",
		Example: "pipeline:\n  - uses: fetch\n    with:\n      uri: https://example.org/x-1.2.3.tar.gz\n      expected-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		Instead: "pipeline:\n  - uses: fetch\n    with:\n      uri: https://example.org/x-${{package.version}}.tar.gz\n      expected-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		find: func(l *linter) {
			version := l.recipe.Package.Version
			// A short one stands in an address by chance.
			if strings.Count(version, ".") < 1 || strings.Contains(version, "${{") {
				return
			}
			spelled := regexp.MustCompile(`(^|[^0-9.])(` + regexp.QuoteMeta(version) + `)($|[^0-9])`)
			l.eachSource(func(t *Task, key, value string, at yamlread.Place) {
				if t.Uses == "git-checkout" && key == "repository" || template.MatchString(value) {
					return
				}
				if m := spelled.FindStringSubmatchIndex(value); m != nil {
					l.inside(at, m[4], "write ${{package.version}}", "the version is spelled out")
				}
			}, "uri", "tag")
		},
	},
	{
		Name: "fetch-uri", Severity: diag.Error, Known: "valid-pipeline-fetch-uri",
		Reason:  "An address that is none, or whose host holds other letters than it seems, is found when it is fetched at the earliest.",
		Example: "pipeline:\n  - uses: fetch\n    with:\n      uri: https://examp_le/x.tar.gz\n      expected-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		Instead: "pipeline:\n  - uses: fetch\n    with:\n      uri: https://example.org/x.tar.gz\n      expected-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		find: func(l *linter) {
			l.eachSource(func(t *Task, key, value string, at yamlread.Place) {
				for _, address := range addressesIn(value) {
					if strings.HasPrefix(key, "verify-") && !strings.Contains(address, ":") {
						continue // a file beside the recipe
					}
					if problem := badAddress(address, t.Uses == "git-checkout"); problem != "" {
						l.report(at, "", "%s", problem)
					}
				}
			}, "uri", "repository", "mirrors", "verify-uri", "verify-checksums")
		},
	},
	{
		Name: "git-checkout-ref", Severity: diag.Error, Known: "valid-pipeline-git-checkout-tag",
		Reason:  "A commit by itself says nothing to readers, and bots find no new one. The tag or branch that it is of is checked against it.",
		Example: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://example.org/x\n      expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf",
		Instead: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://example.org/x\n      tag: v${{package.version}}\n      expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf",
		find: func(l *linter) {
			l.recipe.eachTask(func(t *Task) {
				if t.Uses == "git-checkout" && t.With["tag"] == "" && t.With["branch"] == "" {
					l.report(t.Here.Value("uses"), "add tag or branch", "the tree is named by no tag and no branch")
				}
			})
		},
	},
	{
		Name: "http", Severity: diag.Warning,
		Reason:  "What comes without TLS tells everybody on the way what is fetched, and fails where networks allow nothing else. (Its bytes are checked in any case.)",
		Example: "pipeline:\n  - uses: fetch\n    with:\n      uri: http://example.org/x.tar.gz\n      expected-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		Instead: "pipeline:\n  - uses: fetch\n    with:\n      uri: https://example.org/x.tar.gz\n      expected-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		find: func(l *linter) {
			l.eachSource(func(_ *Task, key, value string, at yamlread.Place) {
				for _, scheme := range []string{"http", "git", "ftp"} {
					if strings.HasPrefix(value, scheme+"://") {
						l.report(at, "try https://", "%s:// comes without TLS", scheme)
					}
				}
			}, "uri", "repository")
		},
	},
	{
		Name: "pinned", Severity: diag.Error, Known: "valid-pipeline-git-checkout-commit",
		Reason:  "A branch or a tag can be moved; only a commit says what is built.",
		Example: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://example.org/x\n      tag: v${{package.version}}",
		Instead: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://example.org/x\n      tag: v${{package.version}}\n      expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf",
		find: func(l *linter) {
			l.recipe.eachTask(func(t *Task) {
				if t.Uses == "git-checkout" && t.With["expected-commit"] == "" {
					l.report(t.Here.Value("uses"), "add expected-commit", "the tree is named by no commit")
				}
			})
		},
	},
	{
		Name: "uri-mimic", Severity: diag.Error,
		Reason:  "A host that is a letter or two away from a known one is a slip, or a trap.",
		Example: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://githib.com/x/x\n      tag: v${{package.version}}\n      expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf",
		Instead: "pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://github.com/x/x\n      tag: v${{package.version}}\n      expected-commit: 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf",
		find: func(l *linter) {
			l.eachSource(func(_ *Task, key, value string, at yamlread.Place) {
				u, err := url.Parse(stand(value))
				if err != nil || u.Hostname() == "" {
					return
				}
				if known := mimics(strings.ToLower(u.Hostname())); known != "" {
					l.report(at, fmt.Sprintf("did you mean %q?", known), "the host %q looks like %q and is not", u.Hostname(), known)
				}
			}, "uri", "repository")
		},
	},
}

// eachSource visits those of the inputs of every fetch and git-checkout that have one of the names.
func (l *linter) eachSource(visit func(t *Task, key, value string, at yamlread.Place), keys ...string) {
	l.recipe.eachTask(func(t *Task) {
		if t.Uses != "fetch" && t.Uses != "git-checkout" {
			return
		}
		for _, key := range keys {
			if value := t.With[key]; value != "" {
				visit(t, key, value, t.Here.Value("with").Value(key))
			}
		}
	})
}

// addressesIn are the addresses of a list with blanks between them; a blank in a variable is none.
func addressesIn(list string) []string {
	return strings.Fields(template.ReplaceAllStringFunc(list, func(v string) string { return strings.Join(strings.Fields(v), "") }))
}

// hostname is stricter than the standard: no capital, no letter that only looks like another.
var hostname = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[a-z]{2,}$`)

// badAddress says what is wrong with an address, or "".
func badAddress(text string, git bool) string {
	if strings.HasPrefix(text, "debian:") && !git {
		return "" // tarn's own: SOURCE/FILE of Debian's archive
	}
	if strings.HasPrefix(template.ReplaceAllString(text, ""), "://") || strings.HasPrefix(text, "${{") {
		return "" // all of it is a variable's
	}
	u, err := url.ParseRequestURI(stand(text))
	if err != nil || u.Host == "" {
		return fmt.Sprintf("%q is no address", text)
	}
	schemes := []string{"https", "http", "ftp"}
	if git {
		schemes = []string{"https", "http", "git", "ssh"}
	}
	if !slices.Contains(schemes, u.Scheme) {
		return fmt.Sprintf("%q is no address that sources come from: %s", text, strings.Join(schemes, ", "))
	}
	_, rest, _ := strings.Cut(text, "://")
	authority, _, _ := strings.Cut(rest, "/")
	if template.MatchString(authority) {
		return ""
	}
	if u.User != nil && u.Scheme != "ssh" {
		return "an address must hold no name and no password"
	}
	if !hostname.MatchString(u.Hostname()) {
		return fmt.Sprintf("%q is no name of a host", u.Hostname())
	}
	return ""
}

// knownHosts are where most sources come from. Registries of packages are not among them:
// which these are is the setting of each machine.
var knownHosts = []string{
	"github.com", "gitlab.com", "codeberg.org", "bitbucket.org", "raw.githubusercontent.com", "objects.githubusercontent.com",
	"cpan.metacpan.org", "www.cpan.org", "downloads.sourceforge.net", "sourceforge.net", "ftp.gnu.org", "ftpmirror.gnu.org", "git.savannah.gnu.org",
	"gitlab.freedesktop.org", "gitlab.gnome.org", "download.gnome.org", "download.kde.org", "invent.kde.org", "salsa.debian.org",
	"git.kernel.org", "cdn.kernel.org", "www.kernel.org", "mirrors.kernel.org", "kernel.googlesource.com", "go.googlesource.com",
	"archive.apache.org", "downloads.apache.org", "dlcdn.apache.org", "repo1.maven.org", "dl.google.com", "storage.googleapis.com",
	"sourceware.org", "gcc.gnu.org", "www.openssl.org", "www.python.org", "nodejs.org", "git.sr.ht",
}

// mimics gives the known host that another one looks like, or "".
func mimics(host string) string {
	if slices.Contains(knownHosts, host) {
		return ""
	}
	for _, known := range knownHosts {
		if domain(host) == domain(known) {
			continue // of the same owner: another host of googlesource.com
		}
		// In a short name two other letters make another name.
		if limit := min(2, len(known)/8); limit > 0 && diag.Distance(host, known, limit) <= limit {
			return known
		}
		// The same name under another end: github.co.
		name, _, _ := cutLast(known, ".")
		if other, _, found := cutLast(host, "."); found && other == name && strings.Count(known, ".") == 1 {
			return known
		}
	}
	return ""
}

// domain is the part of a host's name that somebody owns, but for countries with ends of
// two parts (co.uk), of which no known host is.
func domain(host string) string {
	labels := strings.Split(host, ".")
	return strings.Join(labels[max(0, len(labels)-2):], ".")
}

// cutLast cuts a text at the last place of sep.
func cutLast(text, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):], true
	}
	return text, "", false
}
