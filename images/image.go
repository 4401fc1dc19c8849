package images

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/kballard/go-shellquote"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/store"
)

// defaultPath is the PATH of an image that names none, as apko has it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin"

const bundlePath = "/etc/ssl/certs/ca-certificates.crt"

// Image is a composed image. Its layers lie in the store.
type Image struct {
	About About
	// Config and Manifest are the bytes of the image's configuration and manifest.
	Config, Manifest []byte
	// SBOM is the SPDX document of the image, CycloneDX the one that says the same.
	SBOM, CycloneDX []byte

	st      *store.Store
	listing store.Digest
	roots   roots

	spec *Spec     // what it was composed by
	from []Package // and of
}

// of notes what an image was composed by and of; nil stays nil.
func (i *Image) of(s *Spec, packages []Package) *Image {
	if i != nil {
		i.spec, i.from = s, packages
	}
	return i
}

// About is what tarn image show tells.
type About struct {
	Name     string             `json:"name"`
	Arch     apk.Arch           `json:"arch"`
	Digest   string             `json:"digest"` // of the manifest
	Packages []InstalledPackage `json:"packages"`
	Files    int                `json:"files"` // paths that are no folders
	Size     int64              `json:"size"`  // of all files, in bytes
	Users    []rootfs.User      `json:"users"`
	Groups   []rootfs.Group     `json:"groups"`
	Config   v1.Config          `json:"config"`
	Layers   []Layer            `json:"layers"`
	Scripts  []ScriptOutcome    `json:"scripts,omitempty"` // of packages: none is run
	Warnings []Warning          `json:"warnings,omitempty"`
}

// InstalledPackage is one package of an image.
type InstalledPackage struct {
	Name    string      `json:"name"`
	Version apk.Version `json:"version"`
	Origin  string      `json:"origin,omitempty"`
	Size    int64       `json:"size"` // of its files, in bytes
	Files   int         `json:"files"`
	Scripts []string    `json:"scripts,omitempty"` // in the package, and not run
}

// problems gives the errors as one list of problems, or nil.
func problems(errs ...error) error {
	var all diag.Problems
	for _, err := range errs {
		if found, ok := diag.Of(err); ok {
			all = append(all, found...)
		} else if err != nil {
			all = append(all, diag.Problem{Text: err.Error()})
		}
	}
	return all.Err()
}

// describe makes what stands around the layers: configuration, manifest and SBOM.
func (c *composer) describe(layers []Layer) (*Image, error) {
	config, err := c.config(layers)
	if err != nil {
		return nil, err
	}
	image := &Image{st: c.o.Store, Config: config}
	if image.Manifest, err = c.manifest(config, layers); err != nil {
		return nil, err
	}
	digest := store.DigestOf(image.Manifest)
	var list bytes.Buffer
	if err := c.tree.List(&list); err != nil {
		return nil, err
	}
	if image.listing, _, err = c.o.Store.Put(&list); err != nil {
		return nil, err
	}
	var file v1.ConfigFile
	if err := json.Unmarshal(config, &file); err != nil {
		return nil, err
	}
	a := &image.About
	a.Name, a.Arch, a.Digest, a.Layers, a.Warnings = c.spec.Name(), c.o.Arch, string(digest), layers, c.warnings
	a.Scripts = c.scripts
	a.Config, a.Users, a.Groups = file.Config, c.tree.Users(), c.tree.Groups()
	files := map[string]int{}
	for n := range c.tree.All() {
		if !n.Mode.IsDir() {
			a.Files++
			files[n.Owner]++
		}
	}
	a.Size = c.tree.Archive(rootfs.ArchiveOptions{}).Size()
	for _, p := range slices.Concat(c.o.Base.named(), c.packages) {
		a.Packages = append(a.Packages, InstalledPackage{Name: p.Info.Name, Version: p.Info.Version, Origin: p.Info.Origin, Size: p.size(), Files: files[p.Info.Name], Scripts: p.scriptNames()})
	}
	image.SBOM, image.CycloneDX, err = c.sbom(string(digest), layers)
	return image, err
}

