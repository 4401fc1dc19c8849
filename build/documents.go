package build

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/build/step"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/sbom"
	"github.com/tarn-build/tarn/recipes"
)

// builtRecipe is what .melange.yaml in a package's control section says: the
// recipe as it was built, with nothing left to decide, and its environment's lock. It is
// in melange's language and no more than that, since melange reads it strictly.
type builtRecipe struct {
	Package     builtPackage      `yaml:"package"`
	Network     string            `yaml:"network,omitempty"` // why the build could use it
	Environment builtEnvironment  `yaml:"environment"`
	Pipeline    []builtStep       `yaml:"pipeline,omitempty"`
	Subpackages []builtSubpackage `yaml:"subpackages,omitempty"`
}

type builtPackage struct {
	Name      string         `yaml:"name"`
	Version   string         `yaml:"version"`
	Epoch     uint64         `yaml:"epoch"`
	Copyright []builtLicense `yaml:"copyright,omitempty"`
}

type builtLicense struct {
	License string `yaml:"license"`
}

type builtEnvironment struct {
	Contents struct {
		Packages []string `yaml:"packages"`
	} `yaml:"contents"`
	// Annotations tell the checksum of each package, under checksumKey and its name, and
	// under prefetchedKey that of what was prefetched.
	Annotations map[string]string `yaml:"annotations,omitempty"`
	Environment map[string]string `yaml:"environment,omitempty"`
}

// checksumKey begins the annotations of an environment that tell the identity of a package
// (repo.Locked.Identity): what the plan's ID covers, so that the same plan gives the same
// bytes whoever signed the packages and however their own environments changed.
const checksumKey = "com.github.tarn-build.checksum."

// prefetchedKey is the annotation that tells the digest of what package managers downloaded.
const prefetchedKey = "com.github.tarn-build.prefetched"

type builtSubpackage struct {
	Name     string      `yaml:"name"`
	Pipeline []builtStep `yaml:"pipeline,omitempty"`
}

type builtStep struct {
	Name        string            `yaml:"name,omitempty"`
	Uses        string            `yaml:"uses,omitempty"`
	With        map[string]string `yaml:"with,omitempty"`
	Runs        string            `yaml:"runs,omitempty"`
	Directory   string            `yaml:"working-directory,omitempty"`
	Environment map[string]string `yaml:"environment,omitempty"`
}

// embeddedRecipe writes what a plan did in melange's language, so that a package
// tells how it was made.
func embeddedRecipe(p *plan.Plan) ([]byte, error) {
	s := p.Script
	revision, _ := s.Version.Revision()
	r := builtRecipe{Package: builtPackage{Name: s.Name, Version: string(s.Version.Base()), Epoch: revision}, Network: p.Online}
	for _, l := range s.Licenses {
		r.Package.Copyright = append(r.Package.Copyright, builtLicense{l.License})
	}
	r.Environment.Contents.Packages = p.Environment.Names()
	annotate := func(key, value string) {
		if r.Environment.Annotations == nil {
			r.Environment.Annotations = map[string]string{}
		}
		r.Environment.Annotations[key] = value
	}
	for _, l := range p.Environment {
		annotate(checksumKey+l.Name, l.Identity)
	}
	if p.Prefetched != nil {
		annotate(prefetchedKey, "sha256:"+p.Prefetched.SHA256)
	}
	r.Environment.Environment = s.Environment.Env
	for i, o := range s.Packages {
		var steps []builtStep
		for _, one := range o.Steps {
			steps = append(steps, builtStep{Uses: one.Native, With: one.Inputs, Runs: one.Shell, Directory: one.Dir, Environment: one.Env})
		}
		if i == 0 {
			r.Pipeline = steps
			continue
		}
		r.Subpackages = append(r.Subpackages, builtSubpackage{o.Name, steps})
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("write .melange.yaml of %s: %w", s.Name, err)
	}
	return b.Bytes(), nil
}

