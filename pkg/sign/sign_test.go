package sign_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sign"
)

var newKey = sync.OnceValue(func() *sign.Key {
	key, err := sign.Generate("test.rsa", 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func TestWriteLoadSign(t *testing.T) {
	old := syscall.Umask(0o077) // modes do not depend on it
	defer syscall.Umask(old)
	dir := t.TempDir()
	key := newKey()
	if err := key.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s %o", e.Name(), info.Mode()))
	}
	if got, want := strings.Join(names, ", "), "test.rsa 600, test.rsa.pub 644"; got != want {
		t.Errorf("files: got %s, want %s", got, want)
	}
	loaded, err := sign.Load(filepath.Join(dir, "test.rsa"))
	if err != nil {
		t.Fatal(err)
	}
	if loaded.KeyName() != "test.rsa.pub" {
		t.Errorf("name: got %q", loaded.KeyName())
	}
	digest := sha256.Sum256([]byte("text"))
	first, err := key.Sign(digest[:])
	if err != nil {
		t.Fatal(err)
	}
	second, err := loaded.Sign(digest[:])
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("the key that was read signs otherwise: %v", err)
	}
	var ring sign.Keyring
	if err := ring.Load(dir); err != nil {
		t.Fatal(err)
	}
	public := ring.PublicKey("test.rsa.pub")
	if public == nil || len(ring.Keys()) != 1 {
		t.Fatalf("keys: %v", ring.Keys())
	}
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], first); err != nil {
		t.Error(err)
	}
	if _, err := key.Sign([]byte("short")); err == nil {
		t.Error("what is no SHA-256 was signed")
	}
}

func TestKeysAreNeverOverwritten(t *testing.T) {
	for _, there := range []string{"test.rsa", "test.rsa.pub"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, there), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := newKey().WriteFiles(dir)
		if err == nil || !strings.Contains(err.Error(), there+" is there already") {
			t.Errorf("%s: got %v, want that it is there already", there, err)
		}
		left, _ := os.ReadDir(dir)
		data, _ := os.ReadFile(filepath.Join(dir, there))
		if len(left) != 1 || string(data) != "old" {
			t.Errorf("%s: left %v, %q", there, left, data)
		}
	}
	if err := newKey().WriteFiles(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that the folder is not there", err)
	}
}

// TestWritersAtOnce is the first use of a workspace's key by several processes: one
// of them makes it, and the others find that one.
func TestWritersAtOnce(t *testing.T) {
	dir := t.TempDir()
	keys := []*sign.Key{newKey(), newKey(), newKey()}
	errs := make([]error, len(keys))
	var group sync.WaitGroup
	for i, key := range keys {
		group.Go(func() { errs[i] = key.WriteFiles(dir) })
	}
	group.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v, want that it is there", err)
		}
	}
	if won != 1 {
		t.Errorf("%d wrote the key, want 1", won)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}

