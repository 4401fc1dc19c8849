package adb

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// KeyID names a public key in a signature: the beginning of the SHA-512 of the key.
type KeyID [16]byte

func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// IDOf gives the ID of an RSA or an ECDSA key.
func IDOf(key crypto.PublicKey) (KeyID, error) {
	var encoded []byte
	switch k := key.(type) {
	case *rsa.PublicKey:
		encoded = x509.MarshalPKCS1PublicKey(k)
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return KeyID{}, err
		}
		encoded = point
	default:
		return KeyID{}, fmt.Errorf("a key of type %T makes no signature that apk knows", key)
	}
	sum := sha512.Sum512(encoded)
	return KeyID(sum[:16]), nil
}

// The algorithms of digests, by apk's numbers.
const (
	digestSHA256 = 3
	digestSHA512 = 4
)

// MaxSignature is how long a signature block may be, as for apk-tools.
const MaxSignature = 2048

// Signature is the content of a signature block.
type Signature struct {
	Key   KeyID
	Value []byte

	version byte
	digest  byte // the algorithm that the ADB block was digested with
}

// signatureHeader is a version, a digest's number, and the ID of a key.
const signatureHeader = 2 + len(KeyID{})

// ParseSignature reads the content of a signature block. One of a version that is yet to
// come is read too, as files will have it beside others; it verifies nothing.
func ParseSignature(block []byte) (Signature, error) {
	switch {
	case len(block) > MaxSignature:
		return Signature{}, fmt.Errorf("a signature of more than %d bytes", MaxSignature)
	case len(block) < signatureHeader:
		return Signature{}, errors.New("a signature that is too short")
	}
	return Signature{Key: KeyID(block[2:signatureHeader]), Value: block[signatureHeader:], version: block[0], digest: block[1]}, nil
}

// header is what stands before the signature itself and is signed with it.
func (s Signature) header() []byte { return append([]byte{s.version, s.digest}, s.Key[:]...) }

// Bytes is the content of the signature's block.
func (s Signature) Bytes() []byte { return append(s.header(), s.Value...) }

// message is the SHA-512 of what is signed: the schema, the signature's header and the
// digest of the ADB block.
func (s Signature) message(schema Schema, block []byte) []byte {
	h := sha512.New()
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(schema)))
	h.Write(s.header())
	if s.digest == digestSHA256 {
		sum := sha256.Sum256(block)
		h.Write(sum[:])
	} else {
		sum := sha512.Sum512(block)
		h.Write(sum[:])
	}
	return h.Sum(nil)
}

// Verify says whether the signature is that of the key over the content of an ADB block.
func (s Signature) Verify(schema Schema, block []byte, key crypto.PublicKey) error {
	if s.version != 0 || s.digest != digestSHA256 && s.digest != digestSHA512 {
		return fmt.Errorf("a signature of version %d over a digest of the kind %d, neither of them known", s.version, s.digest)
	}
	digest := s.message(schema, block)
	switch k := key.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA512, digest, s.Value)
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(k, digest, s.Value) {
			return nil
		}
		return errors.New("the signature does not hold")
	}
	return fmt.Errorf("a key of type %T makes no signature that apk knows", key)
}

// Sign signs the content of an ADB block. sign makes the signature (PKCS #1 v1.5
// of RSA, or ASN.1 of ECDSA) of a SHA-512 digest with the private half of public.
func Sign(schema Schema, block []byte, public crypto.PublicKey, sign func(digest []byte) ([]byte, error)) (Signature, error) {
	id, err := IDOf(public)
	if err != nil {
		return Signature{}, err
	}
	s := Signature{Key: id, digest: digestSHA512}
	if s.Value, err = sign(s.message(schema, block)); err != nil {
		return Signature{}, err
	}
	if err := s.Verify(schema, block, public); err != nil {
		return Signature{}, fmt.Errorf("the signature that was made does not hold: %w", err)
	}
	return s, nil
}
