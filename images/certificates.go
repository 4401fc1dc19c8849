package images

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"

	"github.com/tarn-build/tarn/pkg/rootfs"
)

// bundles are the files that programs read certificate authorities from, where an image has them.
var bundles = []string{bundlePath, "/var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem", "/kaniko/ssl/certs/ca-certificates.crt"}

const (
	// javaTrust is Java's own list, in a format of its own.
	javaTrust = "/etc/ssl/certs/java/cacerts"
	// Where ca-certificates keeps what update-ca-certificates makes the bundle of: its own
	// certificates, those that /etc/ca-certificates.conf chooses of them, and the machine's.
	distributed, chosen, local = "usr/share/ca-certificates", "etc/ca-certificates.conf", "usr/local/share/ca-certificates"
)

// authority is a certificate that the image is to trust.
type authority struct {
	alias string // in Java's list
	der   []byte
}

func (a *authority) fingerprint() string {
	digest := sha256.Sum256(a.der)
	return hex.EncodeToString(digest[:])
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.der})
}

// certificates does what update-ca-certificates and the scripts around it do: it makes
// the bundle where a package brings certificates without one, adds to every bundle what
// the image file names and what stands among the machine's own, makes Java's list where
// a Java waits for it, and notes the digest of each beside it, as apko does.
func (c *composer) certificates() error {
	added, err := c.addedAuthorities()
	if err != nil {
		return err
	}
	if err := c.makeBundle(); err != nil {
		return err
	}
	own, err := c.localAuthorities()
	if err != nil {
		return err
	}
	found := false
	for _, bundle := range bundles {
		if _, there := c.tree.Stat(bundle); !there {
			continue
		}
		found = true
		if err := c.extendBundle(bundle, append(slices.Clone(added), own...)); err != nil {
			return err
		}
	}
	if !found && len(added) > 0 {
		return problems(c.spec.Certificates.Here.Problem("add a package that brings it, e.g. ca-certificates-bundle", "certificates are to be added, and the image has no bundle of certificates"))
	}
	if err := c.javaTrust(append(added, own...)); err != nil {
		return err
	}
	return c.digests()
}

// addedAuthorities are those that the image file has, which are written to files of
// their own as well, and those of packages that provide one of the names that it names.
func (c *composer) addedAuthorities() ([]authority, error) {
	var added []authority
	for i := range c.spec.Certificates.Additional {
		named := &c.spec.Certificates.Additional[i]
		block, _ := pem.Decode([]byte(named.Content))
		if block == nil {
			return nil, problems(named.Here.Problem("", "certificate %q is not in PEM", named.Name))
		}
		a := authority{der: block.Bytes}
		a.alias = named.Name + "-" + a.fingerprint()
		if err := c.tree.WriteFile(local+"/"+a.alias+".crt", a.pem(), 0o644); err != nil {
			return nil, err
		}
		added = append(added, a)
	}
	provided, err := c.provided()
	return append(added, provided...), err
}

// provided gives the certificates (*.crt, *.pem) of packages that provide one of the names.
func (c *composer) provided() ([]authority, error) {
	providers := map[string]bool{}
	for i, name := range c.spec.Certificates.Providers {
		any := false
		for _, p := range c.packages {
			for _, d := range p.Info.Provides {
				if d.Name == name {
					providers[p.Info.Name], any = true, true
				}
			}
		}
		if !any {
			place := c.spec.Certificates.providerPlaces()[i]
			return nil, problems(place.Problem("", "no package of the image provides %q", name))
		}
	}
	if len(providers) == 0 {
		return nil, nil
	}
	var found []authority
	for n := range c.tree.All() {
		if !providers[n.Owner] || !isCertificateFile(n) {
			continue
		}
		in, err := c.authorities(n.Path)
		if err != nil {
			return nil, err
		}
		for _, a := range in {
			a.alias = "pkg-" + a.fingerprint()
			found = append(found, a)
		}
	}
	return found, nil
}

func isCertificateFile(n *rootfs.Node) bool {
	ext := path.Ext(n.Path)
	return n.Mode.IsRegular() && (ext == ".crt" || ext == ".pem")
}

// authorities reads the certificates of a file in PEM, each under the file's name.
func (c *composer) authorities(file string) ([]authority, error) {
	data, err := c.tree.ReadFile(file)
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(path.Base(file), path.Ext(file))
	var all []authority
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return all, nil
		}
		if data = rest; block.Type == "CERTIFICATE" {
			a := authority{der: block.Bytes}
			a.alias = name + "-" + a.fingerprint()
			all = append(all, a)
		}
	}
}

// localAuthorities are those that stand among the machine's own, whoever brought them.
func (c *composer) localAuthorities() ([]authority, error) {
	var all []authority
	for _, n := range c.tree.Below(local) {
		if !isCertificateFile(n) || path.Ext(n.Path) != ".crt" {
			continue
		}
		in, err := c.authorities(n.Path)
		if err != nil {
			return nil, err
		}
		all = append(all, in...)
	}
	return all, nil
}

