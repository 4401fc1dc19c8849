package signature

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

type pgpKeys struct{ entities openpgp.EntityList }

const (
	armourKey       = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	armourPrivate   = "-----BEGIN PGP PRIVATE KEY BLOCK-----"
	armourSignature = "-----BEGIN PGP SIGNATURE-----"
	armourClear     = "-----BEGIN PGP SIGNED MESSAGE-----"
)

func (k *pgpKeys) read(data []byte) error {
	if bytes.Contains(data, []byte(armourPrivate)) {
		return errors.New("it holds a private key")
	}
	var found openpgp.EntityList
	add := func(r io.Reader) error {
		list, err := openpgp.ReadKeyRing(r)
		if err != nil {
			return fmt.Errorf("read OpenPGP keys: %v", err)
		}
		found = append(found, list...)
		return nil
	}
	if bytes.Contains(data, []byte(armourKey)) {
		// A file may hold several blocks.
		for rest := data; ; {
			i := bytes.Index(rest, []byte(armourKey))
			if i < 0 {
				break
			}
			block, err := armor.Decode(bytes.NewReader(rest[i:]))
			if err != nil {
				return fmt.Errorf("read OpenPGP keys: %v", err)
			}
			if err := add(block.Body); err != nil {
				return err
			}
			rest = rest[i+len(armourKey):]
		}
	} else if err := add(bytes.NewReader(data)); err != nil {
		return err
	}
	if len(found) == 0 {
		return errors.New("no OpenPGP key in it")
	}
	for _, e := range found {
		if e.PrivateKey != nil {
			return errors.New("it holds a private key")
		}
		// Subkeys that are weak are refused when they sign.
		if bits, err := e.PrimaryKey.BitLength(); err == nil && isRSA(e.PrimaryKey) && bits < minRSA {
			return fmt.Errorf("key %X is weak: RSA of %d bits", e.PrimaryKey.Fingerprint, bits)
		}
		k.merge(e)
	}
	return nil
}

// merge adds a key, or what a further copy of one says of it: that it was revoked, is good
// for longer, or has another subkey. The library looks at the first copy alone. What a copy
// says counts only when the key itself signed it.
func (k *pgpKeys) merge(e *openpgp.Entity) {
	i := slices.IndexFunc(k.entities, func(o *openpgp.Entity) bool {
		return bytes.Equal(o.PrimaryKey.Fingerprint, e.PrimaryKey.Fingerprint)
	})
	if i < 0 {
		k.entities = append(k.entities, e)
		return
	}
	known := k.entities[i]
	known.Revocations = append(known.Revocations, e.Revocations...)
	known.DirectSignatures = append(known.DirectSignatures, e.DirectSignatures...)
	for name, identity := range e.Identities {
		identity.Primary = known
		if same := known.Identities[name]; same != nil {
			identity.SelfCertifications = append(same.SelfCertifications, identity.SelfCertifications...)
			identity.OtherCertifications = append(same.OtherCertifications, identity.OtherCertifications...)
			identity.Revocations = append(same.Revocations, identity.Revocations...)
		}
		known.Identities[name] = identity
	}
	for _, subkey := range e.Subkeys {
		subkey.Primary = known
		j := slices.IndexFunc(known.Subkeys, func(o openpgp.Subkey) bool {
			return bytes.Equal(o.PublicKey.Fingerprint, subkey.PublicKey.Fingerprint)
		})
		if j < 0 {
			known.Subkeys = append(known.Subkeys, subkey)
			continue
		}
		same := &known.Subkeys[j]
		same.Bindings = append(same.Bindings, subkey.Bindings...)
		same.Revocations = append(same.Revocations, subkey.Revocations...)
	}
}

// minRSA is the least number of bits of an RSA key that is believed.
const minRSA = 2047

func isRSA(k *packet.PublicKey) bool {
	return k.PubKeyAlgo == packet.PubKeyAlgoRSA || k.PubKeyAlgo == packet.PubKeyAlgoRSASignOnly || k.PubKeyAlgo == packet.PubKeyAlgoRSAEncryptOnly
}

func (k *pgpKeys) fingerprints() []string {
	var all []string
	for _, e := range k.entities {
		all = append(all, fmt.Sprintf("%X", e.PrimaryKey.Fingerprint))
	}
	return all
}

func (o Options) config() *packet.Config {
	// At the time zero the library does not ask whether a signature has expired; whether
	// the key was good it asks for the time of the signature.
	c := &packet.Config{Time: func() time.Time { return time.Time{} }}
	if o.SHA1 {
		c.RejectMessageHashAlgorithms = map[crypto.Hash]bool{crypto.MD5: true, crypto.RIPEMD160: true}
	}
	return c
}

