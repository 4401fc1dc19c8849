package apk

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/adb"
)

// TrustError says that bytes are not what a signature or a checksum says of them.
// Everything else that is wrong with a package or an index is another kind of error.
type TrustError struct {
	What string // what was checked, e.g. "data of zlib-1.3.1-r0"
	Why  string
}

func (e *TrustError) Error() string { return e.What + ": " + e.Why }

// Signer makes signatures with a private key.
type Signer interface {
	// KeyName is the file name of the public key, which ends in .rsa.pub.
	KeyName() string
	// Sign gives the RSASSA-PKCS1-v1_5 signature of a SHA-256 digest.
	Sign(digest []byte) ([]byte, error)
}

// Signer3 makes signatures of packages and indexes of version 3 too.
type Signer3 interface {
	Signer
	// PublicKey is the public half, RSA or ECDSA, whose ID the signature names.
	PublicKey() crypto.PublicKey
	// SignSHA512 gives the signature of a SHA-512 digest: RSASSA-PKCS1-v1_5, or that of
	// ECDSA in ASN.1.
	SignSHA512(digest []byte) ([]byte, error)
}

// KeySet is the public keys that are trusted.
type KeySet interface {
	// PublicKey is the key with that file name (x.rsa.pub), or nil.
	PublicKey(name string) *rsa.PublicKey
	// PublicKeyByID is the key, RSA or ECDSA, that a signature of version 3 names, with
	// the name of its file; nil if there is none.
	PublicKeyByID(id adb.KeyID) (name string, key crypto.PublicKey)
	// AcceptsSHA1 says whether signatures over SHA-1 are good enough, as Alpine's
	// indexes have had them.
	AcceptsSHA1() bool
}

// Signature is one signature of a package or an index.
type Signature struct {
	// Algorithm is RSA256 (with SHA-256), RSA (with SHA-1), RSA512 or DSA, as in the name
	// of the signature's file, or ADB for the signatures of version 3.
	Algorithm string
	KeyName   string // the file name of the public key; in version 3, which tells an ID alone, that ID in hexadecimal
	Value     []byte
}

// signaturePrefix begins the names of the files that signatures stand in.
const signaturePrefix = ".SIGN."

func signatureOf(name string, value []byte) (Signature, error) {
	algorithm, key, found := strings.Cut(strings.TrimPrefix(name, signaturePrefix), ".")
	if !found || algorithm == "" || key == "" || strings.Contains(key, "/") {
		return Signature{}, fmt.Errorf("signature %q: expected %sRSA256.NAME.rsa.pub", name, signaturePrefix)
	}
	return Signature{Algorithm: algorithm, KeyName: key, Value: value}, nil
}

// digests are those of what a signature is over.
type digests struct {
	sha1   [20]byte
	sha256 [32]byte
	sha512 [64]byte // where a signature asks for it
}

// asksSHA512 says whether one of the signatures is over SHA-512.
func asksSHA512(all []Signature) bool {
	return slices.ContainsFunc(all, func(s Signature) bool { return s.Algorithm == "RSA512" })
}

// verify finds a signature that holds and gives the name of its key.
func verify(what string, signatures []Signature, d digests, keys KeySet) (string, error) {
	if len(signatures) == 0 {
		return "", &TrustError{what, "it bears no signature"}
	}
	var why []error
	for _, s := range signatures {
		if err := s.verify(d, keys); err != nil {
			why = append(why, err)
			continue
		}
		return s.KeyName, nil
	}
	return "", &TrustError{what, strings.ReplaceAll(errors.Join(why...).Error(), "\n", "; ")}
}

func (s Signature) verify(d digests, keys KeySet) error {
	var key *rsa.PublicKey
	if keys != nil {
		key = keys.PublicKey(s.KeyName)
	}
	if key == nil {
		return fmt.Errorf("signed by %q, which is no trusted key", s.KeyName)
	}
	var err error
	switch s.Algorithm {
	case "RSA256":
		err = rsa.VerifyPKCS1v15(key, crypto.SHA256, d.sha256[:], s.Value)
	case "RSA512":
		err = rsa.VerifyPKCS1v15(key, crypto.SHA512, d.sha512[:], s.Value)
	case "RSA":
		if !keys.AcceptsSHA1() {
			return fmt.Errorf("the signature of %q is over SHA-1, which is not accepted", s.KeyName)
		}
		err = rsa.VerifyPKCS1v15(key, crypto.SHA1, d.sha1[:], s.Value)
	default:
		return fmt.Errorf("the signature of %q has the algorithm %q, which is not known", s.KeyName, s.Algorithm)
	}
	if err != nil {
		return fmt.Errorf("the signature of %q does not hold", s.KeyName)
	}
	return nil
}
