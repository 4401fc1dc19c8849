package images

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/github/go-spdx/v2/spdxexp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
)

// The rules of "policy:", as Reason.Rule tells them.
const (
	rulePackage  = "package"
	ruleLicense  = "license"
	ruleOrigin   = "origin"
	ruleUnsigned = "unsigned"
	ruleSize     = "size"
)

func mergePolicies(base, top Policy) Policy {
	m := base
	m.Here = top.Here
	m.Packages = mergeChoices(base.Packages, top.Packages)
	m.Licenses = mergeChoices(base.Licenses, top.Licenses)
	m.Origin = mergeChoices(base.Origin, top.Origin)
	for _, key := range []struct {
		name string
		into *string
		own  string
	}{{"setuid", &m.Setuid, top.Setuid}, {"shells", &m.Shells, top.Shells}, {"unsigned", &m.Unsigned, top.Unsigned}} {
		if top.Here.Has(key.name) {
			*key.into = key.own
		}
	}
	return m
}

func mergeChoices(base, top Choice) Choice {
	return Choice{Here: top.Here, Allow: slices.Concat(base.Allow, top.Allow), Deny: slices.Concat(base.Deny, top.Deny)}
}

func (l *loader) checkPolicy(s *Spec) {
	p := &s.Policy
	for _, key := range []struct{ name, value string }{{"setuid", p.Setuid}, {"shells", p.Shells}, {"unsigned", p.Unsigned}} {
		if words := []string{"allow", "deny"}; key.value != "" && !slices.Contains(words, key.value) {
			l.add(p.Here.Value(key.name), cmp.Or(diag.DidYouMean(key.value, words), `write "deny", or "allow" where an included file denies it`), "policy %s: %q is neither allow nor deny", key.name, key.value)
		}
	}
	for _, list := range []struct {
		name   string
		choice *Choice
		check  func(string) error
	}{
		{"packages", &p.Packages, func(text string) error { _, err := parsePackagePattern(text); return err }},
		{"licenses", &p.Licenses, checkLicensePattern},
		{"origin", &p.Origin, checkPattern},
	} {
		for _, part := range []struct {
			key   string
			items []string
		}{{"allow", list.choice.Allow}, {"deny", list.choice.Deny}} {
			for i, item := range part.items {
				if err := list.check(item); err != nil {
					l.add(list.choice.Here.Value(part.key).Item(i), "", "policy %s: %v", list.name, err)
				}
			}
		}
	}
}

// checkPattern says what is wrong with a pattern of a name.
func checkPattern(text string) error {
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("%q is no name", text)
	}
	if _, err := path.Match(text, ""); err != nil {
		return fmt.Errorf("%q is no pattern: %v", text, err)
	}
	return nil
}

// checkLicensePattern says what is wrong with a pattern of a licence: an expression of
// several would match nothing.
func checkLicensePattern(text string) error {
	for _, word := range strings.Fields(text) {
		if word == "AND" || word == "OR" {
			return fmt.Errorf("%q are several licences: list each", text)
		}
	}
	return checkPattern(text)
}

// packagePattern chooses packages: a name, in which * stands for anything, and, where
// it is said, a version (openssl<3.5).
type packagePattern struct {
	name    string
	version apk.Dependency
}

func parsePackagePattern(text string) (packagePattern, error) {
	at := strings.IndexAny(text, "<>=~")
	if at < 0 {
		return packagePattern{name: text}, checkPattern(text)
	}
	// The grammar of names is not that of patterns: only the version is read by it.
	d, err := apk.ParseDependency("package" + text[at:])
	if err != nil {
		return packagePattern{}, fmt.Errorf("%q: behind the name stand <, <=, =, >=, > or ~ and a version", text)
	}
	return packagePattern{text[:at], d}, checkPattern(text[:at])
}

func (p packagePattern) matches(e *apk.Entry) bool {
	return glob(p.name, e.Name) && (p.version.Name == "" || p.version.MatchesAnyRevision(e.Version))
}

// glob matches a pattern that Load has checked.
func glob(pattern, name string) bool {
	found, _ := path.Match(pattern, name)
	return found
}

