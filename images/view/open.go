package view

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tarn-build/tarn/images/registry"
	"github.com/tarn-build/tarn/pkg/apk"
)

// Options say how to open an image. The zero value opens all architectures.
type Options struct {
	// Arches are the architectures that are wanted; all when empty. One that is not
	// there is an error.
	Arches []apk.Arch
	Limits Limits
	// Temp is a folder for content that has to be read at places while it is looked
	// at; the system's own when empty. What is made there has no name.
	Temp string
	// Registry talks with registries; one of its zero value when nil.
	Registry *registry.Client
	// Keep names further files whose content is to be at hand, within the same limits.
	Keep func(path string) bool
}

// Limits bound what an image may make of itself. A field that is 0 has its default.
type Limits struct {
	Document int64 // bytes of an index, manifest or configuration; 8 MiB
	Layers   int   // of one image; 512
	Entries  int   // paths of all layers together; 1,000,000
	Bytes    int64 // of all layers together, expanded; 64 GiB
	Ratio    int64 // expanded bytes for each byte of a layer, beyond the first 256 MiB; 300
	Text     int64 // bytes of all names, link targets and extended attributes; 256 MiB
}

func (l Limits) orDefault() Limits {
	set := func(at *int64, value int64) {
		if *at == 0 {
			*at = value
		}
	}
	set(&l.Document, 8<<20)
	set(&l.Bytes, 64<<30)
	set(&l.Ratio, 300)
	set(&l.Text, 256<<20)
	if l.Layers == 0 {
		l.Layers = 512
	}
	if l.Entries == 0 {
		l.Entries = 1_000_000
	}
	return l
}

// maxDepth is how many indexes may lie in each other, and maxManifests how many
// manifests all of them may name.
const (
	maxDepth     = 4
	maxManifests = 1000
)

// Opened is what a reference leads to: one image for each platform. Close gives back
// what it holds.
type Opened struct {
	Ref    string // as it was asked for
	Path   string // of the layout or archive; empty where there is none
	Kind   string // "OCI layout", "OCI archive", "docker archive", "registry"
	Digest string // of the index or manifest that the reference leads to; empty in docker archives
	// Index is the index above the images, if there is one that has a digest, as it stands there.
	Index  []byte
	Images []*Image

	blobs Blobs
	o     Options
}

// Close gives back what is held open.
func (o *Opened) Close() error { return o.blobs.Close() }

// Image is an image of one platform.
type Image struct {
	Platform    v1.Platform
	Digest      string // of the manifest, e.g. sha256:1f2e...; empty in docker archives
	Tags        []string
	RawManifest []byte       // nil in docker archives
	Manifest    *v1.Manifest // what docker archives say of it, where RawManifest is nil
	RawConfig   []byte
	Config      *v1.ConfigFile

	layers []blob
	from   *Opened
}

// blob is a blob of a layer.
type blob struct {
	v1.Descriptor
	open string // its name in a docker archive, where it has no digest
}

// ErrNone says that a reference leads to no image.
var ErrNone = errors.New("there is no image")

