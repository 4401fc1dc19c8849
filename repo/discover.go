package repo

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/redact"
	"github.com/tarn-build/tarn/pkg/web"
)

// keySets is several sets of keys; of two keys of one name the first counts.
type keySets []apk.KeySet

func (all keySets) PublicKey(name string) *rsa.PublicKey {
	for _, set := range all {
		if key := set.PublicKey(name); key != nil {
			return key
		}
	}
	return nil
}

func (all keySets) PublicKeyByID(id adb.KeyID) (name string, key crypto.PublicKey) {
	for _, set := range all {
		if name, key := set.PublicKeyByID(id); key != nil {
			return name, key
		}
	}
	return "", nil
}

func (all keySets) AcceptsSHA1() bool {
	for _, set := range all {
		if set.AcceptsSHA1() {
			return true
		}
	}
	return false
}

// discovered is the keys that a server names, by the names of their files.
type discovered map[string]*rsa.PublicKey

func (d discovered) PublicKey(name string) *rsa.PublicKey { return d[name] }
func (d discovered) AcceptsSHA1() bool                    { return false }

func (d discovered) PublicKeyByID(id adb.KeyID) (name string, key crypto.PublicKey) {
	for name, key := range d {
		if found, err := adb.IDOf(key); err == nil && found == id {
			return name, key
		}
	}
	return "", nil
}

// configurationName is the file in which a server says where its keys are.
const configurationName = "apk-configuration"

// maxKeysBytes is how long the list of a server's keys may be.
const maxKeysBytes = 1 << 20

// discoverKeys adds the keys that the repository's server names: apk-configuration tells
// the address of a JSON Web Key Set (RFC 7517), and a key is called KID.rsa.pub. A server
// that names none is asked for none. The lock is held.
func (r *Repository) discoverKeys(ctx context.Context) error {
	s, is := r.storage.(webStorage)
	if !is || !r.options.DiscoverKeys || r.options.Offline {
		return nil
	}
	r.options.DiscoverKeys = false // once
	o, err := s.Open(ctx, configurationName, "")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("discover keys: %w", err)
	}
	defer o.Close()
	data, err := readAtMost(o, maxKeysBytes)
	if err != nil {
		return fmt.Errorf("discover keys: %w", err)
	}
	var configuration struct {
		Address string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(data, &configuration); err != nil {
		return fmt.Errorf("discover keys: %s: %v", configurationName, err)
	}
	base, err := url.Parse(s.base)
	if err != nil {
		return err
	}
	address, err := base.Parse(configuration.Address)
	if err != nil || configuration.Address == "" {
		return fmt.Errorf("discover keys: %s names no address of keys", configurationName)
	}
	if base.Scheme == "https" && address.Scheme != "https" {
		return fmt.Errorf("discover keys: the keys of %s would come without TLS", redact.Address(base.String()))
	}
	body, err := s.client.Get(ctx, address.String(), web.Conditions{})
	if err != nil {
		return fmt.Errorf("discover keys: %s: %w", redact.Address(address.String()), webError(ctx, err))
	}
	defer body.Close()
	if data, err = readAtMost(body, maxKeysBytes); err != nil {
		return fmt.Errorf("discover keys: %s: %w", redact.Address(address.String()), err)
	}
	keys, err := parseKeySet(data)
	if err != nil {
		return fmt.Errorf("discover keys: %s: %v", redact.Address(address.String()), err)
	}
	sets := keySets{}
	if r.options.Keys != nil {
		sets = append(sets, r.options.Keys)
	}
	r.keys = append(sets, keys)
	return nil
}

// parseKeySet reads the RSA keys of a JSON Web Key Set. Keys of other kinds are not
// looked at: indexes are signed with RSA only.
func parseKeySet(data []byte) (discovered, error) {
	var set struct {
		Keys []struct {
			Kind     string `json:"kty"`
			Name     string `json:"kid"`
			Modulus  string `json:"n"`
			Exponent string `json:"e"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, err
	}
	keys := discovered{}
	for _, k := range set.Keys {
		if k.Kind != "RSA" || k.Name == "" {
			continue
		}
		modulus, err := base64.RawURLEncoding.DecodeString(k.Modulus)
		if err != nil {
			return nil, fmt.Errorf("key %q: malformed modulus", k.Name)
		}
		exponent, err := base64.RawURLEncoding.DecodeString(k.Exponent)
		e := new(big.Int).SetBytes(exponent)
		if err != nil || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 || e.Bit(0) == 0 {
			return nil, fmt.Errorf("key %q: malformed exponent", k.Name)
		}
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(e.Int64())}
		if bits := key.N.BitLen(); bits < 2048 || bits > 16384 {
			return nil, fmt.Errorf("key %q: %d bits are out of range", k.Name, bits)
		}
		keys[k.Name+".rsa.pub"] = key
	}
	return keys, nil
}
