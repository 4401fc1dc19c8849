package recipes

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
)

// Target is what a recipe is expanded for. The zero value of every field but Arch works.
type Target struct {
	Arch apk.Arch
	// Libc is the flavour that ${{host.triplet.gnu}} and its like speak of: "musl" or "gnu" ("gnu" when empty, as in melange).
	Libc string
	// Time is SOURCE_DATE_EPOCH, in Unix seconds, and the modification time of everything that is made.
	Time time.Time
	// Options are the build options that are on (--build-option).
	Options []string
	// Vars override the recipe's vars (--vars-file).
	Vars map[string]string
	// Env lies under the recipe's own environment (--env-file); it never reaches a package.
	Env map[string]string
	// Namespace is the distribution's name in purls, e.g. "tarn" ("unknown" when empty, as in melange).
	Namespace string
	// Commit is the commit of the recipe's repository (--git-commit), RepositoryURL its address; both may be empty.
	Commit, RepositoryURL string
	// License is the licence of the recipe itself, an SPDX expression; it may be empty (--license).
	License string
	// AppendPackages join the environment of every build, AppendTestPackages that of every test.
	AppendPackages, AppendTestPackages []apk.Dependency
	// VersionedLibraries asks for dependencies on the libraries that a build was linked
	// against in their versions or later ones, but where no-versioned-shlib-deps says no.
	VersionedLibraries bool
	// AnyArch expands recipes that are not made for Arch as well: to look at, not to build.
	AnyArch bool
}

// Script is a recipe with nothing left to decide: variables, conditions, ranges
// and uses: are gone. Its JSON is canonical: it is what a plan's ID covers.
type Script struct {
	Name         string        `json:"name"`    // the main package
	Version      apk.Version   `json:"version"` // with the revision, e.g. 1.3.1-r0
	Arch         apk.Arch      `json:"arch"`
	Namespace    string        `json:"namespace,omitempty"` // the distribution, e.g. tarn
	Time         int64         `json:"time"`                // SOURCE_DATE_EPOCH
	Environment  Environment   `json:"environment"`
	Capabilities []string      `json:"capabilities,omitempty"`
	Timeout      time.Duration `json:"timeout,omitempty"`
	Files        []LocalFile   `json:"files,omitempty"` // what lies beside the recipe and starts in the work folder
	Packages     []Output      `json:"packages"`        // the main package first, then the subpackages, in order
	Licenses     []License     `json:"licenses"`
	Network      string        `json:"network,omitempty"` // why this recipe's build may download, where its author says so

	DropCapabilities []string `json:"drop-capabilities,omitempty"`
	Repository       string   `json:"repository,omitempty"`     // address of the recipe's repository
	RecipeLicense    string   `json:"recipe-license,omitempty"` // of the recipe itself

	// VersionedLibraries says that dependencies on libraries name their versions as well.
	VersionedLibraries bool `json:"versioned-libraries,omitempty"`

	// What follows decides nothing about the packages.

	Recipe        string     `json:"-"` // the file that the script came from, for messages
	MadeFor       []string   `json:"-"` // architectures, as the recipe says; all when empty
	Source        fs.FS      `json:"-"` // where Files are, nil without any
	Resources     *Resources `json:"-"` // hints for whoever gives machines to builds
	TestResources *Resources `json:"-"` // the same for tests

	trace  []Traced // every task of the recipe, run or not
	recipe *Recipe
	notes  diag.Problems // of the pipeline files in use
}

// Environment is what a sandbox is asked to hold.
type Environment struct {
	Packages []Need            `json:"packages"` // sorted, each once
	Env      map[string]string `json:"env,omitempty"`
	// Given lies under Env (--env-file). It may hold secrets: it is in no JSON, and
	// GivenDigest stands for it.
	Given        map[string]string `json:"-"`
	GivenDigest  string            `json:"given-digest,omitempty"` // SHA-256 of Given as JSON, in hexadecimal
	Accounts     *Accounts         `json:"accounts,omitempty"`     // the users, where the recipe names any
	Repositories []string          `json:"repositories,omitempty"` // further ones that the recipe names
	Keyring      []string          `json:"keyring,omitempty"`      // keys that the recipe names

	declared []string // Packages as they are written, sorted
}

// setGiven sets Given and what stands for it.
func (e *Environment) setGiven(env map[string]string) {
	if len(env) == 0 {
		return
	}
	text, err := json.Marshal(env)
	if err != nil {
		panic("internal error: an environment that is no JSON: " + err.Error())
	}
	e.Given, e.GivenDigest = env, fmt.Sprintf("%x", sha256.Sum256(text))
}

