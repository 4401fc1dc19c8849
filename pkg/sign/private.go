package sign

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/youmark/pkcs8"
)

// Passphrase gives the passphrase of a private key's file. It is asked only where the
// file is encrypted; nil knows none.
type Passphrase func(path string) ([]byte, error)

// LockedError says that a private key is encrypted and no passphrase, or a wrong one,
// is known.
type LockedError struct {
	Path  string
	Wrong bool // a passphrase was given
}

func (e *LockedError) Error() string {
	if e.Wrong {
		return fmt.Sprintf("key %s: the passphrase does not open it", e.Path)
	}
	return fmt.Sprintf("key %s: it is encrypted, and no passphrase is given", e.Path)
}

// Load reads a private key from a PEM file in the form of PKCS#1 or PKCS#8. The key
// is called as its file is; the file's name ends in .rsa. One that is encrypted is a
// *LockedError.
func Load(path string) (*Key, error) { return LoadWith(path, nil) }

// LoadWith is Load for a file that may be encrypted: PKCS#8 with PBES2 (PBKDF2 or
// scrypt, AES or triple DES), or the old form of OpenSSL (a DEK-Info in PEM).
func LoadWith(path string, passphrase Passphrase) (*Key, error) {
	name := filepath.Base(path)
	if err := checkName(name, privateSuffix); err != nil {
		return nil, err
	}
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	private, err := parseRSA(data, path, passphrase)
	if _, locked := errors.AsType[*LockedError](err); locked {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return &Key{name, private}, nil
}

func parseRSA(data []byte, path string, passphrase Passphrase) (*rsa.PrivateKey, error) {
	parsed, err := parsePrivate(data, path, passphrase)
	if err != nil {
		return nil, err
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is no RSA key, and packages are signed with RSA only")
	}
	return private, checkBits(private.N.BitLen())
}

// parsePrivate reads a private key of any kind.
func parsePrivate(data []byte, path string, passphrase Passphrase) (any, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("expected a private key in PEM, found none")
	}
	open := func(decrypt func(passphrase []byte) (any, error)) (any, error) {
		if passphrase == nil {
			return nil, &LockedError{Path: path}
		}
		secret, err := passphrase(path)
		if err != nil {
			return nil, err
		}
		if secret == nil && !isSigstore(block) {
			return nil, &LockedError{Path: path}
		}
		parsed, err := decrypt(secret)
		if err != nil {
			// What the library says depends on what the wrong passphrase made of the bytes.
			return nil, &LockedError{Path: path, Wrong: secret != nil}
		}
		return parsed, nil
	}
	var parsed any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] == "" {
			parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
			break
		}
		parsed, err = open(func(secret []byte) (any, error) {
			//lint:ignore SA1019 melange and abuild have written this form; it is read, never written
			der, err := x509.DecryptPEMBlock(block, secret)
			if err != nil {
				return nil, err
			}
			return x509.ParsePKCS1PrivateKey(der)
		})
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		parsed, err = open(func(secret []byte) (any, error) {
			key, _, err := pkcs8.ParsePrivateKey(block.Bytes, secret)
			return key, err
		})
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case sigstoreKey, cosignKey:
		// Without a passphrase cosign encrypts with none, which opens these.
		parsed, err = open(func(secret []byte) (any, error) { return openSigstore(block.Bytes, secret) })
	case "PUBLIC KEY":
		return nil, errors.New("it is a public key, expected a private one")
	default:
		return nil, fmt.Errorf("it is a %q, expected a private key", block.Type)
	}
	if encrypted := strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != ""; err != nil && encrypted {
		return nil, err // of whoever was asked for the passphrase
	}
	if err != nil {
		// The parser's words may quote the key.
		return nil, fmt.Errorf("malformed %s", strings.ToLower(block.Type))
	}
	return parsed, nil
}

// Form says how a private key is written into its file.
type Form struct {
	// PKCS8 writes a PRIVATE KEY rather than an RSA PRIVATE KEY, which is what melange
	// reads.
	PKCS8 bool
	// Passphrase encrypts the file, as PKCS#8 with PBES2: PBKDF2 with 600,000 rounds of
	// HMAC-SHA-256, and AES-256. nil leaves it readable.
	Passphrase []byte
}

// pbkdf2Rounds is what OWASP's Password Storage Cheat Sheet (2023) asks of PBKDF2 with
// HMAC-SHA-256.
const pbkdf2Rounds = 600_000

// marshal is the private key as in its file.
func (k *Key) marshal(f Form) ([]byte, error) {
	if f.Passphrase != nil {
		if len(bytes.TrimSpace(f.Passphrase)) == 0 {
			return nil, fmt.Errorf("key %q: an empty passphrase protects nothing", k.name)
		}
		der, err := pkcs8.MarshalPrivateKey(k.private, f.Passphrase, &pkcs8.Opts{
			Cipher:  pkcs8.AES256CBC,
			KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: pbkdf2Rounds, HMACHash: crypto.SHA256},
		})
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), nil
	}
	if f.PKCS8 {
		der, err := x509.MarshalPKCS8PrivateKey(k.private)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k.private)}), nil
}
