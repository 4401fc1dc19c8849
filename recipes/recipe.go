package recipes

import (
	"io/fs"
	"slices"
	"time"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Recipe is a file of the recipe language as it was written: nothing is
// substituted, chosen or multiplied yet. Every field of the language is kept.
// Fields named Here are the place of the mapping that the struct was read from.
type Recipe struct {
	Here          yamlread.Place         `yaml:",here" json:"-"`
	Package       Package                `yaml:"package,required" json:"package"`
	Environment   ImageConfig            `yaml:"environment" json:"environment"`
	Capabilities  Capabilities           `yaml:"capabilities" json:"capabilities"`
	Pipeline      []Task                 `yaml:"pipeline" json:"pipeline,omitempty"`
	Subpackages   []Subpackage           `yaml:"subpackages" json:"subpackages,omitempty"`
	Data          []Table                `yaml:"data" json:"data,omitempty"`
	Update        Update                 `yaml:"update" json:"update"`
	Vars          map[string]string      `yaml:"vars" json:"vars,omitempty"`
	VarTransforms []VarTransform         `yaml:"var-transforms" json:"var-transforms,omitempty"`
	Options       map[string]BuildOption `yaml:"options" json:"options,omitempty"`
	Test          *TestSection           `yaml:"test" json:"test,omitempty"`
	// Network says why the build may download; a build without it has no network.
	// It is tarn's own field.
	Network string `yaml:"network" json:"network,omitempty"`

	// Files is what lies beside the recipe and starts in its work folder: the
	// folder that is called like it, unless the caller sets another (--source-dir).
	Files fs.FS `yaml:"-" json:"-"`

	path     string
	source   []byte
	mistakes diag.Problems // that reading found
}

// Path is the file that the recipe was read from, as it was given to Load.
func (r *Recipe) Path() string { return r.path }

// Text is the file as it was read.
func (r *Recipe) Text() []byte { return slices.Clone(r.source) }

// YAML writes the recipe as a file that reads as the same recipe: without comments, with
// its keys in the order of this struct.
func (r *Recipe) YAML() ([]byte, error) { return yamlread.Encode(r) }

// Package is what a recipe says of its main package.
type Package struct {
	Here               yamlread.Place    `yaml:",here" json:"-"`
	Name               string            `yaml:"name,required" json:"name"`
	Version            string            `yaml:"version,required" json:"version"`
	Epoch              uint64            `yaml:"epoch" json:"epoch"`
	Description        string            `yaml:"description" json:"description,omitempty"`
	URL                string            `yaml:"url" json:"url,omitempty"`
	Annotations        map[string]string `yaml:"annotations" json:"annotations,omitempty"`
	Commit             string            `yaml:"commit" json:"commit,omitempty"`
	TargetArchitecture []string          `yaml:"target-architecture" json:"target-architecture,omitempty"`
	Copyright          []Copyright       `yaml:"copyright" json:"copyright,omitempty"`
	Dependencies       Dependencies      `yaml:"dependencies" json:"dependencies"`
	Options            PackageOptions    `yaml:"options" json:"options"`
	Scriptlets         Scriptlets        `yaml:"scriptlets" json:"scriptlets"`
	Checks             Checks            `yaml:"checks" json:"checks"`
	CPE                CPE               `yaml:"cpe" json:"cpe"`
	Setcap             []FileCapability  `yaml:"setcap" json:"setcap,omitempty"`
	Owners             []FileOwner       `yaml:"owners" json:"owners,omitempty"`
	Timeout            time.Duration     `yaml:"timeout" json:"timeout,omitempty"`
	Resources          *Resources        `yaml:"resources" json:"resources,omitempty"`
	TestResources      *Resources        `yaml:"test-resources" json:"test-resources,omitempty"`
}

// Copyright is one licence that parts of a package stand under.
type Copyright struct {
	Here              yamlread.Place `yaml:",here" json:"-"`
	License           string         `yaml:"license,required" json:"license"` // SPDX expression
	Paths             []string       `yaml:"paths" json:"paths,omitempty"`
	Attestation       string         `yaml:"attestation" json:"attestation,omitempty"`
	LicensePath       string         `yaml:"license-path" json:"license-path,omitempty"`
	DetectionOverride string         `yaml:"detection-override" json:"detection-override,omitempty"`
}

// Dependencies are what a package declares to need, give and replace, in apk's syntax.
type Dependencies struct {
	Here             yamlread.Place `yaml:",here" json:"-"`
	Runtime          []string       `yaml:"runtime" json:"runtime,omitempty"`
	Provides         []string       `yaml:"provides" json:"provides,omitempty"`
	Replaces         []string       `yaml:"replaces" json:"replaces,omitempty"`
	ProviderPriority string         `yaml:"provider-priority" json:"provider-priority,omitempty"` // a whole number once substituted
	ReplacesPriority string         `yaml:"replaces-priority" json:"replaces-priority,omitempty"` // a whole number once substituted
}

// PackageOptions change what is found in a built package by itself.
type PackageOptions struct {
	NoProvides           bool `yaml:"no-provides" json:"no-provides,omitempty"`
	NoDepends            bool `yaml:"no-depends" json:"no-depends,omitempty"`
	NoCommands           bool `yaml:"no-commands" json:"no-commands,omitempty"`
	NoVersionedShlibDeps bool `yaml:"no-versioned-shlib-deps" json:"no-versioned-shlib-deps,omitempty"`
}

// Scriptlets run on the machine that the package is installed on.
type Scriptlets struct {
	Trigger       Trigger `yaml:"trigger" json:"trigger"`
	PreInstall    string  `yaml:"pre-install" json:"pre-install,omitempty"`
	PostInstall   string  `yaml:"post-install" json:"post-install,omitempty"`
	PreDeinstall  string  `yaml:"pre-deinstall" json:"pre-deinstall,omitempty"`
	PostDeinstall string  `yaml:"post-deinstall" json:"post-deinstall,omitempty"`
	PreUpgrade    string  `yaml:"pre-upgrade" json:"pre-upgrade,omitempty"`
	PostUpgrade   string  `yaml:"post-upgrade" json:"post-upgrade,omitempty"`
}

// Trigger is a scriptlet that runs when one of the paths changes.
type Trigger struct {
	Here   yamlread.Place `yaml:",here" json:"-"`
	Script string         `yaml:"script" json:"script,omitempty"`
	Paths  []string       `yaml:"paths" json:"paths,omitempty"`
}

// Checks says which linters only warn for a package.
type Checks struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	Disabled []string       `yaml:"disabled" json:"disabled,omitempty"`
}

