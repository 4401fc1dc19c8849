package sign_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/sign"
)

// openssl runs the other program that knows these files.
func openssl(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no openssl")
		}
		t.Skip("no openssl on this machine")
	}
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func known(text string) sign.Passphrase {
	return func(string) ([]byte, error) { return []byte(text), nil }
}

// TestEncryptedKeys reads what openssl encrypted, and lets openssl read ours.
func TestEncryptedKeys(t *testing.T) {
	dir := t.TempDir()
	if err := newKey().WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "test.rsa")
	digest := sha256.Sum256([]byte("text"))
	want, err := newKey().Sign(digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"PBES2, PBKDF2": {"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", plain},
		"PBES2, scrypt": {"pkcs8", "-topk8", "-scrypt", "-in", plain},
		"old form":      {"rsa", "-traditional", "-aes128", "-in", plain},
	} {
		path := filepath.Join(t.TempDir(), "test.rsa")
		openssl(t, append(args, "-passout", "pass:s3cret", "-out", path)...)
		key, err := sign.LoadWith(path, known("s3cret"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := key.Sign(digest[:]); err != nil || string(got) != string(want) {
			t.Errorf("%s: another key was read: %v", name, err)
		}
		for _, passphrase := range []sign.Passphrase{nil, known("wrong"), known("")} {
			_, err := sign.LoadWith(path, passphrase)
			locked, is := errors.AsType[*sign.LockedError](err)
			if !is || locked.Wrong != (passphrase != nil) {
				t.Errorf("%s: without the passphrase: got %v", name, err)
			}
		}
		if _, err := sign.LoadWith(path, func(string) ([]byte, error) { return nil, errors.New("nobody answers") }); err == nil || !strings.Contains(err.Error(), "nobody answers") {
			t.Errorf("%s: got %v, want that nobody answers", name, err)
		}
	}
	for name, form := range map[string]sign.Form{"BEGIN RSA PRIVATE KEY": {}, "BEGIN PRIVATE KEY": {PKCS8: true}, "BEGIN ENCRYPTED PRIVATE KEY": {Passphrase: []byte("s3cret")}} {
		dir := t.TempDir()
		if err := newKey().WriteFilesAs(dir, form); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "test.rsa")
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), name) {
			t.Errorf("got %.40q, %v, want %q", data, err, name)
		}
		key, err := sign.LoadWith(path, known("s3cret"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := key.Sign(digest[:]); err != nil || string(got) != string(want) {
			t.Errorf("%s: another key was read: %v", name, err)
		}
		openssl(t, "rsa", "-in", path, "-passin", "pass:s3cret", "-check", "-noout")
	}
	if err := newKey().WriteFilesAs(t.TempDir(), sign.Form{Passphrase: []byte(" ")}); err == nil {
		t.Error("a key was encrypted with nothing")
	}
}

// TestProgramThatSigns has openssl sign, as a KMS's client would.
func TestProgramThatSigns(t *testing.T) {
	dir := t.TempDir()
	if err := newKey().WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	openssl(t, "version")
	private, public := filepath.Join(dir, "test.rsa"), filepath.Join(dir, "test.rsa.pub")
	other, err := sign.Generate("other.rsa", 2048)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("text"))
	command := "openssl pkeyutl -sign -pkeyopt digest:sha256 -inkey "
	signer, err := sign.Open("exec:"+public+" "+command+"'"+private+"'", nil)
	if err != nil {
		t.Fatal(err)
	}
	if signer.KeyName() != "test.rsa.pub" {
		t.Errorf("name: got %s", signer.KeyName())
	}
	signature, err := signer.Sign(digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(newKey().Public().Key, crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
	marker := filepath.Join(dir, "ran")
	for name, want := range map[string]string{
		"exec:" + public + " " + command + filepath.Join(dir, "other.rsa"): "is not one by this key",
		"exec:" + public + " cat":                                          "signature of 32 bytes",
		"exec:" + public + " true":                                         "gave no signature",
		"exec:" + public + " false":                                        "false: exit status 1",
		"exec:" + public + " no-such-signer":                               `no program "no-such-signer"`,
		"exec:" + public + " sh -c 'echo no such key: secret >&2; exit 3'": "sh: exit status 3: no such key",
		"exec:" + public + " echo $(touch " + marker + ")":                 "",
		"exec:" + public + " 'unended":                                     "Unterminated",
		"exec:openssl pkeyutl":                                             "the public key's file first",
		"exec:" + public:                                                   "the public key's file first",
		"exec:" + filepath.Join(dir, "none.rsa.pub") + " cat":              "no such file",
		"exec:" + private + " cat":                                         "the public key's file first",
	} {
		signer, err := sign.Open(name, nil)
		if err == nil {
			_, err = signer.Sign(digest[:])
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a shell read the command")
	}
	if signer, err := sign.Open(private, nil); err != nil || signer.KeyName() != "test.rsa.pub" {
		t.Errorf("a file: got %v, %v", signer, err)
	}
	if text := fmt.Sprint(signer); strings.Contains(text, "D:") {
		t.Errorf("the key is printed: %s", text)
	}
}