// refusePackages finds what of the packages themselves a policy refuses. It is asked
// before the store is: who vouches for a package, and where it came from, does not
// decide an image's bytes, and may be another than the last time.
func refusePackages(s *Spec, packages []Package, o Options) ([]Reason, error) {
	reasons := refuseSeeds(packages)
	p := &s.Policy
	for i := range packages {
		pkg := &packages[i]
		add := func(rule, format string, args ...any) {
			reasons = append(reasons, Reason{Rule: rule, Package: pkg.Entry.FullName(), Text: fmt.Sprintf(format, args...)})
		}
		named := func(text string) bool {
			pattern, err := parsePackagePattern(text)
			return err == nil && pattern.matches(pkg.Entry)
		}
		if why := p.Packages.refuses(named); why != "" {
			add(rulePackage, "%s", why)
		}
		if why := p.Origin.refuses(func(text string) bool { return comesFrom(pkg, text) }); why != "" {
			add(ruleOrigin, "it is built from %q and comes from %s: %s", cmp.Or(pkg.Entry.Origin, pkg.Entry.Name), pkg.From, why)
		}
		if why := p.Licenses.refusesLicense(pkg.Entry.Licenses); why != "" {
			add(ruleLicense, "%s", why)
		}
		if p.Unsigned == "deny" {
			why, err := unsigned(o, pkg.Digest)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", pkg.Entry.FileName(), err)
			}
			if why != "" {
				add(ruleUnsigned, "%s", why)
			}
		}
	}
	return reasons, nil
}

// refuses says why something is refused, or "".
func (c *Choice) refuses(matches func(string) bool) string {
	if i := slices.IndexFunc(c.Deny, matches); i >= 0 {
		return fmt.Sprintf("the policy denies %q", c.Deny[i])
	}
	if len(c.Allow) > 0 && !slices.ContainsFunc(c.Allow, matches) {
		return "the policy does not allow it"
	}
	return ""
}

// comesFrom says whether a package is built from the recipe that a pattern names or,
// where it has a slash or is an address, comes from that repository.
func comesFrom(p *Package, pattern string) bool {
	if !strings.ContainsAny(pattern, "/:") {
		return glob(pattern, cmp.Or(p.Entry.Origin, p.Entry.Name))
	}
	trim := func(location string) string { return strings.TrimRight(strings.TrimPrefix(location, "./"), "/") }
	from, pattern := trim(p.From), trim(pattern)
	return from == pattern || glob(pattern, from) || strings.HasSuffix(from, "/"+pattern)
}

// unsigned says why a package counts as unsigned, or "". The checksum in a signed index
// is not enough here: it says who listed the package, not who made it.
func unsigned(o Options, digest store.Digest) (string, error) {
	f, err := o.Store.Open(digest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return "", err
	}
	if len(p.Signatures) == 0 {
		return "it bears no signature", nil
	}
	if o.Trusted == nil {
		return "no key is trusted that could have signed it", nil
	}
	if _, err := p.VerifySignature(o.Trusted); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// refusesLicense says why licences, which all hold, are refused, or "". Of alternatives
// (MIT OR GPL-2.0-only) one that is allowed is enough.
func (c *Choice) refusesLicense(licenses []string) string {
	if len(c.Allow) == 0 && len(c.Deny) == 0 {
		return ""
	}
	any := false
	for _, text := range licenses {
		if text = strings.TrimSpace(text); text == "" || text == "NOASSERTION" {
			continue
		}
		any = true
		e := licenseExpression{words: strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text)), allowed: c.allowsLicense}
		holds := e.alternatives()
		if e.wrong || len(e.words) > 0 {
			// No expression: a name of its own, or several, of which nothing says how they
			// go together.
			holds = c.allowsLicense(text) && !slices.ContainsFunc(strings.FieldsFunc(text, betweenNames), c.deniesLicense)
		}
		if !holds {
			return fmt.Sprintf("its licence %q is refused", text)
		}
	}
	if !any && len(c.Allow) > 0 {
		return "it says no licence, and the policy lists those that are allowed"
	}
	return ""
}

// betweenNames tells what stands between licences where no expression does.
func betweenNames(c rune) bool { return unicode.IsSpace(c) || strings.ContainsRune(",;/|&()", c) }

// deniesLicense says whether one licence is among those that are denied.
func (c *Choice) deniesLicense(license string) bool {
	return slices.ContainsFunc(c.Deny, func(pattern string) bool { return namesLicense(pattern, license) })
}

// namesLicense says whether a pattern is of a licence, which may have an exception (X WITH Y).
func namesLicense(pattern, license string) bool {
	id, _, _ := strings.Cut(license, " WITH ")
	for _, pattern := range []string{strings.ToLower(pattern), modernLicense(pattern)} {
		for _, name := range []string{strings.ToLower(license), strings.ToLower(id), modernLicense(id)} {
			if glob(pattern, name) {
				return true
			}
		}
	}
	return false
}

// oldLicense are identifiers that SPDX gave up for those that say what they mean: GPL-2.0
// is GPL-2.0-only, GPL-2.0+ is GPL-2.0-or-later.
var oldLicense = regexp.MustCompile(`^([al]?gpl-[0-9.]+|gfdl-[0-9.]+)(\+?)$`)