// CPE is the package's name in vulnerability databases.
type CPE struct {
	Here            yamlread.Place `yaml:",here" json:"-"`
	Part            string         `yaml:"part" json:"part,omitempty"` // a or o; a when empty
	Vendor          string         `yaml:"vendor" json:"vendor,omitempty"`
	Product         string         `yaml:"product" json:"product,omitempty"`
	Edition         string         `yaml:"edition" json:"edition,omitempty"`
	Language        string         `yaml:"language" json:"language,omitempty"`
	SoftwareEdition string         `yaml:"sw_edition" json:"sw_edition,omitempty"`
	TargetSoftware  string         `yaml:"target_sw" json:"target_sw,omitempty"`
	TargetHardware  string         `yaml:"target_hw" json:"target_hw,omitempty"`
	Other           string         `yaml:"other" json:"other,omitempty"`
}

// FileOwner says whose a file is in the package. Melange has no such key: there a step
// gives files away, which not every user of every machine can.
type FileOwner struct {
	Here      yamlread.Place `yaml:",here" json:"-"`
	Path      string         `yaml:"path,required" json:"path"` // from the root
	User      string         `yaml:"user" json:"user,omitempty"`
	Group     string         `yaml:"group" json:"group,omitempty"`
	Recursive bool           `yaml:"recursive" json:"recursive,omitempty"`
}

// FileCapability gives a file capabilities of the kernel.
type FileCapability struct {
	Here   yamlread.Place    `yaml:",here" json:"-"`
	Path   string            `yaml:"path,required" json:"path"`
	Add    map[string]string `yaml:"add,required" json:"add"` // "cap_a,cap_b" -> flags such as +ep
	Reason string            `yaml:"reason,required" json:"reason"`
}

