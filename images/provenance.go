package images

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/package-url/packageurl-go"
	"gopkg.in/yaml.v3"

	"github.com/tarn-build/tarn/pkg/apk"
)

// buildType says how to read the provenance: what Provenance writes.
const buildType = "https://github.com/tarn-build/tarn/images/provenance@v2"

// provenance is the predicate of SLSA's provenance, version 1 (slsa.dev/spec/v1.0/provenance).
type provenance struct {
	BuildDefinition struct {
		BuildType  string `json:"buildType"`
		Parameters struct {
			Image         *Spec    `json:"image"`
			Name          string   `json:"name"`
			Architectures []string `json:"architectures"`
		} `json:"externalParameters"`
		Internal struct {
			Packages []builtPackage         `json:"packages"`
			Recipes  map[string]builtRecipe `json:"recipes"`
		} `json:"internalParameters"`
		Dependencies []resource `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID      string            `json:"id"`
			Version map[string]string `json:"version,omitempty"`
		} `json:"builder"`
	} `json:"runDetails"`
}

// resource is a ResourceDescriptor of in-toto.
type resource struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

// builtPackage is a package of the image, and by what recipe it was made.
type builtPackage struct {
	Name     string      `json:"name"`
	Version  apk.Version `json:"version"`
	Arch     apk.Arch    `json:"architecture"`
	Origin   string      `json:"origin,omitempty"`
	Commit   string      `json:"commit,omitempty"` // of the recipe, as the package says
	Checksum string      `json:"checksum"`         // apk's, which does not change with a signature
	SHA256   string      `json:"sha256"`           // of the file
	// Recipe is the SHA-256 of the recipe in the package: a key of "recipes"; "" when
	// there is none.
	Recipe string `json:"recipe,omitempty"`
}

// builtRecipe is what a package says of its making.
type builtRecipe struct {
	Text        string     `json:"text"`                  // the script: nothing in it is left to decide
	Sources     []resource `json:"sources,omitempty"`     // what it fetched
	Environment []resource `json:"environment,omitempty"` // the packages it was built in; without a digest where it does not tell
}

// What is taken of a package where not its file is known: names of algorithms of our own,
// which in-toto lets (digest_set.md there).
const (
	digestOfControl = "apkControlSha1" // of the control section, which names the package in an index of apk's
	digestOfData    = "apkDataSha256"  // of the data section: what the package installs
	digestOfADB     = "apkAdbSha256"   // of a package of version 3, as its index has it
	digestOfSeed    = "tarnSeedSha256" // of the list of what a seed is made of, by SHA-256
)

// recipeFile is where a package's control section holds its recipe.
const recipeFile = ".melange.yaml"

// checksumKey begins the annotations in such a recipe's environment that tell the checksum
// of a package; those of melange have none.
const checksumKey = "com.github.tarn-build.checksum."

// prefetchedKey is the annotation that tells of what package managers downloaded before
// the build, as one tree.
const prefetchedKey = "com.github.tarn-build.prefetched"

// Provenance is the SLSA provenance (version 1, the predicate) of the images of one image
// file: the file, the base image, every package that was added by digest, and for each the
// recipe, the digests of its sources and of its environment as the package holds them.
// version is tarn's. Packages that hold no recipe are there without one. The same images
// give the same bytes.
func Provenance(version string, images ...*Image) ([]byte, error) {
	var p provenance
	d := &p.BuildDefinition
	d.BuildType = buildType
	d.Internal.Recipes = map[string]builtRecipe{}
	p.RunDetails.Builder.ID = "https://github.com/tarn-build/tarn"
	p.RunDetails.Builder.Version = map[string]string{"tarn": version}
	known := map[string]bool{}
	add := func(r resource) {
		text, err := json.Marshal(r)
		if err == nil && !known[string(text)] {
			known[string(text)] = true
			d.Dependencies = append(d.Dependencies, r)
		}
	}
	for _, image := range images {
		d.Parameters.Image, d.Parameters.Name = image.spec, image.About.Name
		d.Parameters.Architectures = append(d.Parameters.Architectures, string(image.About.Arch))
		base, err := image.base()
		if err != nil {
			return nil, fmt.Errorf("provenance of %s: %w", image.About.Name, err)
		}
		if base != nil {
			add(*base)
		}
		for _, from := range image.from {
			built, recipe, err := image.builtPackage(from)
			if err != nil {
				return nil, fmt.Errorf("provenance of %s: %s: %w", image.About.Name, from.Entry.FullName(), err)
			}
			d.Internal.Packages = append(d.Internal.Packages, built)
			add(resource{Name: built.Name, URI: packageURL(built), Digest: map[string]string{"sha256": built.SHA256}})
			if recipe == nil {
				continue
			}
			d.Internal.Recipes[built.Recipe] = *recipe
			for _, r := range slices.Concat(recipe.Sources, recipe.Environment) {
				add(r)
			}
		}
	}
	return json.Marshal(p)
}

// base is the image that this one is put on top of, or nil.
func (i *Image) base() (*resource, error) {
	m, err := v1.ParseManifest(bytes.NewReader(i.Manifest))
	if err != nil {
		return nil, err
	}
	r := &resource{Name: "base image"}
	r.digest("sha256", strings.TrimPrefix(m.Annotations[baseKey], "sha256:"))
	if r.Digest == nil {
		return nil, nil
	}
	return r, nil
}

// digest adds a digest in hexadecimal, where it is one of its algorithm: who checks the
// provenance refuses all of it for one that is not.
func (r *resource) digest(algorithm, text string) {
	sizes := map[string]int{
		"sha256": sha256.Size, "sha512": sha512.Size, "gitCommit": sha1.Size,
		digestOfControl: sha1.Size, digestOfData: sha256.Size, digestOfADB: sha256.Size, digestOfSeed: sha256.Size,
	}
	text = strings.ToLower(text)
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != sizes[algorithm] {
		return
	}
	if r.Digest == nil {
		r.Digest = map[string]string{}
	}
	r.Digest[algorithm] = text
}

// builtPackage reads what a package says of itself. It is checked against the index
// before it is in the store, and against its digest when it is opened.
func (i *Image) builtPackage(from Package) (builtPackage, *builtRecipe, error) {
	f, err := i.st.Open(from.Digest)
	if err != nil {
		return builtPackage{}, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return builtPackage{}, nil, err
	}
	p, err := apk.ReadPackage(f, info.Size(), apk.Limits{})
	if err != nil {
		return builtPackage{}, nil, err
	}
	_, hex, _ := strings.Cut(string(from.Digest), ":")
	built := builtPackage{
		Name: p.Info.Name, Version: p.Info.Version, Arch: p.Info.Arch, Origin: p.Info.Origin, Commit: p.Info.Commit,
		Checksum: p.Checksum.String(), SHA256: hex,
	}
	text, found := p.Control[recipeFile]
	if !found {
		return built, nil, nil
	}
	built.Recipe = fmt.Sprintf("%x", sha256.Sum256(text))
	recipe := readRecipe(text)
	return built, &recipe, nil
}

func packageURL(p builtPackage) string {
	return packageurl.NewPackageURL("apk", "", p.Name, string(p.Version), packageurl.Qualifiers{{Key: "arch", Value: string(p.Arch)}}, "").ToString()
}

// readRecipe reads out of a recipe in a package what was fetched and in what it was built.
// One that is malformed has its text alone: it says what it says.
func readRecipe(text []byte) builtRecipe {
	recipe := builtRecipe{Text: strings.ToValidUTF8(string(text), "\uFFFD")}
	var root yaml.Node
	// Nodes: nothing that the text refers to twice is there twice.
	if err := yaml.Unmarshal(text, &root); err != nil || len(root.Content) == 0 {
		return recipe
	}
	document := root.Content[0]
	environment := value(document, "environment")
	if packages := value(value(environment, "contents"), "packages"); packages != nil {
		for _, n := range packages.Content {
			if n.Value == "" {
				continue
			}
			recipe.Environment = append(recipe.Environment, environmentPackage(n.Value, value(environment, "annotations")))
		}
	}
	recipe.Sources = sources(document, nil, 0)
	if digest, found := strings.CutPrefix(scalar(value(environment, "annotations"), prefetchedKey), "sha256:"); found {
		r := resource{Name: scalar(value(document, "package"), "name") + ".prefetch.tar"}
		r.digest("sha256", digest)
		recipe.Sources = append(recipe.Sources, r)
	}
	return recipe
}

// environmentPackage is a package of an environment, NAME=VERSION, and its checksum.
func environmentPackage(text string, annotations *yaml.Node) resource {
	name, version, _ := strings.Cut(text, "=")
	if name == "" || strings.ContainsAny(name, "<>~!@ ") {
		return resource{Name: text} // of others, and not exact
	}
	r := resource{Name: name, URI: packageurl.NewPackageURL("apk", "", name, version, nil, "").ToString()}
	checksum := scalar(annotations, checksumKey+name)
	kind, digest, _ := strings.Cut(checksum, ":")
	switch kind {
	case "data":
		r.digest(digestOfData, digest)
	case "sha256":
		r.digest(digestOfADB, digest)
	case "seed":
		r.digest(digestOfSeed, digest)
	default:
		if sum, err := apk.ParseChecksum(checksum); err == nil {
			r.digest(digestOfControl, hex.EncodeToString(sum[:]))
		}
	}
	return r
}

// maxRecipeDepth is how deep steps stand in each other; recipes of others have five levels.
const maxRecipeDepth = 64

// sources are what the steps below a node fetch, in the order of the recipe.
func sources(n *yaml.Node, all []resource, depth int) []resource {
	if n == nil || depth > maxRecipeDepth {
		return all
	}
	if with := value(n, "with"); with != nil {
		switch uses := value(n, "uses"); {
		case uses == nil:
		case uses.Value == "fetch":
			r := resource{URI: scalar(with, "uri")}
			for _, algorithm := range []string{"sha256", "sha512"} {
				r.digest(algorithm, scalar(with, "expected-"+algorithm))
			}
			all = append(all, r)
		case uses.Value == "git-checkout":
			r := resource{URI: "git+" + scalar(with, "repository")}
			if tag := scalar(with, "tag"); tag != "" {
				r.URI += "@" + tag
			}
			r.digest("gitCommit", scalar(with, "expected-commit"))
			all = append(all, r)
		}
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			all = sources(item, all, depth+1)
		}
	case yaml.MappingNode:
		for _, key := range []string{"pipeline", "subpackages"} {
			all = sources(value(n, key), all, depth+1)
		}
	}
	return all
}

// value is what a key has in a mapping, or nil.
func value(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalar(n *yaml.Node, key string) string {
	if v := value(n, key); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}
