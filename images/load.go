package images

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kballard/go-shellquote"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/solve"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// imageName is what can be the name of a repository in a registry, and of a folder.
var imageName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// maxIncludes is how deep files may include each other.
const maxIncludes = 16

// Load reads an image file and what it includes. Every mistake of all of them is
// in the error, a diag.Problems, with its place. An include is looked for beside
// the file that names it, then from the root of fsys.
func Load(fsys fs.FS, file string) (*Spec, error) {
	return LoadAs(fsys, file, func(file string) string { return file })
}

// LoadAs is Load where messages, and all places, call a file of fsys by what name gives.
func LoadAs(fsys fs.FS, file string, name func(file string) string) (*Spec, error) {
	l := &loader{fsys: fsys, name: name, sum: sha256.New()}
	s := l.load(path.Clean(file), nil)
	if s != nil {
		s.Path, s.Files, s.Checksum = file, l.files, sumText("sha256-", l.sum.Sum(nil))
		if !imageName.MatchString(s.Name()) {
			l.problems = append(l.problems, diag.Problem{
				File: l.name(file), Text: fmt.Sprintf("%q cannot be the name of an image, which is its file's", s.Name()),
				Hint: "lower-case letters, digits and . _ - are allowed, the first a letter or digit",
			})
		}
		s.supervisor()
		l.check(s)
	}
	if err := l.problems.Err(); err != nil {
		l.problems.Sort()
		return nil, l.problems
	}
	return s, nil
}