// Resources are hints for whoever gives machines to builds.
type Resources struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	CPU      string         `yaml:"cpu" json:"cpu,omitempty"`
	CPUModel string         `yaml:"cpumodel" json:"cpumodel,omitempty"`
	Memory   string         `yaml:"memory" json:"memory,omitempty"`
	Disk     string         `yaml:"disk" json:"disk,omitempty"`
}

// Capabilities are Linux capabilities that the sandbox gives or takes.
type Capabilities struct {
	Here yamlread.Place `yaml:",here" json:"-"`
	Add  []string       `yaml:"add" json:"add,omitempty"`
	Drop []string       `yaml:"drop" json:"drop,omitempty"`
}

// Task is one entry of a pipeline as it is written: a shell script, the use of a
// pipeline file, or a group of further tasks. A pipeline file is a Task as well.
type Task struct {
	Here             yamlread.Place    `yaml:",here" json:"-"`
	Name             string            `yaml:"name" json:"name,omitempty"`
	Uses             string            `yaml:"uses" json:"uses,omitempty"`
	With             map[string]string `yaml:"with" json:"with,omitempty"`
	Runs             string            `yaml:"runs" json:"runs,omitempty"`
	If               string            `yaml:"if" json:"if,omitempty"`
	Pipeline         []Task            `yaml:"pipeline" json:"pipeline,omitempty"`
	Inputs           map[string]Input  `yaml:"inputs" json:"inputs,omitempty"`
	Needs            Needs             `yaml:"needs" json:"needs"`
	Label            string            `yaml:"label" json:"label,omitempty"`
	Assertions       Assertions        `yaml:"assertions" json:"assertions"`
	WorkingDirectory string            `yaml:"working-directory" json:"working-directory,omitempty"`
	Environment      map[string]string `yaml:"environment" json:"environment,omitempty"`
	// Description says what a pipeline file is for; in such files only.
	Description string `yaml:"description" json:"description,omitempty"`
	// Prefetch is the script that downloads what this needs, in the one sandbox that has a
	// network, before anything is built; in pipeline files only. See Step.Prefetch.
	Prefetch string `yaml:"prefetch" json:"prefetch,omitempty"`
	// Native names what tarn does itself in place of a script; in built-in pipelines only.
	Native string `yaml:"native" json:"native,omitempty"`
}

// Input is what a pipeline file can be given.
type Input struct {
	Here        yamlread.Place `yaml:",here" json:"-"`
	Description string         `yaml:"description" json:"description,omitempty"`
	Default     string         `yaml:"default" json:"default,omitempty"`
	Required    bool           `yaml:"required" json:"required,omitempty"`
	// As says how the value gets into shell text; in built-in pipelines only. See Quoting.
	As Quoting `yaml:"as" json:"as,omitempty"`
	// Hint says that the value decides nothing of what a native step gives, e.g. how
	// often it tries; in built-in pipelines only.
	Hint bool `yaml:"hint" json:"hint,omitempty"`
	// OnlyGiven leaves the input out of a native step where it is empty, so that plans that
	// were made before there was such an input keep their ID; in built-in pipelines only.
	OnlyGiven bool `yaml:"only-given" json:"only-given,omitempty"`
}

// Needs are packages that a task asks for.
type Needs struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	Packages []string       `yaml:"packages" json:"packages,omitempty"`
	// Native are packages that the language's meaning names and that what is done
	// natively does without; in built-in pipelines only.
	Native []string `yaml:"native" json:"native,omitempty"`
}

// Assertions hold for a group once its tasks were chosen.
type Assertions struct {
	RequiredSteps int64 `yaml:"required-steps" json:"required-steps,omitempty"` // direct children that run; 0 means any number
}

// Subpackage is a further package that is built with the main one.
type Subpackage struct {
	Here         yamlread.Place    `yaml:",here" json:"-"`
	If           string            `yaml:"if" json:"if,omitempty"`
	Range        string            `yaml:"range" json:"range,omitempty"` // name of a table: one copy for each item
	Name         string            `yaml:"name,required" json:"name"`
	Pipeline     []Task            `yaml:"pipeline" json:"pipeline,omitempty"`
	Dependencies Dependencies      `yaml:"dependencies" json:"dependencies"`
	Options      PackageOptions    `yaml:"options" json:"options"`
	Scriptlets   Scriptlets        `yaml:"scriptlets" json:"scriptlets"`
	Description  string            `yaml:"description" json:"description,omitempty"`
	Annotations  map[string]string `yaml:"annotations" json:"annotations,omitempty"`
	URL          string            `yaml:"url" json:"url,omitempty"`
	Commit       string            `yaml:"commit" json:"commit,omitempty"`
	Checks       Checks            `yaml:"checks" json:"checks"`
	Test         *TestSection      `yaml:"test" json:"test,omitempty"`
	Setcap       []FileCapability  `yaml:"setcap" json:"setcap,omitempty"`
	Owners       []FileOwner       `yaml:"owners" json:"owners,omitempty"`
}

