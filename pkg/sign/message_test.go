package sign_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/sign"
)

// TestMessageKeys signs with keys of every kind and form, and verifies with their public half.
func TestMessageKeys(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	openssl(t, "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", path("ec-old.key"))
	openssl(t, "pkcs8", "-topk8", "-nocrypt", "-in", path("ec-old.key"), "-out", path("ec.key"))
	openssl(t, "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", path("ec.key"), "-passout", "pass:s3cret", "-out", path("ec-locked.key"))
	openssl(t, "genpkey", "-algorithm", "ed25519", "-out", path("ed.key"))
	openssl(t, "genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path("rsa.key"))
	openssl(t, "ecparam", "-genkey", "-name", "secp384r1", "-noout", "-out", path("p384.key"))
	for name, passphrase := range map[string]string{"ours.key": "", "ours-locked.key": "s3cret", "ours-open.key": "-"} {
		key, err := sign.GenerateMessageKey(name)
		if err != nil {
			t.Fatal(err)
		}
		secret := []byte(passphrase)
		if passphrase == "" {
			secret = nil
		} else if passphrase == "-" {
			secret = []byte{} // as cosign does without a passphrase
		}
		if err := key.WriteFiles(dir, secret); err != nil {
			t.Fatal(err)
		}
		if err := key.WriteFiles(dir, nil); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s was overwritten: %v", name, err)
		}
		if info, err := os.Stat(path(name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		data, err := os.ReadFile(path(name))
		if locked := strings.Contains(string(data), "ENCRYPTED SIGSTORE PRIVATE KEY"); err != nil || locked != (passphrase != "") {
			t.Errorf("%s: %.40q, %v", name, data, err)
		}
	}
	message := []byte("a message")
	for _, name := range []string{"ec-old.key", "ec.key", "ec-locked.key", "ed.key", "rsa.key", "ours.key", "ours-locked.key", "ours-open.key"} {
		passphrase := known("s3cret")
		if name == "ours-open.key" {
			passphrase = func(string) ([]byte, error) { return nil, nil } // nobody types one
		}
		s, err := sign.OpenMessageSigner(path(name), passphrase)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		signature, err := s.SignMessage(context.Background(), message)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := s.SignMessage(context.Background(), message); string(again) != string(signature) {
			t.Errorf("%s: another signature the second time", name)
		}
		text, err := sign.MarshalPublicKey(s.Public())
		if err != nil {
			t.Fatal(err)
		}
		public, err := sign.ParsePublicKey(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := sign.VerifyMessage(public, message, signature); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if sign.VerifyMessage(public, []byte("another"), signature) == nil {
			t.Errorf("%s: the signature holds for another message", name)
		}
		if _, is := public.(ed25519.PublicKey); is {
			continue
		}
		// The other program that knows these signatures.
		for file, data := range map[string][]byte{"public": text, "message": message, "signature": signature} {
			if err := os.WriteFile(path(file), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		openssl(t, "dgst", "-sha256", "-verify", path("public"), "-signature", path("signature"), path("message"))
	}
	for name, want := range map[string]string{
		"p384.key": "its curve is P-384, expected P-256",
		"ours.pub": "it is a public key, expected a private one",
		"none.key": "no such file",
	} {
		if _, err := sign.OpenMessageSigner(path(name), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	for _, name := range []string{"ours-locked.key", "ec-locked.key"} {
		for _, passphrase := range []sign.Passphrase{nil, known("wrong")} {
			_, err := sign.OpenMessageSigner(path(name), passphrase)
			if locked, is := errors.AsType[*sign.LockedError](err); !is || locked.Wrong != (passphrase != nil) {
				t.Errorf("%s: without the passphrase: got %v", name, err)
			}
		}
	}
}

// TestProgramThatSignsMessages has openssl sign, as a KMS's client would.
func TestProgramThatSignsMessages(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one.key", "two.key"} {
		key, err := sign.GenerateMessageKey(name)
		if err == nil {
			err = key.WriteFiles(dir, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	openssl(t, "version")
	private, public := filepath.Join(dir, "one.key"), filepath.Join(dir, "one.pub")
	command := "exec:" + public + " openssl pkeyutl -sign -inkey "
	s, err := sign.OpenMessageSigner(command+private, nil)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := s.SignMessage(context.Background(), []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := sign.LoadPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := sign.VerifyMessage(key, []byte("text"), signature); err != nil {
		t.Error(err)
	}
	other, err := sign.OpenMessageSigner(command+filepath.Join(dir, "two.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.SignMessage(context.Background(), []byte("text")); err == nil || !strings.Contains(err.Error(), "is not one by one.pub") {
		t.Errorf("another key: got %v", err)
	}
}