// LoadAll reads every image file (*.yaml) of a folder, and gives the problems of all of them.
func LoadAll(fsys fs.FS, dir string) ([]*Spec, error) {
	files, err := fs.Glob(fsys, path.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var specs []*Spec
	var problems diag.Problems
	for _, file := range files {
		s, err := Load(fsys, file)
		if found, ok := diag.Of(err); ok {
			problems = append(problems, found...)
		} else if err != nil {
			return nil, err
		} else {
			specs = append(specs, s)
		}
	}
	return specs, problems.Err()
}

// Name is the image's name: the file's, without its ending.
func (s *Spec) Name() string { return strings.TrimSuffix(path.Base(s.Path), path.Ext(s.Path)) }

type loader struct {
	fsys     fs.FS
	name     func(string) string
	files    []string
	parts    []*Spec   // what each file says itself
	sum      hash.Hash // of all files, in the order of files
	problems diag.Problems
}

func (l *loader) add(p yamlread.Place, hint, format string, args ...any) {
	l.problems = append(l.problems, p.Problem(hint, format, args...))
}

// load reads one file and what it includes; chain are the files that led to it.
func (l *loader) load(file string, chain []string) *Spec {
	data, err := fs.ReadFile(l.fsys, file)
	if err != nil {
		text := err.Error()
		if perr, ok := errors.AsType[*fs.PathError](err); ok {
			text = perr.Err.Error()
		}
		l.problems = append(l.problems, diag.Problem{File: l.name(file), Text: "read image file: " + text})
		return nil
	}
	if !slices.Contains(l.files, file) {
		l.files = append(l.files, file)
		l.sum.Write(data)
	}
	var s Spec
	root, err := yamlread.Decode(l.name(file), data, &s)
	if problems, ok := diag.Of(err); ok {
		l.problems = append(l.problems, problems...)
		return nil
	}
	part := s
	l.parts = append(l.parts, &part)
	l.world(&s)
	l.ownFiles(&s, file)
	l.checkPolicy(&s)
	if !root.Has("include") {
		return &s
	}
	place := root.Value("include")
	base := l.include(s.Include, file, place, append(chain, file))
	if base == nil {
		return &s
	}
	return merge(base, &s)
}

// include reads the file that a file includes.
func (l *loader) include(name, from string, place yamlread.Place, chain []string) *Spec {
	var target string
	for _, candidate := range []string{path.Join(path.Dir(from), name), path.Clean(name)} {
		if !fs.ValidPath(candidate) {
			continue
		}
		if _, err := fs.Stat(l.fsys, candidate); err == nil {
			target = candidate
			break
		}
	}
	switch {
	case name == "":
		l.add(place, "", "include names no file")
	case target == "":
		l.add(place, "an include is a file beside this one, or a path from the workspace's folder", "included file %q is not there", name)
	case slices.Contains(chain, target):
		l.add(place, "", "files include each other: %s", strings.Join(append(chain, target), " includes "))
	case len(chain) > maxIncludes:
		l.add(place, "", "more than %d files include each other", maxIncludes)
	default:
		return l.load(target, chain)
	}
	return nil
}

// world reads the packages that a file asks for.
func (l *loader) world(s *Spec) {
	list := s.Contents.Here.Value("packages")
	for i, text := range s.Contents.Packages {
		place := list.Item(i)
		constraint, tag, tagged := strings.Cut(text, "@")
		d, err := apk.ParseDependency(constraint)
		switch {
		case err != nil:
			l.add(place, "", "package: %v", err)
			continue
		case tagged && tag == "":
			l.add(place, "", "package %q has an empty tag", text)
			continue
		}
		s.World = append(s.World, solve.Requirement{Dependency: d, Tag: tag, From: place.String()})
	}
}

// supervisor adds the package that runs services.
func (s *Spec) supervisor() {
	if s.Entrypoint.Type != "service-bundle" {
		return
	}
	place := s.Entrypoint.Here // of an included file
	if s.Here.Has("entrypoint") {
		place = s.Here.Key("entrypoint")
	}
	s.World = append(s.World, solve.Requirement{Dependency: apk.Dependency{Name: "s6"}, From: place.String()})
}

// merge puts a file on top of the one that it includes: single values and entries
// of mappings are the file's own where it has them, lists are put one after the
// other. vcs-url is no value to inherit: it says where this very file stands.
func merge(base, top *Spec) *Spec {
	m := *base
	m.Here, m.VCSURL, m.Include = top.Here, top.VCSURL, top.Include
	c, b, t := &m.Contents, base.Contents, top.Contents
	if t.BaseImage != nil || b.BaseImage == nil {
		c.Here = t.Here
	}
	c.Repositories = slices.Concat(b.Repositories, t.Repositories)
	c.BuildRepositories = slices.Concat(b.BuildRepositories, t.BuildRepositories)
	c.RuntimeRepositories = slices.Concat(b.RuntimeRepositories, t.RuntimeRepositories)
	c.Keyring = slices.Concat(b.Keyring, t.Keyring)
	c.RuntimeKeyring = slices.Concat(b.RuntimeKeyring, t.RuntimeKeyring)
	c.Packages = slices.Concat(b.Packages, t.Packages)
	m.World = slices.Concat(base.World, top.World)
	if t.BaseImage != nil {
		c.BaseImage = t.BaseImage
	}
	text := func(into *string, own string) {
		if own != "" {
			*into = own
		}
	}
	text(&m.Cmd, top.Cmd)
	text(&m.StopSignal, top.StopSignal)
	text(&m.WorkDir, top.WorkDir)
	text(&m.Format, top.Format)
	if top.Entrypoint.Type != "" || top.Entrypoint.Command != "" || top.Entrypoint.ShellFragment != "" {
		m.Entrypoint = top.Entrypoint
	}
	if top.Entrypoint.Command == "" && top.Entrypoint.ShellFragment == "" {
		m.Entrypoint.Services = mergeMaps(base.Entrypoint.Services, top.Entrypoint.Services)
	}
	if top.Accounts.RunAs != "" {
		m.Accounts.Here = top.Accounts.Here
	}
	text(&m.Accounts.RunAs, top.Accounts.RunAs)
	m.Accounts.Users = slices.Concat(base.Accounts.Users, top.Accounts.Users)
	m.Accounts.Groups = slices.Concat(base.Accounts.Groups, top.Accounts.Groups)
	m.Environment = mergeMaps(base.Environment, top.Environment)
	m.Annotations = mergeMaps(base.Annotations, top.Annotations)
	m.Paths = slices.Concat(base.Paths, top.Paths)
	m.Archs = slices.Concat(base.Archs, top.Archs)
	m.Volumes = slices.Concat(base.Volumes, top.Volumes)
	if top.Layering != nil {
		m.Layering = top.Layering
	}
	if len(base.Certificates.Additional)+len(base.Certificates.Providers) == 0 {
		m.Certificates.Here = top.Certificates.Here
	}
	m.Certificates.places = slices.Concat(base.Certificates.providerPlaces(), top.Certificates.providerPlaces())
	m.Certificates.Additional = slices.Concat(base.Certificates.Additional, top.Certificates.Additional)
	m.Certificates.Providers = slices.Concat(base.Certificates.Providers, top.Certificates.Providers)
	m.Tests = mergeTests(base.Tests, top.Tests)
	if top.Here.Has("distroless") {
		m.Distroless = top.Distroless
	}
	m.OwnFiles = mergeOwnFiles(base.OwnFiles, top.OwnFiles)
	if top.Here.Has("size-limit") {
		m.SizeLimit = top.SizeLimit
	}
	m.Policy = mergePolicies(base.Policy, top.Policy)
	m.Scripts.Here = top.Scripts.Here
	m.Scripts.Waived = slices.Concat(base.Scripts.Waived, top.Scripts.Waived)
	return &m
}

func mergeMaps(base, top map[string]string) map[string]string {
	if len(base) == 0 {
		return top
	}
	m := maps.Clone(base)
	maps.Copy(m, top)
	return m
}

var (
	keyName     = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9_.-]*$`)
	envName     = regexp.MustCompile(`^[^=\x00\n]+$`)
	serviceName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.@-]*$`)
	// realTimeSignal are signals without names of their own, as an image's configuration has them.
	realTimeSignal = regexp.MustCompile(`^(SIG)?RTM(IN|AX)([+-][0-9]{1,2})?$`)
	pathTypes      = []string{"directory", "empty-file", "hardlink", "symlink", "permissions"}
)

