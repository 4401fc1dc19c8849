package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/images/attest"
	"github.com/tarn-build/tarn/images/registry"
	"github.com/tarn-build/tarn/pkg/sign"
)

type imagePublishOptions struct {
	imageOptions
	to       string
	tags     []string
	refs     string
	insecure bool
	signing  imageSigning
}

func (a *app) imagePublishCommand() *cobra.Command {
	var o imagePublishOptions
	cmd := &cobra.Command{
		Use:   "publish IMAGE [REFERENCE...] | IMAGE... --to REGISTRY",
		Short: "compose images and push them to a registry, signed if asked",
		Long: `publish composes an image file (by name, or by file) for each architecture, pushes
what is missing in the registry, and puts the index of them under every REFERENCE, as
HOST/NAME:TAG. IMAGE may be the folder of an OCI layout, which is pushed as it is, with
what is signed in it. With --to, or "publish: {registry: ...}" in tarn.yaml, each of several images goes to
REGISTRY/NAME, under the names that --tag gives, latest when it gives none.

Tags change last, when all else is there. The digest is printed, as HOST/NAME@sha256:...

--sign KEY signs the index and the image of each architecture as cosign does, and attests
their SBOM (SPDX, CycloneDX) and provenance (SLSA, version 1: recipe, source digests and environment
of every package). KEY is a private key in PEM (tarn keygen NAME.key, cosign
generate-key-pair) or exec:NAME.pub PROGRAM ARGUMENT... for one that a program keeps.

Who this is to the registry stands where docker, podman and skopeo keep it; their
credential helpers are asked. Registries of this machine may speak plain HTTP.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runImagePublish(cmd.Context(), o, args) },
	}
	o.add(cmd)
	o.addJobs(cmd)
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "the registry, with a path if wanted, that images go to as REGISTRY/NAME")
	f.StringArrayVarP(&o.tags, "tag", "t", nil, "a further tag; several may be given")
	f.StringVar(&o.refs, "image-refs", "", "write the references of all that was pushed, by digest, to this file")
	f.BoolVar(&o.insecure, "insecure", false, "speak plain HTTP with a registry that is not on this machine")
	o.signing.add(f)
	return cmd
}

// publishedImage is what is printed of a published image as JSON.
type publishedImage struct {
	Image      string          `json:"image"`
	Reference  string          `json:"reference"` // by digest
	Digest     string          `json:"digest"`
	Tags       []string        `json:"tags"`
	Archs      []publishedArch `json:"architectures"`
	SignedBy   []string        `json:"signed_by"`
	Copied     int             `json:"copied,omitempty"` // signatures and attestations of a layout
	BlobsSent  int             `json:"blobs_sent"`
	BytesSent  int64           `json:"bytes_sent"`
	BlobsThere int             `json:"blobs_there"`
}

type publishedArch struct {
	Platform  string `json:"platform"`
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
}

// publication is one image on its way to a registry.
type publication struct {
	name     string
	index    v1.ImageIndex
	composed []*images.Image // nil of a layout
	layout   attest.Beside   // what lies beside the images of a layout; else nil
	tags     []name.Tag
}

func (a *app) runImagePublish(ctx context.Context, o imagePublishOptions, args []string) error {
	if a.offline {
		return usagef("publish needs a registry, and the network is off (--offline)")
	}
	c, err := a.openComposer(o.imageOptions)
	if err != nil {
		return err
	}
	if o.to == "" {
		o.to = c.ws.Publish.Registry
	}
	if len(o.signing.keys) == 0 && c.ws.Publish.Sign != "" {
		o.signing.keys = []string{c.ws.signer(c.ws.Publish.Sign)}
	}
	client, sent := a.registryClient(o.insecure)
	all, err := c.publications(ctx, client, &o, args)
	if err != nil {
		return err
	}
	keys, err := o.signing.signers(a)
	if err != nil {
		return err
	}
	var rows []publishedImage
	for _, p := range all {
		row, err := c.publish(ctx, client, p, keys, o.signing.bare)
		sent.count(row)
		if err != nil {
			return err
		}
		rows = append(rows, *row)
		what := "all of it was there"
		if row.BlobsSent > 0 {
			what = fmt.Sprintf("sent %d of %s, %s", row.BlobsSent, count(row.BlobsSent+row.BlobsThere, "blob"), shortSize(row.BytesSent))
		}
		fmt.Fprintf(a.err, "%s: %s; tagged %s\n", row.Image, what, strings.Join(row.Tags, ", "))
		if !a.json {
			fmt.Fprintln(a.out, row.Reference)
		}
	}
	if o.refs != "" {
		var b strings.Builder
		for _, row := range rows {
			for _, arch := range row.Archs {
				fmt.Fprintln(&b, arch.Reference)
			}
			fmt.Fprintln(&b, row.Reference)
		}
		if err := renameio.WriteFile(o.refs, []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(rows)
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// publications reads what is to be published, and where: mistakes of both are told before
// anything is composed.
func (c *composer) publications(ctx context.Context, client *registry.Client, o *imagePublishOptions, args []string) ([]publication, error) {
	var names []string
	var tags []name.Tag
	for n, arg := range args {
		if n == 0 || !isReference(arg) {
			names = append(names, arg)
			continue
		}
		tag, err := client.Tag(arg)
		if err != nil {
			return nil, usagef("%v", err)
		}
		tags = append(tags, tag)
	}
	switch {
	case len(tags) > 0 && len(names) > 1:
		return nil, usagef("one image is published under a reference, and there are %d: %s\n  hint: --to REGISTRY publishes several, each under its name", len(names), strings.Join(names, ", "))
	case len(tags) == 0 && o.to == "":
		return nil, usagef("it is not said where to publish to\n  hint: tarn image publish %s HOST/NAME:TAG, or --to REGISTRY", names[0])
	}
	for _, text := range o.tags {
		if _, err := name.NewTag("registry.invalid/name:" + text); err != nil {
			return nil, usagef("--tag %q is no tag: letters, digits, and . _ - between them", text)
		}
	}
	given := map[string]string{}
	targets := func(image, from string) ([]name.Tag, error) {
		if before, twice := given[image]; twice && len(tags) == 0 {
			return nil, usagef("%s and %s both go to %s/%s", before, from, strings.TrimSuffix(o.to, "/"), image)
		}
		given[image] = from
		if len(tags) > 0 {
			all := slices.Clone(tags)
			for _, text := range o.tags {
				all = append(all, tags[0].Context().Tag(text))
			}
			return all, nil
		}
		texts := o.tags
		if len(texts) == 0 {
			texts = []string{"latest"}
		}
		var all []name.Tag
		for _, text := range texts {
			tag, err := client.Tag(strings.TrimSuffix(o.to, "/") + "/" + image + ":" + text)
			if err != nil {
				return nil, usagef("%v", err)
			}
			all = append(all, tag)
		}
		return all, nil
	}
	var all []publication
	var files []string
	for _, text := range names {
		if isLayout(text) {
			to, err := targets(filepath.Base(filepath.Clean(text)), text)
			if err != nil {
				return nil, err
			}
			index, err := images.LayoutIndex(text)
			if err != nil {
				return nil, err
			}
			all = append(all, publication{name: text, index: index, layout: attest.Layout(text), tags: to})
			continue
		}
		files = append(files, text)
	}
	if len(files) == 0 {
		return all, nil
	}
	specs, err := c.specs(files)
	if err != nil {
		return nil, err
	}
	if err := differentNames(specs); err != nil {
		return nil, err
	}
	made := make([]publication, len(specs))
	for n, s := range specs {
		to, err := targets(s.Name(), relative(s.Path))
		if err != nil {
			return nil, err
		}
		made[n] = publication{name: s.Name(), tags: to}
	}
	// Nothing is pushed where something could not be composed.
	failed, err := c.each(ctx, specs, c.o.atOnce(), func(ctx context.Context, n int, s *images.Spec) (string, error) {
		return "", made[n].compose(ctx, c, s)
	})
	return append(all, made...), errors.Join(append(failed, err)...)
}

// compose composes the image of a publication.
func (p *publication) compose(ctx context.Context, c *composer, s *images.Spec) (err error) {
	if p.composed, err = c.compose(ctx, s); err != nil {
		return err
	}
	for _, image := range p.composed {
		for _, w := range image.About.Warnings {
			fmt.Fprintf(c.said, "%s: warning: %s\n", relative(s.Path), plain(strings.TrimSpace(w.Package+" "+w.Text)))
		}
	}
	p.index, err = images.Index(p.composed...)
	return err
}

// isReference tells whether an argument is where an image goes to, and not an image: it has
// a path or a tag, and is no file.
func isReference(arg string) bool {
	if isFile(arg) || isLayout(arg) {
		return false
	}
	return strings.ContainsAny(arg, "/:")
}

// isLayout tells whether a path is the folder of an OCI layout.
func isLayout(path string) bool {
	_, err := os.Stat(filepath.Join(path, "oci-layout"))
	return err == nil
}

// publish pushes one image to each repository that its tags are in: blobs and manifests,
// then what is signed beside them, and the tags last.
func (c *composer) publish(ctx context.Context, client *registry.Client, p publication, keys []sign.MessageSigner, bare bool) (*publishedImage, error) {
	row := &publishedImage{Image: p.name, Tags: []string{}, SignedBy: []string{}}
	var done []string
	for _, tag := range p.tags {
		to := tag.Context()
		if slices.Contains(done, to.String()) {
			continue
		}
		done = append(done, to.String())
		ref, err := client.Push(ctx, to, p.index)
		if err != nil {
			return row, err
		}
		parts, err := partsOf(p.index, p.composed)
		if err != nil {
			return row, err
		}
		if len(done) == 1 {
			row.Reference, row.Digest = ref.String(), ref.DigestStr()
			for _, part := range parts[1:] {
				d := part.descriptor
				row.Archs = append(row.Archs, publishedArch{d.Platform.String(), to.Digest(d.Digest.String()).String(), d.Digest.String()})
			}
		}
		if p.layout != nil {
			if row.Copied, err = copyBeside(ctx, p.layout, client.Repository(to), parts); err != nil {
				return row, err
			}
		}
		for _, key := range keys {
			if err := signParts(ctx, client.Repository(to), to.String(), parts, key, bare); err != nil {
				return row, err
			}
			if !slices.Contains(row.SignedBy, key.Name()) {
				row.SignedBy = append(row.SignedBy, key.Name())
			}
		}
	}
	switch {
	case row.Copied > 0:
		fmt.Fprintf(c.err, "%s: %d signatures and attestations in it go along\n", p.name, row.Copied)
	case len(keys) > 0 && p.layout != nil && !bare:
		fmt.Fprintf(c.err, "%s: signed without attestations: it is a layout, and what it was composed of is not known\n  hint: tarn image build --sign puts them into the layout, and publish takes them along\n", p.name)
	}
	for _, tag := range p.tags {
		if err := client.Put(ctx, tag, p.index); err != nil {
			return row, err
		}
		row.Tags = append(row.Tags, tag.Name())
	}
	return row, nil
}

// blobCount counts the blobs of one image after another. On a terminal a line tells how
// far it is.
type blobCount struct {
	mu          sync.Mutex
	sent, there int
	bytes       int64

	terminal io.Writer // nil for none
	sending  int64
	drawn    time.Time // the zero time when no line is on the screen
}

func (b *blobCount) count(row *publishedImage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	row.BlobsSent, row.BlobsThere, row.BytesSent = b.sent, b.there, b.bytes
	b.sent, b.there, b.bytes, b.sending = 0, 0, 0, 0
}

// clear takes the line off the screen. The lock is held.
func (b *blobCount) clear() {
	if !b.drawn.IsZero() {
		fmt.Fprint(b.terminal, "\r\x1b[K")
		b.drawn = time.Time{}
	}
}

func (b *blobCount) progress(n int) {
	b.sending += int64(n)
	if b.terminal == nil || time.Since(b.drawn) < 200*time.Millisecond {
		return
	}
	b.drawn = time.Now()
	fmt.Fprintf(b.terminal, "\r\x1b[Ksent %s", shortSize(b.sending))
}

// registryClient makes a client of registries that says when one makes it wait.
func (a *app) registryClient(insecure bool) (*registry.Client, *blobCount) {
	sent := &blobCount{}
	if isTerminal(a.err) {
		sent.terminal = a.err
	}
	return &registry.Client{Insecure: insecure, Offline: a.offline, Report: func(e registry.Event) {
		sent.mu.Lock()
		defer sent.mu.Unlock()
		if e.Sending > 0 {
			sent.progress(e.Sending)
			return
		}
		switch e.Blob {
		case registry.BlobSent:
			sent.sent++
			sent.bytes += e.Size
		case registry.BlobThere:
			sent.there++
		}
		// A hiccup is nobody's business.
		if e.Retry >= 3 && (e.Retry-3)%4 == 0 {
			sent.clear()
			fmt.Fprintf(a.err, "%s: %s; trying again, %d of %d\n", e.Host, plain(e.Cause.Error()), e.Retry, e.Of)
		}
	}}, sent
}
