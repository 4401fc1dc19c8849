// Package imagetest holds what is told of an image against the image, with the libraries
// of those who made the forms. It is for tests.
package imagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	"github.com/package-url/packageurl-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/view"
)

// Told is what one of the ways of telling says of an image: what is no folder by its
// package, and the versions of the packages.
type Told struct{ Files, Packages map[string]string }

func newTold() Told { return Told{map[string]string{}, map[string]string{}} }

// EqualSets holds that the root file system, apk's database in it, the SPDX and the
// CycloneDX document speak of the same files and packages, and gives what all of them say.
// Its error tells of every difference, and of what a document says wrongly or not at all.
func EqualSets(contents *view.Contents, spdx, cyclonedx []byte) (Told, error) {
	var wrong []error
	// The database as apk reads it, and the files that it does not know.
	database := newTold()
	for _, p := range contents.Packages {
		database.Packages[p.Name] = p.Version
		if len(p.Missing) > 0 {
			wrong = append(wrong, fmt.Errorf("%s: the database has files that are not there: %v", p.Name, p.Missing))
		}
	}
	for n := range contents.Tree.All() {
		if n.Mode.IsDir() {
			continue
		}
		database.Files[n.Path] = n.Owner
		if n.Owner == "" {
			wrong = append(wrong, fmt.Errorf("/%s is in the root file system, and no package has it", n.Path))
		}
	}
	if len(database.Files) == 0 {
		wrong = append(wrong, errors.New("the root file system is empty"))
	}
	inSPDX, err := tellSPDX(spdx, contents)
	wrong = append(wrong, err)
	inCycloneDX, err := tellCycloneDX(cyclonedx)
	wrong = append(wrong, err)
	for _, told := range []struct {
		by string
		Told
	}{{"SPDX", inSPDX}, {"CycloneDX", inCycloneDX}} {
		if diff := cmp.Diff(database.Files, told.Files); diff != "" {
			wrong = append(wrong, fmt.Errorf("files: -root file system +%s:\n%s", told.by, diff))
		}
		if diff := cmp.Diff(database.Packages, told.Packages); diff != "" {
			wrong = append(wrong, fmt.Errorf("packages: -database +%s:\n%s", told.by, diff))
		}
	}
	return database, errors.Join(wrong...)
}

// tellSPDX reads the SPDX document with SPDX's own library, and holds that every package
// has a licence, a package-url, a checksum and a source, and every file its digests.
func tellSPDX(data []byte, contents *view.Contents) (Told, error) {
	told := newTold()
	doc, err := spdxjson.Read(bytes.NewReader(data))
	if err != nil {
		return told, fmt.Errorf("SPDX: %w", err)
	}
	var all []error
	wrong := func(format string, args ...any) { all = append(all, fmt.Errorf("SPDX: "+format, args...)) }
	if err := spdxlib.ValidateDocument(doc); err != nil {
		wrong("%w", err)
	}
	names := map[common.ElementID]string{}
	sourced := map[common.ElementID]bool{}
	for _, p := range doc.Packages {
		for _, r := range p.PackageExternalReferences {
			if url, err := packageurl.FromString(r.Locator); err == nil && url.Type == "apk" && p.PrimaryPackagePurpose == "INSTALL" {
				names[p.PackageSPDXIdentifier] = p.PackageName
				told.Packages[p.PackageName] = p.PackageVersion
			}
		}
	}
	files := map[common.ElementID]*spdx.File{}
	for _, f := range doc.Files {
		files[f.FileSPDXIdentifier] = f
	}
	for _, r := range doc.Relationships {
		from, to := r.RefA.ElementRefID, r.RefB.ElementRefID
		switch {
		case r.Relationship == "GENERATED_FROM":
			sourced[from] = true
		case r.Relationship == "CONTAINS" && files[to] != nil:
			name := strings.TrimPrefix(files[to].FileName, "./")
			if told.Files[name] != "" {
				wrong("/%s belongs to %s and %s", name, told.Files[name], names[from])
			}
			told.Files[name] = names[from]
			sums := map[string]string{}
			for _, c := range files[to].Checksums {
				sums[string(c.Algorithm)] = c.Value
			}
			n, _ := contents.Tree.Lstat(name)
			if n != nil && n.Mode.IsRegular() && (sums["SHA256"] != n.Sum || sums["SHA1"] != contents.Files[name].SHA1) {
				wrong("/%s has %v, want %s and %s", name, sums, n.Sum, contents.Files[name].SHA1)
			}
		}
	}
	for _, p := range doc.Packages {
		name := names[p.PackageSPDXIdentifier]
		if name == "" {
			continue
		}
		if !sourced[p.PackageSPDXIdentifier] {
			wrong("%s has no source", name)
		}
		if len(p.PackageChecksums) == 0 {
			wrong("%s has no checksum", name)
		}
		if p.PackageLicenseDeclared == "" || p.PackageLicenseDeclared == "NOASSERTION" && !images.IsOwnPackage(name) {
			wrong("%s has the licence %q", name, p.PackageLicenseDeclared)
		}
		if p.FilesAnalyzed && p.PackageVerificationCode == nil {
			wrong("%s has files and no code that verifies them", name)
		}
	}
	if len(files) != len(told.Files) {
		wrong("%d files, %d of them of packages", len(files), len(told.Files))
	}
	return told, errors.Join(all...)
}