// check finds what is well formed and yet wrong.
func (l *loader) check(s *Spec) {
	l.checkContents(s)
	l.checkCommands(s)
	l.checkAccounts(s)
	for i := range s.Paths {
		l.checkPath(&s.Paths[i])
	}
	for _, part := range l.parts {
		l.checkPart(part)
	}
	if g := s.Layering; g != nil {
		switch g.Strategy {
		case "", "single", "origin", "package":
		default:
			l.add(g.Here.Value("strategy"), diag.DidYouMean(g.Strategy, []string{"single", "origin", "package"}), "unknown layering strategy %q", g.Strategy)
		}
		if _, err := ParseCompression(g.Compression); err != nil {
			l.add(g.Here.Value("compression"), "", "layering: %v", err)
		}
		if g.Budget < 0 || g.Budget > maxBudget {
			l.add(g.Here.Value("budget"), "", "layering budget %d is not between 0 and %d", g.Budget, maxBudget)
		}
	}
	l.checkCertificates(s)
	l.checkWaivers(s)
	l.checkTests(s)
}

// checkPart checks what has no place of its own once a file is merged with others.
func (l *loader) checkPart(s *Spec) {
	archs := s.Here.Value("archs")
	for i, arch := range s.Archs {
		if _, err := apk.ParseArch(arch); err != nil && arch != "all" {
			l.add(archs.Item(i), "architectures are named like x86_64 or amd64, aarch64 or arm64", "%v", err)
		}
	}
	for name, value := range s.Environment {
		if !envName.MatchString(name) || strings.ContainsRune(value, 0) {
			l.add(s.Here.Value("environment").Key(name), "", "%q cannot be a variable of the environment", name)
		}
	}
	volumes := s.Here.Value("volumes")
	for i, v := range s.Volumes {
		if !path.IsAbs(v) {
			l.add(volumes.Item(i), "", "volume %q is not an absolute path", v)
		}
	}
	if s.WorkDir != "" && !path.IsAbs(s.WorkDir) {
		l.add(s.Here.Value("work-dir"), "", "work-dir %q is not an absolute path", s.WorkDir)
	}
	if s.StopSignal != "" && StopSignal(s.StopSignal) == 0 && !realTimeSignal.MatchString(s.StopSignal) {
		l.add(s.Here.Value("stop-signal"), "a signal is named like SIGTERM, TERM or 15", "stop-signal %q is no signal", s.StopSignal)
	}
	switch s.Format {
	case "", "tar":
	case "erofs":
		l.add(s.Here.Value("format"), "layers are tar archives: leave \"format\" out", "format \"erofs\" is not supported")
	default:
		l.add(s.Here.Value("format"), "", "unknown format %q", s.Format)
	}
	if _, err := shellquote.Split(s.Cmd); err != nil {
		l.add(s.Here.Value("cmd"), "", "split cmd into words: %v", err)
	}
	for name := range s.Entrypoint.Services {
		if !serviceName.MatchString(name) {
			l.add(s.Entrypoint.Here.Value("services").Key(name), "", "%q cannot be the name of a service", name)
		}
	}
}