// config is the image's configuration (OCI image specification, config.md).
func (c *composer) config(layers []Layer) ([]byte, error) {
	s := c.spec
	file := v1.ConfigFile{
		Architecture: c.o.Arch.GoArch(), Variant: c.o.Arch.Variant(), OS: "linux", Author: "tarn",
		Created: v1.Time{Time: c.o.Epoch.UTC()},
		Config: v1.Config{
			User: c.user, WorkingDir: s.WorkDir, StopSignal: s.StopSignal, Env: c.environment(), Labels: c.annotations(),
		},
		RootFS: v1.RootFS{Type: "layers"},
	}
	var err error
	if file.Config.Cmd, err = shellquote.Split(s.Cmd); err != nil {
		return nil, fmt.Errorf("split cmd into words: %w", err)
	}
	switch e := s.Entrypoint; {
	case e.Type == "service-bundle":
		file.Config.Entrypoint = []string{"/bin/s6-svscan", "/sv"}
	case e.ShellFragment != "":
		file.Config.Entrypoint = []string{"/bin/sh", "-c", e.ShellFragment}
	default:
		if file.Config.Entrypoint, err = shellquote.Split(e.Command); err != nil {
			return nil, fmt.Errorf("split entrypoint into words: %w", err)
		}
	}
	for _, v := range s.Volumes {
		if file.Config.Volumes == nil {
			file.Config.Volumes = map[string]struct{}{}
		}
		file.Config.Volumes[v] = struct{}{}
	}
	if b := c.o.Base; b != nil {
		b.configure(&file)
		layers = layers[len(b.Layers):]
	}
	for _, l := range layers {
		diff, err := v1.NewHash(l.DiffID)
		if err != nil {
			return nil, err
		}
		file.RootFS.DiffIDs = append(file.RootFS.DiffIDs, diff)
		file.History = append(file.History, v1.History{Author: "tarn", Created: file.Created, CreatedBy: "tarn", Comment: l.comment()})
	}
	return json.Marshal(file)
}

// baseKey is the annotation that tells on which image this one stands.
const baseKey = "org.opencontainers.image.base.digest"

// comment says in the image's history what a layer holds.
func (l *Layer) comment() string {
	switch n := len(l.Packages); {
	case n == 0:
		return "configuration"
	case n == 1:
		return l.Packages[0]
	case n <= 8:
		return strings.Join(l.Packages, " ")
	default:
		return strconv.Itoa(n) + " packages"
	}
}

func (c *composer) environment() []string {
	env := maps.Clone(c.spec.Environment)
	if env == nil {
		env = map[string]string{}
	}
	for name, value := range map[string]string{"PATH": defaultPath, "SSL_CERT_FILE": bundlePath} {
		if _, given := env[name]; !given {
			env[name] = value
		}
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// annotations are the image file's, and where it stands: they are labels of the
// configuration and annotations of the manifest.
func (c *composer) annotations() map[string]string {
	all := maps.Clone(c.spec.Annotations)
	source, revision, found := strings.Cut(c.spec.VCSURL, "@")
	for key, value := range map[string]string{"org.opencontainers.image.source": source, "org.opencontainers.image.revision": revision} {
		if value == "" || key == "org.opencontainers.image.revision" && !found {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[key] = cmp.Or(all[key], value)
	}
	return all
}

func (c *composer) manifest(config []byte, layers []Layer) ([]byte, error) {
	hash, size, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config:      v1.Descriptor{MediaType: types.OCIConfigJSON, Size: size, Digest: hash},
		Annotations: c.annotations(),
	}
	if m.Annotations == nil {
		m.Annotations = map[string]string{}
	}
	if c.o.Base != nil {
		m.Annotations[baseKey] = c.o.Base.Digest
	}
	m.Annotations[createdKey] = c.o.Epoch.UTC().Format("2006-01-02T15:04:05Z")
	for _, l := range layers {
		digest, err := v1.NewHash(l.Digest)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: l.MediaType, Size: l.Size, Digest: digest})
	}
	return json.Marshal(m)
}

