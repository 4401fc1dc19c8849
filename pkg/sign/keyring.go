package sign

import (
	"crypto"
	"crypto/rsa"
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

	keys map[string]*rsa.PublicKey
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
// .rsa.pub. If path is not there the error is fs.ErrNotExist.
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
		if !e.IsDir() && strings.HasSuffix(e.Name(), publicSuffix) {
			if err := r.loadFile(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Keyring) loadFile(path string) error {
	data, err := readFile(path)
	if err != nil {
		return err
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
	return "", nil
}

// AcceptsSHA1 is AllowSHA1.
func (r *Keyring) AcceptsSHA1() bool { return r != nil && r.AllowSHA1 }

// Keys are all keys, sorted by name.
func (r *Keyring) Keys() []Public {
	var all []Public
	for _, name := range slices.Sorted(maps.Keys(r.keys)) {
		all = append(all, Public{name, r.keys[name]})
	}
	return all
}