// tellCycloneDX reads the CycloneDX document with its own library, after its official
// schema has found nothing wrong.
func tellCycloneDX(data []byte) (Told, error) {
	told := newTold()
	all := []error{CheckCycloneDX(data)}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		return told, errors.Join(append(all, fmt.Errorf("CycloneDX: %w", err))...)
	}
	if bom.Components == nil {
		return told, errors.Join(append(all, errors.New("CycloneDX: it has no components"))...)
	}
	for _, c := range *bom.Components {
		if c.Type != cdx.ComponentTypeLibrary {
			continue
		}
		told.Packages[c.Name] = c.Version
		if !strings.HasPrefix(c.PackageURL, "pkg:apk/") || c.Hashes == nil || c.ExternalReferences == nil || c.Licenses == nil && !images.IsOwnPackage(c.Name) {
			all = append(all, fmt.Errorf("CycloneDX: %s lacks a package-url, hash, licence or source: %+v", c.Name, c))
		}
		if c.Components == nil {
			continue
		}
		for _, f := range *c.Components {
			told.Files[strings.TrimPrefix(f.Name, "/")] = c.Name
		}
	}
	return told, errors.Join(all...)
}

// CheckCycloneDX holds a document against the official schema of its version. What is
// defined elsewhere for cryptography is left open: these documents say nothing of it.
func CheckCycloneDX(data []byte) error {
	schema, err := cycloneSchema()
	if err != nil {
		return err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("CycloneDX: %w", err)
	}
	if err := schema.Validate(document); err != nil {
		return fmt.Errorf("CycloneDX: %w", err)
	}
	return nil
}

func cycloneSchema() (*jsonschema.Schema, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, name := range []string{"bom-1.7.schema.json", "spdx.schema.json", "jsf-0.82.schema.json"} {
		text, err := os.ReadFile(filepath.Join(root, "pkg", "sbom", "testdata", "cyclonedx", name))
		if err != nil {
			return nil, err
		}
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		if err := c.AddResource("http://cyclonedx.org/schema/"+name, schema); err != nil {
			return nil, err
		}
	}
	open, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"definitions": {"algorithmFamiliesEnum": {}, "ellipticCurvesEnum": {}}}`))
	if err != nil {
		return nil, err
	}
	if err := c.AddResource("http://cyclonedx.org/schema/cryptography-defs.schema.json", open); err != nil {
		return nil, err
	}
	return c.Compile("http://cyclonedx.org/schema/bom-1.7.schema.json")
}

// repository is the folder of this module: tests run somewhere below it.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = parent
	}
}

// ReadLayout reads the image for one architecture of an OCI layout, e.g. of what tarn
// image build wrote: its contents, and its documents NAME.spdx.json and NAME.cdx.json
// beside it, as a user finds them.
func ReadLayout(ctx context.Context, dir string) (*view.Contents, []byte, []byte, error) {
	opened, err := view.Open(ctx, "oci:"+dir, view.Options{})
	if err != nil {
		return nil, nil, nil, err
	}
	defer opened.Close()
	if len(opened.Images) != 1 {
		return nil, nil, nil, fmt.Errorf("%s: it has %d images", dir, len(opened.Images))
	}
	contents, err := opened.Images[0].Read(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	spdx, err := os.ReadFile(dir + ".spdx.json")
	if err != nil {
		return nil, nil, nil, err
	}
	cyclonedx, err := os.ReadFile(dir + ".cdx.json")
	return contents, spdx, cyclonedx, err
}
