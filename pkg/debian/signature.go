package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// maxKeyring is the size, in bytes, that a keyring may have.
const maxKeyring = 16 << 20

// Keyring is OpenPGP keys whose signatures are believed. It may be used from several
// goroutines.
type Keyring struct {
	mu       sync.Mutex // keys note what was verified of them
	entities openpgp.EntityList
}

// ReadKeyring reads public keys, binary or in ASCII armour, as they stand in the
// files of Signed-By. Keys of kinds that are not known are left out.
func ReadKeyring(r io.Reader) (*Keyring, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeyring+1))
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	if len(data) > maxKeyring {
		return nil, fmt.Errorf("read keyring: more than %d bytes", maxKeyring)
	}
	k := new(Keyring)
	marker := []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")
	if !bytes.Contains(data, marker) {
		return k, k.add(bytes.NewReader(data))
	}
	// A file may hold several blocks.
	for rest := data; ; {
		i := bytes.Index(rest, marker)
		if i < 0 {
			return k, nil
		}
		block, err := armor.Decode(bytes.NewReader(rest[i:]))
		if err != nil {
			return nil, fmt.Errorf("read keyring: %v", err)
		}
		if err := k.add(block.Body); err != nil {
			return nil, err
		}
		rest = rest[i+len(marker):]
	}
}

func (k *Keyring) add(r io.Reader) error {
	list, err := openpgp.ReadKeyRing(r)
	if err != nil {
		return fmt.Errorf("read keyring: %v", err)
	}
	k.entities = append(k.entities, list...)
	return nil
}

// Add moves the keys of another keyring, which is not used any more, to k.
func (k *Keyring) Add(other *Keyring) { k.entities = append(k.entities, other.entities...) }

// Len is the number of keys.
func (k *Keyring) Len() int { return len(k.entities) }

// SignatureError says that no signature of a text can be believed.
type SignatureError struct{ Reason string }

func (e *SignatureError) Error() string { return "signature does not hold: " + e.Reason }

// VerifyClearSigned checks a clear-signed text, such as InRelease, and gives
// exactly the bytes that were signed. At least one signature of a key of the
// keyring must hold at that time; those of keys that the keyring lacks do not
// count. Anything before or after the signed message is refused, since whoever
// looks at the file could take it for signed. Failures are a *SignatureError.
func (k *Keyring) VerifyClearSigned(data []byte, at time.Time) (text []byte, signer string, err error) {
	refuse := func(format string, args ...any) ([]byte, string, error) {
		return nil, "", &SignatureError{Reason: fmt.Sprintf(format, args...)}
	}
	if !bytes.HasPrefix(data, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return refuse("it is not a clear-signed text")
	}
	block, rest := clearsign.Decode(data)
	if block == nil {
		return refuse("it is not a whole clear-signed text")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return refuse("there is more after the signed text")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	config := &packet.Config{Time: func() time.Time { return at }}
	details, err := openpgp.VerifyDetachedSignatureReader(k.entities, bytes.NewReader(block.Bytes), block.ArmoredSignature.Body, config)
	if err != nil {
		return refuse("%v", err)
	}
	if _, err := io.Copy(io.Discard, details.UnverifiedBody); err != nil {
		return refuse("%v", err)
	}
	var reasons []string
	for _, c := range details.SignatureCandidates {
		if err := believe(c, config); err != nil {
			reasons = append(reasons, fmt.Sprintf("key %016X: %v", c.IssuerKeyId, err))
			continue
		}
		return block.Plaintext, fmt.Sprintf("%X", c.SignedBy.Entity.PrimaryKey.Fingerprint), nil
	}
	return refuse("%s", strings.Join(reasons, "; "))
}

// believe says why a signature is not believed. The library asks whether the key
// was good when it signed; like apt, we ask whether it still is: whoever steals an
// expired key can date a signature back.
func believe(c *openpgp.SignatureCandidate, config *packet.Config) error {
	if c.SignatureError != nil {
		return c.SignatureError
	}
	if c.SignedBy == nil {
		return errors.New("not in the keyring")
	}
	now := config.Now()
	if _, err := c.SignedBy.Entity.VerifyPrimaryKey(now, config); err != nil {
		return err
	}
	if s := c.SignedBy.SelfSignature; s != nil && c.SignedBy.PublicKey.KeyExpired(s, now) {
		return errors.New("key expired")
	}
	return nil
}

// OpenInRelease checks and reads an InRelease file.
func (k *Keyring) OpenInRelease(data []byte, at time.Time) (*Release, error) {
	text, _, err := k.VerifyClearSigned(data, at)
	if err != nil {
		return nil, fmt.Errorf("check InRelease: %w", err)
	}
	return ParseRelease(text)
}