func modernLicense(id string) string {
	id = strings.ToLower(id)
	parts := oldLicense.FindStringSubmatch(id)
	switch {
	case parts == nil:
		return id
	case parts[2] == "":
		return parts[1] + "-only"
	}
	return parts[1] + "-or-later"
}

// allowsLicense judges one licence.
func (c *Choice) allowsLicense(license string) bool {
	if c.deniesLicense(license) {
		return false
	}
	if len(c.Allow) == 0 || slices.ContainsFunc(c.Allow, func(pattern string) bool { return namesLicense(pattern, license) }) {
		return true
	}
	// GPL-2.0-or-later allows GPL-3.0-only.
	for _, allowed := range c.Allow {
		if satisfied, err := spdxexp.Satisfies(license, []string{allowed}); err == nil && satisfied {
			return true
		}
	}
	return false
}

// licenseExpression judges an expression of SPDX (specification 2.3, annex D) by its
// licences. Unlike a reader of SPDX it knows no list: packages have names of their own.
type licenseExpression struct {
	words   []string
	allowed func(license string) bool
	wrong   bool
	depth   int
}

func (e *licenseExpression) next(word string) bool {
	if len(e.words) > 0 && strings.EqualFold(e.words[0], word) {
		e.words = e.words[1:]
		return true
	}
	return false
}

func (e *licenseExpression) alternatives() bool {
	holds := e.conjunction()
	for e.next("OR") {
		holds = e.conjunction() || holds
	}
	return holds
}

func (e *licenseExpression) conjunction() bool {
	holds := e.license()
	for e.next("AND") {
		holds = e.license() && holds
	}
	return holds
}

func (e *licenseExpression) license() bool {
	if e.next("(") {
		if e.depth++; e.depth > 100 {
			e.wrong, e.words = true, nil
			return false
		}
		holds := e.alternatives()
		e.wrong = e.wrong || !e.next(")")
		e.depth--
		return holds
	}
	if len(e.words) == 0 || e.words[0] == ")" {
		e.wrong = true
		return false
	}
	license := e.words[0]
	e.words = e.words[1:]
	e.wrong = e.wrong || strings.ContainsFunc(license, betweenNames) // "MIT/GPL-2.0" is no identifier
	if e.next("WITH") {
		if len(e.words) == 0 {
			e.wrong = true
			return false
		}
		license += " WITH " + e.words[0]
		e.words = e.words[1:]
	}
	return e.allowed(license)
}

// biggestNamed is how many packages a refusal for size names.
const biggestNamed = 5

// refuseSize refuses files that are together more than the image may have.
func refuseSize(limit Size, size int64, packages []*scanned) []Reason {
	if limit == 0 || size <= int64(limit) {
		return nil
	}
	reasons := []Reason{{Rule: ruleSize, Text: fmt.Sprintf("its files have %s, %s more than the size-limit of %s", byteCount(size), byteCount(size-int64(limit)), limit)}}
	// What the composer makes of itself is not to be left out.
	for i, p := range slices.DeleteFunc(sortedBySize(packages), func(p *scanned) bool { return p.own }) {
		if i == biggestNamed || p.size() == 0 {
			break
		}
		reasons = append(reasons, Reason{Rule: ruleSize, Package: p.Info.FullName(), Text: "it has " + byteCount(p.size())})
	}
	return reasons
}

// Minds holds an image that is there already, whoever made it, against distroless, policy
// and size-limit of an image file. Found is what Examine found in its files, packages are
// those of its database, size is that of its files in bytes. What only composing sees is left
// out: who signed a package, and which repository it came from.
func (s *Spec) Minds(found []Reason, packages []*apk.Entry, size int64) []Reason {
	seen := *s
	seen.Policy.Unsigned = ""
	repository := func(pattern string) bool { return strings.ContainsAny(pattern, "/:") }
	seen.Policy.Origin.Allow = slices.DeleteFunc(slices.Clone(s.Policy.Origin.Allow), repository)
	seen.Policy.Origin.Deny = slices.DeleteFunc(slices.Clone(s.Policy.Origin.Deny), repository)
	var all []Package
	for _, e := range packages {
		if !IsOwnPackage(e.Name) {
			all = append(all, Package{Entry: e, From: "the image"})
		}
	}
	reasons, err := refusePackages(&seen, all, Options{})
	if err != nil {
		panic("internal error: a package was read: " + err.Error()) // only unsigned reads any
	}
	rules := s.treeRules()
	for _, r := range found {
		if rules[r.Rule] {
			reasons = append(reasons, r)
		}
	}
	return append(reasons, refuseSize(s.SizeLimit, size, nil)...)
}