func (l *loader) checkContents(s *Spec) {
	seen := map[string]bool{}
	for i := range s.Contents.RuntimeKeyring {
		k := &s.Contents.RuntimeKeyring[i]
		if !keyName.MatchString(k.Name) {
			l.add(k.Here.Value("name"), "", "%q cannot be the name of a key", k.Name)
		}
		if seen[k.Name] {
			l.add(k.Here.Value("name"), "", "key %q is given twice", k.Name)
		}
		seen[k.Name] = true
		block, rest := pem.Decode([]byte(k.Content))
		if block == nil || strings.TrimSpace(string(rest)) != "" {
			l.add(k.Here.Value("content"), "", "key %q is not one public key in PEM", k.Name)
		} else if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			l.add(k.Here.Value("content"), "", "key %q is not a public key: %v", k.Name, err)
		}
	}
	if b := s.Contents.BaseImage; b != nil {
		for _, key := range []string{"entrypoint", "cmd", "accounts", "environment", "paths", "volumes", "layering", "certificates", "stop-signal", "work-dir"} {
			for _, part := range l.parts {
				if part.Here.Has(key) {
					l.add(part.Here.Key(key), "an image on a base image keeps what the base says", "%q cannot stand beside \"baseimage\"", key)
				}
			}
		}
	}
}

func (l *loader) checkCommands(s *Spec) {
	e := s.Entrypoint
	if _, err := shellquote.Split(e.Command); err != nil {
		l.add(e.Here.Value("command"), "", "split command into words: %v", err)
	}
	switch e.Type {
	case "":
		if len(e.Services) > 0 {
			l.add(e.Here.Key("services"), "write type: service-bundle", "services need an entrypoint of type \"service-bundle\"")
		}
	case "service-bundle":
		if e.Command != "" || e.ShellFragment != "" {
			l.add(e.Here, "", "an entrypoint of type \"service-bundle\" has neither command nor shell-fragment")
		}
	default:
		l.add(e.Here.Value("type"), diag.DidYouMean(e.Type, []string{"service-bundle"}), "unknown type of entrypoint %q", e.Type)
	}
	if e.Command != "" && e.ShellFragment != "" {
		l.add(e.Here.Key("shell-fragment"), "", "an entrypoint has a command or a shell-fragment, not both")
	}
}

