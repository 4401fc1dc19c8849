package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kballard/go-shellquote"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"github.com/tarn-build/tarn/pkg/host"
)

// MessageSigner signs messages as sigstore's tools do: ECDSA over P-256 and SHA-256 (the
// signature is ASN.1), RSASSA-PKCS1-v1_5 over SHA-256, or Ed25519.
type MessageSigner interface {
	// Name is what messages call the key: the file of its public half, where it has one.
	Name() string
	Public() crypto.PublicKey
	SignMessage(ctx context.Context, message []byte) ([]byte, error)
}

// OpenMessageSigner opens the signer of a name: the file of a private key in PEM, of any
// kind that cosign reads or writes (also encrypted), or, as for Open,
//
//	exec:NAME.pub PROGRAM ARGUMENT...
//
// whose program reads a SHA-256 digest, 32 bytes, and writes the signature of it by ECDSA
// in ASN.1, or by RSASSA-PKCS1-v1_5.
func OpenMessageSigner(name string, passphrase Passphrase) (MessageSigner, error) {
	if command, isProgram := strings.CutPrefix(name, execPrefix); isProgram {
		words, err := shellquote.Split(command)
		if err != nil {
			return nil, fmt.Errorf("signer %q: %v", name, err)
		}
		if len(words) < 2 || !strings.HasSuffix(words[0], ecdsaSuffix) {
			return nil, fmt.Errorf("signer %q: expected exec:NAME.pub PROGRAM ARGUMENT..., the public key's file first", name)
		}
		public, err := LoadPublicKey(words[0])
		if err != nil {
			return nil, err
		}
		if _, is := public.(ed25519.PublicKey); is {
			return nil, fmt.Errorf("key %s: Ed25519 signs whole messages, and a program is given a digest", words[0])
		}
		return &messageProgram{name: filepath.Base(words[0]), public: public, command: words[1:]}, nil
	}
	data, err := readFile(name)
	if err != nil {
		return nil, err
	}
	parsed, err := parsePrivate(data, name, passphrase)
	if _, locked := errors.AsType[*LockedError](err); locked {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key %s: it does not sign", name)
	}
	if err := checkKind(private.Public()); err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	return &MessageKey{name: filepath.Base(name), private: private}, nil
}

// checkKind refuses keys that sigstore's tools would not sign with, or would over another
// hash.
func checkKind(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return fmt.Errorf("its curve is %s, expected P-256", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		return checkBits(k.N.BitLen())
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("a %T does not sign here: expected ECDSA, RSA or Ed25519", key)
	}
	return nil
}

// MessageKey is a private key in memory that signs messages. It never shows itself when it
// is printed.
type MessageKey struct {
	name    string
	private crypto.Signer
}

