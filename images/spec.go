package images

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Spec is an image file, with what it includes merged in. The language is apko's; ours
// are "distroless", "files", "policy", "scripts", "size-limit" and "tests".
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
	Distroless bool `yaml:"distroless" json:"distroless,omitempty"`
	// OwnFiles are files that no package brings. A package that the composer makes owns them.
	OwnFiles []OwnFile `yaml:"files" json:"files,omitempty"`
	// SizeLimit is the most that all files together may have, 0 for no limit.
	SizeLimit Size    `yaml:"size-limit" json:"size-limit,omitempty"`
	Policy    Policy  `yaml:"policy" json:"policy,omitzero"`
	Scripts   Scripts `yaml:"scripts" json:"scripts,omitzero"`
	Tests     *Tests  `yaml:"tests" json:"-"`

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

	places []yamlread.Place // of Providers, where several files were merged
}

// Certificate is one certificate authority.
type Certificate struct {
	Here    yamlread.Place `yaml:",here" json:"-"`
	Name    string         `yaml:"name,required" json:"name"`
	Content string         `yaml:"content,required" json:"content"` // one certificate in PEM
}

// OwnFile is a file that the image file itself brings, or a folder of files.
type OwnFile struct {
	Here        yamlread.Place `yaml:",here" json:"-"`
	Path        string         `yaml:"path,required" json:"path"`
	Content     *string        `yaml:"content" json:"-"`
	Source      string         `yaml:"source" json:"-"` // a file or folder beside the image file, or from the workspace's folder
	UID         *int64         `yaml:"uid" json:"uid,omitempty"`
	GID         *int64         `yaml:"gid" json:"gid,omitempty"`
	Permissions *uint32        `yaml:"permissions" json:"permissions,omitempty"`

	// Members are the files and folders that it stands for, those of a folder sorted
	// by path. Load reads them.
	Members []OwnMember `yaml:"-" json:"members,omitempty"`
}

// OwnMember is one path of an OwnFile.
type OwnMember struct {
	Path   string      `yaml:"-" json:"path"` // below the root, clean, without a leading slash
	Mode   fs.FileMode `yaml:"-" json:"mode"`
	Target string      `yaml:"-" json:"target,omitempty"` // of a symbolic link
	Sum    string      `yaml:"-" json:"sum,omitempty"`    // SHA-256 of a file's content
	Data   []byte      `yaml:"-" json:"-"`
}

// Policy refuses images. Its zero value refuses nothing.
type Policy struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	Packages Choice         `yaml:"packages" json:"packages,omitzero"` // by name, with * and with a version
	Licenses Choice         `yaml:"licenses" json:"licenses,omitzero"` // by SPDX identifier, with *
	Origin   Choice         `yaml:"origin" json:"origin,omitzero"`     // by the recipe that a package is built from, or by repository
	Setuid   string         `yaml:"setuid" json:"setuid,omitempty"`    // "allow" or "deny"
	Shells   string         `yaml:"shells" json:"shells,omitempty"`
	Unsigned string         `yaml:"unsigned" json:"unsigned,omitempty"`
}

// Choice is what may be there, and what may not.
type Choice struct {
	Here  yamlread.Place `yaml:",here" json:"-"`
	Allow []string       `yaml:"allow" json:"allow,omitempty"` // nothing else; empty for anything
	Deny  []string       `yaml:"deny" json:"deny,omitempty"`
}

// Scripts says what becomes of the scripts of packages, which are never run.
type Scripts struct {
	Here   yamlread.Place `yaml:",here" json:"-"`
	Waived []Waiver       `yaml:"waived" json:"waived,omitempty"`
}

// Waiver says that an image does without what a script would do.
type Waiver struct {
	Here    yamlread.Place `yaml:",here" json:"-"`
	Package string         `yaml:"package,required" json:"package"`
	Script  string         `yaml:"script" json:"script,omitempty"` // pre-install, post-install or trigger; all of the package's when empty
	Reason  string         `yaml:"reason,required" json:"reason"`
}

// Size is a number of bytes.
type Size int64

// sizeUnits are the units that a Size may be written in, in bytes.
var sizeUnits = map[string]float64{
	"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
}

var sizeForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$`)

// UnmarshalText reads e.g. 20 MB (20,000,000 bytes), 20 MiB (20,971,520) or 1048576.
func (s *Size) UnmarshalText(text []byte) error {
	parts := sizeForm.FindStringSubmatch(string(text))
	if parts == nil {
		return errors.New("a size is written like 20 MB, 20 MiB or 1048576")
	}
	unit, known := sizeUnits[strings.ToLower(parts[2])]
	number, err := strconv.ParseFloat(parts[1], 64)
	if !known || err != nil || number*unit > 1<<60 {
		return errors.New("a size is written like 20 MB, 20 MiB or 1048576")
	}
	*s = Size(number * unit)
	return nil
}

func (s Size) String() string { return byteCount(int64(s)) }

// byteCount is a number of bytes as people read it.
func byteCount(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 3 {
		value, prefix = value/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %cB", value, "kMGT"[prefix])
}