func (l *loader) checkAccounts(s *Spec) {
	for i := range s.Accounts.Groups {
		g := &s.Accounts.Groups[i]
		if g.GID == nil {
			l.add(g.Here, "", "group %q has no gid", g.GroupName)
			continue
		}
		if err := rootfs.CheckAccount(g.GroupName, *g.GID); err != nil {
			l.add(g.Here, "", "%v", err)
		}
		for _, m := range g.Members {
			if err := rootfs.CheckAccount(m, 0); err != nil {
				l.add(g.Here.Value("members"), "", "%v", err)
			}
		}
	}
	for i := range s.Accounts.Users {
		u := &s.Accounts.Users[i]
		switch {
		case u.UID == nil:
			l.add(u.Here, "", "user %q has no uid", u.UserName)
			continue
		case *u.UID == 0:
			l.add(u.Here.Value("uid"), "root comes with a package, e.g. the base layout", "user %q has uid 0", u.UserName)
		}
		if err := rootfs.CheckAccount(u.UserName, *u.UID); err != nil {
			l.add(u.Here, "", "%v", err)
		}
		if u.GID != nil {
			if err := rootfs.CheckAccount(u.UserName, *u.GID); err != nil {
				l.add(u.Here.Value("gid"), "", "%v", err)
			}
		}
		for _, key := range []struct{ name, value string }{{"homedir", u.HomeDir}, {"shell", u.Shell}} {
			if strings.ContainsAny(key.value, ":\n\x00") || key.value != "" && !path.IsAbs(key.value) {
				l.add(u.Here.Value(key.name), "", "%s %q of user %q is not an absolute path without colons", key.name, key.value, u.UserName)
			}
		}
	}
}

func (l *loader) checkPath(p *Path) {
	if !slices.Contains(pathTypes, p.Type) {
		l.add(p.Here.Value("type"), diag.DidYouMean(p.Type, pathTypes), "unknown type of path %q", p.Type)
		return
	}
	clean := path.Clean("/" + p.Path)
	if clean == "/" && p.Type != "permissions" || strings.ContainsRune(p.Path, 0) {
		l.add(p.Here.Value("path"), "", "%q cannot be made", p.Path)
	}
	link := p.Type == "symlink" || p.Type == "hardlink"
	if link && p.Source == "" {
		l.add(p.Here, "", "%s %q has no source", p.Type, p.Path)
	}
	if !link && p.Source != "" {
		l.add(p.Here.Key("source"), "", "a path of type %q has no source", p.Type)
	}
	if p.Permissions != nil && *p.Permissions > 0o7777 {
		l.add(p.Here.Value("permissions"), "write it in octal, e.g. 0o755", "permissions %d of %q are more than 0o7777", *p.Permissions, p.Path)
	}
	if p.Type == "permissions" && p.Permissions == nil && p.UID == nil && p.GID == nil {
		l.add(p.Here, "", "a path of type \"permissions\" changes nothing without permissions, uid or gid")
	}
	l.checkOwner(p.Here, p.Path, p.UID, p.GID)
}

// checkOwner checks the numbers of who is to own a path.
func (l *loader) checkOwner(here yamlread.Place, path string, uid, gid *int64) {
	for _, id := range []struct {
		name  string
		value *int64
	}{{"uid", uid}, {"gid", gid}} {
		if id.value == nil {
			continue
		}
		if err := rootfs.CheckAccount("path", *id.value); err != nil {
			l.add(here.Value(id.name), "", "%s %d of %q cannot be the number of an account", id.name, *id.value, path)
		}
	}
}

// providerPlaces are where each of the providers stands.
func (c *Certificates) providerPlaces() []yamlread.Place {
	if c.places != nil {
		return c.places
	}
	var all []yamlread.Place
	for i := range c.Providers {
		all = append(all, c.Here.Value("providers").Item(i))
	}
	return all
}

func (l *loader) checkCertificates(s *Spec) {
	for i := range s.Certificates.Additional {
		c := &s.Certificates.Additional[i]
		if !keyName.MatchString(c.Name) {
			l.add(c.Here.Value("name"), "", "%q cannot be the name of a certificate", c.Name)
		}
		block, rest := pem.Decode([]byte(c.Content))
		switch {
		case block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "":
			l.add(c.Here.Value("content"), "", "certificate %q is not one certificate in PEM", c.Name)
		default:
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				l.add(c.Here.Value("content"), "", "certificate %q: %v", c.Name, err)
			}
		}
	}
}
