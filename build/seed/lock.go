package seed

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/debian"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"gopkg.in/yaml.v3"
)

// defaultLock is the lock that tarn brings along.
//
//go:embed seed.lock.yaml
var defaultLock []byte

// DefaultLock names the lock that tarn brings along, in messages.
const DefaultLock = "build/seed/seed.lock.yaml"

// Lock says exactly what the seed is made of.
type Lock struct {
	Suite     string    `yaml:"suite"`     // of Debian's archive, e.g. bookworm
	Component string    `yaml:"component"` // e.g. main
	Arch      string    `yaml:"arch"`      // by Debian's name, e.g. amd64
	Packages  []Package `yaml:"packages"`  // sorted by name
	// Size is the bytes of all files of the seed, installed, and Programs what stands in its
	// usr/bin: what the package offers is known before it is made.
	Size     int64    `yaml:"size"`
	Programs []string `yaml:"programs,flow"`
}

// Package is one binary package of Debian.
type Package struct {
	Name    string `yaml:"name"`
	Version string `yaml:"version"` // with the epoch
	Path    string `yaml:"path"`    // below the archive's root
	Size    int64  `yaml:"size"`    // of the .deb, in bytes
	SHA256  string `yaml:"sha256"`
}

func (p Package) file() debian.File {
	return debian.File{Path: p.Path, Size: p.Size, SHA256: p.SHA256}
}

// readLock reads a lock; tarn's own without a path. Mistakes are problems of the file.
func readLock(k *kind, path string) (*Lock, error) {
	data := k.lock
	if path == "" {
		path = k.file
	} else {
		var err error
		if data, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("read the seed's lock: %w", err)
		}
	}
	return parseLock(k, path, data)
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// programName is what may stand in usr/bin, and in the name of a provide.
var programName = regexp.MustCompile(`^[A-Za-z0-9_\[][A-Za-z0-9_.+-]*$`)

func parseLock(k *kind, path string, data []byte) (*Lock, error) {
	var l Lock
	if _, err := yamlread.Decode(path, data, &l); err != nil {
		return nil, err
	}
	var problems diag.Problems
	wrong := func(format string, args ...any) {
		problems = append(problems, diag.Problem{File: path, Text: fmt.Sprintf(format, args...)})
	}
	if l.Suite == "" || l.Component == "" || l.Arch == "" {
		wrong("suite, component and arch must be there")
	} else if !debian.ValidPath(l.Suite) || !debian.ValidPath(l.Component) || !debian.ValidPath(l.Arch) {
		wrong("suite, component or arch is no name")
	}
	if arches[l.Arch].alpine == "" {
		wrong("there is no seed for architecture %q", l.Arch)
	}
	seen := map[string]bool{}
	for _, p := range l.Packages {
		switch {
		case p.Name == "" || p.Version == "":
			wrong("a package without name or version")
		case seen[p.Name]:
			wrong("package %q stands there twice", p.Name)
		case !hexDigest.MatchString(p.SHA256):
			wrong("package %q: %q is no SHA-256", p.Name, p.SHA256)
		case !debian.ValidPath(p.Path):
			wrong("package %q: %q is no path below the archive", p.Name, p.Path)
		case p.Size <= 0:
			wrong("package %q: no size", p.Name)
		}
		seen[p.Name] = true
	}
	if !seen[k.bears] {
		wrong("package %q, whose version the seed bears, is not there", k.bears)
	}
	for _, name := range l.Programs {
		if !programName.MatchString(name) {
			wrong("%q is no program", name)
		}
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(l.Packages, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(l.Programs)
	return &l, nil
}

// lockHead begins every lock that is written.
const lockHead = `# What the seed is made of: binary packages of Debian, exact by SHA-256. The suite is
# the oldest one, which does not move any more, and its archive is the main one:
# security updates replace each other and would be gone one day.
#
# Written by: tarn seed --update
`

func (l *Lock) encode() ([]byte, error) { return encodeYAML(lockHead, l) }

func encodeYAML(head string, value any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(head)
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(value), e.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