// GenerateMessageKey makes a key of ECDSA over P-256. name is that of its file, e.g.
// image.key.
func GenerateMessageKey(name string) (*MessageKey, error) {
	if err := checkName(name, messageSuffix); err != nil {
		return nil, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &MessageKey{name, private}, nil
}

// messageSuffix ends the names of files of private keys that sign messages, as cosign's do.
const messageSuffix = ".key"

// Name is that of its file.
func (k *MessageKey) Name() string { return k.name }

// String is the key's name.
func (k *MessageKey) String() string { return k.name }

// GoString is the key's name.
func (k *MessageKey) GoString() string { return "sign.MessageKey(" + k.name + ")" }

// Public is the public half.
func (k *MessageKey) Public() crypto.PublicKey { return k.private.Public() }

// SignMessage signs. The same message gives the same signature.
func (k *MessageKey) SignMessage(_ context.Context, message []byte) ([]byte, error) {
	if key, is := k.private.(ed25519.PrivateKey); is {
		return ed25519.Sign(key, message), nil
	}
	digest := sha256.Sum256(message)
	// Without a source of chance ECDSA's signature is that of RFC 6979.
	return k.private.Sign(nil, digest[:], crypto.SHA256)
}

// PublicPath is where the public half of a private key's file lies: FILE.pub beside
// FILE.key.
func PublicPath(private string) string {
	return strings.TrimSuffix(private, messageSuffix) + ecdsaSuffix
}

// WriteFiles writes NAME.key, with mode 0600, and NAME.pub into a folder; neither is
// overwritten. With a passphrase the private half is encrypted in the form of sigstore's
// tools, without one it is PKCS#8.
func (k *MessageKey) WriteFiles(dir string, passphrase []byte) error {
	private, public := filepath.Join(dir, k.name), filepath.Join(dir, PublicPath(k.name))
	for _, path := range []string{private, public} {
		if _, err := os.Lstat(path); err == nil {
			return &existsError{path}
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	if passphrase != nil {
		locked, err := encrypted.Encrypt(der, passphrase)
		if err != nil {
			return err
		}
		block = &pem.Block{Type: sigstoreKey, Bytes: locked}
	}
	text, err := MarshalPublicKey(k.Public())
	if err != nil {
		return err
	}
	if err := create(private, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	if err := create(public, text, 0o644); err != nil {
		_ = os.Remove(private)
		return err
	}
	return nil
}

// The kinds of PEM that sigstore's tools keep private keys in: PKCS#8, encrypted with
// NaCl's secretbox by a key that scrypt makes of the passphrase.
const (
	sigstoreKey = "ENCRYPTED SIGSTORE PRIVATE KEY"
	cosignKey   = "ENCRYPTED COSIGN PRIVATE KEY" // until 2022
)

func isSigstore(block *pem.Block) bool { return block.Type == sigstoreKey || block.Type == cosignKey }

func openSigstore(data, passphrase []byte) (any, error) {
	der, err := encrypted.Decrypt(data, passphrase)
	if err != nil {
		return nil, err
	}
	return x509.ParsePKCS8PrivateKey(der)
}

// messageProgram is a program that signs messages.
type messageProgram struct {
	name    string
	public  crypto.PublicKey
	command []string
}

func (p *messageProgram) Name() string             { return p.name }
func (p *messageProgram) Public() crypto.PublicKey { return p.public }

func (p *messageProgram) SignMessage(ctx context.Context, message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, signTime, fmt.Errorf("no signature within %s", signTime))
	defer cancel()
	digest := sha256.Sum256(message)
	signature, err := host.Sign(ctx, p.command, digest[:])
	if err != nil {
		return nil, err
	}
	// A program that signs with another key is told at once, not by whoever verifies.
	if err := VerifyMessage(p.public, message, signature); err != nil {
		return nil, fmt.Errorf("the signature of %d bytes that the signer gave is not one by %s", len(signature), p.name)
	}
	return signature, nil
}

// errSignature says that a signature does not hold.
var errSignature = errors.New("the signature does not hold")

// VerifyMessage checks the signature of a message as MessageSigner makes it.
func VerifyMessage(key crypto.PublicKey, message, signature []byte) error {
	if err := checkKind(key); err != nil {
		return err
	}
	digest := sha256.Sum256(message)
	holds := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		holds = ecdsa.VerifyASN1(k, digest[:], signature)
	case *rsa.PublicKey:
		holds = rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], signature) == nil
	case ed25519.PublicKey:
		holds = ed25519.Verify(k, message, signature)
	}
	if !holds {
		return errSignature
	}
	return nil
}

// LoadPublicKey reads a public key that verifies messages from its file: PKIX in PEM.
func LoadPublicKey(path string) (crypto.PublicKey, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	key, err := ParsePublicKey(data)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return key, nil
}

// ParsePublicKey is LoadPublicKey of a file's content.
func ParsePublicKey(data []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("expected a public key in PEM, found none")
	case strings.Contains(block.Type, "PRIVATE"):
		return nil, errors.New("it is a private key, expected a public one")
	case block.Type == "RSA PUBLIC KEY":
		return parsePublic(data)
	case block.Type != "PUBLIC KEY":
		return nil, fmt.Errorf("it is a %q, expected a public key", block.Type)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("malformed public key: %v", err)
	}
	return key, checkKind(key)
}

// MarshalPublicKey is a public key as in its file.
func MarshalPublicKey(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