// Table is what a range runs over.
type Table struct {
	Here  yamlread.Place    `yaml:",here" json:"-"`
	Name  string            `yaml:"name,required" json:"name"`
	Items map[string]string `yaml:"items" json:"items,omitempty"`
}

// TestSection shows that a package works.
type TestSection struct {
	Here        yamlread.Place `yaml:",here" json:"-"`
	Environment ImageConfig    `yaml:"environment" json:"environment"`
	Pipeline    []Task         `yaml:"pipeline" json:"pipeline,omitempty"`
}

// VarTransform makes a variable out of another by a regular expression.
type VarTransform struct {
	Here    yamlread.Place `yaml:",here" json:"-"`
	From    string         `yaml:"from,required" json:"from"`
	Match   string         `yaml:"match,required" json:"match"`
	Replace string         `yaml:"replace" json:"replace"` // may be empty: what matches goes away
	To      string         `yaml:"to,required" json:"to"`
}

// BuildOption is a flavour that a recipe can be built in.
type BuildOption struct {
	Here        yamlread.Place         `yaml:",here" json:"-"`
	Vars        map[string]string      `yaml:"vars" json:"vars,omitempty"`
	Environment BuildOptionEnvironment `yaml:"environment" json:"environment"`
}

// BuildOptionEnvironment is what a flavour changes in the environment.
type BuildOptionEnvironment struct {
	Contents struct {
		Packages struct {
			Here   yamlread.Place `yaml:",here" json:"-"`
			Add    []string       `yaml:"add" json:"add,omitempty"`
			Remove []string       `yaml:"remove" json:"remove,omitempty"`
		} `yaml:"packages" json:"packages"`
	} `yaml:"contents" json:"contents"`
}

// Update tells bots where new versions come from. It never affects a build.
type Update struct {
	Enabled              bool               `yaml:"enabled" json:"enabled,omitempty"`
	Manual               bool               `yaml:"manual" json:"manual,omitempty"`
	Shared               bool               `yaml:"shared" json:"shared,omitempty"`
	RequireSequential    bool               `yaml:"require-sequential" json:"require-sequential,omitempty"`
	VersionSeparator     string             `yaml:"version-separator" json:"version-separator,omitempty"`
	IgnoreRegexPatterns  []string           `yaml:"ignore-regex-patterns" json:"ignore-regex-patterns,omitempty"`
	VersionTransform     []VersionTransform `yaml:"version-transform" json:"version-transform,omitempty"`
	ExcludeReason        string             `yaml:"exclude-reason" json:"exclude-reason,omitempty"`
	Schedule             *Schedule          `yaml:"schedule" json:"schedule,omitempty"`
	EnablePrereleaseTags bool               `yaml:"enable-prerelease-tags" json:"enable-prerelease-tags,omitempty"`
	GitHub               *GitHubMonitor     `yaml:"github" json:"github,omitempty"`
	Git                  *GitMonitor        `yaml:"git" json:"git,omitempty"`
	ReleaseMonitor       *ReleaseMonitor    `yaml:"release-monitor" json:"release-monitor,omitempty"`
	OCI                  *OCIMonitor        `yaml:"oci" json:"oci,omitempty"`
	VersionData          *VersionData       `yaml:"version_data" json:"version_data,omitempty"`
}

// VersionTransform rewrites an upstream version by a regular expression.
type VersionTransform struct {
	Match   string `yaml:"match,required" json:"match"`
	Replace string `yaml:"replace" json:"replace"`
}

// Schedule spreads updates over time.
type Schedule struct {
	Here   yamlread.Place `yaml:",here" json:"-"`
	Period string         `yaml:"period" json:"period,omitempty"` // daily, weekly or monthly
	Reason string         `yaml:"reason" json:"reason,omitempty"`
}

