package images

import (
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Spec is an image file, with what it includes merged in. The language is apko's;
// "distroless" is ours.
type Spec struct {
	Here         yamlread.Place    `yaml:",here" json:"-"`
	Contents     Contents          `yaml:"contents" json:"contents"`
	Entrypoint   Entrypoint        `yaml:"entrypoint" json:"entrypoint,omitzero"`
	Cmd          string            `yaml:"cmd" json:"cmd,omitempty"`                 // split like a shell splits words
	StopSignal   string            `yaml:"stop-signal" json:"stop-signal,omitempty"` // e.g. SIGQUIT
	WorkDir      string            `yaml:"work-dir" json:"work-dir,omitempty"`
	Accounts     Accounts          `yaml:"accounts" json:"accounts,omitzero"`
	Environment  map[string]string `yaml:"environment" json:"environment,omitempty"`
	Paths        []Path            `yaml:"paths" json:"paths,omitempty"` // in order
	Archs        []string          `yaml:"archs" json:"archs,omitempty"` // by Alpine's or by OCI's name; all when empty
	VCSURL       string            `yaml:"vcs-url" json:"vcs-url,omitempty"`
	Annotations  map[string]string `yaml:"annotations" json:"annotations,omitempty"`
	Include      string            `yaml:"include" json:"-"`
	Volumes      []string          `yaml:"volumes" json:"volumes,omitempty"`
	Layering     *Layering         `yaml:"layering" json:"layering,omitempty"`
	Format       string            `yaml:"format" json:"format,omitempty"` // "tar", the default
	Certificates Certificates      `yaml:"certificates" json:"certificates,omitzero"`
	// Distroless refuses an image that holds a shell, a package manager, or a file
	// that gives rights to who runs it.
	Distroless bool   `yaml:"distroless" json:"distroless,omitempty"`
	Tests      *Tests `yaml:"tests" json:"-"`

	// Path is the file, as it was given to Load; Files are all that were read, Path first.
	Path  string   `yaml:"-" json:"-"`
	Files []string `yaml:"-" json:"-"`
	// Checksum is "sha256-" and base64: the digest of the bytes of Files, one after the
	// other, as locks have it.
	Checksum string `yaml:"-" json:"-"`
	// World is Contents.Packages read, each with its place.
	World []solve.Requirement `yaml:"-" json:"-"`
}

// Contents says what packages an image is made of, and where from.
type Contents struct {
	Here                yamlread.Place `yaml:",here" json:"-"`
	Repositories        []string       `yaml:"repositories" json:"repositories,omitempty"`                 // asked, and written into the image
	BuildRepositories   []string       `yaml:"build_repositories" json:"build_repositories,omitempty"`     // asked only
	RuntimeRepositories []string       `yaml:"runtime_repositories" json:"runtime_repositories,omitempty"` // written into the image only
	Keyring             []string       `yaml:"keyring" json:"keyring,omitempty"`                           // files or addresses of public keys
	RuntimeKeyring      []RuntimeKey   `yaml:"runtime_keyring" json:"runtime_keyring,omitempty"`
	Packages            []string       `yaml:"packages" json:"packages"`
	BaseImage           *BaseImage     `yaml:"baseimage" json:"baseimage,omitempty"`
}

// RuntimeKey is a public key that is written into the image and vouches for nothing while it is composed.
type RuntimeKey struct {
	Here    yamlread.Place `yaml:",here" json:"-"`
	Name    string         `yaml:"name,required" json:"name"`
	Content string         `yaml:"content,required" json:"content"` // PEM
}

// BaseImage is an image that the packages are put on top of.
type BaseImage struct {
	Image    string `yaml:"image,required" json:"image"` // an OCI layout
	APKIndex string `yaml:"apkindex,required" json:"apkindex"`
}

// Entrypoint is what starts with a container.
type Entrypoint struct {
	Here          yamlread.Place    `yaml:",here" json:"-"`
	Type          string            `yaml:"type" json:"type,omitempty"`                     // "" or "service-bundle"
	Command       string            `yaml:"command" json:"command,omitempty"`               // split like a shell splits words
	ShellFragment string            `yaml:"shell-fragment" json:"shell-fragment,omitempty"` // given to /bin/sh -c
	Services      map[string]string `yaml:"services" json:"services,omitempty"`             // of a service-bundle: command by name
}

// Accounts are users and groups of the image.
type Accounts struct {
	Here   yamlread.Place `yaml:",here" json:"-"`
	RunAs  string         `yaml:"run-as" json:"run-as,omitempty"` // name or number
	Users  []User         `yaml:"users" json:"users,omitempty"`
	Groups []Group        `yaml:"groups" json:"groups,omitempty"`
}

// User is a user that the image file adds.
type User struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	UserName string         `yaml:"username,required" json:"username"`
	UID      *int64         `yaml:"uid" json:"uid"`
	GID      *int64         `yaml:"gid" json:"gid,omitempty"`         // UID when not given
	Shell    string         `yaml:"shell" json:"shell,omitempty"`     // /bin/sh when not given
	HomeDir  string         `yaml:"homedir" json:"homedir,omitempty"` // /home/NAME when not given
}

// Group is a group that the image file adds.
type Group struct {
	Here      yamlread.Place `yaml:",here" json:"-"`
	GroupName string         `yaml:"groupname,required" json:"groupname"`
	GID       *int64         `yaml:"gid" json:"gid"`
	Members   []string       `yaml:"members" json:"members,omitempty"`
}

// Path is something that the image file makes or changes.
type Path struct {
	Here        yamlread.Place `yaml:",here" json:"-"`
	Path        string         `yaml:"path,required" json:"path"`
	Type        string         `yaml:"type,required" json:"type"` // directory, empty-file, hardlink, symlink, permissions
	UID         *int64         `yaml:"uid" json:"uid,omitempty"`
	GID         *int64         `yaml:"gid" json:"gid,omitempty"`
	Permissions *uint32        `yaml:"permissions" json:"permissions,omitempty"`
	Source      string         `yaml:"source" json:"source,omitempty"` // of a link: what it leads to
	Recursive   bool           `yaml:"recursive" json:"recursive,omitempty"`
}

// Layering says how files are put into layers.
type Layering struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	Strategy string         `yaml:"strategy" json:"strategy,omitempty"` // "origin", "single", or ours, "package"
	Budget   int            `yaml:"budget" json:"budget,omitempty"`     // the most layers of packages
	// Compression of the layers is ours: "gzip", the default, "zstd" or "none".
	Compression string `yaml:"compression" json:"compression,omitempty"`
}

// Certificates are certificate authorities that the image trusts besides those of its packages.
type Certificates struct {
	Here       yamlread.Place `yaml:",here" json:"-"`
	Additional []Certificate  `yaml:"additional" json:"additional,omitempty"`
	Providers  []string       `yaml:"providers" json:"providers,omitempty"` // names that packages with certificates provide
}

// Certificate is one certificate authority.
type Certificate struct {
	Here    yamlread.Place `yaml:",here" json:"-"`
	Name    string         `yaml:"name,required" json:"name"`
	Content string         `yaml:"content,required" json:"content"` // one certificate in PEM
}
