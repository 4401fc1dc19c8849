package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
)

var (
	_ apk.Signer3 = (*Key)(nil)
	_ apk.KeySet  = (*Keyring)(nil)
)

// Keyring is the public keys that are trusted, by name. Its zero value trusts none.
type Keyring struct {
	// AllowSHA1 accepts signatures over SHA-1, which Alpine's indexes have borne.
	AllowSHA1 bool

	keys  map[string]*rsa.PublicKey
	ecdsa map[string]*ecdsa.PublicKey // for version 3 of the package format alone
}

// AddECDSA trusts a key that signs packages and indexes of version 3; name is that of its
// file, which ends in .pub.
func (r *Keyring) AddECDSA(name string, key *ecdsa.PublicKey) error {
	if err := checkName(name, ecdsaSuffix); err != nil {
		return err
	}
	if before := r.ecdsa[name]; before != nil && !before.Equal(key) || r.keys[name] != nil {
		return fmt.Errorf("key %s: there is another key of that name", name)
	}
	if r.ecdsa == nil {
		r.ecdsa = map[string]*ecdsa.PublicKey{}
	}
	r.ecdsa[name] = key
	return nil
}

// ecdsaSuffix ends the names of files of public keys that are not RSA.
const ecdsaSuffix = ".pub"

// parseECDSA reads a public key of ECDSA in PEM; what is none is nil.
func parseECDSA(data []byte) *ecdsa.PublicKey {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil
	}
	found, _ := key.(*ecdsa.PublicKey)
	return found
}

// Add trusts a key. Two different keys of one name are refused.
func (r *Keyring) Add(p Public) error {
	if err := checkName(p.Name, publicSuffix); err != nil {
		return err
	}
	if before := r.keys[p.Name]; before != nil && !before.Equal(p.Key) {
		return fmt.Errorf("key %s: there is another key of that name", p.Name)
	}
	if r.keys == nil {
		r.keys = map[string]*rsa.PublicKey{}
	}
	r.keys[p.Name] = p.Key
	return nil
}

// Load trusts the key in a file, or the keys in the files of a folder that end in
// .rsa.pub, and those of ECDSA that end in .pub. If path is not there the error is
// fs.ErrNotExist.
func (r *Keyring) Load(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return r.loadFile(path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		switch {
		case e.IsDir() || !strings.HasSuffix(e.Name(), ecdsaSuffix):
			continue
		case strings.HasSuffix(e.Name(), publicSuffix):
			err = r.loadFile(name)
		default:
			// Public keys of other tools have such names too.
			if data, failed := readFile(name); failed == nil && parseECDSA(data) != nil {
				err = r.AddECDSA(e.Name(), parseECDSA(data))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Keyring) loadFile(path string) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	if key := parseECDSA(data); key != nil {
		return r.AddECDSA(filepath.Base(path), key)
	}
	p, err := ParsePublic(filepath.Base(path), data)
	if err != nil {
		return err
	}
	return r.Add(p)
}

// PublicKey is the key of that name, or nil.
func (r *Keyring) PublicKey(name string) *rsa.PublicKey {
	if r == nil {
		return nil
	}
	return r.keys[name]
}

// PublicKeyByID is the key that a signature of version 3 names by its ID, or nil.
func (r *Keyring) PublicKeyByID(id adb.KeyID) (name string, key crypto.PublicKey) {
	if r == nil {
		return "", nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.keys)) {
		if found, err := adb.IDOf(r.keys[name]); err == nil && found == id {
			return name, r.keys[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.ecdsa)) {
		if found, err := adb.IDOf(r.ecdsa[name]); err == nil && found == id {
			return name, r.ecdsa[name]
		}
	}
	return "", nil
}

// AcceptsSHA1 is AllowSHA1.
func (r *Keyring) AcceptsSHA1() bool { return r != nil && r.AllowSHA1 }

// Keys are all RSA keys, sorted by name.
func (r *Keyring) Keys() []Public {
	var all []Public
	for _, name := range slices.Sorted(maps.Keys(r.keys)) {
		all = append(all, Public{name, r.keys[name]})
	}
	return all
}