// Need is a package that an environment asks for.
type Need struct {
	apk.Dependency
	From string `json:"-"` // file:line:column of the one who asks, or the pipeline
	// Native says that only steps which tarn does itself ask for the package:
	// it is left out when the plan is made.
	Native bool `json:"-"`
}

// MarshalText writes the need as its dependency.
func (n Need) MarshalText() ([]byte, error) { return n.Dependency.MarshalText() }

// LocalFile is a file beside the recipe, e.g. a patch.
type LocalFile struct {
	Path       string `json:"path"` // below the recipe's folder
	SHA256     string `json:"sha256"`
	Executable bool   `json:"executable,omitempty"`
}

// License is one entry of a recipe's copyright.
type License struct {
	License     string `json:"license"` // SPDX expression
	Attestation string `json:"attestation,omitempty"`
	LicensePath string `json:"license-path,omitempty"`
	// DetectionOverride is what is believed of the source's licence files in place of
	// what is found in them.
	DetectionOverride string `json:"detection-override,omitempty"`
}

// Output is one package of a script.
type Output struct {
	Name                 string            `json:"name"`
	Description          string            `json:"description,omitempty"`
	URL                  string            `json:"url,omitempty"`
	Commit               string            `json:"commit,omitempty"`
	Runtime              []apk.Dependency  `json:"runtime,omitempty"`
	Provides             []apk.Dependency  `json:"provides,omitempty"`
	Replaces             []apk.Dependency  `json:"replaces,omitempty"`
	ProviderPriority     int64             `json:"provider-priority,omitempty"`
	ReplacesPriority     int64             `json:"replaces-priority,omitempty"`
	NoProvides           bool              `json:"no-provides,omitempty"`
	NoDepends            bool              `json:"no-depends,omitempty"`
	NoCommands           bool              `json:"no-commands,omitempty"`
	NoVersionedShlibDeps bool              `json:"no-versioned-shlib-deps,omitempty"`
	Scriptlets           map[string]string `json:"scriptlets,omitempty"` // by name in the control section, e.g. ".post-install"
	Triggers             []string          `json:"triggers,omitempty"`
	ChecksDisabled       []string          `json:"checks-disabled,omitempty"`
	Setcap               []Setcap          `json:"setcap,omitempty"`
	Owners               []Owner           `json:"owners,omitempty"`
	Annotations          map[string]string `json:"annotations,omitempty"`
	CPE                  string            `json:"cpe,omitempty"`
	Steps                []Step            `json:"steps,omitempty"` // in order, groups flattened
	Test                 *Test             `json:"-"`               // a test decides nothing about the package

	depends, provides []string // Runtime and Provides as they are written
}

// Setcap gives a file capabilities.
type Setcap struct {
	Path string            `json:"path"`
	Add  map[string]string `json:"add"`
}

// Owner says whose a file is: by name, where an account of the environment has it, or by
// number. "" leaves user or group as it is.
type Owner struct {
	Path      string `json:"path"` // from the root
	User      string `json:"user,omitempty"`
	Group     string `json:"group,omitempty"`
	Recursive bool   `json:"recursive,omitempty"` // all below a folder too
}

// Test is what shows that a package works.
type Test struct {
	Environment Environment `json:"environment"`
	Steps       []Step      `json:"steps"`
}

// Step is one thing to do: a shell script, a native step, which tarn does itself, or,
// with neither Shell nor Native, the making of its folder Dir and nothing else.
type Step struct {
	At    string `json:"-"`               // its place: "pipeline/3/0", "subpackage:zlib-dev/1", "test/0"
	Name  string `json:"-"`               // name, else uses, for messages
	Uses  string `json:"-"`               // the pipeline that the recipe named, "" for runs
	Line  int    `json:"-"`               // where it stands in the recipe, from 1
	Shell string `json:"shell,omitempty"` // finished script, run by /bin/sh as FORMATS 2.8 tells; empty for a native step
	// Prefetch is a script that downloads what the step needs before anything is built, in
	// a sandbox with a network. What it leaves is named by its digest, which decides.
	Prefetch string `json:"prefetch,omitempty"`

	Native  string            `json:"native,omitempty"`  // "fetch", "git-checkout", "strip", "split/dev", ...
	Inputs  map[string]string `json:"inputs,omitempty"`  // of a native step, substituted, but for Hints
	Hints   map[string]string `json:"-"`                 // inputs of a native step that decide nothing, e.g. retry-limit
	Dir     string            `json:"dir,omitempty"`     // absolute, inside; "/home/build" when empty
	Env     map[string]string `json:"env,omitempty"`     // over the script's environment
	Package string            `json:"package,omitempty"` // whose melange-out folder the step works in: ${{context.name}}
}