// NotFoundError says that what a reference names is not there.
type NotFoundError struct {
	Ref  string
	Text string
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s: %s", e.Ref, e.Text) }

// DigestError says that bytes are not those that their digest names.
type DigestError struct {
	What      string // e.g. "layer sha256:1f2e..."
	Want, Got string
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s does not hold what it says: it is %s, expected %s", e.What, e.Got, e.Want)
}

// RefusedError says what of an image is not looked at, and why.
type RefusedError struct {
	Layer int    // from 1, the lowest; 0 when it is the image as a whole
	Entry string // the name in the layer, or ""
	Why   string
}

func (e *RefusedError) Error() string {
	var b strings.Builder
	if e.Layer > 0 {
		fmt.Fprintf(&b, "layer %d: ", e.Layer)
	}
	if e.Entry != "" {
		fmt.Fprintf(&b, "%q: ", shorten(e.Entry))
	}
	return b.String() + e.Why
}

// shorten gives the beginning of a name that an image brings.
func shorten(name string) string {
	const most = 120
	if len(name) <= most {
		return name
	}
	return name[:most] + "..."
}

// Prefixes of references, as skopeo has them.
const (
	prefixLayout        = "oci:"
	prefixArchive       = "oci-archive:"
	prefixDockerArchive = "docker-archive:"
	prefixRegistry      = "docker://"
)

// Open opens what a reference names:
//
//	DIR, oci:DIR                      an OCI layout
//	FILE, oci-archive:FILE, docker-archive:FILE   an archive of one, or of docker save
//	REGISTRY/NAME:TAG, docker://NAME  an image in a registry
//
// Behind the path of a layout or archive that holds several images stands which one is
// meant: DIR:TAG or DIR@sha256:DIGEST. Nothing but manifests and configurations is read.
//
// Its error is a *NotFoundError where nothing is there, and a *DigestError or
// *RefusedError where what is there cannot be trusted or is no image.
func Open(ctx context.Context, ref string, o Options) (*Opened, error) {
	o.Limits = o.Limits.orDefault()
	opened, err := open(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	if len(opened.Images) == 0 {
		opened.Close()
		return nil, &NotFoundError{ref, ErrNone.Error()}
	}
	return opened.closing(opened.choose(o.Arches))
}

func open(ctx context.Context, ref string, o Options) (*Opened, error) {
	for _, prefix := range []string{prefixLayout, prefixArchive, prefixDockerArchive} {
		if rest, found := strings.CutPrefix(ref, prefix); found {
			file, which, err := cutWhich(rest)
			if err != nil {
				return nil, &NotFoundError{ref, notThere(err)}
			}
			return openPath(ctx, ref, file, which, o)
		}
	}
	rest, isRegistry := strings.CutPrefix(ref, prefixRegistry)
	if !isRegistry {
		file, which, err := cutWhich(ref)
		switch {
		case err == nil:
			return openPath(ctx, ref, file, which, o)
		case IsPath(ref):
			return nil, &NotFoundError{ref, notThere(err)}
		}
	}
	client := o.Registry
	if client == nil {
		client = &registry.Client{}
	}
	named, err := client.Reference(rest)
	if err != nil {
		return nil, &NotFoundError{ref, "it is no file, no folder and no reference to a registry"}
	}
	opened := &Opened{Ref: ref, Kind: "registry", blobs: &pulled{client: client, repository: named.Context()}, o: o}
	top, err := client.Get(ctx, named)
	if err != nil {
		return nil, err
	}
	return opened.closing(opened.descriptor(ctx, top.Descriptor, nil, 0))
}

// Composed opens images that this program made, each of another architecture.
func Composed(ref string, o Options, images ...v1.Image) (*Opened, error) {
	o.Limits = o.Limits.orDefault()
	opened := &Opened{Ref: ref, Kind: "image file", blobs: &held{images}, o: o}
	for _, image := range images {
		digest, err := image.Digest()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		d := v1.Descriptor{Digest: digest, MediaType: types.OCIManifestSchema1}
		if err := opened.descriptor(context.Background(), d, nil, len(images)-1); err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
	}
	return opened, nil
}

// closing gives o, or closes it where it could not be opened.
func (o *Opened) closing(err error) (*Opened, error) {
	if err == nil {
		return o, nil
	}
	o.Close()
	if _, says := errors.AsType[*NotFoundError](err); says {
		return nil, err
	}
	return nil, fmt.Errorf("%s: %w", o.Ref, err)
}

// named reports whether a tag is meant: as it is, or by what stands at its end.
func named(tag, which string) bool {
	return tag != "" && (tag == which || strings.HasSuffix(tag, ":"+which) || strings.HasSuffix(tag, "/"+which))
}

// IsPath tells whether a reference can only be one to a file or folder. A registry is
// named by its host, which has a dot or a port, or by docker://.
func IsPath(ref string) bool {
	for _, prefix := range []string{prefixLayout, prefixArchive, prefixDockerArchive} {
		if strings.HasPrefix(ref, prefix) {
			return true
		}
	}
	if strings.HasPrefix(ref, prefixRegistry) {
		return false
	}
	host, _, found := strings.Cut(ref, "/")
	return strings.HasPrefix(ref, ".") || !found && !strings.ContainsAny(ref, ":@") || found && host != "localhost" && !strings.ContainsAny(host, ".:")
}

func notThere(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no such file or folder"
	}
	return err.Error()
}

// cutWhich splits a path from the tag or digest behind it, where the path as a whole
// is none.
func cutWhich(ref string) (file, which string, err error) {
	if _, err = os.Stat(ref); err == nil {
		return ref, "", nil
	}
	// Tags of docker save have colons of their own: the longest path that is there counts.
	for rest := ref; ; {
		at := max(strings.LastIndex(rest, "@sha256:"), strings.LastIndexByte(rest, ':'))
		if before := strings.TrimSuffix(rest[:max(at, 0)], "@sha256"); before != rest[:max(at, 0)] {
			at = len(before)
		}
		if at <= 0 {
			return "", "", err
		}
		if _, other := os.Stat(rest[:at]); other == nil {
			return rest[:at], ref[at+1:], nil
		}
		rest = rest[:at]
	}
}

// openPath opens a layout or an archive.
func openPath(ctx context.Context, ref, file, which string, o Options) (*Opened, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, &NotFoundError{ref, notThere(err)}
	}
	opened := &Opened{Ref: ref, Path: file, o: o}
	switch {
	case info.IsDir():
		opened.Kind = "OCI layout"
		folder, err := openFolder(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		opened.blobs = folder
		return opened.closing(opened.layout(ctx, folder, which))
	case info.Mode().IsRegular():
		a, err := openArchive(ctx, file, o)
		if _, says := errors.AsType[*NotFoundError](err); says {
			return nil, err
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		opened.blobs = a
		if a.has(layoutIndex) {
			opened.Kind = "OCI archive"
			return opened.closing(opened.layout(ctx, a, which))
		}
		opened.Kind = "docker archive"
		return opened.closing(opened.dockerArchive(a, which))
	}
	return nil, &NotFoundError{ref, "it is neither a file nor a folder"}
}

// descriptor adds the images that a descriptor leads to.
func (o *Opened) descriptor(ctx context.Context, d v1.Descriptor, tags []string, depth int) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if depth > maxDepth {
		return &RefusedError{Why: fmt.Sprintf("more than %d indexes lie in each other", maxDepth)}
	}
	raw, err := o.document(ctx, d)
	if err != nil {
		return err
	}
	// What it is, it says itself: descriptors of old layouts have no type.
	var kind struct {
		MediaType types.MediaType   `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
		Layers    []json.RawMessage `json:"layers"`
		Schema    int               `json:"schemaVersion"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	media := kind.MediaType
	if media == "" {
		media = d.MediaType
	}
	if depth == 0 {
		o.Digest = d.Digest.String()
	}
	switch {
	case media.IsIndex() || media == "" && kind.Manifests != nil:
		if depth == 0 {
			o.Index = raw
		}
		var index v1.IndexManifest
		if err := json.Unmarshal(raw, &index); err != nil {
			return fmt.Errorf("read index %s: %w", d.Digest, err)
		}
		return o.manifests(ctx, index.Manifests, tags, depth)
	case kind.Schema == 1:
		return &RefusedError{Why: "the manifest is of Docker's first form, which is not read"}
	case kind.Layers == nil:
		return nil // no image, but something that lies beside one
	}
	return o.image(ctx, d, raw, tags)
}

func (o *Opened) manifests(ctx context.Context, all []v1.Descriptor, tags []string, depth int) error {
	if len(all) > maxManifests {
		return &RefusedError{Why: fmt.Sprintf("the index names %d manifests, more than %d", len(all), maxManifests)}
	}
	for _, d := range all {
		if isBeside(d) {
			continue
		}
		if err := o.descriptor(ctx, d, tags, depth+1); err != nil {
			return err
		}
		if len(o.Images) > maxManifests {
			return &RefusedError{Why: fmt.Sprintf("there are more than %d images", maxManifests)}
		}
	}
	return nil
}

// isBeside tells whether a descriptor is of something that belongs to an image and is
// none: signatures, attestations, bills of materials.
func isBeside(d v1.Descriptor) bool {
	_, attestation := d.Annotations["vnd.docker.reference.type"] // of BuildKit
	// Some write the type of an image's configuration here.
	artifact := d.ArtifactType != "" && !types.MediaType(d.ArtifactType).IsConfig()
	return attestation || artifact || d.Platform != nil && d.Platform.OS == "unknown"
}

// image adds the image of a manifest.
func (o *Opened) image(ctx context.Context, d v1.Descriptor, raw []byte, tags []string) error {
	i := &Image{Digest: d.Digest.String(), Tags: tags, RawManifest: raw, Manifest: &v1.Manifest{}, from: o}
	if err := json.Unmarshal(raw, i.Manifest); err != nil {
		return fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	m := i.Manifest
	if m.ArtifactType != "" || m.Config.MediaType != "" && !m.Config.MediaType.IsConfig() {
		return nil // an artifact
	}
	if len(m.Layers) > o.o.Limits.Layers {
		return &RefusedError{Why: fmt.Sprintf("the image has %d layers, more than %d", len(m.Layers), o.o.Limits.Layers)}
	}
	var err error
	if i.RawConfig, err = o.document(ctx, m.Config); err != nil {
		return err
	}
	for _, l := range m.Layers {
		i.layers = append(i.layers, blob{Descriptor: l})
	}
	return o.add(i, d.Platform)
}

// add reads the configuration of an image and adds it.
func (o *Opened) add(i *Image, platform *v1.Platform) error {
	i.Config = &v1.ConfigFile{}
	if err := json.Unmarshal(i.RawConfig, i.Config); err != nil {
		return fmt.Errorf("read configuration %s: %w", i.Manifest.Config.Digest, err)
	}
	if got, want := len(i.Config.RootFS.DiffIDs), len(i.layers); got != want {
		return &RefusedError{Why: fmt.Sprintf("the configuration tells of %d layers, the manifest of %d", got, want)}
	}
	if p := i.Config.Platform(); p != nil {
		i.Platform = *p
	}
	if platform != nil {
		i.Platform = *platform
	}
	o.Images = append(o.Images, i)
	return nil
}

// Arch is the image's architecture by Alpine's name, or by OCI's where Alpine has none.
func (i *Image) Arch() apk.Arch {
	text := i.Platform.Architecture
	if i.Platform.Variant != "" && text == "arm" {
		text += "/" + i.Platform.Variant
	}
	if arch, err := apk.ParseArch(text); err == nil {
		return arch
	}
	return apk.Arch(text)
}

// choose keeps the images of some architectures.
func (o *Opened) choose(arches []apk.Arch) error {
	if len(arches) == 0 {
		return nil
	}
	var kept []*Image
	var there []string
	for _, i := range o.Images {
		there = append(there, string(i.Arch()))
	}
	for _, arch := range arches {
		at := slices.IndexFunc(o.Images, func(i *Image) bool { return i.Arch() == arch })
		if at < 0 {
			return &NotFoundError{o.Ref, fmt.Sprintf("it has no image for %s; there are %s", arch, strings.Join(there, ", "))}
		}
		kept = append(kept, o.Images[at])
	}
	o.Images = kept
	return nil
}