// makeBundle makes the bundle of the certificates that a package distributes one by
// one, in the order of their paths, where no package brings it. Without the list of
// those that are chosen all are.
func (c *composer) makeBundle() error {
	if _, there := c.tree.Stat(bundlePath); there {
		return nil
	}
	wanted := func(string) bool { return true }
	if _, there := c.tree.Stat(chosen); there {
		data, err := c.tree.ReadFile(chosen)
		if err != nil {
			return err
		}
		list := map[string]bool{}
		for line := range strings.Lines(string(data)) {
			list[strings.TrimSpace(line)] = true // a line of one that is not chosen begins with "!"
		}
		wanted = func(name string) bool { return list[name] }
	}
	var bundle []byte
	for _, n := range c.tree.Below(distributed) {
		if !n.Mode.IsRegular() || path.Ext(n.Path) != ".crt" || !wanted(strings.TrimPrefix(n.Path, distributed+"/")) {
			continue
		}
		in, err := c.authorities(n.Path)
		if err != nil {
			return err
		}
		for _, a := range in {
			bundle = append(append(bundle, a.pem()...), '\n')
		}
	}
	if bundle == nil {
		return nil
	}
	return c.tree.WriteFile(bundlePath, bundle, 0o644)
}

// extendBundle adds to a bundle those that it does not have.
func (c *composer) extendBundle(bundle string, add []authority) error {
	if len(add) == 0 {
		return nil
	}
	data, err := c.tree.ReadFile(bundle)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	in, err := c.authorities(bundle)
	if err != nil {
		return err
	}
	for _, a := range in {
		have[string(a.der)] = true
	}
	extended := slices.Clone(data)
	for _, a := range add {
		if have[string(a.der)] {
			continue
		}
		have[string(a.der)] = true
		if len(extended) > 0 && extended[len(extended)-1] != '\n' {
			extended = append(extended, '\n')
		}
		extended = append(append(extended, a.pem()...), '\n')
	}
	if len(extended) == len(data) {
		return nil
	}
	return c.tree.WriteFile(bundle, extended, 0)
}

// javaPassword opens Java's list everywhere: it keeps no secret, and guards against
// damage by accident alone.
const javaPassword = "changeit"

// javaTrust adds to Java's list, which is a Java key store (JKS), or makes it of the
// bundle where a Java has a link to it that leads nowhere.
func (c *composer) javaTrust(add []authority) error {
	at := javaTrust
	_, there := c.tree.Stat(at)
	if !there {
		if at = c.missingJavaTrust(); at == "" {
			return nil
		}
		in, err := c.authorities(bundlePath)
		if err != nil {
			return nil // no bundle: nothing to trust
		}
		add = in // what was added is in it
	}
	if len(add) == 0 {
		return nil
	}
	list := keystore.New(keystore.WithOrderedAliases(), keystore.WithCaseExactAliases())
	have := map[string]bool{}
	if there {
		data, err := c.tree.ReadFile(at)
		if err != nil {
			return err
		}
		if err := list.Load(bytes.NewReader(data), []byte(javaPassword)); err != nil {
			return fmt.Errorf("read %s: %w\n  hint: certificates are added to Java key stores (JKS) with the password %q", at, err, javaPassword)
		}
		for _, alias := range list.Aliases() {
			if e, err := list.GetTrustedCertificateEntry(alias); err == nil {
				have[string(e.Certificate.Content)] = true
			}
		}
	}
	changed := false
	for _, a := range add {
		if have[string(a.der)] {
			continue
		}
		have[string(a.der)], changed = true, true
		alias := strings.ToLower(a.alias) // as keytool has them
		if !there {
			alias = subjectAlias(&a)
		}
		entry := keystore.TrustedCertificateEntry{CreationTime: time.Unix(c.tree.Epoch, 0), Certificate: keystore.Certificate{Type: "X.509", Content: a.der}}
		if err := list.SetTrustedCertificateEntry(alias, entry); err != nil {
			return fmt.Errorf("write %s: %w", at, err)
		}
	}
	if !changed {
		return nil
	}
	var data bytes.Buffer
	if err := list.Store(&data, []byte(javaPassword)); err != nil {
		return fmt.Errorf("write %s: %w", at, err)
	}
	return c.tree.WriteFile(at, data.Bytes(), 0)
}

// missingJavaTrust is where a Java of the image looks for its list and finds none, or "".
func (c *composer) missingJavaTrust() string {
	for n := range c.tree.All() {
		if n.Mode.Type() != fs.ModeSymlink || !strings.HasSuffix(n.Path, "/lib/security/cacerts") {
			continue
		}
		if _, there := c.tree.Stat(n.Path); there {
			continue
		}
		if path.IsAbs(n.Target) {
			return n.Target
		}
		return path.Join("/", path.Dir(n.Path), n.Target)
	}
	if n, found := c.tree.Stat(path.Dir(javaTrust)); found && n.Mode.IsDir() {
		return javaTrust
	}
	return ""
}

// subjectAlias names a certificate by whom it is of, as far as letters go, and by its
// fingerprint, since several are of one name.
func subjectAlias(a *authority) string {
	name := ""
	if certificate, err := x509.ParseCertificate(a.der); err == nil {
		subject := certificate.Subject
		for _, candidate := range append(append([]string{subject.CommonName}, subject.OrganizationalUnit...), subject.Organization...) {
			if candidate != "" {
				name = candidate
				break
			}
		}
	}
	name = strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }), "-")
	return strings.TrimPrefix(name+"-"+a.fingerprint()[:16], "-")
}

// digests notes beside every bundle what it was when it was composed, for sha256sum -c.
func (c *composer) digests() error {
	for _, bundle := range append(slices.Clone(bundles), javaTrust) {
		n, there := c.tree.Stat(bundle)
		if !there || !n.Mode.IsRegular() {
			continue
		}
		dir, name := path.Split(bundle)
		if err := c.tree.WriteFile(dir+"."+name+".sha256", []byte(n.Sum+"  "+name+"\n"), 0o444); err != nil {
			return err
		}
	}
	return nil
}
