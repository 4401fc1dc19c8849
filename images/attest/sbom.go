package attest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"
)

// Missing lists which packages, as NAME-VERSION, an attested SPDX document does not tell
// of by a package URL.
func Missing(spdx []byte, packages map[string]string) ([]string, error) {
	var doc struct {
		Packages []struct {
			Name         string `json:"name"`
			Version      string `json:"versionInfo"`
			ExternalRefs []struct {
				Locator string `json:"referenceLocator"`
			} `json:"externalRefs"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(spdx, &doc); err != nil {
		return nil, fmt.Errorf("the attested SPDX document is malformed: %v", err)
	}
	told := map[string]bool{}
	for _, p := range doc.Packages {
		for _, ref := range p.ExternalRefs {
			if !strings.HasPrefix(ref.Locator, "pkg:") {
				continue
			}
			if url, err := packageurl.FromString(ref.Locator); err == nil {
				told[url.Name+"-"+url.Version] = true
			}
		}
	}
	var missing []string
	for name, version := range packages {
		if !told[name+"-"+version] {
			missing = append(missing, name+"-"+version)
		}
	}
	slices.Sort(missing)
	return missing, nil
}
