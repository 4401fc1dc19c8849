package signature

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"aead.dev/minisign"
)

type minisignKeys struct{ keys []minisign.PublicKey }

func (k *minisignKeys) read(data []byte) error {
	var key minisign.PublicKey
	if err := key.UnmarshalText(data); err != nil {
		return fmt.Errorf("read minisign key: %s", strings.TrimPrefix(err.Error(), "minisign: "))
	}
	k.keys = append(k.keys, key)
	return nil
}

func (k *minisignKeys) fingerprints() []string {
	var all []string
	for _, key := range k.keys {
		all = append(all, fmt.Sprintf("%016X", key.ID()))
	}
	return all
}

// verifyMinisign checks a signature, and that of its trusted comment.
func (k *Keys) verifyMinisign(signed Content, text []byte) (Signer, error) {
	var s minisign.Signature
	if err := s.UnmarshalText(text); err != nil {
		return Signer{}, k.refuse(nil, "%s", strings.TrimPrefix(err.Error(), "minisign: "))
	}
	by := fmt.Sprintf("%016X", s.KeyID)
	var key *minisign.PublicKey
	for i := range k.mini.keys {
		if k.mini.keys[i].ID() == s.KeyID {
			key = &k.mini.keys[i]
		}
	}
	if key == nil {
		return Signer{}, k.refuse([]string{by}, "no believed key made it")
	}
	r, err := signed()
	if err != nil {
		return Signer{}, err
	}
	defer r.Close()
	var holds bool
	if s.Algorithm == minisign.HashEdDSA {
		m := minisign.NewReader(r)
		if _, err := io.Copy(io.Discard, m); err != nil {
			return Signer{}, err
		}
		holds = m.Verify(*key, text)
	} else {
		data, err := io.ReadAll(io.LimitReader(r, maxLegacy+1))
		if err != nil {
			return Signer{}, err
		}
		if len(data) > maxLegacy {
			return Signer{}, k.refuse([]string{by}, "it is of the form without hashing, and the file has more than %d bytes", maxLegacy)
		}
		holds = minisign.Verify(*key, data, text)
	}
	if !holds {
		return Signer{}, k.refuse([]string{by}, "it is not over these bytes")
	}
	made := Signer{Key: by}
	for field := range strings.FieldsSeq(s.TrustedComment) {
		if seconds, found := strings.CutPrefix(field, "timestamp:"); found {
			if n, err := strconv.ParseInt(seconds, 10, 64); err == nil {
				made.At = time.Unix(n, 0)
			}
		}
	}
	return made, nil
}