// OCI is the image as go-containerregistry takes it. Layers are read from the store
// and checked there.
func (i *Image) OCI() (v1.Image, error) { return partial.CompressedToImage(&core{i}) }

// core is the least that go-containerregistry must know.
type core struct{ *Image }

func (c *core) RawConfigFile() ([]byte, error) { return c.Config, nil }
func (c *core) RawManifest() ([]byte, error)   { return c.Manifest, nil }
func (c *core) MediaType() (types.MediaType, error) {
	return types.OCIManifestSchema1, nil
}

func (c *core) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, l := range c.About.Layers {
		if l.Digest == h.String() {
			return &blobLayer{st: c.st, layer: l}, nil
		}
	}
	return nil, fmt.Errorf("image has no layer %s", h)
}

// List writes the image's file system, one path a line: type and mode, owner, path,
// then a link's target or the first digits of a file's digest, and the package.
func (i *Image) List(w io.Writer) error {
	f, err := i.st.Open(i.listing)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// composeVersion changes when the same image file and packages give another image than before.
const composeVersion = 9

// imageID covers all that decides an image.
func imageID(s *Spec, packages []Package, o Options) store.ActionID {
	h := store.NewHash("image")
	h.Line("version", composeVersion)
	h.Line("layers", s.Layering.compression().version)
	spec, err := json.Marshal(s)
	if err != nil {
		panic("internal error: image file as JSON: " + err.Error())
	}
	h.Line("spec", string(spec))
	h.Line("name", s.Name())
	world := make([]string, len(s.World))
	for i, r := range s.World {
		world[i] = r.String()
	}
	h.Line("world", world)
	h.Line("arch", string(o.Arch))
	if o.Epoch.IsZero() {
		h.Line("epoch", "newest package")
	} else {
		h.Line("epoch", o.Epoch.Unix())
	}
	h.Line("keys", o.Keys)
	if o.Base != nil {
		h.Line("base", o.Base.Digest)
	}
	for _, p := range packages {
		h.Line("package", []string{string(p.Digest), p.Entry.FullName()})
	}
	return h.Sum()
}

// remembered is an image in the store.
type remembered struct {
	About                                      About
	Config, Manifest, SBOM, CycloneDX, Listing store.Digest
	Roots                                      roots
}

func (i *Image) remember(id store.ActionID) error {
	r := remembered{About: i.About, Listing: i.listing, Roots: i.roots}
	for _, part := range []struct {
		data []byte
		to   *store.Digest
	}{{i.Config, &r.Config}, {i.Manifest, &r.Manifest}, {i.SBOM, &r.SBOM}, {i.CycloneDX, &r.CycloneDX}} {
		digest, _, err := i.st.Put(bytes.NewReader(part.data))
		if err != nil {
			return err
		}
		*part.to = digest
	}
	return i.st.Remember(id, r)
}

// recall gives an image that was composed before, or nil. Its layers are checked
// when they are written.
func recall(st *store.Store, id store.ActionID) (*Image, error) {
	var r remembered
	if found, err := st.Recall(id, &r); err != nil || !found {
		return nil, err
	}
	i := &Image{About: r.About, st: st, listing: r.Listing, roots: r.Roots}
	if r.CycloneDX == "" {
		return nil, nil // of a version of tarn that made none
	}
	for _, part := range []struct {
		digest store.Digest
		to     *[]byte
	}{{r.Config, &i.Config}, {r.Manifest, &i.Manifest}, {r.SBOM, &i.SBOM}, {r.CycloneDX, &i.CycloneDX}} {
		f, err := st.Open(part.digest)
		if err != nil {
			return nil, err
		}
		*part.to, err = io.ReadAll(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return i, nil
}