// packageDocument writes the SBOM that goes into a package. It tells of the recipe
// only what decides the package's content, so that the data of a package changes only
// when what it installs, its version or its sources change.
func packageDocument(p *plan.Plan, o *recipes.Output, texts []sbom.LicenseText) ([]byte, error) {
	s := p.Script
	sources, err := sourcesOf(s, o)
	if err != nil {
		return nil, err
	}
	if p.Prefetched != nil {
		sources = append(sources, sbom.Source{Name: s.Name + ".prefetch.tar", Version: string(s.Version.Base()), Checksums: []sbom.Checksum{{Algorithm: "SHA256", Value: p.Prefetched.SHA256}}})
	}
	d := sbom.PackageDocument{
		Package: sbom.Component{
			Name: o.Name, Version: string(s.Version), Arch: string(s.Arch), Distribution: s.Namespace, Origin: s.Name,
			Summary: o.Description, Homepage: o.URL, CPE: o.CPE, Sources: sources,
		},
		Created: s.Time, Licenses: texts,
	}
	if p.Online != "" {
		d.Package.Comment = "its build could use the network, and what it downloaded is not known: " + p.Online
	}
	if o.Commit != "" || s.Repository != "" || s.RecipeLicense != "" {
		d.Recipe = &sbom.Recipe{File: s.Name + ".yaml", Repository: s.Repository, Commit: o.Commit, License: s.RecipeLicense}
	}
	for _, l := range s.Licenses {
		d.Package.Licenses = append(d.Package.Licenses, l.License)
		if l.Attestation != "" {
			d.Package.Copyright = append(d.Package.Copyright, l.Attestation)
		}
	}
	return sbom.Package(d)
}

// sourcesOf lists what a package was built from: what the main package's steps
// bring, which every package is cut from, and what its own do.
func sourcesOf(s *recipes.Script, o *recipes.Output) ([]sbom.Source, error) {
	outputs := []*recipes.Output{&s.Packages[0]}
	if o != outputs[0] {
		outputs = append(outputs, o)
	}
	var sources []sbom.Source
	for _, output := range outputs {
		wanted, err := source.OfOutput(s, output)
		if err != nil {
			return nil, err
		}
		for _, w := range wanted {
			one := sbom.Source{Name: w.Step.Inputs["purl-name"], Version: w.Step.Inputs["purl-version"]}
			if w.File != nil {
				one.URL = w.File.URIs[0]
				for algorithm, digest := range map[string]string{"SHA256": w.File.SHA256, "SHA512": w.File.SHA512} {
					if digest != "" {
						one.Checksums = append(one.Checksums, sbom.Checksum{Algorithm: algorithm, Value: digest})
					}
				}
				slices.SortFunc(one.Checksums, func(a, b sbom.Checksum) int { return strings.Compare(a.Algorithm, b.Algorithm) })
			} else {
				one.URL, one.Commit, one.Tag = w.Git.Repository, w.Git.Commit, w.Git.Tag
			}
			sources = append(sources, one)
		}
	}
	return sources, nil
}

// maxLicenseText is the most that the text of a licence may have, in bytes.
const maxLicenseText = 1 << 20

// licenseTexts reads the texts that license-path names, from what the build left in the
// work folder. Texts of licences that SPDX lists are known to everybody: of these it is
// made sure that they are there.
func licenseTexts(work *os.Root, s *recipes.Script) (texts []sbom.LicenseText, err error) {
	for _, l := range s.Licenses {
		if l.LicensePath == "" {
			continue
		}
		text, err := readLicense(work, strings.TrimPrefix(l.LicensePath, step.WorkPath+"/"))
		if err != nil {
			return nil, diag.Problem{File: s.Recipe, Text: fmt.Sprintf("license-path of %s: %v", l.License, err), Hint: "it names a file in the work folder, as the build leaves it"}
		}
		if strings.HasPrefix(l.License, "LicenseRef-") {
			texts = append(texts, sbom.LicenseText{ID: l.License, Name: strings.TrimPrefix(l.License, "LicenseRef-"), Text: text})
		}
	}
	return texts, nil
}

func readLicense(work *os.Root, name string) (string, error) {
	info, err := work.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxLicenseText {
		return "", fmt.Errorf("%s is no file of at most %d bytes", name, maxLicenseText)
	}
	text, err := work.ReadFile(name)
	return strings.ToValidUTF8(string(text), "\uFFFD"), err
}