// GitHubMonitor finds versions among a GitHub project's releases or tags.
type GitHubMonitor struct {
	Identifier        string `yaml:"identifier" json:"identifier"` // org/repo
	StripPrefix       string `yaml:"strip-prefix" json:"strip-prefix,omitempty"`
	StripSuffix       string `yaml:"strip-suffix" json:"strip-suffix,omitempty"`
	TagFilter         string `yaml:"tag-filter" json:"tag-filter,omitempty"` // the old name of tag-filter-prefix
	TagFilterPrefix   string `yaml:"tag-filter-prefix" json:"tag-filter-prefix,omitempty"`
	TagFilterContains string `yaml:"tag-filter-contains" json:"tag-filter-contains,omitempty"`
	UseTag            bool   `yaml:"use-tag" json:"use-tag,omitempty"`
}

// GitMonitor finds versions among the tags of the recipe's first repository.
type GitMonitor struct {
	StripPrefix       string `yaml:"strip-prefix" json:"strip-prefix,omitempty"`
	StripSuffix       string `yaml:"strip-suffix" json:"strip-suffix,omitempty"`
	TagFilterPrefix   string `yaml:"tag-filter-prefix" json:"tag-filter-prefix,omitempty"`
	TagFilterContains string `yaml:"tag-filter-contains" json:"tag-filter-contains,omitempty"`
}

// ReleaseMonitor finds versions in the release-monitoring.org database.
type ReleaseMonitor struct {
	Identifier            int64  `yaml:"identifier" json:"identifier"`
	StripPrefix           string `yaml:"strip-prefix" json:"strip-prefix,omitempty"`
	StripSuffix           string `yaml:"strip-suffix" json:"strip-suffix,omitempty"`
	VersionFilterPrefix   string `yaml:"version-filter-prefix" json:"version-filter-prefix,omitempty"`
	VersionFilterContains string `yaml:"version-filter-contains" json:"version-filter-contains,omitempty"`
}

// OCIMonitor finds versions among the tags of an image.
type OCIMonitor struct {
	Identifier        string `yaml:"identifier" json:"identifier"`
	StripPrefix       string `yaml:"strip-prefix" json:"strip-prefix,omitempty"`
	StripSuffix       string `yaml:"strip-suffix" json:"strip-suffix,omitempty"`
	TagFilterPrefix   string `yaml:"tag-filter-prefix" json:"tag-filter-prefix,omitempty"`
	TagFilterContains string `yaml:"tag-filter-contains" json:"tag-filter-contains,omitempty"`
}

// VersionData finds versions in a data set of versions.
type VersionData struct {
	VersionFormat string              `yaml:"version_format" json:"version_format,omitempty"`
	Sources       []VersionDataSource `yaml:"sources" json:"sources,omitempty"`
}

// VersionDataSource is one data set of VersionData.
type VersionDataSource struct {
	Name         string   `yaml:"name" json:"name"`
	Stream       string   `yaml:"stream" json:"stream,omitempty"`
	Ignore       []string `yaml:"ignore" json:"ignore,omitempty"`
	CommitSource string   `yaml:"commit_source" json:"commit_source,omitempty"`
	UseRelease   bool     `yaml:"use_release" json:"use_release,omitempty"`
}

// ImageConfig describes the sandbox of a build or a test in the language of image
// files. Of these, contents, accounts and environment take part in a build; the
// rest is read so that a file made for the composer works, and kept.
type ImageConfig struct {
	Here         yamlread.Place    `yaml:",here" json:"-"`
	Contents     Contents          `yaml:"contents" json:"contents"`
	Entrypoint   Entrypoint        `yaml:"entrypoint" json:"entrypoint"`
	Cmd          string            `yaml:"cmd" json:"cmd,omitempty"`
	StopSignal   string            `yaml:"stop-signal" json:"stop-signal,omitempty"`
	WorkDir      string            `yaml:"work-dir" json:"work-dir,omitempty"`
	Accounts     Accounts          `yaml:"accounts" json:"accounts"`
	Environment  map[string]string `yaml:"environment" json:"environment,omitempty"`
	Paths        []PathMutation    `yaml:"paths" json:"paths,omitempty"`
	Archs        []string          `yaml:"archs" json:"archs,omitempty"`
	VCSURL       string            `yaml:"vcs-url" json:"vcs-url,omitempty"`
	Annotations  map[string]string `yaml:"annotations" json:"annotations,omitempty"`
	Include      string            `yaml:"include" json:"include,omitempty"`
	Volumes      []string          `yaml:"volumes" json:"volumes,omitempty"`
	Layering     *Layering         `yaml:"layering" json:"layering,omitempty"`
	Format       string            `yaml:"format" json:"format,omitempty"`
	Certificates *Certificates     `yaml:"certificates" json:"certificates,omitempty"`
}