// verifyPGP checks detached signatures, of which one has to hold. Those of keys that are
// not believed do not count.
func (k *Keys) verifyPGP(signed Content, signature []byte, o Options) (Signer, error) {
	if bytes.Contains(signature, []byte(armourClear)) {
		return Signer{}, k.refuse(nil, "it is a clear-signed text, and no detached signature")
	}
	packets := signature
	if i := bytes.Index(signature, []byte(armourSignature)); i >= 0 {
		packets = nil
		for rest := signature[i:]; ; {
			block, err := armor.Decode(bytes.NewReader(rest))
			if err != nil {
				return Signer{}, k.refuse(nil, "%v", err)
			}
			body, err := io.ReadAll(block.Body)
			if err != nil {
				return Signer{}, k.refuse(nil, "%v", err)
			}
			packets = append(packets, body...)
			rest = rest[len(armourSignature):]
			if i = bytes.Index(rest, []byte(armourSignature)); i < 0 {
				break
			}
			rest = rest[i:]
		}
	}
	r, err := signed()
	if err != nil {
		return Signer{}, err
	}
	defer r.Close()
	content := &remembered{r: r}
	details, err := openpgp.VerifyDetachedSignatureReader(k.pgp.entities, content, bytes.NewReader(packets), o.config())
	if err != nil {
		return Signer{}, k.refuse(nil, "%v", err)
	}
	_, err = io.Copy(io.Discard, details.UnverifiedBody)
	if content.err != nil {
		return Signer{}, content.err
	}
	if err != nil {
		return Signer{}, k.refuse(nil, "%v", err)
	}
	return k.candidate(details)
}

// remembered tells an error of the content from one of the signature.
type remembered struct {
	r   io.Reader
	err error
}

func (r *remembered) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// candidate gives the first signature that holds.
func (k *Keys) candidate(details *openpgp.MessageDetails) (Signer, error) {
	var by, reasons []string
	for _, c := range details.SignatureCandidates {
		id := fmt.Sprintf("%016X", c.IssuerKeyId)
		if len(c.IssuerFingerprint) > 0 {
			id = fmt.Sprintf("%X", c.IssuerFingerprint)
		}
		by = append(by, id)
		switch {
		case c.SignedByEntity == nil:
			reasons = append(reasons, "no believed key made it")
		case c.SignatureError != nil:
			reasons = append(reasons, strings.TrimPrefix(c.SignatureError.Error(), "openpgp: "))
		case c.SignedBy == nil || c.CorrespondingSig == nil:
			reasons = append(reasons, "it was not checked")
		default:
			s := Signer{Key: fmt.Sprintf("%X", c.SignedByEntity.PrimaryKey.Fingerprint), At: c.CorrespondingSig.CreationTime}
			if _, identity := c.SignedByEntity.PrimaryIdentity(s.At, nil); identity != nil {
				s.Name = identity.Name
			}
			return s, nil
		}
	}
	if len(reasons) == 0 {
		reasons = []string{"there is no signature in it"}
	}
	return Signer{}, k.refuse(by, "%s", strings.Join(reasons, "; "))
}

// IsClearSigned reports whether data begins as a clear-signed text.
func IsClearSigned(data []byte) bool { return bytes.HasPrefix(data, []byte(armourClear)) }

// OpenClearSigned checks a clear-signed text and gives exactly the bytes that were signed.
// Anything before or after them is refused, since whoever looks at the file could take it
// for signed.
func (k *Keys) OpenClearSigned(data []byte, o Options) ([]byte, Signer, error) {
	switch {
	case k.scheme != PGP:
		return nil, Signer{}, k.refuse(nil, "it is a clear-signed text of OpenPGP, and not one of %s", k.scheme)
	case len(data) > MaxSize:
		return nil, Signer{}, k.refuse(nil, "it has more than %d bytes", MaxSize)
	case !IsClearSigned(data):
		return nil, Signer{}, k.refuse(nil, "it is no clear-signed text")
	}
	block, rest := clearsign.Decode(data)
	if block == nil {
		return nil, Signer{}, k.refuse(nil, "it is no whole clear-signed text")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, Signer{}, k.refuse(nil, "there is more after the signed text")
	}
	details, err := openpgp.VerifyDetachedSignatureReader(k.pgp.entities, bytes.NewReader(block.Bytes), block.ArmoredSignature.Body, o.config())
	if err != nil {
		return nil, Signer{}, k.refuse(nil, "%v", err)
	}
	if _, err := io.Copy(io.Discard, details.UnverifiedBody); err != nil {
		return nil, Signer{}, k.refuse(nil, "%v", err)
	}
	s, err := k.candidate(details)
	if err == nil && s.At.After(o.Now.Add(ahead)) {
		err = k.refuse([]string{s.Key}, "it is dated %s, which is yet to come", s.At.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return nil, Signer{}, err
	}
	return block.Plaintext, s, nil
}