// TestWritePublic makes the half that is missing, and leaves the one that is there.
func TestWritePublic(t *testing.T) {
	dir := t.TempDir()
	key := newKey()
	if err := key.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	public := filepath.Join(dir, "test.rsa.pub")
	want, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(public); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := key.WritePublic(dir); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(public); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestLoad(t *testing.T) {
	private := must(rsa.GenerateKey(rand.Reader, 2048))
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	t.Setenv("GODEBUG", "rsa1024min=0")
	short := must(rsa.GenerateKey(rand.Reader, 1024))
	pkcs1 := encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private))
	public := encode("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&private.PublicKey)))
	encrypted := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("x")}))
	for name, test := range map[string]struct{ file, text, want string }{
		"PKCS#1":             {"a.rsa", pkcs1, ""},
		"PKCS#8":             {"a.rsa", encode("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(private))), ""},
		"text before it":     {"a.rsa", "# mine\n" + pkcs1, ""},
		"another name":       {"a.pem", pkcs1, "expected a file name that ends in .rsa"},
		"no name":            {".rsa", pkcs1, "expected a file name that ends in .rsa"},
		"elliptic":           {"a.rsa", encode("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(other))), "it is no RSA key"},
		"elliptic, old form": {"a.rsa", encode("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(other))), `it is no RSA key, and packages are signed with RSA only`},
		"short":              {"a.rsa", encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(short)), "1024 bits are too few: at least 2048"},
		"public":             {"a.rsa", public, "it is a public key, expected a private one"},
		"encrypted":          {"a.rsa", encrypted, "it is encrypted, and no passphrase"},
		"encrypted PKCS#8":   {"a.rsa", encode("ENCRYPTED PRIVATE KEY", []byte("x")), "it is encrypted, and no passphrase"},
		"text":               {"a.rsa", "hello", "expected a private key in PEM, found none"},
		"malformed":          {"a.rsa", encode("RSA PRIVATE KEY", []byte("hello")), "malformed rsa private key"},
		"huge":               {"a.rsa", strings.Repeat("x", 1<<20), "expected a file of at most 65536 bytes"},
	} {
		path := filepath.Join(t.TempDir(), test.file)
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := sign.Load(path)
		if test.want == "" {
			if err != nil || key.KeyName() != test.file+".pub" {
				t.Errorf("%s: got %v, %v", name, key, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	if _, err := sign.Load(filepath.Join(t.TempDir(), "a.rsa")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that it is not there", err)
	}
	for name, test := range map[string]struct{ file, text, want string }{
		"PKIX":      {"a.rsa.pub", public, ""},
		"PKCS#1":    {"a.rsa.pub", encode("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&private.PublicKey)), ""},
		"a name":    {"a.pub", public, "expected a file name that ends in .rsa.pub"},
		"a path":    {"x/a.rsa.pub", public, "expected a file name"},
		"elliptic":  {"a.rsa.pub", encode("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&other.PublicKey))), "it is no RSA key"},
		"short":     {"a.rsa.pub", encode("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&short.PublicKey))), "1024 bits are too few"},
		"private":   {"a.rsa.pub", pkcs1, "it is a private key, expected a public one"},
		"other":     {"a.rsa.pub", encode("CERTIFICATE", nil), `it is a "CERTIFICATE"`},
		"text":      {"a.rsa.pub", "hello", "found none"},
		"malformed": {"a.rsa.pub", encode("PUBLIC KEY", []byte("x")), "malformed public key"},
	} {
		_, err := sign.ParsePublic(test.file, []byte(test.text))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("public %s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		bits int
		want string
	}{
		{"a", 2048, "ends in .rsa"}, {"x/a.rsa", 2048, "ends in .rsa"}, {"a.rsa", 1024, "1024 bits are out of range"}, {"a.rsa", 1 << 20, "out of range"},
	} {
		if _, err := sign.Generate(test.name, test.bits); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Generate(%q, %d): got %v, want %q", test.name, test.bits, err, test.want)
		}
	}
}

func TestKeyring(t *testing.T) {
	dir := t.TempDir()
	if err := newKey().WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"README.md": "not a key", "other.pub": "nor this"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ring := &sign.Keyring{}
	if err := errors.Join(ring.Load(dir), ring.Load(filepath.Join(dir, "test.rsa.pub"))); err != nil {
		t.Fatal(err)
	}
	if ring.PublicKey("test.rsa") != nil || ring.PublicKey("") != nil || ring.AcceptsSHA1() {
		t.Error("the ring trusts more than it was told")
	}
	other, err := sign.Generate("test.rsa", 2048)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Add(other.Public()); err == nil || !strings.Contains(err.Error(), "there is another key of that name") {
		t.Errorf("got %v, want that there is another", err)
	}
	if err := ring.Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that it is not there", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad.rsa.pub"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ring.Load(dir); err == nil || !strings.Contains(err.Error(), "bad.rsa.pub") {
		t.Errorf("got %v, want bad.rsa.pub named", err)
	}
	none := (*sign.Keyring)(nil)
	if none.PublicKey("test.rsa.pub") != nil || none.AcceptsSHA1() {
		t.Error("no ring trusts a key")
	}
}

// A key that is printed by mistake does not show itself.
func TestKeysDoNotPrintThemselves(t *testing.T) {
	key := newKey()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		if got := fmt.Sprintf(verb, key); len(got) > 200 || strings.Contains(got, "Primes") {
			t.Errorf("%s shows the key: %.200s", verb, got)
		}
	}
}

// Keys of ECDSA sign version 3 of the package format. Other tools' public keys lie in
// such folders too.
func TestECDSAKeys(t *testing.T) {
	dir := t.TempDir()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"curve.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "minisign.pub": []byte("untrusted comment: x\n"), "id_rsa.pub": []byte("ssh-rsa AAAA"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	id, err := adb.IDOf(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "curve.pub")} {
		ring := &sign.Keyring{}
		if err := ring.Load(path); err != nil {
			t.Fatal(err)
		}
		if name, key := ring.PublicKeyByID(id); name != "curve.pub" || !private.PublicKey.Equal(key) {
			t.Errorf("%s: got %q, %v", path, name, key)
		}
		if name, key := ring.PublicKeyByID(adb.KeyID{}); name != "" || key != nil {
			t.Errorf("%s: nobody's key is %q", path, name)
		}
		if ring.PublicKey("curve.pub") != nil || len(ring.Keys()) != 0 {
			t.Errorf("%s: it is taken for an RSA key", path)
		}
	}
	if err := new(sign.Keyring).Load(filepath.Join(dir, "minisign.pub")); err == nil {
		t.Error("a file that is no key was taken")
	}
	var none *sign.Keyring
	if name, key := none.PublicKeyByID(id); name != "" || key != nil {
		t.Error("no keyring has a key")
	}
	// A signer that signs any digest signs version 3.
	key := newKey()
	able, ok := sign.With(key.Public(), key3{key}).(apk.Signer3)
	if !ok {
		t.Fatal("a signer behind one method signs no version 3")
	}
	digest := sha512.Sum512([]byte("text"))
	if signature, err := able.SignSHA512(digest[:]); err != nil || rsa.VerifyPKCS1v15(key.Public().Key, crypto.SHA512, digest[:], signature) != nil {
		t.Errorf("%d bytes, %v", len(signature), err)
	}
	if _, err := sign.With(key.Public(), key).(apk.Signer3).SignSHA512(digest[:]); err == nil {
		t.Error("a signature over another digest was given")
	}
}

// key3 signs digests of both lengths, as a program would.
type key3 struct{ *sign.Key }

func (k key3) Sign(digest []byte) ([]byte, error) {
	if len(digest) == sha512.Size {
		return k.SignSHA512(digest)
	}
	return k.Key.Sign(digest)
}

// Whatever a file of a key has in it, it is a key that can be used, or an error that says
// nothing of what was read.
func FuzzKeys(f *testing.F) {
	dir := f.TempDir()
	if err := newKey().WriteFiles(dir); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"test.rsa", "test.rsa.pub"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"))
	work := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := sign.ParsePublic("x.rsa.pub", data); err == nil && p.Key.N.BitLen() < 2048 {
			t.Errorf("a key of %d bits was taken", p.Key.N.BitLen())
		}
		file := filepath.Join(work, "x.rsa")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := sign.Load(file)
		if err != nil {
			return
		}
		digest := sha256.Sum256(data)
		signature, err := key.Sign(digest[:])
		if err != nil || rsa.VerifyPKCS1v15(key.Public().Key, crypto.SHA256, digest[:], signature) != nil {
			t.Errorf("a key that was read does not sign: %v", err)
		}
	})
}
