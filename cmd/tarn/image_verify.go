package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/images/attest"
	"github.com/tarn-build/tarn/images/registry"
	"github.com/tarn-build/tarn/images/view"
	"github.com/tarn-build/tarn/pkg/sign"
)

type imageVerifyOptions struct {
	keys     []string
	require  []string
	unsigned bool
	shallow  bool
	insecure bool
}

func (a *app) imageVerifyCommand() *cobra.Command {
	var o imageVerifyOptions
	cmd := &cobra.Command{
		Use:   "verify REFERENCE | LAYOUT...",
		Short: "check who signed an image, what they attest of it, and every digest",
		Long: `verify checks images in a registry (HOST/NAME:TAG, HOST/NAME@sha256:...), and in OCI
layouts:

  that one of the --key signed it, as tarn image publish --sign and cosign do
  that what these keys attest beside it and beside its architectures is about them
  that there is what --require asks for: spdx, provenance, cyclonedx, or a predicate's type
  that every manifest, configuration, layer and signature is what its digest says
  that the attested SBOM tells of every package in the image's database

Signatures by other keys are counted, and say nothing. What does not hold is exit 6. No
transparency service is asked.

Without --key it is the public half of the key that tarn.yaml names (publish: sign).`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runImageVerify(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.keys, "key", "k", nil, "a public key, in PEM, that vouches for images; of several any one")
	f.StringSliceVar(&o.require, "require", nil, "what must be attested: spdx, provenance, cyclonedx, or a predicate's type")
	f.BoolVar(&o.unsigned, "unsigned", false, "check digests alone")
	f.BoolVar(&o.shallow, "shallow", false, "leave out the layers")
	f.BoolVar(&o.insecure, "insecure", false, "speak plain HTTP with a registry that is not on this machine")
	return cmd
}

// verifiedImage is what is printed of an image as JSON.
type verifiedImage struct {
	Reference string         `json:"reference"`
	Digest    string         `json:"digest,omitempty"`
	Verified  bool           `json:"verified"`
	Parts     []verifiedPart `json:"parts"`
	Problems  []string       `json:"problems"`
}

// verifiedPart is the index, or the image of one platform.
type verifiedPart struct {
	Platform string          `json:"platform"` // "index" for the index
	Digest   string          `json:"digest"`
	Claims   []verifiedClaim `json:"claims"`
	Others   int             `json:"signed_by_others"`
	Layers   int             `json:"layers,omitempty"` // that were read
	Files    int             `json:"files,omitempty"`
	Bytes    int64           `json:"bytes,omitempty"`
	Packages int             `json:"packages,omitempty"`

	image    *view.Image
	findings *attest.Findings
}

type verifiedClaim struct {
	Type   string `json:"type"` // "signature", "spdx", "provenance", or the predicate's type
	Key    string `json:"key"`
	Called string `json:"called,omitempty"` // what the signer called the image
	Says   string `json:"says,omitempty"`
}

// rank sorts claims: signatures first.
func (c *verifiedClaim) rank() string {
	if c.Type == "signature" {
		return " " + c.Key
	}
	return c.Type + " " + c.Key
}

func (a *app) runImageVerify(ctx context.Context, o imageVerifyOptions, args []string) error {
	ws, err := a.workspace()
	if err != nil {
		return err
	}
	keys, err := publicKeys(ws, &o)
	if err != nil {
		return err
	}
	client, _ := a.registryClient(o.insecure)
	var all []*verifiedImage
	var wrong []error
	for _, ref := range args {
		v, err := a.verifyImage(ctx, client, keys, &o, ref)
		if err != nil {
			return err
		}
		all = append(all, v)
		if !a.json {
			a.printVerified(v)
		}
		if !v.Verified {
			wrong = append(wrong, &codeError{exitTrust, fmt.Errorf("verify %s: %s", ref, strings.Join(v.Problems, "\n  "))})
		}
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	}
	return errors.Join(wrong...)
}

// publicKeys reads the keys that are trusted.
func publicKeys(ws *workspace, o *imageVerifyOptions) ([]attest.Key, error) {
	files := o.keys
	if o.unsigned {
		if len(files)+len(o.require) > 0 {
			return nil, usagef("--unsigned checks digests alone: it goes with neither --key nor --require")
		}
		return nil, nil
	}
	if len(files) == 0 && ws.Publish.Sign != "" {
		name := ws.signer(ws.Publish.Sign)
		if public, _, isProgram := sign.CutProgram(name); isProgram {
			files = []string{public}
		} else {
			files = []string{sign.PublicPath(name)}
		}
	}
	if len(files) == 0 {
		return nil, usagef("it is not said whose signature counts\n  hint: --key FILE.pub, or --unsigned for the digests alone")
	}
	var keys []attest.Key
	for _, file := range files {
		key, err := sign.LoadPublicKey(file)
		if err != nil {
			return nil, usagef("%v", err)
		}
		keys = append(keys, attest.Key{Name: filepath.Base(file), Public: key})
	}
	return keys, nil
}

// verifyImage checks one image. An error is that it cannot be had; what does not hold is a
// problem of the result.
func (a *app) verifyImage(ctx context.Context, client *registry.Client, keys []attest.Key, o *imageVerifyOptions, ref string) (*verifiedImage, error) {
	v := &verifiedImage{Reference: ref, Parts: []verifiedPart{}, Problems: []string{}}
	opened, err := view.Open(ctx, ref, view.Options{Registry: client})
	if isWrongImage(err) {
		v.Problems = append(v.Problems, err.Error())
		return v, nil
	}
	if is[*view.NotFoundError](err) {
		return nil, usagef("%v", err)
	}
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	v.Digest = opened.Digest
	isIndex := opened.Digest != "" && (len(opened.Images) > 1 || opened.Images[0].Digest != opened.Digest)
	if isIndex {
		v.Parts = append(v.Parts, verifiedPart{Platform: "index", Digest: opened.Digest})
	}
	for _, image := range opened.Images {
		v.Parts = append(v.Parts, verifiedPart{Platform: image.Platform.String(), Digest: image.Digest, image: image})
	}
	if len(keys) > 0 {
		beside, err := besideOf(client, opened)
		if err != nil {
			return nil, err
		}
		for n := range v.Parts {
			if err := v.Parts[n].examine(ctx, beside, keys); isWrongImage(err) {
				v.Problems = append(v.Problems, err.Error())
			} else if err != nil {
				return nil, err
			}
		}
		v.judge(isIndex, keys, o.require)
	}
	if !o.shallow {
		for n := range v.Parts {
			if err := v.read(ctx, &v.Parts[n]); err != nil {
				return nil, err
			}
		}
	}
	v.Verified = len(v.Problems) == 0
	return v, nil
}

// isWrongImage tells whether an error says that bytes are not what they should be, rather
// than that they cannot be had.
func isWrongImage(err error) bool {
	if err == nil {
		return false
	}
	// What a library of registries says of a blob has no type that can be asked for.
	return is[*view.DigestError](err) || is[*attest.DigestError](err) || is[*view.RefusedError](err) || strings.Contains(err.Error(), "error verifying ") || strings.Contains(err.Error(), "does not match requested digest")
}

// besideOf is where signatures of an image lie.
func besideOf(client *registry.Client, opened *view.Opened) (attest.Beside, error) {
	switch opened.Kind {
	case "registry":
		ref, err := client.Reference(strings.TrimPrefix(opened.Ref, "docker://"))
		if err != nil {
			return nil, usagef("%v", err)
		}
		return client.Repository(ref.Context()), nil
	case "OCI layout":
		return attest.Layout(opened.Path), nil
	}
	return nil, usagef("%s: nothing beside an image is in an archive, so nothing is signed (%s)\n  hint: --unsigned checks the digests alone", opened.Ref, opened.Kind)
}

// examine reads what lies beside a part.
func (p *verifiedPart) examine(ctx context.Context, beside attest.Beside, keys []attest.Key) error {
	hash, err := v1.NewHash(p.Digest)
	if err != nil {
		return err
	}
	items, err := attest.Collect(ctx, beside, hash)
	if err != nil {
		return err
	}
	p.findings = attest.Examine(ctx, items, hash, keys...)
	p.Others = p.findings.Others
	for _, s := range p.findings.Signed {
		p.Claims = append(p.Claims, verifiedClaim{Type: attest.PredicateName(s.Predicate), Key: s.Key, Called: s.Repository, Says: says(s.Claim)})
	}
	slices.SortStableFunc(p.Claims, func(a, b verifiedClaim) int { return strings.Compare(a.rank(), b.rank()) })
	return nil
}

// says sums up what an attestation says.
func says(c attest.Claim) string {
	switch c.Predicate {
	case attest.PredicateProvenance:
		var p struct {
			BuildDefinition struct {
				Internal struct {
					Packages []json.RawMessage `json:"packages"`
					Recipes  map[string]struct {
						Sources []json.RawMessage `json:"sources"`
					} `json:"recipes"`
				} `json:"internalParameters"`
			} `json:"buildDefinition"`
		}
		if json.Unmarshal(c.Content, &p) != nil || p.BuildDefinition.Internal.Packages == nil {
			return ""
		}
		sources := 0
		for _, r := range p.BuildDefinition.Internal.Recipes {
			sources += len(r.Sources)
		}
		in := p.BuildDefinition.Internal
		return fmt.Sprintf("%s by %s of %s", count(len(in.Packages), "package"), count(len(in.Recipes), "recipe"), count(sources, "source"))
	case attest.PredicateSPDX:
		var doc struct {
			Packages []json.RawMessage `json:"packages"`
		}
		if json.Unmarshal(c.Content, &doc) != nil {
			return ""
		}
		return count(len(doc.Packages), "element")
	case attest.PredicateCycloneDX:
		var doc struct {
			Components []json.RawMessage `json:"components"`
		}
		if json.Unmarshal(c.Content, &doc) != nil {
			return ""
		}
		return count(len(doc.Components), "component")
	}
	return ""
}

// judge finds what is missing of what must be signed.
func (v *verifiedImage) judge(isIndex bool, keys []attest.Key, require []string) {
	names := make([]string, len(keys))
	for n, k := range keys {
		names[n] = k.Name
	}
	trusted := strings.Join(names, " or ")
	problem := func(format string, args ...any) { v.Problems = append(v.Problems, fmt.Sprintf(format, args...)) }
	for n, p := range v.Parts {
		if p.findings == nil {
			continue
		}
		for _, wrong := range p.findings.Wrong {
			problem("%s: %v", p.Platform, wrong)
		}
		// An index says by digest which images it is of: who signed it signed them.
		if isIndex && n > 0 || p.findings.Has("signature") {
			continue
		}
		switch {
		case p.Others > 0:
			problem("%s: no signature by %s; there are %d by others", p.Platform, trusted, p.Others)
		default:
			problem("%s: it is not signed", p.Platform)
		}
	}
	for _, what := range require {
		lacks := func(p verifiedPart) bool { return p.findings != nil && !p.findings.Has(what) }
		if isIndex && !lacks(v.Parts[0]) || len(v.Parts) > 0 && !slices.ContainsFunc(v.Parts[min(1, len(v.Parts)-1):], lacks) {
			continue
		}
		problem("%s is required, and not attested by %s", what, trusted)
	}
}

// read reads the layers of a part, and holds its packages against what is attested of it.
func (v *verifiedImage) read(ctx context.Context, p *verifiedPart) error {
	if p.image == nil {
		return nil
	}
	contents, err := p.image.Read(ctx)
	if isWrongImage(err) {
		v.Problems = append(v.Problems, fmt.Sprintf("%s: %v", p.Platform, err))
		return nil
	}
	if err != nil {
		return err
	}
	p.Layers, p.Packages = len(contents.Layers), len(contents.Packages)
	for _, l := range contents.Layers {
		p.Files += l.Files
		p.Bytes += l.Size
	}
	if p.findings == nil {
		return nil
	}
	installed := map[string]string{}
	for _, pkg := range contents.Packages {
		installed[pkg.Name] = pkg.Version
	}
	for _, s := range p.findings.Signed {
		if s.Predicate != attest.PredicateSPDX {
			continue
		}
		missing, err := attest.Missing(s.Content, installed)
		switch {
		case err != nil:
			v.Problems = append(v.Problems, fmt.Sprintf("%s: %v", p.Platform, err))
		case len(missing) > 0:
			v.Problems = append(v.Problems, fmt.Sprintf("%s: the SBOM by %s does not tell of %s", p.Platform, s.Key, strings.Join(missing, ", ")))
		}
	}
	return nil
}

func (a *app) printVerified(v *verifiedImage) {
	fmt.Fprintln(a.out, plain(v.Reference))
	var rows [][]string
	for _, p := range v.Parts {
		rows = append(rows, []string{"  " + p.Platform, p.Digest})
		for _, c := range p.Claims {
			text := "by " + c.Key
			if c.Called != "" && c.Type == "signature" {
				text += " as " + c.Called
			}
			if c.Says != "" {
				text += ": " + c.Says
			}
			rows = append(rows, []string{"    " + c.Type, text})
		}
		if p.Others > 0 {
			rows = append(rows, []string{"    others", fmt.Sprintf("%d signed by other keys", p.Others)})
		}
		if p.Layers > 0 {
			rows = append(rows, []string{"    content", fmt.Sprintf("%s, %s, %s, %s", count(p.Layers, "layer"), count(p.Files, "file"), shortSize(p.Bytes), count(p.Packages, "package"))})
		}
	}
	for n, row := range rows {
		rows[n] = []string{plain(row[0]), plain(row[1])}
	}
	table(a.out, nil, rows)
	if v.Verified {
		fmt.Fprintln(a.out, "  verified")
	} else {
		fmt.Fprintln(a.out, "  NOT verified")
	}
}