// Contents is what an environment is made of.
type Contents struct {
	Here                yamlread.Place `yaml:",here" json:"-"`
	Repositories        []string       `yaml:"repositories" json:"repositories,omitempty"`
	BuildRepositories   []string       `yaml:"build_repositories" json:"build_repositories,omitempty"`
	RuntimeRepositories []string       `yaml:"runtime_repositories" json:"runtime_repositories,omitempty"`
	Keyring             []string       `yaml:"keyring" json:"keyring,omitempty"`
	RuntimeKeyring      []RuntimeKey   `yaml:"runtime_keyring" json:"runtime_keyring,omitempty"`
	Packages            []string       `yaml:"packages" json:"packages,omitempty"`
	BaseImage           *BaseImage     `yaml:"baseimage" json:"baseimage,omitempty"`
}

// RuntimeKey is a public key that stands in the file itself.
type RuntimeKey struct {
	Name    string `yaml:"name" json:"name"`
	Content string `yaml:"content" json:"content"`
}

// BaseImage is an image that another one is put upon.
type BaseImage struct {
	Image    string `yaml:"image" json:"image"`
	APKIndex string `yaml:"apkindex" json:"apkindex"`
}

// Entrypoint is what an image starts.
type Entrypoint struct {
	Type          string            `yaml:"type" json:"type,omitempty"`
	Command       string            `yaml:"command" json:"command,omitempty"`
	ShellFragment string            `yaml:"shell-fragment" json:"shell-fragment,omitempty"`
	Services      map[string]string `yaml:"services" json:"services,omitempty"`
}

// Accounts are the users of an environment.
type Accounts struct {
	RunAs  string  `yaml:"run-as" json:"run-as,omitempty"`
	Users  []User  `yaml:"users" json:"users,omitempty"`
	Groups []Group `yaml:"groups" json:"groups,omitempty"`
}

// User is a line of passwd.
type User struct {
	UserName string  `yaml:"username,required" json:"username"`
	UID      uint32  `yaml:"uid" json:"uid"`
	GID      *uint32 `yaml:"gid" json:"gid,omitempty"` // the UID when nil
	Shell    string  `yaml:"shell" json:"shell,omitempty"`
	HomeDir  string  `yaml:"homedir" json:"homedir,omitempty"`
}

// Group is a line of group.
type Group struct {
	GroupName string   `yaml:"groupname,required" json:"groupname"`
	GID       uint32   `yaml:"gid" json:"gid"`
	Members   []string `yaml:"members" json:"members,omitempty"`
}

// PathMutation is a file or folder that an image adds or changes.
type PathMutation struct {
	Path        string  `yaml:"path" json:"path"`
	Type        string  `yaml:"type" json:"type"`
	UID         *uint32 `yaml:"uid" json:"uid,omitempty"`
	GID         *uint32 `yaml:"gid" json:"gid,omitempty"`
	Permissions *uint32 `yaml:"permissions" json:"permissions,omitempty"`
	Source      string  `yaml:"source" json:"source,omitempty"`
	Recursive   bool    `yaml:"recursive" json:"recursive,omitempty"`
}

// Layering says how an image is cut into layers.
type Layering struct {
	Strategy string `yaml:"strategy" json:"strategy,omitempty"`
	Budget   int64  `yaml:"budget" json:"budget,omitempty"`
}

// Certificates are authorities that an image trusts further.
type Certificates struct {
	Additional []struct {
		Name    string `yaml:"name" json:"name"`
		Content string `yaml:"content" json:"content"`
	} `yaml:"additional" json:"additional,omitempty"`
	Providers []string `yaml:"providers" json:"providers,omitempty"`
}
