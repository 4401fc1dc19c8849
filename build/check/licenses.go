package check

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp/spdxlicenses"
	"github.com/google/licensecheck"
)

// licenceFile is what the files with a project's own licences are called.
var licenceFile = regexp.MustCompile(`(?i)^((un)?licen[sc]e|copy(ing|right)|ofl)([-_.][^/]*)?$|^[^/]+[-_](licen[sc]e|copying)(\.(md|txt))?$`)

// foreign are folders of a source with what others wrote, and of the build.
var foreign = []string{"vendor", "third_party", "third-party", "node_modules", "env", "venv", ".virtualenv", "melange-out", ".git", "testdata", "test", "tests"}

// notText are ends of files that are called after a licence and do not hold it.
var notText = []string{".go", ".c", ".h", ".py", ".xml", ".spdx", ".gemspec", ".header", ".sh", ".rs", ".js", ".patch"}

// confident is how much of a file must be the text of licences, in percent, to be believed.
const confident = 90

// maxLicence is the most of a file that is read.
const maxLicence = 1 << 20

// otherLicences finds the texts of licences at the top of the source that the recipe's
// copyright does not name. A text does not say whether later versions of the licence
// will do, so GPL-2.0-only and GPL-2.0-or-later are one here.
func otherLicences(p Package) ([]finding, error) {
	named := map[string]bool{}
	for _, expression := range slices.Concat(p.Licenses, p.Override) {
		for _, word := range strings.Fields(strings.NewReplacer("(", " ", ")", " ").Replace(expression)) {
			named[licenceFamily(word)] = true
		}
	}
	if p.Source == nil || len(named) == 0 || !slices.ContainsFunc(p.Licenses, isListed) {
		return nil, nil // nothing to hold it against
	}
	if named["lgpl-3.0"] {
		named["gpl-3.0"] = true // the one is written as an addition to the other
	}
	var found []finding
	err := fs.WalkDir(p.Source, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains(foreign, path.Base(name)) || strings.Count(name, "/") > 0):
			return fs.SkipDir
		case !d.Type().IsRegular() || !licenceFile.MatchString(path.Base(name)) || slices.Contains(notText, path.Ext(name)):
			return nil
		}
		ids, err := licencesOf(p.Source, name)
		if err != nil {
			return err
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return named[licenceFamily(id)] })
		if len(ids) > 0 {
			found = append(found, finding{name, fmt.Sprintf("is the text of %s, and the recipe's copyright is %s", strings.Join(ids, " and "), strings.Join(p.Licenses, " AND "))})
		}
		return nil
	})
	return found, err
}

// licencesOf are the licences, by SPDX's identifiers, that a file is the text of.
func licencesOf(files fs.FS, name string) ([]string, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxLicence))
	if err != nil {
		return nil, err
	}
	coverage := licensecheck.Scan(text)
	if coverage.Percent < confident {
		return nil, nil
	}
	var ids []string
	for _, m := range coverage.Match {
		if !m.IsURL && isListed(m.ID) && !slices.Contains(ids, m.ID) {
			ids = append(ids, m.ID)
		}
	}
	return ids, nil
}

// isListed tells whether SPDX lists an identifier, now or once; of an expression, whether
// it lists the first.
func isListed(expression string) bool {
	id, _, _ := strings.Cut(strings.TrimLeft(expression, "("), " ")
	id = strings.TrimRight(id, ")")
	active, _ := spdxlicenses.IsActiveLicense(id)
	old, _ := spdxlicenses.IsDeprecatedLicense(id)
	return active || old
}

// licenceFamily is an identifier without what its text does not say.
func licenceFamily(id string) string {
	id = strings.ToLower(id)
	for _, suffix := range []string{"-only", "-or-later", "+"} {
		id = strings.TrimSuffix(id, suffix)
	}
	return id
}
