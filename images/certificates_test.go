package images_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	bignumber "math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"

	"github.com/tarn-build/tarn/images"
)

// authority makes a certificate of a certificate authority, as PEM.
func authority(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: bignumber.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func indented(text string, n int) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+strings.Repeat(" ", n))
}

// javaList is a key store of Java with one certificate.
func javaList(t *testing.T, certificate string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(certificate))
	list := keystore.New()
	if err := list.SetTrustedCertificateEntry("old", keystore.TrustedCertificateEntry{CreationTime: time.Unix(1, 0), Certificate: keystore.Certificate{Type: "X.509", Content: block.Bytes}}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := list.Store(&b, []byte("changeit")); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// keytool lists a key store as Java's own tool reads it.
func keytool(t *testing.T, data string) string {
	t.Helper()
	tool, err := exec.LookPath("keytool")
	if err != nil {
		t.Skip("there is no keytool (of a Java)")
	}
	file := filepath.Join(t.TempDir(), "cacerts")
	if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tool, "-list", "-keystore", file, "-storepass", "changeit").CombinedOutput()
	if err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
	return string(out)
}

// The bundle is made of what ca-certificates distributes and chooses, of the machine's
// own, and of what the image file names; Java's list of that bundle.
func TestCertificatesAreMade(t *testing.T) {
	one, two, own, named := authority(t, "One"), authority(t, "Two"), authority(t, "Own"), authority(t, "Named")
	image := mustCompose(t, openStore(t), fmt.Sprintf("contents: {packages: [ca, java]}\nfiles:\n  - {path: /usr/local/share/ca-certificates/own.crt, content: %q}\ncertificates:\n  additional:\n    - name: corp\n      content: |\n        %s\n", own, indented(named, 8)),
		contents{name: "ca", version: "1-r0", scripts: map[string]string{".post-install": "#!/bin/sh\nupdate-ca-certificates --fresh >/dev/null\n"},
			files: []string{"0644 usr/share/ca-certificates/mozilla/one.crt " + one, "0644 usr/share/ca-certificates/mozilla/two.crt " + two, "0644 etc/ca-certificates.conf # chosen\nmozilla/one.crt\n!mozilla/two.crt\n"}},
		contents{name: "java", version: "17-r0", scripts: map[string]string{".trigger": "#!/bin/sh\ntrust extract --overwrite --format=java-cacerts --filter=ca-anchors --purpose server-auth /etc/ssl/certs/java/cacerts\n"},
			lines: []string{"triggers = /usr/lib/jvm"}, files: []string{"0755 etc/ssl/certs/java/", "usr/lib/jvm/java-17/lib/security/cacerts -> /etc/ssl/certs/java/cacerts"}},
	)
	want := one + "\n" + own + "\n" + named + "\n"
	bundle := topFile(t, image, "etc/ssl/certs/ca-certificates.crt")
	if sorted(bundle) != sorted(want) {
		t.Errorf("bundle: got\n%s\nwant\n%s", bundle, want)
	}
	java := topFile(t, image, "etc/ssl/certs/java/cacerts")
	for name, data := range map[string]string{"etc/ssl/certs/.ca-certificates.crt.sha256": bundle, "etc/ssl/certs/java/.cacerts.sha256": java} {
		want := fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(data)), strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "."), ".sha256"))
		if got := topFile(t, image, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(list(t, image), "f0444 0:0 /etc/ssl/certs/.ca-certificates.crt.sha256 ") {
		t.Error("the digest of the bundle has not the mode 0444")
	}
	listed := keytool(t, java)
	for _, want := range []string{"Keystore type: JKS", "Your keystore contains 3 entries", "one-", "own-", "named-", "trustedCertEntry"} {
		if !strings.Contains(listed, want) {
			t.Errorf("keytool does not say %q:\n%s", want, listed)
		}
	}
}

func sorted(pems string) string {
	parts := strings.SplitAfter(pems, "-----END CERTIFICATE-----\n\n")
	m := map[string]int{}
	for _, p := range parts {
		m[p]++
	}
	return fmt.Sprint(m)
}

// What is added joins the bundles and the list of Java that packages bring, once.
func TestCertificatesAreAdded(t *testing.T) {
	old, named, provided := authority(t, "Old"), authority(t, "Named"), authority(t, "Provided")
	packages := []contents{
		{name: "bundle", version: "1-r0", files: []string{"0644 etc/ssl/certs/ca-certificates.crt " + old, "0644 etc/ssl/certs/java/cacerts " + javaList(t, old), "0644 kaniko/ssl/certs/ca-certificates.crt x"}},
		{name: "corp", version: "1-r0", lines: []string{"provides = custom-ca-certificates"}, files: []string{"0644 usr/share/corp/ca.pem " + provided + old}},
	}
	text := fmt.Sprintf("contents: {packages: [bundle, corp]}\ncertificates:\n  providers: [custom-ca-certificates]\n  additional:\n    - name: Named\n      content: |\n        %s\n", indented(named, 8))
	st := openStore(t)
	image := mustCompose(t, st, text, packages...)
	if got, want := topFile(t, image, "etc/ssl/certs/ca-certificates.crt"), old+named+"\n"+provided+"\n"; got != want {
		t.Errorf("bundle: got\n%s\nwant\n%s", got, want)
	}
	if got, want := topFile(t, image, "kaniko/ssl/certs/ca-certificates.crt"), "x\n"+named+"\n"+provided+"\n"+old+"\n"; got != want {
		t.Errorf("kaniko's bundle: got\n%s\nwant\n%s", got, want)
	}
	java := topFile(t, image, "etc/ssl/certs/java/cacerts")
	if other := topFile(t, mustCompose(t, openStore(t), text, packages...), "etc/ssl/certs/java/cacerts"); other != java {
		t.Error("Java's list has other bytes the second time")
	}
	listed := keytool(t, java)
	for _, want := range []string{"Your keystore contains 3 entries", "old, Jan 1, 1970, trustedCertEntry", "named-", "pkg-", "Nov 14, 2023"} {
		if !strings.Contains(listed, want) {
			t.Errorf("keytool does not say %q:\n%s", want, listed)
		}
	}
	for _, test := range []struct{ summary, text, want string }{
		{"no bundle", strings.ReplaceAll(text, "[bundle, corp]", "[corp]"), "certificates are to be added, and the image has no bundle of certificates"},
		{"no provider", strings.ReplaceAll(text, "custom-ca-certificates", "other-certificates"), `no package of the image provides "other-certificates"`},
	} {
		chosen := packages
		if test.summary == "no bundle" {
			chosen = packages[1:]
		}
		_, err := images.Compose(t.Context(), load(t, test.text), put(t, st, chosen...), images.Options{Arch: "x86_64", Store: st})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.summary, err, test.want)
		}
	}
}
